//! Flux in a test's cluster: what it applies, and its own objects.

use driftless_protocol::id::UnitId;
use driftless_protocol::marks::{FLUX_OWNER_NAME, FLUX_OWNER_NAMESPACE};
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::flux;
use serde_json::{Value, json};

use super::{Unit, World, rules, served, unit};

/// Its field manager.
pub const FLUX: &str = "kustomize-controller";

/// An object as the hub renders it and as Flux applies it: with Flux's owner labels.
pub fn of(unit: &str, mut object: Value) -> Value {
    object["metadata"]["labels"][FLUX_OWNER_NAME] = unit.into();
    object["metadata"]["labels"][FLUX_OWNER_NAMESPACE] = "flux-system".into();
    object
}

pub fn id(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

pub fn kustomization(name: &str) -> ObjectKey {
    flux::key_of(&id(name))
}

/// A world with Flux's kinds.
pub fn world(shadow: bool) -> World {
    let mut rules = rules();
    rules.shadow = shadow;
    let mut w = World::with(rules);
    w.cluster.shadow = shadow;
    w.cluster.served.push(served(flux::GROUP, "Kustomization", true));
    w.cluster.served.push(served("source.toolkit.fluxcd.io", "GitRepository", true));
    w.discover();
    w
}

/// Flux applies a unit: its objects, and its own object with the inventory.
pub fn flux_applies(w: &mut World, name: &str, parent: &str, suspend: bool, objects: &[Value]) {
    for object in objects {
        w.cluster.apply(object, FLUX).unwrap();
    }
    let keys: Vec<ObjectKey> = objects.iter().filter_map(ObjectKey::of).collect();
    flux_object(w, name, parent, suspend, true, &keys);
}

pub fn flux_object(w: &mut World, name: &str, parent: &str, suspend: bool, seen: bool, keys: &[ObjectKey]) {
    let old = w.cluster.get(&kustomization(name));
    let generation = old.as_ref().map_or(1, |old| {
        let changed = old["spec"]["suspend"] != suspend;
        old["metadata"]["generation"].as_i64().unwrap() + i64::from(changed)
    });
    let observed = if seen { generation } else { generation - 1 };
    // What it did last stays as it is once it is suspended.
    let revision = match &old {
        Some(old) if suspend => old["status"]["lastAppliedRevision"].clone(),
        _ => format!("main@sha1:{generation}").into(),
    };
    let entries: Vec<Value> = keys.iter().map(|key| json!({"id": flux::object_id(key), "v": "v1"})).collect();
    let mut object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": "flux-system", "generation": generation,
            "labels": {FLUX_OWNER_NAME: parent, FLUX_OWNER_NAMESPACE: "flux-system"}},
        "spec": {"suspend": suspend},
        "status": {"observedGeneration": observed, "lastAppliedRevision": revision,
            "conditions": [{"type": "Ready", "status": "True", "message": "Applied"}],
            "inventory": {"entries": entries}},
    });
    if parent.is_empty() {
        object["metadata"].as_object_mut().unwrap().remove("labels");
    }
    w.cluster.put(object);
}

/// A unit that Git hands over.
pub fn handed_over(name: &str, objects: Vec<Value>) -> Unit {
    unit(name, objects).with(|spec| spec.take_over = true)
}
