//! The hub as a process, on its embedded store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Options as WorldOptions;
use super::programs::{Programs, run};
use crate::git::GitServer;
use crate::process::{Launch, Process};
use crate::wait;

/// Settings of the hub.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Seconds between two looks at a source.
    pub poll_seconds: u64,
    /// Root folder per cluster, where it is not `clusters/<name>`.
    pub roots: BTreeMap<String, String>,
    /// What it logs.
    pub log_level: String,
}

impl Default for HubOptions {
    fn default() -> Self {
        // A poll a second stands in for the webhook that a Git host would send.
        Self { poll_seconds: 1, roots: BTreeMap::new(), log_level: "info".to_owned() }
    }
}

/// A running hub.
#[derive(Debug)]
pub struct Hub {
    launch: Launch,
    process: Option<Process>,
    address: String,
    context: PathBuf,
}

impl Hub {
    pub(super) async fn start(
        programs: &Programs,
        folder: &Path,
        git: &GitServer,
        world: &WorldOptions,
    ) -> Result<Self> {
        let data = folder.join("hub");
        let [agents, admin] = crate::ports::free::<2>().context("find ports")?;
        let address = format!("127.0.0.1:{agents}");
        let admin = format!("127.0.0.1:{admin}");
        let dir = data.display().to_string();
        let args = ["init", "--dir", &dir, "--address", &address, "--listen", &address, "--admin-listen", &admin]
            .map(str::to_owned);
        let made = run(&programs.hub, &args, None, Duration::from_secs(60)).await?;
        if made.code != Some(0) {
            bail!("driftless-hub init: {}", made.stderr.trim());
        }
        let config = data.join("hub.yaml");
        complete(&config, git, world)?;

        let launch = Launch::new("hub", &programs.hub, folder.join("hub.log"))
            .args(["run", "--config"])
            .args([config.display().to_string()])
            .args(["--log-level", &world.hub.log_level]);
        let mut hub = Self { launch, process: None, address, context: data.join("context.yaml") };
        hub.start_again().await?;
        Ok(hub)
    }

    /// Where agents connect.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The context file of its administrator.
    #[must_use]
    pub fn context_file(&self) -> &Path {
        &self.context
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it (again) and waits until its admin API listens.
    ///
    /// # Errors
    /// It ended at once; the message has the end of its log.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut process = Process::start(self.launch.clone()).context("start the hub")?;
        let text = std::fs::read_to_string(&self.context).context("read the context file")?;
        let context: driftless_protocol::api::Context =
            serde_saphyr::from_str(&text).context("read the context file")?;
        let address = context.address;
        wait::until(Duration::from_secs(30), "the hub's admin API", || {
            let obituary = process.obituary();
            let address = address.clone();
            async move {
                match obituary {
                    Some(text) => wait::Seen::Never(text),
                    None => match tokio::net::TcpStream::connect(&address).await {
                        Ok(_) => wait::Seen::Done(()),
                        Err(error) => wait::Seen::NotYet(error.to_string()),
                    },
                }
            }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it where it stands.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(15)).await?;
        }
        Ok(())
    }

    /// The files of its database, which must not be open.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn database(&self) -> Result<Vec<PathBuf>> {
        let folder = self.context.parent().context("the hub's folder")?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with("hub.db") {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// `driftless-hub bump-epoch`, on a hub that is stopped.
    ///
    /// # Errors
    /// It failed; the message is its own.
    pub async fn bump_epoch(&self) -> Result<()> {
        let config = self.context.parent().context("the hub's folder")?.join("hub.yaml");
        let args = ["bump-epoch".to_owned(), "--config".into(), config.display().to_string()];
        let done = run(&self.launch.program, &args, None, Duration::from_secs(60)).await?;
        if done.code != Some(0) {
            bail!("driftless-hub bump-epoch: {}", done.stderr.trim());
        }
        Ok(())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        crate::process::tail(&self.launch.log, lines)
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.launch.log
    }
}

/// Adds to the start file what to mirror and where each cluster's root is.
fn complete(config: &Path, git: &GitServer, world: &WorldOptions) -> Result<()> {
    let doing = || format!("complete the start file {}", config.display());
    let text = std::fs::read_to_string(config).with_context(doing)?;
    let mut value: serde_json::Value = serde_saphyr::from_str(&text).with_context(doing)?;
    value["sources"] = json!([{
        "name": "flux-system/flux-system",
        "url": git.repo_url("fleet"),
        "branch": "main",
        "intervalSeconds": world.hub.poll_seconds,
    }]);
    let named: serde_json::Map<String, serde_json::Value> =
        world.hub.roots.iter().map(|(name, path)| (name.clone(), json!({ "root": path }))).collect();
    if !named.is_empty() {
        value["clusters"]["named"] = named.into();
    }
    let text = serde_saphyr::to_string(&value).with_context(doing)?;
    crate::certs::write_private(config, &text).with_context(doing)
}
