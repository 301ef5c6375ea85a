//! The YAML 1.1 dialect against answers of sigs.k8s.io/yaml.

use driftless_yaml::{Dialect, Limits, from_json, parse_one};

#[test]
fn agrees_with_the_library() {
    let limits = Limits::default();
    let mut cases = 0;
    for line in include_str!("yaml11.txt").lines().filter(|l| !l.starts_with('#')) {
        let (text, expected) = line.split_once('\t').expect("two columns");
        let text = from_json(text.as_bytes(), &limits).expect("a JSON string");
        let text = text.as_str().expect("a string");
        let found = parse_one(text.as_bytes(), Dialect::Yaml11, &limits)
            .map_err(|e| e.to_string())
            .and_then(|d| d.node.to_json().map_err(|e| e.to_string()));
        cases += 1;
        match (expected, found) {
            ("!", Ok(json)) => panic!("{text:?} gave {}", String::from_utf8_lossy(&json)),
            ("!", Err(_)) => {}
            (_, Err(e)) => panic!("{text:?}: {e}"),
            (expected, Ok(json)) => {
                // The library's JSON is not canonical; read and written again it is.
                let expected = from_json(expected.as_bytes(), &limits).expect("JSON").to_json().expect("writes");
                assert_eq!(String::from_utf8_lossy(&json), String::from_utf8_lossy(&expected), "{text:?}");
            }
        }
    }
    assert!(cases > 130, "only {cases} cases were read");
}
