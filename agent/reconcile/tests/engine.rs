//! The engine against a small cluster: what it writes, in which order, and what it says.

mod world;

use driftless_protocol::bundle::{ApprovedDelete, DriftMode};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, ObjectState, Ready};
use driftless_reconcile::input::{GroupKind, Observation};
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::{Action, TakeOver};
use serde_json::json;
use world::*;

#[test]
fn what_is_applied_once_needs_nothing_afterwards() {
    let mut w = World::new();
    let units = [unit("a", vec![config_map("x", "1"), deployment("web", 3)])];
    w.commit(&units);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/x", "Create Deployment.apps default/web"]);
    w.commit(&units);
    w.settle();
    assert_eq!(w.writes(), [""; 0], "the same bundle again");
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0], "a restart");
    assert_eq!(w.report("a").counts.in_sync, 2);
}

#[test]
fn the_intent_is_stored_before_the_object_and_one_write_covers_all_that_are_ready() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")]), unit("b", vec![config_map("y", "1")])]);
    w.settle();
    let log = &w.cluster.log;
    assert_eq!(log[0], "inventory 1");
    assert!(log[1].starts_with("Create") && log[2].starts_with("Create"), "{log:?}");
    assert_eq!(log.iter().filter(|line| line.starts_with("inventory")).count(), 2, "{log:?}");
}

#[test]
fn a_scaled_deployment_is_healed_and_the_report_names_the_manager() {
    // A real API server's watch is often faster than its answer.
    for watch_first in [false, true] {
        let mut w = World::new();
        w.watch_first = watch_first;
        w.commit(&[unit("a", vec![deployment("my-app", 3)])]);
        w.settle();
        w.writes();
        let app = key("apps", "Deployment", "default", "my-app");
        w.cluster.update_through(&app, "kubectl", "scale", &[("spec|replicas", Some(json!(5)))]);
        w.settle();
        assert_eq!(w.writes(), ["Heal Deployment.apps default/my-app"]);
        assert_eq!(w.cluster.get(&app).unwrap()["spec"]["replicas"], 3);
        let report = w.report("a");
        assert_eq!(report.recent[0].detail, "spec.replicas 5 -> 3 (manager kubectl)", "watch first: {watch_first}");
        assert_eq!(report.ready, Ready::True);
    }
}

#[test]
fn drift_stays_and_is_shown_in_the_modes_that_leave_it() {
    for mode in [DriftMode::Warn, DriftMode::Observe] {
        let mut w = World::new();
        w.commit(&[unit("a", vec![deployment("my-app", 3)]).with(|s| s.drift_mode = mode)]);
        w.settle();
        w.writes();
        let app = key("apps", "Deployment", "default", "my-app");
        w.cluster.update_through(&app, "kubectl", "scale", &[("spec|replicas", Some(json!(5)))]);
        w.settle();
        assert_eq!(w.writes(), [""; 0]);
        let report = w.report("a");
        assert_eq!((report.counts.drifted, report.ready), (1, Ready::True));
        let field = &report.drift[0];
        assert_eq!((field.path.as_str(), field.class), ("spec.replicas", DriftClass::Human));
        assert_eq!((field.desired.as_deref(), field.live.as_deref()), (Some("3"), Some("5")));
        // A new commit is applied all the same.
        w.commit(&[unit("a", vec![deployment("my-app", 4)]).with(|s| s.drift_mode = mode)]);
        w.settle();
        assert_eq!(w.writes(), ["Change Deployment.apps default/my-app"]);
        assert_eq!(w.report("a").counts.drifted, 0);
    }
}

