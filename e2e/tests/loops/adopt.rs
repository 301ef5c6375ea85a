//! Coming from Flux, on a real API server beside Flux's own controller on its own definitions: compared first, taken over
//! unit by unit, and back.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_e2e::faults::rules::{Fault, Rule, Which};
use driftless_e2e::flux::Flux;
use driftless_e2e::wait;
use driftless_e2e::world::{AuditLog, ClusterOptions, Content, Objects, Steps, World, lost};
use driftless_protocol::api::{DeleteList, Shadow, ShadowUnit, UnitRow};
use driftless_protocol::report::{Ready, reason};
use http::Method;
use serde_json::Value;

use crate::common::{Room, base};

const CLUSTER: &str = "one";
/// Flux shares the cores with everything else, and takes its time.
const PATIENCE: Duration = Duration::from_secs(180);
/// What the repository has besides the root.
const UNITS: [&str; 5] = ["namespaces", "steady", "subject", "web", "watched"];
const TAKE_OVER: &str = "    driftless.dev/take-over: enabled\n";

/// What the test works on.
struct Scene {
    world: World,
    flux: Flux,
    audit: AuditLog,
    base: Content,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adoption() -> Result<()> {
    let room = Room::wait().await?;
    // Flux's definitions know no `remediation`: an API server refuses a Kustomization with it.
    let observed = ("  remediation:\n    remediate: false\n", "    driftless.dev/drift-mode: warn\n");
    let base = base(&[CLUSTER]).replace("clusters/one/watched.yaml", observed.0, "").replace(
        "clusters/one/watched.yaml",
        "  namespace: flux-system\nspec:",
        &format!("  namespace: flux-system\n  annotations:\n{}spec:", observed.1),
    );
    // A unit that is suspended while Flux is at it may never say that it has seen that (it says so only where it is ready), and
    // is taken over when its timeout has passed: which is its interval where it has none.
    let sync = "clusters/one/flux-system/gotk-sync.yaml";
    let base = base.replace(sync, "  interval: 10m0s\n", "  interval: 10m0s\n  timeout: 20s\n");
    let base =
        UNITS.iter().fold(base, |base, unit| base.append(&format!("clusters/one/{unit}.yaml"), "  timeout: 20s\n"));
    let audit = AuditLog::in_folder(room.folder())?;
    let mut cluster = ClusterOptions::new(CLUSTER);
    cluster.api_server_args = audit.api_server_args();
    cluster.faults = true;
    let options = room.options(&base, vec![cluster])?;
    // The agent comes to a cluster that Flux runs already, as in life.
    let mut world = World::start_without_agents(options, &mut |text| println!("            {text}")).await?;
    let plane = &world.cluster(CLUSTER).plane;
    let mut flux = Flux::start(plane, plane.kubeconfig_file(), room.folder(), &["--requeue-dependency=2s"]).await?;
    let commit = world.repo.head().await?;
    flux.bootstrap(CLUSTER, &commit, &base).await?;
    let there = world.cluster_mut(CLUSTER);
    there.agent_argument("--shadow", true);
    there.start_agent()?;
    let mut scene = Scene { world, flux, audit, base };
    let mut steps = Steps::new();
    let s = &mut scene;
    steps.run("in shadow mode a cluster that Flux keeps shows zero differences", zero(s)).await;
    steps.run("what differs is told field by field, and followed", differs(s)).await;
    steps.run("shadow mode wrote nothing at all", wrote_nothing(s)).await;
    steps.run("without shadow mode, what Flux runs is left to Flux", left_to_flux(s)).await;
    steps.run("one unit is taken over, and nothing is made anew", taken(s)).await;
    steps.run("each heals its own", each_its_own(s)).await;
    steps.run("what leaves Git leaves the cluster, also what Flux had applied", leaves(s)).await;
    steps.run("an object that a running Flux unit holds too is named", conflict(s)).await;
    steps.run("back out: Flux goes on, Driftless stops", back_out(s)).await;
    steps.run("what Git dropped while Flux was suspended is pruned by the rules", leftovers(s)).await;
    steps.run("the whole tree is taken, down to a unit that nobody suspends", tree(s)).await;
    let Scene { world, .. } = scene;
    steps.finish(world).await
}

async fn shadow(world: &World) -> Result<(Shadow, Option<i32>)> {
    let answer = world.cli(&["shadow", CLUSTER, "-o", "json"]).await?;
    let shadow = serde_json::from_str(&answer.stdout).with_context(|| format!("read {answer:?}"))?;
    Ok((shadow, answer.code))
}

fn of<'a>(shadow: &'a Shadow, unit: &str) -> Result<&'a ShadowUnit> {
    shadow.units.iter().find(|u| u.unit.name == unit).with_context(|| format!("no unit {unit}: {shadow:#?}"))
}

