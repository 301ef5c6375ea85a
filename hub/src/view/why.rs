//! Why a unit is as it is: the chain from the commit to the cluster, each link with its state.

use driftless_protocol::api::{Stage, Step, StepState, Why};
use driftless_protocol::bundle::Reason;
use driftless_protocol::id::UnitId;
use driftless_protocol::report::{ObjectState, Ready, UnitReport, reason};
use driftless_rollout::State;
use driftless_store::{Cluster, Intent};

use crate::loops::render::target_of;
use crate::loops::sources::READY;
use crate::rendered::{UnitView, ViewState};
use crate::view::{Fleet, rows};

/// Builds the chain. Links behind one that is not in order say what they last knew.
pub(crate) fn why(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId) -> Why {
    let render = fleet.render(cluster);
    let view = render.and_then(|r| r.units.get(id));
    let report = fleet.reports_of(cluster.id).iter().find(|r| r.report.unit == *id).map(|r| &r.report);
    let mut steps = vec![
        source(fleet, cluster, view),
        rendered(fleet, cluster, id, view),
        rollout(fleet, cluster),
        offer(fleet, cluster),
        transport(fleet, cluster),
    ];
    steps.extend(in_cluster(fleet, cluster, id, view, report));
    let wanted = view.and_then(|v| render.and_then(|r| r.revision_of(&v.source)));
    let summary = match steps.iter().find(|s| matches!(s.state, StepState::Failed)) {
        Some(step) => step.message.clone(),
        None => match steps.iter().find(|s| s.state == StepState::Waiting) {
            Some(step) => step.message.clone(),
            None => match &wanted {
                Some(wanted) => format!("all is well: {id} runs {wanted} and is as declared"),
                None => format!("nothing is known against {id}"),
            },
        },
    };
    Why {
        cluster: cluster.name.clone(),
        unit: id.clone(),
        wanted,
        revisions: render.map(|r| r.revisions.clone()).unwrap_or_default(),
        summary,
        steps,
    }
}

fn step(stage: Stage, state: StepState, message: impl Into<String>) -> Step {
    Step { stage, state, message: message.into(), code: None, file: None, line: None, since: None }
}

impl StepExt for Step {}

trait StepExt: Sized + Into<Step> {
    fn since(self, since: Option<u64>) -> Step {
        Step { since, ..self.into() }
    }

    fn code(self, code: impl Into<String>) -> Step {
        Step { code: Some(code.into()), ..self.into() }
    }

    fn at(self, reason: &Reason) -> Step {
        Step { code: Some(reason.code.clone()), file: reason.file.clone(), line: reason.line, ..self.into() }
    }
}

fn source(fleet: &Fleet<'_>, cluster: &Cluster, view: Option<&UnitView>) -> Step {
    let (root, _) = target_of(fleet.shared, cluster);
    // A unit may read another repository than the root.
    let declared = view.and_then(|v| {
        let render = fleet.render(cluster)?;
        let wanted = render.wanted.iter().find(|w| w.id == v.source)?;
        fleet.shared.sources.find(wanted)
    });
    let handle = declared.or_else(|| root.as_ref().and_then(|id| fleet.shared.sources.get(id)));
    let Some(handle) = handle else {
        return step(Stage::Source, StepState::Failed, "the hub's start file names no source for this cluster");
    };
    let status = handle.status();
    let revision = status.last_good.as_ref().map(|(r, _)| r.to_string());
    match (status.code.as_str(), revision) {
        (READY, Some(revision)) => {
            step(Stage::Source, StepState::Ok, format!("{} of {} is at {revision}", handle.reference, handle.url))
                .since(status.last_good.map(|(_, at)| at))
        }
        ("Pending", _) => step(Stage::Source, StepState::Waiting, format!("{} is being fetched", handle.url)),
        (code, revision) => {
            let stays = revision
                .map_or_else(|| "nothing was ever fetched".to_owned(), |revision| format!("{revision} stays in use"));
            step(Stage::Source, StepState::Failed, format!("{}; {stays}", status.message))
                .code(code)
                .since(Some(status.since))
        }
    }
}

