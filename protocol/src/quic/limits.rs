//! Transport parameters, each with its reason (security.md sections 4 and 7.3).

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

/// A handshake that takes longer is given up: a slow one holds about 37 KiB.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Without any packet for that long a connection is dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Sent by the agent only: half of the 30 s after which the strictest common NATs forget a flow.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// One frame must be written or read whole in that time once its first byte moved.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for an enrolment's whole exchange: the hub asks its store and signs.
pub const ENROLL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted. quinn's default of 65,536 would hold 100 MiB of first packets.
pub const MAX_INCOMING: usize = 2_048;
/// Bytes buffered for one of them: a post-quantum ClientHello takes two packets.
pub const INCOMING_BUFFER: u64 = 64 * 1024;
/// Bytes buffered for all of them.
pub const INCOMING_BUFFER_TOTAL: u64 = 32 * 1024 * 1024;

/// Least time between two stateless resets. At quinn's 20 ms a restarted hub with 10,000 agents would take 200 s to tell them
/// all; a reset is smaller than the packet it answers, so nothing is amplified.
pub const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Receive window of one stream: a control frame and its successor.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Receive window of a whole connection on the hub: what one hostile agent can pin.
const HUB_WINDOW: u32 = 1024 * 1024;
/// The same on the agent, which has one connection and receives transfers.
const AGENT_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes sent and not acknowledged yet.
const SEND_WINDOW: u64 = 1024 * 1024;
/// Bidirectional streams an agent may open: the control stream. One more would be a bug, and is never granted.
const HUB_BIDI: u32 = 1;
/// Questions the hub may have open towards an agent ([`crate::ask::ASKS_OPEN`]).
const AGENT_BIDI: u32 = 4;
/// Transfers the hub may have open towards an agent.
const AGENT_UNI: u32 = 8;

/// For the hub's side of every connection.
#[must_use]
pub fn hub_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(HUB_BIDI))
        // Agents send nothing on unidirectional streams.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(HUB_WINDOW));
    Arc::new(config)
}

/// For the agent's side.
#[must_use]
pub fn agent_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(AGENT_BIDI))
        .max_concurrent_uni_streams(VarInt::from_u32(AGENT_UNI))
        .receive_window(VarInt::from_u32(AGENT_WINDOW))
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Neither is used; each was the place of an advisory.
        .datagram_receive_buffer_size(None)
        .ack_frequency_config(None);
    config
}

#[allow(clippy::cast_possible_truncation)] // 60,000
const IDLE_MS: u32 = IDLE_TIMEOUT.as_millis() as u32;
