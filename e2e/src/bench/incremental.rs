//! B3: single-file commits to a fleet's repository.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use driftless_protocol::marks;
use driftless_render::flux::{Cache, RenderedCluster};
use driftless_source::{Mirror, Reference, SourceConfig, SourceUrl};
use driftless_yaml::{Dialect, Limits, Node};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, Folder};
use super::history::{self, Change};
use super::peers::{Outcome, Peers, outcomes, time};
use super::repo::overlay_folder;
use super::table::{Report, mib, middle, percentile, seconds, times};

/// What may be asked of B3.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Clusters, each with an overlay of 51 objects
    #[arg(long, default_value_t = 200)]
    clusters: usize,
    /// Commits of one file each: four of five in an overlay, one in the base
    #[arg(long, default_value_t = 1000)]
    commits: usize,
    /// Commits of each kind at which kustomize is measured too
    #[arg(long, default_value_t = 3)]
    peer_commits: usize,
    /// MiB that the cache of renders may take
    #[arg(long, default_value_t = 256)]
    cache_mib: usize,
}

/// After so many commits every cluster is compared with a render from nothing.
const COMPARE_EVERY: usize = 100;
const MIB: usize = 1 << 20;

/// What one commit cost.
struct Sample {
    change: Change,
    wall: f64,
    cpu: f64,
    heads: usize,
}

pub(super) fn b3(options: &Options) -> Result<Report> {
    let peers = Peers::prepare()?;
    let folder = tempfile::tempdir().context("a folder for the repository")?;
    let (origin, shelf) = (folder.path().join("fleet.git"), folder.path().join("renders"));
    for made in [&origin, &shelf] {
        std::fs::create_dir_all(made).with_context(|| format!("create {}", made.display()))?;
    }
    let commits = history::make(&origin, options.clusters, options.commits)?;
    let mirror = mirror(&folder.path().join("mirror"), &origin)?;
    let cache = || Cache::new(options.cache_mib * MIB);

    // Once for the clock, and once more for the comparison with renders from nothing.
    let mut fleet = Fleet::new(mirror.clone(), options.clusters, cache())?;
    let samples = follow(&mut fleet, &commits, |_, _| Ok(()))?;
    let (stats, peak) = (fleet.cache.stats(), peak()?);
    drop(fleet);
    let mut fleet = Fleet::new(mirror.clone(), options.clusters, cache())?;
    let mut compared = 0;
    follow(&mut fleet, &commits, |fleet, at| {
        if at % COMPARE_EVERY == 0 || at + 1 == commits.len() {
            for cluster in 0..options.clusters {
                let (_, clean) = fleet.clean(cluster, &commits[at].0)?;
                ensure!(
                    fleet.content(cluster) == Some(clean),
                    "cluster {cluster} differs from a clean render at commit {at}"
                );
                compared += 1;
            }
        }
        Ok(())
    })?;
    drop(fleet);

    let last = &commits.last().context("no commit")?.0;
    let mut restart = Vec::new();
    for _ in 0..2 {
        let kept = cache().with_shelf(Arc::new(Folder(shelf.clone())), [1; 32]);
        let mut fleet = Fleet::new(mirror.clone(), options.clusters, kept)?;
        let (start, before) = (Instant::now(), cpu()?);
        fleet.follow(last)?;
        restart.push((start.elapsed().as_secs_f64(), cpu()? - before, fleet.cache.stats()));
    }

    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let all: Vec<String> = (0..options.clusters).map(overlay_folder).collect();
    let mut checked = 0;
    let mut everything = None;
    for (name, is_kind) in [
        ("one overlay", (|c| matches!(c, Change::Overlay(_))) as fn(Change) -> bool),
        ("base, all overlays", |c| c == Change::Base),
    ] {
        let own: Vec<&Sample> = samples.iter().filter(|s| is_kind(s.change)).collect();
        let figures = |of: fn(&Sample) -> f64| own.iter().map(|s| of(s)).collect::<Vec<_>>();
        let (mut program, mut library) = (Vec::new(), Vec::new());
        let of_kind = commits.iter().filter(|(_, change)| is_kind(*change));
        for (commit, change) in of_kind.take(options.peer_commits) {
            let work = tempfile::tempdir().context("a folder for a work tree")?;
            history::check_out(&origin, commit, work.path())?;
            let affected = match change {
                Change::Overlay(number) => vec![overlay_folder(*number)],
                _ => all.clone(),
            };
            checked += compare(&peers, work.path(), &affected, &mirror, options.clusters, commit)?;
            program.push(time(&peers.program, work.path(), &affected, 1)?.cpu);
            library.push(time(&peers.library, work.path(), &affected, 1)?.cpu);
            if *change == Change::Base {
                everything = Some((middle(&program), middle(&library)));
            }
        }
        let cpu = middle(&figures(|s| s.cpu));
        let heads = own.iter().map(|s| s.heads).sum::<usize>() as f64 / own.len().max(1) as f64;
        rows.push(vec![
            name.to_owned(),
            own.len().to_string(),
            format!("{heads:.1}"),
            seconds(percentile(&figures(|s| s.wall), 0.5)),
            seconds(percentile(&figures(|s| s.wall), 0.99)),
            seconds(cpu),
            seconds(middle(&program)),
            seconds(middle(&library)),
            times(middle(&program) / cpu),
            times(middle(&library) / cpu),
        ]);
    }
    if let Some((program, library)) = everything {
        let own = middle(
            &samples.iter().filter(|s| matches!(s.change, Change::Overlay(_))).map(|s| s.cpu).collect::<Vec<_>>(),
        );
        notes.push(format!(
            "Building every overlay after each commit instead: program {} ({}), library {} ({}) of CPU against one overlay's commit.",
            seconds(program),
            times(program / own),
            seconds(library),
            times(library / own)
        ));
    }
    notes.push(format!(
        "Memory: results {} and parsed files {} of at most {}; {} results; peak of the whole process {}. {} builds, {} hits.",
        mib(stats.bytes as u64),
        mib(stats.parsed_bytes as u64),
        mib((options.cache_mib * MIB) as u64),
        stats.results,
        mib(peak),
        stats.builds,
        stats.hits
    ));
    for (name, (wall, cpu, stats)) in
        ["from nothing", "after a restart, from the folder of renders"].iter().zip(&restart)
    {
        notes.push(format!(
            "The whole fleet {name}: {} wall, {} CPU; {} units built, {} read back.",
            seconds(*wall),
            seconds(*cpu),
            stats.builds,
            stats.loads
        ));
    }
    Ok(Report {
        title: format!(
            "B3: commits of one file to a fleet of {} clusters, {} objects",
            options.clusters,
            options.clusters * 51
        ),
        equal: true,
        gate: format!(
            "From the commit in the mirror to signed heads of all clusters it changes: tree difference, render, bundle, \
             signature; fetching is not counted. {compared} renders compared with one from nothing, {checked} overlays \
             with what kustomize prints: all equal. Figures of kustomize are CPU time for the affected overlays only."
        ),
        columns: vec![
            "commit to",
            "commits",
            "heads signed",
            "wall p50",
            "wall p99",
            "CPU p50",
            "program",
            "library",
            "program / CPU",
            "library / CPU",
        ],
        rows,
        notes,
    })
}

