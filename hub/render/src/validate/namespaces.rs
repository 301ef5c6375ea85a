//! Objects in namespaces that nothing declares.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Cluster;
use crate::flux::{RenderState, RenderedObject, RenderedUnit};
use crate::report::{Code, Problem};

/// Namespaces that every cluster has, and those that Flux and Driftless are installed into.
const ALWAYS: &[&str] =
    &["default", "kube-system", "kube-public", "kube-node-lease", "flux-system", "driftless-system"];

/// One problem for each such namespace, at its first object.
pub(super) fn undeclared(cluster: &Cluster<'_>, say: &mut dyn FnMut(Problem)) {
    let mut declared: BTreeSet<String> = ALWAYS.iter().map(|n| (*n).to_owned()).collect();
    declared.extend(cluster.namespaces.iter().cloned());
    if let Some(facts) = cluster.facts {
        // A cluster that has a ConfigMap has its namespace.
        declared.extend(facts.config_maps.keys().filter_map(|key| Some(key.split_once('/')?.0.to_owned())));
    }
    let mut used: BTreeMap<&str, Vec<(&RenderedUnit, &RenderedObject)>> = BTreeMap::new();
    for (unit, object) in cluster.rendered.objects() {
        match (object.key.group.as_str(), object.key.kind.as_str()) {
            ("", "Namespace") => _ = declared.insert(object.key.name.to_string()),
            // A withheld or second Namespace is there all the same; see below.
            ("helm.toolkit.fluxcd.io", "HelmRelease") => declared.extend(made_by_release(object)),
            _ => {}
        }
        if !object.key.namespace.is_empty() {
            used.entry(&object.key.namespace).or_default().push((unit, object));
        }
    }
    let withheld = cluster.rendered.units.iter().flat_map(RenderedUnit::withheld);
    declared.extend(withheld.filter(|w| w.key.kind == "Namespace").map(|w| w.key.name.to_string()));
    let unknown = cluster.rendered.units.iter().filter(|u| !matches!(u.state, RenderState::Full { .. })).count();
    for (namespace, objects) in used.iter().filter(|(n, _)| !declared.contains(**n)) {
        let Some((unit, first)) = objects.first() else { continue };
        let others = match objects.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} other objects"),
        };
        let perhaps = match unknown {
            0 => String::new(),
            1 => "; perhaps the unit that was not rendered does".to_owned(),
            n => format!("; perhaps one of the {n} units that were not rendered does"),
        };
        let message = format!("{}{others}: nothing in Git declares namespace {namespace}{perhaps}", first.key);
        say(Problem::new(Code::NamespaceUndeclared, &unit.id, Some(first.origin.clone()), message));
    }
}

/// The namespace a HelmRelease has its controller make.
fn made_by_release(object: &RenderedObject) -> Option<String> {
    let value = object.value()?;
    (value.pointer("/spec/install/createNamespace") == Some(&Value::Bool(true))).then_some(())?;
    let target = value.pointer("/spec/targetNamespace").and_then(Value::as_str);
    Some(target.unwrap_or(&object.key.namespace).to_owned())
}
