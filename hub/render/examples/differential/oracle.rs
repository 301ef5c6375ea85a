//! The real kustomize: a process for each build, or one process that holds the library and is asked again and again.

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long one build may take before the oracle is given up for this input.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a build of the real program came to; an error as its text.
pub(crate) type Answer = Result<Vec<u8>, String>;

pub(crate) enum Oracle {
    /// `kustomize`, once for each build.
    Program(PathBuf),
    /// A program around kustomize's library, kept running.
    Library { program: PathBuf, running: Option<Running> },
}

pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    answers: Receiver<std::io::Result<Answer>>,
}

impl Oracle {
    pub(crate) fn library(program: PathBuf) -> Self {
        Self::Library { program, running: None }
    }

    /// Builds a folder of the host in Flux's order, with load restrictions off. `None`: it took too long.
    pub(crate) fn build(&mut self, dir: &Path) -> std::io::Result<Option<Answer>> {
        match self {
            Self::Program(program) => run(program, dir).map(Some),
            Self::Library { program, running } => {
                if running.is_none() {
                    *running = Some(Running::start(program)?);
                }
                let Some(process) = running else { return Ok(None) };
                match process.ask(dir)? {
                    Some(answer) => Ok(Some(answer)),
                    None => {
                        process.child.kill()?;
                        process.child.wait()?;
                        *running = None;
                        Ok(None)
                    }
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing may reach the network: remote bases fail at once.
fn offline(command: &mut Command) -> &mut Command {
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env(variable, "http://127.0.0.1:9");
    }
    command.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_TERMINAL_PROMPT", "0")
}

fn run(program: &Path, dir: &Path) -> std::io::Result<Answer> {
    let mut command = Command::new(program);
    command.args(["build", "--reorder=none", "--load-restrictor=LoadRestrictionsNone"]).arg(dir);
    let output = offline(&mut command).stdin(Stdio::null()).output()?;
    Ok(match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    })
}

impl Running {
    fn start(program: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        let mut child =
            offline(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("no pipes to the library process"));
        };
        let (send, answers) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let answer = read_answer(&mut output);
                let end = answer.is_err();
                if send.send(answer).is_err() || end {
                    return;
                }
            }
        });
        Ok(Self { child, input, answers })
    }

    fn ask(&mut self, dir: &Path) -> std::io::Result<Option<Answer>> {
        writeln!(self.input, "{}", dir.display())?;
        self.input.flush()?;
        match self.answers.recv_timeout(PATIENCE) {
            Ok(Ok(answer)) => Ok(Some(answer)),
            // It ended, as after a stack that outgrew its limit: for this input it has no answer but failure.
            Ok(Err(_)) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
        }
    }
}

/// `ok LENGTH` or `err LENGTH`, a line's end, and so many bytes.
fn read_answer(from: &mut impl std::io::BufRead) -> std::io::Result<Answer> {
    let mut head = String::new();
    if from.read_line(&mut head)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let (verdict, len) = head.trim_end().split_once(' ').ok_or_else(|| std::io::Error::other("no length"))?;
    let len: usize = len.parse().map_err(std::io::Error::other)?;
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(match verdict {
        "ok" => Ok(bytes),
        _ => Err(String::from_utf8_lossy(&bytes).into_owned()),
    })
}
