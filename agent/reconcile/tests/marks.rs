//! Control marks on single objects, in Git and on the live object, and `force`.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{ApplyMode, ApprovedDelete, DeletionPolicy, ObjectOptions};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ObjectState, Ready};
use driftless_reconcile::step::{Action, Step};
use serde_json::{Value, json};
use world::*;

const RECONCILE: &str = "metadata|annotations|kustomize.toolkit.fluxcd.io/reconcile";
const SSA: &str = "metadata|annotations|kustomize.toolkit.fluxcd.io/ssa";

fn x() -> ObjectKey {
    key("", "ConfigMap", "default", "x")
}

fn applied(mode: ApplyMode, value: &str) -> Unit {
    unit("a", vec![config_map("x", value)]).marked(x(), ObjectOptions { apply: mode, ..ObjectOptions::default() })
}

fn data(w: &World) -> Value {
    w.cluster.get(&x()).map(|object| object["data"].clone()).unwrap_or_default()
}

/// Each mode: what becomes of a new object, of one that somebody else made, of an edit, and of new content.
#[test]
fn each_mode_does_what_its_name_says() {
    for (mode, created, theirs, edited, added_stays, changed) in [
        (ApplyMode::Override, "1", "1", "1", false, "2"),
        (ApplyMode::Merge, "1", "1", "1", true, "2"),
        (ApplyMode::IfNotPresent, "1", "theirs", "edited", true, "edited"),
        (ApplyMode::Ignore, "", "theirs", "", true, ""),
    ] {
        let mut w = World::new();
        w.cluster.apply(&config_map("x", "theirs"), "somebody").unwrap();
        w.commit(&[applied(mode, "1")]);
        w.settle();
        assert_eq!(data(&w)["k"], theirs, "{mode:?}, made by somebody else");
        assert_eq!(w.report("a").ready, Ready::True, "{mode:?}");

        let mut w = World::new();
        w.commit(&[applied(mode, "1")]);
        w.settle();
        assert_eq!(data(&w)["k"].as_str().unwrap_or_default(), created, "{mode:?}, new");
        let changes = [("data|k", Some(json!("edited"))), ("data|added", Some(json!("1")))];
        w.cluster.update(&x(), "kubectl-edit", &changes);
        w.settle();
        assert_eq!(data(&w)["k"].as_str().unwrap_or_default(), edited, "{mode:?}, edited");
        if !created.is_empty() {
            assert_eq!(data(&w).get("added").is_some(), added_stays, "{mode:?}, added");
        }
        w.commit(&[applied(mode, "2")]);
        w.settle();
        assert_eq!(data(&w)["k"].as_str().unwrap_or_default(), changed, "{mode:?}, new content");
        w.writes();
        w.restart();
        w.settle();
        assert_eq!(w.writes(), [""; 0], "{mode:?}, restarted");
        let left = u32::from(matches!(mode, ApplyMode::IfNotPresent | ApplyMode::Ignore));
        assert_eq!(w.report("a").counts.left_alone, left, "{mode:?}");
    }
}

