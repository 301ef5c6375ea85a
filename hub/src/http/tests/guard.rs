//! What holds for every route, over toy routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body as RawBody;
use axum::http::{Method, Request, StatusCode, header};
use axum::routing::{get, post};
use axum::{Extension, Router};
use driftless_protocol::api::{ApproveRequest, JoinTokenRequest, SuspendRequest, problem};
use driftless_store::StoreError;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::sync::Notify;
use tower::ServiceExt as _;

use super::Got;
use crate::http::error::{Body, Refusal};
use crate::http::extract::{Path, Query};
use crate::http::guard::{Caller, REQUEST_ID, Times};
use crate::http::{Actor, Api, BODY_BYTES};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    name: Option<String>,
    limit: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { name: None, limit: 7 }
    }
}

/// Method, path, body, status, code, and words the detail must have.
type Case<'a> = (&'a Method, &'a str, &'a str, u16, &'a str, &'a [&'a str]);

fn store_error(what: &str) -> StoreError {
    match what {
        "conflict" => StoreError::Conflict { operation: "store an intent", what: "somebody else was first".into() },
        "closed" => StoreError::Closed,
        _ => StoreError::Damaged { what: "a row".into(), reason: "secret of the log".into() },
    }
}

fn routes() -> Router {
    Router::new()
        .route("/who", get(|Extension(Actor(name)): Extension<Actor>| async move { name }))
        .route("/panic", get(|| async { panic_now() }).post(|| async { panic_now() }))
        .route(
            "/store/{what}",
            get(|Path(what): Path<String>| async move { Err::<(), Refusal>(store_error(&what).into()) }),
        )
        .route("/filter", get(|Query(f): Query<Filter>| async move { format!("{:?} {}", f.name, f.limit) }))
        .route("/number/{n}", get(|Path(n): Path<u8>| async move { n.to_string() }))
        .route("/token", post(|Body(b): Body<JoinTokenRequest>| async move { b.name.to_string() }))
        .route("/suspend", post(|Body(b): Body<SuspendRequest>| async move { b.unit.to_string() }))
        .route("/approve", post(|Body(b): Body<ApproveRequest>| async move { b.keys.len().to_string() }))
}

fn panic_now() -> &'static str {
    panic!("the words of the panic")
}

