//! Patches: finding their objects, applying them.

use super::error::{BuildError, ErrorKind, Origin};
use super::file::File;
use super::json_patch::{Operation, apply, operations, weight_of};
use super::load::Files;
use super::merge::merge;
use super::res::{Id, Objects, Res, kind_of, metadata_mut, weight};
use super::selector::Matcher;
use super::smp_schema::{Schemas, TOO_LONG};
use super::{Patch, Selector};
use driftless_yaml::{Dialect, Node};
use std::collections::HashSet;

type Result<T> = std::result::Result<T, BuildError>;

/// A patch read and ready.
#[derive(Debug)]
pub(crate) enum Ready {
    Merge {
        patches: Vec<Res>,
        target: Option<Matcher>,
        allow_name: bool,
        allow_kind: bool,
        place: Origin,
    },
    Json {
        operations: Vec<Operation>,
        target: Option<Matcher>,
        place: Origin,
    },
    /// Nothing but comments.
    Nothing,
}

fn field(place: &Origin, attempt: impl Into<String>) -> BuildError {
    BuildError::new(ErrorKind::Field, place.clone(), attempt)
}

fn matcher(target: Option<&Selector>, place: &Origin) -> Result<Option<Matcher>> {
    target.map(|t| Matcher::new(t).map_err(|why| field(place, format!("the patch target: {why}")))).transpose()
}

/// Reads an entry of `patches`.
pub(crate) fn read(files: &Files<'_>, dir: &str, patch: &Patch) -> Result<Ready> {
    let place = &patch.place;
    let inline = patch.patch.as_deref().map(str::trim).filter(|t| !t.is_empty());
    let (text, at) = match (inline, &patch.path) {
        (None, None) => return Err(field(place, "a patch has neither path nor patch").help("give one of the two")),
        (Some(_), Some(_)) => return Err(field(place, "a patch has both path and patch").help("give one of the two")),
        (Some(text), None) => (text.as_bytes().to_vec(), place.clone()),
        (None, Some(path)) => {
            let (full, bytes) = files.load(place, "patches", dir, path)?;
            (bytes.to_vec(), Origin::new(full, 0))
        }
    };
    // What begins as a list can be no object.
    let is_list = text.starts_with(b"- ") || text.starts_with(b"-\n") || text.starts_with(b"[");
    let operations = if is_list { Some(json_operations(files, &text)) } else { None };
    let operations = match operations {
        Some(Ok(operations)) if !operations.is_empty() => {
            let target = matcher(patch.target.as_ref(), place)?;
            return Ok(Ready::Json { operations, target, place: at });
        }
        other => other,
    };
    let merges = files.objects(&at, &text);
    // And objects can be no list of operations.
    let json = match (&merges, operations) {
        (Ok(patches), _) if !patches.is_empty() => Err(String::new()),
        (_, Some(operations)) => operations,
        (_, None) => json_operations(files, &text),
    };
    let target = matcher(patch.target.as_ref(), place)?;
    match (merges, json) {
        (Ok(mut patches), _) => {
            if patches.is_empty() {
                return Ok(Ready::Nothing);
            }
            if patch.allow_name_change || patch.allow_kind_change {
                // The real program notes the option in the patch's annotations, and so makes them text.
                for patch in &mut patches {
                    if patch.metadata().is_some_and(|m| m.get("annotations").is_some()) {
                        let pairs = patch.meta_pairs("annotations");
                        patch.set_meta_pairs("annotations", pairs);
                    }
                }
            }
            Ok(Ready::Merge {
                patches,
                target,
                allow_name: patch.allow_name_change,
                allow_kind: patch.allow_kind_change,
                place: at,
            })
        }
        (Err(_), Ok(operations)) => Ok(Ready::Json { operations, target, place: at }),
        (Err(merge), Err(json)) => Err(BuildError::new(
            ErrorKind::Syntax,
            merge.place.clone(),
            format!(
                "this is neither a strategic merge patch ({}) nor a list of JSON operations ({json})",
                merge.attempt
            ),
        )),
    }
}

