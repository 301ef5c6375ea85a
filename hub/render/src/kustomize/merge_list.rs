//! Strategic merge of lists whose items are told apart by keys.

use super::merge::{Walked, adopt, walk};
use super::smp_schema::{Schema, Schemas};
use driftless_yaml::{Map, Node, Scalar, Seq};
use std::collections::HashSet;
use std::sync::Arc;

/// What a list merges with.
#[derive(Clone, Copy)]
pub(crate) enum Items<'a> {
    None,
    /// The list itself.
    Same,
    From(&'a [Node]),
}

type Values = Vec<Arc<str>>;

/// Merges the items of two lists by key, those of the patch first.
pub(crate) fn merge_items<'s>(
    schemas: &'s Schemas,
    old: &[Node],
    new: Items<'_>,
    schema: Schema<'s>,
) -> Result<Node, String> {
    let keys = schema.merge_keys().unwrap_or_default();
    let keys: &[&str] = &keys;
    let mut list: Vec<Node> = old.to_vec();
    let mut groups: Vec<Values> = Vec::new();
    let mut seen: HashSet<Values> = HashSet::new();
    for source in [if let Items::From(new) = new { new } else { &[] }, old] {
        for item in source {
            let values: Values = if keys.is_empty() {
                vec![super::res::text_of(item)]
            } else {
                keys.iter().map(|key| key_value(item, key)).collect()
            };
            if seen.insert(values.clone()) {
                groups.push(values);
            }
        }
    }
    let keys = if keys.is_empty() { &[""][..] } else { keys };
    schemas.compare(groups.len() as u64 * (old.len() + groups.len()) as u64)?;
    if keys.len() > 1 {
        join_values(&mut groups);
    }
    let mut items: Vec<Node> = Vec::new();
    let mut used: Vec<&str> = keys.to_vec();
    for at in 0..groups.len() {
        let (by, values) = usable(&groups, &groups[at], keys);
        let (look, look_values) = usable(std::slice::from_ref(&values), &values, &by);
        let place = find_item(&list, &look, &look_values);
        let walked = {
            let before = place.map(|i| &list[i]);
            match new {
                Items::Same => match before {
                    Some(node) => adopt(schemas, node, schema.item())?.map_or(Walked::Gone, Walked::InPlace),
                    None => Walked::Gone,
                },
                Items::None => walk(schemas, before, None, schema.item())?,
                Items::From(new) => {
                    let patch = find_item(new, &look, &look_values).map(|i| &new[i]);
                    walk(schemas, before, patch, schema.item())?
                }
            }
        };
        used.clone_from(&by);
        let in_place = matches!(walked, Walked::InPlace(_));
        let node = walked.node().filter(|n| !n.is_null() && !n.as_map().is_some_and(Map::is_empty));
        let Some(mut node) = node else {
            set_item(&mut list, None, &by, &values)?;
            continue;
        };
        if let Node::Map(map) = &mut node {
            for (key, value) in by.iter().zip(&values) {
                if !key.is_empty() && map.get(key).is_none() && !value.is_empty() {
                    let kind = super::fieldspec::resolve(value);
                    map.insert(*key, Node::Scalar(Scalar { text: value.clone(), kind, quoted: false, line: 0 }));
                }
            }
        }
        if in_place && let Some(i) = place {
            list[i] = node.clone();
        }
        set_item(&mut items, Some(&node), &by, &values)?;
    }
    if !groups.is_empty() {
        append_items(&mut items, &list, &used)?;
    } else {
        items = list;
    }
    Ok(Node::Seq(Seq::from_items(items, 0)))
}

/// The text under a key of an item, empty when there is none.
fn key_value(item: &Node, key: &str) -> Arc<str> {
    match item.as_map().and_then(|m| m.get(key)) {
        Some(n @ Node::Scalar(s)) if !n.is_null() => s.text.clone(),
        _ => Arc::from(""),
    }
}

/// Joins groups of key values that agree in one key and do not contradict each other: an item that leaves out `protocol`
/// is the item that has it.
fn join_values(groups: &mut [Values]) {
    for i in 0..groups.len() {
        for j in 0..groups.len() {
            if let Some(joined) = joined(&groups[i], &groups[j]) {
                groups[i].clone_from(&joined);
                groups[j] = joined;
            }
        }
    }
}

