//! What the end-to-end tests, the sandbox and `cargo verify` stand on.
//!
//! - [`controlplane`]: real Kubernetes API servers as plain processes on loopback, several side by side;
//! - [`readymaker`]: plays scheduler and kubelet, so that workloads become Available;
//! - [`flux`]: plays Flux's kustomize-controller;
//! - [`git`]: a real Git server over HTTP, and repositories made of commits;
//! - [`webhook`]: a real admission webhook that does as a test says;
//! - [`tools`]: finds the programs all this needs, or builds them once;
//! - [`process`], [`ports`], [`certs`], [`wait`], [`usage`]: the small parts;
//! - [`world`]: a whole fleet on loopback, of the built programs;
//! - [`faults`]: what goes wrong between an agent and its API server, made to happen; `cargo faults`;
//! - [`agent_bench`]: `cargo bench-agent`;
//! - [`sandbox`], [`launch`]: `cargo sandbox`;
//! - [`schemas`]: what a real API server says of its kinds, for `driftless validate`;
//! - [`verify`]: the steps of `cargo verify`;
//! - `bench` (features `bench` and `bench-cold`): rendering against kustomize.
//!
//! Nothing here is shipped: it is the one crate that may see hub and agent at once.
//!
//! Without feature `full` only what `cargo verify` needs is compiled.

#[cfg(feature = "full")]
pub mod agent_bench;
#[cfg(feature = "bench-cold")]
pub mod bench;
#[cfg(feature = "full")]
pub mod certs;
#[cfg(feature = "full")]
pub mod controlplane;
#[cfg(feature = "full")]
pub mod faults;
#[cfg(feature = "full")]
pub mod flux;
#[cfg(feature = "full")]
pub mod git;
pub mod launch;
#[cfg(feature = "full")]
pub mod ports;
pub mod process;
#[cfg(feature = "full")]
pub mod readymaker;
#[cfg(feature = "full")]
pub mod sandbox;
#[cfg(feature = "full")]
pub mod schemas;
#[cfg(any(feature = "bench-cold", feature = "full"))]
mod table;
pub mod tools;
#[cfg(feature = "full")]
pub mod usage;
pub mod verify;
#[cfg(feature = "full")]
pub mod wait;
#[cfg(feature = "full")]
pub mod webhook;
#[cfg(feature = "full")]
pub mod world;
