//! Bases that many overlays share, built once.
//!
//! What a base amounts to depends on what it reads and on little else, so a memo may hand it to every overlay of every
//! cluster. It is kept with all that was asked of the tree on the way. A later build asks the same in the same order, and
//! takes the base if it is given the same answers. A build is a function of the answers it gets: whatever was asked until
//! one of them differs is what building the base would have asked too, so read sets are the same with and without this.

use super::Limits;
use super::accumulate::{Accumulated, Build, Result};
use super::error::{Origin, Warning};
use super::file::File;
use super::load::Watch;
use crate::tree::Entry;
use std::collections::HashSet;
use std::sync::Arc;

/// A base as it was built.
#[derive(Debug)]
pub(crate) struct Base {
    /// What was asked of the tree, and what stood there.
    seen: Vec<(Arc<str>, Option<Entry>)>,
    /// The folders below that were entered, and how many levels below this one.
    entered: Vec<(String, usize)>,
    limits: Limits,
    read_bytes: u64,
    compared: u64,
    needs_schema: bool,
    warnings: Vec<Warning>,
    result: Accumulated,
}

impl Base {
    /// The memory it takes, counting what it shares with parsed files as its own.
    pub(crate) fn bytes(&self) -> usize {
        let paths: usize = self.seen.iter().map(|(path, _)| path.len() + size_of::<(Arc<str>, Option<Entry>)>()).sum();
        paths + self.result.objects.iter().map(super::memo::weight_of).sum::<usize>()
    }
}

/// What a memo knows of a base.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// It was built once: when it is built again, others will want it too.
    Built,
    /// It takes more memory than the memo gives to one.
    Large,
    Kept(Arc<Base>),
}

impl Build<'_> {
    /// Builds a folder that `resources` names, or takes what another build made of it.
    pub(crate) fn base(&mut self, full: &str, file: &File, path: &str, place: &Origin) -> Result<Accumulated> {
        let id = match self.files.stands(&file.path) {
            // Provenance names the way to the base, and a schema set further out changes how it merges.
            Ok(Some(Entry::File { id, .. })) if self.tracking.is_none() && !self.schemas.fixed => id,
            _ => return self.folder_below(full, file, path, place),
        };
        let memo = self.options.memo.clone();
        match memo.base(id, full) {
            None | Some(Known::Large) => self.folder_below(full, file, path, place),
            Some(Known::Kept(base)) if self.may_take(&base) => Ok(self.take(&base)),
            Some(_) => {
                let (base, result) = self.watched(full, file, path, place)?;
                if let Some(base) = base {
                    memo.keep_base(id, full, base);
                }
                Ok(result)
            }
        }
    }

    fn folder_below(&mut self, full: &str, file: &File, path: &str, place: &Origin) -> Result<Accumulated> {
        self.below(path, full, place, |b| b.folder(full, file, Accumulated::new(b.files.limits())))
    }

    /// Builds a base while noting what it goes by; `None` where it lists folders or brings a schema of its own.
    fn watched(&mut self, full: &str, file: &File, path: &str, place: &Origin) -> Result<(Option<Base>, Accumulated)> {
        let (warned, read) = (self.warnings.len(), self.files.read_bytes());
        let (asked, compared) = self.schemas.uses();
        self.files.watch();
        let result = self.folder_below(full, file, path, place);
        let Watch { paths, entered, listed } = self.files.unwatch();
        let result = result?;
        if listed || self.schemas.fixed {
            return Ok((None, result));
        }
        let mut once = HashSet::new();
        let mut seen = Vec::new();
        for path in paths {
            if once.insert(path.clone()) {
                let Ok(entry) = self.files.stands(&path) else { return Ok((None, result)) };
                seen.push((path, entry));
            }
        }
        let (asked_after, compared_after) = self.schemas.uses();
        let base = Base {
            seen,
            entered: entered.into_iter().map(|(folder, level)| (folder, level - self.chain.len())).collect(),
            limits: *self.files.limits(),
            read_bytes: self.files.read_bytes() - read,
            compared: compared_after - compared,
            needs_schema: asked_after > asked,
            warnings: self.warnings[warned..].to_vec(),
            result: result.clone(),
        };
        Ok((Some(base), result))
    }

    /// Whether building this base now would end as it did: the same files, no folder that is being built already, and
    /// nothing beyond a limit.
    fn may_take(&self, base: &Base) -> bool {
        let level = self.chain.len();
        let free = |(folder, below): &(String, usize)| {
            self.circle(folder).is_none() && level + below <= self.files.limits().base_depth
        };
        let fits = base.limits == *self.files.limits()
            && self.files.read_bytes().saturating_add(base.read_bytes) <= self.files.limits().read_bytes
            && self.schemas.may_compare(base.compared);
        let same = |(path, was): &(Arc<str>, Option<Entry>)| self.files.stands(path).is_ok_and(|is| same(is, *was));
        fits && base.entered.iter().all(free) && base.seen.iter().all(same)
    }

    fn take(&mut self, base: &Base) -> Accumulated {
        self.files.count_read(base.read_bytes);
        for (folder, below) in &base.entered {
            self.files.enter(folder, self.chain.len() + below);
        }
        if base.needs_schema {
            self.schemas.need();
        }
        self.schemas.count(base.compared);
        self.warnings.extend_from_slice(&base.warnings);
        base.result.clone()
    }
}

/// Whether two answers mean the same to a build, which asks for what is in a folder on its own.
fn same(is: Option<Entry>, was: Option<Entry>) -> bool {
    match (is, was) {
        (Some(Entry::Folder { .. }), Some(Entry::Folder { .. })) => true,
        (is, was) => is == was,
    }
}
