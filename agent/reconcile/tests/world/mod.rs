//! A small cluster and a caller that drives the engine against it: server-side apply on maps (lists are atomic), field
//! ownership, watches by label, preconditions, and faults on demand.
// Each test binary uses a part of it; a panic here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
use driftless_reconcile::input::{Desired, GroupKind, Observation, ServedKind};
use driftless_reconcile::ownership;
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::{Action, Failure, Outcome, Step, TakeOver};
use serde_json::{Map, Value, json};

pub type Path = Vec<String>;

#[derive(Clone, Debug, Default)]
struct Stored {
    value: Value,
    /// (manager, operation, subresource) -> leaf paths.
    owners: BTreeMap<(String, String, String), BTreeSet<Path>>,
}

/// An API server in miniature.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    objects: BTreeMap<ObjectKey, Stored>,
    version: u64,
    uids: u64,
    pub served: Vec<ServedKind>,
    pub inventory: BTreeMap<u32, String>,
    /// Watch events not delivered yet: deleted or not, and the object.
    pub events: VecDeque<(bool, Value)>,
    /// Every write: `apply ConfigMap default/x`, `delete ...`.
    pub log: Vec<String>,
    /// Keys the server refuses, and how.
    pub refuse: BTreeMap<String, Failure>,
    /// Values of existing objects that the server refuses to change: `Kind namespace/name` and path.
    pub immutable: Vec<(String, String)>,
    /// Values the server stores in another form: normalisation.
    pub normalise: BTreeMap<String, Value>,
}

pub fn served(group: &str, kind: &str, namespaced: bool) -> ServedKind {
    ServedKind { kind: GroupKind { group: group.into(), kind: kind.into() }, namespaced, versions: vec!["v1".into()] }
}

/// Kinds that are watched whether they carry our label or not.
fn unowned(key: &ObjectKey) -> bool {
    matches!(key.kind.as_str(), "HorizontalPodAutoscaler" | "Namespace")
}

fn leaves(value: &Value, at: &mut Path, out: &mut BTreeSet<Path>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, below) in map {
                at.push(name.clone());
                leaves(below, at, out);
                at.pop();
            }
        }
        Value::Null => {}
        _ => {
            out.insert(at.clone());
        }
    }
}

fn declared_leaves(value: &Value) -> BTreeSet<Path> {
    let mut out = BTreeSet::new();
    leaves(value, &mut Vec::new(), &mut out);
    out.retain(|p| {
        !matches!(p[0].as_str(), "apiVersion" | "kind" | "status")
            && (p[0] != "metadata" || matches!(p[1].as_str(), "labels" | "annotations"))
    });
    out
}

fn get<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |v, name| v.get(name))
}

fn set(value: &mut Value, path: &[String], new: Value) {
    let mut at = value;
    for name in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = at.as_object_mut().unwrap().entry(name.clone()).or_insert(Value::Null);
    }
    *at = new;
}

fn unset(value: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = value;
    for name in parents {
        match at.get_mut(name) {
            Some(below) => at = below,
            None => return,
        }
    }
    if let Some(map) = at.as_object_mut() {
        map.remove(last);
    }
}

