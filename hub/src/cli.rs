//! The command line of `driftless-hub`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Renders, signs and streams desired state to a fleet of Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(name = "driftless-hub", version)]
pub struct Cli {
    /// How much is logged: error, warn, info, debug, trace, or a filter such as `info,driftless_hub=debug`.
    #[arg(long, global = true, env = "DRIFTLESS_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How it is logged.
    #[arg(long, global = true, env = "DRIFTLESS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make keys, certificate authorities, database, start file and an operator's context.
    Init(Box<Init>),
    /// Run the hub.
    Run {
        /// The start file.
        #[arg(long, env = "DRIFTLESS_HUB_CONFIG")]
        config: PathBuf,
    },
    /// After the database was restored from a backup: let agents accept what this hub offers. Stop the hub first.
    BumpEpoch {
        /// The start file.
        #[arg(long, env = "DRIFTLESS_HUB_CONFIG")]
        config: PathBuf,
    },
}

/// What `init` makes.
#[derive(Args, Debug)]
pub struct Init {
    /// The folder for everything.
    #[arg(long)]
    pub dir: PathBuf,
    /// HOST:PORT as agents reach the hub over UDP; several are tried in turn.
    #[arg(long = "address", required = true, value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
    /// UDP address to listen on [default: all addresses, with the port of the first --address]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// TCP address of the admin API.
    #[arg(long, default_value = "127.0.0.1:8444")]
    pub admin_listen: SocketAddr,
    /// HOST:PORT as operators reach the admin API [default: --admin-listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub admin_address: Option<String>,
    /// The name in the hub's certificate.
    #[arg(long, default_value_t = crate::config::default_server_name())]
    pub server_name: String,
    /// The file for the operator's context [default: context.yaml in the folder]
    #[arg(long)]
    pub context: Option<PathBuf>,
    /// The Git repository to follow; can be added to the start file later.
    #[arg(long)]
    pub source_url: Option<String>,
    /// Its branch.
    #[arg(long, default_value = "main", requires = "source_url")]
    pub branch: String,
    /// The root's folder in it, with {name} for the cluster's name [default: clusters/{name}]
    #[arg(long)]
    pub root: Option<String>,
}
