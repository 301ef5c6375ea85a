//! Shadow mode and take-over from Flux: what is compared, what is left to Flux, and when Driftless begins to write.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

mod world;

use driftless_protocol::marks::FLUX_OWNER_NAME;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ObjectState, Ready, UnitReport, reason};
use serde_json::{Value, json};
use world::flux::*;
use world::*;

fn shadow(w: &World, name: &str) -> (UnitReport, driftless_protocol::report::ShadowReport) {
    let report = w.report(name);
    let shadow = report.shadow.clone().expect("a comparison");
    (report, shadow)
}

fn apps() -> Vec<Value> {
    vec![of("apps", config_map("x", "1")), of("apps", deployment("web", 3))]
}

#[test]
fn equal_objects_are_zero_differences_and_nothing_is_written() {
    let mut w = world(true);
    // The server's own way to write a value, which one dry run explains.
    w.cluster.normalise.insert("data.k=\"1000m\"".into(), json!("1"));
    let mut objects = apps();
    objects[0]["data"]["k"] = "1000m".into();
    flux_applies(&mut w, "apps", "flux-system", false, &objects);
    let before = w.cluster.keys().count();
    w.cluster.log.clear();
    w.commit(&[unit("apps", objects)]);
    w.settle();
    let (report, shadow) = shadow(&w, "apps");
    assert!(shadow.zero() && shadow.equal == 2, "{report:#?}");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::True, reason::SHADOW_EQUAL), "{}", report.message);
    let asked = w.writes();
    assert!(asked.iter().all(|line| line == "DryRun ConfigMap default/x"), "{asked:?}");
    assert_eq!(asked.len(), 1, "one dry run for one content: {asked:?}");
    assert!(w.cluster.inventory.is_empty() && w.cluster.keys().count() == before);
    // Again after the interval, and after a restart: still nothing.
    w.run_until(w.now + 1_500_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0]);
    w.restart();
    w.settle();
    assert!(self::shadow(&w, "apps").1.zero());
    assert!(w.cluster.inventory.is_empty());
}

#[test]
fn every_kind_of_difference_is_told() {
    let mut w = world(true);
    let mut applied = apps();
    applied[0]["metadata"]["annotations"] = json!({"only": "flux"});
    applied.push(of("apps", config_map("gone-from-git", "1")));
    flux_applies(&mut w, "apps", "flux-system", false, &applied);
    let web = key("apps", "Deployment", "default", "web");
    w.cluster.update_through(&web, "kubectl", "scale", &[("spec|replicas", Some(json!(5)))]);
    // Flux's own installation and what Driftless interprets are no differences.
    let mut own = config_map("controller", "1");
    own["metadata"]["labels"]["app.kubernetes.io/part-of"] = "flux".into();
    w.cluster.apply(&own, FLUX).unwrap();
    let mut keys: Vec<ObjectKey> = applied.iter().filter_map(ObjectKey::of).collect();
    keys.push(ObjectKey::of(&own).unwrap());
    keys.push(key("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "flux-system"));
    keys.push(kustomization("child"));
    flux_object(&mut w, "apps", "flux-system", false, true, &keys);
    // There, declared, and never labelled by Flux: found all the same.
    w.cluster.apply(&config_map("by-hand", "1"), "kubectl").unwrap();
    let mut declared = apps();
    declared.push(of("apps", config_map("missing", "1")));
    declared.push(of("apps", config_map("by-hand", "2")));
    w.commit(&[unit("apps", declared.clone())]);
    w.settle();
    let (report, s) = shadow(&w, "apps");
    assert_eq!((s.equal, s.missing, s.differing, s.open), (0, 1, 3, 0), "{report:#?}");
    assert_eq!(s.only_flux, ["default_gone-from-git__ConfigMap"], "{s:?}");
    assert_eq!(s.only_ours, ["default_by-hand__ConfigMap"], "{s:?}");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::False, reason::SHADOW_DIFFERS));
    let field =
        |path: &str| report.drift.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("{path}: {report:#?}"));
    assert_eq!(field("spec.replicas").live.as_deref(), Some("5"));
    assert_eq!(field("metadata.annotations.only").desired, None, "Flux's own field that Git does not declare");
    assert_eq!(field("data.k").desired.as_deref(), Some("\"2\""));
    assert!(report.objects.iter().any(|o| o.state == ObjectState::Drifted && o.reason == "Missing"));
    assert!(w.cluster.inventory.is_empty());
    // Flux catches up: told without anybody asking.
    w.cluster.apply(&declared[0], FLUX).unwrap();
    w.cluster.update_through(&web, "kubectl", "scale", &[("spec|replicas", Some(json!(3)))]);
    w.settle();
    let (report, s) = shadow(&w, "apps");
    // The number is right again, and it is kubectl's.
    assert_eq!((s.equal, s.differing), (2, 1), "{report:#?}");
}

