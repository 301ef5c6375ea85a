//! Objects under construction: identity, history, and the list they live in.
//!
//! Kustomize keeps an object's history (former names, prefixes, whether it wants a hash suffix) in annotations of the
//! object itself and removes them at the end. Here history lives beside the object.

use super::error::{BuildError, ErrorKind, Origin};
use super::provenance::Provenance;
use super::scope::cluster_scoped;
use driftless_yaml::{Kind, Map, Node, Scalar};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The namespace kustomize gives to what has none by nature.
pub(crate) const NO_NAMESPACE: &str = "_non_namespaceable_";

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) api: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

/// Group and version of an `apiVersion`.
pub(crate) fn split_api(api: &str) -> (&str, &str) {
    api.split_once('/').unwrap_or(("", api))
}

impl Id {
    pub(crate) fn group(&self) -> &str {
        split_api(&self.api).0
    }

    pub(crate) fn version(&self) -> &str {
        split_api(&self.api).1
    }

    /// The namespace for comparison: none by nature, or `default` when none is written.
    pub(crate) fn effective_namespace(&self) -> &str {
        if cluster_scoped(&self.api, &self.kind) {
            NO_NAMESPACE
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// The same, shared.
    pub(crate) fn shared_namespace(&self) -> Arc<str> {
        if cluster_scoped(&self.api, &self.kind) {
            NONE.clone()
        } else if self.namespace.is_empty() {
            DEFAULT.clone()
        } else {
            self.namespace.clone()
        }
    }

    /// This id with its namespace made comparable.
    pub(crate) fn key(&self) -> Id {
        let (api, kind, name) = (self.api.clone(), self.kind.clone(), self.name.clone());
        Id { api, kind, name, namespace: self.shared_namespace() }
    }
}

/// An [`Id`] borrowed from its object: for a look that keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IdRef<'r> {
    pub(crate) api: &'r str,
    pub(crate) kind: &'r str,
    pub(crate) name: &'r str,
    pub(crate) namespace: &'r str,
}

impl<'r> IdRef<'r> {
    pub(crate) fn group(self) -> &'r str {
        split_api(self.api).0
    }

    pub(crate) fn version(self) -> &'r str {
        split_api(self.api).1
    }

    /// As [`Id::effective_namespace`].
    pub(crate) fn effective_namespace(self) -> &'r str {
        if cluster_scoped(self.api, self.kind) {
            NO_NAMESPACE
        } else if self.namespace.is_empty() {
            "default"
        } else {
            self.namespace
        }
    }

    /// As [`Id::key`].
    pub(crate) fn key(self) -> Self {
        Self { namespace: self.effective_namespace(), ..self }
    }
}

impl Id {
    pub(crate) fn borrowed(&self) -> IdRef<'_> {
        IdRef { api: &self.api, kind: &self.kind, name: &self.name, namespace: &self.namespace }
    }
}

impl Former {
    /// As an identity; group and version are always the present ones.
    pub(crate) fn with_api<'r>(&'r self, api: &'r str) -> IdRef<'r> {
        IdRef { api, kind: &self.kind, name: &self.name, namespace: &self.namespace }
    }
}

impl std::fmt::Display for IdRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.kind, self.name)?;
        match self.namespace.is_empty() {
            true => write!(f, " ({})", self.api),
            false => write!(f, " in namespace {:?} ({})", self.namespace, self.api),
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.borrowed().fmt(f)
    }
}

/// A former name, namespace (comparable form) and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) kind: Arc<str>,
}

/// What a generator wants done with an object of the same identity that is already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

/// One object under construction.
#[derive(Clone, Debug)]
pub(crate) struct Res {
    pub(crate) node: Node,
    pub(crate) origin: Origin,
    /// Oldest first.
    pub(crate) former: Vec<Former>,
    /// Innermost first.
    pub(crate) prefixes: Vec<Arc<str>>,
    pub(crate) suffixes: Vec<Arc<str>>,
    pub(crate) wants_hash: bool,
    pub(crate) hashed_base_name: Option<String>,
    pub(crate) behavior: Behavior,
    /// Made by a generator: the real program would have annotations on it from the start.
    pub(crate) generated: bool,
    /// Where the real program would say this object comes from, when `buildMetadata` asks.
    pub(crate) provenance: Option<Arc<Provenance>>,
    /// Which transformers saw it, likewise.
    pub(crate) transformed: Vec<Arc<Provenance>>,
    /// Variables that read from this object.
    pub(crate) variables: Vec<Arc<str>>,
    /// Values that stand in several places of this object and are one node to the real program, known by their text's
    /// address: what is written to one of them is written to all.
    pub(crate) shared: Vec<Arc<str>>,
}

