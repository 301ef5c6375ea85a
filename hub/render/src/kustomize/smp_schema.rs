//! Which lists merge by key under strategic merge, and which fields lead to them.
//!
//! Facts derived from the Kubernetes 1.21.2 OpenAPI document that kustomize 5.8.1 embeds (`x-kubernetes-patch-strategy`,
//! `x-kubernetes-patch-merge-key`, `x-kubernetes-list-map-keys`). Only types that hold, or lead to, a merging list are
//! kept. A kind that is not here has no schema: its lists are replaced whole.

use driftless_yaml::Node;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A type of the document, by a short name.
type TypeName = &'static str;

/// The schemas that a build merges by.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    /// From an `openapi` field.
    custom: Option<Node>,
    /// Set by `openapi` in one way or another: a base no longer can.
    pub(crate) fixed: bool,
    /// Whether the built-in document has been needed before, so that it stays beside a custom one.
    needed: bool,
    /// How often that was.
    needs: u64,
    /// Comparisons that merging lists by key has taken so far.
    compared: Cell<u64>,
}

/// How many comparisons of items a build may take: merging a list by key compares all with all, as the real program does.
const COMPARISONS: u64 = 500_000_000;

/// How a message begins that says that this was too much.
pub(crate) const TOO_LONG: &str = "the lists that merge by key are too long:";

impl Schemas {
    /// Counts the comparisons of one merge before they are made.
    pub(crate) fn compare(&self, comparisons: u64) -> Result<(), String> {
        let all = self.compared.get().saturating_add(comparisons);
        self.compared.set(all);
        match all > COMPARISONS {
            true => Err(format!("{TOO_LONG} this build would compare more than {COMPARISONS} items")),
            false => Ok(()),
        }
    }

    /// Whether so many more comparisons are within the limit.
    pub(crate) fn may_compare(&self, comparisons: u64) -> bool {
        self.compared.get().saturating_add(comparisons) <= COMPARISONS
    }

    /// Counts comparisons that were found to be within the limit.
    pub(crate) fn count(&self, comparisons: u64) {
        self.compared.set(self.compared.get().saturating_add(comparisons));
    }

    /// Notes that something needs the built-in document.
    pub(crate) fn need(&mut self) {
        self.needed |= self.custom.is_none();
        self.needs += 1;
    }

    /// How often [`Schemas::need`] was called, and the comparisons so far.
    pub(crate) fn uses(&self) -> (u64, u64) {
        (self.needs, self.compared.get())
    }

    /// Takes a document from an `openapi` field.
    pub(crate) fn set(&mut self, document: Node) {
        self.custom = Some(document);
        self.fixed = true;
    }

    /// The schema of a whole object, `None` for kinds that no document knows.
    pub(crate) fn of_object(&self, api: &str, kind: &str) -> Option<Schema<'_>> {
        if let Some(custom) = &self.custom {
            if let Some(node) = custom_kind(custom, api, kind) {
                return Some(Schema::Custom { node, document: custom, fall_back: self.needed });
            }
            if !self.needed {
                return None;
            }
        }
        let target = TYPES.kinds.get(&(api, kind)).copied()?;
        Some(Schema::BuiltIn { target, keys: None })
    }
}

/// What is known about the value of a field, or of an item of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schema<'s> {
    /// By the table.
    BuiltIn {
        /// The type of the value, or of the items when it is a list; empty when nothing below it matters.
        target: TypeName,
        /// For a list that merges: by these fields of its items, or by value when there are none.
        keys: Option<&'static [&'static str]>,
    },
    /// By a document of the repository.
    Custom {
        /// The schema.
        node: &'s Node,
        /// The document it refers into.
        document: &'s Node,
        /// Whether what that lacks is looked for in the table.
        fall_back: bool,
    },
}

