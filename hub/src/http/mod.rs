//! The admin API: HTTPS with client certificates, and a local socket for the hub's own user.
//!
//! | limit | value |
//! |---|---|
//! | request body | 1 MiB |
//! | time for a request | 20 s; `reconcile`, and what an agent is asked, 120 s |
//! | TLS handshake | 5 s, 64 at one time |
//! | connections | 256 per listener, closed after 30 s without a request |
//!
//! A request that changes something runs to its end also when its caller hangs up or its time is over, so that nothing is
//! left half done; the listener it came by awaits it when the hub stops.

mod approve;
mod ask;
mod change;
mod drift;
pub(crate) mod error;
mod extract;
mod guard;
mod listen;
mod read;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use driftless_protocol::api::PREFIX;
use tokio_util::task::TaskTracker;

use crate::shared::Shared;

pub(crate) use listen::{bind_socket, serve_socket, serve_tls};

/// A request's body: lists of objects to approve are the longest.
const BODY_BYTES: usize = 1024 * 1024;

/// Who asks, for the audit log: an operator's name, or `uid:0` for a user of the local socket. Names of operators have no
/// colon, so that one cannot pass for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor(pub(crate) String);

/// Routes with their guard.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    router: Router,
    changes: TaskTracker,
}

impl Api {
    /// All routes.
    fn new(shared: Arc<Shared>) -> Self {
        Self::over(routes().with_state(shared), guard::Times::default())
    }

    /// These routes.
    fn over(routes: Router, times: guard::Times) -> Self {
        let changes = TaskTracker::new();
        let guard = Arc::new(guard::Guard { times, changes: changes.clone(), ..guard::Guard::default() });
        let router = routes
            .fallback(error::no_route)
            .method_not_allowed_fallback(error::no_method)
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .layer(from_fn_with_state(guard, guard::guard));
        Self { router, changes }
    }
}

fn routes() -> Router<Arc<Shared>> {
    let unit = "/clusters/{cluster}/units/{namespace}/{name}";
    let api = Router::new()
        .route("/status", get(read::status))
        .route("/clusters", get(read::clusters))
        .route("/clusters/{cluster}", get(read::cluster).patch(change::label).delete(change::remove))
        .route("/clusters/{cluster}/facts", get(read::facts))
        .route("/clusters/{cluster}/orphans", get(ask::orphans))
        .route("/clusters/{cluster}/dry-run", post(ask::dry_run))
        .route("/clusters/{cluster}/shadow", get(read::shadow))
        .route("/join-tokens", post(change::join_token))
        .route("/sources", get(read::sources))
        .route("/units", get(read::units))
        .route(unit, get(read::unit))
        .route(&format!("{unit}/why"), get(read::why))
        .route("/reconcile", post(change::reconcile))
        .route("/suspend", post(change::suspend))
        .route("/resume", post(change::resume))
        .route("/drift-mode", post(drift::set))
        .route("/freeze", post(change::freeze))
        .route("/unfreeze", post(change::unfreeze))
        .route("/deletes", get(approve::deletes))
        .route("/approve", post(approve::approve))
        .route("/history", get(read::history))
        .route("/audit", get(read::audit));
    Router::new().nest(PREFIX, api)
}
