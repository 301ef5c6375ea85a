//! Who may join: tokens that are wrong, used or expired, and an identity that belongs to another cluster.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless_e2e::wait;
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::api::{ClusterRow, FleetStatus, JoinTokenCreated};
use driftless_protocol::id::Digest;
use driftless_protocol::token::{JoinToken, TokenSecret};
use serde_json::{Value, json};

use crate::common::{Room, base};

const PATIENCE: Duration = Duration::from_secs(90);
const IDENTITY: &str = "driftless-identity";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolment() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&["one", "two"]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new("one")])?).await?;
    // What no hub ever made, to begin with.
    world.add_cluster_with(ClusterOptions::new("two"), "let-me-in".into(), "info").await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("a text that is no token", refused(w, None, &["join token", "dfj1."])).await;
    steps.run("a token with a letter lost", cut_off(w)).await;
    steps.run("a token with a wrong secret", wrong_secret(w)).await;
    steps.run("a token of another hub", another_hub(w)).await;
    steps.run("an expired token", expired(w)).await;
    steps.run("a token that was used", used(w)).await;
    steps.run("nothing of this let anybody in, or disturbed the other cluster", untouched(w, &base)).await;
    steps.run("a token enrols one cluster, once", enrols(w, &base)).await;
    steps.run("the identity of another cluster, copied", copied(w, &base)).await;
    steps.run("the identity of another cluster, and a lie about where it is", stolen(w, &base)).await;
    steps.run("a removed cluster may not come back", removed(w, &base)).await;
    steps.finish(world).await
}

/// Starts the agent of cluster two anew with this token; it must not get in, and must tell these words.
async fn refused(world: &mut World, token: Option<String>, tells: &[&str]) -> Result<()> {
    let mut said = 0;
    if let Some(token) = token {
        said = world.cluster("two").agent_said()?.len();
        let two = world.cluster_mut("two");
        two.stop_agent().await?;
        two.write_join_token(&token)?;
        two.start_agent()?;
        let secret = JoinToken::parse(&token).ok().map(|t| t.reveal().to_string());
        wait_said(world, said, tells).await?;
        let new = world.cluster("two").agent_said()?;
        let leaked = secret.is_some_and(|s| new.contains(&s));
        ensure!(!leaked, "the log shows the token");
    } else {
        wait_said(world, said, tells).await?;
    }
    ensure!(names(world).await? == ["one"], "it got in: {:?}", names(world).await?);
    Ok(())
}

async fn wait_said(world: &World, from: usize, tells: &[&str]) -> Result<()> {
    wait::until(PATIENCE, format!("the agent to say {tells:?}"), || async {
        let log = world.cluster("two").agent_said()?;
        let new = log.get(from..).unwrap_or_default();
        if tells.iter().all(|t| new.contains(t)) { Ok(()) } else { bail!("{}", new.lines().last().unwrap_or_default()) }
    })
    .await?;
    Ok(())
}

async fn names(world: &World) -> Result<Vec<String>> {
    let rows: Vec<ClusterRow> = world.ask(&["cluster", "list"]).await?;
    Ok(rows.iter().map(|c| c.name.to_string()).collect())
}

async fn token(world: &World, ttl: &str) -> Result<JoinTokenCreated> {
    world.ask(&["cluster", "join-token", "--name", "two", "--ttl", ttl]).await
}

async fn cut_off(world: &mut World) -> Result<()> {
    let mut text = token(world, "1h").await?.token;
    text.pop();
    refused(world, Some(text), &["cut off or damaged", "paste it again"]).await
}

async fn wrong_secret(world: &mut World) -> Result<()> {
    let mut token = JoinToken::parse(&token(world, "1h").await?.token)?;
    token.secret = TokenSecret::from_bytes([7; 32]);
    let text = token.reveal().to_string();
    refused(world, Some(text), &["no such join token, or its secret is wrong", "driftless cluster join-token"]).await?;
    let hub = std::fs::read_to_string(world.hub.log())?;
    ensure!(hub.contains("an enrolment was refused"), "the hub's log does not tell it");
    Ok(())
}

async fn another_hub(world: &mut World) -> Result<()> {
    let mut token = JoinToken::parse(&token(world, "1h").await?.token)?;
    token.hub_ca = Digest::of(b"another authority");
    // Nothing is said to a hub that is not the one of the token.
    refused(world, Some(token.reveal().to_string()), &["cannot enrol at this address", "authority"]).await
}

async fn expired(world: &mut World) -> Result<()> {
    let token = token(world, "1s").await?;
    wait::until(PATIENCE, "the token to expire", || async {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        if now > u128::from(token.expires) { Ok(()) } else { bail!("not yet") }
    })
    .await?;
    refused(world, Some(token.token), &["this join token has expired", "make a new one"]).await
}

async fn used(world: &mut World) -> Result<()> {
    let used = std::fs::read_to_string(world.folder().join("cluster-one/join-token"))?;
    refused(world, Some(used), &["used already", "driftless cluster join-token"]).await
}

