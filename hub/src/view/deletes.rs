//! Deletes that wait for approval, by list: the same objects of the same unit are one list in all clusters.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::api::{DeleteList, DeleteListObject, delete_list_id};
use driftless_protocol::bundle::ApprovedDelete;
use driftless_protocol::id::Generation;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::UnitReport;
use driftless_store::Cluster;

use crate::view::Fleet;

/// The list that a unit's report shows, if deletes of it are held.
pub(crate) fn id_of(report: &UnitReport) -> Option<String> {
    (!report.held_deletes.is_empty())
        .then(|| delete_list_id(&report.unit, report.held_deletes.iter().map(|held| &held.key)))
}

/// All lists of these clusters, by unit.
pub(crate) fn lists(fleet: &Fleet<'_>, clusters: &[Cluster]) -> Vec<DeleteList> {
    let mut lists: BTreeMap<(String, String), DeleteList> = BTreeMap::new();
    for cluster in clusters {
        for stored in fleet.reports_of(cluster.id) {
            let report = &stored.report;
            let Some(id) = id_of(report) else { continue };
            let list = lists.entry((report.unit.to_string(), id.clone())).or_insert_with(|| DeleteList {
                list: id,
                unit: report.unit.clone(),
                clusters: Vec::new(),
                objects: objects(report),
                more: 0,
            });
            list.clusters.push(cluster.name.clone());
            let shown = u32::try_from(report.held_deletes.len()).unwrap_or(u32::MAX);
            list.more = list.more.max(report.counts.held_deletes.saturating_sub(shown));
        }
    }
    lists.into_values().collect()
}

fn objects(report: &UnitReport) -> Vec<DeleteListObject> {
    let by_key: BTreeMap<&ObjectKey, &str> = report.held_deletes.iter().map(|h| (&h.key, &*h.why)).collect();
    by_key.into_iter().map(|(key, why)| DeleteListObject { key: key.clone(), why: why.to_owned() }).collect()
}

/// The approvals of a cluster that have come to their end: the agent enforces a generation that carries them, and none of
/// its units still has the object. What is not certain stays.
///
/// `since`: the head that carries `approved`. `reports`: every unit's newest.
pub(crate) fn ended<'a>(
    approved: impl IntoIterator<Item = &'a ApprovedDelete>,
    since: Generation,
    reports: &[&UnitReport],
) -> BTreeSet<&'a ApprovedDelete> {
    let sure = |report: &UnitReport| {
        report.generation.is_some_and(|of| of >= since)
            && report.counts.approved_deletes as usize == report.approved_deletes.len()
    };
    if reports.is_empty() || !reports.iter().all(|report| sure(report)) {
        return BTreeSet::new();
    }
    let open: BTreeSet<&ApprovedDelete> = reports.iter().flat_map(|report| &report.approved_deletes).collect();
    approved.into_iter().filter(|approved| !open.contains(approved)).collect()
}

#[cfg(test)]
mod tests {
    use driftless_protocol::id::UnitId;

    use super::*;

    #[test]
    fn an_approval_ends_only_when_every_unit_speaks_of_a_generation_that_has_it() {
        let approved = ApprovedDelete {
            key: ObjectKey { group: "".into(), kind: "Namespace".into(), namespace: "".into(), name: "old".into() },
            uid: "u-1".into(),
        };
        let generation = |sequence| Generation { trust_epoch: 1, epoch: 1, sequence };
        let report = |sequence: u64, open: &[ApprovedDelete], count: u32| {
            let mut report = UnitReport::unreadable(UnitId::kustomization("a", "b"), "");
            report.generation = Some(generation(sequence));
            report.approved_deletes = open.to_vec();
            report.counts.approved_deletes = count;
            report
        };
        let open = [approved.clone()];
        for (name, reports, end) in [
            ("gone", vec![report(5, &[], 0), report(6, &[], 0)], true),
            ("still there", vec![report(5, &open, 1), report(5, &[], 0)], false),
            ("a unit speaks of an older generation", vec![report(5, &[], 0), report(4, &[], 0)], false),
            ("a list was cut", vec![report(5, &[], 1)], false),
            ("no report at all", vec![], false),
        ] {
            let reports: Vec<&UnitReport> = reports.iter().collect();
            assert_eq!(!ended([&approved], generation(5), &reports).is_empty(), end, "{name}");
        }
    }
}
