//! Dotted paths into objects: `spec.template.spec.containers.[name=web].image`, as replacements and variables use them.

use super::fieldspec::{resolve, split_path, wrong_shape};
use super::res::text_of;
use driftless_yaml::{Dialect, Limits, Map, Node, Scalar, Seq};
use regex::Regex;

/// Splits at dots; a part in brackets that holds dots stays together, and so do parts joined by a backslash.
pub(crate) fn split(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts = split_path(path, '.').into_iter();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            out.push(part);
            continue;
        }
        let mut joined = part;
        for next in parts.by_ref() {
            joined.push('.');
            joined.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        // In brackets without `=` stands a name with dots.
        out.push(if joined.contains('=') { joined } else { joined.trim_matches(['[', ']']).to_owned() });
    }
    out
}

/// The index in `[key=value]`: key and value.
fn condition(part: &str) -> Option<Result<(&str, &str), String>> {
    let inner = part.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split_once('=').ok_or_else(|| format!("{part:?} must be of the form [field=value]")))
}

fn number(part: &str) -> Option<i64> {
    part.parse().ok()
}

/// The value at a path, `None` when it is not there.
pub(crate) fn lookup<'a, P: AsRef<str>>(node: &'a Node, path: &[P]) -> Result<Option<&'a Node>, String> {
    let mut at = node;
    for part in path.iter().map(|p| p.as_ref().trim()).filter(|p| !p.is_empty()) {
        if let Some(index) = number(part) {
            let index = usize::try_from(index).map_err(|_| format!("the list index {part} is negative"))?;
            let Some(next) = list(at)?.get(index) else { return Ok(None) };
            at = next;
        } else if part == "-" {
            let Some(next) = list(at)?.last() else { return Ok(None) };
            at = next;
        } else if part == "*" {
            return Err("* is not possible here".to_owned());
        } else if let Some(condition) = condition(part) {
            let (key, value) = condition?;
            let found = list(at)?.iter().find(|item| match key {
                "" => *text_of(item) == *value,
                key => item.as_map().and_then(|m| m.get(key)).is_some_and(|n| *text_of(n) == *value),
            });
            let Some(next) = found else { return Ok(None) };
            at = next;
        } else {
            match at {
                n if n.is_null() => return Ok(None),
                Node::Map(map) => match map.get(part) {
                    Some(next) => at = next,
                    None => return Ok(None),
                },
                other => return Err(wrong_shape(other, &format!("a map with the field {part:?}"))),
            }
        }
    }
    Ok(Some(at))
}

/// The value at a path, made when it is missing: maps on the way, a scalar at the end, an item that a condition asks for.
/// `None` where the path leads through nothing (a null, an index beyond the end).
pub(crate) fn reach<'a>(node: &'a mut Node, path: &[String]) -> Result<Option<&'a mut Node>, String> {
    super::json::check_path(path.len())?;
    let parts: Vec<&str> = path.iter().map(|p| p.trim()).filter(|p| !p.is_empty()).collect();
    let mut at = node;
    for (depth, part) in parts.iter().enumerate() {
        let next = parts.get(depth + 1).map(|p| (*p).to_owned());
        if let Some(index) = number(part) {
            let index = usize::try_from(index).map_err(|_| format!("the list index {part} is negative"))?;
            list(at)?;
            let Node::Seq(seq) = at else { return Ok(None) };
            match seq.items_mut().get_mut(index) {
                Some(item) => at = item,
                None => return Ok(None),
            }
        } else if *part == "-" {
            list(at)?;
            let Node::Seq(seq) = at else { return Err("the list is empty".to_owned()) };
            at = seq.items_mut().last_mut().ok_or("the list is empty")?;
        } else if *part == "*" {
            return Err("* is not possible here".to_owned());
        } else if let Some(condition) = condition(part) {
            let (key, value) = condition?;
            list(at)?;
            let Node::Seq(seq) = at else { return Err("there is no list to add an item to".to_owned()) };
            let items = seq.items_mut();
            let found = items.iter().position(|item| match key {
                "" => *text_of(item) == *value,
                key => item.as_map().and_then(|m| m.get(key)).is_some_and(|n| *text_of(n) == *value),
            });
            let index = found.unwrap_or_else(|| {
                items.push(conditional_item(key, value));
                items.len() - 1
            });
            at = &mut items[index];
        } else {
            let map = match at {
                n if n.is_null() => return Ok(None),
                Node::Map(map) => map,
                other => return Err(wrong_shape(other, &format!("a map with the field {part:?}"))),
            };
            if map.get(part).is_none() {
                if depth > 0 {
                    super::fieldspec::check_key(part)?;
                }
                map.insert(*part, Make::Scalar.above(next.as_ref()).node());
            }
            match map.get_mut(part) {
                Some(value) => at = value,
                None => return Ok(None),
            }
        }
    }
    Ok(Some(at))
}

/// An item for which `[key=value]` holds.
fn conditional_item(key: &str, value: &str) -> Node {
    let leaf = Node::Scalar(Scalar { text: value.into(), kind: resolve(value), quoted: false, line: 0 });
    if key.is_empty() {
        return leaf;
    }
    let mut map = Map::new();
    map.insert(key, leaf);
    Node::Map(map)
}

fn list(node: &Node) -> Result<&[Node], String> {
    match node {
        Node::Seq(seq) => Ok(seq),
        n if n.is_null() => Ok(&[]),
        other => Err(wrong_shape(other, "a list")),
    }
}

/// What to make of the last part of a path when it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Scalar,
    Map,
    Seq,
}

