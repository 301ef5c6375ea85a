//! Building programs from published Go modules, once, into the cache.
//!
//! Each recipe is a Go module compiled into this crate, of two files: the module names the program with a `tool` line
//! (or, once, holds a page of Go of our own around a published library) and pins every dependency, so what is built never depends on the state of a checkout. The result's folder is
//! named by a hash of all that can change it, and appears by a rename, whole or not at all.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Kubernetes, Tool, ToolError};
use crate::process;

/// The oldest Go that the pinned modules accept (their `go` line).
const OLDEST_GO: (u32, u32) = (1, 26);
/// Progress is told at least this often, and not much more often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How much of a failed build's output is shown.
const OUTPUT_LINES: usize = 40;

/// A Go module that makes programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    name: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// Go files of our own, by name; none for most recipes.
    sources: &'static [(&'static str, &'static str)],
    /// The program, its main package, and the file that `go build` makes of it.
    programs: &'static [(Tool, &'static str, &'static str)],
    /// Files of published modules that are kept beside the programs.
    files: Option<&'static Files>,
    /// Of which Kubernetes they are, where there are several recipes for that; `None`: of any.
    kubernetes: Option<Kubernetes>,
    /// The module whose version the programs carry.
    module: &'static str,
    /// Variables set at link time; `{v}`, `{major}` and `{minor}` are those of `stamp_module`.
    stamps: &'static [&'static str],
    /// The Kubernetes version behind the stamps: a module and what its major number stands for.
    stamp_module: &'static str,
    /// Minutes on two cores with nothing cached.
    minutes: u32,
}

/// Files of published modules.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    go_mod: &'static str,
    go_sum: &'static str,
    /// Module, and the file's path in it.
    paths: &'static [(&'static str, &'static str)],
}

/// What the kinds of Flux look like to an API server.
const FLUX_DEFINITIONS: Files = Files {
    go_mod: include_str!("../../controlplane/flux-definitions/go.mod"),
    go_sum: include_str!("../../controlplane/flux-definitions/go.sum"),
    paths: &[
        ("github.com/fluxcd/kustomize-controller", "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml"),
        ("github.com/fluxcd/source-controller", "config/crd/bases/source.toolkit.fluxcd.io_buckets.yaml"),
        ("github.com/fluxcd/source-controller", "config/crd/bases/source.toolkit.fluxcd.io_externalartifacts.yaml"),
        ("github.com/fluxcd/source-controller", "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml"),
        ("github.com/fluxcd/source-controller", "config/crd/bases/source.toolkit.fluxcd.io_ocirepositories.yaml"),
    ],
};

