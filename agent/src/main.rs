//! The agent's program: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use driftless_agent::cli::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A server that handles few requests at a time needs few threads; two keep a slow decode from delaying the lease.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(message) = args.start_logging() {
        eprintln!("driftless-agent: {message}");
        return ExitCode::from(2);
    }
    match driftless_agent::agent::run_until_signal(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = driftless_agent::cluster::api::chain(&error), "the agent ends");
            ExitCode::FAILURE
        }
    }
}
