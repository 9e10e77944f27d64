//! backstop: a webhook reliability gateway with replay.

pub mod core;

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod telemetry;
