//! What watches see: folded, compared with what was applied, and forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::bundle::{ApplyMode, Blobs};
use driftless_protocol::object::{Name, ObjectKey};
use serde_json::Value;

use super::autoscale::{autoscaler_kinds, scale_target};
use super::state::{Drift, Ix, Live, Obj, Want};
use super::{Engine, namespace_kind};
use crate::drift::{self, Baseline};
use crate::input::{GroupKind, KindName, Millis, Observation};
use crate::inventory::Entry;
use crate::mark::{Mark, Uid, Version};
use crate::step::Edit;
use crate::still::Glance;
use crate::{flux, fold, health, ignore, time};

/// How a state of an object stands to what is known of it.
enum Passed {
    /// It was seen, or a later one was.
    Before,
    Newer,
    /// Older, in a list that should be newer: the store went back.
    WentBack,
}

/// Objects of this kind tell more than how they are themselves.
fn tells_more(kind: &GroupKind) -> bool {
    *kind == flux::kind() || autoscaler_kinds().contains(kind) || *kind == namespace_kind()
}

impl Engine {
    /// What a watch saw. `blobs` is used when the object differs from what was applied.
    pub fn observe(&mut self, seen: Observation<'_>, blobs: &dyn Blobs, now: Millis) {
        match seen {
            Observation::ListBegin(kind) => {
                self.serial = self.serial.saturating_add(1);
                let state = self.kinds.entry(kind.clone()).or_default();
                (state.listing, state.found) = (Some(self.serial), BTreeSet::new());
            }
            Observation::ListEnd(kind) => self.list_end(kind, now),
            Observation::Blind(kind, why) => {
                let state = self.kinds.entry(kind.clone()).or_default();
                (state.listing, state.found) = (None, BTreeSet::new());
                if state.blind.replace(why.to_owned()).is_none() && !state.listed {
                    // No list will tell how they are: each is read.
                    for ix in self.of_kind(kind) {
                        if let Some(obj) = self.obj_mut(ix) {
                            obj.recheck = true;
                        }
                    }
                }
                self.touch_kind(kind);
            }
            Observation::Interrupted(kind) => {
                if let Some(state) = self.kinds.get_mut(kind) {
                    (state.listing, state.found) = (None, BTreeSet::new());
                }
            }
            Observation::Object(live) => {
                self.sighted(live);
                self.see(live, blobs, now);
            }
            Observation::Gone(live) => {
                self.sighted(live);
                self.lose(live, now);
            }
        }
    }

