//! What a report says, and that equal inputs give equal bytes.

use driftless_render::flux::{RenderedCluster, render_cluster};
use driftless_render::report::{ClusterReport, Code};
use driftless_render::target::SourceSet;

use crate::{config, source, target, unit};

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
    assert_eq!((totals.errors, totals.warnings), (2, 2));
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
fn what_has_no_namespace_and_needs_one_is_an_error_also_for_kinds_that_git_defines() {
    let crd = |scope: &str, kind: &str| {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {kind}s.acme.example}}\n\
             spec: {{group: acme.example, scope: {scope}, names: {{kind: {kind}, plural: {kind}s}}, versions: []}}\n"
        )
    };
    let object = |api: &str, kind: &str| format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\n");
    let rendered = crate::render(&[
        ("clusters/c/a.yaml", &unit("a", "")),
        ("apps/a/crd1.yaml", &crd("Namespaced", "Widget")),
        ("apps/a/crd2.yaml", &crd("Cluster", "World")),
        ("apps/a/1.yaml", &object("acme.example/v1", "Widget")),
        ("apps/a/2.yaml", &object("acme.example/v1", "World")),
        ("apps/a/3.yaml", &object("other.example/v1", "Unknown")),
        ("apps/a/4.yaml", &object("helm.toolkit.fluxcd.io/v2", "HelmRelease")),
        ("apps/a/5.yaml", &object("v1", "ConfigMap")),
        ("apps/a/6.yaml", &object("v1", "Namespace")),
    ]);
    let report = ClusterReport::of(&target().cluster, &rendered);
    let problems = report.units.iter().flat_map(|u| &u.problems).filter(|p| p.code == Code::NamespaceMissing);
    let said: Vec<String> = problems.map(|p| p.message.split(" has no").next().unwrap().to_owned()).collect();
    assert_eq!(said, ["Widget.acme.example x", "HelmRelease.helm.toolkit.fluxcd.io x", "ConfigMap x"]);
    assert_eq!(report.totals.errors, 3);
}
