//! A Kustomization whose own definition has holes: can the hub build it all the same?
//!
//! It can where the holes stand in values of `spec.postBuild.substitute` and nowhere else: these values are variables of the
//! unit, whatever they are, and the agent learns them as Flux does, from the text that the unit above built. Any other field
//! decides what is built, and must be known here.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::bundle::{LateInput, LateText};
use driftless_protocol::id::{Digest, UnitId};
use driftless_yaml::{Dialect, Entry, Limits, Map, Node, parse_one};

use super::fields::Note;
use super::substitute::{self, Open, Variables};
use crate::report::Code;
use crate::target::Location;

/// Where the values stand that may have holes.
const VALUES: [&str; 3] = ["spec", "postBuild", "substitute"];
/// Fields with holes that a message names.
const SHOWN: usize = 5;

/// A Kustomization with holes.
#[derive(Clone, Debug)]
pub(crate) enum OpenChild {
    /// It is built: without the values that only the cluster can tell, which this text gives.
    Text(Box<LateText>),
    /// It cannot be built, and why.
    Held(String),
}

/// The unit whose build gave the Kustomization.
pub(crate) struct Above<'a> {
    pub(crate) id: &'a UnitId,
    pub(crate) variables: &'a Variables,
    pub(crate) strict: bool,
}

/// Reads a Kustomization with holes: its definition as far as it is known, and how the rest is come by. Places and accounts
/// are filled in by whoever knows them.
pub(crate) fn read(
    id: &UnitId,
    open: Open,
    above: &Above<'_>,
    at: &Location,
    asked: &mut BTreeSet<String>,
) -> Result<(Node, OpenChild), Note> {
    let Open { text, holes, uses, node, head } = open;
    let mut rest = node.clone();
    let mut names = BTreeMap::new();
    if let Some(values) = VALUES.iter().try_fold(&mut rest, |n, key| n.as_map_mut()?.get_mut(key))
        && let Some(values) = values.as_map_mut()
    {
        let mut kept = Map::new();
        for entry in std::mem::take(values).iter() {
            let known = entry.key.contains('$')
                || entry.value.as_scalar().is_none()
                || substitute::known(&alone(head.as_ref(), entry), above.variables, above.strict, at, asked)?.is_some();
            if known {
                kept.insert(entry.key.clone(), entry.value.clone());
            } else {
                names.insert(entry.key.to_string(), String::new());
            }
        }
        *values = kept;
    }
    let known = match names.is_empty() {
        false => substitute::known(&rest, above.variables, above.strict, at, asked)?,
        true => None,
    };
    let Some(known) = known else {
        let mut fields = Vec::new();
        fields_with_holes(&rest, above.variables, "", &mut fields);
        return Ok((node, OpenChild::Held(refusal(id, &holes, &fields))));
    };
    let failed = |message: String| Note { code: Code::SubstitutionFailed, at: at.clone(), message };
    // As the agent reads it: from text.
    let known = driftless_yaml::to_string(&known)
        .map_err(|e| failed(format!("Kustomization {id} cannot be written: {e}")))
        .and_then(|text| {
            let read = parse_one(text.as_bytes(), Dialect::Yaml11, &Limits::default());
            read.map_err(|e| failed(format!("Kustomization {id} cannot be read back: {e}")))
        })?
        .node;
    let bytes = known.to_json().map_err(|e| failed(format!("Kustomization {id} cannot be written as JSON: {e}")))?;
    let text = LateText {
        text,
        open: names,
        rest: Digest::of(&bytes),
        by: above.id.clone(),
        account: None,
        inputs: asked_for(&above.variables.late, &uses),
        always: above.variables.runs,
        strict: above.strict,
    };
    Ok((known, OpenChild::Text(Box::new(text))))
}

/// One value of the object, under what names it.
fn alone(head: Option<&Node>, entry: &Entry) -> Node {
    let mut out = head.and_then(Node::as_map).cloned().unwrap_or_default();
    let mut value = Map::new();
    value.insert(entry.key.clone(), entry.value.clone());
    let [spec, inner @ ..] = VALUES;
    let below = inner.iter().rev().fold(Node::Map(value), |node, key| {
        let mut map = Map::new();
        map.insert(*key, node);
        Node::Map(map)
    });
    out.insert(spec, below);
    Node::Map(out)
}

fn refusal(id: &UnitId, holes: &[String], fields: &[String]) -> String {
    let shown: Vec<String> = holes.iter().map(|name| format!("${{{name}}}")).collect();
    let more = fields.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let first: Vec<&str> = fields.iter().take(SHOWN).map(String::as_str).collect();
    let fields = if first.is_empty() { String::new() } else { format!(" ({}{more})", first.join(", ")) };
    format!(
        "Kustomization {id} needs {}, which only the cluster has, in its own definition{fields}, so that the hub cannot build \
         it: only values of spec.postBuild.substitute may be left to the cluster; give the variable a value in Git \
         (postBuild.substitute, a ConfigMap in Git) or by a cluster fact, or let {id} name the ConfigMap or Secret in its own \
         postBuild.substituteFrom",
        shown.join(", ")
    )
}

/// The fields of a value that need what only the cluster has: `spec.images[0].newTag`.
fn fields_with_holes(node: &Node, variables: &Variables, path: &str, out: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let open = |text: &str| {
        driftless_subst::variables(text).is_ok_and(|uses| uses.iter().any(|u| variables.leaves_open(&u.name)))
    };
    match node {
        Node::Scalar(scalar) if open(&scalar.text) => out.push(path.to_owned()),
        Node::Scalar(_) => {}
        Node::Seq(items) => {
            for (at, item) in items.iter().enumerate() {
                fields_with_holes(item, variables, &format!("{path}[{at}]"), out);
            }
        }
        Node::Map(map) => {
            for entry in map.iter() {
                if open(&entry.key) {
                    out.push(below(&entry.key));
                }
                fields_with_holes(&entry.value, variables, &below(&entry.key), out);
            }
        }
    }
}

/// Inputs as an agent is told of them: of the values known here only those that are asked for.
pub(crate) fn asked_for(inputs: &[LateInput], asked: &BTreeSet<String>) -> Vec<LateInput> {
    let kept = inputs.iter().filter_map(|input| match input {
        LateInput::Object(_) | LateInput::Text(_) => Some(input.clone()),
        LateInput::Values { values } => {
            let values: BTreeMap<_, _> =
                values.iter().filter(|(k, _)| asked.contains(*k)).map(|(k, v)| (k.clone(), v.clone())).collect();
            (!values.is_empty()).then_some(LateInput::Values { values })
        }
    });
    kept.collect()
}
