//! Kinds judged by `healthCheckExprs`.

use driftless_cel::{CelError, Question};
use driftless_protocol::bundle::HealthExpr;
use serde_json::Value;

use super::Verdict;
use crate::input::GroupKind;

/// The compiled expressions of one kind.
#[derive(Clone, Debug)]
pub struct Asked {
    kind: GroupKind,
    in_progress: Option<Question>,
    failed: Option<Question>,
    current: Question,
}

impl Asked {
    /// Compiles one entry. The hub has compiled it before, so an error is one of versions.
    pub fn compile(from: &HealthExpr) -> Result<Self, CelError> {
        let optional = |text: &Option<String>| text.as_deref().map(Question::compile).transpose();
        Ok(Self {
            kind: GroupKind { group: from.group.as_str().into(), kind: from.kind.as_str().into() },
            in_progress: optional(&from.in_progress)?,
            failed: optional(&from.failed)?,
            current: Question::compile(&from.current)?,
        })
    }

    /// The kind it judges.
    #[must_use]
    pub fn kind(&self) -> &GroupKind {
        &self.kind
    }

    /// In Flux's order: in progress, failed, current; none true is in progress. An expression that cannot be evaluated (most
    /// often a field is not there yet) is waited for, as Flux does.
    pub(super) fn judge(&self, live: &Value) -> Verdict {
        let ask = |question: &Question| question.ask_of(live);
        let unclear = |name: &str, why: CelError| Verdict::in_progress(format!("expression {name}: {why}"));
        if let Some(question) = &self.in_progress {
            match ask(question) {
                Ok(true) => return Verdict::in_progress(said(live, "expression inProgress is true")),
                Ok(false) => {}
                Err(why) => return unclear("inProgress", why),
            }
        }
        if let Some(question) = &self.failed {
            match ask(question) {
                Ok(true) => return Verdict::failed(said(live, "expression failed is true")),
                Ok(false) => {}
                Err(why) => return unclear("failed", why),
            }
        }
        match ask(&self.current) {
            Ok(true) => Verdict::current(),
            Ok(false) => Verdict::in_progress(said(live, "expression current is not true")),
            Err(why) => unclear("current", why),
        }
    }
}

/// The words of an expression, with those of the object's Ready condition where it has one.
fn said(live: &Value, words: &str) -> String {
    match super::Object(live).condition("Ready") {
        Some((_, reason, message)) if !message.is_empty() || !reason.is_empty() => {
            format!("{words} ({})", super::because(reason, message))
        }
        _ => words.to_owned(),
    }
}
