//! From built units to a rendered cluster: dependencies, one owner per object, accounts, what is sent at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{LateInput, ServiceAccount};
use driftless_protocol::id::{UnitId, UnitKind};
use driftless_protocol::limits;
use driftless_protocol::object::ObjectKey;

use super::cluster::{Found, Worked, inert_spec};
use super::generator;
use super::graph::{self, Edges};
use super::rendered::{RenderState, RenderedCluster, RenderedObject, RenderedUnit, WithheldObject};
use super::spec;
use super::unit::{Item, sources_of};
use crate::report::{Code, Problem};
use crate::scope::placed;
use crate::target::{Location, Lockdown};

/// Dependencies that follow from `wait` and health checks, in all: beyond any real cluster, and a bound on what chains of
/// them cost. What is beyond is not waited for.
const FOLLOWING_EDGES: usize = 100_000;
/// And behind one dependency.
const INSIDE: usize = 1_000;

/// Finishes a cluster.
pub(crate) fn finish(mut found: Found) -> RenderedCluster {
    dependencies(&mut found.units);
    let edges = effective(&found.units);
    let ranks = graph::ranks(&edges);
    let complete = found.units.values().all(|u| u.complete);
    let references = references(&found.units);
    let mut out = RenderedCluster {
        root_path: found.root_path,
        units: Vec::with_capacity(found.units.len()),
        whole: complete,
        wanted_sources: found.wanted.into_values().collect(),
        revisions: found.revisions.into_iter().collect(),
        problems: found.problems,
        lockdown: found.lockdown,
    };
    // Whom some expression asks about.
    let asked: BTreeSet<UnitId> = found
        .units
        .iter()
        .filter_map(|(id, unit)| Some((id, &unit.kustomization.as_ref()?.spec.ready_exprs)))
        .filter(|(_, exprs)| !exprs.is_empty())
        .flat_map(|(id, exprs)| exprs.iter().map(|ready| ready.unit.clone()).chain([id.clone()]))
        .collect();
    let mut owners: BTreeMap<ObjectKey, Owner> = BTreeMap::new();
    for (id, unit) in &found.units {
        claim(id, unit, ranks.get(id).copied().unwrap_or(usize::MAX), &mut owners);
    }
    let mut objects = 0;
    for (id, unit) in found.units {
        let depends_on = edges.get(&id).map(|deps| deps.iter().cloned().collect()).unwrap_or_default();
        let definition = unit.kustomization.as_ref().filter(|_| asked.contains(&id)).map(|k| k.definition.clone());
        let mut rendered = unit_of(unit, depends_on, id == found.root, &out.lockdown);
        rendered.0.definition = definition;
        if let Some(items) = rendered.1.take() {
            rendered.0.state = state(items, &mut rendered.0.problems, &id, &owners, &references, complete);
        }
        objects += rendered.0.objects().len();
        if objects > limits::BUNDLE_OBJECTS {
            let message =
                format!("the cluster has more than {} objects; move some to another cluster", limits::BUNDLE_OBJECTS);
            let why = Problem::new(Code::TooMany, &id, Some(rendered.0.defined_at.clone()), message);
            objects -= rendered.0.objects().len();
            rendered.0.problems.push(why.clone());
            rendered.0.state = RenderState::Held { why };
        }
        out.units.push(rendered.0);
    }
    let accounts: BTreeMap<UnitId, ServiceAccount> =
        out.units.iter().filter_map(|unit| Some((unit.id.clone(), unit.spec.service_account.clone()?))).collect();
    for late in out.units.iter_mut().filter_map(|unit| unit.late.as_mut()) {
        read_as(&mut late.inputs, &accounts);
    }
    out
}

/// Fills in whose rights the inputs of units above are read with: known once all units are.
fn read_as(inputs: &mut [LateInput], accounts: &BTreeMap<UnitId, ServiceAccount>) {
    for input in inputs {
        if let LateInput::Text(text) = input {
            text.account = accounts.get(&text.by).cloned();
            read_as(&mut text.inputs, accounts);
        }
    }
}

/// The sources that objects handed through refer to, and the sources those are made of: kind and `namespace/name`.
fn references(units: &BTreeMap<UnitId, Worked>) -> BTreeSet<(String, String)> {
    let mut open: Vec<(String, String)> = units.values().flat_map(|u| u.output.references.iter().cloned()).collect();
    if open.is_empty() {
        return BTreeSet::new();
    }
    let items = || units.values().flat_map(|u| &u.output.items);
    let mut out = BTreeSet::new();
    while let Some((kind, id)) = open.pop() {
        if !out.insert((kind.clone(), id.clone())) {
            continue;
        }
        for item in items() {
            let Item::Source { kind: of, id: name, node, .. } = item else { continue };
            if (of, name) == (&kind, &id) {
                open.extend(sources_of(of, name, node));
            } else if kind == "ExternalArtifact" && of == generator::KIND && makes(name, node, &id) {
                open.push((of.clone(), name.clone()));
            }
        }
    }
    out
}

