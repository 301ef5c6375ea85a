//! The hub as a whole: a real repository, real QUIC, the real store; agents without a cluster.
#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod agent;
mod ask;
mod expired;
mod world;

use std::sync::{Arc, Mutex};

use agent::{Agent, Ledger, Order, enrol, enrol_with};
use driftless_protocol::api::{
    AuditEntry, ClusterRow, FleetStatus, List, SourceRow, Stage, StepState, UnitDetail, UnitRow, Why, problem,
};
use driftless_protocol::bundle::UnitState;
use driftless_protocol::enroll::EnrollRefusal;
use driftless_protocol::message::RejectCode;
use driftless_protocol::report::Ready;
use driftless_protocol::token::TokenSecret;
use world::{World, git};

const UNIT: &str = r"apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: NAME, namespace: flux-system}
spec:
  interval: 10m
  path: ./apps/NAME
  prune: true
  sourceRef: {kind: GitRepository, name: flux-system}
";

const CONFIG: &str = r#"apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: default}
data: {value: "VALUE"}
"#;

fn unit(name: &str) -> String {
    UNIT.replace("NAME", name)
}

fn config(name: &str, value: &str) -> String {
    CONFIG.replace("NAME", name).replace("VALUE", value)
}

/// Two units, `web` and `api`, for every named cluster.
fn repository(clusters: &[&str]) -> Vec<(String, String)> {
    let mut files = vec![
        ("apps/web/config.yaml".to_owned(), config("web", "1")),
        ("apps/api/config.yaml".to_owned(), config("api", "1")),
    ];
    for cluster in clusters {
        for name in ["web", "api"] {
            files.push((format!("clusters/{cluster}/{name}.yaml"), unit(name)));
        }
    }
    files
}

async fn world(clusters: &[&str]) -> World {
    let files = repository(clusters);
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    World::start(&files).await
}

const APPS: [&str; 2] = ["api", "web"];

