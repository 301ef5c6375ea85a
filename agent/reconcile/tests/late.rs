//! Late inputs: what a unit waits for, what it becomes, and that no value of a Secret is ever told.

mod world;

use std::sync::Arc;

use driftless_protocol::bundle::{Late, LateInput, LateKind, LateRef};
use driftless_protocol::id::UnitId;
use driftless_protocol::report::{InputStatus, Ready, UnitReport, reason};
use driftless_reconcile::fill::{Fill, InputData, InputState, Reader};
use driftless_reconcile::input::InputRef;
use driftless_reconcile::inventory;
use driftless_reconcile::retry::{self, Class};
use driftless_reconcile::step::Failure;
use serde_json::json;
use world::*;
use zeroize::Zeroizing;

/// Keys with values.
type Pairs<'a> = &'a [(&'a str, &'a str)];
/// What it is about, strategy, inputs, what the cluster has, what comes of it.
type Case<'a> = (&'a str, bool, Vec<LateInput>, &'a [(&'a str, Pairs<'a>)], Result<&'a str, &'a str>);

/// A value that must never be seen outside the cluster.
const CANARY: &str = "k4n4r1-v0gel";

fn reference(kind: LateKind, name: &str, optional: bool) -> LateInput {
    LateInput::Object(LateRef { kind, name: name.into(), optional, hint: String::new() })
}

fn reader(unit: &str) -> Reader {
    Reader { unit: UnitId::kustomization("flux-system", unit), account: None }
}

fn late(inputs: Vec<LateInput>) -> Late {
    let labels = [
        ("kustomize.toolkit.fluxcd.io/name".to_owned(), "a".to_owned()),
        ("kustomize.toolkit.fluxcd.io/namespace".to_owned(), "flux-system".to_owned()),
    ];
    Late {
        inputs,
        always: false,
        strict: true,
        labels: labels.into(),
        annotations: [("note".into(), "n".into())].into(),
    }
}

fn text(name: &str, data: &str) -> (driftless_protocol::object::ObjectKey, String) {
    let body =
        format!("apiVersion: v1\ndata:\n{data}kind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: default\n");
    (key("", "ConfigMap", "default", name), body)
}

/// A unit with one plain object and one that needs `${password}` of Secret `s`.
fn unit_a(data: &str) -> Unit {
    let mut a = unit("a", vec![config_map("plain", "1")]);
    a.texts = vec![text("open", data)];
    let mut late = late(vec![reference(LateKind::Secret, "s", false)]);
    late.labels.insert("driftless.dev/unit".into(), a.id.label().to_string());
    a.late = Some(late);
    a
}

fn secret(name: &str) -> InputRef {
    InputRef { account: None, kind: LateKind::Secret, namespace: "flux-system".into(), name: name.into() }
}

fn found(values: &[(&str, &str)]) -> InputState {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new((*v).to_owned()))).collect();
    InputState::Found(Arc::new(InputData { values, ..InputData::default() }))
}

impl World {
    fn input(&mut self, name: &str, state: InputState) {
        self.engine.set_input(&secret(name), state, &self.store, self.now);
    }
}

/// Everything that leaves the engine: reports, its own dump, the stored inventory.
#[track_caller]
fn nothing_told(w: &World, value: &str) {
    let reports = serde_json::to_string(&w.engine.reports(w.now)).expect("JSON");
    assert!(!reports.contains(value), "a report tells {value}: {reports}");
    assert!(!format!("{:?}", w.engine).contains(value), "the engine's own dump tells {value}");
    for (shard, stored) in &w.cluster.inventory {
        assert!(!stored.contains(value), "shard {shard} of the inventory holds {value}: {stored}");
    }
}

const DATA: &str = "  k: ${password}\n  region: north\n";

