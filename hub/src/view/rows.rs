//! Tables.

use std::collections::BTreeMap;

use driftless_protocol::api::{ClusterRow, FleetStatus, Frozen, SourceRow, UnitCounts, UnitRow};
use driftless_protocol::bundle::{DriftMode, Reason};
use driftless_protocol::id::{ClusterName, UnitId};
use driftless_protocol::report::{Ready, UnitReport, reason};
use driftless_rollout::{Note, State};
use driftless_store::{Cluster, IntentRecord, StoredUnitReport};

use crate::loops::rollout::is_canary;
use crate::loops::sources::READY;
use crate::rendered::{ClusterRender, UnitView, ViewState};
use crate::shared::VERSION;
use crate::view::{Fleet, attribute};

pub(crate) fn status(fleet: &Fleet<'_>) -> FleetStatus {
    FleetStatus {
        hub_version: VERSION.to_owned(),
        now: fleet.now,
        frozen: fleet.frozen(None).map(frozen),
        clusters: fleet.clusters.iter().map(|c| cluster(fleet, c)).collect(),
        sources: sources(fleet),
        rollout: fleet.plan().halts.iter().map(note).collect(),
        pending: fleet.pending.clone(),
    }
}

fn frozen(record: &IntentRecord) -> Frozen {
    Frozen { actor: record.actor.clone(), since: record.at, reason: record.reason.clone() }
}

/// A note of the rollout as a reason.
pub(crate) fn note(note: &Note) -> Reason {
    Reason { code: note.code.as_str().to_owned(), message: note.message.clone(), file: None, line: None }
}

pub(crate) fn cluster(fleet: &Fleet<'_>, cluster: &Cluster) -> ClusterRow {
    let (head, agent, render) = (fleet.head(cluster), fleet.agent(cluster), fleet.render(cluster));
    let connected = fleet.shared.registry.is_connected(cluster.id);
    let units = units(fleet, cluster);
    let counts = count(&units);
    let applied = agent.and_then(|a| a.report.generation);
    let revision = if fleet.offered_newest(cluster) && applied.is_some() && applied == head.map(|h| h.generation) {
        render.and_then(super::super::rendered::ClusterRender::root_revision)
    } else {
        // What the agent last applied whole, as its units say.
        fleet.reports_of(cluster.id).iter().find_map(|r| r.report.applied_revision.clone())
    };
    let (ready, message) = summary(fleet, cluster, connected, &units, &counts);
    ClusterRow {
        id: cluster.id,
        name: cluster.name.clone(),
        labels: cluster.labels.clone(),
        connected,
        last_seen: cluster.last_seen,
        ready,
        message,
        offered: head.map(|h| h.generation),
        applied,
        revision,
        frozen: fleet.frozen(Some(cluster.id)).or(fleet.frozen(None)).is_some(),
        shadow: agent.is_some_and(|a| a.report.shadow),
        canary: is_canary(cluster),
        units: counts,
        agent_version: agent.map(|a| a.report.agent_version.clone()).unwrap_or_default(),
        kubernetes_version: agent.map(|a| a.report.kubernetes_version.clone()).unwrap_or_default(),
        pauses: agent.map(|a| a.report.pauses.clone()).unwrap_or_default(),
    }
}

fn summary(
    fleet: &Fleet<'_>,
    cluster: &Cluster,
    connected: bool,
    units: &[UnitRow],
    counts: &UnitCounts,
) -> (Ready, String) {
    if !connected {
        let message = match cluster.last_seen {
            Some(_) => "its agent is not connected; it keeps enforcing what it has",
            None => "its agent has enrolled and not connected yet",
        };
        return (Ready::Unknown, message.to_owned());
    }
    if let Some(head) = fleet.head(cluster)
        && let Some((code, message)) = &head.refused
    {
        return (Ready::False, format!("its agent refused the last offer ({code}): {message}"));
    }
    if let Some(problem) = fleet.agent(cluster).and_then(|a| a.report.problems.first()) {
        return (Ready::False, problem.message.clone());
    }
    if fleet.agent(cluster).is_some_and(|a| a.report.shadow) {
        return shadow(units);
    }
    if let Some(failed) = units.iter().find(|u| u.ready == Ready::False) {
        return (Ready::False, format!("{}: {}", failed.unit, failed.message));
    }
    if let Some(verdict) = fleet.verdict(cluster)
        && verdict.state == State::Halted
        && let Some(why) = verdict.reasons.first()
    {
        return (Ready::Unknown, why.message.clone());
    }
    let Some(head) = fleet.head(cluster) else {
        let why = fleet.verdict(cluster).and_then(|v| v.reasons.first()).map(|n| n.message.clone());
        return (Ready::Unknown, why.unwrap_or_else(|| "nothing was offered yet".to_owned()));
    };
    if head.taken_at.is_none() {
        return (Ready::Unknown, format!("generation {} is on its way", head.generation));
    }
    if let Some(waiting) = units.iter().find(|u| u.ready == Ready::Unknown && !u.suspended) {
        return (Ready::Unknown, format!("{}: {}", waiting.unit, waiting.message));
    }
    let paused = if counts.paused > 0 { format!(", {} paused", counts.paused) } else { String::new() };
    (Ready::True, format!("{} units ready{paused}", counts.ready))
}

