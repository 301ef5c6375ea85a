//! The admin API: JSON over HTTPS with mutual TLS, or over a local socket, under `/api/v1`.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /api/v1/status` | | [`FleetStatus`] |
//! | `GET /api/v1/clusters` | | [`List`] of [`ClusterRow`] |
//! | `GET /api/v1/clusters/{name}` | | [`ClusterDetail`] |
//! | `GET /api/v1/clusters/{name}/shadow` | | [`Shadow`]: how a cluster compares, unit by unit |
//! | `GET /api/v1/clusters/{name}/facts` | | [`Facts`](crate::facts::Facts) |
//! | `PATCH /api/v1/clusters/{name}` | [`ClusterChange`] | [`ClusterRow`] |
//! | `DELETE /api/v1/clusters/{name}` | | [`Done`]: revoked for good |
//! | `POST /api/v1/join-tokens` | [`JoinTokenRequest`] | [`JoinTokenCreated`] |
//! | `GET /api/v1/sources` | | [`List`] of [`SourceRow`] |
//! | `GET /api/v1/units?cluster=&namespace=&name=` | | [`List`] of [`UnitRow`] |
//! | `GET /api/v1/clusters/{name}/units/{namespace}/{unit}` | | [`UnitDetail`] |
//! | `GET /api/v1/clusters/{name}/units/{namespace}/{unit}/why?object=&live=` | | [`Why`] |
//! | `GET /api/v1/clusters/{name}/orphans?namespaces=&kinds=&system=` | | [`OrphansAnswer`](crate::ask::OrphansAnswer) |
//! | `POST /api/v1/clusters/{name}/dry-run` | [`DryRunRequest`] | [`DryRunAnswer`](crate::ask::DryRunAnswer) |
//! | `POST /api/v1/reconcile` | [`ReconcileRequest`] | [`Done`] |
//! | `POST /api/v1/suspend` | [`SuspendRequest`] | [`Done`] |
//! | `POST /api/v1/resume` | [`SuspendRequest`] | [`Done`] |
//! | `POST /api/v1/drift-mode` | [`DriftModeRequest`] | [`Done`] |
//! | `POST /api/v1/freeze` | [`FreezeRequest`] | [`Done`] |
//! | `POST /api/v1/unfreeze` | [`FreezeRequest`] | [`Done`] |
//! | `GET /api/v1/deletes?cluster=` | | [`List`] of [`DeleteList`]: what waits for approval |
//! | `POST /api/v1/approve` | [`ApproveRequest`] | [`Done`] |
//! | `GET /api/v1/history?cluster=&namespace=&name=&kind=&since=&limit=` | | [`List`] of [`HistoryEntry`], newest first |
//! | `GET /api/v1/audit?after=&limit=` | | [`List`] of [`AuditEntry`] |
//!
//! A unit is a Flux Kustomization; `?kind=HelmRelease` on the unit paths asks for the other kind. Errors are
//! [`Problem`] (RFC 9457, `application/problem+json`). Times are Unix milliseconds. Clients skip fields they do not know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ask::{DryRunObject, WhyObject};
use crate::bundle::{DriftMode, Reason, Withheld, is_false};
use crate::head::SourceRevision;
use crate::id::{ClusterId, ClusterName, Digest, Generation, UnitId};
use crate::object::ObjectKey;
use crate::report::{
    ClusterReport, FieldDrift, FluxState, ObjectReport, PauseReport, Ready, RecentEvent, ShadowReport, UnitReport,
};

/// Where every path begins.
pub const PREFIX: &str = "/api/v1";

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A request that was not carried out (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// Stable code: see [`problem`].
    #[serde(rename = "type")]
    pub code: String,
    /// In a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was asked, what stood in the way, what to do.
    pub detail: String,
}

