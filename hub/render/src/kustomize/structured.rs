//! Replacements inside JSON or YAML text that a field holds.

use super::fieldpath::{Make, each, lookup};
use driftless_yaml::{Dialect, Kind, Limits, Node, Scalar};
use std::sync::Arc;

/// Sets a value inside the text that stands somewhere along the path; the length of the new text. `None` when no part of
/// the path holds such text, or the rest of the path is not in it: then the path means the object itself.
pub(crate) fn set(node: &mut Node, path: &[String], value: &Node, make: Option<Make>) -> Option<usize> {
    if path.len() < 2 {
        return None;
    }
    let text = (1..path.len()).find_map(|i| match lookup(node, &path[..i]) {
        Ok(Some(Node::Scalar(s))) if s.kind == Kind::Str => Some((i, s.text.clone())),
        _ => None,
    });
    let (at, text) = text?;
    let first = text.trim_start().chars().next()?;
    let mut data = driftless_yaml::parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).ok()?.node;
    if matches!(data, Node::Scalar(_)) {
        return None;
    }
    let mut put = |node: &mut Node, fresh: bool| {
        match (&mut *node, value) {
            // A value of another type keeps the old one's tag, which JSON then cannot hold.
            (Node::Scalar(old), _) => {
                let text = super::res::text_of(value);
                if fresh {
                    old.kind = super::fieldspec::resolve(&text);
                }
                old.text = text;
            }
            (other, value) => *other = value.clone(),
        }
        Ok(())
    };
    each(&mut data, &path[at..], make, &mut put).ok().filter(|n| *n > 0)?;
    let written: Arc<str> = if first == '{' || first == '[' { json(&data, &text) } else { yaml(&data, &text) }?.into();
    let mut place = |node: &mut Node, _: bool| {
        if let Node::Scalar(s) = node {
            *s = Scalar { text: written.clone(), ..s.clone() };
        }
        Ok(())
    };
    each(node, &path[..at], None, &mut place).ok().map(|_| written.len())
}

/// JSON as Go writes it: keys sorted, indented when the old text was.
fn json(data: &Node, old: &str) -> Option<String> {
    let mut out = String::new();
    let indent = (old.contains('\n') && old.contains("  ")).then_some(0);
    write_json(&mut out, data, indent)?;
    Some(out)
}

/// YAML as it was written, but for what changed.
fn yaml(data: &Node, old: &str) -> Option<String> {
    let text = match driftless_yaml::rewrite(old, data, &Limits::default()) {
        Some(text) => text,
        // Anchors and tags: the value, in plain style.
        None => driftless_yaml::to_string(data).ok()?,
    };
    Some(text.trim().to_owned())
}

fn write_json(out: &mut String, node: &Node, indent: Option<usize>) -> Option<()> {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("  "));
    };
    match node {
        Node::Scalar(_) => {
            let mut bytes = Vec::new();
            node.write_json(&mut bytes).ok()?;
            for c in String::from_utf8(bytes).ok()?.chars() {
                match c {
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                    c => out.push(c),
                }
            }
        }
        Node::Seq(seq) if seq.is_empty() => out.push_str("[]"),
        Node::Seq(seq) => {
            out.push('[');
            for (i, item) in seq.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                if let Some(depth) = indent {
                    line(out, depth + 1);
                }
                write_json(out, item, indent.map(|d| d + 1))?;
            }
            if let Some(depth) = indent {
                line(out, depth);
            }
            out.push(']');
        }
        Node::Map(map) if map.is_empty() => out.push_str("{}"),
        Node::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            out.push('{');
            for (i, entry) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                if let Some(depth) = indent {
                    line(out, depth + 1);
                }
                write_json(out, &Node::string(&*entry.key), None)?;
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write_json(out, &entry.value, indent.map(|d| d + 1))?;
            }
            if let Some(depth) = indent {
                line(out, depth);
            }
            out.push('}');
        }
    }
    Some(())
}
