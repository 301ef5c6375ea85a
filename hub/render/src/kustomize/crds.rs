//! `crds`: OpenAPI definitions whose extensions say which fields hold names, labels and annotations.

use super::accumulate::Result;
use super::config::Config;
use super::error::{BuildError, ErrorKind, Origin};
use driftless_yaml::Node;
use std::sync::Arc;

/// The configuration that a file of definitions amounts to.
pub(crate) fn config(path: &Arc<str>, node: &Node) -> Result<Config> {
    let _ = node;
    Err(BuildError::new(ErrorKind::Refused, Origin::new(path.clone(), 0), "crds are not rendered yet")
        .help("use configurations"))
}
