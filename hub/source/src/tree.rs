//! A revision as a read-only tree, straight from Git objects.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use driftless_protocol::id::Revision;
use driftless_render::tree::{ContentId, Entry, Tree, TreeError};
use gix::objs::tree::EntryKind;
use gix::objs::{Exists as _, Find as _, FindHeader as _};

use crate::check::Flaw;
use crate::config::Limits;
use crate::repository::missing;
use crate::store::Repo;

/// Folder entries kept decoded, over all revisions of a mirror: about 64 MiB at 100 bytes each.
const CACHED_ENTRIES: usize = 600_000;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Link,
    Folder,
    Submodule,
}

/// One line of a Git tree.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: Box<str>,
    pub(crate) id: gix::ObjectId,
    pub(crate) kind: Kind,
}

/// A decoded Git tree, sorted by name.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Arc<[Line]>);

impl Lines {
    pub(crate) fn get(&self, name: &str) -> Option<&Line> {
        let at = self.0.binary_search_by(|line| line.name.as_bytes().cmp(name.as_bytes())).ok()?;
        self.0.get(at)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Line> {
        self.0.iter()
    }
}

/// Decoded folders and file lengths by object id. An object never changes, so revisions share it: a new commit costs the
/// folders it touched.
#[derive(Default)]
pub(crate) struct Cache {
    inner: Mutex<CacheInner>,
}

#[derive(Default)]
struct CacheInner {
    trees: HashMap<gix::ObjectId, Lines>,
    lengths: HashMap<gix::ObjectId, u64>,
    /// Paths below a folder with a given name, by folder and name: asked again for every new commit.
    found: HashMap<(gix::ObjectId, Box<str>), Arc<[String]>>,
    lines: usize,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

impl Cache {
    fn lock(&self) -> std::sync::MutexGuard<'_, CacheInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_tree(&self, id: gix::ObjectId, lines: &Lines) {
        let mut inner = self.lock();
        if inner.lines + lines.0.len() > CACHED_ENTRIES {
            // Rare, and cheaper than keeping an order: the folders in use come back with the next reads.
            *inner = CacheInner::default();
        }
        inner.lines += lines.0.len();
        inner.trees.insert(id, lines.clone());
    }

    fn get_found(&self, key: &(gix::ObjectId, Box<str>)) -> Option<Arc<[String]>> {
        self.lock().found.get(key).cloned()
    }

    fn put_found(&self, key: (gix::ObjectId, Box<str>), paths: &Arc<[String]>) {
        let mut inner = self.lock();
        if inner.found.len() >= CACHED_ENTRIES / 4 {
            inner.found.clear();
        }
        inner.found.insert(key, paths.clone());
    }

    fn put_length(&self, id: gix::ObjectId, len: u64) {
        let mut inner = self.lock();
        if inner.lengths.len() >= CACHED_ENTRIES {
            inner.lengths.clear();
        }
        inner.lengths.insert(id, len);
    }
}

/// `folder/name`, or the name alone at the root.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Reads and decodes a tree object, within the limits.
pub(crate) fn load_tree(repo: &gix::Repository, id: gix::ObjectId, path: &str, limits: &Limits) -> Result<Lines, Flaw> {
    decode_tree(&repo.objects, id, path, limits)
}

fn decode_tree(db: &gix::OdbHandle, id: gix::ObjectId, path: &str, limits: &Limits) -> Result<Lines, Flaw> {
    let damaged = || Flaw::Damaged(format!("folder {path:?} ({}) cannot be read", id.to_hex()));
    let header = db.try_header(&id).map_err(|_| damaged())?.ok_or_else(damaged)?;
    // A line takes 24 bytes and its name; 256 bytes a line is far beyond any real folder.
    if header.size > (limits.tree_entries as u64).saturating_mul(256) {
        return Err(Flaw::Limit(format!("folder {path:?} has a listing of {} bytes", header.size)));
    }
    let mut buf = Vec::new();
    let data = db.try_find(&id, &mut buf).map_err(|_| damaged())?.ok_or_else(damaged)?;
    if data.kind != gix::objs::Kind::Tree {
        return Err(damaged());
    }
    let mut lines = Vec::new();
    for entry in gix::objs::TreeRefIter::from_bytes(data.data, id.kind()) {
        let entry = entry.map_err(|_| damaged())?;
        if lines.len() == limits.tree_entries {
            return Err(Flaw::Limit(format!("folder {path:?} holds more than {} names", limits.tree_entries)));
        }
        let name = entry.filename.to_string();
        if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(Flaw::Limit(format!("folder {path:?} holds the name {name:?}, which is no file name")));
        }
        let kind = match entry.mode.kind() {
            EntryKind::Tree => Kind::Folder,
            EntryKind::Blob | EntryKind::BlobExecutable => Kind::File,
            EntryKind::Link => Kind::Link,
            EntryKind::Commit => Kind::Submodule,
        };
        lines.push(Line { name: name.into_boxed_str(), id: entry.oid.to_owned(), kind });
    }
    // Git sorts folders as if their names ended in '/'; readers expect plain byte order.
    lines.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    if lines.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(Flaw::Limit(format!("folder {path:?} lists one name twice")));
    }
    Ok(Lines(lines.into()))
}

