//! End to end: the real binary in a folder of its own, real endpoints on loopback, real signals.
//!
//! Each test makes a [`place::Place`] (a temporary folder with a gateway.toml; every port is 0), runs
//! gateways and verbs in it, and looks at what came out: what the endpoints got, what was printed, how
//! the processes ended. Nothing waits for time to pass; what is waited for comes, or the test fails.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod calls;
mod described;
mod egress;
mod events;
mod exchange;
mod flask;
mod follow;
mod headers;
#[path = "../support/http.rs"]
mod http;
mod journal;
#[path = "../support/lines.rs"]
mod lines;
mod measured;
mod missed;
mod modes;
mod operations;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod parked;
#[path = "../support/place.rs"]
mod place;
mod refused;
mod reload;
mod restart;
mod retained;
mod room;
mod sealed;
mod secrets;
mod shutdown;
mod sink;
mod standing;
mod story;
mod terminal;
mod tls;
mod tokens;
mod traced;
mod verbs;
mod verified;
