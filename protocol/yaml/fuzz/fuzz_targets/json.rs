//! Any bytes are read or refused, and canonical JSON is a fixed point.
#![no_main]

use driftless_yaml::{Limits, from_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(node) = from_json(data, &limits) else { return };
    let json = node.to_json().expect("what was read can be written");
    let again = from_json(&json, &limits).expect("what was written can be read");
    assert_eq!(again.to_json().expect("written"), json);
});
