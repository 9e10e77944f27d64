//! backstop: a webhook reliability gateway with replay.

#[cfg(feature = "server")]
pub mod config;
pub mod core;

#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod journal;