/// Texts that nearly every identity has.
static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| "default".into());
static NONE: LazyLock<Arc<str>> = LazyLock::new(|| NO_NAMESPACE.into());

fn empty() -> Arc<str> {
    EMPTY.clone()
}

impl Res {
    pub(crate) fn new(node: Node, origin: Origin) -> Self {
        Self {
            node,
            origin,
            former: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            wants_hash: false,
            hashed_base_name: None,
            behavior: Behavior::Create,
            generated: false,
            provenance: None,
            transformed: Vec::new(),
            variables: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// The text of a scalar at the top, empty when it is not there.
    fn top(&self, key: &str) -> Arc<str> {
        match self.node.as_map().and_then(|m| m.get(key)) {
            Some(Node::Scalar(s)) => s.text.clone(),
            _ => empty(),
        }
    }

    pub(crate) fn kind(&self) -> Arc<str> {
        self.top("kind")
    }

    pub(crate) fn api(&self) -> Arc<str> {
        self.top("apiVersion")
    }

    pub(crate) fn metadata(&self) -> Option<&Map> {
        self.node.as_map()?.get("metadata")?.as_map()
    }

    fn meta_text(&self, key: &str) -> Arc<str> {
        match self.metadata().and_then(|m| m.get(key)) {
            Some(n @ Node::Scalar(s)) if !n.is_null() => s.text.clone(),
            _ => empty(),
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.meta_text("name")
    }

    pub(crate) fn namespace(&self) -> Arc<str> {
        self.meta_text("namespace")
    }

    /// Who it is now.
    pub(crate) fn id(&self) -> Id {
        Id { api: self.api(), kind: self.kind(), name: self.name(), namespace: self.namespace() }
    }

    /// The same, borrowed.
    pub(crate) fn id_ref(&self) -> IdRef<'_> {
        fn scalar<'m>(map: Option<&'m Map>, key: &str) -> Option<&'m Scalar> {
            map?.get(key)?.as_scalar()
        }
        let (root, metadata) = (self.node.as_map(), self.metadata());
        let top = |key| scalar(root, key).map_or("", |s| &*s.text);
        let meta = |key| scalar(metadata, key).filter(|s| s.kind != Kind::Null).map_or("", |s| &*s.text);
        IdRef { api: top("apiVersion"), kind: top("kind"), name: meta("name"), namespace: meta("namespace") }
    }

