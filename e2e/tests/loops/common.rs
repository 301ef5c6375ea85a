//! What the loop tests begin with: room for a world, and the small mono-repo that most of them use.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use driftless_e2e::wait;
use driftless_e2e::world::{Cluster, ClusterOptions, Content, Options, World};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Worlds at the same time. One is one to three control planes and waits most of its time; more of them than this would
/// make each other wait on small machines, and take gigabytes on large ones.
static WORLDS: Semaphore = Semaphore::const_new(2);

/// Room for one world, with a folder for what it begins with.
pub(crate) struct Room {
    folder: TempDir,
    _permit: SemaphorePermit<'static>,
}

impl Room {
    /// Waits for it.
    pub(crate) async fn wait() -> Result<Self> {
        Ok(Self { _permit: WORLDS.acquire().await?, folder: tempfile::tempdir()? })
    }

    /// For files that are no content.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A world whose repository begins with this content.
    pub(crate) fn options(&self, content: &Content, clusters: Vec<ClusterOptions>) -> Result<Options> {
        let folder = self.folder.path().join("content");
        content.write(&folder)?;
        let mut options = Options::new(clusters);
        options.content = folder;
        Ok(options)
    }

    /// Starts a world with hub and agents: in this room, since nobody starts one without.
    pub(crate) async fn start(&self, options: Options) -> Result<World> {
        World::start(options, &mut |text| println!("            {text}")).await
    }
}

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

/// Somebody edits a field of the Deployment `web/web` that nobody declares, and it is healed.
pub(crate) async fn heals_an_edit(there: &Cluster) -> Result<()> {
    let patch = r#"{"spec":{"minReadySeconds":2}}"#;
    there.kubectl(&["-n", "web", "patch", "deployment", "web", "--type", "merge", "-p", patch]).await?;
    wait::until(Duration::from_secs(90), "the edit to be healed", || async {
        let seen = there.field("web", "deployment/web", ".spec.minReadySeconds").await;
        seen.is_ok_and(|seen| seen.is_empty() || seen == "0")
    })
    .await?;
    Ok(())
}
