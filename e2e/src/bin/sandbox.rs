//! `cargo sandbox`: builds everything, then hands over to `sandbox-world`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftless_e2e::launch::run(std::env::args().skip(1))
}
