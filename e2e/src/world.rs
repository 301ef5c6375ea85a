//! A whole fleet on loopback: Git server, hub, and per cluster a control plane, a ready-maker and an agent.
//!
//! Hub, agents and command line are the built programs, run as processes, so that they can be killed as in life. Each
//! agent runs on a token of the chart's ServiceAccount, in a cluster into which the real `helm` rendered the chart.

mod cluster;
mod content;
mod hub;
mod live;
mod look;
mod programs;
mod steps;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use cluster::{Cluster, ClusterOptions};
pub use content::Content;
pub use hub::{Hub, HubOptions};
pub use live::{AuditEvent, AuditLog, Live, Objects, lost};
pub(crate) use programs::run as run_program;
pub use programs::{Answer, Programs};
pub use steps::Steps;

use crate::git::{GitServer, Options as GitOptions, Repo};
use crate::tools::{Tool, Tools};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clusters, in this order.
    pub clusters: Vec<ClusterOptions>,
    /// What the repository holds first.
    pub content: PathBuf,
    /// The Git server's credentials and TLS.
    pub git: GitOptions,
    /// Settings of the hub.
    pub hub: HubOptions,
    /// What the agents log.
    pub agent_log: String,
}

impl Options {
    /// These clusters on the example mono-repo.
    #[must_use]
    pub fn new(clusters: Vec<ClusterOptions>) -> Self {
        Self {
            clusters,
            content: fleet_repo(),
            git: GitOptions::default(),
            hub: HubOptions::default(),
            agent_log: "info".to_owned(),
        }
    }
}

/// The example mono-repo: `staging` (canary), `production-eu`, `production-us`.
#[must_use]
pub fn fleet_repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fleet-repo")
}

/// A chart of this repository.
#[must_use]
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts").join(name)
}

/// A running fleet. Dropping it ends every process; [`World::stop`] does so in order.
#[derive(Debug)]
pub struct World {
    /// Per cluster.
    pub clusters: Vec<Cluster>,
    /// The hub.
    pub hub: Hub,
    /// The mono-repo.
    pub repo: Repo,
    /// Serves the mono-repo.
    pub git: GitServer,
    /// The built programs.
    pub programs: Programs,
    /// Control-plane programs and oracles.
    pub tools: Arc<Tools>,
    folder: TempDir,
}

impl World {
    /// Starts everything; `say` hears each step, for people who wait.
    ///
    /// # Errors
    /// Something did not start; the message has the end of its log.
    pub async fn start(options: Options, say: &mut (dyn FnMut(String) + Send)) -> Result<Self> {
        let mut world = Self::start_without_agents(options, say).await?;
        for cluster in &mut world.clusters {
            cluster.start_agent()?;
            say(format!("cluster {}: agent running", cluster.name()));
        }
        Ok(world)
    }

    /// Starts everything but the agents: for clusters in which something else runs first. Each has its join token.
    ///
    /// # Errors
    /// As [`World::start`].
    pub async fn start_without_agents(options: Options, say: &mut (dyn FnMut(String) + Send)) -> Result<Self> {
        let wanted = [Tool::Etcd, Tool::ApiServer, Tool::ControllerManager, Tool::Kubectl, Tool::Helm];
        let tools = Arc::new(Tools::prepare_async(&wanted, crate::tools::print_progress).await?);
        let programs = Programs::find()?;
        let folder = tempfile::Builder::new().prefix("driftless-world-").tempdir().context("create a folder")?;

        let git = GitServer::start(options.git.clone()).await.context("start the Git server")?;
        let mut repo = git.create_repo("fleet").await.context("create the mono-repo")?;
        let commit = repo.commit_folder("first", &options.content).await.context("commit the mono-repo")?;
        say(format!("Git server at {}, mono-repo at commit {}", git.url(), &commit[..8]));

        let hub = Hub::start(&programs, folder.path(), &git, &options).await?;
        say(format!("hub at {}", hub.address()));

        let mut world = Self { clusters: Vec::new(), hub, repo, git, programs, tools, folder };
        for cluster in options.clusters {
            let token = world.join_token(&cluster).await?;
            let cluster = Cluster::start(&world, cluster, token, &options.agent_log).await?;
            say(format!("cluster {}: API server at {}", cluster.name(), cluster.plane.url()));
            world.clusters.push(cluster);
        }
        Ok(world)
    }

