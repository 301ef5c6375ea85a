//! Whether a text of an object says anything that an earlier one did not: told from the text, without reading it whole.
//!
//! Most of what a watch brings is noise: a controller wrote status, another manager's time moved. Such a text differs from
//! the one before in parts only that [`fold`](crate::fold::fold) passes over, but for health. So the rest of it is marked,
//! and where the mark is the same only health is judged again. Whatever cannot be read as expected has no mark, and is then
//! read whole.
//!
//! | part of the text | in the mark |
//! |---|---|
//! | `status`, `metadata.resourceVersion` | no |
//! | entries of `managedFields`: of `status` and other subresources than `scale` | no |
//! | the others: manager, operation, subresource, fields | yes |
//! | everything else: labels, annotations, finalizers, generation, spec, data | yes |

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Between parts of what is marked: no byte of any text.
const BETWEEN: u8 = 0xff;

/// What is marked of a text: equal or not is all it says. Kept for objects that had noise.
pub(crate) type Still = NonZeroU64;

/// A text, looked over.
pub(crate) struct Glance<'a> {
    hasher: blake3::Hasher,
    /// `apiVersion`, `kind`, `spec`, `status`: what health is judged by, besides the metadata.
    parts: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// All but `managedFields`.
    metadata: Vec<(Cow<'a, str>, &'a RawValue)>,
    plain: bool,
}

/// One entry of `managedFields`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    manager: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    subresource: Cow<'a, str>,
    #[serde(borrow, default, rename = "fieldsV1")]
    fields: Option<&'a RawValue>,
}

impl<'a> Glance<'a> {
    /// Looks a text over; `None` where it is no object as the API server writes them.
    pub(crate) fn at(text: &'a str, key: &[u8; 32]) -> Option<Self> {
        let mut glance =
            Self { hasher: blake3::Hasher::new_keyed(key), parts: Vec::new(), metadata: Vec::new(), plain: true };
        let mut reader = serde_json::Deserializer::from_str(text);
        Whole(&mut glance).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        glance.plain.then_some(glance)
    }

    /// The mark.
    pub(crate) fn still(&self) -> Option<Still> {
        let digest = self.hasher.finalize();
        let (first, _) = digest.as_bytes().split_first_chunk()?;
        Some(Still::new(u64::from_le_bytes(*first)).unwrap_or(Still::MIN))
    }

    /// The object as far as its health is judged by it. `None` where it does not say what it is.
    pub(crate) fn to_judge(&self) -> Option<Value> {
        let read = |parts: &[(Cow<'_, str>, &RawValue)]| -> Option<Map<String, Value>> {
            parts.iter().map(|(name, raw)| Some((name.to_string(), serde_json::from_str(raw.get()).ok()?))).collect()
        };
        let mut object = read(&self.parts)?;
        if !object.contains_key("apiVersion") || !object.contains_key("kind") {
            return None;
        }
        object.insert("metadata".to_owned(), Value::Object(read(&self.metadata)?));
        Some(Value::Object(object))
    }

    fn mark(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hasher.update(&[BETWEEN]);
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        if !matches!(&*entry.subresource, "" | "scale") {
            return;
        }
        let fields = entry.fields.map(RawValue::get).unwrap_or_default();
        // Where status is no subresource of its kind somebody may own it with the rest, and then it is more than health.
        // Escapes could hide that.
        self.plain &= !fields.contains("f:status") && !fields.contains('\\');
        for part in [&*entry.manager, &*entry.operation, &*entry.subresource, fields] {
            self.mark(part.as_bytes());
        }
    }
}

/// The members of an object, one after another.
trait Members<'a>: Sized {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error>;
}

/// Reads a [`Members`].
struct Read<M>(M);

impl<'a, M: Members<'a>> Visitor<'a> for Read<M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            self.0.member(name, &mut map)?;
        }
        Ok(())
    }
}

/// The name of a member.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A whole object.
struct Whole<'g, 'a>(&'g mut Glance<'a>);

/// Its metadata.
struct Metadata<'g, 'a>(&'g mut Glance<'a>);

impl<'a> DeserializeSeed<'a> for Whole<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(Read(self))
    }
}

impl<'a> DeserializeSeed<'a> for Metadata<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(Read(self))
    }
}

impl<'a> Members<'a> for Whole<'_, 'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let glance = &mut *self.0;
        if glance.parts.iter().any(|(known, _)| *known == name) || (name == "metadata" && !glance.metadata.is_empty()) {
            return Err(A::Error::custom("a member twice"));
        }
        if name == "metadata" {
            glance.mark(name.as_bytes());
            return map.next_value_seed(Metadata(glance));
        }
        let raw: &RawValue = map.next_value()?;
        if name != "status" {
            glance.mark(name.as_bytes());
            glance.mark(raw.get().as_bytes());
        }
        if matches!(&*name, "apiVersion" | "kind" | "spec" | "status") {
            glance.parts.push((name, raw));
        }
        Ok(())
    }
}