fn rendered(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId, view: Option<&UnitView>) -> Step {
    let Some(render) = fleet.render(cluster) else {
        return step(
            Stage::Render,
            StepState::Waiting,
            format!("cluster {} has not been rendered since the hub started", cluster.name),
        );
    };
    let since = Some(render.at);
    let Some(view) = view else {
        let message = format!("Git has no unit {id} for this cluster any more; what it owned is being removed or held");
        return step(Stage::Render, StepState::Ok, message).since(since);
    };
    match &view.state {
        ViewState::Held(why) => {
            let message =
                format!("the unit cannot be built and is held, the cluster keeps what it has: {}", rows::located(why));
            step(Stage::Render, StepState::Failed, message).at(why).since(since)
        }
        ViewState::Suspended => {
            let message = "Git suspends it (spec.suspend: true): nothing is applied, healed or deleted";
            step(Stage::Render, StepState::Waiting, message).code("Suspended").since(since)
        }
        ViewState::Full(_) => {
            let mut message = format!("{} objects from {} ({})", view.objects.len(), view.path, view.source);
            if !view.withheld.is_empty() {
                message.push_str(&format!(", {} withheld", view.withheld.len()));
            }
            let step = step(Stage::Render, StepState::Ok, message).since(since);
            match view.withheld.first() {
                Some(first) => step.at(&first.reason),
                None => step,
            }
        }
    }
}

fn rollout(fleet: &Fleet<'_>, cluster: &Cluster) -> Step {
    let Some(verdict) = fleet.verdict(cluster) else {
        return step(Stage::Rollout, StepState::Waiting, "the rollout has not looked at this cluster yet");
    };
    let state = match verdict.state {
        State::UpToDate | State::Moves => StepState::Ok,
        State::Waits => StepState::Waiting,
        State::Halted => StepState::Failed,
    };
    let message: Vec<&str> = verdict.reasons.iter().map(|n| n.message.as_str()).collect();
    let step = step(Stage::Rollout, state, message.join("; "));
    match verdict.reasons.first() {
        Some(first) => step.code(first.code.as_str()),
        None => step,
    }
}

fn offer(fleet: &Fleet<'_>, cluster: &Cluster) -> Step {
    let Some(head) = fleet.head(cluster) else {
        return step(Stage::Offer, StepState::Waiting, "nothing was offered to this cluster yet");
    };
    let newest = fleet.offered_newest(cluster);
    if head.expires < fleet.now / 1000 {
        let message = format!("the head of generation {} has expired: the agent takes nothing new", head.generation);
        return step(Stage::Offer, StepState::Failed, message).since(Some(head.expires * 1000));
    }
    let (state, what) = if newest {
        (StepState::Ok, "carries the newest render")
    } else {
        (StepState::Waiting, "carries an older render; the newest one waits for the rollout")
    };
    step(Stage::Offer, state, format!("generation {} was signed and {what}", head.generation))
        .since(Some(head.offered_at))
}

fn transport(fleet: &Fleet<'_>, cluster: &Cluster) -> Step {
    let connected = fleet.shared.registry.connected(cluster.id);
    let Some(connected) = connected else {
        let message = match cluster.last_seen {
            Some(_) => format!(
                "the agent of {} is not connected; it keeps enforcing what it has. Look at its log in {}, and at UDP on the way",
                cluster.name,
                driftless_protocol::marks::AGENT_NAMESPACE
            ),
            None => format!("the agent of {} has enrolled and not connected yet", cluster.name),
        };
        return step(Stage::Transport, StepState::Waiting, message).since(cluster.last_seen);
    };
    let Some(head) = fleet.head(cluster) else {
        let message = format!("the agent is connected from {}", connected.peer);
        return step(Stage::Transport, StepState::Ok, message).since(Some(connected.since));
    };
    if let Some((code, message)) = &head.refused {
        let hint = match code.as_str() {
            "Older" => {
                ". The hub's database is older than what the cluster has: after a restore, run `driftless-hub bump-epoch`"
            }
            _ => "",
        };
        let message = format!("the agent refused generation {} ({code}): {message}{hint}", head.generation);
        return step(Stage::Transport, StepState::Failed, message).code(code);
    }
    match head.taken_at {
        Some(at) => {
            let message = format!("the agent has generation {} and enforces it", head.generation);
            step(Stage::Transport, StepState::Ok, message).since(Some(at))
        }
        None => {
            let message = format!("the agent is connected and has not taken generation {} yet", head.generation);
            step(Stage::Transport, StepState::Waiting, message).since(Some(head.offered_at))
        }
    }
}

