//! The command tree; its doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Installs, queries and steers a fleet of Kubernetes clusters kept by Driftless.
///
/// Commands that ask the hub need its admin address: `--hub`, or a context file as `driftless-hub init` writes it.
/// `build`, `plan`, `check repo` and `validate` work without a hub.
///
/// Exit codes: 0 done; 1 failed, or what was asked about is not in order; 2 wrong usage; 3 the hub cannot be reached;
/// 4 no such cluster, unit or source; 5 the hub refused.
#[derive(Debug, Parser)]
#[command(name = "driftless", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How to reach the hub.
    #[command(flatten)]
    pub connection: Connection,

    /// Output format of data; messages for people go to stderr.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How to reach the hub.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Context file with the hub's address and an admin certificate [default: ~/.config/driftless/context.yaml]
    #[arg(long, global = true, env = "DRIFTLESS_CONTEXT", value_name = "FILE")]
    pub context: Option<PathBuf>,

    /// The hub's local socket, on the hub's own machine; needs no certificate.
    #[arg(long, global = true, env = "DRIFTLESS_SOCKET", value_name = "PATH", conflicts_with = "context")]
    pub socket: Option<PathBuf>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// JUnit XML, of `validate` only.
    Junit,
    /// SARIF 2.1.0, of `validate` only.
    Sarif,
    /// Markdown for a comment on a pull request, of `plan` only.
    Markdown,
}

impl Output {
    /// As `-o` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Junit => "junit",
            Self::Sarif => "sarif",
            Self::Markdown => "markdown",
        }
    }
}

