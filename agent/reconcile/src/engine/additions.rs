//! What others added to objects where it matters for security: noted with the live object, told when it comes.

use std::sync::Arc;

use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::report::{Addition, EventKind};
use serde_json::Value;

use super::Engine;
use super::state::{Ix, Live, Obj, Recent, Want};
use crate::added::{self, Added};
use crate::fold::Folded;
use crate::input::Millis;

impl Engine {
    /// Notes them in what a live object was folded to. Answers those that were not there before and are worth an alert, each
    /// with the time at which it came.
    pub(super) fn note_additions(
        &self,
        ix: Ix,
        folded: &mut Folded,
        live: &Value,
        now: Millis,
    ) -> Vec<(Added, Millis)> {
        let Some(obj) = self.obj(ix) else { return Vec::new() };
        // In shadow mode the comparison tells them; what another tool holds is no object of ours.
        let Some(want) = obj.want.as_ref().filter(|_| folded.applied_by_us && !self.rules.shadow) else {
            return Vec::new();
        };
        let people = [want.apply(), folded.controls.apply].contains(&ApplyMode::Merge);
        let mut additions = added::additions(&obj.key, live, (want.ignore(), people), &self.rules, now);
        if additions.is_empty() {
            return Vec::new();
        }
        let known = match &obj.live {
            Live::Present(known) if known.uid == folded.uid => Some(known.additions()),
            _ => None,
        };
        let mut came = Vec::new();
        for addition in &mut additions {
            addition.value = self.scrubbed(ix, std::mem::take(&mut addition.value));
            match known.into_iter().flatten().find(|known| known.same(addition)) {
                Some(known) => addition.since = known.since,
                None if addition.alerts() => {
                    // Seen for the first time it may be old, and told of by a pod before this one.
                    let at = if known.is_some() { now } else { addition.since.min(now) };
                    came.push((addition.clone(), at));
                }
                None => {}
            }
        }
        folded.notes.get_or_insert_default().additions = additions.into();
        came
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
