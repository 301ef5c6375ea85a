//! Patches of every kind, for objects of the tree they are for and for others.

use crate::fields::{scalar, selector};
use crate::grammar::Maker;
use crate::value::{Value, map, quoted, raw, text};
use crate::words::IMAGES;

/// A strategic merge patch for a known object.
pub(crate) fn merge_patch(m: &mut Maker<'_>) -> String {
    let Some(known) = m.one() else {
        return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  z: y\n".to_owned();
    };
    let mut value = known.value.clone();
    for _ in 0..m.rng.between(1, 4) {
        value.mutate(m.rng);
    }
    if !matches!(value, Value::Map(_)) {
        value = known.value.clone();
    }
    if let Value::Map(entries) = &mut value {
        entries.retain(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind"));
        entries.insert(0, ("apiVersion".into(), text(&known.api)));
        entries.insert(1, ("kind".into(), text(&known.kind)));
        let name = if m.rng.chance(90) { known.name.clone() } else { "other".to_owned() };
        let mut meta = vec![("name".to_owned(), text(&name))];
        if !known.namespace.is_empty() {
            meta.push(("namespace".into(), text(&known.namespace)));
        }
        match value.get_mut("metadata") {
            Some(Value::Map(there)) => {
                there.retain(|(k, _)| k != "name" && k != "namespace");
                there.splice(0..0, meta);
            }
            Some(other) => *other = Value::Map(meta),
            None => {
                if let Value::Map(entries) = &mut value {
                    entries.push(("metadata".into(), Value::Map(meta)));
                }
            }
        }
    }
    for _ in 0..m.rng.below(3) {
        directive(m, &mut value);
    }
    let mut text = value.write(m.rng);
    if m.rng.chance(8) {
        text.push_str("---\n");
        text.push_str(&merge_patch(m));
    }
    text
}

/// Puts a patch directive somewhere.
fn directive(m: &mut Maker<'_>, value: &mut Value) {
    let place = value.somewhere(m.rng);
    match place {
        Value::Map(entries) => match m.rng.below(6) {
            0..=2 => entries.push(("$patch".into(), raw(m.rng.pick(&["delete", "replace", "merge", "odd"])))),
            3 => entries.push(("$retainKeys".into(), Value::Seq(vec![raw("name")]))),
            4 => entries.push(("$deleteFromPrimitiveList/finalizers".into(), Value::Seq(vec![raw("a")]))),
            _ => entries.push(("$setElementOrder/containers".into(), Value::Seq(vec![map([("name", raw("app"))])]))),
        },
        Value::Seq(items) => {
            let kind = m.rng.pick(&["delete", "replace", "merge"]);
            items.push(map([("$patch", raw(kind))]));
        }
        Value::Raw(text) => *text = "null".to_owned(),
    }
}

/// Pointers into the objects that random trees hold.
const POINTERS: &[&str] = &[
    "/metadata/name",
    "/metadata/namespace",
    "/metadata/labels",
    "/metadata/labels/app",
    "/metadata/annotations",
    "/metadata/annotations/a.b~1c",
    "/metadata/annotations/new",
    "/spec/replicas",
    "/spec/template/spec/containers/0/image",
    "/spec/template/spec/containers/-",
    "/spec/template/spec/containers/0",
    "/spec/template/spec/containers/1",
    "/spec/template/spec/containers/-1",
    "/spec/template/spec/containers/0/env/-",
    "/spec/template/spec/containers/0/args/0",
    "/spec/template/spec/new",
    "/spec/rules/0/host",
    "/spec",
    "/data/a",
    "/data/new",
    "/data",
    "/kind",
    "/apiVersion",
    "/spec/list/0",
    "/spec/list/-",
    "/spec/nested/deep",
    "",
    "/",
    "data",
    "/rules/0/verbs/-",
    "/subjects/0/name",
];

/// A pointer to something a known object has, or seldom to anything.
fn pointer(m: &mut Maker<'_>) -> String {
    match m.one() {
        Some(known) if m.rng.chance(75) => {
            let mut way = known.value.way(m.rng);
            if m.rng.chance(20) {
                let last = m.rng.pick(&["-", "new", "0", "a~b"]);
                way.push(last.to_owned());
            }
            way.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
        }
        _ => m.rng.pick(POINTERS).to_owned(),
    }
}

pub(crate) fn json_patch(m: &mut Maker<'_>) -> String {
    let one = |m: &mut Maker<'_>| {
        let op = m.rng.pick(&["add", "add", "replace", "replace", "remove", "test", "copy", "move", "odd"]);
        let mut out = vec![("op".to_owned(), raw(op)), ("path".to_owned(), quoted(&pointer(m)))];
        if matches!(op, "copy" | "move") || m.rng.chance(3) {
            let from = pointer(m);
            out.push(("from".into(), quoted(&from)));
        }
        if matches!(op, "add" | "replace" | "test") && m.rng.chance(95) {
            let value = match m.rng.below(6) {
                0 => map([("name", raw("new")), ("image", raw(m.rng.pick(IMAGES)))]),
                1 => Value::Seq(vec![scalar(m), scalar(m)]),
                2 => raw(m.rng.pick(&["{}", "[]", "null"])),
                _ => scalar(m),
            };
            out.push(("value".into(), value));
        }
        Value::Map(out)
    };
    let n = m.rng.between(1, 3);
    let list = Value::Seq((0..n).map(|_| one(m)).collect());
    if m.rng.chance(15) { json_text(&list) } else { list.write(m.rng) }
}

