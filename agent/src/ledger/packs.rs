//! Packs: immutable Secrets that hold whole blobs under one zstd frame, named by the digest of their bytes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless_protocol::id::{Digest, TransferId};
use driftless_protocol::wire::limits::TRANSFER_RAW_BYTES;
use driftless_protocol::wire::transfer::{self, Blob, TransferHeader};
use serde_json::{Value, json};

use super::blobs::{Short, short};
use super::state::PackRef;
use super::{LedgerError, api_error, namespace};
use crate::cluster::api::{Actor, Api, secrets};

/// Compressed bytes of a pack of several blobs: below the API server's 1 MiB for a Secret, with room for the rest.
const PACK_BYTES: usize = 900 * 1024;
/// Compressed bytes of a pack of one blob that fits no other way.
const LONE_BYTES: usize = 1_040_000;
/// Raw bytes with which packing begins; manifests compress about ten to one.
const RAW_BYTES: u64 = 8 * 1024 * 1024;
/// The key in the Secret's data.
const DATA_KEY: &str = "pack";
/// Raw length and count in front of the frame.
const HEADER: usize = 12;
/// Marks Secrets that are packs.
const RECORD_LABEL: &str = "driftless.dev/record";

/// What a pack at hand holds: the beginning of the digest, and the length, of each blob.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) digests: Box<[(Short, u32)]>,
}

impl Pack {
    fn of(blobs: &[Blob]) -> Self {
        Self { digests: blobs.iter().map(|(digest, bytes)| (short(digest), bytes.len() as u32)).collect() }
    }

    /// How much of it is among `live`.
    pub(super) fn live_percent(&self, live: &BTreeSet<Short>) -> u64 {
        let sum = |counts: &dyn Fn(&Short) -> bool| -> u64 {
            self.digests.iter().filter(|(digest, _)| counts(digest)).map(|(_, len)| u64::from(*len)).sum()
        };
        let (total, alive) = (sum(&|_| true), sum(&|digest| live.contains(digest)));
        (alive * 100).checked_div(total).unwrap_or(0)
    }
}

/// A pack to be created.
#[derive(Clone, Debug)]
pub(super) struct NewPack {
    pub(super) name: String,
    pub(super) body: Vec<u8>,
    pub(super) digests: Box<[(Short, u32)]>,
}

/// The name of the pack with these bytes.
fn name_of(body: &[u8]) -> String {
    format!("driftless-pack-{}", Digest::of(body))
}

/// Cuts blobs into packs, in order.
pub(super) fn pack(blobs: &[Blob]) -> Result<Vec<NewPack>, LedgerError> {
    let mut out = Vec::new();
    let mut rest = blobs;
    while !rest.is_empty() {
        let mut raw = 0;
        let mut count = 0;
        while count < rest.len() {
            raw += rest[count].1.len() as u64 + 36;
            if count > 0 && raw > RAW_BYTES {
                break;
            }
            count += 1;
        }
        let (chunk, after) = rest.split_at(count);
        split(chunk, &mut out)?;
        rest = after;
    }
    Ok(out)
}

/// Packs a chunk, or its halves when it is too large.
fn split(chunk: &[Blob], out: &mut Vec<NewPack>) -> Result<(), LedgerError> {
    let body = encode(chunk)?;
    let limit = if chunk.len() == 1 { LONE_BYTES } else { PACK_BYTES };
    if body.len() <= limit {
        out.push(NewPack { name: name_of(&body), digests: Pack::of(chunk).digests, body });
        return Ok(());
    }
    match chunk {
        [(digest, _)] => Err(LedgerError::TooLarge { digest: *digest, len: body.len() }),
        _ => {
            let (left, right) = chunk.split_at(chunk.len() / 2);
            split(left, out)?;
            split(right, out)
        }
    }
}

fn encode(blobs: &[Blob]) -> Result<Vec<u8>, LedgerError> {
    let (header, packed) = transfer::pack(TransferId(0), blobs).map_err(|e| LedgerError::Bundle(e.to_string()))?;
    let mut body = Vec::with_capacity(HEADER + packed.len());
    body.extend_from_slice(&header.raw_length.to_le_bytes());
    body.extend_from_slice(&header.blobs.to_le_bytes());
    body.extend_from_slice(&packed);
    Ok(body)
}

