//! The join token: one paste that lets a cluster enrol once, and know its hub and its root key before it says anything.

use crate::id::{Digest, KeyId, TokenId};

/// What a join token begins with: the format and its version.
pub const PREFIX: &str = "dfj1.";

/// A join token. [`std::fmt::Debug`] and [`std::fmt::Display`] never show the secret; [`JoinToken::reveal`] does.
#[derive(Clone)]
pub struct JoinToken {
    /// Public half; the hub finds its record by it.
    pub id: TokenId,
    /// Secret half, 256 bits of good randomness.
    pub secret: TokenSecret,
    /// BLAKE3 of the DER of the hub's certificate authority.
    pub hub_ca: Digest,
    /// The root keys that must have signed trust document 1 (as many of them as it demands).
    pub root_keys: Vec<KeyId>,
    /// Where the hub listens, `host:port` (or `[v6]:port`), tried in turn.
    pub addresses: Vec<String>,
    /// The name in the hub's certificate.
    pub server_name: String,
}

/// The secret half of a join token. Wiped on drop, never printed.
#[derive(Clone)]
pub struct TokenSecret(zeroize::Zeroizing<[u8; 32]>);

/// What the hub keeps of a secret: enough to recognise it, not enough to use it.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// Why a text is not a join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the join token is empty; make one with `driftless cluster join-token`")]
    Empty,
    /// Does not begin as a token does.
    #[error("this is not a join token: it begins with {begins:?}, a token begins with \"dfj1.\"")]
    Prefix {
        /// The first characters, at most eight.
        begins: String,
    },
    /// A token of a newer format.
    #[error("the join token has format {found:?}, this program reads \"dfj1.\"; update it or make the token with an older hub")]
    Format {
        /// Its prefix.
        found: String,
    },
    /// A character that cannot be in a token.
    #[error("the join token has the character {character:?} at position {position}, which no token has; paste it again, without quotes or line breaks")]
    Character {
        /// The character.
        character: char,
        /// Counted from 1.
        position: usize,
    },
    /// Cut off or damaged: its check sum does not fit.
    #[error("the join token is cut off or damaged (it has {len} characters and its check sum does not fit); paste it again, whole")]
    Damaged {
        /// How many characters it has.
        len: usize,
    },
    /// Whole, but a field is not what it must be.
    #[error("the join token is whole but {0}")]
    Content(String),
}

impl JoinToken {
    /// Reads the text form. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        imp::parse(text)
    }

    /// The text form, with the secret: for the operator's terminal only.
    #[must_use]
    pub fn reveal(&self) -> zeroize::Zeroizing<String> {
        imp::reveal(self)
    }
}
