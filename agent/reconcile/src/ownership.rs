//! managedFields: which manager owns which fields, and what identifies a list item.
//!
//! The shape is that of `FieldsV1` in structured-merge-diff: a tree whose keys are `f:<field>`, `k:{<key fields>}` (an item
//! of an associative list), `v:<value>` (an item of a set) and `i:<index>`; `"."` or no children at all means that the
//! node itself is a member of the set. Nodes borrow from the object they were read from.

use std::collections::BTreeMap;

use driftless_protocol::canonical;
use driftless_protocol::marks::FIELD_MANAGER;
use serde_json::{Map, Value, json};

use crate::ignore;
use crate::input::Millis;
use crate::rules::Rules;
use crate::step::TakeOver;
use crate::time;
use crate::walk;

/// A set of field paths, as a tree. Keys keep their raw form (`f:spec`, `k:{"name":"web"}`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet<'a> {
    nodes: BTreeMap<&'a str, Node<'a>>,
}

/// One node of a [`FieldSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node<'a> {
    /// The path up to here is itself in the set.
    pub member: bool,
    /// What is below.
    pub below: FieldSet<'a>,
}

/// How deep a set may nest; deeper levels are cut (the API server's own objects stay far below).
const MAX_DEPTH: usize = canonical::MAX_DEPTH;

impl<'a> FieldSet<'a> {
    /// Reads a `fieldsV1` tree. What is not such a tree reads as empty.
    #[must_use]
    pub fn parse(fields: &'a Value) -> Self {
        fields.as_object().map_or_else(Self::default, |map| Self::read(map, 0))
    }

    fn read(map: &'a Map<String, Value>, depth: usize) -> Self {
        let mut nodes = BTreeMap::new();
        if depth < MAX_DEPTH {
            for (key, below) in map {
                if key == "." {
                    continue;
                }
                let below = below.as_object();
                let member = below.is_none_or(|b| b.is_empty() || b.contains_key("."));
                let below = below.map_or_else(Self::default, |b| Self::read(b, depth + 1));
                nodes.insert(key.as_str(), Node { member, below });
            }
        }
        Self { nodes }
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node under a raw key.
    #[must_use]
    pub fn get(&self, raw: &str) -> Option<&Node<'a>> {
        self.nodes.get(raw)
    }

    /// Raw keys and nodes, sorted by raw key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &Node<'a>)> {
        self.nodes.iter().map(|(raw, node)| (*raw, node))
    }

    /// Adds everything of another set.
    pub fn union(&mut self, other: &Self) {
        for (raw, theirs) in &other.nodes {
            let ours = self.nodes.entry(raw).or_default();
            ours.member |= theirs.member;
            ours.below.union(&theirs.below);
        }
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut nodes = BTreeMap::new();
        for (raw, ours) in &self.nodes {
            let left = match other.nodes.get(raw) {
                None => ours.clone(),
                Some(theirs) => {
                    Node { member: ours.member && !theirs.member, below: ours.below.difference(&theirs.below) }
                }
            };
            if left.member || !left.below.is_empty() {
                nodes.insert(*raw, left);
            }
        }
        Self { nodes }
    }

    /// Removes one path, given by raw keys, and what is below it; also the maps that are empty then.
    pub fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.nodes.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(node) = self.nodes.get_mut(*first) {
                    node.below.remove(rest);
                    if node.below.is_empty() {
                        self.nodes.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes one child out, as a set of its own.
    pub fn take(&mut self, raw: &str) -> Option<Self> {
        let (raw, node) = self.nodes.remove_entry(raw)?;
        Some(Self { nodes: BTreeMap::from([(raw, node)]) })
    }

    /// Takes out what is under a path of raw keys.
    pub fn take_path(&mut self, path: &[&str]) -> Option<Self> {
        match path {
            [] => None,
            [last] => self.take(last),
            [first, rest @ ..] => self.take_below(first, |below| below.take_path(rest)),
        }
    }

    /// Takes something out from below a child; the child goes when nothing is left of it.
    pub fn take_below(&mut self, raw: &str, take: impl FnOnce(&mut Self) -> Option<Self>) -> Option<Self> {
        let (raw, mut node) = self.nodes.remove_entry(raw)?;
        let taken = take(&mut node.below);
        if node.member || !node.below.is_empty() {
            self.nodes.insert(raw, node);
        }
        Some(Self { nodes: BTreeMap::from([(raw, Node { member: false, below: taken? })]) })
    }

    /// Whether the set owns the path given by raw keys: the path itself, or an atomic value above it.
    #[must_use]
    pub fn owns(&self, path: &[&str]) -> bool {
        let mut set = self;
        for (i, raw) in path.iter().enumerate() {
            let Some(node) = set.nodes.get(raw) else { return false };
            if i + 1 == path.len() {
                return node.member;
            }
            if node.member && node.below.is_empty() {
                return true;
            }
            set = &node.below;
        }
        false
    }

    /// Back to the `fieldsV1` form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (raw, node) in &self.nodes {
            let mut below = match node.below.to_json() {
                Value::Object(below) => below,
                _ => Map::new(),
            };
            if node.member && !below.is_empty() {
                below.insert(".".to_owned(), json!({}));
            }
            map.insert((*raw).to_owned(), Value::Object(below));
        }
        Value::Object(map)
    }

    /// Feeds the set itself and the live values it covers to a hasher. Equal hashes: same ownership, same values.
    pub fn hash(&self, live: Option<&Value>, hasher: &mut blake3::Hasher) {
        for (raw, node) in &self.nodes {
            hasher.update(&(raw.len() as u32).to_le_bytes());
            hasher.update(raw.as_bytes());
            let value = live.and_then(|live| child(live, raw));
            if node.below.is_empty() {
                match value {
                    None => hasher.update(b"\0-"),
                    Some(value) => {
                        let bytes = canonical::value_to_vec(value);
                        hasher.update(b"\0=").update(&(bytes.len() as u32).to_le_bytes()).update(&bytes)
                    }
                };
            } else {
                hasher.update(if value.is_some() { b"\0{" } else { b"\0?" });
                node.below.hash(value, hasher);
                hasher.update(b"\0}");
            }
        }
    }
}

