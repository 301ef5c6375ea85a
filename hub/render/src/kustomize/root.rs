//! The steps that only the root of a build does.

use super::accumulate::{Accumulated, Build, Result};
use super::config;
use super::decode::{At, Mode};
use super::error::{BuildError, ErrorKind, Origin};
use super::file::{File, Label, NAMES};
use super::load::Files;
use super::res::{Objects, Res, Unique};
use super::{Built, KustomizationFile, Options, Order, Resource, hash, order, refs, vars};
use crate::tree::{Entry, Tree};
use driftless_yaml::Node;
use std::sync::Arc;

/// The label that `buildMetadata: [managedByLabel]` asks for, as the 5.8.1 program writes it.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kustomize-v5.8.1");

/// Builds a folder with its own kustomization file, or with `generated` in its place.
pub(crate) fn build(
    tree: &dyn Tree,
    dir: &str,
    generated: Option<&KustomizationFile>,
    options: &Options,
) -> Result<Built> {
    let Some(dir) = super::load::join("", dir) else {
        return Err(BuildError::new(ErrorKind::Refused, Origin::new(dir, 0), "this folder is outside the repository"));
    };
    let place = Origin::new(if dir.is_empty() { "." } else { dir.as_str() }, 0);
    let mut build = Build {
        files: Files::new(tree, options.limits, options.memo.clone()),
        options,
        warnings: Vec::new(),
        chain: Vec::new(),
        tracking: None,
        schemas: Default::default(),
    };
    let dir = match build.files.locate(&place, &dir)? {
        super::load::Found::Folder(dir) => dir,
        super::load::Found::File(_) => {
            return Err(BuildError::new(ErrorKind::Missing, place, "this is a file; a folder can be built"));
        }
        super::load::Found::Nothing => return Err(build.files.missing(&place, "", "", &dir)?),
    };
    let flux = options.overlay.place != Origin::default();
    let mode = if flux { Mode::Flux } else { Mode::Strict };
    let mut file = match generated {
        Some(generated) => generated_file(&dir, generated),
        None => {
            let file = build.file(&place, &dir, mode)?.ok_or_else(|| {
                BuildError::new(ErrorKind::Missing, place.clone(), "this folder has no kustomization file")
                    .help("expected kustomization.yaml, kustomization.yml or Kustomization")
            })?;
            Arc::unwrap_or_clone(file)
        }
    };
    if flux && generated.is_none() && file.resources_listed == 0 {
        file.build_metadata = vec!["originAnnotations".to_owned()];
    }
    overlay(&build, &dir, &mut file)?;
    build.tracking = (!file.build_metadata.is_empty()).then(String::new);
    build.chain.push((dir.clone(), place));
    let acc = build.folder(&dir, &file, Accumulated::new(&options.limits))?;
    finish(build, &file, acc)
}

fn generated_file(dir: &str, generated: &KustomizationFile) -> File {
    let path = if dir.is_empty() { NAMES[0].to_owned() } else { format!("{dir}/{}", NAMES[0]) };
    File {
        path: path.into(),
        resources: generated.resources.iter().map(|r| At { value: r.clone(), line: 0 }).collect(),
        ..File::default()
    }
}

/// Puts what a Flux Kustomization asks for into the file at the top.
fn overlay(build: &Build<'_>, dir: &str, file: &mut File) -> Result<()> {
    let o = &build.options.overlay;
    let at = |text: &Option<String>, old: &mut At<String>| {
        if let Some(text) = text {
            *old = At { value: text.clone(), line: old.line };
        }
    };
    at(&o.target_namespace, &mut file.namespace);
    at(&o.name_prefix, &mut file.name_prefix);
    at(&o.name_suffix, &mut file.name_suffix);
    file.patches.extend(o.patches.iter().map(|p| {
        let mut p = p.clone();
        if p.place == Origin::default() {
            p.place = o.place.clone();
        }
        p
    }));
    for path in &o.components {
        if path.starts_with('/') || super::load::remote(path) {
            return Err(BuildError::new(
                ErrorKind::Refused,
                o.place.clone(),
                format!("components: {path:?} must be a path relative to the folder that is built"),
            ));
        }
        if o.ignore_missing_components {
            let there = match super::load::join(dir, path) {
                Some(full) => build.files.locate(&o.place, &full)?,
                None => super::load::Found::Nothing,
            };
            if matches!(there, super::load::Found::Nothing) {
                continue;
            }
        }
        file.components.push(At { value: path.clone(), line: 0 });
    }
    for image in &o.images {
        match file.images.iter_mut().find(|i| i.value.name == image.name) {
            Some(there) => {
                if !image.new_name.is_empty() {
                    there.value.new_name.clone_from(&image.new_name);
                }
                if !image.new_tag.is_empty() || !image.digest.is_empty() {
                    there.value.new_tag.clone_from(&image.new_tag);
                    there.value.digest.clone_from(&image.digest);
                }
            }
            None => file.images.push(At { value: image.clone(), line: 0 }),
        }
    }
    if let Some(metadata) = o.build_metadata.as_ref().filter(|m| !m.is_empty()) {
        file.build_metadata.clone_from(metadata);
    }
    let pairs = |pairs: &[(String, String)]| -> Vec<(Arc<str>, Arc<str>)> {
        pairs.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
    };
    if !o.common_labels.is_empty() {
        file.labels.push(Label { pairs: pairs(&o.common_labels), ..Label::default() });
    }
    for (key, value) in pairs(&o.common_annotations) {
        file.common_annotations.retain(|(k, _)| *k != key);
        file.common_annotations.push((key, value));
    }
    Ok(())
}

