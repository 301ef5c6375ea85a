//! `cargo sandbox`: builds everything, then hands over to `sandbox-world`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftless_e2e::launch::run("sandbox-world", std::env::args().skip(1))
}
