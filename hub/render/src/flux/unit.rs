//! One unit's build: kustomize, substitution, metadata, bytes. A pure function of its inputs and of the files it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::Late;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::{ObjectKey, group_of};
use driftless_protocol::{limits, marks};
use driftless_yaml::Node;

use super::child::{self, Above, OpenChild};
use super::encrypted;
use super::fields::Note;
use super::ignore::{Rules, Visible};
use super::options;
use super::reads::RecordingTree;
use super::rendered::{ReadSet, RenderedObject, WithheldObject};
use super::spec::{self, Kustomization};
use super::substitute::{self, Open, Substituted, Variables};
use super::variables::{Known, data_of};
use super::{failed, generator, path, source};
use crate::kustomize::{self, BuildError, Built, ErrorKind, Options, Origin, Resource};
use crate::report::Code;
use crate::target::Location;
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// What a unit's build depends on besides files.
pub(crate) struct UnitInputs<'a> {
    pub(crate) kustomization: &'a Kustomization,
    /// Id of the source that holds the path.
    pub(crate) source: &'a str,
    pub(crate) tree: Arc<dyn Tree>,
    /// The tree is the root's own, under whichever name.
    pub(crate) is_root: bool,
    /// Variables; `None` when some are out of reach: the build is then made without substitution, to learn what is in it.
    pub(crate) variables: Option<&'a Variables>,
    /// What the source excludes.
    pub(crate) rules: &'a Rules,
    /// What stands in for empty bootstrap files in `tree`; nothing for most units.
    pub(crate) filled: Option<ContentId>,
    /// A variable without value and default is an error (Flux's default).
    pub(crate) strict: bool,
    /// Files parsed before: makes it faster and changes nothing.
    pub(crate) memo: &'a kustomize::Memo,
}

/// What came of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitOutput {
    /// Why there is nothing, when the build failed.
    pub(crate) failed: Option<Note>,
    pub(crate) items: Vec<Item>,
    pub(crate) notes: Vec<Note>,
    /// ConfigMaps and Secrets in it.
    pub(crate) produced: Vec<(bool, ObjectKey, Known, Location)>,
    /// Sources that handed-through objects refer to: kind, `namespace/name`.
    pub(crate) references: Vec<(String, String)>,
    /// Flux's own controllers and instances, for their flags.
    pub(crate) controllers: Vec<(Node, Location)>,
    pub(crate) reads: Arc<ReadSet>,
    /// Names of the variables that substitution asked for, set or not.
    pub(crate) variables: BTreeSet<String>,
    /// Objects before any were left out.
    pub(crate) total: usize,
    /// What the agent needs to finish the objects that have holes.
    pub(crate) late: Option<Late>,
    /// Variables in its texts whose value only the cluster can give.
    pub(crate) open: BTreeSet<String>,
    /// It defines a Kustomization whose name only the cluster can tell.
    pub(crate) unknown_child: bool,
}

/// One object of a build.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// To be applied.
    Object(RenderedObject),
    /// Not sent.
    Withheld(WithheldObject),
    /// A Kustomization: a unit of its own. `open`: what becomes of it, when it has holes.
    Child { id: UnitId, node: Node, at: Location, open: Option<OpenChild> },
    /// A source object; its bytes are sent only when a handed-through object refers to it. `open`: why it cannot be read,
    /// when it has holes.
    Source { kind: String, id: String, node: Node, at: Location, object: Box<Item>, open: Option<String> },
}

