//! The engine's promises, on the real engine: the journal, the endpoints and the clock do as each test says.
//!
//! Nothing waits for time to pass. That something did NOT happen is read off a lane after the dispatcher
//! has gone through everything it was told, or off the diary, where commits and sendings stand in order.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod accepting;
mod alerting;
mod attempts;
mod backlog;
mod calls;
mod cancelling;
mod circuit;
mod clock;
mod disk;
mod governing;
mod ordering;
mod pausing;
mod reloading;
mod replaying;
mod retaining;
mod stopping;
mod world;
