//! One contestant's turn: a process of its own builds a list of folders and says what that cost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use driftless_protocol::id::Digest;
use driftless_render::kustomize::{Memo, Options, build};
use driftless_yaml::Node;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// Parsed files kept within a turn.
const MEMO_BYTES: usize = 64 << 20;

/// Who builds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Contestant {
    /// The kustomize program, started for each folder, so many at a time.
    Program { path: PathBuf, workers: usize },
    /// kustomize as a library in one Go process.
    Library { path: PathBuf },
    /// Driftless in one process, one thread.
    Ours { form: Form },
}

/// What Driftless makes of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    /// The text that kustomize prints.
    Yaml,
    /// Canonical JSON of each object and its digest: what a hub ships.
    Objects,
}

/// What to build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) contestant: Contestant,
    pub(super) root: PathBuf,
    pub(super) dirs: Vec<String>,
    /// Where results go, `<number>.yaml` or `<number>.err`; nowhere when they are not wanted.
    pub(super) out: Option<PathBuf>,
    /// How often to build everything, each time from nothing; for figures too small to be measured once.
    pub(super) repeat: usize,
}

/// What a turn cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cost {
    /// CPU time of one repetition, user and system, in seconds.
    pub(super) cpu: f64,
    pub(super) wall: f64,
    /// The most memory that any one process had, in bytes.
    pub(super) peak: u64,
    /// Of ours, the CPU time of one repetition that went into reading files, building, and writing results.
    pub(super) phases: [f64; 3],
}

impl Job {
    /// Runs the job in a process of its own.
    pub(super) fn run(&self) -> Result<Cost> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(&program)
            .arg("turn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut input = child.stdin.take().context("the input of a turn")?;
        input.write_all(&serde_json::to_vec(self)?).context("hand over the job")?;
        drop(input);
        let output = child.wait_with_output().context("wait for a turn")?;
        ensure!(output.status.success(), "a turn of {:?} failed: {}", self.contestant, output.status);
        serde_json::from_slice(&output.stdout).context("read what a turn cost")
    }
}

/// The other side of [`Job::run`].
pub(super) fn turn() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let job: Job = serde_json::from_str(&text).context("read the job")?;
    if let Some(out) = &job.out {
        fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    }
    let who = match job.contestant {
        Contestant::Ours { .. } => UsageWho::RUSAGE_SELF,
        _ => UsageWho::RUSAGE_CHILDREN,
    };
    let start = Instant::now();
    let mut phases = [0.0; 3];
    for _ in 0..job.repeat.max(1) {
        match &job.contestant {
            Contestant::Program { path, workers } => program(&job, path, *workers)?,
            Contestant::Library { path } => library(&job, path)?,
            Contestant::Ours { form } => ours(&job, *form, &mut phases)?,
        }
    }
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(who).context("ask what it cost")?;
    let repeat = job.repeat.max(1) as f64;
    let peak = u64::try_from(usage.max_rss()).unwrap_or(0) * 1024;
    let cost = Cost { cpu: seconds(&usage) / repeat, wall: wall / repeat, peak, phases: phases.map(|p| p / repeat) };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn seconds(usage: &Usage) -> f64 {
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

/// CPU seconds of this thread so far.
fn own_cpu() -> Result<f64> {
    Ok(seconds(&getrusage(UsageWho::RUSAGE_THREAD).context("ask for CPU time")?))
}

/// Nothing of the machine's network or programs: what kustomize would fetch or run fails at once.
fn shut_in(command: &mut Command) {
    command.env_clear().stderr(Stdio::piped());
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env(proxy, "http://127.0.0.1:9");
    }
    // A place that is no folder: kustomize looks for its plugins below it.
    command.env("HOME", "/nonexistent").env("PATH", "/nonexistent");
}

fn program(job: &Job, path: &Path, workers: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < job.dirs.len()) {
            let mut command = Command::new(path);
            shut_in(&mut command);
            command.args(["build", "--reorder=none", "--load-restrictor=LoadRestrictionsNone"]);
            command.arg(job.root.join(&job.dirs[number])).stdin(Stdio::null());
            if job.out.is_none() {
                command.stdout(Stdio::null());
            }
            let output = command.output().with_context(|| format!("start {}", path.display()))?;
            let result = if output.status.success() { Ok(output.stdout) } else { Err(output.stderr) };
            keep(job, number, result)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(worker)).collect();
        running.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}

fn library(job: &Job, path: &Path) -> Result<()> {
    let mut command = Command::new(path);
    shut_in(&mut command);
    command.arg(&job.root).stdin(Stdio::piped()).stdout(Stdio::null());
    match &job.out {
        Some(out) => command.arg(out),
        None => command.arg("-"),
    };
    let mut child = command.spawn().with_context(|| format!("start {}", path.display()))?;
    let mut input = child.stdin.take().context("the library's input")?;
    for dir in &job.dirs {
        writeln!(input, "{dir}").context("name a folder to the library")?;
    }
    drop(input);
    let output = child.wait_with_output().context("wait for the library")?;
    ensure!(output.status.success(), "the library ended with {}", output.status);
    Ok(())
}

fn ours(job: &Job, form: Form, phases: &mut [f64; 3]) -> Result<()> {
    // From nothing: files read and parsed once for all folders of this turn, as a hub does for its clusters.
    let mut before = own_cpu()?;
    let mut lap = |phase: usize| -> Result<()> {
        let now = own_cpu()?;
        phases[phase] += now - before;
        before = now;
        Ok(())
    };
    let tree = super::work::read(&job.root)?;
    lap(0)?;
    let options = Options { memo: Memo::new(MEMO_BYTES), ..Options::default() };
    for (number, dir) in job.dirs.iter().enumerate() {
        let built = build(&tree, dir, &options).map_err(|e| e.to_string());
        lap(1)?;
        let result = built.and_then(|built| {
            let nodes = built.resources.into_iter().map(|r| r.node);
            match form {
                Form::Yaml => driftless_yaml::to_stream(nodes).map(String::into_bytes).map_err(|e| e.to_string()),
                Form::Objects => objects(nodes),
            }
        });
        keep(job, number, result.map_err(|why| format!("{why}\n").into_bytes()))?;
        lap(2)?;
    }
    Ok(())
}

/// The bytes of all objects; their digests are made and dropped.
fn objects(nodes: impl Iterator<Item = Node>) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for node in nodes {
        let from = all.len();
        node.write_json(&mut all).map_err(|e| e.to_string())?;
        std::hint::black_box(Digest::of(&all[from..]));
        all.push(b'\n');
    }
    Ok(all)
}

fn keep(job: &Job, number: usize, result: Result<Vec<u8>, Vec<u8>>) -> Result<()> {
    let Some(out) = &job.out else {
        std::hint::black_box(&result);
        return Ok(());
    };
    let (ending, bytes) = match result {
        Ok(bytes) => ("yaml", bytes),
        Err(bytes) => ("err", bytes),
    };
    let file = out.join(format!("{number:05}.{ending}"));
    fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))
}
