//! Enrolment: a token is checked, redeemed once, and answered with an identity.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused, EnrollRequest};
use driftless_protocol::id::ClusterId;
use driftless_protocol::quic::{close, stream};
use driftless_protocol::token::SecretHash;
use driftless_store::{Act, Enrolled, Enrollment, TOKEN_FAILURES};
use quinn::Connection;

use crate::clock;
use crate::fleet::certify::certify;
use crate::pki::{AgentRequest, random};
use crate::shared::Shared;

/// Enrolments a source address may try at once; one more each second (`security.md` P-18).
const BURST: f64 = 10.0;
/// Addresses remembered; beyond it the oldest is forgotten.
const ADDRESSES: usize = 10_000;
/// How long an answered connection may take to go away.
const LINGER: Duration = Duration::from_secs(2);

/// Attempts per source address: a bucket that fills by one a second.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Attempts {
    /// Whether this address may try now.
    pub(crate) fn allow(&self, address: IpAddr, now: Instant) -> bool {
        // A host has a whole IPv6 network to choose addresses from.
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
            v4 => v4,
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, (left, at)| *left + now.duration_since(*at).as_secs_f64() < BURST);
            if buckets.len() >= ADDRESSES
                && let Some(oldest) = buckets.iter().min_by_key(|(_, (_, at))| *at).map(|(a, _)| *a)
            {
                buckets.remove(&oldest);
            }
        }
        let (left, at) = buckets.entry(address).or_insert((BURST, now));
        *left = (*left + now.duration_since(*at).as_secs_f64()).min(BURST);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// Answers the one request of a connection.
pub(crate) async fn serve(shared: &Shared, attempts: &Attempts, connection: Connection) {
    let peer = connection.remote_address();
    let (request, responder) = match stream::receive_enroll(&connection).await {
        Ok(received) => received,
        Err(error) => {
            tracing::info!(%peer, error = %crate::chain(&error), "an enrolment request cannot be read");
            connection.close(close::PROTOCOL, b"the enrolment request cannot be read");
            return;
        }
    };
    let answer = if attempts.allow(peer.ip(), Instant::now()) {
        decide(shared, &request).await
    } else {
        refuse(EnrollRefusal::RateLimited, "too many enrolments from this address; try again in a minute")
    };
    match &answer {
        EnrollAnswer::Granted(grant) => {
            tracing::info!(%peer, cluster = %grant.name, id = %grant.cluster, token = %request.token, "a cluster enrolled");
        }
        EnrollAnswer::Refused(refused) => {
            tracing::warn!(%peer, token = %request.token, code = %refused.code, why = refused.message, "an enrolment was refused");
        }
    }
    if let Err(error) = responder.answer(&answer).await {
        tracing::info!(%peer, error = %crate::chain(&error), "the answer to an enrolment was not taken; it can be asked for again");
    }
    let _ = tokio::time::timeout(LINGER, connection.closed()).await;
    connection.close(close::DONE, b"");
    if matches!(answer, EnrollAnswer::Granted(_)) {
        shared.wake.render.notify_one();
    }
}

fn refuse(code: EnrollRefusal, message: impl Into<String>) -> EnrollAnswer {
    EnrollAnswer::Refused(EnrollRefused { code, message: message.into() })
}

const UNKNOWN: &str = "no such join token, or its secret is wrong; make a new one with `driftless cluster join-token`";

async fn decide(shared: &Shared, request: &EnrollRequest) -> EnrollAnswer {
    match try_decide(shared, request).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(token = %request.token, error, "an enrolment failed on the hub's side");
            refuse(EnrollRefusal::Unavailable, "the hub cannot answer now; its log says why. The token was not used up")
        }
    }
}

