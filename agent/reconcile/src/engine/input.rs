//! Inputs: inventory, bundle, discovery. What watches see: `observe`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_cel::Question;
use driftless_protocol::bundle::{
    ApplyMode, Blobs, DriftMode, HealthExpr, ObjectOptions, Reason, UnitBody, UnitSpec, UnitState, Validation,
};
use driftless_protocol::guard;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::marks;
use driftless_protocol::object::{Name, ObjectKey};

use super::Engine;
use super::autoscale::{autoscaler_kinds, scale_target};
use super::state::{Full, Ix, Live, Look, Obj, Open, Slot, State, UnitIx, Want};
use crate::health::Asked;
use crate::input::{Desired, GroupKind, Millis, ServedKind};
use crate::inventory::{self, UnitRecord};
use crate::mark::Mark;
use crate::order::{self, Stage};

impl Engine {
    /// What is written down of a unit.
    pub(super) fn record(&self, id: &UnitId, spec: &UnitSpec) -> UnitRecord {
        UnitRecord {
            account: spec.service_account.clone(),
            prune: spec.prune,
            deletion_policy: spec.deletion_policy,
            suspended: false,
            flux: self.inventory.unit(id).and_then(|known| known.flux),
        }
    }

    /// The inventory as stored: `(shard number, text)` of every `driftless-inventory-*` ConfigMap, none when there are
    /// none. Must be called once, before anything is applied. A damaged or incomplete inventory is reported by
    /// [`Engine::problems`] and stops every delete until it is whole.
    pub fn set_inventory(&mut self, shards: &[(u32, String)], now: Millis) {
        let (inventory, errors) = inventory::decode(shards);
        self.frozen = errors.iter().map(inventory::InventoryError::shard).collect();
        self.inventory_errors = errors;
        self.inventory = inventory;
        self.inventory_read = true;
        let owned: Vec<(Arc<ObjectKey>, Arc<UnitId>)> =
            self.inventory.iter().map(|(key, entry)| (Arc::clone(key), Arc::clone(&entry.unit))).collect();
        for (key, unit) in owned {
            self.slot_of(&unit, now);
            let ix = self.object_of(&key, now);
            if self.adopted_by(ix).is_some() {
                // Whatever lists said: they show only what carries our mark.
                if let Some(obj) = self.obj_mut(ix) {
                    obj.live = Live::Unknown;
                }
                self.reread(ix, now);
            }
        }
        // What leaves is known once there is a bundle to leave.
        if self.generation.is_some() {
            let records: Vec<(Arc<UnitId>, UnitRecord)> = self
                .units
                .iter()
                .filter_map(|slot| Some((Arc::clone(&slot.id), self.record(&slot.id, &slot.full()?.spec))))
                .collect();
            for (id, record) in records {
                self.inventory.put_unit(&id, record);
            }
            self.record_suspended(now);
            self.find_leaving(&BTreeMap::new(), now);
        }
        self.touch_all();
    }

