//! Objects of Flux's inventory that their unit does not declare: which those are, what they are live, and what a take-over would
//! make of them. For adopting them, and for shadow mode.

use std::sync::Arc;

use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{
    LIST_LIMIT, Leftover, LeftoverFate, ObjectReport, ObjectState, ShadowReport, UnitReport,
};
use serde_json::Value;

use super::Engine;
use super::run::Flight;
use super::state::UnitIx;
use crate::adopt::{self, Fate, Found};
use crate::input::Millis;
use crate::inventory::Entry;
use crate::prune::{self, Standing, Verdict};
use crate::retry::{self, Class};
use crate::step::{Action, Outcome, Step};
use crate::{flux, fold};

/// Pause before a read that was refused is made again.
const AGAIN: Millis = 60_000;
/// And where the cause goes away by itself.
const SOON: Millis = 5_000;

/// An object that only Flux's inventory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    /// To be read.
    Unread,
    /// Being read.
    Busy,
    /// It is not there.
    Gone,
    /// As it was read.
    Found(Box<Found>),
    /// It could not be read.
    Failed {
        /// Why, for people.
        why: String,
        /// When it is tried again.
        next: Millis,
        /// It does not go away by itself.
        lasting: bool,
    },
}

/// How the bundle stands to an object of Flux's inventory that its unit does not declare under this key.
pub(super) enum Place {
    /// This unit declares it.
    Declared(Arc<UnitId>),
    /// It is in our inventory.
    Owned,
    /// It may be what this unit declares and the hub does not send.
    Withheld(Arc<UnitId>),
    /// Nobody knows of it.
    Free,
}

impl Engine {
    /// Objects that full units declare and that are not sent, or cannot be used.
    fn not_sent(&self) -> Vec<(&Arc<UnitId>, &ObjectKey)> {
        let mut out = Vec::new();
        for slot in &self.units {
            let Some(full) = slot.full() else { continue };
            out.extend(full.withheld.iter().map(|(key, _)| (&slot.id, key)));
            out.extend(full.unusable.iter().map(|(key, ..)| (&slot.id, key)));
        }
        out
    }

    fn place(&self, key: &ObjectKey, not_sent: &[(&Arc<UnitId>, &ObjectKey)]) -> Place {
        let declared = self.by_key.get(key).and_then(|ix| self.obj(*ix)).and_then(|obj| obj.want.as_ref());
        if let Some(slot) = declared.and_then(|want| self.unit(want.unit)) {
            return Place::Declared(Arc::clone(&slot.id));
        }
        if self.inventory.get(key).is_some() {
            return Place::Owned;
        }
        match not_sent.iter().find(|(_, declared)| adopt::may_be(declared, key)) {
            Some((unit, _)) => Place::Withheld(Arc::clone(unit)),
            None => Place::Free,
        }
    }

    /// What Flux's inventory of a unit has that the unit does not declare, kinds that Driftless reads itself left out.
    pub(super) fn leftovers(&self, unit: UnitIx) -> Vec<(ObjectKey, Place)> {
        let Some(slot) = self.unit(unit) else { return Vec::new() };
        let Some(known) = self.flux.get(&*slot.id) else { return Vec::new() };
        let not_sent = self.not_sent();
        let keys = known.unit.ids.iter().filter_map(|id| flux::parse_id(id)).filter(|key| !flux::interpreted(key));
        keys.map(|key| {
            let place = self.place(&key, &not_sent);
            (key, place)
        })
        .filter(|(_, place)| match place {
            Place::Declared(id) | Place::Withheld(id) => *id != slot.id,
            Place::Owned | Place::Free => true,
        })
        .collect()
    }

    /// What becomes of an object that only Flux's inventory has, by its unit.
    pub(super) fn fate_of(&self, unit: UnitIx, key: &ObjectKey, found: &Found) -> Option<Fate> {
        let slot = self.unit(unit)?;
        let full = slot.full()?;
        let record = self.record(&slot.id, &full.spec);
        let standing = match self.rules.shadow {
            // As it would be once taken over.
            true if full.objects.is_empty() && full.withheld.is_empty() && full.unusable.is_empty() => Standing::Empty,
            true => Standing::Applied,
            false => self.standing(slot),
        };
        let entry = Entry {
            unit: Arc::clone(&slot.id),
            api_version: Arc::new(found.api_version.as_str().into()),
            uid: Some(found.live.uid.clone()),
            baseline: None,
            restored: false,
            adopted: true,
        };
        Some(adopt::fate(key, found, &entry, &record, standing, self.waits_for(key), &self.rules))
    }

    /// In shadow mode: what was read of a unit's leftovers is to be read anew.
    pub(super) fn forget_extras(&mut self, unit: UnitIx) {
        for (key, _) in self.leftovers(unit) {
            if self.extras.get(&key).is_some_and(|extra| !matches!(extra, Extra::Busy)) {
                self.extras.remove(&key);
            }
        }
    }

    /// Reads what only Flux's inventory has.
    pub(super) fn start_extras(&mut self, steps: &mut Vec<Step>) {
        let unread = |(key, extra): (&ObjectKey, &Extra)| (*extra == Extra::Unread).then(|| key.clone());
        let unread: Vec<ObjectKey> = self.extras.iter().filter_map(unread).collect();
        for key in unread {
            if !self.room() {
                return;
            }
            let step = self.step(Action::Get { key: key.clone(), api_version: None });
            self.flights.insert(step.id, Flight::Extra { key: key.clone() });
            self.extras.insert(key, Extra::Busy);
            steps.push(step);
        }
    }

