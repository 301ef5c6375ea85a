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
