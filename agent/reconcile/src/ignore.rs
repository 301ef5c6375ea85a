//! Fields left to others (`spec.ignore`, `driftless.dev/ignore`), as Flux treats them: what another manager owns is left out
//! of our apply; what nobody else owns is sent as it is live, so that the apply does not change it. A new object gets what
//! is declared.

use serde_json::Value;

use crate::ownership::{self, FieldSet};
use crate::walk::Path;

/// What becomes of an ignored field in the bytes to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Left out: another manager owns it, or it is not there.
    Drop,
    /// Sent as it is live.
    Adopt(Value),
}

/// The parts of a JSON pointer.
#[must_use]
pub fn parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// What becomes of these fields of a live object.
#[must_use]
pub fn fates(live: &Value, pointers: &[String]) -> Vec<(String, Fate)> {
    let others: Vec<FieldSet<'_>> = ownership::entries(live)
        .filter(|entry| !entry.is_ours() && entry.of_spec())
        .map(|entry| FieldSet::parse(entry.fields))
        .collect();
    pointers
        .iter()
        .map(|pointer| {
            let parts = parts(pointer);
            let fate = match live.pointer(pointer) {
                Some(value) if !others.iter().any(|set| claims(set, live, &parts)) => Fate::Adopt(value.clone()),
                _ => Fate::Drop,
            };
            (pointer.clone(), fate)
        })
        .collect()
}

/// Whether a set owns a field, something in it, or an atomic value around it.
fn claims(set: &FieldSet<'_>, live: &Value, parts: &[String]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return true };
    let Some(raw) = raw_in(set, live, first) else { return false };
    let Some(node) = set.get(&raw) else { return false };
    if rest.is_empty() || (node.member && node.below.is_empty()) {
        return true;
    }
    ownership::child(live, &raw).is_some_and(|live| claims(&node.below, live, rest))
}

/// The raw key under which a set knows the child that one part of a pointer names.
fn raw_in(set: &FieldSet<'_>, live: &Value, part: &str) -> Option<String> {
    match live {
        Value::Array(items) => {
            let item = items.get(part.parse::<usize>().ok()?)?;
            set.iter().map(|(raw, _)| raw).find(|raw| ownership::identifies(raw, item)).map(str::to_owned)
        }
        _ => Some(format!("f:{part}")),
    }
}

/// Whether a path of a live object is an ignored field, or lies in one.
#[must_use]
pub fn covers(pointers: &[String], path: &Path, live: &Value) -> bool {
    let raw = path.raw();
    pointers.iter().any(|pointer| {
        let mut at = Some(live);
        let parts = parts(pointer);
        parts.len() <= raw.len()
            && parts.iter().zip(&raw).all(|(part, raw)| {
                let here = at.take();
                at = here.and_then(|here| ownership::child(here, raw));
                match here {
                    Some(Value::Array(items)) => {
                        let item = part.parse::<usize>().ok().and_then(|index| items.get(index));
                        item.is_some_and(|item| ownership::identifies(raw, item))
                    }
                    _ => raw.strip_prefix("f:") == Some(part),
                }
            })
    })
}

/// A path of a live object as a JSON pointer; `None` when a list item on the way is not there.
#[must_use]
pub fn pointer(path: &Path, live: &Value) -> Option<String> {
    let mut out = String::new();
    let mut at = Some(live);
    for raw in path.raw() {
        let here = at.take();
        let part = match (raw.strip_prefix("f:"), here) {
            (Some(name), _) => name.replace('~', "~0").replace('/', "~1"),
            (None, Some(Value::Array(items))) => {
                items.iter().position(|item| ownership::identifies(raw, item))?.to_string()
            }
            _ => return None,
        };
        at = here.and_then(|here| ownership::child(here, raw));
        out.push('/');
        out.push_str(&part);
    }
    Some(out)
}

