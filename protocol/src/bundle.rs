//! A bundle: everything one cluster should run at one generation, as three levels of blobs.
//!
//! ```text
//! head (signed) -> index: units        one blob per cluster
//!                   -> unit body: objects   one blob per unit
//!                       -> object           canonical JSON, applied exactly as it is
//! ```
//!
//! One changed field resends one object, one short unit body and the index. Equal objects of different units and
//! clusters are one blob. Every blob is canonical JSON and addressed by BLAKE3 over its bytes.

mod late;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonicalError};
use crate::head::Head;
use crate::id::{ClusterId, Digest, UnitId};
use crate::limits;
use crate::object::ObjectKey;
use crate::signing::Verified;

pub use late::{Late, LateInput, LateKind, LateRef, LateText};

/// The format of indexes, and of unit bodies without late inputs.
pub const FORMAT: u32 = 1;
/// The format of unit bodies with late inputs: an agent that does not know them refuses the bundle instead of applying
/// text with holes.
pub const LATE_FORMAT: u32 = 2;
/// The format of unit bodies with a [`LateInput::Text`], for the same reason. A hub sends one only to an agent that told it can
/// read it ([`crate::facts::Facts::body_format`]).
pub const TEXT_FORMAT: u32 = 3;

/// A blob by address and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlobRef {
    /// BLAKE3 over the bytes.
    pub digest: Digest,
    /// How many bytes.
    pub len: u64,
}

impl BlobRef {
    /// The reference of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), len: bytes.len() as u64 }
    }
}

/// Level one: every unit of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster this is for; an agent refuses another's.
    pub cluster: ClusterId,
    /// Whether the root, and every unit that defines units, was built. Only then does a unit's absence mean it left Git.
    pub whole: bool,
    /// The units, sorted by id.
    pub units: Vec<IndexUnit>,
    /// Deletes an operator approved, expanded to this cluster's objects. Sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_deletes: Vec<ApprovedDelete>,
}

/// One unit in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexUnit {
    /// Which unit.
    pub id: UnitId,
    /// What the agent should do with it.
    pub state: UnitState,
    /// An operator's drift mode; wins over what Git says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_mode: Option<DriftMode>,
}

/// What the agent should do with a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum UnitState {
    /// Make the cluster as this unit body says.
    Full {
        /// The unit body.
        body: BlobRef,
    },
    /// The hub could not build it: keep what there is, delete nothing.
    Held {
        /// Why, for people.
        reason: Reason,
        /// Over what its build read. Another value means that what it declares may have changed, so that what leaves other
        /// units at that moment may have moved here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Digest>,
    },
    /// Keep what there is: no apply, no heal, no delete.
    Suspended {
        /// Who said so.
        by: SuspendedBy,
        /// What it declares in Git, sorted: that belongs to it once it is resumed, and is not deleted for leaving another
        /// unit. `None`: not known, since it cannot be built.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        declares: Option<Vec<ObjectKey>>,
        /// As of a held unit, where `declares` is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Digest>,
    },
}

/// Who suspended a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SuspendedBy {
    /// `spec.suspend: true` in Git.
    Git,
    /// `driftless suspend`.
    Operator,
}

/// A reason with its place: for messages, never for decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// Stable code, `CamelCase` as Kubernetes conditions write reasons.
    pub code: String,
    /// What happened, to what, and what to do.
    pub message: String,
    /// The file, as a path in its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// 1-based line in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// One object whose delete an operator approved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovedDelete {
    /// The object.
    pub key: ObjectKey,
    /// Its UID as the cluster reported it; another object of that name is not meant.
    pub uid: String,
}

/// Level two: one unit's objects and how to treat them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitBody {
    /// [`TEXT_FORMAT`] where an input of `late` is a text, [`LATE_FORMAT`] where there is `late`, else [`FORMAT`].
    pub format: u32,
    /// Which unit.
    pub id: UnitId,
    /// Its source, `namespace/name`; the head names the revision.
    pub source: String,
    /// Its path in the source.
    pub path: String,
    /// How to apply, heal, prune and judge it.
    pub spec: UnitSpec,
    /// The Flux object as rendered, without status: only where some `readyExpr` of the cluster speaks of this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<serde_json::Value>,
    /// Its objects in the order the renderer gave, which is Flux's before staging.
    pub objects: Vec<ObjectEntry>,
    /// Objects Git holds that are not sent: kept in the cluster, never pruned for their absence here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// Inputs that only the cluster has. Without it no object has holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

