//! Every row of the API's table against a whole hub, and its audit log.

use std::collections::BTreeMap;

use axum::http::Method;
use driftless_protocol::api::{AuditEntry, List, UnitRow, delete_list_id};
use driftless_protocol::bundle::DriftMode;
use driftless_protocol::id::{ClusterId, Digest, TokenId, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{Counts, EventKind, HeldDelete, Ready, RecentEvent, UnitReport, reason};
use driftless_store::{Act, Enrollment, Location, ReportContent, ReportWrite, Store, Token};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::Client;
use crate::config::Config;
use crate::init::{InitOptions, init};
use crate::{Hub, clock};

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

/// Method, path, body, status, the action audited, and words of the answer.
type Case<'a> = (&'a Method, &'a str, &'a str, u16, Option<&'a str>, &'a [&'a str]);

fn held() -> ObjectKey {
    ObjectKey { group: "".into(), kind: "Namespace".into(), namespace: "".into(), name: "old".into() }
}

fn report() -> UnitReport {
    UnitReport {
        unit: UnitId::kustomization("flux-system", "apps"),
        ready: Ready::True,
        reason: reason::SUCCEEDED.into(),
        message: "Applied revision: main@sha1:0123".into(),
        generation: None,
        desired: Some(Digest::of(b"body")),
        applied: Some(Digest::of(b"body")),
        last_applied: Some(5),
        applied_revision: Some("main@sha1:0123".into()),
        suspended: false,
        drift_mode: DriftMode::Correct,
        counts: Counts { objects: 3, in_sync: 3, held_deletes: 1, ..Counts::default() },
        objects: Vec::new(),
        drift: Vec::new(),
        recent: vec![RecentEvent {
            at: 4,
            what: EventKind::Healed,
            key: held(),
            detail: "data.k 2 -> 1 (manager kubectl)".into(),
            took_ms: None,
        }],
        waiting: None,
        held_deletes: vec![HeldDelete { key: held(), uid: "u-1".into(), why: "a Namespace".into() }],
        approved_deletes: Vec::new(),
        contests: Vec::new(),
        additions: Vec::new(),
        inputs: vec![],
        filled: None,
        pauses: vec![],
        pause_ended: None,
        flux: None,
        shadow: None,
        observed_at: 6,
    }
}

/// A cluster that enrolled and reported, and is away now.
async fn prepare(store: &Store) {
    let act =
        || Act { at: 1, actor: "test".into(), action: "prepare".into(), target: String::new(), detail: String::new() };
    let id = TokenId::from_bytes([1; 8]);
    let name: driftless_protocol::id::ClusterName = "prod".parse().unwrap();
    let token = Token {
        id,
        hash: [0; 32],
        name,
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        created: 1,
        created_by: "test".into(),
        expires: u64::MAX / 4,
    };
    store.create_token(token, act()).await.unwrap();
    let enrollment =
        Enrollment { token: id, cluster: CLUSTER, kube_uid: "kube".into(), agent_key: Digest::of(b"key"), now: 2 };
    store.redeem(enrollment).await.unwrap();
    let content = ReportContent::Units(vec![report()]);
    let written = store.write_reports(vec![ReportWrite { cluster: CLUSTER, session: 1, n: 1, received: 7, content }]);
    assert_eq!(written.await.unwrap(), [true]);
}

#[tokio::test]
async fn every_route_answers_and_every_change_is_audited_once() {
    let folder = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let options = InitOptions {
        dir: folder.path().join("hub"),
        addresses: vec!["127.0.0.1:1".into()],
        listen: any,
        admin_listen: any,
        admin_address: "127.0.0.1:1".into(),
        server_name: "hub.test".into(),
        context: folder.path().join("context.yaml"),
        source: None,
        root: None,
    };
    let config = Config::load(&init(&options, clock::seconds()).await.unwrap()).unwrap();
    let store = Store::open(&Location::Sqlite(options.dir.join("hub.db")), clock::seconds()).await.unwrap();
    prepare(&store).await;
    store.close().await;
    let socket = config.admin.socket.clone().unwrap();
    let stop = CancellationToken::new();
    let hub = Hub::bind(config, stop.clone()).await.unwrap();
    let hub = tokio::spawn(hub.run());
    let mut client = Client::over(UnixStream::connect(&socket).await.unwrap()).await.unwrap();

    let unit = r#"{"namespace":"flux-system","name":"apps","kind":"Kustomization"}"#;
    let wrong = r#"{"namespace":"flux-system","name":"appz","kind":"Kustomization"}"#;
    let suspend = &*format!(r#"{{"cluster":"prod","unit":{unit},"reason":"maintenance"}}"#);
    let suspend_wrong = &*format!(r#"{{"cluster":"prod","unit":{wrong}}}"#);
    let drift_mode = &*format!(r#"{{"cluster":"prod","unit":{unit},"mode":"observe","reason":"hands off"}}"#);
    let drift_mode_wrong = &*format!(r#"{{"cluster":"prod","unit":{wrong},"mode":"observe"}}"#);
    let list = &*delete_list_id(&report().unit, [&held()]);
    let approve_list = &*format!(r#"{{"list":"{list}","cluster":"prod","reason":"tidy"}}"#);
    let approve = &*format!(r#"{{"keys":[{}]}}"#, serde_json::to_string(&held()).unwrap());
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let cases: &[Case<'_>] = &[
        (&get, "/status", "", 200, None, &["\"hubVersion\"", "\"prod\"", "\"heldDeletes\":1"]),
        (&get, "/clusters", "", 200, None, &["\"connected\":false", "\"env\":\"prod\""]),
        (&get, "/clusters/prod", "", 200, None, &["\"kubeUid\":\"kube\"", "\"apps\""]),
        (&get, "/clusters/prod/shadow", "", 200, None, &["\"shadow\":false", "\"zero\":false", "\"apps\""]),
        (&get, "/clusters/dev/shadow", "", 404, None, &["no cluster named dev"]),
        (&get, "/clusters/dev", "", 404, None, &["no cluster named dev"]),
        (&get, "/clusters/prod/units/flux-system/apps", "", 200, None, &["\"reportedAt\":7", "u-1"]),
        (
            &get,
            "/clusters/prod/units/flux-system/apps?kind=HelmRelease",
            "",
            404,
            None,
            &["HelmRelease flux-system/apps"],
        ),
        (&get, "/clusters/prod/units/flux-system/apps?kind=Pod", "", 400, None, &["kind"]),
        (&get, "/clusters/prod/units/flux-system/apps/why", "", 200, None, &["\"stage\":\"drift\"", "not connected"]),
        (&get, "/sources", "", 200, None, &["\"items\":[]"]),
        (&get, "/units?cluster=&namespace=flux-system&name=", "", 200, None, &["main@sha1:0123", "\"stale\":true"]),
        (&get, "/units?namespace=other", "", 200, None, &["\"items\":[]"]),
        (&get, "/units?cluster=dev", "", 404, None, &["no cluster named dev"]),
        (&get, "/units?nam=x", "", 400, None, &["nam"]),
        (&patch, "/clusters/prod", r#"{"labels":{"env":null,"tier":"1"}}"#, 200, Some("label"), &["\"tier\":\"1\""]),
        (&patch, "/clusters/prod", r#"{"labels":{"a b":"1"}}"#, 400, None, &["a b"]),
        (&post, "/join-tokens", r#"{"name":"new"}"#, 200, Some("joinToken"), &["\"token\":\"", "\"name\":\"new\""]),
        (&post, "/join-tokens", r#"{"name":"new","ttlSeconds":86401}"#, 400, None, &["86401"]),
        (&post, "/join-tokens", r#"{"name":"prod"}"#, 409, None, &["prod is enrolled"]),
        (&post, "/reconcile", r#"{"cluster":"prod"}"#, 200, Some("reconcile"), &["not connected"]),
        (&post, "/reconcile", r#"{"source":"a/b"}"#, 404, None, &["a/b"]),
        (&post, "/suspend", suspend, 200, Some("suspend"), &["is suspended in cluster prod"]),
        (&post, "/suspend", suspend_wrong, 404, None, &["no unit flux-system/appz"]),
        (&get, "/clusters/prod/units/flux-system/apps/why", "", 200, None, &["suspended by uid:", "maintenance"]),
        (&post, "/resume", suspend, 200, Some("resume"), &["goes on in cluster prod"]),
        (&post, "/resume", suspend, 409, None, &["no operator has suspended"]),
        (
            &post,
            "/drift-mode",
            drift_mode,
            200,
            Some("driftMode"),
            &["cluster prod is observe", "new commits are applied"],
        ),
        (&post, "/drift-mode", drift_mode_wrong, 404, None, &["no unit flux-system/appz"]),
        (&get, "/clusters/prod/units/flux-system/apps", "", 200, None, &["\"what\":\"driftMode\"", "hands off"]),
        (&post, "/drift-mode", r#"{"cluster":"prod"}"#, 409, None, &["all units in cluster prod", "as Git says"]),
        (&post, "/drift-mode", r#"{"mode":"warn"}"#, 200, Some("driftMode"), &["all units in every cluster is warn"]),
        (&post, "/drift-mode", r#"{"cluster":"prod"}"#, 409, None, &["--all-clusters"]),
        (&post, "/drift-mode", "{}", 200, Some("driftMode"), &["as Git says again"]),
        (&post, "/freeze", r#"{"reason":"night"}"#, 200, Some("freeze"), &["the fleet is frozen"]),
        (&get, "/status", "", 200, None, &["\"reason\":\"night\""]),
        (&post, "/unfreeze", "{}", 200, Some("unfreeze"), &["not frozen any more"]),
        (&post, "/unfreeze", "{}", 409, None, &["is not frozen"]),
        (&get, "/deletes", "", 200, None, &["Namespace", list, "\"clusters\":[\"prod\"]"]),
        (&get, "/deletes?cluster=dev", "", 404, None, &["no cluster named dev"]),
        (&post, "/approve", approve, 200, Some("approveDelete"), &["1 deletes in cluster prod are approved"]),
        (&post, "/approve", approve_list, 200, Some("approveDelete"), &["1 deletes in cluster prod are approved"]),
        (&get, "/clusters/prod/units/flux-system/apps", "", 200, None, &["\"what\":\"approveDelete\"", "tidy"]),
        (&post, "/approve", r#"{"list":"0123456789abcdef"}"#, 404, None, &["0123456789abcdef", "nothing was approved"]),
        (&post, "/approve", r#"{"keys":[]}"#, 400, None, &["keys"]),
        (&get, "/history?cluster=prod&limit=5", "", 200, None, &["\"cluster\":\"prod\"", "data.k 2 -> 1"]),
        (&get, "/history?namespace=flux-system&name=apps&since=5", "", 200, None, &["\"items\":[]"]),
        (&get, "/history?name=apps", "", 400, None, &["give both or neither"]),
        (&get, "/history?cluster=dev", "", 404, None, &["no cluster named dev"]),
        (&delete, "/clusters/prod", "", 200, Some("remove"), &["was removed"]),
        (&delete, "/clusters/prod", "", 404, None, &["prod"]),
        (&get, "/audit?after=0&limit=1", "", 200, None, &["\"n\":1", "\"action\":\"init\""]),
        (&get, "/audit?limit=x", "", 400, None, &["limit"]),
    ];
    let mut token = String::new();
    for (method, path, body, status, action, words) in cases {
        let before = audit(&mut client).await;
        let body = (!body.is_empty()).then_some(*body);
        let got = client.send((*method).clone(), &format!("/api/v1{path}"), body).await.unwrap();
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        assert_eq!(got.status.as_u16(), *status, "{method} {path}: {text}");
        if *status >= 400 {
            got.problem();
        }
        for word in *words {
            assert!(text.contains(word), "{method} {path}: {text} lacks {word}");
        }
        let new = audit(&mut client).await.split_off(before.len());
        let actions: Vec<&str> = new.iter().map(|row| row.action.as_str()).collect();
        assert_eq!(actions, action.iter().copied().collect::<Vec<_>>(), "{method} {path}");
        assert!(new.iter().all(|row| row.actor.starts_with("uid:")), "{new:?}");
        if let Some(made) = got.json().get("token") {
            token = made.as_str().unwrap().to_owned();
        }
    }
    let rows = audit(&mut client).await;
    assert!(!token.is_empty() && rows.iter().all(|row| !row.detail.contains(&token) && !row.target.contains(&token)));
    let units: List<UnitRow> = serde_json::from_slice(&client.get("/api/v1/units").await.unwrap().body).unwrap();
    assert!(units.items.is_empty(), "a removed cluster is not shown");

    stop.cancel();
    hub.await.unwrap().unwrap();
    assert!(!socket.exists());
}

async fn audit(client: &mut Client) -> Vec<AuditEntry> {
    let got = client.get("/api/v1/audit").await.unwrap();
    serde_json::from_slice::<List<AuditEntry>>(&got.body).unwrap().items
}
