//! `cargo sandbox --repo`: any Flux mono-repo, on real API servers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use driftless_protocol::api::{UnitDetail, UnitRow};
use driftless_protocol::report::{ObjectState, Ready, reason};
use driftless_render::flux::find_roots;
use driftless_source::folder::worktree_tree;

use super::{Args, Teller, units};
use crate::world::{ClusterOptions, Options, World};

/// How long the units may take to settle: the largest corpora apply a few thousand objects.
const SETTLE: Duration = Duration::from_secs(600);

pub(super) async fn run(args: &Args, repo: &str) -> Result<ExitCode> {
    let teller = Teller { start: Instant::now() };
    let checkout = tempfile::tempdir().context("create a folder")?;
    let folder = if Path::new(repo).is_dir() {
        Path::new(repo).to_path_buf()
    } else {
        let target = checkout.path().join("repo");
        teller.say(format!("cloning {repo}"));
        let to = target.display().to_string();
        crate::git::git(checkout.path(), &["clone", "--quiet", "--depth", "1", "--", repo, &to])
            .await
            .with_context(|| format!("clone {repo}"))?;
        target
    };
    let roots = roots(args, &folder)?;
    teller.say(format!("{} cluster roots: {}", roots.len(), roots.values().cloned().collect::<Vec<_>>().join(", ")));

    let mut options = Options::new(
        roots
            .keys()
            .map(|name| {
                let mut cluster = ClusterOptions::new(name);
                // Tenants' accounts come from the repository itself, under names not known beforehand.
                cluster.impersonate = accounts(&folder).into_iter().map(|name| (String::new(), name)).collect();
                cluster
            })
            .collect(),
    );
    options.content = folder;
    options.agent_log.clone_from(&args.log_level);
    options.hub.log_level.clone_from(&args.log_level);
    options.hub.roots = roots;
    let world = World::start(options, &mut |text| teller.say(text)).await?;
    let settled = settle(&world).await;
    report(&world).await?;
    if let Err(error) = &settled {
        teller.say(format!("not settled: {error:#}"));
    }
    if !args.once {
        println!("{}", super::hints_any(&world)?);
        std::future::pending::<()>().await;
    }
    world.stop().await?;
    Ok(if settled.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// When nothing has changed for so long, the units have settled: longer than any retry of a start.
const QUIET: Duration = Duration::from_secs(15);

/// Cluster names by root folder: given, or found in the repository.
fn roots(args: &Args, folder: &Path) -> Result<BTreeMap<String, String>> {
    let paths: Vec<String> = if args.roots.is_empty() {
        let found = find_roots("flux-system/flux-system", &worktree_tree(folder)).context("look for cluster roots")?;
        found.into_iter().map(|c| c.path).collect()
    } else {
        args.roots.iter().map(|p| p.trim_matches('/').trim_start_matches("./").to_owned()).collect()
    };
    if paths.is_empty() {
        bail!("no cluster root was found in {}; name one with --path", folder.display());
    }
    let mut roots = BTreeMap::new();
    for path in paths.into_iter().take(args.clusters) {
        let mut name = label(&path);
        while roots.contains_key(&name) {
            name.push('x');
        }
        roots.insert(name, path);
    }
    Ok(roots)
}

/// A cluster name from a folder: `clusters/Production/flux-system` gives `production`.
fn label(path: &str) -> String {
    let last = path.split('/').rev().find(|s| *s != "flux-system" && *s != "flux" && !s.is_empty());
    let name: String = last
        .unwrap_or("cluster")
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "cluster".to_owned() } else { name.chars().take(40).collect() }
}

/// Account names that units of the repository write as: the platform would list them in the chart's values.
fn accounts(folder: &Path) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name() != ".git" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let names = text.lines().filter_map(|l| l.trim().strip_prefix("serviceAccountName:"));
                found.extend(names.map(|n| n.trim().trim_matches(['"', '\'']).to_owned()).filter(|n| !n.is_empty()));
            }
        }
    }
    found.into_iter().filter(|n| n.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))).collect()
}

/// Waits until nothing has moved for a while.
async fn settle(world: &World) -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    let (mut last, mut since) = (Vec::new(), Instant::now());
    loop {
        if let Ok(units) = units(world).await {
            let state = |u: &UnitRow| (u.cluster.clone(), u.unit.clone(), u.ready, u.reason.clone(), u.message.clone());
            let now: Vec<_> = units.iter().map(state).collect();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if !last.is_empty() && since.elapsed() > QUIET {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            bail!("units still change after {} s", SETTLE.as_secs());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What came of it: per unit, then every object that is not in order, with file, line and reason.
async fn report(world: &World) -> Result<()> {
    let rows = units(world).await?;
    let mut totals = Totals::default();
    for cluster in &world.clusters {
        let mine: Vec<&UnitRow> = rows.iter().filter(|u| u.cluster.as_str() == cluster.name()).collect();
        println!("\ncluster {}: {} units", cluster.name(), mine.len());
        for row in mine {
            let args = ["describe", &format!("{}/{}", row.unit.namespace, row.unit.name), "--cluster", cluster.name()];
            let detail: UnitDetail = world.ask(&args).await?;
            unit(row, &detail, &mut totals);
        }
    }
    println!(
        "\ntotal: {} units: {} ready, {} held whole, {} suspended, {} otherwise not ready\n       {} objects applied, {} withheld, {} of kinds not served, {} refused by the API server",
        totals.units,
        totals.ready,
        totals.held,
        totals.suspended,
        totals.units - totals.ready - totals.held - totals.suspended,
        totals.applied,
        totals.withheld,
        totals.not_served,
        totals.failed
    );
    Ok(())
}

#[derive(Default)]
struct Totals {
    units: usize,
    ready: usize,
    held: usize,
    suspended: usize,
    applied: u32,
    withheld: usize,
    not_served: u32,
    failed: u32,
}

fn unit(row: &UnitRow, detail: &UnitDetail, totals: &mut Totals) {
    totals.units += 1;
    let counts = detail.report.as_ref().map(|r| r.counts).unwrap_or_default();
    totals.applied += counts.in_sync;
    // A source object that nothing in the cluster needs is no object its owner would miss.
    let withheld: Vec<_> = detail.withheld.iter().filter(|w| w.reason.code != "SourceNotSent").collect();
    totals.withheld += withheld.len();
    totals.not_served += counts.not_served;
    totals.failed += counts.failed;
    if row.suspended {
        totals.suspended += 1;
    } else if row.ready == Ready::True {
        totals.ready += 1;
    } else if row.reason == reason::HELD {
        totals.held += 1;
    }
    println!(
        "  {:<7} {:<44} {} of {} applied",
        format!("{:?}", row.ready),
        row.unit.to_string(),
        counts.in_sync,
        row.objects
    );
    if row.ready != Ready::True {
        println!("            {}", row.message);
    }
    for object in withheld {
        let reason = &object.reason;
        let line = reason.line.map_or(String::new(), |l| format!(":{l}"));
        let at = reason.file.as_ref().map_or(String::new(), |f| format!("{f}{line}: "));
        println!("            withheld: {at}{}: {}", object.key, reason.message);
    }
    for object in detail.report.iter().flat_map(|r| &r.objects) {
        if matches!(object.state, ObjectState::NotServed | ObjectState::Failed) {
            let declared = detail.objects.iter().find(|o| o.key == object.key).and_then(|o| o.at.as_ref());
            let at = declared.map_or(String::new(), |at| format!("{}:{}: ", at.file, at.line));
            println!("            {}: {at}{}: {}", object.reason, object.key, object.message);
        }
    }
}
