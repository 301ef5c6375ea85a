//! From a configured or declared source to its copy on this machine. Talks to no host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use driftless_protocol::id::Digest;
use driftless_render::target::{GitRef, SourceDecl, VerifyMode as DeclaredMode, normal_url};
use driftless_source::config::{ClientCertificate, Proxy, SshAuth, SshIdentity};
use driftless_source::oci::Layer;
use driftless_source::{
    Auth, Mirror, OciConfig, OciMirror, OciReference, OciUrl, Reference, Secret, SourceConfig as MirrorConfig,
    SourceUrl, Transport, TrustedKeys, Verification, VerifyMode,
};
use driftless_store::SourceStatus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Copy, Handle};
use crate::clock;
use crate::config::{
    AuthConfig, ClientCertificateConfig, Config, Credential, ProxyConfig, SourceConfig, VerifyModeConfig,
};

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

/// What a handle is made from besides its copy.
struct Plan<'a> {
    id: String,
    kind: &'a str,
    url: String,
    reference: GitRef,
    /// The reference as people read it.
    shown: String,
    interval: Duration,
    aliases: Vec<(String, Option<GitRef>)>,
    configured: bool,
    verified: bool,
    key: &'a str,
    folder: PathBuf,
}

pub(super) fn open_configured(
    config: &Config,
    source: &SourceConfig,
    known: &[SourceStatus],
) -> Result<Handle, SourceSetupError> {
    let reference = match source {
        SourceConfig { commit: Some(id), .. } => Reference::Commit { id: id.clone(), branch: None },
        SourceConfig { name_of_ref: Some(name), .. } => Reference::Name(name.clone()),
        SourceConfig { semver: Some(range), .. } => Reference::Semver(range.clone()),
        SourceConfig { tag: Some(tag), .. } => Reference::Tag(tag.clone()),
        SourceConfig { branch, .. } => Reference::Branch(branch.clone().unwrap_or_else(|| "main".to_owned())),
    };
    let files = Files { id: &source.name };
    let mut mirror = MirrorConfig::new(&source.name, files.url(&source.url)?, reference);
    mirror.timeout = Duration::from_secs(source.timeout_seconds);
    mirror.auth = files.auth(source.auth.as_ref())?;
    mirror.ca = files.optional(source.ca_file.as_ref())?;
    mirror.proxy = files.proxy(source.proxy.as_ref())?;
    mirror.client_certificate = files.certificate(source.client_certificate.as_ref())?;
    if let Some(verify) = &source.verify {
        let mode = match verify.mode {
            VerifyModeConfig::Head => VerifyMode::Head,
            VerifyModeConfig::Tag => VerifyMode::Tag,
            VerifyModeConfig::TagAndHead => VerifyMode::TagAndHead,
        };
        let keys = TrustedKeys::read(&files.keys(&verify.key_files)?);
        mirror.verification =
            Some(Verification { mode, keys, place: "verify.keyFiles of the hub's start file".into() });
    }
    let aliases = source.aliases.iter().map(|a| (normal_url(&a.url), a.branch.clone().map(GitRef::Branch))).collect();
    let plan = Plan {
        id: source.name.clone(),
        kind: "GitRepository",
        url: mirror.url.to_string(),
        reference: git_ref(&mirror.reference),
        shown: mirror.reference.to_string(),
        interval: Duration::from_secs(source.interval_seconds),
        aliases,
        configured: true,
        verified: mirror.verification.is_some(),
        key: "",
        folder: config.mirrors.join(folder_name(&source.name)),
    };
    let copy = Copy::Git(Mirror::open(&plan.folder, mirror)?);
    Ok(handle(plan, copy, known))
}

/// The credentials for a declaration, and their place in the start file: those for the object itself before those for its
/// address, and of these the longest.
pub(super) fn credential<'a>(credentials: &'a [Credential], declared: &SourceDecl) -> Option<(usize, &'a Credential)> {
    let label = declared.label();
    let fitting = credentials.iter().enumerate().filter(|(_, c)| c.fits(&label, &declared.url));
    fitting.max_by_key(|(_, c)| (c.source.is_some(), c.url_prefix.len()))
}

