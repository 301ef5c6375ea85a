//! What a mono-repo holds, as a value: a case changes a copy, and the original brings everything back.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::World;

/// Files by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(BTreeMap<String, String>);

impl Content {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this file, replaced if it is there.
    #[must_use]
    pub fn with(mut self, path: &str, text: impl Into<String>) -> Self {
        self.0.insert(path.to_owned(), text.into());
        self
    }

    /// Without this file.
    ///
    /// # Panics
    /// When it is not there: a mistake of the test.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        assert!(self.0.remove(path).is_some(), "no file {path}");
        self
    }

    /// With a part of a file replaced.
    ///
    /// # Panics
    /// When the file or the part is not there: a mistake of the test.
    #[must_use]
    pub fn replace(mut self, path: &str, from: &str, to: &str) -> Self {
        let text = self.0.get_mut(path).unwrap_or_else(|| panic!("no file {path}"));
        assert!(text.contains(from), "{path} does not hold {from:?}");
        *text = text.replace(from, to);
        self
    }

    /// With text at the end of a file.
    ///
    /// # Panics
    /// When the file is not there: a mistake of the test.
    #[must_use]
    pub fn append(mut self, path: &str, text: &str) -> Self {
        self.0.get_mut(path).unwrap_or_else(|| panic!("no file {path}")).push_str(text);
        self
    }

    /// Only the files below a folder.
    #[must_use]
    pub fn only(&self, folder: &str) -> Self {
        self.under(folder).fold(Self::new(), |content, (path, text)| content.with(path, text))
    }

    /// The files below a folder, by path.
    pub fn under(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        self.0
            .iter()
            .filter(move |(path, _)| path.starts_with(&folder))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The root of a cluster as `flux bootstrap` writes it.
    #[must_use]
    pub fn root(self, cluster: &str) -> Self {
        let sync = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 1m0s
  ref:
    branch: main
  url: https://git.example.com/fleet.git
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 10m0s
  path: ./clusters/{cluster}
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
"
        );
        let list = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - gotk-sync.yaml
";
        let folder = format!("clusters/{cluster}/flux-system");
        self.with(&format!("{folder}/gotk-sync.yaml"), sync).with(&format!("{folder}/kustomization.yaml"), list)
    }

    /// A unit of a cluster, in a file of its own; `more` are further lines of its spec, indented by two.
    #[must_use]
    pub fn unit(self, cluster: &str, name: &str, path: &str, more: &str) -> Self {
        let text = format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: {name}
  namespace: flux-system
spec:
  interval: 10m
  retryInterval: 10s
  path: {path}
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
{more}"
        );
        self.with(&format!("clusters/{cluster}/{name}.yaml"), text)
    }

    /// Writes it into an empty folder.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (path, text) in &self.0 {
            let file = folder.join(path);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            }
            std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Makes the mono-repo hold exactly this: one commit, pushed. Its hash.
    ///
    /// # Errors
    /// git fails.
    pub async fn commit(&self, world: &mut World, message: &str) -> Result<String> {
        let folder = tempfile::tempdir().context("create a folder")?;
        self.write(folder.path())?;
        world.repo.commit_folder(message, folder.path()).await
    }

    /// Commits it, and waits until every unit runs that commit.
    ///
    /// # Errors
    /// git fails, or a unit does not get there; the message says how it stands.
    pub async fn reset(&self, world: &mut World) -> Result<()> {
        let commit = self.commit(world, "as in the beginning").await?;
        world.wait_at(&commit).await
    }
}
