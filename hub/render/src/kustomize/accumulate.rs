//! The pipeline of one folder, and the recursion into bases and components.

use super::config::{self, Config, merge_shared};
use super::decode::Mode;
use super::error::{BuildError, ErrorKind, Origin, Warning};
use super::fieldspec::FieldSpec;
use super::file::{File, Var};
use super::generate::What;
use super::load::{Files, Found, refuse_remote, remote};
use super::names::{Affix, NamespaceArgs, Subjects};
use super::provenance::{Provenance, clean_path};
use super::res::Objects;
use super::scope::scope_known;
use super::smp_schema::Schemas;
use super::{Options, generate, images, labels, names, patch, replicas};
use driftless_yaml::Node;
use std::sync::Arc;

pub(crate) type Result<T> = std::result::Result<T, BuildError>;

/// What a folder amounts to, before the steps that only the root does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accumulated {
    pub(crate) objects: Objects,
    /// `None` while nothing has been merged in.
    pub(crate) config: Option<Arc<Config>>,
    pub(crate) vars: Vec<Var>,
}

impl Accumulated {
    /// Nothing yet.
    pub(crate) fn new(limits: &super::Limits) -> Self {
        Self { objects: Objects::new(limits.made_bytes), config: None, vars: Vec::new() }
    }

    fn merge_config(&mut self, config: &Arc<Config>, place: &Origin) -> Result<()> {
        // The first one is merged too, with nothing: among the specs of one field a special one then swallows the
        // general ones that are sorted behind it.
        self.config = Some(match &self.config {
            None => merge_shared(&Arc::default(), config, place)?,
            Some(own) => merge_shared(own, config, place)?,
        });
        Ok(())
    }

    fn merge(&mut self, other: Self, place: &Origin) -> Result<()> {
        self.objects.extend(other.objects)?;
        if let Some(config) = &other.config {
            self.merge_config(config, place)?;
        }
        for var in other.vars {
            super::vars::add(&mut self.vars, var)?;
        }
        Ok(())
    }
}

/// One build.
pub(crate) struct Build<'a> {
    pub(crate) files: Files<'a>,
    pub(crate) options: &'a Options,
    pub(crate) warnings: Vec<Warning>,
    /// The folders being built, outermost first, with the line that led to each.
    pub(crate) chain: Vec<(String, Origin)>,
    /// When `buildMetadata` asks for anything: the way from the root to the folder being built, as written.
    pub(crate) tracking: Option<String>,
    /// What strategic merges go by.
    pub(crate) schemas: Schemas,
}

