//! What a cluster tells its hub of itself, as far as rendering may depend on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bundle::is_zero_u32;
use crate::canonical;
use crate::id::Digest;

/// Most bytes of facts as canonical JSON.
pub const FACTS_BYTES: usize = 512 * 1024;
/// Most bytes of one ConfigMap's data, names and values together.
pub const CONFIG_MAP_BYTES: usize = 64 * 1024;
/// Most ConfigMaps that one cluster tells.
pub const CONFIG_MAPS: usize = 64;

/// The facts of one cluster: a state, sent whole when it changes; the newest wins. No Secret is ever part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// `v1.36.3`; empty when not known.
    pub kubernetes_version: String,
    /// Served `group/version/Kind`s (`v1/Pod`, `apps/v1/Deployment`), sorted.
    pub apis: Vec<String>,
    /// Allow-listed ConfigMaps, `namespace/name` to data.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Allow-listed ConfigMaps that are not among them, and why: they do not exist, are too large, may not be read.
    pub not_told: BTreeMap<String, String>,
    /// The newest format of unit bodies that the agent reads; 0: not said, as agents do that know only
    /// [`crate::bundle::LATE_FORMAT`], and files that people wrote.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub body_format: u32,
}

impl Facts {
    /// Address of the facts: BLAKE3 over their canonical JSON. Equal facts have equal digests.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Canonical JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and lists always have a canonical form.
        canonical::to_vec(self).unwrap_or_default()
    }

    /// Takes out what is beyond the limits, and says so in `not_told`.
    pub fn bound(&mut self) {
        let size = |data: &BTreeMap<String, String>| data.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let mut rest = FACTS_BYTES / 2;
        let mut count = 0;
        let mut out = Vec::new();
        self.config_maps.retain(|name, data| {
            let bytes = size(data);
            let why = if bytes > CONFIG_MAP_BYTES {
                format!("it has {bytes} bytes, a fact has at most {CONFIG_MAP_BYTES}")
            } else if count >= CONFIG_MAPS {
                format!("a cluster tells at most {CONFIG_MAPS} ConfigMaps")
            } else if bytes > rest {
                format!("the ConfigMaps of a cluster's facts have at most {} bytes together", FACTS_BYTES / 2)
            } else {
                rest -= bytes;
                count += 1;
                return true;
            };
            out.push((name.clone(), why));
            false
        });
        self.not_told.extend(out);
        // A cluster with thousands of kinds: what is cut is shown as not served, never a broken session.
        while self.to_bytes().len() > FACTS_BYTES && self.apis.pop().is_some() {
            self.apis.truncate(self.apis.len() / 2);
        }
    }
}
