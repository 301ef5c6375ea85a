//! The world of one cluster and what to do next in it.
//!
//! Without I/O, as a protocol state machine is: the caller feeds events and answers, polls steps and deadlines. An event
//! marks its unit dirty; [`Engine::poll`] looks at dirty units only.

use driftless_protocol::bundle::Blobs;
use driftless_protocol::id::UnitId;
use driftless_protocol::report::UnitReport;

use crate::input::{Desired, Millis, Observation, ServedKind, Wanted};
use crate::rules::Rules;
use crate::step::{Outcome, Step, StepId};

/// See the module.
#[derive(Debug)]
pub struct Engine {
    #[allow(dead_code)]
    rules: Rules,
}

impl Engine {
    /// An engine that knows nothing yet: it asks for nothing before inventory, discovery and a bundle are set.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// The inventory as stored: `(shard number, text)` of every `driftless-inventory-*` ConfigMap, none when there are
    /// none. Must be called once, before anything is applied. A damaged or incomplete inventory is reported by
    /// [`Engine::problems`] and stops every delete until it is whole.
    pub fn set_inventory(&mut self, _shards: &[(u32, String)], _now: Millis) {}

    /// A new bundle: preempts every wait. Objects are read from `blobs` only where their content matters for planning.
    pub fn set_bundle(&mut self, _desired: Desired<'_>, _blobs: &dyn Blobs, _now: Millis) {}

    /// All kinds the cluster serves, each time discovery is read. `complete` is false when an aggregated API did not
    /// answer: then absence of a kind means nothing.
    pub fn set_discovery(&mut self, _kinds: &[ServedKind], _complete: bool, _now: Millis) {}

    /// What a watch saw. `blobs` is used when the object differs from what was applied.
    pub fn observe(&mut self, _seen: Observation<'_>, _blobs: &dyn Blobs, _now: Millis) {}

    /// What became of a step. The answer of an apply need not be fed to [`Engine::observe`] again.
    pub fn done(&mut self, _step: StepId, _outcome: Outcome<'_>, _blobs: &dyn Blobs, _now: Millis) {}

    /// Look at everything (or one unit) again now: `driftless reconcile`.
    pub fn reconcile(&mut self, _unit: Option<&UnitId>, _now: Millis) {}

    /// Steps that can start now, to be carried out at once and in parallel. Never more in flight than
    /// [`Rules::in_flight`]. Call it after every input and at [`Engine::next_deadline`].
    pub fn poll(&mut self, _now: Millis) -> Vec<Step> {
        Vec::new()
    }

    /// When [`Engine::poll`] must be called although nothing happened.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        None
    }

    /// The watches that are needed now: kinds that the cluster serves and the bundle or the inventory names.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        Vec::new()
    }

    /// Kinds that are declared and not served: re-read discovery when a CustomResourceDefinition or APIService changes,
    /// and now and then while this is not empty.
    #[must_use]
    pub fn not_served(&self) -> Vec<crate::input::GroupKind> {
        Vec::new()
    }

    /// Reports of the units whose state changed since the last call, whole and bounded.
    pub fn take_reports(&mut self, _now: Millis) -> Vec<UnitReport> {
        Vec::new()
    }

    /// Reports of all units: after a reconnect.
    #[must_use]
    pub fn reports(&self, _now: Millis) -> Vec<UnitReport> {
        Vec::new()
    }

    /// Troubles of the engine itself, for the cluster's report.
    #[must_use]
    pub fn problems(&self) -> Vec<driftless_protocol::bundle::Reason> {
        Vec::new()
    }

    /// Objects in the inventory.
    #[must_use]
    pub fn inventory_len(&self) -> usize {
        0
    }

    /// Everything declared is applied, nothing is in flight and nothing is due.
    #[must_use]
    pub fn idle(&self) -> bool {
        true
    }
}