impl<'s> Schema<'s> {
    /// The schema of a field of this type.
    pub(crate) fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::BuiltIn { target, .. } => {
                let &(target, keys) = TYPES.fields.get(&(target, name))?;
                Some(Self::BuiltIn { target, keys })
            }
            Self::Custom { node, document, fall_back } => {
                let node = node
                    .at(&["properties", name])
                    .or_else(|| node.at(&["additionalProperties"]).filter(|n| n.as_map().is_some()))?;
                resolve(node, document, fall_back)
            }
        }
    }

    /// The schema of an item of this list.
    pub(crate) fn item(self) -> Option<Self> {
        match self {
            Self::BuiltIn { target, .. } => (!target.is_empty()).then_some(Self::BuiltIn { target, keys: None }),
            Self::Custom { node, document, fall_back } => {
                if node.at(&["type"]).and_then(Node::as_str) != Some("array") {
                    return None;
                }
                resolve(node.at(&["items"])?, document, fall_back)
            }
        }
    }

    /// The keys that items of this list merge by, none for merging by value; `None` for a list that is replaced whole.
    pub(crate) fn merge_keys(self) -> Option<Vec<&'s str>> {
        match self {
            Self::BuiltIn { keys, .. } => keys.map(<[&'static str]>::to_vec),
            Self::Custom { node, .. } => {
                let strategy = node.at(&["x-kubernetes-patch-strategy"])?.as_str()?;
                if !strategy.split(',').any(|s| s == "merge") {
                    return None;
                }
                if let Some(Node::Seq(keys)) = node.at(&["x-kubernetes-list-map-keys"]) {
                    return Some(keys.iter().filter_map(Node::as_str).collect());
                }
                let key = node.at(&["x-kubernetes-patch-merge-key"]).and_then(Node::as_str);
                Some(key.into_iter().collect())
            }
        }
    }
}

/// Follows `$ref` into the definitions of the document, a bounded number of times.
fn resolve<'s>(mut node: &'s Node, document: &'s Node, fall_back: bool) -> Option<Schema<'s>> {
    for _ in 0..32 {
        let Some(reference) = node.at(&["$ref"]).and_then(Node::as_str) else {
            return Some(Schema::Custom { node, document, fall_back });
        };
        let name = reference.strip_prefix("#/definitions/")?.replace("~1", "/").replace("~0", "~");
        match document.at(&["definitions", &name]) {
            Some(found) => node = found,
            None if fall_back => return built_in(&name),
            None => return None,
        }
    }
    None
}

/// A type of the table by its full name, `io.k8s.api.core.v1.PodSpec`.
fn built_in<'s>(name: &str) -> Option<Schema<'s>> {
    let short = match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" => "ObjectMeta",
        name => name.rmatch_indices('.').nth(2).map_or(name, |(at, _)| &name[at + 1..]),
    };
    let (target, ..) = FIELDS.iter().find(|(of, ..)| *of == short)?;
    Some(Schema::BuiltIn { target, keys: None })
}

fn custom_kind<'s>(document: &'s Node, api: &str, kind: &str) -> Option<&'s Node> {
    let (group, version) = super::res::split_api(api);
    let names = |entry: &Node| {
        let text = |key: &str| entry.as_map().and_then(|m| m.get(key)).and_then(Node::as_str).unwrap_or_default();
        text("group") == group && text("version") == version && text("kind") == kind
    };
    document.at(&["definitions"])?.as_map()?.iter().map(|e| &e.value).find(|definition| {
        let kinds = definition.at(&["x-kubernetes-group-version-kind"]).and_then(Node::as_seq);
        kinds.is_some_and(|list| list.iter().any(names))
    })
}

/// The keys of a merging list, `None` for one that is replaced.
type MergeKeys = Option<&'static [&'static str]>;

struct Types {
    kinds: HashMap<(&'static str, &'static str), TypeName>,
    fields: HashMap<(TypeName, &'static str), (TypeName, MergeKeys)>,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| Types {
    kinds: KINDS
        .iter()
        .map(|&(api, kind, target)| ((api, kind), target))
        .chain(PLAIN_KINDS.iter().flat_map(|&(api, kinds)| kinds.iter().map(move |&kind| ((api, kind), "Plain"))))
        .collect(),
    fields: FIELDS.iter().map(|&(of, field, target, keys)| ((of, field), (target, keys))).collect(),
});

