//! The hub's side of one session: check the hello, offer, serve blobs the offer references, take in reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use crate::message::{AgentToHub, Hello, Hint, HubToAgent, RefusalCode, RejectCode};
use crate::report::{ClusterReport, UnitReport};
use crate::session::Now;
use crate::signing::Signed;

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

impl Session {
    /// A session whose peer has not said hello.
    #[must_use]
    pub fn new(now: Now, setup: Setup) -> Self;
    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input);
    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<Action>;
    /// The next message to send, if any. Ask when the stream can take one.
    pub fn next_message(&mut self, now: Now) -> Option<HubToAgent>;
    /// When to feed [`Input::Tick`] at the latest, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64>;
}
