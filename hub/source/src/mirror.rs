//! The handle of one source.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use driftless_protocol::id::Revision;
use tokio_util::sync::CancellationToken;

use crate::check::{Depth, Flaw};
use crate::config::SourceConfig;
use crate::error::{Cause, Failure, SourceError};
use crate::fetch::{self, Meter};
use crate::history::{self, ChangedPath, CommitInfo, Relation};
use crate::store::{Repo, Saved};
use crate::tree::GitTree;
use crate::work::whole;

/// In what state [`Mirror::open`] found the mirror's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing was there: the first fetch clones.
    New,
    /// The last good revision is readable.
    Usable,
    /// It was for another repository or reference: the first fetch decides the revision.
    Retargeted,
    /// It was damaged beyond use and is made anew by the first fetch.
    Renewed {
        /// What was damaged.
        reason: String,
    },
}

/// The new commit does not build on the last good one: somebody rewrote the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// The last good revision before. It stays readable until the mirror is next cloned afresh.
    pub from: Revision,
    /// [`Relation::Backward`] or [`Relation::Diverged`].
    pub relation: Relation,
}

/// A fetch that succeeded.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The revision that counts now.
    pub revision: Revision,
    /// The one before, of the same reference.
    pub previous: Option<Revision>,
    /// Whether they differ.
    pub changed: bool,
    /// Set when the branch was rewritten. The new revision is current nevertheless: whether it may be rolled out is the
    /// caller's to decide, who can ask again at any time with [`Mirror::relation`].
    pub rewound: Option<Rewind>,
    /// Why the mirror was cloned afresh, if it was.
    pub renewed: Option<String>,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Objects that arrived.
    pub objects: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A bare mirror of one repository at one reference. Cheap to clone. The folder is locked: it can be open once.
#[derive(Clone, Debug)]
pub struct Mirror {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    /// Held as long as the mirror lives: two of them in one folder would remove each other's packs.
    lock: fs::File,
    pub(crate) config: SourceConfig,
    /// The number of packs at which the mirror is cloned afresh.
    pub(crate) renew_at: AtomicUsize,
    opened: Opened,
    state: Mutex<State>,
    /// One fetch at a time. Held by the blocking thread itself, so that one that was given up cannot meet the next.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) repo: Arc<Repo>,
    pub(crate) saved: Saved,
}

impl Mirror {
    /// Opens the mirror in `dir`, or prepares a new one; checks that the last good revision is whole, and removes what an
    /// interrupted fetch left behind. Does not talk to the host. Blocks for as long as it takes to walk one tree.
    ///
    /// # Errors
    /// When `dir` cannot be written or is open already, or the configuration cannot be used. Damage is no error: see [`Mirror::opened`].
    pub fn open(dir: &Path, config: SourceConfig) -> Result<Mirror, SourceError> {
        let fail = |cause| error(&config, "open the mirror of", cause, None);
        fetch::check_config(&config).map_err(fail)?;
        fs::create_dir_all(dir).map_err(|e| fail(disk("the mirror's folder cannot be made", &e)))?;
        let lock =
            fs::File::create(dir.join("lock")).map_err(|e| fail(disk("the mirror's folder cannot be written", &e)))?;
        lock.try_lock().map_err(|_| fail(disk("the mirror's folder is in use", &"it is open elsewhere")))?;
        let digest = blake3::hash(config.url.normalized().as_bytes()).to_hex().to_string();
        let wanted = config.wanted();
        let found = match Saved::load(dir) {
            Ok(None) => None,
            Ok(Some(saved)) => Some(reopen(dir, saved, &digest, &wanted, &config)),
            Err(reason) => Some(Err(reason)),
        };
        let (repo, saved, opened) = match found {
            Some(Ok((repo, saved, opened))) => (repo, saved, opened),
            other => {
                let reason = other.and_then(Result::err);
                sweep(dir, None).map_err(|e| fail(disk("leftovers cannot be removed", &e)))?;
                let repo =
                    Repo::create(dir, "r1", &config.limits).map_err(|e| fail(disk("the mirror cannot be made", &e)))?;
                let saved = Saved::new("r1", &digest, &wanted);
                saved.store(dir).map_err(|e| fail(disk("state.json cannot be written", &e)))?;
                let opened = match reason {
                    None => Opened::New,
                    Some(reason) => {
                        tracing::warn!(source = %config.id, url = %config.url, reason, "the Git mirror is damaged and made anew");
                        Opened::Renewed { reason }
                    }
                };
                (repo, saved, opened)
            }
        };
        sweep(dir, Some(&repo.name)).map_err(|e| fail(disk("leftovers cannot be removed", &e)))?;
        let state = Mutex::new(State { repo: Arc::new(repo), saved });
        let inner = Inner {
            dir: dir.to_path_buf(),
            lock,
            renew_at: AtomicUsize::new(config.limits.packs.max(2)),
            config,
            opened,
            state,
            turn: Arc::default(),
        };
        Ok(Mirror { inner: Arc::new(inner) })
    }

