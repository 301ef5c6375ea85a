//! JSON patches (RFC 6902) with the leniencies of the Go library that the real program uses (evanphx/json-patch v4):
//! `replace` makes a missing key, negative list indexes count from the end, a `test` of a missing key equals null.

use super::json::normalize;
use driftless_yaml::Node;

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    /// `None` when there is no `value`, which counts as null.
    value: Option<Node>,
}

/// Reads a list of operations.
pub(crate) fn operations(node: &Node) -> Result<Vec<Operation>, String> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let Some(list) = node.as_seq() else { return Err("a JSON patch is a list of operations".to_owned()) };
    list.iter()
        .map(|item| {
            if item.is_null() {
                return Err("an operation is empty".to_owned());
            }
            let Some(map) = item.as_map() else { return Err("an operation is not a map".to_owned()) };
            let text = |key: &str| map.get(key).and_then(Node::as_str).map(str::to_owned);
            Ok(Operation {
                op: text("op").unwrap_or_default(),
                path: text("path"),
                from: text("from"),
                value: map.get("value").cloned(),
            })
        })
        .collect()
}

/// What applying them once may put into an object.
pub(crate) fn weight_of(operations: &[Operation]) -> u64 {
    operations.iter().filter_map(|op| op.value.as_ref()).map(super::res::weight).sum()
}

/// Applies operations in order.
pub(crate) fn apply(doc: &mut Node, operations: &[Operation]) -> Result<(), String> {
    let mut grown = 0usize;
    for (at, op) in operations.iter().enumerate() {
        one(doc, op).map_err(|why| {
            let path = op.path.as_deref().unwrap_or("");
            format!("operation {} ({} {path:?}): {why}", at + 1, op.op)
        })?;
        if matches!(op.op.as_str(), "copy" | "move" | "add") {
            grown += 1;
            // Each of these can at most double the object: weigh before it can get out of hand.
            if op.op == "copy" || grown.is_multiple_of(64) {
                super::json::weigh(doc)?;
            }
        }
    }
    Ok(())
}

fn one(doc: &mut Node, op: &Operation) -> Result<(), String> {
    let path = || op.path.as_deref().ok_or_else(|| "it has no path".to_owned());
    let value = || op.value.as_ref().map_or_else(Node::null, normalize);
    match op.op.as_str() {
        "add" => {
            let (parent, key) = parent(doc, path()?)?;
            add(parent, &key, value())
        }
        "remove" => {
            let (parent, key) = parent(doc, path()?)?;
            remove(parent, &key)
        }
        "replace" => {
            let path = path()?;
            if path.is_empty() {
                let value = value();
                return match value {
                    Node::Scalar(_) => Err("a whole object can only be replaced by a map or a list".to_owned()),
                    other => {
                        *doc = other;
                        Ok(())
                    }
                };
            }
            let (parent, key) = parent(doc, path)?;
            match parent {
                Node::Seq(list) => {
                    let at = index(&key, list.len())?;
                    list.items_mut()[at] = value();
                }
                Node::Map(map) => {
                    map.insert(key, value());
                }
                Node::Scalar(_) => return Err("its parent is neither a map nor a list".to_owned()),
            }
            Ok(())
        }
        "move" => {
            let from = op.from.as_deref().ok_or_else(|| "it has no `from`".to_owned())?;
            let (source, key) = parent(doc, from)?;
            let taken = get(source, &key)?.cloned().unwrap_or_else(Node::null);
            remove(source, &key)?;
            let (target, key) = parent(doc, path()?)?;
            add(target, &key, taken)
        }
        "copy" => {
            let from = op.from.as_deref().ok_or_else(|| "it has no `from`".to_owned())?;
            let (source, key) = parent(doc, from)?;
            let taken = get(source, &key)?.cloned().unwrap_or_else(Node::null);
            let (target, key) = parent(doc, path()?)?;
            add(target, &key, taken)
        }
        "test" => {
            let path = path()?;
            let wanted = value();
            let found = if path.is_empty() {
                Some(doc.clone())
            } else {
                let (parent, key) = parent(doc, path)?;
                get(parent, &key)?.cloned()
            };
            let equal = match found {
                None => wanted.is_null(),
                Some(found) => normalize(&found) == wanted,
            };
            if equal { Ok(()) } else { Err("the value there is another".to_owned()) }
        }
        "" => Err("it has no `op`".to_owned()),
        other => Err(format!("{other:?} is no operation")),
    }
}

/// The container that a pointer's last part is in, and that part.
fn parent<'a>(doc: &'a mut Node, pointer: &str) -> Result<(&'a mut Node, String), String> {
    let mut parts = pointer.split('/');
    let (Some(_), Some(_)) = (parts.next(), pointer.find('/')) else {
        return Err(format!("{pointer:?} is no path into an object: it starts with a slash"));
    };
    let mut parts: Vec<String> = parts.map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
    super::json::check_path(parts.len())?;
    let last = parts.pop().unwrap_or_default();
    let mut node = doc;
    for part in parts {
        let next = match node {
            Node::Map(map) => map.get_mut(&part),
            Node::Seq(list) => {
                let at = index(&part, list.len())?;
                list.items_mut().get_mut(at)
            }
            Node::Scalar(_) => None,
        };
        node = match next {
            Some(next @ (Node::Map(_) | Node::Seq(_))) => next,
            _ => return Err(format!("there is no map or list at {part:?}")),
        };
    }
    Ok((node, last))
}

/// A list index; negative ones count from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let n: i64 = key.parse().map_err(|_| format!("{key:?} is no list index"))?;
    let at = if n < 0 { n + len as i64 } else { n };
    usize::try_from(at).ok().filter(|at| *at < len).ok_or_else(|| format!("the list has {len} items, none at {key}"))
}

fn get<'a>(parent: &'a Node, key: &str) -> Result<Option<&'a Node>, String> {
    match parent {
        Node::Map(map) => Ok(map.get(key)),
        Node::Seq(list) => Ok(list.get(index(key, list.len())?)),
        Node::Scalar(_) => Ok(None),
    }
}

fn add(parent: &mut Node, key: &str, value: Node) -> Result<(), String> {
    match parent {
        Node::Map(map) => {
            map.insert(key, value);
        }
        Node::Seq(list) if key == "-" => list.items_mut().push(value),
        Node::Seq(list) => {
            let at = index(key, list.len() + 1)?;
            list.items_mut().insert(at, value);
        }
        Node::Scalar(_) => return Err("its parent is neither a map nor a list".to_owned()),
    }
    Ok(())
}

fn remove(parent: &mut Node, key: &str) -> Result<(), String> {
    match parent {
        Node::Map(map) => match map.remove(key) {
            Some(_) => Ok(()),
            None => Err(format!("there is no key {key:?}")),
        },
        Node::Seq(list) => {
            let at = index(key, list.len())?;
            list.items_mut().remove(at);
            Ok(())
        }
        Node::Scalar(_) => Err("its parent is neither a map nor a list".to_owned()),
    }
}
