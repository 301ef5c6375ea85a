//! One copy operation of an ArtifactGenerator: `cp` from a source into an artifact, as Flux's source-watcher does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_yaml::{Dialect, Limits, Map, Node, parse_all};

use super::fields::{Fields, Note};
use super::generator::{KIND, Output};
use super::path;
use crate::archive::{self, ArchiveLimits, Links};
use crate::compose::{ComposedTree, Composer, Part};
use crate::glob::{self, PathPattern};
use crate::report::Code;
use crate::target::Location;
use crate::tree::{Entry, Tree};

/// A copy operation.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    /// `@alias/pattern`.
    pub(crate) from: String,
    /// `@artifact/path`.
    pub(crate) to: String,
    exclude: Vec<String>,
    strategy: Strategy,
    /// Nothing there is no error.
    optional: bool,
    at: Location,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Overwrite,
    /// YAML files that are there already are merged as Helm merges values.
    Merge,
    /// Archives are unpacked.
    Extract,
}

impl Copy {
    pub(crate) fn read(fields: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Self, Note> {
        fields.unknown(&["exclude", "from", "optional", "strategy", "to"], notes);
        let strategy = match fields.filled("strategy")?.as_deref() {
            None | Some("Overwrite") => Strategy::Overwrite,
            Some("Merge") => Strategy::Merge,
            Some("Extract") => Strategy::Extract,
            Some(other) => {
                let message =
                    format!("{} is {other:?}, which is none of Overwrite, Merge, Extract", fields.name("strategy"));
                return Err(fields.note(Code::InvalidSpec, "strategy", message));
            }
        };
        Ok(Self {
            from: fields.required("from")?.to_owned(),
            to: fields.required("to")?.to_owned(),
            exclude: fields.texts("exclude")?,
            strategy,
            optional: fields.flag("optional")?.unwrap_or(false),
            at: fields.at("from"),
        })
    }

    /// The source it takes from.
    pub(crate) fn alias(&self) -> Option<&str> {
        Some(self.from.strip_prefix('@')?.split_once('/')?.0)
    }
}

/// Makes an artifact.
pub(crate) fn artifact(generator: &str, output: &Output, parts: &BTreeMap<String, Part>) -> Result<ComposedTree, Note> {
    let mut composer = Composer::new();
    for copy in &output.copies {
        run(copy, parts, &mut composer).map_err(|reason| Note {
            code: Code::ArtifactFailed,
            at: copy.at.clone(),
            message: format!(
                "artifact {} of {KIND} {generator} cannot be made: copy from {:?} to {:?}: {reason}",
                output.name, copy.from, copy.to
            ),
        })?;
    }
    Ok(composer.finish())
}

/// A copy with everything it needs.
struct Running<'a> {
    copy: &'a Copy,
    part: &'a Part,
    exclude: Vec<PathPattern>,
    /// Where excludes are counted from besides the root: the part of `from` before its first pattern.
    base: String,
    /// Below `@artifact/`; empty for the root.
    to: String,
}

fn run(copy: &Copy, parts: &BTreeMap<String, Part>, composer: &mut Composer) -> Result<(), String> {
    let from = copy.from.strip_prefix('@').and_then(|f| f.split_once('/'));
    let Some((alias, pattern)) = from else { return Err("from must read @alias/path".to_owned()) };
    let Some(to) = copy.to.strip_prefix("@artifact/") else { return Err("to must begin with @artifact/".to_owned()) };
    let leaves = to.starts_with('/') || to.split('/').any(|part| part == "..");
    let to = path::normal(to).filter(|_| !leaves).ok_or("to must stay inside the artifact")?;
    let part = parts.get(alias).ok_or_else(|| format!("there is no source with the alias {alias:?}"))?;
    let mut exclude = Vec::new();
    for pattern in &copy.exclude {
        exclude.push(
            PathPattern::read(pattern).map_err(|_| format!("the exclude {pattern:?} cannot be read as a pattern"))?,
        );
    }
    let running = Running { copy, part, exclude, base: String::new(), to };
    if glob::is_pattern(pattern) { running.matches(pattern, composer) } else { running.single(pattern, composer) }
}

/// The part of a pattern before its first segment with a wildcard.
fn literal_root(pattern: &str) -> String {
    let literal: Vec<&str> = pattern.split('/').take_while(|part| !glob::is_pattern(part)).collect();
    path::clamped(&literal.join("/"))
}

