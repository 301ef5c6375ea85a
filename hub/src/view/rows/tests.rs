use driftless_protocol::id::{ClusterName, Digest, UnitId};
use driftless_protocol::report::{Ready, UnitReport, reason};
use driftless_store::{Intent, IntentRecord};

use super::{UnitFacts, unit_row};
use crate::rendered::{UnitView, ViewState};
use crate::view::samples;

/// What a row must say.
struct Want {
    ready: Ready,
    reason: &'static str,
    message: &'static str,
    revision: Option<&'static str>,
    suspended: bool,
    stale: bool,
}

#[track_caller]
fn check(what: &str, view: Option<UnitView>, report: Option<UnitReport>, facts: UnitFacts<'_>, want: &Want) {
    let cluster: ClusterName = "prod".parse().unwrap();
    let id = UnitId::kustomization("flux-system", "apps");
    let facts = UnitFacts { view: view.as_ref(), report: report.as_ref(), ..facts };
    let row = unit_row(&cluster, &id, &facts);
    assert_eq!((row.ready, &*row.reason, &*row.message), (want.ready, want.reason, want.message), "{what}");
    assert_eq!(row.revision.as_deref(), want.revision, "{what}");
    assert_eq!((row.suspended, row.stale), (want.suspended, want.stale), "{what}");
}

fn held() -> UnitView {
    UnitView { state: ViewState::Held(samples::reason()), ..samples::view() }
}

fn newer() -> UnitView {
    UnitView { state: ViewState::Full(Digest::of(b"newer")), ..samples::view() }
}

fn in_git() -> UnitView {
    UnitView { state: ViewState::Suspended, ..samples::view() }
}

fn told() -> UnitReport {
    let message = "suspended by an operator".to_owned();
    UnitReport {
        suspended: true,
        ready: Ready::Unknown,
        reason: reason::SUSPENDED.into(),
        message,
        ..samples::report()
    }
}

#[test]
fn rows_say_what_flux_users_know_and_never_more_than_is_known() {
    let live = || UnitFacts {
        connected: true,
        offered_newest: true,
        revision: Some("main@sha1:new".into()),
        ..UnitFacts::default()
    };
    let away = || UnitFacts { connected: false, ..live() };
    let waits = || UnitFacts { offered_newest: false, ..live() };
    let (view, report) = (|| Some(samples::view()), || Some(samples::report()));
    let want =
        |ready, reason, message, revision| Want { ready, reason, message, revision, suspended: false, stale: false };
    let at_new = "Applied revision: main@sha1:new; 1 objects withheld";
    let at_old = "Applied revision: main@sha1:old; 1 objects withheld";

    let good = want(Ready::True, reason::SUCCEEDED, at_new, Some("main@sha1:new"));
    check("the newest commit changes nothing here", view(), report(), live(), &good);
    let old = want(Ready::True, reason::SUCCEEDED, at_old, Some("main@sha1:old"));
    check("a newer commit waits for the rollout", Some(newer()), report(), waits(), &old);
    check("left Git, or not rendered since the start", None, report(), UnitFacts { revision: None, ..live() }, &old);
    let begun = "main@sha1:new was offered; the cluster has not begun with it";
    let offered = want(Ready::Unknown, reason::PROGRESSING, begun, Some("main@sha1:old"));
    check("a newer commit was offered", Some(newer()), report(), live(), &offered);
    let stale = Want { stale: true, ..want(Ready::True, reason::SUCCEEDED, at_old, Some("main@sha1:old")) };
    check("as last heard", Some(newer()), report(), away(), &stale);

    let kept = "apps/kustomization.yaml:4: cannot read web.yaml; the cluster keeps what it has";
    let no = want(Ready::False, reason::HELD, kept, Some("main@sha1:old"));
    check("held by the hub", Some(held()), report(), live(), &no);
    check("held from the first", Some(held()), None, live(), &Want { revision: None, ..no });

    let never = want(Ready::Unknown, reason::PROGRESSING, "the agent has not reported it yet", None);
    check("never reported", view(), None, live(), &never);
    let never = want(Ready::Unknown, reason::PROGRESSING, "the agent is not connected and has never reported it", None);
    check("never connected", view(), None, away(), &never);

    let failed = UnitReport {
        ready: Ready::False,
        reason: reason::FAILED.into(),
        message: "refused".into(),
        ..samples::report()
    };
    let no = want(Ready::False, reason::FAILED, "refused", Some("main@sha1:new"));
    check("failed", view(), Some(failed), live(), &no);
}

#[test]
fn a_suspension_names_its_author_and_whether_the_cluster_knows() {
    let intent = Intent::Suspend { cluster: None, unit: UnitId::kustomization("flux-system", "apps") };
    let record = IntentRecord { intent, actor: "alice".into(), at: 3, reason: "maintenance".into() };
    let live = || UnitFacts { connected: true, offered_newest: true, ..UnitFacts::default() };
    let by_alice = || UnitFacts { suspended: Some(&record), ..live() };
    let want = |message| Want {
        ready: Ready::Unknown,
        reason: reason::SUSPENDED,
        message,
        revision: Some("main@sha1:old"),
        suspended: true,
        stale: false,
    };
    let view = || Some(samples::view());
    check("by an operator", view(), Some(told()), by_alice(), &want("suspended by alice: maintenance"));
    let unconfirmed = want("suspended by alice: maintenance; the cluster has not confirmed it yet");
    check("not confirmed", view(), Some(samples::report()), by_alice(), &unconfirmed);
    check("in Git", Some(in_git()), Some(told()), live(), &want("suspended in Git (spec.suspend)"));
    check("resumed", view(), Some(told()), live(), &want("resumed; the cluster has not taken it up yet"));
}
