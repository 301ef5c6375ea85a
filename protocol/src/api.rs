//! The admin API: JSON under `/api/v1`, over mutual TLS or the hub's local socket.
//!
//! | method and path | query or body | answer |
//! |---|---|---|
//! | `GET /api/v1/fleet` | | [`Fleet`] |
//! | `GET /api/v1/clusters` | | list of [`ClusterRow`] |
//! | `POST /api/v1/join-tokens` | [`JoinTokenRequest`] | [`JoinTokenCreated`] |
//! | `GET /api/v1/units` | `cluster`, `namespace`, `name` | list of [`UnitRow`] |
//! | `GET /api/v1/clusters/{cluster}/units/{namespace}/{name}` | | [`UnitDetail`] |
//! | `GET /api/v1/clusters/{cluster}/units/{namespace}/{name}/why` | | [`Why`] |
//! | `GET /api/v1/sources` | | list of [`SourceRow`] |
//! | `POST /api/v1/reconcile` | [`ReconcileRequest`] | [`Reconciled`] |
//! | `POST /api/v1/suspend`, `POST /api/v1/resume` | [`SteerRequest`] | [`Steered`] |
//! | `POST /api/v1/freeze`, `POST /api/v1/unfreeze` | [`FreezeRequest`] | [`Frozen`] |
//!
//! Clusters are named by name. Errors are [`ProblemJson`] (RFC 9457) with a stable `code`. Times are Unix milliseconds.
//! Lists are sorted by cluster, namespace, name. Readers ignore fields they do not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::{DriftMode, Reason};
use crate::id::{ClusterId, ClusterName, UnitId};
use crate::report::{Ready, UnitReport};

/// Where the API lives.
pub const BASE: &str = "/api/v1";

/// The label whose value `true` makes a cluster a canary: it gets a commit first.
pub const CANARY_LABEL: &str = "driftless.dev/canary";

/// An error answer, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemJson {
    /// HTTP status.
    pub status: u16,
    /// Stable code: `NotFound`, `Ambiguous`, `Invalid`, `Conflict`, `Forbidden`, `Internal`, ...
    pub code: String,
    /// What was attempted, on what, and what came of it.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The whole fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fleet {
    /// Version of the hub program.
    pub hub_version: String,
    /// Per cluster.
    pub clusters: Vec<ClusterRow>,
    /// Per source.
    pub sources: Vec<SourceRow>,
    /// Freezes in force.
    pub freezes: Vec<FreezeRow>,
    /// Units over all clusters.
    pub units: UnitCounts,
    /// Roots in Git that no cluster has, and the like.
    pub problems: Vec<Reason>,
}

/// How many units are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitCounts {
    /// All.
    pub total: u32,
    /// Ready.
    pub ready: u32,
    /// Failed.
    pub failed: u32,
    /// On the way, or not known.
    pub unknown: u32,
    /// Held by the hub.
    pub held: u32,
    /// Suspended.
    pub suspended: u32,
    /// With drift that stays.
    pub drifted: u32,
    /// With deletes that wait for approval.
    pub awaiting_approval: u32,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// For its whole life.
    pub id: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether an agent is connected to this hub now.
    pub connected: bool,
    /// When it was last heard of.
    #[serde(default)]
    pub last_seen: Option<u64>,
    /// The generation the agent enforces, `trust.epoch.sequence`.
    #[serde(default)]
    pub applied_generation: Option<String>,
    /// The generation offered last.
    #[serde(default)]
    pub offered_generation: Option<String>,
    /// The revision of the root source that the cluster runs, as Flux writes it: the newest one whose content it has.
    #[serde(default)]
    pub revision: Option<String>,
    /// Its units.
    pub units: UnitCounts,
    /// How its rollout stands: `UpToDate`, `Offered`, `Held`, `Halted`, `NotEnrolled`, ...
    pub rollout: Reason,
    /// Version of the agent program.
    #[serde(default)]
    pub agent_version: String,
    /// Version of Kubernetes.
    #[serde(default)]
    pub kubernetes_version: String,
    /// Objects in its inventory.
    #[serde(default)]
    pub inventory: u64,
    /// Troubles of the agent, or of the hub with this cluster.
    #[serde(default)]
    pub problems: Vec<Reason>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRow {
    /// `namespace/name`.
    pub name: String,
    /// Without credentials.
    pub url: String,
    /// `branch main`.
    pub reference: String,
    /// Whether the last fetch succeeded.
    pub ready: bool,
    /// `Ready`, or the stable code of the failure.
    pub code: String,
    /// For people.
    pub message: String,
    /// The last good revision, which is what is rendered.
    #[serde(default)]
    pub revision: Option<String>,
    /// When it was fetched.
    #[serde(default)]
    pub fetched_at: Option<u64>,
    /// Since when `code` is what it is.
    #[serde(default)]
    pub since: u64,
    /// Suspended.
    #[serde(default)]
    pub suspended: bool,
}

