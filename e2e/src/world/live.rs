//! What is in a cluster, and who wrote to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use driftless_protocol::marks;
use serde::Deserialize;
use serde_json::Value;

use super::Cluster;

/// The kinds that the tests' repositories declare.
const KINDS: &str =
    "namespaces,configmaps,secrets,serviceaccounts,services,persistentvolumeclaims,deployments.apps,statefulsets.apps";

/// Managed objects by `Kind namespace/name`.
pub type Objects = BTreeMap<String, Live>;

/// What tells one incarnation and one write of an object from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
    /// Whether somebody asked for its deletion.
    pub deleting: bool,
}

impl Cluster {
    /// Every object that carries our mark.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn objects(&self) -> Result<Objects> {
        self.labelled(marks::UNIT_LABEL).await
    }

    /// Every object that carries this label, whatever its value.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn labelled(&self, label: &str) -> Result<Objects> {
        let text = self.kubectl(&["get", KINDS, "--all-namespaces", "-l", label, "-o", "json"]).await?;
        let list: Value = serde_json::from_str(&text).context("read kubectl's answer")?;
        let items = list["items"].as_array().context("a list")?;
        let field =
            |item: &Value, path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(items
            .iter()
            .map(|item| {
                let namespace = field(item, "/metadata/namespace");
                let name = field(item, "/metadata/name");
                let key = format!("{} {namespace}/{name}", field(item, "/kind"));
                let live = Live {
                    uid: field(item, "/metadata/uid"),
                    version: field(item, "/metadata/resourceVersion"),
                    deleting: item.pointer("/metadata/deletionTimestamp").is_some(),
                };
                (key, live)
            })
            .collect())
    }

    /// One field of one object, by kubectl's JSONPath; empty when the field is not there.
    ///
    /// # Errors
    /// There is no such object, or no answer.
    pub async fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["-n", namespace, "get", object, "-o", &format!("jsonpath={{{path}}}")]).await
    }

    /// Nothing that was there before is gone, going, or another object of the same name now.
    ///
    /// # Errors
    /// Something is; the message names it. Or no answer.
    pub async fn nothing_lost(&self, before: &Objects) -> Result<()> {
        let gone = lost(before, &self.objects().await?);
        anyhow::ensure!(gone.is_empty(), "objects were lost: {gone:?}");
        Ok(())
    }
}

/// What was there before and is gone, going, or another object of the same name now.
#[must_use]
pub fn lost(before: &Objects, after: &Objects) -> Vec<String> {
    before
        .iter()
        .filter_map(|(key, was)| match after.get(key) {
            None => Some(format!("{key} is gone")),
            Some(is) if is.uid != was.uid => Some(format!("{key} was deleted and made anew")),
            Some(is) if is.deleting && !was.deleting => Some(format!("{key} is being deleted")),
            Some(_) => None,
        })
        .collect()
}

/// The API server's audit log: what was asked of it, and by whom.
#[derive(Clone, Debug)]
pub struct AuditLog {
    policy: PathBuf,
    log: PathBuf,
}

/// One request, as the audit log has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `create`, `patch`, `delete`, ...
    pub verb: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// Who authenticated.
    pub user: AuditUser,
    /// Who that wanted to be.
    pub impersonated_user: Option<AuditUser>,
    /// The object, where there is one.
    pub object_ref: Option<AuditObject>,
    /// What it came to.
    pub response_status: Option<AuditStatus>,
    /// The answer, where the log has it.
    pub response_object: Option<Value>,
    /// When the request came in.
    pub request_received_timestamp: Option<String>,
    /// When the answer was given.
    pub stage_timestamp: Option<String>,
}

/// What a request came to, in the audit log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditStatus {
    /// HTTP status.
    pub code: u16,
}

/// An account in the audit log.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// `system:serviceaccount:driftless-system:driftless-agent`.
    pub username: String,
}

/// The object of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditObject {
    /// `configmaps`.
    pub resource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
}

impl AuditLog {
    /// An audit log in this folder: every request that writes, without bodies.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        Self::with_rules(
            folder,
            "  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
    users: [\"system:serviceaccount:driftless-system:driftless-agent\"]
",
        )
    }

    /// An audit log in this folder by these rules of a policy; what they do not mean is not logged.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn with_rules(folder: &Path, rules: &str) -> Result<Self> {
        let policy = folder.join("audit-policy.yaml");
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}  - level: None\n"
        );
        std::fs::write(&policy, text).with_context(|| format!("write {}", policy.display()))?;
        Ok(Self { policy, log: folder.join("audit.log") })
    }

    /// What the API server must be started with.
    #[must_use]
    pub fn api_server_args(&self) -> Vec<String> {
        vec![
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.log.display()),
        ]
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.log
    }

    /// Every write that the agent asked for so far, in order. Dry-runs are not writes.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn writes(&self) -> Result<Vec<AuditEvent>> {
        let text = std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        let events: Result<Vec<AuditEvent>, _> = text.lines().map(serde_json::from_str).collect();
        let mut events = events.with_context(|| format!("read {}", self.log.display()))?;
        events.retain(|event| !event.uri.contains("dryRun="));
        Ok(events)
    }
}

impl AuditEvent {
    /// Whether it concerns the agent's own records and not a managed object.
    #[must_use]
    pub fn own_record(&self) -> bool {
        let virtual_kinds = ["subjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectreviews"];
        // What the agent shows to people with kubectl.
        let shown = ["units", "pauses", "events"];
        let of = |kinds: &[&str], o: &AuditObject| kinds.contains(&o.resource.as_str());
        self.object_ref.as_ref().is_some_and(|o| {
            o.namespace == marks::AGENT_NAMESPACE
                || of(&virtual_kinds, o)
                || (of(&shown, o) && self.impersonated_user.is_none())
        })
    }
}
