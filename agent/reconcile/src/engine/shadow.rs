//! Shadow mode: everything is compared, nothing is written.
//!
//! The watches show what carries Flux's owner label; what they do not show is read once, and again at the unit's interval.
//! Declared fields are compared, and besides them every field that Flux or a person wrote and that is not declared: both
//! would change with a take-over. A difference costs one dry run per content of the object: the API server writes some values
//! in its own way (`1000m` as `1`), and Flux sends more than Git has (of built-in kinds what Go's types hold, as `strategy: {}`
//! of a Deployment). The dry run is made in the name of the other tool, so what it would leave as it is live is no difference.
//! Units are compared with the inventory of Flux's Kustomization besides.

use driftless_protocol::bundle::Blobs;
use driftless_protocol::marks::UNIT_LABEL;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{
    DriftClass, FieldDrift, LIST_LIMIT, ObjectReport, ObjectState, Ready, ShadowReport, UnitReport, reason,
};
use serde_json::Value;

use super::Engine;
use super::run::Sent;
use super::state::{Drift, Full, Ix, Live, Obj, Open, Status, UnitIx};
use crate::drift::{self, Overlay};
use crate::flux;
use crate::input::Millis;
use crate::mark::Mark;
use crate::plan::Need;
use crate::retry;
use crate::step::Step;

/// What a comparison remembers of an object besides its differences.
#[derive(Debug)]
pub(super) struct Compared {
    /// The declared content it speaks of.
    mark: Mark,
    /// It was read by name, and is not there.
    absent: bool,
    /// Where a dry run answered otherwise than declared; `None`: none was made.
    overlay: Option<Box<Overlay>>,
}

/// What a unit's objects amount to.
#[derive(Debug, Default)]
struct Tally {
    report: ShadowReport,
    /// The first object that could not be compared yet, and why.
    first_open: Option<String>,
}

impl Tally {
    fn open(&mut self, key: &ObjectKey, why: &str) {
        self.report.open += 1;
        self.first_open.get_or_insert_with(|| format!("{key}: {why}"));
    }
}

impl Engine {
    /// What an object needs to be compared.
    pub(super) fn need_shadow(&self, obj: &Obj, alone: Option<crate::plan::Alone>) -> Need {
        let Some(want) = &obj.want else { return Need::Nothing };
        if let Some(alone) = alone {
            return Need::Alone(alone);
        }
        let known = obj.rare.compared.as_ref().filter(|compared| compared.mark == want.mark);
        match &obj.live {
            Live::Unknown if obj.recheck => Need::Read,
            Live::Unknown => Need::Listing,
            _ if obj.recheck => Need::Read,
            Live::Absent if known.is_some_and(|known| known.absent) => Need::Leave,
            Live::Absent => Need::Read,
            Live::Present(live) => {
                let of = (live.owned, live.added(), want.mark);
                match obj.rare.drift.as_ref().filter(|drift| drift.of == of) {
                    None => Need::Read,
                    Some(drift) if drift.fields.is_empty() => Need::Nothing,
                    Some(drift)
                        if drift.fields.iter().any(|field| field.desired.is_some() || of_tool(field))
                            && known.is_none_or(|known| known.overlay.is_none()) =>
                    {
                        Need::DryRun
                    }
                    Some(_) => Need::Leave,
                }
            }
        }
    }

    /// Compares a unit as far as that goes now.
    pub(super) fn advance_shadow(&mut self, unit: UnitIx, now: Millis) -> (Status, Option<Millis>) {
        let checked = |engine: &Self| engine.unit(unit).map(|slot| slot.checked);
        let before = checked(self);
        let mut wake = self.full_check(unit, now);
        if checked(self) != before {
            self.forget_extras(unit);
        }
        let Some(objects) = self.unit(unit).and_then(|slot| slot.full()).map(|full| full.objects.clone()) else {
            return (Status::default(), None);
        };
        for ix in objects {
            if self.unserved(ix).is_some() {
                continue;
            }
            let Some(obj) = self.obj(ix) else { continue };
            if let Some(trouble) = obj.rare.trouble.as_ref().filter(|trouble| trouble.next > now) {
                wake = wake.min(trouble.next);
                continue;
            }
            if matches!(self.need(ix, now), Need::Read | Need::DryRun) {
                self.queue_up(ix);
            }
        }
        wake = wake.min(self.find_extras(unit, now));
        let Some(tally) = self.tally_shadow(unit, now) else { return (Status::default(), None) };
        (self.shadow_status(unit, tally), Some(wake))
    }

