//! The blobs of a bundle in memory, compressed: manifests are ten times smaller so, and are read rarely and in order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::bundle::Blobs;
use driftless_protocol::id::Digest;
use driftless_protocol::wire::transfer::Blob;

/// Raw bytes of a chunk: enough to compress well, unpacked within some 50 microseconds.
const CHUNK_BYTES: usize = 64 * 1024;
/// Unpacked chunks kept: requests in flight are of neighbours, which may lie on both sides of a border.
const AT_HAND: usize = 2;
/// Compression: fast, and close to the best for text like this.
const LEVEL: i32 = 3;
/// Below this share of living bytes a chunk is packed anew, in percent.
const LIVE_PERCENT: u64 = 50;

/// See the module.
#[derive(Default)]
pub struct BlobMap {
    /// Sorted.
    places: Vec<(Short, Place)>,
    chunks: Vec<Arc<Chunk>>,
    at_hand: Mutex<VecDeque<(u32, Arc<[u8]>)>>,
}

/// The first half of a digest: enough to tell blobs apart, and whoever uses one hashes it again. Thousands are kept.
pub(super) type Short = [u8; 16];

/// See [`Short`].
pub(super) fn short(digest: &Digest) -> Short {
    let (first, _) = digest.as_bytes().split_at(size_of::<Short>());
    first.try_into().unwrap_or_default()
}

/// Where a blob is.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: u32,
    from: u32,
    len: u32,
}

/// Some blobs, end to end.
enum Chunk {
    Packed {
        bytes: Box<[u8]>,
        len: usize,
    },
    /// Compressing it failed, or does not pay.
    Plain(Arc<[u8]>),
}

impl fmt::Debug for BlobMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobMap").field("blobs", &self.places.len()).field("chunks", &self.chunks.len()).finish()
    }
}

impl Chunk {
    fn new(raw: Vec<u8>) -> Self {
        match zstd::bulk::compress(&raw, LEVEL) {
            Ok(packed) if packed.len() < raw.len() => Self::Packed { bytes: packed.into_boxed_slice(), len: raw.len() },
            _ => Self::Plain(raw.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Packed { len, .. } => *len,
            Self::Plain(bytes) => bytes.len(),
        }
    }

    fn unpack(&self) -> Option<Arc<[u8]>> {
        match self {
            // What is returned is hashed again by whoever uses it; a chunk that does not unpack counts as not there.
            Self::Packed { bytes, len } => zstd::bulk::decompress(bytes, *len).ok().map(Into::into),
            Self::Plain(bytes) => Some(Arc::clone(bytes)),
        }
    }
}

impl BlobMap {
    /// These blobs, in this order: what is read together should stand together.
    #[must_use]
    pub fn of(blobs: impl IntoIterator<Item = Blob>) -> Self {
        let mut map = Self::default();
        map.add(blobs);
        map
    }

    /// Adds blobs, in this order. One that is there already is passed over.
    pub(super) fn add(&mut self, blobs: impl IntoIterator<Item = Blob>) {
        let mut raw: Vec<u8> = Vec::new();
        let mut fresh: BTreeMap<Short, Place> = BTreeMap::new();
        for (digest, bytes) in blobs {
            let digest = short(&digest);
            if self.place(&digest).is_some() || fresh.contains_key(&digest) {
                continue;
            }
            if !raw.is_empty() && raw.len() + bytes.len() > CHUNK_BYTES {
                self.chunks.push(Arc::new(Chunk::new(std::mem::take(&mut raw))));
            }
            let place = Place { chunk: self.chunks.len() as u32, from: raw.len() as u32, len: bytes.len() as u32 };
            fresh.insert(digest, place);
            raw.extend_from_slice(&bytes);
        }
        if !raw.is_empty() || fresh.values().any(|place| place.chunk as usize == self.chunks.len()) {
            self.chunks.push(Arc::new(Chunk::new(raw)));
        }
        self.places.extend(fresh);
        self.places.sort_unstable_by_key(|(digest, _)| *digest);
        self.places.shrink_to_fit();
    }

