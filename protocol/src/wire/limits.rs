//! Limits of messages, each with its reason. `WIRE.md` sections 4 to 6 are normative.

/// Digests in one `Need`: 64,000 bytes, one control frame.
pub const DIGESTS_PER_NEED: usize = 2_000;
/// Raw bytes asked for in one `Need`, unless a single blob is larger: what an agent holds twice while unpacking.
pub const NEED_BYTES: u64 = 4 * 1024 * 1024;
/// Raw bytes of one blob. A unit body of 20,000 objects has about 5 MiB.
pub const BLOB_BYTES: u64 = 15 * 1024 * 1024;
/// Raw bytes of one transfer: the largest blob with its header.
pub const TRANSFER_RAW_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes before each blob of a transfer: digest and length.
pub const BLOB_HEADER_BYTES: u64 = 36;
/// `Need`s without answer, as the agent counts: enough to hide a round trip.
pub const NEEDS_OPEN: usize = 4;
/// `Need`s without answer, as the hub counts: it learns of an answer's end later than the agent.
pub const NEEDS_OPEN_HUB: usize = 8;
/// Report messages without answer.
pub const REPORTS_OPEN: usize = 4;
/// Units in one `UnitReports`.
pub const UNITS_PER_REPORT: usize = 64;
/// JSON bytes of all reports of one `UnitReports`: a frame of 256 KiB less ids and lengths.
pub const UNIT_REPORTS_BYTES: usize = 200 * 1024;
/// JSON bytes of one unit's report.
pub const UNIT_REPORT_BYTES: usize = 64 * 1024;
/// JSON bytes of a cluster report: its frame less the number.
pub const CLUSTER_REPORT_BYTES: usize = 60 * 1024;
/// Units in one `UnitsGone`: names and namespaces have at most 253 bytes each.
pub const UNITS_GONE: usize = 500;
/// Trust documents in one message. One a week for ten years.
pub const TRUST_DOCUMENTS: usize = 520;
/// Signatures of one statement.
pub const SIGNATURES: usize = 16;
/// Certificates of one chain: leaf, intermediate, authority, and one to spare.
pub const CHAIN: usize = 4;
/// Certificate authorities at one time: old and new during a change, and two to spare.
pub const AUTHORITIES: usize = 4;
/// Bytes of a text for people.
pub const MESSAGE_BYTES: usize = 12 * 1024;
/// Bytes of a name: version, UID, pod, namespace.
pub const NAME_BYTES: usize = 253;
/// JSON bytes of a question: the bodies of a dry run, escaped, and their names.
pub const ASK_BYTES: usize = 1000 * 1024;
/// JSON bytes of an answer: a few thousand names.
pub const ANSWER_BYTES: usize = 500 * 1024;
/// What the decoder may claim in memory: twice the longest frame.
pub(super) const DECODE_BYTES: usize = 2 * 1024 * 1024;
