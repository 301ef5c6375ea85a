//! What a `Unit` object says: a report, as people with kubectl know such things.

use driftless_protocol::id::{UnitId, UnitKind};
use driftless_protocol::marks;
use driftless_protocol::report::{Ready, UnitReport, reason};
use driftless_reconcile::input::Millis;
use serde_json::{Map, Value, json};

use crate::cluster::api::Resource;
use crate::pauses::rfc3339;

/// The kind.
pub(super) const KIND: &str = "Unit";
/// On every `Unit` that the agent made; what has it and belongs to no unit is deleted.
pub(super) const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "driftless-agent");
/// Most bytes of a message: it is shown in a table.
const MESSAGE_BYTES: usize = 1024;
/// How the message of a unit in order begins; a revision follows, and notes after a semicolon.
const APPLIED: &str = "Applied revision: ";
/// Our conditions, as kstatus knows them: the last two are there only while they hold.
const CONDITIONS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Namespace and name of a `Unit`.
pub(super) type Name = (String, String);

/// Where the object of a unit is. A HelmRelease may have the name of a Kustomization.
pub(super) fn name_of(unit: &UnitId) -> Name {
    let name = match unit.kind {
        UnitKind::Kustomization => unit.name.clone(),
        UnitKind::HelmRelease => format!("{}.helmrelease", unit.name),
    };
    (unit.namespace.clone(), name)
}

/// What is worked on. When it changes, the API server raises the object's generation, so that waiting for `Ready` waits for
/// this content and not for the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    kind: String,
    name: String,
    content: String,
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    ready: Condition,
    reconciling: Option<Condition>,
    stalled: Option<Condition>,
    revision: Option<String>,
    last_applied: Option<String>,
    objects: u64,
    drifted: u64,
    held_deletes: u64,
    suspended: bool,
    paused: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Condition {
    status: String,
    reason: String,
    message: String,
}

/// A unit as it is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) spec: Spec,
    pub(super) status: Status,
    /// On its way: it will change again soon.
    pub(super) moving: bool,
}

impl Shown {
    /// What an Event would say.
    pub(super) fn verdict(&self) -> impl PartialEq + '_ {
        let Condition { status, reason, message } = &self.status.ready;
        (status, reason, message)
    }

    /// The same, where the object already says that this content was applied: when that was, and at which revision, an agent
    /// that has just started does not know. Later commits that do not change it are not written into it.
    pub(super) fn beside(&self, live: &Live) -> Self {
        let mut shown = self.clone();
        let applied = live.spec == self.spec && live.status.ready.status == "True" && live.observed == live.generation;
        if applied && let (Some(now), Some(then)) = (&self.status.revision, &live.status.revision) {
            let status = &mut shown.status;
            let all = [Some(&mut status.ready), status.reconciling.as_mut(), status.stalled.as_mut()];
            for condition in all.into_iter().flatten() {
                condition.message = condition.message.replace(now, then);
            }
            status.revision = Some(then.clone());
            status.last_applied.clone_from(&live.status.last_applied);
        }
        shown
    }

    /// It needs a person.
    pub(super) fn failed(&self) -> bool {
        self.status.stalled.is_some()
    }

    /// Objects with drift that stays, and deletes that wait for approval.
    pub(super) fn open(&self) -> (u64, u64) {
        (self.status.drifted, self.status.held_deletes)
    }

    pub(super) fn of(report: &UnitReport) -> Self {
        let mut message = as_applied(report);
        let mut end = message.len().min(MESSAGE_BYTES);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        let condition = |status: &str| Condition {
            status: status.to_owned(),
            reason: if report.reason.is_empty() { reason::PROGRESSING.to_owned() } else { report.reason.clone() },
            message: message.clone(),
        };
        let ready = match report.ready {
            Ready::True => "True",
            Ready::False => "False",
            Ready::Unknown => "Unknown",
        };
        let moving = matches!(
            report.reason.as_str(),
            "" | reason::PROGRESSING
                | reason::DEPENDENCY_NOT_READY
                | reason::INPUT_NOT_READY
                | reason::HEALTH_CHECK_PENDING
                | reason::PRUNING
        );
        let stalled = report.ready == Ready::False && !moving;
        Self {
            spec: Spec {
                kind: report.unit.kind.to_string(),
                name: report.unit.name.clone(),
                content: report.desired.map(|digest| digest.to_string()).unwrap_or_default(),
            },
            status: Status {
                ready: condition(ready),
                reconciling: moving.then(|| condition("True")),
                stalled: stalled.then(|| condition("True")),
                revision: report.applied_revision.clone(),
                last_applied: report.last_applied.map(rfc3339),
                objects: report.counts.objects.into(),
                drifted: report.counts.drifted.into(),
                held_deletes: report.counts.held_deletes.into(),
                suspended: report.suspended,
                paused: !report.pauses.is_empty(),
            },
            moving,
        }
    }
}

