//! What Events add: what happened to pods and their makers, in the words of those who tried.

use driftless_protocol::ask::{Happened, cut_text};
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::{Found, Rank, containers, controllers, text, when};
use crate::input::Millis;

/// An Event this old says nothing about now: what fails is tried again, and said again, more often.
const STALE: Millis = 30 * 60 * 1000;

/// An Event, of either API group.
pub(super) fn read(about: &ObjectKey, event: &Value) -> Option<Happened> {
    let reason = text(event, "/reason")?;
    let message = text(event, "/message").or_else(|| text(event, "/note")).unwrap_or_default();
    let times = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ];
    let at = times.iter().find_map(|pointer| when(event, pointer)).unwrap_or(0);
    let counts = ["/series/count", "/count", "/deprecatedCount"];
    let count = counts.iter().find_map(|pointer| event.pointer(pointer)?.as_u64()).unwrap_or(1);
    let mut message = message.to_owned();
    cut_text(&mut message);
    Some(Happened {
        at,
        object: about.clone(),
        reason: reason.to_owned(),
        message,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    })
}

/// A better explanation of what was found at a pod or claim.
pub(super) fn of_pod(found: &Found, event: &Happened) -> Option<Found> {
    let words = event.message.as_str();
    let weak = found.rank >= Rank::NotReady;
    let since = found.since;
    match event.reason.as_str() {
        "Failed" if found.code == "ImagePullFailed" && words.starts_with("Failed to pull image") => {
            let image = words.split('"').nth(1).unwrap_or_default();
            let container = found.message.split(" cannot be pulled").next()?.rsplit(' ').next().unwrap_or_default();
            let better = containers::pull("container", container, image, "ErrImagePull", words);
            (better.code != "ImagePullFailed").then_some(Found { since, ..better })
        }
        "Unhealthy" if weak || (found.rank == Rank::Crashes && words.starts_with("Liveness")) => {
            let (code, hint) = match words.split_whitespace().next() {
                Some("Liveness") => (
                    "LivenessFails",
                    "it is restarted each time: correct the livenessProbe, give it more time, or mend the service",
                ),
                Some("Startup") => (
                    "StartupFails",
                    "give it more time (failureThreshold, periodSeconds), or look why it starts slowly",
                ),
                _ => {
                    ("ReadinessFails", "look why the service does not answer the probe, or correct the readinessProbe")
                }
            };
            let rank = if code == "LivenessFails" { Rank::Crashes } else { Rank::NotReady };
            Some(Found { rank, code, message: words.to_owned(), hint: hint.into(), since })
        }
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" if weak => Some(Found {
            rank: Rank::NoVolume,
            code: "VolumeNotMounted",
            message: format!("a volume of the pod cannot be mounted: {words}"),
            hint: "declare what is missing in Git, or correct the volume".into(),
            since,
        }),
        "FailedCreatePodSandBox" | "NetworkNotReady" | "FailedCreatePodSandbox" if weak => Some(Found {
            rank: Rank::CannotStart,
            code: "SandboxFailed",
            message: format!("the node cannot set the pod up: {words}"),
            hint: "look at the network plugin and the container runtime of its node".into(),
            since,
        }),
        "FailedScheduling" if found.code == "NotScheduledYet" => Some(Found {
            rank: Rank::NoPlace,
            code: "Unschedulable",
            message: format!("no node takes the pod: {words}"),
            hint: "the scheduler's words say for each node why not".into(),
            since,
        }),
        "ProvisioningFailed" | "FailedBinding" if found.code == "ClaimPending" => {
            Some(Found { message: format!("{}: {words}", found.message), ..found.clone() })
        }
        "WaitForFirstConsumer" if found.code == "ClaimPending" && !found.message.contains(": ") => Some(Found {
            rank: Rank::Time,
            code: "ClaimWaits",
            message: format!("{}: it is bound once a pod that mounts it has a node", found.message),
            hint: "see to the pod that mounts it".into(),
            since,
        }),
        _ => None,
    }
}

/// Why a workload has no pods.
pub(super) fn of_controller(event: &Happened, now: Millis) -> Option<Found> {
    let fresh = event.at == 0 || now.saturating_sub(event.at) < STALE;
    let words = event.message.as_str();
    match event.reason.as_str() {
        "FailedCreate" if fresh => {
            let words = words.split_once("Error creating: ").map_or(words, |(_, rest)| rest);
            // A StatefulSet says more before it: `create Pod db-0 in StatefulSet db failed error: ...`
            let words = words.split_once("failed error: ").map_or(words, |(_, rest)| rest);
            Some(Found { since: (event.at > 0).then_some(event.at), ..controllers::refused(words) })
        }
        _ => None,
    }
}