/// Stable codes of [`Problem`].
pub mod problem {
    /// No such cluster, unit, source or path: 404.
    pub const NOT_FOUND: &str = "notFound";
    /// The request cannot be read: 400.
    pub const BAD_REQUEST: &str = "badRequest";
    /// It contradicts what there is: 409.
    pub const CONFLICT: &str = "conflict";
    /// The caller may not: 403.
    pub const FORBIDDEN: &str = "forbidden";
    /// The hub cannot answer now: 503.
    pub const UNAVAILABLE: &str = "unavailable";
    /// A fault of the hub: 500. The log has more.
    pub const INTERNAL: &str = "internal";
}

/// A list; room for paging beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// Sorted: by cluster, then namespace, then name.
    pub items: Vec<T>,
}

/// A request was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Done {
    /// One line per thing done, for people.
    pub messages: Vec<String>,
}

/// The fleet at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Version of the hub program.
    pub hub_version: String,
    /// The hub's clock, Unix milliseconds: ages are counted from here.
    pub now: u64,
    /// No new content goes to any cluster.
    pub frozen: Option<Frozen>,
    /// Every cluster.
    pub clusters: Vec<ClusterRow>,
    /// Every source.
    pub sources: Vec<SourceRow>,
    /// What keeps the rollout from moving, for the fleet as a whole.
    pub rollout: Vec<Reason>,
    /// Join tokens not used yet, by the name their cluster will get.
    pub pending: Vec<ClusterName>,
}

/// Who froze, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    /// Who.
    pub actor: String,
    /// Unix milliseconds.
    pub since: u64,
    /// Why; may be empty.
    pub reason: String,
}

/// A cluster in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// For its whole life.
    pub id: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its agent has a session with this hub now.
    pub connected: bool,
    /// When it was last heard, Unix milliseconds.
    pub last_seen: Option<u64>,
    /// `True`: connected, holds what was offered, and all units are ready. `False`: something needs a person.
    pub ready: Ready,
    /// Why it is not ready, in a line; else what it runs.
    pub message: String,
    /// The generation last offered.
    pub offered: Option<Generation>,
    /// The generation the agent enforces.
    pub applied: Option<Generation>,
    /// The revision of the root's source that it runs, as Flux writes it.
    pub revision: Option<String>,
    /// No new content goes to it.
    pub frozen: bool,
    /// Its agent compares and writes nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shadow: bool,
    /// It gets commits first.
    pub canary: bool,
    /// Counts over its units.
    pub units: UnitCounts,
    /// The agent's version; empty before its first report.
    pub agent_version: String,
    /// The cluster's version; empty before its first report.
    pub kubernetes_version: String,
    /// `Pause` objects in it: those in force, and those that do nothing, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseReport>,
}

/// Counts over units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnitCounts {
    /// All.
    pub total: u32,
    /// Ready.
    pub ready: u32,
    /// Not ready: something failed.
    pub failed: u32,
    /// On the way, or not heard of yet.
    pub progressing: u32,
    /// Suspended.
    pub suspended: u32,
    /// With drift that stays.
    pub drifted: u32,
    /// Deletes waiting for approval.
    pub held_deletes: u32,
    /// Held back by a `Pause`, whole or in part.
    pub paused: u32,
}

/// Everything about a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDetail {
    /// As in the table.
    #[serde(flatten)]
    pub row: ClusterRow,
    /// Unix milliseconds.
    pub enrolled: u64,
    /// UID of its `kube-system` namespace.
    pub kube_uid: String,
    /// When the agent's certificate ends, Unix seconds.
    pub certificate_expires: u64,
    /// The folder of its root.
    pub root: String,
    /// The agent's newest report.
    pub report: Option<ClusterReport>,
    /// Why the rollout moves it or lets it wait.
    pub rollout: Vec<Reason>,
    /// Problems of its render that belong to no unit.
    pub problems: Vec<Reason>,
    /// Its units.
    pub units: Vec<UnitRow>,
}

