//! `cargo bench-render`: see the library's module `bench`.

use std::process::ExitCode;

use clap::Parser;

// As hub and CLI have it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    driftless_e2e::bench::run(&driftless_e2e::bench::Args::parse())
}
