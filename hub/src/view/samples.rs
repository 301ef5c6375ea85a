//! A unit in order, for tests to spoil.

use driftless_protocol::bundle::{Reason, UnitSpec};
use driftless_protocol::id::{Digest, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{Counts, Ready, UnitReport, reason};

use crate::rendered::{UnitView, ViewState};

pub(super) fn key() -> ObjectKey {
    ObjectKey { group: "apps".into(), kind: "Deployment".into(), namespace: "shop".into(), name: "web".into() }
}

pub(super) fn reason() -> Reason {
    Reason {
        code: "BuildFailed".into(),
        message: "cannot read web.yaml".into(),
        file: Some("apps/kustomization.yaml".into()),
        line: Some(4),
    }
}

pub(super) fn view() -> UnitView {
    let spec: UnitSpec = serde_json::from_value(serde_json::json!({
        "prune": true, "intervalSeconds": 600, "retryIntervalSeconds": 60, "timeoutSeconds": 300, "wait": false,
        "force": false,
    }))
    .unwrap();
    let place = |file: &str, line| {
        Some(driftless_protocol::api::Place { source: "flux-system/flux-system".into(), file: file.into(), line })
    };
    UnitView {
        source: "flux-system/flux-system".into(),
        path: "apps".into(),
        parent: None,
        defined_at: place("clusters/prod/apps.yaml", 1),
        spec,
        state: ViewState::Full(Digest::of(b"body")),
        problems: Vec::new(),
        objects: vec![(key(), Digest::of(b"web"), place("apps/web.yaml", 12))],
        withheld: Vec::new(),
    }
}

pub(super) fn report() -> UnitReport {
    let mut report = UnitReport::unreadable(UnitId::kustomization("flux-system", "apps"), "");
    report.ready = Ready::True;
    report.reason = reason::SUCCEEDED.into();
    report.message = "Applied revision: main@sha1:old; 1 objects withheld".into();
    report.desired = Some(Digest::of(b"body"));
    report.applied = report.desired;
    report.applied_revision = Some("main@sha1:old".into());
    report.last_applied = Some(5);
    report.counts = Counts { objects: 1, in_sync: 1, ..Counts::default() };
    report
}
