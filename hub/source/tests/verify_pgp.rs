//! PGP signatures that real `gpg` and `git` made. Where one of these programs is missing the tests fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::signing::{Keys, Signer, says, signed, trust};
use common::{Origin, fails, fetch, open};
use driftless_source::{Mirror, Reference, SourceConfig, TrustedKeys, VerifyMode};

/// Somebody with a key, a repository, and a mirror that trusts some keys.
struct Case {
    origin: Origin,
    keys: Keys,
}

impl Case {
    fn new() -> Self {
        Case { origin: Origin::new(), keys: Keys::new() }
    }

    fn signer(&self) -> Signer<'_> {
        Signer { origin: &self.origin, keys: &self.keys }
    }

    fn config(&self, mode: VerifyMode, trusted: TrustedKeys) -> SourceConfig {
        signed(self.origin.bare().to_str().unwrap(), mode, trusted)
    }

    /// A new mirror, whose first revision is judged anew.
    fn mirror(&self, keys: &[&str]) -> (Mirror, tempfile::TempDir) {
        let exported: Vec<String> = keys.iter().map(|key| self.keys.pgp_public(key)).collect();
        let names: Vec<String> = (0..keys.len()).map(|n| format!("{n}.asc")).collect();
        let entries: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(exported.iter().map(String::as_str)).collect();
        let dir = tempfile::tempdir().unwrap();
        let trusted = trust(&entries);
        assert!(trusted.unreadable().is_empty(), "{:?}", trusted.unreadable());
        (open(dir.path(), self.config(VerifyMode::Head, trusted)), dir)
    }

    async fn taken(&self, keys: &[&str]) {
        let (mirror, _dir) = self.mirror(keys);
        let commit = self.origin.head();
        assert_eq!(fetch(&mirror).await.unwrap().revision.commit, commit);
    }

    async fn refused(&self, keys: &[&str], words: &[&str]) {
        let (mirror, _dir) = self.mirror(keys);
        let error = fails(&mirror, "SignatureRefused").await;
        says(&error, words);
        says(&error, &[&self.origin.head()]);
    }

    /// A line of gpg's own settings, from here on.
    fn setting(&self, line: &str) {
        std::fs::write(self.keys.home.path().join("gnupg/gpg.conf"), format!("{line}\n")).unwrap();
    }
}

#[tokio::test]
async fn every_kind_of_key_that_gpg_signs_with() {
    let case = Case::new();
    let all: Vec<String> = ["ed25519", "rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521"]
        .iter()
        .map(|kind| case.keys.pgp(&format!("{kind}@example.org"), kind, "sign", "never"))
        .collect();
    let trusted: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mirror, _dir) = case.mirror(&trusted);
    for key in &all {
        let commit = case.signer().commit(key);
        let fetched = fetch(&mirror).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(fetched.revision.commit, commit, "{key}");
    }
    // All of them in one entry, and in one block.
    let blocks: String = trusted.iter().map(|key| case.keys.pgp_public(key)).collect();
    let together = case.keys.gpg(&[&["--armor", "--export"][..], &trusted].concat());
    for text in [blocks, together] {
        let read = trust(&[("keys", &text)]);
        assert!(read.unreadable().is_empty(), "{:?}", read.unreadable());
        let mut names = read.names();
        let mut known: Vec<String> = all.clone();
        names.sort();
        known.sort();
        assert_eq!(names, known);
    }
}

