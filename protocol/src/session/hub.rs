//! The hub's side of one session: check the hello, offer, serve blobs the offer references, take in reports.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::facts::Facts;
use crate::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use crate::limits::BUNDLE_UNITS;
use crate::message::{
    AgentToHub, Hello, Hint, HubToAgent, Need, Offer, RefusalCode, Refused, RejectCode, WIRE_VERSION, Welcome,
};
use crate::report::{ClusterReport, UnitReport};
use crate::session::{Access, Now};
use crate::signing::Signed;
use crate::wire::limits::{NEEDS_OPEN_HUB, REPORTS_OPEN};

/// Who is connected, from its certificate and the store.
#[derive(Debug)]
pub struct Setup {
    /// From the certificate.
    pub cluster: ClusterId,
    /// The UID bound at enrolment.
    pub kube_uid: String,
    /// Version of the hub program.
    pub hub_version: String,
    /// The hub's number for this session.
    pub session: u64,
    /// The highest report number stored for this cluster.
    pub reports_taken: u64,
}

/// Which blobs an offer references, at any level. Others are not served, whoever asks.
pub trait Closure: Send + Sync + std::fmt::Debug {
    /// Whether the offered index, or a body it names, references this blob (or it is the index).
    fn contains(&self, digest: &Digest) -> bool;
}

impl Closure for BTreeSet<Digest> {
    fn contains(&self, digest: &Digest) -> bool {
        BTreeSet::contains(self, digest)
    }
}

/// What the cluster should run, as the hub's store has it.
#[derive(Clone, Debug)]
pub struct Current {
    /// Of the head.
    pub generation: Generation,
    /// The signed head.
    pub head: Signed,
    /// Every trust document from version 1 on; the session sends those the agent lacks.
    pub trust: Arc<[Signed]>,
    /// What it references.
    pub closure: Arc<dyn Closure>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A message arrived on the control stream.
    Message(AgentToHub),
    /// This is to be offered from now on. Replaces what was not sent yet.
    Offer(Current),
    /// A transfer was written to its end, or given up.
    Served {
        /// Which.
        transfer: TransferId,
    },
    /// Reports up to that number are in the store.
    ReportsStored {
        /// The highest number.
        n: u64,
    },
    /// An operator asks for another look.
    Hint(Hint),
    /// The answer to [`Action::Renew`].
    Renewed {
        /// DER certificates, leaf first.
        chain: Vec<Vec<u8>>,
    },
    /// The answer to [`Action::Renew`] when it is no.
    RenewRefused {
        /// For people.
        message: String,
    },
    /// The hub is going away.
    Drain {
        /// For [`HubToAgent::Drain`].
        retry_after_seconds: u32,
    },
    /// End the session (revoked, replaced, busy).
    Reject {
        /// Stable code.
        code: RejectCode,
        /// For people.
        message: String,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// The hello was accepted; an offer may be given now.
    Established(Hello),
    /// Write these blobs on a stream of their own, in this order; then say [`Input::Served`].
    Serve {
        /// The agent's number.
        transfer: TransferId,
        /// Referenced by the current or the previous offer. A blob the store lacks is left out.
        digests: Vec<Digest>,
    },
    /// The offer of this generation is stored in the cluster.
    Taken {
        /// Which.
        generation: Generation,
    },
    /// The agent refused an offer.
    Refused {
        /// The generation; the default one when the agent could not believe the head.
        generation: Generation,
        /// Stable code.
        code: RefusalCode,
        /// For people.
        message: String,
    },
    /// Store; then say [`Input::ReportsStored`].
    ClusterReport {
        /// Its number.
        n: u64,
        /// The newest state.
        report: Box<ClusterReport>,
    },
    /// Store; then say [`Input::ReportsStored`].
    UnitReports {
        /// Their number.
        n: u64,
        /// The newest states.
        reports: Vec<UnitReport>,
    },
    /// Remove these units; then say [`Input::ReportsStored`].
    UnitsGone {
        /// Their number.
        n: u64,
        /// Which.
        units: Vec<UnitId>,
    },
    /// The cluster has exactly these units: remove every other; then say [`Input::ReportsStored`].
    Snapshot {
        /// Its number.
        n: u64,
        /// All there are.
        units: BTreeSet<UnitId>,
    },
    /// Store; then say [`Input::ReportsStored`].
    Facts {
        /// Their number.
        n: u64,
        /// The newest state.
        facts: Box<Facts>,
    },
    /// Issue a certificate for this key; then say [`Input::Renewed`] or [`Input::RenewRefused`].
    Renew {
        /// PKCS#10 request, DER. Only its public key counts.
        csr: Vec<u8>,
    },
    /// The agent asked for blobs that its offer does not reference: for the audit log.
    NotReferenced {
        /// How many.
        count: usize,
        /// One of them.
        example: Digest,
    },
    /// Close the connection once the pending messages are sent, at the latest after one second.
    Close {
        /// Stable code; the close code of the connection.
        code: RejectCode,
        /// For people and the log.
        message: String,
    },
}

/// How long an agent may take to say hello, in milliseconds.
const HELLO_MS: u64 = 10_000;
/// How long an agent whose certificate has expired may take to ask for the next, in milliseconds.
const RENEWAL_MS: u64 = 30_000;
/// How long a message may wait for the stream, in milliseconds: the slow-consumer rule.
const SLOW_MS: u64 = 30_000;
/// First and longest pause before an offer is repeated after a refusal that time may heal, in milliseconds.
const REOFFER_MS: (u64, u64) = (30_000, 600_000);
/// First pause after the cluster's API server did not take the bundle: most often it restarts, and is back in seconds.
const REOFFER_LEDGER_FAILED_MS: u64 = 2_000;
/// Hints for single units kept; beyond it one hint for all takes their place.
const HINTS: usize = 64;

/// The hub's side of one session: one connection of one agent.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    state: State,
    current: Option<Current>,
    /// The digest of the head the agent said it has stored.
    ratchet: Option<Digest>,
    /// What the offer before referenced: the agent may still be fetching it.
    previous: Option<Arc<dyn Closure>>,
    /// Trust documents the agent has, counted.
    trust_sent: u64,
    pending: Pending,
    /// Since when a message waits for the stream.
    waiting_since: Option<u64>,
    /// Open transfers.
    serving: BTreeSet<TransferId>,
    last_transfer: u64,
    /// Report numbers taken in and not answered.
    reports_open: VecDeque<u64>,
    last_report: u64,
    /// Units reported in this session, until its snapshot is complete.
    seen: Option<BTreeSet<UnitId>>,
    renewing: bool,
    access: Access,
    /// With [`Access::Renewal`]: until when the renewal must have been asked for.
    renew_until: Option<u64>,
    refusals: u32,
    reoffer_at: Option<u64>,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: u64 },
    Up,
    Closed,
}

