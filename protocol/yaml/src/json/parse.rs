//! A strict JSON reader that makes [`Node`]s.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::node::{Entry, Kind, Map, Node, Scalar, Seq};

/// Reads one JSON text (RFC 8259): nothing but blanks around it, no key twice in a map, no lone surrogates. A whole
/// number within 64 bits has kind integer, every other number kind float; their text stays as written.
///
/// # Errors
/// The first thing wrong, with its place.
pub fn from_json(text: &[u8], limits: &Limits) -> Result<Node, Error> {
    if text.len() > limits.bytes {
        return Err(Error::at(1, 0, ErrorKind::TooLong { found: text.len(), limit: limits.bytes }));
    }
    let mut reader = Reader { text, at: 0, line: 1, nodes: 0, limits };
    match reader.document() {
        Ok(node) => Ok(node),
        Err(kind) => {
            let before = &text[..reader.at.min(text.len())];
            let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
            Err(Error::at(reader.line, u32::try_from(column).unwrap_or(u32::MAX), kind))
        }
    }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
    nodes: usize,
    limits: &'t Limits,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, ErrorKind> {
        self.blanks();
        let node = self.value(0)?;
        self.blanks();
        if self.at < self.text.len() {
            return Err(ErrorKind::Json("something follows the value"));
        }
        Ok(node)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            if b == b'\n' {
                self.line = self.line.saturating_add(1);
            }
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: u8, otherwise: &'static str) -> Result<(), ErrorKind> {
        if self.peek() != Some(wanted) {
            return Err(ErrorKind::Json(otherwise));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Node, ErrorKind> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(ErrorKind::TooManyNodes(self.limits.nodes));
        }
        if depth >= self.limits.depth() && matches!(self.peek(), Some(b'{' | b'[')) {
            return Err(ErrorKind::TooDeep(self.limits.depth()));
        }
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.seq(depth),
            Some(b'"') => {
                let line = self.line;
                let text = self.string()?;
                Ok(Node::Scalar(Scalar { text, kind: Kind::Str, quoted: true, line }))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::Bool),
            Some(b'f') => self.word("false", Kind::Bool),
            Some(b'n') => self.word("null", Kind::Null),
            Some(_) => Err(ErrorKind::Json("a value was expected")),
            None => Err(ErrorKind::Json("the text ends where a value was expected")),
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Result<Node, ErrorKind> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(ErrorKind::Json("a value was expected"));
        }
        self.at += word.len();
        Ok(Node::Scalar(Scalar { text: word.into(), kind, quoted: false, line: self.line }))
    }

    fn seq(&mut self, depth: usize) -> Result<Node, ErrorKind> {
        let line = self.line;
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::Seq(Seq::from_items(items, line)));
        }
        loop {
            self.blanks();
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(ErrorKind::Json("`,` or `]` was expected")),
            }
        }
        self.at += 1;
        Ok(Node::Seq(Seq::from_items(items, line)))
    }

    fn map(&mut self, depth: usize) -> Result<Node, ErrorKind> {
        let line = self.line;
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::Map(Map::from_entries(entries, line)));
        }
        loop {
            self.blanks();
            let line = self.line;
            if self.peek() != Some(b'"') {
                return Err(ErrorKind::Json("a key in quotes was expected"));
            }
            let key = self.string()?.into();
            self.blanks();
            self.expect(b':', "`:` was expected after the key")?;
            self.blanks();
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, value, line });
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(ErrorKind::Json("`,` or `}` was expected")),
            }
        }
        self.at += 1;
        check_keys(&entries)?;
        Ok(Node::Map(Map::from_entries(entries, line)))
    }

    fn number(&mut self) -> Result<Node, ErrorKind> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(ErrorKind::Json("a digit was expected")),
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = str::from_utf8(&self.text[start..self.at]).map_err(|_| ErrorKind::Json("not UTF-8"))?;
        let integer = whole && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok());
        if !integer && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(ErrorKind::Json("a number too large"));
        }
        let kind = if integer { Kind::Int } else { Kind::Float };
        Ok(Node::Scalar(Scalar { text: text.into(), kind, quoted: false, line: self.line }))
    }

    fn digits(&mut self) -> Result<(), ErrorKind> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(ErrorKind::Json("a digit was expected")) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Arc<str>, ErrorKind> {
        self.at += 1;
        let start = self.at;
        // Most strings have no escape and are copied once.
        let mut owned: Option<Vec<u8>> = None;
        let mut from = start;
        loop {
            match self.peek() {
                None => return Err(ErrorKind::Json("a string does not end")),
                Some(b'"') => break,
                Some(b'\\') => {
                    let out = owned.get_or_insert_default();
                    out.extend_from_slice(&self.text[from..self.at]);
                    self.at += 1;
                    let c = self.escape()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    from = self.at;
                }
                Some(0..0x20) => return Err(ErrorKind::Json("a control character in a string must be escaped")),
                Some(_) => self.at += 1,
            }
        }
        let tail = &self.text[from..self.at];
        self.at += 1;
        let bad = |_| ErrorKind::Json("not UTF-8");
        Ok(match owned {
            None => str::from_utf8(tail).map_err(bad)?.into(),
            Some(mut out) => {
                out.extend_from_slice(tail);
                str::from_utf8(&out).map_err(bad)?.into()
            }
        })
    }

    fn escape(&mut self) -> Result<char, ErrorKind> {
        let wrong = ErrorKind::Json("no such escape in a string");
        let Some(b) = self.peek() else { return Err(wrong) };
        self.at += 1;
        Ok(match b {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{C}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let lone = ErrorKind::Json("half of a surrogate pair in a string");
                let first = self.hex()?;
                if !(0xD800..0xE000).contains(&first) {
                    return char::from_u32(first).ok_or(lone);
                }
                if first >= 0xDC00 || !self.text[self.at..].starts_with(b"\\u") {
                    return Err(lone);
                }
                self.at += 2;
                let second = self.hex()?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(lone);
                }
                char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)?
            }
            _ => return Err(wrong),
        })
    }

    fn hex(&mut self) -> Result<u32, ErrorKind> {
        let wrong = ErrorKind::Json("four hexadecimal digits were expected after `\\u`");
        let Some(digits) = self.text.get(self.at..self.at + 4) else { return Err(wrong) };
        let mut code = 0;
        for b in digits {
            code = code << 4 | char::from(*b).to_digit(16).ok_or_else(|| wrong.clone())?;
        }
        self.at += 4;
        Ok(code)
    }
}

/// Refuses a key that stands twice.
fn check_keys(entries: &[Entry]) -> Result<(), ErrorKind> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    match sorted.windows(2).find(|w| w[0].key == w[1].key) {
        Some(twice) => Err(ErrorKind::DuplicateKey { key: twice[1].key.to_string(), first: twice[0].line }),
        None => Ok(()),
    }
}