impl Cluster {
    pub fn new() -> Self {
        let mut cluster = Self::default();
        for (group, kind, namespaced) in [
            ("", "Namespace", false),
            ("", "ConfigMap", true),
            ("", "Secret", true),
            ("", "Service", true),
            ("", "PersistentVolumeClaim", true),
            ("apps", "Deployment", true),
            ("autoscaling", "HorizontalPodAutoscaler", true),
            ("rbac.authorization.k8s.io", "ClusterRole", false),
            ("apiextensions.k8s.io", "CustomResourceDefinition", false),
        ] {
            cluster.served.push(served(group, kind, namespaced));
        }
        for name in ["default", "kube-system", "driftless-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            cluster.apply(&namespace, "kube-apiserver").unwrap();
        }
        cluster.log.clear();
        cluster.events.clear();
        cluster
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Value> {
        self.objects.get(key).map(render)
    }

    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    fn bump(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn emit(&mut self, key: &ObjectKey, gone: Option<Value>, had_label: bool) {
        match gone {
            Some(value) if had_label || unowned(key) => self.events.push_back((true, value)),
            Some(_) => {}
            None => {
                let value = render(&self.objects[key]);
                let labelled = value.pointer("/metadata/labels").and_then(|l| l.get(UNIT_LABEL)).is_some();
                if labelled || unowned(key) {
                    self.events.push_back((false, value));
                } else if had_label {
                    self.events.push_back((true, value));
                }
            }
        }
    }

    fn labelled(&self, key: &ObjectKey) -> bool {
        self.objects
            .get(key)
            .is_some_and(|o| o.value.pointer("/metadata/labels").and_then(|l| l.get(UNIT_LABEL)).is_some())
    }

    /// Server-side apply, forced.
    pub fn apply(&mut self, declared: &Value, manager: &str) -> Result<Value, Failure> {
        self.applied(declared, manager, false)
    }

    pub fn dry_run(&self, declared: &Value, manager: &str) -> Result<Value, Failure> {
        self.clone().applied(declared, manager, true)
    }

    fn applied(&mut self, declared: &Value, manager: &str, dry: bool) -> Result<Value, Failure> {
        let key = ObjectKey::of(declared).expect("a key");
        if !self.served.iter().any(|s| s.kind == GroupKind::of(&key)) {
            return Err(failure(404, "NotFound", "the server could not find the requested resource"));
        }
        if let Some(refusal) = self.refuse.get(&key.to_string()) {
            return Err(refusal.clone());
        }
        let home = self::key("", "Namespace", "", &key.namespace);
        if !key.namespace.is_empty() && !self.objects.contains_key(&home) {
            return Err(failure(404, "NotFound", &format!("namespaces \"{}\" not found", key.namespace)));
        }
        let had_label = self.labelled(&key);
        let before = self.objects.get(&key).cloned();
        for (_, path) in self.immutable.iter().filter(|(of, _)| *of == key.to_string()) {
            let at: Path = path.split('.').map(str::to_owned).collect();
            if before.as_ref().is_some_and(|b| get(&b.value, &at) != get(declared, &at)) {
                return Err(failure(422, "Invalid", &format!("{path}: Invalid value: field is immutable")));
            }
        }
        let mut next = before.clone().unwrap_or_else(|| {
            self.uids += 1;
            let metadata = json!({
                "name": key.name,
                "uid": format!("00000000-0000-4000-8000-{:012x}", self.uids),
                "generation": 1,
            });
            let mut value =
                json!({"apiVersion": declared["apiVersion"], "kind": declared["kind"], "metadata": metadata});
            if !key.namespace.is_empty() {
                value["metadata"]["namespace"] = key.namespace.clone().into();
            }
            Stored { value, owners: BTreeMap::new() }
        });
        let want = declared_leaves(declared);
        let me = (manager.to_owned(), "Apply".to_owned(), String::new());
        let had = next.owners.remove(&me).unwrap_or_default();
        for path in had.difference(&want) {
            if !next.owners.values().any(|set| set.contains(path)) {
                unset(&mut next.value, path);
            }
        }
        for path in &want {
            let value = get(declared, path).unwrap();
            let shown = format!("{}={value}", path.join("."));
            let value = self.normalise.get(&shown).unwrap_or(value).clone();
            if get(&next.value, path) != Some(&value) {
                for set in next.owners.values_mut() {
                    set.remove(path);
                }
            }
            set(&mut next.value, path, value);
        }
        next.owners.insert(me, want);
        next.owners.retain(|_, set| !set.is_empty());
        if before.as_ref().is_none_or(|b| b.value != next.value || b.owners != next.owners) {
            let version = self.bump();
            next.value["metadata"]["resourceVersion"] = version.to_string().into();
        }
        let answer = render(&next);
        let changed = before.is_none_or(|b| b.value != next.value);
        self.objects.insert(key.clone(), next);
        if changed && !dry {
            self.emit(&key, None, had_label);
        }
        Ok(answer)
    }

    /// Another writer changes fields: `None` removes one.
    pub fn update(&mut self, key: &ObjectKey, manager: &str, changes: &[(&str, Option<Value>)]) {
        self.update_through(key, manager, "", changes);
    }

    pub fn update_through(
        &mut self,
        key: &ObjectKey,
        manager: &str,
        subresource: &str,
        changes: &[(&str, Option<Value>)],
    ) {
        let had_label = self.labelled(key);
        let version = self.bump();
        let Some(stored) = self.objects.get_mut(key) else { return };
        let me = (manager.to_owned(), "Update".to_owned(), subresource.to_owned());
        for (path, value) in changes {
            let path: Path = path.split('|').map(str::to_owned).collect();
            if get(&stored.value, &path) == value.as_ref() {
                continue;
            }
            for set in stored.owners.values_mut() {
                set.remove(&path);
            }
            match value {
                Some(value) => {
                    set(&mut stored.value, &path, value.clone());
                    if path[0] != "metadata" || matches!(path[1].as_str(), "labels" | "annotations") {
                        stored.owners.entry(me.clone()).or_default().insert(path);
                    }
                }
                None => unset(&mut stored.value, &path),
            }
        }
        stored.owners.retain(|_, set| !set.is_empty());
        stored.value["metadata"]["resourceVersion"] = version.to_string().into();
        self.emit(key, None, had_label);
    }

    pub fn delete(&mut self, key: &ObjectKey, uid: Option<&str>, version: Option<&str>) -> Result<(), Failure> {
        let Some(stored) = self.objects.get(key) else { return Err(failure(404, "NotFound", "not found")) };
        let metadata = &stored.value["metadata"];
        if uid.is_some_and(|uid| metadata["uid"] != uid) || version.is_some_and(|v| metadata["resourceVersion"] != v) {
            return Err(failure(409, "Conflict", "Precondition failed"));
        }
        let had_label = self.labelled(key);
        let mut value = render(&self.objects[key]);
        let version = self.bump();
        value["metadata"]["resourceVersion"] = version.to_string().into();
        self.objects.remove(key);
        self.emit(key, Some(value), had_label);
        Ok(())
    }

    /// A JSON patch as `take_over` makes it.
    fn take_over(&mut self, key: &ObjectKey, whose: TakeOver, ignored: &[String], rules: &Rules) {
        let Some(live) = self.get(key) else { return };
        let Some(patch) = ownership::take_over(&live, whose, ignored, rules) else { return };
        assert_eq!(patch[0]["value"], live["metadata"]["resourceVersion"]);
        let entries = patch[1]["value"].as_array().unwrap().clone();
        let version = self.bump();
        let stored = self.objects.get_mut(key).unwrap();
        stored.owners.clear();
        for entry in entries {
            let text = |f: &str| entry.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
            let mut paths = BTreeSet::new();
            from_fields(&entry["fieldsV1"], &mut Vec::new(), &mut paths);
            stored.owners.insert((text("manager"), text("operation"), text("subresource")), paths);
        }
        stored.value["metadata"]["resourceVersion"] = version.to_string().into();
        self.emit(key, None, true);
    }

    /// What a watch of this kind lists.
    pub fn list(&self, kind: &GroupKind) -> Vec<Value> {
        let all = self.objects.iter().filter(|(key, _)| GroupKind::of(key) == *kind);
        all.filter(|(key, _)| self.labelled(key) || unowned(key)).map(|(_, o)| render(o)).collect()
    }
}

fn from_fields(fields: &Value, at: &mut Path, out: &mut BTreeSet<Path>) {
    let map = fields.as_object().unwrap();
    if map.is_empty() && !at.is_empty() {
        out.insert(at.clone());
    }
    for (name, below) in map {
        at.push(name.strip_prefix("f:").unwrap().to_owned());
        from_fields(below, at, out);
        at.pop();
    }
}

fn render(stored: &Stored) -> Value {
    let mut value = stored.value.clone();
    let entries: Vec<Value> = stored
        .owners
        .iter()
        .map(|((manager, operation, subresource), paths)| {
            let mut fields = Map::new();
            for path in paths {
                let mut at = &mut fields;
                for name in path {
                    at = at.entry(format!("f:{name}")).or_insert_with(|| json!({})).as_object_mut().unwrap();
                }
            }
            let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": "v1",
                "time": "2026-11-21T11:23:58Z", "fieldsType": "FieldsV1", "fieldsV1": fields});
            if !subresource.is_empty() {
                entry["subresource"] = subresource.clone().into();
            }
            entry
        })
        .collect();
    value["metadata"]["managedFields"] = entries.into();
    value
}

