//! What a source consists of when a unit is built from it: its own files, less what it leaves out, with what it includes;
//! or what an ArtifactGenerator makes of other sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::Revision;
use sha2::{Digest as _, Sha256};

use super::cluster::{Wait, Walk};
use super::copy;
use super::fields::Note;
use super::generator::{self, Alias, Generator};
use super::ignore::{Rules, Visible};
use super::path;
use super::spec::Kustomization;
use super::variables::Known;
use crate::compose::{ComposeError, Composer, Part};
use crate::report::Code;
use crate::target::{GitRef, Location, SourceDecl, SourceState, SourceTree, label, same_repository};
use crate::tree::{Entry, Tree, TreeError};

/// Sources that are made of sources that are made of sources.
const DEPTH: usize = 32;

/// A source, ready for a unit.
#[derive(Debug)]
pub(super) struct Artifact {
    /// Its files before anything is ignored; its id is its label.
    pub(super) source: SourceTree,
    pub(super) rules: Rules,
    /// The revisions of everything it was made from, its own included.
    pub(super) revisions: BTreeSet<SourceRevision>,
    /// Whether files of the root's own source are in it.
    pub(super) from_root: bool,
}

impl Artifact {
    fn part(&self) -> Part {
        let tree = Visible::artifact(self.source.tree.clone(), &self.rules);
        Part { source: self.source.id.as_str().into(), tree: Arc::new(tree) }
    }
}

/// One look-up, with the way to it.
struct Asking<'a> {
    /// Where the reference is written.
    at: &'a Location,
    /// Nothing more will come: what is missing is missing.
    settled: bool,
    /// Labels of the sources it is asked for, outermost first.
    trail: Vec<String>,
}

fn never(at: &Location, code: Code, message: impl Into<String>) -> Wait {
    Wait::Never(Note { code, at: at.clone(), message: message.into() })
}

