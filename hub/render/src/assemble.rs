//! From a rendered cluster to the blobs of a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{
    ApprovedDelete, BlobRef, DriftMode, FORMAT, Index, IndexUnit, Late, ObjectEntry, SuspendedBy, UnitBody, UnitState,
    Withheld, raw_total,
};
use driftless_protocol::canonical::{self, CanonicalError};
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, Digest, UnitId};
use driftless_protocol::object::ObjectKey;

use crate::flux::{RenderState, RenderedCluster, RenderedUnit};

/// What operators want besides what Git says: options in the signed index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// Units suspended by `driftless suspend`.
    pub suspended: BTreeSet<UnitId>,
    /// Drift modes given by an operator.
    pub drift_modes: BTreeMap<UnitId, DriftMode>,
    /// The drift mode an operator gave all other units.
    pub drift_mode: Option<DriftMode>,
    /// Deletes approved, expanded to this cluster's objects.
    pub approved_deletes: BTreeSet<ApprovedDelete>,
}

impl Intents {
    /// The drift mode that operators gave this unit; `None`: as Git says.
    #[must_use]
    pub fn drift_mode_of(&self, unit: &UnitId) -> Option<DriftMode> {
        self.drift_modes.get(unit).copied().or(self.drift_mode)
    }
}

/// The blobs of one bundle. Equal inputs give equal bytes.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The index: address and length.
    pub index: BlobRef,
    /// The index itself.
    pub index_bytes: Arc<[u8]>,
    /// What the bytes say.
    pub parsed: Index,
    /// Unit bodies, in index order.
    pub bodies: Vec<AssembledBody>,
    /// Every distinct object, by digest.
    pub objects: BTreeMap<Digest, Arc<[u8]>>,
    /// Length of all distinct blobs together.
    pub raw_total: u64,
    /// For the head: every source that was read, sorted.
    pub revisions: Vec<SourceRevision>,
}

/// One unit body.
#[derive(Clone, Debug)]
pub struct AssembledBody {
    /// Which unit.
    pub id: UnitId,
    /// Address and length.
    pub blob: BlobRef,
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// The objects it names, in order.
    pub objects: Vec<BlobRef>,
}

impl Assembled {
    /// Every blob: index, bodies, objects.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, &Arc<[u8]>)> {
        std::iter::once((self.index.digest, &self.index_bytes))
            .chain(self.bodies.iter().map(|b| (b.blob.digest, &b.bytes)))
            .chain(self.objects.iter().map(|(digest, bytes)| (*digest, bytes)))
    }
}

fn suspended(unit: &RenderedUnit, by: SuspendedBy, declares: Option<Vec<ObjectKey>>) -> UnitState {
    let input = declares.is_none().then(|| unit.reads.digest()).flatten();
    UnitState::Suspended { by, declares, input }
}

/// Makes the blobs of a bundle.
///
/// # Errors
/// Only when a value has no canonical form, which rendering has ruled out before.
pub fn assemble(
    cluster: ClusterId,
    rendered: &RenderedCluster,
    intents: &Intents,
) -> Result<Assembled, CanonicalError> {
    let mut units = Vec::with_capacity(rendered.units.len());
    let mut bodies = Vec::new();
    let mut parsed = Vec::new();
    let mut objects = BTreeMap::new();
    for unit in &rendered.units {
        let state = match &unit.state {
            state if intents.suspended.contains(&unit.id) => {
                let declares = match state {
                    RenderState::Full { objects, withheld } => {
                        let keys = objects.iter().map(|o| &o.key).chain(withheld.iter().map(|w| &w.key));
                        Some(keys.cloned().collect::<BTreeSet<_>>().into_iter().collect())
                    }
                    RenderState::Suspended { declares } => declares.clone(),
                    RenderState::Held { .. } => None,
                };
                suspended(unit, SuspendedBy::Operator, declares)
            }
            RenderState::Suspended { declares } => suspended(unit, SuspendedBy::Git, declares.clone()),
            RenderState::Held { why } => UnitState::Held { reason: why.reason(), input: unit.reads.digest() },
            RenderState::Full { objects: rendered_objects, withheld } => {
                let body = UnitBody {
                    format: Late::format_of(unit.late.as_ref()),
                    id: unit.id.clone(),
                    source: unit.source.clone(),
                    path: unit.path.clone(),
                    spec: unit.spec.clone(),
                    definition: unit.definition.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()),
                    objects: rendered_objects
                        .iter()
                        .map(|o| ObjectEntry {
                            key: o.key.clone(),
                            api_version: o.api_version.clone(),
                            blob: BlobRef { digest: o.digest, len: o.bytes.len() as u64 },
                            holes: o.holes.clone(),
                            handed_through: o.handed_through,
                            options: o.options.clone(),
                        })
                        .collect(),
                    withheld: withheld
                        .iter()
                        .map(|w| Withheld {
                            key: w.key.clone(),
                            reason: crate::report::reason(w.code, &w.message, Some(&w.origin)),
                        })
                        .collect(),
                    late: unit.late.clone(),
                };
                for object in rendered_objects {
                    objects.entry(object.digest).or_insert_with(|| object.bytes.clone());
                }
                let bytes: Arc<[u8]> = canonical::to_vec(&body)?.into();
                let blob = BlobRef::of(&bytes);
                let named = body.objects.iter().map(|o| o.blob).collect();
                bodies.push(AssembledBody { id: unit.id.clone(), blob, bytes, objects: named });
                parsed.push((blob, body));
                UnitState::Full { body: blob }
            }
        };
        units.push(IndexUnit { id: unit.id.clone(), state, drift_mode: intents.drift_mode_of(&unit.id) });
    }
    let parsed_index = Index {
        format: FORMAT,
        cluster,
        whole: rendered.whole,
        units,
        approved_deletes: intents.approved_deletes.iter().cloned().collect(),
    };
    let index_bytes: Arc<[u8]> = canonical::to_vec(&parsed_index)?.into();
    let index = BlobRef::of(&index_bytes);
    let references: Vec<_> = parsed.iter().map(|(blob, body)| (*blob, body)).collect();
    let raw_total = raw_total(index.len, &references);
    let revisions = rendered.revisions.clone();
    Ok(Assembled { index, index_bytes, parsed: parsed_index, bodies, objects, raw_total, revisions })
}
