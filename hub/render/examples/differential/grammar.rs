//! Random trees of kustomizations, from a grammar that knows every field.

use crate::case::Case;
use crate::fields::{FIELDS, Field};
use crate::objects;
use crate::rng::Rng;
use crate::value::{Value, map, text};
use crate::words::NAMES;

/// An object that a tree holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) api: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) value: Value,
}

/// A tree in the making.
pub(crate) struct Maker<'r> {
    pub(crate) rng: &'r mut Rng,
    pub(crate) case: Case,
    pub(crate) known: Vec<Known>,
    made: usize,
}

impl Maker<'_> {
    /// Puts a file with a name of its own into a folder; the name.
    pub(crate) fn file(&mut self, dir: &str, stem: &str, ending: &str, text: impl Into<Vec<u8>>) -> String {
        self.made += 1;
        let name = format!("{stem}{}.{ending}", self.made);
        self.case.files.insert(at(dir, &name), text.into());
        name
    }

    /// Like [`Maker::file`], for YAML.
    pub(crate) fn yaml(&mut self, dir: &str, stem: &str, value: &Value) -> String {
        let text = value.write(self.rng);
        self.file(dir, stem, "yaml", text)
    }

    fn resource(&mut self, dir: &str) -> String {
        let text = objects::file(self.rng);
        self.learn(&text);
        self.file(dir, "r", "yaml", text)
    }

    /// Notes which objects a text holds.
    pub(crate) fn learn(&mut self, text: &str) {
        let limits = driftless_yaml::Limits::default();
        let found = driftless_yaml::parse_all(text.as_bytes(), driftless_yaml::Dialect::Resource, &limits);
        for document in found.unwrap_or_default() {
            let field = |path: &[&str]| document.node.at(path).and_then(|n| n.as_str()).unwrap_or_default().to_owned();
            self.known.push(Known {
                api: field(&["apiVersion"]),
                kind: field(&["kind"]),
                name: field(&["metadata", "name"]),
                namespace: field(&["metadata", "namespace"]),
                value: Value::of(&document.node),
            });
        }
    }

    /// One of the known objects.
    pub(crate) fn one(&mut self) -> Option<Known> {
        if self.known.is_empty() { None } else { Some(self.known[self.rng.below(self.known.len())].clone()) }
    }

    /// The name of a known object, or any.
    pub(crate) fn name(&mut self) -> String {
        match self.one() {
            Some(known) if self.rng.chance(75) && !known.name.is_empty() => known.name,
            _ => self.rng.pick(NAMES).to_owned(),
        }
    }

    /// Fills a folder: `below` are the folders it builds on, relative to it.
    fn folder(&mut self, dir: &str, below: &[String], components: &[String], own: usize, fields: usize) {
        let mut resources: Vec<Value> = below.iter().map(|b| text(b)).collect();
        for _ in 0..own {
            let name = self.resource(dir);
            resources.push(text(&name));
        }
        let mut entries = vec![
            ("apiVersion".to_owned(), text("kustomize.config.k8s.io/v1beta1")),
            ("kind".to_owned(), text("Kustomization")),
        ];
        if self.rng.chance(15) {
            entries.clear();
        }
        entries.push(("resources".to_owned(), Value::Seq(resources)));
        if !components.is_empty() {
            entries.push(("components".to_owned(), Value::Seq(components.iter().map(|c| text(c)).collect())));
        }
        self.fields(dir, &mut entries, fields);
        self.kustomization(dir, Value::Map(entries));
    }

    fn component(&mut self, dir: &str, own: usize, fields: usize) {
        let mut entries = vec![
            ("apiVersion".to_owned(), text("kustomize.config.k8s.io/v1alpha1")),
            ("kind".to_owned(), text("Component")),
        ];
        if own > 0 {
            let names = (0..own).map(|_| text(&self.resource(dir))).collect();
            entries.push(("resources".to_owned(), Value::Seq(names)));
        }
        self.fields(dir, &mut entries, fields.max(1));
        self.kustomization(dir, Value::Map(entries));
    }

    fn fields(&mut self, dir: &str, entries: &mut Vec<(String, Value)>, count: usize) {
        for _ in 0..count {
            let total: usize = FIELDS.iter().map(|(weight, _)| weight).sum();
            let mut at = self.rng.below(total);
            let mut chosen: Option<Field> = None;
            for (weight, field) in FIELDS {
                if at < *weight {
                    chosen = Some(*field);
                    break;
                }
                at -= weight;
            }
            let Some(field) = chosen else { continue };
            let (key, value) = field(self, dir);
            match entries.iter_mut().find(|(k, _)| *k == key) {
                Some((_, Value::Seq(there))) => {
                    if let Value::Seq(more) = value {
                        there.extend(more);
                    }
                }
                Some((_, there)) => *there = value,
                None => entries.push((key.to_owned(), value)),
            }
        }
    }

    fn kustomization(&mut self, dir: &str, value: Value) {
        let mut value = value;
        if self.rng.chance(3) {
            value.mutate(self.rng);
        }
        let name = if self.rng.chance(95) { "kustomization.yaml" } else { "kustomization.yml" };
        let text = value.write(self.rng);
        self.case.files.insert(at(dir, name), text.into());
    }
}