/// The programs of one Kubernetes version, and an etcd for it.
const fn kubernetes(name: &'static str, kubernetes: Kubernetes, go_mod: &'static str, go_sum: &'static str) -> Recipe {
    Recipe {
        name,
        go_mod,
        go_sum,
        sources: &[],
        programs: &[
            (Tool::Etcd, "go.etcd.io/etcd/server/v3", "server"),
            (Tool::ApiServer, "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            (Tool::ControllerManager, "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
            (Tool::Kubectl, "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ],
        files: None,
        kubernetes: Some(kubernetes),
        module: "k8s.io/kubernetes",
        // Without them the server says v0.0.0-master, and everything that checks its version refuses it.
        stamps: &[
            "k8s.io/component-base/version.gitVersion=v{v}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/component-base/version.gitTreeState=clean",
            "k8s.io/client-go/pkg/version.gitVersion=v{v}",
            "k8s.io/client-go/pkg/version.gitMajor={major}",
            "k8s.io/client-go/pkg/version.gitMinor={minor}",
        ],
        stamp_module: "k8s.io/kubernetes",
        minutes: 9,
    }
}

/// `v0.36.2` of client-go and its like means Kubernetes 1.36.2.
const RECIPES: &[Recipe] = &[
    kubernetes(
        "kubernetes",
        Kubernetes::V1_36,
        include_str!("../../controlplane/kubernetes/go.mod"),
        include_str!("../../controlplane/kubernetes/go.sum"),
    ),
    kubernetes(
        "kubernetes",
        Kubernetes::V1_35,
        include_str!("../../controlplane/kubernetes-1.35/go.mod"),
        include_str!("../../controlplane/kubernetes-1.35/go.sum"),
    ),
    Recipe {
        name: "kustomize",
        go_mod: include_str!("../../controlplane/kustomize/go.mod"),
        go_sum: include_str!("../../controlplane/kustomize/go.sum"),
        sources: &[],
        programs: &[(Tool::Kustomize, "sigs.k8s.io/kustomize/kustomize/v5", "kustomize")],
        files: None,
        kubernetes: None,
        module: "sigs.k8s.io/kustomize/kustomize/v5",
        stamps: &[], // it reads its version from Go's build information
        stamp_module: "sigs.k8s.io/kustomize/kustomize/v5",
        minutes: 1,
    },
    Recipe {
        name: "kustomize-library",
        go_mod: include_str!("../../controlplane/kustomize-library/go.mod"),
        go_sum: include_str!("../../controlplane/kustomize-library/go.sum"),
        sources: &[("main.go", include_str!("../../controlplane/kustomize-library/main.go"))],
        programs: &[(Tool::KustomizeLibrary, "driftless.dev/controlplane/kustomize-library", "kustomize-library")],
        files: None,
        kubernetes: None,
        module: "sigs.k8s.io/kustomize/api",
        stamps: &[],
        stamp_module: "sigs.k8s.io/kustomize/api",
        minutes: 1,
    },
    Recipe {
        name: "helm",
        go_mod: include_str!("../../controlplane/helm/go.mod"),
        go_sum: include_str!("../../controlplane/helm/go.sum"),
        sources: &[],
        programs: &[(Tool::Helm, "helm.sh/helm/v3/cmd/helm", "helm")],
        files: None,
        kubernetes: None,
        module: "helm.sh/helm/v3",
        // Unstamped, helm believes in Kubernetes 1.20 and refuses charts that want more.
        stamps: &[
            "helm.sh/helm/v3/internal/version.version={module}",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={minor}",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={minor}",
        ],
        stamp_module: "k8s.io/client-go",
        minutes: 4,
    },
    Recipe {
        name: "flux",
        go_mod: include_str!("../../controlplane/flux/go.mod"),
        go_sum: include_str!("../../controlplane/flux/go.sum"),
        sources: &[],
        programs: &[(Tool::KustomizeController, "github.com/fluxcd/kustomize-controller", "kustomize-controller")],
        files: Some(&FLUX_DEFINITIONS),
        kubernetes: None,
        module: "github.com/fluxcd/kustomize-controller",
        stamps: &[],
        stamp_module: "github.com/fluxcd/kustomize-controller",
        minutes: 4,
    },
];

/// The version of Flux's controller that is built here, as in `v1.9.0`.
pub(super) fn flux_version() -> &'static str {
    version(FLUX_DEFINITIONS.go_mod, "github.com/fluxcd/kustomize-controller")
}

/// The names of the files that are kept beside Flux's controller.
pub(super) fn flux_definitions() -> impl Iterator<Item = &'static str> {
    FLUX_DEFINITIONS.paths.iter().map(|(_, path)| file_name(path))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The recipe that makes a tool of this Kubernetes.
pub(super) fn recipe_of(tool: Tool, kubernetes: Kubernetes) -> &'static Recipe {
    // The first recipe is the answer for a tool of none, which a test rules out.
    RECIPES.iter().find(|recipe| recipe.is_for(kubernetes) && recipe.makes(tool)).unwrap_or(&RECIPES[0])
}

/// The recipes that make these tools of this Kubernetes, each once.
pub(super) fn recipes_for(tools: &[Tool], kubernetes: Kubernetes) -> Vec<&'static Recipe> {
    let fits = |recipe: &&Recipe| recipe.is_for(kubernetes) && tools.iter().any(|tool| recipe.makes(*tool));
    RECIPES.iter().filter(fits).collect()
}

impl Recipe {
    fn is_for(&self, kubernetes: Kubernetes) -> bool {
        self.kubernetes.is_none_or(|version| version == kubernetes)
    }

    pub(super) fn makes(&self, tool: Tool) -> bool {
        self.programs.iter().any(|(made, ..)| *made == tool)
    }

    /// The folder of the finished programs.
    pub(super) fn folder(&self, cache: &Path) -> PathBuf {
        tools_folder(cache).join(self.folder_name())
    }

