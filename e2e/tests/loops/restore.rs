//! Restores, really made: objects from a backup, etcd from a snapshot, the hub's database from a backup or not at all. None of
//! them deletes what it should not.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_e2e::wait;
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::api::DeleteList;
use driftless_protocol::report::{Ready, UnitReport};
use serde_json::Value;

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restores() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new(CLUSTER)])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("objects from a backup are adopted again, and nothing is pruned unasked", backup(w, &base)).await;
    steps.run("etcd goes back to a snapshot under a running agent", snapshot(w, &base)).await;
    steps.run("the hub's database goes back, and its epoch goes on", older_database(w, &base)).await;
    steps.run("the hub's database is empty", empty_database(w, &base)).await;
    steps.finish(world).await
}

async fn report(world: &World, unit: &str) -> Result<UnitReport> {
    world.detail(CLUSTER, unit).await?.report.context("no report")
}

/// Deletes an object and makes it anew as a backup tool does: labels, annotations and content, another UID.
async fn from_backup(world: &World, namespace: &str, object: &str) -> Result<()> {
    let there = world.cluster(CLUSTER);
    let text = there.kubectl(&["-n", namespace, "get", object, "-o", "json"]).await?;
    let mut backup: Value = serde_json::from_str(&text)?;
    let metadata = backup["metadata"].as_object_mut().context("metadata")?;
    metadata.retain(|name, _| ["name", "namespace", "labels", "annotations"].contains(&name.as_str()));
    if let Some(spec) = backup.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|name, _| !name.starts_with("clusterIP"));
    }
    backup.as_object_mut().context("an object")?.remove("status");
    there.kubectl(&["-n", namespace, "delete", object]).await?;
    there
        .kubectl_with(&["create", "-f", "-", "--field-manager", "velero-server"], Some(&backup.to_string()))
        .await
        .map(drop)
}

async fn backup(world: &mut World, base: &Content) -> Result<()> {
    world.cluster_mut(CLUSTER).stop_agent().await?;
    for object in ["configmap/config", "service/api"] {
        from_backup(world, "subject", object).await?;
    }
    from_backup(world, "web", "deployment/web").await?;
    let before = world.cluster(CLUSTER).objects().await?;
    // Meanwhile one of them leaves Git, and so does one that no backup has touched.
    let content =
        base.clone().replace("subject/kustomization.yaml", "  - config.yaml\n", "").without("web/config.yaml");
    let commit = content.commit(world, "less").await?;
    world.wait_fetched(&commit).await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    let held = {
        let world = &*world;
        wait::until(PATIENCE, "the restored object to be held", || async {
            let report = report(world, "subject").await?;
            if report.held_deletes.len() == 1 { Ok(report) } else { bail!("{report:#?}") }
        })
        .await?
    };
    let object = &held.held_deletes[0];
    ensure!(object.key.name == "config" && object.why.contains("restore of a backup"), "{object:#?}");
    ensure!(held.recent.iter().any(|e| e.detail.contains("adopted again")), "it is not told: {:#?}", held.recent);
    world.wait_unit(CLUSTER, "web", "to be ready", |u| u.ready == Ready::True).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "what no backup touched to be pruned", || async {
            world.cluster(CLUSTER).kubectl(&["-n", "web", "get", "configmap", "config"]).await.is_err()
        })
        .await?;
    }
    let mut rest = before.clone();
    rest.remove("ConfigMap web/config");
    world.cluster(CLUSTER).nothing_lost(&rest).await?;
    // What the backup tool wrote is ours: a label of its object leaves with Git's word, and it is healed as before.
    let there = world.cluster(CLUSTER);
    there
        .kubectl(&[
            "-n",
            "subject",
            "patch",
            "service",
            "api",
            "--type",
            "merge",
            "-p",
            r#"{"spec":{"selector":{"app":"x"}}}"#,
        ])
        .await?;
    world.wait_field(CLUSTER, "subject", "service/api", ".spec.selector.app", "api").await?;
    // A person says that it may go.
    let lists: Vec<DeleteList> = world.ask(&["get", "deletes"]).await?;
    ensure!(lists.len() == 1, "{lists:#?}");
    world.text(&["approve", &lists[0].list, "--reason", "it left Git before the backup was made"]).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "the approved object to go", || async {
            world.cluster(CLUSTER).kubectl(&["-n", "subject", "get", "configmap", "config"]).await.is_err()
        })
        .await?;
    }
    base.reset(world).await
}

