//! Reading requests: every refusal says which field and what was expected.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::{Extension, Json, extract::rejection::ExtensionRejection};
use driftless_protocol::api::{
    ApproveRequest, ClusterChange, FreezeRequest, JoinTokenRequest, ReconcileRequest, SuspendRequest,
};
use driftless_protocol::id::{ClusterName, UnitId, UnitKind};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::backend::{Actor, AuditQuery, Caller, UnitQuery};
use super::error::HttpError;
use super::guard::BodyLimit;

/// Longest time a join token may be good for.
const TOKEN_SECONDS: u64 = 86_400;
/// Most bytes of a reason.
const REASON_BYTES: usize = 1024;
/// Rows of the audit log in one answer.
const AUDIT_ROWS: u64 = 1000;
/// Rows where nothing is said.
const AUDIT_DEFAULT: u64 = 100;
/// Objects in one approval.
const APPROVALS: usize = 1000;
/// Changes of labels in one request, and labels of a token.
const LABELS: usize = 64;

/// A checked JSON body.
pub(super) struct Body<T>(pub(super) T);

/// What can be said about a request's body without knowing the fleet.
pub(super) trait Checked {
    /// The field and what is wrong with it.
    fn check(&self) -> Result<(), String>;
}

impl<S: Send + Sync, T: DeserializeOwned + Checked> FromRequest<S> for Body<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let most = request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0);
        let Json(value) = Json::<T>::from_request(request, state).await.map_err(|e| refuse_body(e, most))?;
        value.check().map_err(HttpError::bad_request)?;
        Ok(Self(value))
    }
}

fn refuse_body(rejection: JsonRejection, most: usize) -> HttpError {
    use std::error::Error as _;
    // The innermost words name field, line and column; those around them speak of types of this program.
    let words = |error: &dyn std::error::Error| error.source().map_or_else(|| error.to_string(), ToString::to_string);
    match &rejection {
        JsonRejection::JsonDataError(error) => HttpError::bad_request(format!("the request's body: {}", words(error))),
        JsonRejection::JsonSyntaxError(error) => {
            HttpError::bad_request(format!("the request's body is no JSON: {}", words(error)))
        }
        JsonRejection::MissingJsonContentType(_) => {
            HttpError::bad_request("the request lacks the header content-type: application/json")
        }
        JsonRejection::BytesRejection(error) if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE => {
            HttpError::too_large(most)
        }
        other => HttpError::bad_request(format!("the request's body cannot be read: {}", other.body_text()))
            .because(rejection.source().map_or_else(String::new, ToString::to_string)),
    }
}

/// Who asks. The guard has let only admins through.
impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let caller: Result<Extension<Caller>, ExtensionRejection> = Extension::from_request_parts(parts, state).await;
        match caller {
            Ok(Extension(Caller::Admin(actor))) => Ok(actor),
            _ => Err(HttpError::forbidden("nobody is known at the other end of this connection")),
        }
    }
}

/// A cluster by the path's `{name}`.
pub(super) struct ClusterPath(pub(super) ClusterName);

impl<S: Send + Sync> FromRequestParts<S> for ClusterPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(refuse_path)?;
        Ok(Self(cluster(&name)?))
    }
}

