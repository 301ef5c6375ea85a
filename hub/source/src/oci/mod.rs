//! OCI artifacts as Flux pushes them: one layer of a repository in a registry, kept by digest and read as a tree.
//!
//! As with a Git mirror: a failed fetch changes nothing, the last good artifact stays readable, and no error shows a
//! credential. A tag may move; it is followed by the digest behind it. What arrives is checked against its digest and
//! unpacked in memory within limits before it counts, so a tree that was fetched can be read.
//!
//! ```text
//! <dir>/state.json     which artifact counts, and its revision; replaced atomically
//! <dir>/<digest>.tgz   its layer, and that of the artifact before
//! ```

mod address;
mod client;
mod manifest;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driftless_protocol::id::Revision;
use driftless_render::archive::{self, ArchiveLimits, Links};
use driftless_render::compose::{ComposedTree, Composer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

pub use address::{OciReference, OciUrl};
use address::{revision, sha256_of};
use client::{Client, Found, hex};
use manifest::Leads;

use crate::config::{Auth, ClientCertificate, Proxy, Secret};
use crate::error::{Cause, Failure, SourceError};
use crate::mirror::disk;
use crate::store::sync_dir;

/// Manifests that lead to manifests.
const LISTS: usize = 2;

/// Which layer is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The first of this media type; the first of all where none is given.
    pub media_type: Option<String>,
}

/// Bounds on what a registry may make the hub keep.
#[derive(Clone, Copy, Debug)]
pub struct OciLimits {
    /// Bytes of the layer as it travels.
    pub layer_bytes: u64,
    /// Bounds of what is in it.
    pub archive: ArchiveLimits,
}

impl Default for OciLimits {
    /// A compressed bundle is at most 64 MiB (`security.md` section 4).
    fn default() -> Self {
        Self { layer_bytes: 64 << 20, archive: ArchiveLimits::default() }
    }
}

/// One source.
#[derive(Clone, Debug)]
pub struct OciConfig {
    /// `namespace/name`, as people know it.
    pub id: String,
    /// The repository.
    pub url: OciUrl,
    /// What of it.
    pub reference: OciReference,
    /// Which layer.
    pub layer: Layer,
    /// Plain http.
    pub insecure: bool,
    /// Credentials: none, user and password, or a token that is sent as it is.
    pub auth: Auth,
    /// Certificates (PEM) trusted beside the system's.
    pub ca: Option<String>,
    /// A certificate for hosts that ask for one.
    pub client_certificate: Option<ClientCertificate>,
    /// The way out. None: direct, whatever the environment says.
    pub proxy: Option<Proxy>,
    /// Bounds.
    pub limits: OciLimits,
    /// A fetch that takes longer is given up. Flux's default is 60 s.
    pub timeout: Duration,
}

impl OciConfig {
    /// A public repository with the default limits.
    #[must_use]
    pub fn new(id: impl Into<String>, url: OciUrl, reference: OciReference) -> Self {
        Self {
            id: id.into(),
            url,
            reference,
            layer: Layer::default(),
            insecure: false,
            auth: Auth::None,
            ca: None,
            client_certificate: None,
            proxy: None,
            limits: OciLimits::default(),
            timeout: Duration::from_secs(60),
        }
    }

    fn basic(&self) -> Option<(&str, &Secret)> {
        match &self.auth {
            Auth::Basic { user, password } => Some((user, password)),
            _ => None,
        }
    }

    fn has_credentials(&self) -> bool {
        matches!(self.auth, Auth::Basic { .. } | Auth::Bearer(_))
    }

    fn secrets(&self) -> Vec<&str> {
        let mut out = Vec::new();
        match &self.auth {
            Auth::Basic { password, .. } | Auth::Bearer(password) => out.push(password.expose()),
            Auth::Ssh(_) | Auth::None => {}
        }
        out.extend(self.proxy.as_ref().and_then(|p| p.password.as_ref().or(p.url.password())).map(Secret::expose));
        out.extend(self.client_certificate.as_ref().map(|c| c.key.expose()));
        out.retain(|s| !s.is_empty());
        out
    }

    fn wanted(&self) -> String {
        format!("{}, {:?}", self.reference, self.layer)
    }