async fn commit(world: &mut World, base: &Content, value: &str) -> Result<String> {
    base.clone().replace("steady/config.yaml", "first", value).commit(world, value).await
}

async fn untouched(world: &mut World, base: &Content) -> Result<()> {
    let two = world.cluster("two").objects().await?;
    ensure!(two.is_empty(), "an agent without identity applied {:?}", two.keys());
    commit(world, base, "one-goes-on").await?;
    world.wait_field("one", "steady", "configmap/config", ".data.commit", "one-goes-on").await?;
    let fleet: FleetStatus = world.status().await?;
    ensure!(fleet.pending.iter().any(|name| name.as_str() == "two"), "status does not show who is awaited: {fleet:?}");
    Ok(())
}

async fn enrols(world: &mut World, base: &Content) -> Result<()> {
    let created = token(world, "1h").await?;
    let two = world.cluster_mut("two");
    two.write_join_token(&created.token)?;
    // No restart: a mounted Secret changes under a running pod.
    let commit = commit(world, base, "both-of-them").await?;
    world.wait_at(&commit).await?;
    ensure!(names(world).await? == ["one", "two"]);
    // The name is taken now.
    let again = world.cli(&["cluster", "join-token", "--name", "two"]).await?;
    ensure!(again.code == Some(5) && again.stderr.contains("enrolled"), "{again:?}");
    Ok(())
}

async fn identity(world: &World, cluster: &str) -> Result<Value> {
    let secret =
        world.cluster(cluster).kubectl(&["-n", "driftless-system", "get", "secret", IDENTITY, "-o", "json"]).await?;
    let secret: Value = serde_json::from_str(&secret)?;
    let text = secret.pointer("/data/identity.json").and_then(Value::as_str).context("the identity")?;
    Ok(serde_json::from_slice(&STANDARD.decode(text)?)?)
}

/// Starts the agent of cluster two with this identity and without a token.
async fn restart_as(world: &mut World, identity: &Value) -> Result<usize> {
    let said = world.cluster("two").agent_said()?.len();
    world.cluster_mut("two").stop_agent().await?;
    world.cluster("two").remove_join_token()?;
    let patch = json!({ "data": { "identity.json": STANDARD.encode(identity.to_string()) } }).to_string();
    let two = world.cluster("two");
    two.kubectl(&["-n", "driftless-system", "patch", "secret", IDENTITY, "--type", "merge", "-p", &patch]).await?;
    world.cluster_mut("two").start_agent()?;
    Ok(said)
}

/// Puts its own identity back: it goes on as if nothing had been.
async fn restore(world: &mut World, base: &Content, own: &Value, value: &str) -> Result<()> {
    restart_as(world, own).await?;
    let commit = commit(world, base, value).await?;
    world.wait_at(&commit).await
}

async fn copied(world: &mut World, base: &Content) -> Result<()> {
    let own = identity(world, "two").await?;
    let before = world.cluster("two").objects().await?;
    let stolen = identity(world, "one").await?;
    let said = restart_as(world, &stolen).await?;
    wait_said(
        world,
        said,
        &["was made for the cluster whose kube-system namespace has", "needs a join token of its own"],
    )
    .await?;
    ensure!(world.cluster("two").objects().await? == before, "it wrote with the identity of another cluster");
    restore(world, base, &own, "after-the-copy").await
}

async fn stolen(world: &mut World, base: &Content) -> Result<()> {
    let own = identity(world, "two").await?;
    let mut stolen = identity(world, "one").await?;
    *stolen.pointer_mut("/enrolled/kubeUid").context("the UID")? = own["enrolled"]["kubeUid"].clone();
    let said = restart_as(world, &stolen).await?;
    wait_said(world, said, &["must enrol anew"]).await?;
    // The cluster whose name it bears goes on, and nothing of its content came here.
    commit(world, base, "one-is-one").await?;
    world.wait_field("one", "steady", "configmap/config", ".data.commit", "one-is-one").await?;
    let here = world.cluster("two").field("steady", "configmap/config", ".data.commit").await?;
    ensure!(here == "after-the-copy", "content of another cluster was applied: {here}");
    restore(world, base, &own, "after-the-theft").await
}

async fn removed(world: &mut World, base: &Content) -> Result<()> {
    let before = world.cluster("two").objects().await?;
    let said = world.cluster("two").agent_said()?.len();
    let answer = world.cli(&["cluster", "remove", "two"]).await?;
    ensure!(answer.code == Some(0), "{answer:?}");
    wait_said(world, said, &["removed"]).await?;
    commit(world, base, "without-two").await?;
    world.wait_field("one", "steady", "configmap/config", ".data.commit", "without-two").await?;
    let gone = driftless_e2e::world::lost(&before, &world.cluster("two").objects().await?);
    ensure!(gone.is_empty(), "removing a cluster from the hub took its objects: {gone:?}");
    Ok(())
}
