//! What controllers, webhooks and the API server itself do to objects every day, and what is none of it: each case starts
//! from a real server's answer to our apply. Noise must give no drift at all; its neighbours must give theirs.
#![allow(clippy::unwrap_used)] // a panic here is a failed test

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::DriftClass;
use driftless_reconcile::added::additions;
use driftless_reconcile::drift::{Baseline, Context, diff};
use driftless_reconcile::fill::Hidden;
use driftless_reconcile::fold::fold;
use driftless_reconcile::mark::Mark;
use driftless_reconcile::rules::Rules;
use serde_json::{Value, json};

fn rules() -> Rules {
    Rules::new([9; 32])
}

fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

macro_rules! pair {
    ($name:literal) => {
        (
            sample(include_str!(concat!("samples/", $name, ".desired.json"))),
            sample(include_str!(concat!("samples/", $name, ".applied.json"))),
        )
    };
}

fn of_kind(kind: &str) -> (Value, Value) {
    let (declared, answers) = pair!("many");
    let find = |list: &Value| list["items"].as_array().unwrap().iter().find(|o| o["kind"] == kind).unwrap().clone();
    (find(&declared), find(&answers))
}

/// A write by somebody: the values, and the managedFields entry that the API server makes of it.
struct Write {
    manager: &'static str,
    operation: &'static str,
    subresource: &'static str,
    fields: Value,
    /// JSON pointer (`/-` appends) and value.
    values: Vec<(&'static str, Value)>,
}

fn write(manager: &'static str, fields: Value, values: Vec<(&'static str, Value)>) -> Write {
    Write { manager, operation: "Update", subresource: "", fields, values }
}

fn set(live: &mut Value, pointer: &str, value: Value) {
    let (above, name) = pointer.rsplit_once('/').unwrap();
    let mut at = live;
    for part in above.split('/').skip(1).map(|p| p.replace("~1", "/")) {
        at = match at {
            Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
            other => {
                if !other.is_object() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}))
            }
        };
    }
    match at {
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        other => {
            if !other.is_object() {
                *other = json!({});
            }
            other.as_object_mut().unwrap().insert(name.replace("~1", "/"), value);
        }
    }
}

fn after(answer: &Value, writes: &[Write]) -> Value {
    let mut live = answer.clone();
    live["metadata"]["resourceVersion"] = "9999".into();
    for write in writes {
        for (pointer, value) in &write.values {
            set(&mut live, pointer, value.clone());
        }
        let mut entry = json!({"manager": write.manager, "operation": write.operation, "apiVersion": live["apiVersion"],
            "time": "2026-11-22T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": write.fields});
        if !write.subresource.is_empty() {
            entry["subresource"] = write.subresource.into();
        }
        set(&mut live, "/metadata/managedFields/-", entry);
    }
    live
}

/// `path (manager, class)` of every drifted field.
fn drift(declared: &Value, answer: &Value, live: &Value) -> Vec<String> {
    let rules = rules();
    let baseline = Baseline::new(Mark::NONE, fold(answer, &[], &rules).unwrap().owned, declared, answer, false, &rules);
    let folded = fold(live, &[], &rules).unwrap();
    if folded.owned == baseline.owned && folded.added() == Mark::NONE {
        return Vec::new();
    }
    let context = Context {
        overlay: baseline.overlay.as_deref(),
        autoscaled: false,
        ignore: &[],
        observe: &[],
        warn: &[],
        merge: false,
        hidden: &Hidden::Nothing,
        rules: &rules,
    };
    let key = ObjectKey::of(declared).unwrap();
    diff(&key, declared, live, &context)
        .into_iter()
        .map(|f| format!("{} ({}, {:?})", f.path, f.manager.unwrap_or_default(), f.class))
        .collect()
}

