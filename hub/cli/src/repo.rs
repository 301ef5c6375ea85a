//! A repository of clusters, opened and rendered without a hub: what `check repo`, `validate` and `plan` stand on.
//!
//! ```text
//! Repo::open(PATH)            the folder, and the Git repository around it when there is one
//!   .work_tree()              State: the files as they are on disk
//!   .at("main~1")             State: the files of a revision, from Git objects, never checked out
//! State::clusters(&choice)    the clusters' roots: searched for, or as --path and --cluster name them; their facts
//! State::render(&clusters,..) every cluster, one after the other per thread, with one cache for all
//! ```
//! States of one [`Repo`] may share a [`Cache`]: units whose files are equal in two revisions are then built once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::id::{ClusterName, Revision};
use driftless_render::flux::{Cache, RenderedCluster, RootCandidate, find_roots, path, render_cluster_cached};
use driftless_render::target::{
    Facts, GitRef, Location, NOT_AT_HAND, RootSpec, SourceDecl, SourceState, SourceTree, Sources, Target,
    same_repository,
};
use driftless_render::tree::{Entry, MemTree, Tree};
use driftless_source::folder::enclosing_root;
use driftless_source::{Repository, RepositoryError, Snapshot};

use crate::args::ClusterChoice;
use crate::error::{CliError, Kind};
use crate::facts;
use crate::ui::{self, Progress};

/// Bytes of objects a run keeps to spare building a unit again.
pub const CACHE_BYTES: usize = 1 << 30;

/// Id of the root's source where Git does not name another: as `flux bootstrap` names it.
const ROOT_SOURCE: &str = "flux-system/flux-system";

/// The reference of a revision that is no commit: files on disk.
pub const WORK_TREE: &str = "work tree";

/// A folder that holds what Flux reads, and the Git repository it lies in.
#[derive(Debug)]
pub struct Repo {
    dir: PathBuf,
    /// The Git repository's top folder, the repository, and the way from the top to `dir`.
    git: Option<(PathBuf, Arc<Repository>, String)>,
    /// Why the Git repository around it cannot be read. The files on disk can.
    unread: Option<String>,
    others: Vec<SourceTree>,
}

/// One state of a repository: the files on disk, or a revision.
#[derive(Debug)]
pub struct State {
    /// The root's source: id, files, revision, address.
    pub root: SourceTree,
    others: Vec<SourceTree>,
    /// Where the top of the Git work tree is, when it is not the folder that was opened.
    top: Option<PathBuf>,
    /// The Git repository, and the way from its top to the folder that was opened.
    git: Option<(Arc<Repository>, String)>,
    dir: PathBuf,
}

/// One cluster to render.
#[derive(Clone, Debug)]
pub struct ClusterRoot {
    /// Its name: that of its folder, or as given.
    pub name: ClusterName,
    /// Its root folder.
    pub path: String,
    /// How the root was recognised; `None` when it was named.
    pub found: Option<RootCandidate>,
    /// What its facts file says.
    pub facts: Option<Facts>,
}

