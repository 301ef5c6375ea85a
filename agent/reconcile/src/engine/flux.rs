//! What Flux does in this cluster: which units and objects are left to it, and how it is brought to stop.
//!
//! Driftless acts on a unit only where Flux does not: there is no Kustomization of that name in the cluster, or Git hands it
//! over (`spec.suspend: true` and the annotation `driftless.dev/take-over: enabled`) and Flux has seen the suspend.

use std::sync::Arc;

use driftless_protocol::bundle::SuspendedBy;
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{FluxState, Ready, Waiting, reason};
use serde_json::Value;

use super::Engine;
use super::run::Flight;
use super::state::{Ix, State, Status, UnitIx};
use crate::flux::{self, FluxUnit};
use crate::input::Millis;
use crate::mark::Version;
use crate::step::{Action, Outcome, Step, SuspendFlux};

/// What Flux may take to end what it had begun when it was suspended, where its unit says nothing.
const PATIENCE: Millis = 300_000;
/// Pause before a suspend that was refused is tried again.
const AGAIN: Millis = 5_000;
/// For how long a suspended unit has to stand still as failed before Flux has stopped for certain.
const STANDS_STILL: Millis = 15_000;

/// A live Kustomization.
#[derive(Debug)]
pub(super) struct FluxSeen {
    pub(super) unit: FluxUnit,
    /// Since when it is seen as suspended in its present generation.
    suspended_since: Option<Millis>,
    /// When it last changed, its status as well.
    changed: Millis,
    /// The list or event that last spoke of it: see `Engine::serial`.
    seen: u32,
}

/// A suspend that the agent has to set, or has tried to.
#[derive(Debug, Default)]
pub(super) struct Passing {
    busy: bool,
    wanted: bool,
    next: Millis,
    refused: Option<String>,
}

/// How Flux stands to a unit.
enum Standing {
    /// Driftless may act.
    Away,
    /// It acts: why that is so, and how it stands with the unit.
    Runs(String, Ready),
    /// Somebody has to see to it.
    Stuck(String),
    /// It is being stopped: what is waited for, and when to look again.
    Stopping(String, Option<Millis>),
}

impl Engine {
    /// Flux's Kustomizations are served here.
    pub(super) fn flux_served(&self) -> bool {
        self.kinds.get(&flux::kind()).is_some_and(|kind| kind.served.is_some())
    }

    /// A Kustomization was seen.
    pub(super) fn see_flux(&mut self, live: &Value, now: Millis) {
        let Some((id, unit)) = FluxUnit::read(live) else { return };
        let serial = self.serial;
        let listing = self.kinds.get(&flux::kind()).and_then(|kind| kind.listing);
        let mut since = None;
        let was = self.flux.get(&id).map(|known| known.unit.suspended);
        if let Some(known) = self.flux.get_mut(&id) {
            let in_newer_list = listing.is_some_and(|began| known.seen < began);
            if known.unit.uid == unit.uid && unit.version.older_than(&known.unit.version) && !in_newer_list {
                return;
            }
            known.seen = serial;
            let same = FluxUnit { version: unit.version.clone(), ..known.unit.clone() } == unit;
            if same {
                known.unit.version = unit.version;
                return;
            }
            since = known.suspended_since.filter(|_| {
                known.unit.suspended && known.unit.generation == unit.generation && known.unit.uid == unit.uid
            });
        }
        let suspended_since = unit.suspended.then(|| since.unwrap_or(now));
        let flips = was != Some(unit.suspended);
        self.flux.insert(id.clone(), FluxSeen { unit, suspended_since, changed: now, seen: serial });
        self.flux_changed(&id);
        if flips {
            // Units below it that Flux has not made yet.
            self.touch_all();
        }
    }

    /// A Kustomization is gone.
    pub(super) fn lose_flux(&mut self, key: &ObjectKey, live: &Value) {
        let id = UnitId::kustomization(key.namespace.clone(), key.name.clone());
        let version =
            Version::from(live.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default());
        if self.flux.get(&id).is_some_and(|known| version.older_than(&known.unit.version)) {
            return;
        }
        if self.flux.remove(&id).is_some() {
            self.claims();
            self.touch_all();
        }
    }

