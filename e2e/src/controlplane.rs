//! A real Kubernetes control plane as plain processes: etcd, kube-apiserver, kube-controller-manager.
//!
//! For a GitOps agent that is a cluster: no container engine, no kubelet. All of it listens on 127.0.0.1 only, keeps
//! its data in a temporary folder, and is gone when the value is dropped (see [`crate::process`] for what happens if
//! we are killed). Several run side by side: about 0.5 GB of memory each, and ready some five seconds after start.
//!
//! Controllers that need nodes to behave (scheduler, node life cycle) are left out; [`crate::readymaker`] makes pods
//! ready and plays nodes.

mod access;
mod components;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use tempfile::TempDir;
use tokio::sync::Mutex;

pub use access::Access;
use components::{Files, Ports};

use crate::process::{Ended, Process};
use crate::tools::{self, Tool, Tools};
use crate::wait::{self, Seen};

/// How often a start is tried again because another program took a port meanwhile.
const PORT_RACES: u32 = 5;
/// What the API server gets to end after SIGTERM. With watches open it would drain for more than a minute; its state
/// is in etcd, so nothing is lost by cutting that short.
const API_SERVER_GRACE: Duration = Duration::from_secs(3);
/// What etcd and the controller manager get. Both end at once.
const GRACE: Duration = Duration::from_secs(10);

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the cluster in kubeconfigs and messages.
    pub name: String,
    /// The programs; looked up (or built, with progress on standard error) when absent.
    pub tools: Option<Arc<Tools>>,
    /// Run the controller manager. Without it namespaces never go away, nothing is garbage collected, service
    /// accounts appear only by hand and Deployments never progress; and half a core and 90 MB are saved.
    pub controllers: bool,
    /// Controllers to leave out, by name, for a test that plays them.
    pub without_controllers: Vec<String>,
    /// More arguments for the API server, for instance `--audit-log-path`.
    pub api_server_args: Vec<String>,
    /// `GOMAXPROCS` of each process: give 1 to many clusters on few cores.
    pub go_max_procs: Option<u32>,
    /// `GOMEMLIMIT` of each process, for instance `600MiB`.
    pub go_memory_limit: Option<String>,
    /// How long each process may take to become ready. Generous: a first start on a busy machine reads 300 MB of
    /// programs from disk.
    pub ready_within: Duration,
    /// Folder for the temporary data; the system's when absent.
    pub data_in: Option<PathBuf>,
}

impl Options {
    /// The usual: everything on.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tools: None,
            controllers: true,
            without_controllers: Vec::new(),
            api_server_args: Vec::new(),
            go_max_procs: None,
            go_memory_limit: None,
            ready_within: Duration::from_secs(180),
            data_in: None,
        }
    }
}

/// A running control plane.
pub struct ControlPlane {
    options: Options,
    tools: Arc<Tools>,
    ports: Ports,
    files: Files,
    admin: Access,
    client: Client,
    running: Mutex<Running>,
    // Last: the folder goes when the processes are gone.
    folder: TempDir,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("options", &self.options)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// The processes, in the order in which dropping must end them.
#[derive(Debug)]
struct Running {
    manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Option<Process>,
}

/// The end of a start that lost a port to somebody else, or of one that failed for good.
enum StartError {
    PortTaken(String),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for StartError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl ControlPlane {
    /// Starts one and waits until it serves: the API server says ready and, with controllers, the `default` service
    /// account exists.
    ///
    /// # Errors
    /// A program is missing, or does not become ready in time; the message carries the last lines of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let tools = match &options.tools {
            Some(tools) => Arc::clone(tools),
            None => Arc::new(Tools::prepare_async(&Tool::CONTROL_PLANE, tools::print_progress).await?),
        };
        for race in 1..=PORT_RACES {
            match Self::start_once(options.clone(), Arc::clone(&tools)).await {
                Ok(cluster) => return Ok(cluster),
                Err(StartError::PortTaken(detail)) => {
                    tracing::debug!(cluster = %options.name, race, detail, "lost a port to another program");
                }
                Err(StartError::Other(error)) => {
                    return Err(error.context(format!("start control plane {}", options.name)));
                }
            }
        }
        bail!("start control plane {}: other programs took its ports {PORT_RACES} times in a row", options.name)
    }

