//! `cargo sandbox --measure N`: the two times people wait for, N times each, and what the processes hold in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};

use super::{Teller, wait_ready};
use crate::usage;
use crate::world::World;

/// How long one try may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at the object: what the figures are exact to.
const LOOK: Duration = Duration::from_millis(2);

pub(super) async fn run(world: &mut World, teller: &Teller, tries: usize) -> Result<()> {
    wait_ready(world, Duration::from_secs(180)).await?;
    // The canary: it gets a commit without waiting for anybody.
    let deployments: Api<Deployment> = Api::namespaced(world.cluster("staging").plane.client(), "my-app");
    let agent = world.cluster("staging").agent_id().context("the agent runs")?;
    let hub = world.hub.id().context("the hub runs")?;
    teller.say(format!("idle: RSS of the hub {}, of an agent {}", rss(hub), rss(agent)));

    let mut applied = Vec::with_capacity(tries);
    let path = "apps/my-app/deployment.yaml";
    let original = std::fs::read_to_string(world.repo.work().join(path)).context("read the example")?;
    for n in 0..tries {
        let tag = format!("nginx:1.29.{}", 100 + n);
        world.repo.commit("another nginx", &[(path, Some(&original.replace("nginx:1.29.3", &tag)))]).await?;
        let pushed = Instant::now();
        let asked = world.cli(&["reconcile"]);
        let seen = until(&deployments, |d| image(d) == Some(tag.as_str()));
        let (asked, seen) = tokio::join!(asked, seen);
        asked?;
        applied.push(seen?.duration_since(pushed));
    }
    teller.say(format!("{tries} commits measured"));

    let mut healed = Vec::with_capacity(tries);
    for n in 0..tries {
        // Another field each time: one field that goes back and forth is a contest, and is healed less and less often.
        let key = format!("example.com/by-hand-{n}");
        let patch = serde_json::json!({ "metadata": { "annotations": { &key: "wrong" } } });
        let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
        deployments.patch("my-app", &params, &Patch::Merge(&patch)).await.context("annotate by hand")?;
        let changed = Instant::now();
        let back = until(&deployments, |d| d.metadata.annotations.as_ref().is_none_or(|all| !all.contains_key(&key)));
        healed.push(back.await?.duration_since(changed));
    }
    teller.say(format!("{tries} heals measured"));

    println!("\n{:<44} {:>8} {:>8} {:>8}", format!("over {tries} tries, in ms"), "p50", "p99", "max");
    row("commit pushed and told -> applied", &mut applied);
    row("changed by hand -> healed", &mut healed);
    println!("\n{:<44} {:>8}", "RSS after that", "");
    println!("{:<44} {:>8}", "hub, three clusters of five units", rss(hub));
    println!("{:<44} {:>8}", "agent, five units", rss(agent));
    Ok(())
}

fn image(deployment: &Deployment) -> Option<&str> {
    deployment.spec.template.spec.as_ref()?.containers.first()?.image.as_deref()
}

/// The moment at which the object was first seen so.
async fn until(api: &Api<Deployment>, holds: impl Fn(&Deployment) -> bool) -> Result<Instant> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let live = api.get("my-app").await.context("read my-app")?;
        if holds(&live) {
            return Ok(Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("my-app was not as expected within {} s", PATIENCE.as_secs())
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let ms = |t: Option<Duration>| t.map_or("-".to_owned(), |t| format!("{:.1}", t.as_secs_f64() * 1000.0));
    println!("{what:<44} {:>8} {:>8} {:>8}", ms(at(50)), ms(at(99)), ms(at(100)));
}

/// Resident memory of a process in MiB, of which anonymous, as the kernel tells.
fn rss(process: u32) -> String {
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    match usage::memory(process) {
        Some(memory) => format!("{:.1} MiB ({:.1} anonymous)", mib(memory.all), mib(memory.anonymous)),
        None => "unknown".to_owned(),
    }
}
