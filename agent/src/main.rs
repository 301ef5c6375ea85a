//! The agent's program: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use driftless_agent::cli::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One thread: what there is to do comes event by event, and to hand each from thread to thread costs as much as the work
/// itself, and memory. What takes long (a whole bundle, see `ledger`) runs on a thread of its own and delays no lease.
#[tokio::main(flavor = "current_thread")]
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
