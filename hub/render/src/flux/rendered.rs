//! What a rendered cluster consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{Late, ObjectOptions, UnitSpec};
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_yaml::{Dialect, Limits, Node, parse_one};

use crate::report::{Code, Problem};
use crate::target::{Location, Lockdown, SourceDecl};
use crate::tree::ContentId;

/// All units of one cluster.
#[derive(Clone, Debug, Default)]
pub struct RenderedCluster {
    /// The folder of the root, in the root source.
    pub root_path: String,
    /// The units, sorted by id, each once.
    pub units: Vec<RenderedUnit>,
    /// Whether the root, and every unit that could define units, was built: only then does a unit's absence mean that it
    /// left Git.
    pub whole: bool,
    /// Repositories declared in Git, other than the root's own, that units use: the hub must fetch them.
    pub wanted_sources: Vec<SourceDecl>,
    /// The revision of every source that was read, sorted.
    pub revisions: Vec<SourceRevision>,
    /// What concerns no unit in particular. Problems of units stand with the units.
    pub problems: Vec<Problem>,
    /// Lock-down flags found on Flux's controllers.
    pub lockdown: Lockdown,
}

impl RenderedCluster {
    /// Every problem, those of the cluster first, then by unit.
    pub fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.units.iter().flat_map(|u| &u.problems))
    }

    /// Every object, with its unit.
    pub fn objects(&self) -> impl Iterator<Item = (&RenderedUnit, &RenderedObject)> {
        self.units.iter().flat_map(|unit| unit.objects().iter().map(move |object| (unit, object)))
    }

    /// The CustomResourceDefinitions among them.
    pub fn definitions(&self) -> impl Iterator<Item = (&RenderedUnit, &RenderedObject)> {
        self.objects()
            .filter(|(_, o)| o.key.kind == "CustomResourceDefinition" && o.key.group == "apiextensions.k8s.io")
    }

    /// A unit by its id.
    #[must_use]
    pub fn unit(&self, id: &UnitId) -> Option<&RenderedUnit> {
        self.units.binary_search_by(|u| u.id.cmp(id)).ok().and_then(|at| self.units.get(at))
    }
}

/// One unit.
#[derive(Clone, Debug)]
pub struct RenderedUnit {
    /// Its id: namespace and name of the Flux object.
    pub id: UnitId,
    /// Where the Flux object is written.
    pub defined_at: Location,
    /// The unit whose build holds the Flux object; `None` for the root.
    pub parent: Option<UnitId>,
    /// Its source, `namespace/name`.
    pub source: String,
    /// Its path in the source.
    pub path: String,
    /// How to apply, heal, prune and judge it.
    pub spec: UnitSpec,
    /// The Flux object as JSON, where some `readyExpr` speaks of this unit.
    pub definition: Option<Arc<[u8]>>,
    /// What came of it.
    pub state: RenderState,
    /// Everything its owners should know, a held unit's reason included.
    pub problems: Vec<Problem>,
    /// What its render read.
    pub reads: Arc<ReadSet>,
    /// Inputs that only the cluster has.
    pub late: Option<Late>,
    /// The variables in its objects that these must give, those of objects that cannot be sent for it included.
    pub open: BTreeSet<String>,
}

impl RenderedUnit {
    /// Its objects; none unless it is full.
    #[must_use]
    pub fn objects(&self) -> &[RenderedObject] {
        match &self.state {
            RenderState::Full { objects, .. } => objects,
            _ => &[],
        }
    }

