//! Schemas of CustomResourceDefinitions.

use std::sync::{Arc, OnceLock};

use driftless_yaml::{Dialect, Limits, Node, parse_all};
use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::formats::Format;
use super::rules::Rules;
use super::schema::{KindSchema, Rest, Schemas, Type, TypeId, What};
use crate::flux::path;
use crate::target::Location;
use crate::tree::{Entry, Tree, TreeError};

/// How deep a schema may go: Kubernetes' own limit on complexity is far below.
const DEPTH: usize = 64;
/// Files searched, and bytes of each: beyond any real repository, and a bound.
const FILES: usize = 200_000;
const FILE_BYTES: u64 = 16 << 20;
/// Bytes of a compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;

/// A CustomResourceDefinition.
#[derive(Debug)]
pub struct Definition {
    /// Where it is written.
    pub at: Location,
    value: Value,
    /// Its schemas, read when somebody asks: a repository holds many that nothing uses.
    schemas: OnceLock<Result<Arc<Schemas>, String>>,
}

impl Definition {
    /// A definition as the API server would be given it.
    #[must_use]
    pub fn new(at: Location, value: Value) -> Self {
        Self { at, value, schemas: OnceLock::new() }
    }

    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Group and kind of the objects it is for.
    #[must_use]
    pub fn defines(&self) -> (&str, &str) {
        (self.text("/spec/group"), self.text("/spec/names/kind"))
    }

    /// The kinds it makes, or why it makes none.
    pub(super) fn schemas(&self) -> Result<&Arc<Schemas>, &str> {
        self.schemas.get_or_init(|| schemas(&self.value).map(Arc::new)).as_ref().map_err(String::as_str)
    }
}

/// Every CustomResourceDefinition in the files of a source, in the order of their paths.
///
/// # Errors
/// Only when the source cannot be read. Files that are no YAML are passed over.
pub fn find(source: &str, tree: &dyn Tree) -> Result<Vec<Arc<Definition>>, TreeError> {
    let mut out = Vec::new();
    let mut folders = vec![String::new()];
    let mut budget = FILES;
    while let Some(folder) = folders.pop() {
        for (name, entry) in tree.list(&folder)?.unwrap_or_default() {
            let here = path::join(&folder, &name);
            match entry {
                Entry::Folder { .. } if name != ".git" => folders.push(here),
                Entry::File { len, .. } if len <= FILE_BYTES && is_manifest(&name) && budget > 0 => {
                    budget -= 1;
                    let Some(bytes) = tree.read(&here)? else { continue };
                    read_file(source, &here, &bytes, &mut out);
                }
                _ => {}
            }
        }
    }
    out.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(out)
}

/// The CustomResourceDefinitions in one file; nothing when it is no YAML.
pub fn read_file(source: &str, file: &str, bytes: &[u8], out: &mut Vec<Arc<Definition>>) {
    let mark = b"CustomResourceDefinition";
    if !bytes.windows(mark.len()).any(|w| w == mark) {
        return;
    }
    let Ok(documents) = parse_all(bytes, Dialect::Resource, &Limits::default()) else { return };
    for document in documents {
        if document.node.at(&["kind"]).and_then(Node::as_str) != Some("CustomResourceDefinition") {
            continue;
        }
        let Some(value) = document.node.to_json().ok().and_then(|json| serde_json::from_slice(&json).ok()) else {
            continue;
        };
        let at = Location { source: source.into(), file: file.into(), line: document.line };
        out.push(Arc::new(Definition::new(at, value)));
    }
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

/// The kinds a definition makes, and why it makes none. A version without a schema, as only `v1beta1` of
/// CustomResourceDefinition allowed, is none.
fn schemas(definition: &Value) -> Result<Schemas, String> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) else {
        return Err("it lacks spec.group or spec.names.kind".to_owned());
    };
    let namespaced = text("/spec/scope") != Some("Cluster");
    let all_open = definition.pointer("/spec/preserveUnknownFields").and_then(Value::as_bool) == Some(true);
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let mut out = Schemas::default();
    let mut without = Vec::new();
    for version in versions.into_iter().flatten() {
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
            without.push(name.to_owned());
            continue;
        };
        let root = Reader { schemas: &mut out }.read(schema, 0, false)?;
        if let Some(root) = out.types.get_mut(root) {
            root.what = What::Object;
            // These are every object's; what metadata may hold is Kubernetes' business.
            for own in ["apiVersion", "kind", "metadata"] {
                root.fields.insert(own.into(), TypeId::MAX);
            }
            if all_open {
                root.rest = Rest::Any;
            }
        }
        let served = version.get("served").and_then(Value::as_bool) != Some(false);
        let schema = KindSchema { root, namespaced, off: !served };
        out.kinds.insert((Arc::from(format!("{group}/{name}")), Arc::from(kind)), schema);
    }
    if out.kinds.is_empty() {
        return Err(match without.as_slice() {
            [] => "it has no versions".to_owned(),
            _ => format!("version {} has no schema in spec.versions[].schema.openAPIV3Schema", without.join(", ")),
        });
    }
    Ok(out)
}