#[test]
fn a_secret_shows_no_value_and_a_refused_object_says_why() {
    let mut w = world(true);
    let secret = |value: &str| {
        of(
            "apps",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "data": {"p": value}}),
        )
    };
    flux_applies(&mut w, "apps", "flux-system", false, &[secret("b25l")]);
    w.cluster.immutable.push(("Secret default/s".into(), "data.p".into()));
    w.commit(&[unit("apps", vec![secret("dHdv")])]);
    w.run_until(w.now + 60_000, &mut |_: &driftless_reconcile::step::Step| None);
    let (report, s) = shadow(&w, "apps");
    assert_eq!((s.refused, s.differing), (1, 0), "{report:#?}");
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("b25l") && !text.contains("dHdv"), "{text}");
    assert!(text.contains("digest:") && text.contains("field is immutable"), "{text}");
}

#[test]
fn what_flux_runs_is_left_to_flux_and_its_dependents_go_by_its_word() {
    let mut w = world(false);
    flux_applies(&mut w, "apps", "flux-system", false, &apps());
    w.cluster.log.clear();
    let mine = unit("mine", vec![of("mine", config_map("m", "1"))]).after("apps");
    w.commit(&[unit("apps", apps()), mine]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/m"]);
    let report = w.report("apps");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::True, reason::FLUX_ACTS), "{}", report.message);
    assert!(report.message.contains("not suspended") && report.message.contains("take-over"), "{}", report.message);
    assert_eq!(report.flux.unwrap().objects, 2);
    // It left Git here, and Flux still has it: nothing is deleted.
    w.commit(&[unit("mine", vec![of("mine", config_map("m", "1"))])]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
}

