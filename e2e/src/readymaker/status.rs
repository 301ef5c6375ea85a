//! What a pod's status must say for a given fate, as a merge patch.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Fate;

/// The patch that gives a pod its fate; `None` when it has it, is going away, or has ended for good.
pub(super) fn change(pod: &Pod, fate: Fate) -> Option<Value> {
    if pod.metadata.deletion_timestamp.is_some() || is(pod, fate) || has_ended(pod) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let now = jiff::Timestamp::now().to_string();
    let ready = fate == Fate::Ready;
    let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
    let container = |container: &Container, state: Value, ready: bool, restarts: u32| {
        let image = container.image.clone().unwrap_or_default();
        json!({"name": container.name, "image": image, "imageID": "", "ready": ready, "started": ready,
            "restartCount": restarts, "state": state})
    };
    let ended = |code: i32| {
        let reason = if code == 0 { "Completed" } else { "Error" };
        json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}})
    };
    let state = match fate {
        Fate::Ready | Fate::NeverReady => json!({"running": {"startedAt": now}}),
        Fate::Succeeds => ended(0),
        Fate::Fails => ended(1),
        Fate::CrashLoop | Fate::BadImage => {
            json!({"waiting": {"reason": waiting_reason(fate), "message": "as the test wants it"}})
        }
    };
    let restarts = if fate == Fate::CrashLoop { 5 } else { 0 };
    let containers: Vec<Value> = spec.containers.iter().map(|c| container(c, state.clone(), ready, restarts)).collect();
    let before: Vec<Value> = spec.init_containers.iter().flatten().map(|c| container(c, ended(0), true, 0)).collect();
    Some(json!({
        // A precondition: a new pod under an old name must not get the old one's status.
        "metadata": {"uid": pod.uid()},
        "status": {
            "phase": phase(fate),
            "startTime": now,
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", true),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "initContainerStatuses": before,
            "containerStatuses": containers,
        },
    }))
}

/// The status of a node that is well.
pub(super) fn of_a_node() -> Value {
    let now = jiff::Timestamp::now().to_string();
    let size = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
    json!({"status": {"capacity": size, "allocatable": size, "conditions": [
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
         "lastHeartbeatTime": now, "lastTransitionTime": now}]}})
}

fn phase(fate: Fate) -> &'static str {
    match fate {
        Fate::Ready | Fate::NeverReady | Fate::CrashLoop => "Running",
        Fate::BadImage => "Pending",
        Fate::Succeeds => "Succeeded",
        Fate::Fails => "Failed",
    }
}

fn waiting_reason(fate: Fate) -> Option<&'static str> {
    match fate {
        Fate::CrashLoop => Some("CrashLoopBackOff"),
        Fate::BadImage => Some("ImagePullBackOff"),
        Fate::Ready | Fate::NeverReady | Fate::Succeeds | Fate::Fails => None,
    }
}

/// Whether the pod's status says this fate already.
fn is(pod: &Pod, fate: Fate) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    status.phase.as_deref() == Some(phase(fate))
        && ready.is_some_and(|condition| (condition.status == "True") == (fate == Fate::Ready))
        && waiting == waiting_reason(fate)
}

/// Succeeded and Failed are for ever.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FATES: [Fate; 6] =
        [Fate::Ready, Fate::NeverReady, Fate::CrashLoop, Fate::BadImage, Fate::Succeeds, Fate::Fails];

    fn pod() -> Value {
        json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": {
            "containers": [{"name": "main", "image": "nginx:1"}], "initContainers": [{"name": "first"}]}})
    }

    fn patched(mut pod: Value, fate: Fate) -> Option<Value> {
        let patch = change(&serde_json::from_value(pod.clone()).unwrap(), fate)?;
        pod["status"] = patch["status"].clone();
        Some(pod)
    }

    #[test]
    fn a_patched_pod_needs_no_second_patch() {
        for fate in FATES {
            let once = patched(pod(), fate).unwrap();
            assert_eq!(patched(once, fate), None, "{fate:?}");
        }
    }

    #[test]
    fn fates_change_until_the_pod_has_ended() {
        for before in FATES {
            for after in FATES.into_iter().filter(|after| *after != before) {
                let changes = patched(patched(pod(), before).unwrap(), after).is_some();
                let final_fate = matches!(before, Fate::Succeeds | Fate::Fails);
                assert_eq!(changes, !final_fate, "{before:?} to {after:?}");
            }
        }
    }

    #[test]
    fn a_pod_that_goes_away_is_left_alone() {
        let mut going = pod();
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(patched(going, Fate::Ready), None);
    }
}