    /// A name that changes with everything that can change the programs.
    fn folder_name(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let own = self.sources.iter().map(|(_, text)| *text);
        let flags = self.linker_flags();
        let parts = [self.go_mod, self.go_sum, &flags, std::env::consts::OS, std::env::consts::ARCH];
        let files = self.files.map(|files| [files.go_mod, files.go_sum]).into_iter().flatten();
        let paths = self.files.into_iter().flat_map(|files| files.paths).map(|(_, path)| *path);
        for part in parts.into_iter().chain(own).chain(files).chain(paths) {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let hash = hash.finalize().to_hex();
        format!("{}-{}-{}", self.name, version(self.go_mod, self.module), &hash[..16])
    }

    fn linker_flags(&self) -> String {
        let stamp = version(self.go_mod, self.stamp_module).trim_start_matches('v');
        let mut numbers = stamp.split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        let mut flags = String::from("-s -w");
        for variable in self.stamps {
            let value = variable
                .replace("{v}", stamp)
                .replace("{major}", major)
                .replace("{minor}", minor)
                .replace("{module}", version(self.go_mod, self.module));
            flags.push_str(" -X ");
            flags.push_str(&value);
        }
        flags
    }

    fn title(&self) -> String {
        let programs: Vec<_> = self.programs.iter().map(|(tool, ..)| tool.name()).collect();
        format!("{} {} ({})", self.name, version(self.go_mod, self.module), programs.join(", "))
    }
}

fn tools_folder(cache: &Path) -> PathBuf {
    cache.join("tools")
}

/// The version that a go.mod requires of a module; empty if it does not.
fn version<'a>(go_mod: &'a str, module: &str) -> &'a str {
    let mut required = go_mod.lines().map(|line| line.trim_start().trim_start_matches("require "));
    let found = required.find_map(|line| line.strip_prefix(module)?.strip_prefix(' ').filter(|v| v.starts_with('v')));
    found.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default()
}

/// What a build is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another process builds the same; this one waits for it.
    WaitingForOther,
    /// Go looks through the module and downloads sources: modules so far.
    Downloading(usize),
    /// Packages compiled so far, and the most there can be (those cached by Go are not counted).
    Compiling(usize, usize),
    /// The programs are in the cache.
    Done,
}

/// One report of a build.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is built, with version and programs.
    pub title: String,
    /// What it is at.
    pub step: Step,
    /// Since its start.
    pub elapsed: Duration,
    /// Minutes it takes on two cores with nothing cached.
    pub minutes: u32,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, step, elapsed, minutes } = self;
        let clock = format!("{}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60);
        match step {
            Step::WaitingForOther => write!(f, "{title}: another process builds it, waiting ({clock})"),
            Step::Downloading(0) => write!(f, "{title}: building once, about {minutes} min on two cores"),
            Step::Downloading(n) => write!(f, "{title}: downloading, {n} modules ({clock} of about {minutes} min)"),
            Step::Compiling(n, total) => {
                write!(f, "{title}: compiling, {n} of at most {total} packages ({clock} of about {minutes} min)")
            }
            Step::Done => write!(f, "{title}: ready ({clock})"),
        }
    }
}

/// Whether these programs, which were not found, can be built on this machine.
///
/// [`Tools::prepare`](super::Tools::prepare) asks before it builds anything; a caller with more to prepare can ask
/// earlier.
///
/// # Errors
/// [`ToolError::CannotBuild`]: what is missing, and the way round it.
pub fn check_prerequisites(tools: &[Tool]) -> Result<(), ToolError> {
    if tools.is_empty() {
        return Ok(());
    }
    let old = |have: &str| {
        let (major, minor) = OLDEST_GO;
        format!("Go {major}.{minor} or newer is needed and this machine has {have}")
    };
    let problem = match process::find_program("go") {
        None => Some(format!("there is no `go` in PATH (Go {}.{} or newer compiles them)", OLDEST_GO.0, OLDEST_GO.1)),
        Some(go) => match go_environment(&go) {
            Err(error) => Some(format!("`go env` fails: {error}")),
            // An older Go fetches the one it needs, unless it is told to make do with what is there.
            Ok((version, toolchain)) if older(&version) && toolchain == "local" => Some(old(&version)),
            Ok(_) => None,
        },
    };
    missing(tools, problem)
}

/// The error for tools that cannot be built for this reason, if there is one.
pub(super) fn missing(tools: &[Tool], problem: Option<String>) -> Result<(), ToolError> {
    let Some(missing) = problem else { return Ok(()) };
    let join = |names: Vec<&str>| names.join(", ");
    Err(ToolError::CannotBuild {
        tools: join(tools.iter().map(|tool| tool.name()).collect()),
        missing,
        variables: join(tools.iter().map(|tool| tool.variable()).collect()),
    })
}

