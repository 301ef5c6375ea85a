//! The one place that asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftless_protocol::session::Now;

/// Unix milliseconds.
#[must_use]
pub fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix seconds.
#[must_use]
pub fn seconds() -> u64 {
    millis() / 1000
}

/// Both clocks of a session, the monotonic one counted from `origin`.
pub(crate) fn now(origin: Instant) -> Now {
    Now { unix_ms: millis(), mono_ms: u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX) }
}
