//! A small cluster and a caller that drives the engine against it: server-side apply on maps (lists are atomic), field
//! ownership, watches by label, preconditions, and faults on demand.
// Each test binary uses a part of it; a panic here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod flux;
mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use driftless_protocol::bundle::*;
use driftless_protocol::canonical;
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, Digest, Generation, Revision, UnitId};
use driftless_protocol::marks::{FIELD_MANAGER, UNIT_LABEL};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::UnitReport;
use driftless_reconcile::edit;
use driftless_reconcile::engine::Engine;
use driftless_reconcile::input::{Desired, GroupKind, Observation};
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::{Action, Failure, Outcome, Step};
use serde_json::{Value, json};

pub use self::server::*;

pub fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"k": value}})
}

pub fn deployment(name: &str, replicas: u64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "template": {"spec": {"image": "nginx"}}}})
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A unit to be put into a bundle.
#[derive(Clone, Debug)]
pub struct Unit {
    pub id: UnitId,
    pub spec: UnitSpec,
    pub objects: Vec<Value>,
    pub withheld: Vec<Withheld>,
    pub state: Option<UnitState>,
    pub options: BTreeMap<ObjectKey, ObjectOptions>,
    pub definition: Option<Value>,
    /// Objects with holes: key and text.
    pub texts: Vec<(ObjectKey, String)>,
    pub late: Option<Late>,
}

pub fn unit(name: &str, objects: Vec<Value>) -> Unit {
    let spec = UnitSpec {
        prune: true,
        deletion_policy: DeletionPolicy::MirrorPrune,
        interval_seconds: 600,
        retry_interval_seconds: 120,
        timeout_seconds: 60,
        wait: false,
        force: false,
        depends_on: Vec::new(),
        health_checks: Vec::new(),
        service_account: None,
        drift_mode: DriftMode::Correct,
        remediation_interval_seconds: 0,
        remediate_only_when_healthy: false,
        validation: Validation::None,
        take_over: false,
        ..UnitSpec::default()
    };
    Unit {
        id: UnitId::kustomization("flux-system", name),
        spec,
        objects,
        withheld: Vec::new(),
        state: None,
        options: BTreeMap::new(),
        definition: None,
        texts: Vec::new(),
        late: None,
    }
}

