//! Both sessions against each other in virtual time: lost connections, reordered streams, restarts, hostile content.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::{BlobMap, KUBE_UID, Made, START, cluster, make, sign_trust, signer, trust_document, trust_one};
use driftless_protocol::facts::Facts;
use driftless_protocol::head::Head;
use driftless_protocol::id::{ClusterId, Digest, Generation, TransferId, UnitId};
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RefusalCode, RejectCode, WIRE_VERSION, Welcome};
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_protocol::session::agent::{self, Action as AgentAction, Input as AgentInput};
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};
use driftless_protocol::session::{Now, Ratchet};
use driftless_protocol::signing::{Purpose, SecretKey, Signed};
use driftless_protocol::wire::{FrameHeader, FrameType, Message};
use proptest::prelude::*;

/// More steps than any honest exchange here takes: beyond it something goes round in circles.
const STEPS: usize = 20_000;

/// How the world between both treats a transfer.
type Tamper = Box<dyn FnMut(&mut Vec<(Digest, Arc<[u8]>)>)>;

/// Hub, agent and what is between them.
struct World {
    now: u64,
    agent: agent::Session,
    hub: Option<hub::Session>,
    local: BlobMap,
    hub_blobs: BlobMap,
    current: Option<hub::Current>,
    to_hub: VecDeque<Vec<u8>>,
    to_agent: VecDeque<Vec<u8>>,
    transfers: Vec<(TransferId, Vec<Digest>)>,
    tamper: Option<Tamper>,
    /// Picks which of several possible things happens next.
    dice: u64,
    sessions: u64,
    kube_uid: String,
    // What came of it.
    bundles: Vec<Generation>,
    refused: Vec<(Generation, RefusalCode)>,
    hub_refused: Vec<RefusalCode>,
    taken: Vec<Generation>,
    needs: usize,
    served: usize,
    reconnects: Vec<(Option<u64>, Option<RejectCode>)>,
    closed: Vec<RejectCode>,
    breaches: Vec<String>,
    hints: Vec<Hint>,
    fail_store: Option<RefusalCode>,
    /// The hub's store: survives its restarts.
    units: BTreeMap<UnitId, UnitReport>,
    cluster: Option<ClusterReport>,
    facts: Vec<Facts>,
    reports_taken: u64,
    not_referenced: usize,
}

impl World {
    fn new() -> Self {
        Self {
            now: 1_000,
            agent: agent::Session::new(setup(None)),
            hub: None,
            local: BlobMap::new(),
            hub_blobs: BlobMap::new(),
            current: None,
            to_hub: VecDeque::new(),
            to_agent: VecDeque::new(),
            transfers: Vec::new(),
            tamper: None,
            dice: 0x9E37_79B9_7F4A_7C15,
            sessions: 0,
            kube_uid: KUBE_UID.into(),
            bundles: Vec::new(),
            refused: Vec::new(),
            hub_refused: Vec::new(),
            taken: Vec::new(),
            needs: 0,
            served: 0,
            reconnects: Vec::new(),
            closed: Vec::new(),
            breaches: Vec::new(),
            hints: Vec::new(),
            fail_store: None,
            units: BTreeMap::new(),
            cluster: None,
            facts: Vec::new(),
            reports_taken: 0,
            not_referenced: 0,
        }
    }

    fn now(&self) -> Now {
        Now { unix_ms: START * 1000 + self.now, mono_ms: self.now }
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        usize::try_from(self.dice % sides as u64).unwrap()
    }

    fn agent_in(&mut self, input: AgentInput) {
        self.now += 1;
        let now = self.now();
        let local = &self.local;
        self.agent.handle(now, input, &|d: &Digest| local.get(d).cloned());
        while let Some(action) = self.agent.next_action() {
            match action {
                AgentAction::Bundle { head, fetched } => {
                    let generation = head.generation;
                    self.bundles.push(generation);
                    if let Some(code) = self.fail_store {
                        self.agent_in(AgentInput::NotStored { generation, code, message: "no".into() });
                    } else {
                        self.local.extend(fetched);
                        self.agent_in(AgentInput::Stored { generation });
                    }
                }
                AgentAction::Refused { generation, code, .. } => self.refused.push((generation, code)),
                AgentAction::Hint(hint) => self.hints.push(hint),
                AgentAction::Reconnect { after_ms, reject, .. } => {
                    self.reconnects.push((after_ms, reject));
                    self.disconnect();
                }
                AgentAction::Trust(_)
                | AgentAction::Established { .. }
                | AgentAction::Renewed { .. }
                | AgentAction::RenewRefused { .. } => {}
            }
        }
    }