impl Command {
    /// Its name, and the formats it prints.
    #[must_use]
    pub const fn formats(&self) -> (&'static str, &'static [Output]) {
        use Output::{Json, Junit, Markdown, Sarif, Table, Yaml};
        match self {
            Self::Validate(_) => ("validate", &[Table, Json, Yaml, Junit, Sarif]),
            Self::Plan(_) => ("plan", &[Table, Json, Yaml, Markdown]),
            Self::Build(_) => ("build", &[Table, Json, Yaml]),
            Self::Check { what: Some(_) } => ("check repo", &[Table, Json, Yaml]),
            _ => ("this command", &[Table, Json, Yaml]),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole fleet at a glance.
    Status {
        /// Exit with 1 unless every unit of every cluster is ready.
        #[arg(long)]
        check: bool,
    },
    /// List things.
    #[command(subcommand)]
    Get(Get),
    /// Everything known about one unit in one cluster: objects, drift, held deletes, problems with file and line.
    Describe(UnitRef),
    /// Why is this unit as it is: the chain from source to health, with what each step waits for, on into the pods.
    Why(Why),
    /// Objects in the clusters that nobody declares: neither Git, nor a controller for another object, nor Kubernetes itself.
    ///
    /// The agents list all kinds by name; nothing is changed. Exit codes: 0 every cluster was looked at; 1 one could not be
    /// looked at wholly, or --check and there are some; 3 the hub cannot be reached; 4 no such cluster.
    Orphans(Orphans),
    /// How a cluster in shadow mode compares with Git: what Driftless would change if it were to write there.
    ///
    /// To be read before units are taken over from Flux. Exit codes: 0 zero differences; 1 something differs, is not compared
    /// yet, or the cluster is not in shadow mode; 4 no such cluster.
    Shadow {
        /// The cluster.
        cluster: String,
        /// Only units that differ.
        #[arg(long)]
        differing: bool,
    },
    /// Fetch the sources now, and let agents look again.
    Reconcile {
        /// Which unit; all when left out.
        #[command(flatten)]
        unit: OptionalUnit,
    },
    /// Stop applying, healing and pruning a unit until `resume`.
    Suspend(Steer),
    /// Take up a suspended unit again.
    Resume(Steer),
    /// What becomes of drift, whatever Git says: healed, left and alerted, or left and recorded. New commits are applied in
    /// every mode.
    DriftMode(SetDriftMode),
    /// Let no new content out: clusters keep what they have; healing and operator intents go on.
    Freeze {
        /// Only this cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// Why: shown to everybody who looks.
        #[arg(long)]
        reason: String,
    },
    /// Lift a freeze.
    Unfreeze {
        /// Only this cluster's.
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Let deletes happen that wait for a person: everything on one list, as `get deletes` shows it.
    Approve(Approve),
    /// What agents did to objects, newest first: applied, healed, pruned; kept 30 days, 1000 entries a unit.
    History(History),
    /// Who did what, newest last: the hub's audit log.
    Audit {
        /// Only rows after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Clusters and their enrolment.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Render without a hub: a kustomize folder, or a whole cluster as Flux would.
    Build(Build),
    /// What a change in Git would do to the clusters, before it is merged: objects and fields, deletes and what waits for
    /// approval, units that break. Needs no hub and no cluster, but for --live.
    ///
    /// Values of Secrets are never shown. Exit codes: 0 planned; 1 a unit that could be built before cannot be built now, or
    /// --fail-on applies; 2 wrong usage; 4 no such revision or cluster.
    Plan(Plan),
    /// Check that the hub can be reached; `check repo`: what of a repository Driftless honours.
    Check {
        /// What to check.
        #[command(subcommand)]
        what: Option<Check>,
    },
    /// Check rendered objects against the schemas of Kubernetes and of the repository's own definitions, and against each
    /// other.
    ///
    /// Needs no hub and no cluster. Exit codes: 0 nothing at or above --fail-on, 1 something was found, 2 wrong usage.
    Validate(Validate),
    /// What a cluster told its hub: versions, ConfigMaps it is allowed to tell.
    #[command(subcommand)]
    Facts(Facts),
}

/// `history`.
#[derive(Args, Clone, Debug)]
pub struct History {
    /// Only this unit: `name`, `namespace/name` (flux-system when left out).
    #[arg(value_name = "[NAMESPACE/]UNIT")]
    pub unit: Option<String>,
    /// Only in this cluster.
    #[arg(long)]
    pub cluster: Option<String>,
    /// How far back, such as 30m or 24h.
    #[arg(long, default_value = "24h")]
    pub since: String,
    /// At most so many, at most 1000.
    #[arg(long, default_value_t = 100)]
    pub limit: u64,
}

/// What a cluster told.
#[derive(Debug, Subcommand)]
pub enum Facts {
    /// Print a cluster's facts as a facts file, for --facts of build, check repo, validate and plan.
    Export {
        /// Which cluster.
        #[arg(long, value_name = "NAME")]
        cluster: String,
    },
}

/// `validate`.
#[derive(Args, Debug)]
pub struct Validate {
    /// The repository: the folder that Flux's paths are relative to.
    #[arg(value_name = "PATH", default_value = ".")]
    pub dir: PathBuf,
    /// Read this revision from Git instead of the files on disk (a branch, a tag, HEAD~1, a commit).
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Which clusters, and what they would tell.
    #[command(flatten)]
    pub clusters: ClusterChoice,
    /// The version of Kubernetes to check against: 1.36 or 1.35 [default: that of the facts, else the newest known]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<String>,
    /// A file or folder with more CustomResourceDefinitions. May be given several times.
    #[arg(long = "crds", value_name = "PATH")]
    pub definitions: Vec<PathBuf>,
    /// A namespace that the clusters have from elsewhere than Git. May be given several times.
    #[arg(long = "namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Exit with 1 when there is a finding at least this bad.
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// Everything: every finding and place.
    #[arg(long)]
    pub all: bool,
}

/// What to check.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// How far Driftless gets with every unit of a Flux repository, and every field, flag and kind it does not honour.
    ///
    /// Needs no hub and no cluster. Exit codes: 0 nothing at or above --fail-on, 1 something was found, 2 wrong usage.
    Repo(CheckRepo),
}

/// `check repo`.
#[derive(Args, Debug)]
pub struct CheckRepo {
    /// The repository: the folder that Flux's paths are relative to.
    #[arg(value_name = "PATH", default_value = ".")]
    pub dir: PathBuf,
    /// Read this revision from Git instead of the files on disk (a branch, a tag, HEAD~1, a commit).
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Which clusters, and what they would tell.
    #[command(flatten)]
    pub clusters: ClusterChoice,
    /// Write a facts file to fill in: the inputs that only the clusters have. With {name} in it, one for each cluster.
    #[arg(long, value_name = "FILE")]
    pub facts_template: Option<PathBuf>,
    /// Exit with 1 when there is a problem at least this bad.
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// Everything: every unit, place and note.
    #[arg(long)]
    pub all: bool,
    /// Say what a code means and what to do; without CODE, all of them.
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
}

/// From which severity on a check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// On errors.
    Error,
    /// On errors and warnings.
    Warning,
    /// On neither.
    Never,
}

/// Which clusters of a repository, and what they would tell.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterChoice {
    /// Only this cluster: its name, or its root folder. May be given several times.
    #[arg(long = "cluster", value_name = "NAME")]
    pub clusters: Vec<String>,
    /// A cluster's root folder, or a pattern for several, as clusters/{name} [default: every root that is found]
    #[arg(long = "path", value_name = "ROOT")]
    pub paths: Vec<String>,
    /// What the clusters would tell (ConfigMaps, versions), as YAML or JSON: one file for all, or a pattern with {name}.
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// The files of another source that units read: NAMESPACE/NAME=FOLDER (OCIRepository/NAMESPACE/NAME for that kind), with
    /// @REV after the folder for a revision of the repository there.
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<String>,
}

/// List things.
#[derive(Debug, Subcommand)]
pub enum Get {
    /// Units, as Flux users know them: name, ready, message, revision, last applied.
    #[command(aliases = ["unit", "kustomizations", "kustomization", "ks"])]
    Units {
        /// Only in this cluster.
        #[arg(long)]
        cluster: Option<String>,
        /// Only in this namespace.
        #[arg(long, short)]
        namespace: Option<String>,
        /// Only units that are not ready.
        #[arg(long)]
        not_ready: bool,
    },
    /// Deletes that wait for approval: one list per unit and content, with the clusters that hold it and every object.
    #[command(alias = "delete")]
    Deletes {
        /// Only in this cluster.
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Sources: what the hub mirrors, at which revision, and why not at a newer one.
    #[command(alias = "source")]
    Sources,
}

/// One unit in one cluster.
#[derive(Args, Clone, Debug)]
pub struct UnitRef {
    /// `name`, `namespace/name` (flux-system when left out).
    #[arg(value_name = "[NAMESPACE/]UNIT")]
    pub unit: String,
    /// In which cluster; may be left out when only one has the unit.
    #[arg(long)]
    pub cluster: Option<String>,
}

/// `why`.
#[derive(Args, Clone, Debug)]
pub struct Why {
    /// Which unit.
    #[command(flatten)]
    pub unit: UnitRef,
    /// Look into this object of the unit, healthy or not: KIND/NAME, KIND/NAMESPACE/NAME or NAME [default: those not healthy]
    #[arg(value_name = "OBJECT")]
    pub object: Option<String>,
    /// Ask the hub only, not the agent.
    #[arg(long)]
    pub no_live: bool,
}

/// `orphans`.
#[derive(Args, Clone, Debug)]
pub struct Orphans {
    /// Only in this cluster. May be given several times [default: all]
    #[arg(long = "cluster", value_name = "NAME")]
    pub clusters: Vec<String>,
    /// Only in this namespace. May be given several times.
    #[arg(long = "namespace", short, value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Only of this kind, as Deployment or Deployment.apps. May be given several times.
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
    /// Also what belongs to Kubernetes, its distribution, or Driftless itself.
    #[arg(long)]
    pub system: bool,
    /// Exit with 1 when there is one.
    #[arg(long)]
    pub check: bool,
}

/// A unit or all.
#[derive(Args, Clone, Debug)]
pub struct OptionalUnit {
    /// `name`, `namespace/name` (flux-system when left out).
    #[arg(value_name = "[NAMESPACE/]UNIT")]
    pub unit: Option<String>,
    /// In which cluster; all when left out.
    #[arg(long)]
    pub cluster: Option<String>,
}

/// A unit in one cluster or in all.
#[derive(Args, Clone, Debug)]
pub struct Steer {
    /// `name`, `namespace/name` (flux-system when left out).
    #[arg(value_name = "[NAMESPACE/]UNIT")]
    pub unit: String,
    /// In which cluster.
    #[arg(long, required_unless_present = "all_clusters")]
    pub cluster: Option<String>,
    /// In every cluster that has the unit.
    #[arg(long, conflicts_with = "cluster")]
    pub all_clusters: bool,
    /// Why: kept in the audit log and shown to everybody who looks.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// A drift mode for a unit or for all.
#[derive(Args, Clone, Debug)]
pub struct SetDriftMode {
    /// What to do with drift.
    pub mode: DriftModeWord,
    /// `name`, `namespace/name` (flux-system when left out); all units when left out, but for those that have a mode of their
    /// own.
    #[arg(value_name = "[NAMESPACE/]UNIT")]
    pub unit: Option<String>,
    /// In which cluster.
    #[arg(long, required_unless_present = "all_clusters")]
    pub cluster: Option<String>,
    /// In every cluster.
    #[arg(long, conflicts_with = "cluster")]
    pub all_clusters: bool,
    /// Why: kept in the audit log and shown to everybody who looks.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// What to do with drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriftModeWord {
    /// Heal it.
    Correct,
    /// Leave it, show it, alert.
    Warn,
    /// Leave it and show it.
    Observe,
    /// Do again as Git says.
    Git,
}

/// Deletes to be approved.
#[derive(Args, Clone, Debug)]
pub struct Approve {
    /// The list's id, from `driftless get deletes`. A list whose objects change is another list.
    #[arg(value_name = "LIST")]
    pub list: String,
    /// Only in this cluster. May be left out when only one holds the list.
    #[arg(long)]
    pub cluster: Option<String>,
    /// In every cluster that holds the list.
    #[arg(long, conflicts_with = "cluster")]
    pub all_clusters: bool,
    /// Why: kept in the audit log.
    #[arg(long)]
    pub reason: String,
}

/// Clusters and their enrolment.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// All clusters: connected or not, generation, units ready.
    List,
    /// Make a single-use token with which one cluster enrols.
    JoinToken {
        /// The cluster's name: a DNS label.
        #[arg(long)]
        name: String,
        /// Labels, as key=value. `driftless.dev/canary=true` makes it receive commits first.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// How long the token may be used, such as 30m or 24h (at most 24h).
        #[arg(long, default_value = "1h")]
        ttl: String,
    },
    /// Revoke a cluster for good: its agent may not come back, and its name is free again. Nothing in the cluster itself
    /// is touched.
    Remove {
        /// The cluster's name.
        name: String,
    },
}

/// Render without a hub.
#[derive(Args, Debug)]
pub struct Build {
    /// The folder to build as kustomize would; with --cluster, the repository.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Build this cluster's every unit as Flux would, from the root clusters/NAME (or --path).
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The cluster's root folder in the repository.
    #[arg(long, value_name = "ROOT", requires = "cluster")]
    pub path: Option<String>,
    /// How far the build may reach [default: the enclosing Git work tree, else the root of the file system]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Order of the objects: as accumulated (what Flux does), or by kind.
    #[arg(long, value_enum, default_value_t = Reorder::None)]
    pub reorder: Reorder,
    /// What the cluster would tell (ConfigMaps, versions), as JSON or YAML.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub facts: Option<PathBuf>,
    /// The files of another source that units read: NAMESPACE/NAME=FOLDER (OCIRepository/NAMESPACE/NAME for that kind), with
    /// @REV after the folder for a revision of the repository there.
    #[arg(long = "source", value_name = "SOURCE", requires = "cluster")]
    pub sources: Vec<String>,
}

/// `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// The repository: the folder that Flux's paths are relative to.
    #[arg(value_name = "REPO", default_value = ".")]
    pub dir: PathBuf,
    /// The revision before: a branch, a tag, a commit [default: where the head left the default branch]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// The revision after; `worktree` means the files on disk.
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    pub head: String,
    /// Which clusters, and what they would tell. --facts may also be a folder with a NAME.yaml for each cluster.
    #[command(flatten)]
    pub clusters: ClusterChoice,
    /// Have the clusters' API servers try what is new (a dry run by their agents, passed on by the hub): fields that cannot
    /// be changed, admission, rights, missing namespaces, fields of other managers.
    #[arg(long)]
    pub live: bool,
    /// Exit with 1 when objects are deleted (now or once approved); when units are held or something waits for approval; when
    /// there are warnings; when --live finds an object that would be refused, or could not ask.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub fail_on: Vec<PlanFailOn>,
    /// Show created objects whole (in a terminal; the other formats have them anyway).
    #[arg(long)]
    pub objects: bool,
    /// The longest Markdown, in bytes; what does not fit is cut, and said to be [default: what GitHub takes for a comment]
    #[arg(long, value_name = "BYTES", default_value_t = crate::plan::markdown::COMMENT_LIMIT, hide_default_value = true)]
    pub max_length: usize,
}

/// What makes a plan fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFailOn {
    /// Objects are deleted, now or once approved.
    Deletes,
    /// Units are held, or something waits for approval.
    Held,
    /// There are warnings.
    Warnings,
    /// An API server would refuse an object, or could not be asked.
    Live,
}

impl PlanFailOn {
    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deletes => "deletes",
            Self::Held => "held",
            Self::Warnings => "warnings",
            Self::Live => "live",
        }
    }
}

/// Order of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reorder {
    /// As accumulated.
    None,
    /// By kind, then by name, as the kustomize program does by default.
    Legacy,
}
