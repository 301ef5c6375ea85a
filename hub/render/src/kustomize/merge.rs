//! Strategic merge of a patch into an object.
//!
//! The rules are those the real program follows, odd ones included: list items of the patch come first; a field whose old
//! value stood in quotes stays text; merging touches the whole object, so that empty values (`key:` with nothing after it)
//! disappear and merging lists lose items that repeat a key.

use super::fieldspec::means_more_in_yaml_1_1;
use super::merge_list::{Items, merge_items, set_item};
use super::smp_schema::{Schema, Schemas};
use driftless_yaml::{Kind, Map, Node, Scalar, Seq};
use std::collections::HashSet;

/// Merges `patch` into `object`; `None` when the patch deletes it. `$patch: replace` for a whole object does nothing, as in
/// the real program.
pub(crate) fn merge(schemas: &Schemas, object: &Node, patch: &Node) -> Result<Option<Node>, String> {
    Ok(match walk(schemas, Some(object), Some(patch), None)? {
        Walked::Gone => None,
        Walked::Kept(_) => Some(object.clone()),
        Walked::InPlace(node) => Some(node),
    })
}

/// What became of a pair of values.
pub(crate) enum Walked {
    Gone,
    /// A value that is not the old one changed in place.
    Kept(Node),
    /// The old value, changed in place (which a list of the old object sees).
    InPlace(Node),
}

impl Walked {
    pub(crate) fn node(self) -> Option<Node> {
        match self {
            Self::Gone => None,
            Self::Kept(node) | Self::InPlace(node) => Some(node),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Nothing,
    Scalar,
    Seq,
    Map,
}

fn shape(node: Option<&Node>) -> Shape {
    match node {
        None => Shape::Nothing,
        Some(n) if n.is_null() => Shape::Nothing,
        Some(Node::Scalar(_)) => Shape::Scalar,
        Some(Node::Seq(_)) => Shape::Seq,
        Some(Node::Map(_)) => Shape::Map,
    }
}

fn name_of(shape: Shape) -> &'static str {
    match shape {
        Shape::Nothing => "nothing",
        Shape::Scalar => "a scalar",
        Shape::Seq => "a list",
        Shape::Map => "a map",
    }
}

/// The schema of a value: what its parent says, else what its own `apiVersion` and `kind` say.
fn schema_for<'s>(
    schemas: &'s Schemas,
    given: Option<Schema<'s>>,
    old: Option<&Node>,
    new: Option<&Node>,
) -> Option<Schema<'s>> {
    given.or_else(|| {
        [old, new].into_iter().flatten().find_map(|node| {
            let map = node.as_map()?;
            let api = map.get("apiVersion")?.scalar_text()?;
            let kind = map.get("kind")?.scalar_text()?;
            schemas.of_object(api, kind)
        })
    })
}

pub(crate) fn walk<'s>(
    schemas: &'s Schemas,
    old: Option<&Node>,
    new: Option<&Node>,
    given: Option<Schema<'s>>,
) -> Result<Walked, String> {
    let (a, b) = (shape(old), shape(new));
    if a != Shape::Nothing && b != Shape::Nothing && a != b {
        return Err(format!("the patch has {} where the object has {}", name_of(b), name_of(a)));
    }
    let whole = if a == Shape::Nothing { b } else { a };
    match whole {
        Shape::Nothing | Shape::Map => walk_map(schemas, old, new, schema_for(schemas, given, old, new)),
        Shape::Scalar => Ok(match (new, old) {
            (Some(n), _) if n.is_null() => Walked::Gone,
            (Some(n), _) => Walked::Kept(n.clone()),
            (None, Some(o)) => Walked::InPlace(o.clone()),
            (None, None) => Walked::Gone,
        }),
        Shape::Seq => match schema_for(schemas, given, None, None) {
            Some(schema) if schema.merge_keys().is_some() => walk_merging_list(schemas, old, new, schema),
            _ => Ok(match (new, old) {
                (Some(n), _) if n.is_null() => Walked::Gone,
                (Some(n), _) => Walked::Kept(n.clone()),
                (None, Some(o)) => Walked::InPlace(o.clone()),
                (None, None) => Walked::Gone,
            }),
        },
    }
}