fn in_cluster(
    fleet: &Fleet<'_>,
    cluster: &Cluster,
    id: &UnitId,
    view: Option<&UnitView>,
    report: Option<&UnitReport>,
) -> Vec<Step> {
    let unknown = |stage| step(stage, StepState::Unknown, "the agent has not reported it");
    let Some(report) = report else {
        return [Stage::Dependency, Stage::Apply, Stage::Health, Stage::Drift].map(unknown).to_vec();
    };
    let suspended = fleet.intents.iter().find(|r| {
        matches!(&r.intent, Intent::Suspend { cluster: scope, unit } if unit == id && scope.is_none_or(|c| c == cluster.id))
    });
    let dependency = match &report.waiting {
        Some(waiting) if report.reason == reason::DEPENDENCY_NOT_READY => {
            step(Stage::Dependency, StepState::Waiting, format!("waits for {}", waiting.on)).since(Some(waiting.since))
        }
        _ => {
            let count = view.map_or(0, |v| v.spec.depends_on.len());
            let message = if count == 0 {
                "it depends on nothing".to_owned()
            } else {
                format!("all {count} dependencies are ready")
            };
            step(Stage::Dependency, StepState::Ok, message)
        }
    };
    let apply = match suspended {
        Some(record) => {
            let why = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
            let message = format!("suspended by {}{why}; `driftless resume` goes on", record.actor);
            step(Stage::Apply, StepState::Waiting, message).code(reason::SUSPENDED).since(Some(record.at))
        }
        None => apply(view, report),
    };
    vec![dependency, apply, health(report), drift(report)]
}

fn apply(view: Option<&UnitView>, report: &UnitReport) -> Step {
    let wanted = view.and_then(|v| match v.state {
        ViewState::Full(body) => Some(body),
        _ => None,
    });
    let worst = report.objects.iter().find(|o| o.state == ObjectState::Failed);
    if let Some(object) = worst {
        let more = report.counts.failed.saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let message = format!("{}: {}{more}", object.key, object.message);
        return step(Stage::Apply, StepState::Failed, message).code(&*object.reason).since(Some(object.since));
    }
    if report.ready == Ready::False && report.reason == reason::FAILED {
        return step(Stage::Apply, StepState::Failed, report.message.clone()).code(&*report.reason);
    }
    if report.counts.held_deletes > 0 {
        let message =
            format!("{} deletes wait for approval; `driftless describe` lists them", report.counts.held_deletes);
        return step(Stage::Apply, StepState::Waiting, message);
    }
    if report.applied.is_some() && (wanted.is_none() || report.applied == wanted) {
        let revision = report.applied_revision.as_ref().map(|r| format!(" as of {r}")).unwrap_or_default();
        let message = format!("{} objects are applied{revision}", report.counts.objects);
        return step(Stage::Apply, StepState::Ok, message).since(report.last_applied);
    }
    let message = match &report.waiting {
        Some(waiting) => format!("waits for {}", waiting.on),
        None => report.message.clone(),
    };
    step(Stage::Apply, StepState::Waiting, message).since(report.waiting.as_ref().map(|w| w.since))
}

fn health(report: &UnitReport) -> Step {
    let of = |state| report.objects.iter().find(move |o| o.state == state);
    if let Some(object) = of(ObjectState::Unhealthy) {
        let message = format!("{}: {}", object.key, object.message);
        return step(Stage::Health, StepState::Failed, message).code(&*object.reason).since(Some(object.since));
    }
    if report.reason == reason::HEALTH_CHECK_FAILED {
        return step(Stage::Health, StepState::Failed, report.message.clone()).code(&*report.reason);
    }
    if let Some(object) = of(ObjectState::InProgress) {
        let message = format!("{}: {}", object.key, object.message);
        return step(Stage::Health, StepState::Waiting, message).code(&*object.reason).since(Some(object.since));
    }
    match report.ready {
        Ready::True => step(Stage::Health, StepState::Ok, "everything that has a health is healthy"),
        _ => step(Stage::Health, StepState::Unknown, "not judged yet"),
    }
}

fn drift(report: &UnitReport) -> Step {
    let Some(first) = report.drift.first() else {
        let message = match report.recent.iter().find(|e| e.what == driftless_protocol::report::EventKind::Healed) {
            Some(healed) => format!("no drift; healed last: {}: {}", healed.key, healed.detail),
            None => "no drift".to_owned(),
        };
        return step(Stage::Drift, StepState::Ok, message);
    };
    let manager = first.manager.as_deref().unwrap_or("nobody named");
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let more = report.drift.len() - 1;
    let more = if more > 0 { format!(" (and {more} more fields)") } else { String::new() };
    let message = format!(
        "{} {}: declared {}, live {} (manager {manager}){more}",
        first.key,
        first.path,
        show(&first.desired),
        show(&first.live)
    );
    let state = match report.drift_mode {
        driftless_protocol::bundle::DriftMode::Correct => StepState::Waiting,
        // It stays because somebody said so.
        _ => StepState::Ok,
    };
    step(Stage::Drift, state, message).code(format!("{:?}", report.drift_mode)).since(first.at)
}
