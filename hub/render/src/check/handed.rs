//! Objects handed through to their own controllers: what they need, and whether they can still work.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::ClusterName;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::Controller;
use crate::flux::{RenderState, RenderedCluster, RenderedObject, RenderedUnit, path};
use crate::report::{Code, Problem};
use crate::tree::{Entry, Tree};

/// Files looked through for the marks of image automation, and bytes of each: beyond any real repository, and a bound.
const MARK_FILES: usize = 50_000;
const MARK_BYTES: u64 = 1 << 20;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) controllers: Vec<Controller>,
    pub(super) problems: BTreeMap<ClusterName, Vec<Problem>>,
}

/// Looks at every handed-through object of every cluster.
pub(super) fn examine(tree: &dyn Tree, rendered: &[(ClusterName, RenderedCluster)]) -> Handed {
    let mut out = Handed::default();
    let mut controllers: BTreeMap<String, Controller> = BTreeMap::new();
    let mut marks: BTreeMap<String, Marks> = BTreeMap::new();
    let policies = Policies::of(rendered);
    for (name, cluster) in rendered {
        let view = View::of(cluster);
        let mut problems = Vec::new();
        for (unit, object) in cluster.objects() {
            if !object.handed_through {
                continue;
            }
            let Some(value) = object.value() else { continue };
            let about = About { unit, object, value: &value };
            let entry =
                controllers.entry(format!("{}.{}", object.key.kind, object.key.group)).or_insert_with_key(|kind| {
                    let controller = controller_of(&object.key).to_owned();
                    let (clusters, needs) = (BTreeSet::new(), BTreeMap::new());
                    Controller { kind: kind.clone(), controller, objects: 0, clusters, needs }
                });
            entry.objects += 1;
            entry.clusters.insert(name.clone());
            for need in about.needs().filter(|need| !view.brings(need)) {
                // Where an object without a namespace goes.
                let namespace = if need.namespace.is_empty() { "default" } else { need.namespace.as_str() };
                let text = format!("{} {namespace}/{}", need.kind, need.name);
                entry.needs.entry(text).or_default().insert(name.clone());
            }
            about.references(&view, &mut problems);
            match object.key.kind.as_str() {
                "ImageUpdateAutomation" => {
                    about.image_updates(&view, tree, &policies, &mut marks, &mut problems);
                }
                "Alert" | "Receiver" => about.listener(cluster, &mut problems),
                "FluxInstance" => about.instance("/spec", &mut problems),
                "HelmRelease" => about.instance("/spec/values/instance", &mut problems),
                _ => {}
            }
        }
        out.problems.insert(name.clone(), problems);
    }
    out.controllers = controllers.into_values().collect();
    out
}

/// The program that acts on a kind.
fn controller_of(key: &ObjectKey) -> &'static str {
    match (key.group.as_str(), key.kind.as_str()) {
        ("helm.toolkit.fluxcd.io", _) => "helm-controller",
        ("source.toolkit.fluxcd.io", _) => "source-controller",
        ("notification.toolkit.fluxcd.io", _) => "notification-controller",
        ("image.toolkit.fluxcd.io", "ImageUpdateAutomation") => "image-automation-controller",
        ("image.toolkit.fluxcd.io", _) => "image-reflector-controller",
        ("source.extensions.fluxcd.io", _) => "source-watcher",
        ("fluxcd.controlplane.io", _) => "flux-operator",
        ("flagger.app", _) => "flagger",
        _ => "",
    }
}

/// What a cluster's bundle brings, by key.
struct View<'a> {
    cluster: &'a RenderedCluster,
    sent: BTreeMap<&'a ObjectKey, &'a RenderedObject>,
    /// Not sent, and why.
    withheld: BTreeMap<&'a ObjectKey, (&'a RenderedUnit, &'a str)>,
    /// A unit whose objects are not known here: held, or suspended.
    unknown: Option<&'a RenderedUnit>,
    /// Secrets, by namespace and name, that objects in the bundle have made in the cluster.
    made: BTreeSet<(String, String)>,
}

impl<'a> View<'a> {
    fn of(cluster: &'a RenderedCluster) -> Self {
        let objects = cluster.objects().map(|(_, o)| (&o.key, o));
        let withheld =
            cluster.units.iter().flat_map(|u| u.withheld().iter().map(move |w| (&w.key, (u, w.message.as_str()))));
        let unknown = cluster.units.iter().find(|u| !matches!(u.state, RenderState::Full { .. }));
        let made = cluster.objects().filter_map(|(_, o)| made_secret(o)).collect();
        Self { cluster, sent: objects.collect(), withheld: withheld.collect(), unknown, made }
    }

    fn brings(&self, key: &ObjectKey) -> bool {
        self.sent.contains_key(key)
            || (key.kind == "Secret" && self.made.contains(&(key.namespace.to_string(), key.name.to_string())))
    }
}

