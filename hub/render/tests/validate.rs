//! Objects against schemas, and clusters against each other: one idea each, through one check.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::sync::Arc;

use driftless_protocol::id::{ClusterName, Revision};
use driftless_render::flux::{RenderedCluster, render_cluster};
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::{MemTree, Tree};
use driftless_render::validate::{Cluster, KUBERNETES, Schemas, ValidateReport, crds, validate};

fn tree(files: &[(&str, &str)]) -> Arc<MemTree> {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(*path, text.as_bytes().to_vec());
    }
    Arc::new(tree)
}

fn render(tree: &Arc<MemTree>, cluster: &ClusterName) -> RenderedCluster {
    let source = SourceTree {
        id: "flux-system/flux-system".into(),
        tree: tree.clone(),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    };
    let mut target = Target::new(cluster.clone());
    target.root = RootSpec::Path(format!("clusters/{cluster}"));
    render_cluster(&SourceSet::new(source), &target)
}

/// Validates the clusters `names` of a repository.
fn report(files: &[(&str, &str)], names: &[&str]) -> ValidateReport {
    report_for(KUBERNETES[0].1, files, names)
}

/// The same against recorded schemas.
fn report_for(recorded: &str, files: &[(&str, &str)], names: &[&str]) -> ValidateReport {
    let tree = tree(files);
    let schemas = Schemas::parse(recorded).unwrap();
    let names: Vec<ClusterName> = names.iter().map(|n| n.parse().unwrap()).collect();
    let rendered: Vec<RenderedCluster> = names.iter().map(|name| render(&tree, name)).collect();
    let clusters: Vec<Cluster<'_>> = names
        .iter()
        .zip(&rendered)
        .map(|(name, rendered)| Cluster { name, rendered, facts: None, namespaces: &[], schemas: &schemas })
        .collect();
    let definitions = crds::find("flux-system/flux-system", &*tree).unwrap();
    validate("main", &clusters, &definitions, &|_| Some(tree.clone() as Arc<dyn Tree>))
}

/// `place Code message`, a line each, of one cluster with one file of objects.
fn findings(objects: &str) -> String {
    let mut text = String::new();
    for finding in report(&[("clusters/a/objects.yaml", objects)], &["a"]).findings {
        let at = finding.places[0].at.as_ref().unwrap();
        text.push_str(&format!("{} {}: {}\n", at.line, finding.code, finding.message));
    }
    text
}

#[test]
fn a_kind_that_one_version_of_kubernetes_brought_is_not_served_by_the_one_before() {
    let policy = "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicyBinding\nmetadata: {name: a}\nspec: {policyName: a}\n";
    for (version, expected) in [
        ("1.36", ""),
        (
            "1.35",
            "MutatingAdmissionPolicyBinding.admissionregistration.k8s.io a: Kubernetes 1.35 does not serve admissionregistration.k8s.io/v1 of MutatingAdmissionPolicyBinding; use admissionregistration.k8s.io/v1alpha1 or admissionregistration.k8s.io/v1beta1",
        ),
    ] {
        let (_, recorded) = KUBERNETES.iter().find(|(name, _)| *name == version).unwrap();
        let report = report_for(recorded, &[("clusters/a/objects.yaml", policy)], &["a"]);
        let found: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(found.join("\n"), expected, "{version}");
        assert!(
            report.clusters[0].kubernetes.starts_with(&format!("v{version}.")),
            "{}",
            report.clusters[0].kubernetes
        );
    }
}

