//! What of a state is worth an Event.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ObjectReport, UnitReport, reason};

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
        key: ObjectKey { group: String::new(), kind: "ConfigMap".into(), namespace: "a".into(), name: "x".into() },
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
