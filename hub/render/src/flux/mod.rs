//! Flux's objects as the input language: from the root of a cluster to its units.
//!
//! [`render_cluster`] builds the root, recognises the Kustomizations in its output, builds each of them, and so on until
//! nothing new appears. A parent's patches and substitution have then already been applied to a child's definition.

mod artifact;
mod basis;
mod cache;
mod child;
mod cluster;
mod copy;
mod diff;
mod encrypted;
mod failed;
mod fields;
mod finish;
mod generator;
mod graph;
mod ignore;
mod key;
mod lockdown;
mod options;
pub mod path;
mod place;
mod reach;
mod reads;
mod rendered;
mod root;
mod saved;
mod source;
mod spec;
mod start;
mod substitute;
mod unit;
mod variables;

pub use basis::Basis;
pub use cache::{Cache, CacheStats, Shelf};
pub(crate) use finish::UNKNOWN_UNITS;
pub(crate) use place::{Place, Step as PlaceStep};
pub use rendered::{
    ReadSet, RenderState, RenderedCluster, RenderedObject, RenderedUnit, Seen, SeenEntry, WithheldObject,
};
pub use root::{RootCandidate, RootKind, find_roots};

use crate::target::{Lockdown, Sources, Target};

/// How often lock-down flags may turn out other than assumed.
const LOCKDOWN_ROUNDS: usize = 3;

/// Renders every unit of one cluster. Never fails as a whole: what cannot be rendered is a held unit with its reason, and
/// a root that cannot be found is the held unit `flux-system/flux-system`.
#[must_use]
pub fn render_cluster(sources: &dyn Sources, target: &Target) -> RenderedCluster {
    render_with(sources, target, &cache::Anew::new())
}

/// [`render_cluster`] that builds only what changed since `cache` saw it last. The result is the same.
#[must_use]
pub fn render_cluster_cached(sources: &dyn Sources, target: &Target, cache: &Cache) -> RenderedCluster {
    render_with(sources, target, cache)
}

/// [`render_cluster_cached`], and what the result rests on: later, [`Basis::still_holds`] says for far less than a render
/// whether it would come out the same. `None` when that cannot be said.
#[must_use]
pub fn render_cluster_on_basis(
    sources: &dyn Sources,
    target: &Target,
    cache: &Cache,
) -> (RenderedCluster, Option<Basis>) {
    let witness = basis::Witness::new(sources, cache);
    let rendered = render_with(&witness, target, &witness);
    let basis = witness.basis(target, &rendered.revisions);
    (rendered, basis)
}

fn render_with(sources: &dyn Sources, target: &Target, builds: &dyn cache::Builds) -> RenderedCluster {
    // The flags stand in what is rendered and have a say in it: assume none, and look again when there are some.
    let mut assumed = Lockdown::default();
    let mut found = cluster::walk(sources, target, &assumed, builds);
    for _ in 1..LOCKDOWN_ROUNDS {
        let same = found.lockdown.no_cross_namespace_refs == assumed.no_cross_namespace_refs
            && found.lockdown.feature_gates == assumed.feature_gates;
        if same {
            break;
        }
        assumed = found.lockdown.clone();
        found = cluster::walk(sources, target, &assumed, builds);
    }
    finish::finish(found)
}
