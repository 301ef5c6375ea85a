//! What must be there before the checks run: system packages, programs built from Go modules, crates, cargo-deny.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cargo;
use super::steps::{Needs, Step};
use crate::process::{find_program, is_executable};
use crate::tools::{self, Tool, Tools};

/// The version of cargo-deny: fixed, so that a new lint of it is a commit and not a surprise.
const CARGO_DENY: &str = "0.20.2";

/// What the checks run with.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    env: Vec<(String, PathBuf)>,
    deny: Option<PathBuf>,
}

impl Prepared {
    /// A command of a step, with everything prepared in its environment.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let (mut command, rest) = match (arguments, &self.deny) {
            (["cargo", "deny", rest @ ..], Some(deny)) => (Command::new(deny), rest),
            (["cargo", rest @ ..], _) => (cargo(), rest),
            ([program, rest @ ..], _) => (Command::new(program), rest),
            ([], _) => (cargo(), arguments),
        };
        command.args(rest).envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }
}

/// Prepares what these steps need.
pub(super) fn prepare(root: &Path, steps: &[&Step], install: bool) -> Result<Prepared> {
    let needed = |needs: Needs| steps.iter().any(|step| step.needs == needs);
    let mut prepared = Prepared::default();
    if needed(Needs::TestPrograms) {
        system_packages(install)?;
        let tools = Tools::prepare(&Tool::TESTS, &mut |progress| println!("{progress}"))?;
        for (tool, found) in tools.iter() {
            println!("{tool}: {}", found.path.display());
            prepared.env.push((tool.variable().to_owned(), found.path.clone()));
            // The oracles of the conformance tests, under the names that those tests know.
            if matches!(tool, Tool::Kustomize | Tool::Helm | Tool::Kubectl) {
                prepared.env.push((format!("DRIFTLESS_{}", tool.name().to_uppercase()), found.path.clone()));
            }
        }
        if let Some(folder) = tools.path(Tool::ApiServer)?.parent() {
            prepared.env.push((tools::ASSETS_VARIABLE.to_owned(), folder.to_owned()));
        }
        if let Some(folder) = postgres() {
            println!("postgres: {}", folder.display());
            prepared.env.push(("DRIFTLESS_POSTGRES_BIN".to_owned(), folder));
        }
    }
    if needed(Needs::CargoDeny) {
        prepared.deny = Some(cargo_deny()?);
        // Without network cargo-deny needs every crate of the lock file, those of other systems too.
        let status = cargo().args(["fetch", "--locked", "--quiet"]).current_dir(root).status();
        ensure!(status.context("run cargo fetch")?.success(), "cargo fetch --locked failed: see above");
    }
    Ok(prepared)
}

/// A system package that tests need, and how to see that it is there.
struct Package {
    name: &'static str,
    why: &'static str,
    there: fn() -> bool,
}

const PACKAGES: &[Package] = &[
    Package { name: "git", why: "sources and their test server", there: || find_program("git").is_some() },
    Package {
        name: "postgresql",
        why: "the store's contract tests start servers of their own",
        there: || postgres().is_some(),
    },
    Package { name: "openssh-client", why: "sources over ssh", there: || find_program("ssh").is_some() },
    Package { name: "gnupg", why: "signatures of commits and tags", there: || find_program("gpg").is_some() },
    Package {
        name: "docker-registry",
        why: "the tests of OCI sources start a registry of their own",
        there: || find_program("docker-registry").is_some(),
    },
    Package {
        name: "openssh-server",
        why: "the tests of sources over ssh start a server of their own",
        there: || is_executable(Path::new("/usr/sbin/sshd")),
    },
];

/// Sees that all packages are there, and installs those that are not if that was asked for.
fn system_packages(install: bool) -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !(package.there)()).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
        if !install {
            let list: Vec<String> = missing.iter().map(|p| format!("  {}: {}", p.name, p.why)).collect();
            bail!(
                "system packages are missing:\n{}\ninstall them (on Debian: apt-get install {}), or let this do it: \
                 cargo verify --install",
                list.join("\n"),
                names.join(" ")
            );
        }
        apt_get(&names)?;
        let still: Vec<&str> = missing.iter().filter(|p| !(p.there)()).map(|p| p.name).collect();
        ensure!(still.is_empty(), "installed, but still not found: {}", still.join(", "));
    }
    // An sshd of root insists on this folder, which else its service makes when it starts.
    let run = Path::new("/run/sshd");
    if install && !run.exists() {
        // Only root can, and only root's sshd needs it.
        drop(fs::DirBuilder::new().mode(0o755).create(run));
    }
    Ok(())
}

fn apt_get(names: &[&str]) -> Result<()> {
    let Some(program) = find_program("apt-get") else {
        bail!("no apt-get on this machine: install {} by other means", names.join(", "));
    };
    println!("installing {}", names.join(", "));
    let run = |arguments: &[&str]| -> Result<()> {
        let typed = format!("apt-get {}", arguments.join(" "));
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null());
        // Tests start servers of their own: in this runlevel Debian's scripts start none (without systemd).
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        let status = command.status().with_context(|| format!("run {typed}"))?;
        ensure!(status.success(), "{typed} failed ({status}): see above; it needs root and the package servers");
        Ok(())
    };
    run(&["update", "--quiet"])?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend_from_slice(names);
    run(&arguments)
}

/// The folder with `initdb` and `postgres`, the newest where there are several: Debian keeps them out of `PATH`.
fn postgres() -> Option<PathBuf> {
    let complete = |folder: &Path| ["initdb", "postgres"].iter().all(|name| is_executable(&folder.join(name)));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| complete(folder))
        .collect();
    folders.sort();
    folders.pop().map(|(_, folder)| folder).or_else(|| {
        let folder = find_program("initdb")?.parent()?.to_owned();
        complete(&folder).then_some(folder)
    })
}

/// cargo-deny in its fixed version, compiled into the cache if it is not there.
fn cargo_deny() -> Result<PathBuf> {
    let cache = tools::cache_folder()?;
    let folder = cache.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("lock");
    let lock = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    lock.lock().with_context(|| format!("lock {}", path.display()))?;
    if is_executable(&program) {
        return Ok(program);
    }
    println!("cargo-deny {CARGO_DENY}: compiling once, some three minutes on two cores");
    let build = folder.join("build");
    // Unoptimised: it compiles in a third of the time, and runs for seconds.
    let status = cargo()
        .args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"])
        .arg(&folder)
        .arg("--target-dir")
        .arg(&build)
        .current_dir(&cache)
        .stdin(Stdio::null())
        .status()
        .context("run cargo install")?;
    ensure!(status.success(), "cargo install cargo-deny failed ({status}): see above");
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_where_they_belong() {
        let prepared = Prepared {
            env: vec![("TEST_ASSET_ETCD".into(), "/bin/etcd".into())],
            deny: Some("/cache/cargo-deny".into()),
        };
        let deny = prepared.command(&["cargo", "deny", "check"]);
        assert_eq!(deny.get_program(), "/cache/cargo-deny");
        assert_eq!(deny.get_args().collect::<Vec<_>>(), ["check"]);
        let test = prepared.command(&["cargo", "test"]);
        assert_eq!(test.get_args().collect::<Vec<_>>(), ["test"]);
        assert!(test.get_envs().any(|(name, value)| name == "TEST_ASSET_ETCD" && value.is_some()));
    }
}
