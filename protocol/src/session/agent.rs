//! The agent's side: hello, accept or refuse offers, fetch what is missing, report the newest state.

use std::sync::Arc;

use crate::bundle::Blobs;
use crate::head::Head;
use crate::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use crate::message::{AgentToHub, Hint, HubToAgent, RefusalCode, RejectCode};
use crate::report::{ClusterReport, UnitReport};
use crate::session::{Now, Ratchet};
use crate::signing::Verified;
use crate::trust::TrustDocument;

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
    /// The state of a unit changed.
    Unit(Box<UnitReport>),
    /// A unit is gone with its last object.
    UnitGone(UnitId),
    /// Every unit there is was given as [`Input::Unit`]: the first pass after the start looked at all.
    UnitsKnown,
    /// A new certificate is wanted.
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

impl Session {
    /// A session that is not connected yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self;
    /// Takes in what happened. `local` are the blobs at hand (ledger and cache).
    pub fn handle(&mut self, now: Now, input: Input, local: &dyn Blobs);
    /// The next thing to do, if any.
    pub fn next_action(&mut self) -> Option<Action>;
    /// The next message to send, if any. Ask when the stream can take one.
    pub fn next_message(&mut self, now: Now) -> Option<AgentToHub>;
    /// When to feed [`Input::Tick`] at the latest, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64>;
    /// The last head stored.
    #[must_use]
    pub fn ratchet(&self) -> Option<Ratchet>;
}
