//! Another manager that never gives up: noticed, named, damped, told once, and over when it stops.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, EventKind, Ready};
use driftless_reconcile::step::Step;
use serde_json::{Value, json};
use world::*;

fn pass(w: &mut World, seconds: u64) {
    let until = w.now + seconds * 1000;
    w.run_until(until, &mut |_: &Step| None);
    w.now = w.now.max(until);
    w.run_until(until, &mut |_: &Step| None);
}

fn web() -> ObjectKey {
    key("apps", "Deployment", "default", "web")
}

/// A hostile controller: each second it sets its value again. Heals within that time.
fn fight(w: &mut World, key: &ObjectKey, manager: &str, path: &str, value: &Value, seconds: u64) -> usize {
    w.writes();
    for _ in 0..seconds {
        w.cluster.update(key, manager, &[(path, Some(value.clone()))]);
        pass(w, 1);
    }
    w.writes().iter().filter(|line| line.starts_with("Heal")).count()
}

#[test]
fn a_hostile_controller_is_named_damped_told_once_and_over_when_it_stops() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3), config_map("x", "1")])]);
    w.settle();
    let first = fight(&mut w, &web(), "some-operator", "spec|replicas", &json!(9), 300);
    // At once three times, then 1, 2, 4, ... 32 s apart, then once a minute.
    assert!((8..=13).contains(&first), "{first} heals in five minutes");
    let later = fight(&mut w, &web(), "some-operator", "spec|replicas", &json!(9), 1_200);
    assert!((18..=21).contains(&later), "{later} heals in twenty minutes: never slower than once a minute");
    let report = w.report("a");
    assert_eq!(report.contests.len(), 1);
    let contest = &report.contests[0];
    assert_eq!((contest.manager.as_deref(), contest.path.as_str()), (Some("some-operator"), "spec.replicas"));
    assert_eq!(contest.class, DriftClass::Controller);
    assert!(
        contest
            .hint
            .contains("spec.ignore: [{paths: [\"/spec/replicas\"], target: {group: apps, kind: Deployment, name: web"),
        "{}",
        contest.hint
    );
    assert!(contest.flips >= 3);
    // Another field, and another object, are healed at once meanwhile.
    w.cluster.update(&web(), "kubectl-edit", &[("spec|paused", Some(json!(true)))]);
    w.cluster.update(&key("", "ConfigMap", "default", "x"), "kubectl-edit", &[("data|k", Some(json!("2")))]);
    pass(&mut w, 1);
    assert_eq!(w.writes().len(), 2);
    // It stops.
    pass(&mut w, 120);
    assert_eq!(w.cluster.get(&web()).unwrap()["spec"]["replicas"], 3);
    assert_eq!(w.report("a").ready, Ready::True);
    pass(&mut w, 700);
    let report = w.report("a");
    assert_eq!(report.contests, []);
    let told = |what| report.recent.iter().filter(|event| event.what == what).count();
    assert_eq!(
        (told(EventKind::ContestEnded), told(EventKind::Contested)),
        (1, 0),
        "the beginning is long out of the list"
    );
    // And healing is immediate again.
    w.writes();
    w.cluster.update(&web(), "some-operator", &[("spec|replicas", Some(json!(9)))]);
    pass(&mut w, 1);
    assert_eq!(w.writes().len(), 1);
}

#[test]
fn a_contest_is_told_once_when_it_begins() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3)])]);
    w.settle();
    fight(&mut w, &web(), "some-operator", "spec|replicas", &json!(9), 60);
    let told: Vec<_> = w.report("a").recent.into_iter().filter(|event| event.what == EventKind::Contested).collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].detail.starts_with("spec.replicas goes back and forth with manager some-operator 3 times"),
        "{}",
        told[0].detail
    );
}

#[test]
fn what_matters_for_security_is_never_damped() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": {"a": "get"}});
    let role_key = key("rbac.authorization.k8s.io", "ClusterRole", "", "r");
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3), role])]);
    w.settle();
    assert_eq!(fight(&mut w, &role_key, "some-operator", "rules|a", &json!("*"), 120), 120);
    assert_eq!(fight(&mut w, &web(), "some-operator", "spec|template|spec|image", &json!("evil"), 120), 120);
    assert_eq!(w.report("a").contests.len(), 2);
}

