//! Questions to the agents: why down to pods, what nobody declares, what the API server would say to a plan.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::readymaker::{Fate, Rules, Which};
use driftless_e2e::wait;
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::api::{Stage, StepState, Why};
use driftless_protocol::report::Ready;
use serde_json::Value;

use crate::common::Room;

const CLUSTER: &str = "one";
const OTHER: &str = "two";
const PATIENCE: Duration = Duration::from_secs(60);
/// What a Secret in the cluster holds: looked for in every answer.
const CANARY: &str = "k4n4r1v0gel";

const NAMESPACES: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: Namespace
metadata:
  name: small
---
apiVersion: v1
kind: ResourceQuota
metadata:
  name: few
  namespace: small
spec:
  hard:
    pods: '1'
---
apiVersion: v1
kind: Namespace
metadata:
  name: strict
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

fn deployment(name: &str, namespace: &str, replicas: u32, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {namespace}
spec:
  replicas: {replicas}
  progressDeadlineSeconds: 600
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
        - name: main
          image: {image}
"
    )
}

const AFTER: &str = "  dependsOn:\n    - name: namespaces\n";
const WAIT: &str = "  dependsOn:\n    - name: namespaces\n  wait: true\n";

fn content() -> Content {
    let config =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: shop\ndata:\n  colour: blue\n";
    let mut content = Content::new()
        .with("namespaces/all.yaml", NAMESPACES)
        .with("quota/web.yaml", deployment("web", "small", 3, "good:1"))
        .with("security/web.yaml", deployment("web", "strict", 1, "good:1"))
        .with("image/web.yaml", deployment("web", "shop", 2, "nosuchimage:9"))
        .with("crash/web.yaml", deployment("crash", "shop", 1, "crashing:1"))
        .with("after/config.yaml", config.replace("settings", "after"))
        .with("plain/config.yaml", config)
        .with("plain/web.yaml", deployment("plain", "shop", 1, "good:1"));
    for cluster in [CLUSTER, OTHER] {
        content = content
            .root(cluster)
            .unit(cluster, "namespaces", "./namespaces", "  wait: true\n")
            .unit(cluster, "plain", "./plain", AFTER);
    }
    content
        .unit(CLUSTER, "quota", "./quota", WAIT)
        .unit(CLUSTER, "security", "./security", WAIT)
        .unit(CLUSTER, "image", "./image", WAIT)
        .unit(CLUSTER, "crash", "./crash", WAIT)
        .unit(CLUSTER, "after", "./after", "  dependsOn:\n    - name: quota\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_to_the_agents() -> Result<()> {
    let room = Room::wait().await?;
    let mut switched_off = ClusterOptions::new(OTHER);
    switched_off.agent_args = vec!["--no-dry-run".to_owned()];
    let mut world = room.start(room.options(&content(), vec![ClusterOptions::new(CLUSTER), switched_off])?).await?;
    let image = |part: &str, fate| (Which::Image(part.to_owned()), fate);
    world.cluster(CLUSTER).ready.set(Rules {
        fates: vec![image("nosuchimage", Fate::BadImage), image("crashing", Fate::CrashLoop)],
        ..Rules::default()
    });
    let mut steps = Steps::new();
    steps.run("a used-up quota is named, from the real admission", quota(&world)).await;
    steps.run("a Pod Security refusal is named, from the real admission", pod_security(&world)).await;
    steps.run("an image that cannot be pulled is named, and an Event says more", image_pull(&world)).await;
    steps.run("a container that crashes is named with its exit code", crash(&world)).await;
    steps.run("a unit that waits names what is at the end of its dependencies", dependency(&world)).await;
    steps.run("a healthy object can be asked about, another unit's cannot", named(&world)).await;
    steps.run("objects that nobody declares are listed, with who seems to own them", orphans(&world)).await;
    steps.run("a plan is tried by the API server and nothing changes", plan(&world)).await;
    steps.run("an operator's questions are in the audit log", audit(&world)).await;
    steps.run("an agent that is away is said to be, with the last known state", away(&mut world)).await;
    steps.finish(world).await
}

async fn why(world: &World, args: &[&str]) -> Result<Why> {
    world.ask(&[&["why"], args, &["--cluster", CLUSTER]].concat()).await
}

/// Waits until the first cause is this, and answers with it all.
async fn wait_cause(world: &World, unit: &str, code: &str) -> Result<Why> {
    let why = wait::until(PATIENCE, format!("{unit}: the cause is {code}"), || async {
        let why = self::why(world, &[unit]).await?;
        let live = why.live.clone().with_context(|| format!("nothing was asked: {why:#?}"))?;
        ensure!(live.not_asked.is_none(), "{live:?}");
        let first = live.objects.first().and_then(|o| o.causes.first()).with_context(|| format!("{live:#?}"))?;
        ensure!(first.code == code, "{live:#?}");
        anyhow::Ok(why)
    })
    .await?;
    Ok(why)
}

/// The answer leads with the cause: words that must stand in its first line.
fn leads(why: &Why, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(why.summary.contains(word), "{word:?} is not in {:?}", why.summary);
    }
    let pods = why.steps.iter().find(|s| s.stage == Stage::Pods).context("no step of the pods")?;
    ensure!(pods.state == StepState::Failed && pods.file.is_some(), "{pods:?}");
    Ok(())
}