    fn check(&self) -> Result<(), Cause> {
        let invalid = |reason: String| Err(Cause::ConfigInvalid { reason });
        match &self.reference {
            OciReference::Digest(digest) if sha256_of(digest).is_none() => {
                return invalid(format!("{digest:?} is no digest such as sha256:... with 64 hex digits"));
            }
            OciReference::Tag(tag) => {
                let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                let starts = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                if !starts || tag.len() > 128 || !tag.chars().all(inside) {
                    return invalid(format!("{tag:?} is not the name of a tag"));
                }
            }
            OciReference::Semver { range, filter } => {
                crate::semver::Range::parse(range).map_err(|reason| Cause::ConfigInvalid { reason })?;
                if let Some(filter) = filter {
                    filter_of(filter)?;
                }
            }
            OciReference::Digest(_) => {}
        }
        if matches!(self.auth, Auth::Ssh(_)) {
            return invalid("an ssh key cannot be used with a registry".to_owned());
        }
        if self.insecure && self.has_credentials() && !self.url.is_loopback() {
            return Err(Cause::InsecureCredentials);
        }
        Client::new(self).map(drop)
    }
}

fn filter_of(filter: &str) -> Result<regex::Regex, Cause> {
    let bad = |_| Cause::ConfigInvalid { reason: format!("the filter {filter:?} is no regular expression") };
    regex::RegexBuilder::new(filter).size_limit(1 << 20).build().map_err(bad)
}

/// What state.json holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    format: u32,
    url_digest: String,
    wanted: String,
    revision: Option<Revision>,
    /// Hex digits of the layer's sha256.
    layer: Option<String>,
}

const FORMAT: u32 = 1;

/// A fetch that succeeded.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The revision that counts now.
    pub revision: Revision,
    /// Whether it is another one than before.
    pub changed: bool,
    /// Bytes of the layer that arrived; none when nothing changed.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// One artifact, followed. Cheap to clone. The folder is locked: it can be open once.
#[derive(Clone, Debug)]
pub struct OciMirror {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    lock: fs::File,
    config: OciConfig,
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    saved: Saved,
    /// The tree of the revision in `saved`, once somebody asked for it.
    tree: Option<Arc<ComposedTree>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.lock.unlock());
    }
}

impl OciMirror {
    /// Opens what was kept in `dir`, or prepares a new place. Does not talk to the registry. What is damaged there is
    /// forgotten: the first fetch brings it again.
    ///
    /// # Errors
    /// When `dir` cannot be written or is open already, or the configuration cannot be used.
    pub fn open(dir: &Path, config: OciConfig) -> Result<Self, SourceError> {
        let fail = |cause| error(&config, "open the copy of", cause, None);
        config.check().map_err(fail)?;
        fs::create_dir_all(dir).map_err(|e| fail(disk("the artifact's folder cannot be made", &e)))?;
        let lock = fs::File::create(dir.join("lock"))
            .map_err(|e| fail(disk("the artifact's folder cannot be written", &e)))?;
        lock.try_lock().map_err(|_| fail(disk("the artifact's folder is in use", &"it is open elsewhere")))?;
        let fresh = Saved {
            format: FORMAT,
            url_digest: blake3::hash(config.url.to_string().as_bytes()).to_hex().to_string(),
            wanted: config.wanted(),
            revision: None,
            layer: None,
        };
        let found = fs::read(dir.join("state.json")).ok().and_then(|b| serde_json::from_slice::<Saved>(&b).ok());
        let same = |s: &Saved| (s.format, &s.url_digest, &s.wanted) == (FORMAT, &fresh.url_digest, &fresh.wanted);
        let saved = found.filter(same).unwrap_or(fresh.clone());
        let tree = saved
            .layer
            .as_deref()
            .map(|layer| read_layer(dir, layer, &config.limits).and_then(|b| tree_of(&b, &config.limits)));
        let state = match tree.transpose() {
            Ok(tree) => State { saved, tree: tree.map(Arc::new) },
            Err(cause) => {
                tracing::warn!(source = %config.id, url = %config.url, reason = %cause, "the kept OCI artifact is damaged and fetched again");
                State { saved: fresh, tree: None }
            }
        };
        let state = Mutex::new(state);
        Ok(Self {
            inner: Arc::new(Inner { dir: dir.to_path_buf(), lock, config, state, turn: tokio::sync::Mutex::default() }),
        })
    }

