//! Which fields differ between two objects of one kind.
//!
//! Lists are compared as server-side apply sees them: by merge key, by value, or as one field. For kinds without a known
//! schema (custom resources) a list whose items all have distinct names is compared by name, which is how people read it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::model::ChangedField;
use super::path::{FieldPath, Step, scalar_text};
use crate::kustomize::smp_schema::{Schema, Schemas};

/// What tells items apart in lists without a known schema, the first that does: a name; a name of a kind (subjects,
/// references); an Ingress rule's host.
const BY_CUSTOM: [&[&str]; 4] = [&["name"], &["kind", "name"], &["kind", "name", "namespace"], &["host"]];

/// Every field that differs, sorted by path as the objects' maps are. Applying them in order to `old` gives `new`.
#[must_use]
pub(super) fn differences(old: &Value, new: &Value) -> Vec<ChangedField> {
    let schemas = Schemas::default();
    let text = |key: &str| new.get(key).and_then(Value::as_str).unwrap_or_default();
    let schema = schemas.of_object(text("apiVersion"), text("kind"));
    let mut out = Vec::new();
    compare(&FieldPath::default(), old, new, schema, &mut out);
    out
}

fn compare(path: &FieldPath, old: &Value, new: &Value, schema: Option<Schema<'_>>, out: &mut Vec<ChangedField>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => maps(path, old, new, schema, out),
        (Value::Array(old_items), Value::Array(new_items)) => match identity(old_items, new_items, schema) {
            Some(by) => lists(path, old_items, new_items, &by, schema.and_then(Schema::item), out),
            None => out.push(changed(path.clone(), Some(old), Some(new))),
        },
        _ => out.push(changed(path.clone(), Some(old), Some(new))),
    }
}

fn changed(path: FieldPath, old: Option<&Value>, new: Option<&Value>) -> ChangedField {
    ChangedField {
        path,
        old: old.cloned(),
        new: new.cloned(),
        reordered: false,
        redacted: false,
        ignored: false,
        follows: None,
    }
}

fn maps(
    path: &FieldPath,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    schema: Option<Schema<'_>>,
    out: &mut Vec<ChangedField>,
) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let here = || path.then(Step::Field(name.clone()));
        match (old.get(name), new.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => compare(&here(), a, b, schema.and_then(|s| s.field(name)), out),
            (a, b) => out.push(changed(here(), a, b)),
        }
    }
}

/// What tells the items of a list apart.
enum By<'a> {
    Keys(Vec<&'a str>),
    Value,
}

fn identity<'a>(old: &[Value], new: &[Value], schema: Option<Schema<'a>>) -> Option<By<'a>> {
    let fits = |by: &By<'_>| {
        [old, new].iter().all(|items| {
            let mut seen = BTreeSet::new();
            items.iter().all(|item| step(item, by).is_some_and(|step| seen.insert(step)))
        })
    };
    if let Some(keys) = schema.and_then(Schema::merge_keys) {
        let by = if keys.is_empty() { By::Value } else { By::Keys(keys) };
        return Some(by).filter(fits);
    }
    BY_CUSTOM.iter().map(|keys| By::Keys(keys.to_vec())).find(fits)
}

/// The name of an item; `None` when it has none.
fn step(item: &Value, by: &By<'_>) -> Option<Step> {
    let scalar = |v: &Value| (!v.is_object() && !v.is_array() && !v.is_null()).then(|| scalar_text(v));
    match by {
        By::Value => scalar(item).map(Step::Value),
        By::Keys(keys) => {
            let map = item.as_object()?;
            let mut out = Vec::with_capacity(keys.len());
            for key in keys {
                // The one key with a default: the API server fills it in before it compares.
                let default = || (*key == "protocol").then(|| "\"TCP\"".to_owned());
                let value = match map.get(*key) {
                    Some(value) => scalar(value)?,
                    None => default()?,
                };
                out.push(((*key).to_owned(), value));
            }
            Some(Step::Item(out))
        }
    }
}

