//! From the root to all units: what is rendered when, and with what.
//!
//! Units wait for each other only for inputs: a source that another unit declares, a ConfigMap that another unit
//! produces. Rounds go over the waiting units in the order of their ids until a round brings nothing new; then what is
//! still missing is taken as missing, one unit at a time. The order is part of the result's determinism.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{DeletionPolicy, DriftMode, ServiceAccount, UnitSpec, Validation};
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::UnitId;
use driftless_protocol::limits;
use driftless_yaml::Node;

use super::cache::Builds;
use super::fields::Note;
use super::place::Place;
use super::root;
use super::spec::{self, Kustomization};
use super::substitute::{self, Resolution, Variables};
use super::unit::{self, Item, UnitInputs, UnitOutput};
use super::variables::{Inputs, Known, Produced};
use super::{lockdown, source};
use crate::report::{Code, Problem};
use crate::target::{
    GitRef, Location, Lockdown, SourceDecl, SourceState, SourceTree, Sources, Target, same_repository,
};
use crate::tree::{ContentId, Tree};

/// How deep Kustomizations may define Kustomizations.
const DEPTH: usize = 32;

/// A unit found, not rendered yet.
pub(super) struct Definition {
    pub(super) node: Node,
    pub(super) place: Place,
    pub(super) parent: Option<UnitId>,
    pub(super) depth: usize,
}

/// A unit after its build.
pub(crate) struct Worked {
    pub(crate) id: UnitId,
    pub(crate) defined_at: Location,
    pub(crate) parent: Option<UnitId>,
    pub(crate) source: String,
    pub(crate) kustomization: Option<Kustomization>,
    pub(crate) output: Arc<UnitOutput>,
    /// Why it is held.
    pub(crate) held: Option<Problem>,
    pub(crate) problems: Vec<Problem>,
    /// Whether all units it defines are known.
    pub(crate) complete: bool,
    pub(crate) children: Vec<UnitId>,
}

/// Everything the first half finds.
pub(crate) struct Found {
    pub(crate) root_path: String,
    pub(crate) root: UnitId,
    pub(crate) units: BTreeMap<UnitId, Worked>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) wanted: BTreeMap<String, SourceDecl>,
    pub(crate) revisions: BTreeSet<SourceRevision>,
    pub(crate) lockdown: Lockdown,
}

/// The search for units, as far as it has come.
pub(super) struct Walk<'a> {
    pub(super) sources: &'a dyn Sources,
    pub(super) target: &'a Target,
    pub(super) builds: &'a dyn Builds,
    pub(super) lockdown: &'a Lockdown,
    pub(super) root_tree: Arc<dyn Tree>,
    /// What stands in for empty bootstrap files in `root_tree`.
    pub(super) filled: Option<ContentId>,
    /// `spec.ignore` of the root's own source.
    pub(super) root_ignore: Option<String>,
    /// Ids under which the root's own source is known.
    pub(super) root_ids: BTreeSet<String>,
    pub(super) declared: BTreeMap<(String, String), SourceDecl>,
    pub(super) inputs: Inputs,
    pub(super) waiting: BTreeMap<UnitId, Definition>,
    pub(super) found: Found,
}

/// What stands in the way of rendering a unit now.
enum Wait {
    /// Something another unit may bring.
    Later,
    /// Nothing will bring it.
    Never(Note),
}

/// Finds and builds all units of a cluster, given the lock-down flags to assume.
pub(crate) fn walk(sources: &dyn Sources, target: &Target, lockdown: &Lockdown, builds: &dyn Builds) -> Found {
    let root = sources.root();
    let mut walk = Walk {
        sources,
        target,
        builds,
        lockdown,
        root_tree: root.tree.clone(),
        filled: None,
        root_ignore: None,
        root_ids: BTreeSet::from([root.id.clone()]),
        declared: BTreeMap::new(),
        inputs: Inputs::default(),
        waiting: BTreeMap::new(),
        found: Found {
            root_path: String::new(),
            root: UnitId::kustomization("flux-system", "flux-system"),
            units: BTreeMap::new(),
            problems: Vec::new(),
            wanted: BTreeMap::new(),
            revisions: BTreeSet::new(),
            lockdown: Lockdown::default(),
        },
    };
    match root::locate(root, target) {
        Ok(folder) => {
            walk.found.root_path.clone_from(&folder);
            walk.start(&folder);
            walk.run();
        }
        Err(message) => walk.no_root(message),
    }
    walk.want();
    walk.flags();
    walk.found
}

