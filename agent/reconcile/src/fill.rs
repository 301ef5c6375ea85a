//! Finishing an object whose values only the cluster has: Flux's substitution in its text, then the metadata Flux and we add.
//!
//! Values of Secrets pass through here and are kept nowhere else. Nothing of this module prints one: not in errors, not in
//! `Debug`, not in what [`Hidden`] lets through to reports.

mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use driftless_protocol::bundle::Late;
use driftless_protocol::limits;
use driftless_protocol::object::{ObjectKey, group_of};
use driftless_yaml::{Dialect, Limits, Node, parse_one};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::input::InputRef;
pub use variables::{Reader, refs};
use variables::{Variables, line_of};

/// Shortest value that is looked for in texts of others: shorter ones stand in every text by chance.
const SCRUBBED: usize = 4;
/// What stands in a text in the place of a value.
const HIDDEN: &str = "(hidden)";

/// The data of one ConfigMap or Secret.
#[derive(Default, PartialEq, Eq)]
pub struct InputData {
    /// Values that are text.
    pub values: BTreeMap<String, Zeroizing<String>>,
    /// Keys whose value is no text.
    pub not_text: BTreeSet<String>,
}

impl fmt::Debug for InputData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputData({} keys)", self.values.len() + self.not_text.len())
    }
}

/// What is known of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputState {
    /// It exists.
    Found(Arc<InputData>),
    /// It does not.
    Missing,
    /// It cannot be read; why, for people.
    Failed(String),
}

/// Everything it takes to finish the objects of one unit. Dropped, it leaves no value behind.
pub struct Fill {
    late: Arc<Late>,
    variables: Variables,
    secrets: String,
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fill({} variables)", self.variables.known.len())
    }
}

impl PartialEq for Fill {
    fn eq(&self, other: &Self) -> bool {
        self.late == other.late && self.variables == other.variables
    }
}

/// An object with its holes filled.
pub struct Filled {
    /// Canonical JSON, as it is applied (the agent's other edits still to be made).
    pub bytes: Zeroizing<Vec<u8>>,
    /// A value of a Secret went into it.
    pub secret: bool,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled({} bytes)", self.bytes.len())
    }
}

/// Why an object cannot be finished. Its words never hold a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FillError(pub String);

