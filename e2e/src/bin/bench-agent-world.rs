//! The benchmarks of the agent; `cargo bench-agent` builds and starts them.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    driftless_e2e::agent_bench::run(driftless_e2e::agent_bench::Args::parse()).await
}
