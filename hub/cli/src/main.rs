//! The admin CLI's program: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use driftless_cli::args::Cli;

fn main() -> ExitCode {
    match driftless_cli::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
