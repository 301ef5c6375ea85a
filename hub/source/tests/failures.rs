//! Every way a fetch can fail: a stable code, a message that names source, address, cause and remedy, the last good
//! revision in place, a clean disk, and no credential anywhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::time::Duration;

use common::host::{Host, Mood, basic, certificate};
use common::{Origin, config, fails, fetch, files, noise, open, text};
use driftless_source::config::{ClientCertificate, Proxy, SshAuth, SshIdentity};
use driftless_source::{Auth, Mirror, Reference, Secret, SourceConfig, SourceError, SourceUrl};
use tokio_util::sync::CancellationToken;

/// Stands in every credential of these tests; may appear in no output.
const CANARY: &str = "canary-7f3a";

fn with_canary(mut config: SourceConfig) -> SourceConfig {
    config.auth = Auth::Basic { user: "hub".into(), password: Secret::new(CANARY) };
    config
}

/// No form of the canary, and one readable line.
fn check_words(error: &SourceError) {
    let all = format!("{error} {error:?} {:?}", error.cause);
    for form in [CANARY.to_owned(), basic("hub", CANARY), basic("hub", CANARY)[6..].to_owned()] {
        assert!(!all.contains(&form), "a credential is shown: {all}");
    }
    let line = error.to_string();
    assert!(line.starts_with("source flux-system/fleet: cannot ") && !line.contains('\n'), "{line}");
    assert!(line.contains(error.cause.advice()), "{line}");
}

#[tokio::test]
async fn each_answer_of_a_host_has_its_code() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    let cases = [
        (Mood::Status(401), "AuthRefused"),
        (Mood::Status(403), "AuthRefused"),
        (Mood::Status(404), "RepositoryNotFound"),
        (Mood::Status(429), "HostFailed"),
        (Mood::Status(500), "HostFailed"),
        (Mood::Status(503), "HostFailed"),
        (Mood::Echo, "HostFailed"),
        (Mood::Page, "ProtocolUnsupported"),
        (Mood::CutPack(3000), "HostUnreachable"),
        (Mood::SpoilPack, "Corrupt"),
        (Mood::EndlessRefs, "TooManyRefs"),
        (Mood::Redirect("http://127.0.0.1:9/other".into()), "Redirected"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for first in [true, false] {
        for (round, (mood, code)) in cases.iter().enumerate() {
            let fresh = tempfile::tempdir().unwrap();
            let mut config = with_canary(config(&host.url("repo.git")));
            config.limits.advertisement_bytes = 100_000;
            // Once with an empty mirror, once with a good revision to lose.
            let mirror = open(if first { fresh.path() } else { dir.path() }, config);
            host.mood(Mood::Normal);
            if !first {
                fetch(&mirror).await.unwrap();
                origin.commit(&[("blob", &noise(round, 40_000))]);
            }
            host.mood(mood.clone());
            let before = files(if first { fresh.path() } else { dir.path() });
            let error = fails(&mirror, code).await;
            check_words(&error);
            let left: Vec<String> = files(if first { fresh.path() } else { dir.path() });
            let new: Vec<&String> = left.iter().filter(|f| !before.contains(f) && !f.contains("refs/")).collect();
            assert!(new.is_empty(), "{mood:?} leaves {new:?}");
            host.mood(Mood::Normal);
            assert!(fetch(&mirror).await.unwrap().changed, "after {mood:?} all is well again");
            origin.commit(&[("again", code)]);
        }
    }
}

#[tokio::test]
async fn a_host_that_is_down_comes_back() {
    let origin = Origin::new();
    let mut host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), with_canary(config(&host.url("repo.git"))));
    fetch(&mirror).await.unwrap();
    host.down();
    origin.commit(&[("a", "1")]);
    let error = fails(&mirror, "HostUnreachable").await;
    check_words(&error);
    assert!(error.cause.is_transient());
    assert!(error.to_string().contains("connection refused"), "{error}");
    // A restart while the host is down still shows the last good revision.
    let good = mirror.current();
    drop(mirror);
    let mirror = open(dir.path(), config(&host.url("repo.git")));
    assert_eq!(mirror.current(), good);
    fails(&mirror, "HostUnreachable").await;
    host.up();
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, origin.head());

    let dir = tempfile::tempdir().unwrap();
    let nowhere = open(dir.path(), config("https://no-such-host.invalid/a"));
    check_words(&fails(&nowhere, "HostUnknown").await);
}