#[test]
fn an_object_in_order_has_no_findings() {
    let objects = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: default, labels: {a: b}}\nspec:\n  \
        selector: {matchLabels: {a: b}}\n  replicas: 2\n  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}\n  \
        template:\n    metadata: {labels: {a: b}}\n    spec:\n      containers:\n      - name: a\n        image: a:1\n        \
        ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}, {containerPort: 53, protocol: TCP}]\n        \
        resources: {limits: {cpu: 1, memory: 1.5Gi}}\n        env: [{name: A, value: \"1\"}]\n---\n\
        apiVersion: v1\nkind: Secret\nmetadata: {name: b, namespace: default}\ndata: {a: aGVsbG8=}\n";
    assert_eq!(findings(objects), "");
}

#[test]
fn what_a_strict_api_server_refuses_is_found_at_its_line() {
    let deployment = |spec: &str, container: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\n  namespace: default\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n{spec}  \
             template:\n    metadata: {{labels: {{a: b}}}}\n    spec:\n      containers:\n      - name: a\n        image: a:1\n{container}"
        )
    };
    for (objects, expected) in [
        (deployment("  replcias: 2\n", ""), "8 SchemaUnknownField: Deployment.apps default/a: spec.replcias: unknown field; did you mean \"replicas\"?\n"),
        (deployment("  replicas: \"2\"\n", ""), "8 SchemaWrongType: Deployment.apps default/a: spec.replicas: the text \"2\" where an integer is wanted; quotes make it text\n"),
        (deployment("", "        env:\n        - name: A\n          value: 1\n"), "16 SchemaWrongType: Deployment.apps default/a: spec.template.spec.containers[0].env[0].value: the number 1 where text is wanted; put it in quotes\n"),
        (deployment("", "        ports:\n        - name: x\n"), "15 SchemaRequired: Deployment.apps default/a: spec.template.spec.containers[0].ports[0]: lacks the required field \"containerPort\"\n"),
        (deployment("", "        imagePullPolicy: always\n"), "14 SchemaEnum: Deployment.apps default/a: spec.template.spec.containers[0].imagePullPolicy: the text \"always\" is none of Always, IfNotPresent, Never\n"),
        (deployment("", "        resources: {limits: {memory: 1GB}}\n"), "14 SchemaValue: Deployment.apps default/a: spec.template.spec.containers[0].resources.limits.memory: \"1GB\" is no quantity such as 500m, 2, 1.5Gi\n"),
        (deployment("", "        env:\n        - {name: A, value: a}\n        - {name: A, value: b}\n"), "14 SchemaValue: Deployment.apps default/a: spec.template.spec.containers[0].env: items 0 and 1 have the same name A; server-side apply refuses that\n"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: b, namespace: default}\ndata:\n  a: plain text\n".to_owned(), "5 SchemaValue: Secret default/b: data.a: is no base64; write plain text under stringData, or encode it\n"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: default}\ndata:\n  a: true\n".to_owned(), "5 SchemaWrongType: ConfigMap default/b: data.a: the boolean true where text is wanted; put it in quotes\n"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n  namespace: default\n  finalizers: [1]\n".to_owned(),
            "6 SchemaWrongType: ConfigMap default/b: metadata.finalizers[0]: the number 1 where text is wanted; put it in quotes\n",
        ),
        ("apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: b, namespace: default}\n".to_owned(), "1 VersionNotServed: CronJob.batch default/b: batch/v1beta1 of CronJob is not served since Kubernetes 1.25; use batch/v1\n"),
        ("apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: b, namespace: default}\n".to_owned(), "1 VersionNotServed: Deploymnet.apps default/b: Kubernetes 1.36 serves no kind Deploymnet of apps/v1 that can be applied\n"),
        ("apiVersion: networking.k8s.io/v1beta1\nkind: ServiceCIDR\nmetadata: {name: b}\nspec: {cidrs: [10.0.0.0/8]}\n".to_owned(), "1 VersionDeprecated: ServiceCIDR.networking.k8s.io b: networking.k8s.io/v1beta1 of ServiceCIDR is deprecated, and not served from Kubernetes 1.37 on; use networking.k8s.io/v1\n"),
    ] {
        assert_eq!(findings(&objects), expected, "of\n{objects}");
    }
}

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec:\n  \
    group: example.org\n  names: {kind: Thing, plural: things}\n  scope: Namespaced\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    \
    schema:\n      openAPIV3Schema:\n        type: object\n        required: [spec]\n        properties:\n          spec:\n            type: object\n            \
    required: [size]\n            properties:\n              size: {type: integer, minimum: 1}\n              mode: {type: string, enum: [a, b]}\n              \
    name: {type: string, pattern: '^[a-z]+$'}\n              any: {type: object, x-kubernetes-preserve-unknown-fields: true}\n              \
    port: {x-kubernetes-int-or-string: true}\n              labels: {type: object, additionalProperties: {type: string}}\n            \
    oneOf: [{required: [mode]}, {required: [name]}]\n  - name: v0\n    served: false\n    storage: false\n    schema: {openAPIV3Schema: {type: object}}\n";

