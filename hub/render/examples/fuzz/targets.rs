//! What any bytes may do to rendering, one function for each way in. A function returns when the bytes were read or
//! refused as they should be, and panics when something is wrong.

use driftless_render::kustomize::{Built, Limits, Options, build};
use driftless_render::tree::MemTree;
use driftless_yaml::{Dialect, parse_all, parse_one, rewrite, to_stream, to_string};
use std::collections::BTreeMap;

/// A way in.
pub(crate) type Target = fn(&[u8]);

/// All of them, by name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("yaml", yaml),
    ("json", json),
    ("kustomization", kustomization),
    ("resource", resource),
    ("strategic-patch", strategic_patch),
    ("json-patch", json_patch),
    ("replacement", replacement),
    ("configuration", configuration),
    ("transformer", transformer),
    ("env-file", env_file),
    ("substitution", substitution),
];

/// Small enough for many runs a second, large enough for every kind of growth to show.
fn limits() -> driftless_yaml::Limits {
    driftless_yaml::Limits { nodes: 100_000, text: 1 << 20, ..driftless_yaml::Limits::default() }
}

/// Both dialects read or refuse; what is printed of a resource is a fixed point; a rewritten text keeps its value.
pub(crate) fn yaml(data: &[u8]) {
    let limits = limits();
    // Read or refused: which of the two does not matter in this dialect.
    let _ = parse_all(data, Dialect::Yaml11, &limits);
    rewriting(data, &limits);
    let Ok(documents) = parse_all(data, Dialect::Resource, &limits) else { return };
    for document in documents {
        let _ = document.node.to_json();
        let Ok(printed) = to_string(&document.node) else { continue };
        // A text that starts with `---` at the margin would be cut again; everything else reads back.
        let Ok(again) = parse_all(printed.as_bytes(), Dialect::Resource, &limits) else { continue };
        if let [again] = &again[..] {
            assert_eq!(to_string(&again.node).as_deref(), Ok(printed.as_str()), "printing is a fixed point");
        }
    }
}

fn rewriting(data: &[u8], limits: &driftless_yaml::Limits) {
    if let (Ok(text), Ok(one)) = (std::str::from_utf8(data), parse_one(data, Dialect::Resource, limits))
        && let Some(again) = rewrite(text, &one.node, limits)
        && let Ok(read) = parse_one(again.as_bytes(), Dialect::Resource, limits)
    {
        // Comments may be lost on the way, values may not; but folded texts gain line ends each time, as in kustomize.
        if text.contains('>') {
            return;
        }
        let twice = rewrite(&again, &read.node, limits);
        let twice = twice.and_then(|t| parse_one(t.as_bytes(), Dialect::Resource, limits).ok());
        assert_eq!(twice.map(|d| d.node), Some(read.node), "rewriting keeps the value");
    }
}

/// Canonical JSON is a fixed point.
pub(crate) fn json(data: &[u8]) {
    let Ok(node) = driftless_yaml::from_json(data, &limits()) else { return };
    let json = node.to_json().unwrap_or_else(|e| panic!("what was read cannot be written: {e}"));
    let again = driftless_yaml::from_json(&json, &limits());
    let again = again.unwrap_or_else(|e| panic!("what was written cannot be read: {e}"));
    assert_eq!(again.to_json().ok(), Some(json));
}

const OBJECTS: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
  labels: {app: app}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: app
        image: nginx:1
        args: [$(NAME)]
        env:
        - {name: A, valueFrom: {configMapKeyRef: {name: cfg, key: a}}}
        ports:
        - containerPort: 80
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg, namespace: ns}
data:
  a: b
  conf: |
    # comment
    a: {b: 1}
    list: [\"x\"]
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w, annotations: {a: b}}
spec: {list: [1, two], ref: {name: cfg}}
";

fn tree(kustomization: &[u8], file: &[u8]) -> MemTree {
    let mut tree = MemTree::new();
    tree.insert("app/kustomization.yaml", kustomization);
    tree.insert("app/objects.yaml", OBJECTS.as_bytes());
    tree.insert("app/file", file);
    tree.insert("base/kustomization.yaml", b"resources: [cm.yaml]\nnamePrefix: b-\n".as_slice());
    tree.insert("base/cm.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: based}\ndata: {k: v}\n".as_slice());
    tree
}