    /// The configuration it follows.
    #[must_use]
    pub fn config(&self) -> &OciConfig {
        &self.inner.config
    }

    /// The last good revision, also after failed fetches and restarts.
    #[must_use]
    pub fn current(&self) -> Option<Revision> {
        self.inner.present().saved.revision.clone()
    }

    /// Fetches what is new, within the configured time. One fetch runs at a time.
    ///
    /// # Errors
    /// See [`Cause`]. Nothing changes.
    pub async fn fetch(&self, cancel: &CancellationToken) -> Result<Pulled, SourceError> {
        let inner = &self.inner;
        let started = Instant::now();
        let work = async {
            let _turn = inner.turn.lock().await;
            inner.pull(started).await
        };
        let limit = inner.config.timeout;
        let result = tokio::select! {
            result = work => result,
            () = cancel.cancelled() => Err(Cause::Cancelled),
            () = tokio::time::sleep(limit) => Err(Cause::Timeout { limit }),
        };
        result.map_err(|cause| {
            error(&inner.config, &format!("fetch {} from", inner.config.reference), cause, self.current())
        })
    }

    /// The tree of the current revision.
    ///
    /// # Errors
    /// [`Cause::RevisionUnknown`]: another one counts now.
    pub fn tree(&self, revision: &Revision) -> Result<Arc<ComposedTree>, SourceError> {
        let state = self.inner.present();
        match &state.tree {
            Some(tree) if state.saved.revision.as_ref() == Some(revision) => Ok(tree.clone()),
            _ => {
                let cause = Cause::RevisionUnknown { revision: revision.to_string() };
                Err(error(&self.inner.config, "read the files of", cause, state.saved.revision.clone()))
            }
        }
    }
}

