//! The contests over fields as one ConfigMap: read at start, written when one begins or ends, and now and then while they
//! last.
//!
//! They are worth a pace and no more: one that is lost is counted anew, so nothing waits for a write, and a text that
//! cannot be read is written over.

use std::time::Duration;

use driftless_protocol::marks;
use driftless_reconcile::contest::kept::{self, Kept};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::api::{Actor, Api, ApiError, config_maps};
use crate::leader::Leadership;

/// The ConfigMap.
const NAME: &str = "driftless-contests";
const DATA_KEY: &str = "contests.json";
/// Pause after it could not be written.
const AGAIN: Duration = Duration::from_secs(30);

/// The contests as they are written down.
pub struct ContestBook {
    api: Api,
    leadership: watch::Receiver<Leadership>,
    written: Vec<Kept>,
    wanted: Vec<Kept>,
    writing: JoinSet<Result<Vec<Kept>, ApiError>>,
    /// When a write that failed is tried again.
    again: Option<Instant>,
}

impl ContestBook {
    /// Reads what another pod wrote.
    ///
    /// # Errors
    /// The ConfigMap cannot be asked for.
    pub async fn load(api: Api, leadership: watch::Receiver<Leadership>) -> Result<(Self, Vec<Kept>), ApiError> {
        let map = api.get(&Actor::Agent, &config_maps(), marks::AGENT_NAMESPACE, NAME).await?;
        let text = map.as_ref().and_then(|map| map.get("data")?.get(DATA_KEY)).and_then(Value::as_str);
        let written = kept::decode(text.unwrap_or("[]")).unwrap_or_else(|error| {
            tracing::warn!(%error, config_map = NAME, "the contests of before cannot be read; they are counted anew");
            Vec::new()
        });
        let known = written.clone();
        Ok((Self { api, leadership, written, wanted: Vec::new(), writing: JoinSet::new(), again: None }, known))
    }

    /// How they stand now.
    pub fn set(&mut self, now: Vec<Kept>) {
        self.wanted = now;
        self.write();
    }

    fn write(&mut self) {
        let busy = self.again.is_some() || !self.writing.is_empty();
        if !busy && kept::is_stale(&self.written, &self.wanted) && self.leadership.borrow().may_act(Instant::now()) {
            self.writing.spawn(write(self.api.clone(), self.wanted.clone()));
        }
    }

    /// Waits for the end of a write, or for the time to try again; for ever when there is neither. May be dropped at any
    /// moment.
    pub async fn next(&mut self) {
        let again = self.again;
        let time = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.writing.join_next() => match done {
                Ok(Ok(written)) => self.written = written,
                Ok(Err(error)) => {
                    tracing::warn!(%error, config_map = NAME, "the contests cannot be written down; trying again");
                    self.again = Some(Instant::now() + AGAIN);
                }
                // A write neither panics nor is aborted while we run.
                Err(_) => self.again = Some(Instant::now() + AGAIN),
            },
            () = time => self.again = None,
        }
        self.write();
    }

    /// Ends a write that is under way.
    pub async fn stop(&mut self) {
        self.writing.shutdown().await;
    }
}

async fn write(api: Api, contests: Vec<Kept>) -> Result<Vec<Kept>, ApiError> {
    let text = kept::encode(&contests).map_err(|error| ApiError::Answer(error.to_string()))?;
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": NAME, "namespace": marks::AGENT_NAMESPACE },
        "data": { DATA_KEY: text },
    });
    // Without a version: the pod that leads knows best.
    match api.replace(&Actor::Agent, &config_maps(), &map).await {
        Err(error) if error.is_not_found() => api.create(&Actor::Agent, &config_maps(), &map).await?,
        answer => answer?,
    };
    Ok(contests)
}