    fn hub_in(&mut self, input: HubInput) {
        self.now += 1;
        let now = self.now();
        let Some(hub) = &mut self.hub else { return };
        hub.handle(now, input);
        while let Some(action) = self.hub.as_mut().and_then(hub::Session::next_action) {
            match action {
                HubAction::Established(_) => {}
                HubAction::Serve { transfer, digests } => {
                    self.needs += 1;
                    self.served += digests.len();
                    self.transfers.push((transfer, digests));
                }
                HubAction::Taken { generation } => self.taken.push(generation),
                HubAction::Refused { code, .. } => self.hub_refused.push(code),
                HubAction::ClusterReport { n, report } => {
                    self.cluster = Some(*report);
                    self.stored(n);
                }
                HubAction::UnitReports { n, reports } => {
                    self.units.extend(reports.into_iter().map(|r| (r.unit.clone(), r)));
                    self.stored(n);
                }
                HubAction::Facts { n, facts } => {
                    self.facts.push(*facts);
                    self.stored(n);
                }
                HubAction::UnitsGone { n, units } => {
                    self.units.retain(|u, _| !units.contains(u));
                    self.stored(n);
                }
                HubAction::Snapshot { n, units } => {
                    self.units.retain(|u, _| units.contains(u));
                    self.stored(n);
                }
                HubAction::Renew { .. } => self.hub_in(HubInput::Renewed { chain: vec![b"leaf".to_vec()] }),
                HubAction::NotReferenced { count, .. } => self.not_referenced += count,
                HubAction::Close { code, message } => {
                    self.closed.push(code);
                    if message.contains("broke the protocol") {
                        self.breaches.push(message);
                    }
                }
            }
        }
    }

    fn stored(&mut self, n: u64) {
        self.reports_taken = n;
        self.hub_in(HubInput::ReportsStored { n });
    }

    fn connect(&mut self) {
        self.disconnect();
        self.sessions += 1;
        let setup = hub::Setup {
            cluster: cluster(),
            kube_uid: self.kube_uid.clone(),
            hub_version: "hub".into(),
            session: self.sessions,
            reports_taken: self.reports_taken,
        };
        self.hub = Some(hub::Session::new(self.now(), setup));
        if let Some(current) = self.current.clone() {
            self.hub_in(HubInput::Offer(current));
        }
        self.agent_in(AgentInput::Connected { session: self.sessions });
    }

    fn disconnect(&mut self) {
        if self.hub.take().is_some() {
            self.to_hub.clear();
            self.to_agent.clear();
            self.transfers.clear();
            self.agent_in(AgentInput::Lost);
        }
    }

    fn offer(&mut self, made: &Made) {
        self.offer_with(made, &[sign_trust(&trust_document(1))]);
    }

    fn offer_with(&mut self, made: &Made, trust: &[Signed]) {
        self.hub_blobs.extend(made.blobs.clone());
        let current = made.current(trust);
        self.current = Some(current.clone());
        self.hub_in(HubInput::Offer(current));
    }

