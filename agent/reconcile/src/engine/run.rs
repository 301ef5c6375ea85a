//! Steps out, outcomes in.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::bundle::{ApplyMode, BlobRef, Blobs};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, FieldDrift};
use serde_json::Value;

use super::Engine;
use super::queue::UnderWay;
use super::state::{Ix, Live, Recent, State, Trouble, UnitIx};
use crate::drift::Baseline;
use crate::fill::Fill;
use crate::health;
use crate::input::{GroupKind, Millis};
use crate::inventory::{ApiVersion, Entry};
use crate::mark::{Mark, Version};
use crate::ownership;
use crate::plan::Need;
use crate::retry::{self, Class};
use crate::step::{Action, Apply, Edit, Failure, Outcome, Purpose, ShardWrite, Step, StepId, TakeOver};

/// How long changes of the inventory that nothing waits for may gather: UIDs and baselines of a burst of applies go out
/// in few writes. Losing them costs a comparison, never an object.
pub(super) const WRITE_DELAY: Millis = 1000;
/// How long after an answer a unit of few objects is looked at again at the latest, while it has more requests on the way.
pub(super) const LOOK_SOON: Millis = 25;
/// A look costs by the number of objects: a millisecond passes between two for each so many of them.
pub(super) const OBJECTS_PER_LOOK_MS: Millis = 64;
/// And between two reports on a unit that is at work, a millisecond for each so many.
pub(super) const OBJECTS_PER_REPORT_MS: Millis = 4;
/// How often an object of a health check that is not ours is read while a unit waits for it.
const LOOK_EVERY: Millis = 5_000;

/// A step in flight.
#[derive(Debug)]
pub(super) enum Flight {
    Write {
        shards: Vec<u32>,
        intents: Vec<Ix>,
    },
    Apply {
        ix: Ix,
        sent: Sent,
        purpose: Purpose,
        unit: UnitIx,
        detail: String,
        noticed: Millis,
        before: Option<Version>,
        /// What is healed.
        fields: Vec<FieldDrift>,
    },
    DryRun {
        ix: Ix,
        sent: Sent,
    },
    Delete {
        ix: Ix,
        /// Whether it was approved, and when it was counted.
        counted: (bool, Millis),
    },
    Read {
        ix: Ix,
    },
    Look {
        unit: UnitIx,
        key: ObjectKey,
    },
    /// An object that only Flux's inventory has.
    Extra {
        key: ObjectKey,
    },
    /// An adopted object, which no watch shows.
    Adopted {
        ix: Ix,
    },
    /// A Kustomization of Flux is suspended.
    Suspend {
        unit: UnitIx,
    },
}

impl Flight {
    /// The unit whose object it heals.
    fn heals(&self) -> Option<UnitIx> {
        match self {
            Self::Apply { purpose: Purpose::Heal, unit, .. } => Some(*unit),
            _ => None,
        }
    }
}

/// What a request carried: the same is compared with its answer, whatever is wanted by then.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    blob: BlobRef,
    api_version: ApiVersion,
    /// Of the declared content.
    pub(super) mark: Mark,
    /// A value of a Secret went into it.
    pub(super) secret: bool,
    open: bool,
    fill: Option<Arc<Fill>>,
    edits: Vec<Edit>,
}

impl Sent {
    pub(super) fn declared(&self, key: &ObjectKey, blobs: &dyn Blobs) -> Option<Value> {
        let fill = (self.open, self.fill.as_deref());
        Engine::declared_of((key, &self.api_version), &self.blob, fill, &self.edits, blobs)
    }
}

