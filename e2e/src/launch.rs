//! What `cargo sandbox`, `cargo bench-agent` and `cargo faults` do before there is anything to run: they name what is
//! missing, say how long it will take, build, and hand over to the program itself.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::process::find_program;
use crate::tools::{self, Tool, Tools};

/// Programs of ours that these run.
const BUILT: [&str; 3] = ["driftless-hub", "driftless-agent", "driftless"];

/// Those that have Flux beside.
const WITH_FLUX: [&str; 2] = ["bench-agent-world", "faults-world"];

/// The environment variable that names the agent to run, where it is not the one beside the running program.
pub(crate) const AGENT_PROGRAM: &str = "DRIFTLESS_AGENT_PROGRAM";

/// Prepares and hands over to the program of this name; comes back only when something is in the way.
pub fn run(name: &str, args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    // Help must not wait for a build of ten minutes.
    let help = args.iter().any(|a| a == "--help" || a == "-h");
    match prepare(name, help) {
        Ok(Prepared { program, agent }) => {
            let mut command = Command::new(&program);
            command.args(&args);
            if let Some(agent) = agent {
                command.env(AGENT_PROGRAM, agent);
            }
            let error = command.exec();
            eprintln!("error: cannot start {}: {error}", program.display());
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What is handed over to.
struct Prepared {
    program: PathBuf,
    /// The agent to measure, where it is another than the one beside the program.
    agent: Option<PathBuf>,
}

fn prepare(name: &str, help: bool) -> Result<Prepared, String> {
    let here = std::env::current_exe().map_err(|e| format!("cannot find the running program: {e}"))?;
    let folder = here.parent().ok_or("the running program is in no folder")?;
    let world = folder.join(name);
    if help && world.is_file() {
        return Ok(Prepared { program: world, agent: None });
    }
    let mut wanted = vec![Tool::Etcd, Tool::ApiServer, Tool::ControllerManager, Tool::Kubectl, Tool::Helm];
    // A peer, and what may have had a unit before.
    wanted.extend(WITH_FLUX.contains(&name).then_some(Tool::KustomizeController));
    let cache = tools::cache_folder().map_err(|e| e.to_string())?;
    let absent = check_machine(&wanted, &cache)?;
    let first = !world.is_file() || !BUILT.iter().all(|name| folder.join(name).is_file());
    announce(first, &absent);
    let agent = build(folder)?;
    Tools::prepare(&wanted, &mut tools::print_progress).map_err(|e| e.to_string())?;
    Ok(Prepared { program: world, agent })
}

/// Everything that would be missed later, named before anything is built.
fn check_machine(wanted: &[Tool], cache: &Path) -> Result<Vec<Tool>, String> {
    let mut missing = Vec::new();
    if find_program("git").is_none() {
        missing.push("git (it serves the mono-repo): install the package git".to_owned());
    }
    if find_program("cc").is_none() && find_program("gcc").is_none() && find_program("clang").is_none() {
        missing.push("a C compiler (TLS and SQLite are compiled with it): install the package gcc or clang".to_owned());
    }
    if find_program("make").is_none() {
        missing.push("make (the agent's allocator is compiled with it): install the package make".to_owned());
    }
    let mut absent = Vec::new();
    for &tool in wanted {
        match tools::locate(tool, cache) {
            Ok(Some(_)) => {}
            Ok(None) => absent.push(tool),
            Err(error) => missing.push(error.to_string()),
        }
    }
    if let Err(error) = tools::check_prerequisites(&absent) {
        missing.push(error.to_string());
    }
    if missing.is_empty() {
        return Ok(absent);
    }
    Err(format!("before anything is built, this machine lacks:\n  - {}", missing.join("\n  - ")))
}

fn announce(first: bool, absent: &[Tool]) {
    if !first && absent.is_empty() {
        return;
    }
    let mut parts = Vec::new();
    if first {
        parts.push("Driftless itself (about 12 min, optimised about 20)");
    }
    if absent.iter().any(|tool| *tool != Tool::KustomizeController) {
        parts.push("the Kubernetes programs of the test clusters, from published Go modules (about 9 min)");
    }
    if absent.contains(&Tool::KustomizeController) {
        parts.push("Flux's kustomize-controller, from its published Go module (about 4 min)");
    }
    eprintln!("The first run builds {}; on two cores. Later runs start in about a minute.", parts.join(" and "));
}

/// Builds what is run; the agent as it ships, where figures of it are what counts.
fn build(folder: &Path) -> Result<Option<PathBuf>, String> {
    // Where this program was built to, also when it is run by itself.
    let target = folder.parent().ok_or("the running program is in no target folder")?;
    let optimised = folder.file_name().is_some_and(|n| n == "release");
    // The whole workspace, as `cargo verify` builds it: with fewer packages the crates they share would be given other
    // features, and be compiled twice.
    let all: &[&str] = &["--workspace", "--bins"];
    cargo_build(target, all.iter().chain(optimised.then_some(&"--release")))?;
    if !optimised {
        return Ok(None);
    }
    cargo_build(target, &["--profile", "dist", "--package", "driftless-agent"])?;
    Ok(Some(target.join("dist").join("driftless-agent")))
}

fn cargo_build<'a>(target: &Path, args: impl IntoIterator<Item = &'a &'a str>) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("build").args(args).arg("--target-dir").arg(target);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build failed ({status}); see above")),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}
