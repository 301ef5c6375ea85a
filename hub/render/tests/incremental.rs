//! Cost follows the change, and the result does not: after any sequence of commits a cached render equals a clean one.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use driftless_protocol::id::Revision;
use driftless_render::flux::{
    Basis, Cache, RenderedCluster, Shelf, render_cluster, render_cluster_cached, render_cluster_on_basis,
};
use driftless_render::target::{GitRef, RootSpec, SourceSet, SourceTree, Target};
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
        ("clusters/c/settings.yaml", Some(config("settings", "second")), 2),
        ("apps/a/own.yaml", Some(config("own", "b")), 1),
        ("apps/a/stray.yaml", Some(config("stray", "b")), 0),
        ("apps/base/shared.yaml", Some(config("shared", "new")), 2),
        ("apps/d/deep/z.yaml", Some(config("z", "new")), 1),
        ("apps/d/deep/z.yaml", None, 0), // as it was before
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
    let cache = Cache::new(8000);
    let mut files = repository();
    for round in 0..20 {
        files.insert("apps/a/own.yaml".into(), config("own", &round.to_string()));
        let rendered = render_cluster_cached(&sources(&files), &target(), &cache);
        assert_eq!(format!("{rendered:?}"), format!("{:?}", render_cluster(&sources(&files), &target())));
        let stats = cache.stats();
        assert!(stats.bytes <= 6000 && stats.parsed_bytes <= 2000, "{stats:?}");
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
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

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

/// A shelf in memory, which may be asked to forget.
#[derive(Default)]
struct MemShelf(Mutex<BTreeMap<[u8; 32], Vec<u8>>>);

impl Shelf for MemShelf {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(key).cloned()
    }

    fn put(&self, key: &[u8; 32], bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(*key, bytes);
    }
}

const OTHER: &str = "https://example.org/other";

/// The fleet's repository and another one that it declares, at a commit.
fn two_sources(files: &Files, commit: usize) -> SourceSet {
    let (mut own, mut other) = (MemTree::new(), MemTree::new());
    for (path, text) in files {
        match path.strip_prefix("other:") {
            Some(path) => other.insert(path, text.as_bytes().to_vec()),
            None => own.insert(path.as_str(), text.as_bytes().to_vec()),
        }
    }
    let source = |id: &str, tree, url: &str| SourceTree {
        id: id.into(),
        tree: Arc::new(tree),
        revision: Revision { reference: "main".into(), commit: format!("{commit:040}") },
        url: url.into(),
        reference: GitRef::Branch("main".into()),
    };
    SourceSet::new(source("flux-system/flux-system", own, "https://example.org/fleet")).with(source(
        "elsewhere",
        other,
        OTHER,
    ))
}

/// `c` and `d` have roots of their own and the same unit in them, written in two files; `e` and `f` share a root and differ
/// in a variable.
fn fleet() -> Vec<Target> {
    let at = |name: &str, root: &str, region: &str| Target {
        root: RootSpec::Path(format!("clusters/{root}")),
        variables: BTreeMap::from([("region".to_owned(), region.to_owned())]),
        ..Target::new(name.parse().unwrap())
    };
    vec![at("c", "c", "north"), at("d", "d", "north"), at("e", "shared", "north"), at("f", "shared", "south")]
}

fn fleet_repository() -> Files {
    let mut files = repository();
    let mut put = |path: &str, text: String| drop(files.insert(path.to_owned(), text));
    put("clusters/d/units.yaml", format!("# a line more\n{}", kustomization("a", "targetNamespace: one")));
    put("clusters/shared/a.yaml", kustomization("a", "targetNamespace: one\n  postBuild: {substitute: {k: v}}"));
    put("clusters/shared/d.yaml", kustomization("d", "postBuild: {substituteFrom: []}"));
    put("apps/d/region.yaml", config("region", "${region}"));
    put("apps/base/kustomization.yaml", "resources: [shared.yaml]\ncomponents: [../part]\n".into());
    put(
        "apps/part/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {part: one}\n".into(),
    );
    put(
        "clusters/c/other.yaml",
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: other, namespace: flux-system}}\nspec: \
             {{interval: 1m, url: {OTHER}, ref: {{branch: main}}}}\n---\n{}",
            kustomization("o", "")
                .replace("path: ./apps/o", "path: ./")
                .replace("name: flux-system}\n", "name: other}\n")
        ),
    );
    put("other:x.yaml", config("x", "other"));
    put("other:readme.txt", "listed, and not read".into());
    files
}

