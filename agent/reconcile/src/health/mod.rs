//! Is an object doing what it is for: kstatus rules for built-in kinds, conditions for the rest.
//!
//! Facts follow sigs.k8s.io/cli-utils `kstatus` (the rules Flux uses); messages are ours.

mod asked;
mod generic;
mod job;
mod storage;
mod workload;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::asked::Asked;

/// A verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// As its spec says.
    Current,
    /// On the way.
    InProgress,
    /// It says itself that it failed.
    Failed,
    /// Being deleted.
    Terminating,
    /// Nothing is known.
    #[default]
    Unknown,
}

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The verdict.
    pub health: Health,
    /// Why, for people; `None` for [`Health::Current`].
    pub message: Option<String>,
}

impl Verdict {
    fn current() -> Self {
        Self { health: Health::Current, message: None }
    }

    fn in_progress(message: impl Into<String>) -> Self {
        Self { health: Health::InProgress, message: Some(message.into()) }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self { health: Health::Failed, message: Some(message.into()) }
    }
}

/// Judges a live object, by the expressions of its kind where there are some.
#[must_use]
pub fn judge(live: &Value, asked: &[Asked]) -> Verdict {
    let o = Object(live);
    if o.text("/metadata/deletionTimestamp").is_some() {
        let message = "being deleted".to_owned();
        return Verdict { health: Health::Terminating, message: Some(message) };
    }
    let api_version = o.text("/apiVersion").unwrap_or_default();
    let group = driftless_protocol::object::group_of(api_version);
    let kind = o.text("/kind").unwrap_or_default();
    if let Some(asked) = asked.iter().find(|asked| asked.kind().kind == kind && asked.kind().group == group) {
        return asked.judge(live);
    }
    // The table: who knows how to judge which kind. What is not in it is judged by its conditions, and objects without
    // status at all (ConfigMap, Role, ...) are current as soon as they are there.
    match (group, kind) {
        ("apps", "Deployment") => workload::deployment(o),
        ("apps", "StatefulSet") => workload::stateful_set(o),
        ("apps", "DaemonSet") => workload::daemon_set(o),
        ("apps" | "extensions", "ReplicaSet") => workload::replica_set(o),
        ("", "ReplicationController") => workload::replica_set(o),
        ("", "Pod") => workload::pod(o),
        ("batch", "Job") => job::job(o),
        ("batch", "CronJob") => Verdict::current(),
        ("", "Service") => generic::service(o),
        ("", "PersistentVolumeClaim") => storage::claim(o),
        ("", "PersistentVolume") => storage::volume(o),
        ("policy", "PodDisruptionBudget") => generic::disruption_budget(o),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => generic::definition(o),
        ("apiregistration.k8s.io", "APIService") => generic::api_service(o),
        ("", "Namespace") => generic::namespace(o),
        // Flux's own kinds say Ready once their controller has looked; before that they are not healthy. Alert and
        // Provider have no status, so the rest of that group is judged like any kind.
        ("helm.toolkit.fluxcd.io" | "source.toolkit.fluxcd.io" | "image.toolkit.fluxcd.io", _)
        | ("kustomize.toolkit.fluxcd.io", "Kustomization")
        | ("notification.toolkit.fluxcd.io", "Receiver") => generic::ready_only(o),
        _ => generic::any(o),
    }
}

/// A live object, with reading by JSON pointer.
#[derive(Clone, Copy)]
struct Object<'a>(&'a Value);

impl<'a> Object<'a> {
    fn text(self, pointer: &str) -> Option<&'a str> {
        self.0.pointer(pointer).and_then(Value::as_str)
    }

    fn int(self, pointer: &str) -> Option<i64> {
        self.0.pointer(pointer).and_then(Value::as_i64)
    }

    /// `(status, reason, message)` of a condition.
    fn condition(self, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
        let all = self.0.pointer("/status/conditions")?.as_array()?;
        let one = all.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))?;
        let text = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default();
        Some((text("status"), text("reason"), text("message")))
    }

    /// The controller has not seen the newest spec yet.
    fn stale(self) -> Option<Verdict> {
        let (want, seen) = (self.int("/metadata/generation")?, self.int("/status/observedGeneration")?);
        (seen < want).then(|| Verdict::in_progress(format!("its controller has seen generation {seen} of {want}")))
    }

    /// The controller has not written any status that names a generation, though it always does.
    fn unseen(self) -> Option<Verdict> {
        match self.int("/status/observedGeneration") {
            None if self.int("/metadata/generation").is_some() => {
                Some(Verdict::in_progress("its controller has not looked at it yet"))
            }
            _ => self.stale(),
        }
    }
}

/// `reason: message`, or what there is of it.
fn because(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        (false, true) => reason.to_owned(),
        _ => message.to_owned(),
    }
}
