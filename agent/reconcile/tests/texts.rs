//! Variables that the unit above fills in: what they become, what is refused and in which words, and when objects are written
//! again.

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::bundle::{Late, LateInput, LateKind, LateRef, LateText, ServiceAccount};
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{InputStatus, Ready, reason};
use driftless_reconcile::fill::{Fill, InputData, InputState, Reader, refs};
use driftless_reconcile::input::InputRef;
use serde_json::json;
use world::*;
use zeroize::Zeroizing;

/// A value that must never be seen outside the cluster.
const CANARY: &str = "k4n4r1-v0gel";

fn flux(values: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: a\nspec:\n  path: x\n  postBuild:\n    \
         substitute:\n{values}"
    )
}

/// The text `flux(values)` for these names; `rest`: what is left, as JSON.
fn text(values: &str, open: &[&str], rest: &serde_json::Value, inputs: Vec<LateInput>) -> LateText {
    LateText {
        text: flux(values),
        open: open.iter().map(|name| ((*name).to_owned(), format!("clusters/c/a.yaml:{}", name.len()))).collect(),
        rest: Digest::of(serde_json::to_string(rest).expect("JSON").as_bytes()),
        by: UnitId::kustomization("platform", "above"),
        account: None,
        inputs,
        always: false,
        strict: true,
    }
}

fn rest(known: &serde_json::Value) -> serde_json::Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "a"},
        "spec": {"path": "x", "postBuild": {"substitute": known}}})
}

fn reference(kind: LateKind, name: &str, optional: bool) -> LateInput {
    LateInput::Object(LateRef { kind, name: name.into(), optional, hint: String::new() })
}

fn settings() -> LateInput {
    reference(LateKind::ConfigMap, "settings", false)
}

fn late(inputs: Vec<LateInput>) -> Late {
    Late { inputs, always: true, strict: true, ..Late::default() }
}

fn found(values: &[(&str, &str)]) -> InputState {
    let values = values.iter().map(|(k, v)| ((*k).to_owned(), Zeroizing::new((*v).to_owned()))).collect();
    InputState::Found(Arc::new(InputData { values, ..InputData::default() }))
}

fn input(kind: LateKind, namespace: &str, name: &str) -> InputRef {
    InputRef { account: None, kind, namespace: namespace.into(), name: name.into() }
}

fn of_a() -> Reader {
    Reader { unit: UnitId::kustomization("flux-system", "a"), account: None }
}

fn open_object(data: &str) -> (ObjectKey, String) {
    let body = format!("apiVersion: v1\ndata:\n{data}kind: ConfigMap\nmetadata:\n  name: open\n  namespace: default\n");
    (key("", "ConfigMap", "default", "open"), body)
}

/// What `${host}` of the unit becomes when the text has this value for it and the unit above these settings.
fn becomes(value: &str, settings_are: &[(&str, &str)]) -> Result<String, String> {
    let text = text(&format!("      host: {value}\n"), &["host"], &rest(&json!({})), vec![settings()]);
    let late = Arc::new(late(vec![LateInput::Text(Box::new(text))]));
    let state = found(settings_are);
    let fill = Fill::new(&late, &of_a(), &|_| Some(&state)).map_err(|e| e.0)?;
    // In quotes: a result that YAML would read as something else is shown as it is.
    let (key, body) = open_object("  k: '${host}'\n");
    let filled = fill.object(&key, "v1", body.as_bytes()).map_err(|e| e.0)?;
    let object: serde_json::Value = serde_json::from_slice(&filled.bytes).expect("JSON");
    Ok(object["data"]["k"].as_str().expect("text").to_owned())
}

