//! A Kubernetes object as it travels: a key and canonical bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name: up to 23 bytes are stored inline, longer ones are shared by their copies. Thousands of keys are kept, and each is
/// copied often.
pub use smol_str::SmolStr as Name;

/// Which object, whatever its version: what an inventory, a drift report and a delete speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    /// API group; empty for the core group.
    pub group: Name,
    /// Kind.
    pub kind: Name,
    /// Namespace as declared; empty for a cluster-scoped object (or one that forgot it).
    pub namespace: Name,
    /// Name.
    pub name: Name,
}

/// Shown as people type it: `Deployment.apps default/my-app`, `Namespace staging`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if self.namespace.is_empty() {
            write!(f, " {}", self.name)
        } else {
            write!(f, " {}/{}", self.namespace, self.name)
        }
    }
}

impl ObjectKey {
    /// The key of an object given as JSON. `None` when kind or name is missing.
    #[must_use]
    pub fn of(value: &serde_json::Value) -> Option<Self> {
        let api_version = value.get("apiVersion")?.as_str()?;
        let metadata = value.get("metadata")?;
        Some(Self {
            group: group_of(api_version).into(),
            kind: value.get("kind")?.as_str()?.into(),
            namespace: metadata.get("namespace").and_then(|n| n.as_str()).unwrap_or_default().into(),
            name: metadata.get("name")?.as_str()?.into(),
        })
    }

    /// Whether it is a Secret of Kubernetes: no value of it may be shown. A kind of that name in another group is none.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }
}

/// The group part of an `apiVersion` (`apps/v1` gives `apps`, `v1` gives nothing).
#[must_use]
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
