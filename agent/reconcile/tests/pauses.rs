//! `Pause` objects: what is held back, what is told, and what happens when they end.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{ApprovedDelete, Validation};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, Ready, reason};
use driftless_reconcile::pause;
use driftless_reconcile::step::Step;
use serde_json::{Value, json};
use world::*;

fn x() -> ObjectKey {
    key("", "ConfigMap", "default", "x")
}

/// A Pause in the agent's namespace, made now, for so many seconds.
fn pause_for(w: &World, name: &str, seconds: u64, covers: &Value) -> Value {
    let at = |millis: u64| {
        // The world begins on that day at 11:20.
        let second = millis / 1000 - 1_795_219_200;
        format!("2026-11-21T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    };
    let mut live = json!({
        "metadata": {"namespace": "driftless-system", "name": name, "uid": name, "creationTimestamp": at(w.now)},
        "spec": {"reason": "by hand", "expires": at(w.now + seconds * 1000)},
    });
    let spec = live["spec"].as_object_mut().unwrap();
    spec.extend(covers.as_object().unwrap().clone());
    live
}

fn set(w: &mut World, pauses: &[Value]) {
    let all = pauses.iter().map(|live| pause::read(live, "driftless-system")).collect();
    w.engine.set_pauses(all, w.now);
}

fn edit(w: &mut World, value: &str) {
    w.cluster.update(&x(), "kubectl-edit", &[("data|k", Some(json!(value)))]);
}

fn value(w: &World) -> Value {
    w.cluster.get(&x()).unwrap()["data"]["k"].clone()
}

fn started() -> World {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1"), config_map("old", "1")]), unit("b", vec![config_map("z", "1")])]);
    w.settle();
    w.writes();
    w
}

#[test]
fn each_scope_holds_back_what_it_covers_and_nothing_else() {
    let of_object = json!({"object": {"kind": "ConfigMap", "name": "x", "namespace": "default"}});
    for (covers, z_healed, old_pruned) in [
        (json!({"cluster": true}), false, false),
        (json!({"unit": {"name": "a"}}), true, false),
        // `a` is not applied whole while one of its objects is held back: deletes come last.
        (of_object, true, false),
    ] {
        let mut w = started();
        let pause = pause_for(&w, "p", 3600, &covers);
        set(&mut w, std::slice::from_ref(&pause));
        edit(&mut w, "by hand");
        w.cluster.update(&key("", "ConfigMap", "default", "z"), "kubectl-edit", &[("data|k", Some(json!("9")))]);
        w.settle();
        let report = w.report("a");
        assert_eq!(value(&w), "by hand", "{covers}");
        assert_eq!((report.drift.len(), report.counts.drifted, report.counts.paused), (1, 1, 1), "{covers}");
        assert_eq!(report.drift[0].class, DriftClass::Human, "{covers}");
        assert_eq!(report.ready, Ready::True, "what was applied stays applied: {covers}");
        assert_eq!(report.pauses.len(), 1, "{covers}");
        assert_eq!(w.writes().len(), usize::from(z_healed), "{covers}");

        // A new commit is taken and held; what left it stays.
        w.commit(&[
            unit("a", vec![config_map("x", "2"), config_map("new", "1")]),
            unit("b", vec![config_map("z", "1")]),
        ]);
        w.settle();
        let report = w.report("a");
        assert_eq!((report.ready, report.reason.as_str()), (Ready::Unknown, reason::PAUSED), "{covers}");
        assert!(report.message.contains("driftless-system/p (by hand)"), "{}", report.message);
        assert_ne!(report.applied, report.desired, "{covers}");
        assert_eq!(value(&w), "by hand", "{covers}");
        let new = w.cluster.get(&key("", "ConfigMap", "default", "new")).is_some();
        assert_eq!(new, covers.get("object").is_some(), "{covers}");
        let old = w.cluster.get(&key("", "ConfigMap", "default", "old")).is_none();
        assert_eq!(old, old_pruned, "{covers}");

        // Also after a restart, from the first moment on.
        w.restart();
        w.engine.await_pauses();
        w.settle();
        assert_eq!(value(&w), "by hand", "written before the pauses were known: {covers}");
        set(&mut w, &[pause]);
        w.settle();
        assert_eq!(value(&w), "by hand", "{covers}");

        // It ends: all is done, and told.
        set(&mut w, &[]);
        w.settle();
        assert_eq!(value(&w), "2", "{covers}");
        assert!(w.cluster.get(&key("", "ConfigMap", "default", "old")).is_none(), "{covers}");
        let report = w.report("a");
        assert_eq!((report.ready, report.pauses.len(), report.counts.paused), (Ready::True, 0, 0), "{covers}");
        let ended = report.pause_ended.unwrap();
        assert!(!ended.expired && ended.held.iter().any(|l| l.starts_with("ConfigMap default/x: ")), "{ended:?}");
        let told = w.engine.take_ended_pauses();
        assert_eq!((told.len(), told[0].pause.name.as_str()), (1, "p"), "{covers}");
        assert!(told[0].count >= ended.count && !told[0].held.is_empty(), "{told:?}");
        assert!(w.engine.take_ended_pauses().is_empty());
    }
}

#[test]
fn a_pause_ends_by_itself_at_its_time() {
    let mut w = started();
    let pause = pause_for(&w, "p", 600, &json!({"unit": {"name": "a"}}));
    let end = w.now / 1000 * 1000 + 600_000;
    set(&mut w, &[pause]);
    edit(&mut w, "by hand");
    w.run_until(end - 1, &mut |_: &Step| None);
    assert_eq!((value(&w), w.writes()), (json!("by hand"), vec![]));
    w.run_until(end + 5_000, &mut |_: &Step| None);
    assert_eq!((value(&w), w.writes()), (json!("1"), vec!["Heal ConfigMap default/x".to_owned()]));
    let ended = w.report("a").pause_ended.unwrap();
    assert!(ended.expired, "{ended:?}");
    assert!(ended.held[0].contains("data.k") && ended.held[0].contains("manager kubectl-edit"), "{ended:?}");
}

#[test]
fn one_that_goes_on_keeps_holding_back_when_another_ends() {
    let mut w = started();
    let everything = pause_for(&w, "all", 600, &json!({"cluster": true}));
    let one = pause_for(&w, "one", 60, &json!({"object": {"kind": "ConfigMap", "name": "x", "namespace": "default"}}));
    set(&mut w, &[everything.clone(), one]);
    edit(&mut w, "by hand");
    let until = w.now + 120_000;
    w.run_until(until, &mut |_: &Step| None);
    assert_eq!(value(&w), "by hand");
    let ended = w.engine.take_ended_pauses();
    assert_eq!((ended.len(), ended[0].count), (1, 0), "it held back nothing that now goes on");
    // Changed into one that covers something else: what it held back goes on.
    let mut other = everything;
    other["spec"]["cluster"] = Value::Null;
    other["spec"]["unit"] = json!({"name": "b"});
    set(&mut w, &[other]);
    w.settle();
    assert_eq!(value(&w), "1");
}

#[test]
fn unusable_and_useless_ones_hold_back_nothing_and_are_told() {
    let mut w = started();
    let both = pause_for(&w, "both", 60, &json!({"cluster": true, "unit": {"name": "a"}}));
    let typo = pause_for(&w, "typo", 60, &json!({"unit": {"name": "aa"}}));
    let over = pause_for(&w, "over", 0, &json!({"cluster": true}));
    set(&mut w, &[both, typo, over]);
    edit(&mut w, "by hand");
    w.settle();
    assert_eq!(value(&w), "1");
    let problems: Vec<(String, Option<String>)> =
        w.engine.pause_reports().into_iter().map(|p| (p.name, p.problem)).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].1.as_ref().unwrap().contains("exactly one of"), "{problems:?}");
    assert!(problems[1].1.as_ref().unwrap().contains("no such unit"), "{problems:?}");
}

