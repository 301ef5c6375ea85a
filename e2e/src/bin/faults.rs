//! `cargo faults`: builds everything, then hands over to `faults-world`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftless_e2e::launch::run("faults-world", std::env::args().skip(1))
}
