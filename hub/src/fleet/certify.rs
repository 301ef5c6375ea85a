//! Certificates for agents' keys, at enrolment and at each renewal.

use driftless_protocol::id::ClusterId;

use crate::clock;
use crate::pki::{AGENT_DAYS, AgentRequest, DAY};
use crate::shared::Shared;

/// A certificate with less of its life left is not given a second time.
const FRESH: u64 = AGENT_DAYS * DAY / 2;

/// What an agent is given.
#[derive(Debug)]
pub(crate) struct Certified {
    /// Leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Unix seconds.
    pub(crate) expires: u64,
}

/// Issues a certificate for the key of a request and records it; `None`: the cluster is not active.
///
/// The answer may get lost on the way, or the cluster may fail to store it: who asks again for the same key is given the same
/// certificate. Another one would end the certificate before, which may be all that the cluster has.
pub(crate) async fn certify(
    shared: &Shared,
    cluster: ClusterId,
    asked: &AgentRequest,
) -> Result<Option<Certified>, String> {
    let (key, now) = (asked.key_digest(), clock::seconds());
    let unseen = shared.store.unseen_certificate(cluster, key).await.map_err(|e| crate::chain(&e))?;
    if let Some(known) = unseen.filter(|c| c.not_after >= now + FRESH) {
        return Ok(Some(Certified { chain: vec![known.der], expires: known.not_after }));
    }
    let issued = shared.keys.ca.issue_agent(cluster, asked, now).map_err(|e| crate::chain(&e))?;
    let expires = issued.record.not_after;
    let recorded = shared.store.issued(cluster, key, issued.record, issued.der.clone()).await;
    Ok(recorded.map_err(|e| crate::chain(&e))?.then(|| Certified { chain: vec![issued.der], expires }))
}
