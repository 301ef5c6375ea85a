//! What is left to others, when drift is healed, and full checks.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{DriftMode, ObjectOptions};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::Ready;
use driftless_reconcile::step::Step;
use serde_json::{Value, json};
use world::*;

fn web() -> ObjectKey {
    key("apps", "Deployment", "default", "web")
}

fn ignoring(replicas: u64, pointers: &[&str]) -> Unit {
    let ignore = pointers.iter().map(|p| (*p).to_owned()).collect();
    unit("a", vec![deployment("web", replicas)]).marked(web(), ObjectOptions { ignore, ..ObjectOptions::default() })
}

fn replicas(w: &World) -> Value {
    w.cluster.get(&web()).unwrap()["spec"]["replicas"].clone()
}

fn for_seconds(w: &mut World, seconds: u64) {
    let until = w.now + seconds * 1000;
    w.run_until(until, &mut |_: &Step| None);
    w.now = w.now.max(until);
    w.run_until(until, &mut |_: &Step| None);
}

/// Flux's two rules: what another manager owns is left out of the apply, what nobody else owns is sent as it is live.
#[test]
fn an_ignored_field_is_declared_once_and_then_left_to_others() {
    for manager in ["some-controller", "kubectl-edit"] {
        let mut w = World::new();
        w.commit(&[ignoring(3, &["/spec/replicas"])]);
        w.settle();
        assert_eq!(replicas(&w), 3, "a new object is as declared");
        w.writes();
        w.cluster.update(&web(), manager, &[("spec|replicas", Some(json!(7)))]);
        w.settle();
        assert_eq!(w.writes(), [""; 0], "{manager}");
        assert_eq!(w.report("a").drift, [], "{manager}");
        // New content leaves it alone, and so does a heal of something else.
        let mut changed = ignoring(3, &["/spec/replicas"]);
        changed.objects[0]["spec"]["paused"] = true.into();
        w.commit(std::slice::from_ref(&changed));
        w.settle();
        assert_eq!(w.writes(), ["Change Deployment.apps default/web"], "{manager}");
        assert_eq!(replicas(&w), 7, "{manager}");
        w.cluster.update(&web(), "kubectl-edit", &[("spec|paused", Some(json!(false)))]);
        w.settle();
        assert_eq!((w.writes().len(), replicas(&w)), (1, json!(7)), "{manager}");
        // Additions of people elsewhere are taken over; what is ignored stays theirs.
        w.cluster.update(&web(), manager, &[("metadata|annotations|by-hand", Some(json!("1")))]);
        w.settle();
        assert_eq!(replicas(&w), 7, "{manager}");
        w.writes();
        w.restart();
        w.settle();
        assert_eq!(w.writes(), [""; 0], "{manager}, restarted");
        // No longer ignored: it is as declared again.
        changed.options.clear();
        w.commit(&[changed]);
        w.settle();
        assert_eq!(replicas(&w), 3, "{manager}");
    }
}

#[test]
fn an_ignored_field_of_an_object_that_is_there_already_is_not_taken() {
    let mut w = World::new();
    w.cluster.apply(&deployment("web", 9), "some-scaler").unwrap();
    w.commit(&[ignoring(3, &["/spec/replicas"])]);
    w.settle();
    assert_eq!(replicas(&w), 9);
    assert_eq!(w.report("a").ready, Ready::True);
    assert_eq!(w.report("a").counts.in_sync, 1);
}

#[test]
fn what_people_add_inside_an_ignored_field_stays() {
    let mut w = World::new();
    w.commit(&[ignoring(3, &["/metadata/annotations"])]);
    w.settle();
    w.writes();
    w.cluster.update(&web(), "kubectl-edit", &[("metadata|annotations|mine", Some(json!("1")))]);
    w.settle();
    assert_eq!((w.writes(), w.report("a").drift), (vec![], vec![]));
}

