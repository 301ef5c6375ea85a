//! Bytes: golden vectors of every message, round trips, hostile input, limits.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use common::{cluster, sign_trust, trust_document};
use driftless_protocol::ask::{Answer, Answered, Ask, Question, WhyQuestion, refusal};
use driftless_protocol::bundle::Reason;
use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused, EnrollRequest};
use driftless_protocol::facts::{FACTS_BYTES, Facts};
use driftless_protocol::id::{Digest, Generation, KeyId, TokenId, TransferId, UnitId, UnitKind, hex};
use driftless_protocol::message::{
    AgentToHub, Hello, Hint, HubToAgent, Need, Offer, RefusalCode, Refused, RejectCode, Welcome,
};
use driftless_protocol::report::{ClusterReport, ObjectReport, ObjectState, PauseEnd, PauseReport, UnitReport, reason};
use driftless_protocol::session::Ratchet;
use driftless_protocol::signing::{KeySignature, Signed};
use driftless_protocol::token::TokenSecret;
use driftless_protocol::wire::transfer::{self, TransferHeader};
use driftless_protocol::wire::{FrameHeader, FrameType, Message, WireError, limits};
use proptest::prelude::*;

fn generation() -> Generation {
    Generation { trust_epoch: 1, epoch: 1_800_000_000, sequence: 300 }
}

fn signed(len: usize) -> Signed {
    Signed {
        bytes: vec![b'{'; len],
        signatures: vec![KeySignature { key: KeyId::from_bytes([2; 16]), signature: [3; 64] }],
    }
}

