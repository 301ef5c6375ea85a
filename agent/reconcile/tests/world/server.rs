//! An API server in miniature: server-side apply on maps (lists are atomic), field ownership, preconditions.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // as in the module above

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use driftless_protocol::marks::{FLUX_OWNER_NAME, UNIT_LABEL};
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::input::{GroupKind, ServedKind};
use driftless_reconcile::ownership;
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::{Failure, SuspendFlux, TakeOver};
use serde_json::{Map, Value, json};

pub type Path = Vec<String>;

#[derive(Clone, Debug, Default)]
struct Stored {
    value: Value,
    /// (manager, operation, subresource) -> leaf paths.
    owners: BTreeMap<(String, String, String), BTreeSet<Path>>,
}

/// When everything was written, as this server has it.
const WRITTEN: &str = "2026-11-21T11:23:58Z";

/// An API server in miniature.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    objects: BTreeMap<ObjectKey, Stored>,
    version: u64,
    uids: u64,
    pub served: Vec<ServedKind>,
    /// Groups of which discovery does not tell.
    pub unknown_groups: BTreeSet<String>,
    pub inventory: BTreeMap<u32, String>,
    /// Watch events not delivered yet: deleted or not, and the object.
    pub events: VecDeque<(bool, Value)>,
    /// Every write: `apply ConfigMap default/x`, `delete ...`.
    pub log: Vec<String>,
    /// Keys the server refuses, and how.
    pub refuse: BTreeMap<String, Failure>,
    /// Values of existing objects that the server refuses to change: `Kind namespace/name` and path.
    pub immutable: Vec<(String, String)>,
    /// Watches select on Flux's label, as in shadow mode.
    pub shadow: bool,
    /// Values the server stores in another form: normalisation.
    pub normalise: BTreeMap<String, Value>,
}

pub fn served(group: &str, kind: &str, namespaced: bool) -> ServedKind {
    ServedKind { kind: GroupKind { group: group.into(), kind: kind.into() }, namespaced, versions: vec!["v1".into()] }
}

/// Kinds that are watched whether they carry our label or not.
fn unowned(key: &ObjectKey) -> bool {
    matches!(key.kind.as_str(), "HorizontalPodAutoscaler" | "Namespace" | "Kustomization")
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
                let labelled = self.labelled(key);
                if labelled || unowned(key) {
                    self.events.push_back((false, value));
                } else if had_label {
                    self.events.push_back((true, value));
                }
            }
        }
    }

    fn labelled(&self, key: &ObjectKey) -> bool {
        let label = if self.shadow { FLUX_OWNER_NAME } else { UNIT_LABEL };
        self.objects.get(key).is_some_and(|o| o.value.pointer("/metadata/labels").and_then(|l| l.get(label)).is_some())
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
                "creationTimestamp": WRITTEN,
            });
            let mut value =
                json!({"apiVersion": declared["apiVersion"], "kind": declared["kind"], "metadata": metadata});
            if !key.namespace.is_empty() {
                value["metadata"]["namespace"] = key.namespace.as_str().into();
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

    /// Puts a whole object there, as it is: UID and version are made where it says none.
    pub fn put(&mut self, mut value: Value) {
        let key = ObjectKey::of(&value).expect("a key");
        let had_label = self.labelled(&key);
        let version = self.bump();
        self.uids += 1;
        let uid = match self.objects.get(&key) {
            Some(stored) => stored.value["metadata"]["uid"].clone(),
            None => format!("00000000-0000-4000-8000-{:012x}", self.uids).into(),
        };
        let metadata = value["metadata"].as_object_mut().unwrap();
        metadata.entry("uid").or_insert(uid);
        metadata.insert("resourceVersion".into(), version.to_string().into());
        self.objects.insert(key.clone(), Stored { value, owners: BTreeMap::new() });
        self.emit(&key, None, had_label);
    }

    /// `spec.suspend` of a Kustomization.
    pub fn suspend(&mut self, suspend: &SuspendFlux) -> Result<(), Failure> {
        let Some(live) = self.get(&suspend.key) else { return Err(failure(404, "NotFound", "not found")) };
        let metadata = &live["metadata"];
        if metadata["uid"] != suspend.uid.as_str() || metadata["generation"] != suspend.generation {
            return Err(failure(422, "Invalid", "the test operation failed"));
        }
        let mut value = self.objects[&suspend.key].value.clone();
        value["spec"]["suspend"] = true.into();
        value["metadata"]["generation"] = (suspend.generation + 1).into();
        self.put(value);
        Ok(())
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
    pub fn take_over(&mut self, key: &ObjectKey, whose: TakeOver, ignored: &[String], rules: &Rules) {
        let Some(live) = self.get(key) else { return };
        let Some(patch) = ownership::take_over(&live, whose, ignored, None, rules) else { return };
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
                "time": WRITTEN, "fieldsType": "FieldsV1", "fieldsV1": fields});
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
