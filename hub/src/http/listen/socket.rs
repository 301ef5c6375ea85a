//! The local socket: for the hub's own user and root, whom the kernel names.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::{Connections, ListenError, connection, next};
use crate::http::Limits;
use crate::http::backend::{Actor, Caller};

/// The local socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct SocketListener {
    listener: UnixListener,
    file: SocketFile,
}

/// A socket's file by device and inode: another hub's is never removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the admin API's socket");
        }
    }
}

impl SocketListener {
    /// Makes the socket with mode 0600, its folder (0700) when that is missing. A file left over by a hub that was killed is
    /// replaced; one that somebody listens at is not.
    ///
    /// The socket is made in a folder of its own and moved to its place, so that it never stands there with wider rights.
    pub async fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |operation: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| ListenError::Socket { operation, path, source }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let private = |folder: &Path| fs::DirBuilder::new().mode(0o700).create(folder);
        if !folder.exists() {
            private(folder).map_err(failed("make the folder", folder))?;
        }
        check_free(path).await?;
        let birth = folder.join(format!(".sock{}", std::process::id()));
        remove_birthplace(&birth).map_err(failed("remove the folder", &birth))?;
        private(&birth).map_err(failed("make the folder", &birth))?;
        let made = Self::make(&birth, path);
        let removed = remove_birthplace(&birth).map_err(failed("remove the folder", &birth));
        let made = made?;
        removed?;
        Ok(made)
    }

    fn make(birth: &Path, path: &Path) -> Result<Self, ListenError> {
        let failed = |operation: &'static str| {
            move |source| ListenError::Socket { operation, path: path.to_owned(), source }
        };
        let first = birth.join("s");
        let listener = UnixListener::bind(&first).map_err(failed("listen at"))?;
        fs::set_permissions(&first, fs::Permissions::from_mode(0o600)).map_err(failed("set the rights of"))?;
        let identity = fs::symlink_metadata(&first).map(|m| (m.dev(), m.ino())).map_err(failed("look at"))?;
        fs::rename(&first, path).map_err(failed("put in place"))?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), identity } })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// As with TLS, a place is taken before a connection is accepted.
    pub(super) async fn serve(self, router: &Router, limits: &Limits, stop: &CancellationToken) {
        let mut connections = Connections::new(limits.connections);
        loop {
            let slot = tokio::select! {
                () = stop.cancelled() => break,
                slot = Arc::clone(&connections.slots).acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            let Some((stream, _)) = next("the socket", stop, || self.listener.accept()).await else { break };
            connections.reap();
            let caller = match stream.peer_cred() {
                Ok(peer) => Caller::Admin(Actor::user(peer.uid())),
                Err(error) => Caller::Refused(format!("the system does not say who is at the socket: {error}")),
            };
            let (router, limits, stop) = (router.clone(), *limits, stop.clone());
            connections.tasks.spawn(async move {
                connection(stream, caller, router, limits, stop).await;
                drop(slot);
            });
        }
        let Self { listener, file } = self;
        drop(file);
        drop(listener);
        connections.finish(limits.grace).await;
    }
}

/// Nothing is there, or a socket that nobody listens at.
async fn check_free(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Socket { operation: "look at", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // One whose queue is full has an owner as well.
            Ok(_) => Err(ListenError::SocketInUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ListenError::SocketInUse(path.to_owned())),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Removes the folder a socket is made in, also one left over by a process of the same number.
fn remove_birthplace(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join("s")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
