//! What the render of a cluster rests on, and whether it would come out the same again.
//!
//! A cluster whose basis a commit does not touch is not rendered at all: for a fleet of thousands this is what a commit
//! costs. Asking takes one difference of trees for the whole fleet and a few look-ups per cluster.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::head::SourceRevision;

use super::cache::{Builds, Cache};
use super::diff;
use super::ignore::FILE as RULES_FILE;
use super::reads::RecordingTree;
use super::rendered::{ReadSet, Seen};
use super::unit::{UnitInputs, UnitOutput};
use crate::kustomize::Memo;
use crate::target::{GitRef, SourceDecl, SourceState, SourceTree, Sources, Target};
use crate::tree::{ContentId, Tree};

/// Everything that one render of a cluster depended on. Cheap to keep: read sets are shared with the cache.
#[derive(Clone)]
pub struct Basis {
    shared: Arc<Fixed>,
    root: Standing,
    /// By source id.
    others: BTreeMap<String, Standing>,
}

/// What does not change while the basis holds.
struct Fixed {
    target: Target,
    root: (String, String, GitRef, bool),
    root_reads: Vec<Arc<BTreeMap<Arc<str>, Seen>>>,
    reads: Vec<(bool, Arc<ReadSet>)>,
    /// Sources that were asked for, and what was missing of them.
    asked: Vec<(SourceDecl, Option<String>)>,
    aliases: Vec<(SourceDecl, bool)>,
    /// Ids under which sources stand in the render's revisions; those that `others` lacks are the root's own.
    revisions: Vec<String>,
}

/// A tree as it was last found not to matter.
#[derive(Clone)]
struct Standing {
    id: ContentId,
    tree: Arc<dyn Tree>,
}

impl fmt::Debug for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Basis({} at {:?}, {} other sources)", self.shared.root.0, self.root.id, self.others.len())
    }
}

impl Basis {
    /// Whether a render for this target from these sources would come out as the one this is the basis of, but for the
    /// revisions it names. Then: the basis as it stands now, and those revisions. `None`: render.
    #[must_use]
    pub fn still_holds(
        &self,
        sources: &dyn Sources,
        target: &Target,
        cache: &Cache,
    ) -> Option<(Self, Vec<SourceRevision>)> {
        let fixed = &*self.shared;
        let root = sources.root();
        if fixed.target != *target || fixed.root != root_of(sources) {
            return None;
        }
        if fixed.aliases.iter().any(|(decl, was)| sources.is_alias(decl) != *was) {
            return None;
        }
        let mut trees: BTreeMap<String, SourceTree> = BTreeMap::new();
        for (decl, was_missing) in &fixed.asked {
            match (sources.find(decl), was_missing) {
                (SourceState::Ready(tree), None) => drop(trees.insert(decl.label(), tree)),
                (SourceState::Missing(why), Some(was)) if why == *was => {}
                _ => return None,
            }
        }
        let mut others = BTreeMap::new();
        for (id, before) in &self.others {
            let now = &trees.get(id.as_str())?.tree;
            let own = fixed.reads.iter().filter(|(is_root, _)| !is_root);
            let reads = own.filter_map(|(_, reads)| reads.sources.get(id.as_str()));
            others.insert(id.clone(), before.unmoved(now, cache, reads)?);
        }
        let from_units =
            fixed.reads.iter().filter(|(is_root, _)| *is_root).flat_map(|(_, reads)| reads.sources.values());
        let from_search = fixed.root_reads.iter().map(|reads| &**reads);
        let standing = self.root.unmoved(&root.tree, cache, from_units.chain(from_search))?;
        let revision = |source: &String| SourceRevision {
            source: source.clone(),
            revision: trees.get(source.as_str()).map_or(&root.revision, |tree| &tree.revision).clone(),
        };
        let revisions: BTreeSet<SourceRevision> = fixed.revisions.iter().map(revision).collect();
        let basis = Self { shared: self.shared.clone(), root: standing, others };
        Some((basis, revisions.into_iter().collect()))
    }
}

/// What of the root's source, besides its files, a render depends on.
fn root_of(sources: &dyn Sources) -> (String, String, GitRef, bool) {
    let root = sources.root();
    (root.id.clone(), root.url.clone(), root.reference.clone(), sources.root_is_verified())
}

impl Standing {
    fn of(tree: &Arc<dyn Tree>) -> Option<Self> {
        Some(Self { id: diff::root_id(&**tree).ok()??, tree: tree.clone() })
    }

