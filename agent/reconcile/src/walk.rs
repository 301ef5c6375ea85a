//! Compares a declared object with a live one, field by field, over what is declared.
//!
//! Lists are compared as the API server merges them: by key or by value where some manager's field set names items so,
//! else as one value. Both the baseline and drift use this one walk, so that what one explains the other understands.

use driftless_protocol::canonical;
use serde_json::{Map, Value};

use crate::ownership::{self, FieldSet};

/// A path to a field, in both forms.
#[derive(Debug, Default)]
pub struct Path {
    raw: Vec<String>,
    shown: String,
}

impl Path {
    /// `spec.template.spec.containers[name=web].image`.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Raw field set keys: `f:spec`, `f:template`, ...
    #[must_use]
    pub fn raw(&self) -> Vec<&str> {
        self.raw.iter().map(String::as_str).collect()
    }

    /// Goes down by a raw key, does something there, comes back.
    pub fn at<T>(&mut self, raw: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.shown.len();
        push_shown(&mut self.shown, raw);
        self.raw.push(raw.to_owned());
        let out = then(self);
        self.raw.pop();
        self.shown.truncate(len);
        out
    }
}

/// A path in the form people read.
#[must_use]
pub fn shown(raw: &[&str]) -> String {
    let mut out = String::new();
    for key in raw {
        push_shown(&mut out, key);
    }
    out
}

/// Appends a raw key in the form people read.
fn push_shown(shown: &mut String, raw: &str) {
    if let Some(name) = raw.strip_prefix("f:") {
        if name.contains(['.', '/', '[', ']', ' ']) || name.is_empty() {
            shown.push('[');
            shown.push_str(name);
            shown.push(']');
        } else {
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(name);
        }
        return;
    }
    shown.push('[');
    if let Some(key) = raw.strip_prefix("k:") {
        match serde_json::from_str::<Map<String, Value>>(key) {
            Ok(key) => {
                for (i, (name, value)) in key.iter().enumerate() {
                    if i > 0 {
                        shown.push(',');
                    }
                    shown.push_str(name);
                    shown.push('=');
                    match value {
                        Value::String(text) => shown.push_str(text),
                        other => shown.push_str(&other.to_string()),
                    }
                }
            }
            Err(_) => shown.push_str(key),
        }
    } else {
        shown.push_str(raw.split_once(':').map_or(raw, |(_, rest)| rest));
    }
    shown.push(']');
}

/// Calls `found(path, declared, live)` for each declared field whose live value differs (`None`: it is not there).
///
/// `identity` is the union of all managers' sets: it says which lists have identified items and which maps are atomic.
/// Declared nulls declare nothing. `apiVersion`, `kind`, `status` and the object's name are not compared.
pub fn differences<'v>(
    declared: &'v Value,
    live: &'v Value,
    identity: &FieldSet<'_>,
    found: &mut dyn FnMut(&Path, &'v Value, Option<&'v Value>),
) {
    let (Some(declared), Some(live)) = (declared.as_object(), live.as_object()) else { return };
    let mut path = Path::default();
    for (name, value) in declared {
        if matches!(name.as_str(), "apiVersion" | "kind" | "status") {
            continue;
        }
        let raw = format!("f:{name}");
        let below = identity.get(&raw).map(|node| &node.below);
        path.at(&raw, |path| {
            if name == "metadata" {
                let parts = value.as_object().into_iter().flatten();
                for (part, value) in parts.filter(|(part, _)| !matches!(part.as_str(), "name" | "namespace")) {
                    let raw = format!("f:{part}");
                    let live = live.get(name).and_then(|m| m.get(part));
                    path.at(&raw, |path| one(path, value, live, node_below(below, &raw), found));
                }
            } else {
                one(path, value, live.get(name), identity.get(&raw).map(Known::of), found);
            }
        });
    }
}

/// What the field sets say of a node.
#[derive(Clone, Copy)]
struct Known<'s, 'a> {
    /// A manager owns it as one value.
    atomic: bool,
    below: &'s FieldSet<'a>,
}

