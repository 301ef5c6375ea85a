//! What the API server fills in before it validates a custom object: the defaults of its definition.
//!
//! A default counts where its parent is there, also in place of a null in a field that may not be null; what a default brings
//! is completed in turn. Other nulls stay: server-side apply refuses them where no null may be.

use serde_json::Value;

use super::schema::{Rest, Schemas, Type, TypeId, What};

/// How deep values are followed: no object the API server takes is deeper.
const DEPTH: usize = 128;
/// Values that defaults may add to one object: beyond any real definition, and a bound.
const MOST: usize = 100_000;

/// Completes an object in place. Kubernetes' own types, whose defaults are no part of a schema, have none here.
///
/// # Errors
/// The defaults would make the object larger than any that is meant.
pub(super) fn complete(schemas: &Schemas, id: TypeId, value: &mut Value) -> Result<(), String> {
    if !schemas.version.is_empty() {
        return Ok(());
    }
    let mut filler = Filler { schemas, left: MOST };
    filler.fill(id, value, 0).ok_or_else(|| format!("the defaults of its definition add more than {MOST} values"))
}

struct Filler<'a> {
    schemas: &'a Schemas,
    left: usize,
}

impl Filler<'_> {
    /// `None` when there is too much to add.
    fn fill(&mut self, id: TypeId, value: &mut Value, depth: usize) -> Option<()> {
        let schemas = self.schemas;
        let of = schemas.type_of(id);
        if depth > DEPTH {
            return Some(());
        }
        match value {
            Value::Object(map) => {
                for (key, id) in &of.fields {
                    let kind = schemas.type_of(*id);
                    let Some(default) = &kind.default else { continue };
                    let absent = map.get(&**key).is_none_or(|value| value.is_null() && !kind.nullable);
                    if absent {
                        map.insert(key.to_string(), self.copy(default)?);
                    }
                }
                for (key, value) in map {
                    let Some(id) = field(of, key) else { continue };
                    self.null(id, value)?;
                    self.fill(id, value, depth + 1)?;
                }
            }
            Value::Array(items) => {
                let What::List(Some(id)) = of.what else { return Some(()) };
                for item in items {
                    self.null(id, item)?;
                    self.fill(id, item, depth + 1)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Null where no null may be takes the default, where there is one.
    fn null(&mut self, id: TypeId, value: &mut Value) -> Option<()> {
        let schemas = self.schemas;
        let of = schemas.type_of(id);
        if let (true, false, Some(default)) = (value.is_null(), of.nullable, &of.default) {
            *value = self.copy(default)?;
        }
        Some(())
    }

    fn copy(&mut self, default: &Value) -> Option<Value> {
        self.left = self.left.checked_sub(values(default))?;
        Some(default.clone())
    }
}

fn field(of: &Type, key: &str) -> Option<TypeId> {
    match (of.fields.get(key), of.rest) {
        (Some(id), _) => Some(*id),
        (None, Rest::Of(id)) => Some(id),
        (None, _) => None,
    }
}

/// How many values there are in one.
fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(values).fold(1, usize::saturating_add),
        Value::Object(map) => map.values().map(values).fold(1, usize::saturating_add),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::target::Location;
    use crate::validate::crds::Definition;

    fn completed(schema: Value, mut object: Value) -> Result<Value, String> {
        let definition = json!({"metadata": {"name": "things.x"}, "spec": {"group": "x", "names": {"kind": "Thing"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        let at = Location { source: "s".into(), file: "f".into(), line: 1 };
        let definition = Definition::new(at, definition);
        let schemas = definition.schemas().unwrap();
        let root = schemas.kind("x/v1", "Thing").unwrap().root;
        complete(schemas, root, &mut object).map(|()| object)
    }

    /// The rules of apiextensions, "Defaulting" and "Defaulting and Nullable".
    #[test]
    fn defaults_are_filled_in_as_the_api_server_does() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "p": {"type": "string"},
            "q": {"type": "string", "nullable": true},
            "deep": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}},
            "made": {"type": "object", "default": {}, "properties": {"a": {"type": "integer", "default": 1}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}},
        }});
        for (object, expected) in [
            (json!({}), json!({"a": "x", "n": "x", "made": {"a": 1}})),
            (json!({"a": "y", "made": {"a": 2}, "n": "z"}), json!({"a": "y", "n": "z", "made": {"a": 2}})),
            (
                json!({"a": null, "n": null, "p": null, "q": null, "made": null}),
                json!({"a": "x", "n": null, "p": null, "q": null, "made": {"a": 1}}),
            ),
            (
                json!({"deep": {}, "list": [{}, {"a": 2}, null], "map": {"k": {}, "l": null}}),
                json!({"a": "x", "n": "x", "made": {"a": 1}, "deep": {"a": 1}, "list": [{"a": 1}, {"a": 2}, null], "map": {"k": {"a": 1}, "l": null}}),
            ),
        ] {
            assert_eq!(completed(schema.clone(), object.clone()).unwrap(), expected, "of {object}");
        }
    }

    #[test]
    fn defaults_that_swell_an_object_are_refused() {
        let schema = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "integer"}, "default": vec![0; 1000]}}}}}});
        let items = |count: usize| json!({"list": vec![json!({}); count]});
        assert!(completed(schema.clone(), items(99)).is_ok());
        assert!(completed(schema, items(100)).unwrap_err().contains("100000"));
    }
}