#[test]
fn what_people_add_is_removed_and_what_controllers_add_stays() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    w.writes();
    let x = key("", "ConfigMap", "default", "x");
    w.cluster.update(&x, "some-controller", &[("data|theirs", Some(json!("1")))]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    w.cluster.update(&x, "kubectl-edit", &[("data|mine", Some(json!("1")))]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/x"]);
    let data = w.cluster.get(&x).unwrap()["data"].clone();
    assert_eq!(data, json!({"k": "1", "theirs": "1"}));
}

#[test]
fn what_the_server_writes_otherwise_is_no_drift_also_after_a_restart() {
    let mut w = World::new();
    w.cluster.normalise.insert("data.k=\"1000m\"".into(), json!("1"));
    w.commit(&[unit("a", vec![config_map("x", "1000m")])]);
    w.settle();
    w.writes();
    let x = key("", "ConfigMap", "default", "x");
    w.cluster.update(&x, "some-controller", &[("data|theirs", Some(json!("1")))]);
    w.settle();
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    w.cluster.update(&x, "kubectl", &[("data|k", Some(json!("2")))]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/x"]);
}

#[test]
fn a_deleted_object_and_a_stripped_label_come_back() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    w.writes();
    let x = key("", "ConfigMap", "default", "x");
    w.cluster.delete(&x, None, None).unwrap();
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/x"]);
    w.cluster.update(&x, "kubectl-label", &[("metadata|labels|driftless.dev/unit", None)]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/x"]);
}

#[test]
fn stages_and_dependencies_order_the_writes() {
    let mut w = World::new();
    let in_new = |name: &str| {
        let mut object = config_map(name, "1");
        object["metadata"]["namespace"] = "new".into();
        object
    };
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
    w.commit(&[
        unit("apps", vec![in_new("z")]).after("base"),
        unit("base", vec![in_new("y"), namespace("new"), role]),
        unit("early", vec![in_new("e")]),
    ]);
    w.settle();
    let writes = w.writes();
    let at = |what: &str| {
        writes.iter().position(|line| line.ends_with(what)).unwrap_or_else(|| panic!("{what}: {writes:?}"))
    };
    assert!(at("Namespace new") < at("new/y") && at("new/y") < at("new/z"), "{writes:?}");
    assert!(
        at("Namespace new") < at("new/e"),
        "an object waits for its namespace, whichever unit declares it: {writes:?}"
    );
    assert_eq!(writes.len(), 5, "no request is made in vain: {writes:?}");
}

#[test]
fn a_dependency_cycle_is_named_and_the_rest_goes_on() {
    let mut w = World::new();
    w.commit(&[
        unit("a", vec![config_map("x", "1")]).after("b"),
        unit("b", vec![config_map("y", "1")]).after("a"),
        unit("c", vec![config_map("z", "1")]),
        unit("d", vec![config_map("w", "1")]).after("nobody"),
    ]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/z"]);
    assert!(
        w.report("a").message.contains("flux-system/a -> flux-system/b -> flux-system/a"),
        "{}",
        w.report("a").message
    );
    assert!(w.report("d").message.contains("there is no such unit"), "{}", w.report("d").message);
    assert_eq!(w.report("d").reason, "DependencyNotReady");
}

#[test]
fn a_refused_object_is_reported_and_the_others_are_applied() {
    let mut w = World::new();
    w.cluster.refuse.insert("ConfigMap default/bad".into(), failure(422, "Invalid", "data.k: Invalid value: no"));
    w.commit(&[
        unit("a", vec![config_map("bad", "1"), config_map("good", "1")]),
        unit("b", vec![config_map("z", "1")]).after("a"),
    ]);
    w.settle();
    assert!(w.cluster.get(&key("", "ConfigMap", "default", "good")).is_some());
    let report = w.report("a");
    assert_eq!((report.ready, report.reason.as_str(), report.counts.failed), (Ready::False, "ReconciliationFailed", 1));
    assert!(report.message.contains("data.k: Invalid value: no"), "{}", report.message);
    assert_eq!(report.objects[0].state, ObjectState::Failed);
    assert_eq!(w.report("b").reason, "DependencyNotReady");
    // Corrected: tried at once, and the dependent follows.
    w.writes();
    w.cluster.refuse.clear();
    w.commit(&[
        unit("a", vec![config_map("bad", "2"), config_map("good", "1")]),
        unit("b", vec![config_map("z", "1")]).after("a"),
    ]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/bad", "Create ConfigMap default/z"]);
    assert_eq!(w.report("b").ready, Ready::True);
}

#[test]
fn a_missing_namespace_and_a_kind_not_served_are_waited_for() {
    let mut w = World::new();
    let mut lost = config_map("x", "1");
    lost["metadata"]["namespace"] = "nope".into();
    let widget =
        json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}});
    let nowhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}});
    w.commit(&[unit("a", vec![lost, widget, nowhere])]);
    w.settle();
    let report = w.report("a");
    let reasons: Vec<&str> = report.objects.iter().map(|o| o.reason.as_str()).collect();
    assert_eq!(reasons, ["NamespaceNotSpecified", "NamespaceMissing", "KindNotServed"], "{:#?}", report.objects);
    assert_eq!(w.engine.not_served().len(), 1);
    assert!(report.message.contains("namespace not specified"), "{}", report.message);
    // The kind appears.
    w.writes();
    w.cluster.served.push(served("acme.example", "Widget", true));
    w.discover();
    w.settle();
    assert!(w.cluster.get(&key("acme.example", "Widget", "default", "w")).is_some(), "{:?}", w.cluster.log);
}

