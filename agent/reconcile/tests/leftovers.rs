//! What only Flux's inventory has when a unit is taken over: adopted, and deleted by the rules for everything that left Git.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use std::collections::BTreeSet;

use driftless_protocol::bundle::{ApprovedDelete, Reason, Withheld};
use driftless_protocol::marks::{FLUX_OWNER_NAME, PRUNE, UNIT_LABEL};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{EventKind, LeftoverFate};
use driftless_reconcile::adopt;
use driftless_reconcile::inventory;
use driftless_reconcile::step::{Action, Step};
use proptest::prelude::*;
use serde_json::{Value, json};
use world::flux::*;
use world::*;

fn old(name: &str) -> Value {
    of("apps", config_map(name, "1"))
}

fn there(w: &World, object: &Value) -> Option<Value> {
    w.cluster.get(&ObjectKey::of(object).unwrap())
}

fn keys(objects: &[Value]) -> Vec<ObjectKey> {
    objects.iter().filter_map(ObjectKey::of).collect()
}

/// Flux has applied all of it and is suspended.
fn suspended(w: &mut World, objects: &[Value]) {
    flux_applies(w, "apps", "", true, objects);
    w.cluster.log.clear();
}

fn kept() -> Value {
    let mut kept = old("kept");
    kept["metadata"]["annotations"][PRUNE] = "disabled".into();
    kept
}

fn owned(w: &World) -> BTreeSet<String> {
    let shards: Vec<(u32, String)> = w.cluster.inventory.iter().map(|(n, t)| (*n, t.clone())).collect();
    let (inventory, errors) = inventory::decode(&shards);
    assert!(errors.is_empty(), "{errors:?}");
    inventory.iter().map(|(key, _)| key.to_string()).collect()
}

fn approve(w: &World, object: &Value) -> ApprovedDelete {
    let uid = there(w, object).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    ApprovedDelete { key: ObjectKey::of(object).unwrap(), uid }
}

fn long(w: &mut World) {
    w.run_until(w.now + 300_000, &mut |_: &Step| None);
}

#[test]
fn what_git_dropped_while_flux_was_suspended_is_pruned_by_the_rules() {
    let mut w = world(false);
    let stays = old("stays");
    let (gone, foreign, bare) = (old("gone"), of("other", config_map("foreign", "1")), config_map("bare", "1"));
    let space = of("apps", namespace("space"));
    let mut flux_own = old("controller");
    flux_own["metadata"]["labels"]["app.kubernetes.io/part-of"] = "flux".into();
    let all = [stays.clone(), gone.clone(), foreign.clone(), bare.clone(), kept(), space.clone(), flux_own.clone()];
    suspended(&mut w, &all);
    let before = there(&w, &space).unwrap();
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/stays", "Delete ConfigMap default/gone"]);
    for left in [&foreign, &bare, &kept(), &flux_own] {
        assert!(there(&w, left).is_some(), "{left}");
    }
    assert_eq!(there(&w, &space).unwrap(), before, "nothing is written to what waits for approval");
    let report = w.report("apps");
    let held = &report.held_deletes[0];
    assert!(held.key.kind == "Namespace" && held.why.contains("Flux had applied it"), "{held:#?}");
    let said = |name: &str, what: EventKind, words: &str| {
        let event = report.recent.iter().find(|e| e.key.name == name).unwrap_or_else(|| panic!("{name}: {report:#?}"));
        assert!(event.what == what && event.detail.contains(words), "{event:#?}");
    };
    said("gone", EventKind::Pruned, "dropped it before the take-over");
    said("foreign", EventKind::Released, "name Kustomization flux-system/other");
    said("bare", EventKind::Released, "no owner labels");
    said("kept", EventKind::Released, "disabled");
    assert_eq!(owned(&w), ["ConfigMap default/stays".to_owned(), "Namespace space".to_owned()].into());
    // Again and again: nothing more.
    w.restart();
    long(&mut w);
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(w.report("apps").held_deletes.len(), 1, "read again by its name, no watch shows it");
    let approved = approve(&w, &space);
    w.commit_index(&[handed_over("apps", vec![stays.clone()])], true, &[approved]);
    w.settle();
    assert_eq!(w.writes(), ["Delete Namespace space"]);
    assert_eq!(owned(&w), ["ConfigMap default/stays".to_owned()].into());
}

