//! Reading: where documents start, what is refused and how it is said. Every refusal here is one of kustomize 5.8.1 too.

use driftless_yaml::{Dialect, Error, ErrorKind, Limits, Node, parse_all, parse_one, split_documents, to_string};

fn read(text: &str) -> Result<Vec<(u32, Node)>, Error> {
    let documents = parse_all(text.as_bytes(), Dialect::Resource, &Limits::default())?;
    Ok(documents.into_iter().map(|d| (d.line, d.node)).collect())
}

#[test]
fn a_file_is_cut_where_kustomize_cuts_it() {
    let cases: &[(&str, &[(u32, &str)])] = &[
        ("", &[]),
        ("a: 1", &[(1, "a: 1")]),
        ("a: 1\n---\nb: 2", &[(1, "a: 1\n"), (3, "b: 2")]),
        ("a: 1\r\n--- # c\r\nb: 2\r\n", &[(1, "a: 1\r\n"), (3, "b: 2\r\n")]),
        // The first line cuts nothing, nor does one right after a separator, nor a last line without its end.
        ("---\na: 1\n---\n---\nb: 2\n---", &[(1, "---\na: 1\n"), (4, "---\nb: 2\n---")]),
        ("a: |\n  ---\n  b\n", &[(1, "a: |\n  ---\n  b\n")]),
        ("\n\n---\n\na: 1\n", &[(1, "\n\n"), (4, "\na: 1\n")]),
    ];
    for (text, expected) in cases {
        let found = split_documents(text.as_bytes()).expect(text);
        let found: Vec<_> = found.iter().map(|c| (c.line, std::str::from_utf8(c.text).expect("text"))).collect();
        assert_eq!(found, *expected, "{text:?}");
    }
    for (text, line, shown) in [("a: 1\n---x\n", 2, "---x"), ("a: 1\n\n--- {b: 2}\nc: 3\n", 3, "---{b: 2}")] {
        let error = split_documents(text.as_bytes()).expect_err(text);
        assert_eq!((error.line, error.kind), (line, ErrorKind::Separator(shown.into())), "{text:?}");
    }
}

#[test]
fn lines_are_those_of_the_file() {
    let text =
        "# first\na: 1\n---\n# only a comment\n---\nb:\n  c: [x,\n   y]\n  d: |\n    z\n---\nnull\n---\n\n\ne: 5\n";
    let documents = read(text).expect("reads");
    let lines: Vec<_> = documents.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 6, 16]);
    let parsed = parse_all(text.as_bytes(), Dialect::Resource, &Limits::default()).expect("reads");
    let second = &parsed[1].node;
    assert_eq!(second.at(&["b"]).map(Node::line), Some(7));
    assert_eq!(second.at(&["b", "c"]).map(Node::line), Some(7));
    assert_eq!(second.as_map().and_then(|m| m.entry("b")).map(|e| e.line), Some(6));
    assert_eq!(second.at(&["b", "c"]).and_then(Node::as_seq).map(|s| s[1].line()), Some(8));
}

#[test]
fn what_nobody_looks_at_is_reported() {
    let cases = [
        ("a: 1\n", None),
        ("a: 1\n# c\n", None),
        ("a: 1\n...\n", None),
        ("a: 1\n...\nb: 2\n", Some(3)),
        ("  a: 1\nb: 2\n", Some(2)),
        ("x: 0\n---\n  a: 1\nb: 2\n", Some(4)),
    ];
    for (text, expected) in cases {
        let documents = parse_all(text.as_bytes(), Dialect::Resource, &Limits::default()).expect(text);
        assert_eq!(documents.last().and_then(|d| d.ignored), expected, "{text:?}");
    }
}

