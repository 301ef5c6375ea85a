//! Pauses: which one holds back what, and what happens when one ends.

use driftless_protocol::report::{PauseEnd, PauseReport};

use super::Engine;
use super::state::{Ix, UnitIx};
use crate::input::Millis;
use crate::pause::{Covers, Pause, Pauses, Unusable};
use crate::plan::Need;
use crate::prune::Verdict;

/// A pause that ended, with all it had held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub pause: Pause,
    /// Its time was over; else somebody removed or changed it.
    pub expired: bool,
    /// How many objects it had held back.
    pub count: u32,
    /// The first of them; at most [`PauseEnd::LINES`].
    pub held: Vec<String>,
}

impl Engine {
    /// The cluster may hold pauses: nothing is written before [`Engine::set_pauses`].
    pub fn await_pauses(&mut self) {
        self.pauses_known = false;
    }

    /// All pauses there are now, usable or not. What those that are gone had held back is told by
    /// [`Engine::take_ended_pauses`], and done from now on. Answers those that begin.
    pub fn set_pauses(&mut self, all: Vec<Result<Pause, Unusable>>, now: Millis) -> Vec<Pause> {
        if !std::mem::replace(&mut self.pauses_known, true) {
            self.touch_all();
        }
        let later = Pauses::new(all, &self.rules.agent_namespace, now);
        let begun = later.ended(&self.pauses);
        self.change_pauses(later, now);
        begun
    }

    /// Pauses that ended since the last call.
    pub fn take_ended_pauses(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended_pauses)
    }

    /// The pauses in force, and those that cannot be used.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// How all pauses stand, for the cluster's report.
    #[must_use]
    pub fn pause_reports(&self) -> Vec<PauseReport> {
        let unusable = self.pauses.unusable().iter().map(Unusable::report);
        let active = self.pauses.active().iter().map(|pause| {
            let mut report = pause.report();
            if self.covers_nothing(pause) {
                report.problem = Some("there is no such unit or object of Driftless in this cluster".to_owned());
            }
            report
        });
        // Those that do nothing first: somebody relies on them.
        unusable.chain(active).collect()
    }

    /// There is nothing of ours that it could hold back. Not known before there is a bundle.
    #[must_use]
    pub fn covers_nothing(&self, pause: &Pause) -> bool {
        self.generation.is_some()
            && match &pause.covers {
                Covers::Cluster => false,
                Covers::Unit(unit) => !self.by_unit.contains_key(unit),
                Covers::Object(key) => !self.by_key.contains_key(key),
            }
    }

    /// The pauses that hold back a unit or some of its objects.
    pub(super) fn pauses_of(&self, unit: UnitIx) -> Vec<PauseReport> {
        let Some(id) = self.unit(unit).map(|slot| &slot.id) else { return Vec::new() };
        let concerns = |pause: &&Pause| match &pause.covers {
            Covers::Cluster => true,
            Covers::Unit(covered) => *covered == **id,
            Covers::Object(key) => self.by_key.get(key).copied().is_some_and(|ix| self.unit_of(ix) == Some(unit)),
        };
        self.pauses.active().iter().filter(concerns).map(Pause::report).collect()
    }

    /// The pause that holds back writes to an object.
    pub(super) fn paused(&self, ix: Ix) -> Option<&Pause> {
        if self.pauses.is_empty() {
            return None;
        }
        let unit = self.unit_of(ix).and_then(|unit| self.unit(unit)).map(|slot| &*slot.id);
        self.pauses.holding(unit, &self.obj(ix)?.key)
    }

    /// Ends those whose time is over.
    pub(super) fn end_pauses(&mut self, now: Millis) {
        if self.pauses.next_end().is_some_and(|end| end <= now) {
            self.change_pauses(self.pauses.at_time(now), now);
        }
    }

    fn change_pauses(&mut self, later: Pauses, now: Millis) {
        if self.pauses.active() == later.active() && self.pauses.unusable() == later.unusable() {
            return;
        }
        let mut ended: Vec<(Ended, Vec<(UnitIx, String)>)> = self
            .pauses
            .ended(&later)
            .into_iter()
            .map(|pause| (Ended { expired: pause.expires <= now, pause, count: 0, held: Vec::new() }, Vec::new()))
            .collect();
        if !ended.is_empty() {
            for ix in 0..self.objects.len() as Ix {
                let Some(uid) = self.paused(ix).map(|pause| &pause.uid) else { continue };
                let Some((_, held)) = ended.iter_mut().find(|(end, _)| end.pause.uid == *uid) else { continue };
                let (Some(unit), Some(obj)) = (self.unit_of(ix), self.obj(ix)) else { continue };
                let id = self.unit(unit).map(|slot| &*slot.id);
                // Another pause goes on holding it back.
                if later.holding(id, &obj.key).is_none()
                    && let Some(what) = self.held_back(ix, now)
                {
                    held.push((unit, format!("{}: {what}", obj.key)));
                }
            }
        }
        self.pauses = later;
        for (mut end, held) in ended {
            end.count = held.len() as u32;
            end.held = held.iter().take(PauseEnd::LINES).map(|(_, line)| line.clone()).collect();
            let units: std::collections::BTreeSet<UnitIx> = held.iter().map(|(unit, _)| *unit).collect();
            for unit in units {
                let of = || held.iter().filter(|(of, _)| *of == unit).map(|(_, line)| line.clone());
                let Some(slot) = self.unit_mut(unit) else { continue };
                slot.pause_ended = Some(PauseEnd {
                    name: end.pause.id(),
                    at: now,
                    expired: end.expired,
                    count: of().count() as u32,
                    held: of().take(PauseEnd::LINES).collect(),
                });
            }
            self.ended_pauses.push(end);
        }
        self.ended_pauses.truncate(crate::pause::MOST);
        self.touch_all();
    }

    /// What a pause holds back of an object, in words; `None`: nothing.
    fn held_back(&self, ix: Ix, now: Millis) -> Option<String> {
        if self.obj(ix)?.want.is_some() {
            return match self.need(ix, now) {
                Need::Paused(purpose) => Some(self.detail(ix, purpose)),
                _ => None,
            };
        }
        match self.verdict_without_pause(ix)?.0 {
            Verdict::Delete => Some("deleted, since it left Git".to_owned()),
            Verdict::Hold { why } => Some(format!("it left Git, and its delete waits for approval: {why}")),
            Verdict::Forget { .. } | Verdict::Keep { .. } => None,
        }
    }
}