    /// One thing that can happen now, chosen by the dice; `false` when nothing can.
    #[allow(clippy::collapsible_match)] // one arm per thing that can happen reads better
    fn step(&mut self) -> bool {
        let now = self.now();
        let first = self.roll(6);
        for choice in (0..6).map(|i| (first + i) % 6) {
            match choice {
                0 => {
                    if self.hub.is_some()
                        && let Some(message) = self.agent.next_message(now)
                    {
                        self.to_hub.push_back(message.encode(WIRE_VERSION).unwrap());
                        return true;
                    }
                }
                1 => {
                    if let Some(message) = self.hub.as_mut().and_then(|hub| hub.next_message(now)) {
                        self.to_agent.push_back(message.encode(WIRE_VERSION).unwrap());
                        return true;
                    }
                }
                2 => {
                    if let Some(frame) = self.to_hub.pop_front() {
                        self.hub_in(HubInput::Message(decode::<AgentToHub>(&frame)));
                        return true;
                    }
                }
                3 => {
                    if let Some(frame) = self.to_agent.pop_front() {
                        self.agent_in(AgentInput::Message(decode::<HubToAgent>(&frame)));
                        return true;
                    }
                }
                4 => {
                    if !self.transfers.is_empty() {
                        // Streams are independent: any of them may end first.
                        let which = self.roll(self.transfers.len());
                        let (transfer, digests) = self.transfers.remove(which);
                        let mut blobs: Vec<_> =
                            digests.iter().filter_map(|d| Some((*d, self.hub_blobs.get(d)?.clone()))).collect();
                        if let Some(tamper) = &mut self.tamper {
                            tamper(&mut blobs);
                        }
                        self.hub_in(HubInput::Served { transfer });
                        self.agent_in(AgentInput::Transferred { transfer, blobs, altered: 0 });
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Until nothing can happen without time passing.
    fn run(&mut self) {
        for _ in 0..STEPS {
            if !self.step() {
                return;
            }
        }
        panic!("not quiet after {STEPS} steps");
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.agent_in(AgentInput::Tick);
        self.hub_in(HubInput::Tick);
        self.run();
    }

    fn has(&self, made: &Made) -> bool {
        self.agent.ratchet() == Some(Ratchet { generation: made.head.generation, head: made.head_digest() })
            && made.blobs.keys().all(|d| self.local.contains_key(d))
    }
}

fn setup(ratchet: Option<Ratchet>) -> agent::Setup {
    agent::Setup {
        cluster: cluster(),
        kube_uid: KUBE_UID.into(),
        agent_version: "agent".into(),
        pod: "agent-0".into(),
        ratchet,
        complete: true,
        trust: trust_one(),
    }
}

fn decode<M: Message>(frame: &[u8]) -> M {
    let header = FrameHeader::parse::<M>(frame[..8].try_into().unwrap(), WIRE_VERSION).unwrap();
    M::decode(header.kind, &frame[8..]).unwrap()
}

fn unit(i: usize) -> UnitId {
    UnitId::kustomization("flux-system", format!("u{i}"))
}

fn report(i: usize, message: &str) -> AgentInput {
    let mut report = UnitReport::unreadable(unit(i), "");
    report.message = message.into();
    AgentInput::Unit(Box::new(report))
}

#[test]
fn an_offer_is_fetched_stored_and_acknowledged_and_the_next_costs_only_its_change() {
    let mut world = World::new();
    world.connect();
    let first = make(1, 20, 10, "a");
    world.offer(&first);
    world.run();
    assert!(world.has(&first));
    assert_eq!(world.taken, [first.head.generation]);
    assert_eq!(world.served, 1 + 20 + 200);

    let mut second = make(2, 20, 10, "a");
    // One object differs: index, one body and one object travel.
    let other = make(2, 20, 10, "b");
    second = if second.blobs == other.blobs { other } else { second };
    world.offer(&second);
    world.run();
    assert_eq!(world.served, 221, "the same content needs nothing but its head");
    let third = make(3, 20, 10, "b");
    world.offer(&third);
    world.run();
    assert!(world.has(&third));
    assert_eq!(world.served, 221 + 1 + 20 + 20, "index, changed bodies, changed objects");
    assert!(world.refused.is_empty() && world.not_referenced == 0);
}

#[test]
fn ten_thousand_objects_arrive_in_bounded_lists() {
    let mut world = World::new();
    world.connect();
    let made = make(1, 100, 100, "a");
    world.offer(&made);
    world.run();
    assert!(world.has(&made));
    assert!(world.needs <= 1 + 2 + 6, "{} lists", world.needs);
}

#[test]
fn a_newer_offer_pre_empts_and_keeps_what_was_fetched() {
    let mut world = World::new();
    world.connect();
    let first = make(1, 30, 30, "a");
    let second = make(2, 30, 30, "b");
    world.offer(&first);
    // Stop in the middle of the objects.
    while world.served < 100 {
        assert!(world.step());
    }
    world.offer(&second);
    world.run();
    assert!(world.has(&second));
    assert!(!world.bundles.contains(&first.head.generation) || world.bundles.len() == 2);
}

#[test]
fn a_lost_connection_resumes_without_fetching_twice() {
    for cut in [1, 3, 7, 12, 20, 40] {
        let mut world = World::new();
        world.dice ^= cut as u64;
        world.connect();
        let made = make(1, 10, 400, "a");
        world.offer(&made);
        for _ in 0..cut {
            world.step();
        }
        world.disconnect();
        world.connect();
        world.run();
        assert!(world.has(&made), "cut at step {cut}");
        assert_eq!(world.taken.last(), Some(&made.head.generation), "cut at step {cut}");
    }
}

#[test]
fn a_restarted_agent_asks_for_nothing_it_has() {
    let mut world = World::new();
    world.connect();
    let made = make(1, 5, 5, "a");
    world.offer(&made);
    world.run();
    let served = world.served;
    world.disconnect();
    world.agent = agent::Session::new(setup(world.agent.ratchet()));
    world.connect();
    world.run();
    assert_eq!(world.served, served);
    assert_eq!(world.bundles.len(), 1, "the hub does not even offer it again");
}

#[test]
fn a_damaged_ledger_is_filled_again_by_the_same_head_and_no_other() {
    let mut world = World::new();
    world.connect();
    let made = make(5, 2, 2, "a");
    world.offer(&made);
    world.run();
    world.disconnect();
    world.local.clear();
    world.agent = agent::Session::new(agent::Setup { complete: false, ..setup(world.agent.ratchet()) });
    world.connect();
    world.run();
    assert!(world.has(&made));
    world.disconnect();
    world.local.clear();
    world.agent = agent::Session::new(agent::Setup { complete: false, ..setup(world.agent.ratchet()) });
    world.offer(&make(4, 2, 2, "b"));
    world.connect();
    world.run();
    assert_eq!(world.hub_refused, [RefusalCode::Older]);
    world.offer(&make(5, 2, 2, "b"));
    world.run();
    assert_eq!(world.hub_refused, [RefusalCode::Older, RefusalCode::Equivocation]);
}

/// Offers one head to an agent that has generation 5 and expects a refusal.
fn refused(name: &str, made: &Made, trust: &[Signed], expected: RefusalCode) {
    let mut world = World::new();
    world.connect();
    let stored = make(5, 2, 2, "stored");
    world.offer(&stored);
    world.run();
    assert!(world.has(&stored), "{name}");
    world.offer_with(made, trust);
    world.run();
    assert_eq!(world.refused.iter().map(|r| r.1).collect::<Vec<_>>(), [expected], "{name}");
    assert_eq!(world.hub_refused, [expected], "{name}: the hub is told");
    assert!(world.has(&stored), "{name}: what was stored stays");
    assert_eq!(world.bundles.len(), 1, "{name}: nothing else is stored");
    // The agent is not stuck: a good offer still passes.
    let next = make(9, 2, 2, "next");
    world.offer(&next);
    world.run();
    assert!(world.has(&next), "{name}: a good offer passes afterwards");
}

#[test]
fn heads_that_must_not_be_believed_are_refused_with_their_code() {
    let one = [sign_trust(&trust_document(1))];
    let next = || make(6, 2, 2, "next");
    let mut forged = next();
    forged.signed = SecretKey::from_seed(&[66; 32]).sign(Purpose::Head, &forged.head).unwrap();
    let mut flipped = next();
    flipped.signed.bytes[40] ^= 1;
    let mut purpose = next();
    purpose.signed = signer().sign(Purpose::Trust, &purpose.head).unwrap();
    let other = ClusterId::from_bytes([0xee; 16]);
    let cases: Vec<(&str, Made, RefusalCode)> = vec![
        ("unknown signer", forged, RefusalCode::NotTrusted),
        ("tampered head", flipped, RefusalCode::NotTrusted),
        ("another purpose", purpose, RefusalCode::NotTrusted),
        ("another cluster", next().sign(|h| h.cluster = other), RefusalCode::WrongCluster),
        ("a copy of the cluster", next().sign(|h| h.kube_uid = "other".into()), RefusalCode::WrongCluster),
        ("older", make(4, 2, 2, "old"), RefusalCode::Older),
        ("equivocation", make(5, 2, 2, "twin"), RefusalCode::Equivocation),
        ("expired", next().sign(|h| h.expires = START), RefusalCode::Expired),
        ("issued ahead", next().sign(|h| h.issued = START + 400), RefusalCode::Future),
        ("epoch ahead", next().sign(|h| h.generation.epoch = START + 3700), RefusalCode::Future),
        ("stolen key raises the trust epoch", next().sign(|h| h.generation.trust_epoch = 9), RefusalCode::NotTrusted),
        ("newer trust", next().sign(|h| h.trust_version = 2), RefusalCode::TrustChain),
        ("too large", next().sign(|h| h.raw_total = u64::MAX), RefusalCode::BadBundle),
        ("wrong total", next().sign(|h| h.raw_total += 1), RefusalCode::BadBundle),
        ("other format", next().sign(|h| h.format = 2), RefusalCode::BadBundle),
    ];
    for (name, made, expected) in cases {
        refused(name, &made, &one, expected);
    }
    // Just inside the limits of time.
    let inside: [fn(&mut Head); 2] = [|h| h.issued = START + 299, |h| h.generation.epoch = START + 3600];
    for change in inside {
        let mut world = World::new();
        world.connect();
        let made = next().sign(change);
        world.offer(&made);
        world.run();
        assert!(world.has(&made));
    }
}

#[test]
fn tampered_withheld_and_unasked_blobs_end_an_offer_and_nothing_is_stored() {
    let cases: Vec<(&str, Tamper, RefusalCode)> = vec![
        (
            "one byte of every object flipped",
            Box::new(|blobs| {
                for (_, bytes) in blobs.iter_mut() {
                    let mut other = bytes.to_vec();
                    other[0] ^= 1;
                    *bytes = other.into();
                }
            }),
            RefusalCode::BadBundle,
        ),
        ("nothing comes", Box::new(Vec::clear), RefusalCode::Incomplete),
        (
            "other blobs come",
            Box::new(|blobs| *blobs = vec![(Digest::of(b"x"), Arc::from(&b"x"[..]))]),
            RefusalCode::Incomplete,
        ),
    ];
    for (name, tamper, expected) in cases {
        let mut world = World::new();
        world.tamper = Some(tamper);
        world.connect();
        world.offer(&make(1, 2, 2, "a"));
        world.run();
        assert_eq!(world.refused, [(make(1, 2, 2, "a").head.generation, expected)], "{name}");
        assert!(world.bundles.is_empty() && world.agent.ratchet().is_none(), "{name}");
    }
}

#[test]
fn a_refusal_that_time_may_heal_is_offered_again() {
    for (code, pause) in [(RefusalCode::LedgerFailed, 2_000), (RefusalCode::LedgerFull, 30_000)] {
        let mut world = World::new();
        world.fail_store = Some(code);
        world.connect();
        let made = make(1, 2, 2, "a");
        world.offer(&made);
        world.run();
        assert_eq!(world.hub_refused, [code]);
        // Twice as long after the second refusal.
        world.pass(pause + 500);
        assert_eq!(world.hub_refused, [code, code]);
        world.fail_store = None;
        world.pass(2 * pause - 1_000);
        assert!(!world.has(&made), "{code:?}");
        world.pass(1_500);
        assert!(world.has(&made), "{code:?}");
    }
}

#[test]
fn trust_documents_travel_with_the_offer_and_stay_whatever_becomes_of_the_head() {
    let mut two = trust_document(2);
    let new_signer = SecretKey::from_seed(&[7; 32]);
    two.signers = vec![new_signer.public()];
    two.trust_epoch = 2;
    let chain = [sign_trust(&trust_document(1)), sign_trust(&two)];
    let mut world = World::new();
    world.connect();
    // Signed by the old key: refused, but the documents stay.
    world.offer_with(&make(1, 1, 1, "a"), &chain);
    world.run();
    assert_eq!(world.refused.last().map(|r| r.1), Some(RefusalCode::NotTrusted));
    assert_eq!(world.agent.trust().version, 2);
    let mut made = make(1, 1, 1, "b");
    made.head.generation.trust_epoch = 2;
    made.head.trust_version = 2;
    made.signed = new_signer.sign(Purpose::Head, &made.head).unwrap();
    world.offer_with(&made, &chain);
    world.run();
    assert!(world.has(&made));

    // A document that skips a version, or is signed by nobody, changes nothing.
    let mut world = World::new();
    world.connect();
    let skipped = [sign_trust(&trust_document(1)), sign_trust(&trust_document(3))];
    world.offer_with(&make(1, 1, 1, "a"), &skipped);
    world.run();
    assert_eq!(world.refused.last().map(|r| r.1), Some(RefusalCode::TrustChain));
    assert_eq!(world.agent.trust().version, 1);
}

#[test]
fn an_expired_trust_document_refuses_new_work_until_the_next_one() {
    let mut expired = trust_document(2);
    expired.expires = START;
    let two = [sign_trust(&trust_document(1)), sign_trust(&expired)];
    let mut world = World::new();
    world.connect();
    let stored = make(5, 2, 2, "stored");
    world.offer(&stored);
    world.run();
    world.offer_with(&make(6, 1, 1, "a"), &two);
    world.run();
    assert_eq!(world.hub_refused, [RefusalCode::Expired]);
    assert!(world.has(&stored));
    let three = [two[0].clone(), two[1].clone(), sign_trust(&trust_document(3))];
    let next = make(7, 1, 1, "b");
    world.offer_with(&next, &three);
    world.run();
    assert!(world.has(&next));
}

#[test]
fn the_hub_rejects_who_is_not_who_it_says() {
    let mut world = World::new();
    world.kube_uid = "the cluster that enrolled".into();
    world.connect();
    world.run();
    assert_eq!(world.closed, [RejectCode::WrongKubeUid]);
    assert_eq!(world.reconnects, [(None, Some(RejectCode::WrongKubeUid))]);

    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    let mut hub = hub::Session::new(now, hub_setup());
    let AgentToHub::Hello(mut hello) = first_message() else { panic!("not a hello") };
    hello.cluster = ClusterId::from_bytes([9; 16]);
    hub.handle(now, HubInput::Message(AgentToHub::Hello(hello)));
    assert!(matches!(hub.next_action(), Some(HubAction::Close { code: RejectCode::WrongCluster, .. })));
    assert!(matches!(hub.next_message(now), Some(HubToAgent::Reject { code: RejectCode::WrongCluster, .. })));
}

#[test]
fn versions_skew_without_harm() {
    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    for (wire_max, expected) in [(0, None), (1, Some(1)), (2, Some(2)), (7, Some(2))] {
        let mut hub = hub::Session::new(now, hub_setup());
        let AgentToHub::Hello(mut hello) = first_message() else { panic!("not a hello") };
        hello.wire_max = wire_max;
        hub.handle(now, HubInput::Message(AgentToHub::Hello(hello)));
        match (hub.next_message(now), expected) {
            (Some(HubToAgent::Welcome(w)), Some(wire)) => assert_eq!(w.wire, wire),
            (Some(HubToAgent::Reject { code: RejectCode::Version, .. }), None) => {}
            (other, _) => panic!("wire_max {wire_max}: {other:?}"),
        }
    }
}

fn hub_setup() -> hub::Setup {
    hub::Setup {
        cluster: cluster(),
        kube_uid: KUBE_UID.into(),
        hub_version: "hub".into(),
        session: 1,
        reports_taken: 0,
    }
}

fn first_message() -> AgentToHub {
    let now = Now::default();
    let mut agent = agent::Session::new(setup(None));
    agent.handle(now, AgentInput::Connected { session: 1 }, &|_: &Digest| None);
    agent.next_message(now).unwrap()
}

#[test]
fn breaches_end_the_session() {
    let report = |n| AgentToHub::SnapshotComplete { n };
    let need = |t| {
        AgentToHub::Need(driftless_protocol::message::Need { transfer: TransferId(t), digests: vec![Digest::of(b"x")] })
    };
    let reports: Vec<AgentToHub> = (1..=5).map(|n| AgentToHub::ClusterReport { n, report: Box::default() }).collect();
    let cases: Vec<(&str, Vec<AgentToHub>)> = vec![
        ("two hellos", vec![first_message(), first_message()]),
        ("no hello", vec![report(1)]),
        ("a number twice", vec![first_message(), report(1), report(1)]),
        ("a Need number twice", vec![first_message(), need(1), need(1)]),
        ("nine open Needs", std::iter::once(first_message()).chain((1..=9).map(need)).collect()),
        ("five unanswered reports", std::iter::once(first_message()).chain(reports).collect()),
        ("two renewals", vec![first_message(), AgentToHub::Renew { csr: vec![] }, AgentToHub::Renew { csr: vec![] }]),
    ];
    let now = Now::default();
    for (name, messages) in cases {
        let mut hub = hub::Session::new(now, hub_setup());
        for message in messages {
            hub.handle(now, HubInput::Message(message));
        }
        let mut closed = None;
        while let Some(action) = hub.next_action() {
            if let HubAction::Close { code, .. } = action {
                closed = Some(code);
            }
        }
        assert_eq!(closed, Some(RejectCode::Protocol), "{name}");
    }
}

#[test]
fn blobs_beyond_the_offer_are_not_served() {
    let now = Now::default();
    let made = make(1, 1, 1, "a");
    let mut hub = hub::Session::new(now, hub_setup());
    hub.handle(now, HubInput::Offer(made.current(&[])));
    hub.handle(now, HubInput::Message(first_message()));
    let foreign = Digest::of(b"another cluster's secret");
    let digests = vec![made.head.index.digest, foreign];
    let need = driftless_protocol::message::Need { transfer: TransferId(1), digests };
    hub.handle(now, HubInput::Message(AgentToHub::Need(need)));
    let actions: Vec<_> = std::iter::from_fn(|| hub.next_action()).collect();
    assert!(
        actions.iter().any(|a| matches!(a, HubAction::NotReferenced { count: 1, example } if *example == foreign)),
        "{actions:?}"
    );
    assert!(
        actions.iter().any(|a| matches!(a, HubAction::Serve { digests, .. } if *digests == [made.head.index.digest]))
    );
}

#[test]
fn an_agent_that_does_not_read_is_dropped_and_holds_no_memory() {
    let now = |mono_ms| Now { unix_ms: START * 1000 + mono_ms, mono_ms };
    let mut hub = hub::Session::new(now(0), hub_setup());
    hub.handle(now(0), HubInput::Message(first_message()));
    for i in 0..1000 {
        hub.handle(now(1), HubInput::Hint(Hint::Reconcile { unit: Some(unit(i)) }));
        hub.handle(now(1), HubInput::Offer(make(i as u64, 0, 0, "a").current(&[])));
    }
    assert_eq!(hub.deadline(), Some(30_000));
    hub.handle(now(30_000), HubInput::Tick);
    let closed = std::iter::from_fn(|| hub.next_action())
        .any(|a| matches!(a, HubAction::Close { code: RejectCode::TooSlow, .. }));
    assert!(closed);

    // One that reads late gets the newest state only.
    let mut hub = hub::Session::new(now(0), hub_setup());
    hub.handle(now(0), HubInput::Message(first_message()));
    for i in 0..1000 {
        hub.handle(now(1), HubInput::Hint(Hint::Reconcile { unit: Some(unit(i)) }));
        hub.handle(now(1), HubInput::Offer(make(i as u64, 0, 0, "a").current(&[])));
    }
    let messages: Vec<_> = std::iter::from_fn(|| hub.next_message(now(2))).collect();
    assert_eq!(messages.len(), 3, "welcome, one offer, one hint: {messages:?}");
    assert!(messages.iter().any(|m| matches!(m, HubToAgent::Hint(Hint::Reconcile { unit: None }))));
}

#[test]
fn reports_end_as_the_newest_state_through_restarts_of_both_sides() {
    let mut world = World::new();
    world.connect();
    for i in 0..150 {
        world.agent_in(report(i, "first"));
    }
    world.agent_in(AgentInput::Cluster(Box::new(ClusterReport { leader: "a".into(), ..ClusterReport::default() })));
    world.agent_in(AgentInput::UnitsKnown);
    world.run();
    assert_eq!(world.units.len(), 150);
    assert_eq!(world.cluster.as_ref().unwrap().leader, "a");

    // Gone while connected.
    world.agent_in(AgentInput::UnitGone(unit(7)));
    world.run();
    assert!(!world.units.contains_key(&unit(7)));

    // Changed and gone while not connected; the hub restarted meanwhile.
    world.disconnect();
    world.agent_in(report(3, "second"));
    world.agent_in(AgentInput::UnitGone(unit(4)));
    world.connect();
    world.run();
    assert_eq!(world.units[&unit(3)].message, "second");
    assert!(!world.units.contains_key(&unit(4)));
    assert_eq!(world.units.len(), 148);

    // A new leader counts on, and drops what it does not know only once it knows all.
    world.disconnect();
    let before = world.reports_taken;
    world.agent = agent::Session::new(setup(None));
    world.connect();
    world.agent_in(report(1, "third"));
    world.run();
    assert!(world.reports_taken > before);
    assert_eq!(world.units.len(), 148);
    world.agent_in(AgentInput::UnitsKnown);
    world.run();
    assert_eq!(world.units.keys().cloned().collect::<Vec<_>>(), [unit(1)]);
}

#[test]
fn facts_are_told_when_they_change_and_after_each_greeting() {
    let facts = |version: &str| Facts { kubernetes_version: version.into(), ..Facts::default() };
    let mut world = World::new();
    world.agent_in(AgentInput::Facts(Box::new(facts("v1.35.0"))));
    world.agent_in(AgentInput::Facts(Box::new(facts("v1.36.0"))));
    world.connect();
    world.run();
    assert_eq!(world.facts, [facts("v1.36.0")], "the newest wins");
    world.agent_in(AgentInput::Facts(Box::new(facts("v1.36.0"))));
    world.run();
    assert_eq!(world.facts.len(), 1, "nothing new is not told");
    world.agent_in(AgentInput::Facts(Box::new(facts("v1.36.1"))));
    world.run();
    assert_eq!(world.facts.last(), Some(&facts("v1.36.1")));
    world.connect();
    world.run();
    assert_eq!(world.facts.len(), 3, "told again in each session");

    // A hub of version 1 does not know the message.
    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    let mut agent = agent::Session::new(setup(None));
    let nothing = |_: &Digest| None;
    agent.handle(now, AgentInput::Facts(Box::new(facts("v1.36.0"))), &nothing);
    agent.handle(now, AgentInput::Connected { session: 1 }, &nothing);
    assert!(matches!(agent.next_message(now), Some(AgentToHub::Hello(_))));
    let welcome = Welcome { wire: 1, hub_version: "old".into(), session: 1, reports_taken: 0 };
    agent.handle(now, AgentInput::Message(HubToAgent::Welcome(welcome)), &nothing);
    assert!(agent.next_message(now).is_none());
}

#[test]
fn silence_is_noticed_on_both_sides() {
    let mut world = World::new();
    world.connect();
    world.now += 15_001;
    world.agent_in(AgentInput::Tick);
    assert_eq!(world.reconnects, [(None, None)], "no greeting");

    let now = |mono_ms| Now { unix_ms: START * 1000, mono_ms };
    let mut hub = hub::Session::new(now(0), hub_setup());
    assert_eq!(hub.deadline(), Some(10_000));
    hub.handle(now(10_000), HubInput::Tick);
    assert!(matches!(hub.next_action(), Some(HubAction::Close { code: RejectCode::Protocol, .. })), "no hello");

    // A transfer that never comes.
    let mut world = World::new();
    world.connect();
    world.offer(&make(1, 1, 1, "a"));
    while world.transfers.is_empty() {
        assert!(world.step());
    }
    world.transfers.clear();
    let deadline = world.agent.deadline().unwrap();
    world.now = deadline;
    world.agent_in(AgentInput::Tick);
    assert_eq!(world.reconnects, [(None, None)]);
}

#[test]
fn a_draining_hub_is_left_when_all_is_said() {
    let mut world = World::new();
    world.connect();
    let made = make(1, 5, 5, "a");
    world.offer(&made);
    world.run();
    world.agent_in(report(1, "x"));
    world.hub_in(HubInput::Drain { retry_after_seconds: 7 });
    world.run();
    world.pass(10_001);
    assert_eq!(world.reconnects, [(Some(7_000), None)]);
    assert_eq!(world.units.len(), 1, "the report was not lost");
}

#[test]
fn hints_and_renewals_pass() {
    let mut world = World::new();
    world.connect();
    world.run();
    world.hub_in(HubInput::Hint(Hint::Reconcile { unit: Some(unit(1)) }));
    world.agent_in(AgentInput::Renew { csr: vec![1] });
    world.run();
    assert_eq!(world.hints, [Hint::Reconcile { unit: Some(unit(1)) }]);
    world.agent_in(AgentInput::Renew { csr: vec![2] });
    world.run();
    assert!(world.closed.is_empty(), "a second renewal after the first was answered is fine");
}

/// What chance may do to a session.
#[derive(Clone, Debug)]
enum Chance {
    Steps(u8),
    Cut,
    Reconnect,
    RestartAgent,
    Offer,
    Report(u8),
    Gone(u8),
    Pass(u16),
    StoreFails(bool),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        4 => any::<u8>().prop_map(Chance::Steps),
        1 => Just(Chance::Cut),
        2 => Just(Chance::Reconnect),
        1 => Just(Chance::RestartAgent),
        2 => Just(Chance::Offer),
        2 => (0..20u8).prop_map(Chance::Report),
        1 => (0..20u8).prop_map(Chance::Gone),
        1 => any::<u16>().prop_map(Chance::Pass),
        1 => any::<bool>().prop_map(Chance::StoreFails),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: the ratchet never falls, and once the world is kind again both sides agree.
    #[test]
    fn after_any_history_both_sides_agree(dice in 1..u64::MAX, history in prop::collection::vec(chance(), 0..60)) {
        let mut world = World::new();
        world.dice = dice;
        let mut sequence = 0;
        let mut truth: BTreeSet<UnitId> = BTreeSet::new();
        let mut floor = None;
        world.agent_in(AgentInput::UnitsKnown);
        for event in history {
            match event {
                Chance::Steps(n) => {
                    for _ in 0..n {
                        world.step();
                    }
                }
                Chance::Cut => world.disconnect(),
                Chance::Reconnect => world.connect(),
                Chance::RestartAgent => {
                    world.disconnect();
                    world.agent = agent::Session::new(setup(world.agent.ratchet()));
                    for unit in &truth {
                        world.agent_in(AgentInput::Unit(Box::new(UnitReport::unreadable(unit.clone(), ""))));
                    }
                    world.agent_in(AgentInput::UnitsKnown);
                }
                Chance::Offer => {
                    sequence += 1;
                    world.offer(&make(sequence, 3, 4, &sequence.to_string()));
                }
                Chance::Report(i) => {
                    truth.insert(unit(i.into()));
                    world.agent_in(report(i.into(), "x"));
                }
                Chance::Gone(i) => {
                    truth.remove(&unit(i.into()));
                    world.agent_in(AgentInput::UnitGone(unit(i.into())));
                }
                Chance::Pass(ms) => world.pass(ms.into()),
                Chance::StoreFails(fails) => world.fail_store = fails.then_some(RefusalCode::LedgerFailed),
            }
            let ratchet = world.agent.ratchet().map(|r| r.generation);
            prop_assert!(ratchet >= floor, "the ratchet fell");
            floor = ratchet;
        }
        world.fail_store = None;
        sequence += 1;
        let last = make(sequence, 3, 4, "last");
        world.offer(&last);
        world.connect();
        world.run();
        prop_assert!(world.has(&last));
        prop_assert_eq!(world.taken.last(), Some(&last.head.generation));
        prop_assert_eq!(world.units.keys().cloned().collect::<BTreeSet<_>>(), truth);
        prop_assert!(world.breaches.is_empty(), "{:?}", world.breaches);
    }
}

#[test]
fn frames_of_the_other_direction_are_refused() {
    let frame = first_message().encode(1).unwrap();
    assert!(FrameHeader::parse::<HubToAgent>(frame[..8].try_into().unwrap(), 1).is_err());
    assert_eq!(FrameHeader::parse::<AgentToHub>(frame[..8].try_into().unwrap(), 1).unwrap().kind, FrameType::Hello);
}
