//! The story of `cargo sandbox --once`: what Driftless is for, step by step, each with its time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use driftless_protocol::report::Ready;

use super::{Teller, units, wait_ready, wait_unit};
use crate::wait::{self, Seen};
use crate::world::World;

/// Plays it. An error is a story that did not come true.
pub(super) async fn play(world: &mut World, teller: &Teller) -> Result<()> {
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let begin = Instant::now();
    wait_ready(world, Duration::from_secs(180)).await?;
    times.push(("first commit: applied everywhere and healthy", begin.elapsed()));
    teller.say("the first commit is applied everywhere and healthy");

    times.push(("second commit: on the canary, then everywhere", commit_everywhere(world).await?));
    teller.say("a commit went to the canary first, then everywhere");

    times.push(("scaled to 5 by hand: back at 3", heal(world).await?));
    teller.say("`kubectl scale` to 5 was healed back to 3");

    times.push(("scaled to 5 by hand where drift is observed: shown", observe(world).await?));
    teller.say("the same with `remediate: false`: the drift stays and is shown");

    times.push(("file removed: pruned everywhere", prune(world).await?));
    teller.say("a file left Git: its object left every cluster");

    times.push(("bad manifest: reported, nothing lost", bad_manifest(world).await?));
    teller.say("a bad manifest was reported with file and line, and nothing was lost");

    println!("\n{:<56} {:>10}", "step", "time");
    for (what, time) in times {
        println!("{what:<56} {:>7} ms", time.as_millis());
    }
    Ok(())
}

async fn image(world: &World, cluster: &str, namespace: &str) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    world.cluster(cluster).kubectl(&["-n", namespace, "get", "deployment", "my-app", "-o", path]).await
}

async fn replicas(world: &World, cluster: &str, namespace: &str) -> Result<String> {
    let path = "jsonpath={.spec.replicas}";
    world.cluster(cluster).kubectl(&["-n", namespace, "get", "deployment", "my-app", "-o", path]).await
}

fn names(world: &World) -> Vec<String> {
    world.clusters.iter().map(|c| c.name().to_owned()).collect()
}

async fn commit_everywhere(world: &mut World) -> Result<Duration> {
    let path = "apps/my-app/deployment.yaml";
    let text = std::fs::read_to_string(world.repo.work().join(path)).context("read the example")?;
    let changed = text.replace("nginx:1.29.3", "nginx:1.29.4");
    ensure!(changed != text, "the example no longer holds nginx:1.29.3");
    let begin = Instant::now();
    world.repo.commit("new nginx", &[(path, Some(&changed))]).await?;
    let world = &*world;
    for cluster in names(world) {
        wait::until(Duration::from_secs(120), format!("the new image in {cluster}"), || async {
            match image(world, &cluster, "my-app").await {
                Ok(image) if image == "nginx:1.29.4" => Seen::Done(()),
                Ok(image) => Seen::NotYet(image),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await?;
    }
    let took = begin.elapsed();
    wait_ready(world, Duration::from_secs(120)).await?;
    Ok(took)
}

async fn heal(world: &World) -> Result<Duration> {
    let cluster = world.cluster("production-eu");
    let begin = Instant::now();
    cluster.kubectl(&["-n", "my-app", "scale", "deployment", "my-app", "--replicas", "5"]).await?;
    wait::until(Duration::from_secs(30), "my-app to be back at 3 replicas", || async {
        match replicas(world, "production-eu", "my-app").await {
            Ok(n) if n == "3" => Seen::Done(()),
            Ok(n) => Seen::NotYet(format!("{n} replicas")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(begin.elapsed())
}

async fn observe(world: &World) -> Result<Duration> {
    let cluster = world.cluster("production-eu");
    let begin = Instant::now();
    cluster.kubectl(&["-n", "observed", "scale", "deployment", "my-app", "--replicas", "5"]).await?;
    wait_unit(world, "production-eu", "my-app-observed", "to show its drift", |u| u.drifted > 0).await?;
    let took = begin.elapsed();
    let n = replicas(world, "production-eu", "observed").await?;
    ensure!(n == "5", "the drift was to stay, but there are {n} replicas");
    let detail = world.cli(&["describe", "my-app-observed", "--cluster", "production-eu"]).await?;
    ensure!(detail.stdout.contains("spec.replicas"), "describe does not name spec.replicas:\n{}", detail.stdout);
    cluster.kubectl(&["-n", "observed", "scale", "deployment", "my-app", "--replicas", "3"]).await?;
    wait_unit(world, "production-eu", "my-app-observed", "to be without drift", |u| u.drifted == 0).await?;
    Ok(took)
}

async fn prune(world: &mut World) -> Result<Duration> {
    let kustomization =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - deployment.yaml\n";
    let begin = Instant::now();
    world
        .repo
        .commit(
            "my-app needs no Service",
            &[("apps/my-app/kustomization.yaml", Some(kustomization)), ("apps/my-app/service.yaml", None)],
        )
        .await?;
    let world = &*world;
    for name in names(world) {
        wait::until(Duration::from_secs(120), format!("the Service to leave {name}"), || async {
            let list = world.cluster(&name).kubectl(&["-n", "my-app", "get", "services", "-o", "name"]).await;
            match list {
                Ok(text) if text.trim().is_empty() => Seen::Done(()),
                Ok(text) => Seen::NotYet(text.trim().to_owned()),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await?;
    }
    let took = begin.elapsed();
    for name in names(world) {
        let left = world.cluster(&name).kubectl(&["-n", "my-app", "get", "deployments", "-o", "name"]).await?;
        ensure!(left.contains("my-app"), "the Deployment of {name} went with the Service");
    }
    Ok(took)
}

async fn bad_manifest(world: &mut World) -> Result<Duration> {
    let path = "apps/shop/base/web.yaml";
    let text = std::fs::read_to_string(world.repo.work().join(path)).context("read the example")?;
    let before = objects(world).await?;
    let begin = Instant::now();
    world.repo.commit("broken by accident", &[(path, Some(&format!("{text}---\nkind: [\n")))]).await?;
    let names = names(world);
    {
        let world = &*world;
        for name in &names {
            let row = wait_unit(world, name, "shop", "to be reported", |u| u.message.contains("web.yaml")).await?;
            ensure!(row.ready != Ready::True, "a unit that cannot be built is shown as ready in {name}");
        }
    }
    let took = begin.elapsed();
    let after = objects(world).await?;
    if before != after {
        bail!("objects were lost: before {before:?}, after {after:?}");
    }
    let others = units(world).await?;
    let disturbed: Vec<String> = others
        .iter()
        .filter(|u| u.unit.name != "shop" && u.ready != Ready::True)
        .map(|u| format!("{} {}: {}", u.cluster, u.unit, u.message))
        .collect();
    ensure!(disturbed.is_empty(), "other units are disturbed: {}", disturbed.join("; "));
    world.repo.commit("mended", &[(path, Some(&text))]).await?;
    wait_ready(world, Duration::from_secs(120)).await?;
    Ok(took)
}

/// What the shop consists of, per cluster.
async fn objects(world: &World) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for cluster in &world.clusters {
        let list = ["-n", "shop", "get", "deployments,services,configmaps,serviceaccounts", "-o", "name"];
        all.push(cluster.kubectl(&list).await?);
    }
    Ok(all)
}
