//! What the engine remembers: one record per object, one per unit, one per kind.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use driftless_cel::{CelError, Question};
use driftless_protocol::bundle::{ApplyMode, BlobRef, DriftMode, Late, ObjectOptions, Reason, SuspendedBy, UnitSpec};
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::{Name, ObjectKey};
use driftless_protocol::report::{EventKind, FieldDrift, HeldDelete, PauseEnd, Ready, RecentEvent, Waiting};
use serde_json::Value;

use crate::contest::Contests;
use crate::fill::{Fill, Reader};
use crate::fold::Folded;
use crate::health::Asked;
use crate::ignore::Fate;
use crate::input::{InputRef, Millis};
use crate::inventory::ApiVersion;
use crate::mark::Mark;
use crate::order::Stage;
use crate::retry::Class;
use crate::step::{Edit, Failure, StepId};

/// Place of an object in the engine's table.
pub(super) type Ix = u32;
/// Place of a unit.
pub(super) type UnitIx = u32;

/// One object: declared, owned, or both.
#[derive(Debug)]
pub(super) struct Obj {
    pub(super) key: Arc<ObjectKey>,
    /// Declared by a full unit.
    pub(super) want: Option<Want>,
    pub(super) live: Live,
    /// The list or answer that last spoke of it: see `Engine::serial`.
    pub(super) seen: u32,
    /// What few objects have anything of.
    pub(super) rare: Rare,
    /// A request about it is in flight.
    pub(super) busy: bool,
    /// It stands in the run queue.
    pub(super) queued: bool,
    /// The unit whose work it counts as, while queued or busy.
    pub(super) work_of: Option<UnitIx>,
    /// A delete was accepted; waiting until it is gone.
    pub(super) delete_sent: bool,
    /// Read it again whatever is known of it: nothing else would tell.
    pub(super) recheck: bool,
    /// It was there when it was made ours, with fields of other tools: they become ours too.
    pub(super) adopt: bool,
    /// It is there without our mark: found when it was about to be created as `IfNotPresent`.
    pub(super) elsewhere: bool,
    /// When its health last changed.
    pub(super) health_since: Millis,
    /// When what is reported of it last changed.
    pub(super) since: Millis,
}

/// What few objects have anything of: one word in the others. Read as if it were always there.
#[derive(Debug, Default)]
pub(super) struct Rare(Option<Box<Seldom>>);

/// See [`Rare`].
#[derive(Debug, Default)]
pub(super) struct Seldom {
    /// Why the live object is not in sync with its baseline; `None` when it is.
    pub(super) drift: Option<Box<Drift>>,
    /// The last request failed.
    pub(super) trouble: Option<Box<Trouble>>,
    /// When it was healed last.
    pub(super) healed: Option<Millis>,
    /// Who else wants its fields otherwise.
    pub(super) contests: Option<Box<Contests>>,
    /// A dry run has looked at this state: (owned, desired).
    pub(super) probed: Option<Box<(Mark, Mark)>>,
    /// It was read for a comparison in this state: live ownership, live additions, declared content.
    pub(super) looked: Option<Box<(Mark, Mark, Mark)>>,
    /// What becomes of its ignored fields when it is sent, by the live object; nothing where none are left to others.
    pub(super) ignored: Option<Vec<(String, Fate)>>,
    /// What shadow mode knows of it.
    pub(super) compared: Option<Box<super::shadow::Compared>>,
}

static NOTHING: Seldom = Seldom {
    drift: None,
    trouble: None,
    healed: None,
    contests: None,
    probed: None,
    looked: None,
    ignored: None,
    compared: None,
};

impl Deref for Rare {
    type Target = Seldom;

