//! Repositories made by `git` itself, and a small HTTP(S) host that serves them through `git http-backend`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

pub mod host;
pub mod signing;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use driftless_render::tree::Tree;
use driftless_source::{Fetched, GitTree, Mirror, Reference, SourceConfig, SourceError, SourceUrl};
use tokio_util::sync::CancellationToken;

/// A bare repository and a work tree to commit in.
pub struct Origin {
    pub dir: tempfile::TempDir,
}

impl Origin {
    /// Without a commit.
    pub fn empty() -> Self {
        let origin = Origin { dir: tempfile::tempdir().unwrap() };
        git(origin.dir.path(), &["init", "-q", "--bare", "-b", "main", "repo.git"]);
        git(origin.dir.path(), &["clone", "-q", "repo.git", "work"]);
        origin
    }

    /// With one commit on `main`.
    pub fn new() -> Self {
        let origin = Self::empty();
        origin.commit(&[("apps/web/deploy.yaml", "kind: Deployment\n"), ("README.md", "hello\n")]);
        origin
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("repo.git")
    }

    pub fn git(&self, args: &[&str]) -> String {
        git(&self.dir.path().join("work"), args)
    }

    /// Writes files, commits and pushes `main`; returns the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        let work = self.dir.path().join("work");
        for (path, text) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", &format!("change {}", files.len())]);
        self.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Runs git without any configuration of this machine.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn config(url: &str) -> SourceConfig {
    let url = SourceUrl::parse(url).unwrap();
    let mut config = SourceConfig::new("flux-system/fleet", url, Reference::Branch("main".into()));
    config.timeout = Duration::from_secs(120);
    config
}

pub fn open(dir: &Path, config: SourceConfig) -> Mirror {
    Mirror::open(dir, config).unwrap()
}

pub async fn fetch(mirror: &Mirror) -> Result<Fetched, SourceError> {
    mirror.fetch(&CancellationToken::new()).await
}

/// Fetches, expecting this error; whatever the failure, the last good revision must stay.
pub async fn fails(mirror: &Mirror, code: &str) -> SourceError {
    let before = mirror.current();
    let error = fetch(mirror).await.expect_err(code);
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(mirror.current(), before);
    assert_eq!(error.last_good, before);
    if let Some(before) = before {
        assert!(mirror.tree(&before).unwrap().list("").unwrap().is_some(), "the last good revision is not readable");
    }
    error
}

pub fn text(tree: &GitTree, path: &str) -> Option<String> {
    tree.read(path).unwrap().map(|b| String::from_utf8(b.to_vec()).unwrap())
}

/// Every file below `dir`, relative, sorted.
pub fn files(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(at) = stack.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else {
                out.push(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    out.sort();
    out
}

/// Text that does not compress, nor against that of another seed: its bytes lie open in a pack.
pub fn noise(seed: usize, len: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed as u64).wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..len).map(|_| next()).collect()
}
