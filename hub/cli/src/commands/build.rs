//! `driftless build`: rendering without a hub.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use driftless_protocol::bundle::LateInput;
use driftless_protocol::id::{ClusterName, Revision, UnitId};
use driftless_render::flux::{RenderState, RenderedCluster, RenderedUnit, render_cluster};
use driftless_render::kustomize::{self, Options, Order};
use driftless_render::report::{Code, Severity};
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_source::Snapshot;
use driftless_source::folder::{enclosing_root, worktree_tree};

use crate::args::{Build, Output, Reorder};
use crate::error::{CliError, Kind};
use crate::repo::{other_source, slashes};
use crate::{facts, ui};

/// Builds a folder as kustomize would, or a cluster as Flux would.
pub fn run(args: &Build, output: Output) -> Result<ExitCode, CliError> {
    match &args.cluster {
        Some(name) => cluster(args, name, output),
        None => folder(args, output),
    }
}

fn folder(args: &Build, output: Output) -> Result<ExitCode, CliError> {
    let (root, dir) = locate(args)?;
    let order = match args.reorder {
        Reorder::None => Order::None,
        Reorder::Legacy => Order::Legacy,
    };
    let options = Options { order, ..Options::default() };
    let built = kustomize::build(&worktree_tree(&root), &dir, &options)
        .map_err(|e| CliError::new(Kind::Failed, format!("cannot build {}: {e}", args.dir.display())))?;
    for warning in &built.warnings {
        ui::note(&format!("warning: {warning}"));
    }
    let unprintable = |origin: &kustomize::Origin, e: &dyn std::fmt::Display| {
        // What cannot be printed names its own line.
        CliError::new(Kind::Failed, format!("{}: an object cannot be printed: {e}", origin.file))
    };
    if output == Output::Json {
        let mut items = Vec::with_capacity(built.resources.len());
        for resource in &built.resources {
            let json = resource.node.to_json().map_err(|e| unprintable(&resource.origin, &e))?;
            items.push(serde_json::from_slice(&json).map_err(|e| unprintable(&resource.origin, &e))?);
        }
        let items = serde_json::Value::Array(items);
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
        return ui::print(output, &list, String::new).map(|()| ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for resource in &built.resources {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let yaml = driftless_yaml::to_string(&resource.node).map_err(|e| unprintable(&resource.origin, &e))?;
        text.push_str(&yaml);
    }
    ui::write_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn cluster(args: &Build, name: &str, output: Output) -> Result<ExitCode, CliError> {
    let cluster: ClusterName = name.parse().map_err(|e| CliError::new(Kind::Usage, format!("--cluster: {e}")))?;
    let (root, inside) = locate(args)?;
    // With --root the repository is DIR itself; without, the enclosing work tree, of which DIR must be the top.
    let root = if inside.is_empty() { root } else { root.join(&inside) };
    let source = SourceTree {
        id: "flux-system/flux-system".to_owned(),
        tree: Arc::new(Snapshot::new(&root)),
        revision: Revision { reference: "worktree".to_owned(), commit: String::new() },
        url: format!("file://{}", root.display()),
        reference: GitRef::default(),
    };
    let mut target = Target::new(cluster);
    if let Some(path) = &args.path {
        target.root = RootSpec::Path(path.clone());
    }
    if let Some(file) = &args.facts {
        target = target.with_facts(Some(facts::read(file)?));
    }
    let mut sources = SourceSet::new(source);
    for text in &args.sources {
        let other = other_source(text)?;
        sources = sources.named(other.id.clone(), other);
    }
    let rendered = render_cluster(&sources, &target);
    print_cluster(&rendered, output)?;
    let failed = rendered.units.iter().filter(|u| u.held().is_some()).count();
    for problem in rendered.all_problems().filter(|p| p.severity() > Severity::Info) {
        ui::note(&problem.to_string());
    }
    if failed > 0 {
        let units = rendered.units.len();
        let message = format!("{failed} of {units} units of {} cannot be built; see above", target.cluster);
        let no_root = rendered.units.iter().any(|u| u.held().is_some_and(|why| why.code == Code::RootNotFound));
        return Err(CliError::new(if no_root { Kind::NotFound } else { Kind::Failed }, message));
    }
    if rendered.units.is_empty() {
        return Err(CliError::new(Kind::Failed, format!("no unit was found for cluster {}", target.cluster))
            .hint("name the cluster's root folder with --path"));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_cluster(rendered: &RenderedCluster, output: Output) -> Result<(), CliError> {
    if output == Output::Json {
        let mut units = Vec::new();
        for unit in &rendered.units {
            let mut entry = serde_json::json!({ "unit": unit.id, "definedAt": unit.defined_at, "path": unit.path });
            match &unit.state {
                RenderState::Full { objects, withheld } => {
                    let mut parsed = Vec::with_capacity(objects.len());
                    for object in objects {
                        let bad = |e: &dyn std::fmt::Display| {
                            CliError::new(Kind::Failed, format!("{} of {} cannot be printed: {e}", object.key, unit.id))
                        };
                        let bytes = unit.value_of(object).map_err(|e| bad(&e))?.to_json().map_err(|e| bad(&e))?;
                        parsed.push(serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|e| bad(&e))?);
                    }
                    entry["objects"] = parsed.into();
                    let holes = objects.iter().filter_map(|o| Some((o, o.holes.as_ref()?)));
                    entry["holes"] =
                        holes.map(|(o, names)| serde_json::json!({ "key": o.key, "variables": names })).collect();
                    entry["inputs"] = serde_json::json!(references(unit));
                    entry["withheld"] = withheld
                        .iter()
                        .map(|w| serde_json::json!({ "key": w.key, "code": w.code, "message": w.message, "at": w.origin }))
                        .collect();
                }
                RenderState::Held { why } => entry["held"] = serde_json::json!(why),
                RenderState::Suspended { .. } => entry["suspended"] = true.into(),
            }
            entry["problems"] = serde_json::json!(unit.problems);
            units.push(entry);
        }
        let all = serde_json::json!({ "units": units, "problems": rendered.problems, "whole": rendered.whole });
        return ui::print(output, &all, String::new);
    }
    let mut text = String::new();
    for unit in &rendered.units {
        match &unit.state {
            RenderState::Full { objects, withheld } => {
                text.push_str(&format!("# unit {}: {} objects", unit.id, objects.len()));
                if !withheld.is_empty() {
                    text.push_str(&format!(", {} withheld", withheld.len()));
                }
                text.push('\n');
                if let [first, more @ ..] = references(unit).as_slice() {
                    let more: String = more.iter().map(|name| format!(", {name}")).collect();
                    text.push_str(&format!("# filled in the cluster from {first}{more}\n"));
                }
                for object in objects {
                    let bad = |e: &dyn std::fmt::Display| {
                        CliError::new(Kind::Failed, format!("{} cannot be printed: {e}", object.key))
                    };
                    let node = unit.value_of(object).map_err(|e| bad(&e))?;
                    text.push_str("---\n");
                    if let Some(holes) = object.holes.as_ref().filter(|holes| !holes.is_empty()) {
                        let names: Vec<String> = holes.iter().map(|name| format!("${{{name}}}")).collect();
                        text.push_str(&format!("# filled in the cluster: {}\n", names.join(", ")));
                    }
                    text.push_str(&driftless_yaml::to_string(&node).map_err(|e| bad(&e))?);
                }
                for object in withheld {
                    text.push_str(&format!("# withheld: {} ({}): {}\n", object.key, object.origin, object.message));
                }
            }
            RenderState::Held { why } => text.push_str(&format!("# unit {}: held: {why}\n", unit.id)),
            RenderState::Suspended { .. } => text.push_str(&format!("# unit {}: suspended\n", unit.id)),
        }
    }
    ui::write_stdout(&text)
}

/// What a unit's holes are filled from: `Secret cluster-secrets`.
fn references(unit: &RenderedUnit) -> Vec<String> {
    fn collect(inputs: &[LateInput], of: &UnitId, above: bool, out: &mut Vec<String>) {
        for input in inputs {
            match input {
                LateInput::Object(reference) => {
                    let optional = if reference.optional { " (optional)" } else { "" };
                    let by = if above { format!(" by way of unit {of}") } else { String::new() };
                    out.push(format!("{} {}/{}{optional}{by}", reference.kind, of.namespace, reference.name));
                }
                LateInput::Text(text) => collect(&text.inputs, &text.by, true, out),
                LateInput::Values { .. } => {}
            }
        }
    }
    let mut out = Vec::new();
    if let Some(late) = &unit.late {
        collect(&late.inputs, &unit.id, false, &mut out);
    }
    out
}

/// The root of the build on disk, and the folder asked for as a path inside it.
fn locate(args: &Build) -> Result<(PathBuf, String), CliError> {
    let dir = args
        .dir
        .canonicalize()
        .map_err(|e| CliError::new(Kind::NotFound, format!("cannot read the folder {}: {e}", args.dir.display())))?;
    if !dir.is_dir() {
        return Err(CliError::new(Kind::Usage, format!("{} is no folder", args.dir.display())));
    }
    let root = match &args.root {
        Some(root) => root
            .canonicalize()
            .map_err(|e| CliError::new(Kind::NotFound, format!("cannot read the root {}: {e}", root.display())))?,
        None => enclosing_root(&dir)
            .map_err(|e| CliError::new(Kind::Failed, format!("cannot resolve {}: {e}", dir.display())))?,
    };
    let inside = dir.strip_prefix(&root).map_err(|_| {
        CliError::new(Kind::Usage, format!("{} is not below the root {}", dir.display(), root.display()))
    })?;
    Ok((root.clone(), slashes(inside)?))
}