fn follow(
    fleet: &mut Fleet,
    commits: &[(String, Change)],
    mut after: impl FnMut(&Fleet, usize) -> Result<()>,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(commits.len());
    for (at, (commit, change)) in commits.iter().enumerate() {
        let (start, before) = (Instant::now(), cpu()?);
        let heads = fleet.follow(commit)?.len();
        samples.push(Sample { change: *change, wall: start.elapsed().as_secs_f64(), cpu: cpu()? - before, heads });
        after(fleet, at)?;
    }
    Ok(samples)
}

/// Every object of these overlays as kustomize makes it, with the labels of its unit, must be what a cluster is sent.
fn compare(
    peers: &Peers,
    root: &Path,
    dirs: &[String],
    mirror: &Mirror,
    clusters: usize,
    commit: &str,
) -> Result<usize> {
    let fleet = Fleet::new(mirror.clone(), clusters, Cache::new(MIB))?;
    for (dir, outcome) in dirs.iter().zip(outcomes(&peers.program, root, dirs)?.0) {
        let Outcome::Text(text) = outcome else { anyhow::bail!("{dir}: kustomize fails at {commit}") };
        let cluster = (0..clusters).find(|n| overlay_folder(*n) == *dir).context("no such overlay")?;
        let (rendered, _) = fleet.clean(cluster, commit)?;
        ensure!(sent(&rendered) == labelled(&text)?, "{dir} at {commit}: not what kustomize prints");
    }
    Ok(dirs.len())
}

/// The objects of the unit `apps`.
fn sent(rendered: &RenderedCluster) -> Vec<Vec<u8>> {
    let unit = rendered.units.iter().find(|u| u.id.name == "apps");
    unit.map(|u| u.objects().iter().map(|o| o.bytes.to_vec()).collect()).unwrap_or_default()
}

/// What kustomize prints, with the labels that a unit's objects get.
fn labelled(text: &[u8]) -> Result<Vec<Vec<u8>>> {
    let id = driftless_protocol::id::UnitId::kustomization("flux-system", "apps");
    let documents = driftless_yaml::parse_all(text, Dialect::Resource, &Limits::default())?;
    let with_labels = |mut node: Node| -> Result<Vec<u8>> {
        let metadata = node.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Node::as_map_mut);
        let metadata = metadata.context("an object without metadata")?;
        if metadata.get("labels").is_none() {
            metadata.insert("labels", Node::map());
        }
        let labels = metadata.get_mut("labels").and_then(Node::as_map_mut).context("labels that are no map")?;
        labels.insert(marks::FLUX_OWNER_NAME, Node::string(id.name.as_str()));
        labels.insert(marks::FLUX_OWNER_NAMESPACE, Node::string(id.namespace.as_str()));
        labels.insert(marks::UNIT_LABEL, Node::string(id.label().to_string()));
        Ok(node.to_json()?)
    };
    documents.into_iter().map(|d| with_labels(d.node)).collect()
}

fn mirror(folder: &Path, origin: &Path) -> Result<Mirror> {
    let url = SourceUrl::parse(&format!("file://{}", origin.display()))?;
    let config = SourceConfig::new("flux-system/flux-system", url, Reference::Branch("main".into()));
    let mirror = Mirror::open(folder, config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(mirror.fetch(&CancellationToken::new()))?;
    Ok(mirror)
}

/// CPU seconds of this process so far.
fn cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("ask for CPU time")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// The most memory this process had.
fn peak() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("ask for memory")?;
    Ok(u64::try_from(usage.max_rss()).unwrap_or(0) * 1024)
}
