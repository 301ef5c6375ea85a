//! Is an object in the cluster that nobody declares an orphan, and whose does it seem to be: by its metadata alone.
//!
//! What is never an orphan, whoever made it:
//!
//! | objects | why |
//! |---|---|
//! | with an owner reference | made by a controller for another object, which is judged itself |
//! | in `kube-system`, `kube-public`, `kube-node-lease`, and these namespaces | the cluster's own; a distribution keeps its parts there |
//! | in the agent's namespace, of the agent's chart, `Pause` and `Unit` | the agent's records and its installation, and what people say to it |
//! | Events, Leases, Endpoints, EndpointSlices, Nodes, CSINodes, ComponentStatuses, ... | records that controllers keep |
//! | namespace `default`, ServiceAccount `default`, ConfigMap `kube-root-ca.crt`, Service `default/kubernetes` | every cluster, or every namespace, has them |
//! | named `system:*` or labelled `kubernetes.io/bootstrapping`; ClusterRoles `admin`, `edit`, `view`, `cluster-admin` | made by the API server |
//! | APIServices kept by the API server, flow control marked as such, PriorityClasses `system-*` | made by the API server |
//! | tokens of service accounts | made by the API server for their account |
//! | PersistentVolumes that were provisioned for a claim | the claim is judged |

use std::collections::BTreeMap;

