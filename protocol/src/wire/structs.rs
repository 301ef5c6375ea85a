//! The payloads, field by field in wire order. Never reorder, never remove; a new field is a new wire version.

use bincode::{Decode, Encode};

#[derive(Encode, Decode)]
pub(super) struct Generation {
    pub(super) trust_epoch: u64,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
}

#[derive(Encode, Decode)]
pub(super) struct Ratchet {
    pub(super) generation: Generation,
    pub(super) head: [u8; 32],
}

#[derive(Encode, Decode)]
pub(super) struct Signature {
    pub(super) key: [u8; 16],
    pub(super) signature: [u8; 64],
}

#[derive(Encode, Decode)]
pub(super) struct Signed {
    pub(super) bytes: Vec<u8>,
    pub(super) signatures: Vec<Signature>,
}

#[derive(Encode, Decode)]
pub(super) struct Unit {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: UnitKind,
}

#[derive(Encode, Decode)]
pub(super) enum UnitKind {
    Kustomization,
    HelmRelease,
}

#[derive(Encode, Decode)]
pub(super) struct Hello {
    pub(super) wire_max: u8,
    pub(super) agent_version: String,
    pub(super) cluster: [u8; 16],
    pub(super) kube_uid: String,
    pub(super) ratchet: Option<Ratchet>,
    pub(super) trust_version: u64,
    pub(super) session: u64,
    pub(super) pod: String,
}

#[derive(Encode, Decode)]
pub(super) struct Need {
    pub(super) transfer: u64,
    pub(super) digests: Vec<[u8; 32]>,
}

#[derive(Encode, Decode)]
pub(super) struct Taken {
    pub(super) generation: Generation,
}

#[derive(Encode, Decode)]
pub(super) struct Refused {
    pub(super) generation: Generation,
    pub(super) code: RefusalCode,
    pub(super) message: String,
}

#[derive(Encode, Decode)]
pub(super) enum RefusalCode {
    NotTrusted,
    TrustChain,
    WrongCluster,
    Older,
    Equivocation,
    Expired,
    Future,
    BadBundle,
    Incomplete,
    LedgerFull,
    LedgerFailed,
}

#[derive(Encode, Decode)]
pub(super) struct ClusterReport {
    pub(super) n: u64,
    pub(super) json: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(super) struct UnitReport {
    pub(super) unit: Unit,
    pub(super) json: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(super) struct UnitReports {
    pub(super) n: u64,
    pub(super) reports: Vec<UnitReport>,
}

#[derive(Encode, Decode)]
pub(super) struct UnitsGone {
    pub(super) n: u64,
    pub(super) units: Vec<Unit>,
}

#[derive(Encode, Decode)]
pub(super) struct SnapshotComplete {
    pub(super) n: u64,
}

#[derive(Encode, Decode)]
pub(super) struct Facts {
    pub(super) n: u64,
    pub(super) json: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(super) struct Renew {
    pub(super) csr: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(super) struct Welcome {
    pub(super) wire: u8,
    pub(super) hub_version: String,
    pub(super) session: u64,
    pub(super) reports_taken: u64,
}

#[derive(Encode, Decode)]
pub(super) struct Offer {
    pub(super) head: Signed,
    pub(super) trust: Vec<Signed>,
}

#[derive(Encode, Decode)]
pub(super) struct ReportsTaken {
    pub(super) n: u64,
}

#[derive(Encode, Decode)]
pub(super) enum Hint {
    ReconcileAll,
    Reconcile(Unit),
}

#[derive(Encode, Decode)]
pub(super) struct Renewed {
    pub(super) chain: Vec<Vec<u8>>,
}

#[derive(Encode, Decode)]
pub(super) struct RenewRefused {
    pub(super) message: String,
}

#[derive(Encode, Decode)]
pub(super) struct Drain {
    pub(super) retry_after_seconds: u32,
}

#[derive(Encode, Decode)]
pub(super) struct Reject {
    pub(super) code: RejectCode,
    pub(super) message: String,
}

#[derive(Encode, Decode)]
pub(super) enum RejectCode {
    Version,
    WrongCluster,
    WrongKubeUid,
    Revoked,
    Replaced,
    Protocol,
    TooSlow,
    Busy,
}

#[derive(Encode, Decode)]
pub(super) struct EnrollRequest {
    pub(super) wire_max: u8,
    pub(super) token: [u8; 8],
    pub(super) secret: [u8; 32],
    pub(super) csr: Vec<u8>,
    pub(super) kube_uid: String,
    pub(super) agent_version: String,
}

#[derive(Encode, Decode)]
pub(super) struct EnrollGrant {
    pub(super) cluster: [u8; 16],
    pub(super) name: String,
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) authorities: Vec<Vec<u8>>,
    pub(super) trust: Vec<Signed>,
}

#[derive(Encode, Decode)]
pub(super) struct EnrollRefused {
    pub(super) code: EnrollRefusal,
    pub(super) message: String,
}

#[derive(Encode, Decode)]
pub(super) enum EnrollRefusal {
    UnknownToken,
    Used,
    Expired,
    AlreadyEnrolled,
    RateLimited,
    BadRequest,
    Version,
    Unavailable,
}

#[derive(Encode, Decode)]
pub(super) struct Transfer {
    pub(super) transfer: u64,
    pub(super) blobs: u32,
    pub(super) raw_length: u64,
}

#[derive(Encode, Decode)]
pub(super) struct Ask {
    pub(super) deadline_ms: u32,
    pub(super) json: Vec<u8>,
}

#[derive(Encode, Decode)]
pub(super) struct Answered {
    pub(super) json: Vec<u8>,
}
