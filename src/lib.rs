//! backstop: a webhook reliability gateway with replay.
//!
//! ```text
//! 5  cli         backstop VERB
//! 4  gateway     the composition root: everything is put together here, and nowhere else
//! 3  ingest      the front door          listener  the accept loop
//!    deliver     the HTTP transport      admin     the operators' routes
//!    dashboard   the operators' page
//! 2  engine      committer, dispatcher, replayer: makes things happen
//!    egress      names to addresses
//! 1  journal     the durable store       config    gateway.toml
//!    problem     problem+json            telemetry logs and counts
//!    upload      a request on its way in
//! 0  core        what everything means, and every decision: pure
//! ```
//!
//! A part uses lower layers only (`tests/tidy.rs`). To read: [`core::delivery`] for the states,
//! [`core::scheduler`] for who goes next, [`journal`] for what durable means, [`engine`] for how they meet,
//! then [`gateway`].
//!
//! Invariants: no 2xx before the sync; no delivery moves along an arrow that is not drawn; nobody but the
//! committer commits; nothing reaches the scheduler before its commit returned.

pub mod core;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dashboard;
#[cfg(feature = "server")]
pub mod deliver;
#[cfg(feature = "server")]
pub mod egress;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod ingest;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod listener;
#[cfg(feature = "server")]
pub mod problem;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod upload;
