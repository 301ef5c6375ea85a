//! One unit: what may start, what it waits for, and how it stands.

use std::sync::Arc;

use driftless_protocol::bundle::SuspendedBy;
use driftless_protocol::report::{Ready, reason};

use super::Engine;
use super::judge::Tally;
use super::need::heals;
use super::state::{Ix, State, Status, UnitIx};
use crate::health::Health;
use crate::input::Millis;
use crate::inventory::Entry;
use crate::order::Stage;
use crate::plan::Need;
use crate::retry;
use crate::step::Purpose;

/// Where an object stands, as far as its unit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// As declared.
    InSync,
    /// As declared, but for drift that stays for now.
    Drifted,
    /// Something is to be done, and waits for something else.
    Pending(Wait),
    /// Something is queued or on its way.
    Started(Wait),
    /// Its dry run is queued or on its way, before anything of the unit is written.
    Unvalidated(Wait),
    /// A pause holds back new content of it.
    Paused,
    /// The last request failed.
    Failed,
    /// The cluster does not serve its kind.
    NotServed,
}

/// What an object waits for. Of the thousands that may wait one is put into words, see [`Engine::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Input,
    Gone,
    Listing,
    Answer,
    Retry,
    Namespace,
    Stage,
    Validation,
    DryRun,
    Turn,
}

impl Engine {
    /// Looks at a unit: queues what can start, sets its status, says when to look again.
    pub(super) fn advance(&mut self, unit: UnitIx, now: Millis) {
        let was_ready = self.unit(unit).map(|slot| (slot.status.ready, slot.applied));
        if let Some(slot) = self.unit_mut(unit).filter(|slot| !matches!(slot.state, State::Full(_))) {
            slot.theirs = false;
        }
        let (status, wake) = match self.unit(unit).map(|slot| &slot.state) {
            None => return,
            Some(State::Held(why, _)) => {
                let message = format!("the hub could not build it, the cluster keeps what it has: {}", why.message);
                (Status { ready: Ready::False, reason: reason::HELD, message, waiting: None }, None)
            }
            Some(State::Suspended(by, _)) => {
                let message = match by {
                    SuspendedBy::Git => "suspended in Git (spec.suspend); nothing is applied, healed or deleted",
                    SuspendedBy::Operator => {
                        "suspended by an operator; nothing is applied, healed or deleted until driftless resume"
                    }
                };
                let message = message.to_owned();
                let wake = self.pass_suspend(unit, now);
                (Status { ready: Ready::Unknown, reason: reason::SUSPENDED, message, waiting: None }, wake)
            }
            Some(State::Left) => {
                let owns = self.leaving.iter().any(|ix| self.unit_of(*ix) == Some(unit));
                let (reason, message) = match self.index_whole {
                    true if !owns => (reason::PRUNING, "it left Git, and nothing of it is left in the cluster"),
                    true => (reason::PRUNING, "it left Git; what it owned is being deleted, or kept as told below"),
                    false => (
                        reason::HELD,
                        "it is not in the bundle, but the hub could not build everything that defines units; nothing is deleted",
                    ),
                };
                (Status { ready: Ready::Unknown, reason, message: message.to_owned(), waiting: None }, None)
            }
            Some(State::Full(_)) if self.rules.shadow => self.advance_shadow(unit, now),
            Some(State::Full(_)) => match self.flux_gate(unit, now) {
                Some(gate) => gate,
                None => self.advance_full(unit, now),
            },
        };
        self.wake_at(unit, wake);
        let Some(slot) = self.unit_mut(unit) else { return };
        slot.looked = now;
        let mut status = status;
        // How long it has waited for the same thing.
        if let (Some(new), Some(old)) = (&mut status.waiting, &slot.status.waiting)
            && new.on == old.on
        {
            new.since = old.since;
        }
        // What was told of it may be of before: while nothing was polled, events were told with the status of then.
        let news = slot.status != status;
        slot.status = status;
        let is_ready = Some((slot.status.ready, slot.applied));
        if news {
            self.report_dirty.insert(unit);
        }
        if was_ready != is_ready {
            self.wake_dependents(unit);
            // Heals that wait for a healthy unit.
            self.dirty.insert(unit);
            self.deletes_dirty = true;
        }
    }

    /// Units that depend on this one look again.
    fn wake_dependents(&mut self, unit: UnitIx) {
        let Some(id) = self.unit(unit).map(|slot| Arc::clone(&slot.id)) else { return };
        let waiting: Vec<UnitIx> = (0..)
            .zip(&self.units)
            .filter(|(_, slot)| slot.full().is_some_and(|full| full.spec.depends_on.contains(&*id)))
            .map(|(unit, _)| unit)
            .collect();
        for unit in waiting {
            self.touch(unit);
        }
    }