impl Make {
    fn node(self) -> Node {
        match self {
            // Without a tag: what is put there is read as if unquoted.
            Self::Scalar => Node::Scalar(Scalar { text: "".into(), kind: resolve(""), quoted: false, line: 0 }),
            Self::Map => Node::map(),
            Self::Seq => Node::Seq(Default::default()),
        }
    }

    /// What a part must be so that `next` can be below it.
    fn above(self, next: Option<&String>) -> Self {
        match next {
            None => self,
            Some(next) if condition(next).is_some() || number(next).is_some_and(|n| n >= 0) => Self::Seq,
            Some(_) => Self::Map,
        }
    }
}

/// Calls `set` for every value at a path, which may hold `[key=regex]`, `*` and indexes; makes what is missing when `make`
/// says so. `set` learns whether the value was just made. Returns how many there were.
pub(crate) fn each(
    node: &mut Node,
    path: &[String],
    make: Option<Make>,
    set: &mut dyn FnMut(&mut Node, bool) -> Result<(), String>,
) -> Result<usize, String> {
    super::json::check_path(path.len())?;
    walk(node, path, make, false, set)
}

fn walk(
    node: &mut Node,
    path: &[String],
    make: Option<Make>,
    fresh: bool,
    set: &mut dyn FnMut(&mut Node, bool) -> Result<(), String>,
) -> Result<usize, String> {
    let Some((part, rest)) = path.split_first() else {
        set(node, fresh)?;
        return Ok(1);
    };
    if let Some(index) = number(part).filter(|n| *n >= 0) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let len = list(node)?.len();
        if node.is_null() && index == 0 && make.is_some() {
            // As below: written into nothing.
            return walk(&mut Node::Seq(Seq::from_items(Vec::new(), 0)), path, make, fresh, set);
        }
        let Node::Seq(seq) = node else { return Err(format!("index {index}, but there are no items")) };
        let mut fresh = false;
        if index == len
            && let Some(make) = make
        {
            seq.items_mut().push(make.above(rest.first()).node());
            fresh = true;
        }
        let Some(item) = seq.items_mut().get_mut(index) else {
            return Err(format!("index {index}, but there are {len} items"));
        };
        return walk(item, rest, make, fresh, set);
    }
    if let Some(condition) = condition(part) {
        let (key, value) = condition?;
        let regex = super::selector::regex(value).ok_or_else(|| format!("{value:?} is no regular expression"))?;
        list(node)?;
        let found = matching(node, key, &regex, rest, make, set)?;
        if found > 0 {
            return Ok(found);
        }
        let Some(make) = make else { return Ok(0) };
        let item = conditional_item(key, value);
        match &mut *node {
            Node::Seq(seq) => seq.items_mut().push(item),
            other => *other = Node::Seq(Seq::from_items(vec![item], 0)),
        }
        return matching(node, key, &regex, rest, Some(make), set);
    }
    if part == "*" {
        list(node)?;
        let Node::Seq(seq) = node else { return Ok(0) };
        let mut found = 0;
        for item in seq.items_mut() {
            found += walk(item, rest, make, false, set)?;
        }
        return Ok(found);
    }
    if node.is_null() {
        // The real program writes into nothing, and it stays nothing.
        return if make.is_none() { Ok(0) } else { walk(&mut Node::map(), path, make, fresh, set) };
    }
    let map = match node {
        Node::Map(map) => map,
        other => return Err(wrong_shape(other, &format!("a map with the field {part:?}"))),
    };
    let mut fresh = false;
    if map.get(part).is_none() {
        let Some(make) = make else { return Ok(0) };
        super::fieldspec::check_key(part)?;
        map.insert(part.as_str(), make.above(rest.first()).node());
        fresh = true;
    }
    match map.get_mut(part) {
        Some(Node::Scalar(s)) if !rest.is_empty() => in_text(&s.text, rest, make),
        Some(value) => walk(value, rest, make, fresh, set),
        None => Ok(0),
    }
}

/// How many places the rest of a path means in what a text holds. The real program writes into what it has read from
/// the text and drops that, so nothing changes; texts that can be written back are no business of this walk.
fn in_text(text: &str, rest: &[String], make: Option<Make>) -> Result<usize, String> {
    let read = driftless_yaml::parse_one(text.as_bytes(), Dialect::Resource, &Limits::default());
    if text.trim().is_empty() {
        return Err("the text there is empty".to_owned());
    }
    let mut held = read.map_err(|e| format!("the text there is no YAML: {e}"))?.node;
    walk(&mut held, rest, make, false, &mut |_, _| Ok(()))
}

fn matching(
    node: &mut Node,
    key: &str,
    regex: &Regex,
    rest: &[String],
    make: Option<Make>,
    set: &mut dyn FnMut(&mut Node, bool) -> Result<(), String>,
) -> Result<usize, String> {
    let Node::Seq(seq) = node else { return Ok(0) };
    let mut found = 0;
    for item in seq.items_mut() {
        let text = match key {
            // Texts of a list end the path: what follows is not looked at.
            "" => text_of(item),
            key => match item.as_map().and_then(|m| m.get(key)) {
                Some(value) => text_of(value),
                None => continue,
            },
        };
        if !regex.is_match(text.trim()) {
            continue;
        }
        found += if key.is_empty() { walk(item, &[], make, false, set)? } else { walk(item, rest, make, false, set)? };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_paths_split() {
        for (path, expected) in [
            ("a.b", vec!["a", "b"]),
            (r"metadata.annotations.x\.io/y", vec!["metadata", "annotations", "x.io/y"]),
            ("metadata.annotations.[x.io/y]", vec!["metadata", "annotations", "x.io/y"]),
            ("spec.[name=a.b].image", vec!["spec", "[name=a.b]", "image"]),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