#[test]
fn two_keys_that_turn_out_to_be_one_object_are_never_deleted_for_each_other() {
    let mut w = World::new();
    let planet = |namespace: Option<&str>, value: &str| {
        let mut planet = json!({"apiVersion": "acme.example/v1", "kind": "Planet", "metadata": {"name": "p"},
            "spec": {"size": value}});
        if let Some(namespace) = namespace {
            planet["metadata"]["namespace"] = namespace.into();
        }
        planet
    };
    // As long as the kind is not served nobody knows that it has no namespace.
    let (a, b) = (unit("a", vec![planet(Some("default"), "1")]), unit("b", vec![planet(None, "2")]));
    w.commit(&[a, b.clone()]);
    w.settle();
    w.cluster.served.push(served("acme.example", "Planet", false));
    w.discover();
    w.settle();
    let at = key("acme.example", "Planet", "", "p");
    assert_eq!(w.cluster.get(&at).unwrap()["spec"]["size"], "2");
    assert_eq!(w.engine.inventory_len(), 1);
    assert_eq!(w.report("a").objects[0].reason, "DeclaredTwice", "{:#?}", w.report("a").objects);
    let uid = w.cluster.get(&at).unwrap()["metadata"]["uid"].clone();
    w.writes();
    // The unit whose object it is not drops it.
    w.commit(&[unit("a", vec![]), b]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(w.cluster.get(&at).unwrap()["metadata"]["uid"], uid);
}

#[test]
fn what_left_git_is_deleted_last_and_a_move_is_no_delete() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1"), config_map("y", "1")]), unit("b", vec![])]);
    w.settle();
    let y = key("", "ConfigMap", "default", "y");
    let uid = w.cluster.get(&y).unwrap()["metadata"]["uid"].clone();
    w.writes();
    w.commit(&[unit("a", vec![config_map("z", "1")]), unit("b", vec![config_map("y", "1")])]);
    w.settle();
    let writes = w.writes();
    assert_eq!(writes.last().map(String::as_str), Some("Delete ConfigMap default/x"), "{writes:?}");
    assert_eq!(writes.len(), 3);
    assert_eq!(w.cluster.get(&y).unwrap()["metadata"]["uid"], uid);
    assert_eq!(w.engine.inventory_len(), 2);
}

