//! Where the variables of a unit come from: values the hub knows, ConfigMaps and Secrets, and the unit's own Flux object as the
//! unit above builds it.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{LateInput, LateKind, LateRef, LateText, ServiceAccount};
use driftless_protocol::id::{Digest, UnitId};
use driftless_subst::ErrorKind;
use driftless_yaml::{Dialect, Limits, Map, Node, parse_one};
use zeroize::Zeroizing;

use super::{FillError, InputState};
use crate::input::InputRef;

/// Where the values stand that a text gives.
const VALUES: [&str; 3] = ["spec", "postBuild", "substitute"];

/// Whose inputs are read, and as which account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The unit: inputs are in its namespace.
    pub unit: UnitId,
    /// `None`: the applier.
    pub account: Option<ServiceAccount>,
}

impl Reader {
    fn above(text: &LateText) -> Self {
        Self { unit: text.by.clone(), account: text.account.clone() }
    }

    fn input(&self, reference: &LateRef) -> InputRef {
        InputRef {
            account: self.account.clone(),
            kind: reference.kind,
            namespace: self.unit.namespace.clone(),
            name: reference.name.clone(),
        }
    }
}

/// Every ConfigMap and Secret that these inputs name, those of units above included, each once.
#[must_use]
pub fn refs(inputs: &[LateInput], of: &Reader) -> Vec<InputRef> {
    let mut out: Vec<InputRef> = Vec::new();
    for input in inputs {
        let found = match input {
            LateInput::Values { .. } => Vec::new(),
            LateInput::Object(reference) => vec![of.input(reference)],
            LateInput::Text(text) => refs(&text.inputs, &Reader::above(text)),
        };
        for input in found {
            if !out.contains(&input) {
                out.push(input);
            }
        }
    }
    out
}

#[derive(PartialEq)]
pub(super) struct Variable {
    pub(super) value: Zeroizing<String>,
    pub(super) secret: bool,
    /// What it is from, for people; empty: from Git.
    from: String,
}

/// Variables by name.
#[derive(Default, PartialEq)]
pub(super) struct Variables {
    pub(super) known: BTreeMap<String, Variable>,
    /// Names whose value is no text, and what they are from.
    not_text: BTreeMap<String, String>,
    /// Secrets that some are from, `namespace/name`.
    pub(super) secrets: BTreeSet<String>,
}

