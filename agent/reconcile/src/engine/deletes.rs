//! Deletes: judged over the whole cluster, started in reverse order, within the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::bundle::ApprovedDelete;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, HeldDelete};

use super::Engine;
use super::run::Flight;
use super::state::{Ix, Live, Recent, Slot, State, UnitIx};
use crate::input::{GroupKind, Millis};
use crate::mark::Mark;
use crate::order;
use crate::pause::Pause;
use crate::prune::{self, Candidate, Seen, Standing, Verdict};
use crate::step::{Action, Delete, Outcome, Step};

/// What an hour allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Deletes in the last hour, approved or not.
    used: u32,
    /// The chart's cap on approved ones, with those asked for now.
    cap: Option<u32>,
    asked: u32,
}

impl Budget {
    /// Why no approved delete may happen now, if so.
    pub(super) fn cap_reached(&self) -> Option<String> {
        let cap = self.cap.filter(|cap| self.used.saturating_add(self.asked) > *cap)?;
        Some(format!("approved, but this cluster allows at most {cap} deletes an hour"))
    }
}

impl Engine {
    /// Judges everything that left Git: forgets what is gone or not ours, holds what needs approval.
    pub(super) fn judge_deletes(&mut self, now: Millis) {
        if self.generation.is_none() {
            return;
        }
        let held = self.units.iter().any(|slot| !slot.held_deletes.is_empty());
        let open = [&self.leaving, &self.deletes, &self.immutable, &self.recreate].iter().any(|set| !set.is_empty());
        if !held && !open {
            // Nearly always: and asked for whenever a unit becomes ready.
            self.budget_due = None;
            return;
        }
        let before: BTreeMap<UnitIx, Vec<HeldDelete>> =
            (0..).zip(&mut self.units).map(|(unit, slot)| (unit, std::mem::take(&mut slot.held_deletes))).collect();
        let (mut go, mut approved) = (Vec::new(), 0u32);
        for ix in self.leaving.clone() {
            let Some((verdict, by_approval)) = self.verdict(ix) else { continue };
            match verdict {
                Verdict::Delete => {
                    go.push(ix);
                    approved += u32::from(by_approval);
                }
                Verdict::Forget { why } => {
                    self.forget(ix, why, now);
                }
                Verdict::Keep { .. } => {}
                Verdict::Hold { why } => self.hold(ix, why),
            }
        }
        // All or nothing: half a mistake is not better than a whole one.
        let (used, used_approved) = self.inventory.deletes_in_last_hour(now);
        let total = self.inventory.len() + (used + used_approved) as usize;
        let budget = prune::budget(total, &self.rules);
        let asked = (go.len() as u32).saturating_sub(approved);
        let over = asked > 0 && asked.saturating_add(used) > budget;
        let anew = self.immutable.iter().filter(|ix| self.is_approved(**ix) && self.to_recreate(**ix)).count() as u32;
        let cap = Budget {
            used: used + used_approved,
            cap: self.rules.approved_delete_cap,
            asked: approved.saturating_add(anew),
        };
        let over_cap = cap.cap_reached().filter(|_| approved + anew > 0);
        // Those on their way stay among the deletes, so that what must go after them waits.
        self.deletes.retain(|ix| self.objects.get(*ix as usize).and_then(Option::as_ref).is_some_and(|obj| obj.busy));
        for ix in go {
            match (self.is_approved(ix), &over_cap) {
                (true, Some(why)) => self.hold(ix, why.clone()),
                (false, _) if over => {
                    let why = format!(
                        "{asked} objects left Git and {used} were deleted in the last hour; more than {budget} need approval"
                    );
                    self.hold(ix, why);
                }
                _ => {
                    self.deletes.insert(ix);
                }
            }
        }
        self.judge_recreations(&cap);
        // What is held for this hour's sum only goes by itself when the hour has passed.
        let later = (over && asked <= budget) || over_cap.is_some();
        self.budget_due = later.then(|| self.inventory.next_budget(now)).flatten();
        let changed: Vec<UnitIx> = (0..)
            .zip(&self.units)
            .filter(|(unit, slot)| before.get(unit).is_none_or(|held| *held != slot.held_deletes))
            .map(|(unit, _)| unit)
            .collect();
        self.report_dirty.extend(changed);
    }

