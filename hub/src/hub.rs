//! The composition root: opens everything, owns every task, and says in which order they stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless_protocol::quic::tls::{HubIdentity, TlsError};
use driftless_protocol::quic::{HubOptions, QuicError, close, hub_endpoint};
use driftless_protocol::signing::{Purpose, VerifyError, verify};
use driftless_protocol::trust::TrustDocument;
use driftless_protocol::{limits, signing};
use driftless_render::flux::Cache;
use driftless_store::{Act, Location, Store, StoreError};
use quinn::Endpoint;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, StoreConfig};
use crate::fleet::{accept, ingest};
use crate::http::{self, tls::AdminTls};
use crate::keys::{self, KeyError, Keys, read_private};
use crate::loops;
use crate::loops::sources::{Book, SourceSetupError};
use crate::pki::PkiError;
use crate::shared::{Shared, Trust};
use crate::shelf::FolderShelf;

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS for agents.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS for operators.
    #[error("cannot set up the admin API's TLS")]
    AdminTls(#[from] rustls::Error),
    /// The UDP port.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceSetupError),
    /// Another hub uses the folder.
    #[error("another hub runs on {}: two would overwrite each other's mirrors and state", path.display())]
    Running {
        /// The lock file.
        path: PathBuf,
    },
    /// A file, folder or address cannot be used.
    #[error("cannot {attempt} {what}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No trust document.
    #[error(
        "neither the database nor the key folder (trust-1.json) has a trust document; `driftless-hub init` makes a new hub"
    )]
    NoTrust,
    /// A trust document that does not verify.
    #[error("the newest trust document in the database does not verify")]
    Trust(#[from] VerifyError),
    /// Keys and trust document do not fit.
    #[error("{0}")]
    Mismatch(String),
}

/// Renders of units that may serve again, in memory: a fleet of a few thousand units fits.
const CACHE_BYTES: usize = 256 * 1024 * 1024;
/// And on disk, beside the mirrors.
const RENDERS: &str = ".renders";

/// A hub that listens and has not begun to work.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    admin: Option<(TcpListener, Arc<AdminTls>)>,
    socket: Option<(UnixListener, PathBuf)>,
    /// Held until the hub is gone.
    _lock: std::fs::File,
}

