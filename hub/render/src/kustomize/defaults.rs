//! The fields that transformers change unless a `configurations` file says more.
//!
//! Facts read from kustomize 5.8.1 (`api/internal/konfig/builtinpluginconsts`). A row is: path, group, version, kinds
//! (separated by spaces; none means every kind), and whether the field is made where it is missing.

/// Path, group, version, kinds, create.
pub(crate) type Row = (&'static str, &'static str, &'static str, &'static str, bool);

/// Group, version and kind referred to; then path, group, version and kinds of what refers.
pub(crate) type References =
    ((&'static str, &'static str, &'static str), &'static [(&'static str, &'static str, &'static str, &'static str)]);

pub(crate) const NAME: &[Row] = &[("metadata/name", "", "", "", false)];

pub(crate) const NAMESPACE: &[Row] = &[
    ("metadata/name", "", "", "Namespace", true),
    ("spec/service/namespace", "apiregistration.k8s.io", "", "APIService", true),
    (
        "spec/conversion/webhook/clientConfig/service/namespace",
        "apiextensions.k8s.io",
        "",
        "CustomResourceDefinition",
        false,
    ),
];

pub(crate) const ANNOTATIONS: &[Row] = &[
    ("metadata/annotations", "", "", "", true),
    ("spec/template/metadata/annotations", "", "v1", "ReplicationController", true),
    ("spec/template/metadata/annotations", "", "", "Deployment ReplicaSet DaemonSet StatefulSet", true),
    ("spec/template/metadata/annotations", "batch", "", "Job", true),
    ("spec/jobTemplate/metadata/annotations", "batch", "", "CronJob", true),
    ("spec/jobTemplate/spec/template/metadata/annotations", "batch", "", "CronJob", true),
];

pub(crate) const IMAGES: &[Row] = &[
    ("spec/containers[]/image", "", "", "", true),
    ("spec/initContainers[]/image", "", "", "", true),
    ("spec/volumes[]/image/reference", "", "", "", true),
    ("spec/template/spec/containers[]/image", "", "", "", true),
    ("spec/template/spec/initContainers[]/image", "", "", "", true),
    ("spec/template/spec/volumes[]/image/reference", "", "", "", true),
];

pub(crate) const REPLICAS: &[Row] =
    &[("spec/replicas", "", "", "Deployment ReplicationController ReplicaSet StatefulSet", true)];

/// Labels of objects and of the templates in them.
#[rustfmt::skip]
pub(crate) const TEMPLATE_LABELS: &[Row] = &[
    ("metadata/labels", "", "", "", true),
    ("spec/template/metadata/labels", "", "v1", "ReplicationController", true),
    ("spec/template/metadata/labels", "", "", "Deployment ReplicaSet DaemonSet", true),
    ("spec/template/metadata/labels", "apps", "", "StatefulSet", true),
    ("spec/volumeClaimTemplates[]/metadata/labels", "apps", "", "StatefulSet", true),
    ("spec/template/metadata/labels", "batch", "", "Job", true),
    ("spec/jobTemplate/metadata/labels", "batch", "", "CronJob", true),
    ("spec/jobTemplate/spec/template/metadata/labels", "batch", "", "CronJob", true),
];

/// Selectors; `commonLabels` sets these and [`TEMPLATE_LABELS`].
#[rustfmt::skip]
pub(crate) const SELECTORS: &[Row] = &[
    ("spec/selector", "", "v1", "Service ReplicationController", true),
    ("spec/selector/matchLabels", "", "", "Deployment ReplicaSet DaemonSet", true),
    ("spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels", "apps", "", "Deployment StatefulSet", false),
    ("spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels", "apps", "", "Deployment StatefulSet", false),
    ("spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels", "apps", "", "Deployment StatefulSet", false),
    ("spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels", "apps", "", "Deployment StatefulSet", false),
    ("spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels", "apps", "", "Deployment StatefulSet", false),
    ("spec/selector/matchLabels", "apps", "", "StatefulSet", true),
    ("spec/selector/matchLabels", "batch", "", "Job", false),
    ("spec/jobTemplate/spec/selector/matchLabels", "batch", "", "CronJob", false),
    ("spec/selector/matchLabels", "policy", "", "PodDisruptionBudget", false),
    ("spec/podSelector/matchLabels", "networking.k8s.io", "", "NetworkPolicy", false),
    ("spec/ingress/from/podSelector/matchLabels", "networking.k8s.io", "", "NetworkPolicy", false),
    ("spec/egress/to/podSelector/matchLabels", "networking.k8s.io", "", "NetworkPolicy", false),
];

/// Where `$(VARIABLE)` is looked for.
#[rustfmt::skip]
pub(crate) const VARIABLES: &[Row] = &[
    ("spec/jobTemplate/spec/template/spec/containers/args", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/containers/command", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/containers/env/value", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/containers/volumeMounts/mountPath", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/initContainers/args", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/initContainers/command", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/initContainers/env/value", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/spec/initContainers/volumeMounts/mountPath", "", "", "CronJob", false),
    ("spec/jobTemplate/spec/template/volumes/nfs/server", "", "", "CronJob", false),
    ("spec/template/spec/containers/args", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/containers/command", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/containers/env/value", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/containers/volumeMounts/mountPath", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/initContainers/args", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/initContainers/command", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/initContainers/env/value", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/initContainers/volumeMounts/mountPath", "", "", "DaemonSet Deployment Job ReplicaSet StatefulSet", false),
    ("spec/template/spec/volumes/nfs/server", "", "", "DaemonSet Deployment Job ReplicaSet", false),
    ("spec/template/metadata/annotations", "", "", "Deployment", false),
    ("spec/rules/host", "", "", "Ingress", false),
    ("spec/tls/hosts", "", "", "Ingress", false),
    ("spec/tls/secretName", "", "", "Ingress", false),
    ("spec/containers/args", "", "", "Pod", false),
    ("spec/containers/command", "", "", "Pod", false),
    ("spec/containers/env/value", "", "", "Pod", false),
    ("spec/containers/volumeMounts/mountPath", "", "", "Pod", false),
    ("spec/initContainers/args", "", "", "Pod", false),
    ("spec/initContainers/command", "", "", "Pod", false),
    ("spec/initContainers/env/value", "", "", "Pod", false),
    ("spec/initContainers/volumeMounts/mountPath", "", "", "Pod", false),
    ("spec/volumes/nfs/server", "", "", "Pod", false),
    ("spec/ports/port", "", "", "Service", false),
    ("spec/ports/targetPort", "", "", "Service", false),
    ("spec/volumeClaimTemplates/spec/nfs/server", "", "", "StatefulSet", false),
    ("spec/nfs/server", "", "", "PersistentVolume", false),
    ("metadata/labels", "", "", "", false),
    ("metadata/annotations", "", "", "", false),
];

/// Which fields hold names of which kinds.
#[rustfmt::skip]
pub(crate) const REFERENCES: &[References] = &[
    (
        ("", "", "Deployment"),
        &[
            ("spec/scaleTargetRef/name", "", "", "HorizontalPodAutoscaler"),
        ],
    ),
    (
        ("", "", "ReplicationController"),
        &[
            ("spec/scaleTargetRef/name", "", "", "HorizontalPodAutoscaler"),
        ],
    ),
    (
        ("", "", "ReplicaSet"),
        &[
            ("spec/scaleTargetRef/name", "", "", "HorizontalPodAutoscaler"),
        ],
    ),
    (
        ("", "", "StatefulSet"),
        &[
            ("spec/scaleTargetRef/name", "", "", "HorizontalPodAutoscaler"),
        ],
    ),
    (
        ("", "v1", "ConfigMap"),
        &[
            ("spec/volumes/configMap/name", "", "v1", "Pod"),
            ("spec/containers/env/valueFrom/configMapKeyRef/name", "", "v1", "Pod"),
            ("spec/initContainers/env/valueFrom/configMapKeyRef/name", "", "v1", "Pod"),
            ("spec/containers/envFrom/configMapRef/name", "", "v1", "Pod"),
            ("spec/initContainers/envFrom/configMapRef/name", "", "v1", "Pod"),
            ("spec/volumes/projected/sources/configMap/name", "", "v1", "Pod"),
            ("template/spec/volumes/configMap/name", "", "", "PodTemplate"),
            ("template/spec/containers/env/valueFrom/configMapKeyRef/name", "", "", "PodTemplate"),
            ("template/spec/initContainers/env/valueFrom/configMapKeyRef/name", "", "", "PodTemplate"),
            ("template/spec/containers/envFrom/configMapRef/name", "", "", "PodTemplate"),
            ("template/spec/initContainers/envFrom/configMapRef/name", "", "", "PodTemplate"),
            ("template/spec/volumes/projected/sources/configMap/name", "", "", "PodTemplate"),
            ("spec/template/spec/volumes/configMap/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/containers/env/valueFrom/configMapKeyRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/initContainers/env/valueFrom/configMapKeyRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/containers/envFrom/configMapRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/initContainers/envFrom/configMapRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/volumes/projected/sources/configMap/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/jobTemplate/spec/template/spec/volumes/configMap/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/volumes/projected/sources/configMap/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/containers/env/valueFrom/configMapKeyRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/initContainers/env/valueFrom/configMapKeyRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/containers/envFrom/configMapRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/initContainers/envFrom/configMapRef/name", "", "", "CronJob"),
            ("spec/configSource/configMap", "", "", "Node"),
            ("rules/resourceNames", "", "", "Role ClusterRole"),
            ("metadata/annotations/nginx.ingress.kubernetes.io\\/fastcgi-params-configmap", "", "", "Ingress"),
        ],
    ),
    (
        ("", "v1", "Secret"),
        &[
            ("spec/volumes/secret/secretName", "", "v1", "Pod"),
            ("spec/containers/env/valueFrom/secretKeyRef/name", "", "v1", "Pod"),
            ("spec/initContainers/env/valueFrom/secretKeyRef/name", "", "v1", "Pod"),
            ("spec/containers/envFrom/secretRef/name", "", "v1", "Pod"),
            ("spec/initContainers/envFrom/secretRef/name", "", "v1", "Pod"),
            ("spec/imagePullSecrets/name", "", "v1", "Pod"),
            ("spec/volumes/projected/sources/secret/name", "", "v1", "Pod"),
            ("template/spec/volumes/secret/secretName", "", "", "PodTemplate"),
            ("template/spec/containers/env/valueFrom/secretKeyRef/name", "", "", "PodTemplate"),
            ("template/spec/initContainers/env/valueFrom/secretKeyRef/name", "", "", "PodTemplate"),
            ("template/spec/containers/envFrom/secretRef/name", "", "", "PodTemplate"),
            ("template/spec/initContainers/envFrom/secretRef/name", "", "", "PodTemplate"),
            ("template/spec/imagePullSecrets/name", "", "", "PodTemplate"),
            ("template/spec/volumes/projected/sources/secret/name", "", "", "PodTemplate"),
            ("spec/template/spec/volumes/secret/secretName", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/containers/env/valueFrom/secretKeyRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/initContainers/env/valueFrom/secretKeyRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/containers/envFrom/secretRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/initContainers/envFrom/secretRef/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/imagePullSecrets/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/template/spec/volumes/projected/sources/secret/name", "", "", "Deployment ReplicaSet DaemonSet StatefulSet Job"),
            ("spec/jobTemplate/spec/template/spec/volumes/secret/secretName", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/volumes/projected/sources/secret/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/containers/env/valueFrom/secretKeyRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/initContainers/env/valueFrom/secretKeyRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/containers/envFrom/secretRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/initContainers/envFrom/secretRef/name", "", "", "CronJob"),
            ("spec/jobTemplate/spec/template/spec/imagePullSecrets/name", "", "", "CronJob"),
            ("spec/tls/secretName", "", "", "Ingress"),
            ("metadata/annotations/ingress.kubernetes.io\\/auth-secret", "", "", "Ingress"),
            ("metadata/annotations/nginx.ingress.kubernetes.io\\/auth-secret", "", "", "Ingress"),
            ("metadata/annotations/nginx.ingress.kubernetes.io\\/auth-tls-secret", "", "", "Ingress"),
            ("imagePullSecrets/name", "", "", "ServiceAccount"),
            ("parameters/secretName", "", "", "StorageClass"),
            ("parameters/adminSecretName", "", "", "StorageClass"),
            ("parameters/userSecretName", "", "", "StorageClass"),
            ("parameters/secretRef", "", "", "StorageClass"),
            ("rules/resourceNames", "", "", "Role ClusterRole"),
            ("spec/template/spec/containers/env/valueFrom/secretKeyRef/name", "serving.knative.dev", "v1", "Service"),
            ("spec/azureFile/secretName", "", "", "PersistentVolume"),
        ],
    ),
    (
        ("", "v1", "Service"),
        &[
            ("spec/serviceName", "apps", "", "StatefulSet"),
            ("spec/rules/http/paths/backend/serviceName", "", "", "Ingress"),
            ("spec/backend/serviceName", "", "", "Ingress"),
            ("spec/rules/http/paths/backend/service/name", "", "", "Ingress"),
            ("spec/defaultBackend/service/name", "", "", "Ingress"),
            ("spec/service/name", "apiregistration.k8s.io", "", "APIService"),
            ("webhooks/clientConfig/service", "admissionregistration.k8s.io", "", "ValidatingWebhookConfiguration MutatingWebhookConfiguration"),
        ],
    ),
    (
        ("rbac.authorization.k8s.io", "", "Role"),
        &[
            ("roleRef/name", "rbac.authorization.k8s.io", "", "RoleBinding"),
        ],
    ),
    (
        ("rbac.authorization.k8s.io", "", "ClusterRole"),
        &[
            ("roleRef/name", "rbac.authorization.k8s.io", "", "RoleBinding ClusterRoleBinding"),
        ],
    ),
    (
        ("", "v1", "ServiceAccount"),
        &[
            ("subjects", "rbac.authorization.k8s.io", "", "RoleBinding ClusterRoleBinding"),
            ("spec/serviceAccountName", "", "", "Pod"),
            ("spec/template/spec/serviceAccountName", "", "", "StatefulSet Deployment ReplicationController Job DaemonSet"),
            ("spec/jobTemplate/spec/template/spec/serviceAccountName", "", "", "CronJob"),
        ],
    ),
    (
        ("", "v1", "PersistentVolumeClaim"),
        &[
            ("spec/volumes/persistentVolumeClaim/claimName", "", "", "Pod"),
            ("spec/template/spec/volumes/persistentVolumeClaim/claimName", "", "", "StatefulSet Deployment ReplicationController Job DaemonSet"),
            ("spec/jobTemplate/spec/template/spec/volumes/persistentVolumeClaim/claimName", "", "", "CronJob"),
        ],
    ),
    (
        ("", "v1", "PersistentVolume"),
        &[
            ("spec/volumeName", "", "", "PersistentVolumeClaim"),
            ("rules/resourceNames", "", "", "ClusterRole"),
        ],
    ),
    (
        ("storage.k8s.io", "v1", "StorageClass"),
        &[
            ("spec/storageClassName", "", "", "PersistentVolume PersistentVolumeClaim"),
            ("spec/volumeClaimTemplates/spec/storageClassName", "", "", "StatefulSet"),
        ],
    ),
    (
        ("scheduling.k8s.io", "v1", "PriorityClass"),
        &[
            ("spec/priorityClassName", "", "", "Pod"),
            ("spec/template/spec/priorityClassName", "", "", "StatefulSet Deployment ReplicationController Job DaemonSet"),
            ("spec/jobTemplate/spec/template/spec/priorityClassName", "", "", "CronJob"),
        ],
    ),
    (
        ("networking.k8s.io/v1", "v1", "IngressClass"),
        &[
            ("spec/ingressClassName", "", "", "Ingress"),
        ],
    ),
    (
        ("admissionregistration.k8s.io", "", "ValidatingAdmissionPolicy"),
        &[
            ("spec/policyName", "admissionregistration.k8s.io", "", "ValidatingAdmissionPolicyBinding"),
        ],
    ),
];
