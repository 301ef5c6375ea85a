//! What is the matter with a pod, and with a claim it mounts.

use serde_json::Value;

use super::{Found, Rank, condition, containers, list, namespace_flag, text, when};
use driftless_protocol::object::ObjectKey;

/// `None`: it is well, or done.
pub(super) fn look(pod: &Value) -> Option<Found> {
    let phase = text(pod, "/status/phase").unwrap_or_default();
    let ready = condition(pod, "Ready");
    if phase == "Succeeded" || (matches!(ready, Some(("True", ..))) && phase != "Failed") {
        return None;
    }
    let begun = when(pod, "/metadata/creationTimestamp");
    let not_ready_since = ready.as_ref().and_then(|r| r.3).or(begun);
    let with_since = |mut found: Found| {
        found.since = found.since.or(not_ready_since);
        Some(found)
    };
    if let Some(found) = containers::look(pod) {
        return with_since(found);
    }
    if phase == "Failed" {
        let reason = text(pod, "/status/reason").unwrap_or("it failed");
        let words = text(pod, "/status/message").unwrap_or_default();
        let hint = match reason {
            "Evicted" => "the node ran out of something: set requests that match what the pod uses",
            "DeadlineExceeded" => "it ran longer than activeDeadlineSeconds: raise that, or make it faster",
            _ => "its log and Events say more",
        };
        let message = format!("the pod failed ({reason}){}", tail(words));
        return with_since(Found { rank: Rank::Crashes, code: "PodFailed", message, hint: hint.into(), since: None });
    }
    if let Some(deleted) = when(pod, "/metadata/deletionTimestamp") {
        let finalizers: Vec<&str> = list(pod, "/metadata/finalizers").filter_map(Value::as_str).collect();
        let held = if finalizers.is_empty() { String::new() } else { format!(", held by {}", finalizers.join(", ")) };
        return Some(Found {
            rank: Rank::Time,
            code: "Terminating",
            message: format!("the pod is being deleted{held}"),
            hint: "if it stays, look at its node, or at who should remove the finalizers".into(),
            since: Some(deleted),
        });
    }
    if let Some((status, reason, words, since)) = condition(pod, "PodScheduled") {
        if status == "False" {
            return Some(no_place(reason, words, since.or(begun)));
        }
    } else if text(pod, "/spec/nodeName").is_none() {
        return with_since(Found {
            rank: Rank::Time,
            code: "NotScheduledYet",
            message: "the scheduler has not looked at the pod yet".into(),
            hint: "if it stays so, look whether kube-scheduler (or the pod's own schedulerName) is running".into(),
            since: None,
        });
    }
    if let Some(("Unknown", reason, words, since)) = ready {
        return Some(Found {
            rank: Rank::NotReady,
            code: "NodeLost",
            message: format!("its node does not answer any more ({reason}){}", tail(words)),
            hint: "look at the node; once it is deleted, the pod is made elsewhere".into(),
            since,
        });
    }
    let running = list(pod, "/status/containerStatuses").any(|c| c.pointer("/state/running").is_some());
    if !running {
        return with_since(Found {
            rank: Rank::Time,
            code: "Starting",
            message: "its containers are being made".into(),
            hint: "if it stays so, its Events say what the node waits for".into(),
            since: None,
        });
    }
    let (reason, words) = ready.map_or(("", ""), |r| (r.1, r.2));
    if reason == "ReadinessGatesNotReady" {
        return with_since(Found {
            rank: Rank::NotReady,
            code: "ReadinessGate",
            message: format!("a readiness gate is not open{}", tail(words)),
            hint: "look at the controller that sets that condition".into(),
            since: None,
        });
    }
    let idle: Vec<&str> = list(pod, "/status/containerStatuses")
        .filter(|c| c.get("ready").and_then(Value::as_bool) == Some(false))
        .filter_map(|c| text(c, "/name"))
        .collect();
    let which = if idle.is_empty() { String::new() } else { format!(" ({})", idle.join(", ")) };
    let key = ObjectKey::of(pod)?;
    with_since(Found {
        rank: Rank::NotReady,
        code: "NotReady",
        message: format!("it runs, and its containers are not ready{which}"),
        hint: format!("look at its readiness probe and its log: kubectl {}logs {}", namespace_flag(&key), key.name),
        since: None,
    })
}

fn no_place(reason: &str, words: &str, since: Option<u64>) -> Found {
    if reason == "SchedulingGated" {
        return Found {
            rank: Rank::NoPlace,
            code: "SchedulingGated",
            message: format!("the pod is not to be scheduled yet{}", tail(words)),
            hint: "look at whoever removes spec.schedulingGates".into(),
            since,
        };
    }
    let has = |word: &str| words.contains(word);
    let table: [(&str, bool, &str); 6] = [
        ("ClaimNotBound", has("PersistentVolumeClaim") || has("persistentvolumeclaim"), "see to the claim it mounts"),
        ("NoRoom", has("Insufficient "), "lower the pod's requests, or add nodes"),
        (
            "NodeSelectorUnmatched",
            has("node affinity") || has("node selector") || has("node(s) didn't match"),
            "correct nodeSelector or affinity, or label nodes",
        ),
        ("TaintNotTolerated", has("untolerated taint"), "add a toleration, or take the taint away"),
        ("TooManyPods", has("Too many pods"), "add nodes"),
        ("NoNodes", has("no nodes available"), "the cluster has no nodes that take pods: add some"),
    ];
    let (code, _, hint) = table.into_iter().find(|row| row.1).unwrap_or((
        "Unschedulable",
        true,
        "the scheduler's words say for each node why not",
    ));
    let message = format!("no node takes the pod{}", tail(words));
    Found { rank: Rank::NoPlace, code, message, hint: hint.into(), since }
}

/// Claims a pod mounts.
pub(super) fn claims(pod: &Value) -> Vec<String> {
    let direct =
        list(pod, "/spec/volumes").filter_map(|v| text(v, "/persistentVolumeClaim/claimName").map(str::to_owned));
    let name = text(pod, "/metadata/name").unwrap_or_default();
    let own = list(pod, "/spec/volumes")
        .filter(|v| v.get("ephemeral").is_some())
        .filter_map(|v| Some(format!("{name}-{}", text(v, "/name")?)));
    direct.chain(own).collect()
}

/// A claim that is not bound.
pub(super) fn claim(claim: &Value) -> Option<Found> {
    let name = text(claim, "/metadata/name").unwrap_or_default();
    let since = when(claim, "/metadata/creationTimestamp");
    match text(claim, "/status/phase") {
        Some("Bound") => None,
        Some("Lost") => Some(Found {
            rank: Rank::NoVolume,
            code: "ClaimLost",
            message: format!("claim {name} lost its volume"),
            hint: "the PersistentVolume is gone: restore it, or make the claim anew".into(),
            since,
        }),
        _ => {
            let class = text(claim, "/spec/storageClassName");
            let (message, hint) = match class {
                Some(class) => (
                    format!("claim {name} waits for a volume of storage class {class}"),
                    "look at its Events, and at the provisioner of that class",
                ),
                None => (
                    format!("claim {name} waits for a volume, and names no storage class"),
                    "name a storage class, make one the default, or make a PersistentVolume that fits",
                ),
            };
            Some(Found { rank: Rank::NoVolume, code: "ClaimPending", message, hint: hint.into(), since })
        }
    }
}

pub(super) fn tail(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}