#[tokio::test]
async fn references_that_are_not_there() {
    let origin = Origin::new();
    let empty = Origin::empty();
    let host = Host::start(origin.root());
    let empty_host = Host::start(empty.root());
    for (full, bare) in [
        (host.url("repo.git"), empty_host.url("repo.git")),
        (origin.bare().display().to_string(), empty.bare().display().to_string()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut wrong = config(&full);
        wrong.reference = Reference::Branch("mian".into());
        let error = fails(&open(dir.path(), wrong), "ReferenceNotFound").await;
        check_words(&error);
        assert!(error.to_string().contains("no branch mian; it has main"), "{error}");

        let dir = tempfile::tempdir().unwrap();
        check_words(&fails(&open(dir.path(), config(&bare)), "RepositoryEmpty").await);

        let dir = tempfile::tempdir().unwrap();
        let mirror = open(dir.path(), config(&full));
        fetch(&mirror).await.unwrap();
        origin.git(&["push", "-q", "origin", "HEAD:refs/heads/spare"]);
        common::git(&origin.bare(), &["update-ref", "-d", "refs/heads/main"]);
        check_words(&fails(&mirror, "ReferenceVanished").await);
        common::git(&origin.bare(), &["update-ref", "-d", "refs/heads/spare"]);
        check_words(&fails(&mirror, "ReferenceVanished").await);
        origin.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
        assert!(!fetch(&mirror).await.unwrap().changed);
    }
    let dir = tempfile::tempdir().unwrap();
    check_words(&fails(&open(dir.path(), config(&host.url("other.git"))), "RepositoryNotFound").await);
    let dir = tempfile::tempdir().unwrap();
    let missing = open(dir.path(), config("/no/such/folder"));
    check_words(&fails(&missing, "RepositoryNotFound").await);
    let plain = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path(), config(plain.path().to_str().unwrap()));
    check_words(&fails(&folder, "ProtocolUnsupported").await);
}

#[tokio::test]
async fn a_pack_beyond_the_limit_is_refused_while_it_arrives() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&url);
        config.limits.pack_bytes = 100_000;
        let mirror = open(dir.path(), config);
        fetch(&mirror).await.unwrap();
        let before = files(dir.path());
        origin.commit(&[("large", &noise(0, 400_000))]);
        let error = fails(&mirror, "PackTooLarge").await;
        check_words(&error);
        assert!(error.to_string().contains("100000 bytes"), "{error}");
        assert_eq!(files(dir.path()).len(), before.len(), "nothing stays on disk");
        origin.git(&["reset", "-q", "--hard", "HEAD~1"]);
        origin.commit(&[("small", &url)]);
        assert!(fetch(&mirror).await.unwrap().changed);
    }
}

/// The smallest limit within which a fetch from `url` into an empty mirror succeeds; every other failure is one.
async fn smallest(url: &str, code: &str, set: impl Fn(&mut SourceConfig, u64)) -> u64 {
    let (mut fails, mut works) = (0, 1 << 20);
    while works - fails > 1 {
        let middle = (fails + works) / 2;
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(url);
        set(&mut config, middle);
        match fetch(&open(dir.path(), config)).await {
            Ok(_) => works = middle,
            Err(error) => {
                assert_eq!(error.code(), code, "within {middle} bytes: {error}");
                fails = middle;
            }
        }
    }
    works
}

