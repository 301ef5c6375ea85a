//! Throws changed inputs at everything that reads text, for as long as one likes, and prints figures.
//!
//! ```text
//! cargo run --release -p driftless-render --example fuzz -- [--seconds N] [--target NAME]... [--seed N] [--corpus DIR] [--save DIR]
//! ```
//!
//! This is a mutator over a corpus without coverage feedback: it starts from the files of `tests/cases` (and of
//! `--corpus`), and changes bytes, lines and pieces of several files. For coverage-guided runs the targets are plain
//! functions (`targets.rs`) that any libFuzzer harness can call. A crash is a panic or a broken promise of the target; it
//! is printed, saved below `--save`, and the exit code is 1. Memory is the peak of the whole process.

#[path = "targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }
}

/// Pieces that mean something to one of the readers.
const PIECES: &[&str] = &[
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!binary ",
    "!!int ",
    "? ",
    ": ",
    "- ",
    "|+\n",
    ">-\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "\"",
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\u{1f600}",
    "null",
    "~",
    "0x1F",
    "1e999",
    ".nan",
    "2020-01-01",
    "kind: List\nitems:\n",
    "apiVersion: v1\n",
    "metadata:\n  name: a\n",
    "$patch: delete\n",
    "$patch: replace\n",
    "resources:\n- ../base\n",
    "patches:\n- patch: |\n",
    "target: {kind: .*}\n",
    "replacements:\n",
    "configMapGenerator:\n- name: a\n  literals: [a=b]\n",
    "behavior: merge\n",
    "namePrefix: x\n",
    "namespace: y\n",
    "vars:\n",
    "fieldPaths: [spec.*.x]\n",
    "options: {create: true, delimiter: x, index: -1}\n",
    "apiVersion: builtin\nkind: LabelTransformer\n",
    "[name=x]",
    "\"op\": \"copy\"",
    "\"path\": \"/-\"",
    "/~0~1",
    "${a}",
    "${a:=b}",
    "${a//x/y}",
    "${#a}",
    "${a:1:2}",
    "$$",
    "$(NAME)",
    "${nested^^}",
    "config.kubernetes.io/local-config: x\n",
    "a[]/b",
    "9223372036854775807",
    "-1",
];

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (mut seconds, mut seed, mut names) = (60, 1, Vec::new());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")];
    let mut save: Option<PathBuf> = None;
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--seconds" => seconds = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--target" => names.push(value),
            "--corpus" => folders.push(value.into()),
            "--save" => save = Some(value.into()),
            other => return Err(format!("{other} is no option; see the head of this file").into()),
        }
    }
    let chosen: Vec<(&str, Target)> =
        TARGETS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)).copied().collect();
    if chosen.is_empty() {
        let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no target is called {names:?}; there are {}", known.join(", ")).into());
    }
    let mut corpus = Vec::new();
    for folder in &folders {
        read(folder, &mut corpus)?;
    }
    println!("{} inputs to start from; {} seconds for each of {} targets", corpus.len(), seconds, chosen.len());
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "{:<16} {:>12} {:>10} {:>8} {:>14} {:>14}",
        "target", "executions", "per second", "crashes", "slowest", "peak RSS"
    );
    let mut crashed = false;
    for (name, target) in chosen {
        crashed |= run(name, target, &corpus, Duration::from_secs(seconds), seed, save.as_deref())? > 0;
    }
    Ok(if crashed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(folder: &Path, into: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_symlink() || path.file_name().is_some_and(|n| n == ".git") {
            continue;
        }
        if path.is_dir() {
            read(&path, into)?;
        } else {
            let bytes = std::fs::read(&path)?;
            if bytes.len() < 20_000 {
                into.push(bytes);
            }
        }
    }
    Ok(())
}

fn run(
    name: &str,
    target: Target,
    corpus: &[Vec<u8>],
    time: Duration,
    seed: u64,
    save: Option<&Path>,
) -> std::io::Result<usize> {
    let mut rng = Rng(seed);
    let start = Instant::now();
    let (mut executions, mut crashes) = (0u64, 0);
    let (mut slowest, mut slowest_input) = (Duration::ZERO, Vec::new());
    while start.elapsed() < time {
        let data = mutated(&mut rng, corpus);
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&data)));
        let took = began.elapsed();
        executions += 1;
        if took > slowest {
            (slowest, slowest_input) = (took, data.clone());
        }
        if let Err(panic) = outcome {
            crashes += 1;
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            println!("{name}: crash {crashes}: {}", why.chars().take(400).collect::<String>());
            keep(save, &format!("{name}-crash-{crashes}"), &data)?;
            if crashes >= 20 {
                break;
            }
        }
    }
    keep(save, &format!("{name}-slowest"), &slowest_input)?;
    let rate = executions as f64 / start.elapsed().as_secs_f64();
    println!(
        "{name:<16} {executions:>12} {rate:>10.0} {crashes:>8} {:>11.1} ms {:>10.1} MiB",
        slowest.as_secs_f64() * 1000.0,
        peak_memory()? as f64 / 1024.0
    );
    Ok(crashes)
}

fn keep(save: Option<&Path>, name: &str, data: &[u8]) -> std::io::Result<()> {
    let Some(save) = save else { return Ok(()) };
    std::fs::create_dir_all(save)?;
    std::fs::write(save.join(name), data)
}

/// The most memory the process ever had, in KiB, as Linux counts it.
fn peak_memory() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    Ok(line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0))
}

fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus.get(rng.below(corpus.len())).cloned().unwrap_or_default();
    let mut data = pick(rng);
    for _ in 0..1 + rng.below(6) {
        let at = rng.below(data.len() + 1);
        match rng.below(9) {
            0 if at < data.len() => data[at] = rng.next() as u8,
            1 if at < data.len() => {
                let end = (at + 1 + rng.below(24)).min(data.len());
                data.drain(at..end);
            }
            2 => {
                let other = pick(rng);
                let from = rng.below(other.len() + 1);
                let to = (from + rng.below(200)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
            3 if at < data.len() => {
                let end = (at + rng.below(80)).min(data.len());
                let copy = data[at..end].to_vec();
                for _ in 0..1 + rng.below(4) {
                    data.splice(at..at, copy.iter().copied());
                }
            }
            4 => {
                // One line moved or doubled.
                let mut lines: Vec<Vec<u8>> = data.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                if lines.len() > 1 {
                    let (a, b) = (rng.below(lines.len()), rng.below(lines.len()));
                    match rng.below(3) {
                        0 => lines.swap(a, b),
                        1 => lines.insert(a, lines[b].clone()),
                        _ => {
                            lines.remove(a);
                        }
                    }
                    data = lines.concat();
                }
            }
            5 => data.truncate(at),
            _ => {
                let piece = PIECES[rng.below(PIECES.len())];
                data.splice(at..at, piece.bytes());
            }
        }
    }
    data
}