#[test]
fn shadow_mode_says_what_would_become_of_each_and_writes_nothing() {
    let mut w = world(true);
    let (gone, foreign) = (old("gone"), of("other", config_map("foreign", "1")));
    let moved = old("moved");
    let all = [old("stays"), gone, foreign, kept(), of("apps", namespace("space")), moved.clone()];
    suspended(&mut w, &all);
    w.commit(&[handed_over("apps", vec![old("stays")]), unit("other", vec![moved])]);
    w.settle();
    let shadow = w.report("apps").shadow.unwrap();
    let fate = |id: &str| shadow.fate_of(id).unwrap_or_else(|| panic!("{id}: {shadow:#?}"));
    assert_eq!(fate("default_gone__ConfigMap"), "would be adopted and deleted");
    assert!(fate("_space__Namespace").starts_with("would be adopted and held for approval: a Namespace is deleted"));
    for (name, words) in [("foreign", "flux-system/other"), ("kept", "disabled"), ("moved", "it goes there")] {
        let fate = fate(&format!("default_{name}__ConfigMap"));
        assert!(fate.starts_with("would be left alone: ") && fate.contains(words), "{fate}");
    }
    assert_eq!((shadow.only_flux_count, shadow.would_delete, shadow.would_hold, shadow.open), (5, 1, 1, 0));
    assert!(w.report("apps").message.contains("1 would be adopted and deleted"), "{}", w.report("apps").message);
    assert!(w.writes().is_empty() && w.cluster.inventory.is_empty());
    // More than an hour allows.
    let many: Vec<Value> = (0..25).map(|n| old(&format!("many-{n}"))).collect();
    let mut listed = vec![old("stays")];
    listed.extend(many);
    let mut w = world(true);
    suspended(&mut w, &listed);
    w.commit(&[handed_over("apps", vec![old("stays")])]);
    w.settle();
    let shadow = w.report("apps").shadow.unwrap();
    assert_eq!((shadow.would_delete, shadow.would_hold), (0, 25), "{shadow:#?}");
    assert!(shadow.leftovers[0].fate == LeftoverFate::Held && shadow.leftovers[0].why.contains("need approval"));
}

#[test]
fn more_than_the_budget_waits_for_approval_all_or_nothing() {
    let mut w = world(false);
    let mut all: Vec<Value> = (0..25).map(|n| old(&format!("many-{n}"))).collect();
    all.push(old("stays"));
    suspended(&mut w, &all);
    w.commit(&[handed_over("apps", vec![old("stays")])]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/stays"]);
    assert_eq!(w.report("apps").held_deletes.len(), 25);
    // Also where they are read a few at a time, and some only later.
    let mut w = world(false);
    w.rules.in_flight = 3;
    w.restart();
    suspended(&mut w, &all);
    w.commit(&[handed_over("apps", vec![old("stays")])]);
    let mut refused = 0;
    let until = w.now + 60_000;
    w.run_until(until, &mut |step: &Step| match &step.action {
        Action::Get { .. } if refused < 12 => {
            refused += 1;
            Some(Fault::Refused(503))
        }
        _ => None,
    });
    assert!(refused == 12 && w.writes() == ["Create ConfigMap default/stays"]);
    assert_eq!(w.report("apps").held_deletes.len(), 25);
}

#[test]
fn what_another_unit_declares_moves_and_what_is_not_sent_stays() {
    let mut w = world(false);
    let (moved, dark) = (
        old("moved"),
        of(
            "apps",
            json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "creds-7hk2mmb9dc", "namespace": "default"}}),
        ),
    );
    let lookalike = of(
        "apps",
        json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "creds-old", "namespace": "default"}}),
    );
    suspended(&mut w, &[old("stays"), moved.clone(), dark.clone(), lookalike.clone()]);
    let mut apps = handed_over("apps", vec![old("stays")]);
    let reason = Reason { code: "Encrypted".into(), message: "its hash is not known".into(), file: None, line: None };
    apps.withheld.push(Withheld { key: key("", "Secret", "default", "creds"), reason });
    let uid = there(&w, &moved).unwrap()["metadata"]["uid"].clone();
    let other = unit("other", vec![of("other", config_map("moved", "1"))]);
    w.commit(&[apps, other]);
    w.settle();
    let moved = there(&w, &moved).unwrap();
    assert_eq!((&moved["metadata"]["uid"], &moved["metadata"]["labels"][FLUX_OWNER_NAME]), (&uid, &json!("other")));
    assert!(there(&w, &dark).is_some(), "it may be what the hub cannot name");
    assert!(there(&w, &lookalike).is_none(), "its name does not end in a hash");
}

