//! The programs that tests, benchmarks and sandbox run: etcd, the Kubernetes control plane, kubectl, Flux's
//! kustomize-controller, and the oracles kustomize and helm.
//!
//! Each is looked up by itself, in this order:
//! 1. its environment variable (`TEST_ASSET_ETCD`, `TEST_ASSET_KUBE_APISERVER`, ...: the names envtest users know);
//! 2. the folder in `KUBEBUILDER_ASSETS`;
//! 3. our cache: `DRIFTLESS_CACHE`, else `XDG_CACHE_HOME/driftless`, else `HOME/.cache/driftless`;
//! 4. else it is built into that cache, once, from the published Go modules that `e2e/controlplane/` pins, for the
//!    Kubernetes that `DRIFTLESS_KUBERNETES` names.
//!
//! What cannot be found or built is an error. No test is ever skipped for want of a program.

mod build;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use build::{Progress, Step, check_prerequisites};

use crate::process::is_executable;

/// The folder that envtest users have their binaries in.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// The variable that names the Kubernetes to build and to run.
pub const KUBERNETES_VARIABLE: &str = "DRIFTLESS_KUBERNETES";

/// A Kubernetes version whose programs can be built here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kubernetes {
    /// 1.35.
    V1_35,
    /// 1.36.
    #[default]
    V1_36,
}

impl Kubernetes {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::V1_35, Self::V1_36];

    /// As it is written in [`KUBERNETES_VARIABLE`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1_35 => "1.35",
            Self::V1_36 => "1.36",
        }
    }

    /// The one that [`KUBERNETES_VARIABLE`] names; the newest where it is not set.
    ///
    /// # Errors
    /// [`ToolError::BadKubernetes`].
    pub fn chosen() -> Result<Self, ToolError> {
        match std::env::var_os(KUBERNETES_VARIABLE).filter(|value| !value.is_empty()) {
            None => Ok(Self::default()),
            Some(value) => Self::parse(&value.to_string_lossy()),
        }
    }

    fn parse(value: &str) -> Result<Self, ToolError> {
        let found = Self::ALL.into_iter().find(|version| version.name() == value);
        found.ok_or_else(|| ToolError::BadKubernetes {
            value: value.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kubectl.
    Kubectl,
    /// kustomize.
    Kustomize,
    /// helm.
    Helm,
    /// A small program of ours around kustomize's library, which benchmarks compare with.
    KustomizeLibrary,
    /// Flux's kustomize-controller.
    KustomizeController,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Kubectl,
        Self::Kustomize,
        Self::Helm,
        Self::KustomizeLibrary,
        Self::KustomizeController,
    ];

    /// Those that tests need.
    pub const TESTS: [Self; 7] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Kubectl,
        Self::Kustomize,
        Self::Helm,
        Self::KustomizeController,
    ];

    /// The three that make a cluster.
    pub const CONTROL_PLANE: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// File name of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
            Self::KustomizeLibrary => "kustomize-library",
            Self::KustomizeController => "kustomize-controller",
        }
    }

    /// Environment variable that names it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Etcd => "TEST_ASSET_ETCD",
            Self::ApiServer => "TEST_ASSET_KUBE_APISERVER",
            Self::ControllerManager => "TEST_ASSET_KUBE_CONTROLLER_MANAGER",
            Self::Kubectl => "TEST_ASSET_KUBECTL",
            Self::Kustomize => "TEST_ASSET_KUSTOMIZE",
            Self::Helm => "TEST_ASSET_HELM",
            Self::KustomizeLibrary => "TEST_ASSET_KUSTOMIZE_LIBRARY",
            Self::KustomizeController => "TEST_ASSET_KUSTOMIZE_CONTROLLER",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a program was taken from where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The environment variable of its own.
    Variable,
    /// `KUBEBUILDER_ASSETS`.
    AssetsFolder,
    /// Our cache: the version is the one that `e2e/controlplane/` pins.
    Cache,
}

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its absolute path.
    pub path: PathBuf,
    /// Where that came from.
    pub origin: Origin,
}

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A variable points at something that is no program.
    #[error("{variable} says {path:?}, but there is no executable file; correct or unset it")]
    BadVariable {
        /// The variable.
        variable: &'static str,
        /// What it says.
        path: PathBuf,
    },
    /// `KUBEBUILDER_ASSETS` is not a folder.
    #[error("{ASSETS_VARIABLE} says {path:?}, which is not a folder; correct or unset it")]
    BadAssetsFolder {
        /// What it says.
        path: PathBuf,
    },
    /// A Kubernetes that is not pinned here.
    #[error("{KUBERNETES_VARIABLE} says {value:?}; it can be one of: {known}")]
    BadKubernetes {
        /// What it says.
        value: String,
        /// What it can say.
        known: String,
    },
    /// Nowhere to keep what is built.
    #[error("no folder to keep built programs in: set HOME, XDG_CACHE_HOME or DRIFTLESS_CACHE")]
    NoCacheFolder,
    /// Programs to build are missing something to be built with.
    #[error(
        "{tools} must be built once, but {missing}\n  either install what is missing and run this again,\n  or put \
         these programs into a folder and name it in {ASSETS_VARIABLE} (or name each: {variables})"
    )]
    CannotBuild {
        /// The programs, by name.
        tools: String,
        /// What is missing, in words.
        missing: String,
        /// The variables that name the programs.
        variables: String,
    },
    /// The Go compiler failed.
    #[error("building {group} with Go failed ({status}); to see it again: {command}\n{output}")]
    Compiler {
        /// What was built.
        group: String,
        /// How the compiler ended.
        status: String,
        /// Its last lines.
        output: String,
        /// How to run the same again by hand.
        command: String,
    },
    /// The file system refuses.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Programs that exist, by tool.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    found: BTreeMap<Tool, Found>,
}

