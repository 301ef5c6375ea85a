//! Who this cluster is to its hub: key, certificate and pins in Secret `driftless-identity`; enrolment and renewal.
//!
//! The key is made here and never leaves the cluster. Enrolment stores the key *before* it redeems the join token, so that
//! a pod that dies in between asks again with the same key, which the hub can recognise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused, EnrollRequest};
use driftless_protocol::id::{ClusterId, ClusterName, Digest, KeyId};
use driftless_protocol::marks;
use driftless_protocol::message::WIRE_VERSION;
use driftless_protocol::quic::tls::{PeerIdentity, TlsError, enroll_client, pinned_session_client};
use driftless_protocol::quic::{QuicError, agent_endpoint, connect, stream};
use driftless_protocol::signing::Verified;
use driftless_protocol::token::JoinToken;
use driftless_protocol::trust::{self, TrustDocument};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::agent::unix_millis;
use crate::cluster::api::{Actor, Api, ApiError, chain, secrets};
use crate::join::{Found, JoinError, JoinFile};
use crate::ledger::{LedgerError, TrustRecord};

/// The Secret.
pub const SECRET: &str = "driftless-identity";
/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// First and longest pause between rounds of enrolment attempts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why there is no identity, or it could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A request failed.
    #[error("cannot {doing}")]
    Api {
        /// What was tried, on what.
        doing: &'static str,
        /// As the API server says.
        #[source]
        source: ApiError,
    },
    /// Neither identity nor token.
    #[error(
        "this cluster is not enrolled and there is no join token; make one with `driftless cluster join-token NAME` and \
         put it into the Secret that --join-token-file reads"
    )]
    NoToken,
    /// The Secret came from another cluster.
    #[error(
        "the identity in Secret driftless-system/driftless-identity was made for the cluster whose kube-system namespace has \
         UID {made_for}, this one has {here}: a restored or copied cluster needs a join token of its own \
         (`driftless cluster join-token NAME`)"
    )]
    Copied {
        /// The UID bound at enrolment.
        made_for: String,
        /// The UID here.
        here: String,
    },
    /// The Secret does not hold what it should.
    #[error(
        "Secret driftless-system/driftless-identity cannot be read: {0}; delete it and enrol anew if it cannot be mended"
    )]
    Damaged(String),
    /// Another pod wrote the Secret.
    #[error(
        "Secret driftless-system/driftless-identity was changed by another pod of the agent; this one begins again"
    )]
    Raced,
    /// The hub said no, for good.
    #[error("{0}; make a new join token with `driftless cluster join-token NAME`")]
    Refused(EnrollRefused),
    /// No address answered, or the hub cannot enrol now.
    #[error("the hub does not answer the join token: {0}")]
    Unanswered(String),
    /// The join token file.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// What the hub granted does not fit the join token or our key.
    #[error("the hub's grant is not to be believed: {0}")]
    Grant(String),
    /// A key or a request for a certificate could not be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// TLS does not take what is stored.
    #[error("the stored identity cannot be used for TLS")]
    Tls(#[from] TlsError),
    /// The trust documents could not be stored.
    #[error("cannot keep the trust documents")]
    Trust(#[from] LedgerError),
    /// The agent ends before it was enrolled.
    #[error("asked to end before the enrolment was done")]
    Cancelled,
}

/// The Secret's one key holds this as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// PKCS#8, DER, base64.
    key: String,
    /// A key whose certificate was asked for and did not come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_key: Option<String>,
    /// For digests of secret values in reports: random, for the life of the cluster.
    hash_key: String,
    /// None until enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled: Option<Enrolled>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled {
    cluster: ClusterId,
    name: ClusterName,
    /// DER, base64, leaf first.
    chain: Vec<String>,
    root_keys: Vec<KeyId>,
    addresses: Vec<String>,
    server_name: String,
    kube_uid: String,
}

/// The cluster's identity, as the leading pod holds it.
pub struct Identity {
    /// For its whole life.
    pub cluster: ClusterId,
    /// As the operator named it.
    pub name: ClusterName,
    /// Pinned at enrolment.
    pub root_keys: Vec<KeyId>,
    /// Where the hub listens, `host:port`.
    pub addresses: Vec<String>,
    /// The name in the hub's certificate.
    pub server_name: String,
    /// Valid from, Unix seconds.
    pub not_before: u64,
    /// Valid to, Unix seconds.
    pub not_after: u64,
    record: Record,
    hash_key: [u8; 32],
    version: String,
    api: Api,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("cluster", &self.cluster).field("name", &self.name).finish_non_exhaustive()
    }
}