const RULED: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-validations:
        - {rule: \"self.metadata.name != 'forbidden'\", message: another name please}
        - {rule: self.other.less(1)}
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: self.min <= self.max, message: min is more than max}
            - {rule: self == oldSelf, message: may not change}
            - {rule: \"!has(self.a__dash__b) || self.a__dash__b.all(x, x > 0)\"}
            properties:
              min: {type: integer, default: 1}
              max: {type: integer}
              a-b: {type: array, items: {type: integer}}
              parts:
                type: array
                items:
                  type: object
                  properties: {share: {type: number}}
                  x-kubernetes-validations:
                  - {rule: self.share < 0.5}
";

/// Rules in CEL, as far as Git alone answers them: with defaults, without what judges a change, is not understood, or fails.
#[test]
fn rules_of_a_definition_are_asked() {
    for (name, spec, expected) in [
        ("t", "{min: 1, max: 2}", &[][..]),
        ("t", "{min: 3, max: 2}", &["spec: min is more than max (rule: self.min <= self.max)"]),
        ("t", "{max: 0}", &["spec: min is more than max (rule: self.min <= self.max)"]),
        ("t", "{}", &[]),
        (
            "t",
            "{max: 1, a-b: [1, 0]}",
            &["spec: breaks the rule !has(self.a__dash__b) || self.a__dash__b.all(x, x > 0)"],
        ),
        ("t", "{max: 1, parts: [{share: 0.1}, {share: 1}]}", &["spec.parts[1]: breaks the rule self.share < 0.5"]),
        ("forbidden", "{max: 1}", &["the object: another name please (rule: self.metadata.name != 'forbidden')"]),
    ] {
        let object = format!(
            "apiVersion: example.org/v1\nkind: Thing\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
        );
        let files = [("clusters/a/t.yaml", object.as_str()), ("definitions/things.yaml", RULED)];
        let report = report(&files, &["a"]);
        let messages: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
        let expected: Vec<String> = expected.iter().map(|e| format!("Thing.example.org default/{name}: {e}")).collect();
        assert_eq!(messages, expected, "of {name} {spec}");
    }
}

#[test]
fn custom_objects_are_checked_against_the_definition_in_the_repository() {
    for (spec, expected) in [
        ("{size: 1, mode: a, any: {x: [1]}, port: http, labels: {a: b}}", ""),
        ("{size: 1, mode: a, port: 80}", ""),
        ("{mode: a}", "Thing.example.org default/t: spec: lacks the required field \"size\""),
        ("{size: 0, mode: a}", "Thing.example.org default/t: spec.size: 0 is too small: at least 1 is needed"),
        ("{size: 1, mode: c}", "Thing.example.org default/t: spec.mode: the text \"c\" is none of a, b"),
        ("{size: 1, name: A}", "Thing.example.org default/t: spec.name: \"A\" does not fit the pattern ^[a-z]+$"),
        ("{size: 1, mode: a, other: 1}", "Thing.example.org default/t: spec.other: unknown field"),
        (
            "{size: 1, mode: a, labels: {a: 1}}",
            "Thing.example.org default/t: spec.labels.a: the number 1 where text is wanted; put it in quotes",
        ),
        (
            "{size: 1}",
            "Thing.example.org default/t: spec: fits none of the alternatives of which the schema allows exactly one (oneOf): one of mode, name",
        ),
        (
            "{size: null, mode: a}",
            "Thing.example.org default/t: spec.size: null where an integer is wanted; remove the field or give it a value",
        ),
    ] {
        let object = format!(
            "apiVersion: example.org/v1\nkind: Thing\nmetadata: {{name: t, namespace: default}}\nspec: {spec}\n"
        );
        let files = [("clusters/a/t.yaml", object.as_str()), ("definitions/things.yaml", DEFINITION)];
        let report = report(&files, &["a"]);
        let messages: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
        let expected: Vec<&str> = Some(expected).filter(|e| !e.is_empty()).into_iter().collect();
        assert_eq!(messages, expected, "of {spec}");
        assert_eq!((report.clusters[0].checked, report.unchecked.len()), (1, 0));
    }
    let old = "apiVersion: example.org/v0\nkind: Thing\nmetadata: {name: t, namespace: default}\n";
    let report = report(&[("clusters/a/t.yaml", old), ("definitions/things.yaml", DEFINITION)], &["a"]);
    assert!(
        report.findings[0].message.contains("does not serve example.org/v0; it serves example.org/v1"),
        "{report:?}"
    );
}

#[test]
fn a_kind_without_a_schema_is_counted_and_named() {
    let object = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t, namespace: default}\nspec: {}\n";
    let report = report(&[("clusters/a/t.yaml", object), ("clusters/b/t.yaml", object)], &["a", "b"]);
    assert!(report.findings.is_empty());
    let unchecked = &report.unchecked[0];
    assert_eq!((unchecked.kind.as_str(), unchecked.objects, unchecked.clusters.len()), ("Thing", 2, 2));
    assert_eq!((report.clusters[0].objects, report.clusters[0].checked), (1, 0));
}