impl Repo {
    /// Opens a folder. That it is no Git repository is no error until a revision is asked for.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        let dir = path
            .canonicalize()
            .map_err(|e| CliError::new(Kind::NotFound, format!("cannot read the folder {}: {e}", path.display())))?;
        let bare = dir.join("objects").is_dir() && dir.join("HEAD").is_file();
        if !dir.is_dir() {
            return Err(CliError::new(Kind::Usage, format!("{} is no folder", path.display()))
                .hint("name the folder that holds the repository"));
        }
        let top = enclosing_root(&dir)
            .map_err(|e| CliError::new(Kind::Failed, format!("cannot resolve {}: {e}", dir.display())))?;
        let top = if bare { dir.clone() } else { top };
        let mut unread = None;
        let mut git = None;
        if bare || top.join(".git").exists() {
            let inside = slashes(dir.strip_prefix(&top).unwrap_or(Path::new("")))?;
            match Repository::open(&top) {
                Ok(repository) => git = Some((top, Arc::new(repository), inside)),
                Err(error) => unread = Some(error.to_string()),
            }
        }
        Ok(Self { dir, git, unread, others: Vec::new() })
    }

    /// Opens a folder, and the other sources the command line gives (`--source`).
    ///
    /// # Errors
    /// As [`Repo::open`], and when a `--source` cannot be used.
    pub fn open_with(path: &Path, choice: &ClusterChoice) -> Result<Self, CliError> {
        let mut repo = Self::open(path)?;
        choice.sources.iter().try_for_each(|text| repo.add_source(text))?;
        Ok(repo)
    }

    /// Adds the files of another source: what the hub would fetch.
    fn add_source(&mut self, text: &str) -> Result<(), CliError> {
        self.others.push(other_source(text)?);
        Ok(())
    }

    /// The Git repository.
    ///
    /// # Errors
    /// When the folder lies in none.
    pub fn git(&self) -> Result<&Repository, CliError> {
        match (&self.git, &self.unread) {
            (Some((_, repository, _)), _) => Ok(repository),
            (None, Some(why)) => Err(CliError::new(Kind::Failed, why.clone())
                .hint("the files on disk can be checked all the same: leave out --rev")),
            (None, None) => {
                Err(CliError::new(Kind::Usage, format!("{} lies in no Git repository", self.dir.display()))
                    .hint("a revision can be read only of a clone; without one, the files on disk are read"))
            }
        }
    }

    /// The files as they are on disk: what is not committed is part of it, what Git ignores is not.
    ///
    /// # Errors
    /// When the repository's index or ignore rules cannot be read.
    pub fn work_tree(&self) -> Result<State, CliError> {
        let files = match &self.git {
            Some((_, repository, inside)) => {
                repository.work_tree(inside).map_err(|e| CliError::new(Kind::Failed, e.to_string()))?
            }
            None => Snapshot::new(&self.dir),
        };
        if let Some(why) = &self.unread {
            ui::note(&format!("warning: {why}; the files on disk are read, those that Git ignores too"));
        }
        if files.sparse() > 0 {
            ui::note(&format!(
                "warning: {} files of this sparse checkout are not on disk, and units that need them cannot be built from it; \
                 name a revision to read them from Git (--head HEAD, --rev HEAD)",
                files.sparse()
            ));
        }
        Ok(self.state(Arc::new(files), Revision { reference: WORK_TREE.to_owned(), commit: String::new() }))
    }

    /// A revision, named as `git rev-parse` takes it.
    ///
    /// # Errors
    /// When the folder lies in no Git repository, or the revision is not there.
    pub fn resolve(&self, revision: &str) -> Result<Revision, CliError> {
        self.git()?.resolve(revision).map_err(not_there)
    }

    /// The files of a revision, named as `git rev-parse` takes it.
    ///
    /// # Errors
    /// When the folder lies in no Git repository, or the revision is not there.
    pub fn at(&self, revision: &str) -> Result<State, CliError> {
        self.at_revision(&self.resolve(revision)?)
    }

    /// The files of a revision that is known already.
    ///
    /// # Errors
    /// When the folder lies in no Git repository, or is not there in that revision.
    pub fn at_revision(&self, revision: &Revision) -> Result<State, CliError> {
        let inside = self.git.as_ref().map_or("", |(_, _, inside)| inside.as_str());
        let tree = self.git()?.tree(revision, inside).map_err(not_there)?;
        Ok(self.state(Arc::new(tree), revision.clone()))
    }

    /// The files of a revision to compare with: a folder that is not there yet holds nothing.
    ///
    /// # Errors
    /// As [`Repo::at`].
    pub fn base_at(&self, revision: &Revision) -> Result<State, CliError> {
        let inside = self.git.as_ref().map_or("", |(_, _, inside)| inside.as_str());
        let all = self.git()?.tree(revision, "").map_err(not_there)?;
        let entry = all.entry(inside);
        let there = entry.map_err(|e| CliError::new(Kind::Failed, format!("cannot read {revision}: {e}")))?;
        match there {
            Some(Entry::Folder { .. }) => self.at_revision(revision),
            _ => Ok(self.state(Arc::new(MemTree::new()), revision.clone())),
        }
    }

    /// A revision, or without one the files on disk.
    ///
    /// # Errors
    /// As [`Repo::at`].
    pub fn state_at(&self, revision: Option<&str>) -> Result<State, CliError> {
        match revision {
            Some(revision) => self.at(revision),
            None => self.work_tree(),
        }
    }

    fn state(&self, tree: Arc<dyn Tree>, revision: Revision) -> State {
        let git = self.git.as_ref().map(|(_, repository, _)| &**repository);
        let url = git.and_then(Repository::origin).unwrap_or_else(|| format!("file://{}", self.dir.display()));
        let reference = git.and_then(Repository::main_branch).map_or_else(GitRef::default, GitRef::Branch);
        let top = self.git.as_ref().filter(|(_, _, inside)| !inside.is_empty()).map(|(top, _, _)| top.clone());
        State {
            root: SourceTree { id: ROOT_SOURCE.to_owned(), tree, revision, url, reference },
            others: self.others.clone(),
            top,
            git: self.git.as_ref().map(|(_, repository, inside)| (repository.clone(), inside.clone())),
            dir: self.dir.clone(),
        }
    }
}

