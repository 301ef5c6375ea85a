//! Health by expressions, dependencies by expressions, timeouts, and that nobody's wait is another's.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::{HealthExpr, ReadyExpr, Validation};
use driftless_protocol::id::UnitId;
use driftless_protocol::report::Ready;
use driftless_reconcile::step::{Action, Step};
use serde_json::{Value, json};
use world::*;

fn widget(name: &str) -> Value {
    json!({"apiVersion": "acme.example/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"},
        "spec": {"size": 1}})
}

fn widgets() -> World {
    let mut w = World::new();
    w.cluster.served.push(served("acme.example", "Widget", true));
    w.discover();
    w
}

fn exprs(current: &str, in_progress: Option<&str>, failed: Option<&str>) -> HealthExpr {
    HealthExpr {
        group: "acme.example".into(),
        kind: "Widget".into(),
        current: current.into(),
        in_progress: in_progress.map(Into::into),
        failed: failed.map(Into::into),
    }
}

fn says(w: &mut World, phase: &str) {
    let key = key("acme.example", "Widget", "default", "w");
    w.cluster.update(&key, "widget-controller", &[("status|phase", Some(json!(phase)))]);
    w.settle();
}

fn pass(w: &mut World, seconds: u64) {
    let until = w.now + seconds * 1000;
    w.run_until(until, &mut |_: &Step| None);
    w.now = w.now.max(until);
    w.run_until(until, &mut |_: &Step| None);
}

#[test]
fn a_kind_is_judged_by_its_expressions_in_the_order_of_flux() {
    let mut w = widgets();
    let of = exprs("status.phase == 'Done'", Some("status.phase == 'Busy'"), Some("status.phase in ['Bad', 'Busy']"));
    let the_unit = unit("a", vec![widget("w")]).with(|s| {
        s.wait = true;
        s.health_exprs = vec![of];
    });
    w.commit(std::slice::from_ref(&the_unit));
    w.settle();
    let report = w.report("a");
    assert_eq!(report.ready, Ready::Unknown, "no status yet is waited for");
    assert!(report.message.contains("there is no field status (yet)"), "{}", report.message);
    for (phase, ready, words) in [
        ("Busy", Ready::Unknown, "inProgress"),
        ("Bad", Ready::False, "expression failed is true"),
        ("Odd", Ready::Unknown, "expression current is not true"),
        ("Done", Ready::True, ""),
    ] {
        says(&mut w, phase);
        let report = w.report("a");
        assert_eq!(report.ready, ready, "{phase}: {}", report.message);
        assert!(report.message.contains(words), "{phase}: {}", report.message);
    }
    // Other expressions judge what is there already, without a change of the object.
    let mut changed = the_unit;
    changed.spec.health_exprs = vec![exprs("status.phase == 'Other'", None, None)];
    w.writes();
    w.commit(std::slice::from_ref(&changed));
    w.settle();
    assert_eq!((w.report("a").ready, w.writes()), (Ready::Unknown, vec![]));
    // And none: by its conditions, of which it has none.
    changed.spec.health_exprs = Vec::new();
    w.commit(&[changed]);
    w.settle();
    assert_eq!(w.report("a").ready, Ready::True);
}

#[test]
fn an_expression_this_agent_cannot_read_is_said_and_holds_up_nothing() {
    let mut w = widgets();
    w.commit(&[
        unit("a", vec![widget("w"), config_map("x", "1")])
            .with(|s| s.health_exprs = vec![exprs("status.", None, None)]),
        unit("b", vec![config_map("y", "1")]),
    ]);
    w.settle();
    assert_eq!(w.writes().len(), 3);
    let report = w.report("a");
    assert_eq!(report.ready, Ready::False);
    assert!(report.message.contains("healthCheckExprs"), "{}", report.message);
    assert_eq!(w.report("b").ready, Ready::True);
}

