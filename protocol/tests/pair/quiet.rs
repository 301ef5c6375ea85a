//! What a new generation costs in reports: those of the units it changes, and one for all others.

use std::collections::BTreeMap;

use driftless_protocol::id::{Digest, Generation, UnitId};
use driftless_protocol::message::{AgentToHub, HubToAgent, UNITS_AT_SINCE, Welcome};
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_protocol::session::Now;
use driftless_protocol::session::agent::{self, Input as AgentInput};

use crate::{World, setup, unit};

const UNITS: usize = 1_000;

fn at(sequence: u64) -> Generation {
    Generation { trust_epoch: 1, epoch: 1, sequence }
}

fn said(i: usize, message: &str, sequence: u64) -> UnitReport {
    let mut report = UnitReport::unreadable(unit(i), "");
    (report.message, report.generation) = (message.into(), Some(at(sequence)));
    report
}

fn cluster(sequence: u64) -> ClusterReport {
    ClusterReport { generation: Some(at(sequence)), units_at: Some(at(sequence)), ..ClusterReport::default() }
}

/// An agent alone, and what it sent.
struct Alone {
    agent: agent::Session,
    now: Now,
    /// By unit, as the hub has them.
    units: BTreeMap<UnitId, UnitReport>,
    cluster: ClusterReport,
}

/// What one round took.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    messages: usize,
    units: usize,
}

impl Alone {
    fn new(wire: u8) -> Self {
        let mut alone = Self {
            agent: agent::Session::new(setup(None)),
            now: Now::default(),
            units: BTreeMap::new(),
            cluster: ClusterReport::default(),
        };
        alone.connect(wire);
        alone
    }

    fn give(&mut self, input: AgentInput) {
        self.agent.handle(self.now, input, &|_: &Digest| None);
    }

    fn connect(&mut self, wire: u8) {
        self.give(AgentInput::Connected { session: 1 });
        assert!(matches!(self.agent.next_message(self.now), Some(AgentToHub::Hello(_))));
        let welcome = Welcome { wire, hub_version: "hub".into(), session: 1, reports_taken: 0 };
        self.give(AgentInput::Message(HubToAgent::Welcome(welcome)));
    }

    /// Everything it has to say, taken at once by a hub that checks, at each message, that what is said of all units holds.
    fn send(&mut self, truth: &dyn Fn(usize) -> UnitReport, sequence: u64) -> Sent {
        let mut sent = Sent::default();
        while let Some(message) = self.agent.next_message(self.now) {
            sent.messages += 1;
            let n = match message {
                AgentToHub::UnitReports { n, reports } => {
                    sent.units += reports.len();
                    self.units.extend(reports.into_iter().map(|r| (r.unit.clone(), r)));
                    n
                }
                AgentToHub::ClusterReport { n, report } => {
                    self.cluster = *report;
                    n
                }
                AgentToHub::SnapshotComplete { n } => n,
                other => panic!("{other:?}"),
            };
            if self.cluster.units_at == Some(at(sequence)) {
                for i in 0..UNITS {
                    let had = self.units.get(&unit(i)).map(|report| &*report.message);
                    assert_eq!(had, Some(&*truth(i).message), "unit {i} of generation {sequence}, message {n}");
                }
            }
            self.give(AgentInput::Message(HubToAgent::ReportsTaken { n }));
        }
        sent
    }
}

fn first(i: usize) -> UnitReport {
    said(i, "first", 1)
}

fn start(alone: &mut Alone) -> Sent {
    for i in 0..UNITS {
        alone.give(AgentInput::Unit(Box::new(first(i))));
    }
    alone.give(AgentInput::Cluster(Box::new(cluster(1))));
    alone.give(AgentInput::UnitsKnown);
    alone.send(&first, 1)
}

#[test]
fn a_commit_that_changes_one_unit_of_a_thousand_sends_one_unit_report() {
    let mut alone = Alone::new(UNITS_AT_SINCE);
    let whole = start(&mut alone);
    assert_eq!(whole.units, UNITS);
    let second = |i: usize| if i == 7 { said(i, "second", 2) } else { first(i) };
    alone.give(AgentInput::Unit(Box::new(second(7))));
    alone.give(AgentInput::Cluster(Box::new(cluster(2))));
    let sent = alone.send(&second, 2);
    println!("a commit of one unit in {UNITS}: {sent:?}; all of them: {whole:?}");
    assert_eq!(sent, Sent { messages: 3, units: 1 }, "the agent, the unit, and that this holds for all");
    assert_eq!(alone.cluster.units_at, Some(at(2)));
    // One that changes nothing at all.
    alone.give(AgentInput::Cluster(Box::new(cluster(3))));
    assert_eq!(alone.send(&second, 3), Sent { messages: 1, units: 0 });
    assert_eq!(alone.cluster.units_at, Some(at(3)));
    // In another session all is said again, and of the newest generation.
    alone.give(AgentInput::Lost);
    alone.connect(UNITS_AT_SINCE);
    alone.cluster.units_at = None;
    let again = alone.send(&second, 3);
    assert_eq!(again.units, UNITS);
    assert!(alone.units.values().all(|report| report.generation == Some(at(3))));
    assert_eq!(alone.cluster.units_at, Some(at(3)));
}

#[test]
fn a_hub_that_does_not_know_better_is_sent_every_report_again() {
    let mut alone = Alone::new(UNITS_AT_SINCE - 1);
    start(&mut alone);
    let second = |i: usize| if i == 7 { said(i, "second", 2) } else { first(i) };
    alone.give(AgentInput::Unit(Box::new(second(7))));
    alone.give(AgentInput::Cluster(Box::new(cluster(2))));
    assert_eq!(alone.send(&second, 2).units, UNITS);
    assert!(alone.units.values().all(|report| report.generation == Some(at(2))), "each names the generation itself");
    assert_eq!(alone.cluster.units_at, None, "what it does not know it is not told");
    assert_eq!(alone.send(&second, 2), Sent::default());
}

#[test]
fn it_holds_whatever_is_lost_and_in_whichever_order() {
    for seed in 1..40 {
        let mut world = World::new();
        world.dice = seed;
        world.connect();
        let mut texts: Vec<String> = vec!["1".into(); 130];
        for sequence in 1..12 {
            for (i, text) in texts.iter_mut().enumerate() {
                if sequence == 1 || world.roll(40) == 0 {
                    *text = sequence.to_string();
                    world.agent_in(AgentInput::Unit(Box::new(said(i, text, sequence))));
                }
            }
            world.agent_in(AgentInput::Cluster(Box::new(cluster(sequence))));
            if sequence == 1 {
                world.agent_in(AgentInput::UnitsKnown);
            }
            for _ in 0..world.roll(60) {
                world.step();
                holds(&world, &texts, sequence);
            }
            if world.roll(4) == 0 {
                world.connect();
            }
        }
        world.run();
        holds(&world, &texts, 11);
        assert_eq!(world.cluster.as_ref().and_then(|c| c.units_at), Some(at(11)), "seed {seed}");
    }
}

/// Where the hub was told that reports hold for the newest generation, it has the newest of every unit.
fn holds(world: &World, texts: &[String], sequence: u64) {
    if world.cluster.as_ref().and_then(|cluster| cluster.units_at) == Some(at(sequence)) {
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(world.units.get(&unit(i)).map(|report| &report.message), Some(text), "unit {i} of {sequence}");
        }
    }
}
