//! From objects as clusters write them to causes, one row per cause.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

use driftless_protocol::ask::{CAUSES, WhyObject};
use driftless_reconcile::time;
use driftless_reconcile::why::{Inquiry, Newest, children, is_owned_by};
use serde_json::{Value, json};

const NOW: &str = "2026-03-01T10:00:00Z";

fn deployment(status: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "d-1", "generation": 2},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": status
    })
}

/// Two replicas wanted, none ready, and its controller has nothing else to say.
fn waiting() -> Value {
    deployment(
        json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "unavailableReplicas": 2, "conditions": [
        {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
         "message": "Deployment does not have minimum availability.", "lastTransitionTime": "2026-03-01T09:50:00Z"}]}),
    )
}

fn pod(name: &str, status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-03-01T09:50:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r-1", "controller": true}]},
        "spec": {"nodeName": "node-0", "containers": [{"name": "web", "image": "registry.acme.example/web:9"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
        "status": status
    })
}

/// A container status as a kubelet writes it.
fn container(state: Value, last: Value, restarts: u64) -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T09:50:01Z"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady",
             "message": "containers with unready status: [web]", "lastTransitionTime": "2026-03-01T09:51:00Z"}],
        "containerStatuses": [{"name": "web", "image": "registry.acme.example/web:9", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last}]
    })
}

fn pull(reason: &str, message: &str) -> Value {
    container(json!({"waiting": {"reason": reason, "message": message}}), json!({}), 0)
}

fn crash(last: Value) -> Value {
    let message = "back-off 2m40s restarting failed container=web pod=web-1-a_shop(uid)";
    container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}), json!({"terminated": last}), 5)
}

fn unplaced(message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": message, "lastTransitionTime": "2026-03-01T09:52:00Z"}]})
}

fn event(reason: &str, message: &str, at: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "reason": reason, "message": message, "count": 12, "lastTimestamp": at,
        "type": "Warning"})
}

/// Asks about a root with these pods; each pod's Events stand beside it.
fn ask(root: &Value, controllers: &[Value], pods: &[Value], events: &[(&str, Value)], claims: &[Value]) -> WhyObject {
    let mut inquiry = Inquiry::of(root, time::parse(NOW).unwrap()).unwrap();
    controllers.iter().for_each(|c| inquiry.controller(c));
    pods.iter().for_each(|p| inquiry.pod(p));
    claims.iter().for_each(|c| inquiry.claim(c));
    for closer in inquiry.closer() {
        for (name, event) in events.iter().filter(|(name, _)| *name == closer.key.name) {
            assert!(closer.uid.is_some(), "{name}");
            inquiry.event(&closer.key, event);
        }
    }
    let answer = inquiry.finish();
    for cause in &answer.causes {
        assert!(CAUSES.iter().any(|(code, _)| *code == cause.code), "{} is in no list of codes", cause.code);
    }
    answer
}

/// Name, pod, Events by the name of their pod, the expected code, words the answer must have.
type Row<'a> = (&'a str, Value, Vec<(&'a str, Value)>, &'a str, &'a [&'a str]);

