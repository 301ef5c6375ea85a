//! What the hub does not take from an agent.

use driftless_protocol::id::{ClusterId, Digest, TransferId};
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RejectCode};
use driftless_protocol::session::Now;
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};
use driftless_protocol::wire::{FrameHeader, FrameType, Message};

use crate::common::{START, make};
use crate::{World, first_message, hub_setup, unit};

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
    for (wire_max, expected) in [(0, None), (1, Some(1)), (2, Some(2)), (3, Some(3)), (4, Some(4)), (7, Some(4))] {
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
fn frames_of_the_other_direction_are_refused() {
    let frame = first_message().encode(1).unwrap();
    assert!(FrameHeader::parse::<HubToAgent>(frame[..8].try_into().unwrap(), 1).is_err());
    assert_eq!(FrameHeader::parse::<AgentToHub>(frame[..8].try_into().unwrap(), 1).unwrap().kind, FrameType::Hello);
}
