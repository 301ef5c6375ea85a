//! What builds may share: parsed files, whatever build reads them, and bases.
//!
//! A file's objects depend on its bytes and its path (for the places in messages) and on nothing else, so they are kept
//! under both. Nodes share their sub-trees, and a build that changes an object copies only the way to the change: a base
//! of many overlays is parsed twice at most and never copied whole.

use super::base::{Base, Known};
use super::file::File;
use super::res::Res;
use crate::tree::ContentId;
use driftless_yaml::{Document, Node};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Parsed files, for as many builds as are given it, on any number of threads; bounded by the memory they take.
/// The default one keeps nothing.
#[derive(Clone, Default)]
pub struct Memo(Option<Arc<Shared>>);

struct Shared {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: HashMap<Key, Kept, RandomState>,
    bytes: usize,
    /// Counts uses: what was not used for longest goes first.
    now: u64,
}

/// What a file was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Objects,
    Kustomization(super::decode::Mode),
    Documents,
    Base,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    id: ContentId,
    path: Arc<str>,
    kind: Kind,
    /// The limit on a file's length: a smaller one may refuse what a larger one took.
    limit: u64,
}

struct Kept {
    value: Value,
    bytes: usize,
    used: u64,
}

#[derive(Clone)]
enum Value {
    /// A file of objects that was read once.
    Once,
    Objects(Arc<[Res]>),
    File(Arc<File>),
    Documents(Arc<[Document]>),
    Base(Known),
}

/// The objects of a file.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Nobody else has them.
    Own(Vec<Res>),
    Shared(Arc<[Res]>),
}

impl Parsed {
    /// Hands them over one by one.
    pub(crate) fn each<E>(self, mut take: impl FnMut(Res) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Own(list) => list.into_iter().try_for_each(take),
            Self::Shared(list) => list.iter().try_for_each(|res| take(res.clone())),
        }
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memo({} bytes)", self.bytes())
    }
}

impl Memo {
    /// A memo that keeps parsed files of at most `limit` bytes of memory in all.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Some(Arc::new(Shared { limit, inner: Mutex::default() })))
    }

    /// Memory that the files kept take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.lock().bytes)
    }

    /// The objects of a file, made by `read` unless they are known. Failures are not kept.
    ///
    /// A file is kept when it is read for the second time, or at once if the caller is going to ask again: most files of a
    /// repository belong to one cluster, and what nobody else holds is changed in place instead of being copied.
    pub(crate) fn objects<E>(
        &self,
        id: ContentId,
        path: &str,
        limit: u64,
        at_once: bool,
        read: impl FnOnce(&Arc<str>) -> Result<Vec<Res>, E>,
    ) -> Result<Parsed, E> {
        let path: Arc<str> = path.into();
        let Some(shared) = &self.0 else { return read(&path).map(Parsed::Own) };
        let key = Key { id, path, kind: Kind::Objects, limit };
        let before = shared.get(&key);
        if let Some(Value::Objects(known)) = before {
            return Ok(Parsed::Shared(known));
        }
        let made = read(&key.path)?;
        if before.is_none() && !at_once {
            shared.keep(key, Value::Once, 0);
            return Ok(Parsed::Own(made));
        }
        let made: Arc<[Res]> = made.into();
        shared.keep(key, Value::Objects(made.clone()), made.iter().map(weight_of).sum());
        Ok(Parsed::Shared(made))
    }

    /// The documents of a file as they are written, likewise.
    pub(crate) fn documents<E>(
        &self,
        id: ContentId,
        read: impl FnOnce() -> Result<Vec<Document>, E>,
    ) -> Result<Arc<[Document]>, E> {
        let Some(shared) = &self.0 else { return read().map(Arc::from) };
        let key = Key { id, path: "".into(), kind: Kind::Documents, limit: 0 };
        if let Some(Value::Documents(known)) = shared.get(&key) {
            return Ok(known);
        }
        let made: Arc<[Document]> = read()?.into();
        let bytes = made.iter().map(|d| size_of::<Document>() + weight(&d.node)).sum();
        shared.keep(key, Value::Documents(made.clone()), bytes);
        Ok(made)
    }

    /// What is known of a base, by its folder and the content of its kustomization file. The first who asks is told
    /// nothing, and the next one that it was built before.
    pub(crate) fn base(&self, id: ContentId, folder: &str) -> Option<Known> {
        let shared = self.0.as_ref()?;
        let key = Key::of_base(id, folder);
        if let Some(Value::Base(known)) = shared.get(&key) {
            return Some(known);
        }
        shared.keep(key, Value::Base(Known::Built), 0);
        None
    }

    /// Keeps a base for the builds that come.
    pub(crate) fn keep_base(&self, id: ContentId, folder: &str, base: Base) {
        let Some(shared) = &self.0 else { return };
        let bytes = base.bytes();
        let (known, bytes) = match bytes > shared.limit / 4 {
            true => (Known::Large, 0),
            false => (Known::Kept(Arc::new(base)), bytes),
        };
        shared.keep(Key::of_base(id, folder), Value::Base(known), bytes);
    }

    /// A decoded kustomization file, likewise.
    pub(crate) fn file<E>(
        &self,
        id: ContentId,
        path: &Arc<str>,
        mode: super::decode::Mode,
        limit: u64,
        read: impl FnOnce() -> Result<(File, usize), E>,
    ) -> Result<Arc<File>, E> {
        let Some(shared) = &self.0 else { return read().map(|(file, _)| Arc::new(file)) };
        let key = Key { id, path: path.clone(), kind: Kind::Kustomization(mode), limit };
        if let Some(Value::File(known)) = shared.get(&key) {
            return Ok(known);
        }
        let (file, bytes) = read()?;
        let file = Arc::new(file);
        shared.keep(key, Value::File(file.clone()), bytes + size_of::<File>());
        Ok(file)
    }
}

