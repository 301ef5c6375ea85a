//! Signatures that real `ssh-keygen` and `git` made, and what holds for signatures of all kinds.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::collections::BTreeMap;

use common::host::Host;
use common::signing::{Keys, Signer, run, says, signed, trust};
use common::{Origin, fails, fetch, open};
use driftless_source::{Reference, SourceConfig, TrustedKeys, VerifyMode};

#[tokio::test]
async fn a_commit_counts_only_when_somebody_trusted_signed_it() {
    let (origin, keys) = (Origin::new(), Keys::new());
    let host = Host::start(origin.root());
    let signer = Signer { origin: &origin, keys: &keys };
    let ada = keys.ssh("ada", &["-t", "rsa", "-b", "2048"]);
    let bob = keys.ssh("bob", &["-t", "ed25519"]);
    let eve = keys.ssh("eve", &["-t", "ed25519"]);
    let [ada, bob, eve] = [&ada, &bob, &eve].map(|p| p.to_str().unwrap());
    let name = |who: &str| {
        let listed = run(
            "ssh-keygen",
            keys.home.path(),
            &["-l", "-f", keys.home.path().join(format!("{who}.pub")).to_str().unwrap()],
        );
        listed.split(' ').nth(1).unwrap().to_owned()
    };
    let trusted = || trust(&[("ada.sshpub", &keys.ssh_public("ada")), ("bob.sshpub", &keys.ssh_public("bob"))]);
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), signed(&host.url("repo.git"), VerifyMode::Head, trusted()));

    let unsigned = origin.head();
    let error = fails(&mirror, "SignatureRefused").await;
    says(&error, &[&unsigned, "not signed", &name("ada"), &name("bob"), "last good revision stays"]);
    assert_eq!(mirror.current(), None);

    let first = signer.commit(ada);
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, first);
    let second = signer.commit(bob);
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, second);

    let stranger = signer.commit(eve);
    let error = fails(&mirror, "SignatureRefused").await;
    says(&error, &[&stranger, &name("eve"), "not trusted"]);
    origin.commit(&[("x", "1")]);
    says(&fails(&mirror, "SignatureRefused").await, &["not signed"]);
    assert_eq!(mirror.current().unwrap().commit, second, "the last good revision stays");

    // A new process with the same keys keeps it; with other keys it has to be judged again.
    drop(mirror);
    let mirror = open(dir.path(), signed(&host.url("repo.git"), VerifyMode::Head, trusted()));
    assert_eq!(mirror.current().unwrap().commit, second);
    drop(mirror);
    let only_eve = trust(&[("eve.sshpub", &keys.ssh_public("eve"))]);
    let mirror = open(dir.path(), signed(&host.url("repo.git"), VerifyMode::Head, only_eve));
    assert_eq!(mirror.current(), None);
    fails(&mirror, "SignatureRefused").await;
}

#[tokio::test]
async fn a_commit_whose_content_was_changed_is_refused() {
    let (origin, keys) = (Origin::new(), Keys::new());
    let signer = Signer { origin: &origin, keys: &keys };
    for (name, kind) in [("ada", "ed25519"), ("rsa", "rsa"), ("nist", "ecdsa")] {
        let key = keys.ssh(name, &["-t", kind]);
        signer.commit(key.to_str().unwrap());
        // The same signature over another message.
        let work = origin.root().join("work");
        let raw = origin.git(&["cat-file", "commit", "HEAD"]).replace("signed with", "forged with") + "\n";
        std::fs::write(origin.root().join("raw"), raw).unwrap();
        let forged = common::git(&work, &["hash-object", "-t", "commit", "-w", "../raw"]);
        origin.git(&["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/main")]);
        let dir = tempfile::tempdir().unwrap();
        let trusted = trust(&[("a.sshpub", &keys.ssh_public(name))]);
        let mirror = open(dir.path(), signed(origin.bare().to_str().unwrap(), VerifyMode::Head, trusted));
        says(&fails(&mirror, "SignatureRefused").await, &[&forged, "does not fit its content"]);
    }
}

#[tokio::test]
async fn every_kind_of_key_that_git_signs_with() {
    let (origin, keys) = (Origin::new(), Keys::new());
    let signer = Signer { origin: &origin, keys: &keys };
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut all: Vec<String> = Vec::new();
    for (name, args) in [
        ("ed", &["-t", "ed25519"][..]),
        ("rsa", &["-t", "rsa", "-b", "3072"]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
    ] {
        let key = keys.ssh(name, args);
        known.insert(format!("{name}.sshpub"), format!("# a comment\n\n{}", keys.ssh_public(name)));
        all.push(key.to_str().unwrap().to_owned());
    }
    let trusted = TrustedKeys::read(&known);
    assert!(trusted.unreadable().is_empty(), "{:?}", trusted.unreadable());
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), signed(origin.bare().to_str().unwrap(), VerifyMode::Head, trusted));
    for key in all {
        let commit = signer.commit(&key);
        let fetched = fetch(&mirror).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(fetched.revision.commit, commit, "{key}");
    }
}