impl Tools {
    /// Finds all of `wanted`, building what is not there. Blocks, for many minutes if something must be built;
    /// `progress` is called with every step and at least every few seconds while it compiles.
    ///
    /// Safe while other processes do the same: one builds, the others wait for it and say so.
    ///
    /// # Errors
    /// See [`ToolError`]. What is missing is reported before anything is built.
    pub fn prepare(wanted: &[Tool], progress: &mut dyn FnMut(&Progress)) -> Result<Self, ToolError> {
        let cache = cache_folder()?;
        let mut found = BTreeMap::new();
        let mut absent = Vec::new();
        for &tool in wanted {
            match locate(tool, &cache)? {
                Some(place) => drop(found.insert(tool, place)),
                None => absent.push(tool),
            }
        }
        let recipes = build::recipes_for(&absent, Kubernetes::chosen()?);
        build::check_prerequisites(&absent)?;
        for recipe in recipes {
            let folder = build::build(recipe, &cache, progress)?;
            for &tool in absent.iter().filter(|tool| recipe.makes(**tool)) {
                found.insert(tool, Found { path: folder.join(tool.name()), origin: Origin::Cache });
            }
        }
        Ok(Self { found })
    }

    /// [`prepare`](Self::prepare) for asynchronous callers.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    #[cfg(feature = "full")]
    pub async fn prepare_async(
        wanted: &[Tool],
        mut progress: impl FnMut(&Progress) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let wanted = wanted.to_vec();
        Ok(tokio::task::spawn_blocking(move || Self::prepare(&wanted, &mut progress)).await??)
    }

    /// A program that was asked for.
    pub fn get(&self, tool: Tool) -> Option<&Found> {
        self.found.get(&tool)
    }

    /// Path of a program.
    ///
    /// # Errors
    /// It was not among those asked for.
    pub fn path(&self, tool: Tool) -> anyhow::Result<&Path> {
        let found = self.get(tool);
        found.map(|found| found.path.as_path()).ok_or_else(|| anyhow::anyhow!("{tool} was not prepared"))
    }

