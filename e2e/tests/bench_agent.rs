//! `cargo bench-agent` works, at a size that takes no time: what it measures is nobody's business here.

use anyhow::{Result, ensure};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_benchmark_finds_its_objects_as_declared() -> Result<()> {
    for (title, equal) in driftless_e2e::agent_bench::smoke().await? {
        ensure!(equal, "{title}: something was written in vain, or not found");
    }
    Ok(())
}