/// Whether a generator may make an ExternalArtifact.
fn makes(generator: &str, node: &driftless_yaml::Node, artifact: &str) -> bool {
    let (namespace, name) = artifact.split_once('/').unwrap_or_default();
    generator.split('/').next() == Some(namespace) && generator::node_may_make(node, name)
}

/// Units that could not be built, named in one message.
const UNKNOWN: usize = 5;
/// What stands before them.
pub(crate) const UNKNOWN_UNITS: &str = "not known is what these units, which could not be built, would define:";

/// Whether a name is another with one letter changed, added or left out.
fn is_near(one: &str, other: &str) -> bool {
    if one.len().min(other.len()) < 3 {
        return false;
    }
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let rest = (one.get(same..).unwrap_or_default(), other.get(same..).unwrap_or_default());
    let behind = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(|(a, b)| a == b).count();
    rest.0.len().max(rest.1.len()).saturating_sub(behind) <= 1
}

/// Holds units whose dependencies do not exist or go in a circle.
fn dependencies(units: &mut BTreeMap<UnitId, Worked>) {
    let names: BTreeSet<UnitId> = units.keys().cloned().collect();
    let unknown_parents: Vec<UnitId> = units.values().filter(|u| !u.complete).map(|u| u.id.clone()).collect();
    let mut edges = Edges::new();
    for unit in units.values_mut() {
        let Some(kustomization) = &unit.kustomization else { continue };
        for (to, at) in &kustomization.depends_on {
            if names.contains(to) {
                edges.entry(unit.id.clone()).or_default().insert(to.clone());
            } else if unit.held.is_none() {
                let near = names.iter().find(|id| is_near(&id.name, &to.name) && id.namespace == to.namespace);
                let near = near.filter(|id| **id != unit.id).map(|id| format!("; did you mean {id}?"));
                // Nobody knows which of them, if any.
                let unknown = match unknown_parents.as_slice() {
                    [] => String::new(),
                    ids => {
                        let shown: Vec<String> = ids.iter().take(UNKNOWN).map(ToString::to_string).collect();
                        let more = ids.len().saturating_sub(UNKNOWN);
                        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                        format!("; {UNKNOWN_UNITS} {}{more}", shown.join(", "))
                    }
                };
                let message = format!(
                    "unit {} depends on {to}, which this cluster does not have{}; add that Kustomization, or remove the dependency{unknown}",
                    unit.id,
                    near.unwrap_or_default()
                );
                unit.held = Some(Problem::new(Code::DependencyNotFound, &unit.id, Some(at.clone()), message));
            }
        }
    }
    for (id, way) in graph::cycles(&edges) {
        let Some(unit) = units.get_mut(&id) else { continue };
        let next = way.get(1);
        let at = unit.kustomization.as_ref().and_then(|k| k.depends_on.iter().find(|(to, _)| Some(to) == next));
        let at = at.map_or_else(|| unit.defined_at.clone(), |(_, at)| at.clone());
        let names: Vec<String> = way.iter().map(ToString::to_string).collect();
        let message = format!("dependsOn goes in a circle: {}; remove one of these dependencies", names.join(" -> "));
        unit.held.get_or_insert(Problem::new(Code::DependencyCycle, &id, Some(at), message));
    }
}

/// The edges an agent needs, where all units of a cluster exist from the start. With Flux a child does not exist before its
/// parent was applied, so it waits for what its parent waits for; and a parent with `wait` is ready only when its children
/// are. Edges that would close a circle are left out: Flux would not go on there either on a new cluster, and does on one
/// that is already set up.
fn effective(units: &BTreeMap<UnitId, Worked>) -> Edges {
    let mut edges = Edges::new();
    let mut extra: BTreeSet<(UnitId, UnitId)> = BTreeSet::new();
    let mut waited: BTreeMap<&UnitId, BTreeSet<UnitId>> = BTreeMap::new();
    for (id, unit) in units {
        edges.entry(id.clone()).or_default();
        let mut ancestor = Some(unit);
        let mut own = true;
        // Units are defined at most 32 deep.
        for _ in 0..64 {
            let Some(at) = ancestor else { break };
            for (to, _) in at.kustomization.iter().flat_map(|k| &k.depends_on) {
                if own {
                    edges.entry(id.clone()).or_default().insert(to.clone());
                } else {
                    extra.insert((id.clone(), to.clone()));
                }
                let inside = waited.entry(to).or_insert_with(|| waited_for(units, to));
                if extra.len() + inside.len() <= FOLLOWING_EDGES {
                    extra.extend(inside.iter().map(|child| (id.clone(), child.clone())));
                }
            }
            own = false;
            ancestor = at.parent.as_ref().and_then(|p| units.get(p));
        }
    }
    extra.retain(|(_, to)| units.contains_key(to));
    graph::extend(&mut edges, extra);
    edges
}

