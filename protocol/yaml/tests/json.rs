//! JSON: canonical bytes out, strict text in.

use driftless_yaml::{Dialect, ErrorKind, Kind, Limits, Node, from_json, parse_one};

fn canonical(yaml: &str) -> String {
    let node = parse_one(yaml.as_bytes(), Dialect::Resource, &Limits::default()).expect(yaml).node;
    String::from_utf8(node.to_json().expect(yaml)).expect("UTF-8")
}

#[test]
fn canonical_bytes() {
    let cases = [
        ("{b: 1, a: 2, B: 3, a10: 4, a9: 5, é: 6, \"\": 7}", r#"{"":7,"B":3,"a":2,"a10":4,"a9":5,"b":1,"é":6}"#),
        ("{a: {}, b: [], c: null, d: ~}", r#"{"a":{},"b":[],"c":null,"d":null}"#),
        ("[1.0, 1e3, -0.0, 0x1F, 0777, 1_000]", "[1,1000,0,31,511,1000]"),
        (
            "[0.1, 1e-6, 1e-7, 123456789.5, 1.5e300, 1e20, 1e21]",
            "[0.1,0.000001,1e-7,123456789.5,1.5e+300,100000000000000000000,1e+21]",
        ),
        (
            "[9223372036854775807, 18446744073709551615, -9223372036854775808]",
            "[9223372036854775807,18446744073709551615,-9223372036854775808]",
        ),
        // Beyond 64 bits a number is a float, and its fewest digits are written.
        (
            "[18446744073709551616, -9223372036854775809, 9007199254740993.0]",
            "[18446744073709552000,-9223372036854776000,9007199254740992]",
        ),
        (r#"["\"\\\b\f\n\r\t\u0001\u007f<>&\u2028"]"#, "[\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}<>&\u{2028}\"]"),
        ("[2020-01-01, !!binary aGVsbG8=, !!binary /w==]", "[\"2020-01-01T00:00:00Z\",\"hello\",\"\u{FFFD}\"]"),
        ("[yes, true, 'true', Null]", r#"["yes",true,"true",null]"#),
    ];
    for (yaml, expected) in cases {
        assert_eq!(canonical(yaml), expected, "{yaml}");
    }
}

#[test]
fn json_is_read_strictly() {
    let limits = Limits::default();
    for (text, expected) in [
        (" {\"a\" : [1, 2.50, -0, 1E+2, true, false, null, \"x\"]}\n", r#"{"a":[1,2.5,0,100,true,false,null,"x"]}"#),
        (r#""\u00e9\ud83d\ude00\/\b""#, r#""é😀/\b""#),
        ("[]", "[]"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709552000"),
    ] {
        let node = from_json(text.as_bytes(), &limits).expect(text);
        assert_eq!(String::from_utf8(node.to_json().expect(text)).expect("UTF-8"), expected, "{text}");
    }
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "- 1",
        "nul",
        "tru",
        "NaN",
        "\"\n\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"a",
        "1 2",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "1e400",
        "\u{FEFF}1",
        "{\"a\":1,\"a\":2}",
        "# c\n1",
    ] {
        assert!(from_json(text.as_bytes(), &limits).is_err(), "{text:?}");
    }
    assert!(from_json(b"\"\xFF\"", &limits).is_err());
}

#[test]
fn json_errors_name_the_place() {
    let error = |text: &str| from_json(text.as_bytes(), &Limits::default()).expect_err(text);
    let e = error("{\n  \"a\": 1,\n  \"é\": x\n}");
    assert_eq!((e.line, e.column, e.kind), (3, 8, ErrorKind::Json("a value was expected")));
    let e = error("{\"a\": 1,\n\"b\": {},\n\"a\": 2}");
    assert_eq!((e.line, e.kind), (3, ErrorKind::DuplicateKey { key: "a".into(), first: 1 }));
    assert_eq!(error("[1] x").to_string(), "line 1, column 5: not valid JSON: something follows the value");
}

#[test]
fn kinds_and_lines_of_json() {
    let node = from_json(b"{\"a\": 1,\n \"b\": 1.0,\n\"c\": \"1\"}", &Limits::default()).expect("reads");
    let scalar = |key: &str| node.at(&[key]).and_then(Node::as_scalar).map(|s| (s.kind, s.text.to_string(), s.line));
    assert_eq!(scalar("a"), Some((Kind::Int, "1".into(), 1)));
    assert_eq!(scalar("b"), Some((Kind::Float, "1.0".into(), 2)));
    assert_eq!(scalar("c"), Some((Kind::Str, "1".into(), 3)));
}
