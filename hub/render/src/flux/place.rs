//! Where a field of a Flux object was written.
//!
//! A node that came out of a build may carry lines of a patch or of another file. So places are looked up in the file the
//! object was written in, and only when somebody asks.

use std::sync::{Arc, OnceLock};

use driftless_yaml::{Dialect, Limits, Node, parse_all};

use crate::kustomize::Memo;
use crate::target::Location;
use crate::tree::{Entry, Tree};

/// One step to a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// A key of a map.
    Key(&'a str),
    /// An index of a list.
    At(usize),
}

/// The place of one object and, through its file, of its fields.
#[derive(Clone)]
pub(crate) struct Place {
    /// Where the object starts.
    pub(crate) at: Location,
    tree: Option<(Arc<dyn Tree>, Memo)>,
    /// The object as its file has it, and how many lines of the file its own lines do not count.
    written: Arc<OnceLock<Option<(Node, u32)>>>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({})", self.at)
    }
}

impl Place {
    /// An object that starts at `at`, in a file of `tree`.
    pub(crate) fn new(at: Location, tree: Arc<dyn Tree>, memo: &Memo) -> Self {
        Self { at, tree: Some((tree, memo.clone())), written: Arc::default() }
    }

    /// An object in a file that cannot be looked into.
    pub(crate) fn closed(at: Location) -> Self {
        Self { at, tree: None, written: Arc::default() }
    }

    /// An object that no file holds.
    pub(crate) fn nowhere(source: &str) -> Self {
        Self { at: Location { source: source.into(), file: "".into(), line: 0 }, tree: None, written: Arc::default() }
    }

    /// Where the field at `path` is written: its own line when the object's file has it, else the line of the nearest
    /// field above it that has one, else the object's. A field a patch has set is so shown at the object it was set on.
    pub(crate) fn field(&self, path: &[Step<'_>]) -> Location {
        let line = self.written.get_or_init(|| self.document()).as_ref().map_or(0, |(node, before)| {
            match line_of(node, path) {
                0 => 0,
                line => line + before,
            }
        });
        Location { line: if line > 0 { line } else { self.at.line }, ..self.at.clone() }
    }

    /// Where text is wanted and a number or Boolean stands at `path`: what to do. Quotes in the file do not help around a
    /// variable; `shown`: the text of the file may be repeated.
    pub(crate) fn advice(&self, path: &[Step<'_>], shown: bool) -> String {
        let written = self.written.get_or_init(|| self.document()).as_ref();
        let text = written.and_then(|(node, _)| {
            path.iter().try_fold(node, |node, step| match step {
                Step::Key(key) => node.as_map()?.get(key),
                Step::At(index) => node.as_seq()?.get(*index),
            })
        });
        match text.and_then(Node::as_str).filter(|text| text.contains("${")) {
            Some(text) => {
                let text = if shown && text.len() <= 80 { text } else { "${NAME}" };
                format!(
                    "substitution drops the quotes around a variable: write ${{quote}}{text}${{quote}}, and set quote: '\"' \
                     under spec.postBuild.substitute of the unit that applies it"
                )
            }
            None => "put it in quotes".to_owned(),
        }
    }

    fn document(&self) -> Option<(Node, u32)> {
        let (tree, memo) = self.tree.as_ref()?;
        let Some(Entry::File { id, .. }) = tree.entry(&self.at.file).ok()? else { return None };
        let read = || {
            let bytes = tree.read(&self.at.file).ok().flatten().ok_or(())?;
            parse_all(&bytes, Dialect::Resource, &Limits::default()).map_err(drop)
        };
        let documents = memo.documents(id, read).ok()?;
        // The document that starts last before (or at) the object's line.
        let document = documents.iter().rev().find(|d| d.line <= self.at.line.max(1))?;
        let before = document.line.saturating_sub(document.node.line().max(1));
        Some((document.node.clone(), before))
    }
}

fn line_of(node: &Node, path: &[Step<'_>]) -> u32 {
    let mut node = node;
    let mut line = 0;
    for step in path {
        match step {
            Step::Key(key) => {
                let Some(entry) = node.as_map().and_then(|m| m.entry(key)) else { return line };
                line = entry.line;
                node = &entry.value;
            }
            Step::At(index) => {
                let Some(item) = node.as_seq().and_then(|s| s.get(*index)) else { return line };
                line = if item.line() > 0 { item.line() } else { line };
                node = item;
            }
        }
    }
    line
}
