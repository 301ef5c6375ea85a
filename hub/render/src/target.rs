//! What rendering may see besides files: which cluster, which root, which sources, which variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use driftless_protocol::bundle::{LATE_FORMAT, TEXT_FORMAT};
pub use driftless_protocol::facts::Facts;
use driftless_protocol::id::{ClusterName, Revision};
use serde::{Deserialize, Serialize};

use crate::tree::Tree;

/// A place in a source: a file and a 1-based line, 0 when the file as a whole is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// `namespace/name` of the source.
    pub source: Arc<str>,
    /// Path from the root of the source; empty when nothing in a file says it.
    pub file: Arc<str>,
    /// 1-based line; 0 when the file as a whole is meant.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, _) => write!(f, "source {}", self.source),
            (false, 0) => f.write_str(&self.file),
            (false, line) => write!(f, "{}:{line}", self.file),
        }
    }
}

/// What of a Git repository is checked out: `spec.ref`, by Flux's precedence commit, name, semver, tag, branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GitRef {
    /// A branch; Flux's default is `master`.
    Branch(String),
    /// A tag.
    Tag(String),
    /// The newest tag in a range.
    Semver(String),
    /// A full reference name, `refs/...`.
    Name(String),
    /// A commit.
    Commit(String),
    /// The digest of an OCI artifact, `sha256:...`.
    Digest(String),
}

impl Default for GitRef {
    fn default() -> Self {
        Self::Branch("master".to_owned())
    }
}

impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Semver(range) => write!(f, "semver {range}"),
            Self::Name(name) => write!(f, "ref {name}"),
            Self::Digest(digest) => write!(f, "digest {digest}"),
            Self::Commit(id) => write!(f, "commit {id}"),
        }
    }
}

/// One source at one revision.
#[derive(Clone)]
pub struct SourceTree {
    /// `namespace/name` of the Flux source object, as the bundle's head names it.
    pub id: String,
    /// Its files.
    pub tree: Arc<dyn Tree>,
    /// Its revision.
    pub revision: Revision,
    /// Its address, without anything secret.
    pub url: String,
    /// What was asked for.
    pub reference: GitRef,
}

impl fmt::Debug for SourceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceTree({} at {})", self.id, self.revision)
    }
}

/// A source object found in the repository: what the hub must fetch for the units that use it. Credentials are named,
/// never resolved here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceDecl {
    /// `namespace/name`.
    pub id: String,
    /// `GitRepository`, `OCIRepository`, `Bucket`, `ExternalArtifact`.
    pub kind: String,
    /// `spec.url`, as written but without user and password.
    pub url: String,
    /// `spec.ref`.
    pub reference: GitRef,
    /// `spec.secretRef.name`, in the namespace of the source.
    pub secret: Option<String>,
    /// `spec.interval` in seconds.
    pub interval_seconds: u64,
    /// `spec.timeout` in seconds.
    pub timeout_seconds: u64,
    /// `spec.ignore`: gitignore rules that replace the default exclusions.
    pub ignore: Option<String>,
    /// `spec.suspend`: fetch nothing new.
    pub suspend: bool,
    /// `spec.sparseCheckout`: only what begins so is part of the source; everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// `spec.recurseSubmodules`.
    #[serde(default)]
    pub submodules: bool,
    /// `spec.include`: other repositories whose files become part of this source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Include>,
    /// `spec.verify` of a GitRepository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What of an OCI artifact is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactDecl>,
    /// Why this source cannot be used at all: a field that must not be passed over, and the place it is written at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<(String, Location)>,
    /// Where it is declared.
    pub declared_at: Location,
}

/// One entry of `spec.include`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Include {
    /// The GitRepository, in the namespace of the source.
    pub repository: String,
    /// The folder or file to take; empty for all of it.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// Where it is written.
    pub at: Location,
}

/// Which Git objects must carry a good signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VerifyMode {
    /// The commit.
    #[serde(rename = "HEAD")]
    Head,
    /// The tag.
    Tag,
    /// Both.
    TagAndHead,
}

/// `spec.verify`: nothing of the repository is used unless it is signed with one of these keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// What is checked.
    pub mode: VerifyMode,
    /// `secretRef.name`, in the namespace of the source.
    pub secret: String,
    /// Public keys by the name of their entry in that Secret, where Git holds it in plain; else the hub's configuration
    /// gives them. Not for reports: nobody vouches that the Secret holds nothing else.
    #[serde(skip)]
    pub keys: Option<BTreeMap<String, String>>,
}

