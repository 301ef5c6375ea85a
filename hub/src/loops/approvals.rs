//! An approval is for one object as it was then. It ends when that object is gone, or is declared again, so that it can
//! never delete what comes later.

use std::collections::BTreeMap;

use driftless_protocol::bundle::{ApprovedDelete, Index};
use driftless_protocol::canonical;
use driftless_protocol::id::ClusterId;
use driftless_store::{Act, Cluster, Head, Intent, IntentRecord, StoreError};

use crate::clock;
use crate::shared::Shared;
use crate::view::{attribute, deletes};

/// Takes back the approvals that have come to their end. Answers those intents that stay.
pub(crate) async fn end(
    shared: &Shared,
    clusters: &[Cluster],
    heads: &BTreeMap<ClusterId, Head>,
    mut intents: Vec<IntentRecord>,
) -> Result<Vec<IntentRecord>, StoreError> {
    for cluster in clusters {
        let any =
            |r: &IntentRecord| matches!(&r.intent, Intent::ApproveDelete { cluster: of, .. } if *of == cluster.id);
        if !intents.iter().any(any) {
            continue;
        }
        let Some(head) = heads.get(&cluster.id) else { continue };
        let index = shared.store.blobs(vec![head.index]).await?.pop();
        let Some(index) = index.and_then(|(_, bytes)| canonical::from_slice::<Index>(&bytes).ok()) else { continue };
        // What the agent says for all units is stored after their reports, and so read before them: the other way round it
        // would be taken for the word of reports that were older.
        let agents = shared.store.cluster_reports().await?;
        let mut stored = shared.store.unit_reports(Some(cluster.id)).await?;
        let units_at = agents.iter().find(|agent| agent.cluster == cluster.id).and_then(|agent| agent.report.units_at);
        stored.iter_mut().for_each(|stored| attribute::generation(&mut stored.report, units_at));
        let reports: Vec<_> = stored.iter().map(|stored| &stored.report).collect();
        let ended = deletes::ended(&index.approved_deletes, head.generation, &reports);
        for ApprovedDelete { key, uid } in ended {
            let intent = Intent::ApproveDelete { cluster: cluster.id, key: key.clone(), uid: uid.clone() };
            // An approval in the index that was taken back meanwhile has no intent any more.
            let Some(at) = intents.iter().position(|record| record.intent == intent) else { continue };
            let act = Act {
                at: clock::millis(),
                actor: "hub".to_owned(),
                action: "approvalEnded".to_owned(),
                target: format!("{key} (UID {uid}) in cluster {}", cluster.name),
                detail: "it is deleted, or declared again".to_owned(),
            };
            shared.store.remove_intent(intent, act).await?;
            intents.remove(at);
        }
    }
    Ok(intents)
}
