//! Keeps values of Secrets out of what is said of a failure.
//!
//! Messages of transformers quote the value they stumbled over, since that is what helps. They end in pull requests, logs and
//! code scanning, so a value of a Secret must not be among them, whichever way it came there.

use driftless_yaml::Node;

use super::error::BuildError;
use super::res::Objects;

/// Shorter texts stand in any message by chance; hiding them would only say that they are there.
const SHORTEST: usize = 4;

const HIDDEN: &str = "(a value of a Secret, not shown)";

/// The failure without values that some Secret among the objects holds, whole or line by line.
pub(crate) fn hide(objects: &Objects, mut error: BuildError) -> BuildError {
    let secrets = objects.iter().filter(|res| &*res.kind() == "Secret").filter_map(|res| res.node.as_map());
    let mut values: Vec<&str> = Vec::new();
    for field in secrets.flat_map(|map| ["data", "stringData"].map(|key| map.get(key))).flatten() {
        texts(field, &mut values);
    }
    // The longest first: a shorter one may be part of it.
    values.sort_by_key(|text| std::cmp::Reverse(text.len()));
    values.dedup();
    for value in values {
        for text in [&mut error.attempt].into_iter().chain(&mut error.help) {
            for shown in [format!("{value:?}"), value.to_owned()] {
                if text.contains(&shown) {
                    *text = text.replace(&shown, HIDDEN);
                }
            }
        }
    }
    error
}

fn texts<'n>(node: &'n Node, out: &mut Vec<&'n str>) {
    match node {
        Node::Scalar(s) if s.text.len() >= SHORTEST => {
            out.push(&s.text);
            out.extend(s.text.lines().filter(|line| line.len() >= SHORTEST));
        }
        Node::Scalar(_) => {}
        Node::Seq(items) => items.iter().for_each(|item| texts(item, out)),
        Node::Map(map) => map.iter().for_each(|entry| texts(&entry.value, out)),
    }
}
