//! What Git and people say about single objects, on a real API server: control marks, ignored fields, `force`, CEL health,
//! validation, a contest, and everyday noise.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::world::{AuditLog, ClusterOptions, Content, Steps, World};
use driftless_protocol::api::DeleteList;
use driftless_protocol::bundle::DriftMode;
use driftless_protocol::report::{EventKind, ObjectState, Ready, UnitReport};

use crate::common::{Room, base, heals_an_edit};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(90);
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let audit = AuditLog::in_folder(room.folder())?;
    let mut cluster = ClusterOptions::new(CLUSTER);
    cluster.api_server_args = audit.api_server_args();
    let mut world = room.start(room.options(&base, vec![cluster])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("the first commit is applied", base.reset(w)).await;
    steps.run("an object that is there already is left as it is (IfNotPresent)", if_not_present(w, &base)).await;
    steps.run("reconcile: disabled on the live object is honoured until it goes", break_glass(w, &base)).await;
    steps.run("an ignored field is left to whoever writes it", ignored(w, &base)).await;
    steps.run("drift of an observed field stays, and all else is healed", observed(w, &base)).await;
    steps.run("force makes an object anew once that is approved", forced(w, &base)).await;
    steps.run("a kind is judged by CEL", cel(w, &base)).await;
    steps.run("validation tells all errors and writes nothing", validated(w, &base)).await;
    steps.run("a manager that never gives up is named", contest(w, &base)).await;
    steps.run("an item of a list is healed whose key a controller changed", other_key(w, &base)).await;
    steps.run("everyday noise writes nothing", noise(w, &base, &audit)).await;
    steps.finish(world).await
}

async fn report(world: &World, unit: &str) -> Result<UnitReport> {
    world.detail(CLUSTER, unit).await?.report.context("no report")
}

async fn wait_report(world: &World, unit: &str, what: &str, holds: impl Fn(&UnitReport) -> bool) -> Result<UnitReport> {
    let holds = &holds;
    let seen = wait::until(PATIENCE, format!("{unit} {what}"), || async move {
        match report(world, unit).await {
            Ok(report) if holds(&report) => Seen::Done(report),
            Ok(report) => Seen::NotYet(format!("{:?} {} {:#?}", report.ready, report.message, report.objects)),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(seen)
}

fn config(name: &str, annotations: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  annotations:\n    {annotations}\ndata:\n  k: {value}\n"
    )
}

async fn if_not_present(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "steady", "create", "configmap", "theirs", "--from-literal=k=theirs"]).await?;
    let mark = "kustomize.toolkit.fluxcd.io/ssa: IfNotPresent";
    let content = base
        .clone()
        .with("steady/theirs.yaml", config("theirs", mark, "git"))
        .with("steady/ours.yaml", config("ours", mark, "git"));
    let commit = content.commit(world, "only if they are not there").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    ensure!(there.field("steady", "configmap/theirs", ".data.k").await? == "theirs", "it was overwritten");
    ensure!(there.field("steady", "configmap/theirs", ".metadata.labels").await?.is_empty(), "it was labelled");
    ensure!(there.field("steady", "configmap/ours", ".data.k").await? == "git", "it was not created");
    let report = wait_report(world, "steady", "to leave both alone", |r| r.counts.left_alone == 2).await?;
    ensure!(report.ready == Ready::True, "{report:#?}");
    // Out of Git: ours goes, theirs stays.
    base.reset(world).await?;
    let there = world.cluster(CLUSTER);
    wait::until(PATIENCE, "ours to be pruned", || async {
        there.kubectl(&["-n", "steady", "get", "configmap", "ours"]).await.is_err()
    })
    .await?;
    ensure!(there.field("steady", "configmap/theirs", ".data.k").await? == "theirs", "theirs was deleted");
    Ok(())
}

