//! Fields by path: which fields of which kinds a transformer changes, and the walk that finds them.

use driftless_yaml::{Kind, Map, Node, Scalar};
use std::sync::Arc;

/// A field of some kinds of objects. Empty group, version or kind matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    pub(crate) group: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) path: SpecPath,
    pub(crate) create: bool,
}

/// The path of a field, taken apart once: the default ones are walked for every object of every build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecPath {
    text: Arc<str>,
    parts: Arc<[String]>,
}

impl SpecPath {
    /// The names on the way, from the top.
    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }
}

impl Default for SpecPath {
    fn default() -> Self {
        Self::from("")
    }
}

impl From<&str> for SpecPath {
    fn from(text: &str) -> Self {
        Self { text: text.into(), parts: split_path(text, '/').into() }
    }
}

impl From<String> for SpecPath {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl std::ops::Deref for SpecPath {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for SpecPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FieldSpec {
    pub(crate) fn matches(&self, group: &str, version: &str, kind: &str) -> bool {
        (self.kind.is_empty() || *self.kind == *kind)
            && (self.group.is_empty() || *self.group == *group)
            && (self.version.is_empty() || *self.version == *version)
    }
}

/// What to put where a field is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    Nothing,
    Scalar,
    Map,
}

/// Splits a path at a delimiter; a backslash before it makes it part of the name.
pub(crate) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let mut parts = path.split(delimiter).peekable();
    if path.contains(delimiter) && path.starts_with(delimiter) {
        parts.next();
    }
    let mut out: Vec<String> = Vec::new();
    for part in parts {
        match out.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(part);
            }
            _ => out.push(part.to_owned()),
        }
    }
    out
}

/// Calls `set` for every node at `path` below `node`; lists on the way are entered. A missing field is made when `create`
/// says so. Errors name what stands in the way.
pub(crate) fn visit<P: AsRef<str>>(
    node: &mut Node,
    path: &[P],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<(), String>,
) -> Result<(), String> {
    super::json::check_path(path.len())?;
    let Some((first, rest)) = path.split_first() else { return set(node) };
    match node {
        Node::Scalar(s) if s.kind == Kind::Null => Ok(()),
        Node::Scalar(s) => Err(format!("expected a map or a list above {:?}, found {:?}", first.as_ref(), &*s.text)),
        Node::Seq(seq) => {
            // Look before copying: a shared list whose items lack the field stays shared.
            if create == Create::Nothing && !seq.iter().any(|item| may_reach(item, path)) {
                return Ok(());
            }
            seq.items_mut().iter_mut().try_for_each(|item| visit(item, path, create, set))
        }
        Node::Map(map) => {
            let name = first.as_ref();
            let (name, list) = name.strip_suffix("[]").map_or((name, false), |n| (n, true));
            if name.is_empty() {
                return Err("a field name in the path is empty".to_owned());
            }
            let make = if list { Create::Nothing } else { create };
            match map.get(name) {
                None if make == Create::Nothing => return Ok(()),
                None => {
                    check_key(name)?;
                    map.insert(name, fresh(make, rest.is_empty()));
                }
                Some(value) if value.is_null() && make != Create::Nothing => {
                    map.insert(name, fresh(make, rest.is_empty()));
                }
                Some(value) if value.is_null() && list => {
                    map.insert(name, Node::Seq(Default::default()));
                }
                Some(_) => {}
            }
            match map.get_mut(name) {
                Some(value) => visit(value, rest, create, set),
                None => Ok(()),
            }
        }
    }
}

fn fresh(create: Create, last: bool) -> Node {
    match create {
        Create::Scalar if last => Node::string(""),
        _ => Node::map(),
    }
}

/// Whether a walk would find a value for which `test` holds, or trip over something. Looks only: nothing is copied.
pub(crate) fn any<P: AsRef<str>>(node: &Node, path: &[P], test: &mut dyn FnMut(&Node) -> bool) -> bool {
    let Some((first, rest)) = path.split_first() else { return test(node) };
    match node {
        Node::Scalar(s) => s.kind != Kind::Null,
        Node::Seq(seq) => seq.iter().any(|item| any(item, path, test)),
        Node::Map(map) => {
            let name = first.as_ref();
            let name = name.strip_suffix("[]").unwrap_or(name);
            name.is_empty() || map.get(name).is_some_and(|value| any(value, rest, test))
        }
    }
}

