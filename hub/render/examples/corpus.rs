//! Renders every root of a repository on disk and prints, per root and unit, what came of it.
//!
//! ```text
//! cargo run -p driftless-render --example corpus -- PATH [--root FOLDER] [--url URL] [--branch NAME] [--quiet | --objects]
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{RenderState, RenderedCluster, find_roots, render_cluster};
use driftless_render::report::Code;
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::{MemTree, Tree};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut path, mut root, mut url, mut branch) = (None, None, String::new(), "main".to_owned());
    let (mut quiet, mut objects) = (false, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--root" => root = args.next(),
            "--url" => url = args.next().unwrap_or_default(),
            "--branch" => branch = args.next().unwrap_or_default(),
            "--quiet" => quiet = true,
            "--objects" => objects = true,
            _ => path = Some(arg),
        }
    }
    let Some(path) = path else {
        eprintln!("usage: corpus PATH [--root FOLDER] [--url URL] [--branch NAME] [--quiet | --objects]");
        return ExitCode::from(2);
    };
    let mut tree = MemTree::new();
    if let Err(error) = load(Path::new(&path), "", &mut tree) {
        eprintln!("cannot read {path}: {error}");
        return ExitCode::FAILURE;
    }
    let tree: Arc<dyn Tree> = Arc::new(tree);
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
            RenderState::Suspended => {
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

fn load(on_disk: &Path, path: &str, tree: &mut MemTree) -> std::io::Result<()> {
    for entry in std::fs::read_dir(on_disk)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let here = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            tree.insert_link(here, std::fs::read_link(entry.path())?.to_string_lossy().into_owned());
        } else if kind.is_dir() {
            if name != ".git" {
                load(&entry.path(), &here, tree)?;
            }
        } else {
            tree.insert(here, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}