#[tokio::test]
async fn limits_of_bytes_hold_to_the_byte() {
    let origin = Origin::new();
    origin.commit(&[("noise", &noise(0, 20_000))]);
    origin.git(&["repack", "-q", "-a", "-d"]);
    let packs = std::fs::read_dir(origin.root().join("work/.git/objects/pack")).unwrap();
    let packs = packs.map(|f| f.unwrap()).filter(|f| f.path().extension().is_some_and(|e| e == "pack"));
    let expected: u64 = packs.map(|f| f.metadata().unwrap().len()).sum();
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        let pack = smallest(&url, "PackTooLarge", |c, limit| c.limits.pack_bytes = limit).await;
        // The pack, in a folder compressed less well than by git, and what a host says of its progress.
        assert!((expected - 500..expected + 5000).contains(&pack), "{url}: {pack} for a pack of {expected}");
    }
    // A folder advertises nothing over a wire.
    let name = "b".repeat(100);
    origin.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/{name}")]);
    let mut needed = [0; 2];
    for (branch, needed) in ["main", &name].into_iter().zip(&mut needed) {
        *needed = smallest(&host.url("repo.git"), "TooManyRefs", |c, limit| {
            c.reference = Reference::Branch(branch.into());
            c.limits.advertisement_bytes = limit;
        })
        .await;
    }
    assert_eq!(needed[1] - needed[0], 96, "only the branch that is asked for is told, and its name is 96 bytes longer");
}

#[tokio::test]
async fn credentials_are_sent_only_where_they_belong() {
    let origin = Origin::new();
    let (ca, tls) = certificate("localhost");
    let host = Host::start_tls(origin.root(), tls);
    host.wants(basic("hub", CANARY));
    let try_with = async |change: &dyn Fn(&mut SourceConfig)| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&host.url("repo.git"));
        config.ca = Some(ca.clone());
        change(&mut config);
        fetch(&open(dir.path(), config)).await
    };
    assert!(try_with(&|c| *c = with_canary(c.clone())).await.is_ok());
    let url = host.url_with(&format!("hub:{CANARY}"), "repo.git");
    assert!(try_with(&|c| c.url = SourceUrl::parse(&url).unwrap()).await.is_ok(), "credentials in the URL count");
    let none = try_with(&|_| {}).await.unwrap_err();
    assert!(none.to_string().contains("asks for credentials"), "{none}");
    let old = |c: &mut SourceConfig| {
        c.auth = Auth::Basic { user: "hub".into(), password: Secret::new(format!("{CANARY}-old")) };
    };
    let wrong = try_with(&old).await.unwrap_err();
    assert_eq!(wrong.code(), "AuthRefused");
    check_words(&wrong);
    host.wants(format!("Bearer {CANARY}"));
    assert!(try_with(&|c| c.auth = Auth::Bearer(Secret::new(CANARY))).await.is_ok());
    let bad = try_with(&|c| c.auth = Auth::Bearer(Secret::new("no"))).await.unwrap_err();
    assert_eq!(bad.code(), "AuthRefused");

    // Another host never sees them.
    let (other_ca, other_tls) = certificate("localhost");
    let other = Host::start_tls(origin.root(), other_tls);
    other.wants(basic("hub", CANARY));
    host.wants(basic("hub", CANARY));
    host.mood(Mood::Redirect(other.url("").trim_end_matches('/').to_owned()));
    let both = |c: &mut SourceConfig| {
        *c = with_canary(c.clone());
        c.ca = Some(format!("{ca}{other_ca}"));
    };
    let moved = try_with(&both).await.unwrap_err();
    assert_eq!(moved.code(), "AuthRefused", "{moved}");
    check_words(&moved);

    // Nor does a wire without encryption.
    let plain = with_canary(config("http://git.example.org/a"));
    let error = Mirror::open(tempfile::tempdir().unwrap().path(), plain).unwrap_err();
    assert_eq!(error.code(), "InsecureCredentials");
    check_words(&error);
}

