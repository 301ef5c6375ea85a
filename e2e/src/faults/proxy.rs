//! An HTTPS proxy in front of a real API server. It passes on every header, so that the API server judges token and
//! impersonation as if it were asked directly; its own certificate is of an authority that the caller is told to trust.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body as KubeBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::rules::{Asked, Fault, Rule, Rules};
use crate::certs;
use crate::controlplane::{Access, ControlPlane};
use crate::ports;

/// Connections at once; an agent has a few dozen.
const CONNECTIONS: usize = 512;
/// Largest request body: what the API server takes, and more.
const REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: String,
    _listening: AbortOnDropHandle<()>,
}

struct Shared {
    upstream: Client,
    rules: Mutex<Rules>,
    /// Counts cuts: every answer that is under way ends when it rises.
    cuts: watch::Sender<u64>,
    /// Counts stalls that were not waited for yet.
    stalls: Semaphore,
    /// Requests that are passed on late, whoever waits.
    late: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts one that passes everything on.
    ///
    /// # Errors
    /// No port or certificate can be had.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let mut config = plane.admin().config().await?;
        // Whoever asks brings credentials of his own.
        config.auth_info = kube::config::AuthInfo::default();
        let upstream = Client::try_from(config).context("make a client without credentials")?;
        let (acceptor, authority) = certs::loopback_tls("fault proxy").context("set up TLS of the fault proxy")?;
        let listener = ports::listen().context("listen on a port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            rules: Mutex::default(),
            cuts: watch::Sender::new(0),
            stalls: Semaphore::new(0),
            late: Mutex::default(),
        });
        let listening = AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor, Arc::clone(&shared))));
        Ok(Self { shared, address, authority, _listening: listening })
    }

    /// The same way in, through this proxy.
    #[must_use]
    pub fn access(&self, direct: &Access) -> Access {
        direct.through(format!("https://{}", self.address), &self.authority)
    }

    /// These faults from now on, and no others; counted from nothing.
    pub fn set(&self, rules: Vec<Rule>) {
        self.shared.rules().set(rules);
    }

    /// How often the present rules struck.
    #[must_use]
    pub fn fired(&self) -> usize {
        self.shared.rules().fired()
    }

    /// Ends every answer that is under way: watches, above all.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until a request is stalled.
    pub async fn stalled(&self) {
        if let Ok(permit) = self.shared.stalls.acquire().await {
            permit.forget();
        }
    }

    /// Waits until nothing is on its way any more that was delayed.
    pub async fn nothing_late(&self) {
        loop {
            let mut late = std::mem::take(&mut *self.shared.late());
            if late.is_empty() {
                return;
            }
            while late.join_next().await.is_some() {}
        }
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Dropped, and so aborted, with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::debug!(%error, "fault proxy could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let served = async {
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let service = service_fn(|request| {
            let shared = Arc::clone(&shared);
            async move { answer(request, shared).await }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
        anyhow::Ok(())
    };
    if let Err(error) = served.await {
        tracing::debug!(error = %format!("{error:#}"), "fault proxy: a connection ended early");
    }
}

/// The error of an answer that is not given: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on purpose")]
struct Reset;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Reset> {
    let content = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let uri = request.uri().to_string();
    let fault = shared.rules().take(&Asked { method: request.method(), uri: &uri, content: &content });
    if let Some(fault) = &fault {
        tracing::debug!(method = %request.method(), uri, ?fault, "fault proxy strikes");
    }
    let request = incoming(request).await?;
    match fault {
        None => Ok(forward(request, &shared).await),
        Some(Fault::Refuse { status, retry_after }) => Ok(refusal(status, retry_after)),
        Some(Fault::Expired) => Ok(expired()),
        Some(Fault::ResetBefore) => Err(Reset),
        Some(Fault::ResetAfter) => {
            carry_out(request, &shared).await;
            Err(Reset)
        }
        Some(Fault::Stall { carried_out }) => {
            if carried_out {
                carry_out(request, &shared).await;
            }
            shared.stalls.add_permits(1);
            // Until the connection is closed by whoever asked.
            std::future::pending().await
        }
        Some(Fault::Delay(time)) => {
            let (tell, told) = tokio::sync::oneshot::channel();
            let own = Arc::clone(&shared);
            shared.late().spawn(async move {
                tokio::time::sleep(time).await;
                let answer = forward(request, &own).await;
                // Nobody waits: it was carried out all the same, once its answer has ended.
                if let Err(answer) = tell.send(answer) {
                    drop(answer.into_body().collect().await);
                }
            });
            told.await.map_err(|_| Reset)
        }
    }
}

/// A request with its whole body, so that it can be passed on whatever becomes of the connection it came by.
async fn incoming(request: Request<Incoming>) -> Result<Request<KubeBody>, Reset> {
    let (parts, body) = request.into_parts();
    let bytes = Limited::new(body, REQUEST_BYTES).collect().await.map_err(|_| Reset)?.to_bytes();
    let mut passed = Request::new(KubeBody::from(bytes));
    *passed.method_mut() = parts.method;
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    *passed.uri_mut() = path.parse().map_err(|_| Reset)?;
    *passed.headers_mut() = end_to_end(parts.headers);
    passed.headers_mut().remove(HOST);
    Ok(passed)
}

/// Without what concerns one connection only.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers
}

/// Passes a request on and waits for the end of its answer.
async fn carry_out(request: Request<KubeBody>, shared: &Arc<Shared>) {
    drop(forward(request, shared).await.into_body().collect().await);
}

async fn forward(request: Request<KubeBody>, shared: &Arc<Shared>) -> Response<Body> {
    let cuts = shared.cuts.subscribe();
    match shared.upstream.send(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let mut answer = Response::new(until_cut(body, cuts));
            *answer.status_mut() = parts.status;
            *answer.headers_mut() = end_to_end(parts.headers);
            answer
        }
        Err(error) => {
            tracing::debug!(%error, "fault proxy: the API server does not answer");
            status(StatusCode::BAD_GATEWAY, "ServiceUnavailable", "the API server does not answer")
        }
    }
}

/// A body that breaks off at the next cut.
fn until_cut(body: KubeBody, cuts: watch::Receiver<u64>) -> Body {
    let frames = stream::unfold((BodyStream::new(body), cuts, false), |(mut body, mut cuts, over)| async move {
        if over {
            return None;
        }
        tokio::select! {
            frame = body.next() => {
                let frame = frame?.map_err(io::Error::other);
                let failed = frame.is_err();
                Some((frame, (body, cuts, failed)))
            }
            // The sender lives as long as the proxy; without it everything ends anyway.
            _ = cuts.changed() => Some((Err(io::Error::other("cut off on purpose")), (body, cuts, true))),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

fn refusal(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = match code.as_u16() {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let mut answer = status(code, reason, "refused on purpose");
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let text = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    json(code, text.to_string())
}

/// What the API server says when the history of a watch is compacted: the stream begins, with an error as its one event.
fn expired() -> Response<Body> {
    let event = serde_json::json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
    }});
    json(StatusCode::OK, format!("{event}\n"))
}

fn json(code: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
