//! JSON: canonical bytes out, strict text in.

mod parse;

pub use parse::from_json;

use crate::error::WriteError;
use crate::limits::Limits;
use crate::node::{Entry, Node};
use crate::text::Value;

impl Node {
    /// Appends this value as canonical JSON: keys sorted by their bytes, no blanks, the fewest escapes, whole numbers
    /// within 64 bits as integers, other numbers as RFC 8785 writes them, nulls kept.
    ///
    /// # Errors
    /// Infinities and NaN, which JSON cannot hold; what was appended until then stays.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        write(self, out, 0)
    }

    /// This value as canonical JSON, see [`Node::write_json`].
    ///
    /// # Errors
    /// As [`Node::write_json`].
    pub fn to_json(&self) -> Result<Vec<u8>, WriteError> {
        let mut out = Vec::new();
        self.write_json(&mut out)?;
        Ok(out)
    }
}

fn write(node: &Node, out: &mut Vec<u8>, depth: usize) -> Result<(), WriteError> {
    if depth > Limits::MAX_DEPTH {
        return Err(WriteError::TooDeep { limit: Limits::MAX_DEPTH, line: node.line() });
    }
    match node {
        Node::Scalar(scalar) => match scalar.value()? {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => _ = number.write_json(out),
            Value::Text(text) => write_text(&text, out),
        },
        Node::Seq(seq) => {
            out.push(b'[');
            for (n, item) in seq.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, out, depth + 1)?;
            }
            out.push(b']');
        }
        Node::Map(map) => {
            out.push(b'{');
            let mut first = true;
            let mut entry = |entry: &Entry| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write_text(&entry.key, out);
                out.push(b':');
                write(&entry.value, out, depth + 1)
            };
            if map.iter().is_sorted_by(|a, b| a.key <= b.key) {
                map.iter().try_for_each(entry)?;
            } else {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
                entries.into_iter().try_for_each(&mut entry)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// A string with the fewest escapes: quote, backslash and what is below a blank, in the short form where there is one.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    let bytes = text.as_bytes();
    // Nearly every text has nothing to escape, which a loop without a way out finds fastest.
    let escapes = bytes.iter().fold(false, |any, b| any | (*b < b' ') | (*b == b'"') | (*b == b'\\'));
    for (at, b) in bytes.iter().enumerate().take(if escapes { bytes.len() } else { 0 }) {
        let short = match b {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0C => b'f',
            b'\r' => b'r',
            0..0x20 => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        if short == 0 {
            out.extend_from_slice(format!("\\u{b:04x}").as_bytes());
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}
