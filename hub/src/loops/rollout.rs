//! Plans who may have what, and offers: seals content with intents, assigns the generation, signs the head, stores, tells
//! the session. An unchanged cluster gets nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::bundle::{FORMAT, Index, UnitState};
use driftless_protocol::canonical::{self, CanonicalError};
use driftless_protocol::head::Head as HeadStatement;
use driftless_protocol::id::{ClusterId, Digest, Generation, UnitId};
use driftless_protocol::limits;
use driftless_protocol::session::hub::Current;
use driftless_protocol::signing::Purpose;
use driftless_rollout::{
    ActionKind, CANARY_LABEL, ClusterView, Content as ViewContent, Expected, FleetView, Freeze, Health, Offered,
    Policy, judge, plan,
};
use driftless_store::{Cluster, ClusterState, Head, Intent, IntentRecord, Offer, Store, StoreError};

use crate::clock;
use crate::content::{Content, ContentError, intents_for};
use crate::loops::approvals;
use crate::shared::Shared;
use crate::view::attribute;

/// Looks again by itself: heads expire, and nothing depends on having been woken.
const EVERY: Duration = Duration::from_secs(30);
/// Reports arrive in bursts: from the end of a pass to the next one it is at least this long, so that one serves many.
const SETTLE: Duration = Duration::from_millis(20);
/// A large fleet's pass takes longer: half of the time goes to others, but no change waits longer than this.
const SETTLE_MOST: Duration = Duration::from_secs(1);
/// How long a head is good (`security.md` section 2).
const HEAD_SECONDS: u64 = 24 * 3600;

/// Why an offer was not made.
#[derive(Debug, thiserror::Error)]
enum OfferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the content it was offered last cannot be read back")]
    Content(#[from] ContentError),
    #[error("its index has no canonical form")]
    Canonical(#[from] CanonicalError),
    #[error("its bundle has {bytes} bytes, more than the {limit} a cluster takes")]
    TooLarge { bytes: u64, limit: u64 },
}

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pinned = Pinned::default();
    loop {
        let began = tokio::time::Instant::now();
        if let Err(error) = pass(&shared, &mut pinned).await {
            tracing::error!(error = %crate::chain(&error), "the rollout cannot be planned");
        }
        let settled = tokio::time::Instant::now() + began.elapsed().clamp(SETTLE, SETTLE_MOST);
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.wake.rollout.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        // A change after a quiet time is served at once.
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep_until(settled) => {}
        }
    }
}

/// Content read back from the store: of clusters whose head carries other content than their newest render.
#[derive(Default)]
struct Pinned(BTreeMap<Digest, Arc<Content>>);

impl Pinned {
    async fn get(&mut self, store: &Store, digest: Digest) -> Result<Arc<Content>, ContentError> {
        if let Some(content) = self.0.get(&digest) {
            return Ok(content.clone());
        }
        let content = Arc::new(Content::load(store, digest).await?);
        self.0.insert(digest, content.clone());
        Ok(content)
    }
}

async fn pass(shared: &Arc<Shared>, pinned: &mut Pinned) -> Result<(), StoreError> {
    let clusters: Vec<Cluster> =
        shared.store.clusters().await?.into_iter().filter(|c| c.state == ClusterState::Active).collect();
    let mut heads: BTreeMap<ClusterId, Head> = BTreeMap::new();
    for head in shared.store.heads().await? {
        heads.entry(head.cluster).or_insert(head); // newest first
    }
    let intents = approvals::end(shared, &clusters, &heads, shared.store.intents().await?).await?;
    pinned.0.retain(|digest, _| heads.values().any(|h| h.content == *digest));

    let approvals = intents.iter().any(|record| matches!(record.intent, Intent::ApproveDelete { .. }));
    shared.set_reports_matter(approvals || clusters.iter().any(is_canary));
    let view = view(shared, &clusters, &heads, &intents).await?;
    let plan = plan(&Policy::default(), &view, clock::seconds());
    let before = shared.plan();
    for verdict in &plan.verdicts {
        let known = before.verdicts.iter().any(|b| b.cluster == verdict.cluster && b.reasons == verdict.reasons);
        if !known {
            let why: Vec<String> = verdict.reasons.iter().map(|n| format!("{}: {}", n.code, n.message)).collect();
            tracing::info!(cluster = %verdict.name, state = ?verdict.state, why = why.join("; "), "rollout");
        }
    }
    let actions: BTreeMap<ClusterId, ActionKind> = plan.actions.iter().map(|a| (a.cluster, a.kind.clone())).collect();
    let order: Vec<ClusterId> = plan.actions.iter().map(|a| a.cluster).collect();
    shared.put_plan(plan);

    // Canaries first, as planned; then everybody whose intents may have changed.
    let mut rest: Vec<&Cluster> = clusters.iter().collect();
    rest.sort_by_key(|c| order.iter().position(|id| *id == c.id).unwrap_or(usize::MAX));
    for cluster in rest {
        if shared.stop.is_cancelled() {
            break;
        }
        let head = heads.get(&cluster.id);
        let mut newest = head.map(|h| h.generation);
        match offer(shared, pinned, cluster, head, actions.get(&cluster.id), &intents).await {
            Ok(made) => {
                newest = made.or(newest);
                shared.set_blocked(cluster.id, None);
            }
            Err(OfferError::Store(StoreError::Conflict { what, .. })) => {
                tracing::info!(cluster = %cluster.name, why = what, "an offer is made again");
                shared.wake.rollout.notify_one();
            }
            Err(error) => {
                let why = crate::chain(&error);
                if shared.set_blocked(cluster.id, Some(why.clone())) {
                    tracing::error!(cluster = %cluster.name, error = why, "nothing can be offered");
                }
            }
        }
        tell(shared, cluster.id, newest).await?;
    }
    Ok(())
}