impl<'s, 'a> Known<'s, 'a> {
    fn of(node: &'s ownership::Node<'a>) -> Self {
        Self { atomic: node.member && node.below.is_empty(), below: &node.below }
    }
}

fn node_below<'s, 'a>(set: Option<&'s FieldSet<'a>>, raw: &str) -> Option<Known<'s, 'a>> {
    set?.get(raw).map(Known::of)
}

fn one<'v>(
    path: &mut Path,
    declared: &'v Value,
    live: Option<&'v Value>,
    known: Option<Known<'_, '_>>,
    found: &mut dyn FnMut(&Path, &'v Value, Option<&'v Value>),
) {
    if declared.is_null() {
        return;
    }
    let Some(there) = live else {
        found(path, declared, None);
        return;
    };
    match (declared, there) {
        (Value::Object(want), Value::Object(have)) => {
            // An empty map is owned as a leaf without being atomic: others may fill it.
            if known.is_some_and(|k| k.atomic) && !want.is_empty() {
                if !same(declared, there) {
                    found(path, declared, live);
                }
                return;
            }
            for (name, value) in want {
                let raw = format!("f:{name}");
                let known = node_below(known.map(|k| k.below), &raw);
                path.at(&raw, |path| one(path, value, have.get(name), known, found));
            }
        }
        (Value::Array(want), Value::Array(have)) => list(path, declared, want, (there, have), known, found),
        _ if same(declared, there) => {}
        _ => found(path, declared, live),
    }
}

fn list<'v>(
    path: &mut Path,
    declared: &'v Value,
    want: &'v [Value],
    (there, have): (&'v Value, &'v [Value]),
    known: Option<Known<'_, '_>>,
    found: &mut dyn FnMut(&Path, &'v Value, Option<&'v Value>),
) {
    let items: Vec<(&str, Known<'_, '_>)> = known
        .into_iter()
        .flat_map(|k| k.below.iter())
        .filter(|(raw, _)| raw.starts_with("k:") || raw.starts_with("v:"))
        .map(|(raw, node)| (raw, Known::of(node)))
        .collect();
    if items.is_empty() {
        if !same(declared, there) {
            found(path, declared, Some(there));
        }
        return;
    }
    // Key names are the same for all items of a list; a declared item may leave out those that have defaults.
    let names: Vec<String> = items
        .iter()
        .find_map(|(raw, _)| serde_json::from_str::<Map<String, Value>>(raw.strip_prefix("k:")?).ok())
        .map(|key| key.keys().cloned().collect())
        .unwrap_or_default();
    for item in want {
        if names.is_empty() {
            if !have.iter().any(|there| same(item, there)) {
                let raw = format!("v:{}", text(item));
                path.at(&raw, |path| found(path, item, None));
            }
            continue;
        }
        let live = have.iter().find(|there| names.iter().all(|n| item.get(n).is_some() && item.get(n) == there.get(n)));
        let live = live.or_else(|| {
            have.iter().find(|there| names.iter().all(|n| item.get(n).is_none_or(|v| there.get(n) == Some(v))))
        });
        let key: Map<String, Value> = names
            .iter()
            .filter_map(|n| Some((n.clone(), live.and_then(|l| l.get(n)).or_else(|| item.get(n))?.clone())))
            .collect();
        let raw = format!("k:{}", text(&Value::Object(key)));
        let known = items.iter().find(|(known, _)| *known == raw).map(|(_, known)| *known);
        path.at(&raw, |path| one(path, item, live, known, found));
    }
}

/// Equal as JSON values in canonical form (`1` is `1.0`).
fn same(a: &Value, b: &Value) -> bool {
    a == b || canonical::value_to_vec(a) == canonical::value_to_vec(b)
}

/// Canonical text.
pub(crate) fn text(value: &Value) -> String {
    String::from_utf8(canonical::value_to_vec(value)).unwrap_or_default()
}
