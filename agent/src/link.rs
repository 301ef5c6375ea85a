//! The session over QUIC: connects, carries frames, reconnects, keeps the ledger and the certificate.
//!
//! One task owns the session, the ledger and the identity. Whatever takes long (connecting, writing to the ledger,
//! reading a stream) is a task of its own in a set that this one awaits, so that reports and messages never wait for it.

mod certificate;
mod connection;
mod pause;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::bundle::Reason;
use driftless_protocol::facts::Facts;
use driftless_protocol::head::Head;
use driftless_protocol::id::{ClusterName, Digest, UnitId};
use driftless_protocol::message::{AgentToHub, Hint};
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_protocol::session::Now;
use driftless_protocol::session::agent::{self, Action, Input, Session};
use driftless_protocol::signing::Verified;
use driftless_protocol::token::JoinToken;
use driftless_protocol::trust::TrustDocument;
use driftless_protocol::wire::transfer::Blob;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::certificate::Certificate;
use self::connection::{Connected, Heard, Wire};
use self::pause::Pause;
use crate::agent::unix_millis;
use crate::ask::Asked;
use crate::cluster::api::chain;
use crate::identity::{Identity, IdentityError};
use crate::join::JoinFile;
use crate::ledger::{BlobMap, Ledger, LedgerError, Stored};

/// What the link tells the driver.
#[derive(Debug)]
pub enum FromHub {
    /// A bundle that is verified and in the ledger.
    Bundle(Arc<Stored>),
    /// Look at something again.
    Hint(Hint),
    /// The hub has nothing newer than the bundle that is stored.
    Current,
}

/// What the driver tells the link.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // at most a channel of 64 of them exists
pub enum ToHub {
    /// The state of the agent as a whole.
    Cluster(ClusterReport),
    /// What the cluster tells of itself.
    Facts(Box<Facts>),
    /// The state of a unit.
    Unit(UnitReport),
    /// A unit is gone.
    UnitGone(UnitId),
    /// Every unit there is was reported.
    UnitsKnown,
}

/// What the link needs to begin.
#[derive(Debug)]
pub struct Setup {
    /// Who this cluster is.
    pub identity: Identity,
    /// Its memory.
    pub ledger: Ledger,
    /// UID of `kube-system`, read now.
    pub kube_uid: String,
    /// The pod, for people.
    pub pod: String,
    /// For a certificate that is past its time.
    pub join: Arc<JoinFile>,
    /// Where the hub's questions go; when it is full the hub is told so.
    pub asks: mpsc::Sender<Asked>,
}

/// A hub that has something newer offers it right after its greeting.
const OFFERED_WITHIN: Duration = Duration::from_secs(10);
/// How long the goodbye may take: the last reports and a close frame.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs until cancelled, until the driver is gone, or until another pod wrote to the ledger. Whatever the hub does or does
/// not do, it only waits and tries again.
pub async fn run(
    setup: Setup,
    from_driver: mpsc::Receiver<ToHub>,
    to_driver: mpsc::Sender<FromHub>,
    cancel: CancellationToken,
) {
    let mut link = Link::new(setup, from_driver, to_driver);
    link.run(&cancel).await;
    link.end().await;
}

/// One write to the ledger or the identity.
#[derive(Debug)]
enum Work {
    Trust(Box<Verified<TrustDocument>>),
    Bundle {
        head: Box<Verified<Head>>,
        fetched: Vec<Blob>,
    },
    AskRenewal,
    Renewed(Vec<Vec<u8>>),
    /// With the token that the file of this content has.
    Enrol(Box<JoinToken>, Digest),
}

/// What came of it.
#[derive(Debug)]
enum Done {
    Trust(Result<(), LedgerError>),
    Bundle(Box<Verified<Head>>, Result<Arc<Stored>, LedgerError>),
    AskRenewal(Result<Vec<u8>, IdentityError>),
    Renewed(Result<(), IdentityError>),
    Enrolled(Digest, Result<(), IdentityError>),
}