#[tokio::test]
async fn only_trusted_certificates_are_accepted() {
    let origin = Origin::new();
    let (ca, tls) = certificate("localhost");
    let (other_ca, _) = certificate("localhost");
    let (named_ca, named_tls) = certificate("git.example.org");
    let host = Host::start_tls(origin.root(), tls);
    let named = Host::start_tls(origin.root(), named_tls);
    let try_with = async |url: String, ca: Option<&String>| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = with_canary(config(&url));
        config.ca = ca.cloned();
        fetch(&open(dir.path(), config)).await
    };
    assert!(try_with(host.url("repo.git"), Some(&ca)).await.is_ok());
    assert!(try_with(host.url("repo.git"), Some(&format!("{other_ca}\n{ca}"))).await.is_ok(), "a bundle");
    for (url, ca, words) in [
        (host.url("repo.git"), None, "issuer is not known"),
        (host.url("repo.git"), Some(&other_ca), "signed with another key"),
        (named.url("repo.git"), Some(&named_ca), "another name"),
    ] {
        let error = try_with(url, ca).await.unwrap_err();
        assert_eq!(error.code(), "CertificateUntrusted", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        check_words(&error);
    }
}

#[tokio::test]
async fn a_silent_host_ends_at_the_timeout_and_a_caller_may_give_up() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    host.mood(Mood::Stall);
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_canary(config(&host.url("repo.git")));
    (config.timeout, config.clone_timeout) = (Duration::from_secs(2), Duration::ZERO);
    let mirror = open(dir.path(), config);
    let error = fails(&mirror, "Timeout").await;
    check_words(&error);

    let dir = tempfile::tempdir().unwrap();
    let mut config = with_canary(common::config(&host.url("repo.git")));
    (config.timeout, config.clone_timeout) = (Duration::from_secs(5), Duration::ZERO);
    let mirror = open(dir.path(), config);
    let cancel = CancellationToken::new();
    let seen = host.requests();
    let (result, ()) = tokio::join!(mirror.fetch(&cancel), async {
        while host.requests() < seen + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    });
    assert_eq!(result.unwrap_err().code(), "Cancelled");
    host.mood(Mood::Normal);
    // The next one waits for the turn that the first still holds, and then works.
    let mut next = fetch(&mirror).await;
    while next.as_ref().is_err_and(|e| e.code() == "Timeout") {
        next = fetch(&mirror).await;
    }
    assert!(next.unwrap().changed);
}

#[tokio::test]
async fn a_proxy_is_used_when_configured_and_only_then() {
    let origin = Origin::new();
    let mut host = Host::start(origin.root());
    let proxy = host.url_with(&format!("proxy:{CANARY}"), "");
    let through = |url: &str| {
        let mut config = config(url);
        let url = SourceUrl::parse(&format!("{proxy}x")).unwrap();
        config.proxy = Some(Proxy { url, user: None, password: None });
        config
    };
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), through("http://git.invalid/repo.git"));
    assert_eq!(fetch(&mirror).await.unwrap().revision.commit, origin.head());
    assert_eq!(host.proxied(), Some(basic("proxy", CANARY)));
    host.mood(Mood::Status(407));
    check_words(&fails(&mirror, "ProxyRefused").await);
    host.mood(Mood::Status(404));
    check_words(&fails(&mirror, "RepositoryNotFound").await);
    // The proxy refuses to open a tunnel.
    let dir = tempfile::tempdir().unwrap();
    let tunnelled = open(dir.path(), through("https://git.invalid/repo.git"));
    check_words(&fails(&tunnelled, "ProxyRefused").await);
    host.down();
    let error = fails(&mirror, "ProxyRefused").await;
    check_words(&error);
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_once() {
    let check = |change: &dyn Fn(&mut SourceConfig), words: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config("https://git.example.org/a");
        change(&mut config);
        let error = Mirror::open(dir.path(), config).unwrap_err();
        assert_eq!(error.code(), "ConfigInvalid", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        check_words(&error);
    };
    check(&|c| c.ca = Some("nonsense".into()), "`ca` holds no readable certificate");
    check(&|c| c.reference = Reference::Branch("a..b".into()), "not the name of a Git reference");
    check(&|c| c.reference = Reference::Branch(String::new()), "not the name of a Git reference");
    check(&|c| c.reference = Reference::Semver("newest".into()), "not a version range");
    check(&|c| c.reference = Reference::Commit { id: "abc".into(), branch: None }, "not a full commit id");
    check(&|c| c.auth = Auth::Bearer(Secret::new(format!("{CANARY}\n"))), "line break");
    check(
        &|c| c.client_certificate = Some(ClientCertificate { certificate: "x".into(), key: Secret::new(CANARY) }),
        "client certificate",
    );
    let ssh = |c: &mut SourceConfig| {
        c.auth = Auth::Ssh(SshAuth { identity: SshIdentity::Text(Secret::new(CANARY)), known_hosts: "h k v".into() });
    };
    check(&ssh, "cannot be used with an https URL");
    check(&|c| c.url = SourceUrl::parse("ssh://git@h/p").unwrap(), "needs an ssh key");
    check(
        &|c| {
            ssh(c);
            c.url = SourceUrl::parse("/srv/a").unwrap();
        },
        "takes no credentials",
    );
}

