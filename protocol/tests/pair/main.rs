//! Both sessions against each other in virtual time: lost connections, reordered streams, restarts, hostile content.
#![allow(clippy::unwrap_used)] // helpers of tests

mod breaches;
mod chance;
#[path = "../common/mod.rs"]
mod common;
mod offers;
mod quiet;
mod refusals;
mod renewal;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use common::{BlobMap, KUBE_UID, Made, START, cluster, sign_trust, trust_document, trust_one};
use driftless_protocol::facts::Facts;
use driftless_protocol::id::{Digest, Generation, TransferId, UnitId};
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RefusalCode, RejectCode, WIRE_VERSION};
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_protocol::session::agent::{self, Action as AgentAction, Input as AgentInput};
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};
use driftless_protocol::session::{Access, Now, Ratchet};
use driftless_protocol::signing::Signed;
use driftless_protocol::wire::{FrameHeader, Message};

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
    /// What the agent's certificate opens at its next connection.
    access: Access,
    renewed: usize,
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
            access: Access::Full,
            renewed: 0,
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
                AgentAction::Renewed { .. } => self.renewed += 1,
                AgentAction::Trust(_) | AgentAction::Established { .. } | AgentAction::RenewRefused { .. } => {}
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
        self.hub = Some(hub::Session::with_access(self.now(), setup, self.access));
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
