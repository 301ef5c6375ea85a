//! What can be done. Every act is one row of the audit log, written with what it changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use driftless_protocol::api::{
    ClusterChange, ClusterRow, Done, FreezeRequest, JoinTokenCreated, JoinTokenRequest, ReconcileRequest,
    SuspendRequest,
};
use driftless_protocol::id::{ClusterName, TokenId, UnitId};
use driftless_protocol::message::{Hint, RejectCode};
use driftless_protocol::token::{JoinToken, TokenSecret};
use driftless_store::{Act, Cluster, Intent, IntentRecord, Token};

use crate::clock;
use crate::fleet::session::hint_all;
use crate::http::Actor;
use crate::http::error::{Answer, Body, Refusal};
use crate::http::extract::Path;
use crate::loops::sources::READY;
use crate::pki::random;
use crate::shared::Shared;
use crate::view::{Fleet, rows};

pub(super) type Hub = State<Arc<Shared>>;

/// How long a join token can be used where nothing is said, and at most (`security.md` P-12).
const TTL_SECONDS: u64 = 3600;
const TTL_MOST: u64 = 24 * 3600;
/// Labels of a cluster.
const LABELS: usize = 64;
/// A label's key or value.
const LABEL_BYTES: usize = 253;
/// A reason people give.
const REASON_BYTES: usize = 1024;
/// A fetch that takes longer goes on without the one who asked.
const FETCH: Duration = Duration::from_secs(90);

pub(super) fn act(actor: &Actor, action: &str, target: impl Into<String>, detail: impl Into<String>) -> Act {
    Act {
        at: clock::millis(),
        actor: actor.0.clone(),
        action: action.into(),
        target: target.into(),
        detail: detail.into(),
    }
}

pub(super) fn done(messages: Vec<String>) -> Answer<Done> {
    Ok(Json(Done { messages }))
}

pub(super) fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.len() > REASON_BYTES {
        return Err(Refusal::bad(format!("reason: it has {} bytes, at most {REASON_BYTES} are kept", reason.len())));
    }
    Ok(())
}

fn check_label(key: &str, value: &str) -> Result<(), Refusal> {
    let ok = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if key.is_empty() || key.len() > LABEL_BYTES || value.len() > LABEL_BYTES || !ok(key) || !ok(value) {
        return Err(Refusal::bad(format!("the label {key}={value} is none: letters, digits and - _ . / only")));
    }
    Ok(())
}

pub(crate) async fn join_token(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<JoinTokenRequest>,
) -> Answer<JoinTokenCreated> {
    let ttl = request.ttl_seconds.unwrap_or(TTL_SECONDS);
    if ttl == 0 || ttl > TTL_MOST {
        return Err(Refusal::bad(format!("a join token lasts 1 to {TTL_MOST} seconds, not {ttl}")));
    }
    if request.labels.len() > LABELS {
        return Err(Refusal::bad(format!("more than {LABELS} labels")));
    }
    for (key, value) in &request.labels {
        check_label(key, value)?;
    }
    let fleet = Fleet::load(&shared).await?;
    if fleet.clusters.iter().any(|c| c.name == request.name) {
        let message = format!(
            "a cluster named {} is enrolled; remove it first if it is gone for good, or choose another name",
            request.name
        );
        return Err(Refusal::conflict(message));
    }
    let unlucky = |e: crate::pki::PkiError| Refusal::internal(e.to_string());
    let token = JoinToken {
        id: TokenId::from_bytes(random().map_err(unlucky)?),
        secret: TokenSecret::from_bytes(random().map_err(unlucky)?),
        hub_ca: shared.keys.ca.digest(),
        root_keys: shared.trust.newest.roots.iter().map(driftless_protocol::signing::PublicKey::id).collect(),
        addresses: shared.config.fleet.addresses.clone(),
        server_name: shared.config.fleet.server_name.clone(),
    };
    let now = clock::millis();
    let record = Token {
        id: token.id,
        hash: *token.secret_hash().as_bytes(),
        name: request.name.clone(),
        labels: request.labels,
        created: now,
        created_by: actor.0.clone(),
        expires: now + ttl * 1000,
    };
    let detail = format!("token {}, valid for {ttl} s", token.id);
    let act = act(&actor, "joinToken", format!("cluster {}", request.name), detail);
    shared.store.create_token(record, act).await?;
    let text = token.reveal().to_string();
    Ok(Json(JoinTokenCreated { token: text, name: request.name, expires: now + ttl * 1000 }))
}