struct Reader<'a> {
    schemas: &'a mut Schemas,
}

impl Reader<'_> {
    /// Reads a schema. In a `loose` one, as inside `anyOf`, fields that are not named are none of its business.
    fn read(&mut self, schema: &Value, depth: usize, loose: bool) -> Result<TypeId, String> {
        if depth > DEPTH {
            return Err(format!("its schema is more than {DEPTH} deep"));
        }
        let Some(map) = schema.as_object() else { return Ok(TypeId::MAX) };
        let on = |key: &str| map.get(key).and_then(Value::as_bool) == Some(true);
        let preserve = on("x-kubernetes-preserve-unknown-fields");
        let mut out = Type {
            nullable: on("nullable"),
            rest: if preserve || loose { Rest::Any } else { Rest::None },
            enums: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            list_keys: texts(map, "x-kubernetes-list-map-keys"),
            set: map.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set"),
            embedded: on("x-kubernetes-embedded-resource"),
            required: texts(map, "required"),
            default: map.get("default").filter(|value| !value.is_null()).cloned().map(Box::new),
            ..Type::default()
        };
        for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let id = self.read(property, depth + 1, loose)?;
            out.fields.insert(name.as_str().into(), id);
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(true)) => out.rest = Rest::Any,
            Some(of @ Value::Object(_)) => out.rest = Rest::Of(self.read(of, depth + 1, loose)?),
            _ => {}
        }
        if on("x-kubernetes-embedded-resource") {
            for own in ["apiVersion", "kind", "metadata"] {
                out.fields.insert(own.into(), TypeId::MAX);
            }
        }
        let items = map.get("items").filter(|i| i.is_object());
        out.what = match map.get("type").and_then(Value::as_str) {
            _ if on("x-kubernetes-int-or-string") => What::IntegerOrText,
            Some("string") => What::Text,
            Some("integer") => What::Integer,
            Some("number") => What::Number,
            Some("boolean") => What::Boolean,
            Some("array") => What::List(items.map(|i| self.read(i, depth + 1, loose)).transpose()?),
            Some("object") => What::Object,
            Some(other) => return Err(format!("its schema has a value of type {other:?}")),
            None => {
                if !loose && out.fields.is_empty() {
                    out.rest = Rest::Any;
                }
                What::Any
            }
        };
        let rules = self.rules(map, depth)?;
        out.rules = (!rules.is_empty()).then(|| Box::new(rules));
        Ok(self.schemas.push(out))
    }

    fn rules(&mut self, map: &Map<String, Value>, depth: usize) -> Result<Rules, String> {
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let count = |key: &str| map.get(key).and_then(Value::as_u64);
        let on = |key: &str| map.get(key).and_then(Value::as_bool) == Some(true);
        let mut list = |key: &str| -> Result<Vec<TypeId>, String> {
            let list = map.get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|schema| self.read(schema, depth + 1, true)).collect()
        };
        let (all_of, any_of, one_of) = (list("allOf")?, list("anyOf")?, list("oneOf")?);
        let not = map.get("not").filter(|n| n.is_object());
        Ok(Rules {
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: on("exclusiveMinimum"),
            exclusive_maximum: on("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            // A pattern this engine does not know is the API server's to judge.
            pattern: map
                .get("pattern")
                .and_then(Value::as_str)
                .and_then(|p| RegexBuilder::new(p).size_limit(PATTERN_BYTES).build().ok()),
            format: map.get("format").and_then(Value::as_str).and_then(Format::named),
            all_of,
            any_of,
            one_of,
            not: not.map(|schema| self.read(schema, depth + 1, true)).transpose()?,
            cel: super::cel::read(map),
        })
    }
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<Box<str>> {
    let list = map.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
