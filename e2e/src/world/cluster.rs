//! One cluster: control plane, ready-maker, the chart, the agent.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use rustix::process::Signal;

use super::programs::run;
use super::{World, chart};
use crate::controlplane::{ControlPlane, Options as PlaneOptions};
use crate::faults::proxy::FaultProxy;
use crate::process::{Launch, Process};
use crate::readymaker::{ReadyMaker, Rules};
use crate::tools::Tool;

/// One cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Accounts that its units write as, `(namespace, name)`; an empty namespace means every namespace.
    pub impersonate: Vec<(String, String)>,
    /// More arguments for the agent.
    pub agent_args: Vec<String>,
    /// More arguments for the API server.
    pub api_server_args: Vec<String>,
    /// The agent reaches its API server through a proxy that can make faults.
    pub faults: bool,
    /// `GOMAXPROCS` of each process of the control plane; `None`: as many as there are.
    pub go_max_procs: Option<u32>,
}

impl ClusterOptions {
    /// A cluster of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            labels: Vec::new(),
            impersonate: Vec::new(),
            agent_args: Vec::new(),
            api_server_args: Vec::new(),
            faults: false,
            go_max_procs: Some(1),
        }
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A running cluster with its agent.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    /// The API server and what belongs to it.
    pub plane: ControlPlane,
    /// Plays kubelet.
    pub ready: ReadyMaker,
    faults: Option<FaultProxy>,
    agent: Option<Process>,
    launch: Launch,
    join: PathBuf,
    /// What started the agent that runs, or ran last.
    pod: Option<Launch>,
    restarts: u32,
}

impl Cluster {
    pub(super) async fn start(world: &World, options: ClusterOptions, token: String, log: &str) -> Result<Self> {
        let name = options.name.clone();
        let mut plane = PlaneOptions::new(&name);
        plane.tools = Some(world.tools.clone());
        plane.go_max_procs = options.go_max_procs;
        plane.api_server_args.clone_from(&options.api_server_args);
        let plane = ControlPlane::start(plane).await.with_context(|| format!("start the control plane of {name}"))?;
        let ready = ReadyMaker::start(plane.client(), Rules::default());
        install_chart(world, &plane, &options).await.with_context(|| format!("install the agent chart in {name}"))?;

        let faults = if options.faults { Some(FaultProxy::start(&plane).await?) } else { None };
        let direct = plane.token_for("driftless-system", "driftless-agent").await?;
        let access = faults.as_ref().map_or_else(|| direct.clone(), |faults| faults.access(&direct));
        let folder = world.folder().join(format!("cluster-{name}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let kubeconfig = folder.join("agent-kubeconfig.yaml");
        crate::certs::write_private(&kubeconfig, &access.kubeconfig())?;
        let join = folder.join("join-token");
        let launch = Launch::new(format!("agent of {name}"), &world.programs.agent, folder.join("agent.log"))
            .args(["--kubeconfig".to_owned(), kubeconfig.display().to_string()])
            .args(["--join-token-file".to_owned(), join.display().to_string()])
            .args(["--log-level".to_owned(), log.to_owned()])
            .args(&options.agent_args);
        let cluster = Self { options, plane, ready, faults, agent: None, launch, join, pod: None, restarts: 0 };
        cluster.write_join_token(&token)?;
        Ok(cluster)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What the agent reads its join token from, from its next look on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_join_token(&self, token: &str) -> Result<()> {
        crate::certs::write_private(&self.join, token).context("write the join token")
    }

    /// Takes the join token away, as one does once it was used. Nothing happens if there is none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_join_token(&self) -> Result<()> {
        match std::fs::remove_file(&self.join) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("remove the join token"),
            _ => Ok(()),
        }
    }

    /// The proxy between the agent and its API server.
    ///
    /// # Errors
    /// The cluster was not asked to have one.
    pub fn faults(&self) -> Result<&FaultProxy> {
        self.faults.as_ref().with_context(|| format!("cluster {} has no fault proxy", self.options.name))
    }

    /// Starts the agent, as a new pod.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent(&mut self) -> Result<()> {
        let (_, launch) = self.next_pod()?;
        self.pod = Some(launch);
        self.start_agent_again()
    }

    /// Starts the agent again in the pod it ran in, as the kubelet does with a container that crashed: it holds the lease
    /// still.
    ///
    /// # Errors
    /// It cannot be started, or there was no such pod.
    pub fn start_agent_again(&mut self) -> Result<()> {
        let launch = self.pod.clone().context("no pod of the agent was started")?;
        self.agent = Some(Process::start(launch).context("start the agent")?);
        Ok(())
    }

    /// Gives the agent an argument, or takes it away, from its next start on.
    pub fn agent_argument(&mut self, argument: &str, wanted: bool) {
        self.launch.args.retain(|known| known != argument);
        if wanted {
            self.launch.args.push(argument.into());
        }
    }

