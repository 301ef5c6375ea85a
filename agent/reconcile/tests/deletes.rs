//! When what left Git is deleted, beyond the rules on single objects: what suspends, precedes and refuses deletes.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::DeletionPolicy;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, Ready};
use driftless_reconcile::step::{Action, Step};
use serde_json::json;
use world::*;

fn map(name: &str) -> ObjectKey {
    key("", "ConfigMap", "default", name)
}

fn pass(w: &mut World, seconds: u64) {
    let until = w.now + seconds * 1000;
    w.run_until(until, &mut |_: &Step| None);
    w.now = w.now.max(until);
}

#[test]
fn of_a_unit_that_leaves_git_while_suspended_nothing_is_deleted() {
    for restart in [false, true] {
        let mut w = World::new();
        let of = || unit("a", vec![config_map("x", "1")]).with(|s| s.deletion_policy = DeletionPolicy::Delete);
        let other = || unit("b", vec![config_map("y", "1")]);
        w.commit(&[of(), other()]);
        w.settle();
        w.commit(&[of().suspended(), other()]);
        w.settle();
        if restart {
            w.restart();
            w.settle();
        }
        w.writes();
        w.commit(&[other()]);
        w.settle();
        assert_eq!(w.writes(), [""; 0]);
        assert!(w.cluster.get(&map("x")).is_some());
        assert_eq!(w.engine.inventory_len(), 1, "it is nobody's now");
        // One that went on before it left is deleted as ever.
        w.commit(&[of(), other()]);
        w.settle();
        w.commit(&[of().suspended(), other()]);
        w.settle();
        w.commit(&[of(), other()]);
        w.settle();
        w.commit(&[other()]);
        w.settle();
        assert!(w.cluster.get(&map("x")).is_none());
    }
}

#[test]
fn what_leaves_a_unit_stays_until_what_the_unit_depends_on_is_ready() {
    let mut w = World::new();
    let units = |of_a: &str, of_b: &[&str]| {
        let objects = of_b.iter().map(|name| config_map(name, "1")).collect();
        [unit("a", vec![config_map("a", of_a)]), unit("b", objects).after("a")]
    };
    w.commit(&units("1", &["x", "y"]));
    w.settle();
    w.cluster.refuse.insert(map("a").to_string(), failure(422, "Invalid", "data.k: Invalid value"));
    w.commit(&units("2", &["y"]));
    pass(&mut w, 600);
    assert!(w.cluster.get(&map("x")).is_some());
    w.cluster.refuse.clear();
    w.commit(&units("3", &["y"]));
    w.settle();
    assert!(w.cluster.get(&map("x")).is_none());
    assert_eq!(w.report("b").ready, Ready::True);
}

#[test]
fn a_delete_that_is_refused_holds_up_no_other() {
    let mut w = World::new();
    let service = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}});
    w.commit(&[unit("a", vec![config_map("x", "1"), deployment("web", 1), service, config_map("stays", "1")])]);
    w.settle();
    w.commit(&[unit("a", vec![config_map("stays", "1")])]);
    let mut refuse = |step: &Step| match &step.action {
        Action::Delete(delete) if delete.key.kind == "Deployment" => Some(Fault::Refused(403)),
        _ => None,
    };
    w.run_until(w.now + 60_000, &mut refuse);
    let left: Vec<String> = w.cluster.keys().filter(|k| k.kind != "Namespace").map(|k| k.name.to_string()).collect();
    assert_eq!(left, ["stays", "web"]);
    let report = w.report("a");
    assert!(report.recent.iter().filter(|event| event.what == EventKind::Pruned).count() == 2, "{report:#?}");
    // It goes once it may.
    pass(&mut w, 600);
    assert!(w.cluster.get(&key("apps", "Deployment", "default", "web")).is_none());
}

#[test]
fn deletes_that_were_refused_take_nothing_from_the_hour() {
    let mut w = World::new();
    let all = |count: usize| (0..count).map(|n| config_map(&format!("x{n:02}"), "1")).collect::<Vec<_>>();
    w.commit(&[unit("a", all(20)), unit("b", vec![config_map("stays", "1")])]);
    w.settle();
    w.commit(&[unit("a", all(5)), unit("b", vec![config_map("stays", "1")])]);
    let mut conflicts = 8;
    let mut faults = |step: &Step| {
        let refused = matches!(step.action, Action::Delete(_)) && conflicts > 0;
        conflicts -= usize::from(refused);
        refused.then_some(Fault::Refused(409))
    };
    w.run_until(w.now + 60_000, &mut faults);
    assert_eq!(conflicts, 0);
    assert_eq!(w.cluster.keys().filter(|key| key.kind == "ConfigMap").count(), 6);
    assert_eq!(w.report("a").held_deletes, []);
}
