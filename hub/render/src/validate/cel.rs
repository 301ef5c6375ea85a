//! What CustomResourceDefinitions ask of values in CEL (`x-kubernetes-validations`).
//!
//! Only questions that can be answered from Git are asked: a rule that speaks of `oldSelf` judges a change, one that this
//! engine cannot read or that fails on a value is the API server's to judge.

use driftless_cel::Question;
use serde_json::{Map, Value};

use super::schema::{Rest, Schemas, Type, TypeId, What};

/// Rules read of one schema: more than the API server would take.
const MOST: usize = 100;
/// How deep values are followed.
const DEPTH: usize = 128;

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct CelRule {
    question: Question,
    message: Option<String>,
}

/// The rules of a schema.
pub(super) fn read(schema: &Map<String, Value>) -> Vec<CelRule> {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    rules
        .take(MOST)
        .filter_map(|rule| {
            let text = |key: &str| rule.get(key).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
            let question = Question::compile(text("rule")?).ok()?;
            question.uses_only(&["self"]).ok()?;
            Some(CelRule { question, message: text("message").map(str::to_owned) })
        })
        .collect()
}

/// The first of the rules that says no, in words.
pub(super) fn broken(rules: &[CelRule], schemas: &Schemas, id: TypeId, value: &Value) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let seen = seen(schemas, id, value, 0);
    let no = rules.iter().find(|rule| rule.question.ask([("self", &seen)]) == Ok(false))?;
    let rule = no.question.text();
    Some(match &no.message {
        Some(message) => format!("{message} (rule: {rule})"),
        None => format!("breaks the rule {rule}"),
    })
}

/// A value, completed with defaults, as rules see it: numbers of the type the schema gives, and names of fields that CEL can
/// spell.
fn seen(schemas: &Schemas, id: TypeId, value: &Value, depth: usize) -> Value {
    let of = schemas.type_of(id);
    if depth > DEPTH {
        return value.clone();
    }
    match value {
        Value::Object(map) => Value::Object(fields(schemas, of, map, depth)),
        Value::Array(items) => match of.what {
            What::List(Some(id)) => items.iter().map(|item| seen(schemas, id, item, depth + 1)).collect(),
            _ => value.clone(),
        },
        Value::Number(number) if of.what == What::Number => number.as_f64().map_or_else(|| value.clone(), Value::from),
        _ => value.clone(),
    }
}

fn fields(schemas: &Schemas, of: &Type, map: &Map<String, Value>, depth: usize) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in map {
        let (name, id) = match (of.fields.get(key.as_str()), of.rest) {
            (Some(id), _) => (escaped(key), *id),
            (None, Rest::Of(id)) => (key.clone(), id),
            (None, _) => (key.clone(), TypeId::MAX),
        };
        out.insert(name, seen(schemas, id, value, depth + 1));
    }
    out
}

/// A field's name as rules write it: characters that no identifier holds, and CEL's own words, are spelled out. From
/// Kubernetes' documentation of CustomResourceDefinitions, "Validation rules", its escapes of property names.
fn escaped(name: &str) -> String {
    const WORDS: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if WORDS.contains(&name) {
        return format!("__{name}__");
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return name.to_owned();
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_spelled_as_kubernetes_spells_them() {
        for (name, spelled) in [
            ("replicas", "replicas"),
            ("namespace", "__namespace__"),
            ("app.kubernetes.io/name", "app__dot__kubernetes__dot__io__slash__name"),
            ("a-b", "a__dash__b"),
            ("a__b", "a__underscores__b"),
            ("while", "__while__"),
        ] {
            assert_eq!(escaped(name), spelled);
        }
    }
}