#[tokio::test]
async fn tags_are_checked_under_their_name() {
    let (origin, keys) = (Origin::new(), Keys::new());
    let host = Host::start(origin.root());
    let signer = Signer { origin: &origin, keys: &keys };
    let ada = keys.ssh("ada", &["-t", "ecdsa"]);
    let bob = keys.ssh("bob", &["-t", "ed25519"]);
    let (ada, bob) = (ada.to_str().unwrap(), bob.to_str().unwrap());
    let trusted = || trust(&[("ada.sshpub", &keys.ssh_public("ada")), ("bob.sshpub", &keys.ssh_public("bob"))]);
    origin.git(&["tag", "plain"]);
    origin.git(&["tag", "-a", "-m", "no signature", "annotated"]);
    origin.git(&["push", "-q", "origin", "--tags"]);
    signer.tag(ada, "v1.0.0");
    origin.commit(&[("a", "2")]);
    signer.tag(bob, "v1.1.0");
    let unsigned = origin.head();
    let of = |reference: Reference, mode, url: &str| {
        let dir = tempfile::tempdir().unwrap();
        let config = SourceConfig { reference, ..signed(url, mode, trusted()) };
        (open(dir.path(), config), dir)
    };
    let tag = |name: &str| Reference::Tag(name.into());
    for url in [host.url("repo.git"), origin.bare().to_str().unwrap().to_owned()] {
        for name in ["v1.0.0", "v1.1.0"] {
            let (mirror, _dir) = of(tag(name), VerifyMode::Tag, &url);
            assert_eq!(fetch(&mirror).await.unwrap().revision.reference, name);
            let (mirror, _dir) = of(Reference::Name(format!("refs/tags/{name}")), VerifyMode::Tag, &url);
            fetch(&mirror).await.unwrap();
        }
        let (mirror, _dir) = of(Reference::Semver(">=1.0.0".into()), VerifyMode::Tag, &url);
        assert_eq!(fetch(&mirror).await.unwrap().revision.reference, "v1.1.0");
        for (name, words) in [("plain", "plain name"), ("annotated", "not signed")] {
            let (mirror, _dir) = of(tag(name), VerifyMode::Tag, &url);
            says(&fails(&mirror, "SignatureRefused").await, &[&format!("tag {name}"), words]);
        }
        let (mirror, _dir) = of(tag("v1.1.0"), VerifyMode::TagAndHead, &url);
        says(&fails(&mirror, "SignatureRefused").await, &[&format!("commit {unsigned}"), "not signed"]);
    }
    // A signed old version under a new name.
    let (mirror, _dir) = of(Reference::Semver(">=1.0.0".into()), VerifyMode::Tag, &host.url("repo.git"));
    fetch(&mirror).await.unwrap();
    let object = origin.git(&["rev-parse", "refs/tags/v1.0.0"]);
    origin.git(&["push", "-q", "origin", &format!("{object}:refs/tags/v9.0.0")]);
    says(&fails(&mirror, "SignatureRefused").await, &["tag v9.0.0", "signed as \"v1.0.0\""]);
    assert_eq!(mirror.current().unwrap().reference, "v1.1.0");
    let signed = signer.commit(ada);
    signer.tag(ada, "v9.0.1");
    let (mirror, _dir) = of(tag("v9.0.1"), VerifyMode::TagAndHead, &host.url("repo.git"));
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, signed);
}

#[tokio::test]
async fn without_keys_nothing_is_fetched() {
    let (origin, keys) = (Origin::new(), Keys::new());
    let host = Host::start(origin.root());
    let key = keys.ssh("ada", &["-t", "ed25519"]);
    let signer = Signer { origin: &origin, keys: &keys };
    signer.commit(key.to_str().unwrap());
    let of = |entries: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        (open(dir.path(), signed(&host.url("repo.git"), VerifyMode::Head, trust(entries))), dir)
    };
    let before = host.requests();
    let (mirror, _dir) = of(&[]);
    says(&fails(&mirror, "KeysMissing").await, &["Secret flux-system/keys: it holds none"]);
    let (mirror, _dir) = of(&[("a.asc", "hello"), ("b.sshpub", "# nothing\n"), ("c.sshpub", "x y\n")]);
    says(
        &fails(&mirror, "KeysMissing").await,
        &["a.asc (it holds no PGP public key", "b.sshpub (it holds no SSH", "c.sshpub (line 1"],
    );
    assert_eq!(host.requests(), before);
    // One that can be read is enough; what cannot is told when it matters.
    let (mirror, _dir) = of(&[("a.asc", "hello"), ("b.sshpub", &keys.ssh_public("ada"))]);
    fetch(&mirror).await.unwrap();
    let other = keys.ssh("other", &["-t", "ed25519"]);
    signer.commit(other.to_str().unwrap());
    says(&fails(&mirror, "SignatureRefused").await, &["SHA256:", "not trusted", "cannot be read: a.asc"]);
    // A signature made for something else than Git.
    let payload = origin.root().join("payload");
    std::fs::write(&payload, "x").unwrap();
    run(
        "ssh-keygen",
        keys.home.path(),
        &["-q", "-Y", "sign", "-n", "file", "-f", key.to_str().unwrap(), payload.to_str().unwrap()],
    );
    let signature = std::fs::read_to_string(origin.root().join("payload.sig")).unwrap();
    let raw = origin.git(&["cat-file", "commit", "HEAD"]);
    let (head, message) = raw.split_once("\n\n").unwrap();
    let head: Vec<&str> = head.lines().filter(|l| !l.starts_with("gpgsig") && !l.starts_with(' ')).collect();
    let header = format!("gpgsig {}", signature.trim_end().replace('\n', "\n "));
    std::fs::write(origin.root().join("raw"), format!("{}\n{header}\n\n{message}\n", head.join("\n"))).unwrap();
    let forged = origin.git(&["hash-object", "-t", "commit", "-w", "../raw"]);
    origin.git(&["push", "-q", "--force", "origin", &format!("{forged}:refs/heads/main")]);
    let (mirror, _dir) = of(&[("b.sshpub", &keys.ssh_public("ada"))]);
    says(&fails(&mirror, "SignatureRefused").await, &["\"file\", not for git"]);
}
