//! The hub's program: see [`driftless_hub`].

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match driftless_hub::run(driftless_hub::cli::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driftless-hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
