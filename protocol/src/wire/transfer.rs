//! The body of a transfer: many blobs under one zstd frame with a declared raw length.

use std::sync::Arc;

use super::{WireError, limits};
use crate::id::{Digest, TransferId};

/// What a transfer stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferHeader {
    /// The agent's number.
    pub transfer: TransferId,
    /// How many blobs follow.
    pub blobs: u32,
    /// How long the body is, unpacked.
    pub raw_length: u64,
}

/// A blob of a transfer with its address; not hashed yet.
pub type Blob = (Digest, Arc<[u8]>);

/// Level of compression: fast enough that the link, not the CPU, is the limit.
const LEVEL: i32 = 3;

/// The most a packed body of that raw length can have: zstd's own bound for what does not compress.
#[must_use]
pub fn packed_limit(raw_length: u64) -> u64 {
    raw_length + raw_length / 128 + 1024
}

/// The raw length of a transfer of blobs with these lengths.
#[must_use]
pub fn raw_length(lengths: impl IntoIterator<Item = u64>) -> u64 {
    lengths.into_iter().fold(0, |sum: u64, len| sum.saturating_add(len).saturating_add(limits::BLOB_HEADER_BYTES))
}

/// Packs blobs: header and body.
pub fn pack(transfer: TransferId, blobs: &[Blob]) -> Result<(TransferHeader, Vec<u8>), WireError> {
    let what = "transfer";
    let raw = raw_length(blobs.iter().map(|(_, b)| b.len() as u64));
    if raw > limits::TRANSFER_RAW_BYTES {
        return Err(WireError::TooLong { what, len: raw, limit: limits::TRANSFER_RAW_BYTES });
    }
    let invalid = |reason: String| WireError::Invalid { what, reason };
    let count = u32::try_from(blobs.len()).map_err(|e| invalid(e.to_string()))?;
    let mut body = Vec::with_capacity(usize::try_from(raw).unwrap_or_default());
    for (digest, bytes) in blobs {
        body.extend_from_slice(digest.as_bytes());
        body.extend_from_slice(&u32::try_from(bytes.len()).map_err(|e| invalid(e.to_string()))?.to_le_bytes());
        body.extend_from_slice(bytes);
    }
    let packed = zstd::bulk::compress(&body, LEVEL).map_err(|e| invalid(e.to_string()))?;
    Ok((TransferHeader { transfer, blobs: count, raw_length: raw }, packed))
}

/// Unpacks a body, at most as long as declared, and hashes every blob.
///
/// Blobs whose bytes are not those of their digest are returned as `altered`, by the digest they claim.
pub fn unpack(header: &TransferHeader, packed: &[u8]) -> Result<Unpacked, WireError> {
    let what = "transfer";
    let invalid = |reason: String| WireError::Invalid { what, reason };
    let limit = packed_limit(header.raw_length);
    if packed.len() as u64 > limit {
        return Err(WireError::TooLong { what, len: packed.len() as u64, limit });
    }
    if header.raw_length > limits::TRANSFER_RAW_BYTES {
        return Err(WireError::TooLong { what, len: header.raw_length, limit: limits::TRANSFER_RAW_BYTES });
    }
    let capacity = usize::try_from(header.raw_length).map_err(|e| invalid(e.to_string()))?;
    let body = zstd::bulk::decompress(packed, capacity)
        .map_err(|e| invalid(format!("its body does not unpack into {capacity} bytes: {e}")))?;
    if body.len() != capacity {
        return Err(invalid(format!("its body has {} bytes, {capacity} were declared", body.len())));
    }
    let mut out = Unpacked { blobs: Vec::new(), altered: Vec::new() };
    let mut rest = body.as_slice();
    for _ in 0..header.blobs {
        let cut = || invalid("its body ends within a blob".into());
        let (digest, after) = rest.split_first_chunk::<32>().ok_or_else(cut)?;
        let (len, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|e| invalid(e.to_string()))?;
        let (bytes, after) = after.split_at_checked(len).ok_or_else(cut)?;
        let digest = Digest::from_bytes(*digest);
        if Digest::of(bytes) == digest {
            out.blobs.push((digest, Arc::from(bytes)));
        } else {
            out.altered.push(digest);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(invalid(format!("its body has {} bytes after the last blob", rest.len())));
    }
    Ok(out)
}

/// What a transfer brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Hashed, in the order of the body.
    pub blobs: Vec<Blob>,
    /// Digests claimed for other bytes.
    pub altered: Vec<Digest>,
}
