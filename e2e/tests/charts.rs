//! The charts, by the real `helm`, on a real API server whose namespaces enforce the `restricted` Pod Security Standard.
//!
//! `charts/*.golden.yaml` is what the charts rendered when somebody last looked; `DRIFTLESS_BLESS=1` writes it anew, and
//! the difference is read in review.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::controlplane::{ControlPlane, Options};
use driftless_e2e::readymaker::add_nodes;
use driftless_e2e::tools::{self, Tool, Tools};
use driftless_e2e::wait;
use driftless_e2e::world::chart;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// The hub's own reader of its start file. Not the crate: this file alone tells whether the chart's output is accepted,
/// and charts can be worked on without building a hub.
#[allow(dead_code, unreachable_pub)]
#[rustfmt::skip] // it is formatted where it lives
#[path = "../../hub/src/config.rs"]
mod config;

/// Long enough for a machine that does other things too; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(120);
/// The namespaces of the two charts.
const AGENT_NAMESPACE: &str = "driftless-system";
const HUB_NAMESPACE: &str = "driftless";

/// What is rendered: (case, chart); `charts/<case>.values.yaml`, if there is one, is given to it.
const CASES: [(&str, &str); 6] = [
    ("agent-default", "driftless-agent"),
    ("agent-token", "driftless-agent"),
    ("agent-narrow", "driftless-agent"),
    ("hub-default", "driftless-hub"),
    ("hub-claim", "driftless-hub"),
    ("hub-postgres", "driftless-hub"),
];

/// What a program said.
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Said {
    fn good(self, what: &str) -> Result<String> {
        ensure!(self.ok, "{what}: {}{}", self.out, self.err);
        Ok(self.out)
    }
}

