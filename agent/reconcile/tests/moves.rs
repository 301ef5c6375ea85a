//! Objects that change units while the unit they go to cannot be built, or is suspended: nothing is deleted.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{ApprovedDelete, Reason, Withheld};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::UnitReport;
use serde_json::json;
use world::*;

fn x() -> ObjectKey {
    key("", "ConfigMap", "default", "x")
}

/// Both objects, or without the one that moves.
fn from(with: bool) -> Unit {
    let stays = config_map("stays", "1");
    unit("a", if with { vec![stays, config_map("x", "1")] } else { vec![stays] })
}

fn to(with: bool) -> Unit {
    let own = config_map("own", "1");
    unit("b", if with { vec![own, config_map("x", "1")] } else { vec![own] })
}

fn uid(w: &World) -> Option<String> {
    Some(w.cluster.get(&x())?["metadata"]["uid"].as_str().unwrap().to_owned())
}

fn words(report: &UnitReport) -> String {
    let held = report.held_deletes.iter().map(|held| format!("{}: {}", held.key, held.why));
    let said = report.objects.iter().map(|object| format!("{}: {}", object.key, object.message));
    held.chain(said).collect::<Vec<_>>().join("\n")
}

/// The broken unit was broken long before: the commit touches what its build reads.
#[test]
fn a_move_into_a_unit_that_was_broken_before_deletes_nothing() {
    for restarts in [false, true] {
        let mut w = World::new();
        w.commit(&[from(true), to(false).held_with("broken")]);
        w.settle();
        let before = uid(&w).unwrap();
        w.commit(&[from(false), to(true).held_with("broken, and x")]);
        if restarts {
            w.restart();
        }
        w.settle();
        assert_eq!(uid(&w).as_ref(), Some(&before));
        let said = words(&w.report("a"));
        assert!(said.contains("ConfigMap default/x: flux-system/b cannot be built and may declare it now"), "{said}");
        // Other commits change nothing of that, until it is clear.
        w.commit(&[from(false).after("b"), to(true).held_with("broken, and x")]);
        w.settle();
        assert_eq!(uid(&w).as_ref(), Some(&before));
        w.commit(&[from(false), to(true)]);
        w.settle();
        assert_eq!(uid(&w), Some(before), "it is the other unit's now");
        assert_eq!(words(&w.report("a")), "");
    }
}

#[test]
fn what_left_for_good_is_deleted_once_the_other_unit_is_built_or_the_delete_approved() {
    let begin = || {
        let mut w = World::new();
        w.commit(&[from(true), to(false).held_with("broken")]);
        w.settle();
        w.commit(&[from(false), to(false).held_with("changed")]);
        w.settle();
        assert!(uid(&w).is_some());
        w
    };
    let mut w = begin();
    w.commit(&[from(false), to(false)]);
    w.settle();
    assert_eq!(uid(&w), None);
    let mut w = begin();
    let held = w.report("a").held_deletes.into_iter();
    let held: Vec<ApprovedDelete> = held.map(|held| ApprovedDelete { key: held.key, uid: held.uid }).collect();
    w.commit_index(&[from(false), to(false).held_with("changed")], true, &held);
    w.settle();
    assert_eq!(uid(&w), None);
}

/// One that stays broken as it was holds up nobody's deletes.
#[test]
fn a_broken_unit_that_nobody_touches_holds_up_no_delete() {
    let mut w = World::new();
    w.commit(&[from(true), to(false).held_with("broken")]);
    w.settle();
    w.commit(&[from(false), to(false).held_with("broken")]);
    w.settle();
    assert_eq!(uid(&w), None);
}

#[test]
fn a_move_into_a_suspended_unit_waits_for_it() {
    for (long, restarts) in [(true, false), (false, false), (true, true)] {
        let mut w = World::new();
        w.commit(&[from(true), if long { to(false).suspended_whole() } else { to(false) }]);
        w.settle();
        let before = uid(&w).unwrap();
        w.commit(&[from(false), to(true).suspended_whole()]);
        if restarts {
            w.restart();
        }
        w.settle();
        assert_eq!(uid(&w).as_ref(), Some(&before));
        let said = words(&w.report("a"));
        assert!(said.contains("flux-system/b, which is suspended, declares it now"), "{said}");
        w.restart();
        w.settle();
        assert_eq!(uid(&w).as_ref(), Some(&before), "after a restart");
        w.commit(&[from(false), to(true)]);
        w.settle();
        assert_eq!(uid(&w), Some(before));
        assert_eq!(words(&w.report("a")), "");
        // It is that unit's now, which may let it go.
        w.commit(&[from(false), to(false)]);
        w.settle();
        assert_eq!(uid(&w), None);
    }
}

