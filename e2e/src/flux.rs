//! Plays Flux's kustomize-controller, as far as another GitOps tool in the same cluster can tell: applies with its field
//! manager and by force, sets its owner labels, keeps `status.inventory` and prunes by it, honours `spec.suspend` and says what
//! it has seen in `status.observedGeneration`.
//!
//! The definitions are our own and minimal: any field passes, the status is a subresource. What a path holds is told by the
//! test and not built: plain files without a kustomization file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use driftless_protocol::marks;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::world::Content;

/// The field manager of Flux's kustomize-controller.
pub const MANAGER: &str = "kustomize-controller";
const GROUP: &str = "kustomize.toolkit.fluxcd.io";
const SOURCES: &str = "source.toolkit.fluxcd.io";
/// How often it looks at everything; the real one is woken by events.
const EVERY: Duration = Duration::from_millis(300);

/// Kinds it can apply: group, version, kind, plural, whether they live in namespaces.
const KINDS: [(&str, &str, &str, &str, bool); 6] = [
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Service", "services", true),
    ("apps", "v1", "Deployment", "deployments", true),
    (GROUP, "v1", "Kustomization", "kustomizations", true),
    (SOURCES, "v1", "GitRepository", "gitrepositories", true),
];

/// What Git holds, as this Flux sees it.
#[derive(Debug, Default)]
struct Seen {
    revision: String,
    content: Content,
    paused: bool,
    /// Units it does not come to, unless they are suspended.
    held: BTreeSet<String>,
}

/// A running kustomize-controller. Dropping it ends it.
pub struct Flux {
    client: Client,
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Flux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flux").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Flux {
    /// Makes the definitions and starts.
    ///
    /// # Errors
    /// The API server refuses, or does not serve the kinds in time.
    pub async fn start(client: Client) -> Result<Self> {
        for (group, kind, plural) in
            [(GROUP, "Kustomization", "kustomizations"), (SOURCES, "GitRepository", "gitrepositories")]
        {
            define(&client, group, kind, plural).await.with_context(|| format!("define {kind}"))?;
        }
        let seen = Arc::new(Mutex::new(Seen { paused: true, ..Seen::default() }));
        let task = tokio::spawn(run(client.clone(), seen.clone()));
        Ok(Self { client, seen, _task: AbortOnDropHandle::new(task) })
    }

    /// `flux bootstrap`: the root's own objects are applied by hand, and what is in Git from then on by itself.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn bootstrap(&self, cluster: &str, commit: &str, content: &Content) -> Result<()> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
        apply(&self.client, &namespace, "flux").await?;
        self.pull(commit, content);
        for object in objects(content, &format!("./clusters/{cluster}/flux-system"))? {
            apply(&self.client, &object, "flux").await?;
        }
        self.resume();
        Ok(())
    }

    /// From now on this is what Git holds.
    pub fn pull(&self, commit: &str, content: &Content) {
        let mut seen = self.seen();
        seen.revision = format!("main@sha1:{commit}");
        seen.content = content.clone();
    }

    /// It does nothing until [`Flux::resume`].
    pub fn pause(&self) {
        self.seen().paused = true;
    }

    /// It goes on.
    pub fn resume(&self) {
        self.seen().paused = false;
    }

    /// It does not come to this unit for now, as when its queue is long; a suspend is seen all the same.
    pub fn hold(&self, unit: &str, hold: bool) {
        let mut seen = self.seen();
        if hold {
            seen.held.insert(unit.to_owned());
        } else {
            seen.held.remove(unit);
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn define(client: &Client, group: &str, kind: &str, plural: &str) -> Result<()> {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
            }],
        },
    });
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.patch(&format!("{plural}.{group}"), &PatchParams::apply("flux").force(), &Patch::Apply(&definition)).await?;
    let served = kustomizations_like(client, group, kind, plural);
    crate::wait::until(Duration::from_secs(30), format!("{kind} to be served"), || async {
        served.list(&ListParams::default()).await.map(drop).map_err(anyhow::Error::from)
    })
    .await?;
    Ok(())
}

fn kustomizations_like(client: &Client, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural))
}

async fn run(client: Client, seen: Arc<Mutex<Seen>>) {
    let kustomizations = kustomizations_like(&client, GROUP, "Kustomization", "kustomizations");
    loop {
        tokio::time::sleep(EVERY).await;
        let Ok(all) = kustomizations.list(&ListParams::default()).await else { continue };
        for one in all.items {
            let name = one.name_any();
            if let Err(error) = reconcile(&client, &seen, one).await {
                tracing::debug!(kustomization = name, error = format!("{error:#}"), "Flux could not reconcile");
            }
        }
    }
}

