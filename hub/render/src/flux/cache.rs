//! Builds of units, made or remembered: cost follows the change.
//!
//! A build is remembered under what it was given (the unit's definition as far as it matters to a build, the variables it
//! asked for) and with every path it read. It serves again wherever it is given the same and none of those paths has
//! another answer, which the difference of two trees tells without reading a file. Equal units of a fleet are built once,
//! also when many threads ask at the same moment. What is kept on a [`Shelf`] serves the next process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::diff::{self, Difference};
use super::key::{self, Key, Keys};
use super::reads::{RecordingTree, same_answers};
use super::rendered::{ReadSet, Seen};
use super::saved;
use super::unit::{self, Item, UnitInputs, UnitOutput};
use crate::kustomize::Memo;
use crate::report::Code;
use crate::tree::{ContentId, Tree};

/// Who builds units.
pub(crate) trait Builds: Sync {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput>;

    /// Files parsed before.
    fn memo(&self) -> &Memo;

    /// Says what was read of the root's tree outside builds, in search of the root.
    fn searched(&self, _: &RecordingTree) {}

    /// Says that sources are put together, or looked into, in ways that nobody notes.
    fn composes(&self) {}
}

/// Builds each unit anew.
pub(crate) struct Anew {
    memo: Memo,
}

impl Anew {
    /// Parsed files are shared within one render: at most this many bytes of them are kept.
    const PARSED_BYTES: usize = 64 << 20;

    pub(crate) fn new() -> Self {
        Self { memo: Memo::new(Self::PARSED_BYTES) }
    }
}

impl Builds for Anew {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        Arc::new(unit::build(inputs))
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

/// Where results outlive the process: bytes by key. What it gives back is believed only after its digest was checked, so
/// it may lose, truncate or garble whatever it likes.
pub trait Shelf: Send + Sync {
    /// What was put there last under this key.
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>>;
    /// Keeps bytes under a key, or does not.
    fn put(&self, key: &[u8; 32], bytes: Vec<u8>);
}

/// Results kept per set of inputs: one per revision that clusters still stand at, and one for the next.
const RESULTS_PER_KEY: usize = 4;
/// Sets of variable names that builds of one definition asked for: more than one only while its files change.
const NAMES_PER_KEY: usize = 8;
/// Revisions a result is known to be good for.
const REVISIONS_PER_RESULT: usize = 8;
/// Differences between revisions kept, and paths in all of them.
const DIFFERENCES: usize = 64;
const DIFFERENT_PATHS: usize = 200_000;
/// Keys remembered as looked for on the shelf.
const LOOKED_FOR: usize = 1 << 20;

/// Remembers builds across commits, clusters and, with a shelf, processes. Shared by any number of threads; bounded by the
/// bytes of what it keeps.
pub struct Cache {
    limit: usize,
    memo: Memo,
    shelf: Option<(Arc<dyn Shelf>, [u8; 32])>,
    inner: Mutex<Inner>,
    /// Builds going on: whoever wants the same waits for it.
    turns: Mutex<HashMap<Key, Arc<Mutex<()>>>>,
}

#[derive(Default)]
struct Inner {
    /// Which variables builds under a key asked for.
    names: HashMap<Key, Vec<Arc<BTreeSet<String>>>>,
    /// By the key with the values of those.
    results: HashMap<Key, Vec<Remembered>>,
    differences: BTreeMap<(ContentId, ContentId), Arc<Difference>>,
    different_paths: usize,
    looked_for: HashSet<Key>,
    bytes: usize,
    /// Counts uses: what was not used for longest goes first.
    now: u64,
    stats: CacheStats,
}

/// What a cache did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Builds served from memory.
    pub hits: u64,
    /// Builds served from the shelf.
    pub loads: u64,
    /// Builds made.
    pub builds: u64,
    /// Bytes of results kept.
    pub bytes: usize,
    /// Bytes of parsed files kept.
    pub parsed_bytes: usize,
    /// Results kept.
    pub results: usize,
}

