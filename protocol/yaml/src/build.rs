//! From events to a [`Node`]: scalars resolved, anchors and merge keys expanded, everything counted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::key::Key;
use crate::libyaml::Event;
use crate::limits::Limits;
use crate::node::{Entry, Kind, Map, Node, Scalar, Seq};
use crate::refold::refold;
use crate::resolve::{Dialect, resolve, tagged};

/// Maps up to this size are searched for a key, larger ones get an index.
const SMALL: usize = 16;

/// Builds one document after the other; the counts go on over all of them.
pub(crate) struct Builder<'l> {
    dialect: Dialect,
    limits: &'l Limits,
    /// Lines before the text that is read, in the file it is a piece of.
    lines_before: u32,
    frames: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<Box<str>, Anchor>,
    nodes: usize,
    text: usize,
    /// Empty, with room: where the next lists and maps grow before they are kept in no more memory than they need.
    spare_items: Vec<Vec<Node>>,
    spare_entries: Vec<Vec<Entry>>,
}

/// What an anchor stands for.
enum Anchor {
    /// Its value has not ended yet.
    Open,
    Value {
        node: Node,
        size: Size,
    },
}

/// What a value costs each time it is used.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    text: usize,
    /// Levels of lists and maps, 0 for a scalar.
    depth: usize,
}

/// A list or map that has not ended yet.
struct Frame {
    anchor: Option<Box<str>>,
    line: u32,
    /// Written in brackets or braces.
    flow: bool,
    /// The counts when it started.
    before: (usize, usize),
    /// Levels below it so far.
    depth: usize,
    content: Content,
}

enum Content {
    Seq(Vec<Node>),
    Map(MapContent),
}

#[derive(Default)]
struct MapContent {
    entries: Vec<Entry>,
    /// Key to place, once there are more than [`SMALL`].
    index: Option<HashMap<Key, usize>>,
    key: Option<Waiting>,
    merge: Option<Vec<Map>>,
}

/// A key that waits for its value.
enum Waiting {
    Text(Key, u32),
    Merge,
    /// kyaml removes the key `<<` from every map when it has merged, also one in quotes.
    Dropped,
}

/// A value that has just ended.
struct Value {
    node: Node,
    size: Size,
    /// Where it was written as an unquoted `<<`, or under the tag `!!merge`.
    merge: bool,
    alias: bool,
}

impl<'l> Builder<'l> {
    pub(crate) fn new(dialect: Dialect, limits: &'l Limits) -> Self {
        Self {
            dialect,
            limits,
            lines_before: 0,
            frames: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            text: 0,
            spare_items: Vec::new(),
            spare_entries: Vec::new(),
        }
    }

    /// Sets how many lines of the file come before the text that is read next.
    pub(crate) fn set_lines_before(&mut self, lines: u32) {
        self.lines_before = lines;
    }

