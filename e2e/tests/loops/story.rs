//! One commit on real clusters: what is promised of it from the push to the pods, on a canary and another cluster.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use driftless_e2e::readymaker::{Fate, Rules, Which};
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::world::{AuditLog, ClusterOptions, Content, Steps, World, lost};
use driftless_protocol::api::{DeleteList, Stage, StepState};
use driftless_protocol::report::{DriftClass, EventKind, Ready};

use crate::common::{Room, base};

const CLUSTERS: [&str; 2] = ["canary", "prod"];
const PATIENCE: Duration = Duration::from_secs(90);
const IMAGE: &str = ".spec.template.spec.containers[0].image";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&CLUSTERS);
    let audit = AuditLog::in_folder(room.folder())?;
    let canary = ClusterOptions::new("canary").label("driftless.dev/canary", "true");
    let mut prod = ClusterOptions::new("prod");
    prod.api_server_args = audit.api_server_args();
    let mut world = room.start(room.options(&base, vec![canary, prod])?).await?;

    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied and healthy everywhere", all_is_well(w, &base)).await;
    steps.run("a commit goes to the canary first", canary_first(w, &base)).await;
    steps.run("a canary that fails halts the others, visibly", canary_fails(w, &base)).await;
    steps.run("a freeze holds content back and nothing else", freeze(w, &base)).await;
    steps.run("a frozen cluster waits alone", freeze_one(w, &base)).await;
    steps.run("a suspended unit is left alone until it is resumed", suspend(w, &base)).await;
    steps.run("what people change by hand is undone", heal(w, &base)).await;
    steps.run("observed drift stays and is shown", observe(w, &base)).await;
    steps.run("what leaves Git is pruned, what moves is not", prune_and_move(w, &base)).await;
    steps.run("a volume claim and a namespace that leave Git are held and shown", held(w, &base)).await;
    steps.run("restarts of hub and agents write nothing", restarts(w, &base, &audit)).await;
    steps.finish(world).await
}

/// Brings everything back to how it was first, whatever a step before left behind.
async fn all_is_well(world: &mut World, base: &Content) -> Result<()> {
    for cluster in CLUSTERS {
        world.cluster(cluster).ready.set(Rules::default());
    }
    let fleet = world.status().await?;
    if fleet.frozen.is_some() {
        world.text(&["unfreeze"]).await?;
    }
    for cluster in world.status().await?.clusters.iter().filter(|c| c.frozen) {
        world.text(&["unfreeze", "--cluster", cluster.name.as_str()]).await?;
    }
    for unit in world.units().await?.iter().filter(|u| u.suspended) {
        world.text(&["resume", &unit.unit.name, "--cluster", unit.cluster.as_str()]).await?;
    }
    let commit = base.commit(world, "as in the beginning").await?;
    world.wait_at(&commit).await
}

async fn canary_first(world: &mut World, base: &Content) -> Result<()> {
    let new = "nginx:1.29.4";
    // The pods of the canary take their time, so that a rollout that does not wait is caught.
    world.cluster("canary").ready.set(Rules { delay: Duration::from_secs(2), fates: Vec::new() });
    let commit = base.clone().replace("web/deployment.yaml", "nginx:1.29.3", new).commit(world, "new image").await?;
    let world = &*world;
    wait::until(PATIENCE, "the new image in prod", || async {
        // In this order: what prod shows was decided before the canary is looked at.
        let there = world.cluster("prod").field("web", "deployment/web", IMAGE).await;
        let first = world.cluster("canary").field("web", "deployment/web", IMAGE).await;
        let updated = world.cluster("canary").field("web", "deployment/web", ".status.updatedReplicas").await;
        match (there, first, updated) {
            (Ok(there), Ok(first), Ok(updated)) if there == new => {
                if first == new && updated == "3" {
                    return Seen::Done(());
                }
                Seen::Never(format!("prod has {there} while the canary has {first}, {updated} pods updated"))
            }
            seen => Seen::NotYet(format!("{seen:?}")),
        }
    })
    .await?;
    world.cluster("canary").ready.set(Rules::default());
    world.wait_at(&commit).await
}