fn decode(body: &[u8]) -> Result<Vec<Blob>, String> {
    let (raw, rest) = body.split_first_chunk::<8>().ok_or("it is too short")?;
    let (count, packed) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
    let raw_length = u64::from_le_bytes(*raw);
    if raw_length > TRANSFER_RAW_BYTES {
        return Err(format!("it claims {raw_length} bytes"));
    }
    let header = TransferHeader { transfer: TransferId(0), blobs: u32::from_le_bytes(*count), raw_length };
    let unpacked = transfer::unpack(&header, packed).map_err(|e| e.to_string())?;
    match unpacked.altered.first() {
        None => Ok(unpacked.blobs),
        Some(digest) => Err(format!("the blob {digest} has other bytes than its digest says")),
    }
}

/// Creates a pack; its UID. One that is there already with the same bytes is as good.
pub(super) async fn create(api: &Api, pack: &NewPack) -> Result<String, LedgerError> {
    let doing = || format!("write Secret {}/{}", namespace(), pack.name);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": pack.name,
            "namespace": namespace(),
            "labels": { RECORD_LABEL: "pack" },
        },
        "type": "driftless.dev/pack",
        "immutable": true,
        "data": { DATA_KEY: STANDARD.encode(&pack.body) },
    });
    let created = match api.create(&Actor::Agent, &secrets(), &secret).await {
        Ok(created) => created,
        Err(error) if error.is_conflict() => {
            let live = api
                .get(&Actor::Agent, &secrets(), namespace(), &pack.name)
                .await
                .map_err(api_error(doing()))?
                .ok_or_else(|| damaged(&pack.name, "it vanished while it was read"))?;
            if body_of(&pack.name, &live).is_ok_and(|body| body == pack.body) {
                return uid_of(&pack.name, &live);
            }
            // Not ours, or damaged: an immutable Secret cannot be mended, only replaced.
            let uid = uid_of(&pack.name, &live)?;
            api.delete(&Actor::Agent, &secrets(), namespace(), &pack.name, &uid, None)
                .await
                .map_err(api_error(doing()))?;
            api.create(&Actor::Agent, &secrets(), &secret).await.map_err(api_error(doing()))?
        }
        Err(error) => return Err(api_error(doing())(error)),
    };
    uid_of(&pack.name, &created)
}

/// Reads a pack back: name, digest and every blob are checked.
pub(super) async fn load(api: &Api, reference: &PackRef) -> Result<(Pack, Vec<Blob>), LedgerError> {
    let name = &reference.name;
    let secret = api
        .get(&Actor::Agent, &secrets(), namespace(), name)
        .await
        .map_err(api_error(format!("read Secret {}/{name}", namespace())))?
        .ok_or_else(|| damaged(name, "it is not there"))?;
    let body = body_of(name, &secret)?;
    if name_of(&body) != *name {
        return Err(damaged(name, "its bytes are not those its name says"));
    }
    let blobs = decode(&body).map_err(|reason| damaged(name, reason))?;
    Ok((Pack::of(&blobs), blobs))
}

/// Deletes a pack, if it is there.
pub(super) async fn delete(api: &Api, name: &str) -> Result<(), LedgerError> {
    let doing = || format!("delete Secret {}/{name}", namespace());
    let live = api.get(&Actor::Agent, &secrets(), namespace(), name).await.map_err(api_error(doing()))?;
    let Some(live) = live else { return Ok(()) };
    let uid = uid_of(name, &live)?;
    api.delete(&Actor::Agent, &secrets(), namespace(), name, &uid, None).await.map_err(api_error(doing()))
}

fn body_of(name: &str, secret: &Value) -> Result<Vec<u8>, LedgerError> {
    let text = secret.get("data").and_then(|d| d.get(DATA_KEY)).and_then(Value::as_str);
    let text = text.ok_or_else(|| damaged(name, "it has no data"))?;
    STANDARD.decode(text).map_err(|e| damaged(name, e.to_string()))
}

fn uid_of(name: &str, secret: &Value) -> Result<String, LedgerError> {
    let uid = secret.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty());
    uid.map(str::to_owned).ok_or_else(|| damaged(name, "it has no UID"))
}

fn damaged(name: &str, reason: impl Into<String>) -> LedgerError {
    LedgerError::Damaged { what: format!("Secret {}/{name}", namespace()), reason: reason.into() }
}
