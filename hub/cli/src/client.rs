//! Requests to the hub's admin API: mutual TLS, or the hub's local socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::api::{Context, PREFIX, Problem};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use crate::args::Connection;
use crate::error::{CliError, Kind};

/// Largest answer read: ten thousand clusters with their problems.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait for an answer: `reconcile` fetches sources first.
const ANSWER: Duration = Duration::from_secs(120);

/// How to reach a hub.
#[derive(Debug)]
pub struct Client {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Socket(PathBuf),
    Tls { context: Box<Context>, file: PathBuf },
}

impl Client {
    /// From the command line: a socket, a context file, or the context file in its usual place.
    pub fn new(connection: &Connection) -> Result<Self, CliError> {
        if let Some(path) = &connection.socket {
            return Ok(Self { way: Way::Socket(path.clone()) });
        }
        let file = match &connection.context {
            Some(file) => file.clone(),
            None => usual_place()?,
        };
        let text = std::fs::read_to_string(&file).map_err(|e| {
            CliError::new(Kind::Usage, format!("cannot read the context file {}: {e}", file.display()))
                .hint("`driftless-hub init` writes one; name it with --context, or use the hub's socket with --socket")
        })?;
        let context: Context = serde_saphyr::from_str(&text)
            .map_err(|e| CliError::new(Kind::Usage, format!("{} is no context file: {e}", file.display())))?;
        Ok(Self { way: Way::Tls { context: Box::new(context), file } })
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::GET, path, None).await
    }

    /// Asks for something to be done.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, CliError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| CliError::new(Kind::Failed, format!("cannot write the request: {e}")))?;
        self.call(Method::POST, path, Some(body)).await
    }

    /// Asks for something to be removed.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.call(Method::DELETE, path, None).await
    }

    fn name(&self) -> String {
        match &self.way {
            Way::Socket(path) => path.display().to_string(),
            Way::Tls { context, .. } => context.address.clone(),
        }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> CliError {
        CliError::new(Kind::Unreachable, format!("cannot reach the hub at {}: {why}", self.name())).hint(
            match &self.way {
                Way::Socket(_) => "is driftless-hub running on this machine, and may you open its socket?".to_owned(),
                Way::Tls { file, .. } => format!("is the hub running, and is the address in {} right?", file.display()),
            },
        )
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, CliError> {
        let connected = tokio::time::timeout(CONNECT, self.connect()).await;
        let mut sender = connected.map_err(|_| self.unreachable("no connection within 10 s"))??;
        let host = match &self.way {
            Way::Socket(_) => "hub".to_owned(),
            Way::Tls { context, .. } => context.server_name.clone(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| CliError::new(Kind::Failed, format!("cannot make the request {path}: {e}")))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| self.unreachable(e))?;
            let status = response.status();
            let bytes = Limited::new(response.into_body(), ANSWER_BYTES)
                .collect()
                .await
                .map_err(|e| self.unreachable(e))?
                .to_bytes();
            Ok::<_, CliError>((status, bytes))
        };
        let (status, bytes) =
            tokio::time::timeout(ANSWER, exchange).await.map_err(|_| self.unreachable("no answer within 120 s"))??;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|e| {
                CliError::new(Kind::Failed, format!("the hub's answer cannot be read: {e}"))
                    .hint("is `driftless` older or newer than the hub?")
            });
        }
        Err(refusal(status, &bytes))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, CliError> {
        match &self.way {
            Way::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| self.unreachable(e))?;
                self.handshake(TokioIo::new(stream)).await
            }
            Way::Tls { context, file } => {
                let tcp = TcpStream::connect(&context.address).await.map_err(|e| self.unreachable(e))?;
                let config = tls(context, file)?;
                let name = ServerName::try_from(context.server_name.clone()).map_err(|e| {
                    CliError::new(Kind::Usage, format!("{}: serverName is no host name: {e}", file.display()))
                })?;
                let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
                    .connect(name, tcp)
                    .await
                    .map_err(|e| self.unreachable(e))?;
                self.handshake(TokioIo::new(stream)).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<http1::SendRequest<Full<Bytes>>, CliError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(stream).await.map_err(|e| self.unreachable(e))?;
        // One connection for one command: it ends with the runtime, a moment after the answer.
        tokio::task::spawn(async move {
            if let Err(error) = connection.await {
                crate::ui::note(&format!("warning: the connection to the hub broke off: {error}"));
            }
        });
        Ok(sender)
    }
}

fn refusal(status: StatusCode, bytes: &[u8]) -> CliError {
    let Ok(problem) = serde_json::from_slice::<Problem>(bytes) else {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).trim().to_owned();
        return CliError::new(Kind::Failed, format!("the hub answered {status}: {text}"));
    };
    let kind = match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Kind::Usage,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::CONFLICT => Kind::Refused,
        _ => Kind::Failed,
    };
    CliError::new(kind, problem.detail)
}

fn tls(context: &Context, file: &Path) -> Result<rustls::ClientConfig, CliError> {
    let bad = |what: &str, e: &dyn std::fmt::Display| {
        CliError::new(Kind::Usage, format!("{}: {what} cannot be used: {e}", file.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(context.authority.as_bytes()) {
        let certificate = certificate.map_err(|e| bad("authority", &e))?;
        roots.add(certificate).map_err(|e| bad("authority", &e))?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(context.certificate.as_bytes()).collect();
    let chain = chain.map_err(|e| bad("certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(context.key.as_bytes()).map_err(|e| bad("key", &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad("TLS", &e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad("certificate", &e))
}

fn usual_place() -> Result<PathBuf, CliError> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config")));
    base.map(|b| b.join("driftless/context.yaml"))
        .ok_or_else(|| CliError::new(Kind::Usage, "no home folder to look for a context file in").hint("use --context"))
}

/// Percent-encodes what may not stand in a path segment or a query value.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
