//! Labels and annotations for all objects.

use super::fieldspec::{Create, FieldSpec, set_string, split_path, visit, wrong_shape};
use super::res::{Objects, split_api};
use driftless_yaml::Node;
use std::sync::Arc;

/// Puts pairs into every map that the field specs name.
pub(crate) fn add_pairs(
    objects: &mut Objects,
    pairs: &[(Arc<str>, Arc<str>)],
    specs: &[FieldSpec],
) -> Result<(), (usize, String)> {
    if pairs.is_empty() {
        return Ok(());
    }
    let paths: Vec<Vec<String>> = specs.iter().map(|s| split_path(&s.path, '/')).collect();
    for (at, res) in objects.iter_mut_same_id().enumerate() {
        let (api, kind) = (res.api(), res.kind());
        let (group, version) = split_api(&api);
        for (spec, path) in specs.iter().zip(&paths) {
            if !spec.matches(group, version, &kind) {
                continue;
            }
            let create = if spec.create { Create::Map } else { Create::Nothing };
            visit(&mut res.node, path, create, &mut |node| set_pairs(node, pairs))
                .map_err(|why| (at, format!("field {}: {why}", spec.path)))?;
        }
    }
    Ok(())
}

fn set_pairs(node: &mut Node, pairs: &[(Arc<str>, Arc<str>)]) -> Result<(), String> {
    let map = match node {
        Node::Map(map) => map,
        other if other.is_null() => return Ok(()),
        other => return Err(wrong_shape(other, "a map")),
    };
    for (key, value) in pairs {
        match map.get(key) {
            Some(Node::Scalar(_)) => {
                if let Some(old) = map.get_mut(key) {
                    set_string(old, value)?;
                }
            }
            _ => {
                map.insert(key.clone(), Node::string(value.clone()));
            }
        }
    }
    Ok(())
}