    fn deref(&self) -> &Seldom {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl Rare {
    /// To add to it.
    pub(super) fn made(&mut self) -> &mut Seldom {
        self.0.get_or_insert_default()
    }

    /// To change what is there.
    pub(super) fn there(&mut self) -> Option<&mut Seldom> {
        self.0.as_deref_mut()
    }

    /// To take something away; its place goes with the last.
    pub(super) fn clear(&mut self, clear: impl FnOnce(&mut Seldom)) {
        let Some(seldom) = &mut self.0 else { return };
        clear(seldom);
        let Seldom { drift, trouble, healed, contests, probed, looked, ignored, compared } = &**seldom;
        let there = [
            drift.is_some(),
            trouble.is_some(),
            healed.is_some(),
            contests.is_some(),
            probed.is_some(),
            looked.is_some(),
            ignored.is_some(),
            compared.is_some(),
        ];
        if !there.contains(&true) {
            self.0 = None;
        }
    }
}

/// What a full unit declares of an object.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) unit: UnitIx,
    pub(super) blob: BlobRef,
    /// Keyed mark of the blob's digest.
    pub(super) mark: Mark,
    pub(super) api_version: ApiVersion,
    pub(super) stage: Stage,
    pub(super) handed_through: bool,
    /// What Git says about it alone; most objects have nothing.
    pub(super) options: Option<Box<ObjectOptions>>,
    /// It has holes. `mark` is then that of the filled bytes, [`Mark::NONE`] until they are filled.
    pub(super) open: Option<Box<Open>>,
}

impl Drift {
    /// Fields that are healed, unless the unit's mode leaves them.
    pub(super) fn to_heal(&self) -> impl Iterator<Item = &FieldDrift> {
        self.fields.iter().filter(|field| field.mode.is_none())
    }

    /// What a heal sends of the fields that are left: what is live.
    pub(super) fn keep(&self) -> Vec<Edit> {
        let gone: Vec<String> =
            self.left.iter().filter(|(_, live)| live.is_none()).map(|(pointer, _)| pointer.clone()).collect();
        let there: Vec<(String, Value)> =
            self.left.iter().filter_map(|(pointer, live)| Some((pointer.clone(), live.clone()?))).collect();
        // Values first: an index means the item it meant in Git.
        let keep = (!there.is_empty()).then_some(Edit::KeepLive(there));
        keep.into_iter().chain((!gone.is_empty()).then_some(Edit::DropFields(gone))).collect()
    }
}

impl Want {
    /// Fields of which drift is left: shown only, and alerted.
    pub(super) fn left(&self) -> (&[String], &[String]) {
        self.options.as_ref().map(|options| (&*options.observe, &*options.warn)).unwrap_or_default()
    }

    pub(super) fn ignore(&self) -> &[String] {
        self.options.as_ref().map(|options| options.ignore.as_slice()).unwrap_or_default()
    }

    pub(super) fn apply(&self) -> ApplyMode {
        self.options.as_ref().map(|options| options.apply).unwrap_or_default()
    }

    /// A value of a Secret went into it.
    pub(super) fn secret(&self) -> bool {
        matches!(self.open.as_deref(), Some(Open::Filled { secret: true }))
    }
}

/// How the holes of an object stand.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// A value is not there, or does not fit; why, for people.
    Waits(Arc<str>),
    /// Filled; whether a value of a Secret went in.
    Filled { secret: bool },
}

/// The late inputs of a unit.
#[derive(Debug)]
pub(super) struct LateUnit {
    pub(super) late: Arc<Late>,
    pub(super) of: Reader,
    pub(super) refs: Vec<InputRef>,
    /// What fills its objects; else why they cannot be filled.
    pub(super) fill: Result<Arc<Fill>, Arc<str>>,
    /// What fills those objects that can be, while another cannot.
    pub(super) partly: Option<Arc<Fill>>,
}

impl LateUnit {
    /// What fills the objects that can be filled.
    pub(super) fn fill(&self) -> Option<Arc<Fill>> {
        self.fill.as_ref().ok().or(self.partly.as_ref()).cloned()
    }
}

/// What is known of the live object.
#[derive(Debug)]
pub(super) enum Live {
    /// Its kind has not been listed yet.
    Unknown,
    /// Its kind was listed without it, or it was deleted.
    Absent,
    /// There.
    Present(Folded),
}

impl Live {
    pub(super) fn folded(&self) -> Option<&Folded> {
        match self {
            Self::Present(folded) => Some(folded),
            _ => None,
        }
    }
}

