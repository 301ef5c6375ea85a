//! What guards deletion: the rules that an agent enforces and that a plan foretells (decisions.md, "In the cluster").

use crate::marks::DOMAIN;
use crate::object::ObjectKey;

/// Deletes within a rolling hour without approval: at least this many ...
pub const DELETE_BUDGET_MIN: u32 = 20;
/// ... or this share of the inventory, in percent, if more.
pub const DELETE_BUDGET_PERCENT: u32 = 10;
/// Namespaces that Kubernetes itself needs: never deleted, whatever a bundle says.
pub const KUBERNETES_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// How many deletes an hour may see without approval, by these two rules.
#[must_use]
pub fn budget(inventory: usize, min: u32, percent: u32) -> u32 {
    let share = inventory.saturating_mul(percent as usize) / 100;
    min.max(u32::try_from(share).unwrap_or(u32::MAX))
}

/// Kinds whose deletion takes other things with it: always approved first.
#[must_use]
pub fn is_protected(key: &ObjectKey) -> bool {
    matches!(
        (key.group.as_str(), key.kind.as_str()),
        ("", "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

/// A Namespace.
#[must_use]
pub fn is_namespace(key: &ObjectKey) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

/// Why an agent in this namespace does not apply an object: its chart does, or the agent itself. A bundle that could change
/// the agent's records, accounts or rights could take its guards away.
#[must_use]
pub fn not_for_bundles(key: &ObjectKey, agent_namespace: &str) -> Option<&'static str> {
    let own_name = key.name == "driftless" || key.name.starts_with("driftless-");
    if key.namespace == agent_namespace {
        let kinds = ["", "apps", "rbac.authorization.k8s.io", "coordination.k8s.io", "policy"];
        return (own_name && kinds.contains(&key.group.as_str())).then_some("it belongs to the agent");
    }
    part_of_agent(key, agent_namespace)
}

/// Why an agent in this namespace never deletes an object: it is part of what the agent runs on.
#[must_use]
pub fn part_of_agent(key: &ObjectKey, agent_namespace: &str) -> Option<&'static str> {
    if key.namespace == agent_namespace || (is_namespace(key) && key.name == agent_namespace) {
        return Some("it belongs to the agent");
    }
    let own_kind = key.group == "apiextensions.k8s.io" && key.name.ends_with(&format!(".{DOMAIN}"));
    if own_kind && key.kind == "CustomResourceDefinition" {
        return Some("it is a kind of the agent's");
    }
    // The chart's cluster-wide names all begin so; without them the agent could not even report.
    let cluster_wide = key.namespace.is_empty() && key.group == "rbac.authorization.k8s.io";
    (cluster_wide && (key.name == "driftless" || key.name.starts_with("driftless-")))
        .then_some("it gives the agent its rights")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_share_and_never_below_the_least() {
        for (inventory, expected) in [(0, 20), (200, 20), (209, 20), (210, 21), (20_000, 2000), (usize::MAX, u32::MAX)]
        {
            assert_eq!(budget(inventory, DELETE_BUDGET_MIN, DELETE_BUDGET_PERCENT), expected, "of {inventory}");
        }
    }

    #[test]
    fn what_the_agent_runs_on_is_never_deleted() {
        let key = |group: &str, kind: &str, namespace: &str, name: &str| ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let rbac = "rbac.authorization.k8s.io";
        for (key, expected) in [
            (key("", "Secret", "driftless-system", "x"), true),
            (key("", "Namespace", "", "driftless-system"), true),
            (key("", "Secret", "", "driftless-system"), false),
            (key(rbac, "ClusterRole", "", "driftless-agent"), true),
            (key(rbac, "ClusterRole", "", "driftlessly"), false),
            (key(rbac, "Role", "apps", "driftless-agent"), false),
            (key("apps", "Deployment", "", "driftless-agent"), false),
            (key("apiextensions.k8s.io", "CustomResourceDefinition", "", "pauses.driftless.dev"), true),
            (key("apiextensions.k8s.io", "CustomResourceDefinition", "", "pauses.notdriftless.dev"), false),
        ] {
            assert_eq!(part_of_agent(&key, "driftless-system").is_some(), expected, "{key}");
        }
    }

    #[test]
    fn what_the_chart_and_the_agent_write_no_bundle_does() {
        let key = |group: &str, kind: &str, namespace: &str, name: &str| ObjectKey {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let (home, rbac) = ("driftless-system", "rbac.authorization.k8s.io");
        for (key, refused) in [
            (key("", "Secret", home, "driftless-identity"), true),
            (key("", "ConfigMap", home, "driftless-inventory-0"), true),
            (key("apps", "DaemonSet", home, "driftless-agent"), true),
            (key("coordination.k8s.io", "Lease", home, "driftless-agent"), true),
            (key("", "Namespace", "", home), true),
            (key(rbac, "ClusterRoleBinding", "", "driftless-applier"), true),
            (key("apiextensions.k8s.io", "CustomResourceDefinition", "", "units.driftless.dev"), true),
            // What a platform adds beside it is its own affair.
            (key("", "ResourceQuota", home, "platform"), false),
            (key("networking.k8s.io", "NetworkPolicy", home, "driftless-agent"), false),
            (key("driftless.dev", "Pause", home, "driftless-night"), false),
            (key("helm.toolkit.fluxcd.io", "HelmRelease", home, "driftless-agent"), false),
            (key("apps", "Deployment", "apps", "driftless-demo"), false),
        ] {
            assert_eq!(not_for_bundles(&key, home).is_some(), refused, "{key}");
        }
    }
}
