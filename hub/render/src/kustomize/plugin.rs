//! Generators, transformers and validators given as objects of their own.

use super::accumulate::{Accumulated, Build, Result};
use super::decode::At;
use super::error::{BuildError, ErrorKind};
use super::file::File;

fn refuse(file: &File, what: &str, list: &[At<String>]) -> Result<()> {
    match list.first() {
        None => Ok(()),
        Some(item) => {
            Err(BuildError::new(ErrorKind::Refused, file.at(item.line), format!("{what} are not rendered yet")))
        }
    }
}

/// Runs `generators`.
pub(crate) fn generators(_: &mut Build<'_>, _: &str, file: &File, _: &mut Accumulated) -> Result<()> {
    refuse(file, "generators", &file.generators)
}

/// Runs `transformers`.
pub(crate) fn transformers(_: &mut Build<'_>, _: &str, file: &File, _: &mut Accumulated) -> Result<()> {
    refuse(file, "transformers", &file.transformers)
}

/// Runs `validators`.
pub(crate) fn validators(_: &mut Build<'_>, _: &str, file: &File, _: &mut Accumulated) -> Result<()> {
    refuse(file, "validators", &file.validators)
}
