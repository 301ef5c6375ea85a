//! SSH signatures (`gpg.format = ssh`): OpenSSH's PROTOCOL.sshsig and RFC 4253 section 6.6, over the cryptography that TLS
//! uses here anyway. Only what verifying needs is read; every length is checked against what is there.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256, Sha512};

/// What Git signs is signed for Git: a signature made for something else does not count.
const NAMESPACE: &[u8] = b"git";
/// Longest signature, in base64: one with the longest RSA key is a tenth of it.
const LONGEST: usize = 16 << 10;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// As it is written in a signature and hashed for a fingerprint.
    blob: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Ed25519(Vec<u8>),
    Ecdsa(Curve, Vec<u8>),
    Rsa {
        e: Vec<u8>,
        n: Vec<u8>,
    },
    /// A key in a device, which signs more than the message: a hash of this name, flags, a counter.
    Device(Box<Kind>, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of a number on it.
    const fn bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"nistp256" => Some(Curve::P256),
            b"nistp384" => Some(Curve::P384),
            b"nistp521" => Some(Curve::P521),
            _ => None,
        }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length and that many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// A positive number without its leading zeros.
    fn integer(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        (bytes.first().is_some_and(|b| b & 0x80 == 0)).then(|| &bytes[zeros..])
    }

    fn done(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

impl PublicKey {
    fn decode(blob: &[u8]) -> Option<Self> {
        let mut reader = Reader(blob);
        let ecdsa = |reader: &mut Reader<'_>| {
            let curve = Curve::of(reader.string()?)?;
            Some(Kind::Ecdsa(curve, reader.string()?.to_vec()))
        };
        let kind = match reader.string()? {
            b"ssh-ed25519" => Kind::Ed25519(reader.string()?.to_vec()),
            b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521" => ecdsa(&mut reader)?,
            b"ssh-rsa" => Kind::Rsa { e: reader.integer()?.to_vec(), n: reader.integer()?.to_vec() },
            b"sk-ssh-ed25519@openssh.com" => {
                let key = Kind::Ed25519(reader.string()?.to_vec());
                Kind::Device(Box::new(key), reader.string()?.to_vec())
            }
            b"sk-ecdsa-sha2-nistp256@openssh.com" => {
                let key = ecdsa(&mut reader)?;
                Kind::Device(Box::new(key), reader.string()?.to_vec())
            }
            _ => return None,
        };
        reader.done()?;
        Some(Self { blob: blob.to_vec(), kind })
    }
}

/// Lines as in `authorized_keys`: options, type, key, comment.
pub(super) fn read(text: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Options may hold spaces; the key is the first word that is one and names its own type before it.
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = words.windows(2).find_map(|pair| {
            let blob = STANDARD.decode(pair[1]).ok()?;
            let named = Reader(&blob).string()? == pair[0].as_bytes();
            if named { PublicKey::decode(&blob) } else { None }
        });
        keys.push(key.ok_or_else(|| format!("line {} is no SSH public key of a kind that is known", number + 1))?);
    }
    if keys.is_empty() { Err("it holds no SSH public key".to_owned()) } else { Ok(keys) }
}

/// `SHA256:...`, as `ssh-keygen -l` shows it.
pub(super) fn name(key: &PublicKey) -> String {
    fingerprint(&key.blob)
}

fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

/// A signature, taken apart.
struct SshSig<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

impl<'a> SshSig<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.take(6)? != b"SSHSIG" || reader.number()? != 1 {
            return None;
        }
        let out = Self {
            key: reader.string()?,
            namespace: reader.string()?,
            reserved: reader.string()?,
            hash: reader.string()?,
            signature: reader.string()?,
        };
        reader.done()?;
        Some(out)
    }

    /// What the key signed: a hash of the message with what it is for.
    fn signed(&self, message: &[u8]) -> Option<Vec<u8>> {
        let hash = match self.hash {
            b"sha256" => Sha256::digest(message).to_vec(),
            b"sha512" => Sha512::digest(message).to_vec(),
            _ => return None,
        };
        let mut out = b"SSHSIG".to_vec();
        for part in [self.namespace, self.reserved, self.hash, &hash] {
            out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
            out.extend_from_slice(part);
        }
        Some(out)
    }
}

fn dearmoured(armour: &str) -> Option<Vec<u8>> {
    let inside = armour.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let base64: String = inside.chars().filter(|c| !c.is_whitespace()).take(LONGEST + 1).collect();
    if base64.len() > LONGEST { None } else { STANDARD.decode(base64).ok() }
}

pub(super) fn check(armour: &str, payload: &[u8], keys: &[PublicKey]) -> Result<String, String> {
    let unreadable = || "its SSH signature cannot be read".to_owned();
    let bytes = dearmoured(armour).ok_or_else(unreadable)?;
    let signature = SshSig::decode(&bytes).ok_or_else(unreadable)?;
    let Some(key) = keys.iter().find(|key| key.blob == signature.key) else {
        return Err(format!("it is signed with the SSH key {}, which is not trusted", fingerprint(signature.key)));
    };
    if signature.namespace != NAMESPACE {
        let made_for = String::from_utf8_lossy(signature.namespace);
        return Err(format!("its signature was made for {made_for:?}, not for git"));
    }
    let signed =
        signature.signed(payload).ok_or_else(|| "its SSH signature uses a hash that is not known".to_owned())?;
    match verified(&key.kind, &signed, signature.signature) {
        Some(true) => Ok(name(key)),
        Some(false) => Err(format!("its signature with the SSH key {} does not fit its content", name(key))),
        None => Err(format!("its signature with the SSH key {} is of a kind that is not taken", name(key))),
    }
}

