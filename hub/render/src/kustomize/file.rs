//! The kustomization file: its fields, their deprecated spellings, and what is wrong with it.

use super::decode::{At, Doc, Fields, Mode, is_set};
use super::error::{BuildError, ErrorKind, Origin, Warning};
use super::fieldspec::FieldSpec;
use super::{Image, Patch, Selector};
use driftless_yaml::Node;
use std::sync::Arc;

type Result<T> = std::result::Result<T, BuildError>;
pub(crate) type Pairs = Vec<(Arc<str>, Arc<str>)>;

/// The names a kustomization file may have.
pub(crate) const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// One kustomization file, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// Its path from the root of the tree.
    pub(crate) path: Arc<str>,
    pub(crate) component: bool,
    pub(crate) resources: Vec<At<String>>,
    /// How many `resources` it lists, `bases` not counted.
    pub(crate) resources_listed: usize,
    pub(crate) components: Vec<At<String>>,
    pub(crate) crds: Vec<At<String>>,
    pub(crate) configurations: Vec<At<String>>,
    pub(crate) generators: Vec<At<String>>,
    pub(crate) transformers: Vec<At<String>>,
    pub(crate) validators: Vec<At<String>>,
    pub(crate) namespace: At<String>,
    pub(crate) name_prefix: At<String>,
    pub(crate) name_suffix: At<String>,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_labels: Pairs,
    pub(crate) common_labels_line: u32,
    pub(crate) common_annotations: Pairs,
    pub(crate) common_annotations_line: u32,
    pub(crate) patches: Vec<Patch>,
    pub(crate) patches_strategic_merge: Vec<At<String>>,
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) images: Vec<At<Image>>,
    pub(crate) replicas: Vec<At<(String, i64)>>,
    pub(crate) replacements: Vec<At<Node>>,
    pub(crate) config_maps: Vec<Generator>,
    pub(crate) secrets: Vec<Generator>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) vars: Vec<Var>,
    pub(crate) sort: Option<At<Sort>>,
    pub(crate) build_metadata: Vec<String>,
    /// `openapi`: path and version.
    pub(crate) openapi: Option<At<(Option<String>, Option<String>)>>,
    /// Line of `helmCharts` or its older spelling, 0 when there is none.
    pub(crate) helm_line: u32,
    pub(crate) warnings: Vec<Warning>,
}

/// One entry of `labels`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) pairs: Pairs,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
    pub(crate) line: u32,
}

/// `generatorOptions`, or `options` of one generator.
#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: Pairs,
    pub(crate) annotations: Pairs,
    pub(crate) disable_hash: bool,
    pub(crate) immutable: bool,
}

/// A file of `NAME=value` lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvFile {
    pub(crate) path: At<String>,
    /// Named by `env`, the old spelling.
    pub(crate) legacy: bool,
}

/// One entry of `configMapGenerator` or `secretGenerator`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generator {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: String,
    pub(crate) envs: Vec<EnvFile>,
    pub(crate) literals: Vec<At<String>>,
    pub(crate) files: Vec<At<String>>,
    pub(crate) options: Option<GeneratorOptions>,
    /// Type of a Secret.
    pub(crate) secret_type: String,
    pub(crate) line: u32,
}

/// One entry of `vars`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) object: String,
    pub(crate) namespace: String,
    pub(crate) field_path: String,
    pub(crate) place: Origin,
}

/// `sortOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sort {
    pub(crate) order: String,
    pub(crate) first_last: Option<(Vec<String>, Vec<String>)>,
}

const KNOWN: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "openapi",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "labels",
    "commonAnnotations",
    "patchesStrategicMerge",
    "patchesJson6902",
    "patches",
    "images",
    "imageTags",
    "replacements",
    "replicas",
    "vars",
    "sortOptions",
    "resources",
    "components",
    "crds",
    "bases",
    "configMapGenerator",
    "secretGenerator",
    "helmGlobals",
    "helmCharts",
    "helmChartInflationGenerator",
    "generatorOptions",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "buildMetadata",
];