impl<'a> Members<'a> for Metadata<'_, 'a> {
    fn member<A: MapAccess<'a>>(&mut self, name: Cow<'a, str>, map: &mut A) -> Result<(), A::Error> {
        let glance = &mut *self.0;
        if name == "managedFields" {
            let entries: Vec<Entry<'a>> = map.next_value()?;
            glance.mark(name.as_bytes());
            entries.iter().for_each(|entry| glance.entry(entry));
            return Ok(());
        }
        if glance.metadata.iter().any(|(known, _)| *known == name) {
            return Err(A::Error::custom("a member twice"));
        }
        let raw: &RawValue = map.next_value()?;
        if name != "resourceVersion" {
            glance.mark(name.as_bytes());
            glance.mark(raw.get().as_bytes());
        }
        glance.metadata.push((name, raw));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::fold::{self, Folded};
    use crate::health;
    use crate::rules::Rules;

    const KEY: [u8; 32] = [3; 32];

    fn still(object: &Value) -> Option<Still> {
        Glance::at(&object.to_string(), &KEY)?.still()
    }

    /// What a fold holds besides version and health.
    fn rest(object: &Value) -> Folded {
        let mut folded = fold::fold(object, &[], &Rules::new(KEY)).expect("an object");
        folded.version = "0".into();
        folded.health = health::Health::Current;
        if let Some(notes) = &mut folded.notes {
            notes.health = None;
        }
        folded.notes = folded.notes.filter(|notes| **notes != fold::Notes::default());
        folded
    }

    fn object(api_version: &str, kind: &str) -> Value {
        json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "3f2a1b0c-0000-4000-8000-00000000000a",
                "resourceVersion": "17", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "web", "driftless.dev/unit": "x"},
                "annotations": {"team": "shop"},
                "managedFields": [
                    {"manager": "driftless", "operation": "Apply", "apiVersion": api_version, "time": "2026-01-01T00:00:00Z",
                     "fieldsType": "FieldsV1", "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app": {}, "f:driftless.dev/unit": {}}, "f:annotations": {"f:team": {}}},
                        "f:spec": {"f:replicas": {}, "f:type": {}}}},
                    {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T00:00:00Z",
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:paused": {}}}},
                    {"manager": "controller", "operation": "Update", "subresource": "status", "time": "2026-01-01T00:00:00Z",
                     "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:conditions": {}}}},
                ],
            },
            "spec": {"replicas": 2, "type": "LoadBalancer", "paused": false, "foreign": 1},
            "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
                "availableReplicas": 2, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    }

    const KINDS: [(&str, &str); 6] = [
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("v1", "PersistentVolumeClaim"),
        ("batch/v1", "Job"),
        ("example.org/v1", "Thing"),
        ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ];

    /// Values that are written somewhere into an object; with what is there already they are now noise, now not.
    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(1)),
            Just(json!(2)),
            Just(json!("True")),
            Just(json!("False")),
            Just(json!("disabled")),
            Just(json!("2026-02-02T00:00:00Z")),
            Just(json!({})),
            Just(json!({"f:status": {"f:phase": {}}})),
            Just(json!({"f:spec": {"f:replicas": {}}})),
            Just(json!("scale")),
            Just(json!("")),
            Just(json!("driftless")),
            Just(json!([{"type": "Ready", "status": "False", "reason": "Broken", "message": "it \"is\" \\ broken"}])),
            Just(Value::Null),
        ]
    }

    const PLACES: [&str; 26] = [
        "/status/observedGeneration",
        "/status/readyReplicas",
        "/status/phase",
        "/status/conditions",
        "/status",
        "/spec/replicas",
        "/spec/foreign",
        "/spec/paused",
        "/data",
        "/metadata/resourceVersion",
        "/metadata/generation",
        "/metadata/deletionTimestamp",
        "/metadata/finalizers",
        "/metadata/labels/app",
        "/metadata/labels/new",
        "/metadata/annotations/team",
        "/metadata/annotations/kustomize.toolkit.fluxcd.io~1reconcile",
        "/metadata/managedFields/0/time",
        "/metadata/managedFields/0/operation",
        "/metadata/managedFields/0/fieldsV1",
        "/metadata/managedFields/1/manager",
        "/metadata/managedFields/1/subresource",
        "/metadata/managedFields/1/fieldsV1",
        "/metadata/managedFields/2/subresource",
        "/metadata/managedFields/2/manager",
        "/metadata/managedFields/2/time",
    ];

    fn write(object: &mut Value, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let Some(Value::Object(parent)) = object.pointer_mut(parent) else { return };
        let name = name.replace("~1", "/");
        match value {
            Value::Null => parent.remove(&name),
            value => parent.insert(name, value),
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// What has the same mark folds alike, but for version and health, and health judged by the glance is that of the
        /// whole.
        #[test]
        fn the_same_mark_folds_alike(
            kind in 0..KINDS.len(),
            first in prop::collection::vec((0..PLACES.len(), values()), 0..4),
            then in prop::collection::vec((0..PLACES.len(), values()), 1..4),
        ) {
            let (api_version, kind) = KINDS[kind];
            let mut before = object(api_version, kind);
            for (place, value) in first {
                write(&mut before, PLACES[place], value);
            }
            let mut after = before.clone();
            for (place, value) in then {
                write(&mut after, PLACES[place], value);
            }
            if let (Some(a), Some(b)) = (still(&before), still(&after)) {
                let same = a == b;
                prop_assert!(!same || rest(&before) == rest(&after), "{before}\n{after}");
                let text = after.to_string();
                let judged = Glance::at(&text, &KEY).and_then(|glance| glance.to_judge()).expect("an object");
                prop_assert_eq!(health::judge(&judged, &[]), health::judge(&after, &[]));
            }
        }
    }

    #[test]
    fn noise_has_the_same_mark_and_nothing_else_has() {
        let before = object("apps/v1", "Deployment");
        let with = |pointer: &str, value: Value| {
            let mut after = before.clone();
            write(&mut after, pointer, value);
            after
        };
        let mark = still(&before).expect("a mark");
        let mut more = before.clone();
        more["metadata"]["managedFields"].as_array_mut().expect("a list").push(
            json!({"manager": "other", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}),
        );
        let noise = [
            with("/metadata/resourceVersion", json!("18")),
            with("/status", json!({"anything": 1})),
            with("/status", Value::Null),
            with("/metadata/managedFields/0/time", json!("2027-01-01T00:00:00Z")),
            with("/metadata/managedFields/1/time", Value::Null),
            with("/metadata/managedFields/2/fieldsV1", json!({"f:status": {"f:x": {}}})),
            more,
        ];
        for after in &noise {
            assert_eq!(still(after), Some(mark), "{after}");
        }
        let told = [
            with("/metadata/labels/app", json!("other")),
            with("/metadata/labels/new", json!("x")),
            with("/metadata/annotations/new", json!("x")),
            with("/metadata/annotations", Value::Null),
            with("/metadata/finalizers", json!(["x"])),
            with("/metadata/deletionTimestamp", json!("2027-01-01T00:00:00Z")),
            with("/metadata/ownerReferences", json!([])),
            with("/metadata/uid", json!("3f2a1b0c-0000-4000-8000-00000000000b")),
            with("/metadata/generation", json!(4)),
            with("/spec/replicas", json!(3)),
            with("/spec/foreign", json!(2)),
            with("/data", json!({})),
            with("/metadata/managedFields/0/fieldsV1", json!({"f:spec": {}})),
            with("/metadata/managedFields/0/manager", json!("thief")),
            with("/metadata/managedFields/0/operation", json!("Update")),
            with("/metadata/managedFields/1/subresource", json!("scale")),
            with("/metadata/managedFields/1/subresource", json!("status")),
        ];
        for after in &told {
            assert_ne!(still(after), Some(mark), "{after}");
        }
    }

    #[test]
    fn what_is_not_as_expected_has_no_mark() {
        let owned = json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a", "managedFields": [
            {"manager": "driftless", "operation": "Apply", "fieldsV1": {"f:status": {"f:phase": {}}}}]}, "status": {}});
        assert_eq!(still(&owned), None, "status is ours there");
        for text in [
            "[]",
            "{",
            r#"{"metadata":1}"#,
            r#"{"metadata":{"managedFields":[{"manager":1}]}}"#,
            r#"{"metadata":{"labels":{},"labels":{"a":"b"}}}"#,
            r#"{"status":{},"status":{"a":1}}"#,
            r#"{"metadata":{"name":"a"},"metadata":{"name":"b"}}"#,
            r#"{"metadata":{"managedFields":[{"fieldsV1":{"f:\u0073tatus":{}}}]}}"#,
            r#"{"kind":"A"} x"#,
        ] {
            assert!(Glance::at(text, &KEY).is_none(), "{text}");
        }
        let unnamed = Glance::at(r#"{"metadata":{"name":"a"}}"#, &KEY).expect("a text");
        assert!(unnamed.to_judge().is_none());
    }
}