#[test]
fn a_unit_waits_for_its_input_and_goes_on_by_itself() {
    let mut w = World::new();
    w.commit(&[unit_a(DATA), unit("b", vec![config_map("other", "1")])]);
    assert_eq!(w.engine.wanted_inputs().into_iter().collect::<Vec<_>>(), [secret("s")]);
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/other"], "others go on");
    assert_eq!(w.report("a").reason, reason::INPUT_NOT_READY);
    w.input("s", InputState::Missing);
    w.settle();
    let report = w.report("a");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::False, reason::INPUT_NOT_READY));
    assert!(report.message.starts_with("Secret flux-system/s not found ("), "{}", report.message);
    assert_eq!(report.inputs[0].status, InputStatus::Missing);
    assert!(report.waiting.unwrap().on.starts_with("Secret flux-system/s not found"));

    w.input("s", found(&[("password", CANARY)]));
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/open", "Create ConfigMap default/plain"]);
    let live = w.cluster.get(&key("", "ConfigMap", "default", "open")).unwrap();
    assert_eq!(live["data"], json!({"k": CANARY, "region": "north"}));
    assert_eq!(live["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"], "a");
    assert_eq!(live["metadata"]["annotations"]["note"], "n");
    let report = w.report("a");
    assert_eq!((report.ready, report.inputs[0].status), (Ready::True, InputStatus::Found));
    assert!(report.filled.is_some());
    nothing_told(&w, CANARY);
}

#[test]
fn only_what_a_changed_input_changes_is_written_again_and_a_restart_writes_nothing() {
    let mut w = World::new();
    let mut a = unit_a(DATA);
    a.texts.push(text("user", "  k: ${user}\n"));
    w.commit(std::slice::from_ref(&a));
    w.input("s", found(&[("password", "one"), ("user", "me")]));
    w.settle();
    w.writes();
    let before = w.report("a").filled;
    w.input("s", found(&[("password", "one"), ("user", "me"), ("unused", "x")]));
    w.settle();
    assert_eq!(w.writes(), [""; 0], "nothing that is used changed");
    assert_eq!(w.report("a").filled, before);
    w.input("s", found(&[("password", "two"), ("user", "me")]));
    w.settle();
    assert_eq!(w.writes(), ["Change ConfigMap default/open"]);
    assert_ne!(w.report("a").filled, before);

    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0], "its inputs are not read yet");
    assert_eq!(w.report("a").reason, reason::INPUT_NOT_READY);
    w.input("s", found(&[("password", "two"), ("user", "me")]));
    w.settle();
    assert_eq!(w.writes(), [""; 0], "a restart");
    assert_eq!(w.report("a").ready, Ready::True);
    // The same bundle, and one with another plain object.
    w.commit(std::slice::from_ref(&a));
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    a.objects = vec![config_map("plain", "2")];
    w.commit(&[a]);
    w.settle();
    assert_eq!(w.writes(), ["Change ConfigMap default/plain"]);
}

#[test]
fn an_input_that_vanishes_deletes_nothing_and_is_said() {
    let mut w = World::new();
    w.commit(&[unit_a(DATA)]);
    w.input("s", found(&[("password", CANARY)]));
    w.settle();
    w.writes();
    w.input("s", InputState::Missing);
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(w.report("a").reason, reason::INPUT_NOT_READY);
    // Also when the unit's new body still has the hole, and after a restart.
    w.commit(&[unit_a("  k: ${password}\n  region: south\n")]);
    w.restart();
    w.settle();
    assert_eq!(w.writes(), [""; 0]);
    assert_eq!(w.cluster.keys().filter(|k| k.kind == "ConfigMap").count(), 2);
}

