//! The accept loop: limits before work, then enrolment or session by ALPN.

use std::sync::Arc;

use driftless_protocol::message::RejectCode;
use driftless_protocol::quic::{self, Accepted, close_rejected};
use quinn::Endpoint;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::fleet::enroll::{self, Attempts};
use crate::fleet::ingest::Report;
use crate::fleet::session;
use crate::shared::Shared;

/// Handshakes at one time, at about 37 KiB and half a millisecond of processor each.
const HANDSHAKES: usize = 256;
/// From so many on, a peer must first prove that its address is its own.
const RETRY_FROM: usize = 128;

/// Accepts until the hub stops; returns when every session has ended.
pub(crate) async fn run(shared: Arc<Shared>, endpoint: Endpoint, reports: mpsc::Sender<Report>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let sessions = Arc::new(Semaphore::new(shared.config.fleet.max_sessions));
    let attempts = Arc::new(Attempts::default());
    let mut tasks = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = shared.stop.cancelled() => break,
            incoming = endpoint.accept() => incoming,
            Some(ended) = tasks.join_next() => {
                panicked(ended);
                continue;
            }
        };
        let Some(incoming) = incoming else { break };
        let busy = HANDSHAKES - handshakes.available_permits();
        if busy >= RETRY_FROM && incoming.may_retry() {
            // Fails only for one that was validated, which `may_retry` excludes.
            let _ = incoming.retry();
            continue;
        }
        let Ok(slot) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (shared, sessions, attempts, reports) =
            (shared.clone(), sessions.clone(), attempts.clone(), reports.clone());
        tasks.spawn(async move {
            let peer = incoming.remote_address();
            let accepted = quic::accept(incoming).await;
            drop(slot);
            match accepted {
                Ok(Accepted::Enroll(connection)) => enroll::serve(&shared, &attempts, connection).await,
                Ok(Accepted::Session(connection, identity)) => match sessions.try_acquire_owned() {
                    Ok(_slot) => session::serve(&shared, connection, identity, reports).await,
                    Err(_) => {
                        let message = "the hub has as many sessions as it is configured for; try again later";
                        tracing::warn!(%peer, cluster = %identity.cluster, limit = shared.config.fleet.max_sessions,
                            "a session was refused: too many");
                        close_rejected(&connection, RejectCode::Busy, message);
                    }
                },
                Err(error) => tracing::debug!(%peer, error = %crate::chain(&error), "a connection was not accepted"),
            }
        });
    }
    drop(reports);
    while let Some(ended) = tasks.join_next().await {
        panicked(ended);
    }
}

fn panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection broke off; the others go on");
    }
}
