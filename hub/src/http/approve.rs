//! Held deletes: what waits for a person, and the person's word.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use driftless_protocol::api::{ApproveRequest, DeleteList, Done, List};
use driftless_protocol::object::ObjectKey;
use driftless_store::{Act, Cluster, Intent, IntentRecord};
use serde::Deserialize;

use super::change::{act, check_reason, chosen, done, record, scope};
use crate::http::Actor;
use crate::http::error::{Answer, Body, Refusal};
use crate::http::extract::Query;
use crate::shared::Shared;
use crate::view::{Fleet, deletes};

/// Objects in one approval.
const APPROVALS: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeletesQuery {
    cluster: Option<String>,
}

pub(crate) async fn deletes(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<DeletesQuery>,
) -> Answer<List<DeleteList>> {
    let fleet = Fleet::load(&shared).await?;
    let clusters = match &query.cluster {
        Some(name) => vec![fleet.cluster(name)?.clone()],
        None => fleet.clusters.clone(),
    };
    Ok(Json(List { items: deletes::lists(&fleet, &clusters) }))
}

/// One delete of one cluster.
type Found<'a> = (&'a Cluster, ObjectKey, String);

pub(crate) async fn approve(
    State(shared): State<Arc<Shared>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<ApproveRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let clusters = chosen(&fleet, request.cluster.as_ref())?;
    let place = scope(request.cluster.as_ref());
    let found = match (&request.list, request.keys.as_slice()) {
        (Some(list), []) => by_list(&fleet, &clusters, list, &place)?,
        (None, keys) if !keys.is_empty() => by_keys(&fleet, &clusters, keys, &place)?,
        _ => return Err(Refusal::bad("say either which list, or which objects (keys)")),
    };
    let mut messages = Vec::new();
    for cluster in &clusters {
        let count = found.iter().filter(|(c, ..)| c.id == cluster.id).count();
        if count > 0 {
            messages.push(format!("{count} deletes in cluster {} are approved", cluster.name));
        }
    }
    let approvals: Vec<(IntentRecord, Act)> = found
        .into_iter()
        .map(|(cluster, key, uid)| {
            let target = format!("{key} (UID {uid}) in cluster {}", cluster.name);
            let act = act(&actor, "approveDelete", target, &*request.reason);
            let intent = Intent::ApproveDelete { cluster: cluster.id, key, uid };
            (record(intent, &actor, request.reason.clone()), act)
        })
        .collect();
    shared.store.put_intents(approvals).await?;
    shared.wake.rollout.notify_one();
    done(messages)
}

/// Everything on the list, in the clusters that hold exactly it.
fn by_list<'a>(fleet: &Fleet<'_>, clusters: &'a [Cluster], list: &str, place: &str) -> Result<Vec<Found<'a>>, Refusal> {
    let mut found = Vec::new();
    for cluster in clusters {
        for report in fleet.reports_of(cluster.id) {
            if deletes::id_of(&report.report).as_deref() == Some(list) {
                let held = report.report.held_deletes.iter();
                found.extend(held.map(|held| (cluster, held.key.clone(), held.uid.clone())));
            }
        }
    }
    if found.is_empty() {
        return Err(Refusal::not_found(format!(
            "no delete list {list} is held in {place} (any more); nothing was approved. `driftless get deletes` shows those \
             that are: a list whose objects change is another list"
        )));
    }
    Ok(found)
}

/// These objects, wherever their deletes are held.
fn by_keys<'a>(
    fleet: &Fleet<'_>,
    clusters: &'a [Cluster],
    keys: &[ObjectKey],
    place: &str,
) -> Result<Vec<Found<'a>>, Refusal> {
    if keys.len() > APPROVALS {
        let count = keys.len();
        return Err(Refusal::bad(format!("keys: {count} objects are named, 1 to {APPROVALS} are expected")));
    }
    let wanted: BTreeSet<&ObjectKey> = keys.iter().collect();
    let mut found = Vec::new();
    for cluster in clusters {
        for report in fleet.reports_of(cluster.id) {
            let held = report.report.held_deletes.iter().filter(|h| wanted.contains(&h.key));
            found.extend(held.map(|held| (cluster, held.key.clone(), held.uid.clone())));
        }
    }
    if let Some(missing) = keys.iter().find(|key| !found.iter().any(|(_, k, _)| k == *key)) {
        return Err(Refusal::not_found(format!("no delete of {missing} is held in {place}; nothing was approved")));
    }
    Ok(found)
}