async fn quota(world: &World) -> Result<()> {
    let why = wait_cause(world, "quota", "QuotaExceeded").await?;
    leads(&why, &["Deployment.apps small/web", "quota few", "limited: pods=1", "raise the ResourceQuota few"])?;
    // Events, and what a pod is, come a moment after the condition.
    wait::until(PATIENCE, "the Event of the refusal, beside the one pod", || async {
        let live = self::why(world, &["quota"]).await?.live.context("live")?;
        let object = live.objects.first().context("an object")?;
        ensure!((object.pods, object.pods_well) == (1, 1), "{object:?}");
        ensure!(object.events.iter().any(|e| e.reason == "FailedCreate"), "{object:?}");
        anyhow::Ok(())
    })
    .await?;
    println!("            {}", why.summary);
    Ok(())
}

async fn pod_security(world: &World) -> Result<()> {
    let why = wait_cause(world, "security", "PodSecurity").await?;
    leads(&why, &["Deployment.apps strict/web", "restricted", "runAsNonRoot", "label the namespace"])?;
    println!("            {}", why.summary);
    Ok(())
}

async fn image_pull(world: &World) -> Result<()> {
    wait_cause(world, "image", "ImagePullFailed").await?;
    let cluster = world.cluster(CLUSTER);
    let name =
        cluster.kubectl(&["-n", "shop", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let name = name.await?;
    let uid = cluster.kubectl(&["-n", "shop", "get", "pod", &name, "-o", "jsonpath={.metadata.uid}"]).await?;
    // As a kubelet would say it.
    let event = format!(
        "apiVersion: v1
kind: Event
metadata:
  name: {name}.1
  namespace: shop
involvedObject:
  apiVersion: v1
  kind: Pod
  name: {name}
  namespace: shop
  uid: {uid}
reason: Failed
type: Warning
count: 3
message: 'Failed to pull image \"nosuchimage:9\": failed to resolve reference \"docker.io/library/nosuchimage:9\": not found'
source:
  component: kubelet
"
    );
    cluster.kubectl_with(&["apply", "-f", "-"], Some(&event)).await?;
    let why = wait_cause(world, "image", "ImageNotFound").await?;
    leads(&why, &["Pod shop/web-", "nosuchimage:9", "no such image or tag"])?;
    let text = world.text(&["why", "image", "--cluster", CLUSTER]).await?;
    for word in ["to do: correct the image", "Events:", "(0 of 2 pods well)", "image/web.yaml:1"] {
        ensure!(text.contains(word), "{word:?} is not in\n{text}");
    }
    println!("            {}", why.summary);
    Ok(())
}

async fn crash(world: &World) -> Result<()> {
    wait_cause(world, "crash", "CrashLoop").await?;
    let cluster = world.cluster(CLUSTER);
    let pod = ["-n", "shop", "get", "pods", "-l", "app=crash", "-o", "jsonpath={.items[0].metadata.name}"];
    let pod = cluster.kubectl(&pod).await?;
    // As a kubelet would say it: what the container left behind.
    let ended = serde_json::json!({"exitCode": 3, "reason": "Error", "message": "no DATABASE_URL"});
    let status = serde_json::json!([
        {"op": "add", "path": "/status/containerStatuses/0/lastState", "value": {"terminated": ended}}
    ]);
    let patch = ["-n", "shop", "patch", "pod", &pod, "--subresource=status", "--type=json", "-p", &status.to_string()];
    cluster.kubectl(&patch).await?;
    let why = wait::until(PATIENCE, "its last words are told", || async {
        let why = wait_cause(world, "crash", "CrashLoop").await?;
        leads(&why, &["container main", "restarted 5 times", "exit code 3", "no DATABASE_URL", "logs crash-"])?;
        anyhow::Ok(why)
    })
    .await?;
    println!("            {}", why.summary);
    Ok(())
}

async fn dependency(world: &World) -> Result<()> {
    let why = wait::until(PATIENCE, "after waits", || async {
        let why = self::why(world, &["after"]).await?;
        let step = why.steps.iter().find(|s| s.stage == Stage::Dependency).context("no step")?;
        ensure!(step.state == StepState::Waiting && step.since.is_some(), "{step:?}");
        anyhow::Ok(why)
    })
    .await?;
    let step = why.steps.iter().find(|s| s.stage == Stage::Dependency).context("no step")?;
    ensure!(step.message.contains("at its end flux-system/quota is not ready"), "{step:?}");
    ensure!(step.file.as_deref().is_some_and(|f| f.starts_with("clusters/one/")) && step.line.is_some(), "{step:?}");
    for stage in [Stage::Source, Stage::Render, Stage::Offer] {
        let step = why.steps.iter().find(|s| s.stage == stage).context("no step")?;
        ensure!(step.since.is_some() && step.revision.as_deref().is_some_and(|r| r.contains("sha1:")), "{step:?}");
    }
    Ok(())
}

async fn named(world: &World) -> Result<()> {
    world.wait_unit(CLUSTER, "plain", "is ready", |u| u.ready == Ready::True).await?;
    let why = wait::until(PATIENCE, "the Deployment is as it should be", || async {
        let why = self::why(world, &["plain", "deployment/plain"]).await?;
        let live = why.live.clone().context("it was asked about")?;
        ensure!(live.objects.first().is_some_and(|o| o.healthy && o.pods == 1 && o.causes.is_empty()), "{live:#?}");
        anyhow::Ok(why)
    })
    .await?;
    ensure!(why.summary.contains("all is well"), "{}", why.summary);
    ensure!(self::why(world, &["plain"]).await?.live.is_none(), "nothing is unhealthy, nothing is asked");
    let answer = world.cli(&["why", "plain", "deployment/web", "--cluster", CLUSTER]).await?;
    ensure!(answer.code == Some(4) && answer.stderr.contains("has no object deployment/web"), "{answer:?}");
    Ok(())
}

async fn orphans(world: &World) -> Result<()> {
    let cluster = world.cluster(CLUSTER);
    let stray = format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: stray
  namespace: shop
stringData:
  password: {CANARY}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: helms
  namespace: shop
  labels:
    app.kubernetes.io/managed-by: Helm
  annotations:
    meta.helm.sh/release-name: cache
    meta.helm.sh/release-namespace: shop
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: stray
rules: []
"
    );
    // Client-side: it leaves the values in an annotation.
    cluster.kubectl_with(&["apply", "-f", "-"], Some(&stray)).await?;
    let answer = world.cli(&["orphans", "--cluster", CLUSTER, "-o", "json"]).await?;
    ensure!(answer.code == Some(0), "{answer:?}");
    ensure!(!answer.stdout.contains(CANARY), "a value of a Secret was told");
    let all: Value = serde_json::from_str(&answer.stdout)?;
    let found: Vec<String> = all[0]["orphans"]
        .as_array()
        .context("orphans")?
        .iter()
        .map(|o| {
            let key = &o["key"];
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}/{}", text("kind"), text("namespace"), text("name"))
        })
        .collect();
    for wanted in ["Secret shop/stray", "ConfigMap shop/helms", "ClusterRole /stray"] {
        ensure!(found.iter().any(|f| f == wanted), "{wanted} is not among {found:#?}");
    }
    // Neither what Git declares, nor what controllers and the API server made.
    let strange: Vec<&String> = found
        .iter()
        .filter(|f| {
            ["web", "plain", "settings", "default", "kube-root-ca.crt", "kubernetes", "few", "after"]
                .iter()
                .any(|name| f.ends_with(&format!("/{name}")) || f.contains("/web-") || f.contains("/plain-"))
        })
        .collect();
    ensure!(strange.is_empty(), "{strange:#?}");
    let known = ["stray", "helms"];
    let others: Vec<&String> = found.iter().filter(|f| !known.iter().any(|k| f.ends_with(k))).collect();
    ensure!(others.iter().all(|f| !f.contains("driftless")), "{others:?}");
    println!("            besides: {others:?}; {}", all[0]["skipped"]);
    ensure!(all[0]["skipped"]["declared"].as_u64() > Some(5), "{}", all[0]["skipped"]);
    ensure!(all[0]["skipped"]["owned"].as_u64() > Some(3), "{}", all[0]["skipped"]);

    let text = world.text(&["orphans", "--cluster", CLUSTER, "--namespace", "shop"]).await?;
    for word in ["namespace shop (2)", "Helm release shop/cache", "made by manager kubectl-client-side-apply"] {
        ensure!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let check = world.cli(&["orphans", "--cluster", CLUSTER, "--kind", "ClusterRole", "--check"]).await?;
    ensure!(check.code == Some(1) && check.stderr.contains("--check"), "{check:?}");
    cluster.kubectl(&["delete", "clusterrole", "stray"]).await?;
    let check = world.cli(&["orphans", "--cluster", CLUSTER, "--kind", "Service", "-n", "shop", "--check"]).await?;
    ensure!(check.code == Some(0), "{check:?}");
    Ok(())
}

fn git(dir: &Path, args: &[&str]) -> Result<()> {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .context("run git")?;
    ensure!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

async fn plan(world: &World) -> Result<()> {
    let dir = tempfile::tempdir()?;
    content().write(dir.path())?;
    git(dir.path(), &["init", "--quiet", "--initial-branch=main"])?;
    git(dir.path(), &["add", "--all"])?;
    git(dir.path(), &["commit", "--quiet", "--message", "first"])?;
    let write = |path: &str, text: String| std::fs::write(dir.path().join(path), text).context("write");
    // A field that cannot change, a namespace that nothing declares, one that the change itself declares, a value out of
    // range, a field somebody else has, and a new object that is fine.
    write("plain/web.yaml", deployment("plain", "shop", 1, "good:1").replace("app: plain", "app: other"))?;
    let config = |name: &str, namespace: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  colour: red\n"
        )
    };
    let service = "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: api\n  namespace: shop\nspec:\n  ports:\n    - port: 0\n";
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: fixed\n  namespace: shop\ndata:\n  password: {CANARY}!\n"
    );
    write(
        "plain/config.yaml",
        [
            config("settings", "shop"),
            config("lost", "nowhere"),
            config("early", "later"),
            config("helms", "shop"),
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: later\n".to_owned(),
            service.to_owned(),
            secret,
        ]
        .concat(),
    )?;
    git(dir.path(), &["add", "--all"])?;
    git(dir.path(), &["commit", "--quiet", "--message", "second"])?;

    let cluster = world.cluster(CLUSTER);
    let patch = "{\"data\":{\"colour\":\"green\"}}";
    cluster.kubectl(&["-n", "shop", "patch", "configmap", "helms", "--type=merge", "-p", patch]).await?;
    let before = cluster.objects().await?;
    let repo = dir.path().display().to_string();
    let args = ["plan", &repo, "--base", "HEAD~1", "--live"];
    let answer = world.cli(&[&args[..], &["-o", "json"]].concat()).await?;
    ensure!(answer.code == Some(0), "{answer:?}");
    ensure!(!answer.stdout.contains(CANARY), "a value of a Secret was told");
    let plan: Value = serde_json::from_str(&answer.stdout)?;
    let live = plan["live"].as_array().context("live")?;
    let of = |name: &str| live.iter().find(|l| l["clusters"][0] == name).with_context(|| format!("{live:#?}"));
    let tried = of(CLUSTER)?;
    let outcome = |name: &str| {
        let objects = tried["objects"].as_array().into_iter().flatten();
        objects.filter(|o| o["key"]["name"] == name).map(|o| o["outcome"].as_str().unwrap_or_default()).next()
    };
    for (name, wanted) in [
        ("plain", Some("immutable")),
        ("lost", Some("noNamespace")),
        ("early", Some("noNamespace")),
        ("api", Some("invalid")),
        ("fixed", Some("invalid")),
        ("helms", Some("accepted")),
        ("later", None),
        ("settings", None),
    ] {
        ensure!(outcome(name) == wanted, "{name}: {:?} and not {wanted:?}: {tried:#}", outcome(name));
    }
    let switched_off = of(OTHER)?;
    let problem = switched_off["problem"].as_str().unwrap_or_default();
    ensure!(problem.contains("switched off in this cluster"), "{switched_off:#}");

    let text = world.text(&args).await?;
    for word in [
        "What the API servers say (a dry run)",
        "Deployment.apps shop/plain (unit flux-system/plain): immutable: ",
        "takes .data.colour from kubectl-patch",
        "not told yet: Git declares the namespace later",
        "its words are not shown, since they may quote a value",
    ] {
        ensure!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let markdown = world.text(&[&args[..], &["-o", "markdown"]].concat()).await?;
    ensure!(
        markdown.contains("#### What the API servers say") && markdown.contains(":x: `Deployment.apps"),
        "{markdown}"
    );
    let failed = world.cli(&[&args[..], &["--fail-on", "live"]].concat()).await?;
    ensure!(failed.code == Some(1) && failed.stderr.contains("would refuse objects"), "{failed:?}");

    let after = cluster.objects().await?;
    let changed: Vec<_> = before
        .iter()
        .filter(|(name, was)| after.get(*name).is_none_or(|is| is.version != was.version))
        .map(|(name, _)| name)
        .filter(|name| name.contains(" shop/settings") || name.contains("shop/plain") || name.contains("shop/helms"))
        .collect();
    ensure!(changed.is_empty(), "a dry run changed {changed:?}");
    let made: Vec<_> =
        after.keys().filter(|name| ["/lost", "/early", "/api", "/fixed"].iter().any(|n| name.ends_with(n))).collect();
    ensure!(made.is_empty(), "a dry run made {made:?}");
    Ok(())
}

