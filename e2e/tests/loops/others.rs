//! With others at work in the cluster, on a real API server: admission webhooks that change objects, refuse them or are
//! down, and an account that may not write some kinds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::webhook::{Kind, Scope, Verdict, Webhook};
use driftless_e2e::world::{AuditEvent, AuditLog, Cluster, ClusterOptions, Content, Steps, World};
use driftless_protocol::report::UnitReport;
use serde_json::{Value, json};

use crate::common::{Room, base, heals_an_edit};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(90);
/// What a cluster's mirror of an image registry is called.
const MIRROR: &str = "mirror.example.com/";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let audit = AuditLog::in_folder(room.folder())?;
    let mut cluster = ClusterOptions::new(CLUSTER);
    cluster.impersonate = vec![("flux-system".into(), "narrow".into())];
    cluster.api_server_args = audit.api_server_args();
    let mut world = room.start(room.options(&base, vec![cluster])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("what a mutating webhook does to an object is no drift", mutated(w, &base, &audit)).await;
    forget_webhooks(w).await?;
    steps.run("a webhook's refusal is told and holds up nothing else", denied(w, &base)).await;
    forget_webhooks(w).await?;
    steps.run("a webhook that is down is told, and waited for", webhook_down(w, &base)).await;
    forget_webhooks(w).await?;
    steps.run("a kind the account may not write is told, the rest is applied", forbidden(w, &base)).await;
    steps.finish(world).await
}

async fn report(world: &World, unit: &str) -> Result<UnitReport> {
    world.detail(CLUSTER, unit).await?.report.context("no report")
}

