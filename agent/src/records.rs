//! The inventory's shards as ConfigMaps: read whole at start, written with compare-and-swap.

use std::collections::BTreeMap;

use driftless_protocol::id::Digest;
use driftless_protocol::marks;
use driftless_reconcile::inventory::{DATA_KEY, shard_name};
use driftless_reconcile::step::ShardWrite;
use serde_json::{Value, json};

use crate::cluster::api::{Actor, Api, ApiError, config_maps};

/// Marks the ConfigMaps that are inventory shards.
const RECORD_LABEL: &str = "driftless.dev/record";
const RECORD: &str = "inventory";

/// What is known of a stored shard.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The version it was read or written at; `None`: not there.
    version: Option<String>,
    /// The text it has at that version.
    text: Option<Digest>,
    /// Texts that were sent since and not answered: each may have been stored.
    doubts: Vec<Digest>,
}

/// How many unanswered writes are remembered; more make the same trouble as another writer, and the same cure.
const MOST_DOUBTS: usize = 16;

/// Why a shard was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The request failed, or nobody knows.
    Api(ApiError),
    /// Somebody else wrote it: what this pod believes is not what is stored.
    Raced(String),
}

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// The stored shards and the versions they were read or written at.
#[derive(Clone, Debug)]
pub struct Records {
    api: Api,
    known: BTreeMap<u32, Known>,
}

impl Records {
    /// Reads every shard: `(number, text)`. A ConfigMap without the expected key gives an empty text, which the engine
    /// reports as damaged.
    pub async fn load(api: Api) -> Result<(Self, Vec<(u32, String)>), ApiError> {
        let selector = format!("{RECORD_LABEL}={RECORD}");
        let maps = api.list(&Actor::Agent, &config_maps(), marks::AGENT_NAMESPACE, &selector).await?;
        let mut known = BTreeMap::new();
        let mut shards = Vec::with_capacity(maps.len());
        for map in maps {
            let text = |pointer: &str| map.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let name = text("/metadata/name");
            let Some(number) = name.rsplit('-').next().and_then(|n| n.parse().ok()) else { continue };
            if name != shard_name(number) {
                continue;
            }
            known.insert(number, Known::of(&map));
            shards.push((number, text_of(&map).to_owned()));
        }
        Ok((Self { api, known }, shards))
    }

    /// Writes these shards in order, stopping at the first that fails.
    pub async fn write(&mut self, shards: &[ShardWrite]) -> Result<(), WriteError> {
        for shard in shards {
            self.write_one(shard).await?;
        }
        Ok(())
    }

    /// Writes one over what is known of it. A conflict that a lost answer to an own write explains is none: what is
    /// stored is ours, and is written over. Any other means that another pod wrote.
    async fn write_one(&mut self, shard: &ShardWrite) -> Result<(), WriteError> {
        let mut looked = false;
        loop {
            let error = match self.try_write(shard).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Not found: somebody deleted it, which is a write like any other.
            if !error.is_conflict() && !error.is_not_found() {
                if let Some(text) = &shard.text
                    && may_have_arrived(&error)
                {
                    let doubts = &mut self.known.entry(shard.shard).or_default().doubts;
                    doubts.push(Digest::of(text.as_bytes()));
                    doubts.drain(..doubts.len().saturating_sub(MOST_DOUBTS));
                }
                return Err(error.into());
            }
            let name = shard_name(shard.shard);
            let live = self.api.get(&Actor::Agent, &config_maps(), marks::AGENT_NAMESPACE, &name).await?;
            let known = self.known.entry(shard.shard).or_default();
            let stored = live.as_ref().map(|map| Digest::of(text_of(map).as_bytes()));
            let ours = match stored {
                None => shard.text.is_none() || known.version.is_none(),
                Some(stored) => known.text == Some(stored) || known.doubts.contains(&stored),
            };
            if !ours || looked {
                return Err(WriteError::Raced(name));
            }
            looked = true;
            let doubts = std::mem::take(&mut known.doubts);
            *known = Known { doubts, ..live.as_ref().map(Known::of).unwrap_or_default() };
        }
    }

    async fn try_write(&mut self, shard: &ShardWrite) -> Result<(), ApiError> {
        let name = shard_name(shard.shard);
        let resource = config_maps();
        let known = self.known.get(&shard.shard).and_then(|known| known.version.clone());
        let Some(text) = &shard.text else {
            if let Some(version) = known {
                let live = self.api.get(&Actor::Agent, &resource, marks::AGENT_NAMESPACE, &name).await?;
                let uid = live.as_ref().and_then(|l| l.pointer("/metadata/uid")).and_then(Value::as_str);
                if let Some(uid) = uid {
                    let namespace = marks::AGENT_NAMESPACE;
                    self.api.delete(&Actor::Agent, &resource, namespace, &name, uid, Some(&version)).await?;
                }
                self.known.remove(&shard.shard);
            }
            return Ok(());
        };
        let mut map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": marks::AGENT_NAMESPACE,
                "labels": { RECORD_LABEL: RECORD },
            },
            "data": { DATA_KEY: text },
        });
        let written = match known {
            Some(version) => {
                map["metadata"]["resourceVersion"] = version.into();
                self.api.replace(&Actor::Agent, &resource, &map).await?
            }
            None => self.api.create(&Actor::Agent, &resource, &map).await?,
        };
        self.known.insert(shard.shard, Known::of(&written));
        Ok(())
    }
}

impl Known {
    fn of(map: &Value) -> Self {
        let version = map.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        Self { version, text: Some(Digest::of(text_of(map).as_bytes())), doubts: Vec::new() }
    }
}

fn text_of(map: &Value) -> &str {
    map.get("data").and_then(|d| d.get(DATA_KEY)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a request that failed so may have been carried out.
fn may_have_arrived(error: &ApiError) -> bool {
    error.status().is_none_or(|status| status >= 500)
}
