//! The trust document: the root-signed list of keys an agent believes.

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::signing::{Keyring, PublicKey};

/// Signed by the root keys, version by version; agents move from N to N + 1 only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustDocument {
    /// Format, 1.
    pub format: u32,
    /// Counts from 1.
    pub version: u64,
    /// First part of every generation: raising it disowns whatever a stolen signer key has signed.
    pub trust_epoch: u64,
    /// Keys that sign the next version.
    pub roots: Vec<PublicKey>,
    /// How many of them must.
    pub root_threshold: u32,
    /// Keys that may sign heads.
    pub signers: Vec<PublicKey>,
    /// How many of them must.
    pub signer_threshold: u32,
    /// BLAKE3 of the DER of each certificate authority that issues hub and agent certificates.
    pub authorities: Vec<Digest>,
    /// Unix seconds.
    pub issued: u64,
    /// Unix seconds.
    pub expires: u64,
}

impl TrustDocument {
    /// The ring that signs the next version.
    #[must_use]
    pub fn root_ring(&self) -> Keyring {
        Keyring::new(self.roots.iter().cloned(), self.root_threshold as usize)
    }

    /// The ring that signs heads.
    #[must_use]
    pub fn signer_ring(&self) -> Keyring {
        Keyring::new(self.signers.iter().cloned(), self.signer_threshold as usize)
    }
}