pub(super) fn open_declared(
    config: &Config,
    declared: &SourceDecl,
    key: &str,
    taken: bool,
) -> Result<Handle, SourceSetupError> {
    let label = declared.label();
    let id = if taken { format!("{label}@{}", Digest::of(key.as_bytes()).short()) } else { label };
    let files = Files { id: &id };
    let credential = credential(&config.credentials, declared).map(|(_, c)| c);
    let auth = files.auth(credential.and_then(|c| c.auth.as_ref()))?;
    let ca = files.optional(credential.and_then(|c| c.ca_file.as_ref()))?;
    let proxy = files.proxy(credential.and_then(|c| c.proxy.as_ref()))?;
    let client_certificate = files.certificate(credential.and_then(|c| c.client_certificate.as_ref()))?;
    let timeout = Duration::from_secs(declared.timeout_seconds.clamp(1, 600));
    let plan = |url: String, shown: String, verified| Plan {
        id: id.clone(),
        kind: &declared.kind,
        url,
        reference: declared.reference.clone(),
        shown,
        // The interval of the object, within reason.
        interval: Duration::from_secs(declared.interval_seconds.clamp(30, 3600)),
        aliases: Vec::new(),
        configured: false,
        verified,
        key,
        folder: config.mirrors.join(folder_name(&id)),
    };
    // A commit must not make the hub read its own disk, or speak to its neighbours on loopback.
    let own = "an address of the hub's own machine is fetched only when the start file names it";
    match declared.kind.as_str() {
        "GitRepository" => {
            let url = files.url(&declared.url)?;
            if url.transport() == Transport::File || (url.is_loopback() && credential.is_none()) {
                return Err(files.invalid(own));
            }
            let mut mirror = MirrorConfig::new(&id, url, reference(&declared.reference));
            (mirror.auth, mirror.ca, mirror.proxy) = (auth, ca, proxy);
            (mirror.client_certificate, mirror.timeout) = (client_certificate, timeout);
            mirror.verification = verification(config, declared, &files)?;
            let plan = plan(mirror.url.to_string(), mirror.reference.to_string(), mirror.verification.is_some());
            let copy = Copy::Git(Mirror::open(&plan.folder, mirror)?);
            Ok(handle(plan, copy, &[]))
        }
        "OCIRepository" => {
            let url = OciUrl::parse(&declared.url).map_err(|e| files.invalid(&e.to_string()))?;
            if url.is_loopback() && credential.is_none() {
                return Err(files.invalid(own));
            }
            let artifact = declared.artifact.clone().unwrap_or_default();
            let reference = match &declared.reference {
                GitRef::Digest(digest) => OciReference::Digest(digest.clone()),
                GitRef::Semver(range) => {
                    OciReference::Semver { range: range.clone(), filter: artifact.semver_filter.clone() }
                }
                GitRef::Tag(tag) => OciReference::Tag(tag.clone()),
                other => return Err(files.invalid(&format!("{other} is nothing that a registry has"))),
            };
            let mut mirror = OciConfig::new(&id, url, reference);
            (mirror.auth, mirror.ca, mirror.proxy) = (auth, ca, proxy);
            (mirror.client_certificate, mirror.timeout) = (client_certificate, timeout);
            mirror.insecure = artifact.insecure;
            mirror.layer = Layer { media_type: artifact.media_type };
            let plan = plan(mirror.url.to_string(), mirror.reference.to_string(), false);
            let copy = Copy::Oci(OciMirror::open(&plan.folder, mirror)?);
            Ok(handle(plan, copy, &[]))
        }
        kind => Err(files.invalid(&format!("a {kind} is not fetched"))),
    }
}

/// Public keys from the Secret that Git holds, else from the start file.
fn verification(
    config: &Config,
    declared: &SourceDecl,
    files: &Files<'_>,
) -> Result<Option<Verification>, SourceSetupError> {
    let Some(verify) = &declared.verify else { return Ok(None) };
    let mode = match verify.mode {
        DeclaredMode::Head => VerifyMode::Head,
        DeclaredMode::Tag => VerifyMode::Tag,
        DeclaredMode::TagAndHead => VerifyMode::TagAndHead,
    };
    let namespace = declared.id.split('/').next().unwrap_or_default();
    let (keys, place) = match &verify.keys {
        Some(keys) => (keys.clone(), format!("Secret {namespace}/{} in Git", verify.secret)),
        None => {
            let configured = config.trusted_keys.iter().filter(|t| t.source == declared.id).flat_map(|t| &t.key_files);
            let paths: Vec<PathBuf> = configured.cloned().collect();
            let place = format!(
                "Git does not hold Secret {namespace}/{} in plain, so its keys are taken from trustedKeys of the hub's start file \
                 for source {}",
                verify.secret, declared.id
            );
            (files.keys(&paths)?, place)
        }
    };
    Ok(Some(Verification { mode, keys: TrustedKeys::read(&keys), place }))
}

