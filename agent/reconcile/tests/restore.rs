//! What a restore does to a cluster: objects made anew from a backup, a store that went back in time, a hub that knows nothing.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{ApprovedDelete, DriftMode};
use driftless_protocol::report::Ready;
use driftless_reconcile::step::{Action, Step};
use serde_json::{Value, json};
use world::*;

fn three() -> Vec<Value> {
    vec![config_map("x", "1"), config_map("y", "1"), config_map("z", "1")]
}

/// Deletes objects and makes them anew as a backup has them: labels and values, another UID, the restorer's name on all fields.
fn restore_from_backup(w: &mut World, names: &[&str]) {
    for name in names {
        let key = key("", "ConfigMap", "default", name);
        let mut backup = w.cluster.get(&key).unwrap();
        w.cluster.delete(&key, None, None).unwrap();
        let metadata = backup["metadata"].as_object_mut().unwrap();
        metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace" | "labels" | "annotations"));
        w.cluster.apply(&backup, "velero-server").unwrap();
    }
}

#[test]
fn what_a_backup_made_anew_is_adopted_again_and_told() {
    for mode in [DriftMode::Correct, DriftMode::Observe] {
        let mut w = World::new();
        w.commit(&[unit("a", three()).with(|s| s.drift_mode = mode)]);
        w.settle();
        w.writes();
        restore_from_backup(&mut w, &["x", "y", "z"]);
        w.settle();
        assert_eq!(
            w.writes(),
            ["Change ConfigMap default/x", "Change ConfigMap default/y", "Change ConfigMap default/z"]
        );
        let report = w.report("a");
        assert_eq!((report.ready, report.counts.in_sync, report.counts.drifted), (Ready::True, 3, 0), "{report:#?}");
        assert!(report.recent[0].detail.contains("adopted again"), "{:#?}", report.recent);
        // What the restorer wrote is ours: it leaves the cluster when it leaves Git.
        let live = w.cluster.get(&key("", "ConfigMap", "default", "x")).unwrap();
        let managers = live["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(managers.len(), 1, "{managers:#?}");
        w.restart();
        w.settle();
        assert_eq!(w.writes(), [""; 0], "the inventory knows the new ones");
        // What leaves Git afterwards waits for a person; what was made anew by us since does not.
        let x = key("", "ConfigMap", "default", "x");
        w.commit(&[unit("a", vec![config_map("y", "1")]).with(|s| s.drift_mode = mode)]);
        w.settle();
        assert!(w.cluster.get(&x).is_some());
        let held = w.report("a").held_deletes;
        assert!(held.len() == 2 && held[0].why.contains("restore of a backup"), "{held:#?}");
    }
}

#[test]
fn what_a_backup_made_anew_and_git_has_not_is_kept_until_approved() {
    let mut w = World::new();
    w.commit(&[unit("a", three())]);
    w.settle();
    // While the agent is away: a restore, and a commit.
    restore_from_backup(&mut w, &["x", "y"]);
    w.cluster.events.clear();
    w.engine = driftless_reconcile::engine::Engine::new(w.rules.clone());
    w.restart();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    let (y, z) = (key("", "ConfigMap", "default", "y"), key("", "ConfigMap", "default", "z"));
    assert!(w.cluster.get(&z).is_none(), "it is the one we applied, and left Git");
    let live = w.cluster.get(&y).expect("made anew by a restore: kept");
    let report = w.report("a");
    let held = &report.held_deletes[0];
    assert!(held.key == y && held.why.contains("restore") && report.held_deletes.len() == 1, "{report:#?}");
    assert_eq!(held.uid, live["metadata"]["uid"].as_str().unwrap());
    w.restart();
    w.settle();
    assert!(w.cluster.get(&y).is_some());
    let approved = [ApprovedDelete { key: y.clone(), uid: held.uid.clone() }];
    w.commit_index(&[unit("a", vec![config_map("x", "1")])], true, &approved);
    w.settle();
    assert!(w.cluster.get(&y).is_none(), "approved, although the restorer's name is on its fields");
}

#[test]
fn after_the_store_went_back_the_newest_bundle_is_made_so_and_pruned_by_the_normal_rules() {
    let (mut many, few) = (three(), vec![config_map("x", "2"), config_map("new", "1")]);
    many.extend((0..30).map(|i| config_map(&format!("c{i:02}"), "1")));
    let mut w = World::new();
    w.commit(&[unit("a", many.clone())]);
    w.settle();
    let snapshot = w.cluster.clone();
    let keep: Vec<Value> = many[3..].to_vec();
    let now: Vec<Value> = few.iter().cloned().chain(keep.clone()).collect();
    w.commit(&[unit("a", now.clone())]);
    w.settle();
    let (y, z) = (key("", "ConfigMap", "default", "y"), key("", "ConfigMap", "default", "z"));
    assert!(w.cluster.get(&y).is_none());
    // The store goes back under a running agent: a list tells, and another begins from what is stored.
    w.cluster = snapshot.clone();
    w.cluster.log.clear();
    w.engine.reconcile(None, w.now);
    w.run_until(w.now + 700_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert!(w.engine.store_went_back(), "relisted: {:?}", w.relists);
    w.cluster = snapshot.clone();
    w.restart();
    w.cluster.log.clear();
    w.settle();
    assert_eq!(w.cluster.get(&key("", "ConfigMap", "default", "x")).unwrap()["data"], json!({"k": "2"}));
    assert!(w.cluster.get(&key("", "ConfigMap", "default", "new")).is_some());
    assert!(w.cluster.get(&y).is_none() && w.cluster.get(&z).is_none(), "two deletes are within the budget");
    assert!(w.writes().iter().filter(|line| line.starts_with("Delete")).count() == 2);

    // Much that left Git since: held, as at any other time.
    let mut w = World::new();
    w.commit(&[unit("a", many.clone())]);
    w.settle();
    let snapshot = w.cluster.clone();
    for n in 1..=3 {
        // In steps, so that each is allowed.
        w.now += 3_700_000;
        w.commit(&[unit("a", many[..many.len() - n * 10].to_vec())]);
        w.settle();
    }
    let left = w.cluster.keys().count();
    w.cluster = snapshot;
    w.restart();
    w.settle();
    assert_eq!(w.report("a").held_deletes.len(), 30, "more than the budget of an hour");
    assert_eq!(w.cluster.keys().count(), left + 30);
}

/// Somebody deletes an object, and the answer to our making it anew is lost, or the process with it.
#[test]
fn what_we_made_anew_ourselves_is_no_backup() {
    for restart in [false, true] {
        let mut w = World::new();
        w.commit(&[unit("a", three())]);
        w.settle();
        w.cluster.delete(&key("", "ConfigMap", "default", "x"), None, None).unwrap();
        let mut lost = 0;
        w.run_until(w.now + 100, &mut |step: &Step| {
            let apply = matches!(step.action, Action::Apply(_));
            lost += usize::from(apply);
            apply.then_some(Fault::DoneButLost)
        });
        assert!(lost > 0);
        if restart {
            w.restart();
        }
        w.settle();
        let report = w.report("a");
        assert!(report.recent.iter().all(|event| !event.detail.contains("adopted again")), "{report:#?}");
        w.commit(&[unit("a", vec![config_map("y", "1")])]);
        w.settle();
        assert_eq!(w.report("a").held_deletes, []);
        assert!(w.cluster.get(&key("", "ConfigMap", "default", "x")).is_none());
    }
}
