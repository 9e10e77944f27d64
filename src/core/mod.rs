//! The pure core: what an event, a delivery and an attempt are, and every decision about them.
//!
//! No I/O, no clock, no async, no lock, no serde: time and randomness are arguments, decisions are
//! returned and never performed. Everything here can be run a million times a second from a seed.
//!
//! [`breaker`], [`window`] and [`rate`] decide about one endpoint each and are asked by the
//! [`scheduler`] before anything is sent. [`sign`] says to receivers who we are, [`verify`] asks it of senders.

pub mod address;
pub mod alert;
pub mod attempt;
pub mod breaker;
pub mod delivery;
pub mod dial;
pub mod egress;
pub mod endpoint;
pub mod event;
pub mod failure;
pub mod filter;
pub mod form;
pub mod id;
pub mod lifecycle;
pub mod mutant;
pub mod name;
pub mod network;
pub mod operation;
mod original;
pub mod rate;
pub mod refused;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod role;
pub mod route;
pub mod scheduler;
pub mod sealing;
pub mod secret;
pub mod sign;
pub mod source;
pub mod standing;
pub mod timestamp;
pub mod trace;
pub mod verify;
pub mod window;
