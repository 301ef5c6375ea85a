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
    ($($(#[doc = $doc:literal])+ $name:ident = $severity:ident,)*) => {
        /// Stable codes of [`Problem`] and of the reasons a unit is held or an object withheld. The text of each is what
        /// `driftless check repo --explain` prints: what it means and what happens, then what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)*
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

            /// What it means, and after an empty line what to do: a line for each line of the source.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc, "\n"),+),)* }
            }
        }
    };
}

impl Code {
    /// What it means and what happens, in one line.
    #[must_use]
    pub fn meaning(self) -> String {
        self.paragraph(0)
    }

    /// What to do about it, in one line; empty where there is nothing to do.
    #[must_use]
    pub fn remedy(self) -> String {
        self.paragraph(1)
    }

    fn paragraph(self, wanted: usize) -> String {
        let mut paragraphs = self.text().split("\n \n").flat_map(|p| p.split("\n\n"));
        let text = paragraphs.nth(wanted).unwrap_or_default();
        text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

codes! {
    /// No root was found for a cluster: nothing of it is rendered, and it keeps what it has.
    ///
    /// Name the root's folder: `--path` here, the cluster's `rootPath` in the hub's configuration.
    RootNotFound = Error,
    /// A folder a unit names does not exist, or exists and holds nothing: the unit keeps what it has in the cluster.
    ///
    /// Restore the folder or correct `spec.path`; to remove the objects, delete the Kustomization.
    PathNotFound = Error,
    /// A unit that builds to nothing: applied (and pruned) as Flux does, and said.
    ///
    /// If that is not meant, look at the kustomization file's `resources`.
    EmptyRender = Warning,
    /// The kustomize build failed: the unit keeps what it has in the cluster, as with Flux.
    ///
    /// Correct the file and line named; `driftless build FOLDER` shows the same error.
    BuildFailed = Error,
    /// A Flux object has a field of the wrong type, or lacks one that is required; the API server would refuse it.
    ///
    /// Correct the field at the place named.
    InvalidSpec = Error,
    /// A source that a unit names is not declared in what this cluster renders.
    ///
    /// Add the source object to Git, or correct `spec.sourceRef`.
    SourceNotDeclared = Error,
    /// A source is declared and the hub has not got it: units that read it are held.
    ///
    /// The message says what stands in the way; the hub tries again by itself.
    SourceNotReady = Error,
    /// A source is declared in Git, and this command has no files of it: the units that read it are not checked here. A hub
    /// fetches it.
    ///
    /// Give a clone of it: `--source NAMESPACE/NAME=FOLDER`.
    SourceNotAtHand = Warning,
    /// A source of a kind that is not rendered: units that read it are held.
    ///
    /// Publish the same files in a Git repository or as an OCI artifact, or leave these units with Flux.
    SourceKindUnsupported = Error,
    /// A source has a field that must not be passed over and that Driftless cannot honour: nothing of it is used, and units
    /// that read it are held.
    ///
    /// The message names the field and what to do instead.
    SourceRefused = Error,
    /// Sources that are made of each other: units that read them are held. With Flux they would never become ready either.
    ///
    /// Remove one of the references named.
    SourceCycle = Error,
    /// An include or a sparse checkout of a source finds nothing to take, or no place to put it: units that read the source are
    /// held, as with Flux.
    ///
    /// Correct the path named.
    IncludeFailed = Error,
    /// An ArtifactGenerator cannot make an artifact: units that read it are held, as with Flux.
    ///
    /// Correct the copy named.
    ArtifactFailed = Error,
    /// `dependsOn` names a unit that does not exist: the unit would wait for ever, with Flux too.
    ///
    /// Add that Kustomization, or remove the dependency.
    DependencyNotFound = Error,
    /// `dependsOn` goes in a circle: none of these units would ever be applied, with Flux neither.
    ///
    /// Remove one of the dependencies named.
    DependencyCycle = Error,
    /// Units that define each other, or a root that changes each time it is built.
    ///
    /// Let each Kustomization be defined in one place, above what it applies.
    UnitCycle = Error,
    /// `substituteFrom` names a ConfigMap that the hub's configuration says the cluster tells, and that it has not told: the
    /// unit is held.
    ///
    /// Let the agent tell it (`facts.configMaps` of its chart), or tell this command what the cluster has: `--facts FILE`
    /// (`--facts-template FILE` writes one to fill in).
    SubstitutionInputMissing = Error,
    /// `substituteFrom` names an object that only the cluster has: the agent reads it there and fills the values in.
    SubstitutionInputLate = Info,
    /// What an object is called, or the definition of another unit beyond its `postBuild.substitute`, needs a value that only
    /// the cluster has: it is not sent.
    ///
    /// Give the variable a value in Git, or by a cluster fact; or let the other unit name the Secret in its own
    /// `substituteFrom`.
    HoleRefused = Error,
    /// The cluster's agent cannot read what this unit needs, or has not told yet that it can: the unit is held, and goes on by
    /// itself once it has.
    ///
    /// Update the agent.
    AgentTooOld = Error,
    /// Substitution failed: an undefined variable, bad syntax, or a result that is no YAML. The unit is held, as with Flux.
    ///
    /// Define the variable, give it a default (`${NAME:-value}`), or write `$${...}` where no variable is meant.
    SubstitutionFailed = Error,
    /// One object stands twice, in one unit or in two. Two Flux Kustomizations would overwrite each other for ever; here the
    /// unit furthest up the dependencies applies it and the other does not.
    ///
    /// Remove one of the two.
    DuplicateObject = Error,
    /// One unit is defined twice: the first is used.
    ///
    /// Remove one of the two.
    DuplicateUnit = Error,
    /// A unit defined by a unit that is held: its definition may have values that are not known, so it is held too.
    ///
    /// See to the unit that defines it.
    ParentHeld = Error,
    /// A unit whose parent is suspended: rendered from Git as it stands there.
    ///
    /// Suspend it too if it should not follow Git.
    ParentSuspended = Info,
    /// An object without apiVersion, kind or name: its whole unit is held, as with Flux.
    ///
    /// Add what is missing; a file that is no manifest belongs into `.sourceignore` or out of the folder.
    Nameless = Error,
    /// An object that Git holds encrypted: not sent. What the cluster has stays as it is; on a new cluster nobody makes it.
    ///
    /// Decryption in the agent is not there yet: create such objects by hand or leave their unit with Flux.
    Encrypted = Warning,
    /// An object that has no canonical form (a number no JSON can carry, a text that is no Unicode): not sent.
    ///
    /// Correct the value named.
    NotRepresentable = Error,
    /// An object beyond the size that etcd takes in one request: not sent, and no tool could apply it.
    ///
    /// Split it, or leave its content out of Git.
    TooLarge = Error,
    /// More objects or units than a bundle may hold: what is beyond is held.
    ///
    /// Move some to another cluster.
    TooMany = Error,
    /// A field Driftless does not honour yet: the message says what happens instead.
    ///
    /// If that is not acceptable, leave the unit with Flux for now.
    FieldNotHonoured = Warning,
    /// A field that no version of the API knows: Flux's API server refuses or drops it, here it changes nothing.
    ///
    /// Correct the spelling, or remove it.
    UnknownField = Warning,
    /// An annotation or field whose value is not one of those known: it changes nothing.
    ///
    /// Use one of the values the message names.
    BadValue = Warning,
    /// A field honoured here although Flux's own CRD does not have it: the message says what it does here.
    FieldExtension = Info,
    /// A kind that is handed through to its own controller, which must run in the cluster.
    HandedThrough = Info,
    /// A handed-through object that cannot work: what it refers to is not sent, or nobody reads what it writes.
    ///
    /// The message says what is missing and where it should be.
    HandedThroughBroken = Error,
    /// A handed-through object refers to something that was not found, and may stand in a unit that is held, suspended or
    /// not at hand.
    ///
    /// See to those units first.
    HandedThroughUnclear = Warning,
    /// A handed-through object listens to, or wakes, something that Driftless does itself: it stays in the cluster and has no
    /// effect on units that Driftless applies.
    ///
    /// Use the hub's own notifications and webhooks for these units.
    HandedThroughIdle = Warning,
    /// Git keeps Flux's own kustomize-controller running, which would apply the same units.
    ///
    /// Before the cluster is taken over, leave kustomize-controller out, or suspend what it applies.
    FluxStillApplies = Warning,
    /// A Flux controller flag that changes nothing here.
    FlagNotHonoured = Info,
    /// A reference across namespaces, refused by `--no-cross-namespace-refs`: the unit is held, as with Flux.
    ///
    /// Use a source in the unit's own namespace.
    CrossNamespaceRef = Error,
    /// Something the author should know, from the build itself.
    ///
    /// See the message.
    BuildWarning = Warning,
    /// An object of a kind that needs a namespace has none: it is refused, as Flux refuses it (`namespace not specified`).
    ///
    /// Set `metadata.namespace`, or `spec.targetNamespace` of the unit.
    NamespaceMissing = Error,
    /// An object of a kind without namespace has one.
    ///
    /// Remove `metadata.namespace`.
    NamespaceUnexpected = Warning,
    /// An API version no supported Kubernetes serves any more: the API server refuses the object.
    ///
    /// Use the version the message names.
    RemovedVersion = Warning,
    /// A source object that Driftless itself reads: sent only when an object handed through refers to it.
    SourceNotSent = Info,
    /// A field that the schema of the kind does not have: a strict API server refuses the object, others drop the field.
    ///
    /// Correct the spelling, or the place it is indented to.
    SchemaUnknownField = Error,
    /// A value of another type than the schema says: the API server refuses the object.
    ///
    /// Correct the value; a number or boolean where text is wanted needs quotes.
    SchemaWrongType = Error,
    /// A field that the schema requires is missing: the API server refuses the object.
    ///
    /// Add it.
    SchemaRequired = Error,
    /// A value that is none of those the schema allows: the API server refuses the object.
    ///
    /// Use one of the values the message names.
    SchemaEnum = Error,
    /// A value outside what the schema allows (pattern, range, length, a combination of fields).
    ///
    /// Correct the value.
    SchemaValue = Error,
    /// No schema is known for a kind: its objects are not checked.
    ///
    /// Put its CustomResourceDefinition into the repository, or name a file with it: `--crds FILE`.
    SchemaMissing = Info,
    /// A CustomResourceDefinition whose schema cannot be used here: objects of its kind are not checked.
    ///
    /// See the message.
    SchemaUnusable = Warning,
    /// A version of an API of Kubernetes that this version of Kubernetes does not serve: the API server refuses the object.
    ///
    /// Use the version the message names.
    VersionNotServed = Error,
    /// A version of an API that a later Kubernetes does not serve any more.
    ///
    /// Use the version the message names before the cluster is upgraded.
    VersionDeprecated = Warning,
    /// A version of an API that Kubernetes serves only where it was switched on (`--runtime-config`).
    ///
    /// Make sure the cluster's API server has it on.
    VersionOffByDefault = Warning,
    /// An object in a namespace that nothing in Git declares: the API server refuses the object until somebody makes it.
    ///
    /// Add the Namespace to Git, or name it (`--namespace NAME`) when the clusters have it from elsewhere.
    NamespaceUndeclared = Warning,
    /// A unit of one cluster reads files that belong to another cluster: a change meant for that one changes this one too.
    ///
    /// Move what both use to a folder of neither.
    ForeignFiles = Warning,
    /// A value of one cluster's object names another cluster: often a copy that was not adapted.
    ///
    /// Correct it if it is one.
    ForeignName = Warning,
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
        let mut out = Self {
            cluster: cluster.clone(),
            root_path: rendered.root_path.clone(),
            whole: rendered.whole,
            totals: Totals::default(),
            units: rendered.units.iter().map(|unit| UnitReport::of(unit, &findings)).collect(),
            problems: rendered.problems.clone(),
            wanted_sources: rendered.wanted_sources.clone(),
            revisions: rendered.revisions.clone(),
            lockdown: rendered.lockdown.clone(),
        };
        out.count();
        out
    }

    /// Every problem, those of the cluster first, then by unit.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.units.iter().flat_map(|u| &u.problems))
    }

    /// Counts again, after problems were added or judged otherwise.
    pub(crate) fn count(&mut self) {
        let count = |severity| self.all_problems().filter(|p| p.severity() == severity).count();
        let level = |level| self.units.iter().filter(|u| u.level == level).count();
        self.totals = Totals {
            units: self.units.len(),
            held: level(Level::Held),
            suspended: level(Level::Suspended),
            objects: self.units.iter().map(|u| u.objects).sum(),
            handed_through: self.units.iter().map(|u| u.handed_through).sum(),
            withheld: self.units.iter().map(|u| u.withheld).sum(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
        };
    }
}

impl Totals {
    /// Adds the counts of another cluster.
    pub fn add(&mut self, other: &Self) {
        let Self { units, held, suspended, objects, handed_through, withheld, errors, warnings } = other;
        self.units += units;
        self.held += held;
        self.suspended += suspended;
        self.objects += objects;
        self.handed_through += handed_through;
        self.withheld += withheld;
        self.errors += errors;
        self.warnings += warnings;
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
            RenderState::Suspended { .. } => Level::Suspended,
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