    /// Who it was when it was read, borrowed.
    pub(crate) fn original_ref(&self) -> IdRef<'_> {
        let now = self.id_ref();
        match self.former.first() {
            Some(former) => former.with_api(now.api),
            None => now,
        }
    }

    /// Who it was, oldest first; group and version are always the present ones.
    pub(crate) fn former_ids(&self) -> impl Iterator<Item = Id> + '_ {
        let api = self.api();
        self.former.iter().map(move |f| Id {
            api: api.clone(),
            kind: f.kind.clone(),
            name: f.name.clone(),
            namespace: f.namespace.clone(),
        })
    }

    /// Who it was when it was read.
    pub(crate) fn original_id(&self) -> Id {
        let first = self.former_ids().next();
        first.unwrap_or_else(|| self.id())
    }

    /// Notes who it is now, before that changes.
    pub(crate) fn remember(&mut self) {
        let id = self.id();
        let namespace = id.shared_namespace();
        if !id.name.is_empty() {
            // Most objects change their name once or never.
            self.former.reserve_exact(1);
            self.former.push(Former { name: id.name, namespace, kind: id.kind });
        }
    }

    /// Whether the real program would by now carry annotations of its own on this object.
    pub(crate) fn has_history(&self) -> bool {
        self.generated
            || !self.former.is_empty()
            || !self.prefixes.is_empty()
            || !self.suffixes.is_empty()
            || self.provenance.is_some()
            || !self.transformed.is_empty()
    }

    /// Runs `body` on the object as the real program has it: where that keeps history in annotations, there is an
    /// annotations map. An empty one is gone again afterwards.
    pub(crate) fn with_annotations<T>(&mut self, path: &str, body: impl FnOnce(&mut Node) -> T) -> T {
        let borrowed = path.starts_with("metadata/annotations")
            && self.has_history()
            && metadata_mut(&mut self.node).is_some_and(|m| match m.get("annotations") {
                None => {
                    m.insert("annotations", Node::map());
                    true
                }
                Some(_) => false,
            });
        let done = body(&mut self.node);
        if borrowed
            && let Some(meta) = metadata_mut(&mut self.node)
            && meta.get("annotations").and_then(Node::as_map).is_some_and(Map::is_empty)
        {
            meta.remove("annotations");
        }
        done
    }

    /// Texts of `metadata.labels` or `metadata.annotations`, by key.
    pub(crate) fn meta_pairs(&self, field: &str) -> Vec<(Arc<str>, Arc<str>)> {
        self.metadata()
            .and_then(|m| m.get(field))
            .and_then(Node::as_map)
            .map(|m| m.iter().map(|e| (e.key.clone().into(), text_of(&e.value))).collect())
            .unwrap_or_default()
    }

    pub(crate) fn meta_pair(&self, field: &str, key: &str) -> Option<Arc<str>> {
        self.metadata()?.get(field)?.as_map()?.get(key).map(text_of)
    }

    /// Sets `metadata.labels` or `metadata.annotations` to texts; removes the field when there are none.
    pub(crate) fn set_meta_pairs(&mut self, field: &str, pairs: Vec<(Arc<str>, Arc<str>)>) {
        let Some(meta) = metadata_mut(&mut self.node) else { return };
        meta.remove(field);
        if !pairs.is_empty() {
            let mut map = Map::new();
            for (k, v) in pairs {
                map.insert(k, super::fieldspec::new_text(v));
            }
            meta.insert(field, Node::Map(map));
        }
    }

    /// Sets the name, keeping how it is written.
    pub(crate) fn set_name(&mut self, name: &str) {
        if let Some(meta) = metadata_mut(&mut self.node) {
            super::fieldspec::set_text(meta, "name", name);
        }
    }

    /// Sets the namespace; empty text removes it.
    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        if let Some(meta) = metadata_mut(&mut self.node) {
            if namespace.is_empty() {
                meta.remove("namespace");
            } else {
                super::fieldspec::set_text(meta, "namespace", namespace);
            }
        }
    }
}

/// Whether a text is one of the shared ones, by address.
pub(crate) fn is_shared(shared: &[Arc<str>], text: &Arc<str>) -> bool {
    shared.iter().any(|s| Arc::ptr_eq(s, text))
}

impl Res {
    /// Writes a value to all places that share the node `old` was in.
    pub(crate) fn share(&mut self, old: &Arc<str>, new: &Scalar) {
        let new = Scalar { text: Arc::from(&*new.text), ..new.clone() };
        replace_shared(&mut self.node, old, &new);
        self.shared.retain(|s| !Arc::ptr_eq(s, old));
        self.shared.push(new.text);
    }

    /// Does for a strategic merge what [`Res::share`] does for one value: of the places that changed, the last counts.
    pub(crate) fn share_after_merge(&mut self, before: &Node) {
        for old in self.shared.clone() {
            let mut changed = None;
            compare_shared(before, &self.node, &old, &mut changed);
            if let Some((new, places)) = changed {
                for place in places {
                    replace_shared(&mut self.node, &place, &new);
                }
                self.share(&old, &new);
            }
        }
    }
}

fn replace_shared(node: &mut Node, old: &Arc<str>, new: &Scalar) {
    fn holds(node: &Node, old: &Arc<str>) -> bool {
        match node {
            Node::Scalar(s) => Arc::ptr_eq(&s.text, old),
            Node::Seq(seq) => seq.iter().any(|n| holds(n, old)),
            Node::Map(map) => map.iter().any(|e| holds(&e.value, old)),
        }
    }
    if !holds(node, old) {
        return;
    }
    match node {
        Node::Scalar(s) => *s = new.clone(),
        Node::Seq(seq) => seq.items_mut().iter_mut().for_each(|n| replace_shared(n, old, new)),
        Node::Map(map) => map.entries_mut().iter_mut().for_each(|e| replace_shared(&mut e.value, old, new)),
    }
}

