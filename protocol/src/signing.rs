//! Signatures: over exactly the bytes received, under a label per purpose; what passed is a type.
//!
//! The preimage is `label NUL length NUL bytes`, the length in ASCII decimal, so that no statement of one purpose can be
//! taken for one of another. Keys are Ed25519, verified strictly.

use std::collections::BTreeMap;
use std::ops::Deref;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError};
use crate::id::KeyId;

/// What a signed statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// [`crate::head::Head`], by a signer key.
    Head,
    /// [`crate::trust::TrustDocument`], by root keys.
    Trust,
}

impl Purpose {
    /// The domain label that begins the preimage.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Head => "driftless head v1",
            Self::Trust => "driftless trust v1",
        }
    }

    /// The name in messages.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Trust => "trust document",
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its 32 raw bytes; refuses what is not a point of the curve, and weak (small-order) points.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|k| !k.is_weak()).map(Self)
    }

    /// Its 32 raw bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = blake3::hash(self.0.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_bytes()[..16]);
        KeyId::from_bytes(first)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&crate::id::hex(self.0.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        crate::id::unhex(&text)
            .and_then(|b| Self::from_bytes(&b))
            .ok_or_else(|| serde::de::Error::custom("not an Ed25519 public key in lower-case hex"))
    }
}

/// A signature with the key it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySignature {
    /// Which key.
    pub key: KeyId,
    /// 64 bytes.
    pub signature: [u8; 64],
}

/// A statement as it travels: bytes and signatures, nothing of it trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Canonical JSON, exactly as signed.
    pub bytes: Vec<u8>,
    /// One or more.
    pub signatures: Vec<KeySignature>,
}

/// A secret signing key. Never printed.
pub struct SecretKey(SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

impl SecretKey {
    /// From 32 secret bytes of good randomness.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The 32 secret bytes, for writing the key file.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a statement.
    pub fn sign<T: Serialize>(&self, purpose: Purpose, statement: &T) -> Result<Signed, CanonicalError> {
        let bytes = canonical::to_vec(statement)?;
        let signature = KeySignature {
            key: self.public().id(),
            signature: self.0.sign(&preimage(purpose.label(), &bytes)).to_bytes(),
        };
        Ok(Signed { bytes, signatures: vec![signature] })
    }
}

/// `label NUL length NUL bytes`.
#[must_use]
pub fn preimage(label: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(label.len() + bytes.len() + 12);
    out.extend_from_slice(label.as_bytes());
    out.push(0);
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(0);
    out.extend_from_slice(bytes);
    out
}

/// Keys that may sign one purpose, and how many different ones must.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: BTreeMap<KeyId, PublicKey>,
    threshold: usize,
}

impl Keyring {
    /// A ring of these keys; at least one signature is always demanded.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, threshold: usize) -> Self {
        Self { keys: keys.into_iter().map(|k| (k.id(), k)).collect(), threshold: threshold.max(1) }
    }
}

/// Why a statement is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Larger than its kind may be.
    #[error("the {what} has {len} bytes, more than {limit}")]
    TooLarge {
        /// Head or trust document.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Too few good signatures by trusted keys.
    #[error("the {what} has {good} valid signatures of trusted keys, {needed} are needed (signed by {claimed})")]
    NotTrusted {
        /// Head or trust document.
        what: &'static str,
        /// Valid ones of different trusted keys.
        good: usize,
        /// The threshold.
        needed: usize,
        /// The key ids it claims.
        claimed: String,
    },
    /// Signed, but not what it should be.
    #[error("the {what} is signed but cannot be read")]
    Unreadable {
        /// Head or trust document.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: CanonicalError,
    },
}

/// A statement whose signatures were checked over the very bytes it was parsed from. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    statement: T,
    signed: Signed,
}

impl<T> Verified<T> {
    /// The bytes and signatures, for storing: they are verified again when read back.
    #[must_use]
    pub fn signed(&self) -> &Signed {
        &self.signed
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.statement
    }
}

/// Checks length, then signatures over the bytes as received, and only then parses.
pub fn verify<T: DeserializeOwned>(
    purpose: Purpose,
    signed: Signed,
    ring: &Keyring,
    limit: usize,
) -> Result<Verified<T>, VerifyError> {
    let what = purpose.noun();
    if signed.bytes.len() > limit {
        return Err(VerifyError::TooLarge { what, len: signed.bytes.len(), limit });
    }
    let message = preimage(purpose.label(), &signed.bytes);
    // Different keys, not different signatures: one key counted twice was a real advisory (RUSTSEC-2020-0024).
    let good: std::collections::BTreeSet<KeyId> = signed
        .signatures
        .iter()
        .filter(|s| {
            ring.keys
                .get(&s.key)
                .is_some_and(|key| key.0.verify_strict(&message, &Signature::from_bytes(&s.signature)).is_ok())
        })
        .map(|s| s.key)
        .collect();
    if good.len() < ring.threshold {
        let claimed: Vec<String> = signed.signatures.iter().take(8).map(|s| s.key.to_string()).collect();
        let claimed = if claimed.is_empty() { "nobody".to_owned() } else { claimed.join(", ") };
        return Err(VerifyError::NotTrusted { what, good: good.len(), needed: ring.threshold, claimed });
    }
    let statement = canonical::from_slice(&signed.bytes).map_err(|source| VerifyError::Unreadable { what, source })?;
    Ok(Verified { statement, signed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn ring(ns: &[u8], threshold: usize) -> Keyring {
        Keyring::new(ns.iter().map(|n| key(*n).public()), threshold)
    }

    #[test]
    fn a_good_signature_passes_and_every_flipped_bit_fails() {
        let signed = key(1).sign(Purpose::Head, &serde_json::json!({"a": 1})).unwrap();
        let check = |s: Signed| verify::<serde_json::Value>(Purpose::Head, s, &ring(&[1], 1), 1000);
        assert_eq!(check(signed.clone()).unwrap()["a"], 1);
        for i in 0..signed.bytes.len() * 8 {
            let mut mutant = signed.clone();
            mutant.bytes[i / 8] ^= 1 << (i % 8);
            assert!(check(mutant).is_err(), "bit {i} of the statement");
        }
        for i in 0..64 * 8 {
            let mut mutant = signed.clone();
            mutant.signatures[0].signature[i / 8] ^= 1 << (i % 8);
            assert!(check(mutant).is_err(), "bit {i} of the signature");
        }
    }

    #[test]
    fn purpose_key_threshold_and_length_count() {
        let signed = key(1).sign(Purpose::Head, &1).unwrap();
        assert!(verify::<u8>(Purpose::Trust, signed.clone(), &ring(&[1], 1), 10).is_err(), "other purpose");
        assert!(verify::<u8>(Purpose::Head, signed.clone(), &ring(&[2], 1), 10).is_err(), "unknown key");
        assert!(verify::<u8>(Purpose::Head, signed.clone(), &ring(&[1], 1), 0).is_err(), "over the limit");
        let mut twice = signed.clone();
        twice.signatures.push(twice.signatures[0].clone());
        assert!(verify::<u8>(Purpose::Head, twice, &ring(&[1, 2], 2), 10).is_err(), "one key twice");
        let mut both = signed;
        both.signatures.extend(key(2).sign(Purpose::Head, &1).unwrap().signatures);
        assert!(verify::<u8>(Purpose::Head, both, &ring(&[1, 2], 2), 10).is_ok(), "two keys");
    }
}