    /// Starts one more cluster and enrols it.
    ///
    /// # Errors
    /// As [`World::start`].
    pub async fn add_cluster(&mut self, options: ClusterOptions, agent_log: &str) -> Result<()> {
        let token = self.join_token(&options).await?;
        self.add_cluster_with(options, token, agent_log).await
    }

    /// Starts one more cluster whose agent finds this text as its join token.
    ///
    /// # Errors
    /// As [`World::start`]. That the token is of use is not waited for.
    pub async fn add_cluster_with(&mut self, options: ClusterOptions, token: String, agent_log: &str) -> Result<()> {
        let mut cluster = Cluster::start(self, options, token, agent_log).await?;
        cluster.start_agent()?;
        self.clusters.push(cluster);
        Ok(())
    }

    /// A join token for a cluster, from the command line as an operator would.
    ///
    /// # Errors
    /// The hub refused.
    pub async fn join_token(&self, options: &ClusterOptions) -> Result<String> {
        let mut args = vec!["cluster".to_owned(), "join-token".into(), "--name".into(), options.name.clone()];
        for (key, value) in &options.labels {
            args.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        let answer = self.cli(&args.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        if answer.code != Some(0) {
            bail!("no join token for {}: {}", options.name, answer.stderr);
        }
        Ok(answer.stdout.trim().to_owned())
    }

    /// Runs `driftless` with the context file of this hub.
    ///
    /// # Errors
    /// It could not be run. Its own failures are in the answer.
    pub async fn cli(&self, args: &[&str]) -> Result<Answer> {
        let mut all = vec!["--context".to_owned(), self.hub.context_file().display().to_string()];
        all.extend(args.iter().map(|a| (*a).to_owned()));
        self.programs.cli(&all, Duration::from_secs(150)).await
    }

    /// Runs `driftless ... -o json` and reads the answer.
    ///
    /// # Errors
    /// It failed, or did not answer with JSON.
    pub async fn ask<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let answer = self.cli(&all).await?;
        if answer.code != Some(0) {
            bail!("driftless {}: {}", args.join(" "), answer.stderr.trim());
        }
        serde_json::from_str(&answer.stdout).with_context(|| format!("read the answer of driftless {}", args.join(" ")))
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// When there is none: a mistake of the test.
    #[must_use]
    pub fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.iter().find(|c| c.name() == name).unwrap_or_else(|| panic!("no cluster {name}"))
    }

    /// The same, to steer its agent.
    ///
    /// # Panics
    /// When there is none: a mistake of the test.
    #[must_use]
    pub fn cluster_mut(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|c| c.name() == name).unwrap_or_else(|| panic!("no cluster {name}"))
    }

    /// Where logs, keys and kubeconfigs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends everything in order: agents, hub, control planes, Git server.
    ///
    /// # Errors
    /// A process could not be ended.
    pub async fn stop(mut self) -> Result<()> {
        for cluster in &mut self.clusters {
            cluster.stop_agent().await?;
        }
        self.hub.stop().await?;
        for cluster in self.clusters.drain(..) {
            cluster.stop().await?;
        }
        self.git.stop().await;
        Ok(())
    }

    /// The last lines of every log, for the message of a failure.
    pub async fn logs(&self, lines: usize) -> String {
        let mut text = format!("--- hub\n{}", self.hub.log_tail(lines));
        for cluster in &self.clusters {
            text.push_str(&format!("\n--- agent of {}\n{}", cluster.name(), cluster.agent_log_tail(lines)));
            text.push_str(&format!("\n--- cluster {}\n{}", cluster.name(), cluster.plane.logs(lines / 4).await));
        }
        text
    }
}
