//! What the agent makes of the hub's bytes: holes filled, and its own edits, each named, none silent.

use base64::Engine as _;
use driftless_protocol::canonical::{self, CanonicalError};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::fill::{Fill, Filled};
use crate::ignore;
use crate::step::{Apply, Edit};

/// What is sent for an apply.
#[derive(Debug)]
pub struct Body {
    /// Canonical JSON.
    pub bytes: Zeroizing<Vec<u8>>,
    /// A value of a Secret went into it: what the API server says of it may quote that.
    pub secret: bool,
}

/// Finishes and edits the bytes of an apply.
///
/// # Errors
/// Why it cannot be sent, for people; never with a value that was filled in.
pub fn prepare(apply: &Apply, hub: &[u8]) -> Result<Body, String> {
    let Some(fill) = &apply.fill else {
        let bytes = body(hub, &apply.edits).map_err(|e| format!("{} cannot be prepared: {e}", apply.key))?;
        return Ok(Body { bytes: Zeroizing::new(bytes), secret: false });
    };
    let Filled { bytes, secret } = fill.object(&apply.key, &apply.api_version, hub).map_err(|e| e.to_string())?;
    let bytes = body(&bytes, &apply.edits).map_err(|_| format!("{} cannot be prepared once filled in", apply.key))?;
    Ok(Body { bytes: Zeroizing::new(bytes), secret })
}

/// The declared object as a value, finished and edited; `None` where it cannot be.
#[must_use]
pub fn declared(
    hub: &[u8],
    (key, api_version): (&driftless_protocol::object::ObjectKey, &str),
    fill: Option<&Fill>,
    edits: &[Edit],
) -> Option<Value> {
    let mut object = match fill {
        Some(fill) => serde_json::from_slice(&fill.object(key, api_version, hub).ok()?.bytes).ok()?,
        None => serde_json::from_slice(hub).ok()?,
    };
    edit(&mut object, edits);
    Some(object)
}

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