async fn canary_fails(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    let before = world.cluster("prod").objects().await?;
    let bad = vec![(Which::Image("broken".into()), Fate::BadImage)];
    world.cluster("canary").ready.set(Rules { fates: bad, ..Rules::default() });
    base.clone()
        .replace("web/deployment.yaml", "nginx:1.29.3", "nginx:broken")
        .replace("steady/config.yaml", "first", "with-a-bad-image")
        .commit(world, "an image that cannot be pulled")
        .await?;

    // The other units of the canary take the commit.
    world.wait_field("canary", "steady", "configmap/config", ".data.commit", "with-a-bad-image").await?;
    let row = world.wait_unit("canary", "web", "to fail", |u| u.ready == Ready::False).await?;
    ensure!(
        row.message.contains("Deployment") && row.message.contains("web"),
        "does not name the object: {}",
        row.message
    );
    {
        let world = &*world;
        wait::until(PATIENCE, "the halt to be shown", || async {
            let text = world.text(&["status"]).await?;
            let shown = text.lines().any(|l| l.starts_with("rollout:") && l.contains("canary") && l.contains("web"));
            if shown { Ok(()) } else { bail!("{text}") }
        })
        .await?;
    }
    let check = world.cli(&["status", "--check"]).await?;
    ensure!(check.code == Some(1), "status --check ended with {:?} although a unit failed", check.code);
    let step = world.step("prod", "web", Stage::Rollout).await?;
    ensure!(step.state == StepState::Failed && step.message.contains("canary failed"), "why of prod: {step:?}");
    let image = world.cluster("prod").field("web", "deployment/web", IMAGE).await?;
    let steady = world.cluster("prod").field("steady", "configmap/config", ".data.commit").await?;
    ensure!(image == "nginx:1.29.3" && steady == "first", "prod moved on: {image}, {steady}");
    let gone = lost(&before, &world.cluster("prod").objects().await?);
    ensure!(gone.is_empty(), "{gone:?}");

    world.cluster("canary").ready.set(Rules::default());
    let mended = base.clone().replace("web/deployment.yaml", "nginx:1.29.3", "nginx:1.29.5");
    let commit = mended.commit(world, "mended").await?;
    world.wait_at(&commit).await
}

async fn freeze(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    world.text(&["freeze", "--reason", "night shift"]).await?;
    let commit = base.clone().replace("steady/config.yaml", "first", "frozen").commit(world, "while frozen").await?;
    world.wait_fetched(&commit).await?;
    wait_rollout(world, "prod", "night shift").await?;
    wait_rollout(world, "canary", "night shift").await?;
    let status = world.text(&["status"]).await?;
    ensure!(status.contains("FROZEN") && status.contains("night shift"), "status does not show the freeze:\n{status}");

    // Healing goes on, and so do an operator's intents.
    scale_and_heal(world, "prod").await?;
    world.text(&["suspend", "subject", "--cluster", "prod", "--reason", "in the freeze"]).await?;
    world.wait_unit("prod", "subject", "to be suspended", |u| u.suspended).await?;
    world.text(&["resume", "subject", "--cluster", "prod"]).await?;
    world.wait_unit("prod", "subject", "to be resumed", |u| !u.suspended && u.ready == Ready::True).await?;
    for cluster in CLUSTERS {
        let steady = world.cluster(cluster).field("steady", "configmap/config", ".data.commit").await?;
        ensure!(steady == "first", "{cluster} got {steady} although the fleet is frozen");
    }

    world.text(&["unfreeze"]).await?;
    world.wait_at(&commit).await?;
    world.wait_field("prod", "steady", "configmap/config", ".data.commit", "frozen").await
}

async fn freeze_one(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    world.text(&["freeze", "--cluster", "prod", "--reason", "black friday"]).await?;
    let commit = base.clone().replace("steady/config.yaml", "first", "not-for-prod").commit(world, "new").await?;
    world.wait_field("canary", "steady", "configmap/config", ".data.commit", "not-for-prod").await?;
    wait_rollout(world, "prod", "black friday").await?;
    let steady = world.cluster("prod").field("steady", "configmap/config", ".data.commit").await?;
    ensure!(steady == "first", "prod got {steady} although it is frozen");
    world.text(&["unfreeze", "--cluster", "prod"]).await?;
    world.wait_at(&commit).await
}