#[test]
fn a_name_that_is_known_in_part_covers_what_it_may_be() {
    let secret = |name: &str| key("", "Secret", "a", name);
    for (declared, live, may) in [
        (secret("creds"), secret("creds"), true),
        (secret("creds"), secret("creds-7hk2mmb9dc"), true),
        (secret("creds"), secret("creds-7hk2mmb9d"), false),
        (secret("creds"), secret("creds7hk2mmb9dc-"), false),
        (secret("creds"), key("", "Secret", "b", "creds-7hk2mmb9dc"), false),
        (key("apps", "Deployment", "a", "web"), key("apps", "Deployment", "a", "web-7hk2mmb9dc"), false),
        (secret("${name}-db"), secret("anything"), true),
        (key("", "Secret", "${space}", "creds"), key("", "Secret", "b", "creds"), true),
        (key("", "${kind}", "a", "x"), key("", "ConfigMap", "a", "x"), true),
        (secret("${name}"), key("", "ConfigMap", "a", "x"), false),
    ] {
        assert_eq!(adopt::may_be(&declared, &live), may, "{declared} {live}");
    }
}

#[test]
fn flux_resumed_before_the_delete_finds_everything_as_it_left_it() {
    let mut w = world(false);
    let (stays, space) = (old("stays"), of("apps", namespace("space")));
    suspended(&mut w, &[stays.clone(), space.clone()]);
    let before = there(&w, &space).unwrap();
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    w.settle();
    assert_eq!(w.report("apps").held_deletes.len(), 1);
    flux_object(&mut w, "apps", "", false, true, &keys(&[stays.clone(), space.clone()]));
    w.writes();
    let approved = approve(&w, &space);
    w.commit_index(&[handed_over("apps", vec![stays.clone()])], true, &[approved]);
    long(&mut w);
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(there(&w, &space).unwrap(), before);
    // Flux prunes it itself, and is handed over once more.
    w.cluster.delete(&ObjectKey::of(&space).unwrap(), None, None).unwrap();
    flux_object(&mut w, "apps", "", true, true, &keys(std::slice::from_ref(&stays)));
    long(&mut w);
    assert_eq!(owned(&w), ["ConfigMap default/stays".to_owned()].into());
}

#[test]
fn what_somebody_makes_later_is_not_flux_s() {
    let mut w = world(false);
    let (stays, gone) = (old("stays"), old("gone"));
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    w.settle();
    assert!(there(&w, &gone).is_none());
    // From an old file, labels and all; Flux's inventory still names it.
    w.cluster.apply(&gone, "kubectl").unwrap();
    w.writes();
    w.restart();
    long(&mut w);
    assert_eq!(w.writes(), [""; 0]);
    // Its Kustomization is changed, and still suspended.
    let mut changed = w.cluster.get(&kustomization("apps")).unwrap();
    changed["spec"]["interval"] = "1h".into();
    changed["metadata"]["generation"] = 9.into();
    w.cluster.put(changed);
    long(&mut w);
    assert_eq!(w.writes(), [""; 0]);
    // Flux ran again meanwhile: its inventory is of now.
    flux_object(&mut w, "apps", "", false, true, &keys(&[stays.clone(), gone.clone()]));
    w.settle();
    flux_object(&mut w, "apps", "", true, true, &keys(&[stays.clone(), gone.clone()]));
    w.settle();
    assert_eq!(w.writes(), ["Delete ConfigMap default/gone"]);
}

#[test]
fn our_own_mark_means_that_the_inventory_was_lost() {
    let mut w = world(false);
    let (stays, gone) = (old("stays"), old("gone"));
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    w.commit(&[handed_over("apps", vec![stays.clone(), gone.clone()])]);
    w.settle();
    assert!(there(&w, &gone).unwrap()["metadata"]["labels"].get(UNIT_LABEL).is_some());
    w.cluster.inventory.clear();
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    w.restart();
    w.writes();
    long(&mut w);
    assert!(there(&w, &gone).is_some(), "a lost inventory deletes nothing");
}

