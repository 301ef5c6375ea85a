//! One cluster, one unit, with everything known.

use driftless_protocol::api::{ClusterDetail, DeclaredObject, IntentEntry, UnitDetail};
use driftless_protocol::id::UnitId;
use driftless_protocol::report::UnitReport;
use driftless_store::{Cluster, Intent, IntentRecord};

use crate::loops::render::target_of;
use crate::view::{Fleet, rows};

/// [`IntentEntry::what`] of an approval.
const APPROVAL: &str = "approveDelete";

pub(crate) fn cluster(fleet: &Fleet<'_>, cluster: &Cluster) -> ClusterDetail {
    let render = fleet.render(cluster);
    let (_, target) = target_of(fleet.shared, cluster);
    ClusterDetail {
        row: rows::cluster(fleet, cluster),
        enrolled: cluster.created,
        kube_uid: cluster.kube_uid.clone(),
        certificate_expires: cluster.certificate.not_after,
        root: render.map_or_else(|| target.root.path(&cluster.name), |r| r.root_path.clone()),
        report: fleet.agent(cluster).map(|a| a.report.clone()),
        rollout: fleet.verdict(cluster).map(|v| v.reasons.iter().map(rows::note).collect()).unwrap_or_default(),
        problems: render.map(|r| r.problems.to_vec()).unwrap_or_default(),
        units: rows::units(fleet, cluster),
    }
}

pub(crate) fn unit(fleet: &Fleet<'_>, cluster: &Cluster, id: &UnitId) -> Option<UnitDetail> {
    let render = fleet.render(cluster);
    let view = render.and_then(|r| r.units.get(id));
    let stored = fleet.reports_of(cluster.id).iter().find(|r| r.report.unit == *id);
    if view.is_none() && stored.is_none() {
        return None;
    }
    let report = stored.map(|stored| &stored.report);
    let mut intents: Vec<IntentEntry> =
        fleet.intents.iter().filter(|r| concerns(&r.intent, cluster, id, report)).map(intent).collect();
    // A list of approvals is one act of one person.
    intents.dedup_by(|a, b| a.what == APPROVAL && (&a.what, &a.actor, &a.reason) == (&b.what, &b.actor, &b.reason));
    Some(UnitDetail {
        row: rows::unit(fleet, cluster, id, view, stored),
        source: view.map(|v| v.source.clone()).unwrap_or_default(),
        path: view.map(|v| v.path.clone()).unwrap_or_default(),
        parent: view.and_then(|v| v.parent.clone()),
        defined_at: view.and_then(|v| v.defined_at.clone()),
        depends_on: view.map(|v| v.spec.depends_on.clone()).unwrap_or_default(),
        rendered_revision: view.and_then(|v| render.and_then(|r| r.revision_of(&v.source))),
        problems: match view {
            Some(view) => view.problems.clone(),
            None => render.and_then(|r| r.incomplete()).cloned().into_iter().collect(),
        },
        withheld: view.map(|v| v.withheld.clone()).unwrap_or_default(),
        objects: view
            .map(|v| {
                let objects = v.objects.iter();
                objects
                    .map(|(key, digest, at)| DeclaredObject { key: key.clone(), digest: *digest, at: at.clone() })
                    .collect()
            })
            .unwrap_or_default(),
        intents,
        report: stored.map(|s| s.report.clone()),
        reported_at: stored.map(|s| s.received),
    })
}

fn concerns(intent: &Intent, cluster: &Cluster, id: &UnitId, report: Option<&UnitReport>) -> bool {
    let here = intent.cluster().is_none_or(|c| c == cluster.id);
    here && match intent {
        Intent::Suspend { unit, .. } => unit == id,
        Intent::DriftMode { unit, .. } => unit.as_ref().is_none_or(|unit| unit == id),
        Intent::Freeze { .. } => true,
        Intent::ApproveDelete { key, uid, .. } => report.is_some_and(|report| {
            report.held_deletes.iter().any(|held| held.key == *key && held.uid == *uid)
                || report.approved_deletes.iter().any(|approved| approved.key == *key && approved.uid == *uid)
        }),
    }
}

fn intent(record: &IntentRecord) -> IntentEntry {
    IntentEntry {
        what: match record.intent {
            Intent::Suspend { .. } => "suspend",
            Intent::DriftMode { .. } => "driftMode",
            Intent::Freeze { .. } => "freeze",
            Intent::ApproveDelete { .. } => APPROVAL,
        }
        .to_owned(),
        actor: record.actor.clone(),
        at: record.at,
        reason: record.reason.clone(),
    }
}
