//! From a small repository to units: one idea each, through one check.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::fmt::Write as _;
use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{RenderState, RenderedCluster, render_cluster};
use driftless_render::report::{ClusterReport, Severity};
use driftless_render::target::{Facts, GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;

const URL: &str = "https://example.org/fleet";

fn source(files: &[(&str, &str)]) -> SourceTree {
    let mut tree = MemTree::new();
    for (path, text) in files {
        match text.strip_prefix("-> ") {
            Some(target) => tree.insert_link(*path, target),
            None => tree.insert(*path, text.as_bytes().to_vec()),
        }
    }
    SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: URL.into(),
        reference: GitRef::Branch("main".into()),
    }
}

fn target() -> Target {
    Target::new("c".parse().unwrap())
}

/// One line per unit and object: what the agent would be told, and every problem with its place.
fn summary(rendered: &RenderedCluster) -> String {
    let mut out = String::new();
    for unit in &rendered.units {
        match &unit.state {
            RenderState::Full { objects, withheld } => {
                writeln!(out, "{}", unit.id).unwrap();
                for o in objects {
                    writeln!(out, "  {}{}", o.key, if o.handed_through { " (handed through)" } else { "" }).unwrap();
                }
                for w in withheld {
                    writeln!(out, "  - {} {}", w.key, w.code).unwrap();
                }
            }
            RenderState::Held { why } => {
                let at = why.at.as_ref().map(ToString::to_string).unwrap_or_default();
                writeln!(out, "{} held {} {at}", unit.id, why.code).unwrap();
            }
            RenderState::Suspended => writeln!(out, "{} suspended", unit.id).unwrap(),
        }
        for p in unit.problems.iter().filter(|p| Some(*p) != unit.held() && p.severity() != Severity::Info) {
            let at = p.at.as_ref().map(ToString::to_string).unwrap_or_default();
            writeln!(out, "  ! {} {at}", p.code).unwrap();
        }
    }
    for p in &rendered.problems {
        writeln!(out, "! {}", p.code).unwrap();
    }
    if !rendered.whole {
        out.push_str("not whole\n");
    }
    out
}

#[track_caller]
fn check_with(files: &[(&str, &str)], target: &Target, expected: &str) -> RenderedCluster {
    let rendered = render_cluster(&SourceSet::new(source(files)), target);
    let got = summary(&rendered);
    let lines = expected.lines().map(|line| line.strip_prefix("        ").unwrap_or(line));
    let expected: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    let said: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert_eq!(got.lines().collect::<Vec<_>>(), expected, "\n{got}\n{}", said.join("\n"));
    rendered
}

fn render(files: &[(&str, &str)]) -> RenderedCluster {
    render_cluster(&SourceSet::new(source(files)), &target())
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) -> RenderedCluster {
    check_with(files, &target(), expected)
}

/// A Kustomization at `apps/NAME`, with more lines for its spec.
fn unit(name: &str, more: &str) -> String {
    let more: String = more.lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: {name}\n  namespace: flux-system\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./apps/{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

fn config(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{k: v}}\n")
}

fn json(rendered: &RenderedCluster, name: &str) -> String {
    let object = rendered.units.iter().flat_map(|u| u.objects()).find(|o| o.key.name == name);
    String::from_utf8(object.unwrap_or_else(|| panic!("no object {name}")).bytes.to_vec()).unwrap()
}

#[track_caller]
fn problem(rendered: &RenderedCluster, words: &str) {
    let all: Vec<String> = rendered.all_problems().map(ToString::to_string).collect();
    assert!(all.iter().any(|m| m.contains(words)), "no problem says {words:?}: {all:#?}");
}

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
        ]
    );
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
fn a_broken_file_holds_its_unit_and_no_other() {
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("clusters/c/db.yaml", &unit("db", "")),
            ("apps/web/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\ndata: [\n"),
            ("apps/db/b.yaml", &config("b")),
        ],
        "
        flux-system/db
          ConfigMap default/b
        flux-system/flux-system
        flux-system/web held BuildFailed apps/web/a.yaml:4
        not whole
        ",
    );
    problem(&rendered, "apps/web/a.yaml:4");
}

#[test]
fn a_kustomization_that_names_a_missing_file_is_held_at_its_line() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web/kustomization.yaml", "resources:\n- a.yaml\n- gone.yaml\n"),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web held BuildFailed apps/web/kustomization.yaml:3
        not whole
        ",
    );
}

#[test]
fn a_missing_path_is_held_never_empty() {
    check(
        &[("clusters/c/web.yaml", &unit("web", ""))],
        "
        flux-system/flux-system
        flux-system/web held PathNotFound clusters/c/web.yaml:9
        not whole
        ",
    );
}

