//! Between domain messages and payloads: every rule that the layout itself does not hold is checked here.

use super::structs as w;
use super::{FrameHeader, FrameType, Message, WireError, codec, limits};
use crate::ask::{Answered, Ask};
use crate::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused, EnrollRequest};
use crate::facts::FACTS_BYTES;
use crate::id::{ClusterId, Digest, Generation, KeyId, TokenId, TransferId, UnitId, UnitKind};
use crate::message::{
    AgentToHub, Hello, Hint, HubToAgent, Need, Offer, RefusalCode, Refused, RejectCode, WIRE_VERSION, Welcome,
};
use crate::report::{ClusterReport, UnitReport};
use crate::session::Ratchet;
use crate::signing::{KeySignature, Signed};
use crate::token::TokenSecret;
use crate::wire::transfer::TransferHeader;

/// Encodes a payload into its frame.
fn frame<T: bincode::Encode>(kind: FrameType, wire: u8, payload: &T) -> Result<Vec<u8>, WireError> {
    FrameHeader::frame(kind, wire, &codec::encode(kind.name(), payload)?)
}

fn invalid(what: &'static str, reason: impl Into<String>) -> WireError {
    WireError::Invalid { what, reason: reason.into() }
}

fn count(what: &'static str, of: &str, len: usize, least: usize, most: usize) -> Result<(), WireError> {
    if (least..=most).contains(&len) {
        return Ok(());
    }
    Err(invalid(what, format!("{len} {of}, {least} to {most} are allowed")))
}

