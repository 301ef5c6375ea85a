//! What is in a cluster that nobody declares.

use serde::{Deserialize, Serialize};

use super::halve;
use crate::object::ObjectKey;

/// Objects listed in one answer; what is beyond is counted.
pub const ORPHANS: usize = 5_000;

/// Which objects nobody declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrphansQuestion {
    /// Only in these namespaces; none: everywhere, objects without namespace too.
    pub namespaces: Vec<String>,
    /// Only of these kinds, `Kind` or `Kind.group`; none: of all.
    pub kinds: Vec<String>,
    /// Also what belongs to Kubernetes, its distribution, or Driftless itself.
    pub system: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrphansAnswer {
    /// By namespace, kind, name; at most [`ORPHANS`].
    pub orphans: Vec<Orphan>,
    /// How many there are, those not listed too.
    pub found: u64,
    /// Objects looked at.
    pub looked: u64,
    /// Kinds looked at.
    pub kinds: u64,
    /// Objects that are no orphans.
    pub skipped: SkippedObjects,
    /// Kinds that were not, or not wholly, looked at.
    pub not_looked: Vec<NotLooked>,
}

/// Why objects are no orphans, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkippedObjects {
    /// Declared in Git, or in the inventory.
    pub declared: u64,
    /// Made by a controller for another object (they have an owner reference).
    pub owned: u64,
    /// Of Kubernetes, of its distribution, or of Driftless itself.
    pub system: u64,
}

/// An object nobody declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// Which.
    pub key: ObjectKey,
    /// When it was made, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// Who seems to own it, by its labels and annotations: `Helm release web/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The manager that wrote it first, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// With `system`: why it would not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// A kind that was not, or not wholly, looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotLooked {
    /// `Kind.group`.
    pub kind: String,
    /// Why.
    pub why: String,
}

impl OrphansAnswer {
    pub(super) fn cut(&mut self, most: usize) -> usize {
        self.not_looked.truncate(200);
        halve(&mut self.orphans, most)
    }
}
