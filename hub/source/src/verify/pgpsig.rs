//! PGP signatures (`gpg.format = openpgp`), read and checked by rPGP. No private key is ever read, nothing is decrypted.
//!
//! What counts is what counts for Flux: the certificate must stand at the moment of the check. A key that is expired or
//! revoked now signs nothing any more, not even what it signed while it was good. Broken digests, short and old kinds of
//! keys are refused.

use std::time::{Duration, SystemTime};

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{EcdsaPublicParams, KeyDetails, PublicParams, Tag, Timestamp};

/// Longest signature and longest entry of keys, armoured.
const LONGEST: usize = 64 << 10;
const LONGEST_KEYS: usize = 4 << 20;
/// Shortest RSA key, in bits.
const RSA_BITS: u16 = 2048;
/// How far a signer's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(600);

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// A certificate: a primary key, its subkeys, and what they say about each other.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    certificate: SignedPublicKey,
}

/// The part of a certificate that made a signature.
enum Part<'c> {
    Primary,
    Sub(&'c SignedPublicSubKey),
}

/// Armoured blocks of public keys, one after the other.
pub(super) fn read(text: &str) -> Result<Vec<PublicKey>, String> {
    if text.contains("PGP PRIVATE KEY") {
        return Err("it holds a private key; put only the public one there (gpg --export --armor)".to_owned());
    }
    if text.len() > LONGEST_KEYS {
        return Err(format!("it is longer than {LONGEST_KEYS} bytes"));
    }
    let starts = text.match_indices(BEGIN).map(|(at, _)| at);
    let ends = starts.clone().skip(1).chain([text.len()]);
    let mut keys = Vec::new();
    for (number, (start, end)) in starts.zip(ends).enumerate() {
        let block = &text[start..end];
        let unreadable = |why: pgp::errors::Error| format!("PGP key block {} cannot be read: {why}", number + 1);
        let (found, _) = SignedPublicKey::from_string_many(block).map_err(unreadable)?;
        let before = keys.len();
        for certificate in found {
            keys.push(PublicKey { certificate: certificate.map_err(unreadable)? });
        }
        if keys.len() == before {
            return Err(format!("PGP key block {} holds no key", number + 1));
        }
    }
    if keys.is_empty() {
        let hint = "SSH keys go into an entry whose name ends in .sshpub";
        return Err(format!("it holds no PGP public key; {hint}"));
    }
    Ok(keys)
}

/// The fingerprint, as `gpg --fingerprint` shows it without its blanks.
pub(super) fn name(key: &PublicKey) -> String {
    fingerprint(&key.certificate.primary_key)
}

fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