/// A name from the other side: bounded, and nothing that could forge a log line.
fn name(what: &'static str, field: &str, text: String) -> Result<String, WireError> {
    if text.len() > limits::NAME_BYTES {
        return Err(invalid(what, format!("its {field} has {} bytes", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(what, format!("its {field} has control characters")));
    }
    Ok(text)
}

/// A text for people from the other side: control characters other than line breaks become spaces.
fn text(text: &str) -> String {
    let cut = shorten(text, limits::MESSAGE_BYTES);
    cut.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// At most that many bytes, cut at a character.
fn shorten(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl From<Generation> for w::Generation {
    fn from(g: Generation) -> Self {
        Self { trust_epoch: g.trust_epoch, epoch: g.epoch, sequence: g.sequence }
    }
}

impl From<w::Generation> for Generation {
    fn from(g: w::Generation) -> Self {
        Self { trust_epoch: g.trust_epoch, epoch: g.epoch, sequence: g.sequence }
    }
}

fn unit_out(unit: &UnitId) -> w::Unit {
    let kind = match unit.kind {
        UnitKind::Kustomization => w::UnitKind::Kustomization,
        UnitKind::HelmRelease => w::UnitKind::HelmRelease,
    };
    w::Unit { namespace: unit.namespace.clone(), name: unit.name.clone(), kind }
}

fn unit_in(what: &'static str, unit: w::Unit) -> Result<UnitId, WireError> {
    let kind = match unit.kind {
        w::UnitKind::Kustomization => UnitKind::Kustomization,
        w::UnitKind::HelmRelease => UnitKind::HelmRelease,
    };
    Ok(UnitId {
        namespace: name(what, "unit namespace", unit.namespace)?,
        name: name(what, "unit name", unit.name)?,
        kind,
    })
}

fn signed_out(signed: &Signed) -> w::Signed {
    w::Signed {
        bytes: signed.bytes.clone(),
        signatures: signed
            .signatures
            .iter()
            .map(|s| w::Signature { key: *s.key.as_bytes(), signature: s.signature })
            .collect(),
    }
}

fn signed_in(what: &'static str, signed: w::Signed) -> Result<Signed, WireError> {
    count(what, "signatures", signed.signatures.len(), 1, limits::SIGNATURES)?;
    Ok(Signed {
        bytes: signed.bytes,
        signatures: signed
            .signatures
            .into_iter()
            .map(|s| KeySignature { key: KeyId::from_bytes(s.key), signature: s.signature })
            .collect(),
    })
}

fn trust_in(what: &'static str, trust: Vec<w::Signed>) -> Result<Vec<Signed>, WireError> {
    count(what, "trust documents", trust.len(), 0, limits::TRUST_DOCUMENTS)?;
    trust.into_iter().map(|t| signed_in(what, t)).collect()
}

/// Declares the two directions of an append-only enum of codes.
macro_rules! codes {
    ($domain:ident { $($name:ident)+ }) => {
        impl From<$domain> for w::$domain {
            fn from(code: $domain) -> Self {
                match code { $($domain::$name => Self::$name,)+ }
            }
        }
        impl From<w::$domain> for $domain {
            fn from(code: w::$domain) -> Self {
                match code { $(w::$domain::$name => Self::$name,)+ }
            }
        }
    };
}

codes!(RefusalCode {
    NotTrusted TrustChain WrongCluster Older Equivocation Expired Future BadBundle Incomplete LedgerFull LedgerFailed
});
codes!(RejectCode { Version WrongCluster WrongKubeUid Revoked Replaced Protocol TooSlow Busy });
codes!(EnrollRefusal { UnknownToken Used Expired AlreadyEnrolled RateLimited BadRequest Version Unavailable });

fn json<T: serde::Serialize>(what: &'static str, value: &T, limit: usize) -> Result<Vec<u8>, WireError> {
    let bytes = serde_json::to_vec(value).map_err(|e| invalid(what, e.to_string()))?;
    if bytes.len() > limit {
        return Err(WireError::TooLong { what, len: bytes.len() as u64, limit: limit as u64 });
    }
    Ok(bytes)
}

fn at_most<'a>(what: &'static str, bytes: &'a [u8], limit: usize) -> Result<&'a [u8], WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong { what, len: bytes.len() as u64, limit: limit as u64 });
    }
    Ok(bytes)
}

impl Message for AgentToHub {
    fn accepts(kind: FrameType) -> bool {
        use FrameType as T;
        matches!(
            kind,
            T::Hello
                | T::Need
                | T::Taken
                | T::Refused
                | T::ClusterReport
                | T::UnitReports
                | T::UnitsGone
                | T::SnapshotComplete
                | T::Facts
                | T::Renew
        )
    }

    fn session_wire(&self) -> Option<u8> {
        match self {
            Self::Hello(hello) => Some(hello.wire_max.min(WIRE_VERSION)),
            _ => None,
        }
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        use FrameType as T;
        match self {
            Self::Hello(h) => frame(
                T::Hello,
                wire,
                &w::Hello {
                    wire_max: h.wire_max,
                    agent_version: h.agent_version.clone(),
                    cluster: *h.cluster.as_bytes(),
                    kube_uid: h.kube_uid.clone(),
                    ratchet: h
                        .ratchet
                        .map(|r| w::Ratchet { generation: r.generation.into(), head: *r.head.as_bytes() }),
                    trust_version: h.trust_version,
                    session: h.session,
                    pod: h.pod.clone(),
                },
            ),
            Self::Need(need) => {
                let digests = need.digests.iter().map(|d| *d.as_bytes()).collect();
                frame(T::Need, wire, &w::Need { transfer: need.transfer.0, digests })
            }
            Self::Taken { generation } => frame(T::Taken, wire, &w::Taken { generation: (*generation).into() }),
            Self::Refused(r) => frame(
                T::Refused,
                wire,
                &w::Refused { generation: r.generation.into(), code: r.code.into(), message: text(&r.message) },
            ),
            Self::ClusterReport { n, report } => {
                let json = json("cluster report", report, limits::CLUSTER_REPORT_BYTES)?;
                frame(T::ClusterReport, wire, &w::ClusterReport { n: *n, json })
            }
            Self::UnitReports { n, reports } => {
                let reports = reports
                    .iter()
                    .map(|r| {
                        let json = json("unit report", r, limits::UNIT_REPORT_BYTES)?;
                        Ok(w::UnitReport { unit: unit_out(&r.unit), json })
                    })
                    .collect::<Result<_, WireError>>()?;
                frame(T::UnitReports, wire, &w::UnitReports { n: *n, reports })
            }
            Self::UnitsGone { n, units } => {
                frame(T::UnitsGone, wire, &w::UnitsGone { n: *n, units: units.iter().map(unit_out).collect() })
            }
            Self::SnapshotComplete { n } => frame(T::SnapshotComplete, wire, &w::SnapshotComplete { n: *n }),
            Self::Facts { n, facts } => {
                let json = facts.to_bytes();
                if json.len() > FACTS_BYTES {
                    let (len, limit) = (json.len() as u64, FACTS_BYTES as u64);
                    return Err(WireError::TooLong { what: "facts", len, limit });
                }
                frame(T::Facts, wire, &w::Facts { n: *n, json })
            }
            Self::Renew { csr } => frame(T::Renew, wire, &w::Renew { csr: csr.clone() }),
        }
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        use FrameType as T;
        let what = kind.name();
        Ok(match kind {
            T::Hello => {
                let h: w::Hello = codec::decode(what, payload)?;
                Self::Hello(Hello {
                    wire_max: h.wire_max,
                    agent_version: name(what, "agent version", h.agent_version)?,
                    cluster: ClusterId::from_bytes(h.cluster),
                    kube_uid: name(what, "kube-system UID", h.kube_uid)?,
                    ratchet: h
                        .ratchet
                        .map(|r| Ratchet { generation: r.generation.into(), head: Digest::from_bytes(r.head) }),
                    trust_version: h.trust_version,
                    session: h.session,
                    pod: name(what, "pod", h.pod)?,
                })
            }
            T::Need => {
                let need: w::Need = codec::decode(what, payload)?;
                count(what, "digests", need.digests.len(), 1, limits::DIGESTS_PER_NEED)?;
                let distinct: std::collections::BTreeSet<&[u8; 32]> = need.digests.iter().collect();
                if distinct.len() != need.digests.len() {
                    return Err(invalid(what, "a digest stands twice"));
                }
                Self::Need(Need {
                    transfer: TransferId(need.transfer),
                    digests: need.digests.into_iter().map(Digest::from_bytes).collect(),
                })
            }
            T::Taken => Self::Taken { generation: codec::decode::<w::Taken>(what, payload)?.generation.into() },
            T::Refused => {
                let r: w::Refused = codec::decode(what, payload)?;
                Self::Refused(Refused {
                    generation: r.generation.into(),
                    code: r.code.into(),
                    message: text(&r.message),
                })
            }
            T::ClusterReport => {
                let r: w::ClusterReport = codec::decode(what, payload)?;
                let report: ClusterReport = serde_json::from_slice(&r.json)
                    .unwrap_or_else(|error| ClusterReport::unreadable(&error.to_string()));
                Self::ClusterReport { n: r.n, report: Box::new(report) }
            }
            T::UnitReports => {
                let r: w::UnitReports = codec::decode(what, payload)?;
                count(what, "reports", r.reports.len(), 1, limits::UNITS_PER_REPORT)?;
                let reports = r.reports.into_iter().map(|r| unit_report(what, r)).collect::<Result<Vec<_>, _>>()?;
                Self::UnitReports { n: r.n, reports }
            }
            T::UnitsGone => {
                let gone: w::UnitsGone = codec::decode(what, payload)?;
                count(what, "units", gone.units.len(), 1, limits::UNITS_GONE)?;
                let units = gone.units.into_iter().map(|u| unit_in(what, u)).collect::<Result<_, _>>()?;
                Self::UnitsGone { n: gone.n, units }
            }
            T::SnapshotComplete => Self::SnapshotComplete { n: codec::decode::<w::SnapshotComplete>(what, payload)?.n },
            T::Facts => {
                let f: w::Facts = codec::decode(what, payload)?;
                if f.json.len() > FACTS_BYTES {
                    let (len, limit) = (f.json.len() as u64, FACTS_BYTES as u64);
                    return Err(WireError::TooLong { what, len, limit });
                }
                // Values may be what people put into a ConfigMap: the decoder's words are not passed on.
                let facts = serde_json::from_slice(&f.json).map_err(|_| invalid(what, "they cannot be read"))?;
                Self::Facts { n: f.n, facts: Box::new(facts) }
            }
            T::Renew => Self::Renew { csr: codec::decode::<w::Renew>(what, payload)?.csr },
            _ => return Err(WireError::Misplaced(what)),
        })
    }
}

/// A report the hub cannot read says so for its unit; one that speaks of another unit is a breach.
fn unit_report(what: &'static str, report: w::UnitReport) -> Result<UnitReport, WireError> {
    let unit = unit_in(what, report.unit)?;
    if report.json.len() > limits::UNIT_REPORT_BYTES {
        let (len, limit) = (report.json.len() as u64, limits::UNIT_REPORT_BYTES as u64);
        return Err(WireError::TooLong { what: "unit report", len, limit });
    }
    match serde_json::from_slice::<UnitReport>(&report.json) {
        Ok(parsed) if parsed.unit == unit => Ok(parsed),
        Ok(parsed) => Err(invalid(what, format!("the report of {unit} says it is of {}", parsed.unit))),
        Err(error) => Ok(UnitReport::unreadable(unit, &error.to_string())),
    }
}

impl Message for HubToAgent {
    fn accepts(kind: FrameType) -> bool {
        use FrameType as T;
        matches!(
            kind,
            T::Welcome | T::Offer | T::ReportsTaken | T::Hint | T::Renewed | T::RenewRefused | T::Drain | T::Reject
        )
    }

    fn session_wire(&self) -> Option<u8> {
        match self {
            Self::Welcome(welcome) => Some(welcome.wire.min(WIRE_VERSION)),
            _ => None,
        }
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        use FrameType as T;
        match self {
            Self::Welcome(m) => frame(
                T::Welcome,
                wire,
                &w::Welcome {
                    wire: m.wire,
                    hub_version: m.hub_version.clone(),
                    session: m.session,
                    reports_taken: m.reports_taken,
                },
            ),
            Self::Offer(m) => frame(
                T::Offer,
                wire,
                &w::Offer { head: signed_out(&m.head), trust: m.trust.iter().map(signed_out).collect() },
            ),
            Self::ReportsTaken { n } => frame(T::ReportsTaken, wire, &w::ReportsTaken { n: *n }),
            Self::Hint(Hint::Reconcile { unit: None }) => frame(T::Hint, wire, &w::Hint::ReconcileAll),
            Self::Hint(Hint::Reconcile { unit: Some(unit) }) => {
                frame(T::Hint, wire, &w::Hint::Reconcile(unit_out(unit)))
            }
            Self::Renewed { chain } => frame(T::Renewed, wire, &w::Renewed { chain: chain.clone() }),
            Self::RenewRefused { message } => frame(T::RenewRefused, wire, &w::RenewRefused { message: text(message) }),
            Self::Drain { retry_after_seconds } => {
                frame(T::Drain, wire, &w::Drain { retry_after_seconds: *retry_after_seconds })
            }
            Self::Reject { code, message } => {
                frame(T::Reject, wire, &w::Reject { code: (*code).into(), message: text(message) })
            }
        }
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        use FrameType as T;
        let what = kind.name();
        Ok(match kind {
            T::Welcome => {
                let m: w::Welcome = codec::decode(what, payload)?;
                if m.wire == 0 || m.wire > WIRE_VERSION {
                    return Err(invalid(what, format!("wire version {}", m.wire)));
                }
                Self::Welcome(Welcome {
                    wire: m.wire,
                    hub_version: name(what, "hub version", m.hub_version)?,
                    session: m.session,
                    reports_taken: m.reports_taken,
                })
            }
            T::Offer => {
                let m: w::Offer = codec::decode(what, payload)?;
                Self::Offer(Offer { head: signed_in(what, m.head)?, trust: trust_in(what, m.trust)? })
            }
            T::ReportsTaken => Self::ReportsTaken { n: codec::decode::<w::ReportsTaken>(what, payload)?.n },
            T::Hint => match codec::decode(what, payload)? {
                w::Hint::ReconcileAll => Self::Hint(Hint::Reconcile { unit: None }),
                w::Hint::Reconcile(unit) => Self::Hint(Hint::Reconcile { unit: Some(unit_in(what, unit)?) }),
            },
            T::Renewed => {
                let chain = codec::decode::<w::Renewed>(what, payload)?.chain;
                count(what, "certificates", chain.len(), 1, limits::CHAIN)?;
                Self::Renewed { chain }
            }
            T::RenewRefused => {
                Self::RenewRefused { message: text(&codec::decode::<w::RenewRefused>(what, payload)?.message) }
            }
            T::Drain => {
                let retry_after_seconds = codec::decode::<w::Drain>(what, payload)?.retry_after_seconds;
                Self::Drain { retry_after_seconds }
            }
            T::Reject => {
                let m: w::Reject = codec::decode(what, payload)?;
                Self::Reject { code: m.code.into(), message: text(&m.message) }
            }
            _ => return Err(WireError::Misplaced(what)),
        })
    }
}

impl Message for EnrollRequest {
    fn accepts(kind: FrameType) -> bool {
        kind == FrameType::EnrollRequest
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        let payload = w::EnrollRequest {
            wire_max: self.wire_max,
            token: *self.token.as_bytes(),
            secret: *self.secret.expose(),
            csr: self.csr.clone(),
            kube_uid: self.kube_uid.clone(),
            agent_version: self.agent_version.clone(),
        };
        frame(FrameType::EnrollRequest, wire, &payload)
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let what = FrameType::EnrollRequest.name();
        if kind != FrameType::EnrollRequest {
            return Err(WireError::Misplaced(kind.name()));
        }
        let r: w::EnrollRequest = codec::decode(what, payload)?;
        Ok(Self {
            wire_max: r.wire_max,
            token: TokenId::from_bytes(r.token),
            secret: TokenSecret::from_bytes(r.secret),
            csr: r.csr,
            kube_uid: name(what, "kube-system UID", r.kube_uid)?,
            agent_version: name(what, "agent version", r.agent_version)?,
        })
    }
}

impl Message for EnrollAnswer {
    fn accepts(kind: FrameType) -> bool {
        matches!(kind, FrameType::EnrollGrant | FrameType::EnrollRefused)
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Granted(g) => frame(
                FrameType::EnrollGrant,
                wire,
                &w::EnrollGrant {
                    cluster: *g.cluster.as_bytes(),
                    name: g.name.as_str().to_owned(),
                    chain: g.chain.clone(),
                    authorities: g.authorities.clone(),
                    trust: g.trust.iter().map(signed_out).collect(),
                },
            ),
            Self::Refused(r) => frame(
                FrameType::EnrollRefused,
                wire,
                &w::EnrollRefused { code: r.code.into(), message: text(&r.message) },
            ),
        }
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let what = kind.name();
        match kind {
            FrameType::EnrollGrant => {
                let g: w::EnrollGrant = codec::decode(what, payload)?;
                count(what, "certificates", g.chain.len(), 1, limits::CHAIN)?;
                count(what, "authorities", g.authorities.len(), 1, limits::AUTHORITIES)?;
                count(what, "trust documents", g.trust.len(), 1, limits::TRUST_DOCUMENTS)?;
                Ok(Self::Granted(EnrollGrant {
                    cluster: ClusterId::from_bytes(g.cluster),
                    name: g.name.parse().map_err(|e: crate::id::IdError| invalid(what, e.to_string()))?,
                    chain: g.chain,
                    authorities: g.authorities,
                    trust: trust_in(what, g.trust)?,
                }))
            }
            FrameType::EnrollRefused => {
                let r: w::EnrollRefused = codec::decode(what, payload)?;
                Ok(Self::Refused(EnrollRefused { code: r.code.into(), message: text(&r.message) }))
            }
            _ => Err(WireError::Misplaced(what)),
        }
    }
}