#[test]
fn nothing_is_adopted_without_an_inventory_or_with_prune_off() {
    let mut w = world(false);
    let (stays, gone) = (old("stays"), old("gone"));
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    flux_object(&mut w, "apps", "", true, true, &[]);
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    long(&mut w);
    assert!(there(&w, &gone).is_some());
    let mut w = world(false);
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    w.commit(&[handed_over("apps", vec![stays.clone()]).with(|spec| spec.prune = false)]);
    long(&mut w);
    assert!(there(&w, &gone).is_some() && owned(&w) == ["ConfigMap default/stays".to_owned()].into());
    // And on: from then on by the rules.
    w.commit(&[handed_over("apps", vec![stays])]);
    w.settle();
    assert!(there(&w, &gone).is_none());
}

#[test]
fn what_changes_meanwhile_is_judged_again_and_what_cannot_be_read_is_said() {
    let mut w = world(false);
    let (stays, gone) = (old("stays"), old("gone"));
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    let until = w.now + 10_000;
    w.run_until(until, &mut |step: &Step| match &step.action {
        Action::Get { key, .. } if key.name == "gone" => Some(Fault::Refused(403)),
        _ => None,
    });
    let report = w.report("apps");
    let unread = report.objects.iter().find(|o| o.key.name == "gone").unwrap_or_else(|| panic!("{report:#?}"));
    assert!(unread.reason == "AdoptionUnread" && unread.message.contains("cannot be read"), "{unread:#?}");
    assert!(there(&w, &gone).is_some());
    // It is read, and somebody marks it before the delete arrives: the delete is refused, and it is judged anew.
    let mut refused = 0;
    let until = w.now + 300_000;
    w.run_until(until, &mut |step: &Step| match &step.action {
        Action::Delete(_) if refused == 0 => {
            refused += 1;
            Some(Fault::Refused(409))
        }
        _ => None,
    });
    assert!(refused == 1 && there(&w, &gone).is_none());

    let mut w = world(false);
    suspended(&mut w, &[stays.clone(), of("apps", namespace("space"))]);
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    w.settle();
    assert_eq!(w.report("apps").held_deletes.len(), 1);
    let space = key("", "Namespace", "", "space");
    w.cluster.update(&space, "kubectl", &[("metadata|labels|kustomize.toolkit.fluxcd.io/name", Some(json!("other")))]);
    w.run_until(w.now + 1_000_000, &mut |_: &Step| None);
    let report = w.report("apps");
    assert!(report.held_deletes.is_empty(), "{report:#?}");
    assert!(report.recent.iter().any(|e| e.detail.contains("no longer carries Flux's owner labels")), "{report:#?}");
    assert!(w.cluster.get(&space).is_some());
}

#[test]
fn nothing_is_deleted_before_its_adoption_is_stored() {
    let mut w = world(false);
    let (stays, gone) = (old("stays"), old("gone"));
    suspended(&mut w, &[stays.clone(), gone.clone()]);
    w.commit(&[handed_over("apps", vec![stays.clone()])]);
    let mut lost = 0;
    let until = w.now + 100_000;
    w.run_until(until, &mut |step: &Step| match &step.action {
        Action::WriteInventory { shards }
            if shards.iter().any(|s| s.text.as_ref().is_some_and(|t| t.contains("gone"))) =>
        {
            lost += 1;
            Some(Fault::Lost)
        }
        Action::Delete(delete) => panic!("{} is deleted, and no inventory holds it", delete.key),
        _ => None,
    });
    assert!(lost > 0 && there(&w, &gone).is_some());
    // Killed now: the next one finds it anew.
    w.restart();
    long(&mut w);
    assert!(there(&w, &gone).is_none() && owned(&w) == ["ConfigMap default/stays".to_owned()].into());
}

/// One object of Flux's inventory.
#[derive(Clone, Debug)]
struct Case {
    kind: u8,
    /// Whose owner labels it carries: the unit's, another's, none.
    labels: u8,
    /// Who declares it: nobody, the unit, another.
    declared: u8,
    opted_out: bool,
    listed: bool,
}

impl Case {
    fn object(&self, n: usize) -> Value {
        let mut object = match self.kind {
            0 => namespace(&format!("n{n}")),
            1 => {
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("o{n}"), "namespace": "default"}})
            }
            _ => config_map(&format!("o{n}"), "1"),
        };
        if self.opted_out {
            object["metadata"]["annotations"][PRUNE] = "disabled".into();
        }
        match self.labels {
            0 => of("apps", object),
            1 => of("other", object),
            _ => object,
        }
    }

    fn may_go(&self) -> bool {
        self.labels == 0 && self.declared == 0 && !self.opted_out && self.listed
    }
}

