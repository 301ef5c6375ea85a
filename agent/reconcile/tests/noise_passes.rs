//! Events that change nothing pass by without being read whole, and nothing else does.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::bundle::ObjectOptions;
use driftless_protocol::report::Ready;
use serde_json::{Value, json};
use world::*;

fn world(options: ObjectOptions) -> World {
    let mut w = World::new();
    let x = key("", "ConfigMap", "default", "x");
    w.commit(&[unit("a", vec![namespace("default"), config_map("x", "1"), deployment("web", 2)]).marked(x, options)]);
    w.settle();
    w.writes();
    w.passed_by = 0;
    w
}

/// A controller writes status; how many of its events passed by.
fn noise(w: &mut World, kind: (&str, &str, &str), times: u64) -> usize {
    let before = w.passed_by;
    for n in 0..times {
        let seen = Some(json!(format!("{n} of {}", w.now)));
        let key = key(kind.0, kind.1, "default", kind.2);
        w.cluster.update_through(&key, "controller", "status", &[("status|lastSeen", seen)]);
        w.settle();
    }
    w.passed_by - before
}

const X: (&str, &str, &str) = ("", "ConfigMap", "x");
const WEB: (&str, &str, &str) = ("apps", "Deployment", "web");

fn edit(w: &mut World, of: (&str, &str, &str), manager: &str, path: &str, value: Value) {
    w.cluster.update(&key(of.0, of.1, "default", of.2), manager, &[(path, Some(value))]);
    w.settle();
}

#[test]
fn the_second_event_of_noise_passes_by_and_what_comes_between_does_not() {
    let mut w = world(ObjectOptions::default());
    assert_eq!(noise(&mut w, X, 4), 3, "the first is read whole");
    assert_eq!(w.writes(), [""; 0]);
    // A label by hand has no generation, and is drift.
    edit(&mut w, X, "kubectl-edit", "metadata|labels|by-hand", json!("yes"));
    assert_eq!(w.writes().len(), 1);
    assert_eq!(
        w.cluster.get(&key("", "ConfigMap", "default", "x")).unwrap()["metadata"]["labels"].get("by-hand"),
        None
    );
    assert_eq!(noise(&mut w, X, 4), 3);
    // A value by hand likewise, in the midst of noise.
    edit(&mut w, X, "kubectl-edit", "data|k", json!("2"));
    assert_eq!(w.writes().len(), 1);
    assert_eq!(w.cluster.get(&key("", "ConfigMap", "default", "x")).unwrap()["data"], json!({"k": "1"}));
    // Break-glass on the live object counts at once.
    assert_eq!(noise(&mut w, X, 3), 2);
    edit(&mut w, X, "kubectl-edit", "metadata|annotations|kustomize.toolkit.fluxcd.io/reconcile", json!("disabled"));
    w.writes();
    edit(&mut w, X, "kubectl-edit", "data|k", json!("3"));
    assert_eq!(w.writes(), [""; 0]);
}

#[test]
fn health_is_judged_in_passing() {
    let mut w = world(ObjectOptions::default());
    let of = key("apps", "Deployment", "default", "web");
    let status = |w: &mut World, available: u64| {
        let generation = w.cluster.get(&of).unwrap()["metadata"]["generation"].clone();
        let fields = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
        let mut changes: Vec<(String, Option<Value>)> =
            fields.iter().map(|field| (format!("status|{field}"), Some(json!(available)))).collect();
        changes.push(("status|observedGeneration".to_owned(), Some(generation)));
        changes.push(("status|conditions".to_owned(), Some(json!([{"type": "Available", "status": "True"}]))));
        let changes: Vec<(&str, Option<Value>)> = changes.iter().map(|(path, v)| (path.as_str(), v.clone())).collect();
        w.cluster.update_through(&of, "controller", "status", &changes);
        w.settle();
    };
    status(&mut w, 2);
    assert_eq!(w.report("a").counts.unhealthy, 0);
    assert_eq!(noise(&mut w, WEB, 4), 3);
    assert_eq!(w.report("a").counts.unhealthy, 0);
    let passed = w.passed_by;
    status(&mut w, 1);
    assert_eq!(w.passed_by, passed, "other health is told");
    assert_eq!(w.report("a").counts.unhealthy, 1);
    status(&mut w, 2);
    assert_eq!((w.report("a").counts.unhealthy, w.report("a").ready), (0, Ready::True));
}

#[test]
fn what_is_left_to_others_is_always_read_whole() {
    let ignore = vec!["/data/theirs".to_owned()];
    let mut w = world(ObjectOptions { ignore, ..ObjectOptions::default() });
    assert_eq!(noise(&mut w, X, 3), 0);
}

#[test]
fn a_list_that_shows_an_older_version_is_no_noise() {
    let mut w = world(ObjectOptions::default());
    assert_eq!(noise(&mut w, X, 2), 1);
    let x = key("", "ConfigMap", "default", "x");
    let live = w.cluster.get(&x).unwrap();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    let mut older = live.clone();
    older["metadata"]["resourceVersion"] = "1".into();
    assert!(!w.engine.passes_by(&x, uid, "1", &older.to_string()));
    let mut anew = live.clone();
    anew["metadata"]["uid"] = "another".into();
    anew["metadata"]["resourceVersion"] = "999999".into();
    assert!(!w.engine.passes_by(&x, "another", "999999", &anew.to_string()), "made anew");
}
