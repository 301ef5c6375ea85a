//! Feeds the engine and starts its steps: the loop of the pod that leads.
//!
//! One task owns the engine. It takes in whatever happens, in any order, and after each input asks the engine what can
//! start now. It decides nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::bundle::{Blobs, ServiceAccount};
use driftless_protocol::facts::Facts;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::marks;
use driftless_protocol::message::Hint;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_reconcile::engine::Engine;
use driftless_reconcile::input::{Desired, GroupKind, Millis, Observation, ServedKind};
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::StepId;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ask::Query;
use crate::clock::ClockWatch;
use crate::cluster::api::{Api, ApiError, Resource, chain};
use crate::cluster::discovery::{self, Look, Served};
use crate::cluster::text::ObjectText;
use crate::cluster::watch::{Seen, Selection, Watches};
use crate::contests::ContestBook;
use crate::discover::Discover;
use crate::execute::{Answer, Context};
use crate::facts::{ConfigMapName, FactBook};
use crate::inputs::{InputSeen, Inputs};
use crate::leader::Leadership;
use crate::ledger::Stored;
use crate::link::{FromHub, ToHub};
use crate::pauses::PauseWatch;
use crate::records::Records;
use crate::status::Board;

/// Watch events waiting for the engine. When full the watches wait, and the API server buffers for them.
const SEEN_DEPTH: usize = 256;
/// Inputs that wait for the engine; when full their watches wait.
const INPUTS_DEPTH: usize = 64;
/// Reports are made at most this often: a burst of answers concerns the same few units again and again.
const REPORT_PAUSE: Duration = Duration::from_millis(100);
/// And how soon again if something was kept for later.
const REPORT_AGAIN: Duration = Duration::from_secs(1);
/// So many requests under way are work, beside which what is only shown waits.
const AT_WORK: usize = 8;
/// The store behind the API server is older than it was.
const WENT_BACK: &str = "the cluster's store was restored from a snapshot; what is stored there is read anew";

/// The engine's times, and those of what is shown and reported, are of a future that comes again.
const CLOCK_WENT_BACK: &str = "the clock of this node was set back; what is stored in the cluster is read anew";

/// The inventory in the cluster is not the one this pod wrote last.
const RACED: &str = "another pod of the agent, or somebody, wrote the inventory, or it was restored; it is read anew";

/// What the driver needs to begin.
pub struct Setup {
    /// Requests as the agent.
    pub api: Api,
    /// A client that impersonates the applier, for watches.
    pub applier_client: kube::Client,
    /// Connects as the agent: for reading inputs as the accounts of units.
    pub config: kube::Config,
    /// The applier.
    pub applier: ServiceAccount,
    /// Settings of the engine.
    pub rules: Rules,
    /// Whether requests may start.
    pub leadership: watch::Receiver<Leadership>,
    /// The term in which what is stored was read.
    pub term: u64,
    /// What the ledger holds.
    pub stored: Option<Arc<Stored>>,
    /// From the link.
    pub from_hub: mpsc::Receiver<FromHub>,
    /// To the link.
    pub to_hub: mpsc::Sender<ToHub>,
    /// From those who answer questions of the hub.
    pub queries: mpsc::Receiver<Query>,
    /// Rises when a CustomResourceDefinition changed.
    pub kinds_changed: watch::Receiver<u64>,
    /// The pod, for the cluster report.
    pub pod: String,
    /// What people with kubectl see.
    pub board: Board,
    /// ConfigMaps the hub may know.
    pub fact_config_maps: Vec<ConfigMapName>,
    /// The clock, in Unix milliseconds.
    pub clock: fn() -> Millis,
}

