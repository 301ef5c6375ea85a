//! Copy operations by tables: what lies in the artifact after them.

use super::*;
use crate::tree::MemTree;

fn tree(files: &[(&str, &str)]) -> Part {
    let mut tree = MemTree::new();
    for (path, text) in files {
        tree.insert(*path, text.as_bytes().to_vec());
    }
    Part { source: "s".into(), tree: Arc::new(tree) }
}

fn copy(text: &str) -> Copy {
    let document = driftless_yaml::parse_one(text.as_bytes(), Dialect::Resource, &Limits::default()).unwrap();
    let place = super::super::place::Place::nowhere("s");
    let mut notes = Vec::new();
    let copy = Copy::read(&Fields::of(&document.node, &place), &mut notes).map_err(|n| n.message).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    copy
}

fn made(copies: &[&str]) -> Result<Vec<String>, String> {
    let source = tree(&[
        ("README.md", "r"),
        ("config.yaml", "c"),
        ("configs/a.yaml", "a"),
        ("configs/b.yml", "b"),
        ("configs/notes.md", "n"),
        ("configs/sub/c.yaml", "sc"),
        ("configs/sub/testdata/t.yaml", "t"),
        ("deep/x/one.yaml", "1"),
        ("deep/y/two.yaml", "2"),
    ]);
    let values = tree(&[
        ("values.yaml", "image: {tag: 1, name: n}\nlist: [1, 2]\nkeep: true\n"),
        ("prod.yaml", "image: {tag: 2}\nlist: [3]\n---\nmore: {x: 1}\n"),
        ("list.yaml", "- 1\n"),
        ("bad.yaml", "a: [\n"),
    ]);
    let parts = BTreeMap::from([("s".to_owned(), source), ("v".to_owned(), values)]);
    let output = Output { name: "art".into(), revision: None, copies: copies.iter().map(|text| copy(text)).collect() };
    let tree = artifact("ns/g", &output, &parts).map_err(|note| note.message)?;
    let mut files = Vec::new();
    walk(&tree, "", &mut files).unwrap();
    Ok(files.into_iter().map(|f| format!("{f}={}", String::from_utf8_lossy(&read(&tree, &f).unwrap()))).collect())
}

#[test]
fn copies_go_where_cp_would_put_them() {
    for (copies, expected) in [
        (vec!["{from: '@s/config.yaml', to: '@artifact/apps/app.yaml'}"], vec!["apps/app.yaml=c"]),
        (vec!["{from: '@s/config.yaml', to: '@artifact/apps/'}"], vec!["apps/config.yaml=c"]),
        (vec!["{from: '@s/config.yaml', to: '@artifact/'}"], vec!["config.yaml=c"]),
        // A folder that is there already.
        (
            vec!["{from: '@s/deep/x', to: '@artifact/apps/'}", "{from: '@s/config.yaml', to: '@artifact/apps'}"],
            vec!["apps/config.yaml=c", "apps/x/one.yaml=1"],
        ),
        (vec!["{from: '@s/configs/*.yaml', to: '@artifact/apps/'}"], vec!["apps/configs/a.yaml=a"]),
        (
            vec!["{from: '@s/configs/', to: '@artifact/apps/', exclude: ['*.md', '**/testdata/**']}"],
            vec!["apps/configs/a.yaml=a", "apps/configs/b.yml=b", "apps/configs/sub/c.yaml=sc"],
        ),
        (
            vec!["{from: '@s/configs/**', to: '@artifact/apps/', exclude: ['*.md', 'sub/**']}"],
            vec!["apps/a.yaml=a", "apps/b.yml=b"],
        ),
        (vec!["{from: '@s/deep/**', to: '@artifact/'}"], vec!["x/one.yaml=1", "y/two.yaml=2"]),
        (vec!["{from: '@s/deep/*/one.yaml', to: '@artifact/'}"], vec!["deep/x/one.yaml=1"]),
        // `**` inside a pattern is one name, as in Go.
        (vec!["{from: '@s/**/*.yml', to: '@artifact/'}"], vec!["configs/b.yml=b"]),
        // Later ones win.
        (vec!["{from: '@s/config.yaml', to: '@artifact/x'}", "{from: '@s/README.md', to: '@artifact/x'}"], vec!["x=r"]),
        (vec!["{from: '@s/deep/', to: '@artifact/'}"], vec!["deep/x/one.yaml=1", "deep/y/two.yaml=2"]),
        (
            vec![
                "{from: '@s/nothing', to: '@artifact/', optional: true}",
                "{from: '@s/no*', to: '@artifact/', optional: true}",
            ],
            vec![],
        ),
    ] {
        let got = made(&copies).unwrap_or_else(|e| panic!("{copies:?}: {e}"));
        assert_eq!(got, expected, "{copies:?}");
    }
    assert_eq!(made(&["{from: '@v/', to: '@artifact/'}"]).unwrap().len(), 4, "a whole source");
}

