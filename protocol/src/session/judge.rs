//! Whether an agent may believe an offered head, in the order of `WIRE.md` section 5.

use crate::head::Head;
use crate::id::{ClusterId, Digest, Generation};
use crate::message::RefusalCode;
use crate::session::Ratchet;
use crate::signing::{self, Purpose, Signed, Verified};
use crate::trust::{self, TrustDocument};
use crate::wire::limits::BLOB_BYTES;
use crate::{bundle, limits};

/// What a head is judged by.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) cluster: ClusterId,
    pub(super) kube_uid: &'a str,
    pub(super) trust: &'a TrustDocument,
    /// The last head stored, or being stored.
    pub(super) floor: Option<Ratchet>,
    /// Whether the bundle of `floor` is at hand.
    pub(super) complete: bool,
    /// Unix seconds.
    pub(super) unix: u64,
}

/// Believed.
#[derive(Debug)]
pub(super) enum Accepted {
    /// The very head that is stored.
    Again,
    /// Above the ratchet.
    New(Box<Verified<Head>>),
}

/// Not believed.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) generation: Generation,
    pub(super) code: RefusalCode,
    pub(super) message: String,
}

impl Judge<'_> {
    pub(super) fn head(&self, signed: Signed) -> Result<Accepted, Judged> {
        let nobody = |code, message| Judged { generation: Generation::default(), code, message };
        trust::check_expiry(self.trust, self.unix).map_err(|e| nobody(RefusalCode::Expired, e.to_string()))?;
        let head: Verified<Head> =
            signing::verify(Purpose::Head, signed, &self.trust.signer_ring(), limits::HEAD_BYTES)
                .map_err(|e| nobody(RefusalCode::NotTrusted, super::agent::chain_text(&e)))?;
        let generation = head.generation;
        let no = |code, message: String| Err(Judged { generation, code, message });
        if head.cluster != self.cluster {
            let message = format!("the head of generation {generation} is for cluster {}", head.cluster);
            return no(RefusalCode::WrongCluster, message);
        }
        if head.kube_uid != self.kube_uid {
            let message = format!(
                "the head is for the cluster whose kube-system namespace has UID {}, here it is {}; \
                 a restored or copied cluster must enrol anew",
                head.kube_uid, self.kube_uid
            );
            return no(RefusalCode::WrongCluster, message);
        }
        if head.trust_version > self.trust.version {
            let message = format!(
                "the head relies on trust document {}, the agent has {}",
                head.trust_version, self.trust.version
            );
            return no(RefusalCode::TrustChain, message);
        }
        if generation.trust_epoch != self.trust.trust_epoch {
            let message = format!(
                "the head claims trust epoch {}, trust document {} says {}",
                generation.trust_epoch, self.trust.version, self.trust.trust_epoch
            );
            return no(RefusalCode::NotTrusted, message);
        }
        if let Some(floor) = self.floor {
            if generation < floor.generation {
                let message = format!("generation {generation} is below {}, which is stored", floor.generation);
                return no(RefusalCode::Older, message);
            }
            if generation == floor.generation {
                if Digest::of(&head.signed().bytes) != floor.head {
                    let message = format!("two different heads claim generation {generation}");
                    return no(RefusalCode::Equivocation, message);
                }
                if self.complete {
                    return Ok(Accepted::Again);
                }
            }
        }
        if generation.epoch > self.unix.saturating_add(limits::EPOCH_AHEAD_SECONDS) {
            let message = format!("its epoch {} is more than an hour ahead of this cluster's clock", generation.epoch);
            return no(RefusalCode::Future, message);
        }
        if head.issued > self.unix.saturating_add(limits::CLOCK_SKEW_SECONDS) {
            let message = format!(
                "it was issued {} s in the future of this cluster's clock; compare both clocks",
                head.issued - self.unix
            );
            return no(RefusalCode::Future, message);
        }
        if self.unix >= head.expires {
            let message = format!("it expired {} s ago", self.unix - head.expires);
            return no(RefusalCode::Expired, message);
        }
        if head.format != bundle::FORMAT {
            let message = format!("its format {} is not {}; update the agent", head.format, bundle::FORMAT);
            return no(RefusalCode::BadBundle, message);
        }
        if head.raw_total > limits::BUNDLE_RAW_BYTES || head.index.len > head.raw_total || head.index.len > BLOB_BYTES {
            let message = format!(
                "it declares {} bytes and an index of {}, the limits are {} and {BLOB_BYTES}",
                head.raw_total,
                head.index.len,
                limits::BUNDLE_RAW_BYTES
            );
            return no(RefusalCode::BadBundle, message);
        }
        Ok(Accepted::New(Box::new(head)))
    }
}
