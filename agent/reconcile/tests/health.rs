//! Health, one row per rule: kind, what the object says, the verdict.

use driftless_reconcile::health::{Health, judge};
use serde_json::{Value, json};

#[test]
fn verdicts() {
    use Health::{Current, Failed, InProgress, Terminating};
    let ok = |status: &str| json!([{"type": "Available", "status": status, "reason": "R", "message": "m"}]);
    let ready = |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status, "reason": "R", "message": "m"}]});
    let deployed = |updated: i64, all: i64, available: i64| {
        json!({"observedGeneration": 2, "replicas": all, "updatedReplicas": updated,
        "readyReplicas": available, "availableReplicas": available, "conditions": ok("True")})
    };
    let rows: Vec<(&str, &str, Value, Value, Health, &str)> = vec![
        ("apps/v1", "Deployment", json!({"replicas": 2}), json!({}), InProgress, "has not looked"),
        (
            "apps/v1",
            "Deployment",
            json!({"replicas": 2}),
            json!({"observedGeneration": 1}),
            InProgress,
            "generation 1 of 2",
        ),
        ("apps/v1", "Deployment", json!({"replicas": 2}), deployed(2, 2, 2), Current, ""),
        (
            "apps/v1",
            "Deployment",
            json!({"replicas": 2}),
            deployed(1, 2, 2),
            InProgress,
            "1 of 2 replicas are of the new",
        ),
        ("apps/v1", "Deployment", json!({"replicas": 2}), deployed(2, 3, 2), InProgress, "1 old replicas"),
        (
            "apps/v1",
            "Deployment",
            json!({"replicas": 2}),
            deployed(2, 2, 1),
            InProgress,
            "1 of 2 replicas are available",
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"replicas": 0}),
            json!({"observedGeneration": 2, "conditions": ok("True")}),
            Current,
            "",
        ),
        (
            "apps/v1",
            "Deployment",
            json!({}),
            json!({"observedGeneration": 2, "conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}]}),
            Failed,
            "ProgressDeadlineExceeded: m",
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"replicas": 2}),
            json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2,
            "currentRevision": "a", "updateRevision": "a"}),
            Current,
            "",
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"replicas": 2}),
            json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 1}),
            InProgress,
            "1 of 2 replicas are ready",
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"replicas": 2}),
            json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2,
            "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}),
            InProgress,
            "new version",
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
            json!({"observedGeneration": 2,
            "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}),
            Current,
            "",
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"updateStrategy": {"type": "OnDelete"}}),
            json!({"observedGeneration": 2}),
            Current,
            "",
        ),
        (
            "apps/v1",
            "DaemonSet",
            json!({}),
            json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
            "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2}),
            Current,
            "",
        ),
        (
            "apps/v1",
            "DaemonSet",
            json!({}),
            json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
            "updatedNumberScheduled": 1, "numberAvailable": 2, "numberReady": 2}),
            InProgress,
            "1 of 2 nodes have the new version",
        ),
        ("apps/v1", "DaemonSet", json!({}), json!({"observedGeneration": 2, "desiredNumberScheduled": 0}), Current, ""),
        (
            "apps/v1",
            "ReplicaSet",
            json!({"replicas": 1}),
            json!({"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1}),
            Current,
            "",
        ),
        (
            "v1",
            "Pod",
            json!({}),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
            Current,
            "",
        ),
        ("v1", "Pod", json!({}), json!({"phase": "Succeeded"}), Current, ""),
        ("v1", "Pod", json!({}), json!({"phase": "Failed", "reason": "Evicted", "message": "m"}), Failed, "Evicted: m"),
        (
            "v1",
            "Pod",
            json!({}),
            json!({"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "no such image"}}}]}),
            InProgress,
            "container c: ImagePullBackOff: no such image",
        ),
        (
            "v1",
            "Pod",
            json!({}),
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting":
            {"reason": "CrashLoopBackOff"}}}]}),
            Failed,
            "CrashLoopBackOff",
        ),
        ("batch/v1", "Job", json!({}), json!({}), InProgress, "not started"),
        (
            "batch/v1",
            "Job",
            json!({"completions": 3}),
            json!({"startTime": "t", "active": 1, "succeeded": 1}),
            InProgress,
            "1 of 3 pods are done",
        ),
        ("batch/v1", "Job", json!({}), ready("Complete", "True"), Current, ""),
        ("batch/v1", "Job", json!({}), ready("Failed", "True"), Failed, "R: m"),
        ("batch/v1", "CronJob", json!({}), json!({}), Current, ""),
        ("v1", "Service", json!({"type": "ClusterIP"}), json!({}), Current, ""),
        ("v1", "Service", json!({"type": "LoadBalancer"}), json!({}), InProgress, "no cluster IP"),
        ("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Bound"}), Current, ""),
        ("v1", "PersistentVolumeClaim", json!({}), json!({"phase": "Pending"}), InProgress, "Pending, not Bound"),
        ("v1", "Namespace", json!({}), json!({"phase": "Active"}), Current, ""),
        ("v1", "ConfigMap", json!({}), json!(null), Current, ""),
        (
            "policy/v1",
            "PodDisruptionBudget",
            json!({}),
            json!({"observedGeneration": 1}),
            InProgress,
            "generation 1 of 2",
        ),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), ready("Established", "True"), Current, ""),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), json!({}), InProgress, "not established"),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({}),
            json!({"conditions": [{"type": "NamesAccepted",
            "status": "False", "reason": "NameConflict", "message": "m"}]}),
            Failed,
            "NameConflict: m",
        ),
        ("apiregistration.k8s.io/v1", "APIService", json!({}), ready("Available", "False"), InProgress, "R: m"),
        ("acme.example/v1", "Widget", json!({}), json!({}), Current, ""),
        ("acme.example/v1", "Widget", json!({}), ready("Ready", "True"), Current, ""),
        ("acme.example/v1", "Widget", json!({}), ready("Ready", "False"), InProgress, "R: m"),
        ("acme.example/v1", "Widget", json!({}), ready("Reconciling", "True"), InProgress, "R: m"),
        ("acme.example/v1", "Widget", json!({}), ready("Stalled", "True"), Failed, "R: m"),
        ("acme.example/v1", "Widget", json!({}), json!({"observedGeneration": 1}), InProgress, "generation 1 of 2"),
        ("helm.toolkit.fluxcd.io/v2", "HelmRelease", json!({}), json!({}), InProgress, "has not looked"),
        ("helm.toolkit.fluxcd.io/v2", "HelmRelease", json!({}), ready("Ready", "True"), Current, ""),
        ("helm.toolkit.fluxcd.io/v2", "HelmRelease", json!({}), ready("Ready", "False"), InProgress, "R: m"),
        ("notification.toolkit.fluxcd.io/v1beta3", "Alert", json!({}), json!(null), Current, ""),
    ];
    for (api_version, kind, spec, status, health, says) in rows {
        let live = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status});
        let verdict = judge(&live, &[]);
        assert_eq!(verdict.health, health, "{kind} {status}: {verdict:?}");
        assert!(verdict.message.as_deref().unwrap_or_default().contains(says), "{kind} {status}: {verdict:?}");
        assert_eq!(verdict.message.is_none(), health == Current, "{kind} {status}");
        let mut dying = live;
        dying["metadata"]["deletionTimestamp"] = "2026-11-21T11:23:58Z".into();
        assert_eq!(judge(&dying, &[]).health, Terminating);
    }
}
