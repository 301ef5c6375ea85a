//! Plays scheduler and kubelet: makes pods ready, or lets them fail in the ways that pods fail.
//!
//! A ReplicaSet counts a pod as ready by its Ready condition alone, and nothing in the API demands that a pod has a
//! node, so a patch of the pod's status is all it takes for Deployments, StatefulSets and Jobs to finish. DaemonSets
//! want nodes: [`add_nodes`].
//!
//! Pods are not bound to nodes: without a node a deleted pod goes at once, as there is no kubelet to end it. The price
//! is that Services get no endpoints, which the endpoint controller makes for bound pods only.

mod status;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Patches under way at once: enough for a large rollout, no flood.
const PARALLEL: usize = 32;
/// Pause before a refused patch is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long one patch may take.
const PATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Running and ready.
    Ready,
    /// Running, but its readiness probe never succeeds.
    NeverReady,
    /// Its container exits again and again.
    CrashLoop,
    /// Its image cannot be pulled.
    BadImage,
    /// Ends with exit code 0.
    Succeeds,
    /// Ends with exit code 1.
    Fails,
}

/// Which pods a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Pods with this label and value.
    Label(String, String),
    /// Pods of which a container's image contains this text.
    Image(String),
}

impl Which {
    fn is(&self, pod: &Pod) -> bool {
        match self {
            Self::Label(key, value) => pod.labels().get(key) == Some(value),
            Self::Image(part) => pod
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .any(|container| container.image.as_deref().is_some_and(|image| image.contains(part))),
        }
    }
}

/// How pods are treated.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// From the moment a pod is seen until its status changes.
    pub delay: Duration,
    /// The first rule that fits decides. Without one, pods of Jobs succeed and all others become ready.
    pub fates: Vec<(Which, Fate)>,
}

impl Rules {
    fn fate(&self, pod: &Pod) -> Fate {
        let of_a_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
        let usual = if of_a_job { Fate::Succeeds } else { Fate::Ready };
        self.fates.iter().find(|(which, _)| which.is(pod)).map_or(usual, |(_, fate)| *fate)
    }
}

/// A running ready-maker; ends when dropped.
#[derive(Debug)]
pub struct ReadyMaker {
    rules: watch::Sender<Arc<Rules>>,
    task: AbortOnDropHandle<()>,
}

impl ReadyMaker {
    /// Starts to treat all pods of a cluster. Survives restarts of the API server.
    pub fn start(client: Client, rules: Rules) -> Self {
        let (rules, current) = watch::channel(Arc::new(rules));
        Self { rules, task: AbortOnDropHandle::new(tokio::spawn(run(client, current))) }
    }

    /// Changes the rules, for pods that exist too: a pod can become unready, or get well.
    pub fn set(&self, rules: Rules) {
        self.rules.send_replace(Arc::new(rules));
    }

    /// Stops; returns when nothing is patched any more.
    pub async fn stop(self) {
        self.task.abort();
        // An aborted task ends with an error that says so.
        drop(self.task.await);
    }
}

/// Looks at all pods under the current rules; begins again when the rules change.
async fn run(client: Client, mut rules: watch::Receiver<Arc<Rules>>) {
    loop {
        let current = rules.borrow_and_update().clone();
        tokio::select! {
            () = treat_all(client.clone(), current) => {}
            changed = rules.changed() => if changed.is_err() { return },
        }
    }
}

/// Treats pods as they come. Ends only if the watch does, which it does not.
async fn treat_all(client: Client, rules: Arc<Rules>) {
    let mut events = pin!(watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff());
    let room = Arc::new(Semaphore::new(PARALLEL));
    let mut under_way = HashSet::new();
    let mut patches = JoinSet::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                    let Some(uid) = pod.uid() else { continue };
                    if status::change(&pod, rules.fate(&pod)).is_some() && under_way.insert(uid.clone()) {
                        let (client, rules, room) = (client.clone(), Arc::clone(&rules), Arc::clone(&room));
                        patches.spawn(async move {
                            treat(client, pod, &rules, &room).await;
                            uid
                        });
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(%error, "watch of pods interrupted"),
                None => return,
            },
            Some(done) = patches.join_next(), if !patches.is_empty() => match done {
                Ok(uid) => drop(under_way.remove(&uid)),
                Err(error) => tracing::warn!(%error, "treating a pod failed"),
            },
        }
    }
}

/// Waits its time, then patches one pod until the patch is accepted or the pod is gone.
async fn treat(client: Client, pod: Pod, rules: &Rules, room: &Semaphore) {
    tokio::time::sleep(rules.delay).await;
    let Some(patch) = status::change(&pod, rules.fate(&pod)) else { return };
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let (options, patch) = (PatchParams::default(), Patch::Merge(&patch));
    loop {
        let Ok(_permit) = room.acquire().await else { return };
        let sent = pods.patch_status(&name, &options, &patch);
        match tokio::time::timeout(PATCH_TIMEOUT, sent).await {
            Ok(Ok(_)) => return,
            // Gone, or another pod under the same name: the uid in the patch is a precondition.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 422) => return,
            Ok(Err(error)) => tracing::debug!(namespace, name, %error, "status of a pod not accepted"),
            Err(_) => tracing::debug!(namespace, name, "status of a pod not answered in time"),
        }
        // The permit is kept meanwhile: an API server in trouble gets fewer requests, not more.
        tokio::time::sleep(RETRY).await;
    }
}

/// Adds `count` ready nodes named `node-0`, `node-1`, ... that exist on paper only. Those that exist stay.
///
/// # Errors
/// The API server refuses.
pub async fn add_nodes(client: Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    for name in (0..count).map(|n| format!("node-{n}")) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}
        }))?;
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error).with_context(|| format!("create node {name}")),
        }
        // Admission taints every new node as not ready, and nobody here would take that away.
        let untaint = Patch::Merge(json!({"spec": {"taints": null}}));
        nodes.patch(&name, &PatchParams::default(), &untaint).await.with_context(|| format!("untaint node {name}"))?;
        let ready = Patch::Merge(status::of_a_node());
        nodes
            .patch_status(&name, &PatchParams::default(), &ready)
            .await
            .with_context(|| format!("status of {name}"))?;
    }
    Ok(())
}
