//! What we own in the cluster, and how it is written down.
//!
//! One set for the whole cluster; the unit is a field of the entry, so a move between units is one edit. Stored as
//! ConfigMaps `driftless-inventory-<shard>`, sharded by the hash of the object key; the number of shards is a power of two
//! and stands in every shard. A shard that is missing or damaged is an error, and never a smaller inventory: without the
//! whole of it nothing is deleted.
//!
//! Growing from n to m shards is two steps in this order: write shards n..m (each says "of m"), then write shards 0..n
//! anew (now "of m", without what moved). A shard of the first n that still says "of n" still holds everything, so new
//! ones may be missing; where two hold an entry, the one that says "of m" is the newer. The very first write says "fresh":
//! until it is whole nothing was created by it, so its shards may be missing too.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{DeletionPolicy, ServiceAccount};
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use serde::{Deserialize, Serialize};

pub use self::text::{InventoryError, decode};
use crate::drift::Baseline;
use crate::input::Millis;
use crate::mark::Uid;
use crate::step::ShardWrite;

/// Name of the ConfigMap of a shard.
#[must_use]
pub fn shard_name(shard: u32) -> String {
    format!("driftless-inventory-{shard}")
}

/// The key of a shard's text in its ConfigMap.
pub const DATA_KEY: &str = "inventory";

/// Most bytes of a shard's text: half of what etcd takes by default, so that a ConfigMap with its managedFields fits.
pub const SHARD_BYTES: usize = 512 * 1024;

/// One object we own, or are about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which unit.
    pub unit: Arc<UnitId>,
    /// As which `group/version` it was last applied.
    pub api_version: ApiVersion,
    /// `None`: intent; the object may or may not exist. `Some`: the incarnation we applied.
    pub uid: Option<Uid>,
    /// What the last apply left behind; `None` before the first.
    pub baseline: Option<Baseline>,
    /// This incarnation was not made by us: a backup brought it back, and it was adopted. Never deleted unasked.
    pub restored: bool,
    /// Flux applied it and Git dropped it before its unit was taken over: it carries Flux's owner labels and not our mark, and
    /// no watch shows it. Ends with our first apply.
    pub adopted: bool,
}

/// A `group/version`: one word in each of the records that share it.
pub type ApiVersion = Arc<Box<str>>;

/// Every `apiVersion` once: thousands of objects have the same few.
#[derive(Clone, Debug, Default)]
pub struct Versions(BTreeMap<Box<str>, ApiVersion>);

impl Versions {
    /// The one kept of this text.
    pub fn of(&mut self, text: &str) -> ApiVersion {
        let kept = || Arc::new(text.into());
        match self.0.get(text) {
            Some(kept) => Arc::clone(kept),
            None => Arc::clone(self.0.entry(text.into()).or_insert_with(kept)),
        }
    }
}

/// What must outlive a unit's definition: how its objects are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitRecord {
    /// Who deletes; `None`: the applier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccount>,
    /// Delete what leaves Git.
    pub prune: bool,
    /// What happens when the unit itself leaves Git.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// It is suspended. Of a unit that leaves Git so nothing is deleted: neither does Flux.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// The work of Flux's Kustomization ([`crate::flux::FluxUnit::work`]) that was gone through for objects to adopt: once,
    /// so that what somebody makes by hand later is never taken for Flux's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<Digest>,
}

/// The inventory of a cluster. Every change marks the shard it falls into; [`Inventory::take_writes`] writes those.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Boxed: the nodes of the map are half empty, as its keys come in order.
    entries: BTreeMap<Arc<ObjectKey>, Box<Entry>>,
    units: BTreeMap<Arc<UnitId>, UnitRecord>,
    /// Unix minute -> deletes made in it without approval; the last hour only. Kept in shard 0.
    deletes: BTreeMap<u64, u32>,
    /// The same of approved ones: they take nothing from what needs no approval.
    approved: BTreeMap<u64, u32>,
    shards: u32,
    /// Shards whose stored text is not what is here.
    dirty: BTreeSet<u32>,
    /// What growing still has to write, in order, before any other shard.
    doubling: Vec<u32>,
    /// Nothing is stored yet.
    fresh: bool,
}

impl Default for Inventory {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            units: BTreeMap::new(),
            deletes: BTreeMap::new(),
            approved: BTreeMap::new(),
            shards: 1,
            dirty: BTreeSet::new(),
            doubling: Vec::new(),
            fresh: true,
        }
    }
}

