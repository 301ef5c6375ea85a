//! Many seeds of a cluster in which everything goes wrong now and then: requests refused, lost, or carried out with the
//! answer lost; restarts; people and controllers who write; commits that come while work is under way. In the end the
//! cluster is as declared, and nothing was deleted that should not have been.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::Ready;
use driftless_reconcile::plan::{self, plan};
use driftless_reconcile::step::{Action, Step};
use proptest::prelude::*;
use serde_json::json;
use world::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A commit: per unit the objects it declares, as bits over the pool, and their value; or it is held or suspended.
    Commit { units: Vec<(u16, u8, How)>, whole: bool },
    /// Somebody edits a field.
    Edit { object: usize, manager: usize },
    /// Somebody adds a field.
    Add { object: usize, manager: usize },
    /// A controller writes status.
    Noise { object: usize, value: u8 },
    /// Somebody deletes an object.
    Delete { object: usize },
    /// The agent dies and starts again.
    Restart,
    /// Time passes, with faults.
    Run { steps: u32, seed: u64, percent: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Full,
    Held,
    Suspended,
    Absent,
}

const POOL: usize = 9;
const MANAGERS: [&str; 3] = ["kubectl-edit", "some-controller", "kustomize-controller"];

fn pool(ix: usize, value: u8) -> serde_json::Value {
    match ix {
        0 => namespace("team"),
        1..=3 => {
            let mut object = config_map(&format!("c{ix}"), &value.to_string());
            object["metadata"]["namespace"] = "team".into();
            object
        }
        8 => {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "team-role",
            "labels": {"value": value.to_string()}}})
        }
        _ => config_map(&format!("c{ix}"), &value.to_string()),
    }
}

fn pool_key(ix: usize) -> ObjectKey {
    ObjectKey::of(&pool(ix, 0)).unwrap()
}

fn event() -> impl Strategy<Value = Event> {
    let how =
        prop_oneof![8 => Just(How::Full), 1 => Just(How::Held), 1 => Just(How::Suspended), 1 => Just(How::Absent)];
    prop_oneof![
        4 => (prop::collection::vec((any::<u16>(), 0u8..3, how), 3), prop::bool::weighted(0.9))
            .prop_map(|(units, whole)| Event::Commit { units, whole }),
        2 => (0..POOL, 0..MANAGERS.len()).prop_map(|(object, manager)| Event::Edit { object, manager }),
        2 => (0..POOL, 0..MANAGERS.len()).prop_map(|(object, manager)| Event::Add { object, manager }),
        3 => (0..POOL, 0u8..3).prop_map(|(object, value)| Event::Noise { object, value }),
        1 => (0..POOL).prop_map(|object| Event::Delete { object }),
        2 => Just(Event::Restart),
        6 => (1u32..40, any::<u64>(), prop_oneof![Just(0u8), Just(20), Just(60)])
            .prop_map(|(steps, seed, percent)| Event::Run { steps, seed, percent }),
    ]
}

/// Faults by a small generator, so that a failing case can be shrunk and replayed.
struct Dice {
    state: u64,
    percent: u8,
}

impl Faults for Dice {
    fn on(&mut self, _: &Step) -> Option<Fault> {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = (self.state >> 33) % 100;
        if roll >= u64::from(self.percent) {
            return None;
        }
        Some(match roll % 6 {
            0 => Fault::Refused(500),
            1 => Fault::Refused(409),
            2 => Fault::Refused(429),
            3 => Fault::Lost,
            4 => Fault::TakenOver,
            _ => Fault::DoneButLost,
        })
    }
}

/// The units of a commit: an object goes to the first unit that wants it, as the renderer refuses doubles.
fn units(of: &[(u16, u8, How)]) -> Vec<Unit> {
    let mut taken = BTreeSet::new();
    let mut out = Vec::new();
    for (n, (bits, value, how)) in of.iter().enumerate() {
        let name = ["a", "b", "c"][n];
        if *how == How::Absent {
            continue;
        }
        let declares = *how == How::Full;
        let objects = (0..POOL)
            .filter(|ix| declares && bits & (1 << ix) != 0 && taken.insert(*ix))
            .map(|ix| pool(ix, *value))
            .collect();
        let mut unit = unit(name, objects);
        if n == 2 && out.iter().any(|u: &Unit| u.id.name == "a") {
            unit = unit.after("a");
        }
        out.push(match how {
            How::Held => unit.held(),
            How::Suspended => unit.suspended(),
            _ => unit,
        });
    }
    out
}