#[test]
fn refusals_name_the_place() {
    let syntax = |words: &str| ErrorKind::Syntax(words.into());
    let cases: &[(&str, u32, u32, ErrorKind)] = &[
        ("a: 1\nb: 2\na: 3\n", 3, 1, ErrorKind::DuplicateKey { key: "a".into(), first: 1 }),
        ("x: 0\n---\nc: {a: 1, \"a\": 2}\n", 3, 11, ErrorKind::DuplicateKey { key: "a".into(), first: 3 }),
        ("a:\n  1: x\n", 2, 3, ErrorKind::KeyNotText("1".into())),
        ("a: {true: x}", 1, 5, ErrorKind::KeyNotText("true".into())),
        ("a: {2020-01-01: x}", 1, 5, ErrorKind::KeyNotText("2020-01-01".into())),
        ("a: {~: x}", 1, 5, ErrorKind::KeyNotText("~".into())),
        ("a:\n  ? [1]\n  : x\n", 2, 5, ErrorKind::KeyNotScalar),
        ("a:\n  <<: {a: 1}\n  <<: {b: 2}\n", 3, 3, ErrorKind::DuplicateMerge),
        ("a: &l [{b: 1}]\nc: {<<: *l}\n", 2, 9, ErrorKind::MergeNotMap),
        ("a: {<<: 1}", 1, 9, ErrorKind::MergeNotMap),
        ("a: {<<: [[{b: 1}]]}", 1, 18, ErrorKind::MergeNotMap),
        ("a: *x", 1, 4, ErrorKind::UnknownAnchor("x".into())),
        ("a: &x {b: *x}", 1, 11, ErrorKind::RecursiveAnchor("x".into())),
        ("a: !!int x", 1, 4, ErrorKind::TagMismatch { tag: "!!int".into(), text: "x".into() }),
        ("a: !!bool yes", 1, 4, ErrorKind::TagMismatch { tag: "!!bool".into(), text: "yes".into() }),
        ("a: !!binary x", 1, 4, ErrorKind::NotBase64),
        (
            "a: 1\n---\nb:\n\t- c\n",
            4,
            1,
            syntax(
                "found character that cannot start any token, while scanning for the next token that starts on line 2",
            ),
        ),
        ("a: b: c\n", 1, 5, syntax("mapping values are not allowed in this context")),
        ("a: 1\n\nb: \u{1}\n", 3, 0, syntax("control characters are not allowed")),
    ];
    for (text, line, column, kind) in cases {
        let error = read(text).expect_err(text);
        assert_eq!((error.line, error.column, &error.kind), (*line, *column, kind), "{text:?}");
    }
    let version = parse_one(b"%YAML 1.2\n---\na: 1\n", Dialect::Yaml11, &Limits::default()).expect_err("1.2");
    assert_eq!((version.line, version.column, version.kind), (1, 1, ErrorKind::Version(1, 2)));
    assert!(read("a: [\n").is_err());
    assert!(read("a: 'x\n").is_err());
    assert!(read("a: \"\\ud83d\"\n").is_err(), "half a surrogate pair");
    let bytes = parse_one(b"a: \xFF\n", Dialect::Resource, &Limits::default());
    assert!(bytes.is_err(), "not UTF-8");
}

#[test]
fn values_that_cannot_be_written() {
    for text in ["a: .inf", "a: [-.inf]", "a: {b: .nan}"] {
        let node = read(text).expect(text).remove(0).1;
        assert!(to_string(&node).is_err(), "{text}");
        assert!(node.to_json().is_err(), "{text}");
    }
    // kustomize fails on these; JSON can hold them.
    let long = format!("? \"{}\"\n: 1\n", "k".repeat(1023));
    for text in ["a: \"\\u007f\"", "a: \"\\u0080\"", "\"k\\u0085l\": 1", &long] {
        let node = read(text).expect(text).remove(0).1;
        assert!(to_string(&node).is_err(), "{text}");
        assert!(node.to_json().is_ok(), "{text}");
    }
    let longest = format!("? \"{}\"\n: 1\n", "k".repeat(1022));
    assert!(to_string(&read(&longest).expect("reads").remove(0).1).is_ok());
}

#[test]
fn the_text_of_a_scalar_stays_as_written() {
    let node = read("a: 0x1F\nb: 1_000\nc: 2020-01-01\nd: \"0x1F\"\n").expect("reads").remove(0).1;
    let text = |key: &str| node.at(&[key]).and_then(Node::scalar_text).map(str::to_owned);
    assert_eq!(text("a").as_deref(), Some("0x1F"));
    assert_eq!(text("b").as_deref(), Some("1_000"));
    assert_eq!(text("c").as_deref(), Some("2020-01-01"));
    assert_eq!(to_string(&node).expect("prints"), "a: 31\nb: 1000\nc: \"2020-01-01T00:00:00Z\"\nd: \"0x1F\"\n");
}

#[test]
fn escaped_apostrophes_are_read_as_go_reads_them() {
    let cases = [
        ("a: \"it\\'s\"\n", "it's"),
        ("a: \"é\\'\\'\\\\\\\"\\'\"\n", "é''\\\"'"),
        ("b: 'x'\na: \"\n  one \\'two\n  three\\'\"\n", " one 'two three'"),
    ];
    for (text, expected) in cases {
        let node = read(text).expect(text).remove(0).1;
        assert_eq!(node.at(&["a"]).and_then(Node::as_str), Some(expected), "{text:?}");
    }
    assert!(read("a: \"\\q\\'\"\n").is_err());
}
