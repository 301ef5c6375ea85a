//! The targets of `examples/fuzz`, on a few changed inputs: the long run is that command.

#![allow(clippy::unwrap_used)] // helpers of tests
#[path = "../examples/fuzz/targets.rs"]
mod targets;

use proptest::prelude::*;
use std::path::Path;

fn collect(folder: &Path, into: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push(std::fs::read(path).unwrap());
        }
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"), &mut out);
    out
}

#[test]
fn inputs_of_the_cases_are_read_or_refused_by_every_target() {
    for data in corpus() {
        for (_, target) in targets::TARGETS {
            target(&data);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn changed_inputs_are_read_or_refused_by_every_target(
        which in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        len in 0usize..40,
        piece in prop_oneof!["[ -~\n]{0,20}", "\\PC{0,10}", Just("- &a [*a]\n".to_owned()), Just("${a:=${b}}".to_owned())],
    ) {
        let corpus = corpus();
        let mut data = corpus[which.index(corpus.len())].clone();
        let start = at.index(data.len() + 1);
        let end = (start + len).min(data.len());
        data.splice(start..end, piece.bytes());
        let (_, target) = targets::TARGETS[from.index(targets::TARGETS.len())];
        target(&data);
    }

    #[test]
    fn any_text_is_read_or_refused_by_every_target(data in "[ -~\n\t]{0,200}") {
        for (_, target) in targets::TARGETS {
            target(data.as_bytes());
        }
    }
}
