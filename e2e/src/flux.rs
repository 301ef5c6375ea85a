//! Flux beside Driftless, in the same cluster: its own kustomize-controller, built from the published module, on its own
//! definitions. Only the source-controller is played: what Git holds is told by the test, served as an archive, and named in
//! the status of the GitRepository, as the real one does.

mod artifact;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use driftless_protocol::marks;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::controlplane::ControlPlane;
use crate::ports;
use crate::process::{Launch, Process};
use crate::tools::{self, Tool, Tools};
use crate::wait;
use crate::world::Content;
use artifact::Artifacts;

/// The field manager of Flux's kustomize-controller.
pub const MANAGER: &str = "kustomize-controller";
/// Flux's namespace.
pub const NAMESPACE: &str = "flux-system";
const GROUP: &str = "kustomize.toolkit.fluxcd.io";
const SOURCES: &str = "source.toolkit.fluxcd.io";
/// The source of everything, as bootstrap names it.
const SOURCE: &str = "flux-system";
/// For kinds to be served, and for the controller to say that it works.
const PATIENCE: Duration = Duration::from_secs(60);
/// For an orderly end.
const GRACE: Duration = Duration::from_secs(10);

/// A running kustomize-controller. Dropping it ends it.
pub struct Flux {
    client: Client,
    artifacts: Artifacts,
    process: Process,
    health: u16,
    /// As [`Tools::flux_name`] says.
    name: String,
    /// Of the last request to look at a unit.
    serial: u64,
}

impl std::fmt::Debug for Flux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flux").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Flux {
    /// Makes the definitions and starts it, by this way into the cluster; its log and its other files are in `folder`. `more`
    /// are further arguments of the controller.
    ///
    /// # Errors
    /// It cannot be built, the API server refuses, or it does not come up in time.
    pub async fn start(plane: &ControlPlane, kubeconfig: &Path, folder: &Path, more: &[&str]) -> Result<Self> {
        let tools = Tools::prepare_async(&[Tool::KustomizeController], tools::print_progress).await?;
        let client = plane.client();
        define_all(&client, &tools).await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        apply(&client, &namespace, "flux").await?;
        let [health] = ports::free().context("choose a port")?;
        let files = folder.join("flux");
        std::fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        let health_address = format!("127.0.0.1:{health}");
        let launch = Launch::new("flux", tools.path(Tool::KustomizeController)?, folder.join("flux.log"))
            .args(["--watch-all-namespaces", "--log-level=info", "--metrics-addr=0", "--interval-jitter-percentage=0"])
            .args(["--health-addr", &health_address])
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .env("RUNTIME_NAMESPACE", NAMESPACE)
            .env("TMPDIR", &files)
            .env("HOME", &files);
        let process = Process::start(launch).context("start Flux's controller")?;
        let name = tools.flux_name()?;
        let mut flux = Self { client, artifacts: Artifacts::start()?, process, health, name, serial: 0 };
        flux.up().await?;
        Ok(flux)
    }

    async fn up(&mut self) -> Result<()> {
        let health = self.health;
        wait::until(PATIENCE, "Flux's controller to be up", || {
            let obituary = self.process.obituary();
            async move {
                match obituary {
                    Some(text) => wait::Seen::Never(text),
                    None => match tokio::net::TcpStream::connect(("127.0.0.1", health)).await {
                        Ok(_) => wait::Seen::Done(()),
                        Err(error) => wait::Seen::NotYet(error.to_string()),
                    },
                }
            }
        })
        .await?;
        Ok(())
    }

    /// `flux bootstrap`: the root's own objects are applied by hand, and what is in Git from then on by itself.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn bootstrap(&mut self, cluster: &str, commit: &str, content: &Content) -> Result<()> {
        for (file, text) in content.under(&format!("clusters/{cluster}/flux-system")) {
            for object in objects(text).with_context(|| format!("read {file}"))? {
                if object["apiVersion"].as_str().is_some_and(|api| !api.starts_with("kustomize.config.k8s.io")) {
                    apply(&self.client, &object, "flux").await.with_context(|| format!("apply {file}"))?;
                }
            }
        }
        self.pull(commit, content).await
    }

    /// Makes the source alone, without a root.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn follow(&self) -> Result<()> {
        let source = json!({
            "apiVersion": format!("{SOURCES}/v1"), "kind": "GitRepository",
            "metadata": {"name": SOURCE, "namespace": NAMESPACE},
            "spec": {"interval": "10m", "ref": {"branch": "main"}, "url": "https://git.example.com/fleet.git"},
        });
        apply(&self.client, &source, "flux").await
    }

    /// Applies a Kustomization by hand, as `flux create` does.
    ///
    /// # Errors
    /// The API server refuses, or it is none.
    pub async fn create(&self, text: &str) -> Result<()> {
        let kustomization = serde_saphyr::from_str(text).context("read the Kustomization")?;
        apply(&self.client, &kustomization, "flux").await
    }

    /// From now on this is what Git holds.
    ///
    /// # Errors
    /// No archive can be made of it, or the API server refuses.
    pub async fn pull(&mut self, commit: &str, content: &Content) -> Result<()> {
        let artifact = self.artifacts.publish(&format!("main@sha1:{commit}"), content).await?;
        let sources = api_of(&self.client, SOURCES, "GitRepository", "gitrepositories");
        let generation = sources.get(SOURCE).await.context("read the GitRepository")?.metadata.generation;
        let status = json!({"status": {
            "artifact": artifact,
            "observedGeneration": generation,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact",
                "lastTransitionTime": artifact["lastUpdateTime"], "observedGeneration": generation,
            }],
        }});
        let params = PatchParams { field_manager: Some("source-controller".into()), ..PatchParams::default() };
        sources.patch_status(SOURCE, &params, &Patch::Merge(status)).await.context("name the artifact")?;
        Ok(())
    }

    /// `flux reconcile kustomization`: it looks at this unit now.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn reconcile(&mut self, unit: &str) -> Result<()> {
        self.serial += 1;
        let annotation =
            json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": self.serial.to_string()}}});
        self.patch(unit, annotation).await
    }

    /// `flux suspend kustomization`, or `flux resume kustomization`, by hand.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn suspend(&self, unit: &str, suspend: bool) -> Result<()> {
        self.patch(unit, json!({"spec": {"suspend": suspend}})).await
    }

    async fn patch(&self, unit: &str, patch: Value) -> Result<()> {
        let params = PatchParams { field_manager: Some("flux".into()), ..PatchParams::default() };
        let api = api_of(&self.client, GROUP, "Kustomization", "kustomizations");
        api.patch(unit, &params, &Patch::Merge(patch)).await.with_context(|| format!("patch Kustomization {unit}"))?;
        Ok(())
    }

    /// It stands still until [`Flux::resume`].
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP).context("stop Flux's controller")
    }

    /// It goes on.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT).context("let Flux's controller go on")
    }

    /// Which it is, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self, lines: usize) -> String {
        self.process.tail(lines)
    }

    /// `Ready` of every Kustomization whose name begins so, with the revision it was last applied at.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn ready(&self, prefix: &str) -> Result<BTreeMap<String, (bool, String)>> {
        let api = api_of(&self.client, GROUP, "Kustomization", "kustomizations");
        let all = api.list(&ListParams::default()).await.context("list the Kustomizations")?;
        let mut ready = BTreeMap::new();
        for one in all.items {
            let name = one.metadata.name.clone().unwrap_or_default();
            if name.starts_with(prefix) {
                let conditions = one.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
                let is = conditions.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
                let revision = one.data.pointer("/status/lastAppliedRevision").and_then(Value::as_str);
                ready.insert(name, (is, revision.unwrap_or_default().to_owned()));
            }
        }
        Ok(ready)
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn stop(mut self) -> Result<()> {
        self.process.stop(GRACE).await.context("end Flux's controller")?;
        Ok(())
    }
}