/// A live object that is not as the last apply left it.
#[derive(Debug)]
pub(super) struct Drift {
    /// What was compared: live ownership, live additions, declared content.
    pub(super) of: (Mark, Mark, Mark),
    /// What differs; empty when all of it is explained. Those with a mode of their own are left.
    pub(super) fields: Vec<FieldDrift>,
    /// The marks of Git by which fields are left that differ, and what is live there: a heal of other fields leaves them so.
    pub(super) left: Vec<(String, Option<Value>)>,
    /// First notice.
    pub(super) since: Millis,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) class: Class,
    pub(super) failure: Failure,
    /// Failures in a row.
    pub(super) tries: u32,
    pub(super) next: Millis,
    /// First failure in a row.
    pub(super) since: Millis,
    /// The content that failed: new content is tried at once.
    pub(super) mark: Mark,
}

/// One unit.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: Arc<UnitId>,
    pub(super) state: State,
    pub(super) mode: DriftMode,
    /// When the present body was first seen.
    pub(super) started: Millis,
    /// The body last applied whole.
    pub(super) applied: Option<Digest>,
    pub(super) applied_at: Option<Millis>,
    pub(super) applied_revision: Option<String>,
    /// Since when everything is applied and health is waited for.
    pub(super) settled: Option<Millis>,
    /// Flux acts on it, or may still: nothing is written.
    pub(super) theirs: bool,
    /// Objects may be applied: dependencies are ready.
    pub(super) open: bool,
    /// Stages up to this one may be applied.
    pub(super) stage: Stage,
    /// Each object is dry-run before it is written.
    pub(super) validate: bool,
    /// The dry runs of all objects passed that can be made before the unit's first write: writes may begin.
    pub(super) validated: bool,
    pub(super) status: Status,
    pub(super) held_deletes: Vec<HeldDelete>,
    /// Newest first.
    pub(super) recent: VecDeque<Recent>,
    /// What happened since the caller was told.
    pub(super) gathered: Vec<Gathered>,
    /// The last pause that had held something of it back.
    pub(super) pause_ended: Option<PauseEnd>,
    /// Mark of the last report handed out.
    pub(super) reported: Mark,
    pub(super) wake: Option<Millis>,
    /// Objects of it that are queued or busy.
    pub(super) work: u32,
    /// All of its objects that have a health are healthy, waited for or not.
    pub(super) healthy: bool,
    /// When it was healed in the last hour, oldest first; kept only where a limit is set.
    pub(super) heals: VecDeque<Millis>,
    /// Heals on their way.
    pub(super) healing: u32,
    /// When it was last looked at.
    pub(super) looked: Millis,
    /// When a report on it was last made.
    pub(super) told: Millis,
    /// When its objects were last checked in full.
    pub(super) checked: Millis,
    /// Objects of its health checks that are not declared anywhere: last verdict and when to look again.
    pub(super) looks: Vec<Look>,
}

/// Something that was done, as reports tell it for a while: a [`RecentEvent`] of few words.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) at: Millis,
    pub(super) what: EventKind,
    pub(super) key: Arc<ObjectKey>,
    pub(super) detail: Box<str>,
    pub(super) took_ms: Option<u64>,
}

/// Most of them that a unit keeps.
const RECENT: usize = 20;

impl Recent {
    pub(super) fn told(&self) -> RecentEvent {
        let Self { at, what, key, detail, took_ms } = self;
        RecentEvent { at: *at, what: *what, key: ObjectKey::clone(key), detail: detail.to_string(), took_ms: *took_ms }
    }
}

/// What was done to objects of a unit, by what it was.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) what: EventKind,
    pub(super) count: u32,
    pub(super) first: Vec<String>,
}

/// What the index says of a unit.
#[derive(Debug)]
pub(super) enum State {
    Full(Box<Full>),
    /// With what its build read.
    Held(Reason, Option<Digest>),
    /// With what it declares; nobody knows: with what its build read.
    Suspended(SuspendedBy, Result<Box<[Arc<ObjectKey>]>, Option<Digest>>),
    /// Not in the index (any more), but the inventory has objects of it.
    Left,
}

