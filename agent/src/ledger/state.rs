//! ConfigMap `driftless-head`: two generations and the ratchet, written with compare-and-swap only.

use driftless_protocol::id::{ClusterId, Digest, Generation, KeyId, hex, unhex};
use driftless_protocol::session::Ratchet;
use driftless_protocol::signing::{KeySignature, Signed};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LedgerError, api_error, namespace};
use crate::cluster::api::{Actor, Api, config_maps};

/// The ConfigMap.
pub(super) const HEAD: &str = "driftless-head";
const DATA_KEY: &str = "state.json";

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct State {
    /// The generation being enforced.
    pub(super) current: Option<Kept>,
    /// The one before.
    pub(super) previous: Option<Kept>,
    /// Packs that a store is about to create: whoever finds them here unreferenced deletes them.
    pub(super) pending: Vec<String>,
    /// Nothing at or below it is taken. Stays whatever becomes of the bundle.
    pub(super) ratchet: Option<Ratcheted>,
    /// Whose state this is. A cluster that enrolled anew has another id, and generations of its own.
    pub(super) cluster: Option<ClusterId>,
}

impl State {
    /// Begins anew for another cluster id: nothing is left but the names of packs to delete.
    pub(super) fn begin_anew(&mut self, cluster: ClusterId) {
        let mut pending: Vec<String> = self.packs().map(|p| p.name.clone()).collect();
        pending.append(&mut self.pending);
        *self = Self { pending, cluster: Some(cluster), ..Self::default() };
    }

    /// The packs of both generations; one may stand twice.
    pub(super) fn packs(&self) -> impl Iterator<Item = &PackRef> {
        self.current.iter().chain(&self.previous).flat_map(|kept| &kept.packs)
    }
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kept {
    /// Bytes and signatures, as they came.
    #[serde(with = "signed_text")]
    pub(super) head: Signed,
    /// Packs that hold its blobs.
    pub(super) packs: Vec<PackRef>,
    /// Unix milliseconds.
    pub(super) stored_at: u64,
}

/// One pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PackRef {
    pub(super) name: String,
    pub(super) uid: String,
    /// Compressed bytes.
    pub(super) bytes: u64,
}

/// [`Ratchet`] as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ratcheted {
    generation: Generation,
    head: Digest,
}

impl From<Ratchet> for Ratcheted {
    fn from(r: Ratchet) -> Self {
        Self { generation: r.generation, head: r.head }
    }
}

impl From<Ratcheted> for Ratchet {
    fn from(r: Ratcheted) -> Self {
        Self { generation: r.generation, head: r.head }
    }
}

/// A signed statement as JSON text that people can read: the bytes are JSON themselves.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedText {
    bytes: String,
    signatures: Vec<SignatureText>,
}

#[derive(Serialize, Deserialize)]
struct SignatureText {
    key: KeyId,
    signature: String,
}

pub(super) mod signed_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{KeySignature, SignatureText, Signed, SignedText, hex, unhex};

    pub(crate) fn serialize<S: Serializer>(signed: &Signed, s: S) -> Result<S::Ok, S::Error> {
        let bytes = String::from_utf8(signed.bytes.clone()).map_err(serde::ser::Error::custom)?;
        let signatures =
            signed.signatures.iter().map(|s| SignatureText { key: s.key, signature: hex(&s.signature) }).collect();
        SignedText { bytes, signatures }.serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Signed, D::Error> {
        let text = SignedText::deserialize(d)?;
        let signatures = text
            .signatures
            .into_iter()
            .map(|s| {
                let signature =
                    unhex(&s.signature).ok_or_else(|| D::Error::custom("a signature is not 64 bytes of hex"))?;
                Ok(KeySignature { key: s.key, signature })
            })
            .collect::<Result<_, D::Error>>()?;
        Ok(Signed { bytes: text.bytes.into_bytes(), signatures })
    }
}

/// The state with the version it was read or written at.
#[derive(Clone, Debug)]
pub(super) struct StateObject {
    pub(super) state: State,
    version: Option<String>,
}

impl StateObject {
    /// Reads it. A ConfigMap that cannot be read is an error: to begin anew would forget the ratchet.
    pub(super) async fn load(api: &Api) -> Result<Self, LedgerError> {
        let map = api
            .get(&Actor::Agent, &config_maps(), namespace(), HEAD)
            .await
            .map_err(api_error(format!("read ConfigMap {}/{HEAD}", namespace())))?;
        let Some(map) = map else { return Ok(Self { state: State::default(), version: None }) };
        let damaged =
            |reason: String| LedgerError::Damaged { what: format!("ConfigMap {}/{HEAD}", namespace()), reason };
        let text = map.get("data").and_then(|d| d.get(DATA_KEY)).and_then(Value::as_str);
        let text = text.ok_or_else(|| damaged(format!("it has no {DATA_KEY}")))?;
        let state = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        Ok(Self { state, version: version_of(&map) })
    }

    /// Writes it over the version it was read at.
    pub(super) async fn write(&mut self, api: &Api) -> Result<(), LedgerError> {
        let text = serde_json::to_string(&self.state)
            .map_err(|e| LedgerError::Damaged { what: "the new state of the ledger".into(), reason: e.to_string() })?;
        let data = json!({ DATA_KEY: text });
        self.version = write_map(api, HEAD, self.version.as_deref(), data).await?;
        Ok(())
    }
}

/// Creates or replaces one of our ConfigMaps; the new version. A conflict is [`LedgerError::Raced`].
pub(super) async fn write_map(
    api: &Api,
    name: &'static str,
    version: Option<&str>,
    data: Value,
) -> Result<Option<String>, LedgerError> {
    let mut map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace() },
        "data": data,
    });
    let written = match version {
        Some(version) => {
            map["metadata"]["resourceVersion"] = version.into();
            api.replace(&Actor::Agent, &config_maps(), &map).await
        }
        None => api.create(&Actor::Agent, &config_maps(), &map).await,
    };
    match written {
        Ok(written) => Ok(version_of(&written)),
        Err(error) if error.is_conflict() => Err(LedgerError::Raced(name)),
        Err(error) => Err(api_error(format!("write ConfigMap {}/{name}", namespace()))(error)),
    }
}

pub(super) fn version_of(object: &Value) -> Option<String> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}
