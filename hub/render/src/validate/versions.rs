//! When API versions of Kubernetes go: deprecated and removed in which minor version, and what took their place.
//!
//! The numbers are those that the types of `k8s.io/api` v0.36 carry themselves, and the deprecation guide of Kubernetes
//! for versions that have no types any more.

/// One API version of some kinds.
struct Row {
    api_version: &'static str,
    /// Empty for all kinds of the version.
    kinds: &'static [&'static str],
    /// Minor versions of Kubernetes 1.
    deprecated: u32,
    removed: u32,
    replacement: &'static str,
}

const fn row(
    api_version: &'static str,
    kinds: &'static [&'static str],
    deprecated: u32,
    removed: u32,
    replacement: &'static str,
) -> Row {
    Row { api_version, kinds, deprecated, removed, replacement }
}

const POD_SECURITY: &str = "the namespace label pod-security.kubernetes.io/enforce";
const ADMISSION: &[&str] = &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
const MUTATION: &[&str] = &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];

const ROWS: &[Row] = &[
    row("admissionregistration.k8s.io/v1alpha1", MUTATION, 35, 38, "admissionregistration.k8s.io/v1"),
    row("admissionregistration.k8s.io/v1alpha1", ADMISSION, 29, 32, "admissionregistration.k8s.io/v1"),
    row("admissionregistration.k8s.io/v1beta1", MUTATION, 37, 40, "admissionregistration.k8s.io/v1"),
    row("admissionregistration.k8s.io/v1beta1", ADMISSION, 31, 34, "admissionregistration.k8s.io/v1"),
    row(
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    row("apiextensions.k8s.io/v1beta1", &[], 16, 22, "apiextensions.k8s.io/v1"),
    row("apiregistration.k8s.io/v1beta1", &[], 19, 22, "apiregistration.k8s.io/v1"),
    row("apps/v1beta1", &[], 8, 16, "apps/v1"),
    row("apps/v1beta2", &[], 9, 16, "apps/v1"),
    row("authentication.k8s.io/v1beta1", &[], 19, 22, "authentication.k8s.io/v1"),
    row("authorization.k8s.io/v1beta1", &[], 19, 22, "authorization.k8s.io/v1"),
    row("autoscaling/v2beta1", &[], 22, 25, "autoscaling/v2"),
    row("autoscaling/v2beta2", &[], 23, 26, "autoscaling/v2"),
    row("batch/v1beta1", &["CronJob"], 21, 25, "batch/v1"),
    row("batch/v2alpha1", &["CronJob"], 20, 21, "batch/v1"),
    row("certificates.k8s.io/v1alpha1", &["ClusterTrustBundle"], 34, 37, "certificates.k8s.io/v1beta1"),
    row("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], 19, 22, "certificates.k8s.io/v1"),
    row("coordination.k8s.io/v1beta1", &["Lease"], 19, 22, "coordination.k8s.io/v1"),
    row("discovery.k8s.io/v1beta1", &["EndpointSlice"], 21, 25, "discovery.k8s.io/v1"),
    row("events.k8s.io/v1beta1", &["Event"], 22, 25, "events.k8s.io/v1"),
    row("extensions/v1beta1", &["DaemonSet", "Deployment", "ReplicaSet"], 8, 16, "apps/v1"),
    row("extensions/v1beta1", &["NetworkPolicy"], 9, 16, "networking.k8s.io/v1"),
    row("extensions/v1beta1", &["Ingress"], 14, 22, "networking.k8s.io/v1"),
    row("extensions/v1beta1", &["PodSecurityPolicy"], 11, 16, POD_SECURITY),
    row("flowcontrol.apiserver.k8s.io/v1beta1", &[], 23, 26, "flowcontrol.apiserver.k8s.io/v1"),
    row("flowcontrol.apiserver.k8s.io/v1beta2", &[], 26, 29, "flowcontrol.apiserver.k8s.io/v1"),
    row("flowcontrol.apiserver.k8s.io/v1beta3", &[], 29, 32, "flowcontrol.apiserver.k8s.io/v1"),
    row("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], 19, 22, "networking.k8s.io/v1"),
    row("networking.k8s.io/v1beta1", &["IPAddress", "ServiceCIDR"], 34, 37, "networking.k8s.io/v1"),
    row("node.k8s.io/v1beta1", &["RuntimeClass"], 22, 25, "node.k8s.io/v1"),
    row("policy/v1beta1", &["PodDisruptionBudget"], 21, 25, "policy/v1"),
    row("policy/v1beta1", &["PodSecurityPolicy"], 21, 25, POD_SECURITY),
    row("rbac.authorization.k8s.io/v1alpha1", &[], 17, 22, "rbac.authorization.k8s.io/v1"),
    row("rbac.authorization.k8s.io/v1beta1", &[], 17, 22, "rbac.authorization.k8s.io/v1"),
    row("resource.k8s.io/v1beta1", &[], 35, 38, "resource.k8s.io/v1"),
    row("resource.k8s.io/v1beta2", &[], 36, 39, "resource.k8s.io/v1"),
    row("scheduling.k8s.io/v1alpha1", &["PriorityClass"], 14, 17, "scheduling.k8s.io/v1"),
    row("scheduling.k8s.io/v1beta1", &["PriorityClass"], 14, 22, "scheduling.k8s.io/v1"),
    row("storage.k8s.io/v1alpha1", &["CSIStorageCapacity"], 21, 24, "storage.k8s.io/v1"),
    row("storage.k8s.io/v1alpha1", &["VolumeAttachment"], 21, 24, "storage.k8s.io/v1"),
    row("storage.k8s.io/v1alpha1", &["VolumeAttributesClass"], 32, 35, "storage.k8s.io/v1"),
    row("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 24, 27, "storage.k8s.io/v1"),
    row(
        "storage.k8s.io/v1beta1",
        &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"],
        19,
        22,
        "storage.k8s.io/v1",
    ),
    row("storage.k8s.io/v1beta1", &["VolumeAttributesClass"], 34, 37, "storage.k8s.io/v1"),
];

/// Where an API version of a kind stands for a minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Not served any more, since this minor version; use that instead.
    Removed(u32, &'static str),
    /// Deprecated; not served from this minor version on; use that instead.
    Deprecated(u32, &'static str),
}

/// What is known of the end of an API version; `None` when nothing is.
#[must_use]
pub fn lifecycle(api_version: &str, kind: &str, minor: u32) -> Option<Lifecycle> {
    let row = ROWS.iter().find(|r| r.api_version == api_version && (r.kinds.is_empty() || r.kinds.contains(&kind)))?;
    if minor >= row.removed {
        return Some(Lifecycle::Removed(row.removed, row.replacement));
    }
    (minor >= row.deprecated).then_some(Lifecycle::Deprecated(row.removed, row.replacement))
}

/// The minor version in `v1.36.3` or `1.36`. `None` for anything else.
#[must_use]
pub fn minor(version: &str) -> Option<u32> {
    let mut parts = version.trim_start_matches('v').split('.');
    (parts.next()? == "1").then_some(())?;
    let digits: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_ends_when_its_table_says() {
        for (api_version, kind, minor, expected) in [
            ("batch/v1", "CronJob", 36, None),
            ("batch/v1beta1", "CronJob", 20, None),
            ("batch/v1beta1", "CronJob", 21, Some(Lifecycle::Deprecated(25, "batch/v1"))),
            ("batch/v1beta1", "CronJob", 25, Some(Lifecycle::Removed(25, "batch/v1"))),
            ("extensions/v1beta1", "Ingress", 36, Some(Lifecycle::Removed(22, "networking.k8s.io/v1"))),
            ("networking.k8s.io/v1beta1", "ServiceCIDR", 36, Some(Lifecycle::Deprecated(37, "networking.k8s.io/v1"))),
            (
                "rbac.authorization.k8s.io/v1beta1",
                "Role",
                36,
                Some(Lifecycle::Removed(22, "rbac.authorization.k8s.io/v1")),
            ),
        ] {
            assert_eq!(lifecycle(api_version, kind, minor), expected, "{api_version} {kind} in 1.{minor}");
        }
    }

    #[test]
    fn versions_are_read_as_people_write_them() {
        for (text, expected) in
            [("v1.36.3", Some(36)), ("1.35", Some(35)), ("1.36+", Some(36)), ("2.1", None), ("", None)]
        {
            assert_eq!(minor(text), expected, "{text}");
        }
    }
}
