//! What a reviewer should see first.

use driftless_protocol::object::ObjectKey;

use super::fate::BEYOND_BUDGET;
use super::model::{Action, FateKind, ObjectPlan, Outcome, UnitPlan, UnitState, Warning, WarningCode, WithheldChange};
use crate::flux::RenderedCluster;
use crate::report::Problem;

/// Objects named in one message.
const NAMED: usize = 5;

/// The warnings of a cluster whose root left Git.
pub(crate) fn gone(before: &RenderedCluster, inventory: usize) -> Vec<Warning> {
    let message = format!(
        "its root {} left Git: nothing is deleted for that, and nothing new comes; it keeps the {inventory} objects of {} units; \
         remove the cluster from the hub if that is meant",
        before.root_path,
        before.units.len()
    );
    vec![Warning { code: WarningCode::ClusterGone, message, unit: None, object: None, at: None }]
}

/// The warnings of a cluster, from the plans of its units.
pub(crate) fn of(units: &[UnitPlan], over_budget: Option<u32>, whole: bool) -> Vec<Warning> {
    let mut out = Vec::new();
    if let Some(budget) = over_budget {
        let message =
            format!("more than {budget} deletes (20, or 10 % of the cluster's objects): all of them wait for approval");
        out.push(Warning { code: WarningCode::DeletesHeld, message, unit: None, object: None, at: None });
    }
    for unit in units {
        states(unit, units, whole, &mut out);
        options(unit, &mut out);
        fates(unit, over_budget.is_some(), &mut out);
        for object in &unit.objects {
            immutable(unit, object, &mut out);
        }
        for object in &unit.withheld {
            let effect = match object.change {
                WithheldChange::New => "is new and not sent",
                WithheldChange::NoLongerSent => "is no longer sent, the cluster keeps what it has",
                WithheldChange::Content | WithheldChange::Gone => continue,
            };
            let message = format!("{} {effect}: {}", object.key, object.why);
            let at = Some(object.at.clone());
            out.push(Warning { object: Some(object.key.clone()), at, ..warning(WarningCode::NotSent, unit, message) });
        }
        out.extend(problems(&unit.problems));
    }
    out.sort();
    out
}

/// What rendering says that it did not say before.
pub(crate) fn problems(problems: &[Problem]) -> Vec<Warning> {
    let warning = |p: &Problem| Warning {
        code: WarningCode::NewProblem,
        message: format!("{}: {}", p.code, p.message),
        unit: p.unit.clone(),
        object: None,
        at: p.at.clone(),
    };
    problems.iter().map(warning).collect()
}

fn warning(code: WarningCode, unit: &UnitPlan, message: String) -> Warning {
    Warning { code, message, unit: Some(unit.unit.clone()), object: None, at: Some(unit.defined_at.clone()) }
}

fn states(unit: &UnitPlan, units: &[UnitPlan], whole: bool, out: &mut Vec<Warning>) {
    let id = &unit.unit;
    if let Some(why) = &unit.held {
        let renamed = units.iter().find(|u| Some(&u.unit) == unit.renamed_from.as_ref());
        let before = renamed.map_or(unit.state.before, |u| u.state.before);
        let (code, effect) = if before == UnitState::Absent {
            (WarningCode::NewUnitHeld, "nothing of it is applied until it can be")
        } else {
            (WarningCode::UnitBreaks, "the cluster keeps what it has, nothing is deleted, nothing new comes")
        };
        let message = format!("unit {id} cannot be built: {}: {}; {effect}", why.code, why.message);
        out.push(Warning { code, message, unit: Some(id.clone()), object: None, at: why.at.clone() });
    }
    let unknown = matches!(unit.state.before, UnitState::Held | UnitState::Suspended);
    if unknown && unit.state.after == UnitState::Absent && whole && unit.renamed_to.is_none() {
        let message = format!(
            "unit {id} was {} and leaves Git: what it owns in the cluster, which Git does not tell, is deleted as its last prune \
             setting says (beyond the budget only when approved)",
            unit.state.before.as_str()
        );
        out.push(warning(WarningCode::UnknownDeletes, unit, message));
    }
}

