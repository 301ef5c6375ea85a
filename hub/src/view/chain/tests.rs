use driftless_protocol::api::{Stage, StepState};
use driftless_protocol::bundle::DriftMode;
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::report::{
    DriftClass, EventKind, FieldDrift, HeldDelete, ObjectReport, ObjectState, PauseReport, Ready, RecentEvent,
    UnitReport, Waiting as WaitsOn, reason,
};
use driftless_store::{Intent, IntentRecord};

use super::{Known, in_cluster, step, summary};
use crate::rendered::{UnitView, ViewState};
use crate::view::dependency::Stands;
use crate::view::samples;

type Change = fn(&mut UnitReport);

/// The states of dependency, apply, health and drift, and which of them the line sums up.
#[track_caller]
fn check(what: &str, report: Change, view: fn(&mut UnitView), states: [StepState; 4], summed: usize, words: &[&str]) {
    let mut reported = samples::report();
    report(&mut reported);
    let mut viewed = samples::view();
    view(&mut viewed);
    let steps = in_cluster(&Known { view: Some(&viewed), report: Some(&reported), suspended: None, dependencies: &[] });
    let found: Vec<StepState> = steps.iter().map(|s| s.state).collect();
    assert_eq!(found, states, "{what}: {steps:#?}");
    let line = summary(&steps, &reported.unit, Some("main@sha1:new"));
    let expected = steps.get(summed).map_or_else(|| "all is well".to_owned(), |s| s.message.clone());
    assert!(line.starts_with(&expected), "{what}: {line}");
    for word in words {
        assert!(line.contains(word), "{what}: {line:?} lacks {word:?}");
    }
}

fn object(report: &mut UnitReport, state: ObjectState) {
    let message = "it has a fault".to_owned();
    report.objects = vec![ObjectReport { key: samples::key(), state, reason: "Faulty".into(), message, since: 9 }];
}

fn field(report: &mut UnitReport, mode: DriftMode) {
    report.drift_mode = mode;
    report.drift = vec![FieldDrift {
        pointer: None,
        key: samples::key(),
        path: "spec.replicas".into(),
        desired: Some("3".into()),
        live: Some("5".into()),
        manager: Some("kubectl".into()),
        at: Some(8),
        class: DriftClass::Human,
        mode: None,
    }];
}

#[test]
fn each_link_says_how_it_stands() {
    use StepState::{Failed, Ok, Unknown, Waiting};
    let same: fn(&mut UnitView) = |_| {};
    check("in order", |_| {}, same, [Ok; 4], 9, &["main@sha1:new", "as declared"]);
    check(
        "a dependency",
        |r| {
            r.applied = None;
            r.ready = Ready::False;
            r.reason = reason::DEPENDENCY_NOT_READY.into();
            r.waiting = Some(WaitsOn { on: "dependsOn infra/base: not ready".into(), since: 4 });
        },
        same,
        [Waiting, Waiting, Unknown, Ok],
        0,
        &["infra/base"],
    );
    check(
        "refused",
        |r| {
            (r.ready, r.reason, r.applied, r.counts.failed) = (Ready::False, reason::FAILED.into(), None, 3);
            object(r, ObjectState::Failed);
        },
        same,
        [Ok, Failed, Unknown, Ok],
        1,
        &["Deployment.apps shop/web", "it has a fault", "2 more"],
    );
    check(
        "held deletes",
        |r| {
            r.counts.held_deletes = 2;
            r.held_deletes = vec![HeldDelete { key: samples::key(), uid: "u".into(), why: "a Namespace".into() }];
        },
        same,
        [Ok, Waiting, Ok, Ok],
        1,
        &["2 deletes wait for approval", "a Namespace"],
    );
    let pause = |r: &mut UnitReport| {
        let (name, covers) = ("driftless-system/incident".to_owned(), "the whole cluster".to_owned());
        let pause = PauseReport { name, covers, reason: "by hand".into(), since: 3, ..PauseReport::default() };
        r.pauses = vec![pause];
    };
    check(
        "paused, and nothing to hold back",
        pause,
        same,
        [Ok, Waiting, Ok, Ok],
        1,
        &["incident", "by hand", "nothing is"],
    );
    check(
        "paused with a new commit and drift",
        |r| {
            r.pauses = vec![PauseReport { name: "shop/x".into(), ..PauseReport::default() }];
            (r.ready, r.reason, r.applied, r.counts.paused) = (Ready::Unknown, reason::PAUSED.into(), None, 2);
            field(r, DriftMode::Correct);
        },
        same,
        [Ok, Waiting, Unknown, Waiting],
        1,
        &["2 objects are held back", "kubectl -n shop delete pause x"],
    );
    check(
        "on the way",
        |r| {
            (r.ready, r.reason, r.applied) = (Ready::Unknown, reason::PROGRESSING.into(), None);
            r.waiting = Some(WaitsOn { on: "stage namespaces".into(), since: 4 });
        },
        same,
        [Ok, Waiting, Unknown, Ok],
        1,
        &["stage namespaces"],
    );
    check(
        "unhealthy and not waited for",
        |r| object(r, ObjectState::Unhealthy),
        same,
        [Ok, Ok, Failed, Ok],
        2,
        &["it has a fault", "spec.wait"],
    );
    check("getting healthy", |r| object(r, ObjectState::InProgress), same, [Ok, Ok, Waiting, Ok], 2, &["shop/web"]);
    check(
        "drift that is left",
        |r| field(r, DriftMode::Warn),
        same,
        [Ok, Ok, Ok, Waiting],
        3,
        &["declared 3, live 5", "kubectl", "drift mode is warn"],
    );
    check("drift to heal", |r| field(r, DriftMode::Correct), same, [Ok, Ok, Ok, Waiting], 3, &["it is healed"]);
    check(
        "held",
        |r| (r.ready, r.reason, r.desired) = (Ready::False, reason::HELD.into(), None),
        |v| v.state = ViewState::Held(samples::reason()),
        [Ok, Unknown, Unknown, Unknown],
        1,
        &["keeps main@sha1:old"],
    );
    check(
        "a newer commit waits",
        |_| {},
        |v| v.state = ViewState::Full(Digest::of(b"newer")),
        [Unknown; 4],
        0,
        &["not reached with the newest content", "keeps main@sha1:old"],
    );
    check(
        "a newer commit waits, and the older one fails",
        |r| object(r, ObjectState::Unhealthy),
        |v| v.state = ViewState::Full(Digest::of(b"newer")),
        [Unknown, Unknown, Failed, Unknown],
        2,
        &["it has a fault"],
    );
}

