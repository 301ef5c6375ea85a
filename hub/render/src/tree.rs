//! The only door to files: a read-only tree of one revision.
//!
//! Rendering is hermetic. Whatever a build reads, it reads through [`Tree`]; there is no host path behind it. Paths are
//! relative to the root, `/`-separated, without `.` or `..` segments; the root itself is `""`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The identity of a file's content. Equal ids mean equal bytes, across revisions and sources.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 32]);

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for b in &self.0[..6] {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file, by content and length in bytes (known without reading).
    File {
        /// The content's identity.
        id: ContentId,
        /// Length in bytes.
        len: u64,
    },
    /// A folder, by the identity of everything below it.
    Folder {
        /// The identity of the listing, recursively.
        id: ContentId,
    },
    /// A symbolic link; its target is its content.
    Link {
        /// The identity of the target text.
        id: ContentId,
    },
    /// A Git submodule: listed, never followed.
    Submodule,
}

/// Why a tree could not answer. Absence is not an error: it is `None`.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The object store failed (missing object, corrupt pack, I/O).
    #[error("cannot read {path:?} of the source: {reason}")]
    Unreadable {
        /// The path asked for.
        path: String,
        /// The store's words.
        reason: String,
    },
    /// Larger than the limit (`security.md` section 4: a blob is at most 16 MiB, a YAML file at most 4 MiB).
    #[error("{path:?} has {len} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The path asked for.
        path: String,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
}

/// A read-only tree of files: one revision of one source.
pub trait Tree: Send + Sync {
    /// What stands at `path`, without following a link in its last segment or before. `None`: nothing there.
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError>;

    /// The names in a folder, sorted bytewise, with what stands there. `None`: no folder there.
    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError>;

    /// The bytes of a file, or the target text of a link. `None`: neither there.
    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError>;

    /// The paths of all files called `name` in a folder and below it, sorted bytewise. Folders called `.git` are passed
    /// over. None where there is no folder.
    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        let mut out = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            for (child, entry) in self.list(&folder)?.unwrap_or_default() {
                let here = crate::flux::path::join(&folder, &child);
                match entry {
                    Entry::Folder { .. } if child != ".git" => open.push(here),
                    Entry::File { .. } if child == name => out.push(here),
                    _ => {}
                }
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Where what stands at `path` was written, when this tree is made of others: the source and the path there. `None`:
    /// here.
    fn origin(&self, path: &str) -> Option<(Arc<str>, String)> {
        let _ = path;
        None
    }
}

/// A tree in memory, for tests and for `build DIR`.
#[derive(Clone, Debug, Default)]
pub struct MemTree {
    files: BTreeMap<String, (ContentId, Arc<[u8]>)>,
    links: BTreeMap<String, String>,
    /// The ids of folders that were asked for since the last change.
    folders: Arc<Mutex<HashMap<String, Option<ContentId>>>>,
}

impl MemTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file; folders appear by themselves.
    pub fn insert(&mut self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        self.folders = Arc::default();
        self.files.insert(path.into(), (ContentId(*blake3::hash(&bytes).as_bytes()), bytes));
    }

    /// Puts a symbolic link.
    pub fn insert_link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.folders = Arc::default();
        self.links.insert(path.into(), target.into());
    }

    fn folder_id(&self, path: &str) -> Option<ContentId> {
        let known = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known().get(path) {
            return *id;
        }
        let id = self.count_folder(path);
        known().insert(path.to_owned(), id);
        id
    }

    fn count_folder(&self, path: &str) -> Option<ContentId> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut hasher = blake3::Hasher::new();
        let mut any = path.is_empty();
        for (name, (id, _)) in self.files.range(prefix.clone()..).take_while(|(n, _)| n.starts_with(&prefix)) {
            any = true;
            hasher.update(&name.as_bytes()[prefix.len()..]);
            hasher.update(b"\0f");
            hasher.update(&id.0);
        }
        for (name, target) in self.links.range(prefix.clone()..).take_while(|(n, _)| n.starts_with(&prefix)) {
            any = true;
            hasher.update(&name.as_bytes()[prefix.len()..]);
            hasher.update(b"\0l");
            hasher.update(blake3::hash(target.as_bytes()).as_bytes());
        }
        any.then(|| ContentId(*hasher.finalize().as_bytes()))
    }
}

impl Tree for MemTree {
    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        let wanted = |path: &&String| {
            let inside = folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            inside && path.rsplit('/').next() == Some(name) && !path.split('/').any(|part| part == ".git")
        };
        Ok(self.files.keys().filter(wanted).cloned().collect())
    }

    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        if let Some((id, bytes)) = self.files.get(path) {
            return Ok(Some(Entry::File { id: *id, len: bytes.len() as u64 }));
        }
        if let Some(target) = self.links.get(path) {
            return Ok(Some(Entry::Link { id: ContentId(*blake3::hash(target.as_bytes()).as_bytes()) }));
        }
        Ok(self.folder_id(path).map(|id| Entry::Folder { id }))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        if self.folder_id(path).is_none() {
            return Ok(None);
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names: Vec<&str> = self
            .files
            .keys()
            .chain(self.links.keys())
            .filter_map(|n| n.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut out = Vec::with_capacity(names.len());
        for name in names {
            if let Some(entry) = self.entry(&format!("{prefix}{name}"))? {
                out.push((name.to_owned(), entry));
            }
        }
        Ok(Some(out))
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        if let Some((_, bytes)) = self.files.get(path) {
            return Ok(Some(bytes.clone()));
        }
        Ok(self.links.get(path).map(|t| Arc::from(t.as_bytes())))
    }
}
