//! QUIC endpoints, connections and framed streams: the only I/O of this crate.
//!
//! Connections are made and accepted here; [`stream`] moves messages and transfers over them. Nothing here decides
//! anything: that is [`crate::session`]'s part.

pub mod limits;
pub mod stream;
pub mod tls;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;

use crate::message::RejectCode;
use crate::wire::WireError;

/// Close codes of `WIRE.md` section 9.
pub mod close {
    use quinn::VarInt;

    use crate::message::RejectCode;

    /// Everything was said.
    pub const DONE: VarInt = VarInt::from_u32(0);
    /// A rule of the protocol was broken.
    pub const PROTOCOL: VarInt = VarInt::from_u32(1);
    /// A session without client certificate.
    pub const NO_CERTIFICATE: VarInt = VarInt::from_u32(2);
    /// A client certificate that names no cluster.
    pub const BAD_CERTIFICATE: VarInt = VarInt::from_u32(3);
    /// The hub stops.
    pub const DRAINING: VarInt = VarInt::from_u32(4);
    /// It took too long.
    pub const TIMEOUT: VarInt = VarInt::from_u32(5);

    /// The code of a rejected session.
    #[must_use]
    pub const fn rejected(code: RejectCode) -> VarInt {
        VarInt::from_u32(16 + code as u32)
    }
}

/// Why something on the network failed.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// TLS could not be configured, or a certificate is no identity.
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    /// The socket could not be opened.
    #[error("cannot open UDP {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// As the system says.
        #[source]
        source: std::io::Error,
    },
    /// No connection: not reachable, or TLS failed.
    #[error("cannot connect to {peer}: {reason}")]
    Connect {
        /// Whom.
        peer: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// A connection came in and did not get through its handshake.
    #[error("a handshake with {peer} failed: {reason}")]
    Handshake {
        /// Who.
        peer: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The connection ended.
    #[error("the connection ended while {doing}: {reason}")]
    Lost {
        /// What was tried.
        doing: &'static str,
        /// As QUIC says.
        reason: String,
    },
    /// The other side did not do its part in time.
    #[error("nothing came within {seconds} s while {doing}")]
    Timeout {
        /// What was tried.
        doing: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The bytes break `WIRE.md`.
    #[error("the other side broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// A transfer that nobody asked for.
    #[error("transfer {0} was not asked for")]
    Unasked(crate::id::TransferId),
}

/// What a hub needs to listen.
#[derive(Debug)]
pub struct HubOptions {
    /// Where.
    pub listen: SocketAddr,
    /// Certificate chain, key and the authorities of agents; can be swapped while the endpoint runs.
    pub identity: Arc<tls::HubIdentity>,
    /// Key of stateless resets, of good randomness. Persisted, so that a restarted hub ends old connections at once;
    /// of this hub alone, since a packet that reaches another hub must not end a healthy session (security.md 7.2).
    pub reset_key: [u8; 32],
    /// Key of address validation tokens, of good randomness. Persisted; may be shared by the hubs of one fleet.
    pub token_key: [u8; 32],
}

/// Opens the hub's endpoint, for both ALPNs. Needs a tokio runtime.
pub fn hub_endpoint(options: &HubOptions) -> Result<Endpoint, QuicError> {
    let crypto = QuicServerConfig::try_from(tls::hub_server(&options.identity)?)
        .map_err(|e| tls::TlsError::Config { what: "cipher suites", source: rustls::Error::General(e.to_string()) })?;
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"driftless token key v1").extract(&options.token_key);
    let mut server = ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
    server
        .transport_config(limits::hub_transport())
        .max_incoming(limits::MAX_INCOMING)
        .incoming_buffer_size(limits::INCOMING_BUFFER)
        .incoming_buffer_size_total(limits::INCOMING_BUFFER_TOTAL)
        // Agents sit behind NATs that change their port now and then.
        .migration(true);
    let mut endpoint = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &options.reset_key)));
    // Connection ids are recognised by a key as well: with another one after a restart, quinn would drop packets of old
    // connections as noise instead of resetting them.
    let mut id_key = [0; 8];
    id_key.copy_from_slice(&blake3::derive_key("driftless connection ids v1", &options.reset_key)[..8]);
    let id_key = u64::from_le_bytes(id_key);
    endpoint.min_reset_interval(limits::RESET_INTERVAL);
    endpoint.cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(id_key)));
    open(endpoint, Some(server), options.listen)
}

