//! What to do in a cluster, decided without touching it.
//!
//! The [`Engine`](engine::Engine) holds what is wanted (a verified bundle), what is owned (the inventory) and what is
//! there (watch events, folded into small records), and answers with [`Step`](step::Step)s to carry out and
//! [`UnitReport`](driftless_protocol::report::UnitReport)s to send. It performs no I/O, asks no clock and draws no random
//! number: events, answers and the time are arguments. Whole objects are looked at while they pass and never kept.
//!
//! ```text
//! set_inventory, set_bundle, set_discovery, observe ──> Engine ──> poll: steps ──> (the caller carries them out)
//!                                                  ^                                          │
//!                                                  └──────────── done(step, outcome) <────────┘
//! ```
//!
//! | module | question it answers |
//! |---|---|
//! | [`added`] | what did others add to an object where it matters for security |
//! | [`adopt`] | which objects that only Flux's inventory has become ours with their unit |
//! | [`ownership`] | which fields does which manager own, and what identifies a list item |
//! | [`fill`] | what does an object become with the values only the cluster has |
//! | [`flux`] | what does a live Kustomization of Flux say |
//! | [`fold`] | what is worth remembering of a live object |
//! | [`drift`] | which fields differ from what was applied, and who says so |
//! | [`contest`] | does another manager keep changing it back, and how is that damped |
//! | [`ignore`] | which fields are left to others, and what is sent in their place |
//! | [`health`] | is the object doing what it is for |
//! | [`order`] | what comes before what |
//! | [`inventory`] | what do we own, and how is that written down |
//! | [`pause`] | what does a `Pause` in the cluster hold back |
//! | [`prune`] | may this object be deleted, and if not, why not |
//! | [`retry`] | a request failed: when again |
//! | [`refusal`] | who refused, and over what |
//! | [`why`] | why is it not healthy, down to its pods |
//! | [`orphan`] | is an object that nobody declares an orphan, and whose does it seem to be |
//! | [`dryrun`] | what does an API server's answer to a dry run say |
//! | [`plan`], [`engine`] | what happens next |
#![warn(missing_docs)]

pub mod added;
pub mod adopt;
pub mod contest;
pub mod drift;
pub mod dryrun;
pub mod edit;
pub mod engine;
pub mod fill;
pub mod flux;
pub mod fold;
pub mod health;
pub mod ignore;
pub mod input;
pub mod inventory;
pub mod mark;
pub mod order;
pub mod orphan;
pub mod ownership;
pub mod pause;
pub mod plan;
pub mod prune;
pub mod refusal;
pub mod retry;
pub mod rules;
pub mod step;
mod still;
pub mod time;
pub mod walk;
pub mod why;
