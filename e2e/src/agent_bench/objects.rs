//! What is applied: ConfigMaps of 1.1 KB, and the four objects of flux-benchmark's application.

use bytes::Bytes;
use serde_json::{Value, json};

/// One object, as all contestants apply it.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) value: Value,
    plural: &'static str,
    group: &'static str,
}

/// What a set of objects is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// ConfigMaps only.
    ConfigMaps,
    /// ServiceAccount, Service, Deployment (no replicas) and Ingress by turns.
    Mixed,
}

impl Workload {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMaps",
            Self::Mixed => "mixed",
        }
    }

    /// So many objects; those that `version` means hold another value in another version.
    pub(super) fn objects(self, namespace: &str, count: usize, version: impl Fn(usize) -> usize) -> Vec<Object> {
        match self {
            Self::ConfigMaps => (0..count).map(|n| config_map(namespace, n, version(n))).collect(),
            Self::Mixed => {
                (0..count).map(|n| app_part(namespace, &format!("podinfo-{:04}", n / 4), n % 4, version(n))).collect()
            }
        }
    }
}

impl Object {
    fn new(group: &'static str, plural: &'static str, value: Value) -> Self {
        Self { value, plural, group }
    }

    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Where it is applied to.
    pub(super) fn path(&self) -> String {
        let version = self.text("/apiVersion");
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{version}/namespaces/{}/{}/{}", self.text("/metadata/namespace"), self.plural, self.name())
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from(self.value.to_string())
    }
}

/// A file with these objects, for Git and kubectl.
pub(super) fn file(objects: &[Object]) -> String {
    objects.iter().map(|object| format!("---\n{}\n", object.value)).collect()
}

/// A ConfigMap of 1.1 KB.
pub(super) fn config_map(namespace: &str, n: usize, version: usize) -> Object {
    let line = |k: usize| format!("setting-{k:02} = value {} of object {n}\n", (n * 31 + k * 7) % 1000);
    let text: String = (0..28).map(line).collect();
    let value = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("config-{n:05}"),
            "namespace": namespace,
            "labels": { "app.kubernetes.io/name": "bench", "app.kubernetes.io/part-of": "bench" },
        },
        "data": { "version": version.to_string(), "settings.conf": text },
    });
    Object::new("", "configmaps", value)
}

/// One of the four objects of an application; `version` is a label of each.
pub(super) fn app_part(namespace: &str, name: &str, part: usize, version: usize) -> Object {
    let labels = json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/version": format!("6.{version}.0"),
        "app.kubernetes.io/managed-by": "bench",
    });
    let metadata = json!({ "name": name, "namespace": namespace, "labels": labels });
    match part {
        0 => Object::new(
            "",
            "serviceaccounts",
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        ),
        1 => Object::new(
            "",
            "services",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {
                    "type": "ClusterIP",
                    "selector": { "app.kubernetes.io/name": name },
                    "ports": [
                        { "name": "http", "port": 9898, "protocol": "TCP", "targetPort": "http" },
                        { "name": "grpc", "port": 9999, "protocol": "TCP", "targetPort": "grpc" },
                    ],
                },
            }),
        ),
        2 => Object::new("apps", "deployments", deployment(name, &metadata)),
        _ => Object::new(
            "networking.k8s.io",
            "ingresses",
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
                "spec": {
                    "ingressClassName": "nginx",
                    "rules": [{ "host": format!("{name}.local"), "http": { "paths": [{
                        "path": "/", "pathType": "ImplementationSpecific",
                        "backend": { "service": { "name": name, "port": { "number": 9898 } } },
                    }] } }],
                },
            }),
        ),
    }
}

fn deployment(name: &str, metadata: &Value) -> Value {
    let probe = json!({
        "exec": { "command": ["podcli", "check", "http", "localhost:9898/healthz"] },
        "initialDelaySeconds": 5, "timeoutSeconds": 5,
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {
            "replicas": 0,
            "minReadySeconds": 3,
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": 60,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "selector": { "matchLabels": { "app.kubernetes.io/name": name } },
            "template": {
                "metadata": { "labels": { "app.kubernetes.io/name": name } },
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{
                        "name": "podinfod",
                        "image": "registry.example.org/podinfo:6.9.0",
                        "command": [
                            "./podinfo", "--port=9898", "--port-metrics=9797", "--grpc-port=9999",
                            "--grpc-service-name=podinfo", "--level=info", "--random-delay=false",
                            "--random-error=false", "--h2c=false",
                        ],
                        "env": [{ "name": "PODINFO_UI_COLOR", "value": "#34577c" }],
                        "ports": [
                            { "name": "http", "containerPort": 9898, "protocol": "TCP" },
                            { "name": "http-metrics", "containerPort": 9797, "protocol": "TCP" },
                            { "name": "grpc", "containerPort": 9999, "protocol": "TCP" },
                        ],
                        "livenessProbe": probe,
                        "readinessProbe": probe,
                        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
                        "resources": { "requests": { "cpu": "1m", "memory": "16Mi" } },
                    }],
                    "volumes": [{ "name": "data", "emptyDir": {} }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_their_size_and_place() {
        let map = config_map("a", 7, 1);
        assert!((900..1300).contains(&map.bytes().len()), "{}", map.bytes().len());
        assert_eq!(map.path(), "/api/v1/namespaces/a/configmaps/config-00007");
        let mixed = Workload::Mixed.objects("b", 8, |_| 0);
        let paths: Vec<String> = mixed.iter().map(Object::path).collect();
        assert_eq!(paths[2], "/apis/apps/v1/namespaces/b/deployments/podinfo-0000");
        assert_eq!(paths[7], "/apis/networking.k8s.io/v1/namespaces/b/ingresses/podinfo-0001");
    }
}
