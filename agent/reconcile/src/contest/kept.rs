//! What of the contests outlives the pod that counted them: written down and read again.
//!
//! Without it the next pod would heal at full speed until it had counted anew, and tell the same contest a second time.

use std::collections::BTreeSet;

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::DriftClass;
use serde::{Deserialize, Serialize};

use super::WINDOW;
use crate::input::Millis;

/// So many are written down; beyond, the next pod counts anew.
pub const MOST: usize = 256;
/// A last heal is written down again when the written one is so much older: a contest of hours writes now and then, not
/// with each heal, and one that is read again ends at most so much too early.
const STALE: Millis = WINDOW / 4;

/// One contest, as written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Over what.
    pub object: ObjectKey,
    /// As [`FieldDrift::path`](driftless_protocol::report::FieldDrift::path); empty: the whole object.
    pub path: String,
    /// As [`FieldDrift::pointer`](driftless_protocol::report::FieldDrift::pointer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The manager that claimed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// What kind of writer it looks like.
    pub class: DriftClass,
    /// Since when it is a contest.
    pub since: Millis,
    /// When it was healed last.
    pub last: Millis,
}

/// The text of these contests, which come in the order of their objects.
///
/// # Errors
/// None that is known: every part has a JSON form.
pub fn encode(kept: &[Kept]) -> Result<String, serde_json::Error> {
    serde_json::to_string(kept)
}

/// Reads [`encode`]'s text.
///
/// # Errors
/// The text is not such a list.
pub fn decode(text: &str) -> Result<Vec<Kept>, serde_json::Error> {
    let mut kept: Vec<Kept> = serde_json::from_str(text)?;
    kept.truncate(MOST);
    Ok(kept)
}

/// Whether what is written down is too old to be read again: other contests, or a heal long after.
#[must_use]
pub fn is_stale(written: &[Kept], now: &[Kept]) -> bool {
    let which = |kept: &Kept| (kept.object.clone(), kept.path.clone(), kept.since);
    let known: BTreeSet<_> = written.iter().map(which).collect();
    let later = |kept: &Kept| {
        let old = written.iter().find(|old| old.path == kept.path && old.object == kept.object);
        old.is_some_and(|old| kept.last.saturating_sub(old.last) >= STALE)
    };
    known != now.iter().map(which).collect() || now.iter().any(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &str, last: Millis) -> Kept {
        Kept {
            object: ObjectKey {
                group: "apps".into(),
                kind: "Deployment".into(),
                namespace: "shop".into(),
                name: "web".into(),
            },
            path: path.into(),
            pointer: None,
            manager: Some("other".into()),
            class: DriftClass::Controller,
            since: 1_000,
            last,
        }
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<(), serde_json::Error> {
        let all = vec![kept("spec.x", 5_000), kept("", 6_000)];
        assert_eq!(decode(&encode(&all)?)?, all);
        let many = vec![kept("spec.x", 5_000); MOST + 1];
        assert_eq!(decode(&encode(&many)?)?.len(), MOST);
        assert!(decode("{").is_err());
        Ok(())
    }

    #[test]
    fn it_is_written_again_for_another_contest_and_now_and_then() {
        let written = [kept("spec.x", 5_000)];
        assert!(!is_stale(&written, &[kept("spec.x", 5_000 + STALE - 1)]));
        assert!(is_stale(&written, &[kept("spec.x", 5_000 + STALE)]));
        assert!(is_stale(&written, &[]), "it ended");
        assert!(is_stale(&written, &[kept("spec.x", 5_000), kept("spec.y", 5_000)]), "another began");
        assert!(!is_stale(&[], &[]));
    }
}
