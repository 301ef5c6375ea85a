//! Sources: a task per repository fetches it by its interval and when told; a failure leaves the last good revision.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driftless_protocol::id::Digest;
use driftless_render::target::{GitRef, SourceDecl, normal_url};
use driftless_source::config::{Proxy, SshAuth, SshIdentity};
use driftless_source::{Auth, Mirror, Reference, Secret, SourceConfig as MirrorConfig, SourceUrl, Transport};
use driftless_store::SourceStatus;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::clock;
use crate::config::{AuthConfig, Config, Credential, ProxyConfig, SourceConfig};
use crate::shared::Shared;

/// Fetches at one time: they are bound by network and disk.
const FETCHES: usize = 4;
/// Repositories that Git may declare.
const DECLARED: usize = 256;
/// The code of a source that was fetched.
pub(crate) const READY: &str = "Ready";

/// All sources.
#[derive(Debug)]
pub(crate) struct Book {
    handles: Mutex<BTreeMap<String, Arc<Handle>>>,
    adopt: mpsc::Sender<SourceDecl>,
    adopted: Mutex<Option<mpsc::Receiver<SourceDecl>>>,
}

/// One source.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) reference: GitRef,
    pub(crate) aliases: Vec<(String, Option<GitRef>)>,
    pub(crate) configured: bool,
    /// Git says `spec.suspend: true`: what was fetched stays, nothing new is.
    suspended: AtomicBool,
    interval: Duration,
    mirror: Mirror,
    status: Mutex<SourceStatus>,
    asked: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceSetupError {
    /// Its address.
    #[error("the source {id}: {reason}")]
    Url {
        /// `namespace/name`.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A file it names.
    #[error("the source {id}: cannot read {}", path.display())]
    File {
        /// `namespace/name`.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its mirror.
    #[error(transparent)]
    Mirror(#[from] driftless_source::SourceError),
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
        Ok(Self { handles: Mutex::new(handles), adopt, adopted: Mutex::new(Some(adopted)) })
    }

    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn insert(&self, handle: Arc<Handle>) {
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

    /// A source by address and reference.
    pub(crate) fn find(&self, wanted: &SourceDecl) -> Option<Arc<Handle>> {
        if wanted.kind != "GitRepository" || wanted.verify.is_some() {
            return None;
        }
        let url = normal_url(&wanted.url);
        self.all().into_iter().find(|h| normal_url(&h.url) == url && h.reference == wanted.reference)
    }
}

impl Handle {
    pub(crate) fn status(&self) -> SourceStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
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
        if !handle.suspended.load(Ordering::Relaxed) || handle.mirror.current().is_none() {
            fetch(&shared, &handle).await;
        }
        drop(slot);
        handle.done.send_replace(number);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(handle.interval) => {}
            changed = asked.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn fetch(shared: &Shared, handle: &Handle) {
    let result = handle.mirror.fetch(&shared.stop).await;
    if shared.stop.is_cancelled() {
        return;
    }
    let now = clock::millis();
    let mut status = handle.status();
    status.attempted_at = now;
    let code;
    match &result {
        Ok(fetched) => {
            code = READY;
            status.message = format!("stored revision {}", fetched.revision);
            if let Some(rewind) = &fetched.rewound {
                status.message =
                    format!("stored revision {}; the branch was rewritten (before: {})", fetched.revision, rewind.from);
                tracing::warn!(source = %handle.id, url = %handle.url, from = %rewind.from, revision = %fetched.revision,
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
    let count = shared.sources.all().iter().filter(|h| !h.configured).count();
    if count >= DECLARED {
        tracing::warn!(source = %declared.id, limit = DECLARED, "Git declares more repositories than the hub fetches");
        return None;
    }
    let worker = shared.clone();
    let wanted = declared.clone();
    let opened = tokio::task::spawn_blocking(move || open_declared(&worker.config, &wanted)).await;
    match opened {
        Ok(Ok(handle)) => {
            let handle = Arc::new(handle);
            shared.sources.insert(handle.clone());
            tracing::info!(source = %handle.id, url = %handle.url, "a repository declared in Git is fetched from now on");
            Some(handle)
        }
        Ok(Err(error)) => {
            tracing::warn!(source = %declared.id, error = %crate::chain(&error), "a repository declared in Git cannot be fetched");
            None
        }
        Err(error) => {
            tracing::error!(source = %declared.id, %error, "a repository declared in Git cannot be opened");
            None
        }
    }
}

fn open_configured(config: &Config, source: &SourceConfig, known: &[SourceStatus]) -> Result<Handle, SourceSetupError> {
    let reference = match source {
        SourceConfig { commit: Some(id), .. } => Reference::Commit { id: id.clone(), branch: None },
        SourceConfig { name_of_ref: Some(name), .. } => Reference::Name(name.clone()),
        SourceConfig { semver: Some(range), .. } => Reference::Semver(range.clone()),
        SourceConfig { tag: Some(tag), .. } => Reference::Tag(tag.clone()),
        SourceConfig { branch, .. } => Reference::Branch(branch.clone().unwrap_or_else(|| "main".to_owned())),
    };
    let url = parse_url(&source.name, &source.url)?;
    let mut mirror = MirrorConfig::new(&source.name, url, reference);
    mirror.timeout = Duration::from_secs(source.timeout_seconds);
    access(&mut mirror, source.auth.as_ref(), source.ca_file.as_ref(), source.proxy.as_ref())?;
    let aliases = source.aliases.iter().map(|a| (normal_url(&a.url), a.branch.clone().map(GitRef::Branch))).collect();
    let interval = Duration::from_secs(source.interval_seconds);
    open(config, mirror, interval, aliases, true, known)
}

fn open_declared(config: &Config, declared: &SourceDecl) -> Result<Handle, SourceSetupError> {
    let url = parse_url(&declared.id, &declared.url)?;
    let invalid = |reason: &str| SourceSetupError::Url { id: declared.id.clone(), reason: reason.to_owned() };
    if declared.kind != "GitRepository" {
        return Err(invalid(&format!("a {} is not fetched yet", declared.kind)));
    }
    if declared.verify.is_some() {
        return Err(invalid("its signatures cannot be checked yet"));
    }
    // A commit must not make the hub read its own disk, or speak to its neighbours on loopback.
    if url.transport() == Transport::File || url.is_loopback() {
        return Err(invalid("an address of the hub's own machine is fetched only when the start file names it"));
    }
    let credential: Option<&Credential> = config
        .credentials
        .iter()
        .filter(|c| declared.url.starts_with(&c.url_prefix))
        .max_by_key(|c| c.url_prefix.len());
    // One name may stand for different repositories in different clusters.
    let id = if config.sources.iter().any(|s| s.name == declared.id) {
        let digest = Digest::of(format!("{} {}", normal_url(&declared.url), declared.reference).as_bytes());
        format!("{}@{}", declared.id, digest.short())
    } else {
        declared.id.clone()
    };
    let mut mirror = MirrorConfig::new(id, url, reference(&declared.reference));
    if let Some(credential) = credential {
        access(&mut mirror, credential.auth.as_ref(), credential.ca_file.as_ref(), credential.proxy.as_ref())?;
    }
    // The interval of the object, within reason.
    let interval = Duration::from_secs(declared.interval_seconds.clamp(30, 3600));
    open(config, mirror, interval, Vec::new(), false, &[])
}

fn open(
    config: &Config,
    mirror: MirrorConfig,
    interval: Duration,
    aliases: Vec<(String, Option<GitRef>)>,
    configured: bool,
    known: &[SourceStatus],
) -> Result<Handle, SourceSetupError> {
    let folder = config.mirrors.join(folder_name(&mirror));
    let (id, url, reference) = (mirror.id.clone(), mirror.url.to_string(), git_ref(&mirror.reference));
    let shown = mirror.reference.to_string();
    let mirror = Mirror::open(&folder, mirror)?;
    let current = mirror.current();
    let before = known.iter().find(|s| s.id == id && s.url == url && s.reference == shown);
    let fetched_at = before.and_then(|s| s.last_good.as_ref()).map_or(0, |(_, at)| *at);
    let status = SourceStatus {
        id: id.clone(),
        url: url.clone(),
        reference: shown,
        last_good: current.map(|revision| (revision, fetched_at)),
        code: before.map_or_else(|| "Pending".to_owned(), |s| s.code.clone()),
        message: before.map_or_else(|| "not fetched yet".to_owned(), |s| s.message.clone()),
        attempted_at: before.map_or(0, |s| s.attempted_at),
        since: before.map_or_else(clock::millis, |s| s.since),
    };
    Ok(Handle {
        id,
        url,
        reference,
        aliases,
        configured,
        suspended: AtomicBool::new(false),
        interval,
        mirror,
        status: Mutex::new(status),
        asked: watch::Sender::new(0),
        done: watch::Sender::new(0),
    })
}

/// A folder per source: the readable part for people, the digest for uniqueness.
fn folder_name(mirror: &MirrorConfig) -> String {
    let readable: String =
        mirror.id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(60).collect();
    format!("{readable}-{}", Digest::of(mirror.id.as_bytes()).short())
}

fn parse_url(id: &str, url: &str) -> Result<SourceUrl, SourceSetupError> {
    SourceUrl::parse(url).map_err(|e| SourceSetupError::Url { id: id.to_owned(), reason: e.to_string() })
}

fn reference(reference: &GitRef) -> Reference {
    match reference {
        GitRef::Branch(name) => Reference::Branch(name.clone()),
        GitRef::Tag(name) => Reference::Tag(name.clone()),
        GitRef::Semver(range) => Reference::Semver(range.clone()),
        GitRef::Name(name) => Reference::Name(name.clone()),
        GitRef::Commit(id) | GitRef::Digest(id) => Reference::Commit { id: id.clone(), branch: None },
    }
}

fn git_ref(reference: &Reference) -> GitRef {
    match reference {
        Reference::Branch(name) => GitRef::Branch(name.clone()),
        Reference::Tag(name) => GitRef::Tag(name.clone()),
        Reference::Semver(range) => GitRef::Semver(range.clone()),
        Reference::Name(name) => GitRef::Name(name.clone()),
        Reference::Commit { id, .. } => GitRef::Commit(id.clone()),
    }
}

fn access(
    mirror: &mut MirrorConfig,
    auth: Option<&AuthConfig>,
    ca: Option<&PathBuf>,
    proxy: Option<&ProxyConfig>,
) -> Result<(), SourceSetupError> {
    let id = mirror.id.clone();
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|source| SourceSetupError::File {
            id: id.clone(),
            path: path.clone(),
            source,
        })
    };
    let secret = |path: &PathBuf| read(path).map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])));
    mirror.auth = match auth {
        None => Auth::None,
        Some(AuthConfig::Basic { user, password_file }) => {
            Auth::Basic { user: user.clone(), password: secret(password_file)? }
        }
        Some(AuthConfig::Bearer { token_file }) => Auth::Bearer(secret(token_file)?),
        Some(AuthConfig::Ssh { identity_file, known_hosts_file }) => Auth::Ssh(SshAuth {
            identity: SshIdentity::File(identity_file.clone()),
            known_hosts: read(known_hosts_file)?,
        }),
    };
    mirror.ca = ca.map(&read).transpose()?;
    mirror.proxy = match proxy {
        None => None,
        Some(proxy) => Some(Proxy {
            url: parse_url(&id, &proxy.url)?,
            user: proxy.user.clone(),
            password: proxy.password_file.as_ref().map(secret).transpose()?,
        }),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(url: &str, kind: &str) -> SourceDecl {
        SourceDecl {
            id: "team/apps".into(),
            kind: kind.into(),
            url: url.into(),
            reference: GitRef::Branch("main".into()),
            interval_seconds: 60,
            ..SourceDecl::default()
        }
    }

    #[test]
    fn a_commit_cannot_make_the_hub_read_its_own_machine() {
        let dir = tempfile::tempdir().unwrap();
        let text = "format: 1\nfleet: {listen: '127.0.0.1:0', addresses: ['h:1']}\nadmin: {socket: s}\n";
        std::fs::write(dir.path().join("hub.yaml"), text).unwrap();
        let config = Config::load(&dir.path().join("hub.yaml")).unwrap();
        let cases = [
            ("file:///etc", "GitRepository", "own machine"),
            ("/etc", "GitRepository", ""),
            ("https://127.0.0.1/x", "GitRepository", "own machine"),
            ("https://localhost/x", "GitRepository", "own machine"),
            ("https://[::1]/x", "GitRepository", "own machine"),
            ("https://git.example.org/x", "OCIRepository", "not fetched yet"),
        ];
        for (url, kind, wanted) in cases {
            let error = open_declared(&config, &declared(url, kind)).expect_err(url).to_string();
            assert!(error.contains("team/apps") && error.contains(wanted), "{url}: {error}");
        }
        let handle = open_declared(&config, &declared("https://git.example.org/x", "GitRepository")).unwrap();
        assert!(!handle.configured && handle.interval == Duration::from_secs(60));
        assert_eq!(std::fs::read_dir(dir.path().join("mirrors")).unwrap().count(), 1, "only the last one has a mirror");
    }
}
