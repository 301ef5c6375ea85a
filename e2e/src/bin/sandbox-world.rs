//! The sandbox itself; `cargo sandbox` builds and starts it.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    driftless_e2e::sandbox::run(driftless_e2e::sandbox::Args::parse()).await
}