impl IdentityError {
    /// Whether this join token can never lead to an identity. Who is enrolled already may be removed at the hub, and use
    /// the same token then.
    #[must_use]
    pub fn condemns_token(&self) -> bool {
        match self {
            Self::Refused(refused) => !refused.code.is_transient() && refused.code != EnrollRefusal::AlreadyEnrolled,
            Self::Grant(_) => true,
            _ => false,
        }
    }
}

/// Reads the identity; where there is none, or none of this cluster, enrols with the join token: tries until it succeeds, the
/// hub refuses for good, or cancelled.
///
/// The age of the certificate does not count: it matters to the hub only, and a cluster must be kept as it was last said
/// however long its hub is away. The link renews it, or enrols anew.
pub async fn load_or_enrol(
    api: &Api,
    join: &JoinFile,
    kube_uid: &str,
    cancel: &CancellationToken,
) -> Result<Identity, IdentityError> {
    let found = read(api).await?;
    let unusable = match &found {
        Some((record @ Record { enrolled: Some(enrolled), .. }, version)) => {
            match Identity::of(api, record, enrolled, version.clone()) {
                _ if enrolled.kube_uid != kube_uid => {
                    IdentityError::Copied { made_for: enrolled.kube_uid.clone(), here: kube_uid.to_owned() }
                }
                Ok(identity) => return Ok(identity),
                Err(error) => error,
            }
        }
        _ => IdentityError::NoToken,
    };
    let Some(Found { token, .. }) = join.read()? else { return Err(unusable) };
    let (mut record, mut version) = match found {
        Some(found) => found,
        None => create(api).await?,
    };
    if record.enrolled.is_some() {
        tracing::warn!(reason = chain(&unusable), "enrolling anew with the join token");
        // The old key may be in other hands (a copy of the cluster has it): a new identity gets a new key.
        if record.next_key.is_none() {
            record.next_key = Some(new_key()?);
            version = write(api, &record, &version).await?;
        }
    }
    let key = record.next_key.clone().unwrap_or_else(|| record.key.clone());
    let grant = tokio::select! {
        () = cancel.cancelled() => return Err(IdentityError::Cancelled),
        grant = ask_until_answered(&token, request_for(&key)?, kube_uid) => grant?,
    };
    record.key = key;
    record.next_key = None;
    keep(api, &token, record, version, kube_uid, grant).await
}

impl Identity {
    fn of(api: &Api, record: &Record, enrolled: &Enrolled, version: String) -> Result<Self, IdentityError> {
        let chain = certificates(&enrolled.chain)?;
        let leaf = chain.first().ok_or_else(|| IdentityError::Damaged("it has no certificate".into()))?;
        let peer = PeerIdentity::of(leaf)?;
        if peer.cluster != enrolled.cluster {
            return Err(IdentityError::Damaged(format!("its certificate is for cluster {}", peer.cluster)));
        }
        // Certificate and key must fit together, now and not at the first connection.
        pinned_session_client(chain.clone(), private_key(&record.key)?, &[])?;
        let hash_key = decode(&record.hash_key)?;
        Ok(Self {
            cluster: enrolled.cluster,
            name: enrolled.name.clone(),
            root_keys: enrolled.root_keys.clone(),
            addresses: enrolled.addresses.clone(),
            server_name: enrolled.server_name.clone(),
            not_before: peer.not_before,
            not_after: peer.not_after,
            hash_key: hash_key
                .as_slice()
                .try_into()
                .map_err(|_| IdentityError::Damaged("its hash key has not 32 bytes".into()))?,
            record: record.clone(),
            version,
            api: api.clone(),
        })
    }

    /// A key for digests of secret values: the same for the life of the cluster, known to nobody else.
    #[must_use]
    pub fn hash_key(&self) -> [u8; 32] {
        self.hash_key
    }