/// The Secret that an object has its controller make: its namespace and name.
fn made_secret(object: &RenderedObject) -> Option<(String, String)> {
    let pointer = match (object.key.group.as_str(), object.key.kind.as_str()) {
        ("external-secrets.io", "ExternalSecret") => "/spec/target/name",
        ("bitnami.com", "SealedSecret") => "/spec/template/metadata/name",
        ("cert-manager.io", "Certificate") => "/spec/secretName",
        _ => return None,
    };
    let (value, _) = super::value_of(object)?;
    let name = value.pointer(pointer).and_then(Value::as_str).unwrap_or(&object.key.name);
    Some((object.key.namespace.to_string(), name.to_owned()))
}

/// One handed-through object.
struct About<'a> {
    unit: &'a RenderedUnit,
    object: &'a RenderedObject,
    value: &'a Value,
}

impl About<'_> {
    fn problem(&self, code: Code, message: String) -> Problem {
        Problem::new(code, &self.unit.id, Some(self.object.origin.clone()), message)
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str).filter(|t| !t.is_empty())
    }

    /// A key of the object's own namespace unless it says another.
    fn key(&self, group: &str, kind: &str, reference: &Value) -> Option<ObjectKey> {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        Some(ObjectKey {
            group: group.into(),
            kind: text("kind").unwrap_or(kind).into(),
            namespace: text("namespace").unwrap_or(&self.object.key.namespace).into(),
            name: text("name")?.into(),
        })
    }

    /// Secrets and ConfigMaps that its controller reads.
    fn needs(&self) -> impl Iterator<Item = ObjectKey> {
        let mut out = Vec::new();
        for pointer in ["/spec/secretRef", "/spec/certSecretRef", "/spec/proxySecretRef", "/spec/verify/secretRef"] {
            out.extend(self.at(pointer).and_then(|r| self.key("", "Secret", r)));
        }
        for pointer in ["/spec/git/commit/signingKey/secretRef", "/spec/kubeConfig/secretRef"] {
            out.extend(self.at(pointer).and_then(|r| self.key("", "Secret", r)));
        }
        for reference in self.at("/spec/valuesFrom").and_then(Value::as_array).into_iter().flatten() {
            if reference.get("optional").and_then(Value::as_bool) != Some(true) {
                out.extend(self.key("", "ConfigMap", reference));
            }
        }
        out.into_iter()
    }

    /// Objects of other handed-through kinds without which this one does nothing.
    fn references(&self, view: &View<'_>, problems: &mut Vec<Problem>) {
        const SOURCE: &str = "source.toolkit.fluxcd.io";
        const HELM: &str = "helm.toolkit.fluxcd.io";
        const IMAGE: &str = "image.toolkit.fluxcd.io";
        let own = (self.object.key.group.as_str(), self.object.key.kind.as_str());
        let fields: &[(&str, &str, &str)] = match own {
            (HELM, "HelmRelease") => &[
                ("/spec/chart/spec/sourceRef", SOURCE, "HelmRepository"),
                ("/spec/chartRef", SOURCE, "OCIRepository"),
                ("/spec/dependsOn", HELM, "HelmRelease"),
            ],
            (SOURCE, "HelmChart") => &[("/spec/sourceRef", SOURCE, "HelmRepository")],
            (IMAGE, "ImagePolicy") => &[("/spec/imageRepositoryRef", IMAGE, "ImageRepository")],
            (IMAGE, "ImageUpdateAutomation") => &[("/spec/sourceRef", SOURCE, "GitRepository")],
            ("notification.toolkit.fluxcd.io", "Alert") => {
                &[("/spec/providerRef", "notification.toolkit.fluxcd.io", "Provider")]
            }
            _ => &[],
        };
        for (pointer, group, kind) in fields {
            let list = match self.at(pointer) {
                Some(Value::Array(list)) => list.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for key in list.iter().filter_map(|reference| self.key(group, kind, reference)) {
                self.reference(pointer, &key, view, problems);
            }
        }
    }

    fn reference(&self, pointer: &str, key: &ObjectKey, view: &View<'_>, problems: &mut Vec<Problem>) {
        if view.brings(key) {
            return;
        }
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let who = format!("{} refers to {key} ({field})", self.object.key);
        if let Some((unit, why)) = view.withheld.get(key) {
            let message = format!("{who}, which unit {} holds and does not send: {why}", unit.id);
            problems.push(self.problem(Code::HandedThroughBroken, message));
        } else if let Some(unknown) = view.unknown {
            let message = format!(
                "{who}, which no unit that could be rendered has; unless unit {} or the like brings it, {} cannot work",
                unknown.id, self.object.key
            );
            problems.push(self.problem(Code::HandedThroughUnclear, message));
        } else {
            let message = format!(
                "{who}, which nothing in Git declares for this cluster: it cannot work; add it, or correct the reference"
            );
            problems.push(self.problem(Code::HandedThroughBroken, message));
        }
    }

    /// Whether what image automation pushes is read by anybody, and whether it finds anything to change.
    fn image_updates(
        &self,
        view: &View<'_>,
        tree: &dyn Tree,
        policies: &Policies,
        marks: &mut BTreeMap<String, Marks>,
        problems: &mut Vec<Problem>,
    ) {
        let reference = self.at("/spec/sourceRef");
        let Some(key) = reference.and_then(|r| self.key("source.toolkit.fluxcd.io", "GitRepository", r)) else {
            return;
        };
        let Some(source) = view.sent.get(&key) else { return }; // said by `references`
        let Some(source) = source.value() else { return };
        let id = format!("{}/{}", key.namespace, key.name);
        let url = source.pointer("/spec/url").and_then(Value::as_str).unwrap_or_default();
        let reads = |u: &&RenderedUnit| u.source == id || view.same_source(&u.source, url);
        let Some(reader) = view.cluster.units.iter().find(reads) else {
            let message = format!(
                "{} pushes to {url} ({key}), which no unit of this cluster reads: nothing it writes is ever applied; point \
                 spec.sourceRef at the source of the units, or remove it",
                self.object.key
            );
            problems.push(self.problem(Code::HandedThroughBroken, message));
            return;
        };
        let branch = |v: &Value, pointer: &str| v.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let checked_out = branch(self.value, "/spec/git/checkout/ref/branch")
            .or_else(|| branch(&source, "/spec/ref/branch"))
            .unwrap_or_else(|| "master".to_owned());
        let pushed = branch(self.value, "/spec/git/push/branch").unwrap_or_else(|| checked_out.clone());
        let read = branch(&source, "/spec/ref/branch").unwrap_or_else(|| "master".to_owned());
        if pushed != read {
            let message = format!(
                "{} pushes to branch {pushed:?}, and unit {} reads branch {read:?} of the same repository: its commits are \
                 applied only when somebody merges them",
                self.object.key, reader.id
            );
            problems.push(self.problem(Code::HandedThroughUnclear, message));
        }
        let root = view.cluster.units.iter().find(|u| u.parent.is_none());
        if root.is_none_or(|root| root.source != reader.source) {
            return; // the files of another repository are not at hand
        }
        let folder = path::clamped(self.text("/spec/update/path").unwrap_or_default());
        if folder.contains("${") {
            return; // only the cluster knows which folder that is
        }
        let marks = marks.entry(folder.clone()).or_insert_with(|| Marks::below(tree, &folder));
        match marks {
            Marks::NoFolder => {
                let message = format!(
                    "{} updates files below {folder:?} (spec.update.path), which is no folder of the source: it never changes anything",
                    self.object.key
                );
                problems.push(self.problem(Code::HandedThroughBroken, message));
            }
            Marks::Found(found) if found.is_empty() => {
                let message = format!(
                    "{} finds no mark such as # {{\"$imagepolicy\": \"{}:NAME\"}} below {folder:?}: it never changes anything",
                    self.object.key, self.object.key.namespace
                );
                problems.push(self.problem(Code::HandedThroughUnclear, message));
            }
            Marks::Found(found) if policies.all_known => {
                let gone: Vec<&str> = found.difference(&policies.names).map(String::as_str).collect();
                if !gone.is_empty() {
                    let more = if gone.len() > 4 { ", ..." } else { "" };
                    let message = format!(
                        "{} finds marks below {folder:?} that name ImagePolicy {}{more}, which no cluster has: what they mark never changes",
                        self.object.key,
                        gone.iter().take(4).copied().collect::<Vec<_>>().join(", ")
                    );
                    problems.push(self.problem(Code::HandedThroughUnclear, message));
                }
            }
            Marks::Found(_) => {}
        }
    }

    /// Alerts on events, and webhooks to things, that are Driftless's own now.
    fn listener(&self, cluster: &RenderedCluster, problems: &mut Vec<Problem>) {
        let alert = self.object.key.kind == "Alert";
        let list = if alert { "/spec/eventSources" } else { "/spec/resources" };
        let mut idle: BTreeSet<String> = BTreeSet::new();
        let mut others = false;
        for item in self.at(list).and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
            let namespace = if text("namespace").is_empty() { &self.object.key.namespace } else { text("namespace") };
            let is_root =
                cluster.units.iter().any(|u| u.parent.is_none() && u.source == format!("{namespace}/{}", text("name")));
            match text("kind") {
                "Kustomization" => _ = idle.insert(format!("Kustomization {}", text("name"))),
                kind @ "GitRepository" if !alert && is_root => _ = idle.insert(format!("{kind} {}", text("name"))),
                _ => others = true,
            }
        }
        if idle.is_empty() {
            return;
        }
        let names: Vec<String> = idle.into_iter().collect();
        let (what, instead) = if alert {
            (
                "listens to",
                "Driftless applies these units and reports them through the hub, not by events in the cluster",
            )
        } else {
            ("wakes", "Driftless reads these by itself; point the webhook at the hub")
        };
        let rest = if others { "; for its other objects nothing changes" } else { "" };
        let message = format!("{} {what} {}: {instead}{rest}", self.object.key, names.join(", "));
        problems.push(self.problem(Code::HandedThroughIdle, message));
    }

    /// An operator that installs the controllers which Driftless takes the place of: a FluxInstance, or a release of its
    /// chart, whose spec is at `spec`.
    fn instance(&self, spec: &str, problems: &mut Vec<Problem>) {
        let components = self.at(&format!("{spec}/components")).and_then(Value::as_array);
        let named = |list: &Vec<Value>| list.iter().any(|c| c.as_str() == Some("kustomize-controller"));
        if self.at(&format!("{spec}/sync")).is_none() || !components.is_none_or(named) {
            return;
        }
        let message = format!(
            "{} lets flux-operator run kustomize-controller, which applies {}.sync.path of the same repository",
            self.object.key,
            spec.trim_start_matches('/').replace('/', ".")
        );
        problems.push(self.problem(Code::FluxStillApplies, message));
    }
}

