//! Certificates: the fleet's authority, which issues hub and agent certificates, and the operators' authority.
//!
//! Two authorities, so that an agent's certificate is worth nothing at the admin API. Requests give a public key and
//! nothing else: name, use and lifetime are ours (rcgen would sign whatever a request asks for).

use driftless_protocol::id::{ClusterId, Digest, hex};
use driftless_protocol::quic::tls::cluster_uri;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use driftless_store::Certificate;

/// What the one alternative name of an operator's certificate begins with; the name follows.
pub(crate) const ADMIN_URI_PREFIX: &str = "driftless://admin/";

pub(crate) const DAY: u64 = 86_400;
/// How long an authority lasts.
const AUTHORITY_DAYS: u64 = 3650;
/// How long an agent's certificate lasts (`security.md` P-14).
pub(crate) const AGENT_DAYS: u64 = 1;
/// How long the hub's own certificates last; they are issued anew long before, and at every start.
const HUB_DAYS: u64 = 30;
/// How long an operator's certificate lasts.
const ADMIN_DAYS: u64 = 365;
/// Clocks of hub and agents differ: certificates are good from a little before they are made.
const BACKDATE: u64 = 300;
/// A request has a key and a few names; a P-256 one has about 300 bytes.
const CSR_BYTES: usize = 8 * 1024;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate library refused.
    #[error("cannot {operation}")]
    Certificate {
        /// What was attempted.
        operation: &'static str,
        /// Its words.
        #[source]
        source: rcgen::Error,
    },
    /// The request is not one.
    #[error("the certificate request cannot be used: {0}")]
    Request(String),
    /// There is no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

fn failed(operation: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Certificate { operation, source }
}

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| PkiError::Random(e.to_string()))?;
    Ok(bytes)
}

/// A certificate with its private key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Identity {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

/// A certificate authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.digest())
    }
}

/// An agent's new certificate.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The certificate. The fleet's authority issues leaves only, so it is the whole chain.
    pub(crate) der: Vec<u8>,
    /// For the store.
    pub(crate) record: Certificate,
}

impl Authority {
    /// Makes a new one; its certificate and private key as PEM.
    pub(crate) fn create(name: &str, now: u64) -> Result<(String, String), PkiError> {
        let operation = "make a certificate authority";
        let mut params = params(name, now, AUTHORITY_DAYS)?;
        // It issues leaves only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed(operation))?;
        let certificate = params.self_signed(&key).map_err(failed(operation))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// From its certificate and private key.
    pub(crate) fn load(pem: String, key: &str) -> Result<Self, PkiError> {
        let operation = "read a certificate authority";
        let key = KeyPair::from_pem(key).map_err(failed(operation))?;
        let certificate = {
            use rustls::pki_types::pem::PemObject as _;
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Request(e.to_string()))?
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(failed(operation))?;
        Ok(Self { certificate, pem, issuer })
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// What join tokens and trust documents name it by.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A certificate of the hub for these names and addresses.
    pub(crate) fn issue_server(&self, names: &[String], now: u64) -> Result<Identity, PkiError> {
        let operation = "make the hub's certificate";
        let mut params = params("driftless-hub", now, HUB_DAYS)?;
        params.subject_alt_names = CertificateParams::new(names).map_err(failed(operation))?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, operation)
    }

    /// A certificate of an operator.
    pub(crate) fn issue_admin(&self, name: &str, now: u64) -> Result<Identity, PkiError> {
        let operation = "make an operator's certificate";
        let mut params = params(name, now, ADMIN_DAYS)?;
        let uri = format!("{ADMIN_URI_PREFIX}{name}").try_into().map_err(failed(operation))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, operation)
    }

    fn issue(&self, mut params: CertificateParams, operation: &'static str) -> Result<Identity, PkiError> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed(operation))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(operation))?;
        Ok(Identity { certificate: certificate.der().clone(), pem: certificate.pem(), key })
    }

    /// A certificate of an agent for the key in its request.
    pub(crate) fn issue_agent(&self, cluster: ClusterId, request: &AgentRequest, now: u64) -> Result<Issued, PkiError> {
        let operation = "make an agent's certificate";
        let mut params = params(&format!("cluster {cluster}"), now, AGENT_DAYS)?;
        let uri = cluster_uri(cluster).try_into().map_err(failed(operation))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let certificate = params.signed_by(&request.key, &self.issuer).map_err(failed(operation))?;
        let record = Certificate {
            digest: Digest::of(certificate.der()),
            serial: hex(&serial),
            not_after: now + AGENT_DAYS * DAY,
        };
        Ok(Issued { der: certificate.der().to_vec(), record })
    }
}

/// The public key of a request whose signature by that key was checked.
#[derive(Debug)]
pub(crate) struct AgentRequest {
    key: rcgen::PublicKey,
}

impl AgentRequest {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, PkiError> {
        if der.len() > CSR_BYTES {
            return Err(PkiError::Request(format!("it has {} bytes, more than {CSR_BYTES}", der.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|e| PkiError::Request(e.to_string()))?;
        Ok(Self { key: request.public_key })
    }

    /// BLAKE3 of the public key: who asks.
    pub(crate) fn key_digest(&self) -> Digest {
        Digest::of(&self.key.subject_public_key_info())
    }
}

fn params(name: &str, now: u64, days: u64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
    params.not_before = at(now.saturating_sub(BACKDATE));
    params.not_after = at(now + days * DAY);
    // Positive and of a fixed length, as RFC 5280 wants it.
    let mut serial = random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
