//! From bytes to documents.

use std::borrow::Cow;

use crate::build::Builder;
use crate::error::{Error, ErrorKind};
use crate::libyaml::{Event, Mark, Parser, ScanError};
use crate::limits::Limits;
use crate::node::Node;
use crate::resolve::Dialect;
use crate::split::split_documents;

/// One document of a text.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its value, anchors and merge keys expanded.
    pub node: Node,
    /// 1-based line of the text on which its value starts.
    pub line: u32,
    /// 1-based line of text behind the document that nobody looks at, as Go's YAML libraries would not: what follows a
    /// `...`, or a line less indented than the first. Nearly always a mistake of the author, so worth a warning.
    pub ignored: Option<u32>,
}

/// `%TAG` lines a text may have: libyaml compares each with all before it.
const TAG_DIRECTIVES: usize = 64;

/// Texts in double quotes with `\'` that are put right before the reader gives up.
const APOSTROPHES: usize = 100;

/// All documents of a text.
///
/// [`Dialect::Resource`] does what kustomize does with a resource file: it cuts the file by [`split_documents`], reads
/// the *first* document of every piece (what follows a `...` is not looked at) and drops those that are empty or null.
/// [`Dialect::Yaml11`] reads the text as one YAML stream and keeps every document.
///
/// One thing is read that kustomize refuses: `\/` in double quotes, which JSON allows.
///
/// # Errors
/// The first thing wrong, with its place in `text`.
pub fn parse_all(text: &[u8], dialect: Dialect, limits: &Limits) -> Result<Vec<Document>, Error> {
    check_size(text, limits)?;
    let mut builder = Builder::new(dialect, limits);
    let mut documents = Vec::new();
    match dialect {
        Dialect::Resource => {
            for chunk in split_documents(text)? {
                builder.set_lines_before(chunk.line - 1);
                let found = read(chunk.text, &mut builder, |text, builder| first_document(text, dialect, builder));
                let found = found.map_err(|e| moved(e, chunk.line))?;
                let Some(mut document) = found.filter(|d| !d.node.is_null()) else { continue };
                document.ignored = document.ignored.map(|line| line + chunk.line - 1);
                count_document(documents.len(), document.line, limits)?;
                documents.push(document);
            }
        }
        Dialect::Yaml11 => {
            documents = read(text, &mut builder, |text, builder| {
                let mut parser = Parser::new(text);
                let mut documents = Vec::new();
                while let Some(document) = next_document(&mut parser, builder)? {
                    count_document(documents.len(), document.line, limits)?;
                    documents.push(document);
                }
                Ok(documents)
            })?;
        }
    }
    Ok(documents)
}

/// The first document of a text, as Go's YAML libraries read one; null when there is none. What follows it is not
/// looked at.
///
/// # Errors
/// The first thing wrong, with its place in `text`.
pub fn parse_one(text: &[u8], dialect: Dialect, limits: &Limits) -> Result<Document, Error> {
    check_size(text, limits)?;
    let mut builder = Builder::new(dialect, limits);
    let document = read(text, &mut builder, |text, builder| first_document(text, dialect, builder))?;
    Ok(document.unwrap_or_else(|| Document { node: Node::null(), line: 1, ignored: None }))
}

fn check_size(text: &[u8], limits: &Limits) -> Result<(), Error> {
    if text.len() > limits.bytes {
        return Err(Error::at(1, 0, ErrorKind::TooLong { found: text.len(), limit: limits.bytes }));
    }
    let directives = || text.split(|b| *b == b'\n').filter(|line| line.starts_with(b"%TAG")).count();
    if text.contains(&b'%') && directives() > TAG_DIRECTIVES {
        return Err(Error::at(1, 0, ErrorKind::TooManyTagDirectives(TAG_DIRECTIVES)));
    }
    Ok(())
}

fn count_document(have: usize, line: u32, limits: &Limits) -> Result<(), Error> {
    if have < limits.documents {
        Ok(())
    } else {
        Err(Error::at(line, 0, ErrorKind::TooManyDocuments(limits.documents)))
    }
}

/// Why a document could not be read.
enum Failure {
    Scan(ScanError),
    Other(Error),
}

