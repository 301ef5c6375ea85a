//! The order of the output.

use super::error::{BuildError, ErrorKind, Origin};
use super::file::Sort;
use super::res::{Id, Objects, split_api};
use std::collections::HashMap;

const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// A sort key of a kind: the table first, then group, version and kind as text.
pub(crate) fn kind_rank(group: &str, version: &str, kind: &str) -> (i64, String) {
    let rank = ranks(FIRST, LAST).get(kind).copied().unwrap_or(0);
    (rank, gvk_text(group, version, kind))
}

fn ranks<S: AsRef<str>>(first: &[S], last: &[S]) -> HashMap<String, i64> {
    let mut out = HashMap::new();
    for (i, kind) in first.iter().enumerate() {
        out.insert(kind.as_ref().to_owned(), i as i64 - first.len() as i64);
    }
    for (i, kind) in last.iter().enumerate() {
        out.insert(kind.as_ref().to_owned(), 1 + i as i64);
    }
    out
}

fn gvk_text(group: &str, version: &str, kind: &str) -> String {
    let or = |text: &str, none: &'static str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
    format!("{}_{}_{}", or(group, "~G"), or(version, "~V"), or(kind, "~K"))
}

/// Sorts by `sortOptions`, or by the legacy order when there are none.
pub(crate) fn sort(objects: &mut Objects, options: Option<&Sort>, place: &Origin) -> Result<(), BuildError> {
    let legacy = match options.map(|o| o.order.as_str()) {
        None | Some("legacy") => true,
        Some("fifo") => false,
        Some(other) => {
            return Err(BuildError::new(
                ErrorKind::Field,
                place.clone(),
                format!("sortOptions.order {other:?} is neither fifo nor legacy"),
            ));
        }
    };
    let custom = options.and_then(|o| o.first_last.as_ref());
    if !legacy {
        if custom.is_some() {
            return Err(BuildError::new(
                ErrorKind::Field,
                place.clone(),
                "sortOptions.legacySortOptions is set, but the order is fifo",
            ));
        }
        return Ok(());
    }
    let ranks = match custom {
        Some((first, last)) => ranks(first, last),
        None => ranks(FIRST, LAST),
    };
    objects.list_mut().sort_by_cached_key(|res| {
        let id = res.id();
        let (group, version) = split_api(&id.api);
        let rank = ranks.get(&*id.kind).copied().unwrap_or(0);
        // Namespaces of a group come after the core ones.
        let late = &*id.kind == "Namespace" && !group.is_empty();
        (rank, late, gvk_text(group, version, &id.kind), id_text(&id))
    });
    objects.check_unique()
}

fn id_text(id: &Id) -> String {
    let or = |text: &str, none: &'static str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
    // The real program compares one text in which these stand behind each other, separated by a bar.
    format!("{}|{}", or(&id.namespace, "~X"), or(&id.name, "~N"))
}
