//! Post-build substitution: where variables come from, and what they do to an object.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use driftless_yaml::{Dialect, Limits, Node, parse_one};

use super::fields::Note;
use super::spec::PostBuild;
use super::variables::{Inputs, Known};
use crate::report::Code;
use crate::target::{Location, Target};

/// Variables of one unit, merged.
pub(crate) type Variables = BTreeMap<String, String>;

/// Whether a unit's variables are known.
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// All of them, and what was left out.
    Ready(Variables, Vec<Note>),
    /// Some unit not rendered yet may still produce what is missing.
    Waiting,
    /// What is missing is out of reach.
    Unavailable(Note),
}

/// Merges a unit's variables: those of the hub's configuration, then every reference in order, then the inline ones.
/// With `settled`, nothing more will be produced: what is missing then is taken from the cluster's facts, skipped when
/// optional, or out of reach.
pub(crate) fn resolve(
    post_build: &PostBuild,
    namespace: &str,
    target: &Target,
    inputs: &Inputs,
    settled: bool,
) -> Resolution {
    let mut variables = target.variables.clone();
    let mut skipped = Vec::new();
    for reference in &post_build.from {
        let kind = if reference.secret { "Secret" } else { "ConfigMap" };
        let name = format!("{namespace}/{}", reference.name);
        let produced = inputs.get(reference.secret, namespace, &reference.name);
        if let Some(Known::Plain(data)) = produced.map(|p| &p.known) {
            variables.extend(data.iter().map(|(k, v)| (k.clone(), v.clone())));
            continue;
        }
        if !settled {
            return Resolution::Waiting;
        }
        let fact = target.facts.as_ref().filter(|_| !reference.secret).and_then(|f| f.config_maps.get(&name));
        if let Some(data) = fact {
            variables.extend(data.iter().map(|(k, v)| (k.clone(), v.clone())));
            continue;
        }
        let why = match produced {
            None if reference.optional => {
                let message = format!(
                    "optional {kind} {name} of substituteFrom is not in Git: rendered without it; should the cluster have one, \
                     Flux would use it"
                );
                skipped.push(Note { code: Code::SubstitutionInputSkipped, at: reference.at.clone(), message });
                continue;
            }
            None => "which only the cluster has: Git does not produce it for this cluster".to_owned(),
            Some(p) => match &p.known {
                Known::Encrypted => format!("which Git holds encrypted ({}), and the hub has no key", p.at),
                Known::Elsewhere(how) => format!("and {how} ({})", p.at),
                Known::Plain(_) => continue,
            },
        };
        let help = if reference.secret {
            "substituting a Secret in the cluster is not there yet; until then the unit is held"
        } else {
            "add the ConfigMap to Git, or let the agent publish it as a cluster fact"
        };
        let message = format!("substituteFrom needs {kind} {name}, {why}; {help}");
        return Resolution::Unavailable(Note {
            code: Code::SubstitutionInputMissing,
            at: reference.at.clone(),
            message,
        });
    }
    variables.extend(post_build.substitute.iter().cloned());
    for (name, value) in &mut variables {
        if !driftless_subst::is_valid_name(name) {
            let message = format!(
                "variable {name:?} is no name for a variable (a letter or _ first, then letters, digits, _); Flux refuses the whole unit"
            );
            return Resolution::Unavailable(Note {
                code: Code::SubstitutionFailed,
                at: post_build.at.clone(),
                message,
            });
        }
        if let std::borrow::Cow::Owned(changed) = driftless_subst::value_of(value) {
            *value = changed;
        }
    }
    Resolution::Ready(variables, skipped)
}

/// Substitutes in the object's text and reads it again, so that a value may change its type, as with Flux. `asked` collects
/// the names that were looked up.
pub(crate) fn object(
    node: Node,
    variables: &Variables,
    strict: bool,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<Node, Note> {
    if !has_dollar(&node) {
        return Ok(node);
    }
    let failed = |message: String| Note { code: Code::SubstitutionFailed, at: at.clone(), message };
    let what = || name_of(&node);
    let text = driftless_yaml::to_string(&node).map_err(|e| failed(format!("{} cannot be written: {e}", what())))?;
    let asked = RefCell::new(asked);
    let lookup = |name: &str| {
        let mut asked = asked.borrow_mut();
        if !asked.contains(name) {
            asked.insert(name.to_owned());
        }
        variables.get(name).map(String::as_str)
    };
    let text = driftless_subst::substitute(&text, &lookup, strict)
        .map_err(|e| failed(format!("substitution in {} failed: {}", what(), e.kind)))?;
    match parse_one(text.as_bytes(), Dialect::Yaml11, &Limits::default()) {
        Ok(document) if document.node.as_map().is_some() => Ok(document.node),
        Ok(_) => Err(failed(format!("{} is no object any more after substitution", what()))),
        Err(e) => Err(failed(format!("{} is no YAML any more after substitution: {e}", what()))),
    }
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
