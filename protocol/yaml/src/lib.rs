//! YAML as kustomize reads and writes it.
pub mod node;
pub use node::{Entry, Kind, Map, Node, Scalar, Seq};
