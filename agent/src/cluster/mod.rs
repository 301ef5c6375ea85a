//! The cluster as the agent sees it: requests, discovery, watches.

pub mod api;
pub mod discovery;
pub mod text;
pub mod watch;
