//! Which text is a key: those that most manifests are made of are known by number.
//!
//! An object of thirty lines has fifty keys, and nearly all of them are from a small vocabulary. As numbers they take no
//! memory of their own, cost nothing to copy, and are compared without a look at their text.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::vocabulary::{NAMES, OWN_BITS, number};

/// The key of a map's entry. A name of the vocabulary is always a number, whatever way the key was made.
#[derive(Clone)]
pub struct Key(Repr);

#[derive(Clone)]
enum Repr {
    Known(u16),
    Other(Arc<str>),
}

impl Key {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(number) => NAMES.get(usize::from(*number)).copied().unwrap_or_default(),
            Repr::Other(text) => text,
        }
    }

    /// The bit that stands for this key in a set of 63: a few names have their own, the others share.
    pub(crate) fn bit(&self) -> u64 {
        const SHARED: u64 = 63 - OWN_BITS as u64;
        let at = match &self.0 {
            Repr::Known(number) if usize::from(*number) < OWN_BITS => u64::from(*number),
            Repr::Known(number) => OWN_BITS as u64 + u64::from(*number) % SHARED,
            Repr::Other(text) => {
                let last = text.as_bytes().last().copied().unwrap_or_default();
                OWN_BITS as u64 + (text.len() as u64 * 31 + u64::from(last)) % SHARED
            }
        };
        1 << at
    }
}

impl Deref for Key {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(number(text).map_or_else(|| Repr::Other(text.into()), Repr::Known))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Arc<str>> for Key {
    fn from(text: Arc<str>) -> Self {
        Self(number(&text).map_or(Repr::Other(text), Repr::Known))
    }
}

impl From<Key> for Arc<str> {
    fn from(key: Key) -> Self {
        match key.0 {
            Repr::Known(_) => Self::from(key.as_str()),
            Repr::Other(text) => text,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Known(a), Repr::Known(b)) => a == b,
            (Repr::Other(a), Repr::Other(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As its text, so that a map by key can be asked with a text.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_make_a_key_gives_the_same() {
        for text in NAMES.iter().copied().chain(["", "x", "example.org/zone", "Metadata"]) {
            let keys = [Key::from(text), Key::from(text.to_owned()), Key::from(Arc::<str>::from(text))];
            for key in &keys {
                assert_eq!((key.as_str(), key), (text, &keys[0]));
                assert_eq!(&*Arc::<str>::from(key.clone()), text);
                assert_eq!(key.bit().count_ones(), 1);
                assert!(key.bit() < 1 << 63, "{text}");
            }
        }
    }
}
