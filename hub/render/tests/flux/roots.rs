//! Where a cluster's units begin: the root, found, synthesised, named by others, or missing.

use crate::{check, config, json, problem, unit};

#[test]
fn a_root_without_its_own_kustomization_is_synthesised() {
    let rendered = check(
        &[("clusters/c/a.yaml", &config("a"))],
        "
        flux-system/flux-system
          ConfigMap default/a
        ",
    );
    let root = &rendered.units[0];
    assert!(root.spec.prune);
    assert_eq!((root.path.as_str(), root.source.as_str()), ("clusters/c", "flux-system/flux-system"));
    assert_eq!(
        json(&rendered, "a"),
        format!(
            r#"{{"apiVersion":"v1","data":{{"k":"v"}},"kind":"ConfigMap","metadata":{{"labels":{{"driftless.dev/unit":"{}","kustomize.toolkit.fluxcd.io/name":"flux-system","kustomize.toolkit.fluxcd.io/namespace":"flux-system"}},"name":"a","namespace":"default"}}}}"#,
            root.id.label()
        )
    );
}

#[test]
fn the_roots_own_kustomization_is_found_by_its_path_and_rules() {
    let sync = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: home, namespace: flux-system}\n\
                spec: {interval: 1m, url: 'ssh://git@elsewhere/x', ref: {branch: other}}\n---\n\
                apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: home, namespace: flux-system}\n\
                spec: {interval: 7m, prune: false, path: ./clusters/c, sourceRef: {kind: GitRepository, name: home}}\n";
    let child = unit("web", "").replace("name: flux-system}", "name: home}");
    let rendered = check(
        &[("clusters/c/sync.yaml", sync), ("clusters/c/web.yaml", &child), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/home
        flux-system/web
          ConfigMap default/a
        ",
    );
    assert_eq!(rendered.units[0].spec.interval_seconds, 420);
    assert_eq!(rendered.units[0].defined_at.to_string(), "clusters/c/sync.yaml:6");
    assert_eq!(rendered.units[1].source, "flux-system/home");
    assert_eq!(rendered.units[1].parent, Some(rendered.units[0].id.clone()));
}

#[test]
fn stand_ins_of_bootstrap_files_take_patches() {
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [gotk-components.yaml, gotk-sync.yaml]\n\
        patches:\n- patch: '[{\"op\": \"add\", \"path\": \"/spec/template/spec/containers/0/args/-\", \"value\": \"--default-service-account=tenant\"}]'\n  \
        target: {kind: Deployment, name: kustomize-controller}\n- patch: '[{\"op\": \"add\", \"path\": \"/spec/serviceAccountName\", \"value\": \"kustomize-controller\"}]'\n  \
        target: {kind: Kustomization, name: flux-system}\n";
    let rendered = check(
        &[
            ("clusters/c/flux-system/gotk-components.yaml", "# generated\n"),
            ("clusters/c/flux-system/gotk-sync.yaml", "# generated\n"),
            ("clusters/c/flux-system/kustomization.yaml", kustomization),
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
    assert_eq!(rendered.lockdown.default_service_account.as_deref(), Some("tenant"));
    assert_eq!(rendered.units[0].spec.service_account, None, "the controller's own account is the agent's");
    assert_eq!(rendered.units[1].spec.service_account.as_ref().map(|a| a.name.as_str()), Some("tenant"));
}

#[test]
fn a_missing_root_is_held_and_candidates_are_listed() {
    let rendered = check(
        &[("clusters/d/flux-system/gotk-sync.yaml", &unit("x", "").replace("./apps/x", "./clusters/d"))],
        "
        flux-system/flux-system held RootNotFound 
        not whole
        ",
    );
    problem(&rendered, "\"clusters/d\" (clusters/d/flux-system/gotk-sync.yaml:1)");
}

#[test]
fn an_emptied_repository_holds_the_root() {
    check(
        &[],
        "
        flux-system/flux-system held RootNotFound 
        not whole
        ",
    );
}

#[test]
fn a_fluxinstance_names_the_root_of_a_cluster_whose_name_it_carries() {
    let instance = "apiVersion: fluxcd.controlplane.io/v1\nkind: FluxInstance\nmetadata: {name: flux, namespace: flux-system}\n\
                    spec: {sync: {kind: GitRepository, url: 'https://example.org/fleet', path: kubernetes/c/flux}}\n";
    check(
        &[("kubernetes/c/instance.yaml", instance), ("kubernetes/c/flux/a.yaml", &config("a"))],
        "
        flux-system/flux-system
          ConfigMap default/a
        ",
    );
}

#[test]
fn a_unit_for_another_cluster_is_never_applied_here() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "kubeConfig: {secretRef: {name: other}}")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web held FieldNotHonoured clusters/c/web.yaml:11
        ",
    );
}