impl View<'_> {
    /// Whether a source some unit reads has this address.
    fn same_source(&self, id: &str, url: &str) -> bool {
        let Some((namespace, name)) = id.split_once('/') else { return false };
        self.sent.values().any(|o| {
            o.key.kind == "GitRepository"
                && o.key.namespace == namespace
                && o.key.name == name
                && o.value().is_some_and(|v| {
                    let own = v.pointer("/spec/url").and_then(Value::as_str).unwrap_or_default();
                    crate::target::same_repository(own, url)
                })
        }) || self.cluster.wanted_sources.iter().any(|s| s.id == id && crate::target::same_repository(&s.url, url))
    }
}

/// The image policies of all clusters: files that several share may be marked for any of them.
struct Policies {
    /// `namespace:name`, as marks write them.
    names: BTreeSet<String>,
    /// Whether every unit was rendered.
    all_known: bool,
}

impl Policies {
    fn of(rendered: &[(ClusterName, RenderedCluster)]) -> Self {
        let units = || rendered.iter().flat_map(|(_, cluster)| &cluster.units);
        let objects = units().flat_map(|u| u.objects()).filter(|o| o.key.kind == "ImagePolicy");
        Self {
            names: objects.map(|o| format!("{}:{}", o.key.namespace, o.key.name)).collect(),
            all_known: units().all(|u| matches!(u.state, RenderState::Full { .. })),
        }
    }
}

