//! YAML as kustomize reads and writes it.
//!
//! [`parse_all`] and [`parse_one`] read bytes into [`Node`]s in one of two [`Dialect`]s; [`split_documents`] cuts a
//! resource file as kustomize does. Scanning is libyaml's, the same code Go's YAML libraries come from, because no other
//! scanner agrees with it on every byte. [`to_string`] prints what kustomize prints, [`Node::write_json`] canonical JSON,
//! and [`from_json`] reads JSON.

#![deny(unsafe_op_in_unsafe_fn)]

mod base64;
mod build;
mod emit;
mod error;
mod held;
mod json;
mod key;
mod libyaml;
mod limits;
mod metadata;
pub mod node;
mod number;
mod read;
mod refold;
mod resolve;
mod split;
mod text;
mod time;
mod vocabulary;
mod written;

pub use emit::{to_stream, to_string};
pub use error::{Error, ErrorKind, WriteError};
pub use held::KeySet;
pub use json::from_json;
pub use key::Key;
pub use limits::Limits;
pub use node::{Entry, Kind, Map, Node, Scalar, Seq};
pub use number::Number;
pub use read::{Document, parse_all, parse_one};
pub use resolve::{Dialect, resolve};
pub use split::{Chunk, split_documents};
pub use written::rewrite;