    fn advance_full(&mut self, unit: UnitIx, now: Millis) -> (Status, Option<Millis>) {
        let Some(full) = self.unit(unit).and_then(|slot| slot.full()) else { return (Status::default(), None) };
        let blocked = match &full.cycle {
            Some(cycle) => Some(format!("it depends on itself: {cycle}; remove one dependsOn")),
            None => self.unready_dependency(unit, full),
        };
        let input = Self::missing_input(full);
        let blocked = match (blocked, input) {
            (Some(why), _) => Some((reason::DEPENDENCY_NOT_READY, why)),
            (None, Some(why)) => Some((reason::INPUT_NOT_READY, why)),
            (None, None) => None,
        };
        let timeout = full.spec.timeout_seconds.saturating_mul(1000);
        let check = self.full_check(unit, now).min(self.adopt_leftovers(unit, now));
        let Some(full) = self.unit(unit).and_then(|slot| slot.full()) else { return (Status::default(), None) };
        let ixs = full.objects.clone();
        if let Some(slot) = self.unit_mut(unit) {
            slot.stage = Stage::Definitions;
            let was = std::mem::replace(&mut slot.open, blocked.is_none());
            // Deletes wait for what it depends on.
            self.deletes_dirty |= was != blocked.is_none();
        }
        let mut wake: Option<Millis> = None;
        let mut soonest = |at: Millis| wake = Some(wake.map_or(at, |w| w.min(at)));
        let mut tally = Tally::default();
        let mut gate: Option<String> = None;
        let mut gate_stage = Stage::Definitions;
        let mut unvalidated = 0;
        for ix in &ixs {
            let Some(stage) = self.obj(*ix).and_then(|obj| obj.want.as_ref()).map(|want| want.stage) else { continue };
            // A stage opens when all before it is settled: applied and healthy, or failed (then only what depends on it
            // is held up, by its own refusal).
            if stage > gate_stage && gate.is_none() {
                gate_stage = stage;
                if let Some(slot) = self.unit_mut(unit) {
                    slot.stage = stage;
                }
            }
            let closed = stage > gate_stage && gate.is_some();
            let (progress, again) = self.progress(*ix, closed, now);
            if matches!(progress, Progress::Unvalidated(_)) {
                unvalidated += 1;
            }
            if let Some(end) = self.end_contests(*ix, unit, now) {
                soonest(end);
            }
            if let Some(again) = again {
                soonest(again);
            }
            let Some(obj) = self.obj(*ix) else { continue };
            let healthy = obj.live.folded().map(|live| live.health);
            match progress {
                Progress::InSync | Progress::Drifted => {
                    if let Some(live) = obj.live.folded() {
                        let why = live.health_message().unwrap_or("not healthy");
                        tally.unhealthy.add(live.health, &obj.key, why);
                    }
                    if stage < Stage::Resources && gate.is_none() && stage == gate_stage {
                        let deadline = obj.health_since.saturating_add(timeout);
                        if matches!(healthy, Some(Health::InProgress)) && now < deadline {
                            gate = Some(format!("{} to be ready", obj.key));
                            soonest(deadline);
                        }
                    }
                }
                Progress::Pending(wait) | Progress::Started(wait) | Progress::Unvalidated(wait) => {
                    tally.pending += 1;
                    if tally.first_pending.is_none() {
                        tally.first_pending = Some(self.words(*ix, wait, gate.as_deref()));
                    }
                    if stage < Stage::Resources && gate.is_none() {
                        gate = Some(format!("{} to be applied", obj.key));
                    }
                }
                Progress::Paused => {
                    tally.paused += 1;
                    if tally.first_paused.is_none() {
                        tally.first_paused = Some(self.paused(*ix).map(|pause| pause.shown()).unwrap_or_default());
                    }
                }
                Progress::Failed => {
                    tally.failed += 1;
                    if let Some(trouble) = &obj.rare.trouble {
                        let (_, message) = retry::explain(trouble.class, &trouble.failure, &obj.key);
                        tally.errors.push(format!("{}: {message}", obj.key));
                    } else if let Some(why) = self.claimed(*ix) {
                        tally.errors.push(format!("{}: {why}", obj.key));
                    } else {
                        tally.errors.push(format!("{}: {}", obj.key, self.unplaced(&obj.key).unwrap_or_default()));
                    }
                }
                Progress::NotServed => {
                    tally.not_served += 1;
                    if obj.want.as_ref().is_some_and(|want| !want.handed_through) {
                        tally.missing_kinds += 1;
                        if tally.missing_kinds == 1 {
                            tally.errors.push(format!("{}: {}", obj.key, self.unserved(*ix).unwrap_or_default()));
                        }
                    }
                }
            }
        }
        if unvalidated == 0
            && tally.failed == 0
            && tally.paused == 0
            && blocked.is_none()
            && let Some(slot) = self.unit_mut(unit)
            && slot.validating()
        {
            slot.validated = true;
            // Look again at once: writes may start.
            self.dirty.insert(unit);
        }
        if let Some(slot) = self.unit(unit)
            && let Some(full) = slot.full()
        {
            for (key, _, message) in &full.unusable {
                tally.failed += 1;
                tally.errors.push(format!("{key}: {message}"));
            }
        }
        if let Some(at) = self.looks_due(unit, now) {
            soonest(at);
        }
        soonest(check);
        if let Some(slot) = self.unit_mut(unit) {
            let healthy = tally.unhealthy.is_empty();
            if std::mem::replace(&mut slot.healthy, healthy) != healthy {
                // Heals that wait for a healthy unit.
                self.dirty.insert(unit);
            }
        }
        let status = self.judge(unit, &tally, blocked, gate, now);
        if let Some(slot) = self.unit(unit)
            && let Some(settled) = slot.settled
            && status.reason == reason::HEALTH_CHECK_PENDING
        {
            soonest(settled.saturating_add(timeout));
        }
        (status, wake)
    }

