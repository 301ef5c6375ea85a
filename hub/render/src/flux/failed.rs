//! What a failed build did not come to: read all the same, so that it is known when something of it changes.
//!
//! A build ends with its first error. What lies behind that is read by nobody, and a file that is put there would change
//! nothing that is known of the unit, although it may hold what another unit gave away.

use std::collections::BTreeSet;

use super::path;
use crate::kustomize::FILE_NAMES;
use crate::tree::{Entry, Tree, TreeError};

/// Files and folders looked at, and a bound.
const PLACES: usize = 10_000;

/// Looks at everything below a folder, and at what its kustomization files may name, however they are broken.
pub(super) fn look_around(tree: &dyn Tree, folder: &str) {
    let mut around = Around { tree, seen: BTreeSet::new(), open: vec![folder.to_owned()] };
    while let Some(next) = around.open.pop() {
        if around.seen.len() >= PLACES {
            return;
        }
        // What cannot be read is an error of the build, which has one already; it holds up no other place.
        drop(around.look(&next));
    }
}

struct Around<'t> {
    tree: &'t dyn Tree,
    seen: BTreeSet<String>,
    open: Vec<String>,
}

impl Around<'_> {
    fn look(&mut self, at: &str) -> Result<(), TreeError> {
        if !self.seen.insert(at.to_owned()) {
            return Ok(());
        }
        match self.tree.entry(at)? {
            Some(Entry::Folder { .. }) => {
                let names = self.tree.list(at)?.unwrap_or_default();
                self.open.extend(names.into_iter().map(|(name, _)| path::join(at, &name)));
            }
            Some(Entry::File { .. }) => {
                let (folder, name) = at.rsplit_once('/').unwrap_or(("", at));
                if FILE_NAMES.contains(&name)
                    && let Some(bytes) = self.tree.read(at)?
                {
                    self.named(folder, &String::from_utf8_lossy(&bytes));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whatever in a text may be a path of something that is there.
    fn named(&mut self, folder: &str, text: &str) {
        let apart = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']' | '{' | '}');
        let paths = text.split(apart).filter(|word| {
            !word.contains("://") && (word.starts_with('.') || word.contains('/') || word.ends_with(".yaml"))
        });
        self.open.extend(paths.map(|word| path::clamped(&format!("{folder}/{word}"))));
    }
}