#[test]
fn a_ready_expression_takes_the_place_of_the_ready_condition() {
    let on = UnitId::kustomization("flux-system", "base");
    let named = |version: &str| {
        Some(json!({"metadata": {"annotations": {"app/version": version}}, "spec": {"path": "./base"}}))
    };
    let expr = "dep.metadata.annotations['app/version'] == self.metadata.annotations['app/version'] \
                && dep.spec.path == './base' && dep.status.lastAppliedRevision == dep.status.lastAttemptedRevision";
    let commit = |w: &mut World, base_version: &str, expr: &str, base_ready: bool| {
        let mut base = unit("base", vec![config_map("y", base_version)]).with(|s| s.wait = true);
        if !base_ready {
            base.objects.push(
                json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d", "namespace": "default"}}),
            );
        }
        base.definition = named(base_version);
        let mut apps = unit("apps", vec![config_map("x", base_version)])
            .after("base")
            .with(|s| s.ready_exprs = vec![ReadyExpr { unit: on.clone(), expr: expr.into() }]);
        apps.definition = named("2");
        w.commit(&[base, apps]);
        w.settle();
    };
    let mut w = World::new();
    commit(&mut w, "1", expr, true);
    assert_eq!(w.report("base").ready, Ready::True);
    assert_eq!(w.report("apps").reason, "DependencyNotReady");
    assert!(w.report("apps").message.contains("readyExpr is not true"), "{}", w.report("apps").message);
    commit(&mut w, "2", expr, true);
    assert_eq!(w.report("apps").ready, Ready::True, "{}", w.report("apps").message);
    // Not Ready, and yet ready for this one.
    let mut w = World::new();
    commit(&mut w, "2", expr, false);
    assert_eq!((w.report("base").ready, w.report("apps").ready), (Ready::Unknown, Ready::True));
    // The usual condition, written as an expression.
    let usual = "dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True') \
                 && dep.status.observedGeneration == dep.metadata.generation";
    let mut w = World::new();
    commit(&mut w, "2", usual, false);
    assert_eq!(w.report("apps").reason, "DependencyNotReady");
    let claim = key("", "PersistentVolumeClaim", "default", "d");
    w.cluster.update(&claim, "kube-controller-manager", &[("status|phase", Some(json!("Bound")))]);
    w.settle();
    assert_eq!(w.report("apps").ready, Ready::True, "{}", w.report("apps").message);
    // A field that is not there is named.
    let mut w = World::new();
    commit(&mut w, "2", "dep.status.nosuch == 'x'", true);
    assert!(w.report("apps").message.contains("there is no field nosuch"), "{}", w.report("apps").message);
}

/// Claims that are never bound, in a unit that waits.
fn never(name: &str, objects: usize) -> Unit {
    let claim = |i: usize| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": format!("{name}-{i}"), "namespace": "default"}})
    };
    unit(name, (0..objects).map(claim).collect()).with(|s| s.wait = true)
}

#[test]
fn a_timeout_lists_what_was_waited_for_and_ends_with_the_cause() {
    let mut w = World::new();
    w.commit(&[never("a", 7)]);
    w.settle();
    assert_eq!((w.report("a").ready, w.report("a").reason.as_str()), (Ready::Unknown, "HealthCheckPending"));
    pass(&mut w, 61);
    let report = w.report("a");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::False, "HealthCheckFailed"));
    assert!(report.message.contains("7 objects are not healthy within 60 s"), "{}", report.message);
    assert_eq!(report.message.matches("the claim is").count(), 5, "{}", report.message);
    assert!(report.message.contains("and 2 more"), "{}", report.message);
    assert_eq!(report.objects.len(), 7, "all of them are in the report");
    for i in 0..7 {
        let claim = key("", "PersistentVolumeClaim", "default", &format!("a-{i}"));
        w.cluster.update(&claim, "kube-controller-manager", &[("status|phase", Some(json!("Bound")))]);
    }
    w.settle();
    assert_eq!(w.report("a").ready, Ready::True);
}

#[test]
fn two_hundred_units_that_never_become_healthy_do_not_delay_another() {
    let mut w = World::new();
    let mut units: Vec<Unit> = (0..200).map(|i| never(&format!("u{i:03}"), 2)).collect();
    units.push(unit("zz", vec![config_map("x", "1")]).with(|s| s.wait = true));
    w.commit(&units);
    // All requests of all units take one turn each; nothing waits for time to pass.
    let began = w.now;
    w.run_until(began, &mut |_: &Step| None);
    w.run_until(began + 5_000, &mut |_: &Step| None);
    assert_eq!(w.report("zz").ready, Ready::True);
    assert_eq!(w.report("u000").reason, "HealthCheckPending");
    // Long past every timeout, a change of one unit needs its own request and nothing else.
    pass(&mut w, 600);
    assert_eq!(w.report("u000").reason, "HealthCheckFailed");
    w.writes();
    units[200] = unit("zz", vec![config_map("x", "2")]).with(|s| s.wait = true);
    w.commit(&units);
    let began = w.now;
    let mut first = None;
    w.run_until(began + 1_000, &mut |step: &Step| {
        if matches!(step.action, driftless_reconcile::step::Action::Apply(_)) {
            first.get_or_insert(step.id);
        }
        None
    });
    assert_eq!(w.writes(), ["Change ConfigMap default/x"]);
    assert_eq!(w.report("zz").ready, Ready::True);
}