    /// Where an object stands; queues it when something can be done now. Also: when to look again. `closed`: the stages
    /// before its own are not settled.
    fn progress(&mut self, ix: Ix, closed: bool, now: Millis) -> (Progress, Option<Millis>) {
        let need = self.need(ix, now);
        let Some(obj) = self.obj(ix) else { return (Progress::InSync, None) };
        // Objects in sync, nearly all of them, are passed without a word.
        let kind = self.kind_of(&obj.key);
        if obj.want.as_ref().is_some_and(|want| !self.serves(kind, want)) {
            return (Progress::NotServed, None);
        }
        if kind.is_some_and(|kind| kind.misplaces(&obj.key)) {
            return (Progress::Failed, None);
        }
        match need {
            Need::Nothing | Need::Alone(_) => (Progress::InSync, None),
            Need::Theirs => (Progress::Failed, None),
            Need::Leave => (Progress::Drifted, None),
            Need::Later(at) => (Progress::Drifted, at),
            Need::Paused(Purpose::Heal) => (Progress::Drifted, None),
            Need::Paused(_) => (Progress::Paused, None),
            Need::Input => (Progress::Pending(Wait::Input), None),
            Need::Gone => (Progress::Pending(Wait::Gone), None),
            Need::Listing => (Progress::Pending(Wait::Listing), None),
            Need::Apply(..) | Need::DryRun | Need::Read => self.start(ix, heals(need), closed, now),
        }
    }

    /// An object needs a request: queues it if it may be made now.
    fn start(&mut self, ix: Ix, heal: bool, closed: bool, now: Millis) -> (Progress, Option<Millis>) {
        let Some(obj) = self.obj(ix) else { return (Progress::InSync, None) };
        if obj.busy {
            let due = self.dry_run_due(ix);
            let progress = if due { Progress::Unvalidated(Wait::Answer) } else { Progress::Started(Wait::Answer) };
            return (progress, None);
        }
        if let Some(trouble) = &obj.rare.trouble {
            let (lasting, next) = (trouble.lasting(), trouble.next);
            let progress = match lasting {
                true => Progress::Failed,
                // While a unit is validated, what is not refused for good has not passed yet.
                false if self.dry_run_due(ix) => Progress::Unvalidated(Wait::Retry),
                false => Progress::Pending(Wait::Retry),
            };
            if next > now {
                return (progress, Some(next));
            }
            self.enqueue(ix, heal);
            return (progress, None);
        }
        // A heal does not wait for stages or dependencies: its place was there before.
        if !heal && self.waits_for_namespace(ix) {
            return (Progress::Pending(Wait::Namespace), None);
        }
        if !heal && self.dry_run_due(ix) {
            self.enqueue(ix, heal);
            return (Progress::Unvalidated(Wait::DryRun), None);
        }
        if !heal && closed {
            return (Progress::Pending(Wait::Stage), None);
        }
        if !heal && self.waits_for_validation(ix) {
            return (Progress::Pending(Wait::Validation), None);
        }
        self.enqueue(ix, heal);
        (Progress::Started(Wait::Turn), None)
    }

