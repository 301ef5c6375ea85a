//! The agent's own edits of the hub's bytes: each named, none silent.

use base64::Engine as _;
use driftless_protocol::canonical::{self, CanonicalError};
use serde_json::Value;

use crate::ignore;
use crate::step::Edit;

/// The bytes to apply: the hub's, with these edits made. Canonical again.
///
/// Errors when the bytes are not JSON; never for an edit that finds nothing to change.
pub fn body(hub: &[u8], edits: &[Edit]) -> Result<Vec<u8>, CanonicalError> {
    if edits.is_empty() {
        return Ok(hub.to_vec());
    }
    let mut object = canonical::parse(hub)?;
    edit(&mut object, edits);
    Ok(canonical::value_to_vec(&object))
}

/// Makes these edits in a parsed object.
pub fn edit(object: &mut Value, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::OmitReplicas => {
                if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.remove("replicas");
                }
            }
            Edit::LiveReplicas(live) => {
                if let Some(replicas) = object.pointer_mut("/spec/replicas") {
                    *replicas = Value::from(*live);
                }
            }
            Edit::EncodeStringData => encode_string_data(object),
            Edit::DropFields(pointers) => {
                // From the end, so that an index still means the item it meant.
                for pointer in pointers.iter().rev() {
                    remove(object, pointer);
                }
            }
            Edit::KeepLive(fields) => {
                for (pointer, live) in fields {
                    keep(object, pointer, live);
                }
            }
        }
    }
}

fn parent<'v>(object: &'v mut Value, pointer: &str) -> Option<(&'v mut Value, String)> {
    let (above, _) = pointer.rsplit_once('/')?;
    Some((object.pointer_mut(above)?, ignore::parts(pointer).pop()?))
}

fn remove(object: &mut Value, pointer: &str) {
    match parent(object, pointer) {
        Some((Value::Object(map), name)) => {
            map.remove(&name);
        }
        Some((Value::Array(items), index)) => {
            if let Some(index) = index.parse::<usize>().ok().filter(|index| *index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// Only what is declared is kept as it is live: a field that Git does not declare is not ours to send.
fn keep(object: &mut Value, pointer: &str, live: &Value) {
    if let Some(declared) = object.pointer_mut(pointer) {
        *declared = live.clone();
    }
}

fn encode_string_data(secret: &mut Value) {
    let Some(secret) = secret.as_object_mut() else { return };
    let Some(Value::Object(plain)) = secret.remove("stringData") else { return };
    let data = secret.entry("data").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if data.is_null() {
        *data = Value::Object(serde_json::Map::new());
    }
    let Some(data) = data.as_object_mut() else { return };
    for (name, value) in plain {
        if let Value::String(text) = value {
            data.insert(name, base64::engine::general_purpose::STANDARD.encode(text).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let check = |before: Value, edits: &[Edit], after: Value| {
            let bytes = body(&canonical::value_to_vec(&before), edits).expect("an object");
            assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), after, "{edits:?}");
        };
        let deployment = json!({"spec": {"replicas": 3, "x": 1}});
        check(deployment.clone(), &[], deployment.clone());
        check(deployment.clone(), &[Edit::OmitReplicas], json!({"spec": {"x": 1}}));
        check(deployment, &[Edit::LiveReplicas(7)], json!({"spec": {"replicas": 7, "x": 1}}));
        check(json!({"spec": {}}), &[Edit::LiveReplicas(7)], json!({"spec": {}}));
        let object = json!({"spec": {"list": [1, 2, 3], "a": {"b": 1, "c": 2}}});
        let pointers = ["/spec/a/b", "/spec/list/0", "/spec/list/2", "/spec/list/7", "/no/such"];
        check(
            object.clone(),
            &[Edit::DropFields(pointers.map(str::to_owned).to_vec())],
            json!({"spec": {"list": [2], "a": {"c": 2}}}),
        );
        check(
            object,
            &[Edit::KeepLive(vec![("/spec/a/b".into(), json!("x")), ("/spec/new".into(), json!(1))])],
            json!({"spec": {"list": [1, 2, 3], "a": {"b": "x", "c": 2}}}),
        );
        check(
            json!({"data": {"a": "eA=="}, "stringData": {"b": "y", "a": "z"}}),
            &[Edit::EncodeStringData],
            json!({"data": {"a": "eg==", "b": "eQ=="}}),
        );
        check(
            json!({"data": null, "stringData": {"b": "y"}}),
            &[Edit::EncodeStringData],
            json!({"data": {"b": "eQ=="}}),
        );
    }
}
