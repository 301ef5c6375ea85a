//! A clone somebody else made, read at any of its revisions: no checkout, no program, nothing written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless_protocol::id::Revision;
use gix::bstr::ByteSlice as _;

use crate::check::Flaw;
use crate::config::Limits;
use crate::history::{self, ChangedPath, CommitInfo};
use crate::mirror::root_of;
use crate::snapshot::Snapshot;
use crate::store::Repo;
use crate::tree::{GitTree, Kind, load_tree};
use crate::unseen::Unseen;

/// How many names a message shows.
const SHOWN: usize = 5;

/// What to do where a clone lacks commits.
const UNSHALLOW: &str = "fetch the whole history: `git fetch --unshallow`, or in a pipeline `fetch-depth: 0` (GitHub Actions), \
                         `GIT_DEPTH: 0` (GitLab CI)";

/// Why a repository could not be read: what was attempted, on which folder, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {attempt} the Git repository {}: {reason}; {advice}", .dir.display())]
pub struct RepositoryError {
    /// What was attempted, such as `find revision main in`.
    pub attempt: String,
    /// The repository's folder.
    pub dir: PathBuf,
    /// Why it failed.
    pub reason: String,
    /// What to do.
    pub advice: &'static str,
}

/// A repository of this machine: bare, or with a work tree.
#[derive(Debug)]
pub struct Repository {
    dir: PathBuf,
    repo: Arc<Repo>,
    limits: Limits,
}

impl Repository {
    /// Opens the repository in `dir`: a work tree's top, or a bare repository.
    ///
    /// # Errors
    /// When there is none, or one in a format that is not read.
    pub fn open(dir: &Path) -> Result<Self, RepositoryError> {
        let limits = Limits::default();
        let repo = Repo::foreign(dir, &limits).map_err(|cause| RepositoryError {
            attempt: "open".to_owned(),
            dir: dir.to_path_buf(),
            reason: cause.to_string(),
            advice: "name the top folder of a clone whose objects are named by SHA-1",
        })?;
        Ok(Self { dir: dir.to_path_buf(), repo: Arc::new(repo), limits })
    }

    fn error(&self, attempt: impl Into<String>, reason: impl Into<String>, advice: &'static str) -> RepositoryError {
        RepositoryError { attempt: attempt.into(), dir: self.dir.clone(), reason: reason.into(), advice }
    }

    /// The commit a text names as `git rev-parse` reads it: a branch, a tag, `HEAD~2`, `main@{1}`, the start of an id.
    ///
    /// # Errors
    /// When it names nothing, several things, or no commit.
    pub fn resolve(&self, text: &str) -> Result<Revision, RepositoryError> {
        let local = self.repo.local();
        let attempt = || format!("find revision {text:?} in");
        let id = local.rev_parse_single(text).map_err(|e| {
            let known = self.names(&local);
            let (shallow, advice) = self.fetched("check the spelling, or `git fetch` it first");
            let reason = format!("{}{known}{shallow}", clean(&e.to_string()));
            self.error(attempt(), reason, advice)
        })?;
        let commit = id.object().and_then(|object| object.peel_to_commit()).map_err(|e| {
            let reason = format!("it leads to no commit that can be read ({})", clean(&e.to_string()));
            self.error(attempt(), reason, self.fetched("name a branch, a tag or a commit").1)
        })?;
        let hex = commit.id.to_hex().to_string();
        // The start of an id is no name.
        let reference = if hex.starts_with(text) { String::new() } else { text.to_owned() };
        Ok(Revision { reference, commit: hex })
    }

    /// Whether only the newest commits were fetched: what came before is not there to be compared with.
    #[must_use]
    pub fn is_shallow(&self) -> bool {
        self.repo.local().is_shallow().unwrap_or(false)
    }

    /// Where commits are missing: what kind of clone it is, and what to do; else this advice.
    fn fetched(&self, advice: &'static str) -> (&'static str, &'static str) {
        if self.is_shallow() {
            ("; the clone is shallow, it has only its newest commits", UNSHALLOW)
        } else {
            ("", advice)
        }
    }

    fn names(&self, local: &gix::Repository) -> String {
        let Ok(platform) = local.references() else { return String::new() };
        let Ok(branches) = platform.prefixed("refs/heads/") else { return String::new() };
        let short = |r: gix::Reference<'_>| r.name().shorten().to_str().ok().map(str::to_owned);
        let names: Vec<String> = branches.filter_map(Result::ok).filter_map(short).take(SHOWN).collect();
        if names.is_empty() { String::new() } else { format!("; its branches are {}", names.join(", ")) }
    }

    /// The files of a revision below `folder` (`""` for all).
    ///
    /// # Errors
    /// When the commit or the folder is not there, or cannot be read.
    pub fn tree(&self, revision: &Revision, folder: &str) -> Result<GitTree, RepositoryError> {
        let attempt = || match folder {
            "" => format!("read the files of {revision} in"),
            _ => format!("read folder {folder:?} of {revision} in"),
        };
        self.ask(attempt, revision, |local, id| {
            let mut root = root_of(local, id)?;
            let mut end = 0;
            for segment in folder.split('/').filter(|s| !s.is_empty()) {
                end += segment.len();
                let lines = load_tree(local, root, folder.get(..end).unwrap_or(folder), &self.limits)?;
                let line = lines.get(segment).filter(|line| line.kind == Kind::Folder);
                root = line.ok_or_else(|| Flaw::Limit(format!("there is no folder {folder:?}")))?.id;
                end += 1;
            }
            Ok(root)
        })
        .map(|root| GitTree::new(self.repo.clone(), root, revision.clone(), self.limits.clone()))
    }

