//! The three processes: their files, ports and command lines.
//!
//! Flags are those of envtest and kwokctl, less what loopback does not need; each that is not obvious has its reason.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Access, Options};
use crate::certs::{self, Authority, Identity};
use crate::ports;
use crate::process::Launch;

/// The controllers that a cluster without nodes needs. Not here: everything about nodes, volumes and clouds; node life
/// cycle above all, so that fake nodes stay ready without leases.
const CONTROLLERS: &[&str] = &[
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
];

/// Answer of etcd's health endpoint is awaited this long.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The ports of one cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
    manager: u16,
}

impl Ports {
    pub(super) fn choose() -> io::Result<Self> {
        let [etcd, etcd_peer, api_server, manager] = ports::free()?;
        Ok(Self { etcd, etcd_peer, api_server, manager })
    }

    pub(super) fn api_server_url(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    pub(super) fn etcd_client_address(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.etcd).into()
    }
}

/// The files of one cluster, all below its folder, and the certificates that clients need.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// The administrator's kubeconfig.
    pub(super) kubeconfig: PathBuf,
    /// The authority's certificate, PEM.
    pub(super) authority: String,
    /// The administrator's certificate.
    pub(super) admin: Identity,
}

impl Files {
    /// Makes certificates and writes what the processes read.
    pub(super) fn write(folder: &Path, options: &Options, ports: Ports) -> Result<Self> {
        let authority = Authority::new(&format!("{} cluster authority", options.name))?;
        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let server = authority.server("kube-apiserver", &names)?;
        let admin = authority.client("admin", Some("system:masters"))?;
        let accounts = certs::key_pair()?;
        for (name, content) in [
            ("ca.crt", authority.certificate()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("accounts.pub", &accounts.public),
            ("accounts.key", &accounts.private),
        ] {
            let path = folder.join(name);
            certs::write_private(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
        tracing::debug!(cluster = %options.name, ?ports, folder = %folder.display(), "control plane laid out");
        Ok(Self {
            folder: folder.to_owned(),
            kubeconfig: folder.join("kubeconfig"),
            authority: authority.certificate().to_owned(),
            admin,
        })
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.folder.join(file).display())
    }

    fn log(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{process}.log"))
    }
}

/// Writes the administrator's kubeconfig, which the controller manager uses too.
pub(super) fn write_kubeconfig(files: &Files, admin: &Access) -> io::Result<()> {
    certs::write_private(&files.kubeconfig, &admin.kubeconfig())
}

pub(super) fn etcd(program: &Path, files: &Files, ports: Ports, options: &Options) -> Launch {
    let Ports { etcd, etcd_peer, .. } = ports;
    let launch = Launch::new("etcd", program, files.log("etcd")).args([
        "--name=etcd".to_owned(),
        files.flag("data-dir", "etcd"),
        format!("--listen-client-urls=http://127.0.0.1:{etcd}"),
        format!("--advertise-client-urls=http://127.0.0.1:{etcd}"),
        format!("--listen-peer-urls=http://127.0.0.1:{etcd_peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{etcd_peer}"),
        format!("--initial-cluster=etcd=http://127.0.0.1:{etcd_peer}"),
        // Nobody needs these data after a power failure, and syncing them would measure the disk.
        "--unsafe-no-fsync".to_owned(),
        "--quota-backend-bytes=8589934592".to_owned(),
        "--auto-compaction-retention=1".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    limits(launch, options)
}

pub(super) fn api_server(program: &Path, files: &Files, ports: Ports, options: &Options) -> Launch {
    let launch = Launch::new("kube-apiserver", program, files.log("kube-apiserver")).args([
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        // Given, because otherwise the server looks for a default route, which a machine may not have; and harmless
        // only because nothing publishes it.
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={}", ports.api_server),
        files.flag("cert-dir", "certificates"),
        files.flag("tls-cert-file", "server.crt"),
        files.flag("tls-private-key-file", "server.key"),
        files.flag("client-ca-file", "ca.crt"),
        files.flag("service-account-key-file", "accounts.pub"),
        files.flag("service-account-signing-key-file", "accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        // A /24, as envtest has it, is too small for a thousand Services.
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
    ]);
    // Priority and fairness stay on: clients, ours and others', behave differently without.
    let launch = if options.controllers {
        launch
    } else {
        // Pods would wait for service accounts that nobody makes.
        launch.args(["--disable-admission-plugins=ServiceAccount"])
    };
    limits(launch.args(&options.api_server_args), options)
}

pub(super) fn manager(program: &Path, files: &Files, ports: Ports, options: &Options) -> Launch {
    let wanted = CONTROLLERS.iter().filter(|name| !options.without_controllers.iter().any(|out| out == *name));
    let controllers = wanted.copied().collect::<Vec<_>>().join(",");
    let launch = Launch::new("kube-controller-manager", program, files.log("kube-controller-manager")).args([
        files.flag("kubeconfig", "kubeconfig"),
        files.flag("authentication-kubeconfig", "kubeconfig"),
        files.flag("authorization-kubeconfig", "kubeconfig"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.manager),
        files.flag("cert-dir", "certificates"),
        files.flag("tls-cert-file", "server.crt"),
        files.flag("tls-private-key-file", "server.key"),
        "--leader-elect=false".to_owned(),
        files.flag("service-account-private-key-file", "accounts.key"),
        files.flag("root-ca-file", "ca.crt"),
        // Its defaults (20 a second) would throttle rollouts and be mistaken for our own slowness.
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
        format!("--controllers={controllers}"),
    ]);
    limits(launch, options)
}

fn limits(mut launch: Launch, options: &Options) -> Launch {
    if let Some(cores) = options.go_max_procs {
        launch = launch.env("GOMAXPROCS", cores.to_string());
    }
    if let Some(memory) = &options.go_memory_limit {
        launch = launch.env("GOMEMLIMIT", memory);
    }
    launch
}

/// Whether etcd says that it is healthy, over plain HTTP.
pub(super) async fn etcd_health(address: SocketAddr) -> Result<()> {
    let asked = tokio::time::timeout(HEALTH_TIMEOUT, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    });
    let answer = asked.await.context("GET /health did not answer")?.context("GET /health")?;
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "GET /health answered {status:?}");
    Ok(())
}