async fn reconcile(client: &Client, seen: &Mutex<Seen>, one: DynamicObject) -> Result<()> {
    let (revision, content, held) = {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.paused {
            return Ok(());
        }
        (seen.revision.clone(), seen.content.clone(), seen.held.contains(&one.name_any()))
    };
    let generation = one.metadata.generation.unwrap_or_default();
    let mut status = one.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let before = status.clone();
    if one.data.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        // What it says of its last work stays; what it has seen is told only where that was good.
        if status.pointer("/conditions/0/status").and_then(Value::as_str) == Some("True") {
            status["observedGeneration"] = generation.into();
        }
    } else if held {
        return Ok(());
    } else {
        let path = one.data.pointer("/spec/path").and_then(Value::as_str).context("a path")?;
        let namespace = one.data.pointer("/spec/targetNamespace").and_then(Value::as_str);
        let (mut entries, mut failure) = (BTreeMap::new(), None);
        for mut object in objects(&content, path)? {
            own(&mut object, &one, namespace);
            // A missing namespace holds up what is in it, and nothing else.
            match apply(client, &object, MANAGER).await {
                Ok(()) => drop(entries.insert(id(&object), object)),
                Err(error) => failure = Some(format!("{error:#}")),
            }
        }
        if failure.is_none() && one.data.pointer("/spec/prune").and_then(Value::as_bool) == Some(true) {
            prune(client, &one, &before, &entries).await?;
        }
        let ready = if failure.is_none() { "True" } else { "False" };
        let ids: Vec<Value> = entries.keys().map(|id| json!({"id": id, "v": "v1"})).collect();
        let message = failure.clone().unwrap_or_else(|| format!("Applied revision: {revision}"));
        status["observedGeneration"] = generation.into();
        status["conditions"] = json!([{"type": "Ready", "status": ready, "reason": "x", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        if failure.is_none() {
            status["lastAppliedRevision"] = revision.into();
            status["inventory"] = json!({ "entries": ids });
        }
    }
    if status == before {
        return Ok(());
    }
    let kind = GroupVersionKind::gvk(GROUP, "v1", "Kustomization");
    let resource = ApiResource::from_gvk_with_plural(&kind, "kustomizations");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &one.namespace().unwrap_or_default(), &resource);
    let patch = json!({ "status": status });
    api.patch_status(
        &one.name_any(),
        &PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() },
        &Patch::Merge(patch),
    )
    .await?;
    Ok(())
}

/// The objects of all files below a path.
fn objects(content: &Content, path: &str) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for (file, text) in content.under(path.trim_start_matches("./")) {
        for part in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(part).with_context(|| format!("read {file}"))?;
            let api = object["apiVersion"].as_str().unwrap_or_default();
            if !api.starts_with("kustomize.config.k8s.io") {
                out.push(object);
            }
        }
    }
    // Namespaces first, as Flux does.
    out.sort_by_key(|object| object["kind"] != "Namespace");
    Ok(out)
}

fn own(object: &mut Value, unit: &DynamicObject, namespace: Option<&str>) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let namespaced = KINDS.iter().any(|known| known.2 == kind && known.4);
    if let Some(namespace) = namespace.filter(|_| namespaced) {
        object["metadata"]["namespace"] = namespace.into();
    }
    object["metadata"]["labels"][marks::FLUX_OWNER_NAME] = unit.name_any().into();
    object["metadata"]["labels"][marks::FLUX_OWNER_NAMESPACE] = unit.namespace().unwrap_or_default().into();
}

fn resource_of(group: &str, kind: &str) -> Result<(ApiResource, bool)> {
    let known = KINDS.iter().find(|known| known.0 == group && known.2 == kind);
    let Some((group, version, kind, plural, namespaced)) = known else {
        bail!("this Flux does not know {kind}.{group}")
    };
    Ok((ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural), *namespaced))
}

fn api_of(client: &Client, group: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
    let (resource, namespaced) = resource_of(group, kind)?;
    Ok(match namespaced {
        true => Api::namespaced_with(client.clone(), namespace, &resource),
        false => Api::all_with(client.clone(), &resource),
    })
}

async fn apply(client: &Client, object: &Value, manager: &str) -> Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = driftless_protocol::object::group_of(text("/apiVersion"));
    let api = api_of(client, group, text("/kind"), text("/metadata/namespace"))?;
    api.patch(text("/metadata/name"), &PatchParams::apply(manager).force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// `namespace_name_group_kind`.
fn id(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = driftless_protocol::object::group_of(text("/apiVersion"));
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name").replace(':', "__"));
    format!("{namespace}_{name}_{group}_{}", text("/kind"))
}

/// Deletes what the inventory has and Git has not, if it is still this unit's.
async fn prune(client: &Client, unit: &DynamicObject, status: &Value, now: &BTreeMap<String, Value>) -> Result<()> {
    let old = status.pointer("/inventory/entries").and_then(Value::as_array);
    for id in old.into_iter().flatten().filter_map(|entry| entry["id"].as_str()).filter(|id| !now.contains_key(*id)) {
        let parts: Vec<&str> = id.split('_').collect();
        let [namespace, name, group, kind] = parts[..] else { bail!("an odd id {id}") };
        let api = api_of(client, group, kind, namespace)?;
        let Some(live) = api.get_opt(name).await? else { continue };
        let owner = |label: &str| live.labels().get(label).cloned().unwrap_or_default();
        if owner(marks::FLUX_OWNER_NAME) == unit.name_any() {
            api.delete(name, &kube::api::DeleteParams::background()).await?;
        }
    }
    Ok(())
}
