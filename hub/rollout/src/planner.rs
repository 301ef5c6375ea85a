//! The rules as named steps.

use crate::Policy;
use crate::health::Health;
use crate::report::{Action, ActionKind, Code, Note, Plan, State, Verdict};
use crate::view::{ClusterView, Content, FleetView, Freeze};

/// Decides for every cluster. `now` is Unix seconds. Equal inputs give equal plans.
#[must_use]
pub fn plan(policy: &Policy, view: &FleetView, now: u64) -> Plan {
    let mut clusters: Vec<&ClusterView> = view.clusters.iter().collect();
    clusters.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let canaries: Vec<&ClusterView> = clusters.iter().copied().filter(|c| c.canary).collect();
    let mut out = Plan::default();
    for cluster in clusters {
        let (state, reasons) = decide(view, &canaries, cluster);
        let kind = match (&cluster.desired, &cluster.offered) {
            (Some(desired), _) if state == State::Moves => Some(ActionKind::Offer { content: desired.id }),
            (_, Some(offered)) if offered.expires < now.saturating_add(policy.refresh_seconds) => {
                Some(ActionKind::Refresh)
            }
            _ => None,
        };
        out.actions.extend(kind.map(|kind| Action { cluster: cluster.id, kind }));
        for reason in reasons.iter().filter(|_| state == State::Halted) {
            if !out.halts.contains(reason) {
                out.halts.push(reason.clone());
            }
        }
        out.verdicts.push(Verdict { cluster: cluster.id, name: cluster.name.clone(), state, reasons });
    }
    if let Some(freeze) = &view.frozen {
        // First, and once: it is in the verdict of every cluster that has something to wait for.
        out.halts.retain(|halt| halt.code != Code::FleetFrozen);
        out.halts.insert(0, frozen(Code::FleetFrozen, "the fleet", freeze));
    }
    out.actions.sort_by_key(|a| !canaries.iter().any(|c| c.id == a.cluster));
    out
}

fn decide(view: &FleetView, canaries: &[&ClusterView], cluster: &ClusterView) -> (State, Vec<Note>) {
    let Some(desired) = &cluster.desired else {
        let message = format!("{} has not been rendered since the hub started", cluster.name);
        return (State::Waits, vec![Note::new(Code::NotRendered, message)]);
    };
    if cluster.has_desired() {
        return up_to_date(cluster);
    }
    if let Some(freeze) = &view.frozen {
        return (State::Halted, vec![frozen(Code::FleetFrozen, "the fleet", freeze)]);
    }
    if let Some(freeze) = &cluster.frozen {
        return (State::Halted, vec![frozen(Code::Frozen, cluster.name.as_str(), freeze)]);
    }
    if cluster.canary {
        let message = format!("{} is a canary and gets new content first", cluster.name);
        return (State::Moves, vec![Note::new(Code::CanaryFirst, message)]);
    }
    gate(canaries, desired)
}

fn up_to_date(cluster: &ClusterView) -> (State, Vec<Note>) {
    let refused = cluster.offered.as_ref().and_then(|o| o.refused.as_ref());
    match refused {
        Some((code, message)) => {
            let message = format!("the agent of {} refused the last offer ({code}): {message}", cluster.name);
            (State::Halted, vec![Note::new(Code::Refused, message)])
        }
        None => (State::UpToDate, vec![Note::new(Code::UpToDate, "it was offered what Git says")]),
    }
}

/// Whether every canary that shares a source with this content has passed it.
fn gate(canaries: &[&ClusterView], desired: &Content) -> (State, Vec<Note>) {
    let (mut passed, mut waits, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for canary in canaries {
        match canary_passes(canary, desired) {
            Pass::Other => {}
            Pass::Yes => passed.push(canary.name.as_str()),
            Pass::NotYet(note) => waits.push(note),
            Pass::Failed(note) => failed.push(note),
        }
    }
    if !failed.is_empty() {
        failed.extend(waits);
        return (State::Halted, failed);
    }
    if !waits.is_empty() {
        return (State::Waits, waits);
    }
    let note = if passed.is_empty() {
        Note::new(Code::NoCanary, "no canary reads its sources; nothing is in the way")
    } else {
        Note::new(Code::CanaryPassed, format!("healthy on it: {}", passed.join(", ")))
    };
    (State::Moves, vec![note])
}

enum Pass {
    /// It reads other sources.
    Other,
    Yes,
    NotYet(Note),
    Failed(Note),
}

fn canary_passes(canary: &ClusterView, desired: &Content) -> Pass {
    let name = &canary.name;
    let Some(own) = &canary.desired else {
        // Which sources it reads is not known: it might be one of these.
        let message = format!("canary {name} has not been rendered since the hub started");
        return Pass::NotYet(Note::new(Code::CanaryNotRendered, message));
    };
    let mut shared = desired
        .revisions
        .iter()
        .filter_map(|r| own.revisions.iter().find(|o| o.source == r.source).map(|o| (r, o)))
        .peekable();
    if shared.peek().is_none() {
        return Pass::Other;
    }
    if let Some((wanted, _)) = shared.find(|(wanted, own)| wanted.revision != own.revision) {
        let message = format!("canary {name} is still being rendered at {} of {}", wanted.revision, wanted.source);
        return Pass::NotYet(Note::new(Code::CanaryNotRendered, message));
    }
    if !canary.has_desired() {
        let (code, why) = match &canary.frozen {
            Some(_) => (Code::CanaryFrozen, "is frozen"),
            None => (Code::CanaryProgressing, "is being offered it"),
        };
        return Pass::NotYet(Note::new(code, format!("canary {name} {why}")));
    }
    if let Some((code, message)) = canary.offered.as_ref().and_then(|o| o.refused.as_ref()) {
        let message = format!("canary {name} refused it ({code}): {message}");
        return Pass::Failed(Note::new(Code::CanaryFailed, message));
    }
    match &canary.health {
        Health::Healthy => Pass::Yes,
        Health::Failed { what } => {
            let message = format!(
                "canary {name} failed: {what}. Fix it in Git, or take the label {} off it",
                crate::CANARY_LABEL
            );
            Pass::Failed(Note::new(Code::CanaryFailed, message))
        }
        _ if !canary.connected => {
            let message = format!("canary {name} is not connected and has not said that it is healthy");
            Pass::NotYet(Note::new(Code::CanaryAway, message))
        }
        Health::Progressing { what } => {
            Pass::NotYet(Note::new(Code::CanaryProgressing, format!("canary {name} is on the way: {what}")))
        }
        Health::Unknown => {
            Pass::NotYet(Note::new(Code::CanaryProgressing, format!("canary {name} has not reported yet")))
        }
    }
}

fn frozen(code: Code, what: &str, freeze: &Freeze) -> Note {
    let why = if freeze.reason.is_empty() { String::new() } else { format!(": {}", freeze.reason) };
    Note::new(code, format!("{what} was frozen by {}{why}; `driftless unfreeze` lets content go", freeze.actor))
}