fn unit(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

fn unit_report(name: &str) -> UnitReport {
    let mut report = UnitReport::unreadable(unit(name), "");
    report.reason = reason::SUCCEEDED.into();
    report.message = "Applied revision: main@sha1:aa".into();
    report
}

fn agent_messages() -> Vec<(&'static str, AgentToHub)> {
    let hello = Hello {
        wire_max: 1,
        agent_version: "0.1.0".into(),
        cluster: cluster(),
        kube_uid: common::KUBE_UID.into(),
        ratchet: Some(Ratchet { generation: generation(), head: Digest::of(b"head") }),
        trust_version: 2,
        session: 3,
        pod: "driftless-agent-x7k2p".into(),
    };
    vec![
        ("hello-first", AgentToHub::Hello(Hello { ratchet: None, ..hello.clone() })),
        ("hello", AgentToHub::Hello(hello)),
        ("need", AgentToHub::Need(Need { transfer: TransferId(9), digests: vec![Digest::of(b"a"), Digest::of(b"b")] })),
        ("taken", AgentToHub::Taken { generation: generation() }),
        (
            "refused",
            AgentToHub::Refused(Refused {
                generation: generation(),
                code: RefusalCode::LedgerFailed,
                message: "no".into(),
            }),
        ),
        (
            "cluster-report",
            AgentToHub::ClusterReport {
                n: 7,
                report: Box::new(ClusterReport {
                    generation: Some(generation()),
                    leader: "driftless-agent-x7k2p".into(),
                    inventory: 42,
                    ..ClusterReport::default()
                }),
            },
        ),
        ("unit-reports", AgentToHub::UnitReports { n: 8, reports: vec![unit_report("apps"), unit_report("infra")] }),
        (
            "units-gone",
            AgentToHub::UnitsGone {
                n: 9,
                units: vec![
                    unit("apps"),
                    UnitId { namespace: "a".into(), name: "b".into(), kind: UnitKind::HelmRelease },
                ],
            },
        ),
        ("snapshot-complete", AgentToHub::SnapshotComplete { n: 10 }),
        ("renew", AgentToHub::Renew { csr: vec![0x30, 0x82] }),
    ]
}

/// Fields that came after version 1 was released: the layout is the old one, the JSON inside has more.
fn grown_messages() -> Vec<(&'static str, AgentToHub)> {
    let pause = PauseReport {
        name: "driftless-system/incident".into(),
        covers: "unit flux-system/apps".into(),
        reason: "by hand".into(),
        since: 1_795_260_000_000,
        expires: 1_795_263_600_000,
        problem: None,
    };
    let mut unit = unit_report("apps");
    (unit.pauses, unit.counts.paused) = (vec![pause.clone()], 2);
    unit.pause_ended = Some(PauseEnd {
        name: "shop/old".into(),
        at: 1_795_250_000_000,
        expired: true,
        count: 1,
        held: vec!["ConfigMap shop/x: data.k 2 -> 1 (manager kubectl)".into()],
    });
    let unusable = PauseReport { name: "shop/x".into(), problem: Some("ignored".into()), ..PauseReport::default() };
    let cluster = ClusterReport { pauses: vec![unusable, pause], ..ClusterReport::default() };
    let at = ClusterReport {
        generation: Some(generation()),
        units_at: Some(Generation { sequence: 299, ..generation() }),
        ..ClusterReport::default()
    };
    vec![
        ("unit-reports-paused", AgentToHub::UnitReports { n: 12, reports: vec![unit] }),
        ("cluster-report-paused", AgentToHub::ClusterReport { n: 13, report: Box::new(cluster) }),
        ("cluster-report-units-at", AgentToHub::ClusterReport { n: 15, report: Box::new(at) }),
    ]
}

/// What wire version 2 added.
fn newer_messages() -> Vec<(&'static str, AgentToHub)> {
    let facts = Facts {
        kubernetes_version: "v1.36.3".into(),
        apis: vec!["apps/v1/Deployment".into(), "v1/Pod".into()],
        config_maps: [("flux-system/settings".to_owned(), [("region".to_owned(), "north".to_owned())].into())].into(),
        not_told: [("flux-system/other".to_owned(), "it does not exist".to_owned())].into(),
        body_format: 0,
    };
    let grown = Facts { kubernetes_version: "v1.36.3".into(), body_format: 3, ..Facts::default() };
    vec![
        ("facts", AgentToHub::Facts { n: 11, facts: Box::new(facts) }),
        ("facts-body-format", AgentToHub::Facts { n: 14, facts: Box::new(grown) }),
    ]
}

/// What wire version 3 added; written as version 1 for ever.
fn question() -> Ask {
    let key = driftless_protocol::object::ObjectKey {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: "shop".into(),
        name: "web".into(),
    };
    Question::Why(WhyQuestion { objects: vec![key] }).pack(8_000).unwrap()
}

fn answer() -> Answered {
    Answer::refused(refusal::DISABLED, "no").pack()
}

fn hub_messages() -> Vec<(&'static str, HubToAgent)> {
    vec![
        (
            "welcome",
            HubToAgent::Welcome(Welcome { wire: 1, hub_version: "0.1.0".into(), session: 12, reports_taken: 7 }),
        ),
        ("offer", HubToAgent::Offer(Offer { head: signed(5), trust: vec![signed(2), signed(3)] })),
        ("reports-taken", HubToAgent::ReportsTaken { n: 8 }),
        ("hint-all", HubToAgent::Hint(Hint::Reconcile { unit: None })),
        ("hint-unit", HubToAgent::Hint(Hint::Reconcile { unit: Some(unit("apps")) })),
        ("renewed", HubToAgent::Renewed { chain: vec![vec![0x30], vec![0x31]] }),
        ("renew-refused", HubToAgent::RenewRefused { message: "too early".into() }),
        ("drain", HubToAgent::Drain { retry_after_seconds: 30 }),
        ("reject", HubToAgent::Reject { code: RejectCode::Busy, message: "later".into() }),
    ]
}

fn enroll_request() -> EnrollRequest {
    EnrollRequest {
        wire_max: 1,
        token: TokenId::from_bytes([5; 8]),
        secret: TokenSecret::from_bytes([6; 32]),
        csr: vec![0x30, 0x82],
        kube_uid: common::KUBE_UID.into(),
        agent_version: "0.1.0".into(),
    }
}

fn enroll_answers() -> Vec<(&'static str, EnrollAnswer)> {
    vec![
        (
            "enroll-grant",
            EnrollAnswer::Granted(EnrollGrant {
                cluster: cluster(),
                name: "staging".parse().unwrap(),
                chain: vec![vec![0x30]],
                authorities: vec![vec![0x31]],
                trust: vec![signed(2)],
            }),
        ),
        (
            "enroll-refused",
            EnrollAnswer::Refused(EnrollRefused { code: EnrollRefusal::Unavailable, message: "try again".into() }),
        ),
    ]
}

fn decode<M: Message>(frame: &[u8]) -> Result<M, WireError> {
    decode_as(frame, 1)
}

fn decode_as<M: Message>(frame: &[u8], wire: u8) -> Result<M, WireError> {
    let header: &[u8; 8] = frame.first_chunk().unwrap();
    let header = FrameHeader::parse::<M>(header, wire)?;
    M::decode(header.kind, &frame[8..])
}

/// The bytes are those of the committed file, and decode to the message. `UPDATE_VECTORS=1` writes missing files only:
/// a released vector never changes.
fn golden<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let frame = golden_bytes("v1", name, &message.encode(1).unwrap());
    assert_eq!(&decode::<M>(&frame).unwrap(), message, "{name}");
}

