//! Files of the tree: paths, symbolic links, limits, and the objects in them.

use super::decode::Mode;
use super::decode::nearest;
use super::error::{BuildError, ErrorKind, Origin};
use super::file::File;
use super::json::{check_finite, through_json};
use super::memo::{Memo, Parsed};
use super::res::Res;
use super::{Limits, file};
use crate::tree::{ContentId, Entry, Tree, TreeError};
use driftless_yaml::{Dialect, Kind, Map, Node, Scalar, Seq};
use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

type Result<T> = std::result::Result<T, BuildError>;

/// A file's path from the root, links followed, and its bytes.
pub(crate) type Loaded = (Arc<str>, Arc<[u8]>);

/// How many symbolic links one path may lead through.
const LINKS: usize = 32;

/// The files of a build, read within limits.
pub(crate) struct Files<'t> {
    tree: &'t dyn Tree,
    limits: Limits,
    yaml: driftless_yaml::Limits,
    read: Cell<u64>,
    memo: Memo,
    /// What stands where, as far as this build has asked.
    entries: RefCell<HashMap<String, Option<Entry>, RandomState>>,
    /// One for each base on the way that is to be kept.
    watches: RefCell<Vec<Watch>>,
}

/// What was done while a base was built.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What was asked for, in order.
    pub(crate) paths: Vec<Arc<str>>,
    /// The folders that were entered, each with the number of those around it.
    pub(crate) entered: Vec<(String, usize)>,
    /// Whether the names in a folder were asked for.
    pub(crate) listed: bool,
}

/// A reference that leaves the tree by design.
pub(crate) fn remote(path: &str) -> bool {
    let scheme = path.split_once("://").map(|(s, _)| s.strip_prefix("git::").unwrap_or(s));
    scheme.is_some_and(|s| !s.contains('/'))
        || path.starts_with("git@")
        || path.starts_with("git::")
        || path.starts_with("github.com/")
        || path.starts_with("gh:")
        || path.contains("?ref=")
        || path.contains(".git//")
        || path.ends_with(".git")
        || (path.contains('@') && path.contains(':') && !path.starts_with('.'))
}

/// The refusal of one.
pub(crate) fn refuse_remote(place: Origin, what: &str, path: &str) -> BuildError {
    BuildError::new(ErrorKind::Refused, place, format!("{what}: {path:?} is not in this repository; rendering reads nothing from the network"))
        .help("copy it into the repository (vendor it), or declare it as a source of its own and give it its own Flux Kustomization")
}

/// Joins a relative path to a folder and takes out `.` and `..`. `None` when it leaves the root.
pub(crate) fn join(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folder a path is in.
pub(crate) fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |i| &path[..i])
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Nothing,
    File(String),
    Folder(String),
}

impl<'t> Files<'t> {
    pub(crate) fn new(tree: &'t dyn Tree, limits: Limits, memo: Memo) -> Self {
        let bytes = usize::try_from(limits.file_bytes).unwrap_or(usize::MAX);
        let yaml = driftless_yaml::Limits { bytes, ..driftless_yaml::Limits::default() };
        let (entries, watches) = (RefCell::default(), RefCell::default());
        Self { tree, limits, yaml, read: Cell::new(0), memo, entries, watches }
    }

    fn entry(&self, path: &str) -> std::result::Result<Option<Entry>, TreeError> {
        self.note(|watch| watch.paths.push(path.into()));
        if let Some(known) = self.entries.borrow().get(path) {
            return Ok(*known);
        }
        let entry = self.tree.entry(path)?;
        self.entries.borrow_mut().insert(path.to_owned(), entry);
        Ok(entry)
    }

    /// What stands at a path, links not followed.
    pub(crate) fn stands(&self, path: &str) -> std::result::Result<Option<Entry>, TreeError> {
        self.entry(path)
    }

    fn note(&self, change: impl FnOnce(&mut Watch)) {
        if let Some(watch) = self.watches.borrow_mut().last_mut() {
            change(watch);
        }
    }

    /// Notes from now on what is done, until [`Files::unwatch`].
    pub(crate) fn watch(&self) {
        self.watches.borrow_mut().push(Watch::default());
    }

