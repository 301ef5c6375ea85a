//! How single objects are treated: control marks on them, and the unit's ignore rules that select them.

use std::collections::BTreeSet;

use driftless_protocol::bundle::{ApplyMode, ObjectOptions};
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use driftless_yaml::Node;

use super::fields::{Fields, Note};
use crate::kustomize::{Matcher, Selector};
use crate::report::Code;
use crate::target::Location;

/// One entry of `spec.ignore`: fields of the objects it selects are left to others.
#[derive(Clone, Debug)]
pub(crate) struct IgnoreRule {
    paths: Vec<String>,
    /// `None`: every object of the unit.
    target: Option<Matcher>,
    at: Location,
}

impl IgnoreRule {
    /// What it does, whatever the place it is written at.
    pub(crate) fn placeless(&self) -> impl std::fmt::Debug + use<> {
        (self.paths.clone(), format!("{:?}", self.target))
    }
}

/// Reads `spec.ignore`.
pub(crate) fn ignore_rules(
    spec: &Fields<'_>,
    selector: impl Fn(&Fields<'_>, &mut Vec<Note>) -> Result<Selector, Note>,
    notes: &mut Vec<Note>,
) -> Result<Vec<IgnoreRule>, Note> {
    let mut rules = Vec::new();
    for item in spec.maps("ignore")? {
        item.unknown(&["paths", "target"], notes);
        let paths = item.texts("paths")?;
        if paths.is_empty() {
            return Err(item.note(
                Code::InvalidSpec,
                "",
                format!("{} is required and missing; add it", item.name("paths")),
            ));
        }
        if let Some(bad) = paths.iter().find(|path| !is_pointer(path)) {
            let message = format!("{}: {bad:?} is {NO_POINTER}", item.name("paths"));
            return Err(item.note(Code::InvalidSpec, "paths", message));
        }
        let target = match item.has("target") {
            true => {
                let selector = selector(&item.map("target")?, notes)?;
                let matcher = Matcher::new(&selector)
                    .map_err(|why| item.note(Code::InvalidSpec, "target", format!("{}: {why}", item.name("target"))))?;
                Some(matcher)
            }
            false => None,
        };
        rules.push(IgnoreRule { paths, target, at: item.at("") });
    }
    Ok(rules)
}

const NO_POINTER: &str =
    "no JSON pointer to a field, such as /spec/replicas or /metadata/annotations/example.com~1hash";

/// RFC 6901, and not the whole object, nor what makes it that object.
fn is_pointer(text: &str) -> bool {
    let escapes = text.match_indices('~').all(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')));
    let reserved = ["/apiVersion", "/kind", "/metadata", "/metadata/name", "/metadata/namespace", "/metadata/labels"];
    text.len() > 1 && text.starts_with('/') && escapes && !text.ends_with('/') && !reserved.contains(&text)
}

/// What is said about one finished object.
pub(crate) fn of(
    rules: &[IgnoreRule],
    node: &Node,
    key: &ObjectKey,
    at: &Location,
    notes: &mut Vec<Note>,
) -> ObjectOptions {
    let meta = |of: &str, name: &str| node.at(&["metadata", of, name]).and_then(Node::as_str).map(str::to_owned);
    // As Flux does: a label or an annotation.
    let mark = |name: &str| meta("labels", name).or_else(|| meta("annotations", name));
    let mut note = |code, at: &Location, message| notes.push(Note { code, at: at.clone(), message });
    let mut options = ObjectOptions::default();
    match mark(marks::SSA).as_deref() {
        None => {}
        // Any case, as Flux compares.
        Some(text) if text.eq_ignore_ascii_case("override") => {}
        Some(text) if text.eq_ignore_ascii_case("merge") => options.apply = ApplyMode::Merge,
        Some(text) if text.eq_ignore_ascii_case("ifnotpresent") => options.apply = ApplyMode::IfNotPresent,
        Some(text) if text.eq_ignore_ascii_case("ignore") => options.apply = ApplyMode::Ignore,
        Some(other) => note(
            Code::BadValue,
            at,
            format!(
                "{}: {other:?} of {key} is none of Override, Merge, IfNotPresent, Ignore; it changes nothing",
                marks::SSA
            ),
        ),
    }
    match mark(marks::RECONCILE).as_deref() {
        Some(text) if text.eq_ignore_ascii_case("disabled") => options.apply = ApplyMode::Ignore,
        None => {}
        Some(text) if text.eq_ignore_ascii_case("enabled") => {}
        Some(other) => {
            note(
                Code::BadValue,
                at,
                format!("{}: {other:?} of {key} is not disabled; it changes nothing", marks::RECONCILE),
            );
        }
    }
    match mark(marks::FORCE).as_deref() {
        Some(text) if text.eq_ignore_ascii_case("enabled") => options.force = true,
        None => {}
        Some(text) if text.eq_ignore_ascii_case("disabled") => {}
        Some(other) => {
            note(
                Code::BadValue,
                at,
                format!("{}: {other:?} of {key} is not enabled; it changes nothing", marks::FORCE),
            );
        }
    }
    let mut pointers = |mark: &str| {
        let mut found = BTreeSet::new();
        for text in meta("annotations", mark).iter().flat_map(|text| text.split([',', ' ', '\n', '\t'])) {
            match text {
                "" => {}
                path if is_pointer(path) => {
                    found.insert(path.to_owned());
                }
                other => {
                    let message = format!("{mark}: {other:?} of {key} is {NO_POINTER}; it changes nothing");
                    note(Code::BadValue, at, message);
                }
            }
        }
        found
    };
    let mut ignore = pointers(marks::IGNORE);
    options.observe = pointers(marks::DRIFT_OBSERVE).into_iter().collect();
    options.warn = pointers(marks::DRIFT_WARN).into_iter().collect();
    let version = node.at(&["apiVersion"]).and_then(Node::as_str).unwrap_or_default();
    let version = version.rsplit_once('/').map_or(version, |(_, version)| version);
    for rule in rules {
        match rule.target.as_ref().map_or(Ok(true), |target| target.selects_object(key, version, &meta)) {
            Ok(true) => ignore.extend(rule.paths.iter().cloned()),
            Ok(false) => {}
            Err(why) => {
                note(Code::BadValue, &rule.at, format!("spec.ignore[].target: {why}; the rule selects nothing"))
            }
        }
    }
    options.ignore = ignore.into_iter().collect();
    options
}