/// Fields that other tools applied before us become ours at the first meeting, though no watch shows the object before.
#[test]
fn what_other_tools_applied_is_taken_over() {
    let mut w = World::new();
    let mut theirs = config_map("x", "old");
    theirs["data"]["left-git"] = "1".into();
    w.cluster.apply(&theirs, "kustomize-controller").unwrap();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    let live = w.cluster.get(&key("", "ConfigMap", "default", "x")).unwrap();
    assert_eq!(live["data"], json!({"k": "1"}));
    let managers: Vec<&Value> =
        live["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| &e["manager"]).collect();
    assert_eq!(managers, ["driftless-agent"]);
    w.writes();
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
}

fn scale(w: &mut World, to: u64) {
    w.cluster.update_through(&web(), "kubectl", "scale", &[("spec|replicas", Some(json!(to)))]);
}

#[test]
fn drift_is_healed_after_the_delay_and_not_when_it_ends_before() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3)]).with(|s| s.remediation_delay_seconds = 60)]);
    w.settle();
    w.writes();
    scale(&mut w, 5);
    for_seconds(&mut w, 30);
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("a").objects[0].message.contains("healed after its pause"), "{:?}", w.report("a").objects);
    for_seconds(&mut w, 40);
    assert_eq!(w.writes(), ["Heal Deployment.apps default/web"]);
    scale(&mut w, 5);
    for_seconds(&mut w, 30);
    scale(&mut w, 3);
    for_seconds(&mut w, 60);
    assert_eq!(replicas(&w), 3);
    // Deleted: the same.
    w.writes();
    w.cluster.delete(&web(), None, None).unwrap();
    for_seconds(&mut w, 30);
    assert_eq!(w.writes(), [""; 0]);
    for_seconds(&mut w, 40);
    assert_eq!(w.writes(), ["Heal Deployment.apps default/web"]);
}

#[test]
fn an_interval_between_heals_and_a_limit_per_hour_are_kept() {
    for (interval, limit, heals) in [(0, 0, 12), (600, 0, 6), (0, 3, 3), (600, 2, 2)] {
        let mut w = World::new();
        w.commit(&[unit("a", vec![deployment("web", 3)]).with(|s| {
            s.remediation_interval_seconds = interval;
            s.heals_per_hour = limit;
        })]);
        w.settle();
        w.writes();
        for _ in 0..12 {
            scale(&mut w, 5);
            for_seconds(&mut w, 290);
        }
        let count = w.writes().iter().filter(|line| line.starts_with("Heal")).count();
        assert_eq!(count, heals, "interval {interval}, limit {limit}");
        // In the next hour it goes on.
        for_seconds(&mut w, 4_000);
        assert_eq!(replicas(&w), 3, "interval {interval}, limit {limit}");
    }
}

#[test]
fn a_limit_per_hour_holds_also_for_what_drifts_at_once() {
    let mut w = World::new();
    let names: Vec<String> = (0..7).map(|n| format!("x-{n}")).collect();
    let objects = names.iter().map(|name| config_map(name, "1")).collect();
    w.commit(&[unit("a", objects).with(|s| s.heals_per_hour = 3)]);
    w.settle();
    w.writes();
    for name in &names {
        w.cluster.update(&key("", "ConfigMap", "default", name), "kubectl-edit", &[("data|k", Some(json!("2")))]);
    }
    for (seconds, heals) in [(3_500, 3), (200, 3), (3_600, 1)] {
        for_seconds(&mut w, seconds);
        assert_eq!(w.writes().len(), heals);
    }
}

#[test]
fn healing_waits_for_a_healthy_unit_when_asked_to() {
    let mut w = World::new();
    let claim =
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d", "namespace": "default"}});
    let x = key("", "ConfigMap", "default", "x");
    w.commit(&[unit("a", vec![config_map("x", "1"), claim]).with(|s| s.remediate_only_when_healthy = true)]);
    w.settle();
    w.writes();
    // The claim is not bound: the unit is ready, for it does not wait, and not healthy.
    assert_eq!(w.report("a").ready, Ready::True);
    w.cluster.update(&x, "kubectl-edit", &[("data|k", Some(json!("2")))]);
    for_seconds(&mut w, 60);
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("a").objects.iter().any(|o| o.message.contains("healed once the unit is healthy")));
    let claim = key("", "PersistentVolumeClaim", "default", "d");
    w.cluster.update(&claim, "kube-controller-manager", &[("status|phase", Some(json!("Bound")))]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/x"]);
}