#[test]
fn a_value_is_what_flux_reads_back() {
    for (what, value, settings, expected) in [
        ("plain", "web.${d}", "example.org", Ok("web.example.org")),
        ("a default", "${other:=fine}", "x", Ok("fine")),
        ("line feeds go", "${d}", "a\nb\n", Ok("ab")),
        ("quotes around it make text of a number", "${d}", "\"5\"", Ok("5")),
        ("a date is text", "${d}", "2020-01-01", Ok("2020-01-01")),
        ("a comment is cut", "${d}", "a #b", Ok("a")),
        ("an escape", "$${d}", "x", Ok("${d}")),
        (
            "a number",
            "${d}",
            "5",
            Err("`host: ${d}`) becomes a number or true or false with d of ConfigMap platform/settings"),
        ),
        ("a Boolean", "${d}", "true", Err("becomes a number or true or false")),
        ("nothing", "${d}", "", Err("becomes nothing (null)")),
        ("a list", "${d}", "[a]", Err("becomes a list or a map")),
        ("no YAML", "${d}", "a: b: c", Err("becomes no YAML any more")),
        ("more keys", "${d}", "a\nb", Ok("ab")),
        ("not set", "${e}", "x", Err("variable `e` is not set")),
    ] {
        match (becomes(value, &[("d", settings)]), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{what}"),
            (Err(got), Err(expected)) => {
                assert!(got.contains(expected), "{what}: {got}");
                assert!(got.contains("clusters/c/a.yaml:4"), "{what} names the place: {got}");
                assert!(got.contains("Kustomization flux-system/a, as unit"), "{what}: {got}");
            }
            (got, _) => panic!("{what}: {got:?}"),
        }
    }
}

#[test]
fn what_changes_more_than_values_is_refused() {
    for (what, values, open, settings) in [
        ("a quote that swallows the next line", "      host: ${d}\n      own: 'b\"'\n", vec!["host"], "\"a"),
        ("a known value that moved", "      host: ${d}\n      own: c\n", vec!["host"], "x"),
        ("a value that is not there", "      own: b\n", vec!["host"], "x"),
    ] {
        let text = text(values, &open, &rest(&json!({"own": "b"})), vec![self::settings()]);
        let late = Arc::new(late(vec![LateInput::Text(Box::new(text))]));
        let state = found(&[("d", settings)]);
        let error = Fill::new(&late, &of_a(), &|_| Some(&state)).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(error.0.starts_with("Kustomization flux-system/a, as unit"), "{what}: {}", error.0);
    }
}

#[test]
fn inputs_of_units_above_are_read_where_and_as_those_say() {
    let account = ServiceAccount { namespace: "platform".into(), name: "admin".into() };
    let mut above = text("      host: ${d}\n", &["host"], &rest(&json!({})), vec![settings()]);
    above.account = Some(account.clone());
    let inputs = vec![settings(), LateInput::Text(Box::new(above.clone())), LateInput::Text(Box::new(above))];
    let found: Vec<InputRef> = refs(&inputs, &of_a());
    let expected = InputRef { account: Some(account), ..input(LateKind::ConfigMap, "platform", "settings") };
    assert_eq!(found, [input(LateKind::ConfigMap, "flux-system", "settings"), expected]);
}

/// Unit `a` in `flux-system`, which takes `host` and `pass` from a ConfigMap and a Secret of the unit above in `platform`.
fn world_with() -> (World, Unit) {
    let inputs = vec![settings(), reference(LateKind::Secret, "keys", false)];
    let values = "      host: web.${domain}\n      pass: ${password}\n";
    let text = text(values, &["host", "pass"], &rest(&json!({"stage": "prod"})), inputs);
    let text = LateText { text: format!("{}      stage: prod\n", text.text), ..text };
    let mut a = unit("a", vec![config_map("plain", "1")]);
    a.texts = vec![open_object("  host: ${host}\n  pass: ${pass}\n  plain: ${stage}\n")];
    let values = BTreeMap::from([("stage".to_owned(), "prod".to_owned())]);
    let mut late = late(vec![LateInput::Values { values }, LateInput::Text(Box::new(text))]);
    late.labels = [
        ("kustomize.toolkit.fluxcd.io/name".to_owned(), "a".to_owned()),
        ("kustomize.toolkit.fluxcd.io/namespace".to_owned(), "flux-system".to_owned()),
        ("driftless.dev/unit".to_owned(), a.id.label().to_string()),
    ]
    .into();
    a.late = Some(late);
    let mut w = World::new();
    w.commit(std::slice::from_ref(&a));
    (w, a)
}

