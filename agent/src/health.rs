//! `/healthz` and `/readyz` for the kubelet.
//!
//! Healthy: the process answers and no vital task has ended. Ready: it leads and enforces a bundle, or follows a leader;
//! a pod that is neither shows as not ready, so that a rolling update waits for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the endpoints say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why, for people.
    pub message: String,
}

/// Connections at once: a kubelet needs two.
const CONNECTIONS: usize = 16;

/// Serves until cancelled.
pub async fn serve(
    address: SocketAddr,
    readiness: watch::Receiver<Readiness>,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                let Ok((stream, _)) = accepted else { continue };
                let readiness = readiness.clone();
                connections.spawn(async move {
                    let answer = service_fn(|request| {
                        let answer = respond(&request, &readiness.borrow());
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(Duration::from_secs(5))
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "a health request broke off");
                    }
                });
            }
        }
    }
    connections.shutdown().await;
    Ok(())
}

fn respond(request: &Request<Incoming>, readiness: &Readiness) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok".to_owned()),
        "/readyz" if readiness.ready => (StatusCode::OK, readiness.message.clone()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, readiness.message.clone()),
        _ => (StatusCode::NOT_FOUND, "there are /healthz and /readyz".to_owned()),
    };
    let mut response = Response::new(Full::from(text + "\n"));
    *response.status_mut() = status;
    response
}