#[test]
fn what_is_being_deleted_is_not_deleted_again() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1"), config_map("y", "1")])]);
    w.settle();
    // A finalizer holds it up, and the process that had asked for it was killed.
    let x = key("", "ConfigMap", "default", "x");
    let deleting = ("metadata|deletionTimestamp", Some(json!("2026-01-01T00:00:00Z")));
    w.cluster.update(&x, "", &[deleting, ("metadata|finalizers", Some(json!(["example.com/slow"])))]);
    w.writes();
    w.commit(&[unit("a", vec![config_map("y", "1")])]);
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let report = w.report("a");
    let object = &report.objects[0];
    assert!(object.reason == "Deleting" && object.message.contains("example.com/slow"), "{report:#?}");
    w.cluster.delete(&x, None, None).unwrap();
    w.settle();
    let report = w.report("a");
    assert!(report.objects.is_empty() && !w.cluster.inventory[&0].contains("\"x\""), "{report:#?}");
}

/// Each case: what the second commit says, whether its index is whole, and whether `x` survives it.
#[test]
fn deletes_happen_only_when_it_is_certain_and_allowed() {
    let x = key("", "ConfigMap", "default", "x");
    let a = || unit("a", vec![config_map("x", "1"), config_map("keep", "1")]);
    let less = || unit("a", vec![config_map("keep", "1")]);
    type Before = fn(&mut World);
    let none: Before = |_| {};
    let opt_out: Before = |w| {
        let x = key("", "ConfigMap", "default", "x");
        w.cluster.update(
            &x,
            "kubectl",
            &[("metadata|annotations|kustomize.toolkit.fluxcd.io/prune", Some(json!("disabled")))],
        );
    };
    let recreate: Before = |w| {
        let x = key("", "ConfigMap", "default", "x");
        w.cluster.delete(&x, None, None).unwrap();
        w.cluster.apply(&config_map("x", "other"), "somebody").unwrap();
    };
    let unlabel: Before = |w| {
        let x = key("", "ConfigMap", "default", "x");
        w.cluster.update(&x, "kubectl", &[("metadata|labels|driftless.dev/unit", None)]);
    };
    for (name, before, units, whole, gone) in [
        ("plain", none, vec![less()], true, true),
        ("unit left", none, vec![], true, true),
        ("unit left, index not whole", none, vec![], false, false),
        ("unit held", none, vec![less().held()], true, false),
        ("unit suspended", none, vec![less().suspended()], true, false),
        ("empty render", none, vec![unit("a", vec![])], true, false),
        ("prune off", none, vec![less().with(|s| s.prune = false)], true, false),
        ("another unit broke as it left", none, vec![less(), unit("b", vec![]).held()], true, false),
        ("opted out", opt_out, vec![less()], true, false),
        ("re-created by somebody", recreate, vec![less()], true, false),
        ("no longer labelled", unlabel, vec![less()], true, false),
    ] {
        let mut w = World::new();
        w.commit(&[a().with(|s| s.drift_mode = DriftMode::Observe)]);
        w.settle();
        before(&mut w);
        let units: Vec<_> = units.into_iter().map(|u| u.with(|s| s.drift_mode = DriftMode::Observe)).collect();
        w.commit_index(&units, whole, &[]);
        w.settle();
        assert_eq!(w.cluster.get(&x).is_none(), gone, "{name}");
        w.restart();
        w.settle();
        assert_eq!(w.cluster.get(&x).is_none(), gone, "{name}, after a restart");
    }
}