/// The newest of each kind that was not sent yet.
#[derive(Debug, Default)]
struct Pending {
    welcome: Option<Welcome>,
    offer: bool,
    reports_taken: Option<u64>,
    renewal: Option<HubToAgent>,
    /// Said before the rejection.
    parting: Option<HubToAgent>,
    hint_all: bool,
    hints: BTreeSet<UnitId>,
    drain: Option<u32>,
    reject: Option<(RejectCode, String)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.welcome.is_none()
            && !self.offer
            && self.reports_taken.is_none()
            && self.renewal.is_none()
            && !self.hint_all
            && self.hints.is_empty()
            && self.drain.is_none()
            && self.reject.is_none()
    }
}

impl Session {
    /// A session whose peer has not said hello.
    #[must_use]
    pub fn new(now: Now, setup: Setup) -> Self {
        Self::with_access(now, setup, Access::Full)
    }

    /// As [`Self::new`], for a peer whose certificate opens this much. With [`Access::Renewal`] the agent is greeted, its
    /// [`AgentToHub::Renew`] is answered, and the session is rejected: nothing else is told, served or taken in.
    #[must_use]
    pub fn with_access(now: Now, setup: Setup, access: Access) -> Self {
        Self {
            last_report: setup.reports_taken,
            setup,
            state: State::Waiting { until: now.mono_ms + HELLO_MS },
            current: None,
            ratchet: None,
            previous: None,
            trust_sent: 0,
            pending: Pending::default(),
            waiting_since: None,
            serving: BTreeSet::new(),
            last_transfer: 0,
            reports_open: VecDeque::new(),
            seen: Some(BTreeSet::new()),
            renewing: false,
            access,
            renew_until: None,
            refusals: 0,
            reoffer_at: None,
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.state == State::Closed {
            return;
        }
        match input {
            Input::Message(message) => self.message(now, message),
            // Not for one who is here for a certificate only.
            Input::Offer(_) | Input::Hint(_) | Input::Served { .. } | Input::ReportsStored { .. }
                if self.access == Access::Renewal => {}
            Input::Offer(current) => self.offer(current),
            Input::Served { transfer } => {
                self.serving.remove(&transfer);
            }
            Input::ReportsStored { n } => {
                while self.reports_open.front().is_some_and(|first| *first <= n) {
                    self.reports_open.pop_front();
                }
                self.pending.reports_taken = self.pending.reports_taken.max(Some(n));
            }
            Input::Hint(Hint::Reconcile { unit: None }) => {
                self.pending.hint_all = true;
                self.pending.hints.clear();
            }
            Input::Hint(Hint::Reconcile { unit: Some(unit) }) => {
                if !self.pending.hint_all {
                    self.pending.hints.insert(unit);
                    if self.pending.hints.len() > HINTS {
                        self.pending.hints.clear();
                        self.pending.hint_all = true;
                    }
                }
            }
            Input::Renewed { chain } => self.renewal(HubToAgent::Renewed { chain }),
            Input::RenewRefused { message } => self.renewal(HubToAgent::RenewRefused { message }),
            Input::Drain { retry_after_seconds } => self.pending.drain = Some(retry_after_seconds),
            Input::Reject { code, message } => self.reject(code, message),
            Input::Tick => {}
        }
        self.timers(now);
    }

    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message to send, if any. Ask when the stream can take one.
    pub fn next_message(&mut self, now: Now) -> Option<HubToAgent> {
        let message = self.take_message();
        self.waiting_since = (!self.nothing_pending()).then_some(now.mono_ms);
        message
    }

    /// When to feed [`Input::Tick`] at the latest, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let peer = match self.state {
            State::Waiting { until } => Some(until),
            State::Up => self.renew_until,
            State::Closed => return None,
        };
        [peer, self.waiting_since.map(|since| since + SLOW_MS), self.reoffer_at].into_iter().flatten().min()
    }

    /// Whether the hello was accepted and the session is not over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Before the hello nothing may be said but a rejection.
    fn nothing_pending(&self) -> bool {
        match self.state {
            State::Up => self.pending.is_empty(),
            State::Waiting { .. } | State::Closed => self.pending.parting.is_none() && self.pending.reject.is_none(),
        }
    }

    fn take_message(&mut self) -> Option<HubToAgent> {
        let pending = &mut self.pending;
        if let Some(parting) = pending.parting.take() {
            return Some(parting);
        }
        if let Some((code, message)) = pending.reject.take() {
            return Some(HubToAgent::Reject { code, message });
        }
        if self.state != State::Up {
            return None;
        }
        if let Some(welcome) = pending.welcome.take() {
            return Some(HubToAgent::Welcome(welcome));
        }
        // Before the drain, which ends the session.
        if let Some(renewal) = pending.renewal.take() {
            return Some(renewal);
        }
        if let Some(retry_after_seconds) = pending.drain.take() {
            return Some(HubToAgent::Drain { retry_after_seconds });
        }
        if pending.offer {
            pending.offer = false;
            if let Some(current) = &self.current {
                let from = usize::try_from(self.trust_sent).unwrap_or(usize::MAX).min(current.trust.len());
                let trust = current.trust[from..].to_vec();
                self.trust_sent = self.trust_sent.max(current.trust.len() as u64);
                return Some(HubToAgent::Offer(Offer { head: current.head.clone(), trust }));
            }
        }
        if let Some(n) = pending.reports_taken.take() {
            return Some(HubToAgent::ReportsTaken { n });
        }
        if pending.hint_all {
            pending.hint_all = false;
            return Some(HubToAgent::Hint(Hint::Reconcile { unit: None }));
        }
        pending.hints.pop_first().map(|unit| HubToAgent::Hint(Hint::Reconcile { unit: Some(unit) }))
    }

    fn timers(&mut self, now: Now) {
        if let State::Waiting { until } = self.state
            && now.mono_ms >= until
        {
            return self.reject(RejectCode::Protocol, format!("no hello within {} s", HELLO_MS / 1000));
        }
        if self.renew_until.is_some_and(|until| now.mono_ms >= until) {
            let message = "the agent's certificate has expired, and it did not ask for another one";
            return self.reject(RejectCode::Busy, message.into());
        }
        if self.reoffer_at.is_some_and(|at| now.mono_ms >= at) {
            self.reoffer_at = None;
            self.pending.offer = self.current.is_some();
        }
        match self.waiting_since {
            Some(since) if now.mono_ms >= since + SLOW_MS => {
                let message = format!("the agent has not read for {} s", SLOW_MS / 1000);
                self.reject(RejectCode::TooSlow, message);
            }
            None if !self.nothing_pending() => self.waiting_since = Some(now.mono_ms),
            _ => {}
        }
    }

    fn reject(&mut self, code: RejectCode, message: String) {
        self.part(None, code, message);
    }

    fn part(&mut self, parting: Option<HubToAgent>, code: RejectCode, message: String) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.pending = Pending { parting, reject: Some((code, message.clone())), ..Pending::default() };
        self.tell(Action::Close { code, message });
    }

    /// The one way to the outside: of a peer that is here for a certificate nothing else is taken in.
    fn tell(&mut self, action: Action) {
        let renewal = matches!(action, Action::Established(_) | Action::Renew { .. } | Action::Close { .. });
        if renewal || self.access == Access::Full {
            self.actions.push_back(action);
        }
    }

    fn breach(&mut self, what: &str) {
        self.reject(RejectCode::Protocol, format!("the agent broke the protocol: {what}"));
    }

    fn renewal(&mut self, answer: HubToAgent) {
        if !std::mem::take(&mut self.renewing) {
            return;
        }
        match self.access {
            Access::Full => self.pending.renewal = Some(answer),
            Access::Renewal => {
                let message = match &answer {
                    HubToAgent::RenewRefused { message } => {
                        format!("the certificate has expired and was not renewed: {message}")
                    }
                    _ => "the certificate had expired and was renewed: connect with the new one".to_owned(),
                };
                self.part(Some(answer), RejectCode::Busy, message);
            }
        }
    }

    fn offer(&mut self, current: Current) {
        let same = self.current.as_ref().is_some_and(|c| c.head == current.head);
        if let Some(before) = self.current.replace(current)
            && !same
        {
            self.previous = Some(before.closure);
        }
        if !same {
            self.refusals = 0;
            self.reoffer_at = None;
            self.pending.offer = !self.is_stored();
        }
    }

    /// Whether the agent said in its hello that it has the current head.
    fn is_stored(&self) -> bool {
        self.current.as_ref().is_some_and(|c| self.ratchet == Some(Digest::of(&c.head.bytes)))
    }

    fn message(&mut self, now: Now, message: AgentToHub) {
        if let State::Waiting { .. } = self.state {
            let AgentToHub::Hello(hello) = message else {
                return self.breach("its first message is not Hello");
            };
            return self.hello(now, hello);
        }
        match message {
            AgentToHub::Hello(_) => self.breach("a second Hello"),
            AgentToHub::Need(need) => self.need(need),
            AgentToHub::Taken { generation } => {
                if self.current.as_ref().is_some_and(|c| c.generation == generation) {
                    self.refusals = 0;
                    self.reoffer_at = None;
                }
                self.tell(Action::Taken { generation });
            }
            AgentToHub::Refused(refused) => self.refused(now, refused),
            AgentToHub::ClusterReport { n, report } => {
                if self.report(n) {
                    self.tell(Action::ClusterReport { n, report });
                }
            }
            AgentToHub::UnitReports { n, reports } => {
                if self.report(n) {
                    if let Some(seen) = &mut self.seen {
                        seen.extend(reports.iter().map(|r| r.unit.clone()));
                        if seen.len() > BUNDLE_UNITS {
                            return self.breach("it reports more units than a bundle may have");
                        }
                    }
                    self.tell(Action::UnitReports { n, reports });
                }
            }
            AgentToHub::UnitsGone { n, units } => {
                if self.report(n) {
                    if let Some(seen) = &mut self.seen {
                        for unit in &units {
                            seen.remove(unit);
                        }
                    }
                    self.tell(Action::UnitsGone { n, units });
                }
            }
            AgentToHub::SnapshotComplete { n } => {
                if self.report(n) {
                    match self.seen.take() {
                        Some(units) => self.tell(Action::Snapshot { n, units }),
                        None => self.breach("a second SnapshotComplete"),
                    }
                }
            }
            AgentToHub::Facts { n, facts } => {
                if self.report(n) {
                    self.tell(Action::Facts { n, facts });
                }
            }
            AgentToHub::Renew { csr } => {
                if std::mem::replace(&mut self.renewing, true) {
                    return self.breach("a second Renew while one is open");
                }
                self.renew_until = None;
                self.tell(Action::Renew { csr });
            }
        }
    }

    fn hello(&mut self, now: Now, hello: Hello) {
        if hello.wire_max == 0 {
            let message = "the agent speaks no wire version that this hub speaks; update the agent".into();
            return self.reject(RejectCode::Version, message);
        }
        if hello.cluster != self.setup.cluster {
            let message = format!(
                "the agent says it is cluster {}, its certificate is for {}",
                hello.cluster, self.setup.cluster
            );
            return self.reject(RejectCode::WrongCluster, message);
        }
        if hello.kube_uid != self.setup.kube_uid {
            let message = format!(
                "cluster {} enrolled with kube-system UID {}, this one has {}: a restored or copied cluster must enrol \
                 anew",
                hello.cluster, self.setup.kube_uid, hello.kube_uid
            );
            return self.reject(RejectCode::WrongKubeUid, message);
        }
        self.state = State::Up;
        self.renew_until = (self.access == Access::Renewal).then_some(now.mono_ms + RENEWAL_MS);
        self.trust_sent = hello.trust_version;
        self.pending.welcome = Some(Welcome {
            wire: hello.wire_max.min(WIRE_VERSION),
            hub_version: self.setup.hub_version.clone(),
            session: self.setup.session,
            reports_taken: self.setup.reports_taken,
        });
        self.ratchet = hello.ratchet.map(|r| r.head);
        self.pending.offer = self.pending.offer && !self.is_stored();
        self.tell(Action::Established(hello));
    }

    fn need(&mut self, need: Need) {
        if need.transfer.0 <= self.last_transfer {
            return self.breach("the number of a Need did not rise");
        }
        if self.serving.len() >= NEEDS_OPEN_HUB {
            return self.breach("too many open Needs");
        }
        self.last_transfer = need.transfer.0;
        let (digests, foreign): (Vec<Digest>, Vec<Digest>) = need.digests.into_iter().partition(|digest| {
            self.current.as_ref().is_some_and(|c| c.closure.contains(digest))
                || self.previous.as_ref().is_some_and(|p| p.contains(digest))
        });
        if let Some(example) = foreign.first().copied() {
            self.tell(Action::NotReferenced { count: foreign.len(), example });
        }
        self.serving.insert(need.transfer);
        self.tell(Action::Serve { transfer: need.transfer, digests });
    }

    fn refused(&mut self, now: Now, refused: Refused) {
        use RefusalCode as R;
        if matches!(refused.code, R::Future | R::Incomplete | R::LedgerFull | R::LedgerFailed) {
            let (usual, longest) = REOFFER_MS;
            let first = if refused.code == R::LedgerFailed { REOFFER_LEDGER_FAILED_MS } else { usual };
            let pause = first.saturating_mul(1 << self.refusals.min(10)).min(longest);
            self.refusals += 1;
            self.reoffer_at = Some(now.mono_ms + pause);
        }
        let Refused { generation, code, message } = refused;
        self.tell(Action::Refused { generation, code, message });
    }

    /// Whether a report with this number may be taken in.
    fn report(&mut self, n: u64) -> bool {
        if n <= self.last_report {
            self.breach("the number of a report did not rise");
            return false;
        }
        if self.reports_open.len() >= REPORTS_OPEN {
            self.breach("too many unanswered reports");
            return false;
        }
        self.last_report = n;
        self.reports_open.push_back(n);
        true
    }
}