/// The report's words, with the revision at which this content was applied: a commit that changes nothing of it would be
/// written into every unit otherwise.
fn as_applied(report: &UnitReport) -> String {
    let rest = report.message.strip_prefix(APPLIED).filter(|_| report.ready == Ready::True);
    match (rest, &report.applied_revision) {
        (Some(rest), Some(revision)) => {
            let notes = rest.split_once(';').map(|(_, notes)| format!(";{notes}")).unwrap_or_default();
            format!("{APPLIED}{revision}{notes}")
        }
        _ => report.message.clone(),
    }
}

/// A `Unit` as it is in the cluster, without what others may have put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) generation: i64,
    observed: i64,
    /// The agent made it.
    pub(super) ours: bool,
    spec: Spec,
    status: Status,
    /// When our conditions got their status.
    since: [Option<String>; 3],
}

impl Live {
    pub(super) fn read(live: &Value) -> Option<Self> {
        let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let count = |pointer: &str| live.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let flag = |pointer: &str| live.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
        let number = |pointer: &str| live.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
        let of = |kind: &str| {
            let found = conditions.into_iter().flatten().find(|c| c.get("type").is_some_and(|t| t == kind))?;
            let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let condition = Condition { status: text("status"), reason: text("reason"), message: text("message") };
            Some((condition, text("lastTransitionTime")))
        };
        let [ready, reconciling, stalled] = CONDITIONS.map(of);
        let label = live.pointer("/metadata/labels").and_then(|labels| labels.get(MADE_BY.0));
        Some(Self {
            uid: text("/metadata/uid")?,
            version: text("/metadata/resourceVersion")?,
            generation: number("/metadata/generation"),
            observed: number("/status/observedGeneration"),
            ours: label.is_some_and(|label| label == MADE_BY.1),
            spec: Spec {
                kind: text("/spec/kind").unwrap_or_default(),
                name: text("/spec/name").unwrap_or_default(),
                content: text("/spec/content").unwrap_or_default(),
            },
            since: [&ready, &reconciling, &stalled].map(|found| found.as_ref().map(|(_, since)| since.clone())),
            status: Status {
                ready: ready.map(|(condition, _)| condition).unwrap_or_default(),
                reconciling: reconciling.map(|(condition, _)| condition),
                stalled: stalled.map(|(condition, _)| condition),
                revision: text("/status/lastAppliedRevision"),
                last_applied: text("/status/lastApplied"),
                objects: count("/status/objects"),
                drifted: count("/status/drifted"),
                held_deletes: count("/status/heldDeletes"),
                suspended: flag("/status/suspended"),
                paused: flag("/status/paused"),
            },
        })
    }

    /// The object itself is as it is to be.
    pub(super) fn has_spec(&self, shown: &Shown) -> bool {
        self.ours && self.spec == shown.spec
    }

    /// Nothing is to be written.
    pub(super) fn is(&self, shown: &Shown) -> bool {
        self.has_spec(shown) && self.status == shown.status && self.observed == self.generation
    }
}

/// The object to apply.
pub(super) fn object(resource: &Resource, name: &Name, shown: &Shown) -> Value {
    let Spec { kind, name: of, content } = &shown.spec;
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": { "namespace": name.0, "name": name.1, "labels": { MADE_BY.0: MADE_BY.1 } },
        "spec": { "kind": kind, "name": of, "content": content },
    })
}

