//! What a list or map holds, and what is known of everything below it.
//!
//! Two questions are asked of whole objects again and again: how much text they hold, and whether a key stands anywhere in
//! them. The answers are kept where the values are; an edit forgets them on the way to what it changes, and what overlays
//! share is looked through once for all of them.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::key::Key;
use crate::node::{Entry, Node};

/// The items of a list or the entries of a map.
pub(crate) struct Held<T> {
    list: Vec<T>,
    /// Bytes of all text.
    text: AtomicU64,
    /// The bits of all keys, and [`KNOWN`] once both are counted.
    keys: AtomicU64,
}

/// No key has this bit.
const KNOWN: u64 = 1 << 63;

impl<T> Held<T> {
    /// For any change; what was known is forgotten.
    pub(crate) fn edit(&mut self) -> &mut Vec<T> {
        *self.keys.get_mut() = 0;
        &mut self.list
    }

    /// What is below, counted unless it is known.
    fn below(&self, of: impl Fn(&T) -> Below) -> Below {
        // Whoever sees the bit sees the text that was stored before it.
        let keys = self.keys.load(Ordering::Acquire);
        if keys & KNOWN != 0 {
            return Below { text: self.text.load(Ordering::Relaxed), keys: KeySet(keys & !KNOWN) };
        }
        let sum = self.list.iter().map(of).fold(Below::default(), Below::and);
        self.text.store(sum.text, Ordering::Relaxed);
        self.keys.store(sum.keys.0 | KNOWN, Ordering::Release);
        sum
    }
}

impl<T> From<Vec<T>> for Held<T> {
    fn from(list: Vec<T>) -> Self {
        Self { list, text: AtomicU64::new(0), keys: AtomicU64::new(0) }
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

/// What is known is no content.
impl<T: fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

/// A copy is made to be changed: it has room for a little more, and knows nothing.
impl<T: Clone> Clone for Held<T> {
    fn clone(&self) -> Self {
        const ROOM: usize = 2;
        let mut list = Vec::with_capacity(self.list.len() + ROOM);
        list.extend_from_slice(&self.list);
        Self::from(list)
    }
}

impl<T> Deref for Held<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.list
    }
}

/// A set of keys that may hold more than was put into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySet(u64);

impl KeySet {
    /// The set of these keys.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        Self(names.iter().fold(0, |bits, name| bits | Key::from(*name).bit()))
    }

    /// Whether both may hold a key; never `false` when both do.
    #[must_use]
    pub fn may_meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Clone, Copy, Default)]
struct Below {
    text: u64,
    keys: KeySet,
}

impl Below {
    fn and(self, other: Self) -> Self {
        Self { text: self.text.saturating_add(other.text), keys: KeySet(self.keys.0 | other.keys.0) }
    }
}

impl Node {
    fn below(&self) -> Below {
        match self {
            Self::Scalar(s) => Below { text: s.text.len() as u64, keys: KeySet::default() },
            Self::Seq(seq) => seq.held().below(Self::below),
            Self::Map(map) => map.held().below(Entry::below),
        }
    }

    /// Counts now what will be asked for later.
    pub(crate) fn count_below(&self) {
        self.below();
    }

    /// Bytes of all texts and keys in this value, counting what it shares as often as it stands there.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        self.below().text
    }

    /// The keys of all maps in this value.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        self.below().keys
    }
}

impl Entry {
    fn below(&self) -> Below {
        let own = Below { text: self.key.len() as u64, keys: KeySet(self.key.bit()) };
        own.and(self.value.below())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Dialect, KeySet, Limits, Node, parse_one};

    /// Counted by a walk that knows nothing.
    fn slowly(node: &Node) -> u64 {
        match node {
            Node::Scalar(s) => s.text.len() as u64,
            Node::Seq(seq) => seq.iter().map(slowly).sum(),
            Node::Map(map) => map.iter().map(|e| e.key.len() as u64 + slowly(&e.value)).sum(),
        }
    }

    #[test]
    fn edits_forget_what_was_known_and_copies_keep_their_own() {
        let text = b"spec: {list: [{containers: [{image: a}]}, {x-long-name: b}], other: &a {image: c}, again: *a}";
        let mut node = parse_one(text, Dialect::Resource, &Limits::default()).unwrap().node;
        let wanted = KeySet::of(&["initContainers"]);
        assert!(node.keys().may_meet(KeySet::of(&["containers"])) && !node.keys().may_meet(wanted));
        let before = node.clone();
        let edit = |node: &mut Node, key: &str, text: &str| {
            let spec = node.as_map_mut().unwrap().get_mut("spec").unwrap();
            let list = spec.as_map_mut().unwrap().get_mut("list").unwrap().as_seq_mut().unwrap();
            list.items_mut()[1].as_map_mut().unwrap().insert(key, Node::string(text));
        };
        for (key, text) in [("y", "longer"), ("initContainers", "x"), ("y", "")] {
            edit(&mut node, key, text);
            assert_eq!(node.text_bytes(), slowly(&node));
        }
        assert!(node.keys().may_meet(wanted) && !before.keys().may_meet(wanted));
        assert_eq!(before.text_bytes(), slowly(&before));
    }
}
