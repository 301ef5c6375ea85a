//! What the hub's tasks share. Everything here is recomputed or reread after a restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use driftless_protocol::facts::Facts;
use driftless_protocol::id::{ClusterId, Digest};
use driftless_protocol::quic::tls::HubIdentity;
use driftless_protocol::signing::Signed;
use driftless_protocol::trust::TrustDocument;
use driftless_render::flux::Cache;
use driftless_rollout::Plan;
use driftless_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::fleet::registry::Registry;
use crate::keys::Keys;
use crate::loops::sources::Book;
use crate::rendered::ClusterRender;

/// Version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One per hub.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) identity: Arc<HubIdentity>,
    pub(crate) trust: Trust,
    pub(crate) epoch: u64,
    /// Where monotonic times are counted from.
    pub(crate) origin: Instant,
    pub(crate) sources: Book,
    pub(crate) registry: Registry,
    pub(crate) cache: Cache,
    pub(crate) wake: Wake,
    renders: RwLock<BTreeMap<ClusterId, Arc<ClusterRender>>>,
    /// Facts of clusters as the store has them, with their digests.
    facts: RwLock<BTreeMap<ClusterId, (Digest, Arc<Facts>)>>,
    plan: RwLock<Arc<Plan>>,
    /// Whether reports move the rollout.
    reports_matter: AtomicBool,
    /// Clusters that nothing can be offered to, and why.
    blocked: RwLock<BTreeMap<ClusterId, String>>,
    /// No new work is begun after it.
    pub(crate) stop: CancellationToken,
}

/// Every trust document, and the newest one read.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) documents: Arc<[Signed]>,
    pub(crate) newest: TrustDocument,
}

/// Wakes the loops. A wake that comes while a loop runs makes it run once more.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    pub(crate) render: Notify,
    pub(crate) rollout: Notify,
}

impl Shared {
    #[allow(clippy::too_many_arguments)] // the composition root fills it once
    pub(crate) fn new(
        config: Config,
        store: Store,
        keys: Keys,
        identity: Arc<HubIdentity>,
        trust: Trust,
        epoch: u64,
        sources: Book,
        cache: Cache,
        stop: CancellationToken,
    ) -> Self {
        Self {
            config,
            store,
            keys,
            identity,
            trust,
            epoch,
            origin: Instant::now(),
            sources,
            registry: Registry::default(),
            cache,
            wake: Wake::default(),
            renders: RwLock::default(),
            facts: RwLock::default(),
            plan: RwLock::default(),
            reports_matter: AtomicBool::new(false),
            blocked: RwLock::default(),
            stop,
        }
    }

    pub(crate) fn render_of(&self, cluster: ClusterId) -> Option<Arc<ClusterRender>> {
        self.renders.read().unwrap_or_else(PoisonError::into_inner).get(&cluster).cloned()
    }

    pub(crate) fn renders(&self) -> BTreeMap<ClusterId, Arc<ClusterRender>> {
        self.renders.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put_render(&self, cluster: ClusterId, render: Arc<ClusterRender>) {
        self.renders.write().unwrap_or_else(PoisonError::into_inner).insert(cluster, render);
        self.wake.rollout.notify_one();
    }

    /// A cluster's facts, when those at hand have this digest.
    pub(crate) fn facts_of(&self, cluster: ClusterId, digest: Digest) -> Option<Arc<Facts>> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.get(&cluster).filter(|(known, _)| *known == digest).map(|(_, facts)| facts.clone())
    }

    pub(crate) fn put_facts(&self, cluster: ClusterId, digest: Digest, facts: Arc<Facts>) {
        self.facts.write().unwrap_or_else(PoisonError::into_inner).insert(cluster, (digest, facts));
    }

    /// Forgets the renders and facts of clusters that are gone.
    pub(crate) fn keep_renders(&self, keep: impl Fn(ClusterId) -> bool) {
        self.facts.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| keep(*id));
        self.renders.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| keep(*id));
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn put_plan(&self, plan: Plan) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }
}

impl Shared {
    /// Whether the rollout waits for reports: somebody's health holds others up, or an approval ends with its object. Set
    /// by every pass of the rollout.
    pub(crate) fn reports_matter(&self) -> bool {
        self.reports_matter.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reports_matter(&self, matter: bool) {
        self.reports_matter.store(matter, Ordering::Relaxed);
    }

    /// Why nothing can be offered to a cluster.
    pub(crate) fn blocked(&self, cluster: ClusterId) -> Option<String> {
        self.blocked.read().unwrap_or_else(PoisonError::into_inner).get(&cluster).cloned()
    }

    /// Whether that is news.
    pub(crate) fn set_blocked(&self, cluster: ClusterId, why: Option<String>) -> bool {
        let mut blocked = self.blocked.write().unwrap_or_else(PoisonError::into_inner);
        match why {
            None => blocked.remove(&cluster).is_some(),
            Some(why) => blocked.insert(cluster, why.clone()).as_ref() != Some(&why),
        }
    }
}
