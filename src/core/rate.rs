//! The rate: how many deliveries an endpoint takes in a span of time.

use std::time::Duration;

/// At most `count` attempts begin per `per`, and `burst` of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which span.
    pub per: Duration,
    /// How many at once after a silence.
    pub burst: u32,
}
