//! Reads the ConfigMaps and Secrets that units take variables from, and tells when one changes.
//!
//! One watch of one object each, as the account of its unit. Where that account may not watch, the object is read now and
//! then instead. Nothing is kept here; values are wiped from memory where they are copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::bundle::{LateKind, ServiceAccount};
use driftless_reconcile::fill::{InputData, InputState};
use driftless_reconcile::input::InputRef;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use zeroize::{Zeroize, Zeroizing};

use crate::cluster::api::{account_user, chain, connect};
use crate::cluster::watch::refused;

/// Inputs watched at once; what is beyond is not read, and its units say so. Each is a request the API server holds open.
const MOST: usize = 512;
/// How often an object is read that may not be watched.
const POLL: Duration = Duration::from_secs(15);

/// What is known of an input.
#[derive(Debug)]
pub struct InputSeen {
    /// Which.
    pub input: InputRef,
    /// How it stands.
    pub state: InputState,
}

/// The inputs being watched.
pub struct Inputs {
    config: kube::Config,
    applier: ServiceAccount,
    seen: mpsc::Sender<InputSeen>,
    /// A connection per account.
    clients: BTreeMap<ServiceAccount, kube::Client>,
    running: BTreeMap<InputRef, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Inputs {
    /// Nothing is watched yet. `config` connects as the agent, and every request impersonates.
    #[must_use]
    pub fn new(config: kube::Config, applier: ServiceAccount, seen: mpsc::Sender<InputSeen>) -> Self {
        Self { config, applier, seen, clients: BTreeMap::new(), running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Makes exactly these watched; answers those that cannot be.
    pub fn set(&mut self, wanted: &BTreeSet<InputRef>) -> Vec<InputSeen> {
        self.running.retain(|input, task| {
            let stays = wanted.contains(input);
            if !stays {
                task.abort();
            }
            stays
        });
        let accounts: BTreeSet<&ServiceAccount> =
            wanted.iter().map(|input| input.account.as_ref().unwrap_or(&self.applier)).collect();
        self.clients.retain(|account, _| accounts.contains(account));
        let mut refused = Vec::new();
        for input in wanted {
            if self.running.contains_key(input) {
                continue;
            }
            if self.running.len() >= MOST {
                let why = format!("the agent watches at most {MOST} of them");
                refused.push(InputSeen { input: input.clone(), state: InputState::Failed(why) });
                continue;
            }
            match self.client(input.account.as_ref()) {
                Ok(client) => {
                    let task = self.tasks.spawn(run(client, input.clone(), self.seen.clone()));
                    self.running.insert(input.clone(), task);
                }
                Err(error) => {
                    refused.push(InputSeen { input: input.clone(), state: InputState::Failed(chain(&error)) });
                }
            }
        }
        // Reap what was aborted, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
        refused
    }

    fn client(&mut self, account: Option<&ServiceAccount>) -> Result<kube::Client, kube::Error> {
        let account = account.unwrap_or(&self.applier).clone();
        if let Some(client) = self.clients.get(&account) {
            return Ok(client.clone());
        }
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(account_user(&account));
        let client = connect(config)?;
        self.clients.insert(account, client.clone());
        Ok(client)
    }

    /// Stops all and waits until they are gone.
    pub async fn stop(&mut self) {
        self.running.clear();
        self.tasks.shutdown().await;
    }
}

async fn run(client: kube::Client, input: InputRef, seen: mpsc::Sender<InputSeen>) {
    match input.kind {
        LateKind::ConfigMap => watch(Api::namespaced(client, &input.namespace), input, seen, of_config_map).await,
        LateKind::Secret => watch(Api::namespaced(client, &input.namespace), input, seen, of_secret).await,
    }
}

/// Until the driver is gone.
async fn watch<K>(api: Api<K>, input: InputRef, seen: mpsc::Sender<InputSeen>, read: fn(K) -> InputData)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let state = |object: Option<K>| match object {
        Some(object) => InputState::Found(Arc::new(read(object))),
        None => InputState::Missing,
    };
    let mut events = std::pin::pin!(watch_object(api.clone(), &input.name).default_backoff());
    while let Some(event) = events.next().await {
        let state = match event {
            Ok(object) => state(object),
            Err(error) if refused(&error) => {
                // It may be read by name all the same.
                let state = match api.get_opt(&input.name).await {
                    Ok(object) => state(object),
                    Err(error) => InputState::Failed(chain(&error)),
                };
                if seen.send(InputSeen { input: input.clone(), state }).await.is_err() {
                    return;
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            // An API server that is away changes nothing about what is known.
            // The words of an answer that cannot be read might quote it, so they are not logged.
            Err(_) => {
                tracing::debug!(kind = %input.kind, name = input.name, "cannot watch an input; trying again");
                continue;
            }
        };
        if seen.send(InputSeen { input: input.clone(), state }).await.is_err() {
            return;
        }
    }
}

fn of_config_map(map: ConfigMap) -> InputData {
    let values = map.data.unwrap_or_default().into_iter().map(|(name, value)| (name, Zeroizing::new(value)));
    InputData { values: values.collect(), ..InputData::default() }
}

fn of_secret(secret: Secret) -> InputData {
    let mut data = InputData::default();
    for (name, bytes) in secret.data.unwrap_or_default() {
        match String::from_utf8(bytes.0) {
            Ok(text) => {
                data.values.insert(name, Zeroizing::new(text));
            }
            Err(error) => {
                error.into_bytes().zeroize();
                data.not_text.insert(name);
            }
        }
    }
    data
}
