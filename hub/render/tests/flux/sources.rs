//! Which files a unit may read, of which repository, and what is not interpreted.

use driftless_render::flux::render_cluster;
use driftless_render::target::{GitRef, SourceSet, SourceTree};

use crate::{check, config, source, summary, target, unit};

#[test]
fn kinds_of_other_controllers_are_handed_through_with_the_sources_they_need() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: r, namespace: default}\n\
                   spec: {interval: 1h, chart: {spec: {chart: ./charts/r, sourceRef: {kind: GitRepository, name: charts}}}}\n";
    let git = |name: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{interval: 1h, url: 'https://example.org/{name}', ref: {{branch: main}}}}\n"
        )
    };
    check(
        &[
            ("clusters/c/r.yaml", release),
            ("clusters/c/charts.yaml", &git("charts")),
            ("clusters/c/unused.yaml", &git("unused")),
        ],
        "
        flux-system/flux-system
          GitRepository.source.toolkit.fluxcd.io default/charts (handed through)
          HelmRelease.helm.toolkit.fluxcd.io default/r (handed through)
        ",
    );
}

#[test]
fn fluxs_own_controllers_are_left_alone_but_for_their_namespace() {
    let components = "apiVersion: v1\nkind: Namespace\nmetadata: {name: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n---\n\
        apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kustomize-controller, namespace: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n\
        spec: {template: {spec: {containers: [{name: manager, args: [--no-cross-namespace-refs=true, --log-level=info, --brand-new]}]}}}\n";
    let rendered = check(
        &[("clusters/c/gotk-components.yaml", components)],
        "
        flux-system/flux-system
          Namespace flux-system
        ! FlagNotHonoured
        ",
    );
    assert!(rendered.lockdown.no_cross_namespace_refs);
    assert_eq!(rendered.lockdown.other_flags, ["--brand-new"]);
}

#[test]
fn references_across_namespaces_are_refused_when_flux_would() {
    let components = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kustomize-controller, namespace: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n\
        spec: {template: {spec: {containers: [{name: manager, args: [--no-cross-namespace-refs]}]}}}\n";
    let tenant = unit("web", "")
        .replace("namespace: flux-system", "namespace: tenant")
        .replace("name: flux-system}", "name: flux-system, namespace: flux-system}");
    check(
        &[("clusters/c/f.yaml", components), ("clusters/c/web.yaml", &tenant), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        tenant/web held CrossNamespaceRef clusters/c/web.yaml:10
        not whole
        ",
    );
}

#[test]
fn another_repository_is_wanted_until_it_is_there() {
    let git = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: team, namespace: flux-system}\n\
               spec: {interval: 1h, url: 'https://example.org/team', ref: {tag: v1}, secretRef: {name: key}}\n";
    let files = [
        ("clusters/c/git.yaml", git),
        ("clusters/c/web.yaml", &*unit("web", "").replace("name: flux-system}", "name: team}")),
    ];
    let rendered = check(
        &files,
        "
        flux-system/flux-system
          - GitRepository.source.toolkit.fluxcd.io flux-system/team SourceNotSent
        flux-system/web held SourceNotReady clusters/c/web.yaml:10
        not whole
        ",
    );
    let wanted = &rendered.wanted_sources[0];
    assert_eq!((wanted.url.as_str(), wanted.secret.as_deref()), ("https://example.org/team", Some("key")));
    assert_eq!(wanted.reference, GitRef::Tag("v1".into()));
    let other = SourceTree {
        url: "ssh://git@example.org/team.git".into(),
        reference: GitRef::Tag("v1".into()),
        ..source(&[("apps/web/a.yaml", &config("a"))])
    };
    let rendered = render_cluster(&SourceSet::new(source(&files)).with(other), &target());
    assert_eq!(summary(&rendered), "flux-system/flux-system\nflux-system/web\n  ConfigMap default/a\n");
    assert_eq!(rendered.units[1].source, "flux-system/team");
}