    async fn start_once(options: Options, tools: Arc<Tools>) -> Result<Self, StartError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("driftless-cluster-");
        let folder = match &options.data_in {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let folder = folder.context("create a folder for the cluster's data")?;
        let ports = Ports::choose().context("choose ports")?;
        let files = Files::write(folder.path(), &options, ports).context("write certificates")?;
        let admin = Access::with_certificate(&options.name, ports.api_server_url(), &files.authority, &files.admin);
        let client = admin.client().await?;
        components::write_kubeconfig(&files, &admin).context("write the kubeconfig")?;

        let running = Mutex::new(Running { manager: None, api_server: None, etcd: None });
        let cluster = Self { options, tools, ports, files, admin, client, running, folder };
        {
            let mut running = cluster.running.lock().await;
            running.etcd = Some(cluster.launch_etcd().await?);
            running.api_server = Some(cluster.launch_api_server().await?);
            if cluster.options.controllers {
                running.manager = Some(cluster.launch_manager().await?);
            }
        }
        Ok(cluster)
    }

    async fn launch_etcd(&self) -> Result<Process, StartError> {
        let launch = components::etcd(self.tools.path(Tool::Etcd)?, &self.files, self.ports, &self.options);
        let address = self.ports.etcd_client_address();
        self.ready(Process::start(launch), || components::etcd_health(address)).await
    }

    async fn launch_api_server(&self) -> Result<Process, StartError> {
        let launch = components::api_server(self.tools.path(Tool::ApiServer)?, &self.files, self.ports, &self.options);
        self.ready(Process::start(launch), || self.readyz()).await
    }

    async fn launch_manager(&self) -> Result<Process, StartError> {
        let program = self.tools.path(Tool::ControllerManager)?;
        let launch = components::manager(program, &self.files, self.ports, &self.options);
        // Made by one controller for the namespace that is always there: proof that controllers run.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), "default");
        self.ready(Process::start(launch), || async { accounts.get("default").await.map(drop).map_err(Into::into) })
            .await
    }

    /// Waits until `check` is content with a process that was just started, or the process ends.
    async fn ready<F>(&self, started: io::Result<Process>, check: impl Fn() -> F) -> Result<Process, StartError>
    where
        F: Future<Output = Result<()>>,
    {
        let mut process = started.map_err(anyhow::Error::from)?;
        let what = format!("{} of cluster {} to be ready", process.name(), self.options.name);
        let waited = wait::until(self.options.ready_within, what, || {
            let obituary = process.obituary();
            let check = &check;
            async move {
                match obituary {
                    Some(obituary) => Seen::Never(obituary),
                    None => check().await.map_or_else(|e| Seen::NotYet(format!("{e:#}")), Seen::Done),
                }
            }
        })
        .await;
        match waited {
            Ok(()) => Ok(process),
            Err(error) if error.hopeless && error.last.contains("address already in use") => {
                Err(StartError::PortTaken(error.last))
            }
            Err(error) if error.hopeless => Err(StartError::Other(error.into())),
            Err(error) => {
                let log = format!("last lines of {}:\n{}", process.log().display(), process.tail(20));
                Err(StartError::Other(anyhow::Error::from(error).context(log)))
            }
        }
    }

    async fn readyz(&self) -> Result<()> {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = tokio::time::timeout(Duration::from_secs(10), self.client.request_text(request)).await;
        answer.context("GET /readyz did not answer in 10 s")?.context("GET /readyz")?;
        Ok(())
    }

    /// Name of the cluster.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// `https://127.0.0.1:<port>`; the same after a restart of the API server.
    pub fn url(&self) -> String {
        self.ports.api_server_url()
    }

    /// The cluster's authority, PEM.
    pub fn authority(&self) -> &str {
        &self.files.authority
    }

