//! Requests to the API server: the only file that builds them.
//!
//! Every request names who it is made as ([`Actor`]) and has a deadline. kube's own retry is switched off
//! ([`connect`]); what is retried, and when, is decided in `driftless-reconcile`.

use std::time::Duration;

use bytes::Bytes;
use driftless_protocol::bundle::ServiceAccount;
use driftless_protocol::marks;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WARNING};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tower::{BoxError, ServiceBuilder};

/// How long a connection that nobody uses is kept; the renewal of the lease keeps one.
const IDLE: Duration = Duration::from_secs(5);
/// What is read at once, a record of TLS: each watch keeps so much. The head of an answer must fit.
const READ_BYTES: usize = 16 * 1024;
/// Largest answer read: the API server's object limit is 1.5 MiB, of which text within text may become twice as much.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Records per page: each has up to 1 MiB and what surrounds it. Where that is too much for one answer, it is halved.
const RECORDS: u32 = 4;

/// Whole objects.
const JSON: &str = "application/json";
/// Metadata only.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Whom a request is made as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The agent's own account: its records in its own namespace, nothing else.
    Agent,
    /// An impersonated service account: every managed object is read and written so.
    Account(ServiceAccount),
}

/// A kind as this cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// The name in paths.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// `group/version` or `version`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(&segment(namespace));
        }
        path.push('/');
        path.push_str(&self.plural);
        if !name.is_empty() {
            path.push('/');
            path.push_str(&segment(name));
        }
        path
    }
}

/// The ConfigMap resource, for our own records.
#[must_use]
pub fn config_maps() -> Resource {
    core("ConfigMap", "configmaps", true)
}

/// The Secret resource, for our own records.
#[must_use]
pub fn secrets() -> Resource {
    core("Secret", "secrets", true)
}

/// The Namespace resource.
#[must_use]
pub fn namespaces() -> Resource {
    core("Namespace", "namespaces", false)
}

/// The Event resource of the core group, where every component's Events can be read.
#[must_use]
pub fn core_events() -> Resource {
    core("Event", "events", true)
}

/// The PersistentVolumeClaim resource.
#[must_use]
pub fn claims() -> Resource {
    core("PersistentVolumeClaim", "persistentvolumeclaims", true)
}

/// The Lease resource.
#[must_use]
pub fn leases() -> Resource {
    Resource {
        group: "coordination.k8s.io".into(),
        version: "v1".into(),
        kind: "Lease".into(),
        plural: "leases".into(),
        namespaced: true,
    }
}

/// The Event resource to write to.
#[must_use]
pub fn events() -> Resource {
    Resource {
        group: "events.k8s.io".into(),
        version: "v1".into(),
        kind: "Event".into(),
        plural: "events".into(),
        namespaced: true,
    }
}

fn core(kind: &str, plural: &str, namespaced: bool) -> Resource {
    Resource { group: String::new(), version: "v1".into(), kind: kind.into(), plural: plural.into(), namespaced }
}

/// Percent-encodes what may not stand in a path segment; Kubernetes names are nearly always plain.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push_str(&driftless_protocol::id::hex(&[b]).to_ascii_uppercase());
        }
    }
    out
}

/// Why the API server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// It answered, with a refusal.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `reason` of the Status (`Invalid`, `Forbidden`, `Conflict`, ...), or empty.
        reason: String,
        /// `message` of the Status.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// `details` of the Status, where there are any.
        about: Option<Box<About>>,
    },
    /// It did not answer in time.
    #[error("no answer from the API server within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It could not be reached, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// Its answer is longer than any should be.
    #[error("the API server's answer has more than {} MiB", ANSWER_BYTES / (1024 * 1024))]
    TooLong,
    /// Its answer could not be read.
    #[error("the API server's answer cannot be read: {0}")]
    Answer(String),
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The name of the object it speaks of.
    pub name: Option<String>,
    /// The fields its causes complain of.
    pub fields: Vec<String>,
    /// The causes' words, one for each field.
    pub words: Vec<String>,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    /// Its items; those of typed lists come without `apiVersion` and `kind`.
    #[serde(default = "Vec::new", deserialize_with = "or_none")]
    pub items: Vec<T>,
    #[serde(default)]
    metadata: PageMeta,
}