#[test]
fn an_object_of_a_unit_that_flux_runs_is_named_and_left_alone() {
    let mut w = world(false);
    flux_applies(&mut w, "theirs", "", false, &[of("theirs", config_map("both", "1"))]);
    w.cluster.log.clear();
    w.commit(&[unit("mine", vec![of("mine", config_map("both", "2")), of("mine", config_map("alone", "1"))])]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/alone"]);
    let report = w.report("mine");
    let object = &report.objects[0];
    assert_eq!((object.reason.as_str(), report.counts.failed), ("FluxOwns", 1), "{report:#?}");
    assert!(object.message.contains("Kustomization flux-system/theirs"), "{}", object.message);
    assert!(report.message.contains("flux-system/theirs"), "{}", report.message);
    // Its other half lets go.
    flux_object(&mut w, "theirs", "", false, true, &[]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/both", "Change ConfigMap default/both"]);
    assert_eq!(w.report("mine").ready, Ready::True);
}

#[test]
fn a_unit_is_taken_once_flux_has_seen_the_suspend_and_nothing_is_made_anew() {
    let mut w = world(false);
    let mut applied = apps();
    applied[0]["data"]["leaves"] = "soon".into();
    flux_applies(&mut w, "apps", "flux-system", false, &applied);
    flux_applies(&mut w, "flux-system", "flux-system", false, &[]);
    let before: Vec<Value> = applied.iter().map(|o| w.cluster.get(&ObjectKey::of(o).unwrap()).unwrap()).collect();
    w.cluster.log.clear();
    w.commit(&[handed_over("apps", applied.clone())]);
    w.settle();
    assert_eq!(w.writes(), [""; 0], "Flux's parent passes the suspend on");
    assert!(
        w.report("apps").message.contains("flux reconcile kustomization flux-system"),
        "{}",
        w.report("apps").message
    );
    let keys: Vec<ObjectKey> = applied.iter().filter_map(ObjectKey::of).collect();
    flux_object(&mut w, "apps", "flux-system", true, false, &keys);
    w.settle();
    assert_eq!(w.writes(), [""; 0], "Flux has not seen it yet");
    assert!(w.report("apps").message.contains("until Flux has seen"), "{}", w.report("apps").message);
    flux_object(&mut w, "apps", "flux-system", true, true, &keys);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/x", "Create Deployment.apps default/web"]);
    let report = w.report("apps");
    assert_eq!((report.ready, report.counts.in_sync), (Ready::True, 2), "{report:#?}");
    for (was, key) in before.iter().zip(&keys) {
        let is = w.cluster.get(key).unwrap();
        assert_eq!(was["metadata"]["uid"], is["metadata"]["uid"]);
        assert_eq!((&was["spec"], &was["data"]), (&is["spec"], &is["data"]));
        assert_eq!(is["metadata"]["labels"][FLUX_OWNER_NAME], "apps", "Flux's labels stay");
        let managers: Vec<&str> = is["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["manager"].as_str().unwrap())
            .collect();
        assert_eq!(managers, ["driftless-agent"], "nothing stays with Flux");
    }
    // A field that Flux had applied leaves the cluster when it leaves Git; an object too.
    w.commit(&[handed_over("apps", vec![apps()[0].clone()])]);
    w.settle();
    assert!(w.cluster.get(&keys[0]).unwrap()["data"].get("leaves").is_none());
    assert!(w.cluster.get(&keys[1]).is_none(), "it left Git");
}

#[test]
fn where_flux_does_not_say_that_it_has_stopped_its_timeout_does() {
    let mut w = world(false);
    flux_applies(&mut w, "apps", "", true, &apps());
    flux_object(&mut w, "apps", "", true, false, &[]);
    w.cluster.log.clear();
    w.commit(&[handed_over("apps", apps())]);
    let begin = w.now;
    w.run_until(begin + 50_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0]);
    w.run_until(begin + 70_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes().len(), 2, "{}", w.report("apps").message);
}

#[test]
fn a_stopped_parent_passes_nothing_on_so_the_agent_does_once() {
    let mut w = world(false);
    flux_applies(&mut w, "flux-system", "flux-system", true, &[]);
    flux_object(&mut w, "flux-system", "flux-system", true, false, &[]);
    flux_applies(&mut w, "apps", "flux-system", false, &apps());
    flux_applies(&mut w, "deep", "apps", false, &[of("deep", config_map("d", "1"))]);
    let d = of("deep", config_map("d", "1"));
    let units = [handed_over("flux-system", vec![]), handed_over("apps", apps()), handed_over("deep", vec![d.clone()])];
    w.cluster.log.clear();
    w.commit(&units);
    w.settle();
    assert_eq!(w.writes(), [""; 0], "Flux has not seen the parent's suspend");
    flux_object(&mut w, "flux-system", "flux-system", true, true, &[]);
    w.settle();
    assert_eq!(w.writes(), ["Suspend apps"], "and so down the tree");
    let keys: Vec<ObjectKey> = apps().iter().filter_map(ObjectKey::of).collect();
    flux_object(&mut w, "apps", "flux-system", true, true, &keys);
    w.settle();
    let writes = w.writes();
    assert!(
        writes.contains(&"Suspend deep".to_owned()) && writes.contains(&"Create ConfigMap default/x".to_owned()),
        "{writes:?}"
    );
    flux_object(&mut w, "deep", "apps", true, true, &[]);
    w.settle();
    assert!(w.writes().contains(&"Create ConfigMap default/d".to_owned()));
    // Back out by hand, at night: Driftless stops, says so, and does not suspend it again.
    flux_object(&mut w, "deep", "apps", false, true, &[ObjectKey::of(&d).unwrap()]);
    w.cluster.apply(&of("deep", config_map("d", "flux")), FLUX).unwrap();
    w.run_until(w.now + 120_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0]);
    let report = w.report("deep");
    assert_eq!(report.reason, reason::FLUX_ACTS);
    assert!(report.message.contains("was resumed"), "{}", report.message);
    w.restart();
    w.run_until(w.now + 120_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0], "nor after a restart");
    // And on again.
    flux_object(&mut w, "deep", "apps", true, true, &[]);
    w.settle();
    assert!(w.writes().contains(&"Heal ConfigMap default/d".to_owned()));
    assert_eq!(w.cluster.get(&ObjectKey::of(&d).unwrap()).unwrap()["data"]["k"], "1");
}

#[test]
fn a_unit_that_flux_has_not_made_yet_is_left_to_flux() {
    let mut w = world(false);
    let defined_by = |name: &str, by: &str, objects| {
        let by = id(by);
        unit(name, objects).with(|spec| spec.defined_by = Some(by))
    };
    flux_applies(&mut w, "flux-system", "flux-system", false, &[]);
    w.cluster.log.clear();
    let d = of("deep", config_map("d", "1"));
    w.commit(&[
        unit("flux-system", vec![]),
        defined_by("apps", "flux-system", apps()),
        defined_by("deep", "apps", vec![d.clone()]),
        unit("mine", vec![of("mine", config_map("m", "1"))]),
    ]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/m"], "a root of its own is nobody else's");
    assert!(w.report("deep").message.contains("has not made Kustomization"), "{}", w.report("deep").message);
    flux_applies(&mut w, "apps", "flux-system", false, &apps());
    w.cluster.log.clear();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("apps").message.contains("Flux acts on it"), "{}", w.report("apps").message);
    // Flux is gone.
    for name in ["flux-system", "apps"] {
        w.cluster.delete(&kustomization(name), None, None).unwrap();
    }
    w.settle();
    assert!(w.writes().contains(&"Create ConfigMap default/d".to_owned()));
}