/// Builds a unit. Whatever goes wrong is in the output.
pub(crate) fn build(inputs: &UnitInputs<'_>) -> UnitOutput {
    let recording = Arc::new(RecordingTree::new(inputs.tree.clone()));
    let mut output = UnitOutput::default();
    let visible = Visible::new(recording.clone(), inputs.rules);
    match kustomized(inputs, &visible) {
        Ok((built, folder)) => finish(inputs, built, &folder, &mut output),
        Err(note) => output.failed = Some(note),
    }
    if output.failed.is_some()
        && let Ok(Some(folder)) = folder(&visible, &inputs.kustomization.path)
    {
        failed::look_around(&visible, &folder);
    }
    // source-controller leaves links out of its archives, so Flux builds as if they were not there.
    for link in recording.take_followed() {
        let message =
            "this symbolic link is followed; Flux leaves links out of what it builds from, and sees nothing here"
                .to_owned();
        output.notes.push(Note { code: Code::BuildWarning, at: located(inputs, &Origin::new(link, 0)), message });
    }
    let mut reads = ReadSet::default();
    recording.drain_into(inputs.source, &mut reads);
    // Files that were put together from other sources were read there.
    let elsewhere: Vec<_> = reads
        .sources
        .values()
        .flatten()
        .filter_map(|(path, seen)| inputs.tree.origin(path).map(|(source, path)| (source, path, *seen)))
        .collect();
    for (source, path, seen) in elsewhere {
        reads.sources.entry(source).or_default().insert(path.into(), seen);
    }
    output.reads = Arc::new(reads);
    output
}

/// The folder a unit's path names, links followed.
fn kustomized(inputs: &UnitInputs<'_>, tree: &dyn Tree) -> Result<(Built, String), Note> {
    let unit = inputs.kustomization;
    let missing = |message: String| Note { code: Code::PathNotFound, at: unit.path_at.clone(), message };
    let folder = match folder(tree, &unit.path) {
        Ok(Some(folder)) => folder,
        Ok(None) => {
            return Err(missing(format!(
                "path {:?} of unit {} is no folder in source {}; the unit keeps what it has in the cluster; \
                 restore the folder, or delete the Kustomization to remove its objects",
                unit.path, unit.id, inputs.source
            )));
        }
        Err(error) => return Err(missing(format!("path {:?} of unit {}: {error}", unit.path, unit.id))),
    };
    let options = Options { overlay: unit.overlay.clone(), memo: inputs.memo.clone(), ..Options::default() };
    let failed = |error: BuildError| note_of(&error, inputs, &folder);
    let mut has_file = false;
    for name in kustomize::FILE_NAMES {
        let entry = tree.entry(&path::join(&folder, name)).map_err(|error| tree_note(&error, inputs))?;
        has_file |= matches!(entry, Some(Entry::File { .. } | Entry::Link { .. }));
    }
    if has_file {
        return kustomize::build(tree, &folder, &options).map(|built| (built, folder.clone())).map_err(failed);
    }
    // Flux's artifacts have no links, so none is found by walking a folder.
    let is_link = |path: &str, _: bool| matches!(tree.entry(path), Ok(Some(Entry::Link { .. })));
    let generated = kustomize::generate(tree, &folder, &is_link, &options).map_err(failed)?;
    if generated.resources.is_empty() {
        return Err(Note {
            code: Code::EmptyRender,
            at: unit.path_at.clone(),
            message: format!(
                "path {:?} of unit {} holds no manifest; nothing is deleted for that: the unit keeps what it has; delete the \
                 Kustomization to remove its objects, or add a kustomization.yaml with `resources: []` if it should be empty",
                unit.path, unit.id
            ),
        });
    }
    kustomize::build_generated(tree, &folder, &generated, &options).map(|built| (built, folder.clone())).map_err(failed)
}

/// Follows links in a path, which never lead out of the tree. `None`: nothing there, or no folder.
pub(crate) fn folder(tree: &dyn Tree, wanted: &str) -> Result<Option<String>, TreeError> {
    let mut wanted = wanted.to_owned();
    // As many links as an operating system follows.
    for _ in 0..40 {
        let mut prefix = String::new();
        let mut moved = None;
        let segments: Vec<&str> = wanted.split('/').filter(|s| !s.is_empty()).collect();
        for (index, segment) in segments.iter().enumerate() {
            let here = path::join(&prefix, segment);
            match tree.entry(&here)? {
                Some(Entry::Folder { .. }) => prefix = here,
                Some(Entry::Link { .. }) => {
                    let Some(bytes) = tree.read(&here)? else { return Ok(None) };
                    let Ok(target) = std::str::from_utf8(&bytes) else { return Ok(None) };
                    let rest = segments[index + 1..].join("/");
                    // As Flux does for `spec.path`: the top of the source is the top of the world.
                    let from = if target.starts_with('/') { "" } else { prefix.as_str() };
                    moved = Some(path::clamped(&format!("{from}/{target}/{rest}")));
                    break;
                }
                _ => return Ok(None),
            }
        }
        match moved {
            Some(next) => wanted = next,
            None => return Ok(Some(prefix)),
        }
    }
    Ok(None)
}