/// Some lists without items have `null` in their place.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    r#continue: String,
    remaining_item_count: Option<u64>,
}

impl<T> Page<T> {
    /// What to ask for the next page with; `None`: this was the last.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        Some(self.metadata.r#continue.clone()).filter(|token| !token.is_empty())
    }

    /// How many items come after this page, where the server says so.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.metadata.remaining_item_count.unwrap_or(0)
    }
}

/// Which page of which objects.
#[derive(Clone, Debug, Default)]
pub struct PageQuery<'a> {
    /// Most items.
    pub limit: u32,
    /// Label selector; empty: all.
    pub labels: &'a str,
    /// Field selector; empty: all.
    pub fields: &'a str,
    /// From [`Page::next`].
    pub from: Option<&'a str>,
}

impl PageQuery<'_> {
    fn uri(&self, path: &str) -> String {
        let mut uri = format!("{path}?limit={}", self.limit);
        let given = [
            ("labelSelector", self.labels),
            ("fieldSelector", self.fields),
            ("continue", self.from.unwrap_or_default()),
        ];
        for (name, value) in given.into_iter().filter(|(_, value)| !value.is_empty()) {
            uri.push_str(&format!("&{name}={}", segment(value)));
        }
        uri
    }
}

impl ApiError {
    /// The HTTP status, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether another write came first, or a precondition failed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }
}

/// A connection to one API server.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    deadline: Duration,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Connects without kube's retry: one apply could otherwise hang for minutes, and our own rules decide. And without keeping
/// what a burst needed: kube keeps all of its connections, each with a buffer that has grown to hundreds of KiB.
pub fn connect(mut config: kube::Config) -> Result<kube::Client, kube::Error> {
    config.default_retry = false;
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector()?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http1_read_buf_exact_size(READ_BYTES)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(kube::client::ClientBuilder::new(service, config.default_namespace).build())
}

impl Api {
    /// `deadline` bounds every request, from its start to the last byte of its answer.
    #[must_use]
    pub fn new(client: kube::Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    /// The client, for watches.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// The same connection with another deadline.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { client: self.client.clone(), deadline }
    }

    /// Server-side apply as our one field manager, with force; or a dry run of one, which changes nothing, as this manager.
    /// Answers the resulting object.
    pub async fn apply(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        name: &str,
        body: &[u8],
        dry_run_as: Option<&str>,
    ) -> Result<Value, ApiError> {
        let (dry, manager) = match dry_run_as {
            Some(manager) => ("&dryRun=All", segment(manager)),
            None => ("", marks::FIELD_MANAGER.to_owned()),
        };
        let uri = format!("{}?fieldManager={manager}&force=true&fieldValidation=Warn{dry}", at.path(namespace, name));
        self.call(actor, Method::PATCH, &uri, Some("application/apply-patch+yaml"), body.to_vec()).await
    }

    /// Server-side apply of one of the agent's own objects, as the agent: of the object (an empty `part`), or of its `status`.
    pub async fn apply_own(
        &self,
        at: &Resource,
        namespace: &str,
        name: &str,
        part: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let part = if part.is_empty() { String::new() } else { format!("/{part}") };
        let path = at.path(namespace, name);
        let uri = format!("{path}{part}?fieldManager={}&force=true", marks::STATUS_MANAGER);
        self.call(&Actor::Agent, Method::PATCH, &uri, Some("application/apply-patch+yaml"), to_bytes(body)).await
    }

    /// A server-side apply that changes nothing, with force or without: the API server's warnings, each once.
    pub async fn dry_run(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        name: &str,
        body: &[u8],
        force: bool,
    ) -> Result<Vec<String>, ApiError> {
        let path = at.path(namespace, name);
        let manager = marks::FIELD_MANAGER;
        let uri = format!("{path}?dryRun=All&fieldManager={manager}&force={force}&fieldValidation=Warn");
        let content = Some("application/apply-patch+yaml");
        let (headers, _) = self.send(actor, Method::PATCH, &uri, JSON, content, body.to_vec()).await?;
        Ok(warnings(&headers))
    }