    /// The folder with logs and data, until the cluster is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The programs it runs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The administrator's way in (group `system:masters`).
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// Text of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.admin.kubeconfig()
    }

    /// A file with the administrator's kubeconfig, readable by us only; gone when the cluster is dropped.
    pub fn kubeconfig_file(&self) -> &Path {
        &self.files.kubeconfig
    }

    /// The administrator's client. Nothing is retried behind its back.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A way in with nothing but a token of this service account, which must exist. The token lives for an hour.
    ///
    /// # Errors
    /// The account does not exist, or the API server refuses.
    pub async fn token_for(&self, namespace: &str, account: &str) -> Result<Access> {
        let token = access::request_token(self.client(), namespace, account).await?;
        Ok(Access::with_token(&self.options.name, self.url(), &self.files.authority, &token))
    }

    /// Process id of the API server while it runs, to freeze it or to read its memory.
    pub async fn api_server_id(&self) -> Option<u32> {
        self.running.lock().await.api_server.as_ref().map(Process::id)
    }

    /// The last lines of every log, for the message of a failed test.
    pub async fn logs(&self, lines: usize) -> String {
        let running = self.running.lock().await;
        let parts = [&running.etcd, &running.api_server, &running.manager];
        let texts = parts.into_iter().flatten().map(|p| format!("{}:\n{}", p.log().display(), p.tail(lines)));
        texts.collect::<Vec<_>>().join("\n")
    }

    /// Stops the API server: requests are refused until [`start_apiserver`](Self::start_apiserver). Data stay.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub async fn stop_apiserver(&self) -> Result<()> {
        if let Some(mut server) = self.running.lock().await.api_server.take() {
            server.stop(API_SERVER_GRACE).await.context("stop the API server")?;
        }
        Ok(())
    }

    /// Kills the API server as a crash would.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub async fn kill_apiserver(&self) -> Result<()> {
        if let Some(mut server) = self.running.lock().await.api_server.take() {
            server.kill().context("kill the API server")?;
        }
        Ok(())
    }

    /// Sends a signal to the API server: `STOP` makes one that hangs, `CONT` ends that.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub async fn signal_apiserver(&self, signal: rustix::process::Signal) -> Result<()> {
        match &mut self.running.lock().await.api_server {
            Some(server) => server.signal(signal).context("signal the API server"),
            None => bail!("signal the API server: it is stopped"),
        }
    }

    /// Starts the API server again on the same port and waits until it is ready. Nothing happens if it runs.
    ///
    /// # Errors
    /// It does not become ready in time.
    pub async fn start_apiserver(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        if running.api_server.is_some() {
            return Ok(());
        }
        let started = self.launch_api_server().await;
        running.api_server = Some(started.map_err(|error| match error {
            StartError::Other(error) => error,
            StartError::PortTaken(detail) => anyhow::anyhow!("its port was taken while it was down\n{detail}"),
        })?);
        Ok(())
    }

    /// Stop and start.
    ///
    /// # Errors
    /// As the two.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.stop_apiserver().await?;
        self.start_apiserver().await
    }

    /// Keeps a copy of what etcd holds now: everything is stopped for it and started again.
    ///
    /// # Errors
    /// A process cannot be stopped or started, or the data not copied.
    pub async fn keep_snapshot(&self) -> Result<()> {
        self.with_all_stopped(|folder| copy(&folder.join("etcd"), &folder.join("etcd-snapshot"))).await
    }

    /// Puts the kept copy back in the place of what etcd holds, as the restore of a snapshot does: the revision goes back
    /// too.
    ///
    /// # Errors
    /// As [`ControlPlane::keep_snapshot`].
    pub async fn restore_snapshot(&self) -> Result<()> {
        self.with_all_stopped(|folder| {
            std::fs::remove_dir_all(folder.join("etcd"))?;
            copy(&folder.join("etcd-snapshot"), &folder.join("etcd"))
        })
        .await
    }

    async fn with_all_stopped(&self, work: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
        let mut running = self.running.lock().await;
        let Running { manager, api_server, etcd } = &mut *running;
        for (process, grace) in [(manager, GRACE), (api_server, API_SERVER_GRACE), (etcd, GRACE)] {
            if let Some(mut process) = process.take() {
                process.stop(grace).await.with_context(|| format!("stop {}", process.name()))?;
            }
        }
        work(self.folder.path()).context("copy the data of etcd")?;
        let started = |error| match error {
            StartError::Other(error) => error,
            StartError::PortTaken(detail) => anyhow::anyhow!("its port was taken while it was down\n{detail}"),
        };
        running.etcd = Some(self.launch_etcd().await.map_err(started)?);
        running.api_server = Some(self.launch_api_server().await.map_err(started)?);
        if self.options.controllers {
            running.manager = Some(self.launch_manager().await.map_err(started)?);
        }
        Ok(())
    }

    /// Stops everything in order and removes the data. Dropping does the same, less gently.
    ///
    /// # Errors
    /// A process cannot be signalled, or the data not removed.
    pub async fn stop(self) -> Result<()> {
        let mut running = self.running.into_inner();
        let parts =
            [(&mut running.manager, GRACE), (&mut running.api_server, API_SERVER_GRACE), (&mut running.etcd, GRACE)];
        for (process, grace) in parts {
            let Some(mut process) = process.take() else { continue };
            let ended = process.stop(grace).await.with_context(|| format!("stop {}", process.name()))?;
            if ended == Ended::Killed {
                tracing::debug!(process = process.name(), "had to be killed");
            }
        }
        self.folder.close().context("remove the cluster's data")
    }
}
