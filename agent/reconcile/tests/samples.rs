//! Fold, baseline and drift on objects recorded from a kube-apiserver 1.36, managedFields as it writes them.
//!
//! `*.desired.json` was applied with `--server-side --field-manager=driftless-agent`; `*.applied.json` is the answer, the
//! others are what the object looked like after somebody did something to it.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, FieldDrift};
use driftless_reconcile::drift::{Baseline, Context, diff};
use driftless_reconcile::fill::Hidden;
use driftless_reconcile::fold::{Folded, fold};
use driftless_reconcile::health::Health;
use driftless_reconcile::mark::Mark;
use driftless_reconcile::ownership::{self, FieldSet};
use driftless_reconcile::rules::Rules;
use driftless_reconcile::step::TakeOver;
use serde_json::Value;

fn rules() -> Rules {
    Rules::new([5; 32])
}

macro_rules! sample {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("samples/", $name, ".json"))).expect("a sample")
    };
}

fn folded(live: &Value) -> Folded {
    fold(live, &[], &rules()).expect("a live object")
}

fn baseline(declared: &Value, answer: &Value) -> Baseline {
    Baseline::new(Mark::NONE, folded(answer).owned, declared, answer, false, &rules())
}

fn drift(declared: &Value, answer: &Value, live: &Value) -> Vec<FieldDrift> {
    let key = ObjectKey::of(declared).expect("a key");
    let baseline = baseline(declared, answer);
    let rules = rules();
    let context = Context {
        overlay: baseline.overlay.as_deref(),
        autoscaled: false,
        ignore: &[],
        observe: &[],
        warn: &[],
        merge: false,
        hidden: &Hidden::Nothing,
        rules: &rules,
    };
    diff(&key, declared, live, &context)
}

/// `path: desired -> live (manager, class)`.
fn shown(drift: &[FieldDrift]) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    drift
        .iter()
        .map(|f| format!("{}: {} -> {} ({}, {:?})", f.path, text(&f.desired), text(&f.live), text(&f.manager), f.class))
        .collect()
}

#[test]
fn the_answer_to_our_own_apply_is_in_sync_for_every_kind() {
    let pairs = [
        (sample!("deploy.desired"), sample!("deploy.applied")),
        (sample!("svc.desired"), sample!("svc.applied")),
        (sample!("secret.desired"), sample!("secret.applied")),
        (sample!("widget.desired"), sample!("widget.applied")),
    ];
    let (many, answers) = (sample!("many.desired"), sample!("many.applied"));
    let items = |list: &Value| list["items"].as_array().expect("items").clone();
    let mut overlays = Vec::new();
    for (declared, answer) in pairs.into_iter().chain(items(&many).into_iter().zip(items(&answers))) {
        let kind = declared["kind"].as_str().expect("a kind").to_owned();
        assert_eq!(shown(&drift(&declared, &answer, &answer)), [""; 0], "{kind}");
        assert_eq!(folded(&answer).added(), Mark::NONE, "{kind}");
        if let Some(overlay) = baseline(&declared, &answer).overlay {
            overlays.extend(overlay.paths().map(|path| format!("{kind} {path}")));
        }
    }
    // What the server writes otherwise, and nothing else.
    assert_eq!(
        overlays,
        [
            "Deployment spec.template.spec.containers[name=web].resources.limits.cpu",
            "Deployment spec.template.spec.containers[name=web].resources.limits.memory",
            "Deployment spec.template.spec.containers[name=web].resources.requests.cpu",
            "Secret data.b",
            "NetworkPolicy spec.ingress",
            "CronJob spec.jobTemplate.spec.template.spec.containers[name=c].resources.requests.cpu",
            "CronJob spec.jobTemplate.spec.template.spec.containers[name=c].resources.requests.memory",
            "CronJob spec.jobTemplate.spec.template.spec.volumes[name=v].emptyDir.sizeLimit",
            "PersistentVolumeClaim spec.resources.requests.storage",
            "ValidatingWebhookConfiguration webhooks[name=a.b.c].rules",
            "StatefulSet spec.volumeClaimTemplates",
        ]
    );
}

