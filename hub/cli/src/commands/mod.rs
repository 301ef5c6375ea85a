//! One file per question.

pub mod build;