use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Kinds of records that nobody declares: `(group, kind)`.
const RECORDS: [(&str, &str); 22] = [
    ("", "Event"),
    ("events.k8s.io", "Event"),
    ("coordination.k8s.io", "Lease"),
    ("coordination.k8s.io", "LeaseCandidate"),
    ("", "Endpoints"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("", "Node"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("", "ComponentStatus"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("apiserverinternal.k8s.io", "StorageVersion"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("networking.k8s.io", "IPAddress"),
    ("resource.k8s.io", "ResourceSlice"),
    ("metrics.k8s.io", "NodeMetrics"),
    ("metrics.k8s.io", "PodMetrics"),
    ("snapshot.storage.k8s.io", "VolumeSnapshotContent"),
    ("wgpolicyk8s.io", "PolicyReport"),
    ("wgpolicyk8s.io", "ClusterPolicyReport"),
    ("cilium.io", "CiliumIdentity"),
];

/// Namespaces that belong to the cluster.
const OF_THE_CLUSTER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether a kind needs not even be listed.
#[must_use]
pub fn is_record(group: &str, kind: &str) -> bool {
    RECORDS.contains(&(group, kind))
}

/// The metadata that is looked at; everything else of an object is skipped while reading.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was made, as the API server writes it.
    pub creation_timestamp: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations: those that name an owner.
    pub annotations: Annotations,
    owner_references: Vec<IgnoredAny>,
    managed_fields: Vec<Manager>,
}

/// Annotations that say whose an object is. Others may be long, or quote a Secret, and are not kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "meta.helm.sh/release-name")]
    helm_name: Option<String>,
    #[serde(rename = "meta.helm.sh/release-namespace")]
    helm_namespace: Option<String>,
    #[serde(rename = "argocd.argoproj.io/tracking-id")]
    argo: Option<String>,
    #[serde(rename = "kubernetes.io/service-account.name")]
    token_of: Option<String>,
    #[serde(rename = "pv.kubernetes.io/provisioned-by")]
    provisioned_by: Option<String>,
    #[serde(rename = "apf.kubernetes.io/autoupdate-spec")]
    flow_control: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manager {
    manager: String,
    time: Option<String>,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Made for another object.
    Child,
    /// Of the cluster, or of Driftless itself: why.
    System(&'static str),
    /// Nobody declares it, so far as its metadata tells.
    Orphan,
}

/// Judges an object by its kind and metadata. `agent_namespace`: where the agent lives.
#[must_use]
pub fn judge(key: &ObjectKey, meta: &Meta, agent_namespace: &str) -> Standing {
    if is_record(&key.group, &key.kind) {
        return Standing::System("a record that controllers keep");
    }
    if !meta.owner_references.is_empty() {
        return Standing::Child;
    }
    match system(key, meta, agent_namespace) {
        Some(why) => Standing::System(why),
        None => Standing::Orphan,
    }
}

fn system(key: &ObjectKey, meta: &Meta, agent_namespace: &str) -> Option<&'static str> {
    let (kind, name) = (key.kind.as_str(), key.name.as_str());
    let core = key.group.is_empty();
    let place = if core && kind == "Namespace" { name } else { key.namespace.as_str() };
    if OF_THE_CLUSTER.contains(&place) {
        return Some("in a namespace of the cluster itself");
    }
    if place == agent_namespace
        || key.group == marks::DOMAIN
        || meta.labels.get("app.kubernetes.io/name").is_some_and(|n| n == "driftless-agent")
    {
        return Some("of the agent itself");
    }
    let everywhere = match (core, kind, name) {
        (true, "Namespace", "default")
        | (true, "ServiceAccount", "default")
        | (true, "ConfigMap", "kube-root-ca.crt") => true,
        (true, "Service", "kubernetes") => key.namespace == "default",
        (false, "ServiceCIDR", "kubernetes") => true,
        _ => false,
    };
    if everywhere {
        return Some("every cluster, or every namespace, has it");
    }
    let labelled = |label: &str| meta.labels.contains_key(label);
    let by_server = name.starts_with("system:")
        || labelled("kubernetes.io/bootstrapping")
        || (kind == "ClusterRole" && matches!(name, "admin" | "edit" | "view" | "cluster-admin"))
        || (kind == "ClusterRoleBinding" && name == "cluster-admin")
        || (kind == "APIService" && labelled("kube-aggregator.kubernetes.io/automanaged"))
        || (kind == "PriorityClass" && name.starts_with("system-"))
        || (key.group == "flowcontrol.apiserver.k8s.io" && meta.annotations.flow_control.is_some());
    if by_server {
        return Some("made by the API server");
    }
    if core && kind == "Secret" && meta.annotations.token_of.is_some() {
        return Some("the token of a service account");
    }
    if core && kind == "PersistentVolume" && meta.annotations.provisioned_by.is_some() {
        return Some("provisioned for a claim");
    }
    None
}

/// Who seems to own it, by its labels and annotations.
#[must_use]
pub fn owner(meta: &Meta) -> Option<String> {
    let label = |name: &str| meta.labels.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let in_namespace = |name: &str, namespace: Option<&str>| match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    if label(marks::UNIT_LABEL).is_some() {
        let of = label(marks::FLUX_OWNER_NAME).map(|name| in_namespace(name, label(marks::FLUX_OWNER_NAMESPACE)));
        return Some(format!("Driftless unit {}, which does not declare it any more", of.unwrap_or_default()));
    }
    let flux = [("kustomize.toolkit.fluxcd.io", "Flux Kustomization"), ("helm.toolkit.fluxcd.io", "Flux HelmRelease")];
    for (group, what) in flux {
        if let Some(name) = label(&format!("{group}/name")) {
            return Some(format!("{what} {}", in_namespace(name, label(&format!("{group}/namespace")))));
        }
    }
    if let Some(name) = &meta.annotations.helm_name {
        return Some(format!("Helm release {}", in_namespace(name, meta.annotations.helm_namespace.as_deref())));
    }
    if label("owner") == Some("helm") {
        return Some(format!("Helm release {}/{} (its record)", meta.namespace, label("name").unwrap_or_default()));
    }
    if let Some(id) = &meta.annotations.argo {
        return Some(format!("Argo CD application {}", id.split(':').next().unwrap_or_default()));
    }
    for (name, what) in [
        ("argocd.argoproj.io/instance", "Argo CD application"),
        ("objectset.rio.cattle.io/hash", "Rancher (Fleet) bundle"),
        ("olm.owner", "Operator Lifecycle Manager:"),
    ] {
        if let Some(value) = label(name) {
            return Some(format!("{what} {value}"));
        }
    }
    label("app.kubernetes.io/managed-by").map(str::to_owned)
}

/// The manager that wrote it first, as it calls itself.
#[must_use]
pub fn first_manager(meta: &Meta) -> Option<String> {
    let first = meta.managed_fields.iter().min_by(|a, b| a.time.cmp(&b.time))?;
    Some(first.manager.clone()).filter(|m| !m.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(group: &str, kind: &str, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    fn meta(value: Value) -> Meta {
        serde_json::from_value(value).expect("metadata")
    }

    #[test]
    fn what_every_cluster_has_is_no_orphan() {
        let none = || json!({});
        for (group, kind, namespace, name, more, system) in [
            ("", "ConfigMap", "shop", "kube-root-ca.crt", none(), true),
            ("", "ConfigMap", "shop", "settings", none(), false),
            ("", "ServiceAccount", "shop", "default", none(), true),
            ("", "ServiceAccount", "shop", "robot", none(), false),
            ("", "Service", "default", "kubernetes", none(), true),
            ("", "Service", "shop", "kubernetes", none(), false),
            ("", "Namespace", "", "default", none(), true),
            ("", "Namespace", "", "kube-system", none(), true),
            ("", "Namespace", "", "shop", none(), false),
            ("", "ConfigMap", "kube-system", "coredns", none(), true),
            ("", "ConfigMap", "driftless-system", "driftless-head", none(), true),
            (
                "rbac.authorization.k8s.io",
                "ClusterRole",
                "",
                "driftless-agent-impersonate",
                json!({"labels": {"app.kubernetes.io/name": "driftless-agent"}}),
                true,
            ),
            ("driftless.dev", "Pause", "shop", "incident", none(), true),
            ("", "Event", "shop", "web.1", none(), true),
            ("coordination.k8s.io", "Lease", "shop", "web", none(), true),
            ("discovery.k8s.io", "EndpointSlice", "shop", "web", none(), true),
            ("", "Node", "", "node-0", none(), true),
            ("rbac.authorization.k8s.io", "ClusterRole", "", "system:node", none(), true),
            ("rbac.authorization.k8s.io", "ClusterRole", "", "view", none(), true),
            ("rbac.authorization.k8s.io", "ClusterRole", "", "shop", none(), false),
            ("rbac.authorization.k8s.io", "ClusterRoleBinding", "", "cluster-admin", none(), true),
            ("scheduling.k8s.io", "PriorityClass", "", "system-node-critical", none(), true),
            ("", "Secret", "shop", "token", json!({"annotations": {"kubernetes.io/service-account.name": "x"}}), true),
            ("", "PersistentVolume", "", "pv", json!({"annotations": {"pv.kubernetes.io/provisioned-by": "x"}}), true),
            ("", "PersistentVolume", "", "pv", none(), false),
            (
                "apiregistration.k8s.io",
                "APIService",
                "",
                "v1.apps",
                json!({"labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}}),
                true,
            ),
            (
                "flowcontrol.apiserver.k8s.io",
                "FlowSchema",
                "",
                "probes",
                json!({"annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}),
                true,
            ),
        ] {
            let key = key(group, kind, namespace, name);
            let standing = judge(&key, &meta(more), "driftless-system");
            assert_eq!(matches!(standing, Standing::System(_)), system, "{key}: {standing:?}");
        }
    }

    #[test]
    fn what_a_controller_made_belongs_to_its_owner() {
        let child = meta(json!({"ownerReferences": [{"kind": "ReplicaSet", "name": "web", "uid": "1"}]}));
        assert_eq!(judge(&key("", "Pod", "shop", "web-1"), &child, "x"), Standing::Child);
    }

    #[test]
    fn owners_are_told_by_their_marks() {
        for (value, want) in [
            (json!({}), None),
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
                Some("Flux Kustomization flux-system/apps"),
            ),
            (
                json!({"labels": {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"},
                    "annotations": {"meta.helm.sh/release-name": "web"}}),
                Some("Flux HelmRelease shop/web"),
            ),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"}}),
                Some("Helm release shop/web"),
            ),
            (
                json!({"namespace": "shop", "labels": {"owner": "helm", "name": "web"}}),
                Some("Helm release shop/web (its record)"),
            ),
            (
                json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}}),
                Some("Argo CD application shop"),
            ),
            (json!({"labels": {"app.kubernetes.io/managed-by": "eksctl"}}), Some("eksctl")),
            (
                json!({"labels": {"driftless.dev/unit": "0", "kustomize.toolkit.fluxcd.io/name": "apps"}}),
                Some("Driftless unit apps, which does not declare it any more"),
            ),
        ] {
            assert_eq!(owner(&meta(value.clone())).as_deref(), want, "{value}");
        }
    }

    #[test]
    fn the_first_manager_is_the_oldest_entry() {
        let value = json!({"managedFields": [
            {"manager": "kubectl", "time": "2026-02-01T00:00:00Z", "fieldsV1": {"f:data": {}}},
            {"manager": "helm", "time": "2026-01-01T00:00:00Z"}]});
        assert_eq!(first_manager(&meta(value)).as_deref(), Some("helm"));
    }
}