/// Fields whose drift Git says is left: shown and not healed, not by a heal of another field either, also after a restart;
/// new content is applied whole.
#[test]
fn drift_of_single_fields_is_left_and_shown() {
    let declared = |k: &str, m: &str| {
        let mut map = config_map("x", k);
        map["data"]["m"] = json!(m);
        let (observe, warn) = (vec!["/data/m".to_owned(), "/data/z".to_owned()], vec!["/data/n".to_owned()]);
        unit("a", vec![map]).marked(x(), ObjectOptions { observe, warn, ..ObjectOptions::default() })
    };
    let shown = |w: &World| -> Vec<String> {
        let report = w.report("a");
        assert_eq!((report.ready, report.contests.len()), (Ready::True, 0), "{report:#?}");
        report.drift.iter().map(|f| format!("{} {} {:?}", f.path, f.live.as_deref().unwrap_or("-"), f.mode)).collect()
    };
    let mut w = World::new();
    w.commit(&[declared("1", "1")]);
    w.settle();
    w.writes();
    w.cluster.update(&x(), "kubectl-edit", &[("data|m", Some(json!("9"))), ("data|n", Some(json!("added")))]);
    w.settle();
    assert_eq!(w.writes(), [""; 0], "nothing to heal");
    let left = ["data.m \"9\" Some(Observe)", "data.n \"added\" Some(Warn)"];
    assert_eq!(shown(&w), left);
    assert_eq!(w.report("a").counts.drifted, 1);
    // Another field is healed, and nothing else.
    w.cluster.update(&x(), "kubectl-edit", &[("data|k", Some(json!("edited"))), ("data|o", Some(json!("added")))]);
    w.settle();
    assert_eq!(data(&w), json!({"k": "1", "m": "9", "n": "added"}));
    assert_eq!(shown(&w), left, "still told after a heal of other fields");
    w.restart();
    w.settle();
    assert_eq!(shown(&w), left, "and by the next pod");
    // As often as others like: no contest, for nobody fights.
    w.writes();
    for n in 0..20 {
        w.now += 1_000;
        w.cluster.update(&x(), "some-operator", &[("data|m", Some(json!(n.to_string())))]);
        w.settle();
    }
    assert_eq!(w.writes(), [""; 0]);
    // It was removed, and stays so while another field is healed.
    w.cluster.update(&x(), "kubectl-edit", &[("data|m", None), ("data|k", Some(json!("edited")))]);
    w.settle();
    assert_eq!(data(&w), json!({"k": "1", "n": "added"}));
    assert_eq!(shown(&w), ["data.m - Some(Observe)", "data.n \"added\" Some(Warn)"]);
    w.commit(&[declared("2", "2")]);
    w.settle();
    assert_eq!((data(&w)["k"].clone(), data(&w)["m"].clone()), (json!("2"), json!("2")), "new content");
    // Back as declared: nothing is told.
    w.cluster.update(&x(), "kubectl-edit", &[("data|n", None)]);
    w.settle();
    assert_eq!(shown(&w), [""; 0]);
}

#[test]
fn an_object_found_where_it_should_only_be_created_is_not_ours_to_prune() {
    let mut w = World::new();
    w.cluster.apply(&config_map("x", "theirs"), "somebody").unwrap();
    w.commit(&[applied(ApplyMode::IfNotPresent, "1")]);
    w.settle();
    assert_eq!(w.engine.inventory_len(), 0);
    w.commit(&[]);
    w.settle();
    assert_eq!(data(&w)["k"], "theirs");
    // One that we made is.
    let mut w = World::new();
    w.commit(&[applied(ApplyMode::IfNotPresent, "1"), unit("b", vec![config_map("y", "1")])]);
    w.settle();
    w.commit(&[unit("b", vec![config_map("y", "1")])]);
    w.settle();
    assert!(w.cluster.get(&x()).is_none());
}

#[test]
fn break_glass_on_the_live_object_is_honoured_shown_and_ends_with_the_mark() {
    for (mark, value, code) in [
        (RECONCILE, "disabled", "ReconcileDisabled"),
        (SSA, "Ignore", "IgnoredLive"),
        (RECONCILE, "Disabled", "ReconcileDisabled"),
    ] {
        let mut w = World::new();
        w.commit(&[unit("a", vec![config_map("x", "1")])]);
        w.settle();
        w.writes();
        let changes = [(mark, Some(json!(value))), ("data|k", Some(json!("by hand")))];
        w.cluster.update(&x(), "kubectl-edit", &changes);
        w.settle();
        w.commit(&[unit("a", vec![config_map("x", "2")])]);
        w.settle();
        assert_eq!(w.writes(), [""; 0], "{mark}: {value}");
        let report = w.report("a");
        assert_eq!(report.counts.left_alone, 1);
        assert_eq!((report.objects[0].state, report.objects[0].reason.as_str()), (ObjectState::LeftAlone, code));
        assert_eq!(report.ready, Ready::True);
        // It is not deleted either.
        if mark == RECONCILE {
            w.commit(&[]);
            w.settle();
            assert_eq!(w.writes(), [""; 0], "{mark}: {value}");
            w.commit(&[unit("a", vec![config_map("x", "2")])]);
            w.settle();
        }
        w.writes();
        w.cluster.update(&x(), "kubectl-edit", &[(mark, None)]);
        w.settle();
        assert_eq!(data(&w), json!({"k": "2"}), "{mark}: {value}");
    }
}

/// What would have been healed is listed meanwhile.
#[test]
fn drift_behind_break_glass_is_listed() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    w.cluster.update(&x(), "kubectl-edit", &[(RECONCILE, Some(json!("disabled")))]);
    w.settle();
    w.cluster.update(&x(), "kubectl-edit", &[("data|k", Some(json!("by hand")))]);
    w.settle();
    let report = w.report("a");
    assert!(report.drift.iter().any(|field| field.path == "data.k"), "{:#?}", report.drift);
    assert!(report.objects[0].message.contains("fields are not as declared"), "{}", report.objects[0].message);
}