#[test]
fn what_flux_keeps_and_what_is_only_compared_is_said_before_all_else() {
    let view = samples::view();
    for (reason, ready, state) in [
        (reason::FLUX_ACTS, Ready::True, StepState::Waiting),
        (reason::FLUX_ACTS, Ready::False, StepState::Failed),
        (reason::SHADOW_DIFFERS, Ready::False, StepState::Waiting),
    ] {
        let mut report = samples::report();
        (report.reason, report.ready, report.message) = (reason.into(), ready, "in words".into());
        field(&mut report, DriftMode::Correct);
        report.shadow = (reason == reason::SHADOW_DIFFERS).then(Default::default);
        let steps = in_cluster(&Known { view: Some(&view), report: Some(&report), suspended: None, dependencies: &[] });
        assert_eq!((steps[1].state, steps[1].message.as_str()), (state, "in words"), "{steps:#?}");
        assert_eq!(steps[3].message.contains("nothing is written"), report.shadow.is_some(), "{steps:#?}");
    }
}

#[test]
fn a_link_names_code_time_and_the_line_that_declares_the_object() {
    let (mut report, view) = (samples::report(), samples::view());
    report.counts.failed = 1;
    object(&mut report, ObjectState::Failed);
    field(&mut report, DriftMode::Observe);
    let steps = in_cluster(&Known { view: Some(&view), report: Some(&report), suspended: None, dependencies: &[] });
    let at = |stage| steps.iter().find(|s| s.stage == stage).unwrap();
    let apply = at(Stage::Apply);
    assert_eq!((apply.code.as_deref(), apply.since), (Some("Faulty"), Some(9)));
    for stage in [Stage::Apply, Stage::Drift] {
        assert_eq!((at(stage).file.as_deref(), at(stage).line), (Some("apps/web.yaml"), Some(12)), "{stage:?}");
    }
    assert_eq!((at(Stage::Drift).code.as_deref(), at(Stage::Drift).since), (Some("observe"), Some(8)));
}

