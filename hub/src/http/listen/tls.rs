//! HTTPS: TLS 1.3 with a client certificate of the operators' authority, which names its holder.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use driftless_protocol::quic::tls::{CLUSTER_URI_PREFIX, HubIdentity, TlsError, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{Connections, ListenError, connection, next};
use crate::http::Limits;
use crate::http::backend::{Actor, Caller};

/// What the subject alternative name of an operator's certificate begins with; the name follows.
pub const ADMIN_URI_PREFIX: &str = "driftless://admin/";

/// The subject alternative name of an operator's certificate. `None`: [`Actor::named`] refuses the name.
#[must_use]
pub fn admin_uri(name: &str) -> Option<String> {
    Actor::named(name).map(|actor| format!("{ADMIN_URI_PREFIX}{actor}"))
}

/// The HTTPS listener.
#[derive(Debug)]
pub struct TlsListener {
    listener: TcpListener,
    address: SocketAddr,
    config: Arc<ServerConfig>,
}

impl TlsListener {
    /// Binds. `identity` has the hub's certificate and the authorities of operators; when it is swapped, later handshakes
    /// use the new one.
    pub async fn bind(address: SocketAddr, identity: &Arc<HubIdentity>) -> Result<Self, ListenError> {
        let config = Arc::new(config(identity).map_err(ListenError::Tls)?);
        let tcp = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).await.map_err(tcp)?;
        let address = listener.local_addr().map_err(tcp)?;
        Ok(Self { listener, address, config })
    }

    /// Where it listens: with the port the system gave.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A place is taken before a connection is accepted: what is too much waits in the system's queue.
    pub(super) async fn serve(self, router: &Router, limits: &Limits, stop: &CancellationToken) {
        let acceptor = TlsAcceptor::from(self.config);
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let mut connections = Connections::new(limits.connections);
        loop {
            let handshake = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&handshakes).acquire_owned() => permit,
            };
            let Ok(handshake) = handshake else { break };
            let Some((stream, peer)) = next("TCP", stop, || self.listener.accept()).await else { break };
            connections.reap();
            let (acceptor, slots) = (acceptor.clone(), Arc::clone(&connections.slots));
            let (router, limits, stop) = (router.clone(), *limits, stop.clone());
            connections.tasks.spawn(async move {
                // The place among the connections is part of the time for the handshake.
                let shaken = tokio::time::timeout(limits.handshake, async {
                    let stream = shake(&acceptor, stream).await?;
                    let slot = slots.acquire_owned().await.map_err(std::io::Error::other)?;
                    Ok::<_, std::io::Error>((stream, slot))
                });
                let shaken = tokio::select! {
                    () = stop.cancelled() => return,
                    shaken = shaken => shaken,
                };
                drop(handshake);
                match shaken {
                    Ok(Ok((stream, _slot))) => {
                        let caller = caller_of(stream.get_ref().1.peer_certificates());
                        connection(stream, caller, router, limits, stop).await;
                    }
                    Ok(Err(error)) => tracing::info!(%peer, %error, "a TLS handshake for the admin API failed"),
                    Err(_) => tracing::info!(%peer, "a TLS handshake for the admin API took too long"),
                }
            });
        }
        drop(self.listener);
        connections.finish(limits.grace).await;
    }
}

async fn shake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    // Answers are small and written at once.
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

fn config(identity: &Arc<HubIdentity>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { what: "TLS provider", source })?
        .with_client_cert_verifier(Arc::new(Demanded(Arc::clone(identity))))
        .with_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // On resumption rustls does not verify the client's certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The hub's own verifier, which lets agents enrol without a certificate; here there is no way without one.
#[derive(Debug)]
struct Demanded(Arc<HubIdentity>);

impl ClientCertVerifier for Demanded {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Who a verified certificate stands for. A valid one that is no operator's is answered, so that its holder learns why.
fn caller_of(chain: Option<&[CertificateDer<'_>]>) -> Caller {
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Caller::Refused("no client certificate was given".to_owned());
    };
    match name_of(leaf) {
        Ok(actor) => Caller::Admin(actor),
        Err(why) => Caller::Refused(format!(
            "{why}; the admin API takes certificates whose one alternative name is {ADMIN_URI_PREFIX}<name>, such as the \
             one in the context file of `driftless-hub init`"
        )),
    }
}

fn name_of(leaf: &CertificateDer<'_>) -> Result<Actor, String> {
    let unreadable = |e: &dyn std::fmt::Display| format!("the client certificate cannot be read: {e}");
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|e| unreadable(&e))?;
    if !rest.is_empty() {
        return Err(unreadable(&"bytes follow it"));
    }
    let names = certificate.subject_alternative_name().map_err(|e| unreadable(&e))?;
    let names = names.map(|n| n.value.general_names.as_slice()).unwrap_or_default();
    let [GeneralName::URI(uri)] = names else {
        return Err(format!("the client certificate has {} alternative names, not one URI", names.len()));
    };
    if let Some(cluster) = uri.strip_prefix(CLUSTER_URI_PREFIX) {
        let cluster: String = cluster.chars().take(32).collect();
        return Err(format!("the client certificate is that of the agent of cluster {cluster}, not an operator's"));
    }
    uri.strip_prefix(ADMIN_URI_PREFIX)
        .and_then(Actor::named)
        .ok_or_else(|| "the client certificate names no operator".to_owned())
}
