//! What a trip through JSON and back does to a value, as JSON patches and expanded lists make it in the real program.

use super::fieldspec::means_more_in_yaml_1_1;
use driftless_yaml::{Kind, Limits, Map, Node, Number, Scalar, Seq};
use std::sync::Arc;

/// How deep an object may become, and how many values it may hold: copying a part of an object into itself doubles it.
const DEPTH: usize = 256;
const VALUES: usize = 1_000_000;
/// How long one text may become, in bytes.
const TEXT: usize = 16 << 20;

/// Refuses an object that copies have made too deep or too large. Shared parts count as often as they are printed.
pub(crate) fn weigh(node: &Node) -> Result<(), String> {
    fn walk(node: &Node, depth: usize, left: &mut usize) -> Result<(), String> {
        *left = left.checked_sub(1).ok_or_else(|| format!("copies make it hold more than {VALUES} values"))?;
        if depth > DEPTH {
            return Err(format!("copies make it nested deeper than {DEPTH}"));
        }
        match node {
            Node::Scalar(_) => Ok(()),
            Node::Seq(seq) => seq.iter().try_for_each(|item| walk(item, depth + 1, left)),
            Node::Map(map) => map.iter().try_for_each(|entry| walk(&entry.value, depth + 1, left)),
        }
    }
    walk(node, 0, &mut VALUES.clone())
}

/// Refuses a text that putting values into has made too long.
pub(crate) fn check_text(len: usize) -> Result<(), String> {
    if len > TEXT { Err(format!("a text of {len} bytes; {TEXT} is the most")) } else { Ok(()) }
}

/// Refuses a path with more parts than an object may be deep.
pub(crate) fn check_path(parts: usize) -> Result<(), String> {
    if parts > DEPTH { Err(format!("a path of {parts} parts; {DEPTH} is the most")) } else { Ok(()) }
}

/// The value after Go's `encoding/json` and go-yaml have written and read it: numbers as 64-bit floats, dates as text,
/// text in quotes only where it needs them. What does not change stays shared.
pub(crate) fn normalize(node: &Node) -> Node {
    match changed(node) {
        Some(node) => node,
        None => node.clone(),
    }
}

fn changed(node: &Node) -> Option<Node> {
    match node {
        Node::Scalar(s) => scalar(s).map(Node::Scalar),
        Node::Seq(seq) => {
            let mut out: Option<Seq> = None;
            for (at, item) in seq.iter().enumerate() {
                if let Some(new) = changed(item) {
                    out.get_or_insert_with(|| seq.clone()).items_mut()[at] = new;
                }
            }
            out.map(Node::Seq)
        }
        Node::Map(map) => {
            let mut out: Option<Map> = None;
            for (at, entry) in map.iter().enumerate() {
                if let Some(new) = changed(&entry.value) {
                    out.get_or_insert_with(|| map.clone()).entries_mut()[at].value = new;
                }
            }
            out.map(Node::Map)
        }
    }
}

fn scalar(s: &Scalar) -> Option<Scalar> {
    let (text, kind, quoted) = match s.kind {
        Kind::Str => (None, Kind::Str, needs_quotes(&s.text)),
        Kind::Bool => {
            let text = if s.boolean()? { "true" } else { "false" };
            ((*s.text != *text).then(|| text.to_owned()), Kind::Bool, false)
        }
        // Nothing at all inside brackets.
        Kind::Null if s.is_flow_null() => (None, Kind::Str, true),
        Kind::Null => ((&*s.text != "null").then(|| "null".to_owned()), Kind::Null, false),
        Kind::Int | Kind::Float => {
            let value = match s.number()? {
                Number::Int(n) => n as f64,
                Number::Uint(n) => n as f64,
                Number::Float(f) => f,
            };
            let text = shortest(value);
            let kind = super::fieldspec::resolve(&text);
            ((*s.text != *text).then_some(text), kind, false)
        }
        Kind::Timestamp | Kind::Binary => {
            let text = json_text(s)?;
            let quoted = s.kind == Kind::Timestamp || needs_quotes(&text);
            return Some(Scalar { text, kind: Kind::Str, quoted, line: s.line });
        }
    };
    if text.is_none() && kind == s.kind && quoted == s.quoted {
        return None;
    }
    Some(Scalar { text: text.map_or_else(|| s.text.clone(), Into::into), kind, quoted, line: s.line })
}