/// Opens an agent's endpoint; port 0 for any. Needs a tokio runtime.
pub fn agent_endpoint(bind: SocketAddr) -> Result<Endpoint, QuicError> {
    open(EndpointConfig::default(), None, bind)
}

fn open(config: EndpointConfig, server: Option<ServerConfig>, address: SocketAddr) -> Result<Endpoint, QuicError> {
    let bind = |source| QuicError::Bind { address, source };
    let socket = UdpSocket::bind(address).map_err(bind)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).map_err(bind)
}

/// What arrived at the hub.
#[derive(Debug)]
pub enum Accepted {
    /// On `driftless-enroll/1`: nobody yet.
    Enroll(Connection),
    /// On `driftless/1`, with a verified client certificate; [`tls::PeerIdentity::access`] says what for.
    Session(Connection, tls::PeerIdentity),
}

/// Finishes one handshake. A connection that may not go on is closed with its code.
///
/// Whether to ask for a proof of address first ([`Incoming::retry`]) is the caller's choice: it knows the load.
pub async fn accept(incoming: Incoming) -> Result<Accepted, QuicError> {
    let peer = incoming.remote_address();
    let failed = |reason: String| QuicError::Handshake { peer, reason };
    let connecting = incoming.accept().map_err(|e| failed(e.to_string()))?;
    let connection = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, connecting)
        .await
        .map_err(|_| failed(format!("not done within {} s", limits::HANDSHAKE_TIMEOUT.as_secs())))?
        .map_err(|e| failed(e.to_string()))?;
    let protocol = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol)
        .unwrap_or_default();
    if protocol == tls::ALPN_ENROLL {
        return Ok(Accepted::Enroll(connection));
    }
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(leaf) = chain.as_ref().and_then(|chain| chain.first()) else {
        connection.close(close::NO_CERTIFICATE, b"a session needs a client certificate");
        return Err(failed("it has no client certificate".into()));
    };
    match tls::PeerIdentity::of(leaf) {
        Ok(identity) => Ok(Accepted::Session(connection, identity)),
        Err(error) => {
            connection.close(close::BAD_CERTIFICATE, b"the client certificate is not an agent's");
            Err(failed(error.to_string()))
        }
    }
}

/// Connects, and finishes the handshake within the deadline.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    peer: SocketAddr,
    server_name: &str,
    deadline: Duration,
) -> Result<Connection, QuicError> {
    let failed = |reason: String| QuicError::Connect { peer, reason };
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| failed(e.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(limits::agent_transport());
    let connecting = endpoint.connect_with(config, peer, server_name).map_err(|e| failed(e.to_string()))?;
    tokio::time::timeout(deadline, connecting)
        .await
        .map_err(|_| {
            failed(format!(
                "no answer within {} s; is UDP to this port allowed on the way?",
                deadline.as_secs_f32().ceil()
            ))
        })?
        .map_err(|e| failed(e.to_string()))
}

/// The reason in an ended connection, when the hub rejected the session by closing.
#[must_use]
pub fn rejected_code(error: &quinn::ConnectionError) -> Option<VarInt> {
    match error {
        quinn::ConnectionError::ApplicationClosed(closed) => Some(closed.error_code),
        _ => None,
    }
}

/// Closes with the code of a rejection.
pub fn close_rejected(connection: &Connection, code: RejectCode, message: &str) {
    // A close frame must fit one packet.
    let mut end = message.len().min(256);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    connection.close(close::rejected(code), &message.as_bytes()[..end]);
}