    /// A new bundle: preempts every wait. Objects are read from `blobs` only where their content matters for planning
    /// (autoscalers).
    pub fn set_bundle(&mut self, desired: Desired<'_>, blobs: &dyn Blobs, now: Millis) {
        self.generation = Some(desired.generation);
        self.outdated = false;
        self.passing.clear();
        if !self.rules.shadow {
            // What is declared has changed, and so may what is left over.
            self.extras.retain(|_, extra| *extra == super::leftovers::Extra::Busy);
        }
        self.index_whole = desired.index.whole;
        self.approved = desired.index.approved_deletes.iter().map(|a| (a.key.clone(), a.uid.clone())).collect();
        let unclear_before = self.units_unclear();
        let bodies: BTreeMap<&UnitId, &UnitBody> = desired.bodies.iter().map(|body| (&body.id, body)).collect();
        let cycles = order::cycles(desired.bodies.iter().map(|body| (&body.id, body.spec.depends_on.as_slice())));

        // What was declared and is not any more leaves; what still is gets its declaration back below.
        let before: Vec<Option<Mark>> =
            self.objects.iter_mut().map(|obj| Some(obj.as_mut()?.want.take()?.mark)).collect();
        // Those that no body has any more go: what is used again is compiled again.
        let in_use = |of: &[HealthExpr]| desired.bodies.iter().any(|body| body.spec.health_exprs == of);
        self.compiled.retain(|(of, _)| in_use(of));
        let mut kept_states: BTreeMap<UnitIx, State> = BTreeMap::new();
        for unit in 0..self.units.len() as UnitIx {
            if let Some(slot) = self.unit_mut(unit) {
                kept_states.insert(unit, std::mem::replace(&mut slot.state, State::Left));
            }
        }
        let mut rejudged: Vec<Ix> = Vec::new();
        for listed in &desired.index.units {
            let id = Arc::new(listed.id.clone());
            let unit = self.slot_of(&id, now);
            let state = match &listed.state {
                UnitState::Held { reason, input } => State::Held(reason.clone(), *input),
                UnitState::Suspended { by, declares, input } => {
                    let shared = |key: &ObjectKey| {
                        let known = self.by_key.get_key_value(key).map(|(known, _)| Arc::clone(known));
                        known.unwrap_or_else(|| Arc::new(key.clone()))
                    };
                    let declares = declares.as_ref().map(|keys| keys.iter().map(shared).collect());
                    State::Suspended(*by, declares.ok_or(*input))
                }
                UnitState::Full { body } => match bodies.get(&listed.id) {
                    Some(parsed) => {
                        let cycle = cycles.get(&listed.id).cloned();
                        let revision = desired.revisions.iter().find(|r| r.source == parsed.source);
                        let revision = revision.map(|r| r.revision.to_string());
                        State::Full(Box::new(self.full(unit, body.digest, parsed, revision, cycle, blobs, now)))
                    }
                    // A bundle that was opened has all bodies; without it the unit keeps what there is.
                    None => {
                        let why = Reason {
                            code: "BodyMissing".to_owned(),
                            message: "the bundle does not hold what this unit consists of".to_owned(),
                            file: None,
                            line: None,
                        };
                        State::Held(why, Some(body.digest))
                    }
                },
            };
            let body = match &state {
                State::Full(full) => Some((full.body, full.spec.drift_mode, full.spec.validation)),
                _ => None,
            };
            let looks = self.looks_of(&state);
            let Some(slot) = self.unit_mut(unit) else { continue };
            slot.mode = listed.drift_mode.or(body.map(|b| b.1)).unwrap_or_default();
            let same = match (kept_states.get(&unit), body) {
                (Some(State::Full(old)), Some((digest, ..))) => old.body == digest,
                _ => false,
            };
            // Kinds that are judged in another way now are read again: what was seen of them is not kept.
            let exprs_before = match kept_states.get(&unit) {
                Some(State::Full(old)) => old.spec.health_exprs.as_slice(),
                _ => &[],
            };
            if let State::Full(full) = &state
                && full.spec.health_exprs != exprs_before
            {
                let of = |exprs: &[HealthExpr], key: &ObjectKey| {
                    exprs.iter().any(|expr| expr.kind == key.kind && expr.group == key.group)
                };
                let again = full.objects.iter().filter(|ix| {
                    let key = self.objects.get(**ix as usize).and_then(Option::as_ref).map(|obj| &*obj.key);
                    key.is_some_and(|key| of(exprs_before, key) || of(&full.spec.health_exprs, key))
                });
                rejudged.extend(again.copied());
            }
            let mut state = state;
            if let (State::Full(full), Some(State::Full(old)), true) = (&mut state, kept_states.get(&unit), same) {
                full.came.clone_from(&old.came);
            }
            let Some(slot) = self.units.get_mut(unit as usize) else { continue };
            if !same {
                slot.started = now;
                slot.settled = None;
                // A dry run is a schema check and more, so `client` is honoured by one too.
                slot.validate = matches!(body, Some((_, _, Validation::Server | Validation::Client)));
                slot.validated = false;
            }
            slot.state = state;
            slot.looks = looks;
        }
        self.record_suspended(now);
        // After all of them: a unit may take over an object from another.
        self.forget_inputs();
        for unit in 0..self.units.len() as UnitIx {
            self.fill_unit(unit, false, blobs, now);
        }

        for ix in rejudged {
            if let Some(obj) = self.obj_mut(ix) {
                obj.recheck |= obj.live.folded().is_some();
            }
        }
        for slot in &mut self.units {
            // What was said of a unit that is gone was said with the last bundle.
            let owns = || self.inventory.iter().any(|(_, entry)| entry.unit == slot.id);
            if matches!(slot.state, State::Left) && !slot.recent.is_empty() && !owns() {
                slot.recent.clear();
            }
        }

        // New content is tried at once, whatever failed before.
        for ix in 0..self.objects.len() as Ix {
            let Some(obj) = self.obj_mut(ix) else { continue };
            let Some(want) = &obj.want else { continue };
            if before.get(ix as usize).copied().flatten() != Some(want.mark) {
                obj.renewed(now);
            }
        }
        self.find_leaving(&unclear_before, now);
        self.untold_additions();
        self.recount_work();
        for slot in &mut self.units {
            // What is told of a generation rests on a report that was made since it came.
            slot.told = 0;
        }
        self.touch_all();
    }