impl Key {
    fn of_base(id: ContentId, folder: &str) -> Self {
        Self { id, path: folder.into(), kind: Kind::Base, limit: 0 }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Value> {
        let mut inner = self.lock();
        inner.now += 1;
        let now = inner.now;
        let kept = inner.files.get_mut(key)?;
        kept.used = now;
        Some(kept.value.clone())
    }

    fn keep(&self, key: Key, value: Value, bytes: usize) {
        let bytes = bytes + size_of::<(Key, Kept)>() + key.path.len();
        if bytes > self.limit / 4 {
            return;
        }
        let mut inner = self.lock();
        inner.now += 1;
        let used = inner.now;
        if let Some(before) = inner.files.insert(key, Kept { value, bytes, used }) {
            inner.bytes -= before.bytes;
        }
        inner.bytes += bytes;
        if inner.bytes > self.limit {
            inner.shrink(self.limit);
        }
    }
}

impl Inner {
    /// Drops what was not used for longest until a quarter of the limit is free.
    fn shrink(&mut self, limit: usize) {
        let mut ages: Vec<(u64, usize)> = self.files.values().map(|kept| (kept.used, kept.bytes)).collect();
        ages.sort_unstable();
        let mut oldest_kept = 0;
        let mut bytes = self.bytes;
        for (used, size) in ages {
            if bytes <= limit / 4 * 3 {
                break;
            }
            bytes -= size;
            oldest_kept = used + 1;
        }
        self.files.retain(|_, kept| kept.used >= oldest_kept);
        self.bytes = bytes;
    }
}

/// The memory an object takes, with its place in an index.
pub(crate) fn weight_of(res: &Res) -> usize {
    const INDEXED: usize = 160;
    size_of::<Res>() + INDEXED + weight(&res.node)
}

/// The memory a node takes, counting what it shares with others as its own.
fn weight(node: &Node) -> usize {
    /// A count of references, and what an allocator adds.
    const SHARED: usize = 32;
    match node {
        Node::Scalar(s) => size_of::<Node>() + SHARED + s.text.len(),
        Node::Seq(seq) => size_of::<Node>() + SHARED + seq.iter().map(weight).sum::<usize>(),
        Node::Map(map) => {
            let entry = |e: &driftless_yaml::Entry| {
                size_of::<driftless_yaml::Entry>() - size_of::<Node>() + SHARED + e.key.len() + weight(&e.value)
            };
            size_of::<Node>() + SHARED + map.iter().map(entry).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Origin;
    use super::*;

    fn read(path: &str) -> Vec<Res> {
        vec![Res::new(Node::map(), Origin::new(path, 1))]
    }

    #[test]
    fn a_file_is_read_once_per_content_and_path() {
        let memo = Memo::new(1 << 20);
        let mut reads = 0;
        for (id, path, at_once, expected) in [
            (1, "a", false, 1),
            (1, "a", false, 2),
            (1, "a", false, 2),
            (2, "a", true, 3),
            (2, "a", false, 3),
            (1, "b", true, 4),
            (1, "a", false, 4),
        ] {
            let made = memo.objects(ContentId([id; 32]), path, 9, at_once, |path| {
                reads += 1;
                Ok::<_, ()>(read(path))
            });
            let mut files = Vec::new();
            let each = made.unwrap().each(|res| {
                files.push(res.origin.file);
                Ok::<_, ()>(())
            });
            each.unwrap();
            assert_eq!((reads, files), (expected, vec![path.into()]));
        }
        let three = ContentId([3; 32]);
        assert!(memo.objects(three, "a", 9, true, |_| Err(())).is_err());
        assert!(memo.objects(three, "a", 9, true, |path| Ok::<_, ()>(read(path))).is_ok(), "a failure was kept");
        assert!(
            memo.objects(ContentId([1; 32]), "a", 8, true, |_| Err(())).is_err(),
            "a smaller limit is another question"
        );
    }

    #[test]
    fn memory_stays_below_the_limit_and_what_is_used_stays() {
        let memo = Memo::new(16 << 10);
        for number in 0..1000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            memo.objects(ContentId(id), "a", 9, true, |path| Ok::<_, ()>(read(path))).unwrap();
            let first = |path: &Arc<str>| if number == 0 { Ok(read(path)) } else { Err(()) };
            memo.objects(ContentId([9; 32]), "often", 9, true, first).unwrap();
            assert!(memo.bytes() <= 16 << 10, "{memo:?}");
        }
    }
}
