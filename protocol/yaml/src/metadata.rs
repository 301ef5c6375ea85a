//! Labels and annotations of a Kubernetes object.

use crate::node::Node;

impl Node {
    /// Sets these keys in `metadata.<what>` (`labels`, `annotations`), which is made where it is missing or no map. An object
    /// without `metadata` stays as it is; so does one for which there are no values.
    pub fn set_metadata<'a>(&mut self, what: &str, values: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return;
        }
        let Some(metadata) = self.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Self::as_map_mut) else {
            return;
        };
        if metadata.get(what).and_then(Self::as_map).is_none() {
            metadata.insert(what, Self::map());
        }
        if let Some(map) = metadata.get_mut(what).and_then(Self::as_map_mut) {
            for (key, value) in values {
                map.insert(key, Self::string(value));
            }
        }
    }
}
