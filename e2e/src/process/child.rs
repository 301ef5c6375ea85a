//! A child with a name and a log, and its end.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::{bound, is_executable, spawn, tail};
use crate::wait;

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Short name for messages.
    pub name: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables. Of ours it inherits `PATH`, `HOME` and `TMPDIR` only: a proxy setting or a
    /// `KUBECONFIG` of the person at the keyboard must not change what a test sees.
    pub env: Vec<(OsString, OsString)>,
    /// File that receives both output streams; opened for appending, so that a restart keeps the history.
    pub log: PathBuf,
}

impl Launch {
    /// A program with its log file; arguments and environment follow.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }
}

/// How a process ended when it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, within the grace period (or before).
    Orderly(ExitStatus),
    /// It had to be killed.
    Killed,
}

/// A running child with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it. Standard input is empty.
    ///
    /// # Errors
    /// The program is missing or not executable, or the log cannot be written.
    pub fn start(launch: Launch) -> io::Result<Self> {
        let Launch { name, program, args, env, log } = launch;
        let naming = |e: io::Error| io::Error::new(e.kind(), format!("start {name} ({}): {e}", program.display()));
        if !is_executable(&program) {
            return Err(naming(io::Error::new(io::ErrorKind::NotFound, "no such executable file")));
        }
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(naming)?;
        let mut command = bound(&program);
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone().map_err(naming)?).stderr(out);
        command.env_clear().process_group(0);
        for kept in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.envs(env);
        let child = spawn(command).map_err(naming)?;
        Ok(Self { name, log, child, ended: None })
    }

    /// Short name, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status once it has ended.
    ///
    /// # Errors
    /// The operating system cannot say.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Sends a signal, for instance `Signal::STOP` and `Signal::CONT` to freeze and thaw it. No error if it is gone.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // Asked first: the id of a process that was waited for may belong to somebody else by now.
        if self.exited()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        match pid.map(|pid| rustix::process::kill_process(pid, signal)) {
            Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
            Some(Err(errno)) => Err(errno.into()),
            None => Err(io::Error::other(format!("{}: process id out of range", self.name))),
        }
    }

    /// SIGTERM, then SIGKILL after `grace`; returns when it is gone.
    ///
    /// # Errors
    /// The operating system refuses the signal or cannot say whether it ended.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<Ended> {
        self.signal(Signal::TERM)?;
        let name = format!("{} to end", self.name);
        let waited = wait::until(grace, name, || std::future::ready(self.exited().ok().flatten())).await;
        match waited {
            Ok(status) => Ok(Ended::Orderly(status)),
            Err(_) => self.kill().map(|()| Ended::Killed),
        }
    }

    /// SIGKILL; returns when it is gone (at once, whatever it was doing).
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.exited()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// The last `lines` lines of its output, or why they cannot be read.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Its exit and the end of its log in one text, if it has ended.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.exited().ok().flatten()?;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown cause".into(),
        };
        Some(format!("{} ended ({how}); last lines of {}:\n{}", self.name, self.log.display(), self.tail(20)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(process = %self.name, %error, "could not kill a child process");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::find_program;

    fn shell(script: &str, folder: &Path) -> Process {
        let sh = find_program("sh").unwrap();
        Process::start(Launch::new("sh", sh, folder.join("log")).args(["-c", script])).unwrap()
    }

    #[tokio::test]
    async fn an_orderly_process_is_not_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", folder.path());
        wait::until(Duration::from_secs(20), "the shell", || std::future::ready(process.tail(1).contains("ready")))
            .await
            .unwrap();
        match process.stop(Duration::from_secs(20)).await.unwrap() {
            Ended::Orderly(status) => assert_eq!(status.code(), Some(7)),
            Ended::Killed => panic!("it had a grace period"),
        }
        assert!(process.obituary().unwrap().contains("exit code 7"));
    }

    #[tokio::test]
    async fn a_deaf_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", folder.path());
        wait::until(Duration::from_secs(20), "the shell", || std::future::ready(process.tail(1).contains("ready")))
            .await
            .unwrap();
        assert_eq!(process.stop(Duration::from_millis(100)).await.unwrap(), Ended::Killed);
        assert!(process.obituary().unwrap().contains("signal 9"));
    }

    #[test]
    fn a_child_survives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut process = std::thread::spawn(move || shell("exec sleep 60", &path)).join().unwrap();
        // Had the kernel tied the child to that thread, it would be dying now; a second thread gives it time to.
        std::thread::spawn(|| ()).join().unwrap();
        assert_eq!(process.exited().unwrap(), None);
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "dropping kills and reaps");
    }

    /// Set for the process that the next test starts and kills.
    const VICTIM: &str = "DRIFTLESS_TEST_VICTIM";

    /// By itself no test: the body of a process that has a child and is then killed.
    #[test]
    fn victim() {
        let Some(folder) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
        let process = shell("exec sleep 600", &folder);
        std::fs::write(folder.join("pid.new"), process.id().to_string()).unwrap();
        std::fs::rename(folder.join("pid.new"), folder.join("pid")).unwrap();
        std::thread::park();
    }

    #[tokio::test]
    async fn children_die_with_a_killed_parent() {
        if find_program("setpriv").is_none() {
            return; // not Linux: see the module's third net
        }
        let folder = tempfile::tempdir().unwrap();
        let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::child::tests::victim"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let read = || std::future::ready(std::fs::read_to_string(folder.path().join("pid")));
        let pid = wait::until(Duration::from_secs(60), "the child's id", read).await.unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
        let state = || {
            // Reaped by nobody here, it may stay as a zombie, which holds no port and no memory.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            std::future::ready(stat.map_or(true, |stat| stat.contains(") Z ")))
        };
        wait::until(Duration::from_secs(60), "the child to die with its parent", state).await.unwrap();
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Process::start(Launch::new("etcd", "/nowhere/etcd", folder.path().join("log"))).unwrap_err();
        assert!(error.to_string().contains("start etcd (/nowhere/etcd)"), "{error}");
    }
}
