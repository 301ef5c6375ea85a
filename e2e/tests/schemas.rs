//! The recorded schemas of Kubernetes are what the pinned API server says of itself, and `validate` says what it says.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use driftless_e2e::controlplane::{ControlPlane, Options};
use driftless_e2e::schemas;
use driftless_e2e::tools::{self, Kubernetes, Tool, Tools};
use driftless_protocol::id::{ClusterName, Revision};
use driftless_render::flux::render_cluster;
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::{MemTree, Tree};
use driftless_render::validate::{Cluster, KUBERNETES, Schemas, crds, validate};
use kube::Client;

#[tokio::test]
async fn the_recorded_schemas_are_those_of_the_pinned_server() -> Result<()> {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("e2e lies in the workspace")?;
    let name = schemas::file(Kubernetes::chosen()?);
    let recorded = std::fs::read_to_string(top.join(&name))?;
    let now = schemas::record().await?;
    let differs = recorded.lines().zip(now.lines()).find(|(a, b)| a != b);
    ensure!(
        recorded == now,
        "{name} is not what this server says; record it again: cargo run -p driftless-e2e --bin record-schemas\nfirst difference: {differs:?}",
    );
    Ok(())
}

/// Objects of Kubernetes' own kinds and of a definition: where they are applied, and what they are.
const OBJECTS: &[(&str, &str)] = &[
    (
        "api/v1/namespaces/default/configmaps",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a.io/b: c.D_e, e: ''}, annotations: {A.io/x: any thing}}\ndata: {a.b-c_D: x, .a: x}",
    ),
    ("api/v1/namespaces/default/configmaps", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}"),
    (
        "api/v1/namespaces/default/configmaps",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {'a b': c}}",
    ),
    (
        "api/v1/namespaces/default/configmaps",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {A.io/x: c}}",
    ),
    ("api/v1/namespaces/default/configmaps", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: x y}}"),
    (
        "api/v1/namespaces/default/configmaps",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {a b: c}}",
    ),
    (
        "api/v1/namespaces/default/configmaps",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {bad key: x}",
    ),
    ("api/v1/namespaces/default/configmaps", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {..x: x}"),
    (
        "api/v1/namespaces/default/services",
        "apiVersion: v1\nkind: Service\nmetadata: {name: 1a}\nspec: {ports: [{port: 80}]}",
    ),
    (
        "api/v1/namespaces/default/services",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\nspec: {ports: [{port: 80}]}",
    ),
    (
        "apis/apps/v1/namespaces/default/statefulsets",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a.b}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}",
    ),
    (
        "apis/apps/v1/namespaces/default/deployments",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a.b}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}",
    ),
    (
        "apis/apps/v1/namespaces/default/deployments",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: []}}}",
    ),
    (
        "apis/apps/v1/namespaces/default/deployments",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: x y}}, template: {metadata: {labels: {a: x y}}, spec: {containers: [{name: a, image: a}]}}}",
    ),
    (
        "apis/apps/v1/namespaces/default/deployments",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {a: x y}, containers: [{name: a, image: a}]}}}",
    ),
    // Required by its schema, and taken left out.
    (
        "apis/apps/v1/namespaces/default/deployments",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {securityContext: {sysctls: [{name: kernel.shm_rmid_forced}]}, volumes: [{name: v, iscsi: {iqn: 'iqn.2001-04.com.example:storage', targetPortal: 10.0.0.1}}], containers: [{name: a, image: a, livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: X-Empty}]}}, lifecycle: {preStop: {sleep: {}}}}]}}}",
    ),
    (
        "apis/apps/v1/namespaces/default/controllerrevisions",
        "apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {name: a}\ndata: {a: b}",
    ),
    (
        "api/v1/persistentvolumes",
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: a}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], iscsi: {iqn: 'iqn.2001-04.com.example:storage', targetPortal: 10.0.0.1}}",
    ),
    (
        "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: others.example.org}\nspec: {group: example.org, names: {kind: Other, plural: others}, scope: Cluster, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}, {name: v2, schema: {openAPIV3Schema: {type: object}}}]}",
    ),
    (
        "apis/rbac.authorization.k8s.io/v1/clusterroles",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'a:B_c'}\nrules: []",
    ),
    (
        "api/v1/namespaces/default/secrets",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {bad key: x}",
    ),
    (
        "apis/coordination.k8s.io/v1/namespaces/default/leases",
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: a}\nspec: {renewTime: yesterday}",
    ),
    (
        "apis/coordination.k8s.io/v1/namespaces/default/leases",
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: a}\nspec: {renewTime: '2026-01-31T12:00:00.000000Z'}",
    ),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {part: {}}"),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {mode: null, free: null, part: null}",
    ),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {need: null}"),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {mode: c}"),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {part: {size: 1}}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {list: [null]}",
    ),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: A}\nspec: {}"),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {set: [a, b]}"),
    ("apis/example.org/v1/things", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {set: [a, a]}"),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {time: '2026-01-31t12:00:00z', ip: 10.0.0.1, six: '::1', range: 10.0.0.0/8, day: '2024-02-29'}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {time: yesterday}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {time: '2026-02-29T12:00:00Z'}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {ip: 999.1.1.1}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {six: 10.0.0.1}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {range: 10.0.0.0/33}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {day: '2023-02-29'}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {whole: {apiVersion: v1, kind: Any, metadata: {name: x}, other: 1}}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {whole: {foo: 1}}",
    ),
    (
        "apis/example.org/v1/things",
        "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {whole: {apiVersion: v1, kind: ''}}",
    ),
];

