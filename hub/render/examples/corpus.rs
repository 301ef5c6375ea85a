//! Renders every root of a repository on disk and prints, per root and unit, what came of it.
//!
//! ```text
//! cargo run -p driftless-render --example corpus -- PATH [--root FOLDER] [--url URL] [--branch NAME] [--quiet | --objects | --commits N]
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{Cache, RenderState, RenderedCluster, find_roots, render_cluster, render_cluster_cached};
use driftless_render::report::Code;
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::{MemTree, Tree};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut path, mut root, mut url, mut branch) = (None, None, String::new(), "main".to_owned());
    let (mut quiet, mut objects, mut commits) = (false, false, 0);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => root = args.next(),
            "--url" => url = args.next().unwrap_or_default(),
            "--branch" => branch = args.next().unwrap_or_default(),
            "--quiet" => quiet = true,
            "--objects" => objects = true,
            "--commits" => commits = args.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            _ => path = Some(arg),
        }
    }
    let Some(path) = path else {
        eprintln!("usage: corpus PATH [--root FOLDER] [--url URL] [--branch NAME] [--quiet | --objects | --commits N]");
        return ExitCode::from(2);
    };
    let mut files = Files::new();
    if let Err(error) = load(Path::new(&path), "", &mut files) {
        eprintln!("cannot read {path}: {error}");
        return ExitCode::FAILURE;
    }
    let files = files;
    let tree: Arc<dyn Tree> = Arc::new(tree_of(&files));
    let roots = match root {
        Some(root) => vec![root],
        None => match find_roots("flux-system/flux-system", &*tree) {
            Ok(found) => found.into_iter().map(|c| c.path).collect(),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        },
    };
    println!("{path}: {} root(s)", roots.len());
    let source = SourceTree {
        id: "flux-system/flux-system".into(),
        tree,
        revision: Revision { reference: branch.clone(), commit: "0".repeat(40) },
        url,
        reference: GitRef::Branch(branch),
    };
    let mut totals = BTreeMap::new();
    for folder in roots {
        let name = folder.rsplit('/').next().unwrap_or_default().to_lowercase();
        let Ok(cluster) = name.parse().or_else(|_| "cluster".parse()) else { return ExitCode::FAILURE };
        let target = Target { root: RootSpec::Path(folder.clone()), ..Target::new(cluster) };
        if commits > 0 {
            if let Err(why) = compare(&files, &source, &target, commits) {
                eprintln!("{folder}: {why}");
                return ExitCode::FAILURE;
            }
            continue;
        }
        let started = std::time::Instant::now();
        let rendered = render_cluster(&SourceSet::new(source.clone()), &target);
        let took = started.elapsed();
        if objects {
            for unit in &rendered.units {
                for object in unit.objects() {
                    println!("{folder}\t{}\t{}\t{}\t{}", unit.id, unit.path, object.key, object.origin);
                }
            }
            continue;
        }
        print(&folder, &rendered, quiet, took, &mut totals);
    }
    println!("total: {totals:?}");
    ExitCode::SUCCESS
}

fn print(
    folder: &str,
    rendered: &RenderedCluster,
    quiet: bool,
    took: std::time::Duration,
    totals: &mut BTreeMap<&'static str, usize>,
) {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for unit in &rendered.units {
        let state = match &unit.state {
            RenderState::Full { objects, withheld } => {
                *counts.entry("objects").or_default() += objects.len();
                *counts.entry("handed through").or_default() += objects.iter().filter(|o| o.handed_through).count();
                *counts.entry("withheld").or_default() +=
                    withheld.iter().filter(|w| w.code != Code::SourceNotSent).count();
                *counts.entry("full").or_default() += 1;
                format!("{} objects, {} withheld", objects.len(), withheld.len())
            }
            RenderState::Held { why } => {
                *counts.entry("held").or_default() += 1;
                format!("HELD {why}")
            }
            RenderState::Suspended { .. } => {
                *counts.entry("suspended").or_default() += 1;
                "suspended".to_owned()
            }
        };
        *counts.entry("problems").or_default() += unit.problems.len();
        if !quiet {
            println!("  {} ({}, {}): {state}", unit.id, unit.path, unit.defined_at);
            for problem in unit.problems.iter().filter(|p| Some(*p) != unit.held()) {
                println!("      {problem}");
            }
        }
    }
    for problem in &rendered.problems {
        println!("  {problem}");
    }
    println!(
        "root {folder}: {} units {counts:?} whole={} lockdown={:?} wanted={:?} in {took:?}",
        rendered.units.len(),
        rendered.whole,
        rendered.lockdown,
        rendered.wanted_sources.iter().map(|s| (&s.id, &s.url, s.reference.to_string())).collect::<Vec<_>>()
    );
    for (what, count) in counts {
        *totals.entry(what).or_default() += count;
    }
}

