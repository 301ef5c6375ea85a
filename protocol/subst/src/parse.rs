//! The grammar of Flux's expressions.
//!
//! It is bash's only at first sight: `${a-b}`, `${a+b}` and `${a?b}` are errors, `:+` and `:?` do what `:-` does, an
//! operand is either text or, in a default only, text and expressions mixed. Source: the behaviour of
//! `github.com/fluxcd/pkg/envsubst` 1.8, kept by the table in `tests/`.

use crate::{Error, ErrorKind};

/// How deep expressions may stand inside each other.
pub(crate) const MAX_DEPTH: usize = 32;

/// One piece of a text.
#[derive(Debug)]
pub(crate) enum Part {
    Text(String),
    Call(Call),
}

/// One `${...}`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) operator: Operator,
    pub(crate) operands: Vec<Part>,
    pub(crate) line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `${a}`, and `${a,^}` or `${a^,}`, which do nothing.
    Value,
    /// `${#a}`
    Length,
    /// `=`, `:=`, `:-`, `:+`, `:?`
    Default,
    /// `:`
    Slice,
    UpperFirst,
    Upper,
    LowerFirst,
    Lower,
    TrimShortestPrefix,
    TrimLongestPrefix,
    TrimShortestSuffix,
    TrimLongestSuffix,
    ReplaceFirst,
    ReplaceAll,
    ReplacePrefix,
    ReplaceSuffix,
}

/// A variable that a text asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// Its name.
    pub name: String,
    /// 1-based line of the expression.
    pub line: u32,
    /// Whether strict mode fails where it is not set: the expression has no default.
    pub required: bool,
}

/// The variables a text asks for, in the order they are evaluated (operands before the expression around them).
///
/// # Errors
/// An expression that Flux does not read.
pub fn variables(text: &str) -> Result<Vec<Use>, Error> {
    fn walk(parts: &[Part], out: &mut Vec<Use>) {
        for part in parts {
            if let Part::Call(call) = part {
                walk(&call.operands, out);
                let required = call.operator != Operator::Default;
                out.push(Use { name: call.name.clone(), line: call.line, required });
            }
        }
    }
    let mut out = Vec::new();
    walk(&parse(text)?, &mut out);
    Ok(out)
}

/// Cuts a text into its pieces.
pub(crate) fn parse(text: &str) -> Result<Vec<Part>, Error> {
    let mut parser = Parser { text, at: 0, line: 1, counted: 0, depth: 0 };
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut from = 0;
    // Only a dollar starts anything.
    while let Some(dollar) = text[parser.at..].find('$').map(|n| parser.at + n) {
        match text.as_bytes().get(dollar + 1) {
            Some(b'$') => {
                // `$$` is one dollar, and what follows is text.
                literal.push_str(&text[from..=dollar]);
                parser.at = dollar + 2;
                from = parser.at;
            }
            Some(b'{') => {
                literal.push_str(&text[from..dollar]);
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parser.at = dollar;
                parts.push(Part::Call(parser.call()?));
                from = parser.at;
            }
            _ => parser.at = dollar + 1,
        }
    }
    literal.push_str(&text[from..]);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    /// The line at the byte `counted`.
    line: u32,
    counted: usize,
    depth: usize,
}

/// What an operand's text runs up to; an expression ends it as well.
#[derive(Clone, Copy)]
enum Until {
    Brace,
    ColonOrBrace,
    Slash,
}

/// Whether `\/`, `\\` and `$$` are escapes in an operand. They are in patterns and replacements only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Yes,
    No,
}

