//! What the store holds, in the words of the rest of the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{BlobRef, DriftMode};
use driftless_protocol::facts::Facts;
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, ClusterName, Digest, Generation, Revision, TokenId, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ClusterReport, RecentEvent, UnitReport};
use driftless_protocol::signing::Signed;
use serde::{Deserialize, Serialize};

/// Labels of a cluster.
pub type Labels = BTreeMap<String, String>;

/// An enrolled cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// For its whole life.
    pub id: ClusterId,
    /// Unique among the active ones.
    pub name: ClusterName,
    /// Given with the join token.
    pub labels: Labels,
    /// UID of its `kube-system` namespace.
    pub kube_uid: String,
    /// Whether it may connect.
    pub state: ClusterState,
    /// BLAKE3 of the agent's public key.
    pub agent_key: Digest,
    /// The newest certificate issued.
    pub certificate: Certificate,
    /// How many certificates were issued.
    pub certificate_count: u64,
    /// When a session was last opened or a report stored, Unix milliseconds.
    pub last_seen: Option<u64>,
    /// Unix milliseconds.
    pub created: u64,
}

/// Whether a cluster may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterState {
    /// It may.
    Active,
    /// Never again under this id.
    Revoked,
}

/// A certificate issued to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// BLAKE3 of its DER.
    pub digest: Digest,
    /// Serial number, hex.
    pub serial: String,
    /// Unix seconds.
    pub not_after: u64,
}

/// The newest certificate of a cluster, which no agent has shown yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenCertificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// Unix seconds.
    pub not_after: u64,
}

/// A join token as the hub remembers it: never its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public half.
    pub id: TokenId,
    /// Of the secret.
    pub hash: [u8; 32],
    /// The name the cluster gets.
    pub name: ClusterName,
    /// The labels it gets.
    pub labels: Labels,
    /// Unix milliseconds.
    pub created: u64,
    /// Who made it.
    pub created_by: String,
    /// Unix milliseconds.
    pub expires: u64,
}

/// Wrong secrets after which a token is refused for good (`security.md` P-18).
pub const TOKEN_FAILURES: u64 = 5;

/// A join token with its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token.
    pub token: Token,
    /// Wrong secrets given for it.
    pub failures: u64,
    /// When it was redeemed, and by which cluster.
    pub used: Option<(u64, ClusterId)>,
}

/// A redemption whose secret was found right.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// Which token.
    pub token: TokenId,
    /// The id the cluster gets, unless this repeats an enrolment whose answer was lost.
    pub cluster: ClusterId,
    /// UID of its `kube-system` namespace.
    pub kube_uid: String,
    /// BLAKE3 of the agent's public key.
    pub agent_key: Digest,
    /// Unix milliseconds.
    pub now: u64,
}

/// What came of a redemption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// This cluster exists now; its certificate is still to be recorded ([`crate::Store::issued`]).
    Granted {
        /// Its id: an older one when the same key enrols again with the same token.
        cluster: ClusterId,
        /// Its name.
        name: ClusterName,
        /// Whether the cluster is new.
        new: bool,
    },
    /// No such token, or too many wrong secrets.
    Unknown,
    /// Redeemed by another key.
    Used,
    /// Past its time.
    Expired,
    /// An active cluster has this name.
    NameTaken(ClusterName),
    /// An active cluster has this `kube-system` UID.
    UidTaken(ClusterName),
}

/// Whether a certificate may open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted {
        /// The cluster.
        cluster: Box<Cluster>,
        /// The hub's number for this session: higher than every one before.
        session: u64,
        /// The highest report number stored.
        reports_taken: u64,
    },
    /// No such cluster.
    Unknown,
    /// Revoked.
    Revoked,
    /// A newer certificate of this cluster has been used: two holders of one identity.
    Superseded,
}

