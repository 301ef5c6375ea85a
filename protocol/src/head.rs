//! The head: the small signed statement that says what a cluster should run.

use serde::{Deserialize, Serialize};

use crate::bundle::BlobRef;
use crate::id::{ClusterId, Generation, Revision};

/// What the hub signs for one cluster at one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// [`crate::bundle::FORMAT`].
    pub format: u32,
    /// Whom it is for.
    pub cluster: ClusterId,
    /// UID of the cluster's `kube-system` namespace, bound at enrolment: a restored copy of a cluster is another cluster.
    pub kube_uid: String,
    /// Strictly rising.
    pub generation: Generation,
    /// Version of the trust document the signer relies on.
    pub trust_version: u64,
    /// The bundle's index.
    pub index: BlobRef,
    /// Length of all distinct blobs together, in bytes: a bound known before anything is fetched.
    pub raw_total: u64,
    /// The revision of every source the bundle was rendered from, sorted by source.
    pub revisions: Vec<SourceRevision>,
    /// Unix seconds.
    pub issued: u64,
    /// Unix seconds. After it the agent keeps enforcing what it has and takes nothing new.
    pub expires: u64,
}

/// One source at one revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRevision {
    /// `namespace/name` of the Flux source object (or of the hub's own source).
    pub source: String,
    /// The revision.
    pub revision: Revision,
}