    /// The files on disk below `folder` of the work tree: tracked ones, and others unless the repository ignores them. A
    /// submodule is shown as one, and not what it holds: that is what a revision shows of it.
    ///
    /// # Errors
    /// When the index or an ignore file cannot be read.
    pub fn work_tree(&self, folder: &str) -> Result<Snapshot, RepositoryError> {
        let local = self.repo.local();
        let unseen = Unseen::of(&local, folder, self.limits.tree_depth).map_err(|e| {
            let advice = "check it with `git status`, or name a revision, which is read without its index";
            self.error("read the index and ignore rules of", clean(&e.to_string()), advice)
        })?;
        Ok(Snapshot::without(&self.dir.join(folder), unseen))
    }

    /// Every file, link or submodule that differs between two revisions, sorted by path.
    ///
    /// # Errors
    /// When a commit is not there or cannot be read.
    pub fn changed_paths(&self, from: &Revision, to: &Revision) -> Result<Vec<ChangedPath>, RepositoryError> {
        let attempt = || format!("compare {from} with {to} in");
        let old = self.ask(attempt, from, root_of)?;
        self.ask(attempt, to, |local, id| history::changed(local, old, root_of(local, id)?, &self.limits))
    }

    /// What a commit says about itself.
    ///
    /// # Errors
    /// When the commit is not there or cannot be read.
    pub fn commit_info(&self, revision: &Revision) -> Result<CommitInfo, RepositoryError> {
        self.ask(|| format!("read commit {revision} of"), revision, history::info)
    }

    /// The commit two revisions have in common: where a branch left another.
    ///
    /// # Errors
    /// When a commit is not there, the histories have nothing in common, or cannot be read.
    pub fn merge_base(&self, one: &Revision, two: &Revision) -> Result<Revision, RepositoryError> {
        let attempt = || format!("find what {one} and {two} have in common in");
        let first = self.ask(attempt, one, |_, id| Ok(id))?;
        let base = self.ask(attempt, two, |local, id| {
            let base = local.merge_base(first, id).map(|base| base.map(|id| id.detach()));
            let shallow = self.fetched("").0;
            base.map_err(|e| Flaw::Limit(format!("{}{shallow}", clean(&e.to_string()))))?
                .ok_or_else(|| Flaw::Limit(format!("their histories never meet{shallow}")))
        })?;
        Ok(Revision { reference: String::new(), commit: base.to_hex().to_string() })
    }

    /// The address of the remote `origin`, without user, password and query; `None` where there is none.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let text = self.repo.local().config_snapshot().string("remote.origin.url")?.to_string();
        crate::url::SourceUrl::parse(&text).ok().map(|url| url.to_string())
    }

    /// The branch that `origin` gives to who asks for none (`origin/HEAD`), else the branch that is checked out.
    #[must_use]
    pub fn main_branch(&self) -> Option<String> {
        let local = self.repo.local();
        let remote = local.try_find_reference("refs/remotes/origin/HEAD").ok().flatten();
        let remote = remote.and_then(|head| match head.target() {
            gix::refs::TargetRef::Symbolic(name) => {
                name.as_bstr().to_str().ok()?.strip_prefix("refs/remotes/origin/").map(str::to_owned)
            }
            gix::refs::TargetRef::Object(_) => None,
        });
        let checked_out = || Some(local.head_name().ok()??.shorten().to_str().ok()?.to_owned());
        remote.or_else(checked_out)
    }

    fn ask<T>(
        &self,
        attempt: impl Fn() -> String,
        revision: &Revision,
        question: impl FnOnce(&gix::Repository, gix::ObjectId) -> Result<T, Flaw>,
    ) -> Result<T, RepositoryError> {
        let local = self.repo.local();
        let absent = || {
            let (shallow, advice) = self.fetched("`git fetch` it first");
            self.error(attempt(), format!("it does not hold {revision}{shallow}"), advice)
        };
        let id = history::parse_id(revision).filter(|id| local.has_object(id)).ok_or_else(absent)?;
        question(&local, id).map_err(|flaw| match flaw {
            Flaw::Damaged(reason) if is_partial(&local) => self.error(
                attempt(),
                format!("{reason}; the clone is partial, files are fetched only when git itself asks for them"),
                WHOLE,
            ),
            Flaw::Damaged(reason) => self.error(attempt(), reason, "check it with `git fsck`"),
            Flaw::Limit(reason) => self.error(attempt(), reason, self.fetched("name another revision or folder").1),
        })
    }
}

/// What to do where a clone lacks files.
const WHOLE: &str = "clone without --filter, or `git fetch --refetch --no-filter`";

/// Why an object is missing, where the clone itself is the reason: a partial one.
pub(crate) fn missing(local: &gix::Repository, id: gix::ObjectId) -> String {
    let id = id.to_hex();
    if is_partial(local) {
        return format!("object {id} was not fetched, the clone is partial; {WHOLE}");
    }
    format!("object {id} is missing")
}

/// Whether a remote keeps objects back (`git clone --filter`).
fn is_partial(local: &gix::Repository) -> bool {
    let config = local.config_snapshot();
    let filter = |name: &str| config.string(format!("remote.{name}.partialclonefilter").as_str()).is_some();
    config.string("extensions.partialClone").is_some()
        || local.remote_names().iter().any(|name| filter(&name.to_string()))
}

/// One line, no control characters.
fn clean(text: &str) -> String {
    text.split(|c: char| c.is_control()).map(str::trim).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(": ")
}
