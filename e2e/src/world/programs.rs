//! The built programs, beside the one that runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Paths of the built programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `driftless-hub`.
    pub hub: PathBuf,
    /// `driftless-agent`.
    pub agent: PathBuf,
    /// `driftless`.
    pub cli: PathBuf,
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code; `None`: killed by a signal.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Words for people.
    pub stderr: String,
}

impl Programs {
    /// Finds them in the folder of the running program, or above it (tests run from `deps/`). The agent may be named.
    ///
    /// # Errors
    /// One is not built.
    pub fn find() -> Result<Self> {
        let me = std::env::current_exe().context("find the running program")?;
        let find = |name: &str| -> Result<PathBuf> {
            let found = me.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.is_file());
            match found {
                Some(path) => Ok(path),
                None => bail!("{name} is not built; run: cargo build --workspace --bins"),
            }
        };
        let agent = match std::env::var_os(crate::launch::AGENT_PROGRAM) {
            Some(named) => PathBuf::from(named),
            None => find("driftless-agent")?,
        };
        Ok(Self { hub: find("driftless-hub")?, agent, cli: find("driftless")? })
    }

    /// Runs `driftless` to its end.
    ///
    /// # Errors
    /// It cannot be started, or takes too long.
    pub async fn cli(&self, args: &[String], within: Duration) -> Result<Answer> {
        run(&self.cli, args, None, within).await
    }
}

/// Runs a program to its end, with this text as its input.
///
/// # Errors
/// It cannot be started, or takes too long.
pub(crate) async fn run(program: &Path, args: &[String], input: Option<&str>, within: Duration) -> Result<Answer> {
    use tokio::io::AsyncWriteExt;
    let name = program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut command = tokio::process::Command::new(program);
    command
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let mut stdin = child.stdin.take().context("its input")?;
    let work = async {
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.ok();
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(within, work)
        .await
        .with_context(|| format!("{name} {} did not end within {} s", args.join(" "), within.as_secs()))?
        .with_context(|| format!("run {name}"))?;
    Ok(Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
