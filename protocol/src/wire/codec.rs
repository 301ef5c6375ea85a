//! bincode with its limit, and exact consumption.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use super::{WireError, limits};

const CONFIG: Configuration<LittleEndian, Varint, Limit<{ limits::DECODE_BYTES }>> =
    bincode::config::standard().with_limit::<{ limits::DECODE_BYTES }>();

pub(super) fn encode<T: Encode>(what: &'static str, value: &T) -> Result<Vec<u8>, WireError> {
    bincode::encode_to_vec(value, CONFIG).map_err(|e| WireError::Invalid { what, reason: e.to_string() })
}

pub(super) fn decode<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|e| WireError::Decode { what, reason: short(&e.to_string()) })?;
    match bytes.len() - used {
        0 => Ok(value),
        extra => Err(WireError::Trailing { what, extra }),
    }
}

/// An error text may quote its input; the log line stays a line.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
