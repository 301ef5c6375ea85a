//! One file per question.

pub mod approve;
pub mod build;
pub mod check;
pub mod get;
pub mod history;
pub mod orphans;
pub mod plan;
pub mod shadow;
pub mod steer;
pub mod unit;
pub mod validate;
