//! Post-build substitution: where variables come from, and what they do to an object.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{LateInput, LateKind, LateRef, LateText};
use driftless_yaml::{Dialect, Limits, Node, parse_one};

use super::fields::Note;
use super::spec::PostBuild;
use super::variables::{Inputs, Known, Produced};
use crate::report::Code;
use crate::target::{Location, Target};

/// Variables of one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// Values that nothing the cluster has can override.
    pub(crate) certain: BTreeMap<String, String>,
    /// Every source, weakest first, when the cluster has a say in it; else none.
    pub(crate) late: Vec<LateInput>,
    /// The only variables that the cluster may give a value; `None`: any.
    pub(crate) only: Option<BTreeSet<String>>,
    /// Substitution runs whatever the cluster has: by the strategy, or since some variable has a value.
    pub(crate) runs: bool,
}

impl Variables {
    /// Whether only the cluster can tell the value of a variable.
    pub(crate) fn leaves_open(&self, name: &str) -> bool {
        !self.late.is_empty()
            && !self.certain.contains_key(name)
            && self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

/// Whether a unit's variables are known.
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// As far as they ever will be, and what is worth a word.
    Ready(Variables, Vec<Note>),
    /// Some unit not rendered yet may still produce what is missing.
    Waiting,
    /// What is missing is out of reach.
    Unavailable(Note),
}

/// One source of variables.
enum Source {
    Known(BTreeMap<String, String>),
    /// In plain in Git, but a Secret: in a list that travels it stands by name.
    KnownSecret(BTreeMap<String, String>, LateRef),
    /// With the only keys it may have, where Git tells them.
    Late(LateRef, Option<BTreeSet<String>>),
    Text(Box<LateText>),
}

/// Merges a unit's variables: those of the hub's configuration, then every reference in order, then the inline ones.
/// With `settled`, nothing more will be produced: what is missing then is taken from the cluster's facts, or is read in the
/// cluster.
pub(crate) fn resolve(
    post_build: &PostBuild,
    namespace: &str,
    target: &Target,
    inputs: &Inputs,
    settled: bool,
) -> Resolution {
    let mut sources = vec![Source::Known(target.variables.clone())];
    let mut notes = Vec::new();
    for reference in &post_build.from {
        let name = format!("{namespace}/{}", reference.name);
        let produced = inputs.get(reference.secret, namespace, &reference.name);
        let kind = if reference.secret { LateKind::Secret } else { LateKind::ConfigMap };
        let late = |hint: String| LateRef { kind, name: reference.name.clone(), optional: reference.optional, hint };
        if let Some(Produced { known: Known::Plain(data), at, .. }) = produced {
            sources.push(match reference.secret {
                true => Source::KnownSecret(data.clone(), late(format!("Git holds it in {}", at.file))),
                false => Source::Known(data.clone()),
            });
            continue;
        }
        if !settled {
            return Resolution::Waiting;
        }
        if !reference.secret {
            let facts = target.facts.as_ref();
            if let Some(data) = facts.and_then(|f| f.config_maps.get(&name)) {
                sources.push(Source::Known(data.clone()));
                continue;
            }
            let told = facts.is_some_and(|f| f.not_told.contains_key(&name));
            if target.expected_facts.contains(&name) && !told {
                let message = format!(
                    "waiting for fact ConfigMap {name}, which the hub's configuration says the cluster tells; list it under \
                     facts.configMaps in the values of the agent's chart (or take it out of the hub's configuration)"
                );
                let at = reference.at.clone();
                return Resolution::Unavailable(Note { code: Code::SubstitutionInputMissing, at, message });
            }
        }
        let (hint, why) = match produced {
            None => (String::new(), "Git does not produce it for this cluster".to_owned()),
            Some(p) => {
                let hint = match &p.known {
                    Known::Encrypted(_) => format!("Git holds it encrypted in {}", p.at.file),
                    Known::Elsewhere(how) => format!("{how} ({})", p.at.file),
                    Known::Plain(_) => String::new(),
                };
                (hint.clone(), hint)
            }
        };
        let skipped = if reference.optional { "; where it does not exist the unit goes without it" } else { "" };
        let message = format!("{kind} {name} of substituteFrom is read in the cluster by the agent: {why}{skipped}");
        notes.push(Note { code: Code::SubstitutionInputLate, at: reference.at.clone(), message });
        let keys = match produced.map(|p| &p.known) {
            Some(Known::Encrypted(keys)) => keys.clone(),
            _ => None,
        };
        sources.push(Source::Late(late(hint), keys));
    }
    sources.push(Source::Known(post_build.substitute.iter().cloned().collect()));
    if let Some(text) = &post_build.text {
        let names: Vec<String> = text.open.keys().map(|name| format!("${{{name}}}")).collect();
        let message = format!(
            "{} of spec.postBuild.substitute: unit {} above takes them from the cluster, so the agent fills them in",
            names.join(", "),
            text.by
        );
        notes.push(Note { code: Code::SubstitutionInputLate, at: post_build.at.clone(), message });
        sources.push(Source::Text(text.clone()));
    }
    for source in &mut sources {
        let bad = |name: &&String| !driftless_subst::is_valid_name(name);
        let name = match source {
            Source::Known(values) | Source::KnownSecret(values, _) => values.keys().find(bad),
            Source::Text(text) => text.open.keys().find(bad),
            Source::Late(..) => None,
        };
        if let Some(name) = name {
            let message = format!(
                "variable {name:?} is no name for a variable (a letter or _ first, then letters, digits, _); Flux refuses the whole unit"
            );
            let at = post_build.at.clone();
            return Resolution::Unavailable(Note { code: Code::SubstitutionFailed, at, message });
        }
        let (Source::Known(values) | Source::KnownSecret(values, _)) = source else { continue };
        for value in values.values_mut() {
            if let std::borrow::Cow::Owned(changed) = driftless_subst::value_of(value) {
                *value = changed;
            }
        }
    }
    Resolution::Ready(merged(sources, post_build.always), notes)
}

fn merged(sources: Vec<Source>, always: bool) -> Variables {
    let mut out = Variables { runs: always, ..Variables::default() };
    let any_object = sources.iter().any(|source| matches!(source, Source::Late(..)));
    let texts = sources.iter().filter_map(|source| match source {
        Source::Text(text) => Some(text.open.keys().cloned()),
        _ => None,
    });
    let given: BTreeSet<String> = texts.flatten().collect();
    let any_late = any_object || !given.is_empty();
    out.only = (!any_object).then_some(given);
    for source in sources {
        match source {
            Source::Late(reference, keys) => {
                // What was known so far may be overridden: by any key, unless Git tells which there are.
                out.certain.retain(|name, _| keys.as_ref().is_some_and(|keys| !keys.contains(name)));
                out.late.push(LateInput::Object(reference));
            }
            Source::Known(values) => {
                out.runs |= !values.is_empty();
                if any_late && !values.is_empty() {
                    out.late.push(LateInput::Values { values: values.clone() });
                }
                out.certain.extend(values);
            }
            Source::Text(text) => {
                out.runs = true;
                out.certain.retain(|name, _| !text.open.contains_key(name));
                out.late.push(LateInput::Text(text));
            }
            Source::KnownSecret(values, reference) => {
                out.runs |= !values.is_empty();
                if any_late {
                    out.late.push(LateInput::Object(reference));
                }
                out.certain.extend(values);
            }
        }
    }
    out
}

/// What substitution makes of an object.
pub(crate) enum Substituted {
    /// The object as the cluster gets it.
    Done(Node),
    /// Only the cluster can finish it.
    Open(Open),
}

/// An object with holes.
pub(crate) struct Open {
    /// As kustomize emits it: what Flux substitutes in.
    pub(crate) text: String,
    /// Variables in it whose value only the cluster can give, sorted.
    pub(crate) holes: Vec<String>,
    /// Every variable in it.
    pub(crate) uses: BTreeSet<String>,
    /// Its apiVersion, kind, name and namespace; `None` where one of them has a hole itself.
    pub(crate) head: Option<Node>,
    /// The object as Git has it.
    pub(crate) node: Node,
}

/// Substitutes in the object's text and reads it again, so that a value may change its type, as with Flux.
///
/// `asked` collects the names whose values were looked up.
pub(crate) fn object(
    node: Node,
    variables: &Variables,
    strict: bool,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<Substituted, Note> {
    Ok(match attempt(&node, variables, strict, at, asked)? {
        Attempt::Same => Substituted::Done(node),
        Attempt::Done(done) => Substituted::Done(done),
        Attempt::Open { text, holes, uses } => {
            let head = head(&node, variables, strict, at, asked)?;
            Substituted::Open(Open { text, holes, uses, head, node })
        }
    })
}

enum Attempt {
    Same,
    Done(Node),
    Open { text: String, holes: Vec<String>, uses: BTreeSet<String> },
}

fn attempt(
    node: &Node,
    variables: &Variables,
    strict: bool,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<Attempt, Note> {
    if !has_dollar(node) || (variables.late.is_empty() && !variables.runs) {
        return Ok(Attempt::Same);
    }
    let failed = |message: String| Note { code: Code::SubstitutionFailed, at: at.clone(), message };
    let what = || name_of(node);
    let text = driftless_yaml::to_string(node).map_err(|e| failed(format!("{} cannot be written: {e}", what())))?;
    let secret = super::unit::key_of(node).is_some_and(|key| key.kind == "Secret");
    let broken = |e: driftless_subst::Error| {
        let why = if secret { e.kind.without_text() } else { e.kind.to_string() };
        failed(format!("substitution in {} failed: {why}", what()))
    };
    if !variables.late.is_empty() {
        let uses: BTreeSet<String> = match driftless_subst::variables(&text) {
            Ok(uses) => uses.into_iter().map(|u| u.name).collect(),
            Err(error) if variables.runs => return Err(broken(error)),
            // Whether Flux ever looks at it depends on the cluster.
            Err(_) => BTreeSet::new(),
        };
        let holes: Vec<String> = uses.iter().filter(|name| variables.leaves_open(name)).cloned().collect();
        let same_either_way = || driftless_subst::substitute(&text, &|_| None, false).is_ok_and(|out| out == text);
        if !holes.is_empty() || (!variables.runs && !same_either_way()) {
            return Ok(Attempt::Open { text, holes, uses });
        }
        if !variables.runs {
            return Ok(Attempt::Same);
        }
    }
    let asked = RefCell::new(asked);
    let lookup = |name: &str| {
        let mut asked = asked.borrow_mut();
        if !asked.contains(name) {
            asked.insert(name.to_owned());
        }
        variables.certain.get(name).map(String::as_str)
    };
    let text = driftless_subst::substitute(&text, &lookup, strict).map_err(broken)?;
    match parse_one(text.as_bytes(), Dialect::Yaml11, &Limits::default()) {
        Ok(document) if document.node.as_map().is_some() => Ok(Attempt::Done(document.node)),
        Ok(_) => Err(failed(format!("{} is no object any more after substitution", what()))),
        // The reader's own words may quote what it read.
        Err(_) if secret => Err(failed(format!("{} is no YAML any more after substitution", what()))),
        Err(e) => Err(failed(format!("{} is no YAML any more after substitution: {e}", what()))),
    }
}

/// A value with its variables filled in; `None` where only the cluster can do so.
pub(crate) fn known(
    node: &Node,
    variables: &Variables,
    strict: bool,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<Option<Node>, Note> {
    Ok(match attempt(node, variables, strict, at, asked)? {
        Attempt::Same => Some(node.clone()),
        Attempt::Done(done) => Some(done),
        Attempt::Open { .. } => None,
    })
}

/// What names an object, substituted on its own.
fn head(
    node: &Node,
    variables: &Variables,
    strict: bool,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<Option<Node>, Note> {
    let mut metadata = driftless_yaml::Map::new();
    for key in ["name", "namespace"] {
        if let Some(value) = node.at(&["metadata", key]) {
            metadata.insert(key, value.clone());
        }
    }
    let mut head = driftless_yaml::Map::new();
    for key in ["apiVersion", "kind"] {
        if let Some(value) = node.at(&[key]) {
            head.insert(key, value.clone());
        }
    }
    head.insert("metadata", Node::Map(metadata));
    known(&Node::Map(head), variables, strict, at, asked)
}

fn name_of(node: &Node) -> String {
    super::unit::key_of(node).map_or_else(|| "an object without a name".to_owned(), |key| key.to_string())
}

fn has_dollar(node: &Node) -> bool {
    match node {
        Node::Scalar(scalar) => scalar.text.contains('$'),
        Node::Seq(items) => items.iter().any(has_dollar),
        Node::Map(map) => map.iter().any(|e| e.key.contains('$') || has_dollar(&e.value)),
    }
}
