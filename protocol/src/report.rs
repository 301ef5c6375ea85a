//! What an agent says about its cluster: states, not events. The newest wins; nothing depends on having seen every one.
//!
//! Reports travel as JSON inside a session message, so that a field can be added without a new wire version; they are
//! bounded ([`UnitReport::bound`]) and carry no secret value (drift in Secrets names paths and digests only).

use serde::{Deserialize, Serialize};

use crate::bundle::{ApprovedDelete, DriftMode, LateKind, Reason, is_false, is_zero_u32};
use crate::id::{Digest, Generation, UnitId};
use crate::object::ObjectKey;

/// Most entries of one list in a report; what is beyond is counted, not listed.
pub const LIST_LIMIT: usize = 200;

/// Most bytes of one text in a report.
pub const TEXT_LIMIT: usize = 2048;

/// The state of the agent as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterReport {
    /// The generation whose bundle is being enforced; `None` before the first.
    pub generation: Option<Generation>,
    /// The digest of that bundle's index.
    pub index: Option<Digest>,
    /// The generation that every unit report speaks of, whatever generation it names itself: each that says anything else
    /// than before was sent before this one. `None`: not (yet) in this session, or the agent repeats unit reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_at: Option<Generation>,
    /// Version of the agent program.
    pub agent_version: String,
    /// The pod that leads.
    pub leader: String,
    /// `v1.36.3`.
    pub kubernetes_version: String,
    /// Objects in the inventory.
    pub inventory: u64,
    /// Troubles of the agent itself: a refused generation, an unreadable inventory, no right to impersonate, ...
    pub problems: Vec<Reason>,
    /// `Pause` objects that hold something back now, and those that cannot be used; at most [`LIST_LIMIT`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseReport>,
    /// Nothing is written to managed objects: everything is compared and reported.
    #[serde(skip_serializing_if = "is_false")]
    pub shadow: bool,
    /// Unix milliseconds, the agent's clock.
    pub observed_at: u64,
}

/// A `Pause` object in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PauseReport {
    /// `namespace/name`.
    pub name: String,
    /// What it covers, for people: `the whole cluster`, `unit flux-system/shop`, `Deployment.apps shop/web`.
    pub covers: String,
    /// Why, as whoever made it says.
    pub reason: String,
    /// When it was made, Unix milliseconds.
    pub since: u64,
    /// When it ends by itself, Unix milliseconds.
    pub expires: u64,
    /// Why it is ignored, or has nothing to hold back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A pause that ended: what it had held back of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PauseEnd {
    /// `namespace/name` of the `Pause`.
    pub name: String,
    /// When it ended, Unix milliseconds.
    pub at: u64,
    /// Its time was over; else somebody removed or changed it.
    pub expired: bool,
    /// How many objects it had held back.
    pub count: u32,
    /// The first of them, with what was done to them from then on; at most [`PauseEnd::LINES`].
    pub held: Vec<String>,
}

impl PauseEnd {
    /// Most objects that are named.
    pub const LINES: usize = 20;
}

/// Ready, as a Kubernetes condition says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ready {
    /// Applied and, where asked for, healthy.
    True,
    /// Something failed.
    False,
    /// On the way, or not known yet.
    #[default]
    Unknown,
}

