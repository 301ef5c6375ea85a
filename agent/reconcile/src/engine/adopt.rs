//! Objects of Flux's inventory that no unit declares become ours with their unit, where nothing speaks against it
//! ([`crate::adopt`]), and are read again for as long as they are, since no watch shows them.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::bundle::Blobs;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, LIST_LIMIT};

use super::Engine;
use super::leftovers::{Extra, Place};
use super::run::Flight;
use super::state::{Ix, Live, Recent, State, UnitIx};
use crate::adopt::{Fate, Found};
use crate::fold::Folded;
use crate::input::Millis;
use crate::inventory::{Entry, UnitRecord};
use crate::mark::Mark;
use crate::retry::Class;
use crate::step::{Action, Outcome, Step};

/// Pause before the first look whether a delete has come to its end; doubled for each further one.
const SOON: Millis = 1_000;
/// And the longest.
const LATE: Millis = 60_000;
/// How often an adopted object is read while nothing is done to it, where its unit has no interval to say so.
const NOW_AND_THEN: Millis = 600_000;

/// When an adopted object is read again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reread {
    next: Millis,
    /// Looks since its delete was accepted.
    looks: u32,
}

impl Engine {
    /// The unit that adopted an object nobody declares.
    pub(super) fn adopted_by(&self, ix: Ix) -> Option<&Arc<UnitId>> {
        let obj = self.obj(ix).filter(|obj| obj.want.is_none())?;
        self.inventory.get(&obj.key).filter(|entry| entry.adopted).map(|entry| &entry.unit)
    }

    /// Which work of Flux's Kustomization is to be gone through for a unit; `None`: it was, or there is nothing to do.
    pub(super) fn unadopted(&self, unit: UnitIx) -> Option<Digest> {
        let slot = self.unit(unit)?;
        slot.full().filter(|full| full.spec.take_over && full.spec.prune)?;
        let known = self.flux.get(&*slot.id).filter(|known| known.unit.suspended)?;
        if !self.inventory_read || !self.inventory_errors.is_empty() || !self.discovered || self.rules.shadow {
            return None;
        }
        // Flux may have applied what came to Git after this bundle.
        if self.outdated {
            return None;
        }
        let done = self.inventory.unit(&slot.id).and_then(|record| record.flux);
        (done != Some(known.unit.work)).then_some(known.unit.work)
    }

