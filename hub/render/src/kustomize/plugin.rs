//! Generators, transformers and validators given as objects of their own: those built into kustomize. Programs and
//! containers are refused.

use super::accumulate::{Accumulated, Build, Result, transform_error};
use super::decode::{At, Doc, Fields, Mode};
use super::error::{BuildError, ErrorKind};
use super::fieldspec::{rewrite, wrong_shape};
use super::file::{self, File, SELECTOR, field_specs, selector};
use super::generate::{self, What};
use super::names::{Affix, NamespaceArgs, Subjects};
use super::provenance::{Provenance, note};
use super::res::{Objects, Res};
use super::selector::Matcher;
use super::{images, labels, names, patch, replicas};
use driftless_yaml::{Map, Node};
use std::sync::Arc;

const GENERATOR: &[&str] =
    &["metadata", "namespace", "name", "behavior", "literals", "files", "envs", "env", "options", "type"];

/// Reads the entries of `generators`, `transformers` or `validators`: an object as text, or the path of some.
fn objects(build: &mut Build<'_>, dir: &str, file: &File, what: &str, list: &[At<String>]) -> Result<Vec<Res>> {
    let mut inline = Accumulated::new(build.files.limits());
    let mut paths = Vec::new();
    for item in list {
        let place = file.at(item.line);
        match build.files.objects(&place, item.value.as_bytes()) {
            Ok(found) => {
                for mut res in found {
                    let name = file.path.rsplit('/').next().unwrap_or_default();
                    res.provenance = build
                        .tracking
                        .as_ref()
                        .map(|way| Arc::new(Provenance::of_file(super::provenance::clean_path(way, name))));
                    inline.objects.push(res)?;
                }
            }
            Err(e) if item.value.contains('\n') => return Err(e),
            Err(_) => paths.push((item.value.clone(), place)),
        }
    }
    for (path, place) in paths {
        build.resource(dir, file, &path, &place, &mut inline).map_err(|e| BuildError {
            attempt: e.attempt.strip_prefix("resources").map_or(e.attempt.clone(), |rest| format!("{what}{rest}")),
            ..e
        })?;
    }
    let found = inline.objects.into_list();
    for res in &found {
        if &*res.api() != "builtin" {
            return Err(BuildError::new(
                ErrorKind::Refused,
                res.origin.clone(),
                format!("{what}: {} is a program or container that kustomize would run; rendering runs none", res.id()),
            )
            .help("use a generator or transformer built into kustomize (apiVersion: builtin), or commit its output"));
        }
    }
    Ok(found)
}

fn field(res: &Res, attempt: impl Into<String>) -> BuildError {
    BuildError::new(ErrorKind::Field, res.origin.clone(), attempt)
}

/// Runs `generators`.
pub(crate) fn generators(build: &mut Build<'_>, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
    if file.generators.is_empty() {
        return Ok(());
    }
    for config in objects(build, dir, file, "generators", &file.generators)? {
        let doc = Doc::new(&config.origin.file, Mode::Loose);
        let what = match &*config.kind() {
            "ConfigMapGenerator" => What::ConfigMap,
            "SecretGenerator" => What::Secret,
            "IAMPolicyGenerator" => {
                let mut res = iam_policy(&config, &doc)?;
                res.provenance = Provenance::of_object(&config).map(Arc::new);
                generate::absorb(&mut acc.objects, res)?;
                continue;
            }
            "HelmChartInflationGenerator" => {
                return Err(BuildError::new(
                    ErrorKind::Refused,
                    config.origin.clone(),
                    "HelmChartInflationGenerator: kustomize would run the helm program; rendering runs none",
                )
                .help("declare the chart as a Flux HelmRelease, or commit what `helm template` prints"));
            }
            other => return Err(field(&config, format!("generators: {other} is no generator built into kustomize"))),
        };
        let Some(f) = Fields::new(&doc, "", &config.node, GENERATOR)? else { continue };
        let mut args = file::generator(&f, config.origin.line)?;
        // The old field `env` counts in kustomization files only.
        args.envs.retain(|env| !env.legacy);
        if let Some(meta) = f.sub("metadata", &["name", "namespace"])? {
            if args.name.is_empty() {
                args.name = meta.text("name")?;
            }
            if args.namespace.is_empty() {
                args.namespace = meta.text("namespace")?;
            }
        }
        let mut res = generate::generate(&build.files, dir, &config.origin, what, &args, None)?;
        res.provenance = Provenance::of_object(&config).map(Arc::new);
        generate::absorb(&mut acc.objects, res)?;
    }
    Ok(())
}

