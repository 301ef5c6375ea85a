//! Around every request: who asks, how long it may take, what the log says. A panic ends one request and nothing else.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use driftless_protocol::api::PREFIX;
use futures::FutureExt as _;
use tokio_util::task::TaskTracker;

use super::error::Refusal;
use super::{Actor, BODY_BYTES};

/// Names a request in the answer and in the log.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody who may use the API.
    Admin(Actor),
    /// Somebody who may not: why, for people.
    Refused(String),
}

/// Times for requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// For every request but the next.
    pub(crate) request: Duration,
    /// For `POST /reconcile`, which fetches sources first, and for what an agent is asked.
    pub(crate) long: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { request: Duration::from_secs(20), long: Duration::from_secs(120) }
    }
}

/// What the guard needs.
#[derive(Debug, Default)]
pub(super) struct Guard {
    pub(super) times: Times,
    pub(super) ids: AtomicU64,
    /// Requests that change something: they run to their end also when nobody waits for them any more.
    pub(super) changes: TaskTracker,
}

/// The middleware. Logs path and outcome, never a query, a body or an answer: those may hold a token.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = guard.ids.fetch_add(1, Ordering::Relaxed).to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let caller = request.extensions_mut().remove::<Caller>();
    let (actor, answer) = match caller {
        Some(Caller::Admin(actor)) => {
            let name = actor.0.clone();
            request.extensions_mut().insert(actor);
            (name, answer(&guard, &method, &path, request, next).await)
        }
        Some(Caller::Refused(why)) => ("refused".to_owned(), Err(Refusal::forbidden(why))),
        None => ("unknown".to_owned(), Err(Refusal::forbidden("nobody is known at the other end of this connection"))),
    };
    let (first, refusal) = match answer {
        Ok(mut response) => {
            let refusal = response.extensions_mut().remove::<Refusal>();
            (response, refusal)
        }
        Err(refusal) => (Response::default(), Some(refusal)),
    };
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut response = match refusal {
        Some(refusal) => {
            let (status, error) = (refusal.status(), refusal.for_log());
            if status.is_server_error() {
                tracing::error!(request = id, %method, path, actor, status = status.as_u16(), ms, error, "an admin request failed");
            } else {
                tracing::info!(request = id, %method, path, actor, status = status.as_u16(), ms, error, "an admin request was refused");
            }
            let mut response = refusal.respond(&id);
            if let Some(allow) = first.headers().get(header::ALLOW) {
                response.headers_mut().insert(header::ALLOW, allow.clone());
            }
            response
        }
        None if reads(&method) => {
            tracing::debug!(request = id, %method, path, actor, status = first.status().as_u16(), ms, "admin request");
            first
        }
        None => {
            tracing::info!(request = id, %method, path, actor, status = first.status().as_u16(), ms, "admin request");
            first
        }
    };
    let headers = response.headers_mut();
    // Answers hold join tokens and what clusters say: nothing in between may keep them.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    response
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Runs the request within its time, reading of its body included.
async fn answer(guard: &Guard, method: &Method, path: &str, request: Request, next: Next) -> Result<Response, Refusal> {
    let path_here = path.strip_prefix(PREFIX).unwrap_or_default();
    let asks =
        path_here.starts_with("/clusters/") && ["/orphans", "/dry-run"].iter().any(|end| path_here.ends_with(end));
    let most = if asks || path_here == "/reconcile" { guard.times.long } else { guard.times.request };
    let run = async {
        if reads(method) {
            return AssertUnwindSafe(next.run(request)).catch_unwind().await.map_err(|panic| panicked(&*panic));
        }
        // Whole before it begins: what has begun does not end for want of the rest.
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES).await.map_err(|e| refuse_body(&e))?;
        let request = Request::from_parts(parts, Body::from(body));
        guard.changes.spawn(next.run(request)).await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => panicked(&*panic),
            Err(_) => Refusal::unavailable("the hub is stopping; look with `driftless status` once it is back"),
        })
    };
    match tokio::time::timeout(most, run).await {
        Ok(answer) => answer,
        Err(_) => {
            let what = format!("{method} {path} was not answered within {} s", most.as_secs());
            Err(Refusal::unavailable(if reads(method) {
                format!(
                    "{what}: the hub is busy or its database slow; repeat it, and look at the hub's log if it stays so"
                )
            } else {
                format!("{what}. It may still be carried out: look with `driftless status` before you repeat it")
            }))
        }
    }
}

fn refuse_body(error: &axum::Error) -> Refusal {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.is::<http_body_util::LengthLimitError>() {
            return Refusal::too_large(BODY_BYTES);
        }
        next = cause.source();
    }
    Refusal::bad(format!("the request's body broke off: {error}"))
}

/// A panic as an answer; its words go to the log.
fn panicked(panic: &(dyn Any + Send)) -> Refusal {
    let words = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned());
    Refusal::internal("the hub broke off this request because of a fault of its own").because(words)
}
