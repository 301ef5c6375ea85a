//! What a plan consists of. Its JSON is what `driftless plan -o json` prints and is stable: fields are added, none changes
//! its meaning, and [`FORMAT`] would say otherwise.
//!
//! No value in a plan is secret: see [`super::Redactor`] for what is shown as `redacted:<fingerprint>`.

use std::fmt;

use driftless_protocol::ask::{DryRunOutcome, DryRunResult};
use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::id::{ClusterName, UnitId};
use driftless_protocol::object::ObjectKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::path::FieldPath;
use crate::report::{Code, Problem};
use crate::target::Location;

/// The format of [`Plan`].
pub const FORMAT: u32 = 1;

/// What a change in Git would do to a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The revision before.
    pub base: PlanRevision,
    /// The revision after.
    pub head: PlanRevision,
    /// Counts over all clusters.
    pub counts: Counts,
    /// What changes, clusters with equal plans together; sorted by the first cluster.
    pub groups: Vec<PlanGroup>,
    /// Clusters in which nothing changes.
    pub unaffected: Vec<Unaffected>,
    /// What the API servers would say, where they were asked; clusters with equal answers together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<LiveClusters>,
}

/// What the API servers of some clusters would say to what is new for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveClusters {
    /// The clusters, sorted.
    pub clusters: Vec<ClusterName>,
    /// Why they were not asked, or not about everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Objects that were tried, in each of them.
    pub tried: usize,
    /// Objects of them that would be taken.
    pub accepted: usize,
    /// Those that would not be, or not without a word; and those that were not tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<LiveObject>,
}

/// What an API server would say to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveObject {
    /// Of which unit.
    pub unit: UnitId,
    /// Its answer.
    #[serde(flatten)]
    pub result: DryRunResult,
    /// It goes away by itself, since the same change makes what is missing: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl LiveObject {
    /// The object would be refused, and nothing in the change mends that.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.expected.is_none() && !matches!(self.result.outcome, DryRunOutcome::Accepted | DryRunOutcome::NotTried)
    }
}

/// One side of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRevision {
    /// As it was asked for: a branch, a tag, `HEAD`, `worktree`.
    pub name: String,
    /// The commit; absent for the files on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Clusters with the same plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanGroup {
    /// The clusters, sorted. Places in files are those of the first.
    pub clusters: Vec<ClusterName>,
    /// The plan of each of them.
    pub plan: ClusterPlan,
}

/// A cluster in which nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unaffected {
    /// The cluster.
    pub cluster: ClusterName,
    /// Units that could be built neither before nor after: whether they change is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldUnit>,
}

/// What changes in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPlan {
    /// Whether the cluster's root comes, goes or stays.
    pub change: ClusterChange,
    /// Counts over the units.
    pub counts: Counts,
    /// What a reviewer should see first; the gravest first.
    pub warnings: Vec<Warning>,
    /// Units in which something changes, sorted by id.
    pub units: Vec<UnitPlan>,
    /// Units that could be built neither before nor after: whether they change is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_in_both: Vec<HeldUnit>,
}

/// Whether a cluster's root is in Git before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClusterChange {
    /// Before and after.
    Stays,
    /// Only after: everything is created.
    New,
    /// Only before: nothing is deleted for that; the cluster keeps what it has.
    Gone,
}

/// How much changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Units in which something changes.
    pub units: usize,
    /// Objects that are new.
    pub creates: usize,
    /// Objects that are applied though it is not known whether the cluster has them.
    pub applies: usize,
    /// Objects with other fields, under the same name.
    pub changes: usize,
    /// Objects with generated names whose content, and so name, changes.
    pub replaces: usize,
    /// Objects that change units (and perhaps fields).
    pub moves: usize,
    /// Objects that are deleted.
    pub deletes: usize,
    /// Deletes and re-creations that wait for approval.
    pub approvals: usize,
    /// Objects that left Git and stay in the cluster.
    pub kept: usize,
    /// Changes the API server is known to refuse.
    pub refusals: usize,
    /// Warnings.
    pub warnings: usize,
}

