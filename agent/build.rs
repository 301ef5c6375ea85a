//! How the program is linked, and how its allocator is set up.

use std::path::Path;

/// One pool for its one thread, small caches, and what is free goes back to the system at once: the agent is measured by
/// what it takes while idle. Hub and CLI leave jemalloc as it is, which costs memory for a moment and saves much time.
const ALLOCATOR: &str = "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0,tcache_max:1024,tcache_nslots_small_max:16";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    // The dynamic linker reads every relocation at the start, and their pages stay: packed, a megabyte is a few pages.
    // Since glibc 2.36.
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // jemalloc reads this symbol before the program's first line runs.
    let file = Path::new(&std::env::var("OUT_DIR")?).join("allocator.c");
    std::fs::write(&file, format!("const char *_rjem_malloc_conf = \"{ALLOCATOR}\";\n"))?;
    for object in cc::Build::new().file(&file).cargo_metadata(false).try_compile_intermediates()? {
        println!("cargo:rustc-link-arg-bins={}", object.display());
    }
    Ok(())
}