/// One object of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectEntry {
    /// Which object.
    pub key: ObjectKey,
    /// `group/version` or `version`.
    pub api_version: String,
    /// Its bytes: canonical JSON, or YAML text where there are `holes`.
    pub blob: BlobRef,
    /// The variables in its text that only the cluster can give a value, sorted; may be empty where only whether
    /// substitution runs at all is left to the cluster. `None`: nothing is left open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holes: Option<Vec<String>>,
    /// Of a kind Driftless does not interpret but that drives another controller (HelmRelease, image automation, ...).
    #[serde(default, skip_serializing_if = "is_false")]
    pub handed_through: bool,
    /// What Git says about this object alone.
    #[serde(default, skip_serializing_if = "ObjectOptions::is_default")]
    pub options: ObjectOptions,
}

/// How one object is treated: the control marks on it, and the unit's rules that select it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectOptions {
    /// `kustomize.toolkit.fluxcd.io/ssa`, or `/reconcile: disabled`.
    #[serde(default, skip_serializing_if = "ApplyMode::is_default")]
    pub apply: ApplyMode,
    /// `kustomize.toolkit.fluxcd.io/force: enabled`: as the unit's `force`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Fields left to others, as JSON pointers: sorted, none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Fields of which drift is left and shown, as JSON pointers: sorted, none twice. New content is applied whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observe: Vec<String>,
    /// The same, alerted besides; wins over `observe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn: Vec<String>,
}

impl ObjectOptions {
    /// Treated as its unit says.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How an object is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApplyMode {
    /// What people added to it is removed.
    #[default]
    Override,
    /// What people added stays; declared fields are kept as declared.
    Merge,
    /// Created when it is not there, and left alone otherwise.
    IfNotPresent,
    /// Neither created nor changed.
    Ignore,
}

impl ApplyMode {
    /// As its unit says.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An object that Git holds and the hub does not send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withheld {
    /// Which object.
    pub key: ObjectKey,
    /// Why: `Encrypted`, `NotRepresentable`, ...
    pub reason: Reason,
}

/// How a unit is applied, healed, pruned and judged: Flux's fields, parsed, with durations in seconds. The default is what
/// is left when Git says nothing at all, and no sensible unit: `interval` is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitSpec {
    /// Delete what left Git.
    pub prune: bool,
    /// What happens to the objects when the unit itself leaves Git.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Upper bound between two full re-checks.
    pub interval_seconds: u64,
    /// After a failure; `interval` when not given.
    pub retry_interval_seconds: u64,
    /// Limit on apply and health wait; Flux's default is the interval less 30 s, at least 30 s.
    pub timeout_seconds: u64,
    /// Wait for all applied objects to be healthy before the unit is ready.
    pub wait: bool,
    /// Delete and re-create on an immutable-field refusal (held for approval).
    pub force: bool,
    /// Units of this cluster that must be ready first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<UnitId>,
    /// Objects to judge the unit's health by (besides `wait`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<ObjectKey>,
    /// CEL expressions that judge objects of a kind, in the place of its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_exprs: Vec<HealthExpr>,
    /// CEL expressions that say when a dependency is ready, in the place of its Ready condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready_exprs: Vec<ReadyExpr>,
    /// `namespace/name` of the account that writes; `None`: the agent's applier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
    /// What to do with drift.
    #[serde(default)]
    pub drift_mode: DriftMode,
    /// At most one heal of an object in that time; 0: none.
    #[serde(default)]
    pub remediation_interval_seconds: u64,
    /// Heal only while the unit is healthy.
    #[serde(default)]
    pub remediate_only_when_healthy: bool,
    /// Drift must have lasted this long before it is healed; 0: it is healed at once.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub remediation_delay_seconds: u64,
    /// At most so many heals of the unit in a rolling hour; 0: without limit.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub heals_per_hour: u32,
    /// What to check before the first write.
    #[serde(default)]
    pub validation: Validation,
    /// Act although Git suspends the unit for Flux (`driftless.dev/take-over`).
    #[serde(default)]
    pub take_over: bool,
    /// The unit whose build defines it: while Flux runs that one, a unit that Flux has not made yet is Flux's too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defined_by: Option<UnitId>,
}

/// One entry of `healthCheckExprs`. Asked in the order in progress, failed, current; none true is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthExpr {
    /// API group of the kind; its version does not matter.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// True when the object is as its spec says.
    pub current: String,
    /// True while it is on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress: Option<String>,
    /// True when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One `dependsOn[].readyExpr`, over `self` and `dep`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyExpr {
    /// The dependency.
    pub unit: UnitId,
    /// The expression.
    pub expr: String,
}

/// The account a unit's writes are made as.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Its namespace: that of the Flux object.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What happens to a unit's objects when the unit leaves Git.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// As `prune` says.
    #[default]
    MirrorPrune,
    /// Delete them.
    Delete,
    /// Delete them and wait until they are gone.
    WaitForTermination,
    /// Leave them.
    Orphan,
}

/// What to do with drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DriftMode {
    /// Heal it.
    #[default]
    Correct,
    /// Leave it and alert.
    Warn,
    /// Leave it and record.
    Observe,
}