impl Hub {
    /// Opens store, keys, mirrors and sockets. `stop` ends the hub.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        let io = |attempt, what: String| move |source| StartError::Io { attempt, what, source };
        std::fs::create_dir_all(&config.mirrors)
            .map_err(io("make the folder", config.mirrors.display().to_string()))?;
        let lock = lock(&config.mirrors.join("lock"))?;
        let keys = Keys::load(&config.keys)?;
        let store = Store::open(&location(&config)?, clock::seconds()).await?;
        let opened = Self::assemble(config, keys, store.clone(), lock, stop).await;
        if opened.is_err() {
            store.close().await;
        }
        opened
    }

    async fn assemble(
        config: Config,
        keys: Keys,
        store: Store,
        lock: std::fs::File,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let io = |attempt, what: String| move |source| StartError::Io { attempt, what, source };
        let trust = trust(&store, &keys, &config.keys).await?;
        let epoch = store.epoch().await?;
        let known = store.sources().await?;
        let config_for_book = config.clone();
        let book = tokio::task::spawn_blocking(move || Book::open(&config_for_book, &known))
            .await
            .map_err(|e| StartError::Mismatch(format!("the mirrors cannot be opened: {e}")))??;
        for old in store.sources().await? {
            if book.get(&old.id).is_none() {
                store.remove_source(old.id).await?;
            }
        }

        let server = keys.ca.issue_server(&server_names(&config), clock::seconds())?;
        let authorities = [keys.ca.der().clone()];
        let chain = vec![server.certificate.clone()];
        let identity = HubIdentity::with_grace(chain, server.key_der(), &authorities, config.fleet.renew_expired())?;
        let endpoint = hub_endpoint(&HubOptions {
            listen: config.fleet.listen,
            identity: identity.clone(),
            reset_key: keys.reset_key,
            token_key: keys.token_key,
        })?;
        let admin = match config.admin.listen {
            None => None,
            Some(address) => {
                let listener =
                    TcpListener::bind(address).await.map_err(io("listen for operators on", address.to_string()))?;
                let certificate = keys.admin_ca.issue_server(&admin_names(&config), clock::seconds())?;
                Some((listener, Arc::new(AdminTls::new(&keys.admin_ca, &certificate)?)))
            }
        };
        let socket = match &config.admin.socket {
            None => None,
            Some(path) => {
                let listener = http::bind_socket(path).map_err(io("open the socket", path.display().to_string()))?;
                Some((listener, path.clone()))
            }
        };
        let cache = cache(&config.mirrors.join(RENDERS)).await;
        let shared = Arc::new(Shared::new(config, store, keys, identity, trust, epoch, book, cache, stop));
        Ok(Self { shared, endpoint, admin, socket, _lock: lock })
    }

    /// Where agents reach it.
    ///
    /// # Errors
    /// As the system says.
    pub fn fleet_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Where operators reach it.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Works until `stop` fires, then ends in order:
    /// 1. nothing new is accepted, fetched, rendered or offered; agents are told to come back;
    /// 2. sessions end, and with them the senders of reports;
    /// 3. what was received is stored;
    /// 4. the database is closed.
    ///
    /// # Errors
    /// A task broke off; the hub has been stopped in the same order.
    pub async fn run(self) -> Result<(), String> {
        let Self { shared, endpoint, admin, socket, _lock } = self;
        let (reports, queue) = mpsc::channel(ingest::QUEUE);
        let mut tasks: JoinSet<&'static str> = JoinSet::new();
        let admin_tls = admin.as_ref().map(|(_, tls)| tls.clone());
        spawn(&mut tasks, "sources", loops::sources::run(shared.clone()));
        spawn(&mut tasks, "render", loops::render::run(shared.clone()));
        spawn(&mut tasks, "rollout", loops::rollout::run(shared.clone()));
        spawn(&mut tasks, "retention", loops::retention::run(shared.clone(), admin_tls));
        spawn(&mut tasks, "accept", accept::run(shared.clone(), endpoint.clone(), reports));
        spawn(&mut tasks, "reports", ingest::run(shared.clone(), queue));
        if let Some((listener, tls)) = admin {
            spawn(&mut tasks, "admin API", http::serve_tls(shared.clone(), listener, tls));
        }
        if let Some((listener, path)) = socket {
            spawn(&mut tasks, "admin socket", http::serve_socket(shared.clone(), listener, path));
        }
        let mut failure = None;
        while let Some(ended) = tasks.join_next().await {
            let early = !shared.stop.is_cancelled();
            match ended {
                Ok(name) if early => failure = Some(format!("the task {name:?} ended by itself")),
                Err(error) => failure = Some(format!("a task broke off: {error}")),
                Ok(name) => tracing::debug!(task = name, "ended"),
            }
            if failure.is_some() {
                shared.stop.cancel();
            }
        }
        endpoint.close(close::DRAINING, b"the hub stops");
        endpoint.wait_idle().await;
        shared.store.close().await;
        match failure {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }
}

fn spawn(tasks: &mut JoinSet<&'static str>, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        work.await;
        name
    });
}

/// After a restore: raises the database's epoch, so that agents accept what this hub offers.
///
/// # Errors
/// See [`StartError`].
pub async fn bump_epoch(config: &Config) -> Result<u64, StartError> {
    let store = Store::open(&location(config)?, clock::seconds()).await?;
    let act = Act {
        at: clock::millis(),
        actor: "driftless-hub bump-epoch".into(),
        action: "bumpEpoch".into(),
        target: "hub".into(),
        detail: String::new(),
    };
    let epoch = store.bump_epoch(clock::seconds(), act).await;
    store.close().await;
    Ok(epoch?)
}

