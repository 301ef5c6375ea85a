//! What people with kubectl see: a `Unit` object per unit, and Events.
//!
//! The driver puts states and happenings on the [`Board`]; one task writes them, as the agent itself, when it may. It holds up
//! nothing: on the board the newest state of a unit wins, and what cannot be written is tried again later. A cluster where
//! nothing changes is not written to.

mod events;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use driftless_protocol::bundle::DriftMode;
use driftless_protocol::id::UnitId;
use driftless_protocol::report::{FieldDrift, ObjectState, Ready, UnitReport};
use driftless_reconcile::engine::{Ended, Happened};
use driftless_reconcile::input::Millis;
use driftless_reconcile::mark::Version;
use driftless_reconcile::pause::{Pause, Unusable};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::events::{Events, Request, Subject, Told};
use self::unit::{Live, Name, Shown, name_of};
use crate::cluster::api::{Actor, Api, ApiError, Resource, events as event_resource};
use crate::cluster::discovery::Served;
use crate::cluster::watch::{Seen, Selection, Watches};
use crate::leader::Leadership;

/// Watch events that wait; when full the watch waits.
const SEEN_DEPTH: usize = 64;
/// Requests at once, so that these never crowd out the work itself.
const IN_FLIGHT: usize = 4;
/// Least time between two writes of one unit, and while it is on its way.
const SETTLED: Millis = 2_000;
const MOVING: Millis = 10_000;
/// How long a unit must be on its way before that is shown: most are there by then, and after a start each seems so for a
/// moment.
const MOVES: Millis = 5_000;
/// Writes of units at once, and one more in this time.
const REST: Pace = Pace { burst: 50, refill: 40 };
/// The same while the cluster is at work: what is applied comes first, and each of these costs an API server as much.
const WORK: Pace = Pace { burst: 5, refill: 500 };
/// First and longest pause after a failed write.
const AGAIN: Millis = 10_000;
const AT_LAST: Millis = 3_600_000;

/// How many may be written how fast.
#[derive(Clone, Copy, Debug)]
struct Pace {
    burst: u32,
    refill: Millis,
}

/// Where the driver leaves what is to be shown.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    news: Notify,
    /// Objects are being applied.
    works: AtomicBool,
    /// Nothing is shown: the cluster is in shadow mode, and nothing may be written.
    off: bool,
}

