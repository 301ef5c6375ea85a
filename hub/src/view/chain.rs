//! The links of the chain that are in the cluster, and the line that sums up all of them: functions of what is known.

use driftless_protocol::api::{Stage, Step, StepState};
use driftless_protocol::bundle::{DriftMode, Reason};
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, ObjectReport, ObjectState, Ready, UnitReport, reason};
use driftless_store::IntentRecord;

use super::dependency::Stands;
use crate::rendered::{UnitView, ViewState};

/// What is known of a unit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known<'a> {
    /// In the newest render.
    pub(super) view: Option<&'a UnitView>,
    /// The agent's newest report.
    pub(super) report: Option<&'a UnitReport>,
    /// An operator's suspension.
    pub(super) suspended: Option<&'a IntentRecord>,
    /// What it depends on in the newest render.
    pub(super) dependencies: &'a [(UnitId, Stands)],
}

pub(super) fn step(stage: Stage, state: StepState, message: impl Into<String>) -> Step {
    Step { stage, state, message: message.into(), code: None, file: None, line: None, revision: None, since: None }
}

impl StepExt for Step {}

pub(super) trait StepExt: Sized + Into<Step> {
    fn since(self, since: Option<u64>) -> Step {
        Step { since, ..self.into() }
    }

    fn code(self, code: impl Into<String>) -> Step {
        Step { code: Some(code.into()), ..self.into() }
    }

    fn revision(self, revision: Option<String>) -> Step {
        Step { revision, ..self.into() }
    }

    fn at(self, reason: &Reason) -> Step {
        Step { code: Some(reason.code.clone()), file: reason.file.clone(), line: reason.line, ..self.into() }
    }
}

/// In a line: what needs a person, else what it waits for, else that all is well.
pub(super) fn summary(steps: &[Step], unit: &UnitId, wanted: Option<&str>) -> String {
    let first = |state| steps.iter().find(|s| s.state == state);
    let found = first(StepState::Failed).or_else(|| first(StepState::Waiting)).or_else(|| first(StepState::Unknown));
    match (found, wanted) {
        (Some(step), _) => step.message.clone(),
        (None, Some(wanted)) => format!("all is well: {unit} runs {wanted} and is as declared"),
        (None, None) => format!("nothing is known against {unit}"),
    }
}

/// Dependency, apply, health and drift.
pub(super) fn in_cluster(known: &Known<'_>) -> Vec<Step> {
    let stages = [Stage::Dependency, Stage::Apply, Stage::Health, Stage::Drift];
    let Some(report) = known.report else {
        let mut steps = stages.map(|stage| step(stage, StepState::Unknown, "the agent has not reported it")).to_vec();
        if known.suspended.is_some() {
            steps[1] = suspension(known);
        }
        return steps;
    };
    // What the report says of an older body says nothing about the newest one; it is in force all the same.
    let older = known.view.is_some_and(|v| matches!(v.state, ViewState::Full(body) if report.desired != Some(body)));
    let mut steps = vec![dependency(known, report), apply(known, report), health(known, report), drift(known, report)];
    for step in steps.iter_mut().filter(|s| older && s.state == StepState::Ok) {
        let revision = report.applied_revision.as_deref().unwrap_or("what it had before");
        step.state = StepState::Unknown;
        step.message = format!("not reached with the newest content; the cluster keeps {revision}: {}", step.message);
    }
    let rests = known.suspended.is_some() || report.suspended || report.reason == reason::HELD;
    for step in steps.iter_mut().filter(|s| rests && s.stage > Stage::Apply && s.state == StepState::Ok) {
        step.state = StepState::Unknown;
        step.message = "not looked at while the unit is left alone".to_owned();
    }
    steps
}