    /// Something was seen of a kind: it is watched again, whatever was said before. A list notes what it shows.
    fn sighted(&mut self, live: &Value) {
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, name) = (driftless_protocol::object::group_of(text("/apiVersion")), text("/kind"));
        let Some(state) = self.kinds.get_mut(&(group, name) as &dyn KindName) else { return };
        if state.listing.is_none() && state.blind.is_none() {
            return;
        }
        let kind = GroupKind { group: group.into(), kind: name.into() };
        if state.listing.is_some() {
            // Flux's own keep a serial instead: `flux_listed`.
            if tells_more(&kind) && kind != flux::kind() {
                state.found.insert((text("/metadata/namespace").into(), text("/metadata/name").into()));
            }
        } else if state.listed {
            state.blind = None;
            self.touch_kind(&kind);
        }
    }

    /// What a complete list did not show is gone, also what is not ours.
    fn forget_foreign(&mut self, kind: &GroupKind, found: &BTreeSet<(Name, Name)>) {
        if *kind == namespace_kind() {
            self.namespaces.retain(|name| found.contains(&(Name::default(), name.as_str().into())));
        }
        if autoscaler_kinds().contains(kind) {
            let of = |key: &ObjectKey| key.group == kind.group && key.kind == kind.kind;
            let there = |key: &ObjectKey| found.contains(&(key.namespace.clone(), key.name.clone()));
            let declared = |key: &ObjectKey| self.by_key.contains_key(key);
            let gone: Vec<ObjectKey> =
                self.autoscalers.keys().filter(|key| of(key) && !there(key) && !declared(key)).cloned().collect();
            for key in gone {
                self.autoscaler_gone(&key);
            }
        }
    }

    /// Whether the objects of this kind were listed once.
    #[must_use]
    pub fn has_listed(&self, kind: &GroupKind) -> bool {
        self.kinds.get(kind).is_some_and(|state| state.listed)
    }

    pub(super) fn of_kind(&self, kind: &GroupKind) -> Vec<Ix> {
        let from =
            ObjectKey { group: kind.group.clone(), kind: kind.kind.clone(), namespace: "".into(), name: "".into() };
        self.by_key
            .range::<ObjectKey, _>(from..)
            .take_while(|(key, _)| key.group == kind.group && key.kind == kind.kind)
            .map(|(_, ix)| *ix)
            .collect()
    }

    fn touch_kind(&mut self, kind: &GroupKind) {
        for ix in self.of_kind(kind) {
            self.touch_object(ix);
        }
    }

    fn list_end(&mut self, kind: &GroupKind, now: Millis) {
        let state = self.kinds.entry(kind.clone()).or_default();
        let Some(began) = state.listing.take() else { return };
        let first = !std::mem::replace(&mut state.listed, true);
        state.listed_at = now;
        state.blind = None;
        let found = std::mem::take(&mut state.found);
        self.forget_foreign(kind, &found);
        if *kind == flux::kind() {
            self.flux_listed(began);
        }
        for ix in self.of_kind(kind) {
            let Some(obj) = self.obj_mut(ix) else { continue };
            if obj.seen >= began {
                continue;
            }
            if self.adopted_by(ix).is_some() {
                // The list shows only what carries our mark.
                self.reread(ix, now);
                continue;
            }
            self.unlisted_shadow(ix);
            let Some(obj) = self.obj_mut(ix) else { continue };
            let was = std::mem::replace(&mut obj.live, Live::Absent);
            if !matches!(was, Live::Absent) {
                self.vanished(ix, now);
            }
        }
        if first {
            self.touch_kind(kind);
            // Others may wait for what this kind tells (namespaces, autoscalers).
            if kind.kind == "Namespace" || autoscaler_kinds().contains(kind) {
                self.touch_all();
            }
        }
    }

    /// An object that was there is not any more.
    fn vanished(&mut self, ix: Ix, now: Millis) {
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.rare.clear(|rare| rare.drift = None);
        obj.since = now;
        obj.health_since = now;
        let namespace = obj.key.kind == "Namespace" && obj.key.group.is_empty();
        let key = Arc::clone(&obj.key);
        if obj.want.is_none() && obj.delete_sent {
            self.pruned(ix, now);
            return;
        }
        obj.delete_sent = false;
        self.cause_changed(ix, now);
        self.object_changed(ix, now);
        self.autoscaler_gone(&key);
        if namespace {
            self.touch_all();
        }
    }

    fn lose(&mut self, live: &Value, now: Millis) {
        let Some(key) = ObjectKey::of(live) else { return };
        if GroupKind::of(&key) == flux::kind() {
            self.lose_flux(&key, live);
        }
        if self.autoscalers.contains_key(&key) && !self.by_key.contains_key(&key) {
            self.autoscaler_gone(&key);
        }
        if key.group.is_empty() && key.kind == "Namespace" {
            self.namespaces.remove(&*key.name);
        }
        let Some(ix) = self.by_key.get(&key).copied() else { return };
        let serial = self.serial;
        let Some(obj) = self.obj_mut(ix) else { return };
        if let Live::Present(known) = &obj.live {
            let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let version = Version::from(text("/metadata/resourceVersion"));
            if known.uid.to_string() != text("/metadata/uid") || version.older_than(&known.version) {
                return;
            }
        }
        obj.seen = serial;
        if !matches!(std::mem::replace(&mut obj.live, Live::Absent), Live::Absent) {
            self.vanished(ix, now);
        }
    }

    fn see(&mut self, live: &Value, blobs: &dyn Blobs, now: Millis) {
        let Some(key) = ObjectKey::of(live) else { return };
        if GroupKind::of(&key) == flux::kind() {
            self.see_flux(live, now);
        }
        if autoscaler_kinds().contains(&GroupKind::of(&key)) {
            let target = scale_target(live);
            if self.autoscalers.get(&key) != target.as_ref() {
                self.autoscaler_gone(&key);
                if let Some(target) = target {
                    if let Some(ix) = self.by_key.get(&target).copied() {
                        self.touch_object(ix);
                    }
                    self.autoscalers.insert(key.clone(), target);
                    self.retarget();
                }
            }
        }
        if key.group.is_empty() && key.kind == "Namespace" {
            self.see_namespace(live, now);
        }
        let Some(ix) = self.by_key.get(&key).copied() else { return };
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match self.passed(ix, text("/metadata/uid"), text("/metadata/resourceVersion")) {
            Passed::Before => return,
            Passed::Newer => {}
            Passed::WentBack => self.went_back = true,
        }
        if let Some(folded) = self.fold(ix, live) {
            self.absorb(ix, folded, live, blobs, now);
        }
    }

    fn passed(&self, ix: Ix, uid: &str, version: &str) -> Passed {
        let Some(obj) = self.obj(ix) else { return Passed::Newer };
        let Live::Present(known) = &obj.live else { return Passed::Newer };
        if !known.uid.is(uid) {
            return Passed::Newer;
        }
        let version = Version::from(version);
        let older = version.older_than(&known.version);
        // In a list that began after we last heard of it, an older version means that the store went back.
        let listing = self.kinds.get(&*obj.key as &dyn KindName).and_then(|kind| kind.listing);
        match listing.is_some_and(|began| obj.seen < began) {
            false if older || version == known.version => Passed::Before,
            true if older => Passed::WentBack,
            _ => Passed::Newer,
        }
    }

    /// Whether an object in exactly this state, or a later one, was seen already, so that [`Engine::observe`] would learn
    /// nothing: the caller need not read it whole. Mostly the echo of our own writes.
    #[must_use]
    pub fn has_seen(&self, key: &ObjectKey, uid: &str, version: &str) -> bool {
        let ix = self.by_key.get(key).filter(|_| !tells_more(&GroupKind::of(key)));
        ix.is_some_and(|ix| matches!(self.passed(*ix, uid, version), Passed::Before))
    }

    /// Takes in the text of an object if it says nothing that matters and was not known: then it need not be read whole, nor
    /// [observed](Engine::observe). Mostly a controller wrote status. `false`: it is to be observed, and after that
    /// [kept](Engine::keep_text).
    pub fn passes_by(&mut self, key: &ObjectKey, uid: &str, version: &str, text: &str) -> bool {
        self.noisy = None;
        if self.rules.shadow || tells_more(&GroupKind::of(key)) {
            return false;
        }
        let Some(ix) = self.by_key.get(key).copied() else { return false };
        let Some(Obj { want: Some(want), live: Live::Present(known), .. }) = self.obj(ix) else { return false };
        let Some(still) = known.still else { return false };
        // What is judged or kept by more than the mark covers is always read whole.
        let asked = self.unit(want.unit).and_then(|slot| slot.full()).map(|full| &*full.asked).unwrap_or_default();
        let asked = asked.iter().any(|asked| asked.kind().kind == key.kind && asked.kind().group == key.group);
        if asked || want.open.is_some() || !want.ignore().is_empty() || known.deleting {
            return false;
        }
        if !matches!(self.passed(ix, uid, version), Passed::Newer) {
            return false;
        }
        let Some(glance) = Glance::at(text, &self.rules.hash_key) else { return false };
        if glance.still() != Some(still) {
            return false;
        }
        let Some(verdict) = glance.to_judge().map(|live| health::judge(&live, &[])) else { return false };
        if verdict.health != known.health || verdict.message.as_deref() != known.health_message() {
            return false;
        }
        let serial = self.serial;
        let Some(obj) = self.obj_mut(ix) else { return false };
        let Live::Present(known) = &mut obj.live else { return false };
        known.version = version.into();
        obj.seen = serial;
        true
    }

    /// The text of what was observed just now, by which the next like it [passes by](Engine::passes_by). Kept of objects that
    /// have noise only: the others have no second event.
    pub fn keep_text(&mut self, text: &str) {
        let Some(ix) = self.noisy.take() else { return };
        let still = Glance::at(text, &self.rules.hash_key).and_then(|glance| glance.still());
        if let Some(Obj { live: Live::Present(known), .. }) = self.obj_mut(ix) {
            known.still = still;
        }
    }

    /// Folds a live object, judged as the unit that declares it says.
    pub(super) fn fold(&self, ix: Ix, live: &Value) -> Option<fold::Folded> {
        let unit = self.obj(ix).and_then(|obj| obj.want.as_ref()).map(|want| want.unit);
        let full = unit.and_then(|unit| self.unit(unit)).and_then(|slot| slot.full());
        let mut folded = fold::fold(live, full.map(|full| &*full.asked).unwrap_or_default(), &self.rules)?;
        if let Some(unit) = self.adopted_by(ix) {
            // Flux's owner labels are the mark by which it is ours.
            folded.labelled = crate::adopt::owner(live).is_some_and(|owner| owner == **unit);
        }
        Some(folded)
    }

    /// Takes in what a live object was folded to, while the object is still at hand.
    pub(super) fn absorb(&mut self, ix: Ix, folded: fold::Folded, live: &Value, blobs: &dyn Blobs, now: Millis) {
        let serial = self.serial;
        let mut folded = folded;
        if let Some(notes) = &mut folded.notes {
            notes.health = notes.health.take().map(|words| self.scrubbed(ix, words));
        }
        let came = self.note_additions(ix, &mut folded, live, now);
        let Some(obj) = self.obj_mut(ix) else { return };
        obj.seen = serial;
        let pointers = obj.want.as_ref().map(Want::ignore).unwrap_or_default();
        match pointers {
            [] => obj.rare.clear(|rare| rare.ignored = None),
            pointers => obj.rare.made().ignored = Some(ignore::fates(live, pointers)),
        }
        let same = match &obj.live {
            Live::Present(known) => {
                if known.health != folded.health {
                    obj.health_since = now;
                }
                known.owned == folded.owned
                    && known.added() == folded.added()
                    && known.health == folded.health
                    && known.deleting == folded.deleting
                    && known.uid == folded.uid
                    && known.replicas_elsewhere == folded.replicas_elsewhere
                    && known.labelled == folded.labelled
                    && known.controls == folded.controls
                    && known.notes == folded.notes
            }
            _ => {
                obj.health_since = now;
                false
            }
        };
        self.made_by_us(ix, &folded.uid, live, now);
        let Some(obj) = self.obj_mut(ix) else { return };
        let namespace_came = obj.key.kind == "Namespace" && obj.key.group.is_empty() && obj.live.folded().is_none();
        obj.live = Live::Present(folded);
        if same {
            // Noise: what may be deleted later is deleted at this version, nothing else depends on it.
            self.noisy = Some(ix);
            return;
        }
        self.compare(ix, live, blobs, now);
        let unit = self.unit_of(ix);
        self.tell_additions(ix, came);
        match self.obj(ix).and_then(|obj| obj.work_of).filter(|of| Some(*of) == unit) {
            // Most likely our own write: the answer to it, or the watch ahead of that.
            Some(unit) => {
                self.touch_soon(unit, now);
                self.delete_changed(ix);
            }
            None => self.object_changed(ix, now),
        }
        self.cause_changed(ix, now);
        if namespace_came {
            self.namespace_came(ix);
        }
    }

    /// An object that was gone and is seen again for the first time: made by us, although the answer to that was lost, and not
    /// by a backup or by somebody, when our own apply on it is as old as itself.
    fn made_by_us(&mut self, ix: Ix, uid: &Uid, live: &Value, now: Millis) {
        let Some(obj) = self.obj(ix) else { return };
        if obj.live.folded().is_some_and(|known| known.uid == *uid) {
            return;
        }
        let key = Arc::clone(&obj.key);
        let Some(entry) = self.inventory.get(&key).filter(|entry| entry.uid.as_ref().is_some_and(|of| of != uid))
        else {
            return;
        };
        let created = live.pointer("/metadata/creationTimestamp").and_then(Value::as_str).and_then(time::parse);
        let ours = crate::ownership::entries(live).filter(|entry| entry.is_ours()).filter_map(|entry| entry.time).max();
        // Both are written in seconds, one a little later than the other.
        if created.zip(ours).is_some_and(|(created, ours)| (created..=created + 1_000).contains(&ours)) {
            let entry = Entry { uid: Some(uid.clone()), ..entry.clone() };
            self.inventory.put(&key, entry);
            self.unwritten(now);
        }
    }

    /// What waited for a namespace is tried at once.
    fn namespace_came(&mut self, ix: Ix) {
        let Some(name) = self.obj(ix).map(|obj| obj.key.name.clone()) else { return };
        for obj in self.objects.iter_mut().flatten() {
            if obj.key.namespace == name
                && obj.rare.trouble.as_ref().is_some_and(|t| t.class == crate::retry::Class::NamespaceMissing)
            {
                obj.rare.clear(|rare| rare.trouble = None);
            }
        }
        self.touch_all();
    }

    /// Compares a live object with what was applied, when the marks do not already say that nothing differs.
    pub(super) fn compare(&mut self, ix: Ix, live: &Value, blobs: &dyn Blobs, now: Millis) {
        if self.rules.shadow {
            self.compare_shadow(ix, live, blobs, now);
            return;
        }
        let Some(obj) = self.obj(ix) else { return };
        let (Some(want), Live::Present(folded)) = (&obj.want, &obj.live) else { return };
        let entry = self.inventory.get(&obj.key);
        let baseline = entry.and_then(|entry| entry.baseline.as_ref());
        let of = (folded.owned, folded.added(), want.mark);
        let known = match baseline {
            Some(b) if b.desired == want.mark => Some(b),
            // Other content was applied last: the apply that is due settles everything.
            Some(_) => {
                if let Some(obj) = self.obj_mut(ix) {
                    obj.rare.clear(|rare| rare.drift = None);
                }
                return;
            }
            None => None,
        };
        let (observe, warn) = want.left();
        // What is left may be as we sent it last: left as it was live.
        let marked = !observe.is_empty() || !warn.is_empty();
        // Replicas that were an autoscaler's and are nobody's now differ although nothing of ours does.
        let left_behind = folded.replicas_elsewhere && !self.autoscaled(&obj.key);
        let same = known.is_some_and(|b| b.owned == folded.owned) && folded.added() == Mark::NONE;
        if same && !marked && !left_behind {
            if let Some(obj) = self.obj_mut(ix) {
                obj.rare.clear(|rare| rare.drift = None);
            }
            return;
        }
        if obj.rare.drift.as_ref().is_some_and(|drift| drift.of == of) {
            return;
        }
        let Some(declared) = self.declared(ix, want, &self.edits(ix), blobs) else { return };
        let autoscaled = self.autoscaled(&obj.key);
        let overlay = known.and_then(|b| b.overlay.as_deref());
        let merge = [want.apply(), folded.controls.apply].contains(&ApplyMode::Merge);
        let hidden = self.hidden(&obj.key, want, blobs);
        let (ignore, hidden) = (want.ignore(), &hidden);
        let context = drift::Context { overlay, autoscaled, ignore, observe, warn, merge, hidden, rules: &self.rules };
        let fields = drift::diff(&obj.key, &declared, live, &context);
        if known.is_none() {
            self.adopt(ix, &declared, live, fields.is_empty(), now);
            return;
        }
        let since = obj.rare.drift.as_ref().filter(|d| !d.fields.is_empty()).map_or(now, |d| d.since);
        let left = observe
            .iter()
            .chain(warn)
            .map(|pointer| (pointer.clone(), live.pointer(pointer).cloned()))
            .filter(|(pointer, live)| fields.iter().any(|field| drift::is_left_by(field, pointer, live.as_ref())))
            .collect();
        if let Some(obj) = self.obj_mut(ix) {
            obj.rare.made().drift = Some(Box::new(Drift { of, fields, left, since }));
            obj.since = now;
        }
    }

    /// Live, ours, and exactly as declared, but without a record: the record is made without a write to the object.
    fn adopt(&mut self, ix: Ix, declared: &Value, live: &Value, equal: bool, now: Millis) {
        if !self.inventory_read {
            return;
        }
        let Some(obj) = self.obj(ix) else { return };
        let (Some(want), Live::Present(folded)) = (&obj.want, &obj.live) else { return };
        if !equal || !folded.applied_by_us || folded.deleting {
            return;
        }
        let Some(unit) = self.unit(want.unit).map(|slot| Arc::clone(&slot.id)) else { return };
        let secret = want.secret();
        let entry = self.inventory.get(&obj.key);
        let entry = Entry {
            unit,
            api_version: Arc::clone(&want.api_version),
            uid: Some(folded.uid.clone()),
            baseline: Some(Baseline::new(want.mark, folded.owned, declared, live, secret, &self.rules)),
            restored: entry.is_some_and(|entry| entry.restored),
            adopted: false,
        };
        let key = Arc::clone(&obj.key);
        self.inventory.put(&key, entry);
        self.unwritten(now);
    }

    /// The declared object, filled and with the agent's edits made; `None` when its bytes or its inputs are not at hand.
    pub(super) fn declared(&self, ix: Ix, want: &Want, edits: &[Edit], blobs: &dyn Blobs) -> Option<Value> {
        let key = &self.obj(ix)?.key;
        let fill = self.fill_of(want);
        Self::declared_of((key, &want.api_version), &want.blob, (want.open.is_some(), fill.as_deref()), edits, blobs)
    }
}
