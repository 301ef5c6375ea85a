//! Kubernetes Events: what happened, few enough for an API server and whole enough for a person.
//!
//! What happens to one unit within a moment is one Event per reason, which names the first objects and counts the others. The
//! same again is a series on the Event before. A bucket bounds all of them; what waits for it is folded further, never
//! queued. Notes come from reports and so hold no value of a Secret.

use std::collections::BTreeMap;

use driftless_protocol::report::EventKind;
use driftless_reconcile::engine::Happened;
use driftless_reconcile::input::Millis;
use serde_json::{Value, json};

use crate::pauses::rfc3339;

/// How long happenings of one unit are gathered for one Event.
const GATHER: Millis = 1_000;
/// Least time between two Events of one unit and reason.
const EVERY: Millis = 30_000;
/// How long a series goes on after its last Event.
const SERIES: Millis = 1_800_000;
/// Events at once, and one more in this time.
const BURST: u32 = 50;
const REFILL: Millis = 500;
/// The API server's limit of a note.
const NOTE_BYTES: usize = 1024;
/// Most subjects and reasons that wait; what is beyond is dropped, and counted in the log.
const MOST: usize = 5_000;

/// An object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Where it is known from the first; a `Unit` has one once it was written.
    pub(super) uid: Option<String>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) reason: String,
    pub(super) warning: bool,
    pub(super) action: &'static str,
    /// What happened; several of one reason are put together.
    pub(super) count: u32,
    pub(super) lines: Vec<String>,
}

impl Told {
    /// One sentence.
    pub(super) fn one(reason: impl Into<String>, warning: bool, action: &'static str, note: impl Into<String>) -> Self {
        Self { reason: reason.into(), warning, action, count: 1, lines: vec![note.into()] }
    }

    /// What an engine did to objects of a unit.
    pub(super) fn of(happened: &Happened) -> Self {
        let (reason, warning, action) = match happened.what {
            EventKind::Applied => ("Applied", false, "Apply"),
            EventKind::Healed => ("Healed", false, "Heal"),
            EventKind::Pruned => ("Pruned", false, "Prune"),
            EventKind::Released => ("Released", false, "Prune"),
            EventKind::Contested => ("Contested", true, "Heal"),
            EventKind::ContestEnded => ("ContestEnded", false, "Heal"),
            EventKind::Added => ("AddedByOthers", true, "Compare"),
        };
        Self { reason: reason.to_owned(), warning, action, count: happened.count, lines: happened.first.clone() }
    }

    fn note(&self) -> String {
        let mut note = self.lines.join("; ");
        let more = self.count.saturating_sub(self.lines.len() as u32);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        let mut end = note.len().min(NOTE_BYTES - tail.len());
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push_str(&tail);
        note
    }
}

/// One request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A new Event.
    Create { told: Told, since: Millis },
    /// The same happened again.
    Again { event: String, count: u32 },
}

/// What waits.
#[derive(Clone, Debug)]
struct Waiting {
    told: Told,
    since: Millis,
}

/// What was told of a subject for a reason.
#[derive(Clone, Debug)]
struct Before {
    at: Millis,
    note: String,
    /// The name of the Event, once it is there.
    event: Option<String>,
    count: u32,
}

/// All that is to be told, and what was.
#[derive(Debug)]
pub(super) struct Events {
    waiting: BTreeMap<(Subject, String), Waiting>,
    before: BTreeMap<(Subject, String), Before>,
    tokens: u32,
    filled: Millis,
    dropped: u64,
}

impl Events {
    pub(super) fn new(now: Millis) -> Self {
        Self { waiting: BTreeMap::new(), before: BTreeMap::new(), tokens: BURST, filled: now, dropped: 0 }
    }

    /// Something happened.
    pub(super) fn add(&mut self, subject: Subject, told: Told, now: Millis) {
        let key = (subject, told.reason.clone());
        let full = self.waiting.len() >= MOST;
        match self.waiting.get_mut(&key) {
            // The newest words of a state; the sum of deeds.
            Some(waiting) if told.warning && told.action == "Judge" => waiting.told = told,
            Some(waiting) => {
                waiting.told.count = waiting.told.count.saturating_add(told.count);
                let room = 3usize.saturating_sub(waiting.told.lines.len());
                waiting.told.lines.extend(told.lines.into_iter().take(room));
            }
            None if full => self.dropped += 1,
            None => {
                self.waiting.insert(key, Waiting { told, since: now });
            }
        }
    }

    fn due(&self, key: &(Subject, String), waiting: &Waiting) -> Millis {
        let paced = self.before.get(key).map_or(0, |before| before.at.saturating_add(EVERY));
        waiting.since.saturating_add(GATHER).max(paced)
    }

    /// When [`Events::next`] may have something.
    pub(super) fn next_at(&self) -> Option<Millis> {
        let due = self.waiting.iter().map(|(key, waiting)| self.due(key, waiting)).min()?;
        Some(if self.tokens == 0 { due.max(self.filled.saturating_add(REFILL)) } else { due })
    }

    /// The next request that may be made now.
    pub(super) fn next(&mut self, now: Millis) -> Option<((Subject, String), Request)> {
        let refills = now.saturating_sub(self.filled) / REFILL;
        if refills > 0 {
            self.tokens = self.tokens.saturating_add(u32::try_from(refills).unwrap_or(BURST)).min(BURST);
            self.filled = now;
        }
        if self.dropped > 0 {
            tracing::warn!(
                dropped = self.dropped,
                "more happened than Events may be written of; the rest is in the log"
            );
            self.dropped = 0;
        }
        self.before.retain(|_, before| now.saturating_sub(before.at) < SERIES);
        let due = |(key, waiting): &(&(Subject, String), &Waiting)| self.due(key, waiting) <= now;
        let key = self.waiting.iter().find(due).map(|(key, _)| key.clone()).filter(|_| self.tokens > 0)?;
        let Waiting { told, since } = self.waiting.remove(&key)?;
        self.tokens -= 1;
        let note = told.note();
        if let Some(before) = self.before.get_mut(&key)
            && before.note == note
            && let Some(event) = before.event.clone()
        {
            (before.at, before.count) = (now, before.count.saturating_add(1));
            let count = before.count;
            return Some((key, Request::Again { event, count }));
        }
        self.before.insert(key.clone(), Before { at: now, note, event: None, count: 1 });
        Some((key, Request::Create { told, since }))
    }

