//! `cargo verify`: see the library's module of that name.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    driftless_e2e::verify::run(&driftless_e2e::verify::Options::parse())
}