#[test]
fn a_pod_that_is_not_well_says_why() {
    let exit = |code: i64, reason: &str, message: &str| {
        let mut ended = json!({"exitCode": code, "reason": reason, "finishedAt": "2026-03-01T09:58:00Z"});
        if !message.is_empty() {
            ended["message"] = message.into();
        }
        ended
    };
    let not_found = "failed to pull and unpack image \"registry.acme.example/web:9\": failed to resolve reference \
                     \"registry.acme.example/web:9\": registry.acme.example/web:9: not found";
    let running = || container(json!({"running": {"startedAt": "2026-03-01T09:51:00Z"}}), json!({}), 0);
    let creating = || container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0);
    let at = "2026-03-01T09:59:00Z";
    let none = Vec::new;
    let rows: Vec<Row<'_>> = vec![
        (
            "no such tag",
            pull("ErrImagePull", not_found),
            none(),
            "ImageNotFound",
            &["registry.acme.example/web:9", "no such image or tag"],
        ),
        (
            "the back-off hides the reason, an Event has it",
            pull("ImagePullBackOff", "Back-off pulling image \"registry.acme.example/web:9\""),
            vec![(
                "web-1-a",
                event("Failed", &format!("Failed to pull image \"registry.acme.example/web:9\": {not_found}"), at),
            )],
            "ImageNotFound",
            &["container web", "no such image or tag"],
        ),
        (
            "no credentials",
            pull(
                "ErrImagePull",
                "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            ),
            none(),
            "ImageForbidden",
            &["imagePullSecrets"],
        ),
        (
            "no registry",
            pull(
                "ErrImagePull",
                "failed to do request: Head \"https://registry.acme.example/v2/web/manifests/9\": dial tcp: lookup registry.acme.example: no such host",
            ),
            none(),
            "RegistryUnreachable",
            &["cannot be reached"],
        ),
        (
            "no name",
            pull("InvalidImageName", "couldn't parse image name \"Web:9\""),
            none(),
            "ImageNameInvalid",
            &["correct the image"],
        ),
        (
            "it crashes with words",
            crash(exit(1, "Error", "panic: DATABASE_URL is not set\n")),
            none(),
            "CrashLoop",
            &[
                "restarted 5 times",
                "exit code 1",
                "DATABASE_URL is not set",
                "kubectl -n shop logs web-1-a -c web --previous",
            ],
        ),
        ("it has no memory", crash(exit(137, "OOMKilled", "")), none(), "OutOfMemory", &["resources.limits.memory"]),
        ("it ends", crash(exit(0, "Completed", "")), none(), "CrashLoop", &["exit code 0", "use a Job"]),
        (
            "its liveness probe kills it",
            crash(exit(143, "Error", "")),
            vec![("web-1-a", event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 503", at))],
            "LivenessFails",
            &["statuscode: 503", "livenessProbe"],
        ),
        (
            "a Secret is missing",
            container(
                json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"db\" not found"}}),
                json!({}),
                0,
            ),
            none(),
            "ConfigMissing",
            &["secret \"db\" not found"],
        ),
        (
            "it would run as root",
            container(
                json!({"waiting": {"reason": "CreateContainerConfigError", "message": "container has runAsNonRoot and image will run as root (pod: \"x\", container: web)"}}),
                json!({}),
                0,
            ),
            none(),
            "RunsAsRoot",
            &["runAsUser"],
        ),
        (
            "no such command",
            container(
                json!({"waiting": {"reason": "RunContainerError", "message": "failed to create containerd task: exec: \"/srv/web\": stat /srv/web: no such file or directory"}}),
                json!({}),
                0,
            ),
            none(),
            "CommandNotFound",
            &["command and args"],
        ),
        (
            "nodes are full",
            unplaced(
                "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
            ),
            none(),
            "NoRoom",
            &["3 Insufficient cpu", "lower the pod's requests"],
        ),
        (
            "a taint",
            unplaced("0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: gpu}."),
            none(),
            "TaintNotTolerated",
            &["dedicated: gpu"],
        ),
        (
            "no node like that",
            unplaced("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
            none(),
            "NodeSelectorUnmatched",
            &["label nodes"],
        ),
        (
            "not ready, by its probe",
            running(),
            vec![(
                "web-1-a",
                event(
                    "Unhealthy",
                    "Readiness probe failed: Get \"http://10.0.0.7:8080/ready\": connection refused",
                    at,
                ),
            )],
            "ReadinessFails",
            &["10.0.0.7:8080/ready"],
        ),
        ("not ready, and nobody says why", running(), none(), "NotReady", &["not ready (web)"]),
        (
            "a volume is not there",
            creating(),
            vec![(
                "web-1-a",
                event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"config\" : configmap \"settings\" not found",
                    at,
                ),
            )],
            "VolumeNotMounted",
            &["configmap \"settings\" not found"],
        ),
        (
            "no network",
            creating(),
            vec![(
                "web-1-a",
                event(
                    "FailedCreatePodSandBox",
                    "Failed to create pod sandbox: plugin type=\"calico\" failed (add): no IP addresses",
                    at,
                ),
            )],
            "SandboxFailed",
            &["network plugin"],
        ),
        (
            "evicted",
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}),
            none(),
            "PodFailed",
            &["Evicted", "ephemeral-storage"],
        ),
    ];
    for (what, status, events, code, words) in rows {
        let answer = ask(&waiting(), &[], &[pod("web-1-a", status)], &events, &[]);
        let cause = answer.causes.first().unwrap_or_else(|| panic!("{what}: no cause"));
        assert_eq!(cause.code, code, "{what}: {answer:#?}");
        let text = format!("{} {}", cause.message, cause.hint);
        for word in words {
            assert!(text.contains(word), "{what}: {word:?} is not in {text:?}");
        }
        assert_eq!(cause.at.to_string(), "Pod shop/web-1-a", "{what}");
        assert!(!answer.healthy && answer.pods == 1 && answer.pods_well == 0, "{what}");
        assert_eq!(answer.events.len(), events.len(), "{what}");
    }
}

