//! What the engine asks its caller to do, and what the caller answers.

use std::fmt;
use std::sync::Arc;

use driftless_protocol::bundle::{BlobRef, ServiceAccount};
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use crate::fill::Fill;
use crate::retry::Class;

/// A step, for as long as the engine lives. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One request (or one batch of inventory writes), complete in itself: nothing is left to decide.
///
/// Every step that was handed out must be answered by exactly one `Engine::done`, also when it was abandoned.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// To be given back with the outcome.
    pub id: StepId,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write these inventory shards, each as one ConfigMap `driftless-inventory-<shard>`, in this order; stop at the first
    /// that fails. Made as the agent itself, everything else under impersonation.
    WriteInventory {
        /// What to write. Never empty.
        shards: Vec<ShardWrite>,
    },
    /// Server-side apply, forced, field manager [`FIELD_MANAGER`](driftless_protocol::marks::FIELD_MANAGER),
    /// `fieldValidation=Warn`.
    Apply(Apply),
    /// The same with `dryRun=All`: what would the server make of it?
    DryRun(Apply),
    /// Delete, background propagation, with both preconditions.
    Delete(Delete),
    /// Set `spec.suspend: true` on a Kustomization of Flux, as the applier, if it is still as it was seen.
    SuspendFlux(SuspendFlux),
    /// Read one object that no watch shows (health checks of objects that are not ours).
    Get {
        /// Which object.
        key: ObjectKey,
        /// Any served `group/version`, or `None` when the engine knows none: use the preferred one.
        api_version: Option<String>,
    },
}

/// One object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// For which unit.
    pub unit: UnitId,
    /// Which object.
    pub key: ObjectKey,
    /// `group/version` or `version`.
    pub api_version: String,
    /// Its bytes as the hub sent them.
    pub blob: BlobRef,
    /// Fills its holes; `None`: it has none. The bytes to send come from [`crate::edit::prepare`].
    pub fill: Option<Arc<Fill>>,
    /// What the agent changes in them, after filling. Empty: nothing.
    pub edits: Vec<Edit>,
    /// Who writes; `None`: the applier.
    pub account: Option<ServiceAccount>,
    /// Why.
    pub purpose: Purpose,
    /// Before it: get the object, and when [`crate::ownership::take_over`] has a patch for it, send that as a JSON patch
    /// (it is guarded by the resourceVersion). Not found is no failure. Never set on a dry run.
    pub take_over: TakeOver,
    /// Get the object first; when it is there, nothing is written and the outcome is [`Outcome::Present`].
    pub only_if_absent: bool,
    /// Fields left to others, as JSON pointers: for [`crate::ownership::take_over`].
    pub ignore: Vec<String>,
    /// The same way, whatever `take_over` says: what others have in lists where a declared item is missing. A heal was
    /// refused, and what they put in its place may be why.
    pub reclaim: bool,
    /// Of a dry run in shadow mode: the field manager of the other tool whose apply it is to take the place of, so that the
    /// answer shows what becomes of fields which only that tool has. `None`: ours.
    pub instead_of: Option<String>,
}

/// A named edit of the hub's bytes that only the agent can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// An autoscaler owns `spec.replicas` now: leave the field out.
    OmitReplicas,
    /// The workload is autoscaled, but the field is still ours: keep the live value until the autoscaler writes.
    LiveReplicas(i32),
    /// These fields, as JSON pointers, are left to others: left out.
    DropFields(Vec<String>),
    /// These fields are left to others, and nobody owns them: their live values are sent.
    KeepLive(Vec<(String, Value)>),
    /// Of a Secret: move `stringData` into `data`, base64. The API server does the same, but then nobody owns the keys
    /// in `data`, and a change there would not be seen. Flux does it likewise.
    EncodeStringData,
}

/// Why an object is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It is not there.
    Create,
    /// Its declared content is new.
    Change,
    /// Its content was applied before, and the live object differs.
    Heal,
}

/// Which other managers' fields become ours before an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TakeOver {
    /// Nobody's.
    No,
    /// Those of people (`kubectl` and its like): what they added is then removed by the apply.
    Humans,
    /// Those of people and of other GitOps tools: first contact with an object.
    HumansAndTools,
}

/// One object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Of which unit.
    pub unit: UnitId,
    /// Which object.
    pub key: ObjectKey,
    /// `group/version` or `version` it was last applied as.
    pub api_version: String,
    /// Precondition.
    pub uid: String,
    /// Precondition: what was judged is what is deleted.
    pub resource_version: String,
    /// Who deletes; `None`: the applier.
    pub account: Option<ServiceAccount>,
}

/// One Kustomization of Flux to suspend: the only write to a kind that Driftless interprets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendFlux {
    /// Which object.
    pub key: ObjectKey,
    /// Precondition.
    pub uid: String,
    /// Precondition: `metadata.generation`.
    pub generation: i64,
}

impl Action {
    /// Whether it changes anything in the cluster.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self, Self::DryRun(_) | Self::Get { .. })
    }
}

/// One inventory shard to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardWrite {
    /// Its number: the ConfigMap is `driftless-inventory-<shard>`.
    pub shard: u32,
    /// Its content for the key `inventory`; `None`: delete the ConfigMap.
    pub text: Option<String>,
}

/// What became of a step.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Apply, dry run, get: the server's answer, managedFields included.
    Object(&'a Value),
    /// Apply with `only_if_absent`: it is there, and was left as it is.
    Present(&'a Value),
    /// Inventory written, delete accepted.
    Ok,
    /// Get and delete: there is no such object.
    NotFound,
    /// It failed.
    Failed(Failure),
    /// It was not tried, or what became of it is unknown (lost connection, lost lease).
    Unknown,
}

/// Why a request failed, as the API server said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; `None`: no answer (connection refused, deadline).
    pub status: Option<u16>,
    /// `Status.reason`: `Forbidden`, `Invalid`, `NotFound`, `Conflict`, ...
    pub reason: String,
    /// `Status.message`.
    pub message: String,
    /// `Status.details.kind` or `.name` when the answer speaks of another object than the one sent (a missing namespace).
    pub about: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// Its class where `message` is not the API server's own, which might quote a value of a Secret.
    pub class: Option<Class>,
}
