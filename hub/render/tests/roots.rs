//! Roots of clusters: where they are found, and what of Flux itself stands in them.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{find_roots, render_cluster};
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;

fn tree(files: &[(&str, &str)]) -> MemTree {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(*path, text.as_bytes());
    }
    tree
}

fn unit(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\n\
         spec:\n  path: {path}\n  interval: 1m\n  prune: true\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

#[test]
fn roots_are_what_bootstrap_says_wherever_it_stands_now() {
    let roots = |files: &[(&str, &str)]| -> Vec<String> {
        find_roots("s", &tree(files)).unwrap().into_iter().map(|root| root.path).collect()
    };
    let (one, two) = (unit("flux-system", "./clusters/prod/00", ""), unit("flux-system", "./clusters/prod/01", ""));
    let own = unit("apps", "./apps/web", "");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    let all = [
        ("apps/flux-system/prod/00/kustomize.yaml", one.as_str()),
        ("apps/flux-system/prod/01/kustomize.yaml", two.as_str()),
        ("apps/web/kustomize.yaml", own.as_str()),
        ("clusters/prod/00/map.yaml", map),
        ("clusters/prod/01/map.yaml", map),
    ];
    assert_eq!(roots(&all), ["clusters/prod/00", "clusters/prod/01"]);
    // Without it, a folder that its own Kustomization names; and a path that is no folder is none.
    assert_eq!(roots(&all[2..]), ["apps/web"]);
    let gone = unit("flux-system", "./clusters/${ENVIRONMENT}", "");
    assert_eq!(roots(&[("apps/flux-system/base/kustomize.yaml", &gone), ("apps/web/kustomize.yaml", &own)]), [""; 0]);
}

/// A Kustomization that a known root renders is a unit of it, also when it names its own folder.
#[test]
fn what_a_root_leads_to_is_no_root() {
    let roots = |files: &[(&str, String)]| -> Vec<String> {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        find_roots("s", &tree(&files)).unwrap().into_iter().map(|root| root.path).collect()
    };
    let map = || "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n".to_owned();
    let file = |path: &'static str, text: String| (path, text);
    let sync = file("clusters/prod/flux-system/gotk-sync.yaml", unit("flux-system", "./clusters/prod", ""));
    let apps = file("clusters/prod/apps.yaml", unit("apps", "./apps", ""));
    let redis = file("apps/redis/ks.yaml", unit("redis", "./apps/redis", ""));
    let resources = |text: &str| format!("resources: [{text}]\n");
    let other = [
        file("fleet/eu/ks.yaml", unit("eu", "./fleet/eu", "")),
        file("fleet/eu/map.yaml", map()),
        file("clusters/lone/ks.yaml", unit("x", "./lone", "")),
        file("lone/map.yaml", map()),
        file("clusters/shared/ks.yaml", unit("y", "./lone", "")),
    ];
    let with = |files: &[(&'static str, String)]| {
        let mut all = other.to_vec();
        all.push(sync.clone());
        all.extend_from_slice(files);
        roots(&all)
    };
    let true_ones = ["clusters/lone", "clusters/prod", "clusters/shared", "fleet/eu"];
    // By a kustomization file, by the files of a folder, by a component above, by another unit's path.
    assert_eq!(
        with(&[apps.clone(), redis.clone(), file("apps/kustomization.yaml", resources("redis/ks.yaml"))]),
        true_ones
    );
    assert_eq!(with(&[apps.clone(), redis.clone()]), true_ones);
    assert_eq!(
        with(&[
            file(
                "clusters/prod/kustomization.yaml",
                "resources: [flux-system/gotk-sync.yaml]\ncomponents: [../../apps]\n".into()
            ),
            file("apps/kustomization.yaml", resources("redis")),
            file("apps/redis/kustomization.yaml", resources("ks.yaml")),
            redis.clone(),
        ]),
        true_ones
    );
    // Not reached: another root.
    let itself = with(&[apps.clone(), redis.clone(), file("apps/kustomization.yaml", resources("other.yaml"))]);
    assert_eq!(itself, ["apps/redis", "clusters/lone", "clusters/prod", "clusters/shared", "fleet/eu"]);
    // A folder beside the clusters that one of them reads is none; with a part that nothing reads it stays.
    let shared = file("clusters/prod/shared.yaml", unit("shared", "./clusters/shared", ""));
    assert_eq!(with(std::slice::from_ref(&shared)), ["clusters/lone", "clusters/prod", "fleet/eu"]);
    let part = file("clusters/prod/shared.yaml", unit("shared", "./clusters/shared/part", ""));
    assert_eq!(with(&[part, file("clusters/shared/part/ks.yaml", unit("z", "./lone", ""))]), true_ones);
    // Another source's path is another folder, and another cluster's units are its own.
    let foreign = |text: &str| file("clusters/prod/shared.yaml", shared.1.replace("name: flux-system}\n", text));
    assert_eq!(with(&[foreign("name: elsewhere}\n")]), true_ones);
    assert_eq!(with(&[foreign("name: flux-system}\n  kubeConfig: {secretRef: {name: other}}\n")]), true_ones);
}

/// Strict substitution would refuse the text of Flux's own definitions, which are never sent.
#[test]
fn expressions_in_fluxs_own_definitions_hold_nothing_up() {
    let sync = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: flux-system, namespace: flux-system}}\n\
         spec: {{interval: 1m, url: 'https://example.org/fleet', ref: {{branch: main}}}}\n---\n{}",
        unit("flux-system", "./clusters/c", "  postBuild: {substitute: {REGION: eu}}\n")
    );
    let labels = "labels: {app.kubernetes.io/part-of: flux, app.kubernetes.io/instance: flux-system}";
    let components = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: kustomizations.kustomize.toolkit.fluxcd.io, {labels}}}\n\
         spec: {{description: 'such as ${{var}} or ${{var:position}}'}}\n"
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: default}\ndata: {a: '${REGION}'}\n";
    let render = |files: &[(&str, &str)]| {
        let root = SourceTree {
            id: "flux-system/flux-system".into(),
            tree: Arc::new(tree(files)),
            revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
            url: "https://example.org/fleet".into(),
            reference: GitRef::Branch("main".into()),
        };
        let target = Target { root: RootSpec::Path("clusters/c".into()), ..Target::new("c".parse().unwrap()) };
        render_cluster(&SourceSet::new(root), &target)
    };
    let files = [
        ("clusters/c/flux-system/gotk-sync.yaml", sync.as_str()),
        ("clusters/c/flux-system/gotk-components.yaml", components.as_str()),
        ("clusters/c/map.yaml", map),
    ];
    let rendered = render(&files);
    let unit = &rendered.units[0];
    assert!(unit.held().is_none(), "{:?}", unit.problems);
    let sent: Vec<&str> = unit.objects().iter().map(|o| o.key.name.as_str()).collect();
    assert_eq!(sent, ["m"]);
    assert!(String::from_utf8_lossy(&unit.objects()[0].bytes).contains("\"a\":\"eu\""));
    assert!(unit.problems.iter().any(|p| p.message.contains("not sent, so its unit goes on")), "{:?}", unit.problems);
    // What is sent must be whole.
    let open = map.replace("REGION", "NOWHERE");
    let rendered = render(&[files[0], files[1], ("clusters/c/map.yaml", &open)]);
    assert!(rendered.units[0].held().is_some_and(|why| why.message.contains("`NOWHERE` is not set")));
}
