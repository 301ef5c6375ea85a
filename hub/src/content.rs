//! Content and intents: what Git says for a cluster, and the index that is offered when operators have their say.
//!
//! Content is the index as it is without intents. A freeze pins it; intents are laid over whatever content a cluster has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::bundle::{BlobRef, Index, SuspendedBy, UnitBody, UnitState};
use driftless_protocol::canonical::{self, CanonicalError};
use driftless_protocol::id::{ClusterId, Digest};
use driftless_protocol::object::ObjectKey;
use driftless_render::assemble::{Assembled, AssembledBody, Intents};
use driftless_store::{BundleBlob, Intent, IntentRecord, Store, StoreError};

/// What a cluster should run, by Git alone.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) index: Index,
    pub(crate) blob: BlobRef,
    pub(crate) bytes: Arc<[u8]>,
    bodies: BTreeMap<Digest, Body>,
    /// Kept until the store has them: objects are most of the bytes.
    objects: Mutex<BTreeMap<Digest, Arc<[u8]>>>,
}

#[derive(Debug)]
struct Body {
    bytes: Arc<[u8]>,
    objects: Vec<BlobRef>,
}

/// Why content cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{what} {digest} is not in the store")]
    Missing { what: &'static str, digest: Digest },
    #[error("{what} {digest} cannot be read")]
    Unreadable {
        what: &'static str,
        digest: Digest,
        #[source]
        source: CanonicalError,
    },
}

/// An index with intents laid over it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) blob: BlobRef,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) raw_total: u64,
    children: BTreeSet<Digest>,
}

impl Content {
    /// From an assembly without intents.
    pub(crate) fn new(assembled: Assembled) -> Self {
        let body = |body: AssembledBody| (body.blob.digest, Body { bytes: body.bytes, objects: body.objects });
        Self {
            index: assembled.parsed,
            blob: assembled.index,
            bytes: assembled.index_bytes,
            bodies: assembled.bodies.into_iter().map(body).collect(),
            objects: Mutex::new(assembled.objects),
        }
    }

    /// What a head of the store carries.
    pub(crate) async fn load(store: &Store, digest: Digest) -> Result<Self, ContentError> {
        let (_, bytes) =
            store.blobs(vec![digest]).await?.pop().ok_or(ContentError::Missing { what: "the index", digest })?;
        let index: Index = canonical::from_slice(&bytes).map_err(|source| ContentError::Unreadable {
            what: "the index",
            digest,
            source,
        })?;
        let wanted: Vec<Digest> = full(&index).map(|b| b.digest).collect();
        let mut bodies = BTreeMap::new();
        for (digest, bytes) in store.blobs(wanted.clone()).await? {
            let parsed: UnitBody = canonical::from_slice(&bytes).map_err(|source| ContentError::Unreadable {
                what: "the unit body",
                digest,
                source,
            })?;
            let objects = parsed.objects.iter().map(|o| o.blob).collect();
            bodies.insert(digest, Body { bytes: bytes.into(), objects });
        }
        if let Some(missing) = wanted.into_iter().find(|d| !bodies.contains_key(d)) {
            return Err(ContentError::Missing { what: "the unit body", digest: missing });
        }
        let bytes: Arc<[u8]> = bytes.into();
        Ok(Self { index, blob: BlobRef::of(&bytes), bytes, bodies, objects: Mutex::default() })
    }

    /// Lays intents over it.
    pub(crate) fn seal(&self, intents: &Intents) -> Result<Sealed, CanonicalError> {
        let mut index = self.index.clone();
        for unit in &mut index.units {
            if intents.suspended.contains(&unit.id) {
                let (declares, input) = match &mut unit.state {
                    UnitState::Full { body } => (self.declared(body.digest), None),
                    UnitState::Suspended { declares, input, .. } => (declares.take(), *input),
                    UnitState::Held { input, .. } => (None, *input),
                };
                unit.state = UnitState::Suspended { by: SuspendedBy::Operator, declares, input };
            }
            unit.drift_mode = intents.drift_mode_of(&unit.id);
        }
        index.approved_deletes = intents.approved_deletes.iter().cloned().collect();
        let children: BTreeSet<Digest> = full(&index).map(|b| b.digest).collect();
        let bytes: Arc<[u8]> = canonical::to_vec(&index)?.into();
        let blob = BlobRef::of(&bytes);
        let raw_total = blob.len + self.raw_bytes(full(&index));
        Ok(Sealed { blob, bytes, raw_total, children })
    }

