//! A quirk of kustomize: folded texts (`>`) change on their way through it.
//!
//! Kustomize writes every object as YAML and reads it again before it prints it, and go-yaml v3 writes a folded text
//! with a line break too many before a line that is indented more, and at the end of one that keeps its breaks. Flux
//! applies the changed text, so the change is made here, where the text is read, once: the style is gone after that.

use std::borrow::Cow;

use crate::emit::Shape;
use crate::libyaml::{Event, Parser};

/// A folded text as kustomize has it in the end.
pub(crate) fn refold(text: &str) -> Cow<'_, str> {
    let inner_break = text.trim_end_matches('\n').contains('\n') || text.ends_with("\n\n");
    if !inner_break || !Shape::of(text).block {
        return Cow::Borrowed(text);
    }
    let written = write(text);
    let mut parser = Parser::new(written.as_bytes());
    while let Ok((event, _)) = parser.next() {
        match event {
            Event::Scalar { value, plain: false, .. } => return Cow::Owned(value.to_owned()),
            Event::StreamEnd => break,
            _ => {}
        }
    }
    // What go-yaml cannot read again, kustomize fails on; the text as written is the better answer here.
    Cow::Borrowed(text)
}

/// The text as the value of a key, as go-yaml v3 writes it in folded style.
fn write(text: &str) -> String {
    let mut out = String::from("k: >");
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text == "\n" || text.ends_with("\n\n") {
        out.push('+');
    }
    out.push('\n');
    // The break is doubled unless the text's first line starts with a blank; it should be the next line that is asked.
    let double = !text.trim_start_matches('\n').starts_with([' ', '\t']);
    let (mut breaks, mut leading_blank) = (true, true);
    for c in text.chars() {
        if c == '\n' {
            if !breaks && !leading_blank && double {
                out.push('\n');
            }
            out.push('\n');
            breaks = true;
        } else {
            if breaks {
                out.push_str("  ");
                leading_blank = matches!(c, ' ' | '\t');
            }
            out.push(c);
            breaks = false;
        }
    }
    if !breaks {
        out.push('\n');
    }
    out
}