/// Runs until cancelled or until leadership is lost. Errors end the leading, not the process: the caller begins again.
pub async fn run(setup: Setup, cancel: CancellationToken) -> Result<(), ApiError> {
    let (records, shards) = Records::load(setup.api.clone()).await?;
    let (contests, contested) = ContestBook::load(setup.api.clone(), setup.leadership.clone()).await?;
    let look = discovery::look(&setup.api).await?;
    let discover = Discover::new(setup.api.clone(), &look);
    let kubernetes = look.version.clone().ok_or_else(|| ApiError::Answer("it does not tell its version".to_owned()))?;
    let (seen_sender, seen) = mpsc::channel(SEEN_DEPTH);
    let (input_sender, inputs_seen) = mpsc::channel(INPUTS_DEPTH);
    let (fact_sender, facts_seen) = mpsc::channel(INPUTS_DEPTH);
    let facts = FactBook::new(kubernetes.clone(), &setup.fact_config_maps);
    let mut fact_inputs = Inputs::new(setup.config.clone(), setup.applier.clone(), fact_sender);
    let unread = fact_inputs.set(&facts.wanted());
    let pauses = PauseWatch::new(setup.api.clone(), setup.leadership.clone());
    let shadow = setup.rules.shadow;
    let mut driver = Driver {
        engine: Engine::new(setup.rules.clone()),
        rules: Arc::new(setup.rules),
        watches: Watches::new(setup.applier_client, seen_sender),
        seen,
        inputs: Inputs::new(setup.config, setup.applier.clone(), input_sender),
        inputs_seen,
        facts,
        fact_inputs,
        facts_seen,
        facts_due: None,
        pauses,
        contests,
        board: setup.board,
        unusable: BTreeSet::new(),
        steps: JoinSet::new(),
        records: Arc::new(Mutex::new(records)),
        served: Arc::default(),
        unknown: BTreeSet::new(),
        discover,
        stored: None,
        pending: BTreeMap::new(),
        known: BTreeSet::new(),
        gone: BTreeSet::new(),
        cluster: None,
        told: None,
        all_known: false,
        api: setup.api,
        applier: setup.applier,
        leadership: setup.leadership,
        term: setup.term,
        from_hub: setup.from_hub,
        to_hub: setup.to_hub,
        queries: setup.queries,
        kinds_changed: setup.kinds_changed,
        watches_due: true,
        begin_again: None,
        reports_due: Some(Instant::now()),
        reported: Instant::now(),
        report: ClusterReport {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            leader: setup.pod,
            kubernetes_version: kubernetes,
            shadow,
            ..ClusterReport::default()
        },
        clock_watch: ClockWatch::new((setup.clock)(), Instant::now()),
        clock: setup.clock,
    };
    let now = driver.now();
    if shards.is_empty() && setup.stored.is_some() {
        tracing::warn!(
            "there is no inventory, although a bundle is stored: it is made anew from what carries our label, and what left \
             Git before is not deleted (`driftless orphans` lists it)"
        );
    }
    driver.engine.set_inventory(&shards, now);
    // Megabytes in a large cluster, and this function lives as long as the leading.
    drop(shards);
    if !shadow {
        driver.engine.take_back_contests(contested);
    }
    driver.engine.await_pauses();
    driver.discovered(look);
    for seen in unread {
        driver.facts.set(&seen.input, seen.state);
    }
    if let Some(stored) = setup.stored {
        driver.take_bundle(stored);
        driver.engine.bundle_may_be_old(true);
    }
    let result = driver.drive(&cancel).await;
    driver.watches.stop().await;
    driver.inputs.stop().await;
    driver.fact_inputs.stop().await;
    driver.pauses.stop().await;
    driver.discover.stop().await;
    driver.contests.stop().await;
    // Steps in flight have deadlines; what they did is found by the next leader through watches and intents.
    driver.steps.shutdown().await;
    result
}