fn note_of(error: &BuildError, inputs: &UnitInputs<'_>, folder: &str) -> Note {
    let message = match &error.help {
        Some(help) => format!("cannot build {folder:?}: {} ({help})", error.attempt),
        None => format!("cannot build {folder:?}: {}", error.attempt),
    };
    let code = if error.kind == ErrorKind::Tree { Code::SourceNotReady } else { Code::BuildFailed };
    Note { code, at: located(inputs, &error.place), message }
}

fn tree_note(error: &TreeError, inputs: &UnitInputs<'_>) -> Note {
    let unit = inputs.kustomization;
    let message = format!("cannot read source {} for unit {}: {error}", inputs.source, unit.id);
    Note { code: Code::SourceNotReady, at: unit.path_at.clone(), message }
}

/// Where something is written: in a file of this source, or of the one that the file was taken from.
fn located(inputs: &UnitInputs<'_>, origin: &Origin) -> Location {
    match inputs.tree.origin(&origin.file) {
        Some((source, file)) => Location { source, file: file.into(), line: origin.line },
        None => Location { source: inputs.source.into(), file: origin.file.clone(), line: origin.line },
    }
}

fn finish(inputs: &UnitInputs<'_>, built: Built, folder: &str, output: &mut UnitOutput) {
    let unit = inputs.kustomization;
    for warning in &built.warnings {
        let at = located(inputs, &warning.place);
        output.notes.push(Note { code: Code::BuildWarning, at, message: warning.message.clone() });
    }
    output.total = built.resources.len();
    if built.resources.is_empty() {
        let message = format!(
            "unit {} builds to nothing from {folder:?}: everything it applied before leaves Git with it (deletes beyond the budget wait for approval)",
            unit.id
        );
        output.notes.push(Note { code: Code::EmptyRender, at: unit.path_at.clone(), message });
    }
    // Names that carry a hash of encrypted content: Flux would hash the plain value, so the true name is not known here.
    let mut unknown_names: BTreeMap<String, ObjectKey> = BTreeMap::new();
    for resource in &built.resources {
        if resource.hashed_base_name.is_some()
            && encrypted::is_encrypted(&resource.node)
            && let Some(key) = key_of(&resource.node)
        {
            unknown_names.insert(key.name.to_string(), key);
        }
    }
    let mut asked = BTreeSet::new();
    for resource in built.resources {
        let at = located(inputs, &resource.origin);
        match item(inputs, resource, &at, &unknown_names, output, &mut asked) {
            Ok(Some(item)) => output.items.push(item),
            Ok(None) => {}
            Err(note) => {
                if output.failed.is_none() {
                    output.failed = Some(note);
                } else {
                    output.notes.push(note);
                }
            }
        }
    }
    output.late = inputs.variables.and_then(|variables| late(inputs, variables, &asked));
    if let Some(Err(beyond)) = output.late.as_ref().map(Late::check) {
        let message = format!(
            "where the cluster has a say in the variables of unit {}, it has {beyond}; name fewer in substituteFrom",
            unit.id
        );
        output.failed.get_or_insert(Note { code: Code::TooMany, at: unit.path_at.clone(), message });
    }
}

/// What the agent is told of a unit whose inputs only the cluster has. Of the values known here only those that objects with
/// holes ask for.
fn late(inputs: &UnitInputs<'_>, variables: &Variables, asked: &BTreeSet<String>) -> Option<Late> {
    if variables.late.is_empty() {
        return None;
    }
    let unit = inputs.kustomization;
    let text = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    Some(Late {
        inputs: child::asked_for(&variables.late, asked),
        always: variables.runs,
        strict: inputs.strict,
        labels: labels(unit, &unit.id.label().to_string()).map(text).collect(),
        annotations: unit.common_annotations.iter().cloned().collect(),
    })
}