/// A unit by the path and `?kind=`.
pub(super) struct UnitPath(pub(super) ClusterName, pub(super) UnitId);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindText {
    kind: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for UnitPath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path((name, namespace, unit)) =
            Path::<(String, String, String)>::from_request_parts(parts, state).await.map_err(refuse_path)?;
        let Query(KindText { kind }) = query(parts, state).await?;
        let kind = kind.as_deref().and_then(given).map(unit_kind).transpose()?.unwrap_or(UnitKind::Kustomization);
        let namespace = object_name("the unit's namespace", &namespace)?;
        Ok(Self(cluster(&name)?, UnitId { namespace, name: object_name("the unit's name", &unit)?, kind }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitQueryText {
    cluster: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    kind: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for UnitQuery {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Query(text): Query<UnitQueryText> = query(parts, state).await?;
        let name = |what, text: &Option<String>| {
            text.as_deref().and_then(given).map(|text| object_name(what, text)).transpose()
        };
        Ok(Self {
            cluster: text.cluster.as_deref().and_then(given).map(cluster).transpose()?,
            namespace: name("namespace", &text.namespace)?,
            name: name("name", &text.name)?,
            kind: text.kind.as_deref().and_then(given).map(unit_kind).transpose()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQueryText {
    after: Option<String>,
    limit: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for AuditQuery {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Query(text): Query<AuditQueryText> = query(parts, state).await?;
        let number = |what, text: &Option<String>, default: u64| match text.as_deref().and_then(given) {
            Some(text) => text.parse().map_err(|_| HttpError::bad_request(format!("{what}={text:.40}: no number"))),
            None => Ok(default),
        };
        let after = number("after", &text.after, 0)?;
        let limit = number("limit", &text.limit, AUDIT_DEFAULT)?;
        if limit == 0 || limit > AUDIT_ROWS {
            return Err(HttpError::bad_request(format!("limit={limit}: expected 1 to {AUDIT_ROWS}")));
        }
        Ok(Self { after, limit })
    }
}

async fn query<S: Send + Sync, T: DeserializeOwned>(parts: &mut Parts, state: &S) -> Result<Query<T>, HttpError> {
    use std::error::Error as _;
    Query::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
        let words = rejection.source().map_or_else(|| rejection.to_string(), ToString::to_string);
        HttpError::bad_request(format!("the query cannot be read: {words}"))
    })
}

fn refuse_path(rejection: PathRejection) -> HttpError {
    HttpError::bad_request(format!("the path cannot be read: {}", rejection.body_text()))
}

/// A parameter without value counts as not given.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn cluster(text: &str) -> Result<ClusterName, HttpError> {
    text.parse().map_err(|e: driftless_protocol::id::IdError| HttpError::bad_request(e.to_string()))
}

fn unit_kind(text: &str) -> Result<UnitKind, HttpError> {
    match text {
        "Kustomization" => Ok(UnitKind::Kustomization),
        "HelmRelease" => Ok(UnitKind::HelmRelease),
        other => Err(HttpError::bad_request(format!("kind={other:.40}: expected Kustomization or HelmRelease"))),
    }
}

fn object_name(what: &str, text: &str) -> Result<String, HttpError> {
    is_object_name(text).then(|| text.to_owned()).ok_or_else(|| {
        HttpError::bad_request(format!(
            "{what} {:?} is no name of a Kubernetes object: expected at most 253 lower-case letters, digits, - and .",
            shortened(text)
        ))
    })
}

fn is_object_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn check_unit(unit: &UnitId) -> Result<(), String> {
    for (field, text) in [("namespace", &unit.namespace), ("name", &unit.name)] {
        if !is_object_name(text) {
            return Err(format!("unit.{field}: {:?} is no name of a Kubernetes object", shortened(text)));
        }
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), String> {
    if reason.len() > REASON_BYTES {
        return Err(format!("reason: it has {} bytes, at most {REASON_BYTES} are kept", reason.len()));
    }
    Ok(())
}

/// Kubernetes' own rule for label keys, less the check of the prefix; values as there.
fn check_label(key: &str, value: &str) -> Result<(), String> {
    let plain = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    let key_fits = !name.is_empty() && name.len() <= 63 && prefix.len() <= 253 && plain(name) && plain(prefix);
    if !key_fits || (key.contains('/') && prefix.is_empty()) {
        return Err(format!("labels: {:?} is no label key", shortened(key)));
    }
    if value.len() > 63 || !plain(value) {
        return Err(format!("labels.{key}: {:?} is no label value", shortened(value)));
    }
    Ok(())
}

impl Checked for JoinTokenRequest {
    fn check(&self) -> Result<(), String> {
        match self.ttl_seconds {
            Some(0) => return Err("ttlSeconds: a token that is never good is of no use".to_owned()),
            Some(ttl) if ttl > TOKEN_SECONDS => {
                return Err(format!("ttlSeconds: {ttl} is more than a day ({TOKEN_SECONDS}), the most a token may last"));
            }
            _ => {}
        }
        if self.labels.len() > LABELS {
            return Err(format!("labels: {} of them, at most {LABELS} are allowed", self.labels.len()));
        }
        self.labels.iter().try_for_each(|(key, value)| check_label(key, value))
    }
}

impl Checked for ClusterChange {
    fn check(&self) -> Result<(), String> {
        if self.labels.is_empty() {
            return Err("labels: nothing to change is given".to_owned());
        }
        if self.labels.len() > LABELS {
            return Err(format!("labels: {} of them, at most {LABELS} are allowed", self.labels.len()));
        }
        let mut labels = self.labels.iter();
        labels.try_for_each(|(key, value)| check_label(key, value.as_deref().unwrap_or_default()))
    }
}

impl Checked for ReconcileRequest {
    fn check(&self) -> Result<(), String> {
        if self.source.is_some() && (self.cluster.is_some() || self.unit.is_some()) {
            return Err("source: it is fetched for all clusters; leave out cluster and unit".to_owned());
        }
        self.unit.as_ref().map_or(Ok(()), check_unit)
    }
}

impl Checked for SuspendRequest {
    fn check(&self) -> Result<(), String> {
        check_unit(&self.unit)?;
        check_reason(&self.reason)
    }
}

impl Checked for FreezeRequest {
    fn check(&self) -> Result<(), String> {
        check_reason(&self.reason)
    }
}

impl Checked for ApproveRequest {
    fn check(&self) -> Result<(), String> {
        if self.keys.is_empty() {
            return Err("keys: no object is named; `driftless describe` lists the held deletes".to_owned());
        }
        if self.keys.len() > APPROVALS {
            return Err(format!("keys: {} of them, at most {APPROVALS} at one time", self.keys.len()));
        }
        check_reason(&self.reason)
    }
}
