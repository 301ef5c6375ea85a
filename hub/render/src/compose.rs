//! Trees made of other trees and of bytes: what an `include`, a sparse checkout, an unpacked archive or an
//! ArtifactGenerator leads to.
//!
//! A folder that comes from one place is lent as a whole and opened only when somebody looks inside or something else is
//! laid over it. Its identity stays the one it has there, so the difference of two composed trees costs what changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::flux::path;
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// Names in all folders that were opened or made (`security.md` section 4: entries of a tree).
const NAMES: usize = 100_000;
/// Folders inside folders (`security.md` section 4).
const DEPTH: usize = 64;

/// A tree under the name of the source it belongs to.
#[derive(Clone)]
pub struct Part {
    /// The source, as a [`crate::target::Location`] names it.
    pub source: Arc<str>,
    /// Its files.
    pub tree: Arc<dyn Tree>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({})", self.source)
    }
}

/// Why trees could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// One of them could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file where a folder is needed, or the other way round.
    #[error("{path:?} is a {is} already, and no {wanted} can take its place")]
    Conflict {
        /// The path in the composed tree.
        path: String,
        /// `file` or `folder`.
        is: &'static str,
        /// `file` or `folder`.
        wanted: &'static str,
    },
    /// A path that is no place in a tree.
    #[error("{path:?} is no path inside the tree")]
    Path {
        /// As given.
        path: String,
    },
    /// More names than a tree may have.
    #[error("it has more than {NAMES} files and folders")]
    TooMany,
}

#[derive(Clone)]
enum Node {
    Folder(Folder),
    /// What stands at `path` of a part, as it is.
    Lent {
        part: Part,
        path: Arc<str>,
        entry: Entry,
    },
    Bytes {
        id: ContentId,
        bytes: Arc<[u8]>,
    },
}

#[derive(Clone, Default)]
struct Folder {
    id: Option<ContentId>,
    names: BTreeMap<Box<str>, Node>,
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Node::Folder(_) | Node::Lent { entry: Entry::Folder { .. }, .. } => "folder",
            Node::Lent { entry: Entry::Link { .. }, .. } => "link",
            Node::Lent { entry: Entry::Submodule, .. } => "submodule",
            Node::Lent { .. } | Node::Bytes { .. } => "file",
        }
    }

    fn entry(&self) -> Entry {
        match self {
            // Set when the tree is finished; before that nobody compares.
            Node::Folder(folder) => Entry::Folder { id: folder.id.unwrap_or(ContentId([0; 32])) },
            Node::Lent { entry, .. } => *entry,
            Node::Bytes { id, bytes } => Entry::File { id: *id, len: bytes.len() as u64 },
        }
    }
}

/// A tree in the making.
#[derive(Default)]
pub struct Composer {
    root: Folder,
    names: usize,
}

impl Composer {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies the file or folder `from` of a part to `to`. A folder is laid over one that is there; a file takes the place
    /// of a file. `Ok(false)`: there is nothing at `from`.
    ///
    /// # Errors
    /// [`ComposeError`].
    pub fn lend(&mut self, part: &Part, from: &str, to: &str) -> Result<bool, ComposeError> {
        let Some(entry) = part.tree.entry(from)? else { return Ok(false) };
        let node = Node::Lent { part: part.clone(), path: from.into(), entry };
        self.place(to, node)?;
        Ok(true)
    }

    /// Puts a file.
    ///
    /// # Errors
    /// [`ComposeError`].
    pub fn put(&mut self, to: &str, bytes: impl Into<Arc<[u8]>>) -> Result<(), ComposeError> {
        let bytes = bytes.into();
        let id = ContentId(*blake3::hash(&bytes).as_bytes());
        self.place(to, Node::Bytes { id, bytes })
    }

    /// Makes a folder, unless it is there.
    ///
    /// # Errors
    /// [`ComposeError`].
    pub fn folder(&mut self, to: &str) -> Result<(), ComposeError> {
        self.place(to, Node::Folder(Folder::default()))
    }