/// Every declared object that may exist does, with its value.
fn assert_as_declared(w: &World, of: &[Unit]) {
    let blocked = of.iter().any(|u| u.state.is_some());
    for unit in of.iter().filter(|u| u.state.is_none()) {
        for object in &unit.objects {
            let key = ObjectKey::of(object).unwrap();
            let namespace_there = key.namespace != "team" || w.cluster.get(&pool_key(0)).is_some();
            if !namespace_there || (blocked && !unit.spec.depends_on.is_empty()) {
                continue;
            }
            let unready = unit.spec.depends_on.iter().any(|d| w.report(&d.name).ready != Ready::True);
            if unready {
                continue;
            }
            let live =
                w.cluster.get(&key).unwrap_or_else(|| panic!("{key} is not there: {:#?}", w.report(&unit.id.name)));
            assert_eq!(live["data"], object["data"], "{key}");
            let labels = &live["metadata"]["labels"];
            assert_eq!(labels["driftless.dev/unit"], unit.id.label().to_string(), "{key}");
            assert!(live["metadata"]["annotations"].get("added-by-hand").is_none(), "{key}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cluster_becomes_as_declared_and_nothing_else_is_deleted(events in prop::collection::vec(event(), 1..30)) {
        let mut w = World::new();
        let mut last: Vec<Unit> = Vec::new();
        // Who was ever declared by a unit that was built: nothing else may ever be deleted.
        let mut declared_ever: BTreeSet<ObjectKey> = BTreeSet::new();
        let theirs = config_map("not-ours", "1");
        w.cluster.apply(&theirs, "somebody").unwrap();
        let mut whole_now = true;
        for event in events {
            match event {
                Event::Commit { units: of, whole } => {
                    last = units(&of);
                    whole_now = whole;
                    declared_ever.extend(last.iter().flat_map(|u| u.objects.iter().filter_map(ObjectKey::of)));
                    w.commit_index(&last, whole, &[]);
                }
                Event::Edit { object, manager } => {
                    let path = if object == 0 || object == 8 { "metadata|labels|value" } else { "data|k" };
                    w.cluster.update(&pool_key(object), MANAGERS[manager], &[(path, Some(json!("edited")))]);
                }
                Event::Add { object, manager } => {
                    let path = if manager == 0 { "metadata|annotations|added-by-hand" } else { "metadata|annotations|added" };
                    w.cluster.update(&pool_key(object), MANAGERS[manager], &[(path, Some(json!("1")))]);
                }
                Event::Noise { object, value } => {
                    let (key, value) = (pool_key(object), Some(json!(value)));
                    w.cluster.update_through(&key, "some-controller", "status", &[("status|seen", value)]);
                    w.deliver();
                }
                Event::Delete { object } => {
                    if object != 0 {
                        let _ = w.cluster.delete(&pool_key(object), None, None);
                    }
                }
                Event::Restart => w.restart(),
                Event::Run { steps, seed, percent } => {
                    let mut dice = Dice { state: seed, percent };
                    let until = w.now + u64::from(steps) * 500;
                    run_checked(&mut w, until, &mut dice, &last, whole_now, &declared_ever)?;
                }
            }
        }
        // Quiet: it converges, and then there is nothing more to do.
        let until = w.now + 900_000;
        run_checked(&mut w, until, &mut Dice { state: 0, percent: 0 }, &last, whole_now, &declared_ever)?;
        assert_as_declared(&w, &last);
        prop_assert!(w.cluster.get(&ObjectKey::of(&theirs).unwrap()).is_some());
        w.writes();
        w.settle();
        // What waits for a namespace that nobody made is tried now and then; nothing else is.
        let team = w.cluster.get(&pool_key(0)).is_some();
        let in_vain = |line: &String| team || !line.starts_with("Create ConfigMap team/");
        let writes: Vec<String> = w.writes().into_iter().filter(in_vain).collect();
        prop_assert_eq!(writes, Vec::<String>::new(), "settled, and yet something is written");
        w.restart();
        w.settle();
        let writes: Vec<String> = w.writes().into_iter().filter(in_vain).collect();
        prop_assert_eq!(writes, Vec::<String>::new(), "after a restart in a settled cluster");
        prop_assert!(w.engine.idle());
    }
}

/// Runs, and checks each delete at the moment it is asked for.
fn run_checked(
    w: &mut World,
    until: u64,
    dice: &mut Dice,
    last: &[Unit],
    whole: bool,
    declared_ever: &BTreeSet<ObjectKey>,
) -> Result<(), TestCaseError> {
    let declared: BTreeSet<ObjectKey> = last.iter().flat_map(|u| u.objects.iter().filter_map(ObjectKey::of)).collect();
    let states: BTreeMap<String, bool> = last.iter().map(|u| (u.id.name.clone(), u.state.is_none())).collect();
    let mut wrong = None;
    let mut check = |step: &Step| {
        if let Action::Delete(delete) = &step.action {
            let why = if declared.contains(&delete.key) {
                Some("it is declared")
            } else if !declared_ever.contains(&delete.key) {
                Some("it was never ours")
            } else if delete.key.kind == "Namespace" {
                Some("a namespace needs approval")
            } else {
                match states.get(&delete.unit.name) {
                    Some(true) => None,
                    Some(false) => Some("its unit is held or suspended"),
                    None if whole => None,
                    None => Some("the index is not whole"),
                }
            };
            if let Some(why) = why {
                wrong = Some(format!("{} of {} is deleted although {why}", delete.key, delete.unit));
            }
        }
        dice.on(step)
    };
    w.run_until(until, &mut check);
    match wrong {
        Some(wrong) => Err(TestCaseError::fail(wrong)),
        None => Ok(()),
    }
}

#[test]
fn a_plan_for_a_cluster_in_sync_is_empty() {
    let mut w = World::new();
    w.commit(&[unit("a", (0..POOL).map(|ix| pool(ix, 1)).collect())]);
    w.settle();
    let shards: Vec<(u32, String)> = w.cluster.inventory.iter().map(|(n, t)| (*n, t.clone())).collect();
    let live: Vec<_> = w.cluster.keys().filter_map(|key| w.cluster.get(key)).collect();
    let made = w.bundle.clone().unwrap();
    let world = plan::World {
        desired: made.desired(),
        blobs: &w.store,
        inventory: &shards,
        served: &w.cluster.served,
        live: &live,
    };
    let done = plan(&world, &w.rules, w.now);
    assert_eq!(done.steps, []);
    assert_eq!(done.report[0].counts.in_sync, POOL as u32);
    let fresh = plan::World { inventory: &[], live: &[], ..world };
    let steps = plan(&fresh, &w.rules, w.now).steps;
    assert!(matches!(&steps[..], [Step { action: Action::WriteInventory { .. }, .. }]), "{steps:?}");
}

#[test]
fn ten_thousand_objects_in_many_units_settle_and_an_event_is_cheap() {
    let mut w = World::new();
    let of: Vec<Unit> = (0..500)
        .map(|u| unit(&format!("u{u:03}"), (0..20).map(|i| config_map(&format!("c{u}-{i}"), "1")).collect()))
        .collect();
    w.commit(&of);
    w.settle();
    assert_eq!(w.engine.inventory_len(), 10_000);
    assert!(
        w.cluster.inventory.len() > 1 && w.cluster.inventory.len().is_power_of_two(),
        "{}",
        w.cluster.inventory.len()
    );
    for text in w.cluster.inventory.values() {
        assert!(text.len() <= 512 * 1024, "{} bytes", text.len());
    }
    assert_eq!(w.writes().len(), 10_000);
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.in_flight_most <= w.rules.in_flight + 1);
}
