//! The agent's side: hello, accept or refuse offers, fetch what is missing, report the newest state.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fetch::{Fetch, Step};
use super::judge::{Accepted, Judge, Judged};
use super::outbox::Outbox;
use crate::bundle::Blobs;
use crate::facts::Facts;
use crate::head::Head;
use crate::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use crate::message::{AgentToHub, Hello, Hint, HubToAgent, Offer, RefusalCode, Refused, RejectCode, WIRE_VERSION};
use crate::report::{ClusterReport, UnitReport};
use crate::session::{Now, Ratchet};
use crate::signing::Verified;
use crate::trust::{self, TrustDocument};

/// Who the agent is and what it holds when the process (or its leadership) begins. The session outlives connections.
#[derive(Debug)]
pub struct Setup {
    /// From its certificate.
    pub cluster: ClusterId,
    /// UID of the `kube-system` namespace, read now and equal to the one bound at enrolment.
    pub kube_uid: String,
    /// Version of the agent program.
    pub agent_version: String,
    /// The pod, for people.
    pub pod: String,
    /// The last head stored in the cluster, from the ledger.
    pub ratchet: Option<Ratchet>,
    /// Whether the ledger holds the bundle of that head whole. When not, the same head is taken once more, and nothing
    /// below it.
    pub complete: bool,
    /// The newest trust document, verified from the root pins on.
    pub trust: Verified<TrustDocument>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A connection with an open control stream is there.
    Connected {
        /// Rises with each connection.
        session: u64,
    },
    /// The connection is gone.
    Lost,
    /// A message arrived on the control stream.
    Message(HubToAgent),
    /// A transfer stream was read to its end. The digests are checked again here.
    Transferred {
        /// Which [`crate::message::Need`] it answers.
        transfer: TransferId,
        /// Blobs in any order.
        blobs: Vec<(Digest, Arc<[u8]>)>,
        /// How many came with other bytes than their digests say, and were dropped.
        altered: usize,
    },
    /// A transfer stream broke while the connection lives.
    TransferFailed {
        /// Which.
        transfer: TransferId,
        /// For people.
        message: String,
    },
    /// The bundle of that generation is in the ledger, ratchet included.
    Stored {
        /// Which.
        generation: Generation,
    },
    /// The bundle could not be stored.
    NotStored {
        /// Which.
        generation: Generation,
        /// [`RefusalCode::LedgerFull`], [`RefusalCode::LedgerFailed`] or [`RefusalCode::BadBundle`].
        code: RefusalCode,
        /// For people.
        message: String,
    },
    /// The state of the agent as a whole changed.
    Cluster(Box<ClusterReport>),
    /// What the cluster tells of itself changed. Already within the limits of [`Facts::bound`].
    Facts(Box<Facts>),
    /// The state of a unit changed.
    Unit(Box<UnitReport>),
    /// A unit is gone with its last object.
    UnitGone(UnitId),
    /// Every unit there is was given as [`Input::Unit`]: the first pass after the start looked at all.
    UnitsKnown,
    /// A new certificate is wanted. Asked for before anything else is said, in this session or, without one, in the next;
    /// while an answer is awaited this does nothing.
    Renew {
        /// PKCS#10 request, DER.
        csr: Vec<u8>,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Store this trust document: it follows from the last one and is verified.
    Trust(Box<Verified<TrustDocument>>),
    /// A whole bundle: store it in the ledger, then say [`Input::Stored`] or [`Input::NotStored`].
    Bundle {
        /// Verified, above the ratchet, for this cluster.
        head: Box<Verified<Head>>,
        /// The blobs that were not at hand before, each checked against its digest.
        fetched: Vec<(Digest, Arc<[u8]>)>,
    },
    /// An offer was refused; the hub is told as well. For the cluster report and the log.
    Refused {
        /// The generation it claims.
        generation: Generation,
        /// Stable code.
        code: RefusalCode,
        /// For people.
        message: String,
    },
    /// Look at something again now.
    Hint(Hint),
    /// The hub greeted: the session is established.
    Established {
        /// Version of the hub program.
        hub_version: String,
        /// The hub's number for this session.
        session: u64,
    },
    /// A renewal was granted.
    Renewed {
        /// DER certificates, leaf first.
        chain: Vec<Vec<u8>>,
    },
    /// A renewal was refused.
    RenewRefused {
        /// For people.
        message: String,
    },
    /// Close the connection and come back.
    Reconnect {
        /// Not earlier than this many milliseconds from now (jitter comes on top); `None`: as the back-off says.
        after_ms: Option<u64>,
        /// Why: `Some` when the hub said so.
        reject: Option<RejectCode>,
        /// For people.
        message: String,
    },
}

/// How long the hub may take to greet, in milliseconds.
const GREETING_MS: u64 = 15_000;
/// How long one transfer may take, in milliseconds: 4 MiB over a bad link.
const TRANSFER_MS: u64 = 120_000;
/// How long a draining session goes on at most, in milliseconds.
const DRAIN_MS: u64 = 10_000;

/// The agent's side of the protocol. Lives as long as the agent leads, over many connections.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    ratchet: Option<Ratchet>,
    /// Whether the bundle of the ratchet is at hand.
    complete: bool,
    trust: Verified<TrustDocument>,
    link: Link,
    /// The offer being fetched.
    fetch: Option<Fetch>,
    /// The offer given to the ledger and not settled yet.
    storing: Option<Ratchet>,
    taken: Option<Generation>,
    refused: Option<Refused>,
    renew: Option<Vec<u8>>,
    /// Whether the hub of this session was asked and has not answered.
    renewing: bool,
    next_transfer: u64,
    outbox: Outbox,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Link {
    Down,
    /// Connected; the hello is due or sent, the welcome is awaited.
    Greeting {
        session: u64,
        hello_sent: bool,
        until: u64,
    },
    Up {
        drain: Option<Drain>,
    },
    /// Given up by us; waits for [`Input::Lost`].
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    until: u64,
    after_ms: u64,
}

impl Session {
    /// A session that is not connected yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            ratchet: setup.ratchet,
            complete: setup.complete,
            trust: setup.trust.clone(),
            setup,
            link: Link::Down,
            fetch: None,
            storing: None,
            taken: None,
            refused: None,
            renew: None,
            renewing: false,
            next_transfer: 1,
            outbox: Outbox::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened. `local` are the blobs at hand (ledger and cache).
    pub fn handle(&mut self, now: Now, input: Input, local: &dyn Blobs) {
        match input {
            Input::Connected { session } => {
                self.lost();
                self.link = Link::Greeting { session, hello_sent: false, until: now.mono_ms + GREETING_MS };
            }
            Input::Lost => self.lost(),
            Input::Message(message) => self.message(now, message, local),
            Input::Transferred { transfer, blobs, altered } => {
                if let Some(fetch) = &mut self.fetch {
                    fetch.transferred(transfer, blobs, altered);
                }
                self.advance(local);
            }
            Input::TransferFailed { transfer, message } => {
                if let Some(fetch) = &mut self.fetch {
                    fetch.failed(transfer, message);
                }
                self.advance(local);
            }
            Input::Stored { generation } => {
                if let Some(stored) = self.storing.take_if(|s| s.generation == generation) {
                    self.ratchet = Some(stored);
                    self.complete = true;
                    self.taken = Some(generation);
                }
                self.advance(local);
            }
            Input::NotStored { generation, code, message } => {
                if self.storing.take_if(|s| s.generation == generation).is_some() {
                    self.refuse(generation, code, message);
                }
                self.advance(local);
            }
            Input::Cluster(report) => self.outbox.cluster(report),
            Input::Facts(facts) => self.outbox.facts(facts),
            Input::Unit(report) => self.outbox.unit(report),
            Input::UnitGone(unit) => self.outbox.gone(unit),
            Input::UnitsKnown => self.outbox.all_known(),
            Input::Renew { csr } => self.renew = (!self.renewing).then_some(csr),
            Input::Tick => {}
        }
        self.timers(now);
    }

    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message to send, if any. Ask when the stream can take one.
    pub fn next_message(&mut self, now: Now) -> Option<AgentToHub> {
        match &mut self.link {
            Link::Down | Link::Leaving | Link::Greeting { hello_sent: true, .. } => return None,
            Link::Greeting { session, hello_sent, .. } => {
                *hello_sent = true;
                return Some(AgentToHub::Hello(Hello {
                    wire_max: WIRE_VERSION,
                    agent_version: self.setup.agent_version.clone(),
                    cluster: self.setup.cluster,
                    kube_uid: self.setup.kube_uid.clone(),
                    ratchet: self.ratchet.filter(|_| self.complete),
                    trust_version: self.trust.version,
                    session: *session,
                    pod: self.setup.pod.clone(),
                }));
            }
            Link::Up { .. } => {}
        }
        // First: where the certificate has expired, the hub hears nothing else.
        if let Some(csr) = self.renew.take() {
            self.renewing = true;
            return Some(AgentToHub::Renew { csr });
        }
        if let Some(refused) = self.refused.take() {
            return Some(AgentToHub::Refused(refused));
        }
        if let Some(generation) = self.taken.take() {
            return Some(AgentToHub::Taken { generation });
        }
        if let Some(need) = self.fetch.as_mut().and_then(|f| f.next_need(now.mono_ms, &mut self.next_transfer)) {
            return Some(AgentToHub::Need(need));
        }
        self.outbox.next_message()
    }

