//! Checks on what was rendered that need no cluster: what the API server would refuse anyway, said before it does.

use std::collections::BTreeSet;

use crate::flux::{RenderedCluster, RenderedObject, RenderedUnit};
use crate::report::{Code, Problem};
use crate::scope::{is_cluster_scoped, is_namespaced};
use crate::validate::versions::{self, Lifecycle};

/// The oldest minor version of Kubernetes 1 that its makers still mend (end of 2026): what it does not serve, none does.
const OLDEST_SUPPORTED: u32 = 34;

/// Every finding, by unit and in the order of the objects. Findings hold nothing back: the API server has the last word.
#[must_use]
pub fn lint(rendered: &RenderedCluster) -> Vec<Problem> {
    let mut out = Vec::new();
    let defined = namespaced_here(rendered);
    for unit in &rendered.units {
        for object in unit.objects() {
            namespace(unit, object, &defined, &mut out);
            removed_version(unit, object, &mut out);
        }
    }
    out
}

/// Group and kind of what this cluster's CustomResourceDefinitions put into namespaces; looked for only when some object of
/// such a kind may lack one.
fn namespaced_here(rendered: &RenderedCluster) -> BTreeSet<(String, String)> {
    let lacks =
        |o: &RenderedObject| o.key.namespace.is_empty() && o.key.group.contains('.') && !is_cluster_scoped(&o.key);
    if !rendered.objects().any(|(_, o)| lacks(o)) {
        return BTreeSet::new();
    }
    let definitions = rendered.definitions().filter_map(|(_, o)| o.value());
    definitions
        .filter_map(|crd| {
            let text = |path: &str| crd.pointer(path)?.as_str();
            let namespaced = text("/spec/scope") == Some("Namespaced");
            namespaced.then(|| Some((text("/spec/group")?.to_owned(), text("/spec/names/kind")?.to_owned())))?
        })
        .collect()
}

fn namespace(
    unit: &RenderedUnit,
    object: &RenderedObject,
    defined: &BTreeSet<(String, String)>,
    out: &mut Vec<Problem>,
) {
    let needs =
        || is_namespaced(&object.key) || defined.contains(&(object.key.group.to_string(), object.key.kind.to_string()));
    if object.key.namespace.is_empty() && needs() {
        let message = format!(
            "{} has no namespace, and its kind needs one: it is not applied; set metadata.namespace, or \
             spec.targetNamespace of unit {}",
            object.key, unit.id
        );
        out.push(Problem::new(Code::NamespaceMissing, &unit.id, Some(object.origin.clone()), message));
    }
    if !object.key.namespace.is_empty() && is_cluster_scoped(&object.key) {
        let message = format!("{} has a namespace, and its kind has none; remove metadata.namespace", object.key);
        out.push(Problem::new(Code::NamespaceUnexpected, &unit.id, Some(object.origin.clone()), message));
    }
}

/// API versions no supported Kubernetes serves any more.
fn removed_version(unit: &RenderedUnit, object: &RenderedObject, out: &mut Vec<Problem>) {
    let lifecycle = versions::lifecycle(&object.api_version, &object.key.kind, OLDEST_SUPPORTED);
    let Some(Lifecycle::Removed(since, replacement)) = lifecycle else { return };
    let message = format!(
        "{} is written in {}, which Kubernetes does not serve since 1.{since}; use {replacement}",
        object.key, object.api_version
    );
    out.push(Problem::new(Code::RemovedVersion, &unit.id, Some(object.origin.clone()), message));
}
