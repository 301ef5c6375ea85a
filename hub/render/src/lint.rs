//! Checks on what was rendered that need no cluster: what the API server would refuse anyway, said before it does.

use driftless_protocol::object::ObjectKey;

use crate::flux::{RenderedCluster, RenderedObject, RenderedUnit};
use crate::report::{Code, Problem};
use crate::validate::versions::{self, Lifecycle};

/// The oldest minor version of Kubernetes 1 that its makers still mend (end of 2026): what it does not serve, none does.
const OLDEST_SUPPORTED: u32 = 34;

/// Every finding, by unit and in the order of the objects. Findings hold nothing back: the API server has the last word.
#[must_use]
pub fn lint(rendered: &RenderedCluster) -> Vec<Problem> {
    let mut out = Vec::new();
    for unit in &rendered.units {
        for object in unit.objects() {
            namespace(unit, object, &mut out);
            removed_version(unit, object, &mut out);
        }
    }
    out
}

fn namespace(unit: &RenderedUnit, object: &RenderedObject, out: &mut Vec<Problem>) {
    if object.key.namespace.is_empty() && is_namespaced(&object.key) {
        let message = format!(
            "{} has no namespace, and its kind needs one; set metadata.namespace, or spec.targetNamespace of unit {}",
            object.key, unit.id
        );
        out.push(Problem::new(Code::NamespaceMissing, &unit.id, Some(object.origin.clone()), message));
    }
    if !object.key.namespace.is_empty() && is_cluster_scoped(&object.key) {
        let message = format!("{} has a namespace, and its kind has none; remove metadata.namespace", object.key);
        out.push(Problem::new(Code::NamespaceUnexpected, &unit.id, Some(object.origin.clone()), message));
    }
}

/// Kinds of Kubernetes itself that live in a namespace (API reference of 1.36).
fn is_namespaced(key: &ObjectKey) -> bool {
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
fn is_cluster_scoped(key: &ObjectKey) -> bool {
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

/// API versions no supported Kubernetes serves any more.
fn removed_version(unit: &RenderedUnit, object: &RenderedObject, out: &mut Vec<Problem>) {
    let lifecycle = versions::lifecycle(&object.api_version, &object.key.kind, OLDEST_SUPPORTED);
    let Some(Lifecycle::Removed(since, replacement)) = lifecycle else { return };
    let message = format!(
        "{} is written in {}, which Kubernetes does not serve since 1.{since}; use {replacement}",
        object.key, object.api_version
    );
    out.push(Problem::new(Code::RemovedVersion, &unit.id, Some(object.origin.clone()), message));
}
