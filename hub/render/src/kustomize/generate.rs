//! ConfigMaps and Secrets made from files and literals.

use super::decode::At;
use super::error::{BuildError, ErrorKind, Origin};
use super::fieldspec::{check_key, new_text};
use super::file::{Generator, GeneratorOptions, Pairs};
use super::load::Files;
use super::res::{Behavior, Objects, Res};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless_yaml::{Map, Node, Scalar};
use std::collections::BTreeMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, BuildError>;

/// Which kind is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    ConfigMap,
    Secret,
}

impl What {
    fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The name of the generator as an object.
    pub(crate) fn builtin(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMapGenerator",
            Self::Secret => "SecretGenerator",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::ConfigMap => "configMapGenerator",
            Self::Secret => "secretGenerator",
        }
    }
}

/// The options of one generator over those of the file: its own labels and annotations win, either may switch hashing off
/// or immutability on.
pub(crate) fn merged_options(own: Option<&GeneratorOptions>, all: Option<&GeneratorOptions>) -> GeneratorOptions {
    let fill = |own: &Pairs, all: &Pairs| -> Pairs {
        let mut out = own.clone();
        out.extend(all.iter().filter(|(k, _)| !own.iter().any(|(o, _)| o == k)).cloned());
        out
    };
    let (own, all) = (own.cloned().unwrap_or_default(), all.cloned().unwrap_or_default());
    GeneratorOptions {
        labels: fill(&own.labels, &all.labels),
        annotations: fill(&own.annotations, &all.annotations),
        disable_hash: own.disable_hash || all.disable_hash,
        immutable: own.immutable || all.immutable,
    }
}

/// Makes one object.
pub(crate) fn generate(
    files: &Files<'_>,
    dir: &str,
    place: &Origin,
    what: What,
    args: &Generator,
    all: Option<&GeneratorOptions>,
) -> Result<Res> {
    if args.name.is_empty() {
        return Err(BuildError::new(
            ErrorKind::Field,
            place.clone(),
            format!("{}: an entry has no name", what.field()),
        ));
    }
    let data = pairs(files, dir, place, what, args)?;
    let options = merged_options(args.options.as_ref(), all);

    let mut root = Map::new();
    root.insert("apiVersion", Node::string("v1"));
    root.insert("kind", Node::string(what.kind()));
    let mut meta = Map::new();
    super::fieldspec::set_text(&mut meta, "name", &args.name);
    if !args.namespace.is_empty() {
        super::fieldspec::set_text(&mut meta, "namespace", &args.namespace);
    }
    for (field, pairs) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if !pairs.is_empty() {
            let mut map = Map::new();
            for (k, v) in pairs {
                check_key(k).map_err(|why| odd_key(place, what, args, &why))?;
                map.insert(k.clone(), new_text(v.clone()));
            }
            meta.insert(field, Node::Map(map));
        }
    }
    root.insert("metadata", Node::Map(meta));
    if what == What::Secret {
        let kind = if args.secret_type.is_empty() { "Opaque" } else { &args.secret_type };
        root.insert("type", Node::string(kind));
        // A Secret always has data, a ConfigMap only when there is some.
        root.insert("data", Node::map());
    }
    for (key, value) in data {
        let (field, value) = match (what, value) {
            (What::Secret, bytes) => ("data", wrapped_base64(&bytes)),
            (What::ConfigMap, bytes) => match String::from_utf8(bytes) {
                Ok(text) => ("data", text),
                Err(e) => ("binaryData", wrapped_base64(e.as_bytes())),
            },
        };
        if root.get(field).is_none() {
            root.insert(field, Node::map());
        }
        check_key(&key).map_err(|why| odd_key(place, what, args, &why))?;
        if let Some(map) = root.get_mut(field).and_then(Node::as_map_mut) {
            map.insert(key, new_text(value));
        }
    }
    if options.immutable {
        root.insert("immutable", Node::Scalar(Scalar::bool(true)));
    }
    let mut res = Res::new(Node::Map(root), place.clone());
    res.generated = true;
    res.wants_hash = !options.disable_hash;
    res.behavior = match args.behavior.as_str() {
        "replace" => Behavior::Replace,
        "merge" => Behavior::Merge,
        _ => Behavior::Create,
    };
    Ok(res)
}

fn odd_key(place: &Origin, what: What, args: &Generator, why: &str) -> BuildError {
    BuildError::new(ErrorKind::Field, place.clone(), format!("{} {:?}: {why}", what.field(), args.name))
}