/// Whether this is the key's signature over `message`. `None`: it is in another form than the key makes, or a broken one.
fn verified(kind: &Kind, message: &[u8], signature: &[u8]) -> Option<bool> {
    let mut reader = Reader(signature);
    let name = reader.string()?;
    let value = reader.string()?;
    let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], value: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(message, value).is_ok()
    };
    Some(match (kind, name) {
        (Kind::Ed25519(key), b"ssh-ed25519") => {
            reader.done()?;
            with(&ED25519, key, value)
        }
        (Kind::Ecdsa(curve, key), b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521") => {
            reader.done()?;
            let value = fixed(value, *curve)?;
            match curve {
                Curve::P256 => with(&ECDSA_P256_SHA256_FIXED, key, &value),
                Curve::P384 => with(&ECDSA_P384_SHA384_FIXED, key, &value),
                Curve::P521 => with(&ECDSA_P521_SHA512_FIXED, key, &value),
            }
        }
        // `ssh-rsa` alone is RSA with SHA-1, which is broken.
        (Kind::Rsa { e, n }, b"rsa-sha2-256" | b"rsa-sha2-512") => {
            reader.done()?;
            let key = RsaPublicKeyComponents { n, e };
            let algorithm =
                if name == b"rsa-sha2-256" { &RSA_PKCS1_2048_8192_SHA256 } else { &RSA_PKCS1_2048_8192_SHA512 };
            key.verify(algorithm, message, value).is_ok()
        }
        (Kind::Device(inner, application), _) => {
            let rest = reader.take(5)?;
            reader.done()?;
            let (plain, given): (&[u8], &[u8]) = match (&**inner, name) {
                (Kind::Ed25519(_), b"sk-ssh-ed25519@openssh.com") => (b"ssh-ed25519", value),
                (Kind::Ecdsa(..), b"sk-ecdsa-sha2-nistp256@openssh.com") => (b"ecdsa-sha2-nistp256", value),
                _ => return None,
            };
            let mut signed = Sha256::digest(application).to_vec();
            signed.extend_from_slice(rest); // flags and counter
            signed.extend_from_slice(&Sha256::digest(message));
            let mut unwrapped = Vec::new();
            for part in [plain, given] {
                unwrapped.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
                unwrapped.extend_from_slice(part);
            }
            return verified(inner, &signed, &unwrapped);
        }
        _ => return None,
    })
}

/// `r` and `s`, each as long as the curve's numbers.
fn fixed(value: &[u8], curve: Curve) -> Option<Vec<u8>> {
    let mut reader = Reader(value);
    let mut out = Vec::with_capacity(2 * curve.bytes());
    for _ in 0..2 {
        let number = reader.integer()?;
        let zeros = curve.bytes().checked_sub(number.len())?;
        out.resize(out.len() + zeros, 0);
        out.extend_from_slice(number);
    }
    reader.done()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn keys_are_read_as_authorized_keys_has_them() {
        for (text, expected) in [
            (KEY.to_owned(), Ok(1)),
            (format!("# somebody\n\n{KEY} a comment with spaces\n"), Ok(1)),
            (format!("restrict,command=\"echo hi there\" {KEY} x\n{KEY}\n"), Ok(2)),
            (String::new(), Err("no SSH public key")),
            ("# nothing\n".to_owned(), Err("no SSH public key")),
            (format!("{KEY}\nssh-ed25519 AAAA\n"), Err("line 2")),
            (KEY.replace("ssh-ed25519 ", "ssh-rsa "), Err("line 1")),
            ("ssh-dss AAAAB3NzaC1kc3MAAAAA x".to_owned(), Err("line 1")),
        ] {
            match (read(&text), expected) {
                (Ok(keys), Ok(count)) => assert_eq!(keys.len(), count, "{text}"),
                (Err(error), Err(words)) => assert!(error.contains(words), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        assert!(name(&read(KEY).unwrap()[0]).starts_with("SHA256:"));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_no_signature() {
        let keys = read(KEY).unwrap();
        let wrap = |bytes: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes));
        let mut whole = b"SSHSIG\0\0\0\x01".to_vec();
        for part in [&keys[0].blob[..], b"git", b"", b"sha512", &[0, 0, 0, 11], b"ssh-ed25519"] {
            whole.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            whole.extend_from_slice(part);
        }
        for length in 0..whole.len() {
            assert!(check(&wrap(&whole[..length]), b"x", &keys).is_err(), "{length} bytes");
        }
        assert!(check(&wrap(&vec![0; LONGEST]), b"x", &keys).unwrap_err().contains("cannot be read"));
        assert!(check("nonsense", b"x", &keys).unwrap_err().contains("cannot be read"));
        let mut huge = b"SSHSIG\0\0\0\x01".to_vec();
        huge.extend_from_slice(&[0xff; 8]);
        assert!(check(&wrap(&huge), b"x", &keys).unwrap_err().contains("cannot be read"));
    }
}
