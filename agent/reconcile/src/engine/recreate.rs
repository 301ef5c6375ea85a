//! `force`: an object whose declared content is refused for a field that cannot be changed is deleted and made anew, when
//! an operator has approved that.

use std::sync::Arc;

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::HeldDelete;

use super::Engine;
use super::deletes::Budget;
use super::run::Flight;
use super::state::Ix;
use crate::input::Millis;
use crate::inventory::Entry;
use crate::prune;
use crate::retry::{self, Class};
use crate::step::{Action, Delete, Step};

impl Engine {
    /// Whether an object waits to be deleted and made anew: refused so, and its unit or the object itself says `force`.
    pub(super) fn to_recreate(&self, ix: Ix) -> bool {
        let Some(obj) = self.obj(ix) else { return false };
        let (Some(want), Some(trouble)) = (&obj.want, &obj.rare.trouble) else { return false };
        let refused = trouble.class == Class::Immutable && trouble.mark == want.mark;
        refused && self.may_recreate(ix)
    }

    /// Whether it may come to that: its content is not applied, and its unit or the object itself says `force`. A process that
    /// has just started has not been refused yet.
    pub(super) fn may_recreate(&self, ix: Ix) -> bool {
        let Some(obj) = self.obj(ix) else { return false };
        let Some(want) = &obj.want else { return false };
        let unit = self.unit(want.unit).and_then(|slot| slot.full()).is_some_and(|full| full.spec.force);
        let forced = unit || want.options.as_ref().is_some_and(|options| options.force);
        let applied = || {
            let entry = self.inventory.get(&obj.key);
            entry.and_then(|entry| entry.baseline.as_ref()).is_some_and(|baseline| baseline.desired == want.mark)
        };
        forced && !applied() && prune::never(&obj.key, obj.live.folded(), &self.rules).is_none()
    }

    /// Holds what is to be made anew until it is approved.
    pub(super) fn judge_recreations(&mut self, budget: &Budget) {
        let mut immutable = std::mem::take(&mut self.immutable);
        immutable.retain(|ix| {
            let Some(obj) = self.obj(*ix) else { return false };
            obj.rare.trouble.as_ref().is_some_and(|trouble| trouble.class == Class::Immutable) || obj.delete_sent
        });
        self.immutable = immutable;
        self.recreate.clear();
        let candidates: Vec<Ix> = self.immutable.iter().copied().filter(|ix| self.to_recreate(*ix)).collect();
        for ix in candidates {
            let Some(obj) = self.obj(ix) else { continue };
            let (Some(live), Some(trouble)) = (obj.live.folded(), &obj.rare.trouble) else { continue };
            if obj.delete_sent || live.deleting {
                continue;
            }
            let why = match (self.is_approved(ix), budget.cap_reached()) {
                (true, None) => {
                    self.recreate.insert(ix);
                    continue;
                }
                (true, Some(why)) => why,
                (false, _) => {
                    let (_, refusal) = retry::explain(trouble.class, &trouble.failure, &obj.key);
                    format!("force: to be deleted and made anew, with what belongs to it, since {refusal}")
                }
            };
            let held = HeldDelete { key: (*obj.key).clone(), uid: live.uid.to_string(), why };
            let unit = obj.want.as_ref().map(|want| want.unit);
            if let Some(slot) = unit.and_then(|unit| self.unit_mut(unit)) {
                slot.held_deletes.push(held);
            }
        }
    }

    /// Deletes what is to be made anew. The object is created when the watch says that it is gone.
    pub(super) fn start_recreations(&mut self, steps: &mut Vec<Step>, now: Millis) {
        for ix in self.recreate.clone() {
            if !self.room() {
                return;
            }
            let Some(obj) = self.obj(ix) else { continue };
            if obj.busy || obj.delete_sent || !self.is_approved(ix) || self.paused(ix).is_some() {
                continue;
            }
            // Stored first: the next process must not take what it finds for what a backup brought back.
            if let Some(entry) = self.inventory.get(&obj.key).filter(|entry| entry.uid.is_some()).cloned() {
                let key = Arc::clone(&obj.key);
                self.begin_anew(ix, &key, entry, now);
            }
            if self.unstored.contains(&ix) {
                continue;
            }
            let Some(obj) = self.obj(ix) else { continue };
            let (Some(want), Some(live)) = (&obj.want, obj.live.folded()) else { continue };
            let Some(slot) = self.unit(want.unit) else { continue };
            let Some(full) = slot.full() else { continue };
            let delete = Delete {
                unit: (*slot.id).clone(),
                key: (*obj.key).clone(),
                api_version: want.api_version.to_string(),
                uid: live.uid.to_string(),
                resource_version: live.version.to_string(),
                account: full.spec.service_account.clone(),
            };
            self.recreate.remove(&ix);
            let step = self.step(Action::Delete(delete));
            self.flights.insert(step.id, Flight::Delete { ix, counted: (true, now) });
            if let Some(obj) = self.obj_mut(ix) {
                obj.busy = true;
            }
            self.inventory.count_delete(true, now);
            self.unwritten(now);
            steps.push(step);
        }
    }

    /// The delete of a declared object was accepted, or it was gone already.
    pub(super) fn recreation_begins(&mut self, ix: Ix, now: Millis) {
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.rare.clear(|rare| rare.trouble = None);
        obj.since = now;
        obj.delete_sent = !matches!(obj.live, super::state::Live::Absent);
        let key = Arc::clone(&obj.key);
        if let Some(entry) = self.inventory.get(&key).cloned() {
            self.inventory.put(&key, intent(entry));
            self.unwritten(now);
        }
    }

    /// An object is about to be deleted and made anew. What cannot be stored, in a damaged shard, is not waited for.
    fn begin_anew(&mut self, ix: Ix, key: &Arc<ObjectKey>, entry: Entry, now: Millis) {
        let frozen = self.frozen.contains(&self.inventory.shard_of(key));
        self.inventory.put(key, intent(entry));
        self.unwritten(now);
        if !frozen {
            self.unstored.insert(ix);
        }
    }
}

/// What was applied before says nothing about the next incarnation.
fn intent(entry: Entry) -> Entry {
    Entry { uid: None, baseline: None, restored: false, ..entry }
}