/// The units whose readiness is part of this one's: children when it waits, and Kustomizations among its health checks.
fn waited_for(units: &BTreeMap<UnitId, Worked>, id: &UnitId) -> BTreeSet<UnitId> {
    let mut out = BTreeSet::new();
    let mut open = vec![id.clone()];
    while let Some(id) = open.pop() {
        if out.len() >= INSIDE {
            break;
        }
        let Some(unit) = units.get(&id) else { continue };
        let Some(kustomization) = &unit.kustomization else { continue };
        let checked = kustomization.spec.health_checks.iter().filter_map(checked_unit);
        let children = unit.children.iter().filter(|_| kustomization.spec.wait).cloned();
        open.extend(children.chain(checked).filter(|next| out.insert(next.clone())));
    }
    out
}

fn checked_unit(key: &ObjectKey) -> Option<UnitId> {
    (key.group == spec::GROUP && key.kind == UnitKind::Kustomization.as_str())
        .then(|| UnitId::kustomization(key.namespace.clone(), key.name.clone()))
}

/// Who sends an object, when several units hold it.
struct Owner {
    rank: usize,
    unit: UnitId,
    at: Location,
    others: Vec<(UnitId, Location)>,
}

/// The unit furthest up the dependencies has an object; among equals the first by id. So a namespace that two units hold
/// is made by the one the other waits for.
fn claim(id: &UnitId, unit: &Worked, rank: usize, owners: &mut BTreeMap<ObjectKey, Owner>) {
    if !sends(unit) {
        return;
    }
    for item in &unit.output.items {
        let object = match item {
            Item::Object(object) => object,
            Item::Source { object, .. } => match &**object {
                Item::Object(object) => object,
                _ => continue,
            },
            _ => continue,
        };
        let claim = Owner { rank, unit: id.clone(), at: object.origin.clone(), others: Vec::new() };
        let place = placed(&object.key);
        match owners.get_mut(&place) {
            None => {
                owners.insert(place, claim);
            }
            Some(owner) if owner.unit == *id => owner.others.push((id.clone(), claim.at)),
            Some(owner) if rank < owner.rank => {
                let mut loser = std::mem::replace(owner, claim);
                owner.others.append(&mut loser.others);
                owner.others.push((loser.unit, loser.at));
            }
            Some(owner) => owner.others.push((id.clone(), claim.at)),
        }
    }
}

fn sends(unit: &Worked) -> bool {
    unit.held.is_none() && unit.kustomization.as_ref().is_some_and(|k| !k.suspended())
}

/// The unit without its objects, and the build's items when it is to have some.
fn unit_of(
    unit: Worked,
    depends_on: Vec<UnitId>,
    is_root: bool,
    lockdown: &Lockdown,
) -> (RenderedUnit, Option<Arc<super::unit::UnitOutput>>) {
    let Worked { id, defined_at, parent, source, kustomization, output, held, mut problems, .. } = unit;
    let (path, mut unit_spec, suspended) = match &kustomization {
        Some(k) => (k.path.clone(), k.spec.clone(), k.suspended()),
        None => (String::new(), inert_spec(), false),
    };
    unit_spec.depends_on = depends_on;
    unit_spec.defined_by = parent.clone();
    unit_spec.health_checks.retain(|key| checked_unit(key).is_none());
    // A root that Git does not hold has no account of its own to be locked into.
    let synthesised = is_root && defined_at.file.is_empty();
    if unit_spec.service_account.is_none() && !synthesised && kustomization.is_some() {
        unit_spec.service_account = lockdown
            .default_service_account
            .as_ref()
            .map(|name| ServiceAccount { namespace: id.namespace.clone(), name: name.clone() });
    }
    if let Some(account) = &unit_spec.service_account
        && account.name == "kustomize-controller"
        && account.namespace == "flux-system"
    {
        // Flux's way to say "the controller's own rights": our agent's, since that account goes away with Flux.
        unit_spec.service_account = None;
    }
    let (state, items) = match held {
        // Suspended is suspended, buildable or not: nothing is healed either.
        why if suspended => {
            let declares = why.is_none().then(|| declared(&output));
            problems.extend(why);
            (RenderState::Suspended { declares }, None)
        }
        Some(why) => {
            problems.push(why.clone());
            (RenderState::Held { why }, None)
        }
        None => (RenderState::Full { objects: Vec::new(), withheld: Vec::new() }, Some(output.clone())),
    };
    let reads = output.reads.clone();
    let late = output.late.clone().filter(|_| items.is_some());
    let open = output.open.clone();
    let definition = None;
    let spec = unit_spec;
    let unit =
        RenderedUnit { id, defined_at, parent, source, path, spec, definition, state, problems, reads, late, open };
    (unit, items)
}

