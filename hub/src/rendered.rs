//! What is kept of a render: digests, problems and places, for the rollout and for everybody who asks why.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::api::Place;
use driftless_protocol::bundle::{Reason, UnitSpec, UnitState, Withheld};
use driftless_protocol::canonical::CanonicalError;
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_render::assemble::{Intents, assemble};
use driftless_render::flux::{Basis, RenderState, RenderedCluster};
use driftless_render::report::reason;
use driftless_render::target::{Location, SourceDecl};

use crate::content::Content;

/// A cluster's newest render. Cheap to clone: a commit that does not touch a cluster changes its revisions only.
#[derive(Clone, Debug)]
pub(crate) struct ClusterRender {
    /// What it was made from, as a whole.
    pub(crate) inputs: Digest,
    /// What of that it rests on: while that holds, the cluster is not rendered again.
    pub(crate) basis: Option<Basis>,
    pub(crate) root_source: String,
    pub(crate) root_path: String,
    pub(crate) revisions: Vec<SourceRevision>,
    pub(crate) units: Arc<BTreeMap<UnitId, UnitView>>,
    pub(crate) problems: Arc<[Reason]>,
    pub(crate) wanted: Arc<[SourceDecl]>,
    pub(crate) content: Arc<Content>,
    /// Unix milliseconds.
    pub(crate) at: u64,
}

/// One unit of it.
#[derive(Debug)]
pub(crate) struct UnitView {
    pub(crate) source: String,
    pub(crate) path: String,
    pub(crate) parent: Option<UnitId>,
    pub(crate) defined_at: Option<Place>,
    pub(crate) spec: UnitSpec,
    pub(crate) state: ViewState,
    pub(crate) problems: Vec<Reason>,
    pub(crate) objects: Vec<(ObjectKey, Digest, Option<Place>)>,
    pub(crate) withheld: Vec<Withheld>,
}

#[derive(Clone, Debug)]
pub(crate) enum ViewState {
    Full(Digest),
    Held(Reason),
    Suspended,
}

impl ClusterRender {
    pub(crate) fn new(
        cluster: ClusterId,
        inputs: Digest,
        basis: Option<Basis>,
        root_source: String,
        rendered: &RenderedCluster,
        at: u64,
    ) -> Result<Self, CanonicalError> {
        let content = Content::new(assemble(cluster, rendered, &Intents::default())?);
        let bodies: BTreeMap<&UnitId, Digest> = content
            .index
            .units
            .iter()
            .filter_map(|unit| match &unit.state {
                UnitState::Full { body } => Some((&unit.id, body.digest)),
                _ => None,
            })
            .collect();
        let units = rendered
            .units
            .iter()
            .map(|unit| {
                let state = match (&unit.state, bodies.get(&unit.id)) {
                    (RenderState::Full { .. }, Some(body)) => ViewState::Full(*body),
                    (RenderState::Held { why }, _) => ViewState::Held(why.reason()),
                    _ => ViewState::Suspended,
                };
                let view = UnitView {
                    source: unit.source.clone(),
                    path: unit.path.clone(),
                    parent: unit.parent.clone(),
                    defined_at: place(&unit.defined_at),
                    spec: unit.spec.clone(),
                    state,
                    problems: unit.problems.iter().map(driftless_render::report::Problem::reason).collect(),
                    objects: unit.objects().iter().map(|o| (o.key.clone(), o.digest, place(&o.origin))).collect(),
                    withheld: unit
                        .withheld()
                        .iter()
                        .map(|w| Withheld { key: w.key.clone(), reason: reason(w.code, &w.message, Some(&w.origin)) })
                        .collect(),
                };
                (unit.id.clone(), view)
            })
            .collect();
        Ok(Self {
            inputs,
            basis,
            root_source,
            root_path: rendered.root_path.clone(),
            revisions: rendered.revisions.clone(),
            units: Arc::new(units),
            problems: rendered.problems.iter().map(driftless_render::report::Problem::reason).collect(),
            wanted: rendered.wanted_sources.clone().into(),
            content: Arc::new(content),
            at,
        })
    }

    /// Why units may be missing from this render: what defines them could not be built. `None`: it is whole.
    pub(crate) fn incomplete(&self) -> Option<&Reason> {
        if self.content.index.whole {
            return None;
        }
        let held = self.units.values().find_map(|unit| match &unit.state {
            ViewState::Held(why) => Some(why),
            _ => None,
        });
        held.or_else(|| self.problems.first())
    }

    /// The revision of a source in this render, as Flux writes it.
    pub(crate) fn revision_of(&self, source: &str) -> Option<String> {
        self.revisions.iter().find(|r| r.source == source).map(|r| r.revision.to_string())
    }

    /// The revision of the root's source, as Flux writes it.
    pub(crate) fn root_revision(&self) -> Option<String> {
        self.revision_of(&self.root_source).or_else(|| self.revisions.first().map(|r| r.revision.to_string()))
    }
}

/// A place in a file; nothing when no file says it.
pub(crate) fn place(at: &Location) -> Option<Place> {
    (!at.file.is_empty()).then(|| Place { source: at.source.to_string(), file: at.file.to_string(), line: at.line })
}
