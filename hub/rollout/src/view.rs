//! The snapshot a plan is made from.

use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::{ClusterId, ClusterName, Digest};

use crate::health::Health;

/// The fleet at one moment.
#[derive(Clone, Debug, Default)]
pub struct FleetView {
    /// No content goes anywhere.
    pub frozen: Option<Freeze>,
    /// Every enrolled cluster.
    pub clusters: Vec<ClusterView>,
}

/// Who froze, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Who.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
}

/// One cluster at one moment.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Which.
    pub id: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Whether it gets content first.
    pub canary: bool,
    /// No content goes to it.
    pub frozen: Option<Freeze>,
    /// What the newest render says; `None`: not rendered yet.
    pub desired: Option<Content>,
    /// The last head.
    pub offered: Option<Offered>,
    /// How its units are on the content it was offered.
    pub health: Health,
    /// Whether its agent has a session.
    pub connected: bool,
}

/// What Git says for one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Digest of the index without operator intents. Equal content has equal digests, whatever the revision.
    pub id: Digest,
    /// What it was rendered from, sorted by source.
    pub revisions: Vec<SourceRevision>,
}

/// The last head of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The content it carries.
    pub content: Digest,
    /// Whether the agent has it.
    pub taken: bool,
    /// Code and words of the agent's refusal.
    pub refused: Option<(String, String)>,
    /// Unix seconds.
    pub expires: u64,
}

impl ClusterView {
    /// Whether the newest render was offered.
    pub(crate) fn has_desired(&self) -> bool {
        match (&self.desired, &self.offered) {
            (Some(desired), Some(offered)) => desired.id == offered.content,
            _ => false,
        }
    }
}
