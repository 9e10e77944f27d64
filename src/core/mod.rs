//! The pure core: what an event, a delivery and an attempt are, and every decision about them.
//!
//! No I/O, no clock, no async, no lock, no serde: time and randomness are arguments, decisions are
//! returned and never performed. Everything here can be run a million times a second from a seed.
//!
//! Later pieces with their place kept: `breaker` (circuit per endpoint) and `window` (adaptive
//! concurrency) sit beside [`scheduler`] and are asked by it before a delivery is dispatched; key
//! lanes live inside it; `verify` (inbound signatures) sits beside [`sign`].

pub mod attempt;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod id;
pub mod name;
pub mod replay;
pub mod retry;
pub mod route;
pub mod scheduler;
pub mod sign;
pub mod source;
pub mod timestamp;
