//! `cargo bench-agent`: the agent on a real API server, against kubectl and against what that server can take at most.
//!
//! Contestants take turns in one run on one cluster, and what counts is the ratio of their times. Before a figure counts,
//! the objects in the cluster are compared with what was declared. How many requests were made, of what and when, is read
//! from the API server's audit log, for all contestants alike.
//!
//! | name | what |
//! |---|---|
//! | b6 | apply: everything new, 1 % changed, nothing changed |
//! | b7 | a full comparison of what is declared with what is there |
//! | b8 | how soon an edit is undone, and what events cost that change nothing |
//! | b9 | memory, CPU and requests of an agent that has nothing to do |
//! | flux | the workload of flux-benchmark, from the push to the last object |

mod apply;
mod audit;
mod ceiling;
mod flux;
mod footprint;
mod heal;
mod lab;
mod objects;
mod sweep;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::table::Report;
use lab::Lab;

/// What may be asked of `cargo bench-agent`.
#[derive(Debug, Parser)]
#[command(
    name = "cargo bench-agent",
    about = "The agent against kubectl and the ceiling of its API server, in one run"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// How often each contestant has its turn; the middle of the results counts
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Connections of the flood that finds the ceiling
    #[arg(long, global = true, default_value_t = 16)]
    connections: usize,
    /// Also write the figures to this file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The benchmarks.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// Apply: everything new, 1 % changed, nothing changed
    B6 {
        /// Objects
        #[arg(long, value_delimiter = ',', default_value = "1000,4000")]
        sizes: Vec<usize>,
        /// Without kubectl, which takes minutes
        #[arg(long)]
        no_kubectl: bool,
    },
    /// A full comparison, with nothing and with ten objects changed by hand
    B7 {
        /// Objects
        #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
        sizes: Vec<usize>,
        /// Without kubectl, which takes minutes
        #[arg(long)]
        no_kubectl: bool,
    },
    /// How soon an edit is undone, and what an event costs that changes nothing
    B8 {
        /// Edits, each of another object
        #[arg(long, default_value_t = 1000)]
        edits: usize,
        /// Milliseconds between two edits
        #[arg(long, default_value_t = 50)]
        every: u64,
        /// Writes to status that are no drift
        #[arg(long, default_value_t = 4000)]
        events: usize,
    },
    /// Memory, CPU and requests of an agent that has nothing to do
    B9 {
        /// Objects
        #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
        sizes: Vec<usize>,
        /// Units of the cluster whose requests are counted
        #[arg(long, default_value_t = 1000)]
        units: usize,
        /// Seconds of doing nothing
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// The workload of flux-benchmark: units of four objects that are waited for
    Flux {
        /// Units
        #[arg(long, default_value_t = 1000)]
        units: usize,
        /// Without Flux, which takes minutes
        #[arg(long)]
        no_flux: bool,
    },
}

/// Runs what was asked for; the exit code is 0 only if all objects were as declared and nothing was written in vain.
pub async fn run(args: Args) -> ExitCode {
    match run_in(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_in(args: &Args) -> Result<bool> {
    let mut lab = Lab::start().await?;
    let measured = measure(&mut lab, &args.what, args.rounds, args.connections).await;
    let report = match measured {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{}", lab.world.logs(40).await);
            return Err(error);
        }
    };
    lab.stop().await?;
    std::io::stdout().write_all(report.markdown().as_bytes()).context("print the report")?;
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(report.equal)
}

async fn measure(lab: &mut Lab, what: &What, rounds: usize, connections: usize) -> Result<Report> {
    let rounds = rounds.max(1);
    let mut report = match what {
        What::B6 { sizes, no_kubectl } => {
            apply::run(lab, &apply::Plan { sizes, rounds, connections, kubectl: !no_kubectl }).await
        }
        What::B7 { sizes, no_kubectl } => sweep::run(lab, sizes, !no_kubectl).await,
        What::B8 { edits, every, events } => heal::run(lab, *edits, *every, *events).await,
        What::B9 { sizes, units, seconds } => footprint::run(lab, sizes, *units, *seconds).await,
        What::Flux { units, no_flux } => flux::run(lab, *units, rounds, connections, !no_flux).await,
    }?;
    let built = match (cfg!(debug_assertions), std::env::var_os(crate::launch::AGENT_PROGRAM)) {
        (true, _) => "Driftless is an unoptimised (dev) build",
        (false, None) => "Driftless is a release build",
        (false, Some(_)) => "Driftless is a release build, the agent one of the profile `dist`, as it ships",
    };
    report.notes.push(format!("{built}; everything shares this machine's cores."));
    Ok(report)
}

/// Every benchmark once, small, on one cluster: for the test suite, which has no opinion on how long anything takes.
///
/// # Errors
/// Something was not as declared.
pub async fn smoke() -> Result<Vec<(String, bool)>> {
    let mut lab = Lab::start().await?;
    let mut done = Vec::new();
    for what in [
        What::B9 { sizes: vec![20], units: 4, seconds: 1 },
        What::B6 { sizes: vec![50], no_kubectl: false },
        What::B7 { sizes: vec![50], no_kubectl: false },
        What::B8 { edits: 15, every: 20, events: 60 },
        What::Flux { units: 5, no_flux: false },
    ] {
        let report = match measure(&mut lab, &what, 1, 4).await {
            Ok(report) => report,
            Err(error) => return Err(error.context(format!("{what:?}\n{}", lab.world.logs(40).await))),
        };
        println!("{}", report.markdown());
        done.push((report.title, report.equal));
    }
    lab.stop().await?;
    Ok(done)
}
