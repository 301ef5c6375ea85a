//! Reports: how a unit stands, whole.

use std::collections::BTreeSet;

use driftless_protocol::id::UnitId;
use driftless_protocol::report::{
    Contest, Counts, DriftClass, FieldDrift, LIST_LIMIT, ObjectReport, ObjectState, UnitReport, reason,
};

use super::state::{Ix, Live, Obj, Recent, Slot, State, UnitIx};
use super::{Engine, FIRST, Happened};
use crate::contest;
use crate::health::Health;
use crate::input::Millis;
use crate::mark::Mark;
use crate::plan::Need;
use crate::prune::Verdict;
use crate::retry;
use crate::step::Purpose;

impl Engine {
    /// Reports of the units whose state changed since the last call, whole and bounded. A large unit that is at work is told
    /// of now and then: see [`Engine::untold`].
    pub fn take_reports(&mut self, now: Millis) -> Vec<UnitReport> {
        let mut out = Vec::new();
        for unit in std::mem::take(&mut self.report_dirty) {
            // There is more to tell soon: at the end of its work at the latest.
            if self.unit(unit).is_some_and(|slot| slot.told_lately(now)) {
                self.report_dirty.insert(unit);
                continue;
            }
            self.gather(unit);
            let Some(report) = self.report_of(unit, now) else { continue };
            if let Some(slot) = self.unit_mut(unit) {
                slot.told = now;
            }
            let mut timeless = report.clone();
            // Neither the time nor a new generation is a change of the unit.
            (timeless.observed_at, timeless.generation) = (0, None);
            let bytes = serde_json::to_vec(&timeless).unwrap_or_default();
            let mark = Mark::of_bytes(&self.rules.hash_key, &bytes);
            if let Some(slot) = self.unit_mut(unit)
                && slot.reported != mark
            {
                slot.reported = mark;
                out.push(report);
            }
        }
        out
    }

    /// Whether there is something that [`Engine::take_reports`] kept for later.
    #[must_use]
    pub fn untold(&self) -> bool {
        !self.report_dirty.is_empty()
    }