#[derive(Debug)]
struct State {
    /// What units are to show, by the name of their object.
    units: BTreeMap<Name, Arc<Shown>>,
    /// Changed since the task looked.
    changed: BTreeSet<Name>,
    /// Every unit is known, so that an object without one is a leftover.
    complete: bool,
    /// Namespaces that came.
    namespaces: BTreeSet<String>,
    resource: Option<Resource>,
    /// Discovery was read since the task looked.
    discovered: bool,
    events: Events,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(shadow: bool, now: Millis) -> Self {
        let state = State {
            units: BTreeMap::new(),
            changed: BTreeSet::new(),
            complete: false,
            namespaces: BTreeSet::new(),
            resource: None,
            discovered: false,
            events: Events::new(now),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            news: Notify::new(),
            works: AtomicBool::new(false),
            off: shadow,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if !self.0.off {
            change(&mut self.state());
            self.0.news.notify_one();
        }
    }

    /// Whether many objects are being applied: then what is shown waits a little longer.
    pub fn works(&self, works: bool) {
        if self.0.works.swap(works, Ordering::Relaxed) && !works {
            self.0.news.notify_one();
        }
    }

    fn pace(&self) -> Pace {
        if self.0.works.load(Ordering::Relaxed) { WORK } else { REST }
    }

    /// How a unit stands now.
    pub fn unit(&self, report: &UnitReport, now: Millis) {
        let (name, shown) = (name_of(&report.unit), Arc::new(Shown::of(report)));
        self.change(|state| {
            let before = state.units.get(&name);
            for told in judged(before.map(|shown| &**shown), &shown, report) {
                state.events.add(subject(&name), told, now);
            }
            if before != Some(&shown) {
                state.units.insert(name.clone(), shown);
                state.changed.insert(name);
            }
        });
    }

    /// These units are gone.
    pub fn gone(&self, units: &[UnitId]) {
        if !units.is_empty() {
            self.change(|state| {
                for unit in units {
                    let name = name_of(unit);
                    state.units.remove(&name);
                    state.changed.insert(name);
                }
            });
        }
    }

    /// All units there are were shown once.
    pub fn complete(&self) {
        if !self.state().complete {
            self.change(|state| state.complete = true);
        }
    }

    /// Which kinds the cluster serves.
    pub fn served(&self, served: &Served) {
        let resource = unit::resource(served);
        self.change(|state| (state.resource, state.discovered) = (resource, true));
    }

    /// A namespace is there: what waited for it is written.
    pub fn namespace(&self, name: &str) {
        self.change(|state| {
            state.namespaces.insert(name.to_owned());
        });
    }

    /// Something was done to objects of units.
    pub fn happened(&self, all: &[Happened], now: Millis) {
        if !all.is_empty() {
            self.change(|state| {
                for happened in all {
                    state.events.add(subject(&name_of(&happened.unit)), Told::of(happened), now);
                }
            });
        }
    }

    /// A pause begins.
    pub fn paused(&self, pause: &Pause, now: Millis) {
        let note = format!(
            "nothing of {} is applied, healed or deleted until {}: {}",
            pause.covers,
            crate::pauses::rfc3339(pause.expires),
            pause.reason
        );
        self.change(|state| state.events.add(of_pause(pause), Told::one("Paused", true, "Pause", note), now));
    }

    /// A pause ended: what it had held back is done now.
    pub fn pause_ended(&self, ended: &Ended, now: Millis) {
        let how = if ended.expired { "its time is over" } else { "it was removed or changed" };
        let held = match ended.count {
            0 => "; it had held back nothing".to_owned(),
            count => format!("; it had held back {count}, done now: {}", ended.held.join("; ")),
        };
        let told = Told::one("PauseEnded", false, "Resume", format!("{how}{held}"));
        self.change(|state| state.events.add(of_pause(&ended.pause), told, now));
    }

    /// A `Pause` cannot be used.
    pub fn unusable(&self, pause: &Unusable, now: Millis) {
        let subject = Subject {
            kind: "Pause",
            namespace: pause.namespace.clone(),
            name: pause.name.clone(),
            uid: Some(pause.uid.clone()),
        };
        let told = Told::one("PauseIgnored", true, "Pause", format!("it is ignored: {}", pause.why));
        self.change(|state| state.events.add(subject, told, now));
    }
}

fn subject(name: &Name) -> Subject {
    Subject { kind: unit::KIND, namespace: name.0.clone(), name: name.1.clone(), uid: None }
}

fn of_pause(pause: &Pause) -> Subject {
    Subject {
        kind: "Pause",
        namespace: pause.namespace.clone(),
        name: pause.name.clone(),
        uid: Some(pause.uid.clone()),
    }
}

/// What of a unit's state is worth an Event: what was not so before.
fn judged(before: Option<&Shown>, now: &Shown, report: &UnitReport) -> Vec<Told> {
    let mut all = Vec::new();
    let failed = report.ready == Ready::False;
    let same = before.is_some_and(|before| before.verdict() == now.verdict());
    if failed && !same && !now.moving {
        all.push(Told::one(report.reason.clone(), true, "Judge", report.message.clone()));
    }
    if report.ready == Ready::True && before.is_some_and(Shown::failed) {
        all.push(Told::one("Ready", false, "Judge", report.message.clone()));
    }
    let (drifted, held) = before.map_or((0, 0), Shown::open);
    let counts = report.counts;
    if u64::from(counts.drifted) > drifted {
        let of = report.objects.iter().filter(|object| object.state == ObjectState::Drifted);
        let lines: Vec<String> = of.take(3).map(|o| format!("{}: {}", o.key, o.message)).collect();
        // What is only observed is no alert.
        let of_field = |field: &FieldDrift| field.mode.unwrap_or(report.drift_mode) != DriftMode::Observe;
        let warning = match report.drift.as_slice() {
            [] => report.drift_mode != DriftMode::Observe,
            fields => fields.iter().any(of_field),
        };
        all.push(Told { reason: "Drifted".into(), warning, action: "Compare", count: counts.drifted, lines });
    }
    if u64::from(counts.held_deletes) > held {
        let lines: Vec<String> = report.held_deletes.iter().take(3).map(|h| format!("{}: {}", h.key, h.why)).collect();
        let count = counts.held_deletes;
        all.push(Told { reason: "DeletesHeld".into(), warning: true, action: "Prune", count, lines });
    }
    all
}

/// What the task needs.
pub struct Setup {
    /// Requests as the agent.
    pub api: Api,
    /// Where the driver leaves what is to be shown.
    pub board: Board,
    /// Whether requests may start.
    pub leadership: watch::Receiver<Leadership>,
    /// The pod, for Events.
    pub pod: String,
    /// The clock, in Unix milliseconds.
    pub clock: fn() -> Millis,
}

/// Writes what is on the board, until cancelled.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let (sender, seen) = mpsc::channel(SEEN_DEPTH);
    let now = (setup.clock)();
    let mut writer = Writer {
        watches: Watches::new(setup.api.client().clone(), sender),
        seen,
        resource: None,
        live: BTreeMap::new(),
        listing: None,
        listed: false,
        complete: false,
        due: BTreeMap::new(),
        moving: BTreeMap::new(),
        tries: BTreeMap::new(),
        busy: BTreeSet::new(),
        writes: JoinSet::new(),
        tokens: REST.burst,
        filled: now,
        setup,
    };
    if writer.setup.board.0.off {
        cancel.cancelled().await;
    } else {
        writer.work(&cancel).await;
    }
    writer.watches.stop().await;
    writer.writes.shutdown().await;
}