/// Gives a session what it does not offer yet: made just now, by another hub, or when the store did not answer.
async fn tell(shared: &Shared, cluster: ClusterId, newest: Option<Generation>) -> Result<(), StoreError> {
    let Some(known) = shared.registry.offered(cluster) else { return Ok(()) };
    if newest.is_some()
        && newest != known
        && let Some(current) = current(shared, cluster).await?
    {
        shared.registry.offer(cluster, current);
    }
    Ok(())
}

/// The generation, if one was made.
async fn offer(
    shared: &Arc<Shared>,
    pinned: &mut Pinned,
    cluster: &Cluster,
    head: Option<&Head>,
    action: Option<&ActionKind>,
    records: &[IntentRecord],
) -> Result<Option<Generation>, OfferError> {
    let render = shared.render_of(cluster.id);
    let (content, revisions) = match (action, head) {
        (Some(ActionKind::Offer { content }), _) => match &render {
            Some(render) if render.content.blob.digest == *content => {
                (render.content.clone(), render.revisions.clone())
            }
            // Rendered anew since the plan was made: the next pass decides.
            _ => {
                shared.wake.rollout.notify_one();
                return Ok(None);
            }
        },
        (_, Some(head)) => match &render {
            Some(render) if render.content.blob.digest == head.content => {
                render.content.forget_objects();
                (render.content.clone(), render.revisions.clone())
            }
            _ => (pinned.get(&shared.store, head.content).await?, head.revisions.clone()),
        },
        (_, None) => return Ok(None),
    };
    let sealed = content.seal(&intents_for(cluster.id, records))?;
    let refresh = matches!(action, Some(ActionKind::Refresh));
    let trust_epoch = shared.trust.newest.trust_epoch;
    // What a restored database offered before its epoch was raised: the agent has refused it, or will.
    let of_before = head.is_some_and(|h| (h.generation.trust_epoch, h.generation.epoch) < (trust_epoch, shared.epoch));
    let same = head.is_some_and(|h| h.index == sealed.blob.digest && h.content == content.blob.digest);
    if same && !refresh && !of_before {
        return Ok(None);
    }
    if sealed.raw_total > limits::BUNDLE_RAW_BYTES {
        return Err(OfferError::TooLarge { bytes: sealed.raw_total, limit: limits::BUNDLE_RAW_BYTES });
    }
    let (now, after) = (clock::seconds(), head.map(|h| h.generation));
    let generation = Generation { trust_epoch, epoch: shared.epoch, sequence: after.map_or(1, |g| g.sequence + 1) };
    let statement = HeadStatement {
        format: FORMAT,
        cluster: cluster.id,
        kube_uid: cluster.kube_uid.clone(),
        generation,
        trust_version: shared.trust.newest.version,
        index: sealed.blob,
        raw_total: sealed.raw_total,
        revisions: revisions.clone(),
        issued: now,
        expires: now + HEAD_SECONDS,
    };
    let signed = shared.keys.signer.sign(Purpose::Head, &statement)?;
    shared
        .store
        .offer(Offer {
            cluster: cluster.id,
            after,
            generation,
            head: signed,
            index: sealed.node(),
            content: content.node(),
            bodies: content.body_nodes(),
            objects: content.objects(),
            revisions: revisions.clone(),
            now: clock::millis(),
            expires: now + HEAD_SECONDS,
        })
        .await?;
    content.forget_objects();
    let revision = revisions.first().map(|r| r.revision.to_string()).unwrap_or_default();
    tracing::info!(cluster = %cluster.name, %generation, revision, index = %sealed.blob.digest.short(),
        why = if refresh { "head renewed" } else if same { "new epoch" } else { "new content or intents" }, "offered");
    Ok(Some(generation))
}