impl State {
    /// What was read, for people: the folder, and its revision.
    #[must_use]
    pub fn name(&self) -> String {
        match self.root.revision.commit.as_str() {
            "" => format!("{} ({WORK_TREE})", self.dir.display()),
            _ => format!("{} at {}", self.dir.display(), self.root.revision),
        }
    }

    /// A place as Git and what runs beside it know it: from the top of the work tree.
    #[must_use]
    pub fn in_git(&self, at: &Location) -> Location {
        match &self.git {
            Some((_, inside)) if !inside.is_empty() && *at.source == *self.root.id && !at.file.is_empty() => {
                Location { file: format!("{inside}/{}", at.file).into(), ..at.clone() }
            }
            _ => at.clone(),
        }
    }

    /// The files of a source by its id: the root's, or one that was given.
    #[must_use]
    pub fn tree_of(&self, id: &str) -> Option<Arc<dyn Tree>> {
        let other = self.others.iter().find(|s| s.id == id);
        Some(other.map_or_else(|| self.root.tree.clone(), |source| source.tree.clone()))
    }

    /// The clusters that are meant, sorted by name, with their facts.
    ///
    /// # Errors
    /// When there are none, a name or folder is not there, or a facts file cannot be read.
    pub fn clusters(&self, choice: &ClusterChoice) -> Result<Vec<ClusterRoot>, CliError> {
        let mut clusters = if choice.paths.is_empty() { self.found(choice)? } else { self.named(choice)? };
        clusters.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        if let Some(pattern) = &choice.facts {
            let names: Vec<&ClusterName> = clusters.iter().map(|c| &c.name).collect();
            let mut facts = facts::read_for(pattern, &names)?;
            for cluster in &mut clusters {
                cluster.facts = facts.remove(&cluster.name);
            }
        }
        Ok(clusters)
    }

    /// Every root of the repository, or those with these names.
    fn found(&self, choice: &ClusterChoice) -> Result<Vec<ClusterRoot>, CliError> {
        let candidates = find_roots(&self.root.id, &*self.root.tree).map_err(|e| {
            CliError::new(Kind::Failed, format!("cannot search {} for clusters: {e}", self.dir.display()))
        })?;
        if candidates.is_empty() {
            let message = format!(
                "{} holds no folder that looks like a cluster's root: no gotk-sync.yaml, no FluxInstance, no Flux Kustomization below clusters/",
                self.dir.display()
            );
            let hint = match &self.top {
                Some(top) => format!("it is not the top of its Git work tree; did you mean {}?", top.display()),
                None => {
                    "name the root folder with --path, or all of them with a pattern such as --path 'clusters/{name}'"
                        .to_owned()
                }
            };
            return Err(CliError::new(Kind::NotFound, message).hint(hint));
        }
        let names = names_of(candidates.iter().map(|c| c.path.as_str()))?;
        let all = candidates.into_iter().zip(names);
        let all: Vec<ClusterRoot> = all
            .map(|(found, name)| ClusterRoot { name, path: found.path.clone(), found: Some(found), facts: None })
            .collect();
        if choice.clusters.is_empty() {
            return Ok(all);
        }
        let mut out = Vec::new();
        for wanted in &choice.clusters {
            let plain = path::normal(wanted).unwrap_or_default();
            match all.iter().find(|c| c.name.as_str() == wanted || c.path == plain) {
                Some(cluster) => out.push(cluster.clone()),
                None => {
                    let known: Vec<String> = all.iter().map(|c| format!("{} ({})", c.name, c.path)).collect();
                    return Err(CliError::new(Kind::NotFound, format!("no cluster {wanted} was found"))
                        .hint(format!("found were: {}; name another root with --path", known.join(", "))));
                }
            }
        }
        out.dedup_by(|a, b| a.path == b.path);
        Ok(out)
    }