/// The part of a live object that a set covers: fields by name, list items by their identity (in live order). For
/// people and tests; comparison uses [`FieldSet::hash`].
#[must_use]
pub fn project(live: &Value, set: &FieldSet<'_>) -> Option<Value> {
    match live {
        Value::Object(map) => {
            let mut out = Map::new();
            for (raw, node) in set.iter() {
                let Some(name) = raw.strip_prefix("f:") else { continue };
                let Some(value) = map.get(name) else { continue };
                let part = if node.below.is_empty() { Some(value.clone()) } else { project(value, &node.below) };
                if let Some(part) = part {
                    out.insert(name.to_owned(), part);
                }
            }
            Some(Value::Object(out))
        }
        Value::Array(items) => Some(Value::Array(
            items
                .iter()
                .filter_map(|item| {
                    let (_, node) = set.iter().find(|(raw, _)| identifies(raw, item))?;
                    if node.below.is_empty() { Some(item.clone()) } else { project(item, &node.below) }
                })
                .collect(),
        )),
        _ => None,
    }
}

/// The child of a live value that a raw key names.
#[must_use]
pub fn child<'v>(live: &'v Value, raw: &str) -> Option<&'v Value> {
    match live {
        Value::Object(map) => map.get(raw.strip_prefix("f:")?),
        Value::Array(items) => match raw.strip_prefix("i:") {
            Some(index) => items.get(index.parse::<usize>().ok()?),
            None => items.iter().find(|item| identifies(raw, item)),
        },
        _ => None,
    }
}

/// Whether a `k:` or `v:` key names this live list item.
#[must_use]
pub fn identifies(raw: &str, item: &Value) -> bool {
    if let Some(key) = raw.strip_prefix("k:") {
        let Ok(Value::Object(key)) = serde_json::from_str::<Value>(key) else { return false };
        return key.iter().all(|(name, want)| item.get(name) == Some(want));
    }
    if let Some(value) = raw.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    false
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// As it calls itself.
    pub manager: &'a str,
    /// `Apply`, else `Update`.
    pub apply: bool,
    /// `status`, `scale`, ... or nothing.
    pub subresource: &'a str,
    /// When it last wrote; the API server leaves it out for writes through `scale`.
    pub time: Option<Millis>,
    /// Its fields.
    pub fields: &'a Value,
}

impl Entry<'_> {
    /// Our own applies.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.apply && self.manager == FIELD_MANAGER && self.subresource.is_empty()
    }

    /// Writes of the desired part of an object: directly, or `replicas` through `scale`.
    #[must_use]
    pub fn of_spec(&self) -> bool {
        matches!(self.subresource, "" | "scale")
    }
}

/// The entries of a live object.
pub fn entries(live: &Value) -> impl Iterator<Item = Entry<'_>> {
    static NONE: Value = Value::Null;
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().map(|entry| {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        Entry {
            manager: text("manager"),
            apply: text("operation") == "Apply",
            subresource: text("subresource"),
            time: time::parse(text("time")),
            fields: entry.get("fieldsV1").unwrap_or(&NONE),
        }
    })
}

/// Written by `kubectl rollout restart`: a wish for a restart, no drift. Removing it would restart the pods again.
pub(crate) const RESTARTED_AT: [&str; 5] =
    ["f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt"];

/// The field set of that path alone.
fn restarted_at() -> Value {
    RESTARTED_AT.iter().rev().fold(json!({}), |below, raw| json!({*raw: below}))
}

/// Whether a manager name is in a list of names and `prefix*` patterns.
#[must_use]
pub fn listed(manager: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => manager.starts_with(prefix),
        None => manager == pattern,
    })
}

/// Whether another GitOps tool owns fields of it.
#[must_use]
pub fn has_tools(live: &Value, rules: &Rules) -> bool {
    entries(live).any(|entry| !entry.is_ours() && entry.of_spec() && listed(entry.manager, &rules.tools))
}