#[test]
fn known_noise_is_no_drift() {
    let deploy = || pair!("deploy");
    let template = "/spec/template/metadata/annotations";
    let cases: Vec<(&str, (Value, Value), Vec<Write>)> = vec![
        ("nothing at all", deploy(), vec![]),
        (
            "the deployment controller: revision and status",
            deploy(),
            vec![
                write(
                    "kube-controller-manager",
                    json!({"f:metadata": {"f:annotations": {"f:deployment.kubernetes.io/revision": {}}}}),
                    vec![("/metadata/annotations/deployment.kubernetes.io~1revision", json!("3"))],
                ),
                Write {
                    manager: "kube-controller-manager",
                    operation: "Update",
                    subresource: "status",
                    fields: json!({"f:status": {"f:replicas": {}, "f:conditions": {}}}),
                    values: vec![("/status/replicas", json!(3)), ("/metadata/generation", json!(7))],
                },
            ],
        ),
        (
            "kubectl rollout restart",
            deploy(),
            vec![write(
                "kubectl-rollout",
                json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations": {
                    ".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}}),
                vec![(
                    &*format!("{template}/kubectl.kubernetes.io~1restartedAt").leak(),
                    json!("2026-11-22T00:00:00Z"),
                )],
            )],
        ),
        (
            "Reloader: an annotation and a variable in the pod template",
            deploy(),
            vec![write(
                "Reloader",
                json!({"f:spec": {"f:template": {
                    "f:metadata": {"f:annotations": {".": {}, "f:reloader.stakater.com/last-reloaded-from": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:env": {
                        "k:{\"name\":\"STAKATER_X_SECRET\"}": {".": {}, "f:name": {}, "f:value": {}}}}}}}}}),
                vec![
                    (&*format!("{template}/reloader.stakater.com~1last-reloaded-from").leak(), json!("{}")),
                    ("/spec/template/spec/containers/0/env/-", json!({"name": "STAKATER_X_SECRET", "value": "hash"})),
                ],
            )],
        ),
        (
            "an operator that injects a sidecar, an init container and a volume into the template",
            deploy(),
            vec![write(
                "sidecar-injector",
                json!({"f:spec": {"f:template": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"proxy\"}": {".": {}, "f:name": {}, "f:image": {}}},
                    "f:initContainers": {".": {}, "k:{\"name\":\"init\"}": {".": {}, "f:name": {}, "f:image": {}}},
                    "f:volumes": {".": {}, "k:{\"name\":\"certs\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}}}}}}),
                vec![
                    ("/spec/template/spec/containers/-", json!({"name": "proxy", "image": "p"})),
                    ("/spec/template/spec/initContainers", json!([{"name": "init", "image": "i"}])),
                    ("/spec/template/spec/volumes", json!([{"name": "certs", "emptyDir": {}}])),
                ],
            )],
        ),
        (
            "Kyverno: labels and defaults that it mutates in our own request",
            deploy(),
            vec![write(
                "driftless-agent",
                json!({"f:metadata": {"f:labels": {"f:cost-centre": {}}},
                    "f:spec": {"f:template": {"f:spec": {"f:securityContext": {"f:runAsNonRoot": {}},
                        "f:containers": {"k:{\"name\":\"web\"}": {"f:securityContext": {"f:readOnlyRootFilesystem": {}}}}}}}}),
                vec![
                    ("/metadata/labels/cost-centre", json!("42")),
                    ("/spec/template/spec/securityContext/runAsNonRoot", json!(true)),
                    ("/spec/template/spec/containers/0/securityContext", json!({"readOnlyRootFilesystem": true})),
                ],
            )],
        ),
        (
            "a scheduler extension that fills a field we do not declare",
            deploy(),
            vec![write(
                "some-operator",
                json!({"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}, "f:tolerations": {}}}}}),
                vec![
                    ("/spec/template/spec/nodeSelector", json!({"pool": "a"})),
                    ("/spec/template/spec/tolerations", json!([{"key": "a", "operator": "Exists"}])),
                ],
            )],
        ),
        (
            "the order of a keyed list",
            deploy(),
            vec![write(
                "some-operator",
                json!({"f:metadata": {"f:annotations": {"f:touched": {}}}}),
                vec![
                    ("/metadata/annotations/touched", json!("1")),
                    (
                        "/spec/template/spec/containers/0/ports",
                        json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}]),
                    ),
                    (
                        "/spec/template/spec/containers/0/env",
                        json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),
                    ),
                ],
            )],
        ),
        (
            "a Service: addresses, node ports, families, a load balancer's annotations",
            pair!("svc"),
            vec![write(
                "cloud-controller-manager",
                json!({"f:metadata": {"f:annotations": {".": {}, "f:cloud.example/lb-id": {}},
                    "f:finalizers": {".": {}, "v:\"service.kubernetes.io/load-balancer-cleanup\"": {}}},
                    "f:spec": {"f:allocateLoadBalancerNodePorts": {}, "f:loadBalancerClass": {}}}),
                vec![
                    ("/metadata/annotations/cloud.example~1lb-id", json!("lb-1")),
                    ("/metadata/finalizers", json!(["service.kubernetes.io/load-balancer-cleanup"])),
                    ("/spec/allocateLoadBalancerNodePorts", json!(true)),
                    ("/spec/loadBalancerClass", json!("x")),
                ],
            )],
        ),
        (
            "cert-manager's CA injector in a webhook configuration",
            of_kind("ValidatingWebhookConfiguration"),
            vec![write(
                "cainjector",
                json!({"f:webhooks": {"k:{\"name\":\"a.b.c\"}": {"f:clientConfig": {"f:caBundle": {}}}}}),
                vec![("/webhooks/0/clientConfig/caBundle", json!("LS0tLS1CRUdJTg=="))],
            )],
        ),
        (
            "the same in a CRD's conversion, and what the API server writes into its status",
            of_kind("CustomResourceDefinition"),
            vec![
                write(
                    "cainjector",
                    json!({"f:spec": {"f:conversion": {"f:webhook": {"f:clientConfig": {"f:caBundle": {}}}}}}),
                    vec![("/spec/conversion/webhook", json!({"clientConfig": {"caBundle": "LS0="}}))],
                ),
                Write {
                    manager: "kube-apiserver",
                    operation: "Update",
                    subresource: "status",
                    fields: json!({"f:status": {"f:storedVersions": {}}}),
                    values: vec![("/status/storedVersions", json!(["v1"]))],
                },
            ],
        ),
        (
            "a claim that is bound to a volume",
            of_kind("PersistentVolumeClaim"),
            vec![write(
                "kube-controller-manager",
                json!({"f:metadata": {"f:annotations": {".": {}, "f:pv.kubernetes.io/bind-completed": {}}},
                    "f:spec": {"f:volumeName": {}, "f:storageClassName": {}}}),
                vec![
                    ("/metadata/annotations/pv.kubernetes.io~1bind-completed", json!("yes")),
                    ("/spec/volumeName", json!("pv-1")),
                    ("/spec/storageClassName", json!("standard")),
                ],
            )],
        ),
        (
            "token secrets and pull secrets that controllers add to a service account",
            of_kind("ServiceAccount"),
            vec![write(
                "openshift-controller-manager",
                json!({"f:secrets": {".": {}, "k:{\"name\":\"sa-token\"}": {}}, "f:imagePullSecrets": {"k:{\"name\":\"dock\"}": {}}}),
                vec![("/secrets", json!([{"name": "sa-token"}])), ("/imagePullSecrets/-", json!({"name": "dock"}))],
            )],
        ),
        (
            "an HPA's own annotations and status",
            of_kind("HorizontalPodAutoscaler"),
            vec![Write {
                manager: "kube-controller-manager",
                operation: "Update",
                subresource: "status",
                fields: json!({"f:status": {"f:currentReplicas": {}}}),
                values: vec![("/status/currentReplicas", json!(3))],
            }],
        ),
        (
            "defaults of a CRD, and an operator that finalises and annotates its own object",
            pair!("widget"),
            vec![write(
                "widget-operator",
                json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"acme.example/x\"": {}}, "f:annotations": {".": {}, "f:acme.example/hash": {}}},
                    "f:spec": {"f:size": {}}}),
                vec![
                    ("/metadata/finalizers", json!(["acme.example/x"])),
                    ("/metadata/annotations", json!({"acme.example/hash": "1"})),
                ],
            )],
        ),
        (
            "VPA's recommendation beside a StatefulSet's own fields",
            of_kind("StatefulSet"),
            vec![write(
                "vpa-recommender",
                json!({"f:metadata": {"f:annotations": {".": {}, "f:vpaUpdates": {}}}}),
                vec![("/metadata/annotations/vpaUpdates", json!("x"))],
            )],
        ),
    ];
    assert!(cases.len() >= 16);
    for (name, (declared, answer), writes) in cases {
        let live = after(&answer, &writes);
        assert_eq!(drift(&declared, &answer, &live), [""; 0], "{name}");
    }
}

