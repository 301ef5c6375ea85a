//! Identities: each a type that is valid once it exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not the identity it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {reason}")]
pub struct IdError {
    /// What was expected, with its article.
    pub what: &'static str,
    /// The text given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl IdError {
    fn new(what: &'static str, text: &str, reason: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), reason }
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            #[doc = concat!("From its ", stringify!($len), " bytes.")]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            #[doc = concat!("Its ", stringify!($len), " bytes.")]
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hex digits, for logs.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                unhex(text).map(Self).ok_or_else(|| {
                    IdError::new($what, text, concat!("expected twice ", stringify!($len), " lower-case hex digits"))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&hex(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

byte_id!(
    /// BLAKE3 over exact bytes: the address of every blob.
    Digest,
    32,
    "a digest"
);
byte_id!(
    /// An enrolled cluster, for its whole life. Random, given by the hub; the name may change, this does not.
    ClusterId,
    16,
    "a cluster id"
);
byte_id!(
    /// A public key: the first 16 bytes of BLAKE3 over its 32 raw bytes.
    KeyId,
    16,
    "a key id"
);
byte_id!(
    /// The public half of a join token.
    TokenId,
    8,
    "a token id"
);
byte_id!(
    /// The value of the label `driftless.dev/unit`: the first 16 bytes of BLAKE3 over `namespace/name/kind`.
    UnitLabel,
    16,
    "a unit label"
);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// An agent's number for one transfer of blobs; rises within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransferId(pub u64);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A cluster's name: a DNS-1123 label of at most 63 characters, unique in the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let what = "a cluster name";
        if text.is_empty() || text.len() > 63 {
            return Err(IdError::new(what, text, "expected 1 to 63 characters"));
        }
        let ok = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !ok || text.starts_with('-') || text.ends_with('-') {
            return Err(IdError::new(
                what,
                text,
                "expected lower-case letters, digits and inner hyphens, as in a DNS label",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ClusterName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which Flux object a unit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnitKind {
    /// `kustomize.toolkit.fluxcd.io` Kustomization.
    Kustomization,
    /// `helm.toolkit.fluxcd.io` HelmRelease.
    HelmRelease,
}

impl UnitKind {
    /// The Kubernetes kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kustomization => "Kustomization",
            Self::HelmRelease => "HelmRelease",
        }
    }
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A unit of one cluster, by the name its Flux object has. Shown as `namespace/name` (a HelmRelease with its kind before).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitId {
    /// Namespace of the Flux object.
    pub namespace: String,
    /// Name of the Flux object.
    pub name: String,
    /// Its kind.
    pub kind: UnitKind,
}

impl UnitId {
    /// The unit of a Flux Kustomization.
    pub fn kustomization(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), kind: UnitKind::Kustomization }
    }

    /// The value of the label `driftless.dev/unit` on every object of this unit.
    #[must_use]
    pub fn label(&self) -> UnitLabel {
        let hash = blake3::hash(format!("{}/{}/{}", self.namespace, self.name, self.kind).as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_bytes()[..16]);
        UnitLabel(first)
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UnitKind::Kustomization => write!(f, "{}/{}", self.namespace, self.name),
            UnitKind::HelmRelease => write!(f, "HelmRelease {}/{}", self.namespace, self.name),
        }
    }
}

/// One commit of a source, shown as Flux shows it: `main@sha1:<hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The branch, tag or other name it was resolved from; empty for a bare commit.
    pub reference: String,
    /// The commit, 40 lower-case hex digits (64 in a SHA-256 repository).
    pub commit: String,
}

impl Revision {
    /// The first eight digits of the commit, as people quote it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.commit.get(..8).unwrap_or(&self.commit)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = if self.commit.len() == 64 { "sha256" } else { "sha1" };
        if self.reference.is_empty() {
            write!(f, "{algorithm}:{}", self.commit)
        } else {
            write!(f, "{}@{algorithm}:{}", self.reference, self.commit)
        }
    }
}

/// Where a cluster's desired state stands: compared field by field in this order, and an agent never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// From the root-signed trust document: a stolen signer key cannot raise it.
    pub trust_epoch: u64,
    /// Unix seconds at which the hub's database was created, or its epoch last bumped after a restore.
    pub epoch: u64,
    /// Counts the offers to this cluster.
    pub sequence: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.trust_epoch, self.epoch, self.sequence)
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(char::from(DIGITS[usize::from(b >> 4)]));
        out.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    out
}

/// Lower-case hex back into exactly `N` bytes.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_ids_round_trip_as_text_and_refuse_the_rest() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        for bad in ["", "00", &"0".repeat(63), &"G".repeat(64), &"A".repeat(64)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn cluster_names_are_dns_labels() {
        for good in ["a", "prod-eu-7", "0", &"a".repeat(63)] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn generations_compare_trust_epoch_then_epoch_then_sequence() {
        let generation = |trust_epoch, epoch, sequence| Generation { trust_epoch, epoch, sequence };
        assert!(generation(2, 1, 1) > generation(1, 9, 9));
        assert!(generation(1, 2, 1) > generation(1, 1, 9));
        assert!(generation(1, 1, 2) > generation(1, 1, 1));
    }

    #[test]
    fn a_revision_reads_as_flux_writes_it() {
        let revision = Revision { reference: "main".into(), commit: "a".repeat(40) };
        assert_eq!(revision.to_string(), format!("main@sha1:{}", "a".repeat(40)));
        assert_eq!(Revision { reference: String::new(), ..revision }.to_string(), format!("sha1:{}", "a".repeat(40)));
    }
}