    fn place(&mut self, to: &str, node: Node) -> Result<(), ComposeError> {
        let bad = || ComposeError::Path { path: to.to_owned() };
        let to = path::normal(to).filter(|p| p.split('/').count() <= DEPTH).ok_or_else(bad)?;
        if to.is_empty() {
            return overlay_root(&mut self.root, node, &mut self.names);
        }
        let mut folder = &mut self.root;
        let mut at = 0;
        while let Some(end) = to[at..].find('/') {
            folder = open(folder, &to[..at + end], &to[at..at + end], &mut self.names)?;
            at += end + 1;
        }
        overlay(folder, &to, &to[at..], node, &mut self.names)
    }

    /// What stands at `path` so far: `None` for nothing.
    ///
    /// # Errors
    /// When a part cannot be read.
    pub fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        entry_of(&self.root, path)
    }

    /// The bytes of a file so far.
    ///
    /// # Errors
    /// When a part cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        read_of(&self.root, path)
    }

    /// The tree.
    #[must_use]
    pub fn finish(mut self) -> ComposedTree {
        name(&mut self.root);
        ComposedTree { root: self.root }
    }
}

fn count(names: &mut usize, more: usize) -> Result<(), ComposeError> {
    *names += more;
    if *names > NAMES { Err(ComposeError::TooMany) } else { Ok(()) }
}

fn conflict(path: &str, there: &Node, wanted: &'static str) -> ComposeError {
    ComposeError::Conflict { path: path.to_owned(), is: there.kind(), wanted }
}

/// The folder `name` in `folder`, made or opened so that something can be put into it.
fn open<'a>(folder: &'a mut Folder, full: &str, name: &str, names: &mut usize) -> Result<&'a mut Folder, ComposeError> {
    if !folder.names.contains_key(name) {
        count(names, 1)?;
    }
    let node = folder.names.entry(name.into()).or_insert_with(|| Node::Folder(Folder::default()));
    unfold(node, full, names)
}

/// A node as a folder whose names are known here.
fn unfold<'a>(node: &'a mut Node, full: &str, names: &mut usize) -> Result<&'a mut Folder, ComposeError> {
    if let Node::Lent { part, path: from, entry: Entry::Folder { .. } } = node {
        *node = Node::Folder(unlent(part, from, names)?);
    }
    match node {
        Node::Folder(folder) => Ok(folder),
        other => Err(conflict(full, other, "folder")),
    }
}

/// The names of a lent folder, each lent.
fn unlent(part: &Part, from: &str, names: &mut usize) -> Result<Folder, ComposeError> {
    let listed = part.tree.list(from)?.unwrap_or_default();
    count(names, listed.len())?;
    let lent = listed.into_iter().map(|(name, entry)| {
        let path = path::join(from, &name).into();
        (name.into_boxed_str(), Node::Lent { part: part.clone(), path, entry })
    });
    Ok(Folder { id: None, names: lent.collect() })
}

fn overlay_root(root: &mut Folder, node: Node, names: &mut usize) -> Result<(), ComposeError> {
    let over = match node {
        Node::Folder(folder) => folder,
        Node::Lent { part, path, entry: Entry::Folder { .. } } => unlent(&part, &path, names)?,
        other => {
            return Err(ComposeError::Conflict { path: String::new(), is: "folder", wanted: other.kind() });
        }
    };
    for (name, node) in over.names {
        overlay(root, &name, &name, node, names)?;
    }
    Ok(())
}

/// Lays `node` over what stands under `name` in `folder`. Depth is bounded by that of the parts.
fn overlay(folder: &mut Folder, full: &str, name: &str, node: Node, names: &mut usize) -> Result<(), ComposeError> {
    let Some(there) = folder.names.get_mut(name) else {
        count(names, 1)?;
        folder.names.insert(name.into(), node);
        return Ok(());
    };
    match (there.kind(), node.kind()) {
        ("folder", "folder") => {
            let over = match node {
                Node::Folder(folder) => folder,
                Node::Lent { part, path, .. } => unlent(&part, &path, names)?,
                Node::Bytes { .. } => return Ok(()),
            };
            let under = unfold(there, full, names)?;
            for (name, node) in over.names {
                overlay(under, &path::join(full, &name), &name, node, names)?;
            }
            Ok(())
        }
        ("folder", wanted) => Err(conflict(full, there, wanted)),
        (_, "folder") => Err(conflict(full, there, "folder")),
        _ => {
            *there = node;
            Ok(())
        }
    }
}