impl Unit {
    pub fn with(mut self, change: impl FnOnce(&mut UnitSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    pub fn after(self, name: &str) -> Self {
        self.with(|spec| spec.depends_on.push(UnitId::kustomization("flux-system", name)))
    }

    /// Control marks on one object, as the hub reads them.
    pub fn marked(mut self, key: ObjectKey, options: ObjectOptions) -> Self {
        self.options.insert(key, options);
        self
    }

    pub fn held(mut self) -> Self {
        let reason = Reason { code: "BuildFailed".into(), message: "broken YAML".into(), file: None, line: None };
        self.state = Some(UnitState::Held { reason, input: None });
        self
    }

    /// Held, with what its build read.
    pub fn held_with(mut self, read: &str) -> Self {
        self = self.held();
        if let Some(UnitState::Held { input, .. }) = &mut self.state {
            *input = Some(Digest::of(read.as_bytes()));
        }
        self
    }

    /// Suspended, and buildable.
    pub fn suspended_whole(mut self) -> Self {
        let mut keys: Vec<ObjectKey> = self.objects.iter().filter_map(ObjectKey::of).collect();
        keys.sort();
        self.state = Some(UnitState::Suspended { by: SuspendedBy::Git, declares: Some(keys), input: None });
        self
    }

    pub fn suspended(mut self) -> Self {
        self.state = Some(UnitState::Suspended { by: SuspendedBy::Git, declares: None, input: None });
        self
    }
}

/// Blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Store(pub HashMap<Digest, Arc<[u8]>>);

impl Blobs for Store {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.0.get(digest).cloned()
    }
}

impl Store {
    pub fn put(&mut self, bytes: Vec<u8>) -> BlobRef {
        let blob = BlobRef::of(&bytes);
        self.0.insert(blob.digest, bytes.into());
        blob
    }
}

/// A bundle as the hub would make it.
#[derive(Clone, Debug)]
pub struct Made {
    pub generation: Generation,
    pub index: Index,
    pub bodies: Vec<UnitBody>,
    pub revisions: Vec<SourceRevision>,
}

impl Made {
    pub fn new(sequence: u64, units: &[Unit], whole: bool, store: &mut Store) -> Self {
        let mut units = units.to_vec();
        units.sort_by(|a, b| a.id.cmp(&b.id));
        let (mut index_units, mut bodies) = (Vec::new(), Vec::new());
        for unit in &units {
            let state = unit.state.clone().unwrap_or_else(|| {
                let mut objects = Vec::new();
                for object in &unit.objects {
                    let mut object = object.clone();
                    object["metadata"]["labels"][UNIT_LABEL] = unit.id.label().to_string().into();
                    let key = ObjectKey::of(&object).expect("a key");
                    let api_version = object["apiVersion"].as_str().unwrap().to_owned();
                    let blob = store.put(canonical::value_to_vec(&object));
                    let options = unit.options.get(&key).cloned().unwrap_or_default();
                    objects.push(ObjectEntry { key, api_version, blob, holes: None, handed_through: false, options });
                }
                for (key, text) in &unit.texts {
                    let first = text.lines().next().and_then(|line| line.strip_prefix("apiVersion: "));
                    objects.push(ObjectEntry {
                        key: key.clone(),
                        api_version: first.expect("apiVersion comes first").to_owned(),
                        blob: store.put(text.clone().into_bytes()),
                        holes: Some(Vec::new()),
                        handed_through: false,
                        options: ObjectOptions::default(),
                    });
                }
                let body = UnitBody {
                    format: Late::format_of(unit.late.as_ref()),
                    id: unit.id.clone(),
                    source: "flux-system/flux-system".into(),
                    path: "./x".into(),
                    spec: unit.spec.clone(),
                    definition: unit.definition.clone(),
                    objects,
                    withheld: unit.withheld.clone(),
                    late: unit.late.clone(),
                };
                let blob = store.put(canonical::to_vec(&body).unwrap());
                bodies.push(body);
                UnitState::Full { body: blob }
            });
            index_units.push(IndexUnit { id: unit.id.clone(), state, drift_mode: None });
        }
        Self {
            generation: Generation { trust_epoch: 1, epoch: 1, sequence },
            index: Index {
                format: FORMAT,
                cluster: ClusterId::from_bytes([7; 16]),
                whole,
                units: index_units,
                approved_deletes: Vec::new(),
            },
            bodies,
            revisions: vec![SourceRevision {
                source: "flux-system/flux-system".into(),
                revision: Revision { reference: "main".into(), commit: format!("{sequence:040x}") },
            }],
        }
    }

    pub fn desired(&self) -> Desired<'_> {
        Desired { generation: self.generation, index: &self.index, bodies: &self.bodies, revisions: &self.revisions }
    }
}

/// What may go wrong, decided per step.
pub trait Faults {
    /// What happens to a step: `None`, it is carried out.
    fn on(&mut self, step: &Step) -> Option<Fault>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not carried out, and the answer says why.
    Refused(u16),
    /// Not carried out, nobody knows.
    Lost,
    /// Carried out, nobody knows.
    DoneButLost,
    /// It never comes back.
    Hangs,
    /// Of an apply, only the take-over of fields before it was carried out; nobody knows.
    TakenOver,
}

impl<F: FnMut(&Step) -> Option<Fault>> Faults for F {
    fn on(&mut self, step: &Step) -> Option<Fault> {
        self(step)
    }
}

/// Engine, cluster and time.
pub struct World {
    pub cluster: Cluster,
    pub engine: Engine,
    pub store: Store,
    pub bundle: Option<Made>,
    pub now: u64,
    pub sequence: u64,
    pub rules: Rules,
    watched: BTreeSet<GroupKind>,
    pub in_flight_most: usize,
    /// The watch brings a write before its answer comes.
    pub watch_first: bool,
    /// Watch events are lost.
    pub deaf: bool,
    /// Kinds that may not be listed or watched.
    pub blind: BTreeSet<String>,
    /// Kinds that were listed anew.
    pub relists: Vec<String>,
    /// Texts that were not read whole.
    pub passed_by: usize,
    /// The last apply found its object there and wrote nothing.
    present: bool,
}

pub fn rules() -> Rules {
    Rules::new([3; 32])
}

impl World {
    pub fn new() -> Self {
        Self::with(rules())
    }

    pub fn with(rules: Rules) -> Self {
        let mut world = Self {
            cluster: Cluster::new(),
            engine: Engine::new(rules.clone()),
            store: Store::default(),
            bundle: None,
            now: 1_795_260_000_000,
            sequence: 0,
            rules,
            watched: BTreeSet::new(),
            in_flight_most: 0,
            watch_first: false,
            deaf: false,
            blind: BTreeSet::new(),
            passed_by: 0,
            relists: Vec::new(),
            present: false,
        };
        world.boot();
        world
    }