#[test]
fn deleted_objects_and_approved_deletes_wait_too() {
    let mut w = started();
    let z = key("", "ConfigMap", "default", "z");
    let uid = w.cluster.get(&z).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let pause = pause_for(&w, "p", 600, &json!({"cluster": true}));
    set(&mut w, &[pause]);
    w.cluster.delete(&x(), None, None).unwrap();
    let only_a = [unit("a", vec![config_map("x", "1"), config_map("old", "1")])];
    w.commit_index(&only_a, true, &[ApprovedDelete { key: z.clone(), uid }]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let report = w.report("a");
    assert_eq!((report.counts.drifted, report.drift[0].class), (1, DriftClass::Deleted));
    assert!(w.report("b").objects[0].message.contains("held back by Pause"), "{:?}", w.report("b").objects);
    set(&mut w, &[]);
    w.settle();
    assert!(w.cluster.get(&x()).is_some() && w.cluster.get(&z).is_none());
    assert_eq!(w.report("a").pause_ended.unwrap().held, ["ConfigMap default/x: it was gone, made anew"]);
    assert_eq!(w.engine.take_ended_pauses()[0].count, 2);
}

#[test]
fn validation_of_a_unit_waits_for_its_held_objects() {
    let mut w = started();
    let object = json!({"object": {"kind": "ConfigMap", "name": "x", "namespace": "default"}});
    let pause = pause_for(&w, "p", 600, &object);
    set(&mut w, &[pause]);
    let changed = unit("a", vec![config_map("x", "2"), config_map("old", "2")]);
    w.commit(&[changed.with(|spec| spec.validation = Validation::Server), unit("b", vec![config_map("z", "1")])]);
    w.settle();
    assert_eq!(w.writes(), ["DryRun ConfigMap default/old"]);
    assert_eq!(w.report("a").reason, reason::PAUSED, "{}", w.report("a").message);
    set(&mut w, &[]);
    w.settle();
    assert_eq!(w.report("a").ready, Ready::True, "{}", w.report("a").message);
    assert_eq!(value(&w), "2");
}

#[test]
fn units_are_written_by_the_agent_and_nobody_else() {
    let mut w = World::new();
    let of = |group: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "Unit", "metadata": {"name": "u", "namespace": "default"}, "spec": {}});
    w.cluster.served.push(served("example.com", "Unit", true));
    w.cluster.served.push(served("driftless.dev", "Unit", true));
    w.discover();
    w.commit(&[unit("a", vec![of("example.com"), of("driftless.dev")])]);
    w.settle();
    assert_eq!(w.writes(), ["Create Unit.example.com default/u"]);
    let report = w.report("a");
    assert_eq!((report.ready, report.objects[0].reason.as_str()), (Ready::False, "ReservedKind"));
    assert!(report.message.contains("remove it from Git"), "{}", report.message);
}