/// `path = value (manager, class)` of everything that others added where it matters for security.
fn added(answer: &Value, writes: &[Write], ignored: &[String]) -> Vec<String> {
    let key = ObjectKey::of(answer).unwrap();
    additions(&key, &after(answer, writes), (ignored, false), &rules(), 0)
        .into_iter()
        .map(|a| format!("{} = {} ({}, {:?})", a.path, a.value, a.manager, a.class))
        .collect()
}

/// Of the noise above what is a container, a right or a way to the host is told all the same, and nothing else.
#[test]
fn what_matters_for_security_is_no_drift_and_told() {
    let (declared, answer) = pair!("deploy");
    let injector = |manager| {
        write(
            manager,
            json!({"f:spec": {"f:template": {"f:spec": {
                "f:containers": {
                    "k:{\"name\":\"proxy\"}": {".": {}, "f:name": {}, "f:image": {}, "f:securityContext": {"f:privileged": {}}},
                    "k:{\"name\":\"web\"}": {"f:env": {"k:{\"name\":\"STAKATER_X\"}": {".": {}, "f:name": {}, "f:value": {}}},
                        "f:resources": {"f:limits": {"f:ephemeral-storage": {}}}, "f:securityContext": {"f:privileged": {}}}},
                "f:hostNetwork": {},
                "f:nodeSelector": {},
                "f:volumes": {".": {}, "k:{\"name\":\"certs\"}": {".": {}, "f:name": {}, "f:emptyDir": {}},
                    "k:{\"name\":\"root\"}": {".": {}, "f:name": {}, "f:hostPath": {"f:path": {}, "f:type": {}}}}}}}}),
            vec![
                (
                    "/spec/template/spec/containers/-",
                    json!({"name": "proxy", "image": "p", "securityContext": {"privileged": true}}),
                ),
                ("/spec/template/spec/containers/0/env/-", json!({"name": "STAKATER_X", "value": "hash"})),
                ("/spec/template/spec/containers/0/resources/limits/ephemeral-storage", json!("1Gi")),
                ("/spec/template/spec/containers/0/securityContext", json!({"privileged": true})),
                ("/spec/template/spec/hostNetwork", json!(true)),
                ("/spec/template/spec/nodeSelector", json!({"pool": "a"})),
                (
                    "/spec/template/spec/volumes",
                    json!([{"name": "certs", "emptyDir": {}}, {"name": "root", "hostPath": {"path": "/", "type": ""}}]),
                ),
            ],
        )
    };
    let all = |by: &str| {
        [
            ("spec.template.spec.containers[name=proxy]", "\"p\""),
            ("spec.template.spec.containers[name=web].securityContext.privileged", "true"),
            ("spec.template.spec.hostNetwork", "true"),
            (
                "spec.template.spec.volumes[name=root]",
                "{\"hostPath\":{\"path\":\"/\",\"type\":\"\"},\"name\":\"root\"}",
            ),
        ]
        .map(|(path, value)| format!("{path} = {value} ({by})"))
        .to_vec()
    };
    assert_eq!(drift(&declared, &answer, &after(&answer, &[injector("injector")])), [""; 0]);
    assert_eq!(added(&answer, &[injector("injector")], &[]), all("injector, Controller"));
    assert_eq!(added(&answer, &[injector("helm")], &[]), all("helm, GitOps"));
    // A webhook did it in our own request.
    assert_eq!(added(&answer, &[injector("driftless-agent")], &[]), all("driftless-agent, Admission"));
    // People's additions are drift, and removed.
    assert_eq!(added(&answer, &[injector("kubectl-edit")], &[]), [""; 0]);
    // Git leaves it to others.
    let pods = ["/spec/template/spec".to_owned()];
    assert_eq!(added(&answer, &[injector("injector")], &pods), [""; 0]);
    // Two managers that say the same are one addition.
    assert_eq!(added(&answer, &[injector("injector"), injector("other")], &[]), all("injector, Controller"));
    // In what is no pod spec the same names mean something else.
    let (_, service) = pair!("svc");
    let elsewhere = write(
        "operator",
        json!({"f:metadata": {"f:annotations": {"f:securityContext": {}}}, "f:spec": {"f:hostNetwork": {}}}),
        vec![("/spec/hostNetwork", json!(true)), ("/metadata/annotations", json!({"securityContext": "1"}))],
    );
    assert_eq!(added(&service, &[elsewhere], &[]), [""; 0]);
}

