//! Substitution against answers of Flux's own library, and our own rules around it.

use driftless_subst::{ErrorKind, Limits, Use, substitute, substitute_with, variables};

const VALUES: &[(&str, &str)] = &[
    ("region", "eu-west-1"),
    ("empty", ""),
    ("host", "db.prod.example.org"),
    ("path", "/var/lib/app/data.tar.gz"),
    ("Name", "Alpha"),
    ("word", "straße"),
    ("two", "2"),
    ("minus", "-3"),
    ("glob", "*"),
    ("dir", "a/b/c"),
    ("lines", "x"),
];

fn value(name: &str) -> Option<&'static str> {
    VALUES.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

fn check(text: &str, strict: bool, expected: &str) {
    let found = match substitute(text, &value, strict) {
        Ok(out) => format!("={out}"),
        Err(_) => "!".to_owned(),
    };
    assert_eq!(found, expected, "{text} (strict: {strict})");
}

#[test]
fn agrees_with_flux() {
    let mut cases = 0;
    for line in include_str!("cases.txt").lines().filter(|l| !l.starts_with("# ")) {
        let columns: Vec<_> = line.split('\t').collect();
        let [text, strict, lenient] = columns[..] else { panic!("three columns: {line}") };
        check(text, true, strict);
        check(text, false, lenient);
        cases += 1;
    }
    assert!(cases > 100, "only {cases} cases were read");
}

fn failure(text: &str) -> (u32, ErrorKind) {
    let error = substitute(text, &value, true).expect_err(text);
    (error.line, error.kind)
}

#[test]
fn errors_name_the_line_and_the_variable() {
    let (line, kind) = failure("a: ${region}\nb: ok\nc: ${missing}\n");
    assert_eq!((line, kind), (3, ErrorKind::NotSet { name: "missing".into() }));
    let (line, kind) = failure("a: 1\nb: ${region-x}\n");
    assert_eq!((line, kind), (2, ErrorKind::Unclosed { name: "region".into(), text: "${region-x}".into() }));
    let (line, kind) = failure("\n\n${region:}");
    let expected = ErrorKind::Operand { name: "region".into(), operator: ":".into(), text: "${region:}".into() };
    assert_eq!((line, kind), (3, expected));
    let (line, kind) = failure("x\n${}");
    assert_eq!((line, kind), (2, ErrorKind::NoName { text: "${}".into() }));
    let (_, kind) = failure("${word:0:5}");
    assert_eq!(kind, ErrorKind::CutsCharacter { name: "word".into() });
    let (_, kind) = failure("${word%?e}");
    assert_eq!(kind, ErrorKind::CutsCharacter { name: "word".into() });
    let message = substitute("a\n${missing}", &value, true).expect_err("strict").to_string();
    assert_eq!(
        message,
        "line 2: variable `missing` is not set; set it, give a default with `${missing:=value}`, or write `$${` for a \
         literal `${`"
    );
}

#[test]
fn lists_what_a_text_asks_for() {
    let used = variables("${a}\n$${b}\n${c:=x${d^^}}").expect("reads");
    let expected = [("a", 1, true), ("d", 3, true), ("c", 3, false)];
    let expected = expected.map(|(name, line, required)| Use { name: name.into(), line, required });
    assert_eq!(used, expected);
}

#[test]
fn limits_hold_at_the_limit_and_not_beyond() {
    let run =
        |text: &str, output, steps| substitute_with(text, &value, true, &Limits { output, steps }).map_err(|e| e.kind);
    assert_eq!(run("${region}${region}", 18, 0), Ok("eu-west-1eu-west-1".into()));
    assert_eq!(run("${region}${region}", 17, 0), Err(ErrorKind::TooLong(17)));
    assert_eq!(run("${host#db.}", 100, 1 << 20), Ok("prod.example.org".into()));
    assert_eq!(run("${host#db.}", 100, 5), Err(ErrorKind::TooManySteps { name: "host".into(), limit: 5 }));
    let nested = |n: usize| format!("{}{}{}", "${u:=".repeat(n), "x", "}".repeat(n));
    assert_eq!(run(&nested(32), 100, 0), Ok("x".into()));
    assert_eq!(run(&nested(33), 100, 0), Err(ErrorKind::TooDeep(32)));
    let long = "a".repeat(4000);
    let many = |name: &str| (name == "v").then_some(long.as_str());
    let grown = substitute_with("${v//a/0123456789}", &many, true, &Limits { output: 30_000, steps: 0 });
    assert_eq!(grown.map_err(|e| e.kind), Err(ErrorKind::TooLong(30_000)));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_without_dollar_is_kept(text in "[^$]*") {
            prop_assert_eq!(substitute(&text, &value, true), Ok(text));
        }

        #[test]
        fn escaping_dollars_keeps_any_text(text in ".*") {
            prop_assert_eq!(substitute(&text.replace('$', "$$"), &value, true), Ok(text));
        }

        #[test]
        fn never_panics(text in "[$a-c{}:/#%^,=+?*\\[\\]\\\\ é-]{0,40}", strict: bool) {
            let _ = substitute(&text, &|name| (name != "b").then_some("aé/b.a"), strict);
            let _ = variables(&text);
        }
    }
}
