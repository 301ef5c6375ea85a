//! The admin API: HTTPS with client certificates, and a local socket for the hub's own user.

mod change;
pub(crate) mod error;
mod read;
pub(crate) mod tls;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use driftless_protocol::api::PREFIX;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::shared::Shared;

/// Connections at one time: operators, pages and scripts, not agents.
const CONNECTIONS: usize = 256;
/// A request's body: lists of objects to approve are the longest.
const BODY_BYTES: usize = 1024 * 1024;
/// A TLS handshake, and the head of a request, must come in that time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that run when the hub stops may take so long to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Who asks, for the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Actor(pub(crate) String);

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let unit = "/clusters/{cluster}/units/{namespace}/{name}";
    let api = Router::new()
        .route("/status", get(read::status))
        .route("/clusters", get(read::clusters))
        .route("/clusters/{cluster}", get(read::cluster).patch(change::label).delete(change::remove))
        .route("/join-tokens", post(change::join_token))
        .route("/sources", get(read::sources))
        .route("/units", get(read::units))
        .route(unit, get(read::unit))
        .route(&format!("{unit}/why"), get(read::why))
        .route("/reconcile", post(change::reconcile))
        .route("/suspend", post(change::suspend))
        .route("/resume", post(change::resume))
        .route("/freeze", post(change::freeze))
        .route("/unfreeze", post(change::unfreeze))
        .route("/approve", post(change::approve))
        .route("/audit", get(read::audit));
    Router::new()
        .nest(PREFIX, api)
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shared)
}

/// Serves HTTPS until the hub stops.
pub(crate) async fn serve_tls(shared: Arc<Shared>, listener: TcpListener, tls: Arc<tls::AdminTls>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let router = router(shared.clone());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: others must go first.
                tracing::warn!(%error, "an admin connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (shared, router, acceptor) = (shared.clone(), router.clone(), tls.acceptor());
        tasks.spawn(async move {
            let _slot = slot;
            let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::info!(%peer, %error, "an admin connection was refused");
                    return;
                }
                Err(_) => return,
            };
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let Some(actor) = chain.first().and_then(|leaf| tls::actor(leaf)) else { return };
            connection(&shared, router, stream, actor).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Serves the local socket until the hub stops, then removes it.
pub(crate) async fn serve_socket(shared: Arc<Shared>, listener: UnixListener, path: std::path::PathBuf) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let router = router(shared.clone());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (shared, router) = (shared.clone(), router.clone());
        tasks.spawn(async move {
            let _slot = slot;
            let Ok(peer) = stream.peer_cred() else { return };
            connection(&shared, router, stream, Actor(format!("local user {}", peer.uid()))).await;
        });
    }
    while tasks.join_next().await.is_some() {}
    let _ = std::fs::remove_file(path);
}

/// Opens the local socket; only the hub's user (and root) may connect.
pub(crate) fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    // One left over by a hub that was killed: the database's lock says that no other hub runs here.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn connection(
    shared: &Shared,
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    actor: Actor,
) {
    let service = TowerToHyperService::new(router.layer(axum::Extension(actor)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = shared.stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_WORDS, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended badly");
    }
}
