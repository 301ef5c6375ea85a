//! The agent's own edits of the hub's bytes: each named, none silent.

use driftless_protocol::canonical::{self, CanonicalError};
use serde_json::Value;

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
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { continue };
        match edit {
            Edit::OmitReplicas => {
                spec.remove("replicas");
            }
            Edit::LiveReplicas(live) => {
                if spec.contains_key("replicas") {
                    spec.insert("replicas".to_owned(), Value::from(*live));
                }
            }
        }
    }
}
