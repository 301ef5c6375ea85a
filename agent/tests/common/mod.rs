//! What the tests of ledger, identity and link share: an API server for our own records, in memory, that can die.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses its part

#[path = "../../../protocol/tests/common/mod.rs"]
pub mod fleet;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless_agent::cluster::api::Api;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

/// ConfigMaps and Secrets of one namespace, by path.
#[derive(Clone, Debug, Default)]
pub struct Records(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    counter: u64,
    /// Writes that still pass; `None`: all.
    writes_left: Option<u32>,
    writes: u32,
    most_bytes: usize,
}

impl Records {
    pub fn api(&self) -> Api {
        let records = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let records = records.clone();
            async move { Ok::<_, Infallible>(records.answer(request).await) }
        });
        Api::new(kube::Client::new(service, "driftless-system"), Duration::from_secs(5))
    }

    /// After this many more writes every request fails, as if the pod had died.
    pub fn die_after(&self, writes: u32) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    pub fn revive(&self) {
        self.0.lock().unwrap().writes_left = None;
    }

    pub fn writes(&self) -> u32 {
        self.0.lock().unwrap().writes
    }

    /// The largest object ever written, as JSON.
    pub fn most_bytes(&self) -> usize {
        self.0.lock().unwrap().most_bytes
    }

    pub fn names(&self, kind: &str) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        let prefix = format!("/api/v1/namespaces/driftless-system/{kind}/");
        inner.objects.keys().filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    pub fn packs(&self) -> Vec<String> {
        self.names("secrets").into_iter().filter(|n| n.starts_with("driftless-pack-")).collect()
    }

    /// Changes an object behind everybody's back.
    pub fn edit(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut inner = self.0.lock().unwrap();
        inner.counter += 1;
        let version = inner.counter.to_string();
        let path = format!("/api/v1/namespaces/driftless-system/{kind}/{name}");
        let object = inner.objects.get_mut(&path).unwrap();
        change(object);
        object["metadata"]["resourceVersion"] = version.into();
    }

    pub fn remove(&self, kind: &str, name: &str) {
        let path = format!("/api/v1/namespaces/driftless-system/{kind}/{name}");
        self.0.lock().unwrap().objects.remove(&path).unwrap();
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/driftless-system/{kind}/{name}");
        self.0.lock().unwrap().objects.get(&path).cloned()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        let (status, value) = self.0.lock().unwrap().answer(&head.method, head.uri.path(), body);
        let bytes = serde_json::to_vec(&value).unwrap();
        Response::builder().status(status).body(Body::from(bytes)).unwrap()
    }
}

fn refuse(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    (status, json!({ "kind": "Status", "status": "Failure", "reason": reason, "message": reason }))
}

impl Inner {
    fn answer(&mut self, method: &Method, path: &str, mut body: Value) -> (StatusCode, Value) {
        if self.writes_left == Some(0) {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Dead");
        }
        if method == Method::GET {
            return match self.objects.get(path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        if let Some(left) = &mut self.writes_left {
            *left -= 1;
        }
        self.writes += 1;
        self.most_bytes = self.most_bytes.max(body.to_string().len());
        self.counter += 1;
        let version = self.counter.to_string();
        match *method {
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return refuse(StatusCode::CONFLICT, "AlreadyExists");
                }
                body["metadata"]["resourceVersion"] = version.clone().into();
                body["metadata"]["uid"] = format!("uid-{version}").into();
                self.objects.insert(path, body.clone());
                (StatusCode::CREATED, body)
            }
            Method::PUT => {
                let Some(live) = self.objects.get_mut(path) else {
                    return refuse(StatusCode::NOT_FOUND, "NotFound");
                };
                if live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return refuse(StatusCode::CONFLICT, "Conflict");
                }
                if live["immutable"] == true {
                    return refuse(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
                }
                body["metadata"]["resourceVersion"] = version.into();
                body["metadata"]["uid"] = live["metadata"]["uid"].clone();
                *live = body.clone();
                (StatusCode::OK, body)
            }
            Method::DELETE => {
                let Some(live) = self.objects.get(path) else {
                    return refuse(StatusCode::NOT_FOUND, "NotFound");
                };
                if live["metadata"]["uid"] != body["preconditions"]["uid"] {
                    return refuse(StatusCode::CONFLICT, "Conflict");
                }
                self.objects.remove(path);
                (StatusCode::OK, json!({}))
            }
            _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}
