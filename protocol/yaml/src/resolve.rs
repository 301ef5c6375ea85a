//! What an unquoted text means, in the two dialects.

use crate::node::{Kind, Scalar};
use crate::number::{self, Number, Octal};
use crate::time;

/// Whose rules a text is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Resources, as kustomize reads them (go-yaml v3): `yes`, `no`, `on`, `off` are text, unquoted dates are points in
    /// time, a key set twice is an error, keys are text.
    Resource,
    /// kustomization.yaml, JSON patches, the result of Flux's substitution (sigs.k8s.io/yaml over go-yaml v2): YAML 1.1
    /// Booleans, dates are text, of a key set twice the last counts, numbers and Booleans as keys become text.
    Yaml11,
}

/// What the resolver makes of an unquoted text without a tag. `<<` is text here; as a key the reader knows it.
#[must_use]
pub fn resolve(text: &str, dialect: Dialect) -> Kind {
    let Some(first) = text.as_bytes().first() else { return Kind::Null };
    match first {
        b'0'..=b'9' | b'+' | b'-' => {
            if let Some(kind) = special_float(text) {
                return kind;
            }
            if time::is_timestamp(text) {
                return Kind::Timestamp;
            }
            if number::parse_int(text, octal(dialect)).is_some() {
                Kind::Int
            } else if number::parse_float(text).is_some() {
                Kind::Float
            } else {
                Kind::Str
            }
        }
        b'.' => special_float(text).or_else(|| number::parse_dot_float(text).map(|_| Kind::Float)).unwrap_or(Kind::Str),
        b'~' if text.len() == 1 => Kind::Null,
        b'n' | b'N' | b't' | b'T' | b'f' | b'F' => word(text, dialect),
        b'y' | b'Y' | b'o' | b'O' if dialect == Dialect::Yaml11 => word(text, dialect),
        _ => Kind::Str,
    }
}

fn octal(dialect: Dialect) -> Octal {
    match dialect {
        Dialect::Resource => Octal::Signed,
        Dialect::Yaml11 => Octal::Plain,
    }
}

fn word(text: &str, dialect: Dialect) -> Kind {
    match text {
        "null" | "Null" | "NULL" => Kind::Null,
        _ if truth(text).is_some_and(|(_, old)| !old || dialect == Dialect::Yaml11) => Kind::Bool,
        _ => Kind::Str,
    }
}

/// The value of a Boolean word, and whether only YAML 1.1 knows it.
fn truth(text: &str) -> Option<(bool, bool)> {
    match text {
        "true" | "True" | "TRUE" => Some((true, false)),
        "false" | "False" | "FALSE" => Some((false, false)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some((true, true)),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some((false, true)),
        _ => None,
    }
}

fn special_float(text: &str) -> Option<Kind> {
    special_value(text).map(|_| Kind::Float)
}

fn special_value(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The kind of a scalar under an explicit tag, or `None` when the text does not fit it. Tags that go-yaml does not know
/// are dropped and leave text.
pub(crate) fn tagged(tag: &str, text: &str, dialect: Dialect) -> Option<Kind> {
    let short = tag.strip_prefix("tag:yaml.org,2002:").or_else(|| tag.strip_prefix("!!"));
    let wanted = match short {
        Some("str") => return Some(Kind::Str),
        Some("binary") => return Some(Kind::Binary),
        Some("null") => Kind::Null,
        Some("bool") => Kind::Bool,
        Some("int") => Kind::Int,
        Some("float") => Kind::Float,
        Some("timestamp") => Kind::Timestamp,
        _ => return Some(Kind::Str),
    };
    // A timestamp is tried only without a tag or under its own.
    let found = match resolve(text, dialect) {
        Kind::Timestamp if wanted != Kind::Timestamp => Kind::Str,
        kind => kind,
    };
    match (wanted, found) {
        (Kind::Float, Kind::Int) => {
            // Go turns an `int` into a float here, and a `uint64` it refuses.
            matches!(number::parse_int(text, octal(dialect)), Some(Number::Int(_))).then_some(Kind::Float)
        }
        (wanted, found) => (wanted == found).then_some(found),
    }
}

impl Scalar {
    /// The value of a scalar of kind integer or float; `None` for other kinds and for a text that is no number.
    #[must_use]
    pub fn number(&self) -> Option<Number> {
        match self.kind {
            Kind::Int => number::parse_int(&self.text, Octal::Signed),
            Kind::Float => special_value(&self.text)
                .or_else(|| number::parse_float(&self.text))
                .map(Number::Float)
                .or_else(|| match number::parse_int(&self.text, Octal::Signed)? {
                    Number::Int(n) => Some(Number::Float(n as f64)),
                    other => Some(other),
                }),
            _ => None,
        }
    }

    /// The value of a scalar of kind Boolean; `None` for other kinds.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        if self.kind == Kind::Bool { truth(&self.text).map(|(value, _)| value) } else { None }
    }
}

/// Whether kustomize must put this text in quotes, or it would be read as something else than text.
pub(crate) fn needs_quotes(text: &str) -> bool {
    resolve(text, Dialect::Yaml11) != Kind::Str
        || (text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') && is_base60(text))
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`: YAML 1.1's numbers to base 60, which go-yaml reads as text and quotes.
fn is_base60(text: &str) -> bool {
    let bytes = text.as_bytes();
    let rest = match bytes {
        [b'+' | b'-', rest @ ..] => rest,
        all => all,
    };
    let Some(colon) = rest.iter().position(|b| *b == b':') else { return false };
    let (head, mut rest) = rest.split_at(colon);
    if !head.first().is_some_and(u8::is_ascii_digit) || !head.iter().all(|b| b.is_ascii_digit() || *b == b'_') {
        return false;
    }
    while let [b':', tail @ ..] = rest {
        rest = match tail {
            [b'0'..=b'5', b'0'..=b'9', tail @ ..] | [b'0'..=b'9', tail @ ..] => tail,
            _ => return false,
        };
    }
    match rest {
        [] => true,
        [b'.', tail @ ..] => tail.iter().all(|b| b.is_ascii_digit() || *b == b'_'),
        _ => false,
    }
}
