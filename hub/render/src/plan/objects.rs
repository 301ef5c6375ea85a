//! Which object went where: between two sets of units that differ.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{Late, LateInput, ObjectOptions};
use driftless_protocol::id::UnitId;
use driftless_protocol::marks;
use driftless_protocol::object::{Name, ObjectKey};
use serde_json::Value;

use super::fate::{self, Circumstances, Standing};
use super::fields::differences;
use super::immutable;
use super::model::{Action, ChangedField, Fate, Immutable, Leaving, ObjectPlan, ObjectText, OptionChange, Outcome};
use super::path::FieldPath;
use super::redact::Redactor;
use super::units::Pair;
use crate::flux::{RenderState, RenderedObject, RenderedUnit};
use crate::scope::LiveKey;

/// Label or annotation that lets one object be deleted and created again.
const FORCE: &str = "kustomize.toolkit.fluxcd.io/force";

/// What happens to the objects of the units that differ.
#[derive(Default)]
pub(crate) struct Objects {
    /// By the unit that has the object, or had it last.
    pub(crate) plans: BTreeMap<UnitId, Vec<ObjectPlan>>,
    /// By the unit that had the object.
    pub(crate) leaving: BTreeMap<UnitId, Vec<Leaving>>,
    /// Deletes were more than the budget, which was this.
    pub(crate) over_budget: Option<u32>,
}

type Held<'a> = (&'a RenderedUnit, &'a RenderedObject);

/// The objects of one side.
struct Side<'a> {
    by_key: BTreeMap<LiveKey<'a>, Held<'a>>,
    withheld: BTreeSet<LiveKey<'a>>,
}

impl<'a> Side<'a> {
    fn of(units: impl Iterator<Item = &'a RenderedUnit> + Clone) -> Self {
        let objects =
            units.clone().flat_map(|unit| unit.objects().iter().map(move |o| (LiveKey::of(&o.key), (unit, o))));
        let by_key = objects.collect();
        Self { by_key, withheld: units.flat_map(|u| u.withheld().iter().map(|w| LiveKey::of(&w.key))).collect() }
    }
}

/// Where a generated object stands, without its hash.
fn base_name(object: &RenderedObject) -> Option<(&str, &str, &str, &str)> {
    let name = object.generated_name.as_deref()?;
    Some((object.key.group.as_str(), object.key.kind.as_str(), object.key.namespace.as_str(), name))
}

