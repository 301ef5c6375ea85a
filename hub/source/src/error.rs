//! Why a source could not be read, in kinds that status, metrics and scripts can rely on.

use std::fmt;
use std::time::Duration;

use driftless_protocol::id::Revision;

/// How many existing names a message shows.
const SHOWN: usize = 5;

/// What went wrong, with what is needed to say it. [`Cause::code`] is stable; the words are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The configuration of the source cannot be used.
    ConfigInvalid {
        /// Which part, and why.
        reason: String,
    },
    /// Credentials over plain http to another machine.
    InsecureCredentials,
    /// The host's name is unknown.
    HostUnknown {
        /// The name.
        host: String,
    },
    /// No connection, or it broke.
    HostUnreachable {
        /// The host and port.
        host: String,
        /// `connection refused` and the like.
        reason: String,
    },
    /// The proxy could not be reached or refused.
    ProxyRefused {
        /// Its words, scrubbed.
        reason: String,
    },
    /// The host's TLS certificate does not lead to a trusted root, or is for another name, or expired.
    CertificateUntrusted {
        /// Which of them.
        reason: String,
    },
    /// The host's ssh key is not among the known hosts.
    HostKeyUntrusted {
        /// The host.
        host: String,
    },
    /// The host wants credentials, or refused ours.
    AuthRefused {
        /// Whether any were sent.
        sent: bool,
        /// `HTTP 401`, `publickey`.
        reason: String,
    },
    /// There is no such repository, or the credentials may not see it: hosts answer alike.
    RepositoryNotFound,
    /// The host sent us elsewhere and credentials do not follow.
    Redirected {
        /// Where to, without user and query; empty when unknown.
        to: String,
    },
    /// The repository has no commit yet.
    RepositoryEmpty,
    /// The reference is not there, and never was while the hub looked.
    ReferenceNotFound {
        /// Such as `branch main`.
        reference: String,
        /// Branches, or tags, that are there.
        available: Vec<String>,
    },
    /// The reference was there before.
    ReferenceVanished {
        /// Such as `branch main`.
        reference: String,
    },
    /// The reference does not lead to a commit, or the commit breaks a limit.
    CommitUnusable {
        /// Why.
        reason: String,
    },
    /// The commit or tag is not signed by anybody who is trusted.
    SignatureRefused {
        /// Which commit or tag, why, and which keys were tried.
        reason: String,
    },
    /// Signatures are asked for and no key is there to check them with.
    KeysMissing {
        /// Where keys are to be put, and what was wrong with those that are there.
        reason: String,
    },
    /// More bytes than allowed.
    PackTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// An OCI artifact holds nothing of use, or breaks a limit.
    ArtifactUnusable {
        /// Why.
        reason: String,
    },
    /// More references than allowed.
    TooManyRefs {
        /// The limit.
        limit: usize,
    },
    /// Not done in time.
    Timeout {
        /// The time allowed.
        limit: Duration,
    },
    /// The caller gave up.
    Cancelled,
    /// The host answered, but with an error of its own.
    HostFailed {
        /// Status or message, scrubbed.
        reason: String,
    },
    /// The host does not speak Git's smart protocol at this address, or in a form we do not read.
    ProtocolUnsupported {
        /// What was seen.
        reason: String,
    },
    /// What arrived, or what is stored, is damaged.
    Corrupt {
        /// What was damaged.
        reason: String,
    },
    /// The disk of the hub failed or is full.
    Disk {
        /// What was done, and the system's words.
        reason: String,
    },
    /// The `ssh` program cannot be run.
    SshUnavailable {
        /// The system's words.
        reason: String,
    },
    /// This revision is not in the mirror (any more).
    RevisionUnknown {
        /// The revision.
        revision: String,
    },
}