    /// The roots that `--path` names.
    fn named(&self, choice: &ClusterChoice) -> Result<Vec<ClusterRoot>, CliError> {
        let mut out: Vec<ClusterRoot> = Vec::new();
        for text in &choice.paths {
            if text.contains("{name}") {
                out.extend(self.pattern(text, &choice.clusters)?);
                continue;
            }
            let Some(folder) = path::normal(text) else {
                return Err(CliError::new(Kind::Usage, format!("--path {text:?} leads out of the repository")));
            };
            if !self.is_folder(&folder)? {
                return Err(CliError::new(
                    Kind::NotFound,
                    format!("--path: {} has no folder {folder:?}", self.root.revision),
                )
                .hint(format!("paths are relative to {}", self.dir.display())));
            }
            let name = match (choice.clusters.as_slice(), choice.paths.as_slice()) {
                ([name], [_]) => name.parse().map_err(|e| CliError::new(Kind::Usage, format!("--cluster: {e}")))?,
                ([], _) => names_of([folder.as_str()].into_iter())?.remove(0),
                _ => {
                    return Err(CliError::new(Kind::Usage, "several --cluster need one --path with {name} in it")
                        .hint("as in --path 'clusters/{name}'"));
                }
            };
            out.push(ClusterRoot { name, path: folder, found: None, facts: None });
        }
        // Folders of one name at different places.
        let plain: Vec<&str> = out.iter().map(|c| c.path.as_str()).collect();
        let twice = out.iter().any(|a| out.iter().filter(|b| b.name == a.name).count() > 1);
        if twice {
            let names = names_of(plain.into_iter())?;
            for (cluster, name) in out.iter_mut().zip(names) {
                cluster.name = name;
            }
        }
        Ok(out)
    }

    /// The folders a pattern such as `clusters/{name}` fits.
    fn pattern(&self, pattern: &str, names: &[String]) -> Result<Vec<ClusterRoot>, CliError> {
        let usage = |m: String| CliError::new(Kind::Usage, m);
        let mut out = Vec::new();
        let mut push = |name: &str, required: bool| -> Result<(), CliError> {
            let folder = path::normal(&pattern.replace("{name}", name))
                .ok_or_else(|| usage(format!("--path {pattern:?} leads out of the repository")))?;
            if self.is_folder(&folder)? {
                let name = name.parse().map_err(|e| usage(format!("--path {pattern:?}: folder {folder:?}: {e}")))?;
                out.push(ClusterRoot { name, path: folder, found: None, facts: None });
            } else if required {
                return Err(CliError::new(
                    Kind::NotFound,
                    format!("cluster {name}: {} has no folder {folder:?}", self.root.revision),
                ));
            }
            Ok(())
        };
        if !names.is_empty() {
            names.iter().try_for_each(|name| push(name, true))?;
            return Ok(out);
        }
        let (before, after) = pattern.split_once("{name}").unwrap_or((pattern, ""));
        let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
        let suffix = after.split('/').next().unwrap_or_default();
        let parent = path::normal(parent).unwrap_or_default();
        let listing = self.root.tree.list(&parent).map_err(|e| self.unreadable(&e))?.unwrap_or_default();
        for (entry, _) in listing {
            let name = entry.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
            if let Some(name) = name.filter(|n| !n.is_empty()) {
                push(name, false)?;
            }
        }
        if out.is_empty() {
            return Err(CliError::new(
                Kind::NotFound,
                format!("--path {pattern:?} fits no folder of {}", self.root.revision),
            )
            .hint(format!("paths are relative to {}", self.dir.display())));
        }
        Ok(out)
    }