/// The mark came from Git and was taken back there: it must not hold for ever on the live object.
#[test]
fn a_mark_that_left_git_is_removed_from_the_live_object() {
    let marked = |value: &str| {
        let mut object = config_map("x", value);
        object["metadata"]["annotations"] = json!({"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"});
        object
    };
    let mut w = World::new();
    let options = ObjectOptions { apply: ApplyMode::IfNotPresent, ..ObjectOptions::default() };
    w.commit(&[unit("a", vec![marked("1")]).marked(x(), options)]);
    w.settle();
    w.commit(&[unit("a", vec![config_map("x", "2")])]);
    w.settle();
    assert_eq!(data(&w), json!({"k": "2"}));
    assert!(w.cluster.get(&x()).unwrap().pointer("/metadata/annotations").is_none_or(|a| *a == json!({})));
}

fn immutable_world(unit_force: bool, mark: bool) -> (World, Unit) {
    let mut w = World::new();
    w.cluster.immutable.push(("Deployment.apps default/web".into(), "spec.replicas".into()));
    w.commit(&[unit("a", vec![deployment("web", 1), config_map("x", "1")])]);
    w.settle();
    w.writes();
    let web = key("apps", "Deployment", "default", "web");
    let options = ObjectOptions { force: mark, ..ObjectOptions::default() };
    let next =
        unit("a", vec![deployment("web", 2), config_map("x", "1")]).with(|s| s.force = unit_force).marked(web, options);
    w.commit(std::slice::from_ref(&next));
    w.settle();
    (w, next)
}

#[test]
fn force_makes_an_object_anew_once_that_is_approved() {
    let web = key("apps", "Deployment", "default", "web");
    for (unit_force, mark) in [(true, false), (false, true)] {
        let (mut w, next) = immutable_world(unit_force, mark);
        let held = w.report("a").held_deletes;
        assert_eq!(held.len(), 1, "unit {unit_force}, mark {mark}");
        assert!(held[0].why.contains("made anew") && held[0].why.contains("field is immutable"), "{}", held[0].why);
        assert_eq!(w.report("a").ready, Ready::False);
        assert!(w.writes().iter().all(|line| !line.starts_with("Delete")));
        let approved = ApprovedDelete { key: web.clone(), uid: held[0].uid.clone() };
        w.commit_index(std::slice::from_ref(&next), true, std::slice::from_ref(&approved));
        w.settle();
        let live = w.cluster.get(&web).unwrap();
        assert_eq!(live["spec"]["replicas"], 2);
        assert_ne!(live["metadata"]["uid"], approved.uid.as_str());
        let report = w.report("a");
        assert_eq!((report.ready, report.held_deletes.len(), report.counts.approved_deletes), (Ready::True, 0, 0));
        // The approval is used up: another change of that field is held again.
        let again = unit("a", vec![deployment("web", 3), config_map("x", "1")]).with(|s| s.force = true);
        w.commit_index(&[again], true, &[approved]);
        w.settle();
        assert_eq!(w.cluster.get(&web).unwrap()["spec"]["replicas"], 2);
        assert_eq!(w.report("a").held_deletes.len(), 1);
    }
}

/// The hub ends an approval that no unit speaks of any more: a process that has just started speaks of it before it was refused.
#[test]
fn an_approval_is_open_while_a_new_process_was_not_refused_yet() {
    let (mut w, next) = immutable_world(true, false);
    let uid = w.report("a").held_deletes[0].uid.clone();
    let approved = ApprovedDelete { key: key("apps", "Deployment", "default", "web"), uid };
    w.commit_index(std::slice::from_ref(&next), true, std::slice::from_ref(&approved));
    w.restart();
    assert_eq!(w.report("a").approved_deletes, [approved]);
    w.settle();
    assert_eq!((w.report("a").ready, w.report("a").approved_deletes.len()), (Ready::True, 0));
}

#[test]
fn without_force_nothing_is_made_anew_whatever_is_approved() {
    let (mut w, next) = immutable_world(false, false);
    assert_eq!(w.report("a").held_deletes, []);
    let web = key("apps", "Deployment", "default", "web");
    let uid = w.cluster.get(&web).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    w.commit_index(std::slice::from_ref(&next), true, &[ApprovedDelete { key: web.clone(), uid: uid.clone() }]);
    w.run_until(w.now + 600_000, &mut |_: &Step| None);
    assert_eq!(w.cluster.get(&web).unwrap()["metadata"]["uid"], uid.as_str());
    assert!(w.report("a").message.contains("force: enabled"), "{}", w.report("a").message);
}

