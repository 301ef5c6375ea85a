//! The text of a shard: a line with format and digest, then JSON. Versioned; read strictly.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use serde::{Deserialize, Serialize};

use super::{Entry, Inventory, UnitRecord, Versions};
use crate::drift::Baseline;
use crate::mark::Uid;

/// First line: this, a space, the hex digest of the rest.
const MAGIC: &str = "driftless-inventory/1";
/// Most shards: 2 GiB of inventory is a mistake, not a cluster.
pub(super) const MOST_SHARDS: u32 = 1 << 12;

/// Why an inventory cannot be read whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// A shard's text is not what was written.
    #[error("inventory shard {shard} (ConfigMap driftless-inventory-{shard}) cannot be read: {what}")]
    Damaged {
        /// Which shard.
        shard: u32,
        /// What is wrong.
        what: String,
    },
    /// A shard is not there.
    #[error(
        "inventory shard {shard} (ConfigMap driftless-inventory-{shard}) is missing, the others say there are {of}"
    )]
    Missing {
        /// Which shard.
        shard: u32,
        /// How many there should be.
        of: u32,
    },
}

impl InventoryError {
    /// The shard it speaks of.
    #[must_use]
    pub fn shard(&self) -> u32 {
        match self {
            Self::Damaged { shard, .. } | Self::Missing { shard, .. } => *shard,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard<'a> {
    shard: u32,
    of: u32,
    /// Part of the very first write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    deletes: BTreeMap<u64, u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    approved: BTreeMap<u64, u32>,
    units: Vec<UnitLine>,
    objects: Vec<ObjectLine<'a>>,
}

#[derive(Serialize, Deserialize)]
struct UnitLine {
    /// `None`: named by objects of this shard, recorded in another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<UnitRecord>,
    id: UnitId,
}

/// Short names: there are ten thousand of these. Borrowed when written, which happens again and again while many are applied.
#[derive(Serialize, Deserialize)]
struct ObjectLine<'a> {
    /// group, kind, namespace, name
    k: (Cow<'a, str>, Cow<'a, str>, Cow<'a, str>, Cow<'a, str>),
    /// Position in `units`.
    u: usize,
    /// apiVersion.
    v: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<Cow<'a, Uid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    b: Option<Cow<'a, Baseline>>,
    /// Restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    r: bool,
    /// Adopted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    a: bool,
}

/// The hash of a key, whose low bits are its shard. Plain, not keyed: it must be the same after the key is lost.
pub(super) fn hash_of(key: &ObjectKey) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for part in [&key.group, &key.kind, &key.namespace, &key.name] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    first_u32(&hasher)
}

pub(super) fn hash_of_unit(unit: &UnitId) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(unit.to_string().as_bytes());
    first_u32(&hasher)
}

fn first_u32(hasher: &blake3::Hasher) -> u32 {
    let hash = hasher.finalize();
    let b = hash.as_bytes();
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// A shard as it is being put together.
#[derive(Default)]
struct Draft<'a> {
    positions: BTreeMap<&'a UnitId, usize>,
    units: Vec<UnitLine>,
    objects: Vec<ObjectLine<'a>>,
}

impl Inventory {
    /// The texts of these shards, in one pass over the entries.
    pub(super) fn encode(&self, shards: &[u32]) -> BTreeMap<u32, String> {
        let mut drafts: BTreeMap<u32, Draft<'_>> = shards.iter().map(|shard| (*shard, Draft::default())).collect();
        let mask = self.shards - 1;
        for (id, record) in &self.units {
            let Some(draft) = drafts.get_mut(&(hash_of_unit(id) & mask)) else { continue };
            draft.positions.insert(id, draft.units.len());
            draft.units.push(UnitLine { id: (**id).clone(), record: Some(record.clone()) });
        }
        for (key, entry) in &self.entries {
            let Some(draft) = drafts.get_mut(&(hash_of(key) & mask)) else { continue };
            let units = &mut draft.units;
            let unit = *draft.positions.entry(&entry.unit).or_insert_with(|| {
                units.push(UnitLine { id: (*entry.unit).clone(), record: None });
                units.len() - 1
            });
            draft.objects.push(ObjectLine {
                k: (
                    key.group.as_str().into(),
                    key.kind.as_str().into(),
                    key.namespace.as_str().into(),
                    key.name.as_str().into(),
                ),
                u: unit,
                v: Cow::Borrowed(&**entry.api_version),
                uid: entry.uid.as_ref().map(Cow::Borrowed),
                b: entry.baseline.as_ref().map(Cow::Borrowed),
                r: entry.restored,
                a: entry.adopted,
            });
        }
        let text = |(shard, draft): (u32, Draft<'_>)| {
            let in_first = |counts: &BTreeMap<u64, u32>| if shard == 0 { counts.clone() } else { BTreeMap::new() };
            let body = Shard {
                shard,
                of: self.shards,
                fresh: self.fresh,
                deletes: in_first(&self.deletes),
                approved: in_first(&self.approved),
                units: draft.units,
                objects: draft.objects,
            };
            // Strings, numbers and maps with string or integer keys: serialising them cannot fail.
            let body = serde_json::to_string(&body).unwrap_or_default();
            (shard, format!("{MAGIC} {}\n{body}", Digest::of(body.as_bytes())))
        };
        drafts.into_iter().map(text).collect()
    }