/// What `$patch` in a patch asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(text: &str) -> Result<Directive, String> {
    match text {
        "merge" => Ok(Directive::Merge),
        "replace" => Ok(Directive::Replace),
        "delete" => Ok(Directive::Delete),
        other => Err(format!("$patch: {other:?} is none of merge, replace, delete")),
    }
}

/// The directive of a map and the map without it.
fn map_directive(map: &Map) -> Result<(Directive, Map), String> {
    match map.get("$patch") {
        None => Ok((Directive::Merge, map.clone())),
        Some(value) => {
            let found = directive(value.as_scalar().map_or("", |s| &s.text))?;
            let mut rest = map.clone();
            rest.remove("$patch");
            Ok((found, rest))
        }
    }
}

fn walk_map<'s>(
    schemas: &'s Schemas,
    old: Option<&Node>,
    new: Option<&Node>,
    schema: Option<Schema<'s>>,
) -> Result<Walked, String> {
    let new_map = new.and_then(Node::as_map);
    let Some(old_map) = old.and_then(Node::as_map) else {
        // Nothing there, or null.
        let Some(map) = new_map else {
            // A null that was spelled out stays; an empty value goes.
            return Ok(match (old, new) {
                (Some(Node::Scalar(s)), None) if !s.text.is_empty() => Walked::InPlace(Node::Scalar(s.clone())),
                _ => Walked::Gone,
            });
        };
        return match map_directive(map) {
            Ok((Directive::Delete, _)) => Ok(Walked::Gone),
            Ok((_, rest)) => adopt_fields(schemas, rest, schema),
            // The real program looks away here.
            Err(_) => adopt_fields(schemas, map.clone(), schema),
        };
    };
    match new {
        None => Ok(match clean_map(schemas, old_map, schema)? {
            Some(map) => Walked::InPlace(Node::Map(map)),
            None => Walked::InPlace(Node::Map(old_map.clone())),
        }),
        Some(n) if n.is_null() => Ok(Walked::Gone),
        Some(_) => {
            let Some(map) = new_map else { return Ok(Walked::Gone) };
            let (found, rest) = map_directive(map)?;
            match found {
                Directive::Delete => Ok(Walked::Gone),
                Directive::Replace => {
                    Ok(adopt_fields(schemas, rest, schema)?.node().map_or(Walked::Gone, Walked::Kept))
                }
                Directive::Merge => merge_fields(schemas, old_map, &rest, schema),
            }
        }
    }
}

fn merge_fields<'s>(schemas: &'s Schemas, old: &Map, new: &Map, schema: Option<Schema<'s>>) -> Result<Walked, String> {
    let mut out = clean_map_except(schemas, old, schema, |key| new.get(key).is_some())?.unwrap_or_else(|| old.clone());
    for entry in new {
        let field_schema = schema.and_then(|s| s.field(&entry.key));
        let before = old.get(&entry.key);
        let after = walk(schemas, before, Some(&entry.value), field_schema).map_err(|why| under(&entry.key, why))?;
        match (after.node(), before) {
            (None, _) => {
                out.remove(&entry.key);
            }
            (Some(node), Some(before)) => {
                out.insert(entry.key.clone(), keep_style(node, before));
            }
            (Some(node), None) => {
                out.insert(entry.key.clone(), fresh_style(node));
            }
        }
    }
    Ok(Walked::InPlace(Node::Map(out)))
}

fn under(key: &str, why: String) -> String {
    format!("{key}: {why}")
}

