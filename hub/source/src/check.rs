//! Whether a commit can be used: every folder readable, every file there, no limit broken.

use std::collections::HashSet;

use gix::objs::FindExt;

use crate::config::Limits;
use crate::error::Cause;
use crate::tree::{Kind, join, load_tree};

/// How closely files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// That an index lists them.
    Presence,
    /// That their bytes have their digest.
    Content,
}

/// Walks the tree of `commit` and finds out whether every folder is readable and every file present, skipping what
/// `known` (a commit checked before) holds at the same place. Returns the root tree.
///
/// # Errors
/// [`Flaw`]: damage, or a limit broken.
pub(crate) fn check_commit(
    repo: &gix::Repository,
    commit: gix::ObjectId,
    known: Option<gix::ObjectId>,
    depth: Depth,
    limits: &Limits,
) -> Result<gix::ObjectId, Flaw> {
    let present = |id: gix::ObjectId| match depth {
        Depth::Presence => repo.has_object(id),
        Depth::Content => repo.find_object(id).is_ok_and(|object| {
            gix::objs::compute_hash(id.kind(), object.kind, &object.data).is_ok_and(|digest| digest == id)
        }),
    };
    let root_of = |id: gix::ObjectId| -> Result<gix::ObjectId, Flaw> {
        let mut buf = Vec::new();
        Ok(repo.objects.find_commit(&id, &mut buf).map_err(|_| Flaw::damaged("commit", id))?.tree())
    };
    let root = root_of(commit)?;
    let known = known.map(root_of).transpose()?;
    let mut seen = HashSet::new();
    let mut stack = vec![(root, known, String::new(), 0_usize)];
    while let Some((id, known, path, depth)) = stack.pop() {
        if Some(id) == known || !seen.insert(id) {
            continue;
        }
        if depth > limits.tree_depth {
            return Err(Flaw::Limit(format!("{path:?} lies deeper than {} folders", limits.tree_depth)));
        }
        let entries = load_tree(repo, id, &path, limits)?;
        let known = match known {
            Some(known) => load_tree(repo, known, &path, limits).ok(),
            None => None,
        };
        for entry in entries.iter() {
            let before = known.as_ref().and_then(|k| k.get(&entry.name)).map(|k| k.id);
            if before == Some(entry.id) {
                continue;
            }
            match entry.kind {
                Kind::Folder => {
                    stack.push((entry.id, before, join(&path, &entry.name), depth + 1));
                }
                Kind::File | Kind::Link => {
                    if !present(entry.id) {
                        let path = join(&path, &entry.name);
                        return Err(Flaw::Damaged(format!("{path:?} is missing or damaged")));
                    }
                }
                Kind::Submodule => {}
            }
        }
    }
    Ok(root)
}

/// Why a commit cannot be used.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// Objects are missing or unreadable.
    Damaged(String),
    /// It is whole, but breaks a limit or a rule of names.
    Limit(String),
}

impl Flaw {
    pub(crate) fn damaged(kind: &str, id: gix::ObjectId) -> Self {
        Flaw::Damaged(format!("{kind} {} cannot be read", id.to_hex()))
    }
}

impl From<Flaw> for Cause {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Damaged(reason) => Cause::Corrupt { reason },
            Flaw::Limit(reason) => Cause::CommitUnusable { reason },
        }
    }
}