/// Gives every folder made here its identity, from the bottom up.
fn name(folder: &mut Folder) -> ContentId {
    let mut hasher = blake3::Hasher::new();
    for (name_of, node) in &mut folder.names {
        let (kind, id): (&[u8], ContentId) = match node {
            Node::Folder(inner) => (b"\0d", name(inner)),
            Node::Bytes { id, .. } => (b"\0f", *id),
            Node::Lent { entry, .. } => match entry {
                Entry::File { id, .. } => (b"\0f", *id),
                Entry::Folder { id } => (b"\0d", *id),
                Entry::Link { id } => (b"\0l", *id),
                Entry::Submodule => (b"\0s", ContentId([0; 32])),
            },
        };
        hasher.update(&(name_of.len() as u64).to_le_bytes());
        hasher.update(name_of.as_bytes());
        hasher.update(kind);
        hasher.update(&id.0);
    }
    let id = ContentId(*hasher.finalize().as_bytes());
    folder.id = Some(id);
    id
}

/// Where a path leads: a node of ours, or a place below one that was lent.
enum Found<'a> {
    Root(&'a Folder),
    Node(&'a Node),
    Below(&'a Part, String),
}

fn find<'a>(root: &'a Folder, at: &str) -> Option<Found<'a>> {
    if at.is_empty() {
        return Some(Found::Root(root));
    }
    let mut folder = root;
    let mut rest = at;
    loop {
        let (name, below) = rest.split_once('/').map_or((rest, None), |(name, below)| (name, Some(below)));
        let node = folder.names.get(name)?;
        let Some(below) = below else { return Some(Found::Node(node)) };
        match node {
            Node::Folder(inner) => folder = inner,
            Node::Lent { part, path, entry: Entry::Folder { .. } } => {
                return Some(Found::Below(part, path::join(path, below)));
            }
            _ => return None,
        }
        rest = below;
    }
}

fn entry_of(root: &Folder, at: &str) -> Result<Option<Entry>, TreeError> {
    Ok(match find(root, at) {
        None => None,
        Some(Found::Root(root)) => Some(Entry::Folder { id: root.id.unwrap_or(ContentId([0; 32])) }),
        Some(Found::Node(node)) => Some(node.entry()),
        Some(Found::Below(part, path)) => part.tree.entry(&path)?,
    })
}

fn list_of(folder: &Folder) -> Vec<(String, Entry)> {
    folder.names.iter().map(|(name, node)| (name.to_string(), node.entry())).collect()
}

fn read_of(root: &Folder, at: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
    match find(root, at) {
        Some(Found::Node(Node::Bytes { bytes, .. })) => Ok(Some(bytes.clone())),
        Some(Found::Node(Node::Lent { part, path, .. })) => part.tree.read(path),
        Some(Found::Below(part, path)) => part.tree.read(&path),
        _ => Ok(None),
    }
}

/// See [`Composer`]. Cheap to share.
pub struct ComposedTree {
    root: Folder,
}

impl fmt::Debug for ComposedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComposedTree({:?})", self.root.id)
    }
}

