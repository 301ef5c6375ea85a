//! `cargo sandbox`: the whole of Driftless on loopback, to try out.
//!
//! Without options it starts the example fleet and waits for Ctrl-C; `--once` plays the story itself and exits with 0 or
//! 1; `--repo` takes any Flux mono-repo instead.

mod any_repo;
mod measure;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use driftless_protocol::api::{FleetStatus, UnitRow};
use driftless_protocol::report::Ready;

use crate::wait::{self, Seen};
use crate::world::{ClusterOptions, Options, World};

/// Builds and starts everything on loopback: a Git server with a mono-repo, the hub, and per cluster a real API server
/// and an agent. Ctrl-C ends it all.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo sandbox", version)]
pub struct Args {
    /// Play the story: commit, drift and heal, prune, bad manifest; print the time of each step; exit with 0 or 1.
    #[arg(long)]
    pub once: bool,

    /// Measure commit-to-applied and change-to-healed this many times, and the memory of hub and agent. Build with
    /// `cargo build --release --bins` and run `target/release/sandbox` for figures that mean something.
    #[arg(long, value_name = "N", conflicts_with_all = ["once", "repo"])]
    pub measure: Option<usize>,

    /// A Flux mono-repo instead of the example: a folder, or a Git URL (https, ssh or file).
    #[arg(long, value_name = "PATH-or-URL")]
    pub repo: Option<String>,

    /// With --repo: the root folder of a cluster, such as clusters/production. Repeat for several clusters. Found by
    /// itself when left out.
    #[arg(long = "path", value_name = "ROOT", requires = "repo")]
    pub roots: Vec<String>,

    /// With --repo: at most this many clusters.
    #[arg(long, default_value_t = 6, requires = "repo")]
    pub clusters: usize,

    /// What hub and agents log, into their files.
    #[arg(long, default_value = "info")]
    pub log_level: String,
}

/// Says what happens, with the time since the start.
pub(crate) struct Teller {
    start: Instant,
}

impl Teller {
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        println!("[{:6.1} s] {}", self.start.elapsed().as_secs_f64(), text.as_ref());
    }
}

/// Runs the sandbox until it is done or Ctrl-C.
pub async fn run(args: Args) -> ExitCode {
    let work = async {
        match &args.repo {
            Some(repo) => any_repo::run(&args, repo).await,
            None => example(&args).await,
        }
    };
    // Dropping the work drops the world, which ends every process; children also die with this process.
    tokio::select! {
        result = work => match result {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ = stop_signal() => {
            eprintln!("stopping everything");
            ExitCode::SUCCESS
        }
    }
}

async fn stop_signal() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn example(args: &Args) -> Result<ExitCode> {
    let teller = Teller { start: Instant::now() };
    teller.say("starting a Git server, a hub and three clusters; about a minute on two cores");
    let mut options = Options::new(vec![
        ClusterOptions::new("staging").label(CANARY, "true"),
        ClusterOptions::new("production-eu"),
        ClusterOptions::new("production-us"),
    ]);
    options.agent_log.clone_from(&args.log_level);
    options.hub.log_level.clone_from(&args.log_level);
    let mut world = World::start(options, &mut |text| teller.say(text)).await?;
    unit_namespaces(&world).await?;
    let result = if let Some(tries) = args.measure {
        measure::run(&mut world, &teller, tries).await
    } else if args.once {
        story::play(&mut world, &teller).await
    } else {
        wait_ready(&world, Duration::from_secs(180)).await?;
        teller.say("everything is applied and healthy");
        println!("{}", hints(&world)?);
        std::future::pending::<()>().await;
        Ok(())
    };
    if let Err(error) = &result {
        eprintln!("error: {error:#}\n{}", world.logs(30).await);
    }
    world.stop().await.context("stop everything")?;
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) => Ok(ExitCode::FAILURE),
    }
}

/// The label that makes a cluster a canary.
const CANARY: &str = "driftless.dev/canary";