async fn wait_shadow(world: &World, what: &str, holds: impl Fn(&Shadow) -> bool) -> Result<Shadow> {
    let holds = &holds;
    Ok(wait::until(PATIENCE, format!("the comparison {what}"), || async move {
        let (shadow, code) = shadow(world).await?;
        if shadow.zero != (code == Some(0)) {
            bail!("exit code {code:?} for {shadow:#?}");
        }
        if holds(&shadow) { Ok(shadow) } else { bail!("{shadow:#?}") }
    })
    .await?)
}

/// Every object Flux applies, with what must not change by a take-over.
async fn objects(world: &World) -> Result<Objects> {
    world.cluster(CLUSTER).labelled("kustomize.toolkit.fluxcd.io/name").await
}

async fn zero(s: &mut Scene) -> Result<()> {
    wait::until(PATIENCE, "Flux to have all of it ready", || async {
        let units = s.flux.ready("").await?;
        if units.len() == 6 && units.values().all(|(ready, _)| *ready) { Ok(()) } else { bail!("{units:?}") }
    })
    .await?;
    let ready = |shadow: &Shadow| {
        shadow.zero && of(shadow, "web").is_ok_and(|u| u.flux.as_ref().is_some_and(|f| f.ready == Ready::True))
    };
    let shadow = wait_shadow(&s.world, "to show zero differences", ready).await?;
    ensure!(shadow.shadow && shadow.newest && shadow.units.len() == 6, "{shadow:#?}");
    let web = of(&shadow, "web")?;
    ensure!(web.flux.as_ref().is_some_and(|f| f.ready == Ready::True && f.objects == 2), "{web:#?}");
    let text = s.world.text(&["shadow", CLUSTER]).await?;
    ensure!(text.starts_with("one: zero differences in "), "{text}");
    let status = s.world.status().await?;
    let row = &status.clusters[0];
    ensure!(row.shadow && row.ready == Ready::True && row.message.contains("zero differences"), "{row:#?}");
    let units = s.world.text(&["get", "units"]).await?;
    ensure!(units.contains("shadow, nothing is written: zero differences in 2 objects"), "{units}");
    let why = s.world.text(&["why", "web", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("shadow, nothing is written"), "{why}");
    Ok(())
}

async fn differs(s: &mut Scene) -> Result<()> {
    s.flux.pause()?;
    let there = s.world.cluster(CLUSTER);
    there.kubectl(&["-n", "web", "scale", "deployment", "web", "--replicas", "5"]).await?;
    there.kubectl(&["-n", "subject", "delete", "service", "api"]).await?;
    let shadow = wait_shadow(&s.world, "to show both", |shadow| {
        let counts = |unit: &str| of(shadow, unit).ok().and_then(|u| u.counts.clone()).unwrap_or_default();
        counts("web").differing == 1 && counts("subject").missing == 1
    })
    .await?;
    let field = &of(&shadow, "web")?.fields[0];
    ensure!(field.path == "spec.replicas" && field.live.as_deref() == Some("5"), "{field:#?}");
    let text = s.world.cli(&["shadow", CLUSTER, "--differing"]).await?;
    ensure!(text.code == Some(1), "{text:?}");
    ensure!(text.stdout.contains("spec.replicas: Git 3, live 5 (manager kubectl"), "{}", text.stdout);
    ensure!(text.stdout.contains("Service subject/api: declared, and not in the cluster"), "{}", text.stdout);
    // A commit that Flux has not applied yet, and an object that only Flux's inventory has.
    let newer = s.base.clone().replace("steady/config.yaml", "first", "second").replace(
        "subject/kustomization.yaml",
        "  - config.yaml\n",
        "",
    );
    newer.commit(&mut s.world, "Flux is behind").await?;
    wait_shadow(&s.world, "to show what only Flux has", |shadow| {
        let counts = |unit: &str| of(shadow, unit).ok().and_then(|u| u.counts.clone()).unwrap_or_default();
        counts("subject").only_flux == ["subject_config__ConfigMap"] && counts("steady").differing == 1
    })
    .await?;
    let text = s.world.cli(&["shadow", CLUSTER]).await?.stdout;
    ensure!(text.contains("subject_config__ConfigMap: would be adopted and deleted"), "{text}");
    let commit = s.base.commit(&mut s.world, "as in the beginning").await?;
    s.flux.pull(&commit, &s.base.clone()).await?;
    s.flux.resume()?;
    wait_shadow(&s.world, "to show that Flux has caught up", |shadow| shadow.zero).await?;
    Ok(())
}

/// Writes of the agent to anything but its own records.
fn managed(audit: &AuditLog) -> Result<Vec<String>> {
    let writes = audit.writes()?;
    ensure!(!writes.is_empty(), "the audit log shows no write at all: it does not work");
    Ok(writes.iter().filter(|e| !e.own_record()).map(|e| format!("{} {}", e.verb, e.uri)).collect())
}

async fn wrote_nothing(s: &mut Scene) -> Result<()> {
    let writes = managed(&s.audit)?;
    ensure!(writes.is_empty(), "{writes:#?}");
    let records =
        s.world.cluster(CLUSTER).kubectl(&["-n", "driftless-system", "get", "configmaps", "-o", "name"]).await?;
    ensure!(!records.contains("driftless-inventory"), "an inventory of nothing: {records}");
    Ok(())
}

async fn left_to_flux(s: &mut Scene) -> Result<()> {
    let before = objects(&s.world).await?;
    let there = s.world.cluster_mut(CLUSTER);
    there.agent_argument("--shadow", false);
    there.stop_agent().await?;
    there.start_agent()?;
    for unit in ["steady", "web", "namespaces"] {
        let left = |u: &UnitRow| u.reason == reason::FLUX_ACTS && u.ready == Ready::True;
        let row = s.world.wait_unit(CLUSTER, unit, "to be left to Flux, which has it ready", left).await?;
        ensure!(row.message.contains("not suspended") && row.message.contains("take-over"), "{row:#?}");
    }
    let (shadow, code) = shadow(&s.world).await?;
    ensure!(!shadow.shadow && code == Some(1), "{shadow:#?}");
    ensure!(lost(&before, &objects(&s.world).await?).is_empty(), "something is gone");
    ensure!(managed(&s.audit)?.is_empty(), "{:#?}", managed(&s.audit)?);
    Ok(())
}

/// The repository with these units handed over.
fn handed_over(base: &Content, units: &[&str]) -> Content {
    units.iter().fold(base.clone(), |content, unit| {
        let file = format!("clusters/one/{unit}.yaml");
        let marked =
            content.under("clusters/one").any(|(path, text)| path == file && text.contains("  annotations:\n"));
        let content = match marked {
            true => content.replace(&file, "  annotations:\n", &format!("  annotations:\n{TAKE_OVER}")),
            false => content.replace(
                &file,
                "  namespace: flux-system\nspec:",
                &format!("  namespace: flux-system\n  annotations:\n{TAKE_OVER}spec:"),
            ),
        };
        content.append(&file, "  suspend: true\n")
    })
}

/// A commit that Flux sees too.
async fn commit(s: &mut Scene, content: &Content, message: &str) -> Result<String> {
    let commit = content.commit(&mut s.world, message).await?;
    s.flux.pull(&commit, content).await?;
    Ok(commit)
}

async fn managers(world: &World, namespace: &str, object: &str) -> Result<Vec<String>> {
    let text = world
        .cluster(CLUSTER)
        .kubectl(&["-n", namespace, "get", object, "-o", "json", "--show-managed-fields"])
        .await?;
    let live: Value = serde_json::from_str(&text)?;
    let entries = live["metadata"]["managedFields"].as_array().context("managedFields")?;
    let of_spec = entries.iter().filter(|e| e["subresource"] != "status");
    Ok(of_spec.filter_map(|e| e["manager"].as_str().map(str::to_owned)).collect())
}

async fn taken(s: &mut Scene) -> Result<()> {
    // Somebody's hand is on it as well, and Flux has applied a field that is about to leave Git.
    let there = s.world.cluster(CLUSTER);
    let pods = async |world: &World| {
        world
            .cluster(CLUSTER)
            .kubectl(&["-n", "web", "get", "pods,replicasets", "-o", "jsonpath={.items[*].metadata.uid}"])
            .await
    };
    world_ready(&s.world).await?;
    let generation = there.field("web", "deployment/web", ".metadata.generation").await?;
    let (before, pods_before) = (objects(&s.world).await?, pods(&s.world).await?);
    ensure!(!pods_before.is_empty(), "no pods");
    let base = handed_over(&s.base, &["web"]);
    let commit = commit(s, &base, "web is handed over").await?;
    let ours = |u: &UnitRow| u.ready == Ready::True && u.reason == reason::SUCCEEDED;
    let row = s.world.wait_unit(CLUSTER, "web", "to be taken over", ours).await?;
    ensure!(row.revision.as_deref().is_some_and(|r| r.ends_with(&commit)), "{row:#?}");
    let after = objects(&s.world).await?;
    ensure!(lost(&before, &after).is_empty(), "{:?}", lost(&before, &after));
    let there = s.world.cluster(CLUSTER);
    ensure!(there.field("web", "deployment/web", ".metadata.generation").await? == generation, "the spec was changed");
    ensure!(pods(&s.world).await? == pods_before, "pods were made anew");
    for object in ["deployment/web", "configmap/config"] {
        let managers = managers(&s.world, "web", object).await?;
        ensure!(!managers.iter().any(|m| m == "kustomize-controller"), "{object} is still Flux's: {managers:?}");
        let labels = s.world.cluster(CLUSTER).field("web", object, ".metadata.labels").await?;
        ensure!(
            labels.contains("kustomize.toolkit.fluxcd.io/name") && labels.contains("driftless.dev/unit"),
            "{labels}"
        );
    }
    // Flux's object stays, suspended, and nobody but Flux itself wrote to it.
    let suspended =
        there.field("flux-system", "kustomization.kustomize.toolkit.fluxcd.io/web", ".spec.suspend").await?;
    ensure!(suspended == "true", "{suspended}");
    let foreign: Vec<String> =
        managed(&s.audit)?.into_iter().filter(|line| !line.contains("/namespaces/web/")).collect();
    ensure!(foreign.is_empty(), "written beyond the unit: {foreign:#?}");
    s.world.wait_unit(CLUSTER, "steady", "to stay with Flux", |u| u.reason == reason::FLUX_ACTS).await?;
    let text = s.world.text(&["describe", "web", "--cluster", CLUSTER]).await?;
    ensure!(text.contains("Flux:       suspended"), "{text}");
    Ok(())
}

/// The Deployment has its pods.
async fn world_ready(world: &World) -> Result<()> {
    world.wait_field(CLUSTER, "web", "deployment/web", ".status.readyReplicas", "3").await
}

async fn each_its_own(s: &mut Scene) -> Result<()> {
    let there = s.world.cluster(CLUSTER);
    let before = managed(&s.audit)?.len();
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    for namespace in ["web", "steady"] {
        there.kubectl(&["-n", namespace, "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    }
    // Flux comes to it when its interval is over, or is asked.
    s.flux.reconcile("steady").await?;
    for namespace in ["web", "steady"] {
        s.world.wait_field(CLUSTER, namespace, "configmap/config", ".data.commit", "first").await?;
    }
    let new = managed(&s.audit)?.split_off(before);
    ensure!(!new.is_empty() && new.iter().all(|line| line.contains("/namespaces/web/")), "{new:#?}");
    // A commit to both: each applies its own.
    let content = handed_over(&s.base, &["web"]).replace("steady/config.yaml", "first", "second").replace(
        "web/config.yaml",
        "first",
        "second",
    );
    commit(s, &content, "for both").await?;
    for namespace in ["web", "steady"] {
        s.world.wait_field(CLUSTER, namespace, "configmap/config", ".data.commit", "second").await?;
    }
    let new = managed(&s.audit)?.split_off(before);
    ensure!(new.iter().all(|line| line.contains("/namespaces/web/")), "{new:#?}");
    Ok(())
}

async fn leaves(s: &mut Scene) -> Result<()> {
    // The Deployment's deadline was applied by Flux and leaves Git now, and so does the ConfigMap.
    let content = handed_over(&s.base, &["web"])
        .replace("web/deployment.yaml", "  progressDeadlineSeconds: 5\n", "")
        .without("web/config.yaml");
    commit(s, &content, "less").await?;
    // What nobody sets is the API server's default again.
    s.world.wait_field(CLUSTER, "web", "deployment/web", ".spec.progressDeadlineSeconds", "600").await?;
    let there = s.world.cluster(CLUSTER);
    wait::until(PATIENCE, "the ConfigMap to be pruned", || async {
        there.kubectl(&["-n", "web", "get", "configmap", "config"]).await.is_err()
    })
    .await?;
    let content = handed_over(&s.base, &["web"]);
    let commit = commit(s, &content, "as it was").await?;
    s.world
        .wait_unit(CLUSTER, "web", "to be whole again", |u| {
            u.ready == Ready::True && u.revision.as_deref().is_some_and(|r| r.ends_with(&commit))
        })
        .await?;
    Ok(())
}

async fn conflict(s: &mut Scene) -> Result<()> {
    let other = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: other\n  namespace: flux-system\nspec:\n  \
                 interval: 10m\n  path: ./web\n  prune: false\n  targetNamespace: web\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n";
    let there = s.world.cluster(CLUSTER);
    there.kubectl_with(&["apply", "-f", "-"], Some(other)).await?;
    let row = s
        .world
        .wait_unit(CLUSTER, "web", "to name the other unit", |u| {
            u.ready == Ready::False && u.message.contains("Kustomization flux-system/other")
        })
        .await?;
    ensure!(row.message.contains("left to Flux"), "{}", row.message);
    there.kubectl(&["-n", "flux-system", "delete", "kustomization.kustomize.toolkit.fluxcd.io", "other"]).await?;
    s.world.wait_unit(CLUSTER, "web", "to go on", |u| u.ready == Ready::True).await?;
    for object in ["deployment/web", "configmap/config"] {
        s.world
            .wait_field(CLUSTER, "web", object, ".metadata.labels.kustomize\\.toolkit\\.fluxcd\\.io/name", "web")
            .await?;
    }
    Ok(())
}

async fn back_out(s: &mut Scene) -> Result<()> {
    let before = objects(&s.world).await?;
    let base = s.base.clone();
    // At night: by hand alone, while Flux's own parent is not looking.
    s.flux.pause()?;
    let flux = "kustomization.kustomize.toolkit.fluxcd.io/web";
    let there = s.world.cluster(CLUSTER);
    there
        .kubectl(&["-n", "flux-system", "patch", flux, "--type", "merge", "-p", r#"{"spec":{"suspend":false}}"#])
        .await?;
    let row = s.world.wait_unit(CLUSTER, "web", "to stop", |u| u.reason == reason::FLUX_ACTS).await?;
    ensure!(row.message.contains("was resumed") && row.message.contains("flux suspend"), "{}", row.message);
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "web", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    // And in Git: for good.
    let commit = commit(s, &base, "Flux goes on").await?;
    s.flux.resume()?;
    s.world.wait_field(CLUSTER, "web", "configmap/config", ".data.commit", "first").await?;
    let managers = managers(&s.world, "web", "configmap/config").await?;
    ensure!(managers.iter().any(|m| m == "kustomize-controller"), "Flux did not take it back: {managers:?}");
    s.world
        .wait_unit(CLUSTER, "web", "to be Flux's", |u| {
            u.reason == reason::FLUX_ACTS && u.message.contains("To hand it over")
        })
        .await?;
    let writes = managed(&s.audit)?.len();
    wait::until(PATIENCE, "Flux to be ready at the commit", || async {
        let flux = s.world.detail(CLUSTER, "web").await?.report.and_then(|r| r.flux).context("no Flux")?;
        let there = flux.revision.as_deref().is_some_and(|r| r.ends_with(&commit));
        if flux.ready == Ready::True && there { Ok(()) } else { bail!("{flux:#?}") }
    })
    .await?;
    ensure!(managed(&s.audit)?.len() == writes, "Driftless wrote to what Flux runs");
    let after = objects(&s.world).await?;
    ensure!(lost(&before, &after).is_empty(), "{:?}", lost(&before, &after));
    Ok(())
}

/// Two units that somebody suspended are handed over in the commit that drops objects of theirs.
async fn leftovers(s: &mut Scene) -> Result<()> {
    let config = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  k: v\n");
    let space = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: dropped\n";
    let more = s
        .base
        .clone()
        .with("steady/dropped.yaml", config("dropped"))
        .with("steady/foreign.yaml", config("foreign"))
        .with("namespaces/dropped.yaml", space);
    commit(s, &more, "what will be dropped").await?;
    for name in ["dropped", "foreign"] {
        s.world.wait_field(CLUSTER, "steady", &format!("configmap/{name}"), ".data.k", "v").await?;
    }
    s.world.wait_field(CLUSTER, "dropped", "namespace/dropped", ".status.phase", "Active").await?;
    let ids = ".status.inventory.entries[*].id";
    for (unit, id) in [("steady", "steady_foreign__ConfigMap"), ("namespaces", "_dropped__Namespace")] {
        let flux = format!("kustomization.kustomize.toolkit.fluxcd.io/{unit}");
        wait::until(PATIENCE, format!("Flux's inventory of {unit} to hold {id}"), || async {
            let held = s.world.cluster(CLUSTER).field("flux-system", &flux, ids).await?;
            if held.contains(id) { Ok(()) } else { bail!("{held}") }
        })
        .await?;
    }
    for unit in ["steady", "namespaces"] {
        s.flux.suspend(unit, true).await?;
    }
    let there = s.world.cluster(CLUSTER);
    let label = "kustomize.toolkit.fluxcd.io/name=another";
    there.kubectl(&["-n", "steady", "label", "--overwrite", "configmap", "foreign", label]).await?;
    let version = there.field("dropped", "namespace/dropped", ".metadata.resourceVersion").await?;
    let foreign = there.field("steady", "configmap/foreign", ".metadata.uid").await?;
    let content = handed_over(&s.base, &["steady", "namespaces"]);
    commit(s, &content, "handed over, and less").await?;
    wait::until(PATIENCE, "the ConfigMap that Git dropped to be pruned", || async {
        there_is_none(&s.world, "steady", "configmap/dropped").await
    })
    .await?;
    let row = s.world.wait_unit(CLUSTER, "namespaces", "to be taken over", |u| u.reason == reason::SUCCEEDED).await?;
    ensure!(row.ready == Ready::True, "{row:#?}");
    let deletes = wait::until(PATIENCE, "the Namespace to wait for approval", || async {
        let lists: Vec<DeleteList> = s.world.ask(&["get", "deletes"]).await?;
        if lists.len() == 1 { Ok(lists) } else { bail!("{lists:#?}") }
    })
    .await?;
    let text = s.world.text(&["get", "deletes"]).await?;
    ensure!(text.contains("dropped"), "{text}");
    let why = s.world.text(&["describe", "namespaces", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("Flux had applied it, and Git dropped it before the take-over"), "{why}");
    let there = s.world.cluster(CLUSTER);
    ensure!(
        there.field("dropped", "namespace/dropped", ".metadata.resourceVersion").await? == version,
        "something was written to what waits for approval"
    );
    let said = s.world.text(&["describe", "steady", "--cluster", CLUSTER]).await?;
    ensure!(said.contains("name Kustomization flux-system/another"), "{said}");
    // Another process finds the same again, though no watch shows it.
    let there = s.world.cluster_mut(CLUSTER);
    there.kill_agent()?;
    there.start_agent_again()?;
    let approve = ["approve", &deletes[0].list, "--reason", "Git dropped it"];
    wait::until(PATIENCE, "the same list to wait for approval again", || async { s.world.text(&approve).await })
        .await?;
    wait::until(PATIENCE, "the Namespace to go once it is approved", || async {
        there_is_none(&s.world, "dropped", "namespace/dropped").await
    })
    .await?;
    let still = s.world.cluster(CLUSTER).field("steady", "configmap/foreign", ".metadata.uid").await?;
    ensure!(still == foreign, "what another Kustomization's labels name is gone, or was made anew");
    Ok(())
}

async fn there_is_none(world: &World, namespace: &str, object: &str) -> Result<()> {
    let answer =
        world.cluster(CLUSTER).kubectl(&["-n", namespace, "get", object, "--ignore-not-found", "-o", "name"]).await?;
    ensure!(answer.trim().is_empty(), "it is still there");
    Ok(())
}

async fn tree(s: &mut Scene) -> Result<()> {
    // A unit two levels down: `apps`, of the root, defines `nested`.
    let nested = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: nested\n  namespace: flux-system\nspec:\n  \
                  interval: 10m\n  timeout: 20s\n  path: ./nested\n  prune: true\n  targetNamespace: steady\n  sourceRef:\n    kind: GitRepository\n    name: flux-system\n";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: nested\ndata:\n  k: v\n";
    let base = s
        .base
        .clone()
        .unit(CLUSTER, "apps", "./apps", "  timeout: 20s\n")
        .with("apps/nested.yaml", nested)
        .with("nested/config.yaml", config);
    commit(s, &base, "a tree").await?;
    // Which a hand suspended before: Git says no more that they are.
    for unit in ["steady", "namespaces"] {
        s.flux.suspend(unit, false).await?;
    }
    s.world.wait_field(CLUSTER, "steady", "configmap/nested", ".data.k", "v").await?;
    s.world.wait_unit(CLUSTER, "nested", "to be Flux's", |u| u.reason == reason::FLUX_ACTS).await?;
    let before = objects(&s.world).await?;
    // All of it in one commit. The root suspends itself and its children; nobody is left to suspend `nested`.
    let annotated = |text: &str| {
        text.replacen(
            "  namespace: flux-system\nspec:",
            &format!("  namespace: flux-system\n  annotations:\n{TAKE_OVER}spec:\n  suspend: true"),
            1,
        )
    };
    let units = ["namespaces", "steady", "subject", "web", "watched", "apps"];
    let sync = "clusters/one/flux-system/gotk-sync.yaml";
    let text =
        base.under("clusters/one/flux-system").find(|(path, _)| *path == sync).context("gotk-sync")?.1.to_owned();
    let (source, root) = text.split_once("---\n").context("two documents")?;
    let content = handed_over(&base, &units)
        .with("apps/nested.yaml", annotated(nested))
        .with(sync, format!("{source}---\n{}", annotated(root)));
    s.flux.suspend("apps", true).await?;
    // The agent is killed at its only write to a kind of Flux: before it reaches the API server, and after it was carried out.
    let stalls = |carried_out| {
        let which = Which::methods([Method::PATCH]).at("/kustomizations/nested").content("application/json-patch");
        vec![Rule::new(which, Fault::Stall { carried_out }).once()]
    };
    s.world.cluster(CLUSTER).faults()?.set(stalls(false));
    let commit = commit(s, &content, "all of it").await?;
    for next in [Some(stalls(true)), None] {
        let there = s.world.cluster_mut(CLUSTER);
        let reached = tokio::time::timeout(PATIENCE, there.faults()?.stalled()).await;
        reached.context("the agent does not suspend the unit that nobody else does")?;
        there.kill_agent()?;
        there.faults()?.set(next.unwrap_or_default());
        there.start_agent_again()?;
    }
    s.world.wait_at(&commit).await?;
    let after = objects(&s.world).await?;
    ensure!(lost(&before, &after).is_empty(), "{:?}", lost(&before, &after));
    let flux = "kustomization.kustomize.toolkit.fluxcd.io/nested";
    let there = s.world.cluster(CLUSTER);
    ensure!(there.field("flux-system", flux, ".spec.suspend").await? == "true", "nested is not suspended");
    let ours: Vec<String> =
        managed(&s.audit)?.into_iter().filter(|line| line.contains("kustomize.toolkit.fluxcd.io")).collect();
    ensure!(
        !ours.is_empty() && ours.iter().all(|line| line.contains("kustomizations/nested")),
        "the agent suspends what nobody else does: {ours:#?}"
    );
    let managers = managers(&s.world, "steady", "configmap/nested").await?;
    ensure!(!managers.iter().any(|m| m == "kustomize-controller"), "{managers:?}");
    // Flux goes: nothing is deleted with it. Its controller lets go of its suspended objects.
    there.kubectl(&["delete", "crd", "kustomizations.kustomize.toolkit.fluxcd.io"]).await?;
    let next = content.clone().replace("steady/config.yaml", "first", "third");
    let commit = next.commit(&mut s.world, "without Flux").await?;
    s.world.wait_at(&commit).await?;
    let end = objects(&s.world).await?;
    ensure!(lost(&before, &end).is_empty(), "{:?}", lost(&before, &end));
    Ok(())
}