/// What only one task at a time may hold.
#[derive(Debug)]
struct Keep {
    ledger: Ledger,
    identity: Identity,
}

/// Where the connection stands.
enum Line {
    /// Wait, then connect.
    Down(Instant),
    Connecting(JoinSet<Result<Connected, String>>),
    Up(Wire),
}

struct Link {
    session: Session,
    /// At hand for the session; the newest bundle stored.
    stored: Option<Arc<Stored>>,
    /// `None` while a [`Work`] has it.
    keep: Option<Box<Keep>>,
    work: VecDeque<Work>,
    working: JoinSet<(Box<Keep>, Done)>,
    line: Line,
    pause: Pause,
    sessions: u64,
    next_address: usize,
    certificate: Certificate,
    /// The cluster, for people.
    name: ClusterName,
    join: Arc<JoinFile>,
    /// Ends what waits for an answer of the hub while it has the identity.
    ending: CancellationToken,
    from_driver: mpsc::Receiver<ToHub>,
    to_driver: mpsc::Sender<FromHub>,
    asks: mpsc::Sender<Asked>,
    /// Bundles and hints that wait for the driver; the newest bundle only, and one hint for all at most.
    bundle: Option<Arc<Stored>>,
    hints: VecDeque<Hint>,
    /// When the hub, which greeted, would have offered what it has; and that it offered nothing.
    current_due: Option<Instant>,
    current: bool,
    report: Option<ClusterReport>,
    /// The next message for the hub, taken from the session; waits for the writer.
    outgoing: Option<AgentToHub>,
    problems: Problems,
    started: Instant,
    over: bool,
}

/// Troubles of the link itself, shown in the cluster report until they are over.
#[derive(Debug, Default)]
struct Problems {
    ledger: Option<Reason>,
    offer: Option<Reason>,
    renewal: Option<Reason>,
    expired: Option<Reason>,
}

impl Problems {
    fn all(&self) -> impl Iterator<Item = Reason> {
        [&self.ledger, &self.offer, &self.renewal, &self.expired].into_iter().flatten().cloned()
    }
}

fn problem(code: &str, message: impl Into<String>) -> Option<Reason> {
    Some(Reason { code: code.to_owned(), message: message.into(), file: None, line: None })
}

impl Link {
    fn new(setup: Setup, from_driver: mpsc::Receiver<ToHub>, to_driver: mpsc::Sender<FromHub>) -> Self {
        let Setup { identity, ledger, kube_uid, pod, join, asks } = setup;
        let stored = ledger.current();
        let session = Session::new(agent::Setup {
            cluster: identity.cluster,
            kube_uid,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            pod,
            ratchet: ledger.ratchet(),
            complete: stored.is_some(),
            trust: ledger.trust().newest().clone(),
        });
        let problems = Problems {
            ledger: ledger.problem().and_then(|text| problem("LedgerDamaged", text)),
            ..Problems::default()
        };
        let now = Instant::now();
        Self {
            session,
            stored,
            certificate: Certificate::of(&identity),
            name: identity.name.clone(),
            join,
            ending: CancellationToken::new(),
            keep: Some(Box::new(Keep { ledger, identity })),
            work: VecDeque::new(),
            working: JoinSet::new(),
            line: Line::Down(now),
            pause: Pause::default(),
            // Rises over the restarts of the agent as well.
            sessions: unix_millis(),
            next_address: 0,
            from_driver,
            to_driver,
            asks,
            bundle: None,
            hints: VecDeque::new(),
            current_due: None,
            current: false,
            report: None,
            outgoing: None,
            problems,
            started: now,
            over: false,
        }
    }

    fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { unix_ms: unix_millis(), mono_ms }
    }

    async fn run(&mut self, cancel: &CancellationToken) {
        while !self.over {
            self.carry_out();
            self.begin_work();
            if self.outgoing.is_none() && matches!(self.line, Line::Up(_)) {
                self.outgoing = self.session.next_message(self.now());
            }
            let deadline = self.deadline();
            let for_driver = self.bundle.is_some() || !self.hints.is_empty() || self.current;
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                told = self.from_driver.recv() => match told {
                    Some(told) => Event::Told(told),
                    None => return,
                },
                permit = self.to_driver.reserve(), if for_driver => match permit {
                    Ok(permit) => {
                        if let Some(bundle) = self.bundle.take() {
                            permit.send(FromHub::Bundle(bundle));
                        } else if let Some(hint) = self.hints.pop_front() {
                            permit.send(FromHub::Hint(hint));
                        } else if std::mem::take(&mut self.current) {
                            permit.send(FromHub::Current);
                        }
                        continue;
                    }
                    Err(_) => return,
                },
                Some(done) = self.working.join_next() => Event::Worked(done),
                event = self.line.next(self.outgoing.is_some()) => event,
                () = tokio::time::sleep_until(deadline) => Event::Time,
            };
            match event {
                Event::Told(told) => self.told(told),
                Event::Worked(Ok((keep, done))) => {
                    self.keep = Some(keep);
                    self.done(done);
                }
                // The ledger and the identity are lost with it: begin again from what is stored.
                Event::Worked(Err(error)) => {
                    tracing::error!(%error, "a write to the ledger ended without an answer; beginning again");
                    return;
                }
                Event::Writable => {
                    if let (Line::Up(wire), Some(message)) = (&self.line, self.outgoing.take()) {
                        wire.send(message);
                    }
                }
                Event::Connected(connected) => self.connected(connected),
                Event::Heard(heard) => self.heard(heard),
                Event::Time => self.time_passed(),
            }
        }
    }

    /// Says goodbye and awaits what is still being written.
    async fn end(mut self) {
        self.ending.cancel();
        if let Line::Up(wire) = std::mem::replace(&mut self.line, Line::Down(Instant::now())) {
            wire.close(GOODBYE).await;
        }
        // A write to the ledger that has begun is finished: each request has its deadline.
        while self.working.join_next().await.is_some() {}
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        let none = BlobMap::default();
        let local = self.stored.as_ref().map_or(&none, |stored| &*stored.blobs);
        self.session.handle(now, input, local);
    }

    fn told(&mut self, told: ToHub) {
        match told {
            ToHub::Cluster(report) => {
                self.report = Some(report);
                self.tell_cluster();
            }
            ToHub::Facts(facts) => self.input(Input::Facts(facts)),
            ToHub::Unit(report) => self.input(Input::Unit(Box::new(report))),
            ToHub::UnitGone(unit) => self.input(Input::UnitGone(unit)),
            ToHub::UnitsKnown => self.input(Input::UnitsKnown),
        }
    }

    /// The driver's report with the link's own troubles.
    fn tell_cluster(&mut self) {
        if let Some(mut report) = self.report.clone() {
            report.problems.extend(self.problems.all());
            self.input(Input::Cluster(Box::new(report)));
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.session.next_action() {
            match action {
                Action::Trust(document) => {
                    tracing::info!(version = document.version, "new trust document");
                    self.work.push_back(Work::Trust(document));
                }
                Action::Bundle { head, fetched } => {
                    tracing::info!(generation = %head.generation, blobs = fetched.len(), "bundle fetched, storing it");
                    self.work.push_back(Work::Bundle { head, fetched });
                }
                Action::Refused { generation, code, message } => {
                    tracing::warn!(%generation, code = code.as_str(), why = message, "offer refused");
                    self.problems.offer =
                        problem(code.as_str(), format!("generation {generation} was refused: {message}"));
                    self.tell_cluster();
                }
                Action::Hint(hint) => self.hint(hint),
                Action::Established { hub_version, session } => {
                    tracing::info!(hub_version, session, "the hub greeted");
                    self.pause.worked(Instant::now());
                    self.current_due = Some(Instant::now() + OFFERED_WITHIN);
                    self.renew_if_due();
                }
                Action::Renewed { chain } => self.work.push_back(Work::Renewed(chain)),
                Action::RenewRefused { message } => self.renewal_failed(format!("the hub refused: {message}")),
                Action::Reconnect { after_ms, reject, message } => {
                    tracing::warn!(why = message, "leaving this connection");
                    let least = after_ms.map(Duration::from_millis);
                    let is_final = reject.is_some_and(driftless_protocol::message::RejectCode::is_final);
                    if is_final {
                        self.problems.offer = problem("SessionRejected", message);
                    }
                    self.down(least, is_final);
                }
            }
        }
    }

    fn hint(&mut self, hint: Hint) {
        if self.hints.len() >= 64 || matches!(hint, Hint::Reconcile { unit: None }) {
            self.hints = VecDeque::from([Hint::Reconcile { unit: None }]);
        } else if !self.hints.contains(&hint) && !self.hints.contains(&Hint::Reconcile { unit: None }) {
            self.hints.push_back(hint);
        }
    }

    /// One write at a time, in order: a bundle may rely on the trust document before it.
    fn begin_work(&mut self) {
        if self.work.is_empty() {
            return;
        }
        let Some(mut keep) = self.keep.take() else { return };
        let Some(work) = self.work.pop_front() else { return };
        let ending = self.ending.clone();
        self.working.spawn(async move {
            let done = match work {
                Work::Trust(document) => Done::Trust(keep.ledger.store_trust(&document).await),
                Work::Bundle { head, fetched } => {
                    let stored = keep.ledger.store(&head, fetched, unix_millis()).await;
                    Done::Bundle(head, stored)
                }
                Work::AskRenewal => Done::AskRenewal(keep.identity.begin_renewal().await),
                Work::Renewed(certificates) => Done::Renewed(keep.identity.finish_renewal(&certificates).await),
                Work::Enrol(token, content) => Done::Enrolled(content, keep.identity.enrol_anew(&token, &ending).await),
            };
            (keep, done)
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Trust(Ok(())) => {}
            // Kept in memory, and asked for again by whoever leads next: the hub sends what `Hello` says is missing.
            Done::Trust(Err(error)) => self.ledger_failed(&error),
            Done::Bundle(head, Ok(stored)) => {
                let generation = head.generation;
                tracing::info!(%generation, "bundle stored");
                self.stored = Some(Arc::clone(&stored));
                self.bundle = Some(stored);
                self.problems.ledger = None;
                self.problems.offer = None;
                self.input(Input::Stored { generation });
                self.tell_cluster();
            }
            Done::Bundle(head, Err(error)) => {
                let generation = head.generation;
                let (code, message) = (error.code(), chain(&error));
                self.ledger_failed(&error);
                self.input(Input::NotStored { generation, code, message });
            }
            Done::AskRenewal(Ok(csr)) => {
                if self.renewal_is_wanted() {
                    self.input(Input::Renew { csr });
                }
            }
            Done::AskRenewal(Err(error)) | Done::Renewed(Err(error)) => {
                // What is believed of the identity is not what is stored: whoever leads begins from that.
                self.over |= matches!(error, IdentityError::Raced);
                self.renewal_failed(chain(&error));
            }
            Done::Renewed(Ok(())) => self.renewed(),
            Done::Enrolled(content, answer) => self.enrolled(content, answer),
        }
    }

    fn ledger_failed(&mut self, error: &LedgerError) {
        let message = chain(error);
        tracing::error!(error = message, "cannot write the ledger");
        self.problems.ledger = problem("LedgerFailed", message);
        // Another pod leads, or led: whoever leads begins from what is stored.
        self.over |= error.is_race();
        self.tell_cluster();
    }

    fn deadline(&self) -> Instant {
        let session = self.session.deadline().map(|ms| self.started + Duration::from_millis(ms));
        let line = match &self.line {
            Line::Down(until) => Some(*until),
            Line::Connecting(_) | Line::Up(_) => None,
        };
        [session, line, self.current_due].into_iter().flatten().fold(self.certificate.wake(), Instant::min)
    }

    fn time_passed(&mut self) {
        self.input(Input::Tick);
        self.look_at_certificate();
        if self.current_due.is_some_and(|due| due <= Instant::now()) {
            // A bundle on its way tells the driver itself, when it is stored.
            let on_its_way =
                self.session.is_fetching() || self.bundle.is_some() || self.keep.is_none() || !self.work.is_empty();
            self.current = !on_its_way;
            self.current_due = on_its_way.then(|| Instant::now() + OFFERED_WITHIN);
        }
        if matches!(&self.line, Line::Down(until) if *until <= Instant::now()) {
            self.connect();
        }
    }

    fn connect(&mut self) {
        let Some(keep) = &self.keep else {
            // The identity is with a write; it comes back within a request's deadline.
            self.line = Line::Down(Instant::now() + Duration::from_millis(100));
            return;
        };
        let identity = &keep.identity;
        let count = identity.addresses.len().max(1);
        let address = identity.addresses.get(self.next_address % count).cloned();
        self.next_address = self.next_address.wrapping_add(1);
        let (Some(address), Ok(tls)) = (address, identity.tls(self.session.trust())) else {
            tracing::error!("the identity has no usable address or certificate");
            return self.down(None, true);
        };
        let name = identity.server_name.clone();
        tracing::debug!(address, "connecting to the hub");
        let mut set = JoinSet::new();
        set.spawn(connection::open(address, name, tls));
        self.line = Line::Connecting(set);
    }

    fn connected(&mut self, connected: Result<Connected, String>) {
        match connected {
            Ok(connected) => {
                self.sessions += 1;
                tracing::info!(hub = %connected.peer, "connected");
                self.line = Line::Up(Wire::new(connected, self.asks.clone()));
                self.input(Input::Connected { session: self.sessions });
            }
            Err(message) => {
                tracing::warn!(why = message, "cannot connect to the hub");
                self.down(None, false);
            }
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Message(message) => self.input(Input::Message(message)),
            Heard::Header { transfer, answer } => {
                // The reader waits for it; when it is gone, so is the stream.
                let _ = answer.send(self.session.transfer_limit(transfer));
            }
            Heard::Transfer { transfer, blobs, altered } => {
                self.input(Input::Transferred { transfer, blobs, altered });
            }
            Heard::TransferFailed { transfer, message } => {
                tracing::warn!(%transfer, why = message, "a transfer failed");
                self.input(Input::TransferFailed { transfer, message });
            }
            Heard::Closed { message, is_final } => {
                tracing::warn!(why = message, "the connection ended");
                self.down(None, is_final);
            }
        }
    }

    /// Gives up the connection, if any, and waits with jitter before the next.
    fn down(&mut self, least: Option<Duration>, is_final: bool) {
        let wait = self.pause.next(Instant::now(), least, is_final);
        tracing::debug!(milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "connecting again after");
        // Dropping the wire closes the connection and ends its tasks.
        self.line = Line::Down(Instant::now() + wait);
        self.outgoing = None;
        self.current_due = None;
        self.certificate_unheard();
        self.input(Input::Lost);
    }
}

/// What happens next.
#[allow(clippy::large_enum_variant)] // one exists at a time
enum Event {
    Told(ToHub),
    Worked(Result<(Box<Keep>, Done), tokio::task::JoinError>),
    Writable,
    Connected(Result<Connected, String>),
    Heard(Heard),
    Time,
}

impl Line {
    /// Waits for what happens next on the line; for ever while down. `sending`: whether a message waits for it.
    async fn next(&mut self, sending: bool) -> Event {
        match self {
            Self::Down(_) => std::future::pending().await,
            Self::Connecting(set) => match set.join_next().await {
                Some(Ok(result)) => Event::Connected(result),
                Some(Err(error)) => Event::Connected(Err(error.to_string())),
                None => std::future::pending().await,
            },
            Self::Up(wire) => match wire.next(sending).await {
                Some(heard) => Event::Heard(heard),
                None => Event::Writable,
            },
        }
    }
}
