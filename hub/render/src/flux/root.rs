//! The root of a cluster: where it is, and the Kustomization that stands for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use driftless_protocol::id::UnitId;
use driftless_yaml::{Dialect, Limits, Node, parse_all};
use serde::{Deserialize, Serialize};

use super::path;
use super::place::Place;
use super::unit;
use crate::target::{GitRef, Location, SourceTree, Target};
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// How a root candidate was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RootKind {
    /// The Kustomization in a `gotk-sync.yaml`, or one that names the folder it stands in.
    SyncKustomization,
    /// `spec.sync.path` of a FluxInstance, or of the values of a HelmRelease of the chart `flux-instance`.
    FluxInstance,
    /// A folder below `clusters/` that holds Flux Kustomizations and no sync of its own.
    ClusterFolder,
    /// A folder with Flux Kustomizations that no Kustomization of the source names: only when nothing better was found.
    TopFolder,
}

/// A folder that looks like a cluster's root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootCandidate {
    /// The folder.
    pub path: String,
    /// How it was recognised.
    pub kind: RootKind,
    /// Where that is written.
    pub at: Location,
}

/// Files looked at when searching: beyond any real repository, and a bound.
const SEARCH_FILES: usize = 200_000;
/// Bytes of a file that may hold a sync object.
const SEARCH_BYTES: u64 = 1 << 20;