#[test]
fn new_content_preempts_every_wait() {
    let mut w = World::new();
    w.commit(&[never("a", 1), unit("b", vec![config_map("y", "1")]).after("a")]);
    w.settle();
    assert_eq!(w.report("b").reason, "DependencyNotReady");
    // The wait of `a` is over at once, not at its timeout, when what it waits for leaves Git.
    w.commit(&[unit("a", vec![config_map("x", "1")]), unit("b", vec![config_map("y", "1")]).after("a")]);
    w.settle();
    assert_eq!((w.report("a").ready, w.report("b").ready), (Ready::True, Ready::True));
    // A refusal that waits for its retry interval is preempted, too.
    w.cluster.refuse.insert("ConfigMap default/x".into(), failure(422, "Invalid", "data.k: Invalid value: no"));
    w.commit(&[unit("a", vec![config_map("x", "bad")])]);
    pass(&mut w, 30);
    w.cluster.refuse.clear();
    w.writes();
    w.commit(&[unit("a", vec![config_map("x", "good")])]);
    let began = w.now;
    w.run_until(began, &mut |_: &Step| None);
    w.run_until(began + 100, &mut |_: &Step| None);
    assert_eq!(w.writes(), ["Change ConfigMap default/x"]);
}

#[test]
fn a_refusal_is_tried_again_at_the_retry_interval_at_the_latest() {
    let mut w = World::new();
    w.cluster.refuse.insert("ConfigMap default/x".into(), failure(422, "Invalid", "no"));
    w.commit(&[unit("a", vec![config_map("x", "1")]).with(|s| s.retry_interval_seconds = 300)]);
    pass(&mut w, 3_600);
    let tries = w.writes().len();
    // 5, 10, 20, ... up to 300 s apart.
    assert!((12..=20).contains(&tries), "{tries} tries in an hour");
    w.cluster.refuse.clear();
    pass(&mut w, 380);
    assert_eq!(w.report("a").ready, Ready::True);
}

fn real(writes: Vec<String>) -> Vec<String> {
    writes.into_iter().filter(|line| !line.starts_with("DryRun")).collect()
}

/// The dry runs of the whole unit come before its first write, and all their errors are told at once.
#[test]
fn a_validated_unit_writes_nothing_before_all_of_it_passed() {
    for validation in [Validation::Server, Validation::Client] {
        let mut w = World::new();
        for name in ["bad", "worse"] {
            w.cluster
                .refuse
                .insert(format!("ConfigMap default/{name}"), failure(422, "Invalid", &format!("{name}: no")));
        }
        let role =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
        let objects =
            vec![config_map("bad", "1"), config_map("good", "1"), config_map("worse", "1"), role, namespace("new")];
        let of = unit("a", objects).with(|s| s.validation = validation);
        w.commit(std::slice::from_ref(&of));
        w.settle();
        let writes = w.writes();
        assert_eq!(
            writes.iter().filter(|line| line.starts_with("DryRun")).count(),
            5 + 2,
            "each once, the refused again"
        );
        assert_eq!(real(writes), [""; 0]);
        let report = w.report("a");
        assert!(report.message.contains("bad: no") && report.message.contains("worse: no"), "{}", report.message);
        assert!(report.message.starts_with("validation failed, so nothing of"), "{}", report.message);
        assert_eq!(report.counts.failed, 2);
        assert_eq!(w.engine.inventory_len(), 0, "nothing was written, nothing is ours");
        w.cluster.refuse.clear();
        w.engine.reconcile(None, w.now);
        w.settle();
        assert_eq!(real(w.writes()).len(), 5);
        assert_eq!(w.report("a").ready, Ready::True);
        // Afterwards a heal is no new content.
        w.cluster.update(&key("", "ConfigMap", "default", "good"), "kubectl-edit", &[("data|k", Some(json!("2")))]);
        w.settle();
        assert_eq!(w.writes(), ["Heal ConfigMap default/good"]);
        // A bad change of one object changes none.
        w.cluster.refuse.insert("ConfigMap default/bad".into(), failure(422, "Invalid", "no"));
        let objects = vec![config_map("bad", "2"), config_map("good", "2")];
        w.commit(&[unit("a", objects).with(|s| s.validation = validation)]);
        w.settle();
        assert_eq!(real(w.writes()), [""; 0]);
    }
}