/// What to check before a unit's first write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Validation {
    /// Nothing: best effort, object by object.
    #[default]
    None,
    /// Each object against the cluster's schema.
    Client,
    /// A dry run of every object.
    Server,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(crate) fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(crate) fn is_false(b: &bool) -> bool {
    !*b
}

/// Why blobs do not make a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A blob that the head or an index names is not at hand.
    #[error("the {what} {digest} is missing")]
    Missing {
        /// Index, unit body or object.
        what: &'static str,
        /// Its address.
        digest: Digest,
    },
    /// Bytes are not those the address names.
    #[error("the {what} {digest} has other bytes than its digest says")]
    Altered {
        /// Index, unit body or object.
        what: &'static str,
        /// Its address.
        digest: Digest,
    },
    /// Bytes do not parse as what they must be.
    #[error("the {what} {digest} cannot be read")]
    Unreadable {
        /// Index, unit body or object.
        what: &'static str,
        /// Its address.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: CanonicalError,
    },
    /// It says something the head does not.
    #[error("the bundle contradicts its head: {0}")]
    Contradiction(String),
    /// Beyond a limit of [`crate::limits`].
    #[error("the bundle is beyond a limit: {0}")]
    Limit(String),
}

/// Blobs at hand, by digest. What it returns need not be trusted: it is hashed again.
pub trait Blobs {
    /// The bytes under a digest.
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>>;

    /// Whether there is something under a digest; where that is known without reading it, it is not read.
    fn has(&self, digest: &Digest) -> bool {
        self.get(digest).is_some()
    }
}

impl<F: Fn(&Digest) -> Option<Arc<[u8]>>> Blobs for F {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self(digest)
    }
}

/// Which blobs of a bundle are not at hand, as far as can be known: an unknown index hides its units.
///
/// An empty answer means [`Bundle::open`] will find everything.
pub fn missing(head: &Verified<Head>, blobs: &dyn Blobs) -> Result<Vec<BlobRef>, BundleError> {
    let index_ref = head.index;
    let Some(bytes) = blobs.get(&index_ref.digest) else { return Ok(vec![index_ref]) };
    let index = read_index(head, &bytes)?;
    let mut want = BTreeSet::new();
    for unit in &index.units {
        let UnitState::Full { body } = &unit.state else { continue };
        match blobs.get(&body.digest) {
            None => {
                want.insert(*body);
            }
            Some(bytes) => {
                for object in read_body(unit, body, &bytes)?.objects {
                    if !blobs.has(&object.blob.digest) {
                        want.insert(object.blob);
                    }
                }
            }
        }
    }
    Ok(want.into_iter().collect())
}

/// A whole bundle whose head was verified and whose index and unit bodies are the bytes the head addresses.
///
/// Objects are hashed when they are read ([`Bundle::object`]), so that a bundle of ten thousand objects costs only what
/// is looked at.
#[derive(Debug)]
pub struct Bundle {
    head: Verified<Head>,
    index: Index,
    bodies: Vec<UnitBody>,
}

impl Bundle {
    /// Opens the bundle a verified head names. Every object must be at hand, though it is not read yet.
    pub fn open(head: Verified<Head>, blobs: &dyn Blobs) -> Result<Self, BundleError> {
        let index_ref = head.index;
        let bytes =
            blobs.get(&index_ref.digest).ok_or(BundleError::Missing { what: "index", digest: index_ref.digest })?;
        let index = read_index(&head, &bytes)?;
        let mut bodies = Vec::with_capacity(index.units.len());
        let (mut objects, mut total) = (0usize, index_ref.len);
        let mut counted = BTreeSet::new();
        for unit in &index.units {
            let UnitState::Full { body } = &unit.state else { continue };
            let bytes =
                blobs.get(&body.digest).ok_or(BundleError::Missing { what: "unit body", digest: body.digest })?;
            let parsed = read_body(unit, body, &bytes)?;
            objects += parsed.objects.len();
            if objects > limits::BUNDLE_OBJECTS {
                return Err(BundleError::Limit(format!("more than {} objects", limits::BUNDLE_OBJECTS)));
            }
            total += body.len;
            for object in &parsed.objects {
                if !blobs.has(&object.blob.digest) {
                    return Err(BundleError::Missing { what: "object", digest: object.blob.digest });
                }
                if counted.insert(object.blob.digest) {
                    total = total.saturating_add(object.blob.len);
                }
            }
            bodies.push(parsed);
        }
        if total != head.raw_total {
            return Err(BundleError::Contradiction(format!(
                "its blobs have {total} bytes together, the head says {}",
                head.raw_total
            )));
        }
        Ok(Self { head, index, bodies })
    }

    /// The signed statement.
    #[must_use]
    pub fn head(&self) -> &Verified<Head> {
        &self.head
    }

