//! Why a unit is as it is: the chain from the commit to the cluster, each link with its state.

use std::time::Duration;

use driftless_protocol::api::{Stage, Step, StepState, Why};
use driftless_protocol::id::UnitId;
use driftless_rollout::{Code, State};
use driftless_store::Cluster;

use crate::loops::render::target_of;
use crate::loops::sources::READY;
use crate::rendered::{UnitView, ViewState};
use crate::view::chain::{self, StepExt as _, step};
use crate::view::{Fleet, dependency, held, rows};

/// Builds the chain. Links behind one that is not in order say what they last knew.
pub(crate) fn why(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId) -> Why {
    let render = fleet.render(cluster);
    let view = render.and_then(|r| r.units.get(id));
    let stored = fleet.reports_of(cluster.id).iter().find(|r| r.report.unit == *id);
    let report = stored.map(|r| &r.report);
    let wanted = view.and_then(|v| render.and_then(|r| r.revision_of(&v.source)));
    let mut steps = vec![
        source(fleet, cluster, view),
        rendered(fleet, cluster, id, view).revision(wanted.clone()),
        rollout(fleet, cluster),
        offer(fleet, cluster, view),
        transport(fleet, cluster),
        held::pause(fleet, cluster, id, view),
    ];
    let suspended = fleet.suspended(cluster, id);
    let dependencies = view.map(|v| dependency::all(fleet, cluster, &v.spec)).unwrap_or_default();
    steps.extend(chain::in_cluster(&chain::Known { view, report, suspended, dependencies: &dependencies }));
    for step in &mut steps {
        match step.stage {
            Stage::Dependency if step.state == StepState::Waiting => {
                if let Some(blocker) = dependency::blocker(fleet, cluster, id) {
                    step.message = format!("{}; at its end {blocker}", step.message);
                }
            }
            Stage::Apply if step.file.is_none() => step.revision = report.and_then(|r| r.applied_revision.clone()),
            _ => {}
        }
        // Files and lines are those of the newest render.
        if step.file.is_some() && step.revision.is_none() {
            step.revision.clone_from(&wanted);
        }
    }
    steps.push(held::approval(cluster, report));
    steps.push(held::contest(report));
    steps.sort_by_key(|step| step.stage);
    let summary = chain::summary(&steps, id, wanted.as_deref());
    Why {
        cluster: cluster.name.clone(),
        unit: id.clone(),
        wanted,
        revisions: render.map(|r| r.revisions.clone()).unwrap_or_default(),
        summary,
        steps,
        reported_at: stored.map(|r| r.received),
        live: None,
    }
}

fn source(fleet: &Fleet<'_>, cluster: &Cluster, view: Option<&UnitView>) -> Step {
    let (root, _) = target_of(fleet.shared, cluster);
    // A unit may read another repository than the root.
    let declared = view.and_then(|v| {
        let render = fleet.render(cluster)?;
        let wanted = render.wanted.iter().find(|w| w.label() == v.source)?;
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
                .revision(Some(revision.clone()))
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
        if let Some(why) = render.incomplete() {
            let message = format!(
                "what defines the unit could not be built, the cluster keeps what it has: {}",
                rows::located(why)
            );
            return step(Stage::Render, StepState::Failed, message).at(why).since(since);
        }
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
        // Somebody wanted it so: nothing failed.
        State::Halted if verdict.reasons.iter().all(|n| matches!(n.code, Code::FleetFrozen | Code::Frozen)) => {
            StepState::Waiting
        }
        State::Halted => StepState::Failed,
    };
    let message: Vec<&str> = verdict.reasons.iter().map(|n| n.message.as_str()).collect();
    // What waits has waited since it was rendered.
    let since = fleet.render(cluster).map(|r| r.at).filter(|_| state != StepState::Ok);
    let step = step(Stage::Rollout, state, message.join("; ")).since(since);
    match verdict.reasons.first() {
        Some(first) => step.code(first.code.as_str()),
        None => step,
    }
}

fn offer(fleet: &Fleet<'_>, cluster: &Cluster, view: Option<&UnitView>) -> Step {
    if let Some(why) = fleet.shared.blocked(cluster.id) {
        return step(Stage::Offer, StepState::Failed, format!("nothing can be offered to {}: {why}", cluster.name));
    }
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
    let revision = view.and_then(|v| head.revisions.iter().find(|r| r.source == v.source));
    step(Stage::Offer, state, format!("generation {} was signed and {what}", head.generation))
        .revision(revision.map(|r| r.revision.to_string()))
        .since(Some(head.offered_at))
}

/// Why the agent cannot come back by itself, if so: its newest certificate ended too long ago. `now` in Unix seconds.
fn shut_out(cluster: &Cluster, grace: Duration, now: u64) -> Option<String> {
    const DAY: u64 = 86_400;
    // None was recorded: it enrols at this moment.
    let end = Some(cluster.certificate.not_after).filter(|end| *end > 0)?;
    let ago = now.checked_sub(end).filter(|ago| *ago > grace.as_secs())?;
    Some(format!(
        "the certificate of {0} ended {1} days ago, and the hub renews one until {2} days after its end (fleet.renewExpiredDays \
         in its start file): raise that, or remove the cluster (`driftless cluster remove {0}`, nothing in it is touched) and \
         enrol it anew (`driftless cluster join-token --name {0}`)",
        cluster.name,
        ago / DAY,
        grace.as_secs() / DAY
    ))
}

fn transport(fleet: &Fleet<'_>, cluster: &Cluster) -> Step {
    let connected = fleet.shared.registry.connected(cluster.id);
    let Some(connected) = connected else {
        let grace = fleet.shared.config.fleet.renew_expired();
        if let Some(message) = shut_out(cluster, grace, fleet.now / 1000) {
            let since = Some(cluster.certificate.not_after * 1000);
            return step(Stage::Transport, StepState::Failed, message).code("CertificateExpired").since(since);
        }
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

#[cfg(test)]
mod tests {
    use driftless_protocol::id::{ClusterId, Digest};
    use driftless_store::{Certificate, ClusterState};

    use super::*;

    #[test]
    fn a_certificate_beyond_its_grace_is_named_with_both_ways_out() {
        let cluster = |not_after| Cluster {
            id: ClusterId::from_bytes([1; 16]),
            name: "prod".parse().unwrap(),
            labels: Default::default(),
            kube_uid: "uid".into(),
            state: ClusterState::Active,
            agent_key: Digest::of(b"key"),
            certificate: Certificate { digest: Digest::of(b"leaf"), serial: "1".into(), not_after },
            certificate_count: 1,
            last_seen: None,
            created: 0,
        };
        let grace = Duration::from_secs(2 * 86_400);
        let now = 10 * 86_400;
        for good in [0, now + 1, now, now - grace.as_secs()] {
            assert_eq!(shut_out(&cluster(good), grace, now), None, "{good}");
        }
        let message = shut_out(&cluster(now - 3 * 86_400), grace, now).unwrap();
        for word in
            ["prod ended 3 days ago", "until 2 days after", "renewExpiredDays", "cluster remove prod", "--name prod"]
        {
            assert!(message.contains(word), "{message}");
        }
        assert!(shut_out(&cluster(now - 1), Duration::ZERO, now).is_some());
    }
}
