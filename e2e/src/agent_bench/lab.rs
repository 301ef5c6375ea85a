//! Where the benchmarks run: one cluster with hub, Git and agent, an audit log, and an account for the peers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use driftless_protocol::marks;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;

use super::audit::{self, Asked, Span, Tail};
use super::objects::Object;
use crate::tools::Tool;
use crate::usage::{self, Memory};
use crate::wait;
use crate::world::{AuditLog, Cluster, ClusterOptions, Content, Options, World, run_program};

pub(super) const CLUSTER: &str = "bench";
/// Long enough for the slowest contestant at the largest size.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pause between two looks into the audit log.
const LOOK: Duration = Duration::from_millis(20);

/// Kinds that the workloads have: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "Service", "services"),
    ("apps", "v1", "Deployment", "deployments"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
];

/// See the module.
pub(super) struct Lab {
    pub(super) world: World,
    /// The peers' way in.
    pub(super) peer: Client,
    tail: Tail,
    pub(super) kubeconfig: PathBuf,
    /// Files of this run.
    pub(super) folder: TempDir,
}

/// What `kubectl` did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kubectl {
    /// Seconds, from start to end of the program.
    pub(super) wall: f64,
    /// Lines of its output that begin so.
    pub(super) diffs: usize,
}

impl Lab {
    pub(super) async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("driftless-bench-").tempdir().context("create a folder")?;
        let audit = AuditLog::with_rules(folder.path(), audit::RULES)?;
        let mut cluster = ClusterOptions::new(CLUSTER);
        cluster.api_server_args = audit.api_server_args();
        cluster.api_server_args.push("--audit-log-maxsize=4096".to_owned());
        // All cores: peers and agent are measured against a server that is not held back.
        cluster.go_max_procs = None;
        let first = folder.path().join("first");
        Content::new().root(CLUSTER).write(&first)?;
        let mut options = Options::new(vec![cluster]);
        options.content = first;
        let world = World::start(options, &mut |text| eprintln!("{text}")).await?;
        let there = &world.cluster(CLUSTER).plane;
        let admin = there.client();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": "bench" } }))?;
        accounts.create(&PostParams::default(), &account).await.context("create the peers' account")?;
        let bindings: Api<ClusterRoleBinding> = Api::all(admin);
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": { "name": "bench" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": "bench", "namespace": "default" }],
        }))?;
        bindings.create(&PostParams::default(), &binding).await.context("give the peers' account its rights")?;
        let access = there.token_for("default", "bench").await?;
        let kubeconfig = folder.path().join("peer-kubeconfig.yaml");
        crate::certs::write_private(&kubeconfig, &access.kubeconfig())?;
        let tail = Tail::new(audit.file());
        let lab = Self { peer: access.client().await?, world, tail, kubeconfig, folder };
        // Where the Flux objects are, and so the agent's Unit objects, as in every cluster that Flux runs in.
        lab.namespaces(&["flux-system".to_owned()]).await?;
        let commit = lab.world.repo.head().await?;
        lab.world.wait_fetched(&commit).await?;
        Ok(lab)
    }

    pub(super) fn cluster(&self) -> &Cluster {
        self.world.cluster(CLUSTER)
    }

    pub(super) fn admin(&self) -> Client {
        self.cluster().plane.client()
    }

    /// Makes those of these namespaces that are not there yet.
    pub(super) async fn namespaces(&self, names: &[String]) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.admin());
        for name in names {
            let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
            if api.get_opt(name).await?.is_none() {
                api.create(&PostParams::default(), &namespace)
                    .await
                    .with_context(|| format!("create namespace {name}"))?;
            }
        }
        Ok(())
    }

    /// Commits and pushes; answers with the commit and the moment at which it was pushed. The hub is told at once, as by
    /// a webhook.
    pub(super) async fn push(&mut self, content: &Content, message: &str) -> Result<(String, f64)> {
        let commit = content.commit(&mut self.world, message).await?;
        let pushed = audit::now();
        self.world.cli(&["reconcile"]).await?;
        Ok((commit, pushed))
    }

    /// Forgets what was logged so far.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.tail.news().map(drop)
    }

    pub(super) fn news(&mut self) -> Result<Vec<Asked>> {
        self.tail.news()
    }

    /// Waits until the agent's writes in these namespaces are so many.
    pub(super) async fn written(&mut self, namespaces: impl Fn(&str) -> bool, count: usize) -> Result<Span> {
        self.written_by(audit::AGENT, namespaces, count).await
    }

    /// Waits until this user's writes in these namespaces are so many.
    pub(super) async fn written_by(
        &mut self,
        user: &str,
        namespaces: impl Fn(&str) -> bool,
        count: usize,
    ) -> Result<Span> {
        let (begin, mut span) = (Instant::now(), Span::default());
        while span.count < count {
            for asked in self.tail.news()? {
                if asked.user == user && namespaces(&asked.namespace) && asked.writes_in(&asked.namespace) {
                    span.add(&asked);
                }
            }
            ensure!(begin.elapsed() < PATIENCE, "{user} wrote {} of {count} objects", span.count);
            tokio::time::sleep(LOOK).await;
        }
        Ok(span)
    }

    /// Waits until every unit is as this commit says, and so many there are.
    pub(super) async fn at(&self, commit: &str, units: usize) -> Result<()> {
        wait::until(PATIENCE, format!("{units} units to run commit {}", &commit[..8]), || async {
            let rows = self.world.units().await.map_err(|e| format!("{e:#}"))?;
            let there = rows.iter().filter(|u| {
                u.ready == driftless_protocol::report::Ready::True
                    && !u.stale
                    && u.revision.as_deref().is_some_and(|r| r.ends_with(commit))
            });
            // And the root.
            let (there, all) = (there.count(), rows.len());
            if there == units + 1 && all == there { Ok(()) } else { Err(format!("{there} of {all}")) }
        })
        .await?;
        Ok(())
    }

    /// Leaves nothing: the agent forgets, as prune is off, and the objects are deleted by hand.
    pub(super) async fn clear(&mut self, namespaces: &[String]) -> Result<()> {
        let (commit, _) = self.push(&Content::new().root(CLUSTER), "nothing").await?;
        self.at(&commit, 0).await?;
        wait::until(PATIENCE, "the agent to forget", || async {
            let detail = self.world.units().await.map_err(|e| format!("{e:#}"))?;
            if detail.len() == 1 { Ok(()) } else { Err(format!("{} units", detail.len())) }
        })
        .await?;
        self.delete(namespaces).await
    }

    /// Deletes everything in these namespaces that the workloads have.
    pub(super) async fn delete(&self, namespaces: &[String]) -> Result<()> {
        for namespace in namespaces {
            for (group, version, kind, plural) in KINDS {
                let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
                let api: Api<DynamicObject> = Api::namespaced_with(self.admin(), namespace, &resource);
                let ours = ListParams::default().labels("app.kubernetes.io/name");
                api.delete_collection(&DeleteParams::default(), &ours)
                    .await
                    .with_context(|| format!("delete the {plural} of {namespace}"))?;
            }
        }
        Ok(())
    }

    /// Waits until what controllers made for deleted objects is gone too, and they rest.
    pub(super) async fn gone(&self, namespace: &str) -> Result<()> {
        let made = [
            ("apps", "v1", "ReplicaSet", "replicasets"),
            ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        ];
        for (group, version, kind, plural) in KINDS.into_iter().chain(made) {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api: Api<DynamicObject> = Api::namespaced_with(self.admin(), namespace, &resource);
            // Every namespace has an account and a ConfigMap of its own.
            let left = if matches!(kind, "ServiceAccount" | "ConfigMap") { 1 } else { 0 };
            wait::until(PATIENCE, format!("the {plural} of {namespace} to be gone"), || async {
                let some = api.list_metadata(&ListParams::default().limit(10)).await.map_err(|e| e.to_string())?;
                if some.items.len() <= left { Ok(()) } else { Err(format!("{} or more", some.items.len())) }
            })
            .await?;
        }
        Ok(())
    }

    /// Fails unless exactly these objects are in the cluster, each with its labels and data, and ours.
    pub(super) async fn check(&self, objects: &[Object], ours: bool) -> Result<()> {
        let mut wanted: std::collections::BTreeMap<(String, String, String), &Object> = objects
            .iter()
            .map(|object| {
                let text = |p: &str| object.value.pointer(p).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                ((text("/kind"), text("/metadata/namespace"), text("/metadata/name")), object)
            })
            .collect();
        for (group, version, kind, plural) in KINDS {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api: Api<DynamicObject> = Api::all_with(self.admin(), &resource);
            for live in api.list(&ListParams::default().labels("app.kubernetes.io/name")).await?.items {
                let namespace = live.metadata.namespace.clone().unwrap_or_default();
                let name = live.metadata.name.clone().unwrap_or_default();
                let Some(object) = wanted.remove(&(kind.to_owned(), namespace, name)) else { continue };
                let labels = live.metadata.labels.clone().unwrap_or_default();
                let same =
                    object.value.pointer("/metadata/labels").and_then(|l| l.as_object()).is_none_or(|declared| {
                        declared.iter().all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str())
                    });
                let data = object.value.get("data").is_none_or(|data| live.data.get("data") == Some(data));
                ensure!(same && data, "{} is not as declared", object.path());
                ensure!(labels.contains_key(marks::UNIT_LABEL) == ours, "{} is of somebody else", object.path());
            }
        }
        ensure!(wanted.is_empty(), "{} objects are missing, among them {:?}", wanted.len(), wanted.keys().next());
        Ok(())
    }

    /// Runs kubectl as the peer on a file with these objects.
    pub(super) async fn kubectl(&self, verb: &[&str], file: &str) -> Result<Kubectl> {
        let path = self.folder.path().join("peer.yaml");
        std::fs::write(&path, file).with_context(|| format!("write {}", path.display()))?;
        let kubectl = self.cluster().plane.tools().path(Tool::Kubectl)?.to_path_buf();
        let mut args = vec!["--kubeconfig".to_owned(), self.kubeconfig.display().to_string()];
        args.extend(verb.iter().map(|a| (*a).to_owned()));
        args.extend(["--server-side".to_owned(), "--force-conflicts".into(), "-f".into(), path.display().to_string()]);
        let begin = Instant::now();
        let answer = run_program(&kubectl, &args, None, PATIENCE).await?;
        let wall = begin.elapsed().as_secs_f64();
        let code = answer.code.context("kubectl was killed")?;
        ensure!(code == 0 || (verb == ["diff"] && code == 1), "kubectl {verb:?}: {}", answer.stderr.trim());
        let diffs = answer.stdout.lines().filter(|line| line.starts_with("diff ")).count();
        Ok(Kubectl { wall, diffs })
    }

    /// The agent's process.
    pub(super) fn agent(&self) -> Result<u32> {
        self.cluster().agent_id().context("the agent runs")
    }

    /// CPU seconds of the agent so far.
    pub(super) fn agent_cpu(&self) -> Result<f64> {
        Ok(usage::cpu(self.agent()?).context("the CPU time of the agent")?.as_secs_f64())
    }

    pub(super) fn agent_memory(&self) -> Result<Memory> {
        usage::memory(self.agent()?).context("the memory of the agent")
    }

    /// What the agent's process costs while nothing happens, in CPU seconds per second.
    pub(super) async fn agent_idle(&self, time: Duration) -> Result<f64> {
        let (before, begin) = (self.agent_cpu()?, Instant::now());
        tokio::time::sleep(time).await;
        Ok((self.agent_cpu()? - before) / begin.elapsed().as_secs_f64())
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.world.stop().await
    }
}

/// A unit of this name whose objects are in `folder`, and which is not pruned.
pub(super) fn unit(content: Content, name: &str, folder: &str, more: &str) -> Content {
    content.unit(CLUSTER, name, &format!("./{folder}"), more).replace(
        &format!("clusters/{CLUSTER}/{name}.yaml"),
        "prune: true",
        "prune: false",
    )
}

/// Objects as files of at most so many.
pub(super) fn files(mut content: Content, folder: &str, objects: &[Object]) -> Content {
    for (n, part) in objects.chunks(100).enumerate() {
        content = content.with(&format!("{folder}/objects-{n:03}.yaml"), super::objects::file(part));
    }
    content
}
