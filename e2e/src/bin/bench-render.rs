//! `cargo bench-render`: see the library's module `bench`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    driftless_e2e::bench::run(&driftless_e2e::bench::Args::parse())
}
