//! A real Git server on loopback, and repositories made of commits.
//!
//! [`GitServer`] speaks Git's smart HTTP protocol by running Git's own `git http-backend` for each request, so what a
//! client meets is Git. It can ask for a password, serve TLS under an authority of its own, and misbehave on demand:
//! answer with an error, hang, drop connections, be down.
//!
//! [`Repo`] makes commits with the git program. Identity and times are fixed: the same commits have the same hashes
//! on every machine and in every run.

mod cgi;
mod repo;
mod server;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

pub use repo::Repo;
pub use server::{Credentials, GitServer, Mode, Options};

use crate::process::find_program;

/// Name of the branch that repositories start with.
pub const DEFAULT_BRANCH: &str = "main";

/// Runs git in `folder`, cut off from the configuration of machine and user, and returns its standard output.
///
/// # Errors
/// git is missing or fails; the message has its arguments and what it said.
pub async fn git(folder: &Path, args: &[&str]) -> Result<String> {
    git_with(folder, args, &[]).await
}

async fn git_with(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<String> {
    let mut command = tokio::process::Command::from(isolated(&program()?, folder));
    command.args(args).current_dir(folder).envs(env.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("start git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("git {} in {} failed ({}): {}", args.join(" "), folder.display(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn program() -> Result<PathBuf> {
    find_program("git").context("there is no `git` in PATH: install it")
}

/// git that sees no configuration but the repository's own, asks nobody for a password, and looks for nothing in
/// `home` or above.
fn isolated(program: &Path, home: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    command
}