pub(crate) async fn label(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Body(change): Body<ClusterChange>,
) -> Answer<ClusterRow> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&name)?;
    let mut labels = cluster.labels.clone();
    let mut said = Vec::new();
    for (key, value) in change.labels {
        check_label(&key, value.as_deref().unwrap_or_default())?;
        match value {
            Some(value) => {
                said.push(format!("{key}={value}"));
                labels.insert(key, value);
            }
            None => {
                said.push(format!("{key}-"));
                labels.remove(&key);
            }
        }
    }
    if labels.len() > LABELS {
        return Err(Refusal::bad(format!("more than {LABELS} labels")));
    }
    let act = act(&actor, "label", format!("cluster {name}"), said.join(" "));
    shared.store.set_labels(cluster.id, labels, act).await?;
    // Labels may be variables, and make a canary.
    shared.wake.render.notify_one();
    shared.wake.rollout.notify_one();
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(rows::cluster(&fleet, fleet.cluster(&name)?)))
}

pub(crate) async fn remove(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&name)?;
    let act = act(&actor, "remove", format!("cluster {name}"), format!("id {}", cluster.id));
    shared.store.revoke(cluster.id, act).await?;
    shared.registry.reject(cluster.id, RejectCode::Revoked, "the cluster was removed");
    shared.wake.render.notify_one();
    shared.wake.rollout.notify_one();
    done(vec![format!("cluster {name} was removed: its agent may not come back; nothing in the cluster was touched")])
}

pub(crate) async fn reconcile(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<ReconcileRequest>,
) -> Answer<Done> {
    let fleet = Fleet::load(&shared).await?;
    let clusters = chosen(&fleet, request.cluster.as_ref())?;
    let handles = match &request.source {
        Some(id) => {
            vec![shared.sources.get(id).ok_or_else(|| Refusal::not_found(format!("the hub has no source {id}")))?]
        }
        None => shared.sources.all(),
    };
    let what = match (&request.source, &request.unit) {
        (Some(source), _) => format!("source {source}"),
        (None, Some(unit)) => format!("unit {unit}"),
        (None, None) => "everything".to_owned(),
    };
    shared.store.audit(act(&actor, "reconcile", what, scope(request.cluster.as_ref()))).await?;

    let mut messages = Vec::new();
    let asked: Vec<(u64, _)> = handles.into_iter().map(|h| (h.kick(), h)).collect();
    let deadline = tokio::time::Instant::now() + FETCH;
    for (number, handle) in asked {
        let in_time = tokio::time::timeout_at(deadline, handle.fetched(number)).await.is_ok();
        let status = handle.status();
        messages.push(match (in_time, status.code.as_str()) {
            (false, _) => format!("source {}: still being fetched", handle.id),
            (true, READY) => format!("source {}: {}", handle.id, status.message),
            (true, code) => format!("source {}: {code}: {}", handle.id, status.message),
        });
    }
    if request.source.is_none() {
        let hint = Hint::Reconcile { unit: request.unit.clone() };
        let away = hint_all(&shared, &clusters, &hint);
        for cluster in &clusters {
            messages.push(if away.contains(&cluster.id) {
                format!("cluster {}: not connected; it looks again by itself when it is", cluster.name)
            } else {
                format!("cluster {}: looks again", cluster.name)
            });
        }
    }
    done(messages)
}

pub(super) fn chosen(fleet: &Fleet<'_>, name: Option<&ClusterName>) -> Result<Vec<Cluster>, Refusal> {
    match name {
        Some(name) => Ok(vec![fleet.cluster(name.as_str())?.clone()]),
        None => Ok(fleet.clusters.clone()),
    }
}

pub(super) fn scope(cluster: Option<&ClusterName>) -> String {
    cluster.map_or_else(|| "every cluster".to_owned(), |name| format!("cluster {name}"))
}

pub(super) fn record(intent: Intent, actor: &Actor, reason: String) -> IntentRecord {
    IntentRecord { intent, actor: actor.0.clone(), at: clock::millis(), reason }
}

/// One of these clusters has this unit.
pub(super) fn known_unit(fleet: &Fleet<'_>, clusters: &[Cluster], unit: &UnitId, place: &str) -> Result<(), Refusal> {
    if clusters.iter().any(|c| rows::units(fleet, c).iter().any(|u| u.unit == *unit)) {
        return Ok(());
    }
    Err(Refusal::not_found(format!("{place} has no unit {unit}; `driftless get units` lists them")))
}

