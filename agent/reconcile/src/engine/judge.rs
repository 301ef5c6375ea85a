//! The verdict on a unit: ready, or why not.

use driftless_cel::{CelError, Question};
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{Ready, Waiting, reason};
use serde_json::{Value, json};

use super::Engine;
use super::state::{Full, Live, Obj, Slot, State, Status, UnitIx};
use crate::health::Health;
use crate::input::Millis;

/// What a unit's objects amount to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) pending: usize,
    pub(super) failed: usize,
    /// New content held back by a pause.
    pub(super) paused: usize,
    pub(super) first_paused: Option<String>,
    pub(super) not_served: usize,
    /// Not served, and not handed through: the unit cannot be ready.
    pub(super) missing_kinds: usize,
    pub(super) first_pending: Option<String>,
    pub(super) errors: Vec<String>,
    /// Not healthy, or not yet, in apply order.
    pub(super) unhealthy: Unhealthy,
}

/// Objects that are not healthy: how many, how the worst is, and the first of them in words.
#[derive(Clone, Debug, Default)]
pub(super) struct Unhealthy {
    count: usize,
    failed: bool,
    shown: Vec<String>,
}

/// Objects named in a unit's message; the rest are in its report.
const SHOWN: usize = 5;

impl Unhealthy {
    pub(super) fn add(&mut self, health: Health, key: &ObjectKey, why: &str) {
        if health == Health::Current {
            return;
        }
        self.count += 1;
        let text = format!("{key}: {why}");
        // What failed is named before what is on its way.
        if health == Health::Failed && !self.failed {
            self.failed = true;
            self.shown.insert(0, text);
        } else {
            self.shown.push(text);
        }
        self.shown.truncate(SHOWN);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn words(&self) -> String {
        let mut text = self.shown.join("; ");
        if self.count > self.shown.len() {
            text.push_str(&format!("; and {} more", self.count - self.shown.len()));
        }
        text
    }
}

impl Engine {
    /// The first dependency that is not ready, as a sentence.
    pub(super) fn unready_dependency(&self, unit: UnitIx, full: &Full) -> Option<String> {
        full.spec.depends_on.iter().find_map(|id| {
            let Some(slot) = self.by_unit.get(id).and_then(|unit| self.unit(*unit)) else {
                return Some(format!("dependsOn {id}: there is no such unit in this cluster"));
            };
            match &slot.state {
                State::Left => Some(format!("dependsOn {id}: it left Git")),
                State::Held(why, _) => Some(format!("dependsOn {id}: the hub could not build it: {}", why.message)),
                // As Flux does, a suspended unit counts as it stands: by whether it was ever applied here.
                State::Suspended(..) if self.inventory.units().any(|(known, _)| **known == *id) => None,
                State::Suspended(..) => Some(format!("dependsOn {id}: it is suspended and was never applied here")),
                State::Full(_) if self.theirs(id) => self.unready_in_flux(id),
                State::Full(_) if let Some((_, question)) = full.ready.iter().find(|(of, _)| of == id) => {
                    self.unready_by_expression(unit, id, question)
                }
                State::Full(other) => {
                    if slot.status.ready == Ready::True && slot.applied == Some(other.body) && !self.unjudged(id) {
                        return None;
                    }
                    let message = match slot.status.message.as_str() {
                        "" => "not looked at yet",
                        message => message,
                    };
                    Some(format!("dependsOn {id}: not ready: {message}"))
                }
            }
        })
    }

