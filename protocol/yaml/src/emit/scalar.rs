//! How one text is written: which style its characters allow, and each style's bytes.

use std::borrow::Cow;

use super::shape::{Shape, is_break, is_printable};
use super::{Emitter, WIDTH};

/// Says how far a block is indented where its first line starts with a blank: [`super::INDENT`] in digits.
const INDENT_HINT: &str = "2";

/// The styles go-yaml v2 chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Shape {
    /// The style go-yaml v2 uses where `wanted` would be best.
    pub(super) fn style(&self, wanted: Style, key: bool) -> Style {
        let mut style = if key && self.breaks { Style::Double } else { wanted };
        if style == Style::Plain && (!self.block_plain || (self.empty && key)) {
            style = Style::Single;
        }
        if style == Style::Single && !self.single {
            style = Style::Double;
        }
        if style == Style::Literal && (!self.block || self.tab || key) {
            style = Style::Double;
        }
        style
    }
}

/// Whether a text is of letters, digits and signs that mean nothing in the middle of a word, and does not begin or end with
/// one that does: such a text is written as it is, in quotes or not, and neither folded nor escaped. Most texts are.
pub(super) fn is_simple(text: &str) -> bool {
    let plain = |b: &u8| PLAIN[usize::from(*b)];
    match text.as_bytes() {
        [first, .., last] => {
            (first.is_ascii_alphanumeric() || matches!(first, b'_' | b'/'))
                && *last != b':'
                && text.as_bytes().iter().all(plain)
        }
        [one] => one.is_ascii_alphanumeric() || matches!(one, b'_' | b'/'),
        [] => false,
    }
}

/// What may stand anywhere in a simple text.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'=' | b'@' | b'+');
        byte += 1;
    }
    table
};

/// Whether a text has a line end of any kind YAML 1.1 knows.
pub(super) fn has_break(text: &str) -> bool {
    text.chars().any(is_break)
}

/// What Go's JSON encoder leaves as it is and go-yaml's reader then refuses.
pub(super) fn is_unreadable(c: char) -> bool {
    matches!(c, '\u{7F}'..='\u{84}' | '\u{86}'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}')
}

/// How many characters Go's JSON encoder makes of a text, without the quotes.
pub(super) fn json_length(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{C}' => 2,
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
            _ => 1,
        })
        .sum()
}

/// A text as kustomize has it after its own way through JSON: a raw NEL there is a line end inside quotes, so it is
/// folded, and blanks around it are lost. Every other character comes through or is refused.
pub(super) fn as_read_back(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{85}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut parts = text.split('\u{85}').peekable();
    let mut breaks = 0;
    let mut first = true;
    while let Some(part) = parts.next() {
        let part = if first { part } else { part.trim_start_matches(' ') };
        let part = if parts.peek().is_some() { part.trim_end_matches(' ') } else { part };
        if !first {
            breaks += 1;
        }
        first = false;
        if part.is_empty() && parts.peek().is_some() {
            continue;
        }
        match breaks {
            0 => {}
            1 => out.push(' '),
            n => out.extend(std::iter::repeat_n('\n', n - 1)),
        }
        breaks = 0;
        out.push_str(part);
    }
    Cow::Owned(out)
}

/// What stands behind a backslash for this character in double quotes.
pub(crate) fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{B}' => 'v',
        '\u{C}' => 'f',
        '\r' => 'r',
        '\u{1B}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{A0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            let code = u32::from(c);
            return match code {
                ..=0xFF => format!("x{code:02X}"),
                0x100..=0xFFFF => format!("u{code:04X}"),
                _ => format!("U{code:08X}"),
            };
        }
    };
    short.to_string()
}

