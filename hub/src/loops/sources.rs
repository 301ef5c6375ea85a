//! Sources: a task per repository or artifact fetches it by its interval and when told; a failure leaves the last good
//! revision. Those that Git declares come and go with their declarations.

mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driftless_protocol::id::Revision;
use driftless_render::target::{GitRef, SourceDecl, normal_url};
use driftless_render::tree::Tree;
use driftless_source::{Mirror, OciMirror, SourceError};
use driftless_store::SourceStatus;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use open::SourceSetupError;
use open::{open_configured, open_declared};

use crate::clock;
use crate::config::{Config, Credential};
use crate::shared::Shared;

/// Fetches at one time: they are bound by network and disk.
const FETCHES: usize = 4;
/// Repositories that Git may declare.
const DECLARED: usize = 256;
/// The code of a source that was fetched.
pub(crate) const READY: &str = "Ready";
/// How long a declared source is kept after the last render that wanted it: a branch that is pushed back and forth, or a root
/// that cannot be built for a while, must not cost a clone.
pub(crate) const UNWANTED: Duration = Duration::from_secs(15 * 60);

/// All sources.
#[derive(Debug)]
pub(crate) struct Book {
    handles: Mutex<BTreeMap<String, Arc<Handle>>>,
    /// Declared, and impossible to set up: by key.
    refused: Mutex<BTreeMap<String, Refused>>,
    credentials: Vec<Credential>,
    adopt: mpsc::Sender<SourceDecl>,
    adopted: Mutex<Option<mpsc::Receiver<SourceDecl>>>,
}

/// A declared source that cannot even be tried.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) declared: SourceDecl,
    pub(crate) reason: String,
    /// Unix milliseconds.
    pub(crate) since: u64,
}

/// What a source is kept in.
#[derive(Clone, Debug)]
pub(crate) enum Copy {
    Git(Mirror),
    Oci(OciMirror),
}

impl Copy {
    /// The last good revision.
    pub(crate) fn current(&self) -> Option<Revision> {
        match self {
            Copy::Git(mirror) => mirror.current(),
            Copy::Oci(mirror) => mirror.current(),
        }
    }

    pub(crate) fn tree(&self, revision: &Revision) -> Result<Arc<dyn Tree>, SourceError> {
        Ok(match self {
            Copy::Git(mirror) => Arc::new(mirror.tree(revision)?),
            Copy::Oci(mirror) => mirror.tree(revision)?,
        })
    }
}

/// One source.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) url: String,
    pub(crate) reference: GitRef,
    pub(crate) aliases: Vec<(String, Option<GitRef>)>,
    pub(crate) configured: bool,
    /// Whether only signed revisions count.
    pub(crate) verified: bool,
    /// What it is fetched for ([`SourceDecl::fetch_key`] and the credentials in use); none for a configured one.
    key: String,
    folder: PathBuf,
    /// Git says `spec.suspend: true`: what was fetched stays, nothing new is.
    suspended: AtomicBool,
    interval: Duration,
    copy: Copy,
    status: Mutex<SourceStatus>,
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
    /// Since when no render wants it.
    unwanted: Mutex<Option<Instant>>,
    /// It is forgotten.
    stop: CancellationToken,
}