fn finish(mut build: Build<'_>, file: &File, acc: Accumulated) -> Result<Built> {
    let Accumulated { mut objects, config, vars } = acc;
    let config = config.unwrap_or_else(config::default_config);
    add_hashes(&mut objects)
        .and_then(|()| refs::follow(&mut objects, &config))
        .and_then(|()| vars::resolve(&mut objects, &vars, &config, &mut build.warnings))
        .map_err(|error| super::secrets::hide(&objects, error))?;
    drop_local(&mut objects)?;
    match (&file.sort, build.options.order) {
        (Some(sort), _) => order::sort(&mut objects, Some(&sort.value), &file.at(sort.line))?,
        (None, Order::Legacy) => order::sort(&mut objects, None, &file.at(0))?,
        (None, Order::None) => {}
    }
    if file.build_metadata.iter().any(|m| m == "managedByLabel") {
        let spec = super::fieldspec::FieldSpec { path: "metadata/labels".into(), create: true, ..Default::default() };
        let pair = (Arc::from(MANAGED_BY.0), Arc::from(MANAGED_BY.1));
        super::labels::add_pairs(&mut objects, &[pair], &[spec])
            .map_err(|e| super::accumulate::transform_error(&objects, &file.at(0), "buildMetadata", e))?;
    }
    let asks = |what: &str| file.build_metadata.iter().any(|m| m == what);
    let (origins, transformations) = (asks("originAnnotations"), asks("transformerAnnotations"));
    let mut scale = Scale { text: 0, limit: build.options.limits.output_bytes, over: None };
    let mut resources = Vec::with_capacity(objects.len());
    for mut res in objects.into_list() {
        super::provenance::write(&mut res, origins, transformations);
        let res = finished(res)?;
        scale.add(&res);
        resources.push(res);
    }
    match scale.over {
        Some(error) => Err(error),
        None => Ok(Built { resources, warnings: build.warnings }),
    }
}

/// Refuses more text than may be printed. Objects share what patches and transformers put into all of them, so that the
/// memory they take says little.
struct Scale {
    text: u64,
    limit: u64,
    over: Option<BuildError>,
}

impl Scale {
    fn add(&mut self, res: &Resource) {
        self.text = self.text.saturating_add(res.node.text_bytes());
        if self.text > self.limit && self.over.is_none() {
            let why = format!("up to this object the build holds more than {} bytes of text", self.limit);
            let error = BuildError::new(ErrorKind::Limit, res.origin.clone(), why);
            let help = "look for a long text that a patch, label or annotation puts into every object";
            self.over = Some(error.help(help));
        }
    }
}

/// Puts the hash of its content on the name of every object that wants it.
pub(crate) fn add_hashes(objects: &mut Objects) -> Result<()> {
    if !objects.iter().any(|res| res.wants_hash) {
        return Ok(());
    }
    for res in objects.list_mut().iter_mut().filter(|res| res.wants_hash) {
        let suffix = hash::suffix(res).map_err(|why| {
            BuildError::new(ErrorKind::Syntax, res.origin.clone(), format!("hashing {}: {why}", res.id()))
        })?;
        res.remember();
        let base = res.name();
        res.set_name(&format!("{base}-{suffix}"));
        res.hashed_base_name = Some(base.to_string());
    }
    Ok(())
}

