//! Which fields the transformers change: the defaults, and what `configurations` files add.

use super::decode::{Doc, Fields, Mode};
use super::defaults::{self, References, Row};
use super::error::{BuildError, ErrorKind, Origin};
use super::fieldspec::FieldSpec;
use super::file::field_specs;
use driftless_yaml::Node;
use std::sync::{Arc, LazyLock};

/// Names of objects of one kind, and the fields that hold them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NameReference {
    pub(crate) group: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) referrers: Vec<FieldSpec>,
}

/// The field specs of every transformer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_references: Vec<NameReference>,
    pub(crate) variables: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

static DEFAULT: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let mut config = Config {
        name_prefix: rows(defaults::NAME),
        name_suffix: rows(defaults::NAME),
        namespace: rows(defaults::NAMESPACE),
        common_labels: [rows(defaults::SELECTORS), rows(defaults::TEMPLATE_LABELS)].concat(),
        labels: Vec::new(),
        template_labels: rows(defaults::TEMPLATE_LABELS),
        common_annotations: rows(defaults::ANNOTATIONS),
        name_references: defaults::REFERENCES.iter().map(references).collect(),
        variables: rows(defaults::VARIABLES),
        images: rows(defaults::IMAGES),
        replicas: rows(defaults::REPLICAS),
    };
    config.sort();
    Arc::new(config)
});

fn rows(rows: &[Row]) -> Vec<FieldSpec> {
    let spec = |&(path, group, version, kinds, create): &Row| {
        kinds.split(' ').map(move |kind| FieldSpec {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            path: path.into(),
            create,
        })
    };
    rows.iter().flat_map(spec).collect()
}

fn references(&((group, version, kind), fields): &References) -> NameReference {
    let fields: Vec<Row> = fields.iter().map(|&(path, g, v, kinds)| (path, g, v, kinds, false)).collect();
    NameReference { group: group.into(), version: version.into(), kind: kind.into(), referrers: rows(&fields) }
}

/// The defaults, shared by all builds.
pub(crate) fn default_config() -> Arc<Config> {
    DEFAULT.clone()
}

/// The same, for what is made of them once.
pub(crate) fn defaults() -> &'static Config {
    &DEFAULT
}

/// Adds a field spec unless an equal or narrower one is there already; refuses one that differs only in `create`.
pub(crate) fn merge_spec(list: &mut Vec<FieldSpec>, spec: &FieldSpec) -> Result<(), String> {
    match list.iter().find(|x| spec.matches(&x.group, &x.version, &x.kind) && x.path == spec.path) {
        Some(there) if there.create != spec.create => {
            Err(format!("the field {} is configured twice, with create true and with create false", spec.path))
        }
        Some(_) => Ok(()),
        None => {
            list.push(spec.clone());
            Ok(())
        }
    }
}

pub(crate) fn merge_specs(list: &mut Vec<FieldSpec>, specs: &[FieldSpec]) -> Result<(), String> {
    specs.iter().try_for_each(|spec| merge_spec(list, spec))
}

impl Config {
    /// Everything of both.
    pub(crate) fn merge(&self, other: &Self) -> Result<Self, String> {
        let mut out = self.clone();
        merge_specs(&mut out.name_prefix, &other.name_prefix)?;
        merge_specs(&mut out.name_suffix, &other.name_suffix)?;
        merge_specs(&mut out.namespace, &other.namespace)?;
        merge_specs(&mut out.common_annotations, &other.common_annotations)?;
        merge_specs(&mut out.common_labels, &other.common_labels)?;
        merge_specs(&mut out.labels, &other.labels)?;
        merge_specs(&mut out.template_labels, &other.template_labels)?;
        merge_specs(&mut out.variables, &other.variables)?;
        merge_specs(&mut out.images, &other.images)?;
        merge_specs(&mut out.replicas, &other.replicas)?;
        for reference in &other.name_references {
            let same = |r: &&mut NameReference| {
                r.kind == reference.kind && r.group == reference.group && r.version == reference.version
            };
            match out.name_references.iter_mut().find(same) {
                Some(there) => merge_specs(&mut there.referrers, &reference.referrers)?,
                None => out.name_references.push(reference.clone()),
            }
        }
        out.sort();
        Ok(out)
    }

    /// Puts name references into the order in which they are followed, and field specs into the one in which they are
    /// compared when more are merged in: a general one before a special one of the same path.
    fn sort(&mut self) {
        for specs in [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.common_annotations,
            &mut self.variables,
            &mut self.images,
            &mut self.replicas,
        ] {
            specs.sort_by_cached_key(|s| super::order::kind_rank(&s.group, &s.version, &s.kind));
        }
        self.name_references.sort_by_key(|r| super::order::kind_rank(&r.group, &r.version, &r.kind));
    }

    /// Decodes a `configurations` file.
    pub(crate) fn decode(path: &Arc<str>, node: &Node) -> Result<Self, BuildError> {
        const KNOWN: &[&str] = &[
            "namePrefix",
            "nameSuffix",
            "namespace",
            "commonLabels",
            "labels",
            "templateLabels",
            "commonAnnotations",
            "nameReference",
            "varReference",
            "images",
            "replicas",
        ];
        let doc = Doc::new(path, Mode::Strict);
        let Some(f) = Fields::new(&doc, "", node, KNOWN)? else { return Ok(Self::default()) };
        let mut config = Self {
            name_prefix: field_specs(&f, "namePrefix")?,
            name_suffix: field_specs(&f, "nameSuffix")?,
            namespace: field_specs(&f, "namespace")?,
            common_labels: field_specs(&f, "commonLabels")?,
            labels: field_specs(&f, "labels")?,
            template_labels: field_specs(&f, "templateLabels")?,
            common_annotations: field_specs(&f, "commonAnnotations")?,
            name_references: f.each("nameReference", &["group", "version", "kind", "fieldSpecs"], |r, _| {
                Ok(NameReference {
                    group: r.text("group")?.into(),
                    version: r.text("version")?.into(),
                    kind: r.text("kind")?.into(),
                    referrers: field_specs(r, "fieldSpecs")?,
                })
            })?,
            variables: field_specs(&f, "varReference")?,
            images: field_specs(&f, "images")?,
            replicas: field_specs(&f, "replicas")?,
        };
        config.sort();
        Ok(config)
    }
}

/// Merges two shared configurations, without work when both are the defaults, or one is and the other is empty.
pub(crate) fn merge_shared(a: &Arc<Config>, b: &Arc<Config>, place: &Origin) -> Result<Arc<Config>, BuildError> {
    if Arc::ptr_eq(b, &DEFAULT) && (Arc::ptr_eq(a, b) || **a == Config::default()) {
        return Ok(b.clone());
    }
    a.merge(b)
        .map(Arc::new)
        .map_err(|why| BuildError::new(ErrorKind::Conflict, place.clone(), format!("merging configurations: {why}")))
}