/// Takes what a set owns of these fields out of it. `None` when it owns nothing of them.
#[must_use]
pub fn split_off<'a>(set: &mut FieldSet<'a>, live: &Value, pointers: &[String]) -> Option<FieldSet<'a>> {
    let mut out = FieldSet::default();
    for pointer in pointers {
        if let Some(part) = split_one(set, live, &parts(pointer)) {
            out.union(&part);
        }
    }
    (!out.is_empty()).then_some(out)
}

fn split_one<'a>(set: &mut FieldSet<'a>, live: &Value, parts: &[String]) -> Option<FieldSet<'a>> {
    let (first, rest) = parts.split_first()?;
    let raw = raw_in(set, live, first)?;
    if rest.is_empty() {
        return set.take(&raw);
    }
    let below = ownership::child(live, &raw)?;
    set.take_below(&raw, |inner| split_one(inner, below, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({
            "metadata": {"annotations": {"a/b": "1", "c": "2"}, "managedFields": [
                {"manager": "driftless-agent", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:annotations": {"f:a/b": {}, "f:c": {}}},
                    "f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}}}},
                }},
                {"manager": "other", "operation": "Update", "fieldsV1": {
                    "f:metadata": {"f:annotations": {"f:c": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}, "f:atomic": {}},
                }},
            ]},
            "spec": {"replicas": 3, "atomic": {"x": 1}, "containers": [{"name": "side", "image": "s"}, {"name": "web", "image": "w"}]},
        })
    }

    #[test]
    fn what_others_own_is_left_out_and_the_rest_is_adopted() {
        let pointers = [
            "/metadata/annotations/a~1b",
            "/metadata/annotations/c",
            "/spec/replicas",
            "/spec/containers/1/image",
            "/spec/containers/0/image",
            "/spec/atomic/x",
            "/spec/nothing",
            "/spec/containers/9/image",
            "/spec/containers",
        ];
        let pointers: Vec<String> = pointers.iter().map(|p| (*p).to_owned()).collect();
        let fates: Vec<Fate> = fates(&live(), &pointers).into_iter().map(|(_, fate)| fate).collect();
        let adopt = |value: Value| Fate::Adopt(value);
        assert_eq!(
            fates,
            [
                adopt(json!("1")),
                Fate::Drop,
                adopt(json!(3)),
                Fate::Drop,
                adopt(json!("s")),
                Fate::Drop,
                Fate::Drop,
                Fate::Drop,
                Fate::Drop
            ]
        );
    }

    #[test]
    fn a_path_is_covered_by_a_pointer_at_or_above_it() {
        let live = live();
        let mut path = Path::default();
        let check = |pointer: &str, path: &Path| covers(&[pointer.to_owned()], path, &live);
        path.at("f:spec", |path| {
            assert!(check("/spec", path) && !check("/spec/replicas", path));
            path.at("f:containers", |path| {
                path.at("k:{\"name\":\"web\"}", |path| {
                    assert_eq!(pointer(path, &live).as_deref(), Some("/spec/containers/1"));
                    assert!(check("/spec/containers/1", path) && !check("/spec/containers/0", path));
                    path.at("f:image", |path| {
                        assert!(check("/spec/containers/1/image", path) && check("/spec/containers", path));
                        assert!(!check("/spec/containers/1/name", path));
                    });
                });
            });
        });
    }

    #[test]
    fn a_set_is_split_at_the_ignored_fields() {
        let live = live();
        let entry = live["metadata"]["managedFields"][1]["fieldsV1"].clone();
        let mut set = FieldSet::parse(&entry);
        let pointers: Vec<String> =
            ["/spec/containers/1/image", "/metadata/annotations/zzz"].map(str::to_owned).to_vec();
        let off = split_off(&mut set, &live, &pointers).expect("something");
        assert_eq!(off.to_json(), json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}));
        assert_eq!(set.to_json(), json!({"f:metadata": {"f:annotations": {"f:c": {}}}, "f:spec": {"f:atomic": {}}}));
        assert!(split_off(&mut set, &live, &pointers).is_none());
    }
}
