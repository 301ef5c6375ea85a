//! Every limit, at it and one beyond.

use driftless_yaml::{Dialect, ErrorKind, Limits, from_json, parse_all};

fn kind(text: &str, limits: &Limits) -> Option<ErrorKind> {
    parse_all(text.as_bytes(), Dialect::Resource, limits).err().map(|e| e.kind)
}

fn check(text: &str, at: &Limits, beyond: &Limits, expected: &ErrorKind) {
    assert_eq!(kind(text, at), None, "{text:?} at {at:?}");
    assert_eq!(kind(text, beyond).as_ref(), Some(expected), "{text:?} beyond {beyond:?}");
}

#[test]
fn each_limit() {
    let all = Limits::default;
    check(
        "a: 1",
        &Limits { bytes: 4, ..all() },
        &Limits { bytes: 3, ..all() },
        &ErrorKind::TooLong { found: 4, limit: 3 },
    );
    check(
        "a: 1\n---\nb: 2\n---\n---\nc: 3\n",
        &Limits { documents: 3, ..all() },
        &Limits { documents: 2, ..all() },
        &ErrorKind::TooManyDocuments(2),
    );
    // A map, its key, a list and two texts.
    check("a: [x, y]", &Limits { nodes: 5, ..all() }, &Limits { nodes: 4, ..all() }, &ErrorKind::TooManyNodes(4));
    check("abc: [de, f]", &Limits { text: 6, ..all() }, &Limits { text: 5, ..all() }, &ErrorKind::TooMuchText(5));
    for text in ["a: [[x]]", "- - - x", "{a: {b: {c: d}}}"] {
        check(text, &Limits { depth: 3, ..all() }, &Limits { depth: 2, ..all() }, &ErrorKind::TooDeep(2));
    }
}

#[test]
fn what_anchors_stand_for_is_counted_each_time() {
    let all = Limits::default;
    // 1 map, 3 keys, a list of 2: 3; twice an alias: 3 each.
    let text = "a: &x [p, q]\nb: *x\nc: *x\n";
    check(text, &Limits { nodes: 13, ..all() }, &Limits { nodes: 12, ..all() }, &ErrorKind::TooManyNodes(12));
    check(text, &Limits { text: 9, ..all() }, &Limits { text: 8, ..all() }, &ErrorKind::TooMuchText(8));
    let text = "a: &x [p]\nb: {c: {d: *x}}\n";
    check(text, &Limits { depth: 4, ..all() }, &Limits { depth: 3, ..all() }, &ErrorKind::TooDeep(3));
}

/// Ten levels of nine aliases each would be 3.5 thousand million texts.
#[test]
fn an_avalanche_of_aliases_stops_at_the_limit() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let limits = Limits::default();
    assert_eq!(kind(&text, &limits), Some(ErrorKind::TooManyNodes(limits.nodes)));
}

#[test]
fn the_deepest_of_all_holds_whatever_is_asked_for() {
    let limits = Limits { depth: usize::MAX, ..Limits::default() };
    let nested = |n: usize| format!("{}x{}", "[".repeat(n), "]".repeat(n));
    assert_eq!(kind(&nested(256), &limits), None);
    assert_eq!(kind(&nested(257), &limits), Some(ErrorKind::TooDeep(256)));
    assert_eq!(kind(&"[".repeat(1 << 20), &limits), Some(ErrorKind::TooDeep(256)));
    assert_eq!(kind(&"{a: ".repeat(1 << 20), &limits), Some(ErrorKind::TooDeep(256)));
    assert_eq!(kind(&"- ".repeat(1 << 20), &limits), Some(ErrorKind::TooDeep(256)));
}

#[test]
fn tag_lines_are_few() {
    let text = |n: usize| {
        let lines: String = (0..n).map(|i| format!("%TAG !a{i}! tag:x.org,{i}:\n")).collect();
        format!("{lines}---\na: 1\n")
    };
    let kind = |text: &str| parse_all(text.as_bytes(), Dialect::Yaml11, &Limits::default()).err().map(|e| e.kind);
    assert_eq!(kind(&text(64)), None);
    assert_eq!(kind(&text(65)), Some(ErrorKind::TooManyTagDirectives(64)));
}

#[test]
fn json_has_the_same_limits() {
    let kind = |text: &str, limits: &Limits| from_json(text.as_bytes(), limits).err().map(|e| e.kind);
    let all = Limits::default;
    assert_eq!(kind("[1,2]", &Limits { bytes: 5, nodes: 3, depth: 1, ..all() }), None);
    assert_eq!(kind("[1,2]", &Limits { bytes: 4, ..all() }), Some(ErrorKind::TooLong { found: 5, limit: 4 }));
    assert_eq!(kind("[1,2]", &Limits { nodes: 2, ..all() }), Some(ErrorKind::TooManyNodes(2)));
    assert_eq!(kind("[1,2]", &Limits { depth: 0, ..all() }), Some(ErrorKind::TooDeep(0)));
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let limits = Limits { depth: usize::MAX, ..all() };
    assert_eq!(kind(&deep(256), &limits), None);
    assert_eq!(kind(&deep(257), &limits), Some(ErrorKind::TooDeep(256)));
}
