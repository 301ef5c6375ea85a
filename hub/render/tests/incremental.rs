//! Cost follows the change, and the result does not: after any sequence of commits a cached render equals a clean one.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::BTreeMap;
use std::sync::Arc;

use driftless_protocol::id::Revision;
use driftless_render::flux::{Cache, render_cluster, render_cluster_cached};
use driftless_render::target::{GitRef, SourceSet, SourceTree, Target};
use driftless_render::tree::MemTree;
use proptest::prelude::*;

type Files = BTreeMap<String, String>;

fn sources(files: &Files) -> SourceSet {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(path.as_str(), text.as_bytes().to_vec());
    }
    SourceSet::new(SourceTree {
        id: "flux-system/flux-system".into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: "1".repeat(40) },
        url: "https://example.org/fleet".into(),
        reference: GitRef::Branch("main".into()),
    })
}

fn target() -> Target {
    Target::new("c".parse().unwrap())
}

fn kustomization(name: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 10m\n  prune: true\n  path: ./apps/{name}\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n  {more}\n"
    )
}

fn config(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: flux-system}}\ndata: {{k: '{value}'}}\n"
    )
}

/// Four units: two share a base, one takes variables from a ConfigMap of another, one has no kustomization file.
fn repository() -> Files {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    Files::from([
        file("clusters/c/a.yaml", &kustomization("a", "targetNamespace: one")),
        file(
            "clusters/c/b.yaml",
            &kustomization("b", "postBuild: {substituteFrom: [{kind: ConfigMap, name: settings}]}"),
        ),
        file("clusters/c/d.yaml", &kustomization("d", "dependsOn: [{name: a}]")),
        file("clusters/c/settings.yaml", &config("settings", "first")),
        file("apps/a/kustomization.yaml", "resources: [../base, own.yaml]\n"),
        file("apps/a/own.yaml", &config("own", "a")),
        file("apps/b/kustomization.yaml", "resources: [../base]\nnamePrefix: b-\n"),
        file("apps/base/kustomization.yaml", "resources: [shared.yaml]\n"),
        file("apps/base/shared.yaml", &config("shared", "$${k} ${k}")),
        file("apps/d/x.yaml", &config("x", "d")),
        file("apps/d/deep/y.yaml", &config("y", "d")),
        file("apps/unused.yaml", &config("unused", "u")),
    ])
}

#[test]
fn a_commit_builds_only_the_units_that_read_what_it_touches() {
    let mut files = repository();
    let cache = Cache::new(64 << 20);
    let render = |files: &Files| {
        let before = cache.stats().builds;
        let rendered = render_cluster_cached(&sources(files), &target(), &cache);
        assert_eq!(format!("{rendered:?}"), format!("{:?}", render_cluster(&sources(files), &target())));
        assert!(rendered.units.iter().all(|u| u.held().is_none()), "{:?}", rendered.all_problems().collect::<Vec<_>>());
        cache.stats().builds - before
    };
    assert_eq!(render(&files), 4);
    for (path, text, builds) in [
        ("apps/unused.yaml", Some(config("unused", "v")), 0),
        ("apps/a/own.yaml", Some(config("own", "b")), 1),
        ("apps/a/stray.yaml", Some(config("stray", "b")), 0),
        ("apps/base/shared.yaml", Some(config("shared", "new")), 2),
        ("apps/d/deep/z.yaml", Some(config("z", "new")), 1),
        ("apps/d/deep/z.yaml", None, 0), // as it was before
        ("clusters/c/settings.yaml", Some(config("settings", "second")), 2),
        ("clusters/c/a.yaml", Some(kustomization("a", "targetNamespace: two")), 2),
    ] {
        match text {
            Some(text) => files.insert(path.to_owned(), text),
            None => files.remove(path),
        };
        assert_eq!(render(&files), builds, "after a change of {path}");
    }
}

#[test]
fn a_full_cache_drops_the_oldest_and_stays_right() {
    let cache = Cache::new(6000);
    let mut files = repository();
    for round in 0..20 {
        files.insert("apps/a/own.yaml".into(), config("own", &round.to_string()));
        let rendered = render_cluster_cached(&sources(&files), &target(), &cache);
        assert_eq!(format!("{rendered:?}"), format!("{:?}", render_cluster(&sources(&files), &target())));
        assert!(cache.stats().bytes <= 6000, "{:?}", cache.stats());
    }
}

/// One edit of a commit: which file, and what becomes of it.
#[derive(Clone, Debug)]
enum Edit {
    Set(usize, usize),
    Remove(usize),
    Back,
}

const PATHS: &[&str] = &[
    "clusters/c/a.yaml",
    "clusters/c/b.yaml",
    "clusters/c/d.yaml",
    "clusters/c/settings.yaml",
    "clusters/c/kustomization.yaml",
    "apps/a/kustomization.yaml",
    "apps/a/own.yaml",
    "apps/b/kustomization.yaml",
    "apps/base/kustomization.yaml",
    "apps/base/shared.yaml",
    "apps/d/x.yaml",
    "apps/d/kustomization.yaml",
    "apps/d/deep/y.yaml",
    "apps/d/deep/kustomization.yaml",
    "apps/d",
];

fn texts() -> Vec<String> {
    vec![
        kustomization("a", ""),
        kustomization("d", "dependsOn: [{name: a}]"),
        kustomization("b", "suspend: true"),
        kustomization("b", "postBuild: {substitute: {k: inline}}"),
        config("own", "1"),
        config("shared", "${k}"),
        config("settings", "other"),
        "resources: [../base]\n".into(),
        "resources: [a.yaml, b.yaml, d.yaml]\n".into(),
        "resources: [../base, own.yaml]\nnameSuffix: -z\n".into(),
        "resources: []\n".into(),
        "resources: [gone.yaml]\n".into(),
        "broken: [\n".into(),
        String::new(),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        8 => (0..PATHS.len(), 0..texts().len()).prop_map(|(path, text)| Edit::Set(path, text)),
        3 => (0..PATHS.len()).prop_map(Edit::Remove),
        1 => Just(Edit::Back),
    ];
    prop::collection::vec(edit, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_clean(edits in edits()) {
        let cache = Cache::new(1 << 20);
        let mut files = repository();
        let texts = texts();
        for edit in std::iter::once(Edit::Back).chain(edits) {
            match edit {
                Edit::Set(path, text) => {
                    let path = PATHS[path];
                    // A file where a folder was, and the other way round.
                    files.retain(|known, _| !known.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{known}/")));
                    files.insert(path.to_owned(), texts[text].clone());
                }
                Edit::Remove(path) => drop(files.remove(PATHS[path])),
                Edit::Back => files = repository(),
            }
            let clean = render_cluster(&sources(&files), &target());
            let incremental = render_cluster_cached(&sources(&files), &target(), &cache);
            prop_assert_eq!(format!("{incremental:#?}"), format!("{clean:#?}"));
        }
    }
}