#[test]
fn a_namespace_that_nothing_declares_is_named_once() {
    let map = |name: &str, namespace: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n---\n")
    };
    let objects = map("a", "here")
        + &map("b", "gone")
        + &map("c", "gone")
        + &map("d", "kube-system")
        + "apiVersion: v1\nkind: Namespace\nmetadata: {name: here}\n";
    assert_eq!(
        findings(&objects),
        "5 NamespaceUndeclared: ConfigMap gone/b and 1 other objects: nothing in Git declares namespace gone\n"
    );
}

/// Quotes around a variable are gone once it has a value: they are no advice.
#[test]
fn quotes_are_no_advice_where_substitution_drops_them() {
    let unit = |substitute: &str| format!("{UNIT}apps\n  postBuild: {{substitute: {substitute}}}\n");
    let files = |unit: String, map: &str| -> Vec<String> {
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, namespace: default}}\ndata:\n  port: {map}\n"
        );
        let report = report(&[("clusters/a/apps.yaml", unit.as_str()), ("apps/map.yaml", map.as_str())], &["a"]);
        report.findings.into_iter().map(|f| f.message).collect()
    };
    let advice = "ConfigMap default/m: data.port: the number 5 where text is wanted; ";
    assert_eq!(
        files(unit("{PORT: '5'}"), "\"${PORT}\""),
        [format!(
            "{advice}substitution drops the quotes around a variable: write ${{quote}}${{PORT}}${{quote}}, and set quote: '\"' \
             under spec.postBuild.substitute of the unit that applies it"
        )]
    );
    assert_eq!(files(unit("{PORT: '5', quote: '\"'}"), "${quote}${PORT}${quote}"), [""; 0]);
    assert_eq!(files(unit("{PORT: '5'}"), "5"), [format!("{advice}put it in quotes")]);
    assert!(
        files(unit("{PORT: 5}"), "${PORT}")[0].contains("spec.postBuild.substitute.PORT is not text; put it in quotes")
    );
    // A Kustomization whose own text is substituted by the unit above it.
    let root = format!("{}---\n{}", UNIT.replace("name: apps", "name: flux-system"), unit("{PORT: \"${PORT}\"}"));
    let root = root.replacen("path: ---", "path: clusters/a\n  postBuild: {substitute: {PORT: '5'}}\n---", 1);
    let found = files(root, "x");
    assert!(
        found[0].contains("spec.postBuild.substitute.PORT is not text; substitution drops the quotes"),
        "{found:?}"
    );
}

