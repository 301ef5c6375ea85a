//! What a mirror does when all goes well: clone, increments, rewritten branches, tags, commits.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::host::Host;
use common::{Origin, config, fetch, files, git, open, text};
use driftless_render::tree::{Entry, Tree};
use driftless_source::{Change, Relation};
use driftless_source::{Mirror, Opened, Reference, Revision};

fn revision(commit: &str) -> Revision {
    Revision { reference: "main".into(), commit: commit.into() }
}

fn packs(mirror_dir: &std::path::Path) -> usize {
    files(mirror_dir).iter().filter(|f| f.ends_with(".pack")).count()
}

#[tokio::test]
async fn clone_then_increments() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), config(&host.url("repo.git")));
    assert_eq!((mirror.opened(), mirror.current()), (&Opened::New, None));

    let first = fetch(&mirror).await.unwrap();
    assert_eq!(first.revision, revision(&origin.head()));
    assert_eq!(first.revision.to_string(), format!("main@sha1:{}", origin.head()));
    assert!(first.changed && first.previous.is_none() && first.rewound.is_none());
    assert!(first.objects >= 5 && first.bytes > 0, "{first:?}");
    let old = mirror.tree(&first.revision).unwrap();
    assert_eq!(text(&old, "apps/web/deploy.yaml").as_deref(), Some("kind: Deployment\n"));

    let same = fetch(&mirror).await.unwrap();
    assert!(!same.changed, "{same:?}");
    assert_eq!((same.objects, same.previous.as_ref()), (0, Some(&first.revision)));
    assert_eq!(packs(dir.path()), 1, "a fetch without news adds no pack");

    origin.commit(&[("apps/web/deploy.yaml", "kind: StatefulSet\n"), ("apps/db/new.yaml", "a: 1\n")]);
    let second = fetch(&mirror).await.unwrap();
    assert_eq!((second.changed, second.revision.clone()), (true, revision(&origin.head())));
    assert!(second.objects < 10, "only what is new travels: {second:?}");
    let tree = mirror.tree(&second.revision).unwrap();
    assert_eq!(text(&tree, "apps/web/deploy.yaml").as_deref(), Some("kind: StatefulSet\n"));
    assert_eq!(text(&old, "apps/web/deploy.yaml").as_deref(), Some("kind: Deployment\n"), "the older tree stays");

    let changed: Vec<(String, Change)> = mirror
        .changed_paths(&first.revision, &second.revision)
        .unwrap()
        .into_iter()
        .map(|c| (c.path, c.change))
        .collect();
    assert_eq!(
        changed,
        [("apps/db/new.yaml".into(), Change::Added), ("apps/web/deploy.yaml".into(), Change::Modified)]
    );
    let back = mirror.changed_paths(&second.revision, &first.revision).unwrap();
    assert_eq!(back[0].change, Change::Removed);
    assert!(mirror.is_ancestor(&first.revision, &second.revision).unwrap());
    assert!(!mirror.is_ancestor(&second.revision, &first.revision).unwrap());
    let info = mirror.commit_info(&second.revision).unwrap();
    assert_eq!((info.author.as_str(), info.email.as_str(), info.time), ("Ada", "ada@example.org", 1_700_000_000));
    assert_eq!((info.subject.as_str(), info.parents), ("change 2", vec![first.revision.commit.clone()]));

    // A new process finds what the old one had.
    drop(mirror);
    let mirror = open(dir.path(), config(&host.url("repo.git")));
    assert_eq!((mirror.opened(), mirror.current()), (&Opened::Usable, Some(second.revision.clone())));
    assert!(!fetch(&mirror).await.unwrap().changed);
}