    /// One page of a list. An empty namespace means all.
    pub async fn page(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        query: &PageQuery<'_>,
    ) -> Result<Page<Value>, ApiError> {
        self.read_page(actor, &query.uri(&at.path(namespace, "")), JSON).await
    }

    /// One page of a list, of each object its metadata only.
    pub async fn metadata_page<T: DeserializeOwned>(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        query: &PageQuery<'_>,
    ) -> Result<Page<T>, ApiError> {
        self.read_page(actor, &query.uri(&at.path(namespace, "")), METADATA).await
    }

    async fn read_page<T: DeserializeOwned>(
        &self,
        actor: &Actor,
        uri: &str,
        accept: &'static str,
    ) -> Result<Page<T>, ApiError> {
        let (_, bytes) = self.send(actor, Method::GET, uri, accept, None, Vec::new()).await?;
        serde_json::from_slice(&bytes).map_err(|e| ApiError::Answer(e.to_string()))
    }

    /// A JSON patch (RFC 6902), which carries its own `test` on `metadata.resourceVersion` where a race matters.
    pub async fn json_patch(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        let uri = format!("{}?fieldManager={}", at.path(namespace, name), marks::FIELD_MANAGER);
        self.call(actor, Method::PATCH, &uri, Some("application/json-patch+json"), to_bytes(patch)).await
    }

