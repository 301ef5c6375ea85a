//! A tree that notes what is read through it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::rendered::{ReadSet, Seen, SeenEntry};
use crate::tree::{ContentId, Entry, Tree, TreeError};

/// A source's tree on behalf of one unit.
pub(crate) struct RecordingTree {
    inner: Arc<dyn Tree>,
    seen: Mutex<BTreeMap<Arc<str>, Seen>>,
    /// Links whose target was asked for.
    followed: Mutex<BTreeSet<String>>,
}

impl RecordingTree {
    pub(crate) fn new(inner: Arc<dyn Tree>) -> Self {
        Self { inner, seen: Mutex::default(), followed: Mutex::default() }
    }

    /// Adds what was read so far to a read set, under this source's id.
    pub(crate) fn drain_into(&self, source: &str, reads: &mut ReadSet) {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let paths = reads.sources.entry(source.into()).or_default();
        if paths.is_empty() {
            *paths = seen;
            return;
        }
        for (path, what) in seen {
            let known = paths.entry(path).or_default();
            known.entry = what.entry.or(known.entry);
            known.listing = what.listing.or(known.listing);
        }
    }

    /// The symbolic links that were followed so far, sorted.
    pub(crate) fn take_followed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, path: &str, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(path) {
            Some(known) => change(known),
            None => change(seen.entry(path.into()).or_default()),
        }
    }
}

/// What a reader learns from an entry. Of a folder no more than that it is one: what is in it is read on its own.
pub(crate) fn seen_entry(entry: Option<&Entry>) -> Option<SeenEntry> {
    entry.map(|entry| match entry {
        Entry::File { id, .. } => SeenEntry::File(*id),
        Entry::Folder { .. } => SeenEntry::Folder,
        Entry::Link { id } => SeenEntry::Link(*id),
        Entry::Submodule => SeenEntry::Submodule,
    })
}

/// What a reader learns from a listing: names and what kind of thing each is.
pub(crate) fn seen_listing(listing: Option<&[(String, Entry)]>) -> Option<ContentId> {
    listing.map(|entries| {
        let mut hasher = blake3::Hasher::new();
        for (name, entry) in entries {
            let kind: &[u8] = match entry {
                Entry::File { .. } => b"\0f",
                Entry::Folder { .. } => b"\0d",
                Entry::Link { .. } => b"\0l",
                Entry::Submodule => b"\0s",
            };
            hasher.update(name.as_bytes());
            hasher.update(kind);
        }
        ContentId(*hasher.finalize().as_bytes())
    })
}

/// Whether a tree gives the same answers to everything that was asked of another one.
pub(crate) fn same_answers(paths: &BTreeMap<Arc<str>, Seen>, tree: &dyn Tree) -> bool {
    paths.iter().all(|(path, seen)| {
        let entry = |was: Option<SeenEntry>| tree.entry(path).is_ok_and(|is| seen_entry(is.as_ref()) == was);
        let listing = |was: Option<ContentId>| tree.list(path).is_ok_and(|is| seen_listing(is.as_deref()) == was);
        seen.entry.is_none_or(entry) && seen.listing.is_none_or(listing)
    })
}

impl Tree for RecordingTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>, TreeError> {
        let entry = self.inner.entry(path)?;
        self.note(path, |seen| seen.entry = Some(seen_entry(entry.as_ref())));
        Ok(entry)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<(String, Entry)>>, TreeError> {
        let listing = self.inner.list(path)?;
        self.note(path, |seen| seen.listing = Some(seen_listing(listing.as_deref())));
        Ok(listing)
    }

    fn read(&self, path: &str) -> Result<Option<Arc<[u8]>>, TreeError> {
        let entry = self.inner.entry(path)?;
        self.note(path, |seen| seen.entry = Some(seen_entry(entry.as_ref())));
        if matches!(entry, Some(Entry::Link { .. })) {
            self.followed.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        self.inner.read(path)
    }

    fn origin(&self, path: &str) -> Option<(Arc<str>, String)> {
        self.inner.origin(path)
    }
}
