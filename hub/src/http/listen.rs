//! Where operators connect.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::guard::Caller;
use super::tls::{self, AdminTls};
use super::{Actor, Api};
use crate::shared::Shared;

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at one time: operators, pages and scripts, not agents.
    pub(super) connections: usize,
    /// TLS handshakes at one time.
    pub(super) handshakes: usize,
    /// Time for a handshake.
    pub(super) handshake: Duration,
    /// Time for a request's head; so long may a connection be idle.
    pub(super) head: Duration,
    /// Requests that run when the hub stops may take so long to end.
    pub(super) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshakes: 64,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

/// How long to wait after `accept` failed, mostly for want of file handles.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES: usize = 32 * 1024;

/// Serves HTTPS until the hub stops.
pub(crate) async fn serve_tls(shared: Arc<Shared>, listener: TcpListener, tls: Arc<AdminTls>) {
    let stop = shared.stop.clone();
    run_tls(Api::new(shared), listener, tls, Limits::default(), stop).await;
}

/// Serves the local socket until the hub stops, then removes it.
pub(crate) async fn serve_socket(shared: Arc<Shared>, listener: UnixListener, path: PathBuf) {
    let stop = shared.stop.clone();
    run_socket(Api::new(shared), listener, path, Limits::default(), stop).await;
}

pub(super) async fn run_tls(
    api: Api,
    listener: TcpListener,
    tls: Arc<AdminTls>,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut connections = Connections::new(api, limits, stop);
    // A place is taken before a connection is accepted: what is too much waits in the system's queue, and whoever has no
    // certificate takes no place from those who have one.
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    while let Some(handshake) = connections.place(&handshakes).await {
        let Some((stream, peer)) = connections.next("the TCP address", || listener.accept()).await else { break };
        let (acceptor, slots) = (tls.acceptor(), connections.slots.clone());
        connections.spawn(move |served| async move {
            let shaken = tokio::time::timeout(limits.handshake, async {
                stream.set_nodelay(true)?;
                let stream = acceptor.accept(stream).await?;
                let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((stream, slot))
            });
            let shaken = tokio::select! {
                () = served.stop.cancelled() => return,
                shaken = shaken => shaken,
            };
            drop(handshake);
            match shaken {
                Ok(Ok((stream, _slot))) => {
                    let caller = tls::caller(stream.get_ref().1.peer_certificates());
                    served.connection(stream, caller).await;
                }
                Ok(Err(error)) => tracing::info!(%peer, %error, "an admin connection was refused"),
                Err(_) => tracing::info!(%peer, "an admin connection took too long to shake hands"),
            }
        });
    }
    drop(listener);
    connections.finish().await;
}

pub(super) async fn run_socket(
    api: Api,
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
    stop: CancellationToken,
) {
    let ours = identity(&path);
    let mut connections = Connections::new(api, limits, stop);
    let slots = connections.slots.clone();
    while let Some(slot) = connections.place(&slots).await {
        let Some((stream, _)) = connections.next("the local socket", || listener.accept()).await else { break };
        let caller = match stream.peer_cred() {
            Ok(peer) => Caller::Admin(Actor(format!("uid:{}", peer.uid()))),
            Err(error) => Caller::Refused(format!("the system does not say who is at the socket: {error}")),
        };
        connections.spawn(move |served| async move {
            served.connection(stream, caller).await;
            drop(slot);
        });
    }
    // Not one that another hub has put there meanwhile.
    if ours.is_some()
        && identity(&path) == ours
        && let Err(error) = std::fs::remove_file(&path)
    {
        tracing::warn!(path = %path.display(), %error, "the local socket cannot be removed");
    }
    drop(listener);
    connections.finish().await;
}

/// Device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Opens the local socket; only the hub's user (and root) may connect. One left over by a hub that was killed is replaced;
/// one that somebody listens at, and anything that is no socket, is left alone.
///
/// It is made in a folder that nobody else may enter and then moved to its place, so that it never has wider rights there.
pub(crate) fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let other = |text: &str| Err(io::Error::other(text.to_owned()));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return other("something that is no socket is there: move it away, or configure another path");
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
            Ok(_) => return other("somebody listens there: another hub runs with this socket"),
        },
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let birth = folder.join(format!(".socket-{}", std::process::id()));
    remove_birthplace(&birth)?;
    std::fs::DirBuilder::new().mode(0o700).create(&birth)?;
    let made = bind_in(&birth, path);
    remove_birthplace(&birth)?;
    made
}

fn bind_in(birth: &Path, path: &Path) -> io::Result<UnixListener> {
    let first = birth.join("s");
    let listener = UnixListener::bind(&first)?;
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&first, path)?;
    Ok(listener)
}

/// Removes the folder a socket is made in, also one left over by a process of the same number.
fn remove_birthplace(folder: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(std::fs::remove_file(folder.join("s")))?;
    gone(std::fs::remove_dir(folder))
}

/// Connections of one listener.
struct Connections {
    served: Served,
    tasks: JoinSet<()>,
    slots: Arc<Semaphore>,
}

/// What a connection needs.
#[derive(Clone)]
struct Served {
    api: Api,
    limits: Limits,
    stop: CancellationToken,
}

impl Connections {
    fn new(api: Api, limits: Limits, stop: CancellationToken) -> Self {
        let slots = Arc::new(Semaphore::new(limits.connections));
        Self { served: Served { api, limits, stop }, tasks: JoinSet::new(), slots }
    }

    /// A place for one more; `None`: the hub stops.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<tokio::sync::OwnedSemaphorePermit> {
        tokio::select! {
            () = self.served.stop.cancelled() => None,
            place = places.clone().acquire_owned() => place.ok(),
        }
    }

    /// The next connection; `None`: the hub stops.
    async fn next<T, F: Future<Output = io::Result<T>>>(&self, what: &str, accept: impl Fn() -> F) -> Option<T> {
        loop {
            let accepted = tokio::select! {
                () = self.served.stop.cancelled() => return None,
                accepted = accept() => accepted,
            };
            match accepted {
                Ok(stream) => return Some(stream),
                Err(error) => {
                    // Out of file handles, most likely: others must go first.
                    tracing::warn!(%error, "an admin connection at {what} cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, run: impl FnOnce(Served) -> F) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "an admin connection broke off");
            }
        }
        self.tasks.spawn(run(self.served.clone()));
    }

    /// Connections end by themselves once the hub stops; what takes too long is cut. Changes that were begun are awaited.
    async fn finish(mut self) {
        let grace = self.served.limits.grace;
        let ended = tokio::time::timeout(grace, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(connections = self.tasks.len(), "admin connections are cut, since the hub stops");
            self.tasks.shutdown().await;
        }
        let changes = &self.served.api.changes;
        changes.close();
        if tokio::time::timeout(grace, changes.wait()).await.is_err() {
            tracing::warn!(requests = changes.len(), "the hub stops before these admin requests have ended");
        }
    }
}

impl Served {
    /// Serves one connection until it ends, is idle for too long, or the hub stops.
    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, caller: Caller) {
        let Self { api, limits, stop } = self;
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            let router = api.router.clone();
            async move {
                Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
            }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES);
        let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an admin connection ended badly");
        }
    }
}
