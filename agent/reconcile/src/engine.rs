//! The world of one cluster and what to do next in it.
//!
//! Without I/O, as a protocol state machine is: the caller feeds events and answers, polls steps and deadlines. An event
//! marks its unit dirty, or has a large one looked at soon; [`Engine::poll`] looks at those units only.

mod additions;
mod adopt;
mod advance;
mod autoscale;
mod causes;
mod contests;
mod deletes;
mod flux;
mod input;
mod judge;
mod known;
mod late;
mod leftovers;
mod need;
mod observe;
mod pauses;
mod queue;
mod recheck;
mod recreate;
mod report;
mod run;
mod settle;
mod shadow;
mod state;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{HealthExpr, Reason};
use driftless_protocol::id::{Generation, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, UnitReport};

use self::adopt::Reread;
use self::flux::{FluxSeen, Passing};
use self::leftovers::Extra;
pub use self::pauses::Ended;
use self::queue::RunQueue;
use self::state::{Ix, Kind, Obj, Slot, UnitIx};
use crate::fill::InputState;
use crate::health::Asked;
use crate::input::{GroupKind, InputRef, KindName, Millis, Wanted};
use crate::inventory::{Inventory, InventoryError, Versions};
use crate::pause::Pauses;
use crate::rules::Rules;
use crate::step::{Step, StepId};

/// Objects that are named where many may be meant.
const FIRST: usize = 3;

/// Something that was done to objects of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Which unit.
    pub unit: UnitId,
    /// What.
    pub what: EventKind,
    /// To how many objects.
    pub count: u32,
    /// The first of them, each with what was done.
    pub first: Vec<String>,
}

/// See the module.
///
/// # How to drive it
///
/// 1. [`Engine::set_inventory`] once, [`Engine::set_discovery`] and [`Engine::set_bundle`] as they come, in any order.
/// 2. Run the watches of [`Engine::wanted`] and feed what they see to [`Engine::observe`].
/// 3. After every input, and at [`Engine::next_deadline`]: [`Engine::poll`], carry the steps out, answer each with
///    [`Engine::done`]. Then [`Engine::take_reports`], again a while later where something is [untold](Engine::untold).
#[derive(Debug)]
pub struct Engine {
    rules: Rules,
    inventory: Inventory,
    inventory_read: bool,
    inventory_errors: Vec<InventoryError>,
    /// Damaged shards: never written, so that the damage stays to be seen.
    frozen: BTreeSet<u32>,
    generation: Option<Generation>,
    index_whole: bool,
    approved: BTreeSet<(ObjectKey, String)>,

    objects: Vec<Option<Obj>>,
    free: Vec<Ix>,
    by_key: BTreeMap<Arc<ObjectKey>, Ix>,
    versions: Versions,
    units: Vec<Slot>,
    by_unit: BTreeMap<Arc<UnitId>, UnitIx>,
    kinds: BTreeMap<GroupKind, Kind>,
    discovered: bool,
    /// Groups of which the last discovery could not tell what they serve.
    unknown_groups: BTreeSet<String>,
    /// A kind turned out not to be served.
    unserved: bool,
    /// The bundle is the one that was stored, and it is not known whether there is a newer one.
    outdated: bool,
    window: window::Window,
    /// What is known of the ConfigMaps and Secrets units take variables from.
    inputs: BTreeMap<InputRef, InputState>,
    /// What people hold back for a while.
    pauses: Pauses,
    pauses_known: bool,
    ended_pauses: Vec<Ended>,
    /// Done since the caller was told, by unit and kind of deed.
    happened: BTreeMap<(UnitIx, u8), Happened>,
    /// Workloads an autoscaler targets, by the autoscaler.
    autoscalers: BTreeMap<ObjectKey, ObjectKey>,
    /// The workloads in [`Self::autoscalers`].
    scaled: BTreeSet<ObjectKey>,
    /// Flux's Kustomizations in the cluster.
    flux: BTreeMap<UnitId, FluxSeen>,
    /// Objects of those that are not suspended, as Flux's inventory names them.
    flux_claims: BTreeMap<Box<str>, Arc<UnitId>>,
    /// Kustomizations the agent suspends, since nobody else passes that on.
    passing: BTreeMap<UnitIx, Passing>,
    /// Objects that only Flux's inventory has, while they are judged; in shadow mode as long as it lasts.
    extras: BTreeMap<ObjectKey, Extra>,
    /// When adopted objects, which no watch shows, are read again.
    rereads: BTreeMap<Ix, Reread>,
    /// Objects whose intent is not stored yet: nothing may be applied.
    unstored: BTreeSet<Ix>,
    /// Objects that left Git and may be deleted now.
    deletes: BTreeSet<Ix>,
    /// Objects whose declared content was refused for a field that cannot be changed.
    immutable: BTreeSet<Ix>,
    /// Those of them that an operator lets be deleted and made anew.
    recreate: BTreeSet<Ix>,
    /// Objects with a contest over a field of theirs.
    contested: BTreeSet<Ix>,
    /// In the inventory and declared by no unit.
    leaving: BTreeSet<Ix>,
    /// Units that became held as an object left its own: it may have moved there.
    suspects: BTreeMap<Ix, BTreeSet<Arc<UnitId>>>,
    /// What suspended units declare, and which.
    waiting: BTreeMap<Arc<ObjectKey>, UnitIx>,