#[test]
fn a_folder_without_manifests_is_held_and_an_explicitly_empty_one_is_empty() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("clusters/c/db.yaml", &unit("db", "")),
            ("apps/web/README.md", "nothing here\n"),
            ("apps/db/kustomization.yaml", "resources: []\n"),
        ],
        "
        flux-system/db
          ! EmptyRender clusters/c/db.yaml:9
        flux-system/flux-system
        flux-system/web held EmptyRender clusters/c/web.yaml:9
        not whole
        ",
    );
}

#[test]
fn a_dependency_that_does_not_exist_is_named() {
    let rendered = check(
        &[("clusters/c/web.yaml", &unit("web", "dependsOn:\n- name: gone")), ("apps/web/a.yaml", &config("a"))],
        "
        flux-system/flux-system
        flux-system/web held DependencyNotFound clusters/c/web.yaml:12
        ",
    );
    problem(&rendered, "unit flux-system/web depends on flux-system/gone");
}

#[test]
fn a_dependency_cycle_holds_every_unit_of_it_and_names_it() {
    let rendered = check(
        &[
            ("clusters/c/a.yaml", &unit("a", "dependsOn: [{name: b}]")),
            ("clusters/c/b.yaml", &unit("b", "dependsOn: [{name: a}]")),
            ("clusters/c/d.yaml", &unit("d", "dependsOn: [{name: a}]")),
            ("apps/a/a.yaml", &config("a")),
            ("apps/b/b.yaml", &config("b")),
            ("apps/d/d.yaml", &config("d")),
        ],
        "
        flux-system/a held DependencyCycle clusters/c/a.yaml:11
        flux-system/b held DependencyCycle clusters/c/b.yaml:11
        flux-system/d
          ConfigMap default/d
        flux-system/flux-system
        ",
    );
    problem(&rendered, "flux-system/b -> flux-system/a -> flux-system/b");
}

#[test]
fn children_wait_for_what_their_parent_waits_for_and_waiting_parents_for_their_children() {
    let rendered = check(
        &[
            ("clusters/c/infra.yaml", &unit("infra", "wait: true")),
            ("clusters/c/all.yaml", &unit("all", "dependsOn: [{name: infra}]")),
            ("apps/infra/crds.yaml", &unit("crds", "")),
            ("apps/crds/a.yaml", &config("a")),
            ("apps/all/web.yaml", &unit("web", "")),
            ("apps/web/b.yaml", &config("b")),
        ],
        "
        flux-system/all
        flux-system/crds
          ConfigMap default/a
        flux-system/flux-system
        flux-system/infra
        flux-system/web
          ConfigMap default/b
        ",
    );
    let names = |at: usize| rendered.units[at].spec.depends_on.iter().map(|u| u.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(0), ["crds", "infra"]);
    assert_eq!(names(4), ["crds", "infra"]);
    assert!(names(1).is_empty());
}

#[test]
fn one_object_of_two_units_is_sent_by_one_and_told_to_both() {
    let rendered = check(
        &[
            ("clusters/c/a.yaml", &unit("a", "dependsOn: [{name: z}]")),
            ("clusters/c/z.yaml", &unit("z", "")),
            ("apps/a/x.yaml", &config("same")),
            ("apps/z/y.yaml", &config("same")),
        ],
        "
        flux-system/a
          - ConfigMap default/same DuplicateObject
          ! DuplicateObject apps/a/x.yaml:1
        flux-system/flux-system
        flux-system/z
          ConfigMap default/same
          ! DuplicateObject apps/z/y.yaml:1
        ",
    );
    problem(&rendered, "also held by unit flux-system/a (apps/a/x.yaml:1); this one is applied");
}

#[test]
fn one_unit_defined_twice_keeps_its_first_definition() {
    check(
        &[
            ("clusters/c/one.yaml", &unit("one", "")),
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/one/web.yaml", &unit("web", "suspend: true")),
            ("apps/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/one
          ! DuplicateUnit apps/one/web.yaml:1
        flux-system/web
          ConfigMap default/a
        ",
    );
}

#[test]
fn units_that_define_each_other_end() {
    check(
        &[("clusters/c/a.yaml", &unit("a", "")), ("apps/a/b.yaml", &unit("b", "")), ("apps/b/a.yaml", &unit("a", ""))],
        "
        flux-system/a
        flux-system/b
          ! DuplicateUnit apps/b/a.yaml:1
        flux-system/flux-system
        ",
    );
}

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
fn encrypted_objects_are_withheld_and_the_rest_of_the_unit_is_sent() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: 'ENC[AES256_GCM,data:x,type:str]'}\n\
                  sops: {mac: 'ENC[AES256_GCM,data:y,type:str]', lastmodified: '2024-01-01T00:00:00Z'}\n";
    let rendered = check(
        &[
            ("clusters/c/web.yaml", &unit("web", "decryption: {provider: sops, secretRef: {name: age}}")),
            ("apps/web/a.yaml", &config("a")),
            ("apps/web/s.yaml", secret),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
          - Secret default/s Encrypted
          ! Encrypted apps/web/s.yaml:1
        ",
    );
    assert!(!json(&rendered, "a").contains("ENC["));
}

#[test]
fn a_secret_generated_from_an_encrypted_file_has_no_known_name() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {containers: [{name: c, image: i, envFrom: [{secretRef: {name: gen}}]}]}\n";
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            (
                "apps/web/kustomization.yaml",
                "namespace: default\nresources: [p.yaml]\nsecretGenerator: [{name: gen, envs: [e.env]}]\n",
            ),
            ("apps/web/e.env", "A=ENC[AES256_GCM,data:x,type:str]\nsops_mac=ENC[AES256_GCM,data:y,type:str]\n"),
            ("apps/web/p.yaml", pod),
        ],
        "
        flux-system/flux-system
        flux-system/web
          - Pod default/p Encrypted
          - Secret default/gen Encrypted
          ! Encrypted apps/web/p.yaml:1
          ! Encrypted apps/web/kustomization.yaml:3
        ",
    );
}

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

