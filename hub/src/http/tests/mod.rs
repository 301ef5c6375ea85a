//! The admin API over toy routes, real listeners, and a whole hub.

mod guard;
mod hub;
mod listen;

use std::sync::Arc;

use axum::http::{Method, Request, StatusCode, header};
use driftless_protocol::api::{PROBLEM_JSON, Problem};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::pki::{Authority, Identity};

/// An answer, read whole.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// The problem it must be, with its status also in the body.
    fn problem(&self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], PROBLEM_JSON, "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }
}

fn request(method: Method, path: &str, body: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "hub");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request.body(Full::new(Bytes::from(body.unwrap_or_default().to_owned()))).unwrap()
}

/// One connection of a client.
struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> hyper::Result<Self> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: tokio::spawn(connection) })
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&str>) -> hyper::Result<Got> {
        let response = self.sender.send_request(request(method, path, body)).await?;
        let (parts, body) = response.into_parts();
        Ok(Got { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
    }

    async fn get(&mut self, path: &str) -> hyper::Result<Got> {
        self.send(Method::GET, path, None).await
    }
}

/// A TLS client that trusts `authority` and shows `identity`.
async fn tls_client(
    address: std::net::SocketAddr,
    authority: &Authority,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Client, Box<dyn std::error::Error>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let builder = rustls::ClientConfig::builder_with_provider(driftless_protocol::quic::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("hub.test")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    Ok(Client::over(stream).await?)
}

fn shown(identity: &Identity) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Some((vec![identity.certificate.clone()], identity.key_der()))
}
