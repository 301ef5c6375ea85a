//! From the root to all units: what is rendered when, and with what.
//!
//! Units wait for each other only for inputs: a source that another unit declares, a ConfigMap that another unit
//! produces. Rounds go over the waiting units in the order of their ids until a round brings nothing new; then what is
//! still missing is taken as missing, one unit at a time. The order is part of the result's determinism.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::bundle::{
    DeletionPolicy, DriftMode, LateInput, LateKind, LateRef, LateText, ServiceAccount, TEXT_FORMAT, UnitSpec,
    Validation,
};
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::UnitId;
use driftless_protocol::limits;
use driftless_yaml::Node;

use super::artifact::Artifact;
use super::cache::Builds;
use super::child::OpenChild;
use super::fields::Note;
use super::generator::{self, Generator};
use super::place::{Place, Step};
use super::reads::RecordingTree;
use super::root;
use super::spec::{self, Kustomization};
use super::substitute::{self, Resolution, Variables};
use super::unit::{self, Item, UnitInputs, UnitOutput};
use super::variables::{Inputs, Known, Produced};
use super::{lockdown, source};
use crate::report::{Code, Problem};
use crate::target::{Location, Lockdown, SourceDecl, Sources, Target, label};
use crate::tree::{ContentId, Tree};

/// How deep Kustomizations may define Kustomizations.
const DEPTH: usize = 32;

/// A unit found, not rendered yet.
pub(super) struct Definition {
    pub(super) node: Node,
    pub(super) place: Place,
    pub(super) parent: Option<UnitId>,
    pub(super) depth: usize,
    /// What gives those values of its `postBuild.substitute` that only the cluster has.
    pub(super) text: Option<Box<LateText>>,
}

impl Definition {
    /// The unit it defines.
    fn read(&self, id: &UnitId, notes: &mut Vec<Note>) -> Result<Kustomization, Note> {
        let mut unit = spec::read(&self.node, &self.place, id.clone(), notes)?;
        if let Some(post_build) = &mut unit.post_build {
            post_build.text.clone_from(&self.text);
        }
        Ok(unit)
    }
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
    pub(super) generators: BTreeMap<String, Generator>,
    /// Sources made ready so far, by label. They hold as long as nothing new is declared.
    pub(super) artifacts: Mutex<BTreeMap<String, Arc<Artifact>>>,
    /// Every tree that a place may lie in, by the label of its source.
    pub(super) trees: Mutex<BTreeMap<Arc<str>, Arc<dyn Tree>>>,
    /// Sources, by kind and id, whose definition has holes: why they cannot be read.
    pub(super) open_sources: BTreeMap<(String, String), String>,
    pub(super) inputs: Inputs,
    pub(super) waiting: BTreeMap<UnitId, Definition>,
    pub(super) found: Found,
}

/// What stands in the way of rendering a unit now.
pub(super) enum Wait {
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
        generators: BTreeMap::new(),
        artifacts: Mutex::default(),
        trees: Mutex::default(),
        open_sources: BTreeMap::new(),
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
    let searched = RecordingTree::new(root.tree.clone());
    let located = root::locate(root, &searched, target);
    match located {
        Ok(folder) => {
            walk.found.root_path.clone_from(&folder);
            walk.start(&folder, &searched);
            walk.run();
        }
        Err(message) => walk.no_root(message),
    }
    builds.searched(&searched);
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
            // Nothing new will come by itself. First let those go on that lose least by it.
            let Some(next) = self.waiting.keys().min_by_key(|id| self.loss(id)).cloned() else { return };
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

    /// What a unit loses when it goes on with what is known: nothing, values that will hardly come from another unit, values
    /// that may, or everything.
    fn loss(&self, id: &UnitId) -> u8 {
        let Some(definition) = self.waiting.get(id) else { return 0 };
        let Ok(unit) = definition.read(id, &mut Vec::new()) else { return 0 };
        if self.source(&unit, true).is_err() {
            return 3;
        }
        match self.variables(&unit, true) {
            Ok(None) => 0,
            Ok(Some((variables, _))) => {
                let objects = variables.late.iter().filter_map(|input| match input {
                    LateInput::Object(reference) => Some(reference),
                    LateInput::Values { .. } | LateInput::Text(_) => None,
                });
                // Who makes it is known, and it is not plain; a Secret is rarely in plain in Git; any other may come.
                let loss = |reference: &LateRef| match reference.kind {
                    _ if !reference.hint.is_empty() => 0,
                    LateKind::Secret => 1,
                    LateKind::ConfigMap => 2,
                };
                objects.map(loss).max().unwrap_or(0)
            }
            Err(_) => 3,
        }
    }