#[test]
fn equal_units_of_a_fleet_are_built_once() {
    let cache = Cache::new(64 << 20);
    let mut files = fleet_repository();
    let render = |files: &Files| {
        let before = cache.stats().builds;
        for target in fleet() {
            let sources = two_sources(files, 1);
            let rendered = render_cluster_cached(&sources, &target, &cache);
            assert_eq!(format!("{rendered:?}"), format!("{:?}", render_cluster(&sources, &target)));
            let held: Vec<_> = rendered.units.iter().filter_map(|u| u.held()).collect();
            assert!(held.is_empty(), "{held:?}");
        }
        cache.stats().builds - before
    };
    // Three roots; `a` for c and d as one, and for e and f as one; `b`, `o` of c; `d` of c, and of e and f one each, which
    // ask for the variable that differs.
    assert_eq!(render(&files), 3 + 2 + 2 + 3);
    files.insert("apps/a/own.yaml".into(), config("own", "new"));
    assert_eq!(render(&files), 2, "`a` for c and d, and for e and f");
    files.insert("apps/d/region.yaml".into(), config("region", "gone"));
    assert_eq!(render(&files), 2, "nobody asks for the variable any more: `d` of c, and of e and f as one");
    files.insert("other:x.yaml".into(), config("x", "new"));
    assert_eq!(render(&files), 1, "only the unit of the other source");
}

#[test]
fn a_variable_that_is_not_asked_for_builds_nothing() {
    let cache = Cache::new(64 << 20);
    let mut files = repository();
    let render = |files: &Files| {
        let before = cache.stats().builds;
        drop(render_cluster_cached(&sources(files), &target(), &cache));
        cache.stats().builds - before
    };
    assert_eq!(render(&files), 4);
    let with = |more: &str| config("settings", "first").replace("data: {", &format!("data: {{{more}, "));
    files.insert("clusters/c/settings.yaml".into(), with("unused: '1'"));
    assert_eq!(render(&files), 1, "the root, which holds the settings; nobody asks for the variable");
    files.insert("clusters/c/settings.yaml".into(), with("k: second, unused: '1'").replace("k: 'first'", "z: '1'"));
    assert_eq!(render(&files), 2, "the root and the unit that asks for k");
}

