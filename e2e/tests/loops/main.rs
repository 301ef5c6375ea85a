//! The whole loop on real parts: Git served over a socket, hub, agents, API servers, the CLI.
//!
//! One program, so that cargo runs several of them side by side: each waits most of its time. One alone:
//! `cargo test --workspace --test loops -- story`.
//!
//! | module | question |
//! |---|---|
//! | [`story`] | what is promised of one commit, from the push to the pods, on a canary and another cluster |
//! | [`enrol`] | who may join, and who may not |
//! | [`bad_input`] | is bad input told with its place, while the rest goes on |
//! | [`marks`] | what do control marks, ignored fields, CEL and validation do; is everyday noise left alone |
//! | [`late`] | are values that only the cluster has filled in there, followed, and never told |
//! | [`others`] | what of webhooks and narrow accounts |
//! | [`definitions`] | what of definitions that change under their objects |
//! | [`pause`] | what does a person with kubectl alone see and stop |
//! | [`ask`] | what do agents answer: why, orphans, dry runs |
//! | [`adopt`] | does coming from Flux, and going back, touch no object |
//! | [`restore`] | what do backups of objects, etcd and the hub's database do |
//! | [`faults`] | what if hub, agent, API server, Git host or repository fail |
//! | [`proxy`] | what if single requests fail, or the agent dies between them |
//! | [`autonomy`] | do pods of the agent follow each other, also without the hub |

mod adopt;
mod ask;
mod autonomy;
mod bad_input;
mod common;
mod definitions;
mod enrol;
mod faults;
mod late;
mod marks;
mod others;
mod pause;
mod proxy;
mod restore;
mod story;