/// The labels every object of a unit gets, those that win last.
fn labels<'a>(unit: &'a Kustomization, label: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let owner = [
        (marks::FLUX_OWNER_NAME, unit.id.name.as_str()),
        (marks::FLUX_OWNER_NAMESPACE, unit.id.namespace.as_str()),
        (marks::UNIT_LABEL, label),
    ];
    unit.common_labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain(owner)
}

fn item(
    inputs: &UnitInputs<'_>,
    resource: Resource,
    at: &Location,
    unknown_names: &BTreeMap<String, ObjectKey>,
    output: &mut UnitOutput,
    asked: &mut BTreeSet<String>,
) -> Result<Option<Item>, Note> {
    let unit = inputs.kustomization;
    let Resource { mut node, hashed_base_name, .. } = resource;
    let is_encrypted = encrypted::is_encrypted(&node);
    if !is_encrypted
        && let (Some(variables), Some(_)) = (inputs.variables, &unit.post_build)
        && !substitution_disabled(&node)
    {
        match substitute::object(node.clone(), variables, inputs.strict, at, &mut output.variables) {
            Ok(Substituted::Done(done)) => node = done,
            // Flux's own controllers and definitions are not sent: what stands in them holds nobody up.
            Err(note) if key_of(&node).is_some_and(|key| key.kind != "Namespace" && is_flux_component(&node, &key)) => {
                let message = format!("{}; it is part of Flux and not sent, so its unit goes on", note.message);
                output.notes.push(Note { code: Code::BuildWarning, at: note.at, message });
            }
            Err(note) => return Err(note),
            Ok(Substituted::Open(open)) => {
                let mut item = open_item(inputs, open, at, unknown_names, output, asked)?;
                if let Some(Item::Object(object)) = &mut item {
                    object.generated_name = hashed_base_name;
                }
                return Ok(item);
            }
        }
    }
    let Some(key) = key_of(&node) else {
        let message = format!("an object of unit {} has no apiVersion, kind or name; add what is missing", unit.id);
        return Err(Note { code: Code::Nameless, at: at.clone(), message });
    };
    if let Some(secret) = match (key.group.as_str(), key.kind.as_str()) {
        ("", "Secret") => Some(true),
        ("", "ConfigMap") => Some(false),
        _ => None,
    } {
        let known = match data_of(&node, secret) {
            _ if is_encrypted => Known::Encrypted(super::variables::keys_of(&node)),
            Some(data) => Known::Plain(data),
            None => Known::Elsewhere("a value of it is not text".into()),
        };
        output.produced.push((secret, key.clone(), known, at.clone()));
    }
    if let Some(how) = maker_of_secret(&key) {
        let name = made_name(&node, &key);
        let made =
            ObjectKey { group: "".into(), kind: "Secret".into(), namespace: key.namespace.clone(), name: name.into() };
        output.produced.push((true, made, Known::Elsewhere(how.into()), at.clone()));
    }
    if is_encrypted {
        let (name, message) = match hashed_base_name {
            Some(base) => {
                let message = "made from encrypted files: the hub holds no key, so neither its value nor the hash at the end of its \
                               name is known here; it is kept in the cluster as it is";
                (base, message)
            }
            None => (
                key.name.to_string(),
                "encrypted in Git and not decrypted yet: it is kept in the cluster as it is, and created by nobody",
            ),
        };
        let key = ObjectKey { name: name.into(), ..key };
        return Ok(Some(withheld(key, Code::Encrypted, message.to_owned(), at, &node)));
    }
    if let Some(name) = encrypted::mentions(&node, unknown_names) {
        let message = format!("refers to {name}, whose name ends in a hash of encrypted content and is not known here");
        return Ok(Some(withheld(key, Code::Encrypted, message, at, &node)));
    }
    if key.group == spec::GROUP && key.kind == "Kustomization" {
        let id = UnitId::kustomization(namespace_or_default(&key), key.name);
        return Ok(Some(Item::Child { id, node, at: at.clone(), open: None }));
    }
    if is_flux_component(&node, &key) {
        if key.kind == "Deployment" {
            output.controllers.push((node.clone(), at.clone()));
        }
        if key.kind != "Namespace" {
            return Ok(None);
        }
    }
    let instance_chart = key.kind == "HelmRelease" && node.at(&["spec", "values", "instance"]).is_some();
    if key.kind == "FluxInstance" || instance_chart {
        output.controllers.push((node.clone(), at.clone()));
    }
    let handed_through = is_handed_through(&key);
    let source_kind = is_source(&key);
    if handed_through && !source_kind {
        references(&node, &key, &mut output.references);
    }
    let source =
        source_kind.then(|| (key.kind.clone(), format!("{}/{}", namespace_or_default(&key), key.name), node.clone()));
    let mut object = encode(unit, node, key, at, handed_through, &mut output.notes);
    if let Item::Object(object) = &mut object {
        object.generated_name = hashed_base_name;
    }
    Ok(Some(match source {
        Some((kind, id, node)) => {
            Item::Source { kind: kind.to_string(), id, node, at: at.clone(), object: Box::new(object), open: None }
        }
        None => object,
    }))
}