impl Inner {
    fn present(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pull(&self, started: Instant) -> Result<Pulled, Cause> {
        let client = Client::new(&self.config)?;
        let before = self.present().saved.revision.clone();
        let (tag, digest) = self.resolve(&client, before.is_some()).await?;
        let hex_digest = sha256_of(&digest).ok_or_else(|| Cause::ArtifactUnusable {
            reason: format!("the registry names it by {digest:?}, which is no sha256 digest"),
        })?;
        let revision = revision(tag.as_deref(), hex_digest);
        if before.as_ref() == Some(&revision) {
            return Ok(Pulled { revision, changed: false, bytes: 0, elapsed: started.elapsed() });
        }
        let layer = self.layer(&client, &digest).await?;
        let limit = self.config.limits.layer_bytes;
        if layer.size > limit {
            return Err(Cause::ArtifactUnusable {
                reason: format!("its layer has {} bytes, more than the limit of {limit}", layer.size),
            });
        }
        let bytes = client.blob(&layer.digest, layer.size).await?;
        let found = hex(&Sha256::digest(&bytes));
        let named = sha256_of(&layer.digest).unwrap_or_default().to_owned();
        if found != named {
            return Err(Cause::Corrupt {
                reason: format!(
                    "the layer that arrived has the digest sha256:{found}, its manifest says sha256:{named}"
                ),
            });
        }
        let arrived = bytes.len() as u64;
        let limits = self.config.limits;
        let unpacked = tokio::task::spawn_blocking(move || tree_of(&bytes, &limits).map(|tree| (tree, bytes))).await;
        let (tree, bytes) =
            unpacked.map_err(|_| Cause::Corrupt { reason: "the layer could not be decoded".into() })??;
        self.keep(revision.clone(), &named, &bytes, tree).map_err(|e| disk("the artifact cannot be kept", &e))?;
        Ok(Pulled { revision, changed: true, bytes: arrived, elapsed: started.elapsed() })
    }

    /// The tag in use, and the digest it stands for now.
    async fn resolve(&self, client: &Client<'_>, seen_before: bool) -> Result<(Option<String>, String), Cause> {
        let reference = self.config.reference.to_string();
        let missing = |mut available: Vec<String>| {
            available.sort_unstable();
            match seen_before {
                true => Cause::ReferenceVanished { reference: reference.clone() },
                false => Cause::ReferenceNotFound { reference: reference.clone(), available },
            }
        };
        let tag = match &self.config.reference {
            OciReference::Digest(digest) => return Ok((None, digest.clone())),
            OciReference::Tag(tag) => tag.clone(),
            OciReference::Semver { range, filter } => {
                let mut tags = client.tags().await?;
                if let Some(filter) = filter {
                    let filter = filter_of(filter)?;
                    tags.retain(|tag| filter.is_match(tag));
                }
                match crate::semver::newest(range, tags.iter().map(String::as_str)) {
                    Some(tag) => tag.to_owned(),
                    None => return Err(missing(tags)),
                }
            }
        };
        match client.digest(&tag).await? {
            Found::Yes(digest) => Ok((Some(tag), digest)),
            // Registries say so of a whole repository too.
            Found::No => match client.tags().await {
                Err(Cause::RepositoryNotFound) if !seen_before => Err(Cause::RepositoryNotFound),
                tags => Err(missing(tags.unwrap_or_default())),
            },
        }
    }

    /// The layer that a manifest leads to.
    async fn layer(&self, client: &Client<'_>, digest: &str) -> Result<manifest::Descriptor, Cause> {
        let mut digest = digest.to_owned();
        for _ in 0..LISTS {
            let bytes = match client.manifest(&digest).await? {
                Found::Yes(bytes) => bytes,
                Found::No => {
                    let reference = format!("digest {digest}");
                    return Err(Cause::ReferenceNotFound { reference, available: Vec::new() });
                }
            };
            let found = hex(&Sha256::digest(&bytes));
            if sha256_of(&digest) != Some(&found) {
                return Err(Cause::Corrupt {
                    reason: format!("the manifest that arrived has the digest sha256:{found}, {digest} was asked for"),
                });
            }
            match manifest::read(&bytes, &self.config.layer)? {
                Leads::Layer(layer) => return Ok(layer),
                Leads::Manifest(next) => digest = next,
            }
        }
        Err(Cause::ArtifactUnusable { reason: "it is a list of lists of manifests".to_owned() })
    }

    /// Makes it count: the layer first, then the file that names it.
    fn keep(&self, revision: Revision, layer: &str, bytes: &[u8], tree: ComposedTree) -> std::io::Result<()> {
        let before = self.present().saved.clone();
        write(&self.dir, &format!("{layer}.tgz"), bytes)?;
        let saved = Saved { revision: Some(revision), layer: Some(layer.to_owned()), ..before.clone() };
        write(&self.dir, "state.json", &serde_json::to_vec(&saved).map_err(std::io::Error::other)?)?;
        *self.present() = State { saved, tree: Some(Arc::new(tree)) };
        for entry in fs::read_dir(&self.dir)?.filter_map(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kept = [Some(layer), before.layer.as_deref()].into_iter().flatten().any(|l| name == format!("{l}.tgz"));
            if name.ends_with(".tgz") && !kept {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Replaces a file; after it returns the new one survives a power cut.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

fn read_layer(dir: &Path, layer: &str, limits: &OciLimits) -> Result<Vec<u8>, Cause> {
    let path = dir.join(format!("{layer}.tgz"));
    let gone = |e: std::io::Error| Cause::Corrupt { reason: format!("its layer cannot be read: {e}") };
    if fs::metadata(&path).map_err(gone)?.len() > limits.layer_bytes {
        return Err(Cause::Corrupt { reason: "its layer is larger than allowed".to_owned() });
    }
    let bytes = fs::read(&path).map_err(gone)?;
    if hex(&Sha256::digest(&bytes)) == layer {
        Ok(bytes)
    } else {
        Err(Cause::Corrupt { reason: "its layer is damaged".into() })
    }
}

fn tree_of(bytes: &[u8], limits: &OciLimits) -> Result<ComposedTree, Cause> {
    let unusable =
        |e: &dyn std::fmt::Display| Cause::ArtifactUnusable { reason: format!("its layer cannot be unpacked: {e}") };
    let files = archive::unpack(bytes, &limits.archive, Links::Skip).map_err(|e| unusable(&e))?;
    let mut composer = Composer::new();
    for file in files {
        composer.put(&file.path, file.bytes).map_err(|e| unusable(&e))?;
    }
    Ok(composer.finish())
}

fn error(config: &OciConfig, attempt: &str, cause: Cause, last_good: Option<Revision>) -> SourceError {
    let (id, attempt, url) = (config.id.clone(), attempt.to_owned(), config.url.to_string());
    Failure { id, attempt, url, cause, last_good }.into()
}