    /// That a unit is suspended is written down, for when it leaves Git.
    fn record_suspended(&mut self, now: Millis) {
        let suspended = self.units.iter().filter(|slot| matches!(slot.state, State::Suspended(..)));
        let news: Vec<(Arc<UnitId>, UnitRecord)> = suspended
            .filter_map(|slot| {
                let record = self.inventory.unit(&slot.id).filter(|record| !record.suspended)?;
                Some((Arc::clone(&slot.id), UnitRecord { suspended: true, ..record.clone() }))
            })
            .collect();
        for (id, record) in news {
            self.inventory.put_unit(&id, record);
            self.unwritten(now);
        }
    }

    /// What was queued or sent may be of another unit by now.
    fn recount_work(&mut self) {
        for ix in 0..self.objects.len() as Ix {
            if self.obj(ix).is_some_and(|obj| obj.work_of.is_some()) {
                self.work_begins(ix);
            }
        }
    }

    /// Units of which nobody knows what they declare, with what their builds read.
    fn units_unclear(&self) -> BTreeMap<UnitIx, Option<Digest>> {
        let input = |slot: &Slot| match &slot.state {
            State::Held(_, input) => Some(*input),
            State::Suspended(_, Err(input)) => Some(*input),
            _ => None,
        };
        (0..).zip(&self.units).filter_map(|(unit, slot)| Some((unit, input(slot)?))).collect()
    }

    /// The suspended unit that declares an object.
    pub(super) fn waits_for(&self, key: &ObjectKey) -> Option<&UnitId> {
        self.waiting.get(key).and_then(|unit| self.unit(*unit)).map(|slot| &*slot.id)
    }

    /// What suspended units declare, where it is in the cluster: discovery may tell other places.
    fn find_waiting(&mut self) {
        let declared = (0..).zip(&self.units).filter_map(|(unit, slot)| match &slot.state {
            State::Suspended(_, Ok(keys)) => Some((unit, keys)),
            _ => None,
        });
        let placed = |key: &Arc<ObjectKey>| {
            let placed = self.placed(key);
            if placed == **key { Arc::clone(key) } else { Arc::new(placed) }
        };
        self.waiting = declared
            .flat_map(|(unit, keys)| keys.iter().map(move |key| (key, unit)))
            .map(|(key, unit)| (placed(key), unit))
            .collect();
    }

