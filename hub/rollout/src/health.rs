//! How a cluster is on what it was offered.

use std::collections::BTreeMap;

use driftless_protocol::id::{Digest, Generation, UnitId};
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
    /// This body, as before.
    Body(Digest),
    /// This body, which the generation brought: what was said of the same body in an older one does not count.
    BodySince(Digest, Generation),
    /// The hub could not build it.
    Held(String),
    /// It is left alone.
    Suspended,
}

impl Expected {
    fn since(&self) -> Option<Generation> {
        match self {
            Self::BodySince(_, since) => Some(*since),
            _ => None,
        }
    }
}

/// Judges a cluster by the units it was offered and what its agent reports of them. A failure wins over progress.
#[must_use]
pub fn judge(expected: &BTreeMap<UnitId, Expected>, reports: &BTreeMap<UnitId, UnitReport>) -> Health {
    let mut progress = None;
    for (unit, wanted) in expected {
        match wanted {
            Expected::Suspended => {}
            Expected::Held(why) => return Health::Failed { what: format!("unit {unit} cannot be built: {why}") },
            Expected::Body(body) | Expected::BodySince(body, _) => {
                match judge_unit(*body, wanted.since(), reports.get(unit)) {
                    UnitHealth::Ready => {}
                    UnitHealth::Failed(why) => return Health::Failed { what: format!("unit {unit}: {why}") },
                    UnitHealth::Progressing(why) => {
                        progress.get_or_insert_with(|| format!("unit {unit}: {why}"));
                    }
                }
            }
        }
    }
    progress.map_or(Health::Healthy, |what| Health::Progressing { what })
}

enum UnitHealth {
    Ready,
    Progressing(String),
    Failed(String),
}

fn judge_unit(body: Digest, since: Option<Generation>, report: Option<&UnitReport>) -> UnitHealth {
    let Some(report) = report else { return UnitHealth::Progressing("not reported yet".to_owned()) };
    // What an agent says of an older body says nothing about this one.
    if report.desired != Some(body) || report.generation < since {
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
    fn what_was_said_of_the_same_body_before_does_not_count() {
        let (unit, body) = (UnitId::kustomization("flux-system", "apps"), Digest::of(b"body"));
        let at = |sequence| Generation { trust_epoch: 1, epoch: 1, sequence };
        for (wanted, generation, healthy) in [
            (Expected::Body(body), Some(at(3)), true),
            (Expected::Body(body), None, true),
            (Expected::BodySince(body, at(5)), Some(at(3)), false),
            (Expected::BodySince(body, at(5)), None, false),
            (Expected::BodySince(body, at(5)), Some(at(5)), true),
            (Expected::BodySince(body, at(5)), Some(at(6)), true),
            (Expected::BodySince(Digest::of(b"other"), at(5)), Some(at(6)), false),
        ] {
            let mut report = UnitReport::unreadable(unit.clone(), "");
            (report.ready, report.generation) = (Ready::True, generation);
            (report.desired, report.applied) = (Some(body), Some(body));
            let what = format!("{wanted:?} {generation:?}");
            let health = judge(&BTreeMap::from([(unit.clone(), wanted)]), &BTreeMap::from([(unit.clone(), report)]));
            assert_eq!(health == Health::Healthy, healthy, "{what}: {health:?}");
            assert!(healthy || matches!(health, Health::Progressing { .. }), "{what}: {health:?}");
        }
    }

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