/// A cluster that is only compared.
fn shadow(units: &[UnitRow]) -> (Ready, String) {
    let with = |ready| units.iter().filter(|u| u.ready == ready && !u.suspended).count();
    let message = match (with(Ready::False), with(Ready::Unknown)) {
        (0, 0) => {
            return (Ready::True, "shadow, nothing is written: zero differences with the cluster".to_owned());
        }
        (0, open) => format!("shadow, nothing is written: {open} units are not compared yet"),
        (differ, _) => {
            format!("shadow, nothing is written: {differ} of {} units differ (driftless shadow)", units.len())
        }
    };
    let ready = if with(Ready::False) > 0 { Ready::False } else { Ready::Unknown };
    (ready, message)
}

pub(crate) fn count(units: &[UnitRow]) -> UnitCounts {
    let mut counts = UnitCounts::default();
    for unit in units {
        counts.total += 1;
        match unit.ready {
            _ if unit.suspended => counts.suspended += 1,
            Ready::True => counts.ready += 1,
            Ready::False => counts.failed += 1,
            Ready::Unknown => counts.progressing += 1,
        }
        counts.drifted += u32::from(unit.drifted > 0);
        counts.held_deletes += unit.held_deletes;
        counts.paused += u32::from(unit.paused.is_some());
    }
    counts
}

/// Every unit that Git has or the agent still speaks of.
pub(crate) fn units(fleet: &Fleet<'_>, cluster: &Cluster) -> Vec<UnitRow> {
    let reports: BTreeMap<&UnitId, &StoredUnitReport> =
        fleet.reports_of(cluster.id).iter().map(|r| (&r.report.unit, r)).collect();
    let mut out = Vec::new();
    if let Some(render) = fleet.render(cluster) {
        for (id, view) in render.units.iter() {
            out.push(unit(fleet, cluster, id, Some(view), reports.get(id).copied()));
        }
    }
    for (id, report) in reports {
        if fleet.render(cluster).is_none_or(|r| !r.units.contains_key(id)) {
            out.push(unit(fleet, cluster, id, None, Some(report)));
        }
    }
    out.sort_by(|a, b| a.unit.cmp(&b.unit));
    out
}

pub(crate) fn unit(
    fleet: &Fleet<'_>,
    cluster: &Cluster,
    id: &UnitId,
    view: Option<&UnitView>,
    stored: Option<&StoredUnitReport>,
) -> UnitRow {
    let render = fleet.render(cluster);
    unit_row(
        &cluster.name,
        id,
        &UnitFacts {
            view,
            revision: view.and_then(|v| render.and_then(|r| r.revision_of(&v.source))),
            incomplete: render.and_then(ClusterRender::incomplete),
            report: stored.map(|s| &s.report),
            connected: fleet.shared.registry.is_connected(cluster.id),
            offered_newest: fleet.offered_newest(cluster),
            suspended: fleet.suspended(cluster, id),
        },
    )
}

/// What a row is made of.
#[derive(Clone, Debug, Default)]
struct UnitFacts<'a> {
    /// In the newest render.
    view: Option<&'a UnitView>,
    /// The revision of its source in the newest render.
    revision: Option<String>,
    /// Why the newest render may lack units.
    incomplete: Option<&'a Reason>,
    /// The agent's newest report.
    report: Option<&'a UnitReport>,
    /// Whether the agent has a session.
    connected: bool,
    /// Whether the cluster was offered the newest render.
    offered_newest: bool,
    /// An operator's suspension.
    suspended: Option<&'a IntentRecord>,
}