#[test]
fn deletes_beyond_the_budget_and_of_protected_kinds_wait_for_approval() {
    let mut w = World::new();
    let many: Vec<_> = (0..30).map(|i| config_map(&format!("c{i:02}"), "1")).collect();
    let claim =
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d", "namespace": "default"}});
    w.commit(&[unit("a", many.clone()), unit("b", vec![claim, config_map("b", "1")])]);
    w.settle();
    w.writes();
    let after = [unit("a", many[..5].to_vec()), unit("b", vec![config_map("b", "1")])];
    w.commit(&after);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let held = w.report("a").held_deletes;
    assert_eq!(held.len(), 25);
    assert!(held[0].why.contains("more than 20 need approval"), "{}", held[0].why);
    let claim = w.report("b").held_deletes;
    assert_eq!(claim.len(), 1);
    let approved: Vec<_> =
        held.iter().chain(&claim).map(|h| ApprovedDelete { key: h.key.clone(), uid: h.uid.clone() }).collect();
    w.commit_index(&after, true, &approved);
    w.settle();
    assert_eq!(w.writes().len(), 26);
    assert_eq!(w.engine.inventory_len(), 6);
}

/// What waits for approval, and what an approval does and does not reach.
#[test]
fn an_approval_is_open_until_its_object_is_gone_and_reaches_nothing_else() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![namespace("old"), config_map("keep", "1")])]);
    w.settle();
    let old = key("", "Namespace", "", "old");
    let uid = |w: &World| w.cluster.get(&old).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let first = ApprovedDelete { key: old.clone(), uid: uid(&w) };
    let without = [unit("a", vec![config_map("keep", "1")])];
    w.commit(&without);
    w.settle();
    assert_eq!(w.report("a").held_deletes.len(), 1);
    assert_eq!(w.report("a").counts.approved_deletes, 0);
    // Approved for another incarnation: nothing happens, and it is not open.
    let other = ApprovedDelete { uid: "00000000-0000-4000-8000-ffffffffffff".into(), ..first.clone() };
    w.commit_index(&without, true, std::slice::from_ref(&other));
    w.settle();
    assert!(w.cluster.get(&old).is_some());
    assert_eq!((w.report("a").held_deletes.len(), w.report("a").approved_deletes.len()), (1, 0));
    // Approved, but the delete is refused for now: the approval is still open.
    w.commit_index(&without, true, std::slice::from_ref(&first));
    let until = w.now + 1_000;
    w.run_until(until, &mut |step: &driftless_reconcile::step::Step| {
        matches!(step.action, driftless_reconcile::step::Action::Delete(_)).then_some(Fault::Refused(503))
    });
    assert!(w.cluster.get(&old).is_some());
    assert_eq!(w.report("a").approved_deletes, std::slice::from_ref(&first));
    // Then it is deleted, and the approval has nothing left to do.
    w.settle();
    assert!(w.cluster.get(&old).is_none());
    assert_eq!(w.report("a").counts.approved_deletes, 0);
    // What comes later under that name is not meant.
    w.commit_index(&[unit("a", vec![namespace("old"), config_map("keep", "1")])], true, std::slice::from_ref(&first));
    w.settle();
    assert_ne!(uid(&w), first.uid);
    w.commit_index(&without, true, std::slice::from_ref(&first));
    w.settle();
    assert!(w.cluster.get(&old).is_some());
}