    /// A list of Kustomizations that began as this serial is complete.
    pub(super) fn flux_listed(&mut self, began: u32) {
        let gone: Vec<UnitId> =
            self.flux.iter().filter(|(_, known)| known.seen < began).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.flux.remove(id);
        }
        self.claims();
        self.touch_all();
    }

    fn flux_changed(&mut self, id: &UnitId) {
        if self.claims() {
            self.touch_all();
            return;
        }
        // Those that wait for it, or for it to be stopped.
        let children: Vec<UnitIx> = (0..)
            .zip(&self.units)
            .filter(|(_, slot)| {
                *slot.id == *id
                    || slot.full().is_some_and(|full| full.spec.depends_on.contains(id))
                    || self.flux.get(&*slot.id).is_some_and(|of| of.unit.parent.as_ref() == Some(id))
            })
            .map(|(unit, _)| unit)
            .collect();
        for unit in children {
            self.touch(unit);
        }
        self.deletes_dirty = true;
    }

    /// Which objects Flux's running units hold; whether that changed.
    fn claims(&mut self) -> bool {
        let running = self.flux.iter().filter(|(_, known)| !known.unit.suspended);
        let mut claims = std::collections::BTreeMap::new();
        for (id, known) in running {
            let id = Arc::new(id.clone());
            claims.extend(known.unit.ids.iter().map(|object| (object.clone(), Arc::clone(&id))));
        }
        let changed = claims != self.flux_claims;
        self.flux_claims = claims;
        changed
    }

    /// The other unit that Flux runs and that holds this object, in words.
    pub(super) fn claimed(&self, ix: Ix) -> Option<String> {
        if self.flux_claims.is_empty() || self.rules.shadow {
            return None;
        }
        let obj = self.obj(ix)?;
        let unit = self.unit(obj.want.as_ref()?.unit)?;
        let owner = self.flux_claims.get(flux::object_id(&obj.key).as_str()).filter(|owner| ***owner != *unit.id)?;
        Some(format!(
            "Flux applies it too, as part of Kustomization {owner}, which is not suspended; it is left to Flux. Take it out of \
             one of the two, or hand {owner} over as well"
        ))
    }

    /// Flux acts on the unit, so nothing of it is written.
    pub(super) fn theirs(&self, id: &UnitId) -> bool {
        self.flux.get(id).is_some_and(|known| !known.unit.suspended)
    }

    /// Why a dependency that Flux runs is not ready; `None`: it is.
    pub(super) fn unready_in_flux(&self, id: &UnitId) -> Option<String> {
        let known = &self.flux.get(id)?.unit;
        if known.ready == Ready::True && known.has_seen_it() {
            return None;
        }
        let says = if known.message.is_empty() { "it has not said so" } else { known.message.as_str() };
        Some(format!("dependsOn {id}, which Flux runs: not ready: {says}"))
    }

    /// For the report.
    pub(super) fn flux_state(&self, unit: UnitIx, now: Millis) -> Option<FluxState> {
        let slot = self.unit(unit)?;
        let known = self.flux.get(&*slot.id)?;
        Some(FluxState {
            stopped: self.stopping(&slot.id, now).is_some_and(|until| until <= now),
            suspended: known.unit.suspended,
            ready: known.unit.ready,
            revision: known.unit.revision.clone(),
            objects: known.unit.ids.len() as u32,
        })
    }

    /// When Flux has stopped for certain, or will have: it has seen the suspend, or what it had begun has timed out. It says
    /// that it has seen a suspend only of a unit that is ready; of another it is known by this, that Flux says so before it
    /// begins to work on a unit (`Ready` is unknown then), and one that failed stands still. `None`: it is not suspended.
    fn stopping(&self, id: &UnitId, now: Millis) -> Option<Millis> {
        let known = self.flux.get(id)?;
        let since = known.suspended_since?;
        if known.unit.has_seen_it() {
            return Some(now);
        }
        let full = self.by_unit.get(id).and_then(|unit| self.unit(*unit)).and_then(|slot| slot.full());
        let patience = full.map_or(PATIENCE, |full| full.spec.timeout_seconds.saturating_mul(1000));
        let timeout = since.saturating_add(patience);
        let failed = known.unit.ready == Ready::False;
        Some(if failed { timeout.min(known.changed.saturating_add(STANDS_STILL)) } else { timeout })
    }

    /// Whether Driftless may act on a unit; else its status and when to look again.
    pub(super) fn flux_gate(&mut self, unit: UnitIx, now: Millis) -> Option<(Status, Option<Millis>)> {
        if let Some(passing) = self.passing.get_mut(&unit) {
            passing.wanted = false;
        }
        let standing = self.flux_standing(unit, now);
        let (ready, code, message, waiting, wake) = match standing {
            Standing::Away => (Ready::Unknown, "", String::new(), None, None),
            Standing::Runs(why, ready) => (ready, reason::FLUX_ACTS, why, None, None),
            Standing::Stuck(why) => (Ready::False, reason::FLUX_ACTS, why, None, None),
            Standing::Stopping(on, wake) => {
                let message = format!("not taken over yet, nothing is written: waits {on}");
                (Ready::Unknown, reason::FLUX_ACTS, message, Some(Waiting { on, since: now }), wake)
            }
        };
        let theirs = !code.is_empty();
        let slot = self.unit_mut(unit)?;
        slot.theirs = theirs;
        if theirs {
            slot.open = false;
            slot.settled = None;
        }
        theirs.then_some((Status { ready, reason: code, message, waiting }, wake))
    }

    fn flux_standing(&mut self, unit: UnitIx, now: Millis) -> Standing {
        if !self.flux_served() {
            return match self.unknown_groups.contains(flux::GROUP) {
                false => Standing::Away,
                true => Standing::Stopping("for the API server to say whether it serves Flux's kinds".to_owned(), None),
            };
        }
        let kind = self.kinds.get(&flux::kind());
        // A watch that broke off after a whole list: what was seen last counts until it is back.
        if let Some(why) = kind.filter(|kind| !kind.listed).and_then(|kind| kind.blind.clone()) {
            return Standing::Stuck(format!(
                "nothing is written: whether Flux acts on it is not known, since its Kustomizations cannot be listed and watched \
                 ({why}); give the applier get, list and watch of kustomizations.{}",
                flux::GROUP
            ));
        }
        if !kind.is_some_and(|kind| kind.listed) {
            return Standing::Stopping("for the first list of Flux's Kustomizations".to_owned(), None);
        }
        let Some(slot) = self.unit(unit) else { return Standing::Away };
        let id = Arc::clone(&slot.id);
        let hand_over = slot.full().is_some_and(|full| full.spec.take_over);
        let Some(known) = self.flux.get(&*id) else {
            return match self.flux_ancestor(unit).filter(|_| !hand_over) {
                Some(above) => Standing::Runs(
                    format!(
                        "Flux acts on {above}, which defines it, and has not made Kustomization {id} yet: nothing is written here"
                    ),
                    Ready::Unknown,
                ),
                None => Standing::Away,
            };
        };
        let how = "commit spec.suspend: true and the annotation driftless.dev/take-over: enabled to it";
        let cli = format!("kustomization {} -n {}", id.name, id.namespace);
        match (known.unit.suspended, hand_over) {
            (false, false) => {
                let mut why = format!(
                    "Flux acts on it: Kustomization {id} is in this cluster and not suspended, so nothing is written here. To \
                     hand it over, {how}"
                );
                if known.unit.ready == Ready::False {
                    why.push_str(&format!(". Flux says: {}", known.unit.message));
                }
                Standing::Runs(why, known.unit.ready)
            }
            (true, false) => Standing::Stuck(format!(
                "Kustomization {id} is suspended in this cluster and Git does not say so, so neither Flux nor Driftless acts. To \
                 hand it over, {how}; to let Flux go on: flux resume {cli}; where Flux is gone for good, delete that object"
            )),
            (false, true) if self.was_taken(&id) => Standing::Stuck(format!(
                "Flux acts on it again: Kustomization {id} was resumed in this cluster, so Driftless has stopped. To go on with \
                 Driftless: flux suspend {cli}; to stay with Flux, take spec.suspend and the annotation out of Git"
            )),
            (false, true) => self.stop_flux(unit, &id, now),
            (true, true) => match self.stopping(&id, now) {
                Some(until) if until <= now => Standing::Away,
                until => {
                    let (observed, generation) = (known.unit.observed, known.unit.generation);
                    let on = format!(
                        "until Flux has seen that {id} is suspended (it has seen generation {observed} of {generation}), or its \
                         timeout has passed"
                    );
                    Standing::Stopping(on, until)
                }
            },
        }
    }

    /// The unit above that Flux runs, where everything between has no Kustomization in the cluster.
    fn flux_ancestor(&self, unit: UnitIx) -> Option<UnitId> {
        let mut id = self.unit(unit)?.full()?.spec.defined_by.clone()?;
        // Units are defined at most 32 deep.
        for _ in 0..32 {
            if let Some(known) = self.flux.get(&id) {
                return (!known.unit.suspended).then_some(id);
            }
            let above = self.by_unit.get(&id).and_then(|unit| self.unit(*unit))?;
            id = above.full()?.spec.defined_by.clone()?;
        }
        None
    }

    /// Driftless has applied something of it before.
    fn was_taken(&self, id: &UnitId) -> bool {
        self.inventory.iter().any(|(_, entry)| *entry.unit == *id && entry.uid.is_some())
    }

    /// Git says that Flux stops, and it has not: its parent passes that on; a parent that is stopped itself does not, so we
    /// do.
    fn stop_flux(&mut self, unit: UnitIx, id: &Arc<UnitId>, now: Millis) -> Standing {
        let parent = self.flux.get(&**id).and_then(|known| known.unit.parent.clone());
        if let Some(parent) = &parent
            && let Some(above) = self.flux.get(parent)
        {
            match self.stopping(parent, now) {
                Some(until) if until <= now && parent != &**id => {}
                Some(until) if parent != &**id => {
                    let on = format!("until Flux has seen that {parent}, which defines {id}, is suspended");
                    return Standing::Stopping(on, Some(until));
                }
                _ => {
                    let at = above.unit.revision.as_deref().unwrap_or("no revision yet");
                    let on = format!(
                        "for Flux to suspend {id}: its Kustomization {parent} passes that on and is at {at} (flux reconcile \
                         kustomization {} -n {} --with-source hurries it)",
                        parent.name, parent.namespace
                    );
                    return Standing::Stopping(on, None);
                }
            }
        }
        let passing = self.passing.entry(unit).or_default();
        passing.wanted = true;
        let on = match &passing.refused {
            Some(why) => format!("to set spec.suspend on Kustomization {id}, which was refused: {why}"),
            None => format!("for the suspend of Kustomization {id}, which no stopped parent passes on"),
        };
        let wake = (passing.next > now).then_some(passing.next);
        Standing::Stopping(on, wake)
    }

    /// A unit that Git suspends for both: where its Kustomization's parent is stopped, nobody else tells Flux.
    pub(super) fn pass_suspend(&mut self, unit: UnitIx, now: Millis) -> Option<Millis> {
        if let Some(passing) = self.passing.get_mut(&unit) {
            passing.wanted = false;
        }
        let slot = self.unit(unit)?;
        if !matches!(slot.state, State::Suspended(SuspendedBy::Git, _)) {
            return None;
        }
        let id = Arc::clone(&slot.id);
        let known = &self.flux.get(&*id)?.unit;
        let parent = known.parent.clone().filter(|parent| *parent != *id)?;
        if known.suspended || self.was_taken(&id) || self.stopping(&parent, now).is_none_or(|until| until > now) {
            return None;
        }
        let taken = self.by_unit.get(&parent).and_then(|unit| self.unit(*unit)).and_then(|slot| slot.full());
        if !taken.is_some_and(|full| full.spec.take_over) {
            return None;
        }
        match self.stop_flux(unit, &id, now) {
            Standing::Stopping(_, wake) => wake,
            _ => None,
        }
    }

    /// Suspends Kustomizations that Git suspends and whose parent no longer passes it on.
    pub(super) fn start_suspends(&mut self, steps: &mut Vec<Step>, now: Millis) {
        let due: Vec<UnitIx> = self
            .passing
            .iter()
            .filter(|(_, passing)| passing.wanted && !passing.busy && passing.next <= now)
            .map(|(unit, _)| *unit)
            .collect();
        for unit in due {
            let seen = self.unit(unit).and_then(|slot| Some((Arc::clone(&slot.id), self.flux.get(&*slot.id)?)));
            let Some((id, known)) = seen.filter(|(_, known)| !known.unit.suspended) else {
                self.passing.remove(&unit);
                continue;
            };
            if self.pauses().holding_unit(&id).is_some() {
                continue;
            }
            let suspend = SuspendFlux {
                key: flux::key_of(&id),
                uid: known.unit.uid.to_string(),
                generation: known.unit.generation,
            };
            let step = self.step(Action::SuspendFlux(suspend));
            self.flights.insert(step.id, Flight::Suspend { unit });
            if let Some(passing) = self.passing.get_mut(&unit) {
                passing.busy = true;
                passing.wanted = false;
            }
            steps.push(step);
        }
    }

    /// A suspend came back.
    pub(super) fn suspended(&mut self, unit: UnitIx, outcome: Outcome<'_>, now: Millis) {
        let refused = match outcome {
            Outcome::Failed(failure) => Some(failure.message),
            _ => None,
        };
        if let Some(passing) = self.passing.get_mut(&unit) {
            passing.busy = false;
            passing.next = now.saturating_add(AGAIN);
            passing.refused = refused;
        }
        self.touch(unit);
    }
}
