//! Repositories to measure with: one base, and an overlay per cluster that uses five features.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Files by path.
pub(super) type Files = BTreeMap<String, String>;

/// The folder of an overlay.
pub(super) fn overlay_folder(number: usize) -> String {
    format!("overlays/{}", cluster_name(number))
}

/// The cluster that an overlay is for.
pub(super) fn cluster_name(number: usize) -> String {
    format!("cluster-{number:04}")
}

/// A base of `objects` objects, and overlays that each add one ConfigMap and change namespace, labels, images and, by
/// patches, some of the objects.
pub(super) fn overlays(objects: usize, overlays: usize) -> Files {
    let mut files = Files::new();
    let mut list = String::new();
    for number in 0..objects {
        let name = format!("{:04}.yaml", number);
        files.insert(format!("base/{name}"), object(number));
        list += &format!("- {name}\n");
    }
    files.insert(
        "base/kustomization.yaml".into(),
        format!("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{list}"),
    );
    for number in 0..overlays {
        let folder = overlay_folder(number);
        files.insert(format!("{folder}/kustomization.yaml"), overlay(number));
        files.insert(format!("{folder}/settings.env"), settings(number, 0));
        files.insert(format!("{folder}/replicas.yaml"), replicas(number % 5 + 1));
    }
    files
}

/// The kustomization file of an overlay.
fn overlay(number: usize) -> String {
    let cluster = cluster_name(number);
    format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: team-{team}
resources:
- ../../base
labels:
- includeTemplates: true
  pairs:
    example.org/cluster: {cluster}
    example.org/team: team-{team}
images:
- name: registry.example.org/app-0
  newTag: 1.{number}.0
- name: registry.example.org/app-3
  newName: mirror.example.org/app-3
configMapGenerator:
- name: settings
  envs:
  - settings.env
patches:
- path: replicas.yaml
- target:
    kind: Deployment
    name: app-6
  patch: |-
    - op: replace
      path: /spec/template/spec/containers/0/resources/limits/memory
      value: {memory}Mi
- target:
    kind: Service
    name: app-1
  patch: |-
    apiVersion: v1
    kind: Service
    metadata:
      name: app-1
      annotations:
        example.org/zone: zone-{zone}
- patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: app-9
    spec:
      template:
        spec:
          containers:
          - name: app
            env:
            - name: CLUSTER
              value: {cluster}
",
        team = number % 20,
        memory = 256 + number % 7 * 64,
        zone = number % 3,
    )
}

/// Values for the generated ConfigMap of an overlay; `version` makes them others.
pub(super) fn settings(number: usize, version: usize) -> String {
    format!("CLUSTER={}\nREGION=region-{}\nVERSION={version}\n", cluster_name(number), number % 4)
}

/// The patch that sets how many pods an application has.
pub(super) fn replicas(count: usize) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-0\nspec:\n  replicas: {count}\n")
}

/// An object of the base: of three, one Deployment, one Service, one ConfigMap.
fn object(number: usize) -> String {
    match number % 3 {
        0 => deployment(number, 0),
        1 => service(number),
        _ => config(number, 0),
    }
}

/// A Deployment of the base; `version` makes it another one.
pub(super) fn deployment(number: usize, version: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{number}
  labels:
    app.kubernetes.io/name: app-{number}
    app.kubernetes.io/version: \"{version}\"
spec:
  replicas: 2
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: app-{number}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: app-{number}
    spec:
      serviceAccountName: default
      containers:
      - name: app
        image: registry.example.org/app-{number}:1.0.0
        args: [\"--listen=:8080\", \"--log-level=info\"]
        ports:
        - name: http
          containerPort: 8080
        envFrom:
        - configMapRef:
            name: settings
        readinessProbe:
          httpGet:
            path: /ready
            port: http
          periodSeconds: 5
        resources:
          requests: {{cpu: 50m, memory: 64Mi}}
          limits: {{memory: 256Mi}}
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
      - name: sidecar
        image: registry.example.org/sidecar:2.3.1
        resources:
          requests: {{cpu: 10m, memory: 16Mi}}
"
    )
}

fn service(number: usize) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: app-{number}
  labels:
    app.kubernetes.io/name: app-{before}
spec:
  selector:
    app.kubernetes.io/name: app-{before}
  ports:
  - name: http
    port: 80
    targetPort: http
",
        before = number.saturating_sub(1),
    )
}

/// A ConfigMap of the base; `version` makes it another one.
pub(super) fn config(number: usize, version: usize) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata:
  name: config-{number}
data:
  version: \"{version}\"
  config.yaml: |
    server:
      listen: 0.0.0.0:8080
      timeout: 30s
    upstream:
    - name: app-{number}
      retries: 3
"
    )
}

/// Writes files below a folder.
pub(super) fn write(root: &Path, files: &Files) -> Result<()> {
    for (path, text) in files {
        let file = root.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
