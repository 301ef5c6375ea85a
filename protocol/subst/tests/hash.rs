//! The content hash against names that kustomize itself gave: `hash.yaml` is its output for the folder `hash`.

use std::collections::BTreeMap;

use driftless_subst::{content_hash_configmap, content_hash_secret};
use driftless_yaml::{Dialect, Limits, Node, parse_all};

fn field(object: &Node, name: &str) -> Option<BTreeMap<String, String>> {
    let map = object.at(&[name])?.as_map()?;
    Some(map.iter().map(|e| (e.key.to_string(), e.value.as_str().expect("text").to_owned())).collect())
}

#[test]
fn agrees_with_kustomize() {
    let documents =
        parse_all(include_bytes!("hash.yaml"), Dialect::Resource, &Limits::default()).expect("kustomize's output");
    let mut kinds = BTreeMap::<&str, usize>::new();
    for document in &documents {
        let object = &document.node;
        let text = |path: &[&str]| object.at(path).and_then(Node::as_str).unwrap_or_default();
        let (kind, name) = (text(&["kind"]), text(&["metadata", "name"]));
        let hash = match kind {
            "ConfigMap" => content_hash_configmap(field(object, "data").as_ref(), field(object, "binaryData").as_ref()),
            _ => content_hash_secret(
                text(&["type"]),
                field(object, "data").as_ref(),
                field(object, "stringData").as_ref(),
            ),
        };
        assert_eq!(name.rsplit('-').next(), Some(hash.as_str()), "{kind} {name}");
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(kinds, BTreeMap::from([("ConfigMap", 11), ("Secret", 4)]));
}