    dirty: BTreeSet<UnitIx>,
    deletes_dirty: bool,
    /// Compiled `healthCheckExprs`, each once.
    compiled: Vec<(Vec<HealthExpr>, Arc<[Asked]>)>,
    /// Namespaces that are there, ours or not.
    namespaces: BTreeSet<String>,
    /// When objects were last tried again for a change of what may have caused their refusal.
    woke: Millis,
    /// What changed since then and is to be tried for.
    causes: Option<causes::Causes>,
    /// Kinds whose list is to be read anew.
    relists: BTreeSet<GroupKind>,
    /// When deletes that are held for the sum of an hour may be judged otherwise.
    budget_due: Option<Millis>,
    report_dirty: BTreeSet<UnitIx>,
    timers: BTreeSet<(Millis, UnitIx)>,
    queue: RunQueue,
    flights: BTreeMap<StepId, run::Flight>,
    writing: bool,
    write_tries: u32,
    write_after: Millis,
    /// When the oldest unwritten change that is no intent was made.
    unwritten_since: Option<Millis>,
    /// A list showed an object older than it was seen before.
    went_back: bool,
    /// Counts lists: what was touched after a list began is not gone for its absence there.
    serial: u32,
    next_step: u64,
    /// What was observed last, when that was noise.
    noisy: Option<Ix>,
    /// Records made since they were packed.
    stirred: u32,
    /// When they are to be packed.
    settles: Option<Millis>,
}