/// What is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// `namespace/name`.
    pub id: String,
    /// Never with a credential.
    pub url: String,
    /// `branch main`.
    pub reference: String,
    /// The last revision that was fetched whole, and when.
    pub last_good: Option<(Revision, u64)>,
    /// `Ready`, or the code of the failure.
    pub code: String,
    /// For people.
    pub message: String,
    /// The last attempt, Unix milliseconds.
    pub attempted_at: u64,
    /// Since when `code` is what it is. Set by the store.
    pub since: u64,
}

/// An offer: a signed head and what it references.
#[derive(Clone, Debug)]
pub struct Offer {
    /// To whom.
    pub cluster: ClusterId,
    /// The generation of the head before; `None`: the first. Another one there means somebody else offered meanwhile.
    pub after: Option<Generation>,
    /// Its own.
    pub generation: Generation,
    /// The signed head.
    pub head: Signed,
    /// What the head references.
    pub index: BundleBlob,
    /// The index without operator intents, equal to `index` where there are none.
    pub content: BundleBlob,
    /// Every unit body that one of the two names, with its objects.
    pub bodies: Vec<BundleBlob>,
    /// The objects that bodies name. Those of a body that is in the store already may be left out.
    pub objects: BTreeMap<Digest, Arc<[u8]>>,
    /// The revisions the head names.
    pub revisions: Vec<SourceRevision>,
    /// Unix milliseconds.
    pub now: u64,
    /// Unix seconds.
    pub expires: u64,
}

/// A blob that names others.
#[derive(Clone, Debug)]
pub struct BundleBlob {
    /// Address and length.
    pub blob: BlobRef,
    /// The bytes.
    pub bytes: Arc<[u8]>,
    /// What it names, each once.
    pub children: BTreeSet<Digest>,
}

/// A head that was offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// To whom.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: Generation,
    /// The statement as signed.
    pub head: Signed,
    /// Digest of the index.
    pub index: Digest,
    /// Digest of the index without operator intents.
    pub content: Digest,
    /// The revisions it was rendered from.
    pub revisions: Vec<SourceRevision>,
    /// Unix milliseconds.
    pub offered_at: u64,
    /// Unix seconds.
    pub expires: u64,
    /// When the agent said that it is stored in the cluster.
    pub taken_at: Option<u64>,
    /// Code and words of the agent's refusal.
    pub refused: Option<(String, String)>,
}

/// What an operator wants besides what Git says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "intent")]
pub enum Intent {
    /// Leave the unit alone.
    Suspend {
        /// Where; `None`: in every cluster.
        cluster: Option<ClusterId>,
        /// Which unit.
        unit: UnitId,
    },
    /// Another drift mode than Git says.
    DriftMode {
        /// Where; `None`: in every cluster.
        cluster: Option<ClusterId>,
        /// Which unit; `None`: every unit there, but for those that have an intent of their own.
        unit: Option<UnitId>,
        /// The mode.
        mode: DriftMode,
    },
    /// No new content.
    Freeze {
        /// Where; `None`: the whole fleet.
        cluster: Option<ClusterId>,
    },
    /// A delete that may happen.
    ApproveDelete {
        /// Where.
        cluster: ClusterId,
        /// Which object.
        key: ObjectKey,
        /// Its UID as that cluster reported it.
        uid: String,
    },
}

impl Intent {
    /// Two intents with one id replace each other.
    #[must_use]
    pub fn id(&self) -> String {
        let scope = |c: &Option<ClusterId>| c.map_or_else(|| "*".to_owned(), |c| c.to_string());
        let unit = |u: &UnitId| format!("{}/{}/{}", u.kind, u.namespace, u.name);
        match self {
            Self::Suspend { cluster, unit: u } => format!("suspend {} {}", scope(cluster), unit(u)),
            Self::DriftMode { cluster, unit: u, .. } => {
                format!("driftMode {} {}", scope(cluster), u.as_ref().map_or_else(|| "*".to_owned(), unit))
            }
            Self::Freeze { cluster } => format!("freeze {}", scope(cluster)),
            Self::ApproveDelete { cluster, key, uid } => format!("approveDelete {cluster} {key} {uid}"),
        }
    }

