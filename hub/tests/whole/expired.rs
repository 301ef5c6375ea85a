//! The hub was away longer than certificates last.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless_protocol::api::{AuditEntry, ClusterRow, List};
use driftless_protocol::message::RejectCode;
use driftless_protocol::quic;

use crate::agent::{Agent, Identity, Ledger, Order, session_tls};
use crate::world::World;
use crate::{config, has_apps, world};

const DAY: Duration = Duration::from_secs(86_400);

fn connect(world: &World, identity: &Identity) -> Agent {
    Agent::start(world.address, identity, Arc::new(Mutex::new(Ledger::default())))
}

fn request(key: &rcgen::KeyPair) -> Vec<u8> {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// Connects and asks for a certificate; what came.
async fn renew(world: &World, identity: &Identity, key: &rcgen::KeyPair) -> Vec<Vec<u8>> {
    let mut agent = connect(world, identity);
    agent.orders.send(Order::Renew(request(key))).await.unwrap();
    let seen = agent.until("the renewal", |s| s.renewed.is_some()).await;
    assert_eq!((seen.generation, seen.fetched, seen.hints), (None, 0, 0), "nothing else came");
    seen.renewed.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_certificate_expired_is_renewed_without_a_token_and_goes_on() {
    let mut world = world(&["prod"]).await;
    let (identity, mut agent) = world.cluster("prod", &[]).await;
    agent.until("the first bundle", has_apps).await;
    drop(agent);
    let expired = world.expire(&identity, 3 * DAY).await;
    // A commit that waits for it.
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;

    let key = rcgen::KeyPair::generate().unwrap();
    let renewed = renew(&world, &expired, &key).await;
    let rows: List<ClusterRow> = world.get("/clusters").await.unwrap();
    assert!(!rows.items[0].connected, "who only renews is not connected: {rows:?}");
    // The answer was lost, twice: the cluster still has nothing but the expired one, and is given the same again.
    for _ in 0..2 {
        assert_eq!(renew(&world, &expired, &key).await, renewed);
    }

    let mut new = expired.same(key);
    new.grant.chain = renewed;
    let mut agent = connect(&world, &new);
    agent.until("the bundle", has_apps).await;
    world.until("the session", "/clusters", |l: &List<ClusterRow>| l.items[0].connected).await;
    let mut thief = connect(&world, &expired);
    thief.until("the door", |s| s.rejected == Some(RejectCode::Revoked)).await;
    assert!(agent.seen.borrow().connected, "the one with the newer certificate is left alone");
    let audit: List<AuditEntry> = world.get("/audit").await.unwrap();
    let of = |action: &str| audit.items.iter().filter(|e| e.action == action).count();
    assert_eq!((of("renewExpired"), of("sessionRefused"), of("enrol")), (3, 1, 1), "{audit:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_on_an_expired_certificate_gets_no_bundle_and_ends_with_its_cluster() {
    let mut world = world(&["prod"]).await;
    let (identity, mut agent) = world.cluster("prod", &[]).await;
    agent.until("the first bundle", has_apps).await;
    drop(agent);
    let before: List<ClusterRow> = world.get("/clusters").await.unwrap();
    let expired = world.expire(&identity, DAY).await;
    let mut agent = connect(&world, &expired);
    agent.until("a greeting", |s| s.connected).await;
    let hint = serde_json::json!({"cluster": "prod"});
    let _: serde_json::Value = world.post("/reconcile", &hint).await.unwrap();
    world.commit(&[("apps/web/config.yaml", &config("web", "2"))]).await;
    world.until("a new offer", "/clusters", |l: &List<ClusterRow>| l.items[0].offered > before.items[0].offered).await;
    let seen = agent.seen.borrow().clone();
    assert!(seen.connected, "{seen:?}");
    assert_eq!((seen.generation, seen.fetched, seen.hints), (None, 0, 0));
    // Removed while it is connected.
    let _: serde_json::Value = world.call("DELETE", "/clusters/prod", None).await.unwrap();
    agent.until("the end", |s| s.rejected == Some(RejectCode::Revoked)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_cluster_is_not_renewed_and_neither_is_one_beyond_the_grace() {
    let mut world = world(&["prod"]).await;
    let (identity, agent) = world.cluster("prod", &[]).await;
    drop(agent);
    let refused = async |world: &World, identity: &Identity, what: &str| {
        let endpoint = quic::agent_endpoint("127.0.0.1:0".parse().unwrap()).unwrap();
        let patience = Duration::from_secs(10);
        let name = &identity.token.server_name;
        if let Ok(connection) = quic::connect(&endpoint, session_tls(identity), world.address, name, patience).await {
            let error = tokio::time::timeout(patience, connection.closed()).await.expect(what);
            assert!(error.to_string().contains("certificate expired"), "{what}: {error}");
        }
    };
    let expired = world.expire(&identity, 31 * DAY).await;
    refused(&world, &expired, "beyond the grace").await;
    let expired = world.expire(&identity, DAY).await;
    world.reconfigure("renewExpiredDays: 30", "renewExpiredDays: 0").await;
    refused(&world, &expired, "no grace").await;
    world.reconfigure("renewExpiredDays: 0", "renewExpiredDays: 2").await;
    let _: serde_json::Value = world.call("DELETE", "/clusters/prod", None).await.unwrap();
    let mut agent = connect(&world, &expired);
    agent.orders.send(Order::Renew(request(&rcgen::KeyPair::generate().unwrap()))).await.unwrap();
    let seen = agent.until("the door", |s| s.rejected.is_some()).await;
    assert_eq!((seen.rejected, seen.renewed), (Some(RejectCode::Revoked), None));
    world.stop().await;
}
