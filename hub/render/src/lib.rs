//! Tree in, objects out.
pub mod kustomize;
pub mod tree;