fn options(unit: &UnitPlan, out: &mut Vec<Warning>) {
    for option in &unit.options {
        let on = option.new.as_ref().and_then(serde_json::Value::as_bool);
        let (code, message) = match (option.name.as_str(), on) {
            ("prune", Some(true)) => {
                (WarningCode::PruneChanged, "prune is switched on: what leaves Git is deleted from now on")
            }
            ("prune", Some(false)) => {
                (WarningCode::PruneChanged, "prune is switched off: what leaves Git stays in the cluster from now on")
            }
            ("force", Some(true)) => (
                WarningCode::ForceOn,
                "force is switched on: objects whose immutable fields change are deleted and created again, once approved",
            ),
            _ => continue,
        };
        out.push(warning(code, unit, format!("unit {}: {message}", unit.unit)));
    }
}

/// Objects that left Git and are not simply deleted, one warning for each reason.
fn fates(unit: &UnitPlan, over_budget: bool, out: &mut Vec<Warning>) {
    let mut reasons: Vec<(FateKind, &str, Vec<&ObjectKey>)> = Vec::new();
    for object in &unit.objects {
        let Some(fate) = &object.fate else { continue };
        let routine = object.action == Action::Replace && fate.is != FateKind::NeedsApproval;
        if fate.is == FateKind::Deleted || routine {
            continue;
        }
        let key = object.was.as_ref().unwrap_or(&object.key);
        match reasons.iter_mut().find(|(is, why, _)| *is == fate.is && *why == fate.why) {
            Some((_, _, keys)) => keys.push(key),
            None => reasons.push((fate.is, &fate.why, vec![key])),
        }
    }
    for (is, why, keys) in reasons {
        let (code, effect) = match is {
            FateKind::NeedsApproval => (WarningCode::DeletesHeld, "deleted only when approved"),
            FateKind::Waits => (WarningCode::DeletesWait, "kept for now"),
            _ => (WarningCode::Orphaned, "left in the cluster, owned by nobody"),
        };
        // One warning of the cluster says so for all of them.
        if over_budget && is == FateKind::NeedsApproval && why == BEYOND_BUDGET {
            continue;
        }
        let message = format!("unit {}: {} {effect}: {why}", unit.unit, names(&keys));
        out.push(Warning {
            object: keys.first().filter(|_| keys.len() == 1).map(|k| (*k).clone()),
            ..warning(code, unit, message)
        });
    }
}

fn names(keys: &[&ObjectKey]) -> String {
    let mut text: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    if keys.len() > NAMED {
        text.push(format!("{} more", keys.len() - NAMED));
    }
    text.join(", ")
}

fn immutable(unit: &UnitPlan, object: &ObjectPlan, out: &mut Vec<Warning>) {
    for (outcome, code, effect) in [
        (
            Outcome::Refused,
            WarningCode::ImmutableRefused,
            "the API server refuses the change, the object stays as it is and the unit is not ready; give the object \
             another name, or annotate it with kustomize.toolkit.fluxcd.io/force: enabled to have it deleted and created again",
        ),
        (Outcome::Recreated, WarningCode::ImmutableRecreated, "it is deleted and created again (force), once approved"),
    ] {
        let rules: Vec<&str> =
            object.immutable.iter().filter(|i| i.outcome == outcome).map(|i| i.why.as_str()).collect();
        if rules.is_empty() {
            continue;
        }
        let message = format!("{}: {}: {effect}", object.key, rules.join("; "));
        out.push(Warning {
            code,
            message,
            unit: Some(unit.unit.clone()),
            object: Some(object.key.clone()),
            at: Some(object.at.clone()),
        });
    }
}