struct Driver {
    engine: Engine,
    rules: Arc<Rules>,
    watches: Watches,
    seen: mpsc::Receiver<Seen>,
    inputs: Inputs,
    inputs_seen: mpsc::Receiver<InputSeen>,
    facts: FactBook,
    /// Kept for its watches.
    fact_inputs: Inputs,
    facts_seen: mpsc::Receiver<InputSeen>,
    /// Facts that wait for the link.
    facts_due: Option<Box<Facts>>,
    pauses: PauseWatch,
    contests: ContestBook,
    board: Board,
    /// Pauses that were told as unusable.
    unusable: BTreeSet<String>,
    steps: JoinSet<(StepId, Answer)>,
    records: Arc<Mutex<Records>>,
    served: Arc<Served>,
    /// Groups of which it is not known what they serve.
    unknown: BTreeSet<String>,
    discover: Discover,
    stored: Option<Arc<Stored>>,
    /// Reports that wait for the link, the newest per unit.
    pending: BTreeMap<UnitId, UnitReport>,
    /// Units reported so far and still there.
    known: BTreeSet<UnitId>,
    /// Units that are gone and not told yet.
    gone: BTreeSet<UnitId>,
    /// A cluster report that waits for the link.
    cluster: Option<ClusterReport>,
    /// The last cluster report given to the link, without its time.
    told: Option<ClusterReport>,
    /// The link knows that every unit was reported once.
    all_known: bool,
    api: Api,
    applier: ServiceAccount,
    leadership: watch::Receiver<Leadership>,
    term: u64,
    from_hub: mpsc::Receiver<FromHub>,
    to_hub: mpsc::Sender<ToHub>,
    queries: mpsc::Receiver<Query>,
    kinds_changed: watch::Receiver<u64>,
    /// Which kinds are watched may have changed: a look at every object, so not after every event.
    watches_due: bool,
    /// Why this pod must begin again from what is stored in the cluster.
    begin_again: Option<&'static str>,
    /// When reports are to be made; `None`: nothing that they could tell happened since they were.
    reports_due: Option<Instant>,
    /// When reports were made last.
    reported: Instant,
    /// The cluster report as it stands, without its time.
    report: ClusterReport,
    clock: fn() -> Millis,
    clock_watch: ClockWatch,
}

impl Driver {
    fn now(&self) -> Millis {
        (self.clock)()
    }

