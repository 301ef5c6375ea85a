//! A folder of this machine as a tree in memory; symbolic links stay links.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use driftless_render::tree::MemTree;

pub(super) fn read(root: &Path) -> Result<MemTree> {
    let mut tree = MemTree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if kind.is_symlink() {
                let target = fs::read_link(&path).with_context(|| format!("read {}", path.display()))?;
                tree.insert_link(name, target.to_string_lossy().into_owned());
            } else if kind.is_dir() {
                if entry.file_name() != ".git" {
                    folders.push(path);
                }
            } else if kind.is_file() {
                tree.insert(name, fs::read(&path).with_context(|| format!("read {}", path.display()))?);
            }
        }
    }
    Ok(tree)
}
