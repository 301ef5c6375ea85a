//! TLS of the admin API: 1.3, client certificates of the operators' authority.

use std::sync::{Arc, PoisonError, RwLock};

use driftless_protocol::quic::tls::{CLUSTER_URI_PREFIX, provider};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::http::Actor;
use crate::http::guard::Caller;
use crate::pki::{ADMIN_URI_PREFIX, Authority, Identity};

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

/// Who a verified certificate stands for. One that is valid and no operator's is answered, so that its holder learns why.
pub(super) fn caller(chain: Option<&[CertificateDer<'_>]>) -> Caller {
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Caller::Refused("no client certificate was given".to_owned());
    };
    match operator(leaf) {
        Ok(name) => Caller::Admin(Actor(name)),
        Err(why) => Caller::Refused(format!(
            "{why}; the admin API wants one whose only alternative name is {ADMIN_URI_PREFIX}<name>, such as the one in the \
             context file that `driftless-hub init` writes"
        )),
    }
}

/// The operator a certificate names.
fn operator(leaf: &CertificateDer<'_>) -> Result<String, String> {
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
    let name = uri.strip_prefix(ADMIN_URI_PREFIX).filter(|name| is_name(name));
    name.map(ToOwned::to_owned).ok_or_else(|| "the client certificate names no operator".to_owned())
}

/// 1 to 64 letters, digits and `-_.@`: nothing that could pass for a user of the local socket, or break a line of a log.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}