impl Walk<'_> {
    /// The source a unit's `sourceRef` names.
    pub(super) fn source(&self, unit: &Kustomization, settled: bool) -> Result<Arc<Artifact>, Wait> {
        let id = format!("{}/{}", unit.source_namespace, unit.source_name);
        let mut asking = Asking { at: &unit.source_at, settled, trail: Vec::new() };
        if self.lockdown.no_cross_namespace_refs && unit.source_namespace != unit.id.namespace {
            let message = format!(
                "unit {} refers to source {id} in another namespace, which --no-cross-namespace-refs of this cluster's \
                 kustomize-controller forbids; use a source in namespace {}",
                unit.id, unit.id.namespace
            );
            return Err(never(asking.at, Code::CrossNamespaceRef, message));
        }
        self.artifact(&unit.source_kind, &id, &mut asking)
    }

    fn artifact(&self, kind: &str, id: &str, asking: &mut Asking<'_>) -> Result<Arc<Artifact>, Wait> {
        let name = label(kind, id);
        if let Some(known) = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(known.clone());
        }
        if asking.trail.contains(&name) || asking.trail.len() >= DEPTH {
            let way = asking.trail.iter().chain([&name]).cloned().collect::<Vec<_>>().join(" -> ");
            let message = format!("sources are made of each other: {way}; remove one of these references");
            return Err(never(asking.at, Code::SourceCycle, message));
        }
        // The root's own source is the hub's business, whatever Git says of it.
        let own = kind == "GitRepository" && self.root_ids.contains(id);
        if let Some(why) = self.open_sources.get(&(kind.to_owned(), id.to_owned())).filter(|_| !own) {
            return Err(never(asking.at, Code::SourceNotReady, why.clone()));
        }
        asking.trail.push(name.clone());
        let made = match kind {
            "GitRepository" | "OCIRepository" | "Bucket" => self.declared_source(kind, id, asking),
            "ExternalArtifact" => self.generated(id, asking),
            _ => {
                let message = format!(
                    "source {name} is of a kind that is not rendered; GitRepository, OCIRepository and ExternalArtifact are"
                );
                Err(never(asking.at, Code::SourceKindUnsupported, message))
            }
        };
        asking.trail.pop();
        let made = Arc::new(made?);
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.insert(made.source.id.as_str().into(), made.source.tree.clone());
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, made.clone());
        Ok(made)
    }

    /// A source that a controller fetches.
    fn declared_source(&self, kind: &str, id: &str, asking: &mut Asking<'_>) -> Result<Artifact, Wait> {
        let name = label(kind, id);
        let decl = self.declared.get(&(kind.to_owned(), id.to_owned()));
        let own = kind == "GitRepository" && self.root_ids.contains(id);
        let from_root = own || decl.is_some_and(|decl| self.is_root(decl));
        let base = if from_root {
            SourceTree { id: name.clone(), tree: self.root_tree.clone(), ..self.sources.root().clone() }
        } else {
            SourceTree { id: name.clone(), ..self.fetched(decl.ok_or(Wait::Later)?, asking)? }
        };
        let at = asking.at;
        let unreadable = |e: TreeError| never(at, Code::SourceNotReady, format!("cannot read source {name}: {e}"));
        let submodules = decl.is_some_and(|d| d.submodules);
        if submodules {
            self.builds.composes();
        }
        if submodules && base.tree.entry(".gitmodules").map_err(unreadable)?.is_some() {
            let message = format!(
                "source {name} has spec.recurseSubmodules, and its repository has submodules, which the hub does not fetch; declare \
                 each as a GitRepository and take it in with spec.include"
            );
            return Err(never(asking.at, Code::SourceRefused, message));
        }
        let mut revisions = BTreeSet::from([SourceRevision { source: name.clone(), revision: base.revision.clone() }]);
        let mut from_root = from_root;
        let ignore = if own { self.root_ignore.as_deref() } else { decl.and_then(|d| d.ignore.as_deref()) };
        let tree = match decl.filter(|d| !d.sparse.is_empty() || !d.include.is_empty()) {
            None => base.tree.clone(),
            Some(decl) => self.composed(decl, &base, &mut revisions, &mut from_root, asking)?,
        };
        let rules = match decl.and_then(|d| d.artifact.as_ref()) {
            Some(artifact) if artifact.copy => Rules::everything(),
            _ => Rules::of(&*tree, ignore).map_err(unreadable)?,
        };
        Ok(Artifact { source: SourceTree { tree, ..base }, rules, revisions, from_root })
    }

    /// What the hub has of a declared source.
    fn fetched(&self, decl: &SourceDecl, asking: &Asking<'_>) -> Result<SourceTree, Wait> {
        let name = decl.label();
        if let Some((why, at)) = &decl.refused {
            let code = if decl.kind == "Bucket" { Code::SourceKindUnsupported } else { Code::SourceRefused };
            let message = format!("source {name} (declared in {}) cannot be used: {why}", decl.declared_at);
            return Err(Wait::Never(Note { code, at: at.clone(), message }));
        }
        if let Some(verify) = &decl.verify {
            let namespace = decl.id.split('/').next().unwrap_or_default();
            if self.inputs.get(true, namespace, &verify.secret).is_none() && !asking.settled {
                return Err(Wait::Later);
            }
        }
        match self.sources.find(&self.with_keys(decl)) {
            SourceState::Ready(tree) => Ok(tree),
            SourceState::Missing(why) => {
                let ours = decl.kind == "GitRepository" && self.is_roots_address(decl);
                if ours
                    && decl.verify.is_none()
                    && let Some(tree) = self.sources.root_at(&decl.reference)
                {
                    return Ok(tree);
                }
                let what = if ours {
                    "is the root's own repository at another ref"
                } else {
                    "is not the root's own repository"
                };
                let message = format!(
                    "source {name} ({}, {}; declared in {}) {what}, and the hub has not got it: {why}",
                    decl.url, decl.reference, decl.declared_at
                );
                Err(never(asking.at, Code::SourceNotReady, message))
            }
        }
    }

    /// The declaration with the public keys that this cluster's own tree holds for it.
    fn with_keys(&self, decl: &SourceDecl) -> SourceDecl {
        let mut decl = decl.clone();
        let namespace = decl.id.split('/').next().unwrap_or_default().to_owned();
        if let Some(verify) = &mut decl.verify
            && let Some(Known::Plain(data)) = self.inputs.get(true, &namespace, &verify.secret).map(|p| &p.known)
        {
            verify.keys = Some(data.clone());
        }
        decl
    }

    /// The tree after sparse checkout and includes, in Flux's order: what is ignored is judged last.
    fn composed(
        &self,
        decl: &SourceDecl,
        base: &SourceTree,
        revisions: &mut BTreeSet<SourceRevision>,
        from_root: &mut bool,
        asking: &mut Asking<'_>,
    ) -> Result<Arc<dyn Tree>, Wait> {
        self.builds.composes();
        let name = decl.label();
        let part = Part { source: name.as_str().into(), tree: base.tree.clone() };
        let mut composer = Composer::new();
        let at = asking.at;
        let failed = |e: ComposeError| {
            never(at, Code::IncludeFailed, format!("source {name} (declared in {}): {e}", decl.declared_at))
        };
        match decl.sparse.as_slice() {
            [] => {
                composer.lend(&part, "", "").map_err(failed)?;
            }
            wanted => sparse(&part, wanted, &mut composer).map_err(|why| {
                let message = format!("source {name} (declared in {}): spec.sparseCheckout: {why}", decl.declared_at);
                never(asking.at, Code::IncludeFailed, message)
            })?,
        }
        let namespace = decl.id.split('/').next().unwrap_or_default();
        for include in &decl.include {
            let id = format!("{namespace}/{}", include.repository);
            let fail = |code, why: String| {
                let message = format!("source {name} includes {id}, which {why}");
                Wait::Never(Note { code, at: include.at.clone(), message })
            };
            let included = match self.artifact("GitRepository", &id, asking) {
                Ok(included) => included,
                Err(Wait::Later) if asking.settled => {
                    return Err(fail(
                        Code::SourceNotDeclared,
                        "is declared nowhere in what this cluster renders".to_owned(),
                    ));
                }
                Err(Wait::Later) => return Err(Wait::Later),
                Err(Wait::Never(note)) if note.code == Code::SourceCycle => {
                    // Shown at the innermost of the references that close the circle.
                    let at = if note.at == *asking.at { include.at.clone() } else { note.at };
                    return Err(Wait::Never(Note { at, ..note }));
                }
                Err(Wait::Never(note)) => return Err(fail(note.code, format!("is not ready: {}", note.message))),
            };
            revisions.extend(included.revisions.iter().cloned());
            *from_root |= included.from_root;
            let there = composer.entry(&include.to).map_err(|e| failed(e.into()))?;
            if there.is_some() || include.to.is_empty() {
                let why = format!("has to go to {:?}, where something is already; choose another toPath", include.to);
                return Err(fail(Code::IncludeFailed, why));
            }
            let lent = composer.lend(&included.part(), &include.from, &include.to);
            if !lent.map_err(|e| fail(Code::IncludeFailed, format!("cannot be put in: {e}")))? {
                return Err(fail(Code::IncludeFailed, format!("has no {:?}; correct fromPath", include.from)));
            }
        }
        Ok(Arc::new(composer.finish()))
    }

    /// An ExternalArtifact that an ArtifactGenerator of this cluster makes.
    fn generated(&self, id: &str, asking: &mut Asking<'_>) -> Result<Artifact, Wait> {
        let (namespace, name) = id.split_once('/').unwrap_or_default();
        let here = |g: &&Generator| g.id.split('/').next() == Some(namespace) && g.may_make(name);
        let mut makers: Vec<&Generator> = self.generators.values().filter(here).collect();
        // One that names it comes before one that finds names by looking.
        makers.sort_by_key(|g| g.pattern.is_some());
        for generator in makers {
            if let Some(made) = self.made_by(generator, id, name, asking)? {
                return Ok(made);
            }
        }
        match self.declared.get(&("ExternalArtifact".to_owned(), id.to_owned())) {
            Some(decl) => Err(match self.fetched(decl, asking) {
                Err(wait) => wait,
                Ok(_) => Wait::Later,
            }),
            None => Err(Wait::Later),
        }
    }

    /// `None`: it makes others.
    fn made_by(
        &self,
        generator: &Generator,
        id: &str,
        name: &str,
        asking: &mut Asking<'_>,
    ) -> Result<Option<Artifact>, Wait> {
        self.builds.composes();
        let kind = generator::KIND;
        if generator.disabled {
            let message = format!(
                "{kind} {} ({}) is annotated source.extensions.fluxcd.io/reconcile: disabled, so {id} stays as it was made last: its \
                 units keep what they have in the cluster",
                generator.id, generator.at
            );
            return Err(never(asking.at, Code::SourceNotReady, message));
        }
        let mut parts = BTreeMap::new();
        let mut sources: BTreeMap<&str, Arc<Artifact>> = BTreeMap::new();
        for alias in generator.needed_by(name) {
            let source = self.source_of(generator, alias, asking)?;
            parts.insert(alias.name.clone(), source.part());
            sources.insert(&alias.name, source);
        }
        let outputs = generator.artifacts(&parts).map_err(Wait::Never)?;
        let Some(output) = outputs.iter().find(|output| output.name == name) else { return Ok(None) };
        let tree = copy::artifact(&generator.id, output, &parts).map_err(Wait::Never)?;
        let tree: Arc<dyn Tree> = Arc::new(Visible::generated(Arc::new(tree)));
        let label = label("ExternalArtifact", id);
        let revision = match output.revision.as_deref().and_then(|alias| sources.get(alias)) {
            Some(source) => source.source.revision.clone(),
            None => content_revision(&*tree)
                .map_err(|e| never(asking.at, Code::SourceNotReady, format!("cannot read {label}: {e}")))?,
        };
        let mut revisions = BTreeSet::from([SourceRevision { source: label.clone(), revision: revision.clone() }]);
        revisions.extend(sources.values().flat_map(|s| s.revisions.iter().cloned()));
        let from_root = sources.values().any(|s| s.from_root);
        let source = SourceTree { id: label, tree, revision, url: String::new(), reference: GitRef::default() };
        Ok(Some(Artifact { source, rules: Rules::everything(), revisions, from_root }))
    }

    fn source_of(&self, generator: &Generator, alias: &Alias, asking: &mut Asking<'_>) -> Result<Arc<Artifact>, Wait> {
        let name = label(&alias.kind, &alias.id);
        let fail = |code, why: String| {
            let message = format!("{} {} takes files from {name}, which {why}", generator::KIND, generator.id);
            Wait::Never(Note { code, at: alias.at.clone(), message })
        };
        if self.lockdown.no_cross_namespace_refs && alias.id.split('/').next() != generator.id.split('/').next() {
            let why = "is in another namespace, which --no-cross-namespace-refs of this cluster's controllers forbids";
            return Err(fail(Code::CrossNamespaceRef, why.to_owned()));
        }
        match self.artifact(&alias.kind, &alias.id, asking) {
            Ok(source) => Ok(source),
            Err(Wait::Later) if asking.settled => {
                Err(fail(Code::SourceNotDeclared, "is declared nowhere in what this cluster renders".to_owned()))
            }
            Err(Wait::Later) => Err(Wait::Later),
            Err(Wait::Never(note)) if note.code == Code::SourceCycle => Err(Wait::Never(note)),
            Err(Wait::Never(note)) => Err(fail(note.code, format!("is not ready: {}", note.message))),
        }
    }

    /// Whether a declaration is the root's own repository.
    fn is_root(&self, decl: &SourceDecl) -> bool {
        // Whoever asks for signatures is not served what nobody checked with these keys.
        if decl.kind != "GitRepository" || decl.verify.is_some() || decl.refused.is_some() {
            return false;
        }
        if self.sources.is_alias(decl) {
            return true;
        }
        // Where tenants may not refer to each other's sources, naming the address of the root's must not give it to them.
        let namespace = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
        let at_home = self.root_ids.iter().any(|id| namespace(id) == namespace(&decl.id));
        if self.lockdown.no_cross_namespace_refs && !at_home {
            return false;
        }
        self.is_roots(|url, reference| same_repository(url, &decl.url) && *reference == decl.reference)
    }

    /// Whether a declaration has the address of the root's own repository, at whatever ref.
    fn is_roots_address(&self, decl: &SourceDecl) -> bool {
        self.is_roots(|url, _| same_repository(url, &decl.url))
    }

    /// Whether this holds for the root's source as the hub has it, or as Git declares it.
    fn is_roots(&self, same: impl Fn(&str, &GitRef) -> bool) -> bool {
        let root = self.sources.root();
        let declared = |id: &String| self.declared.get(&("GitRepository".to_owned(), id.clone()));
        same(&root.url, &root.reference)
            || self.root_ids.iter().filter_map(declared).any(|own| same(&own.url, &own.reference))
    }

    /// Notes the sources that units use, besides the root's own, and those that they are made of.
    pub(super) fn want(&mut self) {
        let mut open: Vec<(String, String)> = self
            .found
            .units
            .values()
            .filter_map(|u| u.kustomization.as_ref())
            .filter(|unit| unit.remote.is_none())
            .map(|unit| (unit.source_kind.clone(), format!("{}/{}", unit.source_namespace, unit.source_name)))
            .collect();
        let mut seen = BTreeSet::new();
        while let Some((kind, id)) = open.pop() {
            if !seen.insert((kind.clone(), id.clone())) {
                continue;
            }
            let (namespace, name) = id.split_once('/').unwrap_or_default();
            if kind == "ExternalArtifact" {
                let here =
                    |g: &&Generator| g.id.split('/').next() == Some(namespace) && g.may_make(name) && !g.disabled;
                let needed = self.generators.values().filter(here).flat_map(|g| g.needed_by(name));
                open.extend(needed.map(|alias| (alias.kind.clone(), alias.id.clone())));
                continue;
            }
            let Some(decl) = self.declared.get(&(kind.clone(), id.clone())) else { continue };
            let includes =
                decl.include.iter().map(|i| ("GitRepository".to_owned(), format!("{namespace}/{}", i.repository)));
            open.extend(includes);
            let own = kind == "GitRepository" && self.root_ids.contains(&id);
            let fetched = matches!(kind.as_str(), "GitRepository" | "OCIRepository") && decl.refused.is_none();
            if fetched && !own && !self.is_root(decl) {
                self.found.wanted.insert(decl.label(), self.with_keys(decl));
            }
        }
    }
}

/// Only what begins with one of `wanted`, which is how Flux's Git library reads directories.
fn sparse(part: &Part, wanted: &[String], composer: &mut Composer) -> Result<(), String> {
    for written in wanted {
        let prefix = written.strip_prefix("./").unwrap_or(written);
        if !prefix.is_empty() && part.tree.entry(&path::clamped(prefix)).map_err(|e| e.to_string())?.is_none() {
            return Err(format!("{written:?} is not in the repository; correct it, or remove it"));
        }
        let (folder, stem) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        for (name, _) in part.tree.list(folder).map_err(|e| e.to_string())?.unwrap_or_default() {
            if name.starts_with(stem) {
                let here = path::join(folder, &name);
                composer.lend(part, &here, &here).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(())
}

/// `latest@sha256:...` over the content, as Flux names artifacts without a revision of their own. The digest is not that of
/// Flux's archive, but changes when that does.
fn content_revision(tree: &dyn Tree) -> Result<Revision, TreeError> {
    let id = match tree.entry("")? {
        Some(Entry::Folder { id }) => id.0,
        _ => [0; 32],
    };
    let digest = Sha256::digest(id);
    let commit = digest.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Revision { reference: "latest".to_owned(), commit })
}