#[test]
fn drift_of_a_filled_field_is_healed_and_shown_without_its_value() {
    let mut w = World::new();
    let data = "  ${key}: plain\n  k: ${password}\n  region: north\n";
    w.commit(&[unit_a(data)]);
    w.input("s", found(&[("password", CANARY), ("key", "schl0ssel")]));
    w.settle();
    w.writes();
    let open = key("", "ConfigMap", "default", "open");
    let leaked = format!("{CANARY}-changed");
    w.cluster.update(&open, "kubectl-edit", &[("data|k", Some(json!(leaked))), ("data|region", Some(json!("south")))]);
    w.cluster.update(&open, "kubectl-edit", &[("data|schl0ssel", Some(json!("x")))]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/open"]);
    let detail = &w.report("a").recent[0].detail;
    assert!(detail.contains("data.region \"south\" -> \"north\""), "what is no hole is shown: {detail}");
    assert!(detail.contains("data.k digest:"), "{detail}");
    assert!(detail.contains("data.(hidden) "), "{detail}");
    nothing_told(&w, CANARY);
    nothing_told(&w, "schl0ssel");
}

#[test]
fn values_that_do_not_fit_are_told_by_the_line_of_git() {
    let cases: [(&str, Pairs, &str); 4] = [
        (DATA, &[("other", CANARY)], "variable `password` is not set"),
        (
            "  k: ${password}\n",
            &[("password", "k4n4r1-v0gel: [")],
            "is no YAML any more with its values filled in: at `k: ${password}`",
        ),
        ("  k: ${password?x}\n", &[("password", CANARY)], "substitution in ConfigMap default/open failed"),
        (DATA, &[("tls.crt", CANARY)], "key `tls.crt` cannot be a variable name"),
    ];
    for (data, values, expected) in cases {
        let mut w = World::new();
        w.commit(&[unit_a(data)]);
        w.input("s", found(values));
        w.settle();
        let report = w.report("a");
        assert_eq!(
            (report.ready, report.reason.as_str()),
            (Ready::False, reason::INPUT_NOT_READY),
            "{}",
            report.message
        );
        assert!(report.message.contains(expected), "{expected:?}: {}", report.message);
        assert_eq!(w.writes(), [""; 0], "nothing of the unit is applied");
        nothing_told(&w, CANARY);
    }
}

#[test]
fn a_value_cannot_make_another_object_of_it() {
    let mut w = World::new();
    let mut a = unit_a(DATA);
    a.texts = vec![(
        key("", "ConfigMap", "default", "open"),
        "apiVersion: v1\ndata: {}\nkind: ConfigMap\nmetadata:\n  labels: {x: ${password}}\n  name: open\n  namespace: default\n"
            .to_owned(),
    )];
    w.commit(&[a]);
    w.input("s", found(&[("password", "y}, name: stolen, z: {")]));
    w.settle();
    let message = w.report("a").message;
    assert!(message.contains("ConfigMap default/open"), "{message}");
    assert!(w.cluster.keys().all(|k| k.name != "stolen"));
}

#[test]
fn precedence_defaults_and_whether_anything_runs_are_fluxs() {
    let cases: [Case; 8] = [
        (
            "a later input wins",
            false,
            vec![values("v", "git"), reference(LateKind::Secret, "s", false)],
            &[("s", &[("v", "cluster")])],
            Ok("cluster"),
        ),
        (
            "an inline value wins",
            false,
            vec![reference(LateKind::Secret, "s", false), values("v", "git")],
            &[("s", &[("v", "cluster")])],
            Ok("git"),
        ),
        (
            "missing and optional",
            false,
            vec![values("v", "git"), reference(LateKind::Secret, "s", true)],
            &[],
            Ok("git"),
        ),
        ("nothing set: nothing runs", false, vec![reference(LateKind::Secret, "s", true)], &[], Ok("${v}")),
        (
            "nothing set, but always",
            true,
            vec![reference(LateKind::Secret, "s", true)],
            &[],
            Err("variable `v` is not set"),
        ),
        (
            "an empty Secret sets nothing",
            false,
            vec![reference(LateKind::Secret, "s", false)],
            &[("s", &[])],
            Ok("${v}"),
        ),
        ("line feeds go", false, vec![reference(LateKind::Secret, "s", false)], &[("s", &[("v", "a\nb\n")])], Ok("ab")),
        (
            "a number changes the type",
            false,
            vec![reference(LateKind::Secret, "s", false)],
            &[("s", &[("v", "7")])],
            Ok("7"),
        ),
    ];
    for (what, always, inputs, states, expected) in cases {
        let late = Arc::new(Late { always, ..late(inputs) });
        let states: Vec<(&str, InputState)> = states.iter().map(|(name, values)| (*name, found(values))).collect();
        let state = |input: &InputRef| {
            states.iter().find(|(n, _)| *n == input.name).map(|(_, s)| s).or(Some(&InputState::Missing))
        };
        let fill = Fill::new(&late, &reader("a"), &state).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (key, text) = text("open", "  k: ${v}\n");
        let filled = fill.object(&key, "v1", text.as_bytes());
        match (filled, expected) {
            (Ok(filled), Ok(expected)) => {
                let value: serde_json::Value = serde_json::from_slice(&filled.bytes).expect("JSON");
                let got = &value["data"]["k"];
                let got = got.as_str().map_or_else(|| got.to_string(), str::to_owned);
                assert_eq!(got, expected, "{what}");
                assert_eq!(filled.secret, expected != "git" && expected != "${v}", "{what}");
            }
            (Err(error), Err(expected)) => assert!(error.0.contains(expected), "{what}: {error}"),
            (got, _) => panic!("{what}: {got:?}"),
        }
    }
}

fn values(name: &str, value: &str) -> LateInput {
    LateInput::Values { values: [(name.to_owned(), value.to_owned())].into() }
}

#[test]
fn the_api_servers_words_about_a_filled_object_are_not_passed_on() {
    let late = Arc::new(late(vec![reference(LateKind::Secret, "s", false)]));
    let state = found(&[("password", CANARY)]);
    let fill = Fill::new(&late, &reader("a"), &|_| Some(&state)).expect("its input is there");
    let failure = |status, reason: &str, message: &str| Failure {
        status: Some(status),
        reason: reason.into(),
        message: message.into(),
        ..Failure::default()
    };
    let cases = [
        (failure(422, "Invalid", &format!("spec.x: Invalid value: \"{CANARY}\": must be a number")), Class::Refused),
        (
            failure(500, "", &format!("failed to create typed patch object (a/b): .x: expected, got {CANARY}")),
            Class::Refused,
        ),
        (failure(422, "Invalid", &format!("spec: Invalid value: {CANARY}: field is immutable")), Class::Immutable),
        (failure(403, "Forbidden", &format!("admission webhook \"x\" denied: no {CANARY}")), Class::Refused),
        (failure(403, "Forbidden", "User \"x\" cannot patch resource"), Class::Forbidden),
        (failure(409, "Conflict", &format!("conflict about {CANARY}")), Class::Conflict),
        (failure(500, "InternalError", &format!("failed calling webhook: {CANARY}")), Class::Unavailable),
    ];
    for (failure, class) in cases {
        let said = failure.message.clone();
        let hidden = retry::hide(failure, &["spec.x".to_owned()], &fill);
        assert!(!hidden.message.contains(CANARY), "{said}: {}", hidden.message);
        assert_eq!(retry::class(&hidden), class, "{said}");
        assert_eq!(
            hidden.message.contains("Secret flux-system/s"),
            class != Class::Forbidden && class != Class::Conflict
        );
    }
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CANARY);
    let padding = "=".repeat(encoded.matches('=').count());
    assert_eq!(fill.scrub(&format!("a {CANARY} b {encoded}")), format!("a (hidden) b (hidden){padding}"));
}