/// The state of one unit in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitReport {
    /// Which unit.
    pub unit: UnitId,
    /// Ready or not.
    pub ready: Ready,
    /// Stable code of the state: see [`reason`].
    pub reason: String,
    /// For people: what happened, to what, and what to do.
    pub message: String,
    /// The generation this speaks of; a later one where [`ClusterReport::units_at`] says so.
    pub generation: Option<Generation>,
    /// The unit body wanted by that generation (`None`: held or suspended).
    pub desired: Option<Digest>,
    /// The unit body last applied whole.
    pub applied: Option<Digest>,
    /// When that was, in Unix milliseconds.
    pub last_applied: Option<u64>,
    /// The revision of its source at that time, as Flux writes it.
    pub applied_revision: Option<String>,
    /// Suspended, and nothing is done.
    pub suspended: bool,
    /// What is done with drift.
    pub drift_mode: DriftMode,
    /// Counts over its objects.
    pub counts: Counts,
    /// Objects that are not simply applied and healthy; at most [`LIST_LIMIT`].
    pub objects: Vec<ObjectReport>,
    /// Fields that differ now; at most [`LIST_LIMIT`].
    pub drift: Vec<FieldDrift>,
    /// The last things done to drift and by prune, newest first; at most 20.
    pub recent: Vec<RecentEvent>,
    /// What it waits for.
    pub waiting: Option<Waiting>,
    /// Fields that go back and forth with another manager; at most [`LIST_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contests: Vec<Contest>,
    /// What others than people added to its objects where it matters for security; at most [`LIST_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additions: Vec<Addition>,
    /// Deletes that need `driftless approve`; at most [`LIST_LIMIT`].
    pub held_deletes: Vec<HeldDelete>,
    /// Approved deletes whose object is still there; at most [`LIST_LIMIT`]. The hub ends an approval that is not among
    /// them any more, so that it cannot delete what comes later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_deletes: Vec<ApprovedDelete>,
    /// ConfigMaps and Secrets of the cluster its variables come from, weakest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputReport>,
    /// Keyed digest over what its objects became with the values of `inputs`: equal or not is all it says. `None` where no
    /// object has holes, or none is filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled: Option<String>,
    /// Pauses that hold back the unit, or objects of it; at most [`LIST_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<PauseReport>,
    /// The last pause that ended, where it had held something back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ended: Option<PauseEnd>,
    /// How Flux's own object of this unit stands in the cluster; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<FluxState>,
    /// How the unit compares with the cluster, where nothing is written (the cluster's shadow option).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// Unix milliseconds, the agent's clock.
    pub observed_at: u64,
}

/// Flux's own Kustomization in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FluxState {
    /// `spec.suspend` is true, and Flux is known to have seen it or to be past what it had begun.
    pub stopped: bool,
    /// `spec.suspend` is true.
    pub suspended: bool,
    /// Its Ready condition.
    pub ready: Ready,
    /// `status.lastAppliedRevision`.
    pub revision: Option<String>,
    /// Objects in `status.inventory`.
    pub objects: u32,
}

/// What a comparison of a unit with the cluster found. Which objects and fields: the report's `objects` and `drift`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowReport {
    /// As declared, or left alone by a mark.
    pub equal: u32,
    /// Declared, and not in the cluster.
    pub missing: u32,
    /// With at least one other field.
    pub differing: u32,
    /// Other fields, all objects together.
    pub fields: u32,
    /// The API server would refuse them.
    pub refused: u32,
    /// Not compared (yet): a kind that is not served or listed, a missing input, an object that the hub does not send.
    pub open: u32,
    /// In Flux's inventory and not declared by this unit; ids as Flux writes them, at most [`LIST_LIMIT`].
    pub only_flux: Vec<String>,
    /// How many those are in all.
    pub only_flux_count: u32,
    /// Declared by this unit and not in Flux's inventory; at most [`LIST_LIMIT`].
    pub only_ours: Vec<String>,
    /// How many those are in all.
    pub only_ours_count: u32,
    /// What a take-over would make of each of `only_flux`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// How many of them it would adopt and delete.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub would_delete: u32,
    /// How many of them it would adopt and hold for approval.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub would_hold: u32,
}

/// An object of Flux's inventory that its unit does not declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// As Flux writes it.
    pub id: String,
    /// What a take-over would make of it.
    pub fate: LeftoverFate,
    /// Why, for people; empty where that needs no word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What a take-over makes of an object that only Flux's inventory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftoverFate {
    /// It is adopted and deleted.
    Deleted,
    /// It is adopted, and deleted once approved.
    Held,
    /// It is left alone.
    Left,
}

impl Leftover {
    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        let what = match self.fate {
            LeftoverFate::Deleted => "would be adopted and deleted",
            LeftoverFate::Held => "would be adopted and held for approval",
            LeftoverFate::Left => "would be left alone",
        };
        if self.why.is_empty() { what.to_owned() } else { format!("{what}: {}", self.why) }
    }
}

impl ShadowReport {
    /// What a take-over would make of an object of [`ShadowReport::only_flux`], in words.
    #[must_use]
    pub fn fate_of(&self, id: &str) -> Option<String> {
        self.leftovers.iter().find(|leftover| leftover.id == id).map(Leftover::words)
    }

    /// Everything was compared, and nothing differs.
    #[must_use]
    pub fn zero(&self) -> bool {
        self.open == 0 && self.differences() == 0
    }

