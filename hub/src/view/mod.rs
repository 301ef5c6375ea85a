//! What operators see: one consistent look at store, renders, rollout and sessions.

pub(crate) mod attribute;
mod chain;
pub(crate) mod deletes;
mod dependency;
pub(crate) mod detail;
mod held;
pub(crate) mod live;
pub(crate) mod rows;
#[cfg(test)]
mod samples;
pub(crate) mod shadow;
pub(crate) mod why;

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, ClusterName, UnitId};
use driftless_rollout::{Plan, Verdict};
use driftless_store::{
    Cluster, ClusterState, Head, Intent, IntentRecord, Store, StoreError, StoredClusterReport, StoredUnitReport,
};

use crate::clock;
use crate::http::error::Refusal;
use crate::rendered::ClusterRender;
use crate::shared::Shared;

/// The fleet at one moment.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) now: u64,
    /// The active ones, by name.
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) intents: Vec<IntentRecord>,
    pub(crate) pending: Vec<ClusterName>,
    heads: BTreeMap<ClusterId, Head>,
    agents: BTreeMap<ClusterId, StoredClusterReport>,
    units: BTreeMap<ClusterId, Vec<StoredUnitReport>>,
    renders: BTreeMap<ClusterId, Arc<ClusterRender>>,
    plan: Arc<Plan>,
}

impl<'a> Fleet<'a> {
    pub(crate) async fn load(shared: &'a Shared) -> Result<Self, StoreError> {
        let store: &Store = &shared.store;
        let now = clock::millis();
        let clusters: Vec<Cluster> =
            store.clusters().await?.into_iter().filter(|c| c.state == ClusterState::Active).collect();
        let agents: BTreeMap<ClusterId, StoredClusterReport> =
            store.cluster_reports().await?.into_iter().map(|r| (r.cluster, r)).collect();
        let renders = shared.renders();
        let mut heads = BTreeMap::new();
        // The revisions of the generation that all unit reports of a cluster speak of.
        let mut at: BTreeMap<ClusterId, Vec<SourceRevision>> = BTreeMap::new();
        for head in store.heads().await? {
            if agents.get(&head.cluster).is_some_and(|agent| agent.report.units_at == Some(head.generation)) {
                at.insert(head.cluster, head.revisions.clone());
            }
            heads.entry(head.cluster).or_insert(head); // newest first
        }
        let mut units: BTreeMap<ClusterId, Vec<StoredUnitReport>> = BTreeMap::new();
        for mut stored in store.unit_reports(None).await? {
            let (cluster, report) = (stored.cluster, &mut stored.report);
            attribute::generation(report, agents.get(&cluster).and_then(|agent| agent.report.units_at));
            let source =
                renders.get(&cluster).and_then(|render| render.units.get(&report.unit)).map(|view| &view.source);
            let revisions = at.get(&cluster).map(Vec::as_slice).unwrap_or_default();
            if let Some(found) = revisions.iter().find(|r| Some(&r.source) == source) {
                attribute::revision(report, &found.revision.to_string());
            }
            units.entry(cluster).or_default().push(stored);
        }
        let tokens = store.tokens().await?;
        let pending =
            tokens.into_iter().filter(|t| t.used.is_none() && t.token.expires > now).map(|t| t.token.name).collect();
        Ok(Self {
            shared,
            now,
            clusters,
            intents: store.intents().await?,
            pending,
            heads,
            agents,
            units,
            renders,
            plan: shared.plan(),
        })
    }

    pub(crate) fn cluster(&self, name: &str) -> Result<&Cluster, Refusal> {
        self.clusters.iter().find(|c| c.name.as_str() == name).ok_or_else(|| {
            Refusal::not_found(format!(
                "no cluster named {name} is enrolled; `driftless cluster list` shows those that are"
            ))
        })
    }

    pub(crate) fn head(&self, cluster: &Cluster) -> Option<&Head> {
        self.heads.get(&cluster.id)
    }

    pub(crate) fn agent(&self, cluster: &Cluster) -> Option<&StoredClusterReport> {
        self.agents.get(&cluster.id)
    }

    pub(crate) fn render(&self, cluster: &Cluster) -> Option<&ClusterRender> {
        self.renders.get(&cluster.id).map(|r| &**r)
    }

    pub(crate) fn reports_of(&self, cluster: ClusterId) -> &[StoredUnitReport] {
        self.units.get(&cluster).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn verdict(&self, cluster: &Cluster) -> Option<&Verdict> {
        self.plan.verdicts.iter().find(|v| v.cluster == cluster.id)
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The freeze of a scope.
    pub(crate) fn frozen(&self, scope: Option<ClusterId>) -> Option<&IntentRecord> {
        self.intents.iter().find(|r| r.intent == Intent::Freeze { cluster: scope })
    }

    /// An operator's suspension of a unit, the cluster's own before one for all clusters.
    pub(crate) fn suspended(&self, cluster: &Cluster, id: &UnitId) -> Option<&IntentRecord> {
        let of = |scope: Option<ClusterId>| {
            self.intents.iter().find(
                move |r| matches!(&r.intent, Intent::Suspend { cluster, unit } if unit == id && *cluster == scope),
            )
        };
        of(Some(cluster.id)).or_else(|| of(None))
    }

    /// Whether the last head carries what the newest render says.
    pub(crate) fn offered_newest(&self, cluster: &Cluster) -> bool {
        match (self.head(cluster), self.render(cluster)) {
            (Some(head), Some(render)) => head.content == render.content.blob.digest,
            _ => false,
        }
    }
}
