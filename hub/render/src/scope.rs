//! Which kinds live in a namespace, and where an object stands in a cluster.
//!
//! What an API server of today knows. What kustomize knows is another table, of Kubernetes 1.21, and has to stay so for equal
//! output: `kustomize/scope.rs`.

use driftless_protocol::object::{Name, ObjectKey};

/// Where an object stands in a cluster. The API server drops the namespace of an object whose kind has none, so two keys that
/// differ in it alone are one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LiveKey<'k> {
    group: &'k str,
    kind: &'k str,
    namespace: &'k str,
    name: &'k str,
}

impl<'k> LiveKey<'k> {
    pub(crate) fn of(key: &'k ObjectKey) -> Self {
        let namespace = if is_cluster_scoped(key) { "" } else { &key.namespace };
        Self { group: &key.group, kind: &key.kind, namespace, name: &key.name }
    }
}

/// The key an object has in a cluster.
pub(crate) fn placed(key: &ObjectKey) -> ObjectKey {
    let mut key = key.clone();
    if is_cluster_scoped(&key) {
        key.namespace = Name::default();
    }
    key
}

/// Kinds that live in a namespace: of Kubernetes itself (API reference of 1.36), and all of Flux.
pub(crate) fn is_namespaced(key: &ObjectKey) -> bool {
    if key.group.ends_with(".toolkit.fluxcd.io") {
        return true;
    }
    let kinds: &[&str] = match key.group.as_str() {
        "" => &[
            "ConfigMap",
            "Endpoints",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
        "apps" => &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"],
        "autoscaling" => &["HorizontalPodAutoscaler"],
        "batch" => &["CronJob", "Job"],
        "coordination.k8s.io" => &["Lease"],
        "discovery.k8s.io" => &["EndpointSlice"],
        "networking.k8s.io" => &["Ingress", "NetworkPolicy"],
        "policy" => &["PodDisruptionBudget"],
        "rbac.authorization.k8s.io" => &["Role", "RoleBinding"],
        _ => &[],
    };
    kinds.contains(&key.kind.as_str())
}

/// Kinds of Kubernetes itself that live in none (API reference of 1.36).
pub(crate) fn is_cluster_scoped(key: &ObjectKey) -> bool {
    let kinds: &[&str] = match key.group.as_str() {
        "" => &["Namespace", "Node", "PersistentVolume"],
        "admissionregistration.k8s.io" => &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
        "apiextensions.k8s.io" => &["CustomResourceDefinition"],
        "apiregistration.k8s.io" => &["APIService"],
        "networking.k8s.io" => &["IngressClass"],
        "node.k8s.io" => &["RuntimeClass"],
        "rbac.authorization.k8s.io" => &["ClusterRole", "ClusterRoleBinding"],
        "scheduling.k8s.io" => &["PriorityClass"],
        "storage.k8s.io" => &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        _ => &[],
    };
    kinds.contains(&key.kind.as_str())
}