/// One unit in one cluster, as a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitRow {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Which unit.
    pub unit: UnitId,
    /// Ready or not.
    pub ready: Ready,
    /// Stable code.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The newest revision whose content is applied, as Flux writes it.
    #[serde(default)]
    pub revision: Option<String>,
    /// When it was last applied.
    #[serde(default)]
    pub last_applied: Option<u64>,
    /// Suspended, by Git or an operator.
    pub suspended: bool,
    /// Fields or objects with drift that stays.
    #[serde(default)]
    pub drifted: u32,
    /// What is done with drift.
    #[serde(default)]
    pub drift_mode: DriftMode,
    /// Deletes that wait for approval.
    #[serde(default)]
    pub held_deletes: u32,
    /// Objects declared.
    #[serde(default)]
    pub objects: u32,
}

/// Everything known of one unit in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitDetail {
    /// The row.
    pub row: UnitRow,
    /// Where it is defined.
    #[serde(default)]
    pub defined_at: Option<Place>,
    /// Its source and path.
    #[serde(default)]
    pub source: String,
    /// Its path in the source.
    #[serde(default)]
    pub path: String,
    /// Units it depends on.
    #[serde(default)]
    pub depends_on: Vec<UnitId>,
    /// What rendering found, with file and line.
    #[serde(default)]
    pub problems: Vec<Reason>,
    /// Objects Git holds that are not sent.
    #[serde(default)]
    pub withheld: Vec<WithheldRow>,
    /// Where each object is written, by its display text.
    #[serde(default)]
    pub origins: BTreeMap<String, Place>,
    /// What the agent last said; `None` before it did.
    #[serde(default)]
    pub report: Option<UnitReport>,
}

/// A file and line in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `namespace/name` of the source.
    pub source: String,
    /// Path in it.
    pub file: String,
    /// 1-based; 0: the file as a whole.
    pub line: u32,
}

/// An object that is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithheldRow {
    /// The object, as people type it.
    pub object: String,
    /// Why, with file and line.
    pub reason: Reason,
}

/// Why a unit is as it is: the chain, in the order things happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Which unit.
    pub unit: UnitId,
    /// One sentence: what it comes down to.
    pub summary: String,
    /// The chain.
    pub steps: Vec<WhyStep>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyStep {
    /// Which link.
    pub step: WhyKind,
    /// How it stands.
    pub state: WhyState,
    /// For people.
    pub message: String,
    /// Where to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Since when it stands so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// The links of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhyKind {
    /// Was the commit fetched?
    Source,
    /// Was the unit rendered?
    Render,
    /// May the cluster have it (canary, freeze)?
    Rollout,
    /// Was it signed and offered?
    Offer,
    /// Did the agent get it and believe it?
    Transport,
    /// What does it wait for?
    Dependency,
    /// Was it applied?
    Apply,
    /// Is it healthy?
    Health,
    /// Does it stay so?
    Drift,
    /// Is something to be deleted?
    Prune,
}

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhyState {
    /// Done, as it should be.
    Ok,
    /// Waits.
    Waiting,
    /// Failed.
    Failed,
    /// Good to know.
    Info,
    /// Nothing to say: an earlier link did not get so far.
    NotReached,
}

/// Asks for a join token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The name the cluster gets.
    pub name: ClusterName,
    /// The labels it gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Lifetime in seconds; at most a day.
    pub ttl_seconds: u64,
}

/// A new join token. The only time its text is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenCreated {
    /// `dfj1....`: give it to the agent chart as `join.token`.
    pub token: String,
    /// Its public half.
    pub id: String,
    /// The name the cluster gets.
    pub name: ClusterName,
    /// When it ceases to be usable.
    pub expires: u64,
}

/// The token is a secret: it is shown by whoever asked for it, not by a debug line.
impl std::fmt::Debug for JoinTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinTokenCreated").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Look again now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReconcileRequest {
    /// In which cluster; all when left out.
    pub cluster: Option<ClusterName>,
    /// Which unit; all when left out.
    pub unit: Option<UnitId>,
}

/// What a reconcile came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconciled {
    /// The sources after fetching.
    pub sources: Vec<SourceRow>,
    /// Clusters whose agent was asked to look again.
    pub asked: Vec<ClusterName>,
    /// Clusters that are not connected: they look again by themselves when they come back.
    pub away: Vec<ClusterName>,
}

/// Suspend or resume a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SteerRequest {
    /// Which unit.
    pub unit: UnitId,
    /// In which cluster; `None`: in all that have it.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Where it was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Steered {
    /// Clusters where something changed.
    pub changed: Vec<ClusterName>,
    /// Clusters where it was so already.
    pub unchanged: Vec<ClusterName>,
    /// What the operator should know: Git suspends the unit all the same, and the like.
    pub notes: Vec<String>,
}

/// Freeze or unfreeze.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FreezeRequest {
    /// Only this cluster; the fleet when left out.
    pub cluster: Option<ClusterName>,
    /// Why.
    pub reason: String,
}

/// The freezes in force now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Frozen {
    /// All of them.
    pub freezes: Vec<FreezeRow>,
}

/// A freeze in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FreezeRow {
    /// `None`: the whole fleet.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// Who, by the name of the certificate or socket user.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: u64,
}

/// The CLI's context file (YAML, 0600): how to reach a hub, and who one is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// `https://host:port` of the admin API.
    pub address: String,
    /// Name in the hub's certificate.
    pub server_name: String,
    /// PEM of the hub's certificate authority.
    pub certificate_authority: String,
    /// PEM of the admin's certificate.
    pub certificate: String,
    /// PEM of the admin's private key.
    pub key: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("address", &self.address).finish_non_exhaustive()
    }
}
