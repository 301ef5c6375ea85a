//! What others added to objects where it matters for security: noted with the live object, told when it comes.

use std::sync::Arc;

use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::report::{Addition, EventKind};
use serde_json::Value;

use super::Engine;
use super::state::{Ix, Live, Obj, Recent, Want};
use crate::added::{self, Added};
use crate::drift;
use crate::fold::Folded;
use crate::input::Millis;

impl Engine {
    /// Notes them in what a live object was folded to. Answers those that are worth an alert and were not told yet, each with
    /// the time at which it came.
    pub(super) fn note_additions(
        &self,
        ix: Ix,
        folded: &mut Folded,
        live: &Value,
        now: Millis,
    ) -> Vec<(Added, Millis)> {
        let Some(obj) = self.obj(ix) else { return Vec::new() };
        // In shadow mode the comparison tells them; what another tool holds is no object of ours.
        if !folded.applied_by_us || self.rules.shadow {
            return Vec::new();
        }
        // Of a unit that is suspended or held it is not known what is left to others: told once that is over.
        let want = obj.want.as_ref();
        let people = want.is_some_and(|want| [want.apply(), folded.controls.apply].contains(&ApplyMode::Merge));
        let ignored = want.map(Want::ignore).unwrap_or_default();
        let mut additions = added::additions(&obj.key, live, (ignored, people), &self.rules, now);
        if additions.is_empty() {
            return Vec::new();
        }
        let known = match &obj.live {
            Live::Present(known) if known.uid == folded.uid => Some(known.additions()),
            _ => None,
        };
        let mut came = Vec::new();
        for addition in &mut additions {
            let mut value = self.scrubbed(ix, std::mem::take(&mut addition.value)).into_string();
            drift::cut(&mut value);
            addition.value = value.into();
            let same = known.into_iter().flatten().find(|known| known.same(addition));
            if let Some(same) = same {
                (addition.since, addition.told) = (same.since, same.told);
            }
            if !addition.told && addition.alerts() && want.is_some() {
                addition.told = true;
                // Seen for the first time it may be old, and told of by a pod before this one.
                let at = if known.is_some() && same.is_none() { now } else { addition.since.min(now) };
                came.push((addition.clone(), at));
            }
        }
        folded.notes.get_or_insert_default().additions = additions.into();
        came
    }

    /// Objects with additions that could not be told are read again, now that they are declared.
    pub(super) fn untold_additions(&mut self) {
        for obj in self.objects.iter_mut().flatten().filter(|obj| obj.want.is_some()) {
            let untold = |live: &Folded| live.additions().iter().any(|added| !added.told && added.alerts());
            obj.recheck |= obj.live.folded().is_some_and(untold);
        }
    }

    /// Tells of what came, but for fields that differ from what is declared: those are drift. Ask after the comparison.
    pub(super) fn tell_additions(&mut self, ix: Ix, came: Vec<(Added, Millis)>) {
        for (added, at) in came {
            let Some(Obj { key, want: Some(Want { unit, .. }), .. }) =
                self.obj(ix).filter(|obj| !is_drift(obj, &added.path))
            else {
                continue;
            };
            let (key, unit) = (Arc::clone(key), *unit);
            let Added { path, value, manager, .. } = added;
            let detail = format!("manager {manager} added {path} ({value}), which is not in Git; it stays");
            if let Some(slot) = self.unit_mut(unit) {
                slot.remember(Recent { at, what: EventKind::Added, key, detail: detail.into(), took_ms: None });
            }
            self.report_dirty.insert(unit);
        }
    }

    /// What is to be reported of an object's additions.
    pub(super) fn report_additions(obj: &Obj) -> impl Iterator<Item = Addition> {
        let additions = obj.live.folded().map(Folded::additions).unwrap_or_default();
        additions.iter().filter(|added| !is_drift(obj, &added.path)).map(|added| Addition {
            key: (*obj.key).clone(),
            path: added.path.to_string(),
            live: added.value.to_string(),
            manager: added.manager.to_string(),
            class: added.class,
            since: added.since,
        })
    }
}

/// The field, or one around it, drifted.
fn is_drift(obj: &Obj, path: &str) -> bool {
    obj.rare.drift.iter().flat_map(|drift| &drift.fields).any(|field| {
        path.strip_prefix(&*field.path).is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
    })
}
