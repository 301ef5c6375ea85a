//! The key folder: files beside the database, never in it, readable by the hub's user only.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use driftless_protocol::id::{KeyId, hex, unhex};
use driftless_protocol::signing::{KeySignature, SecretKey, Signed};
use zeroize::Zeroizing;

use crate::pki::{Authority, PkiError};

/// Signs the next trust document. Not needed while the hub runs: move it to a safe place.
pub const ROOT_KEY: &str = "root.key";
/// Signs heads.
pub const SIGNER_KEY: &str = "signer.key";
/// The fleet's authority.
pub const CA: &str = "ca";
/// The operators' authority.
pub const ADMIN_CA: &str = "admin-ca";
/// Key of QUIC's stateless resets, of this hub alone.
pub const RESET_KEY: &str = "quic-reset.key";
/// Key of QUIC's address tokens.
pub const TOKEN_KEY: &str = "quic-token.key";

/// Trust document 1, signed. Not secret: a hub that begins with an empty database (a new volume, a new PostgreSQL) reads it
/// from here, so that it need not have the root key.
pub const TRUST: &str = "trust-1.json";

/// Why the key folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot {attempt} {}", path.display())]
    File {
        /// Read or write.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A private file that others can read.
    #[error("{} can be read by others (mode {mode:03o}); `chmod 600` it, and think about who may have read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is not a key.
    #[error("{} is not a key as `driftless-hub init` writes it", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The trust document's file.
    #[error("{} is not a trust document as `driftless-hub init` writes it: {reason}", path.display())]
    NotATrustDocument {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("the authority {}", path.display())]
    Authority {
        /// Its certificate file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PkiError,
    },
}

/// What the running hub needs of the folder. Never printed.
pub struct Keys {
    /// Signs heads.
    pub signer: SecretKey,
    /// Issues hub and agent certificates.
    pub ca: Authority,
    /// Issues the admin API's and operators' certificates.
    pub admin_ca: Authority,
    /// See [`RESET_KEY`].
    pub reset_key: [u8; 32],
    /// See [`TOKEN_KEY`].
    pub token_key: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("signer", &self.signer.public().id()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the folder.
    ///
    /// # Errors
    /// A file is missing, readable by others, or not what it must be.
    pub fn load(folder: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            signer: SecretKey::from_seed(&*read_key(&folder.join(SIGNER_KEY))?),
            ca: load_authority(folder, CA)?,
            admin_ca: load_authority(folder, ADMIN_CA)?,
            reset_key: *read_key(&folder.join(RESET_KEY))?,
            token_key: *read_key(&folder.join(TOKEN_KEY))?,
        })
    }
}

fn load_authority(folder: &Path, name: &str) -> Result<Authority, KeyError> {
    let path = folder.join(format!("{name}.crt"));
    let certificate = std::fs::read_to_string(&path).map_err(|source| KeyError::File {
        attempt: "read",
        path: path.clone(),
        source,
    })?;
    let key = read_private(&folder.join(format!("{name}.key")))?;
    Authority::load(certificate, &key).map_err(|source| KeyError::Authority { path, source })
}

/// Reads a secret file, and refuses one that others can read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let file = |source| KeyError::File { attempt: "read", path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
    // Group access is how Kubernetes mounts Secrets for a non-root user.
    if mode & 0o007 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(file)
}

/// A key file is one line of 64 hex digits.
fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let text = read_private(path)?;
    unhex(text.trim()).map(Zeroizing::new).ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })
}

/// [`TRUST`] as it stands in its file. The statement is a text, so that its bytes stay exactly those that were signed.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    statement: String,
    /// Key id and signature, both in hex.
    signatures: Vec<(KeyId, String)>,
}

/// Writes trust document 1 beside the keys.
pub(crate) fn write_trust(folder: &Path, signed: &Signed) -> Result<(), KeyError> {
    let path = folder.join(TRUST);
    let wrong = |reason: String| KeyError::NotATrustDocument { path: path.clone(), reason };
    let file = TrustFile {
        statement: String::from_utf8(signed.bytes.clone()).map_err(|e| wrong(e.to_string()))?,
        signatures: signed.signatures.iter().map(|s| (s.key, hex(&s.signature))).collect(),
    };
    let text = serde_json::to_string_pretty(&file).map_err(|e| wrong(e.to_string()))?;
    write_new(&path, (text + "\n").as_bytes(), 0o644)
}

/// Reads trust document 1, unverified; `None` when there is no such file.
pub(crate) fn read_trust(folder: &Path) -> Result<Option<Signed>, KeyError> {
    let path = folder.join(TRUST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyError::File { attempt: "read", path, source }),
    };
    let wrong = |reason: String| KeyError::NotATrustDocument { path: path.clone(), reason };
    let file: TrustFile = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let mut signatures = Vec::with_capacity(file.signatures.len());
    for (key, signature) in file.signatures {
        let signature =
            unhex(&signature).ok_or_else(|| wrong(format!("the signature of {key} is not 128 hex digits")))?;
        signatures.push(KeySignature { key, signature });
    }
    Ok(Some(Signed { bytes: file.statement.into_bytes(), signatures }))
}

pub(crate) fn write_key(path: &Path, key: &[u8; 32]) -> Result<(), KeyError> {
    let text = Zeroizing::new(format!("{}\n", hex(key)));
    write_new(path, text.as_bytes(), 0o600)
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let fail = |source| KeyError::File { attempt: "write", path: path.to_owned(), source };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)
}