/// Issues the hub's own certificates anew, for handshakes from now on.
pub(crate) fn renew_certificates(shared: &Shared, admin: Option<&AdminTls>) -> Result<(), StartError> {
    let now = clock::seconds();
    let (config, keys) = (&shared.config, &shared.keys);
    let server = keys.ca.issue_server(&server_names(config), now)?;
    shared.identity.swap(vec![server.certificate.clone()], server.key_der(), &[keys.ca.der().clone()])?;
    if let Some(admin) = admin {
        admin.swap(&keys.admin_ca, &keys.admin_ca.issue_server(&admin_names(config), now)?)?;
    }
    Ok(())
}

/// What renders are remembered in. A folder that cannot be used costs time after a restart and nothing else.
async fn cache(folder: &Path) -> Cache {
    let cache = Cache::new(CACHE_BYTES);
    let parent = folder.to_path_buf();
    let opened = tokio::task::spawn_blocking(move || FolderShelf::open(&parent)).await;
    match opened.map_err(std::io::Error::other).flatten() {
        Ok((shelf, program)) => cache.with_shelf(shelf, program),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "renders cannot be kept on disk; a restart renders everything again");
            cache
        }
    }
}

fn location(config: &Config) -> Result<Location, StartError> {
    Ok(match &config.store {
        StoreConfig::Sqlite(path) => Location::Sqlite(path.clone()),
        StoreConfig::PostgresUrlFile(path) => Location::Postgres(read_private(path)?.trim().to_owned()),
    })
}

fn lock(path: &std::path::Path) -> Result<std::fs::File, StartError> {
    let io = |source| StartError::Io { attempt: "open the lock file", what: path.display().to_string(), source };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Running { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

async fn trust(store: &Store, keys: &Keys, folder: &Path) -> Result<Trust, StartError> {
    let mut documents = store.trust_documents().await?;
    // An empty database (a new volume, a new PostgreSQL): the key folder has trust document 1. It is verified below all
    // the same, and the agents verify it against the root key they pinned.
    if documents.is_empty()
        && let Some(first) = keys::read_trust(folder)?
    {
        store.add_trust_document(1, first).await?;
        documents = store.trust_documents().await?;
    }
    let newest = documents.last().cloned().ok_or(StartError::NoTrust)?;
    // Read first without belief, to know the ring; the agent has the pins that make it more than self-consistent.
    let claimed: TrustDocument = driftless_protocol::canonical::from_slice(&newest.bytes)
        .map_err(|e| StartError::Mismatch(format!("the newest trust document cannot be read: {e}")))?;
    let verified = verify::<TrustDocument>(Purpose::Trust, newest, &claimed.root_ring(), limits::TRUST_BYTES)?;
    let newest: TrustDocument = (*verified).clone();
    let signer: signing::PublicKey = keys.signer.public();
    if !newest.signers.contains(&signer) {
        return Err(StartError::Mismatch(format!(
            "the signer key {} is not in trust document {}: agents would refuse what it signs",
            signer.id(),
            newest.version
        )));
    }
    if !newest.authorities.contains(&keys.ca.digest()) {
        return Err(StartError::Mismatch(format!(
            "the fleet's authority is not in trust document {}: agents would not connect",
            newest.version
        )));
    }
    if newest.expires < clock::seconds() + 60 * 86_400 {
        tracing::warn!(
            version = newest.version,
            expires = newest.expires,
            "the trust document expires within 60 days; sign a new one with the root key"
        );
    }
    Ok(Trust { documents: documents.into(), newest })
}

fn server_names(config: &Config) -> Vec<String> {
    let mut names = vec![config.fleet.server_name.clone()];
    names.extend(config.fleet.addresses.iter().filter_map(|a| host(a)));
    names.dedup();
    names
}

fn admin_names(config: &Config) -> Vec<String> {
    let mut names = vec![config.fleet.server_name.clone(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.extend(config.admin.names.iter().cloned());
    names
}

/// The host of `host:port` or `[v6]:port`.
fn host(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}