/// Waits until `why` says that the rollout holds a cluster's content back, with these words.
async fn wait_rollout(world: &World, cluster: &str, words: &str) -> Result<()> {
    wait::until(PATIENCE, format!("the rollout of {cluster} to be held with {words:?}"), || async {
        let step = world.step(cluster, "steady", Stage::Rollout).await?;
        if step.state == StepState::Ok || !step.message.contains(words) {
            bail!("{step:?}");
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn scale_and_heal(world: &World, cluster: &str) -> Result<()> {
    let there = world.cluster(cluster);
    let healed = |detail: &driftless_protocol::api::UnitDetail| {
        let recent = detail.report.iter().flat_map(|r| &r.recent);
        recent.filter(|e| e.what == EventKind::Healed && e.detail.contains("replicas")).map(|e| e.at).max()
    };
    let before = healed(&world.detail(cluster, "web").await?);
    there.kubectl(&["-n", "web", "scale", "deployment", "web", "--replicas", "5"]).await?;
    // The event shows that it was healed, and not that the scaling came too late to be seen.
    wait::until(PATIENCE, "the healing to be told", || async {
        let detail = world.detail(cluster, "web").await?;
        let told = healed(&detail);
        if told > before { Ok(()) } else { bail!("{:?}", detail.report.map(|r| r.recent)) }
    })
    .await?;
    world.wait_field(cluster, "web", "deployment/web", ".spec.replicas", "3").await
}

async fn suspend(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    world.text(&["suspend", "web", "--cluster", "prod", "--reason", "debugging with Ann"]).await?;
    world.wait_unit("prod", "web", "to be suspended", |u| u.suspended).await?;
    let why = world.text(&["why", "web", "--cluster", "prod"]).await?;
    ensure!(why.contains("debugging with Ann") && why.contains("resume"), "why does not tell the reason:\n{why}");

    world.cluster("prod").kubectl(&["-n", "web", "scale", "deployment", "web", "--replicas", "5"]).await?;
    let commit = base
        .clone()
        .replace("web/deployment.yaml", "nginx:1.29.3", "nginx:1.29.6")
        .replace("steady/config.yaml", "first", "beside-a-suspended-unit")
        .commit(world, "new image")
        .await?;
    // Of the same generation: when one is there, the other was passed over.
    world.wait_field("prod", "steady", "configmap/config", ".data.commit", "beside-a-suspended-unit").await?;
    world.wait_at_except(&commit, &["web"]).await?;
    let replicas = world.cluster("prod").field("web", "deployment/web", ".spec.replicas").await?;
    let image = world.cluster("prod").field("web", "deployment/web", IMAGE).await?;
    ensure!(replicas == "5" && image == "nginx:1.29.3", "a suspended unit was touched: {replicas} replicas of {image}");

    world.text(&["resume", "web", "--cluster", "prod"]).await?;
    world.wait_field("prod", "web", "deployment/web", ".spec.replicas", "3").await?;
    world.wait_field("prod", "web", "deployment/web", IMAGE, "nginx:1.29.6").await?;
    world.wait_at(&commit).await
}

async fn heal(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    let prod = world.cluster("prod");
    scale_and_heal(world, "prod").await?;

    // A field that somebody added inside our objects.
    let patch = r#"{"data":{"added":"by hand"}}"#;
    prod.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.wait_field("prod", "subject", "configmap/config", ".data.added", "").await?;
    prod.kubectl(&["-n", "web", "set", "env", "deployment/web", "DEBUG=1"]).await?;
    world.wait_field("prod", "web", "deployment/web", ".spec.template.spec.containers[0].env", "").await?;
    // A value that somebody changed, and one that somebody took away.
    let patch = r#"{"data":{"commit":null}}"#;
    prod.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.wait_field("prod", "subject", "configmap/config", ".data.commit", "first").await?;
    // A whole object.
    let before = prod.field("subject", "service/api", ".metadata.uid").await?;
    prod.kubectl(&["-n", "subject", "delete", "service", "api"]).await?;
    wait::until(PATIENCE, "the deleted Service to be there again", || async {
        let now = prod.field("subject", "service/api", ".metadata.uid").await?;
        if now == before { bail!("still the old one") } else { Ok(()) }
    })
    .await?;
    // What controllers write is theirs.
    let revision =
        prod.field("web", "deployment/web", r".metadata.annotations.deployment\.kubernetes\.io/revision").await?;
    ensure!(!revision.is_empty(), "the controller's annotation was removed");
    let commit = world.repo.head().await?;
    world.wait_at(&commit).await
}

async fn observe(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    let prod = world.cluster("prod");
    prod.kubectl(&["-n", "watched", "scale", "deployment", "web", "--replicas", "5"]).await?;
    world.wait_unit("prod", "watched", "to show its drift", |u| u.drifted == 1).await?;
    let detail = world.detail("prod", "watched").await?;
    let report = detail.report.as_ref().map(|r| r.drift.as_slice()).unwrap_or_default();
    let [field] = report else { bail!("not one drifted field: {report:?}") };
    ensure!(field.path == "spec.replicas", "{field:?}");
    ensure!(field.desired.as_deref() == Some("3") && field.live.as_deref() == Some("5"), "{field:?}");
    ensure!(field.class == DriftClass::Human, "{field:?}");
    ensure!(field.manager.as_deref().is_some_and(|m| m.contains("kubectl")), "{field:?}");
    let text = world.text(&["describe", "watched", "--cluster", "prod"]).await?;
    ensure!(text.contains("spec.replicas: declared 3, live 5"), "describe does not show the drift:\n{text}");

    // A commit elsewhere does not heal it; a commit to the unit itself is applied.
    let healed_elsewhere = base.clone().replace("steady/config.yaml", "first", "beside-drift");
    healed_elsewhere.commit(world, "elsewhere").await?;
    world.wait_field("prod", "steady", "configmap/config", ".data.commit", "beside-drift").await?;
    let replicas = world.cluster("prod").field("watched", "deployment/web", ".spec.replicas").await?;
    ensure!(replicas == "5", "observed drift was healed: {replicas} replicas");
    let commit = healed_elsewhere
        .replace("watched/deployment.yaml", "replicas: 3", "replicas: 2")
        .commit(world, "two are enough")
        .await?;
    world.wait_field("prod", "watched", "deployment/web", ".spec.replicas", "2").await?;
    world.wait_at(&commit).await
}

async fn prune_and_move(world: &mut World, base: &Content) -> Result<()> {
    all_is_well(world, base).await?;
    let service =
        base.clone().without("subject/service.yaml").replace("subject/kustomization.yaml", "  - service.yaml\n", "");
    let before = [world.cluster("canary").objects().await?, world.cluster("prod").objects().await?];
    let commit = service.commit(world, "no Service any more").await?;
    for (cluster, before) in CLUSTERS.iter().zip(&before) {
        wait_lost(world, cluster, &["Service subject/api"], before).await?;
    }
    world.wait_at(&commit).await?;

    // The ConfigMap goes over to another unit: the same object, with another owner.
    let before = world.cluster("prod").objects().await?;
    let moved = service
        .without("subject/config.yaml")
        .replace("subject/kustomization.yaml", "  - config.yaml\n", "  - other.yaml\n")
        .with("subject/other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n")
        .with(
            "steady/moved.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\n  namespace: subject\ndata:\n  commit: moved\n",
        );
    // targetNamespace would move it into the unit's own.
    let moved = CLUSTERS.iter().fold(moved, |content, cluster| {
        content.replace(&format!("clusters/{cluster}/steady.yaml"), "  targetNamespace: steady\n", "")
    });
    let moved =
        moved.replace("steady/config.yaml", "  name: config\ndata", "  name: config\n  namespace: steady\ndata");
    // While that unit is suspended the object is nobody's to change, and stays.
    world.text(&["suspend", "steady", "--cluster", "prod", "--reason", "not now"]).await?;
    world.wait_unit("prod", "steady", "to be suspended", |u| u.suspended).await?;
    let commit = moved.commit(world, "another unit has it now").await?;
    world.wait_at_except(&commit, &["steady"]).await?;
    let words = "ConfigMap subject/config";
    wait::until(PATIENCE, "the unit it left to say where it went", || async {
        let told = world.text(&["describe", "subject", "--cluster", "prod"]).await.unwrap_or_default();
        told.lines().any(|line| line.contains(words) && line.contains("steady, which is suspended, declares it now"))
    })
    .await?;
    let gone = lost(&before, &world.cluster("prod").objects().await?);
    ensure!(gone.is_empty(), "a move to a suspended unit cost objects: {gone:?}");
    world.text(&["resume", "steady", "--cluster", "prod"]).await?;
    world.wait_field("prod", "subject", "configmap/config", ".data.commit", "moved").await?;
    world.wait_at(&commit).await?;
    let gone = lost(&before, &world.cluster("prod").objects().await?);
    ensure!(gone.is_empty(), "a move between units cost objects: {gone:?}");
    let owner = world.detail("prod", "steady").await?;
    ensure!(owner.objects.iter().any(|o| o.key.namespace == "subject"), "{:?}", owner.objects);

    // A whole unit leaves Git.
    let before = world.cluster("prod").objects().await?;
    let fewer = CLUSTERS.iter().fold(moved, |c, cluster| c.without(&format!("clusters/{cluster}/subject.yaml")));
    let commit =
        fewer.without("subject/other.yaml").without("subject/kustomization.yaml").commit(world, "gone").await?;
    wait_lost(world, "prod", &["ConfigMap subject/other"], &before).await?;
    world.wait_at(&commit).await?;
    ensure!(world.unit("prod", "subject").await.is_err(), "the unit that left Git is still listed");
    all_is_well(world, base).await
}

/// Waits until exactly these objects are gone.
async fn wait_lost(
    world: &World,
    cluster: &str,
    wanted: &[&str],
    before: &driftless_e2e::world::Objects,
) -> Result<()> {
    let wanted: Vec<String> = wanted.iter().map(|key| format!("{key} is gone")).collect();
    wait::until(PATIENCE, format!("{wanted:?} in {cluster}"), || async {
        let gone = lost(before, &world.cluster(cluster).objects().await?);
        if gone == wanted { Ok(()) } else { bail!("{gone:?}") }
    })
    .await?;
    Ok(())
}

async fn held(world: &mut World, base: &Content) -> Result<()> {
    let more = base
        .clone()
        .append("namespaces/namespaces.yaml", "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: precious\n")
        .with(
            "steady/claim.yaml",
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: data\nspec:\n  accessModes: [ReadWriteOnce]\n  \
             resources:\n    requests:\n      storage: 1Gi\n",
        );
    more.commit(world, "something precious").await?;
    for cluster in CLUSTERS {
        world
            .wait_field(cluster, "steady", "persistentvolumeclaim/data", ".spec.accessModes[0]", "ReadWriteOnce")
            .await?;
        world.wait_field(cluster, "", "namespace/precious", ".status.phase", "Active").await?;
    }
    let before = world.cluster("prod").objects().await?;
    base.clone().replace("steady/config.yaml", "first", "without").commit(world, "both left Git").await?;
    world.wait_field("prod", "steady", "configmap/config", ".data.commit", "without").await?;
    for (unit, object) in [("steady", "PersistentVolumeClaim"), ("namespaces", "Namespace")] {
        world.wait_unit("prod", unit, "to show the held delete", |u| u.held_deletes == 1).await?;
        let text = world.text(&["describe", unit, "--cluster", "prod"]).await?;
        let (_, waiting) = text.split_once("Deletes that wait for approval:").unwrap_or_default();
        ensure!(waiting.contains(object), "describe of {unit} does not show the {object}:\n{text}");
    }
    let status = world.text(&["status"]).await?;
    ensure!(status.contains("wait for approval"), "status does not show held deletes:\n{status}");
    let gone = lost(&before, &world.cluster("prod").objects().await?);
    ensure!(gone.is_empty(), "deleted without approval: {gone:?}");

    // Back in Git there is nothing to approve, and nothing was made anew.
    let commit = more.commit(world, "they are back").await?;
    world.wait_at(&commit).await?;
    let gone = lost(&before, &world.cluster("prod").objects().await?);
    ensure!(gone.is_empty(), "{gone:?}");
    // One word for both clusters, since both hold the same list.
    base.commit(world, "as in the beginning").await?;
    for unit in ["steady", "namespaces"] {
        for cluster in CLUSTERS {
            world.wait_unit(cluster, unit, "to hold the delete", |u| u.held_deletes == 1).await?;
        }
    }
    let lists: Vec<DeleteList> = world.ask(&["get", "deletes"]).await?;
    ensure!(lists.len() == 2 && lists.iter().all(|l| l.clusters.len() == CLUSTERS.len()), "{lists:#?}");
    for list in &lists {
        ensure!(
            world.text(&["approve", &list.list, "--reason", "too vague"]).await.is_err(),
            "a list of two clusters was approved without saying for which"
        );
        world.text(&["approve", &list.list, "--all-clusters", "--reason", "no longer needed"]).await?;
    }
    for cluster in CLUSTERS {
        let there = world.cluster(cluster);
        for (namespace, object) in [("steady", "persistentvolumeclaim/data"), ("default", "namespace/precious")] {
            wait::until(PATIENCE, format!("{object} in {cluster} to go"), || async {
                let left = there.kubectl(&["-n", namespace, "get", object, "--ignore-not-found", "-o", "name"]).await;
                // Nobody mounts the claim, but its protection is lifted by a controller that we do not run.
                let patch = r#"{"metadata":{"finalizers":null}}"#;
                if namespace == "steady" {
                    there.kubectl(&["-n", namespace, "patch", object, "-p", patch]).await.ok();
                }
                match left {
                    Ok(left) if left.is_empty() => Seen::Done(()),
                    Ok(left) => Seen::NotYet(left),
                    Err(error) => Seen::NotYet(format!("{error:#}")),
                }
            })
            .await?;
        }
    }
    // Each approval ends with its object.
    wait::until(PATIENCE, "the approvals to end", || async {
        match world.text(&["audit", "-o", "json"]).await {
            Ok(audit) if audit.matches("approvalEnded").count() == 2 * CLUSTERS.len() => Seen::Done(()),
            Ok(audit) => Seen::NotYet(audit),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    let commit = world.repo.head().await?;
    world.wait_at(&commit).await
}

async fn restarts(world: &mut World, base: &Content, audit: &AuditLog) -> Result<()> {
    all_is_well(world, base).await?;
    let by_the_agent_itself: Vec<String> = audit
        .writes()?
        .iter()
        .filter(|e| e.impersonated_user.is_none() && !e.own_record())
        .map(|e| format!("{} {} by {}", e.verb, e.uri, e.user.username))
        .collect();
    ensure!(by_the_agent_itself.is_empty(), "writes without impersonation: {by_the_agent_itself:?}");
    let managed = |audit: &AuditLog| -> Result<Vec<String>> {
        let writes = audit.writes()?;
        Ok(writes.iter().filter(|e| !e.own_record()).map(|e| format!("{} {}", e.verb, e.uri)).collect())
    };
    let written = managed(audit)?;
    ensure!(!written.is_empty(), "the audit log shows no write at all: it does not work");
    let before = world.cluster("prod").objects().await?;

    world.hub.stop().await?;
    for cluster in CLUSTERS {
        world.cluster_mut(cluster).stop_agent().await?;
        world.cluster_mut(cluster).start_agent()?;
    }
    world.hub.start_again().await?;
    // A report of the new pod, then one more generation that has nothing for these objects: it looked at all of them.
    wait_leader(world).await?;
    let touched = base.clone().append("steady/config.yaml", "# a comment\n");
    let commit = touched.commit(world, "nothing new for the clusters").await?;
    world.wait_at(&commit).await?;
    // The agent heals: it has seen the whole cluster by then.
    scale_and_heal(world, "prod").await?;
    world.wait_at(&commit).await?;

    let new: Vec<String> = managed(audit)?.split_off(written.len());
    ensure!(new.len() == 1 && new[0].contains("/deployments/web"), "a restart wrote to managed objects: {new:?}");
    let after = world.cluster("prod").objects().await?;
    let changed: Vec<&String> = before
        .iter()
        .filter(|(key, was)| after.get(*key) != Some(*was) && key.as_str() != "Deployment web/web")
        .map(|(key, _)| key)
        .collect();
    ensure!(changed.is_empty(), "changed by a restart: {changed:?}");
    Ok(())
}

/// Waits until the restarted pods lead.
async fn wait_leader(world: &World) -> Result<()> {
    for cluster in CLUSTERS {
        let path = ".spec.holderIdentity";
        world.wait_field(cluster, "driftless-system", "lease/driftless-agent", path, "driftless-agent-1").await?;
    }
    Ok(())
}