impl Counts {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.units, other.units),
            (&mut self.creates, other.creates),
            (&mut self.applies, other.applies),
            (&mut self.changes, other.changes),
            (&mut self.replaces, other.replaces),
            (&mut self.moves, other.moves),
            (&mut self.deletes, other.deletes),
            (&mut self.approvals, other.approvals),
            (&mut self.kept, other.kept),
            (&mut self.refusals, other.refusals),
            (&mut self.warnings, other.warnings),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

/// Something a reviewer should see first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Stable code.
    pub code: WarningCode,
    /// What happens, to what, and what to do.
    pub message: String,
    /// The unit it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
    /// The object it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectKey>,
    /// Where to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
}

/// What a [`Warning`] is about, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WarningCode {
    /// A unit that could be built no longer can: the cluster keeps what it has and gets nothing new.
    UnitBreaks,
    /// A cluster's root left Git: nothing is deleted, nothing new comes.
    ClusterGone,
    /// Deletes wait for approval.
    DeletesHeld,
    /// The API server will refuse a change.
    ImmutableRefused,
    /// A version of a CustomResourceDefinition ends while something still is in it.
    VersionEnds,
    /// An object is deleted and created again, once approved.
    ImmutableRecreated,
    /// A unit whose objects are not known from Git leaves Git: what it owns is deleted.
    UnknownDeletes,
    /// A new unit cannot be built.
    NewUnitHeld,
    /// Objects that left Git stay in the cluster, owned by nobody.
    Orphaned,
    /// Objects that left Git are kept until something else is mended.
    DeletesWait,
    /// `prune` was switched on or off.
    PruneChanged,
    /// `force` was switched on: immutable changes delete and create again.
    ForceOn,
    /// An object of Git is not sent: it is new, or was sent before.
    NotSent,
    /// Something new that rendering has to say.
    NewProblem,
}

impl WarningCode {
    /// The code as it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnitBreaks => "unitBreaks",
            Self::ClusterGone => "clusterGone",
            Self::DeletesHeld => "deletesHeld",
            Self::ImmutableRefused => "immutableRefused",
            Self::VersionEnds => "versionEnds",
            Self::ImmutableRecreated => "immutableRecreated",
            Self::UnknownDeletes => "unknownDeletes",
            Self::NewUnitHeld => "newUnitHeld",
            Self::Orphaned => "orphaned",
            Self::DeletesWait => "deletesWait",
            Self::PruneChanged => "pruneChanged",
            Self::ForceOn => "forceOn",
            Self::NotSent => "notSent",
            Self::NewProblem => "newProblem",
        }
    }
}

/// A unit that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldUnit {
    /// Which unit.
    pub unit: UnitId,
    /// Why, after the change.
    pub why: Problem,
}

/// What changes in one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitPlan {
    /// Which unit: its id after the change, or before when it is gone.
    pub unit: UnitId,
    /// The unit it was, when it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<UnitId>,
    /// The unit it is, when it was renamed. Its objects stand with that unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<UnitId>,
    /// Where its Flux object is written.
    pub defined_at: Location,
    /// Its path in its source.
    pub path: String,
    /// What it was and is.
    pub state: StateChange,
    /// Why it is held after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Problem>,
    /// Options that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionChange>,
    /// Objects that differ, in the order they are applied, those that left Git last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectPlan>,
    /// Objects that other units have now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Leaving>,
    /// Objects that Git holds and that are not sent, where that differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<WithheldPlan>,
    /// What rendering has to say that it did not say before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Counts.
    pub counts: Counts,
}

/// A unit before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateChange {
    /// Before.
    pub before: UnitState,
    /// After.
    pub after: UnitState,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitState {
    /// Not in Git.
    Absent,
    /// Built.
    Built,
    /// It cannot be built: the cluster keeps what it has.
    Held,
    /// Suspended in Git: the cluster keeps what it has.
    Suspended,
}

impl UnitState {
    /// As people say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Built => "built",
            Self::Held => "held",
            Self::Suspended => "suspended",
        }
    }
}

