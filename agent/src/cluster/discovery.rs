//! Which kinds this cluster serves, where, and in which scope.
//!
//! Two requests (aggregated discovery) fill the table, or a part of it: an aggregated API that does not answer leaves its
//! groups unknown, and that a group is not listed is no proof that it is not served (an API server that has just started
//! lists nothing of its definitions). When it is read is decided in [`crate::discover`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use driftless_protocol::object::group_of;
use driftless_reconcile::flux;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery, APIVersionDiscovery};
use serde_json::Value;

use super::api::{Actor, Api, ApiError, Resource, chain};

/// How long both requests may take: a large cluster's answer has some MiB. Nothing waits for them but the first time.
const DEADLINE: Duration = Duration::from_secs(20);

/// Kinds by `(group, kind)`, each with its served versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    kinds: BTreeMap<(String, String), Vec<Resource>>,
}

/// What one look came to.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What is served as far as it was told.
    pub served: Served,
    /// Groups of which it was not told: there absence of a kind means nothing.
    pub unknown: BTreeSet<String>,
    /// Why, for people.
    pub gaps: Vec<String>,
    /// A right is missing: it cannot be known before somebody gives it.
    pub refused: Option<String>,
    /// The version of the API server, where it told.
    pub version: Option<String>,
}

impl Look {
    fn gap(&mut self, group: &str, why: String) {
        self.unknown.insert(group.to_owned());
        self.gaps.push(why);
    }
}

/// Asks the API server, the whole of it within a deadline.
pub async fn look(api: &Api) -> Result<Look, ApiError> {
    look_within(api, DEADLINE).await
}

pub(crate) async fn look_within(api: &Api, deadline: Duration) -> Result<Look, ApiError> {
    let groups = aggregated(api.client(), deadline).await?;
    let mut look = Look::default();
    let mut flux_listed = false;
    for group in groups {
        let name = name_of(&group);
        flux_listed |= name == flux::GROUP;
        for version in group.versions {
            if is_stale(&version) {
                let version = version.version.as_deref().unwrap_or_default();
                look.gap(&name, format!("the API {name}/{version} does not answer its API server"));
            }
            look.served.add(&name, version);
        }
    }
    // Where Flux acts, nothing is written: that it does not must be known, and not guessed from a list that may be short.
    if !flux_listed {
        ask_for_flux(api, &mut look).await;
    }
    let version = api.raw(&Actor::Agent, "/version").await.ok();
    look.version = version.as_ref().and_then(|v| v.get("gitVersion")).and_then(Value::as_str).map(str::to_owned);
    Ok(look)
}

async fn ask_for_flux(api: &Api, look: &mut Look) {
    let path = format!("/apis/{}", flux::GROUP);
    let error = match api.raw(&Actor::Agent, &path).await {
        Ok(_) => {
            return look.gap(flux::GROUP, "the API server serves Flux's kinds and does not list them yet".to_owned());
        }
        Err(error) if error.is_not_found() => return,
        Err(error) => error,
    };
    if matches!(error.status(), Some(401 | 403)) {
        let why = format!(
            "whether Flux is in this cluster cannot be asked: GET {path} is refused ({error}); the agent needs the right to \
             get the nonResourceURL /apis/*, as the ClusterRole system:discovery gives it to all who are authenticated"
        );
        look.refused = Some(why.clone());
        look.gap(flux::GROUP, why);
    } else {
        look.gap(flux::GROUP, format!("whether Flux is in this cluster is not known: {error}"));
    }
}

/// Every group with all its versions, the core group among them.
async fn aggregated(client: &kube::Client, deadline: Duration) -> Result<Vec<APIGroupDiscovery>, ApiError> {
    let both = async {
        let core = client.list_core_api_versions_aggregated().await?;
        let groups = client.list_api_groups_aggregated().await?;
        Ok::<_, kube::Error>((core.items, groups.items))
    };
    let what = "which kinds are served";
    let (mut all, groups) = match tokio::time::timeout(deadline, both).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return Err(ApiError::Unreachable(format!("{what}: {}", chain(&error)))),
        Err(_) => return Err(ApiError::Timeout(deadline)),
    };
    // Both are always there; an API server older than aggregated discovery answers with another kind of list.
    if all.is_empty() || groups.is_empty() {
        return Err(ApiError::Answer(format!(
            "{what}: it lists none (aggregated discovery, Kubernetes 1.27 or newer)"
        )));
    }
    all.extend(groups);
    Ok(all)
}

fn name_of(group: &APIGroupDiscovery) -> String {
    group.metadata.as_ref().and_then(|m| m.name.clone()).unwrap_or_default()
}