    /// Renders a unit. `Err` when something it needs may still come.
    pub(super) fn attempt(&mut self, id: &UnitId, definition: &Definition, settled: bool) -> Result<Worked, ()> {
        let mut notes = Vec::new();
        let unit = definition.read(id, &mut notes);
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
        worked.source = label(&unit.source_kind, &format!("{}/{}", unit.source_namespace, unit.source_name));
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
        let artifact = match self.source(&unit, settled) {
            Ok(artifact) => artifact,
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
        let no_variables = Variables::default();
        let strict = self.lockdown.feature_gates.get(super::lockdown::STRICT).copied().unwrap_or(true);
        let build = |variables: Option<&Variables>| {
            let (kustomization, source, tree) = (&unit, worked.source.as_str(), artifact.source.tree.clone());
            let filled = self.filled.filter(|_| artifact.from_root);
            let rules = &artifact.rules;
            let (is_root, memo) = (Arc::ptr_eq(&tree, &self.root_tree), self.builds.memo());
            self.builds.build(&UnitInputs {
                kustomization,
                source,
                tree,
                is_root,
                variables,
                rules,
                filled,
                strict,
                memo,
            })
        };
        let mut available = worked.held.is_none();
        let mut output = build(available.then(|| variables.as_ref().unwrap_or(&no_variables)));
        let open = |variables: &Variables| variables.late.iter().filter(|i| matches!(i, LateInput::Object(_))).count();
        let missing = variables.as_ref().map_or(usize::from(!available), open);
        if missing > 0
            && let Some(own) = self.own_variables(&unit, &output)
            && (!available || open(&own) < missing)
        {
            // What it needs is its own: in the cluster the last apply has brought it.
            output = build(Some(&own));
            (available, worked.held) = (true, None);
        }
        worked.output = output;
        self.found.revisions.extend(artifact.revisions.iter().cloned());
        worked.problems.extend(worked.output.notes.iter().cloned().map(problem));
        if let Some(note) = &worked.output.failed
            && worked.held.is_none()
        {
            worked.held = Some(problem(note.clone()));
        }
        let defines = worked.output.items.iter().any(|i| matches!(i, Item::Child { .. }));
        worked.complete = worked.output.failed.is_none()
            && (available || !defines)
            && !(unit.suspended() && defines)
            && !worked.output.unknown_child;
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
            let known =
                if substituted { known.clone() } else { Known::Elsewhere("the unit that produces it is held".into()) };
            let produced = Produced { unit: id.clone(), at: at.clone(), known };
            self.inputs.add(*secret, &unit::namespace_or_default(key), &key.name, produced);
        }
        let trees = std::mem::take(&mut *self.trees.lock().unwrap_or_else(PoisonError::into_inner));
        let place = |at: &Location| match trees.get(&at.source) {
            Some(tree) => Place::new(at.clone(), tree.clone(), self.builds.memo()),
            None => Place::closed(at.clone()),
        };
        let suspended = worked.kustomization.as_ref().is_some_and(Kustomization::suspended);
        let mut defined = Vec::new();
        for item in &output.items {
            match item {
                // The hub's own source needs no declaration.
                Item::Source { kind, id: name, open: Some(why), .. } => {
                    self.open_sources.entry((kind.clone(), name.clone())).or_insert_with(|| why.clone());
                }
                Item::Source { kind, id: name, node, at, .. } => {
                    let said = self.declare(kind, name, node, &place(at));
                    let problem =
                        |n: Note| Problem { code: n.code, message: n.message, at: Some(n.at), unit: Some(id.clone()) };
                    worked.problems.extend(said.into_iter().map(problem));
                }
                Item::Child { id: child, node, at, open } if *child != id => {
                    defined.push((child.clone(), node.clone(), place(at), open.clone()))
                }
                _ => {}
            }
        }
        for (child, node, place, open) in defined {
            let mut text = None;
            let unread = match open {
                Some(OpenChild::Held(why)) => Some((Code::HoleRefused, why)),
                Some(OpenChild::Text(found)) if substituted => {
                    let unread = (self.target.agent_reads < TEXT_FORMAT).then(|| too_old(&child, &id, &found));
                    text = Some(placed(found, &place));
                    unread
                }
                _ if substituted => None,
                _ => {
                    let message = format!(
                        "unit {child} is defined by unit {id}, which is held: its definition may have values that are not known"
                    );
                    Some((Code::ParentHeld, message))
                }
            };
            let parent = Some(id.clone());
            let definition = Definition { node, place, parent, depth: depth + 1, text };
            self.define(&id, &mut worked, child, definition, unread);
        }
        if suspended && !worked.children.is_empty() {
            let message = format!(
                "unit {id} is suspended; the {} unit(s) it defines still follow Git as it stands; suspend them too if they should not",
                worked.children.len()
            );
            worked.problems.push(Problem::new(Code::ParentSuspended, &id, Some(worked.defined_at.clone()), message));
        }
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).extend(trees);
        self.found.units.insert(id, worked);
    }

    /// Takes in a source object; what is said about it concerns the unit that holds it.
    fn declare(&mut self, kind: &str, name: &str, node: &Node, place: &Place) -> Vec<Note> {
        let mut notes = Vec::new();
        let own = kind == "GitRepository" && self.root_ids.contains(name);
        if kind == generator::KIND {
            match Generator::read(node, place, name, &mut notes) {
                Ok(generator) => {
                    self.generators.entry(name.to_owned()).or_insert(generator);
                }
                Err(note) => notes.push(note),
            }
        } else {
            match source::read(node, place, kind, name.to_owned(), &mut notes) {
                Ok(decl) => {
                    if own && decl.verify.is_some() && !self.sources.root_is_verified() {
                        let message = format!(
                            "spec.verify of {name}, the root's own source, is checked only where the hub's start file says so \
                             (`verify` of that source), and it was not checked here"
                        );
                        notes.push(Note { code: Code::FieldNotHonoured, at: place.at.clone(), message });
                    }
                    self.declared.entry((kind.to_owned(), name.to_owned())).or_insert(decl);
                }
                // The root's own address is the hub's business, whatever Git says.
                Err(_) if own => {}
                Err(note) => notes.push(note),
            }
        }
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        notes
    }

    fn define(
        &mut self,
        parent: &UnitId,
        worked: &mut Worked,
        child: UnitId,
        definition: Definition,
        unread: Option<(Code, String)>,
    ) {
        let place = definition.place.clone();
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
        if unread.is_some() && (child.name.contains('$') || child.namespace.contains('$')) {
            // A name that is not known yet is no name to show.
            return;
        }
        worked.children.push(child.clone());
        let hold = |code, message: String| Problem::new(code, &child, Some(place.at.clone()), message);
        let held = if let Some((code, why)) = unread {
            Some(hold(code, why))
        } else if definition.depth >= DEPTH {
            Some(hold(
                Code::UnitCycle,
                format!("unit {child} is defined {DEPTH} units deep; Kustomizations may define each other in a circle"),
            ))
        } else if self.found.units.len() + self.waiting.len() >= limits::BUNDLE_UNITS {
            Some(hold(Code::TooMany, format!("the cluster has more than {} units", limits::BUNDLE_UNITS)))
        } else {
            None
        };
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

/// A text with the places of its values.
fn placed(mut text: Box<LateText>, place: &Place) -> Box<LateText> {
    for (name, at) in &mut text.open {
        let path = ["spec", "postBuild", "substitute", name].map(Step::Key);
        *at = place.field(&path).to_string();
    }
    text
}

/// Why a unit with a text is held for an agent that does not know them.
fn too_old(child: &UnitId, parent: &UnitId, text: &LateText) -> (Code, String) {
    let names: Vec<&str> = text.open.keys().map(String::as_str).collect();
    let message = format!(
        "unit {child} takes {} of its spec.postBuild.substitute from what only the cluster has, through unit {parent}; the \
         agent of this cluster cannot fill that in, or has not told yet that it can: update the agent (or give the variables \
         values in Git or by a cluster fact); it goes on by itself then",
        names.join(", ")
    );
    (Code::AgentTooOld, message)
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
        ..UnitSpec::default()
    }
}