    /// TLS for the next connection: the hub must come from an authority of the newest trust document.
    pub fn tls(&self, trust: &TrustDocument) -> Result<Arc<rustls::ClientConfig>, IdentityError> {
        let enrolled = self.enrolled()?;
        let key = private_key(&self.record.key)?;
        Ok(Arc::new(pinned_session_client(certificates(&enrolled.chain)?, key, &trust.authorities)?))
    }

    /// When to ask for a new certificate, Unix seconds: at half its life.
    #[must_use]
    pub fn renew_at(&self) -> u64 {
        self.not_before + self.not_after.saturating_sub(self.not_before) / 2
    }

    /// Makes a key for the next certificate, stores it, and answers the request for it. Asked again, the same key is used.
    pub async fn begin_renewal(&mut self) -> Result<Vec<u8>, IdentityError> {
        if self.record.next_key.is_none() {
            let mut record = self.record.clone();
            record.next_key = Some(new_key()?);
            self.write(record).await?;
        }
        let key = self.record.next_key.as_deref().unwrap_or_default();
        request_for(key)
    }

    /// Takes a granted certificate: checked against the key it was asked for and against our authorities, stored, used from
    /// the next connection on.
    pub async fn finish_renewal(&mut self, chain: &[Vec<u8>]) -> Result<(), IdentityError> {
        let mut record = self.record.clone();
        let Some(key) = record.next_key.take() else {
            return Err(IdentityError::Grant("a certificate came that was not asked for".into()));
        };
        record.key = key;
        let mut enrolled = self.enrolled()?.clone();
        enrolled.chain = chain.iter().map(|c| STANDARD.encode(c)).collect();
        record.enrolled = Some(enrolled.clone());
        let renewed = Self::of(&self.api, &record, &enrolled, self.version.clone())
            .map_err(|e| IdentityError::Grant(self::chain(&e)))?;
        self.write(record).await?;
        (self.not_before, self.not_after) = (renewed.not_before, renewed.not_after);
        Ok(())
    }

    /// Asks for a new identity with a join token, every address once, and stores what is granted. What is stored stays usable
    /// at every moment: whoever leads next enforces, whatever becomes of this.
    pub async fn enrol_anew(&mut self, token: &JoinToken, cancel: &CancellationToken) -> Result<(), IdentityError> {
        let csr = self.begin_renewal().await?;
        let kube_uid = self.enrolled()?.kube_uid.clone();
        let round = Round::new(token, csr, &kube_uid)?;
        let grant = tokio::select! {
            () = cancel.cancelled() => return Err(IdentityError::Cancelled),
            grant = round.ask() => grant?,
        };
        believe(token, &grant)?;
        self.pin_also(&token.root_keys).await?;
        let mut record = self.record.clone();
        record.key = record.next_key.take().unwrap_or(record.key);
        *self = keep(&self.api, token, record, self.version.clone(), &kube_uid, grant).await?;
        Ok(())
    }

    /// Trust documents and identity are two objects. Until both are those of the new enrolment the root keys of both count, so
    /// that a pod that begins in between can read either.
    async fn pin_also(&mut self, root_keys: &[KeyId]) -> Result<(), IdentityError> {
        let mut enrolled = self.enrolled()?.clone();
        let more: Vec<KeyId> = root_keys.iter().filter(|key| !enrolled.root_keys.contains(key)).copied().collect();
        if more.is_empty() {
            return Ok(());
        }
        enrolled.root_keys.extend(more);
        let record = Record { enrolled: Some(enrolled), ..self.record.clone() };
        self.write(record).await
    }

    fn enrolled(&self) -> Result<&Enrolled, IdentityError> {
        self.record.enrolled.as_ref().ok_or_else(|| IdentityError::Damaged("it has no certificate".into()))
    }

    async fn write(&mut self, record: Record) -> Result<(), IdentityError> {
        self.version = write(&self.api, &record, &self.version).await?;
        self.record = record;
        Ok(())
    }
}