/// What of an OCI artifact is taken, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactDecl {
    /// `ref.semverFilter`: tags that do not match this regular expression are no candidates.
    pub semver_filter: Option<String>,
    /// `layerSelector.mediaType`; the first layer where not given.
    pub media_type: Option<String>,
    /// `layerSelector.operation: copy`: the layer is one file, as it is.
    pub copy: bool,
    /// `spec.insecure`: plain http.
    pub insecure: bool,
}

impl SourceDecl {
    /// What a unit's status, a location or a revision calls this source: `namespace/name`, for other kinds than GitRepository
    /// with the kind before it.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.kind, &self.id)
    }

    /// Equal exactly where one fetch serves both: what is fetched from where, and whose signature it must carry.
    #[must_use]
    pub fn fetch_key(&self) -> String {
        let verify = self.verify.as_ref().map(|v| (v.mode, &v.secret, &v.keys));
        let id = verify.is_some().then_some(&self.id);
        format!("{:?}", (&self.kind, normal_url(&self.url), &self.reference, &self.artifact, verify, id))
    }
}

/// See [`SourceDecl::label`].
#[must_use]
pub fn label(kind: &str, id: &str) -> String {
    if kind == "GitRepository" { id.to_owned() } else { format!("{kind}/{id}") }
}

/// What the hub knows of a declared source.
#[derive(Clone, Debug)]
pub enum SourceState {
    /// Fetched.
    Ready(SourceTree),
    /// Not there yet, or cannot be fetched: why, for people.
    Missing(String),
}

/// The sources at hand.
pub trait Sources: Sync {
    /// The source that holds the cluster's root.
    fn root(&self) -> &SourceTree;

    /// Another source by its declaration. Asked only for repositories that are not the root's own.
    fn find(&self, wanted: &SourceDecl) -> SourceState;

    /// The root's own repository at another ref, where that can be read without fetching anything. A hub fetches it as any
    /// other source.
    fn root_at(&self, reference: &GitRef) -> Option<SourceTree> {
        let _ = reference;
        None
    }

    /// Whether the signature of the root's revision was checked by the hub's configuration.
    fn root_is_verified(&self) -> bool {
        false
    }

    /// Whether this address with this ref is the root's own repository by the hub's configuration, besides what
    /// [`same_repository`] says.
    fn is_alias(&self, wanted: &SourceDecl) -> bool {
        let _ = wanted;
        false
    }
}

/// How [`SourceState::Missing`] begins where nobody looked: a command without a hub was not given the source.
pub const NOT_AT_HAND: &str = "it is not at hand here";

/// Sources in a plain list: for `build`, `check repo` and tests.
#[derive(Clone, Debug)]
pub struct SourceSet {
    root: SourceTree,
    others: Vec<SourceTree>,
    named: BTreeMap<String, SourceTree>,
    aliases: Vec<(String, GitRef)>,
}

impl SourceSet {
    /// Only the root's source.
    #[must_use]
    pub fn new(root: SourceTree) -> Self {
        Self { root, others: Vec::new(), named: BTreeMap::new(), aliases: Vec::new() }
    }

    /// Adds another repository, found by its `url` and `reference`.
    #[must_use]
    pub fn with(mut self, source: SourceTree) -> Self {
        self.others.push(source);
        self
    }

    /// Adds a source, found by its label ([`SourceDecl::label`]) or its `namespace/name`, whatever its address and reference.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, source: SourceTree) -> Self {
        self.named.insert(name.into(), source);
        self
    }

    /// Says that this address at this ref is the root's own repository.
    #[must_use]
    pub fn alias(mut self, url: impl Into<String>, reference: GitRef) -> Self {
        self.aliases.push((normal_url(&url.into()), reference));
        self
    }
}

impl Sources for SourceSet {
    fn root(&self) -> &SourceTree {
        &self.root
    }

    fn find(&self, wanted: &SourceDecl) -> SourceState {
        let url = normal_url(&wanted.url);
        let named = self.named.get(&wanted.label()).or_else(|| self.named.get(&wanted.id));
        let by_address = || self.others.iter().find(|s| normal_url(&s.url) == url && s.reference == wanted.reference);
        match named.or_else(by_address) {
            Some(source) => SourceState::Ready(SourceTree { id: wanted.id.clone(), ..source.clone() }),
            None => SourceState::Missing(format!("{NOT_AT_HAND}; give its files: --source {}=FOLDER", wanted.label())),
        }
    }

    fn is_alias(&self, wanted: &SourceDecl) -> bool {
        let url = normal_url(&wanted.url);
        self.aliases.iter().any(|(u, r)| *u == url && *r == wanted.reference)
    }
}

/// Whether two addresses name one repository: the same host, port and path, whatever the scheme and user, with or without
/// `.git` (decisions.md, "Flux objects as input").
#[must_use]
pub fn same_repository(a: &str, b: &str) -> bool {
    normal_url(a) == normal_url(b)
}

