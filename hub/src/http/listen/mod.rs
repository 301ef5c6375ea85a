//! Where operators connect: HTTPS with client certificates, and a local socket.

mod socket;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use driftless_protocol::quic::tls::TlsError;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::backend::Caller;
use super::{AdminApi, Limits};

pub use socket::SocketListener;
pub use tls::{ADMIN_URI_PREFIX, TlsListener, admin_uri};

/// How long to wait after `accept` failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES: usize = 32 * 1024;

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TCP address cannot be used.
    #[error("cannot listen on TCP {address} for the admin API")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// As the system says.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be configured.
    #[error("cannot set up TLS for the admin API")]
    Tls(#[source] TlsError),
    /// The socket cannot be made.
    #[error("cannot {operation} {} for the admin API's socket", path.display())]
    Socket {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// As the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody listens at the socket.
    #[error("{} is in use: another hub runs with this socket; stop it, or configure another path", .0.display())]
    SocketInUse(PathBuf),
    /// Something else is where the socket should be.
    #[error("{} exists and is no socket: move it away, or configure another path", .0.display())]
    NotASocket(PathBuf),
}

/// Where to listen; bound already, so that whoever starts the hub learns of a wrong address at once.
#[derive(Debug, Default)]
pub struct Listeners {
    /// HTTPS.
    pub tls: Option<TlsListener>,
    /// The local socket.
    pub socket: Option<SocketListener>,
}

impl AdminApi {
    /// Serves until `stop`; then lets requests end within [`Limits::grace`], ends the rest, and removes the socket.
    /// Changes that were begun are awaited as long.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken) {
        let Self { router, changes, limits } = self;
        let serve_tls = async {
            if let Some(listener) = listeners.tls {
                listener.serve(&router, &limits, &stop).await;
            }
        };
        let serve_socket = async {
            if let Some(listener) = listeners.socket {
                listener.serve(&router, &limits, &stop).await;
            }
        };
        tokio::join!(serve_tls, serve_socket);
        changes.close();
        if tokio::time::timeout(limits.grace, changes.wait()).await.is_err() {
            tracing::warn!(requests = changes.len(), "the hub stops before these admin requests have ended");
        }
    }
}

/// Connections of one listener.
struct Connections {
    tasks: JoinSet<()>,
    slots: Arc<Semaphore>,
}

impl Connections {
    fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), slots: Arc::new(Semaphore::new(most)) }
    }

    /// Forgets connections that have ended.
    fn reap(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Err(error) = done {
                tracing::error!(%error, "a connection to the admin API broke off");
            }
        }
    }

    /// Each connection ends by itself after `stop`; what takes longer than the grace is cut.
    async fn finish(mut self, grace: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "connections to the admin API are cut, since the hub stops");
            self.tasks.shutdown().await;
        }
    }
}

/// Serves one connection until it ends, is idle for too long, or the hub stops.
async fn connection<S>(stream: S, caller: Caller, router: Router, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin API ended early");
    }
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The next connection; waits a little after a failure, which is mostly a want of file descriptors. `None`: the hub stops.
async fn next<T, F>(what: &str, stop: &CancellationToken, accept: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = accept() => accepted,
        };
        match accepted {
            Ok(stream) => return Some(stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin API on {what}");
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}
