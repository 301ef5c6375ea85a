//! Every object against the schema of its kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::crds::Definition;
use super::schema::Schemas;
use super::versions::{self, Lifecycle};
use super::walk::{Flaw, Step, Walk, shown};
use super::{Cluster, Trees, Unchecked, UncheckedBy, names};
use crate::flux::{Place, PlaceStep, RenderedCluster, RenderedObject, RenderedUnit};
use crate::kustomize::Memo;
use crate::report::{Code, Problem};
use driftless_protocol::id::Digest;
use driftless_protocol::object::group_of;

/// Definitions by group and kind.
type Definitions = BTreeMap<(String, String), Arc<Definition>>;

pub(super) struct Checker<'a> {
    /// In files of the repository; of several for one kind, the first.
    in_files: Definitions,
    /// As rendered, by their bytes: clusters share them.
    rendered: HashMap<Digest, Arc<Definition>>,
    trees: &'a Trees<'a>,
    /// Flaws of objects already checked, by the object's bytes and the schemas used: clusters share objects.
    flaws: HashMap<(Digest, usize), Arc<[Flaw]>>,
    unchecked: UncheckedBy,
}

/// Where the schema of an object comes from.
enum Source<'a> {
    Kubernetes(&'a Schemas),
    Definition(&'a Definition),
}

impl<'a> Checker<'a> {
    pub(super) fn new(definitions: &[Arc<Definition>], trees: &'a Trees<'a>) -> Self {
        let mut in_files = Definitions::new();
        for definition in definitions {
            in_files.entry(key_of(definition)).or_insert_with(|| definition.clone());
        }
        Self { in_files, rendered: HashMap::new(), trees, flaws: HashMap::new(), unchecked: UncheckedBy::new() }
    }

    pub(super) fn unchecked(self) -> Vec<Unchecked> {
        self.unchecked.into_values().collect()
    }

    /// Checks a cluster's objects. Gives how many there are, and how many could be checked.
    pub(super) fn cluster(&mut self, cluster: &Cluster<'_>, say: &mut dyn FnMut(Problem)) -> (usize, usize) {
        let own = self.definitions_of(cluster.rendered);
        let (mut objects, mut checked) = (0, 0);
        for (unit, object) in cluster.rendered.objects() {
            objects += 1;
            let version = version(unit, object, cluster.schemas);
            let told = version.is_some();
            version.into_iter().for_each(&mut *say);
            if self.object(cluster, unit, object, &own, told, say) {
                checked += 1;
            }
        }
        (objects, checked)
    }

    /// The definitions that a cluster's own objects are.
    fn definitions_of(&mut self, rendered: &RenderedCluster) -> Definitions {
        let mut out = Definitions::new();
        for (_, object) in rendered.definitions() {
            let definition = match self.rendered.get(&object.digest) {
                Some(known) => known.clone(),
                None => {
                    let Ok(value) = serde_json::from_slice(&object.bytes) else { continue };
                    let new = Arc::new(Definition::new(object.origin.clone(), value));
                    self.rendered.insert(object.digest, new.clone());
                    new
                }
            };
            out.insert(key_of(&definition), definition);
        }
        out
    }

    fn object(
        &mut self,
        cluster: &Cluster<'_>,
        unit: &RenderedUnit,
        object: &RenderedObject,
        own: &Definitions,
        told: bool,
        say: &mut dyn FnMut(Problem),
    ) -> bool {
        let key = (object.key.group.to_string(), object.key.kind.to_string());
        let definition = own.get(&key).or_else(|| self.in_files.get(&key)).cloned();
        let source = match &definition {
            _ if cluster.schemas.kind(&object.api_version, &object.key.kind).is_some() => {
                Source::Kubernetes(cluster.schemas)
            }
            Some(definition) => Source::Definition(definition),
            None => {
                if !told {
                    self.note(cluster, object);
                }
                return false;
            }
        };
        let schemas = match source {
            Source::Kubernetes(schemas) => schemas,
            Source::Definition(definition) => match definition.schemas() {
                Ok(schemas) => schemas,
                Err(reason) => {
                    let message = format!(
                        "the schema of CustomResourceDefinition {} cannot be used: {reason}; {} {} is not checked",
                        definition.name(),
                        object.api_version,
                        object.key.kind
                    );
                    say(Problem::new(Code::SchemaUnusable, &unit.id, Some(definition.at.clone()), message));
                    self.note(cluster, object);
                    return false;
                }
            },
        };
        let Some(kind) = schemas.kind(&object.api_version, &object.key.kind).filter(|k| !k.off || !is_custom(&source))
        else {
            if let Source::Definition(definition) = source {
                say(wrong_version(unit, object, schemas, definition));
            }
            return false;
        };
        let root = kind.root;
        let memory = (object.digest, std::ptr::from_ref(schemas) as usize);
        let flaws = match self.flaws.get(&memory) {
            Some(known) => known.clone(),
            None => {
                let found: Arc<[Flaw]> = flaws_of(object, schemas, root, cluster.schemas).into();
                self.flaws.insert(memory, found.clone());
                found
            }
        };
        for flaw in flaws.iter() {
            say(self.problem(unit, object, flaw));
        }
        true
    }

    fn note(&mut self, cluster: &Cluster<'_>, object: &RenderedObject) {
        let entry = self.unchecked.entry((object.api_version.clone(), object.key.kind.to_string()));
        let unchecked = entry.or_insert_with(|| Unchecked {
            api_version: object.api_version.clone(),
            kind: object.key.kind.to_string(),
            objects: 0,
            clusters: Default::default(),
            first: object.origin.clone(),
        });
        unchecked.objects += 1;
        unchecked.clusters.insert(cluster.name.clone());
    }

    fn problem(&self, unit: &RenderedUnit, object: &RenderedObject, flaw: &Flaw) -> Problem {
        let place = match (self.trees)(&object.origin.source) {
            Some(tree) => Place::new(object.origin.clone(), tree, &Memo::default()),
            None => Place::closed(object.origin.clone()),
        };
        let steps: Vec<PlaceStep<'_>> = flaw
            .path
            .iter()
            .map(|step| match step {
                Step::Key(key) => PlaceStep::Key(key),
                Step::At(index) => PlaceStep::At(*index),
            })
            .collect();
        let at = place.field(&steps);
        let mut message = format!("{}: {}: {}", object.key, shown(&flaw.path), flaw.message);
        if flaw.unquoted {
            let secret = object.key.is_secret();
            message = format!("{message}; {}", place.advice(&steps, !secret));
        }
        Problem::new(flaw.code, &unit.id, Some(at), message)
    }
}

fn is_custom(source: &Source<'_>) -> bool {
    matches!(source, Source::Definition(_))
}

fn key_of(definition: &Definition) -> (String, String) {
    let (group, kind) = definition.defines();
    (group.to_owned(), kind.to_owned())
}

fn flaws_of(object: &RenderedObject, schemas: &Schemas, root: usize, kubernetes: &Schemas) -> Vec<Flaw> {
    let Some((mut value, holes)) = crate::check::value_of(object) else {
        // Never passed over in silence.
        let message = "is not read: it is neither JSON nor YAML".to_owned();
        return vec![Flaw::new(Code::SchemaValue, Vec::new(), message)];
    };
    if let Err(reason) = super::defaults::complete(schemas, root, &mut value) {
        return vec![Flaw::new(Code::SchemaUnusable, Vec::new(), format!("is not checked: {reason}"))];
    }
    let mut walk = Walk::new(schemas, holes).of(&object.key);
    walk.check(root, &value);
    let mut flaws = walk.flaws;
    let wrong = [
        ("name", names::name(&object.key, versions::minor(&kubernetes.version))),
        ("namespace", names::namespace(&object.key.namespace)),
    ];
    for (field, message) in wrong.into_iter().filter_map(|(field, message)| Some((field, message?))) {
        let path = vec![Step::Key("metadata".to_owned()), Step::Key(field.to_owned())];
        flaws.push(Flaw::new(Code::SchemaValue, path, message));
    }
    // Metadata of custom objects is Kubernetes' own.
    if !std::ptr::eq(schemas, kubernetes)
        && let (Some(id), Some(metadata)) = (kubernetes.metadata(), value.get("metadata"))
    {
        let mut walk = Walk::new(kubernetes, holes).of(&object.key).below("metadata");
        walk.check(id, metadata);
        flaws.extend(walk.flaws);
    }
    flaws
}

/// What is to be said of the version an object of Kubernetes' own kinds is written in.
fn version(unit: &RenderedUnit, object: &RenderedObject, schemas: &Schemas) -> Option<Problem> {
    let (api_version, kind, group) = (&object.api_version, &object.key.kind, &object.key.group);
    debug_assert!(group == group_of(api_version));
    let say = |code, message: String| Some(Problem::new(code, &unit.id, Some(object.origin.clone()), message));
    let minor = versions::minor(&schemas.version)?;
    let known = schemas.kind(api_version, kind);
    match versions::lifecycle(api_version, kind, minor) {
        // The table and the server must agree; the server has the last word.
        Some(Lifecycle::Removed(since, instead)) if known.is_none() => {
            return say(
                Code::VersionNotServed,
                format!(
                    "{}: {api_version} of {kind} is not served since Kubernetes 1.{since}; use {instead}",
                    object.key
                ),
            );
        }
        Some(Lifecycle::Deprecated(until, instead)) if known.is_some() => {
            return say(
                Code::VersionDeprecated,
                format!(
                    "{}: {api_version} of {kind} is deprecated, and not served from Kubernetes 1.{until} on; use {instead}",
                    object.key
                ),
            );
        }
        _ => {}
    }
    match known {
        Some(known) if known.off => say(
            Code::VersionOffByDefault,
            format!("{}: Kubernetes 1.{minor} serves {api_version} of {kind} only where it is switched on", object.key),
        ),
        Some(_) => None,
        None if schemas.has_group(group) => {
            let served: Vec<&str> = schemas.versions(group, kind).map(|(version, _)| version).collect();
            let message = match served.as_slice() {
                [] => format!(
                    "{}: Kubernetes 1.{minor} serves no kind {kind} of {api_version} that can be applied",
                    object.key
                ),
                _ => format!(
                    "{}: Kubernetes 1.{minor} does not serve {api_version} of {kind}; use {}",
                    object.key,
                    served.join(" or ")
                ),
            };
            say(Code::VersionNotServed, message)
        }
        None => None,
    }
}

/// An object in a version that the definition of its kind does not have.
fn wrong_version(unit: &RenderedUnit, object: &RenderedObject, schemas: &Schemas, definition: &Definition) -> Problem {
    let served: Vec<&str> =
        schemas.versions(&object.key.group, &object.key.kind).filter(|(_, k)| !k.off).map(|(v, _)| v).collect();
    let message = format!(
        "{}: CustomResourceDefinition {} ({}) does not serve {}; it serves {}",
        object.key,
        definition.name(),
        definition.at,
        object.api_version,
        if served.is_empty() { "no version".to_owned() } else { served.join(", ") }
    );
    Problem::new(Code::VersionNotServed, &unit.id, Some(object.origin.clone()), message)
}