    /// In what state the folder was found.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.inner.opened
    }

    /// The configuration it follows.
    #[must_use]
    pub fn config(&self) -> &SourceConfig {
        &self.inner.config
    }

    /// The last good revision, also after failed fetches and restarts. None before the first success.
    #[must_use]
    pub fn current(&self) -> Option<Revision> {
        self.inner.present().saved.revision.clone()
    }

    /// Fetches what is new. Gives up at the configured timeout (a clone has its own, longer one) or when `cancel` fires; a dropped future also stops the
    /// work. One fetch runs at a time; a second one waits within its own timeout.
    ///
    /// # Errors
    /// See [`Cause`]. Nothing changes: the last good revision stays, and what had arrived is removed.
    pub async fn fetch(&self, cancel: &CancellationToken) -> Result<Fetched, SourceError> {
        let inner = self.inner.clone();
        let started = Instant::now();
        let before = self.current();
        let meter =
            Meter::new(started, if before.is_none() { inner.config.time_to_clone() } else { inner.config.timeout });
        let stopper = meter.stop_on_drop();
        let attempt = format!("fetch {} from", inner.config.reference);
        let late = async {
            // The thread at work may find that it has to clone and take more time.
            while !meter.remaining().is_zero() {
                tokio::time::sleep(meter.remaining()).await;
            }
            meter.overdue()
        };
        tokio::pin!(late);

        let turn = tokio::select! {
            turn = inner.turn.clone().lock_owned() => turn,
            () = cancel.cancelled() => return Err(error(&inner.config, &attempt, Cause::Cancelled, before)),
            cause = &mut late => return Err(error(&inner.config, &attempt, cause, before)),
        };
        let work = {
            let (inner, meter) = (inner.clone(), meter.clone());
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                inner.fetch_blocking(&meter)
            })
        };
        tokio::pin!(work);
        let cause = tokio::select! {
            joined = &mut work => return inner.joined(joined, &attempt),
            () = cancel.cancelled() => Cause::Cancelled,
            cause = &mut late => cause,
        };
        if !meter.stop(cause.clone()) {
            return inner.joined(work.await, &attempt); // it succeeded in the same moment
        }
        // The thread may still sit in a read that ends with the connection's own timeout. It keeps its turn until then and
        // removes what it brought; the caller need not wait for that.
        drop(stopper);
        Err(error(&inner.config, &attempt, cause, before))
    }

    /// The tree of a revision. Any commit in the mirror's history can be read.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`], [`Cause::Corrupt`].
    pub fn tree(&self, revision: &Revision) -> Result<GitTree, SourceError> {
        let (repo, _) = self.inner.parts();
        let root = self.inner.ask("read the files of", revision, &repo, root_of)?;
        Ok(GitTree::new(repo, root, revision.clone(), self.inner.config.limits.clone()))
    }

    /// Every file, link or submodule that differs between two revisions, sorted by path.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`], [`Cause::Corrupt`].
    pub fn changed_paths(&self, from: &Revision, to: &Revision) -> Result<Vec<ChangedPath>, SourceError> {
        let (repo, _) = self.inner.parts();
        let old = self.inner.ask("compare revisions of", from, &repo, root_of)?;
        self.inner.ask("compare revisions of", to, &repo, |local, id| {
            history::changed(local, old, root_of(local, id)?, &self.inner.config.limits)
        })
    }

    /// What a commit says about itself.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`], [`Cause::Corrupt`].
    pub fn commit_info(&self, revision: &Revision) -> Result<CommitInfo, SourceError> {
        let (repo, _) = self.inner.parts();
        self.inner.ask("read a commit of", revision, &repo, history::info)
    }

    /// How `to` stands to `from`.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`], [`Cause::Corrupt`].
    pub fn relation(&self, from: &Revision, to: &Revision) -> Result<Relation, SourceError> {
        let (repo, _) = self.inner.parts();
        let old = self.inner.ask("compare revisions of", from, &repo, |_, id| Ok(id))?;
        self.inner.ask("compare revisions of", to, &repo, |local, id| history::relation(local, old, id))
    }

    /// Whether `descendant` is `ancestor` or builds on it.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`], [`Cause::Corrupt`].
    pub fn is_ancestor(&self, ancestor: &Revision, descendant: &Revision) -> Result<bool, SourceError> {
        Ok(matches!(self.relation(ancestor, descendant)?, Relation::Same | Relation::Forward))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Said aloud: a child process that is just being started holds a copy of the file until it runs its program.
        drop(self.lock.unlock());
    }
}

