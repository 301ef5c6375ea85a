//! Several pods of one agent, with and without their hub: somebody always enforces what Git said last.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use driftless_e2e::process::Process;
use driftless_e2e::wait;
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use rustix::process::Signal;

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autonomy() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new(CLUSTER)])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("a pod that is killed is followed by another", killed(w)).await;
    steps.run("a rolling upgrade hands over at once", upgraded(w)).await;
    steps.run("a pod that is frozen is followed, and does nothing when it wakes", frozen(w, &base)).await;
    steps.run("without the hub every pod is lost, and the next one enforces", without_hub(w, &base)).await;
    steps.finish(world).await
}

/// Who holds the lease; empty for nobody.
async fn leader(world: &World) -> Result<String> {
    let there = world.cluster(CLUSTER);
    there.field("driftless-system", "lease/driftless-agent", ".spec.holderIdentity").await
}

async fn wait_leader(world: &World, pod: &str) -> Result<()> {
    wait::until(PATIENCE, format!("{pod} to lead"), || async move {
        matches!(leader(world).await, Ok(leads) if leads == pod)
    })
    .await?;
    Ok(())
}

/// Changes a field by hand and waits until it is healed; how long that took.
async fn heals(world: &World) -> Result<Duration> {
    let there = world.cluster(CLUSTER);
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    let start = Instant::now();
    wait::until(PATIENCE, "a change by hand to be healed", || async {
        let seen = there.field("subject", "configmap/config", ".data.commit").await;
        seen.is_ok_and(|seen| seen == "first")
    })
    .await?;
    Ok(start.elapsed())
}

/// Starts a second pod and waits until it follows: it has said so in its log.
async fn follower(world: &mut World) -> Result<(String, Process)> {
    let (pod, process) = world.cluster_mut(CLUSTER).start_pod()?;
    wait::until(PATIENCE, format!("{pod} to follow"), || async { process.tail(50).contains("this one follows") })
        .await?;
    ensure!(leader(world).await? != pod, "it leads already");
    Ok((pod, process))
}

/// The follower becomes the one that the world knows: it is ended, and a pod of the world's own takes its place.
async fn back_to_one(world: &mut World, mut process: Process) -> Result<()> {
    process.stop(Duration::from_secs(15)).await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    heals(world).await.map(drop)
}

async fn killed(world: &mut World) -> Result<()> {
    let (pod, process) = follower(world).await?;
    world.cluster_mut(CLUSTER).kill_agent()?;
    let healed = heals(world).await?;
    wait_leader(world, &pod).await?;
    println!("            healed {:.1} s after the kill", healed.as_secs_f64());
    back_to_one(world, process).await
}

async fn upgraded(world: &mut World) -> Result<()> {
    let (pod, process) = follower(world).await?;
    world.cluster_mut(CLUSTER).stop_agent().await?;
    let healed = heals(world).await?;
    wait_leader(world, &pod).await?;
    println!("            healed {:.1} s after the old pod ended", healed.as_secs_f64());
    back_to_one(world, process).await
}

async fn frozen(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let (pod, process) = follower(world).await?;
    world.cluster_mut(CLUSTER).signal_agent(Signal::STOP)?;
    heals(world).await?;
    wait_leader(world, &pod).await?;
    // A newer commit than the one the frozen pod knows, then it wakes: it must not bring the old one back.
    let newer = base.clone().replace("subject/config.yaml", "first", "newer");
    let commit = newer.commit(world, "while one is frozen").await?;
    world.wait_at(&commit).await?;
    world.cluster_mut(CLUSTER).signal_agent(Signal::CONT)?;
    let there = world.cluster(CLUSTER);
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let seen = there.field("subject", "configmap/config", ".data.commit").await?;
        ensure!(seen == "newer", "the pod that woke wrote {seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(leader(world).await? == pod, "{} leads", leader(world).await?);
    world.cluster_mut(CLUSTER).stop_agent().await?;
    base.reset(world).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    back_to_one(world, process).await
}

async fn without_hub(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let before = world.cluster(CLUSTER).objects().await?;
    world.hub.kill()?;
    world.cluster_mut(CLUSTER).kill_agent()?;
    // Nobody is there: a change stays.
    let there = world.cluster(CLUSTER);
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "steady", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "first").await?;
    heals(world).await?;
    world.hub.start_again().await?;
    base.reset(world).await?;
    world.cluster(CLUSTER).nothing_lost(&before).await
}