fn handle(plan: Plan<'_>, copy: Copy, known: &[SourceStatus]) -> Handle {
    let Plan { id, kind, url, reference, shown, interval, aliases, configured, verified, key, folder } = plan;
    let before = known.iter().find(|s| s.id == id && s.url == url && s.reference == shown);
    let fetched_at = before.and_then(|s| s.last_good.as_ref()).map_or(0, |(_, at)| *at);
    let status = SourceStatus {
        id: id.clone(),
        url: url.clone(),
        reference: shown,
        last_good: copy.current().map(|revision| (revision, fetched_at)),
        code: before.map_or_else(|| "Pending".to_owned(), |s| s.code.clone()),
        message: before.map_or_else(|| "not fetched yet".to_owned(), |s| s.message.clone()),
        attempted_at: before.map_or(0, |s| s.attempted_at),
        since: before.map_or_else(clock::millis, |s| s.since),
    };
    Handle {
        id,
        kind: kind.to_owned(),
        url,
        reference,
        aliases,
        configured,
        verified,
        key: key.to_owned(),
        folder,
        suspended: AtomicBool::new(false),
        interval,
        copy,
        status: Mutex::new(status),
        asked: watch::Sender::new(0),
        done: watch::Sender::new(0),
        unwanted: Mutex::new(None),
        stop: CancellationToken::new(),
    }
}

/// A folder per source: the readable part for people, the digest for uniqueness.
fn folder_name(id: &str) -> String {
    let readable: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(60).collect();
    format!("{readable}-{}", Digest::of(id.as_bytes()).short())
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

/// Reads what a source of the start file names, for one source.
struct Files<'a> {
    id: &'a str,
}

impl Files<'_> {
    fn invalid(&self, reason: &str) -> SourceSetupError {
        SourceSetupError::Url { id: self.id.to_owned(), reason: reason.to_owned() }
    }

    fn url(&self, url: &str) -> Result<SourceUrl, SourceSetupError> {
        SourceUrl::parse(url).map_err(|e| self.invalid(&e.to_string()))
    }

    fn read(&self, path: &PathBuf) -> Result<String, SourceSetupError> {
        std::fs::read_to_string(path).map_err(|source| SourceSetupError::File {
            id: self.id.to_owned(),
            path: path.clone(),
            source,
        })
    }

    fn optional(&self, path: Option<&PathBuf>) -> Result<Option<String>, SourceSetupError> {
        path.map(|path| self.read(path)).transpose()
    }

    fn secret(&self, path: &PathBuf) -> Result<Secret, SourceSetupError> {
        self.read(path).map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
    }

    /// By the name of the file, which says what kind of keys it holds.
    fn keys(&self, paths: &[PathBuf]) -> Result<BTreeMap<String, String>, SourceSetupError> {
        paths.iter().map(|path| Ok((path.display().to_string(), self.read(path)?))).collect()
    }

    fn auth(&self, auth: Option<&AuthConfig>) -> Result<Auth, SourceSetupError> {
        Ok(match auth {
            None => Auth::None,
            Some(AuthConfig::Basic { user, password_file }) => {
                Auth::Basic { user: user.clone(), password: self.secret(password_file)? }
            }
            Some(AuthConfig::Bearer { token_file }) => Auth::Bearer(self.secret(token_file)?),
            Some(AuthConfig::Ssh { identity_file, known_hosts_file }) => Auth::Ssh(SshAuth {
                identity: SshIdentity::File(identity_file.clone()),
                known_hosts: self.read(known_hosts_file)?,
            }),
        })
    }

    fn proxy(&self, proxy: Option<&ProxyConfig>) -> Result<Option<Proxy>, SourceSetupError> {
        let Some(proxy) = proxy else { return Ok(None) };
        let password = proxy.password_file.as_ref().map(|path| self.secret(path)).transpose()?;
        Ok(Some(Proxy { url: self.url(&proxy.url)?, user: proxy.user.clone(), password }))
    }

    fn certificate(
        &self,
        certificate: Option<&ClientCertificateConfig>,
    ) -> Result<Option<ClientCertificate>, SourceSetupError> {
        let Some(files) = certificate else { return Ok(None) };
        let key = self.secret(&files.key_file)?;
        Ok(Some(ClientCertificate { certificate: self.read(&files.certificate_file)?, key }))
    }
}
