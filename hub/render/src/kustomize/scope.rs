//! Which kinds have no namespace.

/// Whether kustomize 5.8.1 knows this kind to be cluster-scoped. Everything it does not know counts as namespaced.
///
/// Facts derived from the Kubernetes 1.21.2 OpenAPI document that kustomize embeds.
pub(crate) fn cluster_scoped(api: &str, kind: &str) -> bool {
    let kinds: &[&str] = match api {
        "v1" => &["Namespace", "Node", "PersistentVolume", "ComponentStatus", "NodeProxyOptions"],
        "rbac.authorization.k8s.io/v1" | "rbac.authorization.k8s.io/v1beta1" => &["ClusterRole", "ClusterRoleBinding"],
        "apiextensions.k8s.io/v1" | "apiextensions.k8s.io/v1beta1" => &["CustomResourceDefinition"],
        "admissionregistration.k8s.io/v1" | "admissionregistration.k8s.io/v1beta1" => {
            &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
        }
        "apiregistration.k8s.io/v1" | "apiregistration.k8s.io/v1beta1" => &["APIService"],
        "certificates.k8s.io/v1" | "certificates.k8s.io/v1beta1" => &["CertificateSigningRequest"],
        "flowcontrol.apiserver.k8s.io/v1beta1" => &["FlowSchema", "PriorityLevelConfiguration"],
        "networking.k8s.io/v1" | "networking.k8s.io/v1beta1" => &["IngressClass"],
        "node.k8s.io/v1" | "node.k8s.io/v1beta1" => &["RuntimeClass"],
        "policy/v1beta1" => &["PodSecurityPolicy"],
        "scheduling.k8s.io/v1" | "scheduling.k8s.io/v1beta1" => &["PriorityClass"],
        "storage.k8s.io/v1" | "storage.k8s.io/v1beta1" => &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        _ => return false,
    };
    kinds.contains(&kind)
}

/// Whether the real program knows the scope of this kind without looking at its schema document. Meeting any other kind
/// makes it remember that it will need that document, which shows only beside an `openapi` field in a base.
pub(crate) fn scope_known(api: &str, kind: &str) -> bool {
    let kinds: &[&str] = match api {
        "v1" => &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodAttachOptions",
            "PodExecOptions",
            "PodPortForwardOptions",
            "PodProxyOptions",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
            "ServiceProxyOptions",
        ],
        "apps/v1" => &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"],
        "autoscaling/v1" => &["HorizontalPodAutoscaler", "Scale"],
        "autoscaling/v2beta1" | "autoscaling/v2beta2" => &["HorizontalPodAutoscaler"],
        "batch/v1" => &["CronJob", "Job"],
        "batch/v1beta1" => &["CronJob"],
        "coordination.k8s.io/v1" | "coordination.k8s.io/v1beta1" => &["Lease"],
        "discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1" => &["EndpointSlice"],
        "events.k8s.io/v1" | "events.k8s.io/v1beta1" => &["Event"],
        "extensions/v1beta1" => &["Ingress"],
        "networking.k8s.io/v1" => &["Ingress", "NetworkPolicy"],
        "networking.k8s.io/v1beta1" => &["Ingress"],
        "policy/v1" | "policy/v1beta1" => &["PodDisruptionBudget"],
        "rbac.authorization.k8s.io/v1" | "rbac.authorization.k8s.io/v1beta1" => &["Role", "RoleBinding"],
        "storage.k8s.io/v1beta1" => &["CSIStorageCapacity"],
        _ => &[],
    };
    kinds.contains(&kind) || cluster_scoped(api, kind)
}
