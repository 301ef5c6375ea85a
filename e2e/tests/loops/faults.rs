//! What breaks: hub, agent, API server, Git host, repository, the agent's own records. Nothing may be lost by it.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_e2e::git::Mode;
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::api::{ClusterRow, Stage, StepState};
use driftless_protocol::report::Ready;
use futures::TryStreamExt as _;
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(45);
/// ConfigMaps of the unit in whose apply the agent is killed.
const MANY: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new(CLUSTER)])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("the hub is killed and comes back", hub_killed(w, &base)).await;
    steps.run("the API server crashes and comes back", api_server_crashes(w, &base)).await;
    steps.run("the branch is rewritten", force_push(w, &base)).await;
    steps.run("the branch vanishes and comes back", branch_vanishes(w, &base)).await;
    steps.run("the Git host fails, hangs up, is down, and comes back", git_host(w, &base)).await;
    steps.run("the repository is emptied", emptied(w, &base)).await;
    steps.run("one object of the stored bundle is altered", altered_pack(w, &base)).await;
    steps.run("a pack of the stored bundle is missing", missing_pack(w, &base)).await;
    steps.run("the stored head is altered", altered_head(w, &base)).await;
    steps.run("the agent is killed in the middle of an apply", agent_killed(w, &base)).await;
    steps.finish(world).await
}

/// A commit that changes what `steady` holds.
async fn change(world: &mut World, base: &Content, to: &str) -> Result<String> {
    base.clone().replace("steady/config.yaml", "first", to).commit(world, to).await
}

async fn steady(world: &World, value: &str) -> Result<()> {
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", value).await
}

async fn cluster_row(world: &World) -> Result<ClusterRow> {
    let rows: Vec<ClusterRow> = world.ask(&["cluster", "list"]).await?;
    rows.into_iter().find(|c| c.name.as_str() == CLUSTER).context("the cluster is not listed")
}

/// Changes a field by hand and waits until it is healed.
async fn heals(world: &World) -> Result<()> {
    let there = world.cluster(CLUSTER);
    let before = there.field("subject", "configmap/config", ".metadata.resourceVersion").await?;
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    let patched =
        there.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    ensure!(patched.contains("patched") && !patched.contains("no change"), "{patched}");
    world.wait_field(CLUSTER, "subject", "configmap/config", ".data.commit", "first").await?;
    let after = there.field("subject", "configmap/config", ".metadata.resourceVersion").await?;
    ensure!(before != after, "nothing was changed by hand");
    Ok(())
}

