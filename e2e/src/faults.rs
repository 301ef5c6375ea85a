//! What goes wrong between an agent and its API server, made to happen; and what it came to.
//!
//! - [`proxy`]: an HTTPS proxy in front of a real API server that refuses, delays, cuts and loses by rule;
//! - [`rules`]: which requests, how often, and what happens to them;
//! - [`declared`]: what Git says at each step of a run; [`things`]: the kinds in it besides ConfigMaps;
//! - [`oracle`]: what really was done in the cluster, by the API server's audit log, and whether that is right;
//! - [`run`]: steps under faults and with kills, until everything is as declared again;
//! - [`cases`]: the table of `cargo faults`.

pub mod cases;
pub mod declared;
pub mod oracle;
pub mod proxy;
pub mod rules;
pub mod run;
pub mod things;
