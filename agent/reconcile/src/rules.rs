//! Settings of the engine: one value per decision, each with its default and its source.

use driftless_protocol::{guard, marks};

/// Settings of an [`Engine`](crate::engine::Engine).
#[derive(Clone, Debug)]
pub struct Rules {
    /// Keys every stored or reported hash, so that nobody with read rights on the inventory can guess secret values.
    /// Random, kept by the agent for the cluster's life; another key costs one dry run per object.
    pub hash_key: [u8; 32],
    /// Field managers that are people at a keyboard: exact, or a prefix when it ends in `*`.
    pub humans: Vec<String>,
    /// Field managers of other GitOps tools, written likewise.
    pub tools: Vec<String>,
    /// Namespaces that are never deleted, whatever the bundle says (what is in them may be).
    pub protected_namespaces: Vec<String>,
    /// Namespace of the agent: nothing in it is pruned.
    pub agent_namespace: String,
    /// Deletes within a rolling hour without approval: at least this many ...
    pub delete_budget_min: u32,
    /// ... or this share of the inventory, in percent, if more.
    pub delete_budget_percent: u32,
    /// Deletes that even an approval may not exceed in a rolling hour; `None`: no cap.
    pub approved_delete_cap: Option<u32>,
    /// Requests in flight at once, over all units.
    pub in_flight: usize,
    /// Nothing is written: everything is compared and reported (the cluster's shadow option).
    pub shadow: bool,
}

impl Rules {
    /// The defaults of decisions.md, with this key.
    #[must_use]
    pub fn new(hash_key: [u8; 32]) -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            hash_key,
            // `before-first-apply` is what the API server calls fields written before server-side apply came;
            // the others are kubectl and the tools people use in its place (k9s, Lens, the dashboard).
            humans: list(&[
                "kubectl*",
                "before-first-apply",
                "k9s",
                "node-fetch",
                "Mozilla",
                "dashboard*",
                "lens*",
                "oc",
            ]),
            tools: list(&[
                "kustomize-controller",
                "helm-controller",
                "flux*",
                "helm",
                "Helm",
                "argocd*",
                "fleetagent",
                "fleet-agent",
                "configsync*",
                // What a restore writes is owned by the tool that restores.
                "velero*",
            ]),
            protected_namespaces: list(&guard::KUBERNETES_NAMESPACES),
            agent_namespace: marks::AGENT_NAMESPACE.to_owned(),
            delete_budget_min: guard::DELETE_BUDGET_MIN,
            delete_budget_percent: guard::DELETE_BUDGET_PERCENT,
            approved_delete_cap: None,
            // Enough to cover a round trip of 5 to 8 ms on one API server; more only queues there.
            in_flight: 32,
            shadow: false,
        }
    }
}