fn golden_bytes(version: &str, name: &str, encoded: &[u8]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(version);
    let path = folder.join(format!("{name}.hex"));
    if !path.exists() && std::env::var_os("UPDATE_VECTORS").is_some() {
        let lines: Vec<String> = encoded.chunks(32).map(hex).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> =
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect();
    assert_eq!(hex(encoded), hex(&bytes), "{name} is written with other bytes than the released ones");
    bytes
}

#[test]
fn every_message_has_the_bytes_of_its_vector() {
    for (name, message) in agent_messages().into_iter().chain(grown_messages()) {
        golden(name, &message);
    }
    for (name, message) in hub_messages() {
        golden(name, &message);
    }
    for (name, answer) in enroll_answers() {
        golden(name, &answer);
    }
    golden("transfer", &TransferHeader { transfer: TransferId(9), blobs: 2, raw_length: 1000 });
    let request = golden_bytes("v1", "enroll-request", &enroll_request().encode(1).unwrap());
    let read = decode::<EnrollRequest>(&request).unwrap();
    assert_eq!(read.secret.expose(), enroll_request().secret.expose());
    assert_eq!((read.csr, read.token), (enroll_request().csr, enroll_request().token));

    for (name, message) in newer_messages() {
        let frame = golden_bytes("v2", name, &message.encode(2).unwrap());
        assert_eq!(decode_as::<AgentToHub>(&frame, 2).unwrap(), message, "{name}");
        assert!(matches!(decode_as::<AgentToHub>(&frame, 1), Err(WireError::Version { found: 2, expected: 1 })));
    }

    let frame = golden_bytes("v3", "ask", &question().encode(3).unwrap());
    assert_eq!(decode::<Ask>(&frame).unwrap(), question());
    let frame = golden_bytes("v3", "answered", &answer().encode(3).unwrap());
    assert_eq!(decode::<Answered>(&frame).unwrap(), answer());

    // Every frame type has at least one vector.
    let mut seen: Vec<u8> = ["v1", "v2", "v3"]
        .iter()
        .flat_map(|v| {
            std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(v)).unwrap()
        })
        .map(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            u8::from_str_radix(&text[2..4], 16).unwrap()
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, FrameType::ALL.iter().map(|t| *t as u8).collect::<Vec<_>>());
}

/// All frames a peer may send, as seeds for mutation.
fn corpus() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    frames.extend(agent_messages().iter().chain(&newer_messages()).map(|(_, m)| m.encode(1).unwrap()));
    frames.extend(hub_messages().iter().map(|(_, m)| m.encode(1).unwrap()));
    frames.extend(enroll_answers().iter().map(|(_, m)| m.encode(1).unwrap()));
    frames.push(enroll_request().encode(1).unwrap());
    frames.push(question().encode(1).unwrap());
    frames.push(answer().encode(1).unwrap());
    frames.push(TransferHeader { transfer: TransferId(9), blobs: 2, raw_length: 1000 }.encode(1).unwrap());
    frames
}

fn decode_as_anything(frame: &[u8]) {
    if frame.len() < 8 {
        return;
    }
    let _ = decode::<AgentToHub>(frame);
    let _ = decode::<HubToAgent>(frame);
    let _ = decode::<EnrollRequest>(frame);
    let _ = decode::<EnrollAnswer>(frame);
    let _ = decode::<TransferHeader>(frame);
    let _ = decode::<Ask>(frame);
    let _ = decode::<Answered>(frame);
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap()
    }
}

