//! `driftless`: installs, queries and steers the fleet.
//!
//! Data goes to stdout, words for people to stderr, and the exit code says what happened ([`error::Kind`]).

pub mod args;
pub mod commands;
pub mod error;
pub mod ui;

use std::process::ExitCode;

/// Runs one command.
pub fn run(cli: args::Cli) -> Result<ExitCode, error::CliError> {
    match &cli.command {
        args::Command::Build(build) => commands::build::run(build, cli.output),
        _ => Err(error::CliError::new(error::Kind::Failed, "not here yet")),
    }
}
