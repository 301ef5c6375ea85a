//! Versions of CustomResourceDefinitions that end: who still uses them.

use std::collections::BTreeMap;

use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::model::{Warning, WarningCode};
use crate::flux::{RenderedCluster, RenderedObject};

/// Objects named in one warning.
const NAMED: usize = 5;

/// A version of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    served: bool,
    stored: bool,
}

/// One warning for each version that a definition served before and does not serve after, when Git has objects written in
/// it; and one where the version that objects are stored in is taken out.
pub(crate) fn ended(before: &RenderedCluster, after: &RenderedCluster) -> Vec<Warning> {
    let old: BTreeMap<&ObjectKey, &RenderedObject> = before.definitions().map(|(_, o)| (&o.key, o)).collect();
    let mut out = Vec::new();
    for (unit, object) in after.definitions() {
        let Some(was) = old.get(&object.key).filter(|was| was.digest != object.digest) else { continue };
        let (Some(was), Some(is)) = (was.value(), object.value()) else { continue };
        let now = versions(&is);
        let text = |pointer: &str| is.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
        let mut say = |message: String| {
            out.push(Warning {
                code: WarningCode::VersionEnds,
                message,
                unit: Some(unit.id.clone()),
                object: Some(object.key.clone()),
                at: Some(object.origin.clone()),
            });
        };
        for (name, version) in versions(&was) {
            let left = now.get(&name);
            let how = if left.is_some() { "is no longer served" } else { "is removed" };
            let api_version = format!("{group}/{name}");
            if version.stored && left.is_none() {
                say(format!(
                    "{}: version {name}, in which objects are stored, {how}: the API server refuses that as long as \
                     status.storedVersions names it; keep the version (served: false is enough), have every object stored \
                     in the new one, take {name} out of status.storedVersions, and remove it then",
                    object.key
                ));
            }
            if version.served && left.is_none_or(|left| !left.served) {
                let users: Vec<&RenderedObject> = after
                    .objects()
                    .map(|(_, object)| object)
                    .filter(|o| o.api_version == api_version && o.key.kind == kind)
                    .collect();
                if users.is_empty() {
                    continue;
                }
                let served: Vec<String> =
                    now.iter().filter(|(_, v)| v.served).map(|(name, _)| format!("{group}/{name}")).collect();
                let instead = match served.as_slice() {
                    [] => "no version of it is served".to_owned(),
                    served => format!("write them in {}, or keep the version until they are", served.join(" or ")),
                };
                let verb = if users.len() == 1 { "object in Git is" } else { "objects in Git are" };
                say(format!(
                    "{}: version {name} {how}, and {} {verb} written in {api_version}, which the API server refuses then: \
                     {}; {instead}",
                    object.key,
                    users.len(),
                    named(&users)
                ));
            }
        }
    }
    out
}

fn versions(definition: &Value) -> BTreeMap<String, Version> {
    let list = definition.pointer("/spec/versions").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|version| {
            let on = |key: &str| version.get(key) == Some(&Value::Bool(true));
            let name = version.get("name")?.as_str()?.to_owned();
            Some((name, Version { served: on("served"), stored: on("storage") }))
        })
        .collect()
}

fn named(objects: &[&RenderedObject]) -> String {
    let mut text: Vec<String> = objects.iter().take(NAMED).map(|o| format!("{} ({})", o.key, o.origin)).collect();
    if objects.len() > NAMED {
        text.push(format!("{} more", objects.len() - NAMED));
    }
    text.join(", ")
}