/// A unit to be made so.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) body: Digest,
    pub(super) spec: UnitSpec,
    pub(super) revision: Option<String>,
    /// The revision with which this body came: what people are told, so that a commit that changes nothing of a unit changes
    /// nothing of what is said about it.
    pub(super) came: Option<String>,
    /// In apply order.
    pub(super) objects: Vec<Ix>,
    pub(super) withheld: Vec<(ObjectKey, Reason)>,
    /// Declared without a usable place: key, reason code, message.
    pub(super) unusable: Vec<(ObjectKey, &'static str, String)>,
    /// It depends on itself.
    pub(super) cycle: Option<String>,
    /// Compiled `healthCheckExprs`.
    pub(super) asked: Arc<[Asked]>,
    /// Compiled `readyExpr`s, by dependency.
    pub(super) ready: Vec<(UnitId, Result<Question, CelError>)>,
    /// What a `readyExpr` sees of the Flux object.
    pub(super) definition: Option<Value>,
    /// It takes values that only the cluster has.
    pub(super) late: Option<LateUnit>,
}

/// An object of a health check that is not ours.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) key: ObjectKey,
    pub(super) verdict: Option<crate::health::Verdict>,
    pub(super) next: Millis,
    pub(super) busy: Option<StepId>,
}

/// The verdict on a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) ready: Ready,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) waiting: Option<Waiting>,
}

/// What is known of a kind.
#[derive(Debug, Default)]
pub(super) struct Kind {
    /// Served versions, preferred first; `None`: not served.
    pub(super) served: Option<Vec<String>>,
    pub(super) namespaced: bool,
    /// A list of it began as this serial and is not complete.
    pub(super) listing: Option<u32>,
    /// What that list has shown so far, of kinds whose objects matter also where they are not ours.
    pub(super) found: BTreeSet<(Name, Name)>,
    /// It was listed at least once.
    pub(super) listed: bool,
    /// When the last list was complete, or asked for.
    pub(super) listed_at: Millis,
    /// It cannot be watched, and why.
    pub(super) blind: Option<String>,
}

impl Kind {
    /// Its objects live in namespaces, and this one names none.
    pub(super) fn misplaces(&self, key: &ObjectKey) -> bool {
        self.served.is_some() && self.namespaced && key.namespace.is_empty()
    }
}

impl Trouble {
    /// Worth a word to people: it does not go away by itself, or it has not for a while.
    pub(super) fn lasting(&self) -> bool {
        self.tries > 3 || !matches!(self.class, Class::Throttled | Class::Unavailable | Class::Conflict)
    }
}

impl Slot {
    /// Objects of its health checks that nobody declares are read: only while they are waited for, or to see them once.
    pub(super) fn looks_wait(&self) -> bool {
        self.settled.is_some() && self.full().is_some_and(|full| !full.spec.wait)
    }

    pub(super) fn new(id: Arc<UnitId>, state: State, now: Millis) -> Self {
        Self {
            id,
            state,
            mode: DriftMode::default(),
            started: now,
            applied: None,
            applied_at: None,
            applied_revision: None,
            settled: None,
            theirs: false,
            open: false,
            stage: Stage::Definitions,
            validate: false,
            validated: false,
            status: Status::default(),
            held_deletes: Vec::new(),
            recent: VecDeque::new(),
            gathered: Vec::new(),
            pause_ended: None,
            reported: Mark::NONE,
            wake: None,
            work: 0,
            healthy: false,
            heals: VecDeque::new(),
            healing: 0,
            looked: 0,
            told: 0,
            checked: now,
            looks: Vec::new(),
        }
    }

    /// When it may heal again, at most so many times an hour; 0 means without limit. `healing`: those on their way that count
    /// against it.
    pub(super) fn heals_again(&self, limit: u32, healing: u32, now: Millis) -> Millis {
        const HOUR: Millis = 3_600_000;
        let made = self.heals.len() + healing as usize;
        let Some(before) = made.checked_sub(limit as usize).filter(|_| limit > 0) else { return 0 };
        let again = self.heals.get(before).unwrap_or(&now).saturating_add(HOUR);
        if again > now { again } else { 0 }
    }