#[tokio::test]
async fn limits_on_what_a_commit_may_hold() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        limits_hold(&origin, &url).await;
    }
}

#[tokio::test]
async fn as_many_references_as_the_limit_are_read_and_one_more_is_refused() {
    let origin = Origin::new();
    for n in 0..4 {
        origin.git(&["tag", &format!("v1.0.{n}")]);
    }
    origin.git(&["push", "-q", "origin", "--tags"]);
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        for (refs, fits) in [(4, true), (3, false)] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = config(&url);
            config.reference = Reference::Semver("1.x".into());
            config.limits.refs = refs;
            let mirror = open(dir.path(), config);
            if fits {
                assert_eq!(fetch(&mirror).await.unwrap().revision.reference, "v1.0.3", "{url}");
            } else {
                let error = fails(&mirror, "TooManyRefs").await;
                check_words(&error);
                assert!(error.to_string().contains("limit of 3 references"), "{error}");
            }
        }
    }
}

async fn limits_hold(origin: &Origin, url: &str) {
    use driftless_render::tree::{Tree, TreeError};
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(url);
    config.limits.tree_depth = 4;
    config.limits.tree_entries = 20;
    config.limits.blob_bytes = 100;
    let mirror = open(dir.path(), config);
    let good = fetch(&mirror).await.unwrap().revision;
    origin.commit(&[("a/b/c/d/fits", "deep")]);
    fetch(&mirror).await.unwrap();
    origin.commit(&[("a/b/c/d/e/f", "deeper")]);
    check_words(&fails(&mirror, "CommitUnusable").await);
    origin.git(&["rm", "-rq", "a"]);
    let many: Vec<String> = (0..21).map(|n| format!("many/{n}")).collect();
    let names: Vec<(&str, &str)> = many.iter().map(|n| (n.as_str(), "x")).collect();
    origin.commit(names.get(..20).unwrap());
    fetch(&mirror).await.unwrap();
    origin.commit(&names);
    let error = fails(&mirror, "CommitUnusable").await;
    assert!(error.to_string().contains("\"many\" holds more than 20 names"), "{error}");
    origin.git(&["rm", "-rq", "many"]);
    origin.commit(&[("large", &noise(0, 101)), ("fits", &noise(0, 100))]);
    let next = fetch(&mirror).await.unwrap();
    let tree = mirror.tree(&next.revision).unwrap();
    assert!(matches!(tree.read("large"), Err(TreeError::TooLarge { len: 101, limit: 100, .. })));
    assert_eq!(text(&tree, "fits").map(|t| t.len()), Some(100));
    assert!(mirror.is_ancestor(&good, &next.revision).unwrap());
    let unknown = driftless_source::Revision { reference: "main".into(), commit: "1".repeat(40) };
    assert_eq!(mirror.tree(&unknown).unwrap_err().code(), "RevisionUnknown");
}
