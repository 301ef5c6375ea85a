//! What this cluster tells its hub of itself: Kubernetes version, served kinds, and the ConfigMaps its owner allows.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{LateKind, TEXT_FORMAT};
use driftless_protocol::facts::Facts;
use driftless_reconcile::fill::InputState;
use driftless_reconcile::input::InputRef;

use crate::cluster::discovery::Served;

/// The facts as far as they are known.
#[derive(Debug, Default)]
pub struct FactBook {
    version: String,
    allowed: BTreeMap<InputRef, Option<InputState>>,
    told: Option<Facts>,
    /// Something may be other than it was told.
    stale: bool,
}

impl FactBook {
    /// `allowed`: ConfigMaps, `namespace/name`, that may leave the cluster. Whoever installs the agent says which.
    #[must_use]
    pub fn new(version: String, allowed: &[ConfigMapName]) -> Self {
        let allowed = allowed.iter().map(|name| (name.input(), None)).collect();
        Self { version, allowed, told: None, stale: true }
    }

    /// What must be read for them.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<InputRef> {
        self.allowed.keys().cloned().collect()
    }

    /// What is known of an allowed ConfigMap now.
    pub fn set(&mut self, input: &InputRef, state: InputState) {
        if let Some(known) = self.allowed.get_mut(input) {
            *known = Some(state);
            self.stale = true;
        }
    }

    /// Discovery was read anew, and with it the version of the API server.
    pub fn discovered(&mut self, version: Option<String>) {
        self.version = version.unwrap_or_else(|| std::mem::take(&mut self.version));
        self.stale = true;
    }

    /// The facts, when they are other than those told last and every allowed ConfigMap was looked at once.
    pub fn news(&mut self, served: &Served) -> Option<Facts> {
        if !self.stale || self.allowed.values().any(Option::is_none) {
            return None;
        }
        self.stale = false;
        let mut facts =
            Facts { kubernetes_version: self.version.clone(), body_format: TEXT_FORMAT, ..Facts::default() };
        for (_, _, versions) in served.kinds() {
            facts.apis.extend(versions.iter().map(|r| format!("{}/{}", r.api_version(), r.kind)));
        }
        facts.apis.sort();
        for (input, state) in &self.allowed {
            let name = format!("{}/{}", input.namespace, input.name);
            match state {
                Some(InputState::Found(data)) => {
                    let values = data.values.iter().map(|(k, v)| (k.clone(), v.to_string()));
                    facts.config_maps.insert(name, values.collect());
                }
                Some(InputState::Missing) => {
                    facts.not_told.insert(name, "it does not exist".to_owned());
                }
                Some(InputState::Failed(why)) => {
                    facts.not_told.insert(name, why.clone());
                }
                None => {}
            }
        }
        facts.bound();
        if self.told.as_ref() == Some(&facts) {
            return None;
        }
        self.told = Some(facts.clone());
        Some(facts)
    }
}

/// A ConfigMap by `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapName {
    namespace: String,
    name: String,
}

impl ConfigMapName {
    fn input(&self) -> InputRef {
        InputRef {
            account: None,
            kind: LateKind::ConfigMap,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl std::str::FromStr for ConfigMapName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        };
        match text.split_once('/') {
            Some((namespace, name)) if valid(namespace) && valid(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is no ConfigMap; write namespace/name, as in flux-system/cluster-settings")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use driftless_reconcile::fill::InputData;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn facts_are_told_when_all_was_looked_at_and_again_when_they_change() {
        let allowed: Vec<ConfigMapName> = ["a/b", "a/c"].iter().map(|n| n.parse().expect("a name")).collect();
        let mut book = FactBook::new("v1.36.0".into(), &allowed);
        let served = Served::default();
        let (b, c) = (allowed[0].input(), allowed[1].input());
        let found = |value: &str| {
            let values = [("k".to_owned(), Zeroizing::new(value.to_owned()))].into();
            InputState::Found(Arc::new(InputData { values, ..InputData::default() }))
        };
        book.set(&b, found("1"));
        assert!(book.news(&served).is_none(), "one was not looked at");
        book.set(&c, InputState::Missing);
        let facts = book.news(&served).expect("the first facts");
        assert_eq!(facts.config_maps["a/b"]["k"], "1");
        assert_eq!(facts.not_told["a/c"], "it does not exist");
        assert!(book.news(&served).is_none(), "nothing changed");
        book.set(&b, found("2"));
        assert_eq!(book.news(&served).expect("a change").config_maps["a/b"]["k"], "2");
        book.set(&b, found(&"x".repeat(100_000)));
        let facts = book.news(&served).expect("a change");
        assert!(facts.config_maps.is_empty() && facts.not_told["a/b"].contains("100001 bytes"), "{facts:?}");
    }

    #[test]
    fn only_full_names_are_config_maps() {
        for bad in ["", "a", "/a", "a/", "a/b/c", "A/b", "a b/c"] {
            assert!(bad.parse::<ConfigMapName>().is_err(), "{bad:?}");
        }
    }
}
