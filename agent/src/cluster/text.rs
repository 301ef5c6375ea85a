//! An object as a watch brings it: its text, and of it no more than names it. Read whole only where somebody needs it.
//!
//! Text is ten times smaller than what it is parsed into, so a page of a list, and what waits for the engine, stay small.

use std::borrow::Cow;
use std::fmt;

use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::api::Resource;

/// See the module.
#[derive(Clone)]
pub struct ObjectText {
    /// Name, namespace, UID and version only.
    metadata: ObjectMeta,
    text: Box<RawValue>,
}

/// What is read of every object.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource_version: Option<Cow<'a, str>>,
}

impl ObjectText {
    /// `metadata.name`, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, or nothing.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`, or nothing.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`, or nothing.
    #[must_use]
    pub fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    /// As it came.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// The whole object. Items of typed lists come without `apiVersion` and `kind`: the resource knows them. `None`: it is
    /// nested deeper than anything the API server would take.
    #[must_use]
    pub fn value(&self, resource: &Resource) -> Option<Value> {
        let mut value: Value = serde_json::from_str(self.text.get()).ok()?;
        let map = value.as_object_mut()?;
        map.insert("apiVersion".into(), resource.api_version().into());
        map.insert("kind".into(), resource.kind.clone().into());
        Some(value)
    }
}

/// Never its text, which may be that of a Secret.
impl fmt::Debug for ObjectText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectText({}/{} at {})", self.namespace(), self.name(), self.version())
    }
}

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(d)?;
        let Named { metadata } = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let metadata = ObjectMeta {
            name: owned(metadata.name),
            namespace: owned(metadata.namespace),
            uid: owned(metadata.uid),
            resource_version: owned(metadata.resource_version),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, text })
    }
}

/// For the watcher, which goes on from the version of what it saw.
impl kube::Resource for ObjectText {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;
    use crate::cluster::api::secrets;

    const SECRET: &str = r#"{"metadata":{"name":"a\u0062","namespace":"n","uid":"u","resourceVersion":"7","labels":{"x":"y"}},"data":{"k":"c2VjcmV0"}}"#;

    #[test]
    fn items_of_lists_and_events_are_read_alike() {
        let list = format!(
            r#"{{"kind":"SecretList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{SECRET}]}}"#
        );
        let list: ObjectList<ObjectText> = serde_json::from_str(&list).expect("a list");
        let event: WatchEvent<ObjectText> =
            serde_json::from_str(&format!(r#"{{"type":"ADDED","object":{SECRET}}}"#)).expect("an event");
        let WatchEvent::Added(event) = event else { panic!("something was added") };
        for object in [&list.items[0], &event] {
            assert_eq!((object.namespace(), object.name(), object.uid(), object.version()), ("n", "ab", "u", "7"));
            let value = object.value(&secrets()).expect("an object");
            assert_eq!(value["kind"], "Secret");
            assert_eq!(value["apiVersion"], "v1");
            assert_eq!(value["metadata"]["labels"]["x"], "y");
            assert_eq!(value["data"]["k"], "c2VjcmV0");
            assert_eq!(format!("{object:?}"), "ObjectText(n/ab at 7)");
        }
    }

    #[test]
    fn what_has_no_metadata_is_still_an_object() {
        let object: ObjectText = serde_json::from_str("{}").expect("an object");
        assert_eq!((object.name(), object.version()), ("", ""));
        assert!(serde_json::from_str::<ObjectText>("[1]").is_err());
    }
}