    /// Reads one object; `None` when it is not there.
    pub async fn get(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        match self.call(actor, Method::GET, &at.path(namespace, name), None, Vec::new()).await {
            Ok(value) => Ok(Some(value)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Lists objects of one kind with a label selector, all pages together. For our own records: few, and large.
    pub async fn list(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        selector: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let (mut items, mut from, mut limit) = (Vec::new(), None, RECORDS);
        loop {
            let query = PageQuery { limit, labels: selector, fields: "", from: from.as_deref() };
            match self.page(actor, at, namespace, &query).await {
                Ok(page) => {
                    from = page.next();
                    items.extend(page.items);
                }
                Err(ApiError::TooLong) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if from.is_none() {
                return Ok(items);
            }
        }
    }

    /// Creates an object; a conflict when it exists.
    pub async fn create(&self, actor: &Actor, at: &Resource, object: &Value) -> Result<Value, ApiError> {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let uri = format!("{}?fieldManager={}", at.path(namespace, ""), marks::FIELD_MANAGER);
        self.call(actor, Method::POST, &uri, Some("application/json"), to_bytes(object)).await
    }

    /// Replaces an object; a conflict when its `metadata.resourceVersion` is not the current one.
    pub async fn replace(&self, actor: &Actor, at: &Resource, object: &Value) -> Result<Value, ApiError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = at.path(&text("/metadata/namespace"), &text("/metadata/name"));
        let uri = format!("{path}?fieldManager={}", marks::FIELD_MANAGER);
        self.call(actor, Method::PUT, &uri, Some("application/json"), to_bytes(object)).await
    }

    /// Deletes an object in the background, only when it is still the one meant. Gone already is success.
    pub async fn delete(
        &self,
        actor: &Actor,
        at: &Resource,
        namespace: &str,
        name: &str,
        uid: &str,
        resource_version: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut preconditions = serde_json::json!({ "uid": uid });
        if let Some(version) = resource_version {
            preconditions["resourceVersion"] = version.into();
        }
        let options = serde_json::json!({
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        });
        let path = at.path(namespace, name);
        match self.call(actor, Method::DELETE, &path, Some("application/json"), to_bytes(&options)).await {
            Ok(_) => Ok(()),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// A plain read of a path that is no object (`/version`).
    pub async fn raw(&self, actor: &Actor, path: &str) -> Result<Value, ApiError> {
        self.call(actor, Method::GET, path, None, Vec::new()).await
    }

    async fn call(
        &self,
        actor: &Actor,
        method: Method,
        uri: &str,
        content: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<Value, ApiError> {
        let (_, bytes) = self.send(actor, method, uri, JSON, content, body).await?;
        serde_json::from_slice(&bytes).map_err(|e| ApiError::Answer(e.to_string()))
    }

    async fn send(
        &self,
        actor: &Actor,
        method: Method,
        uri: &str,
        accept: &'static str,
        content: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<(HeaderMap, Bytes), ApiError> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|e| ApiError::Answer(format!("{uri:?} is no address: {e}")))?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(content) = content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        }
        impersonate(headers, actor)?;
        match tokio::time::timeout(self.deadline, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ApiError::Timeout(self.deadline)),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(HeaderMap, Bytes), ApiError> {
        let response = self.client.send(request).await.map_err(|e| ApiError::Unreachable(chain(&e)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes =
            Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|e| unread(&*e))?.to_bytes();
        if status.is_success() {
            return Ok((headers, bytes));
        }
        Err(refusal(status, retry_after(&headers), &bytes))
    }
}

/// An answer that did not arrive, or is longer than any should be.
fn unread(error: &(dyn std::error::Error + Send + Sync + 'static)) -> ApiError {
    if error.is::<http_body_util::LengthLimitError>() {
        return ApiError::TooLong;
    }
    ApiError::Unreachable(error.to_string())
}

/// The texts of `Warning` headers, each once.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for value in headers.get_all(WARNING).iter().filter_map(|v| v.to_str().ok()) {
        // `299 - "text"`, with quotes and backslashes escaped.
        let Some((_, quoted)) = value.split_once('"') else { continue };
        let text = quoted.strip_suffix('"').unwrap_or(quoted).replace("\\\"", "\"").replace("\\\\", "\\");
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn refusal(status: StatusCode, retry_after: Option<Duration>, bytes: &[u8]) -> ApiError {
    let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
    let text = |key: &str| parsed.as_ref().and_then(|v| v.get(key)).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").filter(|m| !m.is_empty()).unwrap_or_else(|| {
        let body = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).trim().to_owned();
        if body.is_empty() { status.to_string() } else { format!("{status}: {body}") }
    });
    let name = parsed.as_ref().and_then(|v| v.pointer("/details/name")).and_then(Value::as_str).map(str::to_owned);
    let causes = parsed.as_ref().and_then(|v| v.pointer("/details/causes")).and_then(Value::as_array);
    let of = |cause: &Value, key: &str| cause.get(key).and_then(Value::as_str).map(str::to_owned);
    let (fields, words): (Vec<String>, Vec<String>) = causes
        .into_iter()
        .flatten()
        .filter_map(|c| Some((of(c, "field")?, of(c, "message").unwrap_or_default())))
        .unzip();
    let about = (name.is_some() || !fields.is_empty()).then(|| Box::new(About { name, fields, words }));
    ApiError::Refused {
        status: status.as_u16(),
        reason: text("reason").unwrap_or_default(),
        message,
        retry_after,
        about,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(600)))
}

/// Only the user is named: the API server gives a service account its groups itself, so that the agent needs no right to
/// impersonate groups.
fn impersonate(headers: &mut HeaderMap, actor: &Actor) -> Result<(), ApiError> {
    let Actor::Account(account) = actor else { return Ok(()) };
    let user = account_user(account);
    let value = HeaderValue::from_str(&user).map_err(|_| ApiError::Answer(format!("{user:?} is no account name")))?;
    headers.insert(HeaderName::from_static("impersonate-user"), value);
    Ok(())
}

/// The user name of a service account, as the API server writes it.
#[must_use]
pub fn account_user(account: &ServiceAccount) -> String {
    format!("system:serviceaccount:{}:{}", account.namespace, account.name)
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// An error and its causes, each once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let deployments = Resource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            namespaced: true,
        };
        assert_eq!(deployments.path("a", "b"), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(deployments.path("", ""), "/apis/apps/v1/deployments");
        assert_eq!(namespaces().path("ignored", "x"), "/api/v1/namespaces/x");
        assert_eq!(config_maps().path("a", "b/../c"), "/api/v1/namespaces/a/configmaps/b%2F..%2Fc");
    }

    #[test]
    fn pages_are_asked_for_with_what_is_given() {
        let query = PageQuery { limit: 5, labels: "a=b,c in (d)", from: Some("x=="), ..PageQuery::default() };
        assert_eq!(
            query.uri("/api/v1/pods"),
            "/api/v1/pods?limit=5&labelSelector=a%3Db%2Cc%20in%20%28d%29&continue=x%3D%3D"
        );
    }

    #[test]
    fn a_list_without_items_is_an_empty_page() {
        for text in ["{}", r#"{"items":null,"metadata":{"continue":""}}"#, r#"{"items":[]}"#] {
            let page: Page<Value> = serde_json::from_str(text).expect("a page");
            assert!(page.items.is_empty() && page.next().is_none(), "{text}");
        }
        let page: Page<Value> =
            serde_json::from_str(r#"{"items":[1],"metadata":{"continue":"x","remainingItemCount":7}}"#)
                .expect("a page");
        assert_eq!((page.items.len(), page.next().as_deref(), page.remaining()), (1, Some("x"), 7));
    }

    /// An API server with records of so many bytes, in pages as they are asked for.
    fn records(sizes: Vec<usize>) -> Api {
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let given = |name: &str| {
                let mut all = query.split('&').filter_map(|pair| pair.split_once('='));
                all.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<usize>().ok())
            };
            let (from, limit) = (given("continue").unwrap_or(0), given("limit").expect("a limit"));
            let page: Vec<usize> = sizes.iter().skip(from).take(limit).copied().collect();
            let next = from + page.len();
            let more = if next < sizes.len() { next.to_string() } else { String::new() };
            async move {
                // Quotes, as an inventory has them: twice as long on the wire.
                let items: Vec<Value> =
                    page.iter().map(|size| serde_json::json!({"data": {"d": "\"".repeat(*size)}})).collect();
                let answer = serde_json::json!({"items": items, "metadata": {"continue": more}}).to_string();
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(answer.into_bytes())))
            }
        });
        Api::new(kube::Client::new(service, "driftless-system"), Duration::from_secs(20))
    }

    #[tokio::test]
    async fn records_of_any_number_and_size_are_listed_whole() {
        for sizes in [vec![], vec![1; 9], vec![1024 * 1024; 20], vec![512 * 1024; 33]] {
            let all = records(sizes.clone()).list(&Actor::Agent, &config_maps(), "driftless-system", "a=b").await;
            let read: Vec<usize> = all
                .expect("all of them")
                .iter()
                .map(|item| item.pointer("/data/d").and_then(Value::as_str).map_or(0, str::len))
                .collect();
            assert_eq!(read, sizes);
        }
        let huge = records(vec![5 * 1024 * 1024]).list(&Actor::Agent, &config_maps(), "driftless-system", "a=b").await;
        assert_eq!(huge.err(), Some(ApiError::TooLong), "no object of the API server is so long");
    }

    #[test]
    fn warnings_are_read_once_each() {
        let mut headers = HeaderMap::new();
        for text in ["299 - \"unknown field \\\"spec.x\\\"\"", "299 - \"old\"", "299 - \"old\""] {
            headers.append(WARNING, HeaderValue::from_str(text).expect("a header"));
        }
        assert_eq!(warnings(&headers), ["unknown field \"spec.x\"", "old"]);
    }

    #[test]
    fn a_refusal_keeps_what_the_server_said() {
        let body = br#"{"kind":"Status","message":"field is immutable","reason":"Invalid","code":422}"#;
        let error = refusal(StatusCode::UNPROCESSABLE_ENTITY, None, body);
        assert_eq!(error.to_string(), "field is immutable");
        assert_eq!(error.status(), Some(422));
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, None, b"").to_string(), "502 Bad Gateway");
    }
}
