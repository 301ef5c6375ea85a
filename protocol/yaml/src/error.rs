//! What can be wrong with a text, and where.

use std::fmt;

/// A text that cannot be read, with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// 1-based line in the text given.
    pub line: u32,
    /// 1-based column in characters; 0 when only the line is known.
    pub column: u32,
    /// What is wrong there.
    pub kind: ErrorKind,
}

impl Error {
    pub(crate) fn at(line: u32, column: u32, kind: ErrorKind) -> Self {
        Self { line, column, kind }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.column == 0 {
            write!(f, "line {}: {}", self.line, self.kind)
        } else {
            write!(f, "line {}, column {}: {}", self.line, self.column, self.kind)
        }
    }
}

impl std::error::Error for Error {}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not YAML; the words are the scanner's.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A `%YAML` line with another version than the Go libraries read.
    #[error("`%YAML {0}.{1}`: only 1.1 is read; remove the line")]
    Version(i32, i32),
    /// Not JSON.
    #[error("not valid JSON: {0}")]
    Json(&'static str),
    /// A line that starts with `---` and goes on with more than a comment.
    #[error("`{0}`: a line that starts with `---` separates documents; put what follows on a line of its own")]
    Separator(String),
    /// The same key twice in one map.
    #[error("key `{key}` is already set on line {first}; remove one of the two")]
    DuplicateKey {
        /// The key's text.
        key: String,
        /// Where it was first.
        first: u32,
    },
    /// Two `<<` in one map.
    #[error("a second `<<` in one map; list the anchors in one: `<<: [*a, *b]`")]
    DuplicateMerge,
    /// A key that is a number, a Boolean, a date or null where only text can be a key.
    #[error("key `{0}` is not text; put it in quotes")]
    KeyNotText(String),
    /// A key that is a list or a map.
    #[error("a list or a map cannot be a key")]
    KeyNotScalar,
    /// `<<` with something else than a map or a list of maps.
    #[error("`<<` takes a map, an anchor of a map or a list of these")]
    MergeNotMap,
    /// An alias without its anchor.
    #[error("`*{0}` has no `&{0}` before it in this document")]
    UnknownAnchor(String),
    /// An anchor whose value holds its own alias.
    #[error("`*{0}` stands inside its own anchor, which would never end")]
    RecursiveAnchor(String),
    /// A tag that the text does not fit.
    #[error("`{text}` cannot be read as {tag}")]
    TagMismatch {
        /// The tag in its short form, as `!!int`.
        tag: String,
        /// The text, cut when long.
        text: String,
    },
    /// `!!binary` over text that is not base64.
    #[error("the value of !!binary is not base64")]
    NotBase64,
    /// More input bytes than allowed.
    #[error("{found} bytes; at most {limit} are read")]
    TooLong {
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// More documents than allowed.
    #[error("more than {0} documents")]
    TooManyDocuments(usize),
    /// Deeper than allowed.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// More values than allowed once anchors are expanded.
    #[error("more than {0} values once anchors are expanded")]
    TooManyNodes(usize),
    /// More text than allowed once anchors are expanded.
    #[error("more than {0} bytes of text once anchors are expanded")]
    TooMuchText(usize),
    /// More `%TAG` lines than anybody needs; the scanner compares each with all.
    #[error("more than {0} `%TAG` lines")]
    TooManyTagDirectives(usize),
}

/// A value that has no place in JSON or in kustomize's output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// `.inf` or `.nan`.
    #[error("line {line}: `{text}` is not a number that JSON can hold")]
    NotFinite {
        /// The text as written.
        text: String,
        /// 1-based line it came from, 0 when made by us.
        line: u32,
    },
    /// A scalar whose kind and text contradict each other, or a date out of range.
    #[error("line {line}: `{text}` cannot be written as {kind}")]
    Kind {
        /// The text as written.
        text: String,
        /// What it should be.
        kind: &'static str,
        /// 1-based line it came from, 0 when made by us.
        line: u32,
    },
    /// A character that kustomize cannot read back from its own JSON.
    #[error("line {line}: kustomize cannot write the character U+{code:04X}; remove it or keep the value as base64")]
    Character {
        /// The code point.
        code: u32,
        /// 1-based line it came from, 0 when made by us.
        line: u32,
    },
    /// A key that kustomize cannot read back from its own JSON.
    #[error("line {line}: a key of {length} characters; kustomize writes at most {limit}")]
    LongKey {
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
        /// 1-based line it came from, 0 when made by us.
        line: u32,
    },
    /// Deeper than the writer follows.
    #[error("line {line}: nested deeper than {limit} levels")]
    TooDeep {
        /// How deep it may be.
        limit: usize,
        /// 1-based line it came from, 0 when made by us.
        line: u32,
    },
}
