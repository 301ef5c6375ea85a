//! Renewals: asked for before all else, and the only thing that an expired certificate opens.

use driftless_protocol::facts::Facts;
use driftless_protocol::id::{Digest, TransferId};
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, Need, RejectCode};
use driftless_protocol::session::agent::{self, Input as AgentInput};
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};
use driftless_protocol::session::{Access, Now};

use crate::common::{START, make};
use crate::{World, first_message, hub_setup, report, setup};

fn expired(now: Now) -> hub::Session {
    let mut hub = hub::Session::with_access(now, hub_setup(), Access::Renewal);
    hub.handle(now, HubInput::Message(first_message()));
    hub
}

fn said(hub: &mut hub::Session, now: Now) -> Vec<HubToAgent> {
    std::iter::from_fn(|| hub.next_message(now)).collect()
}

fn done(hub: &mut hub::Session) -> Vec<HubAction> {
    std::iter::from_fn(|| hub.next_action()).collect()
}

#[test]
fn an_expired_certificate_is_renewed_and_nothing_else_passes() {
    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    let made = make(1, 1, 1, "a");
    let mut hub = expired(now);
    hub.handle(now, HubInput::Offer(made.current(&[])));
    hub.handle(now, HubInput::Hint(Hint::Reconcile { unit: None }));
    hub.handle(now, HubInput::ReportsStored { n: 7 });
    let digests = vec![made.head.index.digest];
    for message in [
        AgentToHub::ClusterReport { n: 1, report: Box::default() },
        AgentToHub::Facts { n: 2, facts: Box::new(Facts::default()) },
        AgentToHub::SnapshotComplete { n: 3 },
        AgentToHub::Taken { generation: made.head.generation },
        AgentToHub::Need(Need { transfer: TransferId(1), digests }),
        AgentToHub::Renew { csr: b"new key".to_vec() },
    ] {
        hub.handle(now, HubInput::Message(message));
    }
    let told = said(&mut hub, now);
    assert!(matches!(told[..], [HubToAgent::Welcome(_)]), "{told:?}");
    let wanted = done(&mut hub);
    assert!(matches!(wanted[..], [HubAction::Established(_), HubAction::Renew { .. }]), "{wanted:?}");

    hub.handle(now, HubInput::Renewed { chain: vec![b"leaf".to_vec()] });
    let told = said(&mut hub, now);
    assert!(
        matches!(told[..], [HubToAgent::Renewed { .. }, HubToAgent::Reject { code: RejectCode::Busy, .. }]),
        "{told:?}"
    );
    let wanted = done(&mut hub);
    assert!(matches!(wanted[..], [HubAction::Close { code: RejectCode::Busy, .. }]), "{wanted:?}");
    hub.handle(now, HubInput::Offer(made.current(&[])));
    assert!(said(&mut hub, now).is_empty() && done(&mut hub).is_empty() && !hub.is_up());
}

#[test]
fn a_refused_renewal_ends_the_session_with_the_reason() {
    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    let mut hub = expired(now);
    assert!(matches!(said(&mut hub, now)[..], [HubToAgent::Welcome(_)]));
    hub.handle(now, HubInput::Message(AgentToHub::Renew { csr: vec![] }));
    hub.handle(now, HubInput::RenewRefused { message: "not a request".into() });
    let told = said(&mut hub, now);
    let [HubToAgent::RenewRefused { message: why }, HubToAgent::Reject { code: RejectCode::Busy, message }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(message.contains(why), "{told:?}");
}

#[test]
fn one_that_does_not_ask_is_sent_away_and_rules_hold_for_it_too() {
    let now = |mono_ms| Now { unix_ms: START * 1000 + mono_ms, mono_ms };
    let mut hub = expired(now(0));
    let _ = said(&mut hub, now(0));
    assert_eq!(hub.deadline(), Some(30_000));
    hub.handle(now(29_999), HubInput::Tick);
    assert!(hub.is_up());
    hub.handle(now(30_000), HubInput::Tick);
    let told = said(&mut hub, now(30_000));
    assert!(
        matches!(&told[..], [HubToAgent::Reject { code: RejectCode::Busy, message }] if message.contains("expired"))
    );

    // Asked in time, the answer may take as long as the store does.
    let mut hub = expired(now(0));
    let _ = said(&mut hub, now(0));
    hub.handle(now(10), HubInput::Message(AgentToHub::Renew { csr: vec![] }));
    hub.handle(now(60_000), HubInput::Tick);
    assert!(hub.is_up() && hub.deadline().is_none());

    let mut hub = expired(now(0));
    for n in 1..=5 {
        hub.handle(now(0), HubInput::Message(AgentToHub::SnapshotComplete { n }));
    }
    let closed = done(&mut hub).into_iter().any(|a| matches!(a, HubAction::Close { code: RejectCode::Protocol, .. }));
    assert!(closed, "five unanswered reports");
}

#[test]
fn a_renewal_is_the_first_thing_asked_and_is_asked_once() {
    let now = Now { unix_ms: START * 1000, mono_ms: 0 };
    let local = |_: &Digest| None;
    let renew = |key: &str| AgentInput::Renew { csr: key.as_bytes().to_vec() };
    let mut agent = agent::Session::new(setup(None));
    // Wanted while there is no session.
    agent.handle(now, renew("a"), &local);
    agent.handle(now, report(1, "ready"), &local);
    agent.handle(now, AgentInput::Cluster(Box::default()), &local);
    agent.handle(now, AgentInput::Connected { session: 1 }, &local);
    assert!(matches!(agent.next_message(now), Some(AgentToHub::Hello(_))));
    assert!(agent.next_message(now).is_none(), "nothing before the greeting");
    let mut hub = hub::Session::with_access(now, hub_setup(), Access::Renewal);
    hub.handle(now, HubInput::Message(first_message()));
    for message in said(&mut hub, now) {
        agent.handle(now, AgentInput::Message(message), &local);
    }
    assert!(matches!(agent.next_message(now), Some(AgentToHub::Renew { csr }) if csr == b"a"));
    agent.handle(now, renew("b"), &local);
    let after: Vec<AgentToHub> = std::iter::from_fn(|| agent.next_message(now)).collect();
    assert!(!after.iter().any(|m| matches!(m, AgentToHub::Renew { .. })), "one is open: {after:?}");
    // Answered: the next one may be asked for.
    agent.handle(now, AgentInput::Message(HubToAgent::RenewRefused { message: "no".into() }), &local);
    agent.handle(now, renew("c"), &local);
    assert!(matches!(agent.next_message(now), Some(AgentToHub::Renew { csr }) if csr == b"c"));
}

#[test]
fn a_cluster_whose_certificate_expired_goes_on_with_the_new_one() {
    let mut world = World::new();
    let made = make(1, 2, 2, "a");
    world.offer(&made);
    world.access = Access::Renewal;
    world.agent_in(AgentInput::Cluster(Box::default()));
    world.agent_in(report(1, "ready"));
    world.agent_in(AgentInput::Renew { csr: b"new key".to_vec() });
    world.connect();
    world.run();
    assert_eq!(world.renewed, 1);
    assert_eq!(world.closed, [RejectCode::Busy]);
    assert_eq!(world.reconnects, [(None, Some(RejectCode::Busy))]);
    assert!(world.bundles.is_empty() && world.needs == 0 && world.units.is_empty() && world.cluster.is_none());

    world.access = Access::Full;
    world.connect();
    world.run();
    assert!(world.has(&made));
    assert!(world.cluster.is_some() && world.units.len() == 1);
}