pub(crate) fn at(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A random tree and the folder to build.
pub(crate) fn tree(rng: &mut Rng) -> Case {
    let shape = rng.below(10);
    let mut maker = Maker { rng, case: Case::default(), known: Vec::new(), made: 0 };
    let few = |m: &mut Maker<'_>| m.rng.between(0, 2);
    match shape {
        0..=3 => {
            let (own, fields) = (maker.rng.between(1, 3), maker.rng.between(1, 5));
            maker.folder("", &[], &[], own, fields);
        }
        4..=7 => {
            let (own, fields) = (maker.rng.between(1, 3), few(&mut maker));
            maker.folder("base", &[], &[], own, fields);
            let mut components = Vec::new();
            if maker.rng.chance(30) {
                let (own, fields) = (maker.rng.below(2), maker.rng.between(1, 3));
                maker.component("comp", own, fields);
                components.push("../comp".to_owned());
            }
            let (own, fields) = (maker.rng.below(2), maker.rng.between(1, 4));
            maker.folder("over", &["../base".to_owned()], &components, own, fields);
            maker.case.dir = "over".to_owned();
        }
        _ => {
            for dir in ["one", "two"] {
                let (own, fields) = (maker.rng.between(1, 2), few(&mut maker));
                maker.folder(dir, &[], &[], own, fields);
            }
            let fields = few(&mut maker);
            maker.folder("mid", &["../one".to_owned()], &[], 0, fields);
            let mut components = Vec::new();
            if maker.rng.chance(30) {
                let fields = maker.rng.between(1, 2);
                maker.component("comp", 0, fields);
                components.push("../comp".to_owned());
            }
            let (own, fields) = (maker.rng.below(2), maker.rng.between(1, 3));
            let second = if maker.rng.chance(50) { "../two" } else { "../mid/../two" };
            maker.folder("top", &["../mid".to_owned(), second.to_owned()], &components, own, fields);
            maker.case.dir = "top".to_owned();
        }
    }
    maker.case
}

/// One more field for a folder of a tree that is there: its key and value, with the files it needs put into the tree.
pub(crate) fn one_field(rng: &mut Rng, case: &mut Case, dir: &str, known_from: &[String]) -> (String, Value) {
    let mut maker = Maker { rng, case: std::mem::take(case), known: Vec::new(), made: 1000 };
    for path in known_from {
        let bytes = maker.case.files.get(path).cloned().unwrap_or_default();
        maker.learn(&String::from_utf8_lossy(&bytes));
    }
    let mut entries = Vec::new();
    maker.fields(dir, &mut entries, 1);
    *case = maker.case;
    entries.pop().unwrap_or_else(|| ("metadata".to_owned(), map([("name", text("x"))])))
}
