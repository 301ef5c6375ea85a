//! The agent's durable memory in its own namespace: the last verified head with its bundle, and the trust documents.
//!
//! | object | holds |
//! |---|---|
//! | ConfigMap `driftless-head` | head bytes and signatures of two generations, their packs, the ratchet |
//! | Secrets `driftless-pack-<digest>` | whole blobs, compressed, immutable |
//! | ConfigMap `driftless-trust` | every trust document |
//!
//! Order of a store, each step safe to die after: the names of new packs are noted in the head (compare-and-swap, which also
//! finds out whether another pod wrote); the packs are created; the head moves on with its ratchet (compare-and-swap);
//! packs that nothing references are deleted. Nothing is applied before the head has moved.
//!
//! What is read back is verified again, from the root keys on: whoever can write here gains nothing but a refusal.

mod blobs;
mod packs;
mod state;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::bundle::{Blobs, Bundle, BundleError, UnitState};
use driftless_protocol::head::Head;
use driftless_protocol::id::{ClusterId, Digest, KeyId};
use driftless_protocol::message::RefusalCode;
use driftless_protocol::session::Ratchet;
use driftless_protocol::signing::{self, Purpose, Signed, Verified};
use driftless_protocol::trust::TrustDocument;
use driftless_protocol::wire::transfer::Blob;
use driftless_protocol::{limits, marks};

pub use self::blobs::BlobMap;
use self::blobs::{Short, short};
use self::packs::{NewPack, Pack};
use self::state::{Kept, PackRef, Ratcheted, State, StateObject};
pub use self::trust::TrustRecord;
use crate::cluster::api::{Api, ApiError, chain};
use crate::identity::Identity;

/// The share of a pack's raw bytes that a new generation must still use, in percent; below it those blobs are written anew.
const LIVE_PERCENT: u64 = 50;

/// Packs of one generation. Beyond it the smaller half is merged: a new leader reads them one by one.
const MOST_PACKS: usize = 32;

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A request failed.
    #[error("cannot {doing}: {source}")]
    Api {
        /// What was tried, on what.
        doing: String,
        /// As the API server says.
        source: ApiError,
    },
    /// Another pod wrote: this one must not go on with what it believes.
    #[error("ConfigMap driftless-system/{0} was changed by another pod of the agent; this one begins again")]
    Raced(&'static str),
    /// The trust documents do not verify.
    #[error("ConfigMap driftless-system/driftless-trust holds trust documents that cannot be believed: {0}")]
    Trust(String),
    /// A record cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Damaged {
        /// Which object.
        what: String,
        /// Why.
        reason: String,
    },
    /// It does not fit.
    #[error(
        "the bundle needs {needed} bytes in the cluster's ledger, the limit is {limit}; raise the chart value \
         agent.ledgerMiB, or give the cluster less"
    )]
    Full {
        /// Compressed bytes.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// One object is too large for a Secret.
    #[error("one blob of the bundle ({digest}) has {len} bytes compressed, more than fits a Secret")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Compressed length.
        len: usize,
    },
    /// The blobs are not the bundle.
    #[error("the bundle cannot be opened: {0}")]
    Bundle(String),
}

impl LedgerError {
    /// What the hub is told.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Full { .. } | Self::TooLarge { .. } => RefusalCode::LedgerFull,
            Self::Bundle(_) => RefusalCode::BadBundle,
            _ => RefusalCode::LedgerFailed,
        }
    }

    /// Whether this pod must begin again from what is stored.
    #[must_use]
    pub fn is_race(&self) -> bool {
        matches!(self, Self::Raced(_))
    }
}

impl From<BundleError> for LedgerError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(chain(&error))
    }
}

/// A bundle that is verified, stored and at hand.
#[derive(Debug)]
pub struct Stored {
    /// The bundle, without its unit bodies: they are read again when they are wanted.
    pub bundle: Bundle,
    /// Its blobs.
    pub blobs: Arc<BlobMap>,
}

/// What was fetched, and what is at hand already.
struct Both<'a> {
    fetched: &'a BTreeMap<Digest, Arc<[u8]>>,
    stored: &'a BlobMap,
}

impl Blobs for Both<'_> {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.fetched.get(digest).cloned().or_else(|| self.stored.get(digest))
    }

    fn has(&self, digest: &Digest) -> bool {
        self.fetched.contains_key(digest) || self.stored.has(digest)
    }
}