#[test]
fn a_kustomization_suspended_by_hand_alone_is_nobodys() {
    let mut w = world(false);
    flux_applies(&mut w, "apps", "flux-system", true, &apps());
    w.cluster.log.clear();
    w.commit(&[unit("apps", apps())]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("apps").message.contains("neither Flux nor Driftless acts"), "{}", w.report("apps").message);
    // Flux is gone.
    w.cluster.delete(&kustomization("apps"), None, None).unwrap();
    w.settle();
    assert_eq!(w.report("apps").ready, Ready::True);
}

#[test]
fn without_a_list_of_kustomizations_nothing_is_written() {
    let mut w = world(false);
    w.blind.insert("Kustomization".into());
    w.commit(&[unit("apps", apps())]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("apps").message.contains("give the applier"), "{}", w.report("apps").message);
}

/// An API server that has just started lists nothing of its definitions: that says nothing of Flux.
#[test]
fn while_it_is_not_known_whether_flux_is_there_nothing_is_written() {
    let mut w = world(false);
    flux_applies(&mut w, "apps", "flux-system", false, &apps());
    w.commit(&[unit("apps", apps())]);
    w.settle();
    w.cluster.log.clear();
    let served = w.cluster.served.clone();
    w.cluster.served.retain(|kind| kind.kind.group != driftless_reconcile::flux::GROUP);
    w.cluster.unknown_groups.insert(driftless_reconcile::flux::GROUP.to_owned());
    w.discover();
    w.commit(&[unit("apps", vec![of("apps", config_map("x", "2"))])]);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    // A process that starts then knows nothing of it either.
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    let report = w.report("apps");
    assert!(report.reason == reason::FLUX_ACTS && report.message.contains("whether it serves"), "{report:#?}");
    w.cluster.served = served;
    w.cluster.unknown_groups.clear();
    w.discover();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert!(w.report("apps").message.contains("not suspended"), "{:#?}", w.report("apps"));
}

/// Flux tells that it has seen a suspend only of a unit that is ready. One that failed when it was suspended, as it waited for
/// another to come to the new revision most often, stands still from then on.
#[test]
fn a_unit_that_was_suspended_while_it_failed_is_taken_over_once_it_has_stood_still() {
    let mut w = world(false);
    flux_applies(&mut w, "apps", "flux-system", false, &apps());
    let keys: Vec<ObjectKey> = apps().iter().filter_map(ObjectKey::of).collect();
    let suspended = |w: &mut World, ready: &str| {
        flux_object(w, "apps", "flux-system", true, false, &keys);
        let mut live = w.cluster.get(&kustomization("apps")).unwrap();
        live["status"]["conditions"][0]["status"] = ready.into();
        w.cluster.put(live);
    };
    w.commit(&[handed_over("apps", apps()).with(|s| s.timeout_seconds = 600)]);
    w.settle();
    w.cluster.log.clear();
    // It works on it, which may take as long as its timeout.
    suspended(&mut w, "Unknown");
    w.run_until(w.now + 60_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0], "{:#?}", w.report("apps"));
    suspended(&mut w, "False");
    w.run_until(w.now + 10_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.writes(), [""; 0], "{:#?}", w.report("apps"));
    w.run_until(w.now + 20_000, &mut |_: &driftless_reconcile::step::Step| None);
    assert_eq!(w.report("apps").reason, reason::SUCCEEDED, "{:#?}", w.report("apps"));
}

/// The dry run that explains what Flux has beyond Git explains nothing of what a person added: that would be removed.
#[test]
fn what_a_person_added_is_a_difference_also_beside_what_flux_has() {
    for beside in [false, true] {
        let mut w = world(true);
        let mut applied = apps();
        if beside {
            applied[0]["metadata"]["annotations"] = json!({"only": "flux"});
        }
        flux_applies(&mut w, "apps", "flux-system", false, &applied);
        let x = key("", "ConfigMap", "default", "x");
        w.cluster.update(&x, "kubectl-edit", &[("data|by-hand", Some(json!("1")))]);
        w.commit(&[unit("apps", apps())]);
        w.settle();
        let (report, shadow) = shadow(&w, "apps");
        let fields: Vec<&str> = report.drift.iter().map(|field| field.path.as_str()).collect();
        assert!(fields.contains(&"data.by-hand") && shadow.differing == 1, "{report:#?}");
        // The server of these tests sets no defaults, so what only Flux has would go as well.
        assert_eq!(fields.len(), 1 + usize::from(beside), "{fields:?}");
    }
}