/// Reads JSON operations: JSON when the text starts with a bracket, else YAML.
pub(crate) fn json_operations(files: &Files<'_>, text: &[u8]) -> std::result::Result<Vec<Operation>, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let node = if text[0] == b'[' {
        driftless_yaml::from_json(text, files.yaml_limits()).map_err(|e| e.to_string())?
    } else {
        driftless_yaml::parse_one(text, Dialect::Yaml11, files.yaml_limits()).map_err(|e| e.to_string())?.node
    };
    super::json::check_finite(&node)?;
    operations(&node)
}

/// Applies one entry of `patches`.
pub(crate) fn transform(objects: &mut Objects, ready: &Ready, schemas: &Schemas) -> Result<()> {
    match ready {
        Ready::Nothing => Ok(()),
        Ready::Merge { patches, target: Some(target), allow_name, allow_kind, place } => {
            let [patch] = patches.as_slice() else {
                return Err(field(place, "a patch with a target holds several documents")
                    .help("split it into one patch per document"));
            };
            merge_selected(objects, patch, schemas, target, *allow_name, *allow_kind, place)
        }
        Ready::Merge { patches, target: None, allow_name, allow_kind, .. } => {
            for patch in patches {
                let at = find(objects, patch)?;
                merge_into(objects, at, patch, schemas, *allow_name, *allow_kind)?;
            }
            drop_deleted(objects);
            Ok(())
        }
        Ready::Json { target: None, place, .. } => Err(field(place, "a JSON patch needs a target")
            .help("say which object it is for: target: {kind: ..., name: ...}")),
        Ready::Json { operations, target: Some(target), place } => {
            json_selected(objects, operations, target, true, place)
        }
    }
}

/// Applies `patchesStrategicMerge`: every text is a patch, or else the path of one.
pub(crate) fn strategic_merges(files: &Files<'_>, dir: &str, file: &File) -> Result<Vec<Res>> {
    let mut out = Vec::new();
    for item in &file.patches_strategic_merge {
        let place = file.at(item.line);
        match files.objects(&place, item.value.as_bytes()) {
            Ok(patches) => out.extend(patches),
            // More than one line cannot be a path: say what is wrong with the patch.
            Err(e) if item.value.contains('\n') => return Err(e),
            Err(_) => {
                let (full, bytes) = files.load(&place, "patchesStrategicMerge", dir, &item.value)?;
                out.extend(files.objects(&Origin::new(full, 0), &bytes)?);
            }
        }
    }
    if out.is_empty() && !file.patches_strategic_merge.is_empty() {
        let line = file.patches_strategic_merge.first().map_or(0, |a| a.line);
        return Err(field(&file.at(line), "patchesStrategicMerge holds no patch"));
    }
    Ok(out)
}

/// Applies one of them.
pub(crate) fn transform_legacy_merge(objects: &mut Objects, patch: &Res, schemas: &Schemas) -> Result<()> {
    let at = find(objects, patch)?;
    let patch = prepared(patch, objects.get(at), true);
    merge_into(objects, at, &patch, schemas, false, false)?;
    drop_deleted(objects);
    Ok(())
}

/// Reads an entry of `patchesJson6902`.
pub(crate) fn read_json6902(files: &Files<'_>, dir: &str, patch: &Patch) -> Result<Ready> {
    let place = &patch.place;
    let Some(target) = patch.target.as_ref().filter(|t| !t.name.is_empty()) else {
        return Err(field(place, "patchesJson6902: the patch has no target.name"));
    };
    let (text, at) = match (&patch.patch, &patch.path) {
        (None, None) => return Err(field(place, "patchesJson6902: the patch has neither path nor patch")),
        (Some(_), Some(_)) => return Err(field(place, "patchesJson6902: the patch has both path and patch")),
        (Some(text), None) => (text.as_bytes().to_vec(), place.clone()),
        (None, Some(path)) => {
            let (full, bytes) = files.load(place, "patchesJson6902", dir, path)?;
            (bytes.to_vec(), Origin::new(full, 0))
        }
    };
    let operations = json_operations(files, &text).map_err(|why| {
        BuildError::new(ErrorKind::Syntax, at.clone(), format!("this is no list of JSON operations: {why}"))
    })?;
    if operations.is_empty() {
        return Err(field(&at, "the JSON patch is empty"));
    }
    Ok(Ready::Json { operations, target: matcher(Some(target), place)?, place: at })
}

