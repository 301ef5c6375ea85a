//! The Driftless agent: verifies, applies, watches, heals, reports. See `ARCHITECTURE.md`.

pub mod agent;
pub mod ask;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod contests;
pub mod discover;
pub mod driver;
pub mod execute;
pub mod facts;
pub mod health;
pub mod identity;
pub mod inputs;
pub mod join;
pub mod kinds;
pub mod leader;
pub mod ledger;
pub mod link;
pub mod pauses;
pub mod records;
pub mod status;