/// Base64; beyond 70 characters in lines of 70, each with its line end.
fn wrapped_base64(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let text = STANDARD.encode(bytes);
    if text.len() < LINE {
        return text;
    }
    let mut out = String::with_capacity(text.len() + text.len() / LINE + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(LINE.min(rest.len()));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out
}

/// Keys and values: from env files, literals, files, in this order.
fn pairs(
    files: &Files<'_>,
    dir: &str,
    place: &Origin,
    what: What,
    args: &Generator,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut out = BTreeMap::new();
    let at = |item: &At<String>| Origin::new(place.file.clone(), if item.line == 0 { place.line } else { item.line });
    let mut add = |place: Origin, key: String, value: Vec<u8>| -> Result<()> {
        if out.contains_key(&key) {
            return Err(BuildError::new(
                ErrorKind::Conflict,
                place,
                format!("{} {:?} has the key {key:?} twice", what.field(), args.name),
            ));
        }
        out.insert(key, value);
        Ok(())
    };
    for item in args.envs.iter().map(|env| &env.path) {
        let (full, bytes) = files.load(&at(item), &format!("{} envs", what.field()), dir, &item.value)?;
        for (number, line) in lines(&bytes).enumerate() {
            let origin = Origin::new(full.clone(), number as u32 + 1);
            let Ok(line) = std::str::from_utf8(line) else {
                return Err(BuildError::new(ErrorKind::Syntax, origin, "this line of an env file is not UTF-8"));
            };
            let line = if number == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if !key.is_empty() {
                add(origin, key.to_owned(), value.as_bytes().to_vec())?;
            }
        }
    }
    for item in &args.literals {
        let error = || {
            // It may be a password whose key was forgotten.
            let shown = if what == What::Secret { "(not shown)".to_owned() } else { format!("{:?}", item.value) };
            BuildError::new(ErrorKind::Field, at(item), format!("literal {shown} is not of the form key=value"))
        };
        let (key, value) = item.value.split_once('=').ok_or_else(error)?;
        if key.is_empty() {
            return Err(error());
        }
        add(at(item), key.to_owned(), unquoted(value).as_bytes().to_vec())?;
    }
    for item in &args.files {
        let (key, path) = file_source(&item.value).ok_or_else(|| {
            BuildError::new(
                ErrorKind::Field,
                at(item),
                format!("file {:?} is not of the form path or key=path", item.value),
            )
        })?;
        let (_, bytes) = files.load(&at(item), &format!("{} files", what.field()), dir, path)?;
        add(at(item), key.to_owned(), bytes.to_vec())?;
    }
    Ok(out)
}

/// Lines as Go's scanner gives them: without `\n` or `\r\n`, no empty one at the end.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let none = bytes.is_empty();
    body.split(|b| *b == b'\n').filter(move |_| !none).map(|l| l.strip_suffix(b"\r").unwrap_or(l))
}

/// Takes off one pair of matching quotes.
fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if text.len() >= 2
            && let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote))
        {
            return inner;
        }
    }
    text
}

/// Key and path of an entry of `files`.
fn file_source(text: &str) -> Option<(&str, &str)> {
    match text.matches('=').count() {
        0 => Some((text.rsplit('/').find(|p| !p.is_empty()).unwrap_or(text), text)),
        1 => text.split_once('=').filter(|(k, p)| !k.is_empty() && !p.is_empty()),
        _ => None,
    }
}

/// Adds a generated object to those that are there, as its behaviour asks.
pub(crate) fn absorb(objects: &mut Objects, mut res: Res) -> Result<()> {
    let id = res.id();
    let matches = objects.ever(&id.key());
    let error = |attempt: String| BuildError::new(ErrorKind::Conflict, res.origin.clone(), attempt);
    let at = match (matches, res.behavior) {
        ([], Behavior::Create) => return objects.push(res),
        ([], _) => {
            return Err(error(format!("{id} does not exist, so it cannot be merged or replaced"))
                .help("use behavior: create, or check the name and namespace"));
        }
        ([_], Behavior::Create) => {
            return Err(error(format!("{id} exists already")).help("use behavior: merge or behavior: replace"));
        }
        ([at], _) => *at as usize,
        (many, _) => {
            let n = many.len();
            return Err(error(format!("{id}: {n} objects have or had that name, so none can be merged or replaced")));
        }
    };
    let merge = res.behavior == Behavior::Merge;
    let old = objects.get(at);
    for field in ["labels", "annotations"] {
        let mut pairs: BTreeMap<Arc<str>, Arc<str>> = old.meta_pairs(field).into_iter().collect();
        pairs.extend(res.meta_pairs(field));
        res.set_meta_pairs(field, pairs.into_iter().collect());
    }
    res.set_name(&old.name());
    res.set_namespace(&old.namespace());
    if merge {
        for field in ["data", "binaryData"] {
            merge_data(&mut res, old, field);
        }
    }
    res.wants_hash &= old.wants_hash;
    res.generated = true;
    res.behavior = old.behavior;
    res.former.clone_from(&old.former);
    res.prefixes.clone_from(&old.prefixes);
    res.suffixes.clone_from(&old.suffixes);
    res.variables.clone_from(&old.variables);
    if merge && old.provenance.is_some() {
        res.provenance.clone_from(&old.provenance);
    }
    res.transformed.clone_from(&old.transformed);
    objects.list_mut()[at] = res;
    Ok(())
}

fn merge_data(res: &mut Res, old: &Res, field: &str) {
    let texts = |r: &Res| -> BTreeMap<Arc<str>, Arc<str>> {
        let map = r.node.as_map().and_then(|m| m.get(field)).and_then(Node::as_map);
        let text = |value: &Node| if value.is_null() { Arc::default() } else { super::res::text_of(value) };
        map.map(|m| m.iter().map(|e| (e.key.clone().into(), text(&e.value))).collect()).unwrap_or_default()
    };
    let mut all = texts(old);
    all.extend(texts(res));
    if let Some(root) = res.node.as_map_mut() {
        root.remove(field);
        if !all.is_empty() {
            let mut map = Map::new();
            for (k, v) in all {
                map.insert(k, new_text(v));
            }
            root.insert(field, Node::Map(map));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_base64_is_wrapped() {
        for (bytes, expected) in [(0, 0), (50, 68), (52, 74), (104, 142)] {
            assert_eq!(wrapped_base64(&vec![0; bytes]).len(), expected, "{bytes} bytes");
        }
    }

    #[test]
    fn literals_lose_one_pair_of_quotes() {
        for (text, expected) in [("'a'", "a"), ("\"a\"", "a"), ("'a\"", "'a\""), ("'", "'"), ("''x''", "'x'")] {
            assert_eq!(unquoted(text), expected, "{text}");
        }
    }
}