#[test]
fn the_status_of_a_filled_object_is_told_without_values() {
    let mut w = World::new();
    let mut a = unit_a(DATA).with(|s| s.wait = true);
    a.texts = vec![(
        key("example.org", "Widget", "default", "open"),
        "apiVersion: example.org/v1\nkind: Widget\nmetadata:\n  name: open\n  namespace: default\nspec:\n  password: ${password}\n".to_owned(),
    )];
    w.cluster.served.push(served("example.org", "Widget", true));
    w.discover();
    w.commit(&[a]);
    w.input("s", found(&[("password", CANARY)]));
    w.settle();
    let condition = json!([{"type": "Ready", "status": "False", "reason": "Bad", "message": format!("login with {CANARY} failed")}]);
    let widget = key("example.org", "Widget", "default", "open");
    w.cluster.update(&widget, "widget-controller", &[("status", Some(json!({"conditions": condition})))]);
    w.settle();
    let report: UnitReport = w.report("a");
    assert!(report.message.contains("login with (hidden) failed"), "{}", report.message);
    nothing_told(&w, CANARY);
}

#[test]
fn the_inventory_of_a_filled_object_reads_back() {
    let mut w = World::new();
    w.commit(&[unit_a(DATA)]);
    w.input("s", found(&[("password", CANARY)]));
    w.settle();
    let shards: Vec<(u32, String)> = w.cluster.inventory.clone().into_iter().collect();
    let (read, errors) = inventory::decode(&shards);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(read.len(), 2);
}
