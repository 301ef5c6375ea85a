//! What a caller says about one source. Nothing is taken from the machine: no Git configuration, credential helper,
//! key agent or proxy variable.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::url::SourceUrl;
use crate::verify::Verification;

/// Text that is never shown and is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret::new(text)
    }
}

/// Which commit of the repository is wanted (`flux-inputs.md`, GitRepository `ref`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A branch by its short name.
    Branch(String),
    /// A tag by its short name; an annotated tag is followed to its commit.
    Tag(String),
    /// The tag with the highest version in this range, such as `>=1.2.0 <2.0.0`.
    Semver(String),
    /// A full reference name, such as `refs/pull/7/head`.
    Name(String),
    /// A commit by its full id. `branch` is where to look for it; some hosts serve a commit by id without it.
    Commit {
        /// 40 hex digits.
        id: String,
        /// The branch that holds it.
        branch: Option<String>,
    },
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Branch(name) => write!(f, "branch {name}"),
            Reference::Tag(name) => write!(f, "tag {name}"),
            Reference::Semver(range) => write!(f, "a tag in the range {range}"),
            Reference::Name(name) => write!(f, "reference {name}"),
            Reference::Commit { id, .. } => write!(f, "commit {id}"),
        }
    }
}

/// How the hub proves who it is.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// A public repository, or credentials in the URL.
    #[default]
    None,
    /// User and password or token, over https.
    Basic {
        /// The user; many hosts take any text beside a token.
        user: String,
        /// Password or token.
        password: Secret,
    },
    /// `Authorization: Bearer`, over https.
    Bearer(Secret),
    /// A key for ssh.
    Ssh(SshAuth),
}

/// A key, and the only host keys that are accepted.
#[derive(Clone, Debug)]
pub struct SshAuth {
    /// The private key.
    pub identity: SshIdentity,
    /// Lines of a `known_hosts` file. A host that is not in it is refused.
    pub known_hosts: String,
}

/// Where the private key is.
#[derive(Clone, Debug)]
pub enum SshIdentity {
    /// A file readable by the hub alone.
    File(PathBuf),
    /// The text of the file; written for the time of a fetch to a folder that only the hub's user can read.
    Text(Secret),
}

/// A forward proxy for http and https.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `http://host:port` or `https://host:port`.
    pub url: SourceUrl,
    /// User of the proxy.
    pub user: Option<String>,
    /// Password of the proxy.
    pub password: Option<Secret>,
}

/// A certificate the hub shows to the Git host.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The chain, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: Secret,
}

/// Bounds on what a host may make the hub do (`security.md` section 4, row Git).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one fetch, counted while they arrive.
    pub pack_bytes: u64,
    /// References that a host may list.
    pub refs: usize,
    /// Bytes of the list of references.
    pub advertisement_bytes: u64,
    /// Bytes of a file that may be read.
    pub blob_bytes: u64,
    /// Folders inside folders.
    pub tree_depth: usize,
    /// Names in one folder.
    pub tree_entries: usize,
    /// Bytes of one allocation while a pack is decoded.
    pub alloc_bytes: u64,
    /// Packs after which the mirror is cloned afresh.
    pub packs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pack_bytes: 4 << 30,
            refs: 10_000,
            advertisement_bytes: 16 << 20,
            blob_bytes: 16 << 20,
            tree_depth: 64,
            tree_entries: 100_000,
            alloc_bytes: 256 << 20,
            packs: 50,
        }
    }
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// `namespace/name`, as people know it.
    pub id: String,
    /// The repository. An address that a repository's own objects name must be judged by the caller first: `file` reads
    /// this machine, and any address is reached from the hub's place in the network.
    pub url: SourceUrl,
    /// What of it.
    pub reference: Reference,
    /// Credentials.
    pub auth: Auth,
    /// Certificates (PEM) trusted beside the system's, as Flux does with `ca.crt`.
    pub ca: Option<String>,
    /// A certificate for hosts that ask for one.
    pub client_certificate: Option<ClientCertificate>,
    /// The way out. None: direct, whatever the environment says.
    pub proxy: Option<Proxy>,
    /// What must be signed; `None`: nothing.
    pub verification: Option<Verification>,
    /// Bounds.
    pub limits: Limits,
    /// A fetch that takes longer is given up. Flux's default is 60 s.
    pub timeout: Duration,
    /// As `timeout`, for a fetch of the whole repository: the first one, and when the mirror is made anew. The larger of
    /// both counts.
    pub clone_timeout: Duration,
    /// The `ssh` program.
    pub ssh_program: PathBuf,
}

impl SourceConfig {
    /// A public repository with the default limits.
    #[must_use]
    pub fn new(id: impl Into<String>, url: SourceUrl, reference: Reference) -> Self {
        SourceConfig {
            id: id.into(),
            url,
            reference,
            auth: Auth::None,
            ca: None,
            client_certificate: None,
            proxy: None,
            verification: None,
            limits: Limits::default(),
            timeout: Duration::from_secs(60),
            clone_timeout: Duration::from_secs(600),
            ssh_program: PathBuf::from("ssh"),
        }
    }

    /// What a mirror was made for: another reference, or other keys, make another one of it.
    pub(crate) fn wanted(&self) -> String {
        match &self.verification {
            None => self.reference.to_string(),
            Some(v) => format!("{}, {:?} signed, {}", self.reference, v.mode, v.keys.digest()),
        }
    }

    pub(crate) fn time_to_clone(&self) -> Duration {
        self.timeout.max(self.clone_timeout)
    }

    /// The credentials to use: those of the configuration, else those in the URL.
    pub(crate) fn basic(&self) -> Option<(String, Secret)> {
        match &self.auth {
            Auth::Basic { user, password } => Some((user.clone(), password.clone())),
            Auth::None => match (self.url.user(), self.url.password()) {
                (None, None) => None,
                (user, password) => Some((user.unwrap_or_default().to_owned(), password.cloned().unwrap_or_default())),
            },
            Auth::Bearer(_) | Auth::Ssh(_) => None,
        }
    }

    /// Every text that must never be shown, for the scrubber of foreign messages.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let mut out = Vec::new();
        match &self.auth {
            Auth::Basic { password, .. } | Auth::Bearer(password) => out.push(password.expose()),
            Auth::Ssh(SshAuth { identity: SshIdentity::Text(key), .. }) => out.push(key.expose()),
            Auth::Ssh(_) | Auth::None => {}
        }
        match self.url.password() {
            Some(password) => out.push(password.expose()),
            // Without a password the user may be a token.
            None if self.url.transport() != crate::url::Transport::Ssh => out.extend(self.url.user()),
            None => {}
        }
        if let Some(proxy) = &self.proxy {
            out.extend(proxy.password.as_ref().or(proxy.url.password()).map(Secret::expose));
        }
        if let Some(certificate) = &self.client_certificate {
            out.push(certificate.key.expose());
        }
        out.retain(|s| !s.is_empty());
        out
    }
}