    /// What has been counted so far, to be given to [`Builder::forget`].
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.nodes, self.text)
    }

    /// Forgets what was built since the counts were taken.
    pub(crate) fn forget(&mut self, counts: (usize, usize)) {
        (self.nodes, self.text) = counts;
        self.start_document();
    }

    pub(crate) fn start_document(&mut self) {
        self.frames.clear();
        self.anchors.clear();
        self.root = None;
    }

    /// The document's value; null when it has none.
    pub(crate) fn finish(&mut self) -> Node {
        self.root.take().unwrap_or_else(Node::null)
    }

    /// `line` is 1-based in the text that is read.
    pub(crate) fn event(&mut self, event: &Event<'_>, line: u32) -> Result<(), ErrorKind> {
        let line = line.saturating_add(self.lines_before);
        match *event {
            Event::Scalar { anchor, tag, value, plain, folded, .. } => {
                let value = if folded && self.dialect == Dialect::Resource { refold(value) } else { value.into() };
                self.scalar(anchor, tag, &value, plain, line)
            }
            Event::Alias { anchor } => self.alias(anchor),
            Event::SequenceStart { anchor, flow } => {
                let items = self.spare_items.pop().unwrap_or_default();
                self.open(anchor, flow, line, Content::Seq(items))
            }
            Event::MappingStart { anchor, flow } => {
                let entries = self.spare_entries.pop().unwrap_or_default();
                self.open(anchor, flow, line, Content::Map(MapContent { entries, ..MapContent::default() }))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart { .. } | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        anchor: Option<&str>,
        tag: Option<&str>,
        text: &str,
        plain: bool,
        line: u32,
    ) -> Result<(), ErrorKind> {
        self.count(1, text.len())?;
        let merge_tag = tag.is_some_and(|t| t == "tag:yaml.org,2002:merge");
        // Over a bare `!` the two libraries differ: v3 does as if it were not there, v2 takes the value for text.
        let implicit = plain && (tag.is_none() || self.dialect == Dialect::Resource);
        let merge = text == "<<" && (merge_tag || (tag.is_none_or(|t| t == "!") && implicit));
        let kind = match tag.filter(|t| *t != "!") {
            Some(tag) => tagged(tag, text, self.dialect).ok_or_else(|| mismatch(tag, text))?,
            None if implicit => resolve(text, self.dialect),
            None => Kind::Str,
        };
        let kind = match kind {
            // go-yaml v2 hands a date on as its text.
            Kind::Timestamp if self.dialect == Dialect::Yaml11 => Kind::Str,
            Kind::Binary if crate::base64::decode(text).is_none() => return Err(ErrorKind::NotBase64),
            kind => kind,
        };
        if kind == Kind::Str
            && anchor.is_none()
            && text != "<<"
            && let Some(Frame { content: Content::Map(map), .. }) = self.frames.last_mut()
            && map.key.is_none()
        {
            // Nearly every key; as a number it needs no memory.
            let key = Waiting::Text(text.into(), line);
            map.check(&key, self.dialect)?;
            map.key = Some(key);
            return Ok(());
        }
        let flow = self.dialect == Dialect::Resource && self.frames.last().is_some_and(|f| f.flow);
        let flow_null = flow && plain && kind == Kind::Null && text.is_empty();
        // Inside brackets kustomize writes what holds a colon in quotes on the way: a time of day becomes text.
        let kind = if flow && plain && kind == Kind::Timestamp && text.contains(':') { Kind::Str } else { kind };
        let node = Node::Scalar(Scalar {
            text: Arc::from(text),
            kind,
            quoted: if kind == Kind::Null { flow_null } else { !plain },
            line,
        });
        let size = Size { nodes: 1, text: text.len(), depth: 0 };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.into(), Anchor::Value { node: node.clone(), size });
        }
        self.put(Value { node, size, merge, alias: false })
    }

    fn alias(&mut self, name: &str) -> Result<(), ErrorKind> {
        let (node, size) = match self.anchors.get(name) {
            Some(Anchor::Value { node, size }) => (node.clone(), *size),
            Some(Anchor::Open) => return Err(ErrorKind::RecursiveAnchor(name.to_owned())),
            None => return Err(ErrorKind::UnknownAnchor(name.to_owned())),
        };
        self.count(size.nodes, size.text)?;
        if self.frames.len() + size.depth > self.limits.depth() {
            return Err(ErrorKind::TooDeep(self.limits.depth()));
        }
        self.put(Value { node, size, merge: false, alias: true })
    }

    fn open(&mut self, anchor: Option<&str>, flow: bool, line: u32, content: Content) -> Result<(), ErrorKind> {
        let before = (self.nodes, self.text);
        self.count(1, 0)?;
        if self.frames.len() >= self.limits.depth() {
            return Err(ErrorKind::TooDeep(self.limits.depth()));
        }
        if let Some(Frame { content: Content::Map(map), .. }) = self.frames.last()
            && map.key.is_none()
        {
            return Err(ErrorKind::KeyNotScalar);
        }
        let anchor = anchor.map(Box::<str>::from);
        if let Some(anchor) = &anchor {
            self.anchors.insert(anchor.clone(), Anchor::Open);
        }
        self.frames.push(Frame { anchor, line, flow, before, depth: 0, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), ErrorKind> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let node = match frame.content {
            Content::Seq(mut items) => {
                let node = Node::Seq(Seq::from_items(exact(&mut items), frame.line));
                self.spare_items.push(items);
                node
            }
            Content::Map(mut map) => {
                map.merge_at_end();
                let node = Node::Map(Map::from_entries(exact(&mut map.entries), frame.line));
                self.spare_entries.push(map.entries);
                node
            }
        };
        // What is below is counted while it is at hand.
        node.count_below();
        let size =
            Size { nodes: self.nodes - frame.before.0, text: self.text - frame.before.1, depth: frame.depth + 1 };
        if let Some(anchor) = frame.anchor {
            self.anchors.insert(anchor, Anchor::Value { node: node.clone(), size });
        }
        self.put(Value { node, size, merge: false, alias: false })
    }

    /// Hands a value that has ended to the list or map around it.
    fn put(&mut self, value: Value) -> Result<(), ErrorKind> {
        let dialect = self.dialect;
        let top = self.frames.len() == 1;
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(value.node);
            return Ok(());
        };
        frame.depth = frame.depth.max(value.size.depth);
        match &mut frame.content {
            Content::Seq(items) => items.push(value.node),
            Content::Map(map) => match map.key.take() {
                None => {
                    let key = key(&value, dialect, top)?;
                    map.check(&key, dialect)?;
                    map.key = Some(key);
                }
                Some(Waiting::Text(key, line)) => map.set(key, value.node, line),
                Some(Waiting::Merge) => map.merge(value, dialect)?,
                Some(Waiting::Dropped) => {}
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, text: usize) -> Result<(), ErrorKind> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > self.limits.nodes {
            return Err(ErrorKind::TooManyNodes(self.limits.nodes));
        }
        if self.text > self.limits.text {
            return Err(ErrorKind::TooMuchText(self.limits.text));
        }
        Ok(())
    }
}

/// Takes everything out of a list into one of exactly that size.
fn exact<T>(grown: &mut Vec<T>) -> Vec<T> {
    let mut out = Vec::with_capacity(grown.len());
    out.append(grown);
    out
}

