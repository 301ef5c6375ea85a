//! Two rules of other programs that hub and agent both need, as pure functions: Flux's text substitution
//! ([`substitute`]) and kustomize's content hash ([`content_hash_configmap`], [`content_hash_secret`]).

mod eval;
mod hash;
mod parse;
mod pattern;
mod rules;

pub use eval::{Limits, substitute, substitute_with};
pub use hash::{content_hash_configmap, content_hash_secret};
pub use parse::{Use, variables};
pub use rules::{SUBSTITUTE_KEY, check_names, is_disabled, is_valid_name, value_of};

/// A text that cannot be substituted, with the line of the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// 1-based line in the text given.
    pub line: u32,
    /// What is wrong there.
    pub kind: ErrorKind,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}

impl std::error::Error for Error {}

/// What is wrong with an expression or a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Strict mode and a variable without value and default.
    #[error(
        "variable `{name}` is not set; set it, give a default with `${{{name}:=value}}`, or write `$${{` for a literal `${{`"
    )]
    NotSet {
        /// The variable.
        name: String,
    },
    /// `${` without a name after it.
    #[error("`{text}`: a variable name was expected after `${{`; write `$${{` for a literal `${{`")]
    NoName {
        /// The start of the expression.
        text: String,
    },
    /// An expression that does not end, or an operator Flux does not know.
    #[error("`{text}`: `}}` or an operator was expected after `{name}`; write `$${{` for a literal `${{`")]
    Unclosed {
        /// The variable.
        name: String,
        /// The start of the expression.
        text: String,
    },
    /// An operator without what it needs.
    #[error("`{text}`: the operator `{operator}` of `{name}` is incomplete or followed by more than it takes")]
    Operand {
        /// The variable.
        name: String,
        /// The operator as written.
        operator: String,
        /// The start of the expression.
        text: String,
    },
    /// A variable name that cannot be used.
    #[error("`{name}` cannot be a variable name: a letter or `_` first, then letters, digits and `_`")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A result that would begin or end inside a character of several bytes. Flux writes broken text there.
    #[error("the expression on `{name}` cuts a character in two; offsets, lengths and `?` count bytes")]
    CutsCharacter {
        /// The variable.
        name: String,
    },
    /// Expressions too deep inside each other.
    #[error("expressions nested deeper than {0} levels")]
    TooDeep(usize),
    /// A result that is too long.
    #[error("the result is longer than {0} bytes")]
    TooLong(usize),
    /// A pattern over a value that would take too long to match.
    #[error("the pattern of `{name}` takes more than {limit} steps on its value")]
    TooManySteps {
        /// The variable.
        name: String,
        /// The limit.
        limit: u64,
    },
}

impl ErrorKind {
    /// The same words without the text that the expression stands in, for where that text is secret.
    #[must_use]
    pub fn without_text(&self) -> String {
        const DOLLAR: &str = "write `$${` for a literal `${`";
        match self {
            Self::NoName { .. } => format!("a variable name was expected after a `${{` (not shown); {DOLLAR}"),
            Self::Unclosed { .. } => format!("`}}` or an operator was expected after a `${{` (not shown); {DOLLAR}"),
            Self::Operand { .. } => {
                "an operator in an expression (not shown) is incomplete or followed by more than it takes".to_owned()
            }
            other => other.to_string(),
        }
    }
}