/// Applies one.
pub(crate) fn transform_json6902(objects: &mut Objects, ready: &Ready) -> Result<()> {
    match ready {
        Ready::Json { operations, target: Some(target), place } => {
            json_selected(objects, operations, target, false, place)
        }
        _ => Ok(()),
    }
}

/// The one object that a patch names, by any identity it has or had.
fn find(objects: &mut Objects, patch: &Res) -> Result<usize> {
    let id = patch.id();
    let error = |attempt: String| BuildError::new(ErrorKind::Target, patch.origin.clone(), attempt);
    match objects.ever(&id.key()) {
        [at] => Ok(*at as usize),
        [] => {
            let near: Vec<Id> = objects.iter().map(Res::id).filter(|o| o.kind == id.kind).collect();
            let near = match near.as_slice() {
                [] => format!("there is no {} in this build", id.kind),
                all => {
                    let shown: Vec<String> = all.iter().take(5).map(ToString::to_string).collect();
                    format!("there is {}{}", shown.join(", "), if all.len() > 5 { ", ..." } else { "" })
                }
            };
            Err(error(format!("the patch is for {id}, which is not there")).help(near))
        }
        many => {
            let n = many.len();
            Err(error(format!("the patch is for {id}, and {n} objects have or had that name")))
        }
    }
}

/// The patch as the real program applies it to a selected object: with that object's group and version, and with labels
/// and annotations as text.
fn prepared(patch: &Res, target: &Res, copy_kind: bool) -> Res {
    let mut out = patch.clone();
    for what in ["labels", "annotations"] {
        if patch.metadata().is_some_and(|m| m.get(what).is_some()) {
            let pairs = patch.meta_pairs(what);
            out.set_meta_pairs(what, pairs);
        }
    }
    let namespace = patch.namespace();
    out.set_namespace(&namespace);
    if copy_kind && let Some(map) = out.node.as_map_mut() {
        super::fieldspec::set_text(map, "apiVersion", &target.api());
    }
    out
}

/// Counts what a patch puts into so many objects.
fn claim(objects: &mut Objects, times: usize, weight: u64) -> std::result::Result<(), String> {
    let mut made = objects.made();
    made.copy(weight.saturating_mul(times as u64))?;
    objects.set_made(made);
    Ok(())
}

fn overgrown(place: &Origin, why: String) -> BuildError {
    BuildError::new(kind_of(&why, ErrorKind::Target), place.clone(), format!("patching so many objects: {why}"))
}

fn merge_selected(
    objects: &mut Objects,
    patch: &Res,
    schemas: &Schemas,
    target: &Matcher,
    allow_name: bool,
    allow_kind: bool,
    place: &Origin,
) -> Result<()> {
    let mut selected: HashSet<usize> = HashSet::new();
    for (at, res) in objects.iter().enumerate() {
        if target.selects(res).map_err(|why| field(place, why))? {
            selected.insert(at);
        }
    }
    claim(objects, selected.len(), weight(&patch.node)).map_err(|why| overgrown(place, why))?;
    for at in 0..objects.len() {
        if selected.contains(&at) {
            let patch = prepared(patch, objects.get(at), true);
            let no_api = objects.get(at).api().is_empty();
            let api = objects.get(at).node.as_map().and_then(|m| m.get("apiVersion"));
            if matches!(api, Some(Node::Map(_) | Node::Seq(_))) {
                return Err(field(place, format!("patching {}: its apiVersion is no text", objects.get(at).id())));
            }
            merge_into(objects, at, &patch, schemas, allow_name, allow_kind)?;
            // The patch has been given the object's apiVersion, which is nothing here and null once it is read again.
            if no_api && let Some(map) = objects.get_mut_same_id(at).node.as_map_mut() {
                map.insert("apiVersion", Node::null());
            }
        }
    }
    drop_deleted(objects);
    if allow_name || allow_kind { objects.check_unique() } else { Ok(()) }
}

