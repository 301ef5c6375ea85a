//! Random Kubernetes objects: templates of real shapes, with names from a small set so that they refer to each other.

use crate::rng::Rng;
use crate::value::Value;
use crate::words::{IMAGES, NAMES, NAMESPACES, SCALARS};
use driftless_yaml::{Dialect, Limits};

/// `@n` a name, `@v` a scalar, `@i` an image, `@s` a namespace, `@m` lines of metadata below the name.
const TEMPLATES: &[&str] = &[
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: @n\n@mdata:\n  a: @v\n  b: @v\n  conf.yaml: |\n    a: 1\n    list: [x, y]\n    m:\n      k: v\n  conf.json: '{\"a\": {\"b\": 1}, \"l\": [1, \"x\"]}'\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: @n\n@mdata:\n  url: http://@n.@s.svc:80/x\nbinaryData:\n  x: aGVsbG8=\nimmutable: true\n",
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: @n\n@mtype: Opaque\ndata:\n  password: aGVsbG8=\nstringData:\n  user: @v\n",
    "apiVersion: v1\nkind: Service\nmetadata:\n  name: @n\n@mspec:\n  selector:\n    app: @n\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n  - port: 443\n    protocol: TCP\n  - port: 53\n    protocol: UDP\n",
    "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: @n\n@mimagePullSecrets:\n- name: @n\nsecrets:\n- name: @n\n",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: @s\n",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: @n\n@mspec:\n  replicas: @v\n  selector:\n    matchLabels:\n      app: @n\n  template:\n    metadata:\n      labels:\n        app: @n\n    spec:\n      serviceAccountName: @n\n      containers:\n      - name: @n\n        image: @i\n        args: [\"--x=$(VAR)\", \"@n\"]\n        env:\n        - name: A\n          value: @v\n        - name: B\n          valueFrom:\n            configMapKeyRef:\n              name: @n\n              key: a\n        envFrom:\n        - configMapRef:\n            name: @n\n        - secretRef:\n            name: @n\n        ports:\n        - containerPort: 80\n          name: http\n        - containerPort: 443\n          protocol: TCP\n        volumeMounts:\n        - name: v\n          mountPath: /v\n      initContainers:\n      - name: init\n        image: @i\n      volumes:\n      - name: v\n        configMap:\n          name: @n\n      - name: s\n        secret:\n          secretName: @n\n      - name: p\n        persistentVolumeClaim:\n          claimName: @n\n",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: @n\n@mspec:\n  template:\n    spec:\n      containers:\n      - name: app\n        image: @i\n      - name: side\n        image: @i\n        command: [sh, -c, \"echo $(VAR) $$(VAR)\"]\n      affinity:\n        podAntiAffinity:\n          preferredDuringSchedulingIgnoredDuringExecution:\n          - podAffinityTerm:\n              labelSelector:\n                matchLabels:\n                  app: @n\n            weight: 1\n      topologySpreadConstraints:\n      - labelSelector:\n          matchLabels: {app: @n}\n        maxSkew: 1\n        topologyKey: zone\n        whenUnsatisfiable: DoNotSchedule\n      tolerations:\n      - key: @v\n        operator: Exists\n",
    "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: @n\n@mspec:\n  serviceName: @n\n  selector:\n    matchLabels:\n      app: @n\n  template:\n    metadata:\n      labels: {app: @n}\n      annotations:\n        x: @v\n    spec:\n      containers:\n      - name: @n\n        image: @i\n        volumeMounts:\n        - mountPath: /data\n          name: data\n  volumeClaimTemplates:\n  - metadata:\n      name: data\n    spec:\n      storageClassName: @n\n      resources:\n        requests:\n          storage: 1Gi\n",
    "apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: @n\n@mspec:\n  selector:\n    matchLabels: {app: @n}\n  template:\n    spec:\n      priorityClassName: @n\n      containers:\n      - {name: @n, image: @i}\n",
    "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: @n\n@mspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: @n\n        image: @i\n        env:\n        - {name: X, valueFrom: {secretKeyRef: {name: @n, key: k}}}\n",
    "apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: @n\n@mspec:\n  schedule: \"*/5 * * * *\"\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n          - name: @n\n            image: @i\n            envFrom:\n            - configMapRef: {name: @n}\n          volumes:\n          - name: x\n            projected:\n              sources:\n              - configMap: {name: @n}\n              - secret: {name: @n}\n",
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: @n\n@mspec:\n  containers:\n  - image: @i\n    name: @n\n    resources:\n      limits: {cpu: 1, memory: 1Gi}\n",
    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: @n\n@mspec:\n  ingressClassName: @n\n  rules:\n  - host: @v\n    http:\n      paths:\n      - path: /\n        pathType: Prefix\n        backend:\n          service:\n            name: @n\n            port: {number: 80}\n  tls:\n  - hosts: [@n.example.org]\n    secretName: @n\n",
    "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata:\n  name: @n\n  annotations:\n    nginx.ingress.kubernetes.io/auth-secret: @n\nspec:\n  backend:\n    serviceName: @n\n    servicePort: 80\n",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: @n\n@mrules:\n- apiGroups: [\"\"]\n  resources: [configmaps]\n  resourceNames: [@n, other]\n  verbs: [get]\n",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata:\n  name: @n\n@mroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: @n\nsubjects:\n- kind: ServiceAccount\n  name: @n\n  namespace: @s\n- kind: ServiceAccount\n  name: default\n- kind: User\n  name: @n\n",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: @n\nrules:\n- apiGroups: [apps]\n  resources: [deployments]\n  verbs: [get, list]\n",
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: @n\nroleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: ClusterRole\n  name: @n\nsubjects:\n- kind: ServiceAccount\n  name: @n\n  namespace: @s\n",
    "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata:\n  name: @n\n@mspec:\n  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: @n\n  maxReplicas: 3\n",
    "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: @n\n@mspec:\n  minAvailable: 1\n  selector:\n    matchLabels: {app: @n}\n",
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: @n\n@mspec:\n  podSelector:\n    matchLabels: {app: @n}\n  ingress:\n  - from:\n    - podSelector:\n        matchLabels: {app: @n}\n",
    "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: @n\n@mspec:\n  storageClassName: @n\n  volumeName: @n\n",
    "apiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: @n\nspec:\n  storageClassName: @n\n",
    "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: @n\nprovisioner: x\nparameters:\n  secretName: @n\n",
    "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: widgets.example.org\nspec:\n  group: example.org\n  names: {kind: Widget, plural: widgets}\n  scope: Namespaced\n  versions:\n  - name: v1\n    schema:\n      openAPIV3Schema:\n        properties:\n          containers: {type: array, items: {properties: {image: {default: nginx}}}}\n  conversion:\n    strategy: Webhook\n    webhook:\n      clientConfig:\n        service: {name: @n, namespace: @s}\n",
    "apiVersion: example.org/v1\nkind: Widget\nmetadata:\n  name: @n\n@mspec:\n  ref:\n    name: @n\n    kind: ConfigMap\n  containers:\n  - name: x\n    image: @i\n  list: [@v, @v]\n  nested:\n    deep: @v\n    finalizers: [a, b]\n  replicas: 1\n",
    "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata:\n  name: @n\nwebhooks:\n- name: a.example.org\n  clientConfig:\n    service:\n      name: @n\n      namespace: @s\n",
    "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata:\n  name: v1.example.org\nspec:\n  service:\n    name: @n\n    namespace: @s\n  group: example.org\n",
    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata:\n  name: @n\nvalue: 100\n",
    "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: @n}\n  data: {a: @v}\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: @n\n  spec: {clusterIP: None}\n",
    "apiVersion: v1\nkind: ConfigMapList\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: @n}\n  data: {a: @v}\n",
    "apiVersion: v1\nkind: ReplicationController\nmetadata:\n  name: @n\n@mspec:\n  selector: {app: @n}\n  replicas: 2\n  template:\n    metadata:\n      labels: {app: @n}\n    spec:\n      containers:\n      - {name: c, image: @i}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: @n\n@mdata: &d\n  a: @v\n  b: &x text\n  c: *x\nother:\n  <<: *d\n  d: 1\n",
    "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: @n\n@mspec:\n  template:\n    spec:\n      containers:\n      - image: @i\n        env:\n        - name: X\n          valueFrom: {secretKeyRef: {name: @n}}\n",
    "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: @n\n@mspec:\n  interval: 10m\n  path: ./x\n  sourceRef: {kind: GitRepository, name: @n}\n  postBuild:\n    substituteFrom:\n    - {kind: ConfigMap, name: @n}\n",
    "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: @n\n@mspec:\n  chart:\n    spec: {chart: x, version: \"1.x\"}\n  valuesFrom:\n  - kind: ConfigMap\n    name: @n\n  values:\n    image: {repository: @i, tag: @v}\n    a: @v\n",
];

/// Metadata below the name.
fn metadata(rng: &mut Rng) -> String {
    let mut out = String::new();
    if rng.chance(30) {
        out.push_str(&format!("  namespace: {}\n", rng.pick(NAMESPACES)));
    }
    if rng.chance(25) {
        out.push_str(&format!("  labels:\n    app: {}\n    tier: {}\n", rng.pick(NAMES), scalar(rng)));
    }
    if rng.chance(20) {
        out.push_str(&format!("  annotations:\n    note: {}\n    example.org/x: {}\n", scalar(rng), scalar(rng)));
    }
    if rng.chance(3) {
        out.push_str("  annotations:\n    config.kubernetes.io/local-config: \"true\"\n");
    }
    if rng.chance(3) {
        out.push_str("  finalizers: [a, b]\n");
    }
    out
}

/// Mostly tame, so that most builds get far.
fn scalar(rng: &mut Rng) -> String {
    let wild = rng.chance(50);
    let text = if wild { rng.pick(SCALARS) } else { rng.pick(&["a", "1", "x y", "\"q\"", "3"]) };
    // One that would break the file makes a dull test.
    let fits = !text.contains('\n') && parsed(&format!("a: {text}\nb: {{c: {text}}}\n")).is_some();
    if fits || (wild && rng.chance(2)) { text.replace('\n', " ") } else { "a".to_owned() }
}

/// A template with its places filled.
pub(crate) fn text(rng: &mut Rng) -> String {
    let template = rng.pick(TEMPLATES);
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        let what = rest[at + 1..].chars().next().unwrap_or(' ');
        match what {
            'n' => out.push_str(rng.pick(NAMES)),
            's' => out.push_str(rng.pick(NAMESPACES)),
            'i' => out.push_str(rng.pick(IMAGES)),
            'v' => out.push_str(&scalar(rng)),
            'm' => out.push_str(&metadata(rng)),
            other => {
                out.push('@');
                out.push(other);
            }
        }
        rest = &rest[at + 1 + what.len_utf8()..];
    }
    out.push_str(rest);
    out
}

/// The same as a value, for changing; `None` when it does not parse.
pub(crate) fn parsed(text: &str) -> Option<Value> {
    let document = driftless_yaml::parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).ok()?;
    Some(Value::of(&document.node))
}

/// One document, sometimes bent.
pub(crate) fn document(rng: &mut Rng) -> String {
    let text = text(rng);
    if rng.chance(15)
        && let Some(mut value) = parsed(&text)
    {
        for _ in 0..rng.below(2) {
            value.mutate(rng);
        }
        return value.write(rng);
    }
    text
}

/// A file of some documents.
pub(crate) fn file(rng: &mut Rng) -> String {
    let mut out = String::new();
    for i in 0..rng.between(1, 3) {
        if i > 0 {
            out.push_str(rng.pick(&["---\n", "---\n", "--- # c\n", "---\n# c\n"]));
        }
        out.push_str(&document(rng));
    }
    out
}
