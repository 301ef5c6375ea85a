//! Variables: values of fields put in place of `$(NAME)` in other fields.

use super::accumulate::Result;
use super::config::Config;
use super::error::{BuildError, ErrorKind, Warning};
use super::fieldpath::{lookup, split};
use super::fieldspec::{Create, any, visit};
use super::file::Var;
use super::res::{Made, Objects, Res, is_shared, kind_of, split_api};
use driftless_yaml::{Kind, Node, Number, Scalar};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Adds a variable; refuses a name that is there already.
pub(crate) fn add(vars: &mut Vec<Var>, var: Var) -> Result<()> {
    if let Some(first) = vars.iter().find(|v| v.name == var.name) {
        let attempt = format!("the variable {:?} is defined twice", var.name);
        return Err(BuildError::new(ErrorKind::Conflict, var.place.clone(), attempt)
            .help(format!("the other definition is at {}", first.place)));
    }
    vars.push(var);
    Ok(())
}

/// Marks the object that a variable reads from.
pub(crate) fn note(objects: &mut Objects, var: &Var) -> Result<()> {
    let matches = |res: &Res| {
        std::iter::once(res.id()).chain(res.former_ids()).any(|id| {
            let namespace = || var.namespace.as_str();
            *id.name == *var.object
                && *id.kind == *var.kind
                && id.group() == var.group
                && id.version() == var.version
                && (var.namespace.is_empty() || id.effective_namespace() == namespace())
        })
    };
    let found: Vec<usize> = objects.iter().enumerate().filter(|(_, res)| matches(res)).map(|(at, _)| at).collect();
    match found[..] {
        [] => Ok(()),
        [at] => {
            objects.get_mut_same_id(at).variables.push(var.name.as_str().into());
            Ok(())
        }
        _ => Err(BuildError::new(
            ErrorKind::Target,
            var.place.clone(),
            format!("the variable {:?} could mean {} objects", var.name, found.len()),
        )
        .help("give objref a namespace")),
    }
}

/// A value that can be put into text.
#[derive(Clone, Debug)]
enum Value {
    Text(Arc<str>),
    Typed(Scalar),
    /// A map or a list: left as it stands.
    Unfit,
}

/// Puts the values in place.
pub(crate) fn resolve(objects: &mut Objects, vars: &[Var], config: &Config, warnings: &mut Vec<Warning>) -> Result<()> {
    if vars.is_empty() {
        return Ok(());
    }
    let mut values = BTreeMap::new();
    for var in vars {
        let error = |why: String| {
            BuildError::new(ErrorKind::Target, var.place.clone(), format!("the variable {:?}: {why}", var.name))
        };
        let Some(res) = objects.iter().find(|res| res.variables.iter().any(|n| **n == *var.name)) else {
            return Err(error(format!("there is no {} {:?}", var.kind, var.object)));
        };
        let value = lookup(&res.node, &indexed(split(&var.field_path)))
            .map_err(error)?
            .ok_or_else(|| error(format!("{} has no field {:?}", res.id(), var.field_path)))?;
        let value = match value {
            Node::Scalar(s) if matches!(s.kind, Kind::Int | Kind::Float | Kind::Bool) => Value::Typed(s.clone()),
            Node::Scalar(s) => Value::Text(Arc::from(&*s.text)),
            _ => Value::Unfit,
        };
        values.insert(var.name.as_str(), value);
    }
    let mut used = BTreeSet::new();
    let mut made = objects.made();
    for res in objects.list_mut() {
        let (api, kind) = (res.api(), res.kind());
        let (group, version) = split_api(&api);
        for spec in &config.variables {
            let path = spec.path.parts();
            if !spec.matches(group, version, &kind) || !any(&res.node, path, &mut worth) {
                continue;
            }
            let shared = res.shared.clone();
            let mut overwritten: Vec<(Arc<str>, Scalar)> = Vec::new();
            let mut replaced = |s: &mut Scalar| {
                let old = s.text.clone();
                replace(s, &values, &mut used, &mut made)?;
                if is_shared(&shared, &old) && !Arc::ptr_eq(&old, &s.text) {
                    overwritten.push((old, s.clone()));
                }
                Ok(())
            };
            visit(&mut res.node, path, Create::Nothing, &mut |node| set(node, &mut replaced)).map_err(|why| {
                BuildError::new(
                    kind_of(&why, ErrorKind::Target),
                    res.origin.clone(),
                    format!("variables in {} of {} {:?}: {why}", spec.path, kind, &*res.name()),
                )
            })?;
            for (old, new) in overwritten {
                res.share(&old, &new);
            }
        }
    }
    objects.set_made(made);
    for var in vars.iter().filter(|v| !used.contains(&v.name)) {
        warnings.push(Warning {
            place: var.place.clone(),
            message: format!("the variable {:?} is used nowhere", var.name),
        });
    }
    Ok(())
}

