//! What rendering has to say: problems with codes, places and words, serialisable for `check repo` and `build --cluster`.

use std::fmt;

use driftless_protocol::id::UnitId;
use serde::{Deserialize, Serialize};

use crate::target::Location;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Good to know; everything is as Flux would have it.
    Info,
    /// Something is not done as Git says; the unit is still applied.
    Warning,
    /// A unit or an object is not applied because of it.
    Error,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $severity:ident,)*) => {
        /// Stable codes of [`Problem`] and of the reasons a unit is held or an object withheld.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as text, `CamelCase`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// How much it matters.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// No root was found for a cluster.
    RootNotFound = Error,
    /// A folder a unit names does not exist, or exists and holds nothing.
    PathNotFound = Error,
    /// A unit that builds to nothing: applied (and pruned) as Flux does, and said.
    EmptyRender = Warning,
    /// The kustomize build failed.
    BuildFailed = Error,
    /// A Flux object has a field of the wrong type, or lacks one that is required.
    InvalidSpec = Error,
    /// A source that a unit names is not declared in what this cluster renders.
    SourceNotDeclared = Error,
    /// A source is declared and the hub has not got it.
    SourceNotReady = Error,
    /// A source of a kind that is not rendered yet.
    SourceKindUnsupported = Error,
    /// `dependsOn` names a unit that does not exist.
    DependencyNotFound = Error,
    /// `dependsOn` goes in a circle.
    DependencyCycle = Error,
    /// Units that define each other.
    UnitCycle = Error,
    /// `substituteFrom` names an object that Git does not hold in plain.
    SubstitutionInputMissing = Error,
    /// Substitution failed: an undefined variable, bad syntax, or a result that is no YAML.
    SubstitutionFailed = Error,
    /// One object stands twice, in one unit or in two.
    DuplicateObject = Error,
    /// One unit is defined twice.
    DuplicateUnit = Error,
    /// A unit defined by a unit that is held.
    ParentHeld = Error,
    /// A unit whose parent is suspended: rendered from Git as it stands there.
    ParentSuspended = Info,
    /// An object without kind or name.
    Nameless = Error,
    /// An object that Git holds encrypted: not sent.
    Encrypted = Warning,
    /// An object that has no canonical form.
    NotRepresentable = Error,
    /// An object beyond the size limit.
    TooLarge = Error,
    /// More objects or units than a bundle may hold.
    TooMany = Error,
    /// A field Driftless does not honour yet.
    FieldNotHonoured = Warning,
    /// A field that no version of the API knows.
    UnknownField = Warning,
    /// An annotation or field whose value is not one of those known.
    BadValue = Warning,
    /// A field honoured here although Flux's own CRD does not have it.
    FieldExtension = Info,
    /// A kind that is handed through to its own controller.
    HandedThrough = Info,
    /// A Flux controller flag that changes nothing here.
    FlagNotHonoured = Info,
    /// A reference across namespaces, refused by `--no-cross-namespace-refs`.
    CrossNamespaceRef = Error,
    /// Something the author should know, from the build itself.
    BuildWarning = Warning,
    /// A source object that Driftless itself reads: sent only when an object handed through refers to it.
    SourceNotSent = Info,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something to tell the repository's owners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// What was attempted, on what, what came of it, what to do.
    pub message: String,
    /// The file and line to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
    /// The unit it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
}

impl Problem {
    /// A problem of a unit at a place.
    pub fn new(code: Code, unit: &UnitId, at: Option<Location>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at, unit: Some(unit.clone()) }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// As a reason of the bundle.
    #[must_use]
    pub fn reason(&self) -> driftless_protocol::bundle::Reason {
        reason(self.code, &self.message, self.at.as_ref())
    }
}

/// `file:line: Code: message`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A reason of the bundle from its parts.
#[must_use]
pub fn reason(code: Code, message: &str, at: Option<&Location>) -> driftless_protocol::bundle::Reason {
    let at = at.filter(|at| !at.file.is_empty());
    driftless_protocol::bundle::Reason {
        code: code.as_str().to_owned(),
        message: message.to_owned(),
        file: at.map(|at| at.file.to_string()),
        line: at.map(|at| at.line).filter(|line| *line > 0),
    }
}