/// A value that replaces another takes over its quotes; a value that then stands in quotes is text.
fn keep_style(node: Node, before: &Node) -> Node {
    let Node::Scalar(mut s) = node else { return node };
    let quoted = matches!(before, Node::Scalar(b) if b.quoted && !b.is_flow_null());
    if quoted && !matches!(s.kind, Kind::Str | Kind::Binary) {
        s.kind = Kind::Str;
    }
    s.quoted = quoted;
    Node::Scalar(s)
}

/// A new text that YAML 1.1 would read as something else is written in quotes.
fn fresh_style(node: Node) -> Node {
    match node {
        Node::Scalar(s) if !s.quoted && s.kind == Kind::Str && means_more_in_yaml_1_1(&s.text) => {
            Node::Scalar(Scalar { quoted: true, ..s })
        }
        other => other,
    }
}

/// A map of the patch that has no counterpart: nulls and directives in it take effect on itself.
fn adopt_fields<'s>(schemas: &'s Schemas, map: Map, schema: Option<Schema<'s>>) -> Result<Walked, String> {
    let mut out = map.clone();
    for entry in &map {
        let field_schema = schema.and_then(|s| s.field(&entry.key));
        match adopt(schemas, &entry.value, field_schema).map_err(|why| under(&entry.key, why))? {
            None => {
                out.remove(&entry.key);
            }
            Some(node) => {
                if let Some(place) = out.get_mut(&entry.key) {
                    *place = node;
                }
            }
        }
    }
    Ok(Walked::InPlace(Node::Map(out)))
}

/// A value of the patch merged with itself.
pub(crate) fn adopt<'s>(schemas: &'s Schemas, node: &Node, given: Option<Schema<'s>>) -> Result<Option<Node>, String> {
    match node {
        n if n.is_null() => Ok(None),
        Node::Scalar(_) => Ok(Some(node.clone())),
        Node::Map(map) => {
            let (found, rest) = map_directive(map)?;
            if found == Directive::Delete {
                return Ok(None);
            }
            Ok(adopt_fields(schemas, rest, schema_for(schemas, given, Some(node), None))?.node())
        }
        Node::Seq(seq) => match given {
            Some(schema) if schema.merge_keys().is_some() => {
                let (found, rest) = list_directive(seq)?;
                if found == Directive::Delete {
                    return Ok(None);
                }
                merge_items(schemas, &rest, Items::Same, schema).map(Some)
            }
            _ => Ok(Some(node.clone())),
        },
    }
}

/// What merging with nothing does to a value: empty values go, merging lists lose repeated keys.
enum Cleaned {
    Same,
    Gone,
    New(Node),
}

fn clean<'s>(schemas: &'s Schemas, node: &Node, given: Option<Schema<'s>>) -> Result<Cleaned, String> {
    match node {
        Node::Scalar(s) if s.kind == Kind::Null && s.text.is_empty() => Ok(Cleaned::Gone),
        Node::Scalar(s) if s.kind == Kind::Str && !s.quoted && means_more_in_yaml_1_1(&s.text) => {
            Ok(Cleaned::New(Node::Scalar(Scalar { quoted: true, ..s.clone() })))
        }
        Node::Scalar(_) => Ok(Cleaned::Same),
        Node::Map(map) => Ok(match clean_map(schemas, map, schema_for(schemas, given, Some(node), None))? {
            Some(map) => Cleaned::New(Node::Map(map)),
            None => Cleaned::Same,
        }),
        Node::Seq(seq) => match given {
            Some(schema) if schema.merge_keys().is_some() => {
                if plain_list(seq, schema) {
                    return clean_items(schemas, seq, schema);
                }
                Ok(Cleaned::New(merge_items(schemas, seq, Items::None, schema)?))
            }
            _ => Ok(Cleaned::Same),
        },
    }
}

fn clean_map<'s>(schemas: &'s Schemas, map: &Map, schema: Option<Schema<'s>>) -> Result<Option<Map>, String> {
    clean_map_except(schemas, map, schema, |_| false)
}