impl Book {
    /// Opens the mirrors of the configured sources. Talks to no host.
    pub(crate) fn open(config: &Config, known: &[SourceStatus]) -> Result<Self, SourceSetupError> {
        let (adopt, adopted) = mpsc::channel(64);
        let mut handles = BTreeMap::new();
        for source in &config.sources {
            let handle = open_configured(config, source, known)?;
            handles.insert(handle.id.clone(), Arc::new(handle));
        }
        Ok(Self {
            handles: Mutex::new(handles),
            refused: Mutex::default(),
            credentials: config.credentials.clone(),
            adopt,
            adopted: Mutex::new(Some(adopted)),
        })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn insert(&self, handle: Arc<Handle>) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.key);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.id.clone(), handle);
    }

    /// Git declares this repository: fetch it too. Said again with every render, so a full queue loses nothing.
    pub(crate) fn want(&self, declared: &SourceDecl) {
        match self.find(declared) {
            Some(handle) if !handle.configured => handle.suspended.store(declared.suspend, Ordering::Relaxed),
            Some(_) => {}
            None => {
                let _ = self.adopt.try_send(declared.clone());
            }
        }
    }

    /// The source that serves a declaration. One that asks for signatures is served only by a copy that was checked with its
    /// keys.
    pub(crate) fn find(&self, wanted: &SourceDecl) -> Option<Arc<Handle>> {
        let key = self.key_of(wanted);
        let url = normal_url(&wanted.url);
        let plain = wanted.kind == "GitRepository" && wanted.verify.is_none();
        let serves = |h: &Arc<Handle>| match h.configured {
            true => plain && normal_url(&h.url) == url && h.reference == wanted.reference,
            false => h.key == key,
        };
        self.all().into_iter().find(serves)
    }

    /// Why a declaration cannot be served at all.
    pub(crate) fn refusal(&self, wanted: &SourceDecl) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(&self.key_of(wanted)).cloned()
    }

    pub(crate) fn refusals(&self) -> Vec<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether that is news.
    fn refuse(&self, declared: &SourceDecl, reason: String) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.get_mut(&self.key_of(declared)) {
            Some(known) if known.reason == reason => false,
            _ => {
                let since = clock::millis();
                refused.insert(self.key_of(declared), Refused { declared: declared.clone(), reason, since });
                true
            }
        }
    }

    /// Declarations with the same content and the same credentials share a copy; others must not see what those of somebody
    /// else may.
    fn key_of(&self, declared: &SourceDecl) -> String {
        let credential = open::credential(&self.credentials, declared).map(|(index, _)| index);
        format!("{} {credential:?}", declared.fetch_key())
    }

    /// Lets go of declared sources that no render has wanted for `grace`. Gives those that are gone.
    pub(crate) fn forget(&self, wanted: &[SourceDecl], now: Instant, grace: Duration) -> Vec<Arc<Handle>> {
        let keys: BTreeSet<String> = wanted.iter().map(|w| self.key_of(w)).collect();
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| keys.contains(key));
        let mut gone = Vec::new();
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, handle| {
            if handle.configured {
                return true;
            }
            let mut unwanted = handle.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
            if keys.contains(&handle.key) {
                *unwanted = None;
                return true;
            }
            let since = *unwanted.get_or_insert(now);
            let stays = now.saturating_duration_since(since) < grace;
            if !stays {
                handle.stop.cancel();
                gone.push(handle.clone());
            }
            stays
        });
        gone
    }
}

impl Handle {
    pub(crate) fn status(&self) -> SourceStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn copy(&self) -> &Copy {
        &self.copy
    }

    /// Asks for a fetch that begins from now on; waits for its end with [`Handle::fetched`].
    pub(crate) fn kick(&self) -> u64 {
        let mut number = 0;
        self.asked.send_modify(|n| {
            *n += 1;
            number = *n;
        });
        number
    }

    pub(crate) async fn fetched(&self, number: u64) {
        // It fails only when the hub stops, and then nobody waits for the answer.
        let _ = self.done.subscribe().wait_for(|done| *done >= number).await;
    }
}

