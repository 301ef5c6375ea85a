//! The hub's program: see [`driftless_hub`].

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