    fn hold(&mut self, ix: Ix, why: String) {
        let Some(unit) = self.unit_of(ix) else { return };
        let Some(obj) = self.obj(ix) else { return };
        let uid = obj.live.folded().map(|live| live.uid.to_string()).unwrap_or_default();
        let why = match self.adopted_by(ix) {
            Some(_) => format!("Flux had applied it, and Git dropped it before the take-over: {why}"),
            None => why,
        };
        let held = HeldDelete { key: (*obj.key).clone(), uid, why };
        if let Some(slot) = self.unit_mut(unit) {
            slot.held_deletes.push(held);
        }
    }

    /// The approvals whose object is still there and was one of this unit: they end when it is gone.
    pub(super) fn open_approvals(&self, unit: UnitIx) -> Vec<ApprovedDelete> {
        let open = self.approved.iter().filter(|(key, uid)| {
            let Some(ix) = self.by_key.get(key).copied() else { return false };
            if !self.leaving.contains(&ix) && !self.may_recreate(ix) {
                return false;
            }
            let Some(obj) = self.obj(ix).filter(|_| self.unit_of(ix) == Some(unit)) else { return false };
            match &obj.live {
                Live::Present(live) => live.uid.to_string() == *uid,
                Live::Absent => false,
                // Not listed yet: it may be there.
                Live::Unknown => true,
            }
        });
        open.map(|(key, uid)| ApprovedDelete { key: key.clone(), uid: uid.clone() }).collect()
    }

    pub(super) fn is_approved(&self, ix: Ix) -> bool {
        let Some(obj) = self.obj(ix) else { return false };
        let Some(live) = obj.live.folded() else { return false };
        !self.approved.is_empty() && self.approved.contains(&((*obj.key).clone(), live.uid.to_string()))
    }

    /// The prune rules' word on an object; `None` while a request about it is in flight.
    pub(super) fn verdict(&self, ix: Ix) -> Option<(Verdict, bool)> {
        self.verdict_while(ix, self.paused(ix))
    }

    /// The same if no pause held it back.
    pub(super) fn verdict_without_pause(&self, ix: Ix) -> Option<(Verdict, bool)> {
        self.verdict_while(ix, None)
    }

    fn verdict_while(&self, ix: Ix, paused: Option<&Pause>) -> Option<(Verdict, bool)> {
        let obj = self.obj(ix)?;
        if obj.busy || obj.want.is_some() || obj.delete_sent {
            return None;
        }
        let entry = self.inventory.get(&obj.key)?;
        let slot = self.by_unit.get(&entry.unit).and_then(|unit| self.unit(*unit));
        let none = std::collections::BTreeSet::new();
        let approved = self.is_approved(ix);
        let candidate = Candidate {
            key: &obj.key,
            entry,
            record: self.inventory.unit(&entry.unit),
            live: match &obj.live {
                Live::Unknown => Seen::Unknown,
                Live::Absent => Seen::Absent,
                Live::Present(live) => Seen::Live(live),
            },
            standing: slot.map_or(Standing::Unclear, |slot| self.standing(slot)),
            inventory_whole: self.inventory_errors.is_empty(),
            suspects: self.suspects.get(&ix).unwrap_or(&none),
            moved_to: self.waits_for(&obj.key),
            paused,
            approved,
        };
        Some((prune::judge(&candidate, &self.rules), approved))
    }

