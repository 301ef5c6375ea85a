//! Which changes the API server will refuse, as far as that can be known without one.
//!
//! The rules are those of Kubernetes' own validation of updates (its API reference and `pkg/apis/*/validation`, 1.36).
//! Rules that custom resources bring with their definitions are not known here.

use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::path::FieldPath;

/// A field that must not change, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: FieldPath,
    pub(crate) why: String,
}

/// A field that never changes, with what the API server puts where nothing is written.
struct Fixed {
    group: &'static str,
    kind: &'static str,
    path: &'static [&'static str],
    default: Option<&'static str>,
}

const fn fixed(group: &'static str, kind: &'static str, path: &'static [&'static str]) -> Fixed {
    Fixed { group, kind, path, default: None }
}

const fn with_default(
    group: &'static str,
    kind: &'static str,
    path: &'static [&'static str],
    default: &'static str,
) -> Fixed {
    Fixed { group, kind, path, default: Some(default) }
}

const FIXED: &[Fixed] = &[
    fixed("apps", "Deployment", &["spec", "selector"]),
    fixed("apps", "DaemonSet", &["spec", "selector"]),
    fixed("apps", "ReplicaSet", &["spec", "selector"]),
    fixed("batch", "Job", &["spec", "selector"]),
    fixed("batch", "Job", &["spec", "template"]),
    with_default("batch", "Job", &["spec", "completionMode"], "NonIndexed"),
    fixed("batch", "Job", &["spec", "podFailurePolicy"]),
    fixed("batch", "Job", &["spec", "successPolicy"]),
    fixed("batch", "Job", &["spec", "backoffLimitPerIndex"]),
    fixed("batch", "Job", &["spec", "managedBy"]),
    fixed("rbac.authorization.k8s.io", "RoleBinding", &["roleRef"]),
    fixed("rbac.authorization.k8s.io", "ClusterRoleBinding", &["roleRef"]),
    fixed("storage.k8s.io", "StorageClass", &["provisioner"]),
    fixed("storage.k8s.io", "StorageClass", &["parameters"]),
    with_default("storage.k8s.io", "StorageClass", &["reclaimPolicy"], "Delete"),
    with_default("storage.k8s.io", "StorageClass", &["volumeBindingMode"], "Immediate"),
    fixed("storage.k8s.io", "VolumeAttributesClass", &["driverName"]),
    fixed("storage.k8s.io", "VolumeAttributesClass", &["parameters"]),
    fixed("storage.k8s.io", "CSIDriver", &["spec", "attachRequired"]),
    fixed("storage.k8s.io", "CSIDriver", &["spec", "volumeLifecycleModes"]),
    fixed("networking.k8s.io", "IngressClass", &["spec", "controller"]),
    fixed("scheduling.k8s.io", "PriorityClass", &["value"]),
    with_default("scheduling.k8s.io", "PriorityClass", &["preemptionPolicy"], "PreemptLowerPriority"),
    fixed("node.k8s.io", "RuntimeClass", &["handler"]),
    fixed("discovery.k8s.io", "EndpointSlice", &["addressType"]),
    fixed("", "ResourceQuota", &["spec", "scopes"]),
    with_default("", "Secret", &["type"], "Opaque"),
    with_default("", "PersistentVolume", &["spec", "volumeMode"], "Filesystem"),
    fixed("apiextensions.k8s.io", "CustomResourceDefinition", &["spec", "scope"]),
    fixed("apiextensions.k8s.io", "CustomResourceDefinition", &["spec", "names", "kind"]),
    fixed("certificates.k8s.io", "CertificateSigningRequest", &["spec"]),
];

/// A part of an object of which only some fields may change.
struct AllBut {
    group: &'static str,
    kind: &'static str,
    path: &'static [&'static str],
    mutable: &'static [&'static str],
    defaults: &'static [(&'static str, &'static str)],
}

const ALL_BUT: &[AllBut] = &[
    AllBut {
        group: "apps",
        kind: "StatefulSet",
        path: &["spec"],
        mutable: &[
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ],
        defaults: &[("podManagementPolicy", "OrderedReady")],
    },
    AllBut {
        group: "",
        kind: "PersistentVolumeClaim",
        path: &["spec"],
        mutable: &["resources", "volumeAttributesClassName"],
        defaults: &[("volumeMode", "Filesystem")],
    },
    AllBut {
        group: "",
        kind: "PersistentVolume",
        path: &["spec"],
        mutable: &[
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ],
        defaults: &[],
    },
    AllBut {
        group: "",
        kind: "Pod",
        path: &["spec"],
        mutable: &[
            "activeDeadlineSeconds",
            "containers",
            "initContainers",
            "terminationGracePeriodSeconds",
            "tolerations",
        ],
        defaults: &[("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst")],
    },
];

