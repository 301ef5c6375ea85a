//! The loops: each is woken or looks by itself, does one thing at a time, and is owned by [`crate::hub::Hub`].

pub(crate) mod approvals;
pub(crate) mod render;
pub(crate) mod retention;
pub(crate) mod rollout;
pub(crate) mod sources;
