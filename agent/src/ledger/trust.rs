//! ConfigMap `driftless-trust`: every trust document from version 1 on, verified from the pinned root keys on when read.

use driftless_protocol::id::KeyId;
use driftless_protocol::signing::{Signed, Verified};
use driftless_protocol::trust::{self, TrustDocument, TrustError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::state::{signed_text, version_of, write_map};
use super::{LedgerError, api_error, namespace};
use crate::cluster::api::{Actor, Api, chain, config_maps};

/// The ConfigMap.
pub(super) const TRUST: &str = "driftless-trust";

/// The trust documents of this cluster.
#[derive(Clone, Debug)]
pub struct TrustRecord {
    newest: Verified<TrustDocument>,
    documents: Vec<Verified<TrustDocument>>,
    version: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Entry(#[serde(with = "signed_text")] Signed);

impl TrustRecord {
    /// Reads and verifies them. None at all is an error: an enrolled cluster has at least the first.
    pub(super) async fn load(api: &Api, root_keys: &[KeyId]) -> Result<Self, LedgerError> {
        let Some((signed, version)) = read(api).await? else {
            return Err(LedgerError::Damaged {
                what: format!("ConfigMap {}/{TRUST}", namespace()),
                reason: "it is not there; it is written at enrolment, restore it or enrol anew".into(),
            });
        };
        let documents = trust::verify_all(root_keys, &signed).map_err(|e| LedgerError::Trust(chain(&e)))?;
        let newest = documents.last().cloned().ok_or_else(|| LedgerError::Trust(TrustError::Empty.to_string()))?;
        Ok(Self { newest, documents, version })
    }

    /// Writes the documents of an enrolment, replacing those of an earlier one.
    pub async fn replace(api: &Api, documents: Vec<Verified<TrustDocument>>) -> Result<(), LedgerError> {
        let newest = documents.last().cloned().ok_or_else(|| LedgerError::Trust(TrustError::Empty.to_string()))?;
        let live = api
            .get(&Actor::Agent, &config_maps(), namespace(), TRUST)
            .await
            .map_err(api_error(format!("read ConfigMap {}/{TRUST}", namespace())))?;
        let mut record = Self { newest, documents, version: live.as_ref().and_then(version_of) };
        record.write(api).await
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> &Verified<TrustDocument> {
        &self.newest
    }

    /// All, from version 1 on.
    #[must_use]
    pub fn all(&self) -> &[Verified<TrustDocument>] {
        &self.documents
    }

    pub(super) async fn append(&mut self, api: &Api, document: &Verified<TrustDocument>) -> Result<(), LedgerError> {
        if document.version <= self.newest.version {
            return Ok(());
        }
        self.documents.push(document.clone());
        match self.write(api).await {
            Ok(()) => self.newest = document.clone(),
            Err(error) => {
                self.documents.pop();
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write(&mut self, api: &Api) -> Result<(), LedgerError> {
        let mut data = Map::new();
        for document in &self.documents {
            let text = serde_json::to_string(&Entry(document.signed().clone())).map_err(|e| LedgerError::Damaged {
                what: format!("trust document {}", document.version),
                reason: e.to_string(),
            })?;
            data.insert(format!("{}.json", document.version), text.into());
        }
        self.version = write_map(api, TRUST, self.version.as_deref(), Value::Object(data)).await?;
        Ok(())
    }
}

/// Documents in order of version, with the ConfigMap's resource version.
type Found = (Vec<Signed>, Option<String>);

async fn read(api: &Api) -> Result<Option<Found>, LedgerError> {
    let damaged = |reason: String| LedgerError::Damaged { what: format!("ConfigMap {}/{TRUST}", namespace()), reason };
    let map = api
        .get(&Actor::Agent, &config_maps(), namespace(), TRUST)
        .await
        .map_err(api_error(format!("read ConfigMap {}/{TRUST}", namespace())))?;
    let Some(map) = map else { return Ok(None) };
    let mut entries = Vec::new();
    for (key, value) in map.get("data").and_then(Value::as_object).into_iter().flatten() {
        let number: u64 = key
            .strip_suffix(".json")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| damaged(format!("it has the unknown key {key}")))?;
        let text = value.as_str().unwrap_or_default();
        let Entry(signed) = serde_json::from_str(text).map_err(|e| damaged(format!("{key}: {e}")))?;
        entries.push((number, signed));
    }
    entries.sort_by_key(|(number, _)| *number);
    Ok(Some((entries.into_iter().map(|(_, signed)| signed).collect(), version_of(&map))))
}
