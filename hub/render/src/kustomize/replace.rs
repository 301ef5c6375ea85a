//! Replacements: the value of one field copied into others.

use super::Selector;
use super::accumulate::Result;
use super::decode::{At, Doc, Fields, Mode};
use super::error::{BuildError, ErrorKind, Origin};
use super::fieldpath::{Make, each, lookup, split};
use super::fieldspec::resolve;
use super::file::{File, SELECTOR, selector};
use super::load::Files;
use super::res::{Id, Made, Objects, Res, is_shared};
use super::selector::Matcher;
use driftless_yaml::{Kind, Map, Node, Scalar};
use std::sync::Arc;

/// One replacement.
#[derive(Debug)]
pub(crate) struct Replacement {
    source: Option<Source>,
    source_value: Option<String>,
    targets: Vec<Target>,
    place: Origin,
}

#[derive(Debug)]
struct Source {
    group: String,
    version: String,
    kind: String,
    name: String,
    namespace: String,
    field_path: String,
    options: Option<FieldOptions>,
}

#[derive(Debug)]
struct Target {
    select: Option<Matcher>,
    reject: Vec<(Matcher, Selector)>,
    field_paths: Vec<String>,
    options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default)]
struct FieldOptions {
    delimiter: String,
    index: i64,
    create: bool,
}

const KNOWN: &[&str] = &["source", "targets", "sourceValue", "path"];
const OPTIONS: &[&str] = &["delimiter", "index", "encoding", "create"];

fn field(place: &Origin, attempt: impl Into<String>) -> BuildError {
    BuildError::new(ErrorKind::Field, place.clone(), attempt)
}

/// Runs the `replacements` of a file.
pub(crate) fn transform(files: &Files<'_>, dir: &str, file: &File, objects: &mut Objects) -> Result<()> {
    if file.replacements.is_empty() {
        return Ok(());
    }
    let list = read(files, dir, &Doc::new(&file.path, Mode::Strict), &file.replacements)?;
    apply(objects, &list)
}

/// Reads replacements; an entry with a `path` stands for those in that file.
pub(crate) fn read(files: &Files<'_>, dir: &str, doc: &Doc, list: &[At<Node>]) -> Result<Vec<Replacement>> {
    let path = &doc.path;
    let mut out = Vec::new();
    for item in list {
        let place = Origin::new(path.clone(), item.line);
        let Some(f) = Fields::new(doc, "replacements", &item.value, KNOWN)? else {
            return Err(field(&place, "a replacement is empty"));
        };
        let from = f.text("path")?;
        if from.is_empty() {
            out.push(decode(&f, place)?);
            continue;
        }
        if f.get("source").is_some() || !f.list("targets")?.is_empty() {
            return Err(field(&place, "a replacement has both a path and a source or targets"));
        }
        let (full, bytes) = files.load(&place, "replacements", dir, &from)?;
        let document = files.document(&full, &bytes)?;
        let entries: Vec<&Node> = match &document {
            Node::Seq(seq) => seq.iter().collect(),
            Node::Map(_) => vec![&document],
            Node::Scalar(_) => {
                return Err(field(&Origin::new(full, 1), "this is neither a replacement nor a list of them"));
            }
        };
        for entry in entries {
            let place = Origin::new(full.clone(), entry.line());
            match Fields::new(&Doc::new(&full, Mode::Loose), "", entry, &KNOWN[..3])? {
                Some(f) => out.push(decode(&f, place)?),
                None => return Err(field(&place, "a replacement is empty")),
            }
        }
    }
    Ok(out)
}

fn decode(f: &Fields<'_>, place: Origin) -> Result<Replacement> {
    let source = match f.sub("source", &["group", "version", "kind", "name", "namespace", "fieldPath", "options"])? {
        None => None,
        Some(s) => Some(Source {
            group: s.text("group")?,
            version: s.text("version")?,
            kind: s.text("kind")?,
            name: s.text("name")?,
            namespace: s.text("namespace")?,
            field_path: Some(s.text("fieldPath")?)
                .filter(|p| !p.is_empty())
                .unwrap_or_else(|| "metadata.name".to_owned()),
            options: options(&s)?,
        }),
    };
    let source_value = match f.get("sourceValue") {
        None => None,
        Some(_) => Some(f.text("sourceValue")?),
    };
    let targets = f.each("targets", &["select", "reject", "fieldPaths", "options"], |t, line| {
        let at = Origin::new(place.file.clone(), line);
        let matcher = |s: &Selector| Matcher::new(s).map_err(|why| field(&at, format!("replacements: {why}")));
        let reject = t.each("reject", SELECTOR, |r, _| {
            let s = selector(r)?;
            Ok((matcher(&s)?, s))
        })?;
        let mut field_paths: Vec<String> = t.texts("fieldPaths")?.into_iter().map(|a| a.value).collect();
        if field_paths.is_empty() {
            field_paths.push("metadata.name".to_owned());
        }
        Ok(Target {
            select: t.sub("select", SELECTOR)?.map(|s| matcher(&selector(&s)?)).transpose()?,
            reject,
            field_paths,
            options: options(t)?,
        })
    })?;
    Ok(Replacement { source, source_value, targets, place })
}

