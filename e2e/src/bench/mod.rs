//! `cargo bench-render`: rendering against kustomize, as a program and as a library in one process.
//!
//! Peers and Driftless take turns in one run, each in a process of its own, and what counts is the ratio of their CPU
//! time: on a shared machine wall time says little. Nothing is timed before all outputs were compared byte by byte.
//!
//! | name | what |
//! |---|---|
//! | b1 | many overlays of one base, five features each, cold |
//! | b2 | one overlay, twice as many objects each time |
//! | b3 | commits of one changed file to a fleet's repository, from the commit to signed heads |
//! | corpus | every kustomization folder of given repositories |

mod cold;
mod corpus;
#[cfg(feature = "bench")]
mod fleet;
#[cfg(feature = "bench")]
mod history;
#[cfg(feature = "bench")]
mod incremental;
mod job;
mod peers;
mod repo;
mod work;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::table::{self, Report};

/// What may be asked of `cargo bench-render`.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-render", about = "Rendering against kustomize, in one run on this machine")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// How often each contestant runs; the middle of the results counts
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Also write the figures to this file, as JSON
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Many overlays of 51 objects over one base, cold
    B1 {
        #[arg(long, default_value_t = 200)]
        overlays: usize,
    },
    /// One overlay of more and more objects: how the cost grows
    B2 {
        #[arg(long, value_delimiter = ',', default_value = "500,1000,2000,4000")]
        sizes: Vec<usize>,
    },
    /// Single-file commits to a fleet's repository: from the commit to signed heads
    #[cfg(feature = "bench")]
    B3(incremental::Options),
    /// Every kustomization folder of these repositories
    Corpus {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Say of each folder how the outputs compare
        #[arg(long)]
        list: bool,
    },
    /// One contestant's turn, in a process of its own; the job comes on standard input
    #[command(hide = true)]
    Turn,
}

/// Runs what was asked for; the exit code is 0 only if all outputs were equal.
pub fn run(args: &Args) -> ExitCode {
    match run_in(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-render: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_in(args: &Args) -> Result<bool> {
    let rounds = args.rounds.max(1);
    let report = match &args.what {
        What::Turn => {
            job::turn()?;
            return Ok(true);
        }
        What::B1 { overlays } => cold::b1(*overlays, rounds)?,
        What::B2 { sizes } => cold::b2(sizes, rounds)?,
        #[cfg(feature = "bench")]
        What::B3(options) => incremental::b3(options)?,
        What::Corpus { paths, list } => corpus::run(paths, rounds, *list)?,
    };
    print(&report)?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(report.equal)
}

fn print(report: &Report) -> Result<()> {
    std::io::stdout().write_all(report.markdown().as_bytes()).context("print the report")
}