/// The API behind it did not answer when the API server asked for its kinds: what stands there is old, or nothing.
fn is_stale(version: &APIVersionDiscovery) -> bool {
    version.freshness.as_deref() == Some("Stale")
}

/// `None`: it names no kind of object.
fn resource_of(group: &str, version: &str, resource: APIResourceDiscovery) -> Option<(Resource, Vec<String>)> {
    let kind = resource.response_kind.and_then(|kind| kind.kind).filter(|kind| !kind.is_empty())?;
    let plural = resource.resource.filter(|plural| !plural.is_empty())?;
    let namespaced = resource.scope.as_deref() == Some("Namespaced");
    let found = Resource { group: group.to_owned(), version: version.to_owned(), kind, plural, namespaced };
    Some((found, resource.verbs))
}

impl Served {
    fn add(&mut self, group: &str, version: APIVersionDiscovery) {
        let name = version.version.unwrap_or_default();
        for (resource, _) in version.resources.into_iter().filter_map(|r| resource_of(group, &name, r)) {
            self.kinds.entry((group.to_owned(), resource.kind.clone())).or_default().push(resource);
        }
    }

    /// Keeps what was known of groups that are not known now.
    #[must_use]
    pub fn with_unknown(mut self, unknown: &BTreeSet<String>, before: &Self) -> Self {
        for (key, versions) in before.kinds.iter().filter(|((group, _), _)| unknown.contains(group)) {
            let known = self.kinds.entry(key.clone()).or_default();
            for resource in versions {
                if known.iter().all(|r| r.version != resource.version) {
                    known.push(resource.clone());
                }
            }
        }
        self
    }

    /// Kinds whose objects can be listed and made, each in the version the cluster prefers.
    pub async fn listable(client: &kube::Client) -> Result<Vec<Resource>, ApiError> {
        let mut all = Vec::new();
        for group in aggregated(client, DEADLINE).await? {
            let name = name_of(&group);
            let Some(preferred) = group.versions.into_iter().next() else { continue };
            let version = preferred.version.unwrap_or_default();
            let resources = preferred.resources.into_iter().filter_map(|r| resource_of(&name, &version, r));
            let usable = resources.filter(|(_, verbs)| ["list", "create"].iter().all(|v| verbs.iter().any(|w| w == v)));
            all.extend(usable.map(|(resource, _)| resource));
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

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that answers paths, and is silent where it has no answer.
    #[derive(Clone, Default)]
    pub(crate) struct Server(Arc<Mutex<BTreeMap<String, (u16, Value)>>>);

    impl Server {
        /// Serves Deployments, and what is given besides.
        pub(crate) fn new(more: &[Value]) -> Self {
            let server = Self::default();
            server.answer("/api", 200, list(&[group("", &[("v1", "Current", &[("configmaps", "ConfigMap")])])]));
            let mut groups = vec![group("apps", &[("v1", "Current", &[("deployments", "Deployment")])])];
            groups.extend_from_slice(more);
            server.answer("/apis", 200, list(&groups));
            server.answer("/version", 200, json!({"gitVersion": "v1.36.0"}));
            server.answer("/apis/kustomize.toolkit.fluxcd.io", 404, json!({"message": "not found", "code": 404}));
            server
        }

        pub(crate) fn answer(&self, path: &str, status: u16, body: Value) {
            self.0.lock().expect("the answers").insert(path.to_owned(), (status, body));
        }

        pub(crate) fn silent(&self, path: &str) {
            self.0.lock().expect("the answers").remove(path);
        }

        pub(crate) fn api(&self) -> Api {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let answer = server.0.lock().expect("the answers").get(request.uri().path()).cloned();
                async move {
                    let Some((status, body)) = answer else { return std::future::pending().await };
                    let body = Body::from(body.to_string().into_bytes());
                    Ok::<_, Infallible>(Response::builder().status(status).body(body).expect("a response"))
                }
            });
            Api::new(kube::Client::new(service, "driftless-system"), Duration::from_millis(200))
        }
    }

    fn list(groups: &[Value]) -> Value {
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": groups})
    }