async fn break_glass(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "subject", "annotate", "configmap", "config", &format!("{RECONCILE}=disabled")]).await?;
    wait_report(world, "subject", "to leave the object alone", |r| {
        r.objects.iter().any(|o| o.state == ObjectState::LeftAlone && o.reason == "ReconcileDisabled")
    })
    .await?;
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "subject", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    let content =
        base.clone().replace("subject/config.yaml", "first", "second").replace("steady/config.yaml", "first", "second");
    content.commit(world, "while the glass is broken").await?;
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "second").await?;
    wait_report(world, "subject", "to list what differs", |r| {
        r.objects.iter().any(|o| o.reason == "ReconcileDisabled" && o.message.contains("neither applied nor healed"))
    })
    .await?;
    let there = world.cluster(CLUSTER);
    ensure!(
        there.field("subject", "configmap/config", ".data.commit").await? == "by hand",
        "break-glass is not honoured"
    );
    there.kubectl(&["-n", "subject", "annotate", "configmap", "config", &format!("{RECONCILE}-")]).await?;
    world.wait_field(CLUSTER, "subject", "configmap/config", ".data.commit", "second").await?;
    base.reset(world).await
}

async fn ignored(world: &mut World, base: &Content) -> Result<()> {
    let rule = "  ignore:\n    - paths: [/spec/replicas]\n      target:\n        kind: Deployment\n";
    let content = base.clone().append("clusters/one/web.yaml", rule);
    let commit = content.commit(world, "replicas are not ours").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "web", "scale", "deployment", "web", "--replicas", "5"]).await?;
    let changed = content.clone().replace("web/deployment.yaml", "nginx:1.29.3", "nginx:1.29.4");
    let commit = changed.commit(world, "another image").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    let field = |path: &'static str| there.field("web", "deployment/web", path);
    ensure!(field(".spec.template.spec.containers[0].image").await? == "nginx:1.29.4", "the new image is not there");
    ensure!(field(".spec.replicas").await? == "5", "an ignored field was written");
    // Somebody edits another field: it is healed, and the ignored one still not touched.
    heals_an_edit(there).await?;
    ensure!(field(".spec.replicas").await? == "5", "an ignored field was taken over");
    base.reset(world).await?;
    world.wait_field(CLUSTER, "web", "deployment/web", ".spec.replicas", "3").await
}