/// Marks of image automation below a folder.
#[derive(Debug)]
enum Marks {
    NoFolder,
    /// The policies named, `namespace:name`.
    Found(BTreeSet<String>),
}

impl Marks {
    fn below(tree: &dyn Tree, folder: &str) -> Self {
        let mut found = BTreeSet::new();
        let mut open = vec![folder.to_owned()];
        let mut first = true;
        let mut budget = MARK_FILES;
        while let Some(folder) = open.pop() {
            let Ok(Some(entries)) = tree.list(&folder) else {
                if first {
                    return Self::NoFolder;
                }
                continue;
            };
            first = false;
            for (name, entry) in entries {
                let here = path::join(&folder, &name);
                match entry {
                    Entry::Folder { .. } => open.push(here),
                    Entry::File { len, .. } if len <= MARK_BYTES && budget > 0 && is_yaml(&name) => {
                        budget -= 1;
                        let Ok(Some(bytes)) = tree.read(&here) else { continue };
                        found.extend(policies(&String::from_utf8_lossy(&bytes)));
                    }
                    _ => {}
                }
            }
        }
        Self::Found(found)
    }
}

fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Policies in marks such as `# {"$imagepolicy": "flux-system:app:tag"}`.
fn policies(text: &str) -> impl Iterator<Item = String> {
    text.split("\"$imagepolicy\"").skip(1).filter_map(|rest| {
        let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
        let value = value.split('"').next()?;
        let mut parts = value.split(':');
        Some(format!("{}:{}", parts.next()?, parts.next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_name_policies() {
        let text = "image: a:1 # {\"$imagepolicy\": \"flux-system:app\"}\ntag: 1 # {\"$imagepolicy\" :\"ns:b:tag\"}\nx # {\"$other\": \"c:d\"}\n";
        assert_eq!(policies(text).collect::<Vec<_>>(), ["flux-system:app", "ns:b"]);
    }
}