fn options(f: &Fields<'_>) -> Result<Option<FieldOptions>> {
    let Some(o) = f.sub("options", OPTIONS)? else { return Ok(None) };
    Ok(Some(FieldOptions { delimiter: o.text("delimiter")?, index: o.int("index")?, create: o.bool("create")? }))
}

/// Applies replacements in order.
pub(crate) fn apply(objects: &mut Objects, list: &[Replacement]) -> Result<()> {
    let mut made = objects.made();
    for replacement in list {
        let place = &replacement.place;
        let target = |why: String| {
            BuildError::new(super::res::kind_of(&why, ErrorKind::Target), place.clone(), format!("replacement: {why}"))
        };
        if replacement.targets.is_empty() {
            return Err(field(place, "a replacement has no targets"));
        }
        let mut value = match (&replacement.source, &replacement.source_value) {
            (None, None) => return Err(field(place, "a replacement has no source")),
            (Some(_), Some(_)) => return Err(field(place, "a replacement has both source and sourceValue")),
            (None, Some(text)) => Value {
                node: Node::Scalar(Scalar { text: text.as_str().into(), kind: resolve(text), quoted: false, line: 0 }),
                from: None,
            },
            (Some(source), None) => source_value(objects, source).map_err(target)?,
        };
        for to in &replacement.targets {
            let Some(select) = &to.select else { return Err(field(place, "a target of a replacement has no select")) };
            for (at, res) in objects.list_mut().iter_mut().enumerate() {
                if wanted(res, select, to).map_err(target)? {
                    copy(at, res, &mut value, to, &mut made)
                        .map_err(|why| target(format!("into {}: {why}", res.id())))?;
                }
            }
        }
        objects.list_mut().retain(|res| !res.node.as_map().is_some_and(Map::is_empty));
    }
    objects.set_made(made);
    Ok(())
}

/// Present and former ids, as the real program sees them here: their scope plays no part.
fn ids(res: &Res) -> Vec<Id> {
    std::iter::once(res.id()).chain(res.former_ids()).collect()
}

/// What is copied.
struct Value {
    node: Node,
    /// The object and path it stands at, when it is taken whole: the real program holds on to that place, so that a
    /// replacement into it changes what the next targets get.
    from: Option<(usize, Vec<String>)>,
}

fn source_value(objects: &Objects, source: &Source) -> std::result::Result<Value, String> {
    let namespace = |text: &str| if text.is_empty() { "default".to_owned() } else { text.to_owned() };
    let shown = || format!("{} {:?}", source.kind, source.name);
    let selected = |id: &Id| {
        (source.name.is_empty() || *source.name == *id.name)
            && (source.namespace.is_empty() || namespace(&source.namespace) == namespace(&id.namespace))
            && (source.group.is_empty() || source.group == id.group())
            && (source.version.is_empty() || source.version == id.version())
            && (source.kind.is_empty() || *source.kind == *id.kind)
    };
    let mut found = objects.iter().enumerate().filter(|(_, res)| ids(res).iter().any(selected));
    let Some((at, res)) = found.next() else { return Err(format!("the source {} is not there", shown())) };
    if let Some((_, second)) = found.next() {
        return Err(format!("the source {} is ambiguous: {} and {}", shown(), res.id(), second.id()));
    }
    let path = split(&source.field_path);
    let value = lookup(&res.node, &path).map_err(|why| format!("the source {}: {why}", shown()))?;
    let value = value.filter(|v| match v {
        n if n.is_null() => false,
        Node::Map(m) => !m.is_empty(),
        Node::Seq(s) => !s.is_empty(),
        Node::Scalar(_) => true,
    });
    let Some(value) = value else {
        return Err(format!("the source {} has nothing at {:?}", res.id(), source.field_path));
    };
    match source.options.as_ref().filter(|o| !o.delimiter.is_empty()) {
        None => Ok(Value { node: value.clone(), from: Some((at, path)) }),
        Some(options) => {
            let Node::Scalar(s) = value else {
                return Err("a delimiter can only be used with a scalar source".to_owned());
            };
            let parts: Vec<&str> = s.text.split(options.delimiter.as_str()).collect();
            let part = usize::try_from(options.index).ok().and_then(|i| parts.get(i));
            let Some(part) = part else {
                return Err(format!("options.index {} is out of bounds for {:?}", options.index, &*s.text));
            };
            Ok(Value { node: Node::Scalar(Scalar { text: (*part).into(), ..s.clone() }), from: None })
        }
    }
}

