//! A plain folder as a tree: what `driftless build DIR` and `driftless check repo` read.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless_render::tree::{ContentId, Entry, Tree, TreeError};

use crate::config::Limits;
use crate::unseen::Unseen;

/// The folder that holds `.git` at or above `start`, else the root of the file system: how far a build may reach
/// (`decisions.md`, Code). `start` must exist.
///
/// # Errors
/// When `start` cannot be resolved.
pub fn enclosing_root(start: &Path) -> io::Result<PathBuf> {
    let start = start.canonicalize()?;
    let found = start.ancestors().find(|dir| dir.join(".git").exists());
    Ok(found.or_else(|| start.ancestors().last()).unwrap_or(&start).to_path_buf())
}

/// The folder `dir` as a tree, as it is on disk: Git's index, ignore rules and attributes play no part (but see
/// [`crate::Repository::work_tree`]); `.git` at the root is not shown. A symbolic link is shown as a link and never
/// followed, so nothing outside `dir` can be read.
#[must_use]
pub fn worktree_tree(dir: &Path) -> FolderTree {
    FolderTree { root: dir.to_path_buf(), limits: Limits::default(), unseen: Arc::default() }
}

/// See [`worktree_tree`].
#[derive(Clone)]
pub struct FolderTree {
    root: PathBuf,
    pub(crate) limits: Limits,
    /// What is there and not shown; nothing unless a Git repository says so.
    pub(crate) unseen: Arc<Unseen>,
}

impl fmt::Debug for FolderTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderTree({})", self.root.display())
    }
}

impl FolderTree {
    /// The folder on disk.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path on disk and what is there, when no segment before the last is a link. `None` also for a path that is not
    /// in plain form.
    pub(crate) fn locate(&self, path: &str) -> Result<Option<(PathBuf, Metadata)>, TreeError> {
        if self.unseen.hides(path) {
            return Ok(None);
        }
        let mut at = self.root.clone();
        let mut here = self.stat(&at, path)?;
        if path.is_empty() {
            return Ok(here.map(|m| (at, m)));
        }
        for (depth, segment) in path.split('/').enumerate() {
            if matches!(segment, "" | "." | "..") || segment.contains('\0') || (depth == 0 && segment == ".git") {
                return Ok(None);
            }
            if !here.as_ref().is_some_and(Metadata::is_dir) {
                return Ok(None);
            }
            at.push(segment);
            here = self.stat(&at, path)?;
        }
        Ok(here.map(|m| (at, m)))
    }

    /// The path on disk of a folder whose content is part of the tree: what a submodule holds is not.
    pub(crate) fn locate_folder(&self, path: &str) -> Result<Option<PathBuf>, TreeError> {
        let found = self.locate(path)?.filter(|(_, metadata)| metadata.is_dir() && !self.unseen.is_submodule(path));
        Ok(found.map(|(at, _)| at))
    }

    fn stat(&self, at: &Path, path: &str) -> Result<Option<Metadata>, TreeError> {
        // The root itself may be a link: the caller named it.
        let found = if at == self.root { fs::metadata(at) } else { fs::symlink_metadata(at) };
        match found {
            Ok(metadata) => Ok(Some(metadata)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(unreadable(path, &e)),
        }
    }

    pub(crate) fn bytes(&self, at: &Path, metadata: &Metadata, path: &str) -> Result<Vec<u8>, TreeError> {
        if metadata.is_symlink() {
            let target = fs::read_link(at).map_err(|e| unreadable(path, &e))?;
            return Ok(target.into_os_string().into_encoded_bytes());
        }
        let limit = self.limits.blob_bytes;
        if metadata.len() > limit {
            return Err(TreeError::TooLarge { path: path.to_owned(), len: metadata.len(), limit });
        }
        fs::read(at).map_err(|e| unreadable(path, &e))
    }

    fn describe(&self, at: &Path, metadata: &Metadata, path: &str) -> Result<Option<Entry>, TreeError> {
        if self.unseen.is_submodule(path) {
            return Ok(Some(Entry::Submodule));
        }
        let id = |bytes: &[u8]| ContentId(*blake3::hash(bytes).as_bytes());
        if metadata.is_dir() {
            return Ok(Some(Entry::Folder { id: self.folder_id(at, path)? }));
        }
        if metadata.is_symlink() {
            return Ok(Some(Entry::Link { id: id(&self.bytes(at, metadata, path)?) }));
        }
        if !metadata.is_file() {
            return Ok(None); // a socket or device is no content
        }
        if metadata.len() > self.limits.blob_bytes {
            // Not read: listing a folder beside a huge file must work. The id says "unknown content of this length".
            let unread = format!("unread\0{path}\0{}", metadata.len());
            return Ok(Some(Entry::File { id: id(unread.as_bytes()), len: metadata.len() }));
        }
        let bytes = self.bytes(at, metadata, path)?;
        Ok(Some(Entry::File { id: id(&bytes), len: bytes.len() as u64 }))
    }

    /// A folder on disk changes under us and its digest would cost reading everything below: what identifies it is the
    /// listing with lengths and times. It is good for one run, which is all a folder tree is for.
    fn folder_id(&self, at: &Path, path: &str) -> Result<ContentId, TreeError> {
        let mut hasher = blake3::Hasher::new();
        let mut stack = vec![(at.to_path_buf(), 0_usize)];
        while let Some((dir, depth)) = stack.pop() {
            for (name, metadata) in self.names(&dir, path)? {
                hasher.update(dir.join(&name).as_os_str().as_encoded_bytes());
                hasher.update(b"\0");
                hasher.update(&metadata.len().to_le_bytes());
                let modified = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                hasher.update(&modified.unwrap_or_default().as_nanos().to_le_bytes());
                if metadata.is_dir() && depth < self.limits.tree_depth {
                    stack.push((dir.join(&name), depth + 1));
                }
            }
        }
        Ok(ContentId(*hasher.finalize().as_bytes()))
    }

    /// The names in a folder on disk, sorted bytewise.
    pub(crate) fn names(&self, dir: &Path, path: &str) -> Result<Vec<(String, Metadata)>, TreeError> {
        let mut out = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| unreadable(path, &e))? {
            let entry = entry.map_err(|e| unreadable(path, &e))?;
            let Ok(name) = entry.file_name().into_string() else { continue }; // no path can name it
            if (dir == self.root && name == ".git") || self.unseen.hides(&crate::tree::join(path, &name)) {
                continue;
            }
            if let Some(metadata) = self.stat(&dir.join(&name), path)? {
                out.push((name, metadata));
            }
        }
        out.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        Ok(out)
    }
}