/// Lists with items that have keys, of which a declared item is missing: as raw keys.
fn lists_with_gaps(declared: &Value, live: &Value) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    walk::differences(declared, live, &everybody(live), &mut |path, _, there| {
        if let (None, [list @ .., item]) = (there, path.raw().as_slice())
            && item.starts_with("k:")
        {
            all.push(list.iter().map(|raw| (*raw).to_owned()).collect());
        }
    });
    all.dedup();
    all
}

/// All managers' sets together: they name the items of lists.
pub(crate) fn everybody(live: &Value) -> FieldSet<'_> {
    let mut all = FieldSet::default();
    for entry in entries(live) {
        all.union(&FieldSet::parse(entry.fields));
    }
    all
}

/// The JSON patch that makes the fields of other managers ours before an apply (union, operation Apply), or `None` when
/// there is nothing to take over. Guarded by the live object's resourceVersion.
///
/// An apply removes a field only when nobody else owns it. So what people added with `kubectl edit` stays for ever unless
/// their entry becomes ours first: the apply after it then drops what is not declared. Flux does the same to kubectl.
/// What is ignored (JSON pointers) stays theirs: made ours and not declared, it would be removed.
/// Entries of a subresource other than `scale` stay: `status` is not ours to apply.
///
/// `reclaim` is what is declared: in its lists of which a declared item is missing, everybody's items become ours. A manager
/// that changes the key of an item (the port of a Service) has an item of its own then, beside which ours may not be valid.
#[must_use]
pub fn take_over(
    live: &Value,
    whose: TakeOver,
    ignored: &[String],
    reclaim: Option<&Value>,
    rules: &Rules,
) -> Option<Value> {
    let lists = reclaim.map(|declared| lists_with_gaps(declared, live)).unwrap_or_default();
    let taken = |entry: &Entry<'_>| {
        !entry.is_ours()
            && entry.of_spec()
            && match whose {
                TakeOver::No => false,
                TakeOver::Humans => listed(entry.manager, &rules.humans),
                TakeOver::HumansAndTools => listed(entry.manager, &rules.humans) || listed(entry.manager, &rules.tools),
            }
    };
    let old = live.pointer("/metadata/managedFields")?.as_array()?;
    let mut fields = FieldSet::default();
    let (mut kept, mut ours, mut changed) = (Vec::with_capacity(old.len()), None, false);
    for (raw, entry) in old.iter().zip(entries(live)) {
        if entry.is_ours() {
            fields.union(&FieldSet::parse(entry.fields));
            ours = Some(raw.clone());
        } else if taken(&entry) {
            let mut theirs = FieldSet::parse(entry.fields);
            if theirs.owns(&RESTARTED_AT) {
                // Theirs it stays: dropping the wish for a restart would restart the pods again.
                let mut wish = raw.clone();
                wish["fieldsV1"] = restarted_at();
                kept.push(wish);
                theirs.remove(&RESTARTED_AT);
                if theirs.is_empty() {
                    continue;
                }
            }
            if let Some(left) = ignore::split_off(&mut theirs, live, ignored) {
                let mut entry = raw.clone();
                entry["fieldsV1"] = left.to_json();
                kept.push(entry);
                if theirs.is_empty() {
                    continue;
                }
            }
            fields.union(&theirs);
            ours = ours.or_else(|| Some(raw.clone()));
            changed = true;
        } else if entry.of_spec() && !lists.is_empty() {
            let mut theirs = FieldSet::parse(entry.fields);
            let left = ignore::split_off(&mut theirs, live, ignored);
            let mut some = false;
            for list in &lists {
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                if let Some(taken) = theirs.take_path(&list) {
                    fields.union(&taken);
                    some = true;
                }
            }
            if !some {
                kept.push(raw.clone());
                continue;
            }
            if let Some(left) = left {
                theirs.union(&left);
            }
            if !theirs.is_empty() {
                let mut entry = raw.clone();
                entry["fieldsV1"] = theirs.to_json();
                kept.push(entry);
            }
            ours = ours.or_else(|| Some(raw.clone()));
            changed = true;
        } else {
            kept.push(raw.clone());
        }
    }
    let mut ours = ours.filter(|_| changed)?;
    let entry = ours.as_object_mut()?;
    entry.insert("manager".to_owned(), FIELD_MANAGER.into());
    entry.insert("operation".to_owned(), "Apply".into());
    entry.remove("subresource");
    // The server wants a time; an entry made through `scale` has none.
    if !entry.contains_key("time") {
        let time =
            live.pointer("/metadata/creationTimestamp").cloned().unwrap_or_else(|| "1970-01-01T00:00:01Z".into());
        entry.insert("time".to_owned(), time);
    }
    entry.insert("fieldsV1".to_owned(), fields.to_json());
    kept.push(ours);
    let version = live.pointer("/metadata/resourceVersion")?;
    Some(json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
    ]))
}