fn dependency(known: &Known<'_>, report: &UnitReport) -> Step {
    let waits = |message: String| {
        let mut step = step(Stage::Dependency, StepState::Waiting, message).code(reason::DEPENDENCY_NOT_READY);
        if let Some(at) = known.view.and_then(|v| v.defined_at.as_ref()) {
            (step.file, step.line) = (Some(at.file.clone()), (at.line > 0).then_some(at.line));
        }
        step
    };
    if report.reason == reason::DEPENDENCY_NOT_READY {
        let on = report.waiting.as_ref().map_or(report.message.as_str(), |w| w.on.as_str());
        return waits(format!("waits for {on}")).since(report.waiting.as_ref().map(|w| w.since));
    }
    if report.shadow.is_some() {
        return step(Stage::Dependency, StepState::Ok, "nothing is applied in shadow mode, so it waits for nothing");
    }
    let of = |wanted: fn(&Stands) -> bool| -> Vec<&UnitId> {
        known.dependencies.iter().filter(|(_, stands)| wanted(stands)).map(|(id, _)| id).collect()
    };
    // The agent does not say so: nothing of this unit waits for it at this moment.
    if let [first, more @ ..] = of(|s| matches!(s, Stands::NotReady(_))).as_slice() {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        return waits(format!(
            "depends on {first}{more}, not ready now: what is applied stays and is healed, new content waits"
        ));
    }
    let mut message = match of(|s| *s == Stands::Ready).len() {
        0 if known.dependencies.is_empty() => "it depends on nothing".to_owned(),
        1 if known.dependencies.len() == 1 => "its dependency is ready".to_owned(),
        count if count == known.dependencies.len() => format!("all {count} dependencies are ready"),
        count => format!("{count} of {} dependencies are ready", known.dependencies.len()),
    };
    for id in of(|s| *s == Stands::Suspended) {
        message.push_str(&format!("; {id} is suspended and counts as it stands"));
    }
    for id in of(|s| *s == Stands::Expression) {
        message.push_str(&format!("; the cluster asks the readyExpr for {id} before it applies anything new"));
    }
    step(Stage::Dependency, StepState::Ok, message)
}

fn suspension(known: &Known<'_>) -> Step {
    match known.suspended {
        Some(record) => {
            let why = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
            let message = format!("suspended by {}{why}; `driftless resume` goes on", record.actor);
            step(Stage::Apply, StepState::Waiting, message).code(reason::SUSPENDED).since(Some(record.at))
        }
        None => step(Stage::Apply, StepState::Waiting, "suspended: nothing is applied, healed or deleted")
            .code(reason::SUSPENDED),
    }
}

fn apply(known: &Known<'_>, report: &UnitReport) -> Step {
    if known.suspended.is_some() || report.suspended {
        return suspension(known);
    }
    if report.reason == reason::HELD {
        let has = report.applied_revision.as_deref().unwrap_or("what it has");
        let message = format!("not reached: the hub could not build it, and the cluster keeps {has}");
        return step(Stage::Apply, StepState::Unknown, message);
    }
    if [reason::FLUX_ACTS, reason::SHADOW_EQUAL, reason::SHADOW_DIFFERS].contains(&report.reason.as_str()) {
        let state = if report.reason == reason::FLUX_ACTS && report.ready == Ready::False {
            StepState::Failed
        } else {
            StepState::Waiting
        };
        return step(Stage::Apply, state, report.message.clone()).code(&*report.reason);
    }
    let worst = report.objects.iter().find(|o| o.state == ObjectState::Failed);
    if let Some(object) = worst {
        let more = report.counts.failed.saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return of_object(known, Stage::Apply, StepState::Failed, object, &more);
    }
    if report.ready == Ready::False && report.reason == reason::FAILED {
        return step(Stage::Apply, StepState::Failed, report.message.clone()).code(&*report.reason);
    }
    if let Some(pause) = report.pauses.first() {
        let held = match report.counts.paused {
            0 => "nothing is held back so far".to_owned(),
            1 => "1 object is held back".to_owned(),
            count => format!("{count} objects are held back"),
        };
        let message = format!(
            "Pause {} covers {}: {}; {held}. Delete it to go on (kubectl -n {} delete pause {})",
            pause.name,
            pause.covers,
            pause.reason,
            pause.name.split('/').next().unwrap_or_default(),
            pause.name.split('/').nth(1).unwrap_or_default(),
        );
        return step(Stage::Apply, StepState::Waiting, message).code(reason::PAUSED).since(Some(pause.since));
    }
    if report.counts.held_deletes > 0 {
        let first = report.held_deletes.first().map(|h| format!(", first {} ({})", h.key, h.why)).unwrap_or_default();
        let count = report.counts.held_deletes;
        let message = format!(
            "{count} deletes wait for approval{first}; `driftless get deletes` lists them, `driftless approve` lets them go"
        );
        return step(Stage::Apply, StepState::Waiting, message);
    }
    if report.reason == reason::PRUNING || report.reason == reason::UNREADABLE {
        return step(Stage::Apply, StepState::Waiting, report.message.clone()).code(&*report.reason);
    }
    if report.applied.is_some() && report.applied == report.desired {
        let revision = report.applied_revision.as_ref().map(|r| format!(" as of {r}")).unwrap_or_default();
        let not_served = match report.counts.not_served {
            0 => String::new(),
            count => format!(", {count} of kinds the cluster does not serve"),
        };
        let message = format!("{} objects are applied{revision}{not_served}", report.counts.objects);
        return step(Stage::Apply, StepState::Ok, message).since(report.last_applied);
    }
    let message = match &report.waiting {
        Some(waiting) => format!("waits for {}", waiting.on),
        None => report.message.clone(),
    };
    step(Stage::Apply, StepState::Waiting, message).since(report.waiting.as_ref().map(|w| w.since))
}

