//! How a cluster compares with what Git says, for a person about to let Driftless write to it.

use driftless_protocol::api::{Shadow, ShadowUnit, UnitRow};
use driftless_protocol::report::{ObjectState, UnitReport, reason};
use driftless_store::Cluster;

use crate::view::{Fleet, rows};

pub(crate) fn shadow(fleet: &Fleet<'_>, cluster: &Cluster) -> Shadow {
    let agent = fleet.agent(cluster);
    let head = fleet.head(cluster);
    let applied = agent.and_then(|a| a.report.generation);
    let newest = fleet.offered_newest(cluster) && applied.is_some() && applied == head.map(|h| h.generation);
    let shadow = agent.is_some_and(|a| a.report.shadow);
    let reports = fleet.reports_of(cluster.id);
    let report_of = |row: &UnitRow| reports.iter().find(|r| r.report.unit == row.unit).map(|r| &r.report);
    let units: Vec<ShadowUnit> = rows::units(fleet, cluster).iter().map(|row| unit(row, report_of(row))).collect();
    let zero = shadow && newest && !units.is_empty() && units.iter().all(|u| u.suspended || equal(u));
    let connected = fleet.shared.registry.is_connected(cluster.id);
    Shadow { cluster: cluster.name.clone(), shadow, connected, newest, zero, units }
}

fn equal(unit: &ShadowUnit) -> bool {
    unit.reason == reason::SHADOW_EQUAL && unit.counts.as_ref().is_some_and(|counts| counts.zero())
}

fn unit(row: &UnitRow, report: Option<&UnitReport>) -> ShadowUnit {
    let counts = report.and_then(|r| r.shadow.clone());
    let shown = |state: ObjectState| state != ObjectState::LeftAlone;
    let differences = report.filter(|_| counts.is_some()).into_iter().flat_map(|r| &r.objects);
    ShadowUnit {
        unit: row.unit.clone(),
        ready: row.ready,
        reason: row.reason.clone(),
        message: row.message.clone(),
        suspended: row.suspended,
        objects: row.objects,
        flux: report.and_then(|r| r.flux.clone()),
        differences: differences.filter(|o| shown(o.state)).cloned().collect(),
        fields: report.filter(|_| counts.is_some()).map(|r| r.drift.clone()).unwrap_or_default(),
        counts,
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::id::UnitId;
    use driftless_protocol::report::{Ready, ShadowReport};

    use super::*;

    #[test]
    fn a_unit_is_equal_only_when_all_of_it_was_compared() {
        let with = |reason: &str, counts: Option<ShadowReport>| ShadowUnit {
            unit: UnitId::kustomization("flux-system", "apps"),
            ready: Ready::True,
            reason: reason.into(),
            message: String::new(),
            suspended: false,
            objects: 1,
            flux: None,
            counts,
            differences: Vec::new(),
            fields: Vec::new(),
        };
        let counts = |open, missing| Some(ShadowReport { equal: 1, open, missing, ..ShadowReport::default() });
        for (name, unit, expected) in [
            ("equal", with(reason::SHADOW_EQUAL, counts(0, 0)), true),
            ("one is open", with(reason::SHADOW_EQUAL, counts(1, 0)), false),
            ("one is missing", with(reason::SHADOW_EQUAL, counts(0, 1)), false),
            ("held since", with(reason::HELD, counts(0, 0)), false),
            ("never compared", with(reason::SHADOW_EQUAL, None), false),
        ] {
            assert_eq!(equal(&unit), expected, "{name}");
        }
    }
}