impl Engine {
    /// Steps that can start now, to be carried out at once and in parallel. Never more in flight than
    /// [`Rules::in_flight`](crate::rules::Rules::in_flight). Call it after every input and at
    /// [`Engine::next_deadline`].
    pub fn poll(&mut self, now: Millis) -> Vec<Step> {
        self.end_pauses(now);
        self.settle_in_quiet(now);
        self.wake_refused(now);
        while let Some((at, unit)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, unit));
            if let Some(slot) = self.unit_mut(unit) {
                slot.wake = None;
            }
            self.touch(unit);
        }
        // A unit that becomes ready wakes those that depend on it: until nothing changes, but not for ever.
        let mut rounds = self.units.len() + 2;
        while !self.dirty.is_empty() && rounds > 0 && self.generation.is_some() {
            rounds -= 1;
            for unit in std::mem::take(&mut self.dirty) {
                self.advance(unit, now);
            }
        }
        let mut steps = Vec::new();
        if !self.may_begin() {
            return steps;
        }
        if self.rules.shadow {
            self.start_comparisons(&mut steps, now);
            return steps;
        }
        if self.budget_due.is_some_and(|due| due <= now) {
            self.budget_due = None;
            self.deletes_dirty = true;
        }
        if self.deletes_dirty {
            self.deletes_dirty = false;
            self.judge_deletes(now);
        }
        self.start_rereads(&mut steps, now);
        self.start_extras(&mut steps);
        self.start_deletes(&mut steps, now);
        self.start_recreations(&mut steps, now);
        self.start_queued(&mut steps, now);
        self.start_looks(&mut steps, now);
        self.start_suspends(&mut steps, now);
        self.start_write(&mut steps, now);
        steps
    }

    /// All is known that must be before anything is written.
    pub(super) fn may_begin(&self) -> bool {
        self.inventory_read && self.discovered && self.pauses_known && self.generation.is_some()
    }

    pub(super) fn room(&self) -> bool {
        self.flights.len() < self.window.size(self.rules.in_flight)
    }

    pub(super) fn start_queued(&mut self, steps: &mut Vec<Step>, now: Millis) {
        if self.queue.is_empty() || !self.room() {
            return;
        }
        let all = self.window.size(self.rules.in_flight);
        let mut under_way = self.under_way();
        while self.room() {
            let kind = |ix: Ix| {
                let obj = self.objects.get(ix as usize)?.as_ref()?;
                Some(GroupKind::of(&obj.key))
            };
            let Some(ix) = self.queue.next(kind, &under_way, all) else { return };
            let Some(obj) = self.obj_mut(ix) else { continue };
            obj.queued = false;
            // What is closed, done or paused since it was queued is queued again by its unit when that changes.
            let Some((action, flight)) = self.prepare(ix, now) else {
                self.work_ends(ix);
                continue;
            };
            if let Some(slot) = flight.heals().and_then(|unit| self.unit_mut(unit)) {
                slot.healing += 1;
            }
            let step = self.step(action);
            self.flights.insert(step.id, flight);
            if let Some(obj) = self.obj_mut(ix) {
                obj.busy = true;
                under_way.add(GroupKind::of(&obj.key));
            }
            steps.push(step);
        }
    }

    /// Requests under way about objects, by kind.
    fn under_way(&self) -> UnderWay {
        let mut under_way = UnderWay::default();
        for flight in self.flights.values() {
            let ix = match flight {
                Flight::Apply { ix, .. }
                | Flight::DryRun { ix, .. }
                | Flight::Delete { ix, .. }
                | Flight::Read { ix } => *ix,
                _ => continue,
            };
            if let Some(obj) = self.obj(ix) {
                under_way.add(GroupKind::of(&obj.key));
            }
        }
        under_way
    }

    /// The request an object needs now, if it may be made.
    fn prepare(&self, ix: Ix, now: Millis) -> Option<(Action, Flight)> {
        let obj = self.obj(ix)?;
        if obj.busy || self.unstored.contains(&ix) || obj.rare.trouble.as_ref().is_some_and(|t| t.next > now) {
            return None;
        }
        let need = self.need(ix, now);
        let want = obj.want.as_ref()?;
        let slot = self.unit(want.unit)?;
        let full = slot.full()?;
        let heal = super::need::heals(need);
        // What a stage or another unit has to make first cannot be dry-run before; all else is, ahead of its stage.
        let dry_run = !heal && slot.validate && !self.dry_run_passed(ix);
        if !heal && (!slot.open || (want.stage > slot.stage && !dry_run) || (slot.validating() && !dry_run)) {
            return None;
        }
        let mut edits = self.edits(ix);
        let left = Self::drift_of(obj).filter(|_| heal && matches!(obj.live, Live::Present(_)));
        edits.extend(left.map(|drift| drift.keep()).unwrap_or_default());
        let sent = Sent {
            blob: want.blob,
            api_version: Arc::clone(&want.api_version),
            mark: want.mark,
            secret: want.secret(),
            open: want.open.is_some(),
            fill: self.fill_of(want),
            edits,
        };
        let apply = |purpose, take_over| Apply {
            unit: (*slot.id).clone(),
            key: (*obj.key).clone(),
            api_version: want.api_version.to_string(),
            blob: want.blob,
            fill: sent.fill.clone(),
            edits: sent.edits.clone(),
            account: full.spec.service_account.clone(),
            purpose,
            take_over,
            // Whether it is there without our mark is known only by asking; most objects need not be asked for.
            only_if_absent: want.apply() == ApplyMode::IfNotPresent
                || (!want.ignore().is_empty() && matches!(obj.live, Live::Absent)),
            // Theirs stay also those that are left.
            ignore: want
                .ignore()
                .iter()
                .chain(left.iter().flat_map(|drift| drift.left.iter().map(|(p, _)| p)))
                .cloned()
                .collect(),
            reclaim: heal && Self::gap(obj) && want.apply() != ApplyMode::Merge,
            instead_of: self.instead_of(obj),
        };
        let unit = want.unit;
        Some(match need {
            Need::Apply(purpose, _) if dry_run => {
                (Action::DryRun(apply(purpose, TakeOver::No)), Flight::DryRun { ix, sent })
            }
            Need::Apply(purpose, take_over) => {
                let detail = match take_over {
                    TakeOver::HumansAndTools if full.spec.take_over && purpose == Purpose::Create => {
                        "applied, and what Flux had applied is ours now".to_owned()
                    }
                    _ => self.detail(ix, purpose),
                };
                let noticed = obj.rare.drift.as_ref().map_or(obj.since, |drift| drift.since);
                let before = obj.live.folded().map(|live| live.version.clone());
                let fields = match (purpose, &obj.live) {
                    (Purpose::Heal, Live::Absent) => vec![super::report::gone(obj)],
                    (Purpose::Heal, _) => {
                        Self::drift_of(obj).into_iter().flat_map(|drift| drift.to_heal()).cloned().collect()
                    }
                    _ => Vec::new(),
                };
                (
                    Action::Apply(apply(purpose, take_over)),
                    Flight::Apply { ix, sent, purpose, unit, detail, noticed, before, fields },
                )
            }
            Need::DryRun => (Action::DryRun(apply(Purpose::Heal, TakeOver::No)), Flight::DryRun { ix, sent }),
            Need::Read => {
                let api_version = Some(want.api_version.to_string());
                (Action::Get { key: (*obj.key).clone(), api_version }, Flight::Read { ix })
            }
            _ => return None,
        })
    }

    /// `spec.replicas 5 -> 3 (manager kubectl)`.
    pub(super) fn detail(&self, ix: Ix, purpose: Purpose) -> String {
        let Some(obj) = self.obj(ix) else { return String::new() };
        if let Some(was) = self.made_anew(obj) {
            return format!(
                "adopted again: somebody made it anew (its UID was {was}), as the restore of a backup does"
            );
        }
        match (purpose, Self::drift_of(obj)) {
            (Purpose::Create, _) => "created".to_owned(),
            (Purpose::Change, _) => "changed as declared".to_owned(),
            (Purpose::Heal, None) if obj.live.folded().is_none() => "it was gone, made anew".to_owned(),
            (Purpose::Heal, None) => "made as declared".to_owned(),
            (Purpose::Heal, Some(drift)) => {
                let all = drift.to_heal().count();
                let mut parts: Vec<String> = drift
                    .to_heal()
                    .take(3)
                    .map(|field| {
                        let live = field.live.as_deref().unwrap_or("removed");
                        let desired = field.desired.as_deref().unwrap_or("not declared");
                        let manager = field.manager.as_deref().unwrap_or("unknown");
                        format!("{} {live} -> {desired} (manager {manager})", field.path)
                    })
                    .collect();
                if all > 3 {
                    parts.push(format!("and {} more fields", all - 3));
                }
                parts.join(", ")
            }
        }
    }

    fn start_looks(&mut self, steps: &mut Vec<Step>, now: Millis) {
        for unit in 0..self.units.len() as UnitIx {
            if !self.room() {
                return;
            }
            let Some(slot) = self.unit(unit) else { continue };
            if !slot.looks_wait() {
                continue;
            }
            let due: Vec<_> = slot
                .looks
                .iter()
                .filter(|look| look.busy.is_none() && look.next <= now)
                .map(|look| look.key.clone())
                .collect();
            for key in due {
                let step = self.step(Action::Get { key: key.clone(), api_version: None });
                self.flights.insert(step.id, Flight::Look { unit, key: key.clone() });
                if let Some(slot) = self.unit_mut(unit)
                    && let Some(look) = slot.looks.iter_mut().find(|look| look.key == key)
                {
                    look.busy = Some(step.id);
                }
                steps.push(step);
            }
        }
    }

    /// One write at a time. Intents go at once, all that are known now together; the rest gathers for a moment.
    fn start_write(&mut self, steps: &mut Vec<Step>, now: Millis) {
        if self.writing || !self.inventory.is_dirty(&self.frozen) || !self.can_write() || now < self.write_after {
            return;
        }
        let intents: Vec<Ix> = self.unstored.iter().copied().collect();
        let quiet = self.flights.is_empty() && self.queue.is_empty() && steps.is_empty();
        let waited = self.unwritten_since.is_some_and(|since| now >= since.saturating_add(WRITE_DELAY));
        if intents.is_empty() && !quiet && !waited {
            self.unwritten(now);
            return;
        }
        let shards: Vec<ShardWrite> = self.inventory.take_writes(&self.frozen);
        if shards.is_empty() {
            return;
        }
        self.unwritten_since = None;
        self.writing = true;
        let numbers = shards.iter().map(|write| write.shard).collect();
        let step = self.step(Action::WriteInventory { shards });
        self.flights.insert(step.id, Flight::Write { shards: numbers, intents });
        steps.push(step);
    }

    /// What became of a step. The answer of an apply need not be fed to [`Engine::observe`] again.
    pub fn done(&mut self, step: StepId, outcome: Outcome<'_>, blobs: &dyn Blobs, now: Millis) {
        let Some(flight) = self.flights.remove(&step) else { return };
        self.window.answered(&outcome, self.rules.in_flight, now);
        match flight {
            Flight::Write { shards, intents } => self.written(shards, &intents, &outcome, now),
            Flight::Apply { ix, .. }
            | Flight::DryRun { ix, .. }
            | Flight::Delete { ix, .. }
            | Flight::Read { ix }
            | Flight::Adopted { ix } => {
                if let Some(obj) = self.obj_mut(ix) {
                    obj.busy = false;
                }
                if let Some(slot) = flight.heals().and_then(|unit| self.unit_mut(unit)) {
                    slot.healing = slot.healing.saturating_sub(1);
                }
                match flight {
                    Flight::Apply { sent, purpose, unit, detail, noticed, before, fields, .. } => match outcome {
                        Outcome::Object(answer) => {
                            let applied = Applied { ix, sent, purpose, unit, detail, noticed, before, fields };
                            self.applied(applied, answer, blobs, now);
                        }
                        Outcome::Present(live) => self.present(ix, live, blobs, now),
                        other => self.failed(ix, sent.mark, other, now),
                    },
                    Flight::DryRun { sent, .. } => match outcome {
                        Outcome::Object(answer) => self.probed(ix, &sent, answer, blobs, now),
                        Outcome::Present(live) => self.present(ix, live, blobs, now),
                        other => self.failed(ix, sent.mark, other, now),
                    },
                    Flight::Read { .. } => self.was_read(ix, outcome, blobs, now),
                    Flight::Adopted { .. } => self.adopted_read(ix, outcome, blobs, now),
                    Flight::Delete { counted, .. } => self.deleted(ix, counted, outcome, now),
                    // All others are taken above.
                    _ => {}
                }
                let (of, unit) = (self.obj(ix).and_then(|obj| obj.work_of), self.unit_of(ix));
                self.work_ends(ix);
                for unit in of.into_iter().chain(unit.filter(|unit| Some(*unit) != of)) {
                    self.touch_soon(unit, now);
                }
                self.delete_changed(ix);
            }
            Flight::Look { unit, key } => {
                let asked = self.unit(unit).and_then(|slot| slot.full()).map(|full| Arc::clone(&full.asked));
                let verdict = match outcome {
                    Outcome::Object(live) | Outcome::Present(live) => {
                        Some(health::judge(live, asked.as_deref().unwrap_or_default()))
                    }
                    Outcome::NotFound => Some(health::Verdict {
                        health: health::Health::InProgress,
                        message: Some("it does not exist".into()),
                    }),
                    Outcome::Failed(failure) => Some(health::Verdict {
                        health: health::Health::Unknown,
                        message: Some(format!("it could not be read: {}", failure.message)),
                    }),
                    Outcome::Ok | Outcome::Unknown => None,
                };
                if let Some(slot) = self.unit_mut(unit)
                    && let Some(look) = slot.looks.iter_mut().find(|look| look.key == key)
                {
                    let healthy = verdict.as_ref().is_some_and(|v| v.health == health::Health::Current);
                    look.verdict = verdict.or(look.verdict.take());
                    look.busy = None;
                    look.next = now.saturating_add(if healthy { LOOK_EVERY * 12 } else { LOOK_EVERY });
                }
                self.touch(unit);
            }
            Flight::Extra { key } => self.extra_read(&key, outcome, now),
            Flight::Suspend { unit } => self.suspended(unit, outcome, now),
        }
    }

    fn written(&mut self, shards: Vec<u32>, intents: &[Ix], outcome: &Outcome<'_>, now: Millis) {
        self.writing = false;
        if !matches!(outcome, Outcome::Ok | Outcome::Object(_)) {
            self.inventory.rewrite(shards);
            self.write_tries = self.write_tries.saturating_add(1);
            let failure = Failure::default();
            let class = match outcome {
                Outcome::Failed(failure) => retry::class(failure),
                _ => Class::Unavailable,
            };
            // Nothing goes on without it, so it is tried every minute at the latest, whatever the cause.
            self.write_after = retry::next(class, failure.retry_after, self.write_tries, 60, 0, now);
            self.unwritten_since = Some(now);
            return;
        }
        self.write_tries = 0;
        self.inventory.stored();
        self.unwritten(now);
        let mut units = BTreeSet::new();
        for ix in intents {
            self.unstored.remove(ix);
            units.extend(self.unit_of(*ix));
        }
        for unit in units {
            self.touch(unit);
        }
    }

    fn applied(&mut self, applied: Applied, answer: &Value, blobs: &dyn Blobs, now: Millis) {
        let Applied { ix, sent, purpose, unit, detail, noticed, before, fields } = applied;
        let mark = sent.mark;
        let Some(folded) = self.fold(ix, answer) else {
            let failure =
                Failure { message: "the API server's answer is no object with a UID".into(), ..Failure::default() };
            self.failed(ix, mark, Outcome::Failed(failure), now);
            return;
        };
        let adopt = purpose == Purpose::Create && ownership::has_tools(answer, &self.rules);
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.rare.clear(|rare| rare.trouble = None);
        obj.adopt = adopt;
        let changed = before.as_ref() != Some(&folded.version);
        if purpose == Purpose::Heal {
            // Also when it changed nothing: then the difference is one the server makes, and the new baseline holds it.
            obj.rare.made().healed = Some(now);
        }
        if purpose == Purpose::Heal && changed {
            self.count_flips(ix, unit, &fields, now);
        }
        if purpose == Purpose::Heal
            && let Some(slot) = self.unit_mut(unit)
        {
            slot.healed(now);
        }
        let Some(obj) = self.obj_mut(ix) else { return };
        let key = Arc::clone(&obj.key);
        let api_version = obj.want.as_ref().map(|want| Arc::clone(&want.api_version));
        let baseline = match sent.declared(&key, blobs) {
            Some(declared) => Baseline::new(mark, folded.owned, &declared, answer, sent.secret, &self.rules),
            // Without the bytes there is no overlay; a later mismatch is settled by a dry run.
            None => Baseline { desired: mark, owned: folded.owned, overlay: None },
        };
        if let Some(id) = self.unit(unit).map(|slot| Arc::clone(&slot.id)) {
            let api_version = api_version
                .or_else(|| self.inventory.get(&key).map(|entry| Arc::clone(&entry.api_version)))
                .unwrap_or_else(|| Arc::new("v1".into()));
            // What was there when we asked, and is another one than ours was.
            let known = self.inventory.get(&key);
            let other = known.and_then(|entry| entry.uid.as_ref()).is_some_and(|uid| *uid != folded.uid);
            let restored = before.is_some() && (other || known.is_some_and(|entry| entry.restored));
            let uid = Some(folded.uid.clone());
            let entry = Entry { unit: id, api_version, uid, baseline: Some(baseline), restored, adopted: false };
            self.inventory.put(&key, entry);
            self.unwritten(now);
        }
        // It may have left Git while the request was on its way.
        let left = self.obj(ix).is_some_and(|obj| obj.want.is_none());
        if left {
            self.leaving.insert(ix);
            self.deletes_dirty = true;
        }
        let newer_known = self
            .obj(ix)
            .and_then(|obj| obj.live.folded())
            .is_some_and(|live| live.uid == folded.uid && folded.version.older_than(&live.version));
        if !newer_known {
            if let Some(obj) = self.obj_mut(ix) {
                obj.rare.clear(|rare| rare.drift = None);
                obj.since = now;
            }
            self.absorb(ix, folded, answer, blobs, now);
        }
        if changed && let Some(slot) = self.unit_mut(unit) {
            let what = if purpose == Purpose::Heal { EventKind::Healed } else { EventKind::Applied };
            let took_ms = (purpose == Purpose::Heal).then(|| now.saturating_sub(noticed));
            slot.remember(Recent { at: now, what, key, detail: detail.into(), took_ms });
        }
    }

    /// It is there without our mark. To be created only if it is not there, it is somebody else's and not in our inventory
    /// either; else it is made ours, now that it is known what of it is left to others.
    fn present(&mut self, ix: Ix, live: &Value, blobs: &dyn Blobs, now: Millis) {
        let Some(obj) = self.obj_mut(ix) else { return };
        if obj.want.as_ref().is_some_and(|want| want.apply() != ApplyMode::IfNotPresent) {
            if let Some(folded) = self.fold(ix, live) {
                self.absorb(ix, folded, live, blobs, now);
            }
            return;
        }
        obj.elsewhere = true;
        obj.rare.clear(|rare| rare.trouble = None);
        obj.since = now;
        let key = Arc::clone(&obj.key);
        if self.inventory.get(&key).is_some_and(|entry| entry.uid.is_none()) {
            self.inventory.remove(&key);
            self.unwritten(now);
        }
    }

    /// An object was read to be compared.
    fn was_read(&mut self, ix: Ix, outcome: Outcome<'_>, blobs: &dyn Blobs, now: Millis) {
        if let Some(obj) = self.obj_mut(ix) {
            obj.recheck = false;
        }
        match outcome {
            Outcome::Object(live) => {
                let Some(folded) = self.fold(ix, live) else { return };
                self.absorb(ix, folded, live, blobs, now);
                self.compare(ix, live, blobs, now);
                if let Some(obj) = self.obj_mut(ix) {
                    obj.rare.clear(|rare| {
                        rare.trouble = None;
                        rare.looked = None;
                    });
                    if let (Live::Present(folded), Some(want)) = (&obj.live, &obj.want) {
                        obj.rare.made().looked = Some(Box::new((folded.owned, folded.added(), want.mark)));
                    }
                }
            }
            // The watch has not told yet.
            Outcome::NotFound => {
                if let Some(obj) = self.obj_mut(ix) {
                    obj.live = Live::Absent;
                    obj.rare.clear(|rare| rare.drift = None);
                    obj.since = now;
                }
                if self.rules.shadow {
                    self.absent_shadow(ix);
                }
            }
            other => {
                let mark = self.obj(ix).and_then(|obj| obj.want.as_ref()).map_or(Mark::NONE, |want| want.mark);
                self.failed(ix, mark, other, now);
            }
        }
    }

    /// A dry run came back: what the server would make of it.
    fn probed(&mut self, ix: Ix, sent: &Sent, answer: &Value, blobs: &dyn Blobs, now: Millis) {
        if self.rules.shadow {
            self.probed_shadow(ix, sent, answer, blobs);
            return;
        }
        let folded = self.fold(ix, answer);
        let mark = sent.mark;
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.rare.clear(|rare| rare.trouble = None);
        let owned = obj.live.folded().map(|live| live.owned);
        obj.rare.made().probed = Some(Box::new((owned.unwrap_or(Mark::NONE), mark)));
        let unchanged = folded.as_ref().is_some_and(|would| Some(would.owned) == owned);
        let (true, true, Some(owned)) = (unchanged, obj.want.is_some(), owned) else { return };
        // The server would change nothing: the difference is its own way to write it.
        let key = Arc::clone(&obj.key);
        let Some(entry) = self.inventory.get(&key).cloned() else { return };
        let Some(declared) = sent.declared(&key, blobs) else { return };
        let baseline = Baseline::new(mark, owned, &declared, answer, sent.secret, &self.rules);
        self.inventory.put(&key, Entry { baseline: Some(baseline), ..entry });
        self.unwritten(now);
        if let Some(obj) = self.obj_mut(ix) {
            obj.rare.clear(|rare| rare.drift = None);
            obj.since = now;
        }
    }

    /// A request about an object failed, or what became of it is unknown.
    pub(super) fn failed(&mut self, ix: Ix, mark: Mark, outcome: Outcome<'_>, now: Millis) {
        let unit = self.unit_of(ix);
        let retry_interval = unit
            .and_then(|unit| self.unit(unit))
            .and_then(|slot| match &slot.state {
                State::Full(full) => Some(full.spec.retry_interval_seconds),
                _ => None,
            })
            .unwrap_or(60);
        let failure = match outcome {
            Outcome::Failed(failure) => failure,
            Outcome::NotFound => Failure {
                status: Some(404),
                reason: "NotFound".into(),
                message: "not found".into(),
                ..Failure::default()
            },
            // Not carried out, or nobody knows: an apply may be repeated, and a delete has preconditions.
            Outcome::Ok | Outcome::Object(_) | Outcome::Present(_) | Outcome::Unknown => {
                Failure { message: "the request was cut off".into(), ..Failure::default() }
            }
        };
        let class = retry::class(&failure);
        if class == Class::NotServed
            && let Some(kind) = self.obj(ix).map(|obj| crate::input::GroupKind::of(&obj.key))
            && let Some(known) = self.kinds.get_mut(&kind)
        {
            // Discovery was older than the cluster: until it is read anew the kind counts as not served.
            known.served = None;
            self.unserved = true;
        }
        if class == Class::Immutable {
            self.immutable.insert(ix);
            self.deletes_dirty = true;
        }
        let Some(obj) = self.obj_mut(ix) else { return };
        let before = obj.rare.trouble.as_ref().filter(|t| t.mark == mark);
        let tries = before.map_or(1, |t| t.tries.saturating_add(1));
        let since = before.map_or(now, |t| t.since);
        let next = retry::next(class, failure.retry_after, tries, retry_interval, u64::from(ix) * 131, now);
        // New content came while the old was refused: it is tried at once.
        if obj.want.as_ref().is_some_and(|want| want.mark != mark) {
            obj.rare.clear(|rare| rare.trouble = None);
            return;
        }
        obj.rare.made().trouble = Some(Box::new(Trouble { class, failure, tries, next, since, mark }));
        obj.since = since;
        if class == Class::Conflict {
            self.reread_after_delete(ix, now);
        }
    }
}

/// An apply that succeeded.
struct Applied {
    ix: Ix,
    sent: Sent,
    purpose: Purpose,
    unit: UnitIx,
    detail: String,
    noticed: Millis,
    /// The live version when the request was sent: the watch may bring our own write before its answer comes.
    before: Option<Version>,
    /// What was healed.
    fields: Vec<FieldDrift>,
}
