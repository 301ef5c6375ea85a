//! Reading typed fields out of YAML, as Go's JSON decoder would: keys in any case, unknown keys refused, null is absence.

use super::error::{BuildError, ErrorKind, Origin, Warning};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless_yaml::{Entry, Kind, Map, Node};
use std::cell::RefCell;
use std::sync::Arc;

/// How exact a document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// As kustomize reads kustomization files: unknown fields and numbers for text are errors.
    Strict,
    /// As Flux reads the file it adds its own settings to: unknown fields are dropped (here: with a warning), numbers become
    /// text.
    Flux,
    /// As kustomize reads transformers given as objects: unknown fields are passed over, numbers become text.
    Loose,
}

/// A file being decoded.
#[derive(Debug)]
pub(crate) struct Doc {
    pub(crate) path: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) warnings: RefCell<Vec<Warning>>,
}

impl Doc {
    pub(crate) fn new(path: &Arc<str>, mode: Mode) -> Self {
        Self { path: path.clone(), mode, warnings: RefCell::default() }
    }

    /// An error at a line of this file.
    pub(crate) fn error(&self, line: u32, attempt: impl Into<String>) -> BuildError {
        BuildError::new(ErrorKind::Field, Origin::new(self.path.clone(), line), attempt)
    }
}

/// A map being decoded, with the words for messages.
pub(crate) struct Fields<'a> {
    file: &'a Doc,
    /// What the map is, for messages: `patches[2]`.
    what: String,
    entries: Vec<(&'static str, &'a Entry)>,
}

/// A value with the line it was written on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: u32,
}

type Result<T> = std::result::Result<T, BuildError>;

fn wrong_type(file: &Doc, what: &str, node: &Node, expected: &str) -> BuildError {
    let what = if what.is_empty() { "a kustomization file" } else { what };
    let (found, help) = match node {
        Node::Map(_) => ("a map".to_owned(), None),
        Node::Seq(_) => ("a list".to_owned(), None),
        Node::Scalar(s) => {
            let kind = match s.kind {
                Kind::Bool => "the Boolean ",
                Kind::Int | Kind::Float => "the number ",
                _ => "",
            };
            let help = (expected == "text" && !kind.is_empty()).then(|| format!("put it in quotes: {:?}", &*s.text));
            (format!("{kind}{:?}", &*s.text), help)
        }
    };
    let mut error = file.error(node.line(), format!("{what} must be {expected}, found {found}"));
    error.help = help;
    error
}

impl<'a> Fields<'a> {
    /// The fields of a map; `None` when the node is null. Refuses keys that are not in `known`.
    pub(crate) fn new(
        file: &'a Doc,
        what: impl Into<String>,
        node: &'a Node,
        known: &[&'static str],
    ) -> Result<Option<Self>> {
        let what = what.into();
        if node.is_null() {
            return Ok(None);
        }
        let Some(map) = node.as_map() else { return Err(wrong_type(file, &what, node, "a map")) };
        let mut entries = Vec::with_capacity(map.len());
        for entry in map {
            let name = known.iter().find(|k| **k == &*entry.key);
            let name = name.or_else(|| known.iter().find(|k| k.eq_ignore_ascii_case(&entry.key)));
            let Some(name) = name else {
                if file.mode == Mode::Loose {
                    continue;
                }
                let shown = if what.is_empty() { String::new() } else { format!("{what}: ") };
                let attempt = format!("{shown}unknown field {:?}", &*entry.key);
                if file.mode == Mode::Flux {
                    let message = format!("{attempt}: Flux drops it, and so does this build");
                    file.warnings
                        .borrow_mut()
                        .push(Warning { place: Origin::new(file.path.clone(), entry.line), message });
                    continue;
                }
                let mut error = file.error(entry.line, attempt);
                error.help = nearest(&entry.key, known.iter().copied()).map(|n| format!("did you mean {n:?}?"));
                return Err(error);
            };
            entries.push((*name, entry));
        }
        Ok(Some(Self { file, what, entries }))
    }

    /// The entry of a field that is there and not null; of two spellings the last.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Entry> {
        self.entries.iter().rev().find(|(n, e)| *n == name && !e.value.is_null()).map(|(_, e)| *e)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        if self.what.is_empty() { name.to_owned() } else { format!("{}.{name}", self.what) }
    }

    pub(crate) fn line(&self, name: &str) -> u32 {
        self.get(name).map_or(0, |e| e.line)
    }

