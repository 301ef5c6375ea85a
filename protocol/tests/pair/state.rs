//! Reports, facts and hints: what is told besides the offers, and what silence means.

use driftless_protocol::facts::Facts;
use driftless_protocol::id::Digest;
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RejectCode, Welcome};
use driftless_protocol::report::ClusterReport;
use driftless_protocol::session::Now;
use driftless_protocol::session::agent::{self, Input as AgentInput};
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};

use crate::common::{START, make};
use crate::{World, hub_setup, report, setup, unit};

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
