//! What Git may declare, and when it is forgotten.

use std::path::Path;

use driftless_render::target::{ArtifactDecl, Verify, VerifyMode};

use super::*;

fn config(dir: &Path, more: &str) -> Config {
    let text = format!("format: 1\nfleet: {{listen: '127.0.0.1:0', addresses: ['h:1']}}\nadmin: {{socket: s}}\n{more}");
    std::fs::write(dir.join("hub.yaml"), text).unwrap();
    Config::load(&dir.join("hub.yaml")).unwrap()
}

fn declared(url: &str, kind: &str) -> SourceDecl {
    SourceDecl {
        id: "team/apps".into(),
        kind: kind.into(),
        url: url.into(),
        reference: if kind == "OCIRepository" { GitRef::Tag("v1".into()) } else { GitRef::Branch("main".into()) },
        interval_seconds: 60,
        timeout_seconds: 60,
        artifact: (kind == "OCIRepository").then(ArtifactDecl::default),
        ..SourceDecl::default()
    }
}

fn open(config: &Config, declared: &SourceDecl) -> Result<Handle, String> {
    let book = Book::open(config, &[]).unwrap();
    open_declared(config, declared, &book.key_of(declared), false).map_err(|e| crate::chain(&e))
}

#[test]
fn a_commit_cannot_make_the_hub_read_its_own_machine() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "");
    for (url, kind, wanted) in [
        ("file:///etc", "GitRepository", "own machine"),
        ("/etc", "GitRepository", ""),
        ("https://127.0.0.1/x", "GitRepository", "own machine"),
        ("https://localhost/x", "GitRepository", "own machine"),
        ("https://[::1]/x", "GitRepository", "own machine"),
        ("oci://localhost:5000/x", "OCIRepository", "own machine"),
        ("oci://127.0.0.1/x", "OCIRepository", "own machine"),
        ("oci://user:canary@r.example.org/x", "OCIRepository", ""),
        ("https://git.example.org/x", "Bucket", "not fetched"),
    ] {
        let error = open(&config, &declared(url, kind)).expect_err(url);
        assert!(error.contains("team/apps") && error.contains(wanted) && !error.contains("canary"), "{url}: {error}");
    }
    let handle = open(&config, &declared("https://git.example.org/x", "GitRepository")).unwrap();
    assert!(!handle.configured && handle.interval == Duration::from_secs(60));
    let oci = open(&config, &declared("oci://r.example.org/x", "OCIRepository")).unwrap();
    assert_eq!((oci.id.as_str(), oci.status().reference.as_str()), ("OCIRepository/team/apps", "tag v1"));
    assert_eq!(std::fs::read_dir(dir.path().join("mirrors")).unwrap().count(), 2, "only the last two have a folder");
}

#[test]
fn a_source_that_must_be_signed_is_never_served_unsigned() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "sources: [{name: a/b, url: 'https://git.example.org/x', branch: main}]\n");
    let book = Book::open(&config, &[]).unwrap();
    let plain = declared("https://git.example.org/x", "GitRepository");
    let verify = |keys: &[(&str, &str)]| SourceDecl {
        verify: Some(Verify {
            mode: VerifyMode::Head,
            secret: "keys".into(),
            keys: Some(keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        }),
        ..plain.clone()
    };
    assert!(book.find(&plain).is_some(), "the configured one serves it");
    let signed = verify(&[("a.sshpub", "x")]);
    assert!(book.find(&signed).is_none());
    let handle = Arc::new(open_declared(&config, &signed, &book.key_of(&signed), false).unwrap());
    assert!(handle.verified);
    book.insert(handle);
    assert!(book.find(&signed).is_some());
    assert!(book.find(&verify(&[("a.sshpub", "y")])).is_none(), "other keys, another copy");
    assert!(book.find(&plain).unwrap().configured);
    let unreadable = config_with_keys(dir.path());
    let error = open(
        &unreadable,
        &SourceDecl {
            verify: Some(Verify { mode: VerifyMode::Head, secret: "keys".into(), keys: None }),
            ..declared("https://git.example.org/y", "GitRepository")
        },
    );
    assert!(error.unwrap_err().contains("gone.sshpub"));
}

fn config_with_keys(dir: &Path) -> Config {
    config(dir, "mirrors: other\ntrustedKeys: [{source: team/apps, keyFiles: [gone.sshpub]}]\n")
}

#[test]
fn credentials_of_one_source_are_not_those_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(
        dir.path(),
        "credentials:\n- {urlPrefix: 'https://git.example.org'}\n- {urlPrefix: 'https://git.example.org/team'}\n\
         - {urlPrefix: 'https://git.example.org', source: team/apps}\n",
    );
    let book = Book::open(&config, &[]).unwrap();
    let chosen = |id: &str, url: &str| {
        let declared = SourceDecl { id: id.into(), ..declared(url, "GitRepository") };
        open::credential(&config.credentials, &declared).map(|(index, _)| index)
    };
    assert_eq!(chosen("team/apps", "https://git.example.org/team/x"), Some(2), "the object's own come first");
    assert_eq!(chosen("other/apps", "https://git.example.org/team/x"), Some(1), "then the longest address");
    assert_eq!(chosen("other/apps", "https://git.example.org/x"), Some(0));
    assert_eq!(chosen("team/apps", "https://git.example.org.evil.org/x"), None);
    let ours = declared("https://git.example.org/x", "GitRepository");
    let theirs = SourceDecl { id: "other/apps".into(), ..ours.clone() };
    book.insert(Arc::new(open_declared(&config, &ours, &book.key_of(&ours), false).unwrap()));
    assert!(book.find(&ours).is_some());
    assert!(book.find(&theirs).is_none(), "what one may see with its credentials is not served to others");
}

#[test]
fn what_no_render_wants_is_forgotten_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "sources: [{name: a/b, url: 'https://git.example.org/root'}]\n");
    let book = Book::open(&config, &[]).unwrap();
    let (kept, left) =
        (declared("https://git.example.org/kept", "GitRepository"), declared("oci://r.example.org/x", "OCIRepository"));
    for source in [&kept, &left] {
        book.insert(Arc::new(open_declared(&config, source, &book.key_of(source), false).unwrap()));
    }
    assert!(book.refuse(&left, "no".into()) && !book.refuse(&left, "no".into()), "said once");
    let (start, grace) = (Instant::now(), Duration::from_secs(60));
    let later = |seconds| start + Duration::from_secs(seconds);
    assert!(book.forget(&[kept.clone(), left.clone()], start, grace).is_empty());
    assert_eq!(book.refusals().len(), 1);
    assert!(book.forget(std::slice::from_ref(&kept), later(1), grace).is_empty(), "not at once");
    assert!(book.refusals().is_empty(), "there was nothing to keep of it");
    assert!(book.forget(&[kept.clone(), left.clone()], later(50), grace).is_empty(), "wanted again");
    assert!(book.forget(std::slice::from_ref(&kept), later(100), grace).is_empty());
    let gone = book.forget(std::slice::from_ref(&kept), later(161), grace);
    assert_eq!(gone.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), ["OCIRepository/team/apps"]);
    assert!(gone[0].stop.is_cancelled());
    assert!(book.find(&left).is_none() && book.find(&kept).is_some());
    assert_eq!(book.all().len(), 2, "configured sources stay whatever happens");
}