    /// About how long the longest text is, without making it.
    pub(super) fn largest_shard(&self) -> usize {
        let mask = self.shards - 1;
        let mut bytes = vec![512usize; self.shards as usize];
        let mut add = |hash: u32, len: usize| {
            if let Some(sum) = bytes.get_mut((hash & mask) as usize) {
                *sum += len;
            }
        };
        for (key, entry) in &self.entries {
            let overlay = entry.baseline.as_ref().and_then(|b| b.overlay.as_ref());
            let overlay: usize = overlay.map_or(0, |o| o.paths().map(|p| p.len() + 40).sum());
            let names =
                key.group.len() + key.kind.len() + key.namespace.len() + key.name.len() + entry.api_version.len();
            add(hash_of(key), names + overlay + 200);
        }
        for id in self.units.keys() {
            add(hash_of_unit(id), id.namespace.len() + id.name.len() + 200);
        }
        bytes.into_iter().max().unwrap_or_default()
    }
}

fn read(shard: u32, text: &str) -> Result<Shard<'static>, InventoryError> {
    let damaged = |what: String| InventoryError::Damaged { shard, what };
    let (first, body) = text.split_once('\n').ok_or_else(|| damaged("it has no first line".into()))?;
    let digest = match first.split_once(' ') {
        Some((MAGIC, digest)) => digest,
        Some((other, _)) if other.starts_with("driftless-inventory/") => {
            return Err(damaged(format!("it is of format {other}; this agent reads {MAGIC}")));
        }
        _ => return Err(damaged("its first line is not that of an inventory".into())),
    };
    if digest != Digest::of(body.as_bytes()).to_string() {
        return Err(damaged("its text was changed: the digest in the first line is another".into()));
    }
    let parsed: Shard<'static> = serde_json::from_str(body).map_err(|e| damaged(e.to_string()))?;
    if parsed.shard != shard || !parsed.of.is_power_of_two() || parsed.of > MOST_SHARDS || shard >= parsed.of {
        return Err(damaged(format!("it says it is shard {} of {}", parsed.shard, parsed.of)));
    }
    Ok(parsed)
}

/// Reads an inventory from the texts of its shards: `(number, text)`. No shard at all is an empty inventory.
///
/// What can be read is returned in any case; with any error it is not whole, and nothing may be deleted by it.
#[must_use]
pub fn decode(shards: &[(u32, String)]) -> (Inventory, Vec<InventoryError>) {
    let mut inventory = Inventory::default();
    let mut errors = Vec::new();
    let mut read_shards: BTreeMap<u32, Shard<'_>> = BTreeMap::new();
    let mut damaged = BTreeSet::new();
    for (number, text) in shards {
        match read(*number, text) {
            Ok(shard) => {
                read_shards.insert(*number, shard);
            }
            Err(error) => {
                damaged.insert(*number);
                errors.push(error);
            }
        }
    }
    let of = read_shards.values().map(|s| s.of).max().unwrap_or(1);
    let old = read_shards.values().map(|s| s.of).min().unwrap_or(1);
    inventory.shards = of;
    inventory.fresh = shards.is_empty() || (damaged.is_empty() && read_shards.values().all(|s| s.fresh));
    let unfinished = old < of;
    for number in 0..if inventory.fresh { 0 } else { of } {
        if read_shards.contains_key(&number) || damaged.contains(&number) {
            continue;
        }
        // The old shard has not been rewritten yet, so it still holds what belongs here.
        let held = number >= old && read_shards.get(&(number % old)).is_some_and(|s| s.of == old) && unfinished;
        if !held {
            errors.push(InventoryError::Missing { shard: number, of });
        }
    }
    let mut versions = Versions::default();
    // Shards of the smaller number first, so that those of the larger win.
    let mut by_age: Vec<Shard<'_>> = read_shards.into_values().collect();
    by_age.sort_by_key(|s| (s.of, s.shard));
    for shard in by_age {
        let units: Vec<Arc<UnitId>> = shard.units.iter().map(|line| Arc::new(line.id.clone())).collect();
        for (id, line) in units.iter().zip(&shard.units) {
            if let Some(record) = &line.record {
                inventory.units.insert(Arc::clone(id), record.clone());
            }
        }
        for line in shard.objects {
            let Some(unit) = units.get(line.u) else {
                errors.push(InventoryError::Damaged {
                    shard: shard.shard,
                    what: format!("an object of unit {}", line.u),
                });
                continue;
            };
            let (group, kind, namespace, name) = line.k;
            let key = Arc::new(ObjectKey {
                group: group.into(),
                kind: kind.into(),
                namespace: namespace.into(),
                name: name.into(),
            });
            let entry = Entry {
                unit: Arc::clone(unit),
                api_version: versions.of(&line.v),
                uid: line.uid.map(Cow::into_owned),
                baseline: line.b.map(Cow::into_owned),
                restored: line.r,
                adopted: line.a,
            };
            inventory.entries.insert(key, Box::new(entry));
        }
        if shard.shard == 0 {
            inventory.deletes = shard.deletes;
            inventory.approved = shard.approved;
        }
    }
    if unfinished && errors.is_empty() {
        inventory.doubling = (old..of).chain(0..old).collect();
    }
    (inventory, errors)
}
