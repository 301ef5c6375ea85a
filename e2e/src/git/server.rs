//! The HTTP side: listening, passwords, TLS, and misbehaving on demand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::cgi::{self, Body};
use super::{Repo, program};
use crate::certs;
use crate::ports;

/// Requests that are remembered for tests to look at.
const REMEMBERED: usize = 1000;
/// Connections served at once; the next one waits.
const CONNECTIONS: usize = 256;
/// Pause after an accept that failed (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ask for these; everything is open without.
    pub credentials: Option<Credentials>,
    /// Serve HTTPS under an authority made for this server.
    pub tls: bool,
}

/// A user and a password, for reading and pushing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl Credentials {
    /// From text.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    fn header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the server does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What a Git server does.
    Serve,
    /// Answers every request with this status.
    Fail(StatusCode),
    /// Takes the request and never answers.
    Hang,
    /// Closes every connection without an answer.
    Drop,
}

/// A Git server on 127.0.0.1; ends when dropped. Its address stays the same when it is stopped and started.
pub struct GitServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    authority: Option<String>,
    listening: Option<AbortOnDropHandle<()>>,
    works: PathBuf,
    // Last: the repositories go when nobody serves them any more.
    _folder: TempDir,
}

impl std::fmt::Debug for GitServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What connections share.
#[derive(Debug)]
struct Shared {
    git: PathBuf,
    repositories: PathBuf,
    credentials: Mutex<Option<Credentials>>,
    mode: watch::Sender<Mode>,
    requests: Mutex<VecDeque<String>>,
}

impl GitServer {
    /// Starts a server without repositories.
    ///
    /// # Errors
    /// git is missing, or no port or folder can be had.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("driftless-git-").tempdir().context("create a folder")?;
        let (repositories, works) = (folder.path().join("repositories"), folder.path().join("work"));
        for made in [&repositories, &works] {
            std::fs::create_dir(made).with_context(|| format!("create {}", made.display()))?;
        }
        let (acceptor, authority) = if options.tls {
            let (acceptor, authority) = certs::loopback_tls("git server")?;
            (Some(acceptor), Some(authority))
        } else {
            (None, None)
        };
        let listener = ports::listen().context("listen on a port")?;
        let address = listener.local_addr()?;
        let shared = Shared {
            git: program()?,
            repositories,
            credentials: Mutex::new(options.credentials),
            mode: watch::Sender::new(Mode::Serve),
            requests: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let mut server = Self { shared, address, acceptor, authority, listening: None, works, _folder: folder };
        server.serve(listener);
        Ok(server)
    }

    /// `http://127.0.0.1:<port>` or the same with https.
    pub fn url(&self) -> String {
        let scheme = if self.acceptor.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The URL of a repository.
    pub fn repo_url(&self, name: &str) -> String {
        format!("{}/{name}.git", self.url())
    }

    /// The authority to trust, PEM; `None` without TLS.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The folder with the bare repositories (`<name>.git`).
    pub fn folder(&self) -> &Path {
        &self.shared.repositories
    }

    /// Makes an empty repository that is served at once.
    ///
    /// # Errors
    /// git fails.
    pub async fn create_repo(&self, name: &str) -> Result<Repo> {
        Repo::create(&self.shared.repositories, &self.works, name).await.with_context(|| format!("create {name}"))
    }

    /// Changes what is asked for, from the next request on.
    pub fn set_credentials(&self, credentials: Option<Credentials>) {
        *self.shared.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// Changes how it behaves, from now on: requests that hang are let go.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// The newest requests, oldest first: method, path and query.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Stops listening and ends all connections: the host is down. Returns when the port is closed.
    pub async fn stop(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
            drop(task.await);
        }
    }

    /// Listens again on the same address.
    ///
    /// # Errors
    /// Another program took the port.
    pub async fn listen(&mut self) -> Result<()> {
        if self.listening.is_none() {
            let listener = ports::listen_again(self.address).await;
            self.serve(listener.with_context(|| format!("listen on {}", self.address))?);
        }
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let serving = accept(listener, Arc::clone(&self.shared), self.acceptor.clone());
        self.listening = Some(AbortOnDropHandle::new(tokio::spawn(serving)));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    // Dropped, and so aborted, with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared), acceptor.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "git server could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) {
    let served = match acceptor {
        None => requests(stream, shared).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => requests(stream, shared).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = served {
        tracing::debug!(error = %format!("{error:#}"), "git server: a connection ended early");
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) -> Result<()> {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { answer(request, &shared).await }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// The error of an answer that is not given: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>, Dropped> {
    remember(&request, shared);
    let mut modes = shared.mode.subscribe();
    loop {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Serve => return Ok(serve(request, shared).await),
            Mode::Fail(status) => return Ok(cgi::text(status, "the server fails on purpose\n")),
            Mode::Drop => return Err(Dropped),
            Mode::Hang => modes.changed().await.map_err(|_| Dropped)?,
        }
    }
}

async fn serve(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let credentials = shared.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let user = match credentials {
        None => "anonymous".to_owned(),
        Some(wanted) if request.headers().get(AUTHORIZATION).is_some_and(|got| got == wanted.header().as_str()) => {
            wanted.user
        }
        Some(_) => {
            let mut refusal = cgi::text(StatusCode::UNAUTHORIZED, "user or password wrong\n");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"git\""));
            return refusal;
        }
    };
    match cgi::serve(&shared.git, &shared.repositories, request, &user).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(error = %format!("{error:#}"), "git server: a request failed");
            cgi::text(StatusCode::INTERNAL_SERVER_ERROR, "git http-backend failed\n")
        }
    }
}

fn remember(request: &Request<Incoming>, shared: &Shared) {
    let mut requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
    if requests.len() == REMEMBERED {
        requests.pop_front();
    }
    requests.push_back(format!("{} {}", request.method(), request.uri()));
}
