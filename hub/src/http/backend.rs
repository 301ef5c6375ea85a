//! What the rest of the hub does for the API.

use std::fmt;
use std::future::Future;

use driftless_protocol::api::{
    ApproveRequest, AuditEntry, ClusterChange, ClusterDetail, ClusterRow, Done, FleetStatus, FreezeRequest,
    JoinTokenCreated, JoinTokenRequest, List, ReconcileRequest, SourceRow, SuspendRequest, UnitDetail, UnitRow, Why,
};
use driftless_protocol::id::{ClusterName, UnitId, UnitKind};

use super::HttpError;

/// What a request is answered.
pub type Answer<T> = Result<T, HttpError>;

/// Who asks, for the audit log: an operator's name (`alice`), or the user of the local socket (`uid:0`). A name never has
/// a colon, so the two cannot be mistaken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Actor(String);

impl Actor {
    /// An operator by the name in the certificate: 1 to 64 letters, digits and `-_.@`. `None` for any other text.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
        (!name.is_empty() && name.len() <= 64 && name.bytes().all(plain)).then(|| Self(name.to_owned()))
    }

    /// A user of this machine.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self(format!("uid:{uid}"))
    }

    /// As the audit log has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who may use the API.
    Admin(Actor),
    /// Somebody who may not: why, for people.
    Refused(String),
}

/// Which units; an empty query means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitQuery {
    /// In this cluster.
    pub cluster: Option<ClusterName>,
    /// In this namespace.
    pub namespace: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this kind.
    pub kind: Option<UnitKind>,
}

impl UnitQuery {
    /// Whether a unit of a cluster is meant.
    #[must_use]
    pub fn matches(&self, cluster: &ClusterName, unit: &UnitId) -> bool {
        self.cluster.as_ref().is_none_or(|c| c == cluster)
            && self.namespace.as_ref().is_none_or(|n| *n == unit.namespace)
            && self.name.as_ref().is_none_or(|n| *n == unit.name)
            && self.kind.is_none_or(|k| k == unit.kind)
    }
}

/// Which rows of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Rows after this number; 0: from the first.
    pub after: u64,
    /// At most so many, 1 to 1000.
    pub limit: u64,
}

/// One method per route of [`driftless_protocol::api`]. Requests are checked as far as they can be without the fleet.
///
/// Whatever takes an [`Actor`] changes something: it writes one row to the audit log, in the transaction of the change, and
/// runs to its end even when the caller is gone.
pub trait Backend: Send + Sync + 'static {
    /// The fleet at a glance.
    fn status(&self) -> impl Future<Output = Answer<FleetStatus>> + Send;
    /// Every cluster.
    fn clusters(&self) -> impl Future<Output = Answer<List<ClusterRow>>> + Send;
    /// One cluster.
    fn cluster(&self, name: ClusterName) -> impl Future<Output = Answer<ClusterDetail>> + Send;
    /// Changes a cluster.
    fn change_cluster(
        &self,
        actor: Actor,
        name: ClusterName,
        change: ClusterChange,
    ) -> impl Future<Output = Answer<ClusterRow>> + Send;
    /// Ends a cluster's membership for good.
    fn revoke_cluster(&self, actor: Actor, name: ClusterName) -> impl Future<Output = Answer<Done>> + Send;
    /// Makes a join token.
    fn create_join_token(
        &self,
        actor: Actor,
        request: JoinTokenRequest,
    ) -> impl Future<Output = Answer<JoinTokenCreated>> + Send;
    /// Every source.
    fn sources(&self) -> impl Future<Output = Answer<List<SourceRow>>> + Send;
    /// Units.
    fn units(&self, query: UnitQuery) -> impl Future<Output = Answer<List<UnitRow>>> + Send;
    /// One unit.
    fn unit(&self, cluster: ClusterName, unit: UnitId) -> impl Future<Output = Answer<UnitDetail>> + Send;
    /// Why a unit is as it is.
    fn why(&self, cluster: ClusterName, unit: UnitId) -> impl Future<Output = Answer<Why>> + Send;
    /// Looks again now.
    fn reconcile(&self, actor: Actor, request: ReconcileRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Leaves a unit alone.
    fn suspend(&self, actor: Actor, request: SuspendRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Takes a unit up again.
    fn resume(&self, actor: Actor, request: SuspendRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Lets no new content go out.
    fn freeze(&self, actor: Actor, request: FreezeRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Lets content go out again.
    fn unfreeze(&self, actor: Actor, request: FreezeRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Lets held deletes happen.
    fn approve(&self, actor: Actor, request: ApproveRequest) -> impl Future<Output = Answer<Done>> + Send;
    /// Rows of the audit log, oldest first.
    fn audit(&self, query: AuditQuery) -> impl Future<Output = Answer<List<AuditEntry>>> + Send;
}
