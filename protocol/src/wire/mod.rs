//! The bytes of `WIRE.md`: frames, payloads, transfers. The only folder that names bincode.
//!
//! Domain types ([`crate::message`], [`crate::enroll`]) know nothing of it; [`Message`] converts.

mod codec;
mod convert;
mod frame;
pub mod limits;
mod structs;
pub mod transfer;

pub use frame::{FrameHeader, FrameType};

/// Why bytes are not a message, or a message has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame of a version that is not spoken here.
    #[error("a frame has wire version {found}, this session speaks {expected}")]
    Version {
        /// In the frame.
        found: u8,
        /// Of the session.
        expected: u8,
    },
    /// A frame type this version does not have.
    #[error("a frame has the unknown type {0:#04x}")]
    UnknownType(u8),
    /// A frame that the other side may not send here.
    #[error("a {0} frame came from the wrong side or at the wrong place")]
    Misplaced(&'static str),
    /// Flags that this version does not have.
    #[error("a {what} frame has unknown flags {flags:#06x}")]
    Flags {
        /// The message.
        what: &'static str,
        /// As found.
        flags: u16,
    },
    /// Longer than its kind may be.
    #[error("a {what} of {len} bytes is longer than its limit of {limit}")]
    TooLong {
        /// The message or part.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// The payload does not decode.
    #[error("a {what} does not decode: {reason}")]
    Decode {
        /// The message.
        what: &'static str,
        /// As the decoder says.
        reason: String,
    },
    /// Bytes are left over.
    #[error("a {what} has {extra} bytes too many")]
    Trailing {
        /// The message.
        what: &'static str,
        /// How many.
        extra: usize,
    },
    /// It decodes, but breaks a rule of `WIRE.md`.
    #[error("a {what} is not valid: {reason}")]
    Invalid {
        /// The message.
        what: &'static str,
        /// Which rule.
        reason: String,
    },
}

/// A message that has a frame.
pub trait Message: Sized {
    /// Whether a frame of this type may be decoded as this message: who may send what.
    fn accepts(kind: FrameType) -> bool;
    /// The whole frame, header included. `wire` is the session's version; messages that are frozen ignore it.
    fn encode(&self, wire: u8) -> Result<Vec<u8>, WireError>;
    /// The version the session has once this message was read; `None` for all but the greetings.
    fn session_wire(&self) -> Option<u8> {
        None
    }
    /// From a payload whose header said `kind`.
    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError>;
}
