//! Deployment, StatefulSet, DaemonSet, ReplicaSet, Pod.

use serde_json::Value;

use super::{Object, Verdict, because, generic};

pub(super) fn deployment(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.unseen() {
        return wait;
    }
    if let Some((_, "ProgressDeadlineExceeded", message)) = o.condition("Progressing") {
        return Verdict::failed(because("ProgressDeadlineExceeded", message));
    }
    if let Some(("True", reason, message)) = o.condition("ReplicaFailure") {
        return Verdict::in_progress(because(reason, message));
    }
    let want = o.int("/spec/replicas").unwrap_or(1);
    let count = |field: &str| o.int(&format!("/status/{field}")).unwrap_or(0);
    let (all, updated, ready, available) =
        (count("replicas"), count("updatedReplicas"), count("readyReplicas"), count("availableReplicas"));
    if updated < want {
        return Verdict::in_progress(format!("{updated} of {want} replicas are of the new version"));
    }
    if all > updated {
        return Verdict::in_progress(format!("{} old replicas are still to go", all - updated));
    }
    if available < updated {
        return Verdict::in_progress(format!("{available} of {updated} replicas are available"));
    }
    if ready < want {
        return Verdict::in_progress(format!("{ready} of {want} replicas are ready"));
    }
    match o.condition("Available") {
        Some(("True", ..)) | None if want == 0 => Verdict::current(),
        Some(("True", ..)) => Verdict::current(),
        Some((_, reason, message)) => Verdict::in_progress(because(reason, message)),
        None => Verdict::in_progress("its controller has not said yet whether it is available"),
    }
}

pub(super) fn stateful_set(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.unseen() {
        return wait;
    }
    // Pods change only when somebody deletes them: nothing to wait for.
    if o.text("/spec/updateStrategy/type") == Some("OnDelete") {
        return Verdict::current();
    }
    let want = o.int("/spec/replicas").unwrap_or(1);
    let count = |field: &str| o.int(&format!("/status/{field}")).unwrap_or(0);
    let (all, ready, updated) = (count("replicas"), count("readyReplicas"), count("updatedReplicas"));
    if all < want {
        return Verdict::in_progress(format!("{all} of {want} replicas exist"));
    }
    if ready < want {
        return Verdict::in_progress(format!("{ready} of {want} replicas are ready"));
    }
    if all > want {
        return Verdict::in_progress(format!("{} replicas are still to go", all - want));
    }
    if let Some(partition) = o.int("/spec/updateStrategy/rollingUpdate/partition").filter(|p| *p > 0) {
        let target = (want - partition).max(0);
        if updated < target {
            return Verdict::in_progress(format!("{updated} of {target} replicas beyond the partition are updated"));
        }
        return Verdict::current();
    }
    if o.text("/status/currentRevision") != o.text("/status/updateRevision") {
        return Verdict::in_progress(format!("{updated} of {want} replicas are of the new version"));
    }
    Verdict::current()
}

pub(super) fn daemon_set(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.unseen() {
        return wait;
    }
    let Some(want) = o.int("/status/desiredNumberScheduled") else {
        return Verdict::in_progress("its controller has not counted its nodes yet");
    };
    let count = |field: &str| o.int(&format!("/status/{field}")).unwrap_or(0);
    for (have, what) in [
        (count("currentNumberScheduled"), "have its pod"),
        (count("updatedNumberScheduled"), "have the new version"),
        (count("numberAvailable"), "have it available"),
        (count("numberReady"), "have it ready"),
    ] {
        let updates = o.text("/spec/updateStrategy/type") != Some("OnDelete");
        if have < want && (updates || what != "have the new version") {
            return Verdict::in_progress(format!("{have} of {want} nodes {what}"));
        }
    }
    Verdict::current()
}

pub(super) fn replica_set(o: Object<'_>) -> Verdict {
    if let Some(wait) = o.unseen() {
        return wait;
    }
    if let Some(("True", reason, message)) = o.condition("ReplicaFailure") {
        return Verdict::in_progress(because(reason, message));
    }
    let want = o.int("/spec/replicas").unwrap_or(1);
    let count = |field: &str| o.int(&format!("/status/{field}")).unwrap_or(0);
    for (field, what) in [("replicas", "exist"), ("availableReplicas", "are available"), ("readyReplicas", "are ready")]
    {
        if count(field) < want {
            return Verdict::in_progress(format!("{} of {want} replicas {what}", count(field)));
        }
    }
    if count("replicas") > want {
        return Verdict::in_progress(format!("{} replicas are still to go", count("replicas") - want));
    }
    Verdict::current()
}

pub(super) fn pod(o: Object<'_>) -> Verdict {
    match o.text("/status/phase") {
        Some("Succeeded") => Verdict::current(),
        Some("Failed") => {
            let (reason, message) = (o.text("/status/reason"), o.text("/status/message"));
            let why = because(reason.unwrap_or("the pod failed"), message.unwrap_or_default());
            Verdict::failed(why)
        }
        phase => {
            if let Some(("True", ..)) = o.condition("Ready") {
                return Verdict::current();
            }
            let statuses = o.0.pointer("/status/containerStatuses").and_then(Value::as_array);
            for status in statuses.into_iter().flatten() {
                let name = status.get("name").and_then(Value::as_str).unwrap_or_default();
                let waiting = status.pointer("/state/waiting");
                let reason = waiting.and_then(|w| w.get("reason")).and_then(Value::as_str).unwrap_or_default();
                let message = waiting.and_then(|w| w.get("message")).and_then(Value::as_str).unwrap_or_default();
                match reason {
                    "CrashLoopBackOff" => {
                        return Verdict::failed(format!("container {name}: {}", because(reason, message)));
                    }
                    "" => {}
                    _ => return Verdict::in_progress(format!("container {name}: {}", because(reason, message))),
                }
            }
            if let Some(("False", reason, message)) = o.condition("PodScheduled") {
                return Verdict::in_progress(because(reason, message));
            }
            match generic::stale(o) {
                Some(wait) => wait,
                None => Verdict::in_progress(format!("the pod is {}", phase.unwrap_or("not started yet"))),
            }
        }
    }
}