    fn boot(&mut self) {
        let shards: Vec<(u32, String)> = self.cluster.inventory.iter().map(|(n, t)| (*n, t.clone())).collect();
        self.engine.set_inventory(&shards, self.now);
        self.engine.set_discovery(&self.cluster.served, &self.cluster.unknown_groups, self.now);
        if let Some(bundle) = &self.bundle {
            self.engine.set_bundle(bundle.desired(), &self.store, self.now);
        }
    }

    /// The process dies and starts again: only what is stored in the cluster stays.
    pub fn restart(&mut self) {
        self.engine = Engine::new(self.rules.clone());
        self.watched.clear();
        self.cluster.events.clear();
        self.boot();
    }

    pub fn commit(&mut self, units: &[Unit]) {
        self.commit_index(units, true, &[]);
    }

    pub fn commit_index(&mut self, units: &[Unit], whole: bool, approved: &[ApprovedDelete]) {
        self.sequence += 1;
        let mut made = Made::new(self.sequence, units, whole, &mut self.store);
        made.index.approved_deletes = approved.to_vec();
        self.engine.set_bundle(made.desired(), &self.store, self.now);
        self.bundle = Some(made);
    }

    pub fn discover(&mut self) {
        self.engine.set_discovery(&self.cluster.served, &self.cluster.unknown_groups, self.now);
    }

    fn watch(&mut self) {
        for wanted in self.engine.wanted() {
            if self.watched.insert(wanted.kind.clone()) {
                match self.blind.contains(&*wanted.kind.kind) {
                    true => self.engine.observe(Observation::Blind(&wanted.kind, "forbidden"), &self.store, self.now),
                    false => self.list(&wanted.kind),
                }
            }
        }
    }

    fn list(&mut self, kind: &GroupKind) {
        self.engine.observe(Observation::ListBegin(kind), &self.store, self.now);
        for live in self.cluster.list(kind) {
            self.show(&live);
        }
        self.engine.observe(Observation::ListEnd(kind), &self.store, self.now);
    }

    /// The watch of a kind was cut and begins with a list.
    pub fn relist(&mut self, kind: &str) {
        let kind = self.watched.iter().find(|watched| watched.kind == *kind).unwrap().clone();
        self.list(&kind);
    }

    pub fn deliver(&mut self) {
        while let Some((gone, value)) = self.cluster.events.pop_front() {
            let kind = GroupKind::of(&ObjectKey::of(&value).unwrap());
            if !self.watched.contains(&kind) || self.deaf || self.blind.contains(&*kind.kind) {
                continue;
            }
            match gone {
                true => self.engine.observe(Observation::Gone(&value), &self.store, self.now),
                false => self.show(&value),
            }
        }
    }

    /// An object as a watch or a list brings it: as text, read whole only where it says something new.
    fn show(&mut self, live: &Value) {
        let key = ObjectKey::of(live).unwrap();
        let of = |field: &str| live["metadata"][field].as_str().unwrap_or_default();
        let text = live.to_string();
        if self.engine.passes_by(&key, of("uid"), of("resourceVersion"), &text) {
            self.passed_by += 1;
            return;
        }
        self.engine.observe(Observation::Object(live), &self.store, self.now);
        self.engine.keep_text(&text);
    }