/// Goes round the addresses until one answers for good.
async fn ask_until_answered(token: &JoinToken, csr: Vec<u8>, kube_uid: &str) -> Result<EnrollGrant, IdentityError> {
    let round = Round::new(token, csr, kube_uid)?;
    let mut pause = PAUSE.0;
    loop {
        match round.ask().await {
            Err(IdentityError::Unanswered(_)) => {}
            answered => return answered,
        }
        tracing::info!(seconds = pause.as_secs(), "trying to enrol again after a pause");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// One request to enrol, for every address of the hub.
struct Round<'a> {
    token: &'a JoinToken,
    tls: Arc<rustls::ClientConfig>,
    request: EnrollRequest,
}

impl<'a> Round<'a> {
    fn new(token: &'a JoinToken, csr: Vec<u8>, kube_uid: &str) -> Result<Self, IdentityError> {
        let request = EnrollRequest {
            wire_max: WIRE_VERSION,
            token: token.id,
            secret: token.secret.clone(),
            csr,
            kube_uid: kube_uid.to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Self { token, tls: Arc::new(enroll_client(token.hub_ca)?), request })
    }

    async fn ask(&self) -> Result<EnrollGrant, IdentityError> {
        let mut last = "the join token has no addresses".to_owned();
        for address in &self.token.addresses {
            match ask(&self.tls, address, &self.token.server_name, &self.request).await {
                Ok(EnrollAnswer::Granted(grant)) => return Ok(grant),
                Ok(EnrollAnswer::Refused(refused)) if !refused.code.is_transient() => {
                    return Err(IdentityError::Refused(refused));
                }
                Ok(EnrollAnswer::Refused(refused)) => {
                    tracing::warn!(address, code = %refused.code, why = refused.message, "the hub cannot enrol us now");
                    last = refused.to_string();
                }
                Err(error) => {
                    last = chain(&error);
                    tracing::warn!(address, error = last, "cannot enrol at this address");
                }
            }
        }
        Err(IdentityError::Unanswered(last))
    }
}

async fn ask(
    tls: &Arc<rustls::ClientConfig>,
    address: &str,
    server_name: &str,
    request: &EnrollRequest,
) -> Result<EnrollAnswer, QuicError> {
    let mut last = None;
    for peer in resolve(address).await? {
        let endpoint = agent_endpoint(unspecified(peer))?;
        match connect(&endpoint, Arc::clone(tls), peer, server_name, CONNECT).await {
            Ok(connection) => {
                let answer = stream::enroll(&connection, request).await;
                endpoint.wait_idle().await;
                return answer;
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| no_address(address, "it has no addresses")))
}

/// Every address behind `host:port`.
pub(crate) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, QuicError> {
    match tokio::net::lookup_host(address).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(no_address(address, &error.to_string())),
    }
}

fn no_address(address: &str, reason: &str) -> QuicError {
    QuicError::Lost { doing: "looking up the hub's address", reason: format!("{address}: {reason}") }
}

/// Any local port of the same family.
pub(crate) fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Verifies a grant and stores it: trust documents first, since an identity without them is of no use.
async fn keep(
    api: &Api,
    token: &JoinToken,
    mut record: Record,
    version: String,
    kube_uid: &str,
    grant: EnrollGrant,
) -> Result<Identity, IdentityError> {
    let documents = believe(token, &grant)?;
    let enrolled = Enrolled {
        cluster: grant.cluster,
        name: grant.name,
        chain: grant.chain.iter().map(|c| STANDARD.encode(c)).collect(),
        root_keys: token.root_keys.clone(),
        addresses: token.addresses.clone(),
        server_name: token.server_name.clone(),
        kube_uid: kube_uid.to_owned(),
    };
    record.enrolled = Some(enrolled.clone());
    // Before anything is stored: the certificate fits our key and the cluster.
    Identity::of(api, &record, &enrolled, version.clone()).map_err(|e| IdentityError::Grant(chain(&e)))?;
    TrustRecord::replace(api, documents).await?;
    let version = write(api, &record, &version).await?;
    let identity = Identity::of(api, &record, &enrolled, version)?;
    tracing::info!(cluster = %identity.name, id = %identity.cluster, "enrolled");
    Ok(identity)
}

/// Nothing of a grant counts before its trust documents verify from the pinned root keys on.
fn believe(token: &JoinToken, grant: &EnrollGrant) -> Result<Vec<Verified<TrustDocument>>, IdentityError> {
    let no = |text: String| IdentityError::Grant(text);
    let documents = trust::verify_all(&token.root_keys, &grant.trust).map_err(|e| no(chain(&e)))?;
    let newest = documents.last().ok_or_else(|| no("it has no trust document".into()))?;
    trust::check_expiry(newest, unix_millis() / 1000).map_err(|e| no(e.to_string()))?;
    for authority in &grant.authorities {
        let digest = Digest::of(authority);
        if !newest.authorities.contains(&digest) {
            return Err(no(format!(
                "its certificate authority {} is not listed in trust document {}",
                digest.short(),
                newest.version
            )));
        }
    }
    Ok(documents)
}

fn new_key() -> Result<String, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| IdentityError::Key(e.to_string()))?;
    Ok(STANDARD.encode(Zeroizing::new(key.serialize_der())))
}