/// Kinds whose only merging lists are in their metadata.
const PLAIN_KINDS: &[(&str, &[&str])] = &[
    ("apiextensions.k8s.io/v1", &["CustomResourceDefinition"]),
    ("apiextensions.k8s.io/v1beta1", &["CustomResourceDefinition"]),
    ("apps/v1", &["ControllerRevision"]),
    ("authentication.k8s.io/v1", &["TokenRequest", "TokenReview"]),
    ("authentication.k8s.io/v1beta1", &["TokenReview"]),
    (
        "authorization.k8s.io/v1",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    (
        "authorization.k8s.io/v1beta1",
        &["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    ),
    ("autoscaling/v1", &["HorizontalPodAutoscaler", "Scale"]),
    ("autoscaling/v2beta1", &["HorizontalPodAutoscaler"]),
    ("autoscaling/v2beta2", &["HorizontalPodAutoscaler"]),
    ("certificates.k8s.io/v1", &["CertificateSigningRequest"]),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"]),
    ("coordination.k8s.io/v1", &["Lease"]),
    ("coordination.k8s.io/v1beta1", &["Lease"]),
    ("discovery.k8s.io/v1", &["EndpointSlice"]),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"]),
    ("events.k8s.io/v1", &["Event"]),
    ("events.k8s.io/v1beta1", &["Event"]),
    ("extensions/v1beta1", &["Ingress"]),
    ("flowcontrol.apiserver.k8s.io/v1beta1", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io/v1", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"]),
    ("node.k8s.io/v1", &["RuntimeClass"]),
    ("node.k8s.io/v1beta1", &["RuntimeClass"]),
    ("policy/v1beta1", &["Eviction", "PodSecurityPolicy"]),
    ("rbac.authorization.k8s.io/v1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("rbac.authorization.k8s.io/v1beta1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io/v1", &["PriorityClass"]),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"]),
    ("storage.k8s.io/v1", &["CSIDriver", "StorageClass", "VolumeAttachment"]),
    ("storage.k8s.io/v1beta1", &["CSIDriver", "CSIStorageCapacity", "StorageClass", "VolumeAttachment"]),
    (
        "v1",
        &["Binding", "ConfigMap", "Endpoints", "Event", "LimitRange", "PersistentVolume", "ResourceQuota", "Secret"],
    ),
];

/// `apiVersion`, kind, type.
const KINDS: &[(&str, &str, TypeName)] = &[
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "admissionregistration.v1.MutatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "admissionregistration.v1.ValidatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "MutatingWebhookConfiguration",
        "admissionregistration.v1beta1.MutatingWebhookConfiguration",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "ValidatingWebhookConfiguration",
        "admissionregistration.v1beta1.ValidatingWebhookConfiguration",
    ),
    ("apiregistration.k8s.io/v1", "APIService", "apiregistration.v1.APIService"),
    ("apiregistration.k8s.io/v1beta1", "APIService", "apiregistration.v1beta1.APIService"),
    ("apps/v1", "DaemonSet", "apps.v1.DaemonSet"),
    ("apps/v1", "Deployment", "apps.v1.Deployment"),
    ("apps/v1", "ReplicaSet", "apps.v1.ReplicaSet"),
    ("apps/v1", "StatefulSet", "apps.v1.StatefulSet"),
    ("batch/v1", "CronJob", "batch.v1.CronJob"),
    ("batch/v1", "Job", "batch.v1.Job"),
    ("batch/v1beta1", "CronJob", "batch.v1beta1.CronJob"),
    ("kustomize.config.k8s.io/v1beta1", "Kustomization", "apps.v1.Kustomization"),
    ("policy/v1", "PodDisruptionBudget", "policy.v1.PodDisruptionBudget"),
    ("policy/v1beta1", "PodDisruptionBudget", "policy.v1beta1.PodDisruptionBudget"),
    ("storage.k8s.io/v1", "CSINode", "storage.v1.CSINode"),
    ("storage.k8s.io/v1beta1", "CSINode", "storage.v1beta1.CSINode"),
    ("v1", "ComponentStatus", "core.v1.ComponentStatus"),
    ("v1", "Namespace", "core.v1.Namespace"),
    ("v1", "Node", "core.v1.Node"),
    ("v1", "PersistentVolumeClaim", "core.v1.PersistentVolumeClaim"),
    ("v1", "Pod", "core.v1.Pod"),
    ("v1", "PodTemplate", "core.v1.PodTemplate"),
    ("v1", "ReplicationController", "core.v1.ReplicationController"),
    ("v1", "Service", "core.v1.Service"),
    ("v1", "ServiceAccount", "core.v1.ServiceAccount"),
];