fn has_apps(seen: &agent::Seen) -> bool {
    APPS.iter().all(|app| seen.objects.get(*app).is_some_and(|o| o.len() == 1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_reaches_the_cluster_and_its_state_comes_back() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[("env", "prod")]).await;
    let first = agent.until("the first bundle", has_apps).await;
    let rows: List<UnitRow> = world
        .until("all ready", "/units?cluster=prod", |l: &List<UnitRow>| {
            l.items.iter().filter(|u| u.ready == Ready::True).count() == 3
        })
        .await;
    let revision = rows.items[0].revision.clone().unwrap();
    assert!(revision.starts_with("main@sha1:"), "{revision}");
    let status: FleetStatus =
        world.until("a ready cluster", "/status", |s: &FleetStatus| s.clusters[0].ready == Ready::True).await;
    assert_eq!(status.clusters[0].units.total, 3);
    assert_eq!(status.clusters[0].revision.as_deref(), Some(&*revision));

    let fetched = first.fetched;
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;
    let second = agent.until("the change", |s| s.generation > first.generation).await;
    // Index, one body, one object.
    assert_eq!(second.fetched - fetched, 3, "only what changed travels");
    let why: Why = world
        .until("all is well", "/clusters/prod/units/flux-system/web/why", |w: &Why| w.summary.contains("all is well"))
        .await;
    assert_eq!(why.steps.iter().map(|s| s.stage).collect::<Vec<_>>().first(), Some(&Stage::Source));
    assert!(why.steps.iter().all(|s| s.state == StepState::Ok), "{why:#?}");
    let detail: UnitDetail = world.get("/clusters/prod/units/flux-system/web").await.unwrap();
    assert_eq!(detail.objects[0].at.as_ref().unwrap().file, "apps/web/config.yaml");
    assert_eq!(detail.defined_at.unwrap().file, "clusters/prod/web.yaml");

    // A commit that changes nothing for the cluster gives no generation, and the revision moves on all the same.
    world.commit(&[("README.md", "hello")]).await;
    let moved =
        world.until("the new revision", "/units?name=web", |l: &List<UnitRow>| l.items[0].revision != why.wanted).await;
    assert_eq!(moved.items[0].ready, Ready::True);
    assert_eq!(agent.seen.borrow().generation, second.generation, "nothing was offered");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_was_killed_comes_back_with_everything_and_offers_nothing_new() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[]).await;
    let before = agent.until("the first bundle", has_apps).await;
    world
        .until("reports", "/units", |l: &List<UnitRow>| l.items.iter().filter(|u| u.ready == Ready::True).count() == 3)
        .await;
    let clusters: List<ClusterRow> = world.get("/clusters").await.unwrap();
    world.kill().await;
    agent.until("the loss", |s| !s.connected).await;
    world.resume().await;
    agent.until("the return", |s| s.connected).await;
    let after: List<ClusterRow> = world
        .until("the same", "/clusters", |l: &List<ClusterRow>| l.items[0].connected && l.items[0].ready == Ready::True)
        .await;
    assert_eq!(after.items[0].offered, clusters.items[0].offered, "an unchanged cluster gets no new generation");
    assert_eq!(agent.seen.borrow().generation, before.generation);
    assert_eq!(agent.seen.borrow().fetched, before.fetched, "nothing is sent again");
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;
    agent.until("work goes on", |s| s.generation > before.generation).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_first_and_its_failure_halts_the_rest() {
    let mut world = world(&["blue", "green"]).await;
    let (_, mut canary) = world.cluster("blue", &[("driftless.dev/canary", "true")]).await;
    canary.until("the canary's first bundle", has_apps).await;
    let (_, mut other) = world.cluster("green", &[]).await;
    let first = other.until("the other's first bundle", has_apps).await;

    canary.orders.send(Order::Fail("web".into())).await.unwrap();
    world
        .until("the failure", "/units?cluster=blue&name=web", |l: &List<UnitRow>| l.items[0].ready == Ready::False)
        .await;
    let had = canary.seen.borrow().generation;
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;
    canary.until("the commit on the canary", |s| s.generation > had).await;
    let status: FleetStatus =
        world.until("the halt", "/status", |s: &FleetStatus| s.rollout.iter().any(|r| r.code == "CanaryFailed")).await;
    assert!(
        status.rollout.iter().any(|r| r.message.contains("blue") && r.message.contains("web")),
        "{:?}",
        status.rollout
    );
    let why: Why = world.get("/clusters/green/units/flux-system/web/why").await.unwrap();
    let step = why.steps.iter().find(|s| s.stage == Stage::Rollout).unwrap();
    assert_eq!((step.state, step.code.as_deref()), (StepState::Failed, Some("CanaryFailed")), "{step:?}");
    assert_eq!(other.seen.borrow().generation, first.generation, "the other cluster was spared");

    canary.orders.send(Order::Heal("web".into())).await.unwrap();
    other.until("the commit on the other", |s| s.generation > first.generation).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_holds_content_and_lets_intents_through_also_over_a_restart() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[]).await;
    let first = agent.until("the first bundle", has_apps).await;
    let freeze = serde_json::json!({"reason": "black friday"});
    let _: serde_json::Value = world.post("/freeze", &freeze).await.unwrap();
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;
    world.until("the freeze", "/status", |s: &FleetStatus| s.rollout.iter().any(|r| r.code == "FleetFrozen")).await;
    world.stop().await;
    world.resume().await;
    agent.until("the return", |s| s.connected).await;

    let suspend = serde_json::json!({"unit": {"namespace": "flux-system", "name": "web", "kind": "Kustomization"}, "reason": "night"});
    let _: serde_json::Value = world.post("/suspend", &suspend).await.unwrap();
    let held = agent.until("the intent", |s| s.generation > first.generation).await;
    let state = |seen: &agent::Seen, name: &str| {
        seen.index.as_ref().unwrap().units.iter().find(|u| u.id.name == name).unwrap().state.clone()
    };
    assert!(matches!(state(&held, "web"), UnitState::Suspended { .. }));
    assert_eq!(state(&held, "api"), state(&first, "api"), "the rest is the frozen content");
    let _: serde_json::Value = world.post("/resume", &suspend).await.unwrap();
    let resumed = agent.until("the unit again", |s| s.generation > held.generation).await;
    assert_eq!(state(&resumed, "web"), state(&first, "web"), "with the content it had, not the new one");
    let again = world.post::<serde_json::Value>("/resume", &suspend).await.unwrap_err();
    assert_eq!(again.code, problem::CONFLICT);

    let _: serde_json::Value = world.post("/unfreeze", &serde_json::json!({})).await.unwrap();
    let thawed = agent.until("the content", |s| s.generation > resumed.generation).await;
    assert_ne!(state(&thawed, "web"), state(&first, "web"));
    let audit: List<AuditEntry> = world.get("/audit").await.unwrap();
    let acts: Vec<&str> = audit.items.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(
        acts,
        ["init", "joinToken", "enrol", "freeze", "reconcile", "suspend", "resume", "unfreeze"],
        "each act once, and no act that did nothing"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_tokens_work_once_and_every_other_way_says_why() {
    let mut world = world(&["prod"]).await;
    let token = world.token("prod", &[]).await;
    let refused = async |what: &str, token: &driftless_protocol::token::JoinToken, uid: &str, code: EnrollRefusal| {
        let refused = enrol(world.address, token, uid).await.err().unwrap_or_else(|| panic!("{what}: enrolled"));
        assert_eq!(refused.code, code, "{what}: {}", refused.message);
        refused.message
    };
    let mut wrong = token.clone();
    wrong.secret = TokenSecret::from_bytes([7; 32]);
    let unknown_secret = refused("wrong secret", &wrong, "uid-prod", EnrollRefusal::UnknownToken).await;
    let mut other = token.clone();
    other.id = driftless_protocol::id::TokenId::from_bytes([9; 8]);
    let unknown_id = refused("unknown token", &other, "uid-prod", EnrollRefusal::UnknownToken).await;
    assert_eq!(unknown_secret, unknown_id, "the answer tells no difference");

    let key = rcgen::KeyPair::generate().unwrap();
    let again = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let identity = enrol_with(world.address, &token, "uid-prod", key).await.unwrap();
    let repeated = enrol_with(world.address, &token, "uid-prod", again).await.unwrap();
    assert_eq!(repeated.grant.cluster, identity.grant.cluster, "an answer that was lost can be had again");
    let message = refused("used", &token, "uid-prod", EnrollRefusal::Used).await;
    assert!(message.contains("used already"), "{message}");
    let taken =
        world.post::<serde_json::Value>("/join-tokens", &serde_json::json!({"name": "prod"})).await.unwrap_err();
    assert_eq!((taken.status, taken.code.as_str()), (409, problem::CONFLICT));
    let second = world.token("second", &[]).await;
    let message = refused("same cluster", &second, "uid-prod", EnrollRefusal::AlreadyEnrolled).await;
    assert!(message.contains("prod"), "{message}");

    let request = serde_json::json!({"name": "late", "ttlSeconds": 1});
    let late: driftless_protocol::api::JoinTokenCreated = world.post("/join-tokens", &request).await.unwrap();
    let late_token = driftless_protocol::token::JoinToken::parse(&late.token).unwrap();
    while driftless_hub::clock::millis() <= late.expires {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let message = refused("expired", &late_token, "uid-late", EnrollRefusal::Expired).await;
    assert!(message.contains("expired"), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_worth_nothing_for_another_cluster_and_nothing_once_revoked() {
    let mut world = world(&["a", "b"]).await;
    let (mut a, mut agent_a) = world.cluster("a", &[]).await;
    let (b, mut agent_b) = world.cluster("b", &[]).await;
    agent_a.until("a", has_apps).await;
    agent_b.until("b", has_apps).await;
    // Cluster a's certificate with cluster b's name in the hello.
    let real = a.grant.cluster;
    a.grant.cluster = b.grant.cluster;
    let mut thief = Agent::start(world.address, &a, Arc::new(Mutex::new(Ledger::default())));
    let seen = thief.until("a rejection", |s| s.rejected.is_some()).await;
    assert_eq!(seen.rejected, Some(RejectCode::WrongCluster));
    assert_eq!(seen.generation, None, "nothing was offered to it");
    drop(thief);
    a.grant.cluster = real;

    // A copy of the cluster: same Secret, another kube-system.
    a.kube_uid = "uid-copy".into();
    let mut copy = Agent::start(world.address, &a, Arc::new(Mutex::new(Ledger::default())));
    let seen = copy.until("a rejection", |s| s.rejected.is_some()).await;
    assert_eq!(seen.rejected, Some(RejectCode::WrongKubeUid));

    let _: serde_json::Value = world.call("DELETE", "/clusters/b", None).await.unwrap();
    agent_b.until("the end", |s| s.rejected == Some(RejectCode::Revoked)).await;
    let mut back = Agent::start(world.address, &b, Arc::new(Mutex::new(Ledger::default())));
    back.until("the door", |s| s.rejected == Some(RejectCode::Revoked)).await;
    let left: List<ClusterRow> = world.get("/clusters").await.unwrap();
    assert_eq!(left.items.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_certificate_is_refused_once_a_newer_one_was_seen() {
    let mut world = world(&["prod"]).await;
    let (old, mut agent) = world.cluster("prod", &[]).await;
    agent.until("the first bundle", has_apps).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    agent.orders.send(Order::Renew(csr)).await.unwrap();
    let renewed = agent.until("the renewal", |s| s.renewed.is_some()).await;
    drop(agent);
    let connect =
        |identity: &agent::Identity| Agent::start(world.address, identity, Arc::new(Mutex::new(Ledger::default())));
    let mut again = connect(&old);
    again.until("the old certificate", |s| s.connected).await;
    drop(again);
    let mut new = old.same(key);
    new.grant.chain = renewed.renewed.unwrap();
    let mut agent = connect(&new);
    agent.until("the new certificate", |s| s.connected).await;
    let mut thief = connect(&old);
    thief.until("the door", |s| s.rejected == Some(RejectCode::Revoked)).await;
    assert!(agent.seen.borrow().connected, "the one with the newer certificate is left alone");
    let audit: List<AuditEntry> = world.get("/audit").await.unwrap();
    assert!(audit.items.iter().any(|e| e.action == "sessionRefused"), "two holders of one identity are an audit fact");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_holds_one_unit_and_an_emptied_repository_deletes_nothing() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[]).await;
    let first = agent.until("the first bundle", has_apps).await;
    world.commit(&[("apps/web/config.yaml", "a: [b\n"), ("apps/api/config.yaml", &config("api", "2"))]).await;
    let broken = agent.until("the good half", |s| s.generation > first.generation).await;
    let index = broken.index.unwrap();
    let state = |name: &str| index.units.iter().find(|u| u.id.name == name).unwrap().state.clone();
    assert!(matches!(state("web"), UnitState::Held { .. }), "{:?}", state("web"));
    assert!(matches!(state("api"), UnitState::Full { .. }));
    let why: Why = world.get("/clusters/prod/units/flux-system/web/why").await.unwrap();
    let step = why.steps.iter().find(|s| s.stage == Stage::Render).unwrap();
    assert_eq!((step.state, step.file.as_deref()), (StepState::Failed, Some("apps/web/config.yaml")), "{step:?}");

    git(&world.path("repo"), &["rm", "-rq", "."]);
    world.commit(&[("README.md", "empty")]).await;
    let rows: List<UnitRow> = world
        .until("the emptied repository", "/units", |l: &List<UnitRow>| {
            l.items.iter().any(|u| u.unit.name == "flux-system" && u.ready == Ready::False)
        })
        .await;
    assert!(rows.items.iter().any(|u| u.unit.name == "api"), "what the cluster has is still shown: {rows:?}");
    let emptied = agent.until("the held root", |s| s.generation > broken.generation).await;
    let index = emptied.index.unwrap();
    assert!(!index.whole, "absence does not mean that it left Git");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_branch_and_a_vanished_host_keep_the_last_good_revision() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[]).await;
    let first = agent.until("the first bundle", has_apps).await;
    git(&world.path("repo"), &["branch", "-m", "main", "other"]);
    let _: serde_json::Value = world.post("/reconcile", &serde_json::json!({})).await.unwrap();
    let sources: List<SourceRow> = world.get("/sources").await.unwrap();
    let source = &sources.items[0];
    assert_eq!(source.ready, Ready::False);
    assert!(source.revision.is_some() && source.message.contains("main"), "{source:?}");
    let branch_gone = source.reason.clone();
    std::fs::rename(world.path("repo"), world.path("elsewhere")).unwrap();
    let _: serde_json::Value = world.post("/reconcile", &serde_json::json!({})).await.unwrap();
    let sources: List<SourceRow> = world.get("/sources").await.unwrap();
    assert_ne!(sources.items[0].reason, branch_gone);
    assert!(sources.items[0].revision.is_some());
    let why: Why = world.get("/clusters/prod/units/flux-system/web/why").await.unwrap();
    assert_eq!((why.steps[0].stage, why.steps[0].state), (Stage::Source, StepState::Failed));
    assert!(why.steps[0].message.contains("stays in use"), "{:?}", why.steps[0]);
    assert_eq!(agent.seen.borrow().generation, first.generation);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_wants_an_operators_certificate() {
    let mut world = world(&["prod"]).await;
    let (identity, _agent) = world.cluster("prod", &[]).await;
    let context: driftless_protocol::api::Context =
        serde_saphyr::from_str(&std::fs::read_to_string(world.path("hub/context.yaml")).unwrap()).unwrap();
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(context.authority.as_bytes()).unwrap()).unwrap();
        roots
    };
    let builder = || {
        rustls::ClientConfig::builder_with_provider(driftless_protocol::quic::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let ask = async |config: rustls::ClientConfig| -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let stream = tokio::net::TcpStream::connect(world.admin).await?;
        let name = rustls::pki_types::ServerName::try_from(context.server_name.clone()).unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    };
    let admin = builder()
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(context.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(context.key.as_bytes()).unwrap(),
        )
        .unwrap();
    assert!(ask(admin).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(builder().with_no_client_auth()).await.is_err(), "nobody");
    let agent = builder()
        .with_client_auth_cert(
            identity.grant.chain.iter().map(|c| CertificateDer::from(c.clone())).collect(),
            PrivateKeyDer::Pkcs8(identity.key.serialize_der().into()),
        )
        .unwrap();
    assert!(ask(agent).await.is_err(), "an agent is no operator");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_that_breaks_later_is_seen_from_what_depends_on_it() {
    let mut world = world(&["prod"]).await;
    let (_, mut agent) = world.cluster("prod", &[]).await;
    let first = agent.until("the first bundle", has_apps).await;
    let depends = unit("web").replace("prune: true", "prune: true\n  dependsOn: [{name: api}]");
    world.commit(&[("clusters/prod/web.yaml", &depends)]).await;
    agent.until("the dependency", |s| s.generation > first.generation).await;
    const WHY: &str = "/clusters/prod/units/flux-system/web/why";
    let step = |why: &Why| why.steps.iter().find(|s| s.stage == Stage::Dependency).unwrap().clone();
    world
        .until("ready", WHY, |w: &Why| {
            w.summary.contains("all is well") && step(w).message == "its dependency is ready"
        })
        .await;
    agent.orders.send(Order::Fail("api".into())).await.unwrap();
    // The agent says nothing new of `web`, which is applied and stays so.
    let why = world.until("what broke", WHY, |w: &Why| step(w).state == StepState::Waiting).await;
    assert!(step(&why).message.contains("at its end flux-system/api is not ready"), "{why:#?}");
    assert_eq!(step(&why).file.as_deref(), Some("clusters/prod/web.yaml"));
    assert_eq!(why.summary, step(&why).message);
    let apply = why.steps.iter().find(|s| s.stage == Stage::Apply).unwrap();
    assert_eq!(apply.state, StepState::Ok, "{apply:?}");
    agent.orders.send(Order::Heal("api".into())).await.unwrap();
    world.until("ready again", WHY, |w: &Why| w.summary.contains("all is well")).await;
    world.stop().await;
}