fn lists(
    path: &FieldPath,
    old: &[Value],
    new: &[Value],
    by: &By<'_>,
    schema: Option<Schema<'_>>,
    out: &mut Vec<ChangedField>,
) {
    let named = |items: &[Value]| -> Vec<Step> { items.iter().filter_map(|item| step(item, by)).collect() };
    let (old_names, new_names) = (named(old), named(new));
    let after: BTreeMap<&Step, &Value> = new_names.iter().zip(new).collect();
    let before: BTreeSet<&Step> = old_names.iter().collect();
    for (name, item) in old_names.iter().zip(old) {
        match after.get(name) {
            Some(same) => compare(&path.then(name.clone()), item, same, schema, out),
            None => out.push(changed(path.then(name.clone()), Some(item), None)),
        }
    }
    for (name, item) in new_names.iter().zip(new) {
        if !before.contains(name) {
            out.push(changed(path.then(name.clone()), None, Some(item)));
        }
    }
    // Where nothing else is said, what stays keeps its order and what is new comes last.
    let stays = old_names.iter().filter(|name| after.contains_key(name));
    let comes = new_names.iter().filter(|name| !before.contains(name));
    let expected: Vec<&Step> = stays.chain(comes).collect();
    if !expected.iter().copied().eq(new_names.iter()) {
        let texts = |names: &[Step]| {
            Value::Array(names.iter().map(|n| FieldPath(vec![n.clone()]).to_string().into()).collect())
        };
        let (old, new) = (texts(&old_names), texts(&new_names));
        out.push(ChangedField { reordered: true, ..changed(path.clone(), Some(&old), Some(&new)) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::apply;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(old: &Value, new: &Value) -> Vec<String> {
        let side = |v: &Option<Value>| v.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
        let word = |c: &ChangedField| if c.reordered { " order" } else { "" };
        differences(old, new)
            .iter()
            .map(|c| format!("{}{}: {} > {}", c.path, word(c), side(&c.old), side(&c.new)))
            .collect()
    }

    fn deployment(pod: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": pod}}})
    }

    #[test]
    fn lists_are_compared_as_server_side_apply_sees_them() {
        let pod = "spec.template.spec";
        for (old, new, expected) in [
            (
                json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}),
                json!({"containers": [{"name": "new", "image": "n:1"}, {"name": "b", "image": "b:2"}]}),
                vec![
                    format!("{pod}.containers[name=a]: {{\"image\":\"a:1\",\"name\":\"a\"}} > -"),
                    format!("{pod}.containers[name=b].image: \"b:1\" > \"b:2\""),
                    format!("{pod}.containers[name=new]: - > {{\"image\":\"n:1\",\"name\":\"new\"}}"),
                    format!("{pod}.containers order: [\"[name=a]\",\"[name=b]\"] > [\"[name=new]\",\"[name=b]\"]"),
                ],
            ),
            (
                json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}], "args": ["x", "y"]}]}),
                json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}, {"containerPort": 80, "protocol": "UDP"}], "args": ["y"]}]}),
                vec![
                    format!("{pod}.containers[name=a].args: [\"x\",\"y\"] > [\"y\"]"),
                    format!("{pod}.containers[name=a].ports[containerPort=80,protocol=TCP].name: - > \"web\""),
                    format!("{pod}.containers[name=a].ports[containerPort=80,protocol=TCP].protocol: - > \"TCP\""),
                    format!(
                        "{pod}.containers[name=a].ports[containerPort=80,protocol=UDP]: - > {{\"containerPort\":80,\"protocol\":\"UDP\"}}"
                    ),
                ],
            ),
            (
                json!({"initContainers": [{"name": "a"}, {"name": "b"}]}),
                json!({"initContainers": [{"name": "b"}, {"name": "a"}]}),
                vec![format!("{pod}.initContainers order: [\"[name=a]\",\"[name=b]\"] > [\"[name=b]\",\"[name=a]\"]")],
            ),
            (
                // Twice the same key: no list by key any more.
                json!({"volumes": [{"name": "a"}]}),
                json!({"volumes": [{"name": "a"}, {"name": "a"}]}),
                vec![format!("{pod}.volumes: [{{\"name\":\"a\"}}] > [{{\"name\":\"a\"}},{{\"name\":\"a\"}}]")],
            ),
            (
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                vec![format!("{pod}.tolerations: [{{\"key\":\"a\"}}] > [{{\"key\":\"b\"}}]")],
            ),
        ] {
            assert_eq!(shown(&deployment(&old), &deployment(&new)), expected);
        }
    }

    #[test]
    fn values_maps_and_sets_differ_by_field() {
        let object = |rest: Value| {
            let mut all = json!({"apiVersion": "example.org/v1", "kind": "Thing"});
            all.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            all
        };
        for (old, new, expected) in [
            (json!({"a": 1}), json!({"a": 1}), vec![]),
            (json!({"a": 1}), json!({"a": "1"}), vec!["a: 1 > \"1\""]),
            (json!({"a": null}), json!({}), vec!["a: null > -"]),
            (json!({"a": {}}), json!({"a": {"x.y": 1}}), vec!["a[\"x.y\"]: - > 1"]),
            (json!({"a": {"b": 1}}), json!({"a": [1]}), vec!["a: {\"b\":1} > [1]"]),
            (json!({"a": [1, 2]}), json!({"a": [2]}), vec!["a: [1,2] > [2]"]),
            (json!({"a": []}), json!({"a": [{"name": "x"}]}), vec!["a[name=x]: - > {\"name\":\"x\"}"]),
            (json!({"a": [{"name": "x", "v": 1}]}), json!({"a": [{"name": "x", "v": 2}]}), vec!["a[name=x].v: 1 > 2"]),
            (
                json!({"s": [{"kind": "User", "name": "x", "v": 1}, {"kind": "Group", "name": "x"}]}),
                json!({"s": [{"kind": "User", "name": "x", "v": 2}, {"kind": "Group", "name": "x"}]}),
                vec!["s[kind=User,name=x].v: 1 > 2"],
            ),
            (
                json!({"metadata": {"finalizers": ["a/x", "b"]}}),
                json!({"metadata": {"finalizers": ["b", "c"]}}),
                vec!["metadata.finalizers: [\"a/x\",\"b\"] > [\"b\",\"c\"]"],
            ),
        ] {
            assert_eq!(shown(&object(old), &object(new)), expected);
        }
        let config = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"finalizers": finalizers}});
        assert_eq!(
            shown(&config(json!(["a/x", "b"])), &config(json!(["b", "c"]))),
            ["metadata.finalizers[=\"a/x\"]: \"a/x\" > -", "metadata.finalizers[=\"c\"]: - > \"c\""]
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3_i32).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            "[ab]",
            Just("name".to_owned()),
            Just("x/y.z".to_owned()),
            Just("containers".to_owned()),
            Just("ports".to_owned())
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let entry = (name.clone(), inner.clone());
            let map = proptest::collection::btree_map(entry.0, entry.1, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect()));
            let named = ("[abc]", inner.clone()).prop_map(|(name, v)| json!({"name": name, "v": v}));
            let port = (80..82_i32, prop_oneof![Just(json!("TCP")), Just(json!("UDP")), Just(Value::Null)]).prop_map(
                |(port, protocol)| match protocol {
                    Value::Null => json!({"containerPort": port}),
                    protocol => json!({"containerPort": port, "protocol": protocol}),
                },
            );
            prop_oneof![
                map,
                proptest::collection::vec(named, 0..4).prop_map(Value::Array),
                proptest::collection::vec(port, 0..3).prop_map(Value::Array),
                proptest::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        let pod = (value(), value(), value(), value()).prop_map(|(containers, ports, volumes, rest)| {
            json!({"containers": containers, "initContainers": [{"name": "i", "ports": ports}], "volumes": volumes, "rest": rest})
        });
        (pod, proptest::collection::vec("[ab]{1,2}", 0..4)).prop_map(|(pod, finalizers)| {
            let mut object = deployment(&pod);
            object["metadata"] = json!({"name": "x", "finalizers": finalizers});
            object
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_old_object_and_its_changes_give_the_new_one(old in object(), new in object()) {
            let mut at = old.clone();
            let changes = differences(&old, &new);
            for change in &changes {
                apply(&mut at, change);
            }
            prop_assert_eq!(at, new, "{:?}", changes);
        }
    }
}
