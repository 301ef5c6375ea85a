//! What a fetch does to a mirror, on its blocking thread: bring, check, sync, make it count; or clone afresh and swap.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driftless_protocol::id::Revision;

use crate::check::{Depth, Flaw, check_commit};
use crate::config::{Reference, SourceConfig};
use crate::error::Cause;
use crate::fetch::{self, Meter, Outcome};
use crate::history::{self, Relation};
use crate::mirror::{Fetched, Inner, Rewind, State, disk};
use crate::store::{Repo, Saved};
use crate::verify::{self, Verification};

impl Inner {
    pub(crate) fn fetch_blocking(&self, meter: &Meter) -> Result<Fetched, Cause> {
        let (repo, saved) = self.parts();
        if repo.is_suspect() {
            match whole(&repo, saved.revision.as_ref(), Depth::Content, &self.config) {
                Ok(()) => repo.trust_again(),
                Err(reason) => return self.renew(&repo, &saved, meter, format!("it was damaged: {reason}")),
            }
        }
        let packs = repo.packs().map_err(|e| disk("the mirror's folder cannot be read", &e))?;
        let grown = packs.len() >= self.renew_at.load(Ordering::Relaxed);
        if grown && let Some(fetched) = self.shrink(&repo, &saved, packs.len(), meter)? {
            return Ok(fetched);
        }
        match self.update(&repo, &saved, meter) {
            // Either the host's answer is damaged or what we hold to read it with. A fresh clone tells which.
            Err(Cause::Corrupt { reason }) if !packs.is_empty() && meter.stopped().is_none() => {
                self.renew(&repo, &saved, meter, format!("an update could not be read: {reason}"))
            }
            other => other,
        }
    }

