//! Steps under faults, and with an agent that is killed: a commit, trouble, and then everything is as declared again.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_protocol::api::DeleteList;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tempfile::TempDir;

use super::declared::{self, Declared, NAMESPACE, Step};
use super::oracle::{AUDIT_RULES, Oracle, Verdict};
use super::rules::Rule;
use super::things::{FINALIZER, LATE, SPACE, Thing};
use crate::tools::{self, Tool, Tools};
use crate::wait;
use crate::world::{AuditLog, ClusterOptions, Options, World};

const CLUSTER: &str = "one";
/// For everything to be as declared after a fault: the longest pause between tries is a minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// For a request to come that an agent is to be killed at.
const REACHED: Duration = Duration::from_secs(45);
/// Looks at the inventory, four a second, until it is exact: a write that failed is tried again within a minute.
const INVENTORY_LOOKS: usize = 360;
/// Deletes that an hour sees before approval is needed, less what a step may ask for.
const DELETES: usize = 17;
/// How long a deletion is held up by a finalizer: time for the agent to come back and look.
const SLOW: Duration = Duration::from_secs(2);
/// ConfigMaps in the units' namespace that nobody declares.
const FOREIGN: [&str; 2] = ["foreign", "stays-foreign"];

/// What goes wrong during a step.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// These faults.
    Faults(Vec<Rule>),
    /// Watches are cut again and again, beside these faults.
    Cuts(Vec<Rule>),
    /// The agent is killed at the request that this rule stalls, and started again.
    Kill(Rule),
    /// The API server ends in order as soon as the agent writes, and comes back.
    ApiServerRestarts,
    /// The API server is killed as soon as the agent writes, and comes back.
    ApiServerDies,
}

/// What somebody does by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// A field, which is taken over and removed.
    Adds,
    /// The whole object, which is made anew.
    Deletes,
}

/// A fleet of one cluster behind a fault proxy.
#[derive(Debug)]
pub struct Rig {
    world: World,
    oracle: Oracle,
    declared: Declared,
    serial: usize,
    deletes: usize,
    // Last: the API server writes into it.
    folder: TempDir,
}

/// What a step came to.
#[derive(Debug)]
pub struct Outcome {
    /// By the oracle.
    pub verdict: Verdict,
    /// How often a fault struck.
    pub struck: usize,
    /// What is not exact in the inventory, in words.
    pub inventory: Vec<String>,
}

impl Outcome {
    /// Nothing is wrong.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.verdict.clean() && self.inventory.is_empty()
    }
}

