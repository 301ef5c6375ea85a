//! What a workload says of itself, and what to list below it.

use serde_json::Value;

use super::{Found, Rank, condition, group_kind, pods::tail, text};
use crate::refusal::{self, Refusal};

/// What an object makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Children {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Label selector; empty: none is known, and all are read.
    pub selector: String,
}

/// What to list below an object, in its namespace; those that name it as their owner count.
#[must_use]
pub fn children(object: &Value) -> Option<Children> {
    let below = |group, kind| Some(Children { group, kind, selector: selector(object) });
    match group_kind(object) {
        ("apps", "Deployment") => below("apps", "ReplicaSet"),
        ("apps", "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => below("", "Pod"),
        ("", "ReplicationController") => {
            let labels = object.pointer("/spec/selector").and_then(Value::as_object);
            let pairs = labels.into_iter().flatten().filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)));
            Some(Children { group: "", kind: "Pod", selector: pairs.collect::<Vec<_>>().join(",") })
        }
        ("batch", "CronJob") => Some(Children { group: "batch", kind: "Job", selector: String::new() }),
        _ => None,
    }
}

/// `spec.selector` as a query takes it.
fn selector(object: &Value) -> String {
    let Some(selector) = object.pointer("/spec/selector") else { return String::new() };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<String> =
        labels.into_iter().flatten().filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?))).collect();
    for expression in super::list(selector, "/matchExpressions") {
        let Some(key) = text(expression, "/key") else { continue };
        let values: Vec<&str> = super::list(expression, "/values").filter_map(Value::as_str).collect();
        match text(expression, "/operator") {
            Some("In") => parts.push(format!("{key} in ({})", values.join(","))),
            Some("NotIn") => parts.push(format!("{key} notin ({})", values.join(","))),
            Some("Exists") => parts.push(key.to_owned()),
            Some("DoesNotExist") => parts.push(format!("!{key}")),
            _ => {}
        }
    }
    parts.join(",")
}

/// What it says of itself.
pub(super) fn look(object: &Value) -> Vec<Found> {
    let mut all = Vec::new();
    let (group, kind) = group_kind(object);
    if let Some(("True", _, words, since)) = condition(object, "ReplicaFailure") {
        all.push(Found { since, ..refused(words) });
    }
    if let ("apps", "Deployment") = (group, kind) {
        if object.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
            all.push(Found {
                rank: Rank::CannotStart,
                code: "Paused",
                message: "its rollout is paused (spec.paused), so its new version is not rolled out".into(),
                hint: "take spec.paused out of Git, or `kubectl rollout resume`".into(),
                since: None,
            });
        }
        if let Some(("False", "ProgressDeadlineExceeded", words, since)) = condition(object, "Progressing") {
            all.push(Found {
                rank: Rank::Says,
                code: "NoProgress",
                message: format!("it made no progress within its deadline{}", tail(words)),
                hint: "see to its pods; it goes on by itself once they become ready".into(),
                since,
            });
        }
    }
    if let ("batch", "Job") = (group, kind) {
        if let Some(("True", reason, words, since)) = condition(object, "Failed") {
            let hint = match reason {
                "BackoffLimitExceeded" => {
                    "its pods failed too often: see to their cause; a finished Job is not tried again, so change its name or delete it"
                }
                "DeadlineExceeded" => "it ran longer than activeDeadlineSeconds: raise that, or make it faster",
                _ => "a finished Job is not tried again: change its name or delete it",
            };
            all.push(Found {
                rank: Rank::Says,
                code: "JobFailed",
                message: format!("the Job failed ({reason}){}", tail(words)),
                hint: hint.into(),
                since,
            });
        }
        if let Some(("True", _, words, since)) = condition(object, "Suspended") {
            all.push(Found {
                rank: Rank::CannotStart,
                code: "Suspended",
                message: format!("the Job is suspended{}", tail(words)),
                hint: "take spec.suspend out of Git".into(),
                since,
            });
        }
    }
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    if matches!((group, kind), ("apps", _))
        && let Some(want) = number("/metadata/generation")
        && number("/status/observedGeneration").unwrap_or(0) < want
    {
        all.push(Found {
            rank: Rank::Time,
            code: "NotObserved",
            message: "its controller has not looked at its newest version yet".into(),
            hint: "if it stays so, look whether kube-controller-manager is running".into(),
            since: None,
        });
    }
    all
}

