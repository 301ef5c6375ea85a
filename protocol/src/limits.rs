//! Limits checked before allocation, each with its reason.

/// Objects in one bundle. Twice the largest cluster the benchmarks run.
pub const BUNDLE_OBJECTS: usize = 20_000;
/// Units in one bundle.
pub const BUNDLE_UNITS: usize = 10_000;
/// Bytes of one object: etcd's default request limit.
pub const OBJECT_BYTES: u64 = 1_572_864;
/// Sources of variables of one unit: the agent watches each. Real units have up to five.
pub const LATE_INPUTS: usize = 64;
/// How deep units may take values from units above them that take theirs from units above: real trees are three deep.
pub const LATE_DEPTH: usize = 8;
/// Bytes of the texts of units above that one unit carries: a Flux object has one to ten kilobytes.
pub const LATE_TEXT_BYTES: usize = 256 * 1024;
/// Raw bytes of a whole bundle, as the signed head declares them.
pub const BUNDLE_RAW_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of a signed head: a few dozen revisions of a hundred bytes.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a trust document.
pub const TRUST_BYTES: usize = 64 * 1024;
/// How far ahead of the agent's clock a head may be issued, in seconds (security.md 7.5: tolerate 5 minutes, refuse more).
pub const CLOCK_SKEW_SECONDS: u64 = 300;
/// How far ahead of the agent's clock a generation's epoch may be, in seconds (decisions.md, "Bytes").
pub const EPOCH_AHEAD_SECONDS: u64 = 3600;
