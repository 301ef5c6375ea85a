//! Git repositories, mirrored bare and read without a checkout; OCI artifacts, kept by digest ([`oci`]).
//!
//! A [`Mirror`] follows one reference of one repository over https, ssh or from a folder of this machine. [`Mirror::fetch`]
//! brings what is new and answers with a [`Revision`]; [`Mirror::tree`] reads any mirrored revision as a
//! [`driftless_render::tree::Tree`] straight from Git objects, from several threads at once. [`folder::worktree_tree`] and
//! [`Snapshot`] are the same door to a plain folder, [`repository::Repository`] to a clone somebody else made.
//!
//! What a caller may rely on:
//! - A failed fetch changes nothing: the last good revision stays readable, and [`SourceError`] says what was attempted,
//!   where, why it failed and what to do, under a stable code.
//! - No error, log line or URL shows a credential. Addresses are [`SourceUrl`], which cannot show one; words of other
//!   programs are scrubbed.
//! - Nothing of the machine is consulted: no Git configuration, credential helper, key agent, proxy variable. The only
//!   program ever started is `ssh`, with fixed arguments and pinned host keys.
//! - Where signatures are asked for ([`verify`]), nothing counts that is not signed with a trusted key.
//! - A crash at any moment leaves a usable mirror. One that is damaged beyond use is made anew, and [`Mirror::opened`]
//!   says so.
//!
//! gix changes its interface every month: only this crate names it.

mod check;
pub mod config;
pub mod error;
mod fetch;
pub mod folder;
mod history;
mod mirror;
pub mod oci;
pub mod repository;
mod scrub;
mod semver;
mod snapshot;
mod store;
mod tree;
mod unseen;
pub mod url;
pub mod verify;
mod work;

pub use config::{Auth, Limits, Reference, Secret, SourceConfig};
pub use driftless_protocol::id::Revision;
pub use error::{Cause, Failure, SourceError};
pub use folder::{FolderTree, worktree_tree};
pub use history::{Change, ChangedPath, CommitInfo, Relation};
pub use mirror::{Fetched, Mirror, Opened, Rewind};
pub use oci::{OciConfig, OciMirror, OciReference, OciUrl};
pub use repository::{Repository, RepositoryError};
pub use snapshot::Snapshot;
pub use tree::GitTree;
pub use url::{SourceUrl, Transport, UrlError};
pub use verify::{TrustedKeys, Verification, VerifyMode};
