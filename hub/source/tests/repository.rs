//! A clone made by `git` itself, read at any revision.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::{Origin, git};
use driftless_protocol::id::Revision;
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

/// What is on disk and in no commit that anybody else could have.
#[test]
fn a_work_tree_shows_neither_ignored_files_nor_what_submodules_hold() {
    let origin = Origin::new();
    let work = origin.root().join("work");
    let write = |path: &str, text: &str| {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(".gitignore", "*.dec.yaml\n/tmp/\n!keep.dec.yaml\n");
    write("apps/forced.dec.yaml", "1");
    origin.git(&["add", "--force", "apps/forced.dec.yaml"]);
    origin.commit(&[("apps/a.yaml", "1"), ("far/away/b.yaml", "1")]);
    origin.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../repo.git", "apps/sub"]);
    for path in
        ["apps/new.yaml", "apps/s.dec.yaml", "apps/keep.dec.yaml", "tmp/x.yaml", "apps/own/y.yaml", "apps/own/z"]
    {
        write(path, "1");
    }
    write("apps/own/.gitignore", "z\n");
    let repository = Repository::open(&work).unwrap();
    let names = |tree: &dyn Tree, path: &str| -> Vec<String> {
        tree.list(path).unwrap().unwrap().into_iter().map(|(name, _)| name).collect()
    };
    let all = repository.work_tree("").unwrap();
    assert_eq!(names(&all, ""), [".gitignore", ".gitmodules", "README.md", "apps", "far"]);
    let apps = ["a.yaml", "forced.dec.yaml", "keep.dec.yaml", "new.yaml", "own", "sub", "web"];
    assert_eq!(names(&all, "apps"), apps);
    assert_eq!(names(&all, "apps/own"), [".gitignore", "y.yaml"]);
    assert_eq!(all.entry("apps/sub").unwrap(), Some(Entry::Submodule));
    assert_eq!((all.list("apps/sub").unwrap(), all.entry("apps/sub/README.md").unwrap()), (None, None));
    for hidden in ["tmp", "tmp/x.yaml", "apps/s.dec.yaml", "apps/own/z"] {
        assert_eq!((all.entry(hidden).unwrap(), all.read(hidden).unwrap()), (None, None), "{hidden}");
    }
    assert_eq!(all.find("", "README.md").unwrap(), ["README.md"]);
    let folder = repository.work_tree("apps").unwrap();
    assert_eq!(names(&folder, ""), apps);
    assert_eq!(folder.entry("s.dec.yaml").unwrap(), None);
    assert_eq!((all.sparse(), folder.sparse()), (0, 0));
    origin.git(&["sparse-checkout", "set", "apps"]);
    let sparse = Repository::open(&work).unwrap();
    assert_eq!(sparse.work_tree("").unwrap().sparse(), 1);
    assert_eq!(sparse.work_tree("apps").unwrap().sparse(), 0);
}

/// Clones as pipelines make them: what is not there is said to be the clone's own, with what to do.
#[test]
fn a_shallow_and_a_partial_clone_say_what_they_lack() {
    let origin = Origin::new();
    let first = origin.head();
    origin.commit(&[("apps/web/deploy.yaml", "kind: StatefulSet\n")]);
    let bare = origin.root().join("repo.git");
    git(&bare, &["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", bare.display());
    git(origin.root(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let shallow = Repository::open(&origin.root().join("shallow")).unwrap();
    assert!(shallow.is_shallow());
    let head = shallow.resolve("HEAD").unwrap();
    assert!(shallow.tree(&head, "").is_ok());
    let before = Revision { reference: String::new(), commit: first };
    for message in [shallow.resolve("HEAD~1").unwrap_err(), shallow.merge_base(&before, &head).unwrap_err()] {
        let message = message.to_string();
        assert!(message.contains("the clone is shallow") && message.contains("fetch-depth: 0"), "{message}");
    }
    git(origin.root(), &["clone", "-q", "--filter=blob:none", "--no-checkout", &url, "partial"]);
    let partial = Repository::open(&origin.root().join("partial")).unwrap();
    assert!(!partial.is_shallow());
    let tree = partial.tree(&partial.resolve("HEAD").unwrap(), "").unwrap();
    let message = tree.read("apps/web/deploy.yaml").unwrap_err().to_string();
    assert!(message.contains("the clone is partial") && message.contains("--filter"), "{message}");
    git(origin.root(), &["init", "-q", "--object-format=sha256", "other"]);
    let message = Repository::open(&origin.root().join("other")).unwrap_err().to_string();
    assert!(message.contains("SHA-256"), "{message}");
}