impl Message for TransferHeader {
    fn accepts(kind: FrameType) -> bool {
        kind == FrameType::Transfer
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        let payload = w::Transfer { transfer: self.transfer.0, blobs: self.blobs, raw_length: self.raw_length };
        frame(FrameType::Transfer, wire, &payload)
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let what = FrameType::Transfer.name();
        if kind != FrameType::Transfer {
            return Err(WireError::Misplaced(kind.name()));
        }
        let t: w::Transfer = codec::decode(what, payload)?;
        count(what, "blobs", t.blobs as usize, 0, limits::DIGESTS_PER_NEED)?;
        if t.raw_length > limits::TRANSFER_RAW_BYTES {
            return Err(WireError::TooLong { what, len: t.raw_length, limit: limits::TRANSFER_RAW_BYTES });
        }
        Ok(Self { transfer: TransferId(t.transfer), blobs: t.blobs, raw_length: t.raw_length })
    }
}

impl Message for Ask {
    fn accepts(kind: FrameType) -> bool {
        kind == FrameType::Ask
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        let json = at_most("question", &self.json, limits::ASK_BYTES)?;
        frame(FrameType::Ask, wire, &w::Ask { deadline_ms: self.deadline_ms, json: json.to_vec() })
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        if kind != FrameType::Ask {
            return Err(WireError::Misplaced(kind.name()));
        }
        let ask: w::Ask = codec::decode(kind.name(), payload)?;
        at_most("question", &ask.json, limits::ASK_BYTES)?;
        Ok(Self { deadline_ms: ask.deadline_ms, json: ask.json })
    }
}

impl Message for Answered {
    fn accepts(kind: FrameType) -> bool {
        kind == FrameType::Answered
    }

    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError> {
        let json = at_most("answer", &self.json, limits::ANSWER_BYTES)?;
        frame(FrameType::Answered, wire, &w::Answered { json: json.to_vec() })
    }

    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        if kind != FrameType::Answered {
            return Err(WireError::Misplaced(kind.name()));
        }
        let answered: w::Answered = codec::decode(kind.name(), payload)?;
        at_most("answer", &answered.json, limits::ANSWER_BYTES)?;
        Ok(Self { json: answered.json })
    }
}
