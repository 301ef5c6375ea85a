//! Checks on what was rendered that need no cluster: what the API server would refuse anyway, said before it does.

use driftless_protocol::object::{ObjectKey, group_of};

use crate::flux::{RenderedCluster, RenderedObject, RenderedUnit};
use crate::report::{Code, Problem};

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

/// API versions no supported Kubernetes serves any more, and what took their place (the deprecation guide of Kubernetes).
fn removed_version(unit: &RenderedUnit, object: &RenderedObject, out: &mut Vec<Problem>) {
    let replacement = match (object.api_version.as_str(), object.key.kind.as_str()) {
        (
            "extensions/v1beta1" | "apps/v1beta1" | "apps/v1beta2",
            "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet",
        ) => "apps/v1",
        ("extensions/v1beta1" | "networking.k8s.io/v1beta1", "Ingress" | "IngressClass" | "NetworkPolicy") => {
            "networking.k8s.io/v1"
        }
        ("rbac.authorization.k8s.io/v1alpha1" | "rbac.authorization.k8s.io/v1beta1", _) => {
            "rbac.authorization.k8s.io/v1"
        }
        ("apiextensions.k8s.io/v1beta1", _) => "apiextensions.k8s.io/v1",
        ("admissionregistration.k8s.io/v1beta1", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            "admissionregistration.k8s.io/v1"
        }
        ("batch/v1beta1" | "batch/v2alpha1", "CronJob") => "batch/v1",
        ("policy/v1beta1", "PodDisruptionBudget") => "policy/v1",
        ("policy/v1beta1" | "extensions/v1beta1", "PodSecurityPolicy") => {
            "a namespace label pod-security.kubernetes.io/enforce"
        }
        ("autoscaling/v2beta1" | "autoscaling/v2beta2", _) => "autoscaling/v2",
        ("storage.k8s.io/v1beta1", "CSIDriver" | "CSINode" | "StorageClass" | "VolumeAttachment") => {
            "storage.k8s.io/v1"
        }
        ("scheduling.k8s.io/v1beta1", "PriorityClass") => "scheduling.k8s.io/v1",
        ("coordination.k8s.io/v1beta1", "Lease") => "coordination.k8s.io/v1",
        ("discovery.k8s.io/v1beta1", "EndpointSlice") => "discovery.k8s.io/v1",
        _ => return,
    };
    debug_assert!(object.key.group == group_of(&object.api_version));
    let message = format!(
        "{} is written in {}, which no supported Kubernetes serves any more; use {replacement}",
        object.key, object.api_version
    );
    out.push(Problem::new(Code::RemovedVersion, &unit.id, Some(object.origin.clone()), message));
}
