//! One object: what it needs now, and what stands in the way.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{FieldDrift, Ready};

use super::Engine;
use super::state::{Ix, Kind, Live, Obj, Open, Want};
use crate::fold::Folded;
use crate::input::Millis;
use crate::inventory::Entry;
use crate::mark::Uid;
use crate::plan::{self, DriftView, Need, View};
use crate::step::Purpose;

impl Engine {
    /// Whether the cluster serves what is declared, as far as is known. `kind`: what is known of its kind.
    pub(super) fn serves(&self, kind: Option<&Kind>, want: &Want) -> bool {
        let versions = || kind.and_then(|kind| kind.served.as_ref());
        let version = super::version_of(&want.api_version);
        !self.discovered || versions().is_some_and(|served| served.iter().any(|served| served == version))
    }

    /// The cluster does not serve an object's kind, or not in its version: why, for people.
    pub(super) fn unserved(&self, ix: Ix) -> Option<String> {
        let obj = self.obj(ix)?;
        let want = obj.want.as_ref()?;
        let known = self.kind_of(&obj.key);
        if self.serves(known, want) {
            return None;
        }
        let kind = &obj.key.kind;
        Some(match known.and_then(|known| known.served.as_ref()) {
            None => format!(
                "the cluster does not serve the kind {kind} ({}); it is applied as soon as it does",
                want.api_version
            ),
            Some(versions) => {
                let (served, version) = (versions.join(", "), super::version_of(&want.api_version));
                format!("the cluster serves {kind} as {served}, and not as {version}; change its apiVersion in Git")
            }
        })
    }

    /// Why an object has no place to be applied to, if so.
    pub(super) fn unplaced(&self, key: &ObjectKey) -> Option<String> {
        self.kind_of(key)?.misplaces(key).then(|| {
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
        if matches!(want.open.as_deref(), Some(Open::Waits(_))) {
            return Need::Input;
        }
        let entry = self.inventory.get(&obj.key);
        let live: Option<Option<&Folded>> = match &obj.live {
            Live::Unknown => None,
            Live::Absent => Some(None),
            Live::Present(folded) => Some(Some(folded)),
        };
        let of = obj.live.folded().map(|live| (live.owned, live.added(), want.mark));
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
            heals_again: slot.heals_again(
                full.spec.heals_per_hour,
                slot.healing.saturating_sub(u32::from(obj.busy)),
                now,
            ),
            apply: want.apply(),
            elsewhere: obj.elsewhere,
            probed: obj.rare.probed.as_deref().copied() == of.map(|(owned, _, desired)| (owned, desired)),
            take_over: full.spec.take_over,
            anew: made_anew(obj, entry).is_some(),
        };
        if self.rules.shadow {
            return self.need_shadow(obj, plan::alone(&view));
        }
        plan::need(&view, now)
    }

    /// The UID it had when we applied it last, where the object that is there is another one with our mark.
    pub(super) fn made_anew(&self, obj: &Obj) -> Option<Uid> {
        made_anew(obj, self.inventory.get(&obj.key)).cloned()
    }

    /// The Namespace object that is to come before an object.
    fn namespace_to_come(&self, obj: &Obj) -> Option<(&Obj, &Want)> {
        if obj.key.namespace.is_empty() {
            return None;
        }
        let key = ObjectKey {
            group: "".into(),
            kind: "Namespace".into(),
            namespace: "".into(),
            name: obj.key.namespace.clone(),
        };
        let namespace = self.by_key.get(&key).and_then(|ix| self.obj(*ix))?;
        let want = namespace.want.as_ref()?;
        let there = namespace.live.folded().is_some_and(|live| !live.deleting);
        (!there).then_some((namespace, want))
    }

    /// The namespace of an object is declared in this bundle and is not there yet.
    pub(super) fn waits_for_namespace(&self, ix: Ix) -> bool {
        self.obj(ix).is_some_and(|obj| self.namespace_to_come(obj).is_some())
    }

    /// What keeps the namespace of an object from being there, if it is declared in this bundle.
    pub(super) fn missing_namespace(&self, ix: Ix) -> Option<String> {
        let obj = self.obj(ix)?;
        let (namespace, want) = self.namespace_to_come(obj)?;
        let owner = self.unit(want.unit).map(|slot| slot.id.to_string()).unwrap_or_default();
        let state = match (&namespace.rare.trouble, &namespace.live) {
            (Some(trouble), _) => format!("could not be applied: {}", trouble.failure.message),
            (None, Live::Present(_)) => "is being deleted".to_owned(),
            _ => "is not there yet".to_owned(),
        };
        let key = &namespace.key;
        Some(format!("{key} of unit {owner}, which {state}, before {}", obj.key))
    }

    /// A heal was refused as invalid over a list of which an item is missing: what another manager put in its place may be
    /// why.
    pub(super) fn gap(obj: &Obj) -> bool {
        let Some(trouble) = obj.rare.trouble.as_ref().filter(|trouble| trouble.failure.status == Some(422)) else {
            return false;
        };
        // `spec.ports[0].name: Required value` is about the list of `spec.ports[port=80]`.
        let said = without_items(&trouble.failure.message);
        let missing = |field: &FieldDrift| {
            let list = field.path.rfind('[').and_then(|at| field.path.get(..at)).filter(|_| field.path.ends_with(']'));
            field.live.is_none() && list.is_some_and(|list| said.contains(&without_items(list)))
        };
        Self::drift_of(obj).is_some_and(|drift| drift.to_heal().any(missing))
    }

    /// The drift of an object in the state it is in now.
    pub(super) fn drift_of(obj: &Obj) -> Option<&super::state::Drift> {
        let of = (obj.live.folded()?.owned, obj.live.folded()?.added(), obj.want.as_ref()?.mark);
        obj.rare.drift.as_deref().filter(|drift| drift.of == of && !drift.fields.is_empty())
    }
}

/// The UID of the incarnation we applied last, where the object that is there is another one with our mark.
fn made_anew<'a>(obj: &Obj, entry: Option<&'a Entry>) -> Option<&'a Uid> {
    let live = obj.live.folded().filter(|live| live.labelled)?;
    entry?.uid.as_ref().filter(|applied| **applied != live.uid)
}

/// Concerns an object whose content was applied before: neither stages nor dependencies hold it up.
pub(super) fn heals(need: Need) -> bool {
    matches!(need, Need::Apply(Purpose::Heal, _) | Need::DryRun | Need::Read)
}

/// Paths without what stands in brackets.
fn without_items(text: &str) -> String {
    let parts = text.split('[').enumerate();
    parts.map(|(n, part)| if n == 0 { part } else { part.split_once(']').map_or("", |(_, rest)| rest) }).collect()
}
