//! Waiting for a condition instead of sleeping.
//!
//! [`until`] asks again and again, with short pauses that grow, until the condition holds or the time is up.
//! The error says what was waited for, for how long, and what was seen last, so that a failed test can be read
//! without running it again.

use std::fmt::{self, Display};
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// First pause between two looks; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two looks: short enough that nobody notices, long enough to leave the cores alone.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What one look at a condition showed.
#[derive(Debug)]
pub enum Seen<T> {
    /// It holds; this is the answer.
    Done(T),
    /// Not yet; the text is what was seen instead.
    NotYet(String),
    /// It can never hold any more (a process is gone, say): waiting ends at once with this text.
    Never(String),
}

/// Anything a condition may answer with: `bool`, `Option<T>`, `Result<T, E>` (an error means "not yet"), or [`Seen`].
pub trait IntoSeen<T> {
    /// The same as a [`Seen`].
    fn into_seen(self) -> Seen<T>;
}

impl IntoSeen<()> for bool {
    fn into_seen(self) -> Seen<()> {
        if self { Seen::Done(()) } else { Seen::NotYet("condition is false".into()) }
    }
}

impl<T> IntoSeen<T> for Option<T> {
    fn into_seen(self) -> Seen<T> {
        self.map_or_else(|| Seen::NotYet("nothing there".into()), Seen::Done)
    }
}

impl<T, E: Display> IntoSeen<T> for Result<T, E> {
    fn into_seen(self) -> Seen<T> {
        // The alternate form prints the whole chain of an `anyhow::Error`.
        self.map_or_else(|e| Seen::NotYet(format!("{e:#}")), Seen::Done)
    }
}

impl<T> IntoSeen<T> for Seen<T> {
    fn into_seen(self) -> Seen<T> {
        self
    }
}

/// A condition that did not come true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitError {
    /// What was waited for, as the caller named it.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look showed.
    pub last: String,
    /// True when waiting ended early because the condition could not come true any more.
    pub hopeless: bool,
}

impl Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, waited, last, hopeless } = self;
        let why = if *hopeless { "gave up on" } else { "waited in vain for" };
        write!(f, "{why} {what} ({:.1} s); last seen: {last}", waited.as_secs_f64())
    }
}

impl std::error::Error for WaitError {}

/// Looks at `condition` until it holds, at most `within`.
///
/// A look that hangs counts as time waited: it is abandoned at the deadline. The condition is looked at once at
/// least, and once more after the deadline passed during a pause, so that a busy machine does not fail a wait whose
/// condition came true meanwhile.
///
/// # Errors
/// [`WaitError`] when the time is up or the condition answers [`Seen::Never`].
pub async fn until<T, S, F, Fut>(within: Duration, what: impl Display, mut condition: F) -> Result<T, WaitError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = S>,
    S: IntoSeen<T>,
{
    let start = Instant::now();
    let deadline = start + within;
    let mut pause = FIRST_PAUSE;
    let mut last = String::from("nothing: the first look did not end");
    let fail = |last: String, hopeless| WaitError { what: what.to_string(), waited: start.elapsed(), last, hopeless };
    loop {
        let late = Instant::now() >= deadline;
        // The late look gets a moment of its own, or it could never succeed.
        let look_by = if late { Instant::now() + LONGEST_PAUSE } else { deadline };
        match tokio::time::timeout_at(look_by, condition()).await.map(IntoSeen::into_seen) {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::Never(reason)) => return Err(fail(reason, true)),
            Ok(Seen::NotYet(seen)) => last = seen,
            Err(_) => return Err(fail(format!("{last} (then a look that did not end)"), false)),
        }
        if late {
            return Err(fail(last, false));
        }
        tokio::time::sleep_until((Instant::now() + pause).min(deadline)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_as_soon_as_it_holds() {
        let mut looks = 0;
        let answer = until(Duration::from_secs(5), "the third look", || {
            looks += 1;
            std::future::ready((looks == 3).then_some(looks))
        })
        .await;
        assert_eq!(answer, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn says_what_was_seen_last() {
        let error = until::<(), _, _, _>(Duration::from_secs(2), "replicas", || async { Err("2 of 3 ready") })
            .await
            .unwrap_err();
        assert_eq!(error.last, "2 of 3 ready");
        assert!(!error.hopeless);
        assert!(error.waited >= Duration::from_secs(2));
        assert!(error.to_string().starts_with("waited in vain for replicas (2."), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_look_is_abandoned() {
        let error =
            until::<(), bool, _, _>(Duration::from_secs(1), "an answer", std::future::pending).await.unwrap_err();
        assert!(error.last.contains("did not end"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn hopeless_ends_at_once() {
        let error = until::<(), _, _, _>(Duration::from_secs(60), "etcd", || async { Seen::Never("it exited".into()) })
            .await
            .unwrap_err();
        assert!(error.hopeless);
        assert_eq!(error.waited, Duration::ZERO);
    }
}