/// The text that JSON holds for a date or for bytes.
fn json_text(s: &Scalar) -> Option<Arc<str>> {
    let mut bytes = Vec::new();
    Node::Scalar(s.clone()).write_json(&mut bytes).ok()?;
    match driftless_yaml::from_json(&bytes, &Limits::default()).ok()? {
        Node::Scalar(read) => Some(read.text),
        _ => None,
    }
}

/// Refuses infinities and what is no number, which JSON does not have.
pub(crate) fn check_finite(node: &Node) -> Result<(), String> {
    match node {
        Node::Scalar(s) => match (s.kind, s.number()) {
            (Kind::Float, Some(Number::Float(f))) if !f.is_finite() => {
                Err(format!("JSON has no number like {}; put it in quotes if it is meant as text", s.text))
            }
            _ => Ok(()),
        },
        Node::Seq(seq) => seq.iter().try_for_each(check_finite),
        Node::Map(map) => map.iter().try_for_each(|e| check_finite(&e.value)),
    }
}

/// The value after Go's `encoding/json` alone: integers stay exact, other numbers are written as JSON has them.
pub(crate) fn through_json(node: &Node) -> Node {
    match node {
        Node::Scalar(s) => Node::Scalar(match (s.kind, s.number()) {
            (Kind::Int | Kind::Float, Some(number)) => {
                let text = match number {
                    Number::Int(n) => n.to_string(),
                    Number::Uint(n) => n.to_string(),
                    Number::Float(f) => json_float(f),
                };
                Scalar { kind: super::fieldspec::resolve(&text), text: text.into(), quoted: false, line: s.line }
            }
            _ if s.is_flow_null() => Scalar { line: s.line, ..Scalar::null() },
            _ => scalar(s).unwrap_or_else(|| s.clone()),
        }),
        Node::Seq(seq) => Node::Seq(Seq::from_items(seq.iter().map(through_json).collect(), seq.line)),
        Node::Map(map) => {
            let mut out = map.clone();
            for entry in out.entries_mut() {
                entry.value = through_json(&entry.value);
            }
            Node::Map(out)
        }
    }
}

/// A float as `encoding/json` writes it: an exponent below 1e-6 and from 1e21 on.
fn json_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let Some((mantissa, exponent)) = text.split_once('e') else { return text };
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        return format!("{mantissa}e{sign}{exponent}");
    }
    format!("{value}")
}

/// Go's shortest `%g`: an exponent below 1e-4 and from 1e6 on.
pub(crate) fn shortest(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let text = format!("{value:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Whether go-yaml writes a text in quotes or as a block.
fn needs_quotes(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    let special_start = matches!(
        first,
        '-' | '?'
            | ':'
            | ','
            | '['
            | ']'
            | '{'
            | '}'
            | '#'
            | '&'
            | '*'
            | '!'
            | '|'
            | '>'
            | '\''
            | '"'
            | '%'
            | '@'
            | '`'
            | ' '
    );
    // `-x` and `?x` are plain; the others never are.
    let special_start =
        special_start && !(matches!(first, '-' | '?' | ':') && text.chars().nth(1).is_some_and(|c| !c.is_whitespace()));
    special_start
        || text.ends_with(' ')
        || text.ends_with(':')
        || text.contains(": ")
        || text.contains(" #")
        || text.contains(['\n', '\t', '\r'])
        || means_more_in_yaml_1_1(text)
}