fn health(known: &Known<'_>, report: &UnitReport) -> Step {
    let of = |state| report.objects.iter().find(move |o| o.state == state);
    if let Some(object) = of(ObjectState::Unhealthy) {
        let more = match report.ready {
            Ready::True => "; the unit is ready all the same, since it does not wait for health (spec.wait)",
            _ => "",
        };
        return of_object(known, Stage::Health, StepState::Failed, object, more);
    }
    if report.reason == reason::HEALTH_CHECK_FAILED {
        return step(Stage::Health, StepState::Failed, report.message.clone()).code(&*report.reason);
    }
    if let Some(object) = of(ObjectState::InProgress) {
        return of_object(known, Stage::Health, StepState::Waiting, object, "");
    }
    if report.reason == reason::HEALTH_CHECK_PENDING {
        return step(Stage::Health, StepState::Waiting, report.message.clone()).code(&*report.reason);
    }
    match report.ready {
        Ready::True => step(Stage::Health, StepState::Ok, "everything that has a health is healthy"),
        _ => step(Stage::Health, StepState::Unknown, "not judged yet"),
    }
}

fn drift(known: &Known<'_>, report: &UnitReport) -> Step {
    if let Some(contest) = report.contests.first() {
        let more = report.contests.len() - 1;
        let more = if more > 0 { format!(" (and {more} more contests)") } else { String::new() };
        let path = if contest.path.is_empty() { String::new() } else { format!(" {}", contest.path) };
        let message = format!(
            "{}{path} goes back and forth with manager {}: healed {} times within 10 min{more}; {}",
            contest.key,
            contest.manager.as_deref().unwrap_or("nobody named"),
            contest.flips,
            contest.hint
        );
        let step = step(Stage::Drift, StepState::Failed, message).code("Contested").since(Some(contest.since));
        return placed(known.view, &contest.key, step);
    }
    let Some(first) = report.drift.first() else {
        let message = match report.recent.iter().find(|e| e.what == EventKind::Healed) {
            Some(healed) => format!("no drift; healed last: {}: {}", healed.key, healed.detail),
            None => "no drift".to_owned(),
        };
        return step(Stage::Drift, StepState::Ok, message);
    };
    let manager = first.manager.as_deref().unwrap_or("nobody named");
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let more = report.drift.len() - 1;
    let more = if more > 0 { format!(" (and {more} more fields)") } else { String::new() };
    let (mode, stays) = match first.mode.unwrap_or(report.drift_mode) {
        DriftMode::Correct if !report.pauses.is_empty() => ("correct", "it stays while a Pause covers it"),
        DriftMode::Correct => ("correct", "it is healed, as the unit's settings allow"),
        DriftMode::Warn => ("warn", "it stays, since the drift mode is warn"),
        DriftMode::Observe => ("observe", "it stays, since the drift mode is observe"),
    };
    let stays = if report.shadow.is_some() { "it stays, since nothing is written in shadow mode" } else { stays };
    let path = if first.path.is_empty() { String::new() } else { format!(" {}", first.path) };
    let message = format!(
        "{}{path}: declared {}, live {} (manager {manager}){more}; {stays}",
        first.key,
        show(&first.desired),
        show(&first.live)
    );
    placed(known.view, &first.key, step(Stage::Drift, StepState::Waiting, message).code(mode).since(first.at))
}

fn of_object(known: &Known<'_>, stage: Stage, state: StepState, object: &ObjectReport, more: &str) -> Step {
    let message = format!("{}: {}{more}", object.key, object.message);
    placed(known.view, &object.key, step(stage, state, message).code(&*object.reason).since(Some(object.since)))
}

/// With the file and line that declare the object.
pub(super) fn placed(view: Option<&UnitView>, key: &ObjectKey, step: Step) -> Step {
    let at = view.and_then(|v| v.objects.iter().find(|(k, ..)| k == key)).and_then(|(_, _, at)| at.as_ref());
    match at {
        Some(at) => Step { file: Some(at.file.clone()), line: (at.line > 0).then_some(at.line), ..step },
        None => step,
    }
}

#[cfg(test)]
mod tests;