    /// When to feed [`Input::Tick`] at the latest, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match &self.link {
            Link::Down | Link::Leaving => None,
            Link::Greeting { until, .. } => Some(*until),
            Link::Up { drain } => {
                let transfer = self.fetch.as_ref().and_then(Fetch::oldest).map(|since| since + TRANSFER_MS);
                [drain.map(|d| d.until), transfer].into_iter().flatten().min()
            }
        }
    }

    /// The last head stored.
    #[must_use]
    pub fn ratchet(&self) -> Option<Ratchet> {
        self.ratchet
    }

    /// The newest trust document.
    #[must_use]
    pub fn trust(&self) -> &Verified<TrustDocument> {
        &self.trust
    }

    /// Whether the hub greeted and the connection stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Whether an offer is being fetched or stored.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.fetch.is_some() || self.storing.is_some()
    }

    /// The longest raw length an answer to this `Need` may declare; `None` when nobody waits for it.
    #[must_use]
    pub fn transfer_limit(&self, transfer: TransferId) -> Option<u64> {
        self.fetch.as_ref()?.limit(transfer)
    }

    fn lost(&mut self) {
        self.link = Link::Down;
        // What was fetched is kept: the same offer comes again, and goes on where it stood.
        if let Some(fetch) = &mut self.fetch {
            fetch.disconnected();
        }
        self.taken = None;
        self.refused = None;
        self.renewing = false;
        self.outbox.disconnected();
    }

    fn leave(&mut self, after_ms: Option<u64>, reject: Option<RejectCode>, message: String) {
        self.link = Link::Leaving;
        self.actions.push_back(Action::Reconnect { after_ms, reject, message });
    }

    fn timers(&mut self, now: Now) {
        match &self.link {
            Link::Down | Link::Leaving => {}
            Link::Greeting { until, .. } => {
                if now.mono_ms >= *until {
                    self.leave(None, None, format!("the hub did not greet within {} s", GREETING_MS / 1000));
                }
            }
            Link::Up { drain } => {
                if let Some(Drain { until, after_ms }) = *drain
                    && (now.mono_ms >= until || (self.fetch.is_none() && self.outbox.is_settled()))
                {
                    self.leave(Some(after_ms), None, "the hub is going away".into());
                } else if let Some(since) = self.fetch.as_ref().and_then(Fetch::oldest)
                    && now.mono_ms >= since + TRANSFER_MS
                {
                    self.leave(None, None, format!("a transfer took longer than {} s", TRANSFER_MS / 1000));
                }
            }
        }
    }

    fn message(&mut self, now: Now, message: HubToAgent, local: &dyn Blobs) {
        match (&mut self.link, message) {
            (Link::Down | Link::Leaving, _) => {}
            (_, HubToAgent::Reject { code, message }) => {
                self.leave(None, Some(code), format!("the hub refused the session ({}): {message}", code.as_str()));
            }
            (Link::Greeting { hello_sent: true, .. }, HubToAgent::Welcome(welcome)) => {
                self.link = Link::Up { drain: None };
                self.outbox.connected(welcome.reports_taken, welcome.wire);
                self.actions
                    .push_back(Action::Established { hub_version: welcome.hub_version, session: welcome.session });
            }
            (Link::Greeting { .. }, _) | (Link::Up { .. }, HubToAgent::Welcome(_)) => {
                self.leave(None, None, "the hub broke the protocol: its greeting came at the wrong place".into());
            }
            (Link::Up { .. }, HubToAgent::Offer(offer)) => self.offer(now, offer, local),
            (Link::Up { .. }, HubToAgent::ReportsTaken { n }) => self.outbox.taken(n),
            (Link::Up { .. }, HubToAgent::Hint(hint)) => self.actions.push_back(Action::Hint(hint)),
            (Link::Up { .. }, HubToAgent::Renewed { chain }) => {
                self.renewing = false;
                self.actions.push_back(Action::Renewed { chain });
            }
            (Link::Up { .. }, HubToAgent::RenewRefused { message }) => {
                self.renewing = false;
                self.actions.push_back(Action::RenewRefused { message });
            }
            (Link::Up { drain }, HubToAgent::Drain { retry_after_seconds }) => {
                let after_ms = u64::from(retry_after_seconds) * 1000;
                *drain = Some(Drain { until: now.mono_ms + DRAIN_MS, after_ms });
            }
        }
    }

    fn refuse(&mut self, generation: Generation, code: RefusalCode, message: String) {
        self.refused = Some(Refused { generation, code, message: message.clone() });
        self.actions.push_back(Action::Refused { generation, code, message });
    }

    fn offer(&mut self, now: Now, offer: Offer, local: &dyn Blobs) {
        let unix = now.unix_ms / 1000;
        for document in offer.trust {
            match trust::verify_next(&self.trust, document) {
                Ok(next) => {
                    self.trust = next.clone();
                    self.actions.push_back(Action::Trust(Box::new(next)));
                }
                Err(error) => {
                    return self.refuse(Generation::default(), RefusalCode::TrustChain, chain_text(&error));
                }
            }
        }
        // An offer in the ledger's hands will raise the ratchet; nothing at or below it may pass meanwhile.
        let floor = self.storing.or(self.ratchet);
        let judge = Judge {
            cluster: self.setup.cluster,
            kube_uid: &self.setup.kube_uid,
            trust: &self.trust,
            floor,
            complete: self.complete || self.storing.is_some(),
            unix,
        };
        match judge.head(offer.head) {
            Err(Judged { generation, code, message }) => self.refuse(generation, code, message),
            Ok(Accepted::Again) => {
                if self.storing.is_none() {
                    self.taken = floor.map(|f| f.generation);
                }
            }
            Ok(Accepted::New(head)) => {
                let ratchet = Ratchet { generation: head.generation, head: Digest::of(&head.signed().bytes) };
                if let Some(fetch) = &self.fetch {
                    if fetch.head == ratchet {
                        // The same offer after a reconnect: go on.
                        return self.advance(local);
                    }
                    if fetch.head.generation == ratchet.generation {
                        let message = format!("two different heads claim generation {}", ratchet.generation);
                        return self.refuse(ratchet.generation, RefusalCode::Equivocation, message);
                    }
                }
                // Whatever was fetched for the offer before may be part of this one.
                let at_hand = self.fetch.take().map(Fetch::into_blobs).unwrap_or_default();
                self.fetch = Some(Fetch::new(ratchet, *head, at_hand));
                self.advance(local);
            }
        }
    }

    /// Goes on with the offer being fetched: the next level, the end, or a refusal.
    fn advance(&mut self, local: &dyn Blobs) {
        let Some(fetch) = &mut self.fetch else { return };
        match fetch.advance(local) {
            Step::Wait => {}
            Step::Failed(code, message) => {
                let generation = fetch.head.generation;
                self.fetch = None;
                self.refuse(generation, code, message);
            }
            Step::Done => {
                // One bundle at a time goes to the ledger: the newer waits until the older is settled.
                if self.storing.is_some() {
                    return;
                }
                if let Some(fetch) = self.fetch.take() {
                    self.storing = Some(fetch.head);
                    let (head, fetched) = fetch.finish();
                    self.actions.push_back(Action::Bundle { head: Box::new(head), fetched });
                }
            }
        }
    }
}

/// An error with all its causes in one line.
pub(super) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
