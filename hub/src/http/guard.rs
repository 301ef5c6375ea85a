//! Around every request: who asks, how long it may take, what the log says; a panic ends one request and nothing else.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use driftless_protocol::api::PREFIX;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, header};

use super::Limits;
use super::backend::Caller;
use super::error::HttpError;

/// Names a request in the answer and in the log.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the guard needs.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) limits: Limits,
    pub(super) ids: AtomicU64,
}

/// Bytes a body may have, for the words of a refusal.
#[derive(Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// The middleware. Logs path and outcome, never a query, a body or an answer: those may hold a token.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = guard.ids.fetch_add(1, Ordering::Relaxed).to_string();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (who, answer) = match request.extensions().get::<Caller>() {
        Some(Caller::Admin(actor)) => {
            let who = actor.to_string();
            request.extensions_mut().insert(BodyLimit(guard.limits.body));
            (who, answer(&guard.limits, &method, &path, next.run(request)).await)
        }
        Some(Caller::Refused(why)) => ("refused".to_owned(), Err(HttpError::forbidden(why))),
        None => ("unknown".to_owned(), Err(HttpError::forbidden("nobody is known at the other end of this connection"))),
    };
    let mut response = match answer {
        Ok(mut response) => match response.extensions_mut().remove::<HttpError>() {
            Some(error) => failed(&error, &response, &id, &method, &path, &who),
            None => response,
        },
        Err(error) => failed(&error, &Response::default(), &id, &method, &path, &who),
    };
    let status = response.status().as_u16();
    let ms = started.elapsed().as_millis() as u64;
    if method == Method::GET || method == Method::HEAD {
        tracing::debug!(request = id, %method, path, actor = who, status, ms, "admin request");
    } else {
        tracing::info!(request = id, %method, path, actor = who, status, ms, "admin request");
    }
    let headers = response.headers_mut();
    // Answers hold join tokens and what clusters say: nothing in between may keep them.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    response
}

/// Runs the request within its time.
async fn answer(
    limits: &Limits,
    method: &Method,
    path: &str,
    run: impl Future<Output = Response>,
) -> Result<Response, HttpError> {
    let most = if path.strip_prefix(PREFIX) == Some("/reconcile") { limits.reconcile } else { limits.request };
    match tokio::time::timeout(most, AssertUnwindSafe(run).catch_unwind()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => {
            let seconds = most.as_secs();
            let what = format!("{method} {path} was not answered within {seconds} s");
            Err(HttpError::unavailable(if method == Method::GET {
                format!("{what}: the hub is busy, or its database is slow; repeat it, and look at the hub's log if it stays so")
            } else {
                format!("{what}. It may still be carried out: look with `driftless status` before you repeat it")
            }))
        }
    }
}

/// A panic as an answer; its words go to the log.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> HttpError {
    let words = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned());
    HttpError::internal("the hub broke off this request because of a fault of its own").because(words)
}

/// The problem as the body, the headers of the answer it came in (`allow`) kept.
fn failed(error: &HttpError, first: &Response, id: &str, method: &Method, path: &str, who: &str) -> Response {
    let words = error.for_log();
    let status = error.status().as_u16();
    if error.status().is_server_error() {
        tracing::error!(request = id, %method, path, actor = who, status, error = words, "admin request failed");
    } else {
        tracing::info!(request = id, %method, path, actor = who, status, error = words, "admin request refused");
    }
    let mut response = error.respond(id);
    if let Some(allow) = first.headers().get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}
