//! What a hub may ask the agent that leads a cluster, and what it is told: bounded, and nothing in the cluster changes by it.
//!
//! Questions and answers travel as JSON inside their frames ([`Ask`], [`Answered`]), each exchange on a stream of its own.
//! They carry names, states and the API server's words, never a value of a Secret.

mod dry_run;
mod orphans;
mod why;

use serde::{Deserialize, Serialize};

pub use dry_run::{
    DRY_RUN_BYTES, DRY_RUN_OBJECTS, DryRunAnswer, DryRunObject, DryRunOutcome, DryRunQuestion, DryRunResult, FieldTaken,
};
pub use orphans::{NotLooked, ORPHANS, Orphan, OrphansAnswer, OrphansQuestion, SkippedObjects};
pub use why::{CAUSES, Cause, Happened, WHY_OBJECTS, WhyAnswer, WhyObject, WhyQuestion};

use crate::wire::limits::{ANSWER_BYTES, ASK_BYTES};

/// Questions of one session under way at a time. QUIC grants no more streams than that.
pub const ASKS_OPEN: usize = 4;
/// The longest an agent works at an answer, whatever the question says, in milliseconds.
pub const ASK_MS: u32 = 120_000;
/// Most bytes of one text in an answer.
pub const TEXT_BYTES: usize = 1024;

/// A question as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// How long the hub waits, in milliseconds from when it was sent.
    pub deadline_ms: u32,
    /// [`Question`] as JSON.
    pub json: Vec<u8>,
}

/// An answer as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    /// [`Answer`] as JSON.
    pub json: Vec<u8>,
}

// Bodies of objects are nobody's business in a log.
impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask").field("deadline_ms", &self.deadline_ms).field("bytes", &self.json.len()).finish()
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered").field("bytes", &self.json.len()).finish()
    }
}

/// What is asked. An agent refuses what it does not know ([`refusal::UNKNOWN`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase")]
pub enum Question {
    /// Why is it not healthy.
    Why(WhyQuestion),
    /// What is there that nobody declares.
    Orphans(OrphansQuestion),
    /// What would the API server say.
    DryRun(DryRunQuestion),
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    /// To [`Question::Why`].
    Why(WhyAnswer),
    /// To [`Question::Orphans`].
    Orphans(OrphansAnswer),
    /// To [`Question::DryRun`].
    DryRun(DryRunAnswer),
    /// No answer, and why.
    Refused(NotAnswered),
}

/// Why a question is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotAnswered {
    /// One of [`refusal`].
    pub code: String,
    /// For people.
    pub message: String,
}

/// Stable codes of [`NotAnswered`].
pub mod refusal {
    /// A question this agent does not know, or cannot read.
    pub const UNKNOWN: &str = "unknownQuestion";
    /// The one who installed the agent switched it off.
    pub const DISABLED: &str = "disabled";
    /// Too many questions at a time.
    pub const BUSY: &str = "busy";
    /// The time was over.
    pub const LATE: &str = "late";
    /// It breaks a limit.
    pub const TOO_MUCH: &str = "tooMuch";
    /// The cluster's API server does not answer, or refuses.
    pub const FAILED: &str = "failed";
}

impl Answer {
    /// A refusal.
    #[must_use]
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused(NotAnswered { code: code.to_owned(), message: message.into() })
    }

    /// As it travels, cut to its limit: lists are halved and say so until it fits.
    #[must_use]
    pub fn pack(mut self) -> Answered {
        let mut most = usize::MAX;
        loop {
            let bytes = serde_json::to_vec(&self).unwrap_or_default();
            if bytes.len() <= ANSWER_BYTES && !bytes.is_empty() {
                return Answered { json: bytes };
            }
            most = match &mut self {
                Self::Why(answer) => answer.cut(most),
                Self::Orphans(answer) => answer.cut(most),
                Self::DryRun(answer) => answer.cut(most),
                Self::Refused(refused) => {
                    cut_text(&mut refused.message);
                    usize::MAX
                }
            };
            if most == 0 {
                self = Self::refused(refusal::TOO_MUCH, "the answer is longer than an answer may be; ask for less");
                most = 1;
            }
        }
    }

    /// From the bytes of an agent.
    pub fn unpack(answered: &Answered) -> Result<Self, String> {
        serde_json::from_slice(&answered.json).map_err(|e| e.to_string())
    }
}