    /// What was done since the last [`Files::watch`]; the watch around it has seen it too.
    pub(crate) fn unwatch(&self) -> Watch {
        let done = self.watches.borrow_mut().pop().unwrap_or_default();
        self.note(|around| {
            around.paths.extend_from_slice(&done.paths);
            around.entered.extend_from_slice(&done.entered);
            around.listed |= done.listed;
        });
        done
    }

    /// Notes that a folder is entered, with so many around it.
    pub(crate) fn enter(&self, folder: &str, around: usize) {
        self.note(|watch| watch.entered.push((folder.to_owned(), around)));
    }

    /// How many bytes this build has read.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read.get()
    }

    /// Counts bytes that a base took which this build is given.
    pub(crate) fn count_read(&self, bytes: u64) {
        self.read.set(self.read.get().saturating_add(bytes));
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn yaml_limits(&self) -> &driftless_yaml::Limits {
        &self.yaml
    }

    fn tree_error(place: &Origin, e: &TreeError) -> BuildError {
        let kind = match e {
            TreeError::TooLarge { .. } => ErrorKind::Limit,
            TreeError::Unreadable { .. } => ErrorKind::Tree,
        };
        BuildError::new(kind, place.clone(), e.to_string())
    }

    /// What stands at a path, links followed. A link that leads out of the tree, or nowhere, is nothing or an error.
    pub(crate) fn locate(&self, place: &Origin, path: &str) -> Result<Found> {
        let error = |e: TreeError| Self::tree_error(place, &e);
        if path.is_empty() {
            return Ok(Found::Folder(String::new()));
        }
        match self.entry(path).map_err(error)? {
            Some(Entry::File { .. }) => return Ok(Found::File(path.to_owned())),
            Some(Entry::Folder { .. }) => return Ok(Found::Folder(path.to_owned())),
            _ => {}
        }
        // Slowly, part by part: somewhere there may be a link.
        let mut links = 0;
        let mut rest: VecDeque<String> = path.split('/').map(str::to_owned).collect();
        let mut at = String::new();
        while let Some(part) = rest.pop_front() {
            let next = if at.is_empty() { part } else { format!("{at}/{part}") };
            match self.entry(&next).map_err(error)? {
                Some(Entry::Folder { .. }) => at = next,
                Some(Entry::File { .. }) => {
                    return Ok(if rest.is_empty() { Found::File(next) } else { Found::Nothing });
                }
                Some(Entry::Link { .. }) => {
                    links += 1;
                    let target = self.tree.read(&next).map_err(error)?.unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let resolved = if target.starts_with('/') { None } else { join(parent(&next), &target) };
                    let Some(resolved) = resolved.filter(|_| links <= LINKS) else {
                        let why = if links > LINKS { "goes in a circle" } else { "leads out of the repository" };
                        return Err(BuildError::new(
                            ErrorKind::Refused,
                            place.clone(),
                            format!("the symbolic link {next:?} (to {target:?}) {why}"),
                        ));
                    };
                    for part in resolved.split('/').filter(|p| !p.is_empty()).rev() {
                        rest.push_front(part.to_owned());
                    }
                    at = String::new();
                }
                Some(Entry::Submodule) | None => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Folder(at))
    }

    /// The names in a folder.
    pub(crate) fn names(&self, place: &Origin, dir: &str) -> Result<Vec<(String, Entry)>> {
        self.note(|watch| watch.listed = true);
        Ok(self.tree.list(dir).map_err(|e| Self::tree_error(place, &e))?.unwrap_or_default())
    }

    /// The bytes of a file that [`Files::locate`] found.
    pub(crate) fn bytes(&self, place: &Origin, path: &str) -> Result<Arc<[u8]>> {
        self.claim(place, path)?;
        self.unclaimed(place, path)
    }

    fn unclaimed(&self, place: &Origin, path: &str) -> Result<Arc<[u8]>> {
        match self.tree.read(path).map_err(|e| Self::tree_error(place, &e))? {
            Some(bytes) => Ok(bytes),
            None => Err(self.missing(place, "", "", path)?),
        }
    }

    /// Counts a file as read, within the limits; its content's identity.
    fn claim(&self, place: &Origin, path: &str) -> Result<Option<ContentId>> {
        let entry = self.entry(path).map_err(|e| Self::tree_error(place, &e))?;
        let Some(Entry::File { id, len }) = entry else { return Ok(None) };
        let refuse = |why: String| Err(BuildError::new(ErrorKind::Limit, place.clone(), why));
        if len > self.limits.file_bytes {
            return refuse(format!("{path:?} has {len} bytes, more than the limit of {}", self.limits.file_bytes));
        }
        let total = self.read.get().saturating_add(len);
        if total > self.limits.read_bytes {
            return refuse(format!("this build reads more than {} bytes", self.limits.read_bytes));
        }
        self.read.set(total);
        Ok(Some(id))
    }

    /// The objects in a file that [`Files::locate`] found, shared by all builds that share a memo. `again`: this build will
    /// ask for them once more.
    pub(crate) fn objects_in(&self, place: &Origin, path: &str, again: bool) -> Result<Parsed> {
        let read = |path: &Arc<str>| objects(&Origin::new(path.clone(), 0), &self.unclaimed(place, path)?, &self.yaml);
        match self.claim(place, path)? {
            Some(id) => self.memo.objects(id, path, self.limits.file_bytes, again, read),
            None => read(&path.into()).map(Parsed::Own),
        }
    }

    /// The path and bytes of a file named in a kustomization file. `what` is the field.
    pub(crate) fn load(&self, place: &Origin, what: &str, dir: &str, path: &str) -> Result<Loaded> {
        if path.starts_with("http://") || path.starts_with("https://") {
            return Err(refuse_remote(place.clone(), what, path));
        }
        let full = self.inside(place, what, dir, path)?;
        match self.locate(place, &full)? {
            Found::File(full) => {
                let bytes = self.bytes(place, &full)?;
                Ok((full.into(), bytes))
            }
            Found::Folder(_) => Err(BuildError::new(
                ErrorKind::Missing,
                place.clone(),
                format!("{what}: {path:?} is a folder, not a file"),
            )),
            Found::Nothing => Err(self.missing(place, what, dir, path)?),
        }
    }

    /// A path of a kustomization file as a path from the root.
    pub(crate) fn inside(&self, place: &Origin, what: &str, dir: &str, path: &str) -> Result<String> {
        if path.starts_with('/') {
            return Err(BuildError::new(
                ErrorKind::Refused,
                place.clone(),
                format!("{what}: {path:?} is an absolute path; paths are relative to the kustomization file"),
            ));
        }
        join(dir, path).ok_or_else(|| {
            BuildError::new(ErrorKind::Refused, place.clone(), format!("{what}: {path:?} leads out of the repository"))
        })
    }

    /// The error for a file that is not there, with a guess at what was meant.
    pub(crate) fn missing(&self, place: &Origin, what: &str, dir: &str, path: &str) -> Result<BuildError> {
        let full = join(dir, path).unwrap_or_default();
        let folder = parent(&full);
        let name = full.rsplit('/').next().unwrap_or("");
        let names = self.names(place, folder)?;
        let shown = if folder.is_empty() { "the root of the repository".to_owned() } else { format!("{folder}/") };
        let help = if names.is_empty() {
            format!("there is no folder {shown}")
        } else {
            match nearest(name, names.iter().map(|(n, _)| n.as_str())) {
                Some(near) => format!("nothing by that name in {shown}; did you mean {near:?}?"),
                None => format!("nothing by that name in {shown}"),
            }
        };
        let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
        Ok(BuildError::new(ErrorKind::Missing, place.clone(), format!("{what}{path:?} does not exist")).help(help))
    }

    /// The path of the kustomization file of a folder. `None` when it has none.
    pub(crate) fn kustomization(&self, place: &Origin, dir: &str) -> Result<Option<Arc<str>>> {
        let mut found: Option<String> = None;
        for name in file::NAMES {
            let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
            if let Found::File(path) = self.locate(place, &path)? {
                if let Some(first) = &found {
                    return Err(BuildError::new(
                        ErrorKind::Field,
                        Origin::new(path.as_str(), 0),
                        format!("the folder has two kustomization files, {first} and {path}"),
                    )
                    .help("keep one"));
                }
                found = Some(path);
            }
        }
        Ok(found.map(Arc::from))
    }

    /// The kustomization file at a path, decoded once for all builds that share a memo.
    pub(crate) fn decoded(&self, place: &Origin, path: &Arc<str>, mode: Mode) -> Result<Arc<File>> {
        let read = || {
            let bytes = self.unclaimed(place, path)?;
            let file = File::decode(path, &self.document(path, &bytes)?, mode)?;
            Ok((file, 4 * bytes.len()))
        };
        match self.claim(place, path)? {
            Some(id) => self.memo.file(id, path, mode, self.limits.file_bytes, read),
            None => read().map(|(file, _)| Arc::new(file)),
        }
    }

    /// A document in the YAML 1.1 dialect: the kustomization file itself, configurations, lists of replacements.
    pub(crate) fn document(&self, path: &Arc<str>, bytes: &[u8]) -> Result<Node> {
        let node = driftless_yaml::parse_one(bytes, Dialect::Yaml11, &self.yaml)
            .map(|d| d.node)
            .map_err(|e| syntax(&Origin::new(path.clone(), 0), &e))?;
        check_finite(&node)
            .map_err(|why| BuildError::new(ErrorKind::Syntax, Origin::new(path.clone(), node.line()), why))?;
        Ok(node)
    }

    /// The objects in a text. `place` is the file, or the line of a kustomization file that the text begins on.
    pub(crate) fn objects(&self, place: &Origin, bytes: &[u8]) -> Result<Vec<Res>> {
        objects(place, bytes, &self.yaml)
    }
}

/// A YAML error with its file and line.
pub(crate) fn syntax(place: &Origin, e: &driftless_yaml::Error) -> BuildError {
    let line = if place.line == 0 { e.line } else { place.line };
    BuildError::new(ErrorKind::Syntax, Origin::new(place.file.clone(), line), e.kind.to_string())
}

/// Reads objects as the real program does: documents that are empty are dropped, a `List` and everything else whose kind
/// ends in `List` is taken apart, every object needs a kind and a name.
fn objects(place: &Origin, bytes: &[u8], limits: &driftless_yaml::Limits) -> Result<Vec<Res>> {
    let bytes: Cow<'_, [u8]> = if bytes.contains(&b'\r') && bytes.windows(2).any(|w| w == b"\r\n") {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
            out.extend_from_slice(&rest[..at]);
            out.push(b'\n');
            rest = &rest[at + 2..];
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    } else {
        Cow::Borrowed(bytes)
    };
    let documents = driftless_yaml::parse_all(&bytes, Dialect::Resource, limits).map_err(|e| syntax(place, &e))?;
    let origin = |line: u32| Origin::new(place.file.clone(), if place.line == 0 { line } else { place.line });
    let mut queue: VecDeque<(Node, Origin)> = VecDeque::with_capacity(documents.len());
    for document in documents {
        let at = origin(document.line);
        let kind = document.node.as_map().and_then(|m| m.get("kind")).and_then(Node::scalar_text);
        if matches!(kind, Some("List" | "ResourceList"))
            && document.node.as_map().is_some_and(|m| m.get("items").is_some() || m.get("functionConfig").is_some())
            && driftless_yaml::split_documents(&bytes).is_ok_and(|chunks| chunks.len() == 1)
        {
            let items = document.node.as_map().and_then(|m| m.get("items")).and_then(Node::as_seq);
            for item in items.into_iter().flatten() {
                let line = if item.line() == 0 { document.line } else { item.line() };
                queue.push_back((item.clone(), origin(line)));
            }
            continue;
        }
        queue.push_back((document.node, at));
    }
    let mut out = Vec::with_capacity(queue.len());
    let mut checked = VecDeque::with_capacity(queue.len());
    for (node, at) in queue {
        if is_empty(&node) {
            continue;
        }
        validate(&node, &at)?;
        checked.push_back((node, at));
    }
    while let Some((node, at)) = checked.pop_front() {
        let kind = node.as_map().and_then(|m| m.get("kind")).and_then(Node::scalar_text).unwrap_or_default();
        let items = if kind.ends_with("List") { node.as_map().and_then(|m| m.get("items")) } else { None };
        match items {
            None => out.push(Res::new(with_metadata(node), at)),
            Some(items) if items.is_null() => {}
            Some(Node::Seq(items)) => {
                for item in items {
                    let line = if item.line() == 0 { at.line } else { item.line() };
                    let item_at = if place.line == 0 { Origin::new(at.file.clone(), line) } else { at.clone() };
                    expand(item, item_at, &mut checked)?;
                }
            }
            Some(_) => {
                return Err(BuildError::new(ErrorKind::Syntax, at, format!("items of this {kind} is not a list")));
            }
        }
    }
    Ok(out)
}