/// Every change between two objects of one key that the API server will refuse.
pub(crate) fn findings(key: &ObjectKey, old: &Value, new: &Value) -> Vec<Finding> {
    let mut out = Vec::new();
    let is = |group: &str, kind: &str| key.group == group && key.kind == kind;
    for rule in FIXED.iter().filter(|rule| is(rule.group, rule.kind)) {
        if effective(old, rule.path, rule.default) != effective(new, rule.path, rule.default) {
            push(&mut out, rule.path, format!("{} of a {} cannot be changed", rule.path.join("."), key.kind));
        }
    }
    for rule in ALL_BUT.iter().filter(|rule| is(rule.group, rule.kind)) {
        all_but(key, rule, old, new, &mut out);
    }
    match (key.group.as_str(), key.kind.as_str()) {
        ("", "ConfigMap" | "Secret") => frozen(key, old, new, &mut out),
        ("", "Service") => service(old, new, &mut out),
        ("", "PersistentVolumeClaim") => shrinking(old, new, &mut out),
        ("", "Pod") => containers(old, new, &mut out),
        ("batch", "Job") => completions(old, new, &mut out),
        _ => {}
    }
    out
}

fn push(out: &mut Vec<Finding>, path: &[&str], why: impl Into<String>) {
    out.push(Finding { path: FieldPath::of(path), why: why.into() });
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, field| value.get(field)).filter(|v| !v.is_null())
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

fn effective(value: &Value, path: &[&str], default: Option<&str>) -> Option<Value> {
    at(value, path).cloned().or_else(|| default.map(Value::from))
}

fn all_but(key: &ObjectKey, rule: &AllBut, old: &Value, new: &Value, out: &mut Vec<Finding>) {
    let empty = serde_json::Map::new();
    let fields = |value| at(value, rule.path).and_then(Value::as_object).unwrap_or(&empty);
    let (old, new) = (fields(old), fields(new));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names.into_iter().filter(|name| !rule.mutable.contains(&name.as_str())) {
        let default = rule.defaults.iter().find(|(of, _)| of == name).map(|(_, default)| *default);
        let value = |map: &serde_json::Map<String, Value>| {
            map.get(name).filter(|v| !v.is_null()).cloned().or_else(|| default.map(Value::from))
        };
        let (before, after) = (value(old), value(new));
        if before == after {
            continue;
        }
        let mut path = rule.path.to_vec();
        path.push(name);
        // What is not written any more and was filled in by the server stays as it is; only these two are always filled.
        let assigned =
            key.kind == "PersistentVolumeClaim" && matches!(name.as_str(), "storageClassName" | "volumeName");
        if assigned && after.is_none() {
            continue;
        }
        let mut why = format!("{} of a {} cannot be changed", path.join("."), key.kind);
        if assigned && before.is_none() {
            why.push_str("; refused unless the server filled in this very value");
        }
        push(out, &path, why);
    }
}

/// ConfigMaps and Secrets marked `immutable`.
fn frozen(key: &ObjectKey, old: &Value, new: &Value, out: &mut Vec<Finding>) {
    if at(old, &["immutable"]) != Some(&Value::Bool(true)) {
        return;
    }
    if at(new, &["immutable"]) != Some(&Value::Bool(true)) {
        push(out, &["immutable"], format!("a {} that is immutable stays so", key.kind));
    }
    for field in ["data", "binaryData", "stringData"] {
        if at(old, &[field]) != at(new, &[field]) {
            push(out, &[field], format!("the {} is immutable; give the new content another name", key.kind));
        }
    }
}

fn service(old: &Value, new: &Value, out: &mut Vec<Finding>) {
    let external = |service| text(service, &["spec", "type"]) == "ExternalName";
    if external(old) || external(new) {
        return; // the address is given or taken with the type
    }
    let (before, after) = (text(old, &["spec", "clusterIP"]), text(new, &["spec", "clusterIP"]));
    // Not written any more: the server keeps what it has.
    if before != after && !after.is_empty() {
        let why = if before.is_empty() {
            "the server gave the Service an address when it was created, and it cannot be changed"
        } else {
            "spec.clusterIP of a Service cannot be changed"
        };
        push(out, &["spec", "clusterIP"], why);
    }
    let families = |service| at(service, &["spec", "ipFamilies"]).and_then(|f| f.get(0)).cloned();
    if let (Some(before), Some(after)) = (families(old), families(new))
        && before != after
    {
        push(out, &["spec", "ipFamilies"], "the first IP family of a Service cannot be changed");
    }
}

