//! Enrolment: what an agent without identity asks on `driftless-enroll/1`, and what it gets.

use crate::id::{ClusterId, ClusterName, TokenId};
use crate::signing::Signed;
use crate::token::TokenSecret;

/// One request on one connection.
#[derive(Clone, Debug)]
pub struct EnrollRequest {
    /// The newest wire version the agent speaks.
    pub wire_max: u8,
    /// Which token.
    pub token: TokenId,
    /// Its secret.
    pub secret: TokenSecret,
    /// PKCS#10 request, DER. The hub takes the public key of it and nothing else.
    pub csr: Vec<u8>,
    /// UID of the cluster's `kube-system` namespace.
    pub kube_uid: String,
    /// Version of the agent program.
    pub agent_version: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollAnswer {
    /// Enrolled.
    Granted(EnrollGrant),
    /// Not enrolled.
    Refused(EnrollRefused),
}

/// A new identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollGrant {
    /// The cluster's identity for its whole life.
    pub cluster: ClusterId,
    /// The name the operator gave it.
    pub name: ClusterName,
    /// DER certificates, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// DER certificates of the authorities the agent trusts from now on.
    pub authorities: Vec<Vec<u8>>,
    /// Every trust document from version 1 on, in order.
    pub trust: Vec<Signed>,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub refused the enrolment ({code}): {message}")]
pub struct EnrollRefused {
    /// Stable code.
    pub code: EnrollRefusal,
    /// For people: what to do.
    pub message: String,
}

/// Stable codes of [`EnrollRefused`]. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnrollRefusal {
    /// No such token, or a wrong secret: the answer is the same, so that ids cannot be probed.
    UnknownToken,
    /// Redeemed already.
    Used,
    /// Past its time.
    Expired,
    /// The cluster it names, or this `kube-system` UID, is enrolled already; `reset identity` is an admin's act.
    AlreadyEnrolled,
    /// Too many attempts; try again in a minute.
    RateLimited,
    /// The request itself is malformed.
    BadRequest,
    /// No wire version in common.
    Version,
    /// The hub cannot answer now; the token was not used up.
    Unavailable,
}

impl EnrollRefusal {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownToken => "UnknownToken",
            Self::Used => "Used",
            Self::Expired => "Expired",
            Self::AlreadyEnrolled => "AlreadyEnrolled",
            Self::RateLimited => "RateLimited",
            Self::BadRequest => "BadRequest",
            Self::Version => "Version",
            Self::Unavailable => "Unavailable",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable)
    }
}

impl std::fmt::Display for EnrollRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