/// What came of a request.
enum Written {
    /// The object as it is now; `None`: it was deleted.
    Unit(Name, Result<Option<Box<Live>>, ApiError>),
    Event((Subject, String), Result<String, ApiError>),
}

struct Writer {
    setup: Setup,
    watches: Watches,
    seen: mpsc::Receiver<Seen>,
    resource: Option<Resource>,
    /// The objects as they are.
    live: BTreeMap<Name, Live>,
    /// Seen since a list began.
    listing: Option<BTreeSet<Name>>,
    listed: bool,
    /// Every unit is on the board.
    complete: bool,
    /// To be looked at, and when at the earliest.
    due: BTreeMap<Name, Millis>,
    /// Since when units are on their way.
    moving: BTreeMap<Name, Millis>,
    /// Failures in a row.
    tries: BTreeMap<Name, u32>,
    busy: BTreeSet<Name>,
    writes: JoinSet<Written>,
    tokens: u32,
    filled: Millis,
}

impl Writer {
    fn now(&self) -> Millis {
        (self.setup.clock)()
    }

    async fn work(&mut self, cancel: &CancellationToken) {
        loop {
            self.take_news();
            self.start();
            let wake = self.wake();
            let (writing, board) = (!self.writes.is_empty(), self.setup.board.clone());
            tokio::select! {
                () = cancel.cancelled() => return,
                () = board.0.news.notified() => {}
                Some(seen) = self.seen.recv() => self.observe(seen),
                Some(done) = self.writes.join_next(), if writing => if let Ok(done) = done {
                    self.written(done);
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn take_news(&mut self) {
        let now = self.now();
        let board = self.setup.board.clone();
        let mut state = board.state();
        if std::mem::take(&mut state.discovered) {
            self.serve(state.resource.clone());
        }
        let namespaces = std::mem::take(&mut state.namespaces);
        for name in state.units.keys().filter(|name| namespaces.contains(&name.0)) {
            if self.tries.remove(name).is_some() {
                self.due.insert(name.clone(), now);
            }
        }
        if state.complete && !self.complete {
            self.complete = true;
            for name in self.live.keys() {
                self.due.entry(name.clone()).or_insert(now);
            }
        }
        for name in std::mem::take(&mut state.changed) {
            // One that failed or was written just now keeps its pause; what has come to rest is shown soon.
            let moving = state.units.get(&name).is_some_and(|shown| shown.moving);
            if moving {
                self.moving.entry(name.clone()).or_insert(now);
            } else {
                self.moving.remove(&name);
            }
            let rests = !moving && !self.tries.contains_key(&name);
            let due = self.due.entry(name).or_insert(now);
            if rests {
                *due = now.saturating_add(SETTLED).min(*due);
            }
        }
    }

    fn serve(&mut self, resource: Option<Resource>) {
        if self.resource == resource {
            return;
        }
        match &resource {
            Some(resource) => self.watches.set(&[(resource.clone(), Selection::All)]),
            None => {
                tracing::info!(
                    "the cluster does not serve the kind Unit (driftless.dev): units are not shown to kubectl"
                );
                self.watches.set(&[]);
            }
        }
        (self.live, self.listing, self.listed) = (BTreeMap::new(), None, false);
        self.tries.clear();
        self.resource = resource;
    }

    fn observe(&mut self, seen: Seen) {
        let now = self.now();
        match seen {
            Seen::ListBegins(_) => self.listing = Some(BTreeSet::new()),
            Seen::Object { object, resource } => {
                let Some((name, live)) = object.value(&resource).as_ref().and_then(named) else { return };
                if let Some(listing) = &mut self.listing {
                    listing.insert(name.clone());
                }
                self.absorb(name, live, now);
            }
            Seen::ListEnds(_) => {
                let listing = self.listing.take().unwrap_or_default();
                let gone: Vec<Name> = self.live.keys().filter(|name| !listing.contains(*name)).cloned().collect();
                for name in gone {
                    self.live.remove(&name);
                }
                self.listed = true;
                let all: Vec<Name> = self.setup.board.state().units.keys().chain(self.live.keys()).cloned().collect();
                for name in all {
                    self.due.entry(name).or_insert(now);
                }
            }
            Seen::Gone { object, .. } => {
                let name = (object.namespace().to_owned(), object.name().to_owned());
                if self.live.get(&name).is_some_and(|live| live.uid == object.uid()) {
                    self.live.remove(&name);
                    self.due.entry(name).or_insert(now);
                }
            }
            // The driver sees it too, and begins again.
            Seen::WentBack(_) => {}
            Seen::Failing { message, .. } => {
                tracing::warn!(why = message, "cannot watch Units; trying again");
            }
        }
    }

    fn absorb(&mut self, name: Name, live: Live, now: Millis) {
        let older = self.live.get(&name).is_some_and(|known| {
            known.uid == live.uid && Version::from(&*live.version).older_than(&Version::from(&*known.version))
        });
        if !older {
            self.live.insert(name.clone(), live);
            self.due.entry(name).or_insert(now);
        }
    }

    fn start(&mut self) {
        if !self.setup.leadership.borrow().may_act(Instant::now()) {
            return;
        }
        let now = self.now();
        let Pace { burst, refill } = self.setup.board.pace();
        let refills = now.saturating_sub(self.filled) / refill;
        self.tokens = self.tokens.min(burst);
        if refills > 0 {
            self.tokens = self.tokens.saturating_add(u32::try_from(refills).unwrap_or(burst)).min(burst);
            self.filled = now;
        }
        let mut ready: Vec<(Millis, Name)> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(name, at)| (*at, name.clone())).collect();
        // What waits longest first: what is still on its way is due later.
        ready.sort();
        for (_, name) in ready {
            if self.writes.len() >= IN_FLIGHT || self.tokens == 0 {
                break;
            }
            if self.busy.contains(&name) {
                continue;
            }
            self.due.remove(&name);
            self.start_unit(name);
        }
        while self.writes.len() < IN_FLIGHT {
            let next = self.setup.board.state().events.next(now);
            let Some((key, request)) = next else { return };
            self.start_event(key, request);
        }
    }

    /// Writes a unit's object, where it is not as it is to be.
    fn start_unit(&mut self, name: Name) {
        let Some(resource) = self.resource.clone().filter(|_| self.listed) else { return };
        let (shown, complete) = {
            let state = self.setup.board.state();
            (state.units.get(&name).cloned(), self.complete)
        };
        let live = self.live.get(&name).cloned();
        let shown = shown.map(|shown| match &live {
            Some(live) => shown.beside(live),
            None => (*shown).clone(),
        });
        if let Some(since) = self.moving.get(&name).filter(|since| since.saturating_add(MOVES) > self.now()) {
            self.due.insert(name, since.saturating_add(MOVES));
            return;
        }
        let (api, clock) = (self.setup.api.clone(), self.setup.clock);
        match (shown, live) {
            (Some(shown), live) if !live.as_ref().is_some_and(|live| live.is(&shown)) => {
                self.busy.insert(name.clone());
                self.tokens -= 1;
                let pause = if shown.moving { MOVING } else { SETTLED };
                self.due.insert(name.clone(), self.now().saturating_add(pause));
                self.writes.spawn(async move {
                    let live = write(&api, &resource, &name, &shown, live, clock).await;
                    Written::Unit(name, live.map(|live| Some(Box::new(live))))
                });
            }
            // Of a unit that is gone. What somebody else made stays.
            (None, Some(live)) if live.ours && complete => {
                self.busy.insert(name.clone());
                self.tokens -= 1;
                self.writes.spawn(async move {
                    let gone = api.delete(&Actor::Agent, &resource, &name.0, &name.1, &live.uid, None).await;
                    Written::Unit(name, gone.map(|()| None))
                });
            }
            _ => {}
        }
    }

    fn start_event(&mut self, key: (Subject, String), request: Request) {
        let (api, pod, now) = (self.setup.api.clone(), self.setup.pod.clone(), self.now());
        let name = (key.0.namespace.clone(), key.0.name.clone());
        let uid = key.0.uid.clone().or_else(|| self.live.get(&name).map(|live| live.uid.clone()));
        self.writes.spawn(async move {
            let events = event_resource();
            let written = match request {
                Request::Create { told, since } => {
                    let event = events::event(&key.0, uid.as_deref(), API_VERSION, &pod, &told, since);
                    let answer = api.create(&Actor::Agent, &events, &event).await;
                    answer.map(|event| {
                        event.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default().to_owned()
                    })
                }
                Request::Again { event, count } => {
                    let patch = events::again(count, now);
                    let answer = api.json_patch(&Actor::Agent, &events, &key.0.namespace, &event, &patch).await;
                    answer.map(|_| event)
                }
            };
            Written::Event(key, written)
        });
    }

    fn written(&mut self, done: Written) {
        let now = self.now();
        match done {
            Written::Unit(name, Ok(live)) => {
                self.busy.remove(&name);
                self.tries.remove(&name);
                match live {
                    Some(live) => self.absorb(name, *live, now),
                    None => {
                        self.live.remove(&name);
                    }
                }
            }
            Written::Unit(name, Err(error)) => {
                self.busy.remove(&name);
                let tries = self.tries.entry(name.clone()).or_default();
                // A namespace that is not there is no fault: told once, and tried again when it comes.
                if *tries == 0 {
                    tracing::info!(namespace = name.0, unit = name.1, %error, "the unit cannot be shown as an object");
                }
                let pause = AGAIN.saturating_mul(1 << (*tries).min(10)).min(AT_LAST);
                *tries = tries.saturating_add(1);
                if error.is_conflict() {
                    // Another one of that name: the watch tells.
                    self.live.remove(&name);
                }
                self.due.insert(name, now.saturating_add(pause));
            }
            Written::Event(key, written) => {
                match &written {
                    // Its namespace is not there.
                    Err(error) if error.is_not_found() => {
                        tracing::debug!(kind = key.0.kind, name = key.0.name, reason = key.1, %error, "no Event");
                    }
                    Err(error) => {
                        tracing::warn!(kind = key.0.kind, name = key.0.name, reason = key.1, %error, "cannot write an Event");
                    }
                    Ok(_) => {}
                }
                self.setup.board.state().events.written(&key, written.ok().filter(|name| !name.is_empty()));
            }
        }
    }

    fn wake(&self) -> Instant {
        let (now, at) = (self.now(), Instant::now());
        // A write that ends wakes by itself, and so does the watch before the first list.
        let free = self.writes.len() < IN_FLIGHT;
        let waits = |name: &Name| !self.busy.contains(name);
        let refill = self.setup.board.pace().refill;
        let unit = self.due.iter().filter(|(name, _)| waits(name)).map(|(_, due)| *due).min();
        let unit = unit.map(|due| if self.tokens == 0 { due.max(self.filled.saturating_add(refill)) } else { due });
        let event = self.setup.board.state().events.next_at();
        let next = [unit, event].into_iter().flatten().min().filter(|_| free);
        let led = self.setup.leadership.borrow().may_act(at);
        // An hour: only a bound. While the lease is not ours for a moment, a second.
        let least = if led { 10 } else { 1_000 };
        next.map_or(at + Duration::from_secs(3600), |due| {
            at + Duration::from_millis(due.saturating_sub(now).max(least))
        })
    }
}

/// The version our own kinds are written at in references.
const API_VERSION: &str = "driftless.dev/v1alpha1";

fn named(object: &serde_json::Value) -> Option<(Name, Live)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    Some(((text("/metadata/namespace")?, text("/metadata/name")?), Live::read(object)?))
}

/// The object where it is not there or works on other content, then its status. Two requests at most.
async fn write(
    api: &Api,
    resource: &Resource,
    name: &Name,
    shown: &Shown,
    live: Option<Live>,
    clock: fn() -> Millis,
) -> Result<Live, ApiError> {
    let unreadable = || ApiError::Answer("a Unit without UID".into());
    let live = match live.filter(|live| live.has_spec(shown)) {
        Some(live) => live,
        None => {
            let object = unit::object(resource, name, shown);
            let answer = api.apply_own(resource, &name.0, &name.1, "", &object).await?;
            Live::read(&answer).ok_or_else(unreadable)?
        }
    };
    if live.is(shown) {
        return Ok(live);
    }
    let status = unit::status(resource, name, shown, &live, clock());
    let answer = api.apply_own(resource, &name.0, &name.1, "status", &status).await?;
    Live::read(&answer).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests;