impl Inventory {
    /// How many objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No object at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many shards.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.entries.get(key).map(|entry| &**entry)
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<ObjectKey>, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key, &**entry))
    }

    /// How a unit's objects are to be deleted.
    #[must_use]
    pub fn unit(&self, unit: &UnitId) -> Option<&UnitRecord> {
        self.units.get(unit)
    }

    /// All unit records.
    pub fn units(&self) -> impl Iterator<Item = (&Arc<UnitId>, &UnitRecord)> {
        self.units.iter()
    }

    /// Adds or replaces an entry. Nothing is marked when it is the same.
    pub fn put(&mut self, key: &Arc<ObjectKey>, entry: Entry) {
        match self.entries.get_mut(key) {
            Some(kept) if **kept == entry => return,
            Some(kept) => **kept = entry,
            None => _ = self.entries.insert(Arc::clone(key), Box::new(entry)),
        }
        self.dirty.insert(self.shard_of(key));
    }

    /// Makes every entry anew, under the key and of the unit that are kept elsewhere: see `engine::settle`.
    pub(crate) fn settle(
        &mut self,
        key: impl Fn(&ObjectKey) -> Option<Arc<ObjectKey>>,
        unit: impl Fn(&UnitId) -> Option<Arc<UnitId>>,
    ) {
        let renewed = |(old, entry): (Arc<ObjectKey>, Box<Entry>)| {
            let mut new = Box::new(Entry::clone(&entry));
            if let Some(unit) = unit(&new.unit) {
                new.unit = unit;
            }
            (key(&old).unwrap_or(old), new)
        };
        self.entries = std::mem::take(&mut self.entries).into_iter().map(renewed).collect();
    }

    /// Removes an entry: the object is gone, or no longer ours.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.dirty.insert(self.shard_of(key));
        Some(*entry)
    }

    /// Writes down how a unit's objects are to be deleted.
    pub fn put_unit(&mut self, unit: &Arc<UnitId>, record: UnitRecord) {
        if self.units.get(unit) != Some(&record) {
            self.dirty.insert(text::hash_of_unit(unit) & (self.shards - 1));
            self.units.insert(Arc::clone(unit), record);
        }
    }

    /// Forgets a unit; only when it has no objects left.
    pub fn remove_unit(&mut self, unit: &UnitId) {
        if self.units.remove(unit).is_some() {
            self.dirty.insert(text::hash_of_unit(unit) & (self.shards - 1));
        }
    }

    /// Counts a delete, towards the hourly budget or among the approved ones.
    pub fn count_delete(&mut self, approved: bool, now: Millis) {
        let minute = now / 60_000;
        *if approved { &mut self.approved } else { &mut self.deletes }.entry(minute).or_default() += 1;
        for counts in [&mut self.deletes, &mut self.approved] {
            *counts = counts.split_off(&minute.saturating_sub(60));
        }
        self.dirty.insert(0);
    }

    /// A delete that was counted then did not happen: it was refused.
    pub fn uncount_delete(&mut self, approved: bool, counted: Millis) {
        let counts = if approved { &mut self.approved } else { &mut self.deletes };
        if let Some(count) = counts.get_mut(&(counted / 60_000)) {
            *count = count.saturating_sub(1);
            counts.retain(|_, count| *count > 0);
            self.dirty.insert(0);
        }
    }

    /// Deletes in the last hour: those that needed no approval, and the approved ones.
    #[must_use]
    pub fn deletes_in_last_hour(&self, now: Millis) -> (u32, u32) {
        let from = (now / 60_000).saturating_sub(60);
        let sum = |counts: &BTreeMap<u64, u32>| counts.range(from..).map(|(_, n)| n).sum();
        (sum(&self.deletes), sum(&self.approved))
    }

    /// When the oldest counted delete leaves the hour: always later than now.
    #[must_use]
    pub fn next_budget(&self, now: Millis) -> Option<Millis> {
        let from = (now / 60_000).saturating_sub(60);
        let oldest = [&self.deletes, &self.approved].into_iter().filter_map(|counts| counts.range(from..).next()).min();
        oldest.map(|(minute, _)| (minute + 61) * 60_000)
    }

    /// Whether something is to be written, `frozen` shards left alone.
    #[must_use]
    pub fn is_dirty(&self, frozen: &BTreeSet<u32>) -> bool {
        !self.doubling.is_empty() || self.dirty.iter().any(|shard| !frozen.contains(shard))
    }

    /// What is to be written now, in order. Shards in `frozen` (damaged ones) are left alone. The caller says
    /// [`Inventory::rewrite`] for those whose write failed.
    pub fn take_writes(&mut self, frozen: &BTreeSet<u32>) -> Vec<ShardWrite> {
        // With a damaged shard the number of shards stays: doubling would copy entries we cannot read.
        let old = self.shards;
        while frozen.is_empty() && self.shards < text::MOST_SHARDS && self.largest_shard() > SHARD_BYTES {
            self.shards *= 2;
        }
        if self.shards > old {
            self.dirty = (0..self.shards).collect();
            self.doubling = (old..self.shards).chain(0..old).collect();
        }
        if self.fresh {
            self.dirty.extend(0..self.shards);
        }
        let mut order: Vec<u32> = std::mem::take(&mut self.doubling);
        order.retain(|shard| !frozen.contains(shard));
        for shard in std::mem::take(&mut self.dirty) {
            if frozen.contains(&shard) {
                self.dirty.insert(shard);
            } else if !order.contains(&shard) {
                order.push(shard);
            }
        }
        let mut texts = self.encode(&order);
        order.into_iter().map(|shard| ShardWrite { shard, text: texts.remove(&shard) }).collect()
    }

    /// All of the last [`Inventory::take_writes`] arrived.
    pub fn stored(&mut self) {
        if std::mem::take(&mut self.fresh) {
            // Once more without the mark that excuses missing shards.
            self.dirty = (0..self.shards).collect();
        }
    }

    /// These writes did not arrive: they are due again, in this order.
    pub fn rewrite(&mut self, shards: impl IntoIterator<Item = u32>) {
        let mut again: Vec<u32> = shards.into_iter().collect();
        again.append(&mut self.doubling);
        let mut seen = BTreeSet::new();
        again.retain(|shard| *shard < self.shards && seen.insert(*shard));
        self.doubling = again;
    }

    /// Which shard an object belongs to.
    #[must_use]
    pub fn shard_of(&self, key: &ObjectKey) -> u32 {
        text::hash_of(key) & (self.shards - 1)
    }
}