/// Its status to apply, for the object as it is now.
pub(super) fn status(resource: &Resource, name: &Name, shown: &Shown, live: &Live, now: Millis) -> Value {
    let s = &shown.status;
    let before = [Some(&live.status.ready), live.status.reconciling.as_ref(), live.status.stalled.as_ref()];
    let wanted = [Some(&s.ready), s.reconciling.as_ref(), s.stalled.as_ref()];
    let mut conditions = Vec::new();
    for (at, kind) in CONDITIONS.iter().enumerate() {
        let Some(Some(condition)) = wanted.get(at) else { continue };
        let stays = before.get(at).is_some_and(|old| old.is_some_and(|old| old.status == condition.status));
        let since = live.since.get(at).cloned().flatten().filter(|since| stays && !since.is_empty());
        conditions.push(json!({
            "type": kind,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": live.generation,
            "lastTransitionTime": since.unwrap_or_else(|| rfc3339(now)),
        }));
    }
    let mut status = Map::new();
    status.insert("observedGeneration".into(), live.generation.into());
    status.insert("conditions".into(), conditions.into());
    for (field, value) in [("objects", s.objects), ("drifted", s.drifted), ("heldDeletes", s.held_deletes)] {
        status.insert(field.into(), value.into());
    }
    for (field, value) in [("suspended", s.suspended), ("paused", s.paused)] {
        status.insert(field.into(), value.into());
    }
    if let Some(revision) = &s.revision {
        status.insert("lastAppliedRevision".into(), revision.clone().into());
        status.insert("revision".into(), short(revision).into());
    }
    if let Some(at) = &s.last_applied {
        status.insert("lastApplied".into(), at.clone().into());
    }
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": { "namespace": name.0, "name": name.1, "uid": live.uid },
        "status": status,
    })
}

/// `main@sha1:0123abcd`, as Flux shortens it.
fn short(revision: &str) -> String {
    match revision.rsplit_once(':') {
        Some((head, commit)) => format!("{head}:{}", commit.get(..8).unwrap_or(commit)),
        None => revision.to_owned(),
    }
}

