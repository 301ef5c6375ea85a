//! Replacements inside JSON or YAML text that a field holds.

use super::fieldpath::{Make, each, lookup};
use driftless_yaml::{Dialect, Kind, Limits, Node, Scalar};

/// Sets a value inside the text that stands somewhere along the path. `false` when no part of the path holds such text, or
/// the rest of the path is not in it: then the path means the object itself.
pub(crate) fn set(node: &mut Node, path: &[String], value: &Node, make: Option<Make>) -> bool {
    if path.len() < 2 {
        return false;
    }
    let text = (1..path.len()).find_map(|i| match lookup(node, &path[..i]) {
        Ok(Some(Node::Scalar(s))) if s.kind == Kind::Str => Some((i, s.text.clone())),
        _ => None,
    });
    let Some((at, text)) = text else { return false };
    let first = text.trim_start().chars().next();
    let Some(first) = first else { return false };
    let Ok(document) = driftless_yaml::parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()) else {
        return false;
    };
    let mut data = document.node;
    if matches!(data, Node::Scalar(_)) {
        return false;
    }
    let mut put = |node: &mut Node, fresh: bool| {
        match (&mut *node, value) {
            (Node::Scalar(old), _) => super::replace::set_text(old, super::res::text_of(value), fresh)?,
            (other, value) => *other = value.clone(),
        }
        Ok(())
    };
    if !matches!(each(&mut data, &path[at..], make, &mut put), Ok(n) if n > 0) {
        return false;
    }
    let written = if first == '{' || first == '[' { json(&data, &text) } else { yaml(&data) };
    let Some(written) = written else { return false };
    let mut place = |node: &mut Node, _: bool| {
        if let Node::Scalar(s) = node {
            *s = Scalar { text: written.as_str().into(), ..s.clone() };
        }
        Ok(())
    };
    each(node, &path[..at], None, &mut place).is_ok()
}

/// JSON as Go writes it: keys sorted, indented when the old text was.
fn json(data: &Node, old: &str) -> Option<String> {
    let mut out = String::new();
    let indent = (old.contains('\n') && old.contains("  ")).then_some(0);
    write_json(&mut out, data, indent)?;
    Some(out)
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
                write_json(out, &Node::string(entry.key.clone()), None)?;
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

/// YAML with the keys in the order they were in. Comments of the old text are lost.
fn yaml(data: &Node) -> Option<String> {
    let mut out = String::new();
    write_yaml(&mut out, data, 0)?;
    Some(out.trim().to_owned())
}

fn write_yaml(out: &mut String, node: &Node, depth: usize) -> Option<()> {
    let pad = |out: &mut String, depth: usize| (0..depth).for_each(|_| out.push_str("  "));
    let nested = |node: &Node| match node {
        Node::Map(m) => !m.is_empty(),
        Node::Seq(s) => !s.is_empty(),
        Node::Scalar(_) => false,
    };
    match node {
        Node::Map(map) if !map.is_empty() => {
            for entry in map {
                pad(out, depth);
                out.push_str(scalar(&Node::string(entry.key.clone()))?.trim_end());
                out.push(':');
                if nested(&entry.value) {
                    out.push('\n');
                    let list = matches!(entry.value, Node::Seq(_));
                    write_yaml(out, &entry.value, if list { depth } else { depth + 1 })?;
                } else {
                    out.push(' ');
                    out.push_str(&scalar(&entry.value)?);
                }
            }
        }
        Node::Seq(seq) if !seq.is_empty() => {
            for item in seq {
                pad(out, depth);
                out.push_str("- ");
                if nested(item) {
                    let mut inner = String::new();
                    write_yaml(&mut inner, item, depth + 1)?;
                    out.push_str(inner.trim_start());
                } else {
                    out.push_str(&scalar(item)?);
                }
            }
        }
        other => out.push_str(&scalar(other)?),
    }
    Some(())
}

fn scalar(node: &Node) -> Option<String> {
    driftless_yaml::to_string(node).ok()
}