    pub(super) fn standing<'a>(&self, slot: &'a Slot) -> Standing<'a> {
        if slot.theirs || self.theirs(&slot.id) {
            return Standing::Theirs;
        }
        match &slot.state {
            State::Held(why, _) => Standing::Held(&why.message),
            State::Suspended(..) => Standing::Suspended,
            State::Left if self.index_whole => Standing::Left,
            State::Left => Standing::Unclear,
            State::Full(full) if full.objects.is_empty() && full.withheld.is_empty() && full.unusable.is_empty() => {
                Standing::Empty
            }
            State::Full(_) if !slot.open => Standing::Waiting,
            State::Full(full) if slot.applied == Some(full.body) => Standing::Applied,
            State::Full(_) => Standing::Applying,
        }
    }

    /// Starts what may be deleted: what was applied last goes first, and the next kind only when that is accepted.
    pub(super) fn start_deletes(&mut self, steps: &mut Vec<Step>, now: Millis) {
        let mut last: BTreeMap<UnitIx, (order::Stage, u8)> = BTreeMap::new();
        let (mut ready, mut refused) = (Vec::new(), Vec::new());
        for ix in &self.deletes {
            let Some(obj) = self.obj(*ix) else { continue };
            if obj.delete_sent {
                continue;
            }
            let go = matches!(self.verdict(*ix), Some((Verdict::Delete, _)));
            let deleting = obj.busy && obj.want.is_none();
            if !go && !deleting {
                continue;
            }
            let Some(unit) = self.unit_of(*ix) else { continue };
            if go && obj.rare.trouble.as_ref().is_some_and(|trouble| trouble.lasting() && trouble.next > now) {
                // What is refused for good does not hold up the others; it is told, and tried again in its time.
                refused.push((*ix, unit));
                continue;
            }
            let rank = (order::Stage::of(&obj.key), order::rank(&obj.key.kind));
            let highest = last.entry(unit).or_insert(rank);
            *highest = rank.max(*highest);
            if go {
                ready.push((*ix, unit, rank));
            }
        }
        for (ix, unit) in refused {
            if let Some(trouble) = self.obj(ix).and_then(|obj| obj.rare.trouble.as_ref()) {
                self.timers.insert((trouble.next, unit));
            }
        }
        for (ix, unit, rank) in ready {
            // What was adopted is ours only once that is stored.
            if last.get(&unit) != Some(&rank) || self.unstored.contains(&ix) {
                continue;
            }
            if !self.room() {
                return;
            }
            let Some(obj) = self.obj(ix) else { continue };
            if let Some(trouble) = &obj.rare.trouble
                && trouble.next > now
            {
                self.timers.insert((trouble.next, unit));
                continue;
            }
            let (Some(live), Some(entry)) = (obj.live.folded(), self.inventory.get(&obj.key)) else { continue };
            if live.deleting {
                // Whoever asked for it, before this process began most likely: once is enough.
                self.being_deleted(ix, now);
                continue;
            }
            let record = self.inventory.unit(&entry.unit);
            let delete = Delete {
                unit: (*entry.unit).clone(),
                key: (*obj.key).clone(),
                api_version: self.served_as(&obj.key, &entry.api_version),
                uid: live.uid.to_string(),
                resource_version: live.version.to_string(),
                account: record.and_then(|record| record.account.clone()),
            };
            let step = self.step(Action::Delete(delete));
            let approved = self.is_approved(ix);
            self.flights.insert(step.id, Flight::Delete { ix, counted: (approved, now) });
            if let Some(obj) = self.obj_mut(ix) {
                obj.busy = true;
            }
            self.inventory.count_delete(approved, now);
            self.unwritten(now);
            steps.push(step);
        }
    }

    /// The `apiVersion` to use for an object that was applied as this one: a cluster upgrade may have removed it.
    pub(super) fn served_as(&self, key: &ObjectKey, applied: &str) -> String {
        let versions = self.kinds.get(&GroupKind::of(key)).and_then(|kind| kind.served.as_ref());
        match versions
            .and_then(|versions| versions.first().filter(|_| !versions.iter().any(|v| v == super::version_of(applied))))
        {
            Some(version) if key.group.is_empty() => version.clone(),
            Some(version) => format!("{}/{version}", key.group),
            None => applied.to_owned(),
        }
    }

    /// A delete came back.
    pub(super) fn deleted(&mut self, ix: Ix, counted: (bool, Millis), outcome: Outcome<'_>, now: Millis) {
        let (approved, at) = counted;
        if let Outcome::Failed(failure) = &outcome
            && failure.status.is_some_and(|status| status < 500 && status != 408)
        {
            // It was refused, so the hour has seen one less. After a timeout nobody knows.
            self.inventory.uncount_delete(approved, at);
            self.unwritten(now);
        }
        let declared = self.obj(ix).and_then(|obj| obj.want.as_ref()).map(|want| want.mark);
        match outcome {
            Outcome::Ok | Outcome::Object(_) | Outcome::Present(_) | Outcome::NotFound if declared.is_some() => {
                self.recreation_begins(ix, now);
            }
            Outcome::Ok | Outcome::Object(_) | Outcome::Present(_) => self.being_deleted(ix, now),
            Outcome::NotFound => self.pruned(ix, now),
            other => self.failed(ix, declared.unwrap_or(Mark::NONE), other, now),
        }
        self.deletes_dirty = true;
    }

    /// Its delete was accepted, and it may take its time.
    fn being_deleted(&mut self, ix: Ix, now: Millis) {
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.rare.clear(|rare| rare.trouble = None);
        obj.delete_sent = true;
        obj.since = now;
        let gone = matches!(obj.live, Live::Absent);
        self.deletes.remove(&ix);
        if let Some(unit) = self.unit_of(ix) {
            self.report_dirty.insert(unit);
        }
        // The watch may have told already.
        if gone {
            self.pruned(ix, now);
        } else {
            self.reread_after_delete(ix, now);
        }
    }

    /// An object is gone after our delete.
    pub(super) fn pruned(&mut self, ix: Ix, now: Millis) {
        let detail = match self.adopted_by(ix) {
            Some(_) => "deleted: Flux had applied it, and Git dropped it before the take-over",
            None => "deleted, since it left Git",
        };
        self.drop_entry(ix, EventKind::Pruned, detail.to_owned(), now);
    }

    fn forget(&mut self, ix: Ix, why: Option<String>, now: Millis) {
        match why {
            Some(why) => self.drop_entry(ix, EventKind::Released, why, now),
            None => self.drop_entry(ix, EventKind::Pruned, "it was gone already".to_owned(), now),
        }
    }

    fn drop_entry(&mut self, ix: Ix, what: EventKind, detail: String, now: Millis) {
        let unit = self.unit_of(ix);
        let Some(obj) = self.obj(ix) else { return };
        if obj.want.is_some() {
            return;
        }
        let key = Arc::clone(&obj.key);
        self.inventory.remove(&key);
        self.unwritten(now);
        self.leaving.remove(&ix);
        self.suspects.remove(&ix);
        self.deletes_dirty = true;
        if let Some(unit) = unit {
            if let Some(slot) = self.unit_mut(unit) {
                slot.remember(Recent { at: now, what, key, detail: detail.into(), took_ms: None });
            }
            self.touch(unit);
        }
        if self.obj(ix).is_some_and(|obj| !obj.busy) {
            self.forget_object(ix);
        }
        // The last of a unit that left takes its record along.
        let left = unit
            .and_then(|unit| self.unit(unit))
            .filter(|slot| matches!(slot.state, State::Left))
            .map(|s| Arc::clone(&s.id));
        if let Some(id) = left
            && !self.inventory.iter().any(|(_, entry)| entry.unit == id)
        {
            self.inventory.remove_unit(&id);
        }
    }
}
