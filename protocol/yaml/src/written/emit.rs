//! Printing as go-yaml v3 does with two blanks of indentation, lists at their key's column, and no folding of lines.

use super::{Content, Style, Written};
use crate::emit::{Shape, is_break, is_printable};
use crate::node::Kind;
use crate::resolve::{Dialect, resolve};

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    Value,
    Key,
}

pub(super) fn emit(root: &Written) -> String {
    let mut emitter = Emitter {
        out: String::new(),
        column: 0,
        indent: None,
        flow: 0,
        whitespace: true,
        indention: true,
        foot_indent: None,
        open_ended: false,
        tail: String::new(),
    };
    if matches!(root.content, Content::Scalar { .. }) {
        emitter.comment_above(&root.head);
    }
    emitter.value(root, Context::Root);
    emitter.comment_behind(&root.line);
    emitter.comment_below(&root.foot);
    emitter.write_indent();
    if emitter.open_ended {
        emitter.out.push_str("...\n");
    }
    emitter.out
}

struct Emitter {
    out: String,
    column: usize,
    /// `None` before the first level.
    indent: Option<usize>,
    flow: usize,
    whitespace: bool,
    indention: bool,
    /// Where a comment below something has just been written: a blank line follows it at that level.
    foot_indent: Option<usize>,
    open_ended: bool,
    /// The comment below the key before, written ahead of what comes next.
    tail: String,
}