impl Walk<'_> {
    fn run(&mut self) {
        loop {
            let mut progress = false;
            for id in self.waiting.keys().cloned().collect::<Vec<_>>() {
                progress |= self.step(&id, false);
            }
            if progress {
                continue;
            }
            // Nothing new will come by itself. First let those go on that can do without.
            let ids: Vec<UnitId> = self.waiting.keys().cloned().collect();
            let Some(first) = ids.first() else { return };
            let next = ids.iter().find(|id| self.can_do_without(id)).unwrap_or(first).clone();
            self.step(&next, true);
        }
    }

    fn step(&mut self, id: &UnitId, settled: bool) -> bool {
        let Some(definition) = self.waiting.remove(id) else { return false };
        match self.attempt(id, &definition, settled) {
            Ok(worked) => {
                self.accept(id.clone(), worked, definition.depth);
                true
            }
            Err(()) => {
                self.waiting.insert(id.clone(), definition);
                false
            }
        }
    }

    fn can_do_without(&self, id: &UnitId) -> bool {
        let Some(definition) = self.waiting.get(id) else { return false };
        let Ok(unit) = spec::read(&definition.node, &definition.place, id.clone(), &mut Vec::new()) else {
            return true;
        };
        self.source(&unit).is_ok() && matches!(self.variables(&unit, true), Ok(Some(_) | None))
    }

    /// Renders a unit. `Err` when something it needs may still come.
    pub(super) fn attempt(&mut self, id: &UnitId, definition: &Definition, settled: bool) -> Result<Worked, ()> {
        let mut notes = Vec::new();
        let unit = spec::read(&definition.node, &definition.place, id.clone(), &mut notes);
        let mut worked = self.unresolved(id, definition);
        let problem =
            |note: Note| Problem { code: note.code, message: note.message, at: Some(note.at), unit: Some(id.clone()) };
        let unit = match unit {
            Ok(unit) => unit,
            Err(note) => {
                worked.problems.extend(notes.into_iter().map(problem));
                worked.held = Some(problem(note));
                return Ok(worked);
            }
        };
        worked.source = format!("{}/{}", unit.source_namespace, unit.source_name);
        worked.problems.extend(notes.into_iter().map(problem));
        if let Some(at) = &unit.remote {
            let message = "spec.kubeConfig applies this unit to another cluster, which Driftless does not do: enrol that cluster and \
                           let its own root name the path; until then the unit is held";
            worked.held = Some(Problem::new(Code::FieldNotHonoured, id, Some(at.clone()), message));
            // Its units, if it defines any, are the other cluster's.
            worked.complete = true;
            worked.kustomization = Some(unit);
            return Ok(worked);
        }
        let tree = match self.source(&unit) {
            Ok(tree) => tree,
            Err(Wait::Later) if !settled => return Err(()),
            Err(Wait::Later) => {
                let message = format!(
                    "source {} {}/{} is declared nowhere in what this cluster renders; add it, or correct spec.sourceRef",
                    unit.source_kind, unit.source_namespace, unit.source_name
                );
                worked.held = Some(Problem::new(Code::SourceNotDeclared, id, Some(unit.source_at.clone()), message));
                worked.kustomization = Some(unit);
                return Ok(worked);
            }
            Err(Wait::Never(note)) => {
                worked.held = Some(problem(note));
                worked.kustomization = Some(unit);
                return Ok(worked);
            }
        };
        let variables = match self.variables(&unit, settled) {
            Ok(Some((variables, skipped))) => {
                worked.problems.extend(skipped.into_iter().map(problem));
                Some(variables)
            }
            Ok(None) => None,
            Err(Wait::Later) => return Err(()),
            Err(Wait::Never(note)) => {
                worked.held = Some(problem(note));
                None
            }
        };
        let no_variables = Variables::new();
        let strict = self.lockdown.feature_gates.get("StrictPostBuildSubstitutions").copied().unwrap_or(true);
        let build = |variables: Option<&Variables>| {
            let (kustomization, source, tree) = (&unit, worked.source.as_str(), tree.tree.clone());
            let filled = self.filled.filter(|_| Arc::ptr_eq(&tree, &self.root_tree));
            let ignore = self.ignore_of(&unit);
            self.builds.build(&UnitInputs { kustomization, source, tree, variables, ignore, filled, strict })
        };
        let mut available = worked.held.is_none();
        let mut output = build(available.then(|| variables.as_ref().unwrap_or(&no_variables)));
        if !available && let Some(own) = self.own_variables(&unit, &output) {
            // What it needs is its own: in the cluster the last apply has brought it.
            output = build(Some(&own));
            (available, worked.held) = (true, None);
        }
        worked.output = output;
        self.found.revisions.insert(SourceRevision { source: worked.source.clone(), revision: tree.revision });
        worked.problems.extend(worked.output.notes.iter().cloned().map(problem));
        if let Some(note) = &worked.output.failed
            && worked.held.is_none()
        {
            worked.held = Some(problem(note.clone()));
        }
        let defines = worked.output.items.iter().any(|i| matches!(i, Item::Child { .. }));
        worked.complete = worked.output.failed.is_none() && (available || !defines) && !(unit.suspended() && defines);
        worked.kustomization = Some(unit);
        Ok(worked)
    }

    pub(super) fn unresolved(&self, id: &UnitId, definition: &Definition) -> Worked {
        Worked {
            id: id.clone(),
            defined_at: definition.place.at.clone(),
            parent: definition.parent.clone(),
            source: self.sources.root().id.clone(),
            kustomization: None,
            output: Arc::default(),
            held: None,
            problems: Vec::new(),
            complete: false,
            children: Vec::new(),
        }
    }

    /// The tree a unit's `sourceRef` names.
    fn source(&self, unit: &Kustomization) -> Result<SourceTree, Wait> {
        let id = format!("{}/{}", unit.source_namespace, unit.source_name);
        let never = |code, message: String| Wait::Never(Note { code, at: unit.source_at.clone(), message });
        if self.lockdown.no_cross_namespace_refs && unit.source_namespace != unit.id.namespace {
            let message = format!(
                "unit {} refers to source {id} in another namespace, which --no-cross-namespace-refs of this cluster's \
                 kustomize-controller forbids; use a source in namespace {}",
                unit.id, unit.id.namespace
            );
            return Err(never(Code::CrossNamespaceRef, message));
        }
        let root = self.sources.root();
        let own = || SourceTree { id: id.clone(), tree: self.root_tree.clone(), ..root.clone() };
        if unit.source_kind == "GitRepository" && self.root_ids.contains(&id) {
            return Ok(own());
        }
        if unit.source_kind != "GitRepository" {
            let message = format!(
                "source {} {id} is of a kind that is not rendered yet; only GitRepository is",
                unit.source_kind
            );
            return Err(never(Code::SourceKindUnsupported, message));
        }
        let Some(decl) = self.declared.get(&(unit.source_kind.clone(), id.clone())) else { return Err(Wait::Later) };
        if self.is_root(decl) {
            return Ok(own());
        }
        match self.sources.find(decl) {
            SourceState::Ready(tree) => Ok(SourceTree { id, ..tree }),
            SourceState::Missing(why) => {
                let message = format!(
                    "source {id} ({}, {}; declared in {}) is not the root's own repository, and the hub has not got it: {why}",
                    decl.url, decl.reference, decl.declared_at
                );
                Err(never(Code::SourceNotReady, message))
            }
        }
    }

    /// `spec.ignore` of the source a unit names.
    fn ignore_of(&self, unit: &Kustomization) -> Option<&str> {
        let id = format!("{}/{}", unit.source_namespace, unit.source_name);
        if self.root_ids.contains(&id) {
            return self.root_ignore.as_deref();
        }
        self.declared.get(&(unit.source_kind.clone(), id))?.ignore.as_deref()
    }

    fn is_root(&self, decl: &SourceDecl) -> bool {
        let root = self.sources.root();
        if self.sources.is_alias(decl) {
            return true;
        }
        // Where tenants may not refer to each other's sources, naming the address of the root's must not give it to them.
        let namespace = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
        let at_home = self.root_ids.iter().any(|id| namespace(id) == namespace(&decl.id));
        if self.lockdown.no_cross_namespace_refs && !at_home {
            return false;
        }
        let same = |url: &str, reference: &GitRef| same_repository(url, &decl.url) && *reference == decl.reference;
        same(&root.url, &root.reference)
            || self.root_ids.iter().any(|id| {
                self.declared
                    .get(&("GitRepository".to_owned(), id.clone()))
                    .is_some_and(|own| same(&own.url, &own.reference))
            })
    }

    /// Notes the repositories that units use, besides the root's own.
    fn want(&mut self) {
        for unit in self.found.units.values().filter_map(|u| u.kustomization.as_ref()) {
            let id = format!("{}/{}", unit.source_namespace, unit.source_name);
            if self.root_ids.contains(&id) || unit.remote.is_some() {
                continue;
            }
            let Some(decl) = self.declared.get(&(unit.source_kind.clone(), id)) else { continue };
            if decl.kind == "GitRepository" && !self.is_root(decl) {
                self.found.wanted.insert(decl.id.clone(), decl.clone());
            }
        }
    }

    /// Reads the flags of Flux's controllers, and names those that are not known.
    fn flags(&mut self) {
        let lockdown = lockdown::read(self.found.units.values().flat_map(|u| &u.output.controllers));
        for flag in &lockdown.other_flags {
            let message = format!("flag {flag} of kustomize-controller is not known here and changes nothing");
            let at = lockdown.found_at.clone();
            self.found.problems.push(Problem { code: Code::FlagNotHonoured, message, at, unit: None });
        }
        self.found.lockdown = lockdown;
    }

    /// A unit's variables; `None` for a unit without `postBuild`.
    fn variables(&self, unit: &Kustomization, settled: bool) -> Result<Option<(Variables, Vec<Note>)>, Wait> {
        let Some(post_build) = &unit.post_build else { return Ok(None) };
        match substitute::resolve(post_build, &unit.id.namespace, self.target, &self.inputs, settled) {
            Resolution::Ready(variables, notes) => Ok(Some((variables, notes))),
            Resolution::Waiting => Err(Wait::Later),
            Resolution::Unavailable(note) => Err(Wait::Never(note)),
        }
    }

    /// The variables of a unit that itself produces what it refers to.
    fn own_variables(&self, unit: &Kustomization, raw: &UnitOutput) -> Option<Variables> {
        let post_build = unit.post_build.as_ref()?;
        let mut inputs = self.inputs.clone();
        for (secret, key, known, at) in &raw.produced {
            let produced = Produced { unit: unit.id.clone(), at: at.clone(), known: known.clone() };
            inputs.add(*secret, &unit::namespace_or_default(key), &key.name, produced);
        }
        match substitute::resolve(post_build, &unit.id.namespace, self.target, &inputs, true) {
            Resolution::Ready(variables, _) => Some(variables),
            _ => None,
        }
    }

    /// Takes in a rendered unit: what it produces, declares and defines.
    pub(super) fn accept(&mut self, id: UnitId, mut worked: Worked, depth: usize) {
        let output = worked.output.clone();
        let substituted = worked.held.as_ref().is_none_or(|h| h.code != Code::SubstitutionInputMissing);
        for (secret, key, known, at) in &output.produced {
            let known = if substituted { known.clone() } else { Known::Elsewhere("the unit that produces it is held") };
            let produced = Produced { unit: id.clone(), at: at.clone(), known };
            self.inputs.add(*secret, &unit::namespace_or_default(key), &key.name, produced);
        }
        let source_tree = worked.kustomization.as_ref().and_then(|k| self.source(k).ok());
        let place = |at: &Location| match &source_tree {
            Some(tree) => Place::new(at.clone(), tree.tree.clone()),
            None => Place::nowhere(&at.source),
        };
        let suspended = worked.kustomization.as_ref().is_some_and(Kustomization::suspended);
        let mut defined = Vec::new();
        for item in &output.items {
            match item {
                Item::Source { kind, id: name, node, at, .. } => {
                    let mut notes = Vec::new();
                    let read = source::read(node, &place(at), kind, name.clone(), &mut notes);
                    let problem =
                        |n: Note| Problem { code: n.code, message: n.message, at: Some(n.at), unit: Some(id.clone()) };
                    match read {
                        Ok(decl) => {
                            self.declared.entry((kind.clone(), name.clone())).or_insert(decl);
                        }
                        // The root's own address is the hub's business, whatever Git says.
                        Err(_) if self.root_ids.contains(name) => {}
                        Err(note) => worked.problems.push(problem(note)),
                    }
                    // What is not honoured matters for sources units use; others are handed through as they are.
                    if kind == "GitRepository" {
                        worked.problems.extend(notes.into_iter().map(problem));
                    }
                }
                Item::Child { id: child, node, at } if *child != id => {
                    defined.push((child.clone(), node.clone(), place(at)))
                }
                _ => {}
            }
        }
        for (child, node, place) in defined {
            self.define(&id, &mut worked, child, node, place, depth, substituted);
        }
        if suspended && !worked.children.is_empty() {
            let message = format!(
                "unit {id} is suspended; the {} unit(s) it defines still follow Git as it stands; suspend them too if they should not",
                worked.children.len()
            );
            worked.problems.push(Problem::new(Code::ParentSuspended, &id, Some(worked.defined_at.clone()), message));
        }
        self.found.units.insert(id, worked);
    }

    #[allow(clippy::too_many_arguments)] // one call, and no two of them belong together
    fn define(
        &mut self,
        parent: &UnitId,
        worked: &mut Worked,
        child: UnitId,
        node: Node,
        place: Place,
        depth: usize,
        substituted: bool,
    ) {
        let first = self.found.units.get(&child).map(|w| (&w.defined_at, &w.parent));
        let first = first.or_else(|| self.waiting.get(&child).map(|d| (&d.place.at, &d.parent)));
        if let Some((at, by)) = first {
            let by = by.as_ref().map_or_else(|| "as the root".to_owned(), |by| format!("by unit {by}"));
            let message = format!(
                "Kustomization {child} is defined here by unit {parent} and in {at} {by}; the latter is used; remove one of the two"
            );
            worked.problems.push(Problem::new(Code::DuplicateUnit, parent, Some(place.at), message));
            return;
        }
        if !substituted && (child.name.contains('$') || child.namespace.contains('$')) {
            // A name that is not known yet is no name to show.
            return;
        }
        worked.children.push(child.clone());
        let hold = |code, message: String| Problem::new(code, &child, Some(place.at.clone()), message);
        let held = if !substituted {
            Some(hold(
                Code::ParentHeld,
                format!(
                    "unit {child} is defined by unit {parent}, which is held: its definition may have values that are not known"
                ),
            ))
        } else if depth + 1 >= DEPTH {
            Some(hold(
                Code::UnitCycle,
                format!("unit {child} is defined {DEPTH} units deep; Kustomizations may define each other in a circle"),
            ))
        } else if self.found.units.len() + self.waiting.len() >= limits::BUNDLE_UNITS {
            Some(hold(Code::TooMany, format!("the cluster has more than {} units", limits::BUNDLE_UNITS)))
        } else {
            None
        };
        let definition = Definition { node, place, parent: Some(parent.clone()), depth: depth + 1 };
        if held.is_some() {
            let mut unit = self.unresolved(&child, &definition);
            unit.held = held;
            self.found.units.insert(child, unit);
            return;
        }
        self.waiting.insert(child, definition);
    }
}

impl Kustomization {
    /// Suspended in Git, and not taken over.
    pub(crate) fn suspended(&self) -> bool {
        self.suspend && !self.spec.take_over
    }
}

/// What a unit that could not be read is given: nothing is done with it while it is held.
pub(crate) fn inert_spec() -> UnitSpec {
    UnitSpec {
        prune: false,
        deletion_policy: DeletionPolicy::Orphan,
        interval_seconds: 600,
        retry_interval_seconds: 600,
        timeout_seconds: 300,
        wait: false,
        force: false,
        depends_on: Vec::new(),
        health_checks: Vec::new(),
        service_account: None::<ServiceAccount>,
        drift_mode: DriftMode::Correct,
        remediation_interval_seconds: 0,
        remediate_only_when_healthy: false,
        validation: Validation::None,
        take_over: false,
    }
}
