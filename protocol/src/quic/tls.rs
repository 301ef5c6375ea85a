//! TLS for both ALPNs: 1.3 only, private authorities only, no resumption, no early data.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::id::{ClusterId, Digest};
use crate::session::Access;

/// ALPN of enrolment.
pub const ALPN_ENROLL: &[u8] = b"driftless-enroll/1";
/// ALPN of sessions.
pub const ALPN_SESSION: &[u8] = b"driftless/1";

/// What the subject alternative name of an agent's certificate begins with; the cluster id follows.
pub const CLUSTER_URI_PREFIX: &str = "driftless://cluster/";

/// Certificates a client may send: leaf and one intermediate.
const CLIENT_CHAIN: usize = 2;
/// Bytes of them together. A P-256 leaf has about 500.
const CLIENT_CHAIN_BYTES: usize = 4096;

/// Why a TLS configuration cannot be made, or a certificate is not an identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate, its key or the authorities do not fit together.
    #[error("cannot use the {what}")]
    Config {
        /// What of it.
        what: &'static str,
        /// As the TLS library says.
        #[source]
        source: rustls::Error,
    },
    /// The authorities cannot verify anybody.
    #[error("cannot use the certificate authorities: {0}")]
    Authorities(String),
    /// A certificate that is valid but names no cluster as `WIRE.md` demands.
    #[error("the client certificate is not an agent's: {0}")]
    NotAnAgent(String),
}

/// The one provider, passed explicitly so that no global default can differ.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The subject alternative name of a cluster's certificate.
#[must_use]
pub fn cluster_uri(cluster: ClusterId) -> String {
    format!("{CLUSTER_URI_PREFIX}{cluster}")
}

/// The hub's certificate, key and authorities. [`HubIdentity::swap`] changes them for all later handshakes.
pub struct HubIdentity {
    current: RwLock<Material>,
    /// How long after its end a client's certificate may still be renewed with itself.
    grace: Duration,
    provider: Arc<CryptoProvider>,
}

#[derive(Clone)]
struct Material {
    key: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for HubIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubIdentity(..)")
    }
}

impl HubIdentity {
    /// `chain` is leaf first. The authority that issued it is appended when it is not part of it, since an agent that
    /// enrols knows nothing but its digest. Clients must come from one of `authorities`, with a certificate that is in
    /// its time.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Arc<Self>, TlsError> {
        Self::with_grace(chain, key, authorities, Duration::ZERO)
    }

    /// As [`Self::new`], and lets in a client whose certificate expired less than `grace` ago and is good otherwise. Such
    /// a client has [`Access::Renewal`]: certificates live for a day, and a hub that was away longer would else have to
    /// enrol its whole fleet anew.
    pub fn with_grace(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: &[CertificateDer<'static>],
        grace: Duration,
    ) -> Result<Arc<Self>, TlsError> {
        let provider = provider();
        let current = RwLock::new(Material::new(&provider, chain, key, authorities)?);
        Ok(Arc::new(Self { current, grace, provider }))
    }

    /// Replaces everything, for handshakes from now on. Connections that stand are not touched.
    pub fn swap(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<(), TlsError> {
        let material = Material::new(&self.provider, chain, key, authorities)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = material;
        Ok(())
    }

    fn material(&self) -> Material {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the certificate ended, if that is what is wrong with it and not longer ago than the grace.
    fn end_within_grace(&self, error: &rustls::Error, leaf: &CertificateDer<'_>, now: UnixTime) -> Option<UnixTime> {
        let expired = matches!(
            error,
            rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
        );
        let (_, certificate) = X509Certificate::from_der(leaf).ok().filter(|_| expired)?;
        let end = seconds(certificate.validity().not_after);
        let ago = now.as_secs().checked_sub(end)?;
        (1..=self.grace.as_secs()).contains(&ago).then(|| UnixTime::since_unix_epoch(Duration::from_secs(end)))
    }
}

impl Material {
    fn new(
        provider: &Arc<CryptoProvider>,
        mut chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, TlsError> {
        let issuers = chain.last().map(|last| issuers_of(last, authorities)).unwrap_or_default();
        chain.extend(issuers);
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|source| TlsError::Config { what: "hub's certificate and key", source })?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), Arc::clone(provider))
            // Enrolment has none; `accept` demands one for sessions.
            .allow_unauthenticated()
            .build()
            .map_err(|e| TlsError::Authorities(e.to_string()))?;
        Ok(Self { key: Arc::new(key), clients })
    }
}

/// The authorities that may have issued this certificate, by name; none when it is one of them itself.
///
/// Two can have one name while an authority is being replaced; sending both is harmless.
fn issuers_of(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    if authorities.iter().any(|a| a == certificate) {
        return Vec::new();
    }
    authorities
        .iter()
        .filter(|a| X509Certificate::from_der(a).is_ok_and(|(_, a)| a.subject() == parsed.issuer()))
        .cloned()
        .collect()
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(authority.clone()).map_err(|e| TlsError::Authorities(e.to_string()))?;
    }
    if store.is_empty() {
        return Err(TlsError::Authorities("there is none".into()));
    }
    Ok(store)
}

impl ResolvesServerCert for HubIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.material().key)
    }
}