/// A service account bound to one of a cloud provider.
fn iam_policy(config: &Res, doc: &Doc) -> Result<Res> {
    let Some(f) = Fields::new(doc, "", &config.node, &["cloud", "kubernetesService", "serviceAccount"])? else {
        return Err(field(config, "IAMPolicyGenerator: it is empty"));
    };
    if f.text("cloud")? != "gke" {
        return Err(field(
            config,
            format!("IAMPolicyGenerator: cloud {:?} is not supported, only gke is", f.text("cloud")?),
        ));
    }
    let text = |of: &str, name: &'static str| match f.sub(of, &["name", "namespace", "projectId"])? {
        Some(sub) => sub.text(name),
        None => Ok(String::new()),
    };
    let account = text("serviceAccount", "name")?;
    let project = text("serviceAccount", "projectId")?;
    let mut annotations = Map::new();
    annotations
        .insert("iam.gke.io/gcp-service-account", Node::string(format!("{account}@{project}.iam.gserviceaccount.com")));
    let mut meta = Map::new();
    meta.insert("annotations", Node::Map(annotations));
    super::fieldspec::set_text(&mut meta, "name", &text("kubernetesService", "name")?);
    let namespace = text("kubernetesService", "namespace")?;
    if !namespace.is_empty() {
        super::fieldspec::set_text(&mut meta, "namespace", &namespace);
    }
    let mut root = Map::new();
    root.insert("apiVersion", Node::string("v1"));
    root.insert("kind", Node::string("ServiceAccount"));
    root.insert("metadata", Node::Map(meta));
    Ok(Res::new(Node::Map(root), config.origin.clone()))
}

/// Runs `transformers`.
pub(crate) fn transformers(build: &mut Build<'_>, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
    if file.transformers.is_empty() {
        return Ok(());
    }
    for config in objects(build, dir, file, "transformers", &file.transformers)? {
        transform(build, dir, &config, &mut acc.objects)?;
        if let Some(provenance) = Provenance::of_object(&config) {
            note(&mut acc.objects, &Arc::new(provenance));
        }
    }
    Ok(())
}

/// Runs `validators`: transformers that must change nothing.
pub(crate) fn validators(build: &mut Build<'_>, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
    const VALIDATED: &str = "validated-by";
    if file.validators.is_empty() {
        return Ok(());
    }
    for config in objects(build, dir, file, "validators", &file.validators)? {
        let before: Vec<Node> = acc.objects.iter().map(|r| r.node.clone()).collect();
        transform(build, dir, &config, &mut acc.objects)?;
        let unchanged = acc.objects.len() == before.len()
            && acc.objects.iter().zip(&before).all(|(res, old)| {
                let mut res = res.clone();
                let labels = res.meta_pairs("labels");
                if labels.iter().any(|(k, _)| &**k == VALIDATED) {
                    res.set_meta_pairs("labels", labels.into_iter().filter(|(k, _)| &**k != VALIDATED).collect());
                }
                res.node == *old
            });
        if !unchanged {
            return Err(field(&config, format!("validators: {} changes objects; a validator must not", config.id())));
        }
    }
    Ok(())
}

