//! What the fields, annotations and marks of a Flux Kustomization do, and what its parent does to it.

use crate::{check, config, json, problem, render, unit};

#[test]
fn parents_patch_their_children_before_those_are_built() {
    let patching = "patches:\n- target: {kind: Kustomization}\n  patch: |\n    - op: add\n      path: /spec/targetNamespace\n      value: patched\n";
    check(
        &[
            ("clusters/c/apps.yaml", &unit("all", patching)),
            ("apps/all/web.yaml", &unit("web", "")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/all
        flux-system/flux-system
        flux-system/web
          ConfigMap patched/a
        ",
    );
}

#[test]
fn a_parents_substitution_reaches_the_definition_of_a_child() {
    check(
        &[
            ("clusters/c/apps.yaml", &unit("all", "postBuild: {substitute: {where: web}}")),
            ("apps/all/web.yaml", &unit("child", "").replace("./apps/child", "./apps/${where}")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/all
        flux-system/child
          ConfigMap default/a
        flux-system/flux-system
        ",
    );
}

#[test]
fn fields_of_the_spec_change_the_build() {
    let more = "targetNamespace: there\nnamePrefix: pre-\nnameSuffix: -suf\ncommonMetadata: {labels: {team: x}, annotations: {note: y}}\n\
                images: [{name: nginx, newTag: '2'}]\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'nginx:1'}]}\n";
    let rendered = check(
        &[("clusters/c/web.yaml", &unit("web", more)), ("apps/web/p.yaml", pod)],
        "
        flux-system/flux-system
        flux-system/web
          Pod there/pre-p-suf
        ",
    );
    let text = json(&rendered, "pre-p-suf");
    for part in ["\"image\":\"nginx:2\"", "\"team\":\"x\"", "\"note\":\"y\""] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn settings_of_a_unit_reach_its_spec() {
    let more = "timeout: 3m\nretryInterval: 2m\nwait: true\nforce: true\ndeletionPolicy: Orphan\nserviceAccountName: writer\nvalidation: server\n\
                remediation: {remediate: false, remediationInterval: 5m}\nsyncInterval: 1m\n";
    let rendered = check(
        &[("clusters/c/web.yaml", &unit("web", more)), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
    let spec = &rendered.units[1].spec;
    assert_eq!((spec.timeout_seconds, spec.retry_interval_seconds, spec.interval_seconds), (180, 120, 60));
    assert!(spec.wait && spec.force);
    assert_eq!(format!("{:?} {:?} {:?}", spec.deletion_policy, spec.validation, spec.drift_mode), "Orphan Server Warn");
    assert_eq!(spec.remediation_interval_seconds, 300);
    assert_eq!(
        spec.service_account.as_ref().map(|a| (a.namespace.as_str(), a.name.as_str())),
        Some(("flux-system", "writer"))
    );
    problem(&rendered, "clusters/c/web.yaml:18: FieldExtension: spec.remediation.remediate is no field of Flux");
}

#[test]
fn annotations_win_over_fields() {
    let text = unit("web", "remediation: {remediate: true}")
        .replace("  name: web\n", "  name: web\n  annotations: {driftless.dev/drift-mode: observe, driftless.dev/remediate-when: healthy, driftless.dev/remediation-interval: 1h}\n");
    let rendered = check(
        &[("clusters/c/web.yaml", &text), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
    let spec = &rendered.units[1].spec;
    assert_eq!(format!("{:?}", spec.drift_mode), "Observe");
    assert!(spec.remediate_only_when_healthy);
    assert_eq!(spec.remediation_interval_seconds, 3600);
}

#[test]
fn what_changes_nothing_is_told_with_its_line() {
    let more =
        "healthCheckExprs: [{apiVersion: a/v1, kind: A, current: 'true'}]\nignore: [{paths: [/spec/x]}]\nnonsense: 1\n";
    check(
        &[("clusters/c/web.yaml", &unit("web", more)), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          ! UnknownField clusters/c/web.yaml:13
        ",
    );
}

/// Each expression that cannot be used, and the words that say so.
#[test]
fn an_expression_that_cannot_be_used_holds_the_unit_with_its_line() {
    for (more, words) in [
        ("healthCheckExprs: [{apiVersion: a/v1, kind: A, current: 'status.'}]", "spec.healthCheckExprs[0].current"),
        ("healthCheckExprs: [{apiVersion: a/v1, kind: A, current: 'true', failed: 'nosuch()'}]", "no function nosuch"),
        ("healthCheckExprs: [{apiVersion: a/v1, kind: A}]", "current is required"),
        (
            "dependsOn: [{name: flux-system, readyExpr: 'other.x == 1'}]",
            "there is no variable other; it may use dep and self",
        ),
        ("ignore: [{paths: [spec/x]}]", "no JSON pointer"),
        ("ignore: [{target: {kind: A}}]", "paths is required"),
        ("ignore: [{paths: [/metadata/name]}]", "no JSON pointer"),
    ] {
        let rendered = render(&[("clusters/c/web.yaml", &unit("web", more)), ("apps/web/a.yaml", &config("a"))]);
        let why = rendered.units[1].held().unwrap_or_else(|| panic!("{more} is accepted"));
        assert!(why.to_string().contains(words), "{more}: {why}");
        assert!(why.to_string().contains("clusters/c/web.yaml:11"), "{more}: {why}");
    }
}

#[test]
fn a_ready_expression_brings_the_definitions_it_speaks_of() {
    let of = unit;
    let rendered = render(&[
        (
            "clusters/c/web.yaml",
            &of("web", "dependsOn: [{name: db, readyExpr: 'dep.metadata.name == self.metadata.namespace'}]"),
        ),
        ("clusters/c/db.yaml", &of("db", "")),
        ("clusters/c/other.yaml", &of("other", "")),
        ("apps/web/a.yaml", &config("a")),
        ("apps/db/a.yaml", &config("b")),
        ("apps/other/a.yaml", &config("c")),
    ]);
    let of = |name: &str| rendered.units.iter().find(|u| u.id.name == name).unwrap();
    assert_eq!(of("web").spec.ready_exprs.len(), 1);
    let definition = of("db").definition.as_deref().expect("asked about");
    assert!(std::str::from_utf8(definition).unwrap().contains("\"path\":\"./apps/db\""));
    assert!(of("web").definition.is_some() && of("other").definition.is_none());
}

#[test]
fn marks_and_ignore_rules_reach_the_objects_they_are_for() {
    let object = |name: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: default\n  annotations:\n    {annotations}\n"
        )
    };
    let more = "ignore:\n  - paths: [/data/x, /data/y]\n    target: {kind: ConfigMap, name: 'a|b'}\n  - paths: [/data/z]\n    target: {kind: Secret}\n";
    let rendered = render(&[
        ("clusters/c/web.yaml", &unit("web", more)),
        ("apps/web/a.yaml", &object("a", "kustomize.toolkit.fluxcd.io/ssa: Merge")),
        ("apps/web/b.yaml", &object("b", "driftless.dev/ignore: /data/k, /data/x")),
        ("apps/web/c.yaml", &object("c", "kustomize.toolkit.fluxcd.io/force: Enabled")),
        ("apps/web/d.yaml", &object("d", "kustomize.toolkit.fluxcd.io/reconcile: disabled")),
        ("apps/web/e.yaml", &object("e", "kustomize.toolkit.fluxcd.io/ssa: Sometimes")),
        ("apps/web/f.yaml", &object("f", "driftless.dev/ignore: data.k")),
        (
            "apps/web/g.yaml",
            &object("g", "driftless.dev/drift-observe: /data/y, /data/k\n    driftless.dev/drift-warn: /data/w"),
        ),
    ]);
    let shown: Vec<String> = rendered.units[1]
        .objects()
        .iter()
        .map(|o| format!("{} {:?} {} {}", o.key.name, o.options.apply, o.options.force, o.options.ignore.join(" ")))
        .collect();
    assert_eq!(
        shown,
        [
            "a Merge false /data/x /data/y",
            "b Override false /data/k /data/x /data/y",
            "c Override true ",
            "d Ignore false ",
            "e Override false ",
            "f Override false ",
            "g Override false ",
        ]
    );
    let fields = &rendered.units[1].objects().iter().find(|o| o.key.name == "g").unwrap().options;
    assert_eq!((fields.observe.join(" "), fields.warn.join(" ")), ("/data/k /data/y".to_owned(), "/data/w".to_owned()));
    let problems: Vec<String> = rendered.units[1].problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].contains("apps/web/e.yaml") && problems[0].contains("Sometimes"), "{problems:#?}");
    assert!(problems[1].contains("apps/web/f.yaml") && problems[1].contains("data.k"), "{problems:#?}");
}

#[test]
fn a_spec_the_api_server_would_refuse_holds_the_unit() {
    for (from, to, line) in [
        ("  prune: true\n", "", "6"),
        ("prune: true", "prune: 'yes'", "8"),
        ("interval: 10m", "interval: 10 minutes", "7"),
        ("kind: GitRepository, ", "", "10"),
    ] {
        check(
            &[
                ("clusters/c/web.yaml", &unit("web", "").replace(from, to)),
                ("apps/web/a.yaml", &config("a")),
                ("clusters/c/b.yaml", &config("b")),
            ],
            &format!(
                "flux-system/flux-system\n  ConfigMap default/b\nflux-system/web held InvalidSpec clusters/c/web.yaml:{line}\nnot whole"
            ),
        );
    }
}

#[test]
fn a_suspended_unit_sends_nothing_and_its_children_follow_git() {
    let rendered = check(
        &[
            ("clusters/c/all.yaml", &unit("all", "suspend: true")),
            ("apps/all/web.yaml", &unit("web", "")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/all suspended
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        not whole
        ",
    );
    problem(&rendered, "is suspended; the 1 unit(s) it defines");
}

#[test]
fn take_over_acts_on_what_flux_must_not() {
    let text = unit("web", "suspend: true")
        .replace("  name: web\n", "  name: web\n  annotations: {driftless.dev/take-over: enabled}\n");
    let rendered = check(
        &[("clusters/c/web.yaml", &text), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
    assert!(rendered.units[1].spec.take_over);
}

#[test]
fn take_over_without_suspend_changes_nothing_and_is_told() {
    let text =
        unit("web", "").replace("  name: web\n", "  name: web\n  annotations: {driftless.dev/take-over: enabled}\n");
    let rendered = check(
        &[("clusters/c/web.yaml", &text), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          ! BadValue clusters/c/web.yaml:5
        ",
    );
    assert!(!rendered.units[1].spec.take_over, "the agent would stop a Flux that Git lets run");
    problem(&rendered, "changes nothing while spec.suspend is not true");
}

#[test]
fn suspended_wins_over_broken() {
    check(
        &[("clusters/c/web.yaml", &unit("web", "suspend: true")), ("apps/web/a.yaml", "broken: [\n")],
        "
        flux-system/flux-system
        flux-system/web suspended
          ! BuildFailed apps/web/a.yaml:2
        not whole
        ",
    );
}
