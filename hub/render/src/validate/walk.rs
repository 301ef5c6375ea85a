//! A value against a schema: what a strict API server would say of it.

use base64::Engine as _;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::rules::short;
use super::schema::{Rest, Schemas, Type, TypeId, What};
use super::{formats, names};
use crate::report::Code;

/// Flaws told of one object: beyond, it is another file than was meant.
const MOST: usize = 50;
/// How deep values are followed: no object the API server takes is deeper.
const DEPTH: usize = 128;

/// One step to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    At(usize),
}

/// What is wrong with a value, and where in the object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) code: Code,
    pub(super) path: Vec<Step>,
    pub(super) message: String,
    /// A number or Boolean where text is wanted: what to do depends on how it is written.
    pub(super) unquoted: bool,
}

impl Flaw {
    pub(super) fn new(code: Code, path: Vec<Step>, message: String) -> Self {
        Self { code, path, message, unquoted: false }
    }
}

/// `spec.containers[0].name`, as the API server writes it.
pub(super) fn shown(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) if key.contains(['.', '/', ' ']) || key.is_empty() => out.push_str(&format!("[{key}]")),
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::At(index) => out.push_str(&format!("[{index}]")),
        }
    }
    if out.is_empty() { "the object".to_owned() } else { out }
}

/// What the keys of a map are.
#[derive(Clone, Copy)]
enum Marks {
    Labels,
    Annotations,
    Data,
}

