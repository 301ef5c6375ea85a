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

#[cfg(feature = "full")]
mod child;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};

#[cfg(feature = "full")]
pub use child::{Ended, Launch, Process};

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
