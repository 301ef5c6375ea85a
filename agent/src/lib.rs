//! The Driftless agent: verifies, applies, watches, heals, reports.
pub mod cluster;
pub mod leader;