/// Names and kinds of values only, whatever is wrong with the Secret.
#[test]
fn no_value_of_a_secret_is_shown() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  namespace: default\n  labels: {copy: not-shown hunter1}\n\
        stringData:\n  pin: 4938172\n  flag: true\ndata:\n  plain: hunter2 word\n  list: [hunter3]\ntype: [hunter4]\nimmutable: hunter5\n";
    let text = findings(secret);
    assert_eq!(
        text,
        "8 SchemaWrongType: Secret default/a: stringData.pin: a number where text is wanted; put it in quotes\n\
         9 SchemaWrongType: Secret default/a: stringData.flag: a boolean where text is wanted; put it in quotes\n\
         12 SchemaWrongType: Secret default/a: data.list: a list where text is wanted\n\
         13 SchemaWrongType: Secret default/a: type: a list where text is wanted\n\
         14 SchemaWrongType: Secret default/a: immutable: a text where true or false is wanted\n\
         6 SchemaValue: Secret default/a: metadata.labels.copy: a text is refused: a label's value has letters, digits, -, _ and ., at most 63, a letter or digit at both ends\n\
         11 SchemaValue: Secret default/a: data.plain: is no base64; write plain text under stringData, or encode it\n"
    );
    let copied = |cluster: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: m, namespace: default}}\nstringData: {{cluster: {cluster}}}\n"
        )
    };
    let files = [("clusters/blue/m.yaml", copied("blue")), ("clusters/green/m.yaml", copied("blue"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let found = report(&files, &["blue", "green"]).findings;
    assert_eq!(
        found[0].message,
        "Secret default/m: the value at /stringData/cluster names another cluster, as it does there; here it should name green"
    );
}

/// Defaults of a definition come before the check, as in the API server, also in place of a null.
#[test]
fn a_required_field_with_a_default_may_be_left_out() {
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec:\n  \
        group: example.org\n  names: {kind: Thing, plural: things}\n  scope: Namespaced\n  versions:\n  - name: v1\n    served: true\n    \
        storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        required: [spec]\n        properties:\n          \
        spec:\n            type: object\n            default: {}\n            required: [mode, part]\n            properties:\n              \
        mode: {type: string, default: a, enum: [a, b]}\n              free: {type: string}\n              \
        part: {type: object, required: [size, name], properties: {size: {type: integer, default: 3}, name: {type: string}},\
        x-kubernetes-validations: [{rule: self.size > 2}]}\n";
    let head = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t, namespace: default}\n";
    for (spec, expected) in [
        ("spec: {part: {name: n}}", vec![]),
        ("spec: {mode: null, part: {name: n}}", vec![]),
        (
            "spec: {free: null, part: {name: n}}",
            vec!["spec.free: null where text is wanted; remove the field or give it a value"],
        ),
        ("spec: {mode: c, part: {name: n}}", vec!["spec.mode: the text \"c\" is none of a, b"]),
        ("spec: {part: {}}", vec!["spec.part: lacks the required field \"name\""]),
        ("spec: {part: {name: n, size: 1}}", vec!["spec.part: breaks the rule self.size > 2"]),
        ("spec: {}", vec!["spec: lacks the required field \"part\""]),
        ("", vec!["spec: lacks the required field \"part\""]),
    ] {
        let object = format!("{head}{spec}\n");
        let report = report(&[("clusters/a/t.yaml", object.as_str()), ("definitions/things.yaml", definition)], &["a"]);
        let messages: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
        let expected: Vec<String> = expected.iter().map(|e| format!("Thing.example.org default/t: {e}")).collect();
        assert_eq!(messages, expected, "of {spec}");
    }
}

/// What OpenAPI calls required and the API server takes with its zero value.
#[test]
fn a_field_of_kubernetes_own_that_may_be_left_out_is_not_missed() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: default}\nspec:\n  securityContext: {sysctls: [{name: kernel.shm_rmid_forced}]}\n  \
        containers:\n  - name: a\n    image: a:1\n    livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: X-Empty}]}}\n  \
        volumes: [{name: v, iscsi: {iqn: 'iqn.2001-04.com.example:storage', targetPortal: 10.0.0.1}}]\n";
    assert_eq!(findings(pod), "");
}

const UNIT: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, namespace: flux-system}\nspec:\n  \
    interval: 1m\n  prune: true\n  sourceRef: {kind: GitRepository, name: flux-system}\n  path: ";

#[test]
fn a_unit_that_reads_another_clusters_files_is_named() {
    let (own, theirs) = (format!("{UNIT}apps\n"), format!("{UNIT}clusters/b/extra\n"));
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\n";
    let files = [
        ("clusters/a/apps.yaml", theirs.as_str()),
        ("clusters/b/apps.yaml", own.as_str()),
        ("clusters/b/extra/map.yaml", map),
        ("apps/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n, namespace: default}\n"),
    ];
    let report = report(&files, &["a", "b"]);
    let messages: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "unit flux-system/apps of this cluster reads clusters/b/extra/map.yaml and maybe more below clusters/b, the root of cluster b"
        ]
    );
}

#[test]
fn a_value_that_was_copied_from_another_cluster_is_named() {
    let map = |cluster: &str, other: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, namespace: default}}\ndata: {{CLUSTER_NAME: {cluster}, tier: {other}}}\n"
        )
    };
    let (one, two, three) = (map("blue", "x"), map("blue", "blue"), map("red", "y"));
    let files = [
        ("clusters/blue/m.yaml", one.as_str()),
        ("clusters/green/m.yaml", two.as_str()),
        ("clusters/red/m.yaml", three.as_str()),
    ];
    let report = report(&files, &["blue", "green", "red"]);
    let found: Vec<(&str, usize)> = report.findings.iter().map(|f| (f.message.as_str(), f.clusters.len())).collect();
    assert_eq!(
        found,
        [(
            "ConfigMap default/m: the value at /data/CLUSTER_NAME names cluster blue, as it does there; here it should name green",
            1
        )]
    );
}
