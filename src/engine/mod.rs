//! The engine: takes events in, keeps deliveries going, does what operators ask.
//!
//! The parts by role: the scheduler (core) decides, the dispatcher drives, the committer writes, the
//! transport sends. The engine knows time only through [`Clock`] and the network only through
//! [`Transport`], so that a simulation can hand it both.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::core::attempt::Reply;
use crate::core::endpoint::Endpoint;
use crate::core::event::Event;
use crate::core::id::{DeliveryId, ReplayId};
use crate::core::timestamp::Timestamp;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Now, by the wall clock.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
        let now = std::time::SystemTime::now();
        Timestamp::ZERO.after(now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    }
}

/// One attempt to be made.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Where to, and how, by the config of now.
    pub endpoint: Arc<Endpoint>,
    /// What.
    pub event: Arc<Event>,
    /// Which delivery of the event.
    pub delivery: DeliveryId,
    /// Which try, from 1.
    pub attempt: u32,
    /// The replay that made the delivery, if one did.
    pub replay: Option<ReplayId>,
    /// Whether the delivery repeats an earlier one, by a replay or by hand.
    pub again: bool,
    /// Now: what the signature's timestamp says.
    pub now: Timestamp,
}

/// Sends one attempt and reports what came back. Never fails: a failure is a [`Reply`].
pub trait Transport: Send + Sync + 'static {
    /// Sends; the future ends within the endpoint's timeout.
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>>;
}
