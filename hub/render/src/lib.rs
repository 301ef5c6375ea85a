//! Tree in, objects out: Flux's objects, kustomize and substitution as pure functions.
//!
//! Whatever is read is read through [`tree::Tree`]; there is no host path, clock, network or randomness behind it, and
//! equal inputs give equal bytes. [`flux::render_cluster`] renders all units of a cluster, [`assemble::assemble`] makes the
//! blobs of a bundle of them, [`kustomize::build`] is strict kustomize. [`check`] and [`validate`] judge what was rendered,
//! for all clusters of a repository together; [`plan`] compares two renders of a cluster.
#![warn(missing_docs)]

pub mod archive;
pub mod assemble;
pub mod check;
pub mod compose;
pub mod flux;
mod glob;
pub mod kustomize;
pub mod lint;
pub mod plan;
pub mod report;
mod scope;
pub mod target;
pub mod tree;
pub mod validate;