#[test]
fn what_the_agent_runs_on_is_not_made_anew() {
    let mut w = World::new();
    w.cluster.immutable.push(("ConfigMap driftless-system/x".into(), "data.k".into()));
    let own = |value: &str| {
        let mut object = config_map("x", value);
        object["metadata"]["namespace"] = "driftless-system".into();
        object
    };
    w.commit(&[unit("a", vec![own("1")]).with(|s| s.force = true)]);
    w.settle();
    let own_key = key("", "ConfigMap", "driftless-system", "x");
    let uid = w.cluster.get(&own_key).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let next = unit("a", vec![own("2")]).with(|s| s.force = true);
    w.commit_index(&[next], true, &[ApprovedDelete { key: own_key.clone(), uid: uid.clone() }]);
    w.settle();
    assert_eq!(w.cluster.get(&own_key).unwrap()["metadata"]["uid"], uid.as_str());
    assert_eq!(w.report("a").held_deletes, []);
}

/// The delete fails, or its answer is lost: it is made anew all the same, exactly once.
#[test]
fn a_recreation_survives_faults() {
    let web = key("apps", "Deployment", "default", "web");
    for fault in [Fault::Refused(503), Fault::Refused(409), Fault::Lost, Fault::DoneButLost] {
        let (mut w, next) = immutable_world(true, false);
        let held = w.report("a").held_deletes;
        let approved = ApprovedDelete { key: web.clone(), uid: held[0].uid.clone() };
        w.commit_index(std::slice::from_ref(&next), true, &[approved]);
        let mut first = true;
        let until = w.now + 600_000;
        w.run_until(until, &mut |step: &Step| {
            let hit = matches!(step.action, Action::Delete(_)) && std::mem::take(&mut first);
            hit.then_some(fault)
        });
        assert_eq!(w.cluster.get(&web).unwrap()["spec"]["replicas"], 2, "{fault:?}");
        assert_eq!(w.report("a").ready, Ready::True, "{fault:?}");
    }
}

/// The process is killed when the object was made anew and nothing of that is stored: it is ours as before, and not what a
/// backup brought back, which would be kept until approved.
#[test]
fn what_was_made_anew_is_ours_also_after_a_kill() {
    let web = key("apps", "Deployment", "default", "web");
    let (mut w, next) = immutable_world(true, false);
    let approved = ApprovedDelete { key: web.clone(), uid: w.report("a").held_deletes[0].uid.clone() };
    w.commit_index(std::slice::from_ref(&next), true, &[approved]);
    let (mut deleted, mut dead) = (false, false);
    let until = w.now + 5_000;
    w.run_until(until, &mut |step: &Step| match &step.action {
        _ if dead => Some(Fault::Lost),
        Action::WriteInventory { .. } if deleted => Some(Fault::Lost),
        Action::Delete(_) => {
            deleted = true;
            None
        }
        Action::Apply(apply) if deleted && apply.key == web => {
            dead = true;
            Some(Fault::DoneButLost)
        }
        _ => None,
    });
    assert!(dead && w.cluster.get(&web).unwrap()["spec"]["replicas"] == 2);
    w.restart();
    w.settle();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    assert_eq!(w.report("a").held_deletes, []);
    assert!(w.cluster.get(&web).is_none());
}

/// The unit leaves Git: each policy, with prune on and off.
#[test]
fn each_deletion_policy_decides_when_a_unit_leaves() {
    for (policy, prune, gone) in [
        (DeletionPolicy::MirrorPrune, true, true),
        (DeletionPolicy::MirrorPrune, false, false),
        (DeletionPolicy::Delete, true, true),
        (DeletionPolicy::Delete, false, true),
        (DeletionPolicy::WaitForTermination, true, true),
        (DeletionPolicy::WaitForTermination, false, true),
        (DeletionPolicy::Orphan, true, false),
        (DeletionPolicy::Orphan, false, false),
    ] {
        let mut w = World::new();
        let of = unit("a", vec![config_map("x", "1")]).with(|s| {
            s.deletion_policy = policy;
            s.prune = prune;
        });
        w.commit(&[of, unit("b", vec![config_map("y", "1")])]);
        w.settle();
        w.commit(&[unit("b", vec![config_map("y", "1")])]);
        w.settle();
        assert_eq!(w.cluster.get(&x()).is_none(), gone, "{policy:?}, prune {prune}");
        assert_eq!(w.engine.inventory_len(), 1, "{policy:?}, prune {prune}");
    }
}
