//! The fields of a Flux Kustomization: what each does here, and which are not honoured yet.

use std::sync::Arc;

use driftless_cel::Question;
use driftless_protocol::bundle::{
    DeletionPolicy, DriftMode, HealthExpr, LateText, ReadyExpr, ServiceAccount, UnitSpec, Validation,
};
use driftless_protocol::id::UnitId;
use driftless_protocol::marks;
use driftless_protocol::object::{ObjectKey, group_of};
use driftless_yaml::Node;

use super::fields::{Fields, Note, go_seconds};
use super::options::{self, IgnoreRule};
use super::place::Place;
use crate::kustomize::{Image, Origin, Overlay, Patch, Selector};
use crate::report::Code;
use crate::target::Location;
use crate::validate::names;

/// API group of Flux's Kustomization.
pub(crate) const GROUP: &str = "kustomize.toolkit.fluxcd.io";

/// A Flux Kustomization, read.
#[derive(Clone, Debug)]
pub(crate) struct Kustomization {
    pub(crate) id: UnitId,
    pub(crate) path: String,
    pub(crate) path_at: Location,
    pub(crate) source_kind: String,
    pub(crate) source_name: String,
    pub(crate) source_namespace: String,
    pub(crate) source_at: Location,
    pub(crate) suspend: bool,
    /// `spec.kubeConfig`: for another cluster, with its place.
    pub(crate) remote: Option<Location>,
    pub(crate) overlay: Overlay,
    pub(crate) common_labels: Vec<(String, String)>,
    pub(crate) common_annotations: Vec<(String, String)>,
    pub(crate) post_build: Option<PostBuild>,
    pub(crate) ignore: Vec<IgnoreRule>,
    /// `dependsOn` with places.
    pub(crate) depends_on: Vec<(UnitId, Location)>,
    pub(crate) spec: UnitSpec,
    /// The object itself, as JSON.
    pub(crate) definition: Arc<[u8]>,
}

/// `spec.postBuild`.
#[derive(Clone, Debug, Default)]
pub(crate) struct PostBuild {
    pub(crate) substitute: Vec<(String, String)>,
    pub(crate) from: Vec<Reference>,
    pub(crate) always: bool,
    /// Values of `substitute` that the build of the unit above fills in, in the cluster.
    pub(crate) text: Option<Box<LateText>>,
    pub(crate) at: Location,
}

/// One entry of `substituteFrom`.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) secret: bool,
    pub(crate) name: String,
    pub(crate) optional: bool,
    pub(crate) at: Location,
}

const SPEC: &[&str] = &[
    "buildMetadata",
    "commonMetadata",
    "components",
    "decryption",
    "deletionPolicy",
    "dependsOn",
    "force",
    "healthCheckExprs",
    "healthChecks",
    "ignore",
    "ignoreMissingComponents",
    "images",
    "interval",
    "kubeConfig",
    "namePrefix",
    "nameSuffix",
    "patches",
    "patchesJson6902",
    "patchesStrategicMerge",
    "path",
    "postBuild",
    "prune",
    "remediation",
    "retryInterval",
    "serviceAccountName",
    "sourceRef",
    "suspend",
    "syncInterval",
    "targetNamespace",
    "timeout",
    "validation",
    "wait",
];