    /// The definitions of Flux's kinds, which are beside its controller.
    ///
    /// # Errors
    /// The controller was not among the programs asked for, or is one from elsewhere without these files.
    pub fn flux_definitions(&self) -> anyhow::Result<Vec<PathBuf>> {
        let program = self.path(Tool::KustomizeController)?;
        let folder = program.parent().unwrap_or(Path::new("."));
        let files: Vec<PathBuf> = build::flux_definitions().map(|name| folder.join(name)).collect();
        match files.iter().find(|file| !file.is_file()) {
            None => Ok(files),
            Some(file) => anyhow::bail!(
                "{} is missing: put the definitions of Flux's kinds beside {}, or unset {} to have both built",
                file.display(),
                program.display(),
                Tool::KustomizeController.variable()
            ),
        }
    }

    /// Flux's controller, for people: where it was built here, with the version that `e2e/controlplane/` pins.
    ///
    /// # Errors
    /// It was not among the programs asked for.
    pub fn flux_name(&self) -> anyhow::Result<String> {
        Ok(match self.get(Tool::KustomizeController).map(|found| found.origin) {
            Some(Origin::Cache) => format!("{} {}", Tool::KustomizeController, build::flux_version()),
            _ => self.path(Tool::KustomizeController)?.display().to_string(),
        })
    }

    /// All, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Tool, &Found)> {
        self.found.iter().map(|(&tool, found)| (tool, found))
    }
}

/// Where a program is, if it needs no building.
///
/// # Errors
/// A variable is set and wrong, which is never silently passed over.
pub fn locate(tool: Tool, cache: &Path) -> Result<Option<Found>, ToolError> {
    if let Some(path) = variable(tool.variable()) {
        if !is_executable(&path) {
            return Err(ToolError::BadVariable { variable: tool.variable(), path });
        }
        return Ok(Some(Found { path: absolute(path)?, origin: Origin::Variable }));
    }
    if let Some(folder) = variable(ASSETS_VARIABLE) {
        if !folder.is_dir() {
            return Err(ToolError::BadAssetsFolder { path: folder });
        }
        let path = folder.join(tool.name());
        if is_executable(&path) {
            return Ok(Some(Found { path: absolute(path)?, origin: Origin::AssetsFolder }));
        }
    }
    let path = build::recipe_of(tool, Kubernetes::chosen()?).folder(cache).join(tool.name());
    Ok(is_executable(&path).then_some(Found { path, origin: Origin::Cache }))
}

/// The folder for everything that is built or downloaded once.
///
/// # Errors
/// None of the three variables is set.
pub fn cache_folder() -> Result<PathBuf, ToolError> {
    let folder = variable("DRIFTLESS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("driftless")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/driftless")))
        .ok_or(ToolError::NoCacheFolder)?;
    absolute(folder)
}

/// Prints progress to standard error, a line each: what tests use.
pub fn print_progress(progress: &Progress) {
    eprintln!("{progress}");
}

/// An environment variable that is set and not empty, as a path.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn absolute(path: PathBuf) -> Result<PathBuf, ToolError> {
    std::path::absolute(&path).map_err(|source| ToolError::Io { action: "find", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_exactly_one_recipe_for_each_kubernetes() {
        for kubernetes in Kubernetes::ALL {
            for tool in Tool::ALL {
                assert_eq!(build::recipes_for(&[tool], kubernetes).len(), 1, "{tool} {kubernetes:?}");
            }
            assert_eq!(build::recipes_for(&Tool::CONTROL_PLANE, kubernetes).len(), 1, "one build makes a cluster");
            assert_eq!(build::recipes_for(&Tool::ALL, kubernetes).len(), 5);
        }
    }

    #[test]
    fn a_kubernetes_that_is_not_pinned_is_refused_with_those_that_are() {
        assert_eq!(Kubernetes::parse("1.35").unwrap(), Kubernetes::V1_35);
        let error = Kubernetes::parse("1.12").unwrap_err().to_string();
        assert!(error.contains("1.12") && error.contains("1.35, 1.36"), "{error}");
    }

    #[test]
    fn what_cannot_be_built_names_the_way_round() {
        let error = build::missing(&[Tool::Etcd, Tool::Helm], Some("no Go toolchain".into())).unwrap_err().to_string();
        for part in ["etcd, helm", "no Go toolchain", ASSETS_VARIABLE, "TEST_ASSET_ETCD, TEST_ASSET_HELM"] {
            assert!(error.contains(part), "{part} not in: {error}");
        }
    }
}
