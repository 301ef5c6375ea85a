//! What differs between two trees, found by following only folders whose identity differs.

use std::collections::HashSet;

use super::path;
use super::rendered::ReadSet;
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// The difference of two trees, as far as a reader could notice.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Paths where something else stands, or something stood in one tree only.
    entries: HashSet<String>,
    /// Folders whose names, or the kinds of what they name, differ.
    listings: HashSet<String>,
    /// Folders that stand in one tree only (or are something else there): everything below them differs.
    whole: Vec<String>,
}

impl Difference {
    /// Whether something in this read set, of this source, may be different now.
    pub(crate) fn touches(&self, source: &str, reads: &ReadSet) -> bool {
        reads.paths.iter().filter(|((of, _), _)| &**of == source).any(|((_, path), seen)| {
            (seen.entry.is_some() && self.entries.contains(&**path))
                || (seen.listing.is_some() && self.listings.contains(&**path))
                || self.whole.iter().any(|folder| below(path, folder))
        })
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
    use super::super::reads::RecordingTree;
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
            let difference = difference(&old, &new).unwrap();
            assert_eq!(difference.touches("s", &reads), expected, "{read}: {difference:?}");
            assert!(!difference.touches("other", &reads));
        }
    }
}
