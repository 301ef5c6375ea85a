//! The faults; `cargo faults` builds and starts them.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    driftless_e2e::faults::cases::run(driftless_e2e::faults::cases::Args::parse()).await
}