struct Remembered {
    output: Arc<UnitOutput>,
    /// The key without variables.
    under: Key,
    names: Arc<BTreeSet<String>>,
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
    /// A cache that keeps at most `limit` bytes: a quarter of it parsed files, the rest results.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let parsed = limit / 4;
        Self {
            limit: limit - parsed,
            memo: Memo::new(parsed),
            shelf: None,
            inner: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// Keeps results on a shelf too, for the next process. `build` identifies the program: results of another one are not
    /// believed, since it may render differently.
    #[must_use]
    pub fn with_shelf(mut self, shelf: Arc<dyn Shelf>, build: [u8; 32]) -> Self {
        self.shelf = Some((shelf, build));
        self
    }

    /// What it did so far, and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        let results = inner.results.values().map(Vec::len).sum();
        CacheStats { bytes: inner.bytes, parsed_bytes: self.memo.bytes(), results, ..inner.stats }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A remembered result for these inputs that is good for this tree.
    fn find(&self, keys: &Keys, inputs: &UnitInputs<'_>, id: ContentId) -> Option<Arc<UnitOutput>> {
        keys.both().into_iter().find_map(|under| {
            let names = self.lock().names.get(&under).cloned().unwrap_or_default();
            names
                .iter()
                .find_map(|names| self.find_under(&key::with_values(&under, names, inputs.variables), inputs, id))
        })
    }

    fn find_under(&self, key: &Key, inputs: &UnitInputs<'_>, id: ContentId) -> Option<Arc<UnitOutput>> {
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
            let difference = self.difference(newest, &old, id, &inputs.tree)?;
            if touched(&difference, &output.reads, inputs.source) {
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
                known.tree = inputs.tree.clone();
                known.used = now;
            }
            return Some(output);
        }
        None
    }

    /// What differs between two trees. `None`: one of them cannot be read, which is for a build to say.
    pub(crate) fn difference(
        &self,
        old_id: ContentId,
        old: &Arc<dyn Tree>,
        new_id: ContentId,
        new: &Arc<dyn Tree>,
    ) -> Option<Arc<Difference>> {
        if let Some(known) = self.lock().differences.get(&(old_id, new_id)) {
            return Some(known.clone());
        }
        let difference = Arc::new(diff::difference(&**old, &**new).ok()?);
        let mut inner = self.lock();
        if inner.differences.len() >= DIFFERENCES || inner.different_paths > DIFFERENT_PATHS {
            inner.differences.clear();
            inner.different_paths = 0;
        }
        inner.different_paths += difference.len();
        inner.differences.insert((old_id, new_id), difference.clone());
        Some(difference)
    }

    /// A result of an earlier process. Each key is looked for once: what is made later is in memory.
    fn load(&self, keys: &Keys, inputs: &UnitInputs<'_>, id: ContentId) -> Option<Arc<UnitOutput>> {
        let (shelf, build) = self.shelf.as_ref()?;
        {
            let mut inner = self.lock();
            if inner.looked_for.len() >= LOOKED_FOR {
                inner.looked_for.clear();
            }
            if !inner.looked_for.insert(keys.whole) {
                return None;
            }
        }
        let output = Arc::new(saved::open(&shelf.get(&keys.whole)?, build, &keys.whole)?);
        let nothing = BTreeMap::new();
        if !same_answers(output.reads.sources.get(inputs.source).unwrap_or(&nothing), &*inputs.tree) {
            return None;
        }
        self.keep(keys, inputs, &output, id);
        self.lock().stats.loads += 1;
        Some(output)
    }

