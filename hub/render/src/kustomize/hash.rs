//! The suffix that names of generated objects carry: a hash of their content.

use super::res::Res;
use driftless_yaml::{Node, WriteError};
use sha2::{Digest as _, Sha256};

/// The ten characters that kustomize appends to the name of a ConfigMap or Secret.
///
/// SHA-256 over JSON of kind, data and (for a Secret) type; `name` is always empty, so that equal data under different
/// names has equal suffixes.
///
/// # Errors
/// A value that JSON cannot hold.
pub(crate) fn suffix(res: &Res) -> Result<String, WriteError> {
    let map = res.node.as_map();
    let field = |name: &str| map.and_then(|m| m.get(name));
    let secret = &*res.kind() == "Secret";
    let mut json = Vec::with_capacity(1024);
    json.push(b'{');
    if !secret && let Some(data @ (Node::Map(_) | Node::Seq(_))) = field("binaryData") {
        json.extend_from_slice(b"\"binaryData\":");
        top(&mut json, Some(data))?;
        json.push(b',');
    }
    json.extend_from_slice(b"\"data\":");
    top(&mut json, field("data"))?;
    json.extend_from_slice(if secret { b",\"kind\":\"Secret\"" } else { b",\"kind\":\"ConfigMap\"" });
    json.extend_from_slice(b",\"name\":\"\"");
    if secret {
        if let Some(data @ (Node::Map(_) | Node::Seq(_))) = field("stringData") {
            json.extend_from_slice(b",\"stringData\":");
            top(&mut json, Some(data))?;
        }
        json.extend_from_slice(b",\"type\":");
        top(&mut json, field("type"))?;
    }
    json.push(b'}');
    Ok(encode(&Sha256::digest(&json)))
}

/// The first ten hexadecimal digits, with those that could make words or look alike replaced.
fn encode(digest: &[u8]) -> String {
    let digits = digest.iter().take(5).flat_map(|b| [b >> 4, b & 15]);
    digits
        .map(|d| match d {
            0 => 'g',
            1 => 'h',
            3 => 'k',
            10 => 'm',
            14 => 't',
            d => char::from_digit(u32::from(d), 16).unwrap_or('?'),
        })
        .collect()
}

/// A field at the top: missing is empty text, a scalar is its text whatever it means.
fn top(out: &mut Vec<u8>, node: Option<&Node>) -> Result<(), WriteError> {
    match node {
        None => string(out, ""),
        Some(Node::Scalar(s)) => string(out, &s.text),
        // The real program fails to read a list here, and looks away.
        Some(Node::Seq(_)) => out.extend_from_slice(b"null"),
        Some(node) => return value(out, node),
    }
    Ok(())
}

/// JSON as Go's `encoding/json` writes it: sorted keys, and `<`, `>`, `&` escaped.
fn value(out: &mut Vec<u8>, node: &Node) -> Result<(), WriteError> {
    match node {
        Node::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            out.push(b'{');
            for (i, entry) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string(out, &entry.key);
                out.push(b':');
                value(out, &entry.value)?;
            }
            out.push(b'}');
        }
        Node::Seq(seq) => {
            out.push(b'[');
            for (i, item) in seq.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                value(out, item)?;
            }
            out.push(b']');
        }
        Node::Scalar(s) if s.kind == driftless_yaml::Kind::Str => string(out, &s.text),
        Node::Scalar(_) => node.write_json(out)?,
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::error::Origin;
    use super::*;
    use driftless_yaml::{Dialect, Limits, parse_one};
    use std::collections::BTreeMap;

    /// The agent computes the same suffixes from plain values, with the function of the substitution crate.
    #[test]
    fn suffixes_are_those_of_the_agent() {
        for (text, secret) in [
            ("kind: ConfigMap\ndata: {a: '<&>\u{2028}', b: \"tab\\t\"}\nbinaryData: {c: AAA=}\n", false),
            ("kind: ConfigMap\n", false),
            ("kind: Secret\ntype: Opaque\ndata: {a: eA==}\n", true),
            ("kind: Secret\ntype: Opaque\ndata: {}\nstringData: {x: y}\n", true),
        ] {
            let node = parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).unwrap().node;
            let texts = |field: &str| -> Option<BTreeMap<String, String>> {
                let map = node.at(&[field])?.as_map()?;
                Some(
                    map.iter().map(|e| (e.key.to_string(), super::super::res::text_of(&e.value).to_string())).collect(),
                )
            };
            let theirs = if secret {
                driftless_subst::content_hash_secret("Opaque", texts("data").as_ref(), texts("stringData").as_ref())
            } else {
                driftless_subst::content_hash_configmap(texts("data").as_ref(), texts("binaryData").as_ref())
            };
            let ours = suffix(&Res::new(node.clone(), Origin::default())).unwrap();
            assert_eq!(ours, theirs, "{text}");
        }
    }
}