#[test]
fn values_are_merged_as_helm_merges_them() {
    let merged = "values.yaml=image:\n  name: \"n\"\n  tag: 2\nkeep: true\nlist:\n- 3\nmore:\n  x: 1\n";
    let got = made(&[
        "{from: '@v/values.yaml', to: '@artifact/chart/values.yaml'}",
        "{from: '@v/prod.yaml', to: '@artifact/chart/values.yaml', strategy: Merge}",
    ]);
    assert_eq!(got.unwrap(), [format!("chart/{merged}")]);
    let fresh = made(&["{from: '@v/values.yaml', to: '@artifact/values.yaml', strategy: Merge}"]).unwrap();
    assert!(fresh[0].contains("image: {tag: 1"), "nothing to merge with: a copy, byte for byte: {fresh:?}");
}

#[test]
fn what_cannot_be_copied_says_why() {
    for (copies, words) in [
        (vec!["{from: '@s/nothing', to: '@artifact/'}"], "\"nothing\" is not in the source"),
        (vec!["{from: '@s/no*', to: '@artifact/'}"], "nothing in the source matches"),
        (vec!["{from: '@s/*.md', to: '@artifact/', exclude: ['*.md']}"], "excluded"),
        (vec!["{from: '@x/a', to: '@artifact/'}"], "alias \"x\""),
        (vec!["{from: 's/a', to: '@artifact/'}"], "@alias/path"),
        (vec!["{from: '@s/config.yaml', to: 'artifact/x'}"], "@artifact/"),
        (vec!["{from: '@s/config.yaml', to: '@artifact/../x'}"], "inside the artifact"),
        (vec!["{from: '@s/../x', to: '@artifact/'}"], "inside the source"),
        (vec!["{from: '@s/[', to: '@artifact/'}"], "pattern"),
        (vec!["{from: '@s/configs/**', to: '@artifact/', exclude: ['{a']}"], "exclude"),
        (
            vec!["{from: '@s/config.yaml', to: '@artifact/x'}", "{from: '@s/config.yaml', to: '@artifact/x/y'}"],
            "is a file",
        ),
        (vec!["{from: '@s/config.yaml', to: '@artifact/', strategy: Extract}"], "no .tar.gz"),
        (vec!["{from: '@s/deep', to: '@artifact/', strategy: Extract}"], "folder"),
        (
            vec![
                "{from: '@v/values.yaml', to: '@artifact/v'}",
                "{from: '@v/list.yaml', to: '@artifact/v', strategy: Merge}",
            ],
            "no map",
        ),
        (
            vec![
                "{from: '@v/values.yaml', to: '@artifact/v'}",
                "{from: '@v/bad.yaml', to: '@artifact/v', strategy: Merge}",
            ],
            "no YAML",
        ),
    ] {
        let got = made(&copies).expect_err(copies[0]);
        assert!(got.contains(words) && got.contains("artifact art of ArtifactGenerator ns/g"), "{copies:?}: {got}");
    }
}
