//! Small keyed hashes and identities that the engine keeps in the place of objects.

use std::fmt;
use std::str::FromStr;

use driftless_protocol::id::{hex, unhex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 16 bytes of keyed BLAKE3: equal or not is all it says. Keyed, so that a stored mark of a Secret tells a reader nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark([u8; 16]);

impl Mark {
    /// The mark of nothing: no hash is ever this.
    pub const NONE: Self = Self([0; 16]);

    /// What a hasher holds.
    #[must_use]
    pub fn of(hasher: &blake3::Hasher) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes[0] |= u8::from(bytes == [0; 16]);
        Self(bytes)
    }

    /// The mark of some bytes.
    #[must_use]
    pub fn of_bytes(key: &[u8; 32], bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(bytes);
        Self::of(&hasher)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({})", hex(&self.0[..4]))
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        unhex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("expected 32 lower-case hex digits"))
    }
}

/// An object's UID: 16 bytes when it is a UUID in the usual form, as the API server makes them, else its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uid {
    /// A UUID.
    Uuid([u8; 16]),
    /// Any other text (aggregated API servers may do as they like).
    Other(Box<str>),
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        match unhex(&digits) {
            Some(bytes) if Self::Uuid(bytes).to_string() == text => Self::Uuid(bytes),
            _ => Self::Other(text.into()),
        }
    }
}

impl Uid {
    /// Whether this is its text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Uuid(_) => *self == Self::from(text),
            Self::Other(other) => **other == *text,
        }
    }
}

impl FromStr for Uid {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.into())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(b) => {
                let (a, b, c, d, e) = (&b[..4], &b[4..6], &b[6..8], &b[8..10], &b[10..]);
                write!(f, "{}-{}-{}-{}-{}", hex(a), hex(b), hex(c), hex(d), hex(e))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Ok(Self::from(&*text))
    }
}

/// A resourceVersion. Numbers can be compared (Kubernetes promises it since 1.35, and etcd always did); texts cannot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Version {
    /// A number, as every etcd-backed server writes it.
    Number(u64),
    /// Anything else.
    Other(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        match text.parse::<u64>() {
            Ok(number) if number.to_string() == text => Self::Number(number),
            _ => Self::Other(text.into()),
        }
    }
}

impl Version {
    /// Certainly older than the other one.
    #[must_use]
    pub fn older_than(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Number(a), Self::Number(b)) if a < b)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_and_versions_come_back_as_they_were() {
        for text in
            ["3f2a1b0c-0000-4000-8000-00000000000a", "3F2A1B0C-0000-4000-8000-00000000000A", "x", "", "3f2a1b0c"]
        {
            assert_eq!(Uid::from(text).to_string(), text);
        }
        for text in ["0", "17", "017", "", "abc", "18446744073709551616"] {
            assert_eq!(Version::from(text).to_string(), text);
        }
        assert!(Version::from("9").older_than(&Version::from("10")));
        assert!(!Version::from("a").older_than(&Version::from("b")));
    }
}