    /// Name, freshness, and kinds by plural.
    type Version<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    pub(crate) fn group(name: &str, versions: &[Version<'_>]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(version, freshness, kinds)| {
                let resources: Vec<Value> = kinds
                    .iter()
                    .map(|(plural, kind)| {
                        json!({
                            "resource": plural, "responseKind": {"group": name, "version": version, "kind": kind},
                            "scope": "Namespaced", "verbs": ["create", "list", "watch"],
                        })
                    })
                    .collect();
                json!({"version": version, "freshness": freshness, "resources": resources})
            })
            .collect();
        json!({"metadata": {"name": name}, "versions": versions})
    }

    async fn seen(server: &Server) -> Result<Look, ApiError> {
        look_within(&server.api(), Duration::from_millis(200)).await
    }

    fn set(groups: &[&str]) -> BTreeSet<String> {
        groups.iter().map(|group| (*group).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_is_served_is_read_and_what_does_not_answer_is_unknown() {
        let stale = group("metrics.k8s.io", &[("v1beta1", "Stale", &[])]);
        let mixed = group("example.com", &[("v1", "Current", &[("widgets", "Widget")]), ("v1beta1", "Stale", &[])]);
        let whole = seen(&Server::new(&[])).await.expect("an answer");
        assert!(whole.gaps.is_empty() && whole.unknown.is_empty(), "{whole:?}");
        assert_eq!(whole.version.as_deref(), Some("v1.36.0"));
        assert_eq!(whole.served.any_version("apps", "Deployment").map(|r| r.plural.as_str()), Some("deployments"));
        assert_eq!(whole.served.namespaced("", "ConfigMap"), Some(true));

        let look = seen(&Server::new(&[stale, mixed])).await.expect("an answer");
        assert_eq!(look.unknown, set(&["example.com", "metrics.k8s.io"]));
        assert!(look.gaps[0].contains("metrics.k8s.io/v1beta1"), "{:?}", look.gaps);
        assert!(look.served.any_version("example.com", "Widget").is_some());
        // What was known of them stays, and nothing else does.
        let pods = group("metrics.k8s.io", &[("v1beta1", "Current", &[("pods", "PodMetrics")])]);
        let gone = group("gone.example", &[("v1", "Current", &[("things", "Thing")])]);
        let before = seen(&Server::new(&[pods, gone])).await.expect("an answer").served;
        let served = look.served.with_unknown(&look.unknown, &before);
        assert!(served.any_version("metrics.k8s.io", "PodMetrics").is_some());
        assert!(served.any_version("gone.example", "Thing").is_none());
    }

    #[tokio::test]
    async fn only_a_404_proves_that_flux_is_not_there() {
        let unknown = set(&[flux::GROUP]);
        let path = format!("/apis/{}", flux::GROUP);
        for (status, refused) in [(200, false), (503, false), (429, false), (401, true), (403, true)] {
            let server = Server::new(&[]);
            server.answer(&path, status, json!({"message": "said by the test", "code": status}));
            let look = seen(&server).await.expect("an answer");
            assert_eq!((&look.unknown, look.refused.is_some()), (&unknown, refused), "{status}");
            if refused {
                assert!(look.gaps[0].contains("system:discovery"), "{:?}", look.gaps);
            }
        }
        let server = Server::new(&[]);
        server.silent(&path);
        assert_eq!(seen(&server).await.expect("an answer").unknown, unknown, "no answer");
        // Listed: it needs no question.
        let listed = group(flux::GROUP, &[("v1", "Current", &[("kustomizations", "Kustomization")])]);
        let server = Server::new(&[listed]);
        server.silent(&path);
        assert!(seen(&server).await.expect("an answer").unknown.is_empty());
    }

    #[tokio::test]
    async fn a_server_that_is_silent_or_lists_nothing_is_no_answer() {
        for path in ["/api", "/apis"] {
            let server = Server::new(&[]);
            server.silent(path);
            assert!(matches!(seen(&server).await, Err(ApiError::Timeout(_))), "{path}");
            server.answer(path, 200, list(&[]));
            assert!(matches!(seen(&server).await, Err(ApiError::Answer(_))), "{path}");
            server.answer(path, 200, json!({"kind": "APIGroupList", "groups": [{"name": "apps"}]}));
            assert!(matches!(seen(&server).await, Err(ApiError::Answer(_))), "{path}");
        }
    }

    #[tokio::test]
    async fn kinds_to_list_come_in_the_preferred_version() {
        let both: &[(&str, &str)] = &[("widgets", "Widget")];
        let widgets = group("example.com", &[("v2", "Current", both), ("v1", "Current", both)]);
        let all = Served::listable(Server::new(&[widgets]).api().client()).await.expect("an answer");
        let names: Vec<(&str, &str)> = all.iter().map(|r| (r.kind.as_str(), r.version.as_str())).collect();
        assert_eq!(names, [("ConfigMap", "v1"), ("Deployment", "v1"), ("Widget", "v2")]);
    }
}
