//! Tells when the cluster may serve other kinds than before: a watch of CustomResourceDefinitions, metadata only.

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

/// Raises `changed` after every change of a CustomResourceDefinition. Never ends by itself: a watch that fails is tried
/// again with growing pauses.
pub async fn run(client: kube::Client, changed: watch::Sender<u64>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            // A list after a cut-off watch may hide changes: look again as well.
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => changed.send_modify(|n| *n += 1),
            Err(error) => tracing::warn!(%error, "cannot watch CustomResourceDefinitions; trying again"),
        }
    }
}
