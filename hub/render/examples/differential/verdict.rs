//! What two builds of one input say about each other.

use crate::case::{Case, Recorder};
use crate::oracle::Answer;
use driftless_render::kustomize::{ErrorKind, Options, build};
use driftless_yaml::{Dialect, Limits};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Our build: the text, or the class and words of the failure.
pub(crate) type Ours = Result<String, (Option<ErrorKind>, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    EqualBytes,
    EqualObjects,
    ErrorsAgree,
    /// Ours refuses, by design, what the real program does: see `deliberate`.
    Deliberate,
    /// The real program took too long, or ended.
    NoAnswer,
    /// The real program does not agree with itself.
    Unsteady,
    DifferentObjects,
    OnlyOursFails,
    OnlyTheirsFails,
    Panic,
}

impl Verdict {
    pub(crate) fn is_difference(self) -> bool {
        matches!(
            self,
            Self::EqualObjects | Self::DifferentObjects | Self::OnlyOursFails | Self::OnlyTheirsFails | Self::Panic
        )
    }
}

pub(crate) fn ours(case: &Case) -> Ours {
    let tree = Recorder::new(case);
    let built = catch_unwind(AssertUnwindSafe(|| {
        let built = build(&tree, &case.dir, &Options::default()).map_err(|e| (Some(e.kind), e.to_string()))?;
        driftless_yaml::to_stream(built.resources.iter().map(|r| &r.node)).map_err(|e| (None, e.to_string()))
    }));
    built.unwrap_or_else(|_| Err((None, "PANIC".to_owned())))
}

/// What our build of a folder reads.
pub(crate) fn reads(whole: &Case, dir: &str) -> Vec<String> {
    let tree = Recorder::new(whole);
    // Only what was read matters here; how it ended is looked at when the part is built.
    let _ = catch_unwind(AssertUnwindSafe(|| build(&tree, dir, &Options::default())));
    tree.reads()
}

pub(crate) fn compare(ours: &Ours, theirs: Option<&Answer>) -> Verdict {
    if matches!(ours, Err((None, text)) if text == "PANIC") {
        return Verdict::Panic;
    }
    match (ours, theirs) {
        (_, None) => Verdict::NoAnswer,
        (Err(_), Some(Err(_))) => Verdict::ErrorsAgree,
        (Err(ours), Some(Ok(_))) => {
            if deliberate(ours) {
                Verdict::Deliberate
            } else {
                Verdict::OnlyOursFails
            }
        }
        // A crash is no opinion on the input.
        (Ok(_), Some(Err(why))) if why.starts_with("panic: ") || why.contains("\ngoroutine ") => Verdict::NoAnswer,
        (Ok(_), Some(Err(_))) => Verdict::OnlyTheirsFails,
        (Ok(ours), Some(Ok(theirs))) => {
            if ours.as_bytes() == theirs.as_slice() {
                Verdict::EqualBytes
            } else if objects(ours.as_bytes()).is_some_and(|o| Some(o) == objects(theirs)) {
                Verdict::EqualObjects
            } else {
                Verdict::DifferentObjects
            }
        }
    }
}

/// Failures of ours that are safer than what the real program does.
fn deliberate((kind, why): &(Option<ErrorKind>, String)) -> bool {
    matches!(kind, Some(ErrorKind::Refused | ErrorKind::Limit))
        // A key set twice is refused where it stands, also when a later step would have removed one of the two.
        || (*kind == Some(ErrorKind::Syntax) && why.contains("is already set on line"))
}

/// Canonical JSON of every document.
fn objects(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let documents = driftless_yaml::parse_all(text, Dialect::Resource, &Limits::default()).ok()?;
    let json = |node: &driftless_yaml::Node| {
        let mut out = Vec::new();
        node.write_json(&mut out).ok().map(|()| out)
    };
    documents.iter().map(|d| json(&d.node)).collect()
}