/// How a cluster compares with what Git says, where its agent writes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether its agent is in shadow mode. Without it only `flux` of the units says anything.
    pub shadow: bool,
    /// Whether its agent has a session with this hub now.
    pub connected: bool,
    /// Whether the newest render was offered and taken: else an older one was compared.
    pub newest: bool,
    /// In shadow mode, of the newest render, and every unit compared without a difference, or suspended in Git.
    pub zero: bool,
    /// Its units.
    pub units: Vec<ShadowUnit>,
}

/// How a unit compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowUnit {
    /// Which unit.
    pub unit: UnitId,
    /// As in [`UnitRow::ready`].
    pub ready: Ready,
    /// As in [`UnitRow::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// Suspended in Git or by an operator: not compared.
    pub suspended: bool,
    /// Objects declared.
    pub objects: u32,
    /// Flux's own object of it; `None`: there is none.
    pub flux: Option<FluxState>,
    /// The counts; `None`: nothing was compared.
    pub counts: Option<ShadowReport>,
    /// Objects that differ, are missing, would be refused, or are not compared yet.
    pub differences: Vec<ObjectReport>,
    /// Fields that differ.
    pub fields: Vec<FieldDrift>,
}

/// What to change about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterChange {
    /// Labels to set; `None` as a value removes one.
    pub labels: BTreeMap<String, Option<String>>,
}

/// A join token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The name the cluster gets.
    pub name: ClusterName,
    /// The labels it gets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How long it can be used; `None`: an hour. At most a day.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A join token; the hub cannot show it again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenCreated {
    /// The text for the agent, with its secret.
    pub token: String,
    /// The name the cluster gets.
    pub name: ClusterName,
    /// Unix milliseconds.
    pub expires: u64,
}

impl std::fmt::Debug for JoinTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinTokenCreated")
            .field("name", &self.name)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A source in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRow {
    /// `namespace/name`; for other kinds than GitRepository with the kind before it. Where several declarations of one name
    /// differ, all but the first have `@` and a digest after it.
    pub id: String,
    /// `GitRepository` or `OCIRepository`.
    pub kind: String,
    /// Without credentials.
    pub url: String,
    /// `branch main`.
    pub reference: String,
    /// `True`: the last fetch succeeded. `Unknown`: none has ended yet.
    pub ready: Ready,
    /// `Ready`, or the code of the failure.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The last good revision, as Flux writes it.
    pub revision: Option<String>,
    /// When that was fetched, Unix milliseconds.
    pub fetched_at: Option<u64>,
    /// The last attempt, Unix milliseconds.
    pub attempted_at: Option<u64>,
    /// Since when `reason` is what it is, Unix milliseconds.
    pub since: Option<u64>,
    /// The clusters whose render reads it.
    pub clusters: Vec<ClusterName>,
}

/// A unit in a table: the columns Flux users know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The revision it runs, as Flux writes it.
    pub revision: Option<String>,
    /// When it was last applied whole, Unix milliseconds.
    pub last_applied: Option<u64>,
    /// Nothing is done for it.
    pub suspended: bool,
    /// What is done with drift.
    pub drift_mode: DriftMode,
    /// Objects with drift that stays.
    pub drifted: u32,
    /// Objects declared.
    pub objects: u32,
    /// Deletes waiting for approval.
    pub held_deletes: u32,
    /// A `Pause` in the cluster that holds back it, or objects of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseReport>,
    /// The agent's report is older than the connection: what is shown may have changed.
    pub stale: bool,
}