    /// The standing in a newer tree, when nothing of what was read differs there.
    fn unmoved<'r>(
        &self,
        now: &Arc<dyn Tree>,
        cache: &Cache,
        mut reads: impl Iterator<Item = &'r BTreeMap<Arc<str>, Seen>>,
    ) -> Option<Self> {
        let standing = Self::of(now)?;
        if standing.id != self.id {
            let difference = cache.difference(self.id, &self.tree, standing.id, now)?;
            if difference.may_hold(&[&*self.tree, &**now], RULES_FILE) {
                return None;
            }
            if reads.any(|paths| difference.touches(paths)) {
                return None;
            }
        }
        Some(standing)
    }
}

/// Notes everything a render asks for on its way.
pub(crate) struct Witness<'a> {
    sources: &'a dyn Sources,
    cache: &'a Cache,
    seen: Mutex<Witnessed>,
}

#[derive(Default)]
struct Witnessed {
    /// Addresses of the read sets in `reads`, which stay where they are.
    known: HashSet<(bool, usize)>,
    /// Sources were put together from others.
    composed: bool,
    root_reads: Vec<Arc<BTreeMap<Arc<str>, Seen>>>,
    reads: Vec<(bool, Arc<ReadSet>)>,
    found: BTreeMap<String, Arc<dyn Tree>>,
    asked: Vec<(SourceDecl, Option<String>)>,
    aliases: Vec<(SourceDecl, bool)>,
}

impl<'a> Witness<'a> {
    pub(crate) fn new(sources: &'a dyn Sources, cache: &'a Cache) -> Self {
        Self { sources, cache, seen: Mutex::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Witnessed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The basis of what was rendered. `None` when a tree has no identity, one source was two things in one render, or a
    /// source is made of others.
    pub(crate) fn basis(self, target: &Target, revisions: &[SourceRevision]) -> Option<Basis> {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        if seen.composed {
            return None;
        }
        let root = self.sources.root();
        let mut others = BTreeMap::new();
        for (id, tree) in &seen.found {
            let both = seen.reads.iter().any(|(is_root, reads)| *is_root && reads.sources.contains_key(id.as_str()));
            if both {
                return None;
            }
            others.insert(id.clone(), Standing::of(tree)?);
        }
        let shared = Fixed {
            target: target.clone(),
            root: root_of(self.sources),
            root_reads: seen.root_reads,
            reads: seen.reads,
            asked: seen.asked,
            aliases: seen.aliases,
            revisions: revisions.iter().map(|r| r.source.clone()).collect(),
        };
        Some(Basis { shared: Arc::new(shared), root: Standing::of(&root.tree)?, others })
    }
}

impl Sources for Witness<'_> {
    fn root(&self) -> &SourceTree {
        self.sources.root()
    }

    fn find(&self, wanted: &SourceDecl) -> SourceState {
        let state = self.sources.find(wanted);
        let mut seen = self.seen();
        let missing = match &state {
            SourceState::Ready(tree) => {
                seen.found.insert(wanted.label(), tree.tree.clone());
                None
            }
            SourceState::Missing(why) => Some(why.clone()),
        };
        if !seen.asked.iter().any(|(decl, _)| decl == wanted) {
            seen.asked.push((wanted.clone(), missing));
        }
        state
    }

    fn root_is_verified(&self) -> bool {
        self.sources.root_is_verified()
    }

    fn is_alias(&self, wanted: &SourceDecl) -> bool {
        let is_alias = self.sources.is_alias(wanted);
        let mut seen = self.seen();
        if !seen.aliases.iter().any(|(decl, _)| decl == wanted) {
            seen.aliases.push((wanted.clone(), is_alias));
        }
        is_alias
    }
}

impl Builds for Witness<'_> {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        let output = self.cache.build(inputs);
        let mut seen = self.seen();
        if seen.known.insert((inputs.is_root, Arc::as_ptr(&output.reads).addr())) {
            seen.reads.push((inputs.is_root, output.reads.clone()));
        }
        output
    }

    fn memo(&self) -> &Memo {
        self.cache.memo()
    }

    fn composes(&self) {
        self.seen().composed = true;
    }

    fn searched(&self, tree: &RecordingTree) {
        let mut reads = ReadSet::default();
        tree.drain_into("", &mut reads);
        self.seen().root_reads.extend(reads.sources.into_values().map(Arc::new));
    }
}