/// A pod (or Job) that the API server did not let be made.
pub(super) fn refused(words: &str) -> Found {
    let found = |code, what: String, hint: String| Found {
        rank: Rank::Refused,
        code,
        message: format!("{what}: {words}"),
        hint,
        since: None,
    };
    match refusal::read(words) {
        Refusal::Quota(name) => found(
            "QuotaExceeded",
            format!("no pod can be made: quota {name} of the namespace is used up"),
            format!("raise the ResourceQuota {name}, lower what the pods ask for, or remove others"),
        ),
        Refusal::QuotaNeeds(name, needs) => found(
            "QuotaNeedsLimits",
            format!("no pod can be made: quota {name} counts what the pods do not say"),
            format!("set {needs} in the pod template, or a LimitRange with defaults"),
        ),
        Refusal::PodSecurity(level) => found(
            "PodSecurity",
            format!("no pod can be made: it breaks the Pod Security level {level} of the namespace"),
            "set in the pod template what the words name, or label the namespace with another level".into(),
        ),
        Refusal::Webhook(name) => found(
            "WebhookDenied",
            format!("no pod can be made: admission webhook {name} refuses it"),
            "change the pod template as the webhook demands, or its policy".into(),
        ),
        Refusal::WebhookDown(name) => found(
            "WebhookDown",
            format!("no pod can be made: admission webhook {name} cannot be asked"),
            "get its pods running; its failurePolicy decides what happens meanwhile".into(),
        ),
        Refusal::Policy(name) => found(
            "PolicyDenied",
            format!("no pod can be made: the ValidatingAdmissionPolicy {name} refuses it"),
            "change the pod template as the policy demands, or the policy".into(),
        ),
        Refusal::LimitRange => found(
            "LimitRange",
            "no pod can be made: a LimitRange of the namespace refuses it".into(),
            "set resources within the range, or change the LimitRange".into(),
        ),
        Refusal::NoServiceAccount(name) => found(
            "ServiceAccountMissing",
            format!("no pod can be made: the service account {name} is not there"),
            "declare the ServiceAccount in Git, or correct serviceAccountName".into(),
        ),
        Refusal::NoPriorityClass(name) => found(
            "PriorityClassMissing",
            format!("no pod can be made: the PriorityClass {name} is not there"),
            "declare it in Git, or correct priorityClassName".into(),
        ),
        _ => found(
            "PodRefused",
            "no pod can be made: the API server refuses it".into(),
            "correct the pod template as the words say".into(),
        ),
    }
}

/// The children worth a look: the newest first, at most `NEWEST`, and those that are meant to have pods before others.
#[derive(Debug, Default)]
pub struct Newest {
    kept: Vec<(bool, u64, String, Value)>,
}

/// Children looked at: of a Deployment the new and the old version, of a CronJob its last Job.
const NEWEST: usize = 2;

impl Newest {
    /// One more child; kept while it is among the newest.
    pub fn take(&mut self, child: Value) {
        let number = |pointer: &str| child.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let job = text(&child, "/kind") == Some("Job");
        let wanted = job || number("/spec/replicas") > 0 || number("/status/replicas") > 0;
        let revision = text(&child, "/metadata/annotations/deployment.kubernetes.io~1revision");
        let revision = revision.and_then(|r| r.parse().ok()).unwrap_or(0);
        let made = text(&child, "/metadata/creationTimestamp").unwrap_or_default().to_owned();
        self.kept.push((wanted, revision, made, child));
        self.kept.sort_by(|a, b| (b.0, b.1, &b.2).cmp(&(a.0, a.1, &a.2)));
        self.kept.truncate(NEWEST);
    }

    /// The newest first. One without pods is looked at only when no other has any.
    #[must_use]
    pub fn into_vec(self) -> Vec<Value> {
        let jobs = self.kept.iter().any(|k| text(&k.3, "/kind") == Some("Job"));
        let any = self.kept.iter().any(|k| k.0);
        let most = if jobs { 1 } else { NEWEST };
        self.kept.into_iter().filter(|k| k.0 || !any).take(most).map(|k| k.3).collect()
    }
}
