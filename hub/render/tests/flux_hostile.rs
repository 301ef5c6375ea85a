//! Whatever a repository says, rendering ends with every unit in some state, and says the same twice.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::sync::Arc;

use driftless_protocol::bundle::{Index, UnitBody, UnitState};
use driftless_protocol::canonical;
use driftless_protocol::id::{ClusterId, Digest, Revision};
use driftless_render::assemble::{Intents, assemble};
use driftless_render::flux::{RenderedCluster, render_cluster};
use driftless_render::target::{GitRef, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;
use proptest::prelude::*;

fn render(files: &[(String, String)]) -> RenderedCluster {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(path.as_str(), text.as_bytes().to_vec());
    }
    let root = SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    };
    render_cluster(&SourceSet::new(root), &Target::new("c".parse().unwrap()))
}

/// The blobs say what the render says, each under its digest.
fn check_blobs(rendered: &RenderedCluster) {
    let cluster = ClusterId::from_bytes([7; 16]);
    let assembled = assemble(cluster, rendered, &Intents::default()).unwrap();
    for (digest, bytes) in assembled.blobs() {
        assert_eq!(Digest::of(bytes), digest);
    }
    let index: Index = canonical::from_slice(&assembled.index_bytes).unwrap();
    assert!(index.units.windows(2).all(|w| w[0].id < w[1].id), "units are sorted and distinct");
    assert_eq!(index.whole, rendered.whole);
    let full = index.units.iter().filter(|u| matches!(u.state, UnitState::Full { .. })).count();
    assert_eq!(full, assembled.bodies.len());
    let mut total = assembled.index.len;
    for body in &assembled.bodies {
        total += body.blob.len;
        let parsed: UnitBody = canonical::from_slice(&body.bytes).unwrap();
        for object in &parsed.objects {
            let bytes = &assembled.objects[&object.blob.digest];
            let value = canonical::parse(bytes).unwrap();
            assert_eq!(canonical::value_to_vec(&value), **bytes, "objects are canonical");
            assert_eq!(value["metadata"]["name"], object.key.name.as_str());
        }
    }
    total += assembled.objects.values().map(|b| b.len() as u64).sum::<u64>();
    assert_eq!(total, assembled.raw_total);
}

const FIELDS: &[&str] = &[
    "commonMetadata",
    "components",
    "decryption",
    "deletionPolicy",
    "dependsOn",
    "force",
    "healthCheckExprs",
    "healthChecks",
    "ignore",
    "images",
    "interval",
    "kubeConfig",
    "namePrefix",
    "nameSuffix",
    "patches",
    "patchesJson6902",
    "patchesStrategicMerge",
    "path",
    "postBuild",
    "prune",
    "remediation",
    "retryInterval",
    "serviceAccountName",
    "sourceRef",
    "suspend",
    "syncInterval",
    "targetNamespace",
    "timeout",
    "validation",
    "wait",
    "unknown",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1.5e300",
    "''",
    "text",
    "10m",
    "'99999999999h'",
    "2020-01-01",
    "[]",
    "{}",
    "[null]",
    "[text]",
    "[[a]]",
    "[{}]",
    "{a: b}",
    "[{name: other}]",
    "[{name: web}]",
    "[{name: web, namespace: flux-system, kind: Kustomization}]",
    "{substitute: {a: '${a}', b: \"\\n\"}}",
    "{substitute: {'0': x}}",
    "{substituteFrom: [{kind: ConfigMap, name: web}]}",
    "{substituteFrom: [{kind: Secret, name: x, optional: true}]}",
    "[{patch: '- op: remove'}]",
    "[{patch: '{}', target: {name: '('}}]",
    "[{target: {kind: ConfigMap}, patch: [{op: add, path: /data, value: 1}]}]",
    "../../..",
    "./apps//web/",
    "'${x}'",
    "{labels: {a: 1}}",
    "{labels: {a: b}, annotations: {c: null}}",
    "{kind: GitRepository, name: flux-system}",
    "{kind: Bucket, name: b}",
    "{kind: GitRepository, name: nowhere}",
    "{remediate: maybe}",
    "[../../../..]",
    "[{name: '[', newTag: 1}]",
];

