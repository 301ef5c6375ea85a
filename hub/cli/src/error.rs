//! Kinds of failure, their exit codes, and hints apart from the message.

use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub kind: Kind,
    /// What was attempted, on what, and what came of it.
    pub message: String,
    /// What to do, where there is something to do.
    pub hint: Option<String>,
}

/// Kinds of failure. Scripts branch on the exit code, so a number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Failed, or not in order.
    Failed,
    /// Wrong usage.
    Usage,
    /// The hub cannot be reached.
    Unreachable,
    /// No such cluster, unit or source.
    NotFound,
    /// The hub refused.
    Refused,
}

impl Kind {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
        }
    }
}

impl CliError {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints message and hint to stderr and gives the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.kind.code())
    }
}
