//! What differs between two trees, found by following only folders whose identity differs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::path;
use super::rendered::Seen;
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// The difference of two trees, as far as a reader could notice.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Paths where something else stands, or something stood in one tree only.
    entries: BTreeSet<String>,
    /// Folders whose names, or the kinds of what they name, differ.
    listings: BTreeSet<String>,
    /// Folders that stand in one tree only (or are something else there): everything below them differs.
    whole: Vec<String>,
}

impl Difference {
    /// How many paths differ.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.listings.len() + self.whole.len()
    }

    /// Whether a file of this name may be among what differs. `trees`: the two that were compared.
    pub(crate) fn may_hold(&self, trees: &[&dyn Tree], name: &str) -> bool {
        let called = |path: &String| path.rsplit('/').next() == Some(name);
        let inside = |folder: &String| trees.iter().any(|tree| tree.find(folder, name).map_or(true, |f| !f.is_empty()));
        self.entries.iter().any(called) || self.whole.iter().any(inside)
    }

    /// Whether something that was read may be different now. Asks for whichever is fewer: what differs or what was read.
    pub(crate) fn touches(&self, reads: &BTreeMap<Arc<str>, Seen>) -> bool {
        let below_whole = |folder: &String| {
            let from: (Bound<&str>, Bound<&str>) = (Bound::Included(folder.as_str()), Bound::Unbounded);
            // What begins with the folder's name and goes on otherwise (`a-b` for `a`) may stand between.
            let mut near =
                reads.range::<str, _>(from).map(|(path, _)| path).take_while(|p| p.starts_with(folder.as_str()));
            near.any(|path| below(path, folder))
        };
        if self.whole.iter().any(below_whole) {
            return true;
        }
        if reads.len() < self.entries.len() + self.listings.len() {
            return reads.iter().any(|(path, seen)| {
                (seen.entry.is_some() && self.entries.contains(&**path))
                    || (seen.listing.is_some() && self.listings.contains(&**path))
            });
        }
        let asked = |path: &String, what: fn(&Seen) -> bool| reads.get(path.as_str()).is_some_and(what);
        self.entries.iter().any(|path| asked(path, |seen| seen.entry.is_some()))
            || self.listings.iter().any(|path| asked(path, |seen| seen.listing.is_some()))
    }
}

fn below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The identity of a whole tree.
pub(crate) fn root_id(tree: &dyn Tree) -> Result<Option<ContentId>, TreeError> {
    Ok(match tree.entry("")? {
        Some(Entry::Folder { id }) => Some(id),
        _ => None,
    })
}

/// Compares two trees.
pub(crate) fn difference(old: &dyn Tree, new: &dyn Tree) -> Result<Difference, TreeError> {
    let mut out = Difference::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let (before, after) = (old.list(&folder)?.unwrap_or_default(), new.list(&folder)?.unwrap_or_default());
        let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.0.cmp(&b.0),
            };
            let a = if order.is_le() { before.next() } else { None };
            let b = if order.is_ge() { after.next() } else { None };
            let Some(name) = a.as_ref().or(b.as_ref()).map(|(name, _)| name.clone()) else { break };
            let here = path::join(&folder, &name);
            match (a.map(|a| a.1), b.map(|b| b.1)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(Entry::Folder { .. }), Some(Entry::Folder { .. })) => folders.push(here),
                (a, b) => {
                    let kind = |e: &Option<Entry>| e.as_ref().map(std::mem::discriminant);
                    if kind(&a) != kind(&b) {
                        out.listings.insert(folder.clone());
                    }
                    if [&a, &b].iter().any(|e| matches!(e, Some(Entry::Folder { .. }))) {
                        out.whole.push(here.clone());
                    }
                    out.entries.insert(here);
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::reads::{RecordingTree, same_answers};
    use super::super::rendered::ReadSet;
    use super::*;
    use crate::tree::MemTree;
    use std::sync::Arc;

    fn tree(files: &[(&str, &str)]) -> MemTree {
        let mut tree = MemTree::new();
        for (path, text) in files {
            tree.insert(*path, text.as_bytes().to_vec());
        }
        tree
    }

    #[test]
    fn a_read_is_touched_when_its_answer_changes_and_only_then() {
        let old = tree(&[("a/x", "1"), ("a/y", "1"), ("b/z", "1")]);
        let many: Vec<(String, Seen)> = (0..9).map(|n| (format!("z{n}"), Seen::default())).collect();
        for (read, new, expected) in [
            ("a/x", tree(&[("a/x", "2"), ("a/y", "1"), ("b/z", "1")]), true),
            ("a/x", tree(&[("a/x", "1"), ("a/y", "2"), ("b/z", "1")]), false),
            ("list a", tree(&[("a/x", "2"), ("a/y", "2"), ("b/z", "1")]), false),
            ("list a", tree(&[("a/x", "1"), ("a/y", "1"), ("a/new", "1"), ("b/z", "1")]), true),
            ("a/new", tree(&[("a/x", "1"), ("a/y", "1"), ("a/new", "1"), ("b/z", "1")]), true),
            ("c/deep/miss", tree(&[("a/x", "1"), ("a/y", "1"), ("b/z", "1"), ("c/other", "1")]), true),
            ("b/z", tree(&[("a/x", "1"), ("a/y", "1")]), true),
            ("b", tree(&[("a/x", "1"), ("a/y", "1"), ("b/z", "2")]), false),
            ("b", tree(&[("a/x", "1"), ("a/y", "1"), ("b", "file")]), true),
            ("", tree(&[("a/x", "2")]), false),
        ] {
            let recording = RecordingTree::new(Arc::new(old.clone()));
            match read.strip_prefix("list ") {
                Some(folder) => drop(recording.list(folder).unwrap()),
                None => drop(recording.read(read).unwrap()),
            }
            let mut reads = ReadSet::default();
            recording.drain_into("s", &mut reads);
            let mut reads = reads.sources.remove("s").unwrap();
            let difference = difference(&old, &new).unwrap();
            assert_eq!(difference.touches(&reads), expected, "{read}: {difference:?}");
            assert!(same_answers(&reads, &new) || expected, "{read}: asked again, it has another answer");
            // The same when more was read than differs.
            reads.extend(many.iter().map(|(path, seen)| (path.as_str().into(), *seen)));
            assert_eq!(difference.touches(&reads), expected, "{read}, among others: {difference:?}");
        }
    }
}
