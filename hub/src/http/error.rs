//! Answers that say no, as RFC 9457 writes them.

use std::error::Error;
use std::sync::Arc;

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use driftless_protocol::api::{PROBLEM_JSON, Problem, problem};
use driftless_store::StoreError;

pub(crate) use super::extract::Body;

/// A request that is not carried out: what its caller is told, and what only the log is told.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    problem: Box<Problem>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

pub(crate) type Answer<T> = Result<axum::Json<T>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let problem =
            Problem { code: code.into(), title: title.into(), status: status.as_u16(), detail: detail.into() };
        Self { problem: Box::new(problem), cause: None }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, problem::NOT_FOUND, "not found", detail)
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problem::BAD_REQUEST, "bad request", detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, problem::CONFLICT, "conflict", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, problem::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, problem::UNAVAILABLE, "the hub cannot answer now", detail)
    }

    /// The caller is told which request to look for in the log.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, problem::INTERNAL, "the hub failed", detail)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let detail = format!("the request's body has more than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, problem::BAD_REQUEST, "bad request", detail)
    }

    /// The cause, for the log only.
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into().into());
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Everything in a line, causes included.
    pub(super) fn for_log(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {}", self.problem.detail, crate::chain(&**cause)),
            None => self.problem.detail.clone(),
        }
    }

    /// The answer to the request of this number.
    pub(super) fn respond(mut self, request: &str) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            self.problem.detail.push_str(&format!("; the hub's log has more under request={request}"));
        }
        let mut response = (status, axum::Json(self.problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}

/// The guard around all routes writes the body: it knows the request's number.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let refusal = match &error {
            StoreError::Conflict { .. } => {
                Self::conflict(format!("{error}; look again, then repeat it if it still fits"))
            }
            StoreError::Closed => Self::unavailable("the hub is stopping; repeat it in a moment"),
            StoreError::Damaged { .. } | StoreError::Unrepresentable { .. } => {
                Self::internal("the hub's database holds what this program cannot read or write")
            }
            _ => Self::unavailable(format!("{error}; the hub's log has more")),
        };
        refusal.because(error)
    }
}

pub(crate) async fn no_route(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::not_found(format!("this hub knows no {method} {path}; command line and hub may be of different versions"))
}

pub(crate) async fn no_method(method: Method, uri: Uri) -> Refusal {
    let detail = format!("{} does not take {method}; the header `allow` says what it takes", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, problem::BAD_REQUEST, "bad request", detail)
}
