//! Links of the chain that hold a unit back on purpose: operators, approvals, and another manager that keeps changing it.

use driftless_protocol::api::{Stage, Step, StepState};
use driftless_protocol::id::UnitId;
use driftless_protocol::report::UnitReport;
use driftless_store::{Cluster, Intent};

use super::Fleet;
use super::chain::{StepExt as _, step};
use crate::rendered::{UnitView, ViewState};

/// Suspended by an operator or by Git, frozen.
pub(super) fn pause(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId, view: Option<&UnitView>) -> Step {
    let why = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if let Some(record) = fleet.suspended(cluster, id) {
        let everywhere =
            if matches!(record.intent, Intent::Suspend { cluster: None, .. }) { " in every cluster" } else { "" };
        let message =
            format!("suspended by {}{everywhere}{}; `driftless resume` goes on", record.actor, why(&record.reason));
        return step(Stage::Pause, StepState::Waiting, message).code("Suspended").since(Some(record.at));
    }
    if let Some(view) = view.filter(|view| matches!(view.state, ViewState::Suspended)) {
        let mut step = step(Stage::Pause, StepState::Waiting, "Git suspends it (spec.suspend: true)").code("Suspended");
        if let Some(at) = &view.defined_at {
            (step.file, step.line) = (Some(at.file.clone()), (at.line > 0).then_some(at.line));
        }
        return step;
    }
    let frozen = fleet
        .frozen(None)
        .map(|r| ("the fleet", r))
        .or_else(|| fleet.frozen(Some(cluster.id)).map(|r| (cluster.name.as_str(), r)));
    if let Some((what, record)) = frozen {
        let message = format!(
            "{what} is frozen by {}{}: no new content goes out, healing goes on; `driftless unfreeze` lifts it",
            record.actor,
            why(&record.reason)
        );
        // Nothing waits for it while the cluster has the newest content.
        let state = if fleet.offered_newest(cluster) { StepState::Ok } else { StepState::Waiting };
        return step(Stage::Pause, state, message).code("Frozen").since(Some(record.at));
    }
    step(Stage::Pause, StepState::Ok, "nobody suspended or froze it")
}

/// Deletes that wait for a person.
pub(super) fn approval(cluster: &Cluster, report: Option<&UnitReport>) -> Step {
    let Some(report) = report else {
        return step(Stage::Approval, StepState::Unknown, "the agent has not reported it");
    };
    let count = report.counts.held_deletes;
    if count == 0 {
        return step(Stage::Approval, StepState::Ok, "no delete waits for approval");
    }
    let first = report.held_deletes.first().map(|h| format!(", first {} ({})", h.key, h.why)).unwrap_or_default();
    let list = super::deletes::id_of(report).unwrap_or_default();
    let message = format!(
        "{count} deletes wait for approval{first}; `driftless approve {list} --cluster {} --reason TEXT` lets them go",
        cluster.name
    );
    step(Stage::Approval, StepState::Waiting, message).code("ApprovalNeeded")
}

/// Another manager that keeps changing it.
pub(super) fn contest(report: Option<&UnitReport>) -> Step {
    let Some(report) = report else {
        return step(Stage::Contest, StepState::Unknown, "the agent has not reported it");
    };
    match report.contests.first() {
        None => step(Stage::Contest, StepState::Ok, "no other manager keeps changing it"),
        Some(contest) => {
            let more = report.contests.len() - 1;
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            let message = format!(
                "{} {} with manager {}: {} heals within 10 min{more}; {}",
                contest.key,
                contest.path,
                contest.manager.as_deref().unwrap_or("nobody named"),
                contest.flips,
                contest.hint
            );
            step(Stage::Contest, StepState::Failed, message).code("Contested").since(Some(contest.since))
        }
    }
}
