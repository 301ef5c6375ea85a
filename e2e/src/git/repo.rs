//! Repositories and the commits in them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{DEFAULT_BRANCH, git, git_with};

/// Time of the first commit, Unix seconds; each later one is a minute younger.
const FIRST_COMMIT: u64 = 1_767_225_600; // 2026-01-01T00:00:00Z
/// Between two commits.
const TICK: u64 = 60;
/// Who commits.
const NAME: &str = "Test Author";
const EMAIL: &str = "author@example.invalid";

/// A bare repository with a work folder beside it, in which commits are made and from which they are pushed through
/// the file system, so that commits arrive also while a server plays dead.
#[derive(Debug)]
pub struct Repo {
    bare: PathBuf,
    work: PathBuf,
    commits: u64,
}

impl Repo {
    /// Makes an empty repository `<name>.git` in `folder`, with its work folder in `works`.
    ///
    /// # Errors
    /// git fails or the folders cannot be written.
    pub async fn create(folder: &Path, works: &Path, name: &str) -> Result<Self> {
        let bare = folder.join(format!("{name}.git"));
        let work = works.join(name);
        for made in [&bare, &work] {
            fs::create_dir_all(made).with_context(|| format!("create {}", made.display()))?;
        }
        let branch = format!("--initial-branch={DEFAULT_BRANCH}");
        git(&bare, &["init", "--quiet", "--bare", &branch]).await?;
        for (key, value) in [
            ("http.receivepack", "true"),
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowReachableSHA1InWant", "true"),
            // Nothing happens behind a test's back.
            ("gc.auto", "0"),
            ("receive.autogc", "false"),
        ] {
            git(&bare, &["config", key, value]).await?;
        }
        git(&work, &["init", "--quiet", &branch]).await?;
        let origin = bare.to_str().context("a folder name that is not UTF-8")?;
        git(&work, &["remote", "add", "origin", origin]).await?;
        git(&work, &["config", "gc.auto", "0"]).await?;
        Ok(Self { bare, work, commits: 0 })
    }

    /// The bare repository.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// The work folder: what the next commit starts from.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Writes files (`Some` content) or removes them (`None`), commits, pushes, and returns the commit's hash. Folders
    /// are made as needed; without a change the commit is empty.
    ///
    /// # Errors
    /// A path leads out of the repository, or git fails.
    pub async fn commit(&mut self, message: &str, files: &[(&str, Option<&str>)]) -> Result<String> {
        for (path, content) in files {
            let plain = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
            ensure!(plain, "{path:?} is not a path inside the repository");
            let file = self.work.join(path);
            match content {
                Some(content) => {
                    if let Some(parent) = file.parent() {
                        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
                    }
                    fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
                }
                None => fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?,
            }
        }
        self.commit_work(message).await
    }

    /// Makes the whole content equal to a folder's (its `.git` folders left out, symbolic links kept), commits and
    /// pushes.
    ///
    /// # Errors
    /// The folder cannot be read, or git fails.
    pub async fn commit_folder(&mut self, message: &str, folder: &Path) -> Result<String> {
        empty(&self.work)?;
        copy(folder, &self.work)?;
        self.commit_work(message).await
    }

    /// Commits whatever the work folder holds now, ignored files too, and pushes.
    ///
    /// # Errors
    /// git fails.
    pub async fn commit_work(&mut self, message: &str) -> Result<String> {
        let time = format!("{} +0000", FIRST_COMMIT + self.commits * TICK);
        self.commits += 1;
        git(&self.work, &["add", "--all", "--force"]).await?;
        let identity = [
            ("GIT_AUTHOR_NAME", NAME),
            ("GIT_AUTHOR_EMAIL", EMAIL),
            ("GIT_AUTHOR_DATE", &time),
            ("GIT_COMMITTER_NAME", NAME),
            ("GIT_COMMITTER_EMAIL", EMAIL),
            ("GIT_COMMITTER_DATE", &time),
        ];
        git_with(&self.work, &["commit", "--quiet", "--allow-empty", "--no-verify", "-m", message], &identity).await?;
        self.push(&[]).await?;
        self.head().await
    }

    /// The hash of the newest commit in the work folder.
    ///
    /// # Errors
    /// There is none yet.
    pub async fn head(&self) -> Result<String> {
        git(&self.work, &["rev-parse", "HEAD"]).await
    }

    /// Rewrites history: the branch goes back to `revision` (`HEAD~1`, a hash), whatever came after is lost on the
    /// server too. Commits made next follow from there.
    ///
    /// # Errors
    /// The revision does not exist, or git fails.
    pub async fn force_push(&mut self, revision: &str) -> Result<String> {
        git(&self.work, &["reset", "--quiet", "--hard", revision]).await?;
        self.push(&["--force"]).await?;
        self.head().await
    }

    /// Switches the work folder to a branch, made from the current commit if it does not exist, and pushes it.
    ///
    /// # Errors
    /// git fails.
    pub async fn branch(&mut self, name: &str) -> Result<()> {
        if git(&self.work, &["switch", "--quiet", name]).await.is_err() {
            git(&self.work, &["switch", "--quiet", "--create", name]).await?;
        }
        self.push(&[]).await
    }

    /// Deletes a branch on the server. The work folder keeps it, so that a push brings it back.
    ///
    /// # Errors
    /// There is no such branch.
    pub async fn delete_branch(&mut self, name: &str) -> Result<()> {
        // Not by a push: Git refuses to delete the branch that a bare repository calls its own by that way.
        git(&self.bare, &["update-ref", "-d", &format!("refs/heads/{name}")]).await.map(drop)
    }

    /// Sets a lightweight tag on the newest commit, moving it if it exists.
    ///
    /// # Errors
    /// git fails.
    pub async fn tag(&mut self, name: &str) -> Result<()> {
        git(&self.work, &["tag", "--force", name]).await?;
        git(&self.work, &["push", "--quiet", "--force", "origin", &format!("refs/tags/{name}")]).await.map(drop)
    }

    /// Pushes the current branch as it is, for instance after a branch was deleted.
    ///
    /// # Errors
    /// git fails.
    pub async fn push(&self, options: &[&str]) -> Result<()> {
        let mut args = vec!["push", "--quiet"];
        args.extend_from_slice(options);
        args.extend_from_slice(&["origin", "HEAD"]);
        git(&self.work, &args).await.map(drop)
    }
}

/// Removes everything but `.git`.
fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// Copies a folder's content; `.git` at any depth stays behind, or git would take it for a submodule.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let naming = || format!("copy {} to {}", source.display(), target.display());
        if entry.file_name() == ".git" {
            continue;
        } else if kind.is_dir() {
            fs::create_dir(&target).with_context(naming)?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source).with_context(naming)?, &target).with_context(naming)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(naming)?;
        }
    }
    Ok(())
}