impl From<ScanError> for Failure {
    fn from(e: ScanError) -> Self {
        Self::Scan(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

/// Runs a reader over a text. Go's scanners take `\'` in double quotes for an apostrophe, libyaml knows no such escape:
/// where it stops at one, the backslash is taken out and the text read again.
fn read<'l, T>(
    text: &[u8],
    builder: &mut Builder<'l>,
    run: impl Fn(&[u8], &mut Builder<'l>) -> Result<T, Failure>,
) -> Result<T, Error> {
    let counts = builder.counts();
    let mut text = Cow::Borrowed(text);
    for _ in 0..APOSTROPHES {
        match run(&text, builder) {
            Ok(value) => return Ok(value),
            Err(Failure::Other(e)) => return Err(e),
            Err(Failure::Scan(e)) => match without_escaped_apostrophes(&text, &e) {
                Some(better) => text = Cow::Owned(better),
                None => return Err(syntax(&text, &e)),
            },
        }
        builder.forget(counts);
    }
    match run(&text, builder) {
        Ok(value) => Ok(value),
        Err(Failure::Other(e)) => Err(e),
        Err(Failure::Scan(e)) => Err(syntax(&text, &e)),
    }
}

/// The text with the backslashes before apostrophes gone, from where the scanner stopped to the end of that quoted text.
fn without_escaped_apostrophes(text: &[u8], error: &ScanError) -> Option<Vec<u8>> {
    if error.problem != "found unknown escape character" {
        return None;
    }
    let line = usize::try_from(error.mark.line).ok()?;
    let line_start = match line {
        0 => 0,
        n => text.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(n - 1)?.0 + 1,
    };
    // The mark counts characters and stands on the backslash.
    let column = usize::try_from(error.mark.column).ok()?;
    let rest = std::str::from_utf8(&text[line_start..]).ok()?;
    let start = line_start + rest.char_indices().nth(column)?.0;
    if !text[start..].starts_with(b"\\'") {
        return None;
    }
    let mut out = text[..start].to_vec();
    let mut rest = &text[start..];
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                out.push(b'\'');
                rest = tail;
            }
            [b'\\', c, tail @ ..] => {
                out.extend_from_slice(&[b'\\', *c]);
                rest = tail;
            }
            [b'"', ..] | [] => break,
            [c, tail @ ..] => {
                out.push(*c);
                rest = tail;
            }
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn first_document(text: &[u8], dialect: Dialect, builder: &mut Builder<'_>) -> Result<Option<Document>, Failure> {
    let mut parser = Parser::new(text);
    let Some(mut document) = next_document(&mut parser, builder)? else { return Ok(None) };
    // Go stops here, but go-yaml v3 has scanned a little ahead, for comments, and fails on what is no YAML at all.
    document.ignored = match parser.next() {
        Ok((Event::StreamEnd, _)) => None,
        Ok((_, mark)) => Some(number(mark.line)),
        Err(e) if e.problem == NOT_A_DOCUMENT || dialect == Dialect::Yaml11 => Some(number(e.mark.line)),
        Err(e) => return Err(e.into()),
    };
    Ok(Some(document))
}

/// What libyaml says of content that belongs neither to the document before it nor to a new one.
const NOT_A_DOCUMENT: &str = "did not find expected <document start>";

fn next_document(parser: &mut Parser<'_>, builder: &mut Builder<'_>) -> Result<Option<Document>, Failure> {
    loop {
        let (event, mark) = parser.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart { version: None | Some((1, 1)) } => break,
            Event::DocumentStart { version: Some((major, minor)) } => {
                return Err(Error::at(number(mark.line), 1, ErrorKind::Version(major, minor)).into());
            }
            _ => return Ok(None),
        }
    }
    builder.start_document();
    loop {
        let (event, mark) = parser.next()?;
        let (line, column) = (number(mark.line), number(mark.column));
        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
            let node = builder.finish();
            return Ok(Some(Document { line: node.line().max(1), node, ignored: None }));
        }
        builder.event(&event, line).map_err(|kind| Error::at(line, column, kind))?;
    }
}

/// A 0-based number of libyaml as a 1-based one.
fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1)
}

fn moved(mut error: Error, line: u32) -> Error {
    error.line = error.line.saturating_add(line - 1);
    error
}

fn syntax(text: &[u8], error: &ScanError) -> Error {
    let mut message = error.problem.to_owned();
    let mut at: Mark = error.mark;
    if let Some(offset) = error.offset {
        // Unreadable bytes have an offset only.
        let before = &text[..usize::try_from(offset).unwrap_or(usize::MAX).min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count();
        return Error::at(number(line as u64), 0, ErrorKind::Syntax(message));
    }
    if let Some((context, from)) = &error.context {
        message.push_str(&format!(", {context} that starts on line {}", number(from.line)));
        if at.line < from.line {
            at = *from;
        }
    }
    Error::at(number(at.line), number(at.column), ErrorKind::Syntax(message))
}
