//! What can be wrong with a build, said with file, line and what to do.

use std::fmt;
use std::sync::Arc;

/// A place in the tree: a file and a 1-based line, 0 when the whole file is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Path from the root of the tree.
    pub file: Arc<str>,
    /// 1-based line; 0 when the file as a whole is meant.
    pub line: u32,
}

impl Origin {
    /// A place.
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: file.into(), line }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// The class of a failure, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A file or folder that is named does not exist.
    Missing,
    /// A file is not the YAML it should be.
    Syntax,
    /// A field of a kustomization file is unknown, of the wrong type, or contradicts another.
    Field,
    /// A patch, replacement or reference finds no target, or too many.
    Target,
    /// Two objects have the same identity.
    Conflict,
    /// Something that rendering never does: remote bases, programs, Helm inflation.
    Refused,
    /// A limit on size, depth or number.
    Limit,
    /// The tree itself could not be read: not the author's fault, worth a retry.
    Tree,
}

/// Why a build failed: where, what was attempted, and what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{place}: {attempt}{}", .help.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct BuildError {
    /// The class.
    pub kind: ErrorKind,
    /// The file and line to look at.
    pub place: Origin,
    /// What was attempted, on what, and why it failed.
    pub attempt: String,
    /// What to do.
    pub help: Option<String>,
}

impl BuildError {
    /// A failure at a place.
    pub fn new(kind: ErrorKind, place: Origin, attempt: impl Into<String>) -> Self {
        Self { kind, place, attempt: attempt.into(), help: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Something that did not stop the build and that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file and line to look at.
    pub place: Origin,
    /// What is odd, and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
