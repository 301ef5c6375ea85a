//! What hub and agent say to each other: identities, bundles, signatures, reports, session.
//!
//! # Vocabulary
//!
//! | word | meaning |
//! |---|---|
//! | source | a Git repository at a ref; the hub mirrors it bare |
//! | revision | one commit of a source |
//! | unit | one Flux Kustomization (or HelmRelease) *for one cluster* |
//! | cluster, fleet | an enrolled cluster with labels; all of them |
//! | bundle | everything one cluster should run at one generation |
//! | head | the small signed statement that names a bundle |
//! | generation | (trust epoch, epoch, sequence); an agent never goes back |
//! | ledger | the agent's durable memory of the last verified head and bundle |
//! | inventory | what a unit owns in the cluster, by key and UID |
//! | drift | a live field that differs from the declared one, or one a human added to our object |
//! | health | kstatus-style verdict per object, per unit, per cluster |
//! | wave, rollout | the order in which clusters receive a generation, with gates |
//! | join token, trust document | single-use enrolment secret; the root-signed list of keys |
//!
//! This crate knows no clock, no socket (but for the feature `quic`) and no Kubernetes client.
#![warn(missing_docs)]

pub mod api;
pub mod ask;
pub mod bundle;
pub mod canonical;
pub mod enroll;
pub mod facts;
pub mod guard;
pub mod head;
pub mod id;
pub mod limits;
pub mod marks;
pub mod message;
pub mod object;
#[cfg(feature = "quic")]
pub mod quic;
pub mod report;
pub mod session;
pub mod signing;
pub mod token;
pub mod trust;
pub mod wire;