impl Variables {
    pub(super) fn collect<'s>(
        inputs: &[LateInput],
        of: &Reader,
        state: &dyn Fn(&InputRef) -> Option<&'s InputState>,
    ) -> Result<Self, FillError> {
        let mut out = Self::default();
        for input in inputs {
            match input {
                LateInput::Values { values } => {
                    for (name, value) in values {
                        out.set(name, value, false, String::new());
                    }
                }
                LateInput::Object(reference) => out.read(reference, of, state)?,
                LateInput::Text(text) => {
                    let above = Self::collect(&text.inputs, &Reader::above(text), state)
                        .map_err(|e| FillError(format!("unit {}, which defines this one: {}", text.by, e.0)))?;
                    out.take(text, &of.unit, above)?;
                }
            }
        }
        Ok(out)
    }

    fn set(&mut self, name: &str, value: &str, secret: bool, from: String) {
        let value = Zeroizing::new(driftless_subst::value_of(value).into_owned());
        self.not_text.remove(name);
        self.known.insert(name.to_owned(), Variable { value, secret, from });
    }

    /// The data of a ConfigMap or Secret.
    fn read<'s>(
        &mut self,
        reference: &LateRef,
        of: &Reader,
        state: &dyn Fn(&InputRef) -> Option<&'s InputState>,
    ) -> Result<(), FillError> {
        let (namespace, name) = (&of.unit.namespace, &reference.name);
        let shown = format!("{} {namespace}/{name}", reference.kind);
        match state(&of.input(reference)) {
            Some(InputState::Found(data)) => {
                let names = data.values.keys().chain(&data.not_text);
                if let Err(error) = driftless_subst::check_names(names.map(String::as_str)) {
                    let why = error.kind;
                    return Err(FillError(format!(
                        "{shown} of substituteFrom: key {why}; Flux refuses the whole unit"
                    )));
                }
                let secret = reference.kind == LateKind::Secret;
                if secret && !data.values.is_empty() {
                    self.secrets.insert(format!("{namespace}/{name}"));
                }
                for (name, value) in &data.values {
                    self.set(name, value, secret, shown.clone());
                }
                for name in &data.not_text {
                    self.known.remove(name);
                    self.not_text.insert(name.clone(), shown.clone());
                }
                Ok(())
            }
            Some(InputState::Missing) if reference.optional => Ok(()),
            Some(InputState::Missing) => {
                let hint = if reference.hint.is_empty() {
                    "Git does not produce it for this cluster: create it, or mark it optional".to_owned()
                } else {
                    reference.hint.clone()
                };
                Err(FillError(format!("{shown} not found ({hint}); goes on by itself once it is there")))
            }
            Some(InputState::Failed(why)) => {
                Err(FillError(format!("{shown} cannot be read: {why}; tried again by itself")))
            }
            None => Err(FillError(format!("{shown} to be read"))),
        }
    }

    /// The values that a text gives, once the variables of the unit above are filled in.
    fn take(&mut self, text: &LateText, unit: &UnitId, above: Self) -> Result<(), FillError> {
        let refused = |why: String| FillError(format!("{} {unit}, as unit {} builds it: {why}", unit.kind, text.by));
        let written = read(&text.text).ok_or_else(|| refused("the hub sent no object".to_owned()))?;
        let filled = above
            .fill(&text.text, text.always, text.strict, None)
            .map_err(|e| refused(above.why_at(&e, text, &written)))?;
        let mut rest = match read(&filled) {
            Some(node) => node,
            None => {
                return Err(refused(
                    above
                        .culprit(text, &written)
                        .unwrap_or_else(|| "it is no YAML any more with its values filled in".to_owned()),
                ));
            }
        };
        let mut found: Vec<(String, Zeroizing<String>)> = Vec::new();
        let values = VALUES.iter().try_fold(&mut rest, |node, key| node.as_map_mut()?.get_mut(key));
        if let Some(values) = values.and_then(Node::as_map_mut) {
            for name in text.open.keys() {
                let value = values.remove(name).as_ref().and_then(Node::as_text).map(|v| Zeroizing::new(v.to_owned()));
                found.extend(value.map(|value| (name.clone(), value)));
            }
        }
        // What else it says is what the hub built from.
        let same = rest.to_json().is_ok_and(|bytes| Digest::of(&bytes) == text.rest);
        if found.len() < text.open.len() || !same {
            return Err(refused(above.culprit(text, &written).unwrap_or_else(|| {
                "with its values filled in, more of it changes than values of spec.postBuild.substitute; the hub cannot build \
                 that: quote the expressions, or give the variables values in Git"
                    .to_owned()
            })));
        }
        for (name, value) in found {
            let used = above.used(&written, &name);
            let secret = used.iter().any(|(_, variable)| variable.secret);
            let from: Vec<&str> = used.iter().map(|(_, v)| v.from.as_str()).filter(|from| !from.is_empty()).collect();
            self.set(&name, &value, secret, from.join(" and "));
        }
        self.secrets.extend(above.secrets);
        Ok(())
    }

    /// The variables that a value of `spec.postBuild.substitute` asks for and that are set.
    fn used(&self, written: &Node, name: &str) -> Vec<(String, &Variable)> {
        let [a, b, c] = VALUES;
        let value = written.at(&[a, b, c, name]).and_then(Node::scalar_text).unwrap_or_default();
        let uses = driftless_subst::variables(value).unwrap_or_default();
        uses.into_iter().filter_map(|u| Some((u.name.clone(), self.known.get(&u.name)?))).collect()
    }

    /// Which value of a text does not come out as text on its own, and why.
    fn culprit(&self, text: &LateText, written: &Node) -> Option<String> {
        let [a, b, c] = VALUES;
        for (name, at) in &text.open {
            let mut alone = Map::new();
            alone.insert(name.as_str(), written.at(&[a, b, c, name])?.clone());
            let alone = driftless_yaml::to_string(&Node::Map(alone)).ok()?;
            let filled = self.fill(&alone, text.always, text.strict, None).ok()?;
            let found = read(&filled);
            let becomes = match found.as_ref().map(|node| node.as_map().map(|map| (map.len(), map.get(name)))) {
                Some(Some((1, Some(value)))) if value.as_text().is_some() => continue,
                Some(Some((1, Some(value)))) if value.is_null() => "nothing (null)",
                Some(Some((1, Some(Node::Scalar(_))))) => "a number or true or false",
                Some(Some((1, Some(_)))) => "a list or a map",
                _ => "no YAML any more",
            };
            let used = self.used(written, name);
            let from: Vec<String> = used
                .iter()
                .filter(|(_, variable)| !variable.from.is_empty())
                .map(|(name, variable)| format!("{name} of {}", variable.from))
                .collect();
            let with = if from.is_empty() { "its variables".to_owned() } else { from.join(", ") };
            return Some(format!(
                "spec.postBuild.substitute.{name} ({at}, `{}`) becomes {becomes} with {with} filled in, not text: the API server \
                 refuses such a Kustomization, and Flux fails; put quotes around the value where it is kept, as in '\"5\"'",
                alone.trim().chars().take(120).collect::<String>()
            ));
        }
        None
    }

    /// A text with these variables filled in, if any has a value, or `always`; with `decoy` in the place of every value of a
    /// Secret.
    pub(super) fn fill(
        &self,
        text: &str,
        always: bool,
        strict: bool,
        decoy: Option<&str>,
    ) -> Result<Zeroizing<String>, driftless_subst::Error> {
        if !always && self.known.is_empty() {
            return Ok(Zeroizing::new(text.to_owned()));
        }
        let lookup = |name: &str| {
            let variable = self.known.get(name)?;
            match decoy {
                Some(decoy) if variable.secret => Some(decoy),
                _ => Some(variable.value.as_str()),
            }
        };
        driftless_subst::substitute(text, &lookup, strict).map(Zeroizing::new)
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|variable| variable.secret)
    }

    /// Why a text could not be filled in; nothing of the text where that is a `secret`.
    pub(super) fn why(&self, error: &driftless_subst::Error, secret: bool) -> String {
        match &error.kind {
            ErrorKind::NotSet { name } => match self.not_text.get(name) {
                Some(of) => format!("variable `{name}` of {of} is not text"),
                None => error.kind.to_string(),
            },
            kind if secret => kind.without_text(),
            kind => kind.to_string(),
        }
    }

    /// The same, with the place in Git where it can be told.
    fn why_at(&self, error: &driftless_subst::Error, text: &LateText, written: &Node) -> String {
        let [a, b, c] = VALUES;
        let line = line_of(&text.text, error.line);
        let asks = |name: &&String| {
            let value = written.at(&[a, b, c, name]).and_then(Node::scalar_text).unwrap_or_default();
            line.contains(value.lines().next().unwrap_or_default()) && line.starts_with(name.as_str())
        };
        let at = text.open.keys().find(asks).and_then(|name| text.open.get(name));
        let at = at.map(|at| format!("{at}, ")).unwrap_or_default();
        format!("substitution failed: {} ({at}`{line}`)", self.why(error, false))
    }
}

/// A line of a text, for people.
pub(super) fn line_of(text: &str, line: u32) -> String {
    let at = text.lines().nth(usize::try_from(line).unwrap_or(0).saturating_sub(1)).unwrap_or_default();
    at.trim().chars().take(120).collect()
}

/// A text as a map; `None` where it is none.
fn read(text: &str) -> Option<Node> {
    let node = parse_one(text.as_bytes(), Dialect::Yaml11, &Limits::default()).ok()?.node;
    node.as_map().is_some().then_some(node)
}
