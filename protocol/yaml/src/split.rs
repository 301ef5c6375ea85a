//! How kustomize cuts a file into documents, before any YAML is parsed.

use crate::error::{Error, ErrorKind};

/// One piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'t> {
    /// Its bytes. Every piece but the last keeps its line end; the last ends as the file does, which decides whether a
    /// block scalar there has one.
    pub text: &'t [u8],
    /// 1-based line of the file on which it starts.
    pub line: u32,
}

/// Cuts a file at each line that starts with `---`, as kustomize does.
///
/// Not as YAML does, and the differences show: the first line of the file and a line right after a separator cut
/// nothing (they stay in their piece, where the parser reads them), and so does a last line without its line end.
/// Source: kyaml `kio/byteio_reader.go`, `splitDocuments` (`\n---.*\n`).
///
/// # Errors
/// [`ErrorKind::Separator`] where anything but a comment follows the dashes.
pub fn split_documents(text: &[u8]) -> Result<Vec<Chunk<'_>>, Error> {
    let mut chunks = Vec::new();
    if text.is_empty() {
        return Ok(chunks);
    }
    let (mut start, mut start_line) = (0, 1);
    // Where the search goes on, and the line there: the separator's own line end is used up by it.
    let (mut at, mut line) = (0, 1u32);
    while let Some(end) = find_line_end(text, at) {
        line += 1;
        at = end + 1;
        if !text[at..].starts_with(b"---") {
            continue;
        }
        let Some(stop) = find_line_end(text, at) else { break };
        let after = String::from_utf8_lossy(&text[at + 3..stop]);
        let after = after.trim();
        if !after.is_empty() && !after.starts_with('#') {
            let shown: String = format!("---{}", after.chars().take(40).collect::<String>());
            return Err(Error::at(line, 1, ErrorKind::Separator(shown)));
        }
        chunks.push(Chunk { text: &text[start..at], line: start_line });
        line += 1;
        at = stop + 1;
        (start, start_line) = (at, line);
    }
    chunks.push(Chunk { text: &text[start..], line: start_line });
    Ok(chunks)
}

fn find_line_end(text: &[u8], from: usize) -> Option<usize> {
    text[from..].iter().position(|b| *b == b'\n').map(|n| from + n)
}