/// Suspends nothing that does not exist: a typing error must not pass for a brake.
fn suspend_intent(fleet: &Fleet<'_>, request: &SuspendRequest) -> Result<Intent, Refusal> {
    let clusters = chosen(fleet, request.cluster.as_ref())?;
    known_unit(fleet, &clusters, &request.unit, &scope(request.cluster.as_ref()))?;
    let cluster = request.cluster.as_ref().and_then(|_| clusters.first()).map(|c| c.id);
    Ok(Intent::Suspend { cluster, unit: request.unit.clone() })
}

pub(crate) async fn suspend(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<SuspendRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let intent = suspend_intent(&fleet, &request)?;
    let place = scope(request.cluster.as_ref());
    let act = act(&actor, "suspend", format!("unit {}", request.unit), format!("{place}: {}", request.reason));
    shared.store.put_intent(record(intent, &actor, request.reason), act).await?;
    shared.wake.rollout.notify_one();
    done(vec![format!("unit {} is suspended in {place}: nothing is applied, healed or deleted", request.unit)])
}

pub(crate) async fn resume(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<SuspendRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let clusters = chosen(&fleet, request.cluster.as_ref())?;
    let place = scope(request.cluster.as_ref());
    let unit = &request.unit;
    // "In all clusters" takes back what was said of single ones, too.
    let scopes: BTreeSet<_> = match &request.cluster {
        Some(_) => clusters.iter().map(|c| Some(c.id)).collect(),
        None => clusters.iter().map(|c| Some(c.id)).chain([None]).collect(),
    };
    let mut messages = Vec::new();
    for scope in scopes {
        let intent = Intent::Suspend { cluster: scope, unit: unit.clone() };
        if fleet.intents.iter().any(|r| r.intent == intent) {
            let act = act(&actor, "resume", format!("unit {unit}"), format!("{place}: {}", request.reason));
            shared.store.remove_intent(intent, act).await?;
            let name = scope.and_then(|id| clusters.iter().find(|c| c.id == id)).map(|c| c.name.clone());
            messages.push(format!("unit {unit} goes on in {}", self::scope(name.as_ref())));
        }
    }
    let everywhere = Intent::Suspend { cluster: None, unit: unit.clone() };
    if request.cluster.is_some() && fleet.intents.iter().any(|r| r.intent == everywhere) {
        let message = format!(
            "unit {unit} is suspended in every cluster at once and cannot be resumed in one; resume it in all, then suspend it \
             where it should rest"
        );
        return Err(Refusal::conflict(message));
    }
    if messages.is_empty() {
        let in_git = clusters.iter().any(|c| {
            fleet
                .render(c)
                .and_then(|r| r.units.get(unit))
                .is_some_and(|u| matches!(u.state, crate::rendered::ViewState::Suspended))
        });
        let more = if in_git { "; Git suspends it (spec.suspend), and only Git can resume it" } else { "" };
        return Err(Refusal::conflict(format!("no operator has suspended unit {unit} in {place}{more}")));
    }
    shared.wake.rollout.notify_one();
    done(messages)
}

fn freeze_intent(fleet: &Fleet<'_>, request: &FreezeRequest) -> Result<Intent, Refusal> {
    let cluster = match &request.cluster {
        Some(name) => Some(fleet.cluster(name.as_str())?.id),
        None => None,
    };
    Ok(Intent::Freeze { cluster })
}

fn frozen_scope(request: &FreezeRequest) -> String {
    request.cluster.as_ref().map_or_else(|| "the fleet".to_owned(), |name| format!("cluster {name}"))
}

pub(crate) async fn freeze(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<FreezeRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let intent = freeze_intent(&fleet, &request)?;
    let what = frozen_scope(&request);
    let act = act(&actor, "freeze", &*what, &*request.reason);
    shared.store.put_intent(record(intent, &actor, request.reason), act).await?;
    shared.wake.rollout.notify_one();
    done(vec![format!("{what} is frozen: no new content goes out; healing and operator intents go on")])
}

pub(crate) async fn unfreeze(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<FreezeRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let intent = freeze_intent(&fleet, &request)?;
    let what = frozen_scope(&request);
    if !fleet.intents.iter().any(|r| r.intent == intent) {
        return Err(Refusal::conflict(format!("{what} is not frozen; `driftless status` shows what is")));
    }
    let act = act(&actor, "unfreeze", &*what, &*request.reason);
    shared.store.remove_intent(intent, act).await?;
    shared.wake.rollout.notify_one();
    done(vec![format!("{what} is not frozen any more")])
}