    /// What an object waits for, for people. `gate`: what keeps its stage closed.
    fn words(&self, ix: Ix, wait: Wait, gate: Option<&str>) -> String {
        let Some(obj) = self.obj(ix) else { return String::new() };
        let key = &obj.key;
        match wait {
            Wait::Input => obj.missing_input().to_owned(),
            Wait::Gone => format!("{key} is being deleted; it is made anew once it is gone"),
            Wait::Listing => match self.kind_of(key).and_then(|kind| kind.blind.as_ref()) {
                Some(why) => format!("{} cannot be listed: {why}", key.kind),
                None => format!("the first list of {}", key.kind),
            },
            Wait::Answer => format!("the API server's answer for {key}"),
            Wait::Retry => {
                let why =
                    obj.rare.trouble.as_ref().map(|trouble| retry::explain(trouble.class, &trouble.failure, key).1);
                format!("{key}: {}", why.unwrap_or_default())
            }
            Wait::Namespace => self.missing_namespace(ix).unwrap_or_default(),
            Wait::Stage => format!("{} before {key}", gate.unwrap_or_default()),
            Wait::Validation => format!("the dry runs of the other objects before {key}"),
            Wait::DryRun => format!("the dry run of {key}"),
            Wait::Turn => format!("{key} to be applied"),
        }
    }

    /// Its dry run passed.
    pub(super) fn dry_run_passed(&self, ix: Ix) -> bool {
        let Some(obj) = self.obj(ix) else { return false };
        obj.want.as_ref().is_some_and(|want| obj.rare.probed.as_deref().is_some_and(|(_, mark)| *mark == want.mark))
    }

    /// Its unit is being validated, and it has not passed.
    fn dry_run_due(&self, ix: Ix) -> bool {
        self.validating(ix) && !self.dry_run_passed(ix)
    }

    /// It passed, and its unit waits for the others.
    fn waits_for_validation(&self, ix: Ix) -> bool {
        self.validating(ix) && self.dry_run_passed(ix)
    }

    fn validating(&self, ix: Ix) -> bool {
        let unit = self.obj(ix).and_then(|obj| obj.want.as_ref()).and_then(|want| self.unit(want.unit));
        unit.is_some_and(super::state::Slot::validating)
    }

    /// Puts an object into the run queue, with its intent into the inventory first where there is none.
    fn enqueue(&mut self, ix: Ix, heal: bool) {
        if !self.inventory_read || !self.discovered || !self.pauses_known {
            return;
        }
        let Some(obj) = self.obj(ix) else { return };
        let Some(want) = &obj.want else { return };
        let Some(slot) = self.unit(want.unit) else { return };
        if !slot.open && !heal {
            return;
        }
        let known = self.inventory.get(&obj.key).is_some();
        let validating = !heal && slot.validate && !self.dry_run_passed(ix);
        if !known && !validating {
            let (key, frozen) = (Arc::clone(&obj.key), self.frozen.contains(&self.inventory.shard_of(&obj.key)));
            let entry = Entry {
                unit: Arc::clone(&slot.id),
                api_version: Arc::clone(&want.api_version),
                uid: None,
                baseline: None,
                restored: false,
                adopted: false,
            };
            self.inventory.put(&key, entry);
            // An intent in a damaged shard cannot be stored; it would be lost anyway, and is nothing to delete by.
            if !frozen {
                self.unstored.insert(ix);
            }
        }
        self.queue_up(ix);
    }

    /// Puts an object into the run queue.
    pub(super) fn queue_up(&mut self, ix: Ix) {
        if self.unstored.contains(&ix) {
            return;
        }
        let Some(obj) = self.obj_mut(ix) else { return };
        if !obj.queued && !obj.busy {
            obj.queued = true;
            self.queue.push(ix);
            self.work_begins(ix);
        }
    }

    /// An object is queued: its unit has work under way.
    pub(super) fn work_begins(&mut self, ix: Ix) {
        let unit = self.unit_of(ix);
        if let Some(obj) = self.obj_mut(ix) {
            let before = std::mem::replace(&mut obj.work_of, unit);
            self.count_work(before, unit);
        }
    }

    /// It is neither queued nor busy any more.
    pub(super) fn work_ends(&mut self, ix: Ix) {
        if let Some(obj) = self.obj_mut(ix) {
            let before = obj.work_of.take();
            self.count_work(before, None);
        }
    }

    fn count_work(&mut self, before: Option<UnitIx>, after: Option<UnitIx>) {
        if let Some(slot) = before.and_then(|unit| self.unit_mut(unit)) {
            slot.work = slot.work.saturating_sub(1);
        }
        if let Some(slot) = after.and_then(|unit| self.unit_mut(unit)) {
            slot.work += 1;
        }
    }
}
