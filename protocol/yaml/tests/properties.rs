//! What holds for every value and every text.

use driftless_yaml::{Dialect, Entry, Limits, Map, Node, Scalar, Seq, from_json, parse_all, parse_one, to_string};
use proptest::prelude::*;

/// Texts that kustomize can print, the odd ones often.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a-z \n]{0,40}",
        "[ \tab#:'\"\n-]{0,12}",
        "[0-9+._xobeE:TZ-]{1,10}",
        "([a-z']{1,9} ){0,30}[a-z]{0,3}",
        "(yes|no|on|y|n|true|null|~|<<|=|-|\\.inf|0777|1e3|2020-01-01|\\{\\}|\\[a\\]|&a|\\*a|!a|%a|@a|`)",
        "\\PC{0,8}".prop_map(|s| s.replace(['\u{85}', '\u{FFFE}', '\u{FFFF}'], "")),
    ]
    .prop_filter("kustomize refuses it", |s| {
        !s.chars().any(|c| matches!(c, '\u{7F}'..='\u{9F}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}'))
    })
}

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => text().prop_map(Node::string),
        1 => Just(Node::null()),
        1 => any::<bool>().prop_map(|b| Node::Scalar(Scalar::bool(b))),
        1 => any::<i64>().prop_map(|n| Node::Scalar(Scalar::int(n))),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        let map = prop::collection::btree_map(text().prop_filter("merge key", |k| k != "<<"), inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| Node::Seq(Seq::from_items(items, 0))),
            map.prop_map(|entries| {
                let entries = entries.into_iter().map(|(k, value)| Entry { key: k.into(), value, line: 0 });
                Node::Map(Map::from_entries(entries.collect(), 0))
            }),
        ]
    })
}

fn read(text: &str, dialect: Dialect) -> Node {
    parse_one(text.as_bytes(), dialect, &Limits::default()).unwrap_or_else(|e| panic!("{e}\n{text}")).node
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(node in node()) {
        let printed = to_string(&node).expect("prints");
        prop_assert_eq!(&read(&printed, Dialect::Resource), &node, "{}", printed);
        prop_assert_eq!(&read(&printed, Dialect::Yaml11), &node, "{}", printed);
    }

    #[test]
    fn json_reads_back_and_is_a_fixed_point(node in node()) {
        let json = node.to_json().expect("writes");
        let again = from_json(&json, &Limits::default()).expect("reads");
        prop_assert_eq!(&again, &node);
        prop_assert_eq!(again.to_json().expect("writes"), json);
    }

    #[test]
    fn json_is_yaml(node in node()) {
        let json = String::from_utf8(node.to_json().expect("writes")).expect("UTF-8");
        // libyaml wants the colon of a key within 1024 characters and on one line, and Go's escapes are not ours.
        prop_assume!(!json.contains(['\u{2028}', '\u{2029}']));
        prop_assert_eq!(read(&json, Dialect::Yaml11), node);
    }

    #[test]
    fn order_of_keys_does_not_show(node in node()) {
        fn reversed(node: &Node) -> Node {
            match node {
                Node::Map(map) => {
                    let entries = map.iter().rev().map(|e| Entry { value: reversed(&e.value), ..e.clone() });
                    Node::Map(Map::from_entries(entries.collect(), 0))
                }
                Node::Seq(seq) => Node::Seq(Seq::from_items(seq.iter().map(reversed).collect(), 0)),
                scalar => scalar.clone(),
            }
        }
        let other = reversed(&node);
        prop_assert_eq!(to_string(&node), to_string(&other));
        prop_assert_eq!(node.to_json(), other.to_json());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse_all(&bytes, Dialect::Resource, &Limits::default());
        let _ = parse_all(&bytes, Dialect::Yaml11, &Limits::default());
        let _ = from_json(&bytes, &Limits::default());
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(text in "([a-c]|[-?:,\\[\\]{}#&*!|>'\"%@` \n\t]|---|\\.\\.\\.|<<: |&a |\\*a|!!int ){0,30}") {
        for dialect in [Dialect::Resource, Dialect::Yaml11] {
            if let Ok(documents) = parse_all(text.as_bytes(), dialect, &Limits::default()) {
                for document in documents {
                    let _ = (to_string(&document.node), document.node.to_json());
                }
            }
        }
    }
}
