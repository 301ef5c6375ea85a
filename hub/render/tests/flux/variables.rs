//! Where the values of `${...}` come from.

use driftless_render::target::{Facts, Target};

use crate::{check, check_with, config, json, problem, target, unit};

#[test]
fn inline_variables_win_and_types_follow_the_text() {
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: flux-system}\ndata: {replicas: '3', who: them}\n";
    let more = "postBuild:\n  substitute: {who: us}\n  substituteFrom:\n  - {kind: ConfigMap, name: settings}\n";
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default, annotations: {who: \"${who}\", raw: \"$${who}\"}}\n\
                      spec: {replicas: \"${replicas}\"}\n";
    let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: off, namespace: default, annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}}\n\
                 data: {k: \"${undefined}\"}\n";
    let rendered = check(
        &[
            ("clusters/c/settings.yaml", settings),
            ("clusters/c/web.yaml", &unit("web", more)),
            ("apps/web/d.yaml", deployment),
            ("apps/web/off.yaml", plain),
        ],
        "
        flux-system/flux-system
          ConfigMap flux-system/settings
        flux-system/web
          Deployment.apps default/d
          ConfigMap default/off
        ",
    );
    let text = json(&rendered, "d");
    for part in [r#""replicas":3"#, r#""who":"us""#, r#""raw":"${who}""#] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(json(&rendered, "off").contains("${undefined}"));
}

#[test]
fn a_variable_without_value_holds_the_unit() {
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "postBuild: {substitute: {a: b}}")),
            ("apps/web/a.yaml", &config("a").replace("k: v", "k: '${unknown}'")),
        ],
        "
        flux-system/flux-system
        flux-system/web held SubstitutionFailed apps/web/a.yaml:1
        not whole
        ",
    );
    problem(&rendered, "unknown");
}

#[test]
fn a_unit_waits_for_a_fact_that_its_cluster_is_to_tell_and_holds_its_children() {
    let more = "postBuild:\n  substituteFrom:\n  - {kind: ConfigMap, name: facts}\n";
    let files = [
        ("clusters/c/all.yaml", &*unit("all", more)),
        ("apps/all/a.yaml", &*config("a").replace("k: v", "k: '${region:=nowhere}'")),
        ("apps/all/web.yaml", &*unit("web", "")),
        ("apps/web/b.yaml", &*config("b")),
    ];
    let expecting = || Target { expected_facts: ["flux-system/facts".to_owned()].into(), ..target() };
    let rendered = check_with(
        &files,
        &expecting(),
        "
        flux-system/all held SubstitutionInputMissing clusters/c/all.yaml:13
        flux-system/flux-system
        flux-system/web held ParentHeld apps/all/web.yaml:1
        not whole
        ",
    );
    problem(&rendered, "waiting for fact ConfigMap flux-system/facts");
    let mut facts = Facts::default();
    facts.config_maps.insert("flux-system/facts".into(), [("region".to_owned(), "north".to_owned())].into());
    let all = "
        flux-system/all
          ConfigMap default/a
        flux-system/flux-system
        flux-system/web
          ConfigMap default/b
        ";
    let rendered = check_with(&files, &Target { facts: Some(facts), ..expecting() }, all);
    assert!(json(&rendered, "a").contains("north"));
    // Told that it is not there: then the agent waits for it, or finds it.
    let mut facts = Facts::default();
    facts.not_told.insert("flux-system/facts".into(), "it does not exist".into());
    let rendered = check_with(&files, &Target { facts: Some(facts), ..expecting() }, all);
    assert!(json(&rendered, "a").contains("${region:=nowhere}"));
}

#[test]
fn variables_of_the_hub_are_the_weakest_and_only_for_units_with_post_build() {
    let target = Target {
        variables: [("k".to_owned(), "hub".to_owned()), ("o".to_owned(), "hub".to_owned())].into(),
        ..target()
    };
    let rendered = check_with(
        &[
            ("clusters/c/a.yaml", &unit("a", "postBuild: {substitute: {o: own}}")),
            ("clusters/c/b.yaml", &unit("b", "")),
            ("apps/a/a.yaml", &config("a").replace("k: v", "k: '${k} ${o}'")),
            ("apps/b/b.yaml", &config("b").replace("k: v", "k: '${k}'")),
        ],
        &target,
        "
        flux-system/a
          ConfigMap default/a
        flux-system/b
          ConfigMap default/b
        flux-system/flux-system
        ",
    );
    assert!(json(&rendered, "a").contains("hub own"));
    assert!(json(&rendered, "b").contains("${k}"));
}

