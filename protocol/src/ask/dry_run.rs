//! What the API server would say to objects that are proposed.

use serde::{Deserialize, Serialize};

use super::halve;
use crate::bundle::ServiceAccount;
use crate::id::UnitId;
use crate::object::ObjectKey;

/// Objects in one question: each is one or two requests.
pub const DRY_RUN_OBJECTS: usize = 100;
/// Bytes of all their bodies together.
pub const DRY_RUN_BYTES: usize = 512 * 1024;

/// What would the API server say to these. They are only ever applied with `dryRun=All`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DryRunQuestion {
    /// At most [`DRY_RUN_OBJECTS`], in the order of their answers.
    pub objects: Vec<DryRunObject>,
}

/// One object to be tried.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunObject {
    /// Of which unit.
    pub unit: UnitId,
    /// Which object; must be what `body` says.
    pub key: ObjectKey,
    /// Who would write it; `None`: the applier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccount>,
    /// Its canonical JSON.
    pub body: String,
}

impl std::fmt::Debug for DryRunObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRunObject").field("unit", &self.unit).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What it said, in the order of the question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DryRunAnswer {
    /// One for each, as far as the time allowed.
    pub results: Vec<DryRunResult>,
}

/// What it said to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunResult {
    /// Which object.
    pub key: ObjectKey,
    /// In a word.
    pub outcome: DryRunOutcome,
    /// The API server's words; empty where all is well. Of Secrets none that could quote a value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Fields that another manager has now and that the apply would take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes: Vec<FieldTaken>,
    /// Warnings of the API server: deprecated versions, unknown fields, Pod Security.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A field that would change hands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldTaken {
    /// `.spec.replicas`
    pub field: String,
    /// The manager, as it calls itself.
    pub manager: String,
}

/// What the API server would do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DryRunOutcome {
    /// It would take it.
    Accepted,
    /// A field cannot be changed.
    Immutable,
    /// It is not valid: a wrong type, a value out of range.
    Invalid,
    /// An admission webhook, policy or controller refuses it.
    Denied,
    /// A quota or a limit range refuses it.
    Quota,
    /// An admission webhook could not be asked, or knows no dry run.
    WebhookFailed,
    /// The account may not.
    Forbidden,
    /// The agent may not act as the account.
    NoSuchAccount,
    /// Its namespace is not there.
    NoNamespace,
    /// The cluster does not serve the kind, or not in this version.
    NotServed,
    /// The object changed meanwhile, or is being deleted.
    Conflict,
    /// It was not tried: why is in the message.
    NotTried,
    /// The API server failed.
    Failed,
}

impl DryRunOutcome {
    /// As it stands in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Immutable => "immutable",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::WebhookFailed => "webhookFailed",
            Self::Forbidden => "forbidden",
            Self::NoSuchAccount => "noSuchAccount",
            Self::NoNamespace => "noNamespace",
            Self::NotServed => "notServed",
            Self::Conflict => "conflict",
            Self::NotTried => "notTried",
            Self::Failed => "failed",
        }
    }
}

impl DryRunAnswer {
    /// Words go first: what became of each object stays as long as it can.
    pub(super) fn cut(&mut self, most: usize) -> usize {
        let longest = self.results.iter().map(|r| r.takes.len().max(r.warnings.len())).max().unwrap_or(0);
        if longest == 0 {
            return halve(&mut self.results, most);
        }
        for result in &mut self.results {
            result.takes.truncate(longest / 2);
            result.warnings.truncate(longest / 2);
        }
        usize::MAX
    }
}
