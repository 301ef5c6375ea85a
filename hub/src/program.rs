//! What `main` does: logging, signals, and the command.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, Init, LogFormat};
use crate::{Config, Hub, InitOptions, bump_epoch, clock, init};

/// Runs the command to its end.
///
/// # Errors
/// Whatever ended it, for people.
pub async fn run(cli: Cli) -> Result<()> {
    log(&cli)?;
    match cli.command {
        Command::Init(args) => {
            let options = init_options(*args)?;
            let config = init(&options, clock::seconds()).await?;
            println!("The hub's folder is {}.", options.dir.display());
            println!("Start it with: driftless-hub run --config {}", config.display());
            println!("Operators use:  driftless --context {} status", options.context.display());
            println!(
                "Move {} to a safe place offline: it signs the next trust document and is not needed until then.",
                options.dir.join("keys").join(crate::keys::ROOT_KEY).display()
            );
            Ok(())
        }
        Command::BumpEpoch { config } => {
            let epoch = bump_epoch(&Config::load(&config)?).await?;
            println!("The epoch is {epoch} now; agents accept what this hub offers from the next start on.");
            Ok(())
        }
        Command::Run { config } => {
            let config = Config::load(&config)?;
            let stop = CancellationToken::new();
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let hub = Hub::bind(config, stop.clone()).await?;
            tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                agents = %hub.fleet_address()?,
                admin = hub.admin_address().map(tracing::field::display),
                "the hub listens"
            );
            let work = hub.run();
            tokio::pin!(work);
            let ended = tokio::select! {
                ended = &mut work => ended,
                _ = term.recv() => stopped(&stop, work).await,
                _ = int.recv() => stopped(&stop, work).await,
            };
            ended.map_err(|why| anyhow!("the hub stopped: {why}"))
        }
    }
}

async fn stopped(
    stop: &CancellationToken,
    work: std::pin::Pin<&mut impl Future<Output = Result<(), String>>>,
) -> Result<(), String> {
    tracing::info!("asked to stop");
    stop.cancel();
    work.await
}

fn log(cli: &Cli) -> Result<()> {
    let filter = EnvFilter::try_new(&cli.log_level).with_context(|| format!("--log-level {:?}", cli.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match cli.log_format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    set.map_err(|e| anyhow!("logging cannot be set up: {e}"))
}

fn init_options(args: Init) -> Result<InitOptions> {
    for address in &args.addresses {
        let port =
            address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
        port.with_context(|| format!("--address {address:?} is not HOST:PORT"))?;
    }
    let port =
        args.addresses.first().and_then(|a| a.rsplit_once(':')).and_then(|(_, p)| p.parse().ok()).unwrap_or(8443);
    Ok(InitOptions {
        listen: args.listen.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
        admin_address: args.admin_address.unwrap_or_else(|| args.admin_listen.to_string()),
        admin_listen: args.admin_listen,
        server_name: args.server_name,
        context: args.context.unwrap_or_else(|| args.dir.join("context.yaml")),
        source: args.source_url.map(|url| (url, args.branch)),
        root: args.root,
        addresses: args.addresses,
        dir: args.dir,
    })
}