#[test]
fn a_restart_reads_back_what_still_holds_and_nothing_else() {
    let shelf = Arc::new(MemShelf::default());
    let cache = |build: u8| Cache::new(64 << 20).with_shelf(shelf.clone(), [build; 32]);
    let mut files = repository();
    let render = |files: &Files, cache: &Cache| {
        let rendered = render_cluster_cached(&sources(files), &target(), cache);
        assert_eq!(format!("{rendered:?}"), format!("{:?}", render_cluster(&sources(files), &target())));
        (cache.stats().builds, cache.stats().loads)
    };
    assert_eq!(render(&files, &cache(1)), (4, 0));
    assert_eq!(render(&files, &cache(1)), (0, 4));
    assert_eq!(render(&files, &cache(2)), (4, 0), "another program believes nothing");
    assert_eq!(render(&files, &cache(2)), (0, 4));
    files.insert("apps/base/shared.yaml".into(), config("shared", "new"));
    assert_eq!(render(&files, &cache(2)), (2, 2), "only what does not read the file");
    for bytes in shelf.0.lock().unwrap().values_mut() {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    assert_eq!(render(&files, &cache(2)), (4, 0), "damaged bytes are not believed");
    shelf.0.lock().unwrap().clear();
    assert_eq!(render(&files, &cache(2)), (4, 0), "a shelf may be emptied");
}

/// A cluster as a hub keeps it.
#[derive(Default)]
struct Kept {
    rendered: RenderedCluster,
    basis: Option<Basis>,
}

impl Kept {
    /// What a hub does with a new commit: nothing where the basis holds. Whether it rendered.
    fn follow(&mut self, sources: &SourceSet, target: &Target, cache: &Cache) -> bool {
        match self.basis.as_ref().and_then(|b| b.still_holds(sources, target, cache)) {
            Some((basis, revisions)) => {
                self.rendered.revisions = revisions;
                self.basis = Some(basis);
                false
            }
            None => {
                (self.rendered, self.basis) = render_cluster_on_basis(sources, target, cache);
                true
            }
        }
    }
}

#[test]
fn a_commit_renders_only_the_clusters_it_touches() {
    let cache = Cache::new(64 << 20);
    let targets = fleet();
    let mut kept: Vec<Kept> = targets.iter().map(|_| Kept::default()).collect();
    let mut files = fleet_repository();
    let mut commit = 0;
    let mut follow = |files: &Files| -> String {
        commit += 1;
        let sources = two_sources(files, commit);
        let mut touched = String::new();
        for (target, kept) in targets.iter().zip(&mut kept) {
            if kept.follow(&sources, target, &cache) {
                touched.push_str(target.cluster.as_str());
            }
            assert_eq!(format!("{:?}", kept.rendered), format!("{:?}", render_cluster(&sources, target)));
        }
        touched
    };
    assert_eq!(follow(&files), "cdef");
    assert_eq!(follow(&files), "", "a commit that changes no file");
    for (path, text, touched) in [
        ("apps/unused.yaml", config("unused", "v"), ""),
        ("apps/b/kustomization.yaml", "resources: [../base]\nnamePrefix: z-\n".to_owned(), "c"),
        ("clusters/d/more.yaml", config("more", "1"), "d"),
        ("apps/d/x.yaml", config("x", "new"), "cef"),
        ("apps/part/kustomization.yaml", "kind: Component\ncommonAnnotations: {part: two}\n".to_owned(), "cdef"),
        ("other:x.yaml", config("x", "new"), "c"),
        ("other:readme.txt", "not read".to_owned(), ""),
        ("clusters/g/a.yaml", kustomization("a", ""), ""),
    ] {
        files.insert(path.to_owned(), text);
        assert_eq!(follow(&files), touched, "after a change of {path}");
    }
}

/// Paths and texts that matter to a fleet, besides those of one cluster.
const FLEET_PATHS: &[&str] = &[
    "clusters/d/units.yaml",
    "clusters/shared/a.yaml",
    "clusters/shared/d.yaml",
    "clusters/c/other.yaml",
    "apps/d/region.yaml",
    "apps/part/kustomization.yaml",
    "other:x.yaml",
    "other:kustomization.yaml",
    ".sourceignore",
    "clusters/shared",
];

fn fleet_texts() -> Vec<String> {
    let mut texts = texts();
    texts.extend([
        config("region", "${region} ${k}"),
        config("region", "${k:=none}"),
        kustomization("d", "postBuild: {substitute: {k: '1'}}"),
        kustomization("a", "postBuild: {substituteFrom: [{kind: ConfigMap, name: settings, optional: true}]}"),
        "kind: Component\nnameSuffix: -part\n".into(),
        "resources: [x.yaml]\n".into(),
        "own.yaml\n!apps/\n".into(),
    ]);
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fleet_that_follows_equals_one_rendered_anew(
        edits in prop::collection::vec((0..PATHS.len() + FLEET_PATHS.len(), 0..fleet_texts().len() + 6, 0..12usize), 1..12),
        limit in prop_oneof![Just(1usize << 14), Just(1 << 24)],
    ) {
        let shelf = Arc::new(MemShelf::default());
        let make = || Cache::new(limit).with_shelf(shelf.clone(), [3; 32]);
        let mut cache = make();
        let (targets, texts) = (fleet(), fleet_texts());
        let mut kept: Vec<Kept> = targets.iter().map(|_| Kept::default()).collect();
        let mut files = fleet_repository();
        for (commit, (path, text, event)) in std::iter::once((usize::MAX, 0, 0)).chain(edits).enumerate() {
            if let Some(path) = PATHS.iter().chain(FLEET_PATHS).nth(path) {
                match texts.get(text) {
                    Some(text) => {
                        files.retain(|known, _| !known.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{known}/")));
                        files.insert((*path).to_owned(), text.clone());
                    }
                    None => drop(files.remove(*path)),
                }
            }
            match event {
                // A restart: memory is gone, the shelf is not.
                1 => {
                    cache = make();
                    kept = targets.iter().map(|_| Kept::default()).collect();
                }
                2 => files = fleet_repository(),
                _ => {}
            }
            let sources = two_sources(&files, commit);
            for (target, kept) in targets.iter().zip(&mut kept) {
                kept.follow(&sources, target, &cache);
                let clean = render_cluster(&sources, target);
                prop_assert_eq!(format!("{:#?}", kept.rendered), format!("{clean:#?}"));
            }
        }
    }
}
