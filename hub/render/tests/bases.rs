//! A base that a memo hands out is what building it would give, asks for the same files, and fails for the same reasons.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use driftless_render::kustomize::{Limits, Memo, Options, build};
use driftless_render::tree::{Entry, MemTree, Tree, TreeError};

/// Notes every path that is asked for.
struct Asked<'t> {
    tree: &'t MemTree,
    paths: Mutex<BTreeSet<String>>,
}

impl Asked<'_> {
    fn note(&self, path: &str) {
        self.paths.lock().unwrap().insert(path.to_owned());
    }
}

impl Tree for Asked<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        self.note(path);
        self.tree.entry(path)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        self.note(path);
        self.tree.list(path)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        self.note(path);
        self.tree.read(path)
    }
}

/// Everything a build says, and what it asked for.
fn outcome(tree: &MemTree, dir: &str, limits: Limits, memo: &Memo) -> (String, BTreeSet<String>) {
    let asked = Asked { tree, paths: Mutex::default() };
    let options = Options { limits, memo: memo.clone(), ..Options::default() };
    let said = match build(&asked, dir, &options) {
        Ok(built) => {
            let objects = built.resources.iter().map(|r| {
                format!("{} {:?}\n{}", r.origin, r.hashed_base_name, driftless_yaml::to_string(&r.node).unwrap())
            });
            objects.chain(built.warnings.iter().map(ToString::to_string)).collect()
        }
        Err(error) => error.to_string(),
    };
    (said, asked.paths.into_inner().unwrap())
}

fn kustomization(tree: &mut MemTree, dir: &str, text: &str) {
    tree.insert(format!("{dir}/kustomization.yaml"), text.as_bytes().to_vec());
}

/// Overlays of a base of a base, one of which goes in a circle through a folder that another one takes as it is.
fn repository() -> MemTree {
    let mut tree = MemTree::new();
    for number in 0..4 {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{number}}}\ndata: {{a: b}}\n");
        tree.insert(format!("common/{number}.yaml"), text.into_bytes());
    }
    tree.insert("common/x.env", b"A=1\n".to_vec());
    tree.insert_link("common/link.yaml", "3.yaml");
    kustomization(
        &mut tree,
        "common",
        "resources: [0.yaml, 1.yaml, 2.yaml, link.yaml]\nconfigMapGenerator:\n- {name: x, envs: [x.env]}\nvars: []\n",
    );
    kustomization(&mut tree, "site", "resources: [../common]\nnamePrefix: s-\ncommonLabels: {site: x}\n");
    for number in 0..4 {
        let text = format!("resources: [../../site]\nnamespace: n{number}\nlabels: [{{pairs: {{c: c{number}}}}}]\n");
        kustomization(&mut tree, &format!("overlays/{number}"), &text);
    }
    kustomization(&mut tree, "overlays/origins", "resources: [../../site]\nbuildMetadata: [originAnnotations]\n");
    kustomization(&mut tree, "outer", "resources: [../round]\n");
    kustomization(&mut tree, "round", "resources: [../outer/inner]\n");
    kustomization(&mut tree, "outer/inner", "resources: [../../common]\n");
    kustomization(&mut tree, "outer/inner/way", "resources: [../../../round]\n");
    kustomization(&mut tree, "other", "resources: [../round]\n");
    tree
}

const DIRS: [&str; 9] = [
    "overlays/0",
    "overlays/1",
    "overlays/2",
    "other",
    "overlays/origins",
    "outer",
    "other",
    "outer/inner/way",
    "overlays/3",
];

#[test]
fn a_shared_base_is_what_building_it_gives() {
    let memo = Memo::new(1 << 20);
    let mut tree = repository();
    type Edit = fn(&mut MemTree);
    let edits: [Edit; 5] = [
        |_| {},
        |tree| tree.insert("common/1.yaml", b"apiVersion: v1\nkind: Secret\nmetadata: {name: new}\n".to_vec()),
        |tree| tree.insert("common/x.env", b"A=2\n".to_vec()),
        |tree| tree.insert_link("common/link.yaml", "nowhere"),
        |tree| tree.insert_link("common/link.yaml", "2.yaml"),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        edit(&mut tree);
        for dir in DIRS.iter().chain(&DIRS) {
            let expected = outcome(&tree, dir, Limits::default(), &Memo::default());
            assert_eq!(outcome(&tree, dir, Limits::default(), &memo), expected, "{dir} after edit {at}");
        }
    }
}

#[test]
fn limits_hold_whoever_built_the_base() {
    let memo = Memo::new(1 << 20);
    let tree = repository();
    for _ in 0..3 {
        outcome(&tree, "overlays/0", Limits::default(), &memo);
    }
    let all: Vec<Limits> = (0..4000)
        .step_by(37)
        .map(|read_bytes| Limits { read_bytes, ..Limits::default() })
        .chain((0..5).map(|base_depth| Limits { base_depth, ..Limits::default() }))
        .chain((0..8).map(|objects| Limits { objects, ..Limits::default() }))
        .collect();
    let (mut refused, mut built) = (0, 0);
    for limits in all {
        for dir in ["overlays/0", "overlays/1", "overlays/2"] {
            let expected = outcome(&tree, dir, limits, &Memo::default());
            assert_eq!(outcome(&tree, dir, limits, &memo), expected, "{dir} {limits:?}");
            match expected.0.contains("more than") || expected.0.contains("deeper than") {
                true => refused += 1,
                false => built += 1,
            }
        }
    }
    assert!(refused > 20 && built > 20, "{refused} refused, {built} built");
}
