//! Expressions as people write them for Flux, and what must not happen with those nobody should write.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

use driftless_cel::{CelError, MAX_LEN, MAX_NESTING, MAX_OPERATORS, Question};
use serde_json::{Value, json};

fn ask(text: &str, object: &Value) -> Result<bool, CelError> {
    Question::compile(text)?.ask_of(object)
}

fn certificate(status: &str, observed: i64) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": {"name": "c", "generation": 3, "labels": {"app": "x"}},
        "spec": {"dnsNames": ["a.example", "b.example"], "replicas": 2},
        "status": {
            "observedGeneration": observed, "readyReplicas": 2,
            "conditions": [
                {"type": "Issuing", "status": "False"},
                {"type": "Ready", "status": status, "observedGeneration": observed},
            ],
        },
    })
}

#[test]
fn expressions_of_fluxs_own_collection_give_their_answers() {
    let (ready, not, stale) = (certificate("True", 3), certificate("False", 3), certificate("True", 2));
    for (text, of_ready, of_not, of_stale) in [
        ("status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')", true, false, true),
        ("status.conditions.exists(e, e.type == 'Ready' && e.status == 'False')", false, true, false),
        (
            "status.conditions.filter(e, e.type == 'Ready').all(e, e.observedGeneration == metadata.generation && e.status == 'True')",
            true,
            false,
            false,
        ),
        ("metadata.generation != status.observedGeneration", false, false, true),
        ("has(status.phase) && status.phase == 'Ready'", false, false, false),
        ("!has(status.phase)", true, true, true),
        ("status.readyReplicas == spec.replicas", true, true, true),
        ("status.readyReplicas >= 2 && size(spec.dnsNames) == 2", true, true, true),
        ("spec.dnsNames.all(n, n.endsWith('.example'))", true, true, true),
        ("'app' in metadata.labels && metadata.labels['app'] == 'x'", true, true, true),
        ("status.conditions.map(e, e.type).exists(t, t == 'Ready')", true, true, true),
        ("status.?conditions.orValue([]).exists(e, e.type == 'Ready' && e.status == 'True')", true, false, true),
        ("status.?phase.orValue('none') == 'none'", true, true, true),
        ("metadata.?labels.app.orValue('none') == 'x'", true, true, true),
        ("spec.?no.?such.thing.orValue('none') == 'none'", true, true, true),
        ("spec.?replicas.hasValue() && !spec.?no.hasValue()", true, true, true),
        ("spec.dnsNames.exists_one(n, n.matches('^a[.]'))", true, true, true),
        ("quantity('1Gi').isGreaterThan(quantity('512Mi'))", true, true, true),
    ] {
        for (object, want) in [(&ready, of_ready), (&not, of_not), (&stale, of_stale)] {
            assert_eq!(ask(text, object), Ok(want), "{text}");
        }
    }
}

#[test]
fn a_field_that_is_not_there_yet_is_named() {
    let object = json!({"metadata": {"name": "x"}, "spec": {}});
    for (text, field) in [
        ("status.conditions.all(e, true)", "status"),
        ("spec.phase == 'x'", "phase"),
        ("metadata.labels['a'] == 'b'", "labels"),
    ] {
        let Err(CelError::Failed(said)) = ask(text, &object) else { panic!("{text}") };
        assert!(said.contains(field), "{text}: {said}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_when_it_is_compiled() {
    for text in
        ["", "status.", "a == ", "a ==== b", "status.conditions.filter(e, )", "'unclosed", "a b", "\u{0}", "(", ")"]
    {
        assert!(matches!(Question::compile(text), Err(CelError::Syntax(_))), "{text:?}: {:?}", Question::compile(text));
    }
    assert_eq!(Question::compile("nosuch(status)"), Err(CelError::NoFunction("nosuch".into())));
    assert_eq!(Question::compile("status.nosuch()"), Err(CelError::NoFunction("nosuch".into())));
    assert!(matches!(ask("metadata.name", &json!({"metadata": {"name": "x"}})), Err(CelError::NoBoolean(_))));
    let question = Question::compile("dep.a == self.b && other.c.exists(e, e == 1)").unwrap();
    assert_eq!(question.uses_only(&["dep", "self"]), Err(CelError::NoVariable("other".into(), "dep and self".into())));
    let question = Question::compile("dep.a.exists(e, e == self.b)").unwrap();
    assert_eq!(question.uses_only(&["dep", "self"]), Ok(()));
}

#[test]
fn size_and_cost_are_bounded() {
    let long = |len: usize| format!("'{}' == 'x'", "y".repeat(len - 9));
    assert!(Question::compile(&long(MAX_LEN)).is_ok());
    assert!(matches!(Question::compile(&long(MAX_LEN + 1)), Err(CelError::TooLarge(_))));
    let nested = |depth: usize| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Question::compile(&nested(MAX_NESTING)).is_ok(), "{:?}", Question::compile(&nested(MAX_NESTING)));
    for text in [
        nested(MAX_NESTING + 1),
        nested(1500),
        format!("{}true", "!".repeat(4000)),
        format!("{}1 == 1", "- ".repeat(1000)),
        format!("{}true", "true ? true : ".repeat(250)),
        format!("{}{}", "[".repeat(2000), "]".repeat(2000)),
    ] {
        assert!(matches!(Question::compile(&text), Err(CelError::TooLarge(_))), "{}", &text[..40]);
    }
    // Long chains do not recurse without bound.
    for operator in ["&&", "||"] {
        let text = |terms: usize| vec!["true"; terms].join(operator);
        assert_eq!(ask(&text(MAX_OPERATORS / 2), &json!({})), Ok(true), "{operator}");
        assert!(matches!(Question::compile(&text(MAX_OPERATORS)), Err(CelError::TooLarge(_))), "{operator}");
    }
    let chain = |terms: usize| format!("{} > 0", vec!["1"; terms].join("+"));
    assert_eq!(ask(&chain(MAX_OPERATORS), &json!({})), Ok(true));
    let select = |terms: usize| format!("a.{} == 1", vec!["b"; terms].join("."));
    assert!(matches!(ask(&select(MAX_OPERATORS - 2), &json!({"a": {}})), Err(CelError::Failed(_))));
    assert!(matches!(Question::compile(&chain(2000)), Err(CelError::TooLarge(_))));
    let optional = |fields: usize| format!("a{}.hasValue()", ".?b".repeat(fields));
    assert_eq!(ask(&optional(5), &json!({"a": {}})), Ok(false));
    assert!(matches!(Question::compile(&optional(6)), Err(CelError::TooLarge(_))));
    assert!(Question::compile(&format!("{} > 0 && a.?b.hasValue()", vec!["1"; 120].join("+"))).is_ok());

    let list: Vec<u32> = (0..200).collect();
    let object = json!({"list": list});
    let two = "list.all(a, list.all(b, a >= 0 && b >= 0))";
    let three = "list.all(a, list.all(b, list.all(c, true)))";
    assert_eq!(ask(two, &object), Ok(true));
    assert_eq!(ask(three, &object), Err(CelError::TooCostly));
    assert!(matches!(Question::compile("a.all(a, a.all(b, b.all(c, c.all(d, true))))"), Err(CelError::TooLarge(_))));
}

/// What failed is said without the values it failed on.
#[test]
fn errors_do_not_tell_values() {
    let secret = json!({"data": {"password": "hunter2"}, "list": ["hunter2"]});
    for text in [
        "data.password > 1",
        "data.password + 1 == 2",
        "data.password.size() / 0 == 1",
        "data == list",
        "-data.password == 1",
    ] {
        if let Err(error) = ask(text, &secret) {
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
        }
    }
}