/// Waits until every unit of every cluster is ready.
pub(crate) async fn wait_ready(world: &World, within: Duration) -> Result<()> {
    wait::until(within, "all units of all clusters to be ready", || async {
        let fleet: FleetStatus = world.ask(&["status"]).await?;
        let units: Vec<UnitRow> = units(world).await?;
        if fleet.clusters.len() < world.clusters.len() {
            bail!("{} of {} clusters are enrolled", fleet.clusters.len(), world.clusters.len());
        }
        let waiting: Vec<String> = units
            .iter()
            .filter(|u| u.ready != Ready::True)
            .map(|u| format!("{} {}: {}", u.cluster, u.unit, u.message))
            .collect();
        let empty = fleet.clusters.iter().filter(|c| c.units.total == 0).count();
        if !waiting.is_empty() || empty > 0 {
            bail!("{empty} clusters without units; not ready: {}", waiting.join("; "));
        }
        Ok(())
    })
    .await?;
    Ok(())
}

/// Every unit of every cluster.
pub(crate) async fn units(world: &World) -> Result<Vec<UnitRow>> {
    world.ask(&["get", "units"]).await
}

/// One unit, when it is there.
pub(crate) async fn unit(world: &World, cluster: &str, name: &str) -> Result<UnitRow> {
    let rows: Vec<UnitRow> = world.ask(&["get", "units", "--cluster", cluster]).await?;
    rows.into_iter().find(|u| u.unit.name == name).with_context(|| format!("no unit {name} in {cluster}"))
}

/// Waits until a unit is as asked, and answers with its row.
pub(crate) async fn wait_unit(
    world: &World,
    cluster: &str,
    name: &str,
    what: &str,
    holds: impl Fn(&UnitRow) -> bool,
) -> Result<UnitRow> {
    let holds = &holds;
    let row = wait::until(Duration::from_secs(90), format!("{name} in {cluster} {what}"), || async move {
        match unit(world, cluster, name).await {
            Ok(row) if holds(&row) => Seen::Done(row),
            Ok(row) => Seen::NotYet(format!("{:?} {}: {}", row.ready, row.reason, row.message)),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await?;
    Ok(row)
}

/// The namespace that `Unit` objects are shown in, as it is where Flux was: nothing of the mono-repo makes it.
async fn unit_namespaces(world: &World) -> Result<()> {
    for cluster in &world.clusters {
        cluster.kubectl(&["create", "namespace", "flux-system"]).await?;
    }
    Ok(())
}

/// What to try with a repository we know nothing about.
fn hints_any(world: &World) -> Result<String> {
    let context = world.hub.context_file().display().to_string();
    let cli = world.programs.cli.display().to_string();
    let mut text = format!("\nTry, in another terminal:\n\n  alias driftless='{cli} --context {context}'\n\n");
    text.push_str(
        "  driftless status\n  driftless get units --not-ready\n  driftless why NAMESPACE/UNIT --cluster CLUSTER\n\n",
    );
    for cluster in &world.clusters {
        let kubectl = world.tools.path(crate::tools::Tool::Kubectl)?.display().to_string();
        let kubeconfig = cluster.plane.kubeconfig_file().display().to_string();
        text.push_str(&format!("  {kubectl} --kubeconfig {kubeconfig} get units -A      # {}\n", cluster.name()));
    }
    text.push_str(&format!(
        "\nThe mono-repo to edit and push: {}\nCtrl-C ends everything.",
        world.repo.work().display()
    ));
    Ok(text)
}

fn hints(world: &World) -> Result<String> {
    let work = world.repo.work().display().to_string();
    let context = world.hub.context_file().display().to_string();
    let cli = world.programs.cli.display().to_string();
    let eu = world.cluster("production-eu").plane.kubeconfig_file().display().to_string();
    let kubectl: PathBuf = world.tools.path(crate::tools::Tool::Kubectl)?.to_path_buf();
    let kubectl = kubectl.display();
    Ok(format!(
        "
Try, in another terminal:

  alias driftless='{cli} --context {context}'
  alias k='{kubectl} --kubeconfig {eu}'

  driftless status
  driftless get units
  k -n my-app scale deployment my-app --replicas 5     # healed at once
  k -n my-app get deployment my-app
  k get units -A                                       # the same, with kubectl alone
  k -n observed scale deployment my-app --replicas 5   # stays, and is shown
  driftless describe my-app-observed --cluster production-eu
  driftless why shop --cluster production-eu

  cd {work}                                            # the mono-repo
  sed -i 's/nginx:1.29.3/nginx:1.29.4/' apps/my-app/deployment.yaml
  git commit -qam 'new nginx' && git push -q origin main   # staging first, then the others
  driftless get units

Logs: {logs}
Ctrl-C ends everything.",
        logs = world.folder().display()
    ))
}