    /// One of its objects as a value. Of an object with holes: as Git has it, expressions unfilled, with the metadata that
    /// the agent adds.
    ///
    /// # Errors
    /// Bytes that were not rendered here.
    pub fn value_of(&self, object: &RenderedObject) -> Result<Node, driftless_yaml::Error> {
        let limits = Limits::default();
        if object.holes.is_none() {
            return driftless_yaml::from_json(&object.bytes, &limits);
        }
        let mut node = parse_one(&object.bytes, Dialect::Yaml11, &limits)?.node;
        if let Some(late) = &self.late {
            node.set_metadata("labels", late.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            node.set_metadata("annotations", late.annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        }
        Ok(node)
    }

    /// Its withheld objects; none unless it is full.
    #[must_use]
    pub fn withheld(&self) -> &[WithheldObject] {
        match &self.state {
            RenderState::Full { withheld, .. } => withheld,
            _ => &[],
        }
    }

    /// Why it is held.
    #[must_use]
    pub fn held(&self) -> Option<&Problem> {
        match &self.state {
            RenderState::Held { why } => Some(why),
            _ => None,
        }
    }
}

/// What came of a unit.
#[derive(Clone, Debug)]
pub enum RenderState {
    /// Its objects, in Flux's order, and what Git holds that is not sent.
    Full {
        /// The objects to apply.
        objects: Vec<RenderedObject>,
        /// Those not sent: kept in the cluster.
        withheld: Vec<WithheldObject>,
    },
    /// It could not be built: the cluster keeps what it has.
    Held {
        /// The first thing in the way.
        why: Problem,
    },
    /// Suspended in Git.
    Suspended {
        /// What it declares, sorted; `None`: it cannot be built.
        declares: Option<Vec<ObjectKey>>,
    },
}

/// One object to apply.
#[derive(Clone, Debug)]
pub struct RenderedObject {
    /// Which object.
    pub key: ObjectKey,
    /// `group/version` or `version`.
    pub api_version: String,
    /// Canonical JSON, owner labels included: exactly what is applied. With `holes`: YAML text that the agent finishes.
    pub bytes: Arc<[u8]>,
    /// BLAKE3 over `bytes`.
    pub digest: Digest,
    /// Where its author wrote it.
    pub origin: Location,
    /// Of a kind Driftless does not interpret but that drives another controller.
    pub handed_through: bool,
    /// How it is treated, where that is not as its unit says.
    pub options: ObjectOptions,
    /// Its name before kustomize put a hash of its content behind it; `None` for a name as it was written.
    pub generated_name: Option<String>,
    /// Variables in `bytes` that only the cluster has, sorted; `None`: nothing is left open.
    pub holes: Option<Vec<String>>,
}

impl RenderedObject {
    /// The object as a value, holes unfilled; `None` for bytes that were not rendered here.
    #[must_use]
    pub fn value(&self) -> Option<serde_json::Value> {
        if self.holes.is_none() {
            return serde_json::from_slice(&self.bytes).ok();
        }
        let node = parse_one(&self.bytes, Dialect::Yaml11, &Limits::default()).ok()?.node;
        serde_json::from_slice(&node.to_json().ok()?).ok()
    }
}

/// An object that Git holds and that is not sent.
#[derive(Clone, Debug)]
pub struct WithheldObject {
    /// Which object.
    pub key: ObjectKey,
    /// Why.
    pub code: Code,
    /// Why, in words.
    pub message: String,
    /// Where its author wrote it.
    pub origin: Location,
    /// BLAKE3 over it as Git holds it: tells whether it changed, and nothing else is done with it.
    pub content: Digest,
}

/// Everything a unit's render read: files and folders, misses too, with the identity of what stood there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// By source id, then by path.
    pub sources: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Seen>>,
}

impl ReadSet {
    /// Over all that was read and what stood there: the same for the same answers, in every process. `None`: nothing was.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        if self.sources.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        for (source, paths) in &self.sources {
            text(&mut bytes, source);
            bytes.extend_from_slice(&(paths.len() as u64).to_le_bytes());
            for (path, seen) in paths {
                text(&mut bytes, path);
                seen.write(&mut bytes);
            }
        }
        Some(Digest::of(&bytes))
    }

    /// Every source and path that was read.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().flat_map(|(source, paths)| paths.keys().map(move |path| (&**source, &**path)))
    }
}

/// What stood at a path that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What stood there, when that was asked: `None` inside for nothing.
    pub entry: Option<Option<SeenEntry>>,
    /// The names and kinds in the folder, when they were listed: `None` inside for no folder.
    pub listing: Option<Option<ContentId>>,
}

impl Seen {
    fn write(&self, out: &mut Vec<u8>) {
        match self.entry {
            None => out.push(0),
            Some(None) => out.push(1),
            Some(Some(SeenEntry::File(id))) => content(out, 2, id),
            Some(Some(SeenEntry::Folder)) => out.push(3),
            Some(Some(SeenEntry::Link(id))) => content(out, 4, id),
            Some(Some(SeenEntry::Submodule)) => out.push(5),
        }
        match self.listing {
            None => out.push(0),
            Some(None) => out.push(1),
            Some(Some(id)) => content(out, 2, id),
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn content(out: &mut Vec<u8>, kind: u8, id: ContentId) {
    out.push(kind);
    out.extend_from_slice(&id.0);
}

/// What stood at a path, as far as a reader can tell without going further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenEntry {
    /// A file of this content.
    File(ContentId),
    /// A folder; what is in it is read on its own.
    Folder,
    /// A link with this target.
    Link(ContentId),
    /// A submodule.
    Submodule,
}