    fn shadow_status(&self, unit: UnitIx, tally: Tally) -> Status {
        let Some(slot) = self.unit(unit) else { return Status::default() };
        let flux = self.flux.get(&*slot.id).map(|known| &known.unit);
        let (r, objects) = (&tally.report, slot.full().map_or(0, |full| full.objects.len()));
        let revision = slot.full().and_then(|full| full.revision.clone()).unwrap_or_else(|| "unknown revision".into());
        let beside = match flux {
            Some(flux) if flux.revision.as_deref() == Some(revision.as_str()) => String::new(),
            Some(flux) => format!("; Flux is at {}", flux.revision.as_deref().unwrap_or("no revision yet")),
            None if self.flux_served() => format!("; Flux has no Kustomization {} here", slot.id),
            None => String::new(),
        };
        let status = |ready, reason, message| Status { ready, reason, message, waiting: None };
        if r.differences() > 0 {
            let mut parts = Vec::new();
            for (count, what) in [
                (r.missing, "missing"),
                (r.differing, "differ"),
                (r.refused, "refused by the API server"),
                (r.only_flux_count, "only in Flux's inventory"),
                (r.only_ours_count, "not in Flux's inventory"),
                (r.open, "not compared yet"),
            ] {
                if count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            for (count, what) in
                [(r.would_delete, "would be adopted and deleted"), (r.would_hold, "adopted and held for approval")]
            {
                if count > 0 {
                    parts.push(format!("of those only in Flux's inventory {count} {what}"));
                }
            }
            let message =
                format!("shadow, nothing is written: {} of {objects} objects at {revision}{beside}", parts.join(", "));
            return status(Ready::False, reason::SHADOW_DIFFERS, message);
        }
        if r.open > 0 {
            let first = tally.first_open.unwrap_or_default();
            let message = format!(
                "shadow, nothing is written: {} of {objects} objects are not compared yet, first {first}",
                r.open
            );
            return status(Ready::Unknown, reason::PROGRESSING, message);
        }
        let message =
            format!("shadow, nothing is written: zero differences in {objects} objects at {revision}{beside}");
        status(Ready::True, reason::SHADOW_EQUAL, message)
    }

    fn tally_shadow(&self, unit: UnitIx, now: Millis) -> Option<Tally> {
        let slot = self.unit(unit)?;
        let full = slot.full()?;
        let mut out = Tally::default();
        for ix in &full.objects {
            let Some(obj) = self.obj(*ix) else { continue };
            if let Some(why) = self.unserved(*ix) {
                out.open(&obj.key, &why);
                continue;
            }
            if let Some(why) = self.unplaced(&obj.key) {
                out.report.refused += 1;
                out.first_open.get_or_insert(why);
                continue;
            }
            let need = self.need(*ix, now);
            if let Some(trouble) = obj.rare.trouble.as_ref().filter(|_| matches!(need, Need::Read | Need::DryRun)) {
                match (need, trouble.lasting()) {
                    (Need::DryRun, true) => out.report.refused += 1,
                    _ => out.open(&obj.key, &retry::explain(trouble.class, &trouble.failure, &obj.key).1),
                }
                continue;
            }
            match need {
                Need::Nothing | Need::Alone(_) => out.report.equal += 1,
                Need::Leave if matches!(obj.live, Live::Absent) => out.report.missing += 1,
                Need::Leave => {
                    out.report.differing += 1;
                    out.report.fields += Self::drift_of(obj).map_or(0, |drift| drift.fields.len() as u32);
                }
                Need::Input => out.open(&obj.key, "waits for an input"),
                Need::Listing => out.open(&obj.key, "its kind has not been listed yet"),
                _ => out.open(&obj.key, "being read"),
            }
        }
        out.report.refused += full.unusable.len() as u32;
        out.report.open += full.withheld.len() as u32;
        if let Some((key, why)) = full.withheld.first() {
            out.first_open.get_or_insert_with(|| format!("{key}: not sent by the hub: {}", why.message));
        }
        self.beside_inventory(unit, full, &mut out);
        Some(out)
    }

    /// Compares the set of objects with the inventory of Flux's Kustomization.
    fn beside_inventory(&self, unit: UnitIx, full: &Full, out: &mut Tally) {
        let Some(known) = self.unit(unit).and_then(|slot| self.flux.get(&*slot.id)) else { return };
        // One that was never applied has no inventory to compare with.
        if known.unit.revision.is_none() && known.unit.ids.is_empty() {
            return;
        }
        if let Some(open) = self.tally_leftovers(unit, &mut out.report) {
            out.first_open.get_or_insert(open);
        }
        let report = &mut out.report;
        for ix in &full.objects {
            let Some(obj) = self.obj(*ix) else { continue };
            let id = flux::object_id(&obj.key);
            // What is missing is counted as that.
            let there = obj.live.folded().is_some();
            let alone =
                obj.want.as_ref().is_some_and(|want| want.apply() == driftless_protocol::bundle::ApplyMode::Ignore);
            if there && !alone && known.unit.ids.binary_search_by(|known| (**known).cmp(&id)).is_err() {
                report.only_ours_count += 1;
                if report.only_ours.len() < LIST_LIMIT {
                    report.only_ours.push(id);
                }
            }
        }
    }

    /// Starts the comparisons that can be made now.
    pub(super) fn start_comparisons(&mut self, steps: &mut Vec<Step>, now: Millis) {
        self.start_queued(steps, now);
        self.start_extras(steps);
    }

    /// Compares a live object with what is declared, as if it were to be applied now.
    pub(super) fn compare_shadow(&mut self, ix: Ix, live: &Value, blobs: &dyn Blobs, now: Millis) {
        let Some(obj) = self.obj(ix) else { return };
        let (Some(want), Live::Present(folded)) = (&obj.want, &obj.live) else { return };
        if matches!(want.open.as_deref(), Some(Open::Waits(_))) {
            return;
        }
        let of = (folded.owned, folded.added(), want.mark);
        let Some(mut declared) = self.declared(ix, want, &self.edits(ix), blobs) else { return };
        without_mark(&mut declared);
        let hidden = self.hidden(&obj.key, want, blobs);
        let known = obj.rare.compared.as_ref().filter(|compared| compared.mark == want.mark);
        let context = drift::Context {
            overlay: known.and_then(|known| known.overlay.as_deref()),
            autoscaled: self.autoscaled(&obj.key),
            ignore: want.ignore(),
            observe: &[],
            warn: &[],
            merge: [want.apply(), folded.controls.apply].contains(&driftless_protocol::bundle::ApplyMode::Merge),
            hidden: &hidden,
            rules: &self.rules,
        };
        let fields = drift::diff(&obj.key, &declared, live, &context);
        let since = obj.rare.drift.as_ref().filter(|d| !d.fields.is_empty()).map_or(now, |d| d.since);
        if let Some(obj) = self.obj_mut(ix) {
            obj.rare.made().drift = Some(Box::new(Drift { of, fields, left: Vec::new(), since }));
            obj.since = since;
        }
    }

    /// What an apply would make of an object is known: it is read once more and compared with that.
    pub(super) fn probed_shadow(&mut self, ix: Ix, sent: &Sent, answer: &Value, blobs: &dyn Blobs) {
        let Some(key) = self.obj(ix).map(|obj| std::sync::Arc::clone(&obj.key)) else { return };
        let mut declared = sent.declared(&key, blobs).unwrap_or_default();
        without_mark(&mut declared);
        let mut overlay = Overlay::between(&declared, answer, sent.secret, &self.rules);
        // Only of the tool in whose name it was made: what another or a person has stays there in the answer, and would not in
        // life.
        if let Some((manager, drift)) =
            self.obj(ix).and_then(|obj| Some((self.instead_of(obj)?, obj.rare.drift.as_ref()?)))
        {
            for field in drift.fields.iter().filter(|field| of_tool(field) && field.manager.as_ref() == Some(&manager))
            {
                if let Some(pointer) = &field.pointer {
                    overlay.stays(&field.path, answer.pointer(pointer), sent.secret, &self.rules);
                }
            }
        }
        if let Some(obj) = self.obj_mut(ix) {
            let rare = obj.rare.made();
            rare.trouble = None;
            rare.drift = None;
            rare.compared =
                Some(Box::new(Compared { mark: sent.mark, absent: false, overlay: Some(Box::new(overlay)) }));
        }
    }

    /// The other tool that has fields of this object which Git has not: its first.
    pub(super) fn instead_of(&self, obj: &Obj) -> Option<String> {
        let drift = obj.rare.drift.as_ref().filter(|_| self.rules.shadow)?;
        drift.fields.iter().find(|field| of_tool(field))?.manager.clone()
    }

    /// It was read by name and is not there.
    pub(super) fn absent_shadow(&mut self, ix: Ix) {
        let Some(obj) = self.obj_mut(ix) else { return };
        if let Some(mark) = obj.want.as_ref().map(|want| want.mark) {
            let overlay =
                obj.rare.made().compared.take().filter(|known| known.mark == mark).and_then(|known| known.overlay);
            obj.rare.made().compared = Some(Box::new(Compared { mark, absent: true, overlay }));
        }
    }

    /// Its kind was listed anew without it: the list shows only what carries Flux's label, so it is read again.
    pub(super) fn unlisted_shadow(&mut self, ix: Ix) {
        if let Some(compared) = self.obj_mut(ix).and_then(|obj| obj.rare.there()?.compared.as_mut()) {
            compared.absent = false;
        }
    }

    /// The unit's part of a report in shadow mode.
    pub(super) fn report_shadow(&self, unit: UnitIx, report: &mut UnitReport, now: Millis) {
        let Some(tally) = self.tally_shadow(unit, now) else { return };
        let Some(full) = self.unit(unit).and_then(|slot| slot.full()) else { return };
        for ix in &full.objects {
            let Some(obj) = self.obj(*ix) else { continue };
            let mut say = |state, reason: &str, message: String| {
                let (key, reason) = ((*obj.key).clone(), reason.to_owned());
                report.objects.push(ObjectReport { key, state, reason, message, since: obj.since });
            };
            if let Some(message) = self.unserved(*ix) {
                report.counts.not_served += 1;
                say(ObjectState::NotServed, "KindNotServed", message);
                continue;
            }
            if let Some(message) = self.unplaced(&obj.key) {
                report.counts.failed += 1;
                say(ObjectState::Failed, "NamespaceNotSpecified", message);
                continue;
            }
            let need = self.need(*ix, now);
            if let Some(trouble) = obj.rare.trouble.as_ref().filter(|_| matches!(need, Need::Read | Need::DryRun)) {
                let (code, message) = retry::explain(trouble.class, &trouble.failure, &obj.key);
                if trouble.lasting() {
                    report.counts.failed += 1;
                    let what = if need == Need::DryRun { "an apply would be refused" } else { "it cannot be read" };
                    say(ObjectState::Failed, code, format!("{what}: {message}"));
                } else {
                    say(ObjectState::Pending, code, message);
                }
                report.drift.extend(Self::drift_of(obj).into_iter().flat_map(|drift| drift.fields.iter().cloned()));
                continue;
            }
            match need {
                Need::Nothing => report.counts.in_sync += 1,
                Need::Alone(alone) => {
                    report.counts.left_alone += 1;
                    let (code, text) = alone.shown();
                    say(ObjectState::LeftAlone, code, text.to_owned());
                }
                Need::Leave if matches!(obj.live, Live::Absent) => {
                    report.counts.drifted += 1;
                    say(ObjectState::Drifted, "Missing", "declared, and not in the cluster".to_owned());
                }
                Need::Leave => {
                    report.counts.drifted += 1;
                    let fields = Self::drift_of(obj).map(|drift| drift.fields.as_slice()).unwrap_or_default();
                    let first: Vec<&str> = fields.iter().take(3).map(|field| field.path.as_str()).collect();
                    say(
                        ObjectState::Drifted,
                        "Differs",
                        format!("{} fields differ: {}", fields.len(), first.join(", ")),
                    );
                    report.drift.extend(fields.iter().cloned());
                }
                Need::Listing => say(ObjectState::Pending, "NotListed", "its kind has not been listed yet".to_owned()),
                Need::Input => {
                    say(ObjectState::Pending, "InputNotReady", format!("waits for {}", obj.missing_input()));
                }
                _ => say(ObjectState::Pending, "Comparing", "being read".to_owned()),
            }
        }
        report.shadow = Some(tally.report);
    }
}

/// Another GitOps tool has it, and Git has not.
fn of_tool(field: &FieldDrift) -> bool {
    field.desired.is_none() && field.class == DriftClass::GitOps
}

/// Our own label is no difference: a live Flux does not know it.
fn without_mark(object: &mut Value) {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(UNIT_LABEL);
    }
}