/// `a[0]` as two parts.
fn indexed(parts: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        let cut = part.strip_suffix(']').and_then(|p| p.rsplit_once('['));
        match cut {
            Some((name, index)) if !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()) => {
                let index = index.to_owned();
                if !name.is_empty() {
                    out.push(name.to_owned());
                }
                out.push(index);
            }
            _ => out.push(part),
        }
    }
    out
}

/// Whether a value holds a `$`, or is of a shape that is an error.
fn worth(node: &Node) -> bool {
    match node {
        Node::Scalar(s) => s.kind == Kind::Str && s.text.contains('$'),
        Node::Map(map) => {
            map.iter().any(|e| matches!(&e.value, Node::Scalar(s) if s.kind == Kind::Str && s.text.contains('$')))
        }
        Node::Seq(seq) => {
            seq.iter().any(|item| !matches!(item, Node::Scalar(s) if s.kind == Kind::Str && !s.text.contains('$')))
        }
    }
}

/// Puts values into a text, the texts of a map or those of a list.
fn set(
    node: &mut Node,
    replaced: &mut dyn FnMut(&mut Scalar) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    match node {
        Node::Scalar(s) => {
            if s.kind == Kind::Str {
                replaced(s)?;
            }
        }
        Node::Map(map) => {
            for entry in map.entries_mut() {
                if let Node::Scalar(s) = &mut entry.value
                    && s.kind == Kind::Str
                {
                    replaced(s)?;
                }
            }
        }
        Node::Seq(seq) => {
            for item in seq.items_mut() {
                match item {
                    Node::Scalar(s) if s.kind == Kind::Str => replaced(s)?,
                    other => return Err(super::fieldspec::wrong_shape(other, "text")),
                }
            }
        }
    }
    Ok(())
}

fn replace(
    s: &mut Scalar,
    values: &BTreeMap<&str, Value>,
    used: &mut BTreeSet<String>,
    made: &mut Made,
) -> std::result::Result<(), String> {
    if !s.text.contains('$') {
        return Ok(());
    }
    let whole = s.text.strip_prefix("$(").and_then(|t| t.strip_suffix(')')).filter(|n| !n.contains(')'));
    if let Some(name) = whole
        && let Some(value) = values.get(name)
    {
        match value {
            Value::Typed(value) => {
                used.insert(name.to_owned());
                *s = Scalar { quoted: false, ..value.clone() };
                return Ok(());
            }
            Value::Text(text) => {
                used.insert(name.to_owned());
                *s = Scalar::string(text.clone());
                return Ok(());
            }
            Value::Unfit => return Ok(()),
        }
    }
    *s = Scalar::string(expand(&s.text, values, used)?);
    made.text(s.text.len())
}

/// Replaces `$(NAME)`; `$$` stands for one `$`; what is unknown or not closed stays.
fn expand(
    text: &str,
    values: &BTreeMap<&str, Value>,
    used: &mut BTreeSet<String>,
) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        super::json::check_text(out.len())?;
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            next
        } else if let Some(inner) = after.strip_prefix('(') {
            match inner.split_once(')') {
                Some((name, next)) => {
                    match values.get(name) {
                        Some(Value::Text(text)) => out.push_str(text),
                        Some(Value::Typed(s)) => out.push_str(&plain(s)),
                        Some(Value::Unfit) | None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    if matches!(values.get(name), Some(Value::Text(_) | Value::Typed(_))) {
                        used.insert(name.to_owned());
                    }
                    next
                }
                None => {
                    out.push_str("$(");
                    inner
                }
            }
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    Ok(out)
}

/// A number or Boolean as text.
fn plain(s: &Scalar) -> String {
    match (s.boolean(), s.number()) {
        (Some(value), _) => value.to_string(),
        (_, Some(Number::Int(n))) => n.to_string(),
        (_, Some(Number::Uint(n))) => n.to_string(),
        _ => s.text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand() {
        let values = BTreeMap::from([("A", Value::Text("x".into())), ("N", Value::Typed(Scalar::int(3)))]);
        for (text, expected) in [
            ("$(A)-$(A)", "x-x"),
            ("$$(A)_$(A)", "$(A)_x"),
            ("a$(N)b", "a3b"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A ${A} $", "$A ${A} $"),
            ("$$$$$$$(A)", "$$$x"),
        ] {
            assert_eq!(expand(text, &values, &mut BTreeSet::new()).as_deref(), Ok(expected), "{text}");
        }
    }
}
