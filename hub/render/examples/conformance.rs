//! Compares our builds with recorded ones, or writes builds of a folder of files for comparison.
//!
//! ```text
//! conformance cases FILE.json [NAME]     # [{name, dir, files: {path: text}, expected: text|null, error: bool}]
//! conformance dirs ROOT OUT < LIST       # builds each folder of LIST below ROOT into OUT/<number>.yaml or .err
//! conformance show ROOT DIR              # prints one build
//! ```

use driftless_render::kustomize::{Options, build};
use driftless_render::tree::MemTree;
use driftless_yaml::{Dialect, Limits};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

#[derive(Deserialize)]
struct Case {
    name: String,
    dir: String,
    files: BTreeMap<String, String>,
    expected: Option<String>,
    error: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cases", file] => cases(file, None),
        ["cases", file, name] => cases(file, Some(name)),
        ["dirs", root, out] => dirs(root, out),
        ["show", root, dir] => {
            print!("{}", render(&read(Path::new(root))?, dir)?);
            Ok(())
        }
        _ => Err("usage: conformance cases FILE [NAME] | dirs ROOT OUT < LIST | show ROOT DIR".into()),
    }
}

fn render(tree: &MemTree, dir: &str) -> Result<String, String> {
    let built = build(tree, dir, &Options::default()).map_err(|e| e.to_string())?;
    driftless_yaml::to_stream(built.resources.iter().map(|r| &r.node)).map_err(|e| e.to_string())
}

/// Canonical JSON of every document.
fn objects(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let documents =
        driftless_yaml::parse_all(text.as_bytes(), Dialect::Resource, &Limits::default()).map_err(|e| e.to_string())?;
    let json = |node: &driftless_yaml::Node| {
        let mut out = Vec::new();
        node.write_json(&mut out).map_err(|e| e.to_string()).map(|()| out)
    };
    documents.iter().map(|d| json(&d.node)).collect()
}

fn cases(file: &str, only: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(file)?)?;
    let (mut bytes, mut equal, mut errors, mut wrong) = (0, 0, 0, 0);
    for case in cases.iter().filter(|c| only.is_none_or(|name| c.name.contains(name))) {
        let mut tree = MemTree::new();
        for (path, text) in &case.files {
            tree.insert(path.trim_start_matches("./"), text.as_bytes());
        }
        let expected = case.expected.as_deref().map(|t| t.trim_start_matches('\n'));
        let verdict = match (render(&tree, &case.dir), expected, case.error) {
            (Ok(ours), Some(theirs), false) if ours == theirs => {
                bytes += 1;
                "equal bytes".to_owned()
            }
            (Ok(ours), Some(theirs), false) if objects(&ours)? == objects(theirs)? => {
                equal += 1;
                "equal objects".to_owned()
            }
            (Ok(ours), Some(theirs), false) => {
                wrong += 1;
                if only.is_some() {
                    format!("DIFFERENT\n--- ours\n{ours}\n--- theirs\n{theirs}")
                } else {
                    "DIFFERENT".to_owned()
                }
            }
            (Err(e), _, true) => {
                errors += 1;
                format!("error agrees: {e}")
            }
            (Ok(ours), _, true) => {
                wrong += 1;
                if only.is_some() { format!("NO ERROR\n{ours}") } else { "NO ERROR".to_owned() }
            }
            (Err(e), _, false) => {
                wrong += 1;
                format!("ERROR: {e}")
            }
            (Ok(_), None, false) => "nothing expected".to_owned(),
        };
        println!("{}: {verdict}", case.name);
    }
    println!("equal bytes {bytes}, equal objects {equal}, errors agreeing {errors}, wrong {wrong}");
    Ok(())
}

/// A folder of the host as a tree; symbolic links stay links.
fn read(root: &Path) -> std::io::Result<MemTree> {
    let mut tree = MemTree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                tree.insert_link(name, std::fs::read_link(&path)?.to_string_lossy().into_owned());
            } else if kind.is_dir() {
                if entry.file_name() != ".git" {
                    folders.push(path);
                }
            } else {
                tree.insert(name, std::fs::read(&path)?);
            }
        }
    }
    Ok(tree)
}

fn dirs(root: &str, out: &str) -> Result<(), Box<dyn std::error::Error>> {
    let tree = read(Path::new(root))?;
    std::fs::create_dir_all(out)?;
    let mut list = String::new();
    std::io::stdin().read_to_string(&mut list)?;
    for (number, dir) in list.lines().enumerate() {
        let (ending, text) = match render(&tree, dir) {
            Ok(text) => ("yaml", text),
            Err(e) => ("err", format!("{e}\n")),
        };
        std::fs::write(Path::new(out).join(format!("{number:04}.{ending}")), text)?;
    }
    Ok(())
}