/// A PKCS#10 request, DER. It says nothing but the public key: the hub decides on names and validity.
fn request_for(key: &str) -> Result<Vec<u8>, IdentityError> {
    let wrong = |e: rcgen::Error| IdentityError::Key(e.to_string());
    let key = KeyPair::try_from(&private_key(key)?).map_err(wrong)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(wrong)?;
    Ok(request.der().to_vec())
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    Ok(PrivatePkcs8KeyDer::from(decode(text)?.to_vec()).into())
}

fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    texts.iter().map(|text| Ok(CertificateDer::from(decode(text)?.to_vec()))).collect()
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    // The decoder's own words may quote the key.
    let bytes = STANDARD.decode(text).map_err(|_| IdentityError::Damaged("a field is not base64".into()))?;
    Ok(Zeroizing::new(bytes))
}

async fn read(api: &Api) -> Result<Option<(Record, String)>, IdentityError> {
    let doing = "read Secret driftless-system/driftless-identity";
    let secret = api
        .get(&Actor::Agent, &secrets(), marks::AGENT_NAMESPACE, SECRET)
        .await
        .map_err(|source| IdentityError::Api { doing, source })?;
    let Some(secret) = secret else { return Ok(None) };
    let text = secret.pointer("/data/identity.json").and_then(Value::as_str);
    let text = text.ok_or_else(|| IdentityError::Damaged("it has no identity.json".into()))?;
    let json = decode(text)?;
    let record = serde_json::from_slice(&json)
        .map_err(|e| IdentityError::Damaged(format!("line {} column {}", e.line(), e.column())))?;
    Ok(Some((record, version_of(&secret)?)))
}

/// Creates the Secret with a fresh key and nothing else.
async fn create(api: &Api) -> Result<(Record, String), IdentityError> {
    let mut hash_key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut hash_key[..]).map_err(|e| IdentityError::Key(e.to_string()))?;
    let record = Record { key: new_key()?, next_key: None, hash_key: STANDARD.encode(&hash_key[..]), enrolled: None };
    match api.create(&Actor::Agent, &secrets(), &secret_of(&record, None)?).await {
        Ok(created) => Ok((record, version_of(&created)?)),
        Err(error) if error.is_conflict() => Err(IdentityError::Raced),
        Err(source) => Err(IdentityError::Api { doing: "create Secret driftless-system/driftless-identity", source }),
    }
}

async fn write(api: &Api, record: &Record, version: &str) -> Result<String, IdentityError> {
    match api.replace(&Actor::Agent, &secrets(), &secret_of(record, Some(version))?).await {
        Ok(written) => version_of(&written),
        Err(error) if error.is_conflict() => Err(IdentityError::Raced),
        Err(source) => Err(IdentityError::Api { doing: "write Secret driftless-system/driftless-identity", source }),
    }
}

fn secret_of(record: &Record, version: Option<&str>) -> Result<Value, IdentityError> {
    let json = Zeroizing::new(serde_json::to_vec(record).map_err(|e| IdentityError::Damaged(e.to_string()))?);
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": SECRET, "namespace": marks::AGENT_NAMESPACE },
        "type": "driftless.dev/identity",
        "data": { "identity.json": STANDARD.encode(&*json) },
    });
    if let Some(version) = version {
        secret["metadata"]["resourceVersion"] = version.into();
    }
    Ok(secret)
}

fn version_of(secret: &Value) -> Result<String, IdentityError> {
    let version = secret.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.map(str::to_owned).ok_or_else(|| IdentityError::Damaged("it has no resourceVersion".into()))
}
