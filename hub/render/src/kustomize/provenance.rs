//! Where an object comes from and what changed it, as `buildMetadata` writes it into annotations.

use super::res::{Objects, Res};
use driftless_yaml::{Map, Node};
use std::sync::Arc;

const ORIGIN: &str = "config.kubernetes.io/origin";
const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";

/// One origin or transformation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    path: String,
    configured_in: String,
    /// `apiVersion`, kind, name, namespace.
    configured_by: [String; 4],
}

impl Provenance {
    /// An object read from a file.
    pub(crate) fn of_file(path: String) -> Self {
        Self { path, ..Self::default() }
    }

    /// A generator or transformer of a kustomization file.
    pub(crate) fn of_builtin(file: String, kind: &str) -> Self {
        let by = ["builtin".to_owned(), kind.to_owned(), String::new(), String::new()];
        Self { configured_in: file, configured_by: by, ..Self::default() }
    }

    /// A generator or transformer given as an object.
    pub(crate) fn of_object(res: &Res) -> Option<Self> {
        let from = res.provenance.as_ref()?;
        let by = [res.api(), res.kind(), res.name(), res.namespace()].map(|t| t.to_string());
        Some(Self { configured_in: from.path.clone(), configured_by: by, ..Self::default() })
    }

    fn node(&self) -> Node {
        let mut map = Map::new();
        for (key, value) in [("path", &self.path), ("configuredIn", &self.configured_in)] {
            if !value.is_empty() {
                map.insert(key, Node::string(value.as_str()));
            }
        }
        let mut by = Map::new();
        for (key, value) in ["apiVersion", "kind", "name", "namespace"].into_iter().zip(&self.configured_by) {
            if !value.is_empty() {
                by.insert(key, Node::string(value.as_str()));
            }
        }
        if !by.is_empty() {
            map.insert("configuredBy", Node::Map(by));
        }
        Node::Map(map)
    }

    /// As the real program prints it: fields in this order.
    fn text(&self, item: bool) -> String {
        let mut out = String::new();
        let mut line = |depth: usize, key: &str, value: Option<&Node>| {
            let lead = match (item, out.is_empty()) {
                (true, true) => "- ",
                (true, false) => "  ",
                (false, _) => "",
            };
            out.push_str(lead);
            (0..depth).for_each(|_| out.push_str("  "));
            out.push_str(key);
            out.push(':');
            match value.and_then(|v| driftless_yaml::to_string(v).ok()) {
                Some(text) => {
                    out.push(' ');
                    out.push_str(&text);
                }
                None => out.push('\n'),
            }
        };
        if let Node::Map(map) = self.node() {
            for entry in &map {
                match &entry.value {
                    Node::Map(inner) => {
                        line(0, &entry.key, None);
                        inner.iter().for_each(|e| line(1, &e.key, Some(&e.value)));
                    }
                    value => line(0, &entry.key, Some(value)),
                }
            }
        }
        out
    }
}

/// Joins a relative path to the way from the root, keeping leading `..`.
pub(crate) fn clean_path(way: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in way.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Notes a transformer on every object; one without an origin counts as made by it.
pub(crate) fn note(objects: &mut Objects, provenance: &Arc<Provenance>) {
    for res in objects.iter_mut_same_id() {
        if res.provenance.is_none() {
            res.provenance = Some(provenance.clone());
        } else {
            res.transformed.push(provenance.clone());
        }
    }
}

/// Writes the annotations that were asked for, and removes others of these names.
pub(crate) fn write(res: &mut Res, origins: bool, transformations: bool) {
    let asked = (origins && res.provenance.is_some()) || (transformations && !res.transformed.is_empty());
    if !asked && [ORIGIN, TRANSFORMATIONS].iter().all(|key| res.meta_pair("annotations", key).is_none()) {
        return;
    }
    let mut pairs: Vec<(Arc<str>, Arc<str>)> = res.meta_pairs("annotations");
    let before = pairs.len();
    let (keep_origin, keep_transformations) = (origins && res.provenance.is_none(), transformations);
    pairs.retain(|(k, _)| match &**k {
        ORIGIN => keep_origin,
        TRANSFORMATIONS => keep_transformations,
        _ => true,
    });
    let mut changed = pairs.len() != before;
    if origins && let Some(provenance) = &res.provenance {
        pairs.push((ORIGIN.into(), provenance.text(false).into()));
        changed = true;
    }
    if transformations && !res.transformed.is_empty() {
        let text: String = res.transformed.iter().map(|t| t.text(true)).collect();
        pairs.push((TRANSFORMATIONS.into(), text.into()));
        changed = true;
    }
    if changed {
        res.set_meta_pairs("annotations", pairs);
    }
}