    /// What was done since the last call, in few words. Ask after [`Engine::take_reports`].
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened).into_values().collect()
    }

    fn gather(&mut self, unit: UnitIx) {
        let Some(slot) = self.units.get_mut(unit as usize) else { return };
        for gathered in std::mem::take(&mut slot.gathered) {
            let happened = self.happened.entry((unit, gathered.what as u8)).or_insert_with(|| Happened {
                unit: (*slot.id).clone(),
                what: gathered.what,
                count: 0,
                first: Vec::new(),
            });
            happened.count = happened.count.saturating_add(gathered.count);
            let room = FIRST.saturating_sub(happened.first.len());
            happened.first.extend(gathered.first.into_iter().take(room));
        }
    }

    /// The units that are in the index or still own something. One that is no longer here is gone for good.
    #[must_use]
    pub fn units(&self) -> Vec<UnitId> {
        let owners: BTreeSet<UnitIx> = self.leaving.iter().filter_map(|ix| self.unit_of(*ix)).collect();
        let stays = |unit: UnitIx| {
            owners.contains(&unit) || self.unit(unit).is_some_and(|slot| !matches!(slot.state, State::Left))
        };
        self.by_unit.iter().filter(|(_, unit)| stays(**unit)).map(|(id, _)| (**id).clone()).collect()
    }

    /// A unit's report; `None` for a unit that is neither in the index nor owns anything.
    pub(super) fn report_of(&self, unit: UnitIx, now: Millis) -> Option<UnitReport> {
        let slot = self.unit(unit)?;
        let owned = || self.leaving.iter().filter(move |ix| self.unit_of(**ix) == Some(unit)).copied();
        if matches!(slot.state, State::Left) && owned().next().is_none() && slot.recent.is_empty() {
            return None;
        }
        let mut report = UnitReport {
            unit: (*slot.id).clone(),
            ready: slot.status.ready,
            reason: slot.status.reason.to_owned(),
            message: slot.status.message.clone(),
            generation: self.generation,
            desired: slot.full().map(|full| full.body),
            applied: slot.applied,
            last_applied: slot.applied_at,
            applied_revision: slot.applied_revision.clone(),
            suspended: matches!(slot.state, State::Suspended(..)),
            drift_mode: slot.mode,
            counts: Counts::default(),
            objects: Vec::new(),
            drift: Vec::new(),
            recent: slot.recent.iter().map(Recent::told).collect(),
            waiting: slot.status.waiting.clone(),
            contests: Vec::new(),
            additions: Vec::new(),
            held_deletes: slot.held_deletes.clone(),
            approved_deletes: self.open_approvals(unit),
            inputs: slot.full().map(|full| self.input_reports(full)).unwrap_or_default(),
            filled: slot.full().and_then(|full| self.filled_mark(full)),
            pauses: self.pauses_of(unit),
            pause_ended: slot.pause_ended.clone(),
            flux: self.flux_state(unit, now),
            shadow: None,
            observed_at: now,
        };
        report.counts.held_deletes = slot.held_deletes.len() as u32;
        report.counts.approved_deletes = report.approved_deletes.len() as u32;
        if let Some(full) = slot.full() {
            if self.rules.shadow {
                self.report_shadow(unit, &mut report, now);
            }
            for ix in full.objects.iter().filter(|_| !self.rules.shadow) {
                if let Some(obj) = self.obj(*ix) {
                    self.report_object(*ix, obj, slot, &mut report, now);
                }
            }
            report.counts.objects = (full.objects.len() + full.unusable.len()) as u32;
            report.counts.withheld = full.withheld.len() as u32;
            report.counts.failed += full.unusable.len() as u32;
            for (key, code, message) in &full.unusable {
                let state = ObjectState::Failed;
                let reason = (*code).to_owned();
                report.objects.push(ObjectReport {
                    key: key.clone(),
                    state,
                    reason,
                    message: message.clone(),
                    since: slot.started,
                });
            }
            for (key, why) in &full.withheld {
                let message = place(why);
                let state = ObjectState::Withheld;
                let reason = why.code.clone();
                report.objects.push(ObjectReport { key: key.clone(), state, reason, message, since: slot.started });
            }
        }
        for ix in owned() {
            self.report_leaving(ix, &mut report);
        }
        self.report_unread(unit, &mut report);
        report.objects.sort_by(|a, b| (severity(a.state), &a.key).cmp(&(severity(b.state), &b.key)));
        report.bound();
        Some(report)
    }

    fn report_object(&self, ix: Ix, obj: &Obj, slot: &Slot, report: &mut UnitReport, now: Millis) {
        // What is to come may be the whole unit, and is said last: of more than a report can hold nothing is made.
        let full = report.objects.len() >= LIST_LIMIT;
        let mut say = |state: ObjectState, reason: &str, message: String, since: Millis| {
            if full && state == ObjectState::Pending {
                return;
            }
            let (key, reason) = ((*obj.key).clone(), reason.to_owned());
            report.objects.push(ObjectReport { key, state, reason, message, since });
        };
        let kind = self.kind_of(&obj.key);
        if obj.want.as_ref().is_some_and(|want| !self.serves(kind, want)) {
            let message = self.unserved(ix).unwrap_or_default();
            report.counts.not_served += 1;
            say(ObjectState::NotServed, "KindNotServed", message, slot.started);
            return;
        }
        if kind.is_some_and(|kind| kind.misplaces(&obj.key)) {
            let message = self.unplaced(&obj.key).unwrap_or_default();
            report.counts.failed += 1;
            say(ObjectState::Failed, "NamespaceNotSpecified", message, slot.started);
            return;
        }
        if slot.theirs {
            return;
        }
        if let Some(why) = self.claimed(ix) {
            report.counts.failed += 1;
            say(ObjectState::Failed, "FluxOwns", why, obj.since);
            return;
        }
        if let Some(trouble) = obj.rare.trouble.as_ref().filter(|trouble| trouble.lasting()) {
            report.counts.failed += 1;
            let explain = if Self::drift_of(obj).is_some() { retry::explain_heal } else { retry::explain };
            let (reason, mut message) = explain(trouble.class, &trouble.failure, &obj.key);
            if self.to_recreate(ix) {
                message.push_str("; force: deleted and made anew when that is approved (driftless approve)");
            }
            if trouble.tries > 1 {
                message.push_str(&format!(" ({} tries)", trouble.tries));
            }
            say(ObjectState::Failed, reason, message, trouble.since);
            return;
        }
        report.additions.extend(Self::report_additions(obj));
        for field in obj.rare.contests.iter().flat_map(|contests| contests.contested()) {
            report.contests.push(Contest {
                key: (*obj.key).clone(),
                path: field.path.clone(),
                manager: field.manager.clone(),
                class: field.class,
                flips: field.flips() as u32,
                since: field.since.unwrap_or_default(),
                hint: contest::hint(&obj.key, field),
            });
        }
        let need = self.need(ix, now);
        if let Some(drift) = Self::drift_of(obj) {
            report.drift.extend(drift.fields.iter().cloned());
            let stays = matches!(need, Need::Leave | Need::Later(_) | Need::Paused(Purpose::Heal));
            if stays {
                report.counts.drifted += 1;
                let fields: Vec<&str> = drift.fields.iter().take(3).map(|field| field.path.as_str()).collect();
                let of_fields = drift.fields.iter().all(|field| field.mode.is_some());
                let why = match need {
                    Need::Later(Some(_)) => "healed after its pause",
                    Need::Later(None) => "healed once the unit is healthy",
                    Need::Paused(_) => "healed when the pause ends",
                    _ if of_fields => "left alone by the mode of these fields",
                    _ => "left alone by its drift mode",
                };
                let message =
                    format!("{} of {} drifted fields: {}; {why}", fields.len(), drift.fields.len(), fields.join(", "));
                say(ObjectState::Drifted, "Drifted", message, drift.since);
            }
        }
        if matches!(need, Need::Paused(_)) {
            report.counts.paused += 1;
        }
        if matches!(obj.live, Live::Absent)
            && matches!(need, Need::Leave | Need::Later(_) | Need::Paused(Purpose::Heal))
        {
            report.counts.drifted += 1;
            report.drift.push(gone(obj));
            say(
                ObjectState::Drifted,
                "Deleted",
                "somebody deleted it; left so by its unit's drift mode or pause".to_owned(),
                obj.since,
            );
            return;
        }
        match need {
            Need::Nothing => report.counts.in_sync += 1,
            Need::Leave | Need::Later(_) | Need::Theirs | Need::Paused(Purpose::Heal) => {}
            Need::Paused(purpose) => {
                let by = self.paused(ix).map(|pause| pause.shown()).unwrap_or_default();
                let what = if purpose == Purpose::Create { "created" } else { "changed" };
                say(ObjectState::Pending, reason::PAUSED, format!("to be {what} when {by} ends"), obj.since);
                return;
            }
            Need::Alone(alone) => {
                report.counts.left_alone += 1;
                let (reason, text) = alone.shown();
                let differ = Self::drift_of(obj).map_or(0, |drift| drift.fields.len());
                let differ = if differ > 0 { format!("; {differ} fields are not as declared") } else { String::new() };
                say(ObjectState::LeftAlone, reason, format!("{text}{differ}"), obj.since);
            }
            Need::Listing => {
                say(ObjectState::Pending, "NotListed", "its kind has not been listed yet".to_owned(), obj.since)
            }
            Need::Input => {
                let why = format!("waits for {}", obj.missing_input());
                say(ObjectState::Pending, "InputNotReady", why, obj.since);
                return;
            }
            Need::Gone => {
                let by = obj.live.folded().and_then(|live| live.finalizers()).filter(|f| !f.is_empty());
                let by = by.map(|f| format!(", held up by finalizers {f}")).unwrap_or_default();
                say(
                    ObjectState::Pending,
                    "Terminating",
                    format!("it is being deleted{by}; made anew once it is gone"),
                    obj.since,
                );
                return;
            }
            Need::Apply(..) | Need::DryRun | Need::Read => {
                if !full {
                    let waiting = slot.status.waiting.as_ref();
                    let message = waiting.map_or_else(|| "to be applied".to_owned(), |w| format!("waits for {}", w.on));
                    say(ObjectState::Pending, "Pending", message, obj.since);
                }
                return;
            }
        }
        if let Some(live) = obj.live.folded().filter(|live| live.health != Health::Current) {
            report.counts.unhealthy += 1;
            let message = live.health_message().unwrap_or("its state is unknown").to_owned();
            let (state, reason) = match live.health {
                Health::Failed => (ObjectState::Unhealthy, "Failed"),
                _ => (ObjectState::InProgress, "InProgress"),
            };
            let (key, reason) = ((*obj.key).clone(), reason.to_owned());
            report.objects.push(ObjectReport { key, state, reason, message, since: obj.health_since });
        }
    }

    fn report_leaving(&self, ix: Ix, report: &mut UnitReport) {
        let Some(obj) = self.obj(ix) else { return };
        let mut say = |reason: &str, message: String, since: Millis| {
            let (key, state) = ((*obj.key).clone(), ObjectState::Pending);
            report.objects.push(ObjectReport { key, state, reason: reason.to_owned(), message, since });
        };
        if let Some(trouble) = &obj.rare.trouble {
            let (reason, message) = retry::explain(trouble.class, &trouble.failure, &obj.key);
            let what = if matches!(obj.live, Live::Unknown) { "read" } else { "deleted" };
            say(reason, format!("it left Git and could not be {what}: {message}"), trouble.since);
            return;
        }
        if obj.delete_sent {
            let by = obj.live.folded().and_then(|live| live.finalizers()).filter(|f| !f.is_empty());
            let by = by.map(|f| format!(", held up by finalizers {f}")).unwrap_or_default();
            say("Deleting", format!("it left Git and is being deleted{by}"), obj.since);
            return;
        }
        // Of a held or suspended unit the unit says it, not each of its objects.
        if let Some((Verdict::Keep { reason, why }, _)) = self.verdict(ix)
            && !matches!(reason, "Held" | "Suspended" | "FluxActs")
        {
            say(reason, format!("not declared any more; kept: {why}"), obj.since);
        }
    }
}

/// A whole object that is gone, as drift.
pub(super) fn gone(obj: &Obj) -> FieldDrift {
    FieldDrift {
        key: (*obj.key).clone(),
        path: String::new(),
        pointer: None,
        desired: Some("the object".to_owned()),
        live: None,
        manager: None,
        at: None,
        class: DriftClass::Deleted,
        mode: None,
    }
}

fn severity(state: ObjectState) -> u8 {
    match state {
        ObjectState::Failed => 0,
        ObjectState::NotServed => 1,
        ObjectState::Unhealthy => 2,
        ObjectState::Drifted => 3,
        ObjectState::Withheld => 4,
        ObjectState::Pending => 5,
        ObjectState::InProgress => 6,
        ObjectState::LeftAlone => 7,
    }
}

/// A reason with its place.
fn place(why: &driftless_protocol::bundle::Reason) -> String {
    match (&why.file, why.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", why.message),
        (Some(file), None) => format!("{} ({file})", why.message),
        _ => why.message.clone(),
    }
}
