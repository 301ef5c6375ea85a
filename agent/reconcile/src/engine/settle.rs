//! Records that live long, packed together when a burst is over.
//!
//! They are made amid much that passes, each where there was room, and afterwards hold whole pages of the heap that have
//! nothing else in them: after thousands of objects were applied as much again as they need themselves. Made anew in quiet
//! they fill the pages that are used anyway, and the others go back to the system.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::object::{Name, ObjectKey};

use super::Engine;
use super::state::Ix;
use crate::input::Millis;

/// Records that are worth it.
const BURST: u32 = 256;
/// How long nothing may have been on its way.
const QUIET: Millis = 2_000;

impl Engine {
    /// A record was made.
    pub(super) fn stirred(&mut self, now: Millis) {
        self.stirred = self.stirred.saturating_add(1);
        if self.stirred >= BURST {
            self.settles = Some(now.saturating_add(QUIET));
        }
    }

    /// Packs the records if that is due, once nothing is on its way any more.
    pub(super) fn settle_in_quiet(&mut self, now: Millis) {
        if self.settles.is_none_or(|due| due > now) {
            return;
        }
        let listing = self.kinds.values().any(|kind| kind.listing.is_some());
        if listing || !self.idle() {
            self.settles = Some(now.saturating_add(QUIET));
            return;
        }
        self.settles = None;
        self.stirred = 0;
        self.settle();
    }

    fn settle(&mut self) {
        let by_key = std::mem::take(&mut self.by_key);
        // In order, so that those who share a long name stand together.
        let mut last = ObjectKey::default();
        let renewed = |(key, ix): (Arc<ObjectKey>, Ix)| {
            let share = |name: &Name, last: &Name| if name == last { last.clone() } else { Name::new(name) };
            last = ObjectKey {
                group: share(&key.group, &last.group),
                kind: share(&key.kind, &last.kind),
                namespace: share(&key.namespace, &last.namespace),
                name: Name::new(&key.name),
            };
            let new = Arc::new(last.clone());
            if let Some(obj) = self.obj_mut(ix) {
                obj.key = Arc::clone(&new);
            }
            (new, ix)
        };
        // A map that is made of a whole has full nodes; one that grew in order has them half full.
        let by_key: BTreeMap<Arc<ObjectKey>, Ix> = by_key.into_iter().map(renewed).collect();
        self.inventory.settle(
            |key| by_key.get_key_value(key).map(|(key, _)| Arc::clone(key)),
            |unit| self.by_unit.get_key_value(unit).map(|(unit, _)| Arc::clone(unit)),
        );
        for recent in self.units.iter_mut().flat_map(|slot| &mut slot.recent) {
            let kept = by_key.get_key_value(&recent.key).map(|(key, _)| Arc::clone(key));
            recent.key = kept.unwrap_or_else(|| Arc::new(ObjectKey::clone(&recent.key)));
            recent.detail = recent.detail.clone();
        }
        self.by_key = by_key;
        self.objects.shrink_to_fit();
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::bundle::DeletionPolicy;
    use driftless_protocol::id::UnitId;

    use super::*;
    use crate::inventory::{Entry, UnitRecord};
    use crate::rules::Rules;

    fn key(n: usize) -> Arc<ObjectKey> {
        let (namespace, name) = (format!("ns-{}", n % 7).into(), format!("name-{n}").into());
        Arc::new(ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace, name })
    }

    /// An engine with an inventory of so many objects, made one by one.
    fn engine(count: usize) -> Engine {
        let mut engine = Engine::new(Rules::new([7; 32]));
        engine.inventory_read = true;
        let unit = Arc::new(UnitId::kustomization("flux-system", "apps"));
        engine.slot_of(&unit, 0);
        let deletion_policy = DeletionPolicy::default();
        let record = UnitRecord { account: None, prune: true, deletion_policy, suspended: false, flux: None };
        engine.inventory.put_unit(&unit, record);
        for n in 0..count {
            let key = key(n);
            engine.object_of(&key, 0);
            // As each shard of a stored inventory has its own.
            let unit = Arc::new((*unit).clone());
            let api_version = engine.versions.of("v1");
            let restored = n % 3 == 0;
            let entry = Entry { unit, api_version, uid: None, baseline: None, restored, adopted: false };
            engine.inventory.put(&key, entry);
        }
        let writes = engine.inventory.take_writes(&engine.frozen.clone());
        assert!(!writes.is_empty());
        engine.inventory.stored();
        engine.inventory.take_writes(&engine.frozen.clone());
        engine
    }

    #[test]
    fn records_are_the_same_after_they_were_packed() {
        let mut engine = engine(1000);
        let before =
            (format!("{:?}", engine.by_key), format!("{:?}", engine.inventory), format!("{:?}", engine.objects));
        assert_eq!(engine.settles, Some(QUIET));
        engine.settle_in_quiet(QUIET - 1);
        assert_eq!(engine.settles, Some(QUIET), "not before its time");
        engine.settle_in_quiet(QUIET);
        assert_eq!((engine.settles, engine.stirred), (None, 0));
        let after =
            (format!("{:?}", engine.by_key), format!("{:?}", engine.inventory), format!("{:?}", engine.objects));
        assert!(before == after);
        // One key for all three, one id for all entries of a unit.
        let (key, ix) = engine.by_key.iter().next().expect("a key");
        assert!(Arc::ptr_eq(key, &engine.obj(*ix).expect("an object").key));
        assert!(engine.inventory.iter().all(|(key, entry)| {
            let (own, _) = engine.by_key.get_key_value(key).expect("its key");
            Arc::ptr_eq(own, key) && Arc::ptr_eq(&entry.unit, &engine.units[0].id)
        }));
    }

    #[test]
    fn what_is_on_its_way_is_waited_for_and_few_records_are_let_be() {
        let mut few = engine(BURST as usize - 1);
        assert_eq!(few.settles, None);
        few.settle_in_quiet(1_000_000);
        assert!(few.stirred > 0);
        let mut busy = engine(BURST as usize);
        busy.kinds.entry(super::super::namespace_kind()).or_default().listing = Some(1);
        busy.settle_in_quiet(5_000);
        assert_eq!(busy.settles, Some(5_000 + QUIET));
    }
}