/// Checks a value.
pub(super) struct Walk<'a> {
    pub(super) schemas: &'a Schemas,
    /// The object's variables are given values in the cluster: a text with `${` in it may become anything.
    pub(super) holes: bool,
    /// No value of the object may stand in a message: it is a Secret.
    secret: bool,
    /// Its `data` has keys that are names: a ConfigMap or Secret.
    keyed: bool,
    pub(super) flaws: Vec<Flaw>,
    path: Vec<Step>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(schemas: &'a Schemas, holes: bool) -> Self {
        Self { schemas, holes, secret: false, keyed: false, flaws: Vec::new(), path: Vec::new() }
    }

    /// Of this object: nothing that a Secret holds is shown.
    pub(super) fn of(mut self, key: &ObjectKey) -> Self {
        self.secret = key.is_secret();
        self.keyed = self.secret || (key.group.is_empty() && key.kind == "ConfigMap");
        self
    }

    /// From here on, below this field of the object.
    pub(super) fn below(mut self, key: &str) -> Self {
        self.path.push(Step::Key(key.to_owned()));
        self
    }

    fn say(&mut self, code: Code, message: String) {
        if self.flaws.len() < MOST {
            self.flaws.push(Flaw::new(code, self.path.clone(), message));
        }
    }

    /// Kubernetes' own types take `null`, and an empty text where one of several is wanted, as "not set".
    fn own(&self) -> bool {
        !self.schemas.version.is_empty()
    }

    pub(super) fn check(&mut self, id: TypeId, value: &Value) {
        let of = self.schemas.type_of(id);
        if self.path.len() > DEPTH {
            return;
        }
        if value.is_null() {
            let any = of.what == What::Any && of.rest == Rest::Any;
            if !of.nullable && !self.own() && !any {
                self.say(
                    Code::SchemaWrongType,
                    format!("null where {} is wanted; remove the field or give it a value", wanted(of.what)),
                );
            }
            return;
        }
        if self.holes && value.as_str().is_some_and(|t| t.contains("${")) {
            return;
        }
        if !self.fits(of, value) {
            return;
        }
        self.enums(of, value);
        match value {
            Value::Object(map) => {
                self.missing(of, map);
                self.embedded(of, map);
                self.marks(id, of, map);
                for (key, value) in map {
                    let id = match (of.fields.get(key.as_str()), of.rest) {
                        (Some(id), _) => *id,
                        (None, Rest::Of(id)) => id,
                        (None, Rest::Any) => continue,
                        (None, Rest::None) if of.what == What::Any && of.fields.is_empty() => continue,
                        (None, Rest::None) if self.holes && key.contains("${") => continue,
                        (None, Rest::None) => {
                            self.unknown(of, key);
                            continue;
                        }
                    };
                    self.path.push(Step::Key(key.clone()));
                    self.check(id, value);
                    self.path.pop();
                }
            }
            Value::Array(items) => {
                if let What::List(Some(id)) = of.what {
                    for (index, item) in items.iter().enumerate() {
                        self.path.push(Step::At(index));
                        self.check(id, item);
                        self.path.pop();
                    }
                }
                self.twice(of, items);
            }
            _ => {}
        }
        self.rules(of, value);
        self.asks(id, of, value);
    }

    /// Rules in CEL; not of values that only the cluster completes.
    fn asks(&mut self, id: TypeId, of: &Type, value: &Value) {
        let Some(rules) = of.rules.as_ref().filter(|rules| !rules.cel.is_empty()) else { return };
        if self.holes && value.to_string().contains("${") {
            return;
        }
        if let Some(message) = super::cel::broken(&rules.cel, self.schemas, id, value) {
            let message = self.hidden(message);
            self.say(Code::SchemaValue, message);
        }
    }

    fn fits(&mut self, of: &Type, value: &Value) -> bool {
        let whole = |n: &serde_json::Number| n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0);
        let fits = match (of.what, value) {
            (What::Any, _)
            | (What::Text | What::Time | What::Bytes | What::Quantity | What::IntegerOrText, Value::String(_))
            | (What::Number | What::Quantity, Value::Number(_))
            | (What::Boolean, Value::Bool(_))
            | (What::List(_), Value::Array(_))
            | (What::Object, Value::Object(_)) => true,
            (What::Integer | What::IntegerOrText, Value::Number(n)) => whole(n),
            _ => false,
        };
        if !fits {
            let unquoted =
                matches!((of.what, value), (What::Text | What::Bytes | What::Time, Value::Number(_) | Value::Bool(_)));
            let quoted = matches!(of.what, What::Integer | What::Number | What::Boolean)
                && value.as_str().is_some_and(|text| text.parse::<f64>().is_ok() || matches!(text, "true" | "false"));
            let hint = if quoted { "; quotes make it text" } else { "" };
            let count = self.flaws.len();
            self.say(Code::SchemaWrongType, format!("{} where {} is wanted{hint}", self.given(value), wanted(of.what)));
            if let Some(flaw) = self.flaws.get_mut(count) {
                flaw.unquoted = unquoted;
            }
            return false;
        }
        match (of.what, value) {
            (What::Bytes, Value::String(text)) if !is_base64(text) => {
                self.say(Code::SchemaValue, "is no base64; write plain text under stringData, or encode it".to_owned());
            }
            (What::Quantity, Value::String(text)) if !is_quantity(text) => {
                let shown = if self.secret { "the text".to_owned() } else { short(text) };
                let message = format!("{shown} is no quantity such as 500m, 2, 1.5Gi");
                self.say(Code::SchemaValue, message);
            }
            (What::Time, Value::String(text)) if self.own() && !formats::is_date_time(text, false) => {
                self.say(Code::SchemaValue, "is no time such as 2026-01-31T12:00:00Z".to_owned());
            }
            _ => {}
        }
        true
    }

    /// What of a whole object inside another must be there.
    fn embedded(&mut self, of: &Type, map: &serde_json::Map<String, Value>) {
        if !of.embedded {
            return;
        }
        for name in ["apiVersion", "kind"] {
            match map.get(name) {
                None => {
                    self.say(Code::SchemaRequired, format!("lacks the required field {name:?} of an embedded object"))
                }
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(_) => self.below_key(name, |walk| {
                    walk.say(Code::SchemaWrongType, "is no text that names one".to_owned());
                }),
            }
        }
    }

    /// Keys and values of labels and the like, where Kubernetes' own types have them.
    fn marks(&mut self, id: TypeId, of: &Type, map: &serde_json::Map<String, Value>) {
        if !self.own() {
            return;
        }
        let is_metadata = self.schemas.metadata() == Some(id);
        for (name, value) in map.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_object()?))) {
            let kind = match name {
                "labels" if is_metadata => Marks::Labels,
                "annotations" if is_metadata => Marks::Annotations,
                "matchLabels" | "nodeSelector" if of.fields.contains_key(name) => Marks::Labels,
                "data" | "binaryData" | "stringData" if self.path.is_empty() && self.keyed => Marks::Data,
                _ => continue,
            };
            self.below_key(name, |walk| walk.pairs(kind, value));
        }
        if let (true, Some(Value::Array(items))) = (of.fields.contains_key("initContainers"), map.get("containers"))
            && items.is_empty()
        {
            self.below_key("containers", |walk| {
                walk.say(Code::SchemaValue, "at least one container is needed".to_owned())
            });
        }
    }

    fn pairs(&mut self, kind: Marks, map: &serde_json::Map<String, Value>) {
        for (key, value) in map {
            let open = |text: &str| self.holes && text.contains("${");
            let wrong = match kind {
                _ if open(key) => None,
                Marks::Labels => names::label_key(key),
                Marks::Annotations => names::qualified(key),
                Marks::Data => names::data_key(key),
            };
            let value = value.as_str().filter(|text| matches!(kind, Marks::Labels) && !open(text));
            let wrong_value = value.and_then(|text| Some((names::label_value(text)?, text)));
            self.below_key(key, |walk| {
                if let Some(rule) = wrong {
                    walk.say(Code::SchemaValue, format!("the key {} is refused: {rule}", short(key)));
                }
                if let Some((rule, text)) = wrong_value {
                    let given = walk.given(&Value::from(text));
                    walk.say(Code::SchemaValue, format!("{given} is refused: {rule}"));
                }
            });
        }
    }

    fn below_key(&mut self, key: &str, f: impl FnOnce(&mut Self)) {
        self.path.push(Step::Key(key.to_owned()));
        f(self);
        self.path.pop();
    }

    fn enums(&mut self, of: &Type, value: &Value) {
        let unset = self.own() && value.as_str() == Some("");
        if of.enums.is_empty() || unset || of.enums.contains(value) {
            return;
        }
        let allowed: Vec<String> =
            of.enums.iter().take(12).map(|v| v.to_string().trim_matches('"').to_owned()).collect();
        let more = if of.enums.len() > 12 { ", ..." } else { "" };
        self.say(Code::SchemaEnum, format!("{} is none of {}{more}", self.given(value), allowed.join(", ")));
    }

    /// What a value is, and the value where it may be shown.
    fn given(&self, value: &Value) -> String {
        match value {
            Value::Bool(_) if self.secret => "a boolean".to_owned(),
            Value::Number(_) if self.secret => "a number".to_owned(),
            Value::String(_) if self.secret => "a text".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Number(n) => format!("the number {n}"),
            Value::String(text) => format!("the text {}", short(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
        }
    }

    /// A message that speaks of a value, where it may be shown.
    fn hidden(&self, message: String) -> String {
        if self.secret {
            "breaks a rule of its schema (the value of a Secret is not shown)".to_owned()
        } else {
            message
        }
    }

    fn missing(&mut self, of: &Type, map: &serde_json::Map<String, Value>) {
        for name in &of.required {
            let there = map.get(&**name).is_some_and(|v| !v.is_null() || !self.own());
            if !there {
                self.say(Code::SchemaRequired, format!("lacks the required field {name:?}"));
            }
        }
    }

    fn unknown(&mut self, of: &Type, key: &str) {
        let near = of.fields.keys().map(|name| (distance(name, key), name)).filter(|(d, _)| *d <= 2).min();
        let hint = near.map(|(_, name)| format!("; did you mean {name:?}?")).unwrap_or_default();
        self.path.push(Step::Key(key.to_owned()));
        self.say(Code::SchemaUnknownField, format!("unknown field{hint}"));
        self.path.pop();
    }

    /// Items of a list that server-side apply could not tell apart.
    fn twice(&mut self, of: &Type, items: &[Value]) {
        if of.set {
            let mut seen = std::collections::HashMap::new();
            for (index, item) in items.iter().enumerate() {
                if let Some(first) = seen.insert(item.to_string(), index) {
                    let message = format!("items {first} and {index} are equal, and each may stand there once");
                    self.say(Code::SchemaValue, message);
                    seen.insert(item.to_string(), first);
                }
            }
        }
        if of.list_keys.is_empty() {
            return;
        }
        let mut seen: Vec<(usize, Vec<Option<&Value>>)> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let key: Vec<Option<&Value>> = of.list_keys.iter().map(|k| item.get(&**k)).collect();
            if key.iter().all(Option::is_none) {
                continue;
            }
            if let Some((first, _)) = seen.iter().find(|(_, other)| *other == key) {
                let named: Vec<String> = of
                    .list_keys
                    .iter()
                    .zip(&key)
                    .filter_map(|(k, v)| Some(format!("{k} {}", (*v)?.to_string().trim_matches('"'))))
                    .collect();
                let message = format!(
                    "items {first} and {index} have the same {}; server-side apply refuses that",
                    named.join(" and ")
                );
                let message = self.hidden(message);
                self.say(Code::SchemaValue, message);
            } else {
                seen.push((index, key));
            }
        }
    }

    fn rules(&mut self, of: &Type, value: &Value) {
        let Some(rules) = &of.rules else { return };
        if let Some(message) = rules.broken(value) {
            let message = self.hidden(message);
            self.say(Code::SchemaValue, message);
        }
        for id in &rules.all_of {
            self.check(*id, value);
        }
        let mut fits = |id: &TypeId| {
            let mut inner = Walk::new(self.schemas, self.holes);
            inner.check(*id, value);
            inner.flaws.is_empty()
        };
        let any = rules.any_of.is_empty() || rules.any_of.iter().any(&mut fits);
        let one = if rules.one_of.is_empty() { 1 } else { rules.one_of.iter().filter(|id| fits(id)).count() };
        let not = rules.not.is_some_and(|id| fits(&id));
        if !any {
            self.say(Code::SchemaValue, "fits none of the alternatives that the schema allows (anyOf)".to_owned());
        }
        if one != 1 {
            let how = if one == 0 { "fits none" } else { "fits several" };
            let message = format!(
                "{how} of the alternatives of which the schema allows exactly one (oneOf){}",
                self.alternatives(&rules.one_of)
            );
            self.say(Code::SchemaValue, message);
        }
        if not {
            self.say(Code::SchemaValue, "is what the schema excludes (not)".to_owned());
        }
    }

    /// Where alternatives are told apart by fields, which fields these are.
    fn alternatives(&self, ids: &[TypeId]) -> String {
        let names: Vec<String> = ids
            .iter()
            .map(|id| {
                self.schemas.type_of(*id).required.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(" and ")
            })
            .filter(|names| !names.is_empty())
            .collect();
        if names.is_empty() { String::new() } else { format!(": one of {}", names.join(", ")) }
    }
}

