//! TLS of the admin API: 1.3, client certificates of the operators' authority.

use std::sync::{Arc, PoisonError, RwLock};

use driftless_protocol::quic::tls::provider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::http::Actor;
use crate::pki::{Authority, Identity};

/// The configuration for handshakes from now on.
#[derive(Debug)]
pub(crate) struct AdminTls {
    current: RwLock<Arc<ServerConfig>>,
}

impl AdminTls {
    pub(crate) fn new(authority: &Authority, identity: &Identity) -> Result<Self, rustls::Error> {
        Ok(Self { current: RwLock::new(Arc::new(config(authority, identity)?)) })
    }

    pub(crate) fn swap(&self, authority: &Authority, identity: &Identity) -> Result<(), rustls::Error> {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config(authority, identity)?);
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn config(authority: &Authority, identity: &Identity) -> Result<ServerConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![identity.certificate.clone()], identity.key_der())?;
    // A resumed session would not be asked for its certificate again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The operator a certificate names.
pub(crate) fn actor(leaf: &CertificateDer<'_>) -> Option<Actor> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(Actor(name.to_owned()))
}
