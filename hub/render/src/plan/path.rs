//! How a field is named: `spec.template.spec.containers[name=web].image`.
//!
//! Items of a list that server-side apply tells apart by keys are named by these keys, items of a set by their value. A
//! list without either is one field as a whole, so no path has an index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A field of a map.
    Field(String),
    /// The item of a list with these keys: field and value, the value as JSON text.
    Item(Vec<(String, String)>),
    /// The item of a list of scalars with this value, as JSON text.
    Value(String),
}

/// Where in an object. As text: fields joined by dots, a field that is no plain word in brackets and quotes
/// (`metadata.annotations["example.org/a"]`), an item as `[name=web]` or `[containerPort=80,protocol=TCP]`, a value as
/// `[="x"]`. Key values that could be mistaken are written as JSON strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// This path and one step more.
    #[must_use]
    pub fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The path that these field names make.
    #[must_use]
    pub fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|f| Step::Field((*f).to_owned())).collect())
    }

    /// Whether this path begins with these field names.
    #[must_use]
    pub fn begins(&self, fields: &[&str]) -> bool {
        self.0.len() >= fields.len()
            && self.0.iter().zip(fields).all(|(step, field)| matches!(step, Step::Field(name) if name == field))
    }
}

fn is_word(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$'))
}

/// A JSON string that reads as itself without quotes: nothing that ends a key or is another JSON value.
fn plain_value(json: &str) -> Option<&str> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    let plain = !inner.is_empty()
        && inner.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':'));
    (plain && serde_json::from_str::<serde_json::Value>(inner).is_err()).then_some(inner)
}

/// A scalar as the JSON text that [`Step`] holds.
#[must_use]
pub fn scalar_text(value: &serde_json::Value) -> String {
    value.to_string()
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if is_word(name) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Step::Field(name) => write!(f, "[{}]", serde_json::Value::from(name.as_str()))?,
                Step::Item(keys) => {
                    f.write_str("[")?;
                    for (n, (key, value)) in keys.iter().enumerate() {
                        let comma = if n > 0 { "," } else { "" };
                        write!(f, "{comma}{key}={}", plain_value(value).unwrap_or(value))?;
                    }
                    f.write_str("]")?;
                }
                Step::Value(value) => write!(f, "[={value}]")?,
            }
        }
        Ok(())
    }
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no field path: {reason} at byte {at}")]
pub struct PathError {
    text: String,
    reason: &'static str,
    at: usize,
}

impl FromStr for FieldPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut steps = Vec::new();
        let mut rest = text;
        let fail = |reason, rest: &str| PathError { text: text.to_owned(), reason, at: text.len() - rest.len() };
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (step, after) = bracket(inside).ok_or_else(|| fail("a bracket that does not read", rest))?;
                steps.push(step);
                rest = after;
                continue;
            }
            let dotted = rest.strip_prefix('.');
            if dotted.is_some() == steps.is_empty() {
                return Err(fail("a dot is missing or too many", rest));
            }
            let name_at = dotted.unwrap_or(rest);
            let end = name_at.find(['.', '[']).unwrap_or(name_at.len());
            let name = &name_at[..end];
            if !is_word(name) {
                return Err(fail("a field that is no plain word and not in brackets", rest));
            }
            steps.push(Step::Field(name.to_owned()));
            rest = &name_at[end..];
        }
        Ok(Self(steps))
    }
}

/// Reads up to and with the closing bracket.
fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(text) = text.strip_prefix('=') {
        let (value, rest) = json_scalar(text)?;
        return Some((Step::Value(value), rest.strip_prefix(']')?));
    }
    if text.starts_with('"') {
        let (json, rest) = json_scalar(text)?;
        return Some((Step::Field(serde_json::from_str(&json).ok()?), rest.strip_prefix(']')?));
    }
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = json_scalar(after)?;
        keys.push((key.to_owned(), value));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some((Step::Item(keys), after.strip_prefix(']')?)),
        }
    }
}

/// A JSON scalar, or a plain text that stands for a JSON string, as JSON text.
fn json_scalar(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let mut escaped = false;
        let end = text.char_indices().skip(1).find_map(|(at, c)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes.then_some(at + 1)
        })?;
        let json = &text[..end];
        serde_json::from_str::<String>(json).ok()?;
        return Some((json.to_owned(), &text[end..]));
    }
    let end = text.find([',', ']'])?;
    let raw = &text[..end];
    let json = match serde_json::from_str::<serde_json::Value>(raw) {
        Ok(_) => raw.to_owned(),
        Err(_) => serde_json::Value::from(raw).to_string(),
    };
    Some((json, &text[end..]))
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_read_as_people_write_them() {
        let field = |name: &str| Step::Field(name.into());
        let item = |keys: &[(&str, &str)]| Step::Item(keys.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        for (steps, text) in [
            (vec![field("spec"), field("replicas")], "spec.replicas"),
            (vec![field("spec"), item(&[("name", "\"web\"")]), field("image")], "spec[name=web].image"),
            (vec![field("data"), field("a.b/c")], "data[\"a.b/c\"]"),
            (vec![field("data"), field("tls.crt"), field("x")], "data[\"tls.crt\"].x"),
            (vec![field("ports"), item(&[("port", "80"), ("protocol", "\"TCP\"")])], "ports[port=80,protocol=TCP]"),
            (vec![field("x"), item(&[("port", "\"80\"")])], "x[port=\"80\"]"),
            (vec![field("f"), Step::Value("\"example.org/x\"".into())], "f[=\"example.org/x\"]"),
            (vec![field("data"), field("")], "data[\"\"]"),
        ] {
            let path = FieldPath(steps);
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path), "{text}");
        }
        for bad in [".", "a..b", "a.", "a[", "a[x", "a[x=1", "a[\"b\"", "a b", "a[=1"] {
            assert!(bad.parse::<FieldPath>().is_err(), "{bad} was accepted");
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        let scalar = prop_oneof![
            ".{0,6}".prop_map(|s| serde_json::Value::from(s).to_string()),
            any::<i32>().prop_map(|n| n.to_string()),
            any::<bool>().prop_map(|b| b.to_string()),
        ];
        prop_oneof![
            ".{0,8}".prop_map(Step::Field),
            "[a-z-]{1,8}".prop_map(Step::Field),
            proptest::collection::vec(("[a-zA-Z]{1,6}", scalar.clone()), 1..3).prop_map(Step::Item),
            scalar.prop_map(Step::Value),
        ]
    }

    proptest! {
        #[test]
        fn any_path_reads_back(steps in proptest::collection::vec(step(), 0..5)) {
            // An object's top is a map.
            prop_assume!(steps.first().is_none_or(|s| matches!(s, Step::Field(_))));
            let path = FieldPath(steps);
            prop_assert_eq!(path.to_string().parse::<FieldPath>(), Ok(path));
        }
    }
}