/// Every object leaves with metadata, also a list kind that came without.
fn with_metadata(mut node: Node) -> Node {
    if node.as_map().is_some_and(|m| m.get("metadata").is_none()) {
        super::res::metadata_mut(&mut node);
    }
    node
}

/// An item of a list kind: read again from JSON, where every text stands in quotes.
fn expand(item: &Node, at: Origin, queue: &mut VecDeque<(Node, Origin)>) -> Result<()> {
    if is_empty(item) {
        return Ok(());
    }
    check_finite(item).map_err(|why| BuildError::new(ErrorKind::Syntax, at.clone(), why))?;
    let item = quote(&through_json(item));
    let map = item.as_map();
    if map.and_then(|m| m.get("kind")).and_then(Node::scalar_text) == Some("List")
        && let Some(items) = map.and_then(|m| m.get("items"))
    {
        for inner in items.as_seq().into_iter().flatten() {
            if !is_empty(inner) {
                validate(inner, &at)?;
                queue.push_back((inner.clone(), at.clone()));
            }
        }
        return Ok(());
    }
    validate(&item, &at)?;
    queue.push_back((item, at));
    Ok(())
}

fn quote(node: &Node) -> Node {
    match node {
        Node::Scalar(s) if s.kind == Kind::Str && !s.quoted => Node::Scalar(Scalar { quoted: true, ..s.clone() }),
        Node::Scalar(_) => node.clone(),
        Node::Seq(seq) => Node::Seq(Seq::from_items(seq.iter().map(quote).collect(), seq.line)),
        Node::Map(map) => {
            let mut out: Map = map.clone();
            for entry in out.entries_mut() {
                entry.value = quote(&entry.value);
            }
            Node::Map(out)
        }
    }
}

