//! Agents: connections in, enrolment, a session per cluster, reports to the store.

pub(crate) mod accept;
pub(crate) mod ask;
pub(crate) mod certify;
pub(crate) mod enroll;
pub(crate) mod ingest;
pub(crate) mod registry;
pub(crate) mod session;
