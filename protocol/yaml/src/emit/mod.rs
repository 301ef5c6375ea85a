//! Writing YAML byte for byte as kustomize does.
//!
//! Kustomize turns each object into JSON and has go-yaml v2 print that: keys in go-yaml's "natural" order, block style,
//! lists at their key's column, lines folded at 80 columns, quotes where YAML 1.1 would read something else. Go-yaml's
//! printer is libyaml's emitter; what it does with a blank, a break and a column is kept here in the same order of
//! decisions, because the output is compared by bytes.

mod order;
mod scalar;
mod shape;

use std::borrow::Borrow;

use crate::error::WriteError;
use crate::limits::Limits;
use crate::node::{Entry, Map, Node, Seq};
use crate::resolve::needs_quotes;
use crate::text::Value;
use scalar::Style;
pub(crate) use scalar::escape;
pub(crate) use shape::{Shape, is_break, is_printable};

/// The line length after which text is folded at the next blank.
const WIDTH: usize = 80;
/// Blanks per level.
const INDENT: usize = 2;
/// What an indentation is copied from.
const BLANKS: &str = "                                                                ";
/// The longest key, in bytes, that is written before its colon on one line; longer ones get `? `.
const SIMPLE_KEY: usize = 128;
/// The longest key, as JSON without its quotes, that kustomize can read back: its YAML reader looks 1024 characters
/// ahead for the colon.
const LONGEST_KEY: usize = 1022;

/// The YAML kustomize prints for this value, without a `---`.
///
/// # Errors
/// Where kustomize errs: infinities and NaN, characters that go-yaml does not read unescaped, keys too long.
pub fn to_string(node: &Node) -> Result<String, WriteError> {
    let mut out = String::new();
    write(node, &mut out)?;
    Ok(out)
}

/// The YAML stream kustomize prints for these objects, `---` between them. Objects that are handed over are dropped one by
/// one, while they are at hand.
///
/// # Errors
/// As [`to_string`].
pub fn to_stream<N: Borrow<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<String, WriteError> {
    let mut out = String::new();
    for node in nodes {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        write(node.borrow(), &mut out)?;
    }
    Ok(out)
}

fn write(node: &Node, out: &mut String) -> Result<(), WriteError> {
    let mut emitter = Emitter { out, column: 0, indent: None, whitespace: true, indention: true };
    emitter.node(node, Context::Root, 0)?;
    emitter.write_indent();
    Ok(())
}

/// Where a value stands, which decides how it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    /// A value, or a key too long for one line.
    Mapping,
    SimpleKey,
}

struct Emitter<'o> {
    out: &'o mut String,
    /// Characters since the last line end.
    column: usize,
    /// `None` before the first level.
    indent: Option<usize>,
    /// The last thing written was a blank or a line end.
    whitespace: bool,
    /// Only blanks and block indicators so far on this line.
    indention: bool,
}

