//! `cargo bench-agent`: builds everything, then hands over to `bench-agent-world`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftless_e2e::launch::run("bench-agent-world", std::env::args().skip(1))
}