impl ClientCertVerifier for HubIdentity {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // An agent has one certificate; a list of authorities would only make the first flight longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bytes = end_entity.len() + intermediates.iter().map(|c| c.len()).sum::<usize>();
        if intermediates.len() >= CLIENT_CHAIN || bytes > CLIENT_CHAIN_BYTES {
            return Err(rustls::Error::General(format!("a client chain of {bytes} bytes is too long")));
        }
        let clients = self.material().clients;
        clients.verify_client_cert(end_entity, intermediates, now).or_else(|error| {
            let end = self.end_within_grace(&error, end_entity, now).ok_or(error)?;
            // At its last second everything but its age is as it must be.
            clients.verify_client_cert(end_entity, intermediates, end)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.material().clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.material().clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.material().clients.supported_verify_schemes()
    }
}

/// The hub's TLS for both ALPNs.
pub(super) fn hub_server(identity: &Arc<HubIdentity>) -> Result<rustls::ServerConfig, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&identity.provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { what: "TLS provider", source })?
        .with_client_cert_verifier(Arc::clone(identity) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::clone(identity) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![ALPN_SESSION.to_vec(), ALPN_ENROLL.to_vec()];
    // On resumption rustls does not verify the client's certificate again: a revoked agent could come back.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// An agent's TLS for enrolment: the hub's chain must contain the authority with this digest.
pub fn enroll_client(hub_ca: Digest) -> Result<rustls::ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Arc::new(PinnedVerifier { pins: vec![hub_ca], provider: Arc::clone(&provider) });
    let mut config =
        client_builder(&provider)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![ALPN_ENROLL.to_vec()];
    Ok(no_resumption(config))
}

/// An agent's TLS for sessions: its own certificate (leaf first), and the authorities it was given.
pub fn session_client(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: &[CertificateDer<'static>],
) -> Result<rustls::ClientConfig, TlsError> {
    let mut config = client_builder(&provider())?
        .with_root_certificates(roots(authorities)?)
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Config { what: "agent's certificate and key", source })?;
    config.alpn_protocols = vec![ALPN_SESSION.to_vec()];
    Ok(no_resumption(config))
}

/// As [`session_client`], with the authorities given by the digests that the newest trust document lists: a new
/// authority reaches agents with the trust document, since the hub always sends its certificate.
pub fn pinned_session_client(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: &[Digest],
) -> Result<rustls::ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Arc::new(PinnedVerifier { pins: authorities.to_vec(), provider: Arc::clone(&provider) });
    let mut config = client_builder(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Config { what: "agent's certificate and key", source })?;
    config.alpn_protocols = vec![ALPN_SESSION.to_vec()];
    Ok(no_resumption(config))
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, TlsError> {
    rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { what: "TLS provider", source })
}

fn no_resumption(mut config: rustls::ClientConfig) -> rustls::ClientConfig {
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Trusts exactly the authorities whose certificates have these digests; everything else is checked as usual.
#[derive(Debug)]
struct PinnedVerifier {
    pins: Vec<Digest>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut store = RootCertStore::empty();
        for authority in intermediates.iter().filter(|c| self.pins.contains(&Digest::of(c))) {
            store.add(authority.clone().into_owned())?;
        }
        if store.is_empty() {
            let pins: Vec<String> = self.pins.iter().map(Digest::short).collect();
            return Err(rustls::Error::General(format!(
                "the hub's certificates do not contain the pinned authority {}: wrong address, or somebody in between",
                pins.join(" or ")
            )));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&self.provider))
            .build()
            .map_err(|e| rustls::Error::General(format!("the pinned authority cannot be used: {e}")))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Who an agent is, from its verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// BLAKE3 of the leaf's DER: what the store lists as issued or revoked.
    pub certificate: Digest,
    /// Its serial number in lower-case hex.
    pub serial: String,
    /// Valid from, Unix seconds. A renewed certificate has a later one.
    pub not_before: u64,
    /// Valid to, Unix seconds.
    pub not_after: u64,
    /// What it opens now.
    pub access: Access,
}

impl PeerIdentity {
    /// Reads a leaf that TLS has verified already.
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let no = |text: String| TlsError::NotAnAgent(text);
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|e| no(e.to_string()))?;
        if !rest.is_empty() {
            return Err(no("bytes follow it".into()));
        }
        let names = certificate.subject_alternative_name().map_err(|e| no(e.to_string()))?;
        let names = names.map(|n| n.value.general_names.as_slice()).unwrap_or_default();
        let [GeneralName::URI(uri)] = names else {
            return Err(no(format!("it has {} alternative names, one URI is expected", names.len())));
        };
        let cluster = uri
            .strip_prefix(CLUSTER_URI_PREFIX)
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| no(format!("its name is not {CLUSTER_URI_PREFIX}<cluster id>")))?;
        let not_after = seconds(certificate.validity().not_after);
        Ok(Self {
            cluster,
            certificate: Digest::of(leaf),
            serial: crate::id::hex(certificate.raw_serial()),
            not_before: seconds(certificate.validity().not_before),
            not_after,
            access: if UnixTime::now().as_secs() > not_after { Access::Renewal } else { Access::Full },
        })
    }
}

/// Unix seconds; what is before 1970 is 0.
fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}