async fn try_decide(shared: &Shared, request: &EnrollRequest) -> Result<EnrollAnswer, String> {
    let chain = |e: &dyn std::error::Error| crate::chain(e);
    if request.wire_max == 0 {
        return Ok(refuse(EnrollRefusal::Version, "the agent speaks no wire version of this hub; update it"));
    }
    if request.kube_uid.is_empty() || request.kube_uid.len() > 64 {
        return Ok(refuse(EnrollRefusal::BadRequest, "the UID of the kube-system namespace is missing or too long"));
    }
    let asked = match AgentRequest::parse(&request.csr) {
        Ok(asked) => asked,
        Err(error) => return Ok(refuse(EnrollRefusal::BadRequest, error.to_string())),
    };
    let record = shared.store.token(request.token).await.map_err(|e| chain(&e))?;
    // Compared also when there is none, so that both answers take the same way.
    let hash = record.as_ref().map_or([0; 32], |r| r.token.hash);
    let right = SecretHash::from_bytes(hash).matches(&request.secret);
    let Some(record) = record.filter(|_| right) else {
        shared.store.token_failed(request.token).await.map_err(|e| chain(&e))?;
        return Ok(refuse(EnrollRefusal::UnknownToken, UNKNOWN));
    };
    if record.failures >= TOKEN_FAILURES {
        return Ok(refuse(EnrollRefusal::UnknownToken, UNKNOWN));
    }
    let enrollment = Enrollment {
        token: request.token,
        cluster: ClusterId::from_bytes(random().map_err(|e| chain(&e))?),
        kube_uid: request.kube_uid.clone(),
        agent_key: asked.key_digest(),
        now: clock::millis(),
    };
    let taken = |what: &str| {
        refuse(
            EnrollRefusal::AlreadyEnrolled,
            format!(
                "{what}; if that one is gone for good, remove it with `driftless cluster remove` and use the token again"
            ),
        )
    };
    let (cluster, name, new) = match shared.store.redeem(enrollment).await.map_err(|e| chain(&e))? {
        Enrolled::Granted { cluster, name, new } => (cluster, name, new),
        Enrolled::Unknown => return Ok(refuse(EnrollRefusal::UnknownToken, UNKNOWN)),
        Enrolled::Used => {
            let message = "this join token was used already; each enrols one cluster. Make another one with `driftless \
                           cluster join-token`, and find out who used this one: `driftless cluster list`";
            return Ok(refuse(EnrollRefusal::Used, message));
        }
        Enrolled::Expired => {
            let message = "this join token has expired; make a new one with `driftless cluster join-token`";
            return Ok(refuse(EnrollRefusal::Expired, message));
        }
        Enrolled::NameTaken(name) => return Ok(taken(&format!("a cluster named {name} is enrolled already"))),
        Enrolled::UidTaken(name) => return Ok(taken(&format!("this cluster is enrolled already, as {name}"))),
    };
    let Some(certified) = certify(shared, cluster, &asked).await? else {
        return Err(format!("cluster {name} was revoked while it enrolled"));
    };
    if new {
        let act = Act {
            at: clock::millis(),
            actor: format!("join token {}", request.token),
            action: "enrol".into(),
            target: format!("cluster {name}"),
            detail: format!("id {cluster}, kube-system {}", request.kube_uid),
        };
        shared.store.audit(act).await.map_err(|e| chain(&e))?;
    }
    Ok(EnrollAnswer::Granted(EnrollGrant {
        cluster,
        name,
        chain: certified.chain,
        authorities: vec![shared.keys.ca.der().to_vec()],
        trust: shared.trust.documents.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_try_ten_times_at_once_and_then_once_a_second() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let allowed = (0..20).filter(|_| attempts.allow(address, start)).count();
        assert_eq!(allowed, 10);
        assert!(attempts.allow("192.0.2.2".parse().unwrap(), start), "another address has its own");
        assert!(attempts.allow(address, start + Duration::from_secs(1)));
        assert!(!attempts.allow(address, start + Duration::from_secs(1)));
    }

    #[test]
    fn a_v6_network_is_one_address_and_memory_is_bounded() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let allowed = (0..100u16).filter(|n| attempts.allow(format!("2001:db8::{n:x}").parse().unwrap(), now)).count();
        assert_eq!(allowed, 10);
        for n in 0..(ADDRESSES as u32 + 500) {
            attempts.allow(IpAddr::V4(n.into()), now);
        }
        assert!(attempts.buckets.lock().unwrap().len() <= ADDRESSES);
    }
}
