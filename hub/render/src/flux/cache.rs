//! Builds of units, made or remembered: cost follows the change.
//!
//! A build is remembered under everything it was given (the unit's definition, its variables) and with everything it read.
//! It serves again wherever it is given the same and none of the paths it read has another answer, which the difference
//! of two trees tells without reading a file.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::diff::{self, Difference};
use super::unit::{self, Item, UnitInputs, UnitOutput};
use crate::tree::{ContentId, Tree};

/// Who builds units.
pub(crate) trait Builds: Sync {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput>;
}

/// Builds each unit anew.
pub(crate) struct Anew;

impl Builds for Anew {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        Arc::new(unit::build(inputs))
    }
}

/// Results kept per set of inputs: one per revision that clusters still stand at, and one for the next.
const RESULTS_PER_KEY: usize = 4;
/// Revisions a result is known to be good for.
const REVISIONS_PER_RESULT: usize = 8;
/// Differences between revisions kept.
const DIFFERENCES: usize = 64;

/// Remembers builds across commits and clusters. Shared by any number of threads; bounded by the bytes of the objects it
/// keeps.
#[derive(Default)]
pub struct Cache {
    inner: Mutex<Inner>,
    limit: usize,
}

#[derive(Default)]
struct Inner {
    results: HashMap<Key, Vec<Remembered>>,
    differences: BTreeMap<(ContentId, ContentId), Arc<Difference>>,
    bytes: usize,
    /// Counts uses: what was not used for longest goes first.
    now: u64,
    stats: CacheStats,
}

/// What a cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Builds served from memory.
    pub hits: u64,
    /// Builds made.
    pub builds: u64,
    /// Bytes of objects kept.
    pub bytes: usize,
    /// Results kept.
    pub results: usize,
}

type Key = [u8; 32];

struct Remembered {
    output: Arc<UnitOutput>,
    /// Trees it is good for, newest last.
    good_for: Vec<ContentId>,
    /// The newest of them.
    tree: Arc<dyn Tree>,
    bytes: usize,
    used: u64,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({:?})", self.stats())
    }
}

impl Cache {
    /// A cache that keeps objects of at most `limit` bytes in all.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), limit }
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        let results = inner.results.values().map(Vec::len).sum();
        CacheStats { bytes: inner.bytes, results, ..inner.stats }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A remembered result that is good for this tree.
    fn find(&self, key: &Key, source: &str, tree: &Arc<dyn Tree>, id: ContentId) -> Option<Arc<UnitOutput>> {
        let mut candidates = Vec::new();
        {
            let mut inner = self.lock();
            inner.now += 1;
            let now = inner.now;
            for known in inner.results.get_mut(key)? {
                if known.good_for.contains(&id) {
                    known.used = now;
                    return Some(known.output.clone());
                }
                if let Some(newest) = known.good_for.last() {
                    candidates.push((known.output.clone(), *newest, known.tree.clone()));
                }
            }
        }
        // Comparing trees reads folders: not under the lock.
        for (output, newest, old) in candidates.into_iter().rev() {
            let difference = self.difference(newest, &old, id, tree)?;
            if difference.touches(source, &output.reads) {
                continue;
            }
            let mut inner = self.lock();
            let now = inner.now;
            let known = inner.results.get_mut(key).into_iter().flatten().find(|r| Arc::ptr_eq(&r.output, &output));
            if let Some(known) = known {
                if known.good_for.len() >= REVISIONS_PER_RESULT {
                    known.good_for.remove(0);
                }
                known.good_for.push(id);
                known.tree = tree.clone();
                known.used = now;
            }
            return Some(output);
        }
        None
    }

    fn difference(
        &self,
        old_id: ContentId,
        old: &Arc<dyn Tree>,
        new_id: ContentId,
        new: &Arc<dyn Tree>,
    ) -> Option<Arc<Difference>> {
        if let Some(known) = self.lock().differences.get(&(old_id, new_id)) {
            return Some(known.clone());
        }
        // A tree that cannot be read is no reason to fail here: the build says so.
        let difference = Arc::new(diff::difference(&**old, &**new).ok()?);
        let mut inner = self.lock();
        if inner.differences.len() >= DIFFERENCES {
            inner.differences.clear();
        }
        inner.differences.insert((old_id, new_id), difference.clone());
        Some(difference)
    }

    fn keep(&self, key: Key, output: &Arc<UnitOutput>, tree: &Arc<dyn Tree>, id: ContentId) {
        let bytes = output.items.iter().map(size).sum::<usize>() + 1024;
        let mut inner = self.lock();
        inner.now += 1;
        let used = inner.now;
        let known = inner.results.entry(key).or_default();
        let dropped = if known.len() >= RESULTS_PER_KEY { known.remove(0).bytes } else { 0 };
        known.push(Remembered { output: output.clone(), good_for: vec![id], tree: tree.clone(), bytes, used });
        inner.bytes = (inner.bytes + bytes).saturating_sub(dropped);
        if inner.bytes > self.limit {
            inner.shrink(self.limit);
        }
    }
}

impl Inner {
    /// Drops what was not used for longest until a quarter of the limit is free.
    fn shrink(&mut self, limit: usize) {
        let mut ages: Vec<(u64, usize)> = self.results.values().flatten().map(|r| (r.used, r.bytes)).collect();
        ages.sort_unstable();
        let mut bytes = self.bytes;
        let mut oldest_kept = 0;
        for (used, size) in ages {
            if bytes <= limit / 4 * 3 {
                break;
            }
            bytes -= size.min(bytes);
            oldest_kept = used + 1;
        }
        for known in self.results.values_mut() {
            known.retain(|r| r.used >= oldest_kept);
        }
        self.results.retain(|_, known| !known.is_empty());
        self.bytes = self.results.values().flatten().map(|r| r.bytes).sum();
    }
}

impl Builds for Cache {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        let Ok(Some(id)) = diff::root_id(&*inputs.tree) else { return Anew.build(inputs) };
        let key = key_of(inputs);
        if let Some(output) = self.find(&key, inputs.source, &inputs.tree, id) {
            self.lock().stats.hits += 1;
            return output;
        }
        let output = Anew.build(inputs);
        // A tree that failed to answer may answer next time.
        if output.failed.as_ref().is_none_or(|note| note.code != crate::report::Code::SourceNotReady) {
            self.keep(key, &output, &inputs.tree, id);
        }
        self.lock().stats.builds += 1;
        output
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Object(object) => object.bytes.len() + 512,
        Item::Source { object, .. } => size(object) + 2048,
        Item::Child { .. } => 2048,
        Item::Withheld(_) => 512,
    }
}

/// Feeds text to a hash without building it.
struct Hashing(blake3::Hasher);

impl fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// Everything a build is given besides the tree. The derived text form of a definition names every field it has, so a field
/// added later is part of the key without anybody thinking of it.
fn key_of(inputs: &UnitInputs<'_>) -> Key {
    let mut hash = Hashing(blake3::Hasher::new());
    // Hashing does not fail.
    _ = write!(
        hash,
        "{:?}",
        (inputs.kustomization, inputs.source, inputs.rules, inputs.variables, inputs.strict, inputs.filled)
    );
    *hash.0.finalize().as_bytes()
}