#[test]
fn a_unit_may_take_variables_from_what_it_produces_itself() {
    let settings = config("settings").replace("default", "flux-system");
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "postBuild: {substituteFrom: [{kind: ConfigMap, name: settings}]}")),
            ("apps/web/settings.yaml", &settings),
            ("apps/web/a.yaml", &config("a").replace("k: v", "own: '${k}'")),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          ConfigMap flux-system/settings
        ",
    );
    assert!(json(&rendered, "a").contains(r#""own":"v""#));
}

/// kustomize-controller refuses variables without value since 1.9, which came with Flux 2.9, unless a flag decides.
#[test]
fn an_old_controller_in_git_takes_variables_without_value_as_empty() {
    let controller = |image: &str, args: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: kustomize-controller\n  namespace: flux-system\n  \
             labels: {{app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\nspec:\n  \
             selector: {{matchLabels: {{app: kc}}}}\n  template:\n    metadata: {{labels: {{app: kc}}}}\n    \
             spec: {{containers: [{{name: manager, image: '{image}', args: [{args}]}}]}}\n"
        )
    };
    let instance = |version: &str| {
        format!(
            "apiVersion: fluxcd.controlplane.io/v1\nkind: FluxInstance\nmetadata: {{name: flux, namespace: flux-system}}\n\
             spec: {{distribution: {{version: '{version}'}}}}\n"
        )
    };
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: default}\ndata: {k: \"[${UNSET}]\"}\n";
    for (flux, lax) in [
        (controller("ghcr.io/fluxcd/kustomize-controller:v1.8.5", ""), true),
        (controller("registry.example:5000/fluxcd/kustomize-controller:v1.8.5@sha256:abc", ""), true),
        (
            controller(
                "ghcr.io/fluxcd/kustomize-controller:v1.8.5",
                "--feature-gates=StrictPostBuildSubstitutions=true",
            ),
            false,
        ),
        (controller("ghcr.io/fluxcd/kustomize-controller:v1.9.0", ""), false),
        (controller("ghcr.io/fluxcd/kustomize-controller:v1.10.2", ""), false),
        (controller("registry.example:5000/fluxcd/kustomize-controller", ""), false),
        (instance("2.7.x"), true),
        (instance("2.9.1"), false),
        (instance("2.x"), false),
    ] {
        let rendered = crate::render(&[
            ("clusters/c/flux.yaml", &flux),
            ("clusters/c/a.yaml", &unit("a", "postBuild: {substitute: {v: '1'}}")),
            ("apps/a/x.yaml", text),
        ]);
        let a = rendered.units.iter().find(|u| u.id.name == "a").unwrap();
        assert_eq!(a.held().is_none(), lax, "{flux}");
        if lax {
            assert!(json(&rendered, "x").contains(r#""k":"[]""#));
        }
    }
}

/// What is said of a failure ends in pull requests and logs.
#[test]
fn values_of_secrets_are_in_no_message() {
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: default}}\nstringData: {{url: \"{value}\"}}\n"
        )
    };
    let kustomization = |more: &str| format!("resources: [s.yaml, c.yaml]\n{more}\n");
    let broken = [
        (secret("abc${hunter2 the rest of hunter2}"), String::new()),
        (secret("abc${hunter2/}"), String::new()),
        (secret("abc${"), String::new()),
        (
            secret("postgres://u:hunter2@host"),
            "replacements: [{source: {kind: Secret, name: s, fieldPath: stringData.url, options: {delimiter: '@', index: 3}}, targets: [{select: {kind: ConfigMap}, fieldPaths: [data.k]}]}]".to_owned(),
        ),
        (
            secret("hunter2"),
            "replacements: [{source: {kind: Secret, name: s, fieldPath: stringData.url}, targets: [{select: {kind: ConfigMap}, fieldPaths: [data.k.deeper]}]}]".to_owned(),
        ),
        (secret("x"), "secretGenerator: [{name: g, literals: [hunter2]}]".to_owned()),
    ];
    for (secret, more) in broken {
        let rendered = crate::render(&[
            ("clusters/c/a.yaml", &unit("a", "postBuild: {substitute: {v: '1'}}")),
            ("apps/a/kustomization.yaml", &kustomization(&more)),
            ("apps/a/s.yaml", &secret),
            ("apps/a/c.yaml", &config("c")),
        ]);
        let a = rendered.units.iter().find(|u| u.id.name == "a").unwrap();
        let why = a.held().unwrap_or_else(|| panic!("{secret}{more} is taken")).to_string();
        assert!(!why.contains("hunter2"), "{why}");
    }
}