    fn keep(&self, keys: &Keys, inputs: &UnitInputs<'_>, output: &Arc<UnitOutput>, id: ContentId) {
        // What went wrong, and what is worth a word, names places of the definition.
        let under = if output.failed.is_none() && output.notes.is_empty() { keys.shared } else { keys.exact };
        let mut names = Arc::new(output.variables.clone());
        let key = key::with_values(&under, &names, inputs.variables);
        let bytes = size(output);
        let mut inner = self.lock();
        inner.now += 1;
        let used = inner.now;
        let asked = inner.names.entry(under).or_default();
        match asked.iter().find(|known| **known == names) {
            Some(known) => names = known.clone(),
            None => {
                if asked.len() >= NAMES_PER_KEY {
                    asked.remove(0);
                }
                asked.push(names.clone());
            }
        }
        let known = inner.results.entry(key).or_default();
        let dropped = if known.len() >= RESULTS_PER_KEY { known.remove(0).bytes } else { 0 };
        let (output, tree) = (output.clone(), inputs.tree.clone());
        known.push(Remembered { output, under, names, good_for: vec![id], tree, bytes, used });
        inner.bytes = (inner.bytes + bytes).saturating_sub(dropped);
        if inner.bytes > self.limit {
            inner.shrink(self.limit);
        }
    }

    fn make(&self, keys: &Keys, inputs: &UnitInputs<'_>, id: ContentId) -> Arc<UnitOutput> {
        let output = Arc::new(unit::build(inputs));
        self.lock().stats.builds += 1;
        match &output.failed {
            // A tree that failed to answer may answer next time.
            Some(note) if note.code == Code::SourceNotReady => return output,
            Some(_) => {}
            None => {
                if let Some((shelf, build)) = &self.shelf {
                    shelf.put(&keys.whole, saved::seal(&output, build, &keys.whole));
                }
            }
        }
        self.keep(keys, inputs, &output, id);
        output
    }
}

/// Whether something read from this source may be different now.
fn touched(difference: &Difference, reads: &ReadSet, source: &str) -> bool {
    reads.sources.get(source).is_some_and(|paths| difference.touches(paths))
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
            bytes -= size;
            oldest_kept = used + 1;
        }
        for known in self.results.values_mut() {
            known.retain(|r| r.used >= oldest_kept);
        }
        self.results.retain(|_, known| !known.is_empty());
        self.bytes = self.results.values().flatten().map(|r| r.bytes).sum();
        let alive: HashSet<(Key, usize)> =
            self.results.values().flatten().map(|r| (r.under, Arc::as_ptr(&r.names).addr())).collect();
        self.names.retain(|under, names| {
            names.retain(|names| alive.contains(&(*under, Arc::as_ptr(names).addr())));
            !names.is_empty()
        });
    }
}

impl Builds for Cache {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        let Ok(Some(id)) = diff::root_id(&*inputs.tree) else { return Arc::new(unit::build(inputs)) };
        let keys = Keys::of(inputs);
        let hit = || {
            let found = self.find(&keys, inputs, id)?;
            self.lock().stats.hits += 1;
            Some(found)
        };
        if let Some(found) = hit() {
            return found;
        }
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(keys.whole).or_default().clone();
        let mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made it meanwhile.
        let output = hit().or_else(|| self.load(&keys, inputs, id)).unwrap_or_else(|| self.make(&keys, inputs, id));
        drop(mine);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // This one and the one in the map: nobody waits.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(&keys.whole);
        }
        output
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

/// The memory a result takes, roughly.
fn size(output: &UnitOutput) -> usize {
    /// What a list entry, its place and its key take besides the object.
    const ITEM: usize = 512;
    /// A small object in nodes.
    const NODES: usize = 4096;
    fn weigh(item: &Item) -> usize {
        match item {
            Item::Object(object) => object.bytes.len() + ITEM,
            Item::Source { object, .. } => weigh(object) + NODES,
            Item::Child { .. } => NODES,
            Item::Withheld(_) => ITEM,
        }
    }
    let read = |(path, _): (&Arc<str>, &Seen)| path.len() + size_of::<(Arc<str>, Seen)>() + 32;
    let reads: usize = output.reads.sources.values().flatten().map(read).sum();
    let items: usize = output.items.iter().map(weigh).sum();
    let small = output.notes.len() + output.produced.len() + output.references.len() + output.variables.len();
    size_of::<(Remembered, UnitOutput)>() + items + reads + small * ITEM + output.controllers.len() * NODES
}