    /// What a unit body declares, sorted; `None`: it cannot be read.
    fn declared(&self, body: Digest) -> Option<Vec<ObjectKey>> {
        let body: UnitBody = canonical::from_slice(&self.bodies.get(&body)?.bytes).ok()?;
        let objects = body.objects.into_iter().map(|object| object.key);
        let keys: BTreeSet<ObjectKey> = objects.chain(body.withheld.into_iter().map(|w| w.key)).collect();
        Some(keys.into_iter().collect())
    }

    /// Length of these bodies and of all distinct objects they name.
    fn raw_bytes<'a>(&self, bodies: impl Iterator<Item = &'a BlobRef>) -> u64 {
        let mut seen = BTreeSet::new();
        let mut total = 0;
        for body in bodies {
            total += body.len;
            let objects = self.bodies.get(&body.digest).map(|b| b.objects.as_slice()).unwrap_or_default();
            total += objects.iter().filter(|o| seen.insert(o.digest)).map(|o| o.len).sum::<u64>();
        }
        total
    }

    pub(crate) fn node(&self) -> BundleBlob {
        let children = full(&self.index).map(|b| b.digest).collect();
        BundleBlob { blob: self.blob, bytes: self.bytes.clone(), children }
    }

    pub(crate) fn body_nodes(&self) -> Vec<BundleBlob> {
        self.bodies
            .iter()
            .map(|(digest, body)| BundleBlob {
                blob: BlobRef { digest: *digest, len: body.bytes.len() as u64 },
                bytes: body.bytes.clone(),
                children: body.objects.iter().map(|o| o.digest).collect(),
            })
            .collect()
    }

    pub(crate) fn objects(&self) -> BTreeMap<Digest, Arc<[u8]>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store has them.
    pub(crate) fn forget_objects(&self) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Sealed {
    pub(crate) fn node(&self) -> BundleBlob {
        BundleBlob { blob: self.blob, bytes: self.bytes.clone(), children: self.children.clone() }
    }
}

fn full(index: &Index) -> impl Iterator<Item = &BlobRef> {
    index.units.iter().filter_map(|unit| match &unit.state {
        UnitState::Full { body } => Some(body),
        _ => None,
    })
}