fn joined(a: &Values, b: &Values) -> Option<Values> {
    let mut common = false;
    let mut out = Vec::with_capacity(a.len());
    for (x, y) in a.iter().zip(b) {
        if x == y {
            common = true;
            out.push(x.clone());
        } else if !x.is_empty() && !y.is_empty() {
            return None;
        } else {
            out.push(if x.is_empty() { y.clone() } else { x.clone() });
        }
    }
    common.then_some(out)
}

/// The keys that any group has a value for, and this group's values of them; all keys when none has.
fn usable<'k>(groups: &[Values], values: &Values, keys: &[&'k str]) -> (Vec<&'k str>, Values) {
    let has = |i: usize| groups.iter().any(|g| g.get(i).is_some_and(|v| !v.is_empty()));
    if !(0..keys.len()).any(has) {
        return (keys.to_vec(), values.clone());
    }
    let by = (0..keys.len()).filter(|&i| has(i)).map(|i| keys[i]).collect();
    let values = values.iter().enumerate().filter(|(i, v)| !v.is_empty() || has(*i)).map(|(_, v)| v.clone()).collect();
    (by, values)
}

/// The first item whose keys have exactly these values.
fn find_item(list: &[Node], keys: &[&str], values: &Values) -> Option<usize> {
    let first = values.first().map_or("", |v| &**v);
    if keys.first().is_none_or(|k| k.is_empty()) {
        return list.iter().position(|n| *super::res::text_of(n) == *first);
    }
    if keys.len() != values.len() {
        return None;
    }
    list.iter().position(|item| {
        item.as_map().is_some_and(|map| {
            keys.iter().zip(values).all(|(k, v)| map.get(k).is_some_and(|n| super::res::text_of(n) == *v))
        })
    })
}

/// Replaces the items that match by `item`, appends it when none does, or removes them when it is `None`. Nulls and empty
/// maps go in any case.
pub(crate) fn set_item(
    list: &mut Vec<Node>,
    item: Option<&Node>,
    keys: &[&str],
    values: &[Arc<str>],
) -> Result<(), String> {
    let by_map = keys.first().is_some_and(|k| !k.is_empty()) && values.first().is_some_and(|v| !v.is_empty());
    let mut out = Vec::with_capacity(list.len() + 1);
    let mut found_any = false;
    for node in list.drain(..) {
        if node.is_null() || node.as_map().is_some_and(Map::is_empty) {
            continue;
        }
        if by_map && node.as_map().is_none() {
            out.push(node);
            continue;
        }
        let mut found = false;
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = values.get(i) {
                found = has_value(&node, key, value)?;
            }
            if !found {
                break;
            }
        }
        if !found {
            if !values.is_empty() {
                out.push(node);
            }
            continue;
        }
        found_any = true;
        if let Some(item) = item {
            out.push(item.clone());
        }
    }
    if !found_any && let Some(item) = item {
        out.push(item.clone());
    }
    *list = out;
    Ok(())
}

/// Whether an item has this value under this key; an empty value asks for the key alone.
fn has_value(node: &Node, key: &str, value: &str) -> Result<bool, String> {
    if key.is_empty() {
        return match node {
            Node::Scalar(s) => Ok(*s.text == *value),
            other => Err(super::fieldspec::wrong_shape(other, "a scalar in a list that merges by value")),
        };
    }
    match node {
        Node::Map(map) => Ok(map.get(key).is_some_and(|n| value.is_empty() || *super::res::text_of(n) == *value)),
        other => Err(super::fieldspec::wrong_shape(other, "a map in a list that merges by key")),
    }
}

/// Adds the items of the old list that are not there yet.
fn append_items(to: &mut Vec<Node>, from: &[Node], keys: &[&str]) -> Result<(), String> {
    for item in from {
        if keys.first().is_none_or(|k| k.is_empty()) {
            set_item(to, Some(item), &[""], &[super::res::text_of(item)])?;
            continue;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = match item {
                Node::Map(map) => map.get(key),
                n if n.is_null() => None,
                other => return Err(super::fieldspec::wrong_shape(other, "a map in a list that merges by key")),
            };
            match value {
                Some(value) => values.push(super::res::text_of(value)),
                None => to.push(item.clone()),
            }
        }
        if keys.len() > 1 {
            set_item(to, None, keys, &values)?;
        }
        set_item(to, Some(item), keys, &values)?;
    }
    Ok(())
}