#[test]
fn links_resolve_inside_the_source() {
    check(
        &[
            ("clusters/c/web.yaml", &unit("web", "")),
            ("apps/web", "-> ../shared/web"),
            ("shared/web/a.yaml", &config("a")),
        ],
        "
        flux-system/flux-system
        flux-system/web
          ConfigMap default/a
        ",
    );
}

#[test]
fn an_object_beyond_the_limit_is_withheld() {
    let big = config("big").replace("k: v", &format!("k: {}", "x".repeat(1_600_000)));
    let rendered = check_with(
        &[("somewhere/a.yaml", &config("a")), ("somewhere/big.yaml", &big)],
        &Target { root: RootSpec::Path("./somewhere/".into()), ..target() },
        "
        flux-system/flux-system
          ConfigMap default/a
          - ConfigMap default/big TooLarge
          ! TooLarge somewhere/big.yaml:1
        ",
    );
    assert!(rendered.whole);
}

#[test]
fn equal_inputs_give_equal_blobs_and_reads_are_recorded() {
    let files = [
        ("clusters/c/web.yaml", &*unit("web", "components: [../extra]\nignoreMissingComponents: true")),
        ("apps/web/a.yaml", &*config("a")),
    ];
    let render = || render_cluster(&SourceSet::new(source(&files)), &target());
    let blobs = |r: &RenderedCluster| {
        let cluster = driftless_protocol::id::ClusterId::from_bytes([7; 16]);
        let assembled = driftless_render::assemble::assemble(cluster, r, &Default::default()).unwrap();
        assembled.blobs().map(|(d, b)| (d, b.to_vec())).collect::<Vec<_>>()
    };
    let (first, second) = (render(), render());
    assert_eq!(blobs(&first), blobs(&second));
    let read: Vec<&str> = first.units[1].reads.paths().map(|(_, path)| path).collect();
    for path in ["apps/web", "apps/web/a.yaml", "apps/web/kustomization.yaml", "apps/extra"] {
        assert!(read.contains(&path), "{path} was read and not noted: {read:?}");
    }
}

#[test]
fn a_report_counts_grades_and_lints() {
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: r, namespace: default}\nspec: {interval: 1h}\n";
    let old = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: p}\nspec: {}\n";
    let rendered = render_cluster(
        &SourceSet::new(source(&[
            ("clusters/c/a.yaml", &unit("a", "nonsense: 1")),
            ("clusters/c/b.yaml", &unit("b", "")),
            ("clusters/c/d.yaml", &unit("d", "")),
            ("apps/a/a.yaml", &config("a")),
            ("apps/b/r.yaml", release),
            ("apps/b/old.yaml", old),
        ])),
        &target(),
    );
    let report = ClusterReport::of(&target().cluster, &rendered);
    let levels: Vec<_> = report.units.iter().map(|u| format!("{} {:?}", u.unit.name, u.level)).collect();
    assert_eq!(levels, ["a Partly", "b HandedThrough", "d Held", "flux-system Exact"]);
    let totals = report.totals;
    assert_eq!((totals.units, totals.held, totals.objects, totals.handed_through), (4, 1, 3, 1));
    assert_eq!((totals.errors, totals.warnings), (1, 3));
    let said: Vec<String> = report.units[1].problems.iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("apps/b/r.yaml:1: HandedThrough: 1 HelmRelease"), "{said:?}");
    assert!(
        said[1].starts_with("apps/b/old.yaml:1: NamespaceMissing: PodDisruptionBudget.policy p has no namespace"),
        "{said:?}"
    );
    assert!(said[2].contains("use policy/v1"), "{said:?}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ClusterReport>(&json).unwrap(), report);
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
