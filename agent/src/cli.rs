//! Arguments of `driftless-agent`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::facts::ConfigMapName;

/// Keeps one Kubernetes cluster exactly as its hub's signed bundles say.
#[derive(Clone, Debug, Parser)]
#[command(name = "driftless-agent", version)]
pub struct Args {
    /// Kubeconfig to use instead of the pod's service account (for development).
    #[arg(long, env = "KUBECONFIG_FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// File that holds the join token; used only while the cluster has no identity, or one whose certificate is past its time.
    #[arg(long, env = "DRIFTLESS_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,

    /// Service account in driftless-system that reads and writes managed objects where a unit names none.
    #[arg(long, default_value = "driftless-applier", env = "DRIFTLESS_APPLIER")]
    pub applier: String,

    /// Name of this pod: the holder of the lease.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,

    /// Compare and report; write nothing but the agent's own records.
    #[arg(long, env = "DRIFTLESS_SHADOW")]
    pub shadow: bool,

    /// Deletes in a rolling hour that even an approval signed by the hub may not exceed.
    #[arg(long, env = "DRIFTLESS_APPROVED_DELETE_CAP")]
    pub approved_delete_cap: Option<u32>,

    /// Largest size of the stored bundle in the cluster, in MiB.
    #[arg(long, default_value_t = 16, env = "DRIFTLESS_LEDGER_MIB")]
    pub ledger_mib: u32,

    /// ConfigMaps, namespace/name, whose content the hub may know, to render with (`substituteFrom`). No Secret ever is.
    #[arg(long = "fact-config-map", value_delimiter = ',', env = "DRIFTLESS_FACT_CONFIG_MAPS")]
    pub fact_config_maps: Vec<ConfigMapName>,

    /// Refuse to dry-run objects that the hub proposes (`driftless plan --live`). A dry run stores nothing, and passes
    /// admission webhooks.
    #[arg(long, env = "DRIFTLESS_NO_DRY_RUN")]
    pub no_dry_run: bool,

    /// Where /healthz and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080", env = "DRIFTLESS_HEALTH_ADDRESS")]
    pub health_address: SocketAddr,

    /// What to log: error, warn, info, debug, trace, or a filter such as driftless_agent=debug,info.
    #[arg(long, default_value = "info", env = "DRIFTLESS_LOG_LEVEL")]
    pub log_level: String,

    /// How to log.
    #[arg(long, default_value = "json", env = "DRIFTLESS_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl Args {
    /// Starts logging as these arguments say. An unusable filter is an error, not a silent default.
    pub fn start_logging(&self) -> Result<(), String> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log_level)
            .map_err(|e| format!("--log-level {:?}: {e}", self.log_level))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
            LogFormat::Text => builder.try_init(),
        };
        started.map_err(|e| format!("cannot start logging: {e}"))
    }
}
