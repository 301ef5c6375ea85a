//! `driftless check`: whether the hub answers; `driftless check repo`: how far Driftless gets with a repository.

pub mod explain;
pub(crate) mod table;

use std::process::ExitCode;

use driftless_protocol::api::FleetStatus;
use driftless_protocol::id::ClusterName;
use driftless_render::check::RepoReport;
use driftless_render::flux::Cache;
use driftless_render::report::Severity;

use crate::args::{CheckRepo, FailOn, Output};
use crate::client::Client;
use crate::error::CliError;
use crate::repo::{self, Repo};
use crate::{facts, ui};

/// `driftless check`.
pub async fn hub(client: &Client, output: Output) -> Result<ExitCode, CliError> {
    let fleet: FleetStatus = client.get("/status").await?;
    let connected = fleet.clusters.iter().filter(|c| c.connected).count();
    let answer = serde_json::json!({ "hub": "reachable", "clusters": fleet.clusters.len(), "connected": connected });
    ui::print(output, &answer, || {
        format!("the hub answers: {} clusters, {connected} of them connected\n", fleet.clusters.len())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `driftless check repo`.
pub fn run(args: &CheckRepo, output: Output) -> Result<ExitCode, CliError> {
    if let Some(code) = &args.explain {
        explain::print(code, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let repo = Repo::open_with(&args.dir, &args.clusters)?;
    let state = repo.state_at(args.rev.as_deref())?;
    let clusters = state.clusters(&args.clusters)?;
    let rendered = state.render(&clusters, &Cache::new(repo::CACHE_BYTES));
    let rendered: Vec<_> = clusters.iter().map(|c| c.name.clone()).zip(rendered).collect();
    let report = RepoReport::of(&state.name(), &*state.root.tree, &rendered);
    if let Some(file) = &args.facts_template {
        let names: Vec<&ClusterName> = clusters.iter().map(|c| &c.name).collect();
        for written in facts::write_templates(file, &names, &report.inputs)? {
            ui::note(&format!("wrote {}", written.display()));
        }
    }
    ui::print(output, &report, || table::text(&report, args.all))?;
    Ok(verdict(report.findings.iter().map(|f| f.severity), args.fail_on))
}

/// The exit code for findings of these severities.
pub fn verdict(severities: impl IntoIterator<Item = Severity>, fail_on: FailOn) -> ExitCode {
    let least = match fail_on {
        FailOn::Error => Severity::Error,
        FailOn::Warning => Severity::Warning,
        FailOn::Never => return ExitCode::SUCCESS,
    };
    if severities.into_iter().any(|s| s >= least) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
