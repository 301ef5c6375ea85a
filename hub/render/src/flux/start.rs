//! The first unit: the root, and the Kustomization in its own output that defines it.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::id::UnitId;
use driftless_yaml::Node;

use super::cluster::{Definition, Walk, Worked};
use super::place::Place;
use super::root::{self, Fill, Filled};
use super::unit::Item;
use crate::report::{Code, Problem};
use crate::target::Location;
use crate::tree::Tree;

/// How often the root's definition may change by being built, before it is said not to settle.
const ROOT_ROUNDS: usize = 4;

impl Walk<'_> {
    pub(super) fn no_root(&mut self, message: String) {
        let root = self.sources.root();
        let id = self.found.root.clone();
        let why = Problem { code: Code::RootNotFound, message, at: None, unit: Some(id.clone()) };
        self.found.root_path = self.target.root.path(&self.target.cluster);
        let worked = Worked {
            id: id.clone(),
            defined_at: Place::nowhere(&root.id).at,
            parent: None,
            source: root.id.clone(),
            kustomization: None,
            output: Arc::default(),
            held: Some(why),
            problems: Vec::new(),
            complete: false,
            children: Vec::new(),
        };
        self.found.units.insert(id, worked);
    }

    /// Finds the root's own Kustomization in the root's build, and renders the root.
    pub(super) fn start(&mut self, folder: &str, searched: &dyn Tree) {
        let root = self.sources.root().clone();
        for fill in [Fill::All, Fill::SyncOnly] {
            (self.root_tree, self.filled) = Filled::over(&root, searched, folder, fill);
            let (id, node, place) = root::synthesised(&root, folder);
            let mut definition = Definition { node, place, parent: None, depth: 0, text: None };
            let mut current = id;
            for _ in 0..ROOT_ROUNDS {
                // What the round before took the root's source for may not hold any more.
                self.artifacts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
                let worked = self
                    .attempt(&current, &definition, true)
                    .unwrap_or_else(|_| self.unresolved(&current, &definition));
                let ignore = own_ignore(&worked, &self.root_ids);
                match own_definition(&worked, folder, &current) {
                    _ if ignore.is_some() && ignore != self.root_ignore => self.root_ignore = ignore,
                    Some((id, node, at)) if id != current || node != definition.node => {
                        let place = Place::new(at, self.root_tree.clone(), self.builds.memo());
                        definition = Definition { node, place, parent: None, depth: 0, text: None };
                        if let Some(source) = source_of(&definition.node, &id) {
                            self.root_ids.insert(source);
                        }
                        current = id;
                    }
                    _ => {
                        let failed = worked.output.failed.is_some();
                        if failed && fill == Fill::All && self.filled.is_some() {
                            break;
                        }
                        self.found.root = current.clone();
                        self.accept(current, worked, 0);
                        return;
                    }
                }
            }
        }
        // The definition changed with every build of it: patches on the root's own Kustomization that add up.
        let (id, node, place) = root::synthesised(&root, folder);
        let definition = Definition { node, place, parent: None, depth: 0, text: None };
        let mut worked = self.unresolved(&id, &definition);
        let message = format!(
            "the root's own Kustomization in {folder:?} changes each time it is built; look at the patches on it"
        );
        worked.held = Some(Problem::new(Code::UnitCycle, &id, None, message));
        self.found.root = id.clone();
        self.accept(id, worked, 0);
    }
}

/// The Kustomization in the root's output that stands for the root: of its path; `flux-system` first, if there are more.
fn own_definition(worked: &Worked, folder: &str, current: &UnitId) -> Option<(UnitId, Node, Location)> {
    let mut all: Vec<_> = worked
        .output
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Child { id, node, at, .. } => {
                let path = node.at(&["spec", "path"]).and_then(Node::as_str).unwrap_or_default();
                (super::path::normal(path).as_deref() == Some(folder)).then(|| (id.clone(), node.clone(), at.clone()))
            }
            _ => None,
        })
        .collect();
    all.sort_by(|a, b| {
        (a.0 != *current, a.0.name != "flux-system", &a.0).cmp(&(b.0 != *current, b.0.name != "flux-system", &b.0))
    });
    all.into_iter().next()
}

/// `spec.ignore` of the root's own source, where the root declares it.
fn own_ignore(worked: &Worked, root_ids: &BTreeSet<String>) -> Option<String> {
    worked.output.items.iter().find_map(|item| match item {
        Item::Source { kind, id, node, .. } if kind == "GitRepository" && root_ids.contains(id) => {
            node.at(&["spec", "ignore"]).and_then(Node::as_str).filter(|t| !t.is_empty()).map(str::to_owned)
        }
        _ => None,
    })
}

fn source_of(node: &Node, id: &UnitId) -> Option<String> {
    let text = |key: &str| node.at(&["spec", "sourceRef", key]).and_then(Node::as_str);
    Some(format!("{}/{}", text("namespace").unwrap_or(&id.namespace), text("name")?))
}