    fn is_folder(&self, folder: &str) -> Result<bool, CliError> {
        let entry = self.root.tree.entry(folder).map_err(|e| self.unreadable(&e))?;
        // Where a link leads is the renderer's business.
        Ok(matches!(entry, Some(Entry::Folder { .. } | Entry::Link { .. })))
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> CliError {
        CliError::new(Kind::Failed, format!("cannot read {}: {error}", self.dir.display()))
    }

    /// Renders clusters, in the order given. Threads share the work; the result does not depend on how many there are.
    #[must_use]
    pub fn render(&self, clusters: &[ClusterRoot], cache: &Cache) -> Vec<RenderedCluster> {
        let next = AtomicUsize::new(0);
        let done: Mutex<BTreeMap<usize, RenderedCluster>> = Mutex::default();
        let progress = Progress::new("rendering clusters", clusters.len());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(clusters.len().max(1));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(cluster) = clusters.get(at) else { break };
                        let rendered = render_cluster_cached(self, &cluster.target(), cache);
                        done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, rendered);
                        progress.step();
                    }
                });
            }
        });
        done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }
}

impl ClusterRoot {
    /// What to render for it.
    #[must_use]
    pub fn target(&self) -> Target {
        let mut target = Target::new(self.name.clone());
        target.root = RootSpec::Path(self.path.clone());
        target.with_facts(self.facts.clone())
    }
}

/// The files of another source, given as `NAMESPACE/NAME=FOLDER`, or `OCIRepository/NAMESPACE/NAME=FOLDER` for that kind;
/// with `@REV` after the folder those of a revision of the Git repository there.
///
/// # Errors
/// When the text is not that, or the folder cannot be read.
pub fn other_source(text: &str) -> Result<SourceTree, CliError> {
    let wrong = || {
        CliError::new(Kind::Usage, format!("--source {text:?} is not NAMESPACE/NAME=FOLDER"))
            .hint("as in --source flux-system/podinfo=../podinfo, or =../podinfo@v1.2.0 for a revision")
    };
    let (label, folder) = text.split_once('=').ok_or_else(wrong)?;
    let parts: Vec<&str> = label.split('/').collect();
    if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) || folder.is_empty() {
        return Err(wrong());
    }
    let mut root = match folder.rsplit_once('@') {
        Some((before, revision)) if !Path::new(folder).exists() => Repo::open(Path::new(before))?.at(revision)?.root,
        _ => Repo::open(Path::new(folder))?.work_tree()?.root,
    };
    label.clone_into(&mut root.id);
    Ok(root)
}

/// What was asked of the Git repository is not in it.
fn not_there(error: RepositoryError) -> CliError {
    CliError::new(Kind::NotFound, error.to_string())
}

/// Whether a source that was given stands for a declaration.
fn stands_for(given: &SourceTree, wanted: &SourceDecl) -> bool {
    given.id == wanted.label() || given.id == format!("{}/{}", wanted.kind, wanted.id)
}

impl Sources for State {
    fn root(&self) -> &SourceTree {
        &self.root
    }

    fn find(&self, wanted: &SourceDecl) -> SourceState {
        match self.others.iter().find(|s| stands_for(s, wanted)) {
            Some(source) => SourceState::Ready(source.clone()),
            None => SourceState::Missing(format!("{NOT_AT_HAND}; give its files: --source {}=FOLDER", wanted.label())),
        }
    }