impl Engine {
    /// An engine that knows nothing yet: it asks for nothing before inventory, discovery and a bundle are set.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            inventory: Inventory::default(),
            inventory_read: false,
            inventory_errors: Vec::new(),
            frozen: BTreeSet::new(),
            generation: None,
            index_whole: false,
            approved: BTreeSet::new(),
            objects: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            versions: Versions::default(),
            units: Vec::new(),
            by_unit: BTreeMap::new(),
            kinds: BTreeMap::new(),
            discovered: false,
            unknown_groups: BTreeSet::new(),
            unserved: false,
            outdated: false,
            window: window::Window::default(),
            inputs: BTreeMap::new(),
            pauses: Pauses::default(),
            pauses_known: true,
            ended_pauses: Vec::new(),
            happened: BTreeMap::new(),
            autoscalers: BTreeMap::new(),
            scaled: BTreeSet::new(),
            flux: BTreeMap::new(),
            flux_claims: BTreeMap::new(),
            passing: BTreeMap::new(),
            extras: BTreeMap::new(),
            rereads: BTreeMap::new(),
            unstored: BTreeSet::new(),
            deletes: BTreeSet::new(),
            immutable: BTreeSet::new(),
            recreate: BTreeSet::new(),
            contested: BTreeSet::new(),
            leaving: BTreeSet::new(),
            suspects: BTreeMap::new(),
            waiting: BTreeMap::new(),
            dirty: BTreeSet::new(),
            deletes_dirty: false,
            compiled: Vec::new(),
            namespaces: BTreeSet::new(),
            woke: 0,
            causes: None,
            relists: BTreeSet::new(),
            budget_due: None,
            report_dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            queue: RunQueue::default(),
            flights: BTreeMap::new(),
            writing: false,
            write_tries: 0,
            write_after: 0,
            unwritten_since: None,
            went_back: false,
            serial: 1,
            next_step: 1,
            noisy: None,
            stirred: 0,
            settles: None,
        }
    }

    /// Look at everything (or one unit) again now: `driftless reconcile`. Failed requests are tried at once.
    pub fn reconcile(&mut self, unit: Option<&UnitId>, now: Millis) {
        let only = unit.map(|unit| self.by_unit.get(unit).copied());
        if only == Some(None) {
            return;
        }
        for obj in self.objects.iter_mut().flatten() {
            let of = obj.want.as_ref().map(|want| want.unit);
            if only.is_none_or(|only| only == of) {
                obj.elsewhere = false;
                // Nothing tells of what carries no mark that is watched.
                obj.recheck |= self.rules.shadow;
                if let Some(trouble) = obj.rare.there().and_then(|rare| rare.trouble.as_mut()) {
                    trouble.next = now;
                }
            }
        }
        self.read_extras_again(now);
        match only.flatten() {
            Some(unit) => self.touch(unit),
            None => self.touch_all(),
        }
    }

    /// When [`Engine::poll`] must be called although nothing happened.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let begins = self.may_begin() && !self.rules.shadow;
        let write = (begins && !self.writing && self.inventory.is_dirty(&self.frozen) && self.can_write())
            .then(|| self.unwritten_since.unwrap_or(0).saturating_add(run::WRITE_DELAY).max(self.write_after));
        let budget = self.budget_due.filter(|_| begins);
        let causes = self.causes.map(|causes| causes.at);
        [timer, write, budget, causes, self.pauses.next_end(), self.settles].into_iter().flatten().min()
    }

    /// The watches that are needed now: kinds that the cluster serves and the bundle or the inventory names, and
    /// autoscalers where a workload is declared. Looks at every object: ask after `set_inventory`, `set_bundle` and
    /// `set_discovery`, nothing else adds to it.
    #[must_use]
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: BTreeMap<GroupKind, Option<String>> = BTreeMap::new();
        let (mut workloads, mut placed) = (false, false);
        for obj in self.objects.iter().flatten() {
            let kind = GroupKind::of(&obj.key);
            let Some(versions) = self.kinds.get(&kind).and_then(|k| k.served.as_ref()) else { continue };
            workloads |= obj.want.is_some() && autoscale::scalable(&obj.key);
            placed |= obj.want.is_some() && !obj.key.namespace.is_empty();
            // Watched as it is declared: baselines are of that version's fields.
            let declared = obj.want.as_ref().map(|want| version_of(&want.api_version).to_owned());
            let version = declared.filter(|version| versions.contains(version));
            let entry = wanted.entry(kind).or_default();
            if entry.is_none() {
                *entry = version;
            }
        }
        let mut all: Vec<Wanted> =
            wanted.into_iter().map(|(kind, version)| Wanted { kind, version, owned_only: true }).collect();
        // Also those that are not ours: autoscalers own replicas, and what waits for a namespace goes on when it is there.
        let autoscalers = autoscale::autoscaler_kinds().into_iter().filter(|_| workloads);
        for kind in autoscalers.chain(placed.then(namespace_kind)) {
            if self.kinds.get(&kind).is_some_and(|k| k.served.is_some()) {
                // Those that are declared are compared in the version that they are declared in.
                match all.iter_mut().find(|wanted| wanted.kind == kind) {
                    Some(wanted) => wanted.owned_only = false,
                    None => all.push(Wanted { kind, version: None, owned_only: false }),
                }
            }
        }
        let flux = crate::flux::kind();
        if self.flux_served() {
            all.retain(|w| w.kind != flux);
            all.push(Wanted { kind: flux, version: None, owned_only: false });
        }
        all.sort();
        all
    }

    /// Kinds that are declared and not served: re-read discovery when a CustomResourceDefinition or APIService changes,
    /// and now and then while this is not empty.
    #[must_use]
    pub fn not_served(&self) -> Vec<GroupKind> {
        let declared: BTreeSet<GroupKind> =
            self.objects.iter().flatten().filter(|o| o.want.is_some()).map(|o| GroupKind::of(&o.key)).collect();
        declared.into_iter().filter(|kind| self.kinds.get(kind).is_none_or(|k| k.served.is_none())).collect()
    }

    /// Whether a kind turned out not to be served since the last call: then discovery is older than the cluster.
    pub fn take_unserved(&mut self) -> bool {
        std::mem::take(&mut self.unserved)
    }

    /// Whether the bundle may be older than what the hub has: one that was stored, until the hub was asked. What Flux left in
    /// the cluster may then be newer than the bundle, and is not judged by it.
    pub fn bundle_may_be_old(&mut self, may: bool) {
        if std::mem::replace(&mut self.outdated, may) && !may {
            self.touch_all();
        }
    }

    /// Reports of all units: after a reconnect.
    #[must_use]
    pub fn reports(&self, now: Millis) -> Vec<UnitReport> {
        (0..self.units.len() as UnitIx).filter_map(|unit| self.report_of(unit, now)).collect()
    }

    /// Troubles of the engine itself, for the cluster's report.
    #[must_use]
    pub fn problems(&self) -> Vec<Reason> {
        let mut problems: Vec<Reason> = self
            .inventory_errors
            .iter()
            .map(|error| Reason {
                code: "InventoryDamaged".to_owned(),
                message: format!(
                    "{error}. Applying and healing go on, nothing is deleted. To start afresh from what is in the cluster, \
                     delete all ConfigMaps driftless-inventory-* in {}: objects nobody declares are then left alone",
                    self.rules.agent_namespace
                ),
                file: None,
                line: None,
            })
            .collect();
        for (kind, state) in &self.kinds {
            if let Some(why) = state.blind.as_ref().filter(|_| !self.of_kind(kind).is_empty()) {
                problems.push(Reason {
                    code: "KindNotWatched".to_owned(),
                    message: format!(
                        "{} cannot be listed or watched, so its drift is not seen: {why}; give the applier list and watch",
                        kind.kind
                    ),
                    file: None,
                    line: None,
                });
            }
        }
        problems.extend(self.pauses.problem());
        if self.write_tries > 0 {
            problems.push(Reason {
                code: "InventoryNotWritten".to_owned(),
                message: format!(
                    "the inventory in {} could not be written {} times in a row; nothing new is created before it is",
                    self.rules.agent_namespace, self.write_tries
                ),
                file: None,
                line: None,
            });
        }
        problems
    }

    /// The cluster's store is older than it was: restored from a snapshot. What this engine knows, its inventory above all,
    /// is of a time that has not been; another one has to begin from what is stored.
    #[must_use]
    pub const fn store_went_back(&self) -> bool {
        self.went_back
    }

    /// Objects in the inventory.
    #[must_use]
    pub fn inventory_len(&self) -> usize {
        self.inventory.len()
    }

    /// Nothing is in flight, nothing can be started, nothing is to be written.
    #[must_use]
    pub fn idle(&self) -> bool {
        let written = !self.can_write() || !self.inventory.is_dirty(&self.frozen);
        self.flights.is_empty() && self.queue.is_empty() && self.dirty.is_empty() && written
    }

    /// A step with a fresh id.
    fn step(&mut self, action: crate::step::Action) -> Step {
        let id = StepId(self.next_step);
        self.next_step += 1;
        Step { id, action }
    }

    fn obj(&self, ix: Ix) -> Option<&Obj> {
        self.objects.get(ix as usize)?.as_ref()
    }

    fn obj_mut(&mut self, ix: Ix) -> Option<&mut Obj> {
        self.objects.get_mut(ix as usize)?.as_mut()
    }

    /// What is known of an object's kind.
    fn kind_of(&self, key: &ObjectKey) -> Option<&Kind> {
        self.kinds.get(key as &dyn KindName)
    }

    fn unit(&self, ix: UnitIx) -> Option<&Slot> {
        self.units.get(ix as usize)
    }

    fn unit_mut(&mut self, ix: UnitIx) -> Option<&mut Slot> {
        self.units.get_mut(ix as usize)
    }

    fn touch(&mut self, unit: UnitIx) {
        self.dirty.insert(unit);
        self.report_dirty.insert(unit);
    }

    fn touch_all(&mut self) {
        let all = 0..self.units.len() as UnitIx;
        self.dirty.extend(all.clone());
        self.report_dirty.extend(all);
        self.deletes_dirty = true;
    }

    /// The unit of an object: the one that declares it, else the one the inventory names.
    fn unit_of(&self, ix: Ix) -> Option<UnitIx> {
        let obj = self.obj(ix)?;
        match &obj.want {
            Some(want) => Some(want.unit),
            None => self.by_unit.get(&self.inventory.get(&obj.key)?.unit).copied(),
        }
    }

    /// A request of a unit came back. While it has others on the way it is looked at now and then, not after each: a unit
    /// may have thousands of objects, and a look costs by their number.
    fn touch_soon(&mut self, unit: UnitIx, now: Millis) {
        match self.unit(unit) {
            Some(slot) if slot.work > 0 => self.touch_at(unit, now + run::LOOK_SOON + slot.pace()),
            Some(_) => self.touch(unit),
            None => {}
        }
    }

    /// An object of a unit changed. A unit of few objects is looked at at once, a large one not again and again.
    fn touch_paced(&mut self, unit: UnitIx, now: Millis) {
        match self.unit(unit) {
            // The clock may have been set back.
            Some(slot) if slot.looked <= now && slot.looked.saturating_add(slot.pace()) > now => {
                self.touch_at(unit, slot.looked.saturating_add(slot.pace()));
            }
            Some(_) => self.touch(unit),
            None => {}
        }
    }

    /// Has a unit looked at then, unless it is looked at before.
    fn touch_at(&mut self, unit: UnitIx, at: Millis) {
        self.report_dirty.insert(unit);
        if self.unit(unit).is_some_and(|slot| slot.wake.is_none_or(|wake| wake > at)) {
            self.wake_at(unit, Some(at));
        }
    }

    /// When a unit is looked at next although nothing happens; in the place of what was said before.
    fn wake_at(&mut self, unit: UnitIx, at: Option<Millis>) {
        let Some(slot) = self.unit_mut(unit) else { return };
        let before = std::mem::replace(&mut slot.wake, at);
        if let Some(before) = before {
            self.timers.remove(&(before, unit));
        }
        self.timers.extend(at.map(|at| (at, unit)));
    }

    /// Something about an object changed.
    fn touch_object(&mut self, ix: Ix) {
        if let Some(unit) = self.unit_of(ix) {
            self.touch(unit);
        }
        self.delete_changed(ix);
    }

    /// A watch says that an object is not as it was: it may be one of thousands.
    fn object_changed(&mut self, ix: Ix, now: Millis) {
        if let Some(unit) = self.unit_of(ix) {
            self.touch_paced(unit, now);
        }
        self.delete_changed(ix);
    }

    /// Something about an object changed: if it left Git, whether it may be deleted is judged anew.
    fn delete_changed(&mut self, ix: Ix) {
        self.deletes_dirty |= self.leaving.contains(&ix);
    }

    fn can_write(&self) -> bool {
        self.inventory_read && !self.rules.shadow
    }

    /// A change of the inventory that need not be written before anything else.
    fn unwritten(&mut self, now: Millis) {
        if self.inventory.is_dirty(&self.frozen) && self.unwritten_since.is_none() {
            self.unwritten_since = Some(now);
        }
    }
}

fn namespace_kind() -> GroupKind {
    GroupKind { group: "".into(), kind: "Namespace".into() }
}

/// The version part of an `apiVersion`.
fn version_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or(api_version, |(_, version)| version)
}
