//! backstop: a webhook reliability gateway with replay.

pub mod core;

#[cfg(feature = "server")]
pub mod deliver;
#[cfg(feature = "server")]
pub mod egress;
#[cfg(feature = "server")]
pub mod engine;
