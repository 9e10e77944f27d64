//! backstop: a webhook reliability gateway with replay.

pub mod core;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
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
