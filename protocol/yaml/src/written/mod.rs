//! A text changed as kustomize changes YAML that stands inside a field: quotes, brackets and comments stay as written.
//!
//! Everywhere else a value is all that counts. Here kustomize prints the parsed text with go-yaml v3, which keeps the
//! style of every value and most comments, and normalises indentation and blank lines. [`rewrite`] does the same.

mod comments;
mod emit;
mod parse;

use crate::limits::Limits;
use crate::node::{Kind, Node};

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
    Folded,
}

/// A value with the way it is written.
#[derive(Clone, Debug)]
struct Written {
    content: Content,
    /// The comment above it, with `#` signs and line ends.
    head: String,
    /// The comment behind it on its line.
    line: String,
    /// The comment below it.
    foot: String,
}

#[derive(Clone, Debug)]
enum Content {
    Scalar { text: String, kind: Kind, style: Style },
    Seq { flow: bool, items: Vec<Written> },
    Map { flow: bool, entries: Vec<(Written, Written)> },
}

impl Written {
    fn new(content: Content) -> Self {
        Self { content, head: String::new(), line: String::new(), foot: String::new() }
    }

    /// A value that was not in the text.
    fn fresh(node: &Node) -> Self {
        Self::new(match node {
            Node::Scalar(s) => Content::Scalar {
                text: s.text.to_string(),
                kind: s.kind,
                style: if s.quoted { Style::Double } else { Style::Plain },
            },
            Node::Seq(seq) => Content::Seq { flow: false, items: seq.iter().map(Self::fresh).collect() },
            Node::Map(map) => Content::Map {
                flow: false,
                entries: map.iter().map(|e| (Self::fresh(&Node::string(&*e.key)), Self::fresh(&e.value))).collect(),
            },
        })
    }

    /// Takes over what a changed copy of this value holds.
    fn follow(&mut self, node: &Node) {
        match (&mut self.content, node) {
            (Content::Scalar { text, kind, .. }, Node::Scalar(s)) => {
                if **text != *s.text {
                    *text = s.text.to_string();
                }
                *kind = s.kind;
            }
            (Content::Seq { items, .. }, Node::Seq(seq)) => {
                items.truncate(seq.len());
                for (at, item) in seq.iter().enumerate() {
                    match items.get_mut(at) {
                        Some(there) => there.follow(item),
                        None => items.push(Self::fresh(item)),
                    }
                }
            }
            (Content::Map { entries, .. }, Node::Map(map)) => {
                entries.retain(|(key, _)| map.get(key.text()).is_some());
                for entry in map {
                    match entries.iter_mut().find(|(key, _)| key.text() == &*entry.key) {
                        Some((_, there)) => there.follow(&entry.value),
                        None => {
                            entries.push((Self::fresh(&Node::string(&*entry.key)), Self::fresh(&entry.value)));
                        }
                    }
                }
            }
            (content, node) => *content = Self::fresh(node).content,
        }
    }

    fn text(&self) -> &str {
        match &self.content {
            Content::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// The first document of `text` as go-yaml v3 prints it when its value has become `changed`. `None` when the text is no
/// YAML, or has anchors or tags, whose way is not followed here.
#[must_use]
pub fn rewrite(text: &str, changed: &Node, limits: &Limits) -> Option<String> {
    if text.len() > limits.bytes {
        return None;
    }
    let mut written = parse::parse(text, limits)?;
    written.follow(changed);
    Some(emit::emit(&written))
}