    /// Clones a grown mirror afresh. `None`: it stays for now, and is to be updated as usual.
    fn shrink(&self, repo: &Arc<Repo>, saved: &Saved, packs: usize, meter: &Meter) -> Result<Option<Fetched>, Cause> {
        let limit = self.config.limits.packs.max(2);
        // Whatever comes of it, the next try is not at once: a repository that can be updated but no longer be cloned in
        // time must not stop being updated.
        self.renew_at.store(packs.saturating_add(limit / 2 + 1), Ordering::Relaxed);
        match self.replace(repo, saved, meter, format!("it had grown to {packs} packs"), false) {
            Ok(Some(fetched)) => {
                self.renew_at.store(limit, Ordering::Relaxed);
                Ok(Some(fetched))
            }
            Ok(None) => Ok(None),
            Err(cause) if meter.resume() => {
                tracing::warn!(source = %self.config.id, url = %self.config.url, reason = %cause, "the grown Git mirror cannot be cloned afresh; it is used on");
                Ok(None)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Fetches into the present repository.
    fn update(&self, repo: &Arc<Repo>, saved: &Saved, meter: &Meter) -> Result<Fetched, Cause> {
        let outcome = self.bring(repo, saved.revision.as_ref(), meter)?;
        let rewound = self.rewind(saved, &outcome, &[repo]);
        self.publish(repo.clone(), saved, outcome, rewound, None, meter)
    }

    /// Clones afresh because the present repository is of no use.
    fn renew(&self, repo: &Arc<Repo>, saved: &Saved, meter: &Meter, reason: String) -> Result<Fetched, Cause> {
        let nothing = || Cause::Corrupt { reason: "the mirror cannot be made anew".to_owned() };
        self.replace(repo, saved, meter, reason, true)?.ok_or_else(nothing)
    }

    /// Clones afresh beside the present repository and swaps. `None`: the branch was rewritten and `drop_old` is false; the
    /// old commits stay, because whether the new ones may be used is somebody's decision.
    fn replace(
        &self,
        repo: &Arc<Repo>,
        saved: &Saved,
        meter: &Meter,
        reason: String,
        drop_old: bool,
    ) -> Result<Option<Fetched>, Cause> {
        meter.extend(self.config.time_to_clone());
        let number = repo.name.trim_start_matches('r').parse::<u64>().unwrap_or(0).saturating_add(1);
        let name = format!("r{number}");
        let path = self.dir.join(&name);
        let remove = || match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(disk("a leftover clone cannot be removed", &e)),
            _ => Ok(()),
        };
        remove()?;
        let fresh = Repo::create(&self.dir, &name, &self.config.limits)
            .map_err(|e| disk("the new mirror cannot be made", &e))?;
        let fresh = Arc::new(fresh);
        let brought = self.bring(&fresh, None, meter);
        let outcome = match brought {
            Ok(outcome) => outcome,
            Err(cause) => {
                remove()?;
                return Err(cause);
            }
        };
        let rewound = self.rewind(saved, &outcome, &[&fresh, repo]);
        if rewound.is_some() && !drop_old {
            remove()?;
            return Ok(None);
        }
        tracing::info!(source = %self.config.id, url = %self.config.url, reason, "the Git mirror was cloned afresh");
        let fetched = self.publish(fresh, saved, outcome, rewound, Some(reason), meter)?;
        repo.condemn();
        Ok(Some(fetched))
    }

    /// Fetches, checks and syncs; on failure removes what arrived. Nothing counts yet.
    fn bring(&self, repo: &Repo, known: Option<&Revision>, meter: &Meter) -> Result<Outcome, Cause> {
        let config = &self.config;
        if let Some(v) = config.verification.as_ref().filter(|v| v.keys.is_empty()) {
            let unread = v.keys.unreadable();
            let why = if unread.is_empty() { "it holds none".to_owned() } else { unread.join(", ") };
            return Err(Cause::KeysMissing { reason: format!("{}: {why}", v.place) });
        }
        let before = repo.packs().map_err(|e| disk("the mirror's folder cannot be read", &e))?;
        let brought = fetch::run(config, &self.dir, repo, known.is_some(), meter).and_then(|outcome| {
            repo.reopen(&config.limits).map_err(|e| disk("the mirror cannot be opened again", &e))?;
            let local = repo.local();
            let known = known.and_then(history::parse_id).filter(|id| local.has_object(id));
            check_commit(&local, outcome.commit, known, Depth::Presence, &config.limits)?;
            if let Some(verification) = &config.verification {
                signatures(&local, &outcome, verification)?;
            }
            repo.sync(&before).map_err(|e| disk("the fetched pack cannot be written", &e))?;
            Ok(outcome)
        });
        // A failure that follows from ending the work is reported as that.
        let brought = brought.map_err(|cause| meter.stopped().unwrap_or(cause));
        let forgotten = repo.forget_incoming().map_err(|e| e.to_string());
        if brought.is_err() {
            let cleaned = repo.keep_only(&before).map_err(|e| e.to_string());
            let reopened = repo.reopen(&config.limits).map_err(|e| e.to_string());
            if let Err(e) = forgotten.and(cleaned).and(reopened) {
                tracing::warn!(source = %config.id, error = e, "what a failed fetch brought cannot be removed; it is tried again at the next start");
            }
        }
        brought
    }

    fn rewind(&self, saved: &Saved, outcome: &Outcome, repos: &[&Arc<Repo>]) -> Option<Rewind> {
        let from = saved.revision.as_ref()?;
        let old = history::parse_id(from)?;
        // A range moves on to other tags, and a commit is what the configuration says: neither is a rewritten branch.
        if old == outcome.commit || matches!(self.config.reference, Reference::Semver(_) | Reference::Commit { .. }) {
            return None;
        }
        let both = repos.iter().map(|r| r.local()).find(|l| l.has_object(old) && l.has_object(outcome.commit));
        // When no repository holds both, the new history does not contain the old commit, nor the other way round.
        let relation = both.map_or(Ok(Relation::Diverged), |l| history::relation(&l, old, outcome.commit));
        match relation {
            Ok(Relation::Same | Relation::Forward) => None,
            Ok(relation) => Some(Rewind { from: from.clone(), relation }),
            // An unreadable history must not pass for an ordinary one.
            Err(_) => Some(Rewind { from: from.clone(), relation: Relation::Diverged }),
        }
    }

    /// Makes the outcome count.
    fn publish(
        &self,
        repo: Arc<Repo>,
        saved: &Saved,
        outcome: Outcome,
        rewound: Option<Rewind>,
        renewed: Option<String>,
        meter: &Meter,
    ) -> Result<Fetched, Cause> {
        repo.point_at(outcome.commit).map_err(|e| disk("the mirror's reference cannot be written", &e))?;
        let revision = Revision { reference: outcome.name, commit: outcome.commit.to_hex().to_string() };
        let next = Saved { repository: repo.name.clone(), revision: Some(revision.clone()), ..saved.clone() };
        meter.commit()?;
        if next != *saved {
            next.store(&self.dir).map_err(|e| disk("state.json cannot be written", &e))?;
        }
        let previous = saved.revision.clone();
        *self.present() = State { repo, saved: next };
        Ok(Fetched {
            changed: previous.as_ref() != Some(&revision),
            revision,
            previous,
            rewound,
            renewed,
            bytes: meter.bytes(),
            objects: outcome.objects,
            elapsed: meter.elapsed(),
        })
    }
}

/// Whether what came is signed as it must be.
fn signatures(local: &gix::Repository, outcome: &Outcome, wanted: &Verification) -> Result<(), Cause> {
    let refused = |what: String, why: String| Cause::SignatureRefused { reason: format!("{what}: {why}") };
    let bytes = |id: gix::ObjectId| {
        let damaged = |_| Cause::Corrupt { reason: format!("object {} cannot be read", id.to_hex()) };
        local.find_object(id).map(|object| object.data.clone()).map_err(damaged)
    };
    if wanted.mode.tag() {
        let what = format!("tag {}", outcome.name);
        let Some(tag) = outcome.tag else {
            return Err(refused(
                what,
                "it is a plain name for a commit, and only a tag object can be signed".to_owned(),
            ));
        };
        let raw = bytes(tag)?;
        let named = verify::tag_name(&raw).unwrap_or_default();
        if named != outcome.name.strip_prefix("refs/tags/").unwrap_or(&outcome.name) {
            return Err(refused(what, format!("the tag object it leads to was signed as {named:?}")));
        }
        let signer = wanted.keys.check(&verify::split_tag(&raw)).map_err(|why| refused(what.clone(), why))?;
        tracing::debug!(tag = %outcome.name, signer, "the tag is signed");
    }
    if wanted.mode.commit() {
        let what = format!("commit {}", outcome.commit.to_hex());
        let signed = verify::split_commit(&bytes(outcome.commit)?).map_err(|why| refused(what.clone(), why))?;
        let signer = wanted.keys.check(&signed).map_err(|why| refused(what, why))?;
        tracing::debug!(commit = %outcome.commit.to_hex(), signer, "the commit is signed");
    }
    Ok(())
}

/// Whether the last good revision can be read.
pub(crate) fn whole(
    repo: &Repo,
    revision: Option<&Revision>,
    depth: Depth,
    config: &SourceConfig,
) -> Result<(), String> {
    repo.check_packs()?;
    let Some(revision) = revision else { return Ok(()) };
    let id = history::parse_id(revision).ok_or("state.json names no commit")?;
    match check_commit(&repo.local(), id, None, depth, &config.limits) {
        Ok(_) => Ok(()),
        // It passed when it was fetched: the limit was lowered since, which is no damage.
        Err(Flaw::Limit(_)) => Ok(()),
        Err(Flaw::Damaged(reason)) => Err(reason),
    }
}
