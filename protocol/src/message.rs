//! What hub and agent say on the control stream. `WIRE.md` is normative; [`crate::wire`] holds the bytes.

use crate::facts::Facts;
use crate::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use crate::report::{ClusterReport, UnitReport};
use crate::session::Ratchet;
use crate::signing::Signed;

/// The newest wire version this code speaks.
pub const WIRE_VERSION: u8 = 4;
/// The first version with [`AgentToHub::Facts`].
pub const FACTS_SINCE: u8 = 2;
/// The first version in which a hub may ask ([`crate::ask`]).
pub const ASK_SINCE: u8 = 3;
/// The wire version since which a hub reads [`crate::report::ClusterReport::units_at`], so that a unit report is not repeated
/// for a new generation that changes nothing of it.
pub const UNITS_AT_SINCE: u8 = 4;

/// From agent to hub.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentToHub {
    /// Always first, once.
    Hello(Hello),
    /// Asks for blobs of the offer, to arrive on one stream of their own.
    Need(Need),
    /// The offer of this generation was verified and stored in the cluster; it is being enforced.
    Taken {
        /// Which.
        generation: Generation,
    },
    /// The offer of this generation was not accepted; the cluster keeps what it has.
    Refused(Refused),
    /// The state of the agent as a whole.
    ClusterReport {
        /// Rises with every report of this cluster; see [`HubToAgent::ReportsTaken`].
        n: u64,
        /// The newest state.
        report: Box<ClusterReport>,
    },
    /// The state of some units: those that changed.
    UnitReports {
        /// As above.
        n: u64,
        /// At most [`crate::wire::limits::UNITS_PER_REPORT`] units, each at most once.
        reports: Vec<UnitReport>,
    },
    /// Units that left the cluster: their last object and record are gone.
    UnitsGone {
        /// As above.
        n: u64,
        /// Which.
        units: Vec<UnitId>,
    },
    /// Every unit the agent knows was reported in this session before this message; others are gone.
    SnapshotComplete {
        /// As above.
        n: u64,
    },
    /// What the cluster tells of itself, whole: since wire version [`FACTS_SINCE`].
    Facts {
        /// As above.
        n: u64,
        /// The newest state.
        facts: Box<Facts>,
    },
    /// Asks for a new certificate for a new key made in the cluster.
    Renew {
        /// PKCS#10 request, DER.
        csr: Vec<u8>,
    },
}

/// The agent's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest wire version the agent speaks.
    pub wire_max: u8,
    /// Version of the agent program.
    pub agent_version: String,
    /// Who it says it is; must be what its certificate says.
    pub cluster: ClusterId,
    /// UID of the `kube-system` namespace; must be the one bound at enrolment.
    pub kube_uid: String,
    /// The last head it stored, if any.
    pub ratchet: Option<Ratchet>,
    /// The version of the trust document it holds.
    pub trust_version: u64,
    /// Rises with each connection of this agent process.
    pub session: u64,
    /// The pod that leads, for people.
    pub pod: String,
}

/// A list of blobs the agent lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The agent's number for the answer; rises within a session.
    pub transfer: TransferId,
    /// At most [`crate::wire::limits::DIGESTS_PER_NEED`], none twice.
    pub digests: Vec<Digest>,
}

/// Why an offer was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The generation it claims; the default one when its head could not be believed.
    pub generation: Generation,
    /// Stable code.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

/// Stable codes of [`Refused`]. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// A signature, its purpose, its threshold or its form.
    NotTrusted,
    /// A trust document that does not follow from the one the agent holds.
    TrustChain,
    /// Made for another cluster, or for a copy of this one.
    WrongCluster,
    /// Not above the last generation the agent stored.
    Older,
    /// The same generation with other bytes.
    Equivocation,
    /// The head or the trust document is expired.
    Expired,
    /// Issued in the future, or its epoch is.
    Future,
    /// The blobs contradict the head, their digests or a limit.
    BadBundle,
    /// The hub did not send blobs that its own index names.
    Incomplete,
    /// It could not be stored in the cluster: too large for the ledger.
    LedgerFull,
    /// It could not be stored in the cluster: the API server refused or did not answer.
    LedgerFailed,
}

impl RefusalCode {
    /// As it is shown and stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTrusted => "NotTrusted",
            Self::TrustChain => "TrustChain",
            Self::WrongCluster => "WrongCluster",
            Self::Older => "Older",
            Self::Equivocation => "Equivocation",
            Self::Expired => "Expired",
            Self::Future => "Future",
            Self::BadBundle => "BadBundle",
            Self::Incomplete => "Incomplete",
            Self::LedgerFull => "LedgerFull",
            Self::LedgerFailed => "LedgerFailed",
        }
    }
}

/// From hub to agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubToAgent {
    /// The answer to a hello that was accepted.
    Welcome(Welcome),
    /// What the cluster should run.
    Offer(Offer),
    /// Reports up to this number are stored and need not be sent again.
    ReportsTaken {
        /// The highest number stored.
        n: u64,
    },
    /// Unsigned: look again now. Changes nothing about what is wanted.
    Hint(Hint),
    /// The answer to a renewal.
    Renewed {
        /// DER certificates, leaf first.
        chain: Vec<Vec<u8>>,
    },
    /// A renewal was not granted; the old certificate stays valid until it expires.
    RenewRefused {
        /// For people.
        message: String,
    },
    /// The hub is going away: finish, then come back.
    Drain {
        /// Not earlier than after this many seconds, with jitter on top.
        retry_after_seconds: u32,
    },
    /// The session is over; the connection is closed after this.
    Reject {
        /// Stable code.
        code: RejectCode,
        /// For people.
        message: String,
    },
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The wire version of this session: the lower of both maxima.
    pub wire: u8,
    /// Version of the hub program.
    pub hub_version: String,
    /// The hub's number for this session, for logs on both sides.
    pub session: u64,
    /// The highest report number the hub has stored for this cluster; the agent counts on from there.
    pub reports_taken: u64,
}

/// A head with the trust documents the agent lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The signed head.
    pub head: Signed,
    /// Trust documents after the agent's, in order, without gaps.
    pub trust: Vec<Signed>,
}

/// Something to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Reconcile one unit, or all.
    Reconcile {
        /// Which; `None`: all.
        unit: Option<UnitId>,
    },
}

/// Stable codes of [`HubToAgent::Reject`]. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// No wire version in common.
    Version,
    /// The hello and the certificate name different clusters.
    WrongCluster,
    /// The cluster is not the one that enrolled (its `kube-system` UID differs): restored from a backup, or copied.
    WrongKubeUid,
    /// The identity was revoked or the cluster removed; only a new enrolment helps.
    Revoked,
    /// A newer session of the same cluster replaced this one.
    Replaced,
    /// The agent broke the protocol.
    Protocol,
    /// The agent does not read what it is sent.
    TooSlow,
    /// Not now, come back: too many sessions at this moment, or the certificate had expired and the session was for its
    /// renewal only.
    Busy,
}

impl RejectCode {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "Version",
            Self::WrongCluster => "WrongCluster",
            Self::WrongKubeUid => "WrongKubeUid",
            Self::Revoked => "Revoked",
            Self::Replaced => "Replaced",
            Self::Protocol => "Protocol",
            Self::TooSlow => "TooSlow",
            Self::Busy => "Busy",
        }
    }

    /// Whether coming back on the same identity cannot help.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Version | Self::WrongCluster | Self::WrongKubeUid | Self::Revoked)
    }
}