/// What is kept already may be what comes to a unit that breaks later, or was broken when its own was too.
#[test]
fn what_is_kept_already_is_kept_for_a_unit_that_breaks_later() {
    // It waits for a suspended unit, which cannot be built any more.
    let mut w = World::new();
    w.commit(&[from(true), to(false)]);
    w.settle();
    let before = uid(&w).unwrap();
    w.commit(&[from(false), to(true).suspended_whole()]);
    w.settle();
    for broken in [to(true).suspended(), to(true).held_with("x"), to(true).held()] {
        w.commit(&[from(false), broken]);
        w.settle();
        assert_eq!(uid(&w).as_ref(), Some(&before));
    }
    // Its own unit could not be built either when the other got it.
    for together in [true, false] {
        let mut w = World::new();
        w.commit(&[from(true), to(false).held_with("broken")]);
        w.settle();
        let before = uid(&w).unwrap();
        let held = [from(false).held_with("broken"), to(true).held_with(if together { "broken" } else { "and x" })];
        w.commit(&held);
        w.settle();
        w.commit(&[from(false), to(true).held_with("and x")]);
        w.settle();
        assert_eq!(uid(&w), Some(before), "{together}");
    }
}

/// Kustomize writes a namespace also into what has none.
#[test]
fn a_cluster_wide_object_that_waits_for_a_suspended_unit_is_known_by_its_place() {
    let role = |namespace: Option<&str>| {
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "r"}, "rules": []});
        if let Some(namespace) = namespace {
            role["metadata"]["namespace"] = namespace.into();
        }
        role
    };
    let there = |w: &World| w.cluster.get(&key("rbac.authorization.k8s.io", "ClusterRole", "", "r")).is_some();
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("stays", "1"), role(None)]), to(false)]);
    w.settle();
    w.commit(&[from(false), unit("b", vec![role(Some("default"))]).suspended_whole()]);
    w.settle();
    assert!(there(&w));
    w.restart();
    w.settle();
    assert!(there(&w), "after a restart");
}

/// The same of what Git holds and the hub does not send.
#[test]
fn a_cluster_wide_object_that_is_withheld_is_known_by_its_place() {
    let role = key("rbac.authorization.k8s.io", "ClusterRole", "", "r");
    let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "r"}, "rules": []});
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("stays", "1"), object])]);
    w.settle();
    let mut now = from(false);
    let reason = Reason { code: "Encrypted".into(), message: "it is encrypted".into(), file: None, line: None };
    now.withheld = vec![Withheld { key: ObjectKey { namespace: "default".into(), ..role.clone() }, reason }];
    w.commit(&[now]);
    w.settle();
    assert!(w.cluster.get(&role).is_some());
    w.restart();
    w.settle();
    assert!(w.cluster.get(&role).is_some(), "after a restart");
}

/// An approval that was given before does not delete what has an owner again.
#[test]
fn an_approval_does_not_delete_what_waits_for_a_suspended_unit() {
    let claim = || json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d", "namespace": "default"}});
    let d = key("", "PersistentVolumeClaim", "default", "d");
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("stays", "1"), claim()]), to(false)]);
    w.settle();
    let approved = [ApprovedDelete {
        key: d.clone(),
        uid: w.cluster.get(&d).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned(),
    }];
    w.commit_index(&[from(false), unit("b", vec![claim()]).suspended_whole()], true, &approved);
    w.settle();
    assert!(w.cluster.get(&d).is_some());
}

/// What a suspended unit does not declare is deleted as ever.
#[test]
fn a_suspended_unit_that_declares_something_else_holds_up_no_delete() {
    let mut w = World::new();
    w.commit(&[from(true), to(false)]);
    w.settle();
    w.commit(&[from(false), to(false).suspended_whole()]);
    w.settle();
    assert_eq!(uid(&w), None);
    // Somebody deleted it meanwhile: there is nothing to keep.
    let mut w = World::new();
    w.commit(&[from(true), to(false)]);
    w.settle();
    w.commit(&[from(false), to(true).suspended_whole()]);
    w.settle();
    w.cluster.delete(&x(), None, None).unwrap();
    w.settle();
    assert_eq!(words(&w.report("a")), "");
    assert_eq!(json!(w.report("a").ready), json!("True"));
}
