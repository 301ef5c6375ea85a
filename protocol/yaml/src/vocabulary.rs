//! The names that the keys of most manifests are from: fields of Kubernetes, kustomize and Flux.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// So many names at the start of the list have a bit of their own among the keys of a sub-tree: those that are looked for
/// anywhere in an object.
pub(crate) const OWN_BITS: usize = 2;

/// The names. Their order has no meaning beyond [`OWN_BITS`].
#[rustfmt::skip]
pub(crate) static NAMES: &[&str] = &[
    "containers", "initContainers",
    "accessModes", "action", "addresses", "affinity", "allowPrivilegeEscalation", "annotations", "apiGroup", "apiGroups",
    "apiVersion", "app", "app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/version", "args", "automountServiceAccountToken",
    "averageUtilization", "azure", "backend", "backoffLimit", "behavior", "binaryData", "branch", "capabilities", "categories",
    "chart", "cidr", "claimName", "clusterIP", "command", "commonAnnotations", "commonLabels", "components", "concurrencyPolicy",
    "conditions", "config", "configMap", "configMapGenerator", "configMapKeyRef", "configMapRef", "configurations",
    "containerPort", "conversion", "cpu", "crds", "create", "data", "default", "defaultMode", "dependsOn", "description",
    "digest", "disableNameSuffixHash", "divisor", "dnsPolicy", "drop", "effect", "egress", "emptyDir", "enabled", "enum", "env",
    "envFrom", "envs", "ephemeral-storage", "exec", "externalTrafficPolicy", "failureThreshold", "fieldPath", "fieldRef",
    "fields", "files", "force", "format", "from", "fsGroup", "generatorOptions", "group", "groups", "grpc", "healthChecks",
    "host", "hostNetwork", "hostPath", "hostPort", "hostname", "hosts", "httpGet", "httpHeaders", "image", "imagePullPolicy",
    "imagePullSecrets", "images", "immutable", "includeSelectors", "includeTemplates", "ingress", "ingressClassName",
    "initialDelaySeconds", "install", "interval", "ipBlock", "issuerRef", "items", "jobTemplate", "jsonPath", "key", "keys",
    "kind", "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace", "labelSelector", "labels", "limits",
    "listKind", "literals", "livenessProbe", "matchExpressions", "matchLabels", "matchNames", "maxReplicas", "maxSurge",
    "maxUnavailable", "maximum", "medium", "memory", "metadata", "metrics", "minAvailable", "minReplicas", "minimum", "mode",
    "mountPath", "name", "namePrefix", "nameSuffix", "names", "namespace", "namespaceSelector", "nfs", "nodeAffinity",
    "nodePort", "nodeSelector", "nodeSelectorTerms", "nonResourceURLs", "nullable", "objects", "op", "operator", "optional",
    "pairs", "parallelism", "parameters", "patch", "patches", "patchesJson6902", "patchesStrategicMerge", "path", "pathType",
    "paths", "pattern", "periodSeconds", "persistentVolumeClaim", "plural", "podAffinityTerm", "podAntiAffinity",
    "podSelector", "policy", "policyTypes", "port", "ports", "postBuild", "preStop",
    "preferredDuringSchedulingIgnoredDuringExecution", "priority", "priorityClassName", "privileged", "probes", "properties",
    "protocol", "provider", "prune", "rbac.authorization.k8s.io", "readOnly", "readOnlyRootFilesystem", "readinessProbe", "ref",
    "releaseName", "replacements", "replicas", "requests", "required", "requiredDuringSchedulingIgnoredDuringExecution",
    "resource", "resourceNames", "resources", "restartPolicy", "retries", "retryInterval", "revisionHistoryLimit", "roleRef",
    "rollingUpdate", "rule", "rules", "runAsGroup", "runAsNonRoot", "runAsUser", "schedule", "schema", "scope", "seccompProfile",
    "secret", "secretGenerator", "secretKeyRef", "secretName", "secretRef", "securityContext", "selector", "served", "server",
    "service", "serviceAccount", "serviceAccountName", "serviceName", "sessionAffinity", "shortNames", "singular", "sizeLimit",
    "source", "sourceRef", "spec", "startupProbe", "status", "storage", "storageClassName", "strategy", "stringData", "subPath",
    "subjects", "subresources", "substitute", "substituteFrom", "successThreshold", "successfulJobsHistoryLimit", "suspend",
    "tag", "target", "targetNamespace", "targetPort", "tcpSocket", "template", "terminationGracePeriodSeconds", "timeout",
    "timeoutSeconds", "tls", "tolerations", "topologyKey", "topologySpreadConstraints", "transformers", "type", "updateStrategy",
    "url", "user", "value", "valueFrom", "values", "valuesFrom", "verbs", "version", "versions", "volumeClaimTemplates",
    "volumeMode", "volumeMounts", "volumeName", "volumes", "wait", "webhooks", "weight", "workingDir",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-preserve-unknown-fields",
];

/// The number of a name, if it is of the vocabulary.
pub(crate) fn number(text: &str) -> Option<u16> {
    NUMBERS.get(text).copied()
}

static NUMBERS: LazyLock<HashMap<&'static str, u16, BuildHasherDefault<Mix>>> =
    LazyLock::new(|| NAMES.iter().copied().zip(0..).collect());

/// A quick hash. Nobody can fill the table with texts of equal hashes: what is in it stands above.
#[derive(Default)]
struct Mix(u64);

impl Mix {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        // The table goes by the upper seven bits and the lower ones.
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once() {
        assert_eq!(NUMBERS.len(), NAMES.len());
        for (at, name) in NAMES.iter().enumerate() {
            assert_eq!(number(name).map(usize::from), Some(at), "{name}");
        }
        assert_eq!(number("containerz"), None);
    }
}