async fn audit(world: &World) -> Result<()> {
    let rows: Vec<Value> = world.ask(&["audit"]).await?;
    for (action, detail) in [("orphans", ""), ("dryRun", "objects of flux-system/plain")] {
        let row = rows.iter().find(|r| r["action"] == action && r["target"] == "cluster one");
        let row = row.with_context(|| format!("no {action} in {rows:#?}"))?;
        ensure!(row["detail"].as_str().is_some_and(|d| d.contains(detail)), "{row}");
    }
    Ok(())
}

async fn away(world: &mut World) -> Result<()> {
    world.cluster_mut(CLUSTER).kill_agent()?;
    let world = &*world;
    let why = wait::until(Duration::from_secs(90), "the agent is away", || async {
        let why = self::why(world, &["image"]).await?;
        let transport = why.steps.iter().find(|s| s.stage == Stage::Transport).context("no step")?;
        ensure!(transport.state == StepState::Waiting && transport.since.is_some(), "{transport:?}");
        anyhow::Ok(why)
    })
    .await?;
    let live = why.live.context("live")?;
    ensure!(live.not_asked.as_deref().is_some_and(|n| n.contains("not connected")), "{live:?}");
    ensure!(why.reported_at.is_some(), "no time of the last report");
    let health = why.steps.iter().find(|s| s.stage == Stage::Health).context("no step")?;
    ensure!(health.message.contains("Deployment.apps shop/web"), "the last known state: {health:?}");
    let text = world.text(&["why", "image", "--cluster", CLUSTER]).await?;
    ensure!(text.contains("as of its last report"), "{text}");
    let answer = world.cli(&["orphans"]).await?;
    ensure!(answer.code == Some(1), "{answer:?}");
    ensure!(answer.stdout.contains("cluster one: the agent of one is not connected"), "{answer:?}");
    ensure!(answer.stdout.contains("cluster two: 0 objects") || answer.stdout.contains("cluster two: "), "{answer:?}");
    Ok(())
}