fn is_empty(node: &Node) -> bool {
    match node {
        Node::Scalar(s) => s.kind == Kind::Null,
        Node::Seq(seq) => seq.is_empty(),
        Node::Map(map) => map.is_empty(),
    }
}

/// Refuses what is no Kubernetes object.
fn validate(node: &Node, at: &Origin) -> Result<()> {
    let error = |what: String| BuildError::new(ErrorKind::Syntax, at.clone(), what);
    let Some(map) = node.as_map() else {
        return Err(error("this is no Kubernetes object: it is not a map".to_owned()));
    };
    let text = |n: Option<&Node>| -> String {
        n.filter(|n| !n.is_null()).and_then(Node::as_scalar).map(|s| s.text.to_string()).unwrap_or_default()
    };
    let kind = text(map.get("kind"));
    if kind.is_empty() {
        return Err(error("this document has no kind, so it is no Kubernetes object".to_owned())
            .help("if it is not meant to be one (values, a patch), do not list it under resources"));
    }
    if kind.ends_with("List") {
        return Ok(());
    }
    let name = map.get("metadata").and_then(Node::as_map).and_then(|m| m.get("name"));
    if text(name).is_empty() {
        return Err(error(format!("this {kind} has no metadata.name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_and_never_leave_the_root() {
        for (dir, path, expected) in [
            ("a/b", "c.yaml", Some("a/b/c.yaml")),
            ("a/b", "../c/./d", Some("a/c/d")),
            ("a", "../..", None),
            ("", "x", Some("x")),
            ("a", "..", Some("")),
        ] {
            assert_eq!(join(dir, path).as_deref(), expected, "{dir} + {path}");
        }
    }

    #[test]
    fn remote_references_are_recognised() {
        for (path, expected) in [
            ("https://example.org/x.yaml", true),
            ("github.com/org/repo//path?ref=v1", true),
            ("git@example.org:org/repo.git", true),
            ("ssh://git@example.org/x", true),
            ("../base", false),
            ("deployment.yaml", false),
            ("./a@b.yaml", false),
        ] {
            assert_eq!(remote(path), expected, "{path}");
        }
    }
}