/// Whose ledger it is, and how large it may be.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// UID of its `kube-system` namespace.
    pub kube_uid: String,
    /// The root keys pinned at enrolment.
    pub root_keys: Vec<KeyId>,
    /// Compressed bytes of all packs together.
    pub limit: u64,
}

/// The ledger, as one pod holds it while it leads.
#[derive(Debug)]
pub struct Ledger {
    api: Api,
    owner: Owner,
    state: StateObject,
    /// Packs at hand, by name.
    packs: Arc<BTreeMap<String, Pack>>,
    trust: TrustRecord,
    stored: Option<Arc<Stored>>,
    problem: Option<String>,
}

impl Ledger {
    /// Reads and verifies everything. `limit` bounds the compressed bytes of all packs together.
    pub async fn load(api: Api, identity: &Identity, kube_uid: &str, limit: u64) -> Result<Self, LedgerError> {
        let owner = Owner {
            cluster: identity.cluster,
            kube_uid: kube_uid.to_owned(),
            root_keys: identity.root_keys.clone(),
            limit,
        };
        Self::load_as(api, owner).await
    }

    /// As [`Ledger::load`]. A damaged bundle is a [`Ledger::problem`]; only what cannot be read at all, or whose loss would
    /// lower the ratchet, is an error.
    pub async fn load_as(api: Api, owner: Owner) -> Result<Self, LedgerError> {
        let trust = TrustRecord::load(&api, &owner.root_keys).await?;
        let mut state = StateObject::load(&api).await?;
        match state.state.cluster {
            Some(cluster) if cluster != owner.cluster => {
                tracing::warn!(before = %cluster, now = %owner.cluster, "enrolled anew: what was stored is of another life");
                state.state.begin_anew(owner.cluster);
            }
            _ => state.state.cluster = Some(owner.cluster),
        }
        let mut ledger = Self { api, owner, state, packs: Arc::default(), trust, stored: None, problem: None };
        if let Some(current) = ledger.state.state.current.clone() {
            match ledger.open(&current).await {
                Ok(stored) => ledger.stored = Some(Arc::new(stored)),
                Err(error @ LedgerError::Api { .. }) => return Err(error),
                Err(error) => {
                    // Damage, or somebody who writes here and should not: it must be found in the log later too.
                    tracing::warn!(
                        error = chain(&error),
                        "the stored bundle cannot be used, the hub is asked for it again"
                    );
                    ledger.problem = Some(format!(
                        "the stored bundle cannot be used, the hub is asked for it again: {}",
                        chain(&error)
                    ));
                }
            }
        }
        ledger.sweep().await?;
        Ok(ledger)
    }