/// One revision of a mirror. Cheap to clone; any number of threads may read it, and it stays readable while the mirror
/// fetches on or is replaced.
#[derive(Clone)]
pub struct GitTree {
    inner: Arc<Inner>,
}

struct Inner {
    repo: Arc<Repo>,
    /// Handles not in use: each reader takes one, so there are as many as readers at one time.
    handles: Mutex<Vec<gix::OdbHandle>>,
    root: gix::ObjectId,
    revision: Revision,
    limits: Limits,
}

impl fmt::Debug for GitTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitTree({})", self.inner.revision)
    }
}

/// A borrowed handle, put back when dropped.
struct Handle<'a> {
    inner: &'a Inner,
    db: Option<gix::OdbHandle>,
}

impl std::ops::Deref for Handle<'_> {
    type Target = gix::OdbHandle;

    fn deref(&self) -> &gix::OdbHandle {
        self.db.as_ref().unwrap_or_else(|| unreachable!("taken only by drop"))
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        }
    }
}

impl GitTree {
    pub(crate) fn new(repo: Arc<Repo>, root: gix::ObjectId, revision: Revision, limits: Limits) -> Self {
        GitTree { inner: Arc::new(Inner { repo, handles: Mutex::default(), root, revision, limits }) }
    }

    /// The revision it shows.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.inner.revision
    }

    fn handle(&self) -> Handle<'_> {
        let pooled = self.inner.handles.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = pooled.unwrap_or_else(|| self.inner.repo.local().objects);
        Handle { inner: &self.inner, db: Some(db) }
    }

    fn unreadable(&self, path: &str, reason: impl Into<String>) -> TreeError {
        self.inner.repo.suspect();
        TreeError::Unreadable { path: path.to_owned(), reason: reason.into() }
    }

    fn lines(&self, db: &gix::OdbHandle, id: gix::ObjectId, path: &str) -> Result<Lines, TreeError> {
        if let Some(lines) = self.inner.repo.cache.lock().trees.get(&id) {
            return Ok(lines.clone());
        }
        let lines = decode_tree(db, id, path, &self.inner.limits).map_err(|flaw| match flaw {
            Flaw::Damaged(reason) => self.unreadable(path, reason),
            Flaw::Limit(reason) => TreeError::Unreadable { path: path.to_owned(), reason },
        })?;
        self.inner.repo.cache.put_tree(id, &lines);
        Ok(lines)
    }

    /// The length of a file, without reading it.
    fn length(&self, db: &gix::OdbHandle, id: gix::ObjectId, path: &str) -> Result<u64, TreeError> {
        if let Some(len) = self.inner.repo.cache.lock().lengths.get(&id) {
            return Ok(*len);
        }
        let header = match db.try_header(&id) {
            Ok(Some(header)) => header,
            Ok(None) => return Err(self.unreadable(path, missing(&self.inner.repo.local(), id))),
            Err(_) => return Err(self.unreadable(path, format!("object {} is damaged", id.to_hex()))),
        };
        self.inner.repo.cache.put_length(id, header.size);
        Ok(header.size)
    }

    /// The folder at `path`.
    fn folder(&self, db: &gix::OdbHandle, path: &str) -> Result<Option<Lines>, TreeError> {
        let mut lines = self.lines(db, self.inner.root, "")?;
        if path.is_empty() {
            return Ok(Some(lines));
        }
        let mut end = 0;
        for segment in path.split('/') {
            end += segment.len();
            let id = match lines.get(segment) {
                Some(line) if line.kind == Kind::Folder => line.id,
                _ => return Ok(None),
            };
            lines = self.lines(db, id, path.get(..end).unwrap_or(path))?;
            end += 1;
        }
        Ok(Some(lines))
    }

    fn line(&self, db: &gix::OdbHandle, path: &str) -> Result<Option<Line>, TreeError> {
        let (folder, name) = match path.rsplit_once('/') {
            Some(("", _)) => return Ok(None), // an absolute path
            Some(split) => split,
            None => ("", path),
        };
        Ok(self.folder(db, folder)?.and_then(|lines| lines.get(name).cloned()))
    }

    fn describe(&self, db: &gix::OdbHandle, line: &Line, path: &str) -> Result<Entry, TreeError> {
        let id = content_id(line.id);
        Ok(match line.kind {
            Kind::File => Entry::File { id, len: self.length(db, line.id, path)? },
            Kind::Link => Entry::Link { id },
            Kind::Folder => Entry::Folder { id },
            Kind::Submodule => Entry::Submodule,
        })
    }
}