/// The intents that apply to one cluster, in the index's words. What is said for the cluster wins over what is said for all,
/// and what is said for a unit over what is said for all units.
pub(crate) fn intents_for(cluster: ClusterId, records: &[IntentRecord]) -> Intents {
    let mut out = Intents::default();
    let applies = |scope: &Option<ClusterId>| scope.is_none_or(|c| c == cluster);
    for record in records {
        match &record.intent {
            Intent::Suspend { cluster: scope, unit } if applies(scope) => {
                out.suspended.insert(unit.clone());
            }
            Intent::DriftMode { cluster: scope, unit, mode } if applies(scope) => {
                let place = match unit {
                    Some(unit) => out.drift_modes.entry(unit.clone()).or_insert(*mode),
                    None => out.drift_mode.get_or_insert(*mode),
                };
                if scope.is_some() {
                    *place = *mode;
                }
            }
            Intent::ApproveDelete { cluster: scope, key, uid } if *scope == cluster => {
                let approved = driftless_protocol::bundle::ApprovedDelete { key: key.clone(), uid: uid.clone() };
                out.approved_deletes.insert(approved);
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_protocol::bundle::{DriftMode, FORMAT, IndexUnit, UnitSpec, raw_total};
    use driftless_protocol::id::UnitId;

    fn content(units: &[(&str, &[&str])]) -> Content {
        let mut bodies = BTreeMap::new();
        let mut index = Index {
            format: FORMAT,
            cluster: ClusterId::from_bytes([1; 16]),
            whole: true,
            units: Vec::new(),
            approved_deletes: Vec::new(),
        };
        for (name, objects) in units {
            let bytes: Arc<[u8]> = format!("body {name}").into_bytes().into();
            let body = BlobRef::of(&bytes);
            let objects = objects.iter().map(|o| BlobRef::of(o.as_bytes())).collect();
            bodies.insert(body.digest, Body { bytes, objects });
            let id = UnitId::kustomization("ns", *name);
            index.units.push(IndexUnit { id, state: UnitState::Full { body }, drift_mode: None });
        }
        let bytes: Arc<[u8]> = canonical::to_vec(&index).unwrap().into();
        Content { index, blob: BlobRef::of(&bytes), bytes, bodies, objects: Mutex::default() }
    }

    #[test]
    fn without_intents_the_index_is_the_content() {
        let content = content(&[("a", &["one", "two"]), ("b", &["two"])]);
        let sealed = content.seal(&Intents::default()).unwrap();
        assert_eq!((sealed.blob, &sealed.bytes), (content.blob, &content.bytes));
        let bodies = "body abody b".len() as u64;
        assert_eq!(sealed.raw_total, raw_total(content.blob.len, &[]) + bodies + "onetwo".len() as u64);
    }

    #[test]
    fn a_suspended_unit_keeps_its_place_and_ships_nothing() {
        let content = content(&[("a", &["one", "two"]), ("b", &["two"])]);
        let cluster = ClusterId::from_bytes([1; 16]);
        let record = |intent| IntentRecord { intent, actor: String::new(), at: 0, reason: String::new() };
        let unit = UnitId::kustomization("ns", "a");
        let records = [
            record(Intent::Suspend { cluster: None, unit: unit.clone() }),
            record(Intent::DriftMode { cluster: Some(cluster), unit: Some(unit.clone()), mode: DriftMode::Observe }),
            record(Intent::DriftMode { cluster: None, unit: Some(unit.clone()), mode: DriftMode::Warn }),
            record(Intent::Suspend {
                cluster: Some(ClusterId::from_bytes([2; 16])),
                unit: UnitId::kustomization("ns", "b"),
            }),
        ];
        let intents = intents_for(cluster, &records);
        assert_eq!(intents.suspended, BTreeSet::from([unit.clone()]), "another cluster's intent is not ours");
        assert_eq!(intents.drift_modes[&unit], DriftMode::Observe, "the cluster's own wins");
        let sealed = content.seal(&intents).unwrap();
        let index: Index = canonical::from_slice(&sealed.bytes).unwrap();
        assert_eq!(index.units.len(), 2);
        assert_eq!(
            index.units[0].state,
            UnitState::Suspended { by: SuspendedBy::Operator, declares: None, input: None }
        );
        assert_eq!(sealed.raw_total, sealed.blob.len + "body btwo".len() as u64);
        assert_eq!(sealed.node().children.len(), 1);
    }

    /// What an operator suspends belongs to its unit still: it must not be deleted for leaving another.
    #[test]
    fn a_suspended_unit_says_what_it_declares() {
        let key = |name: &str| ObjectKey {
            group: "".into(),
            kind: "ConfigMap".into(),
            namespace: "default".into(),
            name: name.into(),
        };
        let entry = |name| serde_json::json!({"key": key(name), "apiVersion": "v1", "blob": BlobRef::of(b"x")});
        let body = serde_json::json!({"format": FORMAT, "id": UnitId::kustomization("ns", "a"), "source": "ns/s", "path": "x",
            "spec": UnitSpec::default(), "objects": [entry("z"), entry("b")]});
        let bytes: Arc<[u8]> = canonical::value_to_vec(&body).into();
        let blob = BlobRef::of(&bytes);
        let mut content = content(&[("a", &[])]);
        content.index.units[0].state = UnitState::Full { body: blob };
        content.bodies.insert(blob.digest, Body { bytes, objects: Vec::new() });
        let intents = Intents { suspended: BTreeSet::from([UnitId::kustomization("ns", "a")]), ..Intents::default() };
        let index: Index = canonical::from_slice(&content.seal(&intents).unwrap().bytes).unwrap();
        let declares = Some(vec![key("b"), key("z")]);
        let input = None;
        assert_eq!(index.units[0].state, UnitState::Suspended { by: SuspendedBy::Operator, declares, input });
    }

    #[test]
    fn a_drift_mode_for_all_units_is_weaker_than_one_for_a_unit() {
        let here = Some(ClusterId::from_bytes([1; 16]));
        let elsewhere = Some(ClusterId::from_bytes([2; 16]));
        let unit = UnitId::kustomization("ns", "a");
        let other = UnitId::kustomization("ns", "b");
        let (warn, observe, correct) = (DriftMode::Warn, DriftMode::Observe, DriftMode::Correct);
        let one = Some(unit.clone());
        for (name, said, of_unit, of_other) in [
            ("nothing said", vec![], None, None),
            ("everywhere", vec![(None, None, warn)], Some(warn), Some(warn)),
            ("the cluster's own wins", vec![(here, None, observe), (None, None, warn)], Some(observe), Some(observe)),
            ("in any order", vec![(None, None, warn), (here, None, observe)], Some(observe), Some(observe)),
            ("another cluster", vec![(elsewhere, None, observe)], None, None),
            ("the unit's wins", vec![(None, one, correct), (here, None, observe)], Some(correct), Some(observe)),
        ] {
            let record = |(cluster, unit, mode)| IntentRecord {
                intent: Intent::DriftMode { cluster, unit, mode },
                actor: String::new(),
                at: 0,
                reason: String::new(),
            };
            let records: Vec<_> = said.into_iter().map(record).collect();
            let intents = intents_for(ClusterId::from_bytes([1; 16]), &records);
            assert_eq!((intents.drift_mode_of(&unit), intents.drift_mode_of(&other)), (of_unit, of_other), "{name}");
        }
    }
}
