//! Signatures of commits and tags, checked in process: no `gpg`, no `ssh-keygen`, no key ring of this machine.
//!
//! [`TrustedKeys`] are the public keys of people whose work may be used. What is checked is what Git signs: the bytes of the
//! commit or tag object without the signature in it. SSH and PGP signatures are checked, others refused, never passed over.
//! Beyond Flux, a signed tag counts only under the name it was signed for: else whoever can push could put an old, signed
//! version in the place of a new one.

mod object;
mod pgpsig;
mod sshsig;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

pub(crate) use object::{Signed, split_commit, split_tag, tag_name};

/// What of a repository must be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMode {
    /// The commit.
    Head,
    /// The tag.
    Tag,
    /// Both.
    TagAndHead,
}

impl VerifyMode {
    pub(crate) fn commit(self) -> bool {
        self != VerifyMode::Tag
    }

    pub(crate) fn tag(self) -> bool {
        self != VerifyMode::Head
    }
}

/// What must be signed, and by whom. Without any key nothing can be fetched.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What of the repository.
    pub mode: VerifyMode,
    /// By whom.
    pub keys: TrustedKeys,
    /// Where more keys are to be put, for messages: `Secret flux-system/keys`.
    pub place: String,
}

/// Public keys of people whose commits and tags may be used.
#[derive(Clone, Default)]
pub struct TrustedKeys {
    ssh: Vec<sshsig::PublicKey>,
    pgp: Vec<pgpsig::PublicKey>,
    /// Entries that could not be read, and why.
    unreadable: Vec<String>,
    digest: String,
}

impl fmt::Debug for TrustedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedKeys({})", self.names().join(", "))
    }
}

impl TrustedKeys {
    /// Reads keys by the names of their files or Secret entries, as Flux does: `*.sshpub` holds lines as `authorized_keys`,
    /// everything else armoured PGP keys. What cannot be read is remembered and told with the next failure.
    #[must_use]
    pub fn read(entries: &BTreeMap<String, String>) -> Self {
        let mut keys = TrustedKeys::default();
        let mut hasher = blake3::Hasher::new();
        for (name, text) in entries {
            for part in [name, text] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            let read = if name.ends_with(".sshpub") {
                sshsig::read(text).map(|found| keys.ssh.extend(found))
            } else {
                pgpsig::read(text).map(|found| keys.pgp.extend(found))
            };
            if let Err(reason) = read {
                keys.unreadable.push(format!("{name} ({reason})"));
            }
        }
        keys.digest = hasher.finalize().to_hex().to_string();
        keys
    }

    /// Whether no key could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ssh.is_empty() && self.pgp.is_empty()
    }

    /// Entries that could not be read, with the reason.
    #[must_use]
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Fingerprints, as `ssh-keygen -l` and `gpg --fingerprint` show them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.ssh.iter().map(sshsig::name).chain(self.pgp.iter().map(pgpsig::name)).collect()
    }

    /// Tells sets of keys apart.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Whose signature this is.
    ///
    /// # Errors
    /// Why it does not count, in words, with the keys that were tried.
    pub(crate) fn check(&self, signed: &Signed) -> Result<String, String> {
        let kind = |text: &str| text.split("-----").nth(1).map(|k| k.trim().to_owned());
        let result = match (&signed.signature, signed.signature.as_deref().and_then(kind).as_deref()) {
            (None, _) => Err("it is not signed".to_owned()),
            (Some(signature), Some("BEGIN SSH SIGNATURE")) => sshsig::check(signature, &signed.payload, &self.ssh),
            (Some(signature), Some("BEGIN PGP SIGNATURE")) => {
                pgpsig::check(signature, &signed.payload, &self.pgp, SystemTime::now())
            }
            (_, Some("BEGIN SIGNED MESSAGE")) => Err("it has an X.509 signature, which is not supported".to_owned()),
            _ => Err("it has a signature of an unknown kind".to_owned()),
        };
        result.map_err(|reason| {
            let tried = self.names().join(", ");
            let unread = match self.unreadable.as_slice() {
                [] => String::new(),
                some => format!("; keys that cannot be read: {}", some.join(", ")),
            };
            format!("{reason}; keys tried: {tried}{unread}")
        })
    }
}
