//! Replacements: the value of one field copied into others.

use super::accumulate::Result;
use super::error::{BuildError, ErrorKind};
use super::file::File;
use super::load::Files;
use super::res::Objects;

/// Runs the `replacements` of a file.
pub(crate) fn transform(_: &Files<'_>, _: &str, file: &File, _: &mut Objects) -> Result<()> {
    match file.replacements.first() {
        None => Ok(()),
        Some(r) => Err(BuildError::new(ErrorKind::Refused, file.at(r.line), "replacements are not rendered yet")),
    }
}