const GENERATOR: &[&str] = &["namespace", "name", "behavior", "literals", "files", "envs", "env", "options", "type"];

impl File {
    /// Decodes a document read in the YAML 1.1 dialect.
    pub(crate) fn decode(path: &Arc<str>, node: &Node, mode: Mode) -> Result<Self> {
        let doc = Doc::new(path, mode);
        let mut file = Self::decode_doc(&doc, node)?;
        file.warnings.extend(doc.warnings.into_inner());
        Ok(file)
    }

    fn decode_doc(doc: &Doc, node: &Node) -> Result<Self> {
        let path = &doc.path;
        let at = |line: u32| Origin::new(path.clone(), line);
        let component = node.at(&["kind"]).and_then(Node::as_str) == Some("Component");
        let empty = || {
            let (what, help) = if component {
                (
                    "this Component is empty",
                    "list something under patches or resources, or do not name it; a Component is named under components",
                )
            } else {
                ("this kustomization file is empty", "list something under resources, or remove the file")
            };
            BuildError::new(ErrorKind::Field, at(0), what).help(help)
        };
        let mut file = Self { path: path.clone(), ..Self::default() };
        let Some(f) = Fields::new(doc, "", node, KNOWN)? else {
            return if doc.mode == Mode::Flux { Ok(file) } else { Err(empty()) };
        };

        let (kind, api) = (f.text("kind")?, f.text("apiVersion")?);
        file.component = kind == "Component";
        if !matches!(kind.as_str(), "" | "Kustomization" | "Component") {
            return Err(doc
                .error(f.line("kind"), format!("kind {kind:?} is not Kustomization or Component"))
                .help("a Flux Kustomization is an object: list its file under resources of another file"));
        }
        let version =
            if file.component { "kustomize.config.k8s.io/v1alpha1" } else { "kustomize.config.k8s.io/v1beta1" };
        if !api.is_empty() && api != version {
            let kind = if file.component { "Component" } else { "Kustomization" };
            return Err(
                doc.error(f.line("apiVersion"), format!("apiVersion of a {kind} must be {version}, found {api:?}"))
            );
        }
        let named = |name: &&&str| !matches!(**name, "apiVersion" | "kind");
        let map = node.as_map();
        if doc.mode == Mode::Strict && !KNOWN.iter().filter(named).any(|name| map.is_some_and(|m| is_set(m, name))) {
            return Err(empty());
        }

        file.resources = f.texts("resources")?;
        file.resources_listed = file.resources.len();
        file.resources.extend(f.texts("bases")?);
        file.components = f.texts("components")?;
        file.crds = f.texts("crds")?;
        file.configurations = f.texts("configurations")?;
        file.generators = f.texts("generators")?;
        file.transformers = f.texts("transformers")?;
        file.validators = f.texts("validators")?;
        file.namespace = At { value: f.text("namespace")?, line: f.line("namespace") };
        file.name_prefix = At { value: f.text("namePrefix")?, line: f.line("namePrefix") };
        file.name_suffix = At { value: f.text("nameSuffix")?, line: f.line("nameSuffix") };
        file.labels = f.each("labels", &["pairs", "includeSelectors", "includeTemplates", "fields"], |l, line| {
            Ok(Label {
                pairs: l.pairs("pairs")?,
                include_selectors: l.bool("includeSelectors")?,
                include_templates: l.bool("includeTemplates")?,
                fields: field_specs(l, "fields")?,
                line,
            })
        })?;
        file.common_labels = f.pairs("commonLabels")?;
        file.common_labels_line = f.line("commonLabels");
        file.common_annotations = f.pairs("commonAnnotations")?;
        file.common_annotations_line = f.line("commonAnnotations");
        file.patches = patches(path, &f, "patches")?;
        file.patches_strategic_merge = f.texts("patchesStrategicMerge")?;
        file.patches_json6902 = patches(path, &f, "patchesJson6902")?;
        for name in ["images", "imageTags"] {
            file.images.extend(f.each(name, &["name", "newName", "tagSuffix", "newTag", "digest"], |i, line| {
                Ok(At { value: image(i)?, line })
            })?);
        }
        file.replicas = f.each("replicas", &["name", "count"], |r, line| {
            Ok(At { value: (r.text("name")?, r.int("count")?), line })
        })?;
        file.replacements = f.list("replacements")?.iter().map(|n| At { value: n.clone(), line: n.line() }).collect();
        file.config_maps = generators(&f, "configMapGenerator")?;
        file.secrets = generators(&f, "secretGenerator")?;
        file.generator_options = generator_options(&f, "generatorOptions")?;
        file.vars = f.each("vars", &["name", "objref", "fieldref"], |v, line| var(v, at(line)))?;
        file.sort = match f.sub("sortOptions", &["order", "legacySortOptions"])? {
            None => None,
            Some(s) => Some(At { value: sort(&s)?, line: f.line("sortOptions") }),
        };
        file.build_metadata = f.texts("buildMetadata")?.into_iter().map(|a| a.value).collect();
        if let Some(o) = f.get("openapi") {
            let pairs = f.pairs("openapi")?;
            let text = |name: &str| pairs.iter().find(|(k, _)| &**k == name).map(|(_, v)| v.to_string());
            file.openapi = Some(At { value: (text("path"), text("version")), line: o.line });
        }
        if let Some(metadata) = f.sub("metadata", &["name", "namespace", "labels", "annotations"])? {
            metadata.text("name")?;
            metadata.text("namespace")?;
            metadata.pairs("labels")?;
            metadata.pairs("annotations")?;
        }
        if let Some(globals) = f.sub("helmGlobals", &["chartHome", "configHome"])? {
            globals.text("chartHome")?;
            globals.text("configHome")?;
        }
        file.helm_line = ["helmCharts", "helmChartInflationGenerator"]
            .iter()
            .find(|n| !f.list(n).unwrap_or(&[]).is_empty())
            .map_or(0, |n| f.line(n));
        for (old, new) in [
            ("bases", "resources"),
            ("imageTags", "images"),
            ("commonLabels", "labels"),
            ("patchesJson6902", "patches"),
            ("patchesStrategicMerge", "patches"),
            ("vars", "replacements"),
        ] {
            if let Some(e) = f.get(old) {
                file.warnings.push(Warning {
                    place: at(e.line),
                    message: format!("{old} is deprecated in kustomize; use {new}"),
                });
            }
        }
        Ok(file)
    }

