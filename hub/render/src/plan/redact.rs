//! Which values must not be shown.
//!
//! Of a Secret only what identifies it and its labels is shown; everywhere else what SOPS encrypted, what kubectl copied
//! of an earlier object, and sealed data. In place of a value stands `redacted:` and a fingerprint under a key that is
//! random for each run and kept nowhere: equal values show equal fingerprints, and nobody can try out guesses.

use base64::Engine as _;
use driftless_protocol::id::hex;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::model::ChangedField;
use super::path::{FieldPath, Step};

/// What kubectl writes a copy of the whole object into.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How SOPS writes an encrypted value.
const SOPS_VALUE: &str = "ENC[";

/// Takes secrets out of what a plan shows.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// With this key of the run: random, and not kept.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Takes secrets out of a field of an object.
    pub(crate) fn field(&self, of: &ObjectKey, change: &mut ChangedField) {
        if change.reordered {
            return; // names of items; a Secret has no list
        }
        let path = change.path.clone();
        for side in [&mut change.old, &mut change.new].into_iter().flatten() {
            change.redacted |= self.value(of, &path, side);
        }
    }

    /// Takes secrets out of a value that stands at this path of an object, and says whether there were any.
    pub(crate) fn value(&self, of: &ObjectKey, path: &FieldPath, value: &mut Value) -> bool {
        match value {
            Value::Object(map) => {
                let mut any = false;
                for (name, value) in map.iter_mut() {
                    any |= self.value(of, &path.then(Step::Field(name.clone())), value);
                }
                any
            }
            Value::Array(items) => {
                let mut any = false;
                for item in items {
                    any |= self.value(of, path, item);
                }
                any
            }
            Value::Null => false,
            scalar => {
                let hidden = is_hidden(of, path) || scalar.as_str().is_some_and(|text| text.contains(SOPS_VALUE));
                if hidden {
                    *scalar = Value::String(format!("redacted:{}", self.fingerprint(of, path, scalar)));
                }
                hidden
            }
        }
    }

    /// Of the value a Secret holds, whether it is written in base64 (`data`) or plain (`stringData`).
    fn fingerprint(&self, of: &ObjectKey, path: &FieldPath, scalar: &Value) -> String {
        let text = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
        let decoded = (of.is_secret() && path.begins(&["data"])).then(|| {
            let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            base64::engine::general_purpose::STANDARD.decode(compact).ok()
        });
        let bytes = decoded.flatten().unwrap_or_else(|| text.into_bytes());
        hex(&blake3::keyed_hash(&self.key, &bytes).as_bytes()[..4])
    }
}

fn is_hidden(of: &ObjectKey, path: &FieldPath) -> bool {
    let annotation = path.begins(&["metadata", "annotations", LAST_APPLIED]);
    if annotation || path.begins(&["sops"]) {
        return true;
    }
    if of.is_secret() {
        // A list of what may be shown: whatever is added to Secrets some day is not on it.
        let open: [&[&str]; 7] = [
            &["apiVersion"],
            &["kind"],
            &["type"],
            &["immutable"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "labels"],
        ];
        return !open.iter().any(|fields| path.begins(fields));
    }
    of.group == "bitnami.com" && of.kind == "SealedSecret" && path.begins(&["spec", "encryptedData"])
}

#[cfg(test)]
mod tests {
    use super::super::fields::differences;
    use super::*;
    use serde_json::json;

    fn changes(redactor: &Redactor, old: &Value, new: &Value) -> Vec<ChangedField> {
        let key = ObjectKey::of(new).unwrap();
        let mut out = differences(old, new);
        out.iter_mut().for_each(|change| redactor.field(&key, change));
        out
    }