#[test]
fn the_budget_is_that_of_an_hour_and_approved_deletes_take_nothing_from_it() {
    let many = |from: usize| (from..40).map(|i| config_map(&format!("c{i:02}"), "1")).collect::<Vec<_>>();
    let mut w = World::new();
    w.commit(&[unit("a", many(0))]);
    w.settle();
    w.writes();
    // 15 of 20.
    w.commit(&[unit("a", many(15))]);
    w.settle();
    assert_eq!(w.writes().len(), 15);
    // 10 more are too many for this hour.
    w.commit(&[unit("a", many(25))]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let held = w.report("a").held_deletes;
    assert_eq!(held.len(), 10);
    assert!(held[0].why.contains("15 were deleted in the last hour"), "{}", held[0].why);
    // In an hour they go by themselves.
    w.run_until(w.now + 3_700_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes().len(), 10);
    assert_eq!(w.report("a").held_deletes, []);
    // An approved delete does not use up the budget: 10 were deleted, 15 remain, 5 are approved, 10 fit.
    let approved: Vec<ApprovedDelete> = (25..30)
        .map(|i| {
            let key = key("", "ConfigMap", "default", &format!("c{i:02}"));
            let uid = w.cluster.get(&key).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
            ApprovedDelete { key, uid }
        })
        .collect();
    w.commit_index(&[unit("a", many(30))], true, &approved);
    w.settle();
    assert_eq!(w.writes().len(), 5);
    w.commit(&[unit("a", many(39))]);
    w.settle();
    assert_eq!(w.writes().len(), 9);
    // The chart's cap holds even for what is approved.
    let mut rules = rules();
    rules.approved_delete_cap = Some(3);
    let mut w = World::with(rules);
    w.commit(&[unit("a", many(0))]);
    w.settle();
    w.writes();
    let approved: Vec<ApprovedDelete> = (0..5)
        .map(|i| {
            let key = key("", "ConfigMap", "default", &format!("c{i:02}"));
            let uid = w.cluster.get(&key).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
            ApprovedDelete { key, uid }
        })
        .collect();
    w.commit_index(&[unit("a", many(5))], true, &approved);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("a").held_deletes[0].why.contains("at most 3 deletes an hour"));
}

#[test]
fn a_damaged_inventory_deletes_nothing_and_says_so() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1"), config_map("y", "1")])]);
    w.settle();
    let text = w.cluster.inventory[&0].replace("default", "defualt");
    w.cluster.inventory.insert(0, text.clone());
    w.writes();
    w.restart();
    w.commit(&[unit("a", vec![config_map("x", "2"), config_map("z", "1")])]);
    w.settle();
    assert_eq!(w.writes(), ["Change ConfigMap default/x", "Create ConfigMap default/z"]);
    assert_eq!(w.cluster.inventory[&0], text, "the damage stays to be seen");
    assert!(w.engine.problems()[0].message.contains("the digest in the first line is another"));
}

#[test]
fn an_autoscaled_workload_keeps_its_replicas() {
    let mut w = World::new();
    let hpa = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "namespace": "default"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    w.commit(&[unit("a", vec![deployment("web", 3), hpa.clone()])]);
    w.settle();
    w.writes();
    let web = key("apps", "Deployment", "default", "web");
    w.cluster.update_through(&web, "kube-controller-manager", "scale", &[("spec|replicas", Some(json!(9)))]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let mut changed = deployment("web", 3);
    changed["spec"]["template"]["spec"]["image"] = "nginx:2".into();
    w.commit(&[unit("a", vec![changed, hpa])]);
    w.settle();
    assert_eq!(w.writes(), ["Change Deployment.apps default/web"]);
    assert_eq!(w.cluster.get(&web).unwrap()["spec"]["replicas"], 9);
    assert_eq!(w.report("a").counts.drifted, 0);
}

#[test]
fn health_is_waited_for_where_asked_and_a_new_generation_preempts_the_wait() {
    let mut w = World::new();
    let app = |image: &str| {
        let mut app = deployment("web", 1);
        app["spec"]["template"]["spec"]["image"] = image.into();
        unit("a", vec![app]).with(|s| s.wait = true)
    };
    let then = || unit("b", vec![config_map("z", "1")]).after("a");
    w.commit(&[app("bad"), then()]);
    w.settle();
    assert_eq!(w.report("a").reason, "HealthCheckPending");
    w.run_until(w.now + 120_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.report("a").reason, "HealthCheckFailed");
    assert!(w.report("b").message.contains("dependsOn flux-system/a"), "{}", w.report("b").message);
    w.commit(&[app("good"), then()]);
    w.settle();
    assert_eq!(w.report("a").reason, "HealthCheckPending", "{}", w.report("a").message);
    let web = key("apps", "Deployment", "default", "web");
    w.cluster.update_through(
        &web,
        "kube-controller-manager",
        "status",
        &[(
            "status",
            Some(json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]})),
        )],
    );
    w.settle();
    assert_eq!((w.report("a").ready, w.report("b").ready), (Ready::True, Ready::True));
}

