//! Histories made by chance.

use std::collections::BTreeSet;

use driftless_protocol::id::UnitId;
use driftless_protocol::message::RefusalCode;
use driftless_protocol::report::UnitReport;
use driftless_protocol::session::agent::{self, Input as AgentInput};
use proptest::prelude::*;

use crate::common::make;
use crate::{World, report, setup, unit};

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