#[test]
fn what_people_did_is_found_field_by_field() {
    let (declared, answer) = (sample!("deploy.desired"), sample!("deploy.applied"));
    assert_eq!(
        shown(&drift(&declared, &answer, &sample!("deploy.scaled"))),
        ["spec.replicas: 3 -> 5 (kubectl, Human)"]
    );
    assert_eq!(
        shown(&drift(&declared, &answer, &sample!("deploy.edited"))),
        [
            "spec.replicas: 3 -> 5 (kubectl, Human)",
            "spec.template.spec.containers[name=web].env[name=A]: {\"name\":\"A\",\"value\":\"1\"} -> none (kubectl-set, Human)",
            "spec.template.spec.containers[name=web].image: \"nginx:1.27\" -> \"nginx:1.99\" (kubectl-set, Human)",
            "metadata.annotations.note: none -> \"mine\" (kubectl-annotate, Human)",
            "spec.template.spec.containers[name=web].env[name=C]: none -> {\"name\":\"C\",\"value\":\"3\"} (kubectl-set, Human)",
        ]
    );
    assert_eq!(
        shown(&drift(&declared, &answer, &sample!("deploy.sidecar"))),
        [
            "spec.template.spec.containers[name=web].args: [\"--a\",\"--b\"] -> [\"--a\"] (kubectl-patch, Human)",
            "metadata.annotations.note: none -> \"mine\" (kubectl-annotate, Human)",
            "spec.template.spec.containers[name=side]: none -> {\"image\":\"x\",\"imagePullPolicy\":\"Always\",\"name\":\"side\",\"resources\":{},\"terminationMessagePath\":\"/dev/termination-log\",\"terminationMessagePolicy\":\"File\"} (kubectl-patch, Human)",
            "spec.template.spec.containers[name=web].env[name=C]: none -> {\"name\":\"C\",\"value\":\"3\"} (kubectl-set, Human)",
        ]
    );
    assert_eq!(
        shown(&drift(&sample!("svc.desired"), &sample!("svc.applied"), &sample!("svc.edited"))),
        [
            "spec.ports[port=80]: {\"name\":\"http\",\"port\":80,\"targetPort\":\"http\"} -> none (kubectl-patch, Human)",
            "spec.ports[port=81,protocol=TCP]: none -> {\"name\":\"http\",\"port\":81,\"protocol\":\"TCP\",\"targetPort\":\"http\"} (kubectl-patch, Human)",
        ]
    );
}

#[test]
fn noise_is_none_of_our_business() {
    let healed = sample!("deploy.healed");
    let (status, restarted) = (sample!("deploy.status"), sample!("deploy.restarted"));
    for (name, live) in [("a status write", &status), ("kubectl rollout restart", &restarted)] {
        assert_eq!(folded(live).owned, folded(&healed).owned, "{name}");
        assert_eq!(folded(live).added(), folded(&healed).added(), "{name}");
    }
}

#[test]
fn secrets_show_digests_and_never_values() {
    let found = drift(&sample!("secret.desired"), &sample!("secret.applied"), &sample!("secret.edited"));
    assert_eq!(found.len(), 1);
    let field = &found[0];
    assert_eq!((field.path.as_str(), field.class), ("data.a", DriftClass::Human));
    for value in [&field.desired, &field.live] {
        let value = value.as_deref().expect("both sides have one");
        assert!(value.starts_with("digest:") && value.len() == 19, "{value}");
    }
    assert_ne!(field.desired, field.live);
}