/// Reads a Kustomization. `Err` is the first thing the API server would refuse; `notes` collects the rest.
pub(crate) fn read(node: &Node, place: &Place, id: UnitId, notes: &mut Vec<Note>) -> Result<Kustomization, Note> {
    let object = Fields::of(node, place);
    object.unknown(&["apiVersion", "kind", "metadata", "spec", "status"], notes);
    let spec = object.map("spec")?;
    if !object.has("spec") {
        return Err(object.note(Code::InvalidSpec, "metadata", format!("Kustomization {id} has no spec")));
    }
    spec.unknown(SPEC, notes);
    let source = spec.map("sourceRef")?;
    source.unknown(&["apiVersion", "kind", "name", "namespace"], notes);
    let path = spec.text("path")?.unwrap_or_default();
    let decryption = spec.map("decryption")?;
    decryption.unknown(&["provider", "secretRef", "serviceAccountName"], notes);
    let (depends_on, ready_exprs) = depends_on(&spec, &id, notes)?;
    let health_checks = health_checks(&spec, notes)?;
    let suspend = spec.flag("suspend")?.unwrap_or(false);
    let mut treated = unit_spec(&object, &spec, &id, &depends_on, health_checks, notes)?;
    if treated.take_over && !suspend {
        // An agent stops Flux only where Git does.
        treated.take_over = false;
        let message = format!(
            "annotation {}: enabled changes nothing while spec.suspend is not true, since Flux goes on; set both in one commit",
            marks::TAKE_OVER
        );
        notes.push(object.map("metadata")?.map("annotations")?.note(Code::BadValue, marks::TAKE_OVER, message));
    }
    let common = spec.map("commonMetadata")?;
    common.unknown(&["annotations", "labels"], notes);
    Ok(Kustomization {
        path: super::path::clamped(path),
        path_at: spec.at(if spec.has("path") { "path" } else { "" }),
        source_kind: source.required("kind")?.to_owned(),
        source_name: source.required("name")?.to_owned(),
        source_namespace: source.filled("namespace")?.unwrap_or_else(|| id.namespace.clone()),
        source_at: spec.at("sourceRef"),
        suspend,
        remote: spec.has("kubeConfig").then(|| spec.at("kubeConfig")),
        overlay: overlay(&spec, notes)?,
        common_labels: common.text_map("labels")?,
        common_annotations: common.text_map("annotations")?,
        post_build: post_build(&spec, notes)?,
        ignore: options::ignore_rules(&spec, selector, notes)?,
        spec: UnitSpec { health_exprs: health_exprs(&spec, notes)?, ready_exprs, ..treated },
        definition: node.to_json().unwrap_or_default().into(),
        depends_on,
        id,
    })
}

fn unit_spec<'a>(
    object: &Fields<'a>,
    spec: &Fields<'a>,
    id: &UnitId,
    depends_on: &[(UnitId, Location)],
    health_checks: Vec<ObjectKey>,
    notes: &mut Vec<Note>,
) -> Result<UnitSpec, Note> {
    let Some(interval) = spec.seconds("interval")? else {
        return Err(spec.note(
            Code::InvalidSpec,
            "",
            "spec.interval is required and missing; add it, as in `interval: 10m`",
        ));
    };
    let Some(prune) = spec.flag("prune")? else {
        return Err(spec.note(
            Code::InvalidSpec,
            "",
            "spec.prune is required and missing; add `prune: true` or `prune: false`",
        ));
    };
    let service_account =
        spec.filled("serviceAccountName")?.map(|name| ServiceAccount { namespace: id.namespace.clone(), name });
    let mut out = UnitSpec {
        prune,
        deletion_policy: match spec.text("deletionPolicy")?.unwrap_or_default() {
            "" | "MirrorPrune" => DeletionPolicy::MirrorPrune,
            "Delete" => DeletionPolicy::Delete,
            "WaitForTermination" => DeletionPolicy::WaitForTermination,
            "Orphan" => DeletionPolicy::Orphan,
            other => {
                let message =
                    format!("spec.deletionPolicy {other:?} is none of MirrorPrune, Delete, WaitForTermination, Orphan");
                return Err(spec.note(Code::InvalidSpec, "deletionPolicy", message));
            }
        },
        interval_seconds: interval,
        retry_interval_seconds: spec.seconds("retryInterval")?.unwrap_or(interval),
        timeout_seconds: spec.seconds("timeout")?.unwrap_or_else(|| interval.saturating_sub(30).max(30)),
        wait: spec.flag("wait")?.unwrap_or(false),
        force: spec.flag("force")?.unwrap_or(false),
        depends_on: depends_on.iter().map(|(id, _)| id.clone()).collect(),
        health_checks,
        service_account,
        drift_mode: DriftMode::Correct,
        remediation_interval_seconds: 0,
        remediate_only_when_healthy: false,
        validation: Validation::None,
        take_over: false,
        ..UnitSpec::default()
    };
    if out.wait && !out.health_checks.is_empty() {
        // Flux ignores the list when it waits for everything.
        out.health_checks.clear();
    }
    extensions(spec, &mut out, notes)?;
    annotations(object, &mut out, notes)?;
    Ok(out)
}

