//! What we own in the cluster, and how it is written down.
//!
//! One set for the whole cluster; the unit is a field of the entry, so a move between units is one edit. Stored as
//! ConfigMaps, sharded by the hash of the object key. A shard that is missing or damaged is an error, and never a smaller
//! inventory: without the whole of it nothing is pruned.

/// Name of the ConfigMap of a shard.
#[must_use]
pub fn shard_name(shard: u32) -> String {
    format!("driftless-inventory-{shard}")
}

/// The key of a shard's text in its ConfigMap.
pub const DATA_KEY: &str = "inventory";
