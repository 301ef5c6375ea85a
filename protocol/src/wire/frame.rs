//! Frame headers: eight bytes, checked before anything else is read.

use super::{Message, WireError};

macro_rules! frames {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $limit:expr, frozen $frozen:literal;)+) => {
        /// What a frame carries. The discriminant is the byte on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType {
            $($(#[$doc])* $name = $byte,)+
        }

        impl FrameType {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// From its byte.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The longest payload, in bytes.
            #[must_use]
            pub const fn limit(self) -> u32 {
                match self {
                    $(Self::$name => $limit,)+
                }
            }

            /// The name in messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Whether its layout is that of version 1 for ever.
            #[must_use]
            pub const fn is_frozen(self) -> bool {
                match self {
                    $(Self::$name => $frozen,)+
                }
            }
        }
    };
}

const KIB: u32 = 1024;

frames! {
    /// Agent: first message.
    Hello = 0x01, 4 * KIB, frozen true;
    /// Agent: blobs it lacks.
    Need = 0x02, 64 * KIB, frozen false;
    /// Agent: offer stored.
    Taken = 0x03, KIB, frozen false;
    /// Agent: offer refused.
    Refused = 0x04, 16 * KIB, frozen false;
    /// Agent: its own state.
    ClusterReport = 0x05, 64 * KIB, frozen false;
    /// Agent: states of units.
    UnitReports = 0x06, 256 * KIB, frozen false;
    /// Agent: units that are gone.
    UnitsGone = 0x07, 256 * KIB, frozen false;
    /// Agent: all units were reported.
    SnapshotComplete = 0x08, KIB, frozen false;
    /// Agent: wants a new certificate.
    Renew = 0x09, 8 * KIB, frozen false;
    /// Agent: facts of its cluster, since version 2.
    Facts = 0x0A, 520 * KIB, frozen false;
    /// Hub: hello accepted.
    Welcome = 0x41, 4 * KIB, frozen true;
    /// Hub: what to run.
    Offer = 0x42, 1024 * KIB, frozen false;
    /// Hub: reports stored.
    ReportsTaken = 0x43, KIB, frozen false;
    /// Hub: look again.
    Hint = 0x44, 4 * KIB, frozen false;
    /// Hub: a new certificate.
    Renewed = 0x45, 16 * KIB, frozen false;
    /// Hub: no new certificate.
    RenewRefused = 0x46, 16 * KIB, frozen false;
    /// Hub: going away.
    Drain = 0x47, KIB, frozen false;
    /// Hub: the session is over.
    Reject = 0x48, 16 * KIB, frozen true;
    /// Agent: wants an identity.
    EnrollRequest = 0x81, 16 * KIB, frozen true;
    /// Agent: the answer to a question, since version 3.
    Answered = 0xA2, 512 * KIB, frozen true;
    /// Hub: an identity.
    EnrollGrant = 0xC1, 1024 * KIB, frozen true;
    /// Hub: no identity.
    EnrollRefused = 0xC2, 16 * KIB, frozen true;
    /// Hub: a transfer's body follows.
    Transfer = 0xE1, 64, frozen true;
    /// Hub: a question, since version 3.
    Ask = 0xE2, 1024 * KIB, frozen true;
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameType,
    /// How many bytes of payload; within the limit of the kind.
    pub len: u32,
}

impl FrameHeader {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// Checks a header: version, type, direction, flags and length. `wire` is the session's version.
    pub fn parse<M: Message>(bytes: &[u8; Self::LEN], wire: u8) -> Result<Self, WireError> {
        let [version, kind, f0, f1, l0, l1, l2, l3] = *bytes;
        let kind = FrameType::from_byte(kind).ok_or(WireError::UnknownType(kind))?;
        let expected = if kind.is_frozen() { 1 } else { wire };
        if version != expected {
            return Err(WireError::Version { found: version, expected });
        }
        if !M::accepts(kind) {
            return Err(WireError::Misplaced(kind.name()));
        }
        let flags = u16::from_le_bytes([f0, f1]);
        if flags != 0 {
            return Err(WireError::Flags { what: kind.name(), flags });
        }
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len > kind.limit() {
            return Err(WireError::TooLong { what: kind.name(), len: len.into(), limit: kind.limit().into() });
        }
        Ok(Self { kind, len })
    }

    /// A whole frame around a payload.
    pub(super) fn frame(kind: FrameType, wire: u8, payload: &[u8]) -> Result<Vec<u8>, WireError> {
        let len = u32::try_from(payload.len()).ok().filter(|len| *len <= kind.limit()).ok_or(WireError::TooLong {
            what: kind.name(),
            len: payload.len() as u64,
            limit: kind.limit().into(),
        })?;
        let version = if kind.is_frozen() { 1 } else { wire };
        let mut out = Vec::with_capacity(Self::LEN + payload.len());
        out.extend_from_slice(&[version, kind as u8, 0, 0]);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(payload);
        Ok(out)
    }
}