    /// Objects that differ in any way.
    #[must_use]
    pub fn differences(&self) -> u32 {
        [self.missing, self.differing, self.refused, self.only_flux_count, self.only_ours_count]
            .into_iter()
            .fold(0, u32::saturating_add)
    }
}

/// How a ConfigMap or Secret stands that a unit's variables come from. Never a value of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputReport {
    /// Which of the two.
    pub kind: LateKind,
    /// Its name, in the namespace of the unit where no other is said.
    pub name: String,
    /// Another namespace, where it is an input of a unit above.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Whether it could be read.
    pub status: InputStatus,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether an input could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InputStatus {
    /// Not tried yet.
    Unread,
    /// It was read.
    Found,
    /// It does not exist.
    Missing,
    /// It could not be read.
    Failed,
}

/// Counts over a unit's objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Declared and sent.
    pub objects: u32,
    /// As declared in the cluster.
    pub in_sync: u32,
    /// Refused by the API server.
    pub failed: u32,
    /// Of a kind the cluster does not serve.
    pub not_served: u32,
    /// Held back by the hub (encrypted, not representable).
    pub withheld: u32,
    /// With drift that stays.
    pub drifted: u32,
    /// Not healthy, or not yet.
    pub unhealthy: u32,
    /// Left alone, since a mark on them says so.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub left_alone: u32,
    /// Of which a write is held back by a `Pause`.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub paused: u32,
    /// Deletes waiting for approval.
    pub held_deletes: u32,
    /// Approved deletes whose object is still there.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub approved_deletes: u32,
}

/// One object that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// Which object.
    pub key: ObjectKey,
    /// What is the matter.
    pub state: ObjectState,
    /// Stable code.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when, Unix milliseconds.
    pub since: u64,
}

/// What is the matter with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObjectState {
    /// Not applied yet; waits for its stage, its namespace or its turn.
    Pending,
    /// The API server refused it.
    Failed,
    /// The cluster serves no such kind; tried again when it does.
    NotServed,
    /// The hub held it back.
    Withheld,
    /// Applied, not healthy yet.
    InProgress,
    /// Applied, and failing.
    Unhealthy,
    /// Drift that stays.
    Drifted,
    /// A mark on it says to leave it alone.
    LeftAlone,
}

/// One field that is not as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldDrift {
    /// Which object.
    pub key: ObjectKey,
    /// `spec.replicas`, `spec.template.spec.containers[name=web].image`.
    pub path: String,
    /// The same as a JSON pointer into the live object, where it is there: what an ignore rule would name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The declared value as JSON, shortened; `None`: the field was added.
    pub desired: Option<String>,
    /// The live value as JSON, shortened; `None`: the field was removed. Secrets show a keyed digest.
    pub live: Option<String>,
    /// The field manager that claims it.
    pub manager: Option<String>,
    /// When that manager last wrote, Unix milliseconds.
    pub at: Option<u64>,
    /// What kind of writer it looks like.
    pub class: DriftClass,
    /// What Git says becomes of this field alone; `None`: as its unit's mode says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DriftMode>,
}

/// What kind of writer a drift looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DriftClass {
    /// `kubectl` and its like.
    Human,
    /// An autoscaler on an autoscaled workload.
    Autoscaler,
    /// An admission webhook.
    Admission,
    /// Flux, Argo CD, Helm, Fleet.
    GitOps,
    /// The API server's defaulting.
    Defaulting,
    /// Some other controller.
    Controller,
    /// The whole object is gone.
    Deleted,
}

/// Something done lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentEvent {
    /// Unix milliseconds.
    pub at: u64,
    /// What was done.
    pub what: EventKind,
    /// To which object.
    pub key: ObjectKey,
    /// For people: `spec.replicas 5 -> 3 (manager kubectl)`.
    pub detail: String,
    /// From the first notice to the end of the write, in milliseconds.
    pub took_ms: Option<u64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// Created or changed as a new generation says.
    Applied,
    /// Drift undone.
    Healed,
    /// Deleted, since it left Git.
    Pruned,
    /// Left alone by an opt-out, `prune: false` or a policy.
    Released,
    /// Another manager keeps changing a field back: heals are damped from now on.
    Contested,
    /// It has stopped.
    ContestEnded,
    /// Another manager added a field that matters for security; it stays.
    Added,
}