impl Question {
    /// As it travels; `Err`: it is longer than a question may be.
    pub fn pack(&self, deadline_ms: u32) -> Result<Ask, String> {
        let json = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        if json.len() > ASK_BYTES {
            return Err(format!(
                "the question has {} bytes, at most {ASK_BYTES} are allowed; ask for less",
                json.len()
            ));
        }
        Ok(Ask { deadline_ms, json })
    }

    /// From the bytes of a hub. The decoder's words are not passed on: they may quote an object.
    #[must_use]
    pub fn unpack(ask: &Ask) -> Option<Self> {
        serde_json::from_slice(&ask.json).ok()
    }
}

/// At most [`TEXT_BYTES`], cut at a character, with a mark that it was cut.
pub fn cut_text(text: &mut String) {
    if text.len() <= TEXT_BYTES {
        return;
    }
    let mut end = TEXT_BYTES - 3;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str("...");
}

/// Halves a list, from its own length on; how long it may be now. 0: nothing is left to cut.
fn halve<T>(list: &mut Vec<T>, most: usize) -> usize {
    let most = most.min(list.len()) / 2;
    list.truncate(most);
    most
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectKey;

    fn key(n: usize) -> ObjectKey {
        ObjectKey {
            group: "".into(),
            kind: "ConfigMap".into(),
            namespace: "a".into(),
            name: format!("{n:0>250}").into(),
        }
    }

    #[test]
    fn a_long_answer_is_cut_and_says_so() {
        let orphans = (0..5000)
            .map(|n| Orphan { key: key(n), created: None, owner: None, manager: None, system: None })
            .collect();
        let answer = Answer::Orphans(OrphansAnswer { found: 5000, orphans, ..OrphansAnswer::default() });
        let packed = answer.pack();
        assert!(packed.json.len() <= ANSWER_BYTES);
        let Answer::Orphans(read) = Answer::unpack(&packed).unwrap() else { panic!("another answer") };
        assert!(read.orphans.len() > 500 && read.orphans.len() < 5000, "{}", read.orphans.len());
        assert_eq!(read.found, 5000);
    }

    #[test]
    fn every_kind_of_answer_can_be_cut() {
        let long = || "é".repeat(ANSWER_BYTES);
        let cause = Cause { code: "A".into(), at: key(1), message: long(), hint: String::new(), since: None, count: 1 };
        let object = WhyObject { causes: vec![cause], ..WhyObject::default() };
        let taken = FieldTaken { field: long(), manager: "kubectl".into() };
        let result = DryRunResult {
            key: key(1),
            outcome: DryRunOutcome::Accepted,
            message: String::new(),
            takes: vec![taken],
            warnings: Vec::new(),
        };
        for (answer, kept) in [
            (Answer::refused(refusal::FAILED, long()), refusal::FAILED),
            (Answer::Why(WhyAnswer { objects: vec![object] }), refusal::TOO_MUCH),
            (Answer::DryRun(DryRunAnswer { results: vec![result] }), "accepted"),
        ] {
            let packed = answer.pack();
            assert!(packed.json.len() <= ANSWER_BYTES && Answer::unpack(&packed).is_ok());
            assert!(String::from_utf8_lossy(&packed.json).contains(kept), "{kept}");
        }
    }

    #[test]
    fn a_question_of_a_newer_hub_is_not_read() {
        let ask = Ask { deadline_ms: 1, json: br#"{"ask":"weather"}"#.to_vec() };
        assert_eq!(Question::unpack(&ask), None);
        let why = Question::Why(WhyQuestion { objects: vec![key(1)] });
        assert_eq!(Question::unpack(&why.pack(1000).unwrap()), Some(why));
    }
}
