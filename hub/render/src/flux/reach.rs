//! Which files the roots of clusters lead to: a Kustomization in one of them is a unit of that cluster and no root.
//!
//! Read from the files, nothing is built: what is said by a patch or a variable is not followed, so a root may count as not
//! reached, never the other way round.

use std::collections::BTreeSet;

use driftless_yaml::{Dialect, Limits, Node, parse_all};

use super::{path, spec, unit};
use crate::kustomize::FILE_NAMES;
use crate::tree::{Entry, Tree, TreeError};

/// Files and folders looked at: beyond any real repository, and a bound.
const PLACES: usize = 200_000;
/// Bytes of a file that may hold Kustomizations.
const FILE_BYTES: u64 = 1 << 20;

/// Every file that `roots` lead to, themselves, by kustomize and by the paths of the Kustomizations they hold.
/// `sources` are the names by which these speak of this source.
pub(super) fn files(
    tree: &dyn Tree,
    roots: &[String],
    sources: &BTreeSet<String>,
) -> Result<BTreeSet<String>, TreeError> {
    let mut walk = Walk { tree, sources, files: BTreeSet::new(), folders: BTreeSet::new(), open: Vec::new() };
    walk.open.extend(roots.iter().map(|root| Open::Unit(root.clone())));
    while let Some(next) = walk.open.pop() {
        if walk.files.len() + walk.folders.len() > PLACES {
            break;
        }
        match next {
            Open::Unit(folder) => walk.unit(&folder)?,
            Open::Kustomize(folder) => _ = walk.kustomize(&folder)?,
            Open::File(file) => walk.file(&file)?,
        }
    }
    Ok(walk.files)
}

enum Open {
    /// A folder that a Kustomization names: without a kustomization file, all that is in it.
    Unit(String),
    /// A folder that a kustomization file names.
    Kustomize(String),
    File(String),
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    sources: &'a BTreeSet<String>,
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    open: Vec<Open>,
}

impl Walk<'_> {
    fn unit(&mut self, folder: &str) -> Result<(), TreeError> {
        if self.kustomize(folder)? {
            return Ok(());
        }
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, entry) in self.tree.list(&folder)?.unwrap_or_default() {
                let here = path::join(&folder, &name);
                match entry {
                    Entry::Folder { .. } if self.folders.contains(&here) => {}
                    Entry::Folder { .. } if self.kustomize(&here)? => {}
                    Entry::Folder { .. } if self.folders.len() <= PLACES => {
                        self.folders.insert(here.clone());
                        folders.push(here);
                    }
                    Entry::File { .. } if name.ends_with(".yaml") || name.ends_with(".yml") => {
                        self.open.push(Open::File(here));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether the folder has a kustomization file; what it names is open then.
    fn kustomize(&mut self, folder: &str) -> Result<bool, TreeError> {
        if self.folders.contains(folder) {
            return Ok(true);
        }
        let mut file = None;
        for name in FILE_NAMES {
            let here = path::join(folder, name);
            if matches!(self.tree.entry(&here)?, Some(Entry::File { len, .. }) if len <= FILE_BYTES) {
                file = Some(here);
                break;
            }
        }
        let Some(file) = file else { return Ok(false) };
        self.folders.insert(folder.to_owned());
        let Some(bytes) = self.tree.read(&file)? else { return Ok(true) };
        let Ok(documents) = parse_all(&bytes, Dialect::Resource, &Limits::default()) else { return Ok(true) };
        for document in &documents {
            for field in ["resources", "bases", "components"] {
                let Some(Node::Seq(items)) = document.node.at(&[field]) else { continue };
                for named in items.iter().filter_map(Node::as_str) {
                    let Some(here) = path::normal(&path::join(folder, named)) else { continue };
                    match self.tree.entry(&here)? {
                        Some(Entry::Folder { .. }) => self.open.push(Open::Kustomize(here)),
                        Some(Entry::File { .. }) => self.open.push(Open::File(here)),
                        _ => {}
                    }
                }
            }
        }
        Ok(true)
    }

    fn file(&mut self, file: &str) -> Result<(), TreeError> {
        if !matches!(self.tree.entry(file)?, Some(Entry::File { len, .. }) if len <= FILE_BYTES)
            || !self.files.insert(file.to_owned())
        {
            return Ok(());
        }
        let Some(bytes) = self.tree.read(file)? else { return Ok(()) };
        if !String::from_utf8_lossy(&bytes).contains(spec::GROUP) {
            return Ok(());
        }
        let Ok(documents) = parse_all(&bytes, Dialect::Resource, &Limits::default()) else { return Ok(()) };
        for document in &documents {
            let is_unit =
                unit::key_of(&document.node).is_some_and(|k| k.kind == "Kustomization" && k.group == spec::GROUP);
            let text = |path: &[&str]| document.node.at(path).and_then(Node::as_str);
            // What goes to another cluster makes units there, beside that one's own root.
            if !is_unit || document.node.at(&["spec", "kubeConfig"]).is_some() {
                continue;
            }
            let own = text(&["spec", "sourceRef", "name"]).is_some_and(|name| self.sources.contains(name));
            let folder = text(&["spec", "path"]).map(path::clamped).filter(|_| own);
            // The whole source is more than anyone means when roots are told apart.
            if let Some(folder) = folder.filter(|folder| !folder.is_empty()) {
                self.open.push(Open::Unit(folder));
            }
        }
        Ok(())
    }
}
