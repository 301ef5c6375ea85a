//! Any bytes are read or refused in both dialects, and what is printed of a resource is a fixed point.
#![no_main]

use driftless_yaml::{Dialect, Limits, parse_all, to_string};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits { nodes: 100_000, text: 1 << 20, ..Limits::default() };
    let _ = parse_all(data, Dialect::Yaml11, &limits);
    let Ok(documents) = parse_all(data, Dialect::Resource, &limits) else { return };
    for document in documents {
        let _ = document.node.to_json();
        let Ok(printed) = to_string(&document.node) else { continue };
        // A text that starts with `---` at the margin would be cut again; everything else reads back.
        let Ok(again) = parse_all(printed.as_bytes(), Dialect::Resource, &limits) else { continue };
        if let [again] = &again[..] {
            assert_eq!(to_string(&again.node).as_deref(), Ok(printed.as_str()));
        }
    }
});