fn go_environment(go: &Path) -> Result<(String, String), String> {
    let output = Command::new(go)
        .args(["env", "GOVERSION", "GOTOOLCHAIN"])
        .current_dir(std::env::temp_dir())
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().map(str::to_owned);
    Ok((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
}

/// Whether `go1.25.3` is older than needed. What cannot be read (a development build) is taken for new.
fn older(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("go").split(['.', 'r', 'b', ' ']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST_GO,
        _ => false,
    }
}

/// Builds a recipe unless somebody did meanwhile; returns the folder with the programs.
pub(super) fn build(recipe: &Recipe, cache: &Path, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf, ToolError> {
    let start = Instant::now();
    let title = recipe.title();
    let mut told: Option<(Instant, std::mem::Discriminant<Step>)> = None;
    let mut tell = |step| {
        // Thousands of packages pass by: one line in a few seconds is enough, but each new step is told at once.
        let kind = std::mem::discriminant(&step);
        if told.is_some_and(|(when, before)| before == kind && when.elapsed() < TELL_EVERY) {
            return;
        }
        told = Some((Instant::now(), kind));
        progress(&Progress { title: title.clone(), step, elapsed: start.elapsed(), minutes: recipe.minutes });
    };
    let folder = recipe.folder(cache);
    let beside = |suffix: &str| tools_folder(cache).join(format!("{}.{suffix}", recipe.folder_name()));
    let tools = tools_folder(cache);
    fs::create_dir_all(&tools).map_err(io("create", &tools))?;
    let _lock = lock(&beside("lock"), &mut tell)?;
    if recipe.programs.iter().all(|(tool, ..)| process::is_executable(&folder.join(tool.name()))) {
        tell(Step::Done);
        return Ok(folder);
    }

    // Under the lock nobody else works here: what lies about is of a build that was interrupted.
    let scratch = beside("partial");
    for stale in [&scratch, &folder] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(io("remove the remains of", stale))?;
        }
    }
    let programs = scratch.join("programs");
    fs::create_dir_all(&programs).map_err(io("create", &programs))?;
    let modules = [("go.mod", recipe.go_mod), ("go.sum", recipe.go_sum)];
    let source = module(&scratch, "source", modules.into_iter().chain(recipe.sources.iter().copied()))?;

    tell(Step::Downloading(0));
    let packages: Vec<&str> = recipe.programs.iter().map(|(_, package, _)| *package).collect();
    let mut downloaded = 0;
    let listed = go(&source, &["list", "-deps"], &packages, recipe, &mut |line| {
        downloaded += usize::from(line.is_some_and(|line| line.starts_with("go: downloading ")));
        tell(Step::Downloading(downloaded.max(1)));
    })?;
    let listed = listed.len();
    let mut compiled = 0;
    let linker = format!("-ldflags={}", recipe.linker_flags());
    let output = format!("{}/", programs.display());
    go(&source, &["build", "-v", "-trimpath", &linker, "-o", &output], &packages, recipe, &mut |line| {
        compiled += usize::from(line.is_some_and(|line| !line.starts_with("go: ")));
        tell(Step::Compiling(compiled, listed));
    })?;

    for (tool, _, made) in recipe.programs {
        let (from, to) = (programs.join(made), programs.join(tool.name()));
        if from != to {
            fs::rename(&from, &to).map_err(io("rename", &from))?;
        }
    }
    if let Some(files) = recipe.files {
        let source = module(&scratch, "files", [("go.mod", files.go_mod), ("go.sum", files.go_sum)])?;
        copy(files, &source, &programs, recipe)?;
    }
    fs::rename(&programs, &folder).map_err(io("move into the cache", &programs))?;
    fs::remove_dir_all(&scratch).map_err(io("remove", &scratch))?;
    tell(Step::Done);
    Ok(folder)
}

/// Writes a Go module into a folder of this name, and answers with the folder.
fn module<'a>(
    scratch: &Path,
    name: &str,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<PathBuf, ToolError> {
    let folder = scratch.join(name);
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    for (name, content) in files {
        let file = folder.join(name);
        fs::write(&file, content).map_err(io("write", &file))?;
    }
    Ok(folder)
}

/// Copies files of published modules, which Go holds against the pinned sums.
fn copy(files: &Files, source: &Path, to: &Path, recipe: &Recipe) -> Result<(), ToolError> {
    for (module, path) in files.paths {
        go(source, &["mod", "download"], &[module], recipe, &mut |_| {})?;
        let folder = go(source, &["list", "-m", "-f", "{{.Dir}}"], &[module], recipe, &mut |_| {})?;
        let from = Path::new(folder.first().map_or("", String::as_str)).join(path);
        let to = to.join(file_name(path));
        // Read and written: a copy would keep the mark of Go's cache that it must not be changed.
        let content = fs::read(&from).map_err(io("read", &from))?;
        fs::write(&to, content).map_err(io("write", &to))?;
    }
    Ok(())
}

/// Runs the Go program and returns the lines it printed on standard output. `look` sees each line of standard
/// error, and `None` whenever [`TELL_EVERY`] passes without one.
fn go(
    source: &Path,
    args: &[&str],
    packages: &[&str],
    recipe: &Recipe,
    look: &mut dyn FnMut(Option<&str>),
) -> Result<Vec<String>, ToolError> {
    let failed = |status: String, output: String| ToolError::Compiler {
        group: recipe.title(),
        status,
        output,
        command: format!(
            "cd {} && CGO_ENABLED=0 GOWORK=off go {} {}",
            source.display(),
            args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" "),
            packages.join(" ")
        ),
    };
    let program = process::find_program("go").unwrap_or_else(|| PathBuf::from("go"));
    let mut command = process::bound(&program);
    command.args(args).args(packages).current_dir(source);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Static programs, no C compiler; the pinned files are law; nothing of the person's own set-up changes the result.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly").env("GOWORK", "off").env("GO111MODULE", "on");
    command.env_remove("GOOS").env_remove("GOARCH").env_remove("GOEXPERIMENT");
    let mut child = process::spawn(command).map_err(io("start", &program))?;

    let (lines, inbox) = mpsc::sync_channel::<String>(256);
    let errors = child.stderr.take();
    let answers = child.stdout.take();
    let told = std::thread::spawn(move || {
        let read = errors.into_iter().flat_map(|stream| BufReader::new(stream).lines().map_while(Result::ok));
        // The inbox lives until the sender is dropped at the end of this thread.
        read.take_while(|line| lines.send(line.clone()).is_ok()).count()
    });
    let printed = std::thread::spawn(move || {
        let read = answers.into_iter().flat_map(|stream| BufReader::new(stream).lines().map_while(Result::ok));
        read.collect::<Vec<String>>()
    });
    let mut last: VecDeque<String> = VecDeque::with_capacity(OUTPUT_LINES);
    loop {
        match inbox.recv_timeout(TELL_EVERY) {
            Ok(line) => {
                look(Some(&line));
                if last.len() == OUTPUT_LINES {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => look(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let printed = printed.join().unwrap_or_default();
    drop(told.join());
    let status = child.wait().map_err(io("wait for", &program))?;
    if !status.success() {
        let output: Vec<String> = last.iter().map(|line| format!("  {line}")).collect();
        return Err(failed(status.to_string(), output.join("\n")));
    }
    Ok(printed)
}

/// Takes the lock of a build, telling if somebody else has it. Released when the file is closed, also by a crash.
fn lock(path: &Path, tell: &mut dyn FnMut(Step)) -> Result<File, ToolError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(io("create", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell(Step::WaitingForOther);
            file.lock().map_err(io("lock", path))?;
        }
        Err(TryLockError::Error(error)) => return Err(io("lock", path)(error)),
    }
    Ok(file)
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ToolError {
    let path = path.to_owned();
    move |source| ToolError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_modules() {
        for (recipe, version_of, flags) in [
            (&RECIPES[0], "v1.36.3", "-X k8s.io/component-base/version.gitVersion=v1.36.3"),
            (&RECIPES[0], "v1.36.3", "-X k8s.io/client-go/pkg/version.gitMinor=36"),
            (&RECIPES[1], "v1.35.4", "-X k8s.io/client-go/pkg/version.gitMinor=35"),
            (&RECIPES[2], "v5.8.1", "-s -w"),
            (&RECIPES[4], "v3.21.4", "-X helm.sh/helm/v3/internal/version.version=v3.21.4"),
            (&RECIPES[4], "v3.21.4", "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36"),
        ] {
            assert_eq!(version(recipe.go_mod, recipe.module), version_of, "{}", recipe.name);
            assert!(recipe.linker_flags().contains(flags), "{}: {}", recipe.name, recipe.linker_flags());
            assert!(!recipe.linker_flags().contains('{'), "{}", recipe.linker_flags());
            for (_, package, _) in recipe.programs {
                assert!(recipe.go_mod.contains(package), "no tool line for {package}");
            }
        }
        assert_eq!(version(RECIPES[0].go_mod, "k8s.io/nothing"), "");
    }

    #[test]
    fn old_compilers_are_known() {
        for (text, is_older) in [
            ("go1.25.3", true),
            ("go1.9", true),
            ("go1.26.0", false),
            ("go1.26rc1", false),
            ("go1.27", false),
            ("go2.0", false),
            ("devel go1.28-abc", false),
        ] {
            assert_eq!(older(text), is_older, "{text}");
        }
    }

    #[test]
    fn the_folder_changes_with_the_recipe() {
        let folders: std::collections::BTreeSet<_> = RECIPES.iter().map(|r| r.folder(Path::new("/c"))).collect();
        assert_eq!(folders.len(), RECIPES.len());
    }
}
