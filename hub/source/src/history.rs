//! Questions about commits that a mirror holds.

use driftless_protocol::id::Revision;

use crate::check::Flaw;
use crate::config::Limits;
use crate::tree::{Kind, Lines, join, load_tree};

/// What a commit says about itself. Everything here is claimed by whoever made it, unless its signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Name of the author, as claimed.
    pub author: String,
    /// Mail address of the author, as claimed.
    pub email: String,
    /// When it was committed, seconds since 1970, as claimed.
    pub time: i64,
    /// The first line of the message.
    pub subject: String,
    /// The commits it builds on.
    pub parents: Vec<String>,
}

/// How two commits stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Same,
    /// The second builds on the first: the usual case.
    Forward,
    /// The first builds on the second: the branch was rewound.
    Backward,
    /// Neither builds on the other.
    Diverged,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or kind differs.
    Modified,
    /// It is gone.
    Removed,
}

/// One path that differs between two revisions: a file, link or submodule, never a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// From the root, `/`-separated.
    pub path: String,
    /// What happened.
    pub change: Change,
}

pub(crate) fn parse_id(revision: &Revision) -> Option<gix::ObjectId> {
    gix::ObjectId::from_hex(revision.commit.as_bytes()).ok()
}

pub(crate) fn info(repo: &gix::Repository, id: gix::ObjectId) -> Result<CommitInfo, Flaw> {
    let damaged = |_| Flaw::damaged("commit", id);
    let commit = repo.find_commit(id).map_err(damaged)?;
    let decoded = commit.decode().map_err(|_| Flaw::damaged("commit", id))?;
    let author = decoded.author().map_err(|_| Flaw::damaged("commit", id))?;
    let time = commit.time().map_err(damaged)?;
    let first = decoded.message.split(|b| *b == b'\n').next().unwrap_or_default();
    let clean = |bytes: &[u8]| -> String {
        String::from_utf8_lossy(bytes)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect::<String>()
            .trim()
            .to_owned()
    };
    Ok(CommitInfo {
        author: clean(author.name),
        email: clean(author.email),
        time: time.seconds,
        subject: clean(first),
        parents: commit.parent_ids().map(|p| p.to_hex().to_string()).collect(),
    })
}

pub(crate) fn relation(repo: &gix::Repository, from: gix::ObjectId, to: gix::ObjectId) -> Result<Relation, Flaw> {
    if from == to {
        return Ok(Relation::Same);
    }
    match repo.merge_base(from, to) {
        Ok(Some(base)) if base == from => Ok(Relation::Forward),
        Ok(Some(base)) if base == to => Ok(Relation::Backward),
        Ok(_) => Ok(Relation::Diverged),
        Err(_) => {
            Err(Flaw::Damaged(format!("the history between {} and {} cannot be read", from.to_hex(), to.to_hex())))
        }
    }
}

/// Every path that differs, sorted. Folders equal on both sides are never opened: the cost follows the change.
pub(crate) fn changed(
    repo: &gix::Repository,
    from: gix::ObjectId,
    to: gix::ObjectId,
    limits: &Limits,
) -> Result<Vec<ChangedPath>, Flaw> {
    let mut out = Vec::new();
    let mut stack = vec![(String::new(), Some(from), Some(to))];
    while let Some((path, before, after)) = stack.pop() {
        let open = |id: Option<gix::ObjectId>| id.map(|id| load_tree(repo, id, &path, limits)).transpose();
        let (before, after) = (open(before)?, open(after)?);
        let find = |lines: &Option<Lines>, name: &str| {
            lines.as_ref().and_then(|l| l.get(name)).map(|line| (line.id, line.kind))
        };
        let names = |lines: &Option<Lines>| -> Vec<Box<str>> {
            lines.as_ref().map(|l| l.iter().map(|line| line.name.clone()).collect()).unwrap_or_default()
        };
        let mut all = names(&before);
        all.extend(names(&after));
        all.sort_unstable();
        all.dedup();
        for name in all {
            let (old, new) = (find(&before, &name), find(&after, &name));
            if old == new {
                continue;
            }
            let full = join(&path, &name);
            let folder = |side: Option<(gix::ObjectId, Kind)>| side.filter(|s| s.1 == Kind::Folder).map(|s| s.0);
            let leaf = |side: Option<(gix::ObjectId, Kind)>| side.filter(|s| s.1 != Kind::Folder);
            let change = match (leaf(old), leaf(new)) {
                (None, Some(_)) => Some(Change::Added),
                (Some(_), None) => Some(Change::Removed),
                (Some(_), Some(_)) => Some(Change::Modified),
                (None, None) => None,
            };
            if let Some(change) = change {
                out.push(ChangedPath { path: full.clone(), change });
            }
            if folder(old).is_some() || folder(new).is_some() {
                stack.push((full, folder(old), folder(new)));
            }
        }
    }
    out.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}