/// The place of a kind of ours.
pub(super) fn resource(served: &crate::cluster::discovery::Served) -> Option<Resource> {
    served.any_version(marks::DOMAIN, KIND).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> Resource {
        Resource {
            group: marks::DOMAIN.into(),
            version: "v1alpha1".into(),
            kind: KIND.into(),
            plural: "units".into(),
            namespaced: true,
        }
    }

    fn report(ready: Ready, reason: &str) -> UnitReport {
        let mut report = UnitReport::unreadable(UnitId::kustomization("flux-system", "shop"), "");
        (report.ready, report.reason, report.message) = (ready, reason.to_owned(), "words".to_owned());
        report.applied_revision = Some("main@sha1:0123456789abcdef".into());
        report.last_applied = Some(1_795_260_000_000);
        report.counts.objects = 3;
        report
    }

    /// The API server's part.
    fn stored(object: &Value, generation: i64, status: &Value) -> Value {
        let mut live = object.clone();
        live["metadata"]["uid"] = "u".into();
        live["metadata"]["resourceVersion"] = "7".into();
        live["metadata"]["generation"] = generation.into();
        live["status"] = status["status"].clone();
        live
    }

    #[test]
    fn what_was_written_reads_back_as_in_order() {
        for (ready, reason, types) in [
            (Ready::True, reason::SUCCEEDED, vec!["Ready"]),
            (Ready::Unknown, reason::PROGRESSING, vec!["Ready", "Reconciling"]),
            (Ready::False, reason::DEPENDENCY_NOT_READY, vec!["Ready", "Reconciling"]),
            (Ready::False, reason::FAILED, vec!["Ready", "Stalled"]),
            (Ready::Unknown, reason::PAUSED, vec!["Ready"]),
            (Ready::Unknown, "", vec!["Ready", "Reconciling"]),
        ] {
            let shown = Shown::of(&report(ready, reason));
            let name = ("flux-system".to_owned(), "shop".to_owned());
            let object = object(&resource(), &name, &shown);
            let bare = Live::read(&stored(&object, 4, &Value::Null)).expect("an object");
            assert!(bare.has_spec(&shown) && !bare.is(&shown), "{reason}");
            let written = status(&resource(), &name, &shown, &bare, 1_795_260_005_000);
            let live = Live::read(&stored(&object, 4, &written)).expect("an object");
            assert!(live.is(&shown), "{reason}: {live:?}");
            let conditions = written["status"]["conditions"].as_array().expect("conditions");
            let found: Vec<&str> = conditions.iter().filter_map(|c| c["type"].as_str()).collect();
            assert_eq!(found, types, "{reason}");
            assert_eq!(conditions[0]["observedGeneration"], 4, "{reason}");
            assert_eq!(written["status"]["revision"], "main@sha1:01234567");
            // New content: the same verdict is not one on it.
            let newer = Live::read(&stored(&object, 5, &written)).expect("an object");
            assert!(newer.has_spec(&shown) && !newer.is(&shown), "{reason}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let name = ("flux-system".to_owned(), "shop".to_owned());
        let (first, second) = (report(Ready::True, reason::SUCCEEDED), report(Ready::False, reason::FAILED));
        let mut third = first.clone();
        third.message = "other words".into();
        let object = object(&resource(), &name, &Shown::of(&first));
        let bare = Live::read(&stored(&object, 1, &Value::Null)).expect("an object");
        let written = status(&resource(), &name, &Shown::of(&first), &bare, 1_795_260_000_000);
        let live = Live::read(&stored(&object, 1, &written)).expect("an object");
        for (report, since) in [(third, "2026-11-21T11:20:00Z"), (second, "2026-11-21T11:21:00Z")] {
            let again = status(&resource(), &name, &Shown::of(&report), &live, 1_795_260_060_000);
            assert_eq!(again["status"]["conditions"][0]["lastTransitionTime"], since, "{report:?}");
        }
    }

    #[test]
    fn a_commit_that_changes_nothing_of_a_unit_is_not_written_into_it() {
        let mut before = report(Ready::True, reason::SUCCEEDED);
        before.message = "Applied revision: main@sha1:0123456789abcdef; 1 objects withheld".into();
        let mut after = before.clone();
        after.message = "Applied revision: main@sha1:fedcba9876543210; 1 objects withheld".into();
        assert_eq!(Shown::of(&before), Shown::of(&after));
        assert!(Shown::of(&after).status.ready.message.ends_with("0123456789abcdef; 1 objects withheld"));
        after.message.push_str("; more");
        assert_ne!(Shown::of(&before), Shown::of(&after));
        after.ready = Ready::False;
        assert!(Shown::of(&after).status.ready.message.contains("fedcba"));
    }

    #[test]
    fn a_new_agent_does_not_move_the_time_of_what_was_applied_before() {
        let name = ("flux-system".to_owned(), "shop".to_owned());
        let mut before = report(Ready::True, reason::SUCCEEDED);
        before.message = "Applied revision: main@sha1:0123456789abcdef".into();
        let object = object(&resource(), &name, &Shown::of(&before));
        let bare = Live::read(&stored(&object, 1, &Value::Null)).expect("an object");
        let written = status(&resource(), &name, &Shown::of(&before), &bare, 1_795_260_000_000);
        let live = Live::read(&stored(&object, 1, &written)).expect("an object");
        let mut after = before.clone();
        after.applied_revision = Some("main@sha1:fedcba9876543210".into());
        after.message = "Applied revision: main@sha1:fedcba9876543210".into();
        after.last_applied = Some(1_795_260_999_000);
        let shown = Shown::of(&after);
        assert!(!live.is(&shown) && live.is(&shown.beside(&live)));
        // New content was applied at another time and revision.
        after.desired = Some(driftless_protocol::id::Digest::of(b"new"));
        let shown = Shown::of(&after);
        assert_eq!(shown.beside(&live), shown);
        // While it is on its way, nothing is kept of what was before.
        let moving = Shown::of(&report(Ready::Unknown, reason::PROGRESSING));
        let written = status(&resource(), &name, &moving, &bare, 0);
        let live = Live::read(&stored(&object, 1, &written)).expect("an object");
        after.desired = before.desired;
        assert_eq!(Shown::of(&after).beside(&live), Shown::of(&after));
    }

    #[test]
    fn what_others_add_is_not_ours_to_compare_and_foreign_objects_are_not_ours() {
        let name = name_of(&UnitId { kind: UnitKind::HelmRelease, ..UnitId::kustomization("a", "b") });
        assert_eq!(name, ("a".to_owned(), "b.helmrelease".to_owned()));
        let shown = Shown::of(&report(Ready::True, reason::SUCCEEDED));
        let object = object(&resource(), &name, &shown);
        let bare = Live::read(&stored(&object, 1, &Value::Null)).expect("an object");
        let mut written = status(&resource(), &name, &shown, &bare, 0);
        written["status"]["conditions"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"type": "Theirs", "status": "True"}));
        assert!(Live::read(&stored(&object, 1, &written)).expect("an object").is(&shown));
        let mut foreign = stored(&object, 1, &written);
        foreign["metadata"]["labels"] = json!({});
        let foreign = Live::read(&foreign).expect("an object");
        assert!(!foreign.ours && !foreign.is(&shown));
    }
}
