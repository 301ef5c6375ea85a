//! One cluster's things in another's: files that a unit reads, names that a value holds.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::ClusterName;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::Cluster;
use crate::flux::{RenderedObject, RenderedUnit, SeenEntry};
use crate::report::{Code, Problem};
use crate::target::Location;

/// Bytes of an object beyond which its values are not compared: dashboards and definitions, no settings.
const OBJECT_BYTES: usize = 64 << 10;

fn below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Units that read files below another cluster's root.
pub(super) fn files(clusters: &[Cluster<'_>]) -> Vec<(ClusterName, Problem)> {
    let mut out = Vec::new();
    for cluster in clusters {
        let own = cluster.rendered.root_path.as_str();
        let Some(root) = cluster.rendered.units.iter().find(|u| u.parent.is_none()) else { continue };
        for other in clusters {
            let theirs = other.rendered.root_path.as_str();
            // Clusters may share a root, and one may lie in the other.
            if theirs.is_empty() || below(theirs, own) || below(own, theirs) {
                continue;
            }
            for unit in cluster.rendered.units.iter().filter(|u| u.source == root.source) {
                let Some(file) = first_file(unit, theirs) else { continue };
                let message = format!(
                    "unit {} of this cluster reads {file} and maybe more below {theirs}, the root of cluster {}",
                    unit.id, other.name
                );
                let at = Some(unit.defined_at.clone()).filter(|at| !at.file.is_empty());
                out.push((cluster.name.clone(), Problem::new(Code::ForeignFiles, &unit.id, at, message)));
            }
        }
    }
    out
}

fn first_file<'a>(unit: &'a RenderedUnit, folder: &str) -> Option<&'a str> {
    let read = unit.reads.sources.values().flatten();
    let files = read.filter(|(_, seen)| matches!(seen.entry, Some(Some(SeenEntry::File(_)))));
    files.map(|(path, _)| &**path).find(|path| below(path, folder))
}

/// A value of an object, told by the way to it.
type At<'a> = (&'a ObjectKey, String);

/// Values that hold the name of another cluster where, in that cluster's own object, the same value holds its own: the
/// mark of a copy that was not adapted. It counts only where a third cluster shows that the value follows the cluster, or
/// the field says that it names one.
pub(super) fn names(clusters: &[Cluster<'_>]) -> Vec<(ClusterName, Problem)> {
    let known: BTreeSet<&str> = clusters.iter().map(|c| c.name.as_str()).collect();
    if known.len() < 2 {
        return Vec::new();
    }
    // Where each cluster's own name stands, and where others' do.
    let mut own: BTreeMap<At<'_>, BTreeSet<&str>> = BTreeMap::new();
    let mut foreign: Vec<(&Cluster<'_>, &RenderedUnit, &RenderedObject, String, &str)> = Vec::new();
    for cluster in clusters {
        for (unit, object) in cluster.rendered.objects() {
            if object.bytes.len() > OBJECT_BYTES || !mentions(&object.bytes, &known) {
                continue;
            }
            let Some(value) = object.value() else { continue };
            leaves(&value, &mut String::new(), &mut |path, text| {
                let tokens: BTreeSet<&str> = tokens(text).filter_map(|t| known.get(t).copied()).collect();
                if tokens.contains(cluster.name.as_str()) {
                    own.entry((&object.key, path.to_owned())).or_default().insert(cluster.name.as_str());
                } else if let Some(other) = tokens.first() {
                    foreign.push((cluster, unit, object, path.to_owned(), other));
                }
            });
        }
    }
    let mut out = Vec::new();
    for (cluster, unit, object, path, other) in foreign {
        let Some(who) = own.get(&(&object.key, path.clone())) else { continue };
        let says_so = path.rsplit('/').next().is_some_and(|field| field.to_ascii_lowercase().contains("cluster"));
        if !who.contains(other) || !(says_so || who.len() > 1) {
            continue;
        }
        // What a Secret holds is not shown.
        let secret = object.key.is_secret();
        let named = if secret { "another cluster".to_owned() } else { format!("cluster {other}") };
        let message = format!(
            "{}: the value at {path} names {named}, as it does there; here it should name {}",
            object.key, cluster.name
        );
        let at: Location = object.origin.clone();
        out.push((cluster.name.clone(), Problem::new(Code::ForeignName, &unit.id, Some(at), message)));
    }
    out
}

fn mentions(bytes: &[u8], names: &BTreeSet<&str>) -> bool {
    let text = String::from_utf8_lossy(bytes);
    names.iter().any(|name| text.contains(name))
}

/// Words as names are written: letters, digits, hyphens.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|t| !t.is_empty())
}

fn leaves(value: &Value, path: &mut String, f: &mut dyn FnMut(&str, &str)) {
    let length = path.len();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                leaves(value, path, f);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push_str(&format!("/{index}"));
                leaves(value, path, f);
                path.truncate(length);
            }
        }
        Value::String(text) => f(path, text),
        _ => {}
    }
}