/// What a cluster's session offers now; nothing before the first offer.
pub(crate) async fn current(shared: &Shared, cluster: ClusterId) -> Result<Option<Current>, StoreError> {
    let Some(head) = shared.store.heads_of(cluster).await?.into_iter().next() else { return Ok(None) };
    let closure = shared.store.closure(head.index).await?;
    Ok(Some(Current {
        generation: head.generation,
        head: head.head,
        trust: shared.trust.documents.clone(),
        closure: Arc::new(closure),
    }))
}

async fn view(
    shared: &Shared,
    clusters: &[Cluster],
    heads: &BTreeMap<ClusterId, Head>,
    intents: &[IntentRecord],
) -> Result<FleetView, StoreError> {
    let freeze_of = |scope: Option<ClusterId>| {
        intents
            .iter()
            .find(|r| r.intent == Intent::Freeze { cluster: scope })
            .map(|r| Freeze { actor: r.actor.clone(), reason: r.reason.clone() })
    };
    let renders = shared.renders();
    let mut out = FleetView { frozen: freeze_of(None), clusters: Vec::with_capacity(clusters.len()) };
    for cluster in clusters {
        let head = heads.get(&cluster.id);
        let canary = is_canary(cluster);
        // Only canaries hold others up.
        let health = if canary { health(shared, cluster.id, head).await? } else { Health::Unknown };
        out.clusters.push(ClusterView {
            id: cluster.id,
            name: cluster.name.clone(),
            canary,
            frozen: freeze_of(Some(cluster.id)),
            desired: renders
                .get(&cluster.id)
                .map(|r| ViewContent { id: r.content.blob.digest, revisions: r.revisions.clone() }),
            offered: head.map(|h| Offered {
                content: h.content,
                taken: h.taken_at.is_some(),
                refused: h.refused.clone(),
                expires: h.expires,
            }),
            health,
            connected: shared.registry.is_connected(cluster.id),
        });
    }
    Ok(out)
}

/// Whether a cluster gets content first.
pub(crate) fn is_canary(cluster: &Cluster) -> bool {
    cluster.labels.get(CANARY_LABEL).is_some_and(|v| v == "true")
}

async fn health(shared: &Shared, cluster: ClusterId, head: Option<&Head>) -> Result<Health, StoreError> {
    let Some(head) = head else { return Ok(Health::Unknown) };
    let Some(index) = index_of(shared, head.index).await? else { return Ok(Health::Unknown) };
    // Bodies that the head before did not have are judged by what is said of them from now on: a report of an older
    // generation may speak of the same body, and of a cluster that has had another since.
    let before = shared.store.heads_of(cluster).await?.into_iter().find(|before| before.generation < head.generation);
    let before = match before {
        Some(before) if before.index != head.index => index_of(shared, before.index).await?,
        _ => None,
    };
    let had = |id: &UnitId, state: &UnitState| {
        before.as_ref().is_none_or(|index| index.units.iter().any(|unit| unit.id == *id && unit.state == *state))
    };
    let expected: BTreeMap<UnitId, Expected> = index
        .units
        .into_iter()
        .map(|unit| {
            let had = had(&unit.id, &unit.state);
            let expected = match unit.state {
                UnitState::Full { body } if had => Expected::Body(body.digest),
                UnitState::Full { body } => Expected::BodySince(body.digest, head.generation),
                UnitState::Held { reason, .. } => Expected::Held(reason.message),
                UnitState::Suspended { .. } => Expected::Suspended,
            };
            (unit.id, expected)
        })
        .collect();
    // One that only compares holds nobody up: nothing it says is about what it would do.
    let agents = shared.store.cluster_reports().await?;
    if agents.iter().any(|agent| agent.cluster == cluster && agent.report.shadow) {
        return Ok(Health::Healthy);
    }
    let units_at = agents.iter().find(|agent| agent.cluster == cluster).and_then(|agent| agent.report.units_at);
    let mut reports = shared.store.unit_reports(Some(cluster)).await?;
    reports.iter_mut().for_each(|stored| attribute::generation(&mut stored.report, units_at));
    Ok(judge(&expected, &reports.into_iter().map(|r| (r.report.unit.clone(), r.report)).collect()))
}

async fn index_of(shared: &Shared, digest: Digest) -> Result<Option<Index>, StoreError> {
    let bytes = shared.store.blobs(vec![digest]).await?.pop().map(|(_, bytes)| bytes).unwrap_or_default();
    Ok(canonical::from_slice::<Index>(&bytes).ok())
}
