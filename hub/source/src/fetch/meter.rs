//! What one fetch may still use, and who ended it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Cause;

/// Counts the bytes of a fetch and ends it: too many bytes, too late, or no longer wanted. Shared by the caller and the
/// thread at work.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    timeout: Mutex<Duration>,
    /// Called once when the work is ended from outside: what unblocks a read.
    on_stop: Mutex<Option<OnStop>>,
    /// Read by gix at every step. Follows `end`.
    stop: AtomicBool,
    end: Mutex<End>,
    bytes: AtomicU64,
    /// The count at which the present phase must stop, and what to say then.
    budget: Mutex<(u64, Option<Cause>)>,
}

struct OnStop(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for OnStop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnStop")
    }
}

#[derive(Debug, Clone, PartialEq)]
enum End {
    Running,
    Committed,
    Stopped(Cause),
}

/// Stops the work when the future that wanted it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(Meter);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(Cause::Cancelled);
    }
}

impl Meter {
    pub(crate) fn new(started: Instant, timeout: Duration) -> Self {
        Meter {
            shared: Arc::new(Shared {
                started,
                timeout: Mutex::new(timeout),
                on_stop: Mutex::new(None),
                stop: AtomicBool::new(false),
                end: Mutex::new(End::Running),
                bytes: AtomicU64::new(0),
                budget: Mutex::new((u64::MAX, None)),
            }),
        }
    }

    pub(crate) fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    /// Ends the work for `cause`. False: it had already succeeded, and its result stands. The first cause wins.
    pub(crate) fn stop(&self, cause: Cause) -> bool {
        let (action, stopped) = {
            let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
            let mut action = None;
            if *end == End::Running {
                *end = End::Stopped(cause);
                self.shared.stop.store(true, Ordering::Release);
                action = self.shared.on_stop.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            (action, *end != End::Committed)
        };
        if let Some(OnStop(action)) = action {
            action();
        }
        stopped
    }

    /// The moment after which the result counts. From here on nobody can stop it.
    pub(crate) fn commit(&self) -> Result<(), Cause> {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        match &*end {
            End::Stopped(cause) => Err(cause.clone()),
            _ => {
                *end = End::Committed;
                Ok(())
            }
        }
    }

    /// Why the work was ended, if it was.
    pub(crate) fn stopped(&self) -> Option<Cause> {
        match &*self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) {
            End::Stopped(cause) => Some(cause.clone()),
            _ => None,
        }
    }

    /// Goes on after a limit on bytes ended a part of the work that can be done without. False: the work is to end.
    pub(crate) fn resume(&self) -> bool {
        let mut end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*end, End::Stopped(Cause::PackTooLarge { .. } | Cause::TooManyRefs { .. })) {
            *end = End::Running;
            self.shared.stop.store(false, Ordering::Release);
        }
        *end == End::Running
    }

    /// For gix.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.shared.stop
    }

    /// From now on at most `bytes` more, else `cause`.
    pub(crate) fn phase(&self, bytes: u64, cause: Cause) {
        let limit = self.bytes().saturating_add(bytes);
        *self.shared.budget.lock().unwrap_or_else(PoisonError::into_inner) = (limit, Some(cause));
    }

    /// Bytes that arrived so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn timeout(&self) -> Duration {
        *self.shared.timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows at least `timeout` from the start.
    pub(crate) fn extend(&self, timeout: Duration) {
        let mut present = self.shared.timeout.lock().unwrap_or_else(PoisonError::into_inner);
        *present = timeout.max(*present);
    }

    /// What to say when the time is over.
    pub(crate) fn overdue(&self) -> Cause {
        Cause::Timeout { limit: self.timeout() }
    }

    /// Registers what unblocks a read when the work is ended.
    pub(crate) fn on_stop(&self, action: impl FnOnce() + Send + 'static) {
        *self.shared.on_stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(OnStop(Box::new(action)));
    }

    /// Time left.
    pub(crate) fn remaining(&self) -> Duration {
        self.timeout().saturating_sub(self.elapsed())
    }

    /// An error when the work is to end.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.remaining().is_zero() {
            self.stop(self.overdue());
        }
        if self.shared.stop.load(Ordering::Acquire) { Err(io::Error::other("the fetch was ended")) } else { Ok(()) }
    }

    /// Counts bytes that arrived.
    pub(crate) fn charge(&self, bytes: usize) -> io::Result<()> {
        let total = self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64);
        let over = {
            let budget = self.shared.budget.lock().unwrap_or_else(PoisonError::into_inner);
            (total > budget.0).then(|| budget.1.clone()).flatten()
        };
        if let Some(cause) = over {
            self.stop(cause);
        }
        self.check()
    }
}

/// A reader whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R> Metered<R> {
    pub(crate) fn new(inner: R, meter: Meter) -> Self {
        Metered { inner, meter }
    }
}

impl<R: io::Read> io::Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.meter.check()?;
        let n = self.inner.read(buf)?;
        self.meter.charge(n)?;
        Ok(n)
    }
}

impl<R: io::BufRead> io::BufRead for Metered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.meter.check()?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        // What was consumed has arrived; an overdraft shows at the next read.
        let _ = self.meter.charge(amount);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn meter() -> Meter {
        Meter::new(Instant::now(), Duration::from_secs(600))
    }

    #[test]
    fn a_phase_ends_at_its_budget() {
        let meter = meter();
        meter.phase(100, Cause::TooManyRefs { limit: 1 });
        meter.charge(100).unwrap();
        meter.phase(10, Cause::PackTooLarge { limit: 10 });
        let mut reader = Metered::new(io::repeat(1), meter.clone());
        let mut buf = [0; 6];
        reader.read_exact(&mut buf).unwrap();
        assert!(reader.read_exact(&mut buf).is_err());
        assert_eq!(meter.stopped(), Some(Cause::PackTooLarge { limit: 10 }));
        assert_eq!(meter.commit(), Err(Cause::PackTooLarge { limit: 10 }));
    }

    #[test]
    fn a_budget_is_met_at_its_last_byte_and_broken_by_the_next() {
        let meter = meter();
        meter.phase(10, Cause::PackTooLarge { limit: 10 });
        meter.charge(10).unwrap();
        assert_eq!(meter.stopped(), None);
        meter.charge(1).unwrap_err();
        assert_eq!(meter.stopped(), Some(Cause::PackTooLarge { limit: 10 }));
    }

    #[test]
    fn what_succeeded_cannot_be_stopped() {
        let meter = meter();
        meter.commit().unwrap();
        assert!(!meter.stop(Cause::Cancelled));
        assert_eq!(meter.stopped(), None);
    }

    #[test]
    fn the_first_cause_wins() {
        let meter = Meter::new(Instant::now(), Duration::ZERO);
        assert!(meter.check().is_err());
        assert!(meter.stop(Cause::Cancelled));
        assert_eq!(meter.stopped(), Some(Cause::Timeout { limit: Duration::ZERO }));
    }
}
