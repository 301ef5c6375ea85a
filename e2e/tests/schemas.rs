//! The recorded schemas of Kubernetes are what the pinned API server says of itself.

use anyhow::{Context, Result, ensure};
use driftless_e2e::schemas;
use driftless_e2e::tools::Kubernetes;

#[tokio::test]
async fn the_recorded_schemas_are_those_of_the_pinned_server() -> Result<()> {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("e2e lies in the workspace")?;
    let name = schemas::file(Kubernetes::chosen()?);
    let recorded = std::fs::read_to_string(top.join(&name))?;
    let now = schemas::record().await?;
    let differs = recorded.lines().zip(now.lines()).find(|(a, b)| a != b);
    ensure!(
        recorded == now,
        "{name} is not what this server says; record it again: cargo run -p driftless-e2e --bin record-schemas\nfirst difference: {differs:?}",
    );
    Ok(())
}