/// Fields Flux's own CRD does not have (any more), honoured because repositories write them (decisions.md).
fn extensions<'a>(spec: &Fields<'a>, out: &mut UnitSpec, notes: &mut Vec<Note>) -> Result<(), Note> {
    let remediation = spec.map("remediation")?;
    remediation.unknown(&["remediate", "remediationInterval"], notes);
    if let Some(remediate) = remediation.flag("remediate")? {
        out.drift_mode = if remediate { DriftMode::Correct } else { DriftMode::Warn };
        let effect = if remediate { "drift is healed" } else { "drift is shown and left (drift-mode warn)" };
        let message = format!("spec.remediation.remediate is no field of Flux; here it means: {effect}");
        notes.push(remediation.note(Code::FieldExtension, "remediate", message));
    }
    if let Some(seconds) = remediation.seconds("remediationInterval")? {
        out.remediation_interval_seconds = seconds;
        let message = "spec.remediation.remediationInterval is no field of Flux; here an object is healed at most once in that time";
        notes.push(remediation.note(Code::FieldExtension, "remediationInterval", message));
    }
    if let Some(seconds) = spec.seconds("syncInterval")? {
        out.interval_seconds = seconds;
        let message = "spec.syncInterval is no field of Flux; here it bounds the time between two full re-checks, before spec.interval";
        notes.push(spec.note(Code::FieldExtension, "syncInterval", message));
    }
    if let Some(text) = spec.text("validation")? {
        let (validation, effect) = match text {
            "client" => (Validation::Client, "the whole unit is checked against the schema before its first write"),
            "server" => (Validation::Server, "the whole unit is dry-run before its first write"),
            "none" => (Validation::None, "nothing is checked beforehand"),
            other => {
                let message =
                    format!("spec.validation {other:?} is none of client, server, none; nothing is checked beforehand");
                notes.push(spec.note(Code::BadValue, "validation", message));
                return Ok(());
            }
        };
        out.validation = validation;
        let message = format!("spec.validation left Flux with v1beta2; here {effect}");
        notes.push(spec.note(Code::FieldExtension, "validation", message));
    }
    Ok(())
}

/// Our annotations; they win over fields.
fn annotations<'a>(object: &Fields<'a>, out: &mut UnitSpec, notes: &mut Vec<Note>) -> Result<(), Note> {
    let annotations = object.map("metadata")?.map("annotations")?;
    let mut bad = |key: &'static str, value: &str, expected: &str| {
        let message = format!("annotation {key}: {value:?} is not {expected}; it changes nothing");
        notes.push(annotations.note(Code::BadValue, key, message));
    };
    match annotations.text(marks::DRIFT_MODE)? {
        None => {}
        Some("correct") => out.drift_mode = DriftMode::Correct,
        Some("warn") => out.drift_mode = DriftMode::Warn,
        Some("observe") => out.drift_mode = DriftMode::Observe,
        Some(other) => bad(marks::DRIFT_MODE, other, "correct, warn or observe"),
    }
    if let Some(text) = annotations.text(marks::REMEDIATION_INTERVAL)? {
        match go_seconds(text) {
            Some(seconds) => out.remediation_interval_seconds = seconds,
            None => bad(marks::REMEDIATION_INTERVAL, text, "a duration such as 10m"),
        }
    }
    if let Some(text) = annotations.text(marks::REMEDIATION_DELAY)? {
        match go_seconds(text) {
            Some(seconds) => out.remediation_delay_seconds = seconds,
            None => bad(marks::REMEDIATION_DELAY, text, "a duration such as 30s"),
        }
    }
    if let Some(text) = annotations.text(marks::REMEDIATION_LIMIT)? {
        match text.parse::<u32>() {
            Ok(limit) => out.heals_per_hour = limit,
            Err(_) => bad(marks::REMEDIATION_LIMIT, text, "a number of heals, such as \"10\" (0: without limit)"),
        }
    }
    match annotations.text(marks::REMEDIATE_WHEN)? {
        None => {}
        Some("healthy") => out.remediate_only_when_healthy = true,
        Some("always") => out.remediate_only_when_healthy = false,
        Some(other) => bad(marks::REMEDIATE_WHEN, other, "healthy or always"),
    }
    match annotations.text(marks::TAKE_OVER)? {
        None => {}
        Some("enabled") => out.take_over = true,
        Some("disabled") => {}
        Some(other) => bad(marks::TAKE_OVER, other, "enabled or disabled"),
    }
    Ok(())
}

type Dependencies = (Vec<(UnitId, Location)>, Vec<ReadyExpr>);

