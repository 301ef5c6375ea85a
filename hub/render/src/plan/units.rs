//! From two renders of a cluster to its plan: which units differ, and how.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{LateInput, UnitSpec};
use driftless_protocol::id::{Digest, UnitId};
use serde_json::Value;

use super::definitions;
use super::fate::Circumstances;
use super::model::{
    Action, ClusterChange, ClusterPlan, Counts, FORMAT, FateKind, HeldUnit, OptionChange, Outcome, Plan, PlanGroup,
    PlanRevision, StateChange, Unaffected, UnitPlan, UnitState, WithheldChange, WithheldPlan,
};
use super::objects::{self, Objects};
use super::redact::Redactor;
use super::warnings;
use crate::flux::{RenderState, RenderedCluster, RenderedUnit, WithheldObject};
use crate::report::{Code, Problem, Severity};
use crate::target::Location;
use driftless_protocol::id::ClusterName;

/// A unit before and after.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) base: Option<&'a RenderedUnit>,
    pub(crate) head: Option<&'a RenderedUnit>,
}

/// The plan of one cluster. `None`: its root is not in Git at that revision.
#[must_use]
pub fn plan_cluster(
    base: Option<&RenderedCluster>,
    head: Option<&RenderedCluster>,
    redactor: &Redactor,
) -> ClusterPlan {
    let nothing = RenderedCluster::default();
    let change = match (base, head) {
        (Some(_), None) => ClusterChange::Gone,
        (None, Some(_)) => ClusterChange::New,
        _ => ClusterChange::Stays,
    };
    let before = base.unwrap_or(&nothing);
    let mut plan = ClusterPlan {
        change,
        counts: Counts::default(),
        warnings: Vec::new(),
        units: Vec::new(),
        held_in_both: Vec::new(),
    };
    let inventory: usize = before.units.iter().map(|u| u.objects().len()).sum();
    let Some(after) = head else {
        plan.counts.kept = inventory;
        plan.warnings = warnings::gone(before, inventory);
        plan.counts.warnings = plan.warnings.len();
        return plan;
    };
    let pairs = pairs(before, after);
    plan.held_in_both = held_in_both(&pairs);
    let differing: Vec<Pair<'_>> = pairs.iter().copied().filter(|pair| differs(*pair)).collect();
    if !differing.is_empty() {
        let around = Circumstances { torn: torn(before, after), fresh_held: fresh_held(&pairs) };
        let renames = renames(&differing);
        let mut objects = objects::compare(&differing, &around, inventory, redactor);
        plan.units = differing.iter().filter_map(|pair| unit(*pair, &differing, &renames, &mut objects)).collect();
        for unit in &plan.units {
            plan.counts.add(&unit.counts);
        }
        plan.warnings = warnings::of(&plan.units, objects.over_budget, after.whole);
        plan.warnings.extend(definitions::ended(before, after));
        plan.warnings.sort();
    }
    plan.warnings.extend(warnings::problems(&new_problems(&before.problems, &after.problems)));
    plan.counts.units = plan.units.len();
    plan.counts.warnings = plan.warnings.len();
    plan
}

impl ClusterPlan {
    /// Nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty() && self.warnings.is_empty() && self.change == ClusterChange::Stays
    }

    /// Equal for plans that say the same, wherever in files it is written.
    fn shape(&self) -> Digest {
        let mut shape = self.clone();
        shape.warnings.iter_mut().for_each(|w| w.at = None);
        shape.held_in_both.iter_mut().for_each(|held| held.why.at = None);
        for unit in &mut shape.units {
            unit.forget_places();
        }
        Digest::of(&serde_json::to_vec(&shape).unwrap_or_default())
    }
}

impl UnitPlan {
    fn forget_places(&mut self) {
        self.defined_at = Location::default();
        self.objects.iter_mut().for_each(|o| o.at = Location::default());
        self.withheld.iter_mut().for_each(|w| w.at = Location::default());
        self.problems.iter_mut().chain(&mut self.held).for_each(|p| p.at = None);
    }

    /// Equal for plans of units that say the same, wherever in files it is written.
    #[must_use]
    pub fn shape(&self) -> Digest {
        let mut shape = self.clone();
        shape.forget_places();
        Digest::of(&serde_json::to_vec(&shape).unwrap_or_default())
    }
}