/// A lost watch event is found by the full check at the latest; an idle unit writes nothing by it.
#[test]
fn an_interval_bounds_how_long_a_lost_event_is_missed() {
    let mut w = World::new();
    w.commit(&[
        unit("a", vec![deployment("web", 3)]),
        unit("b", vec![config_map("y", "1"), deployment("other", 1)]).with(|s| s.interval_seconds = 3_600),
    ]);
    w.settle();
    w.writes();
    w.deaf = true;
    scale(&mut w, 5);
    w.settle();
    assert_eq!((w.writes(), replicas(&w)), (vec![], json!(5)), "nobody told");
    for_seconds(&mut w, 600);
    assert_eq!((w.writes(), replicas(&w)), (vec!["Heal Deployment.apps default/web".to_owned()], json!(3)));
    assert_eq!(w.relists, ["Deployment"], "one list for all units that share the kind, of the kinds that are due");
    w.relists.clear();
    for_seconds(&mut w, 3_600);
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.relists.iter().filter(|kind| *kind == "Deployment").count() <= 7, "{:?}", w.relists);
    assert!(w.relists.iter().filter(|kind| *kind == "ConfigMap").count() <= 2, "{:?}", w.relists);
}

#[test]
fn where_no_watch_can_be_kept_objects_are_read_at_the_interval() {
    let mut w = World::new();
    w.blind.insert("Deployment".into());
    w.commit(&[unit("a", vec![deployment("web", 3)])]);
    w.settle();
    assert_eq!(w.report("a").ready, Ready::True);
    w.restart();
    w.settle();
    assert_eq!(w.report("a").ready, Ready::True, "{}", w.report("a").message);
    w.writes();
    scale(&mut w, 5);
    for_seconds(&mut w, 700);
    assert_eq!(w.writes(), ["Heal Deployment.apps default/web"]);
    w.cluster.delete(&web(), None, None).unwrap();
    for_seconds(&mut w, 700);
    assert_eq!(w.writes(), ["Heal Deployment.apps default/web"]);
    assert!(w.engine.problems().iter().any(|p| p.code == "KindNotWatched"));
}

#[test]
fn observed_drift_is_shown_also_when_a_mode_changes() {
    let mut w = World::new();
    let of = |mode| unit("a", vec![deployment("web", 3)]).with(|s| s.drift_mode = mode);
    w.commit(&[of(DriftMode::Observe)]);
    w.settle();
    w.writes();
    scale(&mut w, 5);
    w.settle();
    assert_eq!(w.report("a").counts.drifted, 1);
    w.commit(&[of(DriftMode::Warn)]);
    w.settle();
    assert_eq!((w.writes(), w.report("a").counts.drifted), (vec![], 1));
    w.commit(&[of(DriftMode::Correct)]);
    w.settle();
    assert_eq!((w.writes().len(), replicas(&w)), (1, json!(3)));
}

/// Nothing the engine does waits for its hub: what it was told last is enforced, by the engine that heard it and by its
/// successors.
#[test]
fn a_day_without_the_hub_is_a_day_of_enforcing() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3), config_map("x", "1")])]);
    w.settle();
    w.writes();
    for hour in 0..24 {
        if hour % 7 == 5 {
            w.restart();
        }
        for_seconds(&mut w, 3_600);
        assert_eq!(w.writes(), [""; 0], "hour {hour}: nothing happened, and something was written");
        scale(&mut w, 5);
        w.settle();
        assert_eq!(w.writes(), ["Heal Deployment.apps default/web"], "hour {hour}");
        assert_eq!(replicas(&w), 3);
    }
    assert_eq!(w.report("a").contests, []);
}
