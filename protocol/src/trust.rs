//! The trust document: the root-signed list of keys an agent believes.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, KeyId};
use crate::limits;
use crate::signing::{self, Keyring, PublicKey, Purpose, Signed, Verified, VerifyError};

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

/// Why a chain of trust documents is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// There is none.
    #[error("there is no trust document")]
    Empty,
    /// A signature, the length or the form of one.
    #[error("trust document {version} is not to be believed")]
    Document {
        /// The version it should be.
        version: u64,
        /// What is wrong.
        #[source]
        source: VerifyError,
    },
    /// Its fields do not follow from the one before.
    #[error("trust document {version} does not follow: {reason}")]
    Sequence {
        /// The version it should be.
        version: u64,
        /// What is wrong.
        reason: String,
    },
    /// The last one is past its time.
    #[error("trust document {version} expired at Unix second {expires}; the root keys must sign a new one")]
    Expired {
        /// The last version.
        version: u64,
        /// When.
        expires: u64,
    },
}

/// Verifies trust documents from version 1 on: document 1 by the pinned root keys and by its own threshold, every next
/// one by both the one before and itself. The expiry of intermediate ones does not count, that of the last does
/// ([`check_expiry`]), so that an agent that slept a year can catch up.
pub fn verify_chain(root_pins: &[KeyId], documents: &[Signed]) -> Result<Verified<TrustDocument>, TrustError> {
    verify_all(root_pins, documents)?.pop().ok_or(TrustError::Empty)
}

/// As [`verify_chain`], with every document of the chain: what is stored may have been signed by an earlier one's keys.
pub fn verify_all(root_pins: &[KeyId], documents: &[Signed]) -> Result<Vec<Verified<TrustDocument>>, TrustError> {
    let (first, rest) = documents.split_first().ok_or(TrustError::Empty)?;
    let mut all = vec![verify_first(root_pins, first.clone())?];
    for document in rest {
        let next = match all.last() {
            Some(current) => verify_next(current, document.clone())?,
            None => return Err(TrustError::Empty),
        };
        all.push(next);
    }
    Ok(all)
}

/// Document 1. The pins of a join token are key ids, not keys, so it is read before it is verified, against the keys it
/// carries whose ids are pinned; nothing of it is used before that has passed.
fn verify_first(root_pins: &[KeyId], signed: Signed) -> Result<Verified<TrustDocument>, TrustError> {
    let version = 1;
    let document = |source| TrustError::Document { version, source };
    let what = Purpose::Trust.noun();
    if signed.bytes.len() > limits::TRUST_BYTES {
        return Err(document(VerifyError::TooLarge { what, len: signed.bytes.len(), limit: limits::TRUST_BYTES }));
    }
    let claimed: TrustDocument = crate::canonical::from_slice(&signed.bytes)
        .map_err(|source| document(VerifyError::Unreadable { what, source }))?;
    check_fields(&claimed, version)?;
    let pinned: Vec<PublicKey> = claimed.roots.iter().filter(|k| root_pins.contains(&k.id())).cloned().collect();
    if pinned.is_empty() {
        return Err(TrustError::Sequence {
            version,
            reason: "it names none of the pinned root keys; the join token belongs to another hub".into(),
        });
    }
    let needed = claimed.root_threshold as usize;
    signing::verify(Purpose::Trust, signed, &Keyring::new(pinned, needed), limits::TRUST_BYTES).map_err(document)
}

/// The document after `current`: signed by a threshold of `current`'s root keys and by one of its own.
pub fn verify_next(current: &Verified<TrustDocument>, signed: Signed) -> Result<Verified<TrustDocument>, TrustError> {
    let version = current.version.saturating_add(1);
    let document = |source| TrustError::Document { version, source };
    let by_old: Verified<TrustDocument> =
        signing::verify(Purpose::Trust, signed, &current.root_ring(), limits::TRUST_BYTES).map_err(document)?;
    check_fields(&by_old, version)?;
    if by_old.trust_epoch < current.trust_epoch {
        return Err(TrustError::Sequence {
            version,
            reason: format!("its trust epoch {} is below {}", by_old.trust_epoch, current.trust_epoch),
        });
    }
    let own = by_old.root_ring();
    signing::verify(Purpose::Trust, by_old.signed().clone(), &own, limits::TRUST_BYTES).map_err(document)
}

/// Refuses a document past its time. `now` in Unix seconds. For new work only: enforcing what is there goes on.
pub fn check_expiry(document: &TrustDocument, now: u64) -> Result<(), TrustError> {
    if now >= document.expires {
        return Err(TrustError::Expired { version: document.version, expires: document.expires });
    }
    Ok(())
}