/// A claim may ask for more, never for less.
fn shrinking(old: &Value, new: &Value, out: &mut Vec<Finding>) {
    let path = ["spec", "resources", "requests", "storage"];
    let size = |claim| at(claim, &path).and_then(|v| bytes(&v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
    if let (Some(before), Some(after)) = (size(old), size(new))
        && after < before
    {
        push(out, &path, "a PersistentVolumeClaim cannot ask for less storage than it has");
    }
}

/// A quantity, as far as sizes are written.
fn bytes(quantity: &str) -> Option<f64> {
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(digits);
    let scale = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        _ => return None,
    };
    number.parse::<f64>().ok().map(|n| n * scale)
}

/// Of a Pod's containers only the images change.
fn containers(old: &Value, new: &Value, out: &mut Vec<Finding>) {
    for list in ["containers", "initContainers"] {
        let without_images = |pod| {
            let mut items = at(pod, &["spec", list]).cloned().unwrap_or_default();
            for item in items.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                item.remove("image");
            }
            items
        };
        if without_images(old) != without_images(new) {
            push(out, &["spec", list], format!("only images of a Pod's {list} can be changed"));
        }
    }
}

/// Completions change only with parallelism, and only of an indexed Job.
fn completions(old: &Value, new: &Value, out: &mut Vec<Finding>) {
    let get = |job, field| at(job, &["spec", field]).cloned();
    if get(old, "completions") == get(new, "completions") {
        return;
    }
    let indexed = text(new, &["spec", "completionMode"]) == "Indexed";
    if !(indexed && get(new, "completions") == get(new, "parallelism")) {
        push(
            out,
            &["spec", "completions"],
            "spec.completions of a Job changes only together with parallelism, and of an Indexed Job",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Paths found, for the bodies of two objects of a kind.
    fn found(api: &str, kind: &str, old: &Value, new: &Value) -> Vec<String> {
        let object = |body: &Value| {
            let mut all = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
            all.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            all
        };
        let (old, new) = (object(old), object(new));
        findings(&ObjectKey::of(&new).unwrap(), &old, &new).into_iter().map(|f| f.path.to_string()).collect()
    }

    #[test]
    fn each_rule_finds_its_change_and_nothing_else() {
        let sel = |app: &str| json!({"spec": {"selector": {"matchLabels": {"app": app}}, "replicas": 1}});
        let rbac = "rbac.authorization.k8s.io/v1";
        let pvc = |spec: Value| json!({"spec": spec});
        let none: &[&str] = &[];
        let cases: &[(&str, &str, Value, Value, &[&str])] = &[
            ("apps/v1", "Deployment", sel("a"), sel("b"), &["spec.selector"]),
            (
                "apps/v1",
                "Deployment",
                sel("a"),
                json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "replicas": 3}}),
                none,
            ),
            ("apps/v1", "DaemonSet", sel("a"), sel("b"), &["spec.selector"]),
            ("v1", "ReplicationController", sel("a"), sel("b"), none),
            ("apps/v1", "StatefulSet", sel("a"), sel("b"), &["spec.selector"]),
            (
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"serviceName": "a", "replicas": 1, "template": 1}}),
                json!({"spec": {"serviceName": "a", "replicas": 2, "template": 2, "minReadySeconds": 3, "podManagementPolicy": "OrderedReady"}}),
                none,
            ),
            (
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"volumeClaimTemplates": [1]}}),
                json!({"spec": {"volumeClaimTemplates": [2], "serviceName": "s"}}),
                &["spec.serviceName", "spec.volumeClaimTemplates"],
            ),
            (
                "batch/v1",
                "Job",
                json!({"spec": {"template": 1, "suspend": true, "completionMode": "NonIndexed"}}),
                json!({"spec": {"template": 2, "parallelism": 3}}),
                &["spec.template"],
            ),
            (
                "batch/v1",
                "Job",
                json!({"spec": {"completions": 1, "completionMode": "Indexed", "parallelism": 1}}),
                json!({"spec": {"completions": 2, "completionMode": "Indexed", "parallelism": 2}}),
                none,
            ),
            (
                "batch/v1",
                "Job",
                json!({"spec": {"completions": 1}}),
                json!({"spec": {"completions": 2}}),
                &["spec.completions"],
            ),
            ("batch/v1", "CronJob", json!({"spec": {"jobTemplate": 1}}), json!({"spec": {"jobTemplate": 2}}), none),
            (
                rbac,
                "RoleBinding",
                json!({"roleRef": {"name": "a"}, "subjects": []}),
                json!({"roleRef": {"name": "b"}, "subjects": [1]}),
                &["roleRef"],
            ),
            (
                rbac,
                "ClusterRoleBinding",
                json!({"roleRef": {"name": "a"}}),
                json!({"roleRef": {"name": "b"}}),
                &["roleRef"],
            ),
            (
                "storage.k8s.io/v1",
                "StorageClass",
                json!({"provisioner": "a", "parameters": {"x": "1"}}),
                json!({"provisioner": "b", "parameters": {"x": "2"}, "reclaimPolicy": "Retain", "allowVolumeExpansion": true}),
                &["provisioner", "parameters", "reclaimPolicy"],
            ),
            (
                "storage.k8s.io/v1",
                "StorageClass",
                json!({}),
                json!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
                none,
            ),
            ("v1", "ConfigMap", json!({"data": {"a": "1"}}), json!({"data": {"a": "2"}, "immutable": true}), none),
            (
                "v1",
                "ConfigMap",
                json!({"data": {"a": "1"}, "immutable": true}),
                json!({"data": {"a": "2"}, "immutable": true}),
                &["data"],
            ),
            (
                "v1",
                "Secret",
                json!({"stringData": {"a": "1"}, "immutable": true}),
                json!({"stringData": {"a": "1"}}),
                &["immutable"],
            ),
            ("v1", "Secret", json!({}), json!({"type": "Opaque"}), none),
            ("v1", "Secret", json!({"type": "kubernetes.io/tls"}), json!({}), &["type"]),
            (
                "v1",
                "Service",
                json!({"spec": {"clusterIP": "10.0.0.1"}}),
                json!({"spec": {"clusterIP": "10.0.0.2"}}),
                &["spec.clusterIP"],
            ),
            ("v1", "Service", json!({"spec": {}}), json!({"spec": {"clusterIP": "None"}}), &["spec.clusterIP"]),
            ("v1", "Service", json!({"spec": {"clusterIP": "None"}}), json!({"spec": {"ports": []}}), none),
            (
                "v1",
                "Service",
                json!({"spec": {"clusterIP": "10.0.0.1"}}),
                json!({"spec": {"type": "ExternalName"}}),
                none,
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                pvc(json!({"accessModes": ["a"], "resources": {"requests": {"storage": "1Gi"}}})),
                pvc(
                    json!({"accessModes": ["a"], "volumeMode": "Filesystem", "resources": {"requests": {"storage": "2048Mi"}}}),
                ),
                none,
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                pvc(json!({"accessModes": ["a"], "resources": {"requests": {"storage": "2Gi"}}})),
                pvc(json!({"accessModes": ["b"], "resources": {"requests": {"storage": "1Gi"}}})),
                &["spec.accessModes", "spec.resources.requests.storage"],
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                pvc(json!({"storageClassName": "fast"})),
                pvc(json!({"storageClassName": "slow"})),
                &["spec.storageClassName"],
            ),
            ("v1", "PersistentVolumeClaim", pvc(json!({"storageClassName": "fast"})), pvc(json!({})), none),
            (
                "v1",
                "PersistentVolume",
                json!({"spec": {"nfs": {"server": "a"}, "capacity": 1}}),
                json!({"spec": {"nfs": {"server": "b"}, "capacity": 2}}),
                &["spec.nfs"],
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"name": "a", "image": "1"}], "nodeName": "x"}}),
                json!({"spec": {"containers": [{"name": "a", "image": "2"}], "nodeName": "x", "restartPolicy": "Always"}}),
                none,
            ),
            (
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"name": "a"}]}}),
                json!({"spec": {"containers": [{"name": "a", "args": []}], "hostNetwork": true}}),
                &["spec.hostNetwork", "spec.containers"],
            ),
            (
                "networking.k8s.io/v1",
                "IngressClass",
                json!({"spec": {"controller": "a"}}),
                json!({"spec": {"controller": "b"}}),
                &["spec.controller"],
            ),
            (
                "scheduling.k8s.io/v1",
                "PriorityClass",
                json!({"value": 1}),
                json!({"value": 2, "preemptionPolicy": "PreemptLowerPriority"}),
                &["value"],
            ),
            (
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                json!({"spec": {"scope": "Namespaced", "versions": [1]}}),
                json!({"spec": {"scope": "Cluster", "versions": [2]}}),
                &["spec.scope"],
            ),
            ("example.org/v1", "Deployment", sel("a"), sel("b"), none),
        ];
        for (api, kind, old, new, expected) in cases {
            assert_eq!(found(api, kind, old, new), *expected, "{kind}: {old} > {new}");
        }
    }

    #[test]
    fn sizes_compare_across_units() {
        for (less, more) in [("1Gi", "2Gi"), ("1G", "1Gi"), ("900Mi", "1Gi"), ("1000m", "2"), ("1.5Gi", "1600Mi")] {
            assert!(bytes(less) < bytes(more), "{less} {more}");
        }
        assert_eq!(bytes("x"), None);
    }
}
