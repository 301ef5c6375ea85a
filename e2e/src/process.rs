//! Child processes that do not outlive us.
//!
//! Three nets, one under the other:
//! 1. [`Process::stop`]: SIGTERM, a grace period, SIGKILL, and always a wait for the exit, so that the port is free
//!    again when it returns.
//! 2. Drop: SIGKILL and a wait. Covers panics and early returns.
//! 3. The kernel: every child is started through `setpriv --pdeathsig KILL` (util-linux), so it is killed when we are,
//!    however that happens. That signal follows the *thread* that started the child, not the process; a thread of a
//!    runtime ends with its runtime. So one thread, which lives as long as the process, starts all children.
//!
//! Where `setpriv` does not exist (other systems than Linux), the third net is missing: a program that is killed
//! leaves its children behind, and one that ends on Ctrl-C must handle it and drop what it started. Children are in a
//! process group of their own, so Ctrl-C at a terminal reaches only us and the order of stopping is ours.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::wait;

/// How much of the end of a log is read to find its last lines.
const TAIL_BYTES: u64 = 64 * 1024;

/// One request to the thread that starts children: the command, and where to answer.
type Request = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts `command` from the thread that lives as long as this process.
///
/// Use it for every child made with [`bound`]: see the module's third net.
///
/// # Errors
/// What [`Command::spawn`] says.
pub fn spawn(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<mpsc::SyncSender<Request>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (requests, inbox) = mpsc::sync_channel::<Request>(16);
        // Never joined on purpose: the children's lives hang on it, so it must end with the process and not before.
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody waits for the answer only if the asking thread panicked; the child is then killed by Drop.
                if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                    drop(orphan.kill().and_then(|()| orphan.wait()));
                }
            }
        });
        requests
    });
    let (answer, outcome) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts child processes has ended");
    keeper.send((command, answer)).map_err(|_| gone())?;
    outcome.recv().map_err(|_| gone())?
}

/// A command for `program` that the kernel kills when we end, where the system can do that.
///
/// The program must be started with [`spawn`], and named by an absolute path: behind `setpriv` a missing program is
/// an exit code, not an error.
pub fn bound(program: &Path) -> Command {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    let setpriv = SETPRIV.get_or_init(|| {
        let path = find_program("setpriv")?;
        // util-linux knows the option since 2.33; ask instead of guessing.
        let works = Command::new(&path)
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        works.is_ok_and(|status| status.success()).then_some(path)
    });
    match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The absolute path of a program, looked up in `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

/// Whether `path` is a file that somebody may execute.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

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

/// The last `lines` lines of a file, or a note why they cannot be read.
pub fn tail(file: &Path, lines: usize) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "  (the log is empty)".into(),
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("  (cannot read {}: {error})", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Process::start(Launch::new("etcd", "/nowhere/etcd", folder.path().join("log"))).unwrap_err();
        assert!(error.to_string().contains("start etcd (/nowhere/etcd)"), "{error}");
    }
}