async fn ask(api: &Api, caller: Option<Caller>, mut request: Request<RawBody>) -> Got {
    request.extensions_mut().extend(
        caller
            .map(|caller| {
                let mut extensions = axum::http::Extensions::new();
                extensions.insert(caller);
                extensions
            })
            .unwrap_or_default(),
    );
    let (parts, body) = api.router.clone().oneshot(request).await.unwrap().into_parts();
    Got { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn alice() -> Option<Caller> {
    Some(Caller::Admin(Actor("alice".to_owned())))
}

fn plain(method: Method, path: &str, body: &str) -> Request<RawBody> {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    request.body(RawBody::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_answered_with_the_field() {
    let api = Api::over(routes(), Times::default());
    let (get, post) = (Method::GET, Method::POST);
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(BODY_BYTES));
    let cases: Vec<Case<'_>> = vec![
        (&get, "/nowhere", "", 404, problem::NOT_FOUND, &["GET /nowhere", "versions"]),
        (&post, "/who", "", 405, problem::BAD_REQUEST, &["/who", "POST"]),
        (&post, "/token", "{", 400, problem::BAD_REQUEST, &["no JSON", "line 1 column 1"]),
        (&post, "/token", "{}", 400, problem::BAD_REQUEST, &["missing field `name`"]),
        (&post, "/token", r#"{"name":7}"#, 400, problem::BAD_REQUEST, &["name", "invalid type"]),
        (&post, "/token", r#"{"name":"A B"}"#, 400, problem::BAD_REQUEST, &["name", "cluster name", "hyphens"]),
        (&post, "/token", r#"{"name":"a","ttl":5}"#, 400, problem::BAD_REQUEST, &["unknown field `ttl`"]),
        (&post, "/suspend", r#"{"unit":{"namespace":"a","name":"b"}}"#, 400, problem::BAD_REQUEST, &["unit", "`kind`"]),
        (
            &post,
            "/approve",
            r#"{"keys":[{"group":"","kind":"A","namespace":"","name":"b"},{"group":1}]}"#,
            400,
            problem::BAD_REQUEST,
            &["keys[1].group"],
        ),
        (&post, "/token", &long, 413, problem::BAD_REQUEST, &["1048576"]),
        (&get, "/filter?nmae=x", "", 400, problem::BAD_REQUEST, &["nmae", "`name`"]),
        (&get, "/filter?limit=many", "", 400, problem::BAD_REQUEST, &["limit"]),
        (&get, "/number/400", "", 400, problem::BAD_REQUEST, &["400"]),
        (&get, "/store/conflict", "", 409, problem::CONFLICT, &["somebody else was first"]),
        (&get, "/store/closed", "", 503, problem::UNAVAILABLE, &["stopping"]),
    ];
    for (method, path, body, status, code, words) in cases {
        let got = ask(&api, alice(), plain(method.clone(), path, body)).await;
        let problem = got.problem();
        assert_eq!((got.status.as_u16(), &*problem.code), (status, code), "{method} {path} {body:.60}: {problem:?}");
        for word in words {
            assert!(problem.detail.contains(word), "{method} {path}: {:?} lacks {word:?}", problem.detail);
        }
        assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
        assert!(got.headers.contains_key(&REQUEST_ID));
    }
    let got = ask(&api, alice(), plain(Method::POST, "/who", "")).await;
    assert!(got.headers[header::ALLOW].to_str().unwrap().contains("GET"), "{:?}", got.headers);
    let bare = Request::builder().method(Method::POST).uri("/token").body(RawBody::from("{}")).unwrap();
    assert!(ask(&api, alice(), bare).await.problem().detail.contains("content-type"), "JSON must be said to be JSON");
}

#[tokio::test]
async fn good_requests_pass_and_empty_parameters_count_as_not_given() {
    let api = Api::over(routes(), Times::default());
    for (method, path, body, answer) in [
        (Method::GET, "/who", "", "alice"),
        (Method::GET, "/filter?name=&limit=", "", "None 7"),
        (Method::GET, "/filter?name=a%20b&limit=3", "", "Some(\"a b\") 3"),
        (Method::POST, "/token", r#"{"name":"a"}"#, "a"),
    ] {
        let got = ask(&api, alice(), plain(method, path, body)).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, answer.as_bytes()), "{path}");
        assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn who_is_not_an_admin_learns_why_and_nothing_else() {
    let api = Api::over(routes(), Times::default());
    let refused = Caller::Refused("this is an agent's certificate".to_owned());
    for (caller, words) in [(None, "nobody is known"), (Some(refused), "agent's certificate")] {
        for path in ["/who", "/nowhere", "/panic"] {
            let got = ask(&api, caller.clone(), plain(Method::GET, path, "")).await;
            let problem = got.problem();
            assert_eq!((got.status, &*problem.code), (StatusCode::FORBIDDEN, problem::FORBIDDEN), "{path}");
            assert!(problem.detail.contains(words), "{problem:?}");
        }
    }
}

#[tokio::test]
async fn a_fault_ends_one_request_and_its_words_stay_in_the_log() {
    let api = Api::over(routes(), Times::default());
    for (method, path) in [(Method::GET, "/panic"), (Method::POST, "/panic"), (Method::GET, "/store/damaged")] {
        let got = ask(&api, alice(), plain(method, path, "")).await;
        let problem = got.problem();
        assert_eq!((got.status.as_u16(), &*problem.code), (500, problem::INTERNAL), "{path}");
        assert!(
            !problem.detail.contains("the words of the panic") && !problem.detail.contains("secret"),
            "{problem:?}"
        );
        let id = got.headers[&REQUEST_ID].to_str().unwrap();
        assert!(problem.detail.contains(&format!("request={id}")), "{problem:?} does not name request {id}");
        assert_eq!(ask(&api, alice(), plain(Method::GET, "/who", "")).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_change_that_takes_too_long_is_answered_and_still_carried_out() {
    let (go, done) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let slow = {
        let (go, done) = (go.clone(), done.clone());
        move || {
            let (go, done) = (go.clone(), done.clone());
            async move {
                go.notified().await;
                done.fetch_add(1, Ordering::SeqCst);
                "done"
            }
        }
    };
    let times = Times { request: Duration::from_millis(20), long: Duration::from_secs(600) };
    let api = Api::over(
        Router::new().route("/slow", get(slow.clone()).post(slow.clone())).route("/api/v1/reconcile", post(slow)),
        times,
    );

    let got = ask(&api, alice(), plain(Method::POST, "/slow", "")).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(got.problem().detail.contains("may still be carried out"));
    go.notify_one();
    api.changes.close();
    api.changes.wait().await;
    assert_eq!(done.load(Ordering::SeqCst), 1, "the change ran to its end");

    let got = ask(&api, alice(), plain(Method::GET, "/slow", "")).await;
    assert!(got.problem().detail.contains("repeat it"), "a read has nothing to carry out");
    go.notify_waiters();
    assert_eq!(done.load(Ordering::SeqCst), 1, "a read that took too long is dropped");

    go.notify_one();
    let got = ask(&api, alice(), plain(Method::POST, "/api/v1/reconcile", "")).await;
    assert_eq!(got.status, StatusCode::OK, "reconcile has a time of its own");
}