impl GitTree {
    /// The paths of files of this name below a folder, from there on. Folders are as deep as the limit allows, which was
    /// checked when the commit was taken in.
    fn below(
        &self,
        db: &gix::OdbHandle,
        id: gix::ObjectId,
        path: &str,
        name: &str,
    ) -> Result<Arc<[String]>, TreeError> {
        let key = (id, Box::from(name));
        if let Some(known) = self.inner.repo.cache.get_found(&key) {
            return Ok(known);
        }
        let mut out = Vec::new();
        for line in self.lines(db, id, path)?.iter() {
            match line.kind {
                Kind::Folder if &*line.name != ".git" => {
                    let inside = self.below(db, line.id, &join(path, &line.name), name)?;
                    out.extend(inside.iter().map(|found| join(&line.name, found)));
                }
                Kind::File if &*line.name == name => out.push(name.to_owned()),
                _ => {}
            }
        }
        let out: Arc<[String]> = out.into();
        self.inner.repo.cache.put_found(key, &out);
        Ok(out)
    }
}

/// Git's own digest, which covers kind and bytes, filled up with zeros.
pub(crate) fn content_id(id: gix::ObjectId) -> ContentId {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(id.as_bytes()) {
        *to = *from;
    }
    ContentId(out)
}

impl Tree for GitTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        if path.is_empty() {
            return Ok(Some(Entry::Folder { id: content_id(self.inner.root) }));
        }
        let db = self.handle();
        match self.line(&db, path)? {
            Some(line) => self.describe(&db, &line, path).map(Some),
            None => Ok(None),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let db = self.handle();
        let Some(lines) = self.folder(&db, path)? else { return Ok(None) };
        let describe = |line: &Line| Ok((line.name.to_string(), self.describe(&db, line, &join(path, &line.name))?));
        lines.iter().map(describe).collect::<Result<Vec<_>, TreeError>>().map(Some)
    }

    fn find(&self, folder: &str, name: &str) -> Result<Vec<String>, TreeError> {
        let db = self.handle();
        let id = match folder {
            "" => Some(self.inner.root),
            folder => self.line(&db, folder)?.filter(|l| l.kind == Kind::Folder).map(|l| l.id),
        };
        let Some(id) = id else { return Ok(Vec::new()) };
        let mut found: Vec<String> = self.below(&db, id, folder, name)?.iter().map(|f| join(folder, f)).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        let db = self.handle();
        let Some(line) = self.line(&db, path)?.filter(|l| matches!(l.kind, Kind::File | Kind::Link)) else {
            return Ok(None);
        };
        let len = self.length(&db, line.id, path)?;
        let limit = self.inner.limits.blob_bytes;
        if len > limit {
            return Err(TreeError::TooLarge { path: path.to_owned(), len, limit });
        }
        let mut buf = Vec::new();
        match db.try_find(&line.id, &mut buf) {
            Ok(Some(data)) if data.kind == gix::objs::Kind::Blob && data.data.len() as u64 == len => {
                Ok(Some(Arc::from(data.data)))
            }
            Ok(None) if !db.exists(&line.id) => Err(self.unreadable(path, missing(&self.inner.repo.local(), line.id))),
            _ => Err(self.unreadable(path, format!("object {} is damaged", line.id.to_hex()))),
        }
    }
}
