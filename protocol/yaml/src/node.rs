//! The value every renderer stage works on: a YAML node that remembers what was written.
//!
//! Kustomize works on YAML nodes, not on decoded values: a scalar keeps its text until the very end (`0x1F` stays `0x1F`
//! when a prefix is put before it, and becomes `31` only in the output). [`Node`] does the same. Sub-trees are shared
//! (`Arc`), so a clone costs a reference count and an edit copies only the path it touches.

use std::sync::Arc;

use crate::held::Held;
use crate::key::Key;

/// What a scalar is, by the resolver of the dialect that read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false` (and `yes`, `on`, ... in the YAML 1.1 dialect).
    Bool,
    /// An integer in any base the dialect reads.
    Int,
    /// A floating-point number.
    Float,
    /// Text, quoted or not.
    Str,
    /// An unquoted date or time; go-yaml rewrites it as RFC 3339 on output.
    Timestamp,
    /// `!!binary`: the text is base64.
    Binary,
}

/// A scalar: the text as written (unescaped), and what it means.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The text after unescaping, before resolution.
    pub text: Arc<str>,
    /// What the dialect's resolver made of it.
    pub kind: Kind,
    /// Written in quotes or as a block: never re-resolved.
    pub quoted: bool,
    /// 1-based line in the file it came from, 0 when made by us.
    pub line: u32,
}

/// A mapping, in the order written. Keys are text: Kubernetes knows no other.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Arc<Held<Entry>>,
    /// 1-based line of its first key, 0 when made by us.
    pub line: u32,
}

/// One key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Node,
    /// 1-based line of the key, 0 when made by us.
    pub line: u32,
}

/// A sequence.
#[derive(Clone, Debug, Default)]
pub struct Seq {
    items: Arc<Held<Node>>,
    /// 1-based line of its start, 0 when made by us.
    pub line: u32,
}

/// A YAML value.
#[derive(Clone, Debug)]
pub enum Node {
    /// A leaf.
    Scalar(Scalar),
    /// A list.
    Seq(Seq),
    /// An object.
    Map(Map),
}

/// Equality of meaning as far as text goes: kind and text of scalars, order of lists, keys of maps in any order.
/// Lines and quoting do not count.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.kind == b.kind && a.text == b.text,
            (Self::Seq(a), Self::Seq(b)) => Arc::ptr_eq(&a.items, &b.items) || a[..] == b[..],
            (Self::Map(a), Self::Map(b)) => {
                Arc::ptr_eq(&a.entries, &b.entries)
                    || (a.len() == b.len() && a.iter().all(|e| b.get(&e.key) == Some(&e.value)))
            }
            _ => false,
        }
    }
}

impl Scalar {
    /// A text scalar made by us: never re-resolved.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), kind: Kind::Str, quoted: false, line: 0 }
    }

    /// Null made by us.
    #[must_use]
    pub fn null() -> Self {
        Self { text: "null".into(), kind: Kind::Null, quoted: false, line: 0 }
    }

    /// Whether this is the nothing of `{a: }` or `[a, ]`: null to every step, but printed as an empty text, because
    /// kustomize writes quotes there on the way.
    #[must_use]
    pub fn is_flow_null(&self) -> bool {
        self.kind == Kind::Null && self.quoted && self.text.is_empty()
    }

    /// A Boolean made by us.
    #[must_use]
    pub fn bool(value: bool) -> Self {
        Self { text: if value { "true" } else { "false" }.into(), kind: Kind::Bool, quoted: false, line: 0 }
    }

    /// An integer made by us.
    #[must_use]
    pub fn int(value: i64) -> Self {
        Self { text: value.to_string().into(), kind: Kind::Int, quoted: false, line: 0 }
    }
}

