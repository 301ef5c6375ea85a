//! What controllers add where it matters for security: told once, kept, and no drift.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::ObjectOptions;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, Ready};
use serde_json::{Value, json};
use world::*;

const HOST_NETWORK: &str = "spec|template|spec|hostNetwork";

fn web() -> ObjectKey {
    key("apps", "Deployment", "default", "web")
}

fn of_git() -> Unit {
    unit("a", vec![deployment("web", 2)])
}

fn world() -> World {
    let mut w = World::new();
    w.commit(&[of_git()]);
    w.settle();
    w.writes();
    w.engine.take_happened();
    w
}

fn add(w: &mut World, manager: &str, value: Option<Value>) {
    w.cluster.update(&web(), manager, &[(HOST_NETWORK, value)]);
    w.settle();
}

/// How often it was told since the last call.
fn told(w: &mut World) -> u32 {
    w.report("a");
    w.engine.take_reports(w.now);
    w.engine.take_happened().into_iter().filter(|happened| happened.what == EventKind::Added).map(|h| h.count).sum()
}

fn listed(w: &World) -> Vec<String> {
    let report = w.report("a");
    report.additions.iter().map(|a| format!("{} {}: {} by {}", a.key, a.path, a.live, a.manager)).collect()
}

#[test]
fn a_controllers_addition_is_told_once_and_stays() {
    let mut w = world();
    add(&mut w, "injector", Some(json!(true)));
    assert_eq!(told(&mut w), 1);
    let words = ["Deployment.apps default/web spec.template.spec.hostNetwork: true by injector"];
    assert_eq!(listed(&w), words);
    let report = w.report("a");
    assert_eq!((report.ready, report.counts.drifted, report.drift.len()), (Ready::True, 0, 0));
    assert_eq!(w.writes(), [""; 0], "it stays");
    // Noise, a heal of something else, and new content do not tell it again.
    w.cluster.update(&web(), "injector", &[("metadata|annotations|at", Some(json!("1")))]);
    w.settle();
    w.cluster.update(&web(), "kubectl", &[("spec|replicas", Some(json!(7)))]);
    w.settle();
    w.commit(&[unit("a", vec![deployment("web", 3)])]);
    w.settle();
    assert_eq!((told(&mut w), listed(&w).as_slice()), (0, words.map(str::to_owned).as_slice()));
    // Another value does; gone, it is listed no more, and come again it is new.
    add(&mut w, "injector", Some(json!(false)));
    assert_eq!(told(&mut w), 1);
    add(&mut w, "injector", None);
    assert_eq!((told(&mut w), listed(&w)), (0, vec![]));
    add(&mut w, "injector", Some(json!(true)));
    assert_eq!(told(&mut w), 1);
    // Another pod tells it with the time at which it was written, so that the same is not two things in the history.
    w.now += 3_600_000;
    w.restart();
    w.settle();
    assert_eq!(told(&mut w), 1);
    let event = w.report("a").recent.into_iter().find(|event| event.what == EventKind::Added).unwrap();
    assert!(event.at < w.now && event.at == w.report("a").additions[0].since, "{event:?}");
}

#[test]
fn what_git_leaves_to_others_and_what_people_add_is_not_told() {
    let mut w = world();
    let ignore = vec!["/spec/template/spec/hostNetwork".to_owned()];
    add(&mut w, "injector", Some(json!(true)));
    assert_eq!(told(&mut w), 1);
    w.commit(&[of_git().marked(web(), ObjectOptions { ignore, ..ObjectOptions::default() })]);
    w.settle();
    assert_eq!((told(&mut w), listed(&w)), (0, vec![]));
    let mut w = world();
    add(&mut w, "kubectl-edit", Some(json!(true)));
    assert_eq!((told(&mut w), listed(&w)), (0, vec![]));
    assert_eq!(w.writes().len(), 1, "it is drift, and healed");
    assert_eq!(w.cluster.get(&web()).unwrap().pointer("/spec/template/spec/hostNetwork"), None);
}

/// A field that Git declares and another manager has taken is drift.
#[test]
fn what_git_declares_is_no_addition() {
    let mut w = World::new();
    let mut object = deployment("web", 2);
    object["spec"]["template"]["spec"]["hostNetwork"] = false.into();
    w.commit(&[unit("a", vec![object]).with(|spec| spec.drift_mode = driftless_protocol::bundle::DriftMode::Observe)]);
    w.settle();
    add(&mut w, "injector", Some(json!(true)));
    assert_eq!((told(&mut w), listed(&w), w.report("a").drift.len()), (0, vec![], 1));
}

/// What comes while the unit is suspended is told when that is over, unless it is left to others then.
#[test]
fn what_was_added_while_the_unit_was_suspended_is_told_after() {
    for ignored in [false, true] {
        let mut w = world();
        w.commit(&[of_git().suspended()]);
        w.settle();
        add(&mut w, "injector", Some(json!(true)));
        assert_eq!((told(&mut w), listed(&w)), (0, vec![]));
        let ignore = vec!["/spec/template/spec/hostNetwork".to_owned()];
        let options = ObjectOptions { ignore, ..ObjectOptions::default() };
        w.commit(&[if ignored { of_git().marked(web(), options) } else { of_git() }]);
        w.settle();
        assert_eq!((told(&mut w), listed(&w).len()), if ignored { (0, 0) } else { (1, 1) });
        w.commit(&[of_git().suspended()]);
        w.settle();
        w.commit(&[of_git()]);
        w.settle();
        assert_eq!(told(&mut w), u32::from(ignored), "once");
    }
}
