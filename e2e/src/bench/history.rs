//! A real Git repository with many commits of one changed file each.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::repo::{self, Files};
use crate::process::find_program;

/// What a commit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Everything: the first commit.
    All,
    /// A file of one overlay, by its number.
    Overlay(usize),
    /// A file of the base, which all overlays have.
    Base,
}

/// Objects of the base.
const BASE: usize = 50;

/// Makes a bare repository in `folder`: a fleet of clusters, and after that commits of one file each, four out of five in
/// an overlay and one in the base. Always the same for the same numbers. Answers with every commit and what it changed.
pub(super) fn make(folder: &Path, clusters: usize, commits: usize) -> Result<Vec<(String, Change)>> {
    git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", "."])?;
    let mut files = repo::overlays(BASE, clusters);
    for number in 0..clusters {
        let name = repo::cluster_name(number);
        files.insert(format!("clusters/{name}/apps.yaml"), unit(number));
    }
    let mut changes = vec![Change::All];
    let mut stream = String::new();
    commit(&mut stream, 0, &files);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 1..=commits {
        // xorshift
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below.max(1) as u64).unwrap_or(0)
        };
        let (change, path, text) = if next(5) == 0 {
            let object = next(BASE) / 3 * 3;
            (Change::Base, format!("base/{object:04}.yaml"), repo::deployment(object, number))
        } else {
            let overlay = next(clusters);
            let folder = repo::overlay_folder(overlay);
            let (file, text) = match next(2) {
                0 => ("settings.env", repo::settings(overlay, number)),
                _ => ("replicas.yaml", repo::replicas(10 + number)),
            };
            (Change::Overlay(overlay), format!("{folder}/{file}"), text)
        };
        commit(&mut stream, number, &Files::from([(path, text)]));
        changes.push(change);
    }
    let mut child =
        command(folder, &["fast-import", "--quiet"])?.stdin(Stdio::piped()).spawn().context("start git fast-import")?;
    child.stdin.take().context("the input of git")?.write_all(stream.as_bytes()).context("write commits to git")?;
    ensure!(child.wait().context("wait for git")?.success(), "git fast-import failed");
    let list = git(folder, &["rev-list", "--reverse", "main"])?;
    let ids: Vec<String> = list.lines().map(str::to_owned).collect();
    ensure!(ids.len() == changes.len(), "git has {} commits of {}", ids.len(), changes.len());
    Ok(ids.into_iter().zip(changes).collect())
}

/// Fills an empty folder with the files of a commit.
pub(super) fn check_out(repository: &Path, commit: &str, folder: &Path) -> Result<()> {
    let work = format!("--work-tree={}", folder.display());
    git(repository, &[&work, "checkout", "--quiet", "--force", commit, "--", "."]).map(drop)
}

/// The Flux Kustomization of a cluster.
fn unit(number: usize) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: apps
  namespace: flux-system
spec:
  interval: 10m
  prune: true
  path: ./{}
  sourceRef:
    kind: GitRepository
    name: flux-system
",
        repo::overlay_folder(number)
    )
}

fn commit(stream: &mut String, number: usize, files: &Files) {
    let message = format!("change {number}\n");
    let time = 1_767_225_600 + number * 60;
    *stream += "commit refs/heads/main\n";
    *stream += &format!("committer Author <author@example.invalid> {time} +0000\ndata {}\n{message}", message.len());
    for (path, text) in files {
        *stream += &format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len());
    }
}

fn command(folder: &Path, args: &[&str]) -> Result<Command> {
    let program = find_program("git").context("there is no `git` in PATH; install it")?;
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    // Nothing of the person's own settings.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    Ok(command)
}

fn git(folder: &Path, args: &[&str]) -> Result<String> {
    let output = command(folder, args)?.output().context("start git")?;
    ensure!(
        output.status.success(),
        "git {} failed ({}): {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
