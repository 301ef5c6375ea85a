//! The rules around substitution.

use driftless_subst::{ErrorKind, check_names, is_disabled, is_valid_name, value_of};

#[test]
fn names() {
    for (name, valid) in [
        ("a", true),
        ("_", true),
        ("A_1", true),
        ("cluster_name", true),
        ("", false),
        ("1a", false),
        ("a-b", false),
        ("a.b", false),
        ("é", false),
        ("a b", false),
        ("a\n", false),
    ] {
        assert_eq!(is_valid_name(name), valid, "{name:?}");
    }
    assert!(check_names(["a", "b"]).is_ok());
    let error = check_names(["a", "b-c"]).expect_err("a dash");
    assert_eq!(error.kind, ErrorKind::InvalidName { name: "b-c".into() });
}

#[test]
fn values_lose_their_line_feeds() {
    for (text, value) in [("a", "a"), ("a\n", "a"), ("a\nb\n", "ab"), ("a\r\nb", "a\rb"), ("\n", "")] {
        assert_eq!(value_of(text), value, "{text:?}");
    }
}

#[test]
fn one_mark_is_enough_to_leave_an_object_alone() {
    assert!(is_disabled(Some("disabled"), None));
    assert!(is_disabled(None, Some("disabled")));
    assert!(!is_disabled(Some("true"), Some("enabled")));
    assert!(!is_disabled(None, None));
}