    fn secret(rest: &Value) -> Value {
        let mut out = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"shown": "label"}}, "type": "shown-type"});
        let map = out.as_object_mut().unwrap();
        for (name, value) in rest.as_object().unwrap() {
            match (name.as_str(), value) {
                ("metadata", Value::Object(more)) => {
                    map["metadata"].as_object_mut().unwrap().extend(more.clone());
                }
                _ => drop(map.insert(name.clone(), value.clone())),
            }
        }
        out
    }

    #[test]
    fn no_canary_in_a_secret_is_shown_wherever_it_stands() {
        let redactor = Redactor::new([7; 32]);
        let b64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for place in [
            json!({"data": {"k": b64("CANARY-1")}}),
            json!({"stringData": {"k": "CANARY-1"}}),
            json!({"metadata": {"annotations": {"any": "CANARY-1"}}}),
            json!({"metadata": {"annotations": {LAST_APPLIED: "{\"data\":{\"k\":\"CANARY-1\"}}"}}}),
            json!({"metadata": {"managedFields": [{"x": "CANARY-1"}]}}),
            json!({"odd": ["CANARY-1", {"x": {"y": "CANARY-1"}}]}),
            json!({"data": {"number": 7_654_321}}),
        ] {
            let with = secret(&place);
            let without = secret(&json!({}));
            for (old, new) in [(&with, &without), (&without, &with)] {
                let text = serde_json::to_string(&changes(&redactor, old, new)).unwrap();
                for canary in ["CANARY", &b64("CANARY-1"), "7654321"] {
                    assert!(!text.contains(canary), "{canary} of {place} in {text}");
                }
                assert!(text.contains("\"redacted\":true"), "{text}");
            }
            let mut whole = with.clone();
            assert!(redactor.value(&ObjectKey::of(&with).unwrap(), &FieldPath::default(), &mut whole));
            let text = whole.to_string();
            assert!(
                !text.contains("CANARY") && !text.contains(&b64("CANARY-1")) && !text.contains("7654321"),
                "{text}"
            );
            assert!(
                text.contains("shown-type") && text.contains("\"shown\":\"label\"") && text.contains("\"name\":\"s\"")
            );
        }
    }

    #[test]
    fn encrypted_values_and_copies_of_objects_are_hidden_in_every_kind() {
        let redactor = Redactor::new([7; 32]);
        let object = |rest: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "annotations": {LAST_APPLIED: rest.to_string(), "open": "seen"}}, "data": rest});
        let old = object(
            json!({"a": "ENC[AES256_GCM,data:one,iv:x]", "b": "file\nwith: ENC[AES256_GCM,data:two]\n", "c": "plain-one"}),
        );
        let new = object(
            json!({"a": "ENC[AES256_GCM,data:three,iv:x]", "b": "file\nwith: ENC[AES256_GCM,data:four]\n", "c": "plain-two"}),
        );
        let found = changes(&redactor, &old, &new);
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("ENC["), "{text}");
        assert!(text.contains("plain-one") && text.contains("plain-two"));
        assert_eq!(found.iter().filter(|c| c.redacted).count(), 3, "{text}");
        let sealed = json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "x"}, "spec": {"encryptedData": {"k": "AgBy3i"}, "template": {"type": "Opaque"}}});
        let mut whole = sealed.clone();
        assert!(redactor.value(&ObjectKey::of(&sealed).unwrap(), &FieldPath::default(), &mut whole));
        assert!(!whole.to_string().contains("AgBy3i") && whole.to_string().contains("Opaque"));
    }

    #[test]
    fn equal_values_have_equal_fingerprints_in_one_run_and_others_in_the_next() {
        let shown = |key: u8, rest: Value| {
            let object = secret(&rest);
            let mut whole = object.clone();
            Redactor::new([key; 32]).value(&ObjectKey::of(&object).unwrap(), &FieldPath::default(), &mut whole);
            whole
        };
        let both = shown(1, json!({"data": {"a": "aHVudGVyMg==", "b": "b3RoZXI="}, "stringData": {"c": "hunter2"}}));
        assert_eq!(both["data"]["a"], both["stringData"]["c"], "the same value, written in two ways");
        assert_ne!(both["data"]["a"], both["data"]["b"]);
        assert_ne!(both["data"]["a"], shown(2, json!({"data": {"a": "aHVudGVyMg=="}}))["data"]["a"]);
        assert_eq!(both["data"]["a"].as_str().unwrap().len(), "redacted:".len() + 8);
    }
}