/// Every folder of a source that looks like a cluster's root, sorted by path.
///
/// # Errors
/// Only when the source cannot be read. Files that are no YAML are passed over.
pub fn find_roots(source: &str, tree: &dyn Tree) -> Result<Vec<RootCandidate>, TreeError> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    let mut budget = SEARCH_FILES;
    let mut other = Others::default();
    other.sources.insert(BOOTSTRAP.to_owned());
    while let Some(folder) = folders.pop() {
        let Some(entries) = tree.list(&folder)? else { continue };
        for (name, entry) in entries {
            let here = path::join(&folder, &name);
            match entry {
                Entry::Folder { .. } if name != ".git" => folders.push(here),
                Entry::File { len, .. }
                    if len <= SEARCH_BYTES && (name.ends_with(".yaml") || name.ends_with(".yml")) =>
                {
                    if budget == 0 {
                        break;
                    }
                    budget -= 1;
                    let Some(bytes) = tree.read(&here)? else { continue };
                    look(source, tree, &here, &bytes, &mut found, &mut other)?;
                }
                _ => {}
            }
        }
    }
    let is_folder = |candidate: &RootCandidate| Ok(matches!(tree.entry(&candidate.path)?, Some(Entry::Folder { .. })));
    for candidate in &other.bootstrap {
        if is_folder(candidate)? {
            found.push(candidate.clone());
        }
    }
    if other.bootstrap.is_empty() {
        for candidate in unreached(tree, &found, &other.sources, other.itself)? {
            if is_folder(&candidate)? {
                found.push(candidate);
            }
        }
    }
    // A folder inside a root is part of it.
    other.clusters.retain(|candidate| !found.iter().any(|root| within(&candidate.path, &root.path)));
    let clusters = unreached(tree, &found, &other.sources, other.clusters)?;
    found.extend(clusters);
    if found.is_empty() {
        other.folders.sort();
        for candidate in other.folders {
            let named = other.named.iter().any(|path| within(&candidate.path, path));
            if !named && !found.iter().any(|root| within(&candidate.path, &root.path)) {
                found.push(candidate);
            }
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

/// The name and namespace of what `flux bootstrap` makes.
const BOOTSTRAP: &str = "flux-system";

/// What may be a root when no sync says so.
#[derive(Default)]
struct Others {
    /// What Kustomizations named as bootstrap names them say.
    bootstrap: Vec<RootCandidate>,
    /// Folders whose Kustomization leads to themselves.
    itself: Vec<RootCandidate>,
    clusters: Vec<RootCandidate>,
    folders: Vec<RootCandidate>,
    /// Paths that Kustomizations name.
    named: Vec<String>,
    /// Names by which roots speak of the source they are in.
    sources: BTreeSet<String>,
}

/// Those of `candidates` that known roots do not lead to. A folder of which only a part is reached stays.
fn unreached(
    tree: &dyn Tree,
    known: &[RootCandidate],
    sources: &BTreeSet<String>,
    candidates: Vec<RootCandidate>,
) -> Result<Vec<RootCandidate>, TreeError> {
    if known.is_empty() || candidates.is_empty() {
        return Ok(candidates);
    }
    let roots: Vec<String> = known.iter().map(|root| root.path.clone()).collect();
    let reached = super::reach::files(tree, &roots, sources)?;
    let own: BTreeSet<String> =
        candidates.iter().filter(|c| !reached.contains(&*c.at.file)).map(|c| c.path.clone()).collect();
    Ok(candidates.into_iter().filter(|candidate| own.contains(&candidate.path)).collect())
}

/// Whether a folder is another one or below it.
fn within(folder: &str, other: &str) -> bool {
    other.is_empty() || folder == other || folder.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

fn look(
    source: &str,
    tree: &dyn Tree,
    file: &str,
    bytes: &[u8],
    found: &mut Vec<RootCandidate>,
    other: &mut Others,
) -> Result<(), TreeError> {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains("kustomize.toolkit.fluxcd.io") && !text.contains("sync:") {
        return Ok(());
    }
    let Ok(documents) = parse_all(bytes, Dialect::Resource, &Limits::default()) else { return Ok(()) };
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    for document in documents {
        let Some(key) = unit::key_of(&document.node) else { continue };
        let at = Location { source: source.into(), file: file.into(), line: document.line };
        let text = |path: &[&str]| document.node.at(path).and_then(Node::as_str);
        let (kind, wanted) = match key.kind.as_str() {
            "Kustomization" if key.group == super::spec::GROUP => {
                let Some(wanted) = text(&["spec", "path"]).and_then(path::normal) else { continue };
                let names_itself = !wanted.is_empty() && within(folder, &wanted);
                let sync = file.ends_with("gotk-sync.yaml");
                // Bootstrap calls the root's own Kustomization so, in whatever file it or a patch of it stands now.
                let bootstrap = key.name == BOOTSTRAP && matches!(&*key.namespace, "" | BOOTSTRAP);
                if sync || bootstrap {
                    other.sources.extend(text(&["spec", "sourceRef", "name"]).map(str::to_owned));
                }
                if sync {
                    (RootKind::SyncKustomization, Some(wanted))
                } else if bootstrap && !wanted.is_empty() {
                    other.bootstrap.push(RootCandidate { path: wanted, kind: RootKind::SyncKustomization, at });
                    continue;
                } else if names_itself {
                    other.itself.push(RootCandidate { path: wanted, kind: RootKind::SyncKustomization, at });
                    continue;
                } else {
                    other.folders.push(RootCandidate {
                        path: folder.to_owned(),
                        kind: RootKind::TopFolder,
                        at: at.clone(),
                    });
                    other.named.push(wanted);
                    if let Some(cluster) = cluster_folder(folder) {
                        other.clusters.push(RootCandidate { path: cluster, kind: RootKind::ClusterFolder, at });
                    }
                    continue;
                }
            }
            "FluxInstance" => (RootKind::FluxInstance, text(&["spec", "sync", "path"]).and_then(path::normal)),
            "HelmRelease" => {
                let wanted = text(&["spec", "values", "instance", "sync", "path"]);
                (RootKind::FluxInstance, wanted.and_then(path::normal))
            }
            _ => continue,
        };
        let Some(wanted) = wanted else { continue };
        if matches!(tree.entry(&wanted)?, Some(Entry::Folder { .. })) {
            found.push(RootCandidate { path: wanted, kind, at });
        }
    }
    Ok(())
}

/// `.../clusters/NAME` of a folder at or below it.
fn cluster_folder(folder: &str) -> Option<String> {
    let segments: Vec<&str> = folder.split('/').collect();
    let at = segments.iter().position(|s| *s == "clusters")?;
    segments.get(at + 1)?;
    Some(segments[..=at + 1].join("/"))
}

/// The folder of a cluster's root, or why there is none, with what could be meant. Read through `tree`, which is the
/// root's.
pub(crate) fn locate(root: &SourceTree, tree: &dyn Tree, target: &Target) -> Result<String, String> {
    let wanted = target.root.path(&target.cluster);
    match unit::folder(tree, &wanted) {
        Ok(Some(_)) => return Ok(wanted),
        Ok(None) => {}
        Err(error) => return Err(format!("cannot read source {}: {error}", root.id)),
    }
    let candidates = find_roots(&root.id, tree).map_err(|e| format!("cannot read source {}: {e}", root.id))?;
    // A folder that carries the cluster's name as one of its parts is meant, when it is the only one.
    if matches!(target.root, crate::target::RootSpec::Pattern(_)) {
        let named: Vec<_> =
            candidates.iter().filter(|c| c.path.split('/').any(|s| s == target.cluster.as_str())).collect();
        if let [one] = named.as_slice() {
            return Ok(one.path.clone());
        }
    }
    let list = if candidates.is_empty() {
        "and no folder of the source looks like a cluster's root (a gotk-sync.yaml, a FluxInstance)".to_owned()
    } else {
        let names: Vec<String> = candidates.iter().take(20).map(|c| format!("{:?} ({})", c.path, c.at)).collect();
        let more = candidates.len().saturating_sub(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("set the cluster's root path to one of: {}{more}", names.join(", "))
    };
    Err(format!(
        "the root of cluster {} should be the folder {wanted:?} of source {}, which does not exist; {list}",
        target.cluster, root.id
    ))
}

/// The Kustomization that stands for the root where Git holds none: prune on, as bootstrap would write it.
pub(crate) fn synthesised(root: &SourceTree, folder: &str) -> (UnitId, Node, Place) {
    let (namespace, name) = root.id.split_once('/').unwrap_or(("flux-system", root.id.as_str()));
    let id = UnitId::kustomization("flux-system", "flux-system");
    let map = |entries: &[(&str, Node)]| {
        let mut map = driftless_yaml::Map::new();
        for (key, value) in entries {
            map.insert(*key, value.clone());
        }
        Node::Map(map)
    };
    let node = map(&[
        ("apiVersion", Node::string("kustomize.toolkit.fluxcd.io/v1")),
        ("kind", Node::string("Kustomization")),
        ("metadata", map(&[("name", Node::string("flux-system")), ("namespace", Node::string("flux-system"))])),
        (
            "spec",
            map(&[
                ("interval", Node::string("10m")),
                ("path", Node::string(folder)),
                ("prune", Node::Scalar(driftless_yaml::Scalar::bool(true))),
                (
                    "sourceRef",
                    map(&[
                        ("kind", Node::string("GitRepository")),
                        ("name", Node::string(name)),
                        ("namespace", Node::string(namespace)),
                    ]),
                ),
            ]),
        ),
    ]);
    (id, node, Place::nowhere(&root.id))
}

/// A root source in which the files that bootstrap generates, and that are checked in empty as stand-ins (as Flux's own
/// example repositories do), hold what bootstrap would write: so patches on them find what they are for.
pub(crate) struct Filled {
    inner: Arc<dyn Tree>,
    files: Vec<(String, Arc<[u8]>)>,
}

/// Which stand-ins to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Both files.
    All,
    /// Only `gotk-sync.yaml`: patches did not fit our idea of the controllers.
    SyncOnly,
}

impl Filled {
    /// The tree with stand-ins filled; the tree itself when there are none. Which there are is read through `tree`.
    pub(crate) fn over(
        root: &SourceTree,
        tree: &dyn Tree,
        folder: &str,
        fill: Fill,
    ) -> (Arc<dyn Tree>, Option<ContentId>) {
        let mut files = Vec::new();
        let system = path::join(folder, "flux-system");
        for (name, text) in [("gotk-sync.yaml", sync_text(root, folder)), ("gotk-components.yaml", components_text())] {
            if name == "gotk-components.yaml" && fill == Fill::SyncOnly {
                continue;
            }
            let file = path::join(&system, name);
            let Ok(Some(bytes)) = tree.read(&file) else { continue };
            if holds_nothing(&bytes) {
                files.push((file, Arc::from(text.into_bytes())));
            }
        }
        if files.is_empty() {
            return (root.tree.clone(), None);
        }
        let mut hasher = blake3::Hasher::new();
        for (file, bytes) in &files {
            hasher.update(file.as_bytes());
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        let id = ContentId(*hasher.finalize().as_bytes());
        (Arc::new(Self { inner: root.tree.clone(), files }), Some(id))
    }

    fn filled(&self, path: &str) -> Option<&Arc<[u8]>> {
        self.files.iter().find(|(file, _)| file == path).map(|(_, bytes)| bytes)
    }
}

impl Tree for Filled {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        if let Some(bytes) = self.filled(path) {
            // Notes the file it stands in for as read.
            self.inner.entry(path)?;
            return Ok(Some(Entry::File { id: ContentId(*blake3::hash(bytes).as_bytes()), len: bytes.len() as u64 }));
        }
        self.inner.entry(path)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        self.inner.list(path)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        match self.filled(path) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.inner.read(path),
        }
    }

    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        self.inner.find(folder, name)
    }

    fn origin(&self, path: &str) -> Option<(Arc<str>, String)> {
        self.inner.origin(path)
    }
}

/// Whether a file holds no document. The real files have thousands of lines; the first that is content answers.
fn holds_nothing(bytes: &[u8]) -> bool {
    let blank = |line: &[u8]| {
        let line = line.trim_ascii();
        line.is_empty() || line.starts_with(b"#") || line.starts_with(b"---")
    };
    bytes.split(|b| *b == b'\n').all(blank)
        && parse_all(bytes, Dialect::Resource, &Limits::default()).is_ok_and(|d| d.is_empty())
}

fn sync_text(root: &SourceTree, folder: &str) -> String {
    let reference = match &root.reference {
        GitRef::Branch(name) => format!("branch: {name:?}"),
        GitRef::Tag(name) => format!("tag: {name:?}"),
        GitRef::Semver(range) => format!("semver: {range:?}"),
        GitRef::Name(name) => format!("name: {name:?}"),
        GitRef::Commit(id) | GitRef::Digest(id) => format!("commit: {id:?}"),
    };
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  name: flux-system\n  \
         namespace: flux-system\nspec:\n  interval: 1m0s\n  ref:\n    {reference}\n  url: {:?}\n---\n\
         apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: flux-system\n  \
         namespace: flux-system\nspec:\n  interval: 10m0s\n  path: {:?}\n  prune: true\n  sourceRef:\n    \
         kind: GitRepository\n    name: flux-system\n",
        root.url, folder
    )
}

fn components_text() -> String {
    let mut out = String::new();
    for name in [
        "source-controller",
        "kustomize-controller",
        "helm-controller",
        "notification-controller",
        "image-reflector-controller",
        "image-automation-controller",
    ] {
        out.push_str(&format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: flux-system\n  labels:\n    \
             app.kubernetes.io/component: {name}\n    app.kubernetes.io/instance: flux-system\n    \
             app.kubernetes.io/part-of: flux\nspec:\n  replicas: 1\n  template:\n    spec:\n      \
             serviceAccountName: {name}\n      containers:\n      - name: manager\n        args:\n        - --log-level=info\n        \
             env: []\n        resources:\n          limits: {{}}\n          requests: {{}}\n        volumeMounts:\n        - name: temp\n          \
             mountPath: /tmp\n      volumes:\n      - name: temp\n        emptyDir: {{}}\n"
        ));
    }
    out
}
