//! What of a state is worth an Event.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, ObjectReport, UnitReport, reason};

use super::*;

fn report(ready: Ready, code: &str, message: &str) -> UnitReport {
    let mut report = UnitReport::unreadable(UnitId::kustomization("flux-system", "shop"), "");
    (report.ready, report.reason, report.message) = (ready, code.to_owned(), message.to_owned());
    report
}

#[test]
fn a_state_is_told_when_it_begins_and_not_while_it_lasts() {
    let good = report(Ready::True, reason::SUCCEEDED, "applied");
    let moving = report(Ready::Unknown, reason::PROGRESSING, "3 objects to go");
    let waits = report(Ready::False, reason::DEPENDENCY_NOT_READY, "waits for infra");
    let failed = report(Ready::False, reason::FAILED, "refused");
    let other = report(Ready::False, reason::FAILED, "refused otherwise");
    let mut drifted = good.clone();
    drifted.counts.drifted = 2;
    drifted.objects = vec![ObjectReport {
        key: ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: "x".into() },
        state: ObjectState::Drifted,
        reason: "Drifted".into(),
        message: "data.k".into(),
        since: 0,
    }];
    let mut less = drifted.clone();
    less.counts.drifted = 1;
    for (before, now, told) in [
        (None, &good, vec![]),
        (None, &failed, vec![reason::FAILED]),
        (Some(&moving), &good, vec![]),
        (Some(&good), &failed, vec![reason::FAILED]),
        (Some(&failed), &failed, vec![]),
        (Some(&failed), &other, vec![reason::FAILED]),
        (Some(&failed), &good, vec!["Ready"]),
        (Some(&good), &waits, vec![]),
        (Some(&good), &drifted, vec!["Drifted"]),
        (Some(&drifted), &drifted, vec![]),
        (Some(&drifted), &less, vec![]),
        (Some(&drifted), &good, vec![]),
    ] {
        let shown = before.map(Shown::of);
        let found = judged(shown.as_ref(), &Shown::of(now), now);
        let reasons: Vec<&str> = found.iter().map(|told| told.reason.as_str()).collect();
        assert_eq!(reasons, told, "{before:?} then {now:?}");
    }
}

#[test]
fn drift_that_is_only_observed_is_told_and_no_alert() {
    let field = |mode| FieldDrift {
        key: ObjectKey { group: "".into(), kind: "ConfigMap".into(), namespace: "a".into(), name: "x".into() },
        path: "data.k".into(),
        pointer: None,
        desired: None,
        live: None,
        manager: None,
        at: None,
        class: DriftClass::Human,
        mode,
    };
    let (correct, warn, observe) = (DriftMode::Correct, DriftMode::Warn, DriftMode::Observe);
    for (unit, fields, alert) in [
        (correct, vec![None], true),
        (warn, vec![], true),
        (warn, vec![Some(observe)], false),
        (observe, vec![], false),
        (observe, vec![None], false),
        (correct, vec![Some(observe)], false),
        (correct, vec![Some(observe), Some(warn)], true),
    ] {
        let good = report(Ready::True, reason::SUCCEEDED, "applied");
        let mut drifted = good.clone();
        drifted.counts.drifted = 1;
        drifted.drift_mode = unit;
        drifted.drift = fields.iter().map(|mode| field(*mode)).collect();
        let told = judged(Some(&Shown::of(&good)), &Shown::of(&drifted), &drifted);
        let told: Vec<(&str, bool)> = told.iter().map(|told| (&*told.reason, told.warning)).collect();
        assert_eq!(told, [("Drifted", alert)], "{unit:?} {fields:?}");
    }
}

#[test]
fn the_board_keeps_the_newest_and_nothing_in_shadow_mode() {
    let board = Board::new(false, 0);
    board.unit(&report(Ready::Unknown, reason::PROGRESSING, "a"), 0);
    board.unit(&report(Ready::True, reason::SUCCEEDED, "b"), 0);
    let sizes = |board: &Board| {
        let state = board.state();
        (state.units.len(), state.changed.len())
    };
    assert_eq!(sizes(&board), (1, 1));
    board.gone(&[UnitId::kustomization("flux-system", "shop")]);
    assert_eq!(sizes(&board), (0, 1));
    let shadow = Board::new(true, 0);
    shadow.unit(&report(Ready::False, reason::FAILED, "a"), 0);
    let state = shadow.state();
    assert!(state.units.is_empty() && state.events.next_at().is_none());
}