/// What the unit itself makes first cannot be asked for before: its dry run follows, still ahead of its write.
#[test]
fn what_depends_on_the_units_own_definitions_is_validated_after_them() {
    let mut w = World::new();
    let mut inside = config_map("x", "1");
    inside["metadata"]["namespace"] = "new".into();
    let of = unit("a", vec![inside, namespace("new"), config_map("y", "1"), widget("w")])
        .with(|s| s.validation = Validation::Server);
    w.commit(&[of]);
    w.settle();
    w.cluster.served.push(served("acme.example", "Widget", true));
    w.discover();
    w.settle();
    let writes = w.writes();
    let at = |what: &str| writes.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {writes:?}"));
    assert!(at("DryRun ConfigMap default/y") < at("Create Namespace new"));
    assert!(at("Create Namespace new") < at("DryRun ConfigMap new/x"));
    assert!(at("DryRun ConfigMap new/x") < at("Create ConfigMap new/x"));
    assert!(at("DryRun Widget.acme.example default/w") < at("Create Widget.acme.example default/w"));
    assert_eq!(w.report("a").ready, Ready::True);
}

/// The server may be away while it is asked: nothing is written on a guess.
#[test]
fn a_dry_run_without_an_answer_is_made_again() {
    let mut w = World::new();
    let of = unit("a", vec![config_map("x", "1"), config_map("y", "1")]).with(|s| s.validation = Validation::Server);
    w.commit(&[of]);
    let mut left = 3;
    let until = w.now + 60_000;
    w.run_until(until, &mut |step: &Step| {
        let hit = matches!(step.action, driftless_reconcile::step::Action::DryRun(_)) && left > 0;
        left -= i32::from(hit);
        hit.then_some(if left == 1 { Fault::Lost } else { Fault::Refused(503) })
    });
    let writes = w.writes();
    let first_write = writes.iter().position(|line| line.starts_with("Create")).unwrap();
    assert_eq!(writes[..first_write].iter().filter(|line| line.starts_with("DryRun")).count(), 2, "{writes:?}");
    assert_eq!(w.report("a").ready, Ready::True);
}

/// Objects of health checks that nobody declares, as operators make them: read while they are waited for, and neither before
/// nor in a busy loop (which the world of these tests would notice).
#[test]
fn health_checks_of_objects_that_nobody_declares() {
    let mut w = World::new();
    let made = key("", "ConfigMap", "default", "made");
    let of = || unit("a", vec![config_map("x", "1")]).with(|s| s.health_checks = vec![made.clone()]).after("b");
    w.cluster.refuse.insert("ConfigMap default/b".into(), failure(422, "Invalid", "data.k: Invalid value"));
    let all = |b: &str| [of(), unit("b", vec![config_map("b", b)])];
    w.commit(&all("1"));
    // Blocked by what it depends on, for longer than its health checks may take.
    pass(&mut w, 120);
    assert_eq!(w.report("a").reason, driftless_protocol::report::reason::DEPENDENCY_NOT_READY);
    w.cluster.refuse.clear();
    w.commit(&all("2"));
    pass(&mut w, 5);
    let report = w.report("a");
    assert_eq!(report.reason, driftless_protocol::report::reason::HEALTH_CHECK_PENDING, "{report:#?}");
    assert!(report.message.contains("made"), "{}", report.message);
    w.cluster.apply(&config_map("made", "1"), "some-operator").unwrap();
    pass(&mut w, 30);
    assert_eq!(w.report("a").ready, Ready::True, "{:#?}", w.report("a"));
    // And while one of its objects is refused.
    w.cluster.refuse.insert("ConfigMap default/x".into(), failure(422, "Invalid", "data.k: Invalid value"));
    w.commit(&[unit("a", vec![config_map("x", "2")]).with(|s| s.health_checks = vec![made.clone()])]);
    pass(&mut w, 600);
    assert_eq!(w.report("a").ready, Ready::False);
}

/// A webhook that hardly answers for one kind holds up that kind, and no other.
#[test]
fn slow_requests_of_one_kind_do_not_hold_up_the_others() {
    let mut w = World::new();
    let slow: Vec<Value> = (0..80).map(|n| deployment(&format!("slow-{n}"), 1)).collect();
    let quick = |value: &str| unit("b", (0..40).map(|n| config_map(&format!("quick-{n}"), value)).collect());
    let units = |value: &str| [unit("a", slow.clone()), quick(value)];
    let mut hanging = 0;
    let mut hangs = |step: &Step| match &step.action {
        Action::Apply(apply) if apply.key.kind == "Deployment" => {
            hanging += 1;
            Some(Fault::Hangs)
        }
        _ => None,
    };
    w.commit(&units("1"));
    w.run_until(w.now + 10_000, &mut hangs);
    assert_eq!(w.report("b").ready, Ready::True);
    // Neither do they when nothing else had waited, so that they may have taken what they could.
    w.commit(&units("2"));
    w.run_until(w.now + 10_000, &mut hangs);
    assert_eq!((w.report("b").ready, w.report("b").counts.in_sync), (Ready::True, 40));
    assert!((1..w.rules.in_flight).contains(&hanging), "{hanging}");
}