    /// The blobs of the next bundle, `order`, from what is here and what was fetched for it. Chunks that are mostly alive are
    /// shared with this map, the rest is packed anew.
    #[must_use]
    pub(super) fn next(&self, fetched: &BTreeMap<Digest, Arc<[u8]>>, order: &[Digest]) -> Self {
        let mut alive = vec![0u64; self.chunks.len()];
        let kept = order.iter().map(short).filter_map(|d| Some((d, self.place(&d)?)));
        let kept: Vec<(Short, Place)> = kept.collect();
        for (_, place) in &kept {
            if let Some(sum) = alive.get_mut(place.chunk as usize) {
                *sum += u64::from(place.len);
            }
        }
        let mut next = Self::default();
        let moved: Vec<Option<u32>> = self
            .chunks
            .iter()
            .zip(alive)
            .map(|(chunk, alive)| {
                let stays = alive > 0 && alive * 100 >= chunk.len() as u64 * LIVE_PERCENT;
                stays.then(|| {
                    next.chunks.push(Arc::clone(chunk));
                    (next.chunks.len() - 1) as u32
                })
            })
            .collect();
        for (digest, place) in kept {
            if let Some(Some(chunk)) = moved.get(place.chunk as usize) {
                next.places.push((digest, Place { chunk: *chunk, ..place }));
            }
        }
        next.places.sort_unstable_by_key(|(digest, _)| *digest);
        let rest = order.iter().filter_map(|d| Some((*d, fetched.get(d).cloned().or_else(|| self.get(d))?)));
        next.add(rest);
        next
    }

    fn place(&self, digest: &Short) -> Option<Place> {
        let at = self.places.binary_search_by_key(digest, |(digest, _)| *digest).ok()?;
        self.places.get(at).map(|(_, place)| *place)
    }

    fn chunk(&self, number: u32) -> Option<Arc<[u8]>> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = at_hand.iter().find(|(n, _)| *n == number) {
            return Some(Arc::clone(bytes));
        }
        let bytes = self.chunks.get(number as usize)?.unpack()?;
        if at_hand.len() == AT_HAND {
            at_hand.pop_front();
        }
        at_hand.push_back((number, Arc::clone(&bytes)));
        Some(bytes)
    }
}

impl Blobs for BlobMap {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let place = self.place(&short(digest))?;
        let chunk = self.chunk(place.chunk)?;
        let from = place.from as usize;
        chunk.get(from..from + place.len as usize).map(Arc::from)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.place(&short(digest)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(n: usize) -> Blob {
        let text = format!("object {n}: {}", "the same words again and again; ".repeat(n % 200));
        (Digest::of(text.as_bytes()), Arc::from(text.into_bytes()))
    }

    fn same(map: &BlobMap, blobs: &[Blob]) -> bool {
        blobs.iter().all(|(digest, bytes)| map.has(digest) && map.get(digest).as_ref() == Some(bytes))
    }

    #[test]
    fn every_blob_comes_back_and_little_is_kept() {
        let blobs: Vec<Blob> = (0..500).map(blob).chain([(Digest::of(b""), Arc::from([]))]).collect();
        let map = BlobMap::of(blobs.iter().cloned());
        assert!(same(&map, &blobs));
        let raw: usize = blobs.iter().map(|(_, bytes)| bytes.len()).sum();
        let kept: usize = map
            .chunks
            .iter()
            .map(|chunk| match &**chunk {
                Chunk::Packed { bytes, .. } => bytes.len(),
                Chunk::Plain(bytes) => bytes.len(),
            })
            .sum();
        assert!(kept * 8 < raw, "{kept} of {raw}");
        let other = Digest::of(b"another");
        assert!(!map.has(&other) && map.get(&other).is_none());
    }

    #[test]
    fn the_next_bundle_shares_what_lives_and_drops_what_does_not() {
        let old: Vec<Blob> = (0..400).map(blob).collect();
        let map = BlobMap::of(old.iter().cloned());
        // Most of the first half goes, the second stays, some are new.
        let stays: Vec<Blob> =
            old.iter().enumerate().filter(|(n, _)| *n > 200 || n % 5 == 0).map(|(_, b)| b.clone()).collect();
        let new: Vec<Blob> = (1000..1040).map(blob).collect();
        let order: Vec<Digest> = stays.iter().chain(&new).map(|(digest, _)| *digest).collect();
        let next = map.next(&new.iter().cloned().collect(), &order);
        assert!(same(&next, &stays) && same(&next, &new));
        assert_eq!(next.places.len(), order.len());
        assert!(
            next.chunks.iter().any(|chunk| map.chunks.iter().any(|old| Arc::ptr_eq(chunk, old))),
            "nothing is shared"
        );
        assert!(map.chunks.iter().any(|old| !next.chunks.iter().any(|chunk| Arc::ptr_eq(chunk, old))), "all is kept");
        let gone = old.iter().enumerate().filter(|(n, _)| *n <= 200 && n % 5 != 0).map(|(_, (digest, _))| digest);
        assert!(gone.into_iter().all(|digest| !next.has(digest)));
    }
}
