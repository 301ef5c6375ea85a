//! Why an object of the bundle is not healthy: from the object down to its pods.

use serde::{Deserialize, Serialize};

use super::halve;
use crate::object::ObjectKey;

/// Objects in one question.
pub const WHY_OBJECTS: usize = 8;

/// Why these are not healthy. Only objects of the cluster's bundle or inventory are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhyQuestion {
    /// Which; at most [`WHY_OBJECTS`].
    pub objects: Vec<ObjectKey>,
}

/// What was found, per object asked about, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhyAnswer {
    /// One for each.
    pub objects: Vec<WhyObject>,
}

/// What was found about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WhyObject {
    /// Which.
    pub key: Option<ObjectKey>,
    /// It could not be looked at, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How it stands, in a line.
    pub state: String,
    /// Whether that is as it should be.
    pub healthy: bool,
    /// Causes, the one to see to first in front.
    pub causes: Vec<Cause>,
    /// The last relevant Events of it and of what it made, newest first.
    pub events: Vec<Happened>,
    /// Pods looked at.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub pods: u64,
    /// Pods of them that are ready, or done.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub pods_well: u64,
    /// Pods beyond those looked at.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub pods_more: u64,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// Stable code, such as `ImageNotFound`.
    pub code: String,
    /// The object it was seen at: a pod, a ReplicaSet, a claim.
    pub at: ObjectKey,
    /// What happened, in plain words.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Since when, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Objects it was seen at.
    pub count: u32,
}

/// Every [`Cause::code`], with what it means.
pub const CAUSES: &[(&str, &str)] = &[
    ("ClaimLost", "A PersistentVolumeClaim lost its volume."),
    ("ClaimMissing", "A pod mounts a claim that is not there."),
    ("ClaimNotBound", "A pod has no node because a claim it mounts has no volume."),
    ("ClaimPending", "A claim waits for a volume: no class, no provisioner, or the provisioner fails."),
    ("ClaimWaits", "A claim is bound once a pod that mounts it has a node."),
    ("CommandNotFound", "A container's command is not in its image."),
    ("ConfigMissing", "A container needs a ConfigMap, Secret or key that is not there."),
    ("ConfigUnusable", "A container's configuration cannot be used."),
    ("ContainerNotStarted", "The container runtime of the node refuses a container."),
    ("CrashLoop", "A container exits: with exit code and last words."),
    ("ImageForbidden", "The registry does not let this cluster have an image."),
    ("ImageNameInvalid", "An image's name is none."),
    ("ImageNotFound", "There is no such image or tag."),
    ("ImageNotPresent", "imagePullPolicy is Never, and the node does not have the image."),
    ("ImagePullFailed", "An image cannot be pulled, and the node does not say more."),
    ("ImageWrongPlatform", "An image does not exist for the nodes' architecture."),
    ("JobFailed", "A Job failed; a finished Job is not tried again."),
    ("LimitRange", "A LimitRange lets no pod be made."),
    ("LivenessFails", "A liveness probe fails, so the container is restarted."),
    ("NoNodes", "The cluster has no nodes that take pods."),
    ("NoProgress", "A Deployment made no progress within its deadline."),
    ("NoRoom", "No node has the cpu, memory or other resource that a pod asks for."),
    ("NodeLost", "The node of a pod does not answer any more."),
    ("NodeSelectorUnmatched", "No node fits a pod's nodeSelector or affinity."),
    ("NotHealthy", "The object says so itself, and nothing below it says why."),
    ("NotObserved", "The controller has not looked at the newest version yet."),
    ("NotReady", "A container runs and is not ready, and no Event says why."),
    ("NotScheduledYet", "The scheduler has not looked at a pod yet."),
    ("OutOfMemory", "A container was killed for want of memory."),
    ("Paused", "The rollout of a Deployment is paused."),
    ("PodFailed", "A pod failed: evicted, or out of time."),
    ("PodRefused", "The API server lets no pod be made, for another reason than those that have a code."),
    ("PodSecurity", "Pods break the Pod Security level of their namespace."),
    ("PolicyDenied", "A ValidatingAdmissionPolicy lets no pod be made."),
    ("PriorityClassMissing", "The PriorityClass of pods is not there."),
    ("QuotaExceeded", "A quota of the namespace is used up."),
    ("QuotaNeedsLimits", "A quota counts requests or limits that the pods do not set."),
    ("ReadinessFails", "A readiness probe fails."),
    ("ReadinessGate", "A readiness gate of a pod is not open."),
    ("RegistryLimit", "The registry limits how often this cluster may pull."),
    ("RegistryUnreachable", "The registry cannot be reached from the node."),
    ("RunsAsRoot", "A container would run as root, and may not."),
    ("SandboxFailed", "The node cannot set a pod up: network or container runtime."),
    ("SchedulingGated", "A pod is not to be scheduled yet."),
    ("ServiceAccountMissing", "The service account of pods is not there."),
    ("StartupFails", "A startup probe fails."),
    ("Starting", "Containers are being made; it may only need time."),
    ("Suspended", "A Job is suspended."),
    ("TaintNotTolerated", "Nodes have a taint that a pod does not tolerate."),
    ("Terminating", "A pod is being deleted."),
    ("TooManyPods", "Nodes have as many pods as they may."),
    ("Unschedulable", "No node takes a pod, for another reason than those that have a code."),
    ("VolumeNotMounted", "A volume of a pod cannot be mounted."),
    ("WebhookDenied", "An admission webhook lets no pod be made."),
    ("WebhookDown", "An admission webhook cannot be asked, so no pod is made."),
];

/// An Event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Happened {
    /// When last, Unix milliseconds; 0: not known.
    pub at: u64,
    /// Of which object.
    pub object: ObjectKey,
    /// Its reason.
    pub reason: String,
    /// Its words.
    pub message: String,
    /// How often.
    pub count: u32,
}

impl WhyAnswer {
    pub(super) fn cut(&mut self, most: usize) -> usize {
        let longest = self.objects.iter().map(|o| o.events.len().max(o.causes.len())).max().unwrap_or(0);
        let most = most.min(longest);
        for object in &mut self.objects {
            object.events.truncate(most / 2);
            object.causes.truncate((most / 2).max(1));
        }
        if most <= 1 { halve(&mut self.objects, usize::MAX) } else { most / 2 }
    }
}
