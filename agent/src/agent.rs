//! What is made, in which order, who awaits whom, and in which order it ends.
//!
//! ```text
//! always:          leader (Lease), health (/healthz, /readyz)
//! while leading:   identity -> ledger -> { link, driver, kinds, status, ask }, ended in the order driver and ask, link, kinds
//! ```
//!
//! A vital task that ends ends its scope: the leading tasks end the leading, which begins again; leader or health end
//! the process, so that the kubelet starts a fresh one.

use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::bundle::ServiceAccount;
use driftless_reconcile::input::Millis;
use driftless_reconcile::rules::Rules;
use kube::config::Kubeconfig;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Args;
use crate::cluster::api::{Actor, Api, ApiError, account_user, chain, connect, namespaces};
use crate::health::{self, Readiness};
use crate::identity::{self, IdentityError};
use crate::join::JoinFile;
use crate::leader::{self, Leadership, Timing};
use crate::ledger::{Ledger, LedgerError};
use crate::link::{self, FromHub, ToHub};
use crate::status::{self, Board};
use crate::{ask, driver, kinds};

/// Bundles and hints that wait for the driver, which takes them at once.
const FROM_HUB: usize = 8;
/// Reports that wait for the link, which keeps the newest per unit.
const TO_HUB: usize = 64;
/// Questions that wait to be answered, and what their answers wait for: as many as may be open.
const ASKS: usize = driftless_protocol::ask::ASKS_OPEN;
/// Pause before leading is tried again after an error, so that a broken cluster is not hammered.
const AGAIN: Duration = Duration::from_secs(5);
/// Deadline of every request: shorter than the margin of the lease.
const DEADLINE: Duration = Duration::from_secs(7);

