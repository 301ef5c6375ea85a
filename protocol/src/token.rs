//! The join token: one paste that lets a cluster enrol once, and know its hub and its root key before it says anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::canonical;
use crate::id::{Digest, KeyId, TokenId, hex, unhex};

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
pub struct TokenSecret(Zeroizing<[u8; 32]>);

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
    #[error(
        "the join token has format {found:?}, this program reads \"dfj1.\"; update it or make the token with an older hub"
    )]
    Format {
        /// Its prefix.
        found: String,
    },
    /// A character that cannot be in a token.
    #[error(
        "the join token has the character {character:?} at position {position}, which no token has; paste it again, without quotes or line breaks"
    )]
    Character {
        /// The character.
        character: char,
        /// Counted from 1.
        position: usize,
    },
    /// Cut off or damaged: its check sum does not fit.
    #[error(
        "the join token is cut off or damaged (it has {len} characters and its check sum does not fit); paste it again, whole"
    )]
    Damaged {
        /// How many characters it has.
        len: usize,
    },
    /// Whole, but a field is not what it must be.
    #[error("the join token is whole but {0}")]
    Content(String),
}

/// The JSON inside, with short names: people paste it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    a: Vec<String>,
    c: Digest,
    i: TokenId,
    n: String,
    r: Vec<KeyId>,
    s: String,
}

/// Longest text form: eight addresses of 253 characters stay below.
const MAX_CHARACTERS: usize = 8 * 1024;
/// Bytes of the check sum, enough to catch a damaged paste. It protects nothing else.
const CHECK_BYTES: usize = 4;

impl JoinToken {
    /// Reads the text form. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let Some(body) = text.strip_prefix(PREFIX) else { return Err(wrong_prefix(text)) };
        if let Some((at, character)) = text
            .chars()
            .enumerate()
            .skip(PREFIX.len())
            .find(|(_, c)| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            return Err(TokenError::Character { character, position: at + 1 });
        }
        let damaged = || TokenError::Damaged { len: text.len() };
        if text.len() > MAX_CHARACTERS {
            return Err(damaged());
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?);
        let (json, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or_else(damaged)?;
        if blake3::hash(json).as_bytes()[..CHECK_BYTES] != check[..] {
            return Err(damaged());
        }
        // The decoder's own words may quote the input, which holds the secret.
        let unreadable = |_| TokenError::Content("its content is not that of a join token".into());
        let fields: Text = canonical::from_slice(json).map_err(unreadable)?;
        let secret = Zeroizing::new(fields.s);
        let secret = unhex::<32>(&secret)
            .ok_or_else(|| TokenError::Content("its secret is not 64 lower-case hex digits".into()))?;
        let token = Self {
            id: fields.i,
            secret: TokenSecret::from_bytes(secret),
            hub_ca: fields.c,
            root_keys: fields.r,
            addresses: fields.a,
            server_name: fields.n,
        };
        token.check()?;
        Ok(token)
    }

    /// The text form, with the secret: for the operator's terminal only.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex(self.secret.expose()));
        let fields = Text {
            a: self.addresses.clone(),
            c: self.hub_ca,
            i: self.id,
            n: self.server_name.clone(),
            r: self.root_keys.clone(),
            s: secret.to_string(),
        };
        // Strings, ids and lists of them always have a canonical form.
        let mut bytes = Zeroizing::new(canonical::to_vec(&fields).unwrap_or_default());
        drop(Zeroizing::new(fields.s));
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    /// What the hub keeps of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> SecretHash {
        self.secret.hash()
    }

    fn check(&self) -> Result<(), TokenError> {
        let wrong = |text: &str| Err(TokenError::Content(text.into()));
        if self.root_keys.is_empty() {
            return wrong("it pins no root key");
        }
        if self.addresses.is_empty() || self.addresses.len() > 8 {
            return wrong("it has no hub address, or more than eight");
        }
        for address in &self.addresses {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            if address.len() > 260 || port.is_none_or(|p| p.parse::<u16>().is_err()) {
                return Err(TokenError::Content(format!("its hub address {address:?} is not host:port")));
            }
        }
        if self.server_name.is_empty() || self.server_name.len() > 253 {
            return wrong("it has no server name");
        }
        Ok(())
    }
}

impl std::str::FromStr for JoinToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text)
    }
}

fn wrong_prefix(text: &str) -> TokenError {
    let ours = text.strip_prefix("dfj").and_then(|rest| rest.split_once('.'));
    match ours {
        Some((version, _))
            if !version.is_empty() && version.len() < 6 && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            TokenError::Format { found: format!("dfj{version}.") }
        }
        _ => TokenError::Prefix { begins: text.chars().take(8).collect() },
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("addresses", &self.addresses)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "join token {}", self.id)
    }
}

impl TokenSecret {
    /// From 32 bytes of good randomness.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the wire.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the hub keeps. A plain fast hash is right: the input has 256 bits of entropy, nothing can be guessed.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(blake3::derive_key("driftless join token secret v1", &self.0[..]))
    }
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

impl SecretHash {
    /// As stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For storing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the hash of that secret, in constant time.
    #[must_use]
    pub fn matches(&self, secret: &TokenSecret) -> bool {
        // blake3::Hash compares in constant time.
        blake3::Hash::from(self.0) == blake3::Hash::from(secret.hash().0)
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: TokenId::from_bytes([7; 8]),
            secret: TokenSecret::from_bytes([0xa5; 32]),
            hub_ca: Digest::of(b"ca"),
            root_keys: vec![KeyId::from_bytes([9; 16])],
            addresses: vec!["hub.example.org:7443".into(), "[::1]:7443".into()],
            server_name: "hub.example.org".into(),
        }
    }

    #[test]
    fn the_text_form_reads_back_and_hides_its_secret_elsewhere() {
        let text = token().reveal();
        let read = JoinToken::parse(&format!("  {}\n", *text)).unwrap();
        assert_eq!(*read.reveal(), *text);
        assert_eq!(read.secret.expose(), &[0xa5; 32]);
        let shown = format!("{read:?} {read} {:?} {:?}", read.secret, read.secret_hash());
        assert!(!shown.contains("a5a5") && !shown.contains("165"), "{shown}");
    }

    #[test]
    fn every_truncation_and_every_changed_character_is_refused() {
        let text = token().reveal().to_string();
        for len in 0..text.len() {
            assert!(JoinToken::parse(&text[..len]).is_err(), "cut to {len}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(JoinToken::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn messages_say_what_to_do() {
        let good = token().reveal().to_string();
        for (given, expected) in [
            ("", "driftless cluster join-token"),
            ("hello", "begins with \"hello\""),
            ("dfj2.abc", "format \"dfj2.\""),
            (&good[..good.len() - 9], "cut off or damaged"),
            (&format!("{}\n{}", &good[..20], &good[20..]), "position 21"),
            (&format!("\"{good}\""), "begins with"),
        ] {
            let message = JoinToken::parse(given).unwrap_err().to_string();
            assert!(message.contains(expected), "{given:?}: {message}");
        }
        let mut bad = token();
        bad.addresses = vec!["hub".into()];
        assert!(JoinToken::parse(&bad.reveal()).unwrap_err().to_string().contains("host:port"));
    }

    #[test]
    fn the_hash_recognises_the_secret_only() {
        let hash = token().secret_hash();
        assert!(SecretHash::from_bytes(*hash.as_bytes()).matches(&token().secret));
        assert!(!hash.matches(&TokenSecret::from_bytes([0xa4; 32])));
        assert_ne!(hash.as_bytes(), token().secret.expose());
    }
}