impl Build<'_> {
    /// Reads the kustomization file of a folder.
    pub(crate) fn file(&self, place: &Origin, dir: &str, mode: Mode) -> Result<Option<Arc<File>>> {
        let Some(path) = self.files.kustomization(place, dir)? else { return Ok(None) };
        self.files.decoded(place, &path, mode).map(Some)
    }

    /// Runs `body` with the way one step further down.
    pub(crate) fn below<T>(
        &mut self,
        path: &str,
        full: &str,
        place: &Origin,
        body: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = self.tracking.clone();
        if let Some(way) = &before {
            self.tracking = Some(clean_path(way, path));
        }
        self.chain.push((full.to_owned(), place.clone()));
        let done = body(self);
        self.chain.pop();
        self.tracking = before;
        done
    }

    /// Builds a folder onto what is there: nothing for a base, the parent's objects for a component.
    pub(crate) fn folder(&mut self, dir: &str, file: &File, onto: Accumulated) -> Result<Accumulated> {
        self.warnings.extend(file.warnings.iter().cloned());
        if file.helm_line > 0 {
            return Err(BuildError::new(
                ErrorKind::Refused,
                file.at(file.helm_line),
                "helmCharts: kustomize would run the helm program; rendering runs none",
            )
            .help("declare the chart as a Flux HelmRelease, or commit what `helm template` prints"));
        }
        self.schema(dir, file)?;
        let mut acc = onto;
        for item in &file.resources {
            self.resource(dir, file, &item.value, &file.at(item.line), &mut acc)?;
        }
        let config = self.configuration(dir, file)?;
        acc.merge_config(&config, &file.at(0))?;
        self.definitions(dir, file, &mut acc)?;
        self.generators(dir, file, &mut acc)?;
        for item in &file.components {
            acc = self.component(dir, &item.value, &file.at(item.line), acc)?;
        }
        let done = self.transformers(dir, file, &mut acc).and_then(|()| self.validators(dir, file, &mut acc));
        done.map_err(|error| super::secrets::hide(&acc.objects, error))?;
        for var in &file.vars {
            super::vars::note(&mut acc.objects, var)?;
            super::vars::add(&mut acc.vars, var.clone())?;
        }
        let limit = self.files.limits().objects;
        if acc.objects.len() > limit {
            return Err(BuildError::new(ErrorKind::Limit, file.at(0), format!("more than {limit} objects")));
        }
        Ok(acc)
    }

    /// Adds what one entry of `resources` (or a path among `transformers`) names.
    pub(crate) fn resource(
        &mut self,
        dir: &str,
        file: &File,
        path: &str,
        place: &Origin,
        acc: &mut Accumulated,
    ) -> Result<()> {
        if path.is_empty() {
            return Err(BuildError::new(ErrorKind::Field, place.clone(), "resources: an entry is empty"));
        }
        let found = match path.contains("://") {
            true => Found::Nothing,
            false => self.files.locate(place, &self.files.inside(place, "resources", dir, path)?)?,
        };
        match found {
            Found::File(full) => {
                let provenance = self.tracking.as_ref().map(|way| Arc::new(Provenance::of_file(clean_path(way, path))));
                self.files.objects_in(place, &full, false)?.each(|mut res| {
                    res.provenance.clone_from(&provenance);
                    let id = res.id_ref();
                    if !scope_known(id.api, id.kind) {
                        self.schemas.need();
                    }
                    acc.objects.push(res)
                })
            }
            Found::Folder(full) => {
                let sub = self.sub(&full, "resources", path, place, false)?;
                let built = self.base(&full, &sub, path, place)?;
                acc.merge(built, &file.at(place.line))
            }
            Found::Nothing if remote(path) => Err(refuse_remote(place.clone(), "resources", path)),
            Found::Nothing => Err(self.files.missing(place, "resources", dir, path)?),
        }
    }

    fn component(&mut self, dir: &str, path: &str, place: &Origin, onto: Accumulated) -> Result<Accumulated> {
        if path.is_empty() {
            return Err(BuildError::new(ErrorKind::Field, place.clone(), "components: an entry is empty"));
        }
        let found = match path.contains("://") {
            true => Found::Nothing,
            false => self.files.locate(place, &self.files.inside(place, "components", dir, path)?)?,
        };
        match found {
            Found::Folder(full) => {
                let sub = self.sub(&full, "components", path, place, true)?;
                let mut built = self.below(path, &full, place, |b| b.folder(&full, &sub, onto))?;
                // The real program begins anew with what a component leaves: specs that contradict one another once
                // they are sorted are found only now.
                if let Some(config) = built.config.take() {
                    built.merge_config(&config, place)?;
                }
                Ok(built)
            }
            Found::File(_) => Err(BuildError::new(
                ErrorKind::Missing,
                place.clone(),
                format!("components: {path:?} is a file; a component is a folder"),
            )),
            Found::Nothing if remote(path) => Err(refuse_remote(place.clone(), "components", path)),
            Found::Nothing => Err(self.files.missing(place, "components", dir, path)?),
        }
    }

    /// Where in the chain of folders that are being built one stands that this folder is, or holds.
    pub(crate) fn circle(&self, full: &str) -> Option<usize> {
        let contains = |outer: &str, inner: &str| {
            outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|r| r.starts_with('/'))
        };
        self.chain.iter().position(|(dir, _)| contains(full, dir))
    }

    /// The kustomization file of a folder that another one names.
    fn sub(&self, full: &str, what: &str, path: &str, place: &Origin, component: bool) -> Result<Arc<File>> {
        if let Some(at) = self.circle(full) {
            let steps: Vec<&str> = self.chain[at..].iter().map(|(dir, _)| dir.as_str()).chain([full]).collect();
            let shown: Vec<&str> = steps.iter().map(|s| if s.is_empty() { "." } else { s }).collect();
            let why =
                if self.chain[at].0 == full { "is being built already" } else { "holds a folder that is being built" };
            return Err(BuildError::new(
                ErrorKind::Target,
                place.clone(),
                format!("{what}: {path:?} {why}, so this would never end: {}", shown.join(" -> ")),
            ));
        }
        let limit = self.files.limits().base_depth;
        self.files.enter(full, self.chain.len());
        if self.chain.len() > limit {
            return Err(BuildError::new(
                ErrorKind::Limit,
                place.clone(),
                format!("{what}: bases are nested deeper than {limit}"),
            ));
        }
        let Some(file) = self.file(place, full, Mode::Strict)? else {
            return Err(BuildError::new(
                ErrorKind::Missing,
                place.clone(),
                format!("{what}: the folder {path:?} has no kustomization file"),
            )
            .help("add a kustomization.yaml there, or list the files one by one"));
        };
        if component != file.component {
            let (is, field) = match file.component {
                true => ("a Component", "components"),
                false => ("no Component", "resources"),
            };
            return Err(BuildError::new(ErrorKind::Field, place.clone(), format!("{what}: {path:?} is {is}"))
                .help(format!("list it under {field}")));
        }
        Ok(file)
    }

    /// Takes the schema that `openapi` names, unless a folder further out has set one.
    fn schema(&mut self, dir: &str, file: &File) -> Result<()> {
        let Some(openapi) = &file.openapi else { return Ok(()) };
        let place = file.at(openapi.line);
        let (path, version) = &openapi.value;
        let loaded = match path {
            Some(path) => Some(self.files.load(&place, "openapi", dir, path)?),
            None => None,
        };
        if self.schemas.fixed {
            return Ok(());
        }
        let error = |attempt: String| BuildError::new(ErrorKind::Field, place.clone(), attempt);
        match (loaded, version.as_deref()) {
            (Some(_), Some(_)) => Err(error("openapi has both a path and a version".to_owned())),
            (Some((path, bytes)), None) => {
                let document = self.files.document(&path, &bytes)?;
                if document.at(&["paths"]).and_then(Node::as_map).is_some_and(|m| !m.is_empty()) {
                    self.warnings.push(Warning {
                        place: Origin::new(path, 0),
                        message: "openapi: which kinds are cluster-scoped is not taken from `paths`".to_owned(),
                    });
                }
                self.schemas.set(document);
                Ok(())
            }
            (None, Some("v1.21.2")) => {
                self.schemas.fixed = true;
                Ok(())
            }
            (None, Some(other)) => Err(error(format!("openapi.version {other:?} is not built in; only v1.21.2 is"))),
            (None, None) => Ok(()),
        }
    }

    /// The field specs that the file's transformers go by: the defaults, and its own.
    fn configuration(&self, dir: &str, file: &File) -> Result<Arc<Config>> {
        let mut own: Option<Config> = None;
        for item in &file.configurations {
            let place = file.at(item.line);
            let (path, bytes) = self.files.load(&place, "configurations", dir, &item.value)?;
            let read = Config::decode(&path, &self.files.document(&path, &bytes)?)?;
            let merged = own.unwrap_or_default().merge(&read);
            own = Some(merged.map_err(|why| {
                BuildError::new(ErrorKind::Conflict, Origin::new(path, 0), format!("configurations: {why}"))
            })?);
        }
        match own {
            None => Ok(config::default_config()),
            Some(own) => merge_shared(&config::default_config(), &Arc::new(own), &file.at(0)),
        }
    }

    /// What the definitions of `crds` add to that.
    fn definitions(&self, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
        let mut own: Option<Config> = None;
        for item in &file.crds {
            let place = file.at(item.line);
            let (path, bytes) = self.files.load(&place, "crds", dir, &item.value)?;
            let read = super::crds::config(&path, &self.files.document(&path, &bytes)?)?;
            let merged = own.unwrap_or_default().merge(&read);
            own =
                Some(merged.map_err(|why| {
                    BuildError::new(ErrorKind::Conflict, Origin::new(path, 0), format!("crds: {why}"))
                })?);
        }
        match own {
            None => Ok(()),
            Some(own) => acc.merge_config(&Arc::new(own), &file.at(0)),
        }
    }

    fn generators(&mut self, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
        for (what, list) in [(What::ConfigMap, &file.config_maps), (What::Secret, &file.secrets)] {
            for args in list {
                let place = file.at(args.line);
                let mut res =
                    generate::generate(&self.files, dir, &place, what, args, file.generator_options.as_ref())?;
                res.provenance = self.builtin(file, what.builtin());
                generate::absorb(&mut acc.objects, res)?;
            }
        }
        super::plugin::generators(self, dir, file, acc)
    }

    /// What the real program notes for a transformer or generator of the file.
    fn builtin(&self, file: &File, kind: &'static str) -> Option<Arc<Provenance>> {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        self.tracking.as_ref().map(|way| Arc::new(Provenance::of_builtin(clean_path(way, name), kind)))
    }

    /// Notes a transformer on every object.
    fn seen(&self, file: &File, kind: &'static str, objects: &mut Objects) {
        if let Some(provenance) = self.builtin(file, kind) {
            super::provenance::note(objects, &provenance);
        }
    }

    fn transformers(&mut self, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
        let config = acc.config.clone().unwrap_or_else(config::default_config);
        let objects = &mut acc.objects;
        if !file.patches_strategic_merge.is_empty() {
            for patch in patch::strategic_merges(&self.files, dir, file)? {
                patch::transform_legacy_merge(objects, &patch, &self.schemas)?;
            }
            self.seen(file, "PatchStrategicMergeTransformer", objects);
        }
        for entry in &file.patches {
            let ready = patch::read(&self.files, dir, entry)?;
            self.schemas.need();
            patch::transform(objects, &ready, &self.schemas)?;
            self.seen(file, "PatchTransformer", objects);
        }
        if !file.namespace.value.is_empty() {
            let args = NamespaceArgs {
                namespace: file.namespace.value.as_str().into(),
                specs: &config.namespace,
                unset_only: false,
                subjects: Subjects::NamedDefault,
            };
            names::set_namespace(objects, &args)?;
            self.seen(file, "NamespaceTransformer", objects);
        }
        for (which, text, specs, what, kind) in [
            (Affix::Prefix, &file.name_prefix, &config.name_prefix, "namePrefix", "PrefixTransformer"),
            (Affix::Suffix, &file.name_suffix, &config.name_suffix, "nameSuffix", "SuffixTransformer"),
        ] {
            if !text.value.is_empty() {
                names::affix(objects, which, &text.value.as_str().into(), specs)
                    .map_err(|e| transform_error(objects, &file.at(text.line), what, e))?;
                self.seen(file, kind, objects);
            }
        }
        self.labels(file, &config, objects)?;
        if !file.common_annotations.is_empty() {
            labels::add_pairs(objects, &file.common_annotations, &config.common_annotations).map_err(|e| {
                transform_error(objects, &file.at(file.common_annotations_line), "commonAnnotations", e)
            })?;
            self.seen(file, "AnnotationsTransformer", objects);
        }
        for entry in &file.patches_json6902 {
            let ready = patch::read_json6902(&self.files, dir, entry)?;
            patch::transform_json6902(objects, &ready)?;
            self.seen(file, "PatchJson6902Transformer", objects);
        }
        for entry in &file.replicas {
            let (name, count) = &entry.value;
            let place = file.at(entry.line);
            let found = replicas::set_replicas(objects, name, *count, &config.replicas)
                .map_err(|e| transform_error(objects, &place, "replicas", e))?;
            if !found {
                let kinds = "Deployment, ReplicaSet, StatefulSet or ReplicationController";
                let attempt = format!("replicas: no {kinds} is named {name:?}");
                return Err(BuildError::new(ErrorKind::Target, place, attempt));
            }
            self.seen(file, "ReplicaCountTransformer", objects);
        }
        let entries: Vec<&super::Image> = file.images.iter().map(|entry| &entry.value).collect();
        images::set_images(objects, &entries, &config.images).map_err(|(entry, at, why)| {
            let line = file.images.get(entry).map_or(0, |entry| entry.line);
            transform_error(objects, &file.at(line), "images", (at, why))
        })?;
        for _ in &entries {
            self.seen(file, "ImageTagTransformer", objects);
        }
        if !file.replacements.is_empty() {
            super::replace::transform(&self.files, dir, file, objects)?;
            self.seen(file, "ReplacementTransformer", objects);
        }
        super::plugin::transformers(self, dir, file, acc)
    }

    fn labels(&self, file: &File, config: &Config, objects: &mut Objects) -> Result<()> {
        for label in &file.labels {
            let place = file.at(label.line);
            let mut specs = label.fields.clone();
            let merged = config::merge_specs(&mut specs, &config.labels).and_then(|()| {
                if label.include_selectors {
                    return config::merge_specs(&mut specs, &config.common_labels);
                }
                if label.include_templates {
                    config::merge_specs(&mut specs, &config.template_labels)?;
                }
                let own = FieldSpec { path: "metadata/labels".into(), create: true, ..FieldSpec::default() };
                config::merge_spec(&mut specs, &own)
            });
            merged.map_err(|why| BuildError::new(ErrorKind::Conflict, place.clone(), format!("labels: {why}")))?;
            labels::add_pairs(objects, &label.pairs, &specs)
                .map_err(|e| transform_error(objects, &place, "labels", e))?;
            self.seen(file, "LabelTransformer", objects);
        }
        if !file.common_labels.is_empty() {
            labels::add_pairs(objects, &file.common_labels, &config.common_labels)
                .map_err(|e| transform_error(objects, &file.at(file.common_labels_line), "commonLabels", e))?;
        }
        if !file.labels.is_empty() || !file.common_labels.is_empty() {
            self.seen(file, "LabelTransformer", objects);
        }
        Ok(())
    }

    fn validators(&mut self, dir: &str, file: &File, acc: &mut Accumulated) -> Result<()> {
        super::plugin::validators(self, dir, file, acc)
    }
}

/// A transformer's failure, with the object it happened on.
pub(crate) fn transform_error(objects: &Objects, place: &Origin, what: &str, (at, why): (usize, String)) -> BuildError {
    let object = match objects.iter().nth(at) {
        Some(res) => format!(" on {} ({})", res.id(), res.origin),
        None => String::new(),
    };
    BuildError::new(super::res::kind_of(&why, ErrorKind::Field), place.clone(), format!("{what}{object}: {why}"))
}