    /// An object that only Flux's inventory has was read.
    pub(super) fn extra_read(&mut self, key: &ObjectKey, outcome: Outcome<'_>, now: Millis) {
        let failed = |why: String, lasting: bool| Extra::Failed {
            why,
            next: now.saturating_add(if lasting { AGAIN } else { SOON }),
            lasting,
        };
        let extra = match outcome {
            Outcome::Object(live) | Outcome::Present(live) => match fold::fold(live, &[], &self.rules) {
                Some(folded) => {
                    let api_version = live.get("apiVersion").and_then(Value::as_str).unwrap_or("v1").to_owned();
                    Extra::Found(Box::new(Found { owner: adopt::owner(live), api_version, live: folded }))
                }
                None => failed("the API server's answer is no object with a UID".to_owned(), true),
            },
            Outcome::NotFound => Extra::Gone,
            Outcome::Failed(failure) => {
                let passing = [Class::Throttled, Class::Unavailable, Class::Conflict].contains(&retry::class(&failure));
                failed(failure.message, !passing)
            }
            Outcome::Ok | Outcome::Unknown => failed("the request was cut off".to_owned(), false),
        };
        self.extras.insert(key.clone(), extra);
        self.touch_all();
    }

    /// In shadow mode: leftovers of a unit that are to be read. Answers when a read that failed is made again.
    pub(super) fn find_extras(&mut self, unit: UnitIx, now: Millis) -> Millis {
        let mut next = Millis::MAX;
        let free = self.leftovers(unit).into_iter().filter(|(_, place)| matches!(place, Place::Free));
        let mut unread = Vec::new();
        for (key, _) in free {
            match self.extras.get(&key) {
                None => unread.push(key),
                Some(Extra::Failed { next: at, .. }) if *at <= now => unread.push(key),
                Some(Extra::Failed { next: at, .. }) => next = next.min(*at),
                Some(_) => {}
            }
        }
        for key in unread.into_iter().take(LIST_LIMIT) {
            self.extras.insert(key, Extra::Unread);
        }
        next
    }

    /// In shadow mode: what only Flux's inventory has, and what a take-over would make of it. Answers the first of those that
    /// were not read yet.
    pub(super) fn tally_leftovers(&self, unit: UnitIx, report: &mut ShadowReport) -> Option<String> {
        let mut first_open = None;
        let mut deletes = 0usize;
        for (key, place) in self.leftovers(unit) {
            let left = |why: String| (LeftoverFate::Left, why);
            let (fate, why) = match (place, self.extras.get(&key)) {
                (Place::Declared(id), _) => left(format!("unit {id} declares it: it goes there")),
                (Place::Withheld(id), _) => {
                    left(format!("it may be what unit {id} declares and the hub does not send"))
                }
                (Place::Owned, _) => left("it is in the inventory of Driftless already".to_owned()),
                (Place::Free, None | Some(Extra::Unread | Extra::Busy)) => {
                    report.open += 1;
                    first_open.get_or_insert_with(|| format!("{key}: only in Flux's inventory, being read"));
                    continue;
                }
                (Place::Free, Some(Extra::Gone)) => left("it is gone already".to_owned()),
                (Place::Free, Some(Extra::Failed { why, .. })) => left(format!("it cannot be read: {why}")),
                (Place::Free, Some(Extra::Found(found))) if found.live.part_of_flux => continue,
                (Place::Free, Some(Extra::Found(found))) => match self.fate_of(unit, &key, found) {
                    Some(Fate::Adopted(Verdict::Hold { why })) => (LeftoverFate::Held, why),
                    Some(Fate::Adopted(Verdict::Keep { why, .. })) => left(why),
                    Some(Fate::Adopted(_)) => {
                        deletes += 1;
                        (LeftoverFate::Deleted, String::new())
                    }
                    Some(Fate::Left(why)) => left(why),
                    None => continue,
                },
            };
            report.leftovers.push(Leftover { id: flux::object_id(&key), fate, why });
        }
        let declared = self.objects.iter().flatten().filter(|obj| obj.want.is_some()).count();
        let budget = prune::budget(declared, &self.rules);
        if deletes > budget as usize {
            let why = format!("{deletes} objects at once; more than {budget} in an hour need approval");
            for leftover in report.leftovers.iter_mut().filter(|leftover| leftover.fate == LeftoverFate::Deleted) {
                leftover.fate = LeftoverFate::Held;
                leftover.why.clone_from(&why);
            }
        }
        let count = |of: LeftoverFate| report.leftovers.iter().filter(|leftover| leftover.fate == of).count() as u32;
        (report.would_delete, report.would_hold) = (count(LeftoverFate::Deleted), count(LeftoverFate::Held));
        report.only_flux_count = report.leftovers.len() as u32;
        // What would be done comes first, should the list be cut.
        report.leftovers.sort_by_key(|leftover| leftover.fate);
        report.leftovers.truncate(LIST_LIMIT);
        report.only_flux = report.leftovers.iter().map(|leftover| leftover.id.clone()).collect();
        first_open
    }

    /// What could not be read, so that it is not adopted yet.
    pub(super) fn report_unread(&self, unit: UnitIx, report: &mut UnitReport) {
        let since = self.unit(unit).map(|slot| slot.started).unwrap_or_default();
        if self.extras.is_empty() || self.unadopted(unit).is_none() {
            return;
        }
        for (key, _) in self.leftovers(unit) {
            let Some(Extra::Failed { why, .. }) = self.extras.get(&key) else { continue };
            let message =
                format!("in Flux's inventory, declared by no unit, and not adopted yet: it cannot be read: {why}");
            let (state, reason) = (ObjectState::Pending, "AdoptionUnread".to_owned());
            report.objects.push(ObjectReport { key, state, reason, message, since });
        }
    }
}
