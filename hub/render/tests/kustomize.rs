//! Every folder in `tests/cases` is one idea: `in/` holds a small tree, `dir` names the folder in it that is built (else
//! its root), `expected.yaml` is what kustomize 5.8.1 prints for it (`build --reorder=none
//! --load-restrictor=LoadRestrictionsNone`), or `expected-error` holds our message where kustomize fails too.
//!
//! Expectations are checked against the real program: the one that `DRIFTLESS_KUSTOMIZE` names, else the one in the cache
//! folder of `cargo verify`, which builds it. Without either the test fails. With `DRIFTLESS_BLESS` set, `expected-error`
//! files are rewritten.

#![allow(clippy::unwrap_used)] // helpers of tests

use driftless_render::kustomize::{Options, build};
use driftless_render::tree::MemTree;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut out: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    out.sort();
    out
}

fn tree(root: &Path) -> MemTree {
    fn add(tree: &mut MemTree, root: &Path, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_symlink() {
                tree.insert_link(name, std::fs::read_link(&path).unwrap().to_str().unwrap());
            } else if path.is_dir() {
                add(tree, root, &path);
            } else {
                tree.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut out = MemTree::new();
    add(&mut out, root, root);
    out
}

fn dir(case: &Path) -> String {
    std::fs::read_to_string(case.join("dir")).unwrap_or_default().trim().to_owned()
}

fn render(case: &Path) -> Result<String, String> {
    let built = build(&tree(&case.join("in")), &dir(case), &Options::default()).map_err(|e| e.to_string())?;
    driftless_yaml::to_stream(built.resources.iter().map(|r| &r.node)).map_err(|e| e.to_string())
}

/// What is wrong with a case, if anything.
fn check(case: &Path) -> Option<String> {
    let expected = std::fs::read_to_string(case.join("expected.yaml"));
    let error = case.join("expected-error");
    match (render(case), expected) {
        (Ok(ours), Ok(theirs)) => (ours != theirs).then(|| format!("--- ours\n{ours}--- expected\n{theirs}")),
        (Err(e), Ok(_)) => Some(format!("failed: {e}")),
        (Ok(ours), Err(_)) => Some(format!("did not fail:\n{ours}")),
        (Err(e), Err(_)) => {
            if std::env::var_os("DRIFTLESS_BLESS").is_some() {
                std::fs::write(&error, format!("{e}\n")).unwrap();
            }
            let wanted = std::fs::read_to_string(&error).unwrap();
            (wanted.trim_end() != e).then(|| format!("--- ours\n{e}\n--- expected\n{wanted}"))
        }
    }
}

fn report(wrong: Vec<(PathBuf, String)>) {
    let mut text = String::new();
    for (case, why) in &wrong {
        writeln!(text, "== {}\n{why}", case.file_name().unwrap().to_str().unwrap()).unwrap();
    }
    assert!(wrong.is_empty(), "{} cases are wrong\n{text}", wrong.len());
}

#[test]
fn builds_as_kustomize_does() {
    report(cases().into_iter().filter_map(|case| check(&case).map(|why| (case, why))).collect());
}

/// The real kustomize 5.8.1.
fn program() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(program) = variable("DRIFTLESS_KUSTOMIZE") {
        return program;
    }
    let cache = variable("DRIFTLESS_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("driftless")))
        .or_else(|| Some(variable("HOME")?.join(".cache/driftless")));
    let tools = cache.map(|cache| cache.join("tools")).unwrap_or_default();
    let folders = std::fs::read_dir(&tools).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("kustomize-v5.8.1-"))
        .map(|folder| folder.path().join("kustomize"))
        .filter(|program| program.is_file())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        panic!("kustomize 5.8.1 is not in {}: name it in DRIFTLESS_KUSTOMIZE, or run `cargo verify`", tools.display())
    })
}

#[test]
fn expectations_are_those_of_the_real_program() {
    let program = program();
    let again = |case: &Path| {
        let output = std::process::Command::new(&program)
            .args(["build", "--reorder=none", "--load-restrictor=LoadRestrictionsNone"])
            .arg(case.join("in").join(dir(case)))
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .output()
            .unwrap();
        match std::fs::read_to_string(case.join("expected.yaml")) {
            Ok(expected) => (!output.status.success() || output.stdout != expected.as_bytes()).then(|| {
                format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
            }),
            Err(_) => output.status.success().then(|| "the real program does not fail".to_owned()),
        }
    };
    report(cases().into_iter().filter_map(|case| again(&case).map(|why| (case, why))).collect());
}
