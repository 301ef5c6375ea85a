//! Late inputs: what only the cluster has of a unit's variables, and how the agent gets them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FORMAT, LATE_FORMAT, ServiceAccount, TEXT_FORMAT, is_false};
use crate::id::{Digest, UnitId};
use crate::limits;

/// How the agent finishes a unit whose `substituteFrom` names what only the cluster has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Late {
    /// Where variables come from, weakest first: a later input wins. At most [`limits::LATE_INPUTS`], those of units above
    /// included.
    pub inputs: Vec<LateInput>,
    /// Substitution runs although no variable has a value (the strategy says so, or the hub knows of one that has).
    pub always: bool,
    /// A variable without value and default is an error.
    pub strict: bool,
    /// Labels set on the metadata of every object with holes after substitution: `commonMetadata`, the owner labels, ours.
    pub labels: BTreeMap<String, String>,
    /// Annotations set likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One source of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "from")]
pub enum LateInput {
    /// Values the hub knows and none of which is secret: only those that an object with holes asks for.
    Values {
        /// By name.
        values: BTreeMap<String, String>,
    },
    /// A ConfigMap or Secret of the cluster, in the namespace of the unit.
    Object(LateRef),
    /// Values of the unit's own `postBuild.substitute` that only the build of the unit above it fills in.
    Text(Box<LateText>),
}

/// The Flux object of a unit as the unit above it builds it, before substitution. With the inputs of that unit filled in, it
/// gives the values of `open`; everything else must come out as the hub read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateText {
    /// YAML, as kustomize emits it.
    pub text: String,
    /// The keys of `spec.postBuild.substitute` whose values are taken from it, at least one, each with the place in Git for
    /// people.
    pub open: BTreeMap<String, String>,
    /// BLAKE3 over the canonical JSON of the object after substitution, without the values of `open`.
    pub rest: Digest,
    /// The unit above: its inputs are read in its namespace.
    pub by: UnitId,
    /// The account they are read as; `None`: the applier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccount>,
    /// Its inputs, weakest first, as in [`Late::inputs`].
    pub inputs: Vec<LateInput>,
    /// As [`Late::always`], of the unit above.
    pub always: bool,
    /// As [`Late::strict`], of the unit above.
    pub strict: bool,
}

impl Late {
    /// The format of a body with these late inputs.
    #[must_use]
    pub fn format_of(late: Option<&Self>) -> u32 {
        match late {
            None => FORMAT,
            Some(late) if late.inputs.iter().any(|input| matches!(input, LateInput::Text(_))) => TEXT_FORMAT,
            Some(_) => LATE_FORMAT,
        }
    }

    /// Whether the inputs are within the limits, those of units above included; else which limit they are beyond.
    ///
    /// # Errors
    /// The first limit they are beyond.
    pub fn check(&self) -> Result<(), String> {
        fn count(inputs: &[LateInput], depth: usize, sum: &mut (usize, usize)) -> Result<(), String> {
            if depth > limits::LATE_DEPTH {
                return Err(format!("texts of units above stand deeper than {} in each other", limits::LATE_DEPTH));
            }
            sum.0 += inputs.len();
            for input in inputs {
                if let LateInput::Text(text) = input {
                    sum.1 += text.text.len();
                    count(&text.inputs, depth + 1, sum)?;
                }
            }
            Ok(())
        }
        let mut sum = (0, 0);
        count(&self.inputs, 0, &mut sum)?;
        match sum {
            (inputs, _) if inputs > limits::LATE_INPUTS => {
                Err(format!("{inputs} sources of variables, of which at most {} are read", limits::LATE_INPUTS))
            }
            (_, bytes) if bytes > limits::LATE_TEXT_BYTES => {
                Err(format!("{bytes} bytes of texts of units above, at most {}", limits::LATE_TEXT_BYTES))
            }
            _ => Ok(()),
        }
    }
}

/// A ConfigMap or Secret that the agent reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateRef {
    /// Which of the two.
    pub kind: LateKind,
    /// Its name.
    pub name: String,
    /// Skipped when it does not exist; else the unit waits for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// What the hub knows of where it comes from, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// What a [`LateRef`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LateKind {
    /// Its `data`.
    ConfigMap,
    /// Its `data`, decoded. No value of it ever leaves the cluster.
    Secret,
}

impl LateKind {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl std::fmt::Display for LateKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> LateInput {
        LateInput::Object(LateRef {
            kind: LateKind::ConfigMap,
            name: name.into(),
            optional: false,
            hint: String::new(),
        })
    }

    fn text(inputs: Vec<LateInput>, bytes: usize) -> LateInput {
        LateInput::Text(Box::new(LateText {
            text: "a".repeat(bytes),
            open: [("host".to_owned(), "clusters/c/web.yaml:9".to_owned())].into(),
            rest: Digest::of(b"rest"),
            by: UnitId::kustomization("flux-system", "all"),
            account: None,
            inputs,
            always: true,
            strict: false,
        }))
    }

    fn late(inputs: Vec<LateInput>) -> Late {
        Late { inputs, ..Late::default() }
    }

    #[test]
    fn a_text_has_these_bytes() {
        let bytes = crate::canonical::to_vec(&text(vec![object("settings")], 2)).unwrap();
        let expected = format!(
            r#"{{"always":true,"by":{{"kind":"Kustomization","name":"all","namespace":"flux-system"}},"from":"text","inputs":[{{"from":"object","kind":"ConfigMap","name":"settings"}}],"open":{{"host":"clusters/c/web.yaml:9"}},"rest":"{}","strict":false,"text":"aa"}}"#,
            Digest::of(b"rest")
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let read: LateInput = crate::canonical::from_slice(&bytes).unwrap();
        assert_eq!(read, text(vec![object("settings")], 2));
    }

    #[test]
    fn the_format_says_what_must_be_understood() {
        let with_text = late(vec![text(Vec::new(), 1)]);
        for (late, format) in [(None, 1), (Some(late(vec![object("a")])), 2), (Some(with_text), 3)] {
            assert_eq!(Late::format_of(late.as_ref()), format, "{late:?}");
        }
    }

    #[test]
    fn limits_count_what_stands_in_texts() {
        let many = |n: usize| (0..n).map(|n| object(&n.to_string())).collect::<Vec<_>>();
        let deep = |n: usize| (0..n).fold(text(Vec::new(), 1), |inner, _| text(vec![inner], 1));
        for (what, inputs, beyond) in [
            ("64 inputs", many(64), None),
            ("65 inputs", many(65), Some("65 sources")),
            ("64 with the text", vec![text(many(63), 1)], None),
            ("65 with the text", vec![text(many(64), 1)], Some("65 sources")),
            ("eight inside each other", vec![deep(7)], None),
            ("nine inside each other", vec![deep(8)], Some("deeper than 8")),
            ("256 KiB", vec![text(Vec::new(), 256 * 1024)], None),
            ("more", vec![text(Vec::new(), 256 * 1024), text(Vec::new(), 1)], Some("262145 bytes")),
        ] {
            let found = late(inputs).check();
            match beyond {
                None => assert_eq!(found, Ok(()), "{what}"),
                Some(words) => assert!(found.as_ref().is_err_and(|why| why.contains(words)), "{what}: {found:?}"),
            }
        }
    }
}