impl Tree for ComposedTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        entry_of(&self.root, path)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        match find(&self.root, path) {
            Some(Found::Root(folder) | Found::Node(Node::Folder(folder))) => Ok(Some(list_of(folder))),
            Some(Found::Node(Node::Lent { part, path, .. })) => part.tree.list(path),
            Some(Found::Below(part, path)) => part.tree.list(&path),
            _ => Ok(None),
        }
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        read_of(&self.root, path)
    }

    fn origin(&self, path: &str) -> Option<(Arc<str>, String)> {
        let (part, path) = match find(&self.root, path)? {
            Found::Node(Node::Lent { part, path, .. }) => (part, path.to_string()),
            Found::Below(part, path) => (part, path),
            _ => return None,
        };
        Some(part.tree.origin(&path).unwrap_or_else(|| (part.source.clone(), path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemTree;

    fn part(source: &str, files: &[(&str, &str)]) -> Part {
        let mut tree = MemTree::new();
        for (path, text) in files {
            match text.strip_prefix("-> ") {
                Some(target) => tree.insert_link(*path, target),
                None => tree.insert(*path, text.as_bytes().to_vec()),
            }
        }
        Part { source: source.into(), tree: Arc::new(tree) }
    }

    fn all(tree: &dyn Tree, folder: &str, out: &mut Vec<String>) {
        for (name, entry) in tree.list(folder).unwrap().unwrap() {
            let here = path::join(folder, &name);
            assert_eq!(tree.entry(&here).unwrap(), Some(entry), "{here}");
            match entry {
                Entry::Folder { .. } => all(tree, &here, out),
                _ => {
                    let bytes = tree.read(&here).unwrap().unwrap();
                    out.push(format!("{here}={}", String::from_utf8_lossy(&bytes)));
                }
            }
        }
    }

    fn files(tree: &dyn Tree) -> Vec<String> {
        let mut out = Vec::new();
        all(tree, "", &mut out);
        out
    }

    fn root_id(tree: &dyn Tree) -> Entry {
        tree.entry("").unwrap().unwrap()
    }

    #[test]
    fn folders_are_laid_over_folders_and_files_take_the_place_of_files() {
        let a = part("a", &[("x/one", "1"), ("x/deep/two", "2"), ("top", "t")]);
        let b = part("b", &[("y/deep/two", "B"), ("y/three", "3")]);
        let mut composer = Composer::new();
        assert!(composer.lend(&a, "", "").unwrap());
        assert!(composer.lend(&b, "y", "x").unwrap());
        composer.put("x/deep/made", b"m".to_vec()).unwrap();
        assert!(!composer.lend(&b, "nothing", "z").unwrap());
        assert_eq!(composer.read("x/deep/two").unwrap().as_deref(), Some(&b"B"[..]));
        let tree = composer.finish();
        assert_eq!(files(&tree), ["top=t", "x/deep/made=m", "x/deep/two=B", "x/one=1", "x/three=3"]);
        assert_eq!(tree.origin("x/deep/two"), Some(("b".into(), "y/deep/two".into())));
        assert_eq!(tree.origin("x/one"), Some(("a".into(), "x/one".into())));
        assert_eq!(tree.origin("x/deep/made"), None);
        for nothing in ["x/nothing", "top/x", "x/deep/two/y"] {
            assert_eq!(tree.entry(nothing).unwrap(), None, "{nothing}");
            assert_eq!(tree.list(nothing).unwrap(), None, "{nothing}");
        }
    }

    #[test]
    fn what_cannot_take_a_place_is_refused() {
        let a = part("a", &[("x/one", "1"), ("file", "f")]);
        let base = || {
            let mut composer = Composer::new();
            composer.lend(&a, "", "").unwrap();
            composer
        };
        let said = |result: Result<bool, ComposeError>| result.unwrap_err().to_string();
        assert!(said(base().lend(&a, "x", "file")).contains("\"file\" is a file"));
        assert!(said(base().lend(&a, "file", "x")).contains("\"x\" is a folder"));
        assert!(said(base().lend(&a, "file", "file/below")).contains("\"file\" is a file"));
        assert!(said(base().lend(&a, "file", "../out")).contains("../out"));
        assert!(said(base().lend(&a, "file", "")).contains("folder"));
        assert!(said(base().lend(&a, "file", &"d/".repeat(70))).contains("no path"));
    }

    #[test]
    fn equal_content_has_one_identity_and_a_change_another() {
        let of = |text: &str| {
            let a = part("a", &[("x/one", text), ("x/two", "2"), ("y/z", "1")]);
            let mut composer = Composer::new();
            composer.lend(&a, "x", "in/x").unwrap();
            composer.lend(&a, "y", "in/y").unwrap();
            composer.finish()
        };
        let (first, same, other) = (of("1"), of("1"), of("2"));
        assert_eq!(root_id(&first), root_id(&same));
        assert_ne!(root_id(&first), root_id(&other));
        assert_eq!(first.entry("in/y").unwrap(), other.entry("in/y").unwrap(), "what did not change keeps its name");
    }
}
