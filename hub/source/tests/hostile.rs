//! What a hostile or careless repository may hold.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::host::Host;
use common::{Origin, config, fails, fetch, open, text};
use driftless_render::tree::{Entry, Tree};

impl Origin {
    /// Stores a tree object as it is, with whatever names, and pushes a commit of it.
    fn push_tree(&self, lines: &[(&str, &str, &str)]) {
        let mut raw = Vec::new();
        for (mode, name, id) in lines {
            raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            raw.extend((0..20).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap()));
        }
        let mut child = Command::new("git")
            .args(["hash-object", "-w", "-t", "tree", "--stdin", "--literally"])
            .current_dir(self.bare())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&raw).unwrap();
        let tree = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let commit = common::git(&self.bare(), &["commit-tree", tree.trim(), "-p", "main", "-m", "odd"]);
        common::git(&self.bare(), &["update-ref", "refs/heads/main", &commit]);
    }
}

#[tokio::test]
async fn names_that_are_no_file_names_are_refused() {
    let origin = Origin::new();
    let blob = origin.git(&["rev-parse", "HEAD:README.md"]);
    let host = Host::start(origin.root());
    let dir = tempfile::tempdir().unwrap();
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        let mirror = open(dir.path(), config(&url));
        fetch(&mirror).await.unwrap();
        let good = common::git(&origin.bare(), &["rev-parse", "main"]);
        for lines in [
            vec![("100644", "..", blob.as_str())],
            vec![("100644", ".", &blob)],
            vec![("100644", "a/b", &blob)],
            vec![("100644", "a", &blob), ("100755", "a", &blob)],
        ] {
            origin.push_tree(&lines);
            let error = fails(&mirror, "CommitUnusable").await;
            assert!(error.to_string().contains("folder \"\""), "{lines:?}: {error}");
            common::git(&origin.bare(), &["update-ref", "refs/heads/main", &good]);
        }
        assert!(!fetch(&mirror).await.unwrap().changed);
    }
}

#[tokio::test]
async fn a_submodule_is_listed_and_not_followed() {
    let origin = Origin::new();
    let blob = origin.git(&["rev-parse", "HEAD:README.md"]);
    origin.push_tree(&[("100644", "README.md", &blob), ("160000", "other", &"1".repeat(40))]);
    let host = Host::start(origin.root());
    for url in [host.url("repo.git"), origin.bare().display().to_string()] {
        let dir = tempfile::tempdir().unwrap();
        let mirror = open(dir.path(), config(&url));
        let revision = fetch(&mirror).await.unwrap().revision;
        let tree = mirror.tree(&revision).unwrap();
        assert_eq!(tree.entry("other").unwrap(), Some(Entry::Submodule));
        assert_eq!((tree.read("other").unwrap(), tree.list("other").unwrap()), (None, None));
        assert_eq!(text(&tree, "README.md").as_deref(), Some("hello\n"));
    }
}

#[tokio::test]
async fn a_file_that_unpacks_beyond_the_limit_is_refused() {
    const LIMIT: usize = 1 << 20;
    let origin = Origin::new();
    let host = Host::start(origin.root());
    for size in [LIMIT, LIMIT + 1, 8 * LIMIT] {
        origin.commit(&[("zeros", &"0".repeat(size))]);
        for url in [host.url("repo.git"), origin.bare().display().to_string()] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = config(&url);
            config.limits.alloc_bytes = LIMIT as u64;
            let mirror = open(dir.path(), config);
            if size == LIMIT {
                let revision = fetch(&mirror).await.unwrap().revision;
                assert_eq!(text(&mirror.tree(&revision).unwrap(), "zeros").map(|t| t.len()), Some(LIMIT));
            } else {
                let error = fails(&mirror, "CommitUnusable").await;
                assert!(error.to_string().contains("1048576 bytes"), "{size}: {error}");
            }
            // What the last file left behind is not what the next is measured by.
            origin.git(&["checkout", "-q", "--orphan", &format!("o{size}-{}", url.len())]);
        }
    }
}