/// Compares the objects of pairs of units. `inventory`: how many objects the cluster has before.
pub(crate) fn compare(pairs: &[Pair<'_>], around: &Circumstances, inventory: usize, redactor: &Redactor) -> Objects {
    let base = Side::of(pairs.iter().filter_map(|p| p.base));
    let head = Side::of(pairs.iter().filter_map(|p| p.head));
    // Where units of the base stand now.
    let now: BTreeMap<&UnitId, Option<&RenderedUnit>> =
        pairs.iter().filter_map(|p| p.base.map(|base| (&base.id, p.head))).collect();
    let fate_of = |unit: &RenderedUnit, object: &RenderedObject| {
        let standing = standing(unit, now.get(&unit.id).copied().flatten())?;
        let sent_no_more = !head.withheld.contains(&LiveKey::of(&object.key));
        sent_no_more.then(|| fate::of(&object.key, &parsed(unit, object), standing, around))
    };
    let mut out = Objects::default();
    let mut taken: BTreeSet<LiveKey<'_>> = BTreeSet::new();
    let mut gone_by_name: BTreeMap<_, Vec<Held<'_>>> = BTreeMap::new();
    for (key, held) in &base.by_key {
        let left = !head.by_key.contains_key(key)
            && !head.withheld.contains(key)
            && standing(held.0, now.get(&held.0.id).copied().flatten()).is_some();
        if let Some(name) = base_name(held.1).filter(|_| left) {
            gone_by_name.entry(name).or_default().push(*held);
        }
    }
    for pair in pairs {
        let Some(unit) = pair.head else { continue };
        for object in unit.objects() {
            let plan = match base.by_key.get(&LiveKey::of(&object.key)) {
                Some((of, old)) if is_same(unit, object, of, old) => None,
                // Equal but for how it is written.
                Some((of, old)) => Some(same_key(unit, object, of, old, redactor)).filter(|plan| {
                    plan.action != Action::Change || !plan.fields.is_empty() || !plan.options.is_empty()
                }),
                None => {
                    let candidates = base_name(object).and_then(|name| gone_by_name.get(&name));
                    let was = candidates.and_then(|c| {
                        let free = |h: &&Held<'_>| !taken.contains(&LiveKey::of(&h.1.key));
                        c.iter().filter(free).find(|h| h.0.id == unit.id).or_else(|| c.iter().find(free))
                    });
                    match was {
                        Some((of, old)) => {
                            taken.insert(LiveKey::of(&old.key));
                            Some(replaced(unit, object, of, old, fate_of(of, old), redactor))
                        }
                        None => {
                            let unknown = pair.base.is_some_and(|b| !matches!(b.state, RenderState::Full { .. }))
                                || base.withheld.contains(&LiveKey::of(&object.key));
                            Some(whole(unit, object, if unknown { Action::Apply } else { Action::Create }, redactor))
                        }
                    }
                }
            };
            let Some(plan) = plan else { continue };
            if let Some(from) = &plan.moved_from {
                let key = plan.was.as_ref().unwrap_or(&plan.key).clone();
                out.leaving.entry(from.clone()).or_default().push(Leaving { key, to: unit.id.clone() });
            }
            out.plans.entry(unit.id.clone()).or_default().push(plan);
        }
    }
    for (key, (unit, object)) in &base.by_key {
        if head.by_key.contains_key(key) || taken.contains(key) {
            continue;
        }
        if let Some(fate) = fate_of(unit, object) {
            out.plans
                .entry(unit.id.clone())
                .or_default()
                .push(ObjectPlan { fate: Some(fate), ..bare(Action::Delete, object) });
        }
    }
    follow(&mut out);
    let fates = out.plans.values_mut().flatten().filter_map(|plan| plan.fate.as_mut());
    out.over_budget = fate::over_budget(inventory, fates);
    out
}

/// How a unit stands for the objects it no longer declares; `None`: they are kept, since it is held or suspended.
fn standing<'a>(before: &'a RenderedUnit, now: Option<&'a RenderedUnit>) -> Option<Standing<'a>> {
    match now.map(|now| (&now.state, &now.spec)) {
        None => Some(Standing::Left { spec: &before.spec }),
        Some((RenderState::Full { objects, withheld }, spec)) => {
            Some(Standing::Built { spec, empty: objects.is_empty() && withheld.is_empty() })
        }
        Some(_) => None,
    }
}

/// An object as a value. What only the cluster knows stays as it is written, `${NAME}`; what is known of it is filled in.
fn parsed(unit: &RenderedUnit, object: &RenderedObject) -> Value {
    if object.holes.is_none() {
        // Rendered bytes are JSON.
        return serde_json::from_slice(&object.bytes).unwrap_or(Value::Null);
    }
    let json = unit.value_of(object).ok().and_then(|node| node.to_json().ok());
    let mut value = json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null);
    let known = unit.late.as_ref().map(known_variables).unwrap_or_default();
    fill(&mut value, &known);
    value
}

/// Variables with values that no input of the cluster can replace: those after the last such input.
fn known_variables(late: &Late) -> BTreeMap<&str, &str> {
    // A text changes nothing of other variables than it gives, and those have no value here.
    let inputs = late.inputs.iter().rev().filter(|input| !matches!(input, LateInput::Text(_)));
    let last = inputs.map_while(|input| match input {
        LateInput::Values { values } => Some(values),
        LateInput::Object(_) | LateInput::Text(_) => None,
    });
    let mut out = BTreeMap::new();
    for values in last {
        for (name, value) in values {
            out.entry(name.as_str()).or_insert(value.as_str());
        }
    }
    out
}

/// Fills in `${NAME}` in every text; other expressions, and `$${NAME}`, stay.
fn fill(value: &mut Value, known: &BTreeMap<&str, &str>) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| fill(value, known)),
        Value::Array(items) => items.iter_mut().for_each(|value| fill(value, known)),
        Value::String(text) if text.contains("${") => {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(at) = rest.find("${") {
                let (before, expression) = rest.split_at(at);
                out.push_str(before);
                let name = expression.get(2..).and_then(|inside| inside.split_once('}'));
                match name.and_then(|(name, after)| Some((*known.get(name)?, after))) {
                    Some((value, after)) if !before.ends_with('$') => {
                        out.push_str(value);
                        rest = after;
                    }
                    _ => {
                        out.push_str("${");
                        rest = expression.get(2..).unwrap_or_default();
                    }
                }
            }
            out.push_str(rest);
            *text = out;
        }
        _ => {}
    }
}

fn bare(action: Action, object: &RenderedObject) -> ObjectPlan {
    ObjectPlan {
        action,
        key: object.key.clone(),
        api_version: object.api_version.clone(),
        at: object.origin.clone(),
        was: None,
        moved_from: None,
        apply: object.options.apply,
        options: Vec::new(),
        fields: Vec::new(),
        object: None,
        fate: None,
        immutable: Vec::new(),
    }
}

