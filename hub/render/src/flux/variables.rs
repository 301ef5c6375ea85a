//! ConfigMaps and Secrets a cluster's tree produces: what `substituteFrom` is answered from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use driftless_protocol::id::UnitId;
use driftless_yaml::Node;

use crate::target::Location;

/// What is known of one ConfigMap or Secret.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Its data.
    Plain(BTreeMap<String, String>),
    /// Git holds it encrypted; its keys, where they stand there in plain.
    Encrypted(Option<BTreeSet<String>>),
    /// Git holds something that makes it in the cluster (an ExternalSecret, a SealedSecret), or its unit is held.
    Elsewhere(Cow<'static, str>),
}

/// One producer of a ConfigMap or Secret.
#[derive(Clone, Debug)]
pub(crate) struct Produced {
    pub(crate) unit: UnitId,
    pub(crate) at: Location,
    pub(crate) known: Known,
}

/// All of them, by (is a Secret, namespace, name), in the order of their units.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    by_key: BTreeMap<(bool, String, String), BTreeMap<UnitId, Produced>>,
}

impl Inputs {
    pub(crate) fn add(&mut self, secret: bool, namespace: &str, name: &str, produced: Produced) {
        self.by_key
            .entry((secret, namespace.to_owned(), name.to_owned()))
            .or_default()
            .insert(produced.unit.clone(), produced);
    }

    /// The producer that counts: the first by unit id that is plain, else the first.
    pub(crate) fn get(&self, secret: bool, namespace: &str, name: &str) -> Option<&Produced> {
        let all = self.by_key.get(&(secret, namespace.to_owned(), name.to_owned()))?;
        all.values().find(|p| matches!(p.known, Known::Plain(_))).or_else(|| all.values().next())
    }
}

/// The keys of an encrypted ConfigMap or Secret. SOPS encrypts values and leaves keys as they are; of one that is generated
/// from an encrypted file they are not known.
pub(crate) fn keys_of(node: &Node) -> Option<BTreeSet<String>> {
    node.at(&["sops"])?;
    let maps = ["data", "stringData"].map(|of| node.at(&[of]).and_then(Node::as_map));
    Some(maps.into_iter().flatten().flatten().map(|entry| entry.key.to_string()).collect())
}

/// The data of a ConfigMap or Secret, as text. `None` when a value is not text.
pub(crate) fn data_of(node: &Node, secret: bool) -> Option<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for entry in node.at(&["data"]).and_then(Node::as_map).into_iter().flatten() {
        let Some(text) = entry.value.scalar_text() else { continue };
        let value = if secret {
            let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(compact).ok()?).ok()?
        } else {
            text.to_owned()
        };
        out.insert(entry.key.to_string(), value);
    }
    if secret {
        for entry in node.at(&["stringData"]).and_then(Node::as_map).into_iter().flatten() {
            out.insert(entry.key.to_string(), entry.value.scalar_text().unwrap_or_default().to_owned());
        }
    }
    Some(out)
}
