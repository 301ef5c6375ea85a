//! How long to stay away: full jitter, doubling from one second to five minutes.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// A session that lasted that long starts the doubling anew.
const GOOD: Duration = Duration::from_secs(30);

/// The pauses between connections.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    since: Option<Instant>,
}

impl Pause {
    /// The hub greeted.
    pub(super) fn worked(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The connection ended, or there was none. `least`: as the hub asked; `is_final`: coming back soon cannot help.
    pub(super) fn next(&mut self, now: Instant, least: Option<Duration>, is_final: bool) -> Duration {
        if self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= GOOD) {
            self.failures = 0;
        }
        let ceiling = if is_final { LONGEST } else { self.ceiling() };
        self.failures = self.failures.saturating_add(1);
        least.unwrap_or_default().min(LONGEST) + jitter(ceiling)
    }

    fn ceiling(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST)
    }
}

/// Anything from nothing to `most`: a fleet that lost its hub must not come back in one moment.
pub(super) fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 8];
    // Without randomness the middle: clusters then spread less, nothing worse.
    if getrandom::fill(&mut bytes).is_err() {
        return most / 2;
    }
    let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(u64::from_le_bytes(bytes) % most_ms.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_bounded_and_start_anew_after_a_good_session() {
        let mut pause = Pause::default();
        let now = Instant::now();
        for n in 0..40u32 {
            let ceiling = pause.ceiling();
            assert_eq!(ceiling, Duration::from_secs(300.min(1 << n.min(16))), "after {n} failures");
            assert!(pause.next(now, None, false) <= ceiling);
        }
        pause.worked(now);
        pause.next(now + Duration::from_secs(29), None, false);
        assert_eq!(pause.ceiling(), LONGEST, "a session of 29 s was no good one");
        pause.worked(now);
        pause.next(now + Duration::from_secs(30), None, false);
        assert_eq!(pause.ceiling(), Duration::from_secs(2));
        let asked = Duration::from_secs(60);
        assert!(pause.next(now, Some(asked), false) >= asked);
        assert!(pause.next(now, Some(Duration::from_secs(1_000_000)), false) <= LONGEST * 2);
    }
}