    pub(crate) fn at(&self, line: u32) -> Origin {
        Origin::new(self.path.clone(), line)
    }
}

/// One entry of `images`.
pub(crate) fn image(i: &Fields<'_>) -> Result<Image> {
    Ok(Image {
        name: i.text("name")?,
        new_name: i.text("newName")?,
        tag_suffix: i.text("tagSuffix")?,
        new_tag: i.text("newTag")?,
        digest: i.text("digest")?,
    })
}

/// A list of field specs.
pub(crate) fn field_specs(f: &Fields<'_>, name: &str) -> Result<Vec<FieldSpec>> {
    f.each(name, &["group", "version", "kind", "path", "create"], |s, _| {
        Ok(FieldSpec {
            group: s.text("group")?.into(),
            version: s.text("version")?.into(),
            kind: s.text("kind")?.into(),
            path: s.text("path")?.into(),
            create: s.bool("create")?,
        })
    })
}

/// The fields of a selector.
pub(crate) const SELECTOR: &[&str] =
    &["group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector"];

pub(crate) fn selector(t: &Fields<'_>) -> Result<Selector> {
    Ok(Selector {
        group: t.text("group")?,
        version: t.text("version")?,
        kind: t.text("kind")?,
        name: t.text("name")?,
        namespace: t.text("namespace")?,
        label_selector: t.text("labelSelector")?,
        annotation_selector: t.text("annotationSelector")?,
    })
}

fn patches(path: &Arc<str>, f: &Fields<'_>, name: &str) -> Result<Vec<Patch>> {
    f.each(name, &["path", "patch", "target", "options"], |p, line| patch(path, p, line))
}