#[tokio::test]
async fn only_trusted_keys_and_unchanged_content_count() {
    let case = Case::new();
    let ada = case.keys.pgp("ada@example.org", "ed25519", "sign", "never");
    let eve = case.keys.pgp("eve@example.org", "rsa2048", "sign", "never");
    case.refused(&[&ada], &["not signed", &ada]).await;
    case.signer().commit(&eve);
    case.refused(&[&ada], &[&eve, "not trusted", &ada]).await;
    case.taken(&[&ada, &eve]).await;
    let work = case.origin.root().join("work");
    for key in [&ada, &eve] {
        case.signer().commit(key);
        let raw = case.origin.git(&["cat-file", "commit", "HEAD"]).replace("signed with", "forged with") + "\n";
        std::fs::write(case.origin.root().join("raw"), raw).unwrap();
        let forged = common::git(&work, &["hash-object", "-t", "commit", "-w", "../raw"]);
        case.origin.git(&["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/main")]);
        let (mirror, _dir) = case.mirror(&[key]);
        says(&fails(&mirror, "SignatureRefused").await, &[&forged, key, "does not fit its content"]);
    }
    // An SSH key is no answer to a PGP signature.
    case.signer().commit(&ada);
    case.keys.ssh("ssh", &["-t", "ed25519"]);
    let trusted = trust(&[("a.sshpub", &case.keys.ssh_public("ssh"))]);
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), case.config(VerifyMode::Head, trusted));
    says(&fails(&mirror, "SignatureRefused").await, &[&ada, "not trusted", "SHA256:"]);
}

#[tokio::test]
async fn subkeys_sign_as_long_as_their_primary_key_vouches_for_them() {
    let case = Case::new();
    let ada = case.keys.pgp("ada@example.org", "ed25519", "cert", "never");
    let add = |usage: &str, expires: &str| {
        case.keys.gpg(&["--quick-add-key", &ada, "ed25519", usage, expires]);
        let listed = case.keys.gpg(&["--with-colons", "--list-keys", &ada]);
        let line = listed.lines().rfind(|l| l.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    };
    let sub = add("sign", "never");
    case.signer().commit(&format!("{sub}!"));
    case.taken(&[&ada]).await;
    // What was exported before the subkey was added does not know it.
    let whole = case.keys.pgp_public(&ada);
    let other = add("sign", "never");
    case.signer().commit(&format!("{other}!"));
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), case.config(VerifyMode::Head, trust(&[("a", &whole)])));
    says(&fails(&mirror, "SignatureRefused").await, &[&other, "not trusted"]);
    case.taken(&[&ada]).await;
    // Revoking one leaves the others.
    let revoke = format!("key {other}\nrevkey\ny\n0\n\ny\nsave\n");
    case.keys.gpg_told(&["--command-fd", "0", "--edit-key", &ada], &revoke);
    case.refused(&[&ada], &[&other, "which is revoked"]).await;
    case.signer().commit(&format!("{sub}!"));
    case.taken(&[&ada]).await;
}

#[tokio::test]
async fn keys_that_are_over_sign_nothing_any_more() {
    let case = Case::new();
    // Made a year ago, for a month: it was good when it signed.
    let old = "20250101T000000";
    case.setting(&format!("faked-system-time {old}"));
    let month = case.keys.pgp("month@example.org", "ed25519", "sign", "30d");
    case.signer().commit(&month);
    case.setting("");
    case.refused(&[&month], &[&month, "expired on 2025-01-31"]).await;
    // Its owner gives it more time: what it signed counts again.
    case.keys.gpg(&["--quick-set-expire", &month, "0"]);
    case.taken(&[&month]).await;
    // A revoked key.
    let ada = case.keys.pgp("ada@example.org", "ed25519", "sign", "never");
    case.signer().commit(&ada);
    case.taken(&[&ada]).await;
    let file = case.keys.home.path().join(format!("gnupg/openpgp-revocs.d/{ada}.rev"));
    let revocation = std::fs::read_to_string(&file).unwrap().replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(&file, revocation).unwrap();
    case.keys.gpg(&["--import", file.to_str().unwrap()]);
    case.refused(&[&ada], &[&ada, "which is revoked"]).await;
}