fn depends_on(spec: &Fields<'_>, id: &UnitId, notes: &mut Vec<Note>) -> Result<Dependencies, Note> {
    let mut out: Vec<(UnitId, Location)> = Vec::new();
    let mut ready = Vec::new();
    for item in spec.maps("dependsOn")? {
        item.unknown(&["name", "namespace", "readyExpr"], notes);
        let namespace = item.filled("namespace")?.unwrap_or_else(|| id.namespace.clone());
        let other = UnitId::kustomization(namespace, item.required("name")?);
        if let Some(expr) = expression(&item, "readyExpr")? {
            let question = Question::compile(&expr).and_then(|question| question.uses_only(&["dep", "self"]));
            question.map_err(|why| {
                item.note(Code::InvalidSpec, "readyExpr", format!("{}: {why}", item.name("readyExpr")))
            })?;
            ready.push(ReadyExpr { unit: other.clone(), expr });
        }
        if !out.iter().any(|(known, _)| *known == other) {
            out.push((other, item.at("")));
        }
    }
    Ok((out, ready))
}

/// A CEL expression that can be compiled; empty counts as none.
fn expression<'a>(item: &Fields<'a>, key: &'static str) -> Result<Option<String>, Note> {
    let Some(text) = item.filled(key)? else { return Ok(None) };
    match Question::compile(&text) {
        Ok(_) => Ok(Some(text)),
        Err(why) => Err(item.note(Code::InvalidSpec, key, format!("{}: {why}", item.name(key)))),
    }
}