fn whole(unit: &RenderedUnit, object: &RenderedObject, action: Action, redactor: &Redactor) -> ObjectPlan {
    let mut value = parsed(unit, object);
    redactor.value(&object.key, &FieldPath::default(), &mut value);
    ObjectPlan { object: Some(ObjectText::of(&value)), ..bare(action, object) }
}

/// The same unit sends the same bytes, to be finished in the same way.
fn is_same(unit: &RenderedUnit, object: &RenderedObject, of: &RenderedUnit, old: &RenderedObject) -> bool {
    let finished = object.holes.is_none() || of.late == unit.late;
    of.id == unit.id && old.digest == object.digest && finished && old.options == object.options
}

fn same_key(
    unit: &RenderedUnit,
    object: &RenderedObject,
    of: &RenderedUnit,
    old: &RenderedObject,
    redactor: &Redactor,
) -> ObjectPlan {
    let moved = of.id != unit.id;
    let (before, after) = (parsed(of, old), parsed(unit, object));
    let mut fields = differences(&before, &after);
    if moved {
        fields.retain(|change| !is_owner_label(&change.path));
    }
    let mark = |of: &str| after.get("metadata").and_then(|m| m.get(of)?.get(FORCE)?.as_str());
    let force =
        unit.spec.force || object.options.force || [mark("labels"), mark("annotations")].contains(&Some("enabled"));
    let immutable = immutable::findings(&object.key, &before, &after)
        .into_iter()
        .map(|found| Immutable {
            path: found.path,
            why: found.why,
            outcome: if force { Outcome::Recreated } else { Outcome::Refused },
        })
        .collect();
    fields.iter_mut().for_each(|change| redactor.field(&object.key, change));
    ignored(&object.options.ignore, &mut fields);
    ObjectPlan {
        fields,
        immutable,
        options: options(&old.options, &object.options),
        moved_from: moved.then(|| of.id.clone()),
        ..bare(if moved { Action::Move } else { Action::Change }, object)
    }
}

fn replaced(
    unit: &RenderedUnit,
    object: &RenderedObject,
    of: &RenderedUnit,
    old: &RenderedObject,
    fate: Option<Fate>,
    redactor: &Redactor,
) -> ObjectPlan {
    let mut fields = differences(&parsed(of, old), &parsed(unit, object));
    let name = FieldPath::of(&["metadata", "name"]);
    let moved = of.id != unit.id;
    fields.retain(|change| change.path != name && !(moved && is_owner_label(&change.path)));
    fields.iter_mut().for_each(|change| redactor.field(&object.key, change));
    ObjectPlan {
        fields,
        fate,
        was: Some(old.key.clone()),
        moved_from: moved.then(|| of.id.clone()),
        ..bare(Action::Replace, object)
    }
}

/// What the agent is told of an object, where that differs.
fn options(old: &ObjectOptions, new: &ObjectOptions) -> Vec<OptionChange> {
    let map = |options: &ObjectOptions| match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (map(old), map(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change =
        |name: &String| OptionChange { name: name.clone(), old: old.get(name).cloned(), new: new.get(name).cloned() };
    names.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

/// Marks the fields that an ignore rule (a JSON pointer without index) leaves to others.
fn ignored(rules: &[String], fields: &mut [ChangedField]) {
    for rule in rules {
        let parts: Vec<String> =
            rule.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        fields.iter_mut().filter(|change| change.path.begins(&parts)).for_each(|change| change.ignored = true);
    }
}

/// Labels that say which unit an object belongs to.
fn is_owner_label(path: &FieldPath) -> bool {
    [marks::FLUX_OWNER_NAME, marks::FLUX_OWNER_NAMESPACE, marks::UNIT_LABEL]
        .iter()
        .any(|label| *path == FieldPath::of(&["metadata", "labels", label]))
}

/// Marks fields that only follow the new name of a replaced object.
fn follow(out: &mut Objects) {
    let renamed: BTreeMap<(Name, Name), ObjectKey> = out
        .plans
        .values()
        .flatten()
        .filter_map(|plan| Some(((plan.was.as_ref()?.name.clone(), plan.key.name.clone()), plan.key.clone())))
        .collect();
    if renamed.is_empty() {
        return;
    }
    let mark = |change: &mut ChangedField| {
        if let (Some(Value::String(old)), Some(Value::String(new))) = (&change.old, &change.new) {
            change.follows = renamed.get(&(old.as_str().into(), new.as_str().into())).cloned();
        }
    };
    out.plans.values_mut().flatten().flat_map(|plan| &mut plan.fields).for_each(mark);
}