async fn snapshot(world: &mut World, base: &Content) -> Result<()> {
    let extra = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: NAME\ndata:\n  k: v\n";
    let content = base.clone().with("steady/leaves.yaml", extra.replace("NAME", "leaves"));
    let commit = content.commit(world, "before the snapshot").await?;
    world.wait_at(&commit).await?;
    world.cluster(CLUSTER).plane.keep_snapshot().await?;
    let before = world.cluster(CLUSTER).objects().await?;
    let newer = base
        .clone()
        .replace("steady/config.yaml", "first", "newer")
        .with("steady/comes.yaml", extra.replace("NAME", "comes"));
    let commit = newer.commit(world, "after the snapshot").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    wait::until(PATIENCE, "what left Git to be pruned", || async {
        there.kubectl(&["-n", "steady", "get", "configmap", "leaves"]).await.is_err()
    })
    .await?;
    // More than the snapshot's revision, so that a watch from here on would wait for ever.
    for n in 0..5 {
        let label = format!("n={n}");
        there.kubectl(&["-n", "steady", "label", "configmap", "comes", "--overwrite", &label]).await?;
    }

    there.plane.restore_snapshot().await?;
    ensure!(there.field("steady", "configmap/config", ".data.commit").await.is_ok(), "the API server is not back");
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "newer").await?;
    world.wait_field(CLUSTER, "steady", "configmap/comes", ".data.k", "v").await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "what left Git to be pruned once more", || async {
            world.cluster(CLUSTER).kubectl(&["-n", "steady", "get", "configmap", "leaves"]).await.is_err()
        })
        .await?;
    }
    world.wait_at(&commit).await?;
    let mut rest = before;
    rest.remove("ConfigMap steady/leaves");
    world.cluster(CLUSTER).nothing_lost(&rest).await?;
    // It heals, and the next commit arrives: watches and records are of the restored store.
    let there = world.cluster(CLUSTER);
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.wait_field(CLUSTER, "subject", "configmap/config", ".data.commit", "first").await?;
    base.reset(world).await
}

async fn older_database(world: &mut World, base: &Content) -> Result<()> {
    let backup = tempfile::tempdir()?;
    world.hub.stop().await?;
    for file in world.hub.database()? {
        std::fs::copy(&file, backup.path().join(file.file_name().context("a name")?))?;
    }
    world.hub.start_again().await?;
    // Several generations, so that the restored hub does not overtake the agent by chance.
    for n in 0..4 {
        let newer = base.clone().replace("steady/config.yaml", "first", &format!("newer-{n}"));
        let commit = newer.commit(world, "after the backup").await?;
        world.wait_at(&commit).await?;
    }
    let before = world.cluster(CLUSTER).objects().await?;

    world.hub.stop().await?;
    let folder = world.hub.context_file().parent().context("the hub's folder")?.to_owned();
    for file in world.hub.database()? {
        std::fs::remove_file(file)?;
    }
    for entry in std::fs::read_dir(backup.path())? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    world.hub.start_again().await?;
    // The next commit makes the restored hub offer a generation that the agent has had already, with other bytes.
    let again = base.clone().replace("steady/config.yaml", "first", "again");
    again.commit(world, "after the restore").await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "the agent to refuse what is not newer", || async {
            let rows: Vec<driftless_protocol::api::ClusterRow> = world.ask(&["cluster", "list"]).await?;
            let row = rows.first().context("no cluster")?;
            if row.message.contains("refused") { Ok(()) } else { bail!("{row:?}") }
        })
        .await?;
    }
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    let why = world.text(&["why", "steady", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("bump-epoch"), "what to do is not said: {why}");
    world.hub.stop().await?;
    world.hub.bump_epoch().await?;
    world.hub.start_again().await?;
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "again").await?;
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    base.reset(world).await
}

async fn empty_database(world: &mut World, base: &Content) -> Result<()> {
    let before = world.cluster(CLUSTER).objects().await?;
    let said = world.cluster(CLUSTER).agent_said()?.len();
    world.hub.stop().await?;
    for file in world.hub.database()? {
        std::fs::remove_file(file)?;
    }
    world.hub.start_again().await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "the agent to say that this hub does not know it", || async {
            let log = world.cluster(CLUSTER).agent_said()?;
            let new = log.get(said..).unwrap_or_default();
            if new.contains("knows no such cluster") {
                Ok(())
            } else {
                bail!("{}", world.cluster(CLUSTER).agent_log_tail(3))
            }
        })
        .await?;
    }
    world.cluster(CLUSTER).nothing_lost(&before).await?;
    // It goes on enforcing what it has.
    let there = world.cluster(CLUSTER);
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.wait_field(CLUSTER, "subject", "configmap/config", ".data.commit", "first").await?;

    // Enrolled anew, under its old name: everything is still there, and one thing leaves Git by the normal rules.
    world.cluster_mut(CLUSTER).stop_agent().await?;
    let token = world.join_token(&ClusterOptions::new(CLUSTER)).await?;
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "driftless-system", "delete", "secret", "driftless-identity"]).await?;
    there.write_join_token(&token)?;
    world.cluster_mut(CLUSTER).start_agent()?;
    let commit = base.clone().without("web/config.yaml").commit(world, "the new hub's first").await?;
    world.wait_at(&commit).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "what left Git to be pruned", || async {
            world.cluster(CLUSTER).kubectl(&["-n", "web", "get", "configmap", "config"]).await.is_err()
        })
        .await?;
    }
    let mut rest = before;
    rest.remove("ConfigMap web/config");
    world.cluster(CLUSTER).nothing_lost(&rest).await?;
    Ok(())
}
