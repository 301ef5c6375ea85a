//! The architecture as a test: which crate may see which, what pure crates may name, how long a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates of ours each crate may depend on; an arrow that is not here is forbidden.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("driftless-yaml", &[]),
    ("driftless-subst", &[]),
    ("driftless-cel", &[]),
    ("driftless-protocol", &[]),
    ("driftless-render", &["driftless-cel", "driftless-protocol", "driftless-yaml", "driftless-subst"]),
    ("driftless-rollout", &["driftless-protocol"]),
    ("driftless-reconcile", &["driftless-cel", "driftless-protocol", "driftless-subst", "driftless-yaml"]),
    ("driftless-source", &["driftless-protocol", "driftless-render"]),
    ("driftless-store", &["driftless-protocol"]),
    (
        "driftless-hub",
        &["driftless-protocol", "driftless-render", "driftless-rollout", "driftless-source", "driftless-store"],
    ),
    // Never render: what an agent applies was rendered and signed by its hub.
    ("driftless-agent", &["driftless-protocol", "driftless-reconcile", "driftless-subst", "driftless-yaml"]),
    ("driftless-cli", &["driftless-protocol", "driftless-render", "driftless-source", "driftless-yaml"]),
];

/// The one crate that sees everything.
const TOP: &str = "driftless-e2e";

/// Outside crates a pure crate may use. No runtime, no socket, no clock, no randomness, no Kubernetes client.
const PURE: &[(&str, &[&str])] = &[
    ("driftless-yaml", &["libyaml-rs", "thiserror"]),
    ("driftless-subst", &["sha2", "thiserror"]),
    ("driftless-cel", &["kube-cel", "serde_json", "thiserror"]),
    (
        "driftless-protocol",
        &[
            "base64",
            "bincode",
            "blake3",
            "ed25519-dalek",
            "serde",
            "serde_json",
            "smol_str",
            "thiserror",
            "zeroize",
            "zstd",
        ],
    ),
    (
        "driftless-render",
        &["base64", "blake3", "flate2", "foldhash", "regex", "serde", "serde_json", "sha2", "thiserror"],
    ),
    ("driftless-rollout", &["serde", "thiserror"]),
    ("driftless-reconcile", &["base64", "blake3", "serde", "serde_json", "thiserror", "zeroize"]),
];

/// What the sources of a pure crate may not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env::var",
    "std::thread::spawn",
    "SystemTime::now",
    "Instant::now",
    "tokio::",
    "quinn::",
    "kube::",
    "gix::",
    "getrandom",
];

/// The longest file; beyond it, split by the question it answers.
const LONGEST: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_path_buf()
}

struct Package {
    dir: PathBuf,
    /// Not optional, not for tests or builds only.
    needs: BTreeSet<String>,
    /// All but those for tests: optional ones too.
    uses: BTreeSet<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let (mut needs, mut uses) = (BTreeSet::new(), BTreeSet::new());
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"] == "dev" {
                continue;
            }
            let name = dependency["name"].as_str().expect("name").to_owned();
            if dependency["optional"] == false {
                needs.insert(name.clone());
            }
            uses.insert(name);
        }
        let manifest = PathBuf::from(package["manifest_path"].as_str().expect("manifest"));
        let dir = manifest.parent().expect("folder").to_path_buf();
        packages.insert(package["name"].as_str().expect("name").to_owned(), Package { dir, needs, uses });
    }
    packages
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources_of(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&dir.join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|p| {
            let text = std::fs::read_to_string(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
            (p, text)
        })
        .collect()
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(n, l)| (n + 1, l))
}

#[test]
fn arrows_between_crates_point_one_way() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = MAY_SEE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        if name == TOP {
            continue;
        }
        let Some(may_see) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} has no row in MAY_SEE"));
            continue;
        };
        for used in package.uses.iter().filter(|u| u.starts_with("driftless-")) {
            if !may_see.contains(&used.as_str()) {
                wrong.push(format!("{name} -> {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden edges:\n{}", wrong.join("\n"));
    for (name, _) in MAY_SEE {
        assert!(packages.contains_key(*name), "MAY_SEE names {name}, which is no crate of the workspace");
    }
}

#[test]
fn pure_crates_use_only_pure_crates() {
    let packages = packages();
    let mut wrong = Vec::new();
    for (name, allowed) in PURE {
        for needed in packages[*name].needs.iter().filter(|n| !n.starts_with("driftless-")) {
            if !allowed.contains(&needed.as_str()) {
                wrong.push(format!("{name} needs {needed}"));
            }
        }
    }
    assert!(wrong.is_empty(), "pure crates with other dependencies:\n{}", wrong.join("\n"));
}

#[test]
fn pure_crates_name_no_clock_file_socket_or_process() {
    let packages = packages();
    let mut wrong = Vec::new();
    for (name, _) in PURE {
        for (path, text) in sources_of(&packages[*name].dir) {
            // The feature `quic` of the protocol is its I/O, behind a switch.
            if path.components().any(|c| c.as_os_str() == "quic") {
                continue;
            }
            for (line, code) in code(&text) {
                for impure in IMPURE.iter().filter(|i| code.contains(**i)) {
                    wrong.push(format!("{}:{line}: {impure}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pure crates that touch the outside:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_wire_folder_names_bincode_and_only_yaml_is_unsafe() {
    let packages = packages();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        for (path, text) in sources_of(&package.dir) {
            let inside_wire = name == "driftless-protocol" && path.components().any(|c| c.as_os_str() == "wire");
            for (line, code) in code(&text) {
                if code.contains("bincode") && !inside_wire {
                    wrong.push(format!("{}:{line}: bincode", path.display()));
                }
                if code.contains("unsafe ") && name != "driftless-yaml" {
                    wrong.push(format!("{}:{line}: unsafe", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "out of place:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_small_enough_to_hold_in_the_head() {
    let mut long = Vec::new();
    for package in packages().values() {
        for (path, text) in sources_of(&package.dir) {
            let lines = text.lines().count();
            if lines > LONGEST {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "split by the question they answer:\n{}", long.join("\n"));
}

#[test]
fn the_top_level_is_the_one_agreed_on() {
    let allowed = ["hub", "agent", "protocol", "charts", "e2e", "target"];
    for entry in std::fs::read_dir(root()).expect("the workspace can be listed") {
        let entry = entry.expect("entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let folder = entry.file_type().expect("type").is_dir();
        assert!(!folder || name.starts_with('.') || allowed.contains(&name.as_str()), "unexpected folder {name}");
    }
}