fn health_exprs(spec: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Vec<HealthExpr>, Note> {
    let mut out: Vec<HealthExpr> = Vec::new();
    for item in spec.maps("healthCheckExprs")? {
        item.unknown(&["apiVersion", "current", "failed", "inProgress", "kind"], notes);
        let group = group_of(item.required("apiVersion")?).to_owned();
        let kind = item.required("kind")?.to_owned();
        let Some(current) = expression(&item, "current")? else {
            return Err(item.note(
                Code::InvalidSpec,
                "",
                format!("{} is required and missing; add it", item.name("current")),
            ));
        };
        if out.iter().any(|known| known.group == group && known.kind == kind) {
            let message =
                format!("{}: the kind {kind} has expressions already; only the first are used", item.name(""));
            notes.push(item.note(Code::BadValue, "", message));
            continue;
        }
        let (in_progress, failed) = (expression(&item, "inProgress")?, expression(&item, "failed")?);
        out.push(HealthExpr { group, kind, current, in_progress, failed });
    }
    Ok(out)
}

fn health_checks(spec: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Vec<ObjectKey>, Note> {
    let mut out = Vec::new();
    for item in spec.maps("healthChecks")? {
        item.unknown(&["apiVersion", "kind", "name", "namespace"], notes);
        out.push(ObjectKey {
            group: group_of(item.text("apiVersion")?.unwrap_or_default()).into(),
            kind: item.required("kind")?.into(),
            namespace: item.filled("namespace")?.unwrap_or_default().into(),
            name: item.required("name")?.into(),
        });
    }
    Ok(out)
}

fn post_build(spec: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Option<PostBuild>, Note> {
    if !spec.has("postBuild") {
        return Ok(None);
    }
    let fields = spec.map("postBuild")?;
    fields.unknown(&["substitute", "substituteFrom", "substituteStrategy"], notes);
    let mut from = Vec::new();
    for item in fields.maps("substituteFrom")? {
        item.unknown(&["kind", "name", "optional"], notes);
        let secret = match item.required("kind")? {
            "ConfigMap" => false,
            "Secret" => true,
            other => {
                let message = format!("{} {other:?} is neither ConfigMap nor Secret", item.name("kind"));
                return Err(item.note(Code::InvalidSpec, "kind", message));
            }
        };
        from.push(Reference {
            secret,
            name: item.required("name")?.to_owned(),
            optional: item.flag("optional")?.unwrap_or(false),
            at: item.at(""),
        });
    }
    let always = match fields.text("substituteStrategy")?.unwrap_or_default() {
        "" | "WithVariables" => false,
        "Always" => true,
        other => {
            let message = format!("spec.postBuild.substituteStrategy {other:?} is neither WithVariables nor Always");
            return Err(fields.note(Code::InvalidSpec, "substituteStrategy", message));
        }
    };
    let substitute = fields.texts_of_map("substitute", false)?;
    Ok(Some(PostBuild { substitute, from, always, text: None, at: spec.at("postBuild") }))
}

fn overlay(spec: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Overlay, Note> {
    let mut patches = Vec::new();
    for item in spec.maps("patches")? {
        item.unknown(&["patch", "target"], notes);
        patches.push(Patch {
            patch: Some(item.required("patch")?.to_owned()),
            target: if item.has("target") { Some(selector(&item.map("target")?, notes)?) } else { None },
            place: origin(item.at("patch")),
            ..Patch::default()
        });
    }
    legacy_patches(spec, notes, &mut patches)?;
    let mut images = Vec::new();
    for item in spec.maps("images")? {
        item.unknown(&["digest", "name", "newName", "newTag"], notes);
        images.push(Image {
            name: item.required("name")?.to_owned(),
            new_name: item.text("newName")?.unwrap_or_default().to_owned(),
            new_tag: item.text("newTag")?.unwrap_or_default().to_owned(),
            digest: item.text("digest")?.unwrap_or_default().to_owned(),
            ..Image::default()
        });
    }
    Ok(Overlay {
        target_namespace: target_namespace(spec)?,
        name_prefix: bounded(spec, "namePrefix", AFFIX)?,
        name_suffix: bounded(spec, "nameSuffix", AFFIX)?,
        patches,
        components: spec.texts("components")?,
        ignore_missing_components: spec.flag("ignoreMissingComponents")?.unwrap_or(false),
        images,
        build_metadata: if spec.has("buildMetadata") { Some(spec.texts("buildMetadata")?) } else { None },
        place: origin(spec.at("")),
        ..Overlay::default()
    })
}

/// Characters that Flux's definition allows a prefix or suffix, and a namespace.
const AFFIX: usize = 200;
const NAMESPACE: usize = 63;

/// Text that Flux's definition wants to be neither empty nor longer than this.
fn bounded(spec: &Fields<'_>, key: &'static str, most: usize) -> Result<Option<String>, Note> {
    let Some(text) = spec.text(key)? else { return Ok(None) };
    let length = text.chars().count();
    if (1..=most).contains(&length) {
        return Ok(Some(text.to_owned()));
    }
    let how = match length {
        0 => "is empty".to_owned(),
        length => format!("has {length} characters, at most {most} are allowed"),
    };
    let message = format!("spec.{key} {how}; the API server would refuse the object: correct it, or remove the field");
    Err(spec.note(Code::InvalidSpec, key, message))
}

fn target_namespace(spec: &Fields<'_>) -> Result<Option<String>, Note> {
    let Some(name) = bounded(spec, "targetNamespace", NAMESPACE)? else { return Ok(None) };
    match names::namespace(&name) {
        None => Ok(Some(name)),
        Some(why) => {
            let message = format!("spec.targetNamespace: {why}; the API server would refuse everything in it");
            Err(spec.note(Code::InvalidSpec, "targetNamespace", message))
        }
    }
}

/// `patchesStrategicMerge` and `patchesJson6902` of v1beta1 and v1beta2: inline values, turned into patches.
fn legacy_patches(spec: &Fields<'_>, notes: &mut Vec<Note>, patches: &mut Vec<Patch>) -> Result<(), Note> {
    let text_of = |key: &'static str, node: &Node| {
        driftless_yaml::to_string(node)
            .map_err(|e| spec.note(Code::InvalidSpec, key, format!("spec.{key} cannot be written as a patch: {e}")))
    };
    if let Some(list) = spec.get("patchesStrategicMerge").and_then(Node::as_seq) {
        for item in list {
            patches.push(Patch {
                patch: Some(text_of("patchesStrategicMerge", item)?),
                place: origin(spec.at("patchesStrategicMerge")),
                ..Patch::default()
            });
        }
    }
    for item in spec.maps("patchesJson6902")? {
        item.unknown(&["patch", "target"], notes);
        let Some(operations) = item.get("patch") else {
            return Err(item.note(Code::InvalidSpec, "", format!("{} is required and missing", item.name("patch"))));
        };
        patches.push(Patch {
            patch: Some(text_of("patchesJson6902", operations)?),
            target: Some(selector(&item.map("target")?, notes)?),
            place: origin(item.at("")),
            ..Patch::default()
        });
    }
    Ok(())
}

fn selector(target: &Fields<'_>, notes: &mut Vec<Note>) -> Result<Selector, Note> {
    target.unknown(&["annotationSelector", "group", "kind", "labelSelector", "name", "namespace", "version"], notes);
    let mut values = [const { String::new() }; 7];
    let keys = ["group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector"];
    for (value, key) in values.iter_mut().zip(keys) {
        *value = target.text(key)?.unwrap_or_default().to_owned();
    }
    let [group, version, kind, name, namespace, label_selector, annotation_selector] = values;
    Ok(Selector { group, version, kind, name, namespace, label_selector, annotation_selector })
}

fn origin(at: Location) -> Origin {
    Origin { file: at.file, line: at.line }
}