#[tokio::test]
async fn weak_and_odd_signatures_are_refused() {
    let case = Case::new();
    let ada = case.keys.pgp("ada@example.org", "rsa2048", "sign", "never");
    for (digest, good) in [("SHA1", false), ("RIPEMD160", false), ("SHA224", true), ("SHA384", true), ("SHA512", true)]
    {
        case.setting(&format!("digest-algo {digest}"));
        case.signer().commit(&ada);
        match good {
            true => case.taken(&[&ada]).await,
            false => case.refused(&[&ada], &["too weak", digest]).await,
        }
    }
    case.setting("");
    let short = case.keys.pgp("short@example.org", "rsa1024", "sign", "never");
    case.signer().commit(&short);
    case.refused(&[&short], &[&short, "1024 bits"]).await;
    let curve = case.keys.pgp("curve@example.org", "secp256k1", "sign", "never");
    case.signer().commit(&curve);
    case.refused(&[&curve], &[&curve, "kind that is not taken"]).await;
    // A signature with an end, which has come.
    case.setting("faked-system-time 20250101T000000\ndefault-sig-expire 1d");
    let early = case.keys.pgp("early@example.org", "ed25519", "sign", "never");
    case.signer().commit(&early);
    case.setting("");
    case.refused(&[&early], &["signature expired on 2025-01-02"]).await;
    // Text mode would count line ends as equal.
    case.setting("textmode");
    case.signer().commit(&ada);
    case.setting("");
    case.refused(&[&ada], &["something else than the bytes"]).await;
}

#[tokio::test]
async fn tags_are_checked_alone_and_with_their_commit() {
    let case = Case::new();
    let ada = case.keys.pgp("ada@example.org", "ed25519", "sign", "never");
    let eve = case.keys.pgp("eve@example.org", "ed25519", "sign", "never");
    let trusted = || trust(&[("ada", &case.keys.pgp_public(&ada))]);
    let of = |name: &str, mode| {
        let dir = tempfile::tempdir().unwrap();
        let config = SourceConfig { reference: Reference::Tag(name.into()), ..case.config(mode, trusted()) };
        (open(dir.path(), config), dir)
    };
    let unsigned = case.origin.head();
    case.signer().tag(&ada, "v1");
    case.signer().tag(&eve, "v2");
    let (mirror, _dir) = of("v1", VerifyMode::Tag);
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, unsigned);
    let (mirror, _dir) = of("v2", VerifyMode::Tag);
    says(&fails(&mirror, "SignatureRefused").await, &["tag v2", &eve, "not trusted"]);
    let (mirror, _dir) = of("v1", VerifyMode::TagAndHead);
    says(&fails(&mirror, "SignatureRefused").await, &[&format!("commit {unsigned}"), "not signed"]);
    let commit = case.signer().commit(&ada);
    case.signer().tag(&ada, "v3");
    let (mirror, _dir) = of("v3", VerifyMode::TagAndHead);
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, commit);
    let (mirror, _dir) = of("v3", VerifyMode::Head);
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, commit);
}

#[tokio::test]
async fn broken_signatures_and_keys_end_in_words() {
    let case = Case::new();
    let ada = case.keys.pgp("ada@example.org", "ed25519", "sign", "never");
    case.signer().commit(&ada);
    let public = case.keys.pgp_public(&ada);
    let secret = case.keys.gpg(&["--armor", "--export-secret-keys", &ada]);
    for (text, words) in
        [(secret.as_str(), "private key"), (&public[..public.len() / 2], "PGP key block 1"), ("", "no PGP")]
    {
        let read = trust(&[("ada", text)]);
        assert!(read.is_empty() && read.unreadable()[0].contains(words), "{words}: {:?}", read.unreadable());
    }
    let raw = case.origin.git(&["cat-file", "commit", "HEAD"]) + "\n";
    let (before, rest) = raw.split_once("gpgsig ").unwrap();
    let (signature, after) = rest.split_once("-----END PGP SIGNATURE-----").unwrap();
    let work = case.origin.root().join("work");
    // Cut, doubled, and with a letter changed: refused, each time in words.
    let cut = &signature[..signature.len() - 40];
    let middle = signature.len() / 2;
    let turned: String = signature
        .char_indices()
        .map(|(at, c)| if at == middle { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    for signature in [cut, &turned, &signature.replacen("\n", "\n Comment: x\n\n ", 1)] {
        let forged = format!("{before}gpgsig {signature}\n -----END PGP SIGNATURE-----{after}");
        std::fs::write(case.origin.root().join("raw"), forged).unwrap();
        let forged = common::git(&work, &["hash-object", "-t", "commit", "-w", "../raw"]);
        case.origin.git(&["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/main")]);
        let (mirror, _dir) = case.mirror(&[&ada]);
        let error = fails(&mirror, "SignatureRefused").await;
        assert!(error.to_string().contains("PGP"), "{error}");
    }
}