/// Makes the definitions of Flux's kinds, as its installation does.
///
/// # Errors
/// The API server refuses, or does not serve the kinds in time.
pub async fn define_all(client: &Client, tools: &Tools) -> Result<()> {
    for file in tools.flux_definitions()? {
        define(client, &file).await.with_context(|| format!("define {}", file.display()))?;
    }
    Ok(())
}

/// What a suspended Kustomization leaves in a cluster: its objects as the controller applied them, and itself with their list.
///
/// # Errors
/// The API server refuses.
pub async fn leave_suspended(client: &Client, name: &str, revision: &str, objects: &[Value]) -> Result<()> {
    let mut entries = Vec::new();
    for object in objects {
        let mut object = object.clone();
        object["metadata"]["labels"][marks::FLUX_OWNER_NAME] = name.into();
        object["metadata"]["labels"][marks::FLUX_OWNER_NAMESPACE] = NAMESPACE.into();
        apply(client, &object, MANAGER).await?;
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let id = format!("{}_{}_{group}_{}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"));
        entries.push(json!({"id": id, "v": "v1"}));
    }
    let kustomization = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Kustomization",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "interval": "10m", "path": "./", "prune": true, "suspend": true,
            "sourceRef": {"kind": "GitRepository", "name": SOURCE},
        },
    });
    apply(client, &kustomization, "flux").await?;
    let api = api_of(client, GROUP, "Kustomization", "kustomizations");
    let generation = api.get(name).await?.metadata.generation;
    let status = json!({"status": {
        "observedGeneration": generation, "lastAppliedRevision": revision, "inventory": {"entries": entries},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": format!("Applied revision: {revision}"),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Merge(status)).await.context("tell what Flux had applied")?;
    Ok(())
}

async fn define(client: &Client, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).context("read it")?;
    let [definition] = &objects(&text)?[..] else { bail!("it is not one object") };
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    apply(client, definition, "flux").await?;
    let served = api_of(client, text("/spec/group"), text("/spec/names/kind"), text("/spec/names/plural"));
    wait::until(PATIENCE, format!("{} to be served", text("/spec/names/kind")), || async {
        served.list(&ListParams::default()).await.map(drop).map_err(anyhow::Error::from)
    })
    .await?;
    Ok(())
}

/// An API of Flux's, in its namespace, in the version that its definitions store.
fn api_of(client: &Client, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::from_gvk_with_plural(&kind, plural))
}

fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    documents.map(|part| serde_saphyr::from_str(part).map_err(anyhow::Error::from)).collect()
}

async fn apply(client: &Client, object: &Value, manager: &str) -> Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let name = text("/metadata/name");
    api.patch(name, &PatchParams::apply(manager).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("apply {} {name}", text("/kind")))?;
    Ok(())
}
