//! The output of kustomize itself: `golden.yaml` is what it prints for the folder `golden`.

use driftless_yaml::{Dialect, Document, Limits, parse_all, to_stream};

fn read(text: &[u8]) -> Vec<Document> {
    parse_all(text, Dialect::Resource, &Limits::default()).expect("reads")
}

fn inputs() -> Vec<Document> {
    let files: [&[u8]; 5] = [
        include_bytes!("golden/scalars.yaml"),
        include_bytes!("golden/texts.yaml"),
        include_bytes!("golden/keys.yaml"),
        include_bytes!("golden/shapes.yaml"),
        include_bytes!("golden/open-end.yaml"),
    ];
    files.into_iter().flat_map(read).collect()
}

/// Shows the first line that differs, not two screens.
fn check(found: &str, expected: &str) {
    for (n, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", n + 1);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn prints_what_kustomize_prints() {
    let found = to_stream(inputs().iter().map(|d| &d.node)).expect("prints");
    check(&found, include_str!("golden.yaml"));
}

#[test]
fn what_is_printed_reads_back_as_the_same_value() {
    let expected = include_str!("golden.yaml");
    let again = read(expected.as_bytes());
    check(&to_stream(again.iter().map(|d| &d.node)).expect("prints"), expected);
}