    /// The cluster it is for; `None`: all.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        match self {
            Self::Suspend { cluster, .. } | Self::DriftMode { cluster, .. } | Self::Freeze { cluster } => *cluster,
            Self::ApproveDelete { cluster, .. } => Some(*cluster),
        }
    }
}

/// An intent with who, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentRecord {
    /// What is wanted.
    pub intent: Intent,
    /// Who said so.
    pub actor: String,
    /// Unix milliseconds.
    pub at: u64,
    /// Why; may be empty.
    pub reason: String,
}

/// Something an agent reported, at a place in its order.
#[derive(Clone, Debug)]
pub struct ReportWrite {
    /// Whose.
    pub cluster: ClusterId,
    /// The hub's number of the session it came in.
    pub session: u64,
    /// The agent's number.
    pub n: u64,
    /// Unix milliseconds, the hub's clock.
    pub received: u64,
    /// What it says.
    pub content: ReportContent,
}

/// What a report says.
#[derive(Clone, Debug)]
pub enum ReportContent {
    /// The agent as a whole.
    Cluster(Box<ClusterReport>),
    /// These units.
    Units(Vec<UnitReport>),
    /// These units are gone.
    Gone(Vec<UnitId>),
    /// There are no other units than these.
    Snapshot(BTreeSet<UnitId>),
    /// What the cluster tells of itself.
    Facts(Box<Facts>),
}

/// The newest facts of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFacts {
    /// Whose.
    pub cluster: ClusterId,
    /// Unix milliseconds, the hub's clock.
    pub received: u64,
    /// Of the facts.
    pub digest: Digest,
    /// What it tells.
    pub facts: Facts,
}

/// The newest report of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredClusterReport {
    /// Whose.
    pub cluster: ClusterId,
    /// Unix milliseconds, the hub's clock.
    pub received: u64,
    /// What it says.
    pub report: ClusterReport,
}

/// The newest report of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredUnitReport {
    /// Whose.
    pub cluster: ClusterId,
    /// Unix milliseconds, the hub's clock.
    pub received: u64,
    /// What it says.
    pub report: UnitReport,
}

/// Something that was done to an object of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where.
    pub cluster: ClusterId,
    /// Of which unit.
    pub unit: UnitId,
    /// What.
    pub event: RecentEvent,
}

/// Which part of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Only of this cluster.
    pub cluster: Option<ClusterId>,
    /// Only of this unit.
    pub unit: Option<UnitId>,
    /// Not before this time, Unix milliseconds.
    pub since: u64,
    /// At most so many.
    pub limit: u64,
}

impl HistoryQuery {
    /// Cluster, namespace, name and kind as they stand in columns; empty for all.
    pub(crate) fn columns(&self) -> (String, String, String, String) {
        let cluster = self.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
        match &self.unit {
            Some(unit) => (cluster, unit.namespace.clone(), unit.name.clone(), unit.kind.to_string()),
            None => (cluster, String::new(), String::new(), String::new()),
        }
    }
}

/// Something somebody did, to be written to the audit log in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// Unix milliseconds.
    pub at: u64,
    /// Who.
    pub actor: String,
    /// A verb of the admin API: `suspend`, `joinToken`, ...
    pub action: String,
    /// To what.
    pub target: String,
    /// More, for people; no secrets.
    pub detail: String,
}

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Counts from 1 without gaps.
    pub n: u64,
    /// What was done.
    pub act: Act,
    /// BLAKE3 over the hash before and this row.
    pub hash: Digest,
}

/// Where the audit log was tampered with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditBreak {
    /// A row is missing.
    #[error("row {0} of the audit log is missing")]
    Missing(u64),
    /// A row, or one before it, was changed.
    #[error("row {0} of the audit log does not follow from the row before")]
    Changed(u64),
}