impl Map {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A map of these entries, in this order. The caller vouches that keys are distinct.
    #[must_use]
    pub fn from_entries(entries: Vec<Entry>, line: u32) -> Self {
        Self { entries: Arc::new(entries.into()), line }
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The entry of a key, for its line.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| &*e.key == key)
    }

    /// The value under a key, for editing. Copies this map (not its values) when it is shared.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let at = self.entries.iter().position(|e| &*e.key == key)?;
        self.entries_mut().get_mut(at).map(|e| &mut e.value)
    }

    /// Sets a key: in place when present, else at the end. Returns what was there.
    pub fn insert(&mut self, key: impl Into<Key>, value: Node) -> Option<Node> {
        let key = key.into();
        let entries = self.entries_mut();
        if let Some(e) = entries.iter_mut().find(|e| e.key == key) {
            return Some(std::mem::replace(&mut e.value, value));
        }
        entries.push(Entry { key, value, line: 0 });
        None
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.entries.iter().position(|e| &*e.key == key)?;
        Some(self.entries_mut().remove(at).value)
    }

    /// The entries for editing in place. Copies when shared; the caller keeps keys distinct.
    pub fn entries_mut(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(&mut self.entries).edit()
    }

    pub(crate) fn held(&self) -> &Held<Entry> {
        &self.entries
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Seq {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A list of these items.
    #[must_use]
    pub fn from_items(items: Vec<Node>, line: u32) -> Self {
        Self { items: Arc::new(items.into()), line }
    }

    /// The items for editing. Copies this list (not its items) when it is shared.
    pub fn items_mut(&mut self) -> &mut Vec<Node> {
        Arc::make_mut(&mut self.items).edit()
    }

    pub(crate) fn held(&self) -> &Held<Node> {
        &self.items
    }
}

impl std::ops::Deref for Seq {
    type Target = [Node];
    fn deref(&self) -> &[Node] {
        &self.items
    }
}

impl<'a> IntoIterator for &'a Seq {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl Node {
    /// A text node made by us.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::Scalar(Scalar::string(text))
    }

    /// Null made by us.
    #[must_use]
    pub fn null() -> Self {
        Self::Scalar(Scalar::null())
    }

    /// An empty map.
    #[must_use]
    pub fn map() -> Self {
        Self::Map(Map::new())
    }

    /// The line it was written on, 0 when made by us.
    #[must_use]
    pub fn line(&self) -> u32 {
        match self {
            Self::Scalar(s) => s.line,
            Self::Seq(s) => s.line,
            Self::Map(m) => m.line,
        }
    }

    /// This node as a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    /// This node as a map, for editing.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(m) => Some(m),
            _ => None,
        }
    }

    /// This node as a list.
    #[must_use]
    pub fn as_seq(&self) -> Option<&Seq> {
        match self {
            Self::Seq(s) => Some(s),
            _ => None,
        }
    }

    /// This node as a list, for editing.
    pub fn as_seq_mut(&mut self) -> Option<&mut Seq> {
        match self {
            Self::Seq(s) => Some(s),
            _ => None,
        }
    }

    /// This node as a scalar.
    #[must_use]
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match self {
            Self::Scalar(s) => Some(s),
            _ => None,
        }
    }

    /// The text of a scalar of kind [`Kind::Str`].
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Scalar(s) if s.kind == Kind::Str => Some(&s.text),
            _ => None,
        }
    }

    /// The text of a scalar that the API server takes where it wants a text: one of kind [`Kind::Str`], or a timestamp, which
    /// JSON has no other form for.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Scalar(s) if matches!(s.kind, Kind::Str | Kind::Timestamp) => Some(&s.text),
            _ => None,
        }
    }

    /// The text of any scalar but null.
    #[must_use]
    pub fn scalar_text(&self) -> Option<&str> {
        match self {
            Self::Scalar(s) if s.kind != Kind::Null => Some(&s.text),
            _ => None,
        }
    }

    /// Whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(s) if s.kind == Kind::Null)
    }

    /// The value at a path of map keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |n, key| n.as_map()?.get(key))
    }
}