/// Whether a walk would put an empty list in the place of a null.
pub(crate) fn fills_null<P: AsRef<str>>(node: &Node, path: &[P]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    match node {
        Node::Scalar(_) => false,
        Node::Seq(seq) => seq.iter().any(|item| fills_null(item, path)),
        Node::Map(map) => {
            let name = first.as_ref();
            let (name, list) = name.strip_suffix("[]").map_or((name, false), |n| (n, true));
            map.get(name).is_some_and(|value| (list && value.is_null()) || fills_null(value, rest))
        }
    }
}

/// Whether a walk could find, or trip over, something here.
fn may_reach<P: AsRef<str>>(node: &Node, path: &[P]) -> bool {
    any(node, path, &mut |_| true)
}

/// Replaces the text of a scalar, keeping how it is written: what was in quotes stays text, what was not is read anew.
pub(crate) fn rewrite(scalar: &mut Scalar, text: impl Into<Arc<str>>) {
    let text = text.into();
    if scalar.quoted && !scalar.is_flow_null() {
        scalar.kind = Kind::Str;
    } else {
        scalar.kind = resolve(&text);
        scalar.quoted = false;
    }
    scalar.text = text;
}

/// What an unquoted text means to go-yaml v3.
pub(crate) fn resolve(text: &str) -> Kind {
    driftless_yaml::resolve(text, driftless_yaml::Dialect::Resource)
}

/// Whether an unquoted text means something other than text to YAML 1.1: a number, or even a map or a list.
pub(crate) fn means_more_in_yaml_1_1(text: &str) -> bool {
    if text.is_empty() || text.contains('\n') {
        return false;
    }
    let first = text.as_bytes()[0];
    let structure =
        matches!(first, b'[' | b'{' | b'-' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'%' | b'@' | b'`' | b'?')
            || matches!(first, b'"' | b'\'' | b' ' | b'\t')
            || text.ends_with(':')
            || text.contains(": ")
            || text.contains(" #");
    if !structure {
        return driftless_yaml::resolve(text, driftless_yaml::Dialect::Yaml11) != Kind::Str;
    }
    let limits = driftless_yaml::Limits::default();
    driftless_yaml::parse_one(text.as_bytes(), driftless_yaml::Dialect::Yaml11, &limits)
        .is_ok_and(|d| !matches!(d.node, Node::Scalar(s) if s.kind == Kind::Str))
}

/// Refuses a new key of a map that would not be text: the real program writes it without quotes, and cannot print it.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    match resolve(key) {
        Kind::Str => Ok(()),
        _ => Err(format!("the key {key:?} would not be text, and kustomize cannot print it")),
    }
}

/// A new text field: in quotes when its text would mean something else, or has several lines.
pub(crate) fn new_text(text: impl Into<Arc<str>>) -> Node {
    let text = text.into();
    let quoted = text.contains('\n') || means_more_in_yaml_1_1(&text);
    Node::Scalar(Scalar { text, kind: Kind::Str, quoted, line: 0 })
}

/// Sets a scalar field by text as [`rewrite`] does; a new field is quoted when its text would mean something else.
pub(crate) fn set_text(map: &mut Map, key: &str, text: &str) {
    match map.get_mut(key) {
        Some(Node::Scalar(s)) if &*s.text == text && s.kind == Kind::Str => {}
        Some(Node::Scalar(s)) => rewrite(s, text),
        _ => {
            let quoted = means_more_in_yaml_1_1(text);
            let kind = if quoted { Kind::Str } else { resolve(text) };
            map.insert(key, Node::Scalar(Scalar { text: text.into(), kind, quoted, line: 0 }));
        }
    }
}

/// Sets a scalar to text, whatever the text looks like. Refuses maps and lists.
pub(crate) fn set_string(node: &mut Node, text: &Arc<str>) -> Result<(), String> {
    match node {
        Node::Scalar(s) => {
            if s.kind != Kind::Str || s.text != *text {
                s.kind = Kind::Str;
                s.text = text.clone();
            }
            Ok(())
        }
        other => Err(wrong_shape(other, "a scalar")),
    }
}

/// Says what a node is where something else was expected.
pub(crate) fn wrong_shape(node: &Node, expected: &str) -> String {
    let found = match node {
        Node::Scalar(s) => format!("{:?}", &*s.text),
        Node::Seq(_) => "a list".to_owned(),
        Node::Map(_) => "a map".to_owned(),
    };
    format!("expected {expected}, found {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_at_unescaped_delimiters() {
        for (path, expected) in [
            ("a/b", vec!["a", "b"]),
            ("/a/b", vec!["a", "b"]),
            (r"metadata/annotations/x.io\/y", vec!["metadata", "annotations", "x.io/y"]),
            ("", vec![""]),
        ] {
            assert_eq!(split_path(path, '/'), expected, "{path}");
        }
    }
}