/// Finds the places in maps that held `old` and hold something else now: the last value, and the texts of all.
fn compare_shared(before: &Node, after: &Node, old: &Arc<str>, changed: &mut Option<(Scalar, Vec<Arc<str>>)>) {
    match (before, after) {
        (Node::Scalar(b), Node::Scalar(a)) if Arc::ptr_eq(&b.text, old) && !Arc::ptr_eq(&a.text, old) => {
            let places = changed.get_or_insert_with(|| (a.clone(), Vec::new()));
            places.0 = a.clone();
            places.1.push(a.text.clone());
        }
        (Node::Map(b), Node::Map(a)) => {
            let mut keys: Vec<&str> = b.iter().map(|e| &*e.key).collect();
            keys.sort_unstable();
            for key in keys {
                if let (Some(b), Some(a)) = (b.get(key), a.get(key)) {
                    compare_shared(b, a, old, changed);
                }
            }
        }
        _ => {}
    }
}

/// `metadata`, created when it is not there; `None` when the object is no map.
pub(crate) fn metadata_mut(node: &mut Node) -> Option<&mut Map> {
    let map = node.as_map_mut()?;
    if !matches!(map.get("metadata"), Some(Node::Map(_))) {
        map.insert("metadata", Node::map());
    }
    map.get_mut("metadata")?.as_map_mut()
}

/// The text of a scalar as written, empty for anything else.
pub(crate) fn text_of(node: &Node) -> Arc<str> {
    node.as_scalar().map_or_else(empty, |s| s.text.clone())
}

/// The objects of one folder, in order, with indexes by identity that are built when asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    list: Vec<Res>,
    index: Option<Index>,
    made: Made,
}

/// How much new text transformers have made. Their input may share one text among all objects; what they make is a copy
/// for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    bytes: u64,
    limit: u64,
}

impl Made {
    /// Counts a new text.
    pub(crate) fn text(&mut self, len: usize) -> Result<(), String> {
        // What a text costs beside its bytes.
        self.bytes = self.bytes.saturating_add(len as u64 + 64);
        self.check()
    }

    /// Counts a copy of a value: what is put into many objects need not stay shared by them.
    pub(crate) fn copy(&mut self, weight: u64) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(weight);
        self.check()
    }

    fn check(self) -> Result<(), String> {
        if self.bytes > self.limit {
            return Err(format!("{OVERGROWN} more than {} bytes of text", self.limit));
        }
        Ok(())
    }
}

/// What a copy of a value counts: the bytes of its texts and keys, and what each value costs beside them.
pub(crate) fn weight(node: &Node) -> u64 {
    64 + match node {
        Node::Scalar(s) => s.text.len() as u64,
        Node::Seq(seq) => seq.iter().map(weight).sum(),
        Node::Map(map) => map.iter().map(|entry| entry.key.len() as u64 + weight(&entry.value)).sum(),
    }
}

/// The kind of a failure that a transformer tells in words.
pub(crate) fn kind_of(why: &str, otherwise: ErrorKind) -> ErrorKind {
    if why.contains(OVERGROWN) { ErrorKind::Limit } else { otherwise }
}

/// How a message begins that says that transformers made too much.
pub(crate) const OVERGROWN: &str = "the transformers of this build make";

/// Objects by present and former ids.
#[derive(Clone, Debug, Default)]
struct Index(HashMap<Id, Places, RandomState>);

/// Places in the list of objects, in order; nearly always one.
#[derive(Clone, Debug)]
pub(crate) enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl Places {
    pub(crate) fn add(&mut self, at: u32) {
        match self {
            Self::One(first) if *first != at => *self = Self::Many(vec![*first, at]),
            Self::Many(all) if all.last() != Some(&at) => all.push(at),
            _ => {}
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(at) => std::slice::from_ref(at),
            Self::Many(all) => all,
        }
    }
}

impl Index {
    /// `key` is the key of what the object is now.
    fn add(&mut self, at: u32, res: &Res, key: Id) {
        for id in res.former_ids().chain([key]) {
            self.0.entry(id).and_modify(|places| places.add(at)).or_insert(Places::One(at));
        }
    }
}

impl Objects {
    /// None yet, within a limit on the text that transformers make.
    pub(crate) fn new(made_bytes: u64) -> Self {
        Self { made: Made { bytes: 0, limit: made_bytes }, ..Self::default() }
    }

    /// The count of new text, to be handed back with [`Objects::set_made`].
    pub(crate) fn made(&self) -> Made {
        self.made
    }

