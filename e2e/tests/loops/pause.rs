//! What a person with kubectl alone sees and stops: `Pause` objects, `Unit` objects, Events. On a real API server, with the hub
//! away where that matters.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::api::{Stage, StepState};
use driftless_protocol::report::{Ready, UnitReport, reason};

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(90);
const OWN: &str = "driftless-system";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new(CLUSTER)])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("kubectl refuses a pause without reason, end, or with two targets", schema(w)).await;
    steps
        .run("a paused unit is left alone, also without the hub, until the pause is deleted", paused_unit(w, &base))
        .await;
    steps.run("a pause of everything outlives the agent and ends at its time", expires(w, &base)).await;
    steps.run("a pause that cannot be used is told and ignored", unusable(w, &base)).await;
    steps.run("units appear when their namespace does, and say what they run", units(w, &base)).await;
    steps.run("what happens is told in a few Events", events(w, &base)).await;
    steps.run("units are put right, go with their unit, and an idle cluster is not written to", kept(w, &base)).await;
    steps.run("a cluster without the kind Unit works", without_the_kind(w, &base)).await;
    steps.finish(world).await
}

/// A Pause as a person would write it.
fn pause(namespace: &str, name: &str, seconds: u64, covers: &str) -> String {
    let end = SystemTime::now() + Duration::from_secs(seconds);
    let end = jiff::Timestamp::try_from(end).expect("a time").strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: Pause\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  reason: by \
         hand\n  expires: \"{end}\"\n  {covers}\n"
    )
}

async fn apply(world: &World, manifest: &str) -> Result<()> {
    world.cluster(CLUSTER).kubectl_with(&["apply", "-f", "-"], Some(manifest)).await.map(drop)
}

/// From here on the agent has seen it.
async fn wait_active(world: &World, namespace: &str, name: &str, active: &str) -> Result<()> {
    let (condition, object) = (format!("--for=condition=Active={active}"), format!("pause/{name}"));
    world.cluster(CLUSTER).kubectl(&["-n", namespace, "wait", &condition, &object, "--timeout=50s"]).await.map(drop)
}

async fn edit(world: &World, namespace: &str, value: &str) -> Result<()> {
    let patch = format!("{{\"data\":{{\"commit\":\"{value}\"}}}}");
    let args = ["-n", namespace, "patch", "configmap", "config", "--type", "merge", "-p", &patch];
    world.cluster(CLUSTER).kubectl(&args).await.map(drop)
}

async fn data(world: &World, namespace: &str) -> Result<String> {
    world.cluster(CLUSTER).field(namespace, "configmap/config", ".data.commit").await
}

async fn wait_data(world: &World, namespace: &str, value: &str) -> Result<()> {
    world.wait_field(CLUSTER, namespace, "configmap/config", ".data.commit", value).await
}