    /// Starts a pod of the agent beside the one that runs, as a DaemonSet does; its name, and the process, which is the
    /// caller's to end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_pod(&mut self) -> Result<(String, Process)> {
        let (pod, mut launch) = self.next_pod()?;
        launch.log = launch.log.with_file_name(format!("{pod}.log"));
        Ok((pod, Process::start(launch).context("start another agent")?))
    }

    /// What starts the next pod, and its name.
    fn next_pod(&mut self) -> Result<(String, Launch)> {
        let pod = format!("driftless-agent-{}", self.restarts);
        self.restarts += 1;
        let [health] = crate::ports::free::<1>().context("find a port")?;
        let launch = self.launch.clone().args(["--pod-name".to_owned(), pod.clone()]);
        Ok((pod, launch.args(["--health-address".to_owned(), format!("127.0.0.1:{health}")])))
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn signal_agent(&mut self, signal: Signal) -> Result<()> {
        match &mut self.agent {
            Some(agent) => agent.signal(signal).context("signal the agent"),
            None => bail!("no agent runs"),
        }
    }

    /// Ends the agent as Kubernetes would: SIGTERM first.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop_agent(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.stop(Duration::from_secs(15)).await?;
        }
        Ok(())
    }

    /// Kills the agent where it stands.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill_agent(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.kill()?;
        }
        Ok(())
    }

    /// The agent's process id.
    #[must_use]
    pub fn agent_id(&self) -> Option<u32> {
        self.agent.as_ref().map(Process::id)
    }

    /// The end of the agent's log.
    #[must_use]
    pub fn agent_log_tail(&self, lines: usize) -> String {
        crate::process::tail(&self.launch.log, lines)
    }

    /// The whole log of the agent.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.launch.log.clone()
    }

    /// What the agent logged so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn agent_said(&self) -> Result<String> {
        std::fs::read_to_string(&self.launch.log).context("read the agent's log")
    }

    /// `kubectl` on this cluster as its administrator.
    ///
    /// # Errors
    /// It failed; the message is kubectl's.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, None).await
    }

    /// The same with input.
    ///
    /// # Errors
    /// It failed; the message is kubectl's.
    pub async fn kubectl_with(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut all = vec!["--kubeconfig".to_owned(), self.plane.kubeconfig_file().display().to_string()];
        all.extend(args.iter().map(|a| (*a).to_owned()));
        let kubectl = self.plane.tools().path(Tool::Kubectl)?.to_path_buf();
        let answer = run(&kubectl, &all, input, Duration::from_secs(60)).await?;
        if answer.code != Some(0) {
            bail!("kubectl {}: {}", args.join(" "), answer.stderr.trim());
        }
        Ok(answer.stdout)
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.ready.stop().await;
        self.plane.stop().await
    }
}

/// Renders the chart with the real `helm` and applies it with the real `kubectl`.
async fn install_chart(world: &World, plane: &ControlPlane, options: &ClusterOptions) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(plane.client());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("driftless-system".to_owned());
    // The restricted Pod Security Standard is enforced: a pod of the chart that breaks it would be refused.
    namespace.metadata.labels =
        Some([("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())].into_iter().collect());
    namespaces.create(&PostParams::default(), &namespace).await.context("create driftless-system")?;
    for (namespace, _) in options.impersonate.iter().filter(|(n, _)| !n.is_empty()) {
        let mut tenant = Namespace::default();
        tenant.metadata.name = Some(namespace.clone());
        namespaces.create(&PostParams::default(), &tenant).await.ok();
    }

    let helm = world.tools.path(Tool::Helm)?.to_path_buf();
    let mut args: Vec<String> = ["template", "driftless-agent"].iter().map(|a| (*a).to_owned()).collect();
    args.push(chart("driftless-agent").display().to_string());
    args.extend(["--namespace", "driftless-system", "--kube-version", "1.36.3"].map(str::to_owned));
    for (at, (namespace, name)) in options.impersonate.iter().enumerate() {
        args.extend(["--set".to_owned(), format!("impersonate[{at}].name={name}")]);
        if !namespace.is_empty() {
            args.extend(["--set".to_owned(), format!("impersonate[{at}].namespace={namespace}")]);
        }
    }
    let rendered = run(&helm, &args, None, Duration::from_secs(60)).await?;
    if rendered.code != Some(0) {
        bail!("helm template: {}", rendered.stderr.trim());
    }
    let kubectl = world.tools.path(Tool::Kubectl)?.to_path_buf();
    let kubeconfig = plane.kubeconfig_file().display().to_string();
    let args = ["--kubeconfig", &kubeconfig, "apply", "--server-side", "-f", "-"].map(str::to_owned);
    let applied = run(&kubectl, &args, Some(&rendered.stdout), Duration::from_secs(60)).await?;
    if applied.code != Some(0) {
        bail!("kubectl apply: {}", applied.stderr.trim());
    }
    Ok(())
}