const THING: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  group: example.org
  names: {kind: Thing, plural: things}
  scope: Cluster
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [mode, need]
            properties:
              mode: {type: string, default: a, enum: [a, b]}
              need: {type: string, default: x}
              free: {type: string}
              list: {type: array, items: {type: string}}
              part:
                type: object
                default: {size: 3}
                required: [size]
                properties: {size: {type: integer, default: 3}}
                x-kubernetes-validations: [{rule: self.size > 2}]
              set: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              time: {type: string, format: date-time}
              day: {type: string, format: date}
              ip: {type: string, format: ipv4}
              six: {type: string, format: ipv6}
              range: {type: string, format: cidr}
              whole: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
";

/// What `validate` refuses of these, the API server refuses, and what it lets pass is taken.
#[tokio::test]
async fn validate_says_what_the_api_server_says() -> Result<()> {
    let tools = Arc::new(Tools::prepare_async(&Tool::CONTROL_PLANE, tools::print_progress).await?);
    let options = Options { tools: Some(tools), controllers: false, ..Options::new("validate") };
    let server = ControlPlane::start(options).await?;
    let client = server.client();
    let definitions = "apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    apply(&client, definitions, THING, "").await?.map_err(anyhow::Error::msg)?;
    let thing = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: first}\nspec: {}\n";
    // The kind is there some time after its definition.
    for left in (0..300).rev() {
        match apply(&client, "apis/example.org/v1/things", thing, "&dryRun=All").await? {
            Ok(()) => break,
            Err(reason) => ensure!(left > 0, "the kind of the definition does not come: {reason}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut differ = Vec::new();
    for (path, object) in OBJECTS {
        let theirs = apply(&client, path, object, "&dryRun=All").await?.err();
        let namespaced = path.contains("/namespaces/");
        let ours = findings(&if namespaced {
            object.replacen("metadata: {", "metadata: {namespace: default, ", 1)
        } else {
            (*object).to_owned()
        })?;
        if theirs.is_some() == ours.is_empty() {
            differ.push(format!(
                "{object}\n  the server: {}\n  validate: {ours:?}",
                theirs.as_deref().unwrap_or("taken")
            ));
        }
    }
    server.stop().await?;
    ensure!(differ.is_empty(), "{}", differ.join("\n\n"));
    Ok(())
}

/// Applies an object: what the server says against it.
async fn apply(client: &Client, path: &str, object: &str, more: &str) -> Result<Result<(), String>> {
    let node: serde_json::Value = serde_saphyr::from_str(object)?;
    let name = node.pointer("/metadata/name").and_then(serde_json::Value::as_str).context("a name")?;
    let url = format!("/{path}/{name}?fieldManager=test&force=true&fieldValidation=Strict{more}");
    let request = http::Request::patch(url).header("Content-Type", "application/apply-patch+yaml");
    match client.request_text(request.body(object.as_bytes().to_vec())?).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

/// What `validate` finds in a repository with this object and the definition.
fn findings(object: &str) -> Result<Vec<String>> {
    let mut tree = MemTree::new();
    tree.insert("clusters/a/object.yaml", object.as_bytes());
    tree.insert("definitions/thing.yaml", THING.as_bytes());
    let tree = Arc::new(tree);
    let source = SourceTree {
        id: "flux-system/flux-system".into(),
        tree: tree.clone(),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    };
    let name: ClusterName = "a".parse()?;
    let mut target = Target::new(name.clone());
    target.root = RootSpec::Path("clusters/a".into());
    let rendered = render_cluster(&SourceSet::new(source), &target);
    let version = Kubernetes::chosen()?.name();
    let (_, recorded) = KUBERNETES.iter().find(|(name, _)| *name == version).context("the schemas of the version")?;
    let schemas = Schemas::parse(recorded)?;
    let cluster = Cluster { name: &name, rendered: &rendered, facts: None, namespaces: &[], schemas: &schemas };
    let definitions = crds::find("flux-system/flux-system", &*tree)?;
    let report = validate("main", &[cluster], &definitions, &|_| Some(tree.clone() as Arc<dyn Tree>));
    ensure!(report.clusters.iter().all(|c| c.checked == 1), "not checked: {object}: {report:?}");
    Ok(report.findings.into_iter().map(|f| f.message).collect())
}