impl MapContent {
    fn place(&mut self, key: &str) -> Option<usize> {
        if self.entries.len() <= SMALL {
            return self.entries.iter().position(|e| &*e.key == key);
        }
        let entries = &self.entries;
        let index =
            self.index.get_or_insert_with(|| entries.iter().enumerate().map(|(n, e)| (e.key.clone(), n)).collect());
        index.get(key).copied()
    }

    fn push(&mut self, entry: Entry) {
        if let Some(index) = &mut self.index {
            index.insert(entry.key.clone(), self.entries.len());
        }
        self.entries.push(entry);
    }

    /// Refuses a key that is there already, where the dialect does.
    fn check(&mut self, key: &Waiting, dialect: Dialect) -> Result<(), ErrorKind> {
        match key {
            _ if dialect == Dialect::Yaml11 => Ok(()),
            Waiting::Merge if self.merge.is_some() => Err(ErrorKind::DuplicateMerge),
            Waiting::Text(key, _) => match self.place(key) {
                Some(at) => Err(ErrorKind::DuplicateKey { key: key.to_string(), first: self.entries[at].line }),
                None => Ok(()),
            },
            Waiting::Merge | Waiting::Dropped => Ok(()),
        }
    }

    fn set(&mut self, key: Key, value: Node, line: u32) {
        match self.place(&key) {
            None => self.push(Entry { key, value, line }),
            Some(at) => self.entries[at] = Entry { key, value, line },
        }
    }

    fn merge(&mut self, value: Value, dialect: Dialect) -> Result<(), ErrorKind> {
        let maps = match value.node {
            Node::Map(map) => vec![map],
            // An alias may stand for one map, not for a list of them.
            Node::Seq(items) if !value.alias => {
                items.iter().map(|n| n.as_map().cloned()).collect::<Option<_>>().ok_or(ErrorKind::MergeNotMap)?
            }
            _ => return Err(ErrorKind::MergeNotMap),
        };
        match dialect {
            Dialect::Resource => self.merge = Some(maps),
            // go-yaml v2 merges where the `<<` stands: it overrides what is above it.
            Dialect::Yaml11 => self.merge_maps(&maps, 0),
        }
        Ok(())
    }

    /// go-yaml v3 and kyaml merge when all is read: the map's own keys win.
    fn merge_at_end(&mut self) {
        if let Some(maps) = self.merge.take() {
            self.merge_maps(&maps, self.entries.len());
        }
    }

    /// Adds the entries of these maps, the first map winning over the later ones, without touching the first `own` keys.
    fn merge_maps(&mut self, maps: &[Map], own: usize) {
        for map in maps.iter().rev() {
            for entry in map {
                match self.place(&entry.key) {
                    None => self.push(entry.clone()),
                    Some(at) if at >= own => self.entries[at] = entry.clone(),
                    Some(_) => {}
                }
            }
        }
    }
}

/// Makes a key of a value. `top`: of the document's own map, which Go decodes into a map of texts.
fn key(value: &Value, dialect: Dialect, top: bool) -> Result<Waiting, ErrorKind> {
    if value.merge {
        return Ok(Waiting::Merge);
    }
    let Node::Scalar(scalar) = &value.node else { return Err(ErrorKind::KeyNotScalar) };
    let text = || Ok(Waiting::Text(scalar.text.clone().into(), scalar.line));
    let binary = || {
        let bytes = crate::base64::decode(&scalar.text).unwrap_or_default();
        Ok(Waiting::Text(crate::base64::lossy(&bytes).into(), scalar.line))
    };
    match (dialect, scalar.kind) {
        (Dialect::Resource, Kind::Str) if &*scalar.text == "<<" => Ok(Waiting::Dropped),
        (_, Kind::Str) => text(),
        // On its way through kyaml an empty key becomes the empty text; a written null ends in an error.
        (Dialect::Resource, Kind::Null) if top && scalar.text.is_empty() => text(),
        (Dialect::Resource, Kind::Null) => Err(ErrorKind::KeyNotText(scalar.text.to_string())),
        (Dialect::Resource, Kind::Binary) if top => binary(),
        (Dialect::Resource, _) if top => text(),
        (Dialect::Yaml11, Kind::Bool) => {
            let word = if scalar.boolean() == Some(true) { "true" } else { "false" };
            Ok(Waiting::Text(word.into(), scalar.line))
        }
        (Dialect::Yaml11, Kind::Int | Kind::Float) => match scalar.number().and_then(|n| n.to_key()) {
            Some(number) => Ok(Waiting::Text(number.into(), scalar.line)),
            None => Err(ErrorKind::KeyNotText(scalar.text.to_string())),
        },
        (Dialect::Yaml11, Kind::Binary) => binary(),
        _ => Err(ErrorKind::KeyNotText(scalar.text.to_string())),
    }
}

fn mismatch(tag: &str, text: &str) -> ErrorKind {
    let tag = tag.strip_prefix("tag:yaml.org,2002:").map_or_else(|| tag.to_owned(), |t| format!("!!{t}"));
    ErrorKind::TagMismatch { tag, text: text.chars().take(40).collect() }
}