/// The same as JSON, as far as scalars allow.
fn json_text(value: &Value) -> String {
    match value {
        Value::Raw(text) => {
            let literal = text.starts_with('"')
                || matches!(text.as_str(), "true" | "false" | "null" | "{}" | "[]")
                || (text.parse::<f64>().is_ok() && !text.starts_with(['+', '.', '0']) && !text.ends_with('.'));
            if literal && !text.contains("\\x") {
                text.clone()
            } else {
                format!("{:?}", text.trim_matches(['\'', '"']))
            }
        }
        Value::Seq(items) => format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{k:?}: {}", json_text(v))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// A text of several lines as a block scalar.
fn block(text: &str) -> Value {
    let text = text.trim_end_matches('\n');
    if text.starts_with([' ', '\n']) || text.is_empty() { quoted(text) } else { raw(format!("|\n{text}")) }
}

pub(crate) fn patches(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let json = m.rng.chance(40);
    let body = if json { json_patch(m) } else { merge_patch(m) };
    let mut out: Vec<(String, Value)> = Vec::new();
    if m.rng.chance(50) {
        out.push(("path".into(), text(&m.file(dir, "patch", "yaml", body))));
    } else {
        out.push(("patch".into(), block(&body)));
    }
    if json || m.rng.chance(35) {
        out.push(("target".into(), selector(m, true)));
    }
    if m.rng.chance(15) {
        let options = [("allowNameChange", m.rng.chance(60)), ("allowKindChange", m.rng.chance(60))];
        out.push(("options".into(), map(options.map(|(k, v)| (k, raw(v.to_string()))))));
    }
    ("patches", Value::Seq(vec![Value::Map(out)]))
}

pub(crate) fn patches_strategic_merge(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let body = merge_patch(m);
    let one = if m.rng.chance(50) { text(&m.file(dir, "psm", "yaml", body)) } else { block(&body) };
    ("patchesStrategicMerge", Value::Seq(vec![one]))
}

pub(crate) fn patches_json(m: &mut Maker<'_>, dir: &str) -> (&'static str, Value) {
    let body = json_patch(m);
    let mut target = selector(m, true);
    if target.get("name").is_none() && m.rng.chance(95) {
        let name = m.name();
        if let Value::Map(entries) = &mut target {
            entries.push(("name".into(), text(&name)));
        }
    }
    let mut out = vec![("target".to_owned(), target)];
    if m.rng.chance(50) {
        out.push(("path".into(), text(&m.file(dir, "json", "yaml", body))));
    } else {
        out.push(("patch".into(), block(&body)));
    }
    ("patchesJson6902", Value::Seq(vec![Value::Map(out)]))
}