/// Files and links (`Err`) by path.
type Files = BTreeMap<String, Result<Vec<u8>, String>>;

fn tree_of(files: &Files) -> MemTree {
    let mut tree = MemTree::new();
    for (path, what) in files {
        match what {
            Ok(bytes) => tree.insert(path.as_str(), bytes.clone()),
            Err(target) => tree.insert_link(path.as_str(), target.as_str()),
        }
    }
    tree
}

/// Plays commits of one changed file each, and compares the incremental render with a clean one after each.
fn compare(files: &Files, source: &SourceTree, target: &Target, commits: u64) -> Result<(), String> {
    let cache = Cache::new(256 << 20);
    let paths: Vec<&String> = files.keys().filter(|p| p.ends_with("yaml") || p.ends_with("yml")).collect();
    let (mut now, mut seed) = (files.clone(), 0x9e37_79b9_7f4a_7c15_u64);
    let (mut clean_time, mut cached_time) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    let mut first = 0;
    for commit in 0..=commits {
        // xorshift: the same commits each time.
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below.max(1) as u64).unwrap_or(0)
        };
        let path = paths.get(next(paths.len())).ok_or("no YAML file")?;
        let what = ["nothing", "remove", "comment", "suffix", "restore"][if commit == 0 { 0 } else { 1 + next(4) }];
        match (what, now.get(*path).cloned()) {
            ("remove", _) => drop(now.remove(*path)),
            ("comment", Some(Ok(bytes))) => {
                now.insert((*path).clone(), Ok([b"# one more line\n", bytes.as_slice()].concat()));
            }
            ("suffix", Some(Ok(bytes))) => {
                let text = String::from_utf8_lossy(&bytes).replacen("name: ", "name: x", 1 + next(3));
                now.insert((*path).clone(), Ok(text.into_bytes()));
            }
            ("restore", _) => now.clone_from(files),
            _ => {}
        }
        let sources = SourceSet::new(SourceTree { tree: Arc::new(tree_of(&now)), ..source.clone() });
        let started = std::time::Instant::now();
        let cached = render_cluster_cached(&sources, target, &cache);
        let middle = std::time::Instant::now();
        let clean = render_cluster(&sources, target);
        if commit == 0 {
            first = cache.stats().builds;
        } else {
            cached_time += middle - started;
            clean_time += middle.elapsed();
        }
        if format!("{cached:?}") != format!("{clean:?}") {
            return Err(format!("commit {commit} ({what} {path}): the incremental render differs from the clean one"));
        }
    }
    println!(
        "root {:?}: {commits} commits equal; {first} builds at first, {} later; clean {clean_time:?}, cached {cached_time:?}",
        target.root,
        cache.stats().builds - first
    );
    Ok(())
}

fn load(on_disk: &Path, path: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(on_disk)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let here = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            files.insert(here, Err(std::fs::read_link(entry.path())?.to_string_lossy().into_owned()));
        } else if kind.is_dir() {
            if name != ".git" {
                load(&entry.path(), &here, files)?;
            }
        } else {
            files.insert(here, Ok(std::fs::read(entry.path())?));
        }
    }
    Ok(())
}
