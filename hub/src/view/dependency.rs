//! How the units that a unit depends on stand: by their own reports, since an agent says nothing of a dependency that breaks
//! once all that depends on it is applied.

use driftless_protocol::api::UnitRow;
use driftless_protocol::bundle::UnitSpec;
use driftless_protocol::id::UnitId;
use driftless_protocol::report::{Ready, UnitReport, reason};
use driftless_store::Cluster;

use super::{Fleet, rows};

/// How a dependency stands, as agents go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// Ready.
    Ready,
    /// Suspended: it counts as it stands.
    Suspended,
    /// By an expression that only the cluster can ask.
    Expression,
    /// Not ready; why.
    NotReady(String),
}

/// The dependencies of a unit with these settings, in their order.
pub(super) fn all(fleet: &Fleet<'_>, cluster: &Cluster, spec: &UnitSpec) -> Vec<(UnitId, Stands)> {
    let asked = |id: &UnitId| spec.ready_exprs.iter().any(|e| e.unit == *id);
    spec.depends_on.iter().map(|id| (id.clone(), one(fleet, cluster, id, asked(id)))).collect()
}

fn one(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId, asked: bool) -> Stands {
    let render = fleet.render(cluster);
    let view = render.and_then(|r| r.units.get(id));
    let stored = fleet.reports_of(cluster.id).iter().find(|r| r.report.unit == *id);
    if view.is_none() && (stored.is_none() || render.is_some_and(|r| r.incomplete().is_none())) {
        return Stands::NotReady("is not there".to_owned());
    }
    let row = rows::unit(fleet, cluster, id, view, stored);
    stands(&row, stored.map(|s| &s.report), asked)
}

fn stands(row: &UnitRow, report: Option<&UnitReport>, asked: bool) -> Stands {
    if asked {
        return Stands::Expression;
    }
    if row.suspended && row.reason == reason::SUSPENDED {
        return Stands::Suspended;
    }
    // What Flux runs is judged by what Flux says of it.
    let ready = match report.filter(|r| r.reason == reason::FLUX_ACTS).and_then(|r| r.flux.as_ref()) {
        Some(flux) => flux.ready,
        None => row.ready,
    };
    match ready {
        Ready::True => Stands::Ready,
        _ => Stands::NotReady(format!("is not ready ({}): {}", row.reason, row.message)),
    }
}

/// Units behind one another that are not ready: the last of them is where to look.
const DEEP: usize = 8;

/// The unit at the end of a chain of dependencies that are not ready, and how it stands.
pub(super) fn blocker(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId) -> Option<String> {
    let render = fleet.render(cluster)?;
    let mut path: Vec<(UnitId, String)> = Vec::new();
    let mut at = render.units.get(id);
    while let Some(view) = at.filter(|_| path.len() < DEEP) {
        // Also where an expression is asked: most often it is about just that.
        let open = view.spec.depends_on.iter().filter(|id| !path.iter().any(|(seen, _)| seen == *id));
        let next = open.into_iter().find_map(|id| match one(fleet, cluster, id, false) {
            Stands::NotReady(why) => Some((id.clone(), why)),
            _ => None,
        });
        let Some(next) = next else { break };
        at = render.units.get(&next.0);
        path.push(next);
    }
    let (last, stands) = path.last()?;
    let through: Vec<String> = path.iter().map(|(id, _)| id.to_string()).collect();
    let through = if path.len() > 1 { format!(" (through {})", through.join(", ")) } else { String::new() };
    Some(format!("{last}{through} {stands}"))
}

#[cfg(test)]
mod tests {
    use driftless_protocol::bundle::DriftMode;
    use driftless_protocol::report::FluxState;

    use super::*;
    use crate::view::samples;

    fn row(ready: Ready, why: &str) -> UnitRow {
        UnitRow {
            cluster: "prod".parse().unwrap(),
            unit: UnitId::kustomization("flux-system", "infra"),
            ready,
            reason: why.into(),
            message: "in words".into(),
            revision: None,
            last_applied: None,
            suspended: why == reason::SUSPENDED,
            drift_mode: DriftMode::default(),
            drifted: 0,
            objects: 1,
            held_deletes: 0,
            paused: None,
            stale: false,
        }
    }

    #[test]
    fn a_dependency_stands_as_the_agent_takes_it() {
        let report = samples::report();
        let not = |text: &str| Stands::NotReady(format!("is not ready ({text}): in words"));
        for (ready, why, expected) in [
            (Ready::True, reason::SUCCEEDED, Stands::Ready),
            (Ready::False, reason::HEALTH_CHECK_FAILED, not("HealthCheckFailed")),
            (Ready::Unknown, reason::PROGRESSING, not("Progressing")),
            (Ready::False, reason::HELD, not("Held")),
            (Ready::Unknown, reason::SUSPENDED, Stands::Suspended),
        ] {
            assert_eq!(stands(&row(ready, why), Some(&report), false), expected, "{why}");
            assert_eq!(stands(&row(ready, why), Some(&report), true), Stands::Expression, "{why}");
        }
        // Held by the hub although an operator suspended it: the hub's word is the agent's.
        let held = UnitRow { suspended: true, ..row(Ready::False, reason::HELD) };
        assert_eq!(stands(&held, Some(&report), false), not("Held"));
    }

    #[test]
    fn what_flux_runs_is_ready_when_flux_says_so() {
        let mut report = samples::report();
        report.reason = reason::FLUX_ACTS.into();
        for (ready, is_ready) in [(Ready::True, true), (Ready::False, false), (Ready::Unknown, false)] {
            report.flux = Some(FluxState { stopped: false, suspended: false, ready, revision: None, objects: 1 });
            let found = stands(&row(Ready::Unknown, reason::FLUX_ACTS), Some(&report), false);
            assert_eq!(found == Stands::Ready, is_ready, "{ready:?}: {found:?}");
        }
    }
}