async fn wait_message(world: &World, unit: &str, words: &[&str]) -> Result<()> {
    wait::until(PATIENCE, format!("the report of {unit} to say {words:?}"), || async move {
        match report(world, unit).await {
            Ok(report) => {
                let said: Vec<&str> = report.objects.iter().map(|o| o.message.as_str()).collect();
                let said = format!("{} {}", report.message, said.join(" "));
                if words.iter().all(|word| said.contains(word)) { Seen::Done(()) } else { Seen::NotYet(said) }
            }
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(())
}

/// Installs a webhook configuration, and waits until the API server minds it: it learns of it through a watch.
async fn install(there: &Cluster, hook: &Webhook, configuration: &Value, probe: &[&str]) -> Result<()> {
    there.kubectl_with(&["apply", "-f", "-"], Some(&configuration.to_string())).await?;
    wait::until(PATIENCE, "the API server to ask the webhook", || async {
        let before = hook.calls();
        drop(there.kubectl(probe).await);
        hook.calls() > before
    })
    .await?;
    Ok(())
}

/// What a step that failed left behind would fail all after it.
async fn forget_webhooks(world: &World) -> Result<()> {
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    world.cluster(CLUSTER).kubectl(&["delete", kinds, "--all"]).await?;
    Ok(())
}

/// A sidecar that is not declared, and a declared field that the cluster wants otherwise.
fn mirror_and_sidecar(request: &Value) -> Verdict {
    let containers = request.pointer("/object/spec/template/spec/containers").and_then(Value::as_array);
    let mut operations = Vec::new();
    for (at, container) in containers.into_iter().flatten().enumerate() {
        match container.get("image").and_then(Value::as_str) {
            Some(image) if !image.starts_with(MIRROR) => operations.push(json!({
                "op": "replace",
                "path": format!("/spec/template/spec/containers/{at}/image"),
                "value": format!("{MIRROR}{image}"),
            })),
            _ => {}
        }
    }
    let named =
        |name: &str| containers.into_iter().flatten().any(|c| c.get("name").and_then(Value::as_str) == Some(name));
    if !named("proxy") {
        operations.push(json!({
            "op": "add",
            "path": "/spec/template/spec/containers/-",
            "value": {"name": "proxy", "image": format!("{MIRROR}proxy:1")},
        }));
    }
    if operations.is_empty() { Verdict::Allow } else { Verdict::Patch(operations.into()) }
}

async fn mutated(world: &mut World, base: &Content, audit: &AuditLog) -> Result<()> {
    let hook = Webhook::start(mirror_and_sidecar).await?;
    let scope = Scope { group: "apps", resource: "deployments", namespace: "web" };
    let there = world.cluster(CLUSTER);
    let probe =
        ["-n", "web", "annotate", "deployment", "web", "--overwrite", "example.com/probe=1", "--dry-run=server"];
    install(there, &hook, &hook.configuration(Kind::Mutating, "mirror", scope), &probe).await?;
    let writes = || -> Result<Vec<AuditEvent>> {
        let all = audit.writes()?;
        let of = |e: &AuditEvent| !e.own_record() && e.uri.contains("/namespaces/web/deployments/web");
        Ok(all.into_iter().filter(of).collect())
    };
    let before = writes()?.len();
    let content = base.clone().replace("web/deployment.yaml", "nginx:1.29.3", "nginx:1.29.4");
    let commit = content.commit(world, "an image from a registry that has a mirror").await?;
    world.wait_at(&commit).await?;
    let image = ".spec.template.spec.containers[0].image";
    let there = world.cluster(CLUSTER);
    let got = there.field("web", "deployment/web", image).await?;
    ensure!(got == "mirror.example.com/nginx:1.29.4", "{got}");
    // A person's change of another field is healed, and with it nothing else moves.
    heals_an_edit(there).await?;
    let names = there.field("web", "deployment/web", ".spec.template.spec.containers[*].name").await?;
    ensure!(names == "web proxy", "the sidecar is gone: {names}");
    ensure!(there.field("web", "deployment/web", image).await? == "mirror.example.com/nginx:1.29.4", "the mirror");
    let report = report(world, "web").await?;
    ensure!(report.drift.is_empty() && report.contests.is_empty(), "{report:#?}");
    let there = world.cluster(CLUSTER);
    // One for the commit, one that heals, and before it the take-over of the person's fields.
    // A take-over is guarded by the version it was made for: one that a controller's status came before is refused and made
    // again, a few times.
    let code = |e: &AuditEvent| e.response_status.as_ref().map_or(0, |status| status.code);
    let (refused, new): (Vec<_>, Vec<_>) =
        writes()?.split_off(before).into_iter().partition(|e| [409, 422].contains(&code(e)));
    ensure!(refused.len() < 5, "the agent was refused {} times: {refused:#?}", refused.len());
    ensure!((2..=3).contains(&new.len()), "the agent wrote {} times to the Deployment: {new:#?}", new.len());
    there.kubectl(&["delete", "mutatingwebhookconfiguration", "mirror"]).await?;
    base.reset(world).await?;
    world.wait_field(CLUSTER, "web", "deployment/web", image, "nginx:1.29.3").await
}

async fn denied(world: &mut World, base: &Content) -> Result<()> {
    let hook = Webhook::start(|request| match request.pointer("/object/data/commit").and_then(Value::as_str) {
        Some("forbidden") => Verdict::Deny("policy no-forbidden: data.commit must not be \"forbidden\"".to_owned()),
        _ => Verdict::Allow,
    })
    .await?;
    let scope = Scope { group: "", resource: "configmaps", namespace: "subject" };
    let there = world.cluster(CLUSTER);
    let probe =
        ["-n", "subject", "annotate", "configmap", "config", "--overwrite", "example.com/p=1", "--dry-run=server"];
    install(there, &hook, &hook.configuration(Kind::Validating, "policy", scope), &probe).await?;
    let content = base
        .clone()
        .replace("subject/config.yaml", "first", "forbidden")
        .replace("subject/service.yaml", "port: 80", "port: 81")
        .replace("steady/config.yaml", "first", "second");
    content.commit(world, "what a policy forbids").await?;
    wait_message(world, "subject", &["ConfigMap subject/config", "policy no-forbidden"]).await?;
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "second").await?;
    world.wait_field(CLUSTER, "subject", "service/api", ".spec.ports[0].port", "81").await?;
    let there = world.cluster(CLUSTER);
    ensure!(there.field("subject", "configmap/config", ".data.commit").await? == "first", "it was changed");
    let why = world.text(&["why", "subject", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("policy no-forbidden"), "{why}");
    there.kubectl(&["delete", "validatingwebhookconfiguration", "policy"]).await?;
    base.reset(world).await
}

async fn webhook_down(world: &mut World, base: &Content) -> Result<()> {
    let hook = Webhook::start(|_| Verdict::Allow).await?;
    let scope = Scope { group: "", resource: "configmaps", namespace: "subject" };
    let there = world.cluster(CLUSTER);
    let probe =
        ["-n", "subject", "annotate", "configmap", "config", "--overwrite", "example.com/p=2", "--dry-run=server"];
    install(there, &hook, &hook.configuration(Kind::Validating, "gate", scope), &probe).await?;
    drop(hook);
    let content = base.clone().replace("subject/config.yaml", "first", "second");
    let commit = content.commit(world, "while the webhook is down").await?;
    wait_message(world, "subject", &["ConfigMap subject/config", "gate.example.com"]).await?;
    let there = world.cluster(CLUSTER);
    there.kubectl(&["delete", "validatingwebhookconfiguration", "gate"]).await?;
    // Tried again by itself, without a new commit.
    world.wait_at(&commit).await?;
    base.reset(world).await
}

async fn forbidden(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "flux-system", "create", "serviceaccount", "narrow"]).await?;
    let create = ["-n", "subject", "create", "role", "narrow", "--verb=*", "--resource=configmaps"];
    there.kubectl(&create).await?;
    let bind =
        ["-n", "subject", "create", "rolebinding", "narrow", "--role=narrow", "--serviceaccount=flux-system:narrow"];
    there.kubectl(&bind).await?;
    let content = base
        .clone()
        .append("clusters/one/subject.yaml", "  serviceAccountName: narrow\n")
        .replace("subject/config.yaml", "first", "second")
        .replace("subject/service.yaml", "port: 80", "port: 82");
    content.commit(world, "as an account that may write ConfigMaps only").await?;
    wait_message(world, "subject", &["Service subject/api", "narrow", "services"]).await?;
    world.wait_field(CLUSTER, "subject", "configmap/config", ".data.commit", "second").await?;
    base.reset(world).await
}