/// Why the agent ends, or leading begins again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kubeconfig, or the pod's service account, cannot be used.
    #[error("cannot use {what}")]
    Config {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster itself cannot be told apart.
    #[error("cannot read the namespace kube-system as {account}; give it the right to read namespaces")]
    KubeUid {
        /// The applier.
        account: String,
        /// What the API server said.
        #[source]
        source: ApiError,
    },
    /// Identity or enrolment.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The stored bundle.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Records or discovery.
    #[error("cannot begin to lead")]
    Begin(#[source] ApiError),
    /// A listener.
    #[error("cannot serve health on {address}")]
    Health {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A task panicked.
    #[error("the {0} task ended unexpectedly")]
    Ended(&'static str),
    /// Signals cannot be listened to.
    #[error("cannot listen to signals")]
    Signal(#[source] std::io::Error),
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run_until_signal(args: Args) -> Result<(), AgentError> {
    let cancel = CancellationToken::new();
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(AgentError::Signal)?;
    let running = run(args, cancel.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return ended,
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("asked to end");
    cancel.cancel();
    running.await
}

/// Runs until cancelled.
pub async fn run(args: Args, cancel: CancellationToken) -> Result<(), AgentError> {
    let config = kube_config(&args).await?;
    let applier = driver::applier(&args.applier);
    let client = connect(config.clone()).map_err(|e| config_error("the kubeconfig", e))?;
    let api = Api::new(client, DEADLINE);
    let mut as_applier = config.clone();
    as_applier.auth_info.impersonate = Some(account_user(&applier));
    let applier_client = connect(as_applier).map_err(|e| config_error("the kubeconfig", e))?;

    let (leading, leadership) = watch::channel(Leadership::Follower);
    let (ready, readiness) = watch::channel(Readiness { ready: false, message: "starting".into() });
    // The lease is given up, and the kubelet is answered, after everything else: nothing of ours writes any more by then.
    let last = CancellationToken::new();
    let mut vital = JoinSet::new();
    let lease = leader::run(api.clone(), args.pod_name.clone(), Timing::default(), leading, last.clone());
    vital.spawn(async move {
        lease.await;
        Ok::<_, AgentError>("leader")
    });
    let (address, stop) = (args.health_address, last.clone());
    vital.spawn(async move {
        let served = health::serve(address, readiness, stop).await;
        served.map(|()| "health").map_err(|source| AgentError::Health { address, source })
    });

    let join = Arc::new(JoinFile::new(args.join_token_file.clone()));
    let parts = Parts { args, join, api, config, applier, applier_client, leadership, ready };
    until_ended(vital, &last, Box::pin(lead_again_and_again(&parts, &cancel)), &cancel).await
}

/// Waits for the end of `leading`, or of a vital task, which ends it too; the vital tasks end after it.
async fn until_ended(
    mut vital: JoinSet<Result<&'static str, AgentError>>,
    last: &CancellationToken,
    leading: impl Future<Output = ()>,
    cancel: &CancellationToken,
) -> Result<(), AgentError> {
    tokio::pin!(leading);
    let result = tokio::select! {
        ended = vital.join_next() => {
            // In its order, as when it is asked to end: writes are finished, and the hub hears of it.
            cancel.cancel();
            leading.await;
            match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Ok(Ok(name))) => Err(AgentError::Ended(name)),
                Some(Err(_)) => Err(AgentError::Ended("leader or health")),
                None => Ok(()),
            }
        }
        () = &mut leading => Ok(()),
    };
    last.cancel();
    while let Some(ended) = vital.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!(error = chain(&error), "while ending");
        }
    }
    result
}

struct Parts {
    args: Args,
    join: Arc<JoinFile>,
    api: Api,
    config: kube::Config,
    applier: ServiceAccount,
    applier_client: kube::Client,
    leadership: watch::Receiver<Leadership>,
    ready: watch::Sender<Readiness>,
}

/// Leads whenever this pod may, until cancelled.
async fn lead_again_and_again(parts: &Parts, cancel: &CancellationToken) {
    let mut leadership = parts.leadership.clone();
    while !cancel.is_cancelled() {
        parts.ready.send_replace(Readiness { ready: true, message: "another pod leads".into() });
        let term = tokio::select! {
            () = cancel.cancelled() => return,
            led = leadership.wait_for(|l| l.term().is_some()) => match led.map(|led| led.term()) {
                Ok(Some(term)) => term,
                _ => return,
            },
        };
        let scope = cancel.child_token();
        let ended = lead(parts, term, &scope).await;
        scope.cancel();
        if let Err(error) = ended {
            let message = chain(&error);
            tracing::error!(error = message, "cannot lead; trying again");
            parts.ready.send_replace(Readiness { ready: false, message });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// Leads until leadership is lost, a leading task ends, or cancelled.
async fn lead(parts: &Parts, term: u64, scope: &CancellationToken) -> Result<(), AgentError> {
    let kube_uid = kube_uid(parts).await?;
    let identity = identity::load_or_enrol(&parts.api, &parts.join, &kube_uid, scope).await?;
    let ledger = Ledger::load(parts.api.clone(), &identity, &kube_uid, u64::from(parts.args.ledger_mib) << 20).await?;
    tracing::info!(cluster = %identity.name, id = %identity.cluster, "leading");
    parts.ready.send_replace(Readiness { ready: true, message: "leading".into() });

    let stored = ledger.current();
    let rules = rules(&parts.args, identity.hash_key());
    let (to_driver, from_hub) = mpsc::channel::<FromHub>(FROM_HUB);
    let (to_hub, from_driver) = mpsc::channel::<ToHub>(TO_HUB);
    let (changed, kinds_changed) = watch::channel(0);
    let (asks, asked) = mpsc::channel(ASKS);
    let (queries, of_driver) = mpsc::channel(ASKS);

    let board = Board::new(parts.args.shadow, unix_millis());
    let mut tasks = JoinSet::new();
    // Each ends before the next when the scope ends: first who writes to the cluster, then who tells of it.
    let (driver_stop, link_stop) = (scope.child_token(), CancellationToken::new());
    let setup = driver::Setup {
        api: parts.api.clone(),
        applier_client: parts.applier_client.clone(),
        config: parts.config.clone(),
        applier: parts.applier.clone(),
        rules,
        leadership: parts.leadership.clone(),
        term,
        stored,
        from_hub,
        to_hub,
        queries: of_driver,
        kinds_changed,
        pod: parts.args.pod_name.clone(),
        board: board.clone(),
        fact_config_maps: parts.args.fact_config_maps.clone(),
        clock: unix_millis,
    };
    tasks.spawn(async move { driver::run(setup, driver_stop).await.map_err(AgentError::Begin) });
    let link = link::run(
        link::Setup { identity, ledger, kube_uid, pod: parts.args.pod_name.clone(), join: parts.join.clone(), asks },
        from_driver,
        to_driver,
        link_stop.clone(),
    );
    tasks.spawn(async move {
        link.await;
        Ok(())
    });
    let shown = status::Setup {
        api: parts.api.clone(),
        board,
        leadership: parts.leadership.clone(),
        pod: parts.args.pod_name.clone(),
        clock: unix_millis,
    };
    let showing = status::run(shown, scope.child_token());
    tasks.spawn(async move {
        showing.await;
        Ok(())
    });
    let answering = ask::Setup {
        api: parts.api.clone(),
        applier: parts.applier.clone(),
        dry_run: !parts.args.no_dry_run,
        queries,
        clock: unix_millis,
    };
    let answering_stop = scope.child_token();
    tasks.spawn(async move {
        ask::run(answering, asked, answering_stop).await;
        Ok(())
    });
    let watching = kinds::run(parts.applier_client.clone(), changed);
    let watching = tasks.spawn(async move {
        watching.await;
        Ok(())
    });

    let first = tasks.join_next().await;
    scope.cancel();
    watching.abort();
    link_stop.cancel();
    let mut result = flatten(first);
    while let Some(ended) = tasks.join_next().await {
        let ended = flatten(Some(ended));
        if result.is_ok() {
            result = ended;
        }
    }
    result
}

fn flatten(ended: Option<Result<Result<(), AgentError>, tokio::task::JoinError>>) -> Result<(), AgentError> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_panic() => Err(AgentError::Ended("leading")),
        _ => Ok(()),
    }
}

fn rules(args: &Args, hash_key: [u8; 32]) -> Rules {
    let mut rules = Rules::new(hash_key);
    rules.shadow = args.shadow;
    rules.approved_delete_cap = args.approved_delete_cap;
    rules
}

async fn kube_config(args: &Args) -> Result<kube::Config, AgentError> {
    let Some(file) = &args.kubeconfig else {
        return kube::Config::incluster().map_err(|e| config_error("the pod's service account", e));
    };
    let what = format!("the kubeconfig {}", file.display());
    let kubeconfig = match self_contained(file) {
        Some(kubeconfig) => kubeconfig,
        None => Kubeconfig::read_from(file).map_err(|e| config_error(&what, e))?,
    };
    kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(|e| config_error(&what, e))
}

/// A kubeconfig that is JSON and names no other file. In a pod there is none at all, and no YAML is read before the first
/// unit with late inputs: the reader's part of the program, once it was run, stays in memory for good.
fn self_contained(file: &std::path::Path) -> Option<Kubeconfig> {
    let kubeconfig: Kubeconfig = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let files = clusters
        .map(|cluster| &cluster.certificate_authority)
        .chain(users.clone().flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]));
    let names_files = files.flatten().next().is_some() || users.clone().any(|user| user.exec.is_some());
    (!names_files).then_some(kubeconfig)
}

fn config_error(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> AgentError {
    AgentError::Config { what: what.to_owned(), source: Box::new(source) }
}

/// The UID of `kube-system`: what tells this cluster from a copy of it.
async fn kube_uid(parts: &Parts) -> Result<String, AgentError> {
    let refused = |source| AgentError::KubeUid { account: account_user(&parts.applier), source };
    let actor = Actor::Account(parts.applier.clone());
    let namespace = parts.api.get(&actor, &namespaces(), "", "kube-system").await.map_err(refused)?;
    let uid = namespace.as_ref().and_then(|n| n.pointer("/metadata/uid")).and_then(Value::as_str);
    uid.map(str::to_owned).ok_or_else(|| refused(ApiError::Answer("kube-system has no UID".into())))
}

/// The clock of the agent, in Unix milliseconds.
#[must_use]
pub fn unix_millis() -> Millis {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    /// A vital task that ends when `last` says so, and leading that takes a while to end.
    fn parts(
        log: &Log,
        last: &CancellationToken,
        cancel: &CancellationToken,
    ) -> (JoinSet<Result<&'static str, AgentError>>, impl Future<Output = ()>) {
        let mut vital = JoinSet::new();
        let (noted, last) = (log.clone(), last.clone());
        vital.spawn(async move {
            last.cancelled().await;
            noted.lock().expect("the log").push("lease given up");
            Ok("leader")
        });
        let (noted, cancel) = (log.clone(), cancel.clone());
        let leading = async move {
            cancel.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            noted.lock().expect("the log").push("leading ended");
        };
        (vital, leading)
    }

    #[tokio::test]
    async fn the_lease_is_given_up_after_leading_has_ended() {
        let (log, last, cancel) = (Log::default(), CancellationToken::new(), CancellationToken::new());
        let (vital, leading) = parts(&log, &last, &cancel);
        cancel.cancel();
        until_ended(vital, &last, leading, &cancel).await.expect("no error");
        assert_eq!(*log.lock().expect("the log"), ["leading ended", "lease given up"]);
    }

    #[tokio::test]
    async fn a_vital_task_that_ends_ends_the_leading_in_its_order() {
        let (log, last, cancel) = (Log::default(), CancellationToken::new(), CancellationToken::new());
        let (mut vital, leading) = parts(&log, &last, &cancel);
        vital.spawn(async { Ok("health") });
        let error = until_ended(vital, &last, leading, &cancel).await.expect_err("it ended by itself");
        assert!(matches!(error, AgentError::Ended("health")), "{error}");
        assert_eq!(*log.lock().expect("the log"), ["leading ended", "lease given up"]);
    }
}