async fn hub_killed(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let frozen = world.text(&["suspend", "watched", "--cluster", CLUSTER, "--reason", "outlives the hub"]).await?;
    ensure!(!frozen.is_empty(), "suspend says nothing");
    world.wait_unit(CLUSTER, "watched", "to be suspended", |u| u.suspended).await?;
    world.hub.kill()?;

    // The command line says what is wrong, and ends with its own code.
    let answer = world.cli(&["status"]).await?;
    ensure!(answer.code == Some(3) && answer.stdout.is_empty(), "{answer:?}");
    ensure!(answer.stderr.contains("cannot"), "not for people: {}", answer.stderr);
    // The agent goes on without it.
    heals(world).await?;
    let commit = change(world, base, "while-the-hub-is-dead").await?;
    world.hub.start_again().await?;
    steady(world, "while-the-hub-is-dead").await?;
    world.wait_at_except(&commit, &["watched"]).await?;
    let row = world.unit(CLUSTER, "watched").await?;
    ensure!(row.suspended, "the suspend did not outlive the hub: {row:?}");
    world.text(&["resume", "watched", "--cluster", CLUSTER]).await?;
    world.wait_at(&commit).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

async fn api_server_crashes(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    world.cluster(CLUSTER).plane.kill_apiserver().await?;
    let commit = change(world, base, "while-the-api-server-is-down").await?;
    world.wait_fetched(&commit).await?;
    // Shown, and not as if all were well.
    {
        let world = &*world;
        wait::until(PATIENCE, "the commit not to be applied, visibly", || async {
            match (world.unit(CLUSTER, "steady").await, cluster_row(world).await) {
                (Ok(unit), _) if unit.revision.as_deref().is_some_and(|r| r.ends_with(&commit)) => {
                    Seen::Never(format!("shown as applied without an API server: {unit:?}"))
                }
                (Ok(_), Ok(cluster)) if cluster.ready != Ready::True => Seen::Done(()),
                seen => Seen::NotYet(format!("{seen:?}")),
            }
        })
        .await?;
    }
    world.cluster(CLUSTER).plane.start_apiserver().await?;
    steady(world, "while-the-api-server-is-down").await?;
    world.wait_at(&commit).await?;
    heals(world).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

async fn force_push(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let first = world.repo.head().await?;
    change(world, base, "to-be-forgotten").await?;
    steady(world, "to-be-forgotten").await?;
    world.repo.force_push(&first).await?;
    steady(world, "first").await?;
    world.wait_at(&first).await?;
    let said = std::fs::read_to_string(world.hub.log())?;
    ensure!(said.contains("the branch was rewritten"), "the hub's log does not tell it");
    world.cluster(CLUSTER).nothing_lost(&before).await
}

/// Waits until the source is shown as not ready, with these words, and its last good revision.
async fn source_fails(world: &World, words: &[&str], commit: &str) -> Result<()> {
    wait::until(PATIENCE, format!("the source to fail with {words:?}"), || async {
        match world.source().await {
            Ok(source) if !source.revision.as_deref().is_some_and(|r| r.ends_with(commit)) => {
                Seen::Never(format!("the last good revision is lost: {source:?}"))
            }
            Ok(source) if source.ready == Ready::False && words.iter().all(|w| source.message.contains(w)) => {
                Seen::Done(())
            }
            seen => Seen::NotYet(format!("{seen:?}")),
        }
    })
    .await?;
    // Where somebody looks who wonders why a commit does not arrive.
    let step = world.step(CLUSTER, "steady", Stage::Source).await?;
    ensure!(step.state == StepState::Failed && step.message.contains("stays in use"), "{step:?}");
    let reconcile = world.cli(&["reconcile"]).await?;
    let all = format!("{}{}", reconcile.stdout, reconcile.stderr);
    ensure!(words.iter().all(|w| all.contains(w)), "reconcile does not say {words:?}: {reconcile:?}");
    Ok(())
}

async fn branch_vanishes(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let commit = world.repo.head().await?;
    let before = world.cluster(CLUSTER).objects().await?;
    world.repo.delete_branch("main").await?;
    source_fails(world, &["main"], &commit).await?;
    heals(world).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    world.repo.push(&[]).await?;
    let commit = change(world, base, "the-branch-is-back").await?;
    steady(world, "the-branch-is-back").await?;
    world.wait_at(&commit).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

async fn git_host(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let commit = world.repo.head().await?;
    let before = world.cluster(CLUSTER).objects().await?;
    world.git.set_mode(Mode::Fail(StatusCode::SERVICE_UNAVAILABLE));
    source_fails(world, &["503"], &commit).await?;
    world.git.set_mode(Mode::Serve);
    world.git.stop().await;
    source_fails(world, &["connect"], &commit).await?;
    heals(world).await?;
    let newer = change(world, base, "while-git-is-down").await?;
    world.git.listen().await?;
    steady(world, "while-git-is-down").await?;
    world.wait_at(&newer).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

async fn emptied(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let nothing = Content::new().with("README.md", "Moved elsewhere.\n");
    let commit = nothing.commit(world, "emptied").await?;
    world.wait_fetched(&commit).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "the emptied repository to be shown", || async {
            let row = cluster_row(world).await?;
            let told = row.message.contains("clusters/one");
            if row.ready == Ready::True || !told { bail!("{row:?}") } else { Ok(()) }
        })
        .await?;
    }
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    let commit = change(world, base, "back-again").await?;
    world.wait_at(&commit).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

/// The packs of the stored bundle, by name.
async fn packs(world: &World) -> Result<Vec<Value>> {
    let text = world.cluster(CLUSTER).kubectl(&["-n", "driftless-system", "get", "secrets", "-o", "json"]).await?;
    let mut list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array_mut().context("a list of Secrets")?;
    let named = |s: &Value| s["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("driftless-pack-"));
    let packs: Vec<Value> = items.drain(..).filter(named).collect();
    ensure!(!packs.is_empty(), "the agent stores no packs");
    Ok(packs)
}

/// With the agent stopped, `damage` is done to its records; it must come back, say so, and lose nothing.
async fn damaged<F: AsyncFnOnce(&World) -> Result<()>>(
    world: &mut World,
    base: &Content,
    tells: &str,
    damage: F,
) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let said = world.cluster(CLUSTER).agent_said()?.len();
    world.cluster_mut(CLUSTER).stop_agent().await?;
    damage(world).await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    {
        let world = &*world;
        wait::until(PATIENCE, format!("the agent to tell of it: {tells:?}"), || async {
            let log = world.cluster(CLUSTER).agent_said()?;
            let new = log.get(said..).unwrap_or_default();
            if new.contains(tells) { Ok(()) } else { bail!("{}", world.cluster(CLUSTER).agent_log_tail(5)) }
        })
        .await?;
    }
    heals(world).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    let commit = change(world, base, "after-the-damage").await?;
    steady(world, "after-the-damage").await?;
    world.wait_at(&commit).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}

async fn altered_pack(world: &mut World, base: &Content) -> Result<()> {
    damaged(world, base, "its bytes are not those its name says", async |world| {
        let cluster = world.cluster(CLUSTER);
        for mut pack in packs(world).await? {
            let name = pack["metadata"]["name"].as_str().context("a name")?.to_owned();
            let data = pack["data"]["pack"].as_str().context("a pack")?.to_owned();
            // Another letter near the end: still base64, other bytes.
            let at = data.trim_end_matches('=').len() - 3;
            let other = if &data[at..=at] == "A" { "B" } else { "A" };
            pack["data"]["pack"] = format!("{}{other}{}", &data[..at], &data[at + 1..]).into();
            pack["metadata"] =
                json!({ "name": name, "namespace": "driftless-system", "labels": pack["metadata"]["labels"] });
            // Immutable: whoever alters one puts another in its place.
            cluster.kubectl(&["-n", "driftless-system", "delete", "secret", &name]).await?;
            cluster.kubectl_with(&["create", "-f", "-"], Some(&pack.to_string())).await?;
        }
        Ok(())
    })
    .await
}

async fn missing_pack(world: &mut World, base: &Content) -> Result<()> {
    damaged(world, base, "it is not there", async |world| {
        for pack in packs(world).await? {
            let name = pack["metadata"]["name"].as_str().context("a name")?;
            world.cluster(CLUSTER).kubectl(&["-n", "driftless-system", "delete", "secret", name]).await?;
        }
        Ok(())
    })
    .await
}

async fn altered_head(world: &mut World, base: &Content) -> Result<()> {
    damaged(world, base, "the stored bundle cannot be used", async |world| {
        let cluster = world.cluster(CLUSTER);
        let text =
            cluster.kubectl(&["-n", "driftless-system", "get", "configmap", "driftless-head", "-o", "json"]).await?;
        let mut map: Value = serde_json::from_str(&text)?;
        let text = map["data"]["state.json"].as_str().context("ConfigMap driftless-head has no state.json")?;
        let mut state: Value = serde_json::from_str(text)?;
        let head = state["current"]["head"]["bytes"].as_str().context("no stored head")?;
        // One that never ends: worth a try for somebody who may write here.
        let forever = head.replace("\"expires\":1", "\"expires\":9");
        ensure!(forever != head, "the head has no expiry: {head}");
        state["current"]["head"]["bytes"] = forever.into();
        map["data"]["state.json"] = state.to_string().into();
        map["metadata"]["managedFields"].take();
        cluster.kubectl_with(&["replace", "-f", "-"], Some(&map.to_string())).await.map(drop)
    })
    .await
}

async fn agent_killed(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let many = (0..MANY).fold(base.clone(), |content, n| {
        let map = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: many-{n}\ndata:\n  n: \"{n}\"\n");
        content.with(&format!("subject/many/{n}.yaml"), map)
    });
    let list = (0..MANY).map(|n| format!("  - many/{n}.yaml\n")).collect::<String>();
    let many = many.append("subject/kustomization.yaml", &list);
    let maps: Api<ConfigMap> = Api::namespaced(world.cluster(CLUSTER).plane.client(), "subject");
    let now = maps.list_metadata(&ListParams::default()).await?.metadata.resource_version.context("a version")?;
    let mut made = pin!(maps.watch_metadata(&WatchParams::default(), &now).await?);
    let commit = many.commit(world, "many").await?;
    let count = |objects: &driftless_e2e::world::Objects| objects.keys().filter(|k| k.contains("/many-")).count();
    // At the first of them; asking again and again would be too slow to meet the middle.
    let first = async {
        while let Some(event) = made.try_next().await? {
            if matches!(&event, WatchEvent::Added(map) if map.name_any().starts_with("many-")) {
                return Ok(());
            }
        }
        bail!("the watch ended before any of them was made")
    };
    tokio::time::timeout(PATIENCE, first).await.context("none of them was made")??;
    world.cluster_mut(CLUSTER).kill_agent()?;
    let half = world.cluster(CLUSTER).objects().await?;
    let made = count(&half);
    ensure!(made > 0 && made < MANY, "not in the middle: {made} of {MANY} were made when it was killed");
    println!("            killed with {made} of {MANY} objects made");

    world.cluster_mut(CLUSTER).start_agent()?;
    world.wait_at(&commit).await?;
    let all = world.cluster(CLUSTER).objects().await?;
    ensure!(count(&all) == MANY, "{} of {MANY} objects", count(&all));
    world.cluster(CLUSTER).nothing_lost(&half).await?;

    // What was made before the kill is known to be ours: it is pruned when it leaves Git.
    let first: Vec<usize> =
        (0..MANY).filter(|n| half.contains_key(&format!("ConfigMap subject/many-{n}"))).take(5).collect();
    let fewer = first.iter().fold(many, |content, n| {
        content.without(&format!("subject/many/{n}.yaml")).replace(
            "subject/kustomization.yaml",
            &format!("  - many/{n}.yaml\n"),
            "",
        )
    });
    let commit = fewer.commit(world, "fewer").await?;
    world.wait_at(&commit).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "what left Git to be pruned", || async {
            let there = count(&world.cluster(CLUSTER).objects().await?);
            if there == MANY - first.len() { Ok(()) } else { bail!("{there} objects") }
        })
        .await?;
    }
    world.cluster(CLUSTER).nothing_lost(&before).await
}