/// A field that goes back and forth with another manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contest {
    /// Which object.
    pub key: ObjectKey,
    /// As [`FieldDrift::path`]; empty: the whole object.
    pub path: String,
    /// The manager, as it calls itself; `None`: nobody claims it.
    pub manager: Option<String>,
    /// What kind of writer it looks like.
    pub class: DriftClass,
    /// Heals within ten minutes.
    pub flips: u32,
    /// Since when it is a contest, Unix milliseconds.
    pub since: u64,
    /// What to do about it, ready to paste.
    pub hint: String,
}

/// A field that matters for security, in an object of ours, of which Git does not know. It stays, and is no drift: a
/// controller may need it. An ignore rule for it says that it is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Addition {
    /// Which object.
    pub key: ObjectKey,
    /// As [`FieldDrift::path`].
    pub path: String,
    /// The live value as JSON, shortened; of a container its image.
    pub live: String,
    /// The manager that claims it.
    pub manager: String,
    /// What kind of writer it looks like; `admission`: a webhook put it into our own request.
    pub class: DriftClass,
    /// When that manager had last written when it was first noticed, Unix milliseconds.
    pub since: u64,
}

/// What a unit waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// `dependsOn infra/controllers (not ready: ...)`, `stage namespaces`, `health of Deployment.apps default/x`.
    pub on: String,
    /// Unix milliseconds.
    pub since: u64,
}

/// A delete that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDelete {
    /// Which object.
    pub key: ObjectKey,
    /// Its UID in this cluster.
    pub uid: String,
    /// Why it needs approval.
    pub why: String,
}

/// Stable codes of [`UnitReport::reason`], as Flux users know them where Flux has one.
pub mod reason {
    /// All applied and, where asked for, healthy.
    pub const SUCCEEDED: &str = "ReconciliationSucceeded";
    /// Being applied.
    pub const PROGRESSING: &str = "Progressing";
    /// At least one object was refused.
    pub const FAILED: &str = "ReconciliationFailed";
    /// Waits for a `dependsOn`.
    pub const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    /// Waits for a ConfigMap or Secret of its `substituteFrom`, or for a value that fits.
    pub const INPUT_NOT_READY: &str = "InputNotReady";
    /// Applied, waiting for health.
    pub const HEALTH_CHECK_PENDING: &str = "HealthCheckPending";
    /// Not healthy within the timeout.
    pub const HEALTH_CHECK_FAILED: &str = "HealthCheckFailed";
    /// The hub could not build it; the cluster keeps what it has.
    pub const HELD: &str = "Held";
    /// Suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// New content is held back by a `Pause`.
    pub const PAUSED: &str = "Paused";
    /// The hub cannot read the agent's report.
    pub const UNREADABLE: &str = "UnreadableReport";
    /// Left Git; what remains is being pruned, or held.
    pub const PRUNING: &str = "Pruning";
    /// Flux acts on it in this cluster, or has not stopped for certain: nothing is written.
    pub const FLUX_ACTS: &str = "FluxActs";
    /// Compared, nothing is written, and nothing differs.
    pub const SHADOW_EQUAL: &str = "ShadowEqual";
    /// Compared, nothing is written, and something differs.
    pub const SHADOW_DIFFERS: &str = "ShadowDiffers";
}

impl ClusterReport {
    /// What a hub shows for an agent whose report it cannot read.
    #[must_use]
    pub fn unreadable(error: &str) -> Self {
        Self { problems: vec![unreadable("the agent", error)], ..Self::default() }
    }

    /// Cuts lists and texts until the report has at most that many bytes as JSON.
    pub fn fit(&mut self, bytes: usize) {
        let mut most = LIST_LIMIT;
        let mut text = TEXT_LIMIT;
        loop {
            self.problems.truncate(most);
            for problem in &mut self.problems {
                cut(&mut problem.message, text);
            }
            cut_pauses(&mut self.pauses, most, text);
            for field in [&mut self.agent_version, &mut self.leader, &mut self.kubernetes_version] {
                cut(field, 253);
            }
            if json_len(self) <= bytes || most == 0 {
                return;
            }
            most /= 2;
            text = (text / 2).max(64);
        }
    }
}

