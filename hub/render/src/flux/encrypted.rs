//! Whether Git holds an object encrypted, by SOPS's marks.

use std::collections::BTreeMap;

use base64::Engine as _;
use driftless_protocol::object::ObjectKey;
use driftless_yaml::Node;

/// How SOPS writes an encrypted leaf.
const LEAF: &str = "ENC[AES256_GCM,";

/// Whether an object, or a file an object was generated from, is encrypted.
pub(crate) fn is_encrypted(node: &Node) -> bool {
    if node.at(&["sops", "mac"]).is_some() || node.at(&["sops", "lastmodified"]).is_some() {
        return true;
    }
    let secret = node.at(&["kind"]).and_then(Node::as_str) == Some("Secret");
    let config = node.at(&["kind"]).and_then(Node::as_str) == Some("ConfigMap");
    if !secret && !config {
        return any_text(node, &|text| text.starts_with(LEAF));
    }
    let inside = |text: &str| text.contains(LEAF);
    ["data", "stringData"].iter().any(|of| {
        node.at(&[of]).and_then(Node::as_map).into_iter().flatten().any(|entry| {
            let Some(text) = entry.value.scalar_text() else { return false };
            inside(text) || (secret && *of == "data" && decoded(text).is_some_and(|plain| inside(&plain)))
        })
    })
}

fn decoded(text: &str) -> Option<String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn any_text(node: &Node, test: &dyn Fn(&str) -> bool) -> bool {
    match node {
        Node::Scalar(scalar) => test(&scalar.text),
        Node::Seq(items) => items.iter().any(|n| any_text(n, test)),
        Node::Map(map) => map.iter().any(|e| any_text(&e.value, test)),
    }
}

/// The first of these names that stands as a whole text in an object.
pub(crate) fn mentions<'a>(node: &Node, names: &'a BTreeMap<String, ObjectKey>) -> Option<&'a ObjectKey> {
    if names.is_empty() {
        return None;
    }
    match node {
        Node::Scalar(scalar) => names.get(&*scalar.text),
        Node::Seq(items) => items.iter().find_map(|n| mentions(n, names)),
        Node::Map(map) => map.iter().find_map(|e| mentions(&e.value, names)),
    }
}
