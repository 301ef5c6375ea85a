//! Answers that say no, as RFC 9457 writes them.

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use driftless_protocol::api::{PROBLEM_JSON, Problem, problem};
use driftless_store::StoreError;

/// A request that is not carried out.
#[derive(Debug)]
pub(crate) struct Refusal(Problem);

pub(crate) type Answer<T> = Result<axum::Json<T>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Problem { code: code.into(), title: title.into(), status: status.as_u16(), detail: detail.into() })
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

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, problem::INTERNAL, "the hub failed", detail)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %crate::chain(&error), "an admin request failed");
        match error {
            StoreError::Conflict { .. } => Self::conflict(error.to_string()),
            other => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                problem::UNAVAILABLE,
                "the hub cannot answer now",
                format!("{other}; the hub's log has more"),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], axum::Json(self.0)).into_response()
    }
}

/// The JSON of a request; one that is not what it must be is answered as every other problem.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T, S> axum::extract::FromRequest<S> for Body<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Refusal::bad(rejection.body_text())),
        }
    }
}

pub(crate) async fn no_route(method: Method, uri: Uri) -> Refusal {
    Refusal::not_found(format!(
        "this hub knows no {method} {}; command line and hub may be of different versions",
        uri.path()
    ))
}

pub(crate) async fn no_method(method: Method, uri: Uri) -> Refusal {
    Refusal::bad(format!("{} does not take {method}", uri.path()))
}
