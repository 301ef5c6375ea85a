//! From a small repository to units: one idea each, through one check.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod held;
mod report;
mod roots;
mod sources;
mod spec;
mod variables;

use std::fmt::Write as _;
use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{RenderState, RenderedCluster, render_cluster};
use driftless_render::report::Severity;
use driftless_render::target::{GitRef, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;

const URL: &str = "https://example.org/fleet";

fn source(files: &[(&str, &str)]) -> SourceTree {
    let mut tree = MemTree::new();
    for (path, text) in files {
        match text.strip_prefix("-> ") {
            Some(target) => tree.insert_link(*path, target),
            None => tree.insert(*path, text.as_bytes().to_vec()),
        }
    }
    SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: URL.into(),
        reference: GitRef::Branch("main".into()),
    }
}

fn target() -> Target {
    Target::new("c".parse().unwrap())
}

/// One line per unit and object: what the agent would be told, and every problem with its place.
fn summary(rendered: &RenderedCluster) -> String {
    let mut out = String::new();
    for unit in &rendered.units {
        match &unit.state {
            RenderState::Full { objects, withheld } => {
                writeln!(out, "{}", unit.id).unwrap();
                for o in objects {
                    writeln!(out, "  {}{}", o.key, if o.handed_through { " (handed through)" } else { "" }).unwrap();
                }
                for w in withheld {
                    writeln!(out, "  - {} {}", w.key, w.code).unwrap();
                }
            }
            RenderState::Held { why } => {
                let at = why.at.as_ref().map(ToString::to_string).unwrap_or_default();
                writeln!(out, "{} held {} {at}", unit.id, why.code).unwrap();
            }
            RenderState::Suspended { .. } => writeln!(out, "{} suspended", unit.id).unwrap(),
        }
        for p in unit.problems.iter().filter(|p| Some(*p) != unit.held() && p.severity() != Severity::Info) {
            let at = p.at.as_ref().map(ToString::to_string).unwrap_or_default();
            writeln!(out, "  ! {} {at}", p.code).unwrap();
        }
    }
    for p in &rendered.problems {
        writeln!(out, "! {}", p.code).unwrap();
    }
    if !rendered.whole {
        out.push_str("not whole\n");
    }
    out
}

#[track_caller]
fn check_with(files: &[(&str, &str)], target: &Target, expected: &str) -> RenderedCluster {
    let rendered = render_cluster(&SourceSet::new(source(files)), target);
    let got = summary(&rendered);
    let lines = expected.lines().map(|line| line.strip_prefix("        ").unwrap_or(line));
    let expected: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    let said: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert_eq!(got.lines().collect::<Vec<_>>(), expected, "\n{got}\n{}", said.join("\n"));
    rendered
}

fn render(files: &[(&str, &str)]) -> RenderedCluster {
    render_cluster(&SourceSet::new(source(files)), &target())
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) -> RenderedCluster {
    check_with(files, &target(), expected)
}

/// A Kustomization at `apps/NAME`, with more lines for its spec.
fn unit(name: &str, more: &str) -> String {
    let more: String = more.lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: {name}\n  namespace: flux-system\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./apps/{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

fn config(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{k: v}}\n")
}

fn json(rendered: &RenderedCluster, name: &str) -> String {
    let object = rendered.units.iter().flat_map(|u| u.objects()).find(|o| o.key.name == name);
    String::from_utf8(object.unwrap_or_else(|| panic!("no object {name}")).bytes.to_vec()).unwrap()
}

#[track_caller]
fn problem(rendered: &RenderedCluster, words: &str) {
    let all: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert!(all.iter().any(|m| m.contains(words)), "no problem says {words:?}: {all:#?}");
}