impl Cause {
    /// A stable name for status reasons, metrics and scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Cause::ConfigInvalid { .. } => "ConfigInvalid",
            Cause::InsecureCredentials => "InsecureCredentials",
            Cause::HostUnknown { .. } => "HostUnknown",
            Cause::HostUnreachable { .. } => "HostUnreachable",
            Cause::ProxyRefused { .. } => "ProxyRefused",
            Cause::CertificateUntrusted { .. } => "CertificateUntrusted",
            Cause::HostKeyUntrusted { .. } => "HostKeyUntrusted",
            Cause::AuthRefused { .. } => "AuthRefused",
            Cause::RepositoryNotFound => "RepositoryNotFound",
            Cause::Redirected { .. } => "Redirected",
            Cause::RepositoryEmpty => "RepositoryEmpty",
            Cause::ReferenceNotFound { .. } => "ReferenceNotFound",
            Cause::ReferenceVanished { .. } => "ReferenceVanished",
            Cause::CommitUnusable { .. } => "CommitUnusable",
            Cause::SignatureRefused { .. } => "SignatureRefused",
            Cause::KeysMissing { .. } => "KeysMissing",
            Cause::PackTooLarge { .. } => "PackTooLarge",
            Cause::ArtifactUnusable { .. } => "ArtifactUnusable",
            Cause::TooManyRefs { .. } => "TooManyRefs",
            Cause::Timeout { .. } => "Timeout",
            Cause::Cancelled => "Cancelled",
            Cause::HostFailed { .. } => "HostFailed",
            Cause::ProtocolUnsupported { .. } => "ProtocolUnsupported",
            Cause::Corrupt { .. } => "Corrupt",
            Cause::Disk { .. } => "Disk",
            Cause::SshUnavailable { .. } => "SshUnavailable",
            Cause::RevisionUnknown { .. } => "RevisionUnknown",
        }
    }

    /// Whether the same attempt may succeed later although nobody changes anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Cause::HostUnknown { .. }
                | Cause::HostUnreachable { .. }
                | Cause::ProxyRefused { .. }
                | Cause::Timeout { .. }
                | Cause::Cancelled
                | Cause::HostFailed { .. }
                | Cause::Corrupt { .. }
                | Cause::Disk { .. }
        )
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Cause::ConfigInvalid { .. } => "correct the source's configuration",
            Cause::InsecureCredentials => "use https, or remove the credentials",
            Cause::HostUnknown { .. } => "check the host in the URL and the hub's name server",
            Cause::HostUnreachable { .. } => {
                "check that the host is up and that the hub's network, firewall or proxy lets it through; it is tried again"
            }
            Cause::ProxyRefused { .. } => "check the proxy's address and credentials in the source's configuration",
            Cause::CertificateUntrusted { .. } => {
                "give the CA that signed it as the source's `ca`, or correct the host's certificate"
            }
            Cause::HostKeyUntrusted { .. } => {
                "if the host's key changed on purpose, put the new line in the source's `known_hosts`"
            }
            Cause::AuthRefused { sent: true, .. } => {
                "check the source's credentials: they may have expired or lack read access"
            }
            Cause::AuthRefused { sent: false, .. } => "give the source credentials with read access",
            Cause::RepositoryNotFound => {
                "check the URL; a private repository is also shown as missing when the credentials may not read it"
            }
            Cause::Redirected { .. } => "put the new address in the source's URL",
            Cause::RepositoryEmpty => "push a first commit",
            Cause::ReferenceNotFound { .. } => "check the spelling, or push it",
            Cause::ReferenceVanished { .. } => {
                "push it again, or point the source elsewhere; until then the last good revision stays"
            }
            Cause::CommitUnusable { .. } => "correct the repository; until then the last good revision stays",
            Cause::SignatureRefused { .. } => {
                "sign it with a trusted key, or trust the signer's key; until then the last good revision stays"
            }
            Cause::KeysMissing { .. } => "put the public keys of those who sign there",
            Cause::PackTooLarge { .. } => "remove large files from the history, or raise the source's pack limit",
            Cause::ArtifactUnusable { .. } => {
                "push it again, as `flux push artifact` does, or correct the layer selector; until then the last good revision stays"
            }
            Cause::TooManyRefs { .. } => "delete stale references, or raise the source's limit",
            Cause::Timeout { .. } => "raise the source's timeout if the repository is large; it is tried again",
            Cause::Cancelled => "it is tried again",
            Cause::HostFailed { .. } => "look at the host's own status; it is tried again",
            Cause::ProtocolUnsupported { .. } => {
                "check that the URL is that of the repository itself, not of a web page"
            }
            Cause::Corrupt { .. } => "it is tried again; if it stays, check the host's repository with `git fsck`",
            Cause::Disk { .. } => "check space and rights of the hub's data folder",
            Cause::SshUnavailable { .. } => "install the ssh client beside the hub",
            Cause::RevisionUnknown { .. } => "fetch the source again",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ConfigInvalid { reason } => write!(f, "{reason}"),
            Cause::InsecureCredentials => f.write_str("credentials are not sent over plain http"),
            Cause::HostUnknown { host } => write!(f, "the name {host} is not known"),
            Cause::HostUnreachable { host, reason } => write!(f, "no connection to {host}: {reason}"),
            Cause::ProxyRefused { reason } => write!(f, "the proxy does not let it through: {reason}"),
            Cause::CertificateUntrusted { reason } => write!(f, "the host's certificate is not trusted: {reason}"),
            Cause::HostKeyUntrusted { host } => write!(f, "the ssh key of {host} is not the one in `known_hosts`"),
            Cause::AuthRefused { sent: true, reason } => write!(f, "the host refused the credentials ({reason})"),
            Cause::AuthRefused { sent: false, reason } => write!(f, "the host asks for credentials ({reason})"),
            Cause::RepositoryNotFound => f.write_str("the host has no such repository"),
            Cause::Redirected { to } if to.is_empty() => {
                f.write_str("the host sends us to another address, where credentials are not taken along")
            }
            Cause::Redirected { to } => {
                write!(f, "the repository moved to {to}, where credentials are not taken along")
            }
            Cause::RepositoryEmpty => f.write_str("the repository has no commit yet"),
            Cause::ReferenceNotFound { reference, available } => {
                // "a tag in the range ..." as a subject.
                write!(f, "the repository has no {}", reference.strip_prefix("a ").unwrap_or(reference))?;
                for (at, name) in available.iter().take(SHOWN).enumerate() {
                    write!(f, "{}{name}", if at == 0 { "; it has " } else { ", " })?;
                }
                if available.len() > SHOWN { write!(f, " and {} more", available.len() - SHOWN) } else { Ok(()) }
            }
            Cause::ReferenceVanished { reference } => {
                write!(f, "the repository has no {} any more", reference.strip_prefix("a ").unwrap_or(reference))
            }
            Cause::CommitUnusable { reason } => write!(f, "the commit cannot be used: {reason}"),
            Cause::SignatureRefused { reason } => write!(f, "its signature is refused: {reason}"),
            Cause::KeysMissing { reason } => write!(f, "there is no key to check signatures with: {reason}"),
            Cause::PackTooLarge { limit } => write!(f, "the host sends more than the limit of {limit} bytes"),
            Cause::ArtifactUnusable { reason } => write!(f, "the artifact cannot be used: {reason}"),
            Cause::TooManyRefs { limit } => write!(f, "the host lists more than the limit of {limit} references"),
            Cause::Timeout { limit } => write!(f, "not done within {} s", limit.as_secs_f32()),
            Cause::Cancelled => f.write_str("it was cancelled"),
            Cause::HostFailed { reason } => write!(f, "the host failed: {reason}"),
            Cause::ProtocolUnsupported { reason } => write!(f, "this is not a Git repository we can read: {reason}"),
            Cause::Corrupt { reason } => write!(f, "the data is damaged: {reason}"),
            Cause::Disk { reason } => write!(f, "{reason}"),
            Cause::SshUnavailable { reason } => write!(f, "the ssh program cannot be run: {reason}"),
            Cause::RevisionUnknown { revision } => write!(f, "the mirror does not hold {revision}"),
        }
    }
}

/// A failure with its subject. One line: what was attempted, on which source and address, why it failed, what to do. The
/// fields are those of [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("source {}: cannot {} {}: {}; {}", .0.id, .0.attempt, .0.url, .0.cause, .0.cause.advice())]
pub struct SourceError(Box<Failure>);

/// What a [`SourceError`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `namespace/name` of the source.
    pub id: String,
    /// What was attempted, such as `fetch branch main from`.
    pub attempt: String,
    /// The address, without anything secret.
    pub url: String,
    /// Why.
    pub cause: Cause,
    /// The revision that stays in use.
    pub last_good: Option<Revision>,
}

impl SourceError {
    /// See [`Cause::code`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.cause.code()
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        SourceError(Box::new(failure))
    }
}

impl std::ops::Deref for SourceError {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}
