//! The marks Driftless leaves on objects and the names it uses in a cluster: one constant each.

/// Domain of our labels, annotations and API groups.
pub const DOMAIN: &str = "driftless.dev";
/// Label on every object we apply; its value is [`crate::id::UnitLabel`]. Watches select on this key.
pub const UNIT_LABEL: &str = "driftless.dev/unit";
/// The field manager of every apply, always the same.
pub const FIELD_MANAGER: &str = "driftless-agent";
/// The field manager of what the agent writes into its own kinds (`Unit`, the status of `Pause`).
pub const STATUS_MANAGER: &str = "driftless-agent-status";
/// Where the agent lives and keeps its records.
pub const AGENT_NAMESPACE: &str = "driftless-system";
/// Flux's owner label: the Kustomization's name.
pub const FLUX_OWNER_NAME: &str = "kustomize.toolkit.fluxcd.io/name";
/// Flux's owner label: the Kustomization's namespace.
pub const FLUX_OWNER_NAMESPACE: &str = "kustomize.toolkit.fluxcd.io/namespace";
/// `Override`, `Merge`, `IfNotPresent` or `Ignore`, on an object, as label or annotation.
pub const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";
/// `enabled`: delete and re-create where a field cannot be changed, on an object.
pub const FORCE: &str = "kustomize.toolkit.fluxcd.io/force";
/// `disabled`: never delete, on an object.
pub const PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";
/// `disabled`: neither apply, heal nor delete, on an object, also on the live one alone.
pub const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";
/// JSON pointers of fields left to others, apart by commas or white space, on an object in Git.
pub const IGNORE: &str = "driftless.dev/ignore";
/// JSON pointers of fields whose drift is left and shown, apart by commas or white space, on an object in Git.
pub const DRIFT_OBSERVE: &str = "driftless.dev/drift-observe";
/// The same of fields whose drift is left, shown and alerted.
pub const DRIFT_WARN: &str = "driftless.dev/drift-warn";
/// `correct`, `warn` or `observe`, on a Flux object.
pub const DRIFT_MODE: &str = "driftless.dev/drift-mode";
/// At most one heal of an object in that time, on a Flux object.
pub const REMEDIATION_INTERVAL: &str = "driftless.dev/remediation-interval";
/// How long drift must last before it is healed, on a Flux object.
pub const REMEDIATION_DELAY: &str = "driftless.dev/remediation-delay";
/// At most so many heals of the unit in a rolling hour, on a Flux object.
pub const REMEDIATION_LIMIT: &str = "driftless.dev/remediation-limit-per-hour";
/// `healthy` or `always`, on a Flux object.
pub const REMEDIATE_WHEN: &str = "driftless.dev/remediate-when";
/// `enabled`: act although `spec.suspend` is true, on a Flux object.
pub const TAKE_OVER: &str = "driftless.dev/take-over";