#[test]
fn taking_over_leaves_to_others_what_is_not_for_an_apply() {
    let messy = sample!("deploy.messy");
    let patch =
        ownership::take_over(&messy, TakeOver::Humans, &[], None, &rules()).expect("there is something to take");
    assert_eq!(patch[0]["value"], messy["metadata"]["resourceVersion"]);
    let mut taken = messy.clone();
    taken["metadata"]["managedFields"] = patch[1]["value"].clone();
    let left: Vec<(String, String)> =
        ownership::entries(&taken).map(|entry| (entry.manager.to_owned(), entry.subresource.to_owned())).collect();
    let pair = |manager: &str, subresource: &str| (manager.to_owned(), subresource.to_owned());
    assert_eq!(left, [pair("kubectl-patch", "status"), pair("kubectl-rollout", ""), pair("driftless-agent", "")]);
    let ours = ownership::entries(&taken).find(|entry| entry.is_ours()).map(|entry| FieldSet::parse(entry.fields));
    let ours = ours.expect("ours");
    assert!(ours.owns(&["f:metadata", "f:annotations", "f:note"]));
    assert!(!ours.owns(&ownership_path_of_restart()));
    assert_eq!(folded(&taken).added(), Mark::NONE, "nobody's additions are left: the apply that follows removes them");
    // What the API server made of the same patch and the apply after it.
    let cleaned = sample!("deploy.cleaned");
    assert_eq!(shown(&drift(&sample!("deploy.desired"), &sample!("deploy.applied"), &cleaned)), [""; 0]);
    assert!(ownership::take_over(&cleaned, TakeOver::HumansAndTools, &[], None, &rules()).is_none());
    assert!(ownership::take_over(&messy, TakeOver::No, &[], None, &rules()).is_none());
}

/// A manager changed the key of a declared item: its item is not ours, and goes only when it becomes so.
#[test]
fn an_item_in_the_place_of_a_declared_one_is_taken_over_when_that_is_asked_for() {
    let (desired, mut live) = (sample!("svc.desired"), sample!("svc.applied"));
    let ports = desired["spec"]["ports"].as_array().expect("ports").len();
    assert!(ports > 0);
    assert_eq!(ownership::take_over(&live, TakeOver::No, &[], Some(&desired), &rules()), None, "nothing is missing");
    live["spec"]["ports"][0]["port"] = 8081.into();
    let entry = serde_json::json!({"manager": "rogue", "operation": "Update", "apiVersion": "v1", "time": "2026-11-22T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {"f:rogue": {}}}, "f:spec": {"f:ports": {
            "k:{\"port\":8081,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}}}});
    live["metadata"]["managedFields"].as_array_mut().expect("entries").push(entry);
    assert_eq!(ownership::take_over(&live, TakeOver::No, &[], None, &rules()), None, "it was not asked for");
    let before = live.clone();
    let patch =
        ownership::take_over(&live, TakeOver::No, &[], Some(&desired), &rules()).expect("there is something to take");
    live["metadata"]["managedFields"] = patch[1]["value"].clone();
    let of = |manager: &str| {
        let entry = ownership::entries(&live).find(|entry| entry.manager == manager);
        entry.map(|entry| FieldSet::parse(entry.fields)).expect("an entry")
    };
    let item = ["f:spec", "f:ports", "k:{\"port\":8081,\"protocol\":\"TCP\"}"];
    assert!(of("driftless-agent").owns(&item) && !of("rogue").owns(&item));
    assert!(of("rogue").owns(&["f:metadata", "f:annotations", "f:rogue"]), "all else stays theirs");
    let left = ["/spec/ports".to_owned()];
    assert_eq!(ownership::take_over(&before, TakeOver::No, &left, Some(&desired), &rules()), None, "left to others");
}

fn ownership_path_of_restart() -> [&'static str; 5] {
    ["f:spec", "f:template", "f:metadata", "f:annotations", "f:kubectl.kubernetes.io/restartedAt"]
}

#[test]
fn sets_come_back_as_the_server_wrote_them() {
    for live in [sample!("deploy.messy"), sample!("svc.applied"), sample!("widget.applied"), sample!("byhand")] {
        for entry in ownership::entries(&live) {
            let set = FieldSet::parse(entry.fields);
            assert_eq!(set.to_json(), *entry.fields, "{}", entry.manager);
            assert!(set.difference(&set).is_empty());
            let mut twice = set.clone();
            twice.union(&set);
            assert_eq!(twice, set);
        }
    }
}

#[test]
fn a_fold_is_small_and_knows_the_object() {
    let fold = folded(&sample!("deploy.scaled"));
    assert!(fold.applied_by_us && fold.labelled && fold.replicas_elsewhere && !fold.deleting);
    assert_eq!(fold.replicas, Some(5));
    assert_eq!(fold.health, Health::InProgress);
    assert!(!folded(&sample!("byhand")).applied_by_us);
    assert!(size_of::<Folded>() <= 192, "{} bytes", size_of::<Folded>());
}