/// Everything about a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitDetail {
    /// As in the table.
    #[serde(flatten)]
    pub row: UnitRow,
    /// Its source, `namespace/name`.
    pub source: String,
    /// Its path in the source.
    pub path: String,
    /// The unit whose build defines it.
    pub parent: Option<UnitId>,
    /// Where it is defined: file and line.
    pub defined_at: Option<Place>,
    /// Units it waits for.
    pub depends_on: Vec<UnitId>,
    /// The revision the hub rendered last, as Flux writes it.
    pub rendered_revision: Option<String>,
    /// What the render has to say about it, a held unit's reason included.
    pub problems: Vec<Reason>,
    /// Objects Git holds that are not sent.
    pub withheld: Vec<Withheld>,
    /// Its objects with the file and line that declare them. Named so in JSON because the row counts `objects`.
    #[serde(rename = "declared")]
    pub objects: Vec<DeclaredObject>,
    /// Operator intents that apply to it.
    pub intents: Vec<IntentEntry>,
    /// The agent's newest report, with objects that are not in order, drift and held deletes.
    pub report: Option<UnitReport>,
    /// When that came, Unix milliseconds.
    pub reported_at: Option<u64>,
}

/// A file and a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `namespace/name` of the source.
    pub source: String,
    /// Path in the source.
    pub file: String,
    /// 1-based; 0: the file as a whole.
    pub line: u32,
}

/// An object of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredObject {
    /// Which object.
    pub key: ObjectKey,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Where it is declared.
    pub at: Option<Place>,
}

/// An operator intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntentEntry {
    /// `suspend`, `driftMode`, `freeze`, `approveDelete`.
    pub what: String,
    /// Who.
    pub actor: String,
    /// Unix milliseconds.
    pub at: u64,
    /// Why; may be empty.
    pub reason: String,
}

/// Why a unit is as it is: the chain from the commit to the cluster, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The cluster.
    pub cluster: ClusterName,
    /// The unit.
    pub unit: UnitId,
    /// The revision that is wanted, as Flux writes it.
    pub wanted: Option<String>,
    /// The revisions of all sources of the last render.
    pub revisions: Vec<SourceRevision>,
    /// In a line: the first step that is not in order, or that all is well.
    pub summary: String,
    /// The chain.
    pub steps: Vec<Step>,
    /// When the agent last reported the unit, Unix milliseconds: the steps in the cluster are as of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<u64>,
    /// What the agent saw when it was asked just now; absent where there was nothing to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<WhyLive>,
}

/// What the agent saw below a unit's objects that are not healthy, down to their pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhyLive {
    /// When it was asked, Unix milliseconds.
    pub asked_at: u64,
    /// What it saw; empty when it was not asked.
    pub objects: Vec<WhyObject>,
    /// Objects that are not healthy either and were not asked about.
    pub more: u32,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
}

/// Objects to be tried by the API server of a cluster, with `dryRun=All` and in no other way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DryRunRequest {
    /// At most [`DRY_RUN_OBJECTS`](crate::ask::DRY_RUN_OBJECTS).
    pub objects: Vec<DryRunObject>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which link.
    pub stage: Stage,
    /// How it stands.
    pub state: StepState,
    /// For people: what happened, to what, what to do.
    pub message: String,
    /// Stable code where there is one.
    pub code: Option<String>,
    /// The file to look at.
    pub file: Option<String>,
    /// 1-based line in it.
    pub line: Option<u32>,
    /// The revision this link is about, as Flux writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Since when, Unix milliseconds.
    pub since: Option<u64>,
}

/// The links of the chain, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The commit is fetched.
    Source,
    /// The unit is rendered.
    Render,
    /// The rollout lets it go.
    Rollout,
    /// The generation is signed and offered.
    Offer,
    /// The agent is connected and has taken the generation.
    Transport,
    /// Nobody suspends or freezes it.
    Pause,
    /// What it depends on is ready.
    Dependency,
    /// Its objects are applied.
    Apply,
    /// No delete waits for a person.
    Approval,
    /// Its objects are healthy.
    Health,
    /// What they made is well: down to pods, as the agent saw it just now.
    Pods,
    /// The cluster is as declared.
    Drift,
    /// Nobody else keeps changing it.
    Contest,
}

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Done.
    Ok,
    /// On the way, held or paused: goes on when what it names changes.
    Waiting,
    /// Needs a person.
    Failed,
    /// Not reached: a link before is in the way.
    Unknown,
}