/// Drops what is marked as not meant for a cluster.
fn drop_local(objects: &mut Objects) -> Result<()> {
    const LOCAL: &str = "config.kubernetes.io/local-config";
    let mut local = false;
    let mut unique = Unique::of(objects.len());
    for res in objects.iter() {
        // A kind that is null has a text, by which kustomize remembers it, and is none.
        let null = res.node.at(&["kind"]).is_some_and(Node::is_null);
        let id = res.id_ref();
        if null || id.kind.is_empty() || (id.name.is_empty() && !id.kind.ends_with("List")) {
            return Err(BuildError::new(
                ErrorKind::Target,
                res.origin.clone(),
                format!("{} is left without a kind or a name by a patch", res.original_id()),
            ));
        }
        match res.meta_pair("annotations", LOCAL).is_some_and(|v| &*v != "false") {
            true => local = true,
            // Prefixes and replacements may have made two objects one.
            false => unique.add(res),
        }
    }
    unique.check()?;
    if local {
        objects.list_mut().retain(|res| res.meta_pair("annotations", LOCAL).is_none_or(|v| &*v == "false"));
    }
    Ok(())
}

/// Annotations that kustomize and the functions around it keep for themselves: removed from what leaves.
const OWN_ANNOTATIONS: &[&str] = &[
    "config.k8s.io/id",
    "config.kubernetes.io/index",
    "config.kubernetes.io/path",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "internal.config.kubernetes.io/generatorBehavior",
    "internal.config.kubernetes.io/helm-generated",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/needsHashSuffix",
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/previousKinds",
    "internal.config.kubernetes.io/previousNames",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/suffixes",
];

/// The object as it leaves: annotations are text, an empty annotations map is gone.
fn finished(mut res: Res) -> Result<Resource> {
    let annotations = res.metadata().and_then(|m| m.get("annotations"));
    let text_already = match annotations {
        None => true,
        Some(Node::Map(map)) => {
            !map.is_empty()
                && map.iter().all(|e| {
                    e.value.as_scalar().is_some_and(|s| s.kind == driftless_yaml::Kind::Str)
                        && !OWN_ANNOTATIONS.contains(&&*e.key)
                })
        }
        Some(_) => false,
    };
    if !text_already {
        let mut pairs = res.meta_pairs("annotations");
        pairs.retain(|(key, _)| !OWN_ANNOTATIONS.contains(&&**key));
        res.set_meta_pairs("annotations", pairs);
    }
    // Rewritten, the keys stand without quotes.
    let keys = res.metadata().and_then(|m| m.get("annotations")).and_then(Node::as_map).into_iter().flatten();
    for key in keys.map(|e| &e.key) {
        super::fieldspec::check_key(key).map_err(|why| {
            BuildError::new(ErrorKind::Syntax, res.origin.clone(), format!("the annotations of {}: {why}", res.id()))
        })?;
    }
    Ok(Resource { node: res.node, origin: res.origin, hashed_base_name: res.hashed_base_name })
}

/// What Flux does for a folder without a kustomization file.
pub(crate) fn generate(
    tree: &dyn Tree,
    dir: &str,
    ignore: &dyn Fn(&str, bool) -> bool,
    options: &Options,
) -> Result<KustomizationFile> {
    let files = Files::new(tree, options.limits, options.memo.clone());
    let place = Origin::new(if dir.is_empty() { "." } else { dir }, 0);
    let mut out = KustomizationFile::default();
    walk(&files, &place, dir, "", ignore, &mut out, 0)?;
    Ok(out)
}

fn walk(
    files: &Files<'_>,
    place: &Origin,
    root: &str,
    below: &str,
    ignore: &dyn Fn(&str, bool) -> bool,
    out: &mut KustomizationFile,
    depth: usize,
) -> Result<()> {
    if depth > 64 {
        return Err(BuildError::new(
            ErrorKind::Limit,
            place.clone(),
            format!("folders below {root:?} are nested deeper than 64"),
        ));
    }
    let join = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { format!("{a}/{b}") };
    for (name, entry) in files.names(place, join(root, below).trim_end_matches('/'))? {
        let relative = join(below, &name);
        let full = join(root, &relative);
        match entry {
            Entry::Folder { .. } => {
                if ignore(&full, true) {
                    continue;
                }
                if files.kustomization(place, &full)?.is_some() {
                    out.resources.push(relative);
                } else {
                    walk(files, place, root, &relative, ignore, out, depth + 1)?;
                }
            }
            Entry::File { .. } => {
                let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
                if !yaml || NAMES.contains(&name.as_str()) || ignore(&full, false) {
                    continue;
                }
                files.objects_in(place, &full, true)?;
                out.resources.push(relative);
            }
            Entry::Link { .. } | Entry::Submodule => {}
        }
    }
    Ok(())
}