/// Builds twice: the same result, and nothing printed that cannot be read.
fn render(kustomization: &[u8], file: &[u8]) {
    let tree = tree(kustomization, file);
    let limits = Limits { objects: 2_000, file_bytes: 1 << 20, read_bytes: 16 << 20, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let print = |built: Built| to_stream(built.resources.iter().map(|r| &r.node)).map_err(|e| e.to_string());
    let once = || build(&tree, "app", &options).map_err(|e| e.to_string()).and_then(print);
    let first = once();
    assert_eq!(first, once(), "the same input gives the same output");
    if let Err(why) = &first {
        assert!(!why.is_empty(), "a failure says why");
    }
}

/// The kustomization file itself.
pub(crate) fn kustomization(data: &[u8]) {
    render(data, OBJECTS.as_bytes());
}

/// A file of resources, under every transformer.
pub(crate) fn resource(data: &[u8]) {
    render(
        b"resources: [file, ../base]\nnamespace: ns\nnamePrefix: p-\nnameSuffix: -s\ncommonLabels: {a: b}\ncommonAnnotations: {c: d}
labels: [{pairs: {e: f}, includeTemplates: true}]\nimages: [{name: nginx, newTag: v2}]\nbuildMetadata: [originAnnotations]
patches: [{target: {kind: .*}, patch: '[{\"op\": \"add\", \"path\": \"/metadata/annotations/x\", \"value\": y}]'}]
replacements: [{source: {kind: ConfigMap, name: based}, targets: [{select: {kind: Deployment}, fieldPaths: [spec.x], options: {create: true}}]}]
vars: [{name: NAME, objref: {apiVersion: v1, kind: ConfigMap, name: based}}]\nsortOptions: {order: legacy}\n",
        data,
    );
}

/// A strategic merge patch.
pub(crate) fn strategic_patch(data: &[u8]) {
    render(b"resources: [objects.yaml]\npatches: [{path: file}, {path: file, target: {kind: Deployment}}]\n", data);
}

/// A JSON patch.
pub(crate) fn json_patch(data: &[u8]) {
    render(b"resources: [objects.yaml]\npatches: [{path: file, target: {kind: Deployment|Widget}}]\n", data);
}

/// A list of replacements.
pub(crate) fn replacement(data: &[u8]) {
    render(b"resources: [objects.yaml]\nreplacements: [{path: file}]\n", data);
}

/// A file of transformer configurations.
pub(crate) fn configuration(data: &[u8]) {
    render(
        b"resources: [objects.yaml]\nconfigurations: [file]\nnamespace: ns\nnamePrefix: p-\ncommonLabels: {a: b}\ncommonAnnotations: {c: d}
images: [{name: nginx, newTag: v2}]\nreplicas: [{name: app, count: 2}]
vars: [{name: NAME, objref: {apiVersion: v1, kind: ConfigMap, name: cfg}}]\n",
        data,
    );
}

/// Transformers and generators as objects.
pub(crate) fn transformer(data: &[u8]) {
    render(b"resources: [objects.yaml]\ntransformers: [file]\n", data);
    render(b"resources: [objects.yaml]\ngenerators: [file]\n", data);
}

/// Files that ConfigMaps and Secrets are made from.
pub(crate) fn env_file(data: &[u8]) {
    render(
        b"configMapGenerator: [{name: e, envs: [file]}, {name: f, files: [file]}]\nsecretGenerator: [{name: s, files: [file]}]\n",
        data,
    );
}

/// Flux's substitution, strict and not.
pub(crate) fn substitution(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let values = BTreeMap::from([("a", "1"), ("name", "value"), ("empty", ""), ("nested", "${a}"), ("long", "xyzzy")]);
    let lookup = |name: &str| values.get(name).copied();
    let loose = driftless_subst::substitute(text, &lookup, false);
    let strict = driftless_subst::substitute(text, &lookup, true);
    if let (Ok(loose), Ok(strict)) = (&loose, &strict) {
        assert_eq!(loose, strict, "strictness only refuses");
    }
    assert!(loose.is_ok() || strict.is_err(), "what is refused loosely is refused strictly");
    // Read or refused.
    let _ = driftless_subst::variables(text);
}