impl Plan {
    /// The plan of a fleet; equal plans are put together.
    #[must_use]
    pub fn of(base: PlanRevision, head: PlanRevision, clusters: Vec<(ClusterName, ClusterPlan)>) -> Self {
        let mut plan = Self {
            format: FORMAT,
            base,
            head,
            counts: Counts::default(),
            groups: Vec::new(),
            unaffected: Vec::new(),
            live: Vec::new(),
        };
        let mut clusters = clusters;
        clusters.sort_by(|a, b| a.0.cmp(&b.0));
        let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
        for (cluster, of) in clusters {
            if of.is_empty() {
                plan.unaffected.push(Unaffected { cluster, held: of.held_in_both });
                continue;
            }
            plan.counts.add(&of.counts);
            let place = *known.entry(of.shape()).or_insert(plan.groups.len());
            match plan.groups.get_mut(place) {
                Some(group) => group.clusters.push(cluster),
                None => plan.groups.push(PlanGroup { clusters: vec![cluster], plan: of }),
            }
        }
        plan
    }
}

fn pairs<'a>(before: &'a RenderedCluster, after: &'a RenderedCluster) -> Vec<Pair<'a>> {
    let ids: BTreeSet<&UnitId> = before.units.iter().chain(&after.units).map(|u| &u.id).collect();
    ids.into_iter().map(|id| Pair { base: before.unit(id), head: after.unit(id) }).collect()
}

fn state(unit: Option<&RenderedUnit>) -> UnitState {
    match unit.map(|u| &u.state) {
        None => UnitState::Absent,
        Some(RenderState::Full { .. }) => UnitState::Built,
        Some(RenderState::Held { .. }) => UnitState::Held,
        Some(RenderState::Suspended { .. }) => UnitState::Suspended,
    }
}

fn held_in_both(pairs: &[Pair<'_>]) -> Vec<HeldUnit> {
    let held = |pair: &Pair<'_>| {
        let (before, after) = (pair.base?.held(), pair.head?);
        before?;
        Some(HeldUnit { unit: after.id.clone(), why: after.held()?.clone() })
    };
    pairs.iter().filter_map(held).collect()
}