    fn root_at(&self, reference: &GitRef) -> Option<SourceTree> {
        let (repository, inside) = self.git.as_ref()?;
        // A branch as its host has it counts more than one of the same name here.
        let (short, names) = match reference {
            GitRef::Branch(name) => (name, vec![format!("refs/remotes/origin/{name}"), format!("refs/heads/{name}")]),
            GitRef::Tag(name) => (name, vec![format!("refs/tags/{name}")]),
            GitRef::Name(name) | GitRef::Commit(name) => (name, vec![name.clone()]),
            GitRef::Semver(_) | GitRef::Digest(_) => return None,
        };
        let found = names.iter().find_map(|name| repository.resolve(name).ok())?;
        let revision = Revision { reference: short.clone(), commit: found.commit };
        let tree = repository.tree(&revision, inside).ok()?;
        let (id, url) = (self.root.id.clone(), self.root.url.clone());
        Some(SourceTree { id, tree: Arc::new(tree), revision, url, reference: reference.clone() })
    }

    fn is_alias(&self, wanted: &SourceDecl) -> bool {
        // Whatever branch is checked out here, the hub follows the one Git names.
        !self.others.iter().any(|s| stands_for(s, wanted))
            && same_repository(&self.root.url, &wanted.url)
            && wanted.reference == self.root.reference
    }
}

/// A name for each root: the folder below `clusters/`, else the last folder; where that is not one name each, the way below
/// `clusters/`, else the whole way.
fn names_of<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<ClusterName>, CliError> {
    let below = |path: &'a str| -> Option<&'a str> {
        path.strip_prefix("clusters/").or_else(|| path.split_once("/clusters/").map(|(_, below)| below))
    };
    let short = |path: &'a str| {
        let first = below(path).and_then(|below| below.split('/').find(|s| !s.is_empty()));
        label(first.or_else(|| path.rsplit('/').find(|s| !s.is_empty())).unwrap_or("cluster"))
    };
    let all: Vec<String> = paths.clone().map(short).collect();
    let longer: Vec<String> = paths.clone().map(|path| label(below(path).unwrap_or(path))).collect();
    let alone = |names: &[String], name: &String| names.iter().filter(|other| *other == name).count() == 1;
    paths
        .zip(all.iter().zip(&longer))
        .map(|(path, (name, long))| {
            let name = match (alone(&all, name), alone(&longer, long)) {
                (true, _) => name.clone(),
                (false, true) => long.clone(),
                _ => label(path),
            };
            name.parse().map_err(|e| {
                CliError::new(Kind::Usage, format!("no name can be made for the cluster in {path:?}: {e}"))
                    .hint("name it: --cluster NAME --path FOLDER")
            })
        })
        .collect()
}

/// A DNS label of any text.
fn label(text: &str) -> String {
    let mut out: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    if out.len() > 63 {
        // The end tells folders apart.
        out = out.split_off(out.len() - 63);
    }
    out.trim_matches('-').to_owned()
}

/// A path of this machine as a path of a tree.
///
/// # Errors
/// When it is no UTF-8.
pub fn slashes(path: &Path) -> Result<String, CliError> {
    let parts: Option<Vec<&str>> = path.components().map(|c| c.as_os_str().to_str()).collect();
    parts.map(|p| p.join("/")).ok_or_else(|| CliError::new(Kind::Usage, format!("{} is no UTF-8 path", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        names_of(paths.iter().copied()).unwrap().into_iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn clusters_are_named_by_their_folders() {
        for (paths, expected) in [
            (&["clusters/prod", "clusters/staging"][..], &["prod", "staging"][..]),
            (&["k8s/clusters/prod/flux"], &["prod"]),
            (&["kubernetes/main/flux", "kubernetes/test/flux"], &["kubernetes-main-flux", "kubernetes-test-flux"]),
            (&["cluster/Base_1"], &["base-1"]),
            (&["clusters/prod/00", "clusters/prod/01", "clusters/ptl/00"], &["prod-00", "prod-01", "ptl"]),
            (&["a/clusters/prod/00", "b/clusters/prod/00"], &["a-clusters-prod-00", "b-clusters-prod-00"]),
            (&[""], &["cluster"]),
        ] {
            assert_eq!(names(paths), expected, "of {paths:?}");
        }
        assert!(names_of(["clusters/---"].into_iter()).is_err());
    }
}