    /// Counts a heal.
    pub(super) fn healed(&mut self, now: Millis) {
        let limit = self.full().map_or(0, |full| full.spec.heals_per_hour) as usize;
        self.heals.push_back(now);
        while self.heals.len() > limit {
            self.heals.pop_front();
        }
    }

    /// How long after a look at it the next may come: a look costs by the number of its objects.
    pub(super) fn pace(&self) -> Millis {
        self.size() / super::run::OBJECTS_PER_LOOK_MS
    }

    /// How many objects it declares.
    fn size(&self) -> u64 {
        self.full().map_or(0, |full| full.objects.len() as u64)
    }

    /// It is at work and was reported on not long ago: what is told then is how far it is.
    pub(super) fn told_lately(&self, now: Millis) -> bool {
        let pause = self.size() / super::run::OBJECTS_PER_REPORT_MS;
        self.work > 0 && self.told <= now && now < self.told.saturating_add(pause)
    }

    pub(super) fn full(&self) -> Option<&Full> {
        match &self.state {
            State::Full(full) => Some(full),
            _ => None,
        }
    }

    pub(super) fn full_mut(&mut self) -> Option<&mut Full> {
        match &mut self.state {
            State::Full(full) => Some(full),
            _ => None,
        }
    }

    /// Nothing may be written yet: the dry runs of the whole unit come first.
    pub(super) fn validating(&self) -> bool {
        self.validate && !self.validated
    }

    pub(super) fn remember(&mut self, event: Recent) {
        let at = self.gathered.iter().position(|gathered| gathered.what == event.what);
        let at = at.unwrap_or_else(|| {
            self.gathered.push(Gathered { what: event.what, count: 0, first: Vec::new() });
            self.gathered.len() - 1
        });
        if let Some(gathered) = self.gathered.get_mut(at) {
            gathered.count = gathered.count.saturating_add(1);
            if gathered.first.len() < super::FIRST {
                gathered.first.push(format!("{}: {}", event.key, event.detail));
            }
        }
        self.recent.truncate(RECENT - 1);
        if self.recent.len() == self.recent.capacity() {
            // Not by doubling: every unit keeps its last ones.
            self.recent.reserve_exact(4);
        }
        self.recent.push_front(event);
    }
}

impl Obj {
    pub(super) fn new(key: Arc<ObjectKey>, live: Live, now: Millis) -> Self {
        Self {
            key,
            want: None,
            live,
            seen: 0,
            rare: Rare::default(),
            busy: false,
            queued: false,
            work_of: None,
            delete_sent: false,
            recheck: false,
            adopt: false,
            elsewhere: false,
            health_since: now,
            since: now,
        }
    }

    /// What a hole of it waits for, in words; nothing where none does.
    pub(super) fn missing_input(&self) -> &str {
        match self.want.as_ref().and_then(|want| want.open.as_deref()) {
            Some(Open::Waits(why)) => why,
            _ => "",
        }
    }

    /// Its declared content is new: what was found with the old one says nothing.
    pub(super) fn renewed(&mut self, now: Millis) {
        self.rare.clear(|rare| {
            rare.trouble = None;
            rare.drift = None;
            rare.probed = None;
            // What is left to others is known by the live object only, which is not kept.
            rare.ignored = None;
        });
        self.elsewhere = false;
        self.recheck |= self.want.as_ref().is_some_and(|want| !want.ignore().is_empty());
        self.since = now;
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Entry;

    /// One more word in what is kept of each object is 80 kB in a cluster of ten thousand.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn records_stay_small() {
        let sizes = [size_of::<Option<Obj>>(), size_of::<Entry>(), size_of::<ObjectKey>(), size_of::<Recent>()];
        assert!(sizes.iter().zip([232, 96, 96, 56]).all(|(size, most)| *size <= most), "{sizes:?}");
    }
}
