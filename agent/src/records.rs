//! The inventory's shards as ConfigMaps: read whole at start, written with compare-and-swap.

use std::collections::BTreeMap;

use driftless_protocol::marks;
use driftless_reconcile::inventory::{DATA_KEY, shard_name};
use driftless_reconcile::step::ShardWrite;
use serde_json::{Value, json};

use crate::cluster::api::{Actor, Api, ApiError, config_maps};

/// Marks the ConfigMaps that are inventory shards.
const RECORD_LABEL: &str = "driftless.dev/record";
const RECORD: &str = "inventory";

/// The stored shards and the versions they were read or written at.
#[derive(Clone, Debug)]
pub struct Records {
    api: Api,
    versions: BTreeMap<u32, String>,
}

impl Records {
    /// Reads every shard: `(number, text)`. A ConfigMap without the expected key gives an empty text, which the engine
    /// reports as damaged.
    pub async fn load(api: Api) -> Result<(Self, Vec<(u32, String)>), ApiError> {
        let selector = format!("{RECORD_LABEL}={RECORD}");
        let maps = api.list(&Actor::Agent, &config_maps(), marks::AGENT_NAMESPACE, &selector).await?;
        let mut versions = BTreeMap::new();
        let mut shards = Vec::with_capacity(maps.len());
        for map in maps {
            let text = |pointer: &str| map.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let name = text("/metadata/name");
            let Some(number) = name.rsplit('-').next().and_then(|n| n.parse().ok()) else { continue };
            if name != shard_name(number) {
                continue;
            }
            versions.insert(number, text("/metadata/resourceVersion").to_owned());
            let data = map.get("data").and_then(|d| d.get(DATA_KEY)).and_then(Value::as_str);
            shards.push((number, data.unwrap_or_default().to_owned()));
        }
        Ok((Self { api, versions }, shards))
    }

    /// Writes these shards in order, stopping at the first that fails. A conflict means that another pod wrote: this one
    /// must not go on with what it believes.
    pub async fn write(&mut self, shards: &[ShardWrite]) -> Result<(), ApiError> {
        for shard in shards {
            self.write_one(shard).await?;
        }
        Ok(())
    }

    async fn write_one(&mut self, shard: &ShardWrite) -> Result<(), ApiError> {
        let name = shard_name(shard.shard);
        let resource = config_maps();
        let known = self.versions.get(&shard.shard).cloned();
        let Some(text) = &shard.text else {
            if let Some(version) = known {
                let live = self.api.get(&Actor::Agent, &resource, marks::AGENT_NAMESPACE, &name).await?;
                let uid = live.as_ref().and_then(|l| l.pointer("/metadata/uid")).and_then(Value::as_str);
                if let Some(uid) = uid {
                    let namespace = marks::AGENT_NAMESPACE;
                    self.api.delete(&Actor::Agent, &resource, namespace, &name, uid, Some(&version)).await?;
                }
                self.versions.remove(&shard.shard);
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
        if let Some(version) = written.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
            self.versions.insert(shard.shard, version.to_owned());
        }
        Ok(())
    }
}