#[test]
fn no_pod_at_all_is_explained_by_who_refused_it() {
    let event_of = |words: &str| event("FailedCreate", &format!("Error creating: {words}"), "2026-03-01T09:59:00Z");
    let condition = |words: &str| {
        deployment(json!({"observedGeneration": 2, "unavailableReplicas": 2, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words,
             "lastTransitionTime": "2026-03-01T09:50:00Z"}]}))
    };
    for (words, code, said) in [
        (
            "pods \"web-1-x7k2p\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2",
            "QuotaExceeded",
            "ResourceQuota small",
        ),
        (
            "pods \"web-1-x7k2p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"web\" must set securityContext.allowPrivilegeEscalation=false)",
            "PodSecurity",
            "restricted:latest",
        ),
        ("admission webhook \"deny.acme.example\" denied the request: no labels", "WebhookDenied", "deny.acme.example"),
        (
            "Internal error occurred: failed calling webhook \"down.acme.example\": failed to call webhook: Post \"https://x\": EOF",
            "WebhookDown",
            "down.acme.example",
        ),
        (
            "pods \"web-1-x7k2p\" is forbidden: error looking up service account shop/robot: serviceaccount \"robot\" not found",
            "ServiceAccountMissing",
            "shop/robot",
        ),
        (
            "pods \"web-1-x7k2p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2",
            "LimitRange",
            "LimitRange",
        ),
    ] {
        // As a condition of a Deployment, and as an Event of a workload that has no such condition.
        let by_condition = ask(&condition(words), &[], &[], &[], &[]);
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": "shop", "uid": "s-1", "generation": 1},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}, "status": {"observedGeneration": 1}});
        let by_event = ask(&set, &[], &[], &[("web", event_of(words))], &[]);
        for (how, answer) in [("condition", by_condition), ("event", by_event)] {
            let cause = answer.causes.first().unwrap_or_else(|| panic!("{how}: {words}: no cause"));
            assert_eq!(cause.code, code, "{how}: {answer:#?}");
            assert!(format!("{} {}", cause.message, cause.hint).contains(said), "{how}: {cause:?}");
            assert!(cause.message.contains("no pod can be made"), "{how}: {cause:?}");
        }
    }
}

#[test]
fn an_old_refusal_and_one_of_a_healthy_workload_explain_nothing() {
    let words = "Error creating: pods \"web-1-x\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2";
    let old = ask(&waiting(), &[], &[], &[("web", event("FailedCreate", words, "2026-03-01T08:00:00Z"))], &[]);
    assert!(old.causes.iter().all(|c| c.code != "QuotaExceeded"), "{old:#?}");
    let well = deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]}));
    let well = ask(&well, &[], &[], &[("web", event("FailedCreate", words, "2026-03-01T09:59:59Z"))], &[]);
    assert!(well.healthy && well.causes.is_empty(), "{well:#?}");
    assert_eq!(well.events.len(), 1, "it is told all the same");
}