    /// What is to be enforced, with its blobs.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Stored>> {
        self.stored.clone()
    }

    /// The last head stored; nothing at or below it is taken. With it and without [`Ledger::current`], something is damaged
    /// and the hub is asked for the same head again.
    #[must_use]
    pub fn ratchet(&self) -> Option<Ratchet> {
        self.state.state.ratchet.map(Ratchet::from)
    }

    /// The trust documents.
    #[must_use]
    pub fn trust(&self) -> &TrustRecord {
        &self.trust
    }

    /// What was found damaged at the start, for the cluster report.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Keeps a trust document that follows from the newest one.
    pub async fn store_trust(&mut self, document: &Verified<TrustDocument>) -> Result<(), LedgerError> {
        self.trust.append(&self.api, document).await
    }

    /// Stores a bundle and moves the ratchet. `fetched` are the blobs that [`Ledger::current`] does not hold.
    pub async fn store(
        &mut self,
        head: &Verified<Head>,
        fetched: Vec<Blob>,
        now_unix_ms: u64,
    ) -> Result<Arc<Stored>, LedgerError> {
        let before = self.stored.as_ref().map(|stored| Arc::clone(&stored.blobs)).unwrap_or_default();
        let packs = Arc::clone(&self.packs);
        let references: Vec<PackRef> = self.state.state.packs().cloned().collect();
        let statement = head.clone();
        let Prepared { bundle, reused, new, blobs } =
            aside(move || prepare(statement, fetched, &before, &packs, &references)).await??;
        let keep_previous = self.check_size(&reused, &new)?;

        self.state.state.pending = new.iter().map(|p| p.name.clone()).collect();
        if !new.is_empty() {
            self.state.write(&self.api).await?;
        }
        let mut references: Vec<PackRef> =
            self.state.state.packs().filter(|p| reused.contains(&p.name)).cloned().collect();
        references.dedup_by(|a, b| a.name == b.name);
        for pack in new {
            let uid = packs::create(&self.api, &pack).await?;
            references.push(PackRef { name: pack.name.clone(), uid, bytes: pack.body.len() as u64 });
            Arc::make_mut(&mut self.packs).insert(pack.name, Pack { digests: pack.digests });
        }
        references.sort_by(|a, b| a.name.cmp(&b.name));
        references.dedup_by(|a, b| a.name == b.name);

        let ratchet = Ratchet { generation: head.generation, head: Digest::of(&head.signed().bytes) };
        // A pod that began to lead has read the packs of the current generation only; those of the one before go with it
        // all the same, also when this pod dies before it has deleted them.
        let names: BTreeSet<String> = self.state.state.packs().map(|p| p.name.clone()).collect();
        let before = self.state.state.current.take();
        // The same head again, after damage: what stands before it stays.
        let previous = match before {
            Some(before) if before.head == *head.signed() => self.state.state.previous.take(),
            before => before,
        };
        self.state.state = State {
            current: Some(Kept { head: head.signed().clone(), packs: references, stored_at: now_unix_ms }),
            previous: previous.filter(|_| keep_previous),
            pending: Vec::new(),
            ratchet: Some(Ratcheted::from(ratchet)),
            cluster: Some(self.owner.cluster),
        };
        let kept: BTreeSet<String> = self.state.state.packs().map(|p| p.name.clone()).collect();
        self.state.state.pending = names.difference(&kept).cloned().collect();
        self.state.write(&self.api).await?;

        let stored = Arc::new(Stored { bundle: bundle.without_bodies(), blobs: Arc::new(blobs) });
        self.stored = Some(Arc::clone(&stored));
        self.problem = None;
        // The bundle is stored; what is left over is deleted now or by the next store.
        if let Err(error) = self.sweep().await {
            tracing::warn!(
                error = chain(&error),
                "cannot delete packs that are not needed any more; trying again later"
            );
        }
        Ok(stored)
    }

    /// Whether the previous generation fits beside the new one; an error when not even the new one fits.
    fn check_size(&self, reused: &[String], new: &[NewPack]) -> Result<bool, LedgerError> {
        let state = &self.state.state;
        let size = |names: &BTreeSet<&str>| -> u64 {
            let mut seen = BTreeSet::new();
            state.packs().filter(|p| names.contains(p.name.as_str()) && seen.insert(&p.name)).map(|p| p.bytes).sum()
        };
        let fresh: u64 = new.iter().map(|p| p.body.len() as u64).sum();
        let mut names: BTreeSet<&str> = reused.iter().map(String::as_str).collect();
        let needed = fresh + size(&names);
        if needed > self.owner.limit {
            return Err(LedgerError::Full { needed, limit: self.owner.limit });
        }
        names.extend(state.current.iter().flat_map(|kept| kept.packs.iter()).map(|p| p.name.as_str()));
        Ok(fresh + size(&names) <= self.owner.limit)
    }

    /// Verifies and opens what is stored of one generation.
    async fn open(&mut self, kept: &Kept) -> Result<Stored, LedgerError> {
        let head = self.verify_head(kept.head.clone())?;
        let mut blobs = BlobMap::default();
        for reference in &kept.packs {
            let (pack, found) = packs::load(&self.api, reference).await?;
            Arc::make_mut(&mut self.packs).insert(reference.name.clone(), pack);
            blobs.add(found);
        }
        aside(move || {
            let bundle = Bundle::open(head, &blobs)?;
            // Packs hold what is dead, too.
            let blobs = blobs.next(&BTreeMap::new(), &order(&bundle));
            Ok(Stored { bundle: bundle.without_bodies(), blobs: Arc::new(blobs) })
        })
        .await?
    }

    /// A stored head is believed when the keys of a trust document it could have been offered under signed it: the signer
    /// may have been retired since, and enforcing goes on. Expiry does not count for the same reason.
    fn verify_head(&self, signed: Signed) -> Result<Verified<Head>, LedgerError> {
        let mut last = None;
        for document in self.trust.all().iter().rev() {
            match signing::verify::<Head>(Purpose::Head, signed.clone(), &document.signer_ring(), limits::HEAD_BYTES) {
                Ok(head) if head.trust_version > document.version => {}
                Ok(head) if head.cluster != self.owner.cluster || head.kube_uid != self.owner.kube_uid => {
                    return Err(LedgerError::Damaged {
                        what: "the head in ConfigMap driftless-system/driftless-head".into(),
                        reason: format!("it is for cluster {} (kube-system {})", head.cluster, head.kube_uid),
                    });
                }
                Ok(head) => return Ok(head),
                Err(error) => last = last.or(Some(chain(&error))),
            }
        }
        Err(LedgerError::Damaged {
            what: "the head in ConfigMap driftless-system/driftless-head".into(),
            reason: last.unwrap_or_else(|| "no trust document covers it".into()),
        })
    }

    /// Deletes packs that no kept generation references: of a generation dropped, or of a store that died half-way.
    async fn sweep(&mut self) -> Result<(), LedgerError> {
        let state = &self.state.state;
        let kept: BTreeSet<String> = state.packs().map(|p| p.name.clone()).collect();
        let mut doomed: BTreeSet<String> = self.packs.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        doomed.extend(state.pending.iter().filter(|name| !kept.contains(*name)).cloned());
        for name in doomed {
            packs::delete(&self.api, &name).await?;
            Arc::make_mut(&mut self.packs).remove(&name);
        }
        if !self.state.state.pending.is_empty() {
            self.state.state.pending.clear();
            self.state.write(&self.api).await?;
        }
        Ok(())
    }
}

