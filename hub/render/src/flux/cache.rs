//! Builds of units, made or remembered.

use std::sync::Arc;

use super::unit::{self, UnitInputs, UnitOutput};

/// Who builds units.
pub(crate) trait Builds: Sync {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput>;
}

/// Builds each unit anew.
pub(crate) struct Anew;

impl Builds for Anew {
    fn build(&self, inputs: &UnitInputs<'_>) -> Arc<UnitOutput> {
        Arc::new(unit::build(inputs))
    }
}