impl Emitter {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
        self.indention = true;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break();
        }
        if self.foot_indent == Some(indent) {
            self.put_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.foot_indent = None;
    }

    fn indicator(&mut self, text: &str, needs_blank: bool, is_blank: bool, is_indention: bool) {
        if needs_blank && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = is_blank;
        self.indention = self.indention && is_indention;
        self.open_ended = false;
    }

    fn comment(&mut self, text: &str) {
        let mut breaks = false;
        for c in text.chars() {
            if c == '\n' {
                self.put_break();
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
        if !breaks {
            self.put_break();
        }
        self.whitespace = true;
    }

    fn comment_above(&mut self, text: &str) {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.write_indent();
            self.comment(&tail);
            self.foot_indent = Some(self.indent.unwrap_or(0));
        }
        if !text.is_empty() {
            self.write_indent();
            self.comment(text);
        }
    }

    fn comment_behind(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.whitespace {
            self.put(' ');
        }
        self.comment(text);
    }

    fn comment_below(&mut self, text: &str) {
        if !text.is_empty() {
            self.write_indent();
            self.comment(text);
            self.foot_indent = Some(self.indent.unwrap_or(0));
        }
    }

    /// One level deeper; the level before.
    fn deeper(&mut self, context: Context, flow: bool, compact: bool) -> Option<usize> {
        let outer = self.indent;
        self.indent = Some(match outer {
            None if flow => 2,
            None => 0,
            Some(n) if context == Context::Item && self.flow == 0 => n + 2,
            Some(n) => (2 * ((n + 2) / 2)).saturating_sub(if compact { 2 } else { 0 }),
        });
        outer
    }

    fn value(&mut self, value: &Written, context: Context) {
        match &value.content {
            Content::Scalar { text, kind, style } => self.scalar(text, *kind, *style, &value.line, context),
            Content::Seq { flow, items } if *flow || self.flow > 0 || items.is_empty() => {
                self.flow_seq(items, context);
            }
            Content::Map { flow, entries } if *flow || self.flow > 0 || entries.is_empty() => {
                self.flow_map(entries, context);
            }
            Content::Seq { items, .. } => self.block_seq(value, items, context),
            Content::Map { entries, .. } => self.block_map(value, entries, context),
        }
    }

    fn block_seq(&mut self, seq: &Written, items: &[Written], context: Context) {
        let compact = context == Context::Value && (self.column == 0 || !self.indention);
        let outer = self.deeper(context, false, compact);
        for (at, item) in items.iter().enumerate() {
            // What stands above a list inside a map or at the top stands above its first item.
            let above = if at == 0 && context != Context::Item { seq.head.as_str() } else { "" };
            self.comment_above(above);
            self.comment_above(&item.head);
            self.write_indent();
            self.indicator("-", true, false, true);
            self.value(item, Context::Item);
            self.comment_behind(behind(item));
            self.comment_below(&item.foot);
        }
        self.indent = outer;
    }

    fn block_map(&mut self, map: &Written, entries: &[(Written, Written)], context: Context) {
        let outer = self.deeper(context, false, false);
        for (at, (key, value)) in entries.iter().enumerate() {
            let above = if at == 0 && context != Context::Item { map.head.as_str() } else { "" };
            self.comment_above(above);
            self.comment_above(&key.head);
            self.write_indent();
            let long = key.text().len() > 128 || key.text().contains('\n');
            if long {
                self.indicator("?", true, false, true);
                self.value(key, Context::Value);
                self.write_indent();
                self.indicator(":", true, false, true);
            } else {
                self.value(key, Context::Key);
                self.indicator(":", false, false, false);
            }
            let block = match &value.content {
                Content::Scalar { .. } => false,
                Content::Seq { flow, items } => !flow && !items.is_empty(),
                Content::Map { flow, entries } => !flow && !entries.is_empty(),
            };
            if block {
                self.comment_behind(&key.line);
            }
            self.value(value, Context::Value);
            let line = behind(value);
            self.comment_behind(if line.is_empty() && !block { &key.line } else { line });
            self.comment_below(&value.foot);
            self.tail.clone_from(&key.foot);
        }
        self.comment_above("");
        self.indent = outer;
    }

    fn flow_seq(&mut self, items: &[Written], context: Context) {
        self.indicator("[", true, true, false);
        let outer = self.deeper(context, true, false);
        self.flow += 1;
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.indicator(",", false, false, false);
            }
            self.flow_part(&item.head);
            self.value(item, Context::Item);
            self.flow_end(item, at + 1 == items.len());
        }
        self.flow -= 1;
        self.indent = outer;
        if self.column == 0 {
            self.write_indent();
        }
        self.indicator("]", false, false, false);
    }

    fn flow_map(&mut self, entries: &[(Written, Written)], context: Context) {
        self.indicator("{", true, true, false);
        let outer = self.deeper(context, true, false);
        self.flow += 1;
        for (at, (key, value)) in entries.iter().enumerate() {
            if at > 0 {
                self.indicator(",", false, false, false);
            }
            self.flow_part(&key.head);
            self.value(key, Context::Key);
            self.indicator(":", false, false, false);
            self.value(value, Context::Value);
            self.flow_end(value, at + 1 == entries.len());
        }
        self.flow -= 1;
        self.indent = outer;
        self.indicator("}", false, false, false);
    }

    fn flow_part(&mut self, head: &str) {
        self.comment_above(head);
        if self.column == 0 {
            self.write_indent();
        }
    }

    fn flow_end(&mut self, value: &Written, _last: bool) {
        self.comment_behind(&value.line);
        self.comment_below(&value.foot);
    }

    fn scalar(&mut self, text: &str, kind: Kind, style: Style, line: &str, context: Context) {
        let plain_kind = resolve(text, Dialect::Resource);
        let quoted = matches!(style, Style::Single | Style::Double | Style::Literal | Style::Folded);
        let mut style = style;
        if !quoted {
            if text.contains('\n') {
                style = Style::Literal;
            } else if kind == Kind::Str && plain_kind != Kind::Str {
                style = Style::Double;
            }
        }
        // A value that no longer is of its own type keeps the type's tag.
        let tag = if kind != Kind::Str && kind != plain_kind { tag_of(kind) } else { "" };
        let shape = Shape::of(text);
        let key = context == Context::Key;
        if key && shape.breaks {
            style = Style::Double;
        }
        if style == Style::Plain {
            let allowed = if self.flow > 0 { shape.flow_plain } else { shape.block_plain };
            if !allowed || (text.is_empty() && (self.flow > 0 || key)) {
                style = Style::Single;
            }
        }
        if style == Style::Single && !shape.single {
            style = Style::Double;
        }
        if matches!(style, Style::Literal | Style::Folded) && (!shape.block || self.flow > 0 || key) {
            style = Style::Double;
        }
        if !tag.is_empty() {
            self.indicator(tag, true, false, false);
        }
        let outer = self.deeper(context, true, false);
        match style {
            Style::Plain => self.plain(text, context),
            Style::Single => self.single(text),
            Style::Double => self.double(text),
            Style::Literal => self.literal(text, line),
            Style::Folded => self.folded(text, line),
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &str, context: Context) {
        if !text.is_empty() && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        if !text.is_empty() {
            self.whitespace = false;
        }
        self.indention = false;
        self.open_ended = context == Context::Root;
    }

    fn single(&mut self, text: &str) {
        self.indicator("'", true, false, false);
        let mut breaks = false;
        for c in text.chars() {
            if is_break(c) {
                if !breaks && c == '\n' {
                    self.put_break();
                }
                self.line_end(c);
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if c == '\'' {
                    self.put(c);
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn double(&mut self, text: &str) {
        self.indicator("\"", true, false, false);
        for c in text.chars() {
            if !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.put('\\');
                crate::emit::escape(c).chars().for_each(|c| self.put(c));
            } else {
                self.put(c);
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn line_end(&mut self, c: char) {
        if c == '\n' {
            self.put_break();
        } else {
            self.put(c);
            self.column = 0;
            self.indention = true;
        }
    }

    fn block_hints(&mut self, text: &str) {
        if text.starts_with(' ') || text.chars().next().is_some_and(is_break) {
            self.indicator("2", false, false, false);
        }
        self.open_ended = false;
        let mut end = text.chars().rev();
        match (end.next().is_some_and(is_break), end.next()) {
            (false, _) => self.indicator("-", false, false, false),
            (true, None) => {
                self.indicator("+", false, false, false);
                self.open_ended = false;
            }
            (true, Some(c)) if is_break(c) => self.indicator("+", false, false, false),
            (true, Some(_)) => {}
        }
    }

    fn after_hints(&mut self, line: &str) {
        if line.is_empty() {
            self.put_break();
        } else {
            self.comment_behind(line);
        }
        self.whitespace = true;
    }

    fn literal(&mut self, text: &str, line: &str) {
        self.indicator("|", true, false, false);
        self.block_hints(text);
        self.after_hints(line);
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.line_end(c);
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }

    fn folded(&mut self, text: &str, line: &str) {
        self.indicator(">", true, false, false);
        self.block_hints(text);
        self.after_hints(line);
        let (mut breaks, mut leading_blank) = (true, true);
        // The break is doubled unless the text's first line starts with a blank; it should be the next line that is asked.
        let double = !text.trim_start_matches('\n').starts_with([' ', '\t']);
        for c in text.chars() {
            if is_break(c) {
                if !breaks && !leading_blank && c == '\n' && double {
                    self.put_break();
                }
                self.line_end(c);
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                    leading_blank = matches!(c, ' ' | '\t');
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }
}

/// The comment behind a value, unless the value's own printing has taken it.
fn behind(value: &Written) -> &str {
    match &value.content {
        Content::Scalar { style: Style::Literal | Style::Folded, .. } => "",
        _ => &value.line,
    }
}

fn tag_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "!!null",
        Kind::Bool => "!!bool",
        Kind::Int => "!!int",
        Kind::Float => "!!float",
        Kind::Timestamp => "!!timestamp",
        Kind::Binary => "!!binary",
        Kind::Str => "",
    }
}
