//! One watch per kind that the agent owns objects of, read as the applier.
//!
//! Events pass through one bounded channel to the engine, which folds each and keeps no object. A watch that fails goes
//! on trying with growing pauses and says so; it never ends the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::marks;
use futures::StreamExt;
use kube::api::Api;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::api::{Resource, chain};
use super::text::ObjectText;

/// Objects per page of the first list: bounds the memory of a start.
const PAGE: u32 = 100;

/// What a watch saw.
#[derive(Debug)]
pub enum Seen {
    /// A list begins: what it does not name is gone when it ends.
    ListBegins(Arc<Resource>),
    /// An object as it is now; `listed` while a list is under way.
    Object {
        /// Its kind.
        resource: Arc<Resource>,
        /// Its text.
        object: ObjectText,
    },
    /// The list is complete.
    ListEnds(Arc<Resource>),
    /// An object is gone (or lost our label).
    Gone {
        /// Its kind.
        resource: Arc<Resource>,
        /// Its text as it was last.
        object: ObjectText,
    },
    /// The API server is behind what was seen of it: its store was restored from a snapshot.
    WentBack(Arc<Resource>),
    /// The watch cannot be kept for now.
    Failing {
        /// The kind.
        resource: Arc<Resource>,
        /// What the API server says.
        message: String,
        /// It said no: no right to.
        refused: bool,
    },
}

/// What to select.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selection {
    /// Objects that carry our unit label.
    Owned,
    /// Objects that carry Flux's owner label: what a shadow compares with.
    Flux,
    /// All objects of the kind (autoscalers, CustomResourceDefinitions).
    All,
}

/// The running watches.
pub struct Watches {
    client: kube::Client,
    seen: mpsc::Sender<Seen>,
    running: BTreeMap<(String, String), (Resource, Selection, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Watches made with `client` (which impersonates the applier), reporting to `seen`.
    #[must_use]
    pub fn new(client: kube::Client, seen: mpsc::Sender<Seen>) -> Self {
        Self { client, seen, running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Makes exactly these kinds watched. A kind whose version changed is watched anew.
    pub fn set(&mut self, wanted: &[(Resource, Selection)]) {
        let keep: BTreeMap<(String, String), &(Resource, Selection)> =
            wanted.iter().map(|w| ((w.0.group.clone(), w.0.kind.clone()), w)).collect();
        self.running.retain(|key, (resource, selection, task)| {
            let stays = keep.get(key).is_some_and(|(r, s)| r == resource && s == selection);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, (resource, selection)) in keep {
            if self.running.contains_key(&key) {
                continue;
            }
            let task = self.tasks.spawn(run(self.client.clone(), resource.clone(), *selection, self.seen.clone()));
            self.running.insert(key, (resource.clone(), *selection, task));
        }
        // Reap what was aborted, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Begins the watch of a kind anew, with a fresh list. A kind that is not watched stays so.
    pub fn relist(&mut self, group: &str, kind: &str) {
        let key = (group.to_owned(), kind.to_owned());
        let Some((resource, selection, task)) = self.running.get_mut(&key) else { return };
        task.abort();
        *task = self.tasks.spawn(run(self.client.clone(), resource.clone(), *selection, self.seen.clone()));
        while self.tasks.try_join_next().is_some() {}
    }

    /// Stops all watches and waits until they are gone.
    pub async fn stop(&mut self) {
        self.running.clear();
        self.tasks.shutdown().await;
    }
}

async fn run(client: kube::Client, resource: Resource, selection: Selection, seen: mpsc::Sender<Seen>) {
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    let api: Api<ObjectText> = Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, &resource.plural));
    let mut config = watcher::Config::default().page_size(PAGE);
    match selection {
        Selection::Owned => config = config.labels(marks::UNIT_LABEL),
        Selection::Flux => config = config.labels(marks::FLUX_OWNER_NAME),
        Selection::All => {}
    }
    let resource = Arc::new(resource);
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        let message = match event {
            Ok(Event::Init) => Seen::ListBegins(resource.clone()),
            Ok(Event::InitApply(object) | Event::Apply(object)) => Seen::Object { resource: resource.clone(), object },
            Ok(Event::InitDone) => Seen::ListEnds(resource.clone()),
            Ok(Event::Delete(object)) => Seen::Gone { resource: resource.clone(), object },
            Err(e) if too_large(&e) => Seen::WentBack(resource.clone()),
            Err(e) => Seen::Failing { resource: resource.clone(), message: chain(&e), refused: refused(&e) },
        };
        // A full channel makes the watch wait: the API server buffers, and at worst cuts it off, which lists anew.
        if seen.send(message).await.is_err() {
            return;
        }
    }
}

/// What the API server answered, where it did.
fn answer(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// The API server answered, and said no.
pub(crate) fn refused(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|status| matches!(status.code, 401 | 403))
}

/// A watch was to begin at a version the API server does not have yet. It would wait for it, perhaps for days.
fn too_large(error: &watcher::Error) -> bool {
    answer(error).is_some_and(|status| status.message.contains("Too large resource version"))
}
