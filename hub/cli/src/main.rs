//! The admin CLI's program: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use driftless_cli::args::Cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match driftless_cli::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
