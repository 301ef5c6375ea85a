//! Finishing an object whose values only the cluster has: Flux's substitution in its text, then the metadata Flux and we add.
//!
//! Values of Secrets pass through here and are kept nowhere else. Nothing of this module prints one: not in errors, not in
//! `Debug`, not in what [`Hidden`] lets through to reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use driftless_protocol::bundle::{Late, LateInput, LateKind};
use driftless_protocol::limits;
use driftless_protocol::object::{ObjectKey, group_of};
use driftless_yaml::{Dialect, Limits, Node, parse_one};
use serde_json::Value;
use zeroize::Zeroizing;

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

struct Variable {
    value: Zeroizing<String>,
    secret: bool,
}

/// Everything it takes to finish the objects of one unit. Dropped, it leaves no value behind.
pub struct Fill {
    late: Arc<Late>,
    variables: BTreeMap<String, Variable>,
    not_text: BTreeMap<String, String>,
    secrets: String,
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fill({} variables)", self.variables.len())
    }
}

impl PartialEq for Fill {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): ((&String, &Variable), (&String, &Variable))| {
            a.0 == b.0 && a.1.value == b.1.value && a.1.secret == b.1.secret
        };
        self.late == other.late
            && self.not_text == other.not_text
            && self.variables.len() == other.variables.len()
            && self.variables.iter().zip(&other.variables).all(same)
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
    /// Collects a unit's variables by Flux's rules: later inputs win, line feeds go, a bad name fails the unit. `state` tells
    /// what is known of each reference; `None` where it has not been read.
    ///
    /// # Errors
    /// The first input that is missing, and what to do.
    pub fn new<'s>(
        late: &Arc<Late>,
        namespace: &str,
        state: &dyn Fn(LateKind, &str) -> Option<&'s InputState>,
    ) -> Result<Self, FillError> {
        let mut fill = Self {
            late: Arc::clone(late),
            variables: BTreeMap::new(),
            not_text: BTreeMap::new(),
            secrets: String::new(),
        };
        for input in &late.inputs {
            let reference = match input {
                LateInput::Values { values } => {
                    fill.take(values.iter().map(|(k, v)| (k.as_str(), v.as_str())), false);
                    continue;
                }
                LateInput::Object(reference) => reference,
            };
            let shown = format!("{} {namespace}/{}", reference.kind, reference.name);
            match state(reference.kind, &reference.name) {
                Some(InputState::Found(data)) => {
                    let names = data.values.keys().chain(&data.not_text);
                    if let Err(error) = driftless_subst::check_names(names.map(String::as_str)) {
                        return Err(FillError(format!(
                            "{shown} of substituteFrom: key {}; Flux refuses the whole unit",
                            error.kind
                        )));
                    }
                    let secret = reference.kind == LateKind::Secret;
                    if secret && !data.values.is_empty() {
                        let and = if fill.secrets.is_empty() { "" } else { ", " };
                        fill.secrets.push_str(&format!("{and}{namespace}/{}", reference.name));
                    }
                    fill.take(data.values.iter().map(|(k, v)| (k.as_str(), v.as_str())), secret);
                    for name in &data.not_text {
                        fill.variables.remove(name);
                        fill.not_text.insert(name.clone(), shown.clone());
                    }
                }
                Some(InputState::Missing) if reference.optional => {}
                Some(InputState::Missing) => {
                    let hint = if reference.hint.is_empty() {
                        "Git does not produce it for this cluster: create it, or mark it optional".to_owned()
                    } else {
                        reference.hint.clone()
                    };
                    return Err(FillError(format!("{shown} not found ({hint}); goes on by itself once it is there")));
                }
                Some(InputState::Failed(why)) => {
                    return Err(FillError(format!("{shown} cannot be read: {why}; tried again by itself")));
                }
                None => return Err(FillError(format!("{shown} to be read"))),
            }
        }
        Ok(fill)
    }

    fn take<'a>(&mut self, values: impl Iterator<Item = (&'a str, &'a str)>, secret: bool) {
        for (name, value) in values {
            let value = Zeroizing::new(driftless_subst::value_of(value).into_owned());
            self.not_text.remove(name);
            self.variables.insert(name.to_owned(), Variable { value, secret });
        }
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
        let lookup = |name: &str| {
            let variable = self.variables.get(name)?;
            match decoy {
                Some(decoy) if variable.secret => Some(decoy),
                _ => Some(variable.value.as_str()),
            }
        };
        let line_of = |line: u32| {
            let at = text.lines().nth(usize::try_from(line).unwrap_or(0).saturating_sub(1)).unwrap_or_default();
            at.trim().chars().take(120).collect::<String>()
        };
        // What stands in a Secret is told to nobody, not even as Git has it.
        let secret = key.kind == "Secret";
        let place = |line: u32| if secret { format!("line {line}") } else { format!("`{}`", line_of(line)) };
        let filled = if self.late.always || !self.variables.is_empty() {
            Zeroizing::new(driftless_subst::substitute(text, &lookup, self.late.strict).map_err(|e| {
                let mut why = if secret { e.kind.without_text() } else { e.kind.to_string() };
                if let driftless_subst::ErrorKind::NotSet { name } = &e.kind
                    && let Some(of) = self.not_text.get(name)
                {
                    why = format!("variable `{name}` of {of} is not text");
                }
                FillError(format!("substitution in {key} failed: {why} (in {})", place(e.line)))
            })?)
        } else {
            Zeroizing::new(text.to_owned())
        };
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
        uses.iter().any(|u| self.variables.get(&u.name).is_some_and(|v| v.secret))
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