#[tokio::test]
async fn a_tree_answers_as_git_lists_it() {
    let origin = Origin::new();
    std::os::unix::fs::symlink("../README.md", origin.root().join("work/apps/link")).unwrap();
    origin.commit(&[("a.b/x", "1"), ("a/x", "22"), ("a-b/x", "333"), ("empty", "")]);
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), config(origin.bare().to_str().unwrap()));
    let revision = fetch(&mirror).await.unwrap().revision;
    let tree = mirror.tree(&revision).unwrap();
    let names: Vec<String> = tree.list("").unwrap().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["README.md", "a", "a-b", "a.b", "apps", "empty"], "plain byte order");
    assert!(matches!(tree.entry("a/x").unwrap(), Some(Entry::File { len: 2, .. })));
    assert!(matches!(tree.entry("empty").unwrap(), Some(Entry::File { len: 0, .. })));
    assert!(matches!(tree.entry("apps/link").unwrap(), Some(Entry::Link { .. })));
    assert_eq!(text(&tree, "apps/link").as_deref(), Some("../README.md"));
    for nothing in ["b", "a/y", "a/x/z", "apps/link/x", "../a", "a//x", "/a", "a/", "."] {
        assert_eq!(tree.entry(nothing).unwrap(), None, "{nothing}");
        assert_eq!(tree.read(nothing).unwrap(), None, "{nothing}");
        assert_eq!(tree.list(nothing).unwrap(), None, "{nothing}");
    }
    assert_eq!(tree.read("a").unwrap(), None, "a folder has no bytes");
    // Equal content has equal identity wherever it lies.
    origin.commit(&[("b/copy", "22")]);
    let next = fetch(&mirror).await.unwrap().revision;
    assert_eq!(mirror.tree(&next).unwrap().entry("b/copy").unwrap(), tree.entry("a/x").unwrap());
    // Several threads at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let tree = tree.clone();
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(text(&tree, "a-b/x").as_deref(), Some("333"));
                    assert_eq!(tree.list("apps/web").unwrap().unwrap().len(), 1);
                }
            });
        }
    });
}

#[tokio::test]
async fn a_rewritten_branch_is_told() {
    let origin = Origin::new();
    let first = origin.head();
    let second = origin.commit(&[("a", "1")]);
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().to_str().unwrap().to_owned()] {
        origin.git(&["push", "-q", "--force", "origin", &format!("{second}:main")]);
        let dir = tempfile::tempdir().unwrap();
        let mirror = open(dir.path(), config(&url));
        fetch(&mirror).await.unwrap();

        origin.git(&["push", "-q", "--force", "origin", &format!("{first}:main")]);
        let back = fetch(&mirror).await.unwrap();
        let rewind = back.rewound.expect("a rewind");
        assert_eq!((rewind.from.commit.as_str(), rewind.relation), (second.as_str(), Relation::Backward));
        assert_eq!(back.revision.commit, first);
        assert_eq!(mirror.relation(&revision(&second), &back.revision).unwrap(), Relation::Backward);
        assert!(mirror.tree(&rewind.from).is_ok(), "the dropped commit stays readable");

        origin.git(&["checkout", "-q", "-B", "other", &first]);
        let diverged = origin.commit(&[("b", "2")]);
        origin.git(&["push", "-q", "--force", "origin", &format!("{second}:main")]);
        fetch(&mirror).await.unwrap();
        origin.git(&["push", "-q", "--force", "origin", &format!("{diverged}:main")]);
        let other = fetch(&mirror).await.unwrap();
        assert_eq!(other.rewound.map(|r| (r.from.commit, r.relation)), Some((second.clone(), Relation::Diverged)));
        assert_eq!(other.revision.commit, diverged);

        // A revert is an ordinary commit.
        origin.git(&["revert", "--no-edit", "HEAD"]);
        origin.git(&["push", "-q", "origin", "HEAD:main"]);
        let reverted = fetch(&mirror).await.unwrap();
        assert!(reverted.changed && reverted.rewound.is_none());
    }
}