fn unreadable(path: &str, error: &io::Error) -> TreeError {
    TreeError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

impl Tree for FolderTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        match self.locate(path)? {
            Some((at, metadata)) => self.describe(&at, &metadata, path),
            None => Ok(None),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let Some(at) = self.locate_folder(path)? else { return Ok(None) };
        let mut out = Vec::new();
        for (name, metadata) in self.names(&at, path)? {
            let full = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if let Some(entry) = self.describe(&at.join(&name), &metadata, &full)? {
                out.push((name, entry));
            }
        }
        Ok(Some(out))
    }

    /// By names alone: no file is read for it.
    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        let mut out = Vec::new();
        let mut open: Vec<_> =
            self.locate_folder(folder)?.map(|at| (at, folder.to_owned(), 0_usize)).into_iter().collect();
        while let Some((dir, folder, depth)) = open.pop() {
            for (child, metadata) in self.names(&dir, &folder)? {
                let here = if folder.is_empty() { child.clone() } else { format!("{folder}/{child}") };
                let folder = metadata.is_dir() && child != ".git" && !self.unseen.is_submodule(&here);
                if folder && depth < self.limits.tree_depth {
                    open.push((dir.join(&child), here, depth + 1));
                } else if metadata.is_file() && child == name {
                    out.push(here);
                }
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        let Some((at, metadata)) = self.locate(path)? else { return Ok(None) };
        if !metadata.is_file() && !metadata.is_symlink() {
            return Ok(None);
        }
        self.bytes(&at, &metadata, path).map(|b| Some(b.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_reads_as_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git/objects")).unwrap();
        fs::write(root.join("a/b/c.yaml"), "kind: X\n").unwrap();
        fs::write(root.join("a.yaml"), "1").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("b/c.yaml", root.join("a/link")).unwrap();
        let tree = worktree_tree(root);
        let names = |path: &str| -> Option<Vec<String>> {
            tree.list(path).unwrap().map(|l| l.into_iter().map(|(n, _)| n).collect())
        };
        assert_eq!(names("").unwrap(), ["a", "a.yaml", "out"]);
        assert_eq!(names("a").unwrap(), ["b", "link"]);
        assert_eq!(names("out"), None, "a link is no folder");
        assert_eq!(names("a.yaml"), None);
        assert_eq!(names("nothing"), None);
        assert_eq!(tree.read("a/b/c.yaml").unwrap().as_deref(), Some(&b"kind: X\n"[..]));
        assert_eq!(tree.read("a/link").unwrap().as_deref(), Some(&b"b/c.yaml"[..]));
        for outside in ["out/passwd", "../x", "a/../a.yaml", "./a.yaml", "a//b", ".git/objects", "a/"] {
            assert_eq!(tree.entry(outside).unwrap(), None, "{outside}");
            assert_eq!(tree.read(outside).unwrap(), None, "{outside}");
        }
        assert!(matches!(tree.entry("a/link").unwrap(), Some(Entry::Link { .. })));
        assert!(matches!(tree.entry("a/b").unwrap(), Some(Entry::Folder { .. })));
        let Some(Entry::File { id, len }) = tree.entry("a.yaml").unwrap() else { panic!("no file") };
        assert_eq!((id.0, len), (*blake3::hash(b"1").as_bytes(), 1));
    }

    #[test]
    fn the_root_is_the_enclosing_work_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("repo/.git")).unwrap();
        fs::create_dir_all(root.join("repo/clusters/a")).unwrap();
        assert_eq!(enclosing_root(&root.join("repo/clusters/a")).unwrap(), root.join("repo"));
        assert_eq!(enclosing_root(&root.join("repo")).unwrap(), root.join("repo"));
        assert!(enclosing_root(&root.join("missing")).is_err());
    }

    #[test]
    fn a_huge_file_is_listed_but_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("huge")).unwrap().set_len(17 << 20).unwrap();
        let tree = worktree_tree(dir.path());
        assert_eq!(tree.list("").unwrap().unwrap().len(), 1);
        assert!(matches!(tree.read("huge"), Err(TreeError::TooLarge { len, .. }) if len == 17 << 20));
    }
}
