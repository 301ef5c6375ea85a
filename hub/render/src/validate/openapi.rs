//! From what an API server says of itself (`/openapi/v3` and its discovery) to the compact text of its schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::schema::Writer;

/// A kind an API server serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// `group/version` or `version`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Whether a server serves it only when it is switched on.
    pub off: bool,
}

/// Prefixes of type names that say nothing.
const PREFIXES: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.apimachinery.pkg.api.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
    "io.k8s.api.",
];

/// Fields that a document calls required, by the short name of their type, and that the API server takes left out: their
/// zero value is one that counts, or it fills them in.
const LEFT_OUT: &[(&str, &str)] = &[
    ("apiextensions.v1.CustomResourceDefinitionVersion", "served"),
    ("apiextensions.v1.CustomResourceDefinitionVersion", "storage"),
    ("apps.v1.ControllerRevision", "revision"),
    ("core.v1.HTTPHeader", "value"),
    ("core.v1.ISCSIPersistentVolumeSource", "lun"),
    ("core.v1.ISCSIVolumeSource", "lun"),
    ("core.v1.SleepAction", "seconds"),
    ("core.v1.Sysctl", "value"),
];

/// Writes the schemas of the kinds an API server serves. `documents` are its OpenAPI v3 documents, by path as
/// `/openapi/v3` lists them (`api/v1`, `apis/apps/v1`).
///
/// # Errors
/// When a document has not the shape that Kubernetes gives it.
pub fn record(version: &str, documents: &BTreeMap<String, Value>, kinds: &[Served]) -> Result<String, String> {
    let mut all: BTreeMap<&str, &Value> = BTreeMap::new();
    for document in documents.values() {
        let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
        all.extend(schemas.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
    }
    let mut by_kind: BTreeMap<(String, &str), &str> = BTreeMap::new();
    for (name, schema) in &all {
        for of in schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default();
            let api_version = match text("group") {
                "" => text("version").to_owned(),
                group => format!("{group}/{}", text("version")),
            };
            by_kind.entry((api_version, text("kind"))).or_insert(name);
        }
    }
    let mut recorder = Recorder { all: &all, named: BTreeMap::new(), short: BTreeMap::new(), open: Vec::new(), of: "" };
    let mut writer = Writer { named: BTreeMap::new(), kinds: Vec::new(), version };
    let mut roots: BTreeSet<&str> = BTreeSet::new();
    let mut sorted = kinds.to_vec();
    sorted.sort();
    for served in &sorted {
        let Some(name) = by_kind.get(&(served.api_version.clone(), served.kind.as_str())) else {
            return Err(format!("no document has a schema for {} {}", served.api_version, served.kind));
        };
        roots.insert(name);
        let root = recorder.name(name)?;
        writer.kinds.push((served.api_version.clone(), served.kind.clone(), served.namespaced, served.off, root));
    }
    while let Some(name) = recorder.open.pop() {
        let schema = recorder.all.get(name).ok_or_else(|| format!("type {name} is nowhere"))?;
        let short = recorder.name(name)?;
        recorder.of = short;
        let text = recorder.text(schema, roots.contains(name))?;
        recorder.named.insert(short, text);
    }
    writer.named = recorder.named;
    Ok(writer.to_string())
}

struct Recorder<'a> {
    all: &'a BTreeMap<&'a str, &'a Value>,
    named: BTreeMap<&'a str, String>,
    /// Short names in use, and whose they are.
    short: BTreeMap<&'a str, &'a str>,
    open: Vec<&'a str>,
    /// The named type that is being written.
    of: &'a str,
}

