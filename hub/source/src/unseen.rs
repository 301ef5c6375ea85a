//! What of a folder on disk Git would not show to anybody else: ignored files, and the files of submodules.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use gix::bstr::BStr;
use gix::index::entry::{Flags, Mode};
use gix::worktree::stack::state::ignore::Source;

use crate::tree::join;

/// Paths relative to the folder that is shown.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// Ignored, and not tracked all the same; of a folder, all below it.
    hidden: HashSet<String>,
    submodules: HashSet<String>,
    /// How many tracked files a sparse checkout keeps off the disk.
    pub(crate) sparse: usize,
}

impl Unseen {
    /// Looks through the folder `folder` of a work tree, by names alone: no file but Git's own is read.
    ///
    /// Only what the repository itself says counts (`.gitignore`, `.git/info/exclude`): the ignore rules of one person are
    /// not those of a pipeline.
    pub(crate) fn of(repo: &gix::Repository, folder: &str, depth: usize) -> Result<Self, gix::Error> {
        let mut out = Self::default();
        let Some(top) = repo.workdir().map(Path::to_path_buf) else { return Ok(out) };
        let index = repo.index_or_empty()?;
        let below = |path: &BStr| {
            let path = path.to_string();
            if folder.is_empty() { Some(path) } else { Some(path.strip_prefix(folder)?.strip_prefix('/')?.to_owned()) }
        };
        for entry in index.entries() {
            let submodule = entry.mode == Mode::COMMIT;
            let sparse = entry.flags.contains(Flags::SKIP_WORKTREE);
            if (submodule || sparse)
                && let Some(path) = below(entry.path(&index))
            {
                out.sparse += usize::from(sparse && !top.join(folder).join(&path).exists());
                out.submodules.extend(submodule.then_some(path));
            }
        }
        let mut rules = repo.excludes(&index, None, Source::WorktreeThenIdMappingIfNotSkipped)?;
        let mut open: Vec<(PathBuf, String, usize)> = vec![(top.join(folder), String::new(), 0)];
        while let Some((dir, shown, level)) = open.pop() {
            // What cannot be listed is told by whoever reads it.
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = join(&shown, &name);
                if name == ".git" || out.submodules.contains(&path) {
                    continue;
                }
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let full = join(folder, &path);
                let at: &BStr = full.as_str().into();
                let tracked = if is_dir { index.path_is_directory(at) } else { index.entry_by_path(at).is_some() };
                let mode = if is_dir { Mode::DIR } else { Mode::FILE };
                if !tracked && rules.at_entry(at, Some(mode))?.is_excluded() {
                    out.hidden.insert(path);
                } else if is_dir && level < depth {
                    open.push((entry.path(), path, level + 1));
                }
            }
        }
        Ok(out)
    }

    /// Whether a path, or a folder it lies in, is not shown.
    pub(crate) fn hides(&self, path: &str) -> bool {
        if self.hidden.is_empty() && self.submodules.is_empty() {
            return false;
        }
        let ends = path.match_indices('/').map(|(end, _)| end);
        ends.filter_map(|end| path.get(..end))
            .any(|above| self.hidden.contains(above) || self.submodules.contains(above))
            || self.hidden.contains(path)
    }

    /// Whether a submodule stands here.
    pub(crate) fn is_submodule(&self, path: &str) -> bool {
        self.submodules.contains(path)
    }
}