#[test]
fn the_remediation_interval_limits_heals() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")]).with(|s| s.remediation_interval_seconds = 60)]);
    w.settle();
    w.writes();
    let x = key("", "ConfigMap", "default", "x");
    w.cluster.update(&x, "kubectl", &[("data|k", Some(json!("2")))]);
    w.settle();
    assert_eq!(w.writes().len(), 1);
    w.cluster.update(&x, "kubectl", &[("data|k", Some(json!("3")))]);
    w.settle();
    assert_eq!(w.writes().len(), 0);
    assert_eq!(w.report("a").counts.drifted, 1);
    w.run_until(w.now + 60_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes().len(), 1);
}

#[test]
fn a_fight_with_a_controller_is_damped_and_ends_by_itself() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.settle();
    w.writes();
    let x = key("", "ConfigMap", "default", "x");
    for _ in 0..200 {
        w.cluster.update(&x, "fighter", &[("data|k", Some(json!("2")))]);
        let at = w.now + 1000;
        w.run_until(at, &mut |_: &driftless_reconcile::step::Step| None);
        w.now = at;
    }
    let heals = w.writes().len();
    assert!((5..30).contains(&heals), "{heals} heals in 200 s");
    w.run_until(w.now + 120_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.cluster.get(&x).unwrap()["data"]["k"], "1");
}

#[test]
fn what_changed_while_suspended_is_healed_after_it_and_told_field_by_field() {
    let mut w = World::new();
    let app = || unit("a", vec![deployment("my-app", 3)]);
    w.commit(&[app()]);
    w.settle();
    w.commit(&[app().suspended()]);
    w.settle();
    w.writes();
    let key = key("apps", "Deployment", "default", "my-app");
    w.cluster.update_through(&key, "kubectl", "scale", &[("spec|replicas", Some(json!(5)))]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let report = w.report("a");
    assert!(report.suspended && report.objects.is_empty(), "{report:#?}");
    w.commit(&[app()]);
    w.settle();
    assert_eq!(w.writes(), ["Heal Deployment.apps default/my-app"]);
    assert_eq!(w.report("a").recent[0].detail, "spec.replicas 5 -> 3 (manager kubectl)");
}

#[test]
fn a_short_failure_is_no_alarm_and_a_long_one_is() {
    let mut w = World::new();
    w.cluster.refuse.insert("ConfigMap default/x".into(), failure(503, "ServiceUnavailable", "etcd is away"));
    w.commit(&[unit("a", vec![config_map("x", "1")])]);
    w.run_until(w.now + 200, &mut |_: &driftless_reconcile::step::Step| None);
    let report = w.report("a");
    assert_eq!((report.ready, report.counts.failed), (Ready::Unknown, 0));
    assert!(report.message.contains("etcd is away"), "{}", report.message);
    w.run_until(w.now + 20_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!((w.report("a").ready, w.report("a").counts.failed), (Ready::False, 1));
}

#[test]
fn a_version_the_cluster_does_not_serve_is_named() {
    let mut w = World::new();
    let mut old = deployment("web", 1);
    old["apiVersion"] = "apps/v1beta1".into();
    w.commit(&[unit("a", vec![old])]);
    w.settle();
    let report = w.report("a");
    assert_eq!(report.objects[0].state, ObjectState::NotServed);
    assert!(report.objects[0].message.contains("serves Deployment as v1, and not as v1beta1"), "{report:#?}");
    assert_eq!(w.writes(), [""; 0]);
}

#[test]
fn the_agents_own_objects_are_never_deleted_whatever_is_approved() {
    let own = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "driftless-head", "namespace": "driftless-system"}, "data": {"k": "1"}});
    // Applied by an agent that was installed elsewhere: one that is here does not apply them to begin with.
    let here = rules();
    let mut w = World::with(Rules { agent_namespace: "elsewhere".into(), ..rules() });
    let keep = || config_map("keep", "1");
    w.commit(&[unit("a", vec![own.clone(), namespace("driftless-system"), keep()])]);
    w.settle();
    w.rules = here;
    w.restart();
    w.settle();
    let approved: Vec<_> = w
        .cluster
        .keys()
        .map(|key| ApprovedDelete {
            key: key.clone(),
            uid: w.cluster.get(key).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned(),
        })
        .collect();
    w.writes();
    w.commit_index(&[unit("a", vec![keep()])], true, &approved);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(w.report("a").recent.iter().filter(|e| e.detail.contains("left alone")).count(), 2);
}

