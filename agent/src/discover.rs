//! When it is read which kinds the cluster serves: at the start, when a definition changed, while a declared kind is not
//! served, and soon again while a part of it is not known. Never on a timer else.
//!
//! Each look is a task of its own: an API server that is silent holds up nothing.

use std::time::Duration;

use driftless_protocol::bundle::Reason;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::cluster::api::{Api, ApiError};
use crate::cluster::discovery::{self, Look};

/// How long it rests after a change: definitions come in bursts.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is read again while a declared kind is not served and nothing told us of a change.
const RETRY: Duration = Duration::from_secs(30);
/// And so often after we were told of a change, so many times: the API server serves a new kind some time after it says so.
const SOON: (u32, Duration) = (4, Duration::from_secs(2));
/// First and longest pause after a look that failed or was not whole: an API that is back tells nobody.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// The looks.
pub struct Discover {
    api: Api,
    looking: JoinSet<Result<Look, ApiError>>,
    due: Option<Instant>,
    /// Looks that come soon while a declared kind is not served.
    soon: u32,
    /// Looks in a row that failed or were not whole.
    short: u32,
    /// What was missing then, as it was told.
    gaps: Vec<String>,
    refused: Option<String>,
}

impl Discover {
    /// `first`: what the first look came to.
    #[must_use]
    pub fn new(api: Api, first: &Look) -> Self {
        let mut this =
            Self { api, looking: JoinSet::new(), due: None, soon: 0, short: 0, gaps: Vec::new(), refused: None };
        this.took(first);
        this
    }

    /// A definition changed, or discovery proved to be old.
    pub fn changed(&mut self) {
        self.no_later_than(PAUSE);
        self.soon = SOON.0;
    }

    /// A declared kind is not served.
    pub fn missing(&mut self) {
        if self.due.is_none() && self.looking.is_empty() {
            let soon = self.soon > 0;
            self.soon = self.soon.saturating_sub(1);
            self.no_later_than(if soon { SOON.1 } else { RETRY });
        }
    }

    fn no_later_than(&mut self, wait: Duration) {
        let due = Instant::now() + wait;
        // Not when it would have been read without a change, which may be long from now.
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When to call [`Discover::begin_if_due`].
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        self.due.filter(|_| self.looking.is_empty())
    }

    /// Begins a look that is due. One at a time: what is due meanwhile comes after it.
    pub fn begin_if_due(&mut self) {
        if self.wake().is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            let api = self.api.clone();
            self.looking.spawn(async move { discovery::look(&api).await });
        }
    }

    /// What a look came to; `None`: it failed, and another comes. Waits while there is none; may be dropped at any time.
    pub async fn next(&mut self) -> Option<Look> {
        match self.looking.join_next().await {
            Some(done) => self.done(done),
            None => std::future::pending().await,
        }
    }

    fn done(&mut self, done: Result<Result<Look, ApiError>, JoinError>) -> Option<Look> {
        let error = match done {
            Ok(Ok(look)) => {
                self.took(&look);
                return Some(look);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(error, "cannot read which kinds are served; trying again");
        self.again();
        None
    }

    fn took(&mut self, look: &Look) {
        if self.gaps != look.gaps {
            for gap in look.gaps.iter().filter(|gap| !self.gaps.contains(gap)) {
                tracing::warn!(why = gap, "not all kinds of the cluster are known; looking again");
            }
            if look.gaps.is_empty() {
                tracing::info!("all kinds of the cluster are known again");
            }
            self.gaps.clone_from(&look.gaps);
        }
        self.refused.clone_from(&look.refused);
        if look.gaps.is_empty() {
            self.short = 0;
        } else {
            self.again();
        }
    }

    fn again(&mut self) {
        let wait = AGAIN.0.saturating_mul(1 << self.short.min(8)).min(AGAIN.1);
        self.short = self.short.saturating_add(1);
        self.no_later_than(wait);
    }

    /// What somebody must do before all can be known, for the cluster's report.
    #[must_use]
    pub fn problem(&self) -> Option<Reason> {
        let message = self.refused.clone()?;
        Some(Reason { code: "FluxNotKnown".to_owned(), message, file: None, line: None })
    }

    /// Ends a look under way.
    pub async fn stop(&mut self) {
        self.looking.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use driftless_reconcile::flux;
    use serde_json::json;

    use super::*;
    use crate::cluster::discovery::tests::{Server, group};

    fn seconds(discover: &Discover) -> u64 {
        let due = discover.due.expect("another look");
        (due - Instant::now()).as_secs_f64().round() as u64
    }

    #[tokio::test]
    async fn a_look_that_is_not_whole_is_repeated_ever_slower_until_it_is() {
        let stale = group("metrics.k8s.io", &[("v1beta1", "Stale", &[])]);
        let server = Server::new(&[stale]);
        let mut discover = Discover::new(server.api(), &discovery::look(&server.api()).await.expect("an answer"));
        let mut waits = vec![seconds(&discover)];
        for _ in 0..5 {
            discover.due = Some(Instant::now());
            discover.begin_if_due();
            assert!(discover.wake().is_none(), "one at a time");
            let look = discover.next().await.expect("an answer");
            assert!(look.unknown.contains("metrics.k8s.io"));
            waits.push(seconds(&discover));
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
        // It is back, which nothing else would have told.
        let fresh = group("metrics.k8s.io", &[("v1beta1", "Current", &[("pods", "PodMetrics")])]);
        let both = json!({"items": [fresh]});
        server.answer("/apis", 200, both);
        discover.due = Some(Instant::now());
        discover.begin_if_due();
        let look = discover.next().await.expect("an answer");
        assert!(look.unknown.is_empty() && look.served.any_version("metrics.k8s.io", "PodMetrics").is_some());
        assert!(discover.wake().is_none(), "all is known");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_holds_up_nobody() {
        let server = Server::new(&[]);
        let mut discover = Discover::new(server.api(), &discovery::look(&server.api()).await.expect("an answer"));
        server.silent("/apis");
        discover.changed();
        tokio::time::sleep_until(discover.wake().expect("due")).await;
        discover.begin_if_due();
        let waited = tokio::time::timeout(Duration::from_millis(50), discover.next()).await;
        assert!(waited.is_err(), "still looking, and whoever waits may do something else");
        discover.changed();
        assert!(discover.wake().is_none(), "one at a time");
        discover.stop().await;
        assert!(discover.wake().is_some(), "what changed meanwhile is looked at after it");
    }

    #[tokio::test]
    async fn a_missing_right_is_told() {
        let server = Server::new(&[]);
        let path = format!("/apis/{}", flux::GROUP);
        server.answer(&path, 403, json!({"message": "forbidden", "code": 403}));
        let mut discover = Discover::new(server.api(), &discovery::look(&server.api()).await.expect("an answer"));
        let problem = discover.problem().expect("a problem");
        assert!(problem.message.contains("system:discovery"), "{problem:?}");
        server.answer(&path, 404, json!({"message": "not found", "code": 404}));
        discover.due = Some(Instant::now());
        discover.begin_if_due();
        assert!(discover.next().await.is_some() && discover.problem().is_none());
    }
}