    pub(crate) fn set_made(&mut self, made: Made) {
        self.made = made;
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Res> {
        self.list.iter()
    }

    pub(crate) fn get(&self, at: usize) -> &Res {
        &self.list[at]
    }

    /// For changes that leave every identity as it is.
    pub(crate) fn get_mut_same_id(&mut self, at: usize) -> &mut Res {
        &mut self.list[at]
    }

    /// Takes every object's node out, for [`Objects::put_nodes`].
    pub(crate) fn take_nodes(&mut self) -> Vec<Node> {
        let nothing = Node::null();
        self.list.iter_mut().map(|res| std::mem::replace(&mut res.node, nothing.clone())).collect()
    }

    /// Gives the nodes back; every identity is as it was.
    pub(crate) fn put_nodes(&mut self, nodes: Vec<Node>) {
        for (res, node) in self.list.iter_mut().zip(nodes) {
            res.node = node;
        }
    }

    /// For changes that leave every identity as it is.
    pub(crate) fn iter_mut_same_id(&mut self) -> std::slice::IterMut<'_, Res> {
        self.list.iter_mut()
    }

    /// For any change.
    pub(crate) fn list_mut(&mut self) -> &mut Vec<Res> {
        self.index = None;
        &mut self.list
    }

    pub(crate) fn into_list(self) -> Vec<Res> {
        self.list
    }

    fn index(&mut self) -> &Index {
        let list = &self.list;
        self.index.get_or_insert_with(|| {
            let mut index = Index::default();
            for (at, res) in list.iter().enumerate() {
                index.add(at as u32, res, res.id().key());
            }
            index
        })
    }

    /// Which objects have or had this identity, in order.
    pub(crate) fn ever(&mut self, key: &Id) -> &[u32] {
        self.index().0.get(key).map_or(&[], Places::as_slice)
    }

    /// Adds an object; refuses one whose identity is there already.
    pub(crate) fn push(&mut self, res: Res) -> Result<(), BuildError> {
        let key = res.id().key();
        let wanted = res.id_ref().key();
        self.index();
        let there = self.index.as_ref().and_then(|index| index.0.get(&key)).map_or(&[][..], Places::as_slice);
        let first = there.iter().map(|at| self.get(*at as usize)).find(|first| first.id_ref().key() == wanted);
        if let Some(first) = first {
            return Err(duplicate(first, &res));
        }
        let at = self.list.len() as u32;
        if let Some(index) = &mut self.index {
            index.add(at, &res, key);
        }
        self.list.push(res);
        Ok(())
    }

    /// Adds all of another list.
    pub(crate) fn extend(&mut self, other: Objects) -> Result<(), BuildError> {
        let bytes = self.made.bytes.saturating_add(other.made.bytes);
        let made = Made { bytes, limit: self.made.limit.max(other.made.limit) };
        if self.list.is_empty() {
            *self = other;
            self.made = made;
            return Ok(());
        }
        self.made = made;
        for res in other.list {
            self.push(res)?;
        }
        Ok(())
    }

    /// Refuses two objects of one identity.
    pub(crate) fn check_unique(&self) -> Result<(), BuildError> {
        let mut unique = Unique::of(self.list.len());
        self.list.iter().for_each(|res| unique.add(res));
        unique.check()
    }
}

/// Looks for two objects of one identity while something else is done with them.
pub(crate) struct Unique<'r> {
    seen: HashMap<IdRef<'r>, &'r Res, RandomState>,
    twice: Option<(&'r Res, &'r Res)>,
}

impl<'r> Unique<'r> {
    /// Of so many objects.
    pub(crate) fn of(objects: usize) -> Self {
        Self { seen: HashMap::with_capacity_and_hasher(objects, RandomState::default()), twice: None }
    }

    pub(crate) fn add(&mut self, res: &'r Res) {
        if let Some(first) = self.seen.insert(res.id_ref().key(), res)
            && self.twice.is_none()
        {
            self.twice = Some((first, res));
        }
    }

    /// Refuses the first that came twice.
    pub(crate) fn check(self) -> Result<(), BuildError> {
        self.twice.map_or(Ok(()), |(first, second)| Err(duplicate(first, second)))
    }
}

fn duplicate(first: &Res, second: &Res) -> BuildError {
    BuildError::new(ErrorKind::Conflict, second.origin.clone(), format!("{} is there twice", second.id()))
        .help(format!("the other one is at {}; rename one, or patch instead of repeating", first.origin))
}