async fn observed(world: &mut World, base: &Content) -> Result<()> {
    let mark = "  name: web\n  annotations:\n    driftless.dev/drift-warn: /spec/replicas\n";
    let content = base.clone().replace("web/deployment.yaml", "  name: web\n", mark);
    let commit = content.commit(world, "replicas are watched").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    there.kubectl(&["-n", "web", "scale", "deployment", "web", "--replicas", "5"]).await?;
    heals_an_edit(there).await?;
    let told = wait::until(PATIENCE, "the drift to be told", || async {
        match report(world, "web").await {
            Ok(report) if report.drift.iter().any(|field| field.path == "spec.replicas") => Seen::Done(report),
            Ok(report) => Seen::NotYet(format!("{report:#?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    ensure!(told.drift.len() == 1 && told.drift[0].mode == Some(DriftMode::Warn), "{told:#?}");
    let there = world.cluster(CLUSTER);
    ensure!(there.field("web", "deployment/web", ".spec.replicas").await? == "5", "what is only watched was healed");
    let why = world.text(&["why", "web", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("spec.replicas: declared 3, live 5"), "{why}");
    base.reset(world).await?;
    // Without the mark it is drift like any other.
    world.wait_field(CLUSTER, "web", "deployment/web", ".spec.replicas", "3").await
}

async fn forced(world: &mut World, base: &Content) -> Result<()> {
    let there = world.cluster(CLUSTER);
    let uid = there.field("web", "deployment/web", ".metadata.uid").await?;
    // The selector of a Deployment cannot be changed.
    let content = base
        .clone()
        .replace("web/deployment.yaml", "app: web", "app: web2")
        .append("clusters/one/web.yaml", "  force: true\n");
    let commit = content.commit(world, "another selector").await?;
    let report = wait_report(world, "web", "to hold the re-creation", |r| r.held_deletes.len() == 1).await?;
    ensure!(report.held_deletes[0].uid == uid && report.held_deletes[0].why.contains("made anew"), "{report:#?}");
    let there = world.cluster(CLUSTER);
    ensure!(there.field("web", "deployment/web", ".metadata.uid").await? == uid, "made anew without approval");
    let lists: Vec<DeleteList> = world.ask(&["get", "deletes"]).await?;
    ensure!(lists.len() == 1, "{lists:#?}");
    world.text(&["approve", &lists[0].list, "--reason", "the selector must change"]).await?;
    world.wait_field(CLUSTER, "web", "deployment/web", ".spec.selector.matchLabels.app", "web2").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    ensure!(
        there.field("web", "deployment/web", ".metadata.uid").await? != uid,
        "the same object has another selector"
    );
    // And back, which is another change of it.
    let back = base.clone().append("clusters/one/web.yaml", "  force: true\n");
    let commit = back.commit(world, "the old selector").await?;
    wait_report(world, "web", "to hold it again", |r| r.held_deletes.len() == 1).await?;
    let lists: Vec<DeleteList> = world.ask(&["get", "deletes"]).await?;
    world.text(&["approve", &lists[0].list, "--reason", "back again"]).await?;
    world.wait_at(&commit).await?;
    base.reset(world).await
}

async fn cel(world: &mut World, base: &Content) -> Result<()> {
    let exprs = "  wait: true\n  healthCheckExprs:\n    - apiVersion: v1\n      kind: ConfigMap\n      failed: data.commit == 'broken'\n      current: data.commit == 'first'\n";
    let content = base.clone().append("clusters/one/subject.yaml", exprs);
    let commit = content.commit(world, "a ConfigMap with a health").await?;
    world.wait_at(&commit).await?;
    for (value, ready, words) in
        [("second", Ready::Unknown, "current is not true"), ("broken", Ready::False, "failed is true")]
    {
        content.clone().replace("subject/config.yaml", "first", value).commit(world, value).await?;
        wait_report(world, "subject", &format!("to be {ready:?}"), |r| r.ready == ready && r.message.contains(words))
            .await?;
    }
    // One that cannot be read is refused with its place, and the cluster keeps what it has.
    let bad =
        base.clone().append("clusters/one/subject.yaml", &exprs.replace("data.commit == 'broken'", "data.commit =="));
    bad.commit(world, "no expression").await?;
    let row = world.wait_unit(CLUSTER, "subject", "to be held", |u| u.reason == "Held").await?;
    ensure!(row.message.contains("clusters/one/subject.yaml:"), "no file and line: {}", row.message);
    ensure!(row.message.contains("spec.healthCheckExprs[0].failed"), "{}", row.message);
    base.reset(world).await
}

async fn validated(world: &mut World, base: &Content) -> Result<()> {
    let service = |name: &str, port: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n    - port: {port}\n")
    };
    let content = base
        .clone()
        .append("clusters/one/steady.yaml", "  validation: server\n")
        .replace("steady/config.yaml", "first", "validated")
        .with("steady/one.yaml", service("one", "70000"))
        .with("steady/two.yaml", service("two", "0"));
    content.commit(world, "two that cannot be").await?;
    let report = wait_report(world, "steady", "to list both errors", |r| r.counts.failed == 2).await?;
    ensure!(
        report.message.starts_with("validation failed") && report.message.contains("Service steady/two"),
        "{}",
        report.message
    );
    let there = world.cluster(CLUSTER);
    ensure!(
        there.field("steady", "configmap/config", ".data.commit").await? == "first",
        "written before validation passed"
    );
    let mended = content.with("steady/one.yaml", service("one", "70")).with("steady/two.yaml", service("two", "80"));
    let commit = mended.commit(world, "mended").await?;
    world.wait_at(&commit).await?;
    base.reset(world).await
}

async fn contest(world: &mut World, base: &Content) -> Result<()> {
    // Declared: a field that only a controller writes is the controller's.
    let content = base.clone().replace("subject/service.yaml", "spec:\n", "spec:\n  sessionAffinity: None\n");
    let commit = content.commit(world, "a field to fight for").await?;
    world.wait_at(&commit).await?;
    let there = world.cluster(CLUSTER);
    let patch = r#"{"spec":{"sessionAffinity":"ClientIP"}}"#;
    let args = [
        "-n",
        "subject",
        "patch",
        "service",
        "api",
        "--field-manager",
        "hostile-operator",
        "--type",
        "merge",
        "-p",
        patch,
    ];
    let report = wait::until(PATIENCE, "the contest to be told", || async {
        if let Err(error) = there.kubectl(&args).await {
            return Seen::NotYet(format!("{error:#}"));
        }
        match report(world, "subject").await {
            Ok(report) if !report.contests.is_empty() => Seen::Done(report),
            Ok(report) => Seen::NotYet(format!("{:#?}", report.recent)),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    let contest = &report.contests[0];
    ensure!(contest.manager.as_deref() == Some("hostile-operator"), "{contest:#?}");
    ensure!(contest.path == "spec.sessionAffinity" && contest.hint.contains("/spec/sessionAffinity"), "{contest:#?}");
    let why = world.text(&["why", "subject", "--cluster", CLUSTER]).await?;
    ensure!(why.contains("goes back and forth with manager hostile-operator"), "{why}");
    // The next pod knows of it, and does not tell it again.
    wait::until(PATIENCE, "the contest to be written down", || async {
        let seen = there.field("driftless-system", "configmap/driftless-contests", ".data.contests\\.json").await;
        seen.is_ok_and(|text| text.contains("sessionAffinity"))
    })
    .await?;
    world.cluster_mut(CLUSTER).stop_agent().await?;
    world.cluster_mut(CLUSTER).start_agent()?;
    base.reset(world).await?;
    let after = self::report(world, "subject").await?;
    ensure!(after.contests.first().is_some_and(|again| again.since == contest.since), "{after:#?}");
    ensure!(after.recent.iter().all(|event| event.what != EventKind::Contested), "{after:#?}");
    Ok(())
}

/// The item that was declared is gone, and another one there, which is not ours: with both of them the Service would not be
/// valid.
async fn other_key(world: &mut World, base: &Content) -> Result<()> {
    base.reset(world).await?;
    let patch = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 8081}]"#;
    let args = ["-n", "subject", "patch", "service", "api", "--field-manager", "rogue", "--type", "json", "-p", patch];
    world.cluster(CLUSTER).kubectl(&args).await?;
    world.wait_field(CLUSTER, "subject", "service/api", ".spec.ports[*].port", "80").await?;
    wait_report(world, "subject", "to be well again", |r| r.ready == Ready::True && r.drift.is_empty()).await.map(drop)
}

/// What controllers and `kubectl` do that is none of our business, on real managedFields.
async fn noise(world: &mut World, base: &Content, audit: &AuditLog) -> Result<()> {
    let hook = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata:\n  name: hook\nwebhooks:\n  \
                - name: a.example.com\n    admissionReviewVersions: [v1]\n    sideEffects: None\n    failurePolicy: Ignore\n    clientConfig:\n      \
                service:\n        name: x\n        namespace: default\n    rules:\n      - apiGroups: [none.example.com]\n        apiVersions: ['*']\n        \
                operations: [CREATE]\n        resources: [nothing]\n";
    let hpa = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata:\n  name: web\nspec:\n  minReplicas: 1\n  maxReplicas: 9\n  \
               scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: web\n";
    let content = base
        .clone()
        .with("subject/hook.yaml", hook)
        .replace("subject/kustomization.yaml", "  - service.yaml\n", "  - service.yaml\n  - hook.yaml\n")
        .with("web/hpa.yaml", hpa)
        .replace("web/deployment.yaml", "image: nginx:1.29.3", "image: nginx:1.29.3\n          resources:\n            limits:\n              cpu: 1000m\n              memory: 1024Mi");
    let commit = content.commit(world, "objects that others write to").await?;
    world.wait_at(&commit).await?;
    let managed = || -> Result<Vec<String>> {
        let writes = audit.writes()?;
        Ok(writes.iter().filter(|e| !e.own_record()).map(|e| format!("{} {}", e.verb, e.uri)).collect())
    };
    let before = managed()?;
    ensure!(!before.is_empty(), "the audit log shows no write at all: it does not work");
    let there = world.cluster(CLUSTER);
    let patches: [(&str, &str, &str, &str); 5] = [
        (
            "cainjector",
            "validatingwebhookconfiguration/hook",
            "json",
            r#"[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"}]"#,
        ),
        (
            "Reloader",
            "deployment/web",
            "strategic",
            r#"{"spec":{"template":{"metadata":{"annotations":{"reloader.stakater.com/last":"x"}},"spec":{"containers":[{"name":"web","env":[{"name":"STAKATER_X","value":"1"}]}]}}}}"#,
        ),
        (
            "sidecar-injector",
            "deployment/web",
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"proxy","image":"p"}]}}}}"#,
        ),
        (
            "kube-controller-manager",
            "deployment/web",
            "merge",
            r#"{"metadata":{"annotations":{"example.com/revision":"7"}}}"#,
        ),
        ("vpa-recommender", "deployment/web", "merge", r#"{"metadata":{"annotations":{"vpaUpdates":"x"}}}"#),
    ];
    for (manager, object, kind, patch) in patches {
        let namespace = if object.starts_with("deployment") { "web" } else { "default" };
        there
            .kubectl(&["-n", namespace, "patch", object, "--field-manager", manager, "--type", kind, "-p", patch])
            .await
            .context(manager)?;
    }
    there.kubectl(&["-n", "web", "rollout", "restart", "deployment", "web"]).await?;
    there
        .kubectl(&[
            "-n",
            "web",
            "patch",
            "deployment",
            "web",
            "--subresource",
            "scale",
            "--field-manager",
            "kube-controller-manager",
            "--type",
            "merge",
            "-p",
            r#"{"spec":{"replicas":6}}"#,
        ])
        .await?;
    // Drift of another object afterwards is healed: by then the agent has seen all of the above.
    let patch = r#"{"data":{"commit":"by hand"}}"#;
    there.kubectl(&["-n", "steady", "patch", "configmap", "config", "--type", "merge", "-p", patch]).await?;
    world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", "first").await?;
    // The Deployment's watch may be behind that of ConfigMaps: a change of ours to it shows that it is not.
    let changed =
        content.clone().replace("web/deployment.yaml", "progressDeadlineSeconds: 5", "progressDeadlineSeconds: 6");
    changed.commit(world, "our own change").await?;
    world.wait_field(CLUSTER, "web", "deployment/web", ".spec.progressDeadlineSeconds", "6").await?;
    let new = managed()?.split_off(before.len());
    let to = |what: &str| new.iter().filter(|line| line.contains(what)).count();
    ensure!(
        to("/deployments/web") == 1 && to("validatingwebhook") == 0 && to("/configmaps/config") >= 1,
        "noise was healed: {new:#?}"
    );
    for unit in ["web", "subject"] {
        let report = wait_report(world, unit, "to have no drift", |r| r.drift.is_empty()).await?;
        ensure!(report.counts.drifted == 0, "{report:#?}");
        // A container that Git does not know of is told all the same.
        let added: Vec<String> = report.additions.iter().map(|a| format!("{} by {}", a.path, a.manager)).collect();
        let want = ["spec.template.spec.containers[name=proxy] by sidecar-injector".to_owned()];
        ensure!(added == if unit == "web" { want.as_slice() } else { &[] }, "{report:#?}");
        let told = report.recent.iter().filter(|event| event.what == EventKind::Added).count();
        ensure!(told == added.len(), "{report:#?}");
    }
    let there = world.cluster(CLUSTER);
    ensure!(
        there.field("web", "deployment/web", ".spec.replicas").await? == "6",
        "the autoscaler's replicas were taken"
    );
    ensure!(
        !there.field("web", "deployment/web", ".spec.template.metadata.annotations").await?.is_empty(),
        "a restart was undone"
    );
    base.reset(world).await
}
