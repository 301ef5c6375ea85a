//! Notices when the wall clock jumps back.
//!
//! What waits (retries, writes, Events) waits for times of the wall clock, as they stand in the cluster's objects too. A node
//! that booted an hour ahead and is set right would let all of it wait for an hour.

use std::time::Duration;

use driftless_reconcile::input::Millis;
use tokio::time::Instant;

/// How far back it may be set without more than a short wait.
const TOLERATED: Duration = Duration::from_secs(5);

/// The wall clock beside one that only goes on.
#[derive(Debug)]
pub struct ClockWatch {
    wall: Millis,
    steady: Instant,
}

impl ClockWatch {
    /// Both clocks as they are now.
    #[must_use]
    pub fn new(wall: Millis, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// Looks again, every few seconds: how far the wall clock jumped back since the last look. That it is slowed down or jumps
    /// ahead (a node that slept) only makes something due.
    pub fn jumped_back(&mut self, wall: Millis, steady: Instant) -> Option<Duration> {
        let passed = steady.saturating_duration_since(self.steady);
        let expected = self.wall.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        *self = Self { wall, steady };
        let back = Duration::from_millis(expected.saturating_sub(wall));
        (back > TOLERATED).then_some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_back_is_noticed() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut watch = ClockWatch::new(1_000_000, at(0));
        assert_eq!(watch.jumped_back(1_003_000, at(3)), None, "as it should be");
        assert_eq!(watch.jumped_back(1_002_000, at(6)), None, "a small step");
        assert_eq!(watch.jumped_back(4_605_000, at(9)), None, "an hour ahead");
        assert_eq!(watch.jumped_back(4_608_000, at(12)), None, "as it should be");
        assert_eq!(watch.jumped_back(1_011_000, at(15)), Some(Duration::from_secs(3600)), "set right");
        assert_eq!(watch.jumped_back(1_014_000, at(18)), None, "told once");
    }

    #[test]
    fn a_clock_that_is_slowed_down_is_none_that_jumps() {
        let start = Instant::now();
        let mut watch = ClockWatch::new(1_000_000, start);
        // 500 ppm, as it is slewed, over a day.
        for second in (3..86_400).step_by(3) {
            let wall = 1_000_000 + second * 1000 - second / 2;
            assert_eq!(watch.jumped_back(wall, start + Duration::from_secs(second)), None, "after {second} s");
        }
    }
}