/// The address as `host[:port]/path`, lower-case host, without scheme, user, default port, query, `.git` and outer slashes.
#[must_use]
pub fn normal_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        // `user@host:path`, as ssh writes it; a path of this machine has its slash first.
        None => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') => ("ssh".to_owned(), format!("{host}/{path}")),
            _ => ("file".to_owned(), url.to_owned()),
        },
    };
    if scheme == "file" {
        return format!("file:{}", trim_path(&rest));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        "ssh" => ":22",
        _ => "",
    };
    let host = host.strip_suffix(default_port).filter(|_| !default_port.is_empty()).unwrap_or(&host);
    format!("{host}/{}", trim_path(path))
}

fn trim_path(path: &str) -> &str {
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/')
}

/// Where a cluster's root is in the root source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RootSpec {
    /// A folder, given by the hub's configuration.
    Path(String),
    /// A pattern with `{name}` for the cluster's name.
    Pattern(String),
}

impl Default for RootSpec {
    fn default() -> Self {
        Self::Pattern("clusters/{name}".to_owned())
    }
}

impl RootSpec {
    /// The folder for a cluster of this name, without `./` and outer slashes.
    #[must_use]
    pub fn path(&self, cluster: &ClusterName) -> String {
        let text = match self {
            Self::Path(path) => path.clone(),
            Self::Pattern(pattern) => pattern.replace("{name}", cluster.as_str()),
        };
        crate::flux::path::normal(&text).unwrap_or(text)
    }
}

/// For whom to render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Where its root is.
    pub root: RootSpec,
    /// Variables of the hub's configuration: the first and weakest `substituteFrom` of units that have `postBuild`.
    pub variables: BTreeMap<String, String>,
    /// What the cluster told; `None` before it did.
    pub facts: Option<Facts>,
    /// ConfigMaps, `namespace/name`, that the cluster is configured to tell: a unit that needs one waits for it.
    pub expected_facts: BTreeSet<String>,
    /// The newest format of unit bodies that its agent reads: what needs a newer one is held.
    pub agent_reads: u32,
}

impl Target {
    /// A target with the default root pattern and nothing else.
    #[must_use]
    pub fn new(cluster: ClusterName) -> Self {
        Self {
            cluster,
            root: RootSpec::default(),
            variables: BTreeMap::new(),
            facts: None,
            expected_facts: BTreeSet::new(),
            agent_reads: TEXT_FORMAT,
        }
    }

    /// With what the cluster told. Facts that do not say what the agent reads, since people wrote them, are of one as new as
    /// this program.
    #[must_use]
    pub fn with_facts(self, facts: Option<Facts>) -> Self {
        let agent_reads =
            facts.as_ref().map(|f| f.body_format).filter(|format| *format > 0).unwrap_or(self.agent_reads);
        Self { facts, agent_reads, ..self }
    }

    /// With what the cluster's agent itself told, or has not told yet: one that says nothing reads no more than
    /// [`LATE_FORMAT`].
    #[must_use]
    pub fn told(self, facts: Option<Facts>) -> Self {
        Self { agent_reads: LATE_FORMAT, ..self }.with_facts(facts)
    }
}

/// Lock-down flags of Flux's controllers found in the repository: defaults of the cluster's units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lockdown {
    /// `--default-service-account`.
    pub default_service_account: Option<String>,
    /// `--no-cross-namespace-refs`.
    pub no_cross_namespace_refs: bool,
    /// `--no-remote-bases` (rendering never fetches remote bases anyway).
    pub no_remote_bases: bool,
    /// `--feature-gates` of kustomize-controller, by name.
    pub feature_gates: BTreeMap<String, bool>,
    /// Flags that are known and change nothing here, and those not known, as written.
    pub other_flags: Vec<String>,
    /// Where the flags were found.
    pub found_at: Option<Location>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_many_addresses() {
        let one = "https://github.com/equinor/radix-flux";
        for same in [
            "ssh://git@github.com/equinor/radix-flux",
            "git@github.com:equinor/radix-flux.git",
            "https://GitHub.com:443/equinor/radix-flux/",
            "https://user:secret@github.com/equinor/radix-flux.git?x=1",
            "ssh://git@github.com:22/equinor/radix-flux.git",
        ] {
            assert!(same_repository(one, same), "{same} is another repository");
        }
        for other in [
            "https://github.com/equinor/radix",
            "https://github.com:8443/equinor/radix-flux",
            "file:///equinor/radix-flux",
        ] {
            assert!(!same_repository(one, other), "{other} is the same repository");
        }
    }
}