    /// Level one.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Level two, of the full units only, in index order.
    #[must_use]
    pub fn bodies(&self) -> &[UnitBody] {
        &self.bodies
    }

    /// Without its unit bodies, to be kept: of ten thousand objects they are megabytes, and wanted once.
    /// [`Bundle::read_bodies`] has them again.
    #[must_use]
    pub fn without_bodies(self) -> Self {
        Self { bodies: Vec::new(), ..self }
    }

    /// Level two, read again from its blobs, in index order.
    pub fn read_bodies(&self, blobs: &dyn Blobs) -> Result<Vec<UnitBody>, BundleError> {
        let mut bodies = Vec::with_capacity(self.index.units.len());
        for unit in &self.index.units {
            let UnitState::Full { body } = &unit.state else { continue };
            let bytes =
                blobs.get(&body.digest).ok_or(BundleError::Missing { what: "unit body", digest: body.digest })?;
            bodies.push(read_body(unit, body, &bytes)?);
        }
        Ok(bodies)
    }

    /// The bytes of one object, hashed again.
    pub fn object(entry: &ObjectEntry, blobs: &dyn Blobs) -> Result<Arc<[u8]>, BundleError> {
        Self::bytes(entry.blob, blobs)
    }

    /// The bytes of one object by their reference, hashed again.
    pub fn bytes(blob: BlobRef, blobs: &dyn Blobs) -> Result<Arc<[u8]>, BundleError> {
        let digest = blob.digest;
        let bytes = blobs.get(&digest).ok_or(BundleError::Missing { what: "object", digest })?;
        check("object", blob, &bytes)?;
        Ok(bytes)
    }
}

/// Sum of the lengths of all distinct blobs of a bundle: what the head declares as `raw_total`.
#[must_use]
pub fn raw_total(index_len: u64, bodies: &[(BlobRef, &UnitBody)]) -> u64 {
    let mut seen = BTreeSet::new();
    let mut total = index_len;
    for (body, parsed) in bodies {
        total += body.len;
        for object in &parsed.objects {
            if seen.insert(object.blob.digest) {
                total += object.blob.len;
            }
        }
    }
    total
}

fn check(what: &'static str, blob: BlobRef, bytes: &[u8]) -> Result<(), BundleError> {
    if bytes.len() as u64 != blob.len || Digest::of(bytes) != blob.digest {
        return Err(BundleError::Altered { what, digest: blob.digest });
    }
    Ok(())
}

fn read_index(head: &Verified<Head>, bytes: &[u8]) -> Result<Index, BundleError> {
    check("index", head.index, bytes)?;
    let index: Index = canonical::from_slice(bytes).map_err(|source| BundleError::Unreadable {
        what: "index",
        digest: head.index.digest,
        source,
    })?;
    if index.format != FORMAT {
        return Err(BundleError::Contradiction(format!("index format {} is not {FORMAT}", index.format)));
    }
    if index.cluster != head.cluster {
        return Err(BundleError::Contradiction("its index is for another cluster".into()));
    }
    if !index.units.windows(2).all(|w| w[0].id < w[1].id) {
        return Err(BundleError::Contradiction("its units are not sorted, or one stands twice".into()));
    }
    if index.units.len() > limits::BUNDLE_UNITS {
        return Err(BundleError::Limit(format!("more than {} units", limits::BUNDLE_UNITS)));
    }
    Ok(index)
}

fn read_body(unit: &IndexUnit, blob: &BlobRef, bytes: &[u8]) -> Result<UnitBody, BundleError> {
    check("unit body", *blob, bytes)?;
    let body: UnitBody = canonical::from_slice(bytes).map_err(|source| BundleError::Unreadable {
        what: "unit body",
        digest: blob.digest,
        source,
    })?;
    let format = Late::format_of(body.late.as_ref());
    if body.format != format {
        return Err(BundleError::Contradiction(format!("unit body format {} is not {format}", body.format)));
    }
    if body.late.is_none()
        && let Some(open) = body.objects.iter().find(|o| o.holes.is_some())
    {
        return Err(BundleError::Contradiction(format!(
            "{} of {} has holes and nothing to fill them",
            open.key, unit.id
        )));
    }
    if let Some(Err(beyond)) = body.late.as_ref().map(Late::check) {
        return Err(BundleError::Limit(format!("the late inputs of {}: {beyond}", unit.id)));
    }
    if body.id != unit.id {
        return Err(BundleError::Contradiction(format!("the body of {} says it is {}", unit.id, body.id)));
    }
    if let Some(large) = body.objects.iter().find(|o| o.blob.len > limits::OBJECT_BYTES) {
        return Err(BundleError::Limit(format!("{} has {} bytes", large.key, large.blob.len)));
    }
    Ok(body)
}