/// Runs one transformer.
fn transform(build: &Build<'_>, dir: &str, config: &Res, objects: &mut Objects) -> Result<()> {
    let doc = Doc::new(&config.origin.file, Mode::Loose);
    let kind = config.kind();
    let fields = |known: &[&'static str]| Fields::new(&doc, "", &config.node, known);
    let failed = |objects: &Objects, e: (usize, String)| transform_error(objects, &config.origin, &kind, e);
    match &*kind {
        "AnnotationsTransformer" | "LabelTransformer" => {
            let what = if &*kind == "LabelTransformer" { "labels" } else { "annotations" };
            let Some(f) = fields(&["labels", "annotations", "fieldSpecs"])? else { return Ok(()) };
            let pairs = f.pairs(what)?;
            if pairs.is_empty() {
                return Ok(());
            }
            labels::add_pairs(objects, &pairs, &field_specs(&f, "fieldSpecs")?).map_err(|e| failed(objects, e))
        }
        "NamespaceTransformer" => namespace(config, &doc, objects),
        "PrefixTransformer" | "SuffixTransformer" | "PrefixSuffixTransformer" => {
            let Some(f) = fields(&["prefix", "suffix", "fieldSpecs"])? else { return Ok(()) };
            if f.get("fieldSpecs").is_none() {
                return Err(field(config, format!("{kind}: fieldSpecs is missing")));
            }
            let specs = field_specs(&f, "fieldSpecs")?;
            for (which, name) in [(Affix::Prefix, "prefix"), (Affix::Suffix, "suffix")] {
                let wanted = match which {
                    Affix::Prefix => &*kind != "SuffixTransformer",
                    Affix::Suffix => &*kind != "PrefixTransformer",
                };
                if wanted {
                    names::affix(objects, which, &f.text(name)?.into(), &specs).map_err(|e| failed(objects, e))?;
                }
            }
            Ok(())
        }
        "ImageTagTransformer" => {
            let Some(f) = fields(&["imageTag", "fieldSpecs"])? else { return Ok(()) };
            let image = match f.sub("imageTag", &["name", "newName", "tagSuffix", "newTag", "digest"])? {
                Some(i) => file::image(&i)?,
                None => super::Image::default(),
            };
            images::set_images(objects, &[&image], &field_specs(&f, "fieldSpecs")?)
                .map_err(|(_, at, why)| failed(objects, (at, why)))
        }
        "ReplicaCountTransformer" => {
            let Some(f) = fields(&["replica", "fieldSpecs"])? else { return Ok(()) };
            let (name, count) = match f.sub("replica", &["name", "count"])? {
                Some(r) => (r.text("name")?, r.int("count")?),
                None => (String::new(), 0),
            };
            let specs = field_specs(&f, "fieldSpecs")?;
            match replicas::set_replicas(objects, &name, count, &specs).map_err(|e| failed(objects, e))? {
                true => Ok(()),
                false => Err(BuildError::new(
                    ErrorKind::Target,
                    config.origin.clone(),
                    format!("ReplicaCountTransformer: no object of the kinds in fieldSpecs is named {name:?}"),
                )),
            }
        }
        "PatchTransformer" => {
            let Some(f) = fields(&["path", "patch", "target", "options"])? else { return Ok(()) };
            let entry = file::patch(&config.origin.file, &f, config.origin.line)?;
            patch::transform(objects, &patch::read(&build.files, dir, &entry)?, &build.schemas)
        }
        "PatchJson6902Transformer" => {
            let Some(f) = fields(&["target", "path", "jsonOp"])? else { return Ok(()) };
            let text = |name: &str| -> Result<Option<String>> { Ok(Some(f.text(name)?).filter(|t| !t.is_empty())) };
            let entry = super::Patch {
                path: text("path")?,
                patch: text("jsonOp")?,
                target: f.sub("target", SELECTOR)?.map(|t| selector(&t)).transpose()?,
                place: config.origin.clone(),
                ..super::Patch::default()
            };
            patch::transform_json6902(objects, &patch::read_json6902(&build.files, dir, &entry)?)
        }
        "PatchStrategicMergeTransformer" => {
            let Some(f) = fields(&["paths", "patches"])? else { return Ok(()) };
            let mut list = f.texts("paths")?;
            let text = f.text("patches")?;
            if !text.is_empty() {
                list.push(At { value: text, line: f.line("patches") });
            }
            if list.is_empty() {
                return Err(field(config, "PatchStrategicMergeTransformer: neither paths nor patches"));
            }
            let file = File { path: config.origin.file.clone(), patches_strategic_merge: list, ..File::default() };
            for patch in patch::strategic_merges(&build.files, dir, &file)? {
                patch::transform_legacy_merge(objects, &patch, &build.schemas)?;
            }
            Ok(())
        }
        "ReplacementTransformer" => {
            let Some(f) = fields(&["replacements"])? else { return Ok(()) };
            let list: Vec<At<Node>> =
                f.list("replacements")?.iter().map(|n| At { value: n.clone(), line: n.line() }).collect();
            super::replace::apply(objects, &super::replace::read(&build.files, dir, &doc, &list)?)
        }
        "HashTransformer" => super::root::add_hashes(objects),
        "ValueAddTransformer" => value_add(build, dir, config, &doc, objects),
        other => Err(field(config, format!("transformers: {other} is no transformer built into kustomize"))
            .help("check the spelling; the order of the output is set with sortOptions")),
    }
}

fn namespace(config: &Res, doc: &Doc, objects: &mut Objects) -> Result<()> {
    let known = &["metadata", "fieldSpecs", "unsetOnly", "setRoleBindingSubjects"];
    let Some(f) = Fields::new(doc, "", &config.node, known)? else { return Ok(()) };
    let namespace = match f.sub("metadata", &["namespace"])? {
        Some(meta) => meta.text("namespace")?,
        None => String::new(),
    };
    let subjects = match f.text("setRoleBindingSubjects")?.as_str() {
        "" | "defaultOnly" => Subjects::NamedDefault,
        "allServiceAccounts" => Subjects::ServiceAccounts,
        "none" => Subjects::None,
        other => {
            let allowed = "defaultOnly, allServiceAccounts and none";
            return Err(field(config, format!("setRoleBindingSubjects: {other:?} is none of {allowed}")));
        }
    };
    if namespace.is_empty() {
        return Ok(());
    }
    let specs = field_specs(&f, "fieldSpecs")?;
    let args = NamespaceArgs { namespace: namespace.into(), specs: &specs, unset_only: f.bool("unsetOnly")?, subjects };
    names::set_namespace(objects, &args)
}

/// Adds a value to fields: as the whole field, or as one part of the path in it.
fn value_add(build: &Build<'_>, dir: &str, config: &Res, doc: &Doc, objects: &mut Objects) -> Result<()> {
    const TARGET: &[&str] = &["selector", "fieldPath", "filePathPosition"];
    struct Target {
        matcher: Option<Matcher>,
        path: String,
        position: i64,
    }
    let decode = |t: &Fields<'_>, _: u32| -> Result<Target> {
        let matcher = match t.sub("selector", SELECTOR)? {
            Some(s) => {
                Some(Matcher::new(&selector(&s)?).map_err(|why| field(config, format!("ValueAddTransformer: {why}")))?)
            }
            None => None,
        };
        Ok(Target { matcher, path: t.text("fieldPath")?, position: t.int("filePathPosition")? })
    };
    let Some(f) = Fields::new(doc, "", &config.node, &["value", "targets", "targetFilePath"])? else { return Ok(()) };
    let mut value = f.text("value")?.trim().to_owned();
    if value.is_empty() {
        dir.rsplit('/').next().unwrap_or_default().clone_into(&mut value);
    }
    let mut targets = f.each("targets", TARGET, decode)?;
    let from = f.text("targetFilePath")?;
    if !from.is_empty() {
        let (path, bytes) = build.files.load(&config.origin, "targetFilePath", dir, &from)?;
        let document = build.files.document(&path, &bytes)?;
        let doc = Doc::new(&path, Mode::Loose);
        if let Some(f) = Fields::new(&doc, "", &document, &["targets"])? {
            targets.extend(f.each("targets", TARGET, decode)?);
        }
    }
    if targets.is_empty() {
        return Err(field(config, "ValueAddTransformer: no targets"));
    }
    for target in &targets {
        if target.path.is_empty() || target.position < 0 {
            return Err(field(
                config,
                "ValueAddTransformer: a target has no fieldPath, or a negative filePathPosition",
            ));
        }
        for res in objects.list_mut() {
            let wrong = |why: String| field(config, format!("ValueAddTransformer: {why}"));
            if let Some(matcher) = &target.matcher
                && !matcher.selects(res).map_err(wrong)?
            {
                continue;
            }
            let done = if target.path == "metadata/namespace" {
                let args = NamespaceArgs {
                    namespace: value.as_str().into(),
                    specs: &[],
                    unset_only: false,
                    subjects: Subjects::NamedDefault,
                };
                names::set_on(res, &args)
            } else {
                add_value(&mut res.node, target.path.as_str(), target.position, &value)
            };
            done.map_err(|why| wrong(format!("field {}: {why}", target.path)))?;
        }
    }
    Ok(())
}

fn add_value(node: &mut Node, path: &str, position: i64, value: &str) -> std::result::Result<(), String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.split('/') {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('/');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    match super::fieldpath::reach(node, &parts)? {
        None if position > 0 => Err("it is not there, so it has no path to add a part to".to_owned()),
        None => Ok(()),
        Some(Node::Scalar(s)) => {
            let text = match position {
                0 => value.to_owned(),
                at => insert_part(&s.text, at - 1, value),
            };
            rewrite(s, text);
            Ok(())
        }
        Some(other) => Err(wrong_shape(other, "text")),
    }
}

/// Puts a part into a path; one beyond the end goes to the end.
fn insert_part(path: &str, at: i64, part: &str) -> String {
    let (lead, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", path),
    };
    let mut parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    let at = usize::try_from(at).unwrap_or(0).min(parts.len());
    parts.insert(at, part);
    format!("{lead}{}", parts.join("/"))
}
