//! One object: what it needs now, and what stands in the way.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::Ready;

use super::Engine;
use super::state::{Ix, Live, Obj, Open};
use crate::fold::Folded;
use crate::input::Millis;
use crate::mark::Uid;
use crate::plan::{self, DriftView, Need, View};
use crate::step::Purpose;

impl Engine {
    /// The cluster does not serve an object's kind, or not in its version: why, for people.
    pub(super) fn unserved(&self, ix: Ix) -> Option<String> {
        let obj = self.obj(ix)?;
        let want = obj.want.as_ref()?;
        if !self.discovered {
            return None;
        }
        let Some(versions) = self.kind_of(&obj.key).and_then(|kind| kind.served.as_ref()) else {
            let kind = &obj.key.kind;
            return Some(format!(
                "the cluster does not serve the kind {kind} ({}); it is applied as soon as it does",
                want.api_version
            ));
        };
        let version = super::version_of(&want.api_version);
        (!versions.iter().any(|served| served == version)).then(|| {
            let (kind, served) = (&obj.key.kind, versions.join(", "));
            format!("the cluster serves {kind} as {served}, and not as {version}; change its apiVersion in Git")
        })
    }

    /// Why an object has no place to be applied to, if so.
    pub(super) fn unplaced(&self, key: &ObjectKey) -> Option<String> {
        let kind = self.kind_of(key)?;
        (kind.served.is_some() && kind.namespaced && key.namespace.is_empty()).then(|| {
            format!(
                "{} {}: namespace not specified; set metadata.namespace, or the unit's targetNamespace",
                key.kind, key.name
            )
        })
    }

    /// What an object needs by itself, without regard to its unit's stages.
    pub(super) fn need(&self, ix: Ix, now: Millis) -> Need {
        let need = self.need_unpaused(ix, now);
        if self.paused(ix).is_some() { need.paused() } else { need }
    }

    fn need_unpaused(&self, ix: Ix, now: Millis) -> Need {
        let Some(obj) = self.obj(ix) else { return Need::Nothing };
        let Some(want) = &obj.want else { return Need::Nothing };
        let Some(slot) = self.unit(want.unit) else { return Need::Nothing };
        let Some(full) = slot.full() else { return Need::Nothing };
        if (slot.theirs && !self.rules.shadow) || self.claimed(ix).is_some() {
            return Need::Theirs;
        }
        if matches!(want.open, Some(Open::Waits(_))) {
            return Need::Input;
        }
        let entry = self.inventory.get(&obj.key);
        let live: Option<Option<&Folded>> = match &obj.live {
            Live::Unknown => None,
            Live::Absent => Some(None),
            Live::Present(folded) => Some(Some(folded)),
        };
        let of = obj.live.folded().map(|live| (live.owned, live.added, want.mark));
        let drift = obj.rare.drift.as_ref().filter(|drift| Some(drift.of) == of).map(|drift| DriftView {
            fields: drift.to_heal().count(),
            added: drift.to_heal().any(|field| field.desired.is_none()),
            unclaimed: drift.to_heal().all(|field| field.manager.is_none() && field.live.is_some()),
            left: drift.fields.iter().any(|field| field.mode.is_some()),
        });
        let damping = match (&obj.rare.contests, &obj.live) {
            (None, _) => 0,
            (Some(contests), Live::Absent) => contests.damping(&obj.key, &[super::report::gone(obj)]),
            (Some(contests), _) => contests.damping(&obj.key, obj.rare.drift.iter().flat_map(|drift| drift.to_heal())),
        };
        let view = View {
            desired: want.mark,
            baseline: entry.and_then(|entry| entry.baseline.as_ref()),
            live,
            drift,
            autoscaled: self.autoscaled(&obj.key),
            mode: self.mode(want.unit),
            spec: &full.spec,
            unit_healthy: slot.status.ready == Ready::True && slot.healthy,
            last_heal: obj.rare.healed,
            damping,
            looked: of.is_some() && obj.rare.looked.as_deref().copied() == of,
            recheck: obj.recheck,
            adopt: obj.adopt,
            drifts_since: obj.rare.drift.as_ref().map_or(obj.since, |drift| drift.since),
            heals_again: slot.heals_again(full.spec.heals_per_hour, now),
            apply: want.apply(),
            elsewhere: obj.elsewhere,
            probed: obj.rare.probed.as_deref().copied() == of.map(|(owned, _, desired)| (owned, desired)),
            take_over: full.spec.take_over,
            anew: self.made_anew(obj).is_some(),
        };
        if self.rules.shadow {
            return self.need_shadow(obj, plan::alone(&view));
        }
        plan::need(&view, now)
    }

    /// The UID it had when we applied it last, where the object that is there is another one with our mark.
    pub(super) fn made_anew(&self, obj: &Obj) -> Option<Uid> {
        let live = obj.live.folded().filter(|live| live.labelled)?;
        let applied = self.inventory.get(&obj.key)?.uid.clone()?;
        (applied != live.uid).then_some(applied)
    }

    /// The namespace of an object is declared in this bundle and is not there yet.
    pub(super) fn missing_namespace(&self, ix: Ix) -> Option<String> {
        let obj = self.obj(ix)?;
        if obj.key.namespace.is_empty() {
            return None;
        }
        let key = ObjectKey {
            group: String::new(),
            kind: "Namespace".to_owned(),
            namespace: String::new(),
            name: obj.key.namespace.clone(),
        };
        let namespace = self.by_key.get(&key).and_then(|ix| self.obj(*ix))?;
        let want = namespace.want.as_ref()?;
        if namespace.live.folded().is_some_and(|live| !live.deleting) {
            return None;
        }
        let owner = self.unit(want.unit).map(|slot| slot.id.to_string()).unwrap_or_default();
        let state = match (&namespace.rare.trouble, &namespace.live) {
            (Some(trouble), _) => format!("could not be applied: {}", trouble.failure.message),
            (None, Live::Present(_)) => "is being deleted".to_owned(),
            _ => "is not there yet".to_owned(),
        };
        Some(format!("{key} of unit {owner}, which {state}, before {}", obj.key))
    }

    /// Marks for tests and reports: what an object amounts to now, without queueing anything.
    pub(super) fn drift_of(obj: &Obj) -> Option<&super::state::Drift> {
        let of = (obj.live.folded()?.owned, obj.live.folded()?.added, obj.want.as_ref()?.mark);
        obj.rare.drift.as_deref().filter(|drift| drift.of == of && !drift.fields.is_empty())
    }
}

/// Concerns an object whose content was applied before: neither stages nor dependencies hold it up.
pub(super) fn heals(need: Need) -> bool {
    matches!(need, Need::Apply(Purpose::Heal, _) | Need::DryRun | Need::Read)
}
