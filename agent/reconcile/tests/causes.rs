//! What is refused is tried again when its cause goes away, not by time only.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::report::Ready;
use driftless_reconcile::step::Step;
use serde_json::json;
use world::*;

/// Runs what can start without time passing.
fn at_once(w: &mut World) {
    // Each answer takes a millisecond there.
    w.run_until(w.now + 100, &mut |_: &Step| None);
}

fn in_team(name: &str) -> serde_json::Value {
    let mut object = config_map(name, "1");
    object["metadata"]["namespace"] = "team".into();
    object
}

#[test]
fn a_namespace_that_somebody_else_makes_is_noticed_at_once() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![in_team("x"), config_map("y", "1")])]);
    w.run_until(w.now + 300_000, &mut |_: &Step| None);
    assert_eq!(w.report("a").objects[0].reason, "NamespaceMissing");
    w.writes();
    w.cluster.apply(&namespace("team"), "kubectl").unwrap();
    at_once(&mut w);
    assert_eq!(w.writes(), ["Create ConfigMap team/x"]);
    assert_eq!(w.report("a").ready, Ready::True);
    // Gone and back.
    w.cluster.delete(&key("", "ConfigMap", "team", "x"), None, None).unwrap();
    w.cluster.delete(&key("", "Namespace", "", "team"), None, None).unwrap();
    w.run_until(w.now + 300_000, &mut |_: &Step| None);
    w.writes();
    w.cluster.apply(&namespace("team"), "kubectl").unwrap();
    at_once(&mut w);
    assert_eq!(w.writes(), ["Heal ConfigMap team/x"]);
}

/// Each case: how an object is refused, and which object of the bundle takes the cause away.
#[test]
fn rights_quotas_and_policies_that_change_let_what_they_refused_be_tried() {
    let role = |value: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "r", "labels": {"v": value}}})
    };
    for (refusal, tried) in [
        (failure(403, "Forbidden", "configmaps is forbidden: User \"x\" cannot patch"), true),
        (failure(422, "Invalid", "data.k: Invalid value"), false),
    ] {
        let mut w = World::new();
        w.cluster.refuse.insert("ConfigMap default/x".into(), refusal);
        let of = |value: &str| [unit("a", vec![config_map("x", "1")]), unit("b", vec![role(value)])];
        w.commit(&of("1"));
        w.run_until(w.now + 1_000_000, &mut |_: &Step| None);
        w.writes();
        w.cluster.refuse.clear();
        w.commit(&of("2"));
        at_once(&mut w);
        assert_eq!(w.report("a").ready == Ready::True, tried);
    }
}

#[test]
fn a_kind_that_comes_later_and_its_objects_need_no_time() {
    let mut w = World::new();
    let widget =
        json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}});
    w.commit(&[unit("a", vec![widget]), unit("b", vec![config_map("y", "1")]).after("a")]);
    w.run_until(w.now + 1_000_000, &mut |_: &Step| None);
    assert_eq!(w.writes(), [""; 0], "nothing is asked in vain");
    w.cluster.served.push(served("acme.example", "Widget", true));
    w.discover();
    at_once(&mut w);
    assert_eq!(w.writes(), ["Create Widget.acme.example default/w", "Create ConfigMap default/y"]);
    // A kind that goes away loses nothing, and its objects come back with it.
    w.cluster.served.pop();
    w.discover();
    w.run_until(w.now + 1_000_000, &mut |_: &Step| None);
    assert_eq!((w.report("a").counts.not_served, w.engine.inventory_len(), w.writes()), (1, 2, vec![]));
    w.cluster.served.push(served("acme.example", "Widget", true));
    w.discover();
    at_once(&mut w);
    assert_eq!(w.report("a").ready, Ready::True);
}

/// One commit brings a role, and a while later its binding: the second counts although the first was tried in vain.
#[test]
fn a_second_cause_soon_after_the_first_is_not_forgotten() {
    let mut w = World::new();
    let rbac = |kind: &str, value: &str| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "r", "labels": {"v": value}}});
    let of = |role: &str, binding: &str| {
        let rights = vec![rbac("ClusterRole", role), rbac("ClusterRoleBinding", binding)];
        [unit("a", vec![config_map("x", "1")]), unit("b", rights)]
    };
    w.cluster.served.push(served("rbac.authorization.k8s.io", "ClusterRoleBinding", false));
    w.discover();
    w.cluster.refuse.insert("ConfigMap default/x".into(), failure(403, "Forbidden", "configmaps is forbidden"));
    w.commit(&of("1", "1"));
    w.run_until(w.now + 1_000_000, &mut |_: &Step| None);
    w.commit(&of("2", "1"));
    at_once(&mut w);
    w.cluster.refuse.clear();
    w.commit(&of("2", "2"));
    at_once(&mut w);
    w.run_until(w.now + 6_000, &mut |_: &Step| None);
    assert_eq!(w.report("a").ready, Ready::True);
}

/// An object that somebody deletes between two requests about it, and a webhook that denies with any code, say nothing of the
/// kind.
#[test]
fn an_answer_of_not_found_does_not_switch_a_kind_off() {
    for message in ["configmaps \"x\" not found", "admission webhook \"w\" denied the request: no such team"] {
        let mut w = World::new();
        w.cluster.refuse.insert("ConfigMap default/x".into(), failure(404, "NotFound", message));
        w.commit(&[unit("a", vec![config_map("x", "1")]), unit("b", vec![config_map("y", "1")])]);
        w.run_until(w.now + 5_000, &mut |_: &Step| None);
        assert!(!w.engine.take_unserved(), "{message}");
        assert_eq!(w.report("b").ready, Ready::True, "{message}");
        w.cluster.refuse.clear();
        w.run_until(w.now + 200_000, &mut |_: &Step| None);
        assert_eq!(w.report("a").ready, Ready::True, "{message}");
    }
    let mut w = World::new();
    let gone = failure(404, "NotFound", "the server could not find the requested resource");
    w.cluster.refuse.insert("ConfigMap default/x".into(), gone);
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    assert!(w.engine.take_unserved() && !w.engine.take_unserved(), "discovery is older than the cluster");
}