pub fn failure(status: u16, reason: &str, message: &str) -> Failure {
    Failure { status: Some(status), reason: reason.into(), message: message.into(), ..Failure::default() }
}

pub fn key(group: &str, kind: &str, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

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
        self.state = Some(UnitState::Held { reason });
        self
    }

    pub fn suspended(mut self) -> Self {
        self.state = Some(UnitState::Suspended { by: SuspendedBy::Git });
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
                let objects = unit
                    .objects
                    .iter()
                    .map(|object| {
                        let mut object = object.clone();
                        object["metadata"]["labels"][UNIT_LABEL] = unit.id.label().to_string().into();
                        let key = ObjectKey::of(&object).expect("a key");
                        let api_version = object["apiVersion"].as_str().unwrap().to_owned();
                        let blob = store.put(canonical::value_to_vec(&object));
                        let options = unit.options.get(&key).cloned().unwrap_or_default();
                        ObjectEntry { key, api_version, blob, handed_through: false, options }
                    })
                    .collect();
                let body = UnitBody {
                    format: FORMAT,
                    id: unit.id.clone(),
                    source: "flux-system/flux-system".into(),
                    path: "./x".into(),
                    spec: unit.spec.clone(),
                    definition: unit.definition.clone(),
                    objects,
                    withheld: unit.withheld.clone(),
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
            relists: Vec::new(),
            present: false,
        };
        world.boot();
        world
    }

    fn boot(&mut self) {
        let shards: Vec<(u32, String)> = self.cluster.inventory.iter().map(|(n, t)| (*n, t.clone())).collect();
        self.engine.set_inventory(&shards, self.now);
        self.engine.set_discovery(&self.cluster.served, true, self.now);
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
        self.engine.set_discovery(&self.cluster.served, true, self.now);
    }

    fn watch(&mut self) {
        for wanted in self.engine.wanted() {
            if self.watched.insert(wanted.kind.clone()) {
                match self.blind.contains(&wanted.kind.kind) {
                    true => self.engine.observe(Observation::Blind(&wanted.kind, "forbidden"), &self.store, self.now),
                    false => self.list(&wanted.kind),
                }
            }
        }
    }

    fn list(&mut self, kind: &GroupKind) {
        self.engine.observe(Observation::ListBegin(kind), &self.store, self.now);
        for live in self.cluster.list(kind) {
            self.engine.observe(Observation::Object(&live), &self.store, self.now);
        }
        self.engine.observe(Observation::ListEnd(kind), &self.store, self.now);
    }

    pub fn deliver(&mut self) {
        while let Some((gone, value)) = self.cluster.events.pop_front() {
            let kind = GroupKind::of(&ObjectKey::of(&value).unwrap());
            if !self.watched.contains(&kind) || self.deaf || self.blind.contains(&kind.kind) {
                continue;
            }
            let seen = if gone { Observation::Gone(&value) } else { Observation::Object(&value) };
            self.engine.observe(seen, &self.store, self.now);
        }
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
                let declared: Value = serde_json::from_slice(&edit::body(&bytes, &apply.edits).unwrap()).unwrap();
                self.cluster.log.push(format!("{:?} {}", apply.purpose, apply.key));
                self.cluster.apply(&declared, FIELD_MANAGER).map(Some)
            }
            Action::DryRun(apply) => {
                let bytes = self.store.get(&apply.blob.digest).unwrap();
                let declared: Value = serde_json::from_slice(&edit::body(&bytes, &apply.edits).unwrap()).unwrap();
                self.cluster.log.push(format!("DryRun {}", apply.key));
                self.cluster.dry_run(&declared, FIELD_MANAGER).map(Some)
            }
            Action::Delete(delete) => {
                self.cluster.log.push(format!("Delete {}", delete.key));
                self.cluster.delete(&delete.key, Some(&delete.uid), Some(&delete.resource_version)).map(|()| None)
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
                self.relists.push(kind.kind.clone());
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
                    Some(Fault::Lost) => {
                        self.engine.done(step.id, Outcome::Unknown, &self.store, self.now);
                        continue;
                    }
                    Some(Fault::DoneButLost) => {
                        let _ = self.execute(&step);
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