impl Inner {
    pub(crate) fn present(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn parts(&self) -> (Arc<Repo>, Saved) {
        let state = self.present();
        (state.repo.clone(), state.saved.clone())
    }

    /// Runs a question about one commit that must be there.
    fn ask<T>(
        &self,
        attempt: &str,
        revision: &Revision,
        repo: &Repo,
        question: impl FnOnce(&gix::Repository, gix::ObjectId) -> Result<T, Flaw>,
    ) -> Result<T, SourceError> {
        let fail = |cause| error(&self.config, attempt, cause, self.present().saved.revision.clone());
        let unknown = || fail(Cause::RevisionUnknown { revision: revision.to_string() });
        let local = repo.local();
        let id = history::parse_id(revision).filter(|id| local.has_object(id)).ok_or_else(unknown)?;
        question(&local, id).map_err(|flaw| {
            repo.suspect();
            fail(flaw.into())
        })
    }

    fn joined(
        &self,
        joined: Result<Result<Fetched, Cause>, tokio::task::JoinError>,
        attempt: &str,
    ) -> Result<Fetched, SourceError> {
        let result = joined.unwrap_or_else(|_| {
            // A panic of the Git library over hostile or damaged data must not end the hub; the panic hook has logged it.
            self.present().repo.suspect();
            Err(Cause::Corrupt { reason: "the data could not be decoded".to_owned() })
        });
        result.map_err(|cause| error(&self.config, attempt, cause, self.present().saved.revision.clone()))
    }
}

pub(crate) fn disk(what: &str, e: &dyn std::fmt::Display) -> Cause {
    Cause::Disk { reason: format!("{what}: {e}") }
}

fn error(config: &SourceConfig, attempt: &str, cause: Cause, last_good: Option<Revision>) -> SourceError {
    let failure =
        Failure { id: config.id.clone(), attempt: attempt.to_owned(), url: config.url.to_string(), cause, last_good };
    failure.into()
}

pub(crate) fn root_of(local: &gix::Repository, id: gix::ObjectId) -> Result<gix::ObjectId, Flaw> {
    let damaged = |_| Flaw::damaged("commit", id);
    Ok(local.find_commit(id).map_err(damaged)?.tree_id().map_err(damaged)?.detach())
}

fn reopen(
    dir: &Path,
    mut saved: Saved,
    digest: &str,
    wanted: &str,
    config: &SourceConfig,
) -> Result<(Repo, Saved, Opened), String> {
    let repo = Repo::open(dir, &saved.repository, &config.limits)
        .map_err(|_| format!("the repository in {} cannot be opened", saved.repository))?;
    repo.keep_only(&repo.packs().map_err(|e| e.to_string())?)
        .map_err(|e| format!("leftovers cannot be removed: {e}"))?;
    let mut opened = if saved.revision.is_some() { Opened::Usable } else { Opened::New };
    if saved.url_digest != digest || saved.wanted != wanted {
        // The objects stay: they spare the transfer where the new source shares history with the old one.
        saved = Saved::new(&saved.repository, digest, wanted);
        saved.store(dir).map_err(|e| format!("state.json cannot be written: {e}"))?;
        opened = Opened::Retargeted;
    }
    whole(&repo, saved.revision.as_ref(), Depth::Presence, config)?;
    Ok((repo, saved, opened))
}

/// Removes everything in the mirror's folder that does not count, or all of it.
fn sweep(dir: &Path, keep: Option<&str>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let repository = name.strip_prefix('r').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let counts = Some(&*name) == keep || (keep.is_some() && name == "state.json");
        // Only what a mirror makes: a folder given by mistake keeps its files.
        let ours = repository || matches!(&*name, "state.json" | "state.json.new" | "keys");
        if counts || !ours {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
