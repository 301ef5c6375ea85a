//! Units of thousands of objects: a look at one and a report of it cost by their number, so they come now and then.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::report::Ready;
use driftless_reconcile::step::{Action, Outcome, Step};
use serde_json::json;
use world::*;

const OBJECTS: usize = 1280;
/// Between two looks at it, in milliseconds.
const LOOKS: u64 = OBJECTS as u64 / 64;
/// Between two reports of it while it is at work.
const REPORTS: u64 = OBJECTS as u64 / 4;

fn large(value: &str) -> Unit {
    unit("large", (0..OBJECTS).map(|n| config_map(&format!("c-{n}"), value)).collect())
}

/// It is applied, and reported.
fn applied() -> World {
    let mut w = World::new();
    w.commit(&[large("1")]);
    w.settle();
    assert_eq!(w.writes().len(), OBJECTS);
    w.engine.take_reports(w.now);
    w
}

fn run_until(w: &mut World, until: u64) {
    w.run_until(until, &mut |_: &Step| None);
}

#[test]
fn an_edit_is_healed_at_once_and_those_that_follow_closely_together() {
    let mut w = applied();
    let edit = |w: &mut World, n: usize| {
        let key = key("", "ConfigMap", "default", &format!("c-{n}"));
        w.cluster.update(&key, "kubectl-edit", &[("data|k", Some(json!("by hand")))]);
    };
    edit(&mut w, 0);
    let now = w.now;
    run_until(&mut w, now);
    assert_eq!(w.writes(), ["Heal ConfigMap default/c-0"]);
    // Its answer was a look just now.
    let looked = w.now;
    for n in 1..6 {
        edit(&mut w, n);
        w.now += 1;
        let now = w.now;
        run_until(&mut w, now);
        assert_eq!(w.writes(), [""; 0], "a look for each");
    }
    run_until(&mut w, looked + LOOKS);
    let healed: Vec<String> = (1..6).map(|n| format!("Heal ConfigMap default/c-{n}")).collect();
    assert_eq!(w.writes(), healed);
}

/// What is told of a generation rests on reports made since it came.
#[test]
fn a_new_generation_is_reported_although_the_last_report_is_young() {
    let mut w = applied();
    w.commit(&[large("2")]);
    assert!(w.engine.poll(w.now).len() > 1);
    assert!(w.engine.take_reports(w.now)[0].message.contains("1280 objects to go"));
}

#[test]
fn objects_that_move_to_another_unit_while_they_are_applied_are_its_work() {
    let mut w = World::new();
    let of = |name: &str| unit(name, large("1").objects);
    w.commit(&[unit("old", vec![config_map("before", "1")])]);
    w.settle();
    w.commit(&[of("old")]);
    let intents = w.engine.poll(w.now);
    w.engine.done(intents[0].id, Outcome::Ok, &w.store, w.now);
    let sent = w.engine.poll(w.now);
    assert!(sent.len() > 1 && sent.iter().all(|step| matches!(step.action, Action::Apply(_))));
    w.commit(&[of("new")]);
    // It is looked at while all of that is on its way.
    for step in w.engine.poll(w.now) {
        w.engine.done(step.id, Outcome::Ok, &w.store, w.now);
    }
    for step in &sent {
        w.engine.done(step.id, Outcome::Unknown, &w.store, w.now + 5);
    }
    w.settle();
    let report = w.report("new");
    assert_eq!((report.ready, report.counts.in_sync), (Ready::True, OBJECTS as u32), "{}", report.message);
}

#[test]
fn while_it_is_at_work_it_is_reported_now_and_then_and_at_the_end() {
    let mut w = applied();
    w.now += REPORTS;
    w.commit(&[large("2")]);
    let now = w.now;
    let steps = w.engine.poll(now);
    assert!(steps.len() > 1 && steps.iter().all(|step| matches!(step.action, Action::Apply(_))));
    let reports = w.engine.take_reports(now);
    assert_eq!(reports.len(), 1, "that it began");
    assert!(reports[0].message.contains("1280 objects to go"), "{}", reports[0].message);
    assert!(!w.engine.untold());
    w.engine.done(steps[0].id, Outcome::Unknown, &w.store, now + 5);
    assert_eq!(w.engine.take_reports(now + REPORTS - 1), []);
    assert!(w.engine.untold(), "it is not forgotten");
    w.engine.take_reports(now + REPORTS);
    assert!(!w.engine.untold());
    for step in &steps[1..] {
        w.engine.done(step.id, Outcome::Unknown, &w.store, now + REPORTS + 1);
    }
    w.settle();
    let reports = w.engine.take_reports(w.now);
    assert_eq!(reports.iter().map(|r| r.counts.in_sync).collect::<Vec<_>>(), [OBJECTS as u32], "that it ended");
}
