//! A commit costs the reports of the units that it changes, whatever revision and generation it has.

mod world;

use driftless_protocol::report::{Ready, UnitReport, reason};
use serde_json::json;
use world::*;

const UNITS: usize = 1_000;

fn names(reports: &[UnitReport]) -> Vec<&str> {
    reports.iter().map(|report| &*report.unit.name).collect()
}

fn revision(sequence: u64) -> String {
    format!("main@sha1:{sequence:040x}")
}

#[test]
fn a_commit_that_changes_one_unit_of_a_thousand_reports_that_one() {
    let mut w = World::new();
    let of = |n: usize, value: &str| unit(&format!("u{n}"), vec![config_map(&format!("c{n}"), value)]);
    let mut units: Vec<Unit> = (0..UNITS).map(|n| of(n, "1")).collect();
    w.commit(&units);
    w.settle();
    assert_eq!(w.engine.take_reports(w.now).len(), UNITS);
    w.commit(&units);
    w.settle();
    assert_eq!(names(&w.engine.take_reports(w.now)), [""; 0], "the same bundle at another revision");
    units[7] = of(7, "2");
    w.commit(&units);
    w.settle();
    let reports = w.engine.take_reports(w.now);
    assert_eq!(names(&reports), ["u7"]);
    assert_eq!(reports[0].message, format!("Applied revision: {}", revision(3)));
    let other = w.report("u8");
    // It speaks of the newest generation and says with which revision its content came.
    assert_eq!(other.generation.map(|generation| generation.sequence), Some(3));
    assert_eq!(
        (&other.message, other.applied_revision),
        (&format!("Applied revision: {}", revision(1)), Some(revision(1)))
    );
    // A new agent knows no older revision.
    w.restart();
    w.settle();
    assert_eq!(w.report("u8").applied_revision, Some(revision(3)));
}

#[test]
fn words_about_a_unit_that_is_not_ready_do_not_change_with_the_revision_either() {
    let mut w = World::new();
    let web = deployment("web", 3);
    let waits = unit("web", vec![web]).with(|spec| spec.wait = true);
    let units = [waits, unit("steady", vec![config_map("steady", "1")])];
    w.commit(&units);
    w.settle();
    let report = w.report("web");
    assert_eq!((report.ready, &*report.reason), (Ready::Unknown, reason::HEALTH_CHECK_PENDING), "{}", report.message);
    w.engine.take_reports(w.now);
    w.commit(&units);
    w.settle();
    assert_eq!(names(&w.engine.take_reports(w.now)), [""; 0], "{}", w.report("web").message);
    // What becomes of it is told.
    let key = key("apps", "Deployment", "default", "web");
    w.cluster.update(&key, "kube-controller-manager", &[("status", Some(json!({
        "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 3, "availableReplicas": 3,
        "conditions": [{"type": "Available", "status": "True"}],
    })))]);
    w.settle();
    assert_eq!(names(&w.engine.take_reports(w.now)), ["web"]);
    assert_eq!(w.report("web").ready, Ready::True, "{}", w.report("web").message);
}
