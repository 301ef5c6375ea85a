//! Flux's own Kustomizations as they stand in the cluster: what one says, and how Flux names objects in its inventory.

use driftless_protocol::id::{Digest, UnitId, UnitKind};
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::Ready;
use serde_json::Value;

use crate::input::GroupKind;
use crate::mark::{Uid, Version};

/// API group of Flux's Kustomization.
pub const GROUP: &str = "kustomize.toolkit.fluxcd.io";

/// Most inventory ids kept of one Kustomization: as many as a bundle may hold objects.
const MOST_IDS: usize = driftless_protocol::limits::BUNDLE_OBJECTS;

/// The kind.
#[must_use]
pub fn kind() -> GroupKind {
    GroupKind { group: GROUP.into(), kind: UnitKind::Kustomization.as_str().into() }
}

/// The object that defines a unit for Flux.
#[must_use]
pub fn key_of(id: &UnitId) -> ObjectKey {
    let GroupKind { group, kind } = kind();
    ObjectKey { group, kind, namespace: id.namespace.as_str().into(), name: id.name.as_str().into() }
}

/// What one Kustomization says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluxUnit {
    /// Which incarnation.
    pub uid: Uid,
    /// Which state of it.
    pub version: Version,
    /// `spec.suspend`.
    pub suspended: bool,
    /// `metadata.generation`: rises with the spec.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed: i64,
    /// Its Ready condition.
    pub ready: Ready,
    /// What that says.
    pub message: String,
    /// `status.lastAppliedRevision`.
    pub revision: Option<String>,
    /// The Kustomization that applies this one, by Flux's owner labels; a root names itself.
    pub parent: Option<UnitId>,
    /// `status.inventory`, sorted.
    pub ids: Vec<Box<str>>,
    /// What it has done, in short: this incarnation, the revision it applied last, and the inventory that came of it. Suspending
    /// it changes none of them.
    pub work: Digest,
}

impl FluxUnit {
    /// Reads a live Kustomization; `None` where it is none.
    #[must_use]
    pub fn read(live: &Value) -> Option<(UnitId, Self)> {
        let key = ObjectKey::of(live).filter(|key| GroupKind::of(key) == kind())?;
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str);
        let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let label = |name: &str| live.pointer("/metadata/labels")?.get(name)?.as_str();
        let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().find(|c| c.get("type").and_then(Value::as_str) == Some("Ready"));
        let of_ready = |field: &str| ready.and_then(|c| c.get(field)).and_then(Value::as_str);
        let entries = live.pointer("/status/inventory/entries").and_then(Value::as_array);
        let mut ids: Vec<Box<str>> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("id")?.as_str().map(Into::into))
            .take(MOST_IDS)
            .collect();
        ids.sort_unstable();
        let uid = text("/metadata/uid")?;
        let revision = text("/status/lastAppliedRevision").unwrap_or_default();
        let parts: Vec<&str> = [uid, revision].into_iter().chain(ids.iter().map(|id| &**id)).collect();
        let work = Digest::of(parts.join("\n").as_bytes());
        let parent = label(marks::FLUX_OWNER_NAME)
            .zip(label(marks::FLUX_OWNER_NAMESPACE))
            .map(|(name, namespace)| UnitId::kustomization(namespace, name));
        let unit = Self {
            uid: Uid::from(uid),
            version: Version::from(text("/metadata/resourceVersion").unwrap_or_default()),
            suspended: live.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or(false),
            generation: number("/metadata/generation"),
            observed: number("/status/observedGeneration"),
            ready: match of_ready("status") {
                Some("True") => Ready::True,
                Some("False") => Ready::False,
                _ => Ready::Unknown,
            },
            message: of_ready("message").unwrap_or_default().chars().take(500).collect(),
            revision: Some(revision).filter(|r| !r.is_empty()).map(str::to_owned),
            parent,
            ids,
            work,
        };
        Some((UnitId::kustomization(key.namespace, key.name), unit))
    }

    /// Flux has seen the spec as it is.
    #[must_use]
    pub fn has_seen_it(&self) -> bool {
        self.observed >= self.generation
    }
}

/// How Flux names an object in an inventory: `namespace_name_group_kind`, a colon in a name written as two underscores.
#[must_use]
pub fn object_id(key: &ObjectKey) -> String {
    format!("{}_{}_{}_{}", key.namespace, key.name.replace(':', "__"), key.group, key.kind)
}

/// The object such an id names.
#[must_use]
pub fn parse_id(id: &str) -> Option<ObjectKey> {
    let (namespace, rest) = id.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    (!name.is_empty() && !kind.is_empty()).then(|| ObjectKey {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.replace("__", ":").into(),
    })
}

/// Kinds that Flux applies and that Driftless reads itself: units and sources are not objects to it.
#[must_use]
pub fn interpreted(key: &ObjectKey) -> bool {
    matches!(key.group.as_str(), GROUP | "source.toolkit.fluxcd.io" | "source.extensions.fluxcd.io")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_those_of_an_inventory() {
        for (id, shown) in [
            ("default_web_apps_Deployment", "Deployment.apps default/web"),
            ("_shop__Namespace", "Namespace shop"),
            ("default_settings__ConfigMap", "ConfigMap default/settings"),
            (
                "_system__node-proxy_rbac.authorization.k8s.io_ClusterRole",
                "ClusterRole.rbac.authorization.k8s.io system:node-proxy",
            ),
        ] {
            let key = parse_id(id).expect(id);
            assert_eq!((key.to_string().as_str(), object_id(&key).as_str()), (shown, id));
        }
        for bad in ["", "a", "a_b", "a_b_c", "a___ConfigMap", "a_b_c_"] {
            assert_eq!(parse_id(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_kustomization_is_read_and_nothing_else_is() {
        let live = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "apps", "namespace": "flux-system", "uid": "u", "resourceVersion": "7", "generation": 3,
                "labels": {marks::FLUX_OWNER_NAME: "flux-system", marks::FLUX_OWNER_NAMESPACE: "flux-system"}},
            "spec": {"suspend": true},
            "status": {"observedGeneration": 2, "lastAppliedRevision": "main@sha1:a",
                "conditions": [{"type": "Ready", "status": "True", "message": "Applied"}],
                "inventory": {"entries": [{"id": "b_b__ConfigMap", "v": "v1"}, {"id": "a_a__ConfigMap", "v": "v1"}]}},
        });
        let (id, unit) = FluxUnit::read(&live).expect("a Kustomization");
        assert_eq!(id, UnitId::kustomization("flux-system", "apps"));
        assert_eq!(unit.parent, Some(UnitId::kustomization("flux-system", "flux-system")));
        assert!(unit.suspended && !unit.has_seen_it() && unit.ready == Ready::True);
        assert_eq!(unit.ids, ["a_a__ConfigMap".into(), "b_b__ConfigMap".into()]);
        let other = json!({"apiVersion": "kustomize.config.k8s.io/v1", "kind": "Kustomization", "metadata": {"name": "x", "uid": "u"}});
        assert_eq!(FluxUnit::read(&other), None);
    }
}
