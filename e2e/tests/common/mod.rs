//! The small mono-repo of the loop tests.

use driftless_e2e::world::Content;

const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: config
data:
  commit: first
";

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
  progressDeadlineSeconds: 5
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: nginx:1.29.3
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: api
spec:
  selector:
    app: api
  ports:
    - port: 80
";

const KUSTOMIZATION: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - config.yaml
  - service.yaml
";

/// Each cluster has, beside its root:
///
/// | unit | holds |
/// |---|---|
/// | `namespaces` | one namespace per other unit, waited for by all of them |
/// | `steady` | ConfigMap `config`: shows whether new commits arrive |
/// | `subject` | ConfigMap `config`, Service `api`: what things happen to |
/// | `web` | Deployment `web` of 3 replicas, ConfigMap `config`; waits for health |
/// | `watched` | the same Deployment, with drift that is observed and not healed |
pub(crate) fn base(clusters: &[&str]) -> Content {
    let namespaces: Vec<String> = ["steady", "subject", "web", "watched"]
        .iter()
        .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n"))
        .collect();
    let mut content = Content::new()
        .with("namespaces/namespaces.yaml", namespaces.join("---\n"))
        .with("steady/config.yaml", CONFIG)
        .with("subject/kustomization.yaml", KUSTOMIZATION)
        .with("subject/config.yaml", CONFIG)
        .with("subject/service.yaml", SERVICE)
        .with("web/deployment.yaml", DEPLOYMENT)
        .with("web/config.yaml", CONFIG)
        .with("watched/deployment.yaml", DEPLOYMENT);
    for cluster in clusters {
        content = content
            .root(cluster)
            .unit(cluster, "namespaces", "./namespaces", "  wait: true\n")
            .unit(cluster, "steady", "./steady", &app("steady", ""))
            .unit(cluster, "subject", "./subject", &app("subject", ""))
            .unit(cluster, "web", "./web", &app("web", "  wait: true\n"))
            .unit(cluster, "watched", "./watched", &app("watched", "  remediation:\n    remediate: false\n"));
    }
    content
}

/// The rest of the spec of a unit in a namespace of its own.
fn app(namespace: &str, more: &str) -> String {
    format!("  targetNamespace: {namespace}\n  dependsOn:\n    - name: namespaces\n{more}")
}
