//! `crds`: OpenAPI definitions whose extensions say which fields hold names, labels and annotations.

use super::accumulate::Result;
use super::config::{Config, NameReference, merge_spec};
use super::error::{BuildError, ErrorKind, Origin};
use super::fieldspec::FieldSpec;
use driftless_yaml::{Map, Node};
use std::sync::Arc;

/// How deep definitions may refer to each other.
const DEPTH: usize = 32;

/// The configuration that a file of definitions amounts to: a map from type names to `{Schema: {properties: ...}}`.
pub(crate) fn config(path: &Arc<str>, node: &Node) -> Result<Config> {
    let mut config = Config::default();
    let Some(types) = node.as_map() else { return Ok(config) };
    for entry in types {
        let Some(properties) = properties(types, &entry.key) else { continue };
        if ["kind", "apiVersion", "metadata"].iter().all(|name| properties.get(name).is_some()) {
            let kind: Arc<str> = entry.key.rsplit('.').next().unwrap_or_default().into();
            add(&mut config, &kind, types, &entry.key, &mut Vec::new()).map_err(|why| {
                BuildError::new(ErrorKind::Conflict, Origin::new(path.clone(), entry.line), format!("crds: {why}"))
            })?;
        }
    }
    Ok(config)
}

fn properties<'n>(types: &'n Map, name: &str) -> Option<&'n Map> {
    let definition = types.get(name)?.as_map()?;
    let schema = definition.iter().find(|e| e.key.eq_ignore_ascii_case("schema"))?.value.as_map()?;
    schema.get("properties")?.as_map()
}

fn add(
    config: &mut Config,
    kind: &Arc<str>,
    types: &Map,
    name: &str,
    path: &mut Vec<Arc<str>>,
) -> std::result::Result<(), String> {
    if path.len() > DEPTH {
        return Err(format!("definitions refer to each other deeper than {DEPTH}"));
    }
    let Some(properties) = properties(types, name) else { return Ok(()) };
    for entry in properties {
        let Some(property) = entry.value.as_map() else { continue };
        let text = |key: &str| property.get(key).and_then(Node::as_str);
        path.push(entry.key.clone().into());
        let spec =
            |path: &[Arc<str>]| FieldSpec { kind: kind.clone(), path: path.join("/").into(), ..FieldSpec::default() };
        if text("x-kubernetes-annotation").is_some() {
            merge_spec(&mut config.common_annotations, &spec(path))?;
        }
        if text("x-kubernetes-label-selector").is_some() {
            merge_spec(&mut config.common_labels, &spec(path))?;
        }
        if text("x-kubernetes-identity").is_some() {
            merge_spec(&mut config.name_prefix, &spec(path))?;
        }
        if let (Some(version), Some(target)) =
            (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
        {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let mut below = path.clone();
            below.push(key.into());
            let reference = NameReference {
                group: "".into(),
                version: version.into(),
                kind: target.into(),
                referrers: vec![spec(&below)],
            };
            *config = config.merge(&Config { name_references: vec![reference], ..Config::default() })?;
        }
        if let Some(reference) = text("$ref") {
            add(config, kind, types, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}
