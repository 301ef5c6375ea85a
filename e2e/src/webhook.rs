//! A real admission webhook on loopback, over TLS as the API server wants it. What it does to objects, a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::certs;
use crate::ports;

/// An AdmissionReview holds an object before and after: each at most what etcd takes.
const BODY_BYTES: usize = 4 << 20;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing is done to it.
    Allow,
    /// These operations of a JSON patch are done to its object.
    Patch(Value),
    /// It is refused with this message.
    Deny(String),
}

/// Which of the two kinds of webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may change objects.
    Mutating,
    /// It may only refuse them.
    Validating,
}

/// What the webhook is asked about, and when.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Only in this namespace.
    pub namespace: &'a str,
}

/// Decides, from the `request` of an AdmissionReview.
type Judge = dyn Fn(&Value) -> Verdict + Send + Sync;

/// A webhook server; ends when dropped.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    authority: String,
    calls: Arc<AtomicUsize>,
    _listening: AbortOnDropHandle<()>,
}

impl Webhook {
    /// Starts one that judges so.
    ///
    /// # Errors
    /// No port or no certificate can be had.
    pub async fn start(judge: impl Fn(&Value) -> Verdict + Send + Sync + 'static) -> Result<Self> {
        let (acceptor, authority) = certs::loopback_tls("webhook")?;
        let listener = ports::listen().context("listen on a port")?;
        let address = listener.local_addr()?;
        let calls = Arc::new(AtomicUsize::new(0));
        let serving = accept(listener, acceptor, Arc::new(judge), calls.clone());
        Ok(Self { address, authority, calls, _listening: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }

    /// How often it was asked.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// The object that makes the API server ask it about creates and updates. A server that does not answer is a refusal.
    pub fn configuration(&self, kind: Kind, name: &str, scope: Scope<'_>) -> Value {
        let kind = match kind {
            Kind::Mutating => "MutatingWebhookConfiguration",
            Kind::Validating => "ValidatingWebhookConfiguration",
        };
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.example.com"),
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 2,
                "clientConfig": {
                    "url": format!("https://{}/", self.address),
                    "caBundle": STANDARD.encode(&self.authority),
                },
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scope.namespace}},
                "rules": [{
                    "apiGroups": [scope.group],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [scope.resource],
                }],
            }],
        })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, judge: Arc<Judge>, calls: Arc<AtomicUsize>) {
    // Dropped, and so aborted, with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, acceptor.clone(), judge.clone(), calls.clone()));
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, judge: Arc<Judge>, calls: Arc<AtomicUsize>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| {
        let (judge, calls) = (judge.clone(), calls.clone());
        async move {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer(request, &*judge).await)
        }
    });
    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        tracing::debug!(%error, "webhook: a connection ended early");
    }
}

async fn answer(request: Request<Incoming>, judge: &Judge) -> Response<Full<Bytes>> {
    let review: Option<Value> = match Limited::new(request.into_body(), BODY_BYTES).collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).ok(),
        Err(_) => None,
    };
    let Some(request) = review.as_ref().and_then(|review| review.get("request")) else {
        let mut response = Response::new(Full::new(Bytes::from_static(b"no AdmissionReview")));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let mut said = json!({"uid": request.get("uid"), "allowed": true});
    match judge(request) {
        Verdict::Allow => {}
        Verdict::Patch(operations) => {
            said["patchType"] = json!("JSONPatch");
            said["patch"] = json!(STANDARD.encode(operations.to_string()));
        }
        Verdict::Deny(message) => {
            said["allowed"] = json!(false);
            said["status"] = json!({"code": 403, "message": message});
        }
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said});
    Response::new(Full::new(Bytes::from(review.to_string())))
}