pub(super) fn check(armour: &str, payload: &[u8], keys: &[PublicKey], now: SystemTime) -> Result<String, String> {
    let signature = one(armour)?;
    let candidates: Vec<(&PublicKey, Part<'_>)> = keys.iter().filter_map(|k| Some((k, k.part(&signature)?))).collect();
    if candidates.is_empty() {
        return Err(match maker(&signature) {
            Some(id) => format!("it is signed with the PGP key {id}, which is not trusted"),
            None => "its PGP signature does not say which key made it".to_owned(),
        });
    }
    signed_for_now(&signature, now)?;
    let mut refused = String::new();
    // Several only where the signature names no more than the end of a fingerprint.
    for (key, part) in candidates {
        match key.check(&part, &signature, payload, now) {
            Ok(()) => return Ok(name(key)),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// The signature in an armoured block.
fn one(armour: &str) -> Result<Signature, String> {
    let unreadable = || "its PGP signature cannot be read".to_owned();
    if armour.len() > LONGEST {
        return Err(unreadable());
    }
    let (mut found, _) = DetachedSignature::from_string_many(armour).map_err(|_| unreadable())?;
    let first = found.next().ok_or_else(unreadable)?.map_err(|_| unreadable())?;
    if found.next().is_some() {
        return Err("it has more than one PGP signature".to_owned());
    }
    Ok(first.signature)
}

/// The key that a signature says it is made with: its fingerprint, or the end of it.
fn maker(signature: &Signature) -> Option<String> {
    let whole = signature.issuer_fingerprint().first().map(|f| format!("{f:X}"));
    whole.or_else(|| signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase()))
}

fn made_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let whole = signature.issuer_fingerprint();
    if whole.is_empty() {
        let id = key.legacy_key_id();
        return signature.issuer_key_id().contains(&&id);
    }
    let fingerprint = key.fingerprint();
    whole.contains(&&fingerprint)
}

/// Whether a signature is of a kind that is taken, whatever key made it.
fn signed_for_now(signature: &Signature, now: SystemTime) -> Result<(), String> {
    let config = signature.config().ok_or("its PGP signature is of a version that is not known")?;
    if config.typ() != SignatureType::Binary {
        return Err("its PGP signature was made for something else than the bytes of a commit or tag".to_owned());
    }
    strong(config.hash_alg, &[HashAlgorithm::Sha1])?;
    let unknown =
        |p: &Subpacket| p.is_critical && matches!(p.data, SubpacketData::Other(..) | SubpacketData::Experimental(..));
    if config.hashed_subpackets().any(unknown) {
        return Err("its PGP signature holds only under a condition that is not known here".to_owned());
    }
    let created = signature.created().ok_or("its PGP signature does not say when it was made")?;
    if SystemTime::from(created) > now + AHEAD {
        return Err(format!("its PGP signature was made in the future, on {}", day(created.into())));
    }
    match ends(created, signature.signature_expiration_time()) {
        Some(end) if end <= now => Err(format!("its PGP signature expired on {}", day(end))),
        _ => Ok(()),
    }
}

/// Refuses digests that are broken, and those in `more`.
fn strong(digest: HashAlgorithm, more: &[HashAlgorithm]) -> Result<(), String> {
    let known = matches!(
        digest,
        HashAlgorithm::Sha1
            | HashAlgorithm::Sha224
            | HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512
    );
    match known && !more.contains(&digest) {
        true => Ok(()),
        false => Err(format!("its PGP signature uses the digest {digest}, which is too weak")),
    }
}

/// When something ends that is good for a time. `None`: never.
fn ends(from: Timestamp, time: Option<pgp::types::Duration>) -> Option<SystemTime> {
    let seconds = time.map(pgp::types::Duration::as_secs).filter(|s| *s > 0)?;
    Some(SystemTime::from(from) + Duration::from_secs(seconds.into()))
}

fn day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    gix::date::Time::new(i64::try_from(seconds).unwrap_or(i64::MAX), 0).format_or_unix(gix::date::time::format::SHORT)
}

impl PublicKey {
    /// The part of this certificate that a signature says it is made with.
    fn part(&self, signature: &Signature) -> Option<Part<'_>> {
        if made_by(signature, &self.certificate.primary_key) {
            return Some(Part::Primary);
        }
        self.certificate.public_subkeys.iter().find(|sub| made_by(signature, &sub.key)).map(Part::Sub)
    }

    fn check(&self, part: &Part<'_>, signature: &Signature, payload: &[u8], now: SystemTime) -> Result<(), String> {
        let shown = match part {
            Part::Primary => name(self),
            Part::Sub(sub) => format!("{} (a subkey of {})", fingerprint(&sub.key), name(self)),
        };
        let signed = |why: String| format!("it is signed with the PGP key {shown}, {why}");
        let (fits, made) = match part {
            Part::Primary => {
                let key = &self.certificate.primary_key;
                strong_key(key).map_err(signed)?;
                self.stands(now).map_err(signed)?;
                self.may_sign().map_err(signed)?;
                (signature.verify(key, payload).is_ok(), key.created_at())
            }
            Part::Sub(sub) => {
                strong_key(&sub.key).map_err(signed)?;
                self.stands(now).map_err(signed)?;
                self.vouches_for(sub, now).map_err(signed)?;
                (signature.verify(&sub.key, payload).is_ok(), sub.key.created_at())
            }
        };
        if !fits {
            return Err(format!("its signature with the PGP key {shown} does not fit its content"));
        }
        if signature.created().is_some_and(|at| at < made) {
            return Err(signed("and was made before that key".to_owned()));
        }
        Ok(())
    }

    /// What the primary key said of itself last.
    fn own_word(&self) -> Option<&Signature> {
        let certificate = &self.certificate;
        let key = &certificate.primary_key;
        let of_users = certificate.details.users.iter().flat_map(|user| {
            let good =
                move |s: &&Signature| believable(s) && s.verify_certification(key, Tag::UserId, &user.id).is_ok();
            let revoked = |s: &Signature| s.typ() == Some(SignatureType::CertRevocation);
            let taken_back =
                user.signatures.iter().filter(|s| revoked(s)).filter(good).filter_map(Signature::created).max();
            let said = user.signatures.iter().filter(move |s| !revoked(s)).filter(good);
            said.filter(move |s| taken_back.is_none_or(|at| s.created().is_some_and(|made| made > at)))
        });
        let direct = certificate.details.direct_signatures.iter();
        let direct =
            direct.filter(|s| s.typ() == Some(SignatureType::Key) && believable(s) && s.verify_key(key).is_ok());
        of_users.chain(direct).max_by_key(|s| s.created())
    }

    /// Whether the certificate as a whole is good now.
    fn stands(&self, now: SystemTime) -> Result<(), String> {
        let key = &self.certificate.primary_key;
        if let Some(revocation) = self.certificate.details.revocation_signatures.first() {
            return Err(match revocation.verify_key(key) {
                Ok(()) => "which is revoked".to_owned(),
                Err(_) => "which carries a revocation that cannot be checked".to_owned(),
            });
        }
        let own = self.own_word().ok_or("whose certificate is not signed by itself")?;
        not_over(key.created_at(), own, now)
    }

    /// Whether the primary key is meant for signing, where it says anything about that.
    fn may_sign(&self) -> Result<(), String> {
        let flags = |s: &Signature| {
            s.config().is_some_and(|c| c.hashed_subpackets().any(|p| matches!(p.data, SubpacketData::KeyFlags(_))))
        };
        match self.own_word() {
            Some(own) if flags(own) && !own.key_flags().sign() => Err("which is not meant for signing".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether the primary key vouches for a subkey that signs, and the subkey for the primary.
    fn vouches_for(&self, sub: &SignedPublicSubKey, now: SystemTime) -> Result<(), String> {
        let primary = &self.certificate.primary_key;
        let revocation = sub.signatures.iter().find(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
        if let Some(revocation) = revocation {
            return Err(match revocation.verify_subkey_binding(primary, &sub.key) {
                Ok(()) => "which is revoked".to_owned(),
                Err(_) => "which carries a revocation that cannot be checked".to_owned(),
            });
        }
        let bindings = sub.signatures.iter().filter(|s| s.typ() == Some(SignatureType::SubkeyBinding));
        let good = bindings.filter(|s| believable(s) && s.verify_subkey_binding(primary, &sub.key).is_ok());
        let binding = good.max_by_key(|s| s.created()).ok_or("which the primary key does not vouch for")?;
        if !binding.key_flags().sign() {
            return Err("which is not meant for signing".to_owned());
        }
        let back = binding
            .embedded_signature()
            .is_some_and(|s| believable(s) && s.verify_primary_key_binding(&sub.key, primary).is_ok());
        if !back {
            return Err("which does not vouch for the primary key".to_owned());
        }
        not_over(sub.key.created_at(), binding, now)
    }
}

/// Whether what keys say about each other may be believed. SHA-1 may: old keys have nothing else, and who could use that
/// against them could as well put a key of their own among the trusted ones.
fn believable(signature: &Signature) -> bool {
    signature.hash_alg().is_some_and(|digest| strong(digest, &[]).is_ok())
}

/// Whether a key is good now, by what was said of it last.
fn not_over(created: Timestamp, word: &Signature, now: SystemTime) -> Result<(), String> {
    match ends(created, word.key_expiration_time()) {
        Some(end) if end <= now => Err(format!("which expired on {}", day(end))),
        _ => Ok(()),
    }
}

/// Kinds of keys that are taken, and how long they must be.
fn strong_key(key: &impl KeyDetails) -> Result<(), String> {
    match key.public_params() {
        PublicParams::RSA(params) => {
            // Written down, the modulus stands first, and its length in bits before it.
            let written = params.to_bytes().unwrap_or_default();
            let bits = written.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits));
            if bits >= RSA_BITS {
                return Ok(());
            }
            Err(format!("an RSA key of {bits} bits; {RSA_BITS} are the least"))
        }
        PublicParams::ECDSA(
            EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. },
        )
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Ok(()),
        _ => Err(format!("a key of a kind that is not taken ({:?})", key.algorithm())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_or_signature_is_refused_in_words() {
        for (text, part) in [
            ("", "no PGP public key"),
            ("hello", "no PGP public key"),
            ("ssh-ed25519 AAAA", ".sshpub"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "private key"),
            (BEGIN, "PGP key block 1"),
            (&format!("{BEGIN}\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----\n"), "PGP key block 1"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(read(&"x".repeat(LONGEST_KEYS + 1)).unwrap_err().contains("longer than"));
        let now = SystemTime::now();
        for armour in ["", "-----BEGIN PGP SIGNATURE-----\n\n\n-----END PGP SIGNATURE-----\n", &"x".repeat(LONGEST + 1)]
        {
            assert!(check(armour, b"x", &[], now).unwrap_err().contains("cannot be read"), "{armour:.40}");
        }
    }
}