/// Rights: but for those that the control plane gathers from roles with the labels that ours names.
#[test]
fn added_rights_are_told() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "r", "uid": "11111111-1111-4111-8111-111111111111", "managedFields": [
            {"manager": "driftless-agent", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:driftless.dev/unit": {}}}}}]}});
    let rule = || {
        let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        [write("clusterrole-aggregation-controller", json!({"f:rules": {}}), vec![("/rules", rules)])]
    };
    assert_eq!(
        added(&role, &rule(), &[]),
        [
            "rules = [{\"apiGroups\":[\"*\"],\"resources\":[\"*\"],\"verbs\":[\"*\"]}] (clusterrole-aggregation-controller, \
            Controller)"
        ]
    );
    let mut aggregated = role;
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]});
    assert_eq!(added(&aggregated, &rule(), &[]), [""; 0]);
}

/// Pods: what `kubectl debug` and an in-place resize do goes through subresources of its own.
#[test]
fn ephemeral_containers_of_a_declared_pod_are_no_drift() {
    let declared = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default",
        "labels": {"driftless.dev/unit": "00112233445566778899aabbccddeeff"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let mut answer = declared.clone();
    answer["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into();
    answer["spec"]["nodeName"] = "n".into();
    answer["metadata"]["managedFields"] = json!([{"manager": "driftless-agent", "operation": "Apply", "apiVersion": "v1",
        "time": "2026-11-21T11:23:58Z", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:metadata": {"f:labels": {"f:driftless.dev/unit": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}]);
    let debug = Write {
        manager: "kubectl",
        operation: "Update",
        subresource: "ephemeralcontainers",
        fields: json!({"f:spec": {"f:ephemeralContainers": {".": {}, "k:{\"name\":\"debugger\"}": {".": {}, "f:name": {}}}}}),
        values: vec![("/spec/ephemeralContainers", json!([{"name": "debugger", "image": "busybox"}]))],
    };
    assert_eq!(drift(&declared, &answer, &after(&answer, &[debug])), [""; 0]);
}

/// The neighbours of the noise: the same places, and yet drift, each with the class of its writer.
#[test]
fn what_looks_like_noise_and_is_drift_is_classed() {
    let deploy = || pair!("deploy");
    let replicas = |manager, subresource| Write {
        manager,
        operation: "Update",
        subresource,
        fields: json!({"f:spec": {"f:replicas": {}}}),
        values: vec![("/spec/replicas", json!(9))],
    };
    let image = |manager| {
        write(
            manager,
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}}),
            vec![("/spec/template/spec/containers/0/image", json!("other"))],
        )
    };
    let cases: Vec<(&str, Vec<Write>, &str, DriftClass)> = vec![
        ("kubectl scale", vec![replicas("kubectl", "scale")], "spec.replicas", DriftClass::Human),
        (
            "a scaler that nothing declares",
            vec![replicas("some-scaler", "scale")],
            "spec.replicas",
            DriftClass::Controller,
        ),
        (
            "Flux beside us",
            vec![image("kustomize-controller")],
            "spec.template.spec.containers[name=web].image",
            DriftClass::GitOps,
        ),
        ("Helm beside us", vec![image("helm")], "spec.template.spec.containers[name=web].image", DriftClass::GitOps),
        (
            "Argo CD beside us",
            vec![image("argocd-controller")],
            "spec.template.spec.containers[name=web].image",
            DriftClass::GitOps,
        ),
        ("k9s", vec![image("k9s")], "spec.template.spec.containers[name=web].image", DriftClass::Human),
        (
            "a webhook that rewrites what we declare",
            vec![image("driftless-agent")],
            "spec.template.spec.containers[name=web].image",
            DriftClass::Admission,
        ),
        (
            "a person's label",
            vec![write(
                "kubectl-label",
                json!({"f:metadata": {"f:labels": {"f:mine": {}}}}),
                vec![("/metadata/labels/mine", json!("1"))],
            )],
            "metadata.labels.mine",
            DriftClass::Human,
        ),
    ];
    for (name, writes, path, class) in cases {
        let (declared, answer) = deploy();
        let manager = writes[0].manager;
        let live = after(&answer, &writes);
        assert_eq!(drift(&declared, &answer, &live), [format!("{path} ({manager}, {class:?})")], "{name}");
    }
}