    /// An Event was written under this name; `None`: it could not be, or is gone.
    pub(super) fn written(&mut self, key: &(Subject, String), event: Option<String>) {
        if let Some(before) = self.before.get_mut(key) {
            before.event = event;
        }
    }
}

/// An Event as the API server takes it.
pub(super) fn event(subject: &Subject, uid: Option<&str>, version: &str, pod: &str, told: &Told, at: Millis) -> Value {
    let mut pod = pod.to_owned();
    pod.truncate(128); // names of pods are ASCII
    let mut stem = subject.name.clone();
    stem.truncate(200);
    let mut regarding = json!({
        "apiVersion": version, "kind": subject.kind, "namespace": subject.namespace, "name": subject.name,
    });
    if let Some(uid) = uid {
        regarding["uid"] = uid.into();
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "namespace": subject.namespace, "generateName": format!("{}-", stem.trim_end_matches(['.', '-'])) },
        "eventTime": micro(at),
        "reportingController": "driftless.dev/agent",
        "reportingInstance": pod,
        "action": told.action,
        "reason": told.reason,
        "type": if told.warning { "Warning" } else { "Normal" },
        "note": told.note(),
        "regarding": regarding,
    })
}

/// A JSON patch that makes it a series.
pub(super) fn again(count: u32, at: Millis) -> Value {
    json!([{ "op": "add", "path": "/series", "value": { "count": count, "lastObservedTime": micro(at) } }])
}

/// A time of that precision, as Events have it.
fn micro(at: Millis) -> String {
    let mut text = rfc3339(at);
    text.pop();
    format!("{text}.{:03}000Z", at % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject { kind: "Unit", namespace: "flux-system".into(), name: name.into(), uid: None }
    }

    fn healed(count: u32, lines: &[&str]) -> Told {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Told { reason: "Healed".into(), warning: false, action: "Heal", count, lines }
    }

    #[test]
    fn a_pass_is_one_event_and_the_same_again_a_series() {
        let mut events = Events::new(0);
        events.add(subject("a"), healed(1, &["x"]), 10);
        events.add(subject("a"), healed(4, &["y", "z", "w"]), 20);
        assert_eq!((events.next(500), events.next_at()), (None, Some(1_010)));
        let (key, request) = events.next(1_010).expect("due");
        let Request::Create { told, since } = request else { panic!("{request:?}") };
        assert_eq!((told.note(), since), ("x; y; z; and 2 more".to_owned(), 10));
        events.written(&key, Some("a.1".into()));
        // The same, and soon: later, and then a series.
        events.add(subject("a"), healed(5, &["x", "y", "z"]), 1_100);
        assert_eq!((events.next(20_000), events.next_at()), (None, Some(31_010)));
        assert_eq!(events.next(31_010).map(|n| n.1), Some(Request::Again { event: "a.1".into(), count: 2 }));
        // The Event is gone meanwhile, or something else happened: a new one.
        events.written(&key, None);
        events.add(subject("a"), healed(5, &["x", "y", "z"]), 40_000);
        assert!(matches!(events.next(90_000), Some((_, Request::Create { .. }))));
        assert_eq!(events.next_at(), None);
    }

    #[test]
    fn a_flood_is_bounded_and_nothing_of_it_is_queued() {
        let mut events = Events::new(0);
        for n in 0..10_000 {
            events.add(subject(&format!("u{n}")), healed(1, &["x"]), 0);
        }
        assert_eq!(events.waiting.len(), MOST);
        let mut told = 0;
        for now in (1_000..61_000).step_by(100) {
            while events.next(now).is_some() {
                told += 1;
            }
        }
        assert!(told <= BURST + 121, "{told} in a minute");
        // Nothing happens: nothing is told, however long.
        let mut idle = Events::new(0);
        assert_eq!((idle.next(1_000_000), idle.next_at()), (None, None));
    }

    #[test]
    fn a_state_is_told_with_its_newest_words() {
        let mut events = Events::new(0);
        for words in ["1 try", "2 tries"] {
            events.add(subject("a"), Told::one("ReconciliationFailed", true, "Judge", words), 0);
        }
        let Some((_, Request::Create { told, .. })) = events.next(5_000) else { panic!("nothing is due") };
        assert_eq!((told.note(), told.count), ("2 tries".to_owned(), 1));
    }

    #[test]
    fn a_note_fits_and_an_event_has_what_the_api_server_asks_for() {
        let told = healed(9, &["é".repeat(2_000).as_str()]);
        assert!(told.note().len() <= NOTE_BYTES && told.note().ends_with("; and 8 more"));
        let event = event(&subject("a"), Some("u"), "driftless.dev/v1alpha1", "pod-1", &told, 1_795_260_000_042);
        assert_eq!(event["eventTime"], "2026-11-21T11:20:00.042000Z");
        assert_eq!(event["regarding"]["namespace"], event["metadata"]["namespace"]);
        assert_eq!(event["metadata"]["generateName"], "a-");
        for field in ["reportingController", "reportingInstance", "action", "reason", "type", "note"] {
            assert!(event[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
        }
    }
}