/// Merges a patch into one object. A deleted object becomes null, to be dropped later.
fn merge_into(
    objects: &mut Objects,
    at: usize,
    patch: &Res,
    schemas: &Schemas,
    allow_name: bool,
    allow_kind: bool,
) -> Result<()> {
    let res = if allow_name || allow_kind { &mut objects.list_mut()[at] } else { objects.get_mut_same_id(at) };
    if res.node.is_null() {
        return Ok(());
    }
    let before = res.id();
    if allow_name || allow_kind {
        res.remember();
    }
    let merged = merge(schemas, &res.node, &patch.node).map_err(|why| {
        let kind = if why.contains(TOO_LONG) { ErrorKind::Limit } else { ErrorKind::Target };
        BuildError::new(kind, patch.origin.clone(), format!("patching {before}: {why}"))
    })?;
    let Some(node) = merged.filter(|n| !n.as_map().is_some_and(driftless_yaml::Map::is_empty)) else {
        res.node = Node::null();
        return Ok(());
    };
    let old = std::mem::replace(&mut res.node, node);
    res.share_after_merge(&old);
    let api_changed = res.api() != before.api;
    if let Some(map) = res.node.as_map_mut()
        && !allow_kind
    {
        super::fieldspec::set_text(map, "kind", &before.kind);
    }
    if !allow_name {
        res.set_name(&before.name);
    }
    res.set_namespace(&before.namespace);
    if api_changed {
        objects.list_mut();
    }
    Ok(())
}

fn drop_deleted(objects: &mut Objects) {
    if objects.iter().any(|res| res.node.is_null()) {
        objects.list_mut().retain(|res| !res.node.is_null());
    }
}

fn json_selected(
    objects: &mut Objects,
    operations: &[Operation],
    target: &Matcher,
    remember: bool,
    place: &Origin,
) -> Result<()> {
    let mut changed = false;
    let weight = weight_of(operations);
    for at in 0..objects.len() {
        if !target.selects(objects.get(at)).map_err(|why| field(place, why))? {
            continue;
        }
        claim(objects, 1, weight).map_err(|why| overgrown(place, why))?;
        let res = objects.get_mut_same_id(at);
        let before = res.id();
        if remember {
            res.remember();
        }
        res.shared.clear();
        super::json::check_finite(&res.node)
            .map_err(|why| BuildError::new(ErrorKind::Target, place.clone(), format!("patching {before}: {why}")))?;
        let mut node = super::json::normalize(&res.node);
        // Where the real program keeps history in annotations, there is an annotations map to add to.
        let borrowed = res.has_history()
            && metadata_mut(&mut node).is_some_and(|m| match m.get("annotations") {
                None => {
                    m.insert("annotations", Node::map());
                    true
                }
                Some(_) => false,
            });
        apply(&mut node, operations)
            .map_err(|why| BuildError::new(ErrorKind::Target, place.clone(), format!("patching {before}: {why}")))?;
        if node.as_map().is_none() {
            return Err(BuildError::new(
                ErrorKind::Target,
                place.clone(),
                format!("patching {before} leaves no object"),
            ));
        }
        if borrowed
            && let Some(meta) = metadata_mut(&mut node)
            && meta.get("annotations").and_then(Node::as_map).is_some_and(driftless_yaml::Map::is_empty)
        {
            meta.remove("annotations");
        }
        res.node = node;
        // From here on the annotations are text, as the real program has rewritten them.
        let pairs = res.meta_pairs("annotations");
        if res.metadata().is_some_and(|m| m.get("annotations").is_some()) {
            res.set_meta_pairs("annotations", pairs);
        }
        changed |= res.id() != before;
    }
    if changed {
        objects.list_mut();
    }
    Ok(())
}