#[test]
fn the_roots_repository_under_another_name_is_read_at_the_same_commit() {
    let git = |branch: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: again, namespace: flux-system}}\n\
             spec: {{interval: 1h, url: 'ssh://git@example.org/fleet.git', ref: {{branch: {branch}}}}}\n"
        )
    };
    let child = unit("web", "").replace("name: flux-system}", "name: again}");
    check(
        &[("clusters/c/git.yaml", &git("main")), ("clusters/c/web.yaml", &child), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
    check(
        &[("clusters/c/git.yaml", &git("other")), ("clusters/c/web.yaml", &child), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
          - GitRepository.source.toolkit.fluxcd.io flux-system/again SourceNotSent
        flux-system/web held SourceNotReady clusters/c/web.yaml:10
        not whole
        ",
    );
}

#[test]
fn links_resolve_inside_the_source_and_it_is_said_that_flux_has_none() {
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web", "-> ../shared/web"),
            ("shared/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          ! BuildWarning apps/web
        ",
    );
    crate::problem(&rendered, "Flux leaves links out");
}

#[test]
fn what_the_source_ignores_no_build_sees() {
    let sync = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: flux-system, namespace: flux-system}\n\
                spec: {interval: 1m, url: 'https://example.org/fleet', ref: {branch: main}, ignore: '/apps/web/by-spec.yaml'}\n";
    check(
        &[
            ("clusters/c/sync.yaml", sync),
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web/.sourceignore", "draft*\n"),
            ("apps/web/a.yaml", &config("a")),
            ("apps/web/draft.yaml", &config("draft")),
            ("apps/web/by-spec.yaml", "broken: [\n"),
            ("apps/web/linked.yaml", "-> a.yaml"),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
}

#[test]
fn under_lock_down_a_tenant_does_not_get_the_roots_repository_by_its_address() {
    let components = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kustomize-controller, namespace: flux-system, labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}}\n\
        spec: {template: {spec: {containers: [{name: manager, args: [--no-cross-namespace-refs]}]}}}\n";
    let git = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: mine, namespace: tenant}\n\
               spec: {interval: 1h, url: 'https://example.org/fleet', ref: {branch: main}}\n";
    let web = unit("web", "")
        .replace("namespace: flux-system", "namespace: tenant")
        .replace("name: flux-system}", "name: mine}");
    for (components, expected) in [
        ("", "flux-system/flux-system\ntenant/web\n  ConfigMap default/a\n"),
        (
            components,
            "flux-system/flux-system\n  - GitRepository.source.toolkit.fluxcd.io tenant/mine SourceNotSent\n\
             tenant/web held SourceNotReady clusters/c/web.yaml:10\nnot whole\n",
        ),
    ] {
        check(
            &[
                ("clusters/c/f.yaml", components),
                ("clusters/c/git.yaml", git),
                ("clusters/c/web.yaml", &web),
                ("apps/web/a.yaml", &config("a")),
            ],
            expected,
        );
    }
}

#[test]
fn a_reference_without_kind_is_of_the_kind_its_definition_gives_it() {
    let automation = "apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageUpdateAutomation\nmetadata: {name: i, namespace: flux-system}\n\
                      spec: {interval: 1h, sourceRef: {name: flux-system}, git: {commit: {author: {email: a@example.org}}}}\n";
    let sync = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: flux-system, namespace: flux-system}\n\
                spec: {interval: 1m, url: \"https://example.org/fleet\", ref: {branch: main}}\n";
    check(
        &[("clusters/c/sync.yaml", sync), ("clusters/c/i.yaml", automation)],
        "
        flux-system/flux-system
          ImageUpdateAutomation.image.toolkit.fluxcd.io flux-system/i (handed through)
          GitRepository.source.toolkit.fluxcd.io flux-system/flux-system (handed through)
        ",
    );
}