/// One entry of `patches`.
pub(crate) fn patch(path: &Arc<str>, p: &Fields<'_>, line: u32) -> Result<Patch> {
    let options = p.sub("options", &["allowNameChange", "allowKindChange"])?;
    let option = |name: &str| options.as_ref().map_or(Ok(false), |o| o.bool(name));
    let text = |name: &str| -> Result<Option<String>> { Ok(Some(p.text(name)?).filter(|t| !t.is_empty())) };
    Ok(Patch {
        path: text("path")?,
        patch: text("patch")?,
        target: p.sub("target", SELECTOR)?.map(|t| selector(&t)).transpose()?,
        allow_name_change: option("allowNameChange")?,
        allow_kind_change: option("allowKindChange")?,
        place: Origin::new(path.clone(), line),
    })
}

fn generators(f: &Fields<'_>, name: &str) -> Result<Vec<Generator>> {
    let known = if name == "secretGenerator" { GENERATOR } else { &GENERATOR[..GENERATOR.len() - 1] };
    f.each(name, known, generator)
}

/// One generator.
pub(crate) fn generator(g: &Fields<'_>, line: u32) -> Result<Generator> {
    let item = |at: At<String>, legacy| EnvFile { path: at, legacy };
    let mut envs: Vec<EnvFile> = g.texts("envs")?.into_iter().map(|at| item(at, false)).collect();
    let env = g.text("env")?;
    if !env.is_empty() {
        envs.push(item(At { value: env, line: g.line("env") }, true));
    }
    Ok(Generator {
        name: g.text("name")?,
        namespace: g.text("namespace")?,
        behavior: g.text("behavior")?,
        envs,
        literals: g.texts("literals")?,
        files: g.texts("files")?,
        options: generator_options(g, "options")?,
        secret_type: if g.get("type").is_some() { g.text("type")? } else { String::new() },
        line,
    })
}

fn generator_options(f: &Fields<'_>, name: &str) -> Result<Option<GeneratorOptions>> {
    let Some(o) = f.sub(name, &["labels", "annotations", "disableNameSuffixHash", "immutable"])? else {
        return Ok(None);
    };
    Ok(Some(GeneratorOptions {
        labels: o.pairs("labels")?,
        annotations: o.pairs("annotations")?,
        disable_hash: o.bool("disableNameSuffixHash")?,
        immutable: o.bool("immutable")?,
    }))
}

fn var(v: &Fields<'_>, place: Origin) -> Result<Var> {
    let mut out = Var { name: v.text("name")?, place, ..Var::default() };
    if let Some(o) = v.sub("objref", &["apiVersion", "group", "version", "kind", "name", "namespace"])? {
        out.group = o.text("group")?;
        out.version = o.text("version")?;
        out.kind = o.text("kind")?;
        out.object = o.text("name")?;
        out.namespace = o.text("namespace")?;
        let api = o.text("apiVersion")?;
        match api.split('/').collect::<Vec<_>>()[..] {
            [""] => {}
            [version] => version.clone_into(&mut out.version),
            [group, version] => {
                group.clone_into(&mut out.group);
                version.clone_into(&mut out.version);
            }
            _ => {}
        }
    }
    if let Some(r) = v.sub("fieldref", &["fieldPath"])? {
        out.field_path = r.text("fieldPath")?;
    }
    if out.field_path.is_empty() {
        "metadata.name".clone_into(&mut out.field_path);
    }
    Ok(out)
}

fn sort(s: &Fields<'_>) -> Result<Sort> {
    let texts = |f: &Fields<'_>, name: &str| -> Result<Vec<String>> {
        Ok(f.texts(name)?.into_iter().map(|a| a.value).collect())
    };
    Ok(Sort {
        order: s.text("order")?,
        first_last: match s.sub("legacySortOptions", &["orderFirst", "orderLast"])? {
            None => None,
            Some(l) => Some((texts(&l, "orderFirst")?, texts(&l, "orderLast")?)),
        },
    })
}
