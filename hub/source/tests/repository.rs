//! A clone made by `git` itself, read at any revision.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::{Origin, git};
use driftless_render::tree::{Entry, Tree};
use driftless_source::{Change, Repository};

#[test]
fn revisions_are_found_as_git_names_them() {
    let origin = Origin::new();
    let first = origin.head();
    let second = origin.commit(&[("apps/web/deploy.yaml", "kind: StatefulSet\n")]);
    origin.git(&["tag", "-a", "v1", "-m", "one", &first]);
    let repository = Repository::open(&origin.root().join("work")).unwrap();
    for (text, commit, reference) in [
        ("HEAD", &second, "HEAD"),
        ("HEAD~1", &first, "HEAD~1"),
        ("v1", &first, "v1"),
        ("origin/main", &second, "origin/main"),
        (&second[..10], &second, ""),
        (second.as_str(), &second, ""),
    ] {
        let found = repository.resolve(text).unwrap();
        assert_eq!((&found.commit, found.reference.as_str()), (commit, reference), "{text}");
    }
    let message = repository.resolve("nowhere").unwrap_err().to_string();
    assert!(message.contains("\"nowhere\"") && message.contains("git fetch"), "{message}");
    assert!(repository.resolve("HEAD:apps").is_err(), "a folder is no commit");
}

#[test]
fn a_revision_is_read_without_a_checkout() {
    let origin = Origin::new();
    origin.commit(&[("apps/web/deploy.yaml", "kind: StatefulSet\n")]);
    std::fs::remove_dir_all(origin.root().join("work/apps")).unwrap();
    let repository = Repository::open(&origin.root().join("work")).unwrap();
    let head = repository.resolve("HEAD").unwrap();
    let tree = repository.tree(&head, "").unwrap();
    assert_eq!(tree.read("apps/web/deploy.yaml").unwrap().as_deref(), Some(&b"kind: StatefulSet\n"[..]));
    let below = repository.tree(&head, "apps/web").unwrap();
    assert!(matches!(below.entry("deploy.yaml").unwrap(), Some(Entry::File { .. })));
    let message = repository.tree(&head, "apps/other").unwrap_err().to_string();
    assert!(message.contains("\"apps/other\""), "{message}");
    let before = repository.resolve("HEAD~1").unwrap();
    let changed = repository.changed_paths(&before, &head).unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].path.as_str(), changed[0].change), ("apps/web/deploy.yaml", Change::Modified));
    assert_eq!(repository.merge_base(&before, &head).unwrap().commit, before.commit);
    assert_eq!(repository.commit_info(&head).unwrap().author, "Ada");
    assert_eq!(repository.main_branch().as_deref(), Some("main"));
}

#[test]
fn a_linked_work_tree_and_a_bare_repository_are_repositories_too() {
    let origin = Origin::new();
    origin.git(&["worktree", "add", "-q", "../linked", "HEAD"]);
    for folder in ["linked", "repo.git"] {
        let repository = Repository::open(&origin.root().join(folder)).unwrap();
        assert_eq!(repository.resolve("main").unwrap().commit, origin.head(), "{folder}");
    }
    let message = Repository::open(origin.root()).unwrap_err().to_string();
    assert!(message.contains("no Git repository"), "{message}");
    let work = Repository::open(&origin.root().join("work")).unwrap();
    git(&origin.root().join("work"), &["remote", "set-url", "origin", "https://ada:secret@example.org/fleet.git?x=1"]);
    assert!(work.origin().is_some(), "as it was when it was opened");
    let again = Repository::open(&origin.root().join("work")).unwrap();
    assert_eq!(again.origin().as_deref(), Some("https://example.org/fleet.git"));
}