fn clean_map_except<'s>(
    schemas: &'s Schemas,
    map: &Map,
    schema: Option<Schema<'s>>,
    skip: impl Fn(&str) -> bool,
) -> Result<Option<Map>, String> {
    let mut out: Option<Map> = None;
    for entry in map {
        if skip(&entry.key) {
            continue;
        }
        let cleaned = clean(schemas, &entry.value, schema.and_then(|s| s.field(&entry.key)));
        match cleaned.map_err(|why| under(&entry.key, why))? {
            Cleaned::Same => {}
            Cleaned::Gone => {
                out.get_or_insert_with(|| map.clone()).remove(&entry.key);
            }
            Cleaned::New(node) => {
                out.get_or_insert_with(|| map.clone()).insert(entry.key.clone(), node);
            }
        }
    }
    Ok(out)
}

/// Whether every item is a map with a distinct, non-empty value under the one merge key: nothing to join or drop.
fn plain_list(seq: &Seq, schema: Schema<'_>) -> bool {
    let keys = schema.merge_keys().unwrap_or_default();
    let [key] = keys[..] else { return false };
    let mut seen = HashSet::with_capacity(seq.len());
    seq.iter().all(|item| {
        let value = item.as_map().and_then(|m| m.get(key)).and_then(Node::scalar_text);
        value.is_some_and(|v| !v.is_empty() && seen.insert(v))
    })
}

fn clean_items<'s>(schemas: &'s Schemas, seq: &Seq, schema: Schema<'s>) -> Result<Cleaned, String> {
    let mut out: Option<Seq> = None;
    for (at, item) in seq.iter().enumerate() {
        match clean(schemas, item, schema.item())? {
            Cleaned::New(node) => out.get_or_insert_with(|| seq.clone()).items_mut()[at] = node,
            Cleaned::Same | Cleaned::Gone => {}
        }
    }
    Ok(out.map_or(Cleaned::Same, |seq| Cleaned::New(Node::Seq(seq))))
}

fn walk_merging_list<'s>(
    schemas: &'s Schemas,
    old: Option<&Node>,
    new: Option<&Node>,
    schema: Schema<'s>,
) -> Result<Walked, String> {
    let new_seq = new.and_then(Node::as_seq);
    let Some(old_seq) = old.and_then(Node::as_seq) else {
        return match new_seq {
            Some(seq) => Ok(Walked::Kept(merge_items(schemas, seq, Items::Same, schema)?)),
            None => Ok(Walked::Gone),
        };
    };
    match (new, new_seq) {
        (None, _) => Ok(Walked::Kept(merge_items(schemas, old_seq, Items::None, schema)?)),
        (Some(_), None) => Ok(Walked::Gone),
        (Some(_), Some(seq)) => {
            let (found, rest) = list_directive(seq)?;
            match found {
                Directive::Delete => Ok(Walked::Gone),
                Directive::Replace => Ok(Walked::Kept(merge_items(schemas, &rest, Items::Same, schema)?)),
                Directive::Merge => Ok(Walked::Kept(merge_items(schemas, old_seq, Items::From(&rest), schema)?)),
            }
        }
    }
}

/// The directive of a list: an item that holds nothing but `$patch`.
fn list_directive(seq: &Seq) -> Result<(Directive, Seq), String> {
    let Some(map) = seq.iter().find_map(|item| item.as_map().filter(|m| m.get("$patch").is_some())) else {
        return Ok((Directive::Merge, seq.clone()));
    };
    if map.len() > 1 {
        return Ok((Directive::Merge, seq.clone()));
    }
    let text = map.get("$patch").map(super::res::text_of).unwrap_or_default();
    let found = directive(&text)?;
    let mut items: Vec<Node> = seq.to_vec();
    set_item(&mut items, None, &["$patch"], &[text])?;
    Ok((found, Seq::from_items(items, seq.line)))
}