/// Owns a task per source until the hub stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let adopted = shared.sources.adopted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut adopted) = adopted else { return };
    let slots = Arc::new(Semaphore::new(FETCHES));
    let mut tasks = JoinSet::new();
    for handle in shared.sources.all() {
        tasks.spawn(follow(shared.clone(), handle, slots.clone()));
    }
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            Some(declared) = adopted.recv() => {
                if let Some(handle) = adopt(&shared, &declared).await {
                    tasks.spawn(follow(shared.clone(), handle, slots.clone()));
                }
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a source ended; it is not fetched any more until the hub restarts");
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn follow(shared: Arc<Shared>, handle: Arc<Handle>, slots: Arc<Semaphore>) {
    let mut asked = handle.asked.subscribe();
    loop {
        let number = *asked.borrow_and_update();
        let Ok(slot) = slots.acquire().await else { return };
        if !handle.suspended.load(Ordering::Relaxed) || handle.copy.current().is_none() {
            fetch(&shared, &handle).await;
        }
        drop(slot);
        handle.done.send_replace(number);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = handle.stop.cancelled() => return drop_copy(&shared, handle).await,
            () = tokio::time::sleep(handle.interval) => {}
            changed = asked.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Removes what was kept of a source that nobody wants any more.
async fn drop_copy(shared: &Shared, handle: Arc<Handle>) {
    tracing::info!(source = %handle.id, url = %handle.url, "no cluster's tree declares it any more; it is forgotten");
    if let Err(error) = shared.store.remove_source(handle.id.clone()).await {
        tracing::warn!(source = %handle.id, error = %crate::chain(&error), "a source's status cannot be removed");
    }
    let folder = handle.folder.clone();
    drop(handle);
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "what was kept of a forgotten source cannot be removed");
    }
}

/// What came of a fetch.
struct News {
    revision: Revision,
    changed: bool,
    bytes: u64,
    /// The revision before, of which the new one knows nothing.
    rewritten: Option<Revision>,
}

async fn fetch_copy(copy: &Copy, cancel: &CancellationToken) -> Result<News, SourceError> {
    Ok(match copy {
        Copy::Git(mirror) => {
            let fetched = mirror.fetch(cancel).await?;
            let rewritten = fetched.rewound.map(|rewind| rewind.from);
            News { revision: fetched.revision, changed: fetched.changed, bytes: fetched.bytes, rewritten }
        }
        Copy::Oci(mirror) => {
            let pulled = mirror.fetch(cancel).await?;
            News { revision: pulled.revision, changed: pulled.changed, bytes: pulled.bytes, rewritten: None }
        }
    })
}

async fn fetch(shared: &Shared, handle: &Handle) {
    let result = fetch_copy(&handle.copy, &shared.stop).await;
    if shared.stop.is_cancelled() || handle.stop.is_cancelled() {
        return;
    }
    let now = clock::millis();
    let mut status = handle.status();
    status.attempted_at = now;
    let code;
    match &result {
        Ok(fetched) => {
            code = READY;
            let signed = if handle.verified { ", its signature verified" } else { "" };
            status.message = format!("stored revision {}{signed}", fetched.revision);
            if let Some(from) = &fetched.rewritten {
                status.message =
                    format!("stored revision {}{signed}; the branch was rewritten (before: {from})", fetched.revision);
                tracing::warn!(source = %handle.id, url = %handle.url, %from, revision = %fetched.revision,
                    "the branch was rewritten");
            }
            if fetched.changed || status.last_good.is_none() {
                tracing::info!(source = %handle.id, url = %handle.url, revision = %fetched.revision,
                    bytes = fetched.bytes, "fetched");
            }
            status.last_good = Some((fetched.revision.clone(), now));
        }
        Err(error) => {
            code = error.code();
            status.message = error.to_string();
            if status.code != code {
                tracing::warn!(source = %handle.id, url = %handle.url, code, error = %crate::chain(error), "a source cannot be fetched");
            }
        }
    }
    if status.code != code {
        code.clone_into(&mut status.code);
        status.since = now;
    }
    *handle.status.lock().unwrap_or_else(PoisonError::into_inner) = status.clone();
    if let Err(error) = shared.store.put_source(status).await {
        tracing::warn!(source = %handle.id, error = %crate::chain(&error), "a source's status cannot be stored");
    }
    // Also when nothing changed: a cluster may have enrolled, or a declared source come to be known.
    shared.wake.render.notify_one();
}

async fn adopt(shared: &Arc<Shared>, declared: &SourceDecl) -> Option<Arc<Handle>> {
    if shared.sources.find(declared).is_some() {
        return None;
    }
    let label = declared.label();
    let refuse = |reason: String| {
        if shared.sources.refuse(declared, reason.clone()) {
            tracing::warn!(source = %label, url = %declared.url, reason, "a source declared in Git cannot be fetched");
            shared.wake.render.notify_one();
        }
        None
    };
    let all = shared.sources.all();
    if all.iter().filter(|h| !h.configured).count() >= DECLARED {
        return refuse(format!("Git declares more than {DECLARED} sources, which is what the hub fetches"));
    }
    // One name may stand for different repositories in different clusters.
    let taken = all.iter().any(|h| h.id == label);
    let (worker, wanted, key) = (shared.clone(), declared.clone(), shared.sources.key_of(declared));
    let opened = tokio::task::spawn_blocking(move || open_declared(&worker.config, &wanted, &key, taken)).await;
    match opened {
        Ok(Ok(handle)) => {
            let handle = Arc::new(handle);
            shared.sources.insert(handle.clone());
            tracing::info!(source = %handle.id, url = %handle.url, "a source declared in Git is fetched from now on");
            Some(handle)
        }
        Ok(Err(error)) => refuse(crate::chain(&error)),
        Err(error) => refuse(format!("it cannot be opened: {error}")),
    }
}

#[cfg(test)]
mod tests;
