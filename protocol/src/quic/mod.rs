//! QUIC endpoints, connections and framed streams. The only I/O of this crate.

pub mod limits;
pub mod stream;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a hub needs to listen.
#[derive(Debug)]
pub struct HubOptions {
    /// Where; tests use `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// Certificate chain, key and the authorities that agents' certificates must come from; can be swapped while it runs.
    pub identity: Arc<tls::HubIdentity>,
    /// Key of stateless resets: 64 random bytes, persisted, of this hub alone (security.md 7.2).
    pub reset_key: [u8; 64],
    /// Key of address validation tokens: 64 random bytes, persisted, may be shared by the hubs of one fleet.
    pub token_key: [u8; 64],
}

/// Opens the hub's endpoint for both ALPNs.
pub fn hub_endpoint(options: &HubOptions) -> Result<quinn::Endpoint, QuicError>;

/// What arrived at the hub.
#[derive(Debug)]
pub enum Accepted {
    /// On `driftless-enroll/1`: nobody yet.
    Enroll(quinn::Connection),
    /// On `driftless/1`, with a valid client certificate.
    Session(quinn::Connection, tls::PeerIdentity),
}

/// Finishes one handshake within [`limits::HANDSHAKE_TIMEOUT`]; a connection that may not go on is closed with its code.
pub async fn accept(incoming: quinn::Incoming) -> Result<Accepted, QuicError>;

/// Opens an agent's endpoint on an ephemeral port of the address family.
pub fn agent_endpoint(bind: SocketAddr) -> Result<quinn::Endpoint, QuicError>;

/// Connects and finishes the handshake within the deadline.
pub async fn connect(
    endpoint: &quinn::Endpoint,
    config: &quinn::ClientConfig,
    address: SocketAddr,
    server_name: &str,
    deadline: Duration,
) -> Result<quinn::Connection, QuicError>;

// ---- tls.rs ----
/// pub struct HubIdentity  (hot-swappable)
/// impl HubIdentity { pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, authorities: Vec<CertificateDer<'static>>) -> Result<Arc<Self>, TlsError>;
///                    pub fn swap(&self, chain, key, authorities) -> Result<(), TlsError>; }
/// pub struct PeerIdentity { pub cluster: ClusterId, pub certificate: Digest, pub serial: String, pub not_before: u64, pub not_after: u64 }
/// pub fn enroll_client(hub_ca: Digest) -> Result<quinn::ClientConfig, TlsError>;
/// pub fn session_client(chain, key, authorities: &[CertificateDer]) -> Result<quinn::ClientConfig, TlsError>;
/// pub fn cluster_uri(ClusterId) -> String;  // the SAN URI driftless://cluster/<id>
// ---- stream.rs ----
/// pub struct ControlSender<M> / ControlReceiver<M>: open_control(&Connection) (agent), accept_control(&Connection) (hub)
///   AgentControl = (Sender<AgentToHub>, Receiver<HubToAgent>), HubControl = the reverse
///   sender.send(&M).await, receiver.recv().await -> Result<Option<M>, QuicError>
/// pub async fn send_transfer(conn: &Connection, transfer: TransferId, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), QuicError>;
/// pub async fn recv_transfer(stream: RecvStream) -> Result<Transfer{transfer, blobs: Vec<(Digest, Arc<[u8]>)>}, QuicError>;  // digests checked
/// pub async fn enroll(conn: &Connection, request: &EnrollRequest) -> Result<EnrollAnswer, QuicError>;   // agent
/// pub async fn read_enroll_request(conn) -> Result<(EnrollRequest, EnrollResponder), QuicError>; responder.answer(&EnrollAnswer).await  // hub