/// Units that are held now and were not before: in the agent's eyes they may declare what another no longer does.
fn fresh_held(pairs: &[Pair<'_>]) -> BTreeSet<UnitId> {
    let fresh = pairs.iter().filter(|p| state(p.head) == UnitState::Held && state(p.base) != UnitState::Held);
    fresh.filter_map(|p| p.head.map(|u| u.id.clone())).collect()
}

/// Why a unit's absence does not mean that it left Git: a unit that is not built and defines units, or may. The likeliest:
/// one that is known to have defined some, else one whose content is not known at all.
fn torn(before: &RenderedCluster, after: &RenderedCluster) -> Option<UnitId> {
    if after.whole {
        return None;
    }
    let parents: BTreeSet<&UnitId> =
        before.units.iter().chain(&after.units).filter_map(|u| u.parent.as_ref()).collect();
    let doubt = |unit: &&RenderedUnit| match &unit.state {
        RenderState::Full { .. } => 0,
        _ if parents.contains(&unit.id) => 3,
        RenderState::Held { why } if why.code != Code::SubstitutionInputMissing => 2,
        _ => 1,
    };
    let torn = after.units.iter().rev().max_by_key(doubt);
    Some(torn.map_or_else(|| UnitId::kustomization("flux-system", "flux-system"), |u| u.id.clone()))
}

/// Whether anything a plan could show differs; quick for units that are equal.
fn differs(pair: Pair<'_>) -> bool {
    let (Some(a), Some(b)) = (pair.base, pair.head) else { return true };
    let content = match (&a.state, &b.state) {
        (RenderState::Held { .. }, RenderState::Held { .. }) => return false,
        (RenderState::Suspended { .. }, RenderState::Suspended { .. }) => false,
        (RenderState::Full { objects: x, withheld: v }, RenderState::Full { objects: y, withheld: w }) => {
            let equal = x.len() == y.len()
                && x.iter().zip(y).all(|(x, y)| x.digest == y.digest && x.key == y.key && x.options == y.options)
                && v.len() == w.len()
                && v.iter().zip(w).all(|(v, w)| same_withheld(v, w));
            !equal
        }
        _ => true,
    };
    content
        || a.late != b.late
        || a.spec != b.spec
        || a.source != b.source
        || a.path != b.path
        || a.problems != b.problems
}

fn same_withheld(a: &WithheldObject, b: &WithheldObject) -> bool {
    a.key == b.key && a.code == b.code && a.content == b.content
}

/// Units that left and units that came which are the same: old id to new id. The same folder of the same source, or else
/// most of the objects.
fn renames(differing: &[Pair<'_>]) -> BTreeMap<UnitId, UnitId> {
    let left: Vec<&RenderedUnit> = differing.iter().filter(|p| p.head.is_none()).filter_map(|p| p.base).collect();
    let mut came: Vec<&RenderedUnit> = differing.iter().filter(|p| p.base.is_none()).filter_map(|p| p.head).collect();
    let mut out = BTreeMap::new();
    for old in left {
        let keys: BTreeSet<_> = old.objects().iter().map(|o| &o.key).collect();
        let shared = |new: &RenderedUnit| new.objects().iter().filter(|o| keys.contains(&o.key)).count();
        let folder = |new: &RenderedUnit| new.source == old.source && new.path == old.path && !old.path.is_empty();
        let best = (0..came.len())
            .filter(|at| came.get(*at).is_some_and(|new| folder(new) || shared(new) * 2 > keys.len()))
            .max_by_key(|at| came.get(*at).map(|new| (folder(new), shared(new))));
        if let Some(at) = best {
            out.insert(old.id.clone(), came.remove(at).id.clone());
        }
    }
    out
}

fn unit(
    pair: Pair<'_>,
    differing: &[Pair<'_>],
    renames: &BTreeMap<UnitId, UnitId>,
    objects: &mut Objects,
) -> Option<UnitPlan> {
    let shown = pair.head.or(pair.base)?;
    let renamed_from = pair
        .head
        .filter(|_| pair.base.is_none())
        .and_then(|head| renames.iter().find(|(_, new)| **new == head.id).map(|(old, _)| old.clone()));
    let renamed_to = pair.base.filter(|_| pair.head.is_none()).and_then(|base| renames.get(&base.id)).cloned();
    let earlier = match &renamed_from {
        Some(old) => differing.iter().filter_map(|p| p.base).find(|b| b.id == *old),
        None => pair.base,
    };
    let state = StateChange { before: state(pair.base), after: state(pair.head) };
    let steady = |u: &&RenderedUnit| u.held().is_none();
    let options = match (earlier.filter(steady), pair.head.filter(steady)) {
        (Some(old), Some(new)) => options(old, new),
        _ => Vec::new(),
    };
    let problems = match pair.head {
        Some(head) => {
            let mut new = new_problems(earlier.map_or(&[][..], |e| &e.problems), &head.problems);
            // Said where the unit's state and its withheld objects are.
            let said = |p: &Problem| {
                head.withheld()
                    .iter()
                    .filter(|w| w.code != Code::DuplicateObject)
                    .any(|w| p.at.as_ref() == Some(&w.origin) && p.message.ends_with(&w.message))
            };
            new.retain(|p| Some(p) != head.held() && !said(p));
            new
        }
        None => Vec::new(),
    };
    let mut leaving = objects.leaving.remove(&shown.id).unwrap_or_default();
    leaving.retain(|l| Some(&l.to) != renamed_to.as_ref());
    leaving.sort_by(|a, b| a.key.cmp(&b.key));
    let withheld = if renamed_to.is_some() { Vec::new() } else { withheld(earlier, pair.head) };
    let mut plan = UnitPlan {
        unit: shown.id.clone(),
        renamed_from,
        renamed_to,
        defined_at: shown.defined_at.clone(),
        path: shown.path.clone(),
        state,
        held: pair.head.and_then(RenderedUnit::held).cloned(),
        options,
        objects: objects.plans.remove(&shown.id).unwrap_or_default(),
        leaving,
        withheld,
        problems,
        counts: Counts::default(),
    };
    plan.counts = counts(&plan);
    let nothing = state.before == state.after
        && plan.options.is_empty()
        && plan.objects.is_empty()
        && plan.leaving.is_empty()
        && plan.withheld.is_empty()
        && plan.problems.is_empty();
    (!nothing).then_some(plan)
}

fn counts(plan: &UnitPlan) -> Counts {
    let mut out = Counts { units: 1, ..Counts::default() };
    for object in &plan.objects {
        match object.action {
            Action::Create => out.creates += 1,
            Action::Apply => out.applies += 1,
            Action::Change => out.changes += 1,
            Action::Replace => out.replaces += 1,
            Action::Move => out.moves += 1,
            Action::Delete => {}
        }
        match object.fate.as_ref().map(|f| f.is) {
            Some(FateKind::NeedsApproval) => out.approvals += 1,
            Some(FateKind::Deleted) if object.action == Action::Delete => out.deletes += 1,
            Some(FateKind::Waits | FateKind::LeftAlone) => out.kept += 1,
            _ => {}
        }
        let outcome = |outcome| object.immutable.iter().any(|i| i.outcome == outcome);
        out.approvals += usize::from(outcome(Outcome::Recreated));
        out.refusals += usize::from(outcome(Outcome::Refused));
    }
    out
}

/// A unit's options by name, as they stand in a bundle, references as text.
fn option_values(unit: &RenderedUnit) -> BTreeMap<String, Value> {
    let spec: &UnitSpec = &unit.spec;
    let mut out: BTreeMap<String, Value> = match serde_json::to_value(spec) {
        Ok(Value::Object(map)) => map.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    let texts = |items: Vec<String>| Value::Array(items.into_iter().map(Value::from).collect());
    if !spec.depends_on.is_empty() {
        out.insert("dependsOn".into(), texts(spec.depends_on.iter().map(ToString::to_string).collect()));
    }
    if !spec.health_checks.is_empty() {
        out.insert("healthChecks".into(), texts(spec.health_checks.iter().map(ToString::to_string).collect()));
    }
    if let Some(account) = &spec.service_account {
        out.insert("serviceAccount".into(), format!("{}/{}", account.namespace, account.name).into());
    }
    for input in unit.late.iter().flat_map(|late| &late.inputs) {
        match input {
            LateInput::Values { values } => {
                out.extend(values.iter().map(|(name, value)| (format!("variable {name}"), value.clone().into())));
            }
            LateInput::Object(of) => {
                let optional = if of.optional { "optional" } else { "required" };
                out.insert(format!("variables of {} {}", of.kind, of.name), optional.into());
            }
            LateInput::Text(text) => {
                let by = format!("filled in by way of unit {}", text.by);
                out.extend(text.open.keys().map(|name| (format!("variable {name}"), Value::from(by.as_str()))));
            }
        }
    }
    out.insert("source".into(), unit.source.clone().into());
    out.insert("path".into(), unit.path.clone().into());
    out
}

fn options(old: &RenderedUnit, new: &RenderedUnit) -> Vec<OptionChange> {
    if old.spec == new.spec && old.source == new.source && old.path == new.path && old.late == new.late {
        return Vec::new();
    }
    let (mut old, mut new) = (option_values(old), option_values(new));
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let change = |name: String| {
        let (old, new) = (old.remove(&name), new.remove(&name));
        (old != new).then_some(OptionChange { name, old, new })
    };
    names.into_iter().filter_map(change).collect()
}

/// What is said now and was not before. Line numbers do not make a difference.
fn new_problems(before: &[Problem], after: &[Problem]) -> Vec<Problem> {
    let known: BTreeSet<_> = before.iter().map(|p| (p.code, without_lines(&p.message))).collect();
    let new = |p: &&Problem| p.severity() > Severity::Info && !known.contains(&(p.code, without_lines(&p.message)));
    after.iter().filter(new).cloned().collect()
}

/// A message without the line numbers in it: `a.yaml:12` as `a.yaml:`.
fn without_lines(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut after_colon = false;
    for c in message.chars() {
        if !(after_colon && c.is_ascii_digit()) {
            out.push(c);
            after_colon = c == ':';
        }
    }
    out
}

/// How withheld objects differ. A unit that was or is not built tells nothing about them.
fn withheld(before: Option<&RenderedUnit>, after: Option<&RenderedUnit>) -> Vec<WithheldPlan> {
    let built = |unit: &&RenderedUnit| matches!(unit.state, RenderState::Full { .. });
    if !before.iter().chain(&after).all(built) {
        return Vec::new();
    }
    let entry = |of: &WithheldObject, change| WithheldPlan {
        key: of.key.clone(),
        change,
        code: of.code,
        why: of.message.clone(),
        at: of.origin.clone(),
    };
    // Source objects are not sent while something that may refer to them cannot be built; nothing comes of that. What another
    // unit sends is a problem of its own.
    let listed = |w: &&WithheldObject| !matches!(w.code, Code::SourceNotSent | Code::DuplicateObject);
    let earlier: BTreeMap<_, _> =
        before.iter().flat_map(|u| u.withheld()).filter(listed).map(|w| (&w.key, w)).collect();
    let sent: BTreeSet<_> = before.iter().flat_map(|u| u.objects()).map(|o| &o.key).collect();
    let mut known: BTreeSet<_> = after.iter().flat_map(|u| u.objects()).map(|o| &o.key).collect();
    let mut out = Vec::new();
    for object in after.iter().flat_map(|u| u.withheld()) {
        known.insert(&object.key);
        if !listed(&object) {
            continue;
        }
        match earlier.get(&object.key) {
            Some(old) if same_withheld(old, object) => {}
            Some(_) => out.push(entry(object, WithheldChange::Content)),
            None if sent.contains(&object.key) => out.push(entry(object, WithheldChange::NoLongerSent)),
            None => out.push(entry(object, WithheldChange::New)),
        }
    }
    out.extend(earlier.values().filter(|w| !known.contains(&w.key)).map(|w| entry(w, WithheldChange::Gone)));
    out
}
