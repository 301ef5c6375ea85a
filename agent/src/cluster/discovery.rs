//! Which kinds this cluster serves, where, and in which scope.
//!
//! Two requests (aggregated discovery) fill the table. It is read again when somebody asks for a kind that is not in it,
//! and when a CustomResourceDefinition or APIService changes; never on a timer.

use std::collections::BTreeMap;

use driftless_protocol::object::group_of;
use kube::discovery::{Discovery, Scope, verbs};

use super::api::{ApiError, Resource, chain};

/// Kinds by `(group, kind)`, each with its served versions.
#[derive(Clone, Debug, Default)]
pub struct Served {
    kinds: BTreeMap<(String, String), Vec<Resource>>,
}

impl Served {
    /// Asks the API server.
    pub async fn discover(client: &kube::Client) -> Result<Self, ApiError> {
        let discovery = Discovery::new(client.clone())
            .run_aggregated()
            .await
            .map_err(|e| ApiError::Unreachable(format!("which kinds are served: {}", chain(&e))))?;
        let mut kinds: BTreeMap<(String, String), Vec<Resource>> = BTreeMap::new();
        for group in discovery.groups() {
            for version in group.versions() {
                for (resource, capabilities) in group.versioned_resources(version) {
                    kinds.entry((resource.group.clone(), resource.kind.clone())).or_default().push(Resource {
                        group: resource.group,
                        version: resource.version,
                        kind: resource.kind,
                        plural: resource.plural,
                        namespaced: capabilities.scope == Scope::Namespaced,
                    });
                }
            }
        }
        Ok(Self { kinds })
    }

    /// Kinds whose objects can be listed and made, each in the version the cluster prefers.
    pub async fn listable(client: &kube::Client) -> Result<Vec<Resource>, ApiError> {
        let discovery = Discovery::new(client.clone())
            .run_aggregated()
            .await
            .map_err(|e| ApiError::Unreachable(format!("which kinds are served: {}", chain(&e))))?;
        let mut all = Vec::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                if capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::CREATE) {
                    all.push(Resource {
                        group: resource.group,
                        version: resource.version,
                        kind: resource.kind,
                        plural: resource.plural,
                        namespaced: capabilities.scope == Scope::Namespaced,
                    });
                }
            }
        }
        all.sort_by(|a, b| (&a.kind, &a.group).cmp(&(&b.kind, &b.group)));
        Ok(all)
    }

    /// The resource of a kind at exactly this `apiVersion`.
    #[must_use]
    pub fn resource(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let group = group_of(api_version);
        let version = api_version.rsplit('/').next().unwrap_or(api_version);
        self.versions(group, kind).iter().find(|r| r.version == version)
    }

    /// The resource of a kind at any served version, the cluster's preferred first: for deleting and reading what was
    /// applied at a version that is gone.
    #[must_use]
    pub fn any_version(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.versions(group, kind).first()
    }

    /// Whether the objects of a kind live in namespaces; `None` when it is not served.
    #[must_use]
    pub fn namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        self.any_version(group, kind).map(|r| r.namespaced)
    }

    /// Every kind with its served versions, preferred first: group, kind, resources.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str, &[Resource])> {
        self.kinds.iter().map(|((group, kind), versions)| (group.as_str(), kind.as_str(), versions.as_slice()))
    }

    fn versions(&self, group: &str, kind: &str) -> &[Resource] {
        self.kinds.get(&(group.to_owned(), kind.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// How many kinds are served.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether nothing is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}