impl Emitter<'_> {
    fn node(&mut self, node: &Node, context: Context, depth: usize) -> Result<(), WriteError> {
        if depth > Limits::MAX_DEPTH {
            return Err(WriteError::TooDeep { limit: Limits::MAX_DEPTH, line: node.line() });
        }
        match node {
            Node::Scalar(scalar) => match scalar.value()? {
                Value::Null => self.plain("null"),
                Value::Bool(true) => self.plain("true"),
                Value::Bool(false) => self.plain("false"),
                Value::Number(number) => self.plain(&number.to_yaml().unwrap_or_default()),
                Value::Text(text) => self.text(&text, context, scalar.line)?,
            },
            Node::Seq(seq) => self.seq(seq, context, depth)?,
            Node::Map(map) => self.map(map, depth)?,
        }
        Ok(())
    }

    fn seq(&mut self, seq: &Seq, context: Context, depth: usize) -> Result<(), WriteError> {
        if seq.is_empty() {
            self.indicator("[", true, true, false);
            self.indicator("]", false, false, false);
            return Ok(());
        }
        let outer = self.indent;
        // A list under a key stands at the key's column.
        let indentless = context == Context::Mapping && !self.indention;
        self.increase_indent(indentless);
        for item in seq {
            self.write_indent();
            self.indicator("-", true, false, true);
            self.node(item, Context::Item, depth + 1)?;
        }
        self.indent = outer;
        Ok(())
    }

    fn map(&mut self, map: &Map, depth: usize) -> Result<(), WriteError> {
        if map.is_empty() {
            self.indicator("{", true, true, false);
            self.indicator("}", false, false, false);
            return Ok(());
        }
        let outer = self.indent;
        self.increase_indent(false);
        let entries = map.iter().as_slice();
        if order::is_sorted(entries, |e| &e.key) {
            entries.iter().try_for_each(|entry| self.entry(entry, depth))?;
        } else {
            let mut entries: Vec<_> = entries.iter().collect();
            // The natural order has cycles (9, 110, 1a); sorting from one fixed order makes the result a function of the map.
            entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            order::sort(&mut entries, |e| &e.key);
            entries.into_iter().try_for_each(|entry| self.entry(entry, depth))?;
        }
        self.indent = outer;
        Ok(())
    }

    /// A key and its value.
    fn entry(&mut self, entry: &Entry, depth: usize) -> Result<(), WriteError> {
        self.write_indent();
        if scalar::is_simple(&entry.key) && entry.key.len() <= SIMPLE_KEY {
            self.simple(&entry.key, needs_quotes(&entry.key));
            self.indicator(":", false, false, false);
            return self.node(&entry.value, Context::Mapping, depth + 1);
        }
        let length = scalar::json_length(&entry.key);
        if length > LONGEST_KEY {
            return Err(WriteError::LongKey { length, limit: LONGEST_KEY, line: entry.line });
        }
        if entry.key.contains('\u{85}') {
            return Err(WriteError::Character { code: 0x85, line: entry.line });
        }
        if entry.key.len() <= SIMPLE_KEY && !scalar::has_break(&entry.key) {
            self.text(&entry.key, Context::SimpleKey, entry.line)?;
            self.indicator(":", false, false, false);
        } else {
            self.indicator("?", true, false, true);
            self.text(&entry.key, Context::Mapping, entry.line)?;
            self.write_indent();
            self.indicator(":", true, false, true);
        }
        self.node(&entry.value, Context::Mapping, depth + 1)
    }

    fn increase_indent(&mut self, indentless: bool) {
        self.indent = Some(match self.indent {
            None => 0,
            Some(n) if indentless => n,
            Some(n) => n + INDENT,
        });
    }

    /// A word that is never quoted nor folded.
    fn plain(&mut self, word: &str) {
        self.scalar(word, Style::Plain, false);
    }

    /// A text that [`scalar::is_simple`] says may stand as it is, on one line and without a look at its characters.
    fn simple(&mut self, text: &str, quoted: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        if quoted {
            self.put('"');
        }
        self.out.push_str(text);
        self.column += text.len();
        if quoted {
            self.put('"');
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn text(&mut self, text: &str, context: Context, line: u32) -> Result<(), WriteError> {
        if scalar::is_simple(text) {
            self.simple(text, needs_quotes(text));
            return Ok(());
        }
        if let Some(c) = text.chars().find(|c| scalar::is_unreadable(*c)) {
            return Err(WriteError::Character { code: c.into(), line });
        }
        let text = &*scalar::as_read_back(text);
        let shape = Shape::of(text);
        let wanted = if text.contains('\n') {
            Style::Literal
        } else if needs_quotes(text) {
            Style::Double
        } else {
            Style::Plain
        };
        let key = context == Context::SimpleKey;
        self.scalar(text, shape.style(wanted, key), !key);
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: Style, fold: bool) {
        let outer = self.indent;
        self.indent = Some(outer.map_or(INDENT, |n| n + INDENT));
        match style {
            Style::Plain => self.write_plain(text, fold),
            Style::Single => self.write_single(text, fold),
            Style::Double => self.write_double(text, fold),
            Style::Literal => self.write_literal(text),
        }
        self.indent = outer;
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break();
        }
        while self.column < indent {
            let blanks = &BLANKS[..(indent - self.column).min(BLANKS.len())];
            self.out.push_str(blanks);
            self.column += blanks.len();
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, needs_blank: bool, is_blank: bool, is_indention: bool) {
        if needs_blank && !self.whitespace {
            self.put(' ');
        }
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = is_blank;
        self.indention = self.indention && is_indention;
    }
}
