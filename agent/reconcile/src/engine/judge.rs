//! The verdict on a unit: ready, or why not.

use driftless_protocol::report::{Ready, Waiting, reason};

use super::Engine;
use super::state::{Full, Live, Obj, State, Status, UnitIx};
use crate::health::Health;
use crate::input::Millis;

/// What a unit's objects amount to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) pending: usize,
    pub(super) failed: usize,
    pub(super) not_served: usize,
    /// Not served, and not handed through: the unit cannot be ready.
    pub(super) missing_kinds: usize,
    pub(super) first_pending: Option<String>,
    pub(super) errors: Vec<String>,
    pub(super) unhealthy: Option<(Health, String)>,
}

impl Engine {
    /// The first dependency that is not ready, as a sentence.
    pub(super) fn unready_dependency(&self, full: &Full) -> Option<String> {
        full.spec.depends_on.iter().find_map(|id| {
            let Some(slot) = self.by_unit.get(id).and_then(|unit| self.unit(*unit)) else {
                return Some(format!("dependsOn {id}: there is no such unit in this cluster"));
            };
            match &slot.state {
                State::Left => Some(format!("dependsOn {id}: it left Git")),
                State::Held(why) => Some(format!("dependsOn {id}: the hub could not build it: {}", why.message)),
                // As Flux does, a suspended unit counts as it stands: by whether it was ever applied here.
                State::Suspended(_) if self.inventory.units().any(|(known, _)| **known == *id) => None,
                State::Suspended(_) => Some(format!("dependsOn {id}: it is suspended and was never applied here")),
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

    /// A unit whose new state has not been judged yet must not pass as ready by its old one.
    fn unjudged(&self, id: &driftless_protocol::id::UnitId) -> bool {
        self.by_unit.get(id).is_some_and(|unit| self.dirty.contains(unit))
    }

    /// The verdict on a unit.
    pub(super) fn judge(
        &mut self,
        unit: UnitIx,
        tally: &Tally,
        blocked: Option<String>,
        gate: Option<String>,
        now: Millis,
    ) -> Status {
        let looks = self.looks_verdict(unit);
        let Some(slot) = self.unit_mut(unit) else { return Status::default() };
        let State::Full(full) = &slot.state else { return Status::default() };
        let revision = full.revision.clone();
        let shown_revision = revision.clone().unwrap_or_else(|| "unknown revision".to_owned());
        let waiting = |on: String| Some(Waiting { on, since: now });
        let status = |ready, reason, message, waiting| Status { ready, reason, message, waiting };
        if tally.pending > 0
            && let Some(why) = blocked
        {
            slot.settled = None;
            return status(Ready::False, reason::DEPENDENCY_NOT_READY, why.clone(), waiting(why));
        }
        if tally.failed > 0 || tally.missing_kinds > 0 {
            slot.settled = None;
            let mut message = tally.errors.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
            let more = (tally.failed + tally.missing_kinds).saturating_sub(tally.errors.len().min(3));
            if more > 0 {
                message.push_str(&format!("; and {more} more"));
            }
            return status(Ready::False, reason::FAILED, message, gate.and_then(waiting));
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
        let unhealthy = if full.spec.wait { tally.unhealthy.clone() } else { None }.or(looks);
        if let Some((health, why)) = unhealthy {
            let late = now >= settled.saturating_add(full.spec.timeout_seconds.saturating_mul(1000));
            if health == Health::Failed || late {
                let took =
                    if late { format!(" (not healthy within {} s)", full.spec.timeout_seconds) } else { String::new() };
                return status(
                    Ready::False,
                    reason::HEALTH_CHECK_FAILED,
                    format!("{why}{took}"),
                    waiting(format!("health of {why}")),
                );
            }
            let message = format!("applied {shown_revision}, waits for {why}");
            return status(Ready::Unknown, reason::HEALTH_CHECK_PENDING, message, waiting(format!("health of {why}")));
        }
        status(Ready::True, reason::SUCCEEDED, format!("Applied revision: {shown_revision}{notes}"), None)
    }

    /// The worst verdict over the unit's `healthChecks`, declared here or not.
    fn looks_verdict(&self, unit: UnitIx) -> Option<(Health, String)> {
        let slot = self.unit(unit)?;
        let full = slot.full()?;
        if full.spec.wait {
            // Flux ignores healthChecks when it waits for everything.
            return None;
        }
        let mut worst = None;
        for key in &full.spec.health_checks {
            let declared = self.by_key.get(key).and_then(|ix| self.obj(*ix)).filter(|obj| obj.want.is_some());
            let (health, why) = match (declared, slot.looks.iter().find(|look| look.key == *key)) {
                (Some(Obj { live: Live::Present(live), .. }), _) => {
                    (live.health, live.health_message.as_deref().map(str::to_owned))
                }
                (Some(_), _) => (Health::InProgress, Some("not applied yet".to_owned())),
                (None, Some(look)) => match &look.verdict {
                    Some(verdict) => (verdict.health, verdict.message.clone()),
                    None => (Health::InProgress, Some("not looked at yet".to_owned())),
                },
                (None, None) => continue,
            };
            if health != Health::Current && worst.as_ref().is_none_or(|(h, _)| *h != Health::Failed) {
                worst = Some((health, format!("{key}: {}", why.unwrap_or_else(|| "not healthy".to_owned()))));
            }
        }
        worst
    }

    /// When a health check of a foreign object is due.
    pub(super) fn looks_due(&self, unit: UnitIx) -> Option<Millis> {
        let slot = self.unit(unit)?;
        slot.looks.iter().filter(|look| look.busy.is_none()).map(|look| look.next).min()
    }
}