    fn execute(&mut self, step: &Step) -> Result<Option<Value>, Failure> {
        match &step.action {
            Action::WriteInventory { shards } => {
                for shard in shards {
                    assert!(shard.text.as_ref().is_none_or(|t| t.len() <= 600 * 1024));
                    match &shard.text {
                        Some(text) => self.cluster.inventory.insert(shard.shard, text.clone()),
                        None => self.cluster.inventory.remove(&shard.shard),
                    };
                }
                self.cluster.log.push(format!("inventory {}", shards.len()));
                Ok(None)
            }
            Action::Apply(apply) if apply.only_if_absent && self.cluster.get(&apply.key).is_some() => {
                self.present = true;
                Ok(self.cluster.get(&apply.key))
            }
            Action::Apply(apply) => {
                self.cluster.take_over(&apply.key, apply.take_over, &apply.ignore, &self.rules);
                let bytes = self.store.get(&apply.blob.digest).unwrap();
                let declared: Value = serde_json::from_slice(&edit::prepare(apply, &bytes).unwrap().bytes).unwrap();
                self.cluster.log.push(format!("{:?} {}", apply.purpose, apply.key));
                self.cluster.apply(&declared, FIELD_MANAGER).map(Some)
            }
            Action::DryRun(apply) => {
                let bytes = self.store.get(&apply.blob.digest).unwrap();
                let declared: Value = serde_json::from_slice(&edit::prepare(apply, &bytes).unwrap().bytes).unwrap();
                self.cluster.log.push(format!("DryRun {}", apply.key));
                self.cluster.dry_run(&declared, apply.instead_of.as_deref().unwrap_or(FIELD_MANAGER)).map(Some)
            }
            Action::Delete(delete) => {
                self.cluster.log.push(format!("Delete {}", delete.key));
                self.cluster.delete(&delete.key, Some(&delete.uid), Some(&delete.resource_version)).map(|()| None)
            }
            Action::SuspendFlux(suspend) => {
                self.cluster.log.push(format!("Suspend {}", suspend.key.name));
                self.cluster.suspend(suspend).map(|()| None)
            }
            Action::Get { key, .. } => match self.cluster.get(key) {
                Some(value) => Ok(Some(value)),
                None => Err(failure(404, "NotFound", "not found")),
            },
        }
    }

    /// Drives everything until nothing more happens before `until` (Unix ms).
    pub fn run_until(&mut self, until: u64, faults: &mut dyn Faults) {
        for _ in 0..20_000 {
            self.deliver();
            self.watch();
            let steps = self.engine.poll(self.now);
            for kind in self.engine.take_relists() {
                self.relists.push(kind.kind.to_string());
                self.list(&kind);
            }
            self.in_flight_most = self.in_flight_most.max(steps.len());
            if steps.is_empty() && self.cluster.events.is_empty() {
                match self.engine.next_deadline() {
                    Some(at) if at <= until => {
                        assert!(at > self.now, "a deadline in the past is a busy loop: {at} at {}", self.now);
                        self.now = at;
                        continue;
                    }
                    _ => return,
                }
            }
            for step in steps {
                let fault = faults.on(&step);
                let result = match fault {
                    Some(Fault::Refused(status)) => Err(failure(status, "", "injected")),
                    Some(Fault::Hangs) => continue,
                    Some(Fault::Lost) => {
                        self.engine.done(step.id, Outcome::Unknown, &self.store, self.now);
                        continue;
                    }
                    Some(Fault::DoneButLost) => {
                        let _ = self.execute(&step);
                        self.engine.done(step.id, Outcome::Unknown, &self.store, self.now);
                        continue;
                    }
                    Some(Fault::TakenOver) => {
                        if let Action::Apply(apply) = &step.action {
                            self.cluster.take_over(&apply.key, apply.take_over, &apply.ignore, &self.rules);
                        }
                        self.engine.done(step.id, Outcome::Unknown, &self.store, self.now);
                        continue;
                    }
                    None => self.execute(&step),
                };
                self.now += 1;
                if self.watch_first {
                    self.deliver();
                }
                let outcome = match &result {
                    Ok(Some(value)) if std::mem::take(&mut self.present) => Outcome::Present(value),
                    Ok(Some(value)) => Outcome::Object(value),
                    Ok(None) => Outcome::Ok,
                    Err(f)
                        if f.status == Some(404) && matches!(step.action, Action::Delete(_) | Action::Get { .. }) =>
                    {
                        Outcome::NotFound
                    }
                    Err(f) => Outcome::Failed(f.clone()),
                };
                self.engine.done(step.id, outcome, &self.store, self.now);
            }
        }
        panic!("it never comes to rest; last: {:?}", &self.cluster.log[self.cluster.log.len().saturating_sub(20)..]);
    }

    /// Ten seconds without faults.
    pub fn settle(&mut self) {
        self.run_until(self.now + 10_000, &mut |_: &Step| None);
    }

    /// The writes since the last call, inventory left out.
    pub fn writes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cluster.log).into_iter().filter(|line| !line.starts_with("inventory")).collect()
    }

    pub fn report(&self, name: &str) -> UnitReport {
        let id = UnitId::kustomization("flux-system", name);
        self.engine
            .reports(self.now)
            .into_iter()
            .find(|r| r.unit == id)
            .unwrap_or_else(|| panic!("no report of {name}"))
    }
}
