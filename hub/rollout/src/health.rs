//! How a cluster is on what it was offered.

use std::collections::BTreeMap;

use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::report::{Ready, UnitReport, reason};

/// How all units of a cluster are, on the content they were offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing was offered, or nothing was heard.
    Unknown,
    /// On the way.
    Progressing {
        /// The first unit that is not there yet, and what it says.
        what: String,
    },
    /// Every unit is applied as offered and ready, or suspended.
    Healthy,
    /// At least one unit failed.
    Failed {
        /// The first of them, and what it says.
        what: String,
    },
}

/// What was offered for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This body.
    Body(Digest),
    /// The hub could not build it.
    Held(String),
    /// It is left alone.
    Suspended,
}

/// Judges a cluster by the units it was offered and what its agent reports of them. A failure wins over progress.
#[must_use]
pub fn judge(expected: &BTreeMap<UnitId, Expected>, reports: &BTreeMap<UnitId, UnitReport>) -> Health {
    let mut progress = None;
    for (unit, wanted) in expected {
        match wanted {
            Expected::Suspended => {}
            Expected::Held(why) => return Health::Failed { what: format!("unit {unit} cannot be built: {why}") },
            Expected::Body(body) => match judge_unit(*body, reports.get(unit)) {
                UnitHealth::Ready => {}
                UnitHealth::Failed(why) => return Health::Failed { what: format!("unit {unit}: {why}") },
                UnitHealth::Progressing(why) => {
                    progress.get_or_insert_with(|| format!("unit {unit}: {why}"));
                }
            },
        }
    }
    progress.map_or(Health::Healthy, |what| Health::Progressing { what })
}

enum UnitHealth {
    Ready,
    Progressing(String),
    Failed(String),
}

fn judge_unit(body: Digest, report: Option<&UnitReport>) -> UnitHealth {
    let Some(report) = report else { return UnitHealth::Progressing("not reported yet".to_owned()) };
    // What an agent says of an older body says nothing about this one.
    if report.desired != Some(body) {
        return UnitHealth::Progressing("the cluster has not begun with it".to_owned());
    }
    let waits = [reason::PROGRESSING, reason::DEPENDENCY_NOT_READY, reason::HEALTH_CHECK_PENDING];
    // Flux keeps it, and it is in order: nothing of ours to wait for.
    if report.ready == Ready::True && report.reason == reason::FLUX_ACTS {
        return UnitHealth::Ready;
    }
    match report.ready {
        Ready::True if report.applied == Some(body) => UnitHealth::Ready,
        Ready::False if !waits.contains(&report.reason.as_str()) => UnitHealth::Failed(report.message.clone()),
        _ => UnitHealth::Progressing(report.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flux_keeps_holds_nobody_up_unless_it_is_not_in_order() {
        let (unit, body) = (UnitId::kustomization("flux-system", "apps"), Digest::of(b"body"));
        for (ready, reason, expected) in [
            (Ready::True, reason::FLUX_ACTS, true),
            (Ready::Unknown, reason::FLUX_ACTS, false),
            (Ready::False, reason::FLUX_ACTS, false),
            (Ready::True, reason::SUCCEEDED, false),
        ] {
            let mut report = UnitReport::unreadable(unit.clone(), "");
            (report.ready, report.reason, report.desired) = (ready, reason.into(), Some(body));
            let wanted = BTreeMap::from([(unit.clone(), Expected::Body(body))]);
            let health = judge(&wanted, &BTreeMap::from([(unit.clone(), report)]));
            assert_eq!(health == Health::Healthy, expected, "{ready:?} {reason}: {health:?}");
        }
    }
}