fn wanted(res: &Res, select: &Matcher, to: &Target) -> std::result::Result<bool, String> {
    if !(select.annotations_match(res)? && select.labels_match(res)?) {
        return Ok(false);
    }
    for (matcher, s) in &to.reject {
        if s.annotation_selector.is_empty() && s.label_selector.is_empty() {
            continue;
        }
        if matcher.annotations_match(res)? && matcher.labels_match(res)? {
            return Ok(false);
        }
    }
    let ids = ids(res);
    let rejected = to.reject.iter().any(|(matcher, s)| {
        let by_id = [&s.group, &s.version, &s.kind, &s.name, &s.namespace].iter().any(|t| !t.is_empty());
        by_id && ids.iter().any(|id| matcher.selects_id(id))
    });
    Ok(!rejected && ids.iter().any(|id| select.selects_id(id)))
}

fn copy(at: usize, res: &mut Res, source: &mut Value, to: &Target, made: &mut Made) -> std::result::Result<(), String> {
    let create = to.options.as_ref().is_some_and(|o| o.create);
    for path in &to.field_paths {
        let parts = split(path);
        copy_to(res, &source.node, to, create, (path, &parts), made)?;
        if let Some((_, from)) = source.from.as_ref().filter(|(from, _)| *from == at)
            && let Ok(Some(now)) = lookup(&res.node, from)
        {
            source.node = now.clone();
        }
    }
    Ok(())
}

fn copy_to(
    res: &mut Res,
    value: &Node,
    to: &Target,
    create: bool,
    (path, parts): (&str, &[String]),
    made: &mut Made,
) -> std::result::Result<(), String> {
    let make = create.then_some(match value {
        Node::Scalar(_) => Make::Scalar,
        Node::Map(_) => Make::Map,
        Node::Seq(_) => Make::Seq,
    });
    {
        if let Some(written) = super::structured::set(&mut res.node, parts, value, make) {
            return made.text(written);
        }
        let shared = res.shared.clone();
        let mut overwritten: Vec<(Arc<str>, Scalar)> = Vec::new();
        // Annotations are made text in the end, so a number there may become anything.
        let becomes_text = parts.starts_with(&["metadata".to_owned(), "annotations".to_owned()]);
        let mut set = |node: &mut Node, fresh: bool| {
            let old = node.as_scalar().map(|s| s.text.clone()).filter(|t| is_shared(&shared, t));
            put(node, value, to.options.as_ref(), fresh || becomes_text)?;
            if let Node::Scalar(s) = &*node {
                made.text(s.text.len())?;
            }
            if let (Some(old), Node::Scalar(new)) = (old, &*node) {
                overwritten.push((old, new.clone()));
            }
            Ok(())
        };
        // A failed walk leaves nothing half done: the whole build stops.
        let found = each(&mut res.node, parts, make, &mut set).map_err(|why| format!("{path:?}: {why}"))?;
        for (old, new) in overwritten {
            res.share(&old, &new);
        }
        if !matches!(value, Node::Scalar(_)) {
            super::json::weigh(&res.node).map_err(|why| format!("{path:?}: {why}"))?;
        }
        if found == 0 {
            let verb = if create { "find or create" } else { "find" };
            return Err(format!("cannot {verb} the field {path:?}"));
        }
    }
    Ok(())
}

fn put(node: &mut Node, value: &Node, options: Option<&FieldOptions>, fresh: bool) -> std::result::Result<(), String> {
    let text = super::res::text_of(value);
    let delimited = options.filter(|o| !o.delimiter.is_empty());
    let text: Arc<str> = match delimited {
        None => text,
        Some(o) => {
            let Node::Scalar(old) = &*node else { return Err("a delimiter can only be used with a scalar".to_owned()) };
            let mut parts: Vec<&str> = old.text.split(o.delimiter.as_str()).collect();
            match usize::try_from(o.index) {
                Err(_) => parts.insert(0, &text),
                Ok(i) if i >= parts.len() => parts.push(&text),
                Ok(i) => parts[i] = &text,
            }
            super::json::check_text(parts.iter().map(|p| p.len() + o.delimiter.len()).sum())?;
            parts.join(&o.delimiter).into()
        }
    };
    match node {
        Node::Scalar(old) => set_text(old, text, fresh),
        other => {
            *other = match (value, delimited) {
                (Node::Scalar(s), Some(_)) => Node::Scalar(Scalar { text, ..s.clone() }),
                _ => value.clone(),
            };
            Ok(())
        }
    }
}

/// Puts a text into a scalar, which keeps its type: a number stays a number and must get one.
pub(crate) fn set_text(old: &mut Scalar, text: Arc<str>, fresh: bool) -> std::result::Result<(), String> {
    if fresh {
        old.kind = resolve(&text);
    } else if !matches!(old.kind, Kind::Str | Kind::Binary) {
        let kind = resolve(&text);
        let fits = kind == old.kind || (old.kind == Kind::Float && kind == Kind::Int);
        if !fits {
            return Err(format!("the field holds {:?}, and {text:?} is not of that type", &*old.text));
        }
        if kind != old.kind {
            old.kind = kind;
        }
    }
    old.text = text;
    Ok(())
}
