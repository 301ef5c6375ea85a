//! `interval`: the longest time between two full checks of a unit's objects.
//!
//! A watch tells of every change, so a full check reads the lists of the unit's kinds anew, once for all units that share
//! them, and writes nothing. Where no watch can be kept, each object is read.

use std::collections::BTreeSet;

use super::Engine;
use super::state::{Ix, UnitIx};
use crate::input::{GroupKind, Millis};

/// Nothing is checked more often than this, whatever a unit says.
const SHORTEST: Millis = 30_000;

impl Engine {
    /// Kinds whose watch is to be begun anew, with a fresh list. Ask after [`Engine::poll`].
    pub fn take_relists(&mut self) -> BTreeSet<GroupKind> {
        std::mem::take(&mut self.relists)
    }

    /// Begins a full check of a unit when it is due. Answers when the next one is.
    pub(super) fn full_check(&mut self, unit: UnitIx, now: Millis) -> Millis {
        let Some(slot) = self.unit(unit) else { return Millis::MAX };
        let Some(full) = slot.full() else { return Millis::MAX };
        let interval = full.spec.interval_seconds.saturating_mul(1000).max(SHORTEST);
        let due = slot.checked.saturating_add(interval);
        if now < due {
            return due;
        }
        let objects = full.objects.clone();
        if let Some(slot) = self.unit_mut(unit) {
            slot.checked = now;
        }
        for ix in objects {
            self.check_object(ix, interval, now);
        }
        now.saturating_add(interval)
    }

    fn check_object(&mut self, ix: Ix, interval: Millis, now: Millis) {
        let Some(kind) = self.obj(ix).map(|obj| GroupKind::of(&obj.key)) else { return };
        let Some(state) = self.kinds.get_mut(&kind) else { return };
        let blind = state.blind.is_some();
        // Other units with the same kind may have had it listed meanwhile.
        let fresh = now < state.listed_at.saturating_add(interval / 2);
        // Also while it cannot be watched: a list that succeeds tells that it can again.
        if state.listed && state.listing.is_none() && !fresh {
            state.listed_at = now;
            self.relists.insert(kind);
        }
        if let Some(obj) = self.obj_mut(ix) {
            obj.elsewhere = false;
            obj.recheck |= blind;
        }
    }
}