#[test]
fn no_bundle_changes_what_the_agent_runs_on() {
    let mut w = World::new();
    w.cluster.apply(&namespace("driftless-system"), "helm").unwrap();
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "driftless-system"}});
    w.commit(&[unit("a", vec![map("driftless-inventory-0"), map("platform"), namespace("driftless-system")])]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap driftless-system/platform"]);
    let report = w.report("a");
    assert_eq!((report.ready, report.objects[0].reason.as_str()), (Ready::False, "ReservedObject"), "{report:#?}");
    assert!(report.message.contains("its chart installs"), "{}", report.message);
}

/// What happened is told once, in few words, however much it was.
#[test]
fn deeds_are_gathered_by_unit_and_kind() {
    use driftless_protocol::report::EventKind;
    let mut w = World::new();
    let maps: Vec<Value> = (0..30).map(|n| config_map(&format!("m{n:02}"), "1")).collect();
    w.commit(&[unit("a", maps.clone()), unit("b", vec![config_map("z", "1")])]);
    w.settle();
    w.engine.take_reports(w.now);
    let mut happened = w.engine.take_happened();
    happened.sort_by(|a, b| a.unit.cmp(&b.unit));
    let told: Vec<(&str, EventKind, u32, usize)> =
        happened.iter().map(|h| (h.unit.name.as_str(), h.what, h.count, h.first.len())).collect();
    assert_eq!(told, [("a", EventKind::Applied, 30, 3), ("b", EventKind::Applied, 1, 1)]);
    assert_eq!(happened[1].first, ["ConfigMap default/z: created"]);
    w.engine.take_reports(w.now);
    assert!(w.engine.take_happened().is_empty());
}
