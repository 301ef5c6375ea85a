//! What a plan says.

use std::fmt;

use driftless_protocol::id::{ClusterId, ClusterName, Digest};

/// What to do and why, complete in itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order to carry them out: canaries first.
    pub actions: Vec<Action>,
    /// Per cluster, by name.
    pub verdicts: Vec<Verdict>,
    /// What keeps the fleet as a whole from moving.
    pub halts: Vec<Note>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// For which cluster.
    pub cluster: ClusterId,
    /// What.
    pub kind: ActionKind,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Offer this content.
    Offer {
        /// Digest of the index without intents.
        content: Digest,
    },
    /// Sign the head anew, with the content it has.
    Refresh,
}

/// How one cluster stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub cluster: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// What happens to it.
    pub state: State,
    /// Why: at least one.
    pub reasons: Vec<Note>,
}

/// What happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was offered what the newest render says.
    UpToDate,
    /// It is offered new content now.
    Moves,
    /// It waits and goes on by itself.
    Waits,
    /// It waits for a person.
    Halted,
}

/// A named reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Stable code.
    pub code: Code,
    /// For people: what waits for what, and what to do.
    pub message: String,
}

/// Stable codes of [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Nothing to do.
    UpToDate,
    /// There is no render yet.
    NotRendered,
    /// It goes first.
    CanaryFirst,
    /// Nothing is in the way: there is no canary for its sources.
    NoCanary,
    /// Every canary is healthy on it.
    CanaryPassed,
    /// The cluster is frozen.
    Frozen,
    /// The fleet is frozen.
    FleetFrozen,
    /// A canary was not rendered at this revision yet.
    CanaryNotRendered,
    /// A canary is frozen.
    CanaryFrozen,
    /// A canary has not begun or not finished.
    CanaryProgressing,
    /// A canary is not connected.
    CanaryAway,
    /// A canary failed, or refused.
    CanaryFailed,
    /// The agent refused the last offer.
    Refused,
}

impl Code {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::NotRendered => "NotRendered",
            Self::CanaryFirst => "CanaryFirst",
            Self::NoCanary => "NoCanary",
            Self::CanaryPassed => "CanaryPassed",
            Self::Frozen => "Frozen",
            Self::FleetFrozen => "FleetFrozen",
            Self::CanaryNotRendered => "CanaryNotRendered",
            Self::CanaryFrozen => "CanaryFrozen",
            Self::CanaryProgressing => "CanaryProgressing",
            Self::CanaryAway => "CanaryAway",
            Self::CanaryFailed => "CanaryFailed",
            Self::Refused => "Refused",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Note {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
