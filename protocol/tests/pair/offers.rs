//! A head and its blobs on their way from hub to agent.

use driftless_protocol::message::RefusalCode;
use driftless_protocol::session::agent::{self};

use crate::common::make;
use crate::{World, setup};

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
