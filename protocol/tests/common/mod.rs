//! A fleet in miniature: keys, trust documents, bundles, heads.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses its part

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{
    BlobRef, FORMAT, Index, IndexUnit, ObjectEntry, ObjectOptions, UnitBody, UnitSpec, UnitState, Validation, raw_total,
};
use driftless_protocol::canonical;
use driftless_protocol::head::{Head, SourceRevision};
use driftless_protocol::id::{ClusterId, Digest, Generation, Revision, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::session::hub::Current;
use driftless_protocol::signing::{Purpose, SecretKey, Signed, Verified};
use driftless_protocol::trust::{self, TrustDocument};

/// Unix seconds at which every test begins.
pub const START: u64 = 1_800_000_000;
pub const KUBE_UID: &str = "0b0c1f0e-6a52-4c0c-8f0e-1d2f3a4b5c6d";

pub fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub fn signer() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

pub fn cluster() -> ClusterId {
    ClusterId::from_bytes([0xc1; 16])
}

pub fn trust_document(version: u64) -> TrustDocument {
    TrustDocument {
        format: 1,
        version,
        trust_epoch: 1,
        roots: vec![root().public()],
        root_threshold: 1,
        signers: vec![signer().public()],
        signer_threshold: 1,
        authorities: vec![Digest::of(b"authority")],
        issued: START - 1000,
        expires: START + 365 * 86_400,
    }
}

pub fn sign_trust(document: &TrustDocument) -> Signed {
    root().sign(Purpose::Trust, document).unwrap()
}

pub fn trust_one() -> Verified<TrustDocument> {
    trust::verify_chain(&[root().public().id()], &[sign_trust(&trust_document(1))]).unwrap()
}

pub type BlobMap = BTreeMap<Digest, Arc<[u8]>>;

/// A bundle of that many units of that many objects; `salt` makes other content of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub head: Head,
    pub signed: Signed,
    pub blobs: BlobMap,
}

impl Made {
    pub fn sign(mut self, change: impl FnOnce(&mut Head)) -> Self {
        change(&mut self.head);
        self.signed = signer().sign(Purpose::Head, &self.head).unwrap();
        self
    }

    pub fn head_digest(&self) -> Digest {
        Digest::of(&self.signed.bytes)
    }

    pub fn current(&self, trust: &[Signed]) -> Current {
        let closure: BTreeSet<Digest> = self.blobs.keys().copied().collect();
        Current {
            generation: self.head.generation,
            head: self.signed.clone(),
            trust: trust.into(),
            closure: Arc::new(closure),
        }
    }
}

pub fn make(sequence: u64, units: usize, objects: usize, salt: &str) -> Made {
    // Only the first object of each unit depends on the salt: a change is small.
    let unit = || (0..objects).map(|o| if o == 0 { salt.to_owned() } else { "same".to_owned() }).collect();
    make_of(sequence, &(0..units).map(|_| unit()).collect::<Vec<Vec<String>>>())
}

/// A bundle of these units, each of ConfigMaps with these texts.
pub fn make_of(sequence: u64, units: &[Vec<String>]) -> Made {
    let mut blobs = BlobMap::new();
    let mut add = |bytes: Vec<u8>| {
        let blob = BlobRef::of(&bytes);
        blobs.insert(blob.digest, bytes.into());
        blob
    };
    let mut index_units = Vec::new();
    let mut bodies = Vec::new();
    for (u, texts) in units.iter().enumerate() {
        let id = UnitId::kustomization("flux-system", format!("unit-{u:05}"));
        let entries = texts
            .iter()
            .enumerate()
            .map(|(o, data)| {
                let name = format!("cm-{u:05}-{o:05}");
                let object = serde_json::json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": name, "namespace": "default"}, "data": {"key": data},
                });
                ObjectEntry {
                    options: ObjectOptions::default(),
                    key: ObjectKey::of(&object).unwrap(),
                    api_version: "v1".into(),
                    blob: add(canonical::value_to_vec(&object)),
                    holes: None,
                    handed_through: false,
                }
            })
            .collect();
        let body = UnitBody {
            definition: None,
            format: FORMAT,
            id: id.clone(),
            source: "flux-system/flux-system".into(),
            path: format!("./unit-{u}"),
            spec: unit_spec(),
            objects: entries,
            withheld: Vec::new(),
            late: None,
        };
        let blob = add(canonical::to_vec(&body).unwrap());
        index_units.push(IndexUnit { id, state: UnitState::Full { body: blob }, drift_mode: None });
        bodies.push((blob, body));
    }
    let index =
        Index { format: FORMAT, cluster: cluster(), whole: true, units: index_units, approved_deletes: Vec::new() };
    let index = add(canonical::to_vec(&index).unwrap());
    let bodies: Vec<(BlobRef, &UnitBody)> = bodies.iter().map(|(r, b)| (*r, b)).collect();
    let head = Head {
        format: FORMAT,
        cluster: cluster(),
        kube_uid: KUBE_UID.into(),
        generation: Generation { trust_epoch: 1, epoch: START - 500, sequence },
        trust_version: 1,
        index,
        raw_total: raw_total(index.len, &bodies),
        revisions: vec![SourceRevision {
            source: "flux-system/flux-system".into(),
            revision: Revision { reference: "main".into(), commit: "a".repeat(40) },
        }],
        issued: START,
        expires: START + 86_400,
    };
    let signed = signer().sign(Purpose::Head, &head).unwrap();
    Made { head, signed, blobs }
}

pub fn unit_spec() -> UnitSpec {
    UnitSpec {
        prune: true,
        deletion_policy: driftless_protocol::bundle::DeletionPolicy::MirrorPrune,
        interval_seconds: 600,
        retry_interval_seconds: 600,
        timeout_seconds: 570,
        wait: false,
        force: false,
        depends_on: Vec::new(),
        health_checks: Vec::new(),
        service_account: None,
        drift_mode: driftless_protocol::bundle::DriftMode::Correct,
        remediation_interval_seconds: 0,
        remediate_only_when_healthy: false,
        validation: Validation::None,
        take_over: false,
        ..UnitSpec::default()
    }
}
