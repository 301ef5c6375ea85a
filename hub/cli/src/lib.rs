//! `driftless`: installs, queries and steers the fleet.
//!
//! Data goes to stdout, words for people to stderr, and the exit code says what happened ([`error::Kind`]).

pub mod args;
pub mod client;
pub mod commands;
pub mod error;
pub mod facts;
pub mod live;
pub mod plan;
pub mod repo;
pub mod ui;

use std::process::ExitCode;

use args::{Check, Cli, Cluster, Command, Facts, Get, Output};
use client::Client;
use commands::{approve, build, check, get, history, orphans, plan as plan_command, shadow, steer, unit, validate};
use error::{CliError, Kind};

/// Runs one command.
pub fn run(cli: Cli) -> Result<ExitCode, CliError> {
    printable(&cli.command, cli.output)?;
    match &cli.command {
        Command::Build(args) => return build::run(args, cli.output),
        Command::Check { what: Some(Check::Repo(args)) } => return check::run(args, cli.output),
        Command::Validate(args) => return validate::run(args, cli.output),
        Command::Plan(args) if !args.live => return plan_command::run(args, cli.output),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(Kind::Failed, format!("cannot start: {e}")))?;
    runtime.block_on(ask_hub(&cli))
}

/// A format that a command does not print is refused before it does anything.
fn printable(command: &Command, wanted: Output) -> Result<(), CliError> {
    let (name, formats) = command.formats();
    if formats.contains(&wanted) {
        return Ok(());
    }
    let mut names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    let last = names.pop().unwrap_or_default();
    let message = format!("{name} prints {} or {last}, not {}", names.join(", "), wanted.name());
    Err(CliError::new(Kind::Usage, message))
}

async fn ask_hub(cli: &Cli) -> Result<ExitCode, CliError> {
    let client = Client::new(&cli.connection)?;
    let (client, output) = (&client, cli.output);
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    match &cli.command {
        Command::Status { check } => get::status(client, output, *check).await,
        Command::Get(Get::Units { cluster, namespace, not_ready }) => {
            get::units(client, output, cluster.as_deref(), namespace.as_deref(), *not_ready, now).await
        }
        Command::Get(Get::Sources) => get::sources(client, output, now).await,
        Command::Describe(which) => unit::describe(client, output, which, now).await,
        Command::Shadow { cluster, differing } => shadow::run(client, output, cluster, *differing).await,
        Command::Why(which) => unit::why(client, output, which, now).await,
        Command::Orphans(which) => orphans::run(client, output, which, now).await,
        Command::Reconcile { unit } => steer::reconcile(client, output, unit).await,
        Command::Suspend(which) => steer::steer(client, output, "suspend", which).await,
        Command::Resume(which) => steer::steer(client, output, "resume", which).await,
        Command::DriftMode(set) => steer::drift_mode(client, output, set).await,
        Command::Freeze { cluster, reason } => {
            steer::freeze(client, output, "freeze", cluster.as_deref(), reason).await
        }
        Command::Unfreeze { cluster } => steer::freeze(client, output, "unfreeze", cluster.as_deref(), "").await,
        Command::Get(Get::Deletes { cluster }) => approve::deletes(client, output, cluster.as_deref()).await,
        Command::History(args) => history::history(client, output, args, now).await,
        Command::Audit { after } => get::audit(client, output, *after, now).await,
        Command::Approve(which) => approve::approve(client, output, which).await,
        Command::Cluster(Cluster::List) => get::clusters(client, output, now).await,
        Command::Cluster(Cluster::JoinToken { name, labels, ttl }) => {
            steer::join_token(client, output, name, labels, ttl).await
        }
        Command::Cluster(Cluster::Remove { name }) => steer::remove(client, output, name).await,
        Command::Check { what: None } => check::hub(client, output).await,
        Command::Check { what: Some(Check::Repo(args)) } => check::run(args, output),
        Command::Validate(args) => validate::run(args, output),
        Command::Facts(Facts::Export { cluster }) => get::facts(client, output, cluster).await,
        Command::Build(args) => build::run(args, output),
        Command::Plan(args) => plan_command::run_live(args, output, client).await,
    }
}