async fn wait_report(world: &World, unit: &str, what: &str, holds: impl Fn(&UnitReport) -> bool) -> Result<UnitReport> {
    let holds = &holds;
    let seen = wait::until(PATIENCE, format!("{unit} {what}"), || async move {
        match world.detail(CLUSTER, unit).await.and_then(|detail| detail.report.context("no report")) {
            Ok(report) if holds(&report) => Seen::Done(report),
            Ok(report) => Seen::NotYet(format!("{report:#?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(seen)
}

async fn schema(world: &World) -> Result<()> {
    let good = pause(OWN, "schema", 600, "cluster: true");
    let without = |part: &str| -> String {
        good.lines().filter(|line| !line.trim().starts_with(part)).map(|line| format!("{line}\n")).collect()
    };
    for (manifest, part) in [
        (without("reason:"), "spec.reason"),
        (without("expires:"), "spec.expires"),
        (without("cluster:"), "exactly one of"),
        (good.clone() + "  unit:\n    name: web\n", "exactly one of"),
        (good.replace("cluster: true", "cluster: false"), "spec.cluster"),
        (good.replace("reason: by hand", "reason: \" \""), "spec.reason"),
        (good.replace("expires: \"", "expires: \"soon "), "spec.expires"),
    ] {
        let refusal = apply(world, &manifest).await.err().with_context(|| format!("accepted: {manifest}"))?;
        ensure!(format!("{refusal:#}").contains(part), "{part}: {refusal:#}");
    }
    Ok(())
}

async fn paused_unit(world: &mut World, base: &Content) -> Result<()> {
    apply(world, &pause(OWN, "subject", 3600, "unit: {name: subject}")).await?;
    wait_active(world, OWN, "subject", "True").await?;
    edit(world, "subject", "by hand").await?;
    // The same watch tells of both: when this one is healed, the other was seen.
    edit(world, "steady", "by hand").await?;
    wait_data(world, "steady", "first").await?;
    ensure!(data(world, "subject").await? == "by hand", "healed while paused");
    let report = wait_report(world, "subject", "to record its drift", |r| r.counts.drifted == 1).await?;
    ensure!(report.drift[0].path == "data.commit" && report.ready == Ready::True, "{report:#?}");

    let content =
        base.clone().replace("subject/config.yaml", "first", "second").replace("steady/config.yaml", "first", "second");
    let commit = content.commit(world, "while a unit is paused").await?;
    world.wait_at_except(&commit, &["subject"]).await?;
    let report = wait_report(world, "subject", "to hold the commit", |r| r.reason == reason::PAUSED).await?;
    ensure!(report.ready == Ready::Unknown && report.message.contains("by hand"), "{report:#?}");
    ensure!(data(world, "subject").await? == "by hand", "applied while paused");
    let status = world.text(&["status"]).await?;
    ensure!(status.contains("PAUSED unit flux-system/subject by Pause driftless-system/subject (by hand)"), "{status}");
    let row = world.unit(CLUSTER, "subject").await?;
    ensure!(row.paused.is_some_and(|pause| pause.name == "driftless-system/subject"), "the row does not show it");
    let text = world.text(&["describe", "subject", "--cluster", CLUSTER]).await?;
    ensure!(text.contains("Pause:") && text.contains("held back"), "{text}");
    let step = world.step(CLUSTER, "subject", Stage::Apply).await?;
    ensure!(step.state == StepState::Waiting && step.message.contains("delete pause subject"), "{step:?}");

    // Without the hub it ends as well.
    world.hub.kill()?;
    world.cluster(CLUSTER).kubectl(&["-n", OWN, "delete", "pause", "subject"]).await?;
    wait_data(world, "subject", "second").await?;
    world.hub.start_again().await?;
    let report = wait_report(world, "subject", "to tell what was done", |r| r.pause_ended.is_some()).await?;
    let ended = report.pause_ended.context("just seen")?;
    ensure!(!ended.expired && ended.held.iter().any(|l| l.starts_with("ConfigMap subject/config")), "{ended:#?}");
    let text = world.text(&["describe", "subject", "--cluster", CLUSTER]).await?;
    ensure!(text.contains("ended") && text.contains("it had held back"), "{text}");
    base.reset(world).await
}

async fn expires(world: &mut World, base: &Content) -> Result<()> {
    world.hub.kill()?;
    let end = SystemTime::now() + Duration::from_secs(59);
    apply(world, &pause(OWN, "everything", 60, "cluster: true")).await?;
    wait_active(world, OWN, "everything", "True").await?;
    edit(world, "subject", "by hand").await?;
    // Another agent knows of the pause before it writes.
    world.cluster_mut(CLUSTER).stop_agent().await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    wait_data(world, "subject", "first").await?;
    ensure!(SystemTime::now() >= end, "healed before the pause ended");
    wait_active(world, OWN, "everything", "False").await?;
    let path = ".status.conditions[0].reason";
    ensure!(world.cluster(CLUSTER).field(OWN, "pause/everything", path).await? == "Expired", "not told");
    world.hub.start_again().await?;
    let report = wait_report(world, "subject", "to tell what was healed", |r| {
        r.pause_ended.as_ref().is_some_and(|end| end.expired)
    })
    .await?;
    let ended = report.pause_ended.context("just seen")?;
    ensure!(ended.held.iter().any(|line| line.contains("data.commit")), "{ended:#?}");
    world.cluster(CLUSTER).kubectl(&["-n", OWN, "delete", "pause", "everything"]).await?;
    base.reset(world).await
}

async fn unusable(world: &mut World, base: &Content) -> Result<()> {
    // Rights in a namespace give no power over the cluster.
    apply(world, &pause("subject", "too-much", 3600, "cluster: true")).await?;
    wait_active(world, "subject", "too-much", "False").await?;
    edit(world, "subject", "by hand").await?;
    wait_data(world, "subject", "first").await?;
    let told = wait::until(PATIENCE, "the pause to be told as unusable", || async {
        let pauses = world.status().await?.clusters.into_iter().flat_map(|cluster| cluster.pauses);
        pauses.filter_map(|pause| pause.problem).next().context("no pause with a problem")
    })
    .await?;
    ensure!(told.contains("spec.cluster is for a Pause in driftless-system"), "{told}");
    world.cluster(CLUSTER).kubectl(&["-n", "subject", "delete", "pause", "too-much"]).await?;

    // What is in its own namespace, it may.
    apply(world, &pause("subject", "own", 3600, "object: {kind: ConfigMap, name: config}")).await?;
    wait_active(world, "subject", "own", "True").await?;
    edit(world, "subject", "by hand").await?;
    edit(world, "steady", "by hand").await?;
    wait_data(world, "steady", "first").await?;
    ensure!(data(world, "subject").await? == "by hand", "healed while paused");
    world.cluster(CLUSTER).kubectl(&["-n", "subject", "delete", "pause", "own"]).await?;
    wait_data(world, "subject", "first").await?;
    base.reset(world).await
}

/// `READY REVISION DRIFT` of a unit, as kubectl sees it.
async fn shown(world: &World, unit: &str, path: &str) -> Result<String> {
    world.cluster(CLUSTER).field("flux-system", &format!("unit/{unit}"), path).await
}

async fn wait_shown(world: &World, unit: &str, path: &str, value: &str) -> Result<()> {
    world.wait_field(CLUSTER, "flux-system", &format!("unit/{unit}"), path, value).await
}

async fn unit_versions(world: &World) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}";
    let text = world.cluster(CLUSTER).kubectl(&["-n", "flux-system", "get", "units", "-o", path]).await?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// The same once nothing more is written.
async fn at_rest(world: &World) -> Result<Vec<String>> {
    let mut before = unit_versions(world).await?;
    for _ in 0..15 {
        // Longer than the agent waits before it shows that a unit is on its way.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let now = unit_versions(world).await?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("units are written again and again: {before:?}")
}

const READY: &str = r#".status.conditions[?(@.type=="Ready")].status"#;

async fn units(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    ensure!(there.kubectl(&["get", "namespace", "flux-system"]).await.is_err(), "the namespace is there already");
    there.kubectl(&["create", "namespace", "flux-system"]).await?;
    wait::until(PATIENCE, "all six units to be shown", || async {
        match unit_versions(world).await {
            Ok(units) if units.len() == 6 => Seen::Done(()),
            Ok(units) => Seen::NotYet(format!("{units:?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    let wait = ["-n", "flux-system", "wait", "--for=condition=Ready", "unit", "--all", "--timeout=50s"];
    there.kubectl(&wait).await?;
    let table = there.kubectl(&["get", "units", "-A"]).await?;
    ensure!(table.contains("REVISION") && table.contains("main@sha1:"), "{table}");

    // Ready means the new content, not the one before.
    let changed = base.clone().replace("steady/config.yaml", "first", "second");
    let commit = changed.commit(world, "seen with kubectl").await?;
    world.wait_fetched(&commit).await?;
    wait_shown(world, "steady", ".status.lastAppliedRevision", &format!("main@sha1:{commit}")).await?;
    ensure!(shown(world, "steady", READY).await? == "True", "applied and not ready");
    let (generation, observed) = (
        shown(world, "steady", ".metadata.generation").await?,
        shown(world, "steady", ".status.observedGeneration").await?,
    );
    ensure!(generation == observed && generation == "2", "generation {generation}, observed {observed}");

    // Drift that stays is counted, a pause and a failure are shown.
    world.cluster(CLUSTER).kubectl(&["-n", "watched", "scale", "deployment", "web", "--replicas", "5"]).await?;
    wait_shown(world, "watched", ".status.drifted", "1").await?;
    world.cluster(CLUSTER).kubectl(&["-n", "watched", "scale", "deployment", "web", "--replicas", "3"]).await?;
    wait_shown(world, "watched", ".status.drifted", "0").await?;
    apply(world, &pause("flux-system", "one", 3600, "unit: {name: subject}")).await?;
    wait_shown(world, "subject", ".status.paused", "true").await?;
    world.cluster(CLUSTER).kubectl(&["-n", "flux-system", "delete", "pause", "one"]).await?;
    wait_shown(world, "subject", ".status.paused", "false").await?;
    let refused = base.clone().replace("subject/service.yaml", "port: 80", "port: 80000");
    refused.commit(world, "a port that cannot be").await?;
    wait_shown(world, "subject", READY, "False").await?;
    wait_shown(world, "subject", r#".status.conditions[?(@.type=="Stalled")].status"#, "True").await?;
    base.reset(world).await?;
    wait_shown(world, "subject", READY, "True").await
}

/// The notes of Events about an object of ours.
async fn notes(world: &World, namespace: &str, name: &str, reason: &str) -> Result<Vec<String>> {
    let text = world.cluster(CLUSTER).kubectl(&["-n", namespace, "get", "events.events.k8s.io", "-o", "json"]).await?;
    let list: serde_json::Value = serde_json::from_str(&text).context("read the Events")?;
    let events = list["items"].as_array().context("a list")?.iter();
    let of = events.filter(|event| {
        event["reportingController"] == "driftless.dev/agent"
            && event["regarding"]["name"] == name
            && event["reason"] == reason
    });
    Ok(of.filter_map(|event| event["note"].as_str().map(str::to_owned)).collect())
}

async fn wait_note(world: &World, (namespace, name): (&str, &str), reason: &str, part: &str) -> Result<()> {
    wait::until(PATIENCE, format!("an Event {reason} about {name} with {part:?}"), || async {
        match notes(world, namespace, name, reason).await {
            Ok(notes) if notes.iter().any(|note| note.contains(part)) => Seen::Done(()),
            Ok(notes) => Seen::NotYet(format!("{notes:#?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(())
}

async fn events(world: &mut World, base: &Content) -> Result<()> {
    // From the steps before.
    wait_note(world, (OWN, "subject"), "Paused", "unit flux-system/subject").await?;
    wait_note(world, (OWN, "subject"), "PauseEnded", "ConfigMap subject/config").await?;
    wait_note(world, (OWN, "everything"), "PauseEnded", "its time is over").await?;
    wait_note(world, ("subject", "too-much"), "PauseIgnored", "spec.cluster is for a Pause in").await?;
    wait_note(world, ("flux-system", "subject"), "ReconciliationFailed", "80000").await?;
    wait_note(world, ("flux-system", "watched"), "Drifted", "spec.replicas").await?;

    edit(world, "subject", "by hand").await?;
    wait_note(world, ("flux-system", "subject"), "Healed", "data.commit").await?;
    let content = base.clone().with("steady/more.yaml", base_map("more"));
    let commit = content.commit(world, "one more").await?;
    world.wait_at(&commit).await?;
    wait_note(world, ("flux-system", "steady"), "Applied", "ConfigMap steady/more: created").await?;
    base.reset(world).await?;
    wait_note(world, ("flux-system", "steady"), "Pruned", "ConfigMap steady/more").await?;

    // What a controller adds where it matters for security.
    let patch = r#"{"spec":{"template":{"spec":{"hostNetwork":true}}}}"#;
    let args =
        ["-n", "watched", "patch", "deployment", "web", "--field-manager", "injector", "--type", "merge", "-p", patch];
    world.cluster(CLUSTER).kubectl(&args).await?;
    wait_note(world, ("flux-system", "watched"), "AddedByOthers", "manager injector added").await?;

    // Values of a Secret are in none of them.
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  k: hunter-in-git\n";
    let content = base.clone().with("steady/secret.yaml", secret);
    let commit = content.commit(world, "a secret").await?;
    world.wait_at(&commit).await?;
    let patch = r#"{"stringData":{"k":"hunter-by-hand"}}"#;
    world.cluster(CLUSTER).kubectl(&["-n", "steady", "patch", "secret", "s", "--type", "merge", "-p", patch]).await?;
    wait_note(world, ("flux-system", "steady"), "Healed", "Secret steady/s").await?;
    let all = world.cluster(CLUSTER).kubectl(&["get", "events", "-A", "-o", "json"]).await?;
    for value in ["hunter", "aHVudGVy"] {
        ensure!(!all.contains(value), "an Event holds a value of a Secret");
    }
    // A burst is one Event, or a few.
    let before = notes(world, "flux-system", "subject", "Healed").await?.len();
    for round in 0..20 {
        edit(world, "subject", &format!("round {round}")).await?;
    }
    wait_data(world, "subject", "first").await?;
    let after = notes(world, "flux-system", "subject", "Healed").await?.len();
    ensure!(after <= before + 4, "{} Events for 20 edits", after - before);
    base.reset(world).await
}

fn base_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  k: v\n")
}

async fn kept(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    let uid = shown(world, "steady", ".metadata.uid").await?;
    there.kubectl(&["-n", "flux-system", "delete", "unit", "steady"]).await?;
    wait::until(PATIENCE, "the deleted unit to come back", || async {
        let now = shown(world, "steady", ".metadata.uid").await?;
        ensure!(!now.is_empty() && now != uid, "{now}");
        Ok(())
    })
    .await?;
    let patch = r#"{"spec":{"content":"mine"}}"#;
    there.kubectl(&["-n", "flux-system", "patch", "unit", "web", "--type", "merge", "-p", patch]).await?;
    wait::until(PATIENCE, "the edited unit to be put right", || async {
        shown(world, "web", ".spec.content").await.is_ok_and(|content| content.len() == 64)
    })
    .await?;
    let wait = ["-n", "flux-system", "wait", "--for=condition=Ready", "unit", "--all", "--timeout=50s"];
    there.kubectl(&wait).await?;

    // One that leaves Git goes; others stay as they are.
    let without = base.clone().without("clusters/one/steady.yaml");
    without.commit(world, "a unit less").await?;
    wait::until(PATIENCE, "the unit to be gone", || async {
        let units = unit_versions(world).await?;
        ensure!(!units.iter().any(|unit| unit.starts_with("steady=")) && units.len() == 5, "{units:?}");
        Ok(())
    })
    .await?;
    base.reset(world).await?;
    wait_shown(world, "steady", READY, "True").await?;

    // Nothing changes for a unit by a heal, nor by a new leader: nothing is written.
    let before = at_rest(world).await?;
    world.cluster_mut(CLUSTER).stop_agent().await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    edit(world, "subject", "by hand again").await?;
    wait_data(world, "subject", "first").await?;
    edit(world, "steady", "by hand again").await?;
    wait_data(world, "steady", "first").await?;
    wait_note(world, ("flux-system", "steady"), "Healed", "data.commit").await?;
    let after = at_rest(world).await?;
    ensure!(before == after, "units were written without a change: {before:?}, {after:?}");
    Ok(())
}

async fn without_the_kind(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    let path = "jsonpath={.spec}";
    let spec = there.kubectl(&["get", "crd", "units.driftless.dev", "-o", path]).await?;
    there.kubectl(&["delete", "crd", "units.driftless.dev"]).await?;
    let changed = base.clone().replace("steady/config.yaml", "first", "unshown");
    let commit = changed.commit(world, "nobody shows this").await?;
    world.wait_at(&commit).await?;
    let manifest = format!(
        "{{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\",\"metadata\":{{\"name\":\
         \"units.driftless.dev\"}},\"spec\":{spec}}}"
    );
    apply(world, &manifest).await?;
    wait_shown(world, "steady", ".status.lastAppliedRevision", &format!("main@sha1:{commit}")).await?;
    base.reset(world).await
}