    async fn drive(&mut self, cancel: &CancellationToken) -> Result<(), ApiError> {
        // Whether something happened that a report may tell.
        let mut news = true;
        loop {
            if self.engine.store_went_back() {
                self.begin_again = Some(WENT_BACK);
            }
            self.watch_clock();
            if let Some(why) = self.begin_again {
                return Err(ApiError::Answer(why.to_owned()));
            }
            self.take_pauses();
            // A unit is looked at by the clock, whatever else came in between.
            news |= self.engine.next_deadline().is_some_and(|at| at <= self.now());
            self.start_steps();
            self.tell_pauses();
            if std::mem::take(&mut self.watches_due) {
                self.set_watches();
            }
            if std::mem::replace(&mut news, true) {
                let soon = self.reported + REPORT_PAUSE;
                self.reports_due = Some(self.reports_due.map_or(soon, |due| due.min(soon)));
            }
            if self.may_act() && self.reports_due.is_some_and(|due| due <= Instant::now()) {
                self.collect_reports();
            }
            let wake = self.wake();
            self.board.works(self.steps.len() >= AT_WORK);
            let (to_hub, has_report) = (self.to_hub.clone(), self.has_report());
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = self.leadership.changed() => {
                    // Renewals pass here too; only the loss of the lease ends the leading, also when it is had again.
                    if changed.is_err() || self.leadership.borrow().term() != Some(self.term) {
                        return Ok(());
                    }
                    news = false;
                }
                Some(seen) = self.seen.recv() => {
                    news = self.observe(seen);
                    // Bursts are folded together: planning once for many events.
                    for _ in 0..SEEN_DEPTH {
                        let Ok(seen) = self.seen.try_recv() else { break };
                        news |= self.observe(seen);
                    }
                }
                Some(seen) = self.inputs_seen.recv() => self.take_input(seen),
                () = self.pauses.next() => {}
                () = self.contests.next() => news = false,
                Some(seen) = self.facts_seen.recv() => self.facts.set(&seen.input, seen.state),
                Some(done) = self.steps.join_next() => {
                    let owned = self.engine.inventory_len();
                    self.done(done);
                    while let Some(done) = self.steps.try_join_next() {
                        self.done(done);
                    }
                    self.watches_due |= owned != self.engine.inventory_len();
                    if self.engine.take_unserved() {
                        self.discover.changed();
                    }
                }
                from_hub = self.from_hub.recv() => match from_hub {
                    Some(FromHub::Bundle(stored)) => self.take_bundle(stored),
                    Some(FromHub::Current) => self.engine.bundle_may_be_old(false),
                    Some(FromHub::Hint(Hint::Reconcile { unit })) => {
                        tracing::info!(unit = unit.as_ref().map(tracing::field::display), "asked to look again");
                        let now = self.now();
                        self.engine.reconcile(unit.as_ref(), now);
                    }
                    None => return Ok(()), // the link ended: the caller decides
                },
                permit = to_hub.reserve(), if has_report => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(message) = next_report(
                        &mut self.cluster, &mut self.facts_due, &mut self.pending, &mut self.gone, &mut self.all_known,
                    ) {
                        permit.send(message);
                    }
                    news = false;
                }
                Some(query) = self.queries.recv() => self.tell(query),
                Ok(()) = self.kinds_changed.changed() => self.discover.changed(),
                look = self.discover.next() => if let Some(look) = look {
                    self.discovered(look);
                },
                () = tokio::time::sleep_until(wake) => {
                    let now = self.now();
                    news = self.engine.next_deadline().is_some_and(|at| at <= now);
                    self.discover.begin_if_due();
                }
            }
        }
    }

    /// At least at each renewal of the lease.
    fn watch_clock(&mut self) {
        if let Some(back) = self.clock_watch.jumped_back(self.now(), Instant::now()) {
            tracing::warn!(seconds = back.as_secs(), "the clock of this node was set back; beginning again");
            self.begin_again = Some(CLOCK_WENT_BACK);
        }
    }

    /// What a question wants to know. Whoever asked may be gone.
    fn tell(&self, query: Query) {
        match query {
            Query::Known { keys, answer } => {
                let _ = answer.send(self.engine.knows().then(|| self.engine.known(&keys)));
            }
            Query::Served { answer } => {
                let _ = answer.send(self.served.clone());
            }
        }
    }

    fn may_act(&self) -> bool {
        self.leadership.borrow().may_act(Instant::now())
    }

    fn start_steps(&mut self) {
        if !self.may_act() {
            return;
        }
        let now = self.now();
        let steps = self.engine.poll(now);
        for kind in self.engine.take_relists() {
            self.watches.relist(&kind.group, &kind.kind);
        }
        if steps.is_empty() {
            return;
        }
        let Some(stored) = self.stored.clone() else {
            // The engine plans nothing before it has a bundle; answer all the same, so that no step is lost.
            for step in steps {
                self.engine.done(step.id, Answer::Unknown.outcome(), &NoBlobs, now);
            }
            return;
        };
        for step in steps {
            tracing::debug!(step = %step.id, action = ?step.action, "begins");
            let context = Context {
                api: self.api.clone(),
                served: self.served.clone(),
                stored: stored.clone(),
                records: self.records.clone(),
                leadership: self.leadership.clone(),
                applier: self.applier.clone(),
                rules: self.rules.clone(),
            };
            self.steps.spawn(async move { (step.id, context.execute(step.action).await) });
        }
    }

    fn done(&mut self, done: Result<(StepId, Answer), tokio::task::JoinError>) {
        let now = self.now();
        match done {
            Ok((id, answer)) => {
                if let Answer::Failed(failure) = &answer {
                    tracing::debug!(step = %id, status = failure.status, why = failure.message, "failed");
                }
                if let Answer::Raced(name) = &answer {
                    tracing::warn!(config_map = name, "the inventory in the cluster is not the one written last");
                    self.begin_again = Some(RACED);
                }
                let stored = self.stored.clone();
                self.engine.done(id, answer.outcome(), blobs(stored.as_deref()), now);
            }
            // A step neither panics nor is aborted while we run; if one did, its unit must not wait for ever.
            Err(error) => {
                tracing::error!(%error, "a step ended without an answer");
                self.begin_again = Some("a step ended without an answer; what is stored in the cluster is read anew");
            }
        }
    }

    /// Whether a report may tell of it.
    fn observe(&mut self, seen: Seen) -> bool {
        let now = self.now();
        let stored = self.stored.clone();
        let blobs = blobs(stored.as_deref());
        match seen {
            Seen::ListBegins(r) => {
                self.engine.observe(Observation::ListBegin(&group_kind(&r.group, &r.kind)), blobs, now);
            }
            Seen::Object { object, resource } => {
                if resource.kind == "Namespace" && resource.group.is_empty() {
                    self.board.namespace(object.name());
                }
                let (key, uid, version) = (key_of(&object, &resource), object.uid(), object.version());
                if self.engine.has_seen(&key, uid, version) || self.engine.passes_by(&key, uid, version, object.text())
                {
                    return false;
                }
                if let Some(value) = object.value(&resource) {
                    self.engine.observe(Observation::Object(&value), blobs, now);
                    self.engine.keep_text(object.text());
                }
            }
            Seen::ListEnds(r) => {
                self.engine.observe(Observation::ListEnd(&group_kind(&r.group, &r.kind)), blobs, now);
            }
            Seen::Gone { object, resource } => {
                if let Some(object) = object.value(&resource) {
                    self.engine.observe(Observation::Gone(&object), blobs, now);
                }
            }
            Seen::WentBack(resource) => {
                tracing::warn!(kind = resource.kind, "the API server is behind what was seen of it");
                self.begin_again = Some(WENT_BACK);
            }
            Seen::Failing { resource, message, refused } => {
                tracing::warn!(
                    kind = resource.kind,
                    group = resource.group,
                    why = message,
                    "cannot watch; trying again"
                );
                let kind = group_kind(&resource.group, &resource.kind);
                // What was listed once goes on from where it was, unless it may not any more.
                let blind = refused || !self.engine.has_listed(&kind);
                let seen = if blind { Observation::Blind(&kind, &message) } else { Observation::Interrupted(&kind) };
                self.engine.observe(seen, blobs, now);
            }
        }
        true
    }

    fn take_bundle(&mut self, stored: Arc<Stored>) {
        let bundle = &stored.bundle;
        let head = bundle.head();
        let bodies = match bundle.read_bodies(&*stored.blobs) {
            Ok(bodies) => bodies,
            // It was opened before; what is in memory is not what it was.
            Err(error) => {
                tracing::error!(error = chain(&error), "the bundle in memory cannot be read");
                self.begin_again =
                    Some("the bundle in memory cannot be read; what is stored in the cluster is read anew");
                return;
            }
        };
        tracing::info!(
            generation = %head.generation,
            units = bundle.index().units.len(),
            revisions = ?head.revisions.iter().map(|r| r.revision.to_string()).collect::<Vec<_>>(),
            "new bundle"
        );
        let desired =
            Desired { generation: head.generation, index: bundle.index(), bodies: &bodies, revisions: &head.revisions };
        let now = self.now();
        self.engine.set_bundle(desired, &*stored.blobs, now);
        let wanted = self.engine.wanted_inputs();
        self.report.generation = Some(head.generation);
        self.report.index = Some(head.index.digest);
        self.watches_due = true;
        self.stored = Some(stored);
        for refused in self.inputs.set(&wanted) {
            self.take_input(refused);
        }
    }

    fn take_input(&mut self, seen: InputSeen) {
        let InputSeen { input, state } = seen;
        tracing::debug!(kind = %input.kind, namespace = input.namespace, name = input.name, state = ?state, "input");
        let now = self.now();
        let stored = self.stored.clone();
        self.engine.set_input(&input, state, blobs(stored.as_deref()), now);
    }

    fn take_pauses(&mut self) {
        let Some(all) = self.pauses.take() else { return };
        let now = self.now();
        for pause in self.engine.set_pauses(all, now) {
            let (covers, reason) = (pause.covers.to_string(), &pause.reason);
            tracing::warn!(pause = pause.id(), covers, reason, "paused: nothing of it is written until this ends");
            self.board.paused(&pause, now);
        }
        for pause in self.engine.pauses().unusable() {
            if self.unusable.insert(pause.uid.clone()) {
                tracing::warn!(namespace = pause.namespace, name = pause.name, why = pause.why, "a Pause is ignored");
                self.board.unusable(pause, now);
            }
        }
        let still: BTreeSet<&String> = self.engine.pauses().unusable().iter().map(|pause| &pause.uid).collect();
        self.unusable.retain(|uid| still.contains(uid));
    }

    /// What people see of pauses: logs of those that ended, and the status of each.
    fn tell_pauses(&mut self) {
        let now = self.now();
        for ended in self.engine.take_ended_pauses() {
            self.board.pause_ended(&ended, now);
            let (pause, covers) = (ended.pause.id(), ended.pause.covers.to_string());
            let (expired, count, held) = (ended.expired, ended.count, ended.held.join("; "));
            tracing::warn!(pause, covers, expired, count, held, "a pause ended; what it held back is done now");
        }
        let engine = &self.engine;
        self.pauses.tell(engine.pauses(), &|pause| engine.covers_nothing(pause), now);
    }

    fn set_watches(&mut self) {
        let mut resources = Vec::new();
        for wanted in self.engine.wanted() {
            let resource = match &wanted.version {
                Some(version) if wanted.kind.group.is_empty() => self.served.resource(version, &wanted.kind.kind),
                Some(version) => self.served.resource(&format!("{}/{version}", wanted.kind.group), &wanted.kind.kind),
                None => None,
            };
            let resource = resource.or_else(|| self.served.any_version(&wanted.kind.group, &wanted.kind.kind));
            if let Some(resource) = resource {
                let selection = match (wanted.owned_only, self.rules.shadow) {
                    (false, _) => Selection::All,
                    (true, false) => Selection::Owned,
                    (true, true) => Selection::Flux,
                };
                resources.push((resource.clone(), selection));
            }
        }
        self.watches.set(&resources);
        if !self.engine.not_served().is_empty() {
            self.discover.missing();
        }
    }

    /// What a look at discovery came to.
    fn discovered(&mut self, look: Look) {
        let Look { served, unknown, version, .. } = look;
        let served = served.with_unknown(&unknown, &self.served);
        let same = served == *self.served && unknown == self.unknown;
        // An API may be away for months; to look at every object each time would cost for nothing.
        if same && !unknown.is_empty() && self.engine.not_served().is_empty() {
            return;
        }
        (self.served, self.unknown) = (Arc::new(served), unknown);
        self.facts.discovered(version);
        let now = self.now();
        self.engine.set_discovery(&served_kinds(&self.served), &self.unknown, now);
        self.pauses.served(&self.served);
        self.board.served(&self.served);
        self.watches_due = true;
    }

    fn collect_reports(&mut self) {
        self.reports_due = None;
        self.reported = Instant::now();
        let now = self.now();
        for report in self.engine.take_reports(now) {
            self.known.insert(report.unit.clone());
            self.gone.remove(&report.unit);
            self.board.unit(&report, now);
            self.pending.insert(report.unit.clone(), report);
        }
        if self.all_known && self.engine.untold() {
            self.reports_due = Some(self.reported + REPORT_AGAIN);
        }
        let current: BTreeSet<UnitId> = self.engine.units().into_iter().collect();
        let left: Vec<UnitId> = self.known.difference(&current).cloned().collect();
        self.board.gone(&left);
        for unit in left {
            self.known.remove(&unit);
            self.pending.remove(&unit);
            self.gone.insert(unit);
        }
        self.board.happened(&self.engine.take_happened(), now);
        if !self.report.shadow {
            self.contests.set(self.engine.contests());
        }
        if self.stored.is_some() {
            self.board.complete();
        }
        if let Some(facts) = self.facts.news(&self.served) {
            self.facts_due = Some(Box::new(facts));
        }
        self.report.problems = self.engine.problems();
        self.report.problems.extend(self.pauses.problem().cloned());
        self.report.problems.extend(self.discover.problem());
        self.report.pauses = self.engine.pause_reports();
        self.report.inventory = self.engine.inventory_len() as u64;
        // Told after the reports that were made just now: `next_report`.
        self.report.units_at = self.report.generation;
        if self.told.as_ref() != Some(&self.report) {
            self.told = Some(self.report.clone());
            self.cluster = Some(ClusterReport { observed_at: now, ..self.report.clone() });
        }
    }

    fn has_report(&self) -> bool {
        // Only once reports were made of what the bundle says.
        let first_pass = !self.all_known && self.stored.is_some() && self.reports_due.is_none();
        self.cluster.is_some()
            || self.facts_due.is_some()
            || !self.pending.is_empty()
            || !self.gone.is_empty()
            || first_pass
    }

    fn wake(&self) -> Instant {
        let now = Instant::now();
        // Without the right to act nothing is polled, and so nothing of it is reported; the renewal of the lease wakes.
        let may_act = self.may_act();
        let engine = self.engine.next_deadline().filter(|_| may_act).map(|at| {
            let wait = at.saturating_sub(self.now());
            now + Duration::from_millis(wait)
        });
        // An hour: only a bound for the sleep when nothing is due.
        [engine, self.discover.wake(), self.reports_due.filter(|_| may_act)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + Duration::from_secs(3600))
    }
}

