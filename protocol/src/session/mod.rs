//! The session as two state machines without I/O: what arrives and the time go in, what to do comes out.
//!
//! Each side is driven the same way:
//!
//! 1. feed what happened: `handle(now, input, ..)`;
//! 2. carry out `next_action()` until `None`;
//! 3. when the control stream can take a message, send `next_message(now)`;
//! 4. at `deadline()` feed `Tick`.
//!
//! Messages are *pulled*: between two sends a session keeps only the newest state of each kind, so that a slow peer
//! costs no memory and gets no stale news.

pub mod agent;
mod fetch;
pub mod hub;
mod judge;
mod outbox;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Generation};

/// The time, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Unix milliseconds, for what is signed and reported. May jump.
    pub unix_ms: u64,
    /// Milliseconds of a monotonic clock with any origin, for deadlines.
    pub mono_ms: u64,
}

/// What a certificate opens. TLS says it with the identity of the peer, and the hub's session takes it from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A session.
    Full,
    /// Its own renewal and nothing else: its time is over, and the hub's grace is not.
    Renewal,
}

/// The last head an agent stored: nothing at or below it is accepted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ratchet {
    /// Its generation.
    pub generation: Generation,
    /// BLAKE3 of its signed bytes.
    pub head: Digest,
}