#[test]
fn another_gitops_tool_is_told_where_to_look() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3)])]);
    w.settle();
    fight(&mut w, &web(), "kustomize-controller", "spec|replicas", &json!(9), 30);
    let contest = &w.report("a").contests[0];
    assert_eq!(contest.class, DriftClass::GitOps);
    assert!(contest.hint.contains("kustomize-controller applies this object too"), "{}", contest.hint);
}

#[test]
fn an_object_deleted_again_and_again_is_a_contest_too() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    let x = key("", "ConfigMap", "default", "x");
    w.writes();
    for _ in 0..300 {
        let _ = w.cluster.delete(&x, None, None);
        pass(&mut w, 1);
    }
    let heals = w.writes().iter().filter(|line| line.starts_with("Heal")).count();
    assert!((10..=18).contains(&heals), "{heals} in five minutes");
    let contest = &w.report("a").contests[0];
    assert_eq!((contest.path.as_str(), contest.class), ("", DriftClass::Deleted));
}

/// Two heals of people within minutes are no contest, nor is a value that the server itself writes otherwise.
#[test]
fn neither_people_nor_normalisation_contest() {
    let mut w = World::new();
    w.cluster.normalise.insert("data.k=\"1000m\"".into(), json!("1"));
    w.commit(&[unit("a", vec![deployment("web", 3), config_map("x", "1000m")])]);
    w.settle();
    for _ in 0..4 {
        w.cluster.update_through(&web(), "kubectl", "scale", &[("spec|replicas", Some(json!(5)))]);
        pass(&mut w, 20);
        assert_eq!(w.cluster.get(&web()).unwrap()["spec"]["replicas"], 3);
    }
    for n in 0..20 {
        w.cluster.update(&key("", "ConfigMap", "default", "x"), "some-controller", &[("data|theirs", Some(json!(n)))]);
        pass(&mut w, 1);
    }
    assert_eq!(w.report("a").contests, []);
}

/// The next pod goes on where this one was: no heals at full speed, nothing told a second time, and the end is told.
#[test]
fn a_contest_outlives_the_pod() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![deployment("web", 3)])]);
    w.settle();
    fight(&mut w, &web(), "some-operator", "spec|replicas", &json!(9), 120);
    let before = w.engine.contests();
    assert_eq!(before.len(), 1);
    w.restart();
    w.engine.take_back_contests(before.clone());
    assert_eq!(w.engine.contests(), before);
    let heals = fight(&mut w, &web(), "some-operator", "spec|replicas", &json!(9), 120);
    // 1, 2, 4, ... s apart again, not three times at once before.
    assert!((5..=8).contains(&heals), "{heals} heals in two minutes");
    let report = w.report("a");
    assert_eq!(report.contests.len(), 1);
    assert_eq!(report.contests[0].since, before[0].since);
    let told = |w: &World, what| w.report("a").recent.into_iter().filter(|event| event.what == what).count();
    assert_eq!(told(&w, EventKind::Contested), 0, "it was told by the pod before");
    pass(&mut w, 800);
    assert_eq!((told(&w, EventKind::ContestEnded), w.engine.contests().len()), (1, 0));
    // What is not there any more is not fought over.
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    pass(&mut w, 10);
    w.restart();
    w.engine.take_back_contests(before);
    assert_eq!(w.engine.contests(), []);
}

#[test]
fn a_contest_over_more_fields_than_are_counted_is_damped_as_well() {
    let mut w = World::new();
    let mut object = config_map("x", "1");
    for n in 0..40 {
        object["data"][format!("k{n:02}")] = "1".into();
    }
    w.commit(&[unit("a", vec![object])]);
    w.settle();
    w.writes();
    for second in 0..300 {
        let other = Some(json!(format!("other-{second}")));
        let paths: Vec<String> = (0..40).map(|n| format!("data|k{n:02}")).collect();
        let changes: Vec<(&str, Option<Value>)> = paths.iter().map(|path| (path.as_str(), other.clone())).collect();
        w.cluster.update(&key("", "ConfigMap", "default", "x"), "some-operator", &changes);
        pass(&mut w, 1);
    }
    let heals = w.writes().iter().filter(|line| line.starts_with("Heal")).count();
    assert!((8..=13).contains(&heals), "{heals} heals in five minutes");
}