    #[allow(clippy::too_many_arguments)]
    fn full(
        &mut self,
        unit: UnitIx,
        digest: Digest,
        body: &UnitBody,
        revision: Option<String>,
        cycle: Option<String>,
        blobs: &dyn Blobs,
        now: Millis,
    ) -> Full {
        let mut objects = Vec::with_capacity(body.objects.len());
        let mut unusable = Vec::new();
        for entry in &body.objects {
            let key = Arc::new(self.placed(&entry.key));
            if key.group == marks::DOMAIN && key.kind == "Unit" {
                let message = "Unit objects are written by the agent, one for each unit; remove it from Git".to_owned();
                unusable.push((entry.key.clone(), "ReservedKind", message));
                continue;
            }
            if let Some(why) = guard::not_for_bundles(&key, &self.rules.agent_namespace) {
                let message = format!("{why}, which its chart installs and upgrades: not applied; remove it from Git");
                unusable.push((entry.key.clone(), "ReservedObject", message));
                continue;
            }
            let ix = self.object_of(&key, now);
            if let Some(other) = self.obj(ix).and_then(|obj| obj.want.as_ref()) {
                let message = declared_twice(self.unit(other.unit).map(|slot| &*slot.id));
                unusable.push((entry.key.clone(), "DeclaredTwice", message));
                continue;
            }
            if entry.holes.is_none()
                && autoscaler_kinds().contains(&GroupKind::of(&key))
                && let Some(target) = blobs
                    .get(&entry.blob.digest)
                    .and_then(|b| serde_json::from_slice(&b).ok())
                    .as_ref()
                    .and_then(scale_target)
            {
                self.autoscalers.insert((*key).clone(), target);
                self.retarget();
            }
            let mark = self.mark_of(&entry.blob.digest, &entry.options);
            let want = Want {
                unit,
                blob: entry.blob,
                mark: if entry.holes.is_some() { Mark::NONE } else { mark },
                api_version: self.versions.of(&entry.api_version),
                stage: Stage::of(&key),
                handed_through: entry.handed_through,
                options: (!entry.options.is_default()).then(|| Box::new(entry.options.clone())),
                open: entry.holes.as_ref().map(|_| Box::new(Open::Waits("its inputs to be read".into()))),
            };
            if let Some(obj) = self.obj_mut(ix) {
                obj.want = Some(want);
                obj.delete_sent = false;
                objects.push(ix);
            }
        }
        objects.sort_by(|a, b| {
            let (a, b) = (self.obj(*a), self.obj(*b));
            a.map(|o| order::sort_key(&o.key)).cmp(&b.map(|o| order::sort_key(&o.key)))
        });
        // Compiled once per text: most units of a cluster that have expressions have the same.
        let asked = self.asked(&body.spec.health_exprs, &mut unusable);
        let ready = body.spec.ready_exprs.iter();
        let ready = ready.map(|ready| (ready.unit.clone(), Question::compile(&ready.expr))).collect();
        if self.inventory_read
            && let Some(id) = self.unit(unit).map(|slot| Arc::clone(&slot.id))
        {
            let record = self.record(&id, &body.spec);
            self.inventory.put_unit(&id, record);
            self.unwritten(now);
        }
        Full {
            body: digest,
            came: revision.clone(),
            asked,
            ready,
            definition: body.definition.clone(),
            spec: body.spec.clone(),
            revision,
            objects,
            withheld: body.withheld.iter().map(|w| (w.key.clone(), w.reason.clone())).collect(),
            unusable,
            cycle,
            late: Self::late_of(body),
        }
    }