impl Parser<'_> {
    /// The expression at `at`, which stands on its `${`.
    fn call(&mut self) -> Result<Call, Error> {
        let start = self.at;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(start, ErrorKind::TooDeep(MAX_DEPTH)));
        }
        self.at += 2;
        let call = self.body(start)?;
        self.depth -= 1;
        Ok(call)
    }

    fn body(&mut self, start: usize) -> Result<Call, Error> {
        let line = self.line_at(start);
        if self.peek() == Some('#') {
            self.at += 1;
            let name = self.name(start)?;
            self.close(start, &name, "#")?;
            return Ok(Call { name, operator: Operator::Length, operands: Vec::new(), line });
        }
        let name = self.name(start)?;
        let (operator, operands) = match self.peek() {
            Some('}') => {
                self.at += 1;
                (Operator::Value, Vec::new())
            }
            Some(':') => match self.text.as_bytes().get(self.at + 1) {
                Some(b'=' | b'-' | b'?' | b'+') => {
                    self.at += 2;
                    (Operator::Default, self.default(start, &name)?)
                }
                _ => {
                    self.at += 1;
                    (Operator::Slice, self.slice(start, &name)?)
                }
            },
            Some('=') => {
                self.at += 1;
                (Operator::Default, self.default(start, &name)?)
            }
            Some(',' | '^') => (self.case(start, &name)?, Vec::new()),
            Some('/') => self.replace(start, &name)?,
            Some(sign @ ('#' | '%')) => {
                let longest = self.take_twice(sign);
                let operator = match (sign, longest) {
                    ('#', false) => Operator::TrimShortestPrefix,
                    ('#', true) => Operator::TrimLongestPrefix,
                    (_, false) => Operator::TrimShortestSuffix,
                    (_, true) => Operator::TrimLongestSuffix,
                };
                let sign = sign.to_string();
                let operand = self.operand(start, &name, &sign, Until::Brace, Escapes::No)?;
                self.close(start, &name, &sign)?;
                (operator, vec![operand])
            }
            _ => {
                let text = self.shown(start);
                return Err(self.error(start, ErrorKind::Unclosed { name, text }));
            }
        };
        Ok(Call { name, operator, operands, line })
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// A sign, and the same sign once more when it follows.
    fn take_twice(&mut self, sign: char) -> bool {
        self.at += 1;
        let twice = self.peek() == Some(sign);
        self.at += usize::from(twice);
        twice
    }

    /// Letters, digits and underscores; a digit may be first (such a name can never be set).
    fn name(&mut self, start: usize) -> Result<String, Error> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            let text = self.shown(start);
            return Err(self.error(start, ErrorKind::NoName { text }));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    fn default(&mut self, start: usize, name: &str) -> Result<Vec<Part>, Error> {
        let mut operands = Vec::new();
        while self.peek() != Some('}') {
            operands.push(self.operand(start, name, "=", Until::Brace, Escapes::No)?);
        }
        self.at += 1;
        Ok(operands)
    }

    fn slice(&mut self, start: usize, name: &str) -> Result<Vec<Part>, Error> {
        let mut operands = Vec::new();
        if self.peek().is_some_and(|c| !c.is_ascii()) {
            return Err(self.operand_error(start, name, ":"));
        }
        operands.push(self.operand(start, name, ":", Until::ColonOrBrace, Escapes::No)?);
        if self.peek() == Some(':') {
            self.skip_all(':');
            operands.push(self.operand(start, name, ":", Until::Brace, Escapes::No)?);
        }
        self.close(start, name, ":")?;
        Ok(operands)
    }

    fn case(&mut self, start: usize, name: &str) -> Result<Operator, Error> {
        let rest = &self.text.as_bytes()[self.at..];
        let second = rest.get(1).copied().filter(|b| matches!(b, b',' | b'^'));
        let operator = match (rest.first(), second) {
            (Some(b','), None) => Operator::LowerFirst,
            (Some(b','), Some(b',')) => Operator::Lower,
            (Some(b'^'), None) => Operator::UpperFirst,
            (Some(b'^'), Some(b'^')) => Operator::Upper,
            _ => Operator::Value,
        };
        self.at += 1 + usize::from(second.is_some());
        self.close(start, name, "^")?;
        Ok(operator)
    }

    fn replace(&mut self, start: usize, name: &str) -> Result<(Operator, Vec<Part>), Error> {
        self.at += 1;
        let operator = match self.peek() {
            Some('/') => Operator::ReplaceAll,
            Some('#') => Operator::ReplacePrefix,
            Some('%') => Operator::ReplaceSuffix,
            _ => Operator::ReplaceFirst,
        };
        self.at += usize::from(operator != Operator::ReplaceFirst);
        let mut operands = vec![self.operand(start, name, "/", Until::Slash, Escapes::Yes)?];
        if self.peek() != Some('/') {
            return Err(self.operand_error(start, name, "/"));
        }
        self.skip_all('/');
        if self.peek() != Some('}') {
            operands.push(self.operand(start, name, "/", Until::Brace, Escapes::Yes)?);
        }
        self.close(start, name, "/")?;
        Ok((operator, operands))
    }

    /// Several separators count as one.
    fn skip_all(&mut self, sign: char) {
        while self.peek() == Some(sign) {
            self.at += 1;
        }
    }

    /// One operand: an expression, or text up to the sign that ends it, which must not be empty.
    fn operand(
        &mut self,
        start: usize,
        name: &str,
        operator: &str,
        until: Until,
        escapes: Escapes,
    ) -> Result<Part, Error> {
        if self.text[self.at..].starts_with("${") {
            return self.call().map(Part::Call);
        }
        let mut out = String::new();
        let before = self.at;
        while let Some(c) = self.peek() {
            let rest = &self.text[self.at..];
            if rest.starts_with("${") {
                break;
            }
            if escapes == Escapes::Yes
                && (rest.starts_with("$$") || rest.starts_with("\\/") || rest.starts_with("\\\\"))
            {
                out.push_str(&rest[1..2]);
                self.at += 2;
                continue;
            }
            let end = match until {
                Until::Brace => c == '}',
                Until::ColonOrBrace => matches!(c, ':' | '}'),
                Until::Slash => c == '/',
            };
            if end {
                break;
            }
            out.push(c);
            self.at += c.len_utf8();
        }
        if self.at == before {
            return Err(self.operand_error(start, name, operator));
        }
        Ok(Part::Text(out))
    }

    fn close(&mut self, start: usize, name: &str, operator: &str) -> Result<(), Error> {
        if self.peek() != Some('}') {
            return Err(self.operand_error(start, name, operator));
        }
        self.at += 1;
        Ok(())
    }

    fn operand_error(&mut self, start: usize, name: &str, operator: &str) -> Error {
        let text = self.shown(start);
        self.error(start, ErrorKind::Operand { name: name.to_owned(), operator: operator.to_owned(), text })
    }

    fn error(&mut self, start: usize, kind: ErrorKind) -> Error {
        Error { line: self.line_at(start), kind }
    }

    /// The start of an expression, for a message: one line, not long.
    fn shown(&self, start: usize) -> String {
        self.text[start..].chars().take_while(|c| *c != '\n').take(40).collect()
    }

    /// The line of a byte; bytes are asked for in growing order but for errors.
    fn line_at(&mut self, at: usize) -> u32 {
        if at < self.counted {
            (self.line, self.counted) = (1, 0);
        }
        let breaks = self.text.as_bytes()[self.counted..at].iter().filter(|b| **b == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.counted = at;
        self.line
    }
}