/// An object that the agent finishes.
fn open_item(
    inputs: &UnitInputs<'_>,
    open: Open,
    at: &Location,
    unknown_names: &BTreeMap<String, ObjectKey>,
    output: &mut UnitOutput,
    asked: &mut BTreeSet<String>,
) -> Result<Option<Item>, Note> {
    let unit = inputs.kustomization;
    output.open.extend(open.holes.iter().cloned());
    let shown: Vec<String> = open.holes.iter().map(|name| format!("${{{name}}}")).collect();
    let shown = shown.join(", ");
    let is_child = |key: &ObjectKey| key.group == spec::GROUP && key.kind == "Kustomization";
    let Some(head) = open.head.clone() else {
        let node = open.node;
        let key = key_of(&node).ok_or_else(|| Note {
            code: Code::Nameless,
            at: at.clone(),
            message: format!("an object of unit {} has no apiVersion, kind or name; add what is missing", unit.id),
        })?;
        output.unknown_child |= is_child(&key);
        let message = format!(
            "its apiVersion, kind, name or namespace needs {shown}, which only the cluster has: what an object is called must be \
             known before it is sent; give the variable a value in Git (postBuild.substitute, a ConfigMap in Git) or by a cluster fact"
        );
        return Ok(Some(withheld(key, Code::HoleRefused, message, at, &node)));
    };
    let Some(key) = key_of(&head) else {
        let message = format!("an object of unit {} has no apiVersion, kind or name; add what is missing", unit.id);
        return Err(Note { code: Code::Nameless, at: at.clone(), message });
    };
    if is_child(&key) {
        let id = UnitId::kustomization(namespace_or_default(&key), key.name);
        // Only where there are variables is anything left open.
        let none = Variables::default();
        let variables = inputs.variables.unwrap_or(&none);
        let above = Above { id: &unit.id, variables, strict: inputs.strict };
        let (node, open) = child::read(&id, open, &above, at, &mut output.variables)?;
        return Ok(Some(Item::Child { id, node, at: at.clone(), open: Some(open) }));
    }
    let Open { text, holes, uses, node, .. } = open;
    if is_flux_component(&node, &key) && key.kind != "Namespace" {
        return Ok(None);
    }
    if key.group.is_empty() && matches!(key.kind.as_str(), "Secret" | "ConfigMap") {
        let known = Known::Elsewhere("parts of it are filled in the cluster".into());
        output.produced.push((key.kind == "Secret", key.clone(), known, at.clone()));
    }
    if let Some(name) = encrypted::mentions(&node, unknown_names) {
        let message = format!("refers to {name}, whose name ends in a hash of encrypted content and is not known here");
        return Ok(Some(withheld(key, Code::Encrypted, message, at, &node)));
    }
    if text.len() as u64 > limits::OBJECT_BYTES {
        return Ok(Some(too_large(key, text.len(), at, &node)));
    }
    let handed_through = is_handed_through(&key);
    if handed_through && !is_source(&key) {
        references(&node, &key, &mut output.references);
    }
    asked.extend(uses);
    let source = is_source(&key).then(|| (key.kind.clone(), format!("{}/{}", namespace_or_default(&key), key.name)));
    let api_version = head.at(&["apiVersion"]).and_then(Node::as_str).unwrap_or_default().to_owned();
    let bytes: Arc<[u8]> = text.into_bytes().into();
    let digest = Digest::of(&bytes);
    let options = options::of(&unit.ignore, &node, &key, at, &mut output.notes);
    let (origin, holes) = (at.clone(), Some(holes));
    let generated_name = None;
    let object = Item::Object(RenderedObject {
        key,
        api_version,
        bytes,
        digest,
        origin,
        handed_through,
        options,
        holes,
        generated_name,
    });
    Ok(Some(match source {
        Some((kind, id)) => {
            let message = format!(
                "{kind} {id} needs {shown}, which only the cluster has, so that the hub cannot fetch it ({at}); give the \
                 variable a value in Git or by a cluster fact"
            );
            Item::Source {
                kind: kind.to_string(),
                id,
                node,
                at: at.clone(),
                object: Box::new(object),
                open: Some(message),
            }
        }
        None => object,
    }))
}