impl Emitter<'_> {
    fn write_break(&mut self, c: char) {
        if c == '\n' {
            self.put_break();
        } else {
            self.put(c);
            self.column = 0;
        }
    }

    pub(super) fn write_plain(&mut self, text: &str, fold: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        self.write_folded(text, fold, false);
        self.whitespace = false;
        self.indention = false;
    }

    pub(super) fn write_single(&mut self, text: &str, fold: bool) {
        self.indicator("'", true, false, false);
        self.write_folded(text, fold, true);
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    /// The body of a plain or single-quoted text, which are folded alike but for the quotes.
    fn write_folded(&mut self, text: &str, fold: bool, quoted: bool) {
        let (mut spaces, mut breaks) = (false, false);
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if c == ' ' {
                let inside = !quoted || (at > 0 && next.is_some());
                if fold && !spaces && self.column > WIDTH && inside && next != Some(' ') {
                    self.write_indent();
                } else {
                    self.put(c);
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.put_break();
                }
                self.write_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if quoted && c == '\'' {
                    self.put(c);
                }
                self.put(c);
                self.indention = false;
                (spaces, breaks) = (false, false);
            }
        }
    }

    pub(super) fn write_double(&mut self, text: &str, fold: bool) {
        self.indicator("\"", true, false, false);
        let mut spaces = false;
        // go-yaml looks for the mark at the start of the text, whatever character it is at.
        let byte_order_mark = text.starts_with('\u{FEFF}');
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if byte_order_mark || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.write_escape(c);
                spaces = false;
            } else if c == ' ' {
                if fold && !spaces && self.column > WIDTH && at > 0 && next.is_some() {
                    self.write_indent();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn write_escape(&mut self, c: char) {
        self.put('\\');
        escape(c).chars().for_each(|c| self.put(c));
    }

    pub(super) fn write_literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with([' ', '\r', '\n', '\u{85}', '\u{2028}', '\u{2029}']) {
            self.indicator(INDENT_HINT, false, false, false);
        }
        let mut end = text.chars().rev();
        match (end.next().is_some_and(is_break), end.next()) {
            (false, _) => self.indicator("-", false, false, false),
            (true, None) => self.indicator("+", false, false, false),
            (true, Some(c)) if is_break(c) => self.indicator("+", false, false, false),
            (true, Some(_)) => {}
        }
        self.put_break();
        self.indention = true;
        self.whitespace = true;
        if text.is_ascii() && !text.contains('\r') {
            // Line by line: only the line end is one.
            for line in text.split_inclusive('\n') {
                let words = line.strip_suffix('\n').unwrap_or(line);
                if !words.is_empty() {
                    self.write_indent();
                    self.out.push_str(words);
                    self.column += words.len();
                    self.indention = false;
                }
                if words.len() < line.len() {
                    self.put_break();
                    self.indention = true;
                }
            }
            return;
        }
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.write_break(c);
                self.indention = true;
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
}

#[cfg(test)]
mod tests {
    use super::super::{Context, Emitter};
    use super::*;
    use crate::resolve::needs_quotes;

    /// A text by the long way: a look at every character.
    fn slowly(text: &str, key: bool) -> String {
        let mut out = String::new();
        let mut emitter = Emitter { out: &mut out, column: 0, indent: Some(0), whitespace: true, indention: true };
        let wanted = if needs_quotes(text) { Style::Double } else { Style::Plain };
        emitter.scalar(text, Shape::of(text).style(wanted, key), !key);
        out
    }

    fn quickly(text: &str, context: Context) -> String {
        let mut out = String::new();
        let mut emitter = Emitter { out: &mut out, column: 0, indent: Some(0), whitespace: true, indention: true };
        emitter.text(text, context, 0).unwrap();
        out
    }

    #[test]
    fn simple_texts_are_written_as_all_others_are() {
        let signs =
            ["a", "7", "_", "-", ".", "/", ":", "=", "@", "+", "no", "1e3", "0x1", "12:30", "...", "---", "é", " "];
        let mut simple = 0;
        for a in signs {
            for b in signs {
                for c in signs {
                    let text = format!("{a}{b}{c}");
                    for (key, context) in [(false, Context::Mapping), (true, Context::SimpleKey)] {
                        assert_eq!(quickly(&text, context), slowly(&text, key), "{text:?}");
                    }
                    simple += usize::from(is_simple(&text));
                }
            }
        }
        assert!(simple > 1000, "{simple}");
        for (text, expected) in
            [("", false), ("-", false), ("a:", false), ("a: b", false), ("a:b", true), ("@a", false)]
        {
            assert_eq!(is_simple(text), expected, "{text:?}");
        }
    }
}
