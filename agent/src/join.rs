//! The join token file: a Secret that whoever installs the agent mounts, and may change or remove at any time.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use driftless_protocol::id::Digest;
use driftless_protocol::token::JoinToken;
use zeroize::Zeroizing;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the join token in {}: {reason}", path.display())]
pub struct JoinError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Where the join token is, and what the hub said of it. Lives as long as the process, over many terms of leading.
#[derive(Debug, Default)]
pub struct JoinFile {
    path: Option<PathBuf>,
    /// The content that the hub refused for good.
    refused: Mutex<Option<Digest>>,
}

/// A token, with the content of the file it came from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The token.
    pub token: JoinToken,
    /// For [`JoinFile::refuse`].
    pub content: Digest,
}

impl JoinFile {
    /// `None`: there is no such file, ever.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, refused: Mutex::default() }
    }

    /// The token that is there now. The Secret may be gone once the cluster has its identity.
    pub fn read(&self) -> Result<Option<Found>, JoinError> {
        let Some(path) = &self.path else { return Ok(None) };
        let wrong = |reason: String| JoinError { path: path.clone(), reason };
        match std::fs::read_to_string(path).map(Zeroizing::new) {
            Ok(text) => {
                let token = text.trim().parse().map_err(|e| wrong(format!("{e}")))?;
                Ok(Some(Found { token, content: Digest::of(text.as_bytes()) }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// The token that is there now, unless the hub has refused it for good.
    pub fn read_fresh(&self) -> Result<Option<Found>, JoinError> {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.read()?.filter(|found| refused != Some(found.content)))
    }

    /// The hub refused this content for good: it is not asked again before the file is another.
    pub fn refuse(&self, content: Digest) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(content);
    }
}
