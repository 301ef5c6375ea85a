//! What rendering has to say: problems with codes, places and words, serialisable for `check repo` and `build --cluster`.

use std::fmt;

use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterName, UnitId};
use serde::{Deserialize, Serialize};

use crate::flux::{RenderState, RenderedCluster, RenderedUnit};
use crate::target::{Location, Lockdown, SourceDecl};

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
    /// `substituteFrom` names an optional object that Git does not hold: rendered without it.
    SubstitutionInputSkipped = Warning,
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
    /// An object of a kind that needs a namespace has none.
    NamespaceMissing = Warning,
    /// An object of a kind without namespace has one.
    NamespaceUnexpected = Warning,
    /// An API version no supported Kubernetes serves any more.
    RemovedVersion = Warning,
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

/// How far Driftless gets with a unit, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Rendered and applied as Flux would.
    Exact,
    /// Holds objects that drive another controller, which must run in the cluster.
    HandedThrough,
    /// Applied, but for objects that are withheld or fields that are not honoured yet.
    Partly,
    /// Suspended in Git.
    Suspended,
    /// Not applied: the cluster keeps what it has.
    Held,
}

/// What `check repo` and `build --cluster` say of a cluster, in a form machines read too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The folder of its root.
    pub root_path: String,
    /// Whether every unit that could define units was built: only then is anything deleted because its unit is gone.
    pub whole: bool,
    /// Counts over all units.
    pub totals: Totals,
    /// The units, sorted by id.
    pub units: Vec<UnitReport>,
    /// What concerns no unit in particular.
    pub problems: Vec<Problem>,
    /// Repositories the hub must fetch besides the root's own.
    pub wanted_sources: Vec<SourceDecl>,
    /// The revisions that were read.
    pub revisions: Vec<SourceRevision>,
    /// Lock-down flags found on Flux's controllers.
    pub lockdown: Lockdown,
}

/// Counts over units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Units in all.
    pub units: usize,
    /// Units held.
    pub held: usize,
    /// Units suspended in Git.
    pub suspended: usize,
    /// Objects to apply.
    pub objects: usize,
    /// Of these, objects that drive another controller.
    pub handed_through: usize,
    /// Objects withheld.
    pub withheld: usize,
    /// Problems of severity error.
    pub errors: usize,
    /// Problems of severity warning.
    pub warnings: usize,
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitReport {
    /// Its id.
    pub unit: UnitId,
    /// How far Driftless gets with it.
    pub level: Level,
    /// Where its Flux object is written.
    pub defined_at: Location,
    /// The unit that defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<UnitId>,
    /// Its source, `namespace/name`.
    pub source: String,
    /// Its folder.
    pub path: String,
    /// Objects to apply.
    pub objects: usize,
    /// Of these, objects that drive another controller.
    pub handed_through: usize,
    /// Objects withheld.
    pub withheld: usize,
    /// Everything its owners should know, findings of [`crate::lint`] included.
    pub problems: Vec<Problem>,
}

impl ClusterReport {
    /// The report of a rendered cluster.
    #[must_use]
    pub fn of(cluster: &ClusterName, rendered: &RenderedCluster) -> Self {
        let findings = crate::lint::lint(rendered);
        let units: Vec<UnitReport> = rendered.units.iter().map(|unit| UnitReport::of(unit, &findings)).collect();
        let problems = || rendered.problems.iter().chain(units.iter().flat_map(|u| &u.problems));
        let count = |severity| problems().filter(|p| p.severity() == severity).count();
        let level = |level| units.iter().filter(|u| u.level == level).count();
        let totals = Totals {
            units: units.len(),
            held: level(Level::Held),
            suspended: level(Level::Suspended),
            objects: units.iter().map(|u| u.objects).sum(),
            handed_through: units.iter().map(|u| u.handed_through).sum(),
            withheld: units.iter().map(|u| u.withheld).sum(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        };
        Self {
            cluster: cluster.clone(),
            root_path: rendered.root_path.clone(),
            whole: rendered.whole,
            totals,
            problems: rendered.problems.clone(),
            wanted_sources: rendered.wanted_sources.clone(),
            revisions: rendered.revisions.clone(),
            lockdown: rendered.lockdown.clone(),
            units,
        }
    }
}

impl UnitReport {
    fn of(unit: &RenderedUnit, findings: &[Problem]) -> Self {
        let handed_through = unit.objects().iter().filter(|o| o.handed_through).count();
        let withheld = unit.withheld().iter().filter(|w| w.code != Code::SourceNotSent).count();
        let lost = |p: &Problem| {
            matches!(p.code, Code::FieldNotHonoured | Code::UnknownField | Code::BadValue | Code::DuplicateObject)
        };
        let level = match &unit.state {
            RenderState::Held { .. } => Level::Held,
            RenderState::Suspended => Level::Suspended,
            RenderState::Full { .. } if withheld > 0 || unit.problems.iter().any(lost) => Level::Partly,
            RenderState::Full { .. } if handed_through > 0 => Level::HandedThrough,
            RenderState::Full { .. } => Level::Exact,
        };
        let found = findings.iter().filter(|p| p.unit.as_ref() == Some(&unit.id));
        Self {
            unit: unit.id.clone(),
            level,
            defined_at: unit.defined_at.clone(),
            parent: unit.parent.clone(),
            source: unit.source.clone(),
            path: unit.path.clone(),
            objects: unit.objects().len(),
            handed_through,
            withheld,
            problems: unit.problems.iter().chain(found).cloned().collect(),
        }
    }
}