    fn asked(&mut self, exprs: &[HealthExpr], unusable: &mut Vec<(ObjectKey, &'static str, String)>) -> Arc<[Asked]> {
        if exprs.is_empty() {
            return Arc::default();
        }
        if let Some((_, asked)) = self.compiled.iter().find(|(of, _)| of == exprs) {
            return Arc::clone(asked);
        }
        let mut out = Vec::with_capacity(exprs.len());
        for expr in exprs {
            match Asked::compile(expr) {
                Ok(asked) => out.push(asked),
                Err(why) => {
                    let (group, kind) = (expr.group.clone(), expr.kind.clone());
                    let key = ObjectKey {
                        group: group.into(),
                        kind: kind.into(),
                        namespace: "".into(),
                        name: "(healthCheckExprs)".into(),
                    };
                    unusable.push((key, "BadExpression", format!("{why}; update the agent, or change the expression")));
                }
            }
        }
        let asked: Arc<[Asked]> = out.into();
        self.compiled.push((exprs.to_vec(), Arc::clone(&asked)));
        asked
    }

    /// The mark of what is declared: the bytes, and how they are applied. What changes either is applied.
    pub(super) fn mark_of(&self, content: &Digest, options: &ObjectOptions) -> Mark {
        let mut bytes = content.as_bytes().to_vec();
        let ObjectOptions { apply, ignore, .. } = options;
        if (*apply, ignore.as_slice()) != (ApplyMode::Override, &[]) {
            bytes.push(*apply as u8);
            for pointer in ignore {
                bytes.push(0);
                bytes.extend_from_slice(pointer.as_bytes());
            }
        }
        Mark::of_bytes(&self.rules.hash_key, &bytes)
    }

    /// Objects of health checks that nobody declares: they are read one by one.
    fn looks_of(&self, state: &State) -> Vec<Look> {
        let State::Full(full) = state else { return Vec::new() };
        let foreign = full.spec.health_checks.iter().filter(|key| {
            let ix = self.by_key.get(*key);
            ix.and_then(|ix| self.obj(*ix)).is_none_or(|obj| obj.want.is_none())
        });
        foreign.map(|key| Look { key: key.clone(), verdict: None, next: 0, busy: None }).collect()
    }

    /// Objects that the inventory holds and nobody declares or withholds.
    fn find_leaving(&mut self, unclear_before: &BTreeMap<UnitIx, Option<Digest>>, now: Millis) {
        let withheld: BTreeSet<ObjectKey> = self
            .units
            .iter()
            .filter_map(Slot::full)
            .flat_map(|full| full.withheld.iter().map(|(key, _)| self.placed(key)))
            .collect();
        let mut leaving = BTreeSet::new();
        for (key, ix) in &self.by_key {
            let declared = self.obj(*ix).is_some_and(|obj| obj.want.is_some());
            if !declared && self.inventory.get(key).is_some() && !withheld.contains(&**key) {
                leaving.insert(*ix);
            }
        }
        let unclear = self.units_unclear();
        // Of one whose build read nothing it is never known.
        let changed =
            unclear.iter().filter(|(unit, input)| input.is_none() || unclear_before.get(*unit) != Some(*input));
        let fresh: Vec<Arc<UnitId>> =
            changed.filter_map(|(unit, _)| self.unit(*unit).map(|slot| Arc::clone(&slot.id))).collect();
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.retain(|ix, _| leaving.contains(ix));
        // Also what had left before and is kept, for its own unit cannot be built or for another reason: it may be what changed.
        for ix in leaving.iter().filter(|_| !fresh.is_empty()) {
            suspects.entry(*ix).or_default().extend(fresh.iter().cloned());
        }
        for of in suspects.values_mut() {
            of.retain(|id| self.by_unit.get(id).is_some_and(|unit| unclear.contains_key(unit)));
        }
        suspects.retain(|_, of| !of.is_empty());
        self.suspects = suspects;
        self.leaving = leaving;
        self.find_waiting();
        self.forget_unused(now);
    }

    /// Drops objects that are neither declared nor owned, and unit records without objects.
    pub(super) fn forget_unused(&mut self, now: Millis) {
        let unused: Vec<Ix> = self
            .by_key
            .iter()
            .filter(|(key, ix)| {
                let idle = self.obj(**ix).is_none_or(|obj| obj.want.is_none() && !obj.busy);
                idle && self.inventory.get(key).is_none()
            })
            .map(|(_, ix)| *ix)
            .collect();
        for ix in unused {
            self.forget_object(ix);
        }
        if self.generation.is_none() || !self.inventory_read {
            return;
        }
        let owners: BTreeSet<&UnitId> = self.inventory.iter().map(|(_, entry)| &*entry.unit).collect();
        let gone: Vec<Arc<UnitId>> = self
            .inventory
            .units()
            .map(|(id, _)| id)
            .filter(|id| !owners.contains(&***id))
            .filter(|id| {
                self.by_unit.get(*id).and_then(|u| self.unit(*u)).is_none_or(|s| matches!(s.state, State::Left))
            })
            .cloned()
            .collect();
        for id in gone {
            self.inventory.remove_unit(&id);
        }
        self.unwritten(now);
    }

    /// Drops one object that is neither declared nor owned.
    pub(super) fn forget_object(&mut self, ix: Ix) {
        self.work_ends(ix);
        let Some(obj) = self.objects.get_mut(ix as usize).and_then(Option::take) else { return };
        self.free.push(ix);
        self.by_key.remove(&obj.key);
        self.autoscaler_gone(&obj.key);
        self.contested.remove(&ix);
        self.leaving.remove(&ix);
        self.suspects.remove(&ix);
        self.unstored.remove(&ix);
        self.deletes.remove(&ix);
        self.immutable.remove(&ix);
        self.recreate.remove(&ix);
        self.rereads.remove(&ix);
        if obj.queued {
            self.queue.remove(ix);
        }
    }

    /// All kinds the cluster serves, each time discovery is read. `unknown`: groups of which it does not tell, as an
    /// aggregated API did not answer or the API server has just started: there absence of a kind means nothing.
    pub fn set_discovery(&mut self, kinds: &[ServedKind], unknown: &BTreeSet<String>, now: Millis) {
        let served: BTreeSet<&GroupKind> = kinds.iter().map(|k| &k.kind).collect();
        for (kind, state) in &mut self.kinds {
            if !served.contains(kind) && !unknown.contains(kind.group.as_str()) {
                state.served = None;
                state.listed = false;
                state.listing = None;
                state.blind = None;
            }
        }
        for served in kinds {
            let state = self.kinds.entry(served.kind.clone()).or_default();
            state.namespaced = served.namespaced;
            state.served = Some(served.versions.clone());
        }
        if !self.flux_served() && !unknown.contains(crate::flux::GROUP) {
            self.flux.clear();
            self.flux_claims.clear();
        }
        self.discovered = true;
        self.unknown_groups.clone_from(unknown);
        self.replace_cluster_scoped();
        if self.generation.is_some() && self.inventory_read {
            // What is withheld, or waits for a suspended unit, is known by its place.
            let unclear = self.units_unclear();
            self.find_leaving(&unclear, now);
        }
        for obj in self.objects.iter_mut().flatten() {
            if obj.rare.trouble.as_ref().is_some_and(|t| t.class == crate::retry::Class::NotServed) {
                obj.rare.clear(|rare| rare.trouble = None);
            }
        }
        self.touch_all();
    }

    /// A key as the cluster knows it: a cluster-scoped object has no namespace, whatever it declares (the API server
    /// drops it).
    fn placed(&self, key: &ObjectKey) -> ObjectKey {
        let mut key = key.clone();
        let cluster_wide =
            self.kinds.get(&GroupKind::of(&key)).is_some_and(|kind| kind.served.is_some() && !kind.namespaced);
        if cluster_wide {
            key.namespace = Name::default();
        }
        key
    }

    /// Discovery may tell that objects declared with a namespace have none.
    fn replace_cluster_scoped(&mut self) {
        let moved: Vec<(Arc<ObjectKey>, Ix)> = self
            .by_key
            .iter()
            .filter(|(key, _)| !key.namespace.is_empty() && self.placed(key).namespace.is_empty())
            .map(|(key, ix)| (Arc::clone(key), *ix))
            .collect();
        for (old, ix) in moved {
            let key = Arc::new(self.placed(&old));
            if let Some(other) = self.by_key.get(&key).copied() {
                self.one_of_two(&old, ix, other);
                continue;
            }
            self.by_key.remove(&old);
            self.by_key.insert(Arc::clone(&key), ix);
            if let Some(entry) = self.inventory.remove(&old) {
                self.inventory.put(&key, entry);
            }
            if let Some(obj) = self.obj_mut(ix) {
                obj.key = key;
            }
        }
    }

    /// Two keys turn out to be one object of the cluster: the first is given up for the other. If both stayed, each would
    /// undo the other's fields, and the delete of one would take the object from under the other.
    fn one_of_two(&mut self, old: &Arc<ObjectKey>, ix: Ix, other: Ix) {
        let Some(key) = self.obj(other).map(|obj| Arc::clone(&obj.key)) else { return };
        if let Some(entry) = self.inventory.remove(old)
            && self.inventory.get(&key).is_none()
        {
            self.inventory.put(&key, entry);
        }
        if let Some(want) = self.obj_mut(ix).and_then(|obj| obj.want.take()) {
            let unit = want.unit;
            let first = self.obj(other).and_then(|obj| obj.want.as_ref()).map(|want| want.unit);
            let twice = first.map(|first| declared_twice(self.unit(first).map(|slot| &*slot.id)));
            if let Some(full) = self.units.get_mut(unit as usize).and_then(Slot::full_mut) {
                match twice {
                    None => full.objects.iter_mut().filter(|at| **at == ix).for_each(|at| *at = other),
                    Some(message) => {
                        full.objects.retain(|at| *at != ix);
                        full.unusable.push(((**old).clone(), "DeclaredTwice", message));
                    }
                }
            }
            if first.is_none()
                && let Some(obj) = self.obj_mut(other)
            {
                obj.want = Some(want);
                obj.delete_sent = false;
            }
        }
        self.forget_object(ix);
    }

    /// The place of a unit, made when it has none.
    pub(super) fn slot_of(&mut self, id: &Arc<UnitId>, now: Millis) -> UnitIx {
        if let Some(unit) = self.by_unit.get(id) {
            return *unit;
        }
        let unit = self.units.len() as UnitIx;
        self.units.push(Slot::new(Arc::clone(id), State::Left, now));
        self.by_unit.insert(Arc::clone(id), unit);
        unit
    }

    /// The place of an object, made when it has none.
    pub(super) fn object_of(&mut self, key: &Arc<ObjectKey>, now: Millis) -> Ix {
        if let Some(ix) = self.by_key.get(key) {
            return *ix;
        }
        // A kind that is listed already was listed without it, as far as our label goes.
        let listed = self.kinds.get(&GroupKind::of(key)).is_some_and(|kind| kind.listed);
        let live = if listed { Live::Absent } else { Live::Unknown };
        let obj = Obj::new(Arc::clone(key), live, now);
        self.stirred(now);
        let ix = match self.free.pop() {
            Some(ix) => {
                if let Some(slot) = self.objects.get_mut(ix as usize) {
                    *slot = Some(obj);
                }
                ix
            }
            None => {
                // By an eighth and not by doubling: a table of records is most of what a large cluster takes.
                if self.objects.len() == self.objects.capacity() {
                    self.objects.reserve_exact((self.objects.len() / 8).max(64));
                }
                self.objects.push(Some(obj));
                (self.objects.len() - 1) as Ix
            }
        };
        self.by_key.insert(Arc::clone(key), ix);
        ix
    }

    /// The mode a unit is treated by.
    pub(super) fn mode(&self, unit: UnitIx) -> DriftMode {
        self.unit(unit).map(|slot| slot.mode).unwrap_or_default()
    }
}

/// What the unit is told whose object is not the one that is applied.
fn declared_twice(by: Option<&UnitId>) -> String {
    let other = by.map(ToString::to_string).unwrap_or_default();
    format!("unit {other} declares it too; only that one is applied, remove it from one of them")
}