#[test]
fn a_unit_of_four_thousand_objects_is_applied_once_each() {
    let mut w = World::new();
    w.commit(&[unit("a", (0..4000).map(|i| config_map(&format!("c{i}"), "1")).collect())]);
    w.settle();
    assert_eq!(w.writes().len(), 4000);
    assert_eq!(w.report("a").counts.in_sync, 4000);
}

#[test]
fn a_take_over_whose_apply_never_came_is_finished() {
    for restarts in [true, false] {
        let mut w = World::new();
        let x = key("", "ConfigMap", "default", "x");
        w.commit(&[unit("a", vec![config_map("x", "1")])]);
        w.settle();
        w.writes();
        // Somebody adds a field; it is made ours, and then the agent dies, or the answer is lost and so is the apply.
        w.cluster.update(&x, "kubectl-edit", &[("data|added", Some(json!("by hand")))]);
        if restarts {
            w.cluster.take_over(&x, TakeOver::Humans, &[], &rules());
            w.restart();
        } else {
            let mut once = Some(Fault::TakenOver);
            let until = w.now + 10_000;
            w.run_until(until, &mut |step: &driftless_reconcile::step::Step| {
                if matches!(step.action, Action::Apply(_)) { once.take() } else { None }
            });
        }
        w.settle();
        let live = w.cluster.get(&x).unwrap();
        assert_eq!(live["data"], json!({"k": "1"}), "restarts: {restarts}");
        assert_eq!((w.report("a").counts.in_sync, w.report("a").counts.drifted), (1, 0));
        // And that is all.
        w.writes();
        w.settle();
        assert_eq!(w.writes(), [""; 0]);
    }
}

#[test]
fn the_echo_of_an_own_write_is_known_by_its_name_and_version() {
    let mut w = World::new();
    w.commit(&[unit("a", vec![namespace("default"), config_map("x", "1")])]);
    w.settle();
    let x = key("", "ConfigMap", "default", "x");
    let of = |w: &World, key: &ObjectKey| {
        let live = w.cluster.get(key).unwrap();
        let text = |field: &str| live["metadata"][field].as_str().unwrap().to_owned();
        (text("uid"), text("resourceVersion"))
    };
    let (uid, version) = of(&w, &x);
    assert!(w.engine.has_seen(&x, &uid, &version));
    assert!(!w.engine.has_seen(&x, "another", &version), "made anew");
    assert!(!w.engine.has_seen(&key("", "ConfigMap", "default", "y"), &uid, &version), "not ours");
    let space = key("", "Namespace", "", "default");
    let (space_uid, space_version) = of(&w, &space);
    assert!(!w.engine.has_seen(&space, &space_uid, &space_version), "what waits for it must be told");

    w.deaf = true;
    w.cluster.update(&x, "some-controller", &[("data|theirs", Some(json!("1")))]);
    let (_, newer) = of(&w, &x);
    assert!(!w.engine.has_seen(&x, &uid, &newer));
    w.engine.observe(Observation::ListBegin(&GroupKind::of(&x)), &w.store, w.now);
    assert!(!w.engine.has_seen(&x, &uid, &version), "a new list says anew what is there");
}