fn case() -> impl Strategy<Value = Case> {
    (0u8..3, 0u8..3, 0u8..3, any::<bool>(), any::<bool>())
        .prop_map(|(kind, labels, declared, opted_out, listed)| Case { kind, labels, declared, opted_out, listed })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is refused, lost or interrupted: only what may go goes, only by an inventory that is stored, and in the end all
    /// of it has gone or waits for approval.
    #[test]
    fn nothing_else_is_ever_deleted(cases in prop::collection::vec(case(), 1..12), held in any::<bool>(), seed in any::<u64>()) {
        let mut w = world(false);
        let objects: Vec<Value> = cases.iter().enumerate().map(|(n, case)| case.object(n)).collect();
        for object in &objects {
            w.cluster.apply(object, FLUX).unwrap();
        }
        let listed: Vec<Value> =
            cases.iter().zip(&objects).filter(|(case, _)| case.listed).map(|(_, object)| object.clone()).collect();
        flux_object(&mut w, "apps", "", true, true, &keys(&listed));
        let declared = |by: u8, unit: &str| -> Vec<Value> {
            let of_unit = cases.iter().zip(&objects).filter(|(case, _)| case.declared == by);
            of_unit.map(|(_, object)| of(unit, object.clone())).chain([of(unit, config_map(&format!("{unit}-anchor"), "1"))]).collect()
        };
        let units = [handed_over("apps", declared(1, "apps")), unit("other", declared(2, "other"))];
        let mut first = units.to_vec();
        if held {
            first.push(unit("broken", vec![]).held());
        }
        w.commit(&first);
        let may: BTreeSet<ObjectKey> =
            cases.iter().zip(&objects).filter(|(case, _)| case.may_go()).filter_map(|(_, o)| ObjectKey::of(o)).collect();
        let mut random = seed;
        for round in 0..6 {
            let mut wrong = Vec::new();
            let until = w.now + 40_000;
            w.run_until(until, &mut |step: &Step| {
                if let Action::Delete(delete) = &step.action
                    && (!may.contains(&delete.key)
                        || driftless_protocol::guard::is_protected(&delete.key)
                        || (held && round < 5))
                {
                    wrong.push(delete.key.clone());
                }
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match (random >> 33) % 8 {
                    _ if round == 5 => None,
                    0 => Some(Fault::Refused(409)),
                    1 => Some(Fault::Refused(503)),
                    2 => Some(Fault::DoneButLost),
                    3 => Some(Fault::Lost),
                    _ => None,
                }
            });
            prop_assert!(wrong.is_empty(), "{wrong:?}");
            if round % 2 == 0 {
                w.restart();
            }
            if round == 4 {
                w.commit(&units);
            }
        }
        w.run_until(w.now + 1_200_000, &mut |_: &Step| None);
        let waits: BTreeSet<ObjectKey> = w.report("apps").held_deletes.into_iter().map(|held| held.key).collect();
        for (case, object) in cases.iter().zip(&objects) {
            let key = ObjectKey::of(object).unwrap();
            let gone = w.cluster.get(&key).is_none();
            prop_assert_eq!(gone, case.may_go() && case.kind != 0, "{} {:?}", key, case);
            prop_assert_eq!(waits.contains(&key), case.may_go() && case.kind == 0, "{} {:?}", key, case);
        }
    }
}

/// A pod that starts again has the bundle that was stored: Flux may have applied since what came to Git after it. A newer
/// bundle says more, and that there is none as much.
#[test]
fn what_flux_left_is_not_judged_by_a_bundle_that_may_be_old() {
    for newer in [true, false] {
        let mut w = world(false);
        let (stays, new, gone) = (old("stays"), old("new"), old("gone"));
        w.commit(&[handed_over("apps", vec![stays.clone()])]);
        w.settle();
        w.engine.bundle_may_be_old(true);
        suspended(&mut w, &[stays.clone(), new.clone(), gone.clone()]);
        long(&mut w);
        assert!(there(&w, &new).is_some() && there(&w, &gone).is_some(), "{:?}", w.writes());
        match newer {
            true => w.commit(&[handed_over("apps", vec![stays.clone(), new.clone()])]),
            false => w.engine.bundle_may_be_old(false),
        }
        w.settle();
        assert_eq!(there(&w, &new).is_some(), newer);
        assert!(there(&w, &gone).is_none(), "{:?}", w.writes());
    }
}