    /// Text, empty when absent.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(e) => text(self.file, &self.path(name), &e.value),
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool> {
        let Some(e) = self.get(name) else { return Ok(false) };
        e.value
            .as_scalar()
            .and_then(driftless_yaml::Scalar::boolean)
            .ok_or_else(|| wrong_type(self.file, &self.path(name), &e.value, "true or false"))
    }

    pub(crate) fn int(&self, name: &str) -> Result<i64> {
        let Some(e) = self.get(name) else { return Ok(0) };
        match e.value.as_scalar().and_then(driftless_yaml::Scalar::number).map(driftless_yaml::Number::whole) {
            Some(driftless_yaml::Number::Int(n)) => Ok(n),
            _ => Err(wrong_type(self.file, &self.path(name), &e.value, "a whole number")),
        }
    }

    /// A list of texts with their lines.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<At<String>>> {
        self.list(name)?
            .iter()
            .enumerate()
            .map(|(i, item)| {
                let value = if item.is_null() {
                    String::new()
                } else {
                    text(self.file, &format!("{}[{i}]", self.path(name)), item)?
                };
                Ok(At { value, line: item.line() })
            })
            .collect()
    }

    /// A map of texts, sorted by key.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(Arc<str>, Arc<str>)>> {
        let Some(e) = self.get(name) else { return Ok(Vec::new()) };
        let path = self.path(name);
        let Some(map) = e.value.as_map() else { return Err(wrong_type(self.file, &path, &e.value, "a map of text")) };
        let mut out = Vec::with_capacity(map.len());
        for entry in map {
            let value = if entry.value.is_null() {
                String::new()
            } else {
                text(self.file, &format!("{path}.{}", entry.key), &entry.value)?
            };
            out.push((entry.key.clone().into(), value.into()));
        }
        out.sort();
        Ok(out)
    }

    /// The items of a list, none when absent.
    pub(crate) fn list(&self, name: &str) -> Result<&'a [Node]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(e) => match &e.value {
                Node::Seq(seq) => Ok(seq),
                other => Err(wrong_type(self.file, &self.path(name), other, "a list")),
            },
        }
    }

    /// Decodes each item of a list of maps.
    pub(crate) fn each<T>(
        &self,
        name: &str,
        known: &[&'static str],
        mut decode: impl FnMut(&Fields<'a>, u32) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        for (i, item) in self.list(name)?.iter().enumerate() {
            let fields = Fields::new(self.file, format!("{}[{i}]", self.path(name)), item, known)?;
            let fields =
                fields.unwrap_or_else(|| Fields { file: self.file, what: self.path(name), entries: Vec::new() });
            out.push(decode(&fields, item.line())?);
        }
        Ok(out)
    }

    /// Decodes a map below this one.
    pub(crate) fn sub(&self, name: &str, known: &[&'static str]) -> Result<Option<Fields<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(e) => Fields::new(self.file, self.path(name), &e.value, known),
        }
    }
}

fn text(file: &Doc, what: &str, node: &Node) -> Result<String> {
    match node {
        Node::Scalar(s) if matches!(s.kind, Kind::Str | Kind::Timestamp) => Ok(s.text.to_string()),
        Node::Scalar(s) if s.kind == Kind::Binary => {
            let packed: String = s.text.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| wrong_type(file, what, node, "base64"))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Node::Scalar(s) if file.mode != Mode::Strict => Ok(as_text(s)),
        other => Err(wrong_type(file, what, other, "text")),
    }
}

/// A number or Boolean as Go writes it where text is wanted.
fn as_text(s: &driftless_yaml::Scalar) -> String {
    match (s.boolean(), s.number()) {
        (Some(value), _) => value.to_string(),
        (_, Some(driftless_yaml::Number::Int(n))) => n.to_string(),
        (_, Some(driftless_yaml::Number::Uint(n))) => n.to_string(),
        (_, Some(driftless_yaml::Number::Float(f))) => super::json::shortest(f),
        _ => s.text.to_string(),
    }
}

/// The name most like a misspelt one, when one is close.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    known.map(|k| (distance(name, k), k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

/// How many letters must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).take(256).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().flat_map(char::to_lowercase).take(256).enumerate() {
        let mut last = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = last + usize::from(x != *y);
            last = row[j + 1];
            row[j + 1] = change.min(last + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Whether a field holds something that Go would not call its zero value.
pub(crate) fn is_set(map: &Map, key: &str) -> bool {
    map.iter().any(|e| {
        e.key.eq_ignore_ascii_case(key)
            && match &e.value {
                Node::Scalar(s) => s.kind != Kind::Null && !(s.kind == Kind::Str && s.text.is_empty()),
                _ => true,
            }
    })
}
