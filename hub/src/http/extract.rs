//! Reading requests. What cannot be read is answered as every other problem, with the field it is about.

use std::error::Error;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::error::Refusal;

/// The JSON of a request.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refuse_body(&rejection)),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Refusal {
    match rejection {
        JsonRejection::JsonDataError(error) => Refusal::bad(format!("the request's body: {}", cause(error))),
        JsonRejection::JsonSyntaxError(error) => {
            Refusal::bad(format!("the request's body is no JSON: {}", cause(error)))
        }
        JsonRejection::MissingJsonContentType(_) => {
            Refusal::bad("the request lacks the header content-type: application/json")
        }
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large(super::BODY_BYTES),
        other => Refusal::bad(format!("the request's body cannot be read: {}", cause(other))),
    }
}

/// The words behind a rejection: they name the field; those before them speak of this program's types.
fn cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The query of a request. A parameter without value counts as not given.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let given = parts.uri.query().unwrap_or_default().split('&');
        let given: Vec<&str> =
            given.filter(|pair| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty())).collect();
        let uri: Uri = format!("/?{}", given.join("&"))
            .parse()
            .map_err(|e: axum::http::uri::InvalidUri| Refusal::bad(format!("the query cannot be read: {e}")))?;
        match axum::extract::Query::try_from_uri(&uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Refusal::bad(format!("the query cannot be read: {}", cause(&rejection)))),
        }
    }
}

/// What a path names.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(Refusal::bad(format!("the path cannot be read: {}", rejection.body_text()))),
        }
    }
}