fn wanted(what: What) -> &'static str {
    match what {
        What::Any => "a value",
        What::Text | What::Time | What::Bytes => "text",
        What::Quantity => "a quantity",
        What::Integer => "an integer",
        What::Number => "a number",
        What::Boolean => "true or false",
        What::IntegerOrText => "an integer or text",
        What::List(_) => "a list",
        What::Object => "a map",
    }
}

/// As Go's decoder takes it: line ends do not count, padding does.
pub(super) fn is_base64(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    base64::engine::general_purpose::STANDARD.decode(compact).is_ok()
}

/// `<sign><digits><suffix>` of Kubernetes' quantities.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
        return false;
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|e| !e.is_empty()) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    }
    matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei")
}

/// How many letters must be changed, added, left out or swapped; small words only.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let same = |x: char, y: char| x.eq_ignore_ascii_case(&y);
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(!same(a[i - 1], b[j - 1]));
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for good in ["0", "100m", "1.5Gi", ".5", "1.", "2e3", "1E6", "-1", "+2k", "10E", "3n"] {
            assert!(is_quantity(good), "{good} was refused");
        }
        for bad in ["", "m", "1GB", "1 Gi", "1mi", "1Gib", "1e", "1..2", "0x1", "1,5", "1K"] {
            assert!(!is_quantity(bad), "{bad} was taken");
        }
    }

    #[test]
    fn near_names_are_found() {
        for (a, b, expected) in
            [("replicas", "replcias", 1), ("image", "images", 1), ("hostIP", "hostIp", 0), ("a", "abcd", usize::MAX)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