/// What a build holds that is or would be sent, sorted.
fn declared(output: &super::unit::UnitOutput) -> Vec<ObjectKey> {
    fn key(item: &Item) -> Option<ObjectKey> {
        match item {
            Item::Object(object) => Some(object.key.clone()),
            Item::Withheld(object) => Some(object.key.clone()),
            // Sent or not: it may be what another unit's object refers to.
            Item::Source { object, .. } => key(object),
            Item::Child { .. } => None,
        }
    }
    let mut keys: Vec<ObjectKey> = output.items.iter().filter_map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn state(
    output: Arc<super::unit::UnitOutput>,
    problems: &mut Vec<Problem>,
    id: &UnitId,
    owners: &BTreeMap<ObjectKey, Owner>,
    references: &BTreeSet<(String, String)>,
    complete: bool,
) -> RenderState {
    let mut objects: Vec<RenderedObject> = Vec::with_capacity(output.items.len());
    let mut withheld: Vec<WithheldObject> = Vec::new();
    let mut seen: BTreeSet<ObjectKey> = BTreeSet::new();
    for item in &output.items {
        let object = match item {
            Item::Object(object) => object,
            Item::Withheld(object) => {
                problems.push(Problem::new(
                    object.code,
                    id,
                    Some(object.origin.clone()),
                    format!("{} is not sent: {}", object.key, object.message),
                ));
                withheld.push(object.clone());
                continue;
            }
            Item::Child { .. } => continue,
            Item::Source { kind, id: name, object, .. } => match &**object {
                Item::Object(object) if references.contains(&(kind.clone(), name.clone())) => object,
                // A unit that could not be built may hold the reference: keep what an earlier bundle may have sent.
                Item::Object(object) if !complete => {
                    let message =
                        "a source that Driftless itself reads; sent only when an object handed through refers to it";
                    withheld.push(WithheldObject {
                        key: object.key.clone(),
                        code: Code::SourceNotSent,
                        message: message.to_owned(),
                        origin: object.origin.clone(),
                        content: object.digest,
                    });
                    continue;
                }
                _ => continue,
            },
        };
        let place = placed(&object.key);
        if let Some(owner) = owners.get(&place).filter(|o| !o.others.is_empty()) {
            let twice_here = owner.others.iter().any(|(unit, _)| unit == id) && owner.unit == *id;
            let first = owner.unit == *id && seen.insert(place);
            let other =
                if first { owner.others.first().map(|(unit, at)| (unit, at)) } else { Some((&owner.unit, &owner.at)) };
            if let Some((unit, at)) = other {
                let whose = if twice_here { "this unit itself".to_owned() } else { format!("unit {unit}") };
                let effect = if first { "this one is applied" } else { "that one is applied, this one is not" };
                let message = format!("{} is also held by {whose} ({at}); {effect}; remove one of the two", object.key);
                problems.push(Problem::new(Code::DuplicateObject, id, Some(object.origin.clone()), message.clone()));
                if !first {
                    // Twice in one unit it has one key; withholding it would contradict itself.
                    if !twice_here {
                        withheld.push(WithheldObject {
                            key: object.key.clone(),
                            code: Code::DuplicateObject,
                            message,
                            origin: object.origin.clone(),
                            content: object.digest,
                        });
                    }
                    continue;
                }
            }
        }
        objects.push(object.clone());
    }
    let mut controllers: BTreeMap<String, (usize, &Location)> = BTreeMap::new();
    for object in objects.iter().filter(|o| o.handed_through) {
        controllers.entry(format!("{}.{}", object.key.kind, object.key.group)).or_insert((0, &object.origin)).0 += 1;
    }
    for (kind, (count, first)) in controllers {
        let message = format!("{count} {kind} handed through: the controller of that kind must run in the cluster");
        problems.push(Problem::new(Code::HandedThrough, id, Some(first.clone()), message));
    }
    RenderState::Full { objects, withheld }
}