#[test]
fn equal_pods_are_told_once_and_the_gravest_cause_first() {
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    let mut pods: Vec<Value> = (0..40)
        .map(|n| {
            let status = pull("ErrImagePull", &format!("registry.acme.example/web:9: not found (attempt {n})"));
            pod(&format!("web-1-{n}"), status)
        })
        .collect();
    pods.push(pod("web-0-a", unplaced("0/3 nodes are available: 3 Insufficient cpu.")));
    pods.push(pod("web-0-b", ready));
    let answer = ask(&waiting(), &[], &pods, &[], &[]);
    assert_eq!((answer.pods, answer.pods_well), (42, 1));
    let told: Vec<(&str, u32)> = answer.causes.iter().map(|c| (c.code.as_str(), c.count)).collect();
    assert_eq!(told, [("ImageNotFound", 40), ("NoRoom", 1)], "{answer:#?}");
}

#[test]
fn a_claim_explains_the_pods_that_wait_for_it() {
    let pod = pod("db-0", unplaced("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."));
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "shop", "uid": "c-1", "creationTimestamp": "2026-03-01T09:40:00Z"},
        "spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}});
    let words = "storageclass.storage.k8s.io \"fast\" not found";
    let answer = ask(
        &waiting(),
        &[],
        std::slice::from_ref(&pod),
        &[("data", event("ProvisioningFailed", words, "2026-03-01T09:59:00Z"))],
        std::slice::from_ref(&claim),
    );
    assert_eq!(answer.causes.len(), 1, "{answer:#?}");
    let cause = &answer.causes[0];
    assert_eq!(
        (cause.code.as_str(), cause.at.to_string().as_str()),
        ("ClaimPending", "PersistentVolumeClaim shop/data")
    );
    assert!(cause.message.contains(words), "{cause:?}");

    let mut inquiry = Inquiry::of(&waiting(), 0).unwrap();
    inquiry.pod(&pod);
    assert_eq!(inquiry.claims_to_read(), ["data"]);
    inquiry.no_claim("data");
    assert_eq!(inquiry.finish().causes[0].code, "ClaimMissing");
}

#[test]
fn workloads_say_what_only_they_know() {
    let paused = {
        let mut paused = waiting();
        paused["spec"]["paused"] = true.into();
        paused
    };
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "namespace": "shop", "uid": "j-1"},
        "spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
            "message": "Job has reached the specified backoff limit"}]}});
    let unseen = deployment(json!({"observedGeneration": 1}));
    for (root, code, word) in [
        (paused, "Paused", "spec.paused"),
        (job, "JobFailed", "not tried again"),
        (unseen, "NotHealthy", "generation 1 of 2"),
    ] {
        let answer = ask(&root, &[], &[], &[], &[]);
        let cause = answer.causes.first().unwrap_or_else(|| panic!("{code}: no cause"));
        assert_eq!(cause.code, code, "{answer:#?}");
        assert!(format!("{} {}", cause.message, cause.hint).contains(word), "{cause:?}");
    }
}

#[test]
fn what_to_read_below_an_object() {
    let root = waiting();
    let below = children(&root).unwrap();
    assert_eq!((below.kind, below.selector.as_str()), ("ReplicaSet", "app=web"));
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"selector": {"matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["x", "y"]}, {"key": "old", "operator": "DoesNotExist"}]}}});
    assert_eq!(children(&set).unwrap().selector, "a=b,tier in (x,y),!old");
    assert_eq!(children(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), None);
    assert!(is_owned_by(&pod("web-1-a", json!({})), "r-1") && !is_owned_by(&pod("web-1-a", json!({})), "r-2"));

    // Of many ReplicaSets the newest that are meant to have pods.
    let replica_set = |revision: u32, replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": format!("web-{revision}"),
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()}}, "spec": {"replicas": replicas}})
    };
    let mut newest = Newest::default();
    for (revision, replicas) in [(9, 1), (10, 0), (11, 2), (2, 0)] {
        newest.take(replica_set(revision, replicas));
    }
    let names: Vec<Value> = newest.into_vec().iter().map(|r| r["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["web-11", "web-9"]);
}