async fn say(tools: &Tools, tool: Tool, args: &[&str], input: &str) -> Result<Said> {
    let mut child = tokio::process::Command::new(tools.path(tool)?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {tool}"))?;
    let mut stdin = child.stdin.take().context("its input")?;
    let work = async {
        // A program that refuses its arguments does not read.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(PATIENCE, work).await.with_context(|| format!("{tool} {}", args.join(" ")))??;
    Ok(Said {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

async fn helm_only() -> Result<Tools> {
    Tools::prepare_async(&[Tool::Helm], tools::print_progress).await
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charts").join(name)
}

fn namespace_of(chart: &str) -> &'static str {
    if chart == "driftless-agent" { AGENT_NAMESPACE } else { HUB_NAMESPACE }
}

async fn template(tools: &Tools, chart_name: &str, more: &[&str]) -> Result<Said> {
    let folder = chart(chart_name).display().to_string();
    let namespace = namespace_of(chart_name);
    let mut args = vec!["template", chart_name, &folder, "--namespace", namespace, "--kube-version", "1.36.3"];
    args.extend(more);
    say(tools, Tool::Helm, &args, "").await
}

/// A case, rendered.
async fn render(tools: &Tools, case: &str, chart_name: &str) -> Result<String> {
    let values = golden(&format!("{case}.values.yaml"));
    let values_text = values.display().to_string();
    let more: &[&str] = if values.exists() { &["--values", &values_text] } else { &[] };
    template(tools, chart_name, more).await?.good(&format!("render {case}"))
}

#[tokio::test]
async fn lint_is_content() -> Result<()> {
    let tools = helm_only().await?;
    for (case, chart_name) in CASES {
        let values = golden(&format!("{case}.values.yaml"));
        let (folder, values_text) = (chart(chart_name).display().to_string(), values.display().to_string());
        let mut args = vec!["lint", "--strict", &folder, "--namespace", namespace_of(chart_name)];
        if values.exists() {
            args.extend(["--values", &values_text]);
        }
        say(&tools, Tool::Helm, &args, "").await?.good(&format!("lint {case}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn charts_render_what_was_reviewed() -> Result<()> {
    let tools = helm_only().await?;
    let mut changed = Vec::new();
    for (case, chart_name) in CASES {
        let rendered = render(&tools, case, chart_name).await?;
        let file = golden(&format!("{case}.golden.yaml"));
        if std::env::var_os("DRIFTLESS_BLESS").is_some() {
            std::fs::write(&file, &rendered)?;
        }
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(at) = (0..).zip(rendered.lines()).find(|(n, line)| before.lines().nth(*n) != Some(line)) {
            changed.push(format!("{case}: line {}: {}", at.0 + 1, at.1));
        } else if before != rendered {
            changed.push(format!("{case}: shorter than before"));
        }
    }
    ensure!(changed.is_empty(), "look, then run with DRIFTLESS_BLESS=1:\n{}", changed.join("\n"));
    Ok(())
}

#[tokio::test]
async fn wrong_values_are_refused() -> Result<()> {
    let tools = helm_only().await?;
    // Chart, `--set-json` values, a part of the message.
    let cases: &[(&str, &str, &str)] = &[
        ("driftless-agent", "nodeSelektor={}", "nodeSelektor"),
        ("driftless-agent", r#"image.name="x""#, "/image"),
        ("driftless-agent", r#"kind="StatefulSet""#, "/kind"),
        ("driftless-agent", "replicas=0", "/replicas"),
        ("driftless-agent", r#"join.token="secret""#, "/join/token"),
        ("driftless-agent", r#"join={"token":"dfj1.a","existingSecret":"b"}"#, "not both"),
        ("driftless-agent", r#"applier.name="driftless-agent""#, "must not hold the applier's rights"),
        ("driftless-agent", r#"applier.name="*""#, "/applier/name"),
        ("driftless-agent", r#"impersonate=[{"name":"*"}]"#, "/impersonate/0/name"),
        ("driftless-agent", r#"impersonate=[{"name":"a","namespace":"*"}]"#, "/impersonate/0/namespace"),
        ("driftless-agent", r#"impersonate=[{"namespace":"a"}]"#, "missing property 'name'"),
        ("driftless-agent", r#"approvedDeleteCap="many""#, "/approvedDeleteCap"),
        ("driftless-agent", r#"crds.install="yes""#, "/crds/install"),
        ("driftless-agent", "ledgerMiB=1000", "/ledgerMiB"),
        ("driftless-agent", "healthPort=80", "/healthPort"),
        ("driftless-agent", "podSecurityContext.runAsUser=0", "/podSecurityContext/runAsUser"),
        ("driftless-agent", "podSecurityContext.runAsNonRoot=false", "/podSecurityContext/runAsNonRoot"),
        ("driftless-agent", r#"podLabels={"app.kubernetes.io/name":"x"}"#, "/podLabels"),
        ("driftless-agent", r#"extraEnv=[{"name":"POD_NAME"}]"#, "/extraEnv/0/name"),
        ("driftless-hub", "replicas=3", "replicas"),
        ("driftless-hub", r#"store.kind="etcd""#, "/store/kind"),
        ("driftless-hub", r#"store.kind="postgres""#, "store.postgres.secret"),
        ("driftless-hub", r#"fleet.addresses=["hub.example.com"]"#, "/fleet/addresses/0"),
        ("driftless-hub", "fleet.port=443", "/fleet/port"),
        ("driftless-hub", "fleet.service.nodePort=30000", "for type NodePort"),
        ("driftless-hub", r#"sources=[{"name":"a/b"}]"#, "missing property 'url'"),
        ("driftless-hub", r#"sources=[{"url":"https://me:secret@example.com/a"}]"#, "/sources/0/url"),
        ("driftless-hub", r#"sources=[{"url":"file:///etc"}]"#, "/sources/0/url"),
        ("driftless-hub", r#"sources=[{"url":"https://example.com/a","branch":"a","tag":"b"}]"#, "/sources/0"),
        ("driftless-hub", r#"sources=[{"url":"https://a.example/a"},{"url":"https://a.example/b"}]"#, "there twice"),
        (
            "driftless-hub",
            r#"sources=[{"url":"https://a.example/a","auth":{"basic":{"user":"a","password":"b"}}}]"#,
            "additional properties 'password' not allowed",
        ),
        ("driftless-hub", r#"sources=[{"url":"https://a.example/a","auth":{}}]"#, "/sources/0/auth"),
        ("driftless-hub", r#"clusters.default={"source":"a/b"}"#, "not among sources"),
        ("driftless-hub", r#"clusters.named={"Production":{}}"#, "invalid propertyName 'Production'"),
        ("driftless-hub", "podSecurityContext.fsGroup=0", "/podSecurityContext/fsGroup"),
    ];
    let mut wrong = Vec::new();
    for (chart_name, values, part) in cases {
        let said = template(&tools, chart_name, &["--set-json", values]).await?;
        if said.ok || !said.err.contains(part) {
            wrong.push(format!("{chart_name} {values}: {}", if said.ok { "accepted" } else { &said.err }));
        }
    }
    let folder = chart("driftless-agent").display().to_string();
    let elsewhere = ["template", "a", &folder, "--namespace", "default", "--kube-version", "1.36.3"];
    let said = say(&tools, Tool::Helm, &elsewhere, "").await?;
    if said.ok || !said.err.contains("--namespace driftless-system") {
        wrong.push(format!("another namespace: {}", said.err));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The object of this kind and name among rendered documents.
fn object(rendered: &str, kind: &str, name: &str) -> Result<Value> {
    for document in rendered.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(document).with_context(|| format!("read {document}"))?;
        if value["kind"] == kind && value["metadata"]["name"] == name {
            return Ok(value);
        }
    }
    anyhow::bail!("no {kind} {name}")
}

#[tokio::test]
async fn the_hub_reads_its_start_file() -> Result<()> {
    let tools = helm_only().await?;
    let folder = tempfile::tempdir()?;
    for (case, chart_name) in CASES.into_iter().filter(|(_, chart_name)| *chart_name == "driftless-hub") {
        let rendered = render(&tools, case, chart_name).await?;
        let map = object(&rendered, "ConfigMap", "driftless-hub")?;
        let text = map["data"]["hub.yaml"].as_str().context("hub.yaml")?;
        let file = folder.path().join("hub.yaml");
        std::fs::write(&file, text)?;
        let read = config::Config::load(&file).with_context(|| format!("{case}:\n{text}"))?;
        ensure!(read.keys == Path::new("/etc/driftless/keys"), "{case}: {:?}", read.keys);
        ensure!(read.admin.listen.is_some(), "{case}: the probes need the admin API's port");

        // Every file it names is below a volume of the pod.
        let workload = if case == "hub-postgres" { "Deployment" } else { "StatefulSet" };
        let pod = object(&rendered, workload, "driftless-hub")?["spec"]["template"]["spec"].take();
        let mounts: Vec<&str> = pod["containers"][0]["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|mount| mount["mountPath"].as_str())
            .collect();
        for path in text.split(['"', ' ', '\n']).filter(|word| word.starts_with("/etc/") || word.starts_with("/var/")) {
            let below =
                |mount: &&str| path.strip_prefix(*mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            ensure!(mounts.iter().any(below), "{case}: {path} is on no volume: {mounts:?}");
        }
        let keys = pod["volumes"].as_array().into_iter().flatten().find(|v| v["name"] == "keys").context("keys")?;
        ensure!(!keys.to_string().contains("root"), "{case}: the root key is mounted");
    }
    Ok(())
}

/// The cluster of this file.
struct World {
    plane: ControlPlane,
    tools: Tools,
    client: Client,
    home: tempfile::TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let wanted = [Tool::Etcd, Tool::ApiServer, Tool::ControllerManager, Tool::Kubectl, Tool::Helm];
        let tools = Tools::prepare_async(&wanted, tools::print_progress).await?;
        let plane = ControlPlane::start(Options::new("charts")).await?;
        let client = plane.client();
        add_nodes(client.clone(), 2).await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in [AGENT_NAMESPACE, HUB_NAMESPACE, "team-a", "team-b"] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}))?;
            namespaces.create(&PostParams::default(), &namespace).await?;
        }
        Ok(Self { plane, tools, client, home: tempfile::tempdir()? })
    }

    async fn kubectl(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Result<Said> {
        let file = kubeconfig.display().to_string();
        let mut all = vec!["--kubeconfig", &file];
        all.extend(args);
        say(&self.tools, Tool::Kubectl, &all, input).await
    }

    /// `helm upgrade --install` for real; what it tells the user.
    async fn install(&self, chart_name: &str, more: &[&str]) -> Result<String> {
        let folder = chart(chart_name).display().to_string();
        let kubeconfig = self.plane.kubeconfig_file().display().to_string();
        let home = self.home.path().display().to_string();
        let mut args = vec!["upgrade", "--install", chart_name, &folder, "--namespace", namespace_of(chart_name)];
        args.extend(["--kubeconfig", &kubeconfig, "--repository-cache", &home, "--repository-config"]);
        let repositories = format!("{home}/repositories.yaml");
        args.push(&repositories);
        args.extend(more);
        say(&self.tools, Tool::Helm, &args, "").await?.good(&format!("install {chart_name} {more:?}"))
    }

    /// Waits until this many pods of an owner exist, and nothing refused one.
    async fn pods(&self, namespace: &str, owner: &str, count: usize) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        wait::until(PATIENCE, format!("{count} pods of the {owner} in {namespace}"), || async {
            let refused = events.list(&ListParams::default()).await.map_err(|e| e.to_string());
            let refused: Vec<String> = match refused {
                Ok(list) => list
                    .items
                    .into_iter()
                    .filter(|event| event.reason.as_deref() == Some("FailedCreate"))
                    .filter_map(|event| event.message)
                    .collect(),
                Err(error) => return wait::Seen::NotYet(error),
            };
            if !refused.is_empty() {
                return wait::Seen::Never(refused.join("; "));
            }
            match pods.list(&ListParams::default()).await {
                Ok(list) => {
                    let owned = list.items.iter().filter(|pod| {
                        pod.metadata.deletion_timestamp.is_none()
                            && pod.metadata.owner_references.iter().flatten().any(|o| o.kind == owner)
                    });
                    let there = owned.count();
                    if there == count { wait::Seen::Done(()) } else { wait::Seen::NotYet(format!("{there} pods")) }
                }
                Err(error) => wait::Seen::NotYet(error.to_string()),
            }
        })
        .await?;
        Ok(())
    }
}

/// One cluster for all of it: each step begins where the one before ended.
#[tokio::test]
async fn charts_on_a_real_cluster() -> Result<()> {
    let world = World::start().await?;
    pods_that_break_the_standard_are_refused(&world).await?;
    every_case_is_accepted(&world).await?;
    let notes = world.install("driftless-agent", &[]).await?;
    ensure!(notes.contains("NO JOIN TOKEN") && notes.contains("cluster-admin"), "{notes}");
    world.pods(AGENT_NAMESPACE, "DaemonSet", 2).await?;
    the_agent_may_do_this_and_no_more(&world).await?;
    definitions_are_upgraded_and_kept(&world).await?;
    the_agent_is_upgraded(&world).await?;
    the_hub_is_installed_and_upgraded(&world).await?;
    world.plane.stop().await
}

/// Without this the checks of admission below would prove nothing.
async fn pods_that_break_the_standard_are_refused(world: &World) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), AGENT_NAMESPACE);
    let pod = json!({"metadata": {"name": "loose"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let refusal = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await;
    let text = refusal.err().context("a loose pod was admitted")?.to_string();
    ensure!(text.contains("violates PodSecurity"), "{text}");
    Ok(())
}

async fn every_case_is_accepted(world: &World) -> Result<()> {
    for (case, chart_name) in CASES {
        let rendered = render(&world.tools, case, chart_name).await?;
        // A pod template that breaks the standard is a warning here, and warnings are errors.
        let args = ["--warnings-as-errors", "apply", "--server-side", "--dry-run=server", "-f", "-"];
        let said = world.kubectl(world.plane.kubeconfig_file(), &args, &rendered).await?;
        said.good(&format!("apply {case}"))?;
    }
    Ok(())
}

/// `verb group/resource name`, one per line of the account's rules in a namespace.
async fn rules(client: &Client, namespace: &str) -> Result<BTreeSet<String>> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let status = Api::<SelfSubjectRulesReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    let status = status.status.context("no rules in the answer")?;
    ensure!(!status.incomplete, "{:?}", status.evaluation_error);
    let mut all = BTreeSet::new();
    for rule in status.resource_rules {
        for verb in &rule.verbs {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let names = rule.resource_names.clone().filter(|n| !n.is_empty());
                    for name in names.unwrap_or_else(|| vec!["any".into()]) {
                        all.insert(format!("{verb} {group}/{resource} {name}"));
                    }
                }
            }
        }
    }
    Ok(all)
}

async fn the_agent_may_do_this_and_no_more(world: &World) -> Result<()> {
    let access = world.plane.token_for(AGENT_NAMESPACE, "driftless-agent").await?;
    let agent = access.client().await?;
    // What every account may: ask about itself.
    let everybody: BTreeSet<String> = rules(
        &{
            let accounts = world.plane.token_for("team-a", "default").await?;
            accounts.client().await?
        },
        "team-a",
    )
    .await?;
    let mut wanted = everybody.clone();
    // Its own kinds, everywhere.
    wanted.extend(
        [
            "get driftless.dev/pauses any",
            "list driftless.dev/pauses any",
            "watch driftless.dev/pauses any",
            "patch driftless.dev/pauses/status any",
            "get driftless.dev/units any",
            "list driftless.dev/units any",
            "watch driftless.dev/units any",
            "create driftless.dev/units any",
            "patch driftless.dev/units any",
            "delete driftless.dev/units any",
            "patch driftless.dev/units/status any",
            "create events.k8s.io/events any",
            "patch events.k8s.io/events any",
        ]
        .map(str::to_owned),
    );
    let everywhere = wanted.clone();
    wanted.extend(
        [
            "get /configmaps any",
            "list /configmaps any",
            "create /configmaps any",
            "update /configmaps any",
            "delete /configmaps any",
            "get /secrets any",
            "create /secrets any",
            "delete /secrets any",
            "update /secrets driftless-identity",
            "create coordination.k8s.io/leases any",
            "get coordination.k8s.io/leases driftless-agent",
            "update coordination.k8s.io/leases driftless-agent",
            "impersonate /serviceaccounts driftless-applier",
        ]
        .map(str::to_owned),
    );
    let found = rules(&agent, AGENT_NAMESPACE).await?;
    ensure!(found == wanted, "rights beyond: {:?}; missing: {:?}", &found - &wanted, &wanted - &found);
    ensure!(!found.iter().any(|rule| rule.contains('*')), "a wildcard: {found:?}");
    for namespace in ["kube-system", "default", "team-a"] {
        let found = rules(&agent, namespace).await?;
        ensure!(found == everywhere, "in {namespace}: {:?}", &found - &everywhere);
    }

    // The same by deed.
    let kubeconfig = world.home.path().join("agent-kubeconfig");
    std::fs::write(&kubeconfig, access.kubeconfig())?;
    let applier = "--as=system:serviceaccount:driftless-system:driftless-applier";
    let deeds: &[(&[&str], bool)] = &[
        (&[applier, "get", "namespace", "kube-system"], true),
        (&[applier, "get", "secrets", "--all-namespaces"], true),
        (&[applier, "get", "customresourcedefinitions"], true),
        (&["get", "pauses", "--all-namespaces"], true),
        (&["delete", "pause", "-n", "driftless-system", "none"], false),
        (&["create", "-n", "team-a", "configmap", "x"], false),
        (&["get", "events.v1.events.k8s.io", "-n", "team-a"], false),
        (&["get", "--raw", "/version"], true),
        (&["get", "--raw", "/apis"], true),
        (&["get", "configmaps", "-n", "driftless-system"], true),
        (&["get", "configmaps", "-n", "default"], false),
        (&["get", "namespace", "kube-system"], false),
        (&["get", "secrets", "-n", "driftless-system"], false), // a list
        (&["get", "secrets", "-n", "kube-system"], false),
        (&["get", "lease", "-n", "driftless-system", "another"], false),
        (&["create", "serviceaccount", "-n", "driftless-system", "more"], false),
        (&["create", "token", "-n", "driftless-system", "driftless-applier"], false),
        (&[applier, "--as-group=system:masters", "get", "namespace", "kube-system"], false),
        (&["--as=system:serviceaccount:kube-system:default", "get", "namespaces"], false),
        (&["--as=system:serviceaccount:team-a:driftless-applier", "get", "namespaces"], false),
        (&["--as=system:serviceaccount:driftless-system:default", "get", "namespaces"], false),
        (&["--as=admin", "get", "namespaces"], false),
    ];
    for (args, allowed) in deeds {
        let said = world.kubectl(&kubeconfig, args, "").await?;
        ensure!(said.ok == *allowed, "{args:?} should be allowed: {allowed}; {}{}", said.out, said.err);
        ensure!(*allowed || said.err.contains("orbidden"), "{args:?} failed for another reason: {}", said.err);
    }
    Ok(())
}

/// A definition that an older chart installed gets what the newer one says, and stays when the release goes.
async fn definitions_are_upgraded_and_kept(world: &World) -> Result<()> {
    let admin = world.plane.kubeconfig_file();
    let patch = r#"[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]"#;
    let args = ["patch", "crd", "pauses.driftless.dev", "--type=json", "-p", patch];
    world.kubectl(admin, &args, "").await?.good("make it older")?;
    let pause = "apiVersion: driftless.dev/v1alpha1\nkind: Pause\nmetadata: {name: kept, namespace: team-a}\nspec: {reason: test, \
                 expires: \"2100-01-01T00:00:00Z\", unit: {name: a}}\n";
    world.kubectl(admin, &["apply", "-f", "-"], pause).await?.good("make a pause")?;
    // helm sees no difference between its two manifests: only a changed one is sent.
    world.install("driftless-agent", &["--set", "crds.keep=false"]).await?;
    world.install("driftless-agent", &["--reset-values"]).await?;
    let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
    let columns =
        world.kubectl(admin, &["get", "crd", "pauses.driftless.dev", "-o", path], "").await?.good("read it")?;
    ensure!(columns.contains("Expires"), "not upgraded: {columns}");
    world.install("driftless-agent", &["--set", "crds.install=false"]).await?;
    let kept = world.kubectl(admin, &["get", "-n", "team-a", "pause", "kept"], "").await?;
    kept.good("the pause is there without the chart's definitions")?;
    world.install("driftless-agent", &["--reset-values"]).await?;
    world.kubectl(admin, &["delete", "-n", "team-a", "pause", "kept"], "").await?.good("delete it")?;
    Ok(())
}

async fn the_agent_is_upgraded(world: &World) -> Result<()> {
    // A Deployment instead of the DaemonSet, another account and another role: nothing of it can be edited in place.
    let values = golden("agent-narrow.values.yaml").display().to_string();
    let notes = world.install("driftless-agent", &["--values", &values]).await?;
    ensure!(notes.contains("SHADOW") && !notes.contains("NO JOIN TOKEN"), "{notes}");
    world.pods(AGENT_NAMESPACE, "ReplicaSet", 3).await?;
    world.pods(AGENT_NAMESPACE, "DaemonSet", 0).await?;

    let agent = world.plane.token_for(AGENT_NAMESPACE, "driftless-agent").await?.client().await?;
    let cases: &[(&str, &[&str])] = &[
        (AGENT_NAMESPACE, &["platform", "tenant"]),
        ("team-a", &["deployer", "reconciler", "tenant"]),
        ("team-b", &["reconciler", "tenant"]),
        ("default", &["tenant"]),
    ];
    for (namespace, names) in cases {
        let wanted: BTreeSet<String> = names.iter().map(|n| format!("impersonate /serviceaccounts {n}")).collect();
        // The authorizer follows its watches: rights of a moment ago may still be seen.
        wait::until(PATIENCE, format!("exactly these accounts in {namespace}"), || async {
            let found = rules(&agent, namespace).await.map_err(|e| format!("{e:#}"))?;
            let found: BTreeSet<String> = found.into_iter().filter(|r| r.starts_with("impersonate")).collect();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await?;
    }

    // And back, which helm must do without leftovers.
    world.install("driftless-agent", &["--reset-values"]).await?;
    world.pods(AGENT_NAMESPACE, "DaemonSet", 2).await?;
    world.pods(AGENT_NAMESPACE, "ReplicaSet", 0).await?;
    Ok(())
}

async fn the_hub_is_installed_and_upgraded(world: &World) -> Result<()> {
    let notes = world.install("driftless-hub", &[]).await?;
    for part in ["driftless-hub init --dir hub --address", "root.key", "NO fleet.addresses", "NO sources"] {
        ensure!(notes.contains(part), "{part} is not in {notes}");
    }
    world.pods(HUB_NAMESPACE, "StatefulSet", 1).await?;

    let account = world.plane.token_for(HUB_NAMESPACE, "driftless-hub").await?.client().await?;
    let other = world.plane.token_for("team-a", "default").await?.client().await?;
    ensure!(rules(&account, HUB_NAMESPACE).await? == rules(&other, "team-a").await?, "the hub's account has rights");

    let values = golden("hub-postgres.values.yaml").display().to_string();
    let notes = world.install("driftless-hub", &["--values", &values]).await?;
    ensure!(notes.contains("--address hub.example.com:7443"), "{notes}");
    world.pods(HUB_NAMESPACE, "ReplicaSet", 1).await?;
    world.pods(HUB_NAMESPACE, "StatefulSet", 0).await?;
    Ok(())
}
