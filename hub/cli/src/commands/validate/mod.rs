//! `driftless validate`: rendered objects against schemas and against each other.

mod junit;
mod sarif;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use driftless_render::flux::Cache;
use driftless_render::tree::Tree;
use driftless_render::validate::crds::{self, Definition};
use driftless_render::validate::{Cluster, KUBERNETES, Schemas, ValidateReport, validate, versions};
use driftless_source::Snapshot;

use crate::args::{Output, Validate};
use crate::commands::check::verdict;
use crate::error::{CliError, Kind};
use crate::repo::{self, ClusterRoot, Repo, State};
use crate::ui;

/// `driftless validate`.
pub fn run(args: &Validate, output: Output) -> Result<ExitCode, CliError> {
    if let Some(version) = &args.kubernetes_version {
        known(version)?;
    }
    let repo = Repo::open_with(&args.dir, &args.clusters)?;
    let state = repo.state_at(args.rev.as_deref())?;
    let clusters = state.clusters(&args.clusters)?;
    let rendered = state.render(&clusters, &Cache::new(repo::CACHE_BYTES));
    let schemas = schemas_for(&clusters, args.kubernetes_version.as_deref())?;
    let definitions = definitions(&state, &args.definitions)?;
    let inputs: Vec<Cluster<'_>> = clusters
        .iter()
        .zip(&rendered)
        .zip(&schemas)
        .map(|((root, rendered), schemas)| Cluster {
            name: &root.name,
            rendered,
            facts: root.facts.as_ref(),
            namespaces: &args.namespaces,
            schemas,
        })
        .collect();
    let report = validate(&state.name(), &inputs, &definitions, &|id| state.tree_of(id));
    match output {
        Output::Junit => ui::write_stdout(&junit::text(&in_git(&report, &state), &inputs))?,
        Output::Sarif => ui::write_stdout(&sarif::text(&in_git(&report, &state))?)?,
        _ => ui::print(output, &report, || table::text(&report, args.all))?,
    }
    Ok(verdict(report.findings.iter().map(|f| f.severity), args.fail_on))
}

/// The report with places from the top of the Git work tree: what reads SARIF and JUnit knows no other.
fn in_git(report: &ValidateReport, state: &State) -> ValidateReport {
    let mut report = report.clone();
    for at in report.findings.iter_mut().flat_map(|f| &mut f.places).filter_map(|place| place.at.as_mut()) {
        *at = state.in_git(at);
    }
    for kind in &mut report.unchecked {
        kind.first = state.in_git(&kind.first);
    }
    report
}

/// The recording of a Kubernetes version, as people write it: `1.36`, `v1.36.3`.
fn known(version: &str) -> Result<&'static str, CliError> {
    let minor = versions::minor(version);
    let found = KUBERNETES.iter().find(|(name, _)| minor.is_some() && versions::minor(name) == minor);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let names: Vec<&str> = KUBERNETES.iter().map(|(name, _)| *name).collect();
        CliError::new(Kind::Usage, format!("no schemas are known for Kubernetes {version:?}"))
            .hint(format!("known are {}", names.join(", ")))
    })
}

/// The schemas for each cluster: those of the version asked for, else of its facts, else the newest.
fn schemas_for(clusters: &[ClusterRoot], wanted: Option<&str>) -> Result<Vec<Arc<Schemas>>, CliError> {
    let mut read: BTreeMap<&str, Arc<Schemas>> = BTreeMap::new();
    let mut out = Vec::with_capacity(clusters.len());
    for cluster in clusters {
        let told = cluster.facts.as_ref().map(|f| f.kubernetes_version.as_str()).filter(|v| !v.is_empty());
        let text = match wanted.or(told) {
            Some(version) => known(version).or_else(|error| {
                // Asked for by name it must be there; of a fact the newest comes nearest.
                if wanted.is_some() { Err(error) } else { newest(&cluster.name.to_string(), version) }
            })?,
            None => KUBERNETES.first().map_or("", |(_, text)| *text),
        };
        let schemas = match read.get(text) {
            Some(schemas) => schemas.clone(),
            None => {
                let schemas = Schemas::parse(text)
                    .map_err(|e| CliError::new(Kind::Failed, format!("the recorded schemas cannot be read: {e}")))?;
                let schemas = Arc::new(schemas);
                read.insert(text, schemas.clone());
                schemas
            }
        };
        out.push(schemas);
    }
    Ok(out)
}

fn newest(cluster: &str, version: &str) -> Result<&'static str, CliError> {
    let (name, text) =
        KUBERNETES.first().ok_or_else(|| CliError::new(Kind::Failed, "this program holds no schemas"))?;
    ui::note(&format!(
        "warning: cluster {cluster} runs Kubernetes {version}, of which no schemas are known; checked against {name}"
    ));
    Ok(text)
}

/// CustomResourceDefinitions in the repository's files, and in those that are named.
fn definitions(state: &State, more: &[std::path::PathBuf]) -> Result<Vec<Arc<Definition>>, CliError> {
    let failed = |e: &dyn std::fmt::Display| {
        CliError::new(Kind::Failed, format!("cannot search for CustomResourceDefinitions: {e}"))
    };
    let mut out = Vec::new();
    for path in more {
        out.extend(definitions_in(path)?);
    }
    out.extend(crds::find(&state.root.id, &*state.root.tree).map_err(|e| failed(&e))?);
    Ok(out)
}

fn definitions_in(path: &Path) -> Result<Vec<Arc<Definition>>, CliError> {
    let unreadable = |e: &dyn std::fmt::Display| {
        CliError::new(Kind::NotFound, format!("cannot read --crds {}: {e}", path.display()))
    };
    let mut out = Vec::new();
    if path.is_dir() {
        out = crds::find("--crds", &Snapshot::new(path) as &dyn Tree).map_err(|e| unreadable(&e))?;
    } else {
        let bytes = std::fs::read(path).map_err(|e| unreadable(&e))?;
        crds::read_file("--crds", &path.display().to_string(), &bytes, &mut out);
    }
    if out.is_empty() {
        return Err(CliError::new(Kind::Usage, format!("--crds {} holds no CustomResourceDefinition", path.display())));
    }
    Ok(out)
}