fn check_fields(document: &TrustDocument, version: u64) -> Result<(), TrustError> {
    let wrong = |reason: String| Err(TrustError::Sequence { version, reason });
    if document.format != 1 {
        return wrong(format!("its format {} is not 1", document.format));
    }
    if document.version != version {
        return wrong(format!("it is version {}", document.version));
    }
    for (what, keys, threshold) in
        [("root", &document.roots, document.root_threshold), ("signer", &document.signers, document.signer_threshold)]
    {
        let distinct: std::collections::BTreeSet<KeyId> = keys.iter().map(PublicKey::id).collect();
        if distinct.len() != keys.len() {
            return wrong(format!("a {what} key stands twice"));
        }
        if threshold == 0 || threshold as usize > distinct.len() {
            return wrong(format!("its {what} threshold {threshold} does not fit {} keys", distinct.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::SecretKey;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    fn document(version: u64, roots: &[u8], threshold: u32) -> TrustDocument {
        TrustDocument {
            format: 1,
            version,
            trust_epoch: 1,
            roots: roots.iter().map(|n| key(*n).public()).collect(),
            root_threshold: threshold,
            signers: vec![key(100).public()],
            signer_threshold: 1,
            authorities: Vec::new(),
            issued: 0,
            expires: 100,
        }
    }

    fn sign(document: &TrustDocument, keys: &[u8]) -> Signed {
        let mut signed = key(keys[0]).sign(Purpose::Trust, document).unwrap();
        for n in &keys[1..] {
            signed.signatures.extend(key(*n).sign(Purpose::Trust, document).unwrap().signatures);
        }
        signed
    }

    fn pins(keys: &[u8]) -> Vec<KeyId> {
        keys.iter().map(|n| key(*n).public().id()).collect()
    }

    /// Name, pins, documents, and the last version or a part of the refusal.
    type Case = (&'static str, Vec<u8>, Vec<Signed>, Result<u64, &'static str>);

    #[test]
    fn chains_are_believed_only_when_every_step_is_signed_by_both_sides() {
        let one = || sign(&document(1, &[1], 1), &[1]);
        let rotated = document(2, &[2], 1);
        let cases: Vec<Case> = vec![
            ("one", vec![1], vec![one()], Ok(1)),
            ("none", vec![1], vec![], Err("no trust document")),
            ("another hub's pin", vec![9], vec![one()], Err("another hub")),
            ("signed by an unpinned key", vec![1], vec![sign(&document(1, &[1, 2], 1), &[2])], Err("valid signatures")),
            ("two pinned, two needed", vec![1, 2], vec![sign(&document(1, &[1, 2], 2), &[1, 2])], Ok(1)),
            ("one pinned, two needed", vec![1], vec![sign(&document(1, &[1, 2], 2), &[1, 2])], Err("2 are needed")),
            ("one key twice", vec![1, 2], vec![sign(&document(1, &[1, 2], 2), &[1, 1])], Err("2 are needed")),
            ("rotation by both", vec![1], vec![one(), sign(&rotated, &[1, 2])], Ok(2)),
            ("rotation by the old alone", vec![1], vec![one(), sign(&rotated, &[1])], Err("valid signatures")),
            ("rotation by the new alone", vec![1], vec![one(), sign(&rotated, &[2])], Err("valid signatures")),
            ("a gap", vec![1], vec![one(), sign(&document(3, &[1], 1), &[1])], Err("it is version 3")),
            ("the same again", vec![1], vec![one(), one()], Err("it is version 1")),
            ("not from 1 on", vec![1], vec![sign(&document(2, &[1], 1), &[1])], Err("it is version 2")),
            ("threshold 0", vec![1], vec![sign(&document(1, &[1], 0), &[1])], Err("threshold 0")),
            ("threshold too high", vec![1], vec![sign(&document(1, &[1], 2), &[1])], Err("threshold 2")),
            ("a root twice", vec![1], vec![sign(&document(1, &[1, 1], 1), &[1])], Err("stands twice")),
        ];
        for (name, keys, documents, expected) in cases {
            match (verify_chain(&pins(&keys), &documents), expected) {
                (Ok(verified), Ok(version)) => assert_eq!(verified.version, version, "{name}"),
                (Err(error), Err(text)) => {
                    let mut shown = error.to_string();
                    if let Some(source) = std::error::Error::source(&error) {
                        shown = format!("{shown}: {source}");
                    }
                    assert!(shown.contains(text), "{name}: {shown}");
                }
                (result, _) => panic!("{name}: {:?}", result.map(|v| v.version).map_err(|e| e.to_string())),
            }
        }
    }

    #[test]
    fn the_trust_epoch_never_falls_and_other_purposes_do_not_count() {
        let mut first = document(1, &[1], 1);
        first.trust_epoch = 5;
        let lower = sign(&document(2, &[1], 1), &[1]);
        let error = verify_chain(&pins(&[1]), &[sign(&first, &[1]), lower]).unwrap_err();
        assert!(error.to_string().contains("below 5"), "{error}");
        let head = key(1).sign(Purpose::Head, &document(1, &[1], 1)).unwrap();
        assert!(verify_chain(&pins(&[1]), &[head]).is_err());
    }

    #[test]
    fn only_the_last_documents_expiry_counts() {
        let one = sign(&document(1, &[1], 1), &[1]);
        let mut second = document(2, &[1], 1);
        second.expires = 1000;
        let verified = verify_chain(&pins(&[1]), &[one.clone(), sign(&second, &[1])]).unwrap();
        assert!(check_expiry(&verified, 999).is_ok());
        assert!(check_expiry(&verified, 1000).is_err());
        let verified = verify_chain(&pins(&[1]), &[one]).unwrap();
        assert!(check_expiry(&verified, 100).is_err());
    }
}