/// Look again now. Changes nothing about what is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReconcileRequest {
    /// Only this cluster; `None`: all.
    pub cluster: Option<ClusterName>,
    /// Only this unit; `None`: all.
    pub unit: Option<UnitId>,
    /// Only fetch this source, and tell no agent.
    pub source: Option<String>,
}

/// Leave a unit alone, or take it up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendRequest {
    /// Where; `None`: in every cluster.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// Which unit.
    pub unit: UnitId,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What becomes of drift, whatever Git says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftModeRequest {
    /// Where; `None`: in every cluster.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// Which unit; `None`: all of them, but for those that an operator gave a mode of their own.
    #[serde(default)]
    pub unit: Option<UnitId>,
    /// The mode; `None`: as Git says again.
    #[serde(default)]
    pub mode: Option<DriftMode>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Let no new content go out, or let it go again. Healing and operator intents go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FreezeRequest {
    /// Only this cluster; `None`: the whole fleet.
    pub cluster: Option<ClusterName>,
    /// Why.
    pub reason: String,
}

/// Deletes of one unit that wait for approval, as one or more clusters hold them alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteList {
    /// [`delete_list_id`]: what is approved is exactly what was read.
    pub list: String,
    /// Which unit they were of.
    pub unit: UnitId,
    /// The clusters that hold this very list.
    pub clusters: Vec<ClusterName>,
    /// The objects, by key.
    pub objects: Vec<DeleteListObject>,
    /// Held objects beyond those listed: the most that one of the clusters has. They are listed when these are gone.
    pub more: u32,
}

/// One object in a [`DeleteList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteListObject {
    /// Which object.
    pub key: ObjectKey,
    /// Why its delete is held.
    pub why: String,
}

/// The id of a delete list: the same for the same objects of the same unit in every cluster. 16 hex digits.
#[must_use]
pub fn delete_list_id<'a>(unit: &UnitId, keys: impl IntoIterator<Item = &'a ObjectKey>) -> String {
    let keys: BTreeSet<String> = keys.into_iter().map(ToString::to_string).collect();
    let mut text = format!("driftless delete list v1\n{unit}");
    for key in keys {
        text.push('\n');
        text.push_str(&key);
    }
    let mut id = Digest::of(text.as_bytes()).to_string();
    id.truncate(16);
    id
}

/// Let held deletes happen: a whole list, or single objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveRequest {
    /// Only this cluster; `None`: wherever the list, or the objects, are held.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// Which list: [`DeleteList::list`]. Clusters that hold another list are not touched.
    #[serde(default)]
    pub list: Option<String>,
    /// In the place of a list: which objects. The hub adds the UIDs the clusters reported.
    #[serde(default)]
    pub keys: Vec<ObjectKey>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Something an agent did to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Where.
    pub cluster: ClusterName,
    /// Of which unit.
    pub unit: UnitId,
    /// What, when and to which object.
    pub event: RecentEvent,
}

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Counts from 1 without gaps.
    pub n: u64,
    /// Unix milliseconds.
    pub at: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// More, for people.
    pub detail: String,
    /// BLAKE3 over the hash before and this row.
    pub hash: Digest,
}

/// The file by which the command line finds its hub (YAML), as `driftless-hub init` writes it. It holds a private key: readable
/// by its owner only.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// Format, 1.
    pub format: u32,
    /// `host:port` of the admin API.
    pub address: String,
    /// The name in the hub's certificate.
    pub server_name: String,
    /// Certificates (PEM) of the authority that signed the hub's certificate.
    pub authority: String,
    /// The caller's certificate (PEM).
    pub certificate: String,
    /// Its private key (PEM).
    pub key: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("address", &self.address)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