fn too_large(key: ObjectKey, bytes: usize, at: &Location, node: &Node) -> Item {
    let message =
        format!("has {bytes} bytes; the API server takes at most {} (etcd's request limit)", limits::OBJECT_BYTES);
    withheld(key, Code::TooLarge, message, at, node)
}

fn withheld(key: ObjectKey, code: Code, message: String, at: &Location, node: &Node) -> Item {
    // What has no JSON form has a text form of this program.
    let content =
        node.to_json().map_or_else(|_| Digest::of(format!("{node:?}").as_bytes()), |bytes| Digest::of(&bytes));
    Item::Withheld(WithheldObject { key, code, message, origin: at.clone(), content })
}

/// Adds what Flux and we add, and writes the bytes.
fn encode(
    unit: &Kustomization,
    mut node: Node,
    key: ObjectKey,
    at: &Location,
    handed_through: bool,
    notes: &mut Vec<Note>,
) -> Item {
    let api_version = node.at(&["apiVersion"]).and_then(Node::as_str).unwrap_or_default().to_owned();
    node.set_metadata("labels", labels(unit, &unit.id.label().to_string()));
    node.set_metadata("annotations", unit.common_annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let bytes: Arc<[u8]> = match node.to_json() {
        Ok(bytes) => bytes.into(),
        Err(error) => {
            let message = format!("cannot be written as JSON: {error}");
            return withheld(key, Code::NotRepresentable, message, at, &node);
        }
    };
    if bytes.len() as u64 > limits::OBJECT_BYTES {
        return too_large(key, bytes.len(), at, &node);
    }
    let digest = Digest::of(&bytes);
    let options = options::of(&unit.ignore, &node, &key, at, notes);
    let origin = at.clone();
    let (generated_name, holes) = (None, None);
    Item::Object(RenderedObject {
        key,
        api_version,
        bytes,
        digest,
        origin,
        handed_through,
        options,
        holes,
        generated_name,
    })
}

/// The key of an object. `None` when apiVersion, kind or name is missing.
pub(crate) fn key_of(node: &Node) -> Option<ObjectKey> {
    let text = |path: &[&str]| node.at(path).and_then(Node::as_str).filter(|t| !t.is_empty());
    Some(ObjectKey {
        group: group_of(text(&["apiVersion"])?).into(),
        kind: text(&["kind"])?.into(),
        namespace: text(&["metadata", "namespace"]).unwrap_or_default().into(),
        name: text(&["metadata", "name"])?.into(),
    })
}

/// The API server puts an object without namespace where the client says; Flux's says `default`.
pub(crate) fn namespace_or_default(key: &ObjectKey) -> String {
    if key.namespace.is_empty() { "default".to_owned() } else { key.namespace.to_string() }
}

fn substitution_disabled(node: &Node) -> bool {
    let value = |of| node.at(&["metadata", of, driftless_subst::SUBSTITUTE_KEY]).and_then(Node::as_str);
    driftless_subst::is_disabled(value("labels"), value("annotations"))
}

/// Part of `gotk-components.yaml`: Flux's own controllers, neither sent nor deleted.
fn is_flux_component(node: &Node, key: &ObjectKey) -> bool {
    let label = |name: &str| node.at(&["metadata", "labels", name]).and_then(Node::as_str);
    label("app.kubernetes.io/part-of") == Some("flux")
        && (label("app.kubernetes.io/instance").is_some() || key.group == "apiextensions.k8s.io")
}

/// Kinds that drive a controller of Flux's family.
fn is_handed_through(key: &ObjectKey) -> bool {
    key.group.ends_with(".toolkit.fluxcd.io")
        || matches!(key.group.as_str(), "fluxcd.controlplane.io" | "source.extensions.fluxcd.io" | "flagger.app")
}

/// What units can name as their source, or what makes such a thing.
fn is_source(key: &ObjectKey) -> bool {
    key.group == source::GROUP && is_repository(&key.kind)
        || key.group == generator::GROUP && key.kind == generator::KIND
}

fn is_repository(kind: &str) -> bool {
    matches!(kind, "GitRepository" | "OCIRepository" | "Bucket" | "ExternalArtifact")
}

/// The sources that a source object itself refers to.
pub(crate) fn sources_of(kind: &str, id: &str, node: &Node) -> Vec<(String, String)> {
    let namespace = id.split('/').next().unwrap_or_default();
    let mut out = Vec::new();
    let list = |path: &[&str]| node.at(path).and_then(Node::as_seq).into_iter().flatten();
    for include in list(&["spec", "include"]).filter(|_| kind == "GitRepository") {
        if let Some(name) = include.at(&["repository", "name"]).and_then(Node::as_str) {
            out.push((kind.to_owned(), format!("{namespace}/{name}")));
        }
    }
    for source in list(&["spec", "sources"]).filter(|_| kind == generator::KIND) {
        let text = |key: &str| source.at(&[key]).and_then(Node::as_str);
        if let (Some(kind), Some(name)) = (text("kind"), text("name")) {
            out.push((kind.to_owned(), format!("{}/{name}", text("namespace").unwrap_or(namespace))));
        }
    }
    out
}

/// Every map `{kind: GitRepository, name: ...}` inside an object that drives a controller. Notification objects only
/// listen to a source; they do not need its content.
fn references(node: &Node, key: &ObjectKey, out: &mut Vec<(String, String)>) {
    if key.group == "notification.toolkit.fluxcd.io" {
        return;
    }
    let namespace = namespace_or_default(key);
    // The one reference whose definition gives it a kind where none is written.
    let default = (key.kind == "ImageUpdateAutomation").then(|| node.at(&["spec", "sourceRef"])?.as_map()).flatten();
    walk(node, &mut |map| {
        let text = |key: &str| map.get(key).and_then(Node::as_str);
        let kind = text("kind").or(default.filter(|own| std::ptr::eq(*own, map)).map(|_| "GitRepository"));
        if let (Some(kind), Some(name)) = (kind, text("name"))
            && is_repository(kind)
        {
            let namespace = text("namespace").unwrap_or(&namespace);
            out.push((kind.to_owned(), format!("{namespace}/{name}")));
        }
    });
}

/// Calls `f` with every map of a value, outermost first.
pub(crate) fn walk(node: &Node, f: &mut dyn FnMut(&driftless_yaml::Map)) {
    match node {
        Node::Map(map) => {
            f(map);
            map.iter().for_each(|e| walk(&e.value, f));
        }
        Node::Seq(items) => items.iter().for_each(|n| walk(n, f)),
        Node::Scalar(_) => {}
    }
}

/// Kinds that make a Secret in the cluster.
fn maker_of_secret(key: &ObjectKey) -> Option<&'static str> {
    match (key.group.as_str(), key.kind.as_str()) {
        ("external-secrets.io", "ExternalSecret") => Some("an ExternalSecret makes it in the cluster"),
        ("bitnami.com", "SealedSecret") => Some("a SealedSecret makes it in the cluster"),
        _ => None,
    }
}

fn made_name(node: &Node, key: &ObjectKey) -> String {
    let paths: [&[&str]; 2] = [&["spec", "target", "name"], &["spec", "template", "metadata", "name"]];
    paths.iter().find_map(|path| node.at(path).and_then(Node::as_str)).unwrap_or(&key.name).to_owned()
}
