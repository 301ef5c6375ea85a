//! `cargo verify`: everything that must hold before a change lands, in one command.
//!
//! It prepares what the tests need (programs, PostgreSQL, cargo-deny), then runs the checks one after the other, each
//! to its end, and closes with a summary: what passed, how long it took, and the command that shows the first failure
//! again. Nothing is installed into the system unless asked for with `--install`.

mod prepare;
mod steps;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;

use prepare::Prepared;
use steps::{STEPS, Step};

/// What may be asked of `cargo verify`.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "cargo verify",
    about = "Formatting, lints, all tests, documentation, dependencies: what must hold before a change lands",
    after_help = "The first run builds a Kubernetes control plane, kustomize and helm from published Go modules (some \
                  ten minutes on two cores) and keeps them in DRIFTLESS_CACHE, else XDG_CACHE_HOME/driftless, else \
                  ~/.cache/driftless. Programs that are there already are found through KUBEBUILDER_ASSETS. \
                  DRIFTLESS_KUBERNETES=1.35 builds and tests with that version instead of 1.36."
)]
pub struct Options {
    /// Install missing system packages with apt-get (as root); some start a service where systemd runs
    #[arg(long)]
    pub install: bool,
    /// Run only these steps, by name; may be given several times
    #[arg(long, value_name = "STEP")]
    pub only: Vec<String>,
    /// Print the names of the steps and what they run
    #[arg(long)]
    pub list: bool,
}

/// How one step went.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    took: Duration,
    /// The commands that failed, as one would type them; empty when it passed.
    failed: Vec<String>,
}

/// Runs what was asked for; the exit code is 0 only if everything passed.
pub fn run(options: &Options) -> ExitCode {
    match run_in(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ncargo verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_in(options: &Options) -> anyhow::Result<bool> {
    if options.list {
        for step in STEPS {
            for command in step.commands {
                println!("{:<10} {}", step.name, typed(command));
            }
        }
        return Ok(true);
    }
    let chosen = steps::choose(&options.only)?;
    let root = workspace_root()?;
    let start = Instant::now();
    heading("prepare", "programs and packages that the checks need");
    let prepared = prepare::prepare(&root, &chosen, options.install)?;
    let mut outcomes = vec![Outcome { name: "prepare", took: start.elapsed(), failed: Vec::new() }];
    for step in chosen {
        outcomes.push(carry_out(step, &root, &prepared));
    }
    print!("{}", summary(&outcomes, start.elapsed(), &root));
    Ok(outcomes.iter().all(|outcome| outcome.failed.is_empty()))
}

/// Runs all commands of a step, also after one failed: one look shows everything that is wrong.
fn carry_out(step: &'static Step, root: &Path, prepared: &Prepared) -> Outcome {
    let start = Instant::now();
    let mut failed = Vec::new();
    for arguments in step.commands {
        heading(step.name, &typed(arguments));
        let mut command = prepared.command(arguments);
        command.current_dir(root).envs(step.env.iter().copied());
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                println!("-- {} failed: {status}", typed(arguments));
                failed.push(with_env(step, arguments));
            }
            Err(error) => {
                println!("-- {} cannot be started: {error}", typed(arguments));
                failed.push(with_env(step, arguments));
            }
        }
    }
    Outcome { name: step.name, took: start.elapsed(), failed }
}

/// The last thing that is printed: one line a step, and how to see the first failure again.
fn summary(outcomes: &[Outcome], took: Duration, root: &Path) -> String {
    let mut text = String::from("\n== summary\n");
    for outcome in outcomes {
        let verdict = if outcome.failed.is_empty() { "ok" } else { "FAILED" };
        text += &format!("{verdict:<7} {:<10} {:>6}\n", outcome.name, clock(outcome.took));
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.failed.is_empty()).collect();
    let end = match failed.as_slice() {
        [] => format!("cargo verify: all {} steps passed in {}\n", outcomes.len(), clock(took)),
        [first, ..] => format!(
            "cargo verify: {} of {} steps failed, in {}\nTo see the first failure again:\n  cd {} && cargo verify --only \
             {}\nor, without the preparation:\n  {}\n",
            failed.len(),
            outcomes.len(),
            clock(took),
            root.display(),
            first.name,
            first.failed.join("\n  ")
        ),
    };
    text + &end
}

fn heading(name: &str, what: &str) {
    println!("\n== {name}: {what}");
}

/// Arguments as one would type them.
fn typed(arguments: &[&str]) -> String {
    arguments.join(" ")
}

fn with_env(step: &Step, arguments: &[&str]) -> String {
    let env = step.env.iter().map(|(name, value)| format!("{name}='{value}' "));
    env.collect::<String>() + &typed(arguments)
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// The workspace that this runs in: the folder above this crate, as cargo tells a program that it runs.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = here.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let root = root.map_or_else(std::env::current_dir, Ok)?;
    anyhow::ensure!(
        root.join("Cargo.lock").is_file() && root.join("e2e").is_dir(),
        "{} is not the workspace: run it there, as `cargo verify`",
        root.display()
    );
    Ok(root)
}

/// cargo, as the one that runs us, without the variables it set for us alone: inherited by a build they would count
/// as a change of its environment.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"];
        if ours.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &'static str, failed: &[&str]) -> Outcome {
        let failed = failed.iter().map(ToString::to_string).collect();
        Outcome { name, took: Duration::from_secs(65), failed }
    }

    #[test]
    fn a_clean_summary_says_so() {
        let text = summary(&[outcome("format", &[])], Duration::from_secs(700), Path::new("/w"));
        assert_eq!(text, "\n== summary\nok      format       1:05\ncargo verify: all 1 steps passed in 11:40\n");
    }

    #[test]
    fn a_failure_can_be_repeated() {
        let outcomes = [outcome("format", &[]), outcome("test", &["cargo test"]), outcome("docs", &["cargo doc"])];
        let text = summary(&outcomes, Duration::from_secs(5), Path::new("/w"));
        for part in [
            "FAILED  test         1:05\n",
            "2 of 3 steps failed, in 0:05",
            "\n  cd /w && cargo verify --only test\n",
            "\n  cargo test\n",
        ] {
            assert!(text.contains(part), "{part:?} not in:\n{text}");
        }
        assert!(!text.contains("cargo doc"), "only the first failure is told:\n{text}");
    }
}