impl<'a> Recorder<'a> {
    /// The short name of a type, which will be written.
    fn name(&mut self, name: &'a str) -> Result<&'a str, String> {
        let short = PREFIXES.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
        match self.short.insert(short, name) {
            None => self.open.push(name),
            Some(other) if other != name => return Err(format!("{name} and {other} have one short name")),
            Some(_) => {}
        }
        Ok(short)
    }

    fn reference(&mut self, target: &'a str) -> Result<String, String> {
        let name = target.rsplit('/').next().unwrap_or(target);
        let schema = *self.all.get(name).ok_or_else(|| format!("{target} leads nowhere"))?;
        let last = name.rsplit('.').next().unwrap_or(name);
        Ok(match last {
            "IntOrString" => "x".to_owned(),
            "Quantity" => "q".to_owned(),
            "Time" | "MicroTime" => "t".to_owned(),
            "RawExtension" | "FieldsV1" => "{*}".to_owned(),
            // Small ones are written where they are used.
            _ if schema.get("properties").is_none() => self.text(schema, false)?,
            _ => format!("@{}", self.name(name)?),
        })
    }

    fn text(&mut self, schema: &'a Value, is_root: bool) -> Result<String, String> {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        if let Some(target) = text("$ref") {
            return self.reference(target);
        }
        if let Some([one]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            return self.text(one, false);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            let texts = texts.ok_or("an enum of something else than texts")?;
            if texts.iter().any(|t| t.contains('"')) {
                return Err("an enum value with a quote in it".to_owned());
            }
            return Ok(texts.iter().map(|t| format!("\"{t}\"")).collect::<Vec<_>>().join("|"));
        }
        let known = match (text("type"), text("format")) {
            (Some("string"), Some("byte")) => "y",
            (Some("string"), Some("date-time")) => "t",
            (Some("string"), _) => "s",
            (Some("integer"), _) => "i",
            (Some("number"), _) => "n",
            (Some("boolean"), _) => "b",
            (None, Some("int-or-string")) => "x",
            (None, _) => "*",
            (Some("array"), _) => {
                let items = schema.get("items").ok_or("a list without items")?;
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
                let keys = if keys.is_empty() { String::new() } else { format!(";{}", keys.join(",")) };
                return Ok(format!("[{}{keys}]", self.text(items, false)?));
            }
            (Some("object"), _) => return self.object(schema, is_root),
            (Some(other), _) => return Err(format!("a value of type {other}")),
        };
        Ok(known.to_owned())
    }

    fn object(&mut self, schema: &'a Value, is_root: bool) -> Result<String, String> {
        let preserve = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Ok(match schema.get("additionalProperties") {
                Some(of @ Value::Object(_)) => format!("<{}>", self.text(of, false)?),
                // A type of its own that JSON may hold anything for.
                _ => "{*}".to_owned(),
            });
        };
        let required = schema.get("required").and_then(Value::as_array);
        let required: BTreeSet<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        for (name, property) in properties {
            let needed = required.contains(name.as_str()) && !LEFT_OUT.contains(&(self.of, name.as_str()));
            let mark = if needed { "!" } else { "" };
            // What a server writes itself is not looked at.
            let text = match name.as_str() {
                "status" if is_root => "*".to_owned(),
                "managedFields" => "*".to_owned(),
                _ => self.text(property, false)?,
            };
            let mark = if is_root && name == "status" { "" } else { mark };
            fields.push(format!("{mark}{name}:{text}"));
        }
        let open = if preserve { "*" } else { "" };
        Ok(format!("{{{open}{}}}", fields.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validate::schema::Schemas;

    #[test]
    fn a_document_becomes_a_few_lines() {
        let documents = BTreeMap::from([(
            "apis/apps/v1".to_owned(),
            json!({"components": {"schemas": {
                "io.k8s.api.apps.v1.Thing": {
                    "type": "object", "description": "words",
                    "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Thing"}],
                    "properties": {
                        "spec": {"allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.ThingSpec"}], "default": {}},
                        "status": {"$ref": "#/components/schemas/io.k8s.api.apps.v1.Nowhere"},
                    },
                },
                "io.k8s.api.apps.v1.ThingSpec": {
                    "type": "object", "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "mode": {"type": "string", "enum": ["A", "B"]},
                        "limit": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"},
                        "ports": {"type": "array", "items": {"type": "integer", "format": "int32"}, "x-kubernetes-list-map-keys": ["a"]},
                        "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
                        "raw": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.runtime.RawExtension"},
                    },
                },
                "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                "io.k8s.apimachinery.pkg.runtime.RawExtension": {"type": "object"},
            }}}),
        )]);
        let kinds = [Served { api_version: "apps/v1".into(), kind: "Thing".into(), namespaced: true, off: false }];
        let text = record("v1.36.0", &documents, &kinds).unwrap();
        assert_eq!(
            text,
            "driftless-schemas 1\nkubernetes v1.36.0\nkind apps/v1 Thing namespaced apps.v1.Thing\n\
             type apps.v1.Thing {spec:@apps.v1.ThingSpec,status:*}\n\
             type apps.v1.ThingSpec {labels:<s>,limit:q,mode:\"A\"|\"B\",!name:s,ports:[i;a],raw:{*}}\n"
        );
        assert!(Schemas::parse(&text).unwrap().kind("apps/v1", "Thing").is_some());
        let missing = [Served { kind: "Other".into(), ..kinds[0].clone() }];
        assert!(record("v1.36.0", &documents, &missing).unwrap_err().contains("apps/v1 Other"));
    }
}