/// Type, field, type of the field's value or items, merge keys.
#[rustfmt::skip]
const FIELDS: &[(TypeName, &str, TypeName, Option<&[&str]>)] = &[
    ("Plain", "metadata", "ObjectMeta", None),
    ("ObjectMeta", "finalizers", "", Some(&[])),
    ("ObjectMeta", "ownerReferences", "", Some(&["uid"])),
    ("admissionregistration.v1.MutatingWebhookConfiguration", "metadata", "ObjectMeta", None),
    ("admissionregistration.v1.MutatingWebhookConfiguration", "webhooks", "", Some(&["name"])),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "metadata", "ObjectMeta", None),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "webhooks", "", Some(&["name"])),
    ("admissionregistration.v1beta1.MutatingWebhookConfiguration", "metadata", "ObjectMeta", None),
    ("admissionregistration.v1beta1.MutatingWebhookConfiguration", "webhooks", "", Some(&["name"])),
    ("admissionregistration.v1beta1.ValidatingWebhookConfiguration", "metadata", "ObjectMeta", None),
    ("admissionregistration.v1beta1.ValidatingWebhookConfiguration", "webhooks", "", Some(&["name"])),
    ("apiregistration.v1.APIService", "metadata", "ObjectMeta", None),
    ("apiregistration.v1.APIService", "status", "apiregistration.v1.APIServiceStatus", None),
    ("apiregistration.v1.APIServiceStatus", "conditions", "", Some(&["type"])),
    ("apiregistration.v1beta1.APIService", "metadata", "ObjectMeta", None),
    ("apiregistration.v1beta1.APIService", "status", "apiregistration.v1beta1.APIServiceStatus", None),
    ("apiregistration.v1beta1.APIServiceStatus", "conditions", "", Some(&["type"])),
    ("apps.v1.DaemonSet", "metadata", "ObjectMeta", None),
    ("apps.v1.DaemonSet", "spec", "apps.v1.DaemonSetSpec", None),
    ("apps.v1.DaemonSet", "status", "apps.v1.DaemonSetStatus", None),
    ("apps.v1.DaemonSetSpec", "template", "core.v1.PodTemplateSpec", None),
    ("apps.v1.DaemonSetStatus", "conditions", "", Some(&["type"])),
    ("apps.v1.Deployment", "metadata", "ObjectMeta", None),
    ("apps.v1.Deployment", "spec", "apps.v1.DeploymentSpec", None),
    ("apps.v1.Deployment", "status", "apps.v1.DeploymentStatus", None),
    ("apps.v1.DeploymentSpec", "template", "core.v1.PodTemplateSpec", None),
    ("apps.v1.DeploymentStatus", "conditions", "", Some(&["type"])),
    ("apps.v1.Kustomization", "configMapGenerator", "", Some(&["name"])),
    ("apps.v1.Kustomization", "secretGenerator", "", Some(&["name"])),
    ("apps.v1.ReplicaSet", "metadata", "ObjectMeta", None),
    ("apps.v1.ReplicaSet", "spec", "apps.v1.ReplicaSetSpec", None),
    ("apps.v1.ReplicaSet", "status", "apps.v1.ReplicaSetStatus", None),
    ("apps.v1.ReplicaSetSpec", "template", "core.v1.PodTemplateSpec", None),
    ("apps.v1.ReplicaSetStatus", "conditions", "", Some(&["type"])),
    ("apps.v1.StatefulSet", "metadata", "ObjectMeta", None),
    ("apps.v1.StatefulSet", "spec", "apps.v1.StatefulSetSpec", None),
    ("apps.v1.StatefulSet", "status", "apps.v1.StatefulSetStatus", None),
    ("apps.v1.StatefulSetSpec", "template", "core.v1.PodTemplateSpec", None),
    ("apps.v1.StatefulSetSpec", "volumeClaimTemplates", "core.v1.PersistentVolumeClaim", None),
    ("apps.v1.StatefulSetStatus", "conditions", "", Some(&["type"])),
    ("batch.v1.CronJob", "metadata", "ObjectMeta", None),
    ("batch.v1.CronJob", "spec", "batch.v1.CronJobSpec", None),
    ("batch.v1.CronJobSpec", "jobTemplate", "batch.v1.JobTemplateSpec", None),
    ("batch.v1.Job", "metadata", "ObjectMeta", None),
    ("batch.v1.Job", "spec", "batch.v1.JobSpec", None),
    ("batch.v1.Job", "status", "batch.v1.JobStatus", None),
    ("batch.v1.JobSpec", "template", "core.v1.PodTemplateSpec", None),
    ("batch.v1.JobStatus", "conditions", "", Some(&["type"])),
    ("batch.v1.JobTemplateSpec", "metadata", "ObjectMeta", None),
    ("batch.v1.JobTemplateSpec", "spec", "batch.v1.JobSpec", None),
    ("batch.v1beta1.CronJob", "metadata", "ObjectMeta", None),
    ("batch.v1beta1.CronJob", "spec", "batch.v1beta1.CronJobSpec", None),
    ("batch.v1beta1.CronJobSpec", "jobTemplate", "batch.v1beta1.JobTemplateSpec", None),
    ("batch.v1beta1.JobTemplateSpec", "metadata", "ObjectMeta", None),
    ("batch.v1beta1.JobTemplateSpec", "spec", "batch.v1.JobSpec", None),
    ("core.v1.ComponentStatus", "conditions", "", Some(&["type"])),
    ("core.v1.ComponentStatus", "metadata", "ObjectMeta", None),
    ("core.v1.Container", "env", "", Some(&["name"])),
    ("core.v1.Container", "ports", "", Some(&["containerPort", "protocol"])),
    ("core.v1.Container", "volumeDevices", "", Some(&["devicePath"])),
    ("core.v1.Container", "volumeMounts", "", Some(&["mountPath"])),
    ("core.v1.EphemeralContainer", "env", "", Some(&["name"])),
    ("core.v1.EphemeralContainer", "volumeDevices", "", Some(&["devicePath"])),
    ("core.v1.EphemeralContainer", "volumeMounts", "", Some(&["mountPath"])),
    ("core.v1.EphemeralVolumeSource", "volumeClaimTemplate", "Plain", None),
    ("core.v1.Namespace", "metadata", "ObjectMeta", None),
    ("core.v1.Namespace", "status", "core.v1.NamespaceStatus", None),
    ("core.v1.NamespaceStatus", "conditions", "", Some(&["type"])),
    ("core.v1.Node", "metadata", "ObjectMeta", None),
    ("core.v1.Node", "spec", "core.v1.NodeSpec", None),
    ("core.v1.Node", "status", "core.v1.NodeStatus", None),
    ("core.v1.NodeSpec", "podCIDRs", "", Some(&[])),
    ("core.v1.NodeStatus", "addresses", "", Some(&["type"])),
    ("core.v1.NodeStatus", "conditions", "", Some(&["type"])),
    ("core.v1.PersistentVolumeClaim", "metadata", "ObjectMeta", None),
    ("core.v1.PersistentVolumeClaim", "status", "core.v1.PersistentVolumeClaimStatus", None),
    ("core.v1.PersistentVolumeClaimStatus", "conditions", "", Some(&["type"])),
    ("core.v1.Pod", "metadata", "ObjectMeta", None),
    ("core.v1.Pod", "spec", "core.v1.PodSpec", None),
    ("core.v1.Pod", "status", "core.v1.PodStatus", None),
    ("core.v1.PodSpec", "containers", "core.v1.Container", Some(&["name"])),
    ("core.v1.PodSpec", "ephemeralContainers", "core.v1.EphemeralContainer", Some(&["name"])),
    ("core.v1.PodSpec", "hostAliases", "", Some(&["ip"])),
    ("core.v1.PodSpec", "imagePullSecrets", "", Some(&["name"])),
    ("core.v1.PodSpec", "initContainers", "core.v1.Container", Some(&["name"])),
    ("core.v1.PodSpec", "topologySpreadConstraints", "", Some(&["topologyKey", "whenUnsatisfiable"])),
    ("core.v1.PodSpec", "volumes", "core.v1.Volume", Some(&["name"])),
    ("core.v1.PodStatus", "conditions", "", Some(&["type"])),
    ("core.v1.PodStatus", "podIPs", "", Some(&["ip"])),
    ("core.v1.PodTemplate", "metadata", "ObjectMeta", None),
    ("core.v1.PodTemplate", "template", "core.v1.PodTemplateSpec", None),
    ("core.v1.PodTemplateSpec", "metadata", "ObjectMeta", None),
    ("core.v1.PodTemplateSpec", "spec", "core.v1.PodSpec", None),
    ("core.v1.ReplicationController", "metadata", "ObjectMeta", None),
    ("core.v1.ReplicationController", "spec", "core.v1.ReplicationControllerSpec", None),
    ("core.v1.ReplicationController", "status", "core.v1.ReplicationControllerStatus", None),
    ("core.v1.ReplicationControllerSpec", "template", "core.v1.PodTemplateSpec", None),
    ("core.v1.ReplicationControllerStatus", "conditions", "", Some(&["type"])),
    ("core.v1.Service", "metadata", "ObjectMeta", None),
    ("core.v1.Service", "spec", "core.v1.ServiceSpec", None),
    ("core.v1.Service", "status", "core.v1.ServiceStatus", None),
    ("core.v1.ServiceAccount", "metadata", "ObjectMeta", None),
    ("core.v1.ServiceAccount", "secrets", "", Some(&["name"])),
    ("core.v1.ServiceSpec", "ports", "", Some(&["port", "protocol"])),
    ("core.v1.ServiceStatus", "conditions", "", Some(&["type"])),
    ("core.v1.Volume", "ephemeral", "core.v1.EphemeralVolumeSource", None),
    ("policy.v1.PodDisruptionBudget", "metadata", "ObjectMeta", None),
    ("policy.v1.PodDisruptionBudget", "status", "policy.v1.PodDisruptionBudgetStatus", None),
    ("policy.v1.PodDisruptionBudgetStatus", "conditions", "", Some(&["type"])),
    ("policy.v1beta1.PodDisruptionBudget", "metadata", "ObjectMeta", None),
    ("policy.v1beta1.PodDisruptionBudget", "status", "policy.v1beta1.PodDisruptionBudgetStatus", None),
    ("policy.v1beta1.PodDisruptionBudgetStatus", "conditions", "", Some(&["type"])),
    ("storage.v1.CSINode", "metadata", "ObjectMeta", None),
    ("storage.v1.CSINode", "spec", "storage.v1.CSINodeSpec", None),
    ("storage.v1.CSINodeSpec", "drivers", "", Some(&["name"])),
    ("storage.v1beta1.CSINode", "metadata", "ObjectMeta", None),
    ("storage.v1beta1.CSINode", "spec", "storage.v1beta1.CSINodeSpec", None),
    ("storage.v1beta1.CSINodeSpec", "drivers", "", Some(&["name"])),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_merge_by_their_keys() {
        let pod = &["spec", "template", "spec", "containers"];
        for (api, kind, path, keys) in [
            ("apps/v1", "Deployment", &pod[..], Some(&["name"][..])),
            ("v1", "Service", &["spec", "ports"], Some(&["port", "protocol"])),
            ("v1", "ConfigMap", &["metadata", "finalizers"], Some(&[])),
            ("example.org/v1", "Deployment", &pod[..], None),
            ("v1", "Service", &["spec", "externalIPs"], None),
        ] {
            let schemas = Schemas::default();
            let found = schemas.of_object(api, kind).and_then(|s| path.iter().try_fold(s, |s, field| s.field(field)));
            assert_eq!(found.and_then(Schema::merge_keys).as_deref(), keys, "{api} {kind} {path:?}");
        }
    }
}