impl UnitReport {
    /// What a hub shows for a unit whose report it cannot read.
    #[must_use]
    pub fn unreadable(unit: UnitId, error: &str) -> Self {
        let reason = unreadable(&format!("{unit}"), error);
        Self {
            unit,
            ready: Ready::Unknown,
            reason: reason.code,
            message: reason.message,
            generation: None,
            desired: None,
            applied: None,
            last_applied: None,
            applied_revision: None,
            suspended: false,
            drift_mode: DriftMode::default(),
            counts: Counts::default(),
            objects: Vec::new(),
            drift: Vec::new(),
            recent: Vec::new(),
            waiting: None,
            contests: Vec::new(),
            additions: Vec::new(),
            held_deletes: Vec::new(),
            approved_deletes: Vec::new(),
            inputs: Vec::new(),
            filled: None,
            pauses: Vec::new(),
            pause_ended: None,
            flux: None,
            shadow: None,
            observed_at: 0,
        }
    }

    /// Cuts every list to its limit. The counts still say how many there are.
    pub fn bound(&mut self) {
        self.cut_to(LIST_LIMIT, TEXT_LIMIT);
    }

    /// Cuts lists and texts until the report has at most that many bytes as JSON.
    pub fn fit(&mut self, bytes: usize) {
        let mut most = LIST_LIMIT;
        let mut text = TEXT_LIMIT;
        loop {
            self.cut_to(most, text);
            if json_len(self) <= bytes || most == 0 {
                return;
            }
            most /= 2;
            text = (text / 2).max(64);
        }
    }

    fn cut_to(&mut self, most: usize, text: usize) {
        self.objects.truncate(most);
        self.drift.truncate(most);
        self.held_deletes.truncate(most);
        self.contests.truncate(most);
        for contest in &mut self.contests {
            for value in [&mut contest.path, &mut contest.hint] {
                cut(value, text);
            }
            if let Some(manager) = &mut contest.manager {
                cut(manager, text);
            }
        }
        self.additions.truncate(most);
        for addition in &mut self.additions {
            for value in [&mut addition.path, &mut addition.live, &mut addition.manager] {
                cut(value, text);
            }
        }
        self.approved_deletes.truncate(most);
        self.recent.truncate(most.min(20));
        cut(&mut self.message, text);
        for object in &mut self.objects {
            cut(&mut object.message, text);
        }
        for drift in &mut self.drift {
            cut(&mut drift.path, text);
            for value in [&mut drift.desired, &mut drift.live, &mut drift.manager].into_iter().flatten() {
                cut(value, text);
            }
        }
        for event in &mut self.recent {
            cut(&mut event.detail, text);
        }
        for held in &mut self.held_deletes {
            cut(&mut held.why, text);
        }
        if let Some(waiting) = &mut self.waiting {
            cut(&mut waiting.on, text);
        }
        cut_pauses(&mut self.pauses, most, text);
        if let Some(ended) = &mut self.pause_ended {
            ended.held.truncate(most.min(PauseEnd::LINES));
            for line in &mut ended.held {
                cut(line, text);
            }
        }
        if let Some(shadow) = &mut self.shadow {
            for list in [&mut shadow.only_flux, &mut shadow.only_ours] {
                list.truncate(most);
                list.iter_mut().for_each(|id| cut(id, text));
            }
            shadow.leftovers.truncate(most);
            for leftover in &mut shadow.leftovers {
                cut(&mut leftover.id, text);
                cut(&mut leftover.why, text);
            }
        }
        self.inputs.truncate(most);
        for input in &mut self.inputs {
            cut(&mut input.message, text);
        }
    }
}

fn unreadable(what: &str, error: &str) -> Reason {
    Reason {
        code: reason::UNREADABLE.into(),
        message: format!(
            "this hub cannot read the report of {what}, since its agent is newer: update the hub ({error})"
        ),
        file: None,
        line: None,
    }
}

fn cut_pauses(pauses: &mut Vec<PauseReport>, most: usize, text: usize) {
    pauses.truncate(most);
    for pause in pauses {
        for value in [&mut pause.name, &mut pause.covers, &mut pause.reason].into_iter().chain(&mut pause.problem) {
            cut(value, text);
        }
    }
}

fn json_len<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// At most that many bytes, cut at a character, with a mark that it was cut.
fn cut(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let mut end = most.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str("...");
}
