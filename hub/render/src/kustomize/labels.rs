//! Labels and annotations for all objects.

use super::fieldspec::{Create, FieldSpec, check_key, new_text, set_string, visit, wrong_shape};
use super::res::{Objects, is_shared, split_api};
use driftless_yaml::{Key, Node, Scalar};
use std::sync::Arc;

/// Puts pairs into every map that the field specs name. A value that is new in several places of an object is one node
/// to the real program from then on.
pub(crate) fn add_pairs(
    objects: &mut Objects,
    pairs: &[(Arc<str>, Arc<str>)],
    specs: &[FieldSpec],
) -> Result<(), (usize, String)> {
    if pairs.is_empty() {
        return Ok(());
    }
    let mut made = objects.made();
    let keys: Vec<Key> = pairs.iter().map(|(key, _)| key.clone().into()).collect();
    for (at, res) in objects.iter_mut_same_id().enumerate() {
        for (_, value) in pairs {
            made.text(value.len()).map_err(|why| (at, why))?;
        }
        let (api, kind) = (res.api(), res.kind());
        let (group, version) = split_api(&api);
        let mut own: Vec<Own> = pairs
            .iter()
            .zip(&keys)
            .map(|((_, value), key)| Own { key, value, fresh: Arc::from(&**value), made: 0, overwritten: Vec::new() })
            .collect();
        for spec in specs {
            if !spec.matches(group, version, &kind) {
                continue;
            }
            let create = if spec.create { Create::Map } else { Create::Nothing };
            let shared = res.shared.clone();
            res.with_annotations(&spec.path, |node| {
                visit(node, spec.path.parts(), create, &mut |node| set_pairs(node, &mut own, &shared))
            })
            .map_err(|why| (at, format!("field {}: {why}", spec.path)))?;
        }
        for Own { value, fresh, made: places, overwritten, .. } in own {
            for old in overwritten {
                res.share(&old, &Scalar::string(value.clone()));
            }
            if places > 1 {
                res.shared.push(fresh);
            }
        }
    }
    objects.set_made(made);
    Ok(())
}

/// One pair on its way into one object.
struct Own<'p> {
    key: &'p Key,
    value: &'p Arc<str>,
    /// The text of the places where it is new.
    fresh: Arc<str>,
    /// How many these are.
    made: usize,
    /// Shared texts that it took the place of.
    overwritten: Vec<Arc<str>>,
}

fn set_pairs(node: &mut Node, pairs: &mut [Own<'_>], shared: &[Arc<str>]) -> Result<(), String> {
    let map = match node {
        Node::Map(map) => map,
        other if other.is_null() => return Ok(()),
        other => return Err(wrong_shape(other, "a map")),
    };
    for pair in pairs {
        match map.get(pair.key) {
            Some(Node::Scalar(s)) if is_shared(shared, &s.text) => {
                if !is_shared(&pair.overwritten, &s.text) {
                    pair.overwritten.push(s.text.clone());
                }
            }
            Some(Node::Scalar(_)) => {
                if let Some(old) = map.get_mut(pair.key) {
                    set_string(old, pair.value)?;
                }
            }
            present => {
                if present.is_none() {
                    check_key(pair.key)?;
                }
                pair.made += 1;
                map.insert(pair.key.clone(), new_text(pair.fresh.clone()));
            }
        }
    }
    Ok(())
}
