//! Who may receive which content next, and why not.
//!
//! [`plan`] is a function of a policy, a snapshot of the fleet and the time. It decides *content* only: what Git says.
//! Operator intents are laid over whatever content a cluster has and always go out, also while content is held or frozen.
//!
//! The rules, in order:
//! 1. A cluster whose content is what it was offered is up to date; its head is signed anew before it expires.
//! 2. Nothing is offered to a frozen cluster or fleet.
//! 3. A canary goes first.
//! 4. Any other cluster waits until every canary that reads the same sources was offered its content of the same
//!    revisions and all its units are healthy on it. A canary that fails halts the rest, visibly.
#![warn(missing_docs)]

mod health;
mod planner;
mod report;
mod view;

pub use health::{Expected, Health, judge};
pub use planner::plan;
pub use report::{Action, ActionKind, Code, Note, Plan, State, Verdict};
pub use view::{ClusterView, Content, FleetView, Freeze, Offered};

/// The label whose value `true` makes a cluster a canary: it gets a commit first.
pub const CANARY_LABEL: &str = "driftless.dev/canary";

/// Rules that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A head that ends within this many seconds is signed anew.
    pub refresh_seconds: u64,
}

impl Default for Policy {
    /// Heads live for a day and are signed anew at half of it, so that an agent rides out half a day without its hub
    /// before it refuses new work.
    fn default() -> Self {
        Self { refresh_seconds: 12 * 3600 }
    }
}
