//! Records the schemas of Kubernetes' own kinds from a real API server; see `driftless_e2e::schemas`.

use std::path::Path;

use anyhow::{Context, Result};
use driftless_e2e::schemas;
use driftless_e2e::tools::Kubernetes;

#[tokio::main]
async fn main() -> Result<()> {
    let name = schemas::file(Kubernetes::chosen()?);
    let text = schemas::record().await?;
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("e2e lies in the workspace")?;
    let file = top.join(&name);
    std::fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
    println!("{} bytes in {name}", text.len());
    Ok(())
}
