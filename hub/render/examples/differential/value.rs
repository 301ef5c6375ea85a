//! YAML to be written in many styles, and its mutations.

use crate::rng::Rng;
use crate::words::SCALARS;
use driftless_yaml::Node;

/// A value; scalars are kept as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Raw(String),
    Seq(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// A scalar as it is written.
pub(crate) fn raw(text: impl Into<String>) -> Value {
    Value::Raw(text.into())
}

/// A text in double quotes.
pub(crate) fn quoted(text: &str) -> Value {
    Value::Raw(double(text))
}

/// A text: plain when that is harmless.
pub(crate) fn text(text: &str) -> Value {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_'))
        && text.as_bytes()[0].is_ascii_alphabetic();
    if plain { raw(text) } else { quoted(text) }
}

pub(crate) fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
}

fn double(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || (c as u32) == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Value {
    /// What was read, with scalars as they were written, near enough.
    pub(crate) fn of(node: &Node) -> Self {
        match node {
            Node::Scalar(s) if s.quoted => quoted(&s.text),
            Node::Scalar(s) => Self::Raw(s.text.to_string()),
            Node::Seq(seq) => Self::Seq(seq.iter().map(Self::of).collect()),
            Node::Map(map) => Self::Map(map.iter().map(|e| (e.key.to_string(), Self::of(&e.value))).collect()),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        match self {
            Self::Map(entries) => entries.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    fn children(&self) -> usize {
        match self {
            Self::Raw(_) => 0,
            Self::Seq(items) => items.len(),
            Self::Map(entries) => entries.len(),
        }
    }

    fn child_mut(&mut self, at: usize) -> Option<&mut Value> {
        match self {
            Self::Raw(_) => None,
            Self::Seq(items) => items.get_mut(at),
            Self::Map(entries) => entries.get_mut(at).map(|(_, v)| v),
        }
    }

    /// A random value somewhere inside.
    pub(crate) fn somewhere(&mut self, rng: &mut Rng) -> &mut Value {
        let n = self.children();
        if n == 0 || rng.chance(25) {
            return self;
        }
        let at = rng.below(n);
        match self.child_mut(at) {
            Some(_) => self.child_mut(at).map(|c| c.somewhere(rng)).unwrap_or_else(|| unreachable!()),
            None => unreachable!("a child below the number of children"),
        }
    }

    /// The way to a random value inside: keys and indexes.
    pub(crate) fn way(&self, rng: &mut Rng) -> Vec<String> {
        let mut out = Vec::new();
        let mut at = self;
        loop {
            match at {
                Self::Map(entries) if !entries.is_empty() && (out.is_empty() || rng.chance(85)) => {
                    let (key, value) = &entries[rng.below(entries.len())];
                    out.push(key.clone());
                    at = value;
                }
                Self::Seq(items) if !items.is_empty() && rng.chance(85) => {
                    let index = rng.below(items.len());
                    out.push(index.to_string());
                    at = &items[index];
                }
                _ => return out,
            }
        }
    }

    /// One random change.
    pub(crate) fn mutate(&mut self, rng: &mut Rng) {
        let donor = self.clone().somewhere(rng).clone();
        let place = self.somewhere(rng);
        match place {
            Value::Raw(text) => match rng.below(6) {
                0 => *place = donor,
                1 => *text = double(text.trim_matches(['"', '\''])),
                2 => *place = Value::Map(Vec::new()),
                3 => *place = Value::Seq(Vec::new()),
                _ => *text = rng.pick(SCALARS).to_owned(),
            },
            Value::Seq(items) => match rng.below(7) {
                0 if !items.is_empty() => {
                    let at = rng.below(items.len());
                    items.remove(at);
                }
                1 if !items.is_empty() => {
                    let copy = items[rng.below(items.len())].clone();
                    items.insert(rng.below(items.len() + 1), copy);
                }
                2 if items.len() > 1 => {
                    let (a, b) = (rng.below(items.len()), rng.below(items.len()));
                    items.swap(a, b);
                }
                3 => items.push(raw(rng.pick(SCALARS))),
                4 => items.push(donor),
                5 => items.clear(),
                _ => *place = raw("null"),
            },
            Value::Map(entries) => match rng.below(8) {
                0 | 1 if !entries.is_empty() => {
                    let at = rng.below(entries.len());
                    entries.remove(at);
                }
                2 => entries.push((rng.pick(&["a", "name", "x-y", "$patch", "1", "true", "a.b/c"]).to_owned(), donor)),
                3 if entries.len() > 1 => {
                    let (a, b) = (rng.below(entries.len()), rng.below(entries.len()));
                    entries.swap(a, b);
                }
                4 if !entries.is_empty() => {
                    let at = rng.below(entries.len());
                    entries[at].1 = raw(rng.pick(&["null", "~", "", "{}", "[]", "a"]));
                }
                5 if !entries.is_empty() => {
                    let at = rng.below(entries.len());
                    let (key, value) = entries[at].clone();
                    if rng.chance(30) {
                        entries.push((key, value));
                    }
                }
                6 => entries.clear(),
                _ => *place = raw(rng.pick(SCALARS)),
            },
        }
    }

    /// One document, in a random mixture of styles.
    pub(crate) fn write(&self, rng: &mut Rng) -> String {
        let mut out = String::new();
        block(&mut out, self, 0, rng);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }
}

fn key_text(key: &str) -> String {
    let plain = !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_' | b'$'))
        && !key.starts_with('-');
    if plain { key.to_owned() } else { double(key) }
}

fn pad(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Whether flow style cannot change what it means.
fn can_flow(value: &Value) -> bool {
    match value {
        Value::Raw(text) => {
            !text.contains(['\n', '#'])
                && (text.starts_with(['"', '\'']) || !text.contains([',', '[', ']', '{', '}', ':']))
                && !text.is_empty()
        }
        Value::Seq(items) => items.iter().all(can_flow),
        Value::Map(entries) => entries.iter().all(|(_, v)| can_flow(v)),
    }
}

fn flow(out: &mut String, value: &Value) {
    match value {
        Value::Raw(text) => out.push_str(text),
        Value::Seq(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                flow(out, item);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                out.push_str(&key_text(key));
                out.push_str(": ");
                flow(out, item);
            }
            out.push('}');
        }
    }
}

/// Writes at a line's start, or after `- ` whose indentation is `depth`.
fn block(out: &mut String, value: &Value, depth: usize, rng: &mut Rng) {
    match value {
        Value::Raw(text) => scalar(out, text, depth),
        Value::Seq(items) if items.is_empty() => out.push_str("[]\n"),
        Value::Map(entries) if entries.is_empty() => out.push_str("{}\n"),
        Value::Seq(items) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 || !out.ends_with(' ') {
                    pad(out, depth);
                }
                out.push_str("- ");
                block(out, item, depth + 1, rng);
            }
        }
        Value::Map(entries) => {
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 || !out.ends_with("- ") {
                    pad(out, depth);
                }
                out.push_str(&key_text(key));
                out.push(':');
                match item {
                    Value::Raw(text) => {
                        if !text.is_empty() {
                            out.push(' ');
                        }
                        scalar(out, text, depth + 1);
                    }
                    other if other.children() == 0 || (rng.chance(12) && can_flow(other)) => {
                        out.push(' ');
                        flow(out, other);
                        out.push('\n');
                    }
                    other => {
                        out.push('\n');
                        let indent = if matches!(other, Value::Seq(_)) && rng.chance(50) { depth } else { depth + 1 };
                        block(out, other, indent, rng);
                    }
                }
            }
        }
    }
}

/// A scalar and its line's end; the lines of a block scalar are indented.
fn scalar(out: &mut String, text: &str, depth: usize) {
    let mut lines = text.split('\n');
    out.push_str(lines.next().unwrap_or_default());
    out.push('\n');
    for line in lines {
        if !line.is_empty() {
            pad(out, depth.max(1));
            out.push_str(line);
        }
        out.push('\n');
    }
}
