//! A private PostgreSQL server for one test run: an own cluster in a temporary folder, reachable by its socket only.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A running server; stopped and removed on drop.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
}

impl Postgres {
    /// Starts one. Panics with what to install when the programs are missing: a skipped database is an untested one.
    pub(crate) fn start() -> Self {
        let bin = programs().expect(
            "PostgreSQL's server programs (initdb, pg_ctl) are not found: install PostgreSQL 14 or newer, or name their \
             folder in DRIFTLESS_POSTGRES_BIN",
        );
        let dir = tempfile::Builder::new().prefix("driftless-pg").tempdir().expect("a temporary folder");
        if as_root() {
            // The server refuses to run as root; the package's own user serves.
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let server = Self { dir, bin };
        let data = server.dir.path().join("data");
        run(server
            .program("initdb")
            .args(["--auth=trust", "--username=driftless", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data));
        // No TCP at all: only the socket in our own folder.
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c max_connections=120",
            server.dir.path().display()
        );
        run(server
            .program("pg_ctl")
            .args(["start", "--wait", "--silent", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(server.dir.path().join("log"))
            .args(["-o", &options])
            .stdout(Stdio::null()));
        server
    }

    /// Makes an empty database; its address.
    pub(crate) fn database(&self, name: &str) -> String {
        run(self.program("createdb").args(["--username=driftless", "-h"]).arg(self.dir.path()).arg(name));
        let socket = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://driftless@{socket}/{name}")
    }

    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = if as_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.dir.path()).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        let stopped =
            self.program("pg_ctl").args(["stop", "--wait", "--mode=immediate", "--silent", "-D"]).arg(data).output();
        if !stopped.is_ok_and(|o| o.status.success()) {
            eprintln!("the PostgreSQL server in {} may still run", self.dir.path().display());
        }
    }
}

fn as_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn programs() -> Option<PathBuf> {
    // A link in a folder of links: its companions are where it points to.
    let here = |dir: &Path| dir.join("initdb").canonicalize().ok()?.parent().map(Path::to_path_buf);
    if let Some(dir) = std::env::var_os("DRIFTLESS_POSTGRES_BIN") {
        return here(Path::new(&dir));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(dir) = std::env::split_paths(&path).find_map(|d| here(&d)) {
        return Some(dir);
    }
    // Where Debian and its kin keep the server's programs.
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|e| e.ok().map(|e| e.path().join("bin"))).collect();
    versions.sort();
    versions.iter().rev().find_map(|d| here(d))
}

fn run(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        status.success(),
        "{command:?} ended with {status}\n{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
}
