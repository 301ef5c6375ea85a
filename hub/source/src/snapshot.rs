//! A folder read at most once per path: what a command that renders many clusters from a work tree reads.

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftless_render::tree::{ContentId, Entry, Tree, TreeError};

use crate::folder::{FolderTree, worktree_tree};
use crate::tree::{content_id, join};
use crate::unseen::Unseen;

/// Bytes of files kept in memory; what is beyond is read again from disk.
const KEPT_BYTES: usize = 256 << 20;

type Listing = Vec<(String, Entry)>;

/// A folder as it was when each of its paths was first asked for. Files carry Git's own digest, so that one equal to a
/// file of a [`crate::GitTree`] is known to be equal; the identity of a folder is good for this snapshot only.
pub struct Snapshot {
    folder: FolderTree,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    entries: HashMap<String, Option<Entry>>,
    listings: HashMap<String, Option<Arc<Listing>>>,
    files: HashMap<String, Arc<[u8]>>,
    found: HashMap<(String, String), Arc<Vec<String>>>,
    bytes: usize,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.folder.root().display())
    }
}

impl Snapshot {
    /// The folder `dir`; nothing is read yet. What it shows is what [`worktree_tree`] shows.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { folder: worktree_tree(dir), memory: Mutex::default() }
    }

    /// The same without what Git would not show to anybody else.
    pub(crate) fn without(dir: &Path, unseen: Unseen) -> Self {
        let mut folder = worktree_tree(dir);
        folder.unseen = Arc::new(unseen);
        Self { folder, memory: Mutex::default() }
    }

    /// How many tracked files are not on disk, since the checkout is sparse.
    #[must_use]
    pub fn sparse(&self) -> usize {
        self.folder.unseen.sparse
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, at: &Path, metadata: &Metadata, path: &str) -> Result<Option<Entry>, TreeError> {
        if self.folder.unseen.is_submodule(path) {
            return Ok(Some(Entry::Submodule));
        }
        if metadata.is_dir() {
            let mut hasher = blake3::Hasher::new();
            hasher.update(self.folder.root().as_os_str().as_encoded_bytes());
            hasher.update(b"\0snapshot\0");
            hasher.update(path.as_bytes());
            return Ok(Some(Entry::Folder { id: ContentId(*hasher.finalize().as_bytes()) }));
        }
        if !metadata.is_file() && !metadata.is_symlink() {
            return Ok(None); // a socket or device is no content
        }
        if metadata.len() > self.folder.limits.blob_bytes {
            // Not read: listing a folder beside a huge file must work. The id says "unknown content of this length".
            let unread = format!("unread\0{path}\0{}", metadata.len());
            return Ok(Some(Entry::File {
                id: ContentId(*blake3::hash(unread.as_bytes()).as_bytes()),
                len: metadata.len(),
            }));
        }
        let bytes: Arc<[u8]> = self.folder.bytes(at, metadata, path)?.into();
        let unreadable = |e: &dyn fmt::Display| TreeError::Unreadable { path: path.to_owned(), reason: e.to_string() };
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, &bytes)
            .map_err(|e| unreadable(&e))?;
        let (id, len) = (content_id(id), bytes.len() as u64);
        self.keep(path, bytes);
        Ok(Some(if metadata.is_symlink() { Entry::Link { id } } else { Entry::File { id, len } }))
    }

    fn keep(&self, path: &str, bytes: Arc<[u8]>) {
        let mut memory = self.memory();
        if memory.bytes + bytes.len() <= KEPT_BYTES {
            memory.bytes += bytes.len();
            memory.files.insert(path.to_owned(), bytes);
        }
    }
}

impl Tree for Snapshot {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        if let Some(known) = self.memory().entries.get(path) {
            return Ok(*known);
        }
        let entry = match self.folder.locate(path)? {
            Some((at, metadata)) => self.describe(&at, &metadata, path)?,
            None => None,
        };
        self.memory().entries.insert(path.to_owned(), entry);
        Ok(entry)
    }

    fn list(&self, path: &str) -> Result<Option<Listing>, TreeError> {
        if let Some(known) = self.memory().listings.get(path) {
            return Ok(known.as_ref().map(|l| l.to_vec()));
        }
        let listing = match self.folder.locate_folder(path)? {
            None => None,
            Some(at) => {
                let mut out = Vec::new();
                for (name, metadata) in self.folder.names(&at, path)? {
                    let full = join(path, &name);
                    let known = self.memory().entries.get(&full).copied();
                    let entry = match known {
                        Some(entry) => entry,
                        None => self.describe(&at.join(&name), &metadata, &full)?,
                    };
                    self.memory().entries.insert(full, entry);
                    out.extend(entry.map(|entry| (name, entry)));
                }
                Some(out)
            }
        };
        self.memory().listings.insert(path.to_owned(), listing.clone().map(Arc::new));
        Ok(listing)
    }

    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        let key = (folder.to_owned(), name.to_owned());
        if let Some(known) = self.memory().found.get(&key) {
            return Ok(known.to_vec());
        }
        let found = self.folder.find(folder, name)?;
        self.memory().found.insert(key, Arc::new(found.clone()));
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        // Notes what stands there, and keeps its bytes where they fit.
        match self.entry(path)? {
            Some(Entry::File { .. } | Entry::Link { .. }) => {}
            _ => return Ok(None),
        }
        if let Some(bytes) = self.memory().files.get(path) {
            return Ok(Some(bytes.clone()));
        }
        self.folder.read(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_snapshot_shows_what_the_folder_showed_when_it_was_first_asked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join("a/b/c.yaml"), "kind: X\n").unwrap();
        std::os::unix::fs::symlink("b/c.yaml", root.join("a/link")).unwrap();
        let (tree, plain) = (Snapshot::new(root), worktree_tree(root));
        for path in ["", "a", "a/b", "a/b/c.yaml", "a/link", "nothing", ".git", "a/../a"] {
            let names = |t: &dyn Tree| t.list(path).unwrap().map(|l| l.into_iter().map(|(n, _)| n).collect::<Vec<_>>());
            assert_eq!(names(&tree), names(&plain), "names in {path:?}");
            let kind = |t: &dyn Tree| t.entry(path).unwrap().map(|e| std::mem::discriminant(&e));
            assert_eq!(kind(&tree), kind(&plain), "kind of {path:?}");
            assert_eq!(tree.read(path).unwrap(), plain.read(path).unwrap(), "bytes of {path:?}");
        }
        fs::write(root.join("a/b/c.yaml"), "kind: Y\n").unwrap();
        fs::write(root.join("a/b/new.yaml"), "kind: Z\n").unwrap();
        assert_eq!(tree.read("a/b/c.yaml").unwrap().as_deref(), Some(&b"kind: X\n"[..]));
        assert_eq!(tree.list("a/b").unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_file_has_the_digest_git_gives_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hello"), "hello\n").unwrap();
        let Some(Entry::File { id, len }) = Snapshot::new(dir.path()).entry("hello").unwrap() else {
            panic!("no file")
        };
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!((format!("{id:?}").as_str(), len), ("ce013625030b", 6));
    }

    #[test]
    fn a_huge_file_is_listed_but_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("huge")).unwrap().set_len(17 << 20).unwrap();
        let tree = Snapshot::new(dir.path());
        assert_eq!(tree.list("").unwrap().unwrap().len(), 1);
        assert!(matches!(tree.read("huge"), Err(TreeError::TooLarge { len, .. }) if len == 17 << 20));
    }
}
