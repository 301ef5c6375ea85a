//! What comes before what: stages and kinds inside a unit, units among each other.

use std::collections::BTreeMap;

use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;

/// A stage of a unit's apply. Each waits until the one before is there and healthy (facts: fluxcd/pkg ssa,
/// `ApplyAllStaged`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// CustomResourceDefinitions, Namespaces, ClusterRoles.
    Definitions,
    /// Kinds whose name ends in `Class`.
    Classes,
    /// The rest.
    Resources,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Definitions, Self::Classes, Self::Resources];

    /// The stage of an object.
    #[must_use]
    pub fn of(key: &ObjectKey) -> Self {
        match (key.group.as_str(), key.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("", "Namespace")
            | ("rbac.authorization.k8s.io", "ClusterRole") => Self::Definitions,
            (_, kind) if kind.ends_with("Class") => Self::Classes,
            _ => Self::Resources,
        }
    }

    /// For people: what a later stage waits for.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Definitions => "CRDs, Namespaces and ClusterRoles",
            Self::Classes => "*Class objects",
            Self::Resources => "the other objects",
        }
    }
}

/// Kinds in the order Flux applies them (facts: fluxcd/pkg ssa v0.78, `ReconcileOrder`). Kinds not listed come after
/// these and before [`LAST`].
const FIRST: [&str; 23] = [
    "CustomResourceDefinition",
    "Namespace",
    "ClusterRole",
    "ClusterClass",
    "RuntimeClass",
    "PriorityClass",
    "StorageClass",
    "VolumeSnapshotClass",
    "IngressClass",
    "GatewayClass",
    "ClusterRoleBinding",
    "ResourceQuota",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "LimitRange",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];

/// Applied last: they may forbid what comes before.
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Where a kind stands in Flux's order: 0 first.
#[must_use]
pub fn rank(kind: &str) -> u8 {
    let position = |list: &[&str]| list.iter().position(|k| *k == kind);
    let rank = match (position(&FIRST), position(&LAST)) {
        (Some(first), _) => first,
        (None, Some(last)) => FIRST.len() + 1 + last,
        (None, None) => FIRST.len(),
    };
    rank as u8
}

/// The sort key of an object inside its unit; deletes go the other way round.
#[must_use]
pub fn sort_key(key: &ObjectKey) -> (Stage, u8, &str, &str, &str, &str) {
    (Stage::of(key), rank(&key.kind), &key.group, &key.kind, &key.namespace, &key.name)
}

/// Units that depend on themselves, through others: for each unit of a cycle, the cycle as a sentence.
///
/// A unit that only waits for a cycle is not part of it. Unknown dependencies are no edges.
#[must_use]
pub fn cycles<'a>(units: impl IntoIterator<Item = (&'a UnitId, &'a [UnitId])>) -> BTreeMap<UnitId, String> {
    let edges: BTreeMap<&UnitId, &[UnitId]> = units.into_iter().collect();
    let mut found = BTreeMap::new();
    // Depth first without recursion: a chain may be as long as there are units.
    let mut done: BTreeMap<&UnitId, bool> = BTreeMap::new();
    for start in edges.keys() {
        if done.contains_key(start) {
            continue;
        }
        let mut path: Vec<(&UnitId, usize)> = vec![(start, 0)];
        done.insert(start, false);
        while let Some((unit, next)) = path.last_mut() {
            let unit = *unit;
            let Some(target) = edges.get(unit).and_then(|targets| targets.get(*next)) else {
                done.insert(unit, true);
                path.pop();
                continue;
            };
            *next += 1;
            let Some((target, _)) = edges.get_key_value(target) else { continue };
            match done.get(target) {
                None => {
                    done.insert(target, false);
                    path.push((target, 0));
                }
                Some(true) => {}
                Some(false) => {
                    let from = path.iter().position(|(on_path, _)| on_path == target).unwrap_or(0);
                    let ring: Vec<String> = path[from..].iter().map(|(unit, _)| unit.to_string()).collect();
                    let text = format!("{} -> {}", ring.join(" -> "), target);
                    for (unit, _) in &path[from..] {
                        found.entry((*unit).clone()).or_insert_with(|| text.clone());
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, kind: &str) -> ObjectKey {
        ObjectKey { group: group.into(), kind: kind.into(), namespace: "".into(), name: "x".into() }
    }

    #[test]
    fn objects_are_staged_and_ordered_as_flux_does() {
        let order = [
            key("apiextensions.k8s.io", "CustomResourceDefinition"),
            key("", "Namespace"),
            key("rbac.authorization.k8s.io", "ClusterRole"),
            key("storage.k8s.io", "StorageClass"),
            key("acme.example", "WidgetClass"),
            key("rbac.authorization.k8s.io", "ClusterRoleBinding"),
            key("", "ServiceAccount"),
            key("", "ConfigMap"),
            key("apps", "Deployment"),
            key("policy", "PodDisruptionBudget"),
            key("acme.example", "Widget"),
            key("networking.k8s.io", "Ingress"),
            key("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ];
        for pair in order.windows(2) {
            assert!(sort_key(&pair[0]) < sort_key(&pair[1]), "{} before {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_cycle_is_named_and_what_hangs_on_it_is_not_blamed() {
        let unit = |name: &str| UnitId::kustomization("f", name);
        let units = [
            (unit("a"), vec![unit("b")]),
            (unit("b"), vec![unit("c")]),
            (unit("c"), vec![unit("b"), unit("gone")]),
            (unit("d"), vec![unit("d")]),
            (unit("e"), vec![]),
        ];
        let found = cycles(units.iter().map(|(unit, on)| (unit, on.as_slice())));
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), [unit("b"), unit("c"), unit("d")]);
        assert_eq!(found[&unit("c")], "f/b -> f/c -> f/b");
        assert_eq!(found[&unit("d")], "f/d -> f/d");
    }
}