const OBJECTS: &[&str] = &[
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: '${b:=c}', d: \"$\"}\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: null}\ndata: {a: '!'}\n",
    "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: l}}]\n",
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: '${x}'}\n",
    "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: other}\nspec: [1]\n",
    "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: other, namespace: flux-system}\n",
    "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: flux-system, namespace: flux-system}\nspec: {ref: 1}\n",
    "sops: {mac: x}\napiVersion: v1\nkind: Secret\nmetadata: {name: enc}\n",
    "kind: X\n",
    "- 1\n",
    "&a [*a]\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n}\ndata: {a: .nan}\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_ends_and_says_the_same_twice(
        fields in prop::collection::btree_map(0..FIELDS.len(), 0..VALUES.len(), 0..4),
        objects in prop::collection::btree_set(0..OBJECTS.len(), 1..4),
        kustomization in prop::option::of(prop_oneof![Just("resources: [a0.yaml]\n"), Just("components: [.]\n"), Just("x: [\n")]),
    ) {
        let mut spec = vec![
            ("interval", "10m"), ("prune", "true"), ("path", "./apps/web"), ("sourceRef", "{kind: GitRepository, name: flux-system}"),
        ];
        for (field, value) in fields {
            spec.retain(|(known, _)| *known != FIELDS[field]);
            spec.push((FIELDS[field], VALUES[value]));
        }
        let spec: String = spec.iter().map(|(field, value)| format!("  {field}: {value}\n")).collect();
        let unit = format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: web, namespace: flux-system}}\nspec:\n{spec}"
        );
        let mut files = vec![("clusters/c/web.yaml".to_owned(), unit)];
        for object in objects {
            files.push((format!("apps/web/a{object}.yaml"), OBJECTS[object].to_owned()));
        }
        if let Some(text) = kustomization {
            files.push(("apps/web/kustomization.yaml".to_owned(), text.to_owned()));
        }
        let rendered = render(&files);
        prop_assert_eq!(format!("{rendered:?}"), format!("{:?}", render(&files)));
        prop_assert!(rendered.units.iter().any(|u| u.id.name == "flux-system"));
        for unit in &rendered.units {
            if let Some(why) = unit.held() {
                prop_assert!(unit.problems.contains(why) && !why.message.is_empty());
            }
        }
        check_blobs(&rendered);
    }
}

#[test]
fn a_chain_of_a_thousand_units_ends() {
    let files: Vec<(String, String)> = (0..1000)
        .map(|n| {
            let text = format!(
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: u{n}, namespace: flux-system}}\n\
                 spec: {{interval: 1m, prune: true, path: ./apps, sourceRef: {{kind: GitRepository, name: flux-system}}, \
                 dependsOn: [{{name: u{}}}], healthChecks: [{{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, name: u{}, namespace: flux-system}}]}}\n",
                n + 1,
                n + 1
            );
            (format!("clusters/c/u{n}.yaml"), text)
        })
        .collect();
    let rendered = render(&files);
    assert_eq!(rendered.units.len(), 1001);
    assert!(rendered.units.iter().all(|u| u.held().is_some() || u.id.name == "flux-system"));
}

/// Each defined by the one before: 32 with the root, and not one more.
#[test]
fn units_define_each_other_so_deep_and_no_deeper() {
    let unit = |n: usize| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: u{n}, namespace: flux-system}}\n\
             spec: {{interval: 1m, prune: true, path: ./u/{n}, sourceRef: {{kind: GitRepository, name: flux-system}}}}\n"
        )
    };
    let held = |deepest: usize| {
        let mut files = vec![("clusters/c/u1.yaml".to_owned(), unit(1))];
        files.extend((1..deepest).map(|n| (format!("u/{n}/next.yaml"), unit(n + 1))));
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n";
        files.push((format!("u/{deepest}/map.yaml"), map.to_owned()));
        let rendered = render(&files);
        assert_eq!(rendered.units.len(), deepest + 1);
        rendered.units.iter().filter_map(|u| Some((u.id.name.clone(), u.held()?.code.as_str()))).collect::<Vec<_>>()
    };
    assert_eq!(held(31), []);
    assert_eq!(held(32), [("u32".to_owned(), "UnitCycle")]);
}