    /// What a `readyExpr` says, which takes the place of the dependency's Ready condition, as in Flux.
    fn unready_by_expression(
        &self,
        unit: UnitIx,
        id: &UnitId,
        question: &Result<Question, CelError>,
    ) -> Option<String> {
        let dependency = self.by_unit.get(id).and_then(|unit| self.unit(*unit))?;
        let own = self.unit(unit)?;
        let question = match question {
            Ok(question) => question,
            Err(why) => return Some(format!("dependsOn {id}: readyExpr: {why}")),
        };
        let (dep, own) = (self.as_flux_object(dependency, self.unjudged(id)), self.as_flux_object(own, false));
        match question.ask([("dep", &dep), ("self", &own)]) {
            Ok(true) => None,
            Ok(false) => Some(format!("dependsOn {id}: readyExpr is not true: {}", question.text())),
            Err(why) => Some(format!("dependsOn {id}: readyExpr {}: {why}", question.text())),
        }
    }

    /// A unit as its Flux object would stand in the cluster, with the status that Flux would give it.
    fn as_flux_object(&self, slot: &Slot, unjudged: bool) -> Value {
        let full = slot.full();
        let definition = full.and_then(|full| full.definition.as_ref());
        let part = |name: &str| definition.and_then(|d| d.get(name)).cloned().unwrap_or_else(|| json!({}));
        let mut metadata = part("metadata");
        let current = !unjudged && full.is_some_and(|full| slot.applied == Some(full.body));
        if let Some(map) = metadata.as_object_mut() {
            map.insert("name".into(), slot.id.name.clone().into());
            map.insert("namespace".into(), slot.id.namespace.clone().into());
            for field in ["labels", "annotations"] {
                map.entry(field).or_insert_with(|| json!({}));
            }
            map.insert("generation".into(), 2.into());
        }
        let observed = if current { 2 } else { 1 };
        let ready = match slot.status.ready {
            Ready::True => "True",
            Ready::False => "False",
            Ready::Unknown => "Unknown",
        };
        let revision = full.and_then(|full| full.revision.clone());
        // What was applied is at every later revision that changes nothing of it.
        let is_applied = full.is_some_and(|full| slot.applied == Some(full.body));
        let applied = if is_applied { revision.clone() } else { slot.applied_revision.clone() };
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": slot.id.kind.as_str(),
            "metadata": metadata,
            "spec": part("spec"),
            "status": {
                "observedGeneration": observed,
                "lastAppliedRevision": applied.unwrap_or_default(),
                "lastAttemptedRevision": revision.unwrap_or_default(),
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": slot.status.reason, "message": slot.status.message,
                    "observedGeneration": observed,
                }],
            },
        })
    }

    /// A unit whose new state has not been judged yet must not pass as ready by its old one.
    fn unjudged(&self, id: &driftless_protocol::id::UnitId) -> bool {
        self.by_unit.get(id).is_some_and(|unit| self.dirty.contains(unit))
    }

    /// The verdict on a unit.
    pub(super) fn judge(
        &mut self,
        unit: UnitIx,
        tally: &Tally,
        blocked: Option<(&'static str, String)>,
        gate: Option<String>,
        now: Millis,
    ) -> Status {
        let looks = self.looks_verdict(unit);
        let Some(slot) = self.unit_mut(unit) else { return Status::default() };
        let State::Full(full) = &slot.state else { return Status::default() };
        let revision = full.came.clone();
        let shown_revision = revision.clone().unwrap_or_else(|| "unknown revision".to_owned());
        let waiting = |on: String| Some(Waiting { on, since: now });
        let status = |ready, reason, message, waiting| Status { ready, reason, message, waiting };
        if let Some((code, why)) = blocked
            && (tally.pending > 0 || code == reason::INPUT_NOT_READY)
        {
            slot.settled = None;
            return status(Ready::False, code, why.clone(), waiting(why));
        }
        if tally.failed > 0 || tally.missing_kinds > 0 {
            slot.settled = None;
            let mut message = tally.errors.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
            if slot.validating() && tally.failed > 0 {
                message = format!("validation failed, so nothing of {shown_revision} is applied: {message}");
            }
            let more = (tally.failed + tally.missing_kinds).saturating_sub(tally.errors.len().min(3));
            if more > 0 {
                message.push_str(&format!("; and {more} more"));
            }
            return status(Ready::False, reason::FAILED, message, gate.and_then(waiting));
        }
        if tally.paused > 0 && (tally.pending == 0 || slot.validating()) {
            slot.settled = None;
            let by = tally.first_paused.clone().unwrap_or_default();
            let message = format!(
                "{shown_revision} is held back by {by}: {} objects to go when it ends",
                tally.paused + tally.pending
            );
            return status(Ready::Unknown, reason::PAUSED, message, waiting(format!("the end of {by}")));
        }
        if tally.pending > 0 {
            slot.settled = None;
            let on = gate.or_else(|| tally.first_pending.clone()).unwrap_or_default();
            let message = format!("applying {shown_revision}: {} objects to go; waits for {on}", tally.pending);
            return status(Ready::Unknown, reason::PROGRESSING, message, waiting(on));
        }
        if slot.applied != Some(full.body) {
            slot.applied = Some(full.body);
            slot.applied_at = Some(now);
            slot.applied_revision = revision;
        }
        let settled = *slot.settled.get_or_insert(now);
        let mut notes = String::new();
        if !full.withheld.is_empty() {
            notes.push_str(&format!("; {} objects withheld", full.withheld.len()));
        }
        if tally.not_served > 0 {
            notes.push_str(&format!("; {} objects of kinds the cluster does not serve", tally.not_served));
        }
        let unhealthy = if full.spec.wait { &tally.unhealthy } else { &looks };
        if !unhealthy.is_empty() {
            let (words, count) = (unhealthy.words(), unhealthy.count);
            let waits = waiting(format!("health of {words}"));
            let late = now >= settled.saturating_add(full.spec.timeout_seconds.saturating_mul(1000));
            if late {
                let message =
                    format!("{count} objects are not healthy within {} s: {words}", full.spec.timeout_seconds);
                return status(Ready::False, reason::HEALTH_CHECK_FAILED, message, waits);
            }
            if unhealthy.failed {
                return status(Ready::False, reason::HEALTH_CHECK_FAILED, words, waits);
            }
            let message = format!("applied {shown_revision}, waits for {words}");
            return status(Ready::Unknown, reason::HEALTH_CHECK_PENDING, message, waits);
        }
        status(Ready::True, reason::SUCCEEDED, format!("Applied revision: {shown_revision}{notes}"), None)
    }

    /// What of the unit's `healthChecks` is not healthy, declared here or not.
    fn looks_verdict(&self, unit: UnitIx) -> Unhealthy {
        let mut out = Unhealthy::default();
        let Some(slot) = self.unit(unit) else { return out };
        let Some(full) = slot.full() else { return out };
        if full.spec.wait {
            // Flux ignores healthChecks when it waits for everything.
            return out;
        }
        for key in &full.spec.health_checks {
            let declared = self.by_key.get(key).and_then(|ix| self.obj(*ix)).filter(|obj| obj.want.is_some());
            let (health, why) = match (declared, slot.looks.iter().find(|look| look.key == *key)) {
                (Some(Obj { live: Live::Present(live), .. }), _) => {
                    (live.health, live.health_message().map(str::to_owned))
                }
                (Some(_), _) => (Health::InProgress, Some("not applied yet".to_owned())),
                (None, Some(look)) => match &look.verdict {
                    Some(verdict) => (verdict.health, verdict.message.clone()),
                    None => (Health::InProgress, Some("not looked at yet".to_owned())),
                },
                (None, None) => continue,
            };
            out.add(health, key, why.as_deref().unwrap_or("not healthy"));
        }
        out
    }

    /// When a health check of a foreign object is due that is not due yet: those that are begin as soon as there is room.
    pub(super) fn looks_due(&self, unit: UnitIx, now: Millis) -> Option<Millis> {
        let slot = self.unit(unit).filter(|slot| slot.looks_wait())?;
        slot.looks.iter().filter(|look| look.busy.is_none() && look.next > now).map(|look| look.next).min()
    }
}