fn next_report(
    cluster: &mut Option<ClusterReport>,
    facts: &mut Option<Box<Facts>>,
    pending: &mut BTreeMap<UnitId, UnitReport>,
    gone: &mut BTreeSet<UnitId>,
    all_known: &mut bool,
) -> Option<ToHub> {
    if let Some(facts) = facts.take() {
        return Some(ToHub::Facts(facts));
    }
    if let Some((_, report)) = pending.pop_first() {
        return Some(ToHub::Unit(report));
    }
    if let Some(unit) = gone.pop_first() {
        return Some(ToHub::UnitGone(unit));
    }
    // After them: it says of which generation they speak. The link always reads, so it does not wait long.
    if let Some(report) = cluster.take() {
        return Some(ToHub::Cluster(report));
    }
    (!std::mem::replace(all_known, true)).then_some(ToHub::UnitsKnown)
}

struct NoBlobs;

impl Blobs for NoBlobs {
    fn get(&self, _: &Digest) -> Option<Arc<[u8]>> {
        None
    }
}

fn blobs(stored: Option<&Stored>) -> &dyn Blobs {
    match stored {
        Some(stored) => &*stored.blobs,
        None => &NoBlobs,
    }
}

fn key_of(object: &ObjectText, resource: &Resource) -> ObjectKey {
    ObjectKey {
        group: resource.group.as_str().into(),
        kind: resource.kind.as_str().into(),
        namespace: object.namespace().into(),
        name: object.name().into(),
    }
}

fn group_kind(group: &str, kind: &str) -> GroupKind {
    GroupKind { group: group.into(), kind: kind.into() }
}

fn served_kinds(served: &Served) -> Vec<ServedKind> {
    served
        .kinds()
        .map(|(group, kind, versions)| ServedKind {
            kind: group_kind(group, kind),
            namespaced: versions.first().is_some_and(|r| r.namespaced),
            versions: versions.iter().map(|r| r.version.clone()).collect(),
        })
        .collect()
}

/// The account that reads and, where a unit names none, writes managed objects.
#[must_use]
pub fn applier(name: &str) -> ServiceAccount {
    ServiceAccount { namespace: marks::AGENT_NAMESPACE.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests;