#[test]
fn a_suspension_is_said_with_its_author_and_nothing_behind_it_is_claimed() {
    let intent = Intent::Suspend { cluster: None, unit: UnitId::kustomization("flux-system", "apps") };
    let record = IntentRecord { intent, actor: "alice".into(), at: 3, reason: "maintenance".into() };
    let (report, view) = (samples::report(), samples::view());
    for reported in [None, Some(&report)] {
        let steps =
            in_cluster(&Known { view: Some(&view), report: reported, suspended: Some(&record), dependencies: &[] });
        assert_eq!((steps[1].state, steps[1].since), (StepState::Waiting, Some(3)));
        assert!(steps[1].message.contains("alice: maintenance") && steps[1].message.contains("resume"), "{steps:?}");
        assert!(steps[2..].iter().all(|s| s.state == StepState::Unknown), "{steps:?}");
    }
}

#[test]
fn the_last_heal_is_shown_and_silence_is_not_taken_for_order() {
    let mut report = samples::report();
    let detail = "spec.replicas 5 -> 3 (manager kubectl)".to_owned();
    report.recent = vec![RecentEvent { at: 1, what: EventKind::Healed, key: samples::key(), detail, took_ms: None }];
    let view = samples::view();
    let steps = in_cluster(&Known { view: Some(&view), report: Some(&report), suspended: None, dependencies: &[] });
    assert!(steps[3].message.contains("spec.replicas 5 -> 3"), "{steps:?}");
    let steps = in_cluster(&Known::default());
    assert!(steps.iter().all(|s| s.state == StepState::Unknown));
    assert_eq!(summary(&steps, &report.unit, None), steps[0].message);
}

#[test]
fn what_needs_a_person_comes_before_what_goes_on_by_itself() {
    let unit = UnitId::kustomization("flux-system", "apps");
    let steps = [
        step(Stage::Source, StepState::Ok, "fetched"),
        step(Stage::Rollout, StepState::Waiting, "waits for the canary"),
        step(Stage::Apply, StepState::Failed, "refused"),
    ];
    assert_eq!(summary(&steps, &unit, None), "refused");
    assert_eq!(summary(&steps[..2], &unit, None), "waits for the canary");
    assert!(summary(&steps[..1], &unit, None).contains("flux-system/apps"));
}

#[test]
fn dependencies_are_judged_by_their_own_reports() {
    let unit = |name: &str| UnitId::kustomization("flux-system", name);
    let broken = || Stands::NotReady("is not ready (HealthCheckFailed): it has a fault".into());
    let (report, view) = (samples::report(), samples::view());
    let check = |dependencies: &[(UnitId, Stands)], state: StepState, words: &str| {
        let steps = in_cluster(&Known { view: Some(&view), report: Some(&report), suspended: None, dependencies });
        assert_eq!((steps[0].state, steps[0].message.as_str()), (state, words), "{dependencies:?}");
        let waits = state == StepState::Waiting;
        assert_eq!(steps[0].code.as_deref(), waits.then_some(reason::DEPENDENCY_NOT_READY), "{dependencies:?}");
        assert_eq!(steps[0].file.is_some(), waits, "{dependencies:?}");
        // The unit itself is as it was.
        assert!(steps[1..].iter().all(|s| s.state == StepState::Ok), "{steps:#?}");
    };
    check(&[], StepState::Ok, "it depends on nothing");
    check(&[(unit("a"), Stands::Ready)], StepState::Ok, "its dependency is ready");
    check(&[(unit("a"), Stands::Ready), (unit("b"), Stands::Ready)], StepState::Ok, "all 2 dependencies are ready");
    check(
        &[(unit("a"), Stands::Ready), (unit("b"), broken())],
        StepState::Waiting,
        "depends on flux-system/b, not ready now: what is applied stays and is healed, new content waits",
    );
    check(
        &[(unit("a"), broken()), (unit("b"), broken())],
        StepState::Waiting,
        "depends on flux-system/a and 1 more, not ready now: what is applied stays and is healed, new content waits",
    );
    check(
        &[(unit("a"), Stands::Ready), (unit("b"), Stands::Suspended), (unit("c"), Stands::Expression)],
        StepState::Ok,
        "1 of 3 dependencies are ready; flux-system/b is suspended and counts as it stands; the cluster asks the readyExpr for \
         flux-system/c before it applies anything new",
    );
}

#[test]
fn what_is_only_compared_waits_for_no_dependency() {
    let (mut report, view) = (samples::report(), samples::view());
    report.shadow = Some(Default::default());
    let dependencies = [(UnitId::kustomization("flux-system", "a"), Stands::NotReady("is not there".into()))];
    let steps =
        in_cluster(&Known { view: Some(&view), report: Some(&report), suspended: None, dependencies: &dependencies });
    assert_eq!(steps[0].state, StepState::Ok, "{steps:#?}");
}