    /// Of a unit that is ours now: what only Flux's inventory has is read, and adopted where nothing speaks against it. Answers
    /// when to look again.
    pub(super) fn adopt_leftovers(&mut self, unit: UnitIx, now: Millis) -> Millis {
        let Some(work) = self.unadopted(unit) else { return Millis::MAX };
        let (mut next, mut unread, mut unreadable) = (Millis::MAX, 0, 0);
        let (mut adopted, mut left, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        for (key, place) in self.leftovers(unit) {
            match place {
                Place::Declared(_) | Place::Owned => continue,
                Place::Withheld(id) => {
                    left.push((key, format!("it may be what unit {id} declares and the hub does not send")));
                    continue;
                }
                Place::Free => {}
            }
            if self.kind_of(&key).is_none_or(|kind| kind.served.is_none()) {
                // Without its kind there is no such object.
                unread += usize::from(self.unknown_groups.contains(key.group.as_str()));
                continue;
            }
            match self.extras.get(&key) {
                None => {
                    unread += 1;
                    if unread <= LIST_LIMIT {
                        self.extras.insert(key, Extra::Unread);
                    }
                    continue;
                }
                Some(Extra::Unread | Extra::Busy) => {
                    unread += 1;
                    continue;
                }
                Some(Extra::Failed { next: at, lasting, .. }) => {
                    *if *lasting { &mut unreadable } else { &mut unread } += 1;
                    if *at <= now {
                        self.extras.insert(key, Extra::Unread);
                    } else {
                        next = next.min(*at);
                    }
                    continue;
                }
                Some(Extra::Gone) => {}
                Some(Extra::Found(found)) => match self.fate_of(unit, &key, found) {
                    Some(Fate::Adopted(_)) => adopted.push((key.clone(), found.clone())),
                    Some(Fate::Left(why)) => left.push((key.clone(), why)),
                    None => {}
                },
            }
            judged.push(key);
        }
        if unread > 0 {
            // All at once, so that the budget sees all of them before the first is deleted.
            return next;
        }
        for (key, found) in adopted {
            self.extras.remove(&key);
            self.take_in(unit, key, &found, now);
        }
        if unreadable == 0 {
            judged.iter().for_each(|key| drop(self.extras.remove(key)));
            self.gone_through(unit, work, left, now);
        }
        next
    }

    /// All of Flux's inventory is judged.
    fn gone_through(&mut self, unit: UnitIx, work: Digest, left: Vec<(ObjectKey, String)>, now: Millis) {
        let Some(slot) = self.unit_mut(unit) else { return };
        let id = Arc::clone(&slot.id);
        for (key, why) in left {
            let detail =
                format!("in the inventory of Flux's Kustomization {id} and declared by no unit: {why}: left alone");
            let (key, detail) = (Arc::new(key), detail.into());
            slot.remember(Recent { at: now, what: EventKind::Released, key, detail, took_ms: None });
        }
        self.report_dirty.insert(unit);
        if let Some(record) = self.inventory.unit(&id).cloned() {
            self.inventory.put_unit(&id, UnitRecord { flux: Some(work), ..record });
            self.unwritten(now);
        }
    }

    /// An object becomes ours. It is deleted only once that is stored.
    fn take_in(&mut self, unit: UnitIx, key: ObjectKey, found: &Found, now: Millis) {
        let Some(id) = self.unit(unit).map(|slot| Arc::clone(&slot.id)) else { return };
        let key = Arc::new(key);
        let entry = Entry {
            unit: id,
            api_version: self.versions.of(&found.api_version),
            uid: Some(found.live.uid.clone()),
            baseline: None,
            restored: false,
            adopted: true,
        };
        let ix = self.object_of(&key, now);
        self.inventory.put(&key, entry);
        self.unwritten(now);
        self.unstored.insert(ix);
        // A unit that the hub cannot build may declare it now.
        let held = |slot: &&super::state::Slot| matches!(slot.state, State::Held(..) | State::Suspended(_, Err(_)));
        let held: BTreeSet<Arc<UnitId>> = self.units.iter().filter(held).map(|slot| Arc::clone(&slot.id)).collect();
        if !held.is_empty() {
            self.suspects.entry(ix).or_default().extend(held);
        }
        if let Some(obj) = self.obj_mut(ix) {
            obj.live = Live::Present(Folded { labelled: true, ..found.live.clone() });
            obj.delete_sent = false;
            obj.since = now;
        }
        self.leaving.insert(ix);
        self.deletes_dirty = true;
        self.report_dirty.insert(unit);
        self.reread_later(ix, now);
    }

    /// An adopted object is to be read at this time.
    pub(super) fn reread(&mut self, ix: Ix, at: Millis) {
        self.rereads.entry(ix).or_default().next = at;
        if let Some(unit) = self.unit_of(ix) {
            self.timers.insert((at, unit));
        }
    }

    fn reread_later(&mut self, ix: Ix, now: Millis) {
        let full = self.unit_of(ix).and_then(|unit| self.unit(unit)).and_then(|slot| slot.full());
        let interval = full.map_or(NOW_AND_THEN, |full| full.spec.interval_seconds.saturating_mul(1000).max(LATE));
        self.reread(ix, now.saturating_add(interval));
    }

    /// Its delete was accepted, or was refused since it changed: only a read tells how it is.
    pub(super) fn reread_after_delete(&mut self, ix: Ix, now: Millis) {
        if self.adopted_by(ix).is_none() {
            return;
        }
        let known = self.rereads.entry(ix).or_default();
        let pause = SOON.saturating_mul(1 << known.looks.min(6)).min(LATE);
        known.looks = known.looks.saturating_add(1);
        self.reread(ix, now.saturating_add(pause));
    }

    /// `driftless reconcile`: what no watch shows is read now.
    pub(super) fn read_extras_again(&mut self, now: Millis) {
        let shadow = self.rules.shadow;
        self.extras
            .retain(|_, extra| matches!(extra, Extra::Busy) || !(shadow || matches!(extra, Extra::Failed { .. })));
        for known in self.rereads.values_mut().filter(|known| known.next != Millis::MAX) {
            known.next = now;
        }
    }

    /// Reads adopted objects whose time has come.
    pub(super) fn start_rereads(&mut self, steps: &mut Vec<Step>, now: Millis) {
        let due: Vec<Ix> = self.rereads.iter().filter(|(_, known)| known.next <= now).map(|(ix, _)| *ix).collect();
        for ix in due {
            if self.adopted_by(ix).is_none() {
                self.rereads.remove(&ix);
                self.found_by_lists(ix);
                continue;
            }
            let Some(obj) = self.obj(ix).filter(|obj| !obj.busy) else { continue };
            let Some(entry) = self.inventory.get(&obj.key) else { continue };
            if self.kind_of(&obj.key).is_none_or(|kind| kind.served.is_none()) {
                continue;
            }
            if !self.room() {
                return;
            }
            let api_version = Some(self.served_as(&obj.key, &entry.api_version));
            let step = self.step(Action::Get { key: (*obj.key).clone(), api_version });
            self.flights.insert(step.id, Flight::Adopted { ix });
            if let Some(obj) = self.obj_mut(ix) {
                obj.busy = true;
            }
            // Until it is answered.
            self.rereads.entry(ix).or_default().next = Millis::MAX;
            steps.push(step);
        }
    }

    /// It is declared now: how it is, lists have told, as for every object that does not carry our mark yet.
    fn found_by_lists(&mut self, ix: Ix) {
        let Some(obj) = self.obj(ix) else { return };
        let listed = self.kind_of(&obj.key).is_some_and(|kind| kind.listed);
        if listed
            && let Some(obj) = self.obj_mut(ix)
            && matches!(obj.live, Live::Unknown)
        {
            obj.live = Live::Absent;
            self.touch_object(ix);
        }
    }

    /// An adopted object was read.
    pub(super) fn adopted_read(&mut self, ix: Ix, outcome: Outcome<'_>, blobs: &dyn Blobs, now: Millis) {
        if self.adopted_by(ix).is_none() {
            self.reread(ix, now);
            return;
        }
        let sent = self.obj(ix).is_some_and(|obj| obj.delete_sent);
        match outcome {
            Outcome::Object(live) | Outcome::Present(live) => {
                let Some(folded) = self.fold(ix, live) else { return };
                let Some(obj) = self.obj_mut(ix) else { return };
                let unknown = matches!(obj.live, Live::Unknown);
                if unknown || obj.rare.trouble.as_ref().is_some_and(|trouble| trouble.class == Class::Conflict) {
                    obj.rare.clear(|rare| rare.trouble = None);
                }
                let owned =
                    self.obj(ix).and_then(|obj| self.inventory.get(&obj.key)).and_then(|entry| entry.uid.clone());
                if sent && owned.is_some_and(|uid| uid != folded.uid) {
                    // Ours is gone, and somebody made another of that name.
                    self.pruned(ix, now);
                    return;
                }
                self.absorb(ix, folded, live, blobs, now);
                self.deletes_dirty = true;
                match sent {
                    true => self.reread_after_delete(ix, now),
                    false => self.reread_later(ix, now),
                }
            }
            Outcome::NotFound => {
                if let Some(obj) = self.obj_mut(ix) {
                    obj.live = Live::Absent;
                    obj.rare.clear(|rare| rare.trouble = None);
                }
                if sent {
                    self.pruned(ix, now);
                }
                self.deletes_dirty = true;
            }
            other => {
                self.failed(ix, Mark::NONE, other, now);
                let at = self
                    .obj(ix)
                    .and_then(|obj| obj.rare.trouble.as_ref())
                    .map_or(now.saturating_add(LATE), |trouble| trouble.next);
                self.reread(ix, at);
            }
        }
    }
}