fn unit_row(cluster: &ClusterName, id: &UnitId, facts: &UnitFacts<'_>) -> UnitRow {
    let (view, report) = (facts.view, facts.report);
    let state = view.map(|v| &v.state);
    let mut row = UnitRow {
        cluster: cluster.clone(),
        unit: id.clone(),
        ready: report.map_or(Ready::Unknown, |r| r.ready),
        reason: report.map_or_else(|| reason::PROGRESSING.to_owned(), |r| r.reason.clone()),
        message: match report {
            Some(report) => report.message.clone(),
            None if facts.connected => "the agent has not reported it yet".to_owned(),
            None => "the agent is not connected and has never reported it".to_owned(),
        },
        revision: report.and_then(|r| r.applied_revision.clone()),
        last_applied: report.and_then(|r| r.last_applied),
        suspended: report.is_some_and(|r| r.suspended)
            || facts.suspended.is_some()
            || matches!(state, Some(ViewState::Suspended)),
        drift_mode: report.map_or(view.map_or(DriftMode::default(), |v| v.spec.drift_mode), |r| r.drift_mode),
        drifted: report.map_or(0, |r| r.counts.drifted),
        objects: match view {
            Some(v) if matches!(v.state, ViewState::Full(_)) => u32::try_from(v.objects.len()).unwrap_or(u32::MAX),
            _ => report.map_or(0, |r| r.counts.objects),
        },
        held_deletes: report.map_or(0, |r| r.counts.held_deletes),
        paused: report.and_then(|r| r.pauses.first().cloned()),
        stale: report.is_some() && !facts.connected,
    };
    if let Some(ViewState::Held(why)) = state {
        row.ready = Ready::False;
        row.reason = reason::HELD.to_owned();
        row.message = format!("{}; the cluster keeps what it has", located(why));
    } else if let (None, Some(why)) = (state, facts.incomplete) {
        row.ready = Ready::False;
        row.reason = reason::HELD.to_owned();
        row.message = format!("what defines it could not be built: {}; the cluster keeps what it has", located(why));
    } else if row.suspended {
        suspended_row(&mut row, facts);
    } else if let (Some(ViewState::Full(body)), Some(report)) = (state, report) {
        if report.applied == Some(*body) {
            at_newest(&mut row, facts, report);
        }
        if report.desired != Some(*body) && facts.offered_newest && facts.connected {
            row.ready = Ready::Unknown;
            row.reason = reason::PROGRESSING.to_owned();
            let revision = facts.revision.as_deref().unwrap_or("the newest content");
            row.message = format!("{revision} was offered; the cluster has not begun with it");
        }
    }
    row
}

/// The newest commit changes nothing here: the cluster is at it.
fn at_newest(row: &mut UnitRow, facts: &UnitFacts<'_>, report: &UnitReport) {
    let Some(newest) = &facts.revision else { return };
    // The agent's words name the revision at which it last wrote something.
    if let Some(message) = attribute::at_revision(report, newest) {
        row.message = message;
    }
    row.revision = Some(newest.clone());
}

/// Who suspended it, and whether the cluster knows.
fn suspended_row(row: &mut UnitRow, facts: &UnitFacts<'_>) {
    let by = match facts.suspended {
        Some(record) if record.reason.is_empty() => format!("suspended by {}", record.actor),
        Some(record) => format!("suspended by {}: {}", record.actor, record.reason),
        None if matches!(facts.view.map(|v| &v.state), Some(ViewState::Suspended)) => {
            "suspended in Git (spec.suspend)".to_owned()
        }
        None => "resumed; the cluster has not taken it up yet".to_owned(),
    };
    let told = facts.report.is_none_or(|r| r.suspended);
    row.ready = Ready::Unknown;
    row.reason = reason::SUSPENDED.to_owned();
    row.message = if told { by } else { format!("{by}; the cluster has not confirmed it yet") };
}

/// `file:line: message`.
pub(crate) fn located(reason: &Reason) -> String {
    match (&reason.file, reason.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: {}", reason.message),
        (Some(file), None) => format!("{file}: {}", reason.message),
        _ => reason.message.clone(),
    }
}

pub(crate) fn sources(fleet: &Fleet<'_>) -> Vec<SourceRow> {
    let readers = |reads: &dyn Fn(&ClusterRender) -> bool| -> Vec<ClusterName> {
        let read = |c: &&Cluster| fleet.render(c).is_some_and(reads);
        fleet.clusters.iter().filter(read).map(|c| c.name.clone()).collect()
    };
    let time = |at: u64| (at > 0).then_some(at);
    let book = &fleet.shared.sources;
    let mut rows: Vec<SourceRow> = book
        .all()
        .iter()
        .map(|handle| {
            let status = handle.status();
            let clusters = readers(&|r| {
                let uses = |w| book.find(w).is_some_and(|found| found.id == handle.id);
                r.root_source == handle.id || r.wanted.iter().any(uses)
            });
            SourceRow {
                id: handle.id.clone(),
                kind: handle.kind.clone(),
                url: handle.url.clone(),
                reference: handle.reference.to_string(),
                ready: match status.code.as_str() {
                    READY => Ready::True,
                    "Pending" => Ready::Unknown,
                    _ => Ready::False,
                },
                reason: status.code,
                message: status.message,
                revision: status.last_good.as_ref().map(|(revision, _)| revision.to_string()),
                fetched_at: status.last_good.and_then(|(_, at)| time(at)),
                attempted_at: time(status.attempted_at),
                since: time(status.since),
                clusters,
            }
        })
        .collect();
    // Declared, and not even tried.
    rows.extend(book.refusals().into_iter().map(|refused| SourceRow {
        id: refused.declared.label(),
        kind: refused.declared.kind.clone(),
        url: refused.declared.url.clone(),
        reference: refused.declared.reference.to_string(),
        ready: Ready::False,
        reason: "Refused".to_owned(),
        message: refused.reason,
        revision: None,
        fetched_at: None,
        attempted_at: None,
        since: time(refused.since),
        clusters: readers(&|r| r.wanted.iter().any(|w| w.fetch_key() == refused.declared.fetch_key())),
    }));
    rows
}

#[cfg(test)]
mod tests;