#[test]
fn mutated_input_is_refused_or_read_but_never_panics() {
    let corpus = corpus();
    let mut dice = Dice(88_172_645_463_325_252);
    for _ in 0..100_000 {
        let mut frame = corpus[dice.roll(corpus.len())].clone();
        for _ in 0..=dice.roll(4) {
            let at = 8 + dice.roll(frame.len().saturating_sub(8));
            match dice.roll(6) {
                0 => frame.truncate(at),
                1 => frame.insert(at.min(frame.len()), 0xff),
                // The marks of bincode's longer integers: huge lengths.
                2 if at < frame.len() => frame[at] = [251, 252, 253, 254][dice.roll(4)],
                3 => frame.extend_from_slice(&[dice.roll(256) as u8; 9]),
                4 if !frame.is_empty() => {
                    let any = dice.roll(frame.len());
                    frame[any] = dice.roll(256) as u8;
                }
                _ if at < frame.len() => frame[at] ^= 1 << dice.roll(8),
                _ => {}
            }
        }
        decode_as_anything(&frame);
    }
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    for (name, message) in agent_messages() {
        let frame = message.encode(1).unwrap();
        for len in 8..frame.len() {
            assert!(decode::<AgentToHub>(&frame[..len]).is_err(), "{name} cut to {len}");
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(matches!(decode::<AgentToHub>(&longer), Err(WireError::Trailing { extra: 1, .. })), "{name}");
    }
}

#[test]
fn huge_claimed_lengths_are_refused_at_once() {
    let huge = [253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
    for kind in FrameType::ALL {
        for at in 0..12 {
            let mut payload = vec![0; at];
            payload.extend_from_slice(&huge);
            payload.extend_from_slice(&[0; 32]);
            let _ = AgentToHub::decode(*kind, &payload);
            let _ = HubToAgent::decode(*kind, &payload);
            let _ = EnrollRequest::decode(*kind, &payload);
            let _ = EnrollAnswer::decode(*kind, &payload);
            let _ = Ask::decode(*kind, &payload);
            let _ = Answered::decode(*kind, &payload);
        }
    }
    let mut need = vec![1];
    need.extend_from_slice(&huge);
    assert!(matches!(AgentToHub::decode(FrameType::Need, &need), Err(WireError::Decode { .. })));
}

#[test]
fn each_limit_passes_and_one_more_does_not() {
    let digests = |n: usize| (0..n).map(|i| Digest::of(&i.to_le_bytes())).collect::<Vec<_>>();
    let need = |n| AgentToHub::Need(Need { transfer: TransferId(u64::MAX), digests: digests(n) });
    check("digests", &need(limits::DIGESTS_PER_NEED), &need(limits::DIGESTS_PER_NEED + 1));
    check("digests, none", &need(1), &need(0));

    let long = |n: usize| UnitId::kustomization("n".repeat(limits::NAME_BYTES), format!("{n:0>253}"));
    let gone = |n: usize| AgentToHub::UnitsGone { n: u64::MAX, units: (0..n).map(long).collect() };
    check("units gone", &gone(limits::UNITS_GONE), &gone(limits::UNITS_GONE + 1));

    let reports =
        |n: usize| AgentToHub::UnitReports { n: 1, reports: (0..n).map(|i| unit_report(&i.to_string())).collect() };
    check("unit reports", &reports(limits::UNITS_PER_REPORT), &reports(limits::UNITS_PER_REPORT + 1));

    let hello = |n: usize| {
        let AgentToHub::Hello(mut hello) = agent_messages().remove(0).1 else { panic!("no hello") };
        hello.pod = "p".repeat(n);
        AgentToHub::Hello(hello)
    };
    check("names", &hello(limits::NAME_BYTES), &hello(limits::NAME_BYTES + 1));

    let offer = |n: usize| HubToAgent::Offer(Offer { head: signed(1), trust: vec![signed(100); n] });
    check("trust documents", &offer(limits::TRUST_DOCUMENTS), &offer(limits::TRUST_DOCUMENTS + 1));
    let signatures = |n: usize| {
        let mut head = signed(1);
        head.signatures = vec![head.signatures[0].clone(); n];
        HubToAgent::Offer(Offer { head, trust: Vec::new() })
    };
    check("signatures", &signatures(limits::SIGNATURES), &signatures(limits::SIGNATURES + 1));
    check("signatures, none", &signatures(1), &signatures(0));
    let chain = |n: usize| HubToAgent::Renewed { chain: vec![vec![1; 600]; n] };
    check("chain", &chain(limits::CHAIN), &chain(limits::CHAIN + 1));

    let facts = |bytes: usize| {
        let mut facts = Facts::default();
        let empty = facts.to_bytes().len();
        facts.kubernetes_version = "v".repeat(bytes - empty);
        AgentToHub::Facts { n: u64::MAX, facts: Box::new(facts) }
    };
    check("facts", &facts(FACTS_BYTES), &facts(FACTS_BYTES + 1));

    let ask = |bytes: usize| Ask { deadline_ms: u32::MAX, json: vec![b' '; bytes] };
    check("question", &ask(limits::ASK_BYTES), &ask(limits::ASK_BYTES + 1));
    let answered = |bytes: usize| Answered { json: vec![b' '; bytes] };
    check("answer", &answered(limits::ANSWER_BYTES), &answered(limits::ANSWER_BYTES + 1));

    let header = |raw_length| TransferHeader { transfer: TransferId(1), blobs: 1, raw_length };
    check("raw length", &header(limits::TRANSFER_RAW_BYTES), &header(limits::TRANSFER_RAW_BYTES + 1));

    // What does not fit its frame is not even written.
    let csr = |n: usize| AgentToHub::Renew { csr: vec![0; n] };
    assert!(csr(8 * 1024 - 3).encode(1).is_ok());
    assert!(matches!(csr(8 * 1024 - 2).encode(1), Err(WireError::TooLong { .. })));
    for kind in FrameType::ALL {
        let mut header = [1, *kind as u8, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&kind.limit().to_le_bytes());
        assert!(any_direction(&header), "{kind:?} at its limit");
        header[4..].copy_from_slice(&(kind.limit() + 1).to_le_bytes());
        assert!(!any_direction(&header), "{kind:?} beyond its limit");
    }
}

fn any_direction(header: &[u8; 8]) -> bool {
    FrameHeader::parse::<AgentToHub>(header, 1).is_ok()
        || FrameHeader::parse::<HubToAgent>(header, 1).is_ok()
        || FrameHeader::parse::<EnrollRequest>(header, 1).is_ok()
        || FrameHeader::parse::<EnrollAnswer>(header, 1).is_ok()
        || FrameHeader::parse::<TransferHeader>(header, 1).is_ok()
        || FrameHeader::parse::<Ask>(header, 1).is_ok()
        || FrameHeader::parse::<Answered>(header, 1).is_ok()
}

/// One at the limit passes, one beyond it is not written or not read.
fn check<M: Message + PartialEq + Debug>(what: &str, good: &M, bad: &M) {
    assert_eq!(&decode::<M>(&good.encode(1).unwrap()).unwrap(), good, "{what}");
    if let Ok(frame) = bad.encode(1) {
        assert!(decode::<M>(&frame).is_err(), "{what}: one beyond the limit was read");
    }
}

#[test]
fn texts_of_the_other_side_cannot_forge_lines_or_flood() {
    let refused = |message: &str| {
        let refused = Refused { generation: generation(), code: RefusalCode::Older, message: message.into() };
        let frame = AgentToHub::Refused(refused).encode(1).unwrap();
        match decode::<AgentToHub>(&frame).unwrap() {
            AgentToHub::Refused(r) => r.message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("a\u{1b}[31mb\rc"), "a [31mb c");
    assert_eq!(refused(&"é".repeat(100_000)).len(), limits::MESSAGE_BYTES);
    let AgentToHub::Hello(mut hello) = agent_messages().remove(0).1 else { panic!("no hello") };
    hello.pod = "a\nERROR forged".into();
    assert!(decode::<AgentToHub>(&AgentToHub::Hello(hello).encode(1).unwrap()).is_err());
}

#[test]
fn a_report_that_a_hub_cannot_read_is_shown_for_its_unit() {
    // A newer agent's report: an enum value this hub does not know.
    let frame = AgentToHub::UnitReports { n: 1, reports: vec![unit_report("apps")] }.encode(1).unwrap();
    let text = String::from_utf8_lossy(&frame).into_owned();
    assert!(text.contains("\"Unknown\""));
    let at = text.find("\"Unknown\"").map(|_| frame.windows(9).position(|w| w == b"\"Unknown\"").unwrap()).unwrap();
    let mut newer = frame;
    newer[at..at + 9].copy_from_slice(b"\"Newwwww\"");
    let AgentToHub::UnitReports { reports, .. } = decode(&newer).unwrap() else { panic!("another message") };
    assert_eq!(reports[0].unit, unit("apps"));
    assert_eq!(reports[0].reason, reason::UNREADABLE);
    assert!(reports[0].message.contains("update the hub"), "{}", reports[0].message);
}

#[test]
fn reports_are_cut_to_fit() {
    let mut report = unit_report("apps");
    for i in 0..5000 {
        report.objects.push(ObjectReport {
            key: driftless_protocol::object::ObjectKey {
                group: "apps".into(),
                kind: "Deployment".into(),
                namespace: "default".into(),
                name: format!("web-{i}").into(),
            },
            state: ObjectState::Failed,
            reason: "Invalid".into(),
            message: "é".repeat(5000),
            since: 0,
        });
    }
    report.fit(limits::UNIT_REPORT_BYTES);
    assert!(!report.objects.is_empty());
    AgentToHub::UnitReports { n: 1, reports: vec![report] }.encode(1).unwrap();

    let problem = Reason { code: "X".into(), message: "é".repeat(50_000), file: None, line: None };
    let mut cluster = ClusterReport { problems: vec![problem; 1000], ..ClusterReport::default() };
    cluster.fit(limits::CLUSTER_REPORT_BYTES);
    assert!(!cluster.problems.is_empty());
    AgentToHub::ClusterReport { n: 1, report: Box::new(cluster) }.encode(1).unwrap();
}

#[test]
fn transfers_unpack_to_what_was_packed_and_nothing_else() {
    let blob = |i: usize| {
        let bytes: Arc<[u8]> = vec![u8::try_from(i % 251).unwrap(); i].into();
        (Digest::of(&bytes), bytes)
    };
    let blobs: Vec<_> = (0..300).map(blob).collect();
    let (header, packed) = transfer::pack(TransferId(1), &blobs).unwrap();
    assert_eq!(transfer::unpack(&header, &packed).unwrap().blobs, blobs);
    let empty = transfer::pack(TransferId(1), &[]).unwrap();
    assert!(transfer::unpack(&empty.0, &empty.1).unwrap().blobs.is_empty());

    // A body longer or shorter than declared, and other counts.
    for (raw, count) in [(header.raw_length - 1, 300), (header.raw_length + 1, 300), (header.raw_length, 299)] {
        let wrong = TransferHeader { raw_length: raw, blobs: count, ..header };
        assert!(transfer::unpack(&wrong, &packed).is_err(), "{raw} bytes, {count} blobs");
    }
    // A bomb: 100 MiB of zeros under a declared kilobyte.
    let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 3).unwrap();
    let small = TransferHeader { transfer: TransferId(1), blobs: 1, raw_length: 100_000 };
    assert!(transfer::unpack(&small, &bomb).is_err());
    // A blob under another's address is named, not returned.
    let swapped = vec![(blobs[1].0, blobs[2].1.clone()), blobs[3].clone()];
    let (header, packed) = transfer::pack(TransferId(1), &swapped).unwrap();
    let unpacked = transfer::unpack(&header, &packed).unwrap();
    assert_eq!((unpacked.blobs, unpacked.altered), (vec![blobs[3].clone()], vec![blobs[1].0]));
    // Mutants.
    let mut dice = Dice(7);
    for _ in 0..5_000 {
        let mut mutant = packed.clone();
        let at = dice.roll(mutant.len());
        mutant[at] ^= 1 << dice.roll(8);
        if let Ok(unpacked) = transfer::unpack(&header, &mutant) {
            assert!(unpacked.blobs.iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
        }
    }
}

/// bincode is unmaintained (RUSTSEC-2025-0141): it must stay replaceable in one folder.
#[test]
fn only_the_wire_folder_names_bincode() {
    fn walk(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if std::fs::read_to_string(&path).unwrap().contains("bincode") {
                found.push(path);
            }
        }
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&source, &mut found);
    assert!(!found.is_empty());
    for path in found {
        assert!(path.starts_with(source.join("wire")), "{} names bincode", path.display());
    }
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn any_generation() -> impl Strategy<Value = Generation> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(trust_epoch, epoch, sequence)| Generation {
        trust_epoch,
        epoch,
        sequence,
    })
}

fn any_agent_message() -> impl Strategy<Value = AgentToHub> {
    prop_oneof![
        (any::<u64>(), prop::collection::btree_set(any_digest(), 1..50)).prop_map(|(transfer, digests)| {
            AgentToHub::Need(Need { transfer: TransferId(transfer), digests: digests.into_iter().collect() })
        }),
        any_generation().prop_map(|generation| AgentToHub::Taken { generation }),
        (any_generation(), "[a-zäß 0-9\n]{0,200}").prop_map(|(generation, message)| {
            AgentToHub::Refused(Refused { generation, code: RefusalCode::Equivocation, message })
        }),
        (any::<u64>(), "[a-z]{1,63}", "[^\\p{C}]{0,100}").prop_map(|(n, name, message)| {
            let mut report = unit_report(&name);
            report.message = message;
            AgentToHub::UnitReports { n, reports: vec![report] }
        }),
        (any::<u64>(), prop::collection::vec("[a-z-]{1,60}", 1..50)).prop_map(|(n, names)| {
            AgentToHub::UnitsGone { n, units: names.iter().map(|name| unit(name)).collect() }
        }),
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(|csr| AgentToHub::Renew { csr }),
    ]
}

fn any_signed() -> impl Strategy<Value = Signed> {
    (prop::collection::vec(any::<u8>(), 0..500), prop::collection::vec((any::<[u8; 16]>(), any::<[u8; 32]>()), 1..4))
        .prop_map(|(bytes, signatures)| Signed {
            bytes,
            signatures: signatures
                .into_iter()
                .map(|(key, half)| {
                    let mut signature = [0; 64];
                    signature[..32].copy_from_slice(&half);
                    KeySignature { key: KeyId::from_bytes(key), signature }
                })
                .collect(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agent_messages_survive_the_wire(message in any_agent_message()) {
        prop_assert_eq!(decode::<AgentToHub>(&message.encode(1).unwrap()).unwrap(), message);
    }

    #[test]
    fn offers_survive_the_wire_byte_for_byte(head in any_signed(), trust in prop::collection::vec(any_signed(), 0..5)) {
        let message = HubToAgent::Offer(Offer { head, trust });
        prop_assert_eq!(decode::<HubToAgent>(&message.encode(1).unwrap()).unwrap(), message);
    }

    #[test]
    fn any_bytes_are_refused_or_read(kind in prop::sample::select(FrameType::ALL), payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut frame = vec![1, kind as u8, 0, 0];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&payload);
        decode_as_anything(&frame);
    }
}

#[test]
fn frozen_messages_ignore_the_sessions_version() {
    let reject = HubToAgent::Reject { code: RejectCode::Version, message: "x".into() };
    let drain = HubToAgent::Drain { retry_after_seconds: 1 };
    assert_eq!(reject.encode(9).unwrap()[0], 1);
    assert_eq!(drain.encode(9).unwrap()[0], 9);
    assert!(FrameHeader::parse::<HubToAgent>(reject.encode(9).unwrap().first_chunk().unwrap(), 9).is_ok());
    assert!(FrameHeader::parse::<HubToAgent>(drain.encode(1).unwrap().first_chunk().unwrap(), 9).is_err());
}

#[test]
fn real_trust_documents_fit_an_offer() {
    let offer = HubToAgent::Offer(Offer {
        head: common::make(1, 1, 1, "a").signed,
        trust: (1..=400).map(|v| sign_trust(&trust_document(v))).collect(),
    });
    assert!(offer.encode(1).unwrap().len() < 512 * 1024);
}
