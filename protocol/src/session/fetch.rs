//! Fetching one offer's blobs, level by level, in lists of bounded size.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::bundle::{self, BlobRef, Blobs};
use crate::head::Head;
use crate::id::{Digest, TransferId};
use crate::message::{Need, RefusalCode};
use crate::session::Ratchet;
use crate::signing::Verified;
use crate::wire::limits;
use crate::wire::transfer::{self, Blob};

/// One offer on its way.
#[derive(Debug)]
pub(super) struct Fetch {
    /// Generation and digest of the head.
    pub(super) head: Ratchet,
    statement: Verified<Head>,
    /// Checked against their digests.
    blobs: BTreeMap<Digest, Arc<[u8]>>,
    /// Of the current level, not asked for yet.
    wanted: VecDeque<BlobRef>,
    /// Asked for, not answered.
    open: BTreeMap<TransferId, Open>,
    /// Whether the current level was asked for, and so must bring something.
    asked: bool,
    /// Whether anything of the current level came.
    progress: bool,
    /// Digests that came with other bytes in the current level.
    altered: bool,
    /// What the last broken transfer said.
    failure: Option<String>,
}

#[derive(Debug)]
struct Open {
    refs: Vec<BlobRef>,
    since: u64,
}

/// Where a fetch stands.
#[derive(Debug)]
pub(super) enum Step {
    /// Something is asked for, or waits to be.
    Wait,
    /// Every blob is at hand.
    Done,
    /// It cannot be completed.
    Failed(RefusalCode, String),
}

impl Fetch {
    pub(super) fn new(head: Ratchet, statement: Verified<Head>, at_hand: BTreeMap<Digest, Arc<[u8]>>) -> Self {
        Self {
            head,
            statement,
            blobs: at_hand,
            wanted: VecDeque::new(),
            open: BTreeMap::new(),
            asked: false,
            progress: false,
            altered: false,
            failure: None,
        }
    }

    pub(super) fn into_blobs(self) -> BTreeMap<Digest, Arc<[u8]>> {
        self.blobs
    }

    pub(super) fn finish(self) -> (Verified<Head>, Vec<Blob>) {
        (self.statement, self.blobs.into_iter().collect())
    }

    /// The connection is gone: what was asked for is asked for again.
    pub(super) fn disconnected(&mut self) {
        self.open.clear();
        self.wanted.clear();
        self.asked = false;
    }

    /// When the oldest open list was sent.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.open.values().map(|o| o.since).min()
    }

    /// The longest raw length that the answer to this list may have.
    pub(super) fn limit(&self, transfer: TransferId) -> Option<u64> {
        self.open.get(&transfer).map(|o| transfer::raw_length(o.refs.iter().map(|r| r.len)))
    }

    pub(super) fn transferred(&mut self, transfer: TransferId, blobs: Vec<Blob>, altered: usize) {
        let Some(open) = self.open.remove(&transfer) else { return };
        self.altered |= altered > 0;
        let asked: BTreeMap<Digest, u64> = open.refs.iter().map(|r| (r.digest, r.len)).collect();
        for (digest, bytes) in blobs {
            let Some(len) = asked.get(&digest) else { continue };
            if *len == bytes.len() as u64 && Digest::of(&bytes) == digest {
                self.progress |= self.blobs.insert(digest, bytes).is_none();
            } else {
                self.altered = true;
            }
        }
    }

    pub(super) fn failed(&mut self, transfer: TransferId, message: String) {
        if self.open.remove(&transfer).is_some() {
            self.failure = Some(message);
        }
    }

    /// The next list to ask for, if one may be open.
    pub(super) fn next_need(&mut self, mono_ms: u64, next: &mut u64) -> Option<Need> {
        if self.open.len() >= limits::NEEDS_OPEN {
            return None;
        }
        let mut refs = Vec::new();
        let mut bytes = 0u64;
        while let Some(blob) = self.wanted.front() {
            if refs.len() >= limits::DIGESTS_PER_NEED || (!refs.is_empty() && bytes + blob.len > limits::NEED_BYTES) {
                break;
            }
            bytes += blob.len;
            refs.extend(self.wanted.pop_front());
        }
        if refs.is_empty() {
            return None;
        }
        let transfer = TransferId(*next);
        *next += 1;
        self.asked = true;
        let digests = refs.iter().map(|r| r.digest).collect();
        self.open.insert(transfer, Open { refs, since: mono_ms });
        Some(Need { transfer, digests })
    }

    /// Looks at what is there when nothing is on its way any more.
    pub(super) fn advance(&mut self, local: &dyn Blobs) -> Step {
        if !self.open.is_empty() || !self.wanted.is_empty() {
            return Step::Wait;
        }
        let blobs = &self.blobs;
        let both = |digest: &Digest| blobs.get(digest).cloned().or_else(|| local.get(digest));
        let missing = match bundle::missing(&self.statement, &both) {
            Ok(missing) => missing,
            Err(error) => return Step::Failed(RefusalCode::BadBundle, super::agent::chain_text(&error)),
        };
        if missing.is_empty() {
            // Opening checks the whole: object count, declared total.
            return match bundle::Bundle::open(self.statement.clone(), &both) {
                Ok(_) => Step::Done,
                Err(error) => Step::Failed(RefusalCode::BadBundle, super::agent::chain_text(&error)),
            };
        }
        if self.asked && !self.progress {
            return self.stuck(&missing);
        }
        let total = missing.iter().fold(0u64, |sum, b| sum.saturating_add(b.len));
        if let Some(large) = missing.iter().find(|b| b.len > limits::BLOB_BYTES) {
            let message =
                format!("the blob {} has {} bytes, more than {}", large.digest, large.len, limits::BLOB_BYTES);
            return Step::Failed(RefusalCode::BadBundle, message);
        }
        if total > self.statement.raw_total {
            let message = format!("{total} bytes are missing, the head declares {} in all", self.statement.raw_total);
            return Step::Failed(RefusalCode::BadBundle, message);
        }
        self.wanted = missing.into();
        (self.asked, self.progress, self.altered, self.failure) = (false, false, false, None);
        Step::Wait
    }

    /// A whole round brought nothing new.
    fn stuck(&mut self, missing: &[BlobRef]) -> Step {
        let example = missing.first().map(|b| b.digest.to_string()).unwrap_or_default();
        let count = missing.len();
        if self.altered {
            let message =
                format!("blobs came with other bytes than their digests say; {count} are missing, like {example}");
            return Step::Failed(RefusalCode::BadBundle, message);
        }
        let why = self.failure.take().map(|f| format!(" (the last transfer broke: {f})")).unwrap_or_default();
        let message = format!("the hub did not send {count} blobs that its own index names, like {example}{why}");
        Step::Failed(RefusalCode::Incomplete, message)
    }
}
