//! The Driftless hub: mirrors Git, renders every cluster, plans the rollout, signs, and streams to agents over QUIC.
//!
//! ```text
//! sources -> render -> rollout (plan, seal, sign, store) -> session -> agent
//!                         ^                                    |
//!                         +---------- reports (store) <--------+
//! ```
//!
//! Every arrow is level-triggered: a loop that missed a wake looks again by itself, and everything in memory is
//! recomputed after a restart. What must survive is in the store and in the key folder.
#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod config;
mod content;
mod fleet;
mod http;
mod hub;
mod init;
pub mod keys;
mod loops;
pub mod pki;
mod program;
mod rendered;
mod shared;
mod shelf;
mod view;

pub use config::Config;
pub use hub::{Hub, StartError, bump_epoch};
pub use init::{InitError, InitOptions, init};
pub use loops::sources::SourceSetupError;
pub use program::run;

/// An error with everything behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