impl Rig {
    /// Starts it with so many objects that never leave.
    ///
    /// # Errors
    /// Something did not start, or the first commit was not applied.
    pub async fn start(objects: usize, say: &mut (dyn FnMut(String) + Send)) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("driftless-faults-").tempdir().context("create a folder")?;
        let audit = AuditLog::with_rules(folder.path(), AUDIT_RULES)?;
        let mut cluster = ClusterOptions::new(CLUSTER);
        cluster.api_server_args = audit.api_server_args();
        cluster.faults = true;
        let declared = Declared::new(objects);
        let first = folder.path().join("first");
        declared.content(CLUSTER).write(&first)?;
        let mut options = Options::new(vec![cluster]);
        options.content = first;
        let world = World::start(options, say).await?;
        let client = world.cluster(CLUSTER).plane.client();
        let there = world.cluster(CLUSTER);
        let known = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": LATE.0, "namespace": "flux-system"},
            "stringData": {LATE.0: LATE.1}});
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [home, known]});
        there
            .kubectl_with(&["apply", "-f", "-"], Some(&list.to_string()))
            .await
            .context("make what only the cluster has")?;
        let tools = Tools::prepare_async(&[Tool::KustomizeController], tools::print_progress).await?;
        crate::flux::define_all(&client, &tools).await?;
        let oracle = Oracle::new(client.clone(), audit.file(), &FOREIGN);
        let rig = Self { world, oracle, declared, serial: 0, deletes: 0, folder };
        let commit = rig.world.repo.head().await?;
        rig.settle(&commit, true).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        for name in FOREIGN {
            let map: ConfigMap =
                serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "value": "x" } }))?;
            maps.create(&PostParams::default(), &map).await.with_context(|| format!("create {name}"))?;
        }
        Ok(rig)
    }

    /// One step, with trouble, until everything is as declared.
    ///
    /// # Errors
    /// It did not become so in time, or the trouble could not be made.
    pub async fn step(&mut self, step: Step, trouble: Trouble) -> Result<Outcome> {
        if self.deletes + step.prunes() > DELETES {
            self.begin_budget_anew().await?;
        }
        if step.prunes() > 0 && self.declared.0.keys().filter(|name| name.starts_with("comes-")).count() < step.prunes()
        {
            self.quiet(Step::Create).await?;
        }
        if let Some((thing, there)) = step.needs().filter(|(thing, there)| self.declared.holds(*thing) != *there) {
            self.quiet(if there { Step::Come(thing) } else { Step::Leave(thing) }).await?;
        }
        self.deletes += step.prunes();
        self.serial += 1;
        let next = self.declared.after(step, self.serial);
        if step == Step::Leave(Thing::Space) {
            self.hold_up(SPACE, "guard").await?;
        }
        let mut before = self.declared.clone();
        if step == Step::TakeOver {
            // As the unit is Driftless's already, what Flux has of it must not be seen before Git says the same.
            self.world.cluster_mut(CLUSTER).stop_agent().await?;
            let left = self.declared.left_by_flux(self.serial);
            let objects: Vec<_> = left.0.iter().map(|(name, item)| declared::object(name, &item.value)).collect();
            let client = self.world.cluster(CLUSTER).plane.client();
            let revision = format!("main@sha1:{:040}", self.serial);
            crate::flux::leave_suspended(&client, declared::Unit::First.name(), &revision, &objects).await?;
            before.0.extend(left.0);
        }
        self.oracle.begin().await?;
        let faults = match &trouble {
            Trouble::Faults(rules) | Trouble::Cuts(rules) => rules.clone(),
            Trouble::Kill(rule) => vec![rule.clone()],
            Trouble::None | Trouble::ApiServerRestarts | Trouble::ApiServerDies => Vec::new(),
        };
        // What is to be made anew is applied in vain first, and that is not the request meant.
        let later = step.made_anew().is_empty();
        self.proxy()?.set(if later { faults.clone() } else { Vec::new() });
        let message = format!("{step:?} {}", self.serial);
        let commit = next.content(CLUSTER).commit(&mut self.world, &message).await?;
        self.declared = next;
        self.world.cli(&["reconcile"]).await?;
        if step == Step::TakeOver {
            self.world.wait_fetched(&commit).await?;
            self.world.cluster_mut(CLUSTER).start_agent_again()?;
        }
        self.approve(step, if later { None } else { Some(faults) }).await?;
        self.make(&trouble).await?;
        self.let_go(step).await?;
        self.settle(&commit, false).await?;
        if let Trouble::Faults(_) = &trouble {
            // Everything may be done before a fault had its turn: that of the lease, mostly.
            let proxy = self.proxy()?;
            wait::until(REACHED, "the fault to strike", || async { proxy.fired() > 0 }).await?;
        }
        self.proxy()?.nothing_late().await;
        let struck = self.proxy()?.fired();
        self.proxy()?.set(Vec::new());
        let inventory = self.settle(&commit, true).await?;
        let verdict = self.oracle.verdict(&before, &self.declared, step.made_anew()).await?;
        Ok(Outcome { verdict, struck, inventory })
    }

    /// Somebody changes an object by hand, and it is made as declared again; with trouble meanwhile.
    ///
    /// # Errors
    /// As [`Rig::step`].
    pub async fn by_hand(&mut self, hand: Hand, trouble: Trouble) -> Result<Outcome> {
        self.serial += 1;
        if let Trouble::Kill(rule) = &trouble {
            self.proxy()?.set(vec![rule.clone()]);
        }
        let maps = self.maps(NAMESPACE);
        // Another object each time, so that it is no contest.
        let names: Vec<&String> = self.declared.0.keys().filter(|name| name.starts_with("stays-")).collect();
        let name = names.get(self.serial % names.len().max(1)).context("an object to change")?.to_string();
        match hand {
            Hand::Adds => {
                let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
                let patch = json!({ "data": { "by-hand": self.serial.to_string() } });
                maps.patch(&name, &params, &Patch::Merge(&patch)).await.map(drop)
            }
            Hand::Deletes => maps.delete(&name, &DeleteParams::default()).await.map(drop),
        }
        .with_context(|| format!("change {name} by hand"))?;
        self.oracle.begin().await?;
        self.make(&trouble).await?;
        wait::until(PATIENCE, format!("{name} to be as declared again"), || async {
            match maps.get_opt(&name).await.map_err(|e| e.to_string())? {
                None => Err("it is not there".to_owned()),
                Some(live) if live.data.as_ref().is_some_and(|data| data.contains_key("by-hand")) => {
                    Err("the field that was added is there".to_owned())
                }
                Some(_) => Ok(()),
            }
        })
        .await?;
        let struck = self.proxy()?.fired();
        self.proxy()?.set(Vec::new());
        let commit = self.world.repo.head().await?;
        let inventory = self.settle(&commit, true).await?;
        // The one write that heals it is needed; it may have been made before the look that it is held against.
        let mut verdict = self.oracle.verdict(&self.declared, &self.declared, &[]).await?;
        let needed = format!("{name} was written 1 times, 0 needed");
        if let Some(at) = verdict.words.iter().position(|words| *words == needed) {
            verdict.words.remove(at);
            verdict.doubled -= 1;
        }
        Ok(Outcome { verdict, struck, inventory })
    }

    /// A step without trouble that is not judged.
    async fn quiet(&mut self, step: Step) -> Result<()> {
        self.serial += 1;
        self.deletes += step.prunes();
        self.declared = self.declared.after(step, self.serial);
        self.proxy()?.set(Vec::new());
        let commit = self.declared.content(CLUSTER).commit(&mut self.world, "what comes before a step").await?;
        self.world.cli(&["reconcile"]).await?;
        self.approve(step, None).await?;
        self.let_go(step).await?;
        self.settle(&commit, true).await.map(drop)
    }

    /// Waits for the deletes that a step holds for approval, and approves them; `faults` are set in between.
    async fn approve(&self, step: Step, faults: Option<Vec<Rule>>) -> Result<()> {
        if step.held() == 0 {
            return Ok(());
        }
        let lists = wait::until(PATIENCE, "the deletes that need approval to be told", || async {
            let lists: Vec<DeleteList> = self.world.ask(&["get", "deletes"]).await.map_err(|e| format!("{e:#}"))?;
            let held: usize = lists.iter().map(|list| list.objects.len()).sum();
            if held == step.held() { Ok(lists) } else { Err(format!("{lists:?}")) }
        })
        .await?;
        if let Some(faults) = faults {
            self.proxy()?.set(faults);
        }
        for list in lists {
            self.world.text(&["approve", &list.list, "--reason", "the step wants it"]).await?;
        }
        Ok(())
    }

    /// An object of nobody with a finalizer, so that its namespace goes slowly.
    async fn hold_up(&self, namespace: &str, name: &str) -> Result<()> {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name, "finalizers": [FINALIZER]}}))?;
        self.maps(namespace)
            .create(&PostParams::default(), &map)
            .await
            .with_context(|| format!("create {namespace}/{name}"))?;
        Ok(())
    }

    /// Lets an object with a finalizer go, some time after its deletion began.
    async fn let_go(&self, step: Step) -> Result<()> {
        let (namespace, name) = match step {
            Step::Leave(Thing::Slow) => (NAMESPACE, "slow"),
            Step::Leave(Thing::Space) => (SPACE, "guard"),
            _ => return Ok(()),
        };
        wait::until(PATIENCE, format!("the deletion of {name} to begin"), || async {
            match self.maps(namespace).get_opt(name).await.map_err(|e| e.to_string())? {
                Some(map) if map.metadata.deletion_timestamp.is_none() => Err("it is there".to_owned()),
                _ => Ok(()),
            }
        })
        .await?;
        tokio::time::sleep(SLOW).await;
        self.release(namespace, name).await
    }

    /// Removes the finalizer of an object that is being deleted.
    async fn release(&self, namespace: &str, name: &str) -> Result<()> {
        let maps = self.maps(namespace);
        if maps.get_opt(name).await?.is_some_and(|map| map.metadata.deletion_timestamp.is_some()) {
            let none = json!({"metadata": {"finalizers": null}});
            maps.patch(name, &PatchParams::default(), &Patch::Merge(&none)).await.context("remove the finalizer")?;
        }
        Ok(())
    }

    fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.world.cluster(CLUSTER).plane.client(), namespace)
    }

    async fn make(&mut self, trouble: &Trouble) -> Result<()> {
        match trouble {
            Trouble::None | Trouble::Faults(_) => {}
            Trouble::Cuts(_) => {
                for _ in 0..12 {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    self.proxy()?.cut();
                }
            }
            Trouble::Kill(_) => {
                if tokio::time::timeout(REACHED, self.proxy()?.stalled()).await.is_err() {
                    bail!("the agent did not make the request it was to be killed at, within {} s", REACHED.as_secs());
                }
                let cluster = self.world.cluster_mut(CLUSTER);
                cluster.kill_agent()?;
                cluster.start_agent_again()?;
            }
            Trouble::ApiServerRestarts | Trouble::ApiServerDies => {
                let oracle = &self.oracle;
                wait::until(REACHED, "the agent to write", || async { oracle.writes().is_ok_and(|n| n > 0) }).await?;
                let plane = &self.world.cluster(CLUSTER).plane;
                match trouble {
                    Trouble::ApiServerDies => plane.kill_apiserver().await?,
                    _ => plane.stop_apiserver().await?,
                }
                plane.start_apiserver().await?;
            }
        }
        Ok(())
    }

    /// Waits until the hub says that all is applied and the cluster holds it; with `inventory`, until the inventory is
    /// exact, too, and answers with what of it is not.
    async fn settle(&self, commit: &str, inventory: bool) -> Result<Vec<String>> {
        let (declared, oracle) = (&self.declared, &self.oracle);
        wait::until(PATIENCE, "everything to be as declared", || async {
            let words = oracle.differences(declared).await.map_err(|e| format!("{e:#}"))?;
            if words.is_empty() { Ok(()) } else { Err(words.join("; ")) }
        })
        .await?;
        self.world.wait_at(commit).await?;
        if !inventory {
            return Ok(Vec::new());
        }
        let mut last = Vec::new();
        for _ in 0..INVENTORY_LOOKS {
            last = oracle.inventory(declared).await?;
            if last.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(last)
    }

    /// An hour sees some twenty deletes without approval. Instead of waiting for the next, the inventory is made anew
    /// from what is in the cluster, as the agent's own message says how.
    async fn begin_budget_anew(&mut self) -> Result<()> {
        self.world.cluster_mut(CLUSTER).stop_agent().await?;
        let records: Api<ConfigMap> =
            Api::namespaced(self.world.cluster(CLUSTER).plane.client(), driftless_protocol::marks::AGENT_NAMESPACE);
        let shards = ListParams::default().labels("driftless.dev/record=inventory");
        records.delete_collection(&DeleteParams::default(), &shards).await.context("delete the inventory")?;
        self.world.cluster_mut(CLUSTER).start_agent_again()?;
        let commit = self.world.repo.head().await?;
        let left = self.settle(&commit, true).await?;
        ensure!(left.is_empty(), "the inventory was not made anew: {}", left.join("; "));
        self.deletes = 0;
        Ok(())
    }

    /// After a step that failed: without faults and with a fresh agent, everything must become as declared.
    ///
    /// # Errors
    /// It does not, so nothing that follows would mean anything.
    pub async fn recover(&mut self) -> Result<()> {
        self.proxy()?.set(Vec::new());
        self.world.cluster(CLUSTER).plane.start_apiserver().await?;
        let cluster = self.world.cluster_mut(CLUSTER);
        cluster.kill_agent()?;
        cluster.start_agent_again()?;
        // What the step waited for itself.
        let (declared, oracle) = (&self.declared, &self.oracle);
        wait::until(PATIENCE, "what a step that failed had begun", || async {
            for (namespace, name) in [(NAMESPACE, "slow"), (SPACE, "guard")] {
                self.release(namespace, name).await.map_err(|e| format!("{e:#}"))?;
            }
            let lists: Vec<DeleteList> = self.world.ask(&["get", "deletes"]).await.map_err(|e| format!("{e:#}"))?;
            for list in lists {
                self.world
                    .cli(&["approve", &list.list, "--reason", "the step wanted it"])
                    .await
                    .map_err(|e| format!("{e:#}"))?;
            }
            let words = oracle.differences(declared).await.map_err(|e| format!("{e:#}"))?;
            if words.is_empty() { Ok(()) } else { Err(words.join("; ")) }
        })
        .await?;
        let commit = self.world.repo.head().await?;
        self.settle(&commit, true).await.context("after a step that failed, without faults").map(drop)
    }

    fn proxy(&self) -> Result<&super::proxy::FaultProxy> {
        self.world.cluster(CLUSTER).faults()
    }

    /// The last lines of all logs.
    pub async fn logs(&self) -> String {
        self.world.logs(40).await
    }

    /// The world, for [`crate::world::Steps::finish`].
    #[must_use]
    pub fn into_world(self) -> (World, TempDir) {
        (self.world, self.folder)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// A process could not be ended.
    pub async fn stop(self) -> Result<()> {
        self.world.stop().await
    }
}