impl World {
    fn give(&mut self, kind: LateKind, name: &str, state: InputState) {
        self.engine.set_input(&input(kind, "platform", name), state, &self.store, self.now);
    }
}

#[test]
fn a_changed_input_of_the_unit_above_writes_what_it_changes_and_nothing_else() {
    let (mut w, _) = world_with();
    w.settle();
    assert_eq!(w.report("a").reason, reason::INPUT_NOT_READY);
    w.give(LateKind::ConfigMap, "settings", InputState::Missing);
    w.settle();
    let report = w.report("a");
    let missing = "unit platform/above, which defines this one: ConfigMap platform/settings not found";
    assert!(report.message.starts_with(missing), "{}", report.message);
    assert_eq!((report.inputs[0].status, &*report.inputs[0].namespace), (InputStatus::Missing, "platform"));
    assert_eq!(w.writes(), [""; 0], "nothing of the unit is applied");
    w.give(LateKind::ConfigMap, "settings", found(&[("domain", "example.org")]));
    w.give(LateKind::Secret, "keys", found(&[("password", CANARY)]));
    w.settle();
    assert_eq!(w.writes(), ["Create ConfigMap default/open", "Create ConfigMap default/plain"]);
    let open = key("", "ConfigMap", "default", "open");
    let live = w.cluster.get(&open).expect("it was created");
    assert_eq!(live["data"], json!({"host": "web.example.org", "pass": CANARY, "plain": "prod"}));
    assert_eq!(w.report("a").ready, Ready::True);

    w.give(LateKind::ConfigMap, "settings", found(&[("domain", "example.org"), ("other", "x")]));
    w.settle();
    assert_eq!(w.writes(), [""; 0], "nothing that is used changed");
    w.give(LateKind::ConfigMap, "settings", found(&[("domain", "example.net")]));
    w.settle();
    assert_eq!(w.writes(), ["Change ConfigMap default/open"]);

    w.give(LateKind::ConfigMap, "settings", found(&[("domain", "5 # five"), ("zone", "x")]));
    w.settle();
    assert_eq!(w.writes(), ["Change ConfigMap default/open"], "`web.5` is text");

    // What came of a Secret through the unit above is as secret as the Secret.
    w.cluster.update(&open, "kubectl-edit", &[("data|pass", Some(json!("by hand"))), ("data|host", Some(json!("x")))]);
    w.settle();
    assert_eq!(w.writes(), ["Heal ConfigMap default/open"]);
    let detail = &w.report("a").recent[0].detail;
    assert!(detail.contains("data.pass digest:") && detail.contains("data.host \"x\" -> \"web.5\""), "{detail}");
    let reports = serde_json::to_string(&w.engine.reports(w.now)).expect("JSON");
    assert!(!reports.contains(CANARY) && !format!("{:?}", w.engine).contains(CANARY), "{reports}");
}

#[test]
fn a_value_that_is_no_text_holds_the_unit_and_deletes_nothing() {
    let (mut w, _) = world_with();
    w.give(LateKind::ConfigMap, "settings", found(&[("domain", "example.org")]));
    w.give(LateKind::Secret, "keys", found(&[("password", "p")]));
    w.settle();
    w.writes();
    w.give(LateKind::Secret, "keys", found(&[("password", "90210")]));
    w.settle();
    let report = w.report("a");
    assert_eq!((report.ready, report.reason.as_str()), (Ready::False, reason::INPUT_NOT_READY));
    assert!(
        report.message.contains("spec.postBuild.substitute.pass (clusters/c/a.yaml:4, `pass: ${password}`)"),
        "{}",
        report.message
    );
    assert!(report.message.contains("password of Secret platform/keys"), "{}", report.message);
    assert!(!report.message.contains("90210"), "no value of a Secret is told");
    assert_eq!(w.writes(), [""; 0]);
}