/// An option of a unit that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionChange {
    /// Its name: of [`UnitSpec`](driftless_protocol::bundle::UnitSpec), or `source` or `path`, or of what objects with holes
    /// are finished with: `variable NAME`, `variables of ConfigMap NAME`.
    pub name: String,
    /// Before; absent when it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// After; absent when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What happens to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPlan {
    /// What is done.
    pub action: Action,
    /// Which object: after the change, or before for a delete.
    pub key: ObjectKey,
    /// `group/version` or `version`.
    pub api_version: String,
    /// Where its author wrote it.
    pub at: Location,
    /// The object whose place it takes (its generated name was another).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<ObjectKey>,
    /// The unit it was in, when that is another. Owner labels change with it and are not among `fields`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<UnitId>,
    /// How the agent treats it, where that is not as its unit says (`kustomize.toolkit.fluxcd.io/ssa` and `/reconcile`).
    #[serde(default, skip_serializing_if = "ApplyMode::is_default")]
    pub apply: ApplyMode,
    /// What the agent is told of it that differs: `apply`, `force`, `ignore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionChange>,
    /// Fields that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ChangedField>,
    /// The whole object, of a create or apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectText>,
    /// What becomes of the object that left Git, of a delete or replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// Changes of fields that the API server does not let change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immutable: Vec<Immutable>,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It is new.
    Create,
    /// It is applied, and Git does not tell whether the cluster has it: its unit was held or suspended, or it was withheld.
    Apply,
    /// Fields differ.
    Change,
    /// Its generated name differs with its content: the new one is created, the old one leaves.
    Replace,
    /// It changes units, and perhaps fields: nothing is deleted.
    Move,
    /// It left Git.
    Delete,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedField {
    /// Which field.
    pub path: FieldPath,
    /// Before; absent when it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub old: Option<Value>,
    /// After; absent when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub new: Option<Value>,
    /// The items of this list are the same, and in another order than their surroundings' changes make: `old` and `new`
    /// name all of them, in order.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reordered: bool,
    /// A value, or a part of one, is not shown.
    #[serde(default, skip_serializing_if = "is_false")]
    pub redacted: bool,
    /// An ignore rule leaves it to others: it is sent only while nobody else owns it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignored: bool,
    /// It only follows another object's new generated name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<ObjectKey>,
}

/// `null` is a value here, and not the absence of one.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(b: &bool) -> bool {
    !*b
}

/// A whole object as JSON text, secrets redacted. Kept as text, since parsed JSON takes ten times its length; in JSON it
/// stands as the object itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectText(String);

impl ObjectText {
    /// The text of a value.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self(value.to_string())
    }

    /// The value. `Null` could only come of text that never was a value.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

impl fmt::Debug for ObjectText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ObjectText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(s)
    }
}

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Value::deserialize(d).map(|value| Self::of(&value))
    }
}

/// What becomes of an object that left Git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// In a word.
    pub is: FateKind,
    /// Why, when it is not simply deleted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What becomes of an object that left Git, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FateKind {
    /// It is deleted.
    Deleted,
    /// It is deleted once an operator approves.
    NeedsApproval,
    /// It is kept until something else is mended, and judged again then.
    Waits,
    /// It stays in the cluster, owned by nobody.
    LeftAlone,
}

/// A change of a field that the API server does not let change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Immutable {
    /// Which field.
    pub path: FieldPath,
    /// The rule.
    pub why: String,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of a change of an immutable field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The API server refuses it: the object stays as it is, and the unit is not ready.
    Refused,
    /// `force` is on: the object is deleted and created again, once an operator approves.
    Recreated,
}

/// An object that another unit has now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// Which object.
    pub key: ObjectKey,
    /// Where it is now.
    pub to: UnitId,
}

/// An object that Git holds and that is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithheldPlan {
    /// Which object.
    pub key: ObjectKey,
    /// What differs.
    pub change: WithheldChange,
    /// Why it is not sent; of one that is gone, why it was not.
    pub code: Code,
    /// The same in words.
    pub why: String,
    /// Where its author wrote it.
    pub at: Location,
}

/// How a withheld object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WithheldChange {
    /// New in Git, and not sent.
    New,
    /// It was sent before, and is not any more: the cluster keeps what it has.
    NoLongerSent,
    /// Its content in Git differs; of encrypted content also when it was only encrypted again.
    Content,
    /// It left Git: what the cluster has of it is treated as its unit's other objects are.
    Gone,
}
