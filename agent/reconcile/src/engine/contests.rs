//! Contests over fields: counted as they are healed, told once, ended when the other side stops.

use std::sync::Arc;

use driftless_protocol::report::{EventKind, FieldDrift};

use super::Engine;
use super::state::{Ix, Recent, UnitIx};
use crate::contest::kept::{self, Kept};
use crate::contest::{self, Field, WINDOW};
use crate::input::Millis;

impl Engine {
    /// The contests that another pod wrote down go on: ask after [`Engine::set_inventory`], which names their objects. Those
    /// of objects that are not owned any more are over.
    pub fn take_back_contests(&mut self, all: Vec<Kept>) {
        for kept in all {
            let Some(&ix) = self.by_key.get(&kept.object) else { continue };
            if let Some(obj) = self.obj_mut(ix) {
                obj.rare.made().contests.get_or_insert_with(Box::default).take_back(kept);
                self.contested.insert(ix);
                self.touch_object(ix);
            }
        }
    }

    /// The contests as they are to be written down, in the order of their objects; at most [`kept::MOST`].
    #[must_use]
    pub fn contests(&self) -> Vec<Kept> {
        let of = |ix: &Ix| self.obj(*ix).and_then(|obj| Some((obj.rare.contests.as_ref()?, &*obj.key)));
        let mut all: Vec<Kept> =
            self.contested.iter().filter_map(of).flat_map(|(contests, key)| contests.kept(key)).collect();
        all.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
        all.truncate(kept::MOST);
        all
    }

    /// Fields of an object were healed, and the object changed by it.
    pub(super) fn count_flips(&mut self, ix: Ix, unit: UnitIx, fields: &[FieldDrift], now: Millis) {
        let Some(obj) = self.obj_mut(ix) else { return };
        let contests = obj.rare.made().contests.get_or_insert_with(Box::default);
        for field in contests.healed(fields, now) {
            let Some(obj) = self.obj(ix) else { return };
            let pace = match contest::is_guarded(&obj.key) || contest::is_guarded_path(&field.path) {
                true => "it matters for security, so it is healed at once all the same",
                false => "from now on it is healed after pauses that grow to a minute, until the other side stops",
            };
            let hint = contest::hint(&obj.key, &field);
            let minutes = WINDOW / 60_000;
            let detail = format!("{} {} times within {minutes} min; {pace}. {hint}", words(&field), field.flips());
            self.contested.insert(ix);
            self.remember_contest(ix, unit, EventKind::Contested, detail, now);
        }
    }

    /// Ends contests that are over. Answers when the next one may be.
    pub(super) fn end_contests(&mut self, ix: Ix, unit: UnitIx, now: Millis) -> Option<Millis> {
        let obj = self.obj_mut(ix)?;
        let contests = obj.rare.there()?.contests.as_mut()?;
        let ended = contests.expire(now);
        let next = contests.next_end();
        let none = contests.contested().next().is_none();
        if contests.is_empty() {
            obj.rare.clear(|rare| rare.contests = None);
        }
        if none {
            self.contested.remove(&ix);
        }
        for field in ended {
            let detail = format!("{} has stopped: healed at once again", words(&field));
            self.remember_contest(ix, unit, EventKind::ContestEnded, detail, now);
        }
        next
    }

    fn remember_contest(&mut self, ix: Ix, unit: UnitIx, what: EventKind, detail: String, now: Millis) {
        let Some(key) = self.obj(ix).map(|obj| Arc::clone(&obj.key)) else { return };
        if let Some(slot) = self.unit_mut(unit) {
            slot.remember(Recent { at: now, what, key, detail: detail.into(), took_ms: None });
        }
        self.report_dirty.insert(unit);
    }
}

/// `spec.replicas goes back and forth with manager x`.
fn words(field: &Field) -> String {
    let what = if field.path.is_empty() { "the object" } else { field.path.as_str() };
    let manager = field.manager.as_deref().unwrap_or("unknown");
    format!("{what} goes back and forth with manager {manager}")
}