#[tokio::test]
async fn other_references() {
    let origin = Origin::new();
    let first = origin.head();
    origin.git(&["tag", "-a", "v1.0.0", "-m", "one"]);
    let second = origin.commit(&[("a", "1")]);
    origin.git(&["tag", "v1.4.0"]);
    let third = origin.commit(&[("a", "2")]);
    origin.git(&["tag", "v2.0.0"]);
    origin.git(&["push", "-q", "origin", "--tags"]);
    origin.git(&["push", "-q", "origin", "HEAD:refs/pull/7/head"]);
    let host = Host::start(origin.root());
    let cases = [
        (Reference::Tag("v1.0.0".into()), &first, format!("v1.0.0@sha1:{first}")),
        (Reference::Semver("1.x".into()), &second, format!("v1.4.0@sha1:{second}")),
        (Reference::Name("refs/pull/7/head".into()), &third, format!("refs/pull/7/head@sha1:{third}")),
        (Reference::Commit { id: first.clone(), branch: None }, &first, format!("sha1:{first}")),
        (Reference::Commit { id: second.clone(), branch: Some("main".into()) }, &second, format!("main@sha1:{second}")),
    ];
    for url in [host.url("repo.git"), origin.bare().to_str().unwrap().to_owned()] {
        // One folder for all: a source that is pointed elsewhere keeps its objects and forgets its revision.
        let dir = tempfile::tempdir().unwrap();
        for (reference, commit, shown) in &cases {
            let mut config = config(&url);
            config.reference = reference.clone();
            let mirror = open(dir.path(), config);
            assert_eq!(mirror.current(), None, "{reference}");
            let fetched = fetch(&mirror).await.unwrap_or_else(|e| panic!("{reference}: {e}"));
            assert_eq!((&fetched.revision.commit, &fetched.revision.to_string()), (*commit, shown), "{reference}");
            assert!(fetched.rewound.is_none());
            assert!(!fetch(&mirror).await.unwrap().changed);
            assert!(mirror.tree(&fetched.revision).unwrap().entry("README.md").unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn a_file_repository_is_read_without_a_program() {
    let origin = Origin::new();
    git(&origin.bare(), &["repack", "-adq"]);
    let work = origin.root().join("work");
    for path in [origin.bare(), work] {
        let dir = tempfile::tempdir().unwrap();
        let mirror = open(dir.path(), config(&format!("file://{}", path.display())));
        let first = fetch(&mirror).await.unwrap();
        assert_eq!(first.revision.commit, git(&path, &["rev-parse", "main"]));
        assert!(first.objects >= 5);
        assert!(!fetch(&mirror).await.unwrap().changed);
        git(&origin.root().join("work"), &["checkout", "-q", "main"]);
        origin.commit(&[("n", path.to_str().unwrap())]);
        let next = fetch(&mirror).await.unwrap();
        assert!(next.changed && next.rewound.is_none());
        assert_eq!(next.objects, 3, "commit, folder, file");
        let checked = git(&dir.path().join("r1"), &["fsck", "--full", "--strict"]);
        assert_eq!(checked, "", "git itself finds the mirror whole");
    }
}

#[tokio::test]
async fn a_grown_mirror_is_cloned_afresh_and_swapped() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&host.url("repo.git"));
    config.limits.packs = 3;
    let mirror: Mirror = open(dir.path(), config.clone());
    let first = fetch(&mirror).await.unwrap();
    let reader = mirror.tree(&first.revision).unwrap();
    for n in 0..2 {
        origin.commit(&[("n", &n.to_string())]);
        assert_eq!(fetch(&mirror).await.unwrap().renewed, None);
    }
    assert_eq!(packs(dir.path()), 3);
    origin.commit(&[("n", "last")]);
    let renewed = fetch(&mirror).await.unwrap();
    assert!(renewed.renewed.as_deref().is_some_and(|r| r.contains("3 packs")), "{renewed:?}");
    assert!(renewed.rewound.is_none());
    assert_eq!(text(&reader, "README.md").as_deref(), Some("hello\n"), "a running reader keeps its files");
    assert!(mirror.tree(&first.revision).is_ok(), "full history");
    drop(reader);
    assert_eq!(packs(dir.path()), 1);
    assert!(!dir.path().join("r1").exists() && dir.path().join("r2").exists());
    drop(mirror);
    let mirror = open(dir.path(), config.clone());
    assert_eq!((mirror.opened(), mirror.current()), (&Opened::Usable, Some(renewed.revision.clone())));

    // While a branch was rewritten the old commits stay: somebody has to decide first.
    for n in 0..2 {
        origin.commit(&[("m", &n.to_string())]);
        fetch(&mirror).await.unwrap();
    }
    let lost = mirror.current().unwrap();
    origin.git(&["reset", "-q", "--hard", "HEAD~1"]);
    origin.commit(&[("m", "rewritten")]);
    let rewritten = fetch(&mirror).await.unwrap();
    assert_eq!(rewritten.rewound.map(|r| r.relation), Some(Relation::Diverged));
    assert_eq!(rewritten.renewed, None);
    assert!(mirror.tree(&lost).is_ok());
    assert!(!dir.path().join("r3").exists());
}

#[tokio::test]
async fn a_grown_mirror_that_cannot_be_cloned_is_used_on() {
    let origin = Origin::new();
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&url);
        config.limits.packs = 3;
        config.limits.pack_bytes = 60_000;
        origin.git(&["checkout", "-q", "--orphan", &format!("o{}", url.len())]);
        let mirror = open(dir.path(), config);
        for n in 0..8 {
            // Each step is within the limit, the whole soon is not.
            origin.commit(&[("n", &common::noise(n, 30_000))]);
            let fetched = fetch(&mirror).await.unwrap_or_else(|e| panic!("step {n}: {e}"));
            assert_eq!((fetched.revision.commit, fetched.renewed), (origin.head(), None), "step {n}");
        }
        assert_eq!(packs(dir.path()), 8);
    }
}
