//! The plan before merge: what a change in Git would do to a cluster, from its render before and after.
//!
//! [`plan_cluster`] compares two renders of one cluster; [`Plan::of`] puts the plans of all clusters together and says
//! equal ones once. Everything here follows the rules by which agents act (`agent/reconcile`): a move is no delete, a
//! unit that cannot be built loses nothing, deletes beyond the budget and of kinds that hold other things wait for
//! approval. What only a live cluster knows (drift, admission, what an unrendered unit owns) is not in a plan, and said
//! where it matters.
//!
//! | module | question it answers |
//! |---|---|
//! | [`model`] | what does a plan consist of (also: the JSON that `driftless plan -o json` prints) |
//! | [`path`] | how is a field named |
//! | `fields` | which fields differ between two objects |
//! | `redact` | which values must not be shown |
//! | `immutable` | which changes will the API server refuse |
//! | `fate` | what becomes of an object that left Git |
//! | `units`, `objects` | which object went where |
//! | `warnings` | what should a reviewer see first |

mod definitions;
mod fate;
mod fields;
mod immutable;
pub mod model;
mod objects;
pub mod path;
mod redact;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod units;
mod warnings;

pub use model::{
    Action, ChangedField, ClusterChange, ClusterPlan, Counts, FORMAT, Fate, FateKind, HeldUnit, Immutable, Leaving,
    LiveClusters, LiveObject, ObjectPlan, ObjectText, OptionChange, Outcome, Plan, PlanGroup, PlanRevision,
    StateChange, Unaffected, UnitPlan, UnitState, Warning, WarningCode, WithheldChange, WithheldPlan,
};
pub use path::FieldPath;
pub use redact::Redactor;
pub use units::plan_cluster;