impl Running<'_> {
    /// Every path that a pattern matches.
    fn matches(mut self, pattern: &str, composer: &mut Composer) -> Result<(), String> {
        self.base = literal_root(pattern);
        let tree = &*self.part.tree;
        let unreadable = || format!("{pattern:?} cannot be read as a pattern");
        let found = match self.copy.strategy {
            Strategy::Extract => {
                let wanted = PathPattern::read(pattern).map_err(|_| unreadable())?;
                let mut all = Vec::new();
                walk(tree, &self.base, &mut all)?;
                all.retain(|path| wanted.matches(path));
                all
            }
            _ => paths(tree, pattern, &unreadable)?,
        };
        if found.is_empty() {
            return if self.copy.optional { Ok(()) } else { Err("nothing in the source matches".to_owned()) };
        }
        let kept: Vec<String> = found.into_iter().filter(|path| !self.excluded(path)).collect();
        if kept.is_empty() {
            return if self.copy.optional { Ok(()) } else { Err("everything that matches is excluded".to_owned()) };
        }
        for path in kept {
            if self.copy.strategy == Strategy::Extract {
                if is_archive(&path) && matches!(entry(tree, &path)?, Some(Entry::File { .. })) {
                    self.extract(&path, composer)?;
                }
                continue;
            }
            // `folder/**` leaves the folder's own name away, other patterns keep the whole path.
            let inside = pattern.strip_suffix("/**").and_then(|prefix| path.strip_prefix(prefix)?.strip_prefix('/'));
            let to = path::join(&self.to, inside.unwrap_or(&path));
            self.file_or_folder(&path, &to, composer)?;
        }
        Ok(())
    }

    /// A path without wildcards.
    fn single(mut self, written: &str, composer: &mut Composer) -> Result<(), String> {
        let from = path::normal(written).ok_or("from must stay inside the source")?;
        let name = from.rsplit('/').next().unwrap_or_default().to_owned();
        match entry(&*self.part.tree, &from)? {
            None if self.copy.optional => Ok(()),
            None => Err(format!("{from:?} is not in the source")),
            Some(Entry::Folder { .. }) if self.copy.strategy == Strategy::Extract => {
                Err(format!("{from:?} is a folder; only an archive can be extracted"))
            }
            Some(Entry::Folder { .. }) => {
                self.base.clone_from(&from);
                let to = if name.is_empty() { self.to.clone() } else { path::join(&self.to, &name) };
                self.folder(&from, &to, composer)
            }
            Some(_) if self.excluded(&from) => Ok(()),
            Some(_) if self.copy.strategy == Strategy::Extract => {
                if !is_archive(&from) {
                    return Err(format!("{from:?} is no .tar.gz or .tgz; only an archive can be extracted"));
                }
                self.extract(&from, composer)
            }
            Some(_) => {
                let there = composer.entry(&self.to).map_err(|e| e.to_string())?;
                let into = self.copy.to.ends_with('/') || matches!(there, Some(Entry::Folder { .. }));
                let to = if into { path::join(&self.to, &name) } else { self.to.clone() };
                self.file_or_folder(&from, &to, composer)
            }
        }
    }

    fn excluded(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let hits = |path: &str| self.exclude.iter().any(|p| p.matches(path) || !p.has_slash() && p.matches(name));
        let inside =
            if self.base.is_empty() { None } else { path.strip_prefix(&self.base).and_then(|p| p.strip_prefix('/')) };
        hits(path) || inside.is_some_and(hits)
    }

    fn file_or_folder(&self, from: &str, to: &str, composer: &mut Composer) -> Result<(), String> {
        if matches!(entry(&*self.part.tree, from)?, Some(Entry::Folder { .. })) {
            return self.folder(from, to, composer);
        }
        // Only files named by the operation are merged, not those in folders that it copies.
        let there = composer.entry(to).map_err(|e| e.to_string())?;
        if self.copy.strategy == Strategy::Merge && there.is_some() {
            return self.merge(from, to, composer);
        }
        self.lend(from, to, composer)
    }

    fn lend(&self, from: &str, to: &str, composer: &mut Composer) -> Result<(), String> {
        composer.lend(self.part, from, to).map(|_| ()).map_err(|e| e.to_string())
    }

    fn folder(&self, from: &str, to: &str, composer: &mut Composer) -> Result<(), String> {
        if self.exclude.is_empty() {
            return self.lend(from, to, composer);
        }
        composer.folder(to).map_err(|e| e.to_string())?;
        for (name, entry) in self.part.tree.list(from).map_err(|e| e.to_string())?.unwrap_or_default() {
            let here = path::join(from, &name);
            if self.excluded(&here) {
                continue;
            }
            let to = path::join(to, &name);
            match entry {
                Entry::Folder { .. } => self.folder(&here, &to, composer)?,
                _ => self.lend(&here, &to, composer)?,
            }
        }
        Ok(())
    }

    fn merge(&self, from: &str, to: &str, composer: &mut Composer) -> Result<(), String> {
        let over = read(&*self.part.tree, from)?;
        let under = composer.read(to).map_err(|e| e.to_string())?.ok_or_else(|| format!("{to:?} is no file"))?;
        let mut merged = values(&under, to)?;
        merge(&mut merged, values(&over, from)?);
        let text =
            driftless_yaml::to_string(&Node::Map(merged)).map_err(|e| format!("the merge cannot be written: {e}"))?;
        composer.put(to, text.into_bytes()).map_err(|e| e.to_string())
    }

    fn extract(&self, from: &str, composer: &mut Composer) -> Result<(), String> {
        let bytes = read(&*self.part.tree, from)?;
        let files = archive::unpack(&bytes, &ArchiveLimits::default(), Links::Refuse)
            .map_err(|e| format!("{from:?} cannot be extracted: {e}"))?;
        for file in files {
            composer.put(&path::join(&self.to, &file.path), file.bytes).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn entry(tree: &dyn Tree, path: &str) -> Result<Option<Entry>, String> {
    tree.entry(path).map_err(|e| e.to_string())
}

fn read(tree: &dyn Tree, path: &str) -> Result<Arc<[u8]>, String> {
    tree.read(path).map_err(|e| e.to_string())?.ok_or_else(|| format!("{path:?} is no file"))
}

fn is_archive(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.ends_with(".tar.gz") || lower.ends_with(".tgz")
}

/// Every file in a folder and below it, sorted.
fn walk(tree: &dyn Tree, folder: &str, out: &mut Vec<String>) -> Result<(), String> {
    for (name, entry) in tree.list(folder).map_err(|e| e.to_string())?.unwrap_or_default() {
        let here = path::join(folder, &name);
        match entry {
            Entry::Folder { .. } => walk(tree, &here, out)?,
            _ => out.push(here),
        }
    }
    Ok(())
}

/// The paths a pattern matches, as Go's `fs.Glob` finds them: `**` is one name like `*`.
fn paths(tree: &dyn Tree, pattern: &str, unreadable: &dyn Fn() -> String) -> Result<Vec<String>, String> {
    let mut found = vec![String::new()];
    for step in pattern.split('/') {
        if matches!(step, "" | "." | "..") {
            return Ok(Vec::new()); // no name of a file system
        }
        let mut next = Vec::new();
        for folder in found {
            for (name, _) in tree.list(&folder).map_err(|e| e.to_string())?.unwrap_or_default() {
                if glob::name(step, &name).map_err(|_| unreadable())? {
                    next.push(path::join(&folder, &name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

/// All documents of a values file, merged.
fn values(bytes: &[u8], path: &str) -> Result<Map, String> {
    let documents = parse_all(bytes, Dialect::Resource, &Limits::default())
        .map_err(|e| format!("{path:?} cannot be merged, it is no YAML: {e}"))?;
    let mut out = Map::new();
    for document in documents {
        match document.node {
            Node::Map(map) => merge(&mut out, map),
            node if node.is_null() => {}
            _ => return Err(format!("{path:?} cannot be merged: a document of it is no map")),
        }
    }
    Ok(out)
}

/// Maps are merged key by key; whatever else the overlay has takes the place of what was there. Depth is bounded by the
/// parser.
fn merge(under: &mut Map, over: Map) {
    for entry in &over {
        match (under.get_mut(&entry.key), &entry.value) {
            (Some(Node::Map(below)), Node::Map(above)) => merge(below, above.clone()),
            (Some(there), value) => *there = value.clone(),
            (None, value) => {
                under.insert(entry.key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