impl Fill {
    /// Collects a unit's variables by Flux's rules: later inputs win, line feeds go, a bad name fails the unit. `of`: the unit.
    /// `state` tells what is known of each reference; `None` where it has not been read.
    ///
    /// # Errors
    /// The first input that is missing, and what to do; or a text of a unit above that does not come out as it should.
    pub fn new<'s>(
        late: &Arc<Late>,
        of: &Reader,
        state: &dyn Fn(&InputRef) -> Option<&'s InputState>,
    ) -> Result<Self, FillError> {
        let variables = Variables::collect(&late.inputs, of, state)?;
        let secrets: Vec<&str> = variables.secrets.iter().map(String::as_str).collect();
        Ok(Self { late: Arc::clone(late), secrets: secrets.join(", "), variables })
    }

    /// Finishes an object.
    ///
    /// # Errors
    /// Text that is not what a hub sends; an expression Flux does not read; a variable without value in strict mode; a
    /// result that is no YAML, no such object, or too large.
    pub fn object(&self, key: &ObjectKey, api_version: &str, text: &[u8]) -> Result<Filled, FillError> {
        let secret = self.uses_secret(text);
        let node = self.node(key, text, None)?;
        let found = |path: &[&str]| node.at(path).and_then(Node::as_str).unwrap_or_default().to_owned();
        let (version, namespace) = (found(&["apiVersion"]), found(&["metadata", "namespace"]));
        let same = version == api_version
            && group_of(&version) == key.group
            && found(&["kind"]) == key.kind
            && found(&["metadata", "name"]) == key.name
            && (key.namespace.is_empty() || namespace == key.namespace);
        if !same {
            return Err(FillError(format!(
                "with its values filled in, {key} would have another apiVersion, kind, name or namespace; it is not applied"
            )));
        }
        let bytes = Zeroizing::new(
            node.to_json()
                .map_err(|_| FillError(format!("{key} has a value, once filled in, that JSON does not have")))?,
        );
        if bytes.len() as u64 > limits::OBJECT_BYTES {
            let most = limits::OBJECT_BYTES;
            return Err(FillError(format!(
                "{key} has {} bytes once filled in; the API server takes at most {most}",
                bytes.len()
            )));
        }
        Ok(Filled { bytes, secret })
    }

    /// The object as a node; with `decoy` in the place of every value of a Secret.
    fn node(&self, key: &ObjectKey, text: &[u8], decoy: Option<&str>) -> Result<Node, FillError> {
        let text = std::str::from_utf8(text).map_err(|_| FillError(format!("{key} came from the hub as no text")))?;
        // What stands in a Secret is told to nobody, not even as Git has it.
        let secret = key.kind == "Secret";
        let place = |line: u32| if secret { format!("line {line}") } else { format!("`{}`", line_of(text, line)) };
        let filled = self.variables.fill(text, self.late.always, self.late.strict, decoy).map_err(|e| {
            let why = self.variables.why(&e, secret);
            FillError(format!("substitution in {key} failed: {why} (in {})", place(e.line)))
        })?;
        // The reader's own words may quote what it read: only the place is told, by the line as Git has it.
        let mut node = match parse_one(filled.as_bytes(), Dialect::Yaml11, &Limits::default()) {
            Ok(document) if document.node.as_map().is_some() => document.node,
            Ok(_) => return Err(FillError(format!("{key} is no object any more with its values filled in"))),
            Err(e) => {
                return Err(FillError(format!(
                    "{key} is no YAML any more with its values filled in: at {}; quote the expression in Git",
                    place(e.line)
                )));
            }
        };
        for (what, map) in [("labels", &self.late.labels), ("annotations", &self.late.annotations)] {
            node.set_metadata(what, map.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        }
        Ok(node)
    }

    fn uses_secret(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let uses = driftless_subst::variables(text).unwrap_or_default();
        uses.iter().any(|u| self.variables.is_secret(&u.name))
    }

    /// What may be told of an object that a value of a Secret went into.
    #[must_use]
    pub fn hidden(&self, key: &ObjectKey, text: &[u8]) -> Hidden {
        // Two stand-ins of different length and letters: what is the same with both, and with the true values, does not
        // depend on these.
        let decoy = |with| {
            let node = self.node(key, text, Some(with)).ok()?;
            serde_json::from_slice(&node.to_json().ok()?).ok()
        };
        match (decoy("driftless"), decoy("0")) {
            (Some(a), Some(b)) => Hidden::Except(a, b),
            _ => Hidden::All,
        }
    }

    /// A text of somebody else (the API server, a controller) without the values of Secrets: as they are, and in base64.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut out = text.to_owned();
        let mut secrets: Vec<&str> = self
            .variables
            .known
            .values()
            .filter(|v| v.secret)
            .map(|v| v.value.as_str())
            .filter(|v| v.len() >= SCRUBBED)
            .collect();
        secrets.sort_unstable_by_key(|v| std::cmp::Reverse(v.len()));
        for secret in secrets {
            if out.contains(secret) {
                out = out.replace(secret, HIDDEN);
            }
            let encoded = Zeroizing::new(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret));
            let encoded = encoded.trim_end_matches('=');
            if out.contains(encoded) {
                out = out.replace(encoded, HIDDEN);
            }
        }
        out
    }

    /// The Secrets whose values it has, for people.
    #[must_use]
    pub fn secrets(&self) -> &str {
        &self.secrets
    }
}

/// What of an object may be shown.
#[derive(Clone, Debug, Default)]
pub enum Hidden {
    /// Everything.
    #[default]
    Nothing,
    /// What is the same in these two, which were filled with stand-ins for the values of Secrets.
    Except(Value, Value),
    /// No value at all.
    All,
}

impl Hidden {
    /// Whether the declared value at a path depends on no Secret: raw keys (`f:spec`, `k:{...}`), from the top.
    #[must_use]
    pub fn shows(&self, raw: &[&str], declared: &Value) -> bool {
        match self {
            Self::Nothing => true,
            Self::All => false,
            Self::Except(a, b) => [a, b].iter().all(|decoy| at(decoy, raw) == Some(declared)),
        }
    }

    /// How many raw keys of a path may be shown: those that lead somewhere with the stand-ins too, or lead nowhere in what
    /// is declared (they are not ours).
    #[must_use]
    pub fn shown_keys(&self, raw: &[&str], declared: &Value) -> usize {
        let Self::Except(a, b) = self else {
            return if matches!(self, Self::All) { 1.min(raw.len()) } else { raw.len() };
        };
        let mut ours = Some(declared);
        let mut decoys = [Some(a), Some(b)];
        for (n, key) in raw.iter().enumerate() {
            ours = ours.and_then(|value| crate::ownership::child(value, key));
            if ours.is_none() {
                return raw.len();
            }
            for decoy in &mut decoys {
                *decoy = decoy.and_then(|value| crate::ownership::child(value, key));
            }
            if decoys.iter().any(Option::is_none) {
                return n;
            }
        }
        raw.len()
    }
}

fn at<'v>(value: &'v Value, raw: &[&str]) -> Option<&'v Value> {
    raw.iter().try_fold(value, |value, key| crate::ownership::child(value, key))
}