/// A new generation, ready to be written.
struct Prepared {
    bundle: Bundle,
    /// Packs it goes on with, by name.
    reused: Vec<String>,
    new: Vec<NewPack>,
    blobs: BlobMap,
}

/// Opens a bundle, cuts into packs what the stored ones do not hold, and packs its blobs for memory: a second of work for
/// a large cluster.
fn prepare(
    head: Verified<Head>,
    fetched: Vec<Blob>,
    before: &BlobMap,
    packs: &BTreeMap<String, Pack>,
    references: &[PackRef],
) -> Result<Prepared, LedgerError> {
    let fetched: BTreeMap<Digest, Arc<[u8]>> = fetched.into_iter().collect();
    let both = Both { fetched: &fetched, stored: before };
    let bundle = Bundle::open(head, &both)?;
    let order = order(&bundle);
    let live: BTreeSet<Short> = order.iter().map(short).collect();
    let reused = reusable(packs, references, &live);
    let covered: BTreeSet<Short> =
        reused.iter().filter_map(|name| packs.get(name)).flat_map(|p| p.digests.iter().map(|(d, _)| *d)).collect();
    let fresh: Vec<Blob> = order
        .iter()
        .filter(|d| !covered.contains(&short(d)))
        .filter_map(|d| both.get(d).map(|bytes| (*d, bytes)))
        .collect();
    let new = packs::pack(&fresh)?;
    drop(fresh);
    let blobs = before.next(&fetched, &order);
    Ok(Prepared { bundle, reused, new, blobs })
}

/// The packs a new generation goes on with: what is mostly alive, and not too many of them. The rest is written anew.
fn reusable(packs: &BTreeMap<String, Pack>, references: &[PackRef], live: &BTreeSet<Short>) -> Vec<String> {
    let mut alive: BTreeMap<&str, u64> = BTreeMap::new();
    for reference in references {
        if packs.get(&reference.name).is_some_and(|p| p.live_percent(live) >= LIVE_PERCENT) {
            alive.insert(&reference.name, reference.bytes);
        }
    }
    let mut alive: Vec<(&str, u64)> = alive.into_iter().collect();
    if alive.len() > MOST_PACKS {
        alive.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        alive.truncate(MOST_PACKS / 2);
    }
    alive.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// Work that takes long, on a thread of its own, so that the lease is renewed meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LedgerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LedgerError::Bundle(format!("the work on it ended early: {error}")))
}

/// Every blob of a bundle once: index, then each body with its objects, so that what is alike lies together.
fn order(bundle: &Bundle) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let mut add = |digest| {
        if seen.insert(digest) {
            order.push(digest);
        }
    };
    add(bundle.head().index.digest);
    let bodies = bundle.index().units.iter().filter_map(|unit| match &unit.state {
        UnitState::Full { body } => Some(body.digest),
        UnitState::Held { .. } | UnitState::Suspended { .. } => None,
    });
    for (digest, body) in bodies.zip(bundle.bodies()) {
        add(digest);
        for object in &body.objects {
            add(object.blob.digest);
        }
    }
    order
}

/// The namespace of all records.
fn namespace() -> &'static str {
    marks::AGENT_NAMESPACE
}

/// Wraps a request's error with what was tried.
fn api_error(doing: impl Into<String>) -> impl FnOnce(ApiError) -> LedgerError {
    let doing = doing.into();
    move |source| LedgerError::Api { doing, source }
}
