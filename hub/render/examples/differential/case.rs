//! One input: a small tree and the folder to build.

use driftless_render::tree::{ContentId, Entry, Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Case {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) links: BTreeMap<String, String>,
    pub(crate) dir: String,
}

impl Case {
    /// A folder of the host. Symbolic links stay links, `.git` is left out.
    pub(crate) fn read(root: &Path) -> std::io::Result<Self> {
        let mut out = Self::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                let kind = entry.file_type()?;
                if kind.is_symlink() {
                    out.links.insert(name, std::fs::read_link(&path)?.to_string_lossy().into_owned());
                } else if kind.is_dir() {
                    if entry.file_name() != ".git" {
                        folders.push(path);
                    }
                } else if kind.is_file() {
                    out.files.insert(name, std::fs::read(&path)?);
                }
            }
        }
        Ok(out)
    }

    /// Writes the tree into a folder that is there.
    pub(crate) fn write(&self, root: &Path) -> std::io::Result<()> {
        for (path, bytes) in &self.files {
            let full = root.join(path);
            if let Some(parent) = full.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(full, bytes)?;
        }
        for (path, target) in &self.links {
            let full = root.join(path);
            if let Some(parent) = full.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::os::unix::fs::symlink(target, full)?;
        }
        std::fs::create_dir_all(root.join(&self.dir))
    }

    /// The folders that hold a kustomization file.
    pub(crate) fn folders(&self) -> Vec<String> {
        let mut out: Vec<String> = self
            .files
            .keys()
            .filter_map(|path| {
                let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
                is_kustomization(name).then(|| dir.to_owned())
            })
            .collect();
        out.dedup();
        out
    }
}

pub(crate) fn is_kustomization(name: &str) -> bool {
    matches!(name, "kustomization.yaml" | "kustomization.yml" | "Kustomization")
}

/// A [`Case`] as a tree that notes what is read. Identities are not content addresses: one build needs none.
pub(crate) struct Recorder<'c> {
    case: &'c Case,
    seen: Mutex<BTreeSet<String>>,
}

impl<'c> Recorder<'c> {
    pub(crate) fn new(case: &'c Case) -> Self {
        Self { case, seen: Mutex::default() }
    }

    pub(crate) fn reads(self) -> Vec<String> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }

    fn below<'m, T>(map: &'m BTreeMap<String, T>, prefix: &'m str) -> impl Iterator<Item = &'m str> {
        map.range(prefix.to_owned()..).map(|(p, _)| p.as_str()).take_while(move |p| p.starts_with(prefix))
    }
}

impl Tree for Recorder<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        let id = ContentId([0; 32]);
        if let Some(bytes) = self.case.files.get(path) {
            return Ok(Some(Entry::File { id, len: bytes.len() as u64 }));
        }
        if self.case.links.contains_key(path) {
            return Ok(Some(Entry::Link { id }));
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let own = self.case.dir == path || self.case.dir.starts_with(&prefix);
        let any = own
            || Self::below(&self.case.files, &prefix).next().is_some()
            || Self::below(&self.case.links, &prefix).next().is_some();
        Ok(any.then_some(Entry::Folder { id }))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let names: BTreeSet<&str> = Self::below(&self.case.files, &prefix)
            .chain(Self::below(&self.case.links, &prefix))
            .filter_map(|p| p[prefix.len()..].split('/').next())
            .collect();
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            if let Some(entry) = self.entry(&format!("{prefix}{name}"))? {
                out.push((name.to_owned(), entry));
            }
        }
        Ok(Some(out))
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        if let Some(bytes) = self.case.files.get(path) {
            return Ok(Some(bytes.as_slice().into()));
        }
        Ok(self.case.links.get(path).map(|t| Arc::from(t.as_bytes())))
    }
}
